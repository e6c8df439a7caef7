//! What a forwarded frame gets, ready made: found by the number of the route's next hop, in one cache line.

use crate::address::{Address, Bits};
use crate::boxed;
use crate::ethernet::HEADER;
use crate::snapshot::Interface;
use alloc::boxed::Box;
use weir_netif::IfIndex;

/// Places for next hops that are routers, and for hosts on the link; each a power of two.
const ROUTERS: usize = 256;
const HOSTS: usize = 1024;
/// Stands for no hop.
const VACANT: u32 = u32::MAX;
/// Stands for no neighbour.
const NOBODY: u32 = u32::MAX;

/// A neighbour that frames can be sent to at once.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Adjacency<A> {
    /// The number of the next hop in the routing table, if frames to it go to this neighbour.
    hop: u32,
    /// The number of the next hop, if frames go to the destination itself: each has a line of its own.
    hosts: u32,
    /// The neighbour's entry.
    neighbor: u32,
    /// Its address.
    address: A,
    /// Destination and source of the Ethernet header.
    pub(crate) stations: [u8; 12],
    /// The interface it is on.
    pub(crate) out: IfIndex,
    /// Largest layer-3 packet there, in bytes.
    pub(crate) mtu: u16,
    /// Largest frame, in bytes, that can leave as it is; 0 if it needs a VLAN tag.
    pub(crate) longest: u16,
}

const _: () = assert!(size_of::<Adjacency<core::net::Ipv6Addr>>() == 64);

/// A next hop as the routing table has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NextHop {
    /// One router for all destinations; the number of the hop.
    Router(u32),
    /// The destination itself; the number of the hop.
    Host(u32),
    /// Not found by a table.
    Unnumbered,
}

/// The neighbours in use, those of one family on one CPU.
#[derive(Debug)]
pub(super) struct Adjacencies<A> {
    routers: Box<[Adjacency<A>; ROUTERS]>,
    hosts: Box<[Adjacency<A>; HOSTS]>,
    /// Secret: who could guess it could choose addresses that push each other out.
    seed: u64,
}

/// Where an adjacency is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place(u16);

/// Where those of one neighbour are: it may be a router on the way to others and be sent to itself.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Places {
    router: Option<Place>,
    host: Option<Place>,
}

impl<A: Address> Adjacencies<A> {
    pub(super) fn new(seed: u64) -> Self {
        let vacant = Adjacency {
            hop: VACANT,
            hosts: VACANT,
            neighbor: 0,
            address: A::with_bits(A::Bits::ZERO),
            stations: [0; 12],
            out: IfIndex(0),
            mtu: 0,
            longest: 0,
        };
        Self { routers: boxed::array(|| vacant), hosts: boxed::array(|| vacant), seed }
    }

    /// To look for some.
    #[inline(always)]
    pub(super) fn lines(&self) -> Lines<'_, A> {
        Lines { routers: &self.routers, hosts: &self.hosts, seed: self.seed }
    }

    /// Keeps what frames to `address` get, whose entry is `neighbor` and whose adjacencies are at `places`: one of each
    /// kind, for they have to be found when the neighbour changes.
    pub(super) fn put(
        &mut self,
        next: NextHop,
        address: A,
        (neighbor, places): (u32, &mut Places),
        mac: [u8; 6],
        out: &Interface,
    ) {
        let [d0, d1, d2, d3, d4, d5] = mac;
        let [s0, s1, s2, s3, s4, s5] = out.mac;
        let stations = [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5];
        let longest = if out.link.vlan == 0 { out.mtu.saturating_add(HEADER as u16) } else { 0 };
        let (out, mtu) = (out.index, out.mtu);
        let line = |hop, hosts| Adjacency { hop, hosts, neighbor, address, stations, out, mtu, longest };
        let (kept, at) = match next {
            NextHop::Router(hop) => {
                let at = hop as usize % ROUTERS;
                if let Some(place) = self.routers.get_mut(at) {
                    *place = line(hop, VACANT);
                }
                (&mut places.router, at)
            }
            NextHop::Host(hop) => {
                let at = host(self.seed, hop, address);
                // That there are hosts is no neighbour's to forget.
                if let Some(place) = self.routers.get_mut(hop as usize % ROUTERS) {
                    *place = Adjacency { neighbor: NOBODY, ..line(VACANT, hop) };
                }
                if let Some(place) = self.hosts.get_mut(at) {
                    *place = line(hop, VACANT);
                }
                (&mut places.host, ROUTERS + at)
            }
            NextHop::Unnumbered => return,
        };
        let place = Place(at as u16);
        if let Some(former) = kept.replace(place).filter(|former| *former != place) {
            self.forget_at(former, neighbor);
        }
    }

    /// Forgets what is kept at `places`, if it is `neighbor`'s still.
    pub(super) fn forget(&mut self, places: Places, neighbor: u32) {
        let Places { router, host } = places;
        router.into_iter().chain(host).for_each(|place| self.forget_at(place, neighbor));
    }

    fn forget_at(&mut self, place: Place, neighbor: u32) {
        let at = usize::from(place.0);
        let line = match at.checked_sub(ROUTERS) {
            None => self.routers.get_mut(at),
            Some(at) => self.hosts.get_mut(at),
        };
        if let Some(line) = line.filter(|line| line.neighbor == neighbor) {
            (line.hop, line.hosts) = (VACANT, VACANT);
        }
    }

    /// Forgets all: the numbers are another table's now.
    pub(super) fn clear(&mut self) {
        let lines = self.routers.iter_mut().chain(self.hosts.iter_mut());
        lines.for_each(|line| (line.hop, line.hosts) = (VACANT, VACANT));
    }
}

/// The neighbours in use, to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines<'a, A> {
    routers: &'a [Adjacency<A>; ROUTERS],
    hosts: &'a [Adjacency<A>; HOSTS],
    seed: u64,
}

impl<'a, A: Address> Lines<'a, A> {
    /// What a frame gets that takes the next hop `hop` to `destination`.
    #[inline(always)]
    pub(crate) fn get(self, hop: u32, destination: A) -> Option<&'a Adjacency<A>> {
        let line = self.routers.get(hop as usize % ROUTERS)?;
        if line.hop == hop {
            return Some(line);
        }
        if line.hosts != hop {
            return None;
        }
        let line = self.hosts.get(host(self.seed, hop, destination))?;
        (line.hop == hop && line.address == destination).then_some(line)
    }
}

#[inline]
fn host<A: Address>(seed: u64, hop: u32, destination: A) -> usize {
    destination.bits().hash(seed ^ u64::from(hop)) as usize % HOSTS
}
