//! The one-shot timer of each CPU: sets the softint bit [`TIMER`](crate::interrupt::TIMER) at a deadline.
//!
//! TSC-deadline mode where the CPU has it, else the local APIC's counter measured against the TSC. A CPU has
//! one deadline; whoever multiplexes keeps a queue and arms the earliest.

#[cfg(feature = "image")]
mod lapic;

#[cfg(not(feature = "image"))]
pub use crate::host::timer::{arm, disarm};
#[cfg(feature = "image")]
pub use lapic::{arm, disarm, init_cpu, mode};
