//! Why a device could not be attached: cause, then cure.

use crate::violation::Violation;
use alloc::string::String;
use core::fmt;

/// Why a device could not be attached. Its text names cause and cure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// Not a virtio device at all.
    NotVirtio,
    /// An empty virtio-mmio slot.
    EmptySlot,
    /// A virtio device, but not a network device: its type.
    NotNetwork(u32),
    /// A virtio device, but not a block device: its type.
    NotBlock(u32),
    /// Its blocks are of a size that is not a power of two from 512 to 4096.
    BlockSize(u32),
    /// It speaks only the interface from before virtio 1.0.
    LegacyPci,
    /// Its registers have the layout from before virtio 1.0.
    LegacyMmio,
    /// A register layout version that does not exist yet.
    UnknownMmioVersion(u32),
    /// It does not offer `VIRTIO_F_VERSION_1`.
    NotVersion1,
    /// A PCI capability that must be there is missing or unusable: which.
    Capability(&'static str),
    /// A structure of registers cannot be mapped: which, its address and length.
    Unmappable(&'static str, u64, u64),
    /// A structure of registers is too short or out of alignment: which.
    Malformed(&'static str),
    /// It does not come out of reset.
    ResetTimeout,
    /// It refused these features, a subset of its own offer.
    FeaturesRefused(u64),
    /// A queue that its features imply is missing.
    QueueMissing(u16),
    /// A queue's size is 0, not a power of two, above 32768 or too small: queue and size.
    QueueSize(u16, u16),
    /// It has no queue pair, or more than the specification allows.
    QueuePairs(u16),
    /// Its MTU is below what IP needs.
    Mtu(u16),
    /// Its station address is no unicast address.
    Mac([u8; 6]),
    /// No memory for its rings.
    NoMemory,
    /// No interrupt source is left on a CPU.
    NoInterrupt,
    /// Its interrupt cannot be routed.
    Unroutable(String),
    /// It shares an interrupt line with another device: the line.
    SharedLine(u32),
    /// It has neither MSI-X nor a wired interrupt.
    NoInterruptLine,
    /// It did not take the interrupt vector for a queue or for its configuration.
    VectorRefused,
    /// It refused to use several queues.
    SteeringRefused,
    /// It broke its protocol while it was being attached.
    Violation(Violation),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotVirtio => f.write_str("not a virtio device"),
            Self::EmptySlot => f.write_str("nothing in this virtio-mmio slot"),
            Self::NotNetwork(kind) => write!(f, "virtio device of type {kind}, not a network device (1)"),
            Self::NotBlock(kind) => write!(f, "virtio device of type {kind}, not a block device (2)"),
            Self::BlockSize(size) => {
                write!(f, "its blocks have {size} bytes; 512, 1024, 2048 and 4096 work (QEMU: logical_block_size)")
            }
            Self::LegacyPci => {
                f.write_str("legacy virtio only; give it the modern interface (QEMU: disable-modern=off)")
            }
            Self::LegacyMmio => f.write_str(
                "legacy virtio-mmio, version 1; ask for version 2 (QEMU: -global virtio-mmio.force-legacy=false)",
            ),
            Self::UnknownMmioVersion(version) => write!(f, "virtio-mmio version {version} is not known, 2 is"),
            Self::NotVersion1 => f.write_str("VIRTIO_F_VERSION_1 is not offered; use a virtio 1.0 or later device"),
            Self::Capability(which) => {
                write!(f, "the virtio capability for {which} is missing or lies in no memory BAR of the device")
            }
            Self::Unmappable(which, addr, len) => {
                write!(f, "{which} at {addr:#x}, {len} bytes, cannot be mapped; is its BAR assigned?")
            }
            Self::Malformed(which) => write!(f, "{which}: too short, out of alignment or beyond its BAR"),
            Self::ResetTimeout => f.write_str("does not come out of reset; the device model hangs"),
            Self::FeaturesRefused(bits) => write!(f, "refused features {bits:#x} of its own offer"),
            Self::QueueMissing(queue) => write!(f, "queue {queue} is missing though its features imply it"),
            Self::QueueSize(queue, size) => write!(
                f,
                "queue {queue} has {size} entries; a network device takes a power of two from {} on (QEMU: \
                 rx_queue_size, tx_queue_size), a disk 4 or more (QEMU: queue-size)",
                crate::net::MIN_QUEUE_SIZE
            ),
            Self::QueuePairs(pairs) => write!(f, "{pairs} queue pairs offered, 1 to 32768 can be"),
            Self::Mtu(mtu) => write!(f, "MTU {mtu} offered, at least 68 is needed (host_mtu)"),
            Self::Mac([a, b, c, d, e, g]) => {
                write!(f, "MAC {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x} is no unicast address; set another")
            }
            Self::NoMemory => f.write_str("no memory for its rings; give the router more"),
            Self::NoInterrupt => f.write_str("all interrupt sources of a CPU are taken; attach fewer devices or queues"),
            Self::Unroutable(why) => write!(f, "interrupt cannot be routed: {why}"),
            Self::SharedLine(line) => {
                write!(f, "interrupt line {line} serves another device already; use MSI-X (QEMU: vectors=4)")
            }
            Self::NoInterruptLine => f.write_str("has neither MSI-X nor an interrupt line (QEMU: vectors=4)"),
            Self::VectorRefused => f.write_str("did not take an MSI-X vector; give it more (QEMU: vectors=)"),
            Self::SteeringRefused => f.write_str("refused to use several queues; attach it with one queue pair"),
            Self::Violation(violation) => write!(f, "broke the virtio protocol: {violation}"),
        }
    }
}

impl core::error::Error for Error {}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Error::Violation(violation)
    }
}
