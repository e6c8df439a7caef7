//! ICMP errors the router owes, and those it must not send (RFC 1812 §4.3, RFC 4443).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::forwarding::{everything_works, udp_v4, udp_v6};
use super::{Context, Needs, Test};
use crate::frame::{ICMP, ICMPV6, Icmp, Ipv4, Ipv6, UDP};
use crate::host::Host;
use crate::rig::{FrameRig, PATIENCE, SILENCE};
use crate::router::Config;

pub(super) fn tests() -> Vec<Test> {
    let plain = Needs::default();
    vec![
        Test::new("time-exceeded", plain, time_exceeded),
        Test::new("unreachable-no-route", plain, no_route),
        Test::new("unreachable-silent-host", plain, silent_host),
        Test::new("packet-too-big", plain, too_big),
        Test::new("no-error-about-an-error", plain, no_error_about_an_error),
    ]
}

fn rig(cx: &Context, config: Config) -> Result<FrameRig> {
    FrameRig::start(cx.image, config, 2, |_| ())
}

/// Waits for an ICMP error about `sent` and checks who says it and what it quotes.
pub(super) fn expect_error_v4(to: &Host, sent: &Ipv4, kind: u8, code: u8, limit: Duration) -> Result<Icmp> {
    let own = *to.identity();
    let (packet, icmp) = to.expect(&format!("ICMP {kind}/{code} about {sent:?}"), limit, |frame| {
        let packet = frame.v4()?.clone();
        let icmp = frame.icmp().filter(|icmp| icmp.kind == kind)?;
        (frame.destination == own.mac && frame.source == own.gateway_mac).then_some((packet, icmp))
    })?;
    ensure!(icmp.code == code, "ICMP {kind}/{}, want code {code}", icmp.code);
    ensure!(packet.checksum_valid && icmp.checksum_valid, "bad checksum in {packet:?}");
    // RFC 1812 §4.3.2.4: from the interface it leaves by.
    ensure!(
        (packet.source, packet.destination) == (own.gateway_v4, sent.source),
        "error goes wrong: {packet:?}"
    );
    ensure!(packet.ttl >= 32, "error with a TTL of {}", packet.ttl);
    // A router that has forwarded it half-way quotes it one hop on, which RFC 1812 leaves open.
    let original = match icmp.body.get(8) {
        Some(&ttl) if ttl + 1 == sent.ttl => Ipv4 { ttl, ..sent.clone() }.bytes(),
        _ => sent.bytes(),
    };
    // RFC 792: header and 8 bytes at least; RFC 1812 §4.3.2.3: up to 576 bytes in all.
    let quoted = icmp.body.len().min(original.len());
    ensure!(quoted >= 28, "{quoted} bytes of the packet are quoted");
    ensure!(28 + icmp.body.len() <= 576, "the error is {} bytes long", 28 + icmp.body.len());
    ensure!(
        icmp.body[..quoted] == original[..quoted],
        "the quoted packet is not what was sent:\n{:02x?}\n{:02x?}",
        &icmp.body[..28],
        &original[..28]
    );
    Ok(icmp)
}

pub(super) fn expect_error_v6(to: &Host, sent: &Ipv6, kind: u8, code: u8, limit: Duration) -> Result<Icmp> {
    let own = *to.identity();
    let (packet, icmp) = to.expect(&format!("ICMPv6 {kind}/{code} about {sent:?}"), limit, |frame| {
        let packet = frame.v6()?.clone();
        let icmp = frame.icmp().filter(|icmp| icmp.kind == kind)?;
        (frame.destination == own.mac && frame.source == own.gateway_mac).then_some((packet, icmp))
    })?;
    ensure!(icmp.code == code, "ICMPv6 {kind}/{}, want code {code}", icmp.code);
    ensure!(icmp.checksum_valid, "bad checksum in {packet:?}");
    ensure!(
        (packet.source, packet.destination) == (own.gateway_v6, sent.source),
        "error goes wrong: {packet:?}"
    );
    let original = match icmp.body.get(7) {
        Some(&hop_limit) if hop_limit + 1 == sent.hop_limit => Ipv6 { hop_limit, ..sent.clone() }.bytes(),
        _ => sent.bytes(),
    };
    // RFC 4443 §2.4 (c): as much as fits into the minimum MTU.
    let quoted = original.len().min(1280 - 48);
    ensure!(icmp.body.len() == quoted, "{} bytes are quoted, want {quoted}", icmp.body.len());
    ensure!(icmp.body[..] == original[..quoted], "the quoted packet is not what was sent");
    Ok(icmp)
}

fn time_exceeded(cx: &Context) -> Result<()> {
    rig(cx, Config::two_ports())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        for (a, b) in [(&rig.hosts[0], &rig.hosts[1]), (&rig.hosts[1], &rig.hosts[0])] {
            // As traceroute does: UDP to a high port, and ICMP echo.
            let mut v4 = udp_v4(a, b, &[0x40; 32]);
            v4.ttl = 1;
            a.send_v4(&v4)?;
            expect_error_v4(a, &v4, 11, 0, PATIENCE)?;
            v4.protocol = ICMP;
            v4.payload = Icmp::new(8, 0, 0x1234_0001, &[0x41; 1000]).bytes_v4();
            a.send_v4(&v4)?;
            expect_error_v4(a, &v4, 11, 0, PATIENCE).context("a long echo request")?;
            b.expect_none("a packet whose TTL ran out", SILENCE, |frame| {
                frame.v4().is_some_and(|p| p.source == v4.source)
            })?;
            let mut v6 = udp_v6(a, b, &[0x40; 32]);
            v6.hop_limit = 1;
            a.send_v6(&v6)?;
            expect_error_v6(a, &v6, 3, 0, PATIENCE)?;
            let mut v6 = udp_v6(a, b, &[0x42; 1400]);
            v6.hop_limit = 1;
            a.send_v6(&v6)?;
            expect_error_v6(a, &v6, 3, 0, PATIENCE).context("a long packet")?;
            b.expect_none("a packet whose hop limit ran out", SILENCE, |frame| {
                frame.v6().is_some_and(|p| p.source == v6.source)
            })?;
            // TTL 2 passes.
            let mut v4 = udp_v4(a, b, b"just enough");
            v4.ttl = 2;
            v4.id = 0x0777;
            a.send_v4(&v4)?;
            super::forwarding::expect_v4(b, &v4)?;
        }
        Ok(())
    })
}

fn no_route(cx: &Context) -> Result<()> {
    rig(cx, Config::two_ports())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let mut v4 = udp_v4(a, b, b"to nowhere, though it takes a while");
        v4.destination = [8, 8, 8, 8].into();
        a.send_v4(&v4)?;
        expect_error_v4(a, &v4, 3, 0, PATIENCE)?;
        let mut v6 = udp_v6(a, b, b"to nowhere, though it takes a while");
        v6.destination = "2a00::1".parse()?;
        a.send_v6(&v6)?;
        expect_error_v6(a, &v6, 1, 0, PATIENCE).map(|_| ())
    })
}

fn silent_host(cx: &Context) -> Result<()> {
    rig(cx, Config::two_ports())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let mut v4 = udp_v4(a, b, b"is anybody there? surely somebody is");
        v4.destination = [10, 0, 1, 99].into();
        a.send_v4(&v4)?;
        let mut v6 = udp_v6(a, b, b"is anybody there?");
        v6.destination = "2001:db8:2::99".parse()?;
        a.send_v6(&v6)?;
        // Three tries a second apart (RFC 4861 §10), then the verdict.
        expect_error_v4(a, &v4, 3, 1, Duration::from_secs(8))?;
        expect_error_v6(a, &v6, 1, 3, Duration::from_secs(8))?;
        Ok(())
    })
}

fn too_big(cx: &Context) -> Result<()> {
    rig(cx, Config::two_ports().with_mtu(1, 1300))?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let mut v4 = udp_v4(a, b, &[0x33; 1400]);
        v4.dont_fragment = true;
        a.send_v4(&v4)?;
        // RFC 1191 §4: the next hop's MTU in the low 16 bits.
        let icmp = expect_error_v4(a, &v4, 3, 4, PATIENCE)?;
        ensure!(icmp.rest == 1300, "next-hop MTU field is {:#x}, want 1300", icmp.rest);
        let v6 = udp_v6(a, b, &[0x33; 1400]);
        a.send_v6(&v6)?;
        let icmp = expect_error_v6(a, &v6, 2, 0, PATIENCE)?;
        ensure!(icmp.rest == 1300, "MTU field is {}, want 1300", icmp.rest);
        b.expect_none("a packet that is too big", SILENCE, |frame| {
            frame.ip_source() == Some(IpAddr::from(v4.source))
                || frame.ip_source() == Some(IpAddr::from(v6.source))
        })?;
        // What fits exactly passes.
        let mut v4 = udp_v4(a, b, &[0x33; 1300 - 28]);
        (v4.dont_fragment, v4.id) = (true, 0x0888);
        a.send_v4(&v4)?;
        super::forwarding::expect_v4(b, &v4)?;
        let mut v6 = udp_v6(a, b, &[0x33; 1300 - 48]);
        v6.flow_label = 0x888;
        a.send_v6(&v6)?;
        super::forwarding::expect_v6(b, &v6)
    })
}

fn no_error_about_an_error(cx: &Context) -> Result<()> {
    rig(cx, Config::two_ports())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let nowhere = Ipv4Addr::new(8, 8, 8, 8);
        let quoted = udp_v4(b, a, &[0; 8]).bytes();
        // RFC 1122 §3.2.2: never about an ICMP error, a non-first fragment, or what came by broadcast.
        let error = Ipv4::new(a.identity().v4, nowhere, ICMP, Icmp::new(3, 1, 0, &quoted).bytes_v4());
        a.send_v4(&error)?;
        let mut fragment = Ipv4::new(a.identity().v4, nowhere, UDP, vec![0; 64]);
        fragment.offset = 64;
        a.send_v4(&fragment)?;
        let mut packet = Ipv4::new(a.identity().v4, nowhere, UDP, vec![0; 64]);
        packet.ttl = 9;
        let own = a.identity();
        a.send(&crate::frame::ethernet(
            crate::frame::Mac::BROADCAST,
            own.mac,
            crate::frame::ETHERTYPE_IPV4,
            &packet.bytes(),
        ))?;
        a.expect_none("an ICMP error", SILENCE * 2, |frame| {
            frame.v4().is_some() && frame.icmp().is_some_and(|icmp| matches!(icmp.kind, 3 | 11 | 12))
        })?;
        let nowhere = "2a00::1".parse()?;
        let quoted = udp_v6(b, a, &[0; 8]).bytes();
        let icmp = Icmp::new(1, 0, 0, &quoted).bytes_v6(own.v6, nowhere);
        a.send_v6(&Ipv6::new(own.v6, nowhere, ICMPV6, icmp))?;
        a.expect_none("an ICMPv6 error", SILENCE * 2, |frame| {
            frame.v6().is_some() && frame.icmp().is_some_and(|icmp| icmp.kind < 128)
        })?;
        everything_works(rig)
    })
}
