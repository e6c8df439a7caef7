//! IP packets in and out: where TCP and UDP begin, whose flow it is, headers and sums of what is sent.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use smoltcp::wire::{IpAddress, TcpPacket, UdpPacket};
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

/// Two ends of a conversation, this side first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Flow {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    proptest! {
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
