//! A batch's way through the stages. Two take it whole: classification, which reads every header once, and the look-up of
//! all destinations. Then each packet, in the order they came, gets what its next hop has ready made; one that needs more than
//! that takes the long way, [`Stack::receive`], which is the one that decides everything.

use super::*;
use crate::{address, checksum};
use alloc::boxed::Box;
use weir_netif::BATCH;

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
    Dead(Drop),
}

/// What is known of a batch, packet by packet; of no meaning beyond its length.
#[derive(Debug)]
pub(crate) struct Found {
    classes: [Class; BATCH],
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

impl Stack {
    /// Takes what a device received, and leaves `batch` empty. All that goes out has been handed to
    /// [`Turn::egress`] when it returns. Ask for [`deadline`](Self::deadline) afterwards.
    #[inline(never)]
    pub fn input(&mut self, turn: &mut Turn<'_>, received: IfIndex, batch: &mut Batch) {
        let snapshot = turn.snapshot;
        let port = match snapshot.interface(received) {
            Some(port) if port.state == State::Up => port,
            Some(_) => return refuse(turn, received, batch, Drop::InterfaceDown),
            None => return refuse(turn, received, batch, Drop::InterfaceUnconfigured),
        };
        // It is there: nobody else takes it.
        let Some(mut found) = self.found.take() else { return };
        let families = self.classify(turn, port, batch, &mut found);
        if families.v4 {
            let to = found.to4.get(..batch.len()).unwrap_or(&[]);
            snapshot.fib4().lookup_batch(to, &mut found.hops4);
        }
        if families.v6 {
            let to = found.to6.get(..batch.len()).unwrap_or(&[]);
            snapshot.fib6().lookup_batch(to, &mut found.hops6);
        }
        self.forward(turn, batch, &found);
        self.found = Some(found);
        self.lanes.flush(turn);
    }

    /// Reads all headers, and counts what `port` received.
    #[inline(never)]
    fn classify<'s>(
        &mut self,
        turn: &Turn<'s>,
        port: &'s Interface,
        batch: &mut Batch,
        found: &mut Found,
    ) -> Families {
        self.tagged = (0, 0);
        batch.iter().for_each(Packet::prefetch_data);
        let (packets, mut bytes) = (batch.len() as u64, 0);
        let (mut families, unchecked) = (Families::default(), port.reverse_path == ReversePath::Off);
        let station = ethernet::station(port.mac);
        let Found { classes, to4, to6, .. } = found;
        for (((packet, class), to4), to6) in batch.iter_mut().zip(classes).zip(to4).zip(to6) {
            if packet.meta().received != port.index {
                packet.meta_mut().received = port.index;
            }
            let simple = unchecked & packet.meta().is_plain() & (packet.meta().vlan == 0) & !packet.is_chain();
            bytes += packet.data().len() as u64;
            *class = match packet.data().first_chunk() {
                Some(frame) if simple & is_plain4(frame, packet.data().len(), station, turn.snapshot) => {
                    families.v4 = true;
                    *to4 = destination4(frame);
                    Class::Plain4
                }
                _ => {
                    bytes += (packet.len() - packet.data().len()) as u64;
                    self.class(turn, port, packet, (to4, to6), &mut families)
                }
            };
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
        (to4, to6): (&mut Ipv4Addr, &mut Ipv6Addr),
        families: &mut Families,
    ) -> Class {
        let mut interface = port;
        if ethernet::is_tagged(packet) {
            match self.untag(turn, port, packet) {
                Ok(tagged) => interface = tagged,
                Err(reason) => return Class::Dead(reason),
            }
        }
        let Some((frame, network)) = packet.data().split_first_chunk::<HEADER>() else {
            return Class::Other;
        };
        let available = packet.len() - HEADER;
        let plain = ethernet::is_for(frame, ethernet::station(interface.mac)) && interface.reverse_path == ReversePath::Off;
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
    #[inline(never)]
    fn forward(&mut self, turn: &mut Turn<'_>, batch: &mut Batch, found: &Found) {
        let Found { classes, hops4, hops6, .. } = found;
        for (((packet, class), hop4), hop6) in batch.drain(..).zip(classes).zip(hops4).zip(hops6) {
            match *class {
                Class::Plain4 => self.forward4(turn, packet, *hop4, true),
                Class::Plain6 => self.forward6(turn, packet, *hop6, true),
                class => self.others(turn, packet, class, (*hop4, *hop6)),
            }
        }
    }

    #[inline(never)]
    fn others(&mut self, turn: &mut Turn<'_>, packet: Packet, class: Class, (hop4, hop6): (u32, u32)) {
        match class {
            Class::Plain4 | Class::Routed4 => self.forward4(turn, packet, hop4, false),
            Class::Plain6 | Class::Routed6 => self.forward6(turn, packet, hop6, false),
            Class::Long4 => self.receive(turn, packet, hop4),
            Class::Long6 => self.receive(turn, packet, hop6),
            Class::Other => self.receive(turn, packet, 0),
            Class::Dead(reason) => discard(turn, packet, reason),
        }
    }

    /// Forwards a packet that its route alone decides on; a `plain` one can leave as it is.
    #[inline(always)]
    fn forward4(&mut self, turn: &mut Turn<'_>, mut packet: Packet, hop: u32, plain: bool) {
        if let Some((stations, header)) = headers(packet.data_mut())
            && let Some(line) = self.neighbors4.adjacency(hop, ipv4::destination(header))
            && ipv4::total_len(header) <= line.mtu
        {
            ipv4::decrement_ttl(header);
            *stations = line.stations;
            let out = line.out;
            if plain & (line.vlan == 0) {
                let len = packet.data().len();
                self.lanes.whole(turn, out, packet, len);
            } else {
                let len = HEADER + usize::from(ipv4::total_len(header));
                self.depart(turn, packet, len, out);
            }
        } else {
            self.detour4(turn, packet, hop, plain);
        }
    }

    /// As [`forward4`](Self::forward4).
    #[inline(always)]
    fn forward6(&mut self, turn: &mut Turn<'_>, mut packet: Packet, hop: u32, plain: bool) {
        if let Some((stations, header)) = headers(packet.data_mut())
            && let Some(line) = self.neighbors6.adjacency(hop, ipv6::destination(header))
            && ipv6::total_len(header) <= usize::from(line.mtu)
        {
            ipv6::decrement_hop_limit(header);
            *stations = line.stations;
            let out = line.out;
            if plain & (line.vlan == 0) {
                let len = packet.data().len();
                self.lanes.whole(turn, out, packet, len);
            } else {
                let len = HEADER + ipv6::total_len(header);
                self.depart(turn, packet, len, out);
            }
        } else {
            self.detour6(turn, packet, hop, plain);
        }
    }

    /// The way of a packet whose next hop has nothing ready made for it: perhaps there are several.
    #[inline(never)]
    fn detour4(&mut self, turn: &mut Turn<'_>, mut packet: Packet, hop: u32, plain: bool) {
        match turn.snapshot.settle4(hop, || hashed(&mut packet)) {
            same if same == hop => self.receive(turn, packet, hop),
            // It is one itself: this happens once.
            member => self.forward4(turn, packet, member, plain),
        }
    }

    /// As [`detour4`](Self::detour4).
    #[inline(never)]
    fn detour6(&mut self, turn: &mut Turn<'_>, mut packet: Packet, hop: u32, plain: bool) {
        match turn.snapshot.settle6(hop, || hashed(&mut packet)) {
            same if same == hop => self.receive(turn, packet, hop),
            member => self.forward6(turn, packet, member, plain),
        }
    }

    /// Hands a forwarded frame of `len` bytes, padding not counted, on to be made fit.
    #[inline(never)]
    fn depart(&mut self, turn: &mut Turn<'_>, mut packet: Packet, len: usize, out: IfIndex) {
        packet.truncate(turn.pool, len);
        match turn.snapshot.interface(out) {
            Some(out) => self.lanes.send(turn, out, packet),
            None => discard(turn, packet, Drop::InterfaceUnconfigured),
        }
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

/// The stations and the header behind the EtherType of a frame.
#[inline(always)]
fn headers<const N: usize>(frame: &mut [u8]) -> Option<(&mut [u8; 12], &mut [u8; N])> {
    let (ethernet, rest) = frame.split_first_chunk_mut::<HEADER>()?;
    Some((ethernet.first_chunk_mut()?, rest.first_chunk_mut()?))
}

/// The headers of the most common packet.
const HEADERS4: usize = HEADER + ipv4::HEADER;

/// EtherType, version and header length of it, as a number of which the lowest byte comes first.
const KIND4: u32 = u32::from_le_bytes([8, 0, 0x45, 0]);

/// Whether a frame of `len` bytes, for `station`, is an IPv4 packet whose route alone decides on it and that has no padding.
/// Without a branch: what must be alike is compared by exclusive or, and all differences are gathered in one number.
#[inline(always)]
fn is_plain4(frame: &[u8; HEADERS4], len: usize, station: u64, snapshot: &Snapshot) -> bool {
    let from = le64::<6>(frame);
    let mut differs = le64::<0>(frame) << 16 ^ station;
    differs |= from & 1 | u64::from(from << 16 == station);
    differs |= u64::from(le32::<12>(frame) & 0xff_ffff ^ KIND4);
    let total_len = u16::from_be_bytes([byte::<16>(frame), byte::<17>(frame)]);
    differs |= (HEADER as u64 + u64::from(total_len)) ^ len as u64;
    // No hop is left after this one.
    differs |= u64::from(byte::<22>(frame) <= 1);
    differs |= u64::from(address::special4(byte::<26>(frame)) | address::special4(byte::<30>(frame)));
    let sum = checksum::sum20(le64::<14>(frame), le64::<22>(frame), le32::<30>(frame));
    differs |= u64::from(sum ^ 0xffff);
    differs |= u64::from(snapshot.owns4(Ipv4Addr::from_bits(u32::from_be(le32::<26>(frame)))));
    differs == 0
}

#[inline(always)]
fn le64<const AT: usize>(frame: &[u8; HEADERS4]) -> u64 {
    frame.get(AT..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[inline(always)]
fn le32<const AT: usize>(frame: &[u8; HEADERS4]) -> u32 {
    frame.get(AT..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[inline(always)]
fn byte<const AT: usize>(frame: &[u8; HEADERS4]) -> u8 {
    frame.get(AT).copied().unwrap_or(0)
}

#[inline(always)]
fn destination4(frame: &[u8; HEADERS4]) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from_be(le32::<30>(frame)))
}
