//! Captures: copies of the frames that pass an interface's taps, for a task to read.
//!
//! Taps are in softint context, a batch at a time. Who captures publishes a [`Capture`] in one of a few places; each CPU writes to
//! a ring of its own and counts what finds no room there.

#[cfg(test)]
mod tests;

use crate::ethernet;
use crate::recorder::{Recorder, What};
use crate::snapshot::Snapshot;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering};
use weir_bpf::{Chain, Filter, PacketType, Pattern};
use weir_netif::{BATCH, Checksum, Drop, IfIndex, Packet};
use weir_sync::records::{self, Consumer, Producer, Room};
use weir_sync::wide::{self, Work};
use weir_sync::{Control, Counter, CpuId, Owned, PerCpu, Published, Softint};

/// Captures at a time.
pub const CAPTURES: usize = 4;
/// Bytes of a record before those of the frame.
const HEADER: usize = 24;
/// Longest frame that is kept: a super-packet with a tag.
pub const MAX_SNAPLEN: u32 = 1 << 17;
/// Where no more bytes of a frame are kept than these, they are copied whether it has them or not, as a length that is known:
/// the first [`LINE`] of them always, the others if there is one to keep.
const FEW: usize = 96;
/// Bytes of a cache line.
const LINE: usize = 64;
/// Bytes in one piece of a frame that is made for a filter: one that lacks a tag or its header.
const SEEN: usize = 128;

/// Which way a frame went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Received, as the device handed it over.
    In,
    /// On its way to the device: rewritten, with what it leaves to the device still undone.
    Out,
    /// Lost, as it was then, on the interface it came in by.
    Drop,
}

impl Direction {
    /// All.
    pub const ALL: [Direction; 3] = [Direction::In, Direction::Out, Direction::Drop];

    /// As in a request.
    pub const fn name(self) -> &'static str {
        match self {
            Direction::In => "in",
            Direction::Out => "out",
            Direction::Drop => "drop",
        }
    }

    /// Its bit in a set of them.
    pub const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// What is wished for.
#[derive(Debug)]
pub struct Wish<'a> {
    /// The interfaces; their places here are their numbers in records.
    pub interfaces: &'a [IfIndex],
    /// [`Direction::bit`]s.
    pub directions: u8,
    /// Bytes to keep of a frame at most.
    pub snaplen: u32,
    /// Which, and how many bytes of them; `None`: all.
    pub filter: Option<Box<dyn Filter>>,
    /// Bytes of each CPU's ring.
    pub ring: usize,
}

/// Frames of an interface that one CPU counted, on a cache line of its own. `[A]` One writer each.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Block {
    received: Counter,
    matched: Counter,
    captured: Counter,
    dropped: Counter,
}

/// Frames of an interface: [`matched`](Self::matched) is [`captured`](Self::captured) and [`dropped`](Self::dropped).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// That passed the taps.
    pub received: u64,
    /// That the filter let pass.
    pub matched: u64,
    /// That are in a ring, or were.
    pub captured: u64,
    /// That found no room.
    pub dropped: u64,
}

/// One CPU's part.
#[derive(Debug)]
struct Side {
    /// `[C]` Written by its softints.
    ring: Owned<Option<Producer>>,
    /// By number of the interface.
    blocks: Box<[Block]>,
}

/// A capture. `[I]` beside what its CPUs write.
#[derive(Debug)]
pub struct Capture {
    /// By index: an interface's number here, or [`NOT`].
    numbers: Box<[u16]>,
    directions: u8,
    snaplen: usize,
    filter: Option<(Pattern, Box<dyn Filter>)>,
    sides: PerCpu<Side>,
}

/// In place of a number: not captured.
const NOT: u16 = u16::MAX;

impl Capture {
    /// With a ring a CPU, whose reading ends are the second value. `None`: there is no memory for them.
    pub fn new(wish: Wish<'_>) -> Option<(Arc<Self>, Vec<Consumer>)> {
        let Wish { interfaces, directions, snaplen, filter, ring } = wish;
        let mut numbers = Vec::new();
        for (number, index) in (0_u16..).zip(interfaces) {
            numbers.resize(numbers.len().max(index.index() + 1), NOT);
            if let Some(place) = numbers.get_mut(index.index()) {
                *place = number;
            }
        }
        let (mut producers, mut consumers) = (Vec::new(), Vec::new());
        for _ in 0..weir_sync::cpu::count() {
            let (producer, consumer) = records::new(ring)?;
            producers.push(producer);
            consumers.push(consumer);
        }
        let mut producers = producers.into_iter();
        let sides = PerCpu::new(|cpu| Side {
            ring: Owned::new(cpu, producers.next()),
            blocks: interfaces.iter().map(|_| Block::default()).collect(),
        });
        let snaplen = snaplen.clamp(1, MAX_SNAPLEN) as usize;
        let filter = filter.map(|filter| (filter.pattern(), filter));
        Some((Arc::new(Self { numbers: numbers.into(), directions, snaplen, filter, sides }), consumers))
    }

    /// What was counted of interface `number`, by all CPUs, a moment ago.
    pub fn counts(&self, number: usize) -> Counts {
        let blocks = self.sides.iter().filter_map(|side| side.blocks.get(number));
        blocks.fold(Counts::default(), |sum, block| Counts {
            received: sum.received + block.received.get(),
            matched: sum.matched + block.matched.get(),
            captured: sum.captured + block.captured.get(),
            dropped: sum.dropped + block.dropped.get(),
        })
    }

    #[inline]
    fn number(&self, interface: IfIndex) -> Option<u16> {
        self.numbers.get(interface.index()).copied().filter(|&number| number != NOT)
    }

    /// Takes copies of packets of interface `at`, if that is captured.
    fn take(&self, cx: &Softint, seen: &Seen, at: IfIndex, framing: Framing, packets: &[Packet]) {
        let Some(number) = self.number(at) else { return };
        let side = self.sides.of(cx.cpu());
        let Some(block) = side.blocks.get(usize::from(number)) else { return };
        // What passes is found out first, and kept then: each loop has few values to hold.
        let all = u64::MAX.checked_shr((BATCH - packets.len().min(BATCH)) as u32).unwrap_or(0);
        let (mut wanted, mut limits) = (all, Limits { most: self.snaplen, each: None });
        if let Some((pattern, filter)) = &self.filter {
            // Where something is missing, it may be that which is asked for.
            if seen.kind.is_some_and(|kind| pattern.excludes_type(kind)) {
                wanted = 0;
            } else if framing == Framing::Whole && *pattern != Pattern::ANY {
                wanted &= candidates(packets, pattern);
            }
            if wanted != 0 {
                wanted = ask((cx, seen, at), &**filter, framing, packets, (wanted, &mut limits));
            }
        }
        block.received.add(packets.len() as u64);
        if wanted == 0 {
            return;
        }
        let matched = u64::from(wanted.count_ones());
        let place =
            u64::from(number) << 32 | u64::from(seen.direction as u8) << 48 | u64::from(seen.reason) << 56;
        let captured = side.ring.with(cx, |ring| match ring {
            Some(ring) => keep(ring, (seen.ticks(), place), framing, packets, (wanted, &limits)),
            None => 0,
        });
        let captured = captured.unwrap_or(0);
        block.matched.add(matched);
        block.captured.add(captured);
        block.dropped.add(matched - captured);
    }
}

const _: () = assert!(BATCH == u64::BITS as usize);

/// Which of a batch may have what `pattern` says: a bit each.
#[inline(never)]
fn candidates(packets: &[Packet], pattern: &Pattern) -> u64 {
    let pattern = *pattern;
    let mut bits = 0;
    for (n, packet) in packets.iter().enumerate() {
        if packet.meta().vlan != 0 || !pattern.excludes(packet.data()) {
            bits |= 1 << (n % BATCH);
        }
    }
    bits
}

/// Which of the `wanted` ones the filter wants, and how many bytes of these at most.
#[inline(never)]
fn ask(
    how: (&Softint, &Seen, IfIndex),
    filter: &dyn Filter,
    framing: Framing,
    packets: &[Packet],
    (wanted, limits): (u64, &mut Limits),
) -> u64 {
    let (mut left, most) = (wanted, limits.most);
    let each = limits.each.insert([most; BATCH]);
    for (n, (packet, limit)) in packets.iter().zip(each).enumerate() {
        if wanted >> n & 1 != 0 {
            *limit = most.min(Frame::new(packet, framing).wanted(how, filter));
            left &= !(u64::from(*limit == 0) << n);
        }
    }
    left
}

/// Bytes to keep of the packets of a batch.
struct Limits {
    most: usize,
    /// Of each, if a filter said.
    each: Option<[usize; BATCH]>,
}

impl Limits {
    /// That of packet `n`, and how many of the `wanted` ones from there on have the same.
    #[inline]
    fn run(&self, n: usize, wanted: usize) -> (usize, usize) {
        let Some(each) = &self.each else { return (self.most, wanted) };
        let mut limits = each.iter().skip(n).take(wanted);
        let limit = limits.next().copied().unwrap_or(self.most);
        (limit, 1 + limits.take_while(|own| **own == limit).count())
    }
}

/// Copies the `wanted` ones, as many bytes of each as its limit says. How many there was room for.
#[inline(never)]
fn keep(
    ring: &mut Producer,
    when: (u64, u64),
    framing: Framing,
    packets: &[Packet],
    (wanted, limits): (u64, &Limits),
) -> u64 {
    let (mut captured, mut n) = (0, 0);
    while n < packets.len() {
        let ones = (wanted >> (n % BATCH)).trailing_ones() as usize;
        if ones == 0 {
            n += 1;
            continue;
        }
        let (limit, run) = limits.run(n, ones);
        let end = packets.len().min(n + run);
        // Forwarding has read the first line of each, and no more. Batches are mostly of one length: the first tells.
        if framing == Framing::Whole
            && (LINE + 1..=FEW).contains(&limit)
            && let Some(run @ [first, ..]) = packets.get(n..end)
            && first.data().len() > LINE
        {
            run.iter().for_each(|packet| packet.prefetch_at(LINE));
        }
        // As many as are easy to keep, and then one that is not.
        while let Some(rest @ [packet, ..]) = packets.get(n..end) {
            let kept = match framing {
                Framing::Bare => 0,
                Framing::Whole if limit <= FEW => {
                    wide::run(KeepFew { room: ring.room(), when, packets: rest, limit })
                }
                Framing::Whole => keep_simple(ring.room(), when, rest, limit),
            };
            captured += kept as u64;
            n += kept;
            if kept == 0 {
                captured += u64::from(keep_one(ring, when, Frame::new(packet, framing), limit));
                n += 1;
            }
        }
    }
    ring.commit();
    captured
}

/// Whether a packet's bytes are all that its frame has, in one piece.
#[inline(always)]
fn is_simple(packet: &Packet) -> bool {
    !packet.is_chain() & (packet.meta().vlan == 0)
}

/// Copies simple packets, `limit` bytes of each at most, until one is not or there is no room for it right here. How many.
fn keep_simple(mut room: Room<'_>, (ticks, place): (u64, u64), packets: &[Packet], limit: usize) -> usize {
    let keep = |packet: &&Packet| {
        let data = packet.data();
        let kept = data.get(..limit).unwrap_or(data);
        let record = if is_simple(packet) { room.push(HEADER + kept.len()) } else { None };
        let Some(record) = record else { return false };
        if let Some((head, rest)) = record.split_first_chunk_mut() {
            *head = header(packet, ticks, place | data.len() as u64);
            rest.copy_from_slice(kept);
        }
        true
    };
    packets.iter().take_while(keep).count()
}

/// The same where no more than [`FEW`] bytes are kept.
struct KeepFew<'a> {
    room: Room<'a>,
    when: (u64, u64),
    packets: &'a [Packet],
    limit: usize,
}

impl Work for KeepFew<'_> {
    type Result = usize;

    #[inline(always)]
    fn run(self) -> usize {
        let Self { mut room, when: (ticks, place), packets, limit } = self;
        let (mut count, limit) = (0, limit.min(FEW));
        for packet in packets {
            let len = packet.data().len();
            let kept = len.min(limit);
            let Some(window) = packet.window::<FEW>().filter(|_| is_simple(packet)) else { break };
            let done = room.push_within(HEADER + kept, |record: &mut [_; (HEADER + FEW) / records::WORD]| {
                let (head, bytes) = record.as_flattened_mut().split_at_mut(HEADER);
                let (line, rest) = bytes.split_at_mut(LINE);
                let (from, behind) = window.split_at(LINE);
                head.copy_from_slice(&header(packet, ticks, place | len as u64));
                line.copy_from_slice(from);
                if kept > LINE {
                    rest.copy_from_slice(behind);
                }
            });
            if !done {
                break;
            }
            count += 1;
        }
        count
    }
}

/// The same of any frame. Whether there was room.
#[cold]
#[inline(never)]
fn keep_one(ring: &mut Producer, (ticks, place): (u64, u64), frame: Frame<'_>, limit: usize) -> bool {
    let len = frame.len();
    ring.push(HEADER + limit.min(len), |record| {
        if let Some((head, rest)) = record.split_first_chunk_mut() {
            *head = header(frame.packet, ticks, place | u64::from(len as u32));
            frame.copy_out(0, rest);
        }
    })
}

/// What a record begins with.
#[inline(always)]
fn header(packet: &Packet, ticks: u64, what: u64) -> [u8; HEADER] {
    let meta = packet.meta();
    let checksum = match meta.checksum {
        Checksum::Unknown => 0,
        Checksum::Verified => 1,
        Checksum::Partial { .. } => 2,
    };
    let beside = u64::from(meta.gso.map_or(0, |gso| gso.size)) | checksum << 16;
    let mut bytes = [0; HEADER];
    for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip([ticks, what, beside]) {
        *to = word.to_le_bytes();
    }
    bytes
}

/// When and how packets passed a tap.
struct Seen {
    clock: fn() -> u64,
    /// When, once somebody wanted to know: nobody does who lets none pass.
    ticks: Cell<Option<u64>>,
    direction: Direction,
    reason: u8,
    /// The Ethernet type that all packets of the batch have, if that is known.
    kind: Option<u16>,
}

impl Seen {
    #[inline]
    fn ticks(&self) -> u64 {
        self.ticks.get().unwrap_or_else(|| {
            let now = (self.clock)();
            self.ticks.set(Some(now));
            now
        })
    }
}

/// A frame in a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// When its batch passed the tap, in ticks of [`Taps`]' clock.
    pub ticks: u64,
    /// Bytes of the whole frame.
    pub len: u32,
    /// The interface's number in the capture.
    pub interface: u16,
    /// Which way it went.
    pub direction: Direction,
    /// Why it was lost, if it was.
    pub reason: Option<Drop>,
    /// Payload of a segment, if it is a super-packet; else 0.
    pub gso: u16,
    /// Its transport checksum was verified by the device.
    pub verified: bool,
    /// Its transport checksum is to be finished by a device.
    pub owed: bool,
    /// Its first bytes.
    pub bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads what a tap wrote.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, bytes) = bytes.split_first_chunk::<HEADER>()?;
        let mut words = header.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        let (ticks, what, beside) = (words.next()?, words.next()?, words.next()?);
        Some(Self {
            ticks,
            len: what as u32,
            interface: (what >> 32) as u16,
            direction: *Direction::ALL.get((what >> 48 & 0xff) as usize)?,
            reason: Drop::ALL.get((what >> 56) as usize).copied(),
            gso: beside as u16,
            verified: beside >> 16 & 3 == 1,
            owed: beside >> 16 & 3 == 2,
            bytes,
        })
    }
}

/// What a packet's bytes lack of its frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Framing {
    /// Nothing, but for a tag that the device took out.
    Whole,
    /// The Ethernet header, which it has not got yet.
    Bare,
}

/// A packet as a frame of the wire.
#[derive(Clone, Copy)]
struct Frame<'p> {
    packet: &'p Packet,
    /// What is put in, and behind how many of its bytes; four or fourteen bytes of these count.
    put: [u8; ethernet::HEADER],
    puts: usize,
    at: usize,
}

impl<'p> Frame<'p> {
    #[inline]
    fn new(packet: &'p Packet, framing: Framing) -> Self {
        let tag = packet.meta().vlan;
        if tag == 0 && framing == Framing::Whole {
            return Self { packet, put: [0; ethernet::HEADER], puts: 0, at: 0 };
        }
        Self::with(packet, framing, tag)
    }

    #[cold]
    fn with(packet: &'p Packet, framing: Framing, tag: u16) -> Self {
        if framing == Framing::Bare {
            let six = packet.data().first().is_some_and(|first| first >> 4 == 6);
            let kind = if six { ethernet::IPV6 } else { ethernet::IPV4 };
            let put = ethernet::header([0; 6], [0; 6], kind);
            return Self { packet, put, puts: ethernet::HEADER, at: 0 };
        }
        let mut put = [0; ethernet::HEADER];
        let [[a, b], [c, d]] = [ethernet::VLAN, tag].map(u16::to_be_bytes);
        if let Some(four) = put.first_chunk_mut() {
            *four = [a, b, c, d];
        }
        Self { packet, put, puts: ethernet::TAG, at: 12.min(packet.data().len()) }
    }

    #[inline]
    fn len(&self) -> usize {
        self.packet.len() + self.puts
    }

    /// How many bytes `filter` wants; 0: not this one. A filter sees the frame as it is kept, with the tag that the device took
    /// out, all segments, and beside it where it is and which way it goes.
    #[inline(never)]
    fn wanted(&self, how: (&Softint, &Seen, IfIndex), filter: &dyn Filter) -> usize {
        if self.puts == 0 {
            return self.asked(how, filter, self.packet.data());
        }
        let mut bytes = [0; SEEN];
        let len = self.copy_out(0, &mut bytes);
        self.asked(how, filter, bytes.get(..len).unwrap_or(&[]))
    }

    #[inline]
    fn asked(&self, (cx, seen, at): (&Softint, &Seen, IfIndex), filter: &dyn Filter, head: &[u8]) -> usize {
        let len = self.len();
        let goes = seen.direction == Direction::Out || self.puts == ethernet::HEADER;
        let packet = weir_bpf::Packet {
            chain: if head.len() < len { Some(self) } else { None },
            wire_len: len as u32,
            interface: at.0.into(),
            hash: self.packet.meta().hash,
            cpu: cx.cpu().index() as u16,
            kind: match head.first() {
                _ if goes => PacketType::Outgoing,
                Some(first) if first & 1 == 0 => PacketType::Host,
                _ if head.starts_with(&ethernet::BROADCAST) => PacketType::Broadcast,
                _ => PacketType::Multicast,
            },
            ..weir_bpf::Packet::new(head)
        };
        filter.run(&packet) as usize
    }
}

impl Chain for Frame<'_> {
    #[cold]
    fn copy_out(&self, offset: usize, into: &mut [u8]) -> usize {
        if self.puts == 0 {
            return self.packet.copy_out(offset, into);
        }
        let mut copied = 0;
        // What is before it, what is put in, what is behind it: each from a place in the frame on.
        let put = self.put.get(..self.puts).unwrap_or(&[]);
        let parts =
            [(0, self.at, None), (self.at, self.puts, Some(put)), (self.at + self.puts, usize::MAX, None)];
        for (begin, len, bytes) in parts {
            let Some(rest) = into.get_mut(copied..) else { break };
            let Some(skip) = (offset + copied).checked_sub(begin).filter(|&skip| skip < len) else {
                continue;
            };
            let room = rest.len().min(len - skip);
            let Some(rest) = rest.get_mut(..room) else { break };
            copied += match bytes {
                Some(bytes) => {
                    rest.iter_mut().zip(bytes.iter().skip(skip)).for_each(|(to, byte)| *to = *byte);
                    room
                }
                None => self.packet.copy_out(if begin == 0 { skip } else { self.at + skip }, rest),
            };
        }
        copied
    }
}

/// All captures, and the flight recorder: what watches packets. One for the router, the same in each [`Snapshot`].
#[derive(Debug)]
pub struct Taps {
    /// `[I]` Ticks now.
    clock: fn() -> u64,
    /// `[A]` A bit for each place that somebody has. Task level (AcqRel: a new owner sees the place empty).
    taken: AtomicU32,
    /// `[A]` A bit for each place with a capture. Set (Release) after the capture is there, cleared before it is taken out; what a
    /// softint finds there (Acquire) is what counts.
    active: AtomicU32,
    /// `[P]`
    places: [Published<Option<Arc<Capture>>>; CAPTURES],
    /// The last drops and changes.
    pub recorder: Recorder,
}

impl Default for Taps {
    /// Without a clock or memory for the recorder.
    fn default() -> Self {
        Self::new(|| 0, 0)
    }
}

/// A capture that is attached.
#[derive(Debug)]
#[must_use = "it stays attached until `Taps::detach`"]
pub struct Attached(usize);

impl Taps {
    /// Without captures; `clock` says ticks, and the recorder has room for so many `entries` a CPU.
    pub fn new(clock: fn() -> u64, entries: usize) -> Self {
        Self {
            clock,
            taken: AtomicU32::new(0),
            active: AtomicU32::new(0),
            places: core::array::from_fn(|_| Published::new(Box::new(None))),
            recorder: Recorder::new(entries),
        }
    }

    /// Publishes a capture; `None` if [`CAPTURES`] are attached. A CPU sees it once its stack was told to
    /// [`listen`](crate::Stack::listen).
    pub fn attach(&self, cx: &Control, capture: &Arc<Capture>) -> Option<Attached> {
        let mut taken = self.taken.load(Ordering::Relaxed);
        let place = loop {
            let place = (!taken).trailing_zeros() as usize;
            if place >= CAPTURES {
                return None;
            }
            let with = taken | 1 << place;
            match self.taken.compare_exchange_weak(taken, with, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break place,
                Err(now) => taken = now,
            }
        };
        if let Some(here) = self.places.get(place) {
            drop(here.publish(cx, Box::new(Some(capture.clone()))));
        }
        self.active.fetch_or(1 << place, Ordering::Release);
        Some(Attached(place))
    }

    /// Takes a capture out, and waits for the turns that may have it: when this returns, no CPU writes to its rings any more.
    pub fn detach(&self, cx: &Control, Attached(place): Attached) {
        self.active.fetch_and(!(1 << place), Ordering::Release);
        if let Some(here) = self.places.get(place) {
            drop(here.publish(cx, Box::new(None)));
        }
        self.taken.fetch_and(!(1 << place), Ordering::AcqRel);
    }

    /// How many captures are attached.
    pub fn attached(&self) -> usize {
        self.active.load(Ordering::Relaxed).count_ones() as usize
    }

    /// Whether any capture is attached.
    #[inline]
    pub fn is_tapped(&self) -> bool {
        self.active.load(Ordering::Acquire) != 0
    }

    fn each(&self, cx: &Softint, mut show: impl FnMut(&Capture)) {
        let mut active = self.active.load(Ordering::Acquire);
        while active != 0 {
            let place = active.trailing_zeros() as usize;
            active &= active - 1;
            if let Some(Some(capture)) = self.places.get(place).map(|place| place.read(cx).as_ref()) {
                show(capture);
            }
        }
    }

    /// Shows a batch to all captures, as frames of the port or interface `at`; whole frames of one Ethernet `kind`, if that is
    /// known. Whether there are any captures.
    #[cold]
    #[inline(never)]
    pub(crate) fn pass(
        &self,
        cx: &Softint,
        snapshot: &Snapshot,
        direction: Direction,
        (at, kind): (IfIndex, Option<u16>),
        packets: &[Packet],
    ) -> bool {
        let seen = Seen { clock: self.clock, ticks: Cell::new(None), direction, reason: u8::MAX, kind };
        let has_vlans = direction == Direction::In
            && snapshot.interface(at).is_some_and(|interface| interface.has_vlans());
        self.each(cx, |capture| {
            if capture.directions & direction.bit() == 0 {
                return;
            }
            if has_vlans {
                let owner = |packet: &Packet| snapshot.owner(at, packet).unwrap_or(at);
                for packets in packets.chunk_by(|one, next| owner(one) == owner(next)) {
                    let at = packets.first().map_or(at, owner);
                    capture.take(cx, &seen, at, Framing::Whole, packets);
                }
            } else {
                capture.take(cx, &seen, at, Framing::Whole, packets);
            }
        });
        self.is_tapped()
    }

    /// Takes note of a packet that is about to be freed, and shows it to all captures.
    #[cold]
    #[inline(never)]
    pub(crate) fn dropped(&self, cx: &Softint, packet: &Packet, framing: Framing, reason: Drop) {
        let (ticks, interface) = ((self.clock)(), packet.meta().received);
        let frame = Frame::new(packet, framing);
        let len = frame.len();
        if frame.puts == 0 {
            self.recorder.dropped(cx, ticks, interface, reason, (len, packet.data()));
        } else {
            let mut head = [0; crate::recorder::HEAD];
            let head = head.get_mut(..len.min(crate::recorder::HEAD)).unwrap_or_default();
            frame.copy_out(0, head);
            self.recorder.dropped(cx, ticks, interface, reason, (len, head));
        }
        let (ticks, reason) = (Cell::new(Some(ticks)), reason as u8);
        let seen = Seen { clock: self.clock, ticks, direction: Direction::Drop, reason, kind: None };
        self.each(cx, |capture| {
            if capture.directions & Direction::Drop.bit() != 0 {
                capture.take(cx, &seen, interface, framing, core::slice::from_ref(packet));
            }
        });
    }

    /// Takes note of a frame that was lost outside the stack: between CPUs, or in a device's backlog.
    pub fn lost(&self, cx: &Softint, packet: &Packet, reason: Drop) {
        self.dropped(cx, packet, Framing::Whole, reason);
    }

    /// Takes note of a packet that was lost in pieces: nothing is left of it to show.
    pub(crate) fn vanished(&self, cx: &Softint, interface: IfIndex, reason: Drop) {
        self.recorder.dropped(cx, (self.clock)(), interface, reason, (0, &[]));
    }

    /// Takes note of a change of state.
    pub(crate) fn changed(&self, cx: &Softint, interface: IfIndex, what: What) {
        self.recorder.changed(cx, (self.clock)(), interface, what);
    }

    /// The newest entries of `cpu`'s recorder.
    pub fn of(&self, cpu: CpuId, most: usize) -> impl Iterator<Item = crate::recorder::Entry> {
        self.recorder.of(cpu, most)
    }
}
