//! Which packets belong together: the hash by which flows are spread over CPUs.
//!
//! The same function of the same fields as devices use for receive-side scaling (virtio 1.2 §5.1.6.4.3).

use crate::ethernet::{self, HEADER};
use core::net::{IpAddr, SocketAddr};
use weir_netif::Packet;
use weir_netif::toeplitz::symmetric;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// The flow hash of a frame, behind a VLAN tag or without: over addresses and, for unfragmented TCP and UDP right behind the
/// IP header, ports. Alike in both directions. `None`: no IP, or cut short. Kept in
/// [`Meta::hash`](weir_netif::Meta::hash), and taken from there if it was computed before.
#[inline]
pub fn hash(packet: &mut Packet) -> Option<u32> {
    let known = packet.meta().hash;
    if known != 0 {
        return Some(known);
    }
    let bytes = packet.data();
    let (mut kind, mut network) = (ethernet::kind(bytes)?, bytes.get(HEADER..)?);
    if kind == ethernet::VLAN {
        let (&[_, _, high, low], behind) = network.split_first_chunk::<{ ethernet::TAG }>()?;
        (kind, network) = (u16::from_be_bytes([high, low]), behind);
    }
    let folded = match kind {
        ethernet::IPV4 => v4(network)?,
        ethernet::IPV6 => v6(network)?,
        _ => return None,
    };
    let hash = symmetric(folded);
    packet.meta_mut().hash = hash;
    Some(hash)
}

/// The hash of the TCP or UDP packets between two sockets.
pub fn between(a: &SocketAddr, b: &SocketAddr) -> u32 {
    let words = |address: &SocketAddr| match address.ip() {
        IpAddr::V4(ip) => fold(&ip.octets()),
        IpAddr::V6(ip) => fold(&ip.octets()),
    };
    symmetric(words(a) ^ words(b) ^ a.port() ^ b.port())
}

/// The hash of the flow that a packet quoted in an ICMP error belongs to, whose answers have the same; `quoted` begins with
/// its IP header.
pub(crate) fn quoted(quoted: &[u8]) -> Option<u32> {
    let folded = match quoted.first()? >> 4 {
        4 => v4(quoted)?,
        6 => v6(quoted)?,
        _ => return None,
    };
    Some(symmetric(folded))
}

/// The exclusive or of the words that count.
#[inline]
fn v4(bytes: &[u8]) -> Option<u16> {
    let &[first, _, _, _, _, _, flags, offset, _, protocol, _, _, ref addresses @ ..] =
        bytes.first_chunk::<20>()?;
    let folded = fold(addresses);
    // More fragments, or an offset (RFC 791 §3.1).
    let whole = flags & 0x3f == 0 && offset == 0;
    Some(if whole { folded ^ ports(protocol, bytes.get(usize::from(first & 0xf) * 4..)) } else { folded })
}

#[inline]
fn v6(bytes: &[u8]) -> Option<u16> {
    let (&[_, _, _, _, _, _, next, _], rest) = bytes.split_first_chunk::<8>()?;
    let (addresses, rest) = rest.split_first_chunk::<32>()?;
    Some(fold(addresses) ^ ports(next, Some(rest)))
}

/// Of a transport header that has ports; 0 without.
#[inline]
fn ports(protocol: u8, header: Option<&[u8]>) -> u16 {
    match header.and_then(|header| header.first_chunk::<4>()) {
        Some(ports) if matches!(protocol, TCP | UDP) => fold(ports),
        _ => 0,
    }
}

/// The exclusive or of all 16-bit words. `N` is a multiple of 4.
#[inline]
fn fold<const N: usize>(bytes: &[u8; N]) -> u16 {
    let (words, _) = bytes.as_chunks::<4>();
    let all = words.iter().fold(0, |sum, word| sum ^ u32::from_be_bytes(*word));
    (all >> 16) as u16 ^ all as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames;
    use crate::sim::{v4 as ipv4, v6 as ipv6};
    use proptest::prelude::*;
    use weir_netif::toeplitz::{SYMMETRIC_KEY, toeplitz};

    fn hashed(frame: &[u8]) -> Option<u32> {
        let mut pool = frames::pool(8);
        let mut packet = pool.alloc_from(frame).unwrap();
        let found = hash(&mut packet);
        assert_eq!(packet.meta().hash, found.unwrap_or(0), "it is kept");
        pool.free(packet);
        found
    }

    fn udp4(from: (&str, u16), to: (&str, u16)) -> Vec<u8> {
        let mut frame = ipv4(from.0, to.0).frame(0, b"hello");
        frame[34..36].copy_from_slice(&from.1.to_be_bytes());
        frame[36..38].copy_from_slice(&to.1.to_be_bytes());
        frame
    }
    use std::vec::Vec;

    proptest! {
        #[test]
        fn is_the_toeplitz_hash_of_addresses_and_ports(a: [u8; 4], b: [u8; 4], from: u16, to: u16) {
            let text = |octets: [u8; 4]| std::net::Ipv4Addr::from(octets).to_string();
            use std::string::ToString;
            let frame = udp4((&text(a), from), (&text(b), to));
            let back = udp4((&text(b), to), (&text(a), from));
            let input = [&a[..], &b[..], &from.to_be_bytes(), &to.to_be_bytes()].concat();
            prop_assert_eq!(hashed(&frame), Some(toeplitz(&SYMMETRIC_KEY, &input).max(1)));
            prop_assert_eq!(hashed(&frame), hashed(&back));
            let tagged = [&frame[..12], &[0x81, 0, 0x20, 0x0a], &frame[12..]].concat();
            prop_assert_eq!(hashed(&frame), hashed(&tagged), "a tag makes no other flow");
            prop_assert_eq!(hashed(&frame), Some(between(&(a, from).into(), &(b, to).into())));
            prop_assert_eq!(hashed(&frame), quoted(&back[14..]));
        }

        #[test]
        fn takes_any_bytes(bytes: Vec<u8>) {
            hashed(&bytes);
        }
    }

    #[test]
    fn fragments_of_a_packet_stay_together() {
        let whole = udp4(("10.0.1.10", 5000), ("192.0.2.20", 7));
        let mut first = whole.clone();
        first[20] = 0x20;
        let mut second = udp4(("10.0.1.10", 0x1234), ("192.0.2.20", 0x5678));
        second[21] = 100;
        assert_eq!(hashed(&first), hashed(&second));
        assert_ne!(hashed(&first), hashed(&whole));
    }

    #[test]
    fn only_ip_has_a_flow() {
        assert!(hashed(&ipv6("2001:db8::1", "2001:db8::2").frame(0, b"x")).is_some());
        let mut arp = udp4(("10.0.1.10", 1), ("192.0.2.20", 2));
        arp[12..14].copy_from_slice(&[8, 6]);
        assert_eq!(hashed(&arp), None);
        assert_eq!(hashed(&udp4(("10.0.1.10", 1), ("192.0.2.20", 2))[..33]), None);
    }
}
