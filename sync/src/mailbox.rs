//! A bounded queue into one CPU from any context of all others: messages, not packets.
//!
//! A post is push, then raise; the receiver takes its pending word, then the messages. So a message that it misses has
//! its bit still set.

#[cfg(loom)]
use self::queue::ArrayQueue;
#[cfg(not(loom))]
use crossbeam_queue::ArrayQueue;

/// The queue. `[A]` Pushed by any CPU, popped by its owner.
#[derive(Debug)]
pub struct Mailbox<T> {
    queue: ArrayQueue<T>,
}

/// The mailbox has no room: the message comes back, to be dropped by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full<T>(pub T);

impl<T> core::fmt::Display for Full<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the mailbox is full")
    }
}

impl<T: core::fmt::Debug> core::error::Error for Full<T> {}

impl<T> Mailbox<T> {
    /// Room for `capacity` messages, at least one, for good.
    pub fn new(capacity: usize) -> Self {
        Self { queue: ArrayQueue::new(capacity.max(1)) }
    }

    /// Leaves a message, then calls `raise` to mark the receiver's source pending, and returns what that says. Without
    /// room `raise` is not called: who filled the mailbox did.
    ///
    /// ```
    /// # use weir_sync::{Mailbox, Pending, mailbox::Full};
    /// let (pending, mailbox) = (Pending::new(), Mailbox::new(1));
    /// let interrupt_due = mailbox.post("first", || pending.raise(1)).unwrap();
    /// assert!(!interrupt_due, "the receiver is awake");
    /// assert_eq!(mailbox.post("second", || pending.raise(1)), Err(Full("second")));
    /// ```
    #[inline]
    pub fn post<R>(&self, message: T, raise: impl FnOnce() -> R) -> Result<R, Full<T>> {
        self.queue.push(message).map_err(Full)?;
        Ok(raise())
    }

    /// The oldest message. A receiver that stops before `None` keeps its source pending.
    #[inline]
    pub fn receive(&self) -> Option<T> {
        self.queue.pop()
    }

    /// How many messages there were a moment ago.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there were none a moment ago.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// The queue of a model: loom cannot see into crossbeam's, so a lock stands for it. What is modelled is the order of
/// pushing, raising, taking and popping.
#[cfg(loom)]
mod queue {
    use alloc::collections::VecDeque;
    use loom::sync::Mutex;

    #[derive(Debug)]
    pub(super) struct ArrayQueue<T> {
        capacity: usize,
        messages: Mutex<VecDeque<T>>,
    }

    impl<T> ArrayQueue<T> {
        pub(super) fn new(capacity: usize) -> Self {
            Self { capacity, messages: Mutex::new(VecDeque::new()) }
        }

        pub(super) fn push(&self, message: T) -> Result<(), T> {
            let mut messages = self.messages.lock().unwrap();
            if messages.len() == self.capacity {
                return Err(message);
            }
            messages.push_back(message);
            Ok(())
        }

        pub(super) fn pop(&self) -> Option<T> {
            self.messages.lock().unwrap().pop_front()
        }

        pub(super) fn len(&self) -> usize {
            self.messages.lock().unwrap().len()
        }

        pub(super) fn is_empty(&self) -> bool {
            self.len() == 0
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Pending;
    use proptest::prelude::*;
    use std::vec;

    #[test]
    fn a_sender_learns_whether_an_interrupt_is_due() {
        let (pending, mailbox) = (Pending::new(), Mailbox::new(4));
        assert!(pending.sleep());
        assert_eq!(mailbox.post(1, || pending.raise(3)), Ok(true));
        pending.attend();
        assert_eq!(mailbox.post(2, || pending.raise(3)), Ok(false));
        assert_eq!(pending.take(), 1 << 3);
        assert_eq!((mailbox.receive(), mailbox.receive(), mailbox.receive()), (Some(1), Some(2), None));
    }

    #[test]
    fn overflow_comes_back_and_raises_nothing() {
        let (pending, mailbox) = (Pending::new(), Mailbox::new(0));
        assert_eq!(mailbox.post(1, || pending.raise(0)), Ok(false));
        pending.take();
        assert_eq!(mailbox.post(2, || pending.raise(0)), Err(Full(2)));
        assert!(!pending.any());
        assert_eq!(mailbox.len(), 1);
    }

    #[test]
    fn senders_lose_nothing_and_keep_their_own_order() {
        const EACH: usize = if cfg!(miri) { 50 } else { 5_000 };
        let (pending, mailbox) = (Pending::new(), Mailbox::new(16));
        std::thread::scope(|scope| {
            for sender in 0..3 {
                let (pending, mailbox) = (&pending, &mailbox);
                scope.spawn(move || {
                    for n in 0..EACH {
                        let mut message = (sender, n);
                        while let Err(Full(back)) = mailbox.post(message, || pending.raise(1)) {
                            message = back;
                            std::thread::yield_now();
                        }
                    }
                });
            }
            let mut next = vec![0; 3];
            while next != [EACH; 3] {
                if pending.take() == 0 {
                    std::thread::yield_now();
                }
                while let Some((sender, n)) = mailbox.receive() {
                    assert_eq!(next[sender], n);
                    next[sender] += 1;
                }
            }
        });
    }

    proptest! {
        #[test]
        fn does_what_a_bounded_deque_does(capacity in 1..8_usize, posts in prop::collection::vec(any::<bool>(), 0..60)) {
            let mailbox = Mailbox::new(capacity);
            let mut like = std::collections::VecDeque::new();
            for (n, post) in posts.into_iter().enumerate() {
                if post {
                    let expected = if like.len() < capacity { Ok(()) } else { Err(Full(n)) };
                    prop_assert_eq!(mailbox.post(n, || ()), expected);
                    if expected.is_ok() {
                        like.push_back(n);
                    }
                } else {
                    prop_assert_eq!(mailbox.receive(), like.pop_front());
                }
            }
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::Pending;
    use crate::models::{bounded, check};
    use loom::sync::Arc;
    use loom::thread;

    /// The receiver takes its word and its messages once, then goes to sleep: then nothing is left behind unless a
    /// sender owes it an interrupt.
    fn nothing_is_left_behind(senders: u32) {
        let (pending, mailbox) = (Arc::new(Pending::new()), Arc::new(Mailbox::new(2)));
        let senders: std::vec::Vec<_> = (0..senders)
            .map(|n| {
                let (pending, mailbox) = (pending.clone(), mailbox.clone());
                thread::spawn(move || mailbox.post(n, || pending.raise(1)).unwrap())
            })
            .collect();
        let mut got = 0;
        if pending.take() != 0 {
            got += core::iter::from_fn(|| mailbox.receive()).count();
        }
        let asleep = pending.sleep();
        let count = senders.len();
        let interrupts = senders.into_iter().map(|sender| sender.join().unwrap()).filter(|due| *due).count();
        assert!(got == count || !asleep || interrupts > 0, "a message waits for a sleeper");
        pending.attend();
        if got < count {
            assert_ne!(pending.take(), 0, "a message without its bit");
            got += core::iter::from_fn(|| mailbox.receive()).count();
        }
        assert_eq!(got, count);
    }

    #[test]
    fn a_message_is_received_or_its_bit_is_set() {
        check("mailbox: one sender against take, receive, sleep", || nothing_is_left_behind(1));
    }

    #[test]
    fn two_senders_leave_nothing_behind() {
        bounded("mailbox: two senders against take, receive, sleep", Some(3), || nothing_is_left_behind(2));
    }
}
