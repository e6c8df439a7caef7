//! What can go wrong with a socket, in the words of the operator.

use core::fmt;
use embedded_io_async::ErrorKind;

/// Why a connection, or a datagram, did not work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The peer has no such port: a reset in answer to the SYN, or ICMP port unreachable.
    Refused,
    /// The peer reset the connection.
    Reset,
    /// This side gave the connection up.
    Aborted,
    /// The stream is not connected, or this side has closed it.
    Closed,
    /// The peer was silent for too long.
    TimedOut,
    /// ICMP says that the host or network cannot be reached, or that it is forbidden.
    Unreachable,
    /// There is no route, or no address of the router to send from.
    NoRoute,
    /// No connection is free, or no memory for one.
    NoRoom,
    /// The datagram is longer than the interface sends, or than UDP can be.
    TooLong,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::Refused => "connection refused: nobody listens on that port",
            Error::Reset => "connection reset by the peer",
            Error::Aborted => "connection aborted",
            Error::Closed => "not connected",
            Error::TimedOut => "timed out",
            Error::Unreachable => "host unreachable",
            Error::NoRoute => "no route to that address",
            Error::NoRoom => "too many connections",
            Error::TooLong => "datagram too long",
        })
    }
}

impl core::error::Error for Error {}

impl embedded_io_async::Error for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Error::Refused => ErrorKind::ConnectionRefused,
            Error::Reset => ErrorKind::ConnectionReset,
            Error::Aborted => ErrorKind::ConnectionAborted,
            Error::Closed => ErrorKind::NotConnected,
            Error::TimedOut => ErrorKind::TimedOut,
            Error::Unreachable | Error::NoRoute => ErrorKind::AddrNotAvailable,
            Error::NoRoom => ErrorKind::OutOfMemory,
            Error::TooLong => ErrorKind::InvalidInput,
        }
    }
}

/// Why a port could not be bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BindError {
    /// Another socket of this CPU has the port.
    InUse(u16),
    /// 0 is no port to listen on.
    Zero,
    /// No port is free.
    NoPort,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::InUse(port) => write!(f, "port {port} is in use"),
            BindError::Zero => write!(f, "0 is no port to listen on"),
            BindError::NoPort => write!(f, "no port is free"),
        }
    }
}

impl core::error::Error for BindError {}
