//! How a virtio device is reached: its registers, queues and interrupts, whatever the bus. Boot and tasks.
//!
//! [`Transport`] has one method a register or a group that belongs together; every `read_` goes to the device, so
//! the caller reads once and checks. The two parts that softints need are handed out: [`Notify`], [`Acknowledge`].

pub mod mmio;
pub mod pci;

use crate::error::Error;
use crate::violation::Violation;
use alloc::boxed::Box;
use alloc::string::String;
use virtio_spec::DeviceStatus;
use weir_machine::clock;
use weir_machine::interrupt::Interrupt;

/// A device must come out of reset in this time, in nanoseconds. QEMU takes microseconds, vhost-user backends up to
/// a few hundred milliseconds.
const RESET_TIMEOUT_NS: u64 = 2_000_000_000;
/// Attempts to read a configuration that does not change meanwhile.
const CONFIG_ATTEMPTS: usize = 16;

/// Where a queue's three areas are, and how many entries they have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueMemory {
    /// Entries, a power of two, at most what [`Transport::read_queue_size`] said.
    pub size: u16,
    /// Bus address of the descriptor table.
    pub descriptors: u64,
    /// Bus address of the available ring.
    pub available: u64,
    /// Bus address of the used ring.
    pub used: u64,
}

/// How the device interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interrupts {
    /// By messages: this many vectors, each to a CPU of its own.
    Messages(u16),
    /// By one wired line for everything; it needs an [`Acknowledge`].
    Wired,
}

/// What a message-signalled vector tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A used buffer in that queue.
    Queue(u16),
    /// A change of configuration.
    Configuration,
}

/// Notifies the device of available buffers in one queue. Any context.
pub trait Notify: Send {
    /// One register write.
    fn notify(&self);
}

/// Takes a wired interrupt back. Any context.
pub trait Acknowledge: Send {
    /// Lets the line go down. Events from now on raise it again.
    fn acknowledge(&self);
}

/// A virtio device's registers (virtio 1.2 §4).
pub trait Transport: Send {
    /// Bus and place, as logs name it: `pci 0000:00:02.0`.
    fn place(&self) -> String;

    /// Device status (§2.1).
    fn read_status(&mut self) -> u8;

    /// Sets device status; 0 resets.
    fn write_status(&mut self, status: u8);

    /// Features offered (§2.2).
    fn read_features(&mut self) -> u64;

    /// Features accepted.
    fn write_features(&mut self, features: u64);

    /// The counter that changes with the configuration (§2.5).
    fn read_config_generation(&mut self) -> u32;

    /// A one-byte field of the device configuration; `None` beyond its end, as for the other widths.
    fn read_config_u8(&mut self, offset: usize) -> Option<u8>;

    /// A two-byte field; `offset` is even.
    fn read_config_u16(&mut self, offset: usize) -> Option<u16>;

    /// A four-byte field; `offset` is a multiple of 4.
    fn read_config_u32(&mut self, offset: usize) -> Option<u32>;

    /// Queues the device has; `None` if the bus does not say.
    fn read_queue_count(&mut self) -> Option<u16>;

    /// Largest size of `queue`, 0 if it does not exist. `queue` is below the count.
    fn read_queue_size(&mut self, queue: u16) -> u16;

    /// Gives `queue` its memory and enables it. Not before features are settled, and not twice.
    fn enable_queue(&mut self, queue: u16, memory: &QueueMemory) -> Result<Box<dyn Notify>, Error>;

    /// How it interrupts.
    fn interrupts(&self) -> Interrupts;

    /// Has `vector` raise `interrupt`; with [`Interrupts::Wired`] the line does, whatever the vector.
    fn route(&mut self, vector: u16, interrupt: Interrupt) -> Result<(), Error>;

    /// Has `event` use `vector`. Only with [`Interrupts::Messages`].
    fn assign(&mut self, event: Event, vector: u16) -> Result<(), Error>;

    /// The way to take a wired interrupt back; `None` with messages.
    fn acknowledge(&mut self) -> Option<Box<dyn Acknowledge>>;

    /// Masks its interrupts and takes its right to access memory, as far as the bus can. After a reset.
    fn isolate(&mut self);
}

/// Resets the device and waits until it says so (§2.4.2: the driver reads status until it is 0). `false` if it
/// does not in two seconds: it may still write to what it was lent.
pub(crate) fn reset(transport: &mut dyn Transport) -> bool {
    transport.write_status(0);
    let start = clock::now();
    loop {
        if transport.read_status() == 0 {
            return true;
        }
        if clock::now().wrapping_sub(start) > RESET_TIMEOUT_NS {
            return false;
        }
        core::hint::spin_loop();
    }
}

/// Sets one more status bit.
pub(crate) fn advance(transport: &mut dyn Transport, status: &mut DeviceStatus, bit: DeviceStatus) {
    *status |= bit;
    transport.write_status(status.bits());
}

/// Reads configuration fields that belong together, until no change came between (§2.5.1).
pub(crate) fn read_stable<V>(
    transport: &mut dyn Transport,
    mut read: impl FnMut(&mut dyn Transport) -> V,
) -> Result<V, Violation> {
    for _ in 0..CONFIG_ATTEMPTS {
        let before = transport.read_config_generation();
        let value = read(transport);
        if transport.read_config_generation() == before {
            return Ok(value);
        }
    }
    Err(Violation::ConfigNeverStable)
}

/// What is wrong with a device that was running, if anything (§2.1.1, §2.1.2).
pub(crate) fn ailment(transport: &mut dyn Transport) -> Option<Violation> {
    let bits = transport.read_status();
    let status = DeviceStatus::from_bits_retain(bits);
    if bits == u8::MAX {
        Some(Violation::Vanished)
    } else if status.contains(DeviceStatus::DEVICE_NEEDS_RESET) {
        Some(Violation::NeedsReset)
    } else if !status.contains(DeviceStatus::DRIVER_OK) {
        Some(Violation::ResetItself)
    } else {
        None
    }
}

/// Interrupt lines that a device here has taken, one bit each. A line is a single edge to one CPU: two devices on it
/// would lose interrupts.
mod lines {
    use core::sync::atomic::{AtomicU64, Ordering};

    /// `[A]` Read and written when devices are attached and stopped.
    static TAKEN: AtomicU64 = AtomicU64::new(0);

    /// Takes a line. `false` if it is taken already, or too high to be known.
    pub(super) fn take(line: u32) -> bool {
        let Some(bit) = 1_u64.checked_shl(line) else { return false };
        TAKEN.fetch_or(bit, Ordering::AcqRel) & bit == 0
    }

    /// Gives it back.
    pub(super) fn give_back(line: u32) {
        if let Some(bit) = 1_u64.checked_shl(line) {
            TAKEN.fetch_and(!bit, Ordering::AcqRel);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_line_is_taken_once() {
            assert!(take(60));
            assert!(!take(60));
            give_back(60);
            assert!(take(60));
            assert!(!take(64));
            give_back(64);
        }
    }
}
