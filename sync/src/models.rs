//! What the models share: a runner that counts executions, a value that notices use after free.

use loom::cell::UnsafeCell;
use std::format;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Explores all executions of `model` and prints one row of the table: name, executions.
pub(crate) fn check(name: &str, model: impl Fn() + Send + Sync + 'static) {
    bounded(name, None, model);
}

/// As [`check`]; of executions with at most `preemptions` forced switches, if given.
pub(crate) fn bounded(name: &str, preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicU64::new(0));
    let count = executions.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 10_000;
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let bound = preemptions.map_or("all".into(), |n| format!("<= {n} preemptions"));
    let row = format!("{name:<58} {:>9} executions, {bound}\n", executions.load(Ordering::Relaxed));
    // Not `print!`: the test harness keeps that to itself.
    let _ = std::io::stderr().write_all(row.as_bytes());
}

/// A value whose reads and whose drop loom checks against each other: a read that does not happen before the drop
/// fails the model.
pub(crate) struct Tracked(UnsafeCell<u32>);

// SAFETY: loom checks every access.
unsafe impl Sync for Tracked {}
// SAFETY: as for `Sync`.
unsafe impl Send for Tracked {}

impl Tracked {
    pub(crate) fn new(value: u32) -> Self {
        let cell = UnsafeCell::new(0);
        // SAFETY: not shared yet. Written here, not by `new`, so that loom sees the initialisation.
        cell.with_mut(|at| unsafe { *at = value });
        Self(cell)
    }

    pub(crate) fn get(&self) -> u32 {
        // SAFETY: loom fails the model if a write runs beside it.
        self.0.with(|at| unsafe { *at })
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        // SAFETY: as in `get`.
        self.0.with_mut(|at| unsafe { *at = u32::MAX });
    }
}
