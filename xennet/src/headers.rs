//! Where a frame's transport checksum lies. netif, unlike virtio, does not say: each side finds it in the headers.

use weir_netif::GsoKind;

const ETHERNET: usize = 14;
const VLAN_TAG: usize = 4;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const IPV4: usize = 20;
const IPV6: usize = 40;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// IPv6 extension headers that may stand between (RFC 8200 §4.1); fragments carry no whole checksum.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;
/// How many of them are looked through.
const EXTENSIONS: usize = 8;

/// The network protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    V4,
    V6,
}

/// A TCP or UDP header in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Transport {
    /// Whether the frame has a VLAN tag.
    pub(crate) tagged: bool,
    pub(crate) family: Family,
    /// First byte of the network header, from the frame's.
    network: usize,
    /// First byte of the transport header.
    pub(crate) start: usize,
    /// From there to the checksum field.
    pub(crate) offset: usize,
    pub(crate) is_tcp: bool,
    /// Bytes from `start` to the packet's end, as the network header counts them.
    pub(crate) len: usize,
}

impl Transport {
    /// Finds it in the first bytes of a frame; `None` in what is neither TCP nor UDP, in fragments, and where the bytes
    /// end before its checksum field.
    pub(crate) fn find(frame: &[u8]) -> Option<Transport> {
        let mut network = ETHERNET;
        let mut kind = u16_at(frame, ETHERNET - 2)?;
        for _ in 0..2 {
            if !matches!(kind, ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN) {
                break;
            }
            kind = u16_at(frame, network + 2)?;
            network += VLAN_TAG;
        }
        let (family, start, protocol, end) = match kind {
            ETHERTYPE_IPV4 => {
                let (start, protocol, end) = ipv4(frame, network)?;
                (Family::V4, start, protocol, end)
            }
            ETHERTYPE_IPV6 => {
                let (start, protocol, end) = ipv6(frame, network)?;
                (Family::V6, start, protocol, end)
            }
            _ => return None,
        };
        let (offset, is_tcp) = match protocol {
            TCP => (16, true),
            UDP => (6, false),
            _ => return None,
        };
        frame.get(start + offset..start + offset + 2)?;
        let len = end.checked_sub(start)?;
        Some(Transport { tagged: network != ETHERNET, family, network, start, offset, is_tcp, len })
    }

    /// Whether this is what a super-packet of `kind` begins with.
    pub(crate) fn fits(&self, kind: GsoKind) -> bool {
        let family = match kind {
            GsoKind::Tcp4 => Family::V4,
            GsoKind::Tcp6 => Family::V6,
        };
        self.is_tcp && self.family == family
    }

    /// Whether the TCP header has CWR set (RFC 3168 §6.1.2).
    pub(crate) fn has_cwr(&self, frame: &[u8]) -> bool {
        self.is_tcp && frame.get(self.start + 13).is_some_and(|flags| flags & 0x80 != 0)
    }

    /// The sum over the pseudo-header, folded, as it stands in the field of a partial checksum (RFC 9293 §3.1, RFC 8200
    /// §8.1). The length is that of the headers: segmentation corrects it.
    pub(crate) fn pseudo_header(&self, frame: &[u8]) -> Option<u16> {
        let addresses = match self.family {
            Family::V4 => frame.get(self.network + 12..self.network + 20)?,
            Family::V6 => frame.get(self.network + 8..self.network + 40)?,
        };
        let mut sum = Sum::default();
        sum.add(addresses);
        sum.add(&[0, if self.is_tcp { TCP } else { UDP }]);
        let [.., a, b, c, d] = (self.len as u64).to_be_bytes();
        sum.add(&[a, b, c, d]);
        Some(sum.folded())
    }
}

fn ipv4(frame: &[u8], at: usize) -> Option<(usize, u8, usize)> {
    let header: &[u8; IPV4] = frame.get(at..)?.first_chunk()?;
    let words = header[0] & 0xf;
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
    if header[0] >> 4 != 4 || words < 5 || fragment != 0 {
        return None;
    }
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    Some((at + usize::from(words) * 4, header[9], at + total))
}

fn ipv6(frame: &[u8], at: usize) -> Option<(usize, u8, usize)> {
    let header: &[u8; IPV6] = frame.get(at..)?.first_chunk()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let end = at + IPV6 + usize::from(u16::from_be_bytes([header[4], header[5]]));
    let (mut next, mut start) = (header[6], at + IPV6);
    for _ in 0..EXTENSIONS {
        if !matches!(next, HOP_BY_HOP | ROUTING | DESTINATION) {
            break;
        }
        let [follows, len, ..] = *frame.get(start..)?.first_chunk::<8>()?;
        (next, start) = (follows, start + (usize::from(len) + 1) * 8);
    }
    Some((start, next, end))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|pair| u16::from_be_bytes(*pair))
}

/// The Internet checksum over pieces of any length (RFC 1071).
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Sum {
    sum: u64,
    /// Whether an odd number of bytes was added.
    odd: bool,
}

impl Sum {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        if self.odd
            && let Some((&first, rest)) = bytes.split_first()
        {
            self.sum += u64::from(first);
            self.odd = false;
            bytes = rest;
        }
        let (pairs, rest) = bytes.as_chunks::<2>();
        self.sum += pairs.iter().map(|&pair| u64::from(u16::from_be_bytes(pair))).sum::<u64>();
        if let [last] = *rest {
            self.sum += u64::from(last) << 8;
            self.odd = true;
        }
    }

    /// The sum in 16 bits, not complemented.
    pub(crate) fn folded(self) -> u16 {
        let mut sum = self.sum;
        while sum >> 16 != 0 {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        // Folded to 16 bits above.
        sum as u16
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// A TCP or UDP frame over IPv4 or IPv6 with `payload` bytes, and the pseudo-header's sum in its checksum field.
    pub(crate) fn frame(family: Family, is_tcp: bool, tags: usize, payload: &[u8]) -> Vec<u8> {
        let mut frame = std::vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
        for _ in 0..tags {
            frame.extend([0x81, 0, 0, 7]);
        }
        let header = if is_tcp { 20 } else { 8 };
        let len = (header + payload.len()) as u16;
        let protocol = if is_tcp { TCP } else { UDP };
        match family {
            Family::V4 => {
                frame.extend([8, 0, 0x45, 0]);
                frame.extend((20 + len).to_be_bytes());
                frame.extend([0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 1, 9]);
            }
            Family::V6 => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend(len.to_be_bytes());
                frame.extend([protocol, 64]);
                frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
                frame.extend([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
            }
        }
        let start = frame.len();
        frame.resize(start + header, 0x11);
        if is_tcp {
            frame[start + 12] = 0x50;
            frame[start + 13] = 0x10;
        }
        let offset = if is_tcp { 16 } else { 6 };
        frame[start + offset..start + offset + 2].fill(0);
        frame.extend(payload);
        let found = Transport::find(&frame).unwrap();
        assert_eq!((found.start, found.offset, found.len), (start, offset, len.into()));
        let sum = found.pseudo_header(&frame).unwrap();
        frame[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    #[test]
    fn finds_tcp_and_udp_behind_tags_and_in_both_families() {
        for family in [Family::V4, Family::V6] {
            for is_tcp in [false, true] {
                for tags in 0..3 {
                    let frame = frame(family, is_tcp, tags, b"payload");
                    let found = Transport::find(&frame).unwrap();
                    assert_eq!((found.family, found.is_tcp, found.tagged), (family, is_tcp, tags != 0));
                    assert_eq!(found.fits(GsoKind::Tcp4), is_tcp && family == Family::V4);
                    assert_eq!(found.fits(GsoKind::Tcp6), is_tcp && family == Family::V6);
                    assert!(Transport::find(&frame[..found.start + found.offset + 1]).is_none(), "cut short");
                }
            }
        }
    }

    #[test]
    fn looks_through_extension_headers_and_not_into_fragments() {
        let plain = frame(Family::V6, true, 0, b"x");
        let mut extended = plain[..54].to_vec();
        extended[18..20].copy_from_slice(&(21 + 24_u16).to_be_bytes());
        extended[20] = HOP_BY_HOP;
        extended.extend([DESTINATION, 0, 1, 4, 0, 0, 0, 0]);
        extended.extend([TCP, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        extended.extend(&plain[54..]);
        assert_eq!(Transport::find(&extended).unwrap().start, 54 + 24);
        extended[54] = 44;
        assert!(Transport::find(&extended).is_none());
        for (byte, bits) in [(20, 0x20), (20, 0x1f), (21, 1)] {
            let mut fragment = frame(Family::V4, true, 0, b"x");
            fragment[byte] |= bits;
            assert!(Transport::find(&fragment).is_none());
        }
        let mut unfragmented = frame(Family::V4, true, 0, b"x");
        unfragmented[20] |= 0x40;
        assert!(Transport::find(&unfragmented).is_some(), "DF");
    }

    proptest! {
        /// Whatever the bytes, what is found lies in them.
        #[test]
        fn what_is_found_lies_in_the_frame(bytes in proptest::collection::vec(any::<u8>(), 0..120), like in 0usize..3) {
            let mut bytes = bytes;
            if bytes.len() > 15 && like != 0 {
                let (kind, version) = if like == 1 { ([8, 0], 0x45) } else { ([0x86, 0xdd], 0x60) };
                bytes[12..14].copy_from_slice(&kind);
                bytes[14] = version;
            }
            if let Some(found) = Transport::find(&bytes) {
                prop_assert!(found.start + found.offset + 2 <= bytes.len());
                prop_assert!(found.pseudo_header(&bytes).is_some());
            }
        }

        #[test]
        fn sums_do_not_care_about_pieces(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200, more in 0usize..50) {
            let (cut, mut whole, mut pieces) = (cut.min(bytes.len()), Sum::default(), Sum::default());
            whole.add(&bytes);
            let (first, rest) = bytes.split_at(cut);
            let (second, third) = rest.split_at(more.min(rest.len()));
            [first, second, third].iter().for_each(|piece| pieces.add(piece));
            prop_assert_eq!(whole.folded(), pieces.folded());
        }
    }
}
