//! Whatever arrives: nothing panics, and every packet ends in exactly one place. [`Rig`] checks that when it is dropped.

use super::*;
use crate::address;
use crate::ethernet;
use crate::frames;
use crate::sim::*;
use crate::snapshot::{
    Advertise, Advertisement, InterfacePlan, ReversePath, RoutePlan, RouteTarget, VlanPlan,
};
use core::time::Duration;
use proptest::prelude::*;
use std::vec::Vec;
use weir_netif::{BATCH, Checksum, Gso, GsoKind, IfIndex, Offloads};

/// A router of many kinds of links and routes.
fn motley() -> Rig {
    let mut plan = plan(&[&[LAN, LAN6], &[WAN, WAN6], &["172.16.0.1/16", "2001:db8:3::1/64"], &[]]);
    plan.interfaces[0].advertise = Advertise::On(Advertisement::default());
    plan.interfaces[1].mtu = 1280;
    plan.interfaces[2].offloads = Offloads::all();
    plan.interfaces[2].reverse_path = ReversePath::Loose;
    down(&mut plan, 3);
    // VLANs of the first and the third; the last is down with its port.
    for (id, parent, addresses) in [
        (10, 0, "10.10.0.1/24"),
        (10, 2, "10.20.0.1/24"),
        (11, 0, "2001:db8:4::1/64"),
        (10, 3, "10.30.0.1/24"),
    ] {
        let mut vlan = InterfacePlan::new(std::format!("vlan{parent}.{id}"), router_mac(parent as u8));
        vlan.vlan = Some(VlanPlan { parent: IfIndex(parent), id });
        vlan.addresses = [prefix(addresses)].into();
        plan.interfaces.push(vlan);
    }
    let route = |to: &str, target| RoutePlan { to: prefix(to), target, metric: 0 };
    let via =
        |gateway: &str, n| RouteTarget::Via { gateway: gateway.parse().unwrap(), interface: IfIndex(n) };
    plan.routes = [
        route("0.0.0.0/0", via("192.0.2.20", 1)),
        route("::/0", via("fe80::254", 1)),
        route("198.18.0.0/15", RouteTarget::Unreachable),
        route("198.51.100.0/24", RouteTarget::Blackhole),
        route("2001:db8:f::/48", RouteTarget::Prohibit),
    ]
    .into();
    acquainted(Rig::new(&plan).with_room(40))
}

fn mac() -> impl Strategy<Value = [u8; 6]> {
    prop_oneof![
        4 => Just(router_mac(0)),
        1 => Just([0xff; 6]),
        1 => Just(address::group_mac(address::ALL_NODES)),
        1 => any::<[u8; 6]>(),
    ]
}

fn some4() -> impl Strategy<Value = [u8; 4]> {
    let listed =
        ["10.0.1.1", "10.0.1.10", "192.0.2.20", "172.16.3.4", "198.18.0.1", "224.0.0.1", "10.0.1.255"];
    let listed: Vec<_> = listed.iter().map(|text| a4(text).octets()).collect();
    prop_oneof![8 => prop::sample::select(listed), 1 => any::<[u8; 4]>()]
}

fn some6() -> impl Strategy<Value = [u8; 16]> {
    let listed = [
        "2001:db8:1::1",
        "2001:db8:1::10",
        "2001:db8:2::20",
        "2001:db8:3::4",
        "2001:db8:f::1",
        "ff02::1",
        "fe80::10",
        "ff02::1:ff00:1",
        "::",
    ];
    let listed: Vec<_> = listed.iter().map(|text| a6(text).octets()).collect();
    prop_oneof![8 => prop::sample::select(listed), 1 => any::<[u8; 16]>()]
}

fn transport() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..3000).prop_map(|data| (17, frames::udp(&data))),
        bytes.clone().prop_map(|data| (6, frames::tcp(1, 0x10, &[], &data))),
        (any::<u8>(), any::<u8>(), bytes.clone())
            .prop_map(|(kind, code, rest)| (1, frames::icmp(kind % 16, code % 3, &rest))),
        (any::<u8>(), bytes).prop_map(|(protocol, data)| (protocol, data)),
    ]
}

/// Hops left: often the fewest.
fn hops() -> impl Strategy<Value = u8> {
    prop_oneof![2 => Just(64), 1 => 0u8..4, 1 => any::<u8>()]
}

/// A packet that is whole, as far as its header goes; a few have a wrong checksum.
fn whole4() -> impl Strategy<Value = Vec<u8>> {
    (some4(), some4(), hops(), any::<u16>(), transport(), prop::bool::weighted(0.05)).prop_map(
        |(from, to, ttl, flags, (protocol, data), wrong)| {
            let flags = if flags % 3 == 0 { flags } else { flags & 0x4000 };
            let mut packet = frames::ipv4(protocol, &[], flags, &data);
            packet[8] = ttl;
            packet[12..16].copy_from_slice(&from);
            packet[16..20].copy_from_slice(&to);
            frames::seal_ipv4(&mut packet[..20]);
            packet[11] ^= u8::from(wrong);
            packet
        },
    )
}

fn whole6() -> impl Strategy<Value = Vec<u8>> {
    let data = prop_oneof![
        transport(),
        (133u8..138, prop::collection::vec(any::<u8>(), 0..60))
            .prop_map(|(kind, rest)| (58, [&[kind, 0, 0, 0][..], &rest].concat())),
        (prop::sample::select(&[0u8, 43, 44, 60][..]), prop::collection::vec(any::<u8>(), 0..60)),
    ];
    (some6(), some6(), any::<bool>(), hops(), data).prop_map(|(from, to, discovery, hops, (next, data))| {
        let mut packet = frames::ipv6(next, &data);
        packet[7] = if discovery { 255 } else { hops };
        packet[8..24].copy_from_slice(&from);
        packet[24..40].copy_from_slice(&to);
        if next == 58 && data.len() >= 4 {
            packet[42..44].fill(0);
            let mut all = frames::pseudo(&packet, 58, data.len());
            all.extend(&packet[40..]);
            let sum = !frames::naive_sum(&all);
            packet[42..44].copy_from_slice(&sum.to_be_bytes());
        }
        packet
    })
}

fn arp_message() -> impl Strategy<Value = Vec<u8>> {
    (1u8..3, any::<[u8; 6]>(), some4(), some4()).prop_map(|(operation, mac, from, to)| {
        [&[0, 1, 8, 0, 6, 4, 0, operation][..], &mac, &from, &[0; 6], &to].concat()
    })
}

pub(super) fn frame_bytes() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        4 => whole4().prop_map(|packet| (ethernet::IPV4, packet)),
        4 => whole6().prop_map(|packet| (ethernet::IPV6, packet)),
        2 => arp_message().prop_map(|message| (ethernet::ARP, message)),
        1 => (any::<u16>(), prop::collection::vec(any::<u8>(), 0..80)),
        1 => (prop::sample::select(&[ethernet::IPV4, ethernet::IPV6, ethernet::ARP][..]), prop::collection::vec(any::<u8>(), 0..80)),
    ];
    let id = prop_oneof![6 => Just([0, 10]), 2 => Just([0, 11]), 1 => any::<[u8; 2]>()];
    let tag = prop_oneof![2 => Just(None), 1 => (id, prop::bool::weighted(0.1)).prop_map(Some)];
    let framed = (mac(), mac(), payload, any::<bool>(), 0usize..60, tag).prop_map(
        |(to, from, (kind, payload), ours, padding, tag)| {
            let from = if ours { host_mac(0) } else { from };
            let mut frame = frame(to, from, kind, &payload);
            if let Some((outer, inner)) = tag {
                frame.splice(12..12, [0x81, 0, outer[0], outer[1]]);
                if inner {
                    frame.splice(16..16, [0x81, 0, 0, 10]);
                }
            }
            frame.resize(frame.len() + padding * usize::from(padding > 30), 0);
            frame
        },
    );
    prop_oneof![9 => framed, 1 => prop::collection::vec(any::<u8>(), 0..120)]
}

fn offloads() -> impl Strategy<Value = (Checksum, Option<Gso>)> {
    let checksum = prop_oneof![
        6 => Just(Checksum::Unknown),
        1 => Just(Checksum::Verified),
        2 => (prop::sample::select(&[34u16, 54][..]), prop::sample::select(&[6u16, 16, 2][..]))
            .prop_map(|(start, offset)| Checksum::Partial { start, offset }),
        1 => (any::<u16>(), any::<u16>()).prop_map(|(start, offset)| Checksum::Partial { start, offset }),
    ];
    let kind = prop::sample::select(&[GsoKind::Tcp4, GsoKind::Tcp6][..]);
    let gso = (kind, 0u16..1500, any::<bool>()).prop_map(|(kind, size, ecn)| Gso { kind, size, ecn });
    (checksum, prop_oneof![5 => Just(None), 1 => gso.prop_map(Some)])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_packet_ends_once(
        arrivals in prop::collection::vec((0u16..5, frame_bytes(), offloads(), prop::option::of(1usize..200)), 1..120),
        pauses in prop::collection::vec(0u64..4_000, 1..8),
    ) {
        let mut rig = motley();
        let each = arrivals.len().div_ceil(pauses.len());
        for (arrivals, pause) in arrivals.chunks(each).zip(&pauses) {
            for (index, bytes, (checksum, gso), cut) in arrivals {
                let cuts: &[usize] = cut.as_slice();
                // Devices put all headers in the first segment; short ones are for hostile devices.
                let mut packet = match bytes.is_empty() {
                    true => rig.pool.alloc().unwrap(),
                    false => frames::chain(&mut rig.pool, bytes, cuts),
                };
                packet.meta_mut().checksum = *checksum;
                packet.meta_mut().gso = *gso;
                rig.input(*index, [packet].into());
            }
            for sent in rig.sent() {
                prop_assert!(![3, 7].contains(&sent.out), "a down interface sends nothing");
            }
            rig.run(Duration::from_millis(*pause));
        }
    }

    /// What is ready made for a next hop makes the same of a packet as the long way, and a batch the same as its packets
    /// one by one.
    #[test]
    fn the_short_way_is_the_long_one(
        arrivals in prop::collection::vec((0u16..3, prop::collection::vec((frame_bytes(), offloads()), 1..64)), 1..6),
    ) {
        let (mut short, mut long) = (motley().with_room(BATCH), motley().with_room(BATCH));
        let packet = |rig: &mut Rig, (bytes, (checksum, gso)): &(Vec<u8>, (Checksum, Option<Gso>))| {
            let mut packet = rig.pool.alloc_from(bytes).unwrap();
            packet.meta_mut().checksum = *checksum;
            packet.meta_mut().gso = *gso;
            packet
        };
        for (index, frames) in &arrivals {
            let batch = frames.iter().map(|frame| packet(&mut short, frame)).collect();
            short.input(*index, batch);
            for frame in frames {
                // Nothing is ready made.
                long.stack.neighbors4.renumber();
                long.stack.neighbors6.renumber();
                let packet = packet(&mut long, frame);
                long.input(*index, [packet].into());
            }
            let (mut short, mut long) = (short.sent(), long.sent());
            // In order on each link.
            short.sort_by_key(|sent| sent.out);
            long.sort_by_key(|sent| sent.out);
            prop_assert_eq!(short, long);
        }
        for index in 0..8 {
            let (short, long) = (short.totals(index), long.totals(index));
            prop_assert_eq!(std::format!("{short:?}"), std::format!("{long:?}"));
        }
    }
}
