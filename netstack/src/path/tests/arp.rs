//! ARP and the life of an IPv4 neighbour.

use super::*;
use crate::ethernet;
use crate::neighbor::State;
use crate::sim::*;
use core::time::Duration;
use std::vec::Vec;
use weir_netif::{Drop, IfIndex};

fn known(rig: &Rig, index: u16, host: &str) -> Option<(State, [u8; 6])> {
    rig.stack.neighbors4().get(IfIndex(index), a4(host))
}

fn to_far(n: u8) -> Vec<u8> {
    v4("10.0.1.10", "192.0.2.20").frame(0, &[n])
}

/// A router with a packet from a known host that waits for 192.0.2.20.
fn asking() -> Rig {
    let mut rig = Rig::new(&plan(&[&[LAN], &[WAN]]));
    rig.introduce4(0, "10.0.1.10", host_mac(0));
    rig.receive(0, &[to_far(0)]);
    assert_eq!(rig.one(1), arp_request(router_mac(1), a4("192.0.2.1"), a4("192.0.2.20")));
    rig
}

fn answer() -> Vec<u8> {
    arp_reply(router_mac(1), host_mac(1), a4("192.0.2.20"), a4("192.0.2.1"))
}

#[test]
fn a_request_for_our_address_is_answered_and_its_sender_noted() {
    let mut rig = Rig::new(&plan(&[&[LAN]]));
    rig.receive(0, &[arp_request(host_mac(3), a4("10.0.1.10"), a4("10.0.1.1"))]);
    assert_eq!(rig.one(0), arp_reply(host_mac(3), router_mac(0), a4("10.0.1.1"), a4("10.0.1.10")));
    assert_eq!(known(&rig, 0, "10.0.1.10"), Some((State::Stale, host_mac(3))));
    assert_eq!(rig.totals(0).dropped(Drop::Consumed), 1);
}

#[test]
fn a_padded_request_is_answered() {
    let mut rig = Rig::new(&plan(&[&[LAN]]));
    let mut request = arp_request(host_mac(3), a4("10.0.1.10"), a4("10.0.1.1"));
    request.resize(60, 0);
    rig.receive(0, &[request]);
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn requests_for_others_are_neither_answered_nor_noted() {
    let mut rig = Rig::new(&plan(&[&[LAN], &[WAN]]));
    // The last is an address of ours, on another link.
    for target in ["10.0.1.77", "192.0.2.1"] {
        rig.receive(0, &[arp_request(host_mac(3), a4("10.0.1.10"), a4(target))]);
    }
    assert!(rig.sent().is_empty());
    assert_eq!(known(&rig, 0, "10.0.1.10"), None);
    rig.assert_drops(0, &[(Drop::ArpNotForUs, 2)]);
}

#[test]
fn a_probe_for_our_address_is_answered_without_noting_anyone() {
    let mut rig = Rig::new(&plan(&[&[LAN]]));
    rig.receive(0, &[arp_request(host_mac(3), a4("0.0.0.0"), a4("10.0.1.1"))]);
    assert_eq!(rig.one(0), arp_reply(host_mac(3), router_mac(0), a4("10.0.1.1"), a4("0.0.0.0")));
    assert!(rig.stack.neighbors4().is_empty());
    rig.receive(0, &[arp_request(host_mac(3), a4("0.0.0.0"), a4("10.0.1.77"))]);
    assert!(rig.sent().is_empty());
}

#[test]
fn senders_from_other_networks_are_answered_and_not_noted() {
    let mut rig = Rig::new(&plan(&[&[LAN], &[WAN]]));
    for sender in ["192.0.2.20", "198.51.100.1"] {
        rig.receive(0, &[arp_request(host_mac(3), a4(sender), a4("10.0.1.1"))]);
        assert_eq!(rig.one(0), arp_reply(host_mac(3), router_mac(0), a4("10.0.1.1"), a4(sender)));
    }
    for sender in ["10.0.1.255", "10.0.1.0", "224.0.0.1", "192.0.2.1"] {
        rig.receive(0, &[arp_request(host_mac(3), a4(sender), a4("10.0.1.1"))]);
    }
    assert!(rig.sent().is_empty());
    assert!(rig.stack.neighbors4().is_empty());
    rig.assert_drops(0, &[(Drop::ArpNotForUs, 4)]);
}

#[test]
fn malformed_messages_are_dropped() {
    let mut rig = Rig::new(&plan(&[&[LAN]]));
    let good = arp_request(host_mac(3), a4("10.0.1.10"), a4("10.0.1.1"));
    let broken = |at: usize, byte: u8| {
        let mut frame = good.clone();
        frame[at] = byte;
        frame
    };
    // Hardware, protocol, lengths, operations, and a group as sender.
    let bad = [(15, 6), (16, 9), (18, 8), (19, 16), (21, 3), (21, 0), (20, 1), (22, 3)];
    let mut frames: Vec<_> = bad.iter().map(|&(at, byte)| broken(at, byte)).collect();
    frames.push(good[..41].to_vec());
    rig.receive(0, &frames);
    assert!(rig.sent().is_empty());
    rig.assert_drops(0, &[(Drop::ArpMalformed, frames.len() as u64)]);
}

#[test]
fn an_announcement_corrects_what_is_known_and_adds_nothing() {
    let mut rig = Rig::new(&plan(&[&[LAN]]));
    let announce = |mac| arp_request(mac, a4("10.0.1.10"), a4("10.0.1.10"));
    rig.receive(0, &[announce(host_mac(3))]);
    assert_eq!(known(&rig, 0, "10.0.1.10"), None);
    rig.introduce4(0, "10.0.1.10", host_mac(3));
    rig.receive(0, &[announce(host_mac(4))]);
    assert_eq!(known(&rig, 0, "10.0.1.10"), Some((State::Stale, host_mac(4))));
}

#[test]
fn our_address_is_defended_against_a_rival() {
    let mut rig = Rig::new(&plan(&[&[LAN]]));
    let rival = arp_request(host_mac(3), a4("10.0.1.1"), a4("10.0.1.10"));
    rig.receive(0, std::slice::from_ref(&rival));
    assert_eq!(rig.one(0), arp_request(router_mac(0), a4("10.0.1.1"), a4("10.0.1.1")));
    // Not again within ten seconds: two that insist must not fill the link (RFC 5227 §2.4).
    rig.receive(0, std::slice::from_ref(&rival));
    assert!(rig.sent().is_empty());
    rig.run(Duration::from_secs(11));
    rig.sent();
    rig.receive(0, &[rival]);
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn packets_wait_in_order_for_the_answer() {
    let mut rig = asking();
    rig.receive(0, &[to_far(1), to_far(2)]);
    assert!(rig.sent().is_empty(), "asked once");
    assert_eq!(rig.stack.queued(), 3);
    rig.receive(1, &[answer()]);
    let sent = rig.sent();
    assert_eq!(sent.iter().map(|s| *s.bytes.last().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(sent.iter().all(|s| s.out == 1 && s.bytes[..6] == host_mac(1) && s.bytes[22] == 63));
    assert_eq!(known(&rig, 1, "192.0.2.20"), Some((State::Reachable, host_mac(1))));
}

#[test]
fn the_oldest_of_four_waiting_packets_goes() {
    let mut rig = asking();
    rig.receive(0, &[to_far(1), to_far(2), to_far(3)]);
    rig.assert_drops(0, &[(Drop::NeighborQueueFull, 1)]);
    rig.receive(1, &[answer()]);
    assert_eq!(rig.sent().iter().map(|s| *s.bytes.last().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_request_from_who_is_asked_for_is_an_answer_too() {
    let mut rig = asking();
    rig.receive(1, &[arp_request(host_mac(1), a4("192.0.2.20"), a4("192.0.2.1"))]);
    assert_eq!(rig.sent().len(), 2, "the reply, and what waited");
    assert_eq!(known(&rig, 1, "192.0.2.20"), Some((State::Delay, host_mac(1))));
}

#[test]
fn who_does_not_answer_three_requests_is_unreachable() {
    let mut rig = asking();
    rig.receive(0, &[to_far(1)]);
    rig.run(Duration::from_millis(2700));
    let sent = rig.sent();
    assert_eq!(sent.len(), 2, "asked twice more");
    assert!(sent.iter().all(|s| s.bytes == arp_request(router_mac(1), a4("192.0.2.1"), a4("192.0.2.20"))));
    rig.run(Duration::from_millis(1500));
    let errors = rig.sent();
    assert_eq!(errors.len(), 2, "each packet's sender is told");
    for error in &errors {
        assert_sound(&error.bytes);
        assert_eq!((error.out, &error.bytes[..6]), (0, &host_mac(0)[..]));
        assert_eq!(error.bytes[34..36], [3, 1]);
    }
    rig.assert_drops(0, &[(Drop::NeighborUnreachable, 2)]);
    assert_eq!(known(&rig, 1, "192.0.2.20"), None);
    // And the next packet begins anew.
    rig.receive(0, &[to_far(2)]);
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn nobody_is_told_about_the_loss_of_the_routers_own_packets() {
    let mut rig = Rig::new(&plan(&[&[LAN], &[WAN]]));
    // The sender of the expired packet is not known either, so the error waits and is given up.
    rig.receive(0, &[V4 { ttl: 1, ..v4("10.0.1.10", "192.0.2.20") }.frame(0, b"x")]);
    rig.run(Duration::from_secs(5));
    assert!(rig.sent().iter().all(|s| ethernet::kind(&s.bytes) == Some(ethernet::ARP)));
    rig.assert_drops(0, &[(Drop::TtlExpired, 1), (Drop::NeighborUnreachable, 1)]);
}

#[test]
fn a_used_neighbor_is_probed_and_kept_or_lost() {
    for answers in [true, false] {
        let mut rig = asking();
        rig.receive(1, &[answer()]);
        rig.sent();
        rig.run(Duration::from_secs(46));
        assert_eq!(known(&rig, 1, "192.0.2.20").unwrap().0, State::Stale);
        rig.receive(0, &[to_far(1)]);
        assert_eq!(rig.sent().len(), 1, "stale is good enough to send");
        assert_eq!(known(&rig, 1, "192.0.2.20").unwrap().0, State::Delay);
        rig.run(Duration::from_millis(5500));
        assert_eq!(known(&rig, 1, "192.0.2.20").unwrap().0, State::Probe);
        let probe = rig.one(1);
        assert_eq!(probe[..6], host_mac(1), "only the one that had it is asked");
        assert_eq!(&probe[38..42], &a4("192.0.2.20").octets());
        if answers {
            rig.receive(1, &[answer()]);
            rig.run(Duration::from_secs(10));
            assert_eq!(known(&rig, 1, "192.0.2.20").unwrap().0, State::Reachable);
            assert!(rig.sent().is_empty());
        } else {
            rig.run(Duration::from_secs(4));
            assert_eq!(rig.sent().len(), 2, "three probes in all");
            assert_eq!(known(&rig, 1, "192.0.2.20"), None);
        }
    }
}

#[test]
fn an_unused_neighbor_is_forgotten_in_silence() {
    let mut rig = asking();
    rig.receive(1, &[answer()]);
    rig.sent();
    rig.run(Duration::from_secs(45 + 601));
    assert_eq!(known(&rig, 1, "192.0.2.20"), None);
    assert!(rig.sent().is_empty());
}

#[test]
fn a_scan_of_the_network_costs_no_working_neighbor_its_entry() {
    let mut plan = plan(&[&[LAN], &["172.16.0.1/16"]]);
    plan.interfaces[1].mac = router_mac(1);
    let settings = crate::stack::Settings { neighbors: 64, ..Default::default() };
    let mut rig = Rig::with(&plan, settings);
    let friends: Vec<_> = (1..40u8).map(|n| std::format!("172.16.255.{n}")).collect();
    for (friend, n) in friends.iter().zip(100..) {
        rig.receive(0, &[v4("10.0.1.10", friend).frame(0, b"x")]);
        rig.receive(1, &[arp_reply(router_mac(1), host_mac(n), a4(friend), a4("172.16.0.1"))]);
    }
    rig.sent();
    for n in 0..2000u32 {
        let target = std::format!("172.16.{}.{}", n / 250, n % 250 + 2);
        rig.receive(0, &[v4("10.0.1.10", &target).frame(0, b"x")]);
    }
    rig.sent();
    for (friend, n) in friends.iter().zip(100..) {
        assert_eq!(known(&rig, 1, friend), Some((State::Reachable, host_mac(n))));
    }
    assert!(rig.stack.queued() <= 16, "a quarter of the table at most is for the unresolved");
    assert!(rig.totals(0).dropped(Drop::NeighborTableFull) > 1900);
}

#[test]
fn a_scan_makes_the_router_ask_at_a_bounded_rate() {
    let mut rig = Rig::new(&plan(&[&[LAN], &["172.16.0.1/16"]]));
    let mut asked = 0;
    for n in 0..10_000u32 {
        let target = std::format!("172.16.{}.{}", n / 250 % 250, n % 250 + 2);
        rig.receive(0, &[v4("10.0.1.10", &target).frame(0, b"x")]);
        asked += rig.sent().len();
    }
    assert_eq!(asked, 1000, "the burst, for no time has passed");
}

#[test]
fn who_is_asked_for_longest_gives_way_when_too_many_are() {
    let settings = crate::stack::Settings { neighbors: 16, ..Default::default() };
    let mut rig = Rig::with(&plan(&[&[LAN], &[WAN]]), settings);
    for n in 20..25 {
        rig.receive(0, &[v4("10.0.1.10", &std::format!("192.0.2.{n}")).frame(0, &[n])]);
    }
    rig.assert_drops(0, &[(Drop::NeighborTableFull, 1)]);
    rig.sent();
    let reply =
        |n: u8| arp_reply(router_mac(1), host_mac(n), a4(&std::format!("192.0.2.{n}")), a4("192.0.2.1"));
    rig.receive(1, &(20..25).map(reply).collect::<Vec<_>>());
    assert_eq!(rig.sent().iter().map(|s| *s.bytes.last().unwrap()).collect::<Vec<_>>(), [21, 22, 23, 24]);
}

#[test]
fn forged_requests_push_out_no_neighbor_in_use() {
    let settings = crate::stack::Settings { neighbors: 64, ..Default::default() };
    let mut rig = Rig::with(&plan(&[&[LAN], &["172.16.0.1/16"]]), settings);
    rig.receive(0, &[v4("10.0.1.10", "172.16.255.1").frame(0, b"x")]);
    rig.receive(1, &[arp_reply(router_mac(1), host_mac(1), a4("172.16.255.1"), a4("172.16.0.1"))]);
    for n in 0..1000u32 {
        let forged = std::format!("172.16.{}.{}", n / 250, n % 250 + 2);
        rig.receive(1, &[arp_request(host_mac(9), a4(&forged), a4("172.16.0.1"))]);
    }
    rig.sent();
    assert_eq!(known(&rig, 1, "172.16.255.1"), Some((State::Reachable, host_mac(1))));
    assert_eq!(rig.stack.neighbors4().len(), 64);
    // A new neighbour finds its place nevertheless.
    rig.receive(0, &[v4("10.0.1.10", "172.16.255.2").frame(0, b"x")]);
    rig.receive(1, &[arp_reply(router_mac(1), host_mac(2), a4("172.16.255.2"), a4("172.16.0.1"))]);
    assert_eq!(known(&rig, 1, "172.16.255.2"), Some((State::Reachable, host_mac(2))));
}

#[test]
fn what_one_cpu_learns_another_applies() {
    let mut first = Rig::new(&plan(&[&[LAN], &[WAN]]));
    let mut second = Rig::new(&plan(&[&[LAN], &[WAN]]));
    second.receive(0, &[to_far(7)]);
    second.sent();
    assert_eq!(second.stack.events().count(), 1, "that it has asked");
    first.receive(1, &[arp_request(host_mac(1), a4("192.0.2.20"), a4("192.0.2.1"))]);
    let events: Vec<_> = first.stack.events().collect();
    assert_eq!(events.len(), 1);
    for event in events {
        second.turn(|stack, turn| stack.apply(turn, event));
    }
    assert_eq!(second.one(1).last(), Some(&7));
    assert_eq!(second.stack.events().count(), 0, "what was told is not told again");
    assert_eq!(known(&second, 1, "192.0.2.20"), Some((State::Delay, host_mac(1))));
}

#[test]
fn only_one_cpu_asks_and_all_send_once_it_is_answered() {
    let mut first = Rig::new(&plan(&[&[LAN], &[WAN]]));
    let mut second = Rig::new(&plan(&[&[LAN], &[WAN]]));
    first.receive(0, &[to_far(1)]);
    assert_eq!(first.sent().len(), 1, "it asks");
    let asked: Vec<_> = first.stack.events().collect();
    asked.into_iter().for_each(|event| second.turn(|stack, turn| stack.apply(turn, event)));
    second.receive(0, &[to_far(2)]);
    assert!(second.sent().is_empty(), "it waits for the answer to the other's question");
    first.receive(1, &[arp_reply(router_mac(1), host_mac(1), a4("192.0.2.20"), a4("192.0.2.1"))]);
    assert_eq!(first.one(1).last(), Some(&1));
    let answered: Vec<_> = first.stack.events().collect();
    answered.into_iter().for_each(|event| second.turn(|stack, turn| stack.apply(turn, event)));
    assert_eq!(second.one(1).last(), Some(&2));
    assert_eq!(known(&second, 1, "192.0.2.20"), Some((State::Reachable, host_mac(1))));
}

#[test]
fn a_cpu_asks_itself_when_the_others_question_stays_unanswered() {
    let mut first = Rig::new(&plan(&[&[LAN], &[WAN]]));
    let mut second = Rig::new(&plan(&[&[LAN], &[WAN]]));
    let mut third = Rig::new(&plan(&[&[LAN], &[WAN]]));
    first.receive(0, &[to_far(1)]);
    for event in first.stack.events() {
        second.turn(|stack, turn| stack.apply(turn, event));
        third.turn(|stack, turn| stack.apply(turn, event));
    }
    second.receive(0, &[to_far(2)]);
    second.run(Duration::from_secs(2));
    assert!(!second.sent().is_empty(), "it asks after a second");
    third.run(Duration::from_secs(10));
    assert!(third.sent().is_empty(), "nothing waits there");
    assert_eq!(known(&third, 1, "192.0.2.20"), None);
}

#[test]
fn an_answer_that_overtakes_the_question_is_not_lost() {
    let mut first = Rig::new(&plan(&[&[LAN], &[WAN]]));
    let mut second = Rig::new(&plan(&[&[LAN], &[WAN]]));
    first.receive(0, &[to_far(1)]);
    let asked: Vec<_> = first.stack.events().collect();
    first.receive(1, &[arp_reply(router_mac(1), host_mac(1), a4("192.0.2.20"), a4("192.0.2.1"))]);
    let answered: Vec<_> = first.stack.events().collect();
    for event in answered.into_iter().chain(asked) {
        second.turn(|stack, turn| stack.apply(turn, event));
    }
    second.receive(0, &[to_far(2)]);
    assert_eq!(second.one(1).last(), Some(&2));
}

#[test]
fn an_answer_to_another_cpu_is_passed_on_and_makes_no_entry() {
    let mut asking = Rig::new(&plan(&[&[LAN], &[WAN]]));
    let mut receiving = Rig::new(&plan(&[&[LAN], &[WAN]]));
    let mut third = Rig::new(&plan(&[&[LAN], &[WAN]]));
    asking.receive(0, &[to_far(1)]);
    asking.sent();
    receiving.receive(1, &[arp_reply(router_mac(1), host_mac(1), a4("192.0.2.20"), a4("192.0.2.1"))]);
    for event in receiving.stack.events() {
        asking.turn(|stack, turn| stack.apply(turn, event));
        third.turn(|stack, turn| stack.apply(turn, event));
    }
    assert_eq!(asking.one(1).last(), Some(&1));
    assert_eq!((known(&receiving, 1, "192.0.2.20"), known(&third, 1, "192.0.2.20")), (None, None));
}
