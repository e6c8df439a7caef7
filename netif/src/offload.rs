//! What travels beside a packet's bytes.

/// An interface's place in the snapshot's table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct IfIndex(pub u16);

impl IfIndex {
    /// The index as an index.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is known, or owed, about the transport checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Checksum {
    /// Nothing is known; the bytes say what they say.
    #[default]
    Unknown,
    /// The device verified it. Valid as long as only headers below transport change.
    Verified,
    /// Owed: sum from `start` (bytes from the start of the frame) to the end and store at `start + offset`, where the
    /// pseudo-header's sum lies already (virtio 1.2 §5.1.6.2, `VIRTIO_NET_HDR_F_NEEDS_CSUM`).
    Partial {
        /// Bytes from the first byte of the frame to the transport header.
        start: u16,
        /// Bytes from `start` to the checksum field.
        offset: u16,
    },
}

/// Which protocol a super-packet is cut by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GsoKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
}

/// A super-packet: one TCP header, many segments' payload. Implies a partial checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gso {
    /// How to cut it.
    pub kind: GsoKind,
    /// Payload bytes a segment carries; the last may be shorter. Never 0.
    pub size: u16,
    /// The TCP header has CWR set: only the first segment keeps it (RFC 3168 §6.1.2).
    pub ecn: bool,
}

/// Everything beside the bytes. Copied, 32 bytes or less.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Meta {
    /// Interface it came in by.
    pub received: IfIndex,
    /// VLAN tag control information that the device took out of the frame, 0 if none. Its way ends where the interface is
    /// found: frames to be sent have their tag in their bytes.
    pub vlan: u16,
    /// Flow hash, 0 if not computed.
    pub hash: u32,
    /// Transport checksum.
    pub checksum: Checksum,
    /// Set on super-packets.
    pub gso: Option<Gso>,
}

impl Meta {
    /// Whether the frame owes nothing: no checksum, and it is no super-packet.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.gso.is_none() & !matches!(self.checksum, Checksum::Partial { .. })
    }
}
