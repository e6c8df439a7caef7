//! The TSC's frequency and the conversion to nanoseconds since entry.
//!
//! The hypervisor's word comes first (it knows of TSC scaling), then CPUID's, then a measurement.

use super::SECOND;
use super::scale::Scale;
use super::{reference, stated};
use crate::acpi;
use core::arch::x86_64::{_mm_lfence, _rdtsc};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use raw_cpuid::CpuId;
use spin::Once;

pub(crate) use reference::measure;

/// TSC at entry: the boot code stores it first thing (symbol `weir_entry_tsc`).
/// `[I]` once the other CPUs run.
#[unsafe(export_name = "weir_entry_tsc")]
pub static ENTRY_TSC: AtomicU64 = AtomicU64::new(0);

/// `[I]` after [`init`], which the boot CPU runs before it starts others; read-only lines from then on.
static CLOCK: Clock =
    Clock { to_ns: Stored::zero(), to_tsc: Stored::zero(), hz: AtomicU64::new(0), source: Once::new() };

/// `[I]` The frequency that the boot protocol stated, and its name for the log.
static HINT: Once<(u64, &'static str)> = Once::new();

#[repr(align(64))]
struct Clock {
    to_ns: Stored,
    to_tsc: Stored,
    hz: AtomicU64,
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
    HINT.call_once(|| (hz, source));
}

/// Finds the TSC's frequency and starts the clock. Boot CPU only, once, after ACPI was read. Takes no time
/// where the hypervisor or CPUID knows, else some 2 ms.
pub fn init(acpi: &acpi::Info) {
    // Boot code that stored nothing gets a clock that starts here.
    let _ = ENTRY_TSC.compare_exchange(0, tsc(), Ordering::Relaxed, Ordering::Relaxed);
    let hint = HINT.get().copied();
    let found = stated::stated(hint).map(|(hz, source)| (hz, source, 0.0)).or_else(|| measured(acpi));
    let guess = || stated::brand().unwrap_or((SECOND, "a guess"));
    let (hz, source, error_ppm) = found.unwrap_or_else(|| {
        let (hz, source) = guess();
        (hz, source, f64::INFINITY)
    });
    CLOCK.hz.store(hz, Ordering::Relaxed);
    CLOCK.to_tsc.set(Scale::ratio(hz, SECOND));
    CLOCK.to_ns.set(Scale::ratio(SECOND, hz));
    CLOCK.source.call_once(|| source);
    let (mhz, khz) = (hz / 1_000_000, hz / 1_000 % 1_000);
    if found.is_some() {
        let ppm = (error_ppm + 0.5) as u64;
        crate::info!("clock: TSC {mhz}.{khz:03} MHz by {source}, standard error {ppm} ppm");
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

fn measured(acpi: &acpi::Info) -> Option<(u64, &'static str, f64)> {
    let pm = acpi.pm_timer.and_then(reference::pm_timer).map(|(hz, error)| (hz, "the PM timer", error));
    let found = pm.filter(|(hz, ..)| stated::plausible(*hz));
    found.or_else(|| {
        reference::pit().map(|(hz, error)| (hz, "the PIT", error)).filter(|(hz, ..)| stated::plausible(*hz))
    })
}
