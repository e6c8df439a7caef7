//! What the backend offers, and what of it is used (Xen `public/io/netif.h`).

use crate::error::Error;
use crate::receive::Accepts;
use crate::transmit::Offers;
use crate::xenbus::Place;
use weir_netif::Offloads;
use weir_sync::Control;

/// Layer-3 packet a vif carries that does not say.
const DEFAULT_MTU: u16 = 1500;
/// Least MTU that IPv4 works with (RFC 791 §3.2).
const LEAST_MTU: u64 = 68;
/// Most: a packet's size has 16 bits, its Ethernet header included.
const MOST_MTU: u64 = 65535 - 18;

/// Features negotiated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Features {
    pub(crate) offers: Offers,
    pub(crate) accepts: Accepts,
    /// An event channel for each direction.
    pub(crate) split_events: bool,
    /// Queues the backend takes at most.
    pub(crate) queues: u16,
    /// It can be told by which hash to spread flows over queues, and is to be.
    hash: bool,
}

impl Features {
    /// The part of the backend's offer that `wanted` has use for.
    ///
    /// Multicast control is never asked for: a backend without it passes all groups, and a router needs them (neighbour
    /// discovery, router solicitations, routing protocols).
    pub(crate) fn read(cx: &Control, place: &Place, wanted: Offloads) -> Result<Self, Error> {
        if !place.feature(cx, "feature-rx-copy")? {
            return Err(Error::NoCopy);
        }
        let chains = place.feature(cx, "feature-sg")?;
        // On unless the backend says otherwise, for IPv4; the other way round for IPv6.
        let checksum4 =
            !place.feature(cx, "feature-no-csum-offload")? && wanted.contains(Offloads::TX_CHECKSUM);
        let checksum6 =
            place.feature(cx, "feature-ipv6-csum-offload")? && wanted.contains(Offloads::TX_CHECKSUM);
        let tcp4 = place.feature(cx, "feature-gso-tcpv4")? && wanted.contains(Offloads::TX_TCP4);
        let tcp6 = place.feature(cx, "feature-gso-tcpv6")? && wanted.contains(Offloads::TX_TCP6);
        let offers = Offers {
            chains,
            checksum4,
            checksum6,
            tcp4: tcp4 && checksum4 && chains,
            tcp6: tcp6 && checksum6 && chains,
        };
        let checksum = wanted.contains(Offloads::RX_CHECKSUM);
        let tcp = checksum && wanted.contains(Offloads::RX_TCP);
        let accepts = Accepts { checksum, tcp4: tcp, tcp6: tcp, hash: false };
        let queues = place.their_number(cx, "multi-queue-max-queues")?.unwrap_or(1);
        Ok(Self {
            offers,
            accepts,
            split_events: place.feature(cx, "feature-split-event-channels")?,
            queues: u16::try_from(queues).unwrap_or(u16::MAX).max(1),
            hash: wanted.contains(Offloads::RX_RSS) && place.feature(cx, "feature-ctrl-ring")?,
        })
    }

    /// What may come with received frames of a vif of so many queues.
    pub(crate) fn accepts(&self, queues: u16) -> Accepts {
        Accepts { hash: self.hash && queues > 1, ..self.accepts }
    }

    /// What that means to the stack, with so many queues. Whether the backend does spread by our hash shows once it is
    /// connected.
    pub(crate) fn offloads(&self, queues: u16) -> Offloads {
        // Nothing of it holds behind a VLAN tag: Linux's backend looks for the checksum behind untagged headers alone
        // (`skb_checksum_setup`) and drops what it does not find.
        let meaning = [
            // Of IPv6 the queue finishes checksums itself where the backend does not.
            (self.offers.checksum4, Offloads::TX_CHECKSUM),
            (self.offers.tcp4, Offloads::TX_TCP4),
            (self.offers.tcp6, Offloads::TX_TCP6),
            (self.accepts.checksum, Offloads::RX_CHECKSUM),
            (self.accepts.tcp4 || self.accepts.tcp6, Offloads::RX_TCP),
            (self.accepts(queues).hash, Offloads::RX_RSS),
        ];
        meaning.into_iter().filter(|(has, _)| *has).map(|(_, offload)| offload).collect()
    }

    /// The nodes that tell the backend.
    pub(crate) fn nodes(&self) -> [(&'static str, bool); 7] {
        [
            ("request-rx-copy", true),
            ("feature-rx-notify", true),
            ("feature-sg", true),
            ("feature-gso-tcpv4", self.accepts.tcp4),
            ("feature-gso-tcpv6", self.accepts.tcp6),
            ("feature-no-csum-offload", !self.accepts.checksum),
            ("feature-ipv6-csum-offload", self.accepts.checksum),
        ]
    }
}

/// The station address: six bytes in hexadecimal, with colons.
pub(crate) fn read_mac(cx: &Control, place: &Place) -> Result<[u8; 6], Error> {
    let path = place.ours("mac");
    let text = place.store.read_text(cx, &path).map_err(|why| crate::xenbus::failed(&path, why))?;
    match parse_mac(&text) {
        Some(mac) if mac[0] & 1 == 0 && mac != [0; 6] => Ok(mac),
        _ => Err(Error::Value(path, text)),
    }
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.trim().split(':');
    for byte in &mut mac {
        let part = parts
            .next()
            .filter(|part| part.len() <= 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// The MTU that the toolstack set: in our directory, as `netif.h` says, or in the backend's, as older ones do.
pub(crate) fn read_mtu(cx: &Control, place: &Place, chains: bool) -> Result<u16, Error> {
    let stated = match place.our_number(cx, "mtu")? {
        Some(mtu) => Some(mtu),
        None => place.their_number(cx, "mtu")?,
    };
    let mtu = match stated {
        None => return Ok(DEFAULT_MTU),
        Some(mtu) => u16::try_from(mtu.min(MOST_MTU)).ok().filter(|_| mtu >= LEAST_MTU),
    };
    let mtu =
        mtu.ok_or_else(|| Error::Value(place.ours("mtu"), alloc::format!("{}", stated.unwrap_or(0))))?;
    // One request holds what lies in a page.
    Ok(if chains { mtu } else { mtu.min(DEFAULT_MTU) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn station_addresses_are_six_hexadecimal_bytes() {
        assert_eq!(parse_mac("00:16:3e:0A:0b:ff"), Some([0, 0x16, 0x3e, 0xa, 0xb, 0xff]));
        assert_eq!(parse_mac("0:16:3e:a:b:1"), Some([0, 0x16, 0x3e, 0xa, 0xb, 1]));
        for wrong in [
            "",
            "00:16:3e:00:00",
            "00:16:3e:00:00:01:02",
            "00:16:3e:00:00:1g",
            "00:16:3e:00:00:001",
            "+1:2:3:4:5:6",
        ] {
            assert_eq!(parse_mac(wrong), None, "{wrong}");
        }
    }
}
