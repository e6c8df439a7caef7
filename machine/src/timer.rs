//! The one-shot timer of each CPU, shared by what runs there: softints, whose deadline sets the softint bit
//! [`TIMER`](crate::interrupt::TIMER), tasks that sleep, and the slice of a task under load.
//!
//! TSC-deadline mode where the CPU has it, else the local APIC's counter measured against the TSC. Armed for the
//! earliest of the three.

#[cfg(feature = "image")]
mod lapic;

use crate::{clock, dispatch, mask};
use core::sync::atomic::{AtomicU64, Ordering};
use weir_sync::MAX_CPUS;

#[cfg(not(feature = "image"))]
use crate::host::timer as body;
#[cfg(feature = "image")]
use lapic as body;
#[cfg(feature = "image")]
pub use lapic::{init_cpu, mode};

/// No deadline.
const NEVER: u64 = u64::MAX;

/// The deadlines of one CPU, in nanoseconds of the clock.
struct Deadlines {
    /// `[C]` Each is touched with softints masked.
    softints: AtomicU64,
    tasks: AtomicU64,
    slice: AtomicU64,
    /// What the timer is armed for.
    armed: AtomicU64,
}

static DEADLINES: [Deadlines; MAX_CPUS] = [const {
    Deadlines {
        softints: AtomicU64::new(NEVER),
        tasks: AtomicU64::new(NEVER),
        slice: AtomicU64::new(NEVER),
        armed: AtomicU64::new(NEVER),
    }
}; MAX_CPUS];

/// Serves [`TIMER`](crate::interrupt::TIMER) on this CPU once [`clock::now`] is at least `deadline_ns`, at once if it is
/// already, and replaces what was armed before. For softints; a task sleeps by [`task::sleep`](crate::task::sleep).
///
/// # Panics
/// On a thread of the host that runs no dispatcher.
#[inline]
pub fn arm(deadline_ns: u64) {
    set(|deadlines| &deadlines.softints, deadline_ns);
}

/// Takes the deadline of [`arm`] back.
pub fn disarm() {
    arm(NEVER);
}

/// When the first sleeping task is due.
pub(crate) fn set_tasks(deadline_ns: Option<u64>) {
    set(|deadlines| &deadlines.tasks, deadline_ns.unwrap_or(NEVER));
}

/// When the running task's slice ends.
pub(crate) fn set_slice(deadline_ns: u64) {
    set(|deadlines| &deadlines.slice, deadline_ns);
}

/// Whose deadline has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Due {
    pub(crate) softints: bool,
    pub(crate) tasks: bool,
}

/// The timer fired, perhaps early: takes the deadlines that have passed and arms it for the rest.
pub(crate) fn expire() -> Due {
    let deadlines = mine();
    let now = clock::now();
    let passed = |slot: &AtomicU64| {
        let due = slot.load(Ordering::Relaxed) <= now;
        if due {
            slot.store(NEVER, Ordering::Relaxed);
        }
        due
    };
    let due = Due { softints: passed(&deadlines.softints), tasks: passed(&deadlines.tasks) };
    passed(&deadlines.slice);
    deadlines.armed.store(NEVER, Ordering::Relaxed);
    rearm(deadlines);
    due
}

#[inline]
fn set(which: impl FnOnce(&Deadlines) -> &AtomicU64, deadline_ns: u64) {
    let _masked = mask::mask();
    let deadlines = mine();
    which(deadlines).store(deadline_ns, Ordering::Relaxed);
    rearm(deadlines);
}

fn rearm(deadlines: &Deadlines) {
    let of = |slot: &AtomicU64| slot.load(Ordering::Relaxed);
    let earliest = of(&deadlines.softints).min(of(&deadlines.tasks)).min(of(&deadlines.slice));
    if earliest == of(&deadlines.armed) {
        return;
    }
    deadlines.armed.store(earliest, Ordering::Relaxed);
    match earliest {
        NEVER => body::disarm(),
        deadline => body::arm(deadline),
    }
}

fn mine() -> &'static Deadlines {
    match dispatch::here() {
        Some(cpu) => &DEADLINES[cpu.index()],
        None => panic!("this thread runs no dispatcher, so it has no timer"),
    }
}
