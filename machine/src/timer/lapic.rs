//! The local APIC's timer (Intel SDM vol. 3A, 11.5.4).

use crate::clock::{self, SECOND, Scale};
use crate::interrupt::{FIRST_VECTOR, TIMER};
use crate::{apic, cpu};
use core::arch::x86_64::_mm_mfence;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use raw_cpuid::CpuId;
use spin::Once;
use x86_64::registers::model_specific::Msr;

/// xAPIC register offsets, Intel SDM vol. 3A, table 11-1.
const LVT_TIMER: u32 = 0x320;
const INITIAL_COUNT: u32 = 0x380;
const CURRENT_COUNT: u32 = 0x390;
const DIVIDE: u32 = 0x3E0;

const DIVIDE_BY_16: u32 = 0b0011;
const DIVISOR: u64 = 16;
const MASKED: u32 = 1 << 16;
const MODE_TSC_DEADLINE: u32 = 0b10 << 17;
const IA32_TSC_DEADLINE: u32 = 0x6E0;

/// Windows, in counts, over which the counter is measured: 16 µs to 17 ms at QEMU's and KVM's 1 GHz.
const SHORTEST: u64 = 1 << 10;
const LONGEST: u64 = 1 << 20;
/// A standard error that ends the measurement. Deadlines are checked against the clock, so this much does.
const GOOD_PPM: f64 = 300.0;

/// How the timers of all CPUs work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// An MSR holds the TSC value of the deadline.
    TscDeadline,
    /// A counter runs down to zero.
    Counter,
}

/// `[I]` Set by the boot CPU's [`init_cpu`].
static MODE: Once<Mode> = Once::new();
/// `[I]` Nanoseconds to counts of the divided counter, in the parts of a [`Scale`]; set with [`MODE`].
static TO_COUNTS: (AtomicU64, AtomicU32) = (AtomicU64::new(0), AtomicU32::new(0));

/// How the timers work; `None` before [`init_cpu`].
pub fn mode() -> Option<Mode> {
    MODE.get().copied()
}

/// Sets this CPU's timer up, disarmed. On each CPU once its local APIC is on; on the boot CPU first and after
/// [`clock::init`], where it may take a millisecond.
pub fn init_cpu() {
    let mode = *MODE.call_once(choose);
    let vector = u32::from(FIRST_VECTOR + TIMER);
    apic::write(DIVIDE, DIVIDE_BY_16);
    match mode {
        Mode::TscDeadline => {
            apic::write(LVT_TIMER, vector | MODE_TSC_DEADLINE);
            // Intel SDM vol. 3A, 11.5.4.1: the write to a memory-mapped LVT is not ordered before a WRMSR.
            // SAFETY: SSE2 is part of every x86-64 CPU.
            unsafe { _mm_mfence() };
        }
        Mode::Counter => apic::write(LVT_TIMER, vector),
    }
    disarm();
}

/// Sets [`TIMER`] on this CPU once [`clock::now`] is at least `deadline_ns`, at once if it is already, and
/// replaces what was armed before. May fire early where the deadline lies beyond what the counter reaches
/// (seconds): whoever is woken compares with the clock and arms again.
#[inline]
pub(super) fn arm(deadline_ns: u64) {
    match MODE.get() {
        Some(Mode::TscDeadline) => deadline(clock::at(deadline_ns)),
        Some(Mode::Counter) => {
            let left = deadline_ns.saturating_sub(clock::now());
            let scale =
                Scale::from_parts(TO_COUNTS.0.load(Ordering::Relaxed), TO_COUNTS.1.load(Ordering::Relaxed));
            // One up: the conversion rounds down, and a count of 0 stops the counter.
            let counts = scale.apply_saturating(left).saturating_add(1);
            apic::write(INITIAL_COUNT, u32::try_from(counts).unwrap_or(u32::MAX));
        }
        None => panic!("timer armed on {} before it was set up", cpu::current()),
    }
}

/// Stops this CPU's timer. The bit may be set once more if it just fired.
pub(super) fn disarm() {
    match MODE.get() {
        Some(Mode::TscDeadline) => deadline(0),
        Some(Mode::Counter) => apic::write(INITIAL_COUNT, 0),
        None => {}
    }
}

fn deadline(tsc: u64) {
    let mut msr = Msr::new(IA32_TSC_DEADLINE);
    // SAFETY: the mode is chosen only where CPUID announces the MSR; it raises an interrupt, nothing else.
    unsafe { msr.write(tsc) };
}

fn choose() -> Mode {
    if CpuId::new().get_feature_info().is_some_and(|features| features.has_tsc_deadline()) {
        crate::info!("timer: TSC deadline");
        return Mode::TscDeadline;
    }
    let stated = clock::apic_bus_hz().map(|hz| (hz / DIVISOR, "the hypervisor"));
    let (hz, source) = stated.unwrap_or_else(|| (measured(), "the TSC"));
    let (factor, shift) = Scale::ratio(hz, SECOND).parts();
    TO_COUNTS.1.store(shift, Ordering::Relaxed);
    TO_COUNTS.0.store(factor, Ordering::Relaxed);
    let khz = hz * DIVISOR / 1_000;
    crate::info!("timer: local APIC counter, {}.{:03} MHz by {source}", khz / 1_000, khz % 1_000);
    Mode::Counter
}

/// Counts a second of the divided counter, over up to a millisecond.
fn measured() -> u64 {
    apic::write(DIVIDE, DIVIDE_BY_16);
    apic::write(LVT_TIMER, MASKED | u32::from(FIRST_VECTOR + TIMER));
    apic::write(INITIAL_COUNT, u32::MAX);
    // The counter's rate is not known yet, so its window cannot be a time: it grows until it tells enough.
    let mut len = SHORTEST;
    let hz = loop {
        match clock::measure(|| u32::MAX - apic::read(CURRENT_COUNT), u32::MAX, len) {
            Some(rate) if rate.error_ppm < GOOD_PPM || len >= LONGEST => {
                break (clock::tsc_hz() as f64 / rate.ticks) as u64;
            }
            None if len >= LONGEST => panic!("the local APIC's timer does not count"),
            _ => len *= 4,
        }
    };
    apic::write(INITIAL_COUNT, 0);
    hz
}
