//! Sleeping and waking of dispatchers that are threads of a host program: park and unpark.

use std::sync::Mutex;
use std::thread::{self, Thread};
use weir_sync::{CpuId, MAX_CPUS, Pending};

/// The host has no interrupt stubs to tell.
pub(crate) enum Context {
    Softint,
    Task,
}

static PENDING: [Pending; MAX_CPUS] = [const { Pending::new() }; MAX_CPUS];
/// The thread that dispatches for each CPU.
static THREADS: [Mutex<Option<Thread>>; MAX_CPUS] = [const { Mutex::new(None) }; MAX_CPUS];

pub(crate) fn pending(cpu: CpuId) -> &'static Pending {
    &PENDING[cpu.index()]
}

pub(crate) fn enter(_context: Context) {}

/// The host logs to its standard output at once.
pub(crate) fn print_log() {}

pub(crate) fn start(cpu: CpuId) {
    if let Ok(mut thread) = THREADS[cpu.index()].lock() {
        *thread = Some(thread::current());
    }
}

/// The CPU whose dispatcher this thread runs.
pub(crate) fn current() -> Option<CpuId> {
    let me = thread::current().id();
    let is_me = |slot: &Mutex<Option<Thread>>| matches!(slot.lock().as_deref(), Ok(Some(thread)) if thread.id() == me);
    THREADS.iter().position(is_me).and_then(CpuId::new)
}

/// Whoever raises between the look at the pending word and `park` leaves a token that ends the `park`.
pub(crate) fn sleep(cpu: CpuId) {
    start(cpu);
    let pending = pending(cpu);
    if pending.sleep() {
        thread::park();
        pending.wake();
    }
}

/// The host's threads share their CPUs with others: nothing to measure.
pub(crate) fn busy_ticks(_cpu: CpuId) -> u64 {
    0
}

pub(crate) fn wake(cpu: CpuId) {
    if let Ok(thread) = THREADS[cpu.index()].lock()
        && let Some(thread) = thread.as_ref()
    {
        thread.unpark();
    }
}

#[cfg(test)]
mod tests {
    use crate::dispatch::{Dispatcher, More, Worker, raise, run};
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;
    use weir_sync::cpu::claim_any;
    use weir_sync::{Control, CpuId, Softint};

    struct Echo(Sender<(CpuId, u8)>);

    impl Worker for Echo {
        fn softint(&mut self, cx: &Softint, bit: u8) -> More {
            let _ = self.0.send((cx.cpu(), bit));
            More::No
        }

        fn task(&mut self, _cx: &Control) -> More {
            More::No
        }
    }

    #[test]
    fn a_sleeping_cpu_wakes_for_every_bit_raised() {
        let cpu = claim_any().unwrap();
        let id = cpu.id();
        let (sender, receiver) = channel();
        std::thread::spawn(move || run(cpu, &mut Echo(sender)));
        for turn in 0..1000_u32 {
            let bit = (turn % 64) as u8;
            raise(id, bit);
            assert_eq!(receiver.recv_timeout(Duration::from_secs(10)), Ok((id, bit)), "turn {turn}");
        }
    }

    /// Serves sources in the order a script makes them come up.
    struct Script {
        served: Vec<u8>,
        tasks: usize,
        greedy: bool,
    }

    impl Worker for Script {
        fn softint(&mut self, cx: &Softint, bit: u8) -> More {
            self.served.push(bit);
            if self.served == [10] {
                raise(cx.cpu(), 3);
                raise(cx.cpu(), 10);
                raise(cx.cpu(), 40);
            }
            if self.greedy { More::Yes } else { More::No }
        }

        fn task(&mut self, _cx: &Control) -> More {
            self.tasks += 1;
            More::No
        }
    }

    #[test]
    fn lower_bits_go_first_and_nobody_twice_in_a_round() {
        let cpu = claim_any().unwrap();
        let id = cpu.id();
        let mut dispatcher = Dispatcher::new(cpu);
        let mut script = Script { served: Vec::new(), tasks: 0, greedy: false };
        raise(id, 20);
        raise(id, 10);
        assert_eq!(dispatcher.softints(&mut script), More::Yes);
        assert_eq!(script.served, [10, 3, 20, 40]);
        assert_eq!(dispatcher.turn(&mut script), More::No);
        assert_eq!((script.served.as_slice(), script.tasks), (&[10, 3, 20, 40, 10][..], 1));
    }

    #[test]
    fn a_source_that_never_ends_does_not_keep_tasks_away() {
        let cpu = claim_any().unwrap();
        raise(cpu.id(), 9);
        let mut dispatcher = Dispatcher::new(cpu);
        let mut script = Script { served: Vec::new(), tasks: 0, greedy: true };
        assert_eq!(dispatcher.turn(&mut script), More::Yes);
        assert_eq!(script.tasks, 1);
        assert!(script.served.iter().all(|&bit| bit == 9));
    }
}
