//! Work on bitmaps with the instructions that came after the first x86-64 CPUs, where this CPU has them.

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

/// Does `work` with POPCNT, BMI1 and BMI2 if there are.
#[inline]
pub fn run<W: Work>(work: W) -> W::Result {
    #[cfg(target_arch = "x86_64")]
    if present() {
        // SAFETY: `present` found all three by CPUID.
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
#[target_feature(enable = "popcnt,bmi1,bmi2")]
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

/// POPCNT is bit 23 of leaf 1's ECX, BMI1 and BMI2 are bits 3 and 8 of leaf 7's EBX (AMD APM vol. 3, appendix E). BMI's
/// are general-purpose instructions: no state that an operating system must turn on.
#[cfg(target_arch = "x86_64")]
#[cold]
fn look() -> bool {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    let all =
        __cpuid(0).eax >= 7 && __cpuid(1).ecx >> 23 & 1 != 0 && __cpuid_count(7, 0).ebx & 0x108 == 0x108;
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
            std::is_x86_feature_detected!("popcnt")
                && std::is_x86_feature_detected!("bmi1")
                && std::is_x86_feature_detected!("bmi2")
        );
    }
}
