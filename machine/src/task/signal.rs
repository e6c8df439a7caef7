//! News for one task, from any context: a softint, another CPU, another task.

use super::sleep::sleep_until;
use atomic_waker::AtomicWaker;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Poll;

/// A flag one task waits for. Set twice before the task looks, it is seen once.
#[derive(Debug, Default)]
pub struct Signal {
    /// `[A]` Set by anyone (Release), taken by the task (Acquire).
    set: AtomicBool,
    /// `[A]` The task's waker.
    waiter: AtomicWaker,
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Woken {
    /// By the signal.
    Signal,
    /// By its deadline.
    Deadline,
}

impl Signal {
    /// Not set.
    pub const fn new() -> Self {
        Self { set: AtomicBool::new(false), waiter: AtomicWaker::new() }
    }

    /// Sets it and wakes the task. Any context, any CPU.
    pub fn set(&self) {
        self.set.store(true, Ordering::Release);
        self.waiter.wake();
    }

    /// Waits until it is set, and takes it. One task.
    pub fn wait(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|cx| {
            // First the waker, then the look: whoever sets it in between wakes it.
            self.waiter.register(cx.waker());
            if self.set.swap(false, Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
    }

    /// The same until [`clock::now`](crate::clock::now) is at least `deadline_ns`.
    pub async fn wait_until(&self, deadline_ns: u64) -> Woken {
        let (mut signal, mut sleep) = (pin!(self.wait()), pin!(sleep_until(deadline_ns)));
        poll_fn(|cx| {
            if signal.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Woken::Signal);
            }
            sleep.as_mut().poll(cx).map(|()| Woken::Deadline)
        })
        .await
    }
}
