//! The spin locks of the machine layer, for boot and tasks, never for softints. Below all tokens, as the heap must be: who
//! takes one needs no proof of context, and the order of ranks is checked as the locks are taken.
//!
//! A holder masks softints on its CPU: others must not wait for a lock as long as softints take.

#[cfg(not(feature = "image"))]
use crate::host::lock as body;
use crate::{mask, trace};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, Ordering};
#[cfg(feature = "image")]
use image as body;
use talc::lock_api::{GuardNoSend, Mutex, RawMutex};
use weir_sync::Event;
use weir_sync::rank::{self, Rank};

/// A value behind a spin lock of rank `R`.
pub(crate) type Lock<R, T> = Mutex<Spin<R>, T>;

/// Test-and-test-and-set.
#[derive(Debug)]
pub(crate) struct Spin<R> {
    /// `[A]` Held. Acquire on taking, Release on dropping.
    held: AtomicBool,
    rank: PhantomData<fn() -> R>,
}

// SAFETY: `try_lock` succeeds for one caller between two `unlock`s: the swap is atomic.
unsafe impl<R: Rank> RawMutex for Spin<R> {
    const INIT: Self = Spin { held: AtomicBool::new(false), rank: PhantomData };
    type GuardMarker = GuardNoSend;

    #[inline]
    fn lock(&self) {
        mask::enter();
        let held = body::held();
        if held >> R::NUMBER != 0 {
            out_of_order(held, R::NUMBER);
        }
        if self.held.swap(true, Ordering::Acquire) {
            self.wait();
        }
        self.taken();
    }

    #[inline]
    fn try_lock(&self) -> bool {
        mask::enter();
        let taken = !self.held.swap(true, Ordering::Acquire);
        if taken {
            self.taken();
        } else {
            rank::of::<R>().count_contended();
            mask::leave();
        }
        taken
    }

    #[inline]
    unsafe fn unlock(&self) {
        body::set_held(body::held() & !(1 << R::NUMBER));
        self.held.store(false, Ordering::Release);
        mask::leave();
    }
}

impl<R: Rank> Spin<R> {
    #[inline]
    fn taken(&self) {
        body::set_held(body::held() | 1 << R::NUMBER);
        rank::of::<R>().count_acquired();
    }

    /// Takes the lock from whoever holds it.
    #[cold]
    fn wait(&self) {
        let counts = rank::of::<R>();
        counts.count_contended();
        let mut spins = 0;
        loop {
            spins += 1;
            core::hint::spin_loop();
            // Only the CPU that reports runs on: whoever holds the lock will not let go of it.
            #[cfg(feature = "image")]
            if crate::report::is_on() {
                break;
            }
            // Waiting by loads leaves the line to the holder.
            if !self.held.load(Ordering::Relaxed) && !self.held.swap(true, Ordering::Acquire) {
                break;
            }
        }
        counts.count_spins(spins);
        trace::note(Event::Contended, || [R::NUMBER as u64, spins, 0]);
    }
}

/// `wanted` must not be waited for while one of the ranks in `held`, a bit each, is held.
#[cold]
fn out_of_order(held: u32, wanted: usize) {
    #[cfg(feature = "image")]
    if crate::report::is_on() {
        return;
    }
    let name = |number: usize| rank::contention().get(number).map_or("?", |counts| counts.name());
    let last = (u32::BITS - 1 - held.leading_zeros()) as usize;
    panic!("a lock of rank {} is taken while one of rank {} is held", name(wanted), name(last));
}

#[cfg(feature = "image")]
mod image {
    use crate::cpu;

    /// Ranks of the locks that this CPU holds, a bit each. Softints are masked.
    #[inline]
    pub(super) fn held() -> u32 {
        cpu::this().held_ranks.load(core::sync::atomic::Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn set_held(ranks: u32) {
        cpu::this().held_ranks.store(ranks, core::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_sync::rank::{Frames, PciBars, Tasks, contention_of};

    #[test]
    fn waiting_is_counted() {
        static LOCK: Lock<Frames, u32> = Lock::new(0);
        let counts = contention_of("Frames").unwrap();
        let guard = LOCK.lock();
        std::thread::scope(|scope| {
            scope.spawn(|| *LOCK.lock() += 1);
            while counts.contended() == 0 {
                std::thread::yield_now();
            }
            drop(guard);
        });
        assert_eq!((*LOCK.lock(), counts.acquired(), counts.contended()), (1, 3, 1));
        assert!(counts.spins() >= 1);
    }

    #[test]
    fn locks_of_later_ranks_may_follow_and_are_forgotten() {
        static OUTER: Lock<PciBars, ()> = Lock::new(());
        static INNER: Lock<Tasks, ()> = Lock::new(());
        for _ in 0..2 {
            let outer = OUTER.lock();
            drop(INNER.lock());
            drop(outer);
            drop(INNER.lock());
        }
    }

    #[test]
    #[should_panic = "a lock of rank PciBars is taken while one of rank Tasks is held"]
    fn the_wrong_order_is_caught_without_a_second_thread() {
        static OUTER: Lock<PciBars, ()> = Lock::new(());
        static INNER: Lock<Tasks, ()> = Lock::new(());
        let _inner = INNER.lock();
        drop(OUTER.lock());
    }
}
