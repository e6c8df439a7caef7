//! The ways out: off, reboot, and the debug exit of a test machine. Callable in any context; none returns.

#[cfg(feature = "image")]
mod pc;

#[cfg(not(feature = "image"))]
pub use crate::host::power::{exit, off, reboot};
#[cfg(feature = "image")]
pub use pc::{exit, init, off, reboot};
