//! Numbers that an outsider cannot guess, to seed hashes with.

use crate::clock;
#[cfg(not(feature = "image"))]
use crate::host::random as body;
#[cfg(feature = "image")]
use image as body;

/// Another number each time, on every CPU: the CPU's generator (RDRAND) where it has one, the clock in any case. Not for
/// keys: without RDRAND it is as hard to guess as the boot's timing.
pub fn seed() -> u64 {
    mix(body::hardware().unwrap_or(0) ^ mix(clock::tsc()))
}

/// Every bit depends on every bit (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(feature = "image")]
mod image {
    use raw_cpuid::CpuId;

    /// The generator may run dry for a moment (Intel SDM vol. 1 §7.3.17.1 says how often to ask).
    const ATTEMPTS: usize = 10;

    pub(super) fn hardware() -> Option<u64> {
        let has = CpuId::new().get_feature_info().is_some_and(|leaf| leaf.has_rdrand());
        (0..ATTEMPTS).filter(|_| has).find_map(|_| {
            let (number, good): (u64, u8);
            // SAFETY: CPUID says that the CPU has the instruction, which writes one register and the flags.
            unsafe {
                core::arch::asm!("rdrand {}", "setc {}", out(reg) number, out(reg_byte) good, options(nomem, nostack));
            }
            (good != 0).then_some(number)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ() {
        let mut seeds = [(); 100].map(|()| seed());
        seeds.sort_unstable();
        assert!(seeds.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
