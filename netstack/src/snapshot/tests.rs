use super::*;
use crate::sim::{a4, a6, down, plan, prefix};
use std::vec;

fn conflict(change: impl FnOnce(&mut Plan)) -> Option<Conflict> {
    let mut plan = plan(&[&["10.0.1.1/24", "2001:db8:1::1/64"], &["192.0.2.1/24", "2001:db8:2::1/64"]]);
    change(&mut plan);
    Snapshot::build(&plan).err()
}

fn address(plan: &mut Plan, text: &str) {
    plan.interfaces[0].addresses.push(prefix(text));
}

fn via(to: &str, gateway: &str, interface: u16) -> RoutePlan {
    let target = RouteTarget::Via { gateway: gateway.parse().unwrap(), interface: IfIndex(interface) };
    RoutePlan { to: prefix(to), target, metric: 0 }
}

#[test]
fn a_sound_plan_has_no_conflict() {
    assert_eq!(conflict(|_| {}), None);
}

#[test]
fn addresses_must_be_hosts() {
    for text in [
        "0.0.0.0/8",
        "127.0.0.1/8",
        "224.0.0.1/4",
        "255.255.255.255/32",
        "10.9.0.0/24",
        "10.9.0.255/24",
        "10.9.0.1/33",
        "10.9.0.1/0",
        "::/64",
        "::1/128",
        "ff02::1/16",
        "2001:db8:9::/64",
        "2001:db8:9::1/129",
    ] {
        let (bad, len) = prefix(text);
        assert_eq!(conflict(|plan| address(plan, text)), Some(Conflict::NotAHost(bad, len)), "{text}");
    }
    for text in
        ["10.9.0.0/31", "10.9.0.1/31", "10.9.0.1/32", "2001:db8:9::/127", "2001:db8:9::/128", "fe80::77/64"]
    {
        assert_eq!(conflict(|plan| address(plan, text)), None, "{text}");
    }
}

#[test]
fn addresses_exist_once_and_networks_of_two_links_never_overlap() {
    let twice = |text: &str| Some(Conflict::AddressTwice(prefix(text).0));
    let overlap = |text: &str| Some(Conflict::Overlap(prefix(text).0, prefix(text).1));
    assert_eq!(conflict(|plan| address(plan, "192.0.2.1/32")), twice("192.0.2.1/32"));
    assert_eq!(conflict(|plan| address(plan, "10.0.1.1/25")), twice("10.0.1.1/25"));
    assert_eq!(conflict(|plan| address(plan, "2001:db8:2::1/64")), twice("2001:db8:2::1/64"));
    assert_eq!(conflict(|plan| address(plan, "192.0.2.9/28")), overlap("192.0.2.9/28"));
    assert_eq!(conflict(|plan| address(plan, "192.0.3.9/22")), overlap("192.0.2.1/24"));
    assert_eq!(conflict(|plan| address(plan, "2001:db8:2::9/48")), overlap("2001:db8:2::1/64"));
    // On the same link they may nest.
    assert_eq!(conflict(|plan| address(plan, "10.0.1.9/28")), None);
    // Nested deeper than one level, with a sibling between.
    assert_eq!(
        conflict(|plan| {
            plan.interfaces[1].addresses = vec![prefix("172.16.5.1/24")];
            address(plan, "172.16.0.1/12");
            address(plan, "172.16.4.1/24");
        }),
        overlap("172.16.5.1/24")
    );
}

#[test]
fn interfaces_must_be_sound() {
    let wan = || "eth1".into();
    assert_eq!(
        conflict(|plan| plan.interfaces[1].name = "eth0".into()),
        Some(Conflict::NameTwice("eth0".into()))
    );
    assert_eq!(conflict(|plan| plan.interfaces[1].mac = [0; 6]), Some(Conflict::Station(wan())));
    assert_eq!(conflict(|plan| plan.interfaces[1].mac = [1, 0, 0, 0, 0, 2]), Some(Conflict::Station(wan())));
    assert_eq!(conflict(|plan| plan.interfaces[1].mtu = 1279), Some(Conflict::Mtu(wan())));
    assert_eq!(
        conflict(|plan| {
            plan.interfaces[1].addresses.pop();
            plan.interfaces[1].mtu = 67;
        }),
        Some(Conflict::Mtu(wan()))
    );
}

#[test]
fn of_deprecated_addresses_no_connection_begins_while_there_is_another() {
    let source = |deprecated: &[&str], neighbor: &str| {
        let mut plan = plan(&[&["2001:db8:1::1/64", "2001:db8:2::1/64", "2001:db8:3::1/64"]]);
        plan.interfaces[0].deprecated = deprecated.iter().map(|own| own.parse().unwrap()).collect();
        let snapshot = Snapshot::build(&plan).unwrap();
        let lan = snapshot.interface(IfIndex(0)).unwrap();
        assert!(lan.owns6(a6("2001:db8:1::1")), "it is used all the same");
        lan.source6(a6(neighbor)).unwrap()
    };
    let [one, two, three] = ["2001:db8:1::1", "2001:db8:2::1", "2001:db8:3::1"];
    for (deprecated, neighbor, wanted) in [
        (&[][..], "fe80::9", one),
        (&[], "2001:db8:2::9", two),
        (&[one], "fe80::9", two),
        (&[one], "2001:db8:1::9", two),
        (&[one, two], "2001:db8:2::9", three),
        (&[one, two, three], "2001:db8:2::9", two),
        (&[one, two, three], "fe80::9", one),
    ] {
        assert_eq!(source(deprecated, neighbor), a6(wanted), "{deprecated:?} {neighbor}");
    }
}

#[test]
fn gateways_must_be_neighbors() {
    for (to, gateway, interface, good) in [
        ("0.0.0.0/0", "192.0.2.254", 1, true),
        ("0.0.0.0/0", "192.0.2.254", 0, false),
        ("0.0.0.0/0", "192.0.2.1", 1, false),
        ("0.0.0.0/0", "198.51.100.1", 1, false),
        ("0.0.0.0/0", "2001:db8:2::9", 1, false),
        ("::/0", "2001:db8:2::9", 1, true),
        ("::/0", "2001:db8:2::9", 0, false),
        ("::/0", "fe80::9", 0, true),
        ("::/0", "192.0.2.254", 1, false),
    ] {
        let found = conflict(|plan| plan.routes.push(via(to, gateway, interface)));
        let (net, len) = prefix(to);
        assert_eq!(
            found,
            (!good).then_some(Conflict::Gateway(net, len)),
            "{to} via {gateway} by {interface}"
        );
    }
    // A link without IPv6 is one that is down.
    let mut narrow = crate::snapshot::InterfacePlan::new("narrow", [2, 0, 0, 0, 0, 9]);
    narrow.mtu = 576;
    let on_link = RoutePlan { target: RouteTarget::OnLink { interface: IfIndex(2) }, ..via("::/0", "::", 2) };
    for route in [on_link, via("::/0", "fe80::9", 2)] {
        let mut plan = plan(&[&["10.0.1.1/24"], &["192.0.2.1/24"]]);
        plan.interfaces.push(narrow.clone());
        plan.routes.push(route);
        assert_eq!(Snapshot::build(&plan).unwrap().fib6().lookup(a6("2001:db8::1")), None);
    }
    let (net, len) = prefix("0.0.0.0/0");
    assert_eq!(
        conflict(|plan| plan.routes.push(via("0.0.0.0/0", "192.0.2.254", 9))),
        Some(Conflict::UnknownInterface(net, len))
    );
    assert_eq!(
        conflict(|plan| {
            plan.routes.push(RoutePlan { to: (net, 33), target: RouteTarget::Blackhole, metric: 0 });
        }),
        Some(Conflict::NotANetwork(net, 33))
    );
}

#[test]
fn an_address_comes_with_its_routes_and_goes_with_its_interface() {
    let mut plan = plan(&[&["10.0.1.1/24", "2001:db8:1::1/64"], &["192.0.2.1/31"]]);
    plan.routes = vec![via("198.51.100.0/24", "10.0.1.254", 0)];
    let (lan, wan) = (IfIndex(0), IfIndex(1));
    let up = Snapshot::build(&plan).unwrap();
    for (address, route) in [
        ("10.0.1.1", Some(Route::Local { interface: lan })),
        ("10.0.1.0", Some(Route::Broadcast { interface: lan })),
        ("10.0.1.255", Some(Route::Broadcast { interface: lan })),
        ("10.0.1.7", Some(Route::Connected { interface: lan })),
        ("198.51.100.9", Some(Route::Gateway { interface: lan, via: a4("10.0.1.254") })),
        ("192.0.2.0", Some(Route::Connected { interface: wan })),
        ("192.0.2.1", Some(Route::Local { interface: wan })),
        ("192.0.2.2", None),
    ] {
        assert_eq!(up.fib4().lookup(a4(address)).copied(), route, "{address}");
    }
    assert_eq!(up.fib6().lookup(a6("2001:db8:1::")), Some(&Route::Local { interface: lan }));
    assert!(up.owns4(a4("10.0.1.255")) && up.owns4(a4("192.0.2.1")) && !up.owns4(a4("192.0.2.0")));
    assert!(up.owns6(a6("2001:db8:1::1")) && up.owns6(a6("2001:db8:1::")) && !up.owns6(a6("2001:db8:1::2")));
    down(&mut plan, 0);
    let lost = Snapshot::build(&plan).unwrap();
    for address in ["10.0.1.1", "10.0.1.7", "10.0.1.255", "198.51.100.9"] {
        assert_eq!(lost.fib4().lookup(a4(address)), None, "{address}");
    }
    assert!(!lost.owns4(a4("10.0.1.1")) && !lost.owns6(a6("2001:db8:1::1")));
}

#[test]
fn a_link_local_address_is_formed_unless_given_or_ipv6_cannot_be() {
    let mut plan = plan(&[&[], &["fe80::7/64"], &[]]);
    plan.interfaces[2].mtu = 576;
    let snapshot = Snapshot::build(&plan).unwrap();
    let local: vec::Vec<_> = snapshot.interfaces().map(|interface| interface.link_local.to_vec()).collect();
    assert_eq!(local, [vec![a6("fe80::5054:ff:fe00:0")], vec![a6("fe80::7")], vec![]]);
}

#[test]
fn groups_are_those_of_all_addresses() {
    let snapshot = Snapshot::build(&plan(&[&["2001:db8:1::a:b/64"]])).unwrap();
    let groups = snapshot.interfaces().next().unwrap().groups();
    for group in [
        [0x33, 0x33, 0, 0, 0, 1],
        [0x33, 0x33, 0, 0, 0, 2],
        [0x33, 0x33, 0xff, 0x0a, 0, 0x0b],
        [0x33, 0x33, 0xff, 0, 0, 0],
        [1, 0, 0x5e, 0, 0, 1],
    ] {
        assert!(groups.contains(&group), "{group:x?}");
    }
}
