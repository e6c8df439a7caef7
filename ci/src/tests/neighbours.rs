//! ARP and neighbour discovery: whose questions are answered, how the router asks, what it keeps meanwhile, and the
//! router advertisements (RFC 826, RFC 4861).

use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::forwarding::{everything_works, expect_v4, udp_v4, udp_v6};
use super::{Context, Needs, Test};
use crate::frame::{self, Arp, Frame, ICMPV6, Icmp, Ipv6, Mac, UDP};
use crate::host::Switch;
use crate::rig::{FrameRig, PATIENCE, SILENCE};
use crate::router::Config;

pub(super) fn tests() -> Vec<Test> {
    let plain = Needs::default();
    let weir = Needs { weir: true, ..plain };
    vec![
        Test::new("asks-by-arp", plain, asks_by_arp),
        Test::new("asks-by-solicitation", plain, asks_by_solicitation),
        Test::new("answers-only-its-own-addresses", plain, answers_only_its_own),
        Test::new("keeps-three-packets-for-a-neighbour", weir, keeps_three),
        Test::new("follows-a-neighbour-that-changes-its-mac", plain, follows_change),
        Test::new("survives-an-address-scan", plain, address_scan),
        Test::new("advertises-itself", weir, advertises),
        Test::new("advertises-nothing-unasked-for", weir, advertises_nothing),
    ]
}

fn rig(cx: &Context, config: Config) -> Result<FrameRig> {
    FrameRig::start(cx.image, config, 2, |_| ())
}

fn asks_by_arp(cx: &Context) -> Result<()> {
    rig(cx, Config::two_ports())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        b.answer(Switch::Off);
        a.send_v4(&udp_v4(a, b, b"first"))?;
        let own = *b.identity();
        let (frame, arp) = b.expect("an ARP request", PATIENCE, |frame| {
            let arp = frame.arp().filter(|arp| arp.operation == 1 && arp.target == own.v4)?.clone();
            Some((frame.clone(), arp))
        })?;
        ensure!(frame.destination == Mac::BROADCAST, "the request goes to {}", frame.destination);
        ensure!((frame.source, arp.sender_mac) == (own.gateway_mac, own.gateway_mac), "sender: {frame:?}");
        ensure!(arp.sender == own.gateway_v4, "the request's sender address is {}", arp.sender);
        b.answer(Switch::On);
        // It asks again; the packet has waited.
        let got = b.expect("the packet that waited", Duration::from_secs(4), |frame| {
            frame.v4().filter(|p| p.protocol == UDP).cloned()
        })?;
        ensure!(got.ttl == 63, "it waited and came with TTL {}", got.ttl);
        Ok(())
    })
}

fn asks_by_solicitation(cx: &Context) -> Result<()> {
    rig(cx, Config::two_ports())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        b.answer(Switch::Off);
        let own = *b.identity();
        let solicitation = |frame: &Frame| {
            let icmp = frame.icmp().filter(|icmp| icmp.kind == 135 && icmp.body.len() >= 24)?;
            let packet = frame.v6()?.clone();
            (frame::v6_at(&icmp.body, 0) == own.v6).then(|| (frame.clone(), packet, icmp))
        };
        // An address under duplicate detection cannot send yet; the packet is repeated meanwhile.
        let mut asked = None;
        for _ in 0..6 {
            a.send_v6(&udp_v6(a, b, b"first"))?;
            asked = b.expect("a solicitation", Duration::from_millis(600), solicitation).ok();
            if asked.is_some() {
                break;
            }
        }
        let (frame, packet, icmp) = asked.context("no neighbour solicitation came")?;
        let group = frame::solicited_node(own.v6);
        ensure!(packet.destination == group, "it goes to {}, want {group}", packet.destination);
        ensure!(frame.destination == Mac::of_group_v6(group), "its frame goes to {}", frame.destination);
        // RFC 4861 §4.3: hop limit 255, valid checksum, own MAC as option.
        ensure!(packet.hop_limit == 255 && icmp.checksum_valid, "{packet:?}");
        ensure!(
            icmp.body[16..24] == [&[1, 1], &own.gateway_mac.0[..]].concat(),
            "option {:02x?}",
            &icmp.body[16..]
        );
        let from = packet.source;
        ensure!(from == own.gateway_v6 || from == own.gateway_mac.link_local(), "its source is {from}");
        b.answer(Switch::On);
        let got = b.expect("the packet that waited", Duration::from_secs(4), |frame| {
            frame.v6().filter(|p| p.next_header == UDP).cloned()
        })?;
        ensure!(got.hop_limit == 63, "it waited and came with hop limit {}", got.hop_limit);
        Ok(())
    })
}

fn answers_only_its_own(cx: &Context) -> Result<()> {
    rig(cx, Config::two_ports())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let a = &rig.hosts[0];
        let own = a.identity();
        ensure!(a.arp([192, 0, 2, 77].into(), SILENCE).is_err(), "ARP answered for somebody else's address");
        let stranger: Ipv6Addr = "2001:db8:1::77".parse()?;
        ensure!(a.solicit(stranger, SILENCE).is_err(), "solicitation answered for somebody else's address");
        // RFC 4861 §7.1.1: a solicitation with a hop limit below 255 came from off the link.
        let body = frame::neighbour_option(1, own.mac, own.gateway_v6);
        let group = frame::solicited_node(own.gateway_v6);
        let icmp = Icmp::new(135, 0, 0, &body).bytes_v6(own.v6, group);
        let mut packet = Ipv6::new(own.v6, group, ICMPV6, icmp);
        packet.hop_limit = 254;
        a.forget();
        a.send(&frame::ethernet(Mac::of_group_v6(group), own.mac, frame::ETHERTYPE_IPV6, &packet.bytes()))?;
        a.expect_none("an answer to an off-link solicitation", SILENCE, |frame| {
            frame.icmp().is_some_and(|icmp| icmp.kind == 136)
        })?;
        // An ARP probe (RFC 5227 §2.1.1) from 0.0.0.0 for the router's address is answered.
        let probe = Arp {
            operation: 1,
            sender_mac: own.mac,
            sender: [0, 0, 0, 0].into(),
            target_mac: Mac::default(),
            target: own.gateway_v4,
        };
        a.send(&frame::ethernet(Mac::BROADCAST, own.mac, frame::ETHERTYPE_ARP, &probe.bytes()))?;
        a.expect("the defence of the router's address", PATIENCE, |frame| {
            frame.arp().filter(|arp| arp.operation == 2 && arp.sender == own.gateway_v4).map(|_| ())
        })
    })
}

fn keeps_three(cx: &Context) -> Result<()> {
    rig(cx, Config::two_ports())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        b.answer(Switch::Off);
        for i in 0..10u16 {
            let mut packet = udp_v4(a, b, b"one of ten");
            packet.id = 100 + i;
            a.send_v4(&packet)?;
        }
        std::thread::sleep(SILENCE);
        b.answer(Switch::On);
        b.expect("a packet that waited", Duration::from_secs(4), |frame| {
            frame.v4().filter(|p| p.protocol == UDP).map(|_| ())
        })?;
        std::thread::sleep(SILENCE);
        let more = b.take_all(|frame| frame.v4().filter(|p| p.protocol == UDP).map(|p| p.id));
        ensure!(more.len() < 3, "{} packets waited for one neighbour, 3 at most may", more.len() + 1);
        let mut next = udp_v4(a, b, b"after");
        next.id = 200;
        a.send_v4(&next)?;
        expect_v4(b, &next)
    })
}

fn follows_change(cx: &Context) -> Result<()> {
    rig(cx, Config::two_ports())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let own = *b.identity();
        let moved = Mac([0x52, 0x54, 0, 0, 7, 7]);
        // RFC 826: a request for us from a known sender updates its entry.
        let request = Arp {
            operation: 1,
            sender_mac: moved,
            sender: own.v4,
            target_mac: Mac::default(),
            target: own.gateway_v4,
        };
        b.send(&frame::ethernet(Mac::BROADCAST, moved, frame::ETHERTYPE_ARP, &request.bytes()))?;
        b.expect("the answer to the new MAC", PATIENCE, |frame| {
            (frame.destination == moved && frame.arp().is_some()).then_some(())
        })?;
        a.send_v4(&udp_v4(a, b, b"to the new place"))?;
        let frame = b.expect("the packet", PATIENCE, |frame| {
            frame.v4().filter(|p| p.protocol == UDP).map(|_| frame.destination)
        })?;
        ensure!(frame == moved, "it went to {frame}, the host is at {moved} now");
        Ok(())
    })
}

/// A scan of a /64 and a /24 asks for more neighbours than any table holds (RFC 6583): known ones stay reachable.
fn address_scan(cx: &Context) -> Result<()> {
    rig(cx, Config::two_ports())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        rig.hosts.iter().for_each(|host| host.keep(Switch::Off));
        for i in 0..20_000u32 {
            let mut v6 = udp_v6(a, b, b"is anybody there?");
            v6.destination = Ipv6Addr::from(u128::from(b.identity().v6) + 0x1_0000 + u128::from(i));
            a.send_v6(&v6)?;
            let mut v4 = udp_v4(a, b, b"is anybody there?");
            v4.destination = [10, 0, 1, 3 + (i % 250) as u8].into();
            a.send_v4(&v4)?;
        }
        rig.hosts.iter().for_each(|host| host.keep(Switch::On));
        let far = b.identity();
        for to in [far.v4.into(), far.v6.into()] {
            a.ping(to, 11, PATIENCE).context("a known neighbour after the scan")?;
        }
        everything_works(rig)
    })
}

fn advertisement(frame: &Frame) -> Option<(Frame, Ipv6, Icmp)> {
    let icmp = frame.icmp().filter(|icmp| icmp.kind == 134)?;
    Some((frame.clone(), frame.v6()?.clone(), icmp))
}

fn advertises(cx: &Context) -> Result<()> {
    let mut config = Config::two_ports();
    config.interfaces[1].router_advertisement = true;
    rig(cx, config)?.check(&cx.name, |rig| {
        rig.router.ready()?;
        let b = &rig.hosts[1];
        let own = b.identity();
        // Asked (RFC 4861 §6.2.6: within half a second), from the host's link-local address.
        let local = own.mac.link_local();
        let routers: Ipv6Addr = "ff02::2".parse()?;
        let ask = || {
            let mut option = vec![1, 1];
            option.extend(own.mac.0);
            let icmp = Icmp::new(133, 0, 0, &option).bytes_v6(local, routers);
            let mut packet = Ipv6::new(local, routers, ICMPV6, icmp);
            packet.hop_limit = 255;
            b.send(&frame::ethernet(
                Mac::of_group_v6(routers),
                own.mac,
                frame::ETHERTYPE_IPV6,
                &packet.bytes(),
            ))
        };
        ask()?;
        let (frame, packet, icmp) =
            b.expect("a router advertisement", Duration::from_secs(4), advertisement).or_else(|_| {
                ask()?;
                b.expect("a router advertisement", Duration::from_secs(4), advertisement)
            })?;
        ensure!(packet.source == own.gateway_mac.link_local(), "from {}, want link-local", packet.source);
        ensure!(packet.hop_limit == 255 && icmp.checksum_valid && icmp.code == 0, "{packet:?}");
        let all_nodes: Ipv6Addr = "ff02::1".parse()?;
        ensure!(packet.destination == all_nodes || packet.destination == local, "to {}", packet.destination);
        ensure!(frame.source == own.gateway_mac, "frame from {}", frame.source);
        let lifetime = icmp.rest as u16;
        ensure!(lifetime > 0, "a router lifetime of 0 tells hosts not to use it");
        let prefix = options(icmp.body.get(8..).unwrap_or_default())
            .find(|option| option[0] == 3)
            .context("no prefix information option")?
            .to_vec();
        // RFC 4861 §4.6.2: length 4, 64 bits, on-link and autonomous.
        ensure!(
            prefix.len() == 32 && prefix[2] == 64 && prefix[3] & 0xc0 == 0xc0,
            "prefix option {prefix:02x?}"
        );
        let network: Ipv6Addr = "2001:db8:2::".parse()?;
        ensure!(frame::v6_at(&prefix, 16) == network, "prefix {}", frame::v6_at(&prefix, 16));
        let source = options(icmp.body.get(8..).unwrap_or_default()).find(|option| option[0] == 1);
        ensure!(source.is_some_and(|o| o[2..] == own.gateway_mac.0), "no source link-layer address option");
        let a = &rig.hosts[0];
        ensure!(
            a.take_all(|f| advertisement(f).map(|_| ())).is_empty(),
            "advertised on an interface that must not"
        );
        Ok(())
    })
}

fn advertises_nothing(cx: &Context) -> Result<()> {
    rig(cx, Config::two_ports())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        let b = &rig.hosts[1];
        let (local, routers) = (b.identity().mac.link_local(), "ff02::2".parse()?);
        let icmp = Icmp::new(133, 0, 0, &[]).bytes_v6(local, routers);
        let mut packet = Ipv6::new(local, routers, ICMPV6, icmp);
        packet.hop_limit = 255;
        let to = Mac::of_group_v6(routers);
        b.send(&frame::ethernet(to, b.identity().mac, frame::ETHERTYPE_IPV6, &packet.bytes()))?;
        b.expect_none("an advertisement", Duration::from_secs(1), |frame| advertisement(frame).is_some())
    })
}

/// The options of a neighbour-discovery message (RFC 4861 §4.6).
fn options(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = usize::from(*bytes.get(1)?) * 8;
        let (option, rest) = bytes.split_at_checked(length.max(8))?;
        bytes = rest;
        Some(option)
    })
}
