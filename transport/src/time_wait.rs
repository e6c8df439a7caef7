//! What is left of connections that have ended, for as long as the peer may not know (RFC 9293 §3.6.1): a few numbers
//! each, in a ring of fixed size.

use crate::wire::{Flow, Segment};
use alloc::collections::VecDeque;
use weir_netif::IfIndex;

/// How long: the acknowledgement of the peer's FIN was lost if the FIN comes again, and a retransmission takes less.
const WAIT_NS: u64 = 10_000_000_000;

/// A connection that both sides have closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ended {
    pub(crate) flow: Flow,
    pub(crate) link: IfIndex,
    /// The next numbers of either side.
    pub(crate) nxt: u32,
    pub(crate) rcv: u32,
    pub(crate) until_ns: u64,
}

impl Ended {
    pub(crate) fn new(flow: Flow, link: IfIndex, (nxt, rcv): (u32, u32), now_ns: u64) -> Self {
        Self { flow, link, nxt, rcv, until_ns: now_ns + WAIT_NS }
    }
}

/// What a segment means to a connection that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The peer does not know yet: acknowledge again.
    Acknowledge(Ended),
    /// Nothing.
    Ignore,
    /// A new connection, or none that was waited for.
    NotOurs,
}

/// Oldest first; made with all the room it will have.
#[derive(Debug)]
pub(crate) struct Table {
    ended: VecDeque<Ended>,
    room: usize,
}

impl Table {
    pub(crate) fn new(room: usize) -> Self {
        Self { ended: VecDeque::with_capacity(room), room }
    }

    pub(crate) fn insert(&mut self, ended: Ended) {
        if self.ended.len() >= self.room {
            self.ended.pop_front();
        }
        if self.room > 0 {
            self.ended.push_back(ended);
        }
    }

    pub(crate) fn judge(&mut self, flow: &Flow, segment: &Segment<'_>, now_ns: u64) -> Verdict {
        while self.ended.front().is_some_and(|ended| ended.until_ns <= now_ns) {
            self.ended.pop_front();
        }
        let Some(at) = self.ended.iter().position(|ended| ended.flow == *flow) else {
            return Verdict::NotOurs;
        };
        let Some(&ended) = self.ended.get(at) else { return Verdict::NotOurs };
        if segment.is_syn() && !segment.is_ack() {
            // A new connection begins beyond the old one (RFC 9293 §3.6.1, RFC 6191).
            if (segment.seq.wrapping_sub(ended.rcv) as i32) > 0 {
                self.ended.remove(at);
                return Verdict::NotOurs;
            }
            return Verdict::Acknowledge(ended);
        }
        // RFC 1337: a reset does not shorten the wait.
        if segment.is_rst() || segment.len() == 0 { Verdict::Ignore } else { Verdict::Acknowledge(ended) }
    }
}
