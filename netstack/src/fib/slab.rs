//! Places in an array, given out in runs of 1 to [`LONGEST`] and taken back. At task level.

use super::LONGEST;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use weir_sync::{Control, Period};

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
    /// Runs that were let go since the last period, and that nothing leads to any more.
    gone: Vec<Run>,
    /// Runs that readers find until the change at hand is stored.
    doomed: Vec<Run>,
    #[cfg(test)]
    pub(super) retired: u64,
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
            doomed: Vec::new(),
            #[cfg(test)]
            retired: 0,
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

    /// Takes back a run that nothing leads to once the change at hand is stored.
    pub(super) fn retire(&mut self, run: Run) {
        if run.len != 0 {
            self.doomed.push(run);
            #[cfg(test)]
            {
                self.retired += 1;
            }
        }
    }

    /// The change is stored: no reader can find what was retired any more, though some may have found it before.
    pub(super) fn stored(&mut self, cx: &Control) {
        self.gone.append(&mut self.doomed);
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
    fn a_run_that_is_still_to_be_found_is_not_given_out() {
        let mut cpu = claim_any().unwrap();
        let mut slab = Slab::new(0, 4 * TOGETHER);
        let mut take = |slab: &mut Slab| cpu.control(|cx| slab.take(cx, 1));
        let all: Vec<u32> = core::iter::from_fn(|| take(&mut slab)).collect();
        assert_eq!(all.len(), 4 * TOGETHER);
        all.iter().for_each(|&base| slab.retire(Run { base, len: 1 }));
        assert_eq!(take(&mut slab), None, "readers find it");
        cpu.control(|cx| slab.stored(cx));
        assert!(cpu.control(|cx| slab.take(cx, 1)).is_some());
    }

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
                slab.retire(run);
                cpu.control(|cx| slab.stored(cx));
            }
        }
    }
}
