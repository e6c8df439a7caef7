//! When router advertisements are due (RFC 4861 §6.2.4, §6.2.6). `[C]` on the CPU that speaks for the router.

use crate::snapshot::{Advertise, Advertisement, Snapshot, State};
use crate::time::Instant;
use alloc::boxed::Box;
use core::time::Duration;
use weir_netif::IfIndex;

/// MAX_INITIAL_RTR_ADVERTISEMENTS, and MAX_INITIAL_RTR_ADVERT_INTERVAL between them.
const INITIAL: u8 = 3;
const INITIAL_INTERVAL: Duration = Duration::from_secs(16);
/// MAX_RA_DELAY_TIME.
const MAX_DELAY: Duration = Duration::from_millis(500);
/// MIN_DELAY_BETWEEN_RAS.
const MIN_DELAY_BETWEEN: Duration = Duration::from_secs(3);

/// One interface's schedule while it advertises.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    next: Instant,
    last: Option<Instant>,
    initial_left: u8,
    /// What was advertised last, for the farewell.
    variables: Advertisement,
}

/// The schedules of all interfaces.
#[derive(Debug)]
pub struct Advertiser {
    schedules: Box<[Option<Schedule>]>,
    deadline: Instant,
    random: u64,
}

impl Advertiser {
    /// Nothing is advertised yet.
    pub fn new(interfaces: usize, seed: u64) -> Self {
        let schedules = core::iter::repeat_n(None, interfaces).collect();
        // Due at once, to find the interfaces that advertise.
        Self { schedules, deadline: Instant::ZERO, random: seed | 1 }
    }

    /// When [`due`](Self::due) should be asked again.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Has [`due`](Self::due) look at the interfaces anew: the snapshot changed.
    pub fn reconsider(&mut self) {
        self.deadline = Instant::ZERO;
    }

    /// A host asked: the next advertisement comes soon, though not sooner than 3 s after the last.
    pub fn solicited(&mut self, interface: IfIndex, now: Instant) {
        let delay = self.random_below(MAX_DELAY);
        if let Some(Some(schedule)) = self.schedules.get_mut(interface.index()) {
            let earliest = schedule.last.map_or(now, |last| last + MIN_DELAY_BETWEEN);
            schedule.next = schedule.next.min(now.max(earliest) + delay);
            self.deadline = self.deadline.min(schedule.next);
        }
    }

    /// The next interface that has an advertisement due at `now`, with what to say; to be called until there is none.
    /// Who ceases to advertise says so once, with lifetime 0 (RFC 4861 §6.2.5).
    pub fn due(&mut self, snapshot: &Snapshot, now: Instant) -> Option<(IfIndex, Advertisement)> {
        if now < self.deadline {
            return None;
        }
        let mut deadline = Instant::FAR_FUTURE;
        for index in (0..self.schedules.len() as u16).map(IfIndex) {
            let wanted = snapshot.interface(index).and_then(|interface| match interface.advertise {
                Advertise::On(variables)
                    if interface.state == State::Up && !interface.link_local.is_empty() =>
                {
                    Some(variables)
                }
                _ => None,
            });
            let Some(place) = self.schedules.get_mut(index.index()) else { break };
            let Some(variables) = wanted else {
                if let Some(ceased) = place.take() {
                    return Some((index, Advertisement { lifetime_s: 0, ..ceased.variables }));
                }
                continue;
            };
            let fresh = Schedule { next: now, last: None, initial_left: INITIAL, variables };
            let mut schedule = place.unwrap_or(fresh);
            schedule.variables = variables;
            let due = schedule.next <= now;
            if due {
                schedule.initial_left = schedule.initial_left.saturating_sub(1);
                schedule.last = Some(now);
                schedule.next = now + self.interval(&variables, schedule.initial_left);
            }
            deadline = deadline.min(schedule.next);
            if let Some(place) = self.schedules.get_mut(index.index()) {
                *place = Some(schedule);
            }
            if due {
                return Some((index, variables));
            }
        }
        self.deadline = deadline;
        None
    }

    /// Uniform between the interval's bounds (RFC 4861 §6.2.4).
    fn interval(&mut self, variables: &Advertisement, initial_left: u8) -> Duration {
        let span = variables.max_interval.saturating_sub(variables.min_interval);
        let interval = variables.min_interval + self.random_below(span);
        let interval = interval.max(MIN_DELAY_BETWEEN);
        if initial_left > 0 { interval.min(INITIAL_INTERVAL) } else { interval }
    }

    fn random_below(&mut self, bound: Duration) -> Duration {
        // Marsaglia's xorshift64.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        Duration::from_nanos(self.random % (bound.as_nanos() as u64).max(1))
    }
}
