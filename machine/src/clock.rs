//! Time since entry, from the time-stamp counter. One multiplication a reading; callable in any context once
//! `init` has run on the boot CPU, and 0 before.
//!
//! The TSC is taken as constant and synchronous over the CPUs, which is what every hypervisor Weir runs
//! under gives its guests; `init` says so in the log where CPUID does not promise it.

#[cfg(any(feature = "image", test))]
mod fit;
#[cfg(feature = "image")]
mod reference;
mod scale;
#[cfg(feature = "image")]
mod stated;
#[cfg(feature = "image")]
mod tsc;
pub mod wall;

#[cfg(not(feature = "image"))]
pub use crate::host::clock::{now, since_entry, source, tsc, tsc_hz};
pub use scale::Scale;
#[cfg(feature = "image")]
pub(crate) use stated::apic_bus_hz;
#[cfg(feature = "image")]
pub use tsc::{ENTRY_TSC, hint, init, now, since_entry, source, tsc, tsc_hz};
#[cfg(feature = "image")]
pub(crate) use tsc::{at, measure, spin_ns};

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;
