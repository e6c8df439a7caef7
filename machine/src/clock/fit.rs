//! The rate of one counter against another, from readings that a hypervisor may delay at any point.
//!
//! A reading of the reference counter lies between two readings of the counter under test. The window is cut
//! into bins, each keeps its tightest reading (so a preempted one is thrown out), and a line is fitted
//! through them. With bins a few hundred nanoseconds tight, a 2 ms window gives a rate within some 50 ppm; the
//! fit's own standard error says whether it did.

/// Readings that a fit keeps.
pub(crate) const BINS: usize = 64;
/// Fewer full bins than this make no fit.
const MIN_POINTS: usize = 12;

/// One reading of the reference, framed by two of the counter under test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// Counter under test, just before.
    pub(crate) before: u64,
    /// Reference counts since the window began.
    pub(crate) count: u64,
    /// Counter under test, just after.
    pub(crate) after: u64,
}

impl Reading {
    fn width(&self) -> u64 {
        self.after.saturating_sub(self.before)
    }
}

/// A measured rate.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Rate {
    /// Counter ticks for each reference count.
    pub(crate) ticks: f64,
    /// Standard error of `ticks`, in parts per million.
    pub(crate) error_ppm: f64,
}

/// The tightest reading of each part of the window.
#[derive(Debug)]
pub(crate) struct Window {
    bins: [Option<Reading>; BINS],
    len: u64,
}

impl Window {
    /// A window of `len` reference counts.
    pub(crate) const fn new(len: u64) -> Self {
        Self { bins: [None; BINS], len: if len == 0 { 1 } else { len } }
    }

    /// Takes a reading in. `false` once the window is over.
    pub(crate) fn add(&mut self, reading: Reading) -> bool {
        let place = reading.count.saturating_mul(BINS as u64) / self.len;
        let Some(bin) = usize::try_from(place).ok().and_then(|place| self.bins.get_mut(place)) else {
            return false;
        };
        if bin.is_none_or(|kept| reading.width() < kept.width()) {
            *bin = Some(reading);
        }
        true
    }

    /// Least squares through the middles of the kept readings; `None` if they are too few or do not rise.
    pub(crate) fn rate(&self) -> Option<Rate> {
        let tightest = self.bins.iter().flatten().map(Reading::width).min()?;
        let origin = self.bins.iter().flatten().next()?.before;
        // A bin without one undisturbed reading would pull the line: its middle may be anywhere.
        let usable = |reading: &&Reading| reading.width() <= tightest.saturating_mul(4).saturating_add(64);
        let points = || {
            self.bins.iter().flatten().filter(usable).map(|reading| {
                let middle =
                    (reading.before - origin.min(reading.before)) as f64 + reading.width() as f64 / 2.0;
                (reading.count as f64, middle)
            })
        };
        let n = points().count();
        if n < MIN_POINTS {
            return None;
        }
        let (sum_x, sum_y) = points().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x, sy + y));
        let (mean_x, mean_y) = (sum_x / n as f64, sum_y / n as f64);
        let (sxx, sxy) = points().fold((0.0, 0.0), |(sxx, sxy), (x, y)| {
            (sxx + (x - mean_x) * (x - mean_x), sxy + (x - mean_x) * (y - mean_y))
        });
        let ticks = sxy / sxx;
        if !ticks.is_finite() || ticks <= 0.0 {
            return None;
        }
        let residual = |(x, y): (f64, f64)| {
            let off = y - mean_y - ticks * (x - mean_x);
            off * off
        };
        let variance = points().map(residual).sum::<f64>() / (n - 2) as f64 / sxx;
        Some(Rate { ticks, error_ppm: root(variance) / ticks * 1e6 })
    }
}

/// Square root by Newton's method: `core` has none.
fn root(x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    // Halving the exponent gives a start within a factor of two.
    let mut y = f64::from_bits((x.to_bits() >> 1) + (1023_u64 << 51));
    for _ in 0..5 {
        y = 0.5 * (y + x / y);
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    const PM_HZ: f64 = 3_579_545.0;

    /// A deterministic source of delays.
    struct Noise(u64);

    impl Noise {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % limit
        }
    }

    /// Reads a PM timer for `window` counts on a machine whose reads take about 1 µs and are preempted for
    /// 300 µs once in `preempt` reads.
    fn measure(hz: f64, window: u64, seed: u64, preempt: u64) -> Option<Rate> {
        let mut noise = Noise(seed);
        let mut now = 0.001;
        let mut readings = Window::new(window);
        let start = (now * PM_HZ) as u64;
        loop {
            let before = (now * hz) as u64;
            now += 0.4e-6 + noise.below(400) as f64 * 1e-9;
            let late = |noise: &mut Noise| if noise.below(preempt) == 0 { 300e-6 } else { 0.0 };
            now += late(&mut noise);
            let count = (now * PM_HZ) as u64 - start;
            now += 0.4e-6 + noise.below(400) as f64 * 1e-9 + late(&mut noise);
            let after = (now * hz) as u64;
            if !readings.add(Reading { before, count, after }) {
                return readings.rate();
            }
        }
    }

    #[test]
    fn finds_the_rate_within_100_ppm_in_two_milliseconds() {
        for (seed, hz) in (1..200).zip([1.0e9, 2.1e9, 2.596e9, 4.2e9].into_iter().cycle()) {
            let rate = measure(hz, 7159, seed, 1 << 60).unwrap();
            let error = (rate.ticks * PM_HZ / hz - 1.0).abs() * 1e6;
            assert!(error < 100.0, "seed {seed}: {error} ppm off");
            assert!(rate.error_ppm < 100.0, "seed {seed}: claims {} ppm", rate.error_ppm);
        }
    }

    #[test]
    fn preemption_widens_the_error_within_what_it_admits() {
        for seed in 1..200 {
            let Some(rate) = measure(2.5e9, 7159, seed, 40) else { continue };
            let error = (rate.ticks * PM_HZ / 2.5e9 - 1.0).abs() * 1e6;
            assert!(error < 500.0 || rate.error_ppm > 125.0, "seed {seed}: {error} ppm off, unnoticed");
        }
    }

    #[test]
    fn refuses_a_stuck_counter() {
        let mut window = Window::new(1000);
        for n in 0..1000 {
            assert!(window.add(Reading { before: n, count: 0, after: n + 1 }));
        }
        assert_eq!(window.rate(), None);
    }

    #[test]
    fn refuses_a_counter_under_test_that_stands_still() {
        let mut window = Window::new(64);
        for count in 0..64 {
            assert!(window.add(Reading { before: 5, count, after: 5 }));
        }
        assert!(!window.add(Reading { before: 5, count: 64, after: 5 }));
        assert_eq!(window.rate(), None);
    }

    #[test]
    fn square_roots() {
        for x in [1e-12, 0.25, 2.0, 1e6, 3.7e21] {
            assert!((root(x) * root(x) / x - 1.0).abs() < 1e-12, "{x}");
        }
        assert_eq!(root(0.0), 0.0);
    }
}
