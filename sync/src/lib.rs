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
pub mod cpu;
pub mod event;
mod grace;
mod last;
pub mod lock;
pub mod mailbox;
pub mod mask;
#[cfg(all(test, loom))]
mod models;
mod owned;
mod pending;
mod percpu;
pub mod pslist;
mod published;
pub mod rank;
pub mod records;
pub mod ring;
pub mod sort;
pub mod trace;
pub mod wheel;
pub mod wide;

pub use counter::Counter;
pub use cpu::{Control, Cpu, CpuId, MAX_CPUS, More, Softint, TaskLevel};
pub use event::Event;
pub use grace::Grace;
pub use last::Last;
pub use lock::{Guard, Held, Lock};
pub use mailbox::Mailbox;
pub use owned::Owned;
pub use pending::Pending;
pub use percpu::PerCpu;
pub use pslist::PsList;
pub use published::{Period, Published, Retired};
pub use trace::Trace;
pub use wheel::Wheel;
