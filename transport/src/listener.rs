//! Sockets that take connections.

use crate::error::BindError;
use crate::ports::{Access, Protocol};
use crate::stream::TcpStream;
use crate::transport::{Id, Inner, Transport};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::future::{Future, poll_fn};
use core::task::{Poll, Waker};
use core::time::Duration;

/// Connections that wait to be accepted.
const BACKLOG: usize = 64;
/// How long a new connection may take until there is something to accept it for.
pub(crate) const FIRST: Duration = Duration::from_secs(30);

/// Whether the bytes that have come are something to accept a connection for.
pub(crate) type Filter = fn(&[u8]) -> bool;

/// What the transport knows of a listener.
pub(crate) struct Listening {
    pub(crate) port: u16,
    access: Access,
    /// Connections are parked until it says yes.
    pub(crate) filter: Option<Filter>,
    queue: VecDeque<Id>,
    waiting: Vec<Waker>,
}

impl Listening {
    /// What is parked is bounded by the connections there can be.
    pub(crate) fn is_full(&self) -> bool {
        self.filter.is_none() && self.queue.len() >= BACKLOG
    }

    /// Takes back the last of those that wait to be accepted and are `like` this.
    pub(crate) fn take_last(&mut self, like: impl FnMut(&Id) -> bool) -> Option<Id> {
        let at = self.queue.iter().rposition(like)?;
        self.queue.remove(at)
    }

    pub(crate) fn push(&mut self, id: Id) {
        self.queue.push_back(id);
        // All: the first may have stopped waiting.
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

/// A TCP port of this CPU that takes connections. Several tasks may wait at it; dropping it resets those not taken yet.
pub struct TcpListener {
    transport: Transport,
    port: u16,
}

impl Transport {
    /// Listens on `port`, on all addresses of the router, for what comes in by the interfaces that `access` names. Each
    /// CPU has listeners of its own: a service listens on all.
    ///
    /// # Errors
    /// [`BindError`] if the port is 0 or has a listener on this CPU.
    pub fn listen(&self, port: u16, access: Access) -> Result<TcpListener, BindError> {
        self.listen_with(port, access, None)
    }

    /// The same, but a connection is only accepted when `filter` says of the bytes that have come that there is something to
    /// do, or no more can come: until then it costs its buffers, and no task (as `accept_filter(9)` of FreeBSD).
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    pub fn listen_for(
        &self,
        port: u16,
        access: Access,
        filter: fn(&[u8]) -> bool,
    ) -> Result<TcpListener, BindError> {
        self.listen_with(port, access, Some(filter))
    }

    fn listen_with(
        &self,
        port: u16,
        access: Access,
        filter: Option<Filter>,
    ) -> Result<TcpListener, BindError> {
        let inner = &mut *self.0.borrow_mut();
        if port == 0 {
            return Err(BindError::Zero);
        }
        if inner.ports.open(Protocol::Tcp, port, Access::Management) {
            return Err(BindError::InUse(port));
        }
        inner.ports.insert(Protocol::Tcp, port, access);
        inner.listeners.push(Listening { port, access, filter, queue: VecDeque::new(), waiting: Vec::new() });
        Ok(TcpListener { transport: self.clone(), port })
    }
}

impl TcpListener {
    /// The next connection. Dropping the future loses none.
    pub fn accept(&self) -> impl Future<Output = TcpStream> + '_ {
        poll_fn(|cx| {
            let inner = &mut *self.transport.0.borrow_mut();
            let Inner { listeners, .. } = inner;
            let Some(listening) = listeners.iter_mut().find(|listening| listening.port == self.port) else {
                return Poll::Pending;
            };
            if let Some(id) = listening.queue.pop_front() {
                return Poll::Ready(TcpStream::new(self.transport.clone(), id));
            }
            if !listening.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                listening.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
    }

    /// Takes a connection back, to accept it again when there is something to do; ends it if that takes longer than `limit`.
    pub fn park(&self, stream: TcpStream, limit: Duration) {
        let id = stream.into_id();
        self.transport.0.borrow_mut().park(id, self.port, limit);
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        let inner = &mut *self.transport.0.borrow_mut();
        let Some(at) = inner.listeners.iter().position(|listening| listening.port == self.port) else {
            return;
        };
        let listening = inner.listeners.swap_remove(at);
        inner.ports.remove(Protocol::Tcp, self.port, listening.access);
        for id in listening.queue.into_iter().chain(inner.parked_at(self.port)) {
            if let Some(connection) = inner.connection(id) {
                connection.abort();
            }
            inner.leave(id);
        }
    }
}
