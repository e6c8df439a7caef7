//! A snapshot behind one pointer: readers pay one load, writers replace it whole.

use crate::atomic::{AtomicPtr, Ordering, spin_loop};
use crate::cpu::{Control, GRACE, Softint};
use alloc::boxed::Box;

/// An immutable value that is replaced as a whole. `[P]`
#[derive(Debug)]
pub struct Published<T> {
    /// `[A]` Always from `Box::into_raw`. Swapped by writers (AcqRel), loaded by readers (Acquire).
    pointer: AtomicPtr<T>,
}

// SAFETY: a `Published<T>` hands out `&T` on any CPU and drops `T` on any CPU, so it is as shareable as `&T` and `T` are.
unsafe impl<T: Send + Sync> Sync for Published<T> {}
// SAFETY: as for `Sync`; it owns its `T`.
unsafe impl<T: Send + Sync> Send for Published<T> {}

impl<T> Published<T> {
    /// Publishes the first value.
    pub fn new(value: Box<T>) -> Self {
        Self { pointer: AtomicPtr::new(Box::into_raw(value)) }
    }

    /// The current value, for the rest of this softint turn.
    #[inline]
    pub fn read<'a>(&'a self, _: &'a Softint) -> &'a T {
        let pointer = self.pointer.load(Ordering::Acquire);
        // SAFETY: it came from `Box::into_raw`; `Retired` frees it only after the turn that `Softint` proves, and
        // `drop` needs `&mut self`, which the returned borrow of `self` excludes.
        unsafe { &*pointer }
    }

    /// Replaces the value with one store. The old one is returned, to be freed when its readers have left.
    pub fn publish(&self, _: &Control, value: Box<T>) -> Retired<T> {
        let old = self.pointer.swap(Box::into_raw(value), Ordering::AcqRel);
        Retired { pointer: old, stamp: GRACE.retire() }
    }
}

impl<T> Drop for Published<T> {
    fn drop(&mut self) {
        // SAFETY: from `Box::into_raw`, and `&mut self` excludes readers and writers.
        drop(unsafe { Box::from_raw(self.pointer.load(Ordering::Relaxed)) });
    }
}

/// A value that is no longer published but may still be read by softint turns in flight.
///
/// Dropping it waits for them: bounded by one turn of the slowest CPU, spinning, at task level only.
#[derive(Debug)]
#[must_use = "dropping it at once waits for the readers"]
pub struct Retired<T> {
    /// Sole owner of the box; readers that are left only read it.
    pointer: *mut T,
    stamp: u64,
}

// SAFETY: it owns a `T` that may be read elsewhere until the grace period ends, and drops it where it ends up.
unsafe impl<T: Send + Sync> Send for Retired<T> {}

impl<T> Retired<T> {
    /// Whether the last reader has left. Asked again it may say no, for one turn at most: for a CPU that looked at the
    /// epoch before the value was replaced, but not yet at the value.
    pub fn elapsed(&self) -> bool {
        GRACE.elapsed(self.stamp)
    }

    /// Waits for the readers and hands the value back. Task level: takes a [`Control`] because a softint
    /// that waited for its own turn would wait for ever.
    pub fn wait(self, _: &Control) -> Box<T> {
        while !self.elapsed() {
            spin_loop();
        }
        let pointer = self.pointer;
        core::mem::forget(self);
        // SAFETY: from `Box::into_raw`, unpublished, and the grace period is over: nobody else can reach it.
        unsafe { Box::from_raw(pointer) }
    }
}

impl<T> Drop for Retired<T> {
    fn drop(&mut self) {
        while !self.elapsed() {
            spin_loop();
        }
        // SAFETY: as in `wait`.
        drop(unsafe { Box::from_raw(self.pointer) });
    }
}

/// The turns in flight when it was made, which may still read what had been unpublished before.
///
/// For places in a table that are used again: who owns memory wants [`Retired`].
#[derive(Clone, Copy, Debug)]
pub struct Period {
    stamp: u64,
}

impl Period {
    /// Begins one, for all that is unpublished by now.
    pub fn begin(_: &Control) -> Self {
        Self { stamp: GRACE.retire() }
    }

    /// Whether the last of those turns has ended. Then those of earlier periods have too.
    pub fn elapsed(&self) -> bool {
        GRACE.elapsed(self.stamp)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::cpu::claim_any;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    /// Notes when it is dropped.
    struct Noted(u64, Arc<AtomicUsize>);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn every_value_is_dropped_once() {
        let drops = Arc::new(AtomicUsize::new(0));
        let mut cpu = claim_any().unwrap();
        let published = Published::new(Box::new(Noted(0, drops.clone())));
        for n in 1..=10 {
            cpu.control(|cx| drop(published.publish(cx, Box::new(Noted(n, drops.clone())))));
        }
        assert_eq!(cpu.softint(|cx| published.read(cx).0), 10);
        drop(published);
        assert_eq!(drops.load(Ordering::SeqCst), 11);
    }

    #[test]
    fn a_period_lasts_as_long_as_turns_that_began_before_it() {
        let (mut reader, mut writer) = (claim_any().unwrap(), claim_any().unwrap());
        let period = reader.softint(|_| {
            let period = writer.control(Period::begin);
            assert!(!period.elapsed());
            period
        });
        while !period.elapsed() {
            // Turns of other tests, which end.
            spin_loop();
        }
    }

    #[test]
    fn waits_while_another_cpu_reads() {
        let drops = Arc::new(AtomicUsize::new(0));
        let published = Published::new(Box::new(Noted(0, drops.clone())));
        let (mut reader, mut writer) = (claim_any().unwrap(), claim_any().unwrap());
        let retired = reader.softint(|cx| {
            let old = published.read(cx);
            let retired = writer.control(|cx| published.publish(cx, Box::new(Noted(1, drops.clone()))));
            assert!(!retired.elapsed());
            assert_eq!((old.0, published.read(cx).0), (0, 1));
            retired
        });
        drop(retired);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_reader_that_never_idles_holds_nothing_back_for_longer_than_its_turn() {
        let published = Published::new(Box::new(0));
        let (mut reader, mut writer) = (claim_any().unwrap(), claim_any().unwrap());
        let retired = reader.softint(|cx| {
            assert_eq!(*published.read(cx), 0);
            writer.control(|cx| published.publish(cx, Box::new(1)))
        });
        reader.softint(|cx| {
            assert_eq!(*published.read(cx), 1);
            // This CPU is in a turn again; the wait is for other tests' turns only, which end.
            assert_eq!(*writer.control(|cx| retired.wait(cx)), 0);
        });
    }

    /// Counts how many of it are alive.
    struct Live(Arc<AtomicUsize>, [u64; 64]);
    impl Live {
        fn new(alive: &Arc<AtomicUsize>, word: u64) -> Box<Live> {
            alive.fetch_add(1, Ordering::SeqCst);
            Box::new(Live(alive.clone(), [word; 64]))
        }
    }
    impl Drop for Live {
        fn drop(&mut self) {
            self.1 = [u64::MAX; 64];
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_storm_of_updates_takes_bounded_memory_and_no_reader_sees_a_freed_value() {
        /// Values that may wait for their readers at a time.
        const WAITING: usize = 4;
        let alive = Arc::new(AtomicUsize::new(0));
        let published = Published::new(Live::new(&alive, 0));
        let stop = AtomicBool::new(false);
        let begun = std::time::Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let (mut cpu, mut last) = (claim_any().unwrap(), 0);
                    while !stop.load(Ordering::Relaxed) {
                        cpu.softint(|cx| {
                            let Live(_, words) = published.read(cx);
                            assert!(words.iter().all(|&word| word == words[0]));
                            assert!(last <= words[0], "an old value came back");
                            last = words[0];
                        });
                        // The threads outnumber the cores; a turn that is not scheduled holds up the writer.
                        std::thread::yield_now();
                    }
                });
            }
            let mut cpu = claim_any().unwrap();
            let mut waiting = std::collections::VecDeque::new();
            let updates = if cfg!(miri) { 20 } else { 20_000 };
            for n in 1..=updates {
                cpu.control(|cx| {
                    waiting.push_back(published.publish(cx, Live::new(&alive, n)));
                    if waiting.len() > WAITING {
                        drop(waiting.pop_front().map(|retired| retired.wait(cx)));
                    }
                });
                assert!(alive.load(Ordering::SeqCst) <= 1 + WAITING);
                if begun.elapsed().as_secs() >= 2 {
                    break;
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(alive.load(Ordering::SeqCst), 1);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::cpu::Cpu;
    use crate::models::{Tracked, bounded, check};
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn a_reader_never_meets_a_freed_value() {
        check("published: one update against two turns", || {
            let published = Arc::new(Published::new(Box::new(Tracked::new(1))));
            let reader = {
                let published = published.clone();
                thread::spawn(move || {
                    let mut cpu = Cpu::of_model(0);
                    let seen = [0; 2].map(|_| cpu.softint(|cx| published.read(cx).get()));
                    assert!(seen.is_sorted(), "an old value came back");
                })
            };
            Cpu::of_model(1).control(|cx| drop(published.publish(cx, Box::new(Tracked::new(2)))));
            reader.join().unwrap();
        });
    }

    #[test]
    fn two_updates_free_each_their_own() {
        bounded("published: two updates against two turns", Some(3), || {
            let published = Arc::new(Published::new(Box::new(Tracked::new(1))));
            let reader = {
                let published = published.clone();
                thread::spawn(move || {
                    let mut cpu = Cpu::of_model(0);
                    (0..2).for_each(|_| assert_ne!(cpu.softint(|cx| published.read(cx).get()), u32::MAX));
                })
            };
            Cpu::of_model(1).control(|cx| {
                let first = published.publish(cx, Box::new(Tracked::new(2)));
                let second = published.publish(cx, Box::new(Tracked::new(3)));
                drop(first);
                assert_eq!(second.wait(cx).get(), 2);
            });
            reader.join().unwrap();
        });
    }
}
