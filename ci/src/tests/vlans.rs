//! Several networks by one NIC: on VLANs, or side by side on one interface.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::forwarding::{everything_works, expect_v4, udp_v4};
use super::operation::seen;
use super::{Context, Needs, Test};
use crate::frame::{self, Icmp};
use crate::host::{Host, Sockets, Switch};
use crate::qemu::Platform;
use crate::qmp::Link;
use crate::rig::{FrameRig, PATIENCE, SILENCE, identity};
use crate::router::{Config, Setup, router_mac};
use crate::table;
use crate::trunk::{Trunk, tag};

const WEIR: Needs = Needs { root: false, programs: &[], weir: true, alone: false };

pub(super) fn tests() -> Vec<Test> {
    let mut all = Vec::new();
    for (platform, cpus) in [(Platform::Q35, 1), (Platform::Q35, 4), (Platform::Microvm, 2)] {
        let name = format!("vlan-one-armed-{}-smp{cpus}", platform.name());
        all.push(Test::new(name, WEIR, move |cx| one_armed(cx, platform, cpus)));
    }
    all.extend([
        Test::new("vlan-steered-over-cpus", WEIR, steered),
        Test::new("vlan-unknown-is-counted-at-its-port", WEIR, unknown),
        Test::new("vlan-advertises-itself", WEIR, advertises),
        Test::new("vlan-follows-its-ports-link", WEIR, link),
        Test::new("vlan-replaced-while-others-forward", WEIR, replaced),
        Test::new("untagged-one-armed-two-networks", WEIR, two_networks),
    ]);
    all
}

/// A section of interface `name` on a VLAN of "trunk", with the addresses of the router at `port`.
fn vlan(name: &str, id: u16, port: usize, more: &str) -> Result<String> {
    let own = identity(port)?;
    Ok(format!(
        "\n[interface.{name}]\nparent = \"trunk\"\nvlan = {id}\naddresses = [\"{}/24\", \"{}/64\"]\n{more}",
        own.gateway_v4, own.gateway_v6
    ))
}

const TRUNK: &str = "hostname = \"edge1\"\n\n[interface.trunk]\nmatch = { port = 0 }\n";

/// Network 0 is VLAN 10, network 1 is VLAN 20.
pub(super) fn two_vlans() -> Result<String> {
    Ok([TRUNK, &vlan("wan", 10, 0, "")?, &vlan("lan", 20, 1, "")?].concat())
}

/// A router with one NIC and a host on each of `vlans` of its wire.
fn rig(
    cx: &Context,
    text: &str,
    vlans: &[Option<u16>],
    prepare: impl FnOnce(&mut Setup),
) -> Result<(FrameRig, Trunk)> {
    let (trunk, wires) = Trunk::new(Sockets::new()?, vlans)?;
    let gateway_mac = frame::mac(&router_mac(0))?;
    let hosts = wires
        .into_iter()
        .enumerate()
        .map(|(port, wire)| Host::start(wire, crate::host::Identity { gateway_mac, ..identity(port)? }));
    let hosts: Vec<Host> = hosts.collect::<Result<_>>()?;
    let mut setup = Setup::new(cx.image, Config::two_ports(), vec![trunk.wire()]);
    setup.module = Some(text.as_bytes().to_vec());
    prepare(&mut setup);
    let router = setup.start()?;
    trunk.connect()?;
    hosts.iter().try_for_each(Host::connect)?;
    Ok((FrameRig { router, hosts }, trunk))
}

const BOTH: [Option<u16>; 2] = [Some(10), Some(20)];

fn one_armed(cx: &Context, platform: Platform, cpus: usize) -> Result<()> {
    let (rig, _trunk) = rig(cx, &two_vlans()?, &BOTH, |setup| {
        setup.platform = platform;
        setup.cpus = cpus;
    })?;
    rig.check(&cx.name, |rig| {
        let line = rig.router.ready()?;
        ensure!(line.text.contains("; trunk; wan 192.0.2.1/24"), "a trunk without addresses: {}", line.text);
        everything_works(rig)?;
        everything_works(rig)?;
        let counts = table::read(&mut rig.router)?;
        for name in ["wan", "lan"] {
            ensure!(counts.received(name) > 10 && counts.sent(name) > 10, "{name}:\n{}", counts.text);
        }
        ensure!(counts.received("trunk") == 0, "tagged frames count at their VLANs:\n{}", counts.text);
        Ok(())
    })
}

/// Flows in tagged frames are spread by their IP headers.
fn steered(cx: &Context) -> Result<()> {
    let text = format!("steering = \"flows\"\n{}", two_vlans()?);
    let (rig, _trunk) = rig(cx, &text, &BOTH, |setup| setup.cpus = 2)?;
    rig.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        const FLOWS: u16 = 64;
        for flow in 0..FLOWS {
            let (from, to) = (a.identity().v4, b.identity().v4);
            let udp = frame::udp((from.into(), 20_000 + 77 * flow), (to.into(), 7), b"of a flow");
            a.send_v4(&frame::Ipv4 { id: flow, ..frame::Ipv4::new(from, to, frame::UDP, udp) })?;
        }
        for flow in 0..FLOWS {
            b.expect(&format!("flow {flow}"), PATIENCE, |frame| {
                frame.v4().filter(|packet| packet.id == flow && packet.protocol == frame::UDP).map(drop)
            })?;
        }
        let counts = table::read(&mut rig.router)?;
        let received: Vec<u64> = counts.cpus.iter().map(|cpu| cpu.received).collect();
        ensure!(
            received.len() == 2 && received.iter().all(|&count| count > u64::from(FLOWS) / 8),
            "one CPU has nearly all: {received:?}\n{}",
            counts.text
        );
        Ok(())
    })
}

/// Frames of no VLAN of ours, and those with two tags, are counted by name at the port and answered by nobody.
fn unknown(cx: &Context) -> Result<()> {
    let (rig, trunk) = rig(cx, &two_vlans()?, &BOTH, |_| ())?;
    rig.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let own = *rig.hosts[0].identity();
        let request = frame::Arp {
            operation: 1,
            sender_mac: own.mac,
            sender: own.v4,
            target_mac: frame::Mac::default(),
            target: own.gateway_v4,
        };
        let request = frame::ethernet(frame::Mac::BROADCAST, own.mac, frame::ETHERTYPE_ARP, &request.bytes());
        for _ in 0..3 {
            trunk.send(&tag(Some(30), &request))?;
        }
        trunk.send(&tag(Some(10), &tag(Some(20), &request)))?;
        trunk.send(&[&request[..12], &[0x88, 0xa8, 0, 10], &request[12..]].concat())?;
        // Untagged, and on the wrong VLAN.
        trunk.send(&request)?;
        trunk.send(&tag(Some(20), &request))?;
        for host in &rig.hosts {
            host.expect_none("an ARP reply", SILENCE, |frame| {
                frame.arp().is_some_and(|arp| arp.operation == 2)
            })?;
        }
        // A tag of priority alone is none; one with priority and a VLAN is that VLAN's.
        trunk.send(&tag(Some(0x600a), &request))?;
        rig.hosts[0].expect("an ARP reply", PATIENCE, |frame| {
            frame.arp().filter(|arp| arp.operation == 2).map(drop)
        })?;
        let counts = table::read(&mut rig.router)?;
        let drops = ["ethernet-unknown-vlan", "ethernet-stacked-vlan"].map(|reason| counts.drops(reason));
        ensure!(drops == [3, 2], "{drops:?}:\n{}", counts.text);
        let trunks: String = counts
            .text
            .lines()
            .skip_while(|line| !line.starts_with("trunk"))
            .take_while(|line| !line.starts_with("wan"))
            .collect();
        ensure!(trunks.contains("3 ethernet-unknown-vlan"), "not at the port:\n{}", counts.text);
        Ok(())
    })
}

/// Router advertisements go to the VLAN that wants them, and to no other.
fn advertises(cx: &Context) -> Result<()> {
    let lan = vlan("lan", 20, 1, "router-advertisement = true\nmtu = 1400\n")?;
    let text = [TRUNK, &vlan("wan", 10, 0, "")?, &lan].concat();
    let (rig, _trunk) = rig(cx, &text, &BOTH, |_| ())?;
    rig.check(&cx.name, |rig| {
        let advertisement = |frame: &frame::Frame| frame.icmp().filter(|icmp: &Icmp| icmp.kind == 134);
        rig.router.ready()?;
        let heard = rig.hosts[1].expect("an advertisement", PATIENCE * 2, advertisement)?;
        // MTU option (RFC 4861 §4.6.4).
        ensure!(heard.body.windows(8).any(|option| option == [5, 1, 0, 0, 0, 0, 5, 120]), "{:?}", heard.body);
        rig.hosts[0].expect_none("an advertisement", SILENCE, |frame| advertisement(frame).is_some())?;
        everything_works(rig)
    })
}

/// The port's link takes its VLANs down and up.
fn link(cx: &Context) -> Result<()> {
    let (rig, _trunk) = rig(cx, &two_vlans()?, &BOTH, |_| ())?;
    rig.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let position = rig.router.machine.console.position();
        rig.router.machine.qmp()?.set_link("nic0", Link::Down)?;
        rig.router.machine.console.wait_after(position, "trunk: link down", PATIENCE)?;
        let counts = table::read(&mut rig.router)?;
        let down = |name: &str| {
            counts
                .text
                .lines()
                .any(|line| line.split_whitespace().collect::<Vec<_>>().starts_with(&[name, "down"]))
        };
        ensure!(["trunk", "wan", "lan"].into_iter().all(down), "not all are down:\n{}", counts.text);
        let position = rig.router.machine.console.position();
        rig.router.machine.qmp()?.set_link("nic0", Link::Up)?;
        rig.router.machine.console.wait_after(position, "trunk: link up", PATIENCE)?;
        seen(&mut rig.router)?;
        everything_works(rig)
    })
}

/// Interfaces on VLANs come, go and change their VLAN at run time; packets between two that stay all arrive.
fn replaced(cx: &Context) -> Result<()> {
    let vlans = [Some(10), Some(20), Some(30)];
    let (rig, _trunk) = rig(cx, &two_vlans()?, &vlans, |setup| setup.cpus = 2)?;
    rig.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let with = |id| -> Result<String> { Ok(two_vlans()? + &vlan("dmz", id, 2, "")?) };
        let (mut sent, mut arrived, mut number) = (Vec::new(), Vec::new(), 0);
        let ours = |frame: &frame::Frame| {
            frame.v4().filter(|packet| packet.protocol == frame::UDP).map(|packet| packet.id)
        };
        for round in 0..4 {
            let (text, there) = match round % 4 {
                0 => (with(30)?, true),
                1 => (with(31)?, false),
                2 => (with(30)?, true),
                _ => (two_vlans()?, false),
            };
            let (a, b, c) = (&rig.hosts[0], &rig.hosts[1], &rig.hosts[2]);
            c.answer(Switch::On);
            let stop = std::sync::atomic::AtomicBool::new(false);
            let (router, first) = (&mut rig.router, number);
            let outcome = std::thread::scope(|scope| {
                let sender = scope.spawn(|| -> Result<Vec<u16>> {
                    let mut ids = Vec::new();
                    while ids.len() < 20 || !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let id = first + ids.len() as u16;
                        a.send_v4(&frame::Ipv4 { id, ..udp_v4(a, b, b"stays") })?;
                        ids.push(id);
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Ok(ids)
                });
                let replaced = router.replace(&text);
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
                let ids = sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
                replaced.map(|()| ids)
            })?;
            number += outcome.len() as u16;
            sent.extend(outcome);
            let reached =
                c.ping(c.identity().gateway_v4.into(), round, if there { PATIENCE } else { SILENCE * 2 });
            ensure!(reached.is_ok() == there, "round {round}: VLAN 30 is {there}, but {reached:?}");
            if there {
                a.ping(c.identity().v4.into(), round, PATIENCE).context("to the VLAN that came")?;
            }
            let deadline = Instant::now() + PATIENCE;
            while arrived.len() < sent.len() && Instant::now() < deadline {
                arrived.extend(b.take_all(ours));
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        ensure!(sent.len() >= 80, "only {} packets", sent.len());
        std::thread::sleep(SILENCE);
        arrived.extend(rig.hosts[1].take_all(ours));
        arrived.sort_unstable();
        ensure!(arrived == sent, "{} of {} packets arrived", arrived.len(), sent.len());
        everything_works(rig)
    })
}

/// One interface with two networks: packets between their hosts leave by where they came in.
fn two_networks(cx: &Context) -> Result<()> {
    let (first, second) = (identity(0)?, identity(1)?);
    let addresses = [
        format!("\"{}/24\", \"{}/64\"", first.gateway_v4, first.gateway_v6),
        format!("\"{}/24\", \"{}/64\"", second.gateway_v4, second.gateway_v6),
    ];
    let text = format!("{TRUNK}addresses = [{}]\nreverse-path-filter = \"strict\"\n", addresses.join(", "));
    let (rig, _trunk) = rig(cx, &text, &[None, None], |_| ())?;
    rig.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        for round in 0..20 {
            let packet = frame::Ipv4 { id: round, ..udp_v4(a, b, b"and back") };
            a.send_v4(&packet)?;
            expect_v4(b, &packet)?;
        }
        Ok(())
    })
}
