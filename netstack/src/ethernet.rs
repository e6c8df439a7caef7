//! Ethernet II framing (RFC 894, RFC 2464): which frames are for us, and what is in them.

use weir_netif::{Drop, Packet};

/// Bytes of the header.
pub const HEADER: usize = 14;
/// Everybody on the link.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherTypes of VLAN tags (IEEE 802.1Q, 802.1ad).
const TAGS: [u16; 2] = [0x8100, 0x88a8];

/// What a frame carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// RFC 791.
    Ipv4,
    /// RFC 8200.
    Ipv6,
    /// RFC 826.
    Arp,
}

/// To whom a frame was sent on its link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cast {
    /// To one station.
    Unicast,
    /// To a group, or to all.
    Group,
}

/// Sorts a received frame. `mac` is the station address of the interface it came in by.
#[inline]
pub fn input(packet: &Packet, mac: [u8; 6]) -> Result<(Payload, Cast), Drop> {
    let header = packet.data().first_chunk::<HEADER>().ok_or(Drop::EthernetTruncated)?;
    let &[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, high, low] = header;
    let cast = if [d0, d1, d2, d3, d4, d5] == mac {
        Cast::Unicast
    } else if d0 & 1 != 0 {
        Cast::Group
    } else {
        return Err(Drop::EthernetNotForUs);
    };
    if s0 & 1 != 0 {
        return Err(Drop::EthernetSourceGroup);
    }
    if [s0, s1, s2, s3, s4, s5] == mac {
        return Err(Drop::EthernetOwnSource);
    }
    if packet.meta().vlan != 0 {
        return Err(Drop::EthernetUnknownVlan);
    }
    let payload = match u16::from_be_bytes([high, low]) {
        IPV4 => Payload::Ipv4,
        IPV6 => Payload::Ipv6,
        ARP => Payload::Arp,
        tag if TAGS.contains(&tag) => return Err(Drop::EthernetUnknownVlan),
        _ => return Err(Drop::EthernetUnknownType),
    };
    Ok((payload, cast))
}

/// A header.
pub fn header(to: [u8; 6], from: [u8; 6], kind: u16) -> [u8; HEADER] {
    let [d0, d1, d2, d3, d4, d5] = to;
    let [s0, s1, s2, s3, s4, s5] = from;
    let [high, low] = kind.to_be_bytes();
    [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, high, low]
}

/// Replaces both addresses of a frame; a frame without a whole header stays as it is.
#[inline]
pub fn readdress(packet: &mut Packet, to: [u8; 6], from: [u8; 6]) {
    let [d0, d1, d2, d3, d4, d5] = to;
    let [s0, s1, s2, s3, s4, s5] = from;
    if let Some(addresses) = packet.data_mut().first_chunk_mut::<12>() {
        *addresses = [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5];
    }
}

/// The EtherType of a frame.
#[inline]
pub fn kind(frame: &[u8]) -> Option<u16> {
    let &[.., high, low] = frame.first_chunk::<HEADER>()?;
    Some(u16::from_be_bytes([high, low]))
}

/// The sender of a frame.
pub fn source(frame: &[u8]) -> Option<[u8; 6]> {
    frame.get(6..)?.first_chunk().copied()
}
