//! How long a CPU has slept, told while it sleeps too.

use core::sync::atomic::{AtomicU64, Ordering};

/// Asleep: the other bits are the sum of all sleeps before, less the moment this one began.
const ASLEEP: u64 = 1 << 63;

/// TSC ticks slept. `[A]` Written by the CPU, read by anyone, relaxed. One word, so that no reader sees half of a waking.
#[derive(Debug)]
pub(crate) struct Slept(AtomicU64);

impl Slept {
    /// Awake, never slept.
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The CPU falls asleep at `now`.
    #[inline]
    pub(crate) fn begin(&self, now: u64) {
        self.0.store(ASLEEP | self.0.load(Ordering::Relaxed).wrapping_sub(now), Ordering::Relaxed);
    }

    /// It is awake again.
    #[inline]
    pub(crate) fn end(&self, now: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(now) & !ASLEEP, Ordering::Relaxed);
    }

    /// What it has slept until `now`.
    pub(crate) fn ticks(&self, now: u64) -> u64 {
        let word = self.0.load(Ordering::Relaxed);
        if word & ASLEEP == 0 {
            return word;
        }
        let ticks = word.wrapping_add(now) & !ASLEEP;
        // A reader whose TSC lags behind the sleeper's may come out below zero.
        if ticks & ASLEEP >> 1 == 0 { ticks } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_counts_before_it_ends() {
        let slept = Slept::new();
        assert_eq!(slept.ticks(500), 0);
        slept.begin(1000);
        assert_eq!((slept.ticks(1000), slept.ticks(1400)), (0, 400));
        slept.end(1500);
        assert_eq!((slept.ticks(1600), slept.ticks(9999)), (500, 500));
        slept.begin(2000);
        assert_eq!(slept.ticks(2010), 510);
        slept.end(2100);
        assert_eq!(slept.ticks(2100), 600);
    }

    #[test]
    fn clocks_that_differ_do_no_harm() {
        let slept = Slept::new();
        slept.begin(1000);
        assert_eq!(slept.ticks(990), 0);
        slept.end(1003);
        assert_eq!(slept.ticks(0), 3);
    }
}
