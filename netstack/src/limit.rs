//! Rate limits for what the router sends of its own accord (RFC 1812 §4.3.2.8, RFC 4443 §2.4(f)). `[C]`
//!
//! A token bucket, and a fixed table of them by destination prefix so that one destination cannot use up the
//! allowance of the others.

use crate::time::Instant;
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
    slots: [Slot; PREFIXES],
}

impl Limiter {
    /// `seed` should be unpredictable: it keeps anyone from choosing prefixes that share a slot.
    pub const fn new(total: Rate, each: Rate, seed: u64) -> Self {
        let slot = Slot { key: 0, bucket: Bucket::new(each.per_s, each.burst) };
        Self { total: Bucket::new(total.per_s, total.burst), each, seed, slots: [slot; PREFIXES] }
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
        let hash = mix(key, self.seed);
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

fn mix(key: u128, seed: u64) -> u64 {
    let folded = (key as u64 ^ (key >> 64) as u64 ^ seed) as u128 * 0x9e37_79b9_7f4a_7c15_u128;
    let folded =
        (folded as u64 ^ (folded >> 64) as u64 ^ seed.rotate_left(32)) as u128 * 0xd6e8_feb8_6659_fd93_u128;
    folded as u64 ^ (folded >> 64) as u64
}
