//! The dispatcher of each CPU: pending softints by priority, then tasks, then sleep. Softints preempt tasks.
//!
//! An interrupt that finds a task running, or the end of a masked section, brings the dispatcher back in the middle of
//! the task ([`Dispatcher::preempt`]). Who owns the CPU is the mask count: above zero the dispatcher, a softint or a
//! masked section; at zero a task.

#[cfg_attr(not(any(feature = "image", test)), expect(dead_code, reason = "only CPUs sleep"))]
mod slept;

use crate::interrupt::{EVENTS, TIMER};
use crate::local::Local;
use crate::{clock, log, mask, task, timer, trace};
use alloc::boxed::Box;
use core::cell::RefCell;
use weir_sync::{Control, Cpu, CpuId, Event, MAX_CPUS, Pending, Softint};

pub use weir_sync::More;

#[cfg(not(feature = "image"))]
use crate::host::dispatch as body;
#[cfg(feature = "image")]
use image as body;
#[cfg(feature = "image")]
pub(crate) use slept::Slept;

/// Rounds of softints in a row after which a task that is ready, or was preempted, gets a slice all the same.
const ROUNDS: usize = 32;
/// A slice is this part of the time the softints took before it, so that tasks keep a ninth of a CPU under any load …
const SLICE_PART: u64 = 8;
/// … within these bounds, in nanoseconds: long enough to get somewhere, short enough for the rings of devices.
const SLICE: core::ops::RangeInclusive<u64> = 50_000..=2_000_000;

/// Turns without sleep after which log lines are printed all the same.
const LOG_EVERY: usize = 64;

/// What a CPU does in softint context.
pub trait Softints {
    /// Serves one pending source. May not block, take a lock or allocate. [`More::Yes`] keeps the source pending:
    /// it is served again after the others had their turn.
    ///
    /// [`TIMER`] is served when the deadline of [`timer::arm`] has passed; [`EVENTS`] never is: it is the dispatcher's.
    fn softint(&mut self, cx: &Softint, bit: u8) -> More;
}

/// `[C]` Each CPU's dispatcher. Borrowed with softints masked, never while a task runs unmasked.
static DISPATCHERS: Local<RefCell<Option<Dispatcher>>> = Local::new([const { RefCell::new(None) }; MAX_CPUS]);

/// Runs `softints` and tasks on `cpu` for good. On that CPU. `first` runs once at task level, before any softint: it
/// spawns the first tasks.
pub fn run(cpu: Cpu, softints: Box<dyn Softints>, first: impl FnOnce(&mut Control)) -> ! {
    let id = cpu.id();
    body::start(id);
    mask::install();
    let level = cpu.task_level();
    DISPATCHERS.mine().replace(Some(Dispatcher::new(cpu, softints)));
    body::enter(body::Context::Task);
    task::start(level, first);
    body::open();
    let mut turns = 0_usize;
    loop {
        turns = turns.wrapping_add(1);
        let load = with(Dispatcher::serve);
        let print = (load == Load::Quiet || turns.is_multiple_of(LOG_EVERY)) && log::pending();
        if print || task::any(id) {
            if with(|dispatcher| dispatcher.lend(load)) {
                mask::leave();
                task::turn(print);
                mask::enter();
            }
            with(Dispatcher::reclaim);
        } else if load == Load::Quiet {
            body::sleep(id, || task::any(id));
        }
    }
}

/// Serves what is pending on `cpu` once, for a program of the host that brings its own loop. [`More::Yes`]: something is
/// pending still.
#[cfg(not(feature = "image"))]
pub fn round(cpu: &mut Cpu, softints: &mut dyn Softints) -> More {
    let pending = body::pending(cpu.id());
    let mut waiting = pending.take();
    while waiting != 0 {
        let bit = waiting.trailing_zeros() as u8;
        waiting &= waiting - 1;
        if cpu.softint(|cx| softints.softint(cx, bit)) == More::Yes {
            // The caller is the dispatcher: nobody to wake.
            let _ = pending.raise(bit);
        }
    }
    if pending.any() { More::Yes } else { More::No }
}

/// Makes `bit` (0–63) of `cpu` pending, and interrupts the CPU if it sleeps or runs a task. From any CPU, in any
/// context.
#[inline]
pub fn raise(cpu: CpuId, bit: u8) {
    trace::note(Event::Raise, || [bit.into(), cpu.index() as u64, 0]);
    if body::pending(cpu).raise(bit) {
        body::wake(cpu);
    }
}

/// TSC ticks since entry that `cpu` was awake: all of them less those it slept in the dispatcher, this moment included. 0 on the host.
pub fn busy_ticks(cpu: CpuId) -> u64 {
    body::busy_ticks(cpu)
}

/// How often interrupts of `cpu` preempted a task. 0 on the host, where nothing preempts.
pub fn preemptions(cpu: CpuId) -> u64 {
    body::preemptions(cpu)
}

/// Bytes of `cpu`'s stack that its boot, softints and tasks have never written to; 0 on the host.
pub fn stack_free(cpu: CpuId) -> u64 {
    body::stack_free(cpu)
}

/// Wakes `cpu` if it sleeps: there is work beside its pending word.
#[inline]
pub(crate) fn rouse(cpu: CpuId) {
    if body::pending(cpu).sleeps() {
        body::wake(cpu);
    }
}

/// The CPU this runs on; `None` on a thread of the host that runs no dispatcher.
#[inline]
pub(crate) fn here() -> Option<CpuId> {
    body::here()
}

/// Whether this code may touch what belongs to tasks: not in a softint.
#[inline]
pub(crate) fn at_task_level() -> bool {
    body::at_task_level()
}

/// Nanoseconds that softints took from the tasks of this CPU by preempting them.
pub(crate) fn preempted_ns() -> u64 {
    let _masked = mask::mask();
    with(|dispatcher| dispatcher.preempted_ns)
}

/// The mask count came down to zero in a task: what waited runs now.
#[inline]
pub(crate) fn unmasked() {
    if here().is_some_and(|cpu| body::pending(cpu).any()) {
        catch_up();
    }
}

#[cold]
fn catch_up() {
    let mut rounds = ROUNDS;
    loop {
        mask::enter();
        let (slice, pending) = with(|dispatcher| (dispatcher.preempt(&mut rounds), dispatcher.pending()));
        // Down to zero again: from here on an interrupt preempts by itself. What came before is still to be seen.
        mask::count_down();
        if slice == Slice::Running || !pending.any() {
            return;
        }
    }
}

/// Softints are masked: nobody else on this CPU borrows it.
fn with<R>(work: impl FnOnce(&mut Dispatcher) -> R) -> R {
    match DISPATCHERS.mine().borrow_mut().as_mut() {
        Some(dispatcher) => work(dispatcher),
        None => panic!("no dispatcher runs on this CPU"),
    }
}

/// Whether softints that are pending must wait for the task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Slice {
    /// They wait until the slice ends.
    Running,
    /// They preempt it.
    None,
}

/// What a series of rounds left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Load {
    /// Nothing pending.
    Quiet,
    /// Something is pending still after so many nanoseconds.
    Heavy(u64),
}

/// A CPU's softint half.
struct Dispatcher {
    cpu: Cpu,
    softints: Box<dyn Softints>,
    /// Sources that said [`More::Yes`], or came up again in the round that served them.
    carried: u64,
    /// While a task has a slice of its own: when it ends, in nanoseconds of the clock.
    slice_end: Option<u64>,
    /// See the function of this name.
    preempted_ns: u64,
}

impl Dispatcher {
    fn new(cpu: Cpu, softints: Box<dyn Softints>) -> Self {
        Self { cpu, softints, carried: 0, slice_end: None, preempted_ns: 0 }
    }

    fn pending(&self) -> &'static Pending {
        body::pending(self.cpu.id())
    }

    /// Serves each pending source at most once, lowest bit first; one that comes up meanwhile is served in its
    /// place. So no source starves another.
    fn round(&mut self) -> More {
        let pending = self.pending();
        body::catch_up();
        let mut waiting = core::mem::take(&mut self.carried) | pending.take();
        let mut served = 0_u64;
        let mut again = 0_u64;
        while waiting & !served != 0 {
            let bit = (waiting & !served).trailing_zeros() as u8;
            waiting &= !(1 << bit);
            served |= 1 << bit;
            trace::note(Event::Softint, || [bit.into(), 0, 0]);
            let more = self.softint(bit);
            trace::note(Event::SoftintEnd, || [bit.into(), (more == More::Yes).into(), 0]);
            if more == More::Yes {
                again |= 1 << bit;
            }
            waiting |= pending.take();
        }
        self.carried = waiting | again;
        if self.carried != 0 || pending.any() { More::Yes } else { More::No }
    }

    fn softint(&mut self, bit: u8) -> More {
        if bit == EVENTS {
            return body::events(self.cpu.id());
        }
        if bit == TIMER {
            let due = timer::expire();
            if due.tasks {
                task::wake_sleepers(self.cpu.id());
            }
            if !due.softints {
                return More::No;
            }
        }
        let softints = &mut self.softints;
        self.cpu.softint(|cx| softints.softint(cx, bit))
    }

    /// Rounds of softints between tasks.
    fn serve(&mut self) -> Load {
        body::enter(body::Context::Softint);
        if self.round() == More::No {
            return Load::Quiet;
        }
        let began = clock::now();
        match (1..ROUNDS).any(|_| self.round() == More::No) {
            true => Load::Quiet,
            false => Load::Heavy(clock::now() - began),
        }
    }

    /// Leaves the CPU to a task; the caller unmasks. `false`: something became pending meanwhile.
    fn lend(&mut self, load: Load) -> bool {
        match load {
            Load::Quiet if !self.pending().lend() => return false,
            Load::Quiet => {}
            Load::Heavy(ns) => self.start_slice(ns),
        }
        body::enter(body::Context::Task);
        true
    }

    /// Takes the CPU back from a task; the caller has masked.
    fn reclaim(&mut self) {
        self.pending().attend();
        self.slice_end = None;
    }

    /// Serves what is pending in the middle of a task until nothing is, for `rounds` rounds at most; then the task has
    /// a slice in which nothing interrupts it for long.
    fn preempt(&mut self, rounds: &mut usize) -> Slice {
        let began = clock::now();
        if self.slice_end.is_some_and(|end| began < end) {
            return Slice::Running;
        }
        self.slice_end = None;
        self.pending().attend();
        trace::note(Event::Preempt, || [0; 3]);
        body::enter(body::Context::Softint);
        let mut quiet = false;
        while !quiet && *rounds > 0 {
            *rounds -= 1;
            quiet = self.round() == More::No && self.pending().lend();
        }
        let took = clock::now() - began;
        self.preempted_ns += took;
        trace::note(Event::Resume, || [took, 0, 0]);
        if !quiet {
            self.start_slice(took);
        }
        body::enter(body::Context::Task);
        if quiet { Slice::None } else { Slice::Running }
    }

    /// The word stays marked as attended: nobody sends interrupts for it until the timer ends the slice.
    fn start_slice(&mut self, softints_took_ns: u64) {
        let len = (softints_took_ns / SLICE_PART).clamp(*SLICE.start(), *SLICE.end());
        let end = clock::now() + len;
        self.slice_end = Some(end);
        trace::note(Event::Slice, || [len, 0, 0]);
        timer::set_slice(end);
    }
}

#[cfg(feature = "image")]
pub(crate) use image::preempted;

#[cfg(feature = "image")]
mod image {
    use super::{Dispatcher, ROUNDS, Slice, with};
    pub(super) use crate::cpu::Context;
    use crate::{apic, clock, cpu, interrupt, log, paging, trace, xen};
    use core::sync::atomic::Ordering;
    use weir_sync::{CpuId, Event, More, Pending};
    use x86_64::instructions::interrupts;

    #[inline]
    pub(super) fn pending(cpu: CpuId) -> &'static Pending {
        &cpu::block(cpu).pending
    }

    #[inline]
    pub(super) fn here() -> Option<CpuId> {
        Some(cpu::current())
    }

    #[inline]
    pub(super) fn enter(context: Context) {
        cpu::this().enter(context);
    }

    pub(super) fn at_task_level() -> bool {
        cpu::this().context() == Context::Task
    }

    pub(super) fn start(_cpu: CpuId) {
        log::defer();
    }

    /// The dispatcher exists: interrupts may come.
    pub(super) fn open() {
        interrupts::enable();
    }

    /// `sti; hlt`: an interrupt that comes between the look at the pending word and `hlt` ends the `hlt`.
    pub(super) fn sleep(cpu: CpuId, work: impl FnOnce() -> bool) {
        let block = cpu::block(cpu);
        interrupts::disable();
        if !block.pending.sleep() {
            interrupts::enable();
            return;
        }
        if work() {
            interrupts::enable();
        } else {
            block.enter(Context::Idle);
            trace::note(Event::Sleep, || [0; 3]);
            block.slept.begin(clock::tsc());
            interrupt::halt();
            block.slept.end(clock::tsc());
            trace::note(Event::Wake, || [block.pending.word(), 0, 0]);
        }
        block.pending.attend();
    }

    pub(super) fn busy_ticks(cpu: CpuId) -> u64 {
        let slept = cpu::block(cpu).slept.ticks(clock::tsc());
        clock::since_entry().saturating_sub(slept)
    }

    pub(super) fn preemptions(cpu: CpuId) -> u64 {
        cpu::block(cpu).preemptions.get()
    }

    pub(super) fn stack_free(cpu: CpuId) -> u64 {
        cpu::block(cpu).stack_free()
    }

    pub(super) fn wake(cpu: CpuId) {
        apic::wake(cpu::block(cpu).apic.load(Ordering::Relaxed));
    }

    /// Forgets what is no longer true of the page tables.
    #[inline]
    pub(super) fn catch_up() {
        paging::catch_up(&cpu::this().map);
    }

    /// Serves [`EVENTS`](crate::interrupt::EVENTS).
    pub(super) fn events(cpu: CpuId) -> More {
        xen::event::serve(cpu)
    }

    /// Where the interrupt stub arrives when it has left its stack, saved the task and turned interrupts on: the middle
    /// of a task, softints masked. Returns with interrupts off, so that nothing becomes pending unseen before the
    /// stub unmasks.
    pub(crate) extern "C" fn preempted() {
        let mut rounds = ROUNDS;
        cpu::this().preemptions.add(1);
        loop {
            let slice = with(|dispatcher: &mut Dispatcher| dispatcher.preempt(&mut rounds));
            interrupts::disable();
            if slice == Slice::Running || !cpu::this().pending.any() {
                return;
            }
            interrupts::enable();
        }
    }
}

#[cfg(test)]
mod tests;
