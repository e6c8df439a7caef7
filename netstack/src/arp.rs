//! ARP for IPv4 over Ethernet (RFC 826), with the rules of RFC 5227 for probes and announcements.

use crate::address::{Kind, kind4};
use crate::ethernet;
use crate::neighbor::{Event, Evidence, Override};
use crate::snapshot::{Claim, Interface, Route, Snapshot};
use core::net::Ipv4Addr;
use core::time::Duration;
use weir_netif::Drop;

/// Bytes of a message.
pub const MESSAGE: usize = 28;
/// Bytes of a frame with a message.
pub const FRAME: usize = ethernet::HEADER + MESSAGE;

/// Between two announcements in defence of an address (RFC 5227 §1.1).
pub const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// Ethernet, IPv4, and their address lengths.
const FORMAT: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];

/// What a message wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has its address.
    Reply,
}

/// An ARP message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// What it wants.
    pub operation: Operation,
    /// Station address of the sender.
    pub sender_mac: [u8; 6],
    /// The sender; unspecified in a probe (RFC 5227 §1.1).
    pub sender: Ipv4Addr,
    /// Station address of the target; zero in requests.
    pub target_mac: [u8; 6],
    /// The target.
    pub target: Ipv4Addr,
}

impl Message {
    /// Reads a message from what follows the Ethernet header; padding may follow.
    ///
    /// # Errors
    /// [`Drop::ArpMalformed`], also for a sender that is no single station.
    pub fn parse(bytes: &[u8]) -> Result<Self, Drop> {
        let message = bytes.first_chunk::<MESSAGE>().ok_or(Drop::ArpMalformed)?;
        let (&[format @ .., o0, o1], sender, target) = split(message).ok_or(Drop::ArpMalformed)?;
        let operation = match [o0, o1] {
            [0, 1] => Operation::Request,
            [0, 2] => Operation::Reply,
            _ => return Err(Drop::ArpMalformed),
        };
        let (sender_mac, sender) = station(sender);
        let (target_mac, target) = station(target);
        let [first, ..] = sender_mac;
        if format != FORMAT || first & 1 != 0 || sender_mac == [0; 6] {
            return Err(Drop::ArpMalformed);
        }
        Ok(Self { operation, sender_mac, sender, target_mac, target })
    }

    /// The message as a frame for `to`.
    pub fn frame(&self, to: [u8; 6]) -> [u8; FRAME] {
        let operation = match self.operation {
            Operation::Request => [0, 1],
            Operation::Reply => [0, 2],
        };
        let mut frame = [0; FRAME];
        let parts: [&[u8]; 7] = [
            &ethernet::header(to, self.sender_mac, ethernet::ARP),
            &FORMAT,
            &operation,
            &self.sender_mac,
            &self.sender.octets(),
            &self.target_mac,
            &self.target.octets(),
        ];
        for (byte, from) in frame.iter_mut().zip(parts.into_iter().flatten()) {
            *byte = *from;
        }
        frame
    }
}

/// Format and operation, sender, target.
fn split(message: &[u8; MESSAGE]) -> Option<(&[u8; 8], &[u8; 10], &[u8; 10])> {
    let (head, rest) = message.split_first_chunk()?;
    let (sender, target) = rest.split_first_chunk()?;
    Some((head, sender, target.first_chunk()?))
}

/// Station and protocol address.
fn station(bytes: &[u8; 10]) -> ([u8; 6], Ipv4Addr) {
    let &[m0, m1, m2, m3, m4, m5, a, b, c, d] = bytes;
    ([m0, m1, m2, m3, m4, m5], Ipv4Addr::new(a, b, c, d))
}

/// What to do about a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It asks for an address of ours: send this to its sender. Also note the event, if any.
    Reply(Message, Option<Event<Ipv4Addr>>),
    /// An answer to us: note it.
    Learn(Event<Ipv4Addr>),
    /// Not for us, but it may correct what is known (RFC 826, "Packet Reception": the merge).
    Overheard(Event<Ipv4Addr>),
    /// The sender uses this address of ours (RFC 5227 §2.4): defend it by the announcement.
    Conflict(Message),
    /// The sender has, or is about to have, an address that is to become ours (RFC 5227 §2.1.1).
    Contested(Ipv4Addr),
    /// Neither ours nor of use.
    Drop(Drop),
}

/// Judges a message that came in by `interface`.
pub fn input(message: &Message, interface: &Interface, snapshot: &Snapshot) -> Verdict {
    let Message { operation, sender_mac, sender, target, .. } = *message;
    let ours = interface.owns4(target);
    let reply = Message {
        operation: Operation::Reply,
        sender_mac: interface.mac,
        sender: target,
        target_mac: sender_mac,
        target: sender,
    };
    let tentative = |address: Ipv4Addr| interface.claimed(address.into()) == Some(Claim::Tentative);
    if let Some(contested) = [sender, target]
        .into_iter()
        .find(|&address| tentative(address) && (sender.is_unspecified() || address == sender))
    {
        return Verdict::Contested(contested);
    }
    if sender.is_unspecified() {
        // A probe: its sender has no address yet, so there is nothing to learn (RFC 5227 §2.1.1).
        let asks = ours && operation == Operation::Request;
        return if asks { Verdict::Reply(reply, None) } else { Verdict::Drop(Drop::ArpNotForUs) };
    }
    if interface.owns4(sender) {
        return Verdict::Conflict(announcement(interface.mac, sender));
    }
    if !on_link(sender, interface, snapshot) {
        // Who asks from another network is answered, as Linux and BSD do, but not remembered.
        let asks = ours && operation == Operation::Request && is_host(sender) && !snapshot.owns4(sender);
        return if asks { Verdict::Reply(reply, None) } else { Verdict::Drop(Drop::ArpNotForUs) };
    }
    let event =
        |evidence| Event { interface: interface.index, address: sender, mac: Some(sender_mac), evidence };
    match operation {
        Operation::Request if ours => Verdict::Reply(reply, Some(event(Evidence::Asked))),
        Operation::Reply if ours => Verdict::Learn(event(Evidence::Answered(Override::Yes))),
        _ => Verdict::Overheard(event(Evidence::Announced(Override::Yes))),
    }
}

/// Whether a host on `interface`'s link can have `address`.
fn on_link(address: Ipv4Addr, interface: &Interface, snapshot: &Snapshot) -> bool {
    match snapshot.fib4().lookup(address) {
        Some(Route::Connected { interface: index }) => *index == interface.index,
        // A route through a gateway on the same link may cover part of the network.
        Some(Route::Gateway { .. } | Route::Multipath { .. }) => {
            interface.addresses4.iter().any(|own| own.network.contains(address))
        }
        _ => false,
    }
}

fn is_host(address: Ipv4Addr) -> bool {
    matches!(kind4(address), Kind::Unicast | Kind::LinkLocal)
}

/// Asks for `target`: all, or the one station that had it.
pub fn request(interface: &Interface, target: Ipv4Addr, to: Option<[u8; 6]>) -> [u8; FRAME] {
    let message = Message {
        operation: Operation::Request,
        sender_mac: interface.mac,
        sender: interface.source4(target).unwrap_or(Ipv4Addr::UNSPECIFIED),
        target_mac: [0; 6],
        target,
    };
    message.frame(to.unwrap_or(ethernet::BROADCAST))
}

/// Says to all that `address` is ours (RFC 5227 §2.3).
pub fn announcement(mac: [u8; 6], address: Ipv4Addr) -> Message {
    Message {
        operation: Operation::Request,
        sender_mac: mac,
        sender: address,
        target_mac: [0; 6],
        target: address,
    }
}
