//! Addresses that are not surely ours: what is sent from them, answered for them, and heard about them.

use super::*;
use crate::address::{ALL_NODES, group_mac, link_local};
use crate::sim::*;
use crate::snapshot::{Claim, Plan, Snapshot};
use core::net::{IpAddr, Ipv6Addr};
use std::vec::Vec;
use weir_netif::{Drop, IfIndex};

const OWN4: &str = "10.0.1.1";
const OWN6: &str = "2001:db8:1::1";

fn claiming(address: &str, claim: Claim) -> Plan {
    let mut plan = plan(&[&[LAN, LAN6], &[WAN, WAN6]]);
    plan.interfaces[0].claims.push((address.parse().unwrap(), claim));
    plan
}

fn rig(address: &str, claim: Claim) -> Rig {
    Rig::new(&claiming(address, claim))
}

fn echo6(to: &str) -> Vec<u8> {
    let packet = v6("2001:db8:1::10", to).icmp(&[128, 0, 0, 0, 0, 1, 0, 1]);
    frame(router_mac(0), host_mac(0), 0x86dd, &packet)
}

fn rival(target: &str) -> Vec<u8> {
    let to = group_mac(ALL_NODES);
    advertisement(to, host_mac(7), a6(target), ALL_NODES, 0x20, Some(host_mac(7)))
}

fn heard(address: &str) -> Vec<(u16, IpAddr, [u8; 6])> {
    [(0, address.parse().unwrap(), host_mac(7))].into()
}

#[test]
fn a_tentative_address_is_neither_answered_for_nor_reached_nor_a_source() {
    let mut rig = rig(OWN6, Claim::Tentative);
    rig.introduce6(0, "fe80::10", host_mac(0));
    rig.receive(0, &[solicitation(host_mac(0), a6("fe80::10"), a6(OWN6), Some(host_mac(0)))]);
    rig.receive(0, &[echo6(OWN6)]);
    assert!(rig.sent().is_empty());
    rig.assert_drops(0, &[(Drop::AddressTentative, 2)]);
    let lan = rig.snapshot.interface(IfIndex(0)).unwrap();
    assert!(!lan.owns6(a6(OWN6)) && lan.source6(a6("2001:db8:1::10")).is_none());
    assert_eq!(rig.snapshot.fib6().lookup(a6("2001:db8:1::10")), None, "its network comes with it");
    assert!(rig.contested().is_empty());
}

#[test]
fn whoever_has_a_tentative_address_or_wants_it_too_is_heard() {
    let mut rig = rig(OWN6, Claim::Tentative);
    rig.receive(0, &[rival(OWN6)]);
    assert_eq!(rig.contested(), heard(OWN6));
    rig.receive(0, &[solicitation(host_mac(7), Ipv6Addr::UNSPECIFIED, a6(OWN6), None)]);
    assert_eq!(rig.contested(), heard(OWN6));
    // Our own question, come back.
    rig.receive(0, &[solicitation(router_mac(0), Ipv6Addr::UNSPECIFIED, a6(OWN6), None)]);
    assert!(rig.contested().is_empty() && rig.sent().is_empty());
    rig.assert_drops(0, &[(Drop::EthernetOwnSource, 1)]);
}

#[test]
fn a_tentative_ipv4_address_is_left_alone_and_its_rivals_are_heard() {
    let mut rig = rig(OWN4, Claim::Tentative);
    rig.receive(0, &[v4("10.0.1.10", OWN4).frame(0, &[1])]);
    rig.receive(0, &[arp_request(host_mac(3), a4("10.0.1.10"), a4(OWN4))]);
    rig.assert_drops(0, &[(Drop::ArpNotForUs, 1), (Drop::AddressTentative, 1)]);
    assert!(rig.contested().is_empty());
    let rivals = [
        arp_request(host_mac(7), a4("0.0.0.0"), a4(OWN4)),
        arp_request(host_mac(7), a4(OWN4), a4(OWN4)),
        arp_reply(router_mac(0), host_mac(7), a4(OWN4), a4("0.0.0.0")),
    ];
    for frame in rivals {
        rig.receive(0, &[frame]);
        assert_eq!(rig.contested(), heard(OWN4));
    }
    assert!(rig.sent().is_empty());
}

#[test]
fn an_optimistic_address_works_but_overrides_nobody() {
    let mut rig = rig(OWN6, Claim::Optimistic);
    rig.introduce6(0, "2001:db8:1::10", host_mac(0));
    rig.receive(0, &[solicitation(host_mac(0), a6("2001:db8:1::10"), a6(OWN6), Some(host_mac(0)))]);
    let mac = Some(router_mac(0));
    let reply = advertisement(host_mac(0), router_mac(0), a6(OWN6), a6("2001:db8:1::10"), 0xc0, mac);
    assert_eq!(rig.one(0), reply, "without the override flag");
    rig.receive(0, &[echo6(OWN6)]);
    assert_eq!(rig.one(0)[54], 129);
    rig.receive(0, &[rival(OWN6), rival(OWN6)]);
    assert_eq!(rig.contested(), [heard(OWN6), heard(OWN6)].concat());
    assert!(rig.stack.neighbors6().get(IfIndex(0), a6(OWN6)).is_none(), "no neighbour has it");
}

#[test]
fn an_address_is_announced_once_it_is_ours() {
    let mut rig = Rig::new(&plan(&[&[]]));
    let mut optimistic = plan(&[&[LAN6]]);
    let local = link_local(router_mac(0));
    optimistic.interfaces[0].claims = [a6(OWN6), local].map(|own| (own.into(), Claim::Optimistic)).into();
    *rig.snapshot = Snapshot::build(&optimistic).unwrap();
    rig.turn(|stack, turn| stack.reconfigured(turn));
    assert!(rig.sent().is_empty());
    let settled = rig.snapshot.as_ref().clone().with_claims(|_| Vec::new());
    *rig.snapshot = settled;
    rig.turn(|stack, turn| stack.reconfigured(turn));
    assert_eq!(rig.sent().len(), 2);
}

#[test]
fn a_duplicate_is_another_hosts_and_its_network_goes_on() {
    let mut rig = acquainted(rig(OWN6, Claim::Duplicate));
    // As to any other host of that network.
    let to_it = v6("2001:db8:2::20", OWN6).frame(1, &[1]);
    rig.receive(1, &[to_it]);
    let asked = rig.one(0);
    assert_eq!(asked[54], 135, "it is asked for");
    rig.receive(
        0,
        &[advertisement(
            router_mac(0),
            host_mac(7),
            a6(OWN6),
            link_local(router_mac(0)),
            0x60,
            Some(host_mac(7)),
        )],
    );
    assert_eq!(rig.one(0)[..6], host_mac(7), "and gets it");
    rig.receive(0, &[v6("2001:db8:1::10", "2001:db8:2::20").frame(0, &[2])]);
    assert_eq!(rig.one(1).last(), Some(&2), "the network is routed");
    assert!(rig.contested().is_empty());
}

#[test]
fn without_a_link_local_address_ipv6_is_off() {
    let local = link_local(router_mac(0));
    let mut rig = Rig::new(&claiming(&std::format!("{local}"), Claim::Duplicate));
    rig.introduce4(0, "10.0.1.10", host_mac(0));
    rig.receive(0, &[echo6(OWN6)]);
    rig.receive(1, &[v6("2001:db8:2::20", "2001:db8:1::10").frame(1, &[1])]);
    rig.receive(0, &[solicitation(host_mac(0), a6("fe80::10"), a6(OWN6), Some(host_mac(0)))]);
    let sent = rig.sent();
    assert!(sent.iter().all(|sent| sent.out == 1), "{sent:?}");
    assert_eq!(rig.snapshot.fib6().lookup(a6(OWN6)), None);
    rig.receive(0, &[v4("10.0.1.10", "192.0.2.20").frame(0, &[1])]);
    assert_eq!(rig.one(1)[12..14], [8, 6], "IPv4 is not");
}

#[test]
fn who_uses_an_address_that_is_ours_is_told_of_once_in_ten_seconds() {
    let mut rig = Rig::new(&plan(&[&[LAN, LAN6]]));
    rig.receive(0, &[rival(OWN6), rival(OWN6)]);
    assert_eq!(rig.contested(), heard(OWN6));
    rig.run(core::time::Duration::from_secs(10));
    let claim = arp_request(host_mac(7), a4(OWN4), a4("10.0.1.10"));
    rig.receive(0, &[claim.clone(), claim]);
    assert_eq!(rig.contested(), heard(OWN4));
    assert_eq!(rig.one(0), arp_request(router_mac(0), a4(OWN4), a4(OWN4)), "and defended once");
}
