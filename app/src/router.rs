//! What each CPU's dispatcher runs in softint context: the packet work, and its timer.

use crate::forwarder::Forwarder;
use weir_machine::dispatch::Softints;
use weir_machine::interrupt::TIMER;
use weir_machine::{clock, timer};
use weir_netstack::Instant;
use weir_sync::{More, Softint};

/// One CPU's softints. `[C]`
pub struct Router {
    forwarder: Forwarder,
    /// What the timer is set to.
    armed: Instant,
}

impl Router {
    /// Nothing is due before the first turn.
    pub fn new(forwarder: Forwarder) -> Self {
        Self { forwarder, armed: Instant::FAR_FUTURE }
    }
}

impl Softints for Router {
    fn softint(&mut self, cx: &Softint, bit: u8) -> More {
        let now = Instant::from_nanos(clock::now());
        if bit == TIMER {
            self.armed = Instant::FAR_FUTURE;
        }
        let more = self.forwarder.softint(cx, bit, now);
        let due = self.forwarder.deadline(now);
        if due != self.armed {
            self.armed = due;
            timer::arm(due.as_nanos());
        }
        more
    }
}
