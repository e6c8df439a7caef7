//! Ethernet II framing (RFC 894, RFC 2464): which frames are for us, and what is in them; VLAN tags (IEEE 802.1Q).

use weir_netif::{Checksum, Drop, Packet};

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
/// Tag protocol identifier of a VLAN tag (IEEE 802.1Q §9.6).
pub const VLAN: u16 = 0x8100;
/// Tag protocol identifier of a service provider's tag (IEEE 802.1ad).
const SERVICE_VLAN: u16 = 0x88a8;
/// Bytes of a tag, between the addresses and the EtherType.
pub const TAG: usize = 4;
/// The bits of a tag's control information that name the VLAN; the others are its priority.
pub const VLAN_ID: u16 = 0xfff;
/// Bytes of both addresses.
const ADDRESSES: usize = 12;

/// What a frame carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// RFC 791.
    Ipv4,
    /// RFC 8200.
    Ipv6,
    /// RFC 826.
    Arp,
    /// What is behind a VLAN tag, in the frame or taken out of it.
    Tagged,
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
        return Ok((Payload::Tagged, cast));
    }
    Ok((payload(u16::from_be_bytes([high, low]))?, cast))
}

/// A station address as [`is_for`] wants it.
#[inline]
pub fn station(mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_le_bytes([0, 0, a, b, c, d, e, f])
}

/// Whether [`input`] lets a frame pass as one to the station itself. Without a branch.
#[inline(always)]
pub fn is_for(header: &[u8; HEADER], station: u64) -> bool {
    let &[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = header;
    let to = u64::from_le_bytes([d0, d1, d2, d3, d4, d5, s0, s1]) << 16;
    let from = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, t0, t1]);
    (to == station) & (from & 1 == 0) & (from << 16 != station)
}

/// Whether there is a VLAN tag in a frame's bytes, or one was taken out of them.
#[inline]
pub fn is_tagged(packet: &Packet) -> bool {
    packet.meta().vlan != 0 || kind(packet.data()) == Some(VLAN)
}

/// What an EtherType says.
#[inline]
pub fn payload(kind: u16) -> Result<Payload, Drop> {
    match kind {
        IPV4 => Ok(Payload::Ipv4),
        IPV6 => Ok(Payload::Ipv6),
        ARP => Ok(Payload::Arp),
        VLAN => Ok(Payload::Tagged),
        SERVICE_VLAN => Err(Drop::EthernetStackedVlan),
        _ => Err(Drop::EthernetUnknownType),
    }
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

/// Takes the VLAN tag out of a frame and returns its control information; a partial checksum moves along. `None`, and
/// nothing done, if there is no whole tag with an EtherType behind it in the first segment.
pub fn untag(packet: &mut Packet) -> Option<u16> {
    let bytes = packet.data_mut().first_chunk_mut::<{ HEADER + TAG }>()?;
    let &mut [.., t0, t1, c0, c1, _, _] = bytes;
    if u16::from_be_bytes([t0, t1]) != VLAN {
        return None;
    }
    bytes.copy_within(..ADDRESSES, TAG);
    let _ = packet.pull(TAG);
    if let Checksum::Partial { start, .. } = &mut packet.meta_mut().checksum {
        // One that lay within the tag lies before any IP header still, where none is completed.
        *start = start.saturating_sub(TAG as u16);
    }
    Some(u16::from_be_bytes([c0, c1]))
}

/// Puts the tag of a VLAN into a frame, with priority 0; a partial checksum moves along. `false`, and nothing done, without
/// headroom or a whole header.
pub fn tag(packet: &mut Packet, vlan: u16) -> bool {
    if packet.data().len() < HEADER || packet.push(TAG).is_none() {
        return false;
    }
    if let Some(bytes) = packet.data_mut().first_chunk_mut::<{ HEADER + TAG }>() {
        bytes.copy_within(TAG..TAG + ADDRESSES, 0);
        let [.., t0, t1, c0, c1, _, _] = bytes;
        [*t0, *t1] = VLAN.to_be_bytes();
        [*c0, *c1] = vlan.to_be_bytes();
    }
    if let Checksum::Partial { start, .. } = &mut packet.meta_mut().checksum {
        *start = start.saturating_add(TAG as u16);
    }
    true
}

/// The VLAN of a frame with a tag, in its bytes or taken out of them; 0 if it has none.
pub fn vlan(packet: &Packet) -> u16 {
    let beside = packet.meta().vlan & VLAN_ID;
    match packet.data().first_chunk::<{ HEADER + 2 }>() {
        Some(&[.., t0, t1, c0, c1]) if beside == 0 && u16::from_be_bytes([t0, t1]) == VLAN => {
            u16::from_be_bytes([c0, c1]) & VLAN_ID
        }
        _ => beside,
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
