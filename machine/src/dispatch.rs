//! The dispatcher of each CPU: pending softints by priority, then tasks, then sleep. Its turns are the only place
//! where softint and task code runs.

use weir_sync::{Control, Cpu, CpuId, Softint};

pub use weir_sync::More;

#[cfg(not(feature = "image"))]
use crate::host::dispatch as body;
#[cfg(feature = "image")]
use image as body;

/// Rounds of softints in a row after which a task gets a turn all the same.
const ROUNDS: usize = 32;

/// Turns without sleep after which log lines are printed all the same.
const LOG_EVERY: usize = 64;

/// What a CPU runs.
pub trait Worker {
    /// Serves one pending source. May not block, take a lock or allocate. [`More::Yes`] keeps the source pending:
    /// it is served again after the others had their turn.
    fn softint(&mut self, cx: &Softint, bit: u8) -> More;

    /// Does one piece of task-level work. [`More::Yes`] keeps the CPU from sleeping.
    fn task(&mut self, cx: &Control) -> More;
}

/// A CPU's dispatcher, turn by turn.
#[derive(Debug)]
pub struct Dispatcher {
    cpu: Cpu,
    /// `[C]` Sources that said [`More::Yes`], or came up again in the round that served them.
    carried: u64,
}

impl Dispatcher {
    /// The dispatcher of `cpu`.
    pub fn new(cpu: Cpu) -> Self {
        Self { cpu, carried: 0 }
    }

    /// Serves each pending source at most once, lowest bit first; one that comes up meanwhile is served in its
    /// place. So no source starves another.
    pub fn softints(&mut self, worker: &mut dyn Worker) -> More {
        let pending = body::pending(self.cpu.id());
        let mut waiting = core::mem::take(&mut self.carried) | pending.take();
        let mut served = 0_u64;
        let mut again = 0_u64;
        body::enter(body::Context::Softint);
        while waiting & !served != 0 {
            let bit = (waiting & !served).trailing_zeros() as u8;
            waiting &= !(1 << bit);
            served |= 1 << bit;
            if self.cpu.softint(|cx| worker.softint(cx, bit)) == More::Yes {
                again |= 1 << bit;
            }
            waiting |= pending.take();
        }
        self.carried = waiting | again;
        if self.carried != 0 || pending.any() { More::Yes } else { More::No }
    }

    /// One turn: softints until none is pending, or for so long that a task is due; then one piece of task work.
    /// [`More::No`]: the CPU may sleep.
    pub fn turn(&mut self, worker: &mut dyn Worker) -> More {
        let quiet = (0..ROUNDS).any(|_| self.softints(worker) == More::No);
        body::enter(body::Context::Task);
        let task = self.cpu.control(|cx| worker.task(cx));
        if quiet && task == More::No { More::No } else { More::Yes }
    }

    /// Sleeps until something is raised for this CPU; not at all if something is pending.
    pub fn sleep(&mut self) {
        if self.carried == 0 {
            body::sleep(self.cpu.id());
        }
    }
}

/// Runs `worker` on `cpu` for good. On that CPU.
pub fn run(cpu: Cpu, worker: &mut dyn Worker) -> ! {
    body::start(cpu.id());
    let mut dispatcher = Dispatcher::new(cpu);
    let mut turns = 0_usize;
    loop {
        let more = dispatcher.turn(worker);
        turns = turns.wrapping_add(1);
        if more == More::No || turns.is_multiple_of(LOG_EVERY) {
            body::print_log();
        }
        if more == More::No {
            dispatcher.sleep();
        }
    }
}

/// Makes `bit` (0–63) of `cpu` pending; wakes the CPU if it sleeps. From any CPU, in any context.
#[inline]
pub fn raise(cpu: CpuId, bit: u8) {
    if body::pending(cpu).raise(bit) {
        body::wake(cpu);
    }
}

/// TSC ticks since entry that `cpu` was awake: all of them less those it slept in the dispatcher. 0 on the host.
pub fn busy_ticks(cpu: CpuId) -> u64 {
    body::busy_ticks(cpu)
}

#[cfg(feature = "image")]
mod image {
    pub(super) use crate::cpu::Context;
    use crate::{apic, clock, cpu, log};
    use core::sync::atomic::Ordering;
    use weir_sync::{CpuId, Pending};
    use x86_64::instructions::interrupts;

    #[inline]
    pub(super) fn pending(cpu: CpuId) -> &'static Pending {
        &cpu::block(cpu).pending
    }

    #[inline]
    pub(super) fn enter(context: Context) {
        cpu::this().enter(context);
    }

    pub(super) use crate::log::flush as print_log;

    pub(super) fn start(_cpu: CpuId) {
        log::defer();
        interrupts::enable();
    }

    /// `sti; hlt`: an interrupt that comes between the look at the pending word and `hlt` ends the `hlt`.
    pub(super) fn sleep(cpu: CpuId) {
        let block = cpu::block(cpu);
        interrupts::disable();
        if block.pending.sleep() {
            block.enter(Context::Idle);
            let before = clock::tsc();
            interrupts::enable_and_hlt();
            block.slept.add(clock::tsc().wrapping_sub(before));
            block.pending.wake();
        } else {
            interrupts::enable();
        }
    }

    pub(super) fn busy_ticks(cpu: CpuId) -> u64 {
        clock::since_entry().saturating_sub(cpu::block(cpu).slept.get())
    }

    pub(super) fn wake(cpu: CpuId) {
        apic::wake(cpu::block(cpu).apic.load(Ordering::Relaxed));
    }
}
