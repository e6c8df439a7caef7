//! Fragments packets that are too big for their egress: IPv4 ones (RFC 791 §3.2, RFC 1812 §5.3.1.2), and IPv6 ones of the
//! router's own (RFC 8200 §4.5).
//!
//! Called by the egress stage, once it has seen that DF is clear, and by the path for what the router sends, in softint
//! context. Copies.

mod v6;

pub use v6::{Identification, fragment6};

use crate::checksum::{self, internet};
use crate::datagram::{self, IPV4_HEADER, field};
use crate::pieces::{MAX_PIECES, all_or_nothing, cursor};
use weir_netif::{Checksum, Drop, Packet, Pool};

const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;
/// Bytes of options a header can have.
const MAX_OPTIONS: usize = 40;
/// Set in the type of an option that every fragment carries (RFC 791 §3.1).
const COPIED: u8 = 0x80;

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
    packet: Packet,
    l3_offset: usize,
    mtu: usize,
    pool: &mut Pool,
    out: impl FnMut(&mut Pool, Packet),
) -> Result<usize, Drop> {
    let fits = datagram::Ipv4::parse(&packet, l3_offset).is_some_and(|ip| ip.total <= mtu);
    send(packet, l3_offset, fits, |packet| Plan::new(packet, l3_offset, mtu), pool, out)
}

/// How a packet is cut.
trait Cut {
    /// Into how many fragments.
    fn count(&self) -> usize;
    /// Where in the packet the data begin that are cut.
    fn cut_from(&self) -> usize;
    /// Where in them the data of a fragment begin, and their length.
    fn piece(&self, index: usize) -> (usize, usize);
    /// Writes what goes before the data of a fragment. `None` if the pool ran dry.
    fn headers(&self, packet: &Packet, index: usize, fragment: &mut Packet, pool: &mut Pool) -> Option<()>;
}

/// Hands `packet` out as it is if it fits, else in fragments; frees it.
fn send<P: Cut>(
    mut packet: Packet,
    l3: usize,
    fits: bool,
    plan: impl FnOnce(&Packet) -> Option<P>,
    pool: &mut Pool,
    mut out: impl FnMut(&mut Pool, Packet),
) -> Result<usize, Drop> {
    let result = if packet.meta().gso.is_some() {
        Err(Drop::OffloadMalformed)
    } else if fits {
        out(pool, packet);
        return Ok(1);
    } else if checksum::finish_at(&mut packet, l3).is_err() {
        Err(Drop::OffloadMalformed)
    } else {
        plan(&packet).ok_or(Drop::FragmentFailed).and_then(|plan| cut(&packet, &plan, pool, out))
    };
    pool.free(packet);
    result
}

fn cut(
    packet: &Packet,
    plan: &impl Cut,
    pool: &mut Pool,
    out: impl FnMut(&mut Pool, Packet),
) -> Result<usize, Drop> {
    let count = plan.count();
    if count > MAX_PIECES {
        return Err(Drop::FragmentFailed);
    }
    let mut data = cursor(packet, plan.cut_from());
    let make = |index, pool: &mut Pool| {
        let mut fragment = pool.alloc()?;
        *fragment.meta_mut() = *packet.meta();
        // A transport checksum covers the whole datagram: of a fragment nothing is known.
        fragment.meta_mut().checksum = Checksum::Unknown;
        let (_, len) = plan.piece(index);
        let made = plan
            .headers(packet, index, &mut fragment, pool)
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

    fn options<'a>(&'a self, index: usize, packet: &'a Packet) -> &'a [u8] {
        let options = match index {
            0 => packet.data().get(self.l3 + IPV4_HEADER..self.l3 + self.header),
            _ => self.copied.get(..self.copied_len),
        };
        options.unwrap_or(&[])
    }
}

impl Cut for Plan {
    fn count(&self) -> usize {
        1 + self.data.saturating_sub(self.first).div_ceil(self.each)
    }

    fn cut_from(&self) -> usize {
        self.l3 + self.header
    }

    fn piece(&self, index: usize) -> (usize, usize) {
        let (offset, room) = match index.checked_sub(1) {
            None => (0, self.first),
            Some(others) => (self.first + others * self.each, self.each),
        };
        (offset, room.min(self.data.saturating_sub(offset)))
    }

    fn headers(&self, packet: &Packet, index: usize, fragment: &mut Packet, pool: &mut Pool) -> Option<()> {
        cursor(packet, 0).copy(self.l3 + IPV4_HEADER, fragment, pool)?;
        fragment.extend(self.options(index, packet)).then_some(())?;
        let (offset, len) = self.piece(index);
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
