//! Puts fragments of packets for the router itself together again (RFC 791 §3.2, RFC 8200 §4.5).
//!
//! `[C]` Called by the path behind the local stage, in softint context. What is kept are the packets themselves; all else
//! is allocated at the start.

use crate::address::{Kind, kind4, kind6};
use crate::checksum::{ICMP, ICMPV6, TCP, UDP, internet};
use crate::datagram::{self, IPV6_HEADER, field};
use crate::ethernet::HEADER;
use crate::ipv6ext::{FragmentInfo, Upper, upper_layer};
use crate::time::Instant;
use crate::timers::{Timed, Timers};
use alloc::boxed::Box;
use core::net::IpAddr;
use core::time::Duration;
use weir_netif::{BUFFER, Checksum, Drop, IfIndex, Packet};
use weir_sync::wheel::Timer;

/// How long the rest of a datagram is waited for, from its first fragment to arrive (RFC 1122 §3.3.2, RFC 8200 §4.5).
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of buffers that fragments may hold, unless [`Settings`](crate::stack::Settings) say less.
pub const BYTES: usize = 256 * 1024;
/// Datagrams at a time.
pub const DATAGRAMS: usize = 64;
/// Datagrams at a time of one source.
pub const PER_SOURCE: usize = 16;
/// Fragments of a datagram: 64 KiB by an MTU of 1280 and some more.
pub const FRAGMENTS: usize = 64;

/// Bytes of an IPv6 fragment header.
const FRAGMENT_HEADER: usize = 8;
/// No piece.
const END: u16 = u16::MAX;

/// What the fragments of one datagram have in common, and those of no other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// Identification.
    pub id: u32,
    /// What IPv4 has to be alike too; 0 with IPv6.
    pub protocol: u8,
    /// The link, where an address is of its scope.
    pub link: Option<IfIndex>,
}

/// A fragment that can be, by its own header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// Of which datagram.
    pub key: Key,
    /// Bytes from the start of the frame to its data.
    pub data: u16,
    /// Where its data begin in the datagram's.
    pub start: u16,
    /// Where they end; more than `start`.
    pub end: u16,
    /// Whether more follow.
    pub more: bool,
    /// Its ECN field.
    pub ecn: u8,
}

/// A datagram that is whole again.
#[derive(Debug)]
pub(crate) struct Whole {
    /// The frame, with the headers of the first fragment.
    pub(crate) packet: Packet,
    /// Fragments that are a part of it and no packets any more.
    pub(crate) merged: u64,
    /// Whether it can be: if not, why it must go.
    pub(crate) sound: Result<(), Drop>,
}

/// The datagrams that one CPU is putting together.
#[derive(Debug)]
pub(crate) struct Reassembly {
    datagrams: Box<[Option<Datagram>]>,
    /// The fragments of all datagrams; what is free is linked too.
    pieces: Box<[Piece]>,
    free: u16,
    /// Bytes of buffers that are kept, and that may be.
    held: usize,
    limit: usize,
    packets: usize,
}

#[derive(Debug)]
struct Datagram {
    key: Key,
    since: Instant,
    timer: Option<Timer>,
    /// The piece that lies furthest behind; the others follow it, each before the last.
    last: u16,
    count: usize,
    /// Bytes there are, and in all once the end is known.
    covered: u16,
    total: Option<u16>,
    /// Bytes of buffers that they hold.
    cost: usize,
    /// A bit for each ECN field there was.
    ecn: u8,
    /// Given up for this reason: what comes yet goes the same way (RFC 5722 §4).
    broken: Option<Drop>,
}

#[derive(Debug)]
struct Piece {
    packet: Option<Packet>,
    cost: usize,
    data: u16,
    start: u16,
    end: u16,
    next: u16,
}

impl Reassembly {
    /// Keeps `limit` bytes of buffers at most. Allocates all it will ever need.
    pub(crate) fn new(limit: usize) -> Self {
        // No fragment has less than a buffer.
        let count = (limit / BUFFER).min(usize::from(END)) as u16;
        let next = |n: u16| if n + 1 < count { n + 1 } else { END };
        let piece = |n| Piece { packet: None, cost: 0, data: 0, start: 0, end: 0, next: next(n) };
        Self {
            datagrams: core::iter::repeat_with(|| None).take(DATAGRAMS).collect(),
            pieces: (0..count).map(piece).collect(),
            free: if count == 0 { END } else { 0 },
            held: 0,
            limit,
            packets: 0,
        }
    }

    /// Packets it keeps.
    pub(crate) fn packets(&self) -> usize {
        self.packets
    }

    /// Takes a fragment whose buffers are `cost` bytes. Returns the datagram if it is whole now; tells `end` what else
    /// came to an end, and why.
    pub(crate) fn insert(
        &mut self,
        packet: Packet,
        cost: usize,
        fragment: &Fragment,
        (now, timers): (Instant, &mut Timers),
        mut end: impl FnMut(Packet, Drop),
    ) -> Option<Whole> {
        let Some(number) = self.datagram(&fragment.key, now, timers, &mut end) else {
            end(packet, Drop::FragmentLimit);
            return None;
        };
        let place = match self.place(number, &packet, fragment) {
            Ok(place) => place,
            Err(reason) => {
                end(packet, reason);
                if reason != Drop::FragmentDuplicate {
                    self.give_up(number, reason, &mut end);
                }
                return None;
            }
        };
        if !self.make_room(cost, number, timers, &mut end) {
            end(packet, Drop::FragmentLimit);
            self.give_up(number, Drop::FragmentLimit, &mut end);
            return None;
        }
        self.link(number, place, packet, cost, fragment);
        let datagram = self.datagrams.get_mut(number)?.as_mut()?;
        if datagram.total != Some(datagram.covered) {
            return None;
        }
        let datagram = self.datagrams.get_mut(number)?.take()?;
        timers.cancel(datagram.timer);
        self.assemble(&datagram)
    }

    /// The time of datagram `number` is up. Returns its first fragment, if there is one, for the sender to be told of.
    pub(crate) fn expire(&mut self, number: u32, mut end: impl FnMut(Packet, Drop)) -> Option<Packet> {
        let datagram = self.datagrams.get_mut(number as usize)?.take()?;
        let mut first = None;
        self.unlink_all(&datagram, |piece| match (piece.start, piece.packet.take()) {
            (0, Some(packet)) => first = Some(packet),
            (_, Some(packet)) => end(packet, Drop::FragmentTimeout),
            _ => {}
        });
        first
    }

    /// Forgets the datagrams whose key is `gone`; their fragments go to `lost`.
    pub(crate) fn forget(
        &mut self,
        timers: &mut Timers,
        gone: impl Fn(&Key) -> bool,
        mut lost: impl FnMut(Packet),
    ) {
        for number in 0..self.datagrams.len() {
            if self.datagrams.get(number).and_then(Option::as_ref).is_some_and(|datagram| gone(&datagram.key))
            {
                self.remove(number, timers, &mut lost);
            }
        }
    }

    /// The datagram of `key`: a new one if there is none, in the place of an old one if there are too many. `None` never:
    /// there is always an oldest one.
    fn datagram(
        &mut self,
        key: &Key,
        now: Instant,
        timers: &mut Timers,
        end: &mut impl FnMut(Packet, Drop),
    ) -> Option<usize> {
        let known = |datagram: &Option<Datagram>| datagram.as_ref().is_some_and(|d| d.key == *key);
        if let Some(number) = self.datagrams.iter().position(known) {
            return Some(number);
        }
        let of_source = |datagram: &Datagram| datagram.key.source == key.source;
        if self.datagrams.iter().flatten().filter(|datagram| of_source(datagram)).count() >= PER_SOURCE {
            let oldest = self.oldest(|_, datagram| of_source(datagram))?;
            self.evict(oldest, timers, end);
        }
        let number = match self.datagrams.iter().position(Option::is_none) {
            Some(number) => number,
            None => {
                let oldest = self.oldest(|_, _| true)?;
                self.evict(oldest, timers, end);
                oldest
            }
        };
        let timer = timers.set(Timed::Reassembly(number as u32), now + TIMEOUT, now);
        *self.datagrams.get_mut(number)? = Some(Datagram {
            key: *key,
            since: now,
            timer,
            last: END,
            count: 0,
            covered: 0,
            total: None,
            cost: 0,
            ecn: 0,
            broken: None,
        });
        Some(number)
    }

    /// Of those that count, the one that waits longest.
    fn oldest(&self, counts: impl Fn(usize, &Datagram) -> bool) -> Option<usize> {
        let all = self.datagrams.iter().enumerate();
        let candidates = all.filter_map(|(number, datagram)| Some((number, datagram.as_ref()?)));
        let oldest = candidates.filter(|(number, datagram)| counts(*number, datagram));
        oldest.min_by_key(|(_, datagram)| datagram.since).map(|(number, _)| number)
    }

    /// Gives the oldest datagrams up until datagram `number` can have `cost` bytes more. `false`: it cannot even without
    /// the others, which stay then.
    fn make_room(
        &mut self,
        cost: usize,
        number: usize,
        timers: &mut Timers,
        end: &mut impl FnMut(Packet, Drop),
    ) -> bool {
        let Some(Some(datagram)) = self.datagrams.get(number) else { return false };
        if datagram.cost + cost > self.limit || datagram.count == self.pieces.len() {
            return false;
        }
        while self.held + cost > self.limit || self.free == END {
            match self.oldest(|other, datagram| other != number && datagram.count > 0) {
                Some(oldest) => self.evict(oldest, timers, end),
                None => return false,
            }
        }
        true
    }

    /// The piece that a fragment lies right before, if any. An error says why it must go, and unless it is but a
    /// duplicate all of its datagram.
    fn place(&self, number: usize, packet: &Packet, fragment: &Fragment) -> Result<u16, Drop> {
        let Some(Some(datagram)) = self.datagrams.get(number) else { return Err(Drop::FragmentLimit) };
        if let Some(reason) = datagram.broken {
            return Err(reason);
        }
        let furthest = self.pieces.get(usize::from(datagram.last)).map_or(0, |piece| piece.end);
        let ends_where_it_can = match (datagram.total, fragment.more) {
            (Some(total), true) => fragment.end < total,
            (Some(total), false) => fragment.end == total,
            (None, true) => true,
            (None, false) => furthest < fragment.end,
        };
        let (mut above, mut at) = (END, datagram.last);
        while let Some(piece) = self.pieces.get(usize::from(at)) {
            if piece.start < fragment.start {
                if piece.end > fragment.start {
                    return Err(Drop::FragmentOverlap);
                }
                break;
            }
            if piece.start < fragment.end {
                let duplicate = ends_where_it_can && piece.repeats(packet, fragment);
                return Err(if duplicate { Drop::FragmentDuplicate } else { Drop::FragmentOverlap });
            }
            (above, at) = (at, piece.next);
        }
        match ends_where_it_can {
            false => Err(Drop::FragmentOverlap),
            true if datagram.count == FRAGMENTS => Err(Drop::FragmentLimit),
            true => Ok(above),
        }
    }

    /// Keeps a fragment, right before the piece `above`.
    fn link(&mut self, number: usize, above: u16, packet: Packet, cost: usize, fragment: &Fragment) {
        let index = self.free;
        let Some(Some(datagram)) = self.datagrams.get_mut(number) else { return };
        let next = match self.pieces.get_mut(usize::from(above)) {
            Some(above) => core::mem::replace(&mut above.next, index),
            None => core::mem::replace(&mut datagram.last, index),
        };
        datagram.count += 1;
        datagram.cost += cost;
        datagram.covered += fragment.end - fragment.start;
        datagram.ecn |= 1 << (fragment.ecn & 3);
        if !fragment.more {
            datagram.total = Some(fragment.end);
        }
        if let Some(piece) = self.pieces.get_mut(usize::from(index)) {
            let &Fragment { data, start, end, .. } = fragment;
            self.free = piece.next;
            *piece = Piece { packet: Some(packet), cost, data, start, end, next };
            self.held += cost;
            self.packets += 1;
        }
    }

    /// Takes the pieces of a datagram from the last to the first, each free afterwards.
    fn unlink_all(&mut self, datagram: &Datagram, mut take: impl FnMut(&mut Piece)) {
        let mut at = datagram.last;
        while let Some(piece) = self.pieces.get_mut(usize::from(at)) {
            take(piece);
            self.held -= piece.cost;
            self.packets -= 1;
            let next = core::mem::replace(&mut piece.next, self.free);
            self.free = at;
            at = next;
        }
    }

    /// Forgets a datagram, for want of room.
    fn evict(&mut self, number: usize, timers: &mut Timers, end: &mut impl FnMut(Packet, Drop)) {
        self.remove(number, timers, |packet| end(packet, Drop::FragmentLimit));
    }

    /// Takes a datagram out; its fragments go to `lost`.
    fn remove(&mut self, number: usize, timers: &mut Timers, mut lost: impl FnMut(Packet)) {
        if let Some(datagram) = self.datagrams.get_mut(number).and_then(Option::take) {
            timers.cancel(datagram.timer);
            self.unlink_all(&datagram, |piece| {
                if let Some(packet) = piece.packet.take() {
                    lost(packet);
                }
            });
        }
    }

    /// Lets the fragments of a datagram go, and remembers until its time is up that those to come must go too.
    fn give_up(&mut self, number: usize, reason: Drop, end: &mut impl FnMut(Packet, Drop)) {
        let Some(Some(datagram)) = self.datagrams.get_mut(number) else { return };
        let empty = Datagram { last: END, count: 0, cost: 0, broken: Some(reason), ..*datagram };
        let broken = core::mem::replace(datagram, empty);
        self.unlink_all(&broken, |piece| {
            if let Some(packet) = piece.packet.take() {
                end(packet, reason);
            }
        });
    }

    /// Makes a frame of a datagram that is whole.
    fn assemble(&mut self, datagram: &Datagram) -> Option<Whole> {
        let (mut rest, mut header) = (None::<Packet>, 0);
        // From the last to the first, so that no chain is walked.
        self.unlink_all(datagram, |piece| {
            let Some(mut packet) = piece.packet.take() else { return };
            if piece.start == 0 {
                header = usize::from(piece.data);
            } else {
                // The data begin in the first segment.
                let _ = packet.pull(piece.data.into());
            }
            if let Some(rest) = rest.take() {
                packet.append(rest);
            }
            rest = Some(packet);
        });
        let mut packet = rest?;
        let meta = packet.meta_mut();
        (meta.checksum, meta.hash) = (Checksum::Unknown, 0);
        let total = datagram.total?.into();
        let mended = match datagram.key.source {
            IpAddr::V4(_) => mend4(&mut packet, header, total, congestion(datagram.ecn)),
            IpAddr::V6(_) => mend6(&mut packet, header, total, congestion(datagram.ecn)),
        };
        let sound = mended.ok_or(Drop::FragmentMalformed);
        Some(Whole { packet, merged: datagram.count as u64 - 1, sound })
    }
}

impl Piece {
    /// Whether `packet` holds the very same bytes at the same place.
    fn repeats(&self, packet: &Packet, fragment: &Fragment) -> bool {
        let Some(kept) = &self.packet else { return false };
        let (mut old, mut new) = ([0; 64], [0; 64]);
        let same = |at: u16| {
            let len = old.len().min(usize::from(fragment.end - fragment.start - at));
            let (Some(old), Some(new)) = (old.get_mut(..len), new.get_mut(..len)) else { return false };
            kept.copy_out(usize::from(self.data) + usize::from(at), old) == len
                && packet.copy_out(usize::from(fragment.data) + usize::from(at), new) == len
                && old == new
        };
        (self.start, self.end) == (fragment.start, fragment.end)
            && (0..fragment.end - fragment.start).step_by(64).all(same)
    }
}

impl Fragment {
    /// What the header of an IPv4 fragment's frame says. An error if that cannot be: bytes behind 65 535, no data, a
    /// part that is not whole units before another, or a first one too short for the header it should have (RFC 1858).
    pub fn parse4(packet: &Packet) -> Result<Self, Drop> {
        Self::read4(packet).ok_or(Drop::FragmentMalformed)
    }

    fn read4(packet: &Packet) -> Option<Self> {
        let ip = datagram::Ipv4::parse(packet, HEADER)?;
        let start = (ip.flags_offset() & 0x1fff) * 8;
        let (more, data) = (ip.flags_offset() & 0x2000 != 0, HEADER + ip.header);
        let end = u16::try_from(usize::from(start) + ip.total - ip.header).ok()?;
        let whole_units = !more || end.is_multiple_of(8);
        let sound = start < end
            && whole_units
            && ip.header + usize::from(end) <= usize::from(u16::MAX)
            && (start > 0 || has_header(packet, data, ip.protocol()));
        let key = Key {
            source: ip.source().into(),
            destination: ip.destination().into(),
            id: ip.id().into(),
            protocol: ip.protocol(),
            link: (kind4(ip.source()) == Kind::LinkLocal || kind4(ip.destination()) == Kind::LinkLocal)
                .then_some(packet.meta().received),
        };
        let ecn = packet.data().get(HEADER + 1)? & 3;
        sound.then_some(Self { key, data: data as u16, start, end, more, ecn })
    }

    /// What an IPv6 fragment is: `fragment` is the header that was found in it, and its data end within the packet.
    /// An error is what its sender has to hear (RFC 8200 §4.5), or that there is nothing in it.
    pub fn parse6(packet: &Packet, fragment: &FragmentInfo, upper: &Upper) -> Result<Self, Flaw> {
        let ip = datagram::Ipv6::parse(packet, HEADER).ok_or(Flaw::Empty)?;
        let data = fragment.header + FRAGMENT_HEADER;
        let len = (HEADER + ip.total).checked_sub(data).filter(|&len| len > 0).ok_or(Flaw::Empty)?;
        if fragment.more && !len.is_multiple_of(8) {
            return Err(Flaw::PartialUnit);
        }
        let end = usize::from(fragment.offset) + len;
        // Of the headers that each fragment has.
        let before = fragment.header - HEADER - IPV6_HEADER;
        if before + end > usize::from(u16::MAX) {
            return Err(Flaw::TooLong);
        }
        if fragment.offset == 0 && !has_header(packet, upper.offset, upper.protocol) {
            return Err(Flaw::HeadersCut);
        }
        let (source, destination) = (ip.source(), ip.destination());
        let global = kind6(source) == Kind::Unicast && kind6(destination) == Kind::Unicast;
        let key = Key {
            source: source.into(),
            destination: destination.into(),
            id: fragment.id,
            protocol: 0,
            link: (!global).then_some(packet.meta().received),
        };
        Ok(Self {
            key,
            data: u16::try_from(data).map_err(|_| Flaw::TooLong)?,
            start: fragment.offset,
            end: end as u16,
            more: fragment.more,
            ecn: ip.traffic_class() & 3,
        })
    }
}

/// Why an IPv6 fragment cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// It has no data.
    Empty,
    /// More follow, but its data are not whole units of eight bytes.
    PartialUnit,
    /// The datagram would have more than 65 535 bytes.
    TooLong,
    /// The first fragment ends before the upper layer's header does (RFC 7112).
    HeadersCut,
}

/// Whether the header of an upper layer is whole in the first segment, from `at` on.
fn has_header(packet: &Packet, at: usize, protocol: u8) -> bool {
    let bytes = match protocol {
        TCP => 20,
        UDP | ICMP | ICMPV6 => 8,
        _ => 0,
    };
    packet.data().len() >= at + bytes
}

/// The ECN field of a datagram whose fragments had these (RFC 3168 §5.3): what the first one has, unless one of them met
/// congestion. `None` if another was not to be marked at all.
fn congestion(seen: u8) -> Option<Option<u8>> {
    const CONGESTED: u8 = 3;
    match (seen & 1 << CONGESTED != 0, seen & 1 != 0) {
        (false, _) => Some(None),
        (true, false) => Some(Some(CONGESTED)),
        (true, true) => None,
    }
}

/// Makes the IPv4 header of the first fragment, which ends at `data`, that of `len` bytes.
fn mend4(packet: &mut Packet, data: usize, len: usize, ecn: Option<Option<u8>>) -> Option<()> {
    let total = u16::try_from(data - HEADER + len).ok()?;
    let [_, class] = field(packet, HEADER)?;
    *class |= ecn?.unwrap_or(0);
    *field(packet, HEADER + 2)? = total.to_be_bytes();
    *field(packet, HEADER + 6)? = [0, 0];
    *field(packet, HEADER + 10)? = [0, 0];
    let checksum = internet(packet.data().get(HEADER..data)?);
    *field(packet, HEADER + 10)? = checksum.to_be_bytes();
    Some(())
}

/// Takes the fragment header, which ends at `data`, out of the first fragment and writes the length of what `len` bytes
/// there are behind it.
fn mend6(packet: &mut Packet, data: usize, len: usize, ecn: Option<Option<u8>>) -> Option<()> {
    let fragment = upper_layer(packet, HEADER).ok()?.fragment?;
    let payload = u16::try_from(fragment.header - HEADER - IPV6_HEADER + len).ok()?;
    let [next] = *field(packet, fragment.header)?;
    *field(packet, fragment.named_at)? = [next];
    let [_, class] = field(packet, HEADER)?;
    *class |= ecn?.unwrap_or(0) << 4;
    *field(packet, HEADER + 4)? = payload.to_be_bytes();
    packet.data_mut().get_mut(..data)?.copy_within(..fragment.header, FRAGMENT_HEADER);
    packet.pull(FRAGMENT_HEADER).then_some(())
}

#[cfg(test)]
mod tests;
