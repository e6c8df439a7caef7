//! From the static routes of a plan to the tables of a snapshot, one family at a time. At task level.

use super::cover::{Cover, MAX_DEPTH, covering, key};
use super::group::{Group, Groups, Identity, MAX_GROUPS, MAX_MEMBERS, Member};
use super::{Conflict, Interface, NextHop, Route, RoutePlan, RouteTarget, State, Weighted};
use crate::address::{Address, Bits, Kind, Prefix, kind4, kind6};
use crate::fib::Fib;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use weir_netif::IfIndex;
use weir_sync::sort::{sort, sort_by_key};

/// What tells the families apart here.
pub(super) trait Family: Address {
    /// The address, if it is of this family.
    fn of(address: IpAddr) -> Option<Self>;
    /// Whether `interface` carries packets of this family: IPv6 only with an MTU of [`MIN_MTU6`](super::MIN_MTU6).
    fn served(interface: &Interface) -> bool;
    /// Whether `address` is on the link of `interface`.
    fn near(interface: &Interface, address: Self) -> bool;
    /// Whether `address` is the interface's own.
    fn owned(interface: &Interface, address: Self) -> bool;
    /// Whether `address` can be a router's beyond the link. IPv4's link-local ones are configured by hand here, like any other.
    fn routed(address: Self) -> bool;
    /// Whether `address` does not tell which link it is on.
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
    fn routed(address: Self) -> bool {
        matches!(kind4(address), Kind::Unicast | Kind::LinkLocal)
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
        interface.has6()
    }
    fn near(interface: &Interface, address: Self) -> bool {
        interface.addresses6.iter().any(|own| own.network.contains(address))
    }
    fn owned(interface: &Interface, address: Self) -> bool {
        interface.owns6(address)
    }
    fn routed(address: Self) -> bool {
        kind6(address) == Kind::Unicast
    }
    fn scoped(address: Self) -> bool {
        kind6(address) == Kind::LinkLocal
    }
}

/// What a route or one of its next hops wants, as far as that is known before all routes are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted<A> {
    /// This.
    Now(Route<A>),
    /// An interface that is down or absent.
    Down,
    /// To be sent where other routes lead to this next hop.
    Through(A),
    /// One of several, by their place in [`Table::lists`].
    List(u32),
}

/// One of several next hops: who it is, its weight, what it wants.
type Hop<A> = (Identity<A>, u8, Wanted<A>);

/// Where something leads, and how many next hops that are no neighbours are passed on the way; `None`: nowhere.
type Way<A> = Option<(Route<A>, usize)>;

/// Routes, by place, and next hops of theirs.
type Behind<A> = Vec<(usize, A)>;

/// A table and the groups in it.
pub(super) type Tables<A> = (Fib<A, Route<A>>, Arc<[Group]>);

/// A table in the making.
pub(super) struct Table<'i, A> {
    interfaces: &'i [Option<Interface>],
    /// Those that interfaces have of their own accord come first, then by metric.
    routes: Vec<(Prefix<A>, Wanted<A>)>,
    /// Next hops of routes that have several; the same ones once.
    lists: Vec<Rc<[Hop<A>]>>,
    known: BTreeMap<Rc<[Hop<A>]>, u32>,
    /// All addresses of our own and broadcast addresses, of interfaces that are down too.
    ours: BTreeSet<A>,
    /// Where next hops are that are no neighbours.
    found: BTreeMap<A, Way<A>>,
    /// Routes, by place, and next hops of theirs that lead back to the route: they lead nowhere (RFC 4271 §9.1.2.1).
    loops: BTreeSet<(usize, A)>,
    groups: Groups<A>,
}

impl<'i, A: Family> Table<'i, A> {
    pub(super) fn new(interfaces: &'i [Option<Interface>]) -> Self {
        Self {
            interfaces,
            routes: Vec::new(),
            lists: Vec::new(),
            known: BTreeMap::new(),
            ours: BTreeSet::new(),
            found: BTreeMap::new(),
            loops: BTreeSet::new(),
            groups: Groups::new(),
        }
    }

    /// Adds the routes that an interface has of its own accord. Returns the addresses that no packet comes from.
    pub(super) fn local(&mut self, interface: &Interface, routes: &[(Prefix<A>, Route<A>)]) -> Vec<A> {
        let is_up = interface.state == State::Up && A::served(interface);
        let wanted = |route| if is_up { Wanted::Now(route) } else { Wanted::Down };
        self.routes.extend(routes.iter().map(|&(prefix, route)| (prefix, wanted(route))));
        let ours = |route| matches!(route, Route::Local { .. } | Route::Broadcast { .. });
        let own: Vec<A> = routes.iter().filter(|(_, r)| ours(*r)).map(|(prefix, _)| prefix.first()).collect();
        self.ours.extend(&own);
        if is_up { own } else { Vec::new() }
    }

    /// Adds a static route to `to`. Those with the same prefix that were added before come before it.
    pub(super) fn add(&mut self, to: A, wish: &RoutePlan) -> Result<(), Conflict> {
        let (address, len) = wish.to;
        let prefix = Prefix::new(to, len).ok_or(Conflict::NotANetwork(address, len))?;
        let wanted = match &wish.target {
            &RouteTarget::Via { gateway, interface } => {
                self.hop(wish, NextHop::Via { gateway, interface })?.1
            }
            &RouteTarget::Through { gateway } => self.hop(wish, NextHop::Through { gateway })?.1,
            &RouteTarget::OnLink { interface } => self.hop(wish, NextHop::OnLink { interface })?.1,
            RouteTarget::Multipath(list) => self.list(wish, list)?,
            RouteTarget::Absent => Wanted::Down,
            RouteTarget::Blackhole => Wanted::Now(Route::Blackhole),
            RouteTarget::Unreachable => Wanted::Now(Route::Unreachable),
            RouteTarget::Prohibit => Wanted::Now(Route::Prohibit),
        };
        self.routes.push((prefix, wanted));
        Ok(())
    }

    fn list(&mut self, wish: &RoutePlan, list: &[Weighted]) -> Result<Wanted<A>, Conflict> {
        let bad = Conflict::NextHops(wish.to.0, wish.to.1);
        if list.is_empty() || list.len() > MAX_MEMBERS {
            return Err(bad);
        }
        let mut hops: Vec<Hop<A>> = Vec::with_capacity(list.len());
        for one in list {
            let (identity, wanted) = self.hop(wish, one.hop)?;
            if one.weight == 0 || hops.iter().any(|(other, ..)| *other == identity) {
                return Err(bad);
            }
            hops.push((identity, one.weight, wanted));
        }
        sort(&mut hops);
        let hops: Rc<[Hop<A>]> = hops.into();
        let number = *self.known.entry(hops.clone()).or_insert(self.lists.len() as u32);
        if number as usize == self.lists.len() {
            if number as usize == MAX_GROUPS {
                return Err(Conflict::TooManyGroups);
            }
            self.lists.push(hops);
        }
        Ok(Wanted::List(number))
    }

    /// Who a next hop is, and what it wants.
    fn hop(&self, wish: &RoutePlan, hop: NextHop) -> Result<(Identity<A>, Wanted<A>), Conflict> {
        let (to, len) = wish.to;
        let bad = || Conflict::Gateway(to, len);
        let named = |index: IfIndex| {
            let named = self.interfaces.get(index.index()).and_then(Option::as_ref);
            named.ok_or(Conflict::UnknownInterface(to, len))
        };
        let (identity, route, interface) = match hop {
            NextHop::Via { gateway, interface: index } => {
                let interface = named(index)?;
                let near = |via| A::scoped(via) || A::near(interface, via);
                let via = A::of(gateway).filter(|via| near(*via) && !A::owned(interface, *via));
                let via = via.ok_or_else(bad)?;
                let link = A::scoped(via).then_some(index);
                let identity = Identity { gateway: Some(via), interface: link };
                (identity, Route::Gateway { interface: index, via }, interface)
            }
            NextHop::OnLink { interface: index } => {
                let interface = named(index)?;
                let identity = Identity { gateway: None, interface: Some(index) };
                (identity, Route::Connected { interface: index }, interface)
            }
            NextHop::Through { gateway } => {
                let gateway = A::of(gateway).filter(|gateway| A::routed(*gateway)).ok_or_else(bad)?;
                return Ok((Identity { gateway: Some(gateway), interface: None }, Wanted::Through(gateway)));
            }
        };
        let is_up = interface.state == State::Up && A::served(interface);
        Ok((identity, if is_up { Wanted::Now(route) } else { Wanted::Down }))
    }

    /// The table and its groups.
    pub(super) fn finish(mut self) -> Result<Tables<A>, Conflict> {
        // Stable: what comes first among routes with the same prefix stays so.
        sort_by_key(&mut self.routes, |(prefix, _)| key(prefix));
        self.check()?;
        let mut routes: Vec<(Prefix<A>, Route<A>)> = Vec::with_capacity(self.routes.len());
        for n in 0..self.routes.len() {
            let Some(&(prefix, wanted)) = self.routes.get(n) else { break };
            if routes.last().is_none_or(|(last, _)| *last != prefix) {
                let through: Vec<A> = self.through(wanted).collect();
                through.into_iter().for_each(|gateway| self.look_for(gateway));
                let route = self.route(n).unwrap_or(None);
                routes.extend(route.map(|(route, _)| (prefix, route)));
            }
        }
        let (hops, groups) = self.groups.finish();
        Ok((Fib::with_hops(hops, routes), groups.into()))
    }

    /// The next hops of what is wanted that other routes lead to.
    fn through(&self, wanted: Wanted<A>) -> impl Iterator<Item = A> {
        let list = if let Wanted::List(n) = wanted { self.lists.get(n as usize) } else { None };
        let hops = list.into_iter().flat_map(|hops| hops.iter().map(|(.., wanted)| *wanted));
        let own = Some(wanted).filter(|wanted| !matches!(wanted, Wanted::List(_)));
        own.into_iter().chain(hops).filter_map(|wanted| match wanted {
            Wanted::Through(gateway) => Some(gateway),
            _ => None,
        })
    }

    /// Whether every next hop can be reached when all interfaces are up.
    fn check(&self) -> Result<(), Conflict> {
        let all = || self.routes.iter().flat_map(|(p, wanted)| self.through(*wanted).map(move |g| (*p, g)));
        if all().next().is_none() {
            return Ok(());
        }
        let plain = self.routes.iter().map(|(prefix, _)| (*prefix, None));
        let flaws = Cover::new(plain.chain(all().map(|(p, gateway)| (p, Some(gateway)))).collect()).flaws();
        for (prefix, gateway) in all() {
            let (to, len) = (prefix.first().into(), prefix.len());
            if self.ours.contains(&gateway) {
                return Err(Conflict::Gateway(to, len));
            }
            if let Some(flaw) = flaws.get(&gateway) {
                return Err(Conflict::Through(to, len, gateway.into(), *flaw));
            }
        }
        Ok(())
    }

    /// Finds out where the routes lead to `gateway`. Next hops that depend on each other are one in `way`; each depends on
    /// the next. So it does not matter which one is looked for first.
    fn look_for(&mut self, gateway: A) {
        let mut way: Vec<Vec<A>> = Vec::new();
        while !self.found.contains_key(&gateway) {
            let Some(last) = way.last() else {
                way.push([gateway].into());
                continue;
            };
            let mut missing = Vec::new();
            let last = last.clone();
            for &one in &last {
                match self.gateway(one) {
                    Ok(found) => _ = self.found.insert(one, found),
                    Err(needs) => missing.extend(needs),
                }
            }
            let Some(&(_, beyond)) = missing.iter().find(|(_, gateway)| !last.contains(gateway)) else {
                // They are found, or wait for each other alone.
                self.loops.extend(missing);
                way.pop();
                continue;
            };
            match way.iter().position(|these| these.contains(&beyond)) {
                Some(at) => {
                    let all = way.drain(at..).flatten().collect();
                    way.push(all);
                }
                None => way.push([beyond].into()),
            }
        }
    }

    /// Where the routes lead to `gateway`: to the longest prefix that has a route at present. An error names routes and
    /// their next hops that have to be found before.
    fn gateway(&mut self, gateway: A) -> Result<Way<A>, Behind<A>> {
        let mut most = Some(A::Bits::WIDTH);
        while let Some(len) = most
            && let Some(range) = covering(&self.routes, |(prefix, _)| prefix, gateway, len)
        {
            most = self.routes.get(range.start).and_then(|(prefix, _)| prefix.len().checked_sub(1));
            for n in range {
                if let Some((route, passed)) = self.route(n)? {
                    // Longer ways than were checked arise where interfaces are down.
                    let is_near = passed < MAX_DEPTH;
                    return Ok(is_near.then(|| (self.groups.toward(route, gateway), passed + 1)));
                }
            }
        }
        Ok(None)
    }

    /// Where route `n` leads. An error as for [`gateway`](Self::gateway).
    fn route(&mut self, n: usize) -> Result<Way<A>, Behind<A>> {
        let Some(&(_, wanted)) = self.routes.get(n) else { return Ok(None) };
        let missing: Behind<A> = self
            .through(wanted)
            .filter(|gateway| !self.found.contains_key(gateway) && !self.loops.contains(&(n, *gateway)))
            .map(|gateway| (n, gateway))
            .collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let lead = |wanted| match wanted {
            Wanted::Now(route) => Some((route, 0)),
            Wanted::Through(gateway) if !self.loops.contains(&(n, gateway)) => *self.found.get(&gateway)?,
            Wanted::Through(_) | Wanted::Down | Wanted::List(_) => None,
        };
        let Wanted::List(list) = wanted else { return Ok(lead(wanted)) };
        let (mut members, mut reject, mut most) = (Vec::new(), None, 0);
        for &(identity, weight, wanted) in self.lists.get(list as usize).iter().flat_map(|list| list.iter()) {
            match lead(wanted) {
                Some((route @ (Route::Blackhole | Route::Unreachable | Route::Prohibit), passed)) => {
                    reject = reject.or(Some((route, passed)));
                }
                Some((route, passed)) => {
                    most = most.max(passed);
                    members.push(Member { identity, weight, route });
                }
                None => {}
            }
        }
        // A member that turns packets away is none, unless all do.
        Ok(self.groups.route(members).map(|route| (route, most)).or(reject))
    }
}

#[cfg(test)]
mod tests;
