//! Which frames and addresses are taken at all.

use super::*;
use crate::ethernet;
use crate::sim::*;
use std::vec::Vec;
use weir_netif::Drop;

fn expect4(packets: &[(&str, &str, Drop)]) {
    for &(from, to, reason) in packets {
        let mut rig = rig();
        rig.receive(0, &[v4(from, to).frame(0, b"x")]);
        let expected: Vec<_> = [(reason, 1)].into();
        assert_eq!(drops(&rig), expected, "{from} to {to}");
    }
}

fn drops(rig: &Rig) -> Vec<(Drop, u64)> {
    rig.totals(0).drops().filter(|(reason, _)| *reason != Drop::Consumed).collect()
}

#[test]
fn ipv4_sources_that_cannot_be_are_dropped() {
    expect4(&[
        ("0.0.0.0", "192.0.2.20", Drop::MartianSource),
        ("0.1.2.3", "192.0.2.20", Drop::MartianSource),
        ("127.0.0.1", "192.0.2.20", Drop::MartianSource),
        ("224.0.0.5", "192.0.2.20", Drop::MartianSource),
        ("240.0.0.1", "192.0.2.20", Drop::MartianSource),
        ("255.255.255.255", "192.0.2.20", Drop::MartianSource),
        ("10.0.1.1", "192.0.2.20", Drop::MartianSource),
        ("192.0.2.1", "10.0.1.10", Drop::MartianSource),
        ("10.0.1.255", "192.0.2.20", Drop::MartianSource),
        ("192.0.2.1", "255.255.255.255", Drop::MartianSource),
        ("10.0.1.1", "224.0.0.1", Drop::MartianSource),
        ("192.0.2.0", "10.0.1.10", Drop::MartianSource),
    ]);
}

#[test]
fn ipv4_destinations_that_cannot_be_are_dropped() {
    expect4(&[
        ("10.0.1.10", "0.0.0.0", Drop::MartianDestination),
        ("10.0.1.10", "0.1.2.3", Drop::MartianDestination),
        ("10.0.1.10", "127.0.0.1", Drop::MartianDestination),
        ("10.0.1.10", "240.0.0.1", Drop::MartianDestination),
        ("10.0.1.10", "224.0.0.5", Drop::MulticastNotJoined),
        ("10.0.1.10", "239.1.1.1", Drop::MulticastNotJoined),
        ("10.0.1.10", "192.0.2.255", Drop::DirectedBroadcast),
        ("10.0.1.10", "192.0.2.0", Drop::DirectedBroadcast),
    ]);
}

#[test]
fn ipv4_link_local_stays_on_its_link() {
    expect4(&[
        ("169.254.7.7", "192.0.2.20", Drop::LinkLocalScope),
        ("10.0.1.10", "169.254.7.7", Drop::NoRoute),
    ]);
    let mut rig = Rig::new(&plan(&[&[LAN], &["169.254.1.1/16"]]));
    rig.receive(0, &[v4("10.0.1.10", "169.254.7.7").frame(0, b"x")]);
    rig.assert_drops(0, &[(Drop::LinkLocalScope, 1)]);
}

#[test]
fn ipv6_addresses_that_cannot_be_are_dropped() {
    for (from, to, reason) in [
        ("::", "2001:db8:2::20", Drop::MartianSource),
        ("::1", "2001:db8:2::20", Drop::MartianSource),
        ("ff02::5", "2001:db8:2::20", Drop::MartianSource),
        ("::ffff:10.0.1.10", "2001:db8:2::20", Drop::MartianSource),
        ("2001:db8:1::1", "2001:db8:2::20", Drop::MartianSource),
        ("2001:db8:2::1", "2001:db8:1::10", Drop::MartianSource),
        ("2001:db8:1::", "2001:db8:2::20", Drop::MartianSource),
        ("2001:db8:2::1", "ff02::1", Drop::MartianSource),
        ("fe80::5054:ff:fe00:0", "2001:db8:2::20", Drop::MartianSource),
        ("2001:db8:1::10", "::", Drop::MartianDestination),
        ("2001:db8:1::10", "::1", Drop::MartianDestination),
        ("2001:db8:1::10", "::ffff:192.0.2.20", Drop::MartianDestination),
        ("2001:db8:1::10", "ff02::5", Drop::MulticastNotJoined),
        ("2001:db8:1::10", "ff05::1:3", Drop::MulticastNotJoined),
        ("2001:db8:1::10", "fe80::99", Drop::LinkLocalScope),
        ("fe80::99", "2001:db8:2::20", Drop::LinkLocalScope),
    ] {
        let mut rig = rig();
        rig.receive(0, &[v6(from, to).frame(0, b"x")]);
        let expected: Vec<_> = [(reason, 1)].into();
        assert_eq!(drops(&rig), expected, "{from} to {to}");
    }
}

#[test]
fn frames_that_are_not_for_us_are_dropped() {
    let mut rig = rig();
    let packet = v4("10.0.1.10", "192.0.2.20").packet(b"x");
    let with = |to, from, kind| frame(to, from, kind, &packet);
    rig.receive(
        0,
        &[
            [0; 13].into(),
            with(host_mac(7), host_mac(0), ethernet::IPV4),
            with(router_mac(0), [3, 0, 0, 0, 0, 1], ethernet::IPV4),
            with(router_mac(0), router_mac(0), ethernet::IPV4),
            with(router_mac(0), host_mac(0), 0x8100),
            with(router_mac(0), host_mac(0), 0x88cc),
            with(router_mac(0), host_mac(0), 46),
        ],
    );
    assert!(rig.sent().is_empty());
    rig.assert_drops(
        0,
        &[
            (Drop::EthernetTruncated, 1),
            (Drop::EthernetSourceGroup, 1),
            (Drop::EthernetOwnSource, 1),
            (Drop::EthernetNotForUs, 1),
            (Drop::EthernetUnknownType, 2),
            (Drop::EthernetUnknownVlan, 1),
        ],
    );
}

#[test]
fn a_tag_of_priority_alone_is_no_vlan() {
    let mut rig = rig();
    for (tag, passes) in [(0x6000, true), (0x6001, false)] {
        let mut packet = rig.pool.alloc_from(&v4("10.0.1.10", "192.0.2.20").frame(0, b"x")).unwrap();
        packet.meta_mut().vlan = tag;
        rig.input(0, [packet].into());
        assert_eq!(rig.sent().len(), usize::from(passes));
    }
    rig.assert_drops(0, &[(Drop::EthernetUnknownVlan, 1)]);
}

#[test]
fn unicast_packets_in_group_frames_are_not_forwarded() {
    let mut rig = rig();
    let v4 = v4("10.0.1.10", "192.0.2.20").packet(b"x");
    let v6 = v6("2001:db8:1::10", "2001:db8:2::20").packet(b"x");
    let to_all = [0xff; 6];
    rig.receive(
        0,
        &[
            frame(to_all, host_mac(0), ethernet::IPV4, &v4),
            frame([1, 0, 0x5e, 0, 0, 1], host_mac(0), ethernet::IPV4, &v4),
            frame([0x33, 0x33, 0, 0, 0, 1], host_mac(0), ethernet::IPV6, &v6),
            frame(to_all, host_mac(0), ethernet::IPV4, &to_us()),
        ],
    );
    assert!(rig.sent().is_empty());
    rig.assert_drops(0, &[(Drop::LinkBroadcast, 4)]);
}

fn to_us() -> Vec<u8> {
    v4("10.0.1.10", "10.0.1.1").packet(b"x")
}

#[test]
fn a_down_interface_takes_nothing_and_has_no_routes() {
    let mut plan = plan(&[&[LAN, LAN6], &[WAN, WAN6]]);
    down(&mut plan, 1);
    let mut rig = Rig::new(&plan);
    rig.receive(1, &[v4("192.0.2.20", "10.0.1.10").frame(1, b"x")]);
    rig.assert_drops(1, &[(Drop::InterfaceDown, 1)]);
    rig.receive(
        0,
        &[v4("10.0.1.10", "192.0.2.20").frame(0, b"x"), v4("10.0.1.10", "192.0.2.1").frame(0, b"x")],
    );
    assert_eq!(rig.totals(0).dropped(Drop::NoRoute), 2);
}

#[test]
fn an_interface_that_is_not_configured_takes_nothing() {
    let mut rig = rig();
    rig.receive(9, &[v4("192.0.2.20", "10.0.1.10").frame(1, b"x")]);
    assert_eq!(rig.snapshot.unconfigured().totals().dropped(Drop::InterfaceUnconfigured), 1);
}
