//! The block device (virtio 1.2 §5.2), to be read at boot: one request at a time, polled, from task level.
//!
//! Whoever opens a [`Disk`] has it until it drops it, which resets the device.

#[cfg(test)]
mod tests;

use crate::error::Error;
use crate::queue::{Access, Events, Segment, SplitQueue};
use crate::transport::mmio::Mmio;
use crate::transport::pci::{Pci, device_type};
use crate::transport::{Notify, QueueMemory, Transport, advance, read_stable, reset};
use crate::violation::Violation;
use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;
use virtio_spec::DeviceStatus;
use virtio_spec::blk::F;
use weir_machine::dma::Region;
use weir_machine::mmio_devices::MmioDevice;
use weir_machine::pci::Function;
use weir_machine::{clock, error};
use weir_sync::Control;

/// Device type (§5).
const BLOCK_DEVICE: u32 = 2;
/// The unit of the capacity and of requests, whatever the disk's own blocks are (§5.2.6).
const SECTOR: u64 = 512;
/// Bytes of a block as it is read here: all disks' own blocks are as long or shorter.
pub const BLOCK: usize = 4096;
/// A request takes three descriptors.
const QUEUE_SIZE: u16 = 4;
/// An answer must come in this time, in nanoseconds: what a disk behind a network may take.
const TIMEOUT_NS: u64 = if cfg!(test) { 50_000_000 } else { 5_000_000_000 };

/// Offsets in the device's configuration (§5.2.4).
const CAPACITY: usize = 0;
const BLK_SIZE: usize = 20;

/// A request's type: read (§5.2.6).
const IN: u32 = 0;
/// Its answers.
const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;
/// What the answer is before the device writes one.
const NONE: u8 = 0xff;

/// Offsets in the memory of a request: its header, the answer, the block.
const HEADER_LEN: u32 = 16;
const ANSWER: usize = 16;
const DATA: usize = BLOCK;

/// Why a block cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadError {
    /// It lies behind the disk's end: its number, and how many sectors of 512 bytes there are.
    BeyondEnd(u64, u64),
    /// The device could not read it.
    Failed(u64),
    /// The device knows no reading.
    Unsupported,
    /// The device broke its protocol, now or before.
    Violation(Violation),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeyondEnd(block, sectors) => {
                write!(
                    f,
                    "byte {} lies behind its end: it has {sectors} sectors",
                    u128::from(*block) * BLOCK as u128
                )
            }
            Self::Failed(block) => write!(f, "reports a read error at byte {}", block * BLOCK as u64),
            Self::Unsupported => f.write_str("refuses to be read"),
            Self::Violation(violation) => write!(f, "broke the virtio protocol: {violation}"),
        }
    }
}

impl core::error::Error for ReadError {}

/// Whether a PCI function is a virtio block device.
pub fn matches(function: &Function) -> bool {
    device_type(function) == Some(BLOCK_DEVICE)
}

/// Whether there is a virtio block device behind memory-mapped registers.
pub fn matches_mmio(device: &MmioDevice) -> bool {
    Mmio::new(device).is_ok_and(|(_, kind)| kind == BLOCK_DEVICE)
}

/// A disk that can be read. `[C]` The task that opened it.
pub struct Disk {
    transport: Box<dyn Transport>,
    /// `None` once it is down, and before it is up.
    parts: Option<Parts>,
    sectors: u64,
    block_size: u32,
    /// What it did wrong.
    broken: Option<Violation>,
}

struct Parts {
    queue: SplitQueue<()>,
    notify: Box<dyn Notify>,
    memory: Region,
}

impl Disk {
    /// Opens a disk on PCI.
    pub fn open_pci(cx: &Control, function: &Function) -> Result<Disk, Error> {
        let (transport, kind) = Pci::new(function)?;
        Self::open(cx, Box::new(transport), kind)
    }

    /// Opens a disk behind memory-mapped registers. [`Error::EmptySlot`] and [`Error::NotBlock`] are no
    /// failures there.
    pub fn open_mmio(cx: &Control, device: &MmioDevice) -> Result<Disk, Error> {
        let (transport, kind) = Mmio::new(device)?;
        Self::open(cx, Box::new(transport), kind)
    }

    /// Opens a device of type `kind` on any transport.
    pub fn open(_cx: &Control, transport: Box<dyn Transport>, kind: u32) -> Result<Disk, Error> {
        if kind != BLOCK_DEVICE {
            return Err(Error::NotBlock(kind));
        }
        let mut disk = Disk { transport, parts: None, sectors: 0, block_size: SECTOR as u32, broken: None };
        // A failure drops the disk, which resets it.
        disk.attach()?;
        Ok(disk)
    }

    /// Its bus and place there.
    pub fn place(&self) -> String {
        self.transport.place()
    }

    /// Bytes in all.
    pub fn len(&self) -> u64 {
        self.sectors.saturating_mul(SECTOR)
    }

    /// Whether it has no bytes, as a drive without its medium.
    pub fn is_empty(&self) -> bool {
        self.sectors == 0
    }

    /// Bytes of its own blocks, in which a partition table counts: a power of two, 512 to 4096.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Reads block number `block`. The rest of the last one is zero if the disk ends within.
    pub fn read(&mut self, block: u64, to: &mut [u8; BLOCK]) -> Result<(), ReadError> {
        if let Some(violation) = self.broken {
            return Err(ReadError::Violation(violation));
        }
        let beyond = ReadError::BeyondEnd(block, self.sectors);
        let sector =
            block.checked_mul(BLOCK as u64 / SECTOR).filter(|&at| at < self.sectors).ok_or(beyond)?;
        let len = (self.sectors - sector).min(BLOCK as u64 / SECTOR) as usize * SECTOR as usize;
        let Some(parts) = &mut self.parts else { return Err(ReadError::Violation(Violation::Stopped)) };
        match parts.request(sector, len as u32) {
            Ok(OK) => {}
            Ok(IOERR) => return Err(ReadError::Failed(block)),
            Ok(UNSUPP) => return Err(ReadError::Unsupported),
            Ok(_) => return Err(self.violated(Violation::BlockAnswerUnknown)),
            Err(violation) => return Err(self.violated(violation)),
        }
        to.fill(0);
        if let Some(to) = to.get_mut(..len) {
            parts.memory.copy_out(DATA, to);
        }
        Ok(())
    }

    fn violated(&mut self, violation: Violation) -> ReadError {
        self.broken = Some(violation);
        ReadError::Violation(violation)
    }

    /// From a reset to a running device (§3.1.1, §5.2.5).
    fn attach(&mut self) -> Result<(), Error> {
        let transport = &mut *self.transport;
        if !reset(transport) {
            return Err(Error::ResetTimeout);
        }
        let mut status = DeviceStatus::empty();
        advance(transport, &mut status, DeviceStatus::ACKNOWLEDGE);
        advance(transport, &mut status, DeviceStatus::DRIVER);
        let offered = transport.read_features();
        let bits = |features: F| features.bits().to_ne() as u64;
        if offered & bits(F::VERSION_1) == 0 {
            return Err(Error::NotVersion1);
        }
        // Not ours to choose: behind an IOMMU there is no disk without the first (§6.1).
        let accepted = offered & bits(F::VERSION_1 | F::ACCESS_PLATFORM | F::ORDER_PLATFORM);
        transport.write_features(accepted);
        advance(transport, &mut status, DeviceStatus::FEATURES_OK);
        if !DeviceStatus::from_bits_retain(transport.read_status()).contains(DeviceStatus::FEATURES_OK) {
            return Err(Error::FeaturesRefused(accepted));
        }
        let (sectors, block_size) = read_stable(transport, |transport| {
            let low = transport.read_config_u32(CAPACITY);
            let high = transport.read_config_u32(CAPACITY + 4);
            let sectors = low.zip(high).map(|(low, high)| u64::from(low) | u64::from(high) << 32);
            // §5.2.5: the field counts where the feature is offered, accepted or not.
            let has_size = offered & bits(F::BLK_SIZE) != 0;
            (sectors, if has_size { transport.read_config_u32(BLK_SIZE) } else { Some(SECTOR as u32) })
        })?;
        self.sectors = sectors.ok_or(Error::Malformed("the capacity of the disk"))?;
        self.block_size = block_size.ok_or(Error::Malformed("the block size of the disk"))?;
        if !self.block_size.is_power_of_two() || !(SECTOR as u32..=BLOCK as u32).contains(&self.block_size) {
            return Err(Error::BlockSize(self.block_size));
        }
        if transport.read_queue_count() == Some(0) {
            return Err(Error::QueueMissing(0));
        }
        match transport.read_queue_size(0) {
            0 => return Err(Error::QueueMissing(0)),
            size if size < QUEUE_SIZE => return Err(Error::QueueSize(0, size)),
            _ => {}
        }
        let queue = SplitQueue::new(QUEUE_SIZE, Events::Flags).ok_or(Error::NoMemory)?;
        let memory = Region::new(DATA + BLOCK, BLOCK).ok_or(Error::NoMemory)?;
        let rings = queue.rings();
        let place = QueueMemory {
            size: QUEUE_SIZE,
            descriptors: rings.descriptors(),
            available: rings.available(),
            used: rings.used(),
        };
        let notify = transport.enable_queue(0, &place)?;
        self.parts = Some(Parts { queue, notify, memory });
        advance(&mut *self.transport, &mut status, DeviceStatus::DRIVER_OK);
        Ok(())
    }
}

impl Parts {
    /// Reads `len` bytes from `sector` on and waits for the answer.
    fn request(&mut self, sector: u64, len: u32) -> Result<u8, Violation> {
        self.memory.write_u32(0, IN);
        self.memory.write_u32(4, 0);
        self.memory.write_u64(8, sector);
        self.memory.write_u8(ANSWER, NONE);
        let addr = self.memory.addr();
        let segments = [
            Segment { addr, len: HEADER_LEN, access: Access::Read },
            Segment { addr: addr + DATA as u64, len, access: Access::Write },
            Segment { addr: addr + ANSWER as u64, len: 1, access: Access::Write },
        ];
        // Each request waits for its answer, so the ring is empty here.
        self.queue.lend(segments, ()).map_err(|()| Violation::BlockTimeout)?;
        if self.queue.publish() {
            self.notify.notify();
        }
        let start = clock::now();
        while self.queue.poll()? == 0 {
            if clock::now().wrapping_sub(start) > TIMEOUT_NS {
                return Err(Violation::BlockTimeout);
            }
            core::hint::spin_loop();
        }
        let used = self.queue.entry().ok_or(Violation::UsedIndexRunaway)?;
        self.queue.redeem(used)?;
        if used.len > len + 1 {
            return Err(Violation::UsedLengthBeyondBuffer);
        }
        Ok(self.memory.read_u8(ANSWER))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !reset(&mut *self.transport) {
            error!("{}: does not come out of reset; its buffers stay lent", self.place());
            // The device may still touch them: lost rather than used again.
            core::mem::forget(self.parts.take());
        }
        self.transport.isolate();
    }
}
