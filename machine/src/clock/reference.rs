//! Counters of known rate to measure the TSC against: the ACPI PM timer, and channel 2 of the 8254 PIT.

use super::fit::{Rate, Reading, Window};
use super::tsc;
use crate::acpi::{PmTimer, Register};
use crate::mmio;
use crate::port;

/// ACPI 6.5, 4.8.2.1.
const PM_HZ: u64 = 3_579_545;
/// The PC's 8254 input clock.
const PIT_HZ: u64 = 1_193_182;

const PIT_CHANNEL_2: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
/// Channel 2, low byte then high byte, mode 0, binary.
const PIT_MODE_0: u8 = 0xB0;
const PIT_LATCH_2: u8 = 0x80;
/// Gate of channel 2 (bit 0) and speaker (bit 1).
const SYSTEM_CONTROL_B: u16 = 0x61;

/// Windows tried, in microseconds, until one is precise enough. The short one twice: being preempted once is no
/// reason for a long one.
const WINDOWS_US: [u64; 4] = [2_000, 2_000, 10_000, 50_000];
/// A standard error that ends the tries.
const GOOD_PPM: f64 = 120.0;
/// A rate worse than this after the longest window is no rate.
const USABLE_PPM: f64 = 2_000.0;
/// A reference that has not moved after so many readings is not there.
const STUCK: u32 = 4_000;
/// Ends a window that a hypervisor stretches beyond reason.
const MAX_READINGS: u32 = 1 << 20;

/// TSC frequency in Hz and standard error in ppm, against the PM timer.
pub(super) fn pm_timer(timer: PmTimer) -> Option<(u64, f64)> {
    match timer.register {
        Register::Port(number) => calibrate(|| port::read::<u32>(number), timer.mask, PM_HZ),
        Register::Memory(address) => {
            let window = mmio::Window::map(address, 4)?;
            calibrate(|| window.read_u32(0), timer.mask, PM_HZ)
        }
    }
}

/// TSC frequency in Hz and standard error in ppm, against the PIT.
pub(super) fn pit() -> Option<(u64, f64)> {
    let control: u8 = port::read(SYSTEM_CONTROL_B);
    port::write(SYSTEM_CONTROL_B, control & !2 | 1);
    port::write(PIT_COMMAND, PIT_MODE_0);
    port::write(PIT_CHANNEL_2, 0xFF_u8);
    port::write(PIT_CHANNEL_2, 0xFF_u8);
    let up = || {
        port::write(PIT_COMMAND, PIT_LATCH_2);
        let low: u8 = port::read(PIT_CHANNEL_2);
        let high: u8 = port::read(PIT_CHANNEL_2);
        u32::from(!u16::from_le_bytes([low, high]))
    };
    let rate = calibrate(up, 0xFFFF, PIT_HZ);
    port::write(SYSTEM_CONTROL_B, control);
    rate
}

fn calibrate(mut read: impl FnMut() -> u32, mask: u32, reference_hz: u64) -> Option<(u64, f64)> {
    let mut best: Option<Rate> = None;
    for window_us in WINDOWS_US {
        let len = reference_hz * window_us / 1_000_000;
        if let Some(rate) = measure(&mut read, mask, len)
            && best.is_none_or(|best| rate.error_ppm < best.error_ppm)
        {
            best = Some(rate);
        }
        if best.is_some_and(|best| best.error_ppm < GOOD_PPM) {
            break;
        }
    }
    let rate = best.filter(|rate| rate.error_ppm < USABLE_PPM)?;
    Some(((rate.ticks * reference_hz as f64) as u64, rate.error_ppm))
}

/// TSC ticks for each count of an up-counter of `mask` bits, over `len` counts. `None` if it stands still.
pub(crate) fn measure(mut read: impl FnMut() -> u32, mask: u32, len: u64) -> Option<Rate> {
    let mut window = Window::new(len);
    let mut last = read() & mask;
    let mut count = 0_u64;
    for reading in 0..MAX_READINGS {
        let before = tsc::ordered();
        let now = read() & mask;
        let after = tsc::ordered();
        count += u64::from(now.wrapping_sub(last) & mask);
        last = now;
        if !window.add(Reading { before, count, after }) {
            break;
        }
        if count == 0 && reading > STUCK {
            return None;
        }
    }
    window.rate()
}
