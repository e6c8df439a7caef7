//! A bounded ring from one CPU to another: one producer, one consumer, whole batches at a time.
//!
//! Either end works in any context of its CPU. After a push the sender marks work pending on the other CPU
//! ([`Pending::raise`](crate::Pending::raise)), once a batch.

use crate::atomic::{AtomicUsize, Ordering, UnsafeCell};
use alloc::boxed::Box;
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use core::mem::MaybeUninit;
use crossbeam_utils::CachePadded;

/// The sending end. `[C]` one CPU's; may be handed over whole.
///
/// ```compile_fail,E0599
/// let (producer, _consumer) = weir_sync::ring::new::<u32>(8);
/// let second = producer.clone();
/// ```
#[derive(Debug)]
pub struct Producer<T> {
    slots: Arc<Slots<T>>,
    /// As `slots.tail`, which only this end moves.
    tail: usize,
    /// What `slots.head` was when last looked at: at least so much is free.
    head: usize,
}

/// The receiving end. `[C]` one CPU's; may be handed over whole.
///
/// ```compile_fail,E0599
/// let (_producer, consumer) = weir_sync::ring::new::<u32>(8);
/// let second = consumer.clone();
/// ```
#[derive(Debug)]
pub struct Consumer<T> {
    slots: Arc<Slots<T>>,
    /// As `slots.head`, which only this end moves.
    head: usize,
    /// What `slots.tail` was when last looked at: at least so much is filled.
    tail: usize,
}

/// Indices run on for ever (wrapping); a slot's place is its index modulo the size. `head ≤ tail ≤ head + size`.
#[derive(Debug)]
struct Slots<T> {
    /// `[A]` One past the last filled slot. Stored by the producer (Release), loaded by the consumer (Acquire).
    tail: CachePadded<AtomicUsize>,
    /// `[A]` The first filled slot. Stored by the consumer (Release), loaded by the producer (Acquire).
    head: CachePadded<AtomicUsize>,
    /// Filled from `head` to `tail`: the consumer's; the others are the producer's. A power of two.
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: a slot is touched by one end at a time, as `tail` and `head` hand it over; it moves `T`s between CPUs.
unsafe impl<T: Send> Sync for Slots<T> {}
// SAFETY: as for `Sync`.
unsafe impl<T: Send> Send for Slots<T> {}

/// A ring for at least `capacity` elements: rounded up to a power of two, at least 1.
pub fn new<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let slots = Arc::new(Slots {
        tail: CachePadded::new(AtomicUsize::new(0)),
        head: CachePadded::new(AtomicUsize::new(0)),
        slots: (0..capacity.next_power_of_two()).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
    });
    (Producer { slots: slots.clone(), tail: 0, head: 0 }, Consumer { slots, head: 0, tail: 0 })
}

impl<T> Slots<T> {
    /// The slots of `count` (at most the size) indices from `first` on, in order: up to the end of the ring and from
    /// its start.
    #[inline]
    fn run(&self, first: usize, count: usize) -> impl Iterator<Item = &UnsafeCell<MaybeUninit<T>>> {
        let at = first & (self.slots.len() - 1);
        let (start, end) = self.slots.split_at(at);
        let front = count.min(end.len());
        end[..front].iter().chain(&start[..count - front])
    }
}

impl<T> Producer<T> {
    /// How many elements the ring holds.
    pub fn capacity(&self) -> usize {
        self.slots.slots.len()
    }

    /// How many elements fit now: at least so many still do when the next push comes. Reads the consumer's cache line
    /// only if fewer than `wanted` fit for all that is known here.
    #[inline]
    pub fn room(&mut self, wanted: usize) -> usize {
        if self.capacity() - self.tail.wrapping_sub(self.head) < wanted {
            self.head = self.slots.head.load(Ordering::Acquire);
        }
        self.capacity() - self.tail.wrapping_sub(self.head)
    }

    /// Moves as many elements as fit, from the front; the rest stays. Returns how many went.
    #[inline]
    pub fn push_many<const N: usize>(&mut self, from: &mut ArrayVec<T, N>) -> usize {
        let count = from.len().min(self.room(from.len()));
        for (slot, value) in self.slots.run(self.tail, count).zip(from.drain(..count)) {
            // SAFETY: not filled, so this end's; the index that gives it away is stored below.
            slot.with_mut(|at| unsafe { at.write(MaybeUninit::new(value)) });
        }
        self.publish(count);
        count
    }

    /// Adds one element. It comes back if the ring is full.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), T> {
        if self.room(1) == 0 {
            return Err(value);
        }
        let slot = &self.slots.slots[self.tail & (self.capacity() - 1)];
        // SAFETY: as in `push_many`.
        slot.with_mut(|at| unsafe { at.write(MaybeUninit::new(value)) });
        self.publish(1);
        Ok(())
    }

    /// Gives the next `count` slots to the consumer.
    #[inline]
    fn publish(&mut self, count: usize) {
        if count != 0 {
            self.tail = self.tail.wrapping_add(count);
            self.slots.tail.store(self.tail, Ordering::Release);
        }
    }
}

impl<T> Consumer<T> {
    /// How many elements the ring holds.
    pub fn capacity(&self) -> usize {
        self.slots.slots.len()
    }

    /// How many elements wait, at least. Reads the producer's cache line only if fewer than `wanted` do for all that is
    /// known here.
    #[inline]
    pub fn waiting(&mut self, wanted: usize) -> usize {
        if self.tail.wrapping_sub(self.head) < wanted {
            self.tail = self.slots.tail.load(Ordering::Acquire);
        }
        self.tail.wrapping_sub(self.head)
    }

    /// Moves as many elements as wait and fit behind those in `into`. Returns how many came.
    #[inline]
    pub fn pop_many<const N: usize>(&mut self, into: &mut ArrayVec<T, N>) -> usize {
        let room = into.remaining_capacity();
        let count = room.min(self.waiting(room));
        into.extend(self.slots.run(self.head, count).map(|slot| {
            // SAFETY: filled, so this end's; the index that gives it back is stored below.
            let value = slot.with_mut(|at| unsafe { at.read() });
            // SAFETY: the producer wrote it; it is read once, as `head` passes it.
            unsafe { value.assume_init() }
        }));
        self.release(count);
        count
    }

    /// Takes the oldest element.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.waiting(1) == 0 {
            return None;
        }
        let slot = &self.slots.slots[self.head & (self.capacity() - 1)];
        // SAFETY: as in `pop_many`.
        let value = slot.with_mut(|at| unsafe { at.read() });
        self.release(1);
        // SAFETY: as in `pop_many`.
        Some(unsafe { value.assume_init() })
    }

    /// Gives the first `count` slots back to the producer.
    #[inline]
    fn release(&mut self, count: usize) {
        if count != 0 {
            self.head = self.head.wrapping_add(count);
            self.slots.head.store(self.head, Ordering::Release);
        }
    }
}

impl<T> Drop for Slots<T> {
    fn drop(&mut self) {
        let head = self.head.load(Ordering::Relaxed);
        let tail = self.tail.load(Ordering::Relaxed);
        for slot in self.run(head, tail.wrapping_sub(head)) {
            // SAFETY: between head and tail slots are filled, and `&mut self` means that both ends are gone.
            slot.with_mut(|at| unsafe { at.cast::<T>().drop_in_place() });
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    #[test]
    fn refuses_what_does_not_fit_and_gives_back_the_rest_in_order() {
        let (mut producer, mut consumer) = new(3);
        assert_eq!(producer.capacity(), 4);
        let mut batch: ArrayVec<u32, 8> = (0..6).collect();
        assert_eq!(producer.push_many(&mut batch), 4);
        assert_eq!(batch[..], [4, 5]);
        assert_eq!(producer.push(9), Err(9));
        let mut got: ArrayVec<u32, 3> = ArrayVec::new();
        got.push(7);
        assert_eq!(consumer.pop_many(&mut got), 2);
        assert_eq!(got[..], [7, 0, 1]);
        assert_eq!(producer.push_many(&mut batch), 2);
        assert!(core::iter::from_fn(|| consumer.pop()).eq([2, 3, 4, 5]));
    }

    #[test]
    fn a_ring_of_one_works() {
        let (mut producer, mut consumer) = new(0);
        for n in 0..3 {
            assert_eq!(producer.push(n), Ok(()));
            assert_eq!(producer.push(n), Err(n));
            assert_eq!(consumer.pop(), Some(n));
            assert_eq!(consumer.pop(), None);
        }
    }

    #[test]
    fn drops_what_is_left_once() {
        let value = Arc::new(());
        let (mut producer, mut consumer) = new(4);
        for _ in 0..3 {
            producer.push(value.clone()).unwrap();
            drop(consumer.pop());
        }
        (0..3).for_each(|_| producer.push(value.clone()).unwrap());
        assert_eq!(Arc::strong_count(&value), 4);
        drop(producer);
        assert_eq!(Arc::strong_count(&value), 4);
        drop(consumer);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn indices_may_wrap() {
        let (mut producer, mut consumer) = new(4);
        let near_end = usize::MAX - 1;
        (producer.tail, producer.head, consumer.tail, consumer.head) =
            (near_end, near_end, near_end, near_end);
        producer.slots.tail.store(near_end, Ordering::Relaxed);
        producer.slots.head.store(near_end, Ordering::Relaxed);
        let mut batch: ArrayVec<u32, 8> = (0..5).collect();
        assert_eq!(producer.push_many(&mut batch), 4);
        assert!(core::iter::from_fn(|| consumer.pop()).eq(0..4));
    }

    #[test]
    fn another_thread_gets_every_element_in_order() {
        const COUNT: usize = if cfg!(miri) { 500 } else { 200_000 };
        let (mut producer, mut consumer) = new(64);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let (mut next, mut batch) = (0, ArrayVec::<Box<usize>, 17>::new());
                while next < COUNT || !batch.is_empty() {
                    while next < COUNT && !batch.is_full() {
                        batch.push(Box::new(next));
                        next += 1;
                    }
                    if producer.push_many(&mut batch) == 0 {
                        std::thread::yield_now();
                    }
                }
            });
            let mut expected = 0;
            while expected < COUNT {
                let mut batch = ArrayVec::<Box<usize>, 32>::new();
                if consumer.pop_many(&mut batch) == 0 {
                    std::thread::yield_now();
                }
                for value in batch {
                    assert_eq!(*value, expected);
                    expected += 1;
                }
            }
        });
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push(usize),
        Pop(usize),
        PushOne,
        PopOne,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0..16_usize).prop_map(Op::Push),
            (0..16_usize).prop_map(Op::Pop),
            Just(Op::PushOne),
            Just(Op::PopOne)
        ]
    }

    proptest! {
        #[test]
        fn does_what_a_bounded_deque_does(capacity in 1..20_usize, ops in prop::collection::vec(op(), 0..80)) {
            let (mut producer, mut consumer) = new(capacity);
            let size = producer.capacity();
            let (mut like, mut next) = (VecDeque::new(), 0_u32);
            for op in ops {
                match op {
                    Op::Push(count) => {
                        let mut batch: ArrayVec<u32, 16> = (next..).take(count).collect();
                        let went = producer.push_many(&mut batch);
                        prop_assert_eq!(went, count.min(size - like.len()));
                        like.extend((next..).take(went));
                        next += went as u32;
                        prop_assert!(batch.into_iter().eq((next..).take(count - went)));
                    }
                    Op::Pop(count) => {
                        // The first elements fill the vector up to `count` free places.
                        let mut batch: ArrayVec<u32, 16> = (0..16 - count as u32).collect();
                        let came = consumer.pop_many(&mut batch);
                        prop_assert_eq!(came, count.min(like.len()));
                        let got: Vec<u32> = batch.drain(16 - count..).collect();
                        prop_assert!(got.into_iter().eq(like.drain(..came)));
                    }
                    Op::PushOne => {
                        let expected = if like.len() < size { Ok(()) } else { Err(next) };
                        prop_assert_eq!(producer.push(next), expected);
                        if expected.is_ok() {
                            like.push_back(next);
                            next += 1;
                        }
                    }
                    Op::PopOne => prop_assert_eq!(consumer.pop(), like.pop_front()),
                }
            }
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::models::check;
    use loom::thread;
    use std::vec::Vec;

    /// Three elements through a ring of two: every slot is handed over and back, and one is used twice.
    #[test]
    fn elements_arrive_whole_in_order_and_slots_come_back() {
        check("ring: three elements, one at a time, through two slots", || {
            let (mut producer, mut consumer) = new(2);
            let sender = thread::spawn(move || {
                let mut sent = 0_u32;
                for _ in 0..4 {
                    if sent < 3 && producer.push(sent).is_ok() {
                        sent += 1;
                    }
                }
                sent
            });
            let mut got: Vec<u32> = (0..3).filter_map(|_| consumer.pop()).collect();
            let sent = sender.join().unwrap();
            got.extend(core::iter::from_fn(|| consumer.pop()));
            assert!(got.into_iter().eq(0..sent));
        });
    }

    #[test]
    fn batches_arrive_whole_in_order() {
        check("ring: batches of two through two slots", || {
            let (mut producer, mut consumer) = new(2);
            let sender = thread::spawn(move || {
                let mut batch: ArrayVec<u32, 4> = (0..4).collect();
                (0..3).map(|_| producer.push_many(&mut batch)).sum::<usize>()
            });
            let mut got = ArrayVec::<u32, 4>::new();
            consumer.pop_many(&mut got);
            consumer.pop_many(&mut got);
            let sent = sender.join().unwrap();
            consumer.pop_many(&mut got);
            assert!(got.into_iter().eq(0..sent as u32));
        });
    }
}
