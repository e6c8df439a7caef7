//! `struct virtio_net_hdr` (virtio 1.2 §5.1.6) and what it means as a packet's metadata.

use crate::violation::Violation;
use virtio_spec::net::{F, HdrF, HdrGso};
use weir_netif::{Checksum, Gso, GsoKind, Meta, Packet};

/// Bytes of it, the same for every modern device without hash reports.
pub(super) const LEN: usize = 12;

const NEEDS_CSUM: u8 = HdrF::NEEDS_CSUM.bits();
const DATA_VALID: u8 = HdrF::DATA_VALID.bits();
const GSO_NONE: u8 = HdrGso::None as u8;
const GSO_TCP4: u8 = HdrGso::Tcpv4 as u8;
const GSO_TCP6: u8 = HdrGso::Tcpv6 as u8;
const GSO_UDP: u8 = HdrGso::Udp as u8;
const GSO_UDP_L4: u8 = HdrGso::UdpL4 as u8;
const GSO_ECN: u8 = HdrGso::Ecn as u8;

/// The header's fields, in native order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Header {
    pub(super) flags: u8,
    pub(super) gso_type: u8,
    pub(super) hdr_len: u16,
    pub(super) gso_size: u16,
    pub(super) csum_start: u16,
    pub(super) csum_offset: u16,
    pub(super) num_buffers: u16,
}

impl Header {
    /// Takes the fields out of a copy of the bytes.
    #[inline]
    pub(super) fn from_bytes(bytes: [u8; LEN]) -> Self {
        let [flags, gso_type, a, b, c, d, e, f, g, h, i, j] = bytes;
        Self {
            flags,
            gso_type,
            hdr_len: u16::from_le_bytes([a, b]),
            gso_size: u16::from_le_bytes([c, d]),
            csum_start: u16::from_le_bytes([e, f]),
            csum_offset: u16::from_le_bytes([g, h]),
            num_buffers: u16::from_le_bytes([i, j]),
        }
    }

    /// The bytes.
    #[inline]
    pub(super) fn to_bytes(self) -> [u8; LEN] {
        let [a, b] = self.hdr_len.to_le_bytes();
        let [c, d] = self.gso_size.to_le_bytes();
        let [e, f] = self.csum_start.to_le_bytes();
        let [g, h] = self.csum_offset.to_le_bytes();
        let [i, j] = self.num_buffers.to_le_bytes();
        [self.flags, self.gso_type, a, b, c, d, e, f, g, h, i, j]
    }

    /// What it says about a received frame whose first buffer holds `room` bytes of it: checksum and segmentation.
    /// `hdr_len` is a hint and not believed; flags that nobody knows are ignored (§5.1.6.4.2).
    #[inline]
    pub(super) fn received(&self, features: F, room: usize) -> Result<(Checksum, Option<Gso>), Violation> {
        if self.flags & (NEEDS_CSUM | DATA_VALID) == 0 && self.gso_type == GSO_NONE {
            return Ok((Checksum::Unknown, None));
        }
        let checksum = self.received_checksum(features, room)?;
        Ok((checksum, self.received_gso(features, checksum)?))
    }

    fn received_checksum(&self, features: F, room: usize) -> Result<Checksum, Violation> {
        if self.flags & (NEEDS_CSUM | DATA_VALID) == 0 {
            return Ok(Checksum::Unknown);
        }
        if !features.contains(F::GUEST_CSUM) {
            return Err(Violation::RxChecksumNotNegotiated);
        }
        if self.flags & NEEDS_CSUM == 0 {
            return Ok(Checksum::Verified);
        }
        let (start, offset) = (usize::from(self.csum_start), usize::from(self.csum_offset));
        if start >= room {
            return Err(Violation::RxChecksumStartBeyondFrame);
        }
        if start + offset + 2 > room {
            return Err(Violation::RxChecksumOffsetBeyondFrame);
        }
        Ok(Checksum::Partial { start: self.csum_start, offset: self.csum_offset })
    }

    fn received_gso(&self, features: F, checksum: Checksum) -> Result<Option<Gso>, Violation> {
        let ecn = self.gso_type & GSO_ECN != 0;
        let (kind, needed) = match self.gso_type & !GSO_ECN {
            GSO_NONE if !ecn => return Ok(None),
            GSO_TCP4 => (GsoKind::Tcp4, F::GUEST_TSO4),
            GSO_TCP6 => (GsoKind::Tcp6, F::GUEST_TSO6),
            // Specified, but never asked for here.
            GSO_UDP | GSO_UDP_L4 => return Err(Violation::RxGsoNotNegotiated),
            _ => return Err(Violation::RxGsoUnknown),
        };
        if !features.contains(needed) || ecn && !features.contains(F::GUEST_ECN) {
            return Err(Violation::RxGsoNotNegotiated);
        }
        if self.gso_size == 0 {
            return Err(Violation::RxGsoSizeZero);
        }
        // §5.1.6.4.1: with a segmentation type comes NEEDS_CSUM.
        if !matches!(checksum, Checksum::Partial { .. }) {
            return Err(Violation::RxGsoWithoutChecksum);
        }
        Ok(Some(Gso { kind, size: self.gso_size, ecn }))
    }

    /// The header to send `packet` with; `None` if its metadata asks for what was not negotiated or makes no sense.
    #[inline]
    pub(super) fn transmitted(features: F, packet: &Packet) -> Option<Self> {
        let Meta { checksum, gso, .. } = *packet.meta();
        let Checksum::Partial { start, offset } = checksum else {
            return gso.is_none().then(Self::default);
        };
        if !features.contains(F::CSUM) {
            return None;
        }
        let mut header =
            Self { flags: NEEDS_CSUM, csum_start: start, csum_offset: offset, ..Self::default() };
        if let Some(gso) = gso {
            header.set_gso(features, gso, packet.data())?;
        }
        Some(header)
    }

    fn set_gso(&mut self, features: F, gso: Gso, frame: &[u8]) -> Option<()> {
        let (kind, needed) = match gso.kind {
            GsoKind::Tcp4 => (GSO_TCP4, F::HOST_TSO4),
            GsoKind::Tcp6 => (GSO_TCP6, F::HOST_TSO6),
        };
        if !features.contains(needed) || gso.ecn && !features.contains(F::HOST_ECN) || gso.size == 0 {
            return None;
        }
        self.gso_type = if gso.ecn { kind | GSO_ECN } else { kind };
        self.gso_size = gso.size;
        // §5.1.6.2.1: the bytes of all headers, transport's included. TCP's data offset counts words (RFC 9293 §3.1).
        let data_offset = frame.get(usize::from(self.csum_start) + 12)? >> 4;
        self.hdr_len = self.csum_start.checked_add(u16::from(data_offset) * 4)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all() -> F {
        F::GUEST_CSUM | F::GUEST_TSO4 | F::GUEST_TSO6 | F::GUEST_ECN
    }

    fn gso() -> Header {
        let (csum_start, csum_offset) = (34, 16);
        Header {
            flags: NEEDS_CSUM,
            gso_type: GSO_TCP4,
            gso_size: 1448,
            csum_start,
            csum_offset,
            ..Header::default()
        }
    }

    #[test]
    fn understands_what_linux_sends() {
        assert_eq!(Header::default().received(F::empty(), 60), Ok((Checksum::Unknown, None)));
        let verified = Header { flags: DATA_VALID, ..Header::default() };
        assert_eq!(verified.received(all(), 60), Ok((Checksum::Verified, None)));
        let partial = Checksum::Partial { start: 34, offset: 16 };
        let expected = Gso { kind: GsoKind::Tcp4, size: 1448, ecn: false };
        assert_eq!(gso().received(all(), 1500), Ok((partial, Some(expected))));
        let ecn = Header { gso_type: GSO_TCP6 | GSO_ECN, ..gso() };
        let expected = Gso { kind: GsoKind::Tcp6, size: 1448, ecn: true };
        assert_eq!(ecn.received(all(), 1500), Ok((partial, Some(expected))));
    }

    #[test]
    fn the_checksum_field_must_lie_in_the_frame() {
        let header = Header { flags: NEEDS_CSUM, csum_start: 34, csum_offset: 16, ..Header::default() };
        assert!(header.received(all(), 52).is_ok());
        assert_eq!(header.received(all(), 51), Err(Violation::RxChecksumOffsetBeyondFrame));
        assert_eq!(header.received(all(), 34), Err(Violation::RxChecksumStartBeyondFrame));
        let huge = Header { csum_start: u16::MAX, csum_offset: u16::MAX, ..header };
        assert_eq!(huge.received(all(), 1600), Err(Violation::RxChecksumStartBeyondFrame));
        assert_eq!(huge.received(all(), 65536), Err(Violation::RxChecksumOffsetBeyondFrame));
    }

    #[test]
    fn every_other_lie_has_its_name() {
        let refused = |header: Header, features| header.received(features, 1500).unwrap_err();
        assert_eq!(refused(gso(), F::empty()), Violation::RxChecksumNotNegotiated);
        assert_eq!(refused(gso(), F::GUEST_CSUM), Violation::RxGsoNotNegotiated);
        let ecn = Header { gso_type: GSO_TCP4 | GSO_ECN, ..gso() };
        assert_eq!(refused(ecn, all() - F::GUEST_ECN), Violation::RxGsoNotNegotiated);
        assert_eq!(refused(Header { gso_type: GSO_UDP, ..gso() }, all()), Violation::RxGsoNotNegotiated);
        assert_eq!(refused(Header { gso_type: 0x33, ..gso() }, all()), Violation::RxGsoUnknown);
        assert_eq!(refused(Header { gso_type: GSO_ECN, ..gso() }, all()), Violation::RxGsoUnknown);
        assert_eq!(refused(Header { gso_size: 0, ..gso() }, all()), Violation::RxGsoSizeZero);
        assert_eq!(refused(Header { flags: 0, ..gso() }, all()), Violation::RxGsoWithoutChecksum);
        assert_eq!(refused(Header { flags: DATA_VALID, ..gso() }, all()), Violation::RxGsoWithoutChecksum);
    }

    proptest! {
        #[test]
        fn bytes_and_fields_are_the_same(bytes: [u8; LEN]) {
            prop_assert_eq!(Header::from_bytes(bytes).to_bytes(), bytes);
        }

        /// Whatever the device writes, what is believed lies in the frame.
        #[test]
        fn what_is_believed_is_in_the_frame(bytes: [u8; LEN], room in 0usize..2048, known: bool) {
            let features = if known { all() } else { F::empty() };
            if let Ok((checksum, gso)) = Header::from_bytes(bytes).received(features, room) {
                if let Checksum::Partial { start, offset } = checksum {
                    prop_assert!(usize::from(start) + usize::from(offset) + 2 <= room);
                }
                prop_assert!(gso.is_none_or(|gso| gso.size != 0 && checksum != Checksum::Unknown));
            }
        }
    }
}
