//! A batch's way through the stages. Two take it whole: classification, which reads every header once, and the look-up of
//! all destinations. Then each packet, in the order they came, gets what its next hop has ready made; one that needs more than
//! that takes the long way, [`Stack::receive`], which is the one that decides everything.

use super::*;
use crate::{address, checksum};
use alloc::boxed::Box;
use weir_netif::BATCH;
use weir_sync::wide::{self, Work};

/// What classification found out about a packet.
#[derive(Clone, Copy, Debug)]
enum Class {
    /// Its route alone decides, and its frame can leave as it is: one segment, no padding, nothing owed.
    Plain4,
    /// As `Plain4`.
    Plain6,
    /// Its route alone decides.
    Routed4,
    /// As `Routed4`.
    Routed6,
    /// An IPv4 packet with something about it; looked up too.
    Long4,
    /// As `Long4`.
    Long6,
    /// No IP, or no whole header.
    Other,
    /// It ends here.
    Dead,
}

/// What is known of a batch, packet by packet; of no meaning beyond its length.
#[derive(Debug)]
pub(crate) struct Found {
    classes: [Class; BATCH],
    /// Why those end that do.
    reasons: [Drop; BATCH],
    /// Bytes of frames that are one segment and have nothing about them; 0 for the others.
    lens: [u16; BATCH],
    /// Destinations to look up, where the class says so.
    to4: [Ipv4Addr; BATCH],
    to6: [Ipv6Addr; BATCH],
    /// Numbers of their next hops.
    hops4: [u32; BATCH],
    hops6: [u32; BATCH],
}

impl Found {
    pub(crate) fn new() -> Box<Self> {
        Box::new(Self {
            classes: [Class::Other; BATCH],
            reasons: [Drop::Consumed; BATCH],
            lens: [0; BATCH],
            to4: [Ipv4Addr::UNSPECIFIED; BATCH],
            to6: [Ipv6Addr::UNSPECIFIED; BATCH],
            hops4: [0; BATCH],
            hops6: [0; BATCH],
        })
    }
}

/// Which tables the destinations of a batch are in.
#[derive(Clone, Copy, Default)]
struct Families {
    v4: bool,
    v6: bool,
}

/// A batch's way through all stages.
struct Passage<'w, 't> {
    stack: &'w mut Stack,
    turn: &'w mut Turn<'t>,
    port: &'t Interface,
    batch: &'w mut Batch,
}

impl Work for Passage<'_, '_> {
    type Result = ();
    #[inline(always)]
    fn run(self) {
        self.stack.pass(self.turn, self.port, self.batch);
    }
}

impl Stack {
    /// Takes what a device received, and leaves `batch` empty. All that goes out has been handed to
    /// [`Turn::egress`] when it returns. Ask for [`deadline`](Self::deadline) afterwards.
    ///
    /// The adjacencies it sends by have the numbers of one snapshot's next hops: when [`Turn::snapshot`] is another one than
    /// before, [`reconfigured`](Self::reconfigured) comes first.
    #[inline(never)]
    pub fn input(&mut self, turn: &mut Turn<'_>, received: IfIndex, batch: &mut Batch) {
        let snapshot = turn.snapshot;
        let port = match snapshot.interface(received) {
            Some(port) if port.state == State::Up => port,
            Some(_) => return refuse(turn, received, batch, Drop::InterfaceDown),
            None => return refuse(turn, received, batch, Drop::InterfaceUnconfigured),
        };
        wide::run(Passage { stack: self, turn, port, batch });
    }

    /// All stages, one after the other.
    #[inline(always)]
    fn pass<'s>(&mut self, turn: &mut Turn<'s>, port: &'s Interface, batch: &mut Batch) {
        // It is there: nobody else takes it.
        let Some(mut found) = self.found.take() else { return };
        // Taken from the end, so that it goes in order.
        batch.reverse();
        let (families, snapshot) = (self.classify(turn, port, batch, &mut found), turn.snapshot);
        if families.v4 {
            let to = found.to4.get(..batch.len()).unwrap_or(&[]);
            snapshot.fib4().lookup_batch(to, &mut found.hops4);
        }
        if families.v6 {
            let to = found.to6.get(..batch.len()).unwrap_or(&[]);
            snapshot.fib6().lookup_batch(to, &mut found.hops6);
        }
        self.forward(turn, batch, &found);
        // There is none: nothing on a packet's way may so much as look like giving memory back.
        core::mem::forget(self.found.replace(found));
        self.lanes.flush(turn);
    }

    /// Reads all headers, and counts what `port` received.
    #[inline(always)]
    fn classify<'s>(
        &mut self,
        turn: &Turn<'s>,
        port: &'s Interface,
        batch: &mut Batch,
        found: &mut Found,
    ) -> Families {
        self.tagged = (0, 0);
        let (packets, bytes) = (batch.len() as u64, look(port.index, batch, found));
        let (mut families, unchecked) = (Families::default(), port.reverse_path == ReversePath::Off);
        let (large4, large6) = (turn.snapshot.fib4().is_large(), turn.snapshot.fib6().is_large());
        let station = if unchecked { ethernet::station(port.mac) } else { u64::MAX };
        let Found { classes, reasons, lens, to4, to6, .. } = found;
        for (n, ((((packet, class), len), to4), to6)) in
            batch.iter_mut().zip(classes).zip(lens).zip(to4).zip(to6).enumerate()
        {
            let data = packet.data();
            if let Some(frame) = data.first_chunk::<{ size_of::<Frame4>() }>() {
                let kind = le16(frame, 12);
                if kind == IPV4 && is_plain4(frame, *len, station, turn.snapshot) {
                    families.v4 = true;
                    *to4 = address4(frame, 30);
                    if large4 {
                        turn.snapshot.fib4().prefetch(*to4);
                    }
                    *class = Class::Plain4;
                    continue;
                }
                if kind == IPV6
                    && let Some(frame) = data.first_chunk()
                    && is_plain6(frame, *len, station, turn.snapshot)
                {
                    families.v6 = true;
                    *to6 = address6(frame, 38);
                    if large6 {
                        turn.snapshot.fib6().prefetch(*to6);
                    }
                    *class = Class::Plain6;
                    continue;
                }
            }
            if let Some(why) = reasons.get_mut(n) {
                *class = self.class(turn, port, packet, (to4, to6, why), &mut families);
            }
        }
        let (tagged, tagged_bytes) = self.tagged;
        port.counters.received(turn.cx.cpu(), packets - tagged, bytes - tagged_bytes);
        families
    }

    /// The class of a packet that is not the most common.
    #[inline(never)]
    fn class<'s>(
        &mut self,
        turn: &Turn<'s>,
        port: &'s Interface,
        packet: &mut Packet,
        (to4, to6, why): (&mut Ipv4Addr, &mut Ipv6Addr, &mut Drop),
        families: &mut Families,
    ) -> Class {
        let mut interface = port;
        if ethernet::is_tagged(packet) {
            match self.untag(turn, port, packet) {
                Ok(tagged) => interface = tagged,
                Err(reason) => {
                    *why = reason;
                    return Class::Dead;
                }
            }
        }
        let Some((frame, network)) = packet.data().split_first_chunk::<HEADER>() else {
            return Class::Other;
        };
        let available = packet.len() - HEADER;
        let plain = ethernet::is_for(frame, ethernet::station(interface.mac))
            && interface.reverse_path == ReversePath::Off;
        let whole = packet.meta().is_plain() && !packet.is_chain();
        match ethernet::kind(frame) {
            Some(ethernet::IPV4) => {
                let Some(header) = network.first_chunk() else { return Class::Other };
                families.v4 = true;
                *to4 = ipv4::destination(header);
                if !(plain && ipv4::is_plain(header, available, turn.snapshot)) {
                    Class::Long4
                } else if whole && usize::from(ipv4::total_len(header)) == available {
                    Class::Plain4
                } else {
                    Class::Routed4
                }
            }
            Some(ethernet::IPV6) => {
                let Some(header) = network.first_chunk() else { return Class::Other };
                families.v6 = true;
                *to6 = ipv6::destination(header);
                if !(plain && ipv6::is_plain(header, available, turn.snapshot)) {
                    Class::Long6
                } else if whole && ipv6::total_len(header) == available {
                    Class::Plain6
                } else {
                    Class::Routed6
                }
            }
            _ => Class::Other,
        }
    }

    /// Sends all on their way, in the order they came.
    #[inline(always)]
    fn forward(&mut self, turn: &mut Turn<'_>, batch: &mut Batch, found: &Found) {
        while let Some(packet) = batch.pop() {
            let n = batch.len();
            match (found.classes.get(n), found.hops4.get(n), found.hops6.get(n)) {
                (Some(Class::Plain4), Some(hop), _) => self.plain4(turn, packet, *hop),
                (Some(Class::Plain6), _, Some(hop)) => self.plain6(turn, packet, *hop),
                _ => self.others(turn, packet, n, found),
            }
        }
    }

    /// Sends packet `n` on its way, whatever it is.
    #[inline(never)]
    fn others(&mut self, turn: &mut Turn<'_>, packet: Packet, n: usize, found: &Found) {
        let Found { classes, reasons, hops4, hops6, .. } = found;
        let hop = |hops: &[u32; BATCH]| hops.get(n).copied().unwrap_or(0);
        match classes.get(n).copied().unwrap_or(Class::Other) {
            Class::Plain4 | Class::Routed4 => self.routed4(turn, packet, hop(hops4)),
            Class::Plain6 | Class::Routed6 => self.routed6(turn, packet, hop(hops6)),
            Class::Long4 => self.receive(turn, packet, hop(hops4)),
            Class::Long6 => self.receive(turn, packet, hop(hops6)),
            Class::Other => self.receive(turn, packet, 0),
            Class::Dead => discard(turn, packet, reasons.get(n).copied().unwrap_or(Drop::Consumed)),
        }
    }

    /// Forwards a frame that can leave as it is, if its next hop has all it needs.
    #[inline(always)]
    fn plain4(&mut self, turn: &mut Turn<'_>, mut packet: Packet, hop: u32) {
        if let Some((stations, header)) = headers(packet.data_mut())
            && let Some(line) = self.neighbors4.adjacency(hop, ipv4::destination(header))
            && ipv4::total_len(header) <= line.untagged
        {
            ipv4::decrement_ttl(header);
            *stations = line.stations;
            let (out, len) = (line.out, packet.data().len());
            self.lanes.whole(turn, out, packet, len);
        } else {
            self.routed4(turn, packet, hop);
        }
    }

    /// Forwards a packet that its route alone decides on, if its next hop has what it needs.
    #[inline(never)]
    fn routed4(&mut self, turn: &mut Turn<'_>, mut packet: Packet, hop: u32) {
        // Of several next hops one.
        let hop = turn.snapshot.settle4(hop, || hashed(&mut packet));
        if let Some((stations, header)) = headers(packet.data_mut())
            && let Some(line) = self.neighbors4.adjacency(hop, ipv4::destination(header))
            && ipv4::total_len(header) <= line.mtu
            && let Some(out) = turn.snapshot.interface(line.out)
        {
            ipv4::decrement_ttl(header);
            *stations = line.stations;
            // Ethernet pads short frames.
            let len = HEADER + usize::from(ipv4::total_len(header));
            packet.truncate(turn.pool, len);
            self.lanes.send(turn, out, packet);
        } else {
            self.receive(turn, packet, hop);
        }
    }

    /// As [`plain4`](Self::plain4).
    #[inline(always)]
    fn plain6(&mut self, turn: &mut Turn<'_>, mut packet: Packet, hop: u32) {
        if let Some((stations, header)) = headers(packet.data_mut())
            && let Some(line) = self.neighbors6.adjacency(hop, ipv6::destination(header))
            && ipv6::total_len(header) <= line.untagged.into()
        {
            ipv6::decrement_hop_limit(header);
            *stations = line.stations;
            let (out, len) = (line.out, packet.data().len());
            self.lanes.whole(turn, out, packet, len);
        } else {
            self.routed6(turn, packet, hop);
        }
    }

    /// As [`routed4`](Self::routed4).
    #[inline(never)]
    fn routed6(&mut self, turn: &mut Turn<'_>, mut packet: Packet, hop: u32) {
        // Of several next hops one.
        let hop = turn.snapshot.settle6(hop, || hashed(&mut packet));
        if let Some((stations, header)) = headers(packet.data_mut())
            && let Some(line) = self.neighbors6.adjacency(hop, ipv6::destination(header))
            && ipv6::total_len(header) <= line.mtu.into()
            && let Some(out) = turn.snapshot.interface(line.out)
        {
            ipv6::decrement_hop_limit(header);
            *stations = line.stations;
            // Ethernet pads short frames.
            let len = HEADER + ipv6::total_len(header);
            packet.truncate(turn.pool, len);
            self.lanes.send(turn, out, packet);
        } else {
            self.receive(turn, packet, hop);
        }
    }
}

/// The number of the next hop of a packet that no batch was looked up with; 0 if it is no IP packet.
pub(super) fn hop(snapshot: &Snapshot, packet: &Packet) -> u32 {
    let header = packet.data().get(HEADER..).unwrap_or(&[]);
    match (ethernet::kind(packet.data()), header.first_chunk(), header.first_chunk()) {
        (Some(ethernet::IPV4), Some(header), _) => snapshot.fib4().lookup_number(ipv4::destination(header)),
        (Some(ethernet::IPV6), _, Some(header)) => snapshot.fib6().lookup_number(ipv6::destination(header)),
        _ => 0,
    }
}

/// Looks at the bookkeeping of all packets, and asks for their headers. Returns how many bytes they are.
#[inline(always)]
fn look(port: IfIndex, batch: &mut Batch, found: &mut Found) -> u64 {
    let mut bytes = 0;
    for (packet, len) in batch.iter_mut().zip(&mut found.lens) {
        packet.prefetch_data();
        let meta = packet.meta();
        let simple = meta.is_plain() & (meta.vlan == 0) & !packet.is_chain();
        if meta.received != port {
            packet.meta_mut().received = port;
        }
        bytes += packet.len() as u64;
        *len = if simple { packet.data().len() as u16 } else { 0 };
    }
    bytes
}

/// Ends the way of a whole batch.
#[cold]
fn refuse(turn: &mut Turn<'_>, received: IfIndex, batch: &mut Batch, reason: Drop) {
    let bytes = batch.iter().map(|packet| packet.len() as u64).sum();
    turn.snapshot.counters(received).received(turn.cx.cpu(), batch.len() as u64, bytes);
    for mut packet in batch.drain(..) {
        packet.meta_mut().received = received;
        discard(turn, packet, reason);
    }
}

/// The stations and the header behind the EtherType of a frame.
#[inline(always)]
fn headers<const N: usize>(frame: &mut [u8]) -> Option<(&mut [u8; 12], &mut [u8; N])> {
    let (ethernet, rest) = frame.split_first_chunk_mut::<HEADER>()?;
    Some((ethernet.first_chunk_mut()?, rest.first_chunk_mut()?))
}

/// Frames with a whole IPv4 header without options, and with a whole IPv6 header.
type Frame4 = [u8; HEADER + ipv4::HEADER];
type Frame6 = [u8; HEADER + ipv6::HEADER];

/// EtherTypes, as numbers of which the lowest byte comes first.
const IPV4: u16 = ethernet::IPV4.swap_bytes();
const IPV6: u16 = ethernet::IPV6.swap_bytes();

/// Whether a frame of `len` bytes, for `station`, is an IPv4 packet whose route alone decides on it and that has no padding.
/// Without a branch: what must be alike is compared by exclusive or, and all differences are gathered in one number.
#[inline(always)]
fn is_plain4(frame: &Frame4, len: u16, station: u64, snapshot: &Snapshot) -> bool {
    let mut differs = not_for(frame, station);
    differs |= u64::from(byte(frame, 14) ^ 0x45);
    differs |= (HEADER as u64 + u64::from(be16(frame, 16))) ^ u64::from(len);
    // No hop is left after this one.
    differs |= u64::from(byte(frame, 22) <= 1);
    differs |= u64::from(address::special4(byte(frame, 26)) | address::special4(byte(frame, 30)));
    let sum = checksum::sum20(le64(frame, 14), le64(frame, 22), le32(frame, 30));
    differs |= u64::from(sum ^ 0xffff);
    differs |= u64::from(snapshot.may_own4(address4(frame, 26)));
    differs == 0
}

/// As [`is_plain4`], of IPv6. One without a payload may be a jumbogram (RFC 2675), and is not plain.
#[inline(always)]
fn is_plain6(frame: &Frame6, len: u16, station: u64, snapshot: &Snapshot) -> bool {
    let mut differs = not_for(frame, station);
    differs |= u64::from(byte(frame, 14) >> 4 ^ 6);
    let payload_len = u64::from(be16(frame, 18));
    differs |= (frame.len() as u64 + payload_len) ^ u64::from(len);
    differs |= u64::from(payload_len == 0);
    differs |= u64::from(byte(frame, 21) <= 1);
    differs |= u64::from(address::special6(byte(frame, 22)) | address::special6(byte(frame, 38)));
    differs |= u64::from(snapshot.may_own6(address6(frame, 22)));
    differs == 0
}

/// Not 0 if [`ethernet::input`] would not let a frame pass as one to the station itself.
#[inline(always)]
fn not_for(frame: &[u8], station: u64) -> u64 {
    let from = le64(frame, 6);
    (le64(frame, 0) << 16 ^ station) | from & 1 | u64::from(from << 16 == station)
}

// Of frames whose length is known when they are compiled: nothing is checked then.

#[inline(always)]
fn le64(frame: &[u8], at: usize) -> u64 {
    frame.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[inline(always)]
fn le32(frame: &[u8], at: usize) -> u32 {
    frame.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[inline(always)]
fn le16(frame: &[u8], at: usize) -> u16 {
    be16(frame, at).swap_bytes()
}

#[inline(always)]
fn be16(frame: &[u8], at: usize) -> u16 {
    frame.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u16::from_be_bytes(*bytes))
}

#[inline(always)]
fn byte(frame: &[u8], at: usize) -> u8 {
    frame.get(at).copied().unwrap_or(0)
}

#[inline(always)]
fn address4(frame: &Frame4, at: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from_be(le32(frame, at)))
}

#[inline(always)]
fn address6(frame: &Frame6, at: usize) -> Ipv6Addr {
    let (high, low) = (le64(frame, at).swap_bytes(), le64(frame, at + 8).swap_bytes());
    Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low))
}
