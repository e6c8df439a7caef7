//! Packets that must not come out: martians, broken headers, wrong link addresses, scopes.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};

use super::forwarding::{everything_works, udp_v4, udp_v6};
use super::{Context, Needs, Test};
use crate::frame::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, Ipv4, Mac, UDP};
use crate::rig::{FrameRig, PATIENCE, SILENCE};
use crate::router::{Config, Image};

pub(super) fn tests() -> Vec<Test> {
    let plain = Needs::default();
    vec![
        Test::new("drops-martians-ipv4", plain, martians_v4),
        Test::new("drops-martians-ipv6", plain, martians_v6),
        Test::new("drops-broken-headers", plain, broken_headers),
        Test::new("drops-wrong-link-addresses", plain, wrong_link_addresses),
        Test::new("drops-nothing-silently", Needs { weir: true, ..plain }, counted),
        Test::new("survives-mutated-frames", plain, mutated),
    ]
}

/// The marker all packets of these tests carry, so that anything of them that comes out is recognised.
const MARK: &[u8; 16] = b"weir-must-not-go";

fn is_marked(frame: &Frame) -> bool {
    let payload = match &frame.network {
        frame::Network::V4(p) => &p.payload,
        frame::Network::V6(p) => &p.payload,
        _ => return false,
    };
    // An ICMP error may quote it; a forwarded packet has it behind its own UDP header.
    frame.icmp().is_none() && payload.windows(MARK.len()).any(|window| window == MARK)
}

/// Sends each of `cases`, then checks that none crossed and that the router still works.
fn none_crosses(rig: &FrameRig, cases: Vec<(String, Vec<u8>)>) -> Result<()> {
    let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
    for (_, bytes) in &cases {
        a.send(bytes)?;
    }
    let crossed = |frame: &Frame| is_marked(frame).then(|| format!("{:?}", frame.network));
    if let Ok(frame) = b.expect("a marked packet", SILENCE * 2, crossed) {
        b.forget();
        // Once more one by one, to name the case.
        for (what, bytes) in &cases {
            a.send(bytes)?;
            b.expect_none(what, SILENCE, is_marked)?;
        }
        anyhow::bail!("forwarded: {frame}");
    }
    ensure!(
        a.take_all(|frame| is_marked(frame).then_some(())).is_empty(),
        "a packet was sent back where it came from"
    );
    everything_works(rig).context("after the bad packets")
}

fn martians_v4(cx: &Context) -> Result<()> {
    // A default route would carry them away.
    let config = Config::two_ports().with_route("0.0.0.0/0", "10.0.1.2");
    FrameRig::start(cx.image, config, 2, |_| ())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let own = a.identity();
        let mut cases = Vec::new();
        let mut case = |what: &str, source: Ipv4Addr, destination: Ipv4Addr| {
            let packet = Ipv4 { source, destination, ..udp_v4(a, b, MARK) };
            cases.push((
                what.to_owned(),
                frame::ethernet(own.gateway_mac, own.mac, ETHERTYPE_IPV4, &packet.bytes()),
            ));
        };
        let (good, far) = (own.v4, b.identity().v4);
        // RFC 1812 §5.3.7, RFC 1122 §3.2.1.3.
        case("source 127.0.0.1", [127, 0, 0, 1].into(), far);
        case("source 0.0.0.0", [0, 0, 0, 0].into(), far);
        case("source 255.255.255.255", [255; 4].into(), far);
        case("source of a multicast group", [224, 0, 0, 5].into(), far);
        case("source of the router's own address", own.gateway_v4, far);
        case("source of the router's far address", b.identity().gateway_v4, far);
        case("destination 127.0.0.1", good, [127, 0, 0, 1].into());
        case("destination 127.9.9.9", good, [127, 9, 9, 9].into());
        case("destination 0.0.0.0", good, [0, 0, 0, 0].into());
        case("destination 255.255.255.255", good, [255; 4].into());
        case("destination of an unjoined multicast group", good, [239, 1, 2, 3].into());
        case("destination of a connected network's broadcast", good, [10, 0, 1, 255].into());
        if cx.image == Image::Weir {
            // Linux forwards both: it has no martian filter for class E, and 169.254/16 is a prefix like any other.
            case("source of class E", [240, 0, 0, 1].into(), far);
            case("destination of class E", good, [240, 0, 0, 1].into());
            case("source 169.254.1.1", [169, 254, 1, 1].into(), far);
            case("destination 169.254.1.1", good, [169, 254, 1, 1].into());
            case("source 0.1.2.3", [0, 1, 2, 3].into(), far);
        }
        none_crosses(rig, cases)
    })
}

fn martians_v6(cx: &Context) -> Result<()> {
    let config = Config::two_ports().with_route("::/0", "2001:db8:2::2");
    FrameRig::start(cx.image, config, 2, |_| ())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let own = a.identity();
        let mut cases = Vec::new();
        let mut case = |what: &str, source: &str, destination: &str| -> Result<()> {
            let mut packet = udp_v6(a, b, MARK);
            packet.source = source.parse::<Ipv6Addr>()?;
            packet.destination = destination.parse::<Ipv6Addr>()?;
            cases.push((
                what.to_owned(),
                frame::ethernet(own.gateway_mac, own.mac, ETHERTYPE_IPV6, &packet.bytes()),
            ));
            Ok(())
        };
        let (good, far) = (own.v6.to_string(), b.identity().v6.to_string());
        // RFC 4291 §2.5.2, §2.5.3, §2.5.6, §2.7.
        case("source ::1", "::1", &far)?;
        case("source ::", "::", &far)?;
        case("source of a group", "ff02::1", &far)?;
        case("source fe80::9 to a global address", "fe80::9", &far)?;
        case("source of the router's own address", "2001:db8:1::1", &far)?;
        case("destination ::1", &good, "::1")?;
        case("destination ::", &good, "::")?;
        case("destination fe80::9", &good, "fe80::9")?;
        case("destination of an unjoined group", &good, "ff0e::9")?;
        case("destination of the all-nodes group", &good, "ff02::1")?;
        if cx.image == Image::Linux {
            // Linux forwards what says it comes from itself, and :: by the default route.
            cases.retain(|(what, _)| !what.contains("own address") && what != "destination ::");
        }
        none_crosses(rig, cases)
    })
}

fn broken_headers(cx: &Context) -> Result<()> {
    FrameRig::start(cx.image, Config::two_ports(), 2, |_| ())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let own = a.identity();
        let v4 = udp_v4(a, b, &[&MARK[..], &[0; 40]].concat()).bytes();
        let v6 = udp_v6(a, b, &[&MARK[..], &[0; 40]].concat()).bytes();
        let mut cases = Vec::new();
        let mut case = |what: &str, ethertype: u16, packet: &[u8], repair: bool| {
            let mut packet = packet.to_vec();
            if repair {
                let header = usize::from(packet[0] & 15) * 4;
                packet[10..12].fill(0);
                let sum = frame::checksum(&[&packet[..header.clamp(20, packet.len())]]);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            cases.push((what.to_owned(), frame::ethernet(own.gateway_mac, own.mac, ethertype, &packet)));
        };
        let changed = |packet: &[u8], at: usize, value: u8| {
            let mut packet = packet.to_vec();
            packet[at] = value;
            packet
        };
        let wrong_sum = changed(&v4, 10, v4[10] ^ 0xff);
        case("IPv4 checksum wrong", ETHERTYPE_IPV4, &wrong_sum, false);
        case("IPv4 version 5", ETHERTYPE_IPV4, &changed(&v4, 0, 0x55), true);
        case("IPv4 header of 16 bytes", ETHERTYPE_IPV4, &changed(&v4, 0, 0x44), true);
        case("IPv4 header longer than the packet", ETHERTYPE_IPV4, &changed(&v4[..40], 0, 0x4f), true);
        case("IPv4 total length over the frame", ETHERTYPE_IPV4, &changed(&v4, 2, 0x04), true);
        case("IPv4 total length below the header", ETHERTYPE_IPV4, &changed(&v4, 3, 19), true);
        case("IPv4 in an IPv6 frame", ETHERTYPE_IPV6, &v4, false);
        case("IPv6 in an IPv4 frame", ETHERTYPE_IPV4, &v6, false);
        case("IPv6 version 7", ETHERTYPE_IPV6, &changed(&v6, 0, 0x70), false);
        case("IPv6 payload length over the frame", ETHERTYPE_IPV6, &changed(&v6, 4, 0x04), false);
        case("IPv6 header cut", ETHERTYPE_IPV6, &v6[..39], false);
        case("IPv4 header cut", ETHERTYPE_IPV4, &v4[..19], false);
        case("nothing but an Ethernet header", ETHERTYPE_IPV4, &[], false);
        none_crosses(rig, cases)
    })
}

fn wrong_link_addresses(cx: &Context) -> Result<()> {
    FrameRig::start(cx.image, Config::two_ports(), 2, |_| ())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let own = a.identity();
        let (v4, v6) = (udp_v4(a, b, MARK).bytes(), udp_v6(a, b, MARK).bytes());
        let mut cases = Vec::new();
        // RFC 1812 §5.3.4: a unicast packet in a link broadcast is not forwarded.
        for (what, to) in [
            ("to the link broadcast", Mac::BROADCAST),
            ("to a link group", Mac([0x33, 0x33, 0, 0, 0, 1])),
            ("to somebody else", Mac([0x52, 0x54, 0, 0, 9, 9])),
        ] {
            cases.push((format!("IPv4 {what}"), frame::ethernet(to, own.mac, ETHERTYPE_IPV4, &v4)));
            cases.push((format!("IPv6 {what}"), frame::ethernet(to, own.mac, ETHERTYPE_IPV6, &v6)));
        }
        if cx.image == Image::Weir {
            // Linux does not look at the source MAC.
            cases.push((
                "IPv4 from a group".into(),
                frame::ethernet(own.gateway_mac, Mac([1; 6]), ETHERTYPE_IPV4, &v4),
            ));
        }
        cases.push(("an unknown ethertype".into(), frame::ethernet(own.gateway_mac, own.mac, 0x88b5, &v4)));
        none_crosses(rig, cases)
    })
}

/// Every refused packet appears in the console's table under its reason.
fn counted(cx: &Context) -> Result<()> {
    let config = Config::two_ports();
    FrameRig::start(cx.image, config, 2, |_| ())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let before = crate::table::read(&mut rig.router)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let send = |count: usize, packet: &Ipv4| (0..count).try_for_each(|_| a.send_v4(packet));
        send(3, &Ipv4 { ttl: 1, ..udp_v4(a, b, MARK) })?;
        send(5, &Ipv4 { destination: [8, 8, 8, 8].into(), ..udp_v4(a, b, MARK) })?;
        send(7, &Ipv4 { source: [127, 0, 0, 1].into(), ..udp_v4(a, b, MARK) })?;
        send(2, &Ipv4 { protocol: UDP, dont_fragment: true, ..udp_v4(a, b, MARK) })?;
        let mut broken = udp_v4(a, b, MARK).bytes();
        broken[10] ^= 0x55;
        let own = a.identity();
        (0..11)
            .try_for_each(|_| a.send(&frame::ethernet(own.gateway_mac, own.mac, ETHERTYPE_IPV4, &broken)))?;
        // All of them have been looked at by then.
        a.ping(own.gateway_v4.into(), 100, PATIENCE)?;
        let after = crate::table::read(&mut rig.router)?;
        for (reason, count) in
            [("ttl-expired", 3), ("no-route", 5), ("martian-source", 7), ("ipv4-checksum", 11)]
        {
            let grown = after.drops(reason).saturating_sub(before.drops(reason));
            ensure!(grown == count, "{reason}: {grown} counted, {count} sent; the table:\n{}", after.text);
        }
        let received = after.received("wan").saturating_sub(before.received("wan"));
        ensure!(received >= 28, "{received} frames counted, 28 sent; the table:\n{}", after.text);
        Ok(())
    })
}

fn mutated(cx: &Context) -> Result<()> {
    FrameRig::start(cx.image, Config::two_ports(), 2, |setup| setup.cpus = 2)?
        .check(&cx.name, |rig| crate::mutate::storm(rig, 25_000, 1).map(|_| ()))
}
