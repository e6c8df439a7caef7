//! The router application: everything above the packet path that is not tied to one machine.
//! The image (`bin/weir`) and the host tool (`bin/weir-check`) are thin programs over this library.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod attach;
pub mod config;
pub mod forwarder;
pub mod management;
pub mod router;
pub mod shared;
pub mod show;
#[cfg(feature = "image")]
pub mod start;
