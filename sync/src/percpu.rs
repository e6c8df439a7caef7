//! One value a CPU, each on cache lines of its own.

use crate::cpu::{CpuId, count};
use alloc::boxed::Box;
use crossbeam_utils::CachePadded;

/// One `T` for every CPU. The owner finds its own by number, a reader walks all.
#[derive(Debug)]
pub struct PerCpu<T> {
    /// `[I]` As many as there were CPUs when it was made.
    slots: Box<[CachePadded<T>]>,
}

impl<T> PerCpu<T> {
    /// Makes a value for each of [`count`] CPUs.
    pub fn new(mut make: impl FnMut(CpuId) -> T) -> Self {
        Self { slots: (0..count()).filter_map(CpuId::new).map(|cpu| CachePadded::new(make(cpu))).collect() }
    }

    /// The value of `cpu`.
    ///
    /// # Panics
    /// If `cpu` is not one of [`count`]: no such dispatcher exists.
    #[inline]
    pub fn of(&self, cpu: CpuId) -> &T {
        &self.slots[cpu.index()]
    }

    /// Every CPU's value, in CPU order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().map(|slot| &**slot)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Counter;

    #[test]
    fn sums_over_cpus() {
        let counts = PerCpu::new(|_| Counter::default());
        counts.of(CpuId::BOOT).add(2);
        counts.of(CpuId::new(1).unwrap()).add(3);
        assert_eq!(counts.iter().map(Counter::get).sum::<u64>(), 5);
    }
}
