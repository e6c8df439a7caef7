//! IPv4 headers (RFC 791) and where a router sends what they head (RFC 1812 §5.2).

use crate::address::{ALL_ROUTERS4, ALL_SYSTEMS, Kind, kind4};
use crate::checksum::update16;
use crate::ethernet::Cast;
use crate::icmp;
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
#[inline]
fn sum(header: &[u8; HEADER]) -> u16 {
    let (words, _) = header.as_chunks::<4>();
    // The order of bytes does not matter for whether all bits come out set (RFC 1071 §2 (B)).
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
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

/// Counts one hop down and corrects the checksum for it (RFC 1624 eqn. 3). Touches nothing else.
#[inline]
pub fn decrement_ttl(header: &mut [u8; HEADER]) {
    let &mut [_, _, _, _, _, _, _, _, ref mut ttl, protocol, ref mut c0, ref mut c1, ..] = header;
    let old = u16::from_be_bytes([*ttl, protocol]);
    *ttl = ttl.wrapping_sub(1);
    let new = u16::from_be_bytes([*ttl, protocol]);
    [*c0, *c1] = update16(u16::from_be_bytes([*c0, *c1]), old, new).to_be_bytes();
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'s> {
    /// Send it on.
    Forward {
        /// By this interface.
        out: &'s Interface,
        /// To this neighbour.
        next: Ipv4Addr,
    },
    /// It is for the router itself.
    Deliver(Cast),
    /// Forget it.
    Drop(Drop),
    /// Forget it and tell its sender.
    Refuse(Drop, icmp::Error),
}

/// Judges a packet that came in by `received`, to one station or to a group of the link. `flow` is its flow hash, asked for
/// if the route has several next hops.
#[inline]
pub fn route<'s>(
    header: &Header,
    cast: Cast,
    received: &Interface,
    snapshot: &'s Snapshot,
    flow: impl FnOnce() -> u32,
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
    let (interface, next) = match snapshot.route4(header.destination, flow) {
        Some(&Route::Gateway { interface, via }) => (interface, via),
        Some(&Route::Connected { interface }) => (interface, header.destination),
        Some(Route::Local { .. }) if cast == Cast::Unicast => return Verdict::Deliver(Cast::Unicast),
        Some(&Route::Broadcast { interface }) if interface == received.index => {
            return Verdict::Deliver(Cast::Group);
        }
        // RFC 2644: not into the network by default.
        Some(Route::Broadcast { .. }) => return Verdict::Drop(Drop::DirectedBroadcast),
        _ if cast == Cast::Group => return Verdict::Drop(Drop::LinkBroadcast),
        Some(Route::Local { .. }) => return Verdict::Deliver(Cast::Unicast),
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
        Some(out) => Verdict::Forward { out, next },
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
