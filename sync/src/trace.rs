//! A CPU's ring of the last events (after BSD's KTR): always overwriting the oldest, read by any CPU while it runs.
//!
//! Each record is a seqlock. Whoever writes claims its record, so a softint may interrupt a task in the middle of one;
//! should the ring come round to that very record meanwhile, the newer event is lost and counted.

use crate::atomic::{AtomicU64, Ordering, fence};
use crate::event::Event;
use crate::rank;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use crossbeam_utils::CachePadded;

/// Bytes of a record in a dump.
pub const RECORD_BYTES: usize = 40;

/// The last events of one CPU. `[A]` Written on that CPU in any context, read by any.
#[derive(Debug)]
pub struct Trace {
    head: CachePadded<Head>,
    slots: Box<[Slot]>,
}

#[derive(Debug)]
struct Head {
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

impl Trace {
    /// Room for the last `records` events, 64 bytes each. `None`: there is no memory for it.
    pub fn new(records: usize) -> Option<Self> {
        let zero = || AtomicU64::new(0);
        let mut slots = Vec::new();
        slots.try_reserve_exact(records).ok()?;
        slots.resize_with(records, || Slot { sequence: zero(), words: core::array::from_fn(|_| zero()) });
        let head = CachePadded::new(Head { next: zero(), lost: zero() });
        Some(Self { head, slots: slots.into() })
    }

    /// Notes an event. On the CPU whose trace it is, in any context but interrupts; `time` is in TSC ticks.
    pub fn record(&self, event: Event, time: u64, words: [u64; 3]) {
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
        self.slots.get(ticket.checked_rem(self.slots.len() as u64)? as usize)
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
        self.last(cpu, self.slots.len())
    }

    /// The same of the newest `count` events.
    pub fn last(&self, cpu: u32, count: usize) -> impl Iterator<Item = Record> {
        let next = self.head.next.load(Ordering::Acquire);
        let count = count.min(self.slots.len()) as u64;
        (next.saturating_sub(count)..next).filter_map(move |ticket| self.read(ticket, cpu))
    }

    /// How many events found their record claimed by a writer that they interrupted.
    pub fn lost(&self) -> u64 {
        self.head.lost.load(Ordering::Relaxed)
    }
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

    /// Back from [`Hex`]; `None` if the text is anything else.
    pub fn from_hex(text: &str) -> Option<Record> {
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
        let mut bytes = [0; RECORD_BYTES];
        if pairs.is_empty() || pairs.len() > RECORD_BYTES {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = (digit(*high)? << 4 | digit(*low)?) as u8;
        }
        Some(Record::from_bytes(&bytes))
    }
}

/// `123456789 cpu0 Softint: source 3 begins`. Allocates nothing.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cpu{} {}", self.time, self.cpu, What(self))
    }
}

/// A record without time and CPU: `Softint: source 3 begins`.
#[derive(Debug)]
pub struct What<'a>(pub &'a Record);

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { event, words, .. } = self.0;
        let Some(event) = Event::numbered(*event) else {
            return write!(f, "event {event}: {words:x?}");
        };
        write!(f, "{}: ", event.name())?;
        let mut words = words.iter();
        let mut rest = event.format();
        while let Some((text, tail)) = rest.split_once('{') {
            let (style, tail) = tail.split_once('}').unwrap_or(("", ""));
            f.write_str(text)?;
            let word = words.next();
            let rank = word.and_then(|&word| rank::contention().get(usize::try_from(word).ok()?));
            match (word, style, rank) {
                (Some(word), "x", _) => write!(f, "{word:#x}")?,
                (Some(_), "rank", Some(rank)) => f.write_str(rank.name())?,
                (Some(word), ..) => write!(f, "{word}")?,
                (None, ..) => f.write_str("?")?,
            }
            rest = tail;
        }
        f.write_str(rest)
    }
}

/// A record's bytes in hexadecimal, trailing zeroes left out: what a line of text carries.
#[derive(Debug)]
pub struct Hex<'a>(pub &'a Record);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.to_bytes();
        let len = bytes.iter().rposition(|&byte| byte != 0).map_or(1, |last| last + 1);
        bytes.iter().take(len).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;
    use std::sync::atomic::AtomicBool as Flag;

    #[test]
    fn keeps_the_newest_in_order() {
        let trace = Trace::new(4).unwrap();
        for n in 0..7 {
            assert_eq!(trace.records(0).count(), 4.min(n as usize));
            trace.record(Event::Sleep, n, [n, 0, 0]);
        }
        assert!(trace.records(0).map(|record| record.time).eq(3..7));
        assert!(trace.last(0, 2).map(|record| record.time).eq(5..7));
        assert_eq!(trace.lost(), 0);
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let trace = Trace::new(0).unwrap();
        trace.record(Event::Sleep, 1, [0; 3]);
        assert_eq!(trace.records(0).count(), 0);
    }

    #[test]
    fn an_interrupted_writer_keeps_its_record() {
        let trace = Trace::new(2).unwrap();
        // As if a writer were interrupted within its record, and the ring came round.
        trace.head.next.store(1, Ordering::Relaxed);
        trace.slots[0].sequence.store(1, Ordering::Relaxed);
        (0..3).for_each(|n| trace.record(Event::Sleep, n, [n, 0, 0]));
        assert_eq!(trace.lost(), 1);
        assert!(trace.records(0).map(|record| record.time).eq([2]));
    }

    #[test]
    fn readers_see_whole_records_only() {
        const EVENTS: u64 = if cfg!(miri) { 200 } else { 200_000 };
        let trace = Trace::new(8).unwrap();
        let stop = Flag::new(false);
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
            (0..EVENTS).for_each(|n| trace.record(Event::Raise, n, [n, n * 3, !n]));
            stop.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn a_record_is_a_line() {
        let record = |event, words| Record { time: 20, cpu: 1, event, words }.to_string();
        assert_eq!(record(Event::Raise as u32, [5, 2, 0]), "20 cpu1 Raise: raises source 5 of cpu 2");
        assert_eq!(record(Event::Wake as u32, [0xff, 0, 0]), "20 cpu1 Wake: wakes, pending 0xff");
        let heap = <rank::Heap as rank::Rank>::NUMBER as u64;
        assert_eq!(
            record(Event::Contended as u32, [heap, 7, 0]),
            "20 cpu1 Contended: Heap taken after 7 spins"
        );
        assert_eq!(record(Event::Contended as u32, [99, 7, 0]), "20 cpu1 Contended: 99 taken after 7 spins");
        assert_eq!(record(9999, [1, 2, 3]), "20 cpu1 event 9999: [1, 2, 3]");
    }

    proptest! {
        #[test]
        fn records_survive_a_dump(time: u64, cpu: u32, event: u32, words: [u64; 3]) {
            let record = Record { time, cpu, event, words };
            prop_assert_eq!(Record::from_bytes(&record.to_bytes()), record);
        }

        #[test]
        fn records_survive_a_line(time: u64, cpu: u32, event: u32, words: [u64; 3], zeroes in 0usize..4) {
            let words = core::array::from_fn(|n| if n < zeroes { words[n] } else { 0 });
            let record = Record { time, cpu, event, words };
            prop_assert_eq!(Record::from_hex(&Hex(&record).to_string()), Some(record));
        }

        #[test]
        fn any_text_is_a_record_or_none(text in ".{0,90}") {
            let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let fits = text.len() % 2 == 0 && (2..=2 * RECORD_BYTES).contains(&text.len());
            prop_assert_eq!(Record::from_hex(&text).is_some(), hex && fits);
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

    fn note(trace: &Trace, time: u64) {
        trace.record(Event::Sleep, time, [time + 1, time + 2, time + 3]);
    }

    #[test]
    fn a_reader_gets_whole_records_or_none() {
        bounded("trace: two events over one record against a reader", Some(3), || {
            let trace = Arc::new(Trace::new(1).unwrap());
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
            let trace = Arc::new(Trace::new(1).unwrap());
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
