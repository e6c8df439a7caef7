//! The router application: everything above the packet path that is not tied to one machine.
//! The image (the package `weir`) and the host tool (`bin/weir-check`) are thin programs over this library.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod attach;
pub mod capture;
pub mod clients;
pub mod config;
pub mod disk;
pub mod explain;
pub mod forwarder;
pub mod guest;
pub mod interfaces;
pub mod manage;
pub mod management;
#[cfg(test)]
mod memory_port;
pub mod mesh;
pub mod modules;
pub mod observe;
pub mod ping;
pub mod port;
pub mod router;
pub mod shared;
pub mod sources;
#[cfg(feature = "image")]
pub mod start;
pub mod transport;
pub mod vlans;
