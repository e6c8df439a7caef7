//! The control queue (virtio 1.2 §5.1.6.5): one command at a time, from task level, with a bounded wait.

use crate::queue::{Access, Segment, SplitQueue};
use crate::transport::Notify;
use crate::violation::{Health, Violation};
use alloc::boxed::Box;
use alloc::sync::Arc;
use virtio_spec::net::{Ctrl, ctrl};
use weir_machine::clock;
use weir_machine::dma::Region;

/// An answer must come in this time, in nanoseconds.
const TIMEOUT_NS: u64 = 1_000_000_000;
/// Offsets in the command memory: class, command, data, and the answer at the end.
const COMMAND: usize = 1;
const DATA: usize = 2;
const MEMORY: usize = 1024;
const ANSWER: usize = MEMORY - 1;

/// Answers (§5.1.6.5).
const OK: u8 = 0;
const ERR: u8 = 1;
/// What the answer is before the device writes one.
const NONE: u8 = 0xff;

/// What the device says to a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(super) enum Answer {
    Done,
    Refused,
}

/// `[C]` The control queue; belongs to the device's task.
pub(super) struct Control {
    /// `None` only while it is dropped.
    parts: Option<Parts>,
    health: Arc<Health>,
}

struct Parts {
    queue: SplitQueue<()>,
    notify: Box<dyn Notify>,
    memory: Region,
}

impl Control {
    /// `None` without memory.
    pub(super) fn new(queue: SplitQueue<()>, notify: Box<dyn Notify>, health: Arc<Health>) -> Option<Self> {
        let memory = Region::new(MEMORY, 64)?;
        Some(Self { parts: Some(Parts { queue, notify, memory }), health })
    }

    /// Receives everything that is sent to a group, or not (§5.1.6.5.1).
    pub(super) fn set_all_multicast(&mut self, on: u8) -> Result<Answer, Violation> {
        self.command(Ctrl::Rx, ctrl::Rx::Allmulti as u8, &[on])
    }

    /// Receives everything that is sent to any station, or not (§5.1.6.5.1).
    pub(super) fn set_promiscuous(&mut self, on: u8) -> Result<Answer, Violation> {
        self.command(Ctrl::Rx, ctrl::Rx::Promisc as u8, &[on])
    }

    /// Uses that many queue pairs, spread as the device likes (§5.1.6.5.5).
    pub(super) fn set_queue_pairs(&mut self, pairs: u16) -> Result<Answer, Violation> {
        self.command(Ctrl::Mq, ctrl::Mq::VqPairsSet as u8, &pairs.to_le_bytes())
    }

    /// Spreads received flows by hash: `config` is a `struct virtio_net_rss_config` (§5.1.6.5.7).
    pub(super) fn set_rss(&mut self, config: &[u8]) -> Result<Answer, Violation> {
        self.command(Ctrl::Mq, ctrl::Mq::RssConfig as u8, config)
    }

    /// Sends a command and waits for its answer.
    fn command(&mut self, class: Ctrl, command: u8, data: &[u8]) -> Result<Answer, Violation> {
        let Some(parts) = &mut self.parts else { return Err(Violation::Stopped) };
        parts.command(class as u8, command, data)
    }
}

impl Parts {
    fn command(&mut self, class: u8, command: u8, data: &[u8]) -> Result<Answer, Violation> {
        if data.len() > ANSWER - DATA {
            return Ok(Answer::Refused);
        }
        self.memory.write_u8(0, class);
        self.memory.write_u8(COMMAND, command);
        self.memory.copy_in(DATA, data);
        self.memory.write_u8(ANSWER, NONE);
        let request =
            Segment { addr: self.memory.addr(), len: (DATA + data.len()) as u32, access: Access::Read };
        let answer = Segment { addr: self.memory.addr() + ANSWER as u64, len: 1, access: Access::Write };
        // Each command waits for its answer, so the ring is empty here.
        self.queue.lend([request, answer], ()).map_err(|()| Violation::ControlTimeout)?;
        if self.queue.publish() {
            self.notify.notify();
        }
        self.wait()?;
        match self.memory.read_u8(ANSWER) {
            OK => Ok(Answer::Done),
            ERR => Ok(Answer::Refused),
            _ => Err(Violation::ControlAnswerUnknown),
        }
    }

    fn wait(&mut self) -> Result<(), Violation> {
        let start = clock::now();
        while self.queue.poll()? == 0 {
            if clock::now().wrapping_sub(start) > TIMEOUT_NS {
                return Err(Violation::ControlTimeout);
            }
            core::hint::spin_loop();
        }
        let used = self.queue.entry().ok_or(Violation::UsedIndexRunaway)?;
        self.queue.redeem(used)?;
        if used.len > 1 { Err(Violation::UsedLengthBeyondBuffer) } else { Ok(()) }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if !self.health.is_quenched() {
            // The device may still touch them: lost rather than used again.
            core::mem::forget(self.parts.take());
        }
    }
}
