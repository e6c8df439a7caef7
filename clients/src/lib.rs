//! What the router asks others for, sans-I/O: addresses, time, names; and where its log goes.
//!
//! Each client is a state machine over (now, received bytes); what it returns is to be sent, known, or waited for. `app`
//! gives them sockets and clocks. Times are milliseconds since entry, lifetimes seconds as protocols have them.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod dad;
pub mod dhcp4;
pub mod dhcp6;
pub mod dns;
pub mod ntp;
mod pace;
#[cfg(test)]
mod random;
mod read;
pub mod slaac;
pub mod syslog;

/// Random bits, which others cannot guess.
pub type Random = fn() -> u64;

/// A time that never comes.
pub const NEVER: u64 = u64::MAX;

/// Milliseconds of `seconds`; all ones are for ever in DHCP and neighbour discovery.
pub(crate) fn after(now_ms: u64, seconds: u32) -> u64 {
    if seconds == u32::MAX { NEVER } else { now_ms.saturating_add(u64::from(seconds) * 1000) }
}

/// Seconds that a lease lasts at least: a shorter one could not be renewed in time.
pub(crate) const LEAST_S: u32 = 10;

/// The least seconds until something is renewed that lasts so many: a minute, or a sixteenth of what is short. A server that
/// wants it sooner is mistaken.
pub(crate) fn least_t1_s(lifetime_s: u32) -> u32 {
    (lifetime_s / 16).clamp(LEAST_S / 2, 60)
}

/// `ms`, shortened or lengthened by up to a part in `share`: clients that began together do not stay together.
pub(crate) fn jitter(random: Random, ms: u64, share: u64) -> u64 {
    let span = (2 * ms / share).max(1);
    ms - ms / share + random() % span
}
