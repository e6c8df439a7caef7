//! What is asked of the way of a packet, in words: `lan from 10.0.1.2 to 192.0.2.2 protocol udp port 53`.

use crate::console::parse::Parsed;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

/// A packet, and where it comes in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// The interface's name.
    pub interface: String,
    /// What comes in.
    pub packet: Packet,
    /// The configuration that it meets; `None`: the one in force.
    pub text: Option<String>,
}

/// What comes in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Packet {
    /// An Ethernet frame, byte by byte.
    Frame(Vec<u8>),
    /// An IP packet for the router's station, its checksums right.
    Ip {
        /// Where it comes from.
        source: IpAddr,
        /// Where it goes: an address of the same family.
        destination: IpAddr,
        /// What is in it.
        protocol: u8,
        /// The destination's port, of TCP and UDP.
        port: u16,
        /// The sender's.
        source_port: u16,
        /// The VLAN of its tag, 0: it has none; `None`: the interface's own.
        vlan: Option<u16>,
        /// Bytes of header and payload; what is less than the headers take counts as that.
        len: u16,
        /// Hops left.
        ttl: u8,
    },
}

/// Protocols that have a name here.
pub const PROTOCOLS: [(&str, u8); 4] = [("icmp", 1), ("tcp", 6), ("udp", 17), ("icmpv6", 58)];

/// A protocol by its name or number.
pub fn protocol(word: &str) -> Option<u8> {
    let named = PROTOCOLS.iter().find(|(name, _)| *name == word).map(|&(_, number)| number);
    named.or_else(|| word.parse().ok())
}

/// A frame by its digits: two a byte, from a whole Ethernet header to the longest there can be.
pub fn frame(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |&[high, low]: &[u8; 2]| Some((digit(high)? << 4 | digit(low)?) as u8);
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    bytes.filter(|bytes| rest.is_empty() && (14..=9234).contains(&bytes.len()))
}

/// Characters of a line that a step of an answer shows.
const LINE: usize = 40;

/// A line of the configuration as a step shows it: without the remark at its end, and as much as has room.
pub fn shown(line: &str) -> String {
    let line = line.split(" #").next().unwrap_or_default().trim();
    match line.chars().nth(LINE) {
        Some(_) => line.chars().take(LINE - 1).chain(['…']).collect(),
        None => line.into(),
    }
}

impl Question {
    /// What the command `explain` says. `text` is for what meets another configuration than the one in force.
    ///
    /// # Errors
    /// What cannot be, and what helps.
    pub fn of(parsed: &Parsed, text: Option<String>) -> Result<Question, String> {
        let interface = parsed.argument("NAME").unwrap_or_default().into();
        if let Some(bytes) = parsed.argument("HEX").and_then(frame) {
            return Ok(Question { interface, packet: Packet::Frame(bytes), text });
        }
        let address = |name| parsed.argument(name).and_then(|word| word.parse::<IpAddr>().ok());
        let (Some(source), Some(destination)) = (address("SOURCE"), address("DESTINATION")) else {
            return Err("both addresses are needed: explain lan from 10.0.1.2 to 192.0.2.2".into());
        };
        if source.is_ipv4() != destination.is_ipv4() {
            return Err("one address is IPv4 and the other IPv6: a packet has two of a kind".into());
        }
        let usual = if source.is_ipv4() { 1 } else { 58 };
        let number = |name, usual: u64| parsed.number(name).unwrap_or(usual);
        let packet = Packet::Ip {
            source,
            destination,
            protocol: parsed.argument("PROTOCOL").and_then(protocol).unwrap_or(usual),
            port: number("PORT", 80) as u16,
            source_port: number("SOURCE-PORT", 50_000) as u16,
            vlan: parsed.number("VLAN").map(|vlan| vlan as u16),
            len: number("LENGTH", 0) as u16,
            ttl: number("TTL", 64) as u8,
        };
        Ok(Question { interface, packet, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_ends_with_a_sign_that_there_is_more() {
        let fits = "addresses = [\"10.0.1.1/24\", \"9.8.7.1/8\"]";
        assert_eq!(fits.len(), LINE);
        assert_eq!(shown(&["  ", fits, "  # ours"].concat()), fits);
        assert_eq!(shown(&fits.replace("7.1", "7.12")), "addresses = [\"10.0.1.1/24\", \"9.8.7.12/8…");
        assert_eq!(shown(&"ü".repeat(LINE)), "ü".repeat(LINE));
        assert_eq!(shown(&"ü".repeat(LINE + 1)), "ü".repeat(LINE - 1) + "…");
    }
}
