//! Who may use the API. Without I/O or clock of its own; the slow hash is computed outside ([`Check::run`]), so that
//! whoever guards this holds it for moments only.

use crate::problem::{self, Refused, refuse};
use crate::token::{Hash, NoMemory};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};
use ctutils::CtEq;
use siphasher::sip128::SipHasher24;

/// How long a token holds that the console gave out, in milliseconds.
pub const GRANT_MS: u64 = 15 * 60 * 1000;
/// Failures that one peer may make at once, and how long it waits for one more.
const PEER: (u32, u64) = (5, 10_000);
/// Failures of all peers together.
const ALL: (u32, u64) = (20, 1_000);
/// Of these, what each failure of its own takes from a peer, up to [`MOST_TAKEN`]: the last of them are for who has none or few.
const TAKEN: u32 = 3;
const MOST_TAKEN: u32 = 14;
/// Peers whose failures are remembered.
const PEERS: usize = 64;
/// Tokens that are remembered as good: each of the configuration's may be shown by many.
const VERIFIED: usize = 32;

/// A token of the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// What it is called, in the history and in the log.
    pub name: String,
    /// Its hash.
    pub hash: Hash,
}

/// Tokens, who was let in, and who failed.
#[derive(Debug)]
pub struct Access {
    /// Of this boot: what is remembered of a token is of no use elsewhere.
    secret: [u64; 2],
    tokens: Arc<[Token]>,
    /// Another one whenever `tokens` changes.
    generation: u64,
    /// [Marks](Self::mark) of tokens whose slow hash was right, with their names. The oldest first.
    verified: Vec<(u128, Arc<str>)>,
    grant: Option<Grant>,
    /// Grants so far.
    grants: u64,
    peers: Vec<Peer>,
    all: Failures,
}

/// Who failed.
#[derive(Clone, Copy, Debug)]
struct Peer {
    /// See [`network`].
    network: IpAddr,
    recent: Failures,
    /// Since it is remembered: time does not make it new.
    ever: u32,
}

/// The console's token.
#[derive(Clone, Copy, Debug)]
struct Grant {
    mark: u128,
    until_ms: u64,
    number: u64,
}

/// Failures, as a bucket that empties with time: `used` of a limit, as of `at_ms`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Failures {
    used: u32,
    at_ms: u64,
}

impl Failures {
    fn settle(&mut self, (most, each_ms): (u32, u64), now_ms: u64) -> Result<(), u64> {
        let gone = now_ms.saturating_sub(self.at_ms) / each_ms;
        self.used = u64::from(self.used).saturating_sub(gone) as u32;
        self.at_ms = if self.used == 0 { now_ms } else { self.at_ms + gone * each_ms };
        match self.used < most {
            true => Ok(()),
            false => Err((self.at_ms + each_ms).saturating_sub(now_ms).div_ceil(1000).max(1)),
        }
    }
}

/// What is to be done with a request.
#[derive(Debug)]
pub enum Entry {
    /// It is from this token's bearer.
    Allowed(Bearer),
    /// It is refused. With 429, after so many seconds it may be tried again.
    Refused(Refused, Option<u64>),
    /// The token is to be checked.
    Check(Check),
}

/// Whose request it is.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// The token's name.
    pub name: Arc<str>,
    token: Shown,
}

/// What somebody was let in with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shown {
    /// A token of the configuration, in this generation of them.
    Configured(u64),
    /// The console's token of this number.
    Granted(u64),
}

/// A token that is not known yet.
#[derive(Debug)]
pub struct Check {
    presented: String,
    mark: u128,
    tokens: Arc<[Token]>,
    generation: u64,
    network: IpAddr,
}

impl Check {
    /// Hashes to try.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Tries one of them: some milliseconds of work.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn run(&self, number: usize) -> Result<bool, NoMemory> {
        self.tokens.get(number).map_or(Ok(false), |token| token.hash.verify(&self.presented))
    }
}

impl Access {
    /// Nobody may enter yet. `secret` is as hard to guess as the machine can make it.
    pub fn new(secret: [u64; 2]) -> Self {
        Self {
            secret,
            tokens: Arc::default(),
            generation: 0,
            verified: Vec::new(),
            grant: None,
            grants: 0,
            peers: Vec::new(),
            all: Failures::default(),
        }
    }

    /// The configuration's tokens from now on. Who shows one that is gone is not let in any more.
    pub fn configure(&mut self, tokens: &[Token]) {
        if *self.tokens != *tokens {
            self.tokens = tokens.into();
            self.verified.clear();
            self.generation += 1;
        }
    }

    /// Whether who was let in would be so now.
    pub fn holds(&self, bearer: &Bearer, now_ms: u64) -> bool {
        match bearer.token {
            Shown::Configured(generation) => generation == self.generation,
            Shown::Granted(number) => {
                self.grant.is_some_and(|grant| grant.number == number && now_ms < grant.until_ms)
            }
        }
    }

    /// A token on the console's say-so, made of `random`; it replaces the one before and holds for [`GRANT_MS`].
    pub fn grant(&mut self, random: &[u8], now_ms: u64) -> String {
        let token = format!("console-{:032x}", self.mark(random));
        self.grants += 1;
        self.grant = Some(Grant {
            mark: self.mark(token.as_bytes()),
            until_ms: now_ms.saturating_add(GRANT_MS),
            number: self.grants,
        });
        token
    }

    /// Takes the console's token back. Whether there was one.
    pub fn withdraw(&mut self) -> bool {
        self.grant.take().is_some()
    }

    /// A request from `peer` with this token, or none.
    pub fn enter(&mut self, token: Option<&str>, peer: IpAddr, now_ms: u64) -> Entry {
        let grant = self.grant.filter(|grant| now_ms < grant.until_ms);
        self.grant = grant;
        if self.tokens.is_empty() && grant.is_none() {
            return Entry::Refused(nobody(), None);
        }
        let Some(token) = token else { return Entry::Refused(no_token(), None) };
        let mark = self.mark(token.as_bytes());
        // All of them, whichever it is: how long that takes tells nothing.
        let mut bearer = None;
        for (known, of) in &self.verified {
            if known.ct_eq(&mark).to_bool() {
                bearer = Some(Bearer { name: of.clone(), token: Shown::Configured(self.generation) });
            }
        }
        if let Some(grant) = grant.filter(|grant| grant.mark.ct_eq(&mark).to_bool()) {
            bearer = Some(Bearer { name: "console".into(), token: Shown::Granted(grant.number) });
        }
        if let Some(bearer) = bearer {
            return Entry::Allowed(bearer);
        }
        if let Err(seconds) = self.count(network(peer), now_ms) {
            return Entry::Refused(too_many(seconds), Some(seconds));
        }
        Entry::Check(Check {
            presented: token.to_string(),
            mark,
            tokens: self.tokens.clone(),
            generation: self.generation,
            network: network(peer),
        })
    }

    /// What a check found: the number of the token that it was.
    ///
    /// # Errors
    /// None was it, or the tokens have changed meanwhile.
    pub fn checked(&mut self, check: &Check, found: Option<usize>) -> Result<Bearer, Refused> {
        let token = found.and_then(|number| check.tokens.get(number));
        let Some(token) = token.filter(|_| check.generation == self.generation) else {
            return Err(wrong_token());
        };
        self.forgive(check.network);
        let name: Arc<str> = token.name.as_str().into();
        if self.verified.len() >= VERIFIED {
            self.verified.remove(0);
        }
        self.verified.push((check.mark, name.clone()));
        Ok(Bearer { name, token: Shown::Configured(self.generation) })
    }

    /// Counts an attempt before it is made, so that many at once count as many.
    fn count(&mut self, network: IpAddr, now_ms: u64) -> Result<(), u64> {
        let place = match self.peers.iter().position(|known| known.network == network) {
            Some(place) => place,
            None => {
                if self.peers.len() >= PEERS {
                    let oldest = self.peers.iter().enumerate().min_by_key(|(_, own)| own.recent.at_ms);
                    if let Some((place, _)) = oldest {
                        self.peers.swap_remove(place);
                    }
                }
                self.peers.push(Peer { network, recent: Failures { used: 0, at_ms: now_ms }, ever: 0 });
                self.peers.len() - 1
            }
        };
        let Some(own) = self.peers.get_mut(place) else { return Ok(()) };
        own.recent.settle(PEER, now_ms)?;
        let taken = own.ever.saturating_mul(TAKEN).min(MOST_TAKEN);
        self.all.settle((ALL.0 - taken, ALL.1), now_ms)?;
        own.recent.used += 1;
        own.ever = own.ever.saturating_add(1);
        self.all.used += 1;
        Ok(())
    }

    /// The attempt was none.
    fn forgive(&mut self, network: IpAddr) {
        self.all.used = self.all.used.saturating_sub(1);
        if let Some(own) = self.peers.iter_mut().find(|known| known.network == network) {
            own.recent.used = own.recent.used.saturating_sub(1);
            own.ever = own.ever.saturating_sub(1);
        }
    }

    /// What a token is known by: SipHash-2-4 of 128 bits under the secret. Without that no other token is found that has the same
    /// one, and it is quick: each request takes it.
    fn mark(&self, token: &[u8]) -> u128 {
        let [one, two] = self.secret;
        SipHasher24::new_with_keys(one, two).hash(token).into()
    }
}

/// Whose failures count as one's: an IPv6 host has as many addresses as it likes in its network of 64 bits.
fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

fn nobody() -> Refused {
    refuse(
        403,
        "Nobody may use the API yet",
        "the configuration has no [[management.token]]",
        "add one with the hash that weir-check --hash-token prints, or type token on the router's console",
    )
}

fn no_token() -> Refused {
    refuse(
        401,
        "A token is needed",
        "the request has no Authorization header with a bearer token",
        "send Authorization: Bearer TOKEN, with one of the tokens whose hashes the configuration has",
    )
}

fn wrong_token() -> Refused {
    refuse(
        401,
        "The token is not known",
        "it belongs to no [[management.token]] of the configuration in force",
        "check for a typing error; add the token's hash to the configuration",
    )
}

fn too_many(seconds: u64) -> Refused {
    refuse(
        429,
        "Too many wrong tokens",
        "more wrong tokens came than people would try",
        format!("try again in {seconds} s; who was let in before is not held up"),
    )
}

/// The token could not be checked.
pub fn no_memory() -> Refused {
    problem::refuse(
        503,
        "There is no memory to check the token",
        "the token's hash takes more memory than is free",
        "try again, give the machine more memory, or use a hash with a smaller m=",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const TOKEN: &str = "correct-horse-battery";

    fn access() -> Access {
        let mut access = Access::new([7; 2]);
        access.configure(&[Token { name: "ann".into(), hash: Hash::of(TOKEN, [1; 16]).unwrap() }]);
        access
    }

    /// Whether a wrong token is looked at.
    fn tries(access: &mut Access, peer: impl Into<IpAddr>, now_ms: u64) -> bool {
        matches!(access.enter(Some("wrong"), peer.into(), now_ms), Entry::Check(_))
    }

    #[test]
    fn wrong_tokens_of_some_lock_nobody_else_out() {
        let mut access = access();
        let mut looked_at = vec![0; 12];
        for second in 0..3600_u64 {
            for (peer, count) in (0..).zip(&mut looked_at) {
                while tries(&mut access, [192, 0, 2, peer], second * 1000) {
                    *count += 1;
                }
            }
            if second % 60 == 30 {
                // Somebody new, who mistypes it at first.
                let new = [198, 51, 100, (second / 60) as u8];
                assert!(tries(&mut access, new, second * 1000) && tries(&mut access, new, second * 1000));
                let Entry::Check(check) = access.enter(Some(TOKEN), new.into(), second * 1000) else {
                    panic!("{second} s: refused with the right token");
                };
                assert_eq!(&*access.checked(&check, Some(0)).unwrap().name, "ann");
                access.verified.clear();
            }
        }
        let all: u64 = looked_at.iter().sum();
        assert!((3000..=3630).contains(&all), "one a second of all: {looked_at:?}");
    }

    #[test]
    fn addresses_of_a_network_of_64_bits_are_one_peer() {
        let mut access = access();
        let from = |host: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 1, host, 0, 0, host);
        let looked_at = (0..100).filter(|&host| tries(&mut access, from(host), 0)).count();
        assert_eq!(looked_at, 5);
        assert!(tries(&mut access, Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 1), 0));
    }
}
