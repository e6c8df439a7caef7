//! Xen network front end (Xen `public/io/netif.h`): vifs found in the store, connected to backends that may be hostile.
//!
//! What a backend may touch is read once, then checked; whatever it breaks is a named [`Violation`] that takes
//! this one vif down. The app calls [`Vif::list`] and [`probe`] at boot and after a vif came back.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod assembly;
mod attach;
mod control;
mod device;
mod error;
mod features;
mod headers;
mod ids;
mod pair;
mod receive;
mod ring;
#[cfg(test)]
mod simulated;
mod stock;
#[cfg(test)]
mod tests;
mod transmit;
mod vif;
mod violation;
mod wire;
mod xenbus;

pub use attach::{Options, Vif, Xen, describe, probe};
pub use error::Error;
pub use violation::Violation;
pub use xenbus::State;
