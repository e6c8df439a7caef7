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
