//! The Internet checksum (RFC 1071), its incremental update (RFC 1624), and completion of partial checksums.
//!
//! Called from every stage that writes or believes a header; works on chains with odd segment borders.

use crate::datagram::{IPV4_HEADER, IPV6_HEADER, field};
use crate::ethernet;
use core::net::{Ipv4Addr, Ipv6Addr};
use weir_netif::{Checksum, Packet};

/// ICMP's protocol number.
pub const ICMP: u8 = 1;
/// TCP's protocol number.
pub const TCP: u8 = 6;
/// UDP's protocol number.
pub const UDP: u8 = 17;
/// ICMPv6's next-header value.
pub const ICMPV6: u8 = 58;

/// Bytes or metadata that contradict themselves or what they describe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// A one's complement sum in progress, over pieces of any length in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum {
    /// Of little-endian 16-bit words: the order of bytes does not matter until the end (RFC 1071 §2 (B)).
    words: u64,
    /// 1 after an odd number of bytes.
    odd: u8,
}

impl Sum {
    /// Of nothing.
    pub const fn new() -> Self {
        Self { words: 0, odd: 0 }
    }

    /// Adds the bytes that follow.
    #[inline]
    pub fn add(&mut self, bytes: &[u8]) {
        let sum = fold(sum_words(bytes));
        // RFC 1071 §2 (B): a piece that begins at an odd byte has its bytes the other way round.
        self.words += u64::from(if self.odd == 0 { sum } else { sum.swap_bytes() });
        self.odd ^= (bytes.len() & 1) as u8;
    }

    /// Adds a 16-bit field, aligned to an even byte of what is summed wherever the sum stands.
    #[inline]
    pub fn add_u16(&mut self, field: u16) {
        self.words += u64::from(field.to_be());
    }

    /// Adds a 32-bit field, aligned as in [`add_u16`](Self::add_u16).
    #[inline]
    pub fn add_u32(&mut self, field: u32) {
        self.words += u64::from(field.to_be());
    }

    /// The folded sum, as the field's value.
    #[inline]
    pub fn fold(self) -> u16 {
        u16::from_be(fold(self.words))
    }

    /// The checksum: complement of [`fold`](Self::fold).
    #[inline]
    pub fn checksum(self) -> u16 {
        !self.fold()
    }
}

/// Sum of native-endian words, an odd last byte padded with zero; wide enough for 16 GiB.
#[inline]
fn sum_words(bytes: &[u8]) -> u64 {
    let (blocks, tail) = bytes.as_chunks::<32>();
    let mut lanes = [0u64; 8];
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let mut sum: u64 = lanes.iter().sum();
    let (words, tail) = tail.as_chunks::<4>();
    for word in words {
        sum += u64::from(u32::from_ne_bytes(*word));
    }
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(tail) {
        *to = *from;
    }
    sum + u64::from(u32::from_ne_bytes(last))
}

/// Adds the carries in until 16 bits are left.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

/// One's complement sum of the 20 bytes that are these numbers, in any order of bytes: 0xffff if they contain a right
/// checksum (RFC 1071 §2).
#[inline(always)]
pub fn sum20(a: u64, b: u64, c: u32) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    let (sum, more) = sum.overflowing_add(u64::from(c) + u64::from(carry));
    // What overflowed left little behind. Halves are added with what they carry by adding the number with them swapped.
    let sum = sum.wrapping_add(u64::from(more));
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// Whether a header of 20 bytes, not all of them zero, contains its checksum; read in the byte order of the machine.
#[inline(always)]
pub fn is_right20(a: u32, b: u64, c: u64) -> bool {
    let (sum, carry) = b.carrying_add(c, false);
    let (sum, carry) = sum.carrying_add(a.into(), carry);
    // 2^16 is 1 modulo 65535, and so is what overflowed; that left little behind.
    sum.wrapping_add(carry.into()) % 0xffff == 0
}

/// Checksum of `bytes`; 0 if they contain a right one already.
#[inline]
pub fn internet(bytes: &[u8]) -> u16 {
    let mut sum = Sum::new();
    sum.add(bytes);
    sum.checksum()
}

/// Sum of the IPv4 pseudo-header (RFC 9293 §3.1, RFC 768); `len` is transport header and data.
#[inline]
pub fn pseudo4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, len: u32) -> Sum {
    let mut sum = Sum::new();
    sum.add_u32(source.to_bits());
    sum.add_u32(destination.to_bits());
    sum.add_u16(protocol.into());
    sum.add_u32(len);
    sum
}

/// Sum of the IPv6 pseudo-header (RFC 8200 §8.1); `len` is upper-layer header and data.
#[inline]
pub fn pseudo6(source: Ipv6Addr, destination: Ipv6Addr, next: u8, len: u32) -> Sum {
    let mut sum = Sum::new();
    sum.add(&source.octets());
    sum.add(&destination.octets());
    sum.add_u16(next.into());
    sum.add_u32(len);
    sum
}

/// The checksum after a 16-bit field it covers changed (RFC 1624 eqn 3).
#[inline]
pub const fn update16(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

/// The checksum after a 32-bit field it covers changed.
#[inline]
pub const fn update32(checksum: u16, old: u32, new: u32) -> u16 {
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

/// Sum of `len` bytes from `offset` on, over segment borders; `None` if there are fewer.
#[inline]
pub fn packet_sum(packet: &Packet, offset: usize, len: usize) -> Option<Sum> {
    let mut sum = Sum::new();
    add_packet(&mut sum, packet, offset, len)?;
    Some(sum)
}

#[inline]
pub(crate) fn add_packet(sum: &mut Sum, packet: &Packet, offset: usize, len: usize) -> Option<()> {
    let (mut skip, mut left) = (offset, len);
    for segment in packet.segments() {
        if left == 0 {
            break;
        }
        let Some(bytes) = segment.get(skip..) else {
            skip -= segment.len();
            continue;
        };
        skip = 0;
        let bytes = bytes.get(..left).unwrap_or(bytes);
        sum.add(bytes);
        left -= bytes.len();
    }
    (left == 0).then_some(())
}

/// Whether the transport checksum of `len` bytes at `offset` may be believed: the device said so, it is owed by a
/// sender that shares our memory, or the sum is right. ICMP has no pseudo-header (RFC 792); UDP's may be absent.
pub fn transport4_ok(
    packet: &Packet,
    offset: usize,
    len: usize,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
) -> bool {
    if vouched_for(packet, offset) {
        return true;
    }
    let mut field = [0; 2];
    if protocol == UDP && packet.copy_out(offset + 6, &mut field) == 2 && field == [0, 0] {
        return len >= 8;
    }
    let mut sum =
        if protocol == ICMP { Sum::new() } else { pseudo4(source, destination, protocol, len as u32) };
    add_packet(&mut sum, packet, offset, len).is_some() && sum.checksum() == 0
}

/// As [`transport4_ok`] over IPv6, where every protocol has the pseudo-header and UDP must have a checksum.
pub fn transport6_ok(
    packet: &Packet,
    offset: usize,
    len: usize,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    next: u8,
) -> bool {
    if vouched_for(packet, offset) {
        return true;
    }
    let mut field = [0; 2];
    if next == UDP && (packet.copy_out(offset + 6, &mut field) != 2 || field == [0, 0]) {
        return false;
    }
    let mut sum = pseudo6(source, destination, next, len as u32);
    add_packet(&mut sum, packet, offset, len).is_some() && sum.checksum() == 0
}

pub(crate) fn vouched_for(packet: &Packet, offset: usize) -> bool {
    match packet.meta().checksum {
        Checksum::Unknown => false,
        Checksum::Verified => true,
        Checksum::Partial { start, .. } => usize::from(start) == offset,
    }
}

/// Whether a checksum that is owed, if one is, lies behind the IP header at `l3_offset` and within the first segment. One
/// that does not would have whoever completes it rewrite headers by which the packet has been judged.
#[inline]
pub fn is_owed_soundly(packet: &Packet, l3_offset: usize) -> bool {
    match packet.meta().checksum {
        Checksum::Partial { start, offset } => {
            place(packet, l3_offset, start.into(), offset.into()).is_some()
        }
        Checksum::Unknown | Checksum::Verified => true,
    }
}

/// Completes an owed checksum of a frame with an Ethernet header, as [`finish_at`] does.
#[inline]
pub fn finish(packet: &mut Packet) -> Result<(), Malformed> {
    finish_at(packet, ethernet::HEADER)
}

/// Completes a checksum owed by the IP packet at `l3_offset`; the metadata says [`Checksum::Verified`] then. Without one
/// owed, nothing happens. [`Malformed`] and nothing changed unless it [is owed soundly](is_owed_soundly), or if the packet
/// is a super-packet, which has no checksum as a whole.
#[inline]
pub fn finish_at(packet: &mut Packet, l3_offset: usize) -> Result<(), Malformed> {
    match packet.meta().checksum {
        Checksum::Partial { start, offset } => complete(packet, l3_offset, start.into(), offset.into()),
        Checksum::Unknown | Checksum::Verified => Ok(()),
    }
}

fn complete(packet: &mut Packet, l3: usize, start: usize, offset: usize) -> Result<(), Malformed> {
    if packet.meta().gso.is_some() {
        return Err(Malformed);
    }
    let (at, checksum) = owed(packet, l3, start, offset).ok_or(Malformed)?;
    *field(packet, at).ok_or(Malformed)? = checksum.to_be_bytes();
    packet.meta_mut().checksum = Checksum::Verified;
    Ok(())
}

/// The checksum that `Partial { start, offset }` asks for, from the packet as it is, and where it goes.
pub(crate) fn owed(packet: &Packet, l3: usize, start: usize, offset: usize) -> Option<(usize, u16)> {
    let at = place(packet, l3, start, offset)?;
    // The field holds the pseudo-header's sum and is summed with the rest.
    let sum = packet_sum(packet, start, packet.len().checked_sub(start)?)?;
    Some((at, nonzero_for_udp(sum.checksum(), offset)))
}

/// Where the checksum goes, unless that is no place for one.
fn place(packet: &Packet, l3: usize, start: usize, offset: usize) -> Option<usize> {
    let first = *packet.data().get(l3)?;
    let header = match first >> 4 {
        4 => IPV4_HEADER.max(usize::from(first & 15) * 4),
        6 => IPV6_HEADER,
        _ => return None,
    };
    let at = start + offset;
    packet.data().get(at..)?.first_chunk::<2>()?;
    (start - l3.min(start) >= header).then_some(at)
}

/// RFC 768: a computed 0 is sent as all ones. Only UDP has its checksum at byte 6.
fn nonzero_for_udp(checksum: u16, offset: usize) -> u16 {
    if checksum == 0 && offset == 6 { 0xffff } else { checksum }
}

#[cfg(test)]
mod tests;
