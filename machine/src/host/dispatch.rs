//! Sleeping and waking of dispatchers that are threads of a host program: park and unpark. Nothing preempts here: what
//! becomes pending while a task runs waits for its next unmasking, or its next `await`.

use crate::trace;
use std::cell::Cell;
use std::sync::Mutex;
use std::thread::{self, Thread};
use weir_sync::{CpuId, Event, MAX_CPUS, More, Pending};

/// What a dispatcher's thread is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    Softint,
    Task,
}

thread_local! {
    static HERE: Cell<Option<CpuId>> = const { Cell::new(None) };
    static CONTEXT: Cell<Context> = const { Cell::new(Context::Softint) };
}

static PENDING: [Pending; MAX_CPUS] = [const { Pending::new() }; MAX_CPUS];
/// The thread that dispatches for each CPU.
static THREADS: [Mutex<Option<Thread>>; MAX_CPUS] = [const { Mutex::new(None) }; MAX_CPUS];

pub(crate) fn pending(cpu: CpuId) -> &'static Pending {
    &PENDING[cpu.index()]
}

pub(crate) fn enter(context: Context) {
    CONTEXT.set(context);
}

pub(crate) fn at_task_level() -> bool {
    CONTEXT.get() == Context::Task
}

pub(crate) fn start(cpu: CpuId) {
    HERE.set(Some(cpu));
    if let Ok(mut thread) = THREADS[cpu.index()].lock() {
        *thread = Some(thread::current());
    }
}

/// The host has no interrupts to let in.
pub(crate) fn open() {}

/// The CPU whose dispatcher this thread runs.
pub(crate) fn here() -> Option<CpuId> {
    HERE.get()
}

/// Whoever raises between the look at the pending word and `park` leaves a token that ends the `park`.
pub(crate) fn sleep(cpu: CpuId, work: impl FnOnce() -> bool) {
    let pending = pending(cpu);
    if pending.sleep() {
        if !work() {
            trace::note(Event::Sleep, || [0; 3]);
            thread::park();
            trace::note(Event::Wake, || [pending.word(), 0, 0]);
        }
        pending.attend();
    }
}

/// The host's threads share their CPUs with others: nothing to measure.
pub(crate) fn busy_ticks(_cpu: CpuId) -> u64 {
    0
}

/// Threads are not preempted by softints.
pub(crate) fn preemptions(_cpu: CpuId) -> u64 {
    0
}

/// The host has its own stacks.
pub(crate) fn stack_free(_cpu: CpuId) -> u64 {
    0
}

/// A program's pages are its kernel's.
pub(crate) fn catch_up() {}

/// Simulated event channels raise their targets themselves.
pub(crate) fn events(_cpu: CpuId) -> More {
    More::No
}

pub(crate) fn wake(cpu: CpuId) {
    if let Ok(thread) = THREADS[cpu.index()].lock()
        && let Some(thread) = thread.as_ref()
    {
        thread.unpark();
    }
}
