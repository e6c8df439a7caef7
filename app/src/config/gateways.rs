//! What routes say about interfaces and about each other: destinations given twice, next routers that nobody knows a way to.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::Range;
use weir_sync::sort::sort;

use ipnet::IpNet;
use toml::Spanned;
use weir_netstack::address::{Address, Prefix};
use weir_netstack::snapshot::{Cover, Flaw, MAX_DEPTH, MAX_GROUPS, MIN_MTU6};

use super::check::{Addresses, Link, is_link_local, scoped};
use super::errors::{Finding, Path, Report, quoted};
use super::read::InterfaceDraft;
use super::routes::{HopDraft, RouteDraft, TargetDraft};
use super::types::{NextHop, Route, Target};
use super::{keys, value};

static ROUTES: Path = Path::Key(&Path::Root, "route");

/// What routes are checked against.
pub(super) struct Gateways<'a> {
    pub(super) interfaces: &'a [InterfaceDraft],
    /// The interfaces' places by name.
    pub(super) names: BTreeMap<&'a str, usize>,
    pub(super) addresses: &'a Addresses<'a>,
    pub(super) links: &'a [Link],
    /// Whether addresses and links are all there and without conflict: else a gateway that seems off its
    /// link may be right.
    pub(super) certain: bool,
}

impl Gateways<'_> {
    /// The routes, unless one is incomplete.
    pub(super) fn check(&self, drafts: Vec<RouteDraft>, report: &mut Report) -> Option<Vec<Route>> {
        self.check_networks(&drafts, report);
        check_twice(&drafts, report);
        let mut targets = Vec::with_capacity(drafts.len());
        for draft in &drafts {
            let path = Path::Index(&ROUTES, draft.index);
            targets.push(match &draft.target {
                Some(TargetDraft::Reject(reject)) => Some(Target::Reject(*reject)),
                Some(TargetDraft::Forward(hops)) => self.resolve(&path, draft, hops, report),
                None => None,
            });
        }
        let complete = drafts.iter().all(|draft| draft.to.complete) && targets.iter().all(Option::is_some);
        if complete && self.certain {
            self.check_ways(&drafts, &targets, report);
            check_groups(&drafts, &targets, report);
        }
        let routes = drafts.into_iter().zip(targets);
        let routes = routes
            .map(|(draft, target)| Some(Route { to: draft.to.nets, target: target?, metric: draft.metric }));
        routes.collect::<Option<Vec<_>>>().filter(|_| complete)
    }

    /// No route to a connected network: that one is used.
    fn check_networks(&self, drafts: &[RouteDraft], report: &mut Report) {
        let addresses = self.addresses.values();
        let mut connected: BTreeMap<IpNet, _> = BTreeMap::new();
        connected.extend(addresses.rev().map(|owner| (owner.1.net.trunc(), owner)));
        for draft in drafts {
            for (index, net) in draft.to.nets.iter().enumerate() {
                if let Some((interface, address)) = connected.get(net) {
                    let name = &interface.name;
                    let message =
                        format!("{net} is the network of interface {name}: the route would never be used");
                    let finding = draft.to.finding(&Path::Index(&ROUTES, draft.index), index, message);
                    report.add(finding.related(address.span.clone(), "the interface's address"));
                }
            }
        }
    }

    /// Where a route leads; `None` after a report.
    fn resolve(
        &self,
        route: &Path,
        draft: &RouteDraft,
        hops: &[HopDraft],
        report: &mut Report,
    ) -> Option<Target> {
        let found: Vec<Option<NextHop>> =
            hops.iter().map(|hop| self.next_hop(route, &draft.to.nets, hop, report)).collect();
        let found: Vec<NextHop> = found.into_iter().collect::<Option<_>>()?;
        let same = |a: &NextHop, b: &NextHop| {
            let link = a.via.is_none_or(is_link_local);
            a.via == b.via && (!link || a.interface == b.interface)
        };
        for (n, hop) in found.iter().enumerate() {
            let first = found.iter().take(n).position(|other| same(other, hop));
            if let Some((first, twice)) = first.and_then(|first| hops.get(first).zip(hops.get(n))) {
                let message = format!("{twice} is given twice");
                let finding = Finding::at(twice.span.clone(), route.key("via"), message);
                let finding = finding.related(first.span.clone(), "first given here");
                report.add(finding.help("for a larger share give it a weight"));
                return None;
            }
        }
        Some(Target::Forward(found))
    }

    /// A next hop with its interface; `None` after a report.
    fn next_hop(&self, route: &Path, to: &[IpNet], hop: &HopDraft, report: &mut Report) -> Option<NextHop> {
        let named = match &hop.interface {
            Some(name) => Some((name, hop.at(route, "interface", |path| self.named(path, name, report))?)),
            None => None,
        };
        let weight = hop.weight;
        let serves = |index: usize| {
            let mtu = self.interfaces.get(index).and_then(|interface| interface.mtu.as_ref());
            let has6 = to.iter().any(|net| net.addr().is_ipv6());
            mtu.filter(|mtu| has6 && *mtu.get_ref() < MIN_MTU6)
        };
        if let Some((name, mtu)) = named.and_then(|(name, index)| Some((name, serves(index)?))) {
            let message = format!("found {}, whose MTU is too small for IPv6", quoted(name.get_ref()));
            let finding = hop.at(route, "interface", |path| Finding::at(name.span(), path, message));
            report.add(finding.related(mtu.span(), "expected at least 1280 (RFC 8200 5)"));
            return None;
        }
        let Some(via) = &hop.via else {
            return Some(NextHop { via: None, interface: Some(named?.1), weight });
        };
        let address = *via.get_ref();
        let bad_via = |message| hop.at(route, "address", |path| Finding::at(via.span(), path, message));
        if let Some(net) = to.iter().find(|net| net.addr().is_ipv4() != address.is_ipv4()) {
            let family = if address.is_ipv4() { "IPv6" } else { "IPv4" };
            let message =
                format!("{address} cannot be the next router to {net}, expected an {family} address");
            report.add(bad_via(message));
            return None;
        }
        let interface = match named {
            Some((_, index)) if is_link_local(address) => Some(index),
            None if is_link_local(address) => {
                let message = format!("{address} is link-local, expected the interface to reach it by");
                let help = match hop.index {
                    Some(_) => format!("name it: {{ address = \"{address}\", interface = \"NAME\" }}"),
                    None => "name it with interface = \"NAME\"".into(),
                };
                report.add(bad_via(message).help(help));
                return None;
            }
            _ => self.link_of(address, &bad_via, report)?,
        };
        let own = self.addresses.get(&scoped(address, interface.unwrap_or_default()));
        if let Some((owner, own)) = own {
            let message = format!("{address} is this router's own address, on interface {}", owner.name);
            report.add(bad_via(message).related(own.span.clone(), "given here"));
            return None;
        }
        if let Some((name, other)) = named.filter(|&(_, other)| Some(other) != interface && self.certain) {
            let found = quoted(&self.interfaces.get(other)?.name);
            let right = interface.and_then(|index| self.interfaces.get(index)).map(|right| &right.name);
            let (message, help) = match right {
                Some(right) => (
                    format!("found {found}, but {address} is on the network of interface {right}"),
                    format!("write interface = \"{right}\", or leave it out"),
                ),
                None => (
                    format!("found {found}, but {address} is on no network of it"),
                    "leave it out: other routes lead to the next router then".into(),
                ),
            };
            let finding = hop.at(route, "interface", |path| Finding::at(name.span(), path, message));
            report.add(finding.help(help));
            return None;
        }
        Some(NextHop { via: Some(address), interface, weight })
    }

    /// The place of the interface whose network has `address`, if one has.
    fn link_of(
        &self,
        address: IpAddr,
        bad_via: &dyn Fn(String) -> Finding,
        report: &mut Report,
    ) -> Option<Option<usize>> {
        let after = self.links.partition_point(|link| link.net.network() <= address);
        let before = self.links.get(..after).and_then(|links| links.last());
        let Some(link) = before.filter(|link| link.net.contains(&address)) else { return Some(None) };
        let within = IpNet::new_assert(address, link.net.prefix_len());
        if let Some(kind) = value::no_host_within(&within) {
            report.add(bad_via(format!("{within} is {kind}, expected a router's address")));
            return None;
        }
        Some(Some(link.interface))
    }

    /// The place of the interface that is named at `path`.
    fn named(&self, path: &Path, name: &Spanned<String>, report: &mut Report) -> Option<usize> {
        let found = name.get_ref().as_str();
        if let Some(&index) = self.names.get(found) {
            return Some(index);
        }
        let message = format!("found {}, expected the name of an interface", quoted(found));
        let finding = Finding::at(name.span(), path, message);
        let names = self.names.keys().copied();
        report.add(match keys::nearest(found, names.clone()) {
            Some(name) => finding.help(value::did_you_mean(&quoted(name))),
            None => finding.help(format!("there are {}", names.collect::<Vec<_>>().join(", "))),
        });
        None
    }

    /// Whether other routes lead to each next router that is on no interface's network.
    fn check_ways(&self, drafts: &[RouteDraft], targets: &[Option<Target>], report: &mut Report) {
        let hops = |target: &Option<Target>| match target {
            Some(Target::Forward(hops)) => hops.clone(),
            _ => Vec::new(),
        };
        let far = |hop: &NextHop| hop.via.filter(|_| hop.interface.is_none());
        if !targets.iter().any(|target| hops(target).iter().any(|hop| far(hop).is_some())) {
            return;
        }
        let (mut ways4, mut ways6) = (Ways::<Ipv4Addr>::new(), Ways::<Ipv6Addr>::new());
        // What will be learnt may lead anywhere.
        if self.interfaces.iter().any(|interface| interface.learn.dhcp) {
            way(&mut ways4, Ipv4Addr::UNSPECIFIED, 0, None);
        }
        if self.interfaces.iter().any(|interface| interface.learn.auto) {
            way(&mut ways6, Ipv6Addr::UNSPECIFIED, 0, None);
        }
        let mut add = |net: IpNet, via: Option<IpAddr>| match (net, via) {
            (IpNet::V4(net), Some(IpAddr::V4(via))) => {
                way(&mut ways4, net.addr(), net.prefix_len(), Some(via))
            }
            (IpNet::V6(net), Some(IpAddr::V6(via))) => {
                way(&mut ways6, net.addr(), net.prefix_len(), Some(via))
            }
            (IpNet::V4(net), _) => way(&mut ways4, net.addr(), net.prefix_len(), None),
            (IpNet::V6(net), _) => way(&mut ways6, net.addr(), net.prefix_len(), None),
        };
        self.links.iter().for_each(|link| add(link.net, None));
        for (draft, target) in drafts.iter().zip(targets) {
            let vias: Vec<IpAddr> = hops(target).iter().filter_map(far).collect();
            for net in &draft.to.nets {
                add(*net, None);
                vias.iter().for_each(|via| add(*net, Some(*via)));
            }
        }
        let mut flaws: BTreeMap<IpAddr, Flaw> = flaws(ways4);
        flaws.extend(self::flaws(ways6));
        for draft in drafts.iter().filter(|_| !flaws.is_empty()) {
            let Some(TargetDraft::Forward(hops)) = &draft.target else { continue };
            for (hop, via) in hops.iter().filter_map(|hop| Some((hop, hop.via.as_ref()?))) {
                let Some(flaw) = flaws.get(via.get_ref()) else { continue };
                let route = Path::Index(&ROUTES, draft.index);
                let (message, help) = flawed(*via.get_ref(), *flaw);
                let finding = hop.at(&route, "address", |path| Finding::at(via.span(), path, message));
                report.add(finding.help(help));
            }
        }
    }
}

/// Destinations, and the next router behind each that is no neighbour.
type Ways<A> = Vec<(Prefix<A>, Option<A>)>;

fn way<A: Address>(ways: &mut Ways<A>, to: A, len: u8, via: Option<A>) {
    ways.extend(Prefix::new(to, len).map(|prefix| (prefix, via)));
}

fn flaws<A: Address>(ways: Ways<A>) -> BTreeMap<IpAddr, Flaw> {
    Cover::new(ways).flaws().into_iter().map(|(via, flaw)| (via.into(), flaw)).collect()
}

fn flawed(via: IpAddr, flaw: Flaw) -> (String, &'static str) {
    match flaw {
        Flaw::Unreached => (
            format!("{via} is on no interface's network, and no other route leads to it"),
            "name a neighbour, or add a route to the next router",
        ),
        Flaw::Loop => (
            format!("{via} is on no interface's network, and the way to it leads through itself"),
            "name a neighbour, or add a route to the next router",
        ),
        Flaw::Depth => (
            format!("the way to {via} leads through more than {MAX_DEPTH} other next routers"),
            "add a route to the next router, by a neighbour",
        ),
    }
}

/// No destination twice with the same metric.
fn check_twice(drafts: &[RouteDraft], report: &mut Report) {
    // Sorted in place rather than entered into a map: there may be a million.
    let mut given: Vec<(IpNet, u32, u32, u32)> =
        Vec::with_capacity(drafts.iter().map(|draft| draft.to.nets.len()).sum());
    for (route, draft) in (0..).zip(drafts) {
        given.extend((0..).zip(&draft.to.nets).map(|(index, net)| (*net, draft.metric, route, index)));
    }
    sort(&mut given);
    let mut first = 0;
    for (n, (net, metric, route, index)) in given.iter().enumerate() {
        match given.get(first) {
            Some((other, same, ..)) if n > 0 && (other, same) == (net, metric) => {}
            _ => {
                first = n;
                continue;
            }
        }
        let place = |(route, index): (u32, u32)| -> Option<(&RouteDraft, Range<usize>)> {
            let draft = drafts.get(route as usize)?;
            Some((draft, draft.to.span(index as usize)))
        };
        let before = given.get(first).and_then(|&(_, _, route, index)| place((route, index)));
        let Some(((draft, _), (_, before))) = place((*route, *index)).zip(before) else { continue };
        let message = format!("there is a route to {net} with metric {metric} already");
        let finding = draft.to.finding(&Path::Index(&ROUTES, draft.index), *index as usize, message);
        let finding = finding.related(before, "first given here");
        report.add(finding.help("give one of them another metric: the lowest wins"));
    }
}

/// So many groups fit into the tables of each family.
fn check_groups(drafts: &[RouteDraft], targets: &[Option<Target>], report: &mut Report) {
    let (mut groups4, mut groups6) = (BTreeSet::new(), BTreeSet::new());
    for (draft, target) in drafts.iter().zip(targets) {
        let Some(Target::Forward(hops)) = target else { continue };
        if hops.len() < 2 {
            continue;
        }
        let mut key: Vec<_> = hops.iter().map(|hop| (hop.via, hop.interface, hop.weight)).collect();
        sort(&mut key);
        let nets = &draft.to.nets;
        for (groups, is_in) in [
            (&mut groups4, nets.iter().any(|net| net.addr().is_ipv4())),
            (&mut groups6, nets.iter().any(|net| net.addr().is_ipv6())),
        ] {
            if is_in && groups.insert(key.clone()) && groups.len() == MAX_GROUPS + 1 {
                let message = format!("found more than {MAX_GROUPS} different lists of next hops");
                let route = Path::Index(&ROUTES, draft.index);
                report.add(
                    draft
                        .to
                        .finding(&route, 0, message)
                        .help("let routes have the same next hops and weights"),
                );
            }
        }
    }
}
