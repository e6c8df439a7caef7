//! A batch's way through the stages. Two take it whole: classification, which reads every header once, and the look-up of
//! all destinations. Then each packet, in the order they came, gets what its next hop has ready made; one that needs more than
//! that takes the long way, [`Stack::receive`], which is the one that decides everything.

use super::*;
use crate::address::{self, Address, Filter};
use crate::checksum;
use crate::fib::Fib;
use crate::neighbor::Lines;
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
    /// Classes of those that are not plain.
    classes: [Class; BATCH],
    /// Why those end that do.
    reasons: [Drop; BATCH],
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
            to4: [Ipv4Addr::UNSPECIFIED; BATCH],
            to6: [Ipv6Addr::UNSPECIFIED; BATCH],
            hops4: [0; BATCH],
            hops6: [0; BATCH],
        })
    }
}

/// Which packets of a batch are of the most common classes: a bit for each.
#[derive(Clone, Copy, Default)]
struct Plain {
    v4: u64,
    v6: u64,
}

const _: () = assert!(BATCH <= u64::BITS as usize);

/// Which tables the destinations of a batch are in.
#[derive(Clone, Copy, Default)]
struct Families {
    v4: bool,
    v6: bool,
}

/// The first stage, for packets of the most common class of a family: as many from the first on as are of it.
struct Sort<'w, A: Address> {
    packets: &'w mut [Packet],
    /// Takes their destinations.
    to: &'w mut [A],
    received: IfIndex,
    stations: Stations,
    own: Filter<'w>,
    /// If its memory is to be asked for.
    fib: Option<&'w Fib<A, Route<A>>>,
}

/// How many there are, and their bytes.
type Sorted = (usize, u64);

impl Work for Sort<'_, Ipv4Addr> {
    type Result = Sorted;
    #[inline(always)]
    fn run(self) -> Sorted {
        let (stations, own) = (self.stations, self.own);
        self.each(|frame, len| {
            is_plain4(frame, len, stations, own).then(|| Ipv4Addr::from_bits(u32::from_be(le32(frame, 30))))
        })
    }
}

impl Work for Sort<'_, Ipv6Addr> {
    type Result = Sorted;
    #[inline(always)]
    fn run(self) -> Sorted {
        let (stations, own) = (self.stations, self.own);
        self.each(|frame, len| is_plain6(frame, len, stations, own).then(|| address6(frame, 38)))
    }
}

impl<A: Address> Sort<'_, A> {
    #[inline(always)]
    fn each<const N: usize>(self, plain: impl Fn(&[u8; N], usize) -> Option<A>) -> Sorted {
        let (mut count, mut bytes) = (0, 0);
        for (packet, to) in self.packets.iter_mut().zip(self.to) {
            packet.meta_mut().received = self.received;
            let (meta, data) = (packet.meta(), packet.data());
            if packet.is_chain() || !meta.is_plain() || meta.vlan != 0 {
                break;
            }
            let Some(destination) = data.first_chunk().and_then(|frame| plain(frame, data.len())) else {
                break;
            };
            *to = destination;
            if let Some(fib) = self.fib {
                fib.prefetch(destination);
            }
            count += 1;
            bytes += data.len() as u64;
        }
        (count, bytes)
    }
}

/// The last stage, for packets of one class: makes frames ready to leave, as many from the first on as one interface takes.
struct Depart<'w, L> {
    batch: &'w mut Batch,
    hops: &'w [u32; BATCH],
    /// How many are of that class, from the first on.
    count: usize,
    lines: L,
}

/// How many are ready, for which interface, and their bytes.
type Ready = (usize, IfIndex, u64);

impl Work for Depart<'_, Lines<'_, Ipv4Addr>> {
    type Result = Ready;
    #[inline(always)]
    fn run(self) -> Ready {
        let lines = self.lines;
        self.each(|frame, hop, only| depart4(lines, frame, hop, only))
    }
}

impl Work for Depart<'_, Lines<'_, Ipv6Addr>> {
    type Result = Ready;
    #[inline(always)]
    fn run(self) -> Ready {
        let lines = self.lines;
        self.each(|frame, hop, only| depart6(lines, frame, hop, only))
    }
}

impl<L> Depart<'_, L> {
    #[inline(always)]
    fn each(self, depart: impl Fn(&mut [u8], u32, Option<IfIndex>) -> Option<IfIndex>) -> Ready {
        let (mut ready, mut out, mut bytes) = (0, None, 0);
        let packets = self.batch.get_mut(..self.count).unwrap_or(&mut []);
        for (packet, hop) in packets.iter_mut().zip(self.hops) {
            let frame = packet.data_mut();
            let len = frame.len() as u64;
            let Some(by) = depart(frame, *hop, out) else { break };
            out = Some(by);
            ready += 1;
            bytes += len;
        }
        (ready, out.unwrap_or_default(), bytes)
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
        if self.lanes.is_tapped() {
            self.tap(turn, received, batch);
        }
        let snapshot = turn.snapshot;
        let port = match snapshot.interface(received) {
            Some(port) if port.state == State::Up => port,
            Some(_) => return refuse(turn, received, batch, Drop::InterfaceDown),
            None => return refuse(turn, received, batch, Drop::InterfaceUnconfigured),
        };
        if self.alone(turn, port, batch) {
            return;
        }
        // It is there: nobody else takes it.
        let Some(mut found) = self.found.take() else { return };
        let (plain, families) = self.classify(turn, port, batch, &mut found);
        let snapshot = turn.snapshot;
        if families.v4 {
            let to = found.to4.get(..batch.len()).unwrap_or(&[]);
            snapshot.fib4().lookup_batch(to, &mut found.hops4);
        }
        if families.v6 {
            let to = found.to6.get(..batch.len()).unwrap_or(&[]);
            snapshot.fib6().lookup_batch(to, &mut found.hops6);
        }
        self.forward(turn, batch, &found, plain);
        // There is none: nothing on a packet's way may so much as look like giving memory back.
        core::mem::forget(self.found.replace(found));
        self.lanes.flush(turn);
    }

    /// Sends a batch of one packet on its way, if its route alone decides on it: with one, there is nothing to gain from taking
    /// every stage apart. Whether it did; else the packet is as it was.
    #[inline(always)]
    fn alone(&mut self, turn: &mut Turn<'_>, port: &Interface, batch: &mut Batch) -> bool {
        let [packet] = batch.as_mut_slice() else { return false };
        packet.prefetch_data();
        packet.meta_mut().received = port.index;
        if packet.is_chain() || !packet.meta().is_plain() || packet.meta().vlan != 0 {
            return false;
        }
        let (snapshot, stations) = (turn.snapshot, Stations::of(port));
        let frame = packet.data_mut();
        let len = frame.len();
        let out = if let Some(header) = frame.first_chunk()
            && is_plain4(header, len, stations, snapshot.own4())
        {
            let to = Ipv4Addr::from_bits(u32::from_be(le32(header, 30)));
            depart4(self.neighbors4.lines(), frame, snapshot.fib4().lookup_number(to), None)
        } else if let Some(header) = frame.first_chunk()
            && is_plain6(header, len, stations, snapshot.own6())
        {
            let to = address6(header, 38);
            depart6(self.neighbors6.lines(), frame, snapshot.fib6().lookup_number(to), None)
        } else {
            None
        };
        let Some(out) = out else { return false };
        port.counters.received(turn.cx.cpu(), 1, len as u64);
        self.lanes.all(turn, out, batch, len as u64);
        true
    }

    /// Reads all headers, and counts what `port` received.
    fn classify<'s>(
        &mut self,
        turn: &Turn<'s>,
        port: &'s Interface,
        batch: &mut Batch,
        found: &mut Found,
    ) -> (Plain, Families) {
        batch.iter().for_each(Packet::prefetch_data);
        self.tagged = (0, 0);
        let (stations, received, snapshot) = (Stations::of(port), port.index, turn.snapshot);
        let (fib4, fib6) = (Some(snapshot.fib4()), Some(snapshot.fib6()));
        let (fib4, fib6) = (fib4.filter(|fib| fib.is_large()), fib6.filter(|fib| fib.is_large()));
        let (mut plain, mut families, mut n, mut bytes) = (Plain::default(), Families::default(), 0, 0);
        while n < batch.len() {
            let begun = n;
            let six =
                batch.get(n).is_some_and(|packet| ethernet::kind(packet.data()) == Some(ethernet::IPV6));
            if let (false, Some(packets), Some(to)) = (six, batch.get_mut(n..), found.to4.get_mut(n..)) {
                let sort = Sort { packets, to, received, stations, own: snapshot.own4(), fib: fib4 };
                let (count, of_them) = wide::run(sort);
                plain.v4 |= bits(n, count);
                (n, bytes) = (n + count, bytes + of_them);
            }
            if n == batch.len() {
                break;
            }
            if let (Some(packets), Some(to)) = (batch.get_mut(n..), found.to6.get_mut(n..)) {
                let sort = Sort { packets, to, received, stations, own: snapshot.own6(), fib: fib6 };
                let (count, of_them) = wide::run(sort);
                plain.v6 |= bits(n, count);
                (n, bytes) = (n + count, bytes + of_them);
            }
            if n == begun
                && let Some(packet) = batch.get_mut(n)
            {
                bytes += packet.len() as u64;
                let class = self.class(turn, port, packet, (found, n), &mut families);
                plain.v4 |= bits(n, usize::from(matches!(class, Class::Plain4)));
                plain.v6 |= bits(n, usize::from(matches!(class, Class::Plain6)));
                n += 1;
            }
        }
        families.v4 |= plain.v4 != 0;
        families.v6 |= plain.v6 != 0;
        let (tagged, tagged_bytes) = self.tagged;
        port.counters.received(turn.cx.cpu(), batch.len() as u64 - tagged, bytes - tagged_bytes);
        (plain, families)
    }

    /// Finds out the class of packet `n`, and notes it.
    #[inline(never)]
    fn class<'s>(
        &mut self,
        turn: &Turn<'s>,
        port: &'s Interface,
        packet: &mut Packet,
        (found, n): (&mut Found, usize),
        families: &mut Families,
    ) -> Class {
        let Found { classes, reasons, to4, to6, .. } = found;
        let places = (classes.get_mut(n), to4.get_mut(n), to6.get_mut(n), reasons.get_mut(n));
        let (Some(class), Some(to4), Some(to6), Some(why)) = places else { return Class::Other };
        *class = self.sort_out(turn, port, packet, (to4, to6, why), families);
        *class
    }

    /// The class of a packet.
    fn sort_out<'s>(
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
    fn forward(&mut self, turn: &mut Turn<'_>, batch: &mut Batch, found: &Found, plain: Plain) {
        let [four, six] = [plain.v4, plain.v6].map(|bits| bits.trailing_ones() as usize);
        let (ready, out, bytes) = if four != 0 {
            wide::run(Depart { batch, hops: &found.hops4, count: four, lines: self.neighbors4.lines() })
        } else {
            wide::run(Depart { batch, hops: &found.hops6, count: six, lines: self.neighbors6.lines() })
        };
        if ready == batch.len() {
            self.lanes.all(turn, out, batch, bytes);
        } else {
            self.one_by_one(turn, batch, (found, plain), (ready, out));
        }
    }

    /// Sends off a batch whose first `ready` are so, for `out`.
    #[inline(never)]
    fn one_by_one(
        &mut self,
        turn: &mut Turn<'_>,
        batch: &mut Batch,
        (found, plain): (&Found, Plain),
        (ready, out): (usize, IfIndex),
    ) {
        let count = batch.len();
        for packet in batch.drain(..ready) {
            let len = packet.data().len();
            self.lanes.whole(turn, out, packet, len);
        }
        // Taken from the end, so that it goes in order.
        batch.reverse();
        while let Some(mut packet) = batch.pop() {
            let n = count - 1 - batch.len();
            let [hop4, hop6] = [&found.hops4, &found.hops6].map(|hops| hops.get(n).copied().unwrap_or(0));
            let frame = packet.data_mut();
            let len = frame.len();
            let (class, out) = if plain.v4 >> n & 1 != 0 {
                (Class::Plain4, depart4(self.neighbors4.lines(), frame, hop4, None))
            } else if plain.v6 >> n & 1 != 0 {
                (Class::Plain6, depart6(self.neighbors6.lines(), frame, hop6, None))
            } else {
                (found.classes.get(n).copied().unwrap_or(Class::Other), None)
            };
            match (out, class) {
                (Some(out), _) => self.lanes.whole(turn, out, packet, len),
                (None, Class::Plain4 | Class::Routed4) => self.routed4(turn, packet, hop4),
                (None, Class::Plain6 | Class::Routed6) => self.routed6(turn, packet, hop6),
                (None, Class::Long4) => self.receive(turn, packet, hop4),
                (None, Class::Long6) => self.receive(turn, packet, hop6),
                (None, Class::Other) => self.receive(turn, packet, 0),
                (None, Class::Dead) => {
                    discard(turn, packet, found.reasons.get(n).copied().unwrap_or(Drop::Consumed));
                }
            }
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

/// Makes a frame ready that can leave as it is, if its next hop has all it needs and is by `only`, where that is given.
#[inline(always)]
fn depart4(lines: Lines<'_, Ipv4Addr>, frame: &mut [u8], hop: u32, only: Option<IfIndex>) -> Option<IfIndex> {
    let len = frame.len();
    let (stations, header) = headers(frame)?;
    let line = lines.get(hop, ipv4::destination(header))?;
    if len > usize::from(line.longest) || only.is_some_and(|only| only != line.out) {
        return None;
    }
    ipv4::decrement_ttl(header);
    *stations = line.stations;
    Some(line.out)
}

/// As [`depart4`].
#[inline(always)]
fn depart6(lines: Lines<'_, Ipv6Addr>, frame: &mut [u8], hop: u32, only: Option<IfIndex>) -> Option<IfIndex> {
    let len = frame.len();
    let (stations, header) = headers(frame)?;
    let line = lines.get(hop, ipv6::destination(header))?;
    if len > usize::from(line.longest) || only.is_some_and(|only| only != line.out) {
        return None;
    }
    ipv6::decrement_hop_limit(header);
    *stations = line.stations;
    Some(line.out)
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

/// The bits of `count` packets from `first` on.
#[inline(always)]
fn bits(first: usize, count: usize) -> u64 {
    // There may be 64.
    (((1u128 << count) - 1) << first) as u64
}

/// What the stations of a frame are compared with.
#[derive(Clone, Copy)]
struct Stations {
    /// Its destination and two bytes of its source, of which all bits but that of a group are clear. As [`le64`] reads it.
    to: u64,
    /// The last bytes of its source must be others than these.
    own: u32,
}

impl Stations {
    /// Of those that `port` takes; of none if its frames need more looking at.
    #[inline(always)]
    fn of(port: &Interface) -> Self {
        let [a, b, c, d, e, f] = port.mac;
        let to = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        let unchecked = port.reverse_path == ReversePath::Off;
        Self { to: if unchecked { to } else { u64::MAX }, own: u32::from_le_bytes([c, d, e, f]) }
    }

    /// Whether [`ethernet::input`] lets `frame` pass as one to the station itself; `false` for some of which it does.
    #[inline(always)]
    fn pass(&self, frame: &[u8]) -> bool {
        le64(frame, 0) & ((1 << 49) - 1) == self.to && le32(frame, 8) != self.own
    }
}

/// EtherType and first byte behind it, as [`le32`] reads them, and which bits of that count.
const IPV4: (u32, u32) = (0x0045_0008, 0x00ff_ffff);
const IPV6: (u32, u32) = (0x0060_dd86, 0x00f0_ffff);

/// Whether a frame of `len` bytes is an IPv4 packet for us whose route alone decides on it and that has no padding; `false`
/// for some that are.
#[inline(always)]
fn is_plain4(frame: &Frame4, len: usize, stations: Stations, own: Filter<'_>) -> bool {
    let addresses = le64(frame, 26);
    let (from, to) = (addresses as u32, (addresses >> 32) as u32);
    le32(frame, 12) & IPV4.1 == IPV4.0
        && stations.pass(frame)
        && HEADER + usize::from(be16(frame, 16)) == len
        // A hop is left after this one.
        && byte(frame, 22) > 1
        && address::special4(from as u8) | address::special4(to as u8) == 0
        && checksum::is_right20(le32(frame, 14), le64(frame, 18), addresses)
        && !own.may_contain(Ipv4Addr::from_bits(u32::from_be(from)))
}

/// As [`is_plain4`], of IPv6. A packet without payload, which few are, may be a jumbogram.
#[inline(always)]
fn is_plain6(frame: &Frame6, len: usize, stations: Stations, own: Filter<'_>) -> bool {
    let payload_len = be16(frame, 18);
    le32(frame, 12) & IPV6.1 == IPV6.0
        && stations.pass(frame)
        && frame.len() + usize::from(payload_len) == len
        && payload_len != 0
        && byte(frame, 21) > 1
        && address::special6(byte(frame, 22)) | address::special6(byte(frame, 38)) == 0
        && !own.may_contain(address6(frame, 22))
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
fn be16(frame: &[u8], at: usize) -> u16 {
    frame.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u16::from_be_bytes(*bytes))
}

#[inline(always)]
fn byte(frame: &[u8], at: usize) -> u8 {
    frame.get(at).copied().unwrap_or(0)
}

#[inline(always)]
fn address6(frame: &Frame6, at: usize) -> Ipv6Addr {
    let (high, low) = (le64(frame, at).swap_bytes(), le64(frame, at + 8).swap_bytes());
    Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low))
}
