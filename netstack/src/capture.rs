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
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};
use weir_netif::{Checksum, Drop, IfIndex, Packet};
use weir_sync::records::{self, Consumer, Producer};
use weir_sync::{Control, Counter, CpuId, Owned, PerCpu, Published, Softint};

/// Captures at a time.
pub const CAPTURES: usize = 4;
/// Bytes of a record before those of the frame.
const HEADER: usize = 24;
/// Longest frame that is kept: a super-packet with a tag.
pub const MAX_SNAPLEN: u32 = 1 << 17;
/// Bytes that a filter sees of a frame that is not as it was on the wire: one whose tag the device took out.
const SEEN: usize = 256;

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

/// What decides which frames are kept.
pub trait Filter: Send + Sync + fmt::Debug {
    /// Bytes to keep of a frame that begins with `frame` and has `len` bytes; 0: it is not wanted. In softint context.
    fn run(&self, frame: &[u8], len: u32) -> u32;
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
    /// Which; `None`: all.
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
    filter: Option<Box<dyn Filter>>,
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

    /// Takes copies of frames that are of interface `number`.
    fn take<'p>(&self, cx: &Softint, seen: &Seen, number: u16, frames: impl Iterator<Item = Frame<'p>>) {
        let side = self.sides.of(cx.cpu());
        let Some(block) = side.blocks.get(usize::from(number)) else { return };
        let mut counts = Counts::default();
        side.ring.with(cx, |ring| {
            let Some(ring) = ring else { return };
            for frame in frames {
                counts.received += 1;
                let len = frame.len();
                let wanted = match &self.filter {
                    None => self.snaplen,
                    Some(filter) => match frame.filtered(&**filter, len) {
                        0 => continue,
                        wanted => self.snaplen.min(wanted as usize),
                    },
                };
                counts.matched += 1;
                let kept = wanted.min(len);
                let head = seen.header(number, &frame, len as u32);
                let taken = ring.push(HEADER + kept, |bytes| {
                    if let Some((to, rest)) = bytes.split_first_chunk_mut() {
                        *to = head;
                        frame.copy(rest);
                    }
                });
                counts.captured += u64::from(taken);
            }
            ring.commit();
        });
        block.received.add(counts.received);
        block.matched.add(counts.matched);
        block.captured.add(counts.captured);
        block.dropped.add(counts.matched - counts.captured);
    }
}

/// When and how frames passed a tap.
struct Seen {
    ticks: u64,
    direction: Direction,
    reason: u8,
}

impl Seen {
    #[inline]
    fn header(&self, number: u16, frame: &Frame<'_>, len: u32) -> [u8; HEADER] {
        let meta = frame.packet.meta();
        let checksum = match meta.checksum {
            Checksum::Unknown => 0,
            Checksum::Verified => 1,
            Checksum::Partial { .. } => 2,
        };
        let gso = meta.gso.map_or(0, |gso| gso.size);
        let what = u64::from(len)
            | u64::from(number) << 32
            | u64::from(self.direction as u8) << 48
            | u64::from(self.reason) << 56;
        let beside = u64::from(gso) | checksum << 16;
        let mut bytes = [0; HEADER];
        for (to, word) in bytes.chunks_exact_mut(8).zip([self.ticks, what, beside]) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
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

    /// The first bytes, as many as fit.
    #[inline]
    fn copy(&self, into: &mut [u8]) {
        let data = self.packet.data();
        if let (0, Some(data)) = (self.puts, data.get(..into.len())) {
            into.copy_from_slice(data);
        } else {
            self.copy_parts(into);
        }
    }

    #[cold]
    fn copy_parts(&self, into: &mut [u8]) {
        let at = self.at.min(into.len());
        let (before, rest) = into.split_at_mut(at);
        self.packet.copy_out(0, before);
        let puts = self.puts.min(rest.len());
        let (between, behind) = rest.split_at_mut(puts);
        between.iter_mut().zip(self.put).for_each(|(to, byte)| *to = byte);
        self.packet.copy_out(at, behind);
    }

    /// A filter sees the first segment, which has all headers.
    #[inline]
    fn filtered(&self, filter: &dyn Filter, len: usize) -> u32 {
        if self.puts == 0 {
            return filter.run(self.packet.data(), len as u32);
        }
        let mut bytes = [0; SEEN];
        let seen = bytes.get_mut(..len.min(SEEN)).unwrap_or_default();
        self.copy(seen);
        filter.run(seen, len as u32)
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

    /// Shows a batch to all captures, as frames of the port or interface `at`. Whether there are any.
    #[cold]
    #[inline(never)]
    pub(crate) fn pass(
        &self,
        cx: &Softint,
        snapshot: &Snapshot,
        direction: Direction,
        at: IfIndex,
        packets: &[Packet],
    ) -> bool {
        let seen = Seen { ticks: (self.clock)(), direction, reason: u8::MAX };
        let has_vlans = direction == Direction::In
            && snapshot.interface(at).is_some_and(|interface| interface.has_vlans());
        self.each(cx, |capture| {
            if capture.directions & direction.bit() == 0 {
                return;
            }
            let frame = |packet| Frame::new(packet, Framing::Whole);
            if has_vlans {
                for packet in packets {
                    let owner = snapshot.owner(at, packet).unwrap_or(at);
                    if let Some(number) = capture.number(owner) {
                        capture.take(cx, &seen, number, [frame(packet)].into_iter());
                    }
                }
            } else if let Some(number) = capture.number(at) {
                capture.take(cx, &seen, number, packets.iter().map(frame));
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
            frame.copy(head);
            self.recorder.dropped(cx, ticks, interface, reason, (len, head));
        }
        let seen = Seen { ticks, direction: Direction::Drop, reason: reason as u8 };
        self.each(cx, |capture| {
            if capture.directions & Direction::Drop.bit() != 0
                && let Some(number) = capture.number(interface)
            {
                capture.take(cx, &seen, number, [frame].into_iter());
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
