//! A frame in a line, as tcpdump begins its own: who to whom, and what.

use crate::pcapng::{Direction, Packet};
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

/// Shows a frame, of which there may be the first bytes only: `10.0.0.9:53 > 10.0.0.1:4000 UDP`.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a>(pub &'a [u8]);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0;
        let kind = |bytes: &[u8]| be16(bytes, 12);
        while kind(bytes) == Some(0x8100) {
            write!(f, "vlan {} ", be16(bytes, 14).unwrap_or(0) & 0xfff)?;
            // What stands where the addresses would is not looked at.
            bytes = bytes.get(4..).unwrap_or_default();
        }
        let network = bytes.get(14..).unwrap_or_default();
        match kind(bytes) {
            Some(0x0800) => ipv4(f, network),
            Some(0x86dd) => ipv6(f, network),
            Some(0x0806) => arp(f, network),
            Some(kind) => write!(f, "ethertype {kind:#06x}"),
            None => f.write_str("no whole header"),
        }
    }
}

/// Shows a captured packet: `12:34:56.789012 wan in 10.0.0.9 53 > 10.0.0.1 4000 UDP, 98 bytes`. Times of day are UTC; while
/// nobody knows the day they count from the router's beginning.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The packet.
    pub packet: &'a Packet<'a>,
    /// What its interface is called.
    pub interface: &'a str,
}

/// A router runs for less, and knows no earlier day.
const THIRTY_YEARS_S: u64 = 30 * 365 * 86_400;

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Packet { at_ns, direction, len, bytes, .. } = *self.packet;
        let (s, us) = (at_ns / 1_000_000_000, at_ns / 1000 % 1_000_000);
        let hours = if s < THIRTY_YEARS_S { s / 3600 } else { s / 3600 % 24 };
        let way = match direction {
            Direction::Inbound => "in",
            Direction::Outbound => "out",
            Direction::Lost(_) => "drop",
        };
        let (m, s, name) = (s / 60 % 60, s % 60, self.interface);
        write!(f, "{hours:02}:{m:02}:{s:02}.{us:06} {name} {way} {}, {len} bytes", Line(bytes))?;
        match direction {
            Direction::Lost(reason) => write!(f, ", dropped: {reason}"),
            _ => Ok(()),
        }
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|two| u16::from_be_bytes(*two))
}

fn v4(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    bytes.get(at..)?.first_chunk().map(|four: &[u8; 4]| (*four).into())
}

fn v6(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    bytes.get(at..)?.first_chunk().map(|sixteen: &[u8; 16]| (*sixteen).into())
}

fn ipv4(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let (Some(from), Some(to), Some(&first), Some(&protocol)) =
        (v4(bytes, 12), v4(bytes, 16), bytes.first(), bytes.get(9))
    else {
        return f.write_str("IPv4, cut short");
    };
    let later = be16(bytes, 6).is_some_and(|flags| flags & 0x1fff != 0);
    let upper = bytes.get(usize::from(first & 15) * 4..).unwrap_or_default();
    transport(f, &from, &to, (protocol, if later { None } else { Some(upper) }))
}

fn ipv6(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let (Some(from), Some(to), Some(&next)) = (v6(bytes, 8), v6(bytes, 24), bytes.get(6)) else {
        return f.write_str("IPv6, cut short");
    };
    transport(f, &from, &to, (next, bytes.get(40..)))
}

fn transport(
    f: &mut fmt::Formatter<'_>,
    from: &dyn fmt::Display,
    to: &dyn fmt::Display,
    (protocol, upper): (u8, Option<&[u8]>),
) -> fmt::Result {
    let Some(upper) = upper else { return write!(f, "{from} > {to} fragment of {protocol}") };
    let ports = be16(upper, 0).zip(be16(upper, 2));
    match (protocol, ports) {
        (6 | 17, Some((source, destination))) => {
            write!(f, "{from} {source} > {to} {destination} {}", if protocol == 6 { "TCP" } else { "UDP" })?;
            if let (6, Some(flags)) = (protocol, upper.get(13)) {
                f.write_str(" ")?;
                let letters = [(2, "S"), (16, "."), (8, "P"), (1, "F"), (4, "R")];
                letters
                    .iter()
                    .filter(|(bit, _)| flags & bit != 0)
                    .try_for_each(|(_, own)| f.write_str(own))?;
            }
            Ok(())
        }
        (1 | 58, Some(_)) => {
            let [kind, code] = [0, 1].map(|at| upper.get(at).copied().unwrap_or(0));
            write!(f, "{from} > {to} ICMP type {kind} code {code}")
        }
        _ => write!(f, "{from} > {to} protocol {protocol}"),
    }
}

fn arp(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    match (be16(bytes, 6), v4(bytes, 14), v4(bytes, 24)) {
        (Some(1), Some(sender), Some(target)) => write!(f, "ARP who has {target}, tell {sender}"),
        (Some(2), Some(sender), Some(_)) => write!(f, "ARP {sender} is here"),
        _ => f.write_str("ARP, cut short or unknown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;
    use std::vec::Vec;

    fn frame(kind: [u8; 2], network: &[u8]) -> Vec<u8> {
        [&[0; 12][..], &kind, network].concat()
    }

    #[test]
    fn shows_who_to_whom_and_what() {
        let mut ip = [0; 40];
        ip[0] = 0x45;
        ip[12..20].copy_from_slice(&[10, 0, 0, 9, 192, 0, 2, 1]);
        let show = |ip: &[u8]| Line(&frame([8, 0], ip)).to_string();
        ip[9] = 17;
        ip[20..24].copy_from_slice(&[0, 53, 0x0f, 0xa0]);
        assert_eq!(show(&ip), "10.0.0.9 53 > 192.0.2.1 4000 UDP");
        (ip[9], ip[33]) = (6, 0x12);
        assert_eq!(show(&ip), "10.0.0.9 53 > 192.0.2.1 4000 TCP S.");
        (ip[9], ip[20], ip[21]) = (1, 8, 0);
        assert_eq!(show(&ip), "10.0.0.9 > 192.0.2.1 ICMP type 8 code 0");
        ip[7] = 1;
        assert_eq!(show(&ip), "10.0.0.9 > 192.0.2.1 fragment of 1");
        let mut six = [0; 44];
        (six[6], six[23], six[39], six[41], six[43]) = (17, 1, 2, 5, 6);
        assert_eq!(Line(&frame([0x86, 0xdd], &six)).to_string(), "::1 5 > ::2 6 UDP");
        let arp = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1];
        assert_eq!(Line(&frame([8, 6], &arp)).to_string(), "ARP who has 10.0.0.1, tell 10.0.0.9");
        let tagged = [&[0, 7, 8, 0][..], &ip].concat();
        assert_eq!(Line(&frame([0x81, 0], &tagged)).to_string(), "vlan 7 10.0.0.9 > 192.0.2.1 fragment of 1");
    }

    #[test]
    fn tells_when_and_where_a_packet_passed() {
        let bytes = frame([8, 6], &[0; 28]);
        let packet = Packet::received(3_723_004_005_999, &bytes);
        let told = |packet: &Packet<'_>| Told { packet, interface: "wan" }.to_string();
        assert_eq!(told(&packet), "01:02:03.004005 wan in ARP, cut short or unknown, 42 bytes");
        let days = Packet { at_ns: 360_000_000_000_000, direction: Direction::Outbound, ..packet };
        assert_eq!(told(&days), "100:00:00.000000 wan out ARP, cut short or unknown, 42 bytes");
        let at_ns = 1_795_284_000_000_000_000 + 3_000;
        let lost = Packet { at_ns, direction: Direction::Lost("no-route"), ..packet };
        let expected = "18:00:00.000003 wan drop ARP, cut short or unknown, 42 bytes, dropped: no-route";
        assert_eq!(told(&lost), expected);
    }

    #[test]
    fn shows_anything() {
        for kind in [[8, 0], [8, 6], [0x86, 0xdd], [0x81, 0], [1, 2]] {
            let bytes: Vec<u8> = (0..80_u8).map(|n| n.wrapping_mul(7)).collect();
            let whole = frame(kind, &bytes);
            for len in 0..whole.len() {
                assert!(!Line(&whole[..len]).to_string().is_empty());
            }
        }
        assert!(!Line(&[0x81, 0].repeat(40)).to_string().is_empty());
    }
}
