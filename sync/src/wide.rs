//! Work with the instructions that came after the first x86-64 CPUs, where this CPU has them: the same code, compiled twice.

#[cfg(target_arch = "x86_64")]
use core::sync::atomic::{AtomicU8, Ordering};

/// Work that [`run`] does. An implementation's `run` is `#[inline(always)]`, and so is what it calls: only what is
/// inlined profits.
pub trait Work {
    /// What comes of it.
    type Result;
    /// Does it.
    fn run(self) -> Self::Result;
}

/// Does `work` with all of x86-64-v3 if that is there: POPCNT, LZCNT, BMI1, BMI2, MOVBE and AVX2.
#[inline(always)]
pub fn run<W: Work>(work: W) -> W::Result {
    #[cfg(target_arch = "x86_64")]
    if present() {
        // SAFETY: `present` found all of them by CPUID, and AVX's registers turned on in XCR0.
        return unsafe { wide(work) };
    }
    work.run()
}

/// Asks the cache for a value that is about to be read.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; it faults on no address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Asks the cache for a value that may be read soon, if there is one at `place`.
#[inline(always)]
pub fn prefetch_at<T>(values: &[T], place: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; it faults on no address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, place);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt,lzcnt,bmi1,bmi2,movbe,avx2")]
fn wide<W: Work>(work: W) -> W::Result {
    work.run()
}

/// `[A]` What was found: 0 nothing yet, 1 not all, 2 all. Every CPU would write the same (Relaxed).
#[cfg(target_arch = "x86_64")]
static FOUND: AtomicU8 = AtomicU8::new(0);

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn present() -> bool {
    match FOUND.load(Ordering::Relaxed) {
        0 => look(),
        found => found == 2,
    }
}

/// In leaf 1's ECX: OSXSAVE, AVX, POPCNT, MOVBE; in leaf 7's EBX: BMI1, AVX2, BMI2; in leaf 0x8000_0001's ECX: LZCNT
/// (AMD APM vol. 3, appendix E).
#[cfg(target_arch = "x86_64")]
const BITS: [u32; 3] = [1 << 27 | 1 << 28 | 1 << 23 | 1 << 22, 1 << 3 | 1 << 5 | 1 << 8, 1 << 5];

/// The registers of SSE and AVX, in XCR0: what saves one task's for another knows of them (Intel SDM vol. 1 §13.3).
#[cfg(target_arch = "x86_64")]
const REGISTERS: u64 = 0b110;

/// All CPUs are alike, and have turned on what they have before work comes to them.
#[cfg(target_arch = "x86_64")]
#[cold]
fn look() -> bool {
    use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    let leaves = __cpuid(0).eax >= 7 && __cpuid(0x8000_0000).eax > 0x8000_0000;
    let has = |all: u32, found: u32| found & all == all;
    let [first, seventh, extended] = BITS;
    let all = leaves
        && has(first, __cpuid(1).ecx)
        && has(seventh, __cpuid_count(7, 0).ebx)
        && has(extended, __cpuid(0x8000_0001).ecx)
        // SAFETY: OSXSAVE, among the first, says that the instruction is there.
        && unsafe { _xgetbv(0) } & REGISTERS == REGISTERS;
    FOUND.store(1 + u8::from(all), Ordering::Relaxed);
    all
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    struct Ones<'a>(&'a [u64]);
    impl Work for Ones<'_> {
        type Result = u32;
        #[inline(always)]
        fn run(self) -> u32 {
            self.0.iter().map(|word| word.count_ones()).sum()
        }
    }

    #[test]
    fn the_same_comes_of_it_with_and_without() {
        let words = [0, 1, u64::MAX, 0x8000_0000_0000_0000, 0x5555_5555_5555_5555];
        assert_eq!(run(Ones(&words)), Ones(&words).run());
        assert_eq!(run(Ones(&words)), 98);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(
            present(),
            [
                std::is_x86_feature_detected!("popcnt"),
                std::is_x86_feature_detected!("lzcnt"),
                std::is_x86_feature_detected!("bmi1"),
                std::is_x86_feature_detected!("bmi2"),
                std::is_x86_feature_detected!("movbe"),
                std::is_x86_feature_detected!("avx2"),
            ]
            .into_iter()
            .all(|there| there)
        );
    }
}
