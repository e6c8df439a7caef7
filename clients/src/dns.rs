//! A stub resolver (RFC 1035, RFC 3596): one name, one kind of address, one server after the other.

#[cfg(test)]
mod tests;

use crate::Random;
use crate::read::Bytes;
use alloc::vec::Vec;
use core::net::IpAddr;

/// The port of servers.
pub const PORT: u16 = 53;
/// How long one answer is waited for.
pub const WAIT_MS: u64 = 2000;

/// Rounds over all servers.
const ROUNDS: usize = 3;
/// Octets of a name on the wire, and of a label (RFC 1035 §2.3.4).
const LONGEST_NAME: usize = 255;
const LONGEST_LABEL: usize = 63;
/// Records of an answer that are looked at, aliases that are followed, and addresses that are taken.
const RECORDS: usize = 64;
const ALIASES: usize = 8;
const MOST: usize = 16;

const CNAME: u16 = 5;
const IN: u16 = 1;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// IPv4 addresses.
    A = 1,
    /// IPv6 addresses.
    Aaaa = 28,
}

/// Why there is no address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Not a name that can be asked for.
    NotAName,
    /// There is no such name.
    NoSuchName,
    /// The name has no address of this kind.
    NoAddress,
    /// No server answered, or none could.
    NoAnswer,
}

impl core::fmt::Display for Failure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NotAName => "not a name",
            Self::NoSuchName => "there is no such name",
            Self::NoAddress => "the name has no address",
            Self::NoAnswer => "no name server answers",
        })
    }
}

/// A server's answer to a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The addresses, and the seconds that they may be kept.
    Addresses(Vec<IpAddr>, u32),
    /// There are none, and never will be at another server.
    Failed(Failure),
    /// It cannot say.
    Elsewhere,
}

/// The question for the addresses of a name.
pub struct Lookup<'s> {
    name: Vec<u8>,
    kind: Kind,
    servers: &'s [IpAddr],
    random: Random,
    tries: usize,
    id: u16,
}

impl<'s> Lookup<'s> {
    /// Asks `servers`, the best first.
    ///
    /// # Errors
    /// [`Failure::NotAName`], [`Failure::NoAnswer`] without servers.
    pub fn new(name: &str, kind: Kind, servers: &'s [IpAddr], random: Random) -> Result<Self, Failure> {
        let name = encoded(name).ok_or(Failure::NotAName)?;
        if servers.is_empty() {
            return Err(Failure::NoAnswer);
        }
        Ok(Self { name, kind, servers, random, tries: 0, id: 0 })
    }

    /// Whom to ask next, from another random port each time, and what. `None`: all were asked often enough.
    pub fn ask(&mut self) -> Option<(IpAddr, Vec<u8>)> {
        if self.tries >= ROUNDS * self.servers.len() {
            return None;
        }
        let server = *self.servers.get(self.tries % self.servers.len())?;
        self.tries += 1;
        self.id = (self.random)() as u16;
        let [high, low] = self.id.to_be_bytes();
        // Recursion desired; one question.
        let mut query = Vec::from([high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        query.extend_from_slice(&self.name);
        query.extend((self.kind as u16).to_be_bytes());
        query.extend(IN.to_be_bytes());
        Some((server, query))
    }

    /// Takes a datagram of the server that was asked last. `None`: not the answer.
    pub fn input(&self, bytes: &[u8]) -> Option<Answer> {
        answer(bytes, self.id, &self.name, self.kind)
    }
}

/// A name as labels; `None` if it is none.
fn encoded(name: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len() + 2);
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        let len = u8::try_from(label.len()).ok().filter(|&len| (1..=LONGEST_LABEL as u8).contains(&len))?;
        out.push(len);
        out.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    }
    out.push(0);
    (out.len() <= LONGEST_NAME).then_some(out)
}

/// Reads the name at `at`, in lower case; where it ends in the message. Each pointer leads to before where its name began, so
/// that none leads in a circle.
fn name_at(message: &[u8], at: usize) -> Option<(Vec<u8>, usize)> {
    let (mut name, mut here, mut end, mut limit) = (Vec::new(), at, None, at);
    loop {
        let len = usize::from(*message.get(here)?);
        match len >> 6 {
            0 => {
                let label = message.get(here..=here + len)?;
                name.extend(label.iter().map(u8::to_ascii_lowercase));
                if name.len() > LONGEST_NAME {
                    return None;
                }
                here += 1 + len;
                if len == 0 {
                    return Some((name, end.unwrap_or(here)));
                }
            }
            3 => {
                let to = (len & 0x3f) << 8 | usize::from(*message.get(here + 1)?);
                end = end.or(Some(here + 2));
                if to >= limit {
                    return None;
                }
                (here, limit) = (to, to);
            }
            _ => return None,
        }
    }
}

/// What `bytes` answer to the question for `kind` of `name` (encoded, in lower case) that was asked as `id`.
pub fn answer(bytes: &[u8], id: u16, name: &[u8], kind: Kind) -> Option<Answer> {
    let mut header = Bytes(bytes);
    if header.u16()? != id {
        return None;
    }
    let flags = header.u16()?;
    let [questions, answers] = [header.u16()?, header.u16()?];
    // A response, to a standard query, with the question in it.
    if flags & 0xf800 != 0x8000 || questions != 1 {
        return None;
    }
    let (asked, end) = name_at(bytes, 12)?;
    let mut rest = Bytes(bytes.get(end..)?);
    if asked != name || rest.u16()? != kind as u16 || rest.u16()? != IN {
        return None;
    }
    match flags & 15 {
        0 => {}
        3 => return Some(Answer::Failed(Failure::NoSuchName)),
        _ => return Some(Answer::Elsewhere),
    }
    // Truncated: the addresses that are there are right all the same.
    let truncated = flags & 0x0200 != 0;
    let (mut owner, mut addresses, mut ttl) = (asked, Vec::new(), u32::MAX);
    for _ in 0..ALIASES {
        let mut at = end + 4;
        let mut alias = None;
        for _ in 0..usize::from(answers).min(RECORDS) {
            let Some((record, next)) = record(bytes, at, kind) else { break };
            at = next;
            if record.owner != owner {
                continue;
            }
            match record.data {
                Data::Address(address) if addresses.len() < MOST => {
                    ttl = ttl.min(record.ttl);
                    addresses.push(address);
                }
                Data::Alias(name) => {
                    ttl = ttl.min(record.ttl);
                    alias = Some(name);
                }
                _ => {}
            }
        }
        match alias {
            Some(alias) if addresses.is_empty() => owner = alias,
            _ => break,
        }
    }
    Some(match addresses.is_empty() {
        false => Answer::Addresses(addresses, ttl),
        true if truncated => Answer::Elsewhere,
        true => Answer::Failed(Failure::NoAddress),
    })
}

struct Record {
    owner: Vec<u8>,
    ttl: u32,
    data: Data,
}

enum Data {
    Address(IpAddr),
    Alias(Vec<u8>),
    Other,
}

/// The record at `at`, and where the next one is.
fn record(message: &[u8], at: usize, kind: Kind) -> Option<(Record, usize)> {
    let (owner, end) = name_at(message, at)?;
    let mut bytes = Bytes(message.get(end..)?);
    let (found, class, ttl, len) = (bytes.u16()?, bytes.u16()?, bytes.u32()?, bytes.u16()?);
    let data_at = end + 10;
    let data = bytes.take(len.into())?;
    let data = match (found, class, kind) {
        (1, IN, Kind::A) => Data::Address(IpAddr::from(<[u8; 4]>::try_from(data).ok()?)),
        (28, IN, Kind::Aaaa) => Data::Address(IpAddr::from(<[u8; 16]>::try_from(data).ok()?)),
        (CNAME, IN, _) => Data::Alias(name_at(message, data_at)?.0),
        _ => Data::Other,
    };
    Some((Record { owner, ttl, data }, data_at + usize::from(len)))
}
