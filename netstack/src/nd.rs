//! Neighbour discovery (RFC 4861): the messages, and what a router does about them.
//!
//! Called by the path with messages whose ICMPv6 checksum is right; the path sends what is built here.

mod advertiser;

pub use advertiser::Advertiser;

use crate::address::{ALL_NODES, Kind, group_mac, kind6, solicited_node};
use crate::checksum::{ICMPV6, pseudo6};
use crate::ethernet;
use crate::ipv6;
use crate::neighbor::{Event, Evidence, Override};
use crate::snapshot::{Advertisement, Assigned, Claim, Interface};
use core::net::Ipv6Addr;
use weir_netif::{Drop, Packet, Pool};

/// Hop limit of every message: proof that it was sent on this link (RFC 4861 §3.1).
pub const HOP_LIMIT: u8 = 255;

/// ICMPv6 types.
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;

/// Option types (RFC 4861 §4.6).
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
const PREFIX: u8 = 3;
const MTU: u8 = 5;

/// Flags of a neighbour advertisement (RFC 4861 §4.4).
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// Flags of a prefix (RFC 4861 §4.6.2).
const ON_LINK: u8 = 0x80;
const AUTONOMOUS: u8 = 0x40;

/// A valid message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// A host looks for routers.
    RouterSolicitation {
        /// Its station address, if told.
        mac: Option<[u8; 6]>,
    },
    /// Another router.
    RouterAdvertisement,
    /// Who has `target`?
    NeighborSolicitation {
        /// The address looked for.
        target: Ipv6Addr,
        /// Station address of who asks, if told.
        mac: Option<[u8; 6]>,
    },
    /// `target` is here.
    NeighborAdvertisement {
        /// The address.
        target: Ipv6Addr,
        /// Its station address, if told.
        mac: Option<[u8; 6]>,
        /// The flags.
        flags: u8,
    },
}

/// Whether an ICMPv6 type is neighbour discovery's and any use to a router. Redirects are not.
pub fn is_discovery(kind: u8) -> bool {
    (ROUTER_SOLICITATION..=NEIGHBOR_ADVERTISEMENT).contains(&kind)
}

impl Message {
    /// Reads and validates (RFC 4861 §§6.1, 7.1) an ICMPv6 message whose checksum is right.
    ///
    /// # Errors
    /// [`Drop::NdMalformed`].
    pub fn parse(bytes: &[u8], header: &ipv6::Header) -> Result<Self, Drop> {
        Self::read(bytes, header).filter(|_| header.hop_limit == HOP_LIMIT).ok_or(Drop::NdMalformed)
    }

    fn read(bytes: &[u8], header: &ipv6::Header) -> Option<Self> {
        let &[kind, code, _, _, flags, _, _, _] = bytes.first_chunk::<8>()?;
        if code != 0 {
            return None;
        }
        let unspecified = header.source.is_unspecified();
        let fixed = match kind {
            ROUTER_SOLICITATION => 8,
            ROUTER_ADVERTISEMENT => 16,
            _ => 24,
        };
        let options = Options::parse(bytes.get(fixed..)?)?;
        let target = || bytes.get(8..)?.first_chunk::<16>().copied().map(Ipv6Addr::from);
        Some(match kind {
            ROUTER_SOLICITATION if unspecified && options.source.is_some() => return None,
            ROUTER_SOLICITATION => Self::RouterSolicitation { mac: options.source },
            ROUTER_ADVERTISEMENT if kind6(header.source) != Kind::LinkLocal => return None,
            ROUTER_ADVERTISEMENT => Self::RouterAdvertisement,
            NEIGHBOR_SOLICITATION => {
                let target = target().filter(is_unicast)?;
                let asks_group = header.destination == solicited_node(target);
                if unspecified && (options.source.is_some() || !asks_group) {
                    return None;
                }
                Self::NeighborSolicitation { target, mac: options.source }
            }
            NEIGHBOR_ADVERTISEMENT => {
                let target = target().filter(is_unicast)?;
                if kind6(header.destination) == Kind::Multicast && flags & SOLICITED != 0 {
                    return None;
                }
                Self::NeighborAdvertisement { target, mac: options.target, flags }
            }
            _ => return None,
        })
    }
}

fn is_unicast(address: &Ipv6Addr) -> bool {
    matches!(kind6(*address), Kind::Unicast | Kind::LinkLocal)
}

/// The options a router reads.
#[derive(Default)]
struct Options {
    source: Option<[u8; 6]>,
    target: Option<[u8; 6]>,
}

impl Options {
    /// `None` if one has length 0 or is cut short, or if a link-layer address is no station's. What is unknown is
    /// skipped (RFC 4861 §4.6).
    fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut options = Self::default();
        while let &[kind, units, ..] = bytes {
            let (option, rest) = bytes.split_at_checked(usize::from(units) * 8).filter(|_| units > 0)?;
            if matches!(kind, SOURCE_LINK_LAYER | TARGET_LINK_LAYER) {
                let mac = option.get(2..)?.first_chunk::<6>().copied();
                let station = mac.filter(|[first, ..]| first & 1 == 0)?;
                let place = if kind == SOURCE_LINK_LAYER { &mut options.source } else { &mut options.target };
                *place = Some(station);
            }
            bytes = rest;
        }
        bytes.is_empty().then_some(options)
    }
}

/// What to do about a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It asks for an address of ours: send this. Also note the event, if any.
    Reply(Reply, Option<Event<Ipv6Addr>>),
    /// Note it.
    Learn(Event<Ipv6Addr>),
    /// A host wants a router advertisement. Also note the event, if any.
    Solicited(Option<Event<Ipv6Addr>>),
    /// A router that this interface heeds says something.
    Advertised,
    /// An address of ours is the sender's too, or is about to be, at this station.
    Contested(Ipv6Addr, [u8; 6]),
    /// Neither ours nor of use.
    Drop(Drop),
}

/// A neighbour advertisement that is owed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    target: Ipv6Addr,
    to: Ipv6Addr,
    mac: [u8; 6],
}

impl Reply {
    /// Tells all nodes that `target` is ours, unasked (RFC 4861 §7.2.6).
    pub fn to_all(target: Ipv6Addr) -> Self {
        Self { target, to: ALL_NODES, mac: group_mac(ALL_NODES) }
    }
}

/// Judges a message that came in by `interface` from the station `from`.
pub fn input(message: &Message, header: &ipv6::Header, from: [u8; 6], interface: &Interface) -> Verdict {
    let asked = |mac: Option<[u8; 6]>| {
        mac.filter(|_| is_on_link(header.source, interface)).map(|mac| Event {
            interface: interface.index,
            address: header.source,
            mac: Some(mac),
            evidence: Evidence::Asked,
        })
    };
    match *message {
        Message::NeighborSolicitation { target, .. } if !interface.owns6(target) => {
            match (interface.claimed(target.into()), header.source.is_unspecified()) {
                // RFC 4862 §5.4.3: it looks whether anybody has it, as we do. What loops back to us has ended as
                // `ethernet-own-source`, which RFC 7527 does by a nonce.
                (Some(Claim::Tentative), true) => Verdict::Contested(target, from),
                (Some(Claim::Tentative), false) => Verdict::Drop(Drop::AddressTentative),
                _ => Verdict::Drop(Drop::NdNotForUs),
            }
        }
        // Somebody wants the address for itself: all must hear that it is taken (RFC 4861 §7.2.4).
        Message::NeighborSolicitation { target, .. } if header.source.is_unspecified() => {
            Verdict::Reply(Reply::to_all(target), None)
        }
        Message::NeighborSolicitation { target, mac } => {
            let reply = Reply { target, to: header.source, mac: mac.unwrap_or(from) };
            Verdict::Reply(reply, asked(mac))
        }
        Message::NeighborAdvertisement { target, mac, .. }
            if interface.claimed(target.into()).is_some_and(|claim| claim != Claim::Duplicate) =>
        {
            Verdict::Contested(target, mac.unwrap_or(from))
        }
        Message::NeighborAdvertisement { target, mac, flags } => {
            let overrides = if flags & OVERRIDE != 0 { Override::Yes } else { Override::No };
            let evidence = match flags & SOLICITED {
                0 => Evidence::Announced(overrides),
                _ => Evidence::Answered(overrides),
            };
            Verdict::Learn(Event { interface: interface.index, address: target, mac, evidence })
        }
        Message::RouterSolicitation { mac } => Verdict::Solicited(asked(mac)),
        Message::RouterAdvertisement if interface.heeds_routers => Verdict::Advertised,
        Message::RouterAdvertisement => Verdict::Drop(Drop::IcmpUnhandled),
    }
}

/// Whether a neighbour can have this address. Other sources are not worth a place in the table.
fn is_on_link(address: Ipv6Addr, interface: &Interface) -> bool {
    kind6(address) == Kind::LinkLocal || interface.addresses6.iter().any(|own| own.network.contains(address))
}

/// The neighbour advertisement that is owed.
pub fn advertisement(pool: &mut Pool, interface: &Interface, reply: &Reply) -> Option<Packet> {
    let unsolicited = kind6(reply.to) == Kind::Multicast;
    // Several may have an anycast address: none of them overrides another (RFC 4861 §7.2.4); nor does who is not sure yet
    // (RFC 4429 §3.2).
    let sure = interface.claimed(reply.target.into()) == Some(Claim::Ours);
    let flags = ROUTER | if unsolicited { 0 } else { SOLICITED } | if sure { OVERRIDE } else { 0 };
    let option = link_layer(TARGET_LINK_LAYER, interface.mac);
    let parts: [&[u8]; 3] =
        [&[NEIGHBOR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0], &reply.target.octets(), &option];
    frame(pool, interface, reply.mac, reply.target, reply.to, parts)
}

/// Asks for `target`: its group, or the one station that had it.
pub fn solicitation(
    pool: &mut Pool,
    interface: &Interface,
    target: Ipv6Addr,
    to: Option<[u8; 6]>,
) -> Option<Packet> {
    let source = *interface.link_local.first()?;
    let (destination, mac) = match to {
        Some(mac) => (target, mac),
        None => (solicited_node(target), group_mac(solicited_node(target))),
    };
    let option = link_layer(SOURCE_LINK_LAYER, interface.mac);
    let parts: [&[u8]; 3] = [&[NEIGHBOR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0], &target.octets(), &option];
    frame(pool, interface, mac, source, destination, parts)
}

/// A router advertisement to all nodes: ours, the link's MTU, and the prefixes hosts may use (RFC 4861 §6.2.3).
pub fn router_advertisement(
    pool: &mut Pool,
    interface: &Interface,
    variables: &Advertisement,
) -> Option<Packet> {
    let source = *interface.link_local.first()?;
    let Advertisement { lifetime_s, hop_limit, valid_s, preferred_s, .. } = *variables;
    let [life_high, life_low] = lifetime_s.to_be_bytes();
    let fixed = [ROUTER_ADVERTISEMENT, 0, 0, 0, hop_limit, 0, life_high, life_low, 0, 0, 0, 0, 0, 0, 0, 0];
    let link = link_layer(SOURCE_LINK_LAYER, interface.mac);
    let mtu = u32::from(interface.mtu).to_be_bytes();
    let mut prefixes = [([0; 16], [0; 16]); MAX_PREFIXES];
    let mut count = 0;
    for (place, own) in prefixes.iter_mut().zip(distinct(&interface.addresses6)) {
        let len = own.network.len();
        // Addresses are formed from 64 bits of prefix and as many of interface (RFC 4862 §5.5.3 (d)).
        let flags = ON_LINK | if len == 64 { AUTONOMOUS } else { 0 };
        let [v0, v1, v2, v3] = valid_s.to_be_bytes();
        let [p0, p1, p2, p3] = preferred_s.to_be_bytes();
        let option = [PREFIX, 4, len, flags, v0, v1, v2, v3, p0, p1, p2, p3, 0, 0, 0, 0];
        *place = (option, own.network.first().octets());
        count += 1;
    }
    let options = prefixes.iter().take(count).flat_map(|(option, prefix)| [&option[..], &prefix[..]]);
    let head: [&[u8]; 4] = [&fixed, &link, &[MTU, 1, 0, 0], &mtu];
    frame(pool, interface, group_mac(ALL_NODES), source, ALL_NODES, head.into_iter().chain(options))
}

/// Prefixes that fit an advertisement on a link of the smallest MTU.
const MAX_PREFIXES: usize = 32;

/// One address of each network.
fn distinct(addresses: &[Assigned<Ipv6Addr>]) -> impl Iterator<Item = &Assigned<Ipv6Addr>> {
    let before = |n: usize| addresses.iter().take(n);
    addresses
        .iter()
        .enumerate()
        .filter(move |(n, own)| !before(*n).any(|other| other.network == own.network))
        .map(|(_, own)| own)
}

fn link_layer(kind: u8, mac: [u8; 6]) -> [u8; 8] {
    let [a, b, c, d, e, f] = mac;
    [kind, 1, a, b, c, d, e, f]
}

/// A frame with the ICMPv6 message of `parts`, whose checksum field is zero.
fn frame<'p>(
    pool: &mut Pool,
    interface: &Interface,
    mac: [u8; 6],
    source: Ipv6Addr,
    destination: Ipv6Addr,
    parts: impl IntoIterator<Item = &'p [u8]>,
) -> Option<Packet> {
    let mut packet = pool.alloc()?;
    packet.meta_mut().received = interface.index;
    if fill(&mut packet, interface, mac, source, destination, parts).is_none() {
        pool.free(packet);
        return None;
    }
    Some(packet)
}

fn fill<'p>(
    packet: &mut Packet,
    interface: &Interface,
    mac: [u8; 6],
    source: Ipv6Addr,
    destination: Ipv6Addr,
    parts: impl IntoIterator<Item = &'p [u8]>,
) -> Option<()> {
    const MESSAGE: usize = ethernet::HEADER + ipv6::HEADER;
    let written = packet.extend(&ethernet::header(mac, interface.mac, ethernet::IPV6))
        && packet.extend(&[0x60, 0, 0, 0, 0, 0, ICMPV6, HOP_LIMIT])
        && packet.extend(&source.octets())
        && packet.extend(&destination.octets())
        && parts.into_iter().all(|part| packet.extend(part));
    let len = packet.len().checked_sub(MESSAGE).filter(|_| written)?;
    let data = packet.data_mut();
    let mut sum = pseudo6(source, destination, ICMPV6, len as u32);
    sum.add(data.get(MESSAGE..)?);
    *data.get_mut(MESSAGE + 2..)?.first_chunk_mut()? = sum.checksum().to_be_bytes();
    *data.get_mut(ethernet::HEADER + 4..)?.first_chunk_mut()? = u16::try_from(len).ok()?.to_be_bytes();
    Some(())
}
