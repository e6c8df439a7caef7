//! Why a vif could not be attached: cause, then cure.

use crate::violation::Violation;
use crate::xenbus::State;
use alloc::string::{String, ToString};
use core::fmt;
use weir_machine::xen::event;
use weir_machine::xen::store::StoreError;

/// Why a vif could not be attached. Its text names cause and cure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// A request to the store failed: at which path, and how.
    Store(String, StoreError),
    /// A node that must be there is missing.
    Missing(String),
    /// A node's value makes no sense: its path and the value.
    Value(String, String),
    /// Its backend cannot copy into our pages (`feature-rx-copy`).
    NoCopy,
    /// The backend did not get there in time: the state waited for and its own.
    Backend(State, State),
    /// No memory for its rings and pages, or no grant entry.
    NoMemory,
    /// No interrupt source is left on a CPU.
    NoInterrupt,
    /// No event channel can be had: how the hypervisor said so.
    NoChannel(String),
    /// Its backend broke its protocol while it was being attached.
    Violation(Violation),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(path, why) => write!(f, "{path}: {why}"),
            Self::Missing(path) => write!(f, "{path} is missing; has the toolstack made the vif?"),
            Self::Value(path, value) => write!(f, "{path} has the value \"{value}\", which makes no sense"),
            Self::NoCopy => f.write_str("its backend has no feature-rx-copy; it takes one of Xen 3.1 or later"),
            Self::Backend(wanted, State::Unknown) => {
                write!(f, "its backend has no state and was to be {wanted}; does its driver domain run?")
            }
            Self::Backend(State::Connected, State::InitWait) => write!(
                f,
                "its backend stays in state {} and does not connect; look at its log, and at hotplug-status",
                State::InitWait
            ),
            Self::Backend(wanted, state) => {
                write!(f, "its backend stays in state {state} and was to be {wanted}; look at its log")
            }
            Self::NoMemory => f.write_str("no memory or grant entry for its rings; give the router more memory, or Xen gnttab_max_frames"),
            Self::NoInterrupt => f.write_str("all interrupt sources of a CPU are taken; attach fewer vifs or queues"),
            Self::NoChannel(why) => write!(f, "no event channel: {why}"),
            Self::Violation(violation) => write!(f, "its backend broke the protocol: {violation}"),
        }
    }
}

impl Error {
    pub(crate) fn no_channel(why: event::Error) -> Self {
        Self::NoChannel(why.to_string())
    }
}

impl core::error::Error for Error {}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Error::Violation(violation)
    }
}
