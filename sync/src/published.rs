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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::cpu::claim_any;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::vec::Vec;

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
    fn readers_never_see_a_freed_value_under_a_storm_of_updates() {
        let published = Arc::new(Published::new(Box::new([7u64; 64])));
        let stop = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (published, stop) = (published.clone(), stop.clone());
                std::thread::spawn(move || {
                    let mut cpu = claim_any().unwrap();
                    while !stop.load(Ordering::Relaxed) {
                        cpu.softint(|cx| {
                            let value = published.read(cx);
                            assert!(value.iter().all(|&word| word == value[0]));
                        });
                    }
                })
            })
            .collect();
        let mut cpu = claim_any().unwrap();
        for n in 0..2000 {
            cpu.control(|cx| drop(published.publish(cx, Box::new([n; 64]))));
        }
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
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
                assert_eq!(second.wait(cx).get(), 2);
                drop(first);
            });
            reader.join().unwrap();
        });
    }
}
