//! What a network device offers, and what the stack asks of it.

use crate::batch::Batch;
use crate::discard::Drop;
use crate::pool::Pool;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use weir_sync::{Control, CpuId, More, Softint};

bitflags::bitflags! {
    /// What the device takes off software's hands.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Offloads: u16 {
        /// Transmit: finishes partial checksums.
        const TX_CHECKSUM = 1 << 0;
        /// Transmit: cuts TCP over IPv4 super-packets.
        const TX_TCP4 = 1 << 1;
        /// Transmit: cuts TCP over IPv6 super-packets.
        const TX_TCP6 = 1 << 2;
        /// Transmit: cuts super-packets whose TCP header has CWR set.
        const TX_ECN = 1 << 3;
        /// Receive: may hand over partial and verified checksums.
        const RX_CHECKSUM = 1 << 4;
        /// Receive: may hand over TCP super-packets.
        const RX_TCP = 1 << 5;
        /// Receive: spreads flows over queues by hash.
        const RX_RSS = 1 << 6;
        /// Transmit: does all of the above for frames with a VLAN tag too.
        const TX_TAGGED = 1 << 7;
    }
}

impl Offloads {
    /// What is left of them for frames with a VLAN tag (IEEE 802.1Q) in their bytes.
    pub fn tagged(self) -> Self {
        let transmit = Self::TX_CHECKSUM | Self::TX_TCP4 | Self::TX_TCP6 | Self::TX_ECN;
        if self.contains(Self::TX_TAGGED) { self } else { self - transmit }
    }
}

/// What is known about a device. Of what is here only the MTU, and whether it spreads flows by hash, change while it is
/// attached: by [`Device::service`].
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// Driver and place, as logs name it: `virtio-net pci 00:02.0`.
    pub name: String,
    /// Station address.
    pub mac: [u8; 6],
    /// Largest layer-3 packet it can carry, in bytes, as it says itself; 1500 if it says nothing.
    pub mtu: u16,
    /// Queue pairs in use.
    pub queues: u16,
    /// Offloads negotiated.
    pub offloads: Offloads,
}

/// Carrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// Frames pass.
    Up,
    /// They do not.
    Down,
}

/// Why a device was taken down: it broke its protocol. Its name for logs and counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Stable name, such as `used-id-not-outstanding`.
    pub reason: &'static str,
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.reason)
    }
}

/// One receive/transmit queue pair. Belongs to one CPU, which alone calls it, in softint context.
///
/// After a [`Fault`] every call returns the same fault; packets lent to the device stay lent until
/// [`Device::stop`] has quenched it.
pub trait Queue: Send {
    /// Takes what arrived, as many as `into` has room for, and refills the ring from `pool`.
    /// [`More::Yes`] if frames are left. Sets everything in `Meta` but `received`.
    fn receive(&mut self, cx: &Softint, pool: &mut Pool, into: &mut Batch) -> Result<More, Fault>;

    /// Takes packets from the front of `batch` while there is room, notifies the device once, and frees
    /// what it has finished sending. What is left in `batch` did not fit.
    fn transmit(&mut self, cx: &Softint, pool: &mut Pool, batch: &mut Batch) -> Result<(), Fault>;

    /// Frees transmitted packets; [`More::Yes`] if some are in flight still.
    fn reap(&mut self, cx: &Softint, pool: &mut Pool) -> Result<More, Fault>;

    /// Asks for no receive interrupts: the CPU polls.
    fn disarm(&mut self, cx: &Softint);

    /// Asks for a receive interrupt, then looks once more: [`More::Yes`] if something arrived meanwhile.
    fn arm(&mut self, cx: &Softint) -> Result<More, Fault>;

    /// How often it notified the device so far: each is an exit from a virtual machine. 0 if the driver does not count.
    fn notifications(&self) -> u64 {
        0
    }

    /// Tells `count` how many packets died inside the driver since the last call, by reason. Not those that are left to
    /// the caller.
    fn take_drops(&mut self, _count: &mut dyn FnMut(Drop, u32)) {}
}

/// A queue pair on its way to the CPU that will own it.
pub struct QueuePair {
    /// The owner.
    pub cpu: CpuId,
    /// The softint source on that CPU that the device's interrupt raises.
    pub source: u8,
    /// The pair.
    pub queue: Box<dyn Queue>,
}

/// An attached device: its queues go to the CPUs, the rest stays at task level.
pub trait Device: Send {
    /// What is known about it.
    fn info(&self) -> &DeviceInfo;

    /// Hands out its queue pairs, pair *n* for CPU *n*; empty the second time.
    fn queues(&mut self, cx: &Control) -> Vec<QueuePair>;

    /// The boot CPU's softint source that announces a change of configuration (link, MTU, need of reset); may be
    /// one of a queue's. [`service`](Self::service) is due after it.
    fn config_source(&self) -> u8;

    /// Whether every change raises [`config_source`](Self::config_source), so that nobody needs to look without being told.
    fn announces_changes(&self) -> bool {
        false
    }

    /// Current carrier; one that went and came back since it was asked for before is down once, where the device lets that be
    /// known. Reads the device.
    fn link(&mut self, cx: &Control) -> Link;

    /// Looks after a possible configuration change, cheaply when there was none: [`Err`] when the device asked for help or broke its protocol.
    fn service(&mut self, cx: &Control) -> Result<(), Fault>;

    /// Stops it for good: reset, after which it touches no lent buffer any more.
    fn stop(&mut self, cx: &Control);
}
