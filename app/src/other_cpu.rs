//! What every CPU but the first runs: packet work, and nothing else.

use crate::forwarder::Forwarder;
use weir_machine::dispatch::Worker;
use weir_machine::interrupt::TIMER;
use weir_machine::{clock, timer};
use weir_netstack::Instant;
use weir_sync::{Control, More, Softint};

/// A CPU without management. `[C]`
pub struct OtherCpu {
    forwarder: Forwarder,
    /// What the timer is set to.
    armed: Instant,
}

impl OtherCpu {
    /// Nothing is due before the first turn.
    pub fn new(forwarder: Forwarder) -> Self {
        Self { forwarder, armed: Instant::FAR_FUTURE }
    }
}

impl Worker for OtherCpu {
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

    fn task(&mut self, _: &Control) -> More {
        More::No
    }
}
