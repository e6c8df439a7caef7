//! Each dispatcher thread's one-shot timer: one thread sleeps until the earliest deadline and raises the bit.

use super::{clock, dispatch};
use crate::interrupt::TIMER;
use std::sync::{Condvar, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use weir_sync::{CpuId, MAX_CPUS};

/// Armed deadlines by CPU, in nanoseconds of the clock.
static DEADLINES: Mutex<[Option<u64>; MAX_CPUS]> = Mutex::new([None; MAX_CPUS]);
static CHANGED: Condvar = Condvar::new();
static SLEEPER: LazyLock<()> = LazyLock::new(|| {
    thread::Builder::new().name("timer".into()).spawn(sleeper).expect("no thread for the timer");
});

/// Sets [`TIMER`] on this thread's CPU once [`clock::now`](crate::clock::now) is at least `deadline_ns`, at once if
/// it is already, and replaces what was armed before.
///
/// # Panics
/// If this thread runs no dispatcher.
pub(crate) fn arm(deadline_ns: u64) {
    LazyLock::force(&SLEEPER);
    set(Some(deadline_ns));
}

/// Stops this CPU's timer. The bit may be set once more if it just fired.
pub(crate) fn disarm() {
    set(None);
}

fn set(deadline: Option<u64>) {
    let cpu = dispatch::here().expect("timer armed on a thread that runs no dispatcher");
    DEADLINES.lock().unwrap_or_else(PoisonError::into_inner)[cpu.index()] = deadline;
    CHANGED.notify_one();
}

fn sleeper() {
    let mut deadlines = DEADLINES.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let now = clock::now();
        for (number, slot) in deadlines.iter_mut().enumerate() {
            if slot.is_some_and(|deadline| deadline <= now) {
                *slot = None;
                CpuId::new(number).into_iter().for_each(|cpu| crate::dispatch::raise(cpu, TIMER));
            }
        }
        let next = deadlines.iter().flatten().min().map(|deadline| deadline.saturating_sub(now));
        let wait = Duration::from_nanos(next.unwrap_or(u64::MAX >> 8));
        deadlines = CHANGED.wait_timeout(deadlines, wait).unwrap_or_else(PoisonError::into_inner).0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::{More, Softints, run};
    use crate::{task, timer};
    use std::sync::mpsc::{Sender, channel};
    use weir_sync::Softint;
    use weir_sync::cpu::claim_any;

    /// Arms one deadline after the other and reports when each came.
    struct Alarm {
        waits: Vec<u64>,
        deadline: u64,
        report: Sender<(u64, u64)>,
    }

    const START: u8 = 9;

    impl Softints for Alarm {
        fn softint(&mut self, _cx: &Softint, bit: u8) -> More {
            if bit == TIMER {
                let _ = self.report.send((self.deadline, clock::now()));
            }
            match self.waits.pop() {
                Some(wait) => {
                    self.deadline = clock::now() + wait;
                    timer::arm(self.deadline);
                }
                None => timer::disarm(),
            }
            More::No
        }
    }

    #[test]
    fn fires_once_for_each_deadline_and_never_early_beside_a_task_that_sleeps() {
        let cpu = claim_any().unwrap();
        let (report, fired) = channel();
        let alarm = Alarm { waits: vec![0, 3_000_000, 20_000, 1_000_000], deadline: 0, report };
        thread::spawn(move || {
            run(cpu, Box::new(alarm), |cx| {
                let sleeper = async {
                    loop {
                        task::sleep(Duration::from_micros(300)).await;
                    }
                };
                task::spawn("sleeper", sleeper).unwrap();
                crate::dispatch::raise(cx.cpu(), START);
            })
        });
        for _ in 0..4 {
            let (deadline, now) = fired.recv_timeout(Duration::from_secs(10)).unwrap();
            assert!(now >= deadline, "early by {} ns", deadline - now);
        }
        assert!(fired.recv_timeout(Duration::from_millis(20)).is_err(), "fired without a deadline");
    }
}
