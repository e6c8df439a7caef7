//! The client's side of the network time protocol (RFC 5905), for a router: it asks several servers, believes what most of them
//! agree on, and tells nobody.

#[cfg(test)]
mod tests;

use crate::read::Bytes;
use crate::{NEVER, Random, jitter};

/// The port of servers.
pub const PORT: u16 = 123;
/// How long an answer is waited for.
pub const WAIT_MS: u64 = 2000;
/// Bytes of a message without extensions.
pub const LEN: usize = 48;

/// Seconds from 1900 to 1970.
const EPOCH: u64 = 2_208_988_800;
/// Exponents of 2 s: how often a server is asked (RFC 5905 §7.2), the last one when it does not want to be.
const POLL_FIRST: u32 = 6;
const POLL_LAST: u32 = 10;
/// Questions in a row at the beginning, 2 s apart (RFC 5905 §7.3, burst).
const BURST: u32 = 4;
const BURST_MS: u64 = 2000;
/// RFC 5905 appendix A.5.1.1: MAXDISP, and the most of delay and dispersion together.
const WORST_NS: u64 = 1_500_000_000;
/// What a sample loses of its exactness: 100 parts in a million of its age, as a virtual machine's clock may run.
const AGEING_NS_A_MS: u64 = 100;
/// A sample counts for so long.
const FRESH_MS: u64 = 4 << (POLL_LAST) << 10;

/// What one exchange says: the time of day is this clock and `offset_ns`, give or take `error_ns`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Nanoseconds from our clock's beginning to 1970, negative.
    pub offset_ns: i64,
    /// Half of the way there and back, and what the server owns up to.
    pub error_ns: u64,
}

/// What an answer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The time.
    Sample(Sample),
    /// Kiss-o'-death (RFC 5905 §7.4): ask less often.
    Rate,
    /// Go away.
    Deny,
    /// It does not know the time itself.
    Unsynchronized,
}

/// Nanoseconds since 1970 of a time stamp (RFC 5905 §6), which is of the era that began in 1900 or of the next one.
fn unix_ns(stamp: u64) -> i64 {
    let (seconds, fraction) = (stamp >> 32, stamp & 0xffff_ffff);
    let era = if seconds < 1 << 31 { 1 << 32 } else { 0 };
    let seconds = (seconds + era) as i64 - EPOCH as i64;
    seconds * 1_000_000_000 + ((fraction * 1_000_000_000) >> 32) as i64
}

/// Nanoseconds of a short format's seconds.
fn short_ns(short: u32) -> u64 {
    (u64::from(short) * 1_000_000_000) >> 16
}

/// The question. `nonce` stands where our time would be: it comes back in the answer, and nobody learns our clock.
pub fn request(nonce: u64) -> [u8; LEN] {
    let mut message = [0; LEN];
    // No warning, version 4, client.
    message[0] = 4 << 3 | 3;
    message[40..].copy_from_slice(&nonce.to_be_bytes());
    message
}

/// Reads the answer to the question with `nonce`, which was sent and received at these times of our clock.
pub fn parse(bytes: &[u8], nonce: u64, sent_ns: u64, received_ns: u64) -> Option<Reply> {
    let mut bytes = Bytes(bytes);
    let [first, stratum, _, _] = bytes.array()?;
    let (leap, version, mode) = (first >> 6, first >> 3 & 7, first & 7);
    let (delay, dispersion) = (short_ns(bytes.u32()?), short_ns(bytes.u32()?));
    let code = bytes.array::<4>()?;
    bytes.take(8)?;
    let mut stamp = || bytes.array().map(u64::from_be_bytes);
    let (origin, receive, transmit) = (stamp()?, stamp()?, stamp()?);
    // Bogus or a duplicate unless it has our number (RFC 5905 §8).
    if mode != 4 || !(3..=4).contains(&version) || origin != nonce {
        return None;
    }
    if stratum == 0 {
        return Some(match &code {
            b"RATE" => Reply::Rate,
            b"DENY" | b"RSTR" => Reply::Deny,
            _ => Reply::Unsynchronized,
        });
    }
    let error = delay / 2 + dispersion;
    if leap == 3 || stratum > 15 || receive == 0 || transmit == 0 || error > WORST_NS {
        return Some(Reply::Unsynchronized);
    }
    let (receive, transmit) = (unix_ns(receive), unix_ns(transmit));
    let elapsed = received_ns.checked_sub(sent_ns)?;
    let held = u64::try_from(transmit.checked_sub(receive)?).ok().filter(|&held| held <= elapsed)?;
    let middle = sent_ns as i64 + (elapsed / 2) as i64;
    let offset_ns = receive + (transmit - receive) / 2 - middle;
    Some(Reply::Sample(Sample { offset_ns, error_ns: (elapsed - held) / 2 + error }))
}

/// A server that is asked again and again.
#[derive(Clone, Debug)]
pub struct Server {
    random: Random,
    nonce: Option<u64>,
    sent_ns: u64,
    due_ms: u64,
    burst: u32,
    poll: u32,
    /// Questions in a row without an answer.
    unanswered: u32,
    sample: Option<(Sample, u64)>,
}

impl Server {
    /// To be asked at once.
    pub fn new(random: Random, now_ms: u64) -> Self {
        Self {
            random,
            nonce: None,
            sent_ns: 0,
            due_ms: now_ms,
            burst: BURST,
            poll: POLL_FIRST,
            unanswered: 0,
            sample: None,
        }
    }

    /// When it is to be asked; never if it said so.
    pub fn deadline_ms(&self) -> u64 {
        self.due_ms
    }

    /// Whether several questions went unanswered: its name may have another address by now.
    pub fn is_silent(&self) -> bool {
        self.unanswered >= 4
    }

    /// The question, if it is time.
    pub fn poll(&mut self, now_ns: u64) -> Option<[u8; LEN]> {
        let now_ms = now_ns / 1_000_000;
        if now_ms < self.due_ms {
            return None;
        }
        let nonce = (self.random)();
        (self.nonce, self.sent_ns) = (Some(nonce), now_ns);
        self.unanswered = self.unanswered.saturating_add(1);
        if self.is_silent() {
            self.poll = (self.poll + 1).min(POLL_LAST);
        }
        self.burst = self.burst.saturating_sub(1);
        let wait = if self.burst > 0 { BURST_MS } else { 1000 << self.poll };
        self.due_ms = now_ms + jitter(self.random, wait, 16);
        Some(request(nonce))
    }

    /// Takes an answer. Each question has one.
    pub fn input(&mut self, bytes: &[u8], now_ns: u64) -> Option<Reply> {
        let reply = parse(bytes, self.nonce?, self.sent_ns, now_ns)?;
        self.nonce = None;
        self.unanswered = 0;
        let now_ms = now_ns / 1_000_000;
        match reply {
            Reply::Sample(sample) => {
                // The best of those that are still young: a long way says less (RFC 5905 §10).
                if self.sample(now_ms).is_none_or(|known| sample.error_ns <= known.error_ns) {
                    self.sample = Some((sample, now_ms));
                }
                if self.burst == 0 {
                    self.poll = (self.poll + 1).min(POLL_LAST);
                }
            }
            Reply::Rate => {
                self.poll = POLL_LAST;
                self.burst = 0;
                self.due_ms = now_ms + (1000 << POLL_LAST);
            }
            Reply::Deny => {
                self.due_ms = NEVER;
                self.sample = None;
            }
            Reply::Unsynchronized => self.sample = None,
        }
        Some(reply)
    }

    /// What it says, if that is not too old.
    pub fn sample(&self, now_ms: u64) -> Option<Sample> {
        let (sample, at_ms) = self.sample.filter(|(_, at_ms)| now_ms < at_ms + FRESH_MS)?;
        let aged = now_ms.saturating_sub(at_ms) * AGEING_NS_A_MS;
        Some(Sample { error_ns: sample.error_ns + aged, ..sample })
    }
}

/// Of what servers say, what most of them agree on: the most exact one of the largest set whose intervals have a point in
/// common, if that is more than half of all (RFC 5905 §11.2.1). Its place among `samples`.
pub fn select(samples: &[Option<Sample>]) -> Option<usize> {
    let known = || samples.iter().enumerate().filter_map(|(at, sample)| Some((at, (*sample)?)));
    let contains = |sample: &Sample, point: i64| sample.offset_ns.abs_diff(point) <= sample.error_ns;
    let all = known().count();
    // A set with a point in common has the beginning of one of its intervals in common.
    let begins = known().map(|(_, sample)| sample.offset_ns.saturating_sub_unsigned(sample.error_ns));
    let agreeing = |point: i64| known().filter(move |(_, sample)| contains(sample, point));
    let point = begins.max_by_key(|&point| agreeing(point).count())?;
    if agreeing(point).count() * 2 <= all {
        return None;
    }
    agreeing(point).min_by_key(|(_, sample)| sample.error_ns).map(|(at, _)| at)
}

/// What is to be done to a clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Adjust {
    /// Set it.
    Step(i64),
    /// Move it there, by [`SLEW_NS_A_SECOND`] at most.
    Slew(i64),
}

/// The most a clock is moved in a second: 500 parts in a million (RFC 5905 §11.3).
pub const SLEW_NS_A_SECOND: u64 = 500_000;
/// Beyond this it is set (RFC 5905 §11.3, STEPT).
const STEP_NS: u64 = 128_000_000;

/// How a clock with `offset_ns` gets to `wanted_ns`; without one it is set.
pub fn adjust(offset_ns: Option<i64>, wanted_ns: i64) -> Adjust {
    match offset_ns {
        Some(offset) if offset.abs_diff(wanted_ns) <= STEP_NS => Adjust::Slew(wanted_ns),
        _ => Adjust::Step(wanted_ns),
    }
}
