//! IP packets in and out: where TCP and UDP begin, whose flow it is, headers and sums of what is sent.

use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use smoltcp::wire::{IpAddress, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket};
use weir_netif::IfIndex;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const IPV4_HEADER: usize = 20;
pub(crate) const IPV6_HEADER: usize = 40;
/// Hops of what the router sends (RFC 1700; RFC 4861 §6.3.4 leaves it to the host).
const HOPS: u8 = 64;

/// An IP packet for the router, without what a stack has looked at already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ip<'a> {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    /// Behind options and extension headers, to the end of the packet.
    pub(crate) upper: &'a [u8],
}

impl<'a> Ip<'a> {
    /// `None` if lengths contradict each other, and for fragments. A super-packet longer than its header can say has the
    /// length of its bytes.
    pub(crate) fn parse(packet: &'a [u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => {
                let fixed = packet.first_chunk::<IPV4_HEADER>()?;
                let [vihl, _, high, low, _, _, frag, frag_low, _, protocol, _, _, a, b, c, d, e, f, g, h] =
                    *fixed;
                let header = usize::from(vihl & 15) * 4;
                let total = match usize::from(u16::from_be_bytes([high, low])) {
                    0 => packet.len(),
                    total => total,
                };
                let whole = u16::from_be_bytes([frag, frag_low]) & 0x3fff == 0;
                let upper = packet.get(header..total).filter(|_| whole && header >= IPV4_HEADER)?;
                let source = Ipv4Addr::new(a, b, c, d).into();
                Some(Self { source, destination: Ipv4Addr::new(e, f, g, h).into(), protocol, upper })
            }
            6 => {
                let fixed = packet.first_chunk::<IPV6_HEADER>()?;
                let payload = match usize::from(u16::from_be_bytes([fixed[4], fixed[5]])) {
                    0 => packet.len() - IPV6_HEADER,
                    payload => payload,
                };
                let address =
                    |at: usize| fixed.get(at..)?.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets));
                let (source, destination) = (address(8)?.into(), address(24)?.into());
                let mut upper = packet.get(IPV6_HEADER..IPV6_HEADER + payload)?;
                let mut protocol = fixed[6];
                // Hop-by-hop, routing, destination options; what comes before the first two was checked on the way here.
                while matches!(protocol, 0 | 43 | 60) {
                    let &[next, units, ..] = upper else { return None };
                    upper = upper.get((usize::from(units) + 1) * 8..)?;
                    protocol = next;
                }
                // An atomic fragment is a whole packet (RFC 6946).
                if protocol == 44 {
                    let &[next, _, offset, low, _, _, _, _, ..] = upper else { return None };
                    (u16::from_be_bytes([offset, low]) & 0xfff9 == 0).then_some(())?;
                    upper = upper.get(8..)?;
                    protocol = next;
                }
                Some(Self { source, destination, protocol, upper })
            }
            _ => None,
        }
    }
}

/// A link-local address means something on one link only: its scope is the interface's index, counted from 1.
pub(crate) fn scoped(address: IpAddr, port: u16, link: IfIndex) -> SocketAddr {
    match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            SocketAddrV6::new(address, port, 0, u32::from(link.0) + 1).into()
        }
        _ => SocketAddr::new(address, port),
    }
}

/// The interface that an address is scoped to.
pub(crate) fn scope(address: &SocketAddr) -> Option<IfIndex> {
    match address {
        SocketAddr::V6(address) => u16::try_from(address.scope_id().checked_sub(1)?).ok().map(IfIndex),
        SocketAddr::V4(_) => None,
    }
}

/// Two ends of a conversation. The one that tells two of them apart comes first, where they are compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Flow {
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
}

/// Bytes of the IP header of a packet to `address`.
pub(crate) fn header_len(address: IpAddr) -> usize {
    if address.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER }
}

/// Writes an IP header without options before `len` bytes of `protocol`. `None` without the room, if the families
/// differ or it would be too long.
pub(crate) fn write_ip(
    into: &mut [u8],
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    len: usize,
) -> Option<usize> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let [high, low] = u16::try_from(IPV4_HEADER + len).ok()?.to_be_bytes();
            let header = into.first_chunk_mut::<IPV4_HEADER>()?;
            *header = [0; IPV4_HEADER];
            // Don't fragment: an atomic datagram needs no identification (RFC 6864 §4.1).
            let df = if protocol == TCP { 0x40 } else { 0 };
            header[..12].copy_from_slice(&[0x45, 0, high, low, 0, 0, df, 0, HOPS, protocol, 0, 0]);
            header[12..16].copy_from_slice(&source.octets());
            header[16..].copy_from_slice(&destination.octets());
            let sum =
                header.chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum::<u32>();
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            Some(IPV4_HEADER)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let [high, low] = u16::try_from(len).ok()?.to_be_bytes();
            let header = into.first_chunk_mut::<IPV6_HEADER>()?;
            header[..8].copy_from_slice(&[0x60, 0, 0, 0, high, low, protocol, HOPS]);
            header[8..24].copy_from_slice(&source.octets());
            header[24..].copy_from_slice(&destination.octets());
            Some(IPV6_HEADER)
        }
        _ => None,
    }
}

/// The outside of an IP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes: an address of the same family.
    pub destination: IpAddr,
    /// What is in it.
    pub protocol: u8,
    /// TTL or hop limit.
    pub hops: u8,
    /// IPv4's "don't fragment".
    pub whole: bool,
    /// IPv4's identification, which fragments of it have in common.
    pub id: u16,
}

/// An IP packet without options around `upper`. The checksum of TCP, UDP, ICMP and ICMPv6, 0 in `upper`, is made right.
/// `None` if the families differ or it would be too long.
pub fn packet(envelope: &Envelope, upper: &[u8]) -> Option<Vec<u8>> {
    let &Envelope { source, destination, protocol, hops, whole, id } = envelope;
    let header = header_len(destination);
    let mut packet = vec![0; header];
    write_ip(&mut packet, source, destination, protocol, upper.len())?;
    packet.extend_from_slice(upper);
    if header == IPV4_HEADER {
        (packet[6], packet[8]) = (if whole { 0x40 } else { 0 }, hops);
        packet[4..6].copy_from_slice(&id.to_be_bytes());
        packet[10..12].fill(0);
        let sum = !fold(packet.get(..header)?, 0);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        packet[7] = hops;
    }
    let at = match protocol {
        TCP => 16,
        UDP => 6,
        ICMP | ICMPV6 => 2,
        _ => return Some(packet),
    };
    // Of the pseudo-header the addresses are those of the header, where they lie.
    let begin = match (protocol, header) {
        (ICMP, _) => header,
        (_, IPV4_HEADER) => 12,
        _ => 8,
    };
    let pseudo = if protocol == ICMP { 0 } else { u32::from(protocol) + upper.len() as u32 };
    let sum = match !fold(packet.get(begin..)?, pseudo) {
        0 if protocol == UDP => 0xffff,
        sum => sum,
    };
    packet.get_mut(header + at..header + at + 2)?.copy_from_slice(&sum.to_be_bytes());
    Some(packet)
}

/// The ones' complement sum of `bytes` and `sum` (RFC 1071).
fn fold(bytes: &[u8], mut sum: u32) -> u16 {
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Whether a TCP segment or UDP datagram holds what its checksum says.
pub(crate) fn sum_is_right(ip: &Ip<'_>) -> bool {
    let (source, destination): (IpAddress, IpAddress) = (ip.source.into(), ip.destination.into());
    match ip.protocol {
        TCP => TcpPacket::new_checked(ip.upper).is_ok_and(|tcp| tcp.verify_checksum(&source, &destination)),
        UDP => UdpPacket::new_checked(ip.upper).is_ok_and(|udp| {
            // RFC 8200 §8.1: no sum is no option over IPv6.
            (ip.source.is_ipv4() || udp.checksum() != 0) && udp.verify_checksum(&source, &destination)
        }),
        _ => false,
    }
}

/// The header fields of a TCP segment that decide where it goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) from: u16,
    pub(crate) to: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) window: u16,
    flags: u8,
    pub(crate) options: &'a [u8],
    pub(crate) payload: &'a [u8],
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

impl<'a> Segment<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let &[f0, f1, t0, t1, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, w0, w1, ..] = bytes else {
            return None;
        };
        let header = usize::from(offset >> 4) * 4;
        Some(Self {
            from: u16::from_be_bytes([f0, f1]),
            to: u16::from_be_bytes([t0, t1]),
            seq: u32::from_be_bytes([s0, s1, s2, s3]),
            ack: u32::from_be_bytes([a0, a1, a2, a3]),
            window: u16::from_be_bytes([w0, w1]),
            flags,
            options: bytes.get(20..header)?,
            payload: bytes.get(header..)?,
        })
    }

    pub(crate) fn is_syn(&self) -> bool {
        self.flags & SYN != 0
    }

    pub(crate) fn is_fin(&self) -> bool {
        self.flags & FIN != 0
    }

    pub(crate) fn is_rst(&self) -> bool {
        self.flags & RST != 0
    }

    pub(crate) fn is_ack(&self) -> bool {
        self.flags & ACK != 0
    }

    /// Numbers it takes of the sequence space.
    pub(crate) fn len(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.is_syn()) + u32::from(self.is_fin())
    }
}

/// The flags byte without FIN and PSH, for all but the last piece of a segment that is taken in pieces.
pub(crate) fn continued(flags: u8) -> u8 {
    flags & !(FIN | PSH)
}

/// A segment with nothing in it.
pub(crate) fn bare(flow: &Flow) -> TcpRepr<'static> {
    TcpRepr {
        src_port: flow.local.port(),
        dst_port: flow.remote.port(),
        control: TcpControl::None,
        seq_number: TcpSeqNumber(0),
        ack_number: None,
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smoltcp::wire::{Icmpv4Packet, Icmpv6Packet, Ipv4Packet};

    proptest! {
        #[test]
        fn packets_have_the_checksums_that_others_expect(
            six: bool,
            protocol in prop::sample::select(vec![TCP, UDP, ICMP, ICMPV6, 89]),
            hops: u8,
            whole: bool,
            payload in prop::collection::vec(any::<u8>(), 20..300),
        ) {
            let end = |last: u8| match six {
                true => IpAddr::from([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, last]),
                false => IpAddr::from([192, 0, 2, last]),
            };
            let (source, destination) = (end(1), end(2));
            let mut upper = payload;
            match protocol {
                TCP => { upper[12] = 5 << 4; upper[16..18].fill(0); }
                UDP => { let len = (upper.len() as u16).to_be_bytes(); upper[4..6].copy_from_slice(&len); upper[6..8].fill(0); }
                ICMP | ICMPV6 => { upper[0] = if protocol == ICMP { 8 } else { 128 }; upper[2..4].fill(0); }
                _ => {}
            }
            let bytes = packet(&Envelope { source, destination, protocol, hops, whole, id: 7 }, &upper).unwrap();
            let ip = Ip::parse(&bytes).unwrap();
            prop_assert_eq!((ip.source, ip.destination, ip.protocol), (source, destination, protocol));
            if !six {
                let ip = Ipv4Packet::new_checked(&bytes).unwrap();
                prop_assert!(ip.verify_checksum());
                prop_assert_eq!((ip.hop_limit(), ip.dont_frag()), (hops, whole));
            }
            match (protocol, source, destination) {
                (TCP | UDP, ..) => prop_assert!(sum_is_right(&ip)),
                (ICMP, ..) => prop_assert!(Icmpv4Packet::new_checked(ip.upper).unwrap().verify_checksum()),
                (ICMPV6, IpAddr::V6(source), IpAddr::V6(destination)) => {
                    prop_assert!(Icmpv6Packet::new_checked(ip.upper).unwrap().verify_checksum(&source, &destination));
                }
                _ => prop_assert!(protocol == ICMPV6 || ip.upper == upper),
            }
        }

        #[test]
        fn takes_any_bytes(version in 0..3u8, bytes: Vec<u8>) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = [*first, *first & 15 | 0x40, *first & 15 | 0x60][usize::from(version)];
            }
            if let Some(ip) = Ip::parse(&bytes) {
                let _ = Segment::parse(ip.upper);
                sum_is_right(&ip);
            }
        }

        #[test]
        fn reads_what_it_writes(a: [u8; 16], b: [u8; 16], six: bool, payload in prop::collection::vec(any::<u8>(), 0..64)) {
            let address = |octets: [u8; 16]| match six {
                true => IpAddr::from(octets),
                false => IpAddr::from([octets[0], octets[1], octets[2], octets[3]]),
            };
            let mut packet = [0; 128];
            let header = write_ip(&mut packet, address(a), address(b), UDP, payload.len()).unwrap();
            packet[header..header + payload.len()].copy_from_slice(&payload);
            let ip = Ip::parse(&packet[..header + payload.len()]);
            if payload.is_empty() { return Ok(()); }
            let ip = ip.unwrap();
            prop_assert_eq!((ip.source, ip.destination, ip.protocol, ip.upper), (address(a), address(b), UDP, &payload[..]));
        }
    }
}
