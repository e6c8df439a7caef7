//! ICMP errors: when, from whom, how many.

use super::*;
use crate::ethernet;
use crate::frames;
use crate::sim::*;
use core::time::Duration;
use std::vec::Vec;
use weir_netif::Drop;

/// A router whose second link is narrow.
fn narrow() -> Rig {
    let mut plan = plan(&[&[LAN, LAN6], &[WAN, WAN6]]);
    plan.interfaces[1].mtu = 1280;
    acquainted(Rig::new(&plan))
}

#[test]
fn a_traceroute_shows_the_near_address() {
    let mut plan =
        plan(&[&["10.0.1.1/24", "10.0.9.1/24", "2001:db8:1::1/64", "2001:db8:9::1/64"], &[WAN, WAN6]]);
    plan.interfaces[0].mtu = 1500;
    let mut rig = Rig::new(&plan);
    for (host, near) in [("10.0.1.10", "10.0.1.1"), ("10.0.9.10", "10.0.9.1")] {
        rig.introduce4(0, host, host_mac(0));
        rig.receive(0, &[V4 { ttl: 1, ..v4(host, "192.0.2.20") }.frame(0, b"x")]);
        assert_eq!(rig.one(0)[26..30], a4(near).octets());
    }
    for (host, near) in [("2001:db8:1::10", "2001:db8:1::1"), ("2001:db8:9::10", "2001:db8:9::1")] {
        rig.introduce6(0, host, host_mac(0));
        rig.receive(0, &[V6 { hops: 1, ..v6(host, "2001:db8:2::20") }.frame(0, b"x")]);
        let error = rig.one(0);
        assert_sound(&error);
        assert_eq!((&error[22..38], &error[54..56]), (&a6(near).octets()[..], &[3, 0][..]));
    }
    rig.assert_drops(0, &[(Drop::TtlExpired, 4)]);
}

#[test]
fn a_link_without_addresses_borrows_one() {
    let mut rig = Rig::new(&plan(&[&[], &[WAN, WAN6]]));
    rig.introduce4(1, "192.0.2.20", host_mac(1));
    // The answer goes another way than the packet came.
    rig.receive(0, &[V4 { ttl: 1, ..v4("192.0.2.20", "192.0.2.99") }.frame(0, b"x")]);
    assert_eq!(rig.one(1)[26..30], a4("192.0.2.1").octets());
}

#[test]
fn a_link_local_sender_is_answered_from_a_link_local_address() {
    let mut rig = rig();
    rig.introduce6(0, "fe80::10", host_mac(0));
    rig.receive(0, &[v6("fe80::10", "2001:db8:2::20").frame(0, b"x")]);
    let error = rig.one(0);
    assert_sound(&error);
    assert_eq!(error[22..38], rig.snapshot.interface(weir_netif::IfIndex(0)).unwrap().link_local[0].octets());
    assert_eq!(error[54..56], [1, 2]);
    rig.assert_drops(0, &[(Drop::LinkLocalScope, 1)]);
}

#[test]
fn too_big_with_df_is_refused_with_the_next_mtu() {
    let mut rig = narrow();
    rig.receive(0, &[V4 { flags: 0x4000, ..v4("10.0.1.10", "192.0.2.20") }.frame(0, &[0; 1261])]);
    let error = rig.one(0);
    assert_sound(&error);
    assert_eq!((&error[34..36], &error[38..42]), (&[3, 4][..], &[0, 0, 5, 0][..]));
    rig.receive(0, &[v6("2001:db8:1::10", "2001:db8:2::20").frame(0, &[0; 1241])]);
    let error = rig.one(0);
    assert_sound(&error);
    assert_eq!((&error[54..56], &error[58..62]), (&[2, 0][..], &[0, 0, 5, 0][..]));
    rig.assert_drops(0, &[(Drop::TooBig, 2)]);
}

#[test]
fn just_fitting_packets_pass_whole() {
    let mut rig = narrow();
    rig.receive(0, &[V4 { flags: 0x4000, ..v4("10.0.1.10", "192.0.2.20") }.frame(0, &[0; 1260])]);
    assert_eq!(rig.one(1).len(), 1294);
    rig.receive(0, &[v6("2001:db8:1::10", "2001:db8:2::20").frame(0, &[0; 1240])]);
    assert_eq!(rig.one(1).len(), 1294);
}

#[test]
fn too_big_without_df_goes_in_fragments() {
    let mut rig = narrow();
    let payload: Vec<u8> = (0..1400u32).map(|n| n as u8).collect();
    rig.receive(0, &[v4("10.0.1.10", "192.0.2.20").frame(0, &payload)]);
    let sent = rig.sent();
    assert_eq!(sent.len(), 2);
    let mut data: Vec<u8> = Vec::new();
    for fragment in &sent {
        assert_sound(&fragment.bytes);
        assert!(fragment.bytes.len() <= 1294);
        assert_eq!((fragment.out, &fragment.bytes[..6]), (1, &host_mac(1)[..]));
        assert_eq!(fragment.bytes[22], 63);
        data.extend(&fragment.bytes[34..]);
    }
    assert_eq!(data, payload);
    rig.assert_drops(0, &[]);
}

#[test]
fn errors_are_not_sent_about_errors_fragments_or_groups() {
    let mut rig = rig();
    let dead = |flags, protocol, payload: &[u8]| {
        V4 { ttl: 1, flags, protocol, ..v4("10.0.1.10", "192.0.2.20") }.frame(0, payload)
    };
    let unreachable = frames::icmp(3, 1, &[0; 32]);
    let dead6 = v6("2001:db8:1::10", "2001:db8:2::20").icmp(&[1, 0, 0, 0, 0, 0, 0, 0, 0x60, 0]);
    let mut dead6 = frame(router_mac(0), host_mac(0), ethernet::IPV6, &dead6);
    dead6[21] = 1;
    rig.receive(0, &[dead(0, 1, &unreachable), dead(0x0010, 17, &[0; 16]), dead6]);
    assert!(rig.sent().is_empty());
    rig.assert_drops(0, &[(Drop::TtlExpired, 3)]);
}

#[test]
fn errors_are_limited_in_rate_and_the_limit_is_counted() {
    let mut rig = rig();
    let dead = V4 { ttl: 1, ..v4("10.0.1.10", "192.0.2.20") }.frame(0, b"x");
    let storm: Vec<_> = core::iter::repeat_n(dead, 60).collect();
    rig.receive(0, &storm);
    let burst = rig.sent().len();
    assert!((1..60).contains(&burst), "{burst}");
    rig.assert_drops(0, &[(Drop::TtlExpired, 60), (Drop::IcmpRateLimited, 60 - burst as u64)]);
    rig.run(Duration::from_secs(1));
    rig.receive(0, &storm);
    assert!(!rig.sent().is_empty(), "the allowance comes back");
}
