//! Echo requests and what comes back (RFC 792, RFC 4443 §4): one socket a CPU, of use on the first, where answers come.

use crate::icmp::quotation;
use crate::transport::{Arrival, Path, Transport};
use crate::wire::{Envelope, ICMP, ICMPV6, Ip, packet};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::task::{Context, Poll, Waker};
use weir_netif::IfIndex;

/// Messages that wait to be read; of more the oldest are lost.
const WAITING: usize = 64;
/// Bytes of an ICMP header.
const HEADER: usize = 8;

/// A message about an echo request: the reply, or an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heard {
    /// Who says so.
    pub from: IpAddr,
    /// The request's sequence number.
    pub sequence: u16,
    /// Type, code and, behind the checksum, the header's second word.
    pub message: (u8, u8, u32),
    /// TTL or hop limit it came with.
    pub hops: u8,
    /// Bytes of the message.
    pub len: usize,
    /// When it came.
    pub at_ns: u64,
}

impl Heard {
    /// Whether it is the reply.
    pub fn is_reply(&self) -> bool {
        self.message.0 == if self.from.is_ipv4() { 0 } else { 129 }
    }

    /// A message, and the identifier of the request that it is about.
    fn parse(arrival: &Arrival<'_>, ip: &Ip<'_>, at_ns: u64) -> Option<(u16, Self)> {
        let &[kind, code, _, _, a, b, c, d, ref quoted @ ..] = ip.upper else { return None };
        let v4 = ip.protocol == ICMP;
        let &hops = arrival.packet.get(if v4 { 8 } else { 7 })?;
        let (id, sequence) = match (v4, kind) {
            (true, 0) | (false, 129) => ([a, b], [c, d]),
            (true, 3 | 11 | 12) | (false, 1..=4) => {
                let (_, _, protocol, request) = quotation(quoted)?;
                let &[of, _, _, _, a, b, c, d, ..] = request else { return None };
                let is_ours = (protocol, of) == if v4 { (ICMP, 8) } else { (ICMPV6, 128) };
                is_ours.then_some(([a, b], [c, d]))?
            }
            _ => return None,
        };
        let message = (kind, code, u32::from_be_bytes([a, b, c, d]));
        let (from, sequence, len) = (ip.source, u16::from_be_bytes(sequence), ip.upper.len());
        Some((u16::from_be_bytes(id), Self { from, sequence, message, hops, len, at_ns }))
    }
}

/// What the transport knows of the socket.
pub(crate) struct Echo {
    id: u16,
    heard: VecDeque<Heard>,
    reader: Option<Waker>,
}

impl Echo {
    /// Whether it was its.
    pub(crate) fn input(&mut self, arrival: &Arrival<'_>, ip: &Ip<'_>, now_ns: u64) -> bool {
        let Some((_, heard)) = Heard::parse(arrival, ip, now_ns).filter(|(id, _)| *id == self.id) else {
            return false;
        };
        if self.heard.len() >= WAITING {
            self.heard.pop_front();
        }
        self.heard.push_back(heard);
        self.reader.take().into_iter().for_each(Waker::wake);
        true
    }
}

/// The right to send echo requests with an identifier of one's own.
pub struct EchoSocket {
    transport: Transport,
    id: u16,
}

impl Transport {
    /// A socket whose requests have this identifier. `None`: somebody else of this CPU has one.
    pub fn echo(&self, id: u16) -> Option<EchoSocket> {
        let inner = &mut *self.0.borrow_mut();
        if inner.echo.is_some() {
            return None;
        }
        inner.echo = Some(Echo { id, heard: VecDeque::new(), reader: None });
        inner.ports.set_echo(Some(id));
        Some(EchoSocket { transport: self.clone(), id })
    }
}

impl EchoSocket {
    /// The way to `to`, which if it is link-local or a group is on `link`.
    pub fn path(&self, to: IpAddr, link: Option<IfIndex>) -> Option<Path> {
        self.transport.0.borrow().router.path(to, link)
    }

    /// Sends a request with `size` bytes of data; `envelope` says from whom, to whom and how far. When it was sent: now.
    pub fn send(&self, envelope: Envelope, link: IfIndex, sequence: u16, size: usize) -> u64 {
        let (kind, protocol) = if envelope.destination.is_ipv4() { (8, ICMP) } else { (128, ICMPV6) };
        let ([a, b], [c, d]) = (self.id.to_be_bytes(), sequence.to_be_bytes());
        let mut message = Vec::with_capacity(HEADER + size);
        message.extend_from_slice(&[kind, 0, 0, 0, a, b, c, d]);
        message.extend((0..size).map(|at| at as u8));
        if let Some(packet) = packet(&Envelope { protocol, id: sequence, ..envelope }, &message) {
            self.transport.send_packet(packet, link);
        }
        self.transport.0.borrow().router.now_ns()
    }

    /// What came; for one task.
    pub fn poll_heard(&self, cx: &Context<'_>) -> Poll<Heard> {
        let inner = &mut *self.transport.0.borrow_mut();
        let Some(echo) = inner.echo.as_mut() else { return Poll::Pending };
        match echo.heard.pop_front() {
            Some(heard) => Poll::Ready(heard),
            None => {
                echo.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for EchoSocket {
    fn drop(&mut self) {
        let inner = &mut *self.transport.0.borrow_mut();
        inner.echo = None;
        inner.ports.set_echo(None);
    }
}

#[cfg(test)]
mod tests;
