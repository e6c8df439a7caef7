//! What a driver and the stack agree on: packet buffers, batches, offloads, devices, counters.
//!
//! A [`Packet`] is an owned handle to a buffer of an [`Arena`]; a [`Pool`] is one CPU's share of free buffers;
//! a [`Queue`] is one receive/transmit queue pair of a device, owned by one CPU.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

#[allow(unsafe_code)]
mod arena;
mod batch;
mod counters;
mod device;
mod discard;
mod health;
mod offload;
mod packet;
mod pool;
pub mod toeplitz;

pub use arena::{Arena, BUFFER, Claim, HEADROOM, MIN_CAPACITY, PAGE_BUFFER};
pub use batch::{BATCH, Batch};
pub use counters::{IfCounters, Totals};
pub use device::{Device, DeviceInfo, Fault, Link, Offloads, Queue, QueuePair};
pub use discard::Drop;
pub use health::{Breach, Down, Health};
pub use offload::{Checksum, Gso, GsoKind, IfIndex, Meta};
pub use packet::Packet;
pub use pool::Pool;
pub use weir_sync::More;
