//! Everything that touches the CPU: boot, memory, CPUs, interrupts, clocks, console, PCI.
//!
//! With the feature `image` this is the bare-metal body; without it the same API runs on the host's threads and
//! memory, and devices are absent.
#![cfg_attr(feature = "image", no_std)]

extern crate alloc;

pub mod acpi;
#[cfg(feature = "image")]
pub mod apic;
#[cfg_attr(not(any(feature = "image", test)), expect(dead_code, reason = "the host has its own"))]
mod backtrace;
#[cfg(feature = "image")]
pub mod boot;
pub mod clock;
pub mod code;
pub mod console;
#[cfg(feature = "image")]
pub mod cpu;
pub mod dispatch;
pub mod dma;
#[cfg(feature = "image")]
mod exception;
pub mod frames;
pub mod fw_cfg;
#[cfg(feature = "image")]
mod heap;
pub mod hermit;
pub mod interrupt;
pub mod ioapic;
pub mod linux_boot;
mod local;
mod lock;
pub mod log;
pub mod mask;
#[cfg_attr(not(any(feature = "image", test)), expect(dead_code, reason = "the host has its own"))]
mod memory_functions;
pub mod mmio;
pub mod mmio_devices;
pub mod msix;
pub mod multiboot2;
pub mod paging;
pub mod pci;
#[cfg(feature = "image")]
mod port;
pub mod power;
pub mod pvh;
pub mod random;
#[cfg(feature = "image")]
pub mod report;
pub mod smbios;
#[cfg(feature = "image")]
pub mod smp;
#[cfg_attr(not(any(feature = "image", test)), expect(dead_code, reason = "the host has its own"))]
mod stacks;
pub mod start_info;
pub mod task;
pub mod timer;
pub mod trace;
pub mod xen;

/// The bodies of this crate's modules on the host.
#[cfg(not(feature = "image"))]
mod host {
    pub(crate) mod clock;
    pub(crate) mod code;
    pub(crate) mod console;
    pub(crate) mod dispatch;
    pub(crate) mod lock;
    pub(crate) mod mask;
    pub(crate) mod pci;
    pub(crate) mod power;
    pub(crate) mod random;
    pub(crate) mod timer;
    pub(crate) mod xen_grant;
    pub(crate) mod xen_store;
}

#[cfg(feature = "image")]
pub use boot::Boot;
