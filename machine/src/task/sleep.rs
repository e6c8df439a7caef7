//! Sleeping tasks by deadline. Touched at task level only; the timer's softint just says that one is due.

use super::mine;
use crate::{clock, timer};
use alloc::collections::BTreeMap;
use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

/// Deadline in nanoseconds of the clock, and a number that tells sleepers with the same one apart.
type Key = (u64, u64);

/// Who sleeps on a CPU.
#[derive(Debug)]
pub(super) struct Sleepers {
    queue: BTreeMap<Key, Waker>,
    number: u64,
}

impl Sleepers {
    pub(super) const fn new() -> Self {
        Self { queue: BTreeMap::new(), number: 0 }
    }

    /// Wakes whoever is due at `now`; the next deadline.
    pub(super) fn wake(&mut self, now: u64) -> Option<u64> {
        while let Some(first) = self.queue.first_entry() {
            if first.key().0 > now {
                break;
            }
            first.remove().wake();
        }
        self.first()
    }

    fn first(&self) -> Option<u64> {
        self.queue.keys().next().map(|key| key.0)
    }
}

/// Ends at a deadline, never before. Of the CPU whose task first polls it; dropping it takes it out of the queue.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Sleep {
    deadline: u64,
    /// Its place in the queue.
    key: Option<Key>,
    /// The queue is one CPU's.
    not_send: PhantomData<*const ()>,
}

/// Lets other tasks run for `duration` at least.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(clock::now().saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
}

/// Lets other tasks run until [`clock::now`] is at least `deadline_ns`.
pub fn sleep_until(deadline_ns: u64) -> Sleep {
    Sleep { deadline: deadline_ns, key: None, not_send: PhantomData }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if clock::now() >= self.deadline {
            self.leave();
            return Poll::Ready(());
        }
        let mut sleepers = mine().sleepers.borrow_mut();
        let deadline = self.deadline;
        let key = *self.key.get_or_insert_with(|| {
            sleepers.number += 1;
            (deadline, sleepers.number)
        });
        sleepers.queue.insert(key, cx.waker().clone());
        timer::set_tasks(sleepers.first());
        Poll::Pending
    }
}

impl Sleep {
    fn leave(&mut self) {
        if let Some(key) = self.key.take() {
            // The timer may fire once for nobody.
            mine().sleepers.borrow_mut().queue.remove(&key);
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.leave();
    }
}
