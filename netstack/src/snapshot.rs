//! The configuration as the packet path reads it: immutable, checked whole, published with one store.
//!
//! The control side fills in a [`Plan`]; [`Snapshot::build`] turns it into interfaces and tables in which an
//! address, its local route and its connected route appear together, or says what contradicts.

mod build;
mod cover;
mod group;
mod plan;
mod routes;
#[cfg(test)]
mod tests;

pub use cover::{Cover, Flaw, MAX_DEPTH};
pub use group::{BUCKETS, MAX_GROUPS, MAX_MEMBERS};
pub use plan::{
    Advertise, Advertisement, Claim, Conflict, InterfacePlan, MAX_VLAN, MIN_MTU4, MIN_MTU6, NextHop, Plan,
    ReversePath, RoutePlan, RouteTarget, State, VlanPlan, Weighted,
};

use crate::address::{Address, Filter, Prefix, Set, group_mac, solicited_node};
use crate::capture::Taps;
use crate::ethernet;
use crate::fib::Fib;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use group::Group;
use weir_netif::{IfCounters, IfIndex, Offloads, Packet};
use weir_sync::sort::sort;

/// What becomes of packets that a route matches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Route<A> {
    /// The next hop is a router.
    Gateway {
        /// By this interface.
        interface: IfIndex,
        /// Its address.
        via: A,
    },
    /// The next hop is the destination.
    Connected {
        /// By this interface.
        interface: IfIndex,
    },
    /// One of several [`Gateway`](Self::Gateway) and [`Connected`](Self::Connected) routes, by flow.
    Multipath {
        /// Which of them: see [`Snapshot::member4`] and [`Snapshot::member6`].
        group: u32,
    },
    /// It is addressed to this router.
    Local {
        /// Which has the address.
        interface: IfIndex,
    },
    /// It is to become an address of this router: see [`Claim::Tentative`].
    Tentative,
    /// The broadcast or network address of a connected IPv4 network.
    Broadcast {
        /// Which is on that network.
        interface: IfIndex,
    },
    /// See [`RouteTarget::Blackhole`].
    Blackhole,
    /// See [`RouteTarget::Unreachable`].
    Unreachable,
    /// See [`RouteTarget::Prohibit`].
    Prohibit,
}

/// An address of an interface, with its network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Assigned<A> {
    /// Ours.
    pub address: A,
    /// What is on the link.
    pub network: Prefix<A>,
}

/// The link that an interface is on: what tells its frames from all others. An index can go to another link once its
/// interface is gone; this cannot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LinkId {
    /// Where its frames go in and out: its own index, or that of its parent.
    pub port: IfIndex,
    /// The VLAN whose tag they have; 0: none.
    pub vlan: u16,
}

/// Which interface each VLAN of a port is, by number: found with one load.
#[derive(Clone, Debug)]
struct Vlans(Box<[Option<IfIndex>]>);

/// An interface as the packet path sees it. `[I]` all of it.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its place in the table.
    pub index: IfIndex,
    /// The link it is on.
    pub link: LinkId,
    /// Station address.
    pub mac: [u8; 6],
    /// Largest layer-3 packet, in bytes.
    pub mtu: u16,
    /// What its device does with its frames on transmit.
    pub offloads: Offloads,
    /// Whether it takes part.
    pub state: State,
    /// Source check.
    pub reverse_path: ReversePath,
    /// IPv4 addresses, the first is the primary one.
    pub addresses4: Box<[Assigned<Ipv4Addr>]>,
    /// IPv6 addresses without link-local ones, the first is the primary one.
    pub addresses6: Box<[Assigned<Ipv6Addr>]>,
    /// Link-local IPv6 addresses, the first is the primary one. Empty where IPv6 is off.
    pub link_local: Box<[Ipv6Addr]>,
    /// Of its addresses, those that are not [`Claim::Ours`]; a duplicate link-local one is only here.
    pub claims: Box<[(IpAddr, Claim)]>,
    /// Of its addresses, those that are deprecated.
    pub deprecated: Box<[IpAddr]>,
    /// Router advertisements.
    pub advertise: Advertise,
    /// Whether what other routers advertise is handed on.
    pub heeds_routers: bool,
    /// Whether sockets for management answer what comes in here.
    pub management: bool,
    /// For people.
    pub name: String,
    /// Statistics, written per CPU.
    pub counters: Arc<IfCounters>,
    /// Interfaces on VLANs of its link, if there are any.
    vlans: Option<Vlans>,
}

impl Interface {
    /// The interface that frames of VLAN `id` received here are for.
    #[inline]
    pub fn vlan(&self, id: u16) -> Option<IfIndex> {
        *self.vlans.as_ref()?.0.get(usize::from(id))?
    }

    /// Whether there are interfaces on VLANs of its link.
    #[inline]
    pub(crate) fn has_vlans(&self) -> bool {
        self.vlans.is_some()
    }

    /// How sure one of its addresses is, with which nothing is wrong otherwise.
    pub fn claim(&self, address: IpAddr) -> Claim {
        let known = self.claims.iter().find(|(known, _)| *known == address);
        known.map_or(Claim::Ours, |(_, claim)| *claim)
    }

    /// What is known of `address`; `None` if it is none of its addresses. Anycast ones are nobody's alone.
    pub(crate) fn claimed(&self, address: IpAddr) -> Option<Claim> {
        let own = match address {
            IpAddr::V4(address) => self.addresses4.iter().any(|own| own.address == address),
            IpAddr::V6(address) => {
                self.link_local.contains(&address) || self.addresses6.iter().any(|own| own.address == address)
            }
        };
        own.then(|| self.claim(address))
    }

    /// All of its addresses, used or not.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.addresses4.iter().map(|own| IpAddr::V4(own.address));
        let global = self.addresses6.iter().map(|own| own.address);
        let v6 = self.link_local.iter().copied().chain(global).map(IpAddr::V6);
        let listed = self.claims.iter().map(|(address, _)| *address);
        v4.chain(v6).chain(listed.filter(|&address| self.claimed(address).is_none()))
    }

    fn uses(&self, address: impl Into<IpAddr>) -> bool {
        self.claims.is_empty() || self.claim(address.into()).is_used()
    }

    /// Whether IPv6 is on: it is not without a link-local address.
    pub fn has6(&self) -> bool {
        !self.link_local.is_empty()
    }

    /// Whether `address` is one of its IPv4 addresses, and used.
    pub fn owns4(&self, address: Ipv4Addr) -> bool {
        self.addresses4.iter().any(|own| own.address == address) && self.uses(address)
    }

    /// Whether `address` is one of its IPv6 addresses, and used; link-local and subnet-router anycast (RFC 4291 §2.6.1) included.
    pub fn owns6(&self, address: Ipv6Addr) -> bool {
        let global = |own: &Assigned<Ipv6Addr>| {
            own.address == address && self.uses(address) || self.subnet_router(own) == Some(address)
        };
        self.link_local.contains(&address) || self.has6() && self.addresses6.iter().any(global)
    }

    /// The subnet-router anycast address of an address's network (RFC 4291 §2.6.1). None on /127 and /128 (RFC 6164 §5).
    fn subnet_router(&self, own: &Assigned<Ipv6Addr>) -> Option<Ipv6Addr> {
        let there = own.network.len() < 127 && self.claim(own.address.into()) != Claim::Tentative;
        there.then(|| own.network.first())
    }

    /// Whether it listens to the solicited-node group `group` (RFC 4291 §2.7.1).
    pub fn solicited6(&self, group: Ipv6Addr) -> bool {
        self.link_local.iter().any(|&own| solicited_node(own) == group)
            || self.addresses6.iter().any(|own| {
                solicited_node(own.address) == group
                    || self.subnet_router(own).is_some_and(|anycast| solicited_node(anycast) == group)
            })
    }

    /// Its IPv4 address on the network of `neighbor`, otherwise the primary one.
    pub fn source4(&self, neighbor: Ipv4Addr) -> Option<Ipv4Addr> {
        let mut used = self.addresses4.iter().filter(|own| self.uses(own.address));
        let near = used.clone().find(|own| own.network.contains(neighbor));
        near.or_else(|| used.next()).map(|own| own.address)
    }

    /// Its global IPv6 address on the network of `neighbor`, otherwise the primary one; a deprecated one if there is no other
    /// (RFC 6724 §5, rule 3).
    pub fn source6(&self, neighbor: Ipv6Addr) -> Option<Ipv6Addr> {
        let used = self.addresses6.iter().filter(|own| self.has6() && self.uses(own.address));
        let is_deprecated = |own: &&Assigned<Ipv6Addr>| self.deprecated.contains(&own.address.into());
        let rank = |own: &&Assigned<Ipv6Addr>| (is_deprecated(own), !own.network.contains(neighbor));
        // Of equal ones the first.
        used.min_by_key(rank).map(|own| own.address)
    }

    /// Ethernet groups whose frames it needs, for the driver's multicast filter.
    pub fn groups(&self) -> Vec<[u8; 6]> {
        let own = self.link_local.iter().copied().chain(self.addresses6.iter().map(|own| own.address));
        let anycast = self.addresses6.iter().filter_map(|own| self.subnet_router(own));
        let mut groups: Vec<_> = own.chain(anycast).map(|own| group_mac(solicited_node(own))).collect();
        groups.extend([[0x33, 0x33, 0, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 2]]);
        groups.extend([[0x01, 0, 0x5e, 0, 0, 1], [0x01, 0, 0x5e, 0, 0, 2]]);
        sort(&mut groups);
        groups.dedup();
        groups
    }
}

/// One immutable configuration. `[I]` all of it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// By index; not every place need be taken.
    interfaces: Box<[Option<Interface>]>,
    /// `[A]` inside, if a writer has it.
    fib4: Arc<Fib<Ipv4Addr, Route<Ipv4Addr>>>,
    /// As `fib4`.
    fib6: Arc<Fib<Ipv6Addr, Route<Ipv6Addr>>>,
    /// By number; their hops are those of `fib4`.
    groups4: Arc<[Group]>,
    /// As `groups4`.
    groups6: Arc<[Group]>,
    /// Our own and broadcast addresses: no packet comes from them.
    own4: Set<Ipv4Addr>,
    /// Our own and subnet-router anycast addresses.
    own6: Set<Ipv6Addr>,
    unconfigured: Arc<IfCounters>,
    taps: Arc<Taps>,
}

impl Snapshot {
    /// Without interfaces and routes.
    pub fn empty() -> Snapshot {
        Snapshot {
            interfaces: Box::default(),
            fib4: Arc::new(Fib::new(Vec::new())),
            fib6: Arc::new(Fib::new(Vec::new())),
            groups4: Arc::default(),
            groups6: Arc::default(),
            own4: Set::new(Vec::new()),
            own6: Set::new(Vec::new()),
            unconfigured: Arc::default(),
            taps: Arc::default(),
        }
    }

    /// The same with other taps.
    #[must_use]
    pub fn with_taps(self, taps: Arc<Taps>) -> Self {
        Self { taps, ..self }
    }

    /// The same with other claims, of which none begins or ceases to be used: the tables are shared.
    #[must_use]
    pub fn with_claims(mut self, claims: impl Fn(&Interface) -> Vec<(IpAddr, Claim)>) -> Self {
        for interface in self.interfaces.iter_mut().flatten() {
            interface.claims = claims(interface).into();
        }
        self
    }

    /// What watches packets.
    #[inline]
    pub fn taps(&self) -> &Taps {
        &self.taps
    }

    /// The interface at `index`.
    #[inline]
    pub fn interface(&self, index: IfIndex) -> Option<&Interface> {
        self.interfaces.get(index.index())?.as_ref()
    }

    /// All interfaces, in index order.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.iter().flatten()
    }

    /// The IPv4 table.
    #[inline]
    pub fn fib4(&self) -> &Fib<Ipv4Addr, Route<Ipv4Addr>> {
        &self.fib4
    }

    /// The IPv6 table; link-local destinations are not in it.
    #[inline]
    pub fn fib6(&self) -> &Fib<Ipv6Addr, Route<Ipv6Addr>> {
        &self.fib6
    }

    /// The number of the hop in [`fib4`](Self::fib4) that packets with the flow hash `flow` take of a
    /// [`Route::Multipath`]: always the same, as long as it is there. 0 if there is no such group.
    #[inline]
    pub fn member4(&self, group: u32, flow: u32) -> u32 {
        self.groups4.get(group as usize).map_or(0, |group| group.member(flow))
    }

    /// As [`member4`](Self::member4), in [`fib6`](Self::fib6).
    #[inline]
    pub fn member6(&self, group: u32, flow: u32) -> u32 {
        self.groups6.get(group as usize).map_or(0, |group| group.member(flow))
    }

    /// All routes that a [`Route::Multipath`] of [`fib4`](Self::fib4) stands for.
    pub fn members4(&self, group: u32) -> impl Iterator<Item = &Route<Ipv4Addr>> {
        members(&self.groups4, &self.fib4, group)
    }

    /// As [`members4`](Self::members4), of [`fib6`](Self::fib6).
    pub fn members6(&self, group: u32) -> impl Iterator<Item = &Route<Ipv6Addr>> {
        members(&self.groups6, &self.fib6, group)
    }

    /// The number of the hop that packets with the flow hash `flow` take where the look-up found `hop`, both in
    /// [`fib4`](Self::fib4): another one only if `hop` is a [`Route::Multipath`].
    #[inline]
    pub fn settle4(&self, hop: u32, flow: impl FnOnce() -> u32) -> u32 {
        match self.fib4.hop(hop) {
            Some(&Route::Multipath { group }) => self.member4(group, flow()),
            _ => hop,
        }
    }

    /// As [`settle4`](Self::settle4), in [`fib6`](Self::fib6).
    #[inline]
    pub fn settle6(&self, hop: u32, flow: impl FnOnce() -> u32) -> u32 {
        match self.fib6.hop(hop) {
            Some(&Route::Multipath { group }) => self.member6(group, flow()),
            _ => hop,
        }
    }

    /// The route to `destination`; of several next hops the one for packets with the flow hash `flow`.
    #[inline]
    pub fn route4(&self, destination: Ipv4Addr, flow: impl FnOnce() -> u32) -> Option<&Route<Ipv4Addr>> {
        self.fib4.hop(self.settle4(self.fib4.lookup_number(destination), flow))
    }

    /// As [`route4`](Self::route4).
    #[inline]
    pub fn route6(&self, destination: Ipv6Addr, flow: impl FnOnce() -> u32) -> Option<&Route<Ipv6Addr>> {
        self.fib6.hop(self.settle6(self.fib6.lookup_number(destination), flow))
    }

    /// Whether `address` is our own or the broadcast address of a connected network: never a valid source.
    #[inline]
    pub fn owns4(&self, address: Ipv4Addr) -> bool {
        self.own4.contains(address)
    }

    /// What tells most addresses from those that [`owns4`](Self::owns4) is for.
    #[inline(always)]
    pub fn own4(&self) -> Filter<'_> {
        self.own4.filter()
    }

    /// Whether `address` is one of our own, link-local ones excepted: never a valid source.
    #[inline]
    pub fn owns6(&self, address: Ipv6Addr) -> bool {
        self.own6.contains(address)
    }

    /// As [`own4`](Self::own4), for [`owns6`](Self::owns6).
    #[inline(always)]
    pub fn own6(&self) -> Filter<'_> {
        self.own6.filter()
    }

    /// Counts packets whose interface is not in the table.
    pub fn unconfigured(&self) -> &IfCounters {
        &self.unconfigured
    }

    /// The same with counters of its own and no taps: what goes through it is seen nowhere else. The tables are shared.
    #[must_use]
    pub fn apart(&self) -> Snapshot {
        let mut apart = self.clone();
        (apart.unconfigured, apart.taps) = (Arc::default(), Arc::default());
        for interface in apart.interfaces.iter_mut().flatten() {
            interface.counters = Arc::default();
        }
        apart
    }

    /// The interface that a frame at `port` belongs to, by its tag; `None` if its VLAN is nobody's.
    pub fn owner(&self, port: IfIndex, frame: &Packet) -> Option<IfIndex> {
        match ethernet::vlan(frame) {
            0 => Some(port),
            id => self.interface(port)?.vlan(id),
        }
    }

    /// Statistics of the interface at `index`.
    #[inline]
    pub fn counters(&self, index: IfIndex) -> &IfCounters {
        self.interface(index).map_or(&*self.unconfigured, |interface| &*interface.counters)
    }
}

fn members<'s, A: Address>(
    groups: &'s [Group],
    fib: &'s Fib<A, Route<A>>,
    group: u32,
) -> impl Iterator<Item = &'s Route<A>> {
    let hops = groups.get(group as usize).into_iter().flat_map(|group| &group.hops);
    hops.filter_map(|&number| fib.hop(number.into()))
}
