//! Conversion between two clock rates by one widening multiplication and a shift.

/// `y = x · numerator / denominator`, rounded down.
///
/// The factor keeps at least 62 significant bits, so for a second's worth of `x` the error stays under one
/// unit of `y` besides the rounding, and over a century under two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    factor: u64,
    shift: u32,
}

impl Scale {
    /// Maps everything to 0.
    pub const ZERO: Scale = Scale { factor: 0, shift: 0 };

    /// The ratio `numerator / denominator`; [`ZERO`](Self::ZERO) if either is 0.
    pub const fn ratio(numerator: u64, denominator: u64) -> Scale {
        if numerator == 0 || denominator == 0 {
            return Self::ZERO;
        }
        // The largest quotient that fits 64 bits has the most significant ones.
        let mut shift = (numerator as u128).leading_zeros();
        loop {
            let factor = ((numerator as u128) << shift) / denominator as u128;
            if factor <= u64::MAX as u128 && shift < 128 {
                return Scale { factor: factor as u64, shift };
            }
            shift -= 1;
        }
    }

    /// Both halves, for storage in atomics.
    pub const fn parts(self) -> (u64, u32) {
        (self.factor, self.shift)
    }

    /// The inverse of [`parts`](Self::parts). `shift` is below 128.
    #[inline]
    pub const fn from_parts(factor: u64, shift: u32) -> Scale {
        Scale { factor, shift: shift & 127 }
    }

    /// Converts. The result must fit 64 bits: with a denominator of 1 GHz or more and nanoseconds as result, or
    /// the other way up to 5 GHz, that holds for over a hundred years.
    #[inline]
    pub const fn apply(self, x: u64) -> u64 {
        ((x as u128 * self.factor as u128) >> self.shift) as u64
    }

    /// Converts, and stays at the top where [`apply`](Self::apply) would wrap.
    #[inline]
    pub const fn apply_saturating(self, x: u64) -> u64 {
        let wide = (x as u128 * self.factor as u128) >> self.shift;
        if wide > u64::MAX as u128 { u64::MAX } else { wide as u64 }
    }
}

/// The counter's frequency behind kvmclock's scale, `ns = (ticks << shift) · mul >> 32`; a negative shift goes
/// right (Linux, `pvclock_vcpu_time_info`). `None` for a scale that no counter has.
#[cfg(any(feature = "image", test))]
pub(super) fn kvmclock_hz(mul: u32, shift: i8) -> Option<u64> {
    let unshifted = (u128::from(super::SECOND) << 32).checked_div(u128::from(mul))?;
    let by = u32::from(shift.unsigned_abs());
    let hz = if shift < 0 { unshifted.checked_shl(by)? } else { unshifted >> by };
    u64::try_from(hz).ok()
}

/// The frequency at the end of a brand string: "… @ 2.60GHz". By integers: to read or print floating-point numbers takes 30 KB of
/// code and tables, and nothing else in the image does.
#[cfg(any(feature = "image", test))]
pub(super) fn brand_hz(brand: &str) -> Option<u64> {
    let ghz = brand.rsplit_once('@')?.1.trim().strip_suffix("GHz")?.trim();
    let (whole, part) = ghz.split_once('.').unwrap_or((ghz, ""));
    let (mut hz, mut unit) = (whole.parse::<u64>().ok()?.checked_mul(super::SECOND)?, super::SECOND);
    for digit in part.chars() {
        unit /= 10;
        hz = hz.checked_add(u64::from(digit.to_digit(10)?) * unit)?;
    }
    Some(hz)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SECOND;
    use proptest::prelude::*;

    const CENTURY_NS: u64 = 100 * 366 * 86_400 * SECOND;

    fn exact(x: u64, numerator: u64, denominator: u64) -> u128 {
        u128::from(x) * u128::from(numerator) / u128::from(denominator)
    }

    #[test]
    fn a_gigahertz_counts_nanoseconds_one_to_one() {
        let scale = Scale::ratio(SECOND, SECOND);
        for x in [0, 1, 999_999_999, 1 << 40, u64::MAX] {
            assert_eq!(scale.apply(x), x);
        }
    }

    #[test]
    fn nothing_scales_by_a_zero_rate() {
        assert_eq!(Scale::ratio(SECOND, 0).apply(u64::MAX), 0);
        assert_eq!(Scale::ratio(0, SECOND).apply(u64::MAX), 0);
    }

    #[test]
    fn saturates_where_a_deadline_lies_past_the_counter() {
        let to_tsc = Scale::ratio(5 * SECOND, SECOND);
        assert_eq!(to_tsc.apply_saturating(u64::MAX), u64::MAX);
    }

    /// The scale that KVM computes for a frequency: Linux's `kvm_get_time_scale`, by its contract.
    fn kvm_scale(hz: u64) -> (u32, i8) {
        let mut shift = 0_i8;
        let mut shifted = hz as f64;
        while shifted > 2.0 * SECOND as f64 {
            shifted /= 2.0;
            shift -= 1;
        }
        while shifted <= SECOND as f64 {
            shifted *= 2.0;
            shift += 1;
        }
        (((SECOND as f64) / shifted * 4_294_967_296.0) as u32, shift)
    }

    #[test]
    fn reads_the_frequency_in_a_brand_string() {
        for (brand, hz) in [
            ("Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz", Some(2_300_000_000)),
            ("Intel(R) Core(TM)2 Duo CPU     T7700  @ 2.4 GHz ", Some(2_400_000_000)),
            ("a@b @ 3GHz", Some(3_000_000_000)),
            ("@ 0.1234567891234GHz", Some(123_456_789)),
            ("AMD EPYC 7763 64-Core Processor", None),
            ("@ 2.60MHz", None),
            ("@ GHz", None),
            ("@ .5GHz", None),
            ("@ 2.x0GHz", None),
            ("@ 2.½GHz", None),
            ("@ 18446744073709551615.9GHz", None),
            ("@ 18446744073.99GHz", None),
        ] {
            assert_eq!(brand_hz(brand), hz, "{brand}");
        }
    }

    #[test]
    fn finds_the_frequency_behind_kvmclock() {
        for hz in [400_000_000_u64, 999_000_000, 2_100_000_000, 2_596_104_000, 5_200_000_000] {
            let (mul, shift) = kvm_scale(hz);
            let found = kvmclock_hz(mul, shift).unwrap();
            assert!(found.abs_diff(hz) < 10, "{hz}: {found}");
        }
        assert_eq!(kvmclock_hz(0, 0), None);
        assert_eq!(kvmclock_hz(1, -128), None);
    }

    proptest! {
        #[test]
        fn differs_from_exact_division_by_at_most_one_in_a_second(
            hz in 1_000_000_u64..10_000_000_000, part in 0.0_f64..1.0
        ) {
            let x = (hz as f64 * part) as u64;
            let scaled = u128::from(Scale::ratio(SECOND, hz).apply(x));
            let exact = exact(x, SECOND, hz);
            prop_assert!(scaled <= exact && exact - scaled <= 1, "{scaled} against {exact}");
        }

        #[test]
        fn holds_for_a_century(hz in SECOND..5 * SECOND, part in 0.0_f64..1.0) {
            let ticks = exact(CENTURY_NS, hz, SECOND).min(u128::from(u64::MAX)) as u64;
            let x = (ticks as f64 * part) as u64;
            let scaled = u128::from(Scale::ratio(SECOND, hz).apply(x));
            let exact = exact(x, SECOND, hz);
            prop_assert!(scaled <= exact && exact - scaled <= 2, "{scaled} against {exact}");
        }

        #[test]
        fn never_runs_backwards(hz in 1_000_000_u64..10_000_000_000, x: u64, step in 0_u64..1 << 20) {
            let scale = Scale::ratio(SECOND, hz);
            let (early, late) = (x >> 12, (x >> 12) + step);
            prop_assert!(scale.apply(early) <= scale.apply(late));
        }

        #[test]
        fn there_and_back_loses_at_most_a_tick(hz in SECOND..10 * SECOND, ns in 0..SECOND * 86_400) {
            let there = Scale::ratio(hz, SECOND).apply(ns);
            let back = Scale::ratio(SECOND, hz).apply(there);
            prop_assert!(back <= ns && ns - back <= 2);
        }

        #[test]
        fn survives_storage(numerator: u64, denominator: u64, x: u64) {
            let scale = Scale::ratio(numerator, denominator);
            let (factor, shift) = scale.parts();
            prop_assert_eq!(Scale::from_parts(factor, shift).apply(x), scale.apply(x));
        }
    }
}
