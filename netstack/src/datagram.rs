//! Where an IP datagram begins and ends within a packet, for the stages that rewrite or quote it.

use core::net::{Ipv4Addr, Ipv6Addr};
use weir_netif::Packet;

/// Bytes of an IPv4 header without options.
pub(crate) const IPV4_HEADER: usize = 20;
/// Bytes of the fixed IPv6 header.
pub(crate) const IPV6_HEADER: usize = 40;

/// An IPv4 datagram whose header lies in the first segment and whose end lies in the packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ipv4<'a> {
    fixed: &'a [u8; IPV4_HEADER],
    /// Bytes of the header, with options.
    pub(crate) header: usize,
    /// Bytes of the whole datagram; the packet may be longer by padding.
    pub(crate) total: usize,
}

impl<'a> Ipv4<'a> {
    /// `None` if version, lengths and bytes contradict each other. A total length of 0 on a super-packet stands for
    /// all bytes there are: those past 65 535 have no other way to say so.
    #[inline]
    pub(crate) fn parse(packet: &'a Packet, l3_offset: usize) -> Option<Self> {
        let rest = packet.data().get(l3_offset..)?;
        let fixed = rest.first_chunk::<IPV4_HEADER>()?;
        let [version_ihl, _, high, low, ..] = *fixed;
        let header = usize::from(version_ihl & 15) * 4;
        let available = packet.len() - l3_offset;
        let total = match usize::from(u16::from_be_bytes([high, low])) {
            0 if packet.meta().gso.is_some() => available,
            total => total,
        };
        let sound = version_ihl >> 4 == 4
            && (IPV4_HEADER..=rest.len()).contains(&header)
            && (header..=available).contains(&total);
        sound.then_some(Self { fixed, header, total })
    }

    pub(crate) fn id(&self) -> u16 {
        let [_, _, _, _, high, low, ..] = *self.fixed;
        u16::from_be_bytes([high, low])
    }

    /// The flags (top three bits) and the fragment offset in units of eight bytes.
    pub(crate) fn flags_offset(&self) -> u16 {
        let [_, _, _, _, _, _, high, low, ..] = *self.fixed;
        u16::from_be_bytes([high, low])
    }

    pub(crate) fn ttl(&self) -> u8 {
        let [_, _, _, _, _, _, _, _, ttl, ..] = *self.fixed;
        ttl
    }

    pub(crate) fn protocol(&self) -> u8 {
        let [_, _, _, _, _, _, _, _, _, protocol, ..] = *self.fixed;
        protocol
    }

    pub(crate) fn checksum(&self) -> u16 {
        let [_, _, _, _, _, _, _, _, _, _, high, low, ..] = *self.fixed;
        u16::from_be_bytes([high, low])
    }

    pub(crate) fn source(&self) -> Ipv4Addr {
        let [.., a, b, c, d, _, _, _, _] = *self.fixed;
        Ipv4Addr::new(a, b, c, d)
    }

    pub(crate) fn destination(&self) -> Ipv4Addr {
        let [.., a, b, c, d] = *self.fixed;
        Ipv4Addr::new(a, b, c, d)
    }
}

/// An IPv6 datagram whose fixed header lies in the first segment and whose end lies in the packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ipv6<'a> {
    fixed: &'a [u8; IPV6_HEADER],
    /// Bytes of the whole datagram; the packet may be longer by padding.
    pub(crate) total: usize,
}

impl<'a> Ipv6<'a> {
    /// `None` if version, length and bytes contradict each other. A payload length of 0 on a super-packet is as in
    /// [`Ipv4::parse`].
    #[inline]
    pub(crate) fn parse(packet: &'a Packet, l3_offset: usize) -> Option<Self> {
        let fixed = packet.data().get(l3_offset..)?.first_chunk::<IPV6_HEADER>()?;
        let [version, _, _, _, high, low, ..] = *fixed;
        let available = packet.len() - l3_offset;
        let total = match usize::from(u16::from_be_bytes([high, low])) {
            0 if packet.meta().gso.is_some() => available,
            payload => IPV6_HEADER + payload,
        };
        (version >> 4 == 6 && total <= available).then_some(Self { fixed, total })
    }

    pub(crate) fn traffic_class(&self) -> u8 {
        let [version_class, class_flow, ..] = *self.fixed;
        version_class << 4 | class_flow >> 4
    }

    pub(crate) fn source(&self) -> Ipv6Addr {
        let source = self.fixed.get(8..).and_then(|rest| rest.first_chunk::<16>());
        source.map_or(Ipv6Addr::UNSPECIFIED, |octets| Ipv6Addr::from(*octets))
    }

    pub(crate) fn destination(&self) -> Ipv6Addr {
        self.fixed.last_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |octets| Ipv6Addr::from(*octets))
    }
}

/// The array at `offset` of the first segment, to write.
#[inline]
pub(crate) fn field<const N: usize>(packet: &mut Packet, offset: usize) -> Option<&mut [u8; N]> {
    packet.data_mut().get_mut(offset..)?.first_chunk_mut()
}
