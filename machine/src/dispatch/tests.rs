use super::*;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use weir_sync::cpu::claim_any;

struct Echo(Sender<(CpuId, u8)>);

impl Softints for Echo {
    fn softint(&mut self, cx: &Softint, bit: u8) -> More {
        let _ = self.0.send((cx.cpu(), bit));
        More::No
    }
}

#[test]
fn a_sleeping_cpu_wakes_for_every_bit_raised() {
    let cpu = claim_any().unwrap();
    let id = cpu.id();
    let (sender, receiver) = channel();
    std::thread::spawn(move || run(cpu, Box::new(Echo(sender)), |_| ()));
    for turn in 0..1000_u32 {
        let bit = EVENTS + 1 + (turn % 60) as u8;
        raise(id, bit);
        assert_eq!(receiver.recv_timeout(Duration::from_secs(10)), Ok((id, bit)), "turn {turn}");
    }
}

/// Serves sources in the order a script makes them come up.
struct Script {
    served: Sender<u8>,
    count: usize,
    greedy: bool,
}

impl Softints for Script {
    fn softint(&mut self, cx: &Softint, bit: u8) -> More {
        // When the test is over its CPU comes to rest.
        let over = self.served.send(bit).is_err();
        self.count += 1;
        if self.count == 1 && bit == 10 {
            raise(cx.cpu(), 5);
            raise(cx.cpu(), 10);
            raise(cx.cpu(), 40);
        }
        if self.greedy && !over { More::Yes } else { More::No }
    }
}

#[test]
fn lower_bits_go_first_and_nobody_twice_in_a_round() {
    let cpu = claim_any().unwrap();
    let id = cpu.id();
    let (served, list) = channel();
    let mut dispatcher = Dispatcher::new(cpu, Box::new(Script { served, count: 0, greedy: false }));
    raise(id, 20);
    raise(id, 10);
    assert_eq!(dispatcher.round(), More::Yes);
    assert_eq!(list.try_iter().collect::<Vec<_>>(), [10, 5, 20, 40]);
    assert_eq!(dispatcher.serve(), Load::Quiet);
    assert_eq!(list.try_iter().collect::<Vec<_>>(), [10]);
}

#[test]
fn a_source_that_never_ends_does_not_keep_tasks_away() {
    let cpu = claim_any().unwrap();
    let id = cpu.id();
    let (served, list) = channel();
    let (report, polls) = channel();
    std::thread::spawn(move || {
        run(cpu, Box::new(Script { served, count: 0, greedy: true }), move |_| {
            let task = async move {
                while report.send(()).is_ok() {
                    task::yield_now().await;
                }
            };
            task::spawn("hungry", task).unwrap();
        })
    });
    raise(id, 9);
    assert_eq!(list.recv_timeout(Duration::from_secs(10)), Ok(9));
    polls.try_iter().count();
    for _ in 0..100 {
        polls.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(list.recv_timeout(Duration::from_secs(10)), Ok(9), "softints go on as well");
    }
}

#[test]
fn a_preempted_task_gets_a_slice_that_softints_do_not_cut_short() {
    let cpu = claim_any().unwrap();
    let id = cpu.id();
    let (served, list) = channel();
    let (report, result) = channel();
    std::thread::spawn(move || {
        run(cpu, Box::new(Script { served, count: 0, greedy: true }), move |_| {
            let task = async move {
                // Softints are unmasked over and over, as a task does that uses the heap.
                let seen = |wait: u64| {
                    let before = list.try_iter().count();
                    let end = clock::now() + wait;
                    while clock::now() < end {
                        drop(mask::mask());
                    }
                    (before, list.try_iter().count())
                };
                assert_eq!(seen(0).1, 0);
                raise(id, 9);
                let (_, first) = seen(*SLICE.start() / 4);
                assert!(first > 0 && first % ROUNDS == 0, "{first} turns, then the slice begins");
                // The timer thread of the host ends the slice, some time later.
                let later = (0..1000).any(|_| seen(*SLICE.end()).1 > 0);
                report.send(later).unwrap();
            };
            task::spawn("preempted", task).unwrap();
        })
    });
    assert_eq!(result.recv_timeout(Duration::from_secs(10)), Ok(true), "softints end the slice");
}
