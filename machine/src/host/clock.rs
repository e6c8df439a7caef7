//! The clock of a program: nanoseconds since it first asked, as one tick each.

use std::sync::LazyLock;
use std::time::Instant;

static ENTRY: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the first call.
pub fn now() -> u64 {
    u64::try_from(ENTRY.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The same: one tick a nanosecond.
pub fn tsc() -> u64 {
    now()
}

/// Ticks since the first call.
pub fn since_entry() -> u64 {
    now()
}

/// Ticks a second.
pub fn tsc_hz() -> u64 {
    crate::clock::SECOND
}

/// Where the frequency came from, for the log.
pub fn source() -> &'static str {
    "the host"
}
