//! IPv6 (RFC 8200 §4.5): only the source fragments, so these are the router's own packets.

use super::{Cut, send};
use crate::address::Bits;
use crate::datagram::{self, IPV6_HEADER, field};
use crate::ipv6ext::{FRAGMENT, HOP_BY_HOP, upper_layer};
use crate::pieces::cursor;
use weir_netif::{Drop, Packet, Pool};

/// Bytes of a fragment header.
const FRAGMENT_HEADER: usize = 8;

/// Cuts `packet`, whose IPv6 header begins at `l3_offset`, into fragments of at most `mtu` bytes from the IPv6 header on,
/// and hands them to `out` in order. What stands before the header goes before each. Returns how many; a packet that fits
/// goes out as it is.
///
/// Only its source may do this: the packet must be the router's own. An owed checksum is completed first. Hop-by-hop
/// options go with each fragment. `id` tells the packet from others of the last minutes between the same two nodes.
///
/// # Errors
/// The packet is freed and nothing is handed out, for the reasons of [`fragment4`](super::fragment4); a fragment is not
/// fragmented.
pub fn fragment6(
    packet: Packet,
    l3_offset: usize,
    mtu: usize,
    id: u32,
    pool: &mut Pool,
    out: impl FnMut(&mut Pool, Packet),
) -> Result<usize, Drop> {
    let fits = datagram::Ipv6::parse(&packet, l3_offset).is_some_and(|ip| ip.total <= mtu);
    send(packet, l3_offset, fits, |packet| Plan::new(packet, l3_offset, mtu, id), pool, out)
}

/// How to cut.
struct Plan {
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

impl Plan {
    fn new(packet: &Packet, l3: usize, mtu: usize, id: u32) -> Option<Plan> {
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
        sound.then_some(Plan { l3, id, headers, named_at, next, data, each })
    }
}

impl Cut for Plan {
    fn count(&self) -> usize {
        self.data.div_ceil(self.each)
    }

    fn cut_from(&self) -> usize {
        self.headers
    }

    fn piece(&self, index: usize) -> (usize, usize) {
        let offset = index * self.each;
        (offset, self.each.min(self.data.saturating_sub(offset)))
    }

    fn headers(&self, packet: &Packet, index: usize, fragment: &mut Packet, pool: &mut Pool) -> Option<()> {
        cursor(packet, 0).copy(self.headers, fragment, pool)?;
        let (offset, len) = self.piece(index);
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
    pub fn take(&mut self) -> u32 {
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
