//! Xen, as a PVH guest sees it: hypercalls, event channels, grants, the store, the console, the clock.
//!
//! On the host the same API runs on a simulated hypervisor in ordinary memory, which tests drive from the other side.

#[cfg(feature = "image")]
pub(crate) mod clock;
#[cfg(any(feature = "image", test))]
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

#[cfg(feature = "image")]
pub use image::present;
#[cfg(feature = "image")]
pub(crate) use image::{End, end, init, init_cpu, start};

/// Whether Xen runs this machine: never, on the host.
#[cfg(not(feature = "image"))]
pub fn present() -> bool {
    false
}

#[cfg(feature = "image")]
mod image {
    use super::{clock, console, event, hypercall, shared_info};
    use core::sync::atomic::Ordering;
    use weir_sync::CpuId;
    use xen_sys::{SCHEDOP_shutdown, SHUTDOWN_crash, SHUTDOWN_poweroff, SHUTDOWN_reboot, sched_shutdown};

    /// Whether Xen runs this machine, as its CPUID leaves say.
    pub fn present() -> bool {
        hypercall::base().is_some()
    }

    /// Finds Xen; from then on hypercalls work, and Xen's log is a console. Boot CPU, first of all.
    pub(crate) fn start() {
        hypercall::init();
        if present() {
            console::start();
        }
    }

    /// The console, what Xen shares and its clock. Boot CPU, once the frame allocator, the heap and the page tables are
    /// there, before [`init_cpu`].
    pub(crate) fn init() {
        if !present() {
            return;
        }
        console::init();
        if let Err(errno) = shared_info::init() {
            crate::error!("xen: no shared information: {errno}");
        }
        shared_info::init_cpu(CpuId::BOOT, 0);
        let version = hypercall::leaf(1, 0).map_or(0, |leaf| leaf.eax);
        let abi = event::init();
        let (major, minor, tsc) = (version >> 16, version & 0xffff, clock::tsc_mode());
        crate::info!("xen: version {major}.{minor}, {abi} event channels, TSC {tsc}");
    }

    /// Events for this CPU. On that CPU, its local APIC on, interrupts off; the boot CPU after [`init`].
    pub(crate) fn init_cpu(cpu: CpuId) {
        if !present() {
            return;
        }
        if cpu != CpuId::BOOT {
            shared_info::init_cpu(cpu, crate::cpu::block(cpu).apic.load(Ordering::Relaxed));
        }
        if let Err(errno) = event::init_cpu(cpu) {
            crate::error!("xen: no events for {cpu}: {errno}");
        }
    }

    /// How a domain ends.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) enum End {
        /// For good.
        PowerOff,
        /// To be started anew.
        Reboot,
        /// Broken: the toolstack does what `on_crash` says, and may keep the domain to be looked at.
        Crash,
    }

    /// Ends the domain. Returns only without Xen. Callable in any context.
    pub(crate) fn end(how: End) {
        console::flush();
        let reason = match how {
            End::PowerOff => SHUTDOWN_poweroff,
            End::Reboot => SHUTDOWN_reboot,
            End::Crash => SHUTDOWN_crash,
        };
        // SAFETY: Xen reads the structure; what it does to the domain is what is asked for.
        let _ = unsafe { hypercall::sched_op(SCHEDOP_shutdown, &mut sched_shutdown { reason }) };
    }
}
