//! Tasks: boxed futures with a name, run below softints by the dispatcher of the CPU that spawned them.
//!
//! One poll after the other in a circle. Tasks do not preempt each other, softints preempt them. A task stays on its
//! CPU; its wakers may go anywhere, to softints and to other CPUs.

mod account;
mod ready;
mod signal;
mod sleep;
#[cfg(test)]
mod tests;

pub use account::{LONG_NS, Report, tasks};
pub use signal::{Signal, Woken};
pub use sleep::{Sleep, sleep, sleep_until};

use crate::local::Local;
use crate::{clock, dispatch, log, timer, trace};
use account::Account;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{Cell, OnceCell, RefCell};
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use ready::READY;
use sleep::Sleepers;
use weir_sync::{Control, CpuId, Event, MAX_CPUS, TaskLevel};

/// Tasks a CPU can have at once.
pub const MAX_TASKS: usize = ready::SLOTS - FIRST;

/// Ready bit of the sleepers' queue, which has work when the timer says so.
const SLEEPERS: usize = 0;
/// First slot of a task.
const FIRST: usize = 1;

/// A CPU has [`MAX_TASKS`] tasks already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl core::fmt::Display for Full {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "this CPU has {MAX_TASKS} tasks already")
    }
}

/// The tasks of one CPU. Touched at task level only, which nothing but softints interrupts.
struct Executor {
    /// The right to give tasks their tokens, one at a time.
    level: RefCell<Option<TaskLevel>>,
    /// From [`FIRST`] on by slot number.
    slots: RefCell<Vec<Slot>>,
    /// Slot polled last.
    last: Cell<usize>,
    sleepers: RefCell<Sleepers>,
    /// Printing of the log, which is no future but accounted as a task.
    log: OnceCell<Arc<Account>>,
}

enum Slot {
    Free,
    /// Taken out to be polled.
    Running,
    Waiting(Task),
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    account: Arc<Account>,
}

static EXECUTORS: Local<Executor> = Local::new(
    [const {
        Executor {
            level: RefCell::new(None),
            slots: RefCell::new(Vec::new()),
            last: Cell::new(0),
            sleepers: RefCell::new(Sleepers::new()),
            log: OnceCell::new(),
        }
    }; MAX_CPUS],
);

/// Runs `future` as a task of this CPU, from the next turn on. `name` is what it is accounted under.
///
/// # Errors
/// If the CPU has [`MAX_TASKS`] already.
///
/// # Panics
/// Outside tasks and the `first` of [`dispatch::run`].
pub fn spawn(name: &'static str, future: impl Future<Output = ()> + 'static) -> Result<(), Full> {
    let executor = mine();
    let cpu = here();
    let task = Task { future: Box::pin(future), account: account::open(name, cpu) };
    let mut slots = executor.slots.borrow_mut();
    let free = slots.iter().position(|slot| matches!(slot, Slot::Free));
    let slot = free.unwrap_or(slots.len());
    if slot >= MAX_TASKS {
        drop(slots);
        task.account.close();
        return Err(Full);
    }
    match slots.get_mut(slot) {
        Some(place) => *place = Slot::Waiting(task),
        None => slots.push(Slot::Waiting(task)),
    }
    READY[cpu.index()].set(slot + FIRST);
    Ok(())
}

/// Runs `work` with the token of task level, which it has to itself.
///
/// # Panics
/// Outside tasks and the `first` of [`dispatch::run`], and inside another `control`.
pub fn control<R>(work: impl FnOnce(&mut Control) -> R) -> R {
    match mine().level.borrow_mut().as_mut() {
        Some(level) => level.task(work),
        None => panic!("no dispatcher runs on this CPU"),
    }
}

/// Lets the other tasks that are ready have their turn.
pub async fn yield_now() {
    let mut yielded = false;
    core::future::poll_fn(|cx| {
        if core::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn mine() -> &'static Executor {
    assert!(dispatch::at_task_level(), "only tasks may do this");
    EXECUTORS.mine()
}

fn here() -> CpuId {
    match dispatch::here() {
        Some(cpu) => cpu,
        None => panic!("no dispatcher runs on this thread"),
    }
}

/// The dispatcher starts: `first` spawns.
pub(crate) fn start(level: TaskLevel, first: impl FnOnce(&mut Control)) {
    let executor = mine();
    executor.level.replace(Some(level));
    executor.log.get_or_init(|| account::open("log", here()));
    control(first);
}

/// Whether a task of `cpu` is ready, or a sleeper due.
#[inline]
pub(crate) fn any(cpu: CpuId) -> bool {
    READY[cpu.index()].any()
}

/// The timer says that a sleeper is due. In softint context.
pub(crate) fn wake_sleepers(cpu: CpuId) {
    READY[cpu.index()].set(SLEEPERS);
}

/// One turn of this CPU's tasks: polls the next task that is ready, or wakes the sleepers when it is their turn; prints
/// the log if asked to. At task level, softints not masked.
pub(crate) fn turn(print: bool) {
    let executor = mine();
    let cpu = here();
    let ready = &READY[cpu.index()];
    if let Some(slot) = ready.take_next(executor.last.get()) {
        executor.last.set(slot);
        match slot {
            SLEEPERS => {
                let next = executor.sleepers.borrow_mut().wake(clock::now());
                timer::set_tasks(next);
            }
            task => poll(executor, cpu, task),
        }
    }
    if print && let Some(account) = executor.log.get() {
        account.measure(log::flush);
    }
}

fn poll(executor: &Executor, cpu: CpuId, slot: usize) {
    let take = |with: Slot| match executor.slots.borrow_mut().get_mut(slot - FIRST) {
        Some(place) => core::mem::replace(place, with),
        None => Slot::Free,
    };
    let mut task = match take(Slot::Running) {
        Slot::Waiting(task) => task,
        // Woken after its end: nothing is there.
        other => {
            take(other);
            return;
        }
    };
    let waker = ready::waker(cpu, slot);
    trace::note(Event::Task, || [slot as u64, 0, 0]);
    let poll = task.account.measure(|| task.future.as_mut().poll(&mut Context::from_waker(&waker)));
    trace::note(Event::TaskEnd, || [slot as u64, poll.is_ready().into(), 0]);
    match poll {
        Poll::Pending => drop(take(Slot::Waiting(task))),
        Poll::Ready(()) => {
            task.account.close();
            // What it owns may use the executor as it is dropped.
            drop(task);
            take(Slot::Free);
        }
    }
}
