//! What the configuration lets an operator say about routes and sources, and what the router makes of it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::errors::{expect_error_v4, expect_error_v6};
use super::forwarding::{everything_works, expect_v4, expect_v6, udp_v4, udp_v6};
use super::{Context, Needs, Test};
use crate::frame::{self, Arp, Mac, UDP};
use crate::rig::{FrameRig, PATIENCE, SILENCE};
use crate::router::Config;

const WEIR: Needs = Needs { root: false, programs: &[], weir: true, alone: false };

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("route-rejects", WEIR, rejects),
        Test::new("route-by-link-local-gateway", WEIR, link_local_gateway),
        Test::new("route-longest-prefix-wins", Needs::default(), longest_prefix),
        Test::new("route-back-out-of-the-same-interface", Needs::default(), hairpin),
        Test::new("route-ten-thousand", WEIR, ten_thousand),
        Test::new("route-on-a-31-and-a-127", Needs::default(), point_to_point),
        Test::new("reverse-path-strict", WEIR, strict),
        Test::new("reverse-path-loose", WEIR, loose),
        Test::new("interface-disabled", WEIR, disabled),
    ]
}

/// The usual two networks with more text at the end, and words put into the `lan` or `wan` section.
fn with_text(cx: &Context, change: impl FnOnce(String) -> String) -> Result<FrameRig> {
    let text = change(Config::two_ports().toml());
    FrameRig::start(cx.image, Config::two_ports(), 2, |setup| setup.module = Some(text.into_bytes()))
}

fn rejects(cx: &Context) -> Result<()> {
    let routes = [
        ("198.18.1.0/24", "unreachable"),
        ("198.18.2.0/24", "prohibit"),
        ("198.18.3.0/24", "blackhole"),
        ("2001:db8:a1::/48", "unreachable"),
        ("2001:db8:a2::/48", "prohibit"),
        ("2001:db8:a3::/48", "blackhole"),
    ];
    let text: String =
        routes.iter().map(|(to, how)| format!("\n[[route]]\nto = \"{to}\"\nreject = \"{how}\"\n")).collect();
    with_text(cx, |base| base + &text)?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        // RFC 1812 §5.2.7.1: host unreachable and communication administratively prohibited; RFC 4443 §3.1.
        for (third, code) in [(1, 1), (2, 13)] {
            let mut packet = udp_v4(a, b, b"to a place that is not");
            packet.destination = [198, 18, third, 9].into();
            a.send_v4(&packet)?;
            expect_error_v4(a, &packet, 3, code, PATIENCE)?;
        }
        for (third, code) in [("a1", 0), ("a2", 1)] {
            let mut packet = udp_v6(a, b, b"to a place that is not");
            packet.destination = format!("2001:db8:{third}::9").parse()?;
            a.send_v6(&packet)?;
            expect_error_v6(a, &packet, 1, code, PATIENCE)?;
        }
        let mut v4 = udp_v4(a, b, b"into the dark");
        v4.destination = [198, 18, 3, 9].into();
        a.send_v4(&v4)?;
        let mut v6 = udp_v6(a, b, b"into the dark");
        v6.destination = "2001:db8:a3::9".parse()?;
        a.send_v6(&v6)?;
        a.expect_none("an error about a blackhole", SILENCE * 2, |frame| {
            frame.icmp().is_some_and(|icmp| matches!(icmp.kind, 1 | 3))
        })?;
        everything_works(rig)
    })
}

fn link_local_gateway(cx: &Context) -> Result<()> {
    let gateway = frame::mac(&crate::rig::host_mac(1))?.link_local();
    let route =
        format!("\n[[route]]\nto = \"2001:db8:f000::/36\"\nvia = \"{gateway}\"\ninterface = \"lan\"\n");
    with_text(cx, |base| base + &route)?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let mut packet = udp_v6(a, b, b"by a link-local gateway");
        packet.destination = "2001:db8:f123::9".parse()?;
        packet.flow_label = 77;
        a.send_v6(&packet)?;
        expect_v6(b, &packet)
    })
}

fn longest_prefix(cx: &Context) -> Result<()> {
    let config = Config::two_ports()
        .with_route("198.18.0.0/15", "192.0.2.2")
        .with_route("198.18.4.0/22", "10.0.1.2")
        .with_route("198.18.5.0/24", "192.0.2.2")
        .with_route("198.18.5.128/32", "10.0.1.2")
        .with_route("2001:db8:f000::/36", "2001:db8:1::2")
        .with_route("2001:db8:f100::/40", "2001:db8:2::2")
        .with_route("2001:db8:f100::80/128", "2001:db8:1::2");
    FrameRig::start(cx.image, config, 2, |_| ())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let cases: [(&str, usize); 8] = [
            ("198.18.0.1", 0),
            ("198.18.4.1", 1),
            ("198.18.7.255", 1),
            ("198.18.8.0", 0),
            ("198.18.5.127", 0),
            ("198.18.5.128", 1),
            ("198.18.5.129", 0),
            ("198.19.255.255", 0),
        ];
        for (id, (destination, port)) in (900..).zip(cases) {
            // From the other side, so that it is no detour.
            let (from, to) = (&rig.hosts[1 - port], &rig.hosts[port]);
            let mut packet = udp_v4(from, to, b"longest prefix");
            (packet.destination, packet.id) = (destination.parse()?, id);
            from.send_v4(&packet)?;
            expect_v4(to, &packet).with_context(|| format!("{destination} leaves by port {port}"))?;
        }
        let cases: [(&str, usize); 4] = [
            ("2001:db8:f000::1", 0),
            ("2001:db8:f1ff::1", 1),
            ("2001:db8:f100::80", 0),
            ("2001:db8:f100::81", 1),
        ];
        for (label, (destination, port)) in (900..).zip(cases) {
            let (from, to) = (&rig.hosts[1 - port], &rig.hosts[port]);
            let mut packet = udp_v6(from, to, b"longest prefix");
            (packet.destination, packet.flow_label) = (destination.parse()?, label);
            from.send_v6(&packet)?;
            expect_v6(to, &packet).with_context(|| format!("{destination} leaves by port {port}"))?;
        }
        Ok(())
    })
}

/// The next hop is on the link the packet came from: it is forwarded all the same (RFC 1812 §5.2.7.2).
fn hairpin(cx: &Context) -> Result<()> {
    let config = Config::two_ports()
        .with_route("198.18.0.0/15", "192.0.2.2")
        .with_route("2001:db8:f000::/36", "2001:db8:1::2");
    FrameRig::start(cx.image, config, 2, |_| ())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let a = &rig.hosts[0];
        let mut v4 = udp_v4(a, &rig.hosts[1], b"there and back");
        (v4.destination, v4.id) = ([198, 18, 0, 1].into(), 321);
        a.send_v4(&v4)?;
        expect_v4(a, &v4)?;
        let mut v6 = udp_v6(a, &rig.hosts[1], b"there and back");
        (v6.destination, v6.flow_label) = ("2001:db8:f000::1".parse()?, 321);
        a.send_v6(&v6)?;
        expect_v6(a, &v6)
    })
}

fn ten_thousand(cx: &Context) -> Result<()> {
    let route =
        |i: u32| format!("\n[[route]]\nto = \"198.{}.{}.0/24\"\nvia = \"10.0.1.2\"\n", 18 + i / 256, i % 256);
    let text: String = (0..10_000).map(route).collect();
    with_text(cx, |base| base + &text)?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        for i in (0..10_000u32).step_by(503).chain([9_999]) {
            let mut packet = udp_v4(a, b, b"one of many");
            packet.destination = [198, (18 + i / 256) as u8, (i % 256) as u8, 7].into();
            packet.id = i as u16;
            a.send_v4(&packet)?;
            expect_v4(b, &packet)?;
        }
        Ok(())
    })
}

/// Links of two addresses (RFC 3021, RFC 6164): the lower is the router's, the upper the host's.
fn point_to_point(cx: &Context) -> Result<()> {
    let mut config = Config::two_ports();
    config.interfaces[1].addresses = vec!["10.9.9.0/31".to_owned(), "2001:db8:9::/127".to_owned()];
    FrameRig::start(cx.image, config, 2, |_| ())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let own = *b.identity();
        a.ping(a.identity().gateway_v4.into(), 1, PATIENCE)?;
        a.ping([10, 9, 9, 0].into(), 2, PATIENCE).context("the router's end of the /31")?;
        a.ping("2001:db8:9::".parse()?, 3, PATIENCE).context("the router's end of the /127")?;
        let mut v4 = udp_v4(a, b, b"to the far end");
        (v4.destination, v4.id) = ([10, 9, 9, 1].into(), 31);
        a.send_v4(&v4)?;
        let arp = b.expect("an ARP request", PATIENCE, |frame| {
            frame.arp().filter(|arp| arp.target == v4.destination).cloned()
        })?;
        let reply = Arp {
            operation: 2,
            sender_mac: own.mac,
            sender: arp.target,
            target_mac: arp.sender_mac,
            target: arp.sender,
        };
        b.send(&frame::ethernet(arp.sender_mac, own.mac, frame::ETHERTYPE_ARP, &reply.bytes()))?;
        expect_v4(b, &v4)
    })
}

fn strict(cx: &Context) -> Result<()> {
    let change = |base: String| {
        base.replace("match = { port = 1 }", "match = { port = 1 }\nreverse-path-filter = \"strict\"")
    };
    with_text(cx, change)?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        // From lan, an address of wan's network, and one that no route leads to.
        for source in [[192, 0, 2, 77], [8, 8, 8, 8]] {
            let mut packet = udp_v4(b, a, b"spoofed");
            packet.source = source.into();
            b.send_v4(&packet)?;
        }
        let mut packet = udp_v6(b, a, b"spoofed");
        packet.source = "2001:db8:1::77".parse()?;
        b.send_v6(&packet)?;
        a.expect_none("a spoofed packet", SILENCE * 2, is_udp)?;
        // The other interface has no filter.
        let mut packet = udp_v4(a, b, b"foreign source, no filter");
        (packet.source, packet.id) = ([8, 8, 8, 8].into(), 88);
        a.send_v4(&packet)?;
        expect_v4(b, &packet)
    })
}

fn loose(cx: &Context) -> Result<()> {
    let change = |base: String| {
        base.replace("match = { port = 1 }", "match = { port = 1 }\nreverse-path-filter = \"loose\"")
    };
    with_text(cx, change)?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let mut packet = udp_v4(b, a, b"nobody could answer");
        packet.source = [8, 8, 8, 8].into();
        b.send_v4(&packet)?;
        a.expect_none("a packet nobody could answer", SILENCE * 2, is_udp)?;
        let mut packet = udp_v4(b, a, b"reached another way");
        (packet.source, packet.id) = ([192, 0, 2, 77].into(), 77);
        b.send_v4(&packet)?;
        expect_v4(a, &packet)
    })
}

fn is_udp(frame: &frame::Frame) -> bool {
    frame.v4().is_some_and(|p| p.protocol == UDP) || frame.v6().is_some_and(|p| p.next_header == UDP)
}

fn disabled(cx: &Context) -> Result<()> {
    let change = |base: String| base.replace("match = { port = 1 }", "match = { port = 1 }\nenabled = false");
    with_text(cx, change)?.check(&cx.name, |rig| {
        rig.router.ready()?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        a.ping(a.identity().gateway_v4.into(), 1, PATIENCE)?;
        ensure!(b.arp(b.identity().gateway_v4, SILENCE * 2).is_err(), "a disabled interface answers ARP");
        let packet = udp_v4(a, b, b"to a network that is not there");
        a.send_v4(&packet)?;
        b.expect_none("a packet out of a disabled interface", Duration::from_millis(300), |frame| {
            frame.source != Mac::default()
        })
    })
}
