//! ICMPv6 (RFC 4443): what a message is, echo replies in place, and errors as a router owes them.
//!
//! Called by the local stage and by whoever drops a packet that its sender should hear about, in softint context.
//! Neighbour discovery has its own hop limit and its own file.

use crate::address::{Kind, kind6};
use crate::checksum::{self, ICMPV6, Malformed, update16};
use crate::datagram::{self, IPV6_HEADER, field};
use crate::icmp::{Cast, quote};
use crate::ipv6ext::upper_layer;
use core::net::Ipv6Addr;
use weir_netif::{Checksum, Packet, Pool};

/// Hop limit of what the router itself sends, neighbour discovery apart.
const HOP_LIMIT: u8 = 64;
/// Bytes of an ICMPv6 header.
const HEADER: usize = 8;
/// Bytes of an error message, IPv6 header included: the minimum MTU (RFC 4443 §2.4(c)).
const MAX_ERROR: usize = 1280;

const UNREACHABLE: u8 = 1;
const PACKET_TOO_BIG: u8 = 2;
const TIME_EXCEEDED: u8 = 3;
const PARAMETER_PROBLEM: u8 = 4;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
const REDIRECT: u8 = 137;
/// Set in the types that are no errors (RFC 4443 §2.1).
const INFORMATIONAL: u8 = 0x80;

/// A received message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// An echo request: an [`echo_reply`] is due.
    EchoRequest {
        /// Identifier.
        id: u16,
        /// Sequence number.
        sequence: u16,
    },
    /// An echo reply.
    EchoReply {
        /// Identifier.
        id: u16,
        /// Sequence number.
        sequence: u16,
    },
    /// An error about a packet of ours.
    Error {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The header's second word: MTU, pointer.
        word: u32,
        /// Bytes from the start of the packet buffer to the quoted packet.
        quoted: usize,
    },
    /// Anything else: neighbour discovery, group membership, the unknown.
    Other {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Bytes from the start of the packet buffer to the ICMPv6 header.
        offset: usize,
        /// Bytes of the message.
        len: usize,
    },
}

/// Which parameter problem it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// An erroneous header field (4/0).
    Header,
    /// An unrecognised next header (4/1).
    NextHeader,
    /// An unrecognised option that asks for this answer (4/2).
    Option,
    /// A first fragment without all headers (4/3; RFC 7112 §5).
    FirstFragment,
}

/// An error the router sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// No route (1/0).
    NoRoute,
    /// Forbidden by configuration (1/1).
    AdministrativelyProhibited,
    /// The source's scope ends here (1/2).
    BeyondScope,
    /// The next hop or the host does not answer (1/3).
    AddressUnreachable,
    /// Nobody listens on that port (1/4).
    PortUnreachable,
    /// The source fails ingress policy (1/5).
    SourcePolicy,
    /// The route says reject (1/6).
    RejectRoute,
    /// Too big for the next hop (2/0).
    PacketTooBig {
        /// The next hop's MTU, in bytes.
        mtu: u32,
    },
    /// Hop limit ran out on the way (3/0).
    HopLimitExceeded,
    /// Fragments were missing too long (3/1).
    ReassemblyTimeExceeded,
    /// A header cannot be understood.
    ParameterProblem {
        /// Why.
        problem: Problem,
        /// Bytes from the start of the IPv6 header to what is wrong.
        pointer: u32,
    },
}

impl Error {
    /// Type, code and the header's second word.
    fn header(self) -> (u8, u8, u32) {
        match self {
            Error::NoRoute => (UNREACHABLE, 0, 0),
            Error::AdministrativelyProhibited => (UNREACHABLE, 1, 0),
            Error::BeyondScope => (UNREACHABLE, 2, 0),
            Error::AddressUnreachable => (UNREACHABLE, 3, 0),
            Error::PortUnreachable => (UNREACHABLE, 4, 0),
            Error::SourcePolicy => (UNREACHABLE, 5, 0),
            Error::RejectRoute => (UNREACHABLE, 6, 0),
            Error::PacketTooBig { mtu } => (PACKET_TOO_BIG, 0, mtu),
            Error::HopLimitExceeded => (TIME_EXCEEDED, 0, 0),
            Error::ReassemblyTimeExceeded => (TIME_EXCEEDED, 1, 0),
            Error::ParameterProblem { problem, pointer } => (PARAMETER_PROBLEM, problem as u8, pointer),
        }
    }

    /// RFC 4443 §2.4(e.3): the two that answer multicast too, for path MTU discovery and for options that ask for it.
    fn answers_groups(self) -> bool {
        matches!(self, Error::PacketTooBig { .. } | Error::ParameterProblem { problem: Problem::Option, .. })
    }
}

/// Reads the ICMPv6 message in the IPv6 packet at `l3_offset`, behind its extension headers. [`Malformed`] if it is a
/// fragment (one that is the whole packet aside, RFC 6946), cut short, or its checksum is wrong.
pub fn parse(packet: &Packet, l3_offset: usize) -> Result<Message, Malformed> {
    let (offset, len) = bounds(packet, l3_offset).ok_or(Malformed)?;
    let ip = datagram::Ipv6::parse(packet, l3_offset).ok_or(Malformed)?;
    let mut header = [0; HEADER];
    let whole = packet.copy_out(offset, &mut header) == HEADER && len >= HEADER;
    if !whole || !checksum::transport6_ok(packet, offset, len, ip.source(), ip.destination(), ICMPV6) {
        return Err(Malformed);
    }
    let [kind, code, _, _, a, b, c, d] = header;
    let (id, sequence) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Ok(match kind {
        ECHO_REQUEST if code == 0 => Message::EchoRequest { id, sequence },
        ECHO_REPLY if code == 0 => Message::EchoReply { id, sequence },
        _ if kind & INFORMATIONAL != 0 => Message::Other { kind, code, offset, len },
        _ => {
            let word = u32::from_be_bytes([a, b, c, d]);
            Message::Error { kind, code, word, quoted: offset + HEADER }
        }
    })
}

/// Offset and length of the ICMPv6 message.
fn bounds(packet: &Packet, l3: usize) -> Option<(usize, usize)> {
    let ip = datagram::Ipv6::parse(packet, l3)?;
    let upper = upper_layer(packet, l3).ok()?;
    let fragment = upper.fragment.is_some_and(|fragment| fragment.offset != 0 || fragment.more);
    let len = (l3 + ip.total).checked_sub(upper.offset)?;
    (upper.protocol == ICMPV6 && !fragment).then_some((upper.offset, len))
}

/// Makes the echo request at `l3_offset` the reply to it, sent from `source` (the address asked, or one of the
/// interface's if that was a group) with hop limit 64, without extension headers and flow label. The checksum is updated,
/// so that a damaged request stays damaged.
///
/// [`Malformed`], and nothing changed, if it is not an echo request or `source` or the asker is no single node.
pub fn echo_reply(packet: &mut Packet, l3_offset: usize, source: Ipv6Addr) -> Result<(), Malformed> {
    reply(packet, l3_offset, source).ok_or(Malformed)
}

fn reply(packet: &mut Packet, l3: usize, source: Ipv6Addr) -> Option<()> {
    let (l4, len) = bounds(packet, l3)?;
    let ip = datagram::Ipv6::parse(packet, l3)?;
    let (asker, asked, class) = (ip.source(), ip.destination(), ip.traffic_class());
    let [kind, code, high, low] = *packet.data().get(l4..)?.first_chunk::<4>()?;
    let length = u16::try_from(len).ok()?;
    let sound = kind == ECHO_REQUEST && code == 0 && len >= HEADER && is_node(asker) && is_node(source);
    sound.then_some(())?;
    let old = u16::from_be_bytes([high, low]);
    let owed = matches!(packet.meta().checksum, Checksum::Partial { start, .. } if usize::from(start) == l4);
    let sum = if owed {
        // What is owed holds the pseudo-header's sum, and the type is no part of it yet.
        !readdress(!old, asked, source)
    } else {
        let sum = update16(old, u16::from_be_bytes([ECHO_REQUEST, 0]), u16::from_be_bytes([ECHO_REPLY, 0]));
        readdress(sum, asked, source)
    };
    let [sum_high, sum_low] = sum.to_be_bytes();
    *field(packet, l4)? = [ECHO_REPLY, 0, sum_high, sum_low];

    // The extension headers go: what stands before them moves up to the message.
    let extensions = l4 - l3 - IPV6_HEADER;
    if extensions > 0 {
        packet.data_mut().get_mut(..l4)?.copy_within(..l3 + IPV6_HEADER, extensions);
        if let Checksum::Partial { start, .. } = &mut packet.meta_mut().checksum {
            *start = start.saturating_sub(extensions as u16);
        }
        packet.pull(extensions).then_some(())?;
    }
    let [class_high, class_low] = (0x6000 | u16::from(class) << 4).to_be_bytes();
    let [length_high, length_low] = length.to_be_bytes();
    *field(packet, l3)? = [class_high, class_low, 0, 0, length_high, length_low, ICMPV6, HOP_LIMIT];
    *field(packet, l3 + 8)? = source.octets();
    *field(packet, l3 + 24)? = asker.octets();
    Some(())
}

/// The checksum after an address of the pseudo-header changed.
fn readdress(checksum: u16, old: Ipv6Addr, new: Ipv6Addr) -> u16 {
    let words = old.segments().into_iter().zip(new.segments());
    words.fold(checksum, |checksum, (old, new)| update16(checksum, old, new))
}

/// Whether an address is one node's, so that an error may be sent to it (RFC 4443 §2.4(e.6)).
fn is_node(address: Ipv6Addr) -> bool {
    matches!(kind6(address), Kind::Unicast | Kind::LinkLocal)
}

/// Whether `error` may be sent about the IPv6 packet at `l3_offset` (RFC 4443 §2.4(e)): not about ICMPv6 errors and
/// redirects, to groups with two exceptions, or to what is no single node. Ask before taking from a rate limit.
pub fn permitted(original: &Packet, l3_offset: usize, cast: Cast, error: Error) -> bool {
    let Some(ip) = datagram::Ipv6::parse(original, l3_offset) else { return false };
    let to_group = cast == Cast::Group || kind6(ip.destination()) == Kind::Multicast;
    if !is_node(ip.source()) || to_group && !error.answers_groups() {
        return false;
    }
    // A chain of headers that cannot be followed hides no message that anyone would act on; it may be the very thing to
    // complain about. Nor does a later fragment: errors are too short to be fragmented.
    let Ok(upper) = upper_layer(original, l3_offset) else { return true };
    if upper.protocol != ICMPV6 || upper.is_later_fragment() {
        return true;
    }
    let mut kind = [0];
    let there = original.copy_out(upper.offset, &mut kind) == 1 && upper.offset < l3_offset + ip.total;
    let kind = u8::from_be_bytes(kind);
    there && kind & INFORMATIONAL != 0 && kind != REDIRECT
}

/// Builds `error` about the IPv6 packet at `l3_offset` of `original`, from `source` to the original's source. The result
/// begins with its IPv6 header and has headroom; 1280 bytes at most. `None` if it is not [`permitted`], or without
/// a buffer.
///
/// The quotation is the original's bytes as they are, a decremented hop limit included. An owed checksum is completed in
/// the quotation.
pub fn error(
    pool: &mut Pool,
    original: &Packet,
    l3_offset: usize,
    cast: Cast,
    error: Error,
    source: Ipv6Addr,
) -> Option<Packet> {
    if !permitted(original, l3_offset, cast, error) {
        return None;
    }
    let mut packet = pool.alloc()?;
    if build(pool, &mut packet, original, l3_offset, error, source).is_none() {
        pool.free(packet);
        return None;
    }
    Some(packet)
}

fn build(
    pool: &mut Pool,
    packet: &mut Packet,
    original: &Packet,
    l3: usize,
    error: Error,
    source: Ipv6Addr,
) -> Option<()> {
    let ip = datagram::Ipv6::parse(original, l3)?;
    let quoted = ip.total.min(MAX_ERROR - IPV6_HEADER - HEADER);
    let [length_high, length_low] = ((HEADER + quoted) as u16).to_be_bytes();
    let (kind, code, word) = error.header();
    let written = packet.extend(&[0x60, 0, 0, 0, length_high, length_low, ICMPV6, HOP_LIMIT])
        && packet.extend(&source.octets())
        && packet.extend(&ip.source().octets())
        && packet.extend(&[kind, code, 0, 0])
        && packet.extend(&word.to_be_bytes());
    written.then_some(())?;
    quote(pool, packet, original, l3, quoted)?;
    let len = HEADER + quoted;
    let mut sum = checksum::pseudo6(source, ip.source(), ICMPV6, len as u32);
    checksum::add_packet(&mut sum, packet, IPV6_HEADER, len)?;
    *field(packet, IPV6_HEADER + 2)? = sum.checksum().to_be_bytes();
    packet.meta_mut().received = original.meta().received;
    packet.meta_mut().checksum = Checksum::Verified;
    Some(())
}

#[cfg(test)]
mod tests;
