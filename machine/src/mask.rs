//! Masking softints on this CPU, by count: what a task does while it holds a lock of the machine layer or reads a
//! snapshot. Costs one increment and one decrement of a word of this CPU's block.
//!
//! The count is above zero at boot, in the dispatcher and in softints too: the interrupt stub preempts only at zero.

use crate::{dispatch, task};
use core::marker::PhantomData;
use weir_sync::{CpuId, Softint};

#[cfg(not(feature = "image"))]
pub(crate) use crate::host::mask::{count_down, count_up};
#[cfg(feature = "image")]
pub(crate) use image::{count_down, count_up};

/// While it lives no softint runs on this CPU. Nests. Keep it short: packets wait.
#[derive(Debug)]
#[must_use = "dropping it unmasks softints again"]
pub struct Masked {
    /// Counted on one CPU, to be dropped there.
    not_send: PhantomData<*const ()>,
}

/// Masks softints on this CPU. Any context.
#[inline]
pub fn mask() -> Masked {
    enter();
    Masked { not_send: PhantomData }
}

impl Drop for Masked {
    #[inline]
    fn drop(&mut self) {
        leave();
    }
}

/// The first half of [`mask`], for locks, whose guards are types of their own.
#[inline]
pub fn enter() {
    count_up();
}

/// The second half: what became pending meanwhile runs now, if this was the outermost.
#[inline]
pub fn leave() {
    if count_down() {
        dispatch::unmasked();
    }
}

/// Runs `section` in a task with softints masked: snapshots read inside stay allocated until it returns. Short for
/// [`Control::masked`](weir_sync::Control::masked).
///
/// # Panics
/// Outside tasks, and inside [`task::control`](crate::task::control), whose token does the same.
pub fn masked<R>(section: impl FnOnce(&Softint) -> R) -> R {
    task::control(|cx| cx.masked(section))
}

/// What the ranked locks and masked sections of `sync` call.
struct Hook;

// SAFETY: the count is that of the CPU it is called on; the dispatcher begins turns at zero only.
unsafe impl weir_sync::mask::Mask for Hook {
    fn mask(&self, _: CpuId) {
        enter();
    }

    fn unmask(&self, _: CpuId) {
        leave();
    }
}

static HOOK: &dyn weir_sync::mask::Mask = &Hook;

/// Has `sync` mask by this count. Before the first task.
pub(crate) fn install() {
    weir_sync::mask::install(&HOOK);
}

#[cfg(feature = "image")]
mod image {
    use crate::cpu::MASKED;

    /// One instruction, so that an interrupt comes before or after it. Tasks stay on their CPU.
    #[inline]
    pub(crate) fn count_up() {
        // SAFETY: GS points to this CPU's block since its first Rust function; the word is the count. Not `nomem`: what
        // is done under the mask stays behind it.
        unsafe { core::arch::asm!("inc dword ptr gs:[{}]", const MASKED, options(nostack)) };
    }

    /// Whether it came down to zero.
    #[inline]
    pub(crate) fn count_down() -> bool {
        let zero: u8;
        // SAFETY: as above; what was done under the mask stays before it.
        unsafe {
            core::arch::asm!("dec dword ptr gs:[{}]", "setz {}", const MASKED, out(reg_byte) zero, options(nostack));
        }
        zero != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::{More, Softints, raise, run};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;
    use std::time::Duration;
    use weir_sync::Published;
    use weir_sync::cpu::claim_any;

    struct Count(&'static AtomicUsize);

    impl Softints for Count {
        fn softint(&mut self, _: &Softint, _: u8) -> More {
            self.0.fetch_add(1, Ordering::SeqCst);
            More::No
        }
    }

    /// Runs `body` as a task of a CPU whose softints count; what it returns.
    fn in_task<R: Send + 'static>(body: impl FnOnce(&'static AtomicUsize) -> R + Send + 'static) -> R {
        let count: &AtomicUsize = Box::leak(Box::default());
        let (report, result) = channel();
        let cpu = claim_any().unwrap();
        std::thread::spawn(move || {
            run(cpu, Box::new(Count(count)), move |_| {
                let task = async move { report.send(body(count)).unwrap() };
                task::spawn("test", task).unwrap();
            })
        });
        result.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    fn raise_here() {
        raise(task::control(|cx| cx.cpu()), 9);
    }

    #[test]
    fn the_outermost_unmasking_runs_what_became_pending() {
        let seen = in_task(|count| {
            let now = || count.load(Ordering::SeqCst);
            let outer = mask();
            raise_here();
            let inner = mask();
            raise_here();
            drop(inner);
            let masked = now();
            drop(outer);
            (masked, now())
        });
        assert_eq!(seen, (0, 1));
    }

    #[test]
    fn a_lock_of_the_machine_masks() {
        static LOCK: crate::lock::Lock<weir_sync::rank::IoApic, u32> = crate::lock::Lock::new(0);
        let seen = in_task(|count| {
            let guard = LOCK.lock();
            raise_here();
            assert!(LOCK.try_lock().is_none());
            let held = count.load(Ordering::SeqCst);
            drop(guard);
            (held, count.load(Ordering::SeqCst))
        });
        assert_eq!(seen, (0, 1));
    }

    #[test]
    fn a_masked_section_reads_a_snapshot_undisturbed() {
        let seen = in_task(|count| {
            let published = Published::new(Box::new(1));
            let value = masked(|cx| {
                raise(cx.cpu(), 9);
                drop(mask());
                (*published.read(cx), count.load(Ordering::SeqCst))
            });
            (value, count.load(Ordering::SeqCst))
        });
        assert_eq!(seen, ((1, 0), 1));
    }
}
