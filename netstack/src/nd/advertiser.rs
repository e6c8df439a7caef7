//! When router advertisements are due (RFC 4861 §6.2.4, §6.2.6). `[C]` on the CPU that speaks for the router.

use crate::snapshot::{Advertise, Advertisement, Snapshot, State};
use crate::time::Instant;
use crate::timers::{Timed, Timers};
use alloc::boxed::Box;
use core::time::Duration;
use weir_netif::IfIndex;
use weir_sync::wheel::Timer;

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
    /// Set for then.
    timer: Option<Timer>,
    last: Option<Instant>,
    initial_left: u8,
    variables: Advertisement,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Advertising,
    /// A farewell is due.
    Ceasing,
}

/// The schedules of all interfaces.
#[derive(Debug)]
pub struct Advertiser {
    schedules: Box<[Option<Schedule>]>,
    random: u64,
}

impl Advertiser {
    /// Nothing is advertised yet.
    pub fn new(interfaces: usize, seed: u64) -> Self {
        let schedules = core::iter::repeat_n(None, interfaces).collect();
        Self { schedules, random: seed | 1 }
    }

    /// Goes over to another snapshot: who is to advertise begins at once, who is not to any more says so once, with
    /// lifetime 0 (RFC 4861 §6.2.5).
    pub(crate) fn follow(&mut self, snapshot: &Snapshot, now: Instant, timers: &mut Timers) {
        for (index, place) in (0..).map(IfIndex).zip(&mut self.schedules) {
            let wanted = snapshot.interface(index).and_then(|interface| match interface.advertise {
                Advertise::On(variables)
                    if interface.state == State::Up && !interface.link_local.is_empty() =>
                {
                    Some(variables)
                }
                _ => None,
            });
            let begun = match (wanted, *place) {
                (Some(variables), Some(going)) if going.phase == Phase::Advertising => {
                    *place = Some(Schedule { variables, ..going });
                    continue;
                }
                (None, Some(going)) if going.phase == Phase::Ceasing => continue,
                (None, None) => continue,
                (Some(variables), before) => Schedule {
                    next: now,
                    timer: before.and_then(|before| before.timer),
                    last: None,
                    initial_left: INITIAL,
                    variables,
                    phase: Phase::Advertising,
                },
                (None, Some(going)) => {
                    let variables = Advertisement { lifetime_s: 0, ..going.variables };
                    Schedule { next: now, variables, phase: Phase::Ceasing, ..going }
                }
            };
            timers.cancel(begun.timer);
            let timer = timers.set(Timed::Advertisement(index), now, now);
            *place = Some(Schedule { timer, ..begun });
        }
    }

    /// Forgets, without a farewell, the schedules of interfaces that are `gone`.
    pub(crate) fn forget(&mut self, timers: &mut Timers, gone: impl Fn(IfIndex) -> bool) {
        for (index, place) in (0..).map(IfIndex).zip(&mut self.schedules) {
            if gone(index)
                && let Some(schedule) = place.take()
            {
                timers.cancel(schedule.timer);
            }
        }
    }

    /// A host asked: the next advertisement comes soon, though not sooner than 3 s after the last.
    pub(crate) fn solicited(&mut self, interface: IfIndex, now: Instant, timers: &mut Timers) {
        let delay = self.random_below(MAX_DELAY);
        if let Some(Some(schedule)) = self.schedules.get_mut(interface.index()) {
            let earliest = schedule.last.map_or(now, |last| last + MIN_DELAY_BETWEEN);
            let soon = now.max(earliest) + delay;
            if soon < schedule.next {
                timers.cancel(schedule.timer);
                schedule.next = soon;
                schedule.timer = timers.set(Timed::Advertisement(interface), soon, now);
            }
        }
    }

    /// What `interface` is to say, whose timer has just fired.
    pub(crate) fn due(
        &mut self,
        interface: IfIndex,
        now: Instant,
        timers: &mut Timers,
    ) -> Option<Advertisement> {
        let place = self.schedules.get_mut(interface.index())?;
        let schedule = (*place)?;
        let variables = schedule.variables;
        if schedule.phase == Phase::Ceasing {
            *place = None;
            return Some(variables);
        }
        let initial_left = schedule.initial_left.saturating_sub(1);
        let next = now + self.interval(&variables, initial_left);
        let timer = timers.set(Timed::Advertisement(interface), next, now);
        *self.schedules.get_mut(interface.index())? =
            Some(Schedule { next, timer, last: Some(now), initial_left, ..schedule });
        Some(variables)
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
