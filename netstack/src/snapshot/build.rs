//! From a plan to a snapshot, whole or not at all. At task level.

use super::routes::Table;
use super::*;
use crate::address::{Address, Kind, kind4, kind6, link_local};
use core::net::IpAddr;
use weir_sync::sort::sort_by_key;

impl Snapshot {
    /// Builds and checks it. Connected networks win over static routes to the same destination.
    ///
    /// # Errors
    /// The first contradiction found; then there is no snapshot at all.
    pub fn build(plan: &Plan) -> Result<Snapshot, Conflict> {
        if plan.interfaces.len() > usize::from(u16::MAX) {
            return Err(Conflict::TooManyInterfaces);
        }
        let mut interfaces = table(&plan.interfaces)?;
        on_vlans(&plan.interfaces, &mut interfaces)?;
        let present: Vec<&Interface> = interfaces.iter().flatten().collect();
        check_names(&present)?;
        check_networks(&present)?;

        let (mut table4, mut table6) = (Table::new(&interfaces), Table::new(&interfaces));
        let (mut own4, mut own6) = (Vec::new(), Vec::new());
        for interface in present {
            own4.extend(table4.local(interface, &local4(interface)));
            own6.extend(table6.local(interface, &local6(interface)));
        }
        // After the local routes, so that those count where both exist; the lowest metric first.
        let mut wishes: Vec<&RoutePlan> = plan.routes.iter().collect();
        sort_by_key(&mut wishes, |route| route.metric);
        for wish in wishes {
            match wish.to.0 {
                IpAddr::V4(to) => table4.add(to, wish)?,
                IpAddr::V6(to) => table6.add(to, wish)?,
            }
        }
        let ((fib4, groups4), (fib6, groups6)) = (table4.finish()?, table6.finish()?);
        Ok(Snapshot {
            interfaces,
            fib4: Arc::new(fib4),
            fib6: Arc::new(fib6),
            groups4,
            groups6,
            own4: Set::new(own4),
            own6: Set::new(own6),
            unconfigured: plan.unconfigured.clone(),
            taps: plan.taps.clone(),
        })
    }
}

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

/// Joins interfaces on VLANs with their parents.
fn on_vlans(wishes: &[InterfacePlan], table: &mut [Option<Interface>]) -> Result<(), Conflict> {
    for (n, wish) in (0..).zip(wishes) {
        let (Some(VlanPlan { parent, id }), index) = (wish.vlan, wish.index.unwrap_or(IfIndex(n))) else {
            continue;
        };
        let bad = || Conflict::Vlan(wish.name.clone());
        let port = table.get_mut(parent.index()).and_then(Option::as_mut);
        let port = port.filter(|port| port.link.vlan == 0 && (1..=MAX_VLAN).contains(&id)).ok_or_else(bad)?;
        let none = || Vlans((0..=MAX_VLAN).map(|_| None).collect());
        let place = port.vlans.get_or_insert_with(none).0.get_mut(usize::from(id)).ok_or_else(bad)?;
        if place.replace(index).is_some() {
            return Err(bad());
        }
        let (mac, offloads, state) = (port.mac, port.offloads.tagged(), port.state);
        if let Some(interface) = table.get_mut(index.index()).and_then(Option::as_mut) {
            interface.offloads = offloads;
            // Where the port is down no frame of a VLAN passes either.
            if state == State::Down {
                interface.state = State::Down;
            }
            if interface.mac != mac {
                return Err(Conflict::Station(wish.name.clone()));
            }
        }
    }
    Ok(())
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
    // Without one of them IPv6 is off (RFC 4862 §5.4.5).
    local.retain(|&own| !wish.claims.contains(&(own.into(), Claim::Duplicate)));
    let link = match wish.vlan {
        Some(VlanPlan { parent, id }) => LinkId { port: parent, vlan: id },
        None => LinkId { port: index, vlan: 0 },
    };
    Ok(Interface {
        index,
        link,
        vlans: None,
        mac: wish.mac,
        mtu: wish.mtu,
        offloads: wish.offloads,
        state: wish.state,
        reverse_path: wish.reverse_path,
        addresses4: addresses4.into(),
        addresses6: addresses6.into(),
        link_local: local.into(),
        claims: wish
            .claims
            .iter()
            .copied()
            .filter(|(own, _)| own.is_ipv4() || wish.mtu >= MIN_MTU6)
            .collect(),
        deprecated: wish.deprecated.as_slice().into(),
        advertise: wish.advertise,
        heeds_routers: wish.heeds_routers,
        management: wish.management,
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
    sort_by_key(&mut all, |(_, own)| own.address);
    if let Some([(_, twice), _]) = all.array_windows().find(|[(_, a), (_, b)]| a.address == b.address) {
        return Err(Conflict::AddressTwice(twice.address.into()));
    }
    sort_by_key(&mut all, |(_, own)| (own.network.first(), own.network.len()));
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

/// The routes that its IPv4 addresses bring; of those with the same prefix the first counts.
fn local4(interface: &Interface) -> Vec<(Prefix<Ipv4Addr>, Route<Ipv4Addr>)> {
    let (index, mut routes) = (interface.index, Vec::new());
    let host = |address| Prefix::new(address, 32);
    for Assigned { address, .. } in &interface.addresses4 {
        let route = own(interface, (*address).into());
        routes.extend(host(*address).zip(route));
    }
    let there = |own: &&Assigned<Ipv4Addr>| interface.claim(own.address.into()) != Claim::Tentative;
    let all = || interface.addresses4.iter().filter(there);
    for Assigned { network, .. } in all().filter(|own| own.network.len() < 31) {
        for edge in [network.first(), network.last()] {
            routes.extend(host(edge).map(|prefix| (prefix, Route::Broadcast { interface: index })));
        }
    }
    routes.extend(all().map(|own| (own.network, Route::Connected { interface: index })));
    routes
}

/// As [`local4`].
fn local6(interface: &Interface) -> Vec<(Prefix<Ipv6Addr>, Route<Ipv6Addr>)> {
    let (index, mut routes) = (interface.index, Vec::new());
    let host = |address| Prefix::new(address, 128);
    for assigned in &interface.addresses6 {
        let anycast = interface.subnet_router(assigned).and_then(host);
        routes.extend(host(assigned.address).zip(own(interface, assigned.address.into())));
        routes.extend(anycast.map(|prefix| (prefix, Route::Local { interface: index })));
    }
    let there = |own: &&Assigned<Ipv6Addr>| interface.claim(own.address.into()) != Claim::Tentative;
    let networks = interface.addresses6.iter().filter(there);
    routes.extend(networks.map(|own| (own.network, Route::Connected { interface: index })));
    routes
}

/// What becomes of packets to one of its addresses. A duplicate is another host of the network.
fn own<A>(interface: &Interface, address: IpAddr) -> Option<Route<A>> {
    match interface.claim(address) {
        Claim::Ours | Claim::Optimistic => Some(Route::Local { interface: interface.index }),
        Claim::Tentative => Some(Route::Tentative),
        Claim::Duplicate => None,
    }
}
