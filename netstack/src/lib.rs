//! Packets in, packets out: the router's network stack, without I/O, clock or allocation on the packet path.
//!
//! A [`Stack`] is one CPU's private state; a [`Snapshot`] is the configuration all CPUs read. The application hands
//! [`Stack::input`] batches that a device received and gets batches to transmit back through [`Egress`].
//! `path.rs` is the only file that knows the order of the stages.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod address;
pub mod arp;
mod boxed;
pub mod capture;
pub mod checksum;
mod datagram;
pub mod egress;
pub mod ethernet;
pub mod explain;
pub mod fib;
pub mod flow;
pub mod fragment;
#[cfg(test)]
mod frames;
pub mod icmp;
pub mod icmp6;
pub mod ipv4;
pub mod ipv6;
pub mod ipv6ext;
pub mod limit;
pub mod local;
pub mod nd;
pub mod neighbor;
mod path;
mod pieces;
pub mod reassembly;
pub mod recorder;
pub mod segment;
#[cfg(test)]
mod sim;
pub mod snapshot;
pub mod stack;
pub mod tcp;
pub mod time;
mod timers;

pub use egress::{Carrier, Delivery, Egress, Local, Upper};
pub use snapshot::{Conflict, Plan, Snapshot};
pub use stack::Stack;
pub use time::Instant;
