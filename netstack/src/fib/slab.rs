//! Places in an array, given out in runs of 1 to 64 and taken back. At task level.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use weir_sync::{Control, Period};

/// The longest run.
pub(super) const LONGEST: usize = 64;
/// Runs that are let go together: one grace period serves them all.
const TOGETHER: usize = 64;

/// Consecutive places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    /// The first.
    pub(super) base: u32,
    /// How many; up to [`LONGEST`].
    pub(super) len: u8,
}

/// Which places of an array are free.
#[derive(Debug)]
pub(super) struct Slab {
    /// All from here on are.
    next: u32,
    capacity: u32,
    /// By length, the runs that are free below.
    free: [Vec<u32>; LONGEST + 1],
    /// Runs that readers may still see, by the period that has to elapse, oldest first.
    waiting: VecDeque<(Period, Vec<Run>)>,
    /// Runs that were let go since the last period.
    gone: Vec<Run>,
}

impl Slab {
    /// The first `used` of `capacity` places are taken.
    pub(super) fn new(used: usize, capacity: usize) -> Self {
        Self {
            next: used as u32,
            capacity: capacity as u32,
            free: [const { Vec::new() }; LONGEST + 1],
            waiting: VecDeque::new(),
            gone: Vec::new(),
        }
    }

    /// `len` consecutive places; `None` if there are none. Where only readers are in the way it waits for them, as
    /// dropping a [`Retired`](weir_sync::Retired) does.
    pub(super) fn take(&mut self, cx: &Control, len: usize) -> Option<u32> {
        loop {
            if let Some(base) = self.free(len) {
                return Some(base);
            }
            if self.waiting.is_empty() {
                if self.gone.is_empty() {
                    return None;
                }
                self.close(cx);
            }
            while self.waiting.front().is_some_and(|(period, _)| !period.elapsed()) {
                core::hint::spin_loop();
            }
            self.reclaim();
        }
    }

    fn free(&mut self, len: usize) -> Option<u32> {
        if let Some(base) = self.free.get_mut(len)?.pop() {
            return Some(base);
        }
        if self.capacity - self.next >= len as u32 {
            let base = self.next;
            self.next += len as u32;
            return Some(base);
        }
        // The shortest that is long enough is cut; the longest ones stay for those who need them.
        let longer = (len + 1..=LONGEST).find(|&n| self.free.get(n).is_some_and(|runs| !runs.is_empty()))?;
        let base = self.free.get_mut(longer)?.pop()?;
        self.free.get_mut(longer - len)?.push(base + len as u32);
        Some(base)
    }

    /// Takes back a run that no reader can find any more, though some may have found it before.
    pub(super) fn retire(&mut self, cx: &Control, run: Run) {
        if run.len == 0 {
            return;
        }
        self.gone.push(run);
        if self.gone.len() >= TOGETHER {
            self.close(cx);
            self.reclaim();
        }
    }

    fn close(&mut self, cx: &Control) {
        self.waiting.push_back((Period::begin(cx), core::mem::take(&mut self.gone)));
    }

    /// Frees what waited for readers that have left.
    fn reclaim(&mut self) {
        while let Some((_, runs)) = self.waiting.pop_front_if(|(period, _)| period.elapsed()) {
            for run in &runs {
                if let Some(free) = self.free.get_mut(usize::from(run.len)) {
                    free.push(run.base);
                }
            }
            if self.gone.capacity() == 0 {
                self.gone = runs;
                self.gone.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_sync::cpu::claim_any;

    #[test]
    fn runs_never_overlap_and_are_used_again() {
        let mut cpu = claim_any().unwrap();
        let (mut slab, mut taken) = (Slab::new(10, 2000), Vec::<Run>::new());
        for round in 0..20_000usize {
            let len = round * 7 % LONGEST + 1;
            if let Some(base) = cpu.control(|cx| slab.take(cx, len)) {
                let run = Run { base, len: len as u8 };
                assert!(base >= 10 && base + len as u32 <= 2000);
                let apart = |other: &Run| {
                    other.base + u32::from(other.len) <= base || base + len as u32 <= other.base
                };
                assert!(taken.iter().all(apart), "{run:?} overlaps one of {taken:?}");
                taken.push(run);
            } else {
                assert!(!taken.is_empty(), "places are lost");
            }
            if taken.len() > 20 {
                let run = taken.swap_remove(round % 20);
                cpu.control(|cx| slab.retire(cx, run));
            }
        }
    }
}
