use super::*;
use crate::sim::{a4, a6, down, plan, prefix};
use crate::snapshot::{Flaw, Plan, Snapshot};
use proptest::prelude::*;
use std::vec;

fn through(to: &str, gateway: &str) -> RoutePlan {
    let target = RouteTarget::Through { gateway: gateway.parse().unwrap() };
    RoutePlan { to: prefix(to), target, metric: 0 }
}

fn via(to: &str, gateway: &str, interface: u16) -> RoutePlan {
    let target = RouteTarget::Via { gateway: gateway.parse().unwrap(), interface: IfIndex(interface) };
    RoutePlan { to: prefix(to), target, metric: 0 }
}

fn other(to: &str, target: RouteTarget) -> RoutePlan {
    RoutePlan { to: prefix(to), target, metric: 0 }
}

fn spread(to: &str, gateways: &[(&str, Option<u16>)]) -> RoutePlan {
    let hop = |gateway: &str, interface: Option<u16>| match (gateway, interface) {
        ("", Some(n)) => NextHop::OnLink { interface: IfIndex(n) },
        (text, Some(n)) => NextHop::Via { gateway: text.parse().unwrap(), interface: IfIndex(n) },
        (text, None) => NextHop::Through { gateway: text.parse().unwrap() },
    };
    let list = gateways.iter().map(|&(gateway, n)| Weighted { hop: hop(gateway, n), weight: 1 });
    other(to, RouteTarget::Multipath(list.collect()))
}

/// Three links.
fn links(routes: Vec<RoutePlan>) -> Plan {
    let mut plan = plan(&[
        &["10.0.1.1/24", "2001:db8:1::1/64"],
        &["192.0.2.1/24", "2001:db8:2::1/64"],
        &["198.51.100.1/24", "2001:db8:3::1/64"],
    ]);
    plan.routes = routes;
    plan
}

fn gateway(interface: u16, via: &str) -> Option<Route<Ipv4Addr>> {
    Some(Route::Gateway { interface: IfIndex(interface), via: a4(via) })
}

#[track_caller]
fn leads(plan: &Plan, expected: &[(&str, Option<Route<Ipv4Addr>>)]) {
    let snapshot = Snapshot::build(plan).unwrap();
    for (to, route) in expected {
        assert_eq!(snapshot.fib4().lookup(a4(to)).copied(), *route, "{to}");
    }
}

#[test]
fn a_gateway_elsewhere_is_reached_by_the_other_routes() {
    let plan = links(vec![
        // In any order, over several steps, by the longest match.
        through("20.0.0.0/8", "30.0.0.9"),
        through("30.0.0.0/8", "172.16.5.1"),
        via("172.16.0.0/12", "192.0.2.254", 1),
        via("172.16.5.0/24", "10.0.1.254", 0),
        // Hosts on the link itself.
        other("100.64.0.0/10", RouteTarget::OnLink { interface: IfIndex(2) }),
        through("40.0.0.0/8", "100.64.0.9"),
        // A neighbour after all.
        through("50.0.0.0/8", "198.51.100.7"),
        through("2001:db8:f000::/36", "2001:db8:e::1"),
        through("2001:db8:e::/48", "2001:db8:3::7"),
    ]);
    leads(
        &plan,
        &[
            ("20.0.0.1", gateway(0, "10.0.1.254")),
            ("30.0.0.1", gateway(0, "10.0.1.254")),
            ("40.0.0.1", gateway(2, "100.64.0.9")),
            ("50.0.0.1", gateway(2, "198.51.100.7")),
        ],
    );
    let expected = Route::Gateway { interface: IfIndex(2), via: a6("2001:db8:3::7") };
    assert_eq!(Snapshot::build(&plan).unwrap().fib6().lookup(a6("2001:db8:f000::1")), Some(&expected));
}

#[test]
fn it_follows_what_is_up() {
    let mut plan = links(vec![
        through("20.0.0.0/8", "172.16.5.1"),
        RoutePlan { metric: 5, ..via("20.0.0.0/8", "198.51.100.9", 2) },
        via("172.16.5.0/24", "10.0.1.254", 0),
        RoutePlan { metric: 3, ..via("172.16.5.0/24", "192.0.2.254", 1) },
    ]);
    leads(&plan, &[("20.0.0.1", gateway(0, "10.0.1.254"))]);
    down(&mut plan, 0);
    leads(&plan, &[("20.0.0.1", gateway(1, "192.0.2.254"))]);
    // Nowhere at present: no error, and the next metric's turn.
    down(&mut plan, 1);
    leads(&plan, &[("20.0.0.1", gateway(2, "198.51.100.9"))]);
    down(&mut plan, 2);
    leads(&plan, &[("20.0.0.1", None)]);
}

#[test]
fn a_way_that_leads_back_for_as_long_as_a_link_is_down_is_none() {
    let mut plan = links(vec![
        through("0.0.0.0/0", "172.16.5.1"),
        via("172.16.5.0/24", "10.0.1.254", 0),
        RoutePlan { metric: 9, ..via("0.0.0.0/0", "192.0.2.254", 1) },
    ]);
    leads(&plan, &[("8.8.8.8", gateway(0, "10.0.1.254"))]);
    down(&mut plan, 0);
    leads(&plan, &[("8.8.8.8", gateway(1, "192.0.2.254"))]);
}

#[test]
fn how_far_a_gateway_may_be_does_not_depend_on_where_the_search_begins() {
    // A chain that is short for as long as the second link is up.
    for number in [|n: u8| n, |n: u8| 100 - n] {
        let far = |n: u8| std::format!("20.{}.0.1", number(n));
        let chain = (0..13).flat_map(|n| {
            let to = std::format!("20.{}.0.0/16", number(n));
            let longer = std::format!("20.{}.0.0/17", number(n));
            [
                if n == 0 { via(&to, "10.0.1.254", 0) } else { through(&to, &far(n - 1)) },
                via(&longer, "192.0.2.254", 1),
            ]
        });
        let mut plan = links(chain.collect());
        leads(&plan, &[(&far(12), gateway(1, "192.0.2.254"))]);
        down(&mut plan, 1);
        let snapshot = Snapshot::build(&plan).unwrap();
        let found: Vec<_> = (0..13).filter(|&n| snapshot.fib4().lookup(a4(&far(n))).is_some()).collect();
        assert_eq!(found, (0..=MAX_DEPTH as u8).collect::<Vec<_>>());
    }
}

#[test]
fn gateways_that_lead_to_each_other_for_as_long_as_a_link_is_down_each_have_their_own_way_out() {
    let mut plan = links(vec![
        via("172.16.1.0/24", "10.0.1.254", 0),
        through("172.16.0.0/16", "172.32.1.1"),
        via("172.16.0.0/12", "192.0.2.254", 1),
        via("172.32.1.0/24", "10.0.1.254", 0),
        through("172.32.0.0/16", "172.16.1.1"),
        via("172.32.0.0/12", "198.51.100.254", 2),
        through("20.0.0.0/8", "172.16.1.1"),
        through("200.0.0.0/8", "172.32.1.1"),
    ]);
    let all =
        |one, other| [("172.16.1.1", one), ("20.0.0.1", one), ("172.32.1.1", other), ("200.0.0.1", other)];
    leads(&plan, &all(gateway(0, "10.0.1.254"), gateway(0, "10.0.1.254")));
    down(&mut plan, 0);
    leads(&plan, &all(gateway(1, "192.0.2.254"), gateway(2, "198.51.100.254")));
}

#[test]
fn a_route_to_a_gateway_by_several_ways_goes_all_of_them() {
    let mut plan = links(vec![
        spread("172.16.0.0/12", &[("192.0.2.254", Some(1)), ("198.51.100.254", Some(2))]),
        through("20.0.0.0/8", "172.16.5.1"),
        // The same share of it, and half past it.
        spread("30.0.0.0/8", &[("172.16.5.1", None), ("10.0.1.254", Some(0))]),
        // Hosts of two links.
        spread("100.64.0.0/10", &[("", Some(1)), ("", Some(2))]),
        through("40.0.0.0/8", "100.64.0.9"),
    ]);
    let snapshot = Snapshot::build(&plan).unwrap();
    let route = |to| *snapshot.fib4().lookup(a4(to)).unwrap();
    let members = |to| match route(to) {
        Route::Multipath { group } => snapshot.members4(group).copied().collect::<Vec<_>>(),
        route => vec![route],
    };
    assert_eq!(route("20.0.0.1"), route("172.16.0.1"), "the same group");
    let both = [gateway(1, "192.0.2.254").unwrap(), gateway(2, "198.51.100.254").unwrap()];
    assert_eq!(members("20.0.0.1"), both);
    assert_eq!(members("30.0.0.1").len(), 3);
    let share = |to, by| {
        let Route::Multipath { group } = route(to) else { panic!("{to} has one way") };
        let hop = |flow: u32| *snapshot.fib4().hop(snapshot.member4(group, flow)).unwrap();
        (0..=u32::from(u16::MAX)).filter(|n| Some(hop(n * 0x1_0001)) == by).count() * 100 / 65_536
    };
    assert!((45..55).contains(&share("30.0.0.1", gateway(0, "10.0.1.254"))));
    assert!((20..30).contains(&share("30.0.0.1", gateway(1, "192.0.2.254"))));
    let hosts = [gateway(1, "100.64.0.9").unwrap(), gateway(2, "100.64.0.9").unwrap()];
    assert_eq!(members("40.0.0.1"), hosts);
    assert_eq!(members("100.64.0.9").len(), 2);
    down(&mut plan, 1);
    leads(
        &plan,
        &[
            ("20.0.0.1", gateway(2, "198.51.100.254")),
            ("40.0.0.1", gateway(2, "100.64.0.9")),
            ("100.64.0.9", Some(Route::Connected { interface: IfIndex(2) })),
        ],
    );
}

#[test]
fn what_turns_packets_to_a_gateway_away_turns_those_through_it_away() {
    let plan = links(vec![
        other("192.0.3.1/32", RouteTarget::Blackhole),
        other("192.0.3.2/32", RouteTarget::Unreachable),
        other("192.0.3.3/32", RouteTarget::Prohibit),
        through("20.0.0.0/8", "192.0.3.1"),
        through("30.0.0.0/8", "192.0.3.2"),
        through("40.0.0.0/8", "192.0.3.3"),
        spread("50.0.0.0/8", &[("192.0.3.1", None), ("10.0.1.254", Some(0))]),
        spread("60.0.0.0/8", &[("192.0.3.3", None), ("192.0.3.2", None)]),
    ]);
    leads(
        &plan,
        &[
            ("20.0.0.1", Some(Route::Blackhole)),
            ("30.0.0.1", Some(Route::Unreachable)),
            ("40.0.0.1", Some(Route::Prohibit)),
            ("50.0.0.1", gateway(0, "10.0.1.254")),
            ("60.0.0.1", Some(Route::Unreachable)),
        ],
    );
}

#[test]
fn a_gateway_that_nothing_ever_leads_to_is_a_conflict() {
    let flaw = |routes: Vec<RoutePlan>| Snapshot::build(&links(routes)).err();
    let named = |to: &str, gateway: &str, flaw| {
        let (net, len) = prefix(to);
        Some(Conflict::Through(net, len, gateway.parse().unwrap(), flaw))
    };
    assert_eq!(
        flaw(vec![through("20.0.0.0/8", "30.0.0.1")]),
        named("20.0.0.0/8", "30.0.0.1", Flaw::Unreached)
    );
    assert_eq!(flaw(vec![through("::/0", "2001:db8:f::1")]), named("::/0", "2001:db8:f::1", Flaw::Loop));
    let lasso = vec![
        through("20.0.0.0/8", "30.0.0.1"),
        through("30.0.0.0/8", "40.0.0.1"),
        spread("40.0.0.0/8", &[("10.0.1.254", Some(0)), ("30.0.0.2", None)]),
    ];
    assert_eq!(flaw(lasso), named("30.0.0.0/8", "40.0.0.1", Flaw::Loop));
    let link = |n: u8| through(&std::format!("20.{n}.0.0/16"), &std::format!("20.{}.0.1", n - 1));
    let chain =
        |links: u8| vec![via("20.0.0.0/16", "10.0.1.254", 0)].into_iter().chain((1..=links).map(link));
    assert_eq!(flaw(chain(8).collect()), None);
    assert_eq!(flaw(chain(9).collect()), named("20.9.0.0/16", "20.8.0.1", Flaw::Depth));
    for bad in ["10.0.1.1", "10.0.1.255", "224.0.0.1", "127.0.0.1", "2001:db8:1::7"] {
        let (net, len) = prefix("20.0.0.0/8");
        assert_eq!(flaw(vec![through("20.0.0.0/8", bad)]), Some(Conflict::Gateway(net, len)), "{bad}");
    }
    let (net, len) = prefix("::/0");
    assert_eq!(flaw(vec![through("::/0", "fe80::1")]), Some(Conflict::Gateway(net, len)));
}

#[test]
fn an_interface_that_is_not_there_is_waited_for() {
    let absent = |to| other(to, RouteTarget::Absent);
    let plan = links(vec![absent("172.16.0.0/16"), through("20.0.0.0/8", "172.16.0.1")]);
    leads(&plan, &[("20.0.0.1", None), ("172.16.0.1", None)]);
    // Conflicts do not depend on what is up.
    let mut plan = links(vec![through("20.0.0.0/8", "10.0.1.1")]);
    down(&mut plan, 0);
    assert!(matches!(Snapshot::build(&plan), Err(Conflict::Gateway(..))));
}

/// Whether next hops lead to each other by the routes that are left when those that lead nowhere are taken away.
fn leads_back(plan: &Plan) -> bool {
    let behind = |wish: &RoutePlan| {
        let prefix = Prefix::new(Ipv4Addr::of(wish.to.0).unwrap(), wish.to.1).unwrap();
        match wish.target {
            RouteTarget::Through { gateway } => Some((prefix, Ipv4Addr::of(gateway))),
            RouteTarget::Via { interface, .. } => {
                (plan.interfaces[interface.index()].state == State::Up).then_some((prefix, None))
            }
            _ => None,
        }
    };
    let mut routes: Vec<_> = plan.routes.iter().filter_map(behind).collect();
    loop {
        let flaws = Cover::new(routes.clone()).flaws();
        if flaws.values().any(|flaw| *flaw == Flaw::Loop) {
            return true;
        }
        let before = routes.len();
        let is_lost = |gateway: &Ipv4Addr| flaws.get(gateway) == Some(&Flaw::Unreached);
        routes.retain(|(_, gateway)| !gateway.as_ref().is_some_and(is_lost));
        if routes.len() == before {
            return false;
        }
    }
}

proptest! {
    /// Every route leads where the table itself says its gateway is, and is there if that says so.
    #[test]
    fn the_table_agrees_with_itself(
        routes in prop::collection::vec((0u32..16, 26u8..=32, prop::option::of(0u32..64), 0u32..3), 0..12),
        lost in prop::option::of(0usize..3),
    ) {
        let address = |n: u32| Ipv4Addr::from_bits(0x1400_0000 + n * 4);
        let direct = [("10.0.1.254", 0), ("192.0.2.254", 1), ("198.51.100.254", 2)];
        let routes = routes.into_iter().map(|(n, len, behind, metric)| {
            let to = (IpAddr::V4(address(n * 4)), len);
            let target = match behind {
                Some(n) => RouteTarget::Through { gateway: address(n).into() },
                None => via("0.0.0.0/0", direct[metric as usize].0, direct[metric as usize].1).target,
            };
            RoutePlan { to, target, metric }
        });
        let mut plan = links(routes.collect());
        if Snapshot::build(&plan).is_err() {
            return Ok(());
        }
        lost.into_iter().for_each(|n| down(&mut plan, n));
        let snapshot = Snapshot::build(&plan).unwrap();
        // What leads back to itself at present is not there, although the table leads to its gateway.
        if leads_back(&plan) {
            return Ok(());
        }
        let mut wishes: Vec<_> = plan.routes.iter().collect();
        wishes.sort_by_key(|wish| wish.metric);
        for wish in &wishes {
            let rivals = wishes.iter().filter(|other| {
                let net = |wish: &RoutePlan| Prefix::new(Ipv4Addr::of(wish.to.0).unwrap(), wish.to.1).unwrap();
                net(other) == net(wish)
            });
            let expected = rivals.filter_map(|rival| match rival.target {
                RouteTarget::Through { gateway } => snapshot.fib4().lookup(Ipv4Addr::of(gateway).unwrap()).copied(),
                RouteTarget::Via { gateway, interface } => {
                    let is_up = snapshot.interface(interface).unwrap().state == State::Up;
                    is_up.then(|| Route::Gateway { interface, via: Ipv4Addr::of(gateway).unwrap() })
                }
                _ => None,
            });
            let (to, len) = (Ipv4Addr::of(wish.to.0).unwrap(), wish.to.1);
            let longer = |other: &&RoutePlan| other.to.1 > len && Prefix::new(to, len).unwrap().contains(Ipv4Addr::of(other.to.0).unwrap());
            if let Some(expected) = expected.into_iter().next()
                && !plan.routes.iter().any(|other| longer(&other))
            {
                prop_assert_eq!(snapshot.fib4().lookup(to).copied(), Some(expected), "{:?} in {:?}", wish, plan.routes);
            }
        }
    }
}
