//! What is asked of the way to a host, in words: `10.0.1.2 count 3 size 1400 df`.

use crate::console::parse::Parsed;
use alloc::string::String;
use core::net::IpAddr;

/// What the console's `ping` and `traceroute` say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Whether every hop on the way is asked.
    pub each_hop: bool,
    /// An address, or a name.
    pub host: String,
    /// Of a name's addresses an IPv6 one is wanted.
    pub six: bool,
    /// Requests.
    pub count: u16,
    /// Milliseconds between two.
    pub interval_ms: u64,
    /// Bytes of data.
    pub size: usize,
    /// TTL or hop limit, at most.
    pub hops: u8,
    /// Routers shall not cut it.
    pub whole: bool,
    /// The address it comes from, if it matters.
    pub source: Option<IpAddr>,
    /// The interface it leaves by, if it matters.
    pub interface: Option<String>,
}

impl Probe {
    /// What a command says; `each_hop` is [`Probe::each_hop`].
    pub fn of(parsed: &Parsed, each_hop: bool) -> Self {
        let number = |name, usual: u64| parsed.number(name).unwrap_or(usual);
        Self {
            each_hop,
            host: parsed.argument("HOST").unwrap_or_default().into(),
            six: parsed.says("ipv6"),
            count: number("TIMES", 5) as u16,
            interval_ms: number("MILLISECONDS", 1000),
            size: number("SIZE", if each_hop { 32 } else { 56 }) as usize,
            hops: number("HOPS", if each_hop { 30 } else { 64 }) as u8,
            whole: parsed.says("df"),
            source: parsed.argument("SOURCE").and_then(|word| word.parse().ok()),
            interface: parsed.argument("NAME").map(String::from),
        }
    }
}
