//! Xen's clock: nanoseconds since Xen started, from the TSC and a scale that Xen keeps right. Hypercalls that wait want it,
//! and its scale is the best word there is on the TSC's frequency.

use super::{hypercall, shared_info};
use crate::clock;
use core::sync::atomic::{Ordering, fence};
use weir_sync::CpuId;

/// Readings before the page counts as broken: Xen writes it in no time.
const PATIENCE: u32 = 100_000;

/// A consistent reading of the boot CPU's `vcpu_time_info`; the CPUs' TSCs agree.
struct Reading {
    tsc: u64,
    ns: u64,
    mul: u32,
    shift: i8,
}

fn read() -> Option<Reading> {
    let time = &shared_info::info(CpuId::BOOT)?.time;
    for _ in 0..PATIENCE {
        let version = time.version.load(Ordering::Acquire);
        let reading = Reading {
            tsc: time.tsc_timestamp.load(Ordering::Relaxed),
            ns: time.system_time.load(Ordering::Relaxed),
            mul: time.tsc_to_system_mul.load(Ordering::Relaxed),
            shift: time.tsc_shift.load(Ordering::Relaxed),
        };
        // The fields before the version once more.
        fence(Ordering::Acquire);
        if version % 2 == 0 && time.version.load(Ordering::Relaxed) == version {
            return Some(reading).filter(|reading| reading.mul != 0);
        }
        core::hint::spin_loop();
    }
    None
}

/// Nanoseconds of Xen's clock: what `SCHEDOP_poll` takes as its end.
pub(super) fn system_time() -> Option<u64> {
    let reading = read()?;
    let ticks = clock::tsc().saturating_sub(reading.tsc);
    let by = u32::from(reading.shift.unsigned_abs());
    let shifted = if reading.shift < 0 { ticks.checked_shr(by) } else { ticks.checked_shl(by) }?;
    let ns = (u128::from(shifted) * u128::from(reading.mul)) >> 32;
    reading.ns.checked_add(u64::try_from(ns).ok()?)
}

/// Multiplier and shift from TSC ticks to nanoseconds: `ns = (ticks << shift) · mul >> 32`.
pub(crate) fn scale() -> Option<(u32, i8)> {
    read().map(|reading| (reading.mul, reading.shift))
}

/// The TSC's frequency in Hz, to a kilohertz: leaf 3.
pub(crate) fn leaf_hz() -> Option<u64> {
    hypercall::leaf(3, 0).map(|leaf| u64::from(leaf.ecx) * 1_000)
}

/// How Xen gives the TSC to this domain, for the log.
pub(super) fn tsc_mode() -> &'static str {
    const EMULATED: u32 = 1;
    const RELIABLE: u32 = 1 << 1;
    match hypercall::leaf(3, 0).map_or(0, |leaf| leaf.eax) {
        flags if flags & EMULATED != 0 => "emulated",
        flags if flags & RELIABLE != 0 => "native",
        _ => "native, which Xen calls unreliable",
    }
}
