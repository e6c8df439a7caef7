//! One snapshot after another.

use super::*;
use crate::Snapshot;
use crate::sim::*;
use crate::snapshot::{Advertise, Advertisement, State};
use crate::stack::{Duty, Settings};
use weir_netif::{Drop, IfIndex};

fn replace(rig: &mut Rig, plan: &crate::Plan) {
    *rig.snapshot = Snapshot::build(plan).unwrap();
    rig.turn(|stack, turn| stack.reconfigured(turn));
}

#[test]
fn an_address_appears_with_its_routes() {
    let mut before = plan(&[&[LAN], &[]]);
    let mut rig = Rig::new(&before);
    rig.introduce4(0, "10.0.1.10", host_mac(0));
    let to_host = v4("10.0.1.10", "192.0.2.20").frame(0, b"x");
    let to_router = V4 { protocol: 132, ..v4("10.0.1.10", "192.0.2.1") }.frame(0, b"x");
    rig.receive(0, &[to_host.clone(), to_router.clone()]);
    assert_eq!(rig.totals(0).dropped(Drop::NoRoute), 2);
    before.interfaces[1].addresses = [prefix(WAN)].into();
    replace(&mut rig, &before);
    rig.sent();
    rig.receive(0, &[to_host, to_router]);
    assert_eq!(rig.totals(0).dropped(Drop::NoRoute), 2);
    assert_eq!(rig.totals(0).dropped(Drop::LocalProtocol), 1);
    rig.introduce4(1, "192.0.2.20", host_mac(1));
    assert_eq!(rig.stack.queued(), 0);
}

#[test]
fn new_addresses_are_announced_to_the_link() {
    let mut rig = Rig::new(&plan(&[&[]]));
    replace(&mut rig, &plan(&[&[LAN, LAN6]]));
    let sent = rig.sent();
    assert_eq!(sent.len(), 3, "ARP, and both IPv6 addresses");
    assert_eq!(sent[0].bytes, arp_request(router_mac(0), a4("10.0.1.1"), a4("10.0.1.1")));
    sent.iter().for_each(|s| assert_sound(&s.bytes));
    let worker = Settings { duty: Duty::Worker, ..Settings::default() };
    let mut silent = Rig::with(&plan(&[&[LAN, LAN6]]), worker);
    silent.turn(|stack, turn| stack.reconfigured(turn));
    assert!(silent.sent().is_empty(), "one CPU speaks for all");
}

#[test]
fn what_a_link_was_told_is_not_told_again() {
    let mut plan = plan(&[&[LAN, LAN6], &[WAN]]);
    let mut rig = Rig::new(&plan);
    replace(&mut rig, &plan);
    assert_eq!(rig.sent().len(), 5, "two of IPv4, one of IPv6, two of links");
    replace(&mut rig, &plan);
    assert!(rig.sent().is_empty(), "nothing is new");

    plan.interfaces[1].addresses.push(prefix("203.0.113.1/24"));
    replace(&mut rig, &plan);
    let sent = rig.one(1);
    assert_eq!(sent, arp_request(router_mac(1), a4("203.0.113.1"), a4("203.0.113.1")));

    plan.interfaces[1].mac = [2, 0, 0, 0, 9, 9];
    replace(&mut rig, &plan);
    let sent = rig.sent();
    assert_eq!(sent.len(), 3, "another station has all of them");
    assert!(sent.iter().all(|s| s.out == 1 && s.bytes[6..12] == plan.interfaces[1].mac));

    down(&mut plan, 0);
    replace(&mut rig, &plan);
    assert!(rig.sent().is_empty());
    plan.interfaces[0].state = State::Up;
    replace(&mut rig, &plan);
    let sent = rig.sent();
    assert_eq!(sent.len(), 3, "the link came up");
    assert!(sent.iter().all(|s| s.out == 0));

    // Taken away and given again.
    let removed = plan.interfaces[1].addresses.remove(0);
    replace(&mut rig, &plan);
    assert!(rig.sent().is_empty());
    plan.interfaces[1].addresses.push(removed);
    replace(&mut rig, &plan);
    assert_eq!(rig.one(1)[28..32], a4("192.0.2.1").octets());
}

#[test]
fn neighbors_of_a_lost_link_are_forgotten() {
    let mut plan = plan(&[&[LAN, LAN6], &[WAN, WAN6]]);
    let mut rig = acquainted(Rig::new(&plan));
    rig.receive(0, &[v4("10.0.1.10", "192.0.2.77").frame(0, b"x")]);
    rig.receive(0, &[v6("2001:db8:1::10", "2001:db8:2::77").frame(0, b"x")]);
    assert_eq!(rig.stack.queued(), 2);
    down(&mut plan, 1);
    replace(&mut rig, &plan);
    assert_eq!(rig.stack.queued(), 0);
    rig.assert_drops(0, &[(Drop::InterfaceDown, 2)]);
    assert!(rig.stack.neighbors4().get(IfIndex(1), a4("192.0.2.20")).is_none());
    assert!(rig.stack.neighbors4().get(IfIndex(0), a4("10.0.1.10")).is_some());
}

#[test]
fn who_ceases_to_advertise_says_so() {
    let mut plan = plan(&[&[LAN6]]);
    plan.interfaces[0].advertise = Advertise::On(Advertisement::default());
    let mut rig = Rig::new(&plan);
    rig.tick();
    rig.sent();
    plan.interfaces[0].advertise = Advertise::Off;
    replace(&mut rig, &plan);
    rig.sent();
    rig.tick();
    let farewell = rig.one(0);
    assert_eq!((farewell[54], &farewell[60..62]), (134, &[0, 0][..]));
    rig.tick();
    assert!(rig.sent().is_empty());
}
