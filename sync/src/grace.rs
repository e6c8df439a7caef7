//! Grace periods: when has every CPU left the softint turn in which it could have seen an old object?
//!
//! A CPU stamps its slot with the current epoch when a softint turn begins and clears it when the turn
//! ends. An object unpublished in epoch *e* may be freed once no slot holds an epoch up to *e*. An idle CPU
//! has an empty slot and delays nobody.

use crate::atomic::{AtomicU64, Ordering, fence};
use crossbeam_utils::CachePadded;

/// Slot value of a CPU outside any softint turn.
const QUIESCENT: u64 = 0;

/// The epoch counter and one slot for each of `N` CPUs.
#[derive(Debug)]
pub struct Grace<const N: usize> {
    /// `[A]` Advanced by writers after they unpublish (AcqRel); read at the start of a turn (Acquire).
    epoch: CachePadded<AtomicU64>,
    /// `[A]` Slot *n* is written by CPU *n* alone; writers scan them. Paired through SeqCst fences.
    slots: [CachePadded<AtomicU64>; N],
}

impl<const N: usize> Grace<N> {
    /// All CPUs quiescent, epoch 1.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            epoch: CachePadded::new(AtomicU64::new(1)),
            slots: [const { CachePadded::new(AtomicU64::new(QUIESCENT)) }; N],
        }
    }

    /// All CPUs quiescent, epoch 1.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            epoch: CachePadded::new(AtomicU64::new(1)),
            slots: core::array::from_fn(|_| CachePadded::new(AtomicU64::new(QUIESCENT))),
        }
    }

    /// CPU `cpu` begins a turn: what it reads from now on stays allocated until [`leave`](Self::leave).
    #[inline]
    pub fn enter(&self, cpu: usize) {
        let epoch = self.epoch.load(Ordering::Acquire);
        // Release: a writer that finds this turn newer than its object knows by it that the turns before have ended.
        self.slots[cpu].store(epoch, Ordering::Release);
        // The slot must be visible before any published pointer is read: pairs with the fence in `elapsed`.
        fence(Ordering::SeqCst);
    }

    /// CPU `cpu` ends its turn and holds no reference any more.
    #[inline]
    pub fn leave(&self, cpu: usize) {
        self.slots[cpu].store(QUIESCENT, Ordering::Release);
    }

    /// Closes the current epoch after an object was unpublished; returns the stamp to wait for.
    pub fn retire(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::AcqRel)
    }

    /// Whether every turn that could have seen an object retired with `stamp` has ended.
    pub fn elapsed(&self, stamp: u64) -> bool {
        // After this fence a CPU whose slot still looks empty will see the new pointer: pairs with `enter`.
        fence(Ordering::SeqCst);
        self.slots.iter().all(|slot| {
            let entered = slot.load(Ordering::Acquire);
            entered == QUIESCENT || entered > stamp
        })
    }
}

impl<const N: usize> Default for Grace<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn waits_for_turns_that_began_before_and_not_for_later_ones() {
        let grace = Grace::<3>::new();
        grace.enter(0);
        let stamp = grace.retire();
        grace.enter(1);
        assert!(!grace.elapsed(stamp), "CPU 0 may still hold the object");
        grace.leave(0);
        assert!(grace.elapsed(stamp), "CPU 1 entered after the object was retired");
        grace.leave(1);
        assert!(grace.elapsed(stamp));
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::models::{Tracked, check};
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    /// A reader that got the old object must never see it freed within its turn, and the turn must have ended
    /// before, also when the writer finds the reader in a later turn already.
    #[test]
    fn an_object_is_freed_only_after_its_readers_left() {
        check("grace: freed only after its readers left", || {
            let grace = Arc::new(Grace::<1>::new());
            let published = Arc::new(AtomicUsize::new(0));
            let old = std::boxed::Box::leak(std::boxed::Box::new(Tracked::new(7)));
            let old = old as *mut Tracked as usize;

            let reader = {
                let (grace, published) = (grace.clone(), published.clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        grace.enter(0);
                        if published.load(Ordering::Acquire) == 0 {
                            // SAFETY: freed after the grace period only, which loom checks.
                            assert_eq!(unsafe { &*(old as *const Tracked) }.get(), 7);
                        }
                        grace.leave(0);
                    }
                })
            };

            published.store(1, Ordering::Release);
            let stamp = grace.retire();
            let freed = grace.elapsed(stamp);
            if freed {
                // SAFETY: unpublished, the grace period is over. The memory itself is freed at the end.
                unsafe { core::ptr::drop_in_place(old as *mut Tracked) };
            }
            reader.join().unwrap();
            // SAFETY: leaked above; `ManuallyDrop` has `Tracked`'s layout and drops nothing.
            drop(unsafe { std::boxed::Box::from_raw(old as *mut core::mem::ManuallyDrop<Tracked>) });
        });
    }
}
