//! The TSC's frequency by word of the hypervisor, which knows of TSC scaling, or of the CPU.

use super::scale;
use crate::xen;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, Ordering};
use raw_cpuid::{CpuId, Hypervisor};
use x86_64::registers::model_specific::Msr;

/// What somebody who must know says.
pub(super) fn stated(hint: Option<(u64, &'static str)>) -> Option<(u64, &'static str)> {
    [
        hint,
        hypervisor_leaf().map(|hz| (hz, "hypervisor CPUID leaf")),
        kvmclock().map(|hz| (hz, "kvmclock")),
        xen_clock().map(|hz| (hz, "Xen's clock")),
        xen::clock::leaf_hz().map(|hz| (hz, "Xen CPUID leaf")),
        crystal().map(|hz| (hz, "CPUID leaf 0x15")),
    ]
    .into_iter()
    .flatten()
    .find(|(hz, _)| plausible(*hz))
}

/// 10 MHz to 20 GHz: anything else is a unit mixed up.
pub(super) fn plausible(hz: u64) -> bool {
    (10_000_000..=20_000_000_000).contains(&hz)
}

/// VMware's timing leaf, which KVM and others took over: TSC frequency in kHz.
fn hypervisor_leaf() -> Option<u64> {
    let cpuid = CpuId::new();
    let hypervisor = cpuid.get_hypervisor_info()?;
    match hypervisor.identify() {
        Hypervisor::VMware | Hypervisor::KVM | Hypervisor::QEMU => {
            hypervisor.tsc_frequency().map(|khz| u64::from(khz) * 1_000)
        }
        _ => None,
    }
}

/// What Xen's emulated local APICs count (`APIC_BUS_CYCLE_NS` of its `asm/hvm/vlapic.h`: 10 ns, of every version).
const XEN_APIC_BUS_HZ: u64 = 100_000_000;

/// The local APIC timer's input in Hz, from the same leaf, and on Xen by definition.
pub(crate) fn apic_bus_hz() -> Option<u64> {
    let cpuid = CpuId::new();
    let hypervisor = cpuid.get_hypervisor_info()?;
    match hypervisor.identify() {
        Hypervisor::VMware | Hypervisor::KVM | Hypervisor::QEMU => {
            hypervisor.apic_frequency().map(|khz| u64::from(khz) * 1_000).filter(|&hz| hz != 0)
        }
        Hypervisor::Xen => Some(XEN_APIC_BUS_HZ),
        _ => None,
    }
}

/// The frequency behind the scale that Xen keeps.
fn xen_clock() -> Option<u64> {
    let (mul, shift) = xen::clock::scale()?;
    scale::kvmclock_hz(mul, shift)
}

/// CPUID leaf 0x15, with leaf 0x16's base frequency where the crystal's is left out (Intel SDM vol. 3, 19.7.3).
fn crystal() -> Option<u64> {
    let cpuid = CpuId::new();
    let info = cpuid.get_tsc_info()?;
    if info.numerator() == 0 || info.denominator() == 0 {
        return None;
    }
    info.tsc_frequency().or_else(|| {
        let base = cpuid.get_processor_frequency_info()?.processor_base_frequency();
        Some(u64::from(base) * 1_000_000)
    })
}

/// "… @ 2.60GHz", as Intel's brand strings end.
pub(super) fn brand() -> Option<(u64, &'static str)> {
    let cpuid = CpuId::new();
    let brand = cpuid.get_processor_brand_string()?;
    let hz = scale::brand_hz(brand.as_str())?;
    plausible(hz).then_some((hz, "the CPU's brand string"))
}

/// What KVM writes about this CPU's clock (Linux, `pvclock_vcpu_time_info`).
#[repr(C, align(64))]
struct KvmClock {
    version: AtomicU32,
    pad: u32,
    tsc_timestamp: u64,
    system_time: u64,
    tsc_to_system_mul: AtomicU32,
    /// `tsc_shift` in the low byte, flags above.
    shift_and_flags: AtomicU32,
}

/// The page's owner is the hypervisor while the MSR holds its address.
struct Shared(UnsafeCell<KvmClock>);

// SAFETY: only the boot CPU touches it, once, in `kvmclock`; the fields the hypervisor writes are atomics.
unsafe impl Sync for Shared {}

static KVM_CLOCK: Shared = Shared(UnsafeCell::new(KvmClock {
    version: AtomicU32::new(0),
    pad: 0,
    tsc_timestamp: 0,
    system_time: 0,
    tsc_to_system_mul: AtomicU32::new(0),
    shift_and_flags: AtomicU32::new(0),
}));

/// The frequency behind kvmclock's scale: `ns = (ticks << shift) · mul >> 32`.
fn kvmclock() -> Option<u64> {
    const MSR_KVM_SYSTEM_TIME_NEW: u32 = 0x4B56_4D01;
    const FEATURES: u32 = 0x4000_0001;
    const FEATURE_CLOCKSOURCE2: u32 = 1 << 3;
    let cpuid = CpuId::new();
    let hypervisor = cpuid.get_hypervisor_info()?;
    if !matches!(hypervisor.identify(), Hypervisor::KVM)
        || raw_cpuid::cpuid!(FEATURES).eax & FEATURE_CLOCKSOURCE2 == 0
    {
        return None;
    }
    let page = KVM_CLOCK.0.get();
    let mut msr = Msr::new(MSR_KVM_SYSTEM_TIME_NEW);
    // SAFETY: KVM announces the MSR; the static is identity-mapped, lives for ever and is handed to nobody else.
    unsafe { msr.write(page as u64 | 1) };
    // SAFETY: the pointer comes from a static; the fields read below are atomics.
    let shared = unsafe { &*page };
    // KVM writes before the MSR write returns; the version is odd while it does.
    let found = (0..1_000).find_map(|_| {
        let version = shared.version.load(Ordering::Acquire);
        let mul = shared.tsc_to_system_mul.load(Ordering::Acquire);
        let shift = shared.shift_and_flags.load(Ordering::Acquire) as u8 as i8;
        let settled = version % 2 == 0 && version == shared.version.load(Ordering::Acquire);
        settled.then_some((mul, shift))
    });
    // SAFETY: as above; clearing bit 0 ends the hypervisor's use of the page.
    unsafe { msr.write(0) };
    let (mul, shift) = found?;
    scale::kvmclock_hz(mul, shift)
}
