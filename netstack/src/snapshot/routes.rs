//! From the static routes of a plan to the tables of a snapshot, one family at a time. At task level.

use super::group::{Group, Groups, Identity, MAX_MEMBERS, Member, TooMany};
use super::{Conflict, Interface, NextHop, Route, RoutePlan, RouteTarget, State};
use crate::address::{Address, Kind, Prefix, kind6};
use crate::fib::Fib;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use weir_netif::IfIndex;

/// What tells the families apart here.
pub(super) trait Family: Address {
    /// The address, if it is of this family.
    fn of(address: IpAddr) -> Option<Self>;
    /// Whether `interface` carries packets of this family at all.
    fn served(interface: &Interface) -> bool;
    /// Whether `address` is on the link of `interface`.
    fn near(interface: &Interface, address: Self) -> bool;
    /// Whether `address` is the interface's own.
    fn owned(interface: &Interface, address: Self) -> bool;
    /// Whether `address` says nothing about the link it is on.
    fn scoped(address: Self) -> bool;
}

impl Family for Ipv4Addr {
    fn of(address: IpAddr) -> Option<Self> {
        if let IpAddr::V4(address) = address { Some(address) } else { None }
    }
    fn served(_: &Interface) -> bool {
        true
    }
    fn near(interface: &Interface, address: Self) -> bool {
        interface.addresses4.iter().any(|own| own.network.contains(address))
    }
    fn owned(interface: &Interface, address: Self) -> bool {
        interface.owns4(address)
    }
    fn scoped(_: Self) -> bool {
        false
    }
}

impl Family for Ipv6Addr {
    fn of(address: IpAddr) -> Option<Self> {
        if let IpAddr::V6(address) = address { Some(address) } else { None }
    }
    fn served(interface: &Interface) -> bool {
        !interface.link_local.is_empty()
    }
    fn near(interface: &Interface, address: Self) -> bool {
        let local = Self::scoped(address) && Self::served(interface);
        local || interface.addresses6.iter().any(|own| own.network.contains(address))
    }
    fn owned(interface: &Interface, address: Self) -> bool {
        interface.owns6(address)
    }
    fn scoped(address: Self) -> bool {
        kind6(address) == Kind::LinkLocal
    }
}

/// A table in the making.
pub(super) struct Table<A> {
    routes: Vec<(Prefix<A>, Route<A>)>,
    groups: Groups<A>,
}

impl<A: Family> Table<A> {
    /// With the routes that interfaces have of their own accord.
    pub(super) fn new(routes: Vec<(Prefix<A>, Route<A>)>) -> Self {
        Self { routes, groups: Groups::new() }
    }

    /// Adds a static route to `to`; where there is one with its prefix, that counts. One whose interfaces are down is left
    /// out.
    pub(super) fn add(
        &mut self,
        to: A,
        wish: &RoutePlan,
        interfaces: &[Option<Interface>],
    ) -> Result<(), Conflict> {
        let (address, len) = wish.to;
        let prefix = Prefix::new(to, len).ok_or(Conflict::NotANetwork(address, len))?;
        let hop = |hop| next_hop(hop, wish, interfaces);
        let route = match &wish.target {
            &RouteTarget::Via { gateway, interface } => hop(NextHop::Via { gateway, interface })?.1,
            &RouteTarget::OnLink { interface } => hop(NextHop::OnLink { interface })?.1,
            RouteTarget::Multipath(list) => {
                let bad = Conflict::NextHops(address, len);
                if list.is_empty() || list.len() > MAX_MEMBERS {
                    return Err(bad);
                }
                let mut identities = Vec::with_capacity(list.len());
                let mut members = Vec::with_capacity(list.len());
                for one in list.iter() {
                    let (identity, route) = hop(one.hop)?;
                    if one.weight == 0 || identities.contains(&identity) {
                        return Err(bad);
                    }
                    identities.push(identity);
                    members.extend(route.map(|route| Member { identity, weight: one.weight, route }));
                }
                self.groups.route(members).map_err(|TooMany| Conflict::TooManyGroups)?
            }
            RouteTarget::Blackhole => Some(Route::Blackhole),
            RouteTarget::Unreachable => Some(Route::Unreachable),
            RouteTarget::Prohibit => Some(Route::Prohibit),
        };
        self.routes.extend(route.map(|route| (prefix, route)));
        Ok(())
    }

    /// The table and its groups.
    pub(super) fn finish(self) -> (Fib<A, Route<A>>, Arc<[Group]>) {
        let (hops, groups) = self.groups.finish();
        (Fib::with_hops(hops, self.routes), groups.into())
    }
}

/// Who a next hop is, and the route to it; `None` while its interface is down.
fn next_hop<A: Family>(
    hop: NextHop,
    wish: &RoutePlan,
    interfaces: &[Option<Interface>],
) -> Result<(Identity<A>, Option<Route<A>>), Conflict> {
    let (to, len) = wish.to;
    let named = |index: IfIndex| {
        let named = interfaces.get(index.index()).and_then(Option::as_ref);
        named.ok_or(Conflict::UnknownInterface(to, len))
    };
    let bad = Conflict::Gateway(to, len);
    let (identity, route, interface) = match hop {
        NextHop::Via { gateway, interface: index } => {
            let interface = named(index)?;
            let via = A::of(gateway).filter(|via| A::near(interface, *via) && !A::owned(interface, *via));
            let via = via.ok_or(bad)?;
            let link = A::scoped(via).then_some(index);
            let identity = Identity { gateway: Some(via), interface: link };
            (identity, Route::Gateway { interface: index, via }, interface)
        }
        NextHop::OnLink { interface: index } => {
            let interface = named(index)?;
            if !A::served(interface) {
                return Err(bad);
            }
            let identity = Identity { gateway: None, interface: Some(index) };
            (identity, Route::Connected { interface: index }, interface)
        }
    };
    Ok((identity, (interface.state == State::Up).then_some(route)))
}
