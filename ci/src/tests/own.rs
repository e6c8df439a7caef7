//! What is addressed to the router itself, and how it holds up: refusals, limits, dead neighbours, load.

use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::errors::{expect_error_v4, expect_error_v6};
use super::forwarding::{everything_works, udp_v4, udp_v6};
use super::{Context, Needs, Test};
use crate::frame::{self, ICMPV6, Icmp, Ipv4, Ipv6};
use crate::host::Switch;
use crate::rig::{FrameRig, PATIENCE, SILENCE};
use crate::router::Config;

pub(super) fn tests() -> Vec<Test> {
    let plain = Needs::default();
    let weir = Needs { weir: true, ..plain };
    vec![
        Test::new("refuses-unknown-ports-and-protocols", plain, refuses),
        Test::new("answers-on-its-link-local-address", plain, link_local),
        Test::new("limits-its-errors", weir, limits_errors),
        Test::new("drops-source-routes", weir, source_routes),
        Test::new("drops-frames-over-the-mtu", plain, oversized),
        Test::new("notices-that-a-neighbour-is-gone", plain, dead_neighbour).waits(),
        Test::new("answers-under-load", Needs { alone: true, ..plain }, under_load),
    ]
}

fn rig(cx: &Context, config: Config) -> Result<FrameRig> {
    FrameRig::start(cx.image, config, 2, |_| ())
}

fn refuses(cx: &Context) -> Result<()> {
    rig(cx, Config::two_ports())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let own = a.identity();
        // RFC 1122 §4.1.3.1 and §3.2.2.1; RFC 4443 §3.1 and §3.4.
        let mut v4 = udp_v4(a, b, b"is there a service here?");
        v4.destination = own.gateway_v4;
        v4.payload =
            frame::udp((own.v4.into(), 4000), (own.gateway_v4.into(), 4001), b"is there a service here?");
        a.send_v4(&v4)?;
        expect_error_v4(a, &v4, 3, 3, PATIENCE).context("UDP port")?;
        v4.protocol = 253;
        a.send_v4(&v4)?;
        expect_error_v4(a, &v4, 3, 2, PATIENCE).context("protocol 253")?;
        let mut v6 = udp_v6(a, b, b"");
        v6.destination = own.gateway_v6;
        v6.payload =
            frame::udp((own.v6.into(), 4000), (own.gateway_v6.into(), 4001), b"is there a service here?");
        a.send_v6(&v6)?;
        expect_error_v6(a, &v6, 1, 4, PATIENCE).context("UDP port")?;
        v6.next_header = 253;
        a.send_v6(&v6)?;
        let icmp = expect_error_v6(a, &v6, 4, 1, PATIENCE).context("next header 253")?;
        // The pointer is at the next-header field.
        ensure!(icmp.rest == 6, "parameter problem points at byte {}", icmp.rest);
        Ok(())
    })
}

fn link_local(cx: &Context) -> Result<()> {
    rig(cx, Config::two_ports())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        for host in &rig.hosts {
            let own = host.identity();
            let (source, target) = (own.mac.link_local(), own.gateway_mac.link_local());
            let icmp = Icmp::new(128, 0, 0x1_0001, b"on this link").bytes_v6(source, target);
            let request = Ipv6::new(source, target, ICMPV6, icmp);
            let answered = |frame: &frame::Frame| {
                let reply = frame.icmp().filter(|icmp| icmp.kind == 129 && icmp.checksum_valid)?;
                let packet = frame.v6()?;
                let right = packet.source == target && packet.destination == source;
                (right && reply.body == b"on this link").then_some(())
            };
            // The address may be under duplicate detection for a second.
            let ask = |limit| {
                host.send_v6(&request)?;
                host.expect("an echo reply from fe80::", limit, answered)
            };
            ask(PATIENCE / 2).or_else(|_| ask(PATIENCE))?;
        }
        // The same address on the other link is that link's.
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let (source, target) = (a.identity().mac.link_local(), b.identity().mac.link_local());
        let icmp = Icmp::new(128, 0, 0x1_0002, b"on another link").bytes_v6(source, target);
        a.send_v6(&Ipv6::new(source, target, ICMPV6, icmp))?;
        b.expect_none("a link-local packet from another link", SILENCE, |frame| {
            frame.v6().is_some_and(|p| p.source == source)
        })
    })
}

fn limits_errors(cx: &Context) -> Result<()> {
    rig(cx, Config::two_ports())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let began = Instant::now();
        for _ in 0..1000 {
            a.send_v4(&Ipv4 { ttl: 1, ..udp_v4(a, b, b"one of a thousand") })?;
        }
        // All of them have been looked at by then.
        a.ping(a.identity().gateway_v4.into(), 100, PATIENCE)?;
        let errors = a.take_all(|frame| frame.icmp().filter(|icmp| icmp.kind == 11)).len();
        // RFC 1812 §4.3.2.8: limited, but not silent. A second brings some more.
        let most = 200 + (100.0 * began.elapsed().as_secs_f64()) as usize;
        ensure!((5..=most).contains(&errors), "{errors} errors about 1000 packets, expected 5 to {most}");
        // Another sender's allowance is its own.
        let mut other = udp_v4(b, a, b"somebody else's first one");
        other.ttl = 1;
        b.send_v4(&other)?;
        expect_error_v4(b, &other, 11, 0, PATIENCE)?;
        everything_works(rig)
    })
}

fn source_routes(cx: &Context) -> Result<()> {
    rig(cx, Config::two_ports())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        // RFC 7126 §4.3, §4.4: loose and strict source routes are dropped, to and through the router.
        for kind in [131, 137] {
            let far = b.identity().v4.octets();
            let mut packet = udp_v4(a, b, b"by a way of my own");
            packet.options = [&[kind, 7, 4][..], &far, &[0]].concat();
            a.send_v4(&packet)?;
            packet.destination = a.identity().gateway_v4;
            a.send_v4(&packet)?;
        }
        // RFC 5095: routing header type 0.
        let mut packet = udp_v6(a, b, b"");
        packet.destination = a.identity().gateway_v6;
        packet.next_header = 43;
        packet.payload = [&[17, 2, 0, 1, 0, 0, 0, 0][..], &b.identity().v6.octets(), &[0; 8]].concat();
        a.send_v6(&packet)?;
        b.expect_none("a source-routed packet", SILENCE * 2, |frame| {
            frame.v4().is_some_and(|p| p.protocol == 17) || frame.v6().is_some_and(|p| p.next_header == 43)
        })?;
        everything_works(rig)
    })
}

fn oversized(cx: &Context) -> Result<()> {
    rig(cx, Config::two_ports())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        for size in [1473, 1600, 2034, 2048, 4000, 9000, 30_000] {
            a.send_v4(&Ipv4 { dont_fragment: true, ..udp_v4(a, b, &vec![7; size]) })?;
            a.send_v6(&udp_v6(a, b, &vec![7; size]))?;
        }
        b.expect_none("a packet over the MTU", SILENCE * 2, |frame| {
            frame.v4().is_some_and(|p| p.payload.len() > 1480)
                || frame.v6().is_some_and(|p| p.payload.len() > 1460)
        })?;
        everything_works(rig)
    })
}

/// Known for half a minute, then silent: traffic makes the router ask, and give up (RFC 4861 §7.3).
fn dead_neighbour(cx: &Context) -> Result<()> {
    rig(cx, Config::two_ports())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        // REACHABLE_TIME may be up to 1.5 times 30 s (RFC 4861 §10).
        std::thread::sleep(Duration::from_secs(46));
        b.answer(Switch::Off);
        // DELAY_FIRST_PROBE_TIME is 5 s, then three probes a second apart; then unreachable.
        let deadline = Instant::now() + Duration::from_secs(25);
        let mut told = false;
        while !told && Instant::now() < deadline {
            a.send_v6(&udp_v6(a, b, b"still there?"))?;
            let unreachable =
                |frame: &frame::Frame| frame.icmp().filter(|icmp| (icmp.kind, icmp.code) == (1, 3));
            told = a.expect("address unreachable", Duration::from_millis(500), unreachable).is_ok();
        }
        ensure!(told, "25 s of traffic to a neighbour that is gone, and no word of it");
        b.answer(Switch::On);
        let to: Ipv6Addr = b.identity().v6;
        a.ping(to.into(), 12, Duration::from_secs(5)).context("the neighbour is back")?;
        everything_works(rig)
    })
}

/// While packets cross from one network to the other as fast as they are taken, a host on a third one and the console
/// are still answered.
fn under_load(cx: &Context) -> Result<()> {
    FrameRig::start(cx.image, Config::three_ports(), 3, |_| ())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b, c) = (&rig.hosts[0], &rig.hosts[1], &rig.hosts[2]);
        let near = *c.identity();
        c.ping(near.gateway_v4.into(), 100, PATIENCE)?;
        c.ping(near.gateway_v6.into(), 100, PATIENCE)?;
        let own = *a.identity();
        let load = udp_v4(a, b, &[0; 18]);
        let load = frame::ethernet(own.gateway_mac, own.mac, frame::ETHERTYPE_IPV4, &load.bytes());
        let stop = AtomicBool::new(false);
        let mut took = Vec::new();
        let machine = &mut rig.router;
        a.keep(Switch::Off);
        b.keep(Switch::Off);
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) && a.send(&load).is_ok() {
                    std::hint::spin_loop()
                }
            });
            std::thread::sleep(Duration::from_millis(300));
            let outcome = (0..5u16).try_for_each(|round| -> Result<()> {
                let began = Instant::now();
                c.ping(near.gateway_v4.into(), round, PATIENCE).context("IPv4 ping under load")?;
                c.ping(near.gateway_v6.into(), round, PATIENCE).context("IPv6 ping under load")?;
                crate::table::read(machine).context("the console under load")?;
                took.push(began.elapsed());
                Ok(())
            });
            stop.store(true, Ordering::Relaxed);
            outcome
        });
        a.keep(Switch::On);
        b.keep(Switch::On);
        outcome?;
        // A machine that stands still for a moment holds up one of them, load all.
        took.sort_unstable();
        ensure!(took[took.len() / 2] < Duration::from_secs(3), "answers take {took:.1?}");
        everything_works(rig)
    })
}
