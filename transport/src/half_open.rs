//! Connections whose handshake has begun: a few numbers each, and no more of them than there is room for. One that is
//! pushed out lives on in the cookie that its SYN was answered with (`cookie.rs`), as in FreeBSD's syncache.

use crate::cookie::Offer;
use crate::wire::Flow;
use alloc::collections::VecDeque;
use weir_netif::IfIndex;

/// Between the answer to a SYN and its repetition; doubled each time (RFC 6298 §5.7).
const FIRST_WAIT_NS: u64 = 1_000_000_000;
/// Answers to a SYN, the first included: given up after 31 s.
const ANSWERS: u8 = 5;
/// Since one was pushed out, cookies without an entry are believed for this long.
const BELIEVED_NS: u64 = 120_000_000_000;

/// A SYN that was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HalfOpen {
    pub(crate) flow: Flow,
    /// Where it came in by, and that link's MTU.
    pub(crate) link: IfIndex,
    pub(crate) mtu: u16,
    pub(crate) irs: u32,
    pub(crate) iss: u32,
    pub(crate) offer: Offer,
    /// When the answer is due again.
    due_ns: u64,
    answers: u8,
}

impl HalfOpen {
    pub(crate) fn new(
        flow: Flow,
        (link, mtu): (IfIndex, u16),
        (irs, iss): (u32, u32),
        offer: Offer,
        now_ns: u64,
    ) -> Self {
        Self { flow, link, mtu, irs, iss, offer, due_ns: now_ns + FIRST_WAIT_NS, answers: 1 }
    }
}

/// Oldest first; made with all the room it will have.
#[derive(Debug)]
pub(crate) struct Table {
    entries: VecDeque<HalfOpen>,
    room: usize,
    believed_until_ns: u64,
}

impl Table {
    pub(crate) fn new(room: usize) -> Self {
        Self { entries: VecDeque::with_capacity(room), room, believed_until_ns: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn find(&self, flow: &Flow) -> Option<&HalfOpen> {
        self.entries.iter().find(|entry| entry.flow == *flow)
    }

    pub(crate) fn remove(&mut self, flow: &Flow) -> Option<HalfOpen> {
        let at = self.entries.iter().position(|entry| entry.flow == *flow)?;
        self.entries.remove(at)
    }

    /// Keeps one; whether it pushed the oldest out.
    pub(crate) fn insert(&mut self, entry: HalfOpen, now_ns: u64) -> bool {
        let full = self.entries.len() >= self.room;
        if full {
            self.entries.pop_front();
            self.believed_until_ns = now_ns + BELIEVED_NS;
        }
        if self.room > 0 {
            self.entries.push_back(entry);
        }
        full
    }

    /// Whether a cookie may be all that is known of a handshake.
    pub(crate) fn believes(&self, now_ns: u64) -> bool {
        now_ns < self.believed_until_ns
    }

    /// One whose answer is to be sent again. Those that were answered often enough are forgotten.
    pub(crate) fn due(&mut self, now_ns: u64) -> Option<HalfOpen> {
        self.entries.retain(|entry| entry.due_ns > now_ns || entry.answers < ANSWERS);
        let entry = self.entries.iter_mut().find(|entry| entry.due_ns <= now_ns)?;
        entry.due_ns = now_ns + (FIRST_WAIT_NS << entry.answers);
        entry.answers += 1;
        Some(*entry)
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        self.entries.iter().map(|entry| entry.due_ns).min()
    }
}
