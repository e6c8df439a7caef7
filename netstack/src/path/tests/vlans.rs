//! Interfaces on VLANs: their frames have tags, and nothing else is different.

use super::*;
use crate::ethernet::{self, tag, untag};
use crate::frames;
use crate::sim::*;
use crate::snapshot::{
    Advertise, Advertisement, Conflict, InterfacePlan, Plan, ReversePath, Snapshot, State, VlanPlan,
};
use core::time::Duration;
use proptest::prelude::*;
use std::string::ToString;
use std::vec;
use std::vec::Vec;
use weir_netif::{Checksum, Drop, Gso, GsoKind, IfIndex, Offloads, Packet};

const TX_ALL: Offloads = Offloads::TX_CHECKSUM.union(Offloads::TX_TCP4).union(Offloads::TX_TCP6);

/// One device, port 0 without addresses, that is a trunk: index 1 is VLAN 10, index 2 is VLAN 20.
fn trunk() -> Plan {
    let mut plan = plan(&[&[], &[LAN, LAN6], &[WAN, WAN6]]);
    for (interface, id) in plan.interfaces.iter_mut().skip(1).zip([10, 20]) {
        interface.vlan = Some(VlanPlan { parent: IfIndex(0), id });
        interface.mac = router_mac(0);
    }
    plan
}

/// A router with that trunk and a host on each VLAN that it knows.
fn one_armed(plan: &Plan) -> Rig {
    let mut rig = Rig::new(plan);
    for (vlan, v4, v6) in [(10, "10.0.1.10", "2001:db8:1::10"), (20, "192.0.2.20", "2001:db8:2::20")] {
        let mac = host_mac(vlan);
        let index = IfIndex(u16::from(vlan) / 10);
        let interface = rig.snapshot.interface(index).unwrap();
        let (asked4, asked6) = (interface.source4(a4(v4)).unwrap(), interface.link_local[0]);
        let request = arp_request(mac, a4(v4), asked4);
        let solicitation = solicitation(mac, a6(v6), asked6, Some(mac));
        rig.receive(0, &[tagged(vlan.into(), &request), tagged(vlan.into(), &solicitation)]);
        let answers = rig.sent();
        assert_eq!(answers.len(), 2, "both are answered");
        assert!(answers.iter().all(|sent| sent.out == index.0 && id(&sent.bytes) == Some(vlan.into())));
    }
    rig
}

/// A frame with a tag of this control information.
fn tagged(tag: u16, frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0], &tag.to_be_bytes(), &frame[12..]].concat()
}

/// The control information of a frame's tag.
fn id(frame: &[u8]) -> Option<u16> {
    (frame[12..14] == [0x81, 0]).then(|| u16::from_be_bytes([frame[14], frame[15]]))
}

/// The frame without its tag.
fn bare(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &frame[16..]].concat()
}

fn there4() -> Vec<u8> {
    v4("10.0.1.10", "192.0.2.20").frame(0, b"there")
}

fn there6() -> Vec<u8> {
    v6("2001:db8:1::10", "2001:db8:2::20").frame(0, b"there")
}

#[test]
fn packets_go_from_vlan_to_vlan_by_one_port() {
    let mut rig = one_armed(&trunk());
    for frame in [there4(), there6()] {
        rig.receive(0, &[tagged(10, &frame)]);
        let sent = rig.one(2);
        assert_eq!((&sent[..6], &sent[6..12]), (&host_mac(20)[..], &router_mac(0)[..]));
        assert_eq!((id(&sent), sent.len()), (Some(20), frame.len() + 4));
        assert_sound(&bare(&sent));
    }
    assert_eq!((rig.totals(0).rx_packets, rig.totals(0).tx_packets), (0, 0), "none is the port's own");
    let (lan, wan) = (rig.totals(1), rig.totals(2));
    assert_eq!((lan.rx_packets, wan.tx_packets), (4, 4));
    let frames = |frames: [&[u8]; 4]| frames.iter().map(|frame| frame.len() as u64 + 4).sum::<u64>();
    let (request, asked) = (vec![0; 42], vec![0; 86]);
    assert_eq!(lan.rx_bytes, frames([&request, &asked, &there4(), &there6()]), "with their tags");
    rig.assert_drops(1, &[]);
}

#[test]
fn priority_is_not_passed_on_and_a_tag_of_priority_alone_is_none() {
    let mut plan = trunk();
    plan.interfaces[0].addresses = [prefix("172.16.0.1/16")].into();
    let mut rig = one_armed(&plan);
    rig.receive(0, &[tagged(0xf00a, &there4())]);
    assert_eq!(id(&rig.one(2)), Some(20));
    let ours = v4("172.16.0.9", "192.0.2.20").frame(0, b"x");
    rig.receive(0, &[tagged(0xe000, &ours), ours]);
    assert_eq!(rig.sent().len(), 2);
    assert_eq!(rig.totals(0).rx_packets, 2, "the port's own");
}

#[test]
fn a_tag_that_the_device_took_out_is_a_tag() {
    let mut rig = one_armed(&trunk());
    for (beside, frame) in [(0x300a, there4()), (11, there4()), (10, tagged(20, &there4()))] {
        let mut packet = rig.pool.alloc_from(&frame).unwrap();
        packet.meta_mut().vlan = beside;
        rig.input(0, vec![packet]);
    }
    assert_eq!(id(&rig.one(2)), Some(20));
    rig.assert_drops(0, &[(Drop::EthernetUnknownVlan, 1)]);
    rig.assert_drops(1, &[(Drop::EthernetStackedVlan, 1)]);
}

#[test]
fn frames_of_no_vlan_of_ours_are_the_ports() {
    let mut rig = one_armed(&trunk());
    let service = [&there4()[..12], &[0x88, 0xa8, 0, 10], &there4()[12..]].concat();
    let mut frames: Vec<_> = [1, 30, 4095].iter().map(|&id| tagged(id, &there4())).collect();
    frames.extend([service, tagged(10, &there4())[..17].into(), tagged(10, &there4())[..14].into()]);
    rig.receive(0, &frames);
    rig.receive(0, &[tagged(10, &tagged(20, &there4())), tagged(10, &frame_of(0x88cc))]);
    assert!(rig.sent().is_empty());
    rig.assert_drops(
        0,
        &[(Drop::EthernetTruncated, 2), (Drop::EthernetUnknownVlan, 3), (Drop::EthernetStackedVlan, 1)],
    );
    assert_eq!(rig.totals(0).rx_packets, 6);
    rig.assert_drops(1, &[(Drop::EthernetUnknownType, 1), (Drop::EthernetStackedVlan, 1)]);
    assert_eq!(rig.totals(1).rx_packets, 4);
}

fn frame_of(kind: u16) -> Vec<u8> {
    frame(router_mac(0), host_mac(0), kind, b"whatever it is")
}

#[test]
fn an_untagged_frame_is_on_no_vlan() {
    let mut rig = one_armed(&trunk());
    rig.receive(0, &[arp_request(host_mac(1), a4("10.0.1.10"), a4("10.0.1.1"))]);
    assert!(rig.sent().is_empty());
    rig.assert_drops(0, &[(Drop::ArpNotForUs, 1)]);
}

#[test]
fn each_vlan_has_neighbours_of_its_own() {
    let mut rig = one_armed(&trunk());
    // The address of one VLAN asked for on the other, and by somebody who lives on the other.
    rig.receive(0, &[tagged(20, &arp_request(host_mac(20), a4("192.0.2.20"), a4("10.0.1.1")))]);
    rig.receive(0, &[tagged(20, &arp_reply(router_mac(0), host_mac(66), a4("10.0.1.10"), a4("192.0.2.1")))]);
    assert!(rig.sent().is_empty());
    assert_eq!(rig.totals(2).dropped(Drop::ArpNotForUs), 2);
    let known = |rig: &Rig, index| rig.stack.neighbors4().get(IfIndex(index), a4("10.0.1.10"));
    assert_eq!(known(&rig, 1).unwrap().1, host_mac(10));
    assert!(known(&rig, 2).is_none());
    // An unknown neighbour is asked for on its VLAN alone.
    rig.receive(0, &[tagged(10, &v4("10.0.1.10", "192.0.2.77").frame(0, b"x"))]);
    let asked = rig.one(2);
    assert_eq!((id(&asked), &asked[42..46]), (Some(20), &a4("192.0.2.77").octets()[..]));
}

#[test]
fn routers_are_advertised_on_the_vlan_that_says_so() {
    let mut plan = trunk();
    plan.interfaces[2].advertise = Advertise::On(Advertisement::default());
    let mut rig = one_armed(&plan);
    rig.tick();
    let sent = rig.one(2);
    assert_eq!((id(&sent), sent[58]), (Some(20), 134));
    assert_sound(&bare(&sent));
    // Both VLANs have the group of all routers; a solicitation on the other one is none here.
    let solicitation = discovery(
        [0x33, 0x33, 0, 0, 0, 2],
        host_mac(10),
        a6("fe80::10"),
        a6("ff02::2"),
        &[133, 0, 0, 0, 0, 0, 0, 0],
    );
    rig.run(Duration::from_secs(4));
    rig.sent();
    rig.receive(0, &[tagged(10, &solicitation)]);
    rig.run(Duration::from_millis(600));
    assert!(rig.sent().is_empty());
    rig.receive(0, &[tagged(20, &solicitation)]);
    rig.run(Duration::from_millis(600));
    let sent = rig.sent();
    let advertised: Vec<_> = sent.iter().filter(|sent| sent.bytes[58] == 134).collect();
    assert_eq!(advertised.len(), 1);
    assert_eq!(id(&advertised[0].bytes), Some(20));
}

#[test]
fn errors_go_back_by_the_vlan_and_name_its_mtu() {
    let mut plan = trunk();
    plan.interfaces[2].mtu = 1280;
    let mut rig = one_armed(&plan);
    let large = [0; 1300];
    rig.receive(0, &[tagged(10, &V4 { flags: 0x4000, ..v4("10.0.1.10", "192.0.2.20") }.frame(0, &large))]);
    let error = rig.one(1);
    assert_eq!(
        (id(&error), &error[38..40], &error[44..46]),
        (Some(10), &[3, 4][..], &1280u16.to_be_bytes()[..])
    );
    assert_sound(&bare(&error));
    rig.receive(0, &[tagged(10, &v6("2001:db8:1::10", "2001:db8:2::20").frame(0, &large))]);
    let error = rig.one(1);
    assert_eq!((id(&error), error[58], &error[62..66]), (Some(10), 2, &1280u32.to_be_bytes()[..]));
    // Fragments fit the MTU without their tags.
    rig.receive(0, &[tagged(10, &v4("10.0.1.10", "192.0.2.20").frame(0, &large))]);
    let sent = rig.sent();
    assert_eq!(sent.len(), 2);
    for sent in sent {
        assert_eq!(id(&sent.bytes), Some(20));
        assert!(sent.bytes.len() <= 18 + 1280);
        assert_sound(&bare(&sent.bytes));
    }
}

#[test]
fn a_source_is_looked_for_on_its_vlan() {
    let mut plan = trunk();
    plan.interfaces[1].reverse_path = ReversePath::Strict;
    let mut rig = one_armed(&plan);
    rig.receive(0, &[tagged(10, &v4("192.0.2.20", "192.0.2.20").frame(0, b"x")), tagged(10, &there4())]);
    assert_eq!(rig.sent().len(), 1);
    rig.assert_drops(1, &[(Drop::ReversePath, 1)]);
}

#[test]
fn a_vlan_goes_down_alone_and_with_its_port() {
    let mut plan = trunk();
    down(&mut plan, 1);
    let mut rig = Rig::new(&plan);
    rig.receive(0, &[tagged(10, &there4())]);
    rig.assert_drops(1, &[(Drop::InterfaceDown, 1)]);
    let mut plan = trunk();
    down(&mut plan, 0);
    let mut rig = Rig::new(&plan);
    assert!(rig.snapshot.interfaces().all(|interface| interface.state == State::Down));
    assert!(rig.snapshot.fib4().lookup(a4("192.0.2.20")).is_none(), "nor has it routes");
    rig.receive(0, &[tagged(10, &there4())]);
    rig.assert_drops(0, &[(Drop::InterfaceDown, 1)]);
}

/// A TCP super-packet with a tag, as a peer that shares memory with us sends it.
fn super_packet(rig: &mut Rig, kind: GsoKind, len: usize) -> Packet {
    let data: Vec<u8> = (0..len).map(|n| n as u8).collect();
    let segment = frames::tcp(1000, 0x18, &[], &data);
    let (frame, l3) = match kind {
        GsoKind::Tcp4 => {
            (V4 { flags: 0x4000, protocol: 6, ..v4("10.0.1.10", "192.0.2.20") }.frame(0, &segment), 20)
        }
        GsoKind::Tcp6 => (V6 { next: 6, ..v6("2001:db8:1::10", "2001:db8:2::20") }.frame(0, &segment), 40),
    };
    let mut packet = frames::chain(&mut rig.pool, &tagged(10, &frame), &[100, 1400, 7]);
    frames::super_packet(&mut packet, Gso { kind, size: 1000, ecn: false }, 18, 18 + l3);
    packet
}

#[test]
fn super_packets_cross_tags_whole_where_the_device_takes_them() {
    for (kind, start) in [(GsoKind::Tcp4, 38), (GsoKind::Tcp6, 58)] {
        let mut plan = trunk();
        plan.interfaces[0].offloads = TX_ALL | Offloads::TX_TAGGED;
        let mut rig = one_armed(&plan);
        let packet = super_packet(&mut rig, kind, 2500);
        let before = frames::bytes(&packet);
        rig.input(0, vec![packet]);
        let sent = rig.sent().remove(0);
        assert_eq!(
            sent.meta.checksum,
            Checksum::Partial { start, offset: 16 },
            "from the frame's first byte"
        );
        assert_eq!(sent.meta.gso.unwrap().size, 1000);
        assert_eq!((id(&sent.bytes), sent.bytes.len()), (Some(20), before.len()));
        assert_eq!(sent.bytes[start.into()..], before[start.into()..]);
    }
}

#[test]
fn super_packets_are_cut_where_the_device_takes_them_without_tags_alone() {
    for (kind, l4) in [(GsoKind::Tcp4, 34), (GsoKind::Tcp6, 54)] {
        let mut plan = trunk();
        plan.interfaces[0].offloads = TX_ALL;
        let mut rig = one_armed(&plan);
        let packet = super_packet(&mut rig, kind, 2500);
        rig.input(0, vec![packet]);
        let sent = rig.sent();
        assert_eq!(sent.len(), 3);
        let mut data: Vec<u8> = Vec::new();
        for sent in sent {
            assert_eq!((id(&sent.bytes), sent.meta.gso), (Some(20), None));
            assert!(!matches!(sent.meta.checksum, Checksum::Partial { .. }), "nothing is owed");
            let frame = bare(&sent.bytes);
            assert_sound(&frame);
            assert!(frames::transport_sum_is_right(&frame[14..], 6, &frame[l4..]), "TCP checksum");
            data.extend(&frame[l4 + 20..]);
        }
        assert!(data.iter().enumerate().all(|(n, &byte)| byte == n as u8) && data.len() == 2500);
    }
}

#[test]
fn an_owed_checksum_moves_with_the_tag() {
    let owed = |rig: &mut Rig, frame: &[u8], l3| {
        let mut packet = rig.pool.alloc_from(frame).unwrap();
        frames::owe_checksum(&mut packet, l3, l3 + 20, 17, 6);
        packet
    };
    let udp = V4 { protocol: 17, ..v4("10.0.1.10", "192.0.2.20") }.frame(0, &frames::udp(b"payload"));
    for offloads in [TX_ALL | Offloads::TX_TAGGED, TX_ALL, Offloads::empty()] {
        let mut plan = trunk();
        plan.interfaces[0].offloads = offloads;
        let mut rig = one_armed(&plan);
        let packet = owed(&mut rig, &tagged(10, &udp), 18);
        rig.input(0, vec![packet]);
        let sent = rig.sent().remove(0);
        if offloads.contains(Offloads::TX_TAGGED) {
            assert_eq!(sent.meta.checksum, Checksum::Partial { start: 38, offset: 6 });
        } else {
            let frame = bare(&sent.bytes);
            assert!(frames::transport_sum_is_right(&frame[14..], 17, &frame[34..]));
        }
    }
    // One that is said to lie in the tag is completed nowhere.
    let mut rig = one_armed(&trunk());
    let mut packet = rig.pool.alloc_from(&tagged(10, &udp)).unwrap();
    packet.meta_mut().checksum = Checksum::Partial { start: 3, offset: 9 };
    rig.input(0, vec![packet]);
    assert!(rig.sent().is_empty());
    rig.assert_drops(1, &[(Drop::OffloadMalformed, 1)]);
}

#[test]
fn a_frame_without_headroom_gets_its_tag_too() {
    let mut plan = trunk();
    plan.interfaces[0].addresses = [prefix("172.16.0.1/16")].into();
    let mut rig = one_armed(&plan);
    let frame = v4("172.16.0.9", "192.0.2.20").frame(0, &[7; 1400]);
    for more in [&[][..], &[1, 2, 3]] {
        let mut packet = rig.pool.alloc().unwrap();
        assert!(packet.set_filled_at(0, frame.len()));
        packet.data_mut().copy_from_slice(&frame);
        if !more.is_empty() {
            packet.append(rig.pool.alloc_from(more).unwrap());
        }
        rig.input(0, vec![packet]);
        let sent = rig.one(2);
        assert_eq!(id(&sent), Some(20));
        assert_eq!(sent[18 + 20..], frame[14 + 20..]);
        assert_sound(&bare(&sent));
    }
    // And is lost, by name, when there is no buffer to move it to.
    let mut packet = rig.pool.alloc().unwrap();
    assert!(packet.set_filled_at(0, frame.len()));
    packet.data_mut().copy_from_slice(&frame);
    let hoard: Vec<Packet> = core::iter::from_fn(|| rig.pool.alloc()).collect();
    rig.input(0, vec![packet]);
    hoard.into_iter().for_each(|packet| rig.pool.free(packet));
    rig.assert_drops(0, &[(Drop::NoBuffer, 1)]);
}

#[test]
fn an_index_that_goes_to_another_vlan_takes_nothing_along() {
    let mut plan = trunk();
    plan.interfaces[2].advertise = Advertise::On(Advertisement::default());
    let mut rig = one_armed(&plan);
    rig.turn(|stack, turn| stack.reconfigured(turn));
    rig.run(Duration::from_secs(40));
    rig.sent();
    rig.receive(0, &[tagged(10, &v4("10.0.1.10", "192.0.2.77").frame(0, b"waits"))]);
    // The beginning of a datagram to an address that is this link's alone.
    let own = rig.snapshot.interface(IfIndex(2)).unwrap().link_local[0].to_string();
    let beginning = V6 { next: 44, ..v6("fe80::20", &own) }
        .frame(0, &[58, 0, 0, 1, 0, 0, 0, 7, 128, 0, 0, 0, 0, 0, 0, 0]);
    rig.receive(0, &[tagged(20, &beginning)]);
    assert_eq!(rig.stack.queued(), 2);
    rig.sent();
    plan.interfaces[2].vlan = Some(VlanPlan { parent: IfIndex(0), id: 30 });
    *rig.snapshot = Snapshot::build(&plan).unwrap();
    rig.turn(|stack, turn| stack.reconfigured(turn));
    assert!(rig.stack.neighbors4().get(IfIndex(2), a4("192.0.2.20")).is_none());
    assert!(rig.stack.neighbors4().get(IfIndex(1), a4("10.0.1.10")).is_some(), "the other VLAN's stays");
    assert_eq!(rig.stack.queued(), 0);
    rig.assert_drops(1, &[(Drop::InterfaceDown, 1)]);
    rig.assert_drops(2, &[(Drop::InterfaceDown, 1)]);
    let told = rig.sent();
    assert_eq!(told.len(), 3, "the new link is told all addresses");
    assert!(told.iter().all(|sent| id(&sent.bytes) == Some(30)));
    rig.tick();
    assert_eq!(rig.one(2)[58], 134, "and at once of the router");
}

/// More VLANs than a turn can gather frames for at once.
#[test]
fn frames_for_any_number_of_vlans_go_out_in_one_turn() {
    const MANY: u16 = 150;
    let mut plan = plan(&[&[LAN]]);
    for id in 1..=MANY {
        let mut vlan = InterfacePlan::new(std::format!("vlan{id}"), router_mac(0));
        vlan.vlan = Some(VlanPlan { parent: IfIndex(0), id });
        vlan.addresses = [prefix(&std::format!("172.16.{id}.1/24"))].into();
        plan.interfaces.push(vlan);
    }
    let settings = crate::stack::Settings { interfaces: 200, ..Default::default() };
    let mut rig = Rig::with(&plan, settings);
    rig.introduce4(0, "10.0.1.10", host_mac(0));
    for first in [1, 61, 91] {
        let to = |id: u16| v4("10.0.1.10", &std::format!("172.16.{id}.9")).frame(0, b"x");
        let frames: Vec<_> = (first..first + 60).map(to).collect();
        rig.receive(0, &frames);
    }
    rig.turn(|stack, turn| stack.reconfigured(turn));
    let sent = rig.sent();
    for id in 1..=MANY {
        let asked = sent.iter().filter(|sent| sent.out == id && self::id(&sent.bytes) == Some(id));
        assert!(asked.count() >= 3, "asked for, and told both addresses: VLAN {id}");
    }
}

#[test]
fn a_frame_belongs_to_the_interface_of_its_tag() {
    let mut rig = one_armed(&trunk());
    let mut owner = |bytes: &[u8], beside| {
        let mut packet = rig.pool.alloc_from(bytes).unwrap();
        packet.meta_mut().vlan = beside;
        let owner = rig.snapshot.owner(IfIndex(0), &packet);
        rig.pool.free(packet);
        owner.map(|owner| owner.0)
    };
    assert_eq!(owner(&there4(), 0), Some(0));
    assert_eq!(owner(&tagged(0x600a, &there4()), 0), Some(1));
    assert_eq!(owner(&there4(), 0x2014), Some(2));
    assert_eq!(owner(&tagged(0xe000, &there4()), 0), Some(0));
    assert_eq!(owner(&tagged(30, &there4()), 0), None);
    assert_eq!(owner(&there4()[..13], 0), Some(0));
}

#[test]
fn vlans_that_cannot_be_are_refused() {
    let refused = |change: fn(&mut Plan)| {
        let mut plan = trunk();
        change(&mut plan);
        Snapshot::build(&plan).map(drop).unwrap_err()
    };
    let bad = |name: &str| Conflict::Vlan(name.into());
    let on = |parent, id| Some(VlanPlan { parent: IfIndex(parent), id });
    assert_eq!(refused(|plan| plan.interfaces[1].vlan.as_mut().unwrap().id = 0), bad("eth1"));
    assert_eq!(refused(|plan| plan.interfaces[1].vlan.as_mut().unwrap().id = 4095), bad("eth1"));
    assert_eq!(refused(|plan| plan.interfaces[1].vlan.as_mut().unwrap().id = 20), bad("eth2"));
    assert_eq!(refused(|plan| plan.interfaces[1].vlan.as_mut().unwrap().parent = IfIndex(9)), bad("eth1"));
    let mut nested = trunk();
    nested.interfaces[2].vlan = on(1, 20);
    assert_eq!(Snapshot::build(&nested).map(drop).unwrap_err(), bad("eth2"));
    nested.interfaces[2].vlan = on(2, 20);
    assert_eq!(Snapshot::build(&nested).map(drop).unwrap_err(), bad("eth2"));
    assert_eq!(refused(|plan| plan.interfaces[1].mac = router_mac(9)), Conflict::Station("eth1".into()));
    let mut most = trunk();
    most.interfaces[2].vlan = on(0, 4094);
    assert_eq!(Snapshot::build(&most).unwrap().interface(IfIndex(0)).unwrap().vlan(4094), Some(IfIndex(2)));
}

/// A router with both networks on ports of their own, and the same router with both on VLANs of one port, hear of the
/// same frame.
fn both_ways(frame: &[u8], from: u8) -> (Vec<Sent>, Vec<Sent>) {
    let mut plain = plan(&[&[LAN, LAN6], &[WAN, WAN6]]);
    plain.interfaces.iter_mut().for_each(|interface| interface.mac = router_mac(0));
    let mut rig = Rig::new(&plain);
    rig.receive(from.into(), &[frame.into()]);
    let untagged = rig.sent();
    let mut rig = Rig::new(&trunk());
    rig.receive(0, &[tagged(u16::from(from) * 10 + 10, frame)]);
    (untagged, rig.sent())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tag_that_was_put_in_comes_out(
        bytes in prop::collection::vec(any::<u8>(), 14..200), vlan in 0u16..4096, start in 14u16..300,
    ) {
        let mut pool = frames::pool(2);
        let mut packet = pool.alloc_from(&bytes).unwrap();
        packet.meta_mut().checksum = Checksum::Partial { start, offset: 6 };
        prop_assert!(tag(&mut packet, vlan));
        prop_assert_eq!(packet.data(), &tagged(vlan, &bytes)[..]);
        prop_assert_eq!(ethernet::vlan(&packet), vlan);
        prop_assert_eq!(packet.meta().checksum, Checksum::Partial { start: start + 4, offset: 6 });
        prop_assert_eq!(untag(&mut packet), Some(vlan));
        prop_assert_eq!(packet.data(), &bytes[..]);
        prop_assert_eq!(packet.meta().checksum, Checksum::Partial { start, offset: 6 });
        pool.free(packet);
    }

    #[test]
    fn a_vlan_is_a_link_as_any_other(frame in super::conservation::frame_bytes(), from in 0u8..2) {
        prop_assume!(frame.len() >= 14 && frame[12..14] != [0x81, 0]);
        let (untagged, on_vlans) = both_ways(&frame, from);
        prop_assert_eq!(untagged.len(), on_vlans.len());
        for (plain, vlan) in untagged.iter().zip(&on_vlans) {
            prop_assert_eq!(plain.out + 1, vlan.out);
            prop_assert_eq!(id(&vlan.bytes), Some(plain.out * 10 + 10));
            prop_assert_eq!(&plain.bytes, &bare(&vlan.bytes));
        }
    }

    #[test]
    fn any_bytes_behind_a_tag_end_once(bytes in prop::collection::vec(any::<u8>(), 0..100), tag: u16) {
        let mut rig = one_armed(&trunk());
        rig.receive(0, &[[&router_mac(0)[..], &host_mac(0), &[0x81, 0], &tag.to_be_bytes(), &bytes].concat()]);
        rig.receive(0, &[[&router_mac(0)[..], &host_mac(0), &[0x81, 0, 0, 10], &bytes].concat()]);
    }
}
