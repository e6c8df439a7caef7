//! CPUs and contexts. Who holds a [`Cpu`] is that CPU's dispatcher, the only maker of context tokens.

use crate::grace::Grace;
use crate::lock::Held;
use crate::mask::Masked;
use crate::rank::Nothing;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// CPUs one image can run on. A model explores two.
pub const MAX_CPUS: usize = if cfg!(loom) { 2 } else { 64 };

/// Grace periods of the whole image.
#[cfg(not(loom))]
pub(crate) static GRACE: Grace<MAX_CPUS> = Grace::new();
#[cfg(loom)]
loom::lazy_static! {
    /// Grace periods of one execution of a model.
    pub(crate) static ref GRACE: Grace<MAX_CPUS> = Grace::new();
}
/// `[A]` Bit *n*: CPU *n*'s dispatcher exists. AcqRel: a new owner sees all that the last one did.
static CLAIMED: AtomicU64 = AtomicU64::new(0);
/// `[A]` CPUs that per-CPU data is made for; set once at boot.
static COUNT: AtomicUsize = AtomicUsize::new(MAX_CPUS);

/// A CPU's number, 0 to [`MAX_CPUS`] − 1; 0 boots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CpuId(u16);

impl CpuId {
    /// The CPU that boots.
    pub const BOOT: CpuId = CpuId(0);

    /// `None` from [`MAX_CPUS`] on.
    pub const fn new(number: usize) -> Option<CpuId> {
        if number < MAX_CPUS { Some(CpuId(number as u16)) } else { None }
    }

    /// The number as an index.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl core::fmt::Display for CpuId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "cpu{}", self.0)
    }
}

/// Says how many CPUs there are, before per-CPU data is made. Clamped to 1–[`MAX_CPUS`].
pub fn set_count(cpus: usize) {
    COUNT.store(cpus.clamp(1, MAX_CPUS), Ordering::Release);
}

/// How many CPUs per-CPU data is made for.
pub fn count() -> usize {
    COUNT.load(Ordering::Acquire)
}

/// Becomes the dispatcher of `cpu`; `None` if it has one, or if `cpu` is not below [`count`].
pub fn claim(cpu: CpuId) -> Option<Cpu> {
    let bit = 1 << cpu.index();
    if cpu.index() >= count() || CLAIMED.fetch_or(bit, Ordering::AcqRel) & bit != 0 {
        return None;
    }
    Some(Cpu { id: cpu })
}

/// Becomes the dispatcher of some free CPU: for tests, where every thread is a CPU.
pub fn claim_any() -> Option<Cpu> {
    (0..count()).filter_map(CpuId::new).find_map(claim)
}

/// The right to be a CPU's dispatcher. Released on drop.
#[derive(Debug)]
pub struct Cpu {
    id: CpuId,
}

impl Cpu {
    /// This CPU's number.
    #[inline]
    pub fn id(&self) -> CpuId {
        self.id
    }

    /// Runs one softint turn. Snapshots read inside stay allocated until it returns, which is the CPU's
    /// quiescent point.
    #[inline]
    pub fn softint<R>(&mut self, turn: impl FnOnce(&Softint) -> R) -> R {
        let _reading = Reading::new(self.id);
        turn(&Softint { cpu: self.id, not_send: PhantomData })
    }

    /// Runs task-level work.
    #[inline]
    pub fn control<R>(&mut self, work: impl FnOnce(&Control) -> R) -> R {
        work(&Control { cpu: self.id, not_send: PhantomData })
    }

    /// Runs task-level work that may take ranked locks and read snapshots in masked sections: both need the token
    /// to themselves.
    #[inline]
    pub fn task<R>(&mut self, work: impl FnOnce(&mut Control) -> R) -> R {
        work(&mut Control { cpu: self.id, not_send: PhantomData })
    }

    /// The task half of this right, for whoever runs the CPU's tasks while softints preempt them.
    pub fn task_level(&self) -> TaskLevel {
        TaskLevel { cpu: self.id, not_send: PhantomData }
    }

    /// A CPU of a model, where every execution has grace periods of its own.
    #[cfg(all(test, loom))]
    pub(crate) fn of_model(number: usize) -> Cpu {
        Cpu { id: CpuId::new(number).unwrap() }
    }
}

/// The right to run task-level work on a CPU between two softint turns, or preempted by them. It stays with its CPU:
/// it cannot be sent.
#[derive(Debug)]
pub struct TaskLevel {
    cpu: CpuId,
    not_send: PhantomData<*const ()>,
}

impl TaskLevel {
    /// Runs task-level work.
    #[inline]
    pub fn task<R>(&mut self, work: impl FnOnce(&mut Control) -> R) -> R {
        work(&mut Control { cpu: self.cpu, not_send: PhantomData })
    }
}

/// From here to its drop, which is the quiescent point, what this CPU reads stays allocated. Unwinding ends it too.
struct Reading {
    cpu: CpuId,
}

impl Reading {
    #[inline]
    fn new(cpu: CpuId) -> Self {
        GRACE.enter(cpu.index());
        Self { cpu }
    }
}

impl Drop for Reading {
    #[inline]
    fn drop(&mut self) {
        GRACE.leave(self.cpu.index());
    }
}

impl Drop for Cpu {
    fn drop(&mut self) {
        CLAIMED.fetch_and(!(1 << self.id.index()), Ordering::AcqRel);
    }
}

/// Whether a bounded piece of work left something undone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum More {
    /// Call again soon.
    Yes,
    /// Nothing left for now.
    No,
}

/// Proof of running in softint context on [`cpu`](Self::cpu). May read snapshots and this CPU's data; may not
/// block, take a ranked lock or allocate.
///
/// ```compile_fail
/// fn sent<T: Send>() {}
/// sent::<weir_sync::Softint>();
/// ```
#[derive(Debug)]
pub struct Softint {
    cpu: CpuId,
    not_send: PhantomData<*const ()>,
}

impl Softint {
    /// The CPU it runs on.
    #[inline]
    pub fn cpu(&self) -> CpuId {
        self.cpu
    }
}

/// Proof of running at task level (or at boot) on [`cpu`](Self::cpu). May allocate, build and publish snapshots.
/// Who has it to itself may also read one, in a section that no softint of this CPU preempts:
///
/// ```
/// # use weir_sync::{Published, cpu};
/// let published = Published::new(Box::new(7));
/// let mut cpu = cpu::claim_any().unwrap();
/// assert_eq!(cpu.task(|cx| cx.masked(|cx| *published.read(cx))), 7);
/// ```
/// but not without one, and not while it waits for readers:
/// ```compile_fail,E0308
/// # use weir_sync::{Published, cpu};
/// # let published = Published::new(Box::new(7));
/// # let mut cpu = cpu::claim_any().unwrap();
/// cpu.task(|cx| *published.read(cx));
/// ```
/// ```compile_fail,E0502
/// # use weir_sync::{Published, cpu};
/// # let published = Published::new(Box::new(7));
/// # let mut cpu = cpu::claim_any().unwrap();
/// cpu.task(|cx| cx.masked(|_| drop(published.publish(cx, Box::new(8)))));
/// ```
///
/// ```compile_fail
/// fn sent<T: Send>() {}
/// sent::<weir_sync::Control>();
/// ```
#[derive(Debug)]
pub struct Control {
    cpu: CpuId,
    not_send: PhantomData<*const ()>,
}

impl Control {
    /// The CPU it runs on.
    #[inline]
    pub fn cpu(&self) -> CpuId {
        self.cpu
    }

    /// Runs a short section with this CPU's softints masked: it reads snapshots and lists as a softint does, and
    /// delays both this CPU's softints and everybody's reclamation. What a task needs for longer it clones (an
    /// `Arc`).
    pub fn masked<R>(&mut self, section: impl FnOnce(&Softint) -> R) -> R {
        let _masked = Masked::new(self.cpu);
        // Softints of this CPU are masked, so its slot is free. Dropped before the unmasking, which may run a turn.
        let _reading = Reading::new(self.cpu);
        section(&Softint { cpu: self.cpu, not_send: PhantomData })
    }

    /// The right to take the first lock. Exclusive, so that there is one order of locks at a time.
    #[inline]
    pub fn locks(&mut self) -> Held<'_, Nothing> {
        Held::nothing(self)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_has_one_dispatcher() {
        let cpu = claim_any().unwrap();
        assert!(claim(cpu.id()).is_none());
    }

    #[test]
    fn a_turn_that_unwinds_ends_like_any_other() {
        let mut cpu = claim_any().unwrap();
        let unwound =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cpu.softint(|_| panic!("a bug"))));
        assert!(unwound.is_err());
        let stamp = GRACE.retire();
        // Other tests' turns are short: a slot that stays set is this CPU's.
        while !GRACE.elapsed(stamp) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn tokens_name_their_cpu() {
        let mut cpu = claim_any().unwrap();
        let id = cpu.id();
        assert_eq!(cpu.softint(|cx| cx.cpu()), id);
        assert_eq!(cpu.control(|cx| cx.cpu()), id);
        assert_eq!(cpu.task_level().task(|cx| cx.cpu()), id);
    }
}
