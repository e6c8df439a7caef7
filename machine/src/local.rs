//! A value for each CPU that only this CPU ever touches.

use crate::dispatch;
use weir_sync::MAX_CPUS;

/// One `T` a CPU, reached by code that runs there and by nobody else, so that `T` need not be `Sync`.
///
/// Softints preempt tasks, so each use keeps one rule: all accesses with softints masked, or all at task level.
#[derive(Debug)]
pub(crate) struct Local<T> {
    slots: [T; MAX_CPUS],
}

// SAFETY: `mine` is the only access and hands each CPU (on the host: each dispatcher's thread) its own value alone; the
// reference cannot leave the CPU unless `T` is `Sync`.
unsafe impl<T> Sync for Local<T> {}

impl<T> Local<T> {
    /// `slots` by CPU number.
    pub(crate) const fn new(slots: [T; MAX_CPUS]) -> Self {
        Self { slots }
    }

    /// This CPU's value.
    ///
    /// # Panics
    /// On a thread of the host that runs no dispatcher.
    #[inline]
    pub(crate) fn mine(&self) -> &T {
        let Some(cpu) = dispatch::here() else { panic!("this thread runs no dispatcher") };
        &self.slots[cpu.index()]
    }
}
