//! Keeping softints off this CPU for a moment: the hook by which the machine layer does it.
//!
//! On the host nothing preempts a task, so there is no hook and nothing to do.

use crate::cpu::CpuId;
use core::sync::atomic::{AtomicPtr, Ordering};

/// Masks softints of a CPU by a counter.
///
/// # Safety
/// Called on `cpu` itself. From `mask` to the matching `unmask` no softint turn begins on `cpu`; calls nest.
pub unsafe trait Mask: Sync {
    /// One more reason to keep softints off `cpu`.
    fn mask(&self, cpu: CpuId);
    /// One reason less; with the last one, runs what became pending.
    fn unmask(&self, cpu: CpuId);
}

/// `[A]` Null, or the machine's hook. Written once at boot (Release), read by tasks (Acquire).
static HOOK: AtomicPtr<&'static dyn Mask> = AtomicPtr::new(core::ptr::null_mut());

/// Names the machine's hook. At boot, before any task can be preempted.
pub fn install(hook: &'static &'static dyn Mask) {
    HOOK.store(core::ptr::from_ref(hook).cast_mut(), Ordering::Release);
}

/// Softints are masked on its CPU as long as it lives.
#[derive(Debug)]
pub(crate) struct Masked {
    cpu: CpuId,
    /// The hook that was asked: the same one is told of the end.
    hook: *const &'static dyn Mask,
}

impl Masked {
    pub(crate) fn new(cpu: CpuId) -> Self {
        let hook = HOOK.load(Ordering::Acquire).cast_const();
        // SAFETY: null or from `install`, which takes a `&'static`.
        if let Some(hook) = unsafe { hook.as_ref() } {
            hook.mask(cpu);
        }
        Self { cpu, hook }
    }
}

impl Drop for Masked {
    fn drop(&mut self) {
        // SAFETY: as in `new`.
        if let Some(hook) = unsafe { self.hook.as_ref() } {
            hook.unmask(self.cpu);
        }
    }
}
