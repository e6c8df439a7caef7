//! Which tasks of a CPU are ready: one bit a slot. A waker is a CPU and a slot, so waking takes no memory, no lock and
//! no reference count: it sets the bit, and wakes the CPU if that sleeps.
//!
//! A waker that outlives its task may wake the slot's next one, for nothing: futures allow that.

use crate::dispatch;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::{RawWaker, RawWakerVTable, Waker};
use weir_sync::{CpuId, MAX_CPUS};

/// Slots of a CPU.
pub(super) const SLOTS: usize = WORDS * 64;
const WORDS: usize = 4;

/// Ready bits of one CPU.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Ready {
    /// `[A]` Set by anyone (Release), taken by the owner (Acquire) before it polls: a wake-up during the poll counts for
    /// the next one.
    words: [AtomicU64; WORDS],
}

pub(super) static READY: [Ready; MAX_CPUS] = [const { Ready::new() }; MAX_CPUS];

impl Ready {
    const fn new() -> Self {
        Self { words: [const { AtomicU64::new(0) }; WORDS] }
    }

    /// Marks `slot` ready.
    #[inline]
    pub(super) fn set(&self, slot: usize) {
        self.words[slot / 64 % WORDS].fetch_or(1 << (slot % 64), Ordering::Release);
    }

    /// Whether any slot is ready.
    #[inline]
    pub(super) fn any(&self) -> bool {
        self.words.iter().any(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// Takes `slot`'s mark. Whether it had one.
    pub(super) fn take(&self, slot: usize) -> bool {
        let (word, bit) = (&self.words[slot / 64 % WORDS], 1 << (slot % 64));
        word.load(Ordering::Relaxed) & bit != 0 && word.fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }

    /// Takes the mark of the next ready slot after `last`, in a circle; `last` itself comes last.
    pub(super) fn take_next(&self, last: usize) -> Option<usize> {
        let behind = |slot: usize| {
            let word = self.words[slot / 64].load(Ordering::Relaxed) >> (slot % 64);
            (word != 0).then(|| slot + word.trailing_zeros() as usize)
        };
        let starts = |from: usize| {
            let rest = (from / 64 + 1..WORDS).map(|word| word * 64);
            core::iter::once(from).filter(|&from| from < SLOTS).chain(rest)
        };
        let slot = starts(last + 1).chain(starts(0)).find_map(behind)?;
        self.take(slot).then_some(slot)
    }
}

/// A waker of the task in `slot` of `cpu`.
pub(super) fn waker(cpu: CpuId, slot: usize) -> Waker {
    let word = cpu.index() * SLOTS + slot;
    // SAFETY: the table's functions only ever read the data as the number it is; cloning copies it, and there is nothing
    // to free.
    unsafe { Waker::from_raw(RawWaker::new(core::ptr::without_provenance(word), &TABLE)) }
}

static TABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, forget);

fn clone(data: *const ()) -> RawWaker {
    RawWaker::new(data, &TABLE)
}

fn wake(data: *const ()) {
    let word = data.addr();
    if let (Some(cpu), Some(ready)) = (CpuId::new(word / SLOTS), READY.get(word / SLOTS)) {
        ready.set(word % SLOTS);
        dispatch::rouse(cpu);
    }
}

fn forget(_: *const ()) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_slots_in_a_circle_and_each_once() {
        let ready = Ready::new();
        for slot in [3, 63, 64, 70, 255] {
            ready.set(slot);
        }
        let mut last = 63;
        let order: Vec<usize> =
            std::iter::from_fn(|| ready.take_next(last).inspect(|&slot| last = slot)).collect();
        assert_eq!(order, [64, 70, 255, 3, 63]);
        assert!(!ready.any());
        ready.set(255);
        assert_eq!(ready.take_next(255), Some(255));
        assert_eq!(ready.take_next(255), None);
    }

    #[test]
    fn a_waker_sets_its_slot_and_no_other() {
        let cpu = CpuId::new(MAX_CPUS - 1).unwrap();
        let waker = waker(cpu, 130);
        let copy = waker.clone();
        drop(waker);
        copy.wake();
        assert_eq!(READY[cpu.index()].take_next(0), Some(130));
        assert!(!READY[cpu.index()].any());
    }
}
