//! virtio 1.2: PCI and MMIO transports, split virtqueues, the network and the block device.
//!
//! The device is not trusted: what it may touch is never believed twice, whatever it breaks is a named
//! [`Violation`] that takes this one device down. The app calls [`net::probe_pci`] and [`net::probe_mmio`] at
//! boot, and reads its configuration from a [`blk::Disk`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod blk;
mod error;
pub mod net;
mod queue;
#[cfg(test)]
mod simulated;
pub mod transport;
mod violation;

pub use error::Error;
pub use violation::Violation;
