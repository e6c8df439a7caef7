use super::*;
use crate::dispatch::{More, Softints, raise, run};
use core::time::Duration;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use weir_sync::Softint;
use weir_sync::cpu::claim_any;

const PATIENCE: Duration = Duration::from_secs(20);

/// Does nothing.
struct Quiet;

impl Softints for Quiet {
    fn softint(&mut self, _: &Softint, _: u8) -> More {
        More::No
    }
}

/// A CPU on a thread of its own, whose first tasks `first` spawns.
fn on_cpu(first: impl FnOnce() + Send + 'static) -> CpuId {
    let cpu = claim_any().unwrap();
    let id = cpu.id();
    thread::spawn(move || run(cpu, Box::new(Quiet), |_| first()));
    id
}

fn next<T>(from: &Receiver<T>) -> T {
    from.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn runs_a_task_to_its_end_and_drops_it() {
    struct Noted(std::sync::mpsc::Sender<&'static str>);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.send("dropped").unwrap();
        }
    }
    let (report, events) = channel();
    on_cpu(move || {
        let noted = Noted(report);
        let task = async move {
            noted.0.send("polled").unwrap();
            yield_now().await;
            noted.0.send("polled again").unwrap();
        };
        spawn("noted", task).unwrap();
    });
    assert_eq!([(); 3].map(|()| next(&events)), ["polled", "polled again", "dropped"]);
}

#[test]
fn tasks_that_are_always_ready_take_turns() {
    let (report, order) = channel();
    on_cpu(move || {
        for number in 0..5 {
            let report = report.clone();
            let task = async move {
                for _ in 0..20 {
                    report.send(number).unwrap();
                    yield_now().await;
                }
            };
            spawn("fair", task).unwrap();
        }
    });
    let order: Vec<usize> = (0..100).map(|_| next(&order)).collect();
    for turn in order.chunks(5) {
        let mut seen = turn.to_vec();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 4], "{order:?}");
    }
}

/// Two CPUs hand a ball to and fro: one lost wake-up, and nothing moves any more.
#[test]
fn no_wake_up_is_lost_between_cpus() {
    const ROUNDS: usize = 20_000;
    static BALLS: [Signal; 2] = [const { Signal::new() }; 2];
    let (report, done) = channel();
    for side in 0..2 {
        let report = report.clone();
        on_cpu(move || {
            let task = async move {
                for _ in 0..ROUNDS {
                    BALLS[side].wait().await;
                    BALLS[1 - side].set();
                }
                report.send(side).unwrap();
            };
            spawn("player", task).unwrap();
        });
    }
    BALLS[0].set();
    let mut sides = [next(&done), next(&done)];
    sides.sort_unstable();
    assert_eq!(sides, [0, 1]);
}

/// Foreign threads wake while the task polls, sleeps, or is on its way to sleep.
#[test]
fn no_wake_up_is_lost_from_threads_that_run_no_dispatcher() {
    static NEWS: Signal = Signal::new();
    static GIVEN: AtomicU64 = AtomicU64::new(0);
    const EACH: u64 = 5_000;
    let (report, seen) = channel();
    on_cpu(move || {
        let task = async move {
            loop {
                NEWS.wait().await;
                report.send(GIVEN.load(Ordering::SeqCst)).unwrap();
            }
        };
        spawn("listener", task).unwrap();
    });
    for n in 1..=EACH {
        GIVEN.store(n, Ordering::SeqCst);
        NEWS.set();
        while next(&seen) < n {}
    }
}

#[test]
fn softints_wake_tasks() {
    static NEWS: Signal = Signal::new();
    struct Bell;
    impl Softints for Bell {
        fn softint(&mut self, _: &Softint, bit: u8) -> More {
            assert_eq!(bit, 20);
            NEWS.set();
            More::No
        }
    }
    let (report, rings) = channel();
    let cpu = claim_any().unwrap();
    let id = cpu.id();
    thread::spawn(move || {
        run(cpu, Box::new(Bell), |_| {
            let task = async move {
                loop {
                    NEWS.wait().await;
                    report.send(()).unwrap();
                }
            };
            spawn("bell", task).unwrap();
        })
    });
    for _ in 0..1000 {
        raise(id, 20);
        next(&rings);
    }
}

#[test]
fn sleepers_wake_in_the_order_of_their_deadlines_and_never_early() {
    let (report, woken) = channel();
    on_cpu(move || {
        // So far apart that a machine which stands still for a moment does not have two due at once.
        let now = clock::now() + 200_000_000;
        for ms in [600, 200, 0, 400, 200] {
            let report = report.clone();
            let deadline = now + ms * 1_000_000;
            let task = async move {
                sleep_until(deadline).await;
                assert!(clock::now() >= deadline);
                report.send(ms).unwrap();
            };
            spawn("sleeper", task).unwrap();
        }
    });
    assert_eq!([(); 5].map(|()| next(&woken)), [0, 200, 200, 400, 600]);
}

#[test]
fn a_wait_ends_by_signal_or_deadline_whichever_comes_first() {
    static NEWS: Signal = Signal::new();
    let (report, ends) = channel();
    on_cpu(move || {
        let task = async move {
            report.send(NEWS.wait_until(clock::now() + 2_000_000).await).unwrap();
            NEWS.set();
            report.send(NEWS.wait_until(clock::now() + 60_000_000_000).await).unwrap();
            // The long sleep was dropped with its wait: its place in the queue is free.
            report.send(NEWS.wait_until(clock::now() + 2_000_000).await).unwrap();
        };
        spawn("waiter", task).unwrap();
    });
    assert_eq!([(); 3].map(|()| next(&ends)), [Woken::Deadline, Woken::Signal, Woken::Deadline]);
}

#[test]
fn long_polls_are_counted_under_the_tasks_name() {
    let (report, reports) = channel();
    on_cpu(move || {
        let task = async move {
            for _ in 0..3 {
                yield_now().await;
            }
            thread::sleep(Duration::from_millis(3));
            yield_now().await;
            report.send(tasks().find(|task| task.name == "slow").unwrap()).unwrap();
            sleep(PATIENCE).await;
        };
        spawn("slow", task).unwrap();
    });
    let found = next(&reports);
    assert_eq!(found.polls, 4);
    assert!(found.long_polls >= 1 && found.longest_ns >= 3_000_000, "{found:?}");
    assert!(found.total_ns >= found.longest_ns, "{found:?}");
}

#[test]
fn a_full_cpu_refuses_tasks_and_takes_them_again_when_some_ended() {
    static END: Signal = Signal::new();
    let (report, results) = channel();
    on_cpu(move || {
        let task = async move {
            let last = Rc::new(Cell::new(0));
            spawn("ends", END.wait()).unwrap();
            for n in 2..MAX_TASKS {
                let last = last.clone();
                spawn("stays", async move { core::future::pending().await }).unwrap();
                last.set(n);
            }
            report.send(spawn("one too many", async {})).unwrap();
            END.set();
            yield_now().await;
            while last.get() != 0 {
                last.set(last.get() - 1);
                yield_now().await;
            }
            report.send(spawn("fits", async {})).unwrap();
        };
        spawn("crowd", task).unwrap();
    });
    assert_eq!([next(&results), next(&results)], [Err(Full), Ok(())]);
}

#[test]
fn a_waker_that_outlives_its_task_does_no_harm() {
    static POLLS: AtomicUsize = AtomicUsize::new(0);
    let (hand, wakers) = channel();
    let (report, done) = channel();
    on_cpu(move || {
        let task = async move {
            core::future::poll_fn(|cx| {
                hand.send(cx.waker().clone()).unwrap();
                Poll::Ready(())
            })
            .await;
        };
        spawn("gone", task).unwrap();
        let heir = async move {
            sleep(Duration::from_millis(1)).await;
            let again = core::future::poll_fn(move |_| match POLLS.fetch_add(1, Ordering::SeqCst) {
                0 => Poll::Pending,
                _ => Poll::Ready(()),
            });
            spawn("heir", async move {
                again.await;
                report.send(()).unwrap();
            })
            .unwrap();
        };
        spawn("later", heir).unwrap();
    });
    let waker = next(&wakers);
    while POLLS.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    waker.wake();
    next(&done);
}
