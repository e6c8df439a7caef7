//! UDP sockets (RFC 768): a queue each way, which tasks fill and empty.

use crate::error::{BindError, Error};
use crate::ports::{Access, Protocol};
use crate::transport::{Inner, Path, Sink, Transport};
use crate::wire::{self, Flow, Ip, UDP, scoped, write_ip};
use alloc::vec;
use core::future::{Future, poll_fn};
use core::hash::{Hash as _, Hasher as _};
use core::net::{IpAddr, SocketAddr};
use core::task::{Poll, Waker};
use core::time::Duration;
use siphasher::sip::SipHasher24;
use smoltcp::storage::{PacketBuffer, PacketMetadata};
use smoltcp::wire::UdpPacket;
use weir_netif::IfIndex;

/// Datagrams in each queue, and bytes.
const DATAGRAMS: usize = 32;
const BYTES: usize = 16 << 10;
/// Bytes of a UDP header.
const HEADER: usize = 8;

/// Where a datagram came from, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    /// Its sender. A link-local address has the interface's index, counted from 1, as its scope.
    pub remote: SocketAddr,
    /// The address it was sent to: one of the router's, a broadcast or a group.
    pub local: IpAddr,
    /// Where it came in by.
    pub interface: IfIndex,
}

/// What is to be sent.
#[derive(Clone, Copy, Debug)]
struct Outgoing {
    flow: Flow,
    link: IfIndex,
}

/// What the transport knows of a socket.
pub(crate) struct Socket {
    port: u16,
    access: Access,
    /// Takes datagrams from here alone.
    peer: Option<SocketAddr>,
    received: PacketBuffer<'static, Received>,
    outgoing: PacketBuffer<'static, Outgoing>,
    error: Option<Error>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    pub(crate) by_ns: Option<u64>,
    /// Its task has left it; what it wrote is still sent.
    left: bool,
}

impl Socket {
    /// `None`: not its. Whether there was room.
    pub(crate) fn input(&mut self, ip: &Ip<'_>, link: IfIndex) -> Option<bool> {
        let udp = UdpPacket::new_checked(ip.upper).ok();
        let udp = udp.filter(|udp| udp.dst_port() == self.port && !self.left)?;
        let remote = scoped(ip.source, udp.src_port(), link);
        if self.peer.is_some_and(|peer| peer != remote) {
            return None;
        }
        let received = Received { remote, local: ip.destination, interface: link };
        let payload = udp.payload();
        let Ok(room) = self.received.enqueue(payload.len(), received) else { return Some(false) };
        room.copy_from_slice(payload);
        self.reader.take().into_iter().for_each(Waker::wake);
        Some(true)
    }

    /// Whether nobody has it, and all was sent.
    pub(crate) fn is_over(&self) -> bool {
        self.left && self.outgoing.is_empty()
    }

    pub(crate) fn icmp(&mut self, flow: &Flow, error: Error) {
        if flow.local.port() == self.port && self.peer == Some(flow.remote) {
            self.error = Some(error);
            self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
        }
    }

    /// Sends what waits; whether all went.
    pub(crate) fn output(&mut self, scratch: &mut [u8], now_ns: u64, sink: &mut dyn Sink) -> bool {
        if self.by_ns.is_some_and(|by_ns| by_ns <= now_ns) {
            self.by_ns = None;
            self.reader.take().into_iter().for_each(Waker::wake);
        }
        while let Ok((&Outgoing { flow, link }, payload)) = self.outgoing.peek() {
            let len = HEADER + payload.len();
            if sink.room() < wire::header_len(flow.local.ip()) + len {
                return false;
            }
            if let Some(packet) = datagram(scratch, &flow, payload) {
                sink.send(packet, link);
            }
            let _ = self.outgoing.dequeue();
            self.writer.take().into_iter().for_each(Waker::wake);
        }
        true
    }
}

fn datagram<'s>(scratch: &'s mut [u8], flow: &Flow, payload: &[u8]) -> Option<&'s [u8]> {
    let len = HEADER + payload.len();
    let header = write_ip(scratch, flow.local.ip(), flow.remote.ip(), UDP, len)?;
    let packet = scratch.get_mut(..header + len)?;
    let mut udp = UdpPacket::new_unchecked(packet.get_mut(header..)?);
    udp.set_src_port(flow.local.port());
    udp.set_dst_port(flow.remote.port());
    udp.set_len(u16::try_from(len).ok()?);
    udp.set_checksum(0);
    udp.payload_mut().copy_from_slice(payload);
    udp.fill_checksum(&flow.local.ip().into(), &flow.remote.ip().into());
    Some(packet)
}

/// A UDP port of this CPU.
///
/// Unicast datagrams come to the CPU that their flow hashes to, those to broadcasts and groups to CPU 0: a service has a
/// socket on each CPU; a client connects, which picks a port whose answers come here. A future that is dropped loses no
/// datagram.
pub struct UdpSocket {
    transport: Transport,
    number: usize,
    read_timeout: Option<Duration>,
}

impl Transport {
    /// Takes datagrams to `port`, on all addresses of the router, from the interfaces that `access` names.
    ///
    /// # Errors
    /// [`BindError`] if the port is 0 or another socket of this CPU has it.
    pub fn bind(&self, port: u16, access: Access) -> Result<UdpSocket, BindError> {
        let inner = &mut *self.0.borrow_mut();
        if port == 0 {
            return Err(BindError::Zero);
        }
        if inner.ports.open(Protocol::Udp, port, Access::Management) {
            return Err(BindError::InUse(port));
        }
        Ok(self.open(inner, port, access, None))
    }

    /// Whether there is a way to `address`.
    pub fn leads_to(&self, address: IpAddr) -> bool {
        self.0.borrow().router.path(address, None).is_some()
    }

    /// A socket from a free port that talks with `remote` alone.
    ///
    /// # Errors
    /// [`Error::NoRoute`], or [`Error::NoRoom`] without a free port.
    pub fn connect_udp(&self, remote: SocketAddr) -> Result<UdpSocket, Error> {
        let inner = &mut *self.0.borrow_mut();
        let path = inner.router.path(remote.ip(), wire::scope(&remote)).ok_or(Error::NoRoute)?;
        // Not the port after the last one: whoever guesses it can answer in the server's place (RFC 5452 §4.5).
        let mut hash = SipHasher24::new_with_keys(inner.settings.key[0], inner.settings.key[1]);
        (inner.next_port, inner.router.now_ns()).hash(&mut hash);
        inner.next_port = hash.finish() as u16;
        let port = inner.ephemeral(path.source, &remote, path.interface).ok_or(Error::NoRoom)?;
        let peer = scoped(remote.ip(), remote.port(), path.interface);
        Ok(self.open(inner, port, Access::Any, Some(peer)))
    }

    fn open(&self, inner: &mut Inner, port: u16, access: Access, peer: Option<SocketAddr>) -> UdpSocket {
        inner.ports.insert(Protocol::Udp, port, access);
        let socket = Socket {
            port,
            access,
            peer,
            received: PacketBuffer::new(vec![PacketMetadata::EMPTY; DATAGRAMS], vec![0; BYTES]),
            outgoing: PacketBuffer::new(vec![PacketMetadata::EMPTY; DATAGRAMS], vec![0; BYTES]),
            error: None,
            reader: None,
            writer: None,
            by_ns: None,
            left: false,
        };
        let free = inner.udp.iter().position(Option::is_none).unwrap_or(inner.udp.len());
        match inner.udp.get_mut(free) {
            Some(place) => *place = Some(socket),
            None => inner.udp.push(Some(socket)),
        }
        UdpSocket { transport: self.clone(), number: free, read_timeout: None }
    }
}

impl UdpSocket {
    /// The longest datagram [`send_to`](Self::send_to) takes, in bytes; what an interface cannot send whole goes in
    /// fragments.
    pub const MAX: usize = 8192;

    /// Waiting longer for a datagram ends with [`Error::TimedOut`].
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.read_timeout = timeout;
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.with(|_, socket| socket.port).unwrap_or_default()
    }

    /// The next datagram: its length, as far as `into` has room for it, and whose it is.
    ///
    /// # Errors
    /// [`Error::TimedOut`]; of a connected socket what ICMP said.
    pub fn recv_from<'f>(
        &'f mut self,
        into: &'f mut [u8],
    ) -> impl Future<Output = Result<(usize, Received), Error>> + 'f {
        let timeout = self.read_timeout.map(|timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        let now_ns = self.transport.0.borrow().router.now_ns();
        let by_ns = timeout.map(|timeout| now_ns.saturating_add(timeout));
        poll_fn(move |cx| {
            let polled = self.with(|now_ns, socket| {
                if let Ok((received, payload)) = socket.received.dequeue() {
                    let len = payload.len().min(into.len());
                    into.iter_mut().zip(payload).for_each(|(into, byte)| *into = *byte);
                    return Poll::Ready(Ok((len, received)));
                }
                if let Some(error) = socket.error.take() {
                    return Poll::Ready(Err(error));
                }
                if by_ns.is_some_and(|by_ns| by_ns <= now_ns) {
                    return Poll::Ready(Err(Error::TimedOut));
                }
                socket.by_ns = by_ns;
                socket.reader = Some(cx.waker().clone());
                Poll::Pending
            });
            if by_ns.is_some() && matches!(polled, Some(Poll::Pending)) {
                self.transport.0.borrow_mut().want();
            }
            polled.unwrap_or(Poll::Ready(Err(Error::Closed)))
        })
    }

    /// Sends a datagram, from an address of the interface that leads to `remote`.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::NoRoute`]; of a connected socket what ICMP said.
    pub async fn send_to(&mut self, payload: &[u8], remote: SocketAddr) -> Result<(), Error> {
        let path = self.transport.0.borrow().router.path(remote.ip(), wire::scope(&remote));
        let Path { source, interface, .. } = path.ok_or(Error::NoRoute)?;
        self.send_from(payload, source, remote, interface).await
    }

    /// Sends a datagram to where another came from, from the address that one was sent to.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to).
    pub async fn reply(&mut self, payload: &[u8], to: &Received) -> Result<(), Error> {
        let path = self.transport.0.borrow().router.path(to.remote.ip(), Some(to.interface));
        let group = match to.local {
            IpAddr::V4(address) => address.is_broadcast() || address.is_multicast(),
            IpAddr::V6(address) => address.is_multicast(),
        };
        let source = if group { path.ok_or(Error::NoRoute)?.source } else { to.local };
        self.send_from(payload, source, to.remote, to.interface).await
    }

    /// Sends a datagram from any address, also none yet, to a host, a group or a broadcast. Link-local destinations,
    /// groups and broadcasts are on `interface`.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to).
    pub async fn send_from(
        &mut self,
        payload: &[u8],
        local: IpAddr,
        remote: SocketAddr,
        interface: IfIndex,
    ) -> Result<(), Error> {
        if payload.len() > Self::MAX {
            return Err(Error::TooLong);
        }
        poll_fn(|cx| {
            let polled = self.with(|_, socket| {
                if let Some(error) = socket.error.take() {
                    return Poll::Ready(Err(error));
                }
                let flow = Flow { local: scoped(local, socket.port, interface), remote };
                match socket.outgoing.enqueue(payload.len(), Outgoing { flow, link: interface }) {
                    Ok(room) => {
                        room.copy_from_slice(payload);
                        Poll::Ready(Ok(()))
                    }
                    Err(_) => {
                        socket.writer = Some(cx.waker().clone());
                        Poll::Pending
                    }
                }
            });
            self.transport.0.borrow_mut().want();
            polled.unwrap_or(Poll::Ready(Err(Error::Closed)))
        })
        .await
    }

    fn with<R>(&self, work: impl FnOnce(u64, &mut Socket) -> R) -> Option<R> {
        let inner = &mut *self.transport.0.borrow_mut();
        let now_ns = inner.router.now_ns();
        inner.udp.get_mut(self.number).and_then(Option::as_mut).map(|socket| work(now_ns, socket))
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        let inner = &mut *self.transport.0.borrow_mut();
        if let Some(socket) = inner.udp.get_mut(self.number).and_then(Option::as_mut) {
            socket.left = true;
            inner.ports.remove(Protocol::Udp, socket.port, socket.access);
            inner.want();
        }
    }
}
