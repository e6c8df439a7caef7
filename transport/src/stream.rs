//! Connections, as tasks read and write them.

use crate::connection::Connection;
use crate::error::Error;
use crate::transport::{Id, Inner, Transport};
use core::future::{Future, poll_fn};
use core::net::SocketAddr;
use core::task::Poll;
use core::time::Duration;
use embedded_io_async::{ErrorType, Read, Write};
use smoltcp::socket::tcp::{RecvError, State};
use weir_netif::IfIndex;

/// A TCP connection. Dropping it closes it: what was written is still sent, what was not read makes it a reset.
///
/// A future that is dropped has read or written nothing.
pub struct TcpStream {
    transport: Transport,
    id: Id,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

/// The half of a [`TcpStream`] that is read.
pub struct ReadHalf<'s>(&'s TcpStream);

/// The half that is written.
pub struct WriteHalf<'s>(&'s TcpStream);

impl Transport {
    /// Connects to `remote` from an address of the interface that leads there, and a port whose packets come to this CPU.
    /// Dropping the future gives it up.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect(&self, remote: SocketAddr, timeout: Option<Duration>) -> Result<TcpStream, Error> {
        let id = self.0.borrow_mut().connect(remote)?;
        let stream = TcpStream::new(self.clone(), id);
        let by_ns = stream.by_ns(timeout);
        poll_fn(|cx| {
            stream.with(|inner| {
                let now_ns = inner.router.now_ns();
                let Some(connection) = inner.connection(id) else { return Poll::Ready(Err(Error::Closed)) };
                match connection.state() {
                    State::SynSent | State::SynReceived => {}
                    State::Closed => return Poll::Ready(Err(connection.error.unwrap_or(Error::Refused))),
                    _ => return Poll::Ready(Ok(())),
                }
                if by_ns.is_some_and(|by_ns| by_ns <= now_ns) {
                    return Poll::Ready(Err(Error::TimedOut));
                }
                wait_to_write(connection, by_ns, cx.waker());
                inner.touch(id);
                Poll::Pending
            })
        })
        .await?;
        Ok(stream)
    }
}

fn wait_to_read(connection: &mut Connection, by_ns: Option<u64>, waker: &core::task::Waker) {
    connection.socket().register_recv_waker(waker);
    connection.read_by_ns = by_ns;
    connection.reader = by_ns.map(|_| waker.clone());
}

fn wait_to_write(connection: &mut Connection, by_ns: Option<u64>, waker: &core::task::Waker) {
    connection.socket().register_send_waker(waker);
    connection.write_by_ns = by_ns;
    connection.writer = by_ns.map(|_| waker.clone());
}

impl TcpStream {
    pub(crate) fn new(transport: Transport, id: Id) -> Self {
        Self { transport, id, read_timeout: None, write_timeout: None }
    }

    /// Reads that wait longer end with [`Error::TimedOut`].
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.read_timeout = timeout;
    }

    /// Writes that wait longer end with [`Error::TimedOut`].
    pub fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.write_timeout = timeout;
    }

    /// The peer. A link-local address has the interface's index, counted from 1, as its scope.
    pub fn peer(&self) -> SocketAddr {
        self.with(|inner| inner.connection(self.id).map(|connection| connection.flow.remote))
            .unwrap_or(NOWHERE)
    }

    /// The address of the router that the peer knows.
    pub fn local(&self) -> SocketAddr {
        self.with(|inner| inner.connection(self.id).map(|connection| connection.flow.local))
            .unwrap_or(NOWHERE)
    }

    /// The interface by which the connection came in, or went out.
    pub fn interface(&self) -> IfIndex {
        self.with(|inner| inner.connection(self.id).map(|connection| connection.link())).unwrap_or_default()
    }

    /// Both directions, for tasks that do both at once.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        (ReadHalf(self), WriteHalf(self))
    }

    /// Ends the connection at once, with a reset.
    pub fn abort(self) {
        self.with(|inner| {
            if let Some(connection) = inner.connection(self.id) {
                connection.abort();
            }
            inner.touch(self.id);
        });
    }

    /// Says that nothing more will be written (FIN) and waits until the peer has all that was.
    ///
    /// # Errors
    /// The connection broke before, or the write timeout passed.
    pub async fn close(&mut self) -> Result<(), Error> {
        self.with(|inner| {
            if let Some(connection) = inner.connection(self.id) {
                connection.socket().close();
            }
            inner.touch(self.id);
        });
        let by_ns = self.by_ns(self.write_timeout);
        poll_fn(|cx| {
            self.with(|inner| {
                let now_ns = inner.router.now_ns();
                let Some(connection) = inner.connection(self.id) else {
                    return Poll::Ready(Err(Error::Closed));
                };
                match connection.state() {
                    State::FinWait1 | State::Closing | State::LastAck => {}
                    _ => return Poll::Ready(connection.error.map_or(Ok(()), Err)),
                }
                if by_ns.is_some_and(|by_ns| by_ns <= now_ns) {
                    return Poll::Ready(Err(Error::TimedOut));
                }
                wait_to_write(connection, by_ns, cx.waker());
                inner.touch(self.id);
                Poll::Pending
            })
        })
        .await
    }

    #[cfg(test)]
    pub(crate) fn id(&self) -> Id {
        self.id
    }

    /// What it stands for; dropping it closes nothing any more.
    pub(crate) fn into_id(mut self) -> Id {
        core::mem::replace(&mut self.id, Id::NOBODY)
    }

    fn receive<'f>(&'f self, into: &'f mut [u8]) -> impl Future<Output = Result<usize, Error>> + 'f {
        let by_ns = self.by_ns(self.read_timeout);
        poll_fn(move |cx| {
            self.with(|inner| {
                let now_ns = inner.router.now_ns();
                let Some(connection) = inner.connection(self.id) else {
                    return Poll::Ready(Err(Error::Closed));
                };
                match connection.socket().recv_slice(into) {
                    Ok(0) if !into.is_empty() => {}
                    Ok(len) => {
                        // The window has grown.
                        inner.touch(self.id);
                        return Poll::Ready(Ok(len));
                    }
                    Err(RecvError::Finished) => return Poll::Ready(Ok(0)),
                    Err(RecvError::InvalidState) => return Poll::Ready(connection.error.map_or(Ok(0), Err)),
                }
                if by_ns.is_some_and(|by_ns| by_ns <= now_ns) {
                    return Poll::Ready(Err(Error::TimedOut));
                }
                wait_to_read(connection, by_ns, cx.waker());
                if by_ns.is_some() {
                    inner.touch(self.id);
                }
                Poll::Pending
            })
        })
    }

    fn transmit<'f>(&'f self, bytes: &'f [u8]) -> impl Future<Output = Result<usize, Error>> + 'f {
        let by_ns = self.by_ns(self.write_timeout);
        poll_fn(move |cx| {
            self.with(|inner| {
                let now_ns = inner.router.now_ns();
                let Some(connection) = inner.connection(self.id) else {
                    return Poll::Ready(Err(Error::Closed));
                };
                match connection.socket().send_slice(bytes) {
                    Ok(0) if !bytes.is_empty() => {}
                    Ok(len) => {
                        inner.touch(self.id);
                        return Poll::Ready(Ok(len));
                    }
                    Err(_) => return Poll::Ready(Err(connection.error.unwrap_or(Error::Closed))),
                }
                if by_ns.is_some_and(|by_ns| by_ns <= now_ns) {
                    return Poll::Ready(Err(Error::TimedOut));
                }
                wait_to_write(connection, by_ns, cx.waker());
                inner.touch(self.id);
                Poll::Pending
            })
        })
    }

    fn by_ns(&self, timeout: Option<Duration>) -> Option<u64> {
        let timeout = u64::try_from(timeout?.as_nanos()).unwrap_or(u64::MAX);
        Some(self.with(|inner| inner.router.now_ns()).saturating_add(timeout))
    }

    fn with<R>(&self, work: impl FnOnce(&mut Inner) -> R) -> R {
        work(&mut self.transport.0.borrow_mut())
    }
}

/// Of a connection that is no more: never seen, as streams keep theirs.
const NOWHERE: SocketAddr = SocketAddr::V4(core::net::SocketAddrV4::new(core::net::Ipv4Addr::UNSPECIFIED, 0));

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.with(|inner| inner.leave(self.id));
    }
}

impl ErrorType for TcpStream {
    type Error = Error;
}

impl ErrorType for ReadHalf<'_> {
    type Error = Error;
}

impl ErrorType for WriteHalf<'_> {
    type Error = Error;
}

impl Read for TcpStream {
    /// What has come, at least one byte; 0 when the peer has closed its side.
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        self.receive(into).await
    }
}

impl Read for ReadHalf<'_> {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        self.0.receive(into).await
    }
}

impl Write for TcpStream {
    /// Takes what fits into the send buffer, at least one byte.
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.transmit(bytes).await
    }

    /// Nothing is held back: what was written is sent as windows allow.
    async fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

impl Write for WriteHalf<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.0.transmit(bytes).await
    }

    async fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
