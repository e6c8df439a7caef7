//! What the CPUs share without a lock: context tokens, per-CPU data, softint words, published snapshots.
//!
//! A [`Cpu`] is the right to act as one CPU's dispatcher. It lends the tokens [`Softint`] and [`Control`]
//! that prove, to the compiler, in which context a function runs.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod atomic;
mod counter;
#[cfg(not(loom))]
pub mod cpu;
mod grace;
mod pending;
#[cfg(not(loom))]
mod percpu;
#[cfg(not(loom))]
mod published;

pub use counter::Counter;
#[cfg(not(loom))]
pub use cpu::{Control, Cpu, CpuId, MAX_CPUS, More, Softint, TaskLevel};
pub use grace::Grace;
pub use pending::Pending;
#[cfg(not(loom))]
pub use percpu::PerCpu;
#[cfg(not(loom))]
pub use published::{Published, Retired};
