//! The two-level ABI: 4096 ports in 64 words of the shared page, and a word a CPU that says in which to look.

use super::Unmasking;
use core::sync::atomic::{AtomicU64, Ordering};

const WORDS: usize = 64;
const BITS: u32 = 64;
/// Ports there are; the first is never used.
pub(super) const PORTS: u32 = WORDS as u32 * BITS;

/// The words that Xen and all CPUs share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'a> {
    /// `[A]` Events that came: set by Xen, cleared by us.
    pub(super) pending: &'a [AtomicU64; WORDS],
    /// `[A]` Ports that are to be left alone.
    pub(super) mask: &'a [AtomicU64; WORDS],
}

impl Words<'_> {
    /// Takes what the CPU's `selector` points to; each port that is pending and not masked is masked and given to
    /// `deliver`, also one of another CPU that shares a word: whoever masks it first has it.
    pub(super) fn scan(&self, selector: &AtomicU64, mut deliver: impl FnMut(u32)) {
        let mut words = selector.swap(0, Ordering::AcqRel);
        while words != 0 {
            let index = words.trailing_zeros() as usize;
            words &= words - 1;
            let (pending, mask) = (&self.pending[index], &self.mask[index]);
            let mut due = pending.load(Ordering::Acquire) & !mask.load(Ordering::Acquire);
            while due != 0 {
                let bit = due & due.wrapping_neg();
                due &= due - 1;
                if mask.fetch_or(bit, Ordering::AcqRel) & bit == 0 {
                    pending.fetch_and(!bit, Ordering::AcqRel);
                    deliver(index as u32 * BITS + bit.trailing_zeros());
                }
            }
        }
    }

    /// Unmasks, unless an event waits: then Xen must do it, and tell the CPU.
    pub(super) fn unmask(&self, port: u32) -> Unmasking {
        let Some((index, bit)) = place(port) else { return Unmasking::Done };
        // The mask first: an event that comes now is either told by Xen or seen here.
        self.mask[index].fetch_and(!bit, Ordering::SeqCst);
        if self.pending[index].load(Ordering::SeqCst) & bit == 0 {
            return Unmasking::Done;
        }
        // Xen tells only of a port that it finds masked.
        self.mask[index].fetch_or(bit, Ordering::SeqCst);
        Unmasking::ByXen
    }

    pub(super) fn mask(&self, port: u32) {
        if let Some((index, bit)) = place(port) {
            self.mask[index].fetch_or(bit, Ordering::AcqRel);
        }
    }

    pub(super) fn clear(&self, port: u32) {
        if let Some((index, bit)) = place(port) {
            self.pending[index].fetch_and(!bit, Ordering::AcqRel);
        }
    }
}

fn place(port: u32) -> Option<(usize, u64)> {
    (port < PORTS).then(|| ((port / BITS) as usize, 1 << (port % BITS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Xen does with the words (Xen `common/event_2l.c`), each port bound to one of two CPUs.
    struct Xen {
        pending: [AtomicU64; WORDS],
        mask: [AtomicU64; WORDS],
        selectors: [AtomicU64; 2],
    }

    impl Xen {
        fn new() -> Xen {
            Xen {
                pending: [const { AtomicU64::new(0) }; WORDS],
                mask: [const { AtomicU64::new(u64::MAX) }; WORDS],
                selectors: [const { AtomicU64::new(0) }; 2],
            }
        }

        fn words(&self) -> Words<'_> {
            Words { pending: &self.pending, mask: &self.mask }
        }

        fn bit(port: u32) -> (usize, u64) {
            place(port).unwrap()
        }

        fn fire(&self, port: u32, cpu: usize) {
            let (index, bit) = Self::bit(port);
            let before = self.pending[index].fetch_or(bit, Ordering::SeqCst);
            if before & bit == 0 && self.mask[index].load(Ordering::SeqCst) & bit == 0 {
                self.selectors[cpu].fetch_or(1 << index, Ordering::SeqCst);
            }
        }

        fn unmask(&self, port: u32, cpu: usize) {
            if self.words().unmask(port) == Unmasking::ByXen {
                let (index, bit) = Self::bit(port);
                let before = self.mask[index].fetch_and(!bit, Ordering::SeqCst);
                if before & bit != 0 && self.pending[index].load(Ordering::SeqCst) & bit != 0 {
                    self.selectors[cpu].fetch_or(1 << index, Ordering::SeqCst);
                }
            }
        }

        fn scan(&self, cpu: usize) -> Vec<u32> {
            let mut ports = Vec::new();
            self.words().scan(&self.selectors[cpu], |port| ports.push(port));
            ports
        }
    }

    #[test]
    fn delivers_what_is_pending_and_not_masked_once() {
        let xen = Xen::new();
        [1, 63, 64, 4095].into_iter().for_each(|port| xen.unmask(port, 0));
        [4095, 64, 1, 2].into_iter().for_each(|port| xen.fire(port, 0));
        assert_eq!(xen.scan(0), [1, 64, 4095]);
        [1, 64, 4095].into_iter().for_each(|port| xen.fire(port, 0));
        assert_eq!(xen.scan(0), []);
    }

    #[test]
    fn a_storm_is_one_delivery_an_unmasking() {
        let xen = Xen::new();
        xen.unmask(70, 1);
        for _ in 0..10 {
            (0..1000).for_each(|_| xen.fire(70, 1));
            assert_eq!(xen.scan(1), [70]);
            (0..1000).for_each(|_| xen.fire(70, 1));
            assert_eq!(xen.scan(1), []);
            xen.unmask(70, 1);
        }
        assert_eq!(xen.scan(1), [70], "what came while it was masked");
        xen.fire(70, 1);
        xen.words().clear(70);
        xen.unmask(70, 1);
        assert_eq!(xen.scan(1), []);
    }

    #[test]
    fn ports_of_two_cpus_in_one_word_are_delivered_once() {
        let xen = Xen::new();
        (1..64).for_each(|port| xen.unmask(port, port as usize % 2));
        (1..64).for_each(|port| xen.fire(port, port as usize % 2));
        let mut all = std::thread::scope(|scope| {
            let first = scope.spawn(|| xen.scan(0));
            let mut all = xen.scan(1);
            all.extend(first.join().unwrap());
            all
        });
        all.sort_unstable();
        assert_eq!(all, (1..64).collect::<Vec<u32>>());
    }

    #[test]
    fn ports_out_of_range_are_nobody() {
        let xen = Xen::new();
        assert_eq!(xen.words().unmask(PORTS), Unmasking::Done);
        xen.words().mask(PORTS);
        xen.words().clear(u32::MAX);
        assert!(xen.mask.iter().all(|word| word.load(Ordering::SeqCst) == u64::MAX));
    }

    #[test]
    fn events_that_race_with_unmasking_are_not_lost() {
        let xen = Xen::new();
        let seen = std::thread::scope(|scope| {
            let firing = scope.spawn(|| {
                for _ in 0..2_000 {
                    xen.fire(9, 0);
                    std::thread::yield_now();
                }
            });
            let mut seen = 0;
            while !firing.is_finished() {
                xen.unmask(9, 0);
                seen += xen.scan(0).len();
            }
            firing.join().unwrap();
            xen.unmask(9, 0);
            seen + xen.scan(0).len()
        });
        assert!(seen > 0);
        // The last event was seen: nothing waits.
        assert_eq!(xen.pending[0].load(Ordering::SeqCst), 0);
    }
}
