//! What the rings carry (Xen `public/io/netif.h`): requests, responses and extra infos as words in native order.

/// `NETTXF_`: what a transmit request says of its packet.
pub(crate) mod tx {
    /// The checksum field holds the pseudo-header's sum only.
    pub(crate) const CHECKSUM_BLANK: u16 = 1;
    /// The checksum is right, or blank in a packet that was never on a wire.
    pub(crate) const DATA_VALIDATED: u16 = 1 << 1;
    /// The packet goes on in the next request.
    pub(crate) const MORE_DATA: u16 = 1 << 2;
    /// Extra info follows.
    pub(crate) const EXTRA_INFO: u16 = 1 << 3;
}

/// `NETRXF_`: what a receive response says of its frame.
pub(crate) mod rx {
    /// The checksum was verified.
    pub(crate) const DATA_VALIDATED: u16 = 1;
    /// The checksum field holds the pseudo-header's sum only.
    pub(crate) const CHECKSUM_BLANK: u16 = 1 << 1;
    /// The frame goes on in the next response.
    pub(crate) const MORE_DATA: u16 = 1 << 2;
    /// Extra info follows.
    pub(crate) const EXTRA_INFO: u16 = 1 << 3;
    /// The old way to announce segmentation.
    pub(crate) const GSO_PREFIX: u16 = 1 << 4;
}

/// `NETIF_RSP_`: what became of a request.
pub(crate) mod status {
    pub(crate) const DROPPED: i16 = -2;
    pub(crate) const ERROR: i16 = -1;
    pub(crate) const OKAY: i16 = 0;
    /// The slot held extra info.
    pub(crate) const NULL: i16 = 1;
}

/// `XEN_NETIF_EXTRA_TYPE_`.
pub(crate) mod extra {
    pub(crate) const GSO: u8 = 1;
    pub(crate) const MULTICAST_ADD: u8 = 2;
    pub(crate) const MULTICAST_DELETE: u8 = 3;
    pub(crate) const HASH: u8 = 4;
    /// One of Linux's own.
    pub(crate) const XDP: u8 = 5;
    /// `XEN_NETIF_EXTRA_FLAG_MORE`: another one follows.
    pub(crate) const FLAG_MORE: u8 = 1;
}

/// `XEN_NETIF_CTRL_HASH_`.
pub(crate) mod hash {
    pub(crate) const NONE: u32 = 0;
    pub(crate) const TOEPLITZ: u32 = 1;
    /// All types there are: IPv4, TCP over it, IPv6, TCP over it. UDP is hashed by its addresses.
    pub(crate) const ALL: u32 = 0xf;
    /// How many these are.
    pub(crate) const KINDS: u8 = 4;
}

/// `XEN_NETIF_CTRL_STATUS_`.
pub(crate) mod ctrl_status {
    pub(crate) const SUCCESS: u32 = 0;
    pub(crate) const NOT_SUPPORTED: u32 = 1;
    pub(crate) const INVALID_PARAMETER: u32 = 2;
    pub(crate) const BUFFER_OVERFLOW: u32 = 3;
}

/// `XEN_NETIF_CTRL_TYPE_`, those that are about the hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(crate) enum Ctrl {
    GetHashFlags = 1,
    SetHashFlags = 2,
    SetHashKey = 3,
    GetHashMappingSize = 4,
    SetHashMappingSize = 5,
    SetHashMapping = 6,
    SetHashAlgorithm = 7,
}

/// `xen_netif_ctrl_request`, four words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CtrlRequest {
    pub(crate) id: u16,
    pub(crate) kind: Ctrl,
    pub(crate) data: [u32; 3],
}

impl CtrlRequest {
    pub(crate) fn to_words(self) -> [u32; 4] {
        let [a, b, c] = self.data;
        [join(self.id, self.kind as u16), a, b, c]
    }
}

/// `xen_netif_ctrl_response`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CtrlResponse {
    pub(crate) id: u16,
    /// That of the request.
    pub(crate) kind: u16,
    pub(crate) status: u32,
    pub(crate) data: u32,
}

impl CtrlResponse {
    pub(crate) fn from_words([which, status, data, _]: [u32; 4]) -> Self {
        let (id, kind) = split(which);
        Self { id, kind, status, data }
    }

    #[cfg(test)]
    pub(crate) fn to_words(self) -> [u32; 3] {
        [join(self.id, self.kind), self.status, self.data]
    }
}

/// `XEN_NETIF_GSO_TYPE_`.
pub(crate) const GSO_TCP4: u8 = 1;
/// `XEN_NETIF_GSO_TYPE_`.
pub(crate) const GSO_TCP6: u8 = 2;

/// Requests a packet may take, extra infos not counted (`XEN_NETIF_NR_SLOTS_MIN`).
pub(crate) const SLOTS_MAX: usize = 18;
/// Bytes a packet may have (`XEN_NETIF_MAX_TX_SIZE`).
pub(crate) const TX_SIZE_MAX: usize = 0xffff;

/// `netif_tx_request`, three words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct TxRequest {
    pub(crate) reference: u32,
    pub(crate) offset: u16,
    pub(crate) flags: u16,
    pub(crate) id: u16,
    /// Of the packet in its first request, of the piece in the others.
    pub(crate) size: u16,
}

impl TxRequest {
    #[inline]
    pub(crate) fn to_words(self) -> [u32; 3] {
        [self.reference, join(self.offset, self.flags), join(self.id, self.size)]
    }

    #[cfg(test)]
    pub(crate) fn from_words([reference, where_, which]: [u32; 3]) -> Self {
        let ((offset, flags), (id, size)) = (split(where_), split(which));
        Self { reference, offset, flags, id, size }
    }
}

/// `netif_tx_response`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TxResponse {
    /// Without meaning if the status is [`status::NULL`].
    pub(crate) id: u16,
    pub(crate) status: i16,
}

impl TxResponse {
    #[inline]
    pub(crate) fn from_words([word, ..]: [u32; 3]) -> Self {
        let (id, status) = split(word);
        Self { id, status: status.cast_signed() }
    }

    #[cfg(test)]
    pub(crate) fn to_words(self) -> [u32; 1] {
        [join(self.id, self.status.cast_unsigned())]
    }
}

/// `netif_rx_request`, two words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RxRequest {
    pub(crate) id: u16,
    pub(crate) reference: u32,
}

impl RxRequest {
    #[inline]
    pub(crate) fn to_words(self) -> [u32; 2] {
        [u32::from(self.id), self.reference]
    }

    #[cfg(test)]
    pub(crate) fn from_words([id, reference]: [u32; 2]) -> Self {
        Self { id: id as u16, reference }
    }
}

/// `netif_rx_response`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RxResponse {
    pub(crate) id: u16,
    pub(crate) offset: u16,
    pub(crate) flags: u16,
    /// Bytes, or an error if negative.
    pub(crate) status: i16,
}

impl RxResponse {
    #[inline]
    pub(crate) fn from_words([first, second]: [u32; 2]) -> Self {
        let ((id, offset), (flags, status)) = (split(first), split(second));
        Self { id, offset, flags, status: status.cast_signed() }
    }

    #[cfg(test)]
    pub(crate) fn to_words(self) -> [u32; 2] {
        [join(self.id, self.offset), join(self.flags, self.status.cast_unsigned())]
    }
}

/// `netif_extra_info`, two words; a third pads it in the transmit ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extra {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// By its kind; for segmentation size, type and zeros.
    pub(crate) rest: [u8; 6],
}

impl Extra {
    /// Segmentation.
    pub(crate) fn gso(kind: u8, size: u16) -> Self {
        let [low, high] = size.to_ne_bytes();
        Self { kind: extra::GSO, flags: 0, rest: [low, high, kind, 0, 0, 0] }
    }

    /// The size of the segments and the type, if it says segmentation.
    #[inline]
    pub(crate) fn as_gso(&self) -> (u16, u8) {
        let [low, high, kind, ..] = self.rest;
        (u16::from_ne_bytes([low, high]), kind)
    }

    #[inline]
    pub(crate) fn from_words([first, second]: [u32; 2]) -> Self {
        let ([kind, flags, a, b], [c, d, e, f]) = (first.to_ne_bytes(), second.to_ne_bytes());
        Self { kind, flags, rest: [a, b, c, d, e, f] }
    }

    #[inline]
    pub(crate) fn to_words(self) -> [u32; 2] {
        let [a, b, c, d, e, f] = self.rest;
        [u32::from_ne_bytes([self.kind, self.flags, a, b]), u32::from_ne_bytes([c, d, e, f])]
    }
}

#[inline]
fn join(low: u16, high: u16) -> u32 {
    u32::from(high) << 16 | u32::from(low)
}

#[inline]
fn split(word: u32) -> (u16, u16) {
    // Each half fits.
    (word as u16, (word >> 16) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_lie_where_netif_h_puts_them() {
        let bytes =
            |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<std::vec::Vec<u8>>();
        let request =
            TxRequest { reference: 0x0403_0201, offset: 0x0605, flags: 0x0807, id: 0x0a09, size: 0x0c0b };
        assert_eq!(bytes(&request.to_words()), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(
            bytes(&RxRequest { id: 0x0201, reference: 0x0807_0605 }.to_words()),
            [1, 2, 0, 0, 5, 6, 7, 8]
        );
        let response = RxResponse { id: 0x0201, offset: 0x0403, flags: 0x0605, status: -2 };
        assert_eq!(bytes(&response.to_words()), [1, 2, 3, 4, 5, 6, 0xfe, 0xff]);
        assert_eq!(bytes(&TxResponse { id: 0x0201, status: -1 }.to_words()), [1, 2, 0xff, 0xff]);
        let request =
            CtrlRequest { id: 0x0201, kind: Ctrl::SetHashKey, data: [0x0807_0605, 0x0c0b_0a09, 0x100f_0e0d] };
        assert_eq!(bytes(&request.to_words()), [1, 2, 3, 0, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        let response = CtrlResponse { id: 0x0201, kind: 0x0403, status: 0x0807_0605, data: 0x0c0b_0a09 };
        assert_eq!(bytes(&response.to_words()), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(bytes(&Extra::gso(GSO_TCP6, 1448).to_words()), [1, 0, 0xa8, 5, 2, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn words_and_fields_are_the_same(words: [u32; 3]) {
            let [first, second, _] = words;
            prop_assert_eq!(TxRequest::from_words(words).to_words(), words);
            prop_assert_eq!(TxResponse::from_words(words).to_words(), [first]);
            prop_assert_eq!(RxResponse::from_words([first, second]).to_words(), [first, second]);
            prop_assert_eq!(Extra::from_words([first, second]).to_words(), [first, second]);
        }
    }
}
