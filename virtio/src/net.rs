//! The network device (virtio 1.2 §5.1): attaching it, its queue pairs, its end.
//!
//! [`probe_pci`] and [`probe_mmio`] at boot give a [`weir_netif::Device`]. The first `receive` of each of its queues
//! lends the first receive buffers; `reap`, called at every tick, takes back what was sent and lends what was missing.

mod attach;
pub use attach::UHYVE_MTU;
mod config;
mod control;
mod features;
mod header;
mod pair;
mod receive;
mod rss;
#[cfg(test)]
mod tests;
mod transmit;

use crate::error::Error;
use crate::transport::mmio::Mmio;
use crate::transport::pci::Pci;
use crate::transport::{Transport, ailment, reset};
use crate::violation::{Health, Violation};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use control::Control as ControlQueue;
use virtio_spec::net::F;
use weir_machine::interrupt::Interrupt;
use weir_machine::mmio_devices::MmioDevice;
use weir_machine::pci::Function;
use weir_netif::{Device, DeviceInfo, Fault, Link, Offloads, QueuePair};
use weir_sync::Control;

/// Entries a queue must have at least: a 64 KiB packet takes 42 buffers.
pub const MIN_QUEUE_SIZE: u16 = 64;
/// Entries a queue is given at most. More would only hold packets longer.
pub const MAX_QUEUE_SIZE: u16 = 1024;

/// Device type (§5).
const NETWORK: u32 = 1;

/// Which frames the device is to hand over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Filter {
    /// To its own station address, to all groups, and broadcasts: what a router needs.
    #[default]
    Router,
    /// All frames: for bridging and capturing.
    Everything,
}

/// How to attach a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Queue pairs wanted: as many as there are CPUs. It gets at most what the device and its vectors allow, and
    /// pair *n* interrupts CPU *n*.
    pub queue_pairs: u16,
    /// Offloads wanted; the device may have fewer.
    pub offloads: Offloads,
    /// Receive filter.
    pub filter: Filter,
    /// Most packet buffers that all receive queues together hold; each holds [`MIN_QUEUE_SIZE`] in any case.
    pub receive_buffers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue_pairs: 1,
            offloads: Offloads::all(),
            filter: Filter::Router,
            receive_buffers: usize::MAX,
        }
    }
}

/// Whether a PCI function is a virtio network device.
pub fn matches(function: &Function) -> bool {
    crate::transport::pci::device_type(function) == Some(NETWORK)
}

/// Attaches a network device on PCI.
pub fn probe_pci(cx: &Control, function: &Function, options: &Options) -> Result<Box<dyn Device>, Error> {
    let (transport, kind) = Pci::new(function)?;
    probe(cx, Box::new(transport), kind, options)
}

/// Attaches a network device behind memory-mapped registers. [`Error::EmptySlot`] and [`Error::NotNetwork`] are no
/// failures there: hypervisors announce slots that hold nothing or something else.
pub fn probe_mmio(cx: &Control, device: &MmioDevice, options: &Options) -> Result<Box<dyn Device>, Error> {
    let (transport, kind) = Mmio::new(device)?;
    probe(cx, Box::new(transport), kind, options)
}

/// What there is to say of a network device on PCI, without attaching it: neither its queues nor its offloads are settled.
pub fn look_pci(function: &Function) -> Result<DeviceInfo, Error> {
    let (transport, kind) = Pci::new(function)?;
    look(Box::new(transport), kind)
}

/// [`look_pci`] behind memory-mapped registers.
pub fn look_mmio(device: &MmioDevice) -> Result<DeviceInfo, Error> {
    let (transport, kind) = Mmio::new(device)?;
    look(Box::new(transport), kind)
}

fn look(transport: Box<dyn Transport>, kind: u32) -> Result<DeviceInfo, Error> {
    if kind != NETWORK {
        return Err(Error::NotNetwork(kind));
    }
    attach::look(transport)
}

/// Attaches a device of type `kind` on any transport.
pub fn probe(
    _cx: &Control,
    transport: Box<dyn Transport>,
    kind: u32,
    options: &Options,
) -> Result<Box<dyn Device>, Error> {
    if kind != NETWORK {
        return Err(Error::NotNetwork(kind));
    }
    let device = attach::attach(transport, options)?;
    Ok(Box::new(device))
}

/// An attached network device. `[C]` The boot CPU's task.
struct Net {
    transport: Box<dyn Transport>,
    info: DeviceInfo,
    features: F,
    /// `[A]` Shared with the queue pairs.
    health: Arc<Health>,
    pairs: Vec<QueuePair>,
    control: Option<ControlQueue>,
    interrupts: Vec<Interrupt>,
    config_source: u8,
    /// The carrier as it was told last, and the configuration's generation then.
    told: Option<(Link, u32)>,
}

impl Net {
    /// Resets the device. Once that is confirmed, what it was lent may be used again; otherwise it stays lost.
    fn quench(&mut self) {
        if self.health.is_quenched() {
            return;
        }
        if reset(&mut *self.transport) {
            self.health.quench();
        } else {
            weir_machine::error!("{}: does not come out of reset; its buffers stay lent", self.info.name);
        }
        self.transport.isolate();
        self.interrupts.drain(..).for_each(Interrupt::free);
    }
}

impl Device for Net {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn queues(&mut self, _cx: &Control) -> Vec<QueuePair> {
        core::mem::take(&mut self.pairs)
    }

    fn config_source(&self) -> u8 {
        self.config_source
    }

    fn link(&mut self, _cx: &Control) -> Link {
        if self.health.check().is_err() {
            return Link::Down;
        }
        let mut link = config::read_link(&mut *self.transport, self.features);
        if self.features.contains(F::STATUS) {
            // After the carrier: it is reading that may move the generation on (§4.1.4.3.1).
            let generation = self.transport.read_config_generation();
            if self
                .told
                .is_some_and(|(told, last)| (told, link) == (Link::Up, Link::Up) && last != generation)
            {
                link = Link::Down;
            }
            self.told = Some((link, generation));
        }
        link
    }

    /// One register read. A device that is down already, or that is found to be, is reset here.
    fn service(&mut self, _cx: &Control) -> Result<(), Fault> {
        let fault = match self.health.check() {
            Ok(()) => match ailment(&mut *self.transport) {
                None => return Ok(()),
                Some(violation) => self.health.fail(violation),
            },
            Err(down) => down.fault,
        };
        self.quench();
        Err(fault)
    }

    fn stop(&mut self, _cx: &Control) {
        self.health.fail(Violation::Stopped);
        self.quench();
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.health.fail(Violation::Stopped);
        self.quench();
    }
}
