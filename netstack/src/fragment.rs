//! Fragments packets that are too big for their egress: IPv4 ones (RFC 791 §3.2, RFC 1812 §5.3.1.2), and IPv6 ones of the
//! router's own (RFC 8200 §4.5).
//!
//! Called by the egress stage, once it has seen that DF is clear, and by the path for what the router sends, in softint
//! context. Copies.

use crate::address::Bits;
use crate::checksum::{self, internet};
use crate::datagram::{self, IPV4_HEADER, IPV6_HEADER, field};
use crate::ipv6ext::{FRAGMENT, HOP_BY_HOP, upper_layer};
use crate::pieces::{MAX_PIECES, all_or_nothing, cursor};
use weir_netif::{Checksum, Drop, Packet, Pool};

const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;
/// Bytes of options a header can have.
const MAX_OPTIONS: usize = 40;
/// Set in the type of an option that every fragment carries (RFC 791 §3.1).
const COPIED: u8 = 0x80;
/// Bytes of an IPv6 fragment header.
const FRAGMENT_HEADER: usize = 8;

/// Cuts `packet`, whose IPv4 header begins at `l3_offset`, into fragments of at most `mtu` bytes from the IPv4 header
/// on, and hands them to `out` in order. What stands before the header goes before each. Returns how many; a packet
/// that fits goes out as it is.
///
/// The packet may be a fragment itself. An owed checksum is completed first. DF is copied, not obeyed.
///
/// # Errors
/// The packet is freed and nothing is handed out: [`Drop::OffloadMalformed`] for a super-packet or a checksum that
/// is not owed soundly, [`Drop::FragmentFailed`] for broken options or lengths, an `mtu` without room for eight
/// bytes of data or more than 1024 fragments, [`Drop::NoBuffer`] when the pool ran dry.
pub fn fragment4(
    mut packet: Packet,
    l3_offset: usize,
    mtu: usize,
    pool: &mut Pool,
    mut out: impl FnMut(&mut Pool, Packet),
) -> Result<usize, Drop> {
    let fits = datagram::Ipv4::parse(&packet, l3_offset).is_some_and(|ip| ip.total <= mtu);
    let result = if packet.meta().gso.is_some() {
        Err(Drop::OffloadMalformed)
    } else if fits {
        out(pool, packet);
        return Ok(1);
    } else if checksum::finish_at(&mut packet, l3_offset).is_err() {
        Err(Drop::OffloadMalformed)
    } else {
        cut(&packet, l3_offset, mtu, pool, out)
    };
    pool.free(packet);
    result
}

/// Cuts `packet`, whose IPv6 header begins at `l3_offset`, into fragments of at most `mtu` bytes from the IPv6 header on,
/// and hands them to `out` in order. What stands before the header goes before each. Returns how many; a packet that fits
/// goes out as it is.
///
/// Only its source may do this: the packet must be the router's own. An owed checksum is completed first. Hop-by-hop
/// options go with each fragment. `id` tells the packet from others of the last minutes between the same two nodes.
///
/// # Errors
/// The packet is freed and nothing is handed out, for the reasons of [`fragment4`]; a fragment is not fragmented.
pub fn fragment6(
    mut packet: Packet,
    l3_offset: usize,
    mtu: usize,
    id: u32,
    pool: &mut Pool,
    mut out: impl FnMut(&mut Pool, Packet),
) -> Result<usize, Drop> {
    let fits = datagram::Ipv6::parse(&packet, l3_offset).is_some_and(|ip| ip.total <= mtu);
    let result = if packet.meta().gso.is_some() {
        Err(Drop::OffloadMalformed)
    } else if fits {
        out(pool, packet);
        return Ok(1);
    } else if checksum::finish_at(&mut packet, l3_offset).is_err() {
        Err(Drop::OffloadMalformed)
    } else {
        cut6(&packet, l3_offset, mtu, id, pool, out)
    };
    pool.free(packet);
    result
}

fn cut6(
    packet: &Packet,
    l3: usize,
    mtu: usize,
    id: u32,
    pool: &mut Pool,
    out: impl FnMut(&mut Pool, Packet),
) -> Result<usize, Drop> {
    let plan = Plan6::new(packet, l3, mtu, id).ok_or(Drop::FragmentFailed)?;
    let count = plan.data.div_ceil(plan.each);
    if count > MAX_PIECES {
        return Err(Drop::FragmentFailed);
    }
    let mut data = cursor(packet, plan.headers);
    let make = |index: usize, pool: &mut Pool| {
        let mut fragment = pool.alloc()?;
        let offset = index * plan.each;
        let len = plan.each.min(plan.data - offset);
        let made = cursor(packet, 0)
            .copy(plan.headers, &mut fragment, pool)
            .and_then(|()| plan.adjust(packet, &mut fragment, offset, len))
            .and_then(|()| data.copy(len, &mut fragment, pool));
        if made.is_none() {
            pool.free(fragment);
            return None;
        }
        Some(fragment)
    };
    all_or_nothing(count, pool, make, out).ok_or(Drop::NoBuffer)?;
    Ok(count)
}

/// How to cut an IPv6 packet.
struct Plan6 {
    l3: usize,
    id: u32,
    /// Bytes before the fragment header, and where the first of them names it.
    headers: usize,
    named_at: usize,
    /// The upper layer, or what header stands before it.
    next: u8,
    /// Bytes of data, and what of them each fragment but the last has.
    data: usize,
    each: usize,
}

impl Plan6 {
    fn new(packet: &Packet, l3: usize, mtu: usize, id: u32) -> Option<Plan6> {
        let ip = datagram::Ipv6::parse(packet, l3)?;
        let upper = upper_layer(packet, l3).ok()?;
        let rest = packet.data().get(l3..)?;
        let (mut headers, mut named_at, mut next) = (l3 + IPV6_HEADER, l3 + 6, *rest.get(6)?);
        if next == HOP_BY_HOP {
            let &[after, units, ..] = rest.get(IPV6_HEADER..)? else { return None };
            (named_at, next) = (headers, after);
            headers += (usize::from(units) + 1) * 8;
        }
        // What a routing header's nodes would have to see is not told apart here, and the router sends none.
        if upper.fragment.is_some() || upper.routing.is_some() {
            return None;
        }
        let each = mtu.checked_sub(headers - l3 + FRAGMENT_HEADER).map(|room| room & !7)?;
        let data = (l3 + ip.total).checked_sub(headers)?;
        // The offset of the last fragment has 13 bits for units of eight bytes.
        let sound = each > 0 && data <= usize::from(u16::MAX);
        sound.then_some(Plan6 { l3, id, headers, named_at, next, data, each })
    }

    /// Makes the copied headers those of a fragment with `len` bytes of data from `offset` on. `None` never: the headers
    /// were copied whole.
    fn adjust(&self, packet: &Packet, fragment: &mut Packet, offset: usize, len: usize) -> Option<()> {
        *fragment.meta_mut() = *packet.meta();
        fragment.meta_mut().checksum = Checksum::Unknown;
        let more = u16::from(offset + len < self.data);
        let [high, low] = (offset as u16 | more).to_be_bytes();
        let [a, b, c, d] = self.id.to_be_bytes();
        fragment.extend(&[self.next, 0, high, low, a, b, c, d]).then_some(())?;
        *field(fragment, self.named_at)? = [FRAGMENT];
        let payload = self.headers - self.l3 - IPV6_HEADER + FRAGMENT_HEADER + len;
        *field(fragment, self.l3 + 4)? = (payload as u16).to_be_bytes();
        Some(())
    }
}

/// Identifications for fragmented packets: none comes again before all have been, and nobody can tell the next from the
/// last (RFC 7739 §5).
#[derive(Clone, Debug)]
pub struct Identification {
    seed: u64,
    count: u32,
}

impl Identification {
    /// `seed` should be unpredictable.
    pub const fn new(seed: u64) -> Self {
        Self { seed, count: 0 }
    }

    /// Another one.
    pub fn next(&mut self) -> u32 {
        let count = self.count;
        self.count = count.wrapping_add(1);
        // Four rounds of Luby and Rackoff: a permutation of 32 bits, whatever the function of 16 is.
        let halves = ((count >> 16) as u16, count as u16);
        let (left, right) = (0..4).fold(halves, |(left, right), round| {
            (right, left ^ u32::from(right).hash(self.seed.rotate_left(round * 16)) as u16)
        });
        u32::from(left) << 16 | u32::from(right)
    }
}

fn cut(
    packet: &Packet,
    l3: usize,
    mtu: usize,
    pool: &mut Pool,
    out: impl FnMut(&mut Pool, Packet),
) -> Result<usize, Drop> {
    let plan = Plan::new(packet, l3, mtu).ok_or(Drop::FragmentFailed)?;
    let count = plan.count();
    if count > MAX_PIECES {
        return Err(Drop::FragmentFailed);
    }
    let mut data = cursor(packet, l3 + plan.header);
    let make = |index, pool: &mut Pool| {
        let mut fragment = pool.alloc()?;
        let (offset, len) = plan.piece(index);
        let made = cursor(packet, 0)
            .copy(l3 + IPV4_HEADER, &mut fragment, pool)
            .filter(|()| fragment.extend(plan.options(index, packet)))
            .and_then(|()| plan.adjust(packet, &mut fragment, offset, len))
            .and_then(|()| data.copy(len, &mut fragment, pool));
        if made.is_none() {
            pool.free(fragment);
            return None;
        }
        Some(fragment)
    };
    all_or_nothing(count, pool, make, out).ok_or(Drop::NoBuffer)?;
    Ok(count)
}

/// How to cut.
struct Plan {
    l3: usize,
    /// Bytes of the original's header, which the first fragment keeps.
    header: usize,
    /// Bytes of data.
    data: usize,
    flags_offset: u16,
    /// Bytes of data in the first fragment, and in each of the others but the last.
    first: usize,
    each: usize,
    /// The options of the others.
    copied: [u8; MAX_OPTIONS],
    copied_len: usize,
}

impl Plan {
    fn new(packet: &Packet, l3: usize, mtu: usize) -> Option<Plan> {
        let ip = datagram::Ipv4::parse(packet, l3)?;
        let options = packet.data().get(l3 + IPV4_HEADER..l3 + ip.header)?;
        let mut copied = [0; MAX_OPTIONS];
        let copied_len = copied_options(options, &mut copied)?;
        let data = ip.total - ip.header;
        let room = |header: usize| mtu.checked_sub(header).map(|room| room & !7).filter(|&room| room > 0);
        let flags_offset = ip.flags_offset();
        let end = usize::from(flags_offset & OFFSET) * 8 + data;
        // All but the last fragment of a datagram have whole units of eight bytes, and none can end past 65 535.
        let whole_units = flags_offset & MORE_FRAGMENTS == 0 || data.is_multiple_of(8);
        (whole_units && end <= usize::from(u16::MAX)).then_some(())?;
        Some(Plan {
            l3,
            header: ip.header,
            data,
            flags_offset,
            first: room(ip.header)?,
            each: room(IPV4_HEADER + copied_len)?,
            copied,
            copied_len,
        })
    }

    fn count(&self) -> usize {
        1 + self.data.saturating_sub(self.first).div_ceil(self.each)
    }

    /// Where the data of fragment `index` begins, and its length.
    fn piece(&self, index: usize) -> (usize, usize) {
        let (offset, room) = match index.checked_sub(1) {
            None => (0, self.first),
            Some(others) => (self.first + others * self.each, self.each),
        };
        (offset, room.min(self.data.saturating_sub(offset)))
    }

    fn options<'a>(&'a self, index: usize, packet: &'a Packet) -> &'a [u8] {
        let options = match index {
            0 => packet.data().get(self.l3 + IPV4_HEADER..self.l3 + self.header),
            _ => self.copied.get(..self.copied_len),
        };
        options.unwrap_or(&[])
    }

    /// Makes the copied header that of a fragment with `len` bytes of data from `offset` on. `None` never: the header
    /// was copied whole.
    fn adjust(&self, packet: &Packet, fragment: &mut Packet, offset: usize, len: usize) -> Option<()> {
        *fragment.meta_mut() = *packet.meta();
        // A transport checksum covers the whole datagram: of a fragment nothing is known.
        fragment.meta_mut().checksum = Checksum::Unknown;
        let header = fragment.len() - self.l3;
        let last = offset + len == self.data;
        let more = if last { self.flags_offset & MORE_FRAGMENTS } else { MORE_FRAGMENTS };
        let flags = self.flags_offset & !(MORE_FRAGMENTS | OFFSET) | more;
        let units = (self.flags_offset & OFFSET) + (offset / 8) as u16;
        *field(fragment, self.l3)? = [0x40 | (header / 4) as u8];
        *field(fragment, self.l3 + 2)? = ((header + len) as u16).to_be_bytes();
        *field(fragment, self.l3 + 6)? = (flags | units).to_be_bytes();
        *field(fragment, self.l3 + 10)? = [0, 0];
        let checksum = internet(fragment.data().get(self.l3..self.l3 + header)?);
        *field(fragment, self.l3 + 10)? = checksum.to_be_bytes();
        Some(())
    }
}

/// Collects the options that every fragment carries, padded to whole words. Returns their length; `None` if an
/// option's length is broken.
fn copied_options(options: &[u8], into: &mut [u8; MAX_OPTIONS]) -> Option<usize> {
    let (mut rest, mut len) = (options, 0);
    while let [kind, tail @ ..] = rest {
        let size = match (kind, tail) {
            (0, _) => break,
            (1, _) => {
                rest = tail;
                continue;
            }
            (_, [size, ..]) => usize::from(*size),
            (_, []) => return None,
        };
        let (option, more) = rest.split_at_checked(size).filter(|_| size >= 2)?;
        if kind & COPIED != 0 {
            into.get_mut(len..len + size)?.copy_from_slice(option);
            len += size;
        }
        rest = more;
    }
    Some(len.next_multiple_of(4))
}

#[cfg(test)]
mod tests;
