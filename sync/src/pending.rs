//! The word of softint sources that wait for a CPU, and who looks at it: the dispatcher, or nobody until an interrupt.
//!
//! Written by the CPU's own interrupt stubs and by other CPUs, taken by its dispatcher. The race it must
//! win: a source raised between the dispatcher's last look and `hlt`, or a task.

use crate::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// The dispatcher runs and looks at the word before it does anything else.
const ATTENDED: u32 = 0;
/// A task runs.
const LENT: u32 = 1;
/// The CPU is halted, or about to.
const IDLE: u32 = 2;

/// Softint sources of one CPU, one bit each; a lower bit runs first.
///
/// `repr(C)` with the word first: the interrupt stub sets a bit with `lock bts` at offset 0.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Pending {
    /// `[A]` Set by stubs and other CPUs (Release), taken by the owner (Acquire).
    word: AtomicU64,
    /// `[A]` Written by the owner, read by whoever raises. `word` and `state` are each written by one side and then
    /// the other is read: both sides have a SeqCst fence between.
    state: AtomicU32,
}

impl Pending {
    /// Sources a CPU can have.
    pub const SOURCES: u8 = 64;

    /// Nothing pending, attended.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { word: AtomicU64::new(0), state: AtomicU32::new(ATTENDED) }
    }

    /// Nothing pending, attended.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { word: AtomicU64::new(0), state: AtomicU32::new(ATTENDED) }
    }

    /// Marks `source` (0–63) pending. Returns whether the owner needs an interrupt to see it: it sleeps, or has lent the
    /// CPU to a task.
    #[inline]
    #[must_use = "a CPU that sleeps or runs a task needs an interrupt to see the bit"]
    pub fn raise(&self, source: u8) -> bool {
        self.word.fetch_or(1 << (source & 63), Ordering::Release);
        // Pairs with the fence in `leave`: we see that nobody looks, or the owner sees the bit.
        fence(Ordering::SeqCst);
        self.state.load(Ordering::Relaxed) != ATTENDED
    }

    /// Whether the owner sleeps. For whoever has left work beside the word, which the owner looks for after
    /// [`sleep`](Self::sleep): either it sees the work, or this sees it asleep.
    #[inline]
    #[must_use = "an idle CPU needs an interrupt to see the work"]
    pub fn sleeps(&self) -> bool {
        // Pairs with the fence in `leave`.
        fence(Ordering::SeqCst);
        self.state.load(Ordering::Relaxed) == IDLE
    }

    /// Whether anything is pending.
    #[inline]
    pub fn any(&self) -> bool {
        self.word.load(Ordering::Relaxed) != 0
    }

    /// What is pending, a bit each: to be shown.
    pub fn word(&self) -> u64 {
        self.word.load(Ordering::Relaxed)
    }

    /// Takes all pending sources at once. Owner only.
    #[inline]
    pub fn take(&self) -> u64 {
        if self.any() { self.word.swap(0, Ordering::Acquire) } else { 0 }
    }

    /// Marks the CPU asleep. `false` if something became pending meanwhile: then it is attended still and must
    /// not halt. Owner only, with interrupts off; [`attend`](Self::attend) afterwards.
    #[inline]
    #[must_use = "halting with work pending loses the wake-up"]
    pub fn sleep(&self) -> bool {
        self.leave(IDLE)
    }

    /// Lends the CPU to a task: from now on an interrupt is what brings the owner back. `false` if something became
    /// pending meanwhile: then it is attended still. Owner only; [`attend`](Self::attend) afterwards.
    #[inline]
    #[must_use = "a task that runs with work pending delays it"]
    pub fn lend(&self) -> bool {
        self.leave(LENT)
    }

    fn leave(&self, state: u32) -> bool {
        self.state.store(state, Ordering::Relaxed);
        // Pairs with the fences in `raise` and `sleeps`.
        fence(Ordering::SeqCst);
        if self.any() {
            self.attend();
            return false;
        }
        true
    }

    /// The owner is back. Owner only.
    #[inline]
    pub fn attend(&self) {
        self.state.store(ATTENDED, Ordering::Relaxed);
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
        assert!(!pending.lend());
        pending.take();
        assert!(pending.sleep());
        assert!(pending.sleeps());
        assert!(pending.raise(1), "a sleeping CPU asks for an interrupt");
        pending.attend();
        assert!(!pending.raise(2));
    }

    #[test]
    fn a_lent_cpu_asks_for_an_interrupt_and_does_not_sleep() {
        let pending = Pending::new();
        assert!(pending.lend());
        assert!(pending.raise(1));
        assert!(!pending.sleeps());
        pending.attend();
        assert!(!pending.raise(1));
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

    /// The same with a task in the place of sleep.
    #[test]
    fn no_source_waits_behind_a_task() {
        crate::models::check("pending: no source waits behind a task", || {
            let pending = Arc::new(Pending::new());
            let raiser = {
                let pending = pending.clone();
                thread::spawn(move || pending.raise(5))
            };
            let lent = pending.lend();
            let sent_interrupt = raiser.join().unwrap();
            assert!(!lent || sent_interrupt, "a task runs with a bit set and nobody interrupts it");
        });
    }

    /// Work beside the word, such as a task made ready: the owner looks for it after `sleep`.
    #[test]
    fn no_work_beside_the_word_is_slept_over() {
        crate::models::check("pending: no work beside the word is slept over", || {
            let pending = Arc::new((Pending::new(), AtomicU64::new(0)));
            let giver = {
                let pending = pending.clone();
                thread::spawn(move || {
                    pending.1.store(1, Ordering::Release);
                    pending.0.sleeps()
                })
            };
            let slept = pending.0.sleep() && pending.1.load(Ordering::Acquire) == 0;
            let sent_interrupt = giver.join().unwrap();
            assert!(!slept || sent_interrupt, "asleep with work waiting and nobody to wake it");
        });
    }
}
