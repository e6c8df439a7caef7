//! What each CPU's dispatcher runs: which softint source is whose work.

use crate::forwarder::Forwarder;
use crate::management::Management;
use crate::show::Ready;
use alloc::string::{String, ToString};
use weir_machine::dispatch::Worker;
use weir_machine::interrupt::TIMER;
use weir_machine::{clock, timer};
use weir_netstack::Instant;
use weir_sync::{Control, More, Softint};

/// The boot CPU: packet work in softints, management at task level.
pub struct Router {
    forwarder: Forwarder,
    management: Management,
    /// What the timer is set to.
    armed: Instant,
}

impl Router {
    /// Nothing is due before the first turn.
    pub fn new(forwarder: Forwarder, management: Management) -> Self {
        Self { forwarder, management, armed: Instant::FAR_FUTURE }
    }

    /// The line that says the router forwards on `cpus` CPUs.
    pub fn ready_line(&self, cpus: usize, memory: u64) -> String {
        Ready {
            hostname: self.management.hostname(),
            since_entry_ns: clock::now(),
            since_entry_ticks: clock::since_entry(),
            cpus,
            memory,
            interfaces: &self.management.status(),
        }
        .to_string()
    }

    /// Sets the timer to whatever is due first.
    fn arm(&mut self, now: Instant) {
        let due = self.forwarder.deadline(now).min(self.management.deadline());
        if due != self.armed {
            self.armed = due;
            timer::arm(due.as_nanos());
        }
    }
}

impl Worker for Router {
    fn softint(&mut self, cx: &Softint, bit: u8) -> More {
        let now = Instant::from_nanos(clock::now());
        if bit == TIMER {
            self.armed = Instant::FAR_FUTURE;
        }
        let more = self.forwarder.softint(cx, bit, now);
        self.arm(now);
        more
    }

    fn task(&mut self, cx: &Control) -> More {
        let now = Instant::from_nanos(clock::now());
        self.management.run(cx, now);
        self.arm(now);
        More::No
    }
}
