//! A CPU's timers: one wheel for all that its stack does by time, so that a tick costs what is due. `[C]`, softint context.
//!
//! Rate limits have no timer: a bucket's credit follows from the time when it is asked.

use crate::time::Instant;
use weir_netif::IfIndex;
use weir_sync::wheel::Timer;
use weir_sync::{More, Wheel};

/// A tick is 2^20 ns, about a millisecond: what is set for seconds moves down the wheel once or twice.
const TICK: u32 = 20;

/// What a timer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Timed {
    /// An entry of the IPv4 neighbour table.
    Neighbor4(u32),
    /// An entry of the IPv6 neighbour table.
    Neighbor6(u32),
    /// A router advertisement on this interface.
    Advertisement(IfIndex),
    /// A first look at which interfaces advertise.
    Advertisers,
    /// A datagram that is not whole yet.
    Reassembly(u32),
}

/// All timers of one stack. Fires none early, and none later than a tick after its time.
#[derive(Debug)]
pub(crate) struct Timers {
    wheel: Wheel<Timed>,
    /// Nothing is due before.
    deadline: Instant,
}

impl Timers {
    /// Room for `capacity` timers; allocates all it will ever need.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { wheel: Wheel::new(capacity, 0), deadline: Instant::FAR_FUTURE }
    }

    /// Sets a timer for `at`; what is not later than `now` is due at once. `None` if there are too many: a stack has room
    /// for one a neighbour and one an interface, and they set no more.
    pub(crate) fn set(&mut self, what: Timed, at: Instant, now: Instant) -> Option<Timer> {
        let current = now.as_nanos() >> TICK;
        // An idle wheel has stood still; it goes on as far as nothing in it has to be looked at.
        let _ = self.wheel.advance(current, 0, |_| ());
        let tick = if at <= now { current } else { at.as_nanos().div_ceil(1 << TICK) };
        let timer = self.wheel.insert(tick, what).ok()?;
        self.deadline = self.deadline.min(self.next());
        Some(timer)
    }

    /// Takes a timer back. Its deadline may still be kept.
    pub(crate) fn cancel(&mut self, timer: Option<Timer>) {
        if let Some(timer) = timer {
            self.wheel.cancel(timer);
        }
    }

    /// The next timer that is due at `now`; to be called until there is none.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Timed> {
        let mut fired = None;
        // Each turn of the loop moves one timer down the wheel, which a timer does a few times in its life.
        while fired.is_none()
            && self.wheel.advance(now.as_nanos() >> TICK, 1, |what| fired = Some(what)) == More::Yes
        {}
        if fired.is_none() {
            self.deadline = self.next();
        }
        fired
    }

    /// When [`due`](Self::due) should be asked again; for distant timers it may be early.
    #[inline]
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    fn next(&self) -> Instant {
        self.wheel
            .next()
            .map_or(Instant::FAR_FUTURE, |tick| Instant::from_nanos(tick.saturating_mul(1 << TICK)))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.wheel.len()
    }
}
