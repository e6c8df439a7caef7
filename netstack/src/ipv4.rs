//! IPv4 headers (RFC 791) and where a router sends what they head (RFC 1812 §5.2).

use crate::address::{ALL_ROUTERS4, ALL_SYSTEMS, Kind, is_unicast4, kind4};
use crate::checksum::sum20;
use crate::ethernet::Cast;
use crate::icmp;
use crate::neighbor::NextHop;
use crate::snapshot::{Interface, ReversePath, Route, Snapshot};
use core::net::Ipv4Addr;
use weir_netif::Drop;

/// Bytes of a header without options.
pub const HEADER: usize = 20;
/// TTL of packets the router makes.
pub const TTL: u8 = 64;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// What a header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Where it comes from.
    pub source: Ipv4Addr,
    /// Where it goes.
    pub destination: Ipv4Addr,
    /// Bytes of header and payload.
    pub total_len: u16,
    /// Bytes of the header.
    pub header_len: u8,
    /// Time to live.
    pub ttl: u8,
    /// What is in the payload.
    pub protocol: u8,
    /// Flags and fragment offset.
    fragment: u16,
}

impl Header {
    /// Reads and verifies a header. `available` is the number of bytes from its first on, in all segments.
    ///
    /// # Errors
    /// A `Drop::Ipv4…`.
    #[inline]
    pub fn parse(bytes: &[u8], available: usize) -> Result<Self, Drop> {
        let fixed = bytes.first_chunk::<HEADER>().ok_or(Drop::Ipv4Malformed)?;
        let &[first, _, l0, l1, _, _, f0, f1, ttl, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = fixed;
        let header_len = (first & 0xf) * 4;
        let total_len = u16::from_be_bytes([l0, l1]);
        if first == 0x45 {
            if sum(fixed) != 0xffff {
                return Err(Drop::Ipv4Checksum);
            }
        } else {
            parse_options(bytes, first, header_len)?;
        }
        if total_len < header_len.into() {
            return Err(Drop::Ipv4Malformed);
        }
        if usize::from(total_len) > available {
            return Err(Drop::Ipv4Truncated);
        }
        Ok(Self {
            source: Ipv4Addr::new(s0, s1, s2, s3),
            destination: Ipv4Addr::new(d0, d1, d2, d3),
            total_len,
            header_len,
            ttl,
            protocol,
            fragment: u16::from_be_bytes([f0, f1]),
        })
    }

    /// Whether it must not be fragmented.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.fragment & DONT_FRAGMENT != 0
    }

    /// Whether it is a part of a fragmented packet.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment & (MORE_FRAGMENTS | OFFSET) != 0
    }
}

/// One's complement sum of a header without options; 0xffff if its checksum is right.
#[inline(always)]
fn sum(header: &[u8; HEADER]) -> u16 {
    let (words, rest) = header.as_chunks::<8>();
    match (words, rest.first_chunk()) {
        ([a, b], Some(c)) => sum20(u64::from_ne_bytes(*a), u64::from_ne_bytes(*b), u32::from_ne_bytes(*c)),
        _ => 0,
    }
}

/// Version, length and checksum of a header that is not a plain one, and its options.
#[cold]
fn parse_options(bytes: &[u8], first: u8, header_len: u8) -> Result<(), Drop> {
    if first >> 4 != 4 || usize::from(header_len) < HEADER {
        return Err(Drop::Ipv4Malformed);
    }
    let header = bytes.get(..header_len.into()).ok_or(Drop::Ipv4Malformed)?;
    if crate::checksum::internet(header) != 0 {
        return Err(Drop::Ipv4Checksum);
    }
    let mut options = header.get(HEADER..).unwrap_or(&[]);
    while let [kind, rest @ ..] = options {
        options = match kind {
            0 => return Ok(()),
            1 => rest,
            // Loose and strict source routes are not followed and not passed on (RFC 7126 §§4.3, 4.4).
            131 | 137 => return Err(Drop::Ipv4Option),
            _ => {
                let len = *rest.first().ok_or(Drop::Ipv4Option)?;
                options.get(len.into()..).filter(|_| len >= 2).ok_or(Drop::Ipv4Option)?
            }
        };
    }
    Ok(())
}

/// Whether its route alone decides on a packet: no options, the checksum right, both addresses ordinary and the source not
/// ours, hops left. `available` is as in [`Header::parse`].
#[inline(always)]
pub fn is_plain(header: &[u8; HEADER], available: usize, snapshot: &Snapshot) -> bool {
    let &[first, _, _, _, _, _, _, _, ttl, _, _, _, s0, s1, s2, s3, ..] = header;
    let source = Ipv4Addr::new(s0, s1, s2, s3);
    let total_len = usize::from(total_len(header));
    (first == 0x45)
        & (total_len >= HEADER)
        & (total_len <= available)
        & (ttl > 1)
        & is_unicast4(source)
        & is_unicast4(destination(header))
        & (sum(header) == 0xffff)
        & !snapshot.owns4(source)
}

/// Where a packet goes, for look-ups before it is known to be one.
#[inline]
pub fn destination(header: &[u8; HEADER]) -> Ipv4Addr {
    let &[.., d0, d1, d2, d3] = header;
    Ipv4Addr::new(d0, d1, d2, d3)
}

/// Bytes of header and payload, as it says.
#[inline]
pub fn total_len(header: &[u8; HEADER]) -> u16 {
    let &[_, _, l0, l1, ..] = header;
    u16::from_be_bytes([l0, l1])
}

/// Counts one hop down and corrects the checksum for it. Touches nothing else.
#[inline]
pub fn decrement_ttl(header: &mut [u8; HEADER]) {
    let Some(word) = header.get_mut(8..).and_then(|rest| rest.first_chunk_mut()) else { return };
    // TTL, protocol, and from bit 16 on the checksum.
    let old = u32::from_le_bytes(*word);
    // RFC 1624 eqn. 3 for this one change: one less in the high byte of a word is one more in the checksum's, and what
    // leaves at the top comes in below. All ones become zero, as a sum that is not zero has no such complement.
    let new = old.wrapping_add(0x1_0000 - 1);
    *word = if old < 0xfffe_0000 { new } else { new.wrapping_add(0x1_0000) }.to_le_bytes();
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict<'s> {
    /// Send it on.
    Forward {
        /// By this interface.
        out: &'s Interface,
        /// To this neighbour.
        next: Ipv4Addr,
        /// Found as this.
        hop: NextHop,
    },
    /// It is for the router itself.
    Deliver(Cast),
    /// Forget it.
    Drop(Drop),
    /// Forget it and tell its sender.
    Refuse(Drop, icmp::Error),
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
    if snapshot.owns4(header.source) {
        return Verdict::Drop(Drop::MartianSource);
    }
    let (source, destination) = (kind4(header.source), kind4(header.destination));
    if (source, destination, cast) != (Kind::Unicast, Kind::Unicast, Cast::Unicast)
        && let Some(verdict) = special(header, source, destination)
    {
        return verdict;
    }
    if received.reverse_path != ReversePath::Off && !reverse_path(header.source, received, snapshot) {
        return Verdict::Drop(Drop::ReversePath);
    }
    let (interface, next, hop) = match snapshot.fib4().hop(hop) {
        Some(&Route::Gateway { interface, via }) => (interface, via, NextHop::Router(hop)),
        Some(&Route::Connected { interface }) => (interface, header.destination, NextHop::Host(hop)),
        Some(Route::Local { .. }) if cast == Cast::Unicast => return Verdict::Deliver(Cast::Unicast),
        Some(&Route::Broadcast { interface }) if interface == received.index => {
            return Verdict::Deliver(Cast::Group);
        }
        // RFC 2644: not into the network by default.
        Some(Route::Broadcast { .. }) => return Verdict::Drop(Drop::DirectedBroadcast),
        _ if cast == Cast::Group => return Verdict::Drop(Drop::LinkBroadcast),
        Some(Route::Local { .. }) => return Verdict::Deliver(Cast::Unicast),
        Some(Route::Tentative) => return Verdict::Drop(Drop::AddressTentative),
        // A group has no groups.
        Some(Route::Blackhole | Route::Multipath { .. }) => return Verdict::Drop(Drop::RouteBlackhole),
        Some(Route::Unreachable) => {
            return Verdict::Refuse(Drop::RouteUnreachable, icmp::Error::HostUnreachable);
        }
        Some(Route::Prohibit) => {
            return Verdict::Refuse(Drop::RouteProhibited, icmp::Error::AdministrativelyProhibited);
        }
        None => return Verdict::Refuse(Drop::NoRoute, icmp::Error::NetworkUnreachable),
    };
    if (source, destination, cast) != (Kind::Unicast, Kind::Unicast, Cast::Unicast) {
        return Verdict::Drop(if cast == Cast::Group { Drop::LinkBroadcast } else { Drop::LinkLocalScope });
    }
    if header.ttl <= 1 {
        return Verdict::Refuse(Drop::TtlExpired, icmp::Error::TimeExceeded);
    }
    match snapshot.interface(interface) {
        Some(out) => Verdict::Forward { out, next, hop },
        None => Verdict::Drop(Drop::InterfaceUnconfigured),
    }
}

/// The verdict that special addresses alone decide, if they do.
#[cold]
fn special(header: &Header, source: Kind, destination: Kind) -> Option<Verdict<'static>> {
    let to_all = match destination {
        Kind::Unicast | Kind::LinkLocal => false,
        Kind::Broadcast => true,
        Kind::Multicast if [ALL_SYSTEMS, ALL_ROUTERS4].contains(&header.destination) => true,
        Kind::Multicast => return Some(Verdict::Drop(Drop::MulticastNotJoined)),
        Kind::Unspecified | Kind::Martian => return Some(Verdict::Drop(Drop::MartianDestination)),
    };
    match source {
        Kind::Unicast | Kind::LinkLocal => {}
        // A host that has no address yet speaks to all (RFC 1122 §3.2.1.3 (a)).
        Kind::Unspecified if to_all => {}
        _ => return Some(Verdict::Drop(Drop::MartianSource)),
    }
    to_all.then_some(Verdict::Deliver(Cast::Group))
}

/// RFC 3704 §2.
#[cold]
fn reverse_path(source: Ipv4Addr, received: &Interface, snapshot: &Snapshot) -> bool {
    let passes = |route: &Route<Ipv4Addr>| match route {
        Route::Gateway { interface, .. } | Route::Connected { interface } => {
            received.reverse_path == ReversePath::Loose || *interface == received.index
        }
        _ => false,
    };
    match snapshot.fib4().lookup(source) {
        Some(&Route::Multipath { group }) => snapshot.members4(group).any(passes),
        Some(route) => passes(route),
        None => false,
    }
}
