//! The TSC's frequency and the conversion to nanoseconds since entry.
//!
//! The hypervisor's word comes first (it knows of TSC scaling), then CPUID's, then a measurement.

use super::SECOND;
use super::reference;
use super::scale::Scale;
use crate::acpi;
use core::arch::x86_64::{_mm_lfence, _rdtsc};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use raw_cpuid::{CpuId, Hypervisor};
use spin::Once;
use x86_64::registers::model_specific::Msr;

pub(crate) use reference::measure;

/// TSC at entry: the boot code stores it first thing (symbol `weir_entry_tsc`).
/// `[I]` once the other CPUs run.
#[unsafe(export_name = "weir_entry_tsc")]
pub static ENTRY_TSC: AtomicU64 = AtomicU64::new(0);

/// `[I]` after [`init`], which the boot CPU runs before it starts others; read-only lines from then on.
static CLOCK: Clock = Clock {
    to_ns: Stored::zero(),
    to_tsc: Stored::zero(),
    hz: AtomicU64::new(0),
    hint: AtomicU64::new(0),
    source: Once::new(),
};

/// Where the frequency came from, if the boot protocol gave it.
static HINT_SOURCE: Once<&'static str> = Once::new();

#[repr(align(64))]
struct Clock {
    to_ns: Stored,
    to_tsc: Stored,
    hz: AtomicU64,
    hint: AtomicU64,
    source: Once<&'static str>,
}

/// A [`Scale`] in atomics.
struct Stored {
    factor: AtomicU64,
    shift: AtomicU32,
}

impl Stored {
    const fn zero() -> Stored {
        Stored { factor: AtomicU64::new(0), shift: AtomicU32::new(0) }
    }

    #[inline]
    fn get(&self) -> Scale {
        Scale::from_parts(self.factor.load(Ordering::Relaxed), self.shift.load(Ordering::Relaxed))
    }

    fn set(&self, scale: Scale) {
        let (factor, shift) = scale.parts();
        self.shift.store(shift, Ordering::Relaxed);
        self.factor.store(factor, Ordering::Relaxed);
    }
}

/// Nanoseconds since entry; 0 before [`init`].
#[inline]
pub fn now() -> u64 {
    // A CPU whose TSC lags the boot CPU's by less than the time since entry still reads forward.
    CLOCK.to_ns.get().apply(since_entry())
}

/// TSC ticks since entry. An emulator that counts instructions makes them instructions.
#[inline]
pub fn since_entry() -> u64 {
    tsc().saturating_sub(ENTRY_TSC.load(Ordering::Relaxed))
}

/// The time-stamp counter.
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction, and ring 0 may use it.
    unsafe { _rdtsc() }
}

/// TSC ticks a second; 0 before [`init`].
pub fn tsc_hz() -> u64 {
    CLOCK.hz.load(Ordering::Relaxed)
}

/// Where the frequency came from, for the log.
pub fn source() -> &'static str {
    CLOCK.source.get().copied().unwrap_or("none")
}

/// Takes the frequency that a boot protocol states. Before [`init`].
pub fn hint(hz: u64, source: &'static str) {
    CLOCK.hint.store(hz, Ordering::Relaxed);
    HINT_SOURCE.call_once(|| source);
}

/// Finds the TSC's frequency and starts the clock. Boot CPU only, once, after ACPI was read. Takes no time
/// where the hypervisor or CPUID knows, else some 2 ms.
pub fn init(acpi: &acpi::Info) {
    // Boot code that stored nothing gets a clock that starts here.
    let _ = ENTRY_TSC.compare_exchange(0, tsc(), Ordering::Relaxed, Ordering::Relaxed);
    let found = stated().map(|(hz, source)| (hz, source, 0.0)).or_else(|| measured(acpi));
    // A brand string's figure, or a guess: timers run, at a wrong pace.
    let known = found.is_some();
    let (hz, source, error_ppm) = found.or_else(brand).unwrap_or((SECOND, "a guess", 0.0));
    CLOCK.hz.store(hz, Ordering::Relaxed);
    CLOCK.to_tsc.set(Scale::ratio(hz, SECOND));
    CLOCK.to_ns.set(Scale::ratio(SECOND, hz));
    CLOCK.source.call_once(|| source);
    let (mhz, khz) = (hz / 1_000_000, hz / 1_000 % 1_000);
    if known {
        crate::info!("clock: TSC {mhz}.{khz:03} MHz by {source}, standard error {error_ppm:.0} ppm");
    } else {
        crate::warn!("clock: TSC {mhz}.{khz:03} MHz by {source}: time may run at a wrong pace");
    }
    if !CpuId::new().get_advanced_power_mgmt_info().is_some_and(|info| info.has_invariant_tsc()) {
        crate::debug!("clock: CPUID does not promise an invariant TSC");
    }
}

/// The TSC value from which on [`now`] is at least `ns`; `u64::MAX` if that is out of reach.
pub(crate) fn at(ns: u64) -> u64 {
    // Two up: both conversions round down.
    let elapsed = CLOCK.to_tsc.get().apply_saturating(ns).saturating_add(2);
    elapsed.saturating_add(ENTRY_TSC.load(Ordering::Relaxed))
}

/// Waits without sleeping. Before [`init`] it waits as if the TSC were fast, so at least as long.
pub(crate) fn spin_ns(ns: u64) {
    const FAST: u64 = 5 * SECOND;
    let hz = match tsc_hz() {
        0 => FAST,
        hz => hz,
    };
    let ticks = Scale::ratio(hz, SECOND).apply_saturating(ns);
    let start = tsc();
    while tsc().wrapping_sub(start) < ticks {
        core::hint::spin_loop();
    }
}

/// The TSC, after all that precedes it and before all that follows.
pub(super) fn ordered() -> u64 {
    // SAFETY: SSE2 is part of every x86-64 CPU.
    unsafe { _mm_lfence() };
    let now = tsc();
    // SAFETY: as above.
    unsafe { _mm_lfence() };
    now
}

/// What somebody who must know says.
fn stated() -> Option<(u64, &'static str)> {
    let hint = CLOCK.hint.load(Ordering::Relaxed);
    [
        (hint != 0).then(|| (hint, HINT_SOURCE.get().copied().unwrap_or("the boot protocol"))),
        hypervisor_leaf().map(|hz| (hz, "hypervisor CPUID leaf")),
        kvmclock().map(|hz| (hz, "kvmclock")),
        xen_leaf().map(|hz| (hz, "Xen CPUID leaf")),
        crystal().map(|hz| (hz, "CPUID leaf 0x15")),
    ]
    .into_iter()
    .flatten()
    .find(|(hz, _)| plausible(*hz))
}

fn measured(acpi: &acpi::Info) -> Option<(u64, &'static str, f64)> {
    let pm = acpi.pm_timer.and_then(reference::pm_timer).map(|(hz, error)| (hz, "the PM timer", error));
    let found = pm.filter(|(hz, ..)| plausible(*hz));
    found.or_else(|| {
        reference::pit().map(|(hz, error)| (hz, "the PIT", error)).filter(|(hz, ..)| plausible(*hz))
    })
}

/// 10 MHz to 20 GHz: anything else is a unit mixed up.
fn plausible(hz: u64) -> bool {
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

/// The local APIC timer's input in Hz, from the same leaf.
pub(crate) fn apic_bus_hz() -> Option<u64> {
    let cpuid = CpuId::new();
    let hypervisor = cpuid.get_hypervisor_info()?;
    match hypervisor.identify() {
        Hypervisor::VMware | Hypervisor::KVM | Hypervisor::QEMU => {
            hypervisor.apic_frequency().map(|khz| u64::from(khz) * 1_000).filter(|&hz| hz != 0)
        }
        _ => None,
    }
}

/// Xen's CPUID leaf 4 (base + 3), sub-leaf 0: ECX is the guest's TSC frequency in kHz.
fn xen_leaf() -> Option<u64> {
    let base = xen_base()?;
    Some(u64::from(raw_cpuid::cpuid!(base + 3, 0).ecx) * 1_000)
}

/// Xen's leaves begin at 0x40000000, or at a later multiple of 0x100 behind Hyper-V's.
fn xen_base() -> Option<u32> {
    const SIGNATURE: (u32, u32, u32) = (0x566E_6558, 0x6558_4D4D, 0x4D4D_566E);
    CpuId::new().get_feature_info().filter(|features| features.has_hypervisor())?;
    (0x4000_0000..0x4000_1000).step_by(0x100).find(|&base| {
        let leaf = raw_cpuid::cpuid!(base);
        (leaf.ebx, leaf.ecx, leaf.edx) == SIGNATURE && leaf.eax >= base + 3
    })
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
fn brand() -> Option<(u64, &'static str, f64)> {
    let cpuid = CpuId::new();
    let brand = cpuid.get_processor_brand_string()?;
    let ghz: f64 = brand.as_str().rsplit_once('@')?.1.trim().strip_suffix("GHz")?.trim().parse().ok()?;
    let hz = (ghz * 1e9) as u64;
    plausible(hz).then_some((hz, "the CPU's brand string", 0.0))
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
    let scale = (0..1_000).find_map(|_| {
        let version = shared.version.load(Ordering::Acquire);
        let mul = shared.tsc_to_system_mul.load(Ordering::Acquire);
        let shift = shared.shift_and_flags.load(Ordering::Acquire) as u8 as i8;
        let settled = version % 2 == 0 && version == shared.version.load(Ordering::Acquire);
        settled.then_some((mul, shift))
    });
    // SAFETY: as above; clearing bit 0 ends the hypervisor's use of the page.
    unsafe { msr.write(0) };
    let (mul, shift) = scale.filter(|&(mul, _)| mul != 0)?;
    let hz = (u128::from(SECOND) << 32) / u128::from(mul);
    let hz = if shift < 0 { hz << u32::from(shift.unsigned_abs()).min(32) } else { hz >> shift };
    u64::try_from(hz).ok()
}
