//! What a program sees: bytes, most often in one piece, and what is known beside them.

use crate::opcode::{SKF_LL_OFF, SKF_NET_OFF};

/// A packet as a program sees it. No value of any field makes a program touch other memory than `head` and what `chain` copies.
///
/// ```
/// use weir_bpf::{Packet, PacketType};
/// let frame = [0; 60];
/// let packet = Packet { interface: 2, kind: PacketType::Broadcast, ..Packet::new(&frame) };
/// assert_eq!(packet.wire_len, 60);
/// ```
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Packet<'a> {
    /// The first bytes in one piece, from the link-layer header on. Compiled programs read these.
    pub head: &'a [u8],
    /// Where bytes past `head` are, if there are any.
    pub chain: Option<&'a dyn Chain>,
    /// Bytes of the whole packet: what a program gets as its length.
    pub wire_len: u32,
    /// Offset of the network header, for offsets from SKF_NET_OFF on.
    pub network: u32,
    /// Number of the interface.
    pub interface: u32,
    /// Flow hash; 0 if there is none.
    pub hash: u32,
    /// Ethertype, of the innermost header if a VLAN tag lies beside the bytes; 4 for 802.2 (ETH_P_802_2).
    pub protocol: u16,
    /// Tag control information of a VLAN tag that lies beside the bytes.
    pub vlan_tag: u16,
    /// Its ethertype, 0x8100 or 0x88a8; 0 if there is none.
    pub vlan_tpid: u16,
    /// The CPU that has the packet.
    pub cpu: u16,
    /// Whom it is for.
    pub kind: PacketType,
}

impl<'a> Packet<'a> {
    /// An Ethernet frame for this station, whole, untagged, of interface 0. Its protocol is what bytes 12 and 13 say.
    #[inline]
    pub fn new(head: &'a [u8]) -> Self {
        let protocol = match head {
            [_, _, _, _, _, _, _, _, _, _, _, _, high, low, ..] => u16::from_be_bytes([*high, *low]),
            _ => 0,
        };
        Packet {
            head,
            chain: None,
            wire_len: u32::try_from(head.len()).unwrap_or(u32::MAX),
            network: 14,
            interface: 0,
            hash: 0,
            protocol: if protocol < 0x600 { 4 } else { protocol },
            vlan_tag: 0,
            vlan_tpid: 0,
            cpu: 0,
            kind: PacketType::Host,
        }
    }

    /// The `N` bytes at `offset` as BPF counts offsets; `None` if the packet does not have them all.
    #[inline]
    pub(crate) fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        match self.head.get(offset as usize..) {
            Some(bytes) if offset < 1 << 31 && bytes.len() >= N => bytes.first_chunk().copied(),
            _ => {
                let mut bytes = [0; N];
                self.load_elsewhere(offset, &mut bytes).then_some(bytes)
            }
        }
    }

    /// Past the head, over the border between two segments, or by an offset from another header.
    #[cold]
    #[inline(never)]
    fn load_elsewhere(&self, offset: u32, into: &mut [u8]) -> bool {
        let at = match offset {
            SKF_NET_OFF.. => u64::from(self.network) + u64::from(offset - SKF_NET_OFF),
            SKF_LL_OFF.. => u64::from(offset - SKF_LL_OFF),
            // Negative, and from no header that there is.
            0x8000_0000.. => return false,
            _ => offset.into(),
        };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let end = at.saturating_add(into.len());
        if let Some(bytes) = self.head.get(at..end) {
            into.copy_from_slice(bytes);
            return true;
        }
        self.chain.is_some_and(|chain| chain.copy_out(at, into) == into.len())
    }
}

/// The bytes of a packet that lies in several pieces.
pub trait Chain {
    /// Copies bytes from `offset` on, which counts from the packet's first byte, into `into`. Returns how many there were.
    fn copy_out(&self, offset: usize, into: &mut [u8]) -> usize;
}

/// Whom a packet is for, linux/if_packet.h's PACKET_*.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum PacketType {
    /// This station.
    #[default]
    Host = 0,
    /// Everybody.
    Broadcast = 1,
    /// A group.
    Multicast = 2,
    /// Another station.
    OtherHost = 3,
    /// Sent by this station.
    Outgoing = 4,
}
