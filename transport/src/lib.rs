//! TCP and UDP for the router itself: sockets for tasks, without I/O or clock of its own.
//!
//! A [`Transport`] is one CPU's: the flows that hash to the CPU, and listeners of its own. Its driver, a task, hands it the
//! packets for the router ([`Transport::input`]), lets it send ([`Transport::poll`]) and sleeps until
//! [`Transport::deadline`] or [`Transport::wanted`]. On the host, tests drive it over links of their own.
//!
//! TCP's states, retransmission and congestion control are `smoltcp`'s, one instance a connection; finding the connection,
//! the handshake before there is one (`half_open.rs`, `cookie.rs`) and UDP are done here. Task context.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod connection;
mod cookie;
mod echo;
mod error;
mod half_open;
mod icmp;
mod listener;
mod ports;
mod stream;
#[cfg(test)]
mod tests;
mod time_wait;
mod transport;
mod udp;
mod wire;

pub use connection::{MAX_RECEIVE, MIN_BUFFER};
pub use echo::{EchoSocket, Heard};
pub use error::{BindError, Error};
pub use listener::TcpListener;
pub use ports::{Access, Ports, Protocol};
pub use stream::{ReadHalf, TcpStream, WriteHalf};
pub use transport::{Arrival, Counters, Path, Router, Settings, Sink, Sum, Transport};
pub use udp::{Received, UdpSocket};
pub use wire::{Envelope, packet};
