//! What all CPUs see: the published snapshot, the buffer arena, and the mailbox from packet work to management.

use core::sync::atomic::{AtomicBool, Ordering};
use crossbeam_queue::ArrayQueue;
use weir_machine::task::Signal;
use weir_netif::{Arena, Fault, IfIndex};
use weir_netstack::Snapshot;
use weir_sync::{Counter, PerCpu, Published};

/// What packet work tells management.
#[derive(Clone, Copy, Debug)]
pub enum Notice {
    /// A device broke its protocol; it forwards nothing from now on and must be stopped.
    Broken {
        /// Whose device.
        interface: IfIndex,
        /// What it did.
        fault: Fault,
    },
}

/// Notices that may wait; a port breaks once, so there are never more than ports.
const NOTICES: usize = 256;

/// State shared by all CPUs.
pub struct Shared {
    /// `[P]` The configuration in force.
    pub snapshot: Published<Snapshot>,
    /// `[I]` Packet buffers.
    pub arena: &'static Arena,
    /// `[A]` Free buffers in each CPU's pool: a gauge.
    pub pool_idle: PerCpu<Counter>,
    /// `[A]` Wakes management: a notice, a key, or a change of a device.
    pub news: Signal,
    /// `[A]` Written by softints of any CPU, read by management.
    notices: ArrayQueue<Notice>,
    /// `[A]` Some device announced a change of its configuration. Set by softints, taken by management.
    changed: AtomicBool,
    /// `[A]` The console has input. Set by softints, taken by management.
    typed: AtomicBool,
}

impl Shared {
    /// With its first snapshot.
    pub fn new(snapshot: Published<Snapshot>, arena: &'static Arena) -> Self {
        Self {
            snapshot,
            arena,
            pool_idle: PerCpu::new(|_| Counter::default()),
            news: Signal::new(),
            notices: ArrayQueue::new(NOTICES),
            changed: AtomicBool::new(false),
            typed: AtomicBool::new(false),
        }
    }

    /// Leaves a notice and wakes management. Any context.
    pub fn notify(&self, notice: Notice) {
        // Full only if more ports broke than there are; nothing waits for a lost notice.
        let _ = self.notices.push(notice);
        self.news.set();
    }

    /// The oldest notice. Task level.
    pub fn next_notice(&self) -> Option<Notice> {
        self.notices.pop()
    }

    /// Says that a device may have changed: its link, its health. Any context.
    pub fn device_changed(&self) {
        self.changed.store(true, Ordering::Release);
        self.news.set();
    }

    /// Whether a device may have changed since the last call. Task level.
    pub fn take_device_changed(&self) -> bool {
        self.changed.swap(false, Ordering::Acquire)
    }

    /// Says that the console has input. Any context.
    pub fn console_typed(&self) {
        self.typed.store(true, Ordering::Release);
        self.news.set();
    }

    /// Whether the console had input since the last call. Task level.
    pub fn take_console_typed(&self) -> bool {
        self.typed.swap(false, Ordering::Acquire)
    }

    /// Free packet buffers, of a moment ago.
    pub fn buffers_free(&self) -> usize {
        self.arena.idle() + self.pool_idle.iter().map(|idle| idle.get() as usize).sum::<usize>()
    }
}
