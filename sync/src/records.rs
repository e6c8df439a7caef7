//! A ring of bytes from a CPU's softints to a task: records of any length, one producer, one consumer.
//!
//! A record lies in one piece. The producer writes records and gives them away together by [`Producer::commit`]; one that
//! finds no room is refused and leaves no trace, so the oldest stay. Neither end waits, allocates or frees.

use crate::atomic::{AtomicUsize, Ordering, UnsafeCell};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use crossbeam_utils::CachePadded;

/// Bytes of a word: records begin and end at multiples of it.
pub const WORD: usize = 8;
/// In place of a length: the next record is at the ring's beginning.
const SKIP: u64 = u64::MAX;

/// The writing end. `[C]` one CPU's; may be handed over whole.
///
/// ```compile_fail,E0599
/// let (producer, _consumer) = weir_sync::records::new(64).unwrap();
/// let second = producer.clone();
/// ```
#[derive(Debug)]
pub struct Producer {
    ring: Arc<Ring>,
    /// One past the last record that was written, committed or not.
    tail: usize,
    /// What `ring.head` was when last looked at: at least so much is free.
    head: usize,
    /// Words from `tail` on that are free for sure and lie in one piece.
    free: usize,
    /// Words of the longest record.
    longest: usize,
}

/// The reading end. `[C]` one task's; may be handed over whole.
///
/// ```compile_fail,E0599
/// let (_producer, consumer) = weir_sync::records::new(64).unwrap();
/// let second = consumer.clone();
/// ```
#[derive(Debug)]
pub struct Consumer {
    ring: Arc<Ring>,
    /// As `ring.head`, which only this end moves.
    head: usize,
    /// What `ring.tail` was when last looked at: at least so much is filled.
    tail: usize,
}

/// Indices count words, and run on for ever (wrapping); a word's place is its index modulo the size. `head ≤ tail ≤ head +
/// size`. A record is a word with its length in bytes, and the words that hold it.
#[derive(Debug)]
struct Ring {
    /// `[A]` One past the last committed word. Stored by the producer (Release), loaded by the consumer (Acquire).
    tail: CachePadded<AtomicUsize>,
    /// `[A]` The first word that is not free. Stored by the consumer (Release), loaded by the producer (Acquire).
    head: CachePadded<AtomicUsize>,
    /// Committed from `head` to `tail`: the consumer's; the others are the producer's. A power of two.
    words: Box<[UnsafeCell<u64>]>,
}

// SAFETY: a word is touched by one end at a time, as `tail` and `head` hand it over.
unsafe impl Sync for Ring {}
// SAFETY: as for `Sync`.
unsafe impl Send for Ring {}

/// A ring of at least `bytes` bytes: rounded up to a power of two, at least 64. `None`: there is no memory for it.
pub fn new(bytes: usize) -> Option<(Producer, Consumer)> {
    let size = bytes.max(64).checked_next_power_of_two()? / WORD;
    let mut words = Vec::new();
    words.try_reserve_exact(size).ok()?;
    words.resize_with(size, || UnsafeCell::new(0));
    let ring = Arc::new(Ring {
        tail: CachePadded::new(AtomicUsize::new(0)),
        head: CachePadded::new(AtomicUsize::new(0)),
        words: words.into(),
    });
    let producer = Producer { ring: ring.clone(), tail: 0, head: 0, free: 0, longest: size / 2 };
    Some((producer, Consumer { ring, head: 0, tail: 0 }))
}

impl Ring {
    #[inline]
    fn place(&self, index: usize) -> usize {
        index & (self.words.len() - 1)
    }

    #[inline]
    fn word(&self, index: usize) -> &UnsafeCell<u64> {
        &self.words[self.place(index)]
    }

    /// The first `len` bytes from word `index` on. A record does not go over the end.
    #[cfg(not(loom))]
    #[inline]
    fn bytes(&self, index: usize, len: usize) -> *mut u8 {
        let at = self.place(index);
        // A cell is as its value in memory, and the pointer is of all these words.
        self.words[at..at + len.div_ceil(WORD)].as_ptr().cast::<u8>().cast_mut()
    }

    /// Has `fill` write `len` bytes from word `index` on, which are the producer's.
    #[cfg(not(loom))]
    #[inline]
    fn fill(&self, index: usize, len: usize, fill: impl FnOnce(&mut [u8])) {
        // SAFETY: they are there, initialised, and this end's until `tail` passes them.
        fill(unsafe { core::slice::from_raw_parts_mut(self.bytes(index, len), len) });
    }

    /// Shows `look` `len` bytes from word `index` on, which are the consumer's.
    #[cfg(not(loom))]
    #[inline]
    fn look<R>(&self, index: usize, len: usize, look: impl FnOnce(&[u8]) -> R) -> R {
        // SAFETY: they are there, initialised, and this end's until `head` passes them.
        look(unsafe { core::slice::from_raw_parts(self.bytes(index, len), len) })
    }

    /// As above, word by word: so the model sees each access.
    #[cfg(loom)]
    fn fill(&self, index: usize, len: usize, fill: impl FnOnce(&mut [u8])) {
        let mut bytes = alloc::vec![0; len.next_multiple_of(WORD)];
        fill(&mut bytes[..len]);
        for (n, word) in bytes.chunks(WORD).enumerate() {
            // SAFETY: the model checks it.
            self.word(index + n).with_mut(|at| unsafe { *at = u64::from_le_bytes(word.try_into().unwrap()) });
        }
    }

    #[cfg(loom)]
    fn look<R>(&self, index: usize, len: usize, look: impl FnOnce(&[u8]) -> R) -> R {
        // SAFETY: the model checks it.
        let word = |n| self.word(index + n).with(|at| unsafe { *at });
        let bytes: Vec<u8> = (0..len.div_ceil(WORD)).flat_map(|n| word(n).to_le_bytes()).collect();
        look(&bytes[..len])
    }
}

impl Producer {
    /// Bytes of the longest record that an empty ring takes.
    pub fn longest(&self) -> usize {
        (self.longest - 1) * WORD
    }

    /// Has `fill` write a record of `len` bytes, which hold anything before. `false`, and nothing written, if there is no room
    /// for it. The consumer gets it by the next [`commit`](Self::commit).
    #[inline]
    #[must_use]
    pub fn push(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> bool {
        let words = 1 + len.div_ceil(WORD);
        if words > self.free.min(self.longest) && !self.make_room(words) {
            return false;
        }
        self.free -= words;
        // SAFETY: free, so this end's; the index that gives it away is stored in `commit`.
        self.ring.word(self.tail).with_mut(|at| unsafe { *at = len as u64 });
        self.ring.fill(self.tail.wrapping_add(1), len, fill);
        self.tail = self.tail.wrapping_add(words);
        true
    }

    /// The room that there is in one piece for all that is known here: quicker to fill than by [`push`](Self::push), which sees
    /// to more.
    #[cfg(not(loom))]
    #[inline]
    pub fn room(&mut self) -> Room<'_> {
        let at = self.ring.bytes(self.tail, self.free * WORD);
        // SAFETY: they are there, initialised, and this end's until `tail` passes them.
        let left = unsafe { core::slice::from_raw_parts_mut(at.cast(), self.free) };
        Room { longest: self.longest, left, producer: self }
    }

    /// Sees to it that so many words from `tail` on are free, at the ring's beginning if they do not lie in one piece here.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, words: usize) -> bool {
        if words > self.longest {
            return false;
        }
        let size = self.ring.words.len();
        let behind = size - self.ring.place(self.tail);
        let skip = if words > behind { behind } else { 0 };
        self.head = self.ring.head.load(Ordering::Acquire);
        let free = size - self.tail.wrapping_sub(self.head);
        if free < skip + words {
            return false;
        }
        if skip != 0 {
            // SAFETY: free, so this end's; the index that gives it away is stored in `commit`.
            self.ring.word(self.tail).with_mut(|at| unsafe { *at = SKIP });
            self.tail = self.tail.wrapping_add(skip);
        }
        self.free = (free - skip).min(size - self.ring.place(self.tail));
        true
    }

    /// Gives all that was written to the consumer.
    #[inline]
    pub fn commit(&mut self) {
        self.ring.tail.store(self.tail, Ordering::Release);
    }
}

/// Words to write records to. Dropping it gives back what is left.
#[cfg(not(loom))]
#[derive(Debug)]
pub struct Room<'p> {
    left: &'p mut [[u8; WORD]],
    longest: usize,
    producer: &'p mut Producer,
}

#[cfg(not(loom))]
impl Room<'_> {
    /// Where to write a record of `len` bytes, which hold anything before. `None`, and nothing taken, if it does not fit here:
    /// [`Producer::push`] may find room.
    #[inline(always)]
    pub fn push(&mut self, len: usize) -> Option<&mut [u8]> {
        let words = 1 + len.div_ceil(WORD);
        if words > self.left.len() || words > self.longest {
            return None;
        }
        let (record, rest) = core::mem::take(&mut self.left).split_at_mut(words);
        self.left = rest;
        let (first, bytes) = record.split_first_mut()?;
        *first = (len as u64).to_ne_bytes();
        bytes.as_flattened_mut().get_mut(..len)
    }

    /// Has `fill` write a record of `len` bytes, and what it likes behind it within `N` words: so copies may be of a length that
    /// is known. `false`, and nothing taken, if `N` words and one more are not here or are more than the longest record, or if the
    /// record is longer than `N`: [`Producer::push`] may take it.
    #[inline(always)]
    pub fn push_within<const N: usize>(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [[u8; WORD]; N]),
    ) -> bool {
        if len > N * WORD || N >= self.longest {
            return false;
        }
        let left = core::mem::take(&mut self.left);
        let done = left.split_first_mut().is_some_and(|(first, behind)| {
            let Some(words) = behind.first_chunk_mut() else { return false };
            *first = (len as u64).to_ne_bytes();
            fill(words);
            true
        });
        // As `div_ceil`, but for lengths that do not overflow.
        let words = if done { 1 + ((len + WORD - 1) >> WORD.ilog2()) } else { 0 };
        self.left = left.get_mut(words..).unwrap_or_default();
        done
    }
}

#[cfg(not(loom))]
impl Drop for Room<'_> {
    #[inline]
    fn drop(&mut self) {
        let written = self.producer.free - self.left.len();
        self.producer.tail = self.producer.tail.wrapping_add(written);
        self.producer.free -= written;
    }
}

impl Consumer {
    /// Shows `look` the oldest record, if there is one. It stays until [`advance`](Self::advance).
    #[inline]
    pub fn front<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let len = self.settle()?;
        Some(self.ring.look(self.head.wrapping_add(1), len, look))
    }

    /// Gives the oldest record's place back: the one that [`front`](Self::front) showed.
    #[inline]
    pub fn advance(&mut self) {
        if let Some(len) = self.settle() {
            self.head = self.head.wrapping_add(1 + len.div_ceil(WORD));
            self.ring.head.store(self.head, Ordering::Release);
        }
    }

    /// Goes to where the oldest record is, and says how long it is.
    #[inline]
    fn settle(&mut self) -> Option<usize> {
        if self.head == self.tail {
            self.tail = self.ring.tail.load(Ordering::Acquire);
            if self.head == self.tail {
                return None;
            }
        }
        match self.header() {
            SKIP => {
                // A record is behind it: both were committed together.
                self.head = self.head.wrapping_add(self.ring.words.len() - self.ring.place(self.head));
                Some(self.header() as usize)
            }
            len => Some(len as usize),
        }
    }

    #[inline]
    fn header(&self) -> u64 {
        // SAFETY: committed, so this end's.
        self.ring.word(self.head).with(|at| unsafe { *at })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::vec;

    fn push(producer: &mut Producer, record: &[u8]) -> bool {
        producer.push(record.len(), |bytes| bytes.copy_from_slice(record))
    }

    fn pop(consumer: &mut Consumer) -> Option<Vec<u8>> {
        let record = consumer.front(<[u8]>::to_vec)?;
        consumer.advance();
        Some(record)
    }

    #[test]
    fn what_is_not_committed_is_not_seen() {
        let (mut producer, mut consumer) = new(64).unwrap();
        assert!(push(&mut producer, &[1, 2, 3]));
        assert_eq!(pop(&mut consumer), None);
        producer.commit();
        assert_eq!(pop(&mut consumer), Some(vec![1, 2, 3]));
        assert_eq!(pop(&mut consumer), None);
        consumer.advance();
        assert_eq!(pop(&mut consumer), None, "nothing to advance over");
    }

    #[test]
    fn the_newest_is_refused_and_the_oldest_stay() {
        let (mut producer, mut consumer) = new(64).unwrap();
        assert_eq!(producer.longest(), 24);
        assert!(!push(&mut producer, &[0; 25]), "none that long");
        assert!(push(&mut producer, &[1; 24]) && push(&mut producer, &[2; 24]));
        assert!(!push(&mut producer, &[]), "no room for a length");
        producer.commit();
        assert_eq!(pop(&mut consumer), Some(vec![1; 24]));
        assert!(push(&mut producer, &[3; 24]), "its place is free again");
        producer.commit();
        assert_eq!([pop(&mut consumer), pop(&mut consumer)], [Some(vec![2; 24]), Some(vec![3; 24])]);
    }

    #[test]
    fn an_empty_ring_takes_the_longest_record_wherever_it_stands() {
        let (mut producer, mut consumer) = new(128).unwrap();
        let longest = producer.longest();
        for step in (0..40).map(|n| n % 9) {
            assert!(push(&mut producer, &vec![7; step]));
            producer.commit();
            assert_eq!(pop(&mut consumer), Some(vec![7; step]));
            assert!(push(&mut producer, &vec![9; longest]));
            producer.commit();
            assert_eq!(pop(&mut consumer), Some(vec![9; longest]));
        }
    }

    #[test]
    fn indices_may_wrap() {
        let (mut producer, mut consumer) = new(64).unwrap();
        let near_end = usize::MAX - 3;
        (producer.tail, producer.head, consumer.tail, consumer.head) =
            (near_end, near_end, near_end, near_end);
        producer.ring.tail.store(near_end, Ordering::Relaxed);
        producer.ring.head.store(near_end, Ordering::Relaxed);
        for n in 0..20 {
            assert!(push(&mut producer, &[n; 20]));
            producer.commit();
            assert_eq!(pop(&mut consumer), Some(vec![n; 20]));
        }
    }

    #[test]
    fn room_is_filled_as_by_pushes() {
        let (mut producer, mut consumer) = new(256).unwrap();
        let (mut sent, mut got) = (VecDeque::new(), 0_u32);
        for n in 0..5000_u32 {
            let record = vec![n as u8; n as usize * 7 % 60];
            let mut room = producer.room();
            let fits = if n % 2 == 0 {
                room.push(record.len()).map(|bytes| bytes.copy_from_slice(&record)).is_some()
            } else {
                room.push_within::<7>(record.len(), |words| {
                    words.fill([!0; WORD]);
                    words.as_flattened_mut()[..record.len()].copy_from_slice(&record);
                })
            };
            drop(room);
            let taken = fits || push(&mut producer, &record);
            let longest = producer.longest();
            assert!(producer.room().push(longest + 1).is_none(), "none that long");
            assert!(!producer.room().push_within::<25>(longest + 1, |_| ()), "nor so");
            if taken {
                sent.push_back(record);
            }
            if n % 3 == 0 {
                producer.commit();
            }
            if !taken || n % 5 == 0 {
                while let Some(record) = pop(&mut consumer) {
                    assert_eq!(Some(record), sent.pop_front());
                    got += 1;
                }
            }
        }
        assert!(got > 4000, "{got}");
    }

    #[test]
    fn no_memory_is_an_answer() {
        assert!(new(usize::MAX).is_none() && new(isize::MAX as usize / 2).is_none());
    }

    #[test]
    fn a_thread_gets_every_record_that_was_taken_whole_and_in_order() {
        const COUNT: u64 = if cfg!(miri) { 300 } else { 200_000 };
        let (mut producer, mut consumer) = new(4096).unwrap();
        std::thread::scope(|scope| {
            let sender = scope.spawn(move || {
                let mut refused = 0;
                for n in 0..COUNT {
                    let len = 8 + (n * 37 % 150) as usize;
                    let taken = producer.push(len, |bytes| {
                        bytes.fill(n as u8);
                        bytes[..8].copy_from_slice(&n.to_le_bytes());
                    });
                    refused += u64::from(!taken);
                    if n % 16 == 15 || n + 1 == COUNT {
                        producer.commit();
                    }
                    if !taken {
                        std::thread::yield_now();
                    }
                }
                refused
            });
            let (mut got, mut last) = (0, None);
            loop {
                let over = sender.is_finished();
                while let Some(record) = pop(&mut consumer) {
                    let n = u64::from_le_bytes(record[..8].try_into().unwrap());
                    assert!(last < Some(n), "in order");
                    assert_eq!(record.len(), 8 + (n * 37 % 150) as usize);
                    assert!(record[8..].iter().all(|&byte| byte == n as u8), "whole");
                    (got, last) = (got + 1, Some(n));
                }
                if over {
                    break;
                }
                std::thread::yield_now();
            }
            assert_eq!(got + sender.join().unwrap(), COUNT, "every one is here or was refused");
        });
    }

    proptest! {
        #[test]
        fn does_what_a_deque_of_that_room_does(
            bytes in 64..600_usize,
            ops in prop::collection::vec((0..4_u8, 0..130_usize), 0..200),
        ) {
            let (mut producer, mut consumer) = new(bytes).unwrap();
            let longest = producer.longest();
            let (mut open, mut like, mut next) = (VecDeque::new(), VecDeque::new(), 0_u8);
            for (op, len) in ops {
                match op {
                    0 | 1 => {
                        let record = vec![next; len];
                        let empty = open.is_empty() && like.is_empty();
                        let taken = push(&mut producer, &record);
                        prop_assert!(!taken || len <= longest);
                        prop_assert!(taken || len > longest || !empty, "an empty ring takes what is not too long");
                        if taken {
                            open.push_back(record);
                        }
                        next = next.wrapping_add(1);
                    }
                    2 => {
                        producer.commit();
                        like.append(&mut open);
                    }
                    _ => prop_assert_eq!(pop(&mut consumer), like.pop_front()),
                }
                let held: usize = open.iter().chain(&like).map(|record: &Vec<u8>| 8 + record.len()).sum();
                prop_assert!(held <= bytes.next_power_of_two());
            }
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::models::bounded;
    use loom::thread;

    /// Records of one, two and three words through eight: places are used again, and one record is behind a gap.
    #[test]
    fn records_arrive_whole_in_order_and_places_come_back() {
        bounded("records: five of them through eight words", Some(3), || {
            let (mut producer, mut consumer) = new(64).unwrap();
            let sender = thread::spawn(move || {
                let mut taken = Vec::new();
                for (n, len) in (0_u8..).zip([16, 8, 24, 0, 16]) {
                    if producer.push(len, |bytes| bytes.fill(n)) {
                        taken.push((n, len));
                    }
                    if n != 1 {
                        producer.commit();
                    }
                }
                taken
            });
            let mut got = Vec::new();
            let mut take = |consumer: &mut Consumer| {
                let Some(record) = consumer.front(<[u8]>::to_vec) else { return false };
                consumer.advance();
                got.push(record);
                true
            };
            (0..3).for_each(|_| {
                take(&mut consumer);
            });
            let taken = sender.join().unwrap();
            while take(&mut consumer) {}
            let like: Vec<_> = taken.into_iter().map(|(n, len)| alloc::vec![n; len]).collect();
            assert_eq!(got, like);
        });
    }
}
