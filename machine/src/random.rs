//! Numbers that an outsider cannot guess: seeds of hashes, keys, tokens.

use crate::clock;
#[cfg(not(feature = "image"))]
use crate::host::random as body;
use core::hash::Hasher;
use core::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "image")]
use image as body;
use siphasher::sip::SipHasher24;
use spin::Once;

/// Looks at the clock that go into the key: few beside the CPU's generator.
const LOOKS: [usize; 2] = [2048, 64];

/// `[I]` Of all numbers of this boot.
static KEY: Once<[u64; 2]> = Once::new();
/// `[A]` Numbers so far: a plain count (Relaxed).
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Another number each time, on every CPU, of which none says anything about another: of a secret of this boot, by SipHash
/// (Aumasson and Bernstein, 2012), and of the CPU's generator (RDRAND) where it has one.
pub fn seed() -> u64 {
    let [one, two] = *KEY.call_once(gather);
    let mut hash = SipHasher24::new_with_keys(one, two);
    hash.write_u64(body::hardware().unwrap_or(0));
    hash.write_u64(clock::tsc());
    hash.write_u64(COUNT.fetch_add(1, Ordering::Relaxed));
    hash.finish()
}

/// Whether the CPU has a generator. Without it the secret is of how long the same work takes each time: hard to guess where
/// the machine has caches and neighbours, and known to whoever emulates it.
pub fn is_hardware() -> bool {
    body::hardware().is_some()
}

fn gather() -> [u64; 2] {
    let looks = LOOKS[usize::from(is_hardware())];
    // Two halves, each of all that was seen.
    let mut halves = [0, 1].map(|half| SipHasher24::new_with_keys(half, looks as u64));
    for _ in 0..looks {
        let now = clock::tsc();
        halves.iter_mut().for_each(|half| half.write_u64(now));
        // Work of a length that depends on what was seen.
        for n in 0..halves[0].finish() % 32 {
            core::hint::black_box(n);
        }
    }
    for _ in 0..4 {
        let number = body::hardware().unwrap_or(0);
        halves.iter_mut().for_each(|half| half.write_u64(number));
    }
    halves.map(|half| half.finish())
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
