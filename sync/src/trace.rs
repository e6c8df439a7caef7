//! A CPU's ring of the last events (after BSD's KTR): always overwriting the oldest, read by any CPU while it runs.
//!
//! Each record is a seqlock. Whoever writes claims its record, so a softint may interrupt a task in the middle of one;
//! should the ring come round to that very record meanwhile, the newer event is lost and counted.

use crate::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use crate::event::Event;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use crossbeam_utils::CachePadded;

/// Bytes of a record in a dump.
pub const RECORD_BYTES: usize = 40;

/// The last `RECORDS` events of one CPU, off at first. `[A]` Written on that CPU in any context, read by any.
#[derive(Debug)]
pub struct Trace<const RECORDS: usize> {
    head: CachePadded<Head>,
    slots: [Slot; RECORDS],
}

#[derive(Debug)]
struct Head {
    /// `[A]` Written by control, read by the CPU, no order needed.
    on: AtomicBool,
    /// `[A]` The next ticket. Ticket *t* goes to slot *t* modulo the size.
    next: AtomicU64,
    /// `[A]` Events that found their slot claimed.
    lost: AtomicU64,
}

#[derive(Debug)]
#[repr(align(64))]
struct Slot {
    /// `[A]` 0 never written; 2*t* + 1 ticket *t* is being written; 2*t* + 2 it is there. Writer: odd, Release fence,
    /// words, even (Release). Reader: even (Acquire), words, Acquire fence, the same still.
    sequence: AtomicU64,
    /// `[A]` Time, event, three words; relaxed.
    words: [AtomicU64; 5],
}

/// One event as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// TSC ticks.
    pub time: u64,
    /// The CPU's number.
    pub cpu: u32,
    /// The [`Event`]'s number: a decoder may be older than the image.
    pub event: u32,
    /// What the event's format takes.
    pub words: [u64; 3],
}

impl<const RECORDS: usize> Trace<RECORDS> {
    /// Empty and off. All zeroes, so that it costs no image space.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            head: CachePadded::new(Head {
                on: AtomicBool::new(false),
                next: AtomicU64::new(0),
                lost: AtomicU64::new(0),
            }),
            slots: [const { Slot { sequence: AtomicU64::new(0), words: [const { AtomicU64::new(0) }; 5] } };
                RECORDS],
        }
    }

    /// Empty and off.
    #[cfg(loom)]
    pub fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            head: CachePadded::new(Head { on: AtomicBool::new(false), next: zero(), lost: zero() }),
            slots: core::array::from_fn(|_| Slot {
                sequence: zero(),
                words: core::array::from_fn(|_| zero()),
            }),
        }
    }

    /// Starts or stops recording.
    pub fn switch(&self, to: Switch) {
        self.head.on.store(to == Switch::On, Ordering::Relaxed);
    }

    /// Whether events are recorded.
    #[inline(always)]
    pub fn is_on(&self) -> bool {
        self.head.on.load(Ordering::Relaxed)
    }

    /// Notes an event. Off, this is a load and a branch; `time` and `words` are not evaluated.
    #[inline(always)]
    pub fn note(&self, event: Event, time: impl FnOnce() -> u64, words: impl FnOnce() -> [u64; 3]) {
        if self.is_on() {
            self.record(event, time(), words());
        }
    }

    #[cold]
    fn record(&self, event: Event, time: u64, words: [u64; 3]) {
        let ticket = self.head.next.fetch_add(1, Ordering::Relaxed);
        let Some(slot) = self.slot(ticket) else { return };
        let before = slot.sequence.load(Ordering::Relaxed);
        // Acquire: the words go in after those of the writer before.
        let claimed = before % 2 == 0
            && slot
                .sequence
                .compare_exchange(before, 2 * ticket + 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        if !claimed {
            self.head.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // A reader that sees one of the words sees the odd number: pairs with the fence in `read`.
        fence(Ordering::Release);
        let [a, b, c] = words;
        for (to, word) in slot.words.iter().zip([time, event as u64, a, b, c]) {
            to.store(word, Ordering::Relaxed);
        }
        slot.sequence.store(2 * ticket + 2, Ordering::Release);
    }

    fn slot(&self, ticket: u64) -> Option<&Slot> {
        self.slots.get((ticket % RECORDS.max(1) as u64) as usize)
    }

    /// Event `ticket` if it is there, whole and not overwritten.
    fn read(&self, ticket: u64, cpu: u32) -> Option<Record> {
        let slot = self.slot(ticket)?;
        if slot.sequence.load(Ordering::Acquire) != 2 * ticket + 2 {
            return None;
        }
        let [time, event, words @ ..]: [u64; 5] =
            core::array::from_fn(|n| slot.words[n].load(Ordering::Relaxed));
        // Pairs with the fence in `record`.
        fence(Ordering::Acquire);
        if slot.sequence.load(Ordering::Relaxed) != 2 * ticket + 2 {
            return None;
        }
        Some(Record { time, cpu, event: event as u32, words })
    }

    /// The records that are there, oldest first; those overwritten meanwhile are left out. From any CPU, in any
    /// context, a panic's too. `cpu` is whose trace it is.
    pub fn records(&self, cpu: u32) -> impl Iterator<Item = Record> {
        let next = self.head.next.load(Ordering::Acquire);
        (next.saturating_sub(RECORDS as u64)..next).filter_map(move |ticket| self.read(ticket, cpu))
    }

    /// How many events found their record claimed by a writer that they interrupted.
    pub fn lost(&self) -> u64 {
        self.head.lost.load(Ordering::Relaxed)
    }
}

impl<const RECORDS: usize> Default for Trace<RECORDS> {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a trace records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Switch {
    /// Every event.
    On,
    /// Nothing.
    Off,
}

impl Record {
    /// As in a dump: time, CPU, event, three words, little-endian.
    pub fn to_bytes(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let head = [self.time, u64::from(self.event) << 32 | u64::from(self.cpu)];
        for (to, word) in bytes.chunks_exact_mut(8).zip(head.iter().chain(&self.words)) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Back from a dump.
    pub fn from_bytes(bytes: &[u8; RECORD_BYTES]) -> Record {
        let [time, head, words @ ..]: [u64; 5] =
            core::array::from_fn(|n| u64::from_le_bytes(core::array::from_fn(|byte| bytes[8 * n + byte])));
        Record { time, cpu: head as u32, event: (head >> 32) as u32, words }
    }
}

/// `123456789 cpu0 Softint: source 3 begins`. Allocates nothing.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cpu{} ", self.time, self.cpu)?;
        let Some(event) = Event::numbered(self.event) else {
            return write!(f, "event {}: {:x?}", self.event, self.words);
        };
        write!(f, "{}: ", event.name())?;
        let mut words = self.words.iter();
        let mut rest = event.format();
        while let Some((text, tail)) = rest.split_once('{') {
            let (style, tail) = tail.split_once('}').unwrap_or(("", ""));
            f.write_str(text)?;
            match (words.next(), style) {
                (Some(word), "x") => write!(f, "{word:#x}")?,
                (Some(word), _) => write!(f, "{word}")?,
                (None, _) => f.write_str("?")?,
            }
            rest = tail;
        }
        f.write_str(rest)
    }
}

/// The lines of a dump: records one after another, of any CPUs, in the order of time. Bytes that make no whole record
/// are said to be left over.
pub fn decode(bytes: &[u8]) -> Vec<String> {
    let (records, rest) = bytes.as_chunks::<RECORD_BYTES>();
    let mut records: Vec<_> = records.iter().map(Record::from_bytes).collect();
    records.sort_by_key(|record| record.time);
    let mut lines: Vec<_> = records.iter().map(Record::to_string).collect();
    if !rest.is_empty() {
        lines.push(alloc::format!("{} bytes left over", rest.len()));
    }
    lines
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::AtomicBool as Flag;

    #[test]
    fn records_nothing_while_off() {
        let trace = Trace::<4>::new();
        trace.note(Event::Task, || panic!("evaluated"), || [0; 3]);
        assert_eq!(trace.records(0).count(), 0);
    }

    #[test]
    fn keeps_the_newest_in_order() {
        let trace = Trace::<4>::new();
        trace.switch(Switch::On);
        for n in 0..7 {
            assert_eq!(trace.records(0).count(), 4.min(n as usize));
            trace.note(Event::Timer, || n, || [n, 0, 0]);
        }
        trace.switch(Switch::Off);
        trace.note(Event::Timer, || 9, || [9, 0, 0]);
        assert!(trace.records(0).map(|record| record.time).eq(3..7));
        assert_eq!(trace.lost(), 0);
    }

    #[test]
    fn an_interrupted_writer_keeps_its_record() {
        let trace = Trace::<2>::new();
        trace.switch(Switch::On);
        // As if a writer were interrupted within its record, and the ring came round.
        trace.head.next.store(1, Ordering::Relaxed);
        trace.slots[0].sequence.store(1, Ordering::Relaxed);
        (0..3).for_each(|n| trace.note(Event::Timer, || n, || [n, 0, 0]));
        assert_eq!(trace.lost(), 1);
        assert!(trace.records(0).map(|record| record.time).eq([2]));
    }

    #[test]
    fn readers_see_whole_records_only() {
        const EVENTS: u64 = if cfg!(miri) { 200 } else { 200_000 };
        let trace = Trace::<8>::new();
        let stop = Flag::new(false);
        trace.switch(Switch::On);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let mut last = None;
                    for Record { time, words, .. } in trace.records(0) {
                        assert_eq!(words, [time, time * 3, !time]);
                        assert!(last < Some(time));
                        last = Some(time);
                    }
                }
            });
            (0..EVENTS).for_each(|n| trace.note(Event::Raise, || n, || [n, n * 3, !n]));
            stop.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn a_dump_becomes_lines_in_the_order_of_time() {
        let records = [
            Record { time: 30, cpu: 1, event: Event::Wake as u32, words: [0xff, 0, 0] },
            Record { time: 20, cpu: 0, event: Event::Raise as u32, words: [5, 1, 1] },
            Record { time: 40, cpu: 0, event: 9999, words: [1, 2, 3] },
        ];
        let mut bytes: Vec<u8> = records.iter().flat_map(Record::to_bytes).collect();
        bytes.push(0);
        assert_eq!(
            decode(&bytes),
            [
                "20 cpu0 Raise: raises source 5 of cpu 1, interrupt 1",
                "30 cpu1 Wake: wakes, pending 0xff",
                "40 cpu0 event 9999: [1, 2, 3]",
                "1 bytes left over",
            ]
        );
    }

    proptest! {
        #[test]
        fn records_survive_a_dump(time: u64, cpu: u32, event: u32, words: [u64; 3]) {
            let record = Record { time, cpu, event, words };
            prop_assert_eq!(Record::from_bytes(&record.to_bytes()), record);
        }

        #[test]
        fn any_bytes_decode(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decode(&bytes).len(), bytes.len().div_ceil(RECORD_BYTES));
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::models::bounded;
    use loom::sync::Arc;
    use loom::thread;

    fn whole(record: &Record) {
        assert_eq!(record.words, [record.time + 1, record.time + 2, record.time + 3]);
    }

    fn note(trace: &Trace<1>, time: u64) {
        trace.record(Event::Timer, time, [time + 1, time + 2, time + 3]);
    }

    #[test]
    fn a_reader_gets_whole_records_or_none() {
        bounded("trace: two events over one record against a reader", Some(3), || {
            let trace = Arc::new(Trace::<1>::new());
            note(&trace, 10);
            let reader = {
                let trace = trace.clone();
                thread::spawn(move || trace.records(0).for_each(|record| whole(&record)))
            };
            note(&trace, 20);
            note(&trace, 30);
            reader.join().unwrap();
        });
    }

    #[test]
    fn writers_that_interrupt_each_other_leave_whole_records() {
        bounded("trace: two writers on one record", Some(4), || {
            let trace = Arc::new(Trace::<1>::new());
            let other = {
                let trace = trace.clone();
                thread::spawn(move || note(&trace, 10))
            };
            note(&trace, 20);
            trace.records(0).for_each(|record| whole(&record));
            other.join().unwrap();
            trace.records(0).for_each(|record| whole(&record));
        });
    }
}
