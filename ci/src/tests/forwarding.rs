//! Packets that must come out the other side, compared field by field, over machines and CPU counts.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Context, Needs, Test};
use crate::frame::{self, Frame, IPV6_FRAGMENT, IPV6_HOP_BY_HOP, Ipv4, Ipv6, More, UDP};
use crate::host::Host;
use crate::qemu::Platform;
use crate::rig::{FrameRig, PATIENCE, SILENCE};
use crate::router::Config;

pub(super) fn tests() -> Vec<Test> {
    let mut all = Vec::new();
    for platform in [Platform::Q35, Platform::Microvm] {
        for cpus in [1, 2, 4] {
            all.push(Test::new(
                format!("forwards-{}-smp{cpus}", platform.name()),
                Needs::default(),
                move |cx| forwards(cx, platform, cpus),
            ));
        }
    }
    all.push(Test::new("forwards-all-sizes", Needs::default(), all_sizes));
    all.push(Test::new("forwards-in-order", Needs::default(), in_order));
    all.push(Test::new("forwards-options-and-extensions", Needs::default(), options_and_extensions));
    all.push(Test::new("forwards-by-route", Needs::default(), by_route));
    all.push(Test::new("fragments-ipv4-without-df", Needs::default(), fragments));
    all
}

/// A UDP packet from one host to the other.
pub(super) fn udp_v4(from: &Host, to: &Host, payload: &[u8]) -> Ipv4 {
    let (source, destination) = (from.identity().v4, to.identity().v4);
    Ipv4::new(source, destination, UDP, frame::udp((source.into(), 5000), (destination.into(), 7), payload))
}

pub(super) fn udp_v6(from: &Host, to: &Host, payload: &[u8]) -> Ipv6 {
    let (source, destination) = (from.identity().v6, to.identity().v6);
    Ipv6::new(source, destination, UDP, frame::udp((source.into(), 5000), (destination.into(), 7), payload))
}

/// The IPv4 packet as it must leave: one hop less, everything else as it was.
pub(super) fn expect_v4(to: &Host, sent: &Ipv4) -> Result<()> {
    let got = to.expect(&format!("{sent:?} one hop on"), PATIENCE, |frame| {
        let packet = frame.v4()?;
        let ours = packet.id == sent.id && packet.source == sent.source && packet.protocol == sent.protocol;
        ours.then(|| frame.clone())
    })?;
    let want = Ipv4 { ttl: sent.ttl - 1, ..sent.clone() };
    compare(to, &got, got.v4() == Some(&want), &want)
}

pub(super) fn expect_v6(to: &Host, sent: &Ipv6) -> Result<()> {
    let got = to.expect(&format!("{sent:?} one hop on"), PATIENCE, |frame| {
        let packet = frame.v6()?;
        let ours = packet.flow_label == sent.flow_label && packet.source == sent.source;
        (ours && packet.next_header == sent.next_header).then(|| frame.clone())
    })?;
    let want = Ipv6 { hop_limit: sent.hop_limit - 1, ..sent.clone() };
    compare(to, &got, got.v6() == Some(&want), &want)
}

fn compare(to: &Host, got: &Frame, same: bool, want: &dyn std::fmt::Debug) -> Result<()> {
    ensure!(same, "forwarded packet differs:\n  want {want:?}\n  got  {:?}", got.network);
    let own = to.identity();
    ensure!(
        (got.destination, got.source) == (own.mac, own.gateway_mac),
        "forwarded frame goes {} > {}, want {} > {}",
        got.source,
        got.destination,
        own.gateway_mac,
        own.mac
    );
    Ok(())
}

/// Both families, both ways, and the router's own answers.
pub(super) fn everything_works(rig: &FrameRig) -> Result<()> {
    for (from, to) in [(&rig.hosts[0], &rig.hosts[1]), (&rig.hosts[1], &rig.hosts[0])] {
        let own = from.identity();
        ensure!(from.arp(own.gateway_v4, PATIENCE)? == own.gateway_mac, "ARP reply with another MAC");
        let solicited = from.solicit(own.gateway_v6, PATIENCE)?;
        ensure!(solicited == own.gateway_mac, "neighbour advertisement with another MAC");
        from.ping(own.gateway_v4.into(), 1, PATIENCE).context("pinging the router")?;
        from.ping(own.gateway_v6.into(), 2, PATIENCE).context("pinging the router")?;
        // The far address of the router, as traceroute's last hop may be.
        from.ping(to.identity().gateway_v4.into(), 3, PATIENCE).context("pinging the router's far side")?;
        from.ping(to.identity().gateway_v6.into(), 4, PATIENCE).context("pinging the router's far side")?;
        let mut v4 = udp_v4(from, to, b"forty-two bytes of payload, give or take");
        v4.tos = 0xb8;
        v4.id = 0xbeef;
        from.send_v4(&v4)?;
        expect_v4(to, &v4)?;
        let mut v6 = udp_v6(from, to, b"forty-two bytes of payload, give or take");
        v6.traffic_class = 0xb8;
        v6.flow_label = 0xabcde;
        from.send_v6(&v6)?;
        expect_v6(to, &v6)?;
        let far = to.identity();
        from.ping(far.v4.into(), 5, PATIENCE).context("pinging through the router")?;
        from.ping(far.v6.into(), 6, PATIENCE).context("pinging through the router")?;
    }
    rig.hosts.iter().for_each(Host::forget);
    Ok(())
}

fn forwards(cx: &Context, platform: Platform, cpus: usize) -> Result<()> {
    let rig = FrameRig::start(cx.image, Config::two_ports(), 2, |setup| {
        setup.platform = platform;
        setup.cpus = cpus;
    })?;
    rig.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        // Once more: nothing of the first round may have been used up.
        everything_works(rig)
    })
}

fn ready_rig(cx: &Context, config: Config) -> Result<FrameRig> {
    FrameRig::start(cx.image, config, 2, |_| ())
}

fn all_sizes(cx: &Context) -> Result<()> {
    ready_rig(cx, Config::two_ports())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        for size in (0..64).chain([127, 128, 129, 511, 1023, 1400, 1451, 1452]) {
            let payload: Vec<u8> = (0..size as u32).map(|i| (i * 7) as u8).collect();
            let mut v4 = udp_v4(a, b, &payload);
            v4.id = size as u16;
            // Short packets come padded to Ethernet's 60 bytes; the padding is not part of the packet.
            let own = a.identity();
            let mut bytes = frame::ethernet(own.gateway_mac, own.mac, frame::ETHERTYPE_IPV4, &v4.bytes());
            bytes.resize(bytes.len().max(60), 0xaa);
            a.send(&bytes)?;
            expect_v4(b, &v4)?;
            let mut v6 = udp_v6(a, b, &payload);
            v6.flow_label = size as u32 + 1;
            a.send_v6(&v6)?;
            expect_v6(b, &v6)?;
        }
        // The largest packet of a 1500-byte link in IPv4.
        let full = udp_v4(a, b, &[0x55; 1472]);
        a.send_v4(&full)?;
        expect_v4(b, &full)
    })
}

fn in_order(cx: &Context) -> Result<()> {
    let rig = FrameRig::start(cx.image, Config::two_ports(), 2, |setup| setup.cpus = 2)?;
    rig.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        const COUNT: usize = 1000;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        for i in 0..COUNT {
            let mut packet = udp_v4(a, b, &(i as u32).to_be_bytes());
            packet.id = i as u16;
            a.send_v4(&packet)?;
        }
        let mut got = Vec::new();
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while got.len() < COUNT && std::time::Instant::now() < deadline {
            got.extend(
                b.take_all(|frame| frame.v4().filter(|p| p.protocol == UDP).map(|p| usize::from(p.id))),
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        ensure!(got.len() == COUNT, "{} of {COUNT} packets of one flow arrived", got.len());
        let wrong = got.iter().enumerate().find(|(i, id)| *i != **id);
        ensure!(wrong.is_none(), "order within a flow was not kept: {wrong:?}");
        Ok(())
    })
}

fn options_and_extensions(cx: &Context) -> Result<()> {
    ready_rig(cx, Config::two_ports())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let mut packet = udp_v4(a, b, b"with options");
        packet.id = 0x0101;
        // Three no-operations and the end of the list (RFC 791 §3.1).
        packet.options = vec![1, 1, 1, 0];
        a.send_v4(&packet)?;
        expect_v4(b, &packet).context("IPv4 options")?;

        let mut piece = udp_v4(a, b, &[7; 800]);
        piece.id = 0x0202;
        piece.more_fragments = true;
        piece.offset = 800;
        a.send_v4(&piece)?;
        expect_v4(b, &piece).context("an IPv4 fragment")?;

        let inner = udp_v6(a, b, &[9; 64]).payload;
        let mut v6 = udp_v6(a, b, &[]);
        v6.flow_label = 0x111;
        v6.next_header = IPV6_FRAGMENT;
        v6.payload = frame::ipv6_fragment(UDP, 0, More::Yes, 77, &inner);
        a.send_v6(&v6)?;
        expect_v6(b, &v6).context("an IPv6 fragment")?;

        v6.flow_label = 0x222;
        v6.next_header = IPV6_HOP_BY_HOP;
        // One PadN option (RFC 8200 §4.2) fills the header.
        v6.payload = [&[UDP, 0, 1, 4, 0, 0, 0, 0], inner.as_slice()].concat();
        a.send_v6(&v6)?;
        expect_v6(b, &v6).context("an IPv6 packet with a hop-by-hop header")?;

        v6.flow_label = 0x333;
        v6.next_header = 60;
        a.send_v6(&v6)?;
        expect_v6(b, &v6).context("an IPv6 packet with a destination-options header")?;

        v6.flow_label = 0x444;
        v6.next_header = 253;
        v6.payload = vec![1, 2, 3];
        a.send_v6(&v6)?;
        expect_v6(b, &v6).context("an unknown upper protocol")
    })
}

fn by_route(cx: &Context) -> Result<()> {
    let config = Config::two_ports()
        .with_route("198.51.100.0/24", "10.0.1.2")
        .with_route("0.0.0.0/0", "192.0.2.2")
        .with_route("2001:db8:ffff::/48", "2001:db8:2::2")
        .with_route("::/0", "2001:db8:1::2");
    ready_rig(cx, config)?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let mut v4 = udp_v4(a, b, b"routed");
        v4.destination = [198, 51, 100, 9].into();
        a.send_v4(&v4)?;
        expect_v4(b, &v4).context("by an IPv4 prefix route")?;
        let mut v4 = udp_v4(b, a, b"routed");
        v4.destination = [8, 8, 8, 8].into();
        b.send_v4(&v4)?;
        expect_v4(a, &v4).context("by the IPv4 default route")?;
        let mut v6 = udp_v6(a, b, b"routed");
        v6.destination = "2001:db8:ffff:1::9".parse()?;
        v6.flow_label = 3;
        a.send_v6(&v6)?;
        expect_v6(b, &v6).context("by an IPv6 prefix route")?;
        let mut v6 = udp_v6(b, a, b"routed");
        v6.destination = "2a00::1".parse()?;
        v6.flow_label = 4;
        b.send_v6(&v6)?;
        expect_v6(a, &v6).context("by the IPv6 default route")
    })
}

/// Collects what arrives of a packet with this identification.
fn pieces(to: &Host, id: u16, count: usize) -> Result<Vec<Ipv4>> {
    let mut got = Vec::new();
    while got.len() < count {
        let what = format!("fragment {} of {count}", got.len() + 1);
        got.push(to.expect(&what, PATIENCE, |frame| frame.v4().filter(|p| p.id == id).cloned())?);
    }
    to.expect_none("another fragment", SILENCE, |frame| frame.v4().is_some_and(|p| p.id == id))?;
    got.sort_by_key(|piece| piece.offset);
    Ok(got)
}

fn fragments(cx: &Context) -> Result<()> {
    ready_rig(cx, Config::two_ports().with_mtu(1, 1280))?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let payload: Vec<u8> = (0..1472u32).map(|i| (i ^ (i >> 8)) as u8).collect();
        let mut packet = udp_v4(a, b, &payload);
        packet.id = 0x3333;
        a.send_v4(&packet)?;
        packet.ttl -= 1;
        let got = pieces(b, packet.id, 2)?;
        ensure!(
            got.iter().all(|piece| 20 + piece.payload.len() <= 1280),
            "a fragment is over the MTU: {got:?}"
        );
        let fields =
            |p: &Ipv4| (p.ttl, p.tos, p.protocol, p.source, p.destination, p.dont_fragment, p.checksum_valid);
        ensure!(
            got.iter().all(|piece| fields(piece) == fields(&packet)),
            "fragments differ from the packet: {got:?}"
        );
        let joined: Vec<u8> = got.iter().flat_map(|piece| piece.payload.clone()).collect();
        ensure!(joined == packet.payload, "the fragments put together are not the packet");
        ensure!(
            got[0].offset == 0 && got[0].more_fragments && !got[1].more_fragments,
            "fragment flags: {got:?}"
        );
        ensure!(got[1].offset == got[0].payload.len(), "fragment offsets: {got:?}");

        // A fragment that is too big is split on, from its own offset, and stays a non-last one.
        let mut piece = udp_v4(a, b, &payload);
        (piece.id, piece.offset, piece.more_fragments) = (0x4444, 2960, true);
        a.send_v4(&piece)?;
        let got = pieces(b, piece.id, 2)?;
        ensure!(got[0].offset == 2960 && got[1].offset == 2960 + got[0].payload.len(), "offsets: {got:?}");
        ensure!(got.iter().all(|piece| piece.more_fragments), "the packet goes on after it: {got:?}");

        // Exactly the MTU passes whole.
        let mut exact = udp_v4(a, b, &payload[..1280 - 28]);
        exact.id = 0x5555;
        a.send_v4(&exact)?;
        expect_v4(b, &exact)
    })
}
