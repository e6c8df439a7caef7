//! The spin lock of the machine layer: heap, frames, page tables. For boot and tasks, never for softints.
//!
//! A holder masks softints on its CPU: others must not wait for a lock as long as softints take.

use crate::mask;
use core::sync::atomic::{AtomicBool, Ordering};
use talc::lock_api::{GuardNoSend, Mutex, RawMutex};

/// A value behind a spin lock.
pub(crate) type Lock<T> = Mutex<Spin, T>;

/// Test-and-test-and-set.
#[derive(Debug)]
pub(crate) struct Spin {
    /// `[A]` Held. Acquire on taking, Release on dropping.
    held: AtomicBool,
}

// SAFETY: `try_lock` succeeds for one caller between two `unlock`s: the swap is atomic.
unsafe impl RawMutex for Spin {
    const INIT: Spin = Spin { held: AtomicBool::new(false) };
    type GuardMarker = GuardNoSend;

    #[inline]
    fn lock(&self) {
        mask::enter();
        while self.held.swap(true, Ordering::Acquire) {
            while self.held.load(Ordering::Relaxed) {
                core::hint::spin_loop();
                // Only the CPU that reports runs on: whoever holds the lock will not let go of it.
                #[cfg(feature = "image")]
                if crate::report::is_on() {
                    return;
                }
            }
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        mask::enter();
        let taken = !self.held.swap(true, Ordering::Acquire);
        if !taken {
            mask::leave();
        }
        taken
    }

    #[inline]
    unsafe fn unlock(&self) {
        self.held.store(false, Ordering::Release);
        mask::leave();
    }
}
