//! What a forwarded frame gets, ready made: found by the number of the route's next hop, in one cache line.

use crate::address::{Address, Bits};
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
    /// The number of the next hop in the routing table.
    hop: u32,
    /// The neighbour's entry.
    neighbor: u32,
    /// Its address, where `leads` to hosts.
    address: A,
    /// Destination and source of the Ethernet header.
    pub(crate) stations: [u8; 12],
    /// The interface it is on.
    pub(crate) out: IfIndex,
    /// Largest layer-3 packet there, in bytes.
    pub(crate) mtu: u16,
    /// The same if its frame needs no VLAN tag, otherwise 0.
    pub(crate) untagged: u16,
    leads: Leads,
}

const _: () = assert!(size_of::<Adjacency<core::net::Ipv6Addr>>() == 64);

/// Where a next hop leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leads {
    /// To this neighbour, whatever the destination.
    Router,
    /// To the destination itself: each has a line of its own.
    Hosts,
}

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
            neighbor: 0,
            address: A::with_bits(A::Bits::ZERO),
            stations: [0; 12],
            out: IfIndex(0),
            mtu: 0,
            untagged: 0,
            leads: Leads::Router,
        };
        Self { routers: Box::new([vacant; ROUTERS]), hosts: Box::new([vacant; HOSTS]), seed }
    }

    /// What a frame gets that takes the next hop `hop` to `destination`.
    #[inline]
    pub(super) fn get(&self, hop: u32, destination: A) -> Option<&Adjacency<A>> {
        let line = self.routers.get(hop as usize % ROUTERS)?;
        if line.hop != hop {
            return None;
        }
        match line.leads {
            Leads::Router => Some(line),
            Leads::Hosts => {
                let line = self.hosts.get(host(self.seed, hop, destination))?;
                (line.hop == hop && line.address == destination).then_some(line)
            }
        }
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
        let untagged = if out.link.vlan == 0 { out.mtu } else { 0 };
        let (out, mtu) = (out.index, out.mtu);
        let line = |hop, leads| Adjacency { hop, neighbor, address, stations, out, mtu, untagged, leads };
        let (kept, at) = match next {
            NextHop::Router(hop) => {
                let at = hop as usize % ROUTERS;
                if let Some(place) = self.routers.get_mut(at) {
                    *place = line(hop, Leads::Router);
                }
                (&mut places.router, at)
            }
            NextHop::Host(hop) => {
                let at = host(self.seed, hop, address);
                // That there are hosts is no neighbour's to forget.
                if let Some(place) = self.routers.get_mut(hop as usize % ROUTERS) {
                    *place = Adjacency { neighbor: NOBODY, ..line(hop, Leads::Hosts) };
                }
                if let Some(place) = self.hosts.get_mut(at) {
                    *place = line(hop, Leads::Hosts);
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
            line.hop = VACANT;
        }
    }

    /// Forgets all: the numbers are another table's now.
    pub(super) fn clear(&mut self) {
        self.routers.iter_mut().chain(self.hosts.iter_mut()).for_each(|line| line.hop = VACANT);
    }
}

#[inline]
fn host<A: Address>(seed: u64, hop: u32, destination: A) -> usize {
    destination.bits().hash(seed ^ u64::from(hop)) as usize % HOSTS
}
