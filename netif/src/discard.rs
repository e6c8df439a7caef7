//! Why a packet died. Every discarded packet ends in exactly one of these.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A named reason for discarding a packet, counted per CPU and interface.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Drop { $($(#[doc = $doc])+ $variant,)+ }

        impl Drop {
            /// All reasons, in counter order.
            pub const ALL: &'static [Drop] = &[$(Drop::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Drop::ALL.len();

            /// The stable name operators see.
            pub const fn name(self) -> &'static str {
                match self { $(Drop::$variant => $name,)+ }
            }
        }
    };
}

reasons! {
    /// The frame is shorter than an Ethernet header.
    EthernetTruncated = "ethernet-truncated",
    /// The source MAC is a group address.
    EthernetSourceGroup = "ethernet-source-group",
    /// The source MAC is the interface's own: a loop, or somebody who took our address.
    EthernetOwnSource = "ethernet-own-source",
    /// Unicast to somebody else's MAC.
    EthernetNotForUs = "ethernet-not-for-us",
    /// An EtherType the router does not speak.
    EthernetUnknownType = "ethernet-unknown-type",
    /// A VLAN tag on an interface without that VLAN.
    EthernetUnknownVlan = "ethernet-unknown-vlan",
    /// A service tag (IEEE 802.1ad), or a VLAN tag behind another.
    EthernetStackedVlan = "ethernet-stacked-vlan",
    /// ARP of a wrong length, hardware or protocol type, or operation.
    ArpMalformed = "arp-malformed",
    /// ARP for an address that is not ours, or from a sender that is not on the link.
    ArpNotForUs = "arp-not-for-us",
    /// The IPv4 header is cut short, of a wrong version or length.
    Ipv4Malformed = "ipv4-malformed",
    /// The IPv4 header checksum is wrong.
    Ipv4Checksum = "ipv4-checksum",
    /// The frame ends before the IPv4 total length.
    Ipv4Truncated = "ipv4-truncated",
    /// A source-route or broken IPv4 option (RFC 7126).
    Ipv4Option = "ipv4-option",
    /// The IPv6 header is cut short or of a wrong version.
    Ipv6Malformed = "ipv6-malformed",
    /// The frame ends before the IPv6 payload length.
    Ipv6Truncated = "ipv6-truncated",
    /// A routing header type 0 (RFC 5095), or a broken chain of extension headers.
    Ipv6Extension = "ipv6-extension",
    /// A source address that no host may use (RFC 1812 §5.3.7, RFC 4291).
    MartianSource = "martian-source",
    /// A destination address that no router may forward to.
    MartianDestination = "martian-destination",
    /// The reverse path to the source is not the interface it came from (RFC 3704).
    ReversePath = "reverse-path",
    /// A broadcast to a connected network from outside (RFC 2644).
    DirectedBroadcast = "directed-broadcast",
    /// Sent to a link-layer broadcast or group but to a unicast IP address (RFC 1812 §5.3.4).
    LinkBroadcast = "link-broadcast",
    /// A multicast group the router has not joined, and does not forward.
    MulticastNotJoined = "multicast-not-joined",
    /// A link-local source or destination must stay on its link (RFC 3927 §7, RFC 4291 §2.5.6).
    LinkLocalScope = "link-local-scope",
    /// TTL or hop limit ran out.
    TtlExpired = "ttl-expired",
    /// No route.
    NoRoute = "no-route",
    /// A blackhole route.
    RouteBlackhole = "route-blackhole",
    /// An unreachable route.
    RouteUnreachable = "route-unreachable",
    /// A prohibit route.
    RouteProhibited = "route-prohibited",
    /// Too big for the egress, and must not be fragmented.
    TooBig = "too-big",
    /// Fragmenting failed: an option or a length that cannot be.
    FragmentFailed = "fragment-failed",
    /// Offload metadata that does not match the bytes.
    OffloadMalformed = "offload-malformed",
    /// The neighbour did not answer.
    NeighborUnreachable = "neighbor-unreachable",
    /// More than 3 packets waited for one neighbour: the oldest went.
    NeighborQueueFull = "neighbor-queue-full",
    /// The neighbour table is full.
    NeighborTableFull = "neighbor-table-full",
    /// A neighbour discovery message that fails RFC 4861 §§6.1, 7.1.
    NdMalformed = "nd-malformed",
    /// A neighbour discovery message about an address that is not ours.
    NdNotForUs = "nd-not-for-us",
    /// To an address that may be somebody else's: others are still being asked (RFC 4862 §5.4, RFC 5227 §2.1).
    AddressTentative = "address-tentative",
    /// An ICMP message of a wrong length or checksum.
    IcmpMalformed = "icmp-malformed",
    /// An ICMP type the router has no use for.
    IcmpUnhandled = "icmp-unhandled",
    /// An ICMP error was owed but the rate limit forbade it (RFC 1812 §4.3.2.8, RFC 4443 §2.4(f)).
    IcmpRateLimited = "icmp-rate-limited",
    /// For the router itself, but a protocol or port nobody listens on.
    LocalProtocol = "local-protocol",
    /// For a socket of the router, whose CPU has too many packets waiting for its sockets.
    TransportFull = "transport-full",
    /// A fragment for the router itself that it has no use for: to a group, or the device did not finish it.
    LocalFragment = "local-fragment",
    /// A fragment for the router itself whose length or offset cannot be, or too short for the header it should have.
    FragmentMalformed = "fragment-malformed",
    /// A fragment that overlaps another, or disagrees with it about the end: all of its datagram goes (RFC 5722).
    FragmentOverlap = "fragment-overlap",
    /// A fragment that is there already.
    FragmentDuplicate = "fragment-duplicate",
    /// Reassembly had no room for it: the oldest go first; or its datagram has too many.
    FragmentLimit = "fragment-limit",
    /// The rest of its datagram did not come within a minute.
    FragmentTimeout = "fragment-timeout",
    /// The interface is administratively or physically down.
    InterfaceDown = "interface-down",
    /// The interface is not configured.
    InterfaceUnconfigured = "interface-unconfigured",
    /// The transmit ring is full.
    TxRingFull = "tx-ring-full",
    /// The ring to the CPU that should go on with the packet is full.
    HandoffFull = "handoff-full",
    /// No buffer was left.
    NoBuffer = "no-buffer",
    /// The device took itself down; what it had lent was taken back.
    DeviceFault = "device-fault",
    /// The device's other side said that it could not deliver or transmit it.
    DeviceRefused = "device-refused",
    /// The packet carries offloads its egress cannot take and software cannot finish.
    OffloadUnsupported = "offload-unsupported",
    /// Consumed by the router: delivered, not lost. Counted so that every packet has an end.
    Consumed = "consumed",
}

impl core::fmt::Display for Drop {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_indices_dense() {
        let names: HashSet<_> = Drop::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Drop::COUNT);
        assert!(Drop::ALL.iter().enumerate().all(|(index, &reason)| reason as usize == index));
    }
}
