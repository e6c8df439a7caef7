//! Spin locks for tasks, taken in the order of their ranks, which the compiler checks.
//!
//! [`Control::locks`] lends the right to take the first lock; a guard lends the right to take locks of later ranks. While
//! one is held, softints are masked on its CPU, so a holder is never preempted by work that other CPUs wait for.

use crate::atomic::{AtomicBool, Ordering, UnsafeCell, spin_loop};
use crate::cpu::Control;
use crate::mask::Masked;
use crate::rank::{self, Before, Nothing, Rank};
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

/// A value behind a lock of rank `R`.
///
/// ```
/// # use weir_sync::{Lock, cpu, rank::{PciBars, PciAccess}};
/// let (outer, inner) = (Lock::<PciBars, _>::new(1), Lock::<PciAccess, _>::new(2));
/// let mut cpu = cpu::claim_any().unwrap();
/// cpu.task(|cx| {
///     let mut held = cx.locks();
///     let mut outer = outer.lock(&mut held);
///     let (outer, held) = outer.split();
///     *outer += *inner.lock(held);
/// });
/// ```
/// Not the other way round:
/// ```compile_fail,E0277
/// # use weir_sync::{Lock, cpu, rank::{PciBars, PciAccess}};
/// # let (outer, inner) = (Lock::<PciBars, _>::new(1), Lock::<PciAccess, _>::new(2));
/// # let mut cpu = cpu::claim_any().unwrap();
/// cpu.task(|cx| {
///     let mut held = cx.locks();
///     let mut inner = inner.lock(&mut held);
///     let (inner, held) = inner.split();
///     *inner += *outer.lock(held);
/// });
/// ```
/// nor two of one rank:
/// ```compile_fail,E0277
/// # use weir_sync::{Lock, cpu, rank::PciAccess};
/// # let (one, two) = (Lock::<PciAccess, _>::new(1), Lock::<PciAccess, _>::new(2));
/// # let mut cpu = cpu::claim_any().unwrap();
/// cpu.task(|cx| {
///     let mut held = cx.locks();
///     let mut one = one.lock(&mut held);
///     let (one, held) = one.split();
///     *one += *two.lock(held);
/// });
/// ```
/// nor with the right that led to the lock already held, nor with a second one:
/// ```compile_fail,E0499
/// # use weir_sync::{Lock, cpu, rank::{PciBars, PciAccess}};
/// # let (outer, inner) = (Lock::<PciBars, _>::new(1), Lock::<PciAccess, _>::new(2));
/// # let mut cpu = cpu::claim_any().unwrap();
/// cpu.task(|cx| {
///     let mut held = cx.locks();
///     let inner = inner.lock(&mut held);
///     let outer = outer.lock(&mut held);
///     drop(inner);
/// });
/// ```
/// ```compile_fail,E0499
/// # use weir_sync::{Lock, cpu, rank::{PciBars, PciAccess}};
/// # let (outer, inner) = (Lock::<PciBars, _>::new(1), Lock::<PciAccess, _>::new(2));
/// # let mut cpu = cpu::claim_any().unwrap();
/// cpu.task(|cx| {
///     let (mut one, mut two) = (cx.locks(), cx.locks());
///     let inner = inner.lock(&mut one);
///     let outer = outer.lock(&mut two);
/// });
/// ```
/// nor in a softint:
/// ```compile_fail,E0599
/// # use weir_sync::{Lock, cpu, rank::PciAccess};
/// # let lock = Lock::<PciAccess, _>::new(1);
/// # let mut cpu = cpu::claim_any().unwrap();
/// cpu.softint(|cx| *lock.lock(&mut cx.locks()));
/// ```
/// ```compile_fail,E0308
/// # use weir_sync::{Lock, cpu, rank::PciAccess};
/// # let lock = Lock::<PciAccess, _>::new(1);
/// # let mut cpu = cpu::claim_any().unwrap();
/// cpu.softint(|cx| *lock.lock(cx));
/// ```
#[derive(Debug)]
pub struct Lock<R, T> {
    /// `[A]` Taken with Acquire, let go with Release.
    held: AtomicBool,
    /// `[L:R]`
    value: UnsafeCell<T>,
    rank: PhantomData<fn() -> R>,
}

// SAFETY: one guard at a time reaches the value, on any CPU.
unsafe impl<R, T: Send> Sync for Lock<R, T> {}
// SAFETY: it owns its `T`.
unsafe impl<R, T: Send> Send for Lock<R, T> {}

/// The right to take locks of ranks after `H`. Borrowed by the guard that it leads to.
#[derive(Debug)]
pub struct Held<'a, H> {
    cx: &'a Control,
    rank: PhantomData<H>,
}

impl<'a> Held<'a, Nothing> {
    #[inline]
    pub(crate) fn nothing(cx: &'a mut Control) -> Self {
        Self { cx, rank: PhantomData }
    }
}

impl<H> Held<'_, H> {
    /// The task's token, to publish with.
    #[inline]
    pub fn control(&self) -> &Control {
        self.cx
    }
}

impl<R: Rank, T> Lock<R, T> {
    /// A free lock.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: UnsafeCell::new(value), rank: PhantomData }
    }

    /// A free lock.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: UnsafeCell::new(value), rank: PhantomData }
    }

    /// Takes the lock, spinning as long as another CPU holds it.
    pub fn lock<'a, H: Before<R>>(&'a self, held: &'a mut Held<'_, H>) -> Guard<'a, R, T> {
        let masked = Masked::new(held.cx.cpu());
        let counts = rank::of::<R>();
        if !self.take() {
            counts.count_contended();
            counts.count_spins(self.wait());
        }
        self.guard(held.cx, masked)
    }

    /// Takes the lock if nobody holds it.
    pub fn try_lock<'a, H: Before<R>>(&'a self, held: &'a mut Held<'_, H>) -> Option<Guard<'a, R, T>> {
        let masked = Masked::new(held.cx.cpu());
        if self.take() {
            return Some(self.guard(held.cx, masked));
        }
        rank::of::<R>().count_contended();
        None
    }

    #[inline]
    fn take(&self) -> bool {
        self.held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes the lock from whoever holds it; returns the turns that it waited.
    #[cold]
    fn wait(&self) -> u64 {
        let mut spins = 0;
        loop {
            spins += 1;
            spin_loop();
            // Waiting by loads leaves the line to the holder.
            if !self.held.load(Ordering::Relaxed) && self.take() {
                return spins;
            }
        }
    }

    fn guard<'a>(&'a self, cx: &'a Control, masked: Masked) -> Guard<'a, R, T> {
        rank::of::<R>().count_acquired();
        Guard { lock: self, held: Held { cx, rank: PhantomData }, _masked: masked }
    }
}

/// The lock is held, and softints of this CPU are masked, as long as it lives.
#[derive(Debug)]
pub struct Guard<'a, R: Rank, T> {
    lock: &'a Lock<R, T>,
    held: Held<'a, R>,
    /// Dropped after the lock was let go: the unmasking may run softints.
    _masked: Masked,
}

impl<'a, R: Rank, T> Guard<'a, R, T> {
    /// The value, and the right to take locks of later ranks meanwhile.
    #[inline]
    pub fn split(&mut self) -> (&mut T, &mut Held<'a, R>) {
        // SAFETY: the lock is held, and `&mut self` makes it the guard's only borrow.
        let value = self.lock.value.with_mut(|value| unsafe { &mut *value });
        (value, &mut self.held)
    }
}

impl<R: Rank, T> Deref for Guard<'_, R, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held, and `&self` keeps exclusive borrows away.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<R: Rank, T> DerefMut for Guard<'_, R, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.split().0
    }
}

impl<R: Rank, T> Drop for Guard<'_, R, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.held.store(false, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::cpu::{CpuId, claim_any};
    use crate::mask::{self, Mask};
    use crate::rank::{Frames, PciAccess, PciBars, Tasks, contention_of};
    use std::sync::atomic::AtomicI64;

    #[test]
    fn one_holder_at_a_time_and_all_are_counted() {
        const EACH: u64 = if cfg!(miri) { 20 } else { 2_000 };
        let lock = Lock::<Tasks, _>::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut cpu = claim_any().unwrap();
                    (0..EACH).for_each(|_| cpu.task(|cx| *lock.lock(&mut cx.locks()) += 1));
                });
            }
        });
        let total = claim_any().unwrap().task(|cx| *lock.lock(&mut cx.locks()));
        assert_eq!(total, 3 * EACH);
        let counts = contention_of("Tasks").unwrap();
        assert_eq!(counts.acquired(), 3 * EACH + 1);
        assert!(counts.contended() <= counts.spins());
    }

    #[test]
    fn waiting_is_counted() {
        let lock = Lock::<PciAccess, _>::new(());
        let (mut holder, mut waiter) = (claim_any().unwrap(), claim_any().unwrap());
        let counts = contention_of("PciAccess").unwrap();
        std::thread::scope(|scope| {
            holder.task(|cx| {
                let mut held = cx.locks();
                let guard = lock.lock(&mut held);
                scope.spawn(|| waiter.task(|cx| drop(lock.lock(&mut cx.locks()))));
                while counts.contended() == 0 {
                    std::thread::yield_now();
                }
                assert_eq!(counts.acquired(), 1);
                let refused = claim_any().unwrap().task(|cx| lock.try_lock(&mut cx.locks()).is_none());
                assert!(refused);
                drop(guard);
            });
        });
        assert_eq!((counts.acquired(), counts.contended()), (2, 2));
        assert!(counts.spins() >= 1);
    }

    /// `[A]` How deep each CPU is masked.
    static DEPTH: [AtomicI64; crate::MAX_CPUS] = [const { AtomicI64::new(0) }; crate::MAX_CPUS];
    struct Depth;
    // SAFETY: on the host no softint preempts a task, masked or not.
    unsafe impl Mask for Depth {
        fn mask(&self, cpu: CpuId) {
            DEPTH[cpu.index()].fetch_add(1, Ordering::SeqCst);
        }
        fn unmask(&self, cpu: CpuId) {
            DEPTH[cpu.index()].fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn softints_are_masked_while_a_lock_is_held_or_a_snapshot_is_read() {
        static HOOK: &dyn Mask = &Depth;
        mask::install(&HOOK);
        let mut cpu = claim_any().unwrap();
        let depth = || DEPTH[cpu.id().index()].load(Ordering::SeqCst);
        let depth_of = |cx: &Control| DEPTH[cx.cpu().index()].load(Ordering::SeqCst);
        assert_eq!(depth(), 0);
        let (outer, inner) = (Lock::<PciBars, _>::new(()), Lock::<Frames, _>::new(()));
        cpu.task(|cx| {
            let mut held = cx.locks();
            let mut outer = outer.lock(&mut held);
            let ((), held) = outer.split();
            let inner = inner.lock(held);
            assert_eq!(depth_of(inner.held.control()), 2);
            drop(inner);
            assert_eq!(depth_of(held.control()), 1);
            drop(outer);
            assert_eq!(cx.masked(|cx| DEPTH[cx.cpu().index()].load(Ordering::SeqCst)), 1);
            assert_eq!(depth_of(cx), 0);
        });
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::cpu::Cpu;
    use crate::models::check;
    use crate::rank::PciAccess;
    use loom::sync::Arc;
    use loom::thread;

    /// Tries `times`; returns how often it got the lock. Waiting is trying again, without an end to loom's search.
    fn tries(lock: &Lock<PciAccess, (u32, u32)>, cpu: usize, times: u32) -> u32 {
        let mut cpu = Cpu::of_model(cpu);
        let turn = |cx: &mut Control| {
            let mut held = cx.locks();
            let mut guard = lock.try_lock(&mut held)?;
            let (before, _) = *guard;
            guard.0 += 1;
            assert_eq!(*guard, (before + 1, before));
            guard.1 += 1;
            Some(())
        };
        (0..times).filter(|_| cpu.task(turn).is_some()).count() as u32
    }

    #[test]
    fn holders_exclude_each_other_and_see_what_the_last_one_did() {
        check("lock: two tasks, two tries each", || {
            let lock = Arc::new(Lock::<PciAccess, _>::new((0, 0)));
            let other = {
                let lock = lock.clone();
                thread::spawn(move || tries(&lock, 0, 2))
            };
            let count = tries(&lock, 1, 2) + other.join().unwrap();
            let total = Cpu::of_model(1).task(|cx| *lock.lock(&mut cx.locks()));
            assert_eq!(total, (count, count));
        });
    }
}
