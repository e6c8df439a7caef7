//! IPv6 headers (RFC 8200) and where a router sends what they head. Extension headers are for the destination.

use crate::address::{ALL_NODES, ALL_ROUTERS, Kind, is_unicast6, kind6};
use crate::ethernet::Cast;
use crate::icmp6;
use crate::ipv6ext::HOP_BY_HOP;
use crate::neighbor::NextHop;
use crate::snapshot::{Interface, ReversePath, Route, Snapshot};
use core::net::Ipv6Addr;
use weir_netif::Drop;

/// Bytes of the fixed header.
pub const HEADER: usize = 40;
/// Hop limit of packets the router makes, neighbour discovery apart.
pub const HOP_LIMIT: u8 = 64;

/// The router's groups beside those of its addresses (RFC 4291 §2.8): all nodes and all routers of interface, link, site.
const GROUPS: [Ipv6Addr; 5] = [
    ALL_NODES,
    ALL_ROUTERS,
    Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 2),
    Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 2),
];

/// What a header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Where it comes from.
    pub source: Ipv6Addr,
    /// Where it goes.
    pub destination: Ipv6Addr,
    /// Bytes behind the header.
    pub payload_len: u16,
    /// What follows the header.
    pub next_header: u8,
    /// Hops left.
    pub hop_limit: u8,
}

impl Header {
    /// Reads a header. `available` is the number of bytes from its first on, in all segments.
    ///
    /// # Errors
    /// A `Drop::Ipv6…`; jumbograms (RFC 2675) are malformed.
    #[inline]
    pub fn parse(bytes: &[u8], available: usize) -> Result<Self, Drop> {
        let fixed = bytes.first_chunk::<HEADER>().ok_or(Drop::Ipv6Malformed)?;
        let &[first, _, _, _, l0, l1, next_header, hop_limit, ref addresses @ ..] = fixed;
        let (source, destination) = addresses.split_at(16);
        let (Ok(source), Ok(destination)) = (<[u8; 16]>::try_from(source), <[u8; 16]>::try_from(destination))
        else {
            return Err(Drop::Ipv6Malformed);
        };
        let payload_len = u16::from_be_bytes([l0, l1]);
        if first >> 4 != 6 || payload_len == 0 && next_header == HOP_BY_HOP {
            return Err(Drop::Ipv6Malformed);
        }
        if HEADER + usize::from(payload_len) > available {
            return Err(Drop::Ipv6Truncated);
        }
        Ok(Self {
            source: Ipv6Addr::from(source),
            destination: Ipv6Addr::from(destination),
            payload_len,
            next_header,
            hop_limit,
        })
    }

    /// Bytes of header and payload.
    #[inline]
    pub fn total_len(&self) -> usize {
        HEADER + usize::from(self.payload_len)
    }
}

/// Whether its route alone decides on a packet: both addresses ordinary and the source not ours, hops left. `available` is
/// as in [`Header::parse`].
#[inline(always)]
pub fn is_plain(header: &[u8; HEADER], available: usize, snapshot: &Snapshot) -> bool {
    let &[first, _, _, _, l0, l1, next_header, hop_limit, ref addresses @ ..] = header;
    let source =
        addresses.first_chunk().map_or(Ipv6Addr::UNSPECIFIED, |octets: &[u8; 16]| Ipv6Addr::from(*octets));
    // A jumbogram has no length (RFC 2675).
    let jumbo = ([l0, l1] == [0, 0]) & (next_header == HOP_BY_HOP);
    (first >> 4 == 6)
        & !jumbo
        & (total_len(header) <= available)
        & (hop_limit > 1)
        & is_unicast6(source)
        & is_unicast6(destination(header))
        && !snapshot.owns6(source)
}

/// Where a packet goes, for look-ups before it is known to be one.
#[inline]
pub fn destination(header: &[u8; HEADER]) -> Ipv6Addr {
    header.last_chunk().map_or(Ipv6Addr::UNSPECIFIED, |octets: &[u8; 16]| Ipv6Addr::from(*octets))
}

/// Bytes of header and payload, as it says.
#[inline]
pub fn total_len(header: &[u8; HEADER]) -> usize {
    let &[_, _, _, _, l0, l1, ..] = header;
    HEADER + usize::from(u16::from_be_bytes([l0, l1]))
}

/// Counts one hop down.
#[inline]
pub fn decrement_hop_limit(header: &mut [u8; HEADER]) {
    let [_, _, _, _, _, _, _, hop_limit, ..] = header;
    *hop_limit = hop_limit.wrapping_sub(1);
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict<'s> {
    /// Send it on.
    Forward {
        /// By this interface.
        out: &'s Interface,
        /// To this neighbour.
        next: Ipv6Addr,
        /// Found as this.
        hop: NextHop,
    },
    /// It is for the router itself, as one host or as one of a group.
    Deliver(Cast),
    /// Forget it.
    Drop(Drop),
    /// Forget it and tell its sender.
    Refuse(Drop, icmp6::Error),
}

/// Judges a packet that came in by `received`, to one station or to a group of the link. `hop` is the number of what the
/// table says of its destination, of several next hops the one it takes.
#[inline]
pub(crate) fn route<'s>(
    header: &Header,
    cast: Cast,
    received: &Interface,
    snapshot: &'s Snapshot,
    hop: u32,
) -> Verdict<'s> {
    if snapshot.owns6(header.source) {
        return Verdict::Drop(Drop::MartianSource);
    }
    let (source, destination) = (kind6(header.source), kind6(header.destination));
    let plain = (source, destination, cast) == (Kind::Unicast, Kind::Unicast, Cast::Unicast);
    if !plain && let Some(verdict) = special(header, source, destination, cast, received) {
        return verdict;
    }
    if received.reverse_path != ReversePath::Off && !reverse_path(header.source, source, received, snapshot) {
        return Verdict::Drop(Drop::ReversePath);
    }
    let (interface, next, hop) = match snapshot.fib6().hop(hop) {
        Some(Route::Local { .. }) => return Verdict::Deliver(Cast::Unicast),
        Some(Route::Tentative) => return Verdict::Drop(Drop::AddressTentative),
        // A link-local source cannot be answered from beyond its link (RFC 4291 §2.5.6).
        _ if source == Kind::LinkLocal => {
            return Verdict::Refuse(Drop::LinkLocalScope, icmp6::Error::BeyondScope);
        }
        Some(&Route::Gateway { interface, via }) => (interface, via, NextHop::Router(hop)),
        Some(&Route::Connected { interface }) => (interface, header.destination, NextHop::Host(hop)),
        // A group has no groups, and IPv6 no broadcast.
        Some(Route::Blackhole | Route::Multipath { .. } | Route::Broadcast { .. }) => {
            return Verdict::Drop(Drop::RouteBlackhole);
        }
        Some(Route::Unreachable) => {
            return Verdict::Refuse(Drop::RouteUnreachable, icmp6::Error::NoRoute);
        }
        Some(Route::Prohibit) => {
            return Verdict::Refuse(Drop::RouteProhibited, icmp6::Error::AdministrativelyProhibited);
        }
        None => return Verdict::Refuse(Drop::NoRoute, icmp6::Error::NoRoute),
    };
    if header.hop_limit <= 1 {
        return Verdict::Refuse(Drop::TtlExpired, icmp6::Error::HopLimitExceeded);
    }
    match snapshot.interface(interface) {
        Some(out) => Verdict::Forward { out, next, hop },
        None => Verdict::Drop(Drop::InterfaceUnconfigured),
    }
}

/// The verdict that special addresses alone decide, if they do.
#[cold]
fn special(
    header: &Header,
    source: Kind,
    destination: Kind,
    cast: Cast,
    received: &Interface,
) -> Option<Verdict<'static>> {
    let verdict = match destination {
        Kind::Multicast
            if GROUPS.contains(&header.destination) || received.solicited6(header.destination) =>
        {
            Some(Verdict::Deliver(Cast::Group))
        }
        Kind::Multicast => Some(Verdict::Drop(Drop::MulticastNotJoined)),
        Kind::Unspecified | Kind::Martian | Kind::Broadcast => {
            return Some(Verdict::Drop(Drop::MartianDestination));
        }
        Kind::Unicast | Kind::LinkLocal if cast == Cast::Group => Some(Verdict::Drop(Drop::LinkBroadcast)),
        Kind::LinkLocal if received.link_local.contains(&header.destination) => {
            Some(Verdict::Deliver(Cast::Unicast))
        }
        Kind::LinkLocal => Some(Verdict::Drop(Drop::LinkLocalScope)),
        Kind::Unicast => None,
    };
    let deliver = matches!(verdict, Some(Verdict::Deliver(_)));
    let valid = match source {
        Kind::Unicast => true,
        Kind::LinkLocal => !received.link_local.contains(&header.source),
        // A node that has no address yet asks whether one is free (RFC 4862 §5.4).
        Kind::Unspecified => deliver,
        _ => false,
    };
    if valid { verdict } else { Some(Verdict::Drop(Drop::MartianSource)) }
}

/// RFC 3704 §2. Link-local sources are on the link by definition.
#[cold]
fn reverse_path(source: Ipv6Addr, kind: Kind, received: &Interface, snapshot: &Snapshot) -> bool {
    let passes = |route: &Route<Ipv6Addr>| match route {
        Route::Gateway { interface, .. } | Route::Connected { interface } => {
            received.reverse_path == ReversePath::Loose || *interface == received.index
        }
        _ => false,
    };
    match snapshot.fib6().lookup(source) {
        _ if kind == Kind::LinkLocal => true,
        Some(&Route::Multipath { group }) => snapshot.members6(group).any(passes),
        Some(route) => passes(route),
        None => false,
    }
}
