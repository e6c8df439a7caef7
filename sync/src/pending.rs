//! The word of softint sources that wait for a CPU, and the flag that says it sleeps.
//!
//! Written by the CPU's own interrupt stubs and by other CPUs, taken by its dispatcher. The race it must
//! win: a source raised between the dispatcher's last look and `hlt`.

use crate::atomic::{AtomicU32, AtomicU64, Ordering, fence};

const AWAKE: u32 = 0;
const IDLE: u32 = 1;

/// Softint sources of one CPU, one bit each; a lower bit runs first.
///
/// `repr(C)` with the word first: the interrupt stub sets a bit with `lock bts` at offset 0.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Pending {
    /// `[A]` Set by stubs and other CPUs (Release), taken by the owner (Acquire).
    word: AtomicU64,
    /// `[A]` Written by the owner, read by whoever raises. `word` and `idle` are each written by one side and then
    /// the other is read: both sides have a SeqCst fence between.
    idle: AtomicU32,
}

impl Pending {
    /// Sources a CPU can have.
    pub const SOURCES: u8 = 64;

    /// Nothing pending, awake.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { word: AtomicU64::new(0), idle: AtomicU32::new(AWAKE) }
    }

    /// Nothing pending, awake.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { word: AtomicU64::new(0), idle: AtomicU32::new(AWAKE) }
    }

    /// Marks `source` (0–63) pending. Returns whether the owner sleeps and must be woken by an interrupt.
    #[inline]
    #[must_use = "an idle CPU needs an interrupt to see the bit"]
    pub fn raise(&self, source: u8) -> bool {
        self.word.fetch_or(1 << (source & 63), Ordering::Release);
        // Pairs with the fence in `sleep`: we see the sleeper, or it sees the bit.
        fence(Ordering::SeqCst);
        self.idle.load(Ordering::Relaxed) == IDLE
    }

    /// Whether anything is pending.
    #[inline]
    pub fn any(&self) -> bool {
        self.word.load(Ordering::Relaxed) != 0
    }

    /// Takes all pending sources at once. Owner only.
    #[inline]
    pub fn take(&self) -> u64 {
        if self.any() { self.word.swap(0, Ordering::Acquire) } else { 0 }
    }

    /// Marks the CPU asleep. `false` if something became pending meanwhile: then it is awake still and must
    /// not halt. Owner only, with interrupts off; [`wake`](Self::wake) afterwards.
    #[inline]
    #[must_use = "halting with work pending loses the wake-up"]
    pub fn sleep(&self) -> bool {
        self.idle.store(IDLE, Ordering::Relaxed);
        // Pairs with the fence in `raise`.
        fence(Ordering::SeqCst);
        if self.word.load(Ordering::Relaxed) != 0 {
            self.wake();
            return false;
        }
        true
    }

    /// Marks the CPU awake. Owner only.
    #[inline]
    pub fn wake(&self) {
        self.idle.store(AWAKE, Ordering::Relaxed);
    }
}

impl Default for Pending {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn takes_what_was_raised_once() {
        let pending = Pending::new();
        assert!(!pending.raise(3));
        assert!(!pending.raise(3));
        assert!(!pending.raise(63));
        assert_eq!(pending.take(), 1 << 3 | 1 << 63);
        assert_eq!(pending.take(), 0);
    }

    #[test]
    fn refuses_to_sleep_with_work_pending() {
        let pending = Pending::new();
        let _ = pending.raise(0);
        assert!(!pending.sleep());
        pending.take();
        assert!(pending.sleep());
        assert!(pending.raise(1), "a sleeping CPU asks for an interrupt");
        pending.wake();
        assert!(!pending.raise(2));
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// Whoever raises while the owner falls asleep: either the owner sees the bit and stays awake, or the
    /// raiser sees the sleeper and sends the interrupt. Never neither.
    #[test]
    fn no_wakeup_is_lost_between_the_check_and_hlt() {
        crate::models::check("pending: no wake-up lost between check and hlt", || {
            let pending = Arc::new(Pending::new());
            let raiser = {
                let pending = pending.clone();
                thread::spawn(move || pending.raise(5))
            };
            let slept = pending.sleep();
            let sent_interrupt = raiser.join().unwrap();
            assert!(!slept || sent_interrupt, "asleep with a bit set and nobody to wake it");
        });
    }
}
