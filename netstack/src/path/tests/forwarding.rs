//! What is forwarded where, and how it looks then.

use super::*;
use crate::frames;
use crate::sim::*;
use crate::snapshot::{ReversePath, RoutePlan, RouteTarget};
use std::vec;
use std::vec::Vec;
use weir_netif::{Drop, IfIndex};

fn via(to: &str, gateway: &str, interface: u16) -> RoutePlan {
    let target = RouteTarget::Via { gateway: gateway.parse().unwrap(), interface: IfIndex(interface) };
    RoutePlan { to: prefix(to), target, metric: 0 }
}

fn reject(to: &str, target: RouteTarget) -> RoutePlan {
    RoutePlan { to: prefix(to), target, metric: 0 }
}

/// What the router makes of an IPv4 frame from interface 0 to a host of interface 1.
fn forwarded4(frame: &[u8]) -> Vec<u8> {
    let mut expected = frame.to_vec();
    expected[..6].copy_from_slice(&host_mac(1));
    expected[6..12].copy_from_slice(&router_mac(1));
    expected[22] -= 1;
    let header = usize::from(expected[14] & 0xf) * 4;
    frames::seal_ipv4(&mut expected[14..14 + header]);
    expected
}

#[test]
fn an_ipv4_packet_changes_in_addresses_ttl_and_header_checksum_alone() {
    let mut rig = rig();
    let frame = v4("10.0.1.10", "192.0.2.20").frame(0, b"some payload");
    rig.receive(0, std::slice::from_ref(&frame));
    assert_eq!(rig.one(1), forwarded4(&frame));
}

#[test]
fn an_ipv6_packet_changes_in_addresses_and_hop_limit_alone() {
    let mut rig = rig();
    let frame = v6("2001:db8:1::10", "2001:db8:2::20").frame(0, b"some payload");
    rig.receive(0, std::slice::from_ref(&frame));
    let mut expected = frame;
    expected[..6].copy_from_slice(&host_mac(1));
    expected[6..12].copy_from_slice(&router_mac(1));
    expected[21] = 63;
    assert_eq!(rig.one(1), expected);
}

#[test]
fn every_ttl_keeps_the_header_checksum_right() {
    let mut rig = rig();
    for ttl in 2..=255 {
        let frame = V4 { ttl, ..v4("10.0.1.10", "192.0.2.20") }.frame(0, &[ttl]);
        rig.receive(0, std::slice::from_ref(&frame));
        assert_eq!(rig.one(1), forwarded4(&frame));
    }
}

#[test]
fn a_batch_keeps_its_order() {
    let mut rig = rig();
    let frames: Vec<_> = (0..64).map(|n| v4("10.0.1.10", "192.0.2.20").frame(0, &[n])).collect();
    rig.receive(0, &frames);
    let order: Vec<u8> = rig.sent().iter().map(|sent| *sent.bytes.last().unwrap()).collect();
    assert_eq!(order, (0..64).collect::<Vec<u8>>());
}

#[test]
fn padding_is_cut_off() {
    let mut rig = rig();
    let frame = v4("10.0.1.10", "192.0.2.20").frame(0, b"x");
    let frame6 = v6("2001:db8:1::10", "2001:db8:2::20").frame(0, b"x");
    rig.receive(0, &[[&frame[..], &[0xaa; 25]].concat(), [&frame6[..], &[0xaa; 2000]].concat()]);
    let sent = rig.sent();
    assert_eq!(sent[0].bytes, forwarded4(&frame));
    assert_eq!(sent[1].bytes.len(), frame6.len());
}

#[test]
fn a_frame_shorter_than_its_packet_is_dropped() {
    let mut rig = rig();
    let frame = v4("10.0.1.10", "192.0.2.20").frame(0, b"four");
    let frame6 = v6("2001:db8:1::10", "2001:db8:2::20").frame(0, b"four");
    rig.receive(0, &[frame[..frame.len() - 1].to_vec(), frame6[..frame6.len() - 1].to_vec()]);
    // uhyve 0.10 hands over the first 1500 bytes of a frame of 1514.
    let whole = v4("10.0.1.10", "192.0.2.20").frame(0, &[7; 1514 - 14 - 20]);
    let whole6 = v6("2001:db8:1::10", "2001:db8:2::20").frame(0, &[7; 1514 - 14 - 40]);
    assert_eq!((whole.len(), whole6.len()), (1514, 1514));
    rig.receive(0, &[whole[..1500].to_vec(), whole6[..1500].to_vec()]);
    assert!(rig.sent().is_empty());
    rig.assert_drops(0, &[(Drop::Ipv4Truncated, 2), (Drop::Ipv6Truncated, 2)]);
}

#[test]
fn broken_headers_are_dropped() {
    let mut rig = rig();
    let good = v4("10.0.1.10", "192.0.2.20").frame(0, b"four");
    let good6 = v6("2001:db8:1::10", "2001:db8:2::20").frame(0, b"four");
    let broken = |at: usize, byte: u8| {
        let mut frame = good.clone();
        frame[at] = byte;
        frame
    };
    let resealed = |at: usize, byte: u8| {
        let mut frame = broken(at, byte);
        frames::seal_ipv4(&mut frame[14..34]);
        frame
    };
    rig.receive(
        0,
        &[
            broken(24, good[24] ^ 1),
            resealed(14, 0x55),
            resealed(14, 0x44),
            resealed(17, 19),
            good[..30].to_vec(),
            good6[..50].to_vec(),
            [&good6[..14], &[0x50], &good6[15..]].concat(),
            // A jumbogram's header: no length, but hop-by-hop options.
            [&good6[..18], &[0, 0, 0], &good6[21..]].concat(),
        ],
    );
    assert!(rig.sent().is_empty());
    rig.assert_drops(0, &[(Drop::Ipv4Malformed, 4), (Drop::Ipv4Checksum, 1), (Drop::Ipv6Malformed, 3)]);
}

#[test]
fn options_are_passed_on_but_source_routes_are_not() {
    let mut rig = rig();
    let with = |options: &'static [u8]| V4 { options, ..v4("10.0.1.10", "192.0.2.20") }.frame(0, b"x");
    let alert = with(&[148, 4, 0, 0]);
    rig.receive(0, std::slice::from_ref(&alert));
    assert_eq!(rig.one(1), forwarded4(&alert));
    rig.receive(0, &[with(&[1, 131, 3, 4]), with(&[137, 3, 4, 0]), with(&[7, 9, 0, 0]), with(&[7, 1, 0, 0])]);
    assert!(rig.sent().is_empty());
    rig.assert_drops(0, &[(Drop::Ipv4Option, 4)]);
}

#[test]
fn the_longest_route_leads_to_its_gateway() {
    let mut plan = plan(&[&[LAN, LAN6], &[WAN, WAN6]]);
    plan.routes = vec![
        via("0.0.0.0/0", "192.0.2.254", 1),
        via("203.0.113.0/24", "10.0.1.254", 0),
        via("::/0", "fe80::254", 1),
        via("2001:db8:f::/48", "2001:db8:1::254", 0),
    ];
    let mut rig = Rig::new(&plan);
    rig.introduce4(1, "192.0.2.254", host_mac(1));
    rig.introduce4(0, "10.0.1.254", host_mac(0));
    rig.introduce6(1, "fe80::254", host_mac(1));
    rig.introduce6(0, "2001:db8:1::254", host_mac(0));
    rig.receive(0, &[v4("10.0.1.10", "198.51.100.1").frame(0, b"x")]);
    assert_eq!(rig.one(1)[..6], host_mac(1));
    rig.receive(1, &[v4("192.0.2.20", "203.0.113.7").frame(1, b"x")]);
    assert_eq!(rig.one(0)[..6], host_mac(0));
    rig.receive(0, &[v6("2001:db8:1::10", "2001:db8:e::1").frame(0, b"x")]);
    assert_eq!(rig.one(1)[..6], host_mac(1));
    rig.receive(1, &[v6("2001:db8:2::20", "2001:db8:f::1").frame(1, b"x")]);
    assert_eq!(rig.one(0)[..6], host_mac(0));
}

#[test]
fn a_packet_may_leave_by_the_way_it_came() {
    let mut plan = plan(&[&[LAN, LAN6], &[WAN, WAN6]]);
    plan.routes = vec![via("203.0.113.0/24", "10.0.1.254", 0)];
    let mut rig = Rig::new(&plan);
    rig.introduce4(0, "10.0.1.254", host_mac(9));
    rig.receive(0, &[v4("10.0.1.10", "203.0.113.7").frame(0, b"x")]);
    // No redirect: only the packet itself.
    assert_eq!(rig.one(0)[..6], host_mac(9));
}

#[test]
fn an_on_link_route_makes_its_destination_a_neighbor() {
    let mut plan = plan(&[&[LAN, LAN6], &[WAN, WAN6]]);
    plan.routes = vec![reject("203.0.113.0/24", RouteTarget::OnLink { interface: IfIndex(1) })];
    let mut rig = Rig::new(&plan);
    rig.receive(0, &[v4("10.0.1.10", "203.0.113.7").frame(0, b"x")]);
    assert_eq!(rig.one(1), arp_request(router_mac(1), a4("192.0.2.1"), a4("203.0.113.7")));
    rig.receive(1, &[arp_reply(router_mac(1), host_mac(5), a4("203.0.113.7"), a4("192.0.2.1"))]);
    assert_eq!(rig.one(1)[..6], host_mac(5));
}

#[test]
fn the_lowest_metric_wins_and_connected_networks_win_over_all() {
    let mut plan = plan(&[&[LAN], &[WAN]]);
    let worse = RoutePlan { metric: 7, ..via("203.0.113.0/24", "10.0.1.254", 0) };
    let against = via("192.0.2.0/24", "10.0.1.254", 0);
    plan.routes = vec![worse, via("203.0.113.0/24", "192.0.2.254", 1), against];
    let mut rig = Rig::new(&plan);
    rig.introduce4(1, "192.0.2.254", host_mac(1));
    rig.introduce4(1, "192.0.2.20", host_mac(2));
    rig.receive(0, &[v4("10.0.1.10", "203.0.113.7").frame(0, b"x")]);
    assert_eq!(rig.one(1)[..6], host_mac(1));
    rig.receive(0, &[v4("10.0.1.10", "192.0.2.20").frame(0, b"x")]);
    assert_eq!(rig.one(1)[..6], host_mac(2));
}

#[test]
fn rejecting_routes_drop_with_their_own_reason_and_answer() {
    let mut plan = plan(&[&[LAN, LAN6], &[WAN]]);
    let targets = [
        ("1", RouteTarget::Blackhole, Drop::RouteBlackhole, None, None),
        ("2", RouteTarget::Unreachable, Drop::RouteUnreachable, Some([3, 1]), Some([1, 0])),
        ("3", RouteTarget::Prohibit, Drop::RouteProhibited, Some([3, 13]), Some([1, 1])),
    ];
    for (n, target, ..) in targets.clone() {
        plan.routes.push(reject(&std::format!("198.18.{n}.0/24"), target.clone()));
        plan.routes.push(reject(&std::format!("2001:db8:f{n}::/48"), target.clone()));
    }
    let mut rig = acquainted_first(&plan);
    let mut expected = Vec::new();
    for (n, _, reason, answer4, answer6) in targets {
        rig.receive(0, &[v4("10.0.1.10", &std::format!("198.18.{n}.1")).frame(0, b"x")]);
        let sent = rig.sent();
        assert_eq!(sent.first().map(|s| [s.bytes[34], s.bytes[35]]), answer4);
        rig.receive(0, &[v6("2001:db8:1::10", &std::format!("2001:db8:f{n}::1")).frame(0, b"x")]);
        let sent = rig.sent();
        assert_eq!(sent.first().map(|s| [s.bytes[54], s.bytes[55]]), answer6);
        sent.iter().for_each(|sent| assert_sound(&sent.bytes));
        expected.push((reason, 2));
    }
    rig.assert_drops(0, &expected);
}

/// A rig whose first interface knows its host.
fn acquainted_first(plan: &crate::Plan) -> Rig {
    let mut rig = Rig::new(plan);
    rig.introduce4(0, "10.0.1.10", host_mac(0));
    rig.introduce6(0, "2001:db8:1::10", host_mac(0));
    rig
}

#[test]
fn without_a_route_the_sender_hears_of_it() {
    let mut rig = acquainted_first(&plan(&[&[LAN, LAN6]]));
    rig.receive(0, &[v4("10.0.1.10", "198.51.100.1").frame(0, b"x")]);
    let error = rig.one(0);
    assert_sound(&error);
    assert_eq!(error[34..36], [3, 0]);
    rig.receive(0, &[v6("2001:db8:1::10", "2001:db8:f::1").frame(0, b"x")]);
    let error = rig.one(0);
    assert_sound(&error);
    assert_eq!(error[54..56], [1, 0]);
    rig.assert_drops(0, &[(Drop::NoRoute, 2)]);
}

#[test]
fn the_reverse_path_filter_is_off_strict_or_loose() {
    for (filter, near, far, nowhere) in [
        (ReversePath::Off, true, true, true),
        (ReversePath::Strict, true, false, false),
        (ReversePath::Loose, true, true, false),
    ] {
        let mut plan = plan(&[&[LAN, LAN6], &[WAN, WAN6], &["172.16.0.1/24", "2001:db8:3::1/64"]]);
        plan.interfaces[0].reverse_path = filter;
        plan.routes = vec![reject("198.18.0.0/15", RouteTarget::Blackhole)];
        let mut rig = Rig::new(&plan);
        rig.introduce4(1, "192.0.2.20", host_mac(1));
        rig.introduce6(1, "2001:db8:2::20", host_mac(1));
        let sources =
            [("10.0.1.99", near), ("172.16.0.9", far), ("198.51.100.1", nowhere), ("198.18.0.1", nowhere)];
        for (source, passes) in sources {
            rig.receive(0, &[v4(source, "192.0.2.20").frame(0, b"x")]);
            assert_eq!(rig.sent().len(), usize::from(passes), "{filter:?} {source}");
        }
        for (source, passes) in [("2001:db8:1::9", near), ("2001:db8:3::9", far), ("2001:db8:9::9", nowhere)]
        {
            rig.receive(0, &[v6(source, "2001:db8:2::20").frame(0, b"x")]);
            assert_eq!(rig.sent().len(), usize::from(passes), "{filter:?} {source}");
        }
    }
}

#[test]
fn a_host_without_an_address_passes_the_strict_filter_to_be_heard_by_all() {
    let mut plan = plan(&[&[LAN, LAN6]]);
    plan.interfaces[0].reverse_path = ReversePath::Strict;
    let mut rig = Rig::new(&plan);
    let frame = frame([0xff; 6], host_mac(0), 0x0800, &v4("0.0.0.0", "255.255.255.255").packet(b"x"));
    rig.receive(0, &[frame]);
    rig.assert_drops(0, &[(Drop::LocalProtocol, 1)]);
}

#[test]
fn what_the_device_has_no_room_for_is_counted_where_it_came_in() {
    let mut rig = acquainted(Rig::new(&plan(&[&[LAN, LAN6], &[WAN, WAN6]])).with_room(64));
    rig = rig.with_room(3);
    let frames: Vec<_> = (0..10).map(|n| v4("10.0.1.10", "192.0.2.20").frame(0, &[n])).collect();
    rig.receive(0, &frames);
    assert_eq!(rig.sent().len(), 3);
    rig.assert_drops(0, &[(Drop::TxRingFull, 7)]);
    let (received, sent) = (rig.totals(0), rig.totals(1));
    assert_eq!(received.rx_packets - sent.tx_packets, 7, "introductions aside, of which each got its answer");
}

#[test]
fn counters_count_frames_and_bytes() {
    let mut rig = rig();
    let before = (rig.totals(0), rig.totals(1));
    rig.receive(0, &[v4("10.0.1.10", "192.0.2.20").frame(0, &[0; 100])]);
    rig.sent();
    let after = (rig.totals(0), rig.totals(1));
    assert_eq!(after.0.rx_packets - before.0.rx_packets, 1);
    assert_eq!(after.0.rx_bytes - before.0.rx_bytes, 134);
    assert_eq!(after.1.tx_packets - before.1.tx_packets, 1);
    assert_eq!(after.1.tx_bytes - before.1.tx_bytes, 134);
}

#[test]
fn the_last_hop_is_noticed_behind_a_packet_that_passed() {
    let mut rig = rig();
    for ttl in [64, 1] {
        let frame = V4 { ttl, ..v4("10.0.1.10", "192.0.2.20") }.frame(0, b"");
        rig.receive(0, std::slice::from_ref(&frame));
    }
    assert_eq!(rig.sent().iter().map(|sent| sent.out).collect::<Vec<_>>(), [1, 0]);
    rig.assert_drops(0, &[(Drop::TtlExpired, 1)]);
}
