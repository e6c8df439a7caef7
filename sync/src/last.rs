//! The last records of one CPU's softints: always overwriting the oldest, read by any CPU while they go on.

use crate::atomic::{AtomicU64, Ordering, fence};
use crate::cpu::Softint;
use alloc::boxed::Box;
use crossbeam_utils::CachePadded;

/// Room for the last records of `WORDS` words. `[A]` Written by one CPU's softints, read by any in any context, a panic's too.
#[derive(Debug)]
pub struct Last<const WORDS: usize> {
    /// `[A]` Records so far; the next goes to its number modulo the size. Stored by the writer after its record (Release).
    count: CachePadded<AtomicU64>,
    slots: Box<[Slot<WORDS>]>,
}

#[derive(Debug)]
#[repr(align(64))]
struct Slot<const WORDS: usize> {
    /// `[A]` 0 never written; 2*n* + 1 record *n* is being written; 2*n* + 2 it is there. Writer: odd, Release fence, words,
    /// even (Release). Reader: even (Acquire), words, Acquire fence, the same still.
    sequence: AtomicU64,
    /// `[A]` Relaxed.
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> Last<WORDS> {
    /// Room for the last `records`.
    pub fn new(records: usize) -> Self {
        let zero = || AtomicU64::new(0);
        let slot = || Slot { sequence: zero(), words: core::array::from_fn(|_| zero()) };
        Self { count: CachePadded::new(zero()), slots: (0..records).map(|_| slot()).collect() }
    }

    /// Notes a record: in softints of the one CPU that writes here.
    pub fn note(&self, _: &Softint, words: [u64; WORDS]) {
        let number = self.count.load(Ordering::Relaxed);
        let Some(slot) = self.slot(number) else { return };
        slot.sequence.store(2 * number + 1, Ordering::Relaxed);
        // A reader that sees one of the words sees the odd number: pairs with the fence in `read`.
        fence(Ordering::Release);
        for (to, word) in slot.words.iter().zip(words) {
            to.store(word, Ordering::Relaxed);
        }
        slot.sequence.store(2 * number + 2, Ordering::Release);
        self.count.store(number + 1, Ordering::Release);
    }

    fn slot(&self, number: u64) -> Option<&Slot<WORDS>> {
        self.slots.get(number.checked_rem(self.slots.len() as u64)? as usize)
    }

    /// Record `number` if it is there, whole and not overwritten.
    fn read(&self, number: u64) -> Option<[u64; WORDS]> {
        let slot = self.slot(number)?;
        if slot.sequence.load(Ordering::Acquire) != 2 * number + 2 {
            return None;
        }
        let words = core::array::from_fn(|n| slot.words[n].load(Ordering::Relaxed));
        // Pairs with the fence in `note`.
        fence(Ordering::Acquire);
        (slot.sequence.load(Ordering::Relaxed) == 2 * number + 2).then_some(words)
    }

    /// The newest `most` that are there, the newest first; those overwritten meanwhile are left out.
    pub fn newest(&self, most: usize) -> impl Iterator<Item = [u64; WORDS]> {
        let count = self.count.load(Ordering::Acquire);
        let most = most.min(self.slots.len()) as u64;
        (count.saturating_sub(most)..count).rev().filter_map(|number| self.read(number))
    }

    /// How many there have been.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::cpu::claim_any;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn keeps_the_newest() {
        let last = Last::<2>::new(3);
        let mut cpu = claim_any().unwrap();
        assert_eq!(last.newest(9).count(), 0);
        (0..5).for_each(|n| cpu.softint(|cx| last.note(cx, [n, n * 2])));
        assert!(last.newest(9).eq([[4, 8], [3, 6], [2, 4]]));
        assert!(last.newest(1).eq([[4, 8]]));
        assert_eq!(last.count(), 5);
        cpu.softint(|cx| Last::<1>::new(0).note(cx, [1]));
    }

    #[test]
    fn readers_see_whole_records_only() {
        const RECORDS: u64 = if cfg!(miri) { 200 } else { 100_000 };
        let (last, stop) = (Last::<3>::new(4), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for [n, triple, not] in last.newest(4) {
                        assert_eq!([triple, not], [n * 3, !n]);
                    }
                }
            });
            let mut cpu = claim_any().unwrap();
            (0..RECORDS).for_each(|n| cpu.softint(|cx| last.note(cx, [n, n * 3, !n])));
            stop.store(true, Ordering::Relaxed);
        });
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::cpu::Cpu;
    use crate::models::bounded;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn a_reader_gets_whole_records_or_none() {
        bounded("last: two records over one against a reader", Some(3), || {
            let last = Arc::new(Last::<2>::new(1));
            let reader = {
                let last = last.clone();
                thread::spawn(move || last.newest(1).for_each(|[a, b]| assert_eq!(a + 1, b)))
            };
            let mut cpu = Cpu::of_model(0);
            cpu.softint(|cx| [10, 20, 30].map(|n| last.note(cx, [n, n + 1])));
            reader.join().unwrap();
        });
    }
}
