//! What tasks cost: polls, time, and the polls that took too long, by name.

use crate::lock::Lock;
use crate::{clock, dispatch};
use alloc::sync::Arc;
use alloc::vec::Vec;
use weir_sync::rank::Tasks;
use weir_sync::{Counter, CpuId};

/// A poll longer than this, in nanoseconds, is counted: other tasks of the CPU waited for it.
pub const LONG_NS: u64 = 1_000_000;

/// One task's counts. `[A]` written by its CPU, read by anyone.
#[derive(Debug)]
pub(super) struct Account {
    name: &'static str,
    cpu: CpuId,
    polls: Counter,
    total_ns: Counter,
    longest_ns: Counter,
    long_polls: Counter,
}

/// Accounts of all tasks that live, in the order they were spawned.
static OPEN: Lock<Tasks, Vec<Arc<Account>>> = Lock::new(Vec::new());

/// What a task has cost so far. Time that softints took by preempting it is not in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    /// The name it was spawned with.
    pub name: &'static str,
    /// The CPU it runs on.
    pub cpu: CpuId,
    /// How often it was polled.
    pub polls: u64,
    /// Nanoseconds of all polls.
    pub total_ns: u64,
    /// Nanoseconds of the longest.
    pub longest_ns: u64,
    /// Polls longer than [`LONG_NS`].
    pub long_polls: u64,
}

/// The tasks of all CPUs, in the order they were spawned; a task that ended is not among them. Task level.
pub fn tasks() -> impl Iterator<Item = Report> {
    // Copied without the lock: it masks softints.
    let mut open = Vec::new();
    loop {
        let wanted = OPEN.lock().len();
        open.reserve(wanted);
        let list = OPEN.lock();
        if list.len() <= open.capacity() {
            open.extend(list.iter().cloned());
            break;
        }
    }
    open.into_iter().map(|account| account.report())
}

/// A new account.
pub(super) fn open(name: &'static str, cpu: CpuId) -> Arc<Account> {
    let account = Arc::new(Account {
        name,
        cpu,
        polls: Counter::new(),
        total_ns: Counter::new(),
        longest_ns: Counter::new(),
        long_polls: Counter::new(),
    });
    OPEN.lock().push(account.clone());
    account
}

impl Account {
    /// The task ended.
    pub(super) fn close(self: &Arc<Self>) {
        let mut open = OPEN.lock();
        if let Some(at) = open.iter().position(|account| Arc::ptr_eq(account, self)) {
            open.remove(at);
        }
    }

    /// Runs one poll and accounts for it.
    pub(super) fn measure<R>(&self, poll: impl FnOnce() -> R) -> R {
        let (began, preempted) = (clock::now(), dispatch::preempted_ns());
        let result = poll();
        let softints = dispatch::preempted_ns() - preempted;
        self.add((clock::now() - began).saturating_sub(softints));
        result
    }

    fn add(&self, ns: u64) {
        self.polls.add(1);
        self.total_ns.add(ns);
        self.longest_ns.set(self.longest_ns.get().max(ns));
        self.long_polls.add(u64::from(ns > LONG_NS));
    }

    fn report(&self) -> Report {
        Report {
            name: self.name,
            cpu: self.cpu,
            polls: self.polls.get(),
            total_ns: self.total_ns.get(),
            longest_ns: self.longest_ns.get(),
            long_polls: self.long_polls.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_long_polls_and_keeps_the_longest() {
        let account = open("counted", CpuId::BOOT);
        [10, LONG_NS, LONG_NS + 1, 20].into_iter().for_each(|ns| account.add(ns));
        let found = tasks().find(|report| report.name == "counted").unwrap();
        let expected = Report {
            name: "counted",
            cpu: CpuId::BOOT,
            polls: 4,
            total_ns: 2 * LONG_NS + 31,
            longest_ns: LONG_NS + 1,
            long_polls: 1,
        };
        assert_eq!(found, expected);
        account.close();
        assert!(tasks().all(|report| report.name != "counted"));
    }
}
