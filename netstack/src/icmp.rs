//! ICMP (RFC 792): what a message is, echo replies in place, and errors as a router owes them (RFC 1812 §4.3).
//!
//! Called by the local stage and by whoever drops a packet that its sender should hear about, in softint context.

use crate::address::{Kind, kind4};
use crate::checksum::{self, ICMP, Malformed, internet, packet_sum, update16, update32};
use crate::datagram::{self, IPV4_HEADER, field};
use crate::pieces::cursor;
use core::net::Ipv4Addr;
use weir_netif::{Checksum, Packet, Pool};

/// TTL of what the router itself sends.
const TTL: u8 = 64;
/// Bytes of an ICMP header.
const HEADER: usize = 8;
/// Bytes of an error message, IPv4 header included (RFC 1812 §4.3.2.3).
const MAX_ERROR: usize = 576;
/// Precedence 6, internetwork control, TOS 0 (RFC 1812 §4.3.2.5).
const TOS: u8 = 6 << 5;

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;

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
        /// The header's second word: next-hop MTU, pointer.
        word: u32,
        /// Bytes from the start of the packet buffer to the quoted datagram.
        quoted: usize,
    },
    /// Anything else.
    Other {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
}

/// An error the router sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// No route (3/0).
    NetworkUnreachable,
    /// The next hop or the host does not answer (3/1).
    HostUnreachable,
    /// Nobody speaks that protocol here (3/2).
    ProtocolUnreachable,
    /// Nobody listens on that port (3/3).
    PortUnreachable,
    /// Too big for the next hop, and DF set (3/4; RFC 1191 §4).
    FragmentationNeeded {
        /// The next hop's MTU, in bytes.
        mtu: u16,
    },
    /// Forbidden by configuration (3/13).
    AdministrativelyProhibited,
    /// TTL ran out on the way (11/0).
    TimeExceeded,
    /// Fragments were missing too long (11/1).
    ReassemblyTimeExceeded,
    /// A header field is wrong (12/0).
    ParameterProblem {
        /// Bytes from the start of the IPv4 header to the field.
        pointer: u8,
    },
}

impl Error {
    /// Type, code and the header's second word.
    fn header(self) -> (u8, u8, u32) {
        match self {
            Error::NetworkUnreachable => (UNREACHABLE, 0, 0),
            Error::HostUnreachable => (UNREACHABLE, 1, 0),
            Error::ProtocolUnreachable => (UNREACHABLE, 2, 0),
            Error::PortUnreachable => (UNREACHABLE, 3, 0),
            Error::FragmentationNeeded { mtu } => (UNREACHABLE, 4, mtu.into()),
            Error::AdministrativelyProhibited => (UNREACHABLE, 13, 0),
            Error::TimeExceeded => (TIME_EXCEEDED, 0, 0),
            Error::ReassemblyTimeExceeded => (TIME_EXCEEDED, 1, 0),
            Error::ParameterProblem { pointer } => (PARAMETER_PROBLEM, 0, u32::from(pointer) << 24),
        }
    }
}

/// To whom a packet was sent, as far as the IP address alone does not tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cast {
    /// To one station.
    Host,
    /// To a link-layer group or broadcast, or to a subnet's broadcast address.
    Group,
}

/// Reads the ICMP message in the IPv4 packet at `l3_offset`. [`Malformed`] if it is a fragment, cut short, or its
/// checksum is wrong.
pub fn parse(packet: &Packet, l3_offset: usize) -> Result<Message, Malformed> {
    let (offset, len) = bounds(packet, l3_offset).ok_or(Malformed)?;
    let mut header = [0; HEADER];
    if packet.copy_out(offset, &mut header) != HEADER || len < HEADER || !sum_ok(packet, offset, len) {
        return Err(Malformed);
    }
    let [kind, code, _, _, a, b, c, d] = header;
    let (id, sequence) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Ok(match kind {
        ECHO_REQUEST if code == 0 => Message::EchoRequest { id, sequence },
        ECHO_REPLY if code == 0 => Message::EchoReply { id, sequence },
        _ if is_query(kind) => Message::Other { kind, code },
        _ => {
            let word = u32::from_be_bytes([a, b, c, d]);
            Message::Error { kind, code, word, quoted: offset + HEADER }
        }
    })
}

/// Offset and length of the ICMP message.
fn bounds(packet: &Packet, l3: usize) -> Option<(usize, usize)> {
    let ip = datagram::Ipv4::parse(packet, l3)?;
    let whole = ip.flags_offset() & 0x3fff == 0;
    (ip.protocol() == ICMP && whole).then_some((l3 + ip.header, ip.total - ip.header))
}

fn sum_ok(packet: &Packet, offset: usize, len: usize) -> bool {
    checksum::vouched_for(packet, offset)
        || packet_sum(packet, offset, len).is_some_and(|sum| sum.checksum() == 0)
}

/// The assigned types that are no errors; what is not assigned might be one.
fn is_query(kind: u8) -> bool {
    matches!(kind, ECHO_REPLY | ECHO_REQUEST | 9 | 10 | 13..=18 | 42 | 43)
}

/// Makes the echo request at `l3_offset` the reply to it, sent from `source` (the address asked, or one of the
/// interface's if that was a group) with TTL 64 and DF clear: the way back may be narrower. Checksums are updated, so that
/// a damaged request stays damaged.
///
/// [`Malformed`], and nothing changed, if it is not an echo request or `source` or the asker is no single host.
pub fn echo_reply(packet: &mut Packet, l3_offset: usize, source: Ipv4Addr) -> Result<(), Malformed> {
    reply(packet, l3_offset, source).ok_or(Malformed)
}

fn reply(packet: &mut Packet, l3: usize, source: Ipv4Addr) -> Option<()> {
    let (l4, len) = bounds(packet, l3)?;
    let ip = datagram::Ipv4::parse(packet, l3)?;
    let (asker, asked) = (ip.source(), ip.destination());
    let ttl = |ttl| u16::from_be_bytes([ttl, ICMP]);
    let ip_sum = update16(ip.checksum(), ttl(ip.ttl()), ttl(TTL));
    let ip_sum = update16(ip_sum, ip.flags_offset(), 0);
    let ip_sum = update32(ip_sum, asked.to_bits(), source.to_bits());
    let [kind, code, high, low] = *packet.data().get(l4..)?.first_chunk::<4>()?;
    let sound = kind == ECHO_REQUEST && code == 0 && len >= HEADER && is_host(asker) && is_host(source);
    sound.then_some(())?;
    let old = u16::from_be_bytes([high, low]);
    let sum = match packet.meta().checksum {
        // The field holds no sum that the type is part of yet.
        Checksum::Partial { start, .. } if usize::from(start) == l4 => old,
        _ => update16(old, u16::from_be_bytes([ECHO_REQUEST, 0]), u16::from_be_bytes([ECHO_REPLY, 0])),
    };
    let [sum_high, sum_low] = sum.to_be_bytes();
    *field(packet, l4)? = [ECHO_REPLY, 0, sum_high, sum_low];
    *field(packet, l3 + 6)? = [0, 0, TTL];
    *field(packet, l3 + 10)? = ip_sum.to_be_bytes();
    *field(packet, l3 + 12)? = source.octets();
    *field(packet, l3 + 16)? = asker.octets();
    Some(())
}

/// Whether an address is one host's, so that an error may be sent to it (RFC 1812 §4.3.2.7).
fn is_host(address: Ipv4Addr) -> bool {
    matches!(kind4(address), Kind::Unicast | Kind::LinkLocal)
}

/// Whether an error may be sent about the IPv4 packet at `l3_offset` (RFC 1812 §4.3.2.7): not about ICMP errors, later
/// fragments, packets to groups, or from what is no single host. Ask before taking from a rate limit.
pub fn permitted(original: &Packet, l3_offset: usize, cast: Cast) -> bool {
    let Some(ip) = datagram::Ipv4::parse(original, l3_offset) else { return false };
    let mut kind = [0];
    let later_fragment = ip.flags_offset() & 0x1fff != 0;
    let about_error = ip.protocol() == ICMP
        && (ip.total == ip.header
            || original.copy_out(l3_offset + ip.header, &mut kind) == 0
            || !is_query(u8::from_be_bytes(kind)));
    cast == Cast::Host && is_host(ip.source()) && is_host(ip.destination()) && !later_fragment && !about_error
}

/// Builds `error` about the IPv4 packet at `l3_offset` of `original`, from `source` to the original's source. The result
/// begins with its IPv4 header and has headroom; 576 bytes at most. `None` if it is not [`permitted`], or without
/// a buffer.
///
/// The quotation is the original's bytes as they are: what forwarding had changed before the error was found, such as
/// the TTL, need not be undone (RFC 1812 §4.3.2.3). An owed checksum is completed in the quotation.
pub fn error(
    pool: &mut Pool,
    original: &Packet,
    l3_offset: usize,
    cast: Cast,
    error: Error,
    source: Ipv4Addr,
) -> Option<Packet> {
    if !permitted(original, l3_offset, cast) {
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
    source: Ipv4Addr,
) -> Option<()> {
    let ip = datagram::Ipv4::parse(original, l3)?;
    let quoted = ip.total.min(MAX_ERROR - IPV4_HEADER - HEADER);
    let total = (IPV4_HEADER + HEADER + quoted) as u16;
    let [length_high, length_low] = total.to_be_bytes();
    // The original's identification is as unique between these two hosts as its sender made it.
    let [id_high, id_low] = ip.id().to_be_bytes();
    let header = [0x45, TOS, length_high, length_low, id_high, id_low, 0, 0, TTL, ICMP, 0, 0];
    let (kind, code, word) = error.header();
    let written = packet.extend(&header)
        && packet.extend(&source.octets())
        && packet.extend(&ip.source().octets())
        && packet.extend(&[kind, code, 0, 0])
        && packet.extend(&word.to_be_bytes());
    written.then_some(())?;
    quote(pool, packet, original, l3, quoted)?;
    let header_sum = internet(packet.data().get(..IPV4_HEADER)?);
    *field(packet, 10)? = header_sum.to_be_bytes();
    let sum = packet_sum(packet, IPV4_HEADER, HEADER + quoted)?;
    *field(packet, IPV4_HEADER + 2)? = sum.checksum().to_be_bytes();
    packet.meta_mut().received = original.meta().received;
    packet.meta_mut().checksum = Checksum::Verified;
    Some(())
}

/// Appends `len` bytes of `original` from `l3` on; if it owes a checksum within them, they hold it complete.
pub(crate) fn quote(
    pool: &mut Pool,
    packet: &mut Packet,
    original: &Packet,
    l3: usize,
    len: usize,
) -> Option<()> {
    let before = packet.len();
    cursor(original, l3).copy(len, packet, pool)?;
    if let Checksum::Partial { start, offset } = original.meta().checksum
        && let Some((at, owed)) = checksum::owed(original, l3, start.into(), offset.into())
        && at + 2 <= l3 + len
    {
        *field(packet, before + at - l3)? = owed.to_be_bytes();
    }
    Some(())
}

#[cfg(test)]
mod tests;
