//! A value that the softints of one CPU own, within something that all CPUs share.

use crate::atomic::UnsafeCell;
use crate::cpu::{CpuId, Softint};
use core::sync::atomic::{AtomicBool, Ordering};

/// A `T` that only softint turns (or masked sections) of one CPU reach. `[C]`
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<weir_sync::Owned<std::rc::Rc<u8>>>();
/// ```
#[derive(Debug)]
pub struct Owned<T> {
    /// `[I]`
    cpu: CpuId,
    /// `[C]` Somebody up this CPU's stack has it. Relaxed: no other CPU looks.
    lent: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `with` gives the value to one CPU only, and not twice at a time; what drops it may be another.
unsafe impl<T: Send> Sync for Owned<T> {}
// SAFETY: it owns its `T`.
unsafe impl<T: Send> Send for Owned<T> {}

impl<T> Owned<T> {
    /// A value of `cpu`.
    pub fn new(cpu: CpuId, value: T) -> Self {
        Self { cpu, lent: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Lends the value to `work`. `None` if `cx` is another CPU's, or within such `work`; after one that unwound too.
    #[inline]
    pub fn with<R>(&self, cx: &Softint, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        if cx.cpu() != self.cpu || self.lent.load(Ordering::Relaxed) {
            return None;
        }
        self.lent.store(true, Ordering::Relaxed);
        // SAFETY: `cx` proves that this is the one softint turn of `cpu` that is going on, which `lent` says has not got it yet.
        let result = self.value.with_mut(|value| work(unsafe { &mut *value }));
        self.lent.store(false, Ordering::Relaxed);
        Some(result)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::cpu::claim_any;

    #[test]
    fn only_its_cpu_has_it_and_only_once_at_a_time() {
        let (mut own, mut other) = (claim_any().unwrap(), claim_any().unwrap());
        let value = Owned::new(own.id(), 1);
        own.softint(|cx| {
            let inner = value.with(cx, |n| {
                *n += 1;
                value.with(cx, |_| ())
            });
            assert_eq!(inner, Some(None));
        });
        assert_eq!(other.softint(|cx| value.with(cx, |_| ())), None);
        assert_eq!(own.task(|cx| cx.masked(|cx| value.with(cx, |n| *n))), Some(2));
    }

    #[test]
    fn nobody_has_what_its_user_left_half_done() {
        let mut cpu = claim_any().unwrap();
        let value = Owned::new(cpu.id(), 1);
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            cpu.softint(|cx| value.with(cx, |_| panic!("a bug")))
        }));
        assert!(unwound.is_err());
        assert_eq!(cpu.softint(|cx| value.with(cx, |n| *n)), None);
    }
}
