//! What each CPU's dispatcher runs in softint context: which source is whose work.

use crate::forwarder::Forwarder;
use weir_machine::dispatch::Softints;
use weir_machine::interrupt::{CONSOLE, MESSAGE, TIMER};
use weir_machine::{clock, timer};
use weir_netstack::Instant;
use weir_sync::{More, Softint};

/// The boot CPU: packet work, and news for management.
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

    /// Sets the timer to whatever is due first.
    fn arm(&mut self, now: Instant) {
        let due = self.forwarder.deadline(now);
        if due != self.armed {
            self.armed = due;
            timer::arm(due.as_nanos());
        }
    }
}

impl Softints for Router {
    fn softint(&mut self, cx: &Softint, bit: u8) -> More {
        let now = Instant::from_nanos(clock::now());
        match bit {
            TIMER => {
                self.armed = Instant::FAR_FUTURE;
                self.forwarder.tick(cx, now);
                self.arm(now);
                More::No
            }
            CONSOLE => {
                self.forwarder.shared().console_typed();
                More::No
            }
            // Nobody sends packets to this CPU yet.
            MESSAGE => More::No,
            source => {
                let more = self.forwarder.receive(cx, source, now);
                self.arm(now);
                more
            }
        }
    }
}

/// A CPU without queues: it sleeps until packets can be sent to it.
pub struct IdleCpu;

impl Softints for IdleCpu {
    fn softint(&mut self, _: &Softint, _: u8) -> More {
        More::No
    }
}
