//! The configuration as the packet path reads it: immutable, checked whole, published with one store.
//!
//! The control side fills in a [`Plan`]; [`Snapshot::build`] turns it into interfaces and tables in which an
//! address, its local route and its connected route appear together, or says what contradicts.

use crate::address::{Address, Kind, Prefix, Set, group_mac, kind4, kind6, link_local, solicited_node};
use crate::fib::Fib;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use weir_netif::{IfCounters, IfIndex, Offloads};

/// Smallest MTU of an IPv4 link (RFC 791 §3.2).
pub const MIN_MTU4: u16 = 68;
/// Smallest MTU of an IPv6 link (RFC 8200 §5). IPv6 is off on links below.
pub const MIN_MTU6: u16 = 1280;

/// What the router shall be: the control side's wish.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The interfaces, in no order that matters.
    pub interfaces: Vec<InterfacePlan>,
    /// Static routes; connected and local ones come from the addresses.
    pub routes: Vec<RoutePlan>,
    /// Counts packets whose interface is not in this plan.
    pub unconfigured: Arc<IfCounters>,
}

/// An interface of a [`Plan`].
#[derive(Clone, Debug)]
pub struct InterfacePlan {
    /// Its place in the table, the same in each snapshot for as long as CPUs are to know it again. `None`: its place in
    /// the plan.
    pub index: Option<IfIndex>,
    /// For people. Unique.
    pub name: String,
    /// Station address.
    pub mac: [u8; 6],
    /// Largest layer-3 packet, in bytes, at least [`MIN_MTU4`].
    pub mtu: u16,
    /// What its device does on transmit.
    pub offloads: Offloads,
    /// Host addresses with the prefix lengths of their networks. A link-local IPv6 address is added if there is none
    /// and the MTU allows IPv6.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Source check.
    pub reverse_path: ReversePath,
    /// Router advertisements.
    pub advertise: Advertise,
    /// Whether it takes part.
    pub state: State,
    /// Its statistics; they outlive the snapshot.
    pub counters: Arc<IfCounters>,
}

impl InterfacePlan {
    /// An interface that is up, without addresses or offloads, with MTU 1500.
    pub fn new(name: impl Into<String>, mac: [u8; 6]) -> Self {
        Self {
            index: None,
            name: name.into(),
            mac,
            mtu: 1500,
            offloads: Offloads::default(),
            addresses: Vec::new(),
            reverse_path: ReversePath::Off,
            advertise: Advertise::Off,
            state: State::Up,
            counters: Arc::default(),
        }
    }
}

/// Source check of packets received on an interface (RFC 3704 §2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReversePath {
    /// None.
    #[default]
    Off,
    /// The best route to the source leaves by this interface.
    Strict,
    /// There is a route to the source.
    Loose,
}

/// Whether an interface takes part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    /// It does.
    #[default]
    Up,
    /// It does not: no packets, and neither its addresses nor routes over it exist.
    Down,
}

/// Whether routers are advertised on an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Advertise {
    /// No.
    #[default]
    Off,
    /// Yes: this router, with the interface's global prefixes, its MTU and its station address.
    On(Advertisement),
}

/// Variables of RFC 4861 §6.2.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Advertisement {
    /// MaxRtrAdvInterval, 4 s to 1800 s.
    pub max_interval: Duration,
    /// MinRtrAdvInterval, 3 s to ¾ of the maximum.
    pub min_interval: Duration,
    /// AdvDefaultLifetime in seconds; 0: not a default router.
    pub lifetime_s: u16,
    /// AdvCurHopLimit.
    pub hop_limit: u8,
    /// AdvValidLifetime of every prefix, in seconds.
    pub valid_s: u32,
    /// AdvPreferredLifetime of every prefix, in seconds.
    pub preferred_s: u32,
}

impl Default for Advertisement {
    /// The defaults of RFC 4861 §6.2.1.
    fn default() -> Self {
        Self {
            max_interval: Duration::from_secs(600),
            min_interval: Duration::from_secs(200),
            lifetime_s: 1800,
            hop_limit: 64,
            valid_s: 2_592_000,
            preferred_s: 604_800,
        }
    }
}

/// A static route of a [`Plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePlan {
    /// Destination and its prefix length; host bits are ignored.
    pub to: (IpAddr, u8),
    /// Where to.
    pub target: RouteTarget,
    /// Of several routes to the same destination the lowest wins. Connected networks come before all.
    pub metric: u32,
}

/// Where a static route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// To the next router, on a network of `interface` or link-local there.
    Via {
        /// Its address.
        gateway: IpAddr,
        /// The interface whose link it is on.
        interface: IfIndex,
    },
    /// To hosts on the link itself.
    OnLink {
        /// The interface with that link.
        interface: IfIndex,
    },
    /// Dropped in silence.
    Blackhole,
    /// Dropped, with an unreachable error.
    Unreachable,
    /// Dropped, with an administratively prohibited error.
    Prohibit,
}

/// What becomes of packets that a route matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    /// It is addressed to this router.
    Local {
        /// Which has the address.
        interface: IfIndex,
    },
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

/// An interface as the packet path sees it. `[I]` all of it.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its place in the table.
    pub index: IfIndex,
    /// Station address.
    pub mac: [u8; 6],
    /// Largest layer-3 packet, in bytes.
    pub mtu: u16,
    /// What its device does on transmit.
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
    /// Router advertisements.
    pub advertise: Advertise,
    /// For people.
    pub name: String,
    /// Statistics, written per CPU.
    pub counters: Arc<IfCounters>,
}

impl Interface {
    /// Whether `address` is one of its IPv4 addresses.
    pub fn owns4(&self, address: Ipv4Addr) -> bool {
        self.addresses4.iter().any(|own| own.address == address)
    }

    /// Whether `address` is one of its IPv6 addresses, link-local and subnet-router anycast (RFC 4291 §2.6.1) included.
    pub fn owns6(&self, address: Ipv6Addr) -> bool {
        self.link_local.contains(&address)
            || self.addresses6.iter().any(|own| own.address == address || subnet_router(own) == Some(address))
    }

    /// Whether it listens to the solicited-node group `group` (RFC 4291 §2.7.1).
    pub fn solicited6(&self, group: Ipv6Addr) -> bool {
        self.link_local.iter().any(|&own| solicited_node(own) == group)
            || self.addresses6.iter().any(|own| {
                solicited_node(own.address) == group
                    || subnet_router(own).is_some_and(|anycast| solicited_node(anycast) == group)
            })
    }

    /// Its IPv4 address on the network of `neighbor`, otherwise the primary one.
    pub fn source4(&self, neighbor: Ipv4Addr) -> Option<Ipv4Addr> {
        let near = self.addresses4.iter().find(|own| own.network.contains(neighbor));
        near.or(self.addresses4.first()).map(|own| own.address)
    }

    /// Its global IPv6 address on the network of `neighbor`, otherwise the primary one.
    pub fn source6(&self, neighbor: Ipv6Addr) -> Option<Ipv6Addr> {
        let near = self.addresses6.iter().find(|own| own.network.contains(neighbor));
        near.or(self.addresses6.first()).map(|own| own.address)
    }

    /// Ethernet groups whose frames it needs, for the driver's multicast filter.
    pub fn groups(&self) -> Vec<[u8; 6]> {
        let own = self.link_local.iter().copied().chain(self.addresses6.iter().map(|own| own.address));
        let anycast = self.addresses6.iter().filter_map(subnet_router);
        let mut groups: Vec<_> = own.chain(anycast).map(|own| group_mac(solicited_node(own))).collect();
        groups.extend([[0x33, 0x33, 0, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 2]]);
        groups.extend([[0x01, 0, 0x5e, 0, 0, 1], [0x01, 0, 0x5e, 0, 0, 2]]);
        groups.sort_unstable();
        groups.dedup();
        groups
    }
}

/// The subnet-router anycast address of an address's network. None on /127 and /128 (RFC 6164 §5).
fn subnet_router(own: &Assigned<Ipv6Addr>) -> Option<Ipv6Addr> {
    (own.network.len() < 127).then(|| own.network.first())
}

/// One immutable configuration. `[I]` all of it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// By index; not every place need be taken.
    interfaces: Box<[Option<Interface>]>,
    fib4: Fib<Ipv4Addr, Route<Ipv4Addr>>,
    fib6: Fib<Ipv6Addr, Route<Ipv6Addr>>,
    /// Our own and broadcast addresses: no packet comes from them.
    own4: Set<Ipv4Addr>,
    /// Our own and subnet-router anycast addresses.
    own6: Set<Ipv6Addr>,
    unconfigured: Arc<IfCounters>,
}

impl Snapshot {
    /// Without interfaces and routes.
    pub fn empty() -> Snapshot {
        Snapshot {
            interfaces: Box::default(),
            fib4: Fib::new(Vec::new()),
            fib6: Fib::new(Vec::new()),
            own4: Set::new(Vec::new()),
            own6: Set::new(Vec::new()),
            unconfigured: Arc::default(),
        }
    }

    /// Builds and checks it. Connected networks win over static routes to the same destination.
    ///
    /// # Errors
    /// The first contradiction found; then there is no snapshot at all.
    pub fn build(plan: &Plan) -> Result<Snapshot, Conflict> {
        if plan.interfaces.len() > usize::from(u16::MAX) {
            return Err(Conflict::TooManyInterfaces);
        }
        let interfaces = table(&plan.interfaces)?;
        let present: Vec<&Interface> = interfaces.iter().flatten().collect();
        check_names(&present)?;
        check_networks(&present)?;

        let (mut routes4, mut routes6) = (Vec::new(), Vec::new());
        let (mut own4, mut own6) = (Vec::new(), Vec::new());
        for interface in present.into_iter().filter(|interface| interface.state == State::Up) {
            local4(interface, &mut routes4, &mut own4);
            local6(interface, &mut routes6, &mut own6);
        }
        // After the local routes, so that those count where both exist; the lowest metric first.
        let mut wishes: Vec<&RoutePlan> = plan.routes.iter().collect();
        wishes.sort_by_key(|route| route.metric);
        for wish in wishes {
            static_route(wish, &interfaces, &mut routes4, &mut routes6)?;
        }
        Ok(Snapshot {
            interfaces,
            fib4: Fib::new(routes4),
            fib6: Fib::new(routes6),
            own4: Set::new(own4),
            own6: Set::new(own6),
            unconfigured: plan.unconfigured.clone(),
        })
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

    /// Whether `address` is our own or the broadcast address of a connected network: never a valid source.
    #[inline]
    pub fn owns4(&self, address: Ipv4Addr) -> bool {
        self.own4.contains(address)
    }

    /// Whether `address` is one of our own, link-local ones excepted: never a valid source.
    #[inline]
    pub fn owns6(&self, address: Ipv6Addr) -> bool {
        self.own6.contains(address)
    }

    /// Counts packets whose interface is not in the table.
    pub fn unconfigured(&self) -> &IfCounters {
        &self.unconfigured
    }

    /// Statistics of the interface at `index`.
    #[inline]
    pub fn counters(&self, index: IfIndex) -> &IfCounters {
        self.interface(index).map_or(&*self.unconfigured, |interface| &*interface.counters)
    }
}

/// What contradicts in a [`Plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// More than 65535 interfaces.
    TooManyInterfaces,
    /// Two interfaces have this place in the table.
    IndexTwice(IfIndex),
    /// Two interfaces have this name.
    NameTwice(String),
    /// The station address of this interface is a group or zero.
    Station(String),
    /// The MTU of this interface is below [`MIN_MTU4`], or below [`MIN_MTU6`] with an IPv6 address.
    Mtu(String),
    /// Not an address a host can have, or not a prefix length.
    NotAHost(IpAddr, u8),
    /// Two interfaces have this address, or one has it twice.
    AddressTwice(IpAddr),
    /// This address's network overlaps one of another interface.
    Overlap(IpAddr, u8),
    /// The route to this network names an interface that does not exist.
    UnknownInterface(IpAddr, u8),
    /// The route to this network has a gateway of the other family, off the interface's networks, or our own address.
    Gateway(IpAddr, u8),
    /// Not a network.
    NotANetwork(IpAddr, u8),
}

impl core::fmt::Display for Conflict {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooManyInterfaces => write!(f, "too many interfaces"),
            Self::IndexTwice(index) => write!(f, "two interfaces have the index {}", index.0),
            Self::NameTwice(name) => write!(f, "two interfaces are named {name}"),
            Self::Station(name) => write!(f, "{name}: not a station address"),
            Self::Mtu(name) => write!(f, "{name}: the MTU is too small"),
            Self::NotAHost(address, len) => write!(f, "{address}/{len} is not a host's address"),
            Self::AddressTwice(address) => write!(f, "{address} exists twice"),
            Self::Overlap(address, len) => {
                write!(f, "the network of {address}/{len} overlaps one of another interface")
            }
            Self::UnknownInterface(to, len) => {
                write!(f, "the route to {to}/{len} leaves by an unknown interface")
            }
            Self::Gateway(to, len) => {
                write!(f, "the gateway of the route to {to}/{len} is no neighbour on its interface")
            }
            Self::NotANetwork(to, len) => write!(f, "{to}/{len} is not a network"),
        }
    }
}

impl core::error::Error for Conflict {}

/// The interfaces at their places.
fn table(wishes: &[InterfacePlan]) -> Result<Box<[Option<Interface>]>, Conflict> {
    let mut table: Vec<Option<Interface>> = Vec::new();
    for (n, wish) in (0..).zip(wishes) {
        let index = wish.index.unwrap_or(IfIndex(n));
        table.resize_with(table.len().max(index.index() + 1), || None);
        match table.get_mut(index.index()) {
            Some(place @ None) => *place = Some(interface(index, wish)?),
            _ => return Err(Conflict::IndexTwice(index)),
        }
    }
    Ok(table.into())
}

fn interface(index: IfIndex, wish: &InterfacePlan) -> Result<Interface, Conflict> {
    let [first, ..] = wish.mac;
    if first & 1 != 0 || wish.mac == [0; 6] {
        return Err(Conflict::Station(wish.name.clone()));
    }
    let has6 = wish.addresses.iter().any(|(address, _)| address.is_ipv6());
    if wish.mtu < MIN_MTU4 || has6 && wish.mtu < MIN_MTU6 {
        return Err(Conflict::Mtu(wish.name.clone()));
    }
    let (mut addresses4, mut addresses6, mut local) = (Vec::new(), Vec::new(), Vec::new());
    for &(address, len) in &wish.addresses {
        let bad = Conflict::NotAHost(address, len);
        match address {
            IpAddr::V4(v4) => addresses4.push(host4(v4, len).ok_or(bad)?),
            IpAddr::V6(v6) if kind6(v6) == Kind::LinkLocal => local.push(v6),
            IpAddr::V6(v6) => addresses6.push(host6(v6, len).ok_or(bad)?),
        }
    }
    if local.is_empty() && wish.mtu >= MIN_MTU6 {
        local.push(link_local(wish.mac));
    }
    Ok(Interface {
        index,
        mac: wish.mac,
        mtu: wish.mtu,
        offloads: wish.offloads,
        state: wish.state,
        reverse_path: wish.reverse_path,
        addresses4: addresses4.into(),
        addresses6: addresses6.into(),
        link_local: local.into(),
        advertise: wish.advertise,
        name: wish.name.clone(),
        counters: wish.counters.clone(),
    })
}

fn host4(address: Ipv4Addr, len: u8) -> Option<Assigned<Ipv4Addr>> {
    let network = Prefix::new(address, len)?;
    // RFC 3021: both addresses of a /31 are hosts'.
    let edge = len < 31 && (address == network.first() || address == network.last());
    let kind = kind4(address);
    (matches!(kind, Kind::Unicast | Kind::LinkLocal) && !edge && len > 0)
        .then_some(Assigned { address, network })
}

fn host6(address: Ipv6Addr, len: u8) -> Option<Assigned<Ipv6Addr>> {
    let network = Prefix::new(address, len)?;
    let anycast = len < 127 && address == network.first();
    (kind6(address) == Kind::Unicast && !anycast && len > 0).then_some(Assigned { address, network })
}

fn check_names(interfaces: &[&Interface]) -> Result<(), Conflict> {
    for (n, interface) in interfaces.iter().enumerate() {
        if interfaces.iter().skip(n + 1).any(|other| other.name == interface.name) {
            return Err(Conflict::NameTwice(interface.name.clone()));
        }
    }
    Ok(())
}

fn check_networks(interfaces: &[&Interface]) -> Result<(), Conflict> {
    let all4 = interfaces.iter().flat_map(|i| i.addresses4.iter().map(move |own| (i.index, own)));
    check_family(all4)?;
    let all6 = interfaces.iter().flat_map(|i| i.addresses6.iter().map(move |own| (i.index, own)));
    check_family(all6)
}

fn check_family<'a, A: Address>(
    all: impl Iterator<Item = (IfIndex, &'a Assigned<A>)>,
) -> Result<(), Conflict> {
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(_, own)| own.address);
    if let Some([(_, twice), _]) = all.array_windows().find(|[(_, a), (_, b)]| a.address == b.address) {
        return Err(Conflict::AddressTwice(twice.address.into()));
    }
    all.sort_by_key(|(_, own)| (own.network.first(), own.network.len()));
    // Networks nest or are apart; an open one contains all that follow up to its end.
    let mut open: Vec<(IfIndex, Prefix<A>)> = Vec::new();
    for (index, own) in all {
        while open.last().is_some_and(|(_, outer)| !outer.contains(own.network.first())) {
            open.pop();
        }
        if open.iter().any(|&(other, _)| other != index) {
            return Err(Conflict::Overlap(own.address.into(), own.network.len()));
        }
        open.push((index, own.network));
    }
    Ok(())
}

fn local4(
    interface: &Interface,
    routes: &mut Vec<(Prefix<Ipv4Addr>, Route<Ipv4Addr>)>,
    own: &mut Vec<Ipv4Addr>,
) {
    let index = interface.index;
    let host = |address| Prefix::new(address, 32);
    for Assigned { address, .. } in &interface.addresses4 {
        routes.extend(host(*address).map(|prefix| (prefix, Route::Local { interface: index })));
        own.push(*address);
    }
    for Assigned { network, .. } in interface.addresses4.iter().filter(|own| own.network.len() < 31) {
        for edge in [network.first(), network.last()] {
            routes.extend(host(edge).map(|prefix| (prefix, Route::Broadcast { interface: index })));
            own.push(edge);
        }
    }
    for Assigned { network, .. } in interface.addresses4.iter() {
        routes.push((*network, Route::Connected { interface: index }));
    }
}

fn local6(
    interface: &Interface,
    routes: &mut Vec<(Prefix<Ipv6Addr>, Route<Ipv6Addr>)>,
    own: &mut Vec<Ipv6Addr>,
) {
    let index = interface.index;
    for assigned in &interface.addresses6 {
        for address in [Some(assigned.address), subnet_router(assigned)].into_iter().flatten() {
            let prefix = Prefix::new(address, 128);
            routes.extend(prefix.map(|prefix| (prefix, Route::Local { interface: index })));
            own.push(address);
        }
    }
    for Assigned { network, .. } in &interface.addresses6 {
        routes.push((*network, Route::Connected { interface: index }));
    }
}

fn static_route(
    wish: &RoutePlan,
    interfaces: &[Option<Interface>],
    routes4: &mut Vec<(Prefix<Ipv4Addr>, Route<Ipv4Addr>)>,
    routes6: &mut Vec<(Prefix<Ipv6Addr>, Route<Ipv6Addr>)>,
) -> Result<(), Conflict> {
    let (to, len) = wish.to;
    let named = match wish.target {
        RouteTarget::Via { interface, .. } | RouteTarget::OnLink { interface } => {
            let named = interfaces.get(interface.index()).and_then(Option::as_ref);
            Some(named.ok_or(Conflict::UnknownInterface(to, len))?)
        }
        _ => None,
    };
    let up = named.is_none_or(|interface| interface.state == State::Up);
    match to {
        IpAddr::V4(to4) => {
            let prefix = Prefix::new(to4, len).ok_or(Conflict::NotANetwork(to, len))?;
            let route = target(wish, |gateway| match (gateway, named) {
                (IpAddr::V4(via), Some(interface)) => {
                    let near = interface.addresses4.iter().any(|own| own.network.contains(via));
                    (near && !interface.owns4(via)).then_some(via)
                }
                _ => None,
            });
            let route = route.ok_or(Conflict::Gateway(to, len))?;
            routes4.extend(up.then_some((prefix, route)));
        }
        IpAddr::V6(to6) => {
            let prefix = Prefix::new(to6, len).ok_or(Conflict::NotANetwork(to, len))?;
            let route = target(wish, |gateway| match (gateway, named) {
                (IpAddr::V6(via), Some(interface)) => {
                    let near = interface.addresses6.iter().any(|own| own.network.contains(via));
                    let local = kind6(via) == Kind::LinkLocal && !interface.link_local.is_empty();
                    ((near || local) && !interface.owns6(via)).then_some(via)
                }
                _ => None,
            });
            let route = route.ok_or(Conflict::Gateway(to, len))?;
            routes6.extend(up.then_some((prefix, route)));
        }
    }
    Ok(())
}

fn target<A>(wish: &RoutePlan, gateway: impl FnOnce(IpAddr) -> Option<A>) -> Option<Route<A>> {
    Some(match wish.target {
        RouteTarget::Via { gateway: via, interface } => Route::Gateway { interface, via: gateway(via)? },
        RouteTarget::OnLink { interface } => Route::Connected { interface },
        RouteTarget::Blackhole => Route::Blackhole,
        RouteTarget::Unreachable => Route::Unreachable,
        RouteTarget::Prohibit => Route::Prohibit,
    })
}
