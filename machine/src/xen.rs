//! Xen, as a PVH guest sees it: hypercalls, event channels, grants, the store, the console, the clock.
//!
//! On the host the same API runs on a simulated hypervisor in ordinary memory, which tests drive from the other side.

#[cfg(feature = "image")]
pub(crate) mod clock;
#[cfg(feature = "image")]
pub(crate) mod console;
pub mod control;
pub mod event;
pub mod grant;
#[cfg(feature = "image")]
pub(crate) mod hypercall;
#[cfg(feature = "image")]
pub(crate) mod shared_info;
pub mod store;

/// A domain's number (Xen `public/xen.h`, `domid_t`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DomId(pub u16);

impl DomId {
    /// The domain that makes the others, and mostly serves them.
    pub const DOM0: DomId = DomId(0);
    /// Whoever asks (`DOMID_SELF`).
    pub const SELF: DomId = DomId(0x7FF0);
}

impl core::fmt::Display for DomId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "dom{}", self.0)
    }
}

/// Whether Xen runs this machine, as its CPUID leaves say.
#[cfg(feature = "image")]
pub fn present() -> bool {
    hypercall::base().is_some()
}

/// Whether Xen runs this machine: never, on the host.
#[cfg(not(feature = "image"))]
pub fn present() -> bool {
    false
}
