use super::*;
use crate::sim::{Rig, a4, a6, arp_request, down, host_mac, plan, prefix, v4, v6};
use crate::snapshot::{
    Conflict, NextHop, Plan, ReversePath, RoutePlan, RouteTarget, Snapshot, State, Weighted,
};
use core::cell::Cell;
use core::net::{IpAddr, Ipv4Addr};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec;
use weir_netif::Drop;

std::thread_local! {
    /// Draws of this thread.
    pub(super) static DRAWS: Cell<usize> = const { Cell::new(0) };
}

/// A gateway on link 0 with each number, or the hosts on a link with that number.
fn member((number, weight): (u16, u8)) -> Member<Ipv4Addr> {
    let interface = IfIndex(number);
    if number % 7 == 0 {
        let identity = Identity { gateway: None, interface: Some(interface) };
        return Member { identity, weight, route: Route::Connected { interface } };
    }
    let via = Ipv4Addr::from_bits(0x0a00_0100 + u32::from(number));
    let route = Route::Gateway { interface: IfIndex(0), via };
    Member { identity: Identity { gateway: Some(via), interface: None }, weight, route }
}

/// Where each bucket leads.
fn buckets(members: &[Member<Ipv4Addr>]) -> Vec<Route<Ipv4Addr>> {
    let mut groups = Groups::new();
    let route = groups.route(members.to_vec()).unwrap();
    let (hops, groups) = groups.finish();
    let hop = |number: u16| hops[usize::from(number) - 1];
    match route {
        Route::Multipath { group } => groups[group as usize].buckets.map(hop).to_vec(),
        route => vec![route; BUCKETS],
    }
}

fn members(most: usize) -> impl Strategy<Value = Vec<Member<Ipv4Addr>>> {
    let weights = prop_oneof![4 => 1u8..=4, 1 => 1u8..=255];
    let list = prop::collection::btree_map(1u16..200, weights, 2..=most);
    list.prop_map(|list| list.into_iter().map(member).collect())
}

proptest! {
    #[test]
    fn shares_are_as_weights(members in members(8)) {
        let (buckets, all) = (buckets(&members), members.iter().map(|m| f64::from(m.weight)).sum::<f64>());
        for member in &members {
            let share = f64::from(member.weight) / all;
            let got = buckets.iter().filter(|route| **route == member.route).count() as f64;
            // Five standard deviations of the binomial distribution.
            let spread = 5.0 * (BUCKETS as f64 * share * (1.0 - share)).sqrt();
            prop_assert!((got - BUCKETS as f64 * share).abs() < spread, "{got} for {share} of {members:?}");
        }
    }

    #[test]
    fn a_member_that_leaves_takes_nobody_elses_buckets_along(members in members(12), who: prop::sample::Index) {
        let gone = who.get(&members).route;
        let rest: Vec<_> = members.iter().copied().filter(|member| member.route != gone).collect();
        for (before, after) in buckets(&members).into_iter().zip(buckets(&rest)) {
            prop_assert!(before == gone || before == after, "{before:?} became {after:?}");
        }
    }

    #[test]
    fn more_weight_only_takes(members in members(6), who: prop::sample::Index, more in 1u8..100) {
        let mut other = members.clone();
        let heavier = &mut other[who.index(members.len())];
        heavier.weight = heavier.weight.saturating_add(more);
        let route = heavier.route;
        for (before, after) in buckets(&members).into_iter().zip(buckets(&other)) {
            prop_assert!(before == after || after == route, "{before:?} became {after:?}");
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(
        (sorted, shuffled) in members(10).prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle())),
    ) {
        prop_assert_eq!(buckets(&sorted), buckets(&shuffled));
        let mut groups = Groups::new();
        let (one, other) = (groups.route(sorted), groups.route(shuffled));
        prop_assert_eq!(one, other);
        prop_assert_eq!(groups.groups.len(), 1, "the same members share a group");
    }

    #[test]
    fn a_member_with_a_group_behind_it_shares_what_it_gets(outer in members(4), inner in members(4)) {
        let mut groups = Groups::new();
        let behind = groups.route(inner.clone()).unwrap();
        let mut nested = outer.clone();
        nested[0].route = behind;
        let Some(Route::Multipath { group }) = groups.route(nested) else { panic!("one route for several") };
        let (hops, groups) = groups.finish();
        let direct = buckets(&outer).into_iter().zip(buckets(&inner));
        for ((outer_route, inner_route), number) in direct.zip(groups[group as usize].buckets) {
            let expected = if outer_route == outer[0].route { inner_route } else { outer_route };
            prop_assert_eq!(hops[usize::from(number) - 1], expected);
        }
    }

    #[test]
    fn flows_spread_over_all_buckets(start: u16, step in 0u16..500) {
        // The symmetric hash: 16 bits, twice. Flows of neighbouring ports, say.
        let fold = |n: u16| weir_netif::toeplitz::symmetric(start.wrapping_add(n.wrapping_mul(step * 2 + 1)));
        let mut count = [0u32; 8];
        let buckets: [u16; BUCKETS] = core::array::from_fn(|n| (n / (BUCKETS / 8)) as u16);
        let group = Group { buckets, hops: [0].into() };
        (0..4096).for_each(|n| count[group.member(fold(n)) as usize] += 1);
        prop_assert!(count.iter().all(|&n| (350..700).contains(&n)), "{count:?}");
    }
}

#[test]
fn weights_cost_nothing() {
    for weight in [1, 255] {
        DRAWS.set(0);
        buckets(&[member((1, weight)), member((2, 255)), member((3, weight))]);
        assert_eq!(DRAWS.get(), 3 * BUCKETS);
    }
}

#[test]
fn there_are_only_so_many_groups() {
    let mut groups = Groups::new();
    let pair = |n: u16| vec![member((1, 1)), member((2 + n, 1))];
    for n in 0..ROOM as u16 {
        assert!(matches!(groups.route(pair(n)), Some(Route::Multipath { .. })));
    }
    assert!(matches!(groups.route(pair(0)), Some(Route::Multipath { .. })), "it is there");
    assert_eq!(groups.route(pair(ROOM as u16)), Some(member((1, 1)).route), "unspread");

    let lists = |n: u16| {
        let hop = |n: u16| via(&Ipv4Addr::from_bits(0x0a00_0100 + u32::from(n)).to_string(), 0);
        (2..n + 2)
            .map(move |m| spread(&std::format!("203.0.113.{}/32", m % 256), &[(hop(1), 1), (hop(m), 1)]))
    };
    use std::string::ToString;
    let mut plan = two_ways();
    plan.interfaces[0].addresses = vec![prefix("10.0.255.254/16")];
    plan.routes = lists(MAX_GROUPS as u16).collect();
    assert_eq!(Snapshot::build(&plan).err(), None);
    plan.routes = lists(MAX_GROUPS as u16 + 1).collect();
    assert_eq!(Snapshot::build(&plan).err(), Some(Conflict::TooManyGroups));
}

fn via(gateway: &str, interface: u16) -> NextHop {
    NextHop::Via { gateway: gateway.parse().unwrap(), interface: IfIndex(interface) }
}

fn spread(to: &str, hops: &[(NextHop, u8)]) -> RoutePlan {
    let list = hops.iter().map(|&(hop, weight)| Weighted { hop, weight });
    RoutePlan { to: prefix(to), target: RouteTarget::Multipath(list.collect()), metric: 0 }
}

/// Three links, the last two with routers of both families that know the way to everywhere.
fn two_ways() -> Plan {
    let mut plan = plan(&[
        &["10.0.1.1/24", "2001:db8:1::1/64"],
        &["192.0.2.1/24", "2001:db8:2::1/64"],
        &["198.51.100.1/24", "2001:db8:3::1/64"],
    ]);
    plan.routes = vec![
        spread("0.0.0.0/0", &[(via("192.0.2.254", 1), 2), (via("198.51.100.254", 2), 1)]),
        spread("::/0", &[(via("2001:db8:2::fe", 1), 2), (via("fe80::fe", 2), 1)]),
    ];
    plan
}

fn routers(plan: &Plan) -> Rig {
    let mut rig = Rig::new(plan);
    rig.introduce4(0, "10.0.1.10", host_mac(0));
    rig.introduce6(0, "2001:db8:1::10", host_mac(0));
    rig.introduce4(1, "192.0.2.254", host_mac(1));
    rig.introduce6(1, "2001:db8:2::fe", host_mac(1));
    rig.introduce4(2, "198.51.100.254", host_mac(2));
    rig.introduce6(2, "fe80::fe", host_mac(2));
    rig
}

/// 1200 flows of both families from the first link; the interface of each.
fn flows(rig: &mut Rig) -> Vec<u16> {
    let frames = (0..600u16).flat_map(|n| {
        let payload = [&(40_000 + n).to_be_bytes()[..], &[0, 7, 0, 9, 0, 0, 1]].concat();
        [
            v4("10.0.1.10", "203.0.113.7").frame(0, &payload),
            v6("2001:db8:1::10", "2001:db8:f::7").frame(0, &payload),
        ]
    });
    let outs = frames.map(|frame| {
        rig.receive(0, &[frame]);
        let sent = rig.sent();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].bytes[..6], host_mac(sent[0].out as u8));
        sent[0].out
    });
    outs.collect()
}

#[test]
fn flows_go_by_weight_and_stay_where_they_are() {
    let plan = two_ways();
    let mut rig = routers(&plan);
    let (first, again) = (flows(&mut rig), flows(&mut rig));
    assert_eq!(first, again, "a flow has one way");
    let by_wan = first.iter().filter(|out| **out == 1).count();
    assert!((700..900).contains(&by_wan), "{by_wan} of 1200 for two thirds");

    let mut lost = plan.clone();
    down(&mut lost, 2);
    *rig.snapshot = Snapshot::build(&lost).unwrap();
    assert!(flows(&mut rig).iter().all(|out| *out == 1));
    assert_eq!(
        rig.snapshot.fib4().lookup(a4("203.0.113.7")),
        Some(&Route::Gateway { interface: IfIndex(1), via: a4("192.0.2.254") }),
        "a group of one is a route like any other"
    );
    down(&mut lost, 1);
    let none = Snapshot::build(&lost).unwrap();
    assert_eq!(none.fib4().lookup(a4("203.0.113.7")), None);
    // Back again: every flow where it was.
    *rig.snapshot = Snapshot::build(&plan).unwrap();
    assert_eq!(flows(&mut rig), first);
}

#[test]
fn a_route_whose_next_hops_are_all_down_gives_way_to_the_next_metric() {
    let mut plan = two_ways();
    let reserve = RouteTarget::Via { gateway: "10.0.1.9".parse().unwrap(), interface: IfIndex(0) };
    plan.routes.push(RoutePlan { to: prefix("0.0.0.0/0"), target: reserve, metric: 9 });
    down(&mut plan, 1);
    down(&mut plan, 2);
    let snapshot = Snapshot::build(&plan).unwrap();
    let expected = Route::Gateway { interface: IfIndex(0), via: a4("10.0.1.9") };
    assert_eq!(snapshot.fib4().lookup(a4("203.0.113.7")), Some(&expected));
}

#[test]
fn every_member_has_a_number_of_its_own() {
    let mut plan = two_ways();
    let lone = RouteTarget::Via { gateway: "192.0.2.254".parse().unwrap(), interface: IfIndex(1) };
    plan.routes.push(RoutePlan { to: prefix("203.0.113.0/24"), target: lone, metric: 0 });
    let snapshot = Snapshot::build(&plan).unwrap();
    let fib = snapshot.fib4();
    let Some(&Route::Multipath { group }) = fib.hop(fib.lookup_number(a4("203.0.112.1"))) else {
        panic!("no group")
    };
    let numbers: BTreeSet<u32> =
        (0..=u16::MAX).map(|n| snapshot.member4(group, u32::from(n) * 0x1_0001)).collect();
    let hops: Vec<_> = numbers.iter().map(|&number| *fib.hop(number).unwrap()).collect();
    let expected = ["192.0.2.254", "198.51.100.254"].map(a4);
    let gateways =
        [(1, expected[0]), (2, expected[1])].map(|(n, via)| Route::Gateway { interface: IfIndex(n), via });
    assert_eq!(hops, gateways);
    assert_eq!(snapshot.members4(group).copied().collect::<Vec<_>>(), gateways);
    // The same next hop by a prefix of its own has the same number.
    assert!(numbers.contains(&fib.lookup_number(a4("203.0.113.1"))));
    assert_eq!(snapshot.member4(group + 1, 7), 0);
    assert_eq!(fib.hop(0), None);
    assert_eq!(snapshot.member6(group, 1).min(1), 1);
}

#[test]
fn the_reverse_path_of_a_group_is_that_of_each_member() {
    for (filter, passes) in [(ReversePath::Strict, [true, true, false]), (ReversePath::Loose, [true; 3])] {
        for (from, passes) in [1u8, 2, 0].into_iter().zip(passes) {
            let mut plan = two_ways();
            plan.interfaces.iter_mut().for_each(|interface| interface.reverse_path = filter);
            let mut rig = routers(&plan);
            rig.receive(from.into(), &[v4("203.0.113.7", "10.0.1.10").frame(from, b"x")]);
            rig.receive(from.into(), &[v6("2001:db8:f::7", "2001:db8:1::10").frame(from, b"x")]);
            assert_eq!(rig.sent().len(), if passes { 2 } else { 0 }, "{filter:?} at {from}");
            rig.assert_drops(from.into(), if passes { &[] } else { &[(Drop::ReversePath, 2)] });
        }
    }
}

#[test]
fn the_routers_own_packets_go_to_members_too() {
    let mut rig = routers(&two_ways());
    let mut outs = BTreeSet::new();
    for n in 0..64u8 {
        let echo = crate::frames::icmp(8, 0, &[0, n, 0, 1]);
        rig.receive(
            1,
            &[crate::sim::V4 { protocol: 1, ..v4(&std::format!("203.0.113.{n}"), "10.0.1.1") }
                .frame(1, &echo)],
        );
        let sent = rig.sent();
        assert_eq!(sent.len(), 1);
        outs.insert(sent[0].out);
    }
    assert_eq!(outs, [1, 2].into());
}

#[test]
fn an_on_link_member_makes_destinations_neighbors() {
    let mut plan = two_ways();
    let link = |n| NextHop::OnLink { interface: IfIndex(n) };
    plan.routes = vec![spread("203.0.113.0/24", &[(link(1), 1), (link(2), 1)])];
    let mut rig = Rig::new(&plan);
    let mut outs = BTreeSet::new();
    for n in 1..40u8 {
        let to = std::format!("203.0.113.{n}");
        rig.receive(0, &[v4("10.0.1.10", &to).frame(0, b"x")]);
        let sent = rig.sent();
        let own = ["", "192.0.2.1", "198.51.100.1"][usize::from(sent[0].out)];
        assert_eq!(sent[0].bytes, arp_request(crate::sim::router_mac(sent[0].out as u8), a4(own), a4(&to)));
        outs.insert(sent[0].out);
    }
    assert_eq!(outs, [1, 2].into());
}

#[test]
fn lists_of_next_hops_must_be_sound() {
    let (a, b) = (via("192.0.2.254", 1), via("198.51.100.254", 2));
    let (net, len): (IpAddr, u8) = prefix("203.0.113.0/24");
    let many: Vec<_> = (2..67u8).map(|n| (via(&std::format!("192.0.2.{n}"), 1), 1)).collect();
    for (hops, expected) in [
        (vec![(a, 1), (b, 255)], None),
        (vec![(a, 1)], None),
        (many[1..].to_vec(), None),
        (many, Some(Conflict::NextHops(net, len))),
        (vec![], Some(Conflict::NextHops(net, len))),
        (vec![(a, 1), (b, 0)], Some(Conflict::NextHops(net, len))),
        (vec![(a, 1), (b, 1), (a, 2)], Some(Conflict::NextHops(net, len))),
        (vec![(a, 1), (via("192.0.2.254", 2), 1)], Some(Conflict::Gateway(net, len))),
        (vec![(a, 1), (via("192.0.2.254", 9), 1)], Some(Conflict::UnknownInterface(net, len))),
        (vec![(a, 1), (via("2001:db8:2::fe", 1), 1)], Some(Conflict::Gateway(net, len))),
    ] {
        let mut plan = two_ways();
        plan.routes = vec![spread("203.0.113.0/24", &hops)];
        assert_eq!(Snapshot::build(&plan).err(), expected, "{hops:?}");
    }
    let mut same = two_ways();
    // The same link-local router on two links is two routers.
    same.routes = vec![spread("::/0", &[(via("fe80::fe", 1), 1), (via("fe80::fe", 2), 1)])];
    let snapshot = Snapshot::build(&same).unwrap();
    assert!(matches!(snapshot.fib6().lookup(a6("2001:db8:f::1")), Some(Route::Multipath { .. })));
    assert_eq!(snapshot.interfaces().filter(|interface| interface.state == State::Up).count(), 3);
}
