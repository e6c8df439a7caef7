//! Rate limits for what the router sends of its own accord (RFC 1812 §4.3.2.8, RFC 4443 §2.4(f)). `[C]`
//!
//! A token bucket, and a fixed table of them by destination prefix so that one destination cannot use up the
//! allowance of the others.

use crate::address::Bits;
use crate::boxed;
use crate::time::Instant;
use alloc::boxed::Box;
use core::net::IpAddr;

/// One token, in the unit a bucket counts in: nanoseconds times tokens a second.
const TOKEN: u64 = 1_000_000_000;

/// Tokens that come at a steady rate and add up to a burst at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bucket {
    rate_per_s: u32,
    burst: u32,
    credit: u64,
    filled: Instant,
}

impl Bucket {
    /// Full, with `burst` tokens; `rate_per_s` come back in a second. With a burst of 0 it never gives any.
    pub const fn new(rate_per_s: u32, burst: u32) -> Self {
        Self { rate_per_s, burst, credit: burst as u64 * TOKEN, filled: Instant::ZERO }
    }

    /// Takes a token if there is one.
    #[inline]
    pub fn take(&mut self, now: Instant) -> bool {
        self.credit = self.credit_at(now);
        self.filled = self.filled.max(now);
        match self.credit.checked_sub(TOKEN) {
            Some(left) => {
                self.credit = left;
                true
            }
            None => false,
        }
    }

    /// Whether it holds its whole burst.
    #[inline]
    pub fn is_full(&self, now: Instant) -> bool {
        self.credit_at(now) == self.capacity()
    }

    #[inline]
    fn capacity(&self) -> u64 {
        u64::from(self.burst) * TOKEN
    }

    #[inline]
    fn credit_at(&self, now: Instant) -> u64 {
        let elapsed = now.as_nanos().saturating_sub(self.filled.as_nanos());
        self.credit.saturating_add(elapsed.saturating_mul(self.rate_per_s.into())).min(self.capacity())
    }
}

/// Destination prefixes that have a bucket of their own at a time.
pub const PREFIXES: usize = 256;
/// Slots in which a prefix may lie.
const WAYS: usize = 4;

/// A rate and the burst it allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Messages a second in the long run.
    pub per_s: u32,
    /// Messages at once.
    pub burst: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The prefix, with its family in the top bits; 0 is none.
    key: u128,
    bucket: Bucket,
}

/// A limit over all and one for every destination prefix (IPv4 /24, IPv6 /64).
#[derive(Clone, Debug)]
pub struct Limiter {
    total: Bucket,
    each: Rate,
    seed: u64,
    slots: Box<[Slot; PREFIXES]>,
}

impl Limiter {
    /// `seed` should be unpredictable: it keeps anyone from choosing prefixes that share a slot.
    pub fn new(total: Rate, each: Rate, seed: u64) -> Self {
        let slots = boxed::array(|| Slot { key: 0, bucket: Bucket::new(each.per_s, each.burst) });
        Self { total: Bucket::new(total.per_s, total.burst), each, seed, slots }
    }

    /// Whether one more message to `destination` may go out now; if so it is counted.
    pub fn take(&mut self, now: Instant, destination: IpAddr) -> bool {
        // The prefix first: what its own limit refuses must not eat of the total.
        self.bucket(now, destination).is_some_and(|bucket| bucket.take(now)) && self.total.take(now)
    }

    /// The bucket for `destination`: its own; else a new one in place of one that has filled up again, which forgets
    /// nothing; else, all four being in use, one of them is shared. Taking over a used one would hand out its burst
    /// anew to whoever alternates between many prefixes.
    fn bucket(&mut self, now: Instant, destination: IpAddr) -> Option<&mut Bucket> {
        let key = prefix(destination);
        let hash = key.hash(self.seed);
        let (sets, _) = self.slots.as_chunks_mut::<WAYS>();
        let set_count = sets.len().max(1);
        let set = sets.get_mut(hash as usize % set_count)?;
        let own = set.iter().position(|slot| slot.key == key);
        let way = match own.or_else(|| set.iter().position(|slot| slot.key == 0 || slot.bucket.is_full(now)))
        {
            Some(way) => way,
            None => return set.get_mut((hash >> 32) as usize % WAYS).map(|slot| &mut slot.bucket),
        };
        let slot = set.get_mut(way)?;
        if slot.key != key {
            *slot = Slot { key, bucket: Bucket::new(self.each.per_s, self.each.burst) };
        }
        Some(&mut slot.bucket)
    }
}

fn prefix(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => 1 << 64 | u128::from(address.to_bits() >> 8),
        IpAddr::V6(address) => 2 << 64 | address.to_bits() >> 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use core::time::Duration;
    use proptest::prelude::*;

    fn v4(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(n))
    }

    fn taken(bucket: &mut Bucket, now: Instant, tries: u32) -> u32 {
        (0..tries).map(|_| u32::from(bucket.take(now))).sum()
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(10, 3);
        let start = Instant::from_secs(5);
        assert_eq!(taken(&mut bucket, start, 10), 3);
        assert!(!bucket.take(start + Duration::from_nanos(99_999_999)));
        assert!(bucket.take(start + Duration::from_millis(100)), "one token every 100 ms");
        assert!(!bucket.take(start + Duration::from_millis(100)));
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(3600), 10), 3, "never more than the burst");
    }

    #[test]
    fn a_clock_that_stands_or_steps_back_gives_nothing() {
        let mut bucket = Bucket::new(1000, 1);
        let now = Instant::from_secs(100);
        assert!(bucket.take(now));
        assert!(!bucket.take(Instant::ZERO));
        assert!(!bucket.take(now), "stepping back and forth is no time passing");
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut bucket = Bucket::new(u32::MAX, u32::MAX);
        assert_eq!(taken(&mut bucket, Instant::FAR_FUTURE, 5), 5);
        assert!(!Bucket::new(u32::MAX, 0).take(Instant::FAR_FUTURE));
        let mut none = Bucket::new(0, 1);
        assert!(none.take(Instant::ZERO));
        assert!(!none.take(Instant::FAR_FUTURE));
    }

    const TOTAL: Rate = Rate { per_s: 100_000, burst: 100_000 };
    const EACH: Rate = Rate { per_s: 10, burst: 5 };

    #[test]
    fn one_prefix_cannot_starve_another() {
        let mut limiter = Limiter::new(TOTAL, EACH, 42);
        let now = Instant::from_secs(1);
        // All of 10.0.0.0/24 is one prefix.
        let sent: u32 = (0..10_000).map(|n| u32::from(limiter.take(now, v4(0x0a00_0000 | (n % 256))))).sum();
        assert_eq!(sent, EACH.burst);
        assert!(limiter.take(now, v4(0x0a00_0100)));
        let v6 = |text: &str| IpAddr::V6(text.parse::<Ipv6Addr>().unwrap());
        let sent: u32 = (0..10).map(|_| u32::from(limiter.take(now, v6("2001:db8::1")))).sum();
        assert_eq!(sent, EACH.burst);
        assert!(!limiter.take(now, v6("2001:db8::ffff:1")));
        assert!(limiter.take(now, v6("2001:db8:0:1::1")));
    }

    #[test]
    fn the_total_holds_over_all_prefixes() {
        let mut limiter = Limiter::new(Rate { per_s: 50, burst: 20 }, EACH, 42);
        let now = Instant::from_secs(1);
        let sent: u32 = (0..1000).map(|n| u32::from(limiter.take(now, v4(n << 8)))).sum();
        assert_eq!(sent, 20);
        let later = now + Duration::from_secs(1);
        let sent: u32 = (0..1000).map(|n| u32::from(limiter.take(later, v4(n << 8)))).sum();
        assert_eq!(sent, 20);
    }

    #[test]
    fn refused_prefixes_do_not_eat_of_the_total() {
        let mut limiter = Limiter::new(Rate { per_s: 0, burst: 6 }, EACH, 42);
        let now = Instant::from_secs(1);
        let sent: u32 = (0..1000).map(|_| u32::from(limiter.take(now, v4(1 << 8)))).sum();
        assert_eq!(sent, EACH.burst);
        assert!(limiter.take(now, v4(2 << 8)));
        assert!(!limiter.take(now, v4(2 << 8)));
    }

    #[test]
    fn alternating_between_more_prefixes_than_fit_gains_no_bursts() {
        let mut limiter = Limiter::new(TOTAL, EACH, 42);
        let now = Instant::from_secs(1);
        let mut sent = 0;
        for _ in 0..20 {
            for n in 0..4096 {
                sent += u32::from(limiter.take(now, v4(n << 8)));
            }
        }
        assert_eq!(sent, PREFIXES as u32 * EACH.burst);
        // Those that have filled up again make room, so that nobody has to share.
        let later = now + Duration::from_secs(1);
        let sent: u32 = (5000..5064)
            .map(|n| (0..9).map(|_| u32::from(limiter.take(later, v4(n << 8)))).sum::<u32>())
            .sum();
        assert_eq!(sent, 64 * EACH.burst);
    }

    proptest! {
        #[test]
        fn a_bucket_counts_as_exact_arithmetic(
            rate in 1u32..5000,
            burst in 1u32..100,
            steps in prop::collection::vec(0u64..50_000_000, 1..200),
        ) {
            let mut bucket = Bucket::new(rate, burst);
            let (mut now, mut tokens) = (Instant::ZERO, f64::from(burst));
            for step in steps {
                now += Duration::from_nanos(step);
                tokens = (tokens + step as f64 * f64::from(rate) / 1e9).min(burst.into());
                let took = bucket.take(now);
                // Within rounding of the model either answer is right.
                if (tokens - 1.0).abs() > 1e-6 {
                    prop_assert_eq!(took, tokens >= 1.0);
                }
                tokens -= f64::from(u8::from(took));
            }
        }
    }
}
