//! Neighbour discovery, and router advertisements.

use super::*;
use crate::address::{ALL_NODES, ALL_ROUTERS, group_mac, link_local};
use crate::neighbor::State;
use crate::sim::*;
use crate::snapshot::{Advertise, Advertisement};
use crate::stack::{Duty, Event, Settings};
use core::net::Ipv6Addr;
use core::time::Duration;
use std::vec;
use std::vec::Vec;
use weir_netif::{Drop, IfIndex};

const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

fn known(rig: &Rig, index: u16, host: &str) -> Option<(State, [u8; 6])> {
    rig.stack.neighbors6().get(IfIndex(index), a6(host))
}

fn to_far(n: u8) -> Vec<u8> {
    v6("2001:db8:1::10", "2001:db8:2::20").frame(0, &[n])
}

fn asking() -> Rig {
    let mut rig = Rig::new(&plan(&[&[LAN6], &[WAN6]]));
    rig.introduce6(0, "2001:db8:1::10", host_mac(0));
    rig.receive(0, &[to_far(0)]);
    let own = link_local(router_mac(1));
    let expected = solicitation(router_mac(1), own, a6("2001:db8:2::20"), Some(router_mac(1)));
    assert_eq!(rig.one(1), expected);
    rig
}

fn answer(flags: u8, mac: Option<[u8; 6]>) -> Vec<u8> {
    let own = link_local(router_mac(1));
    advertisement(router_mac(1), host_mac(1), a6("2001:db8:2::20"), own, flags, mac)
}

fn answered() -> Rig {
    let mut rig = asking();
    rig.receive(1, &[answer(SOLICITED | OVERRIDE, Some(host_mac(1)))]);
    assert_eq!(rig.one(1).last(), Some(&0));
    assert_eq!(known(&rig, 1, "2001:db8:2::20"), Some((State::Reachable, host_mac(1))));
    rig
}

#[test]
fn a_solicitation_for_our_address_is_answered_and_its_sender_noted() {
    let mut rig = Rig::new(&plan(&[&[LAN6]]));
    let host = a6("2001:db8:1::10");
    for (target, flags) in [
        ("2001:db8:1::1", 0xe0),
        ("fe80::5054:ff:fe00:0", 0xe0),
        // The subnet-router anycast address: others may have it too.
        ("2001:db8:1::", 0xc0),
    ] {
        rig.receive(0, &[solicitation(host_mac(3), host, a6(target), Some(host_mac(3)))]);
        let reply = rig.one(0);
        let expected =
            advertisement(host_mac(3), router_mac(0), a6(target), host, flags, Some(router_mac(0)));
        assert_eq!(reply, expected);
        assert_sound(&reply);
    }
    assert_eq!(known(&rig, 0, "2001:db8:1::10"), Some((State::Stale, host_mac(3))));
}

#[test]
fn a_solicitation_without_a_station_address_goes_back_where_it_came_from() {
    let mut rig = Rig::new(&plan(&[&[LAN6]]));
    rig.receive(0, &[solicitation(host_mac(3), a6("2001:db8:1::10"), a6("2001:db8:1::1"), None)]);
    assert_eq!(rig.one(0)[..6], host_mac(3));
    assert_eq!(known(&rig, 0, "2001:db8:1::10"), None);
}

#[test]
fn whoever_wants_our_address_is_told_before_all() {
    let mut rig = Rig::new(&plan(&[&[LAN6]]));
    rig.receive(0, &[solicitation(host_mac(3), Ipv6Addr::UNSPECIFIED, a6("2001:db8:1::1"), None)]);
    let expected = advertisement(
        group_mac(ALL_NODES),
        router_mac(0),
        a6("2001:db8:1::1"),
        ALL_NODES,
        0xa0,
        Some(router_mac(0)),
    );
    assert_eq!(rig.one(0), expected);
    assert!(rig.stack.neighbors6().is_empty());
}

#[test]
fn solicitations_for_others_are_ignored() {
    let mut rig = Rig::new(&plan(&[&[LAN6], &[WAN6]]));
    let host = a6("2001:db8:1::10");
    let ask = |target: &str| {
        let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
        message.extend(a6(target).octets());
        discovery(router_mac(0), host_mac(3), host, a6("2001:db8:1::1"), &message)
    };
    rig.receive(0, &[ask("2001:db8:1::77"), ask("2001:db8:2::1")]);
    assert!(rig.sent().is_empty());
    rig.assert_drops(0, &[(Drop::NdNotForUs, 2)]);
    // Nobody here has an address with these low bits.
    rig.receive(0, &[solicitation(host_mac(3), host, a6("2001:db8:1::77:7777"), None)]);
    assert_eq!(rig.totals(0).dropped(Drop::MulticastNotJoined), 1);
}

#[test]
fn messages_that_fail_validation_are_dropped() {
    let own = a6("2001:db8:1::1");
    let host = a6("2001:db8:1::10");
    let to_us = |source: Ipv6Addr, hops: u8, message: &[u8]| {
        let (source, destination) = (std::string::ToString::to_string(&source), "2001:db8:1::1");
        let packet = V6 { hops, ..v6(&source, destination) }.icmp(message);
        frame(router_mac(0), host_mac(3), 0x86dd, &packet)
    };
    let solicit = |code: u8, target: Ipv6Addr, options: &[u8]| {
        [&[135, code, 0, 0, 0, 0, 0, 0], &target.octets()[..], options].concat()
    };
    let good = solicit(0, own, &[]);
    let group = a6("ff02::1");
    let advertise = |flags: u8, to: Ipv6Addr| {
        let mac = Some(host_mac(3));
        advertisement(router_mac(0), host_mac(3), a6("2001:db8:1::10"), to, flags, mac)
    };
    let cases = [
        to_us(host, 254, &good),
        to_us(host, 255, &solicit(1, own, &[])),
        to_us(host, 255, &good[..23]),
        to_us(host, 255, &solicit(0, a6("ff02::1"), &[])),
        to_us(host, 255, &solicit(0, own, &[1, 0, 0, 0, 0, 0, 0, 0])),
        to_us(host, 255, &solicit(0, own, &[1, 2, 0, 0, 0, 0, 0, 0])),
        to_us(host, 255, &solicit(0, own, &[1])),
        to_us(host, 255, &solicit(0, own, &[1, 1, 3, 0, 0, 0, 0, 1])),
        // From nobody, with an address of his, and not to the group that asks whether it is free.
        solicitation(host_mac(3), Ipv6Addr::UNSPECIFIED, own, Some(host_mac(3))),
        discovery(group_mac(group), host_mac(3), Ipv6Addr::UNSPECIFIED, group, &good),
        // Solicited, but to all.
        advertise(SOLICITED, group),
        to_us(host, 255, &[&[136, 0, 0, 0, 0, 0, 0, 0], &group.octets()[..]].concat()),
        to_us(host, 255, &[133, 0, 0, 0, 0, 0, 0]),
        // A router advertisement from no link-local address.
        to_us(host, 255, &[134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ];
    let mut rig = Rig::new(&plan(&[&[LAN6]]));
    for (n, case) in cases.iter().enumerate() {
        rig.receive(0, std::slice::from_ref(case));
        assert!(rig.sent().is_empty(), "case {n}");
        let totals = rig.totals(0);
        let counted = totals.dropped(Drop::NdMalformed) + totals.dropped(Drop::IcmpMalformed);
        assert_eq!(counted, n as u64 + 1, "case {n}: {:?}", totals.drops().collect::<Vec<_>>());
    }
    assert_eq!(rig.totals(0).dropped(Drop::IcmpMalformed), 1, "the one shorter than a header");
    let mut damaged = to_us(host, 255, &good);
    *damaged.last_mut().unwrap() ^= 1;
    rig.receive(0, &[damaged]);
    assert_eq!(rig.totals(0).dropped(Drop::IcmpMalformed), 2, "and one with a wrong checksum");
}

#[test]
fn unknown_options_are_skipped() {
    let mut rig = Rig::new(&plan(&[&[LAN6]]));
    let own = a6("2001:db8:1::1");
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(own.octets());
    message.extend([14, 1, 1, 2, 3, 4, 5, 6, 1, 1, 2, 0, 0, 0, 0, 3]);
    rig.receive(0, &[discovery(router_mac(0), host_mac(3), a6("2001:db8:1::10"), own, &message)]);
    assert_eq!(rig.sent().len(), 1);
    assert_eq!(known(&rig, 0, "2001:db8:1::10"), Some((State::Stale, host_mac(3))));
}

#[test]
fn an_answer_without_a_station_address_resolves_nothing() {
    let mut rig = asking();
    rig.receive(1, &[answer(SOLICITED | OVERRIDE, None)]);
    assert!(rig.sent().is_empty());
    assert_eq!(known(&rig, 1, "2001:db8:2::20").unwrap().0, State::Incomplete);
}

#[test]
fn an_unsolicited_answer_resolves_but_proves_nothing() {
    let mut rig = asking();
    rig.receive(1, &[answer(0, Some(host_mac(1)))]);
    assert_eq!(rig.sent().len(), 1);
    assert_eq!(known(&rig, 1, "2001:db8:2::20"), Some((State::Delay, host_mac(1))));
}

#[test]
fn without_the_override_flag_another_station_only_casts_doubt() {
    let mut rig = answered();
    rig.receive(1, &[answer(0, Some(host_mac(8)))]);
    assert_eq!(known(&rig, 1, "2001:db8:2::20"), Some((State::Stale, host_mac(1))));
    rig.receive(1, &[answer(OVERRIDE, Some(host_mac(8)))]);
    assert_eq!(known(&rig, 1, "2001:db8:2::20"), Some((State::Stale, host_mac(8))));
}

#[test]
fn an_announcement_of_what_is_known_changes_nothing() {
    let mut rig = answered();
    rig.receive(1, &[answer(OVERRIDE, Some(host_mac(1))), answer(0, None)]);
    assert_eq!(known(&rig, 1, "2001:db8:2::20"), Some((State::Reachable, host_mac(1))));
}

#[test]
fn who_does_not_answer_three_solicitations_is_unreachable() {
    let mut rig = asking();
    rig.run(Duration::from_secs(4));
    let sent = rig.sent();
    let (asked, told): (Vec<_>, Vec<_>) = sent.iter().partition(|s| s.out == 1);
    assert_eq!((asked.len(), told.len()), (2, 1));
    assert_sound(&told[0].bytes);
    assert_eq!(told[0].bytes[54..56], [1, 3]);
    rig.assert_drops(0, &[(Drop::NeighborUnreachable, 1)]);
}

#[test]
fn a_used_neighbor_is_probed() {
    let mut rig = answered();
    rig.run(Duration::from_secs(46));
    rig.receive(0, &[to_far(1)]);
    rig.sent();
    rig.run(Duration::from_millis(5500));
    let probe = rig.one(1);
    assert_sound(&probe);
    assert_eq!(probe[..6], host_mac(1));
    assert_eq!(&probe[38..54], &a6("2001:db8:2::20").octets());
    rig.receive(1, &[answer(SOLICITED, None)]);
    assert_eq!(known(&rig, 1, "2001:db8:2::20"), Some((State::Reachable, host_mac(1))));
}

/// A rig that advertises on interface 0.
fn advertising(settings: Settings) -> Rig {
    let mut plan = plan(&[&[LAN6, "2001:db8:5::1/64", "2001:db8:1::2/64", "2001:db8:6::1/80"], &[WAN6]]);
    plan.interfaces[0].advertise = Advertise::On(Advertisement::default());
    plan.interfaces[0].mtu = 1400;
    Rig::with(&plan, settings)
}

fn router_solicitation() -> Vec<u8> {
    let message = [133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 3];
    discovery(group_mac(ALL_ROUTERS), host_mac(3), a6("fe80::3"), ALL_ROUTERS, &message)
}

#[test]
fn what_other_routers_say_is_handed_on_where_it_is_wanted() {
    let mut message = [0; 16];
    (message[0], message[4], message[7]) = (134, 64, 100);
    let from = |source| discovery(group_mac(ALL_NODES), host_mac(3), a6(source), ALL_NODES, &message);
    let told = from("fe80::3");
    let mut plan = plan(&[&[LAN6], &[WAN6]]);
    plan.interfaces[1].heeds_routers = true;
    let mut rig = Rig::new(&plan);
    rig.receive(0, core::slice::from_ref(&told));
    assert!(rig.heard().is_empty());
    rig.receive(1, core::slice::from_ref(&told));
    let heard = rig.heard();
    let [(1, router, message)] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!((*router, &message[..2], &message[4..]), (a6("fe80::3"), &told[54..56], &told[58..]));
    // From beyond the link, or from no router's address, it is no advertisement.
    let mut far = told.clone();
    far[21] = 64;
    rig.receive(1, &[far, from("2001:db8:2::3")]);
    assert!(rig.heard().is_empty());
}

#[test]
fn an_advertisement_says_what_hosts_need() {
    let mut rig = advertising(Settings::default());
    rig.tick();
    let sent = rig.one(0);
    assert_sound(&sent);
    assert_eq!(sent[..6], group_mac(ALL_NODES));
    let ip = &sent[14..];
    assert_eq!((ip[6], ip[7]), (58, 255));
    assert_eq!(ip[8..24], link_local(router_mac(0)).octets());
    assert_eq!(ip[24..40], ALL_NODES.octets());
    let ra = &ip[40..];
    assert_eq!((ra[0], ra[1], ra[4], &ra[6..8]), (134, 0, 64, &1800u16.to_be_bytes()[..]));
    let options: Vec<&[u8]> = {
        let mut rest = &ra[16..];
        let mut options = Vec::new();
        while !rest.is_empty() {
            let (option, after) = rest.split_at(usize::from(rest[1]) * 8);
            options.push(option);
            rest = after;
        }
        options
    };
    assert_eq!(options[0], [&[1, 1][..], &router_mac(0)].concat());
    assert_eq!(options[1], [5, 1, 0, 0, 0, 0, 5, 120]);
    let prefix = |net: &str, len: u8, flags: u8| {
        let fixed = [3, 4, len, flags, 0, 0x27, 0x8d, 0, 0, 0x09, 0x3a, 0x80, 0, 0, 0, 0];
        [&fixed[..], &a6(net).octets()].concat()
    };
    assert_eq!(options[2], prefix("2001:db8:1::", 64, 0xc0));
    assert_eq!(options[3], prefix("2001:db8:5::", 64, 0xc0));
    assert_eq!(options[4], prefix("2001:db8:6::", 80, 0x80));
    assert_eq!(options.len(), 5, "each prefix once");
}

#[test]
fn advertisements_begin_quickly_and_go_on_at_random_intervals() {
    let mut rig = advertising(Settings::default());
    let mut times = Vec::new();
    let start = rig.now;
    while rig.now < start + Duration::from_secs(4000) {
        rig.run(Duration::from_millis(100));
        times.extend(rig.sent().iter().map(|s| {
            assert_eq!(s.out, 0);
            (rig.now - start).as_secs_f64()
        }));
    }
    assert!(times[0] < 0.2);
    let gaps: Vec<f64> = times.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(gaps[..2].iter().all(|gap| *gap <= 16.2), "{gaps:?}");
    assert!(gaps[2..].iter().all(|gap| (199.8..600.2).contains(gap)), "{gaps:?}");
    assert!(gaps.len() > 8);
}

#[test]
fn a_solicitation_hastens_the_next_advertisement() {
    let mut rig = advertising(Settings::default());
    rig.tick();
    rig.run(Duration::from_secs(60));
    rig.sent();
    rig.receive(0, &[router_solicitation()]);
    rig.run(Duration::from_millis(550));
    assert_eq!(rig.sent().len(), 1);
    assert_eq!(known(&rig, 0, "fe80::3"), Some((State::Stale, host_mac(3))));
    // A storm of them does not: three seconds lie between advertisements to all.
    let mut count = 0;
    for _ in 0..120 {
        rig.receive(0, &[router_solicitation()]);
        rig.run(Duration::from_millis(100));
        count += rig.sent().len();
    }
    assert!((2..=4).contains(&count), "{count} in 12 seconds");
}

#[test]
fn a_solicitation_on_a_silent_interface_is_not_answered() {
    let mut rig = advertising(Settings::default());
    rig.tick();
    rig.sent();
    rig.receive(1, &[router_solicitation()]);
    rig.run(Duration::from_secs(3));
    assert!(rig.sent().iter().all(|s| s.out == 0));
}

#[test]
fn only_the_speaker_advertises_and_others_pass_the_wish_on() {
    let worker = Settings { duty: Duty::Worker, ..Settings::default() };
    let mut rig = advertising(worker);
    rig.run(Duration::from_secs(20));
    rig.receive(0, &[router_solicitation()]);
    rig.run(Duration::from_secs(20));
    assert!(rig.sent().is_empty());
    let events: Vec<_> = rig.stack.events().collect();
    assert_eq!(events.last(), Some(&Event::RouterSolicited(IfIndex(0))));
    let mut speaker = advertising(Settings::default());
    speaker.run(Duration::from_secs(60));
    speaker.sent();
    for event in events {
        speaker.turn(|stack, turn| stack.apply(turn, event));
    }
    speaker.run(Duration::from_secs(1));
    assert_eq!(speaker.sent().len(), 1);
}
