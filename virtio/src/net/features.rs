//! Which features are accepted: those that are used, with what they depend on (virtio 1.2 §5.1.3, §5.1.3.1).

use virtio_spec::le128;
use virtio_spec::net::F;
use weir_netif::Offloads;

/// The features behind each receive offload, and each transmit offload.
const RX_TCP: F = F::GUEST_TSO4.union(F::GUEST_TSO6).union(F::GUEST_ECN);

/// What the driver wants to use, beyond what it always does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    pub(super) offloads: Offloads,
    /// Whether several queue pairs are wanted and can be had.
    pub(super) multiqueue: bool,
    /// Whether packets as long as the device's MTU fit what can be received.
    pub(super) mtu: bool,
}

/// Features as the 64 bits that transports carry.
pub(super) fn to_bits(features: F) -> u64 {
    features.bits().to_ne() as u64
}

/// The other way; bits without a name are kept.
pub(super) fn from_bits(bits: u64) -> F {
    F::from_bits_retain(le128::from_ne(bits.into()))
}

/// The part of the offer that is used. Never contains a feature without those it requires.
pub(super) fn choose(offered: F, wanted: Wanted) -> F {
    let mut wish = F::VERSION_1 | F::ACCESS_PLATFORM | F::ORDER_PLATFORM | F::EVENT_IDX;
    wish |= F::MAC | F::STATUS | F::MRG_RXBUF | F::CTRL_VQ | F::CTRL_RX;
    let uses = [
        (wanted.mtu, F::MTU),
        (wanted.multiqueue, F::MQ | F::RSS),
        (wanted.offloads.contains(Offloads::TX_CHECKSUM), F::CSUM),
        (wanted.offloads.contains(Offloads::TX_TCP4), F::HOST_TSO4),
        (wanted.offloads.contains(Offloads::TX_TCP6), F::HOST_TSO6),
        (wanted.offloads.contains(Offloads::TX_ECN), F::HOST_ECN),
        (wanted.offloads.contains(Offloads::RX_CHECKSUM), F::GUEST_CSUM),
        (wanted.offloads.contains(Offloads::RX_TCP), RX_TCP),
    ];
    for (_, features) in uses.into_iter().filter(|(used, _)| *used) {
        wish |= features;
    }
    without_orphans(offered & wish)
}

/// Takes away what lacks a feature it requires, and a control queue without use.
fn without_orphans(mut features: F) -> F {
    if !features.contains(F::CSUM) {
        features -= F::HOST_TSO4 | F::HOST_TSO6;
    }
    // Without merging, a super-packet would need single buffers of 64 KiB (§5.1.6.3.1).
    if !features.contains(F::GUEST_CSUM | F::MRG_RXBUF) {
        features -= F::GUEST_TSO4 | F::GUEST_TSO6;
    }
    if !features.intersects(F::HOST_TSO4 | F::HOST_TSO6) {
        features -= F::HOST_ECN;
    }
    if !features.intersects(F::GUEST_TSO4 | F::GUEST_TSO6) {
        features -= F::GUEST_ECN;
    }
    if !features.contains(F::CTRL_VQ) {
        features -= F::CTRL_RX | F::MQ | F::RSS;
    }
    if !features.intersects(F::CTRL_RX | F::MQ | F::RSS) {
        features -= F::CTRL_VQ;
    }
    features
}

/// What the accepted features mean to the stack.
pub(super) fn offloads(features: F, rss: bool) -> Offloads {
    let meaning = [
        // Where the checksum lies is said from the frame's first byte on (§5.1.6.2): a tag before it changes nothing, and
        // Linux's driver relies on that too (its `vlan_features` are all its features).
        (features.contains(F::CSUM), Offloads::TX_CHECKSUM | Offloads::TX_TAGGED),
        (features.contains(F::HOST_TSO4), Offloads::TX_TCP4),
        (features.contains(F::HOST_TSO6), Offloads::TX_TCP6),
        (features.contains(F::HOST_ECN), Offloads::TX_ECN),
        (features.contains(F::GUEST_CSUM), Offloads::RX_CHECKSUM),
        (features.intersects(F::GUEST_TSO4 | F::GUEST_TSO6), Offloads::RX_TCP),
        (rss, Offloads::RX_RSS),
    ];
    meaning.into_iter().filter(|(has, _)| *has).map(|(_, offload)| offload).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use virtio_spec::FeatureBits;

    const ALL: Wanted = Wanted { offloads: Offloads::all(), multiqueue: true, mtu: true };

    #[test]
    fn takes_qemus_offer_apart() {
        // QEMU 7.2, virtio-net-pci on a TAP with queues=2, host_mtu set.
        let offer = from_bits(0x0000_0101_79ff_ffff);
        let features = choose(offer, ALL);
        assert!(features.contains(F::MQ | F::MTU | F::CTRL_RX | F::GUEST_TSO6 | F::HOST_ECN | F::EVENT_IDX));
        assert!(
            !features
                .intersects(F::GUEST_UFO | F::HOST_UFO | F::CTRL_VLAN | F::GUEST_ANNOUNCE | F::INDIRECT_DESC)
        );
        let single = choose(offer, Wanted { multiqueue: false, ..ALL });
        assert!(!single.intersects(F::MQ | F::RSS));
    }

    #[test]
    fn takes_uhyves_offer() {
        let offer = F::CSUM | F::GUEST_CSUM | F::MTU | F::MAC | F::STATUS | F::VERSION_1;
        assert_eq!(choose(offer, ALL), offer);
        let expected = Offloads::TX_CHECKSUM | Offloads::TX_TAGGED | Offloads::RX_CHECKSUM;
        assert_eq!(offloads(offer, false), expected);
    }

    #[test]
    fn receives_no_super_packets_without_merging() {
        let features = choose(from_bits(u64::MAX) - F::MRG_RXBUF, ALL);
        assert!(!features.intersects(RX_TCP));
    }

    #[test]
    fn offloads_are_taken_only_where_wanted() {
        let features = choose(from_bits(u64::MAX), Wanted { offloads: Offloads::empty(), ..ALL });
        assert_eq!(offloads(features, false), Offloads::empty());
        assert_eq!(offloads(choose(from_bits(u64::MAX), ALL), true), Offloads::all());
    }

    proptest! {
        /// From any offer: a subset of it, and every feature comes with those it requires.
        #[test]
        fn is_a_consistent_subset(bits: u64, offloads: u16, multiqueue: bool, mtu: bool) {
            let offer = from_bits(bits);
            let offloads = Offloads::from_bits_truncate(offloads);
            let chosen = choose(offer, Wanted { offloads, multiqueue, mtu });
            prop_assert!(offer.contains(chosen));
            prop_assert!(chosen.requirements_satisfied());
        }

        #[test]
        fn bits_are_kept(bits: u64) {
            prop_assert_eq!(to_bits(from_bits(bits)), bits);
        }
    }
}
