//! The router in an operator's hands: little memory, strange devices, cables pulled, traffic from the first moment,
//! its console.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::forwarding::{everything_works, udp_v4};
use super::{Context, Needs, Test};
use crate::frame::UDP;
use crate::qmp::Link;
use crate::rig::{FrameRig, PATIENCE, SILENCE};
use crate::router::{Config, Image, Router, Setup};

pub(super) fn tests() -> Vec<Test> {
    let plain = Needs::default();
    let weir = Needs { weir: true, ..plain };
    vec![
        Test::new("fatal-error-names-functions", weir, names_functions),
        Test::new("fatal-error-while-forwarding-reboots", weir, reboots),
        Test::new("runs-without-a-nic", weir, without_nic),
        Test::new("routes-between-three-networks", plain, three_networks),
        Test::new("boots-into-traffic", plain, boots_into_traffic),
        Test::new("follows-link-down-and-up", plain, link_flap),
        Test::new("console-shows-interfaces-and-counters", weir, console_table),
        Test::new("says-when-it-is-ready", weir, ready_line),
    ]
}

/// Too little memory for packets is fatal: its backtrace leads to the function that said so.
fn names_functions(cx: &Context) -> Result<()> {
    let mut setup = Setup::new(cx.image, Config::two_ports(), Vec::new());
    setup.memory_mib = 6;
    let router = setup.start()?;
    router.machine.wait("weir: fatal", cx.image.patience())?;
    router.machine.wait("rebooting", PATIENCE)?;
    let text = router.machine.console.text();
    ensure!(
        text.contains("6 MiB of memory are too little") && text.contains("start.rs:"),
        "cause and place are missing:\n{text}"
    );
    ensure!(crate::symbolize::has_backtrace(&text), "no backtrace:\n{text}");
    let image = crate::router::weir_debug()?;
    if image.is_file() {
        let named = crate::symbolize::symbolize(&image, &text)?;
        ensure!(
            named.contains("main.rs:") && named.contains("weir::main"),
            "the backtrace names nothing:\n{named}"
        );
    }
    Ok(())
}

/// An NMI stands for any fatal error: every CPU stops, the report is whole, five seconds later the machine resets.
fn reboots(cx: &Context) -> Result<()> {
    let mut rig = FrameRig::start(cx.image, Config::two_ports(), 2, |setup| setup.cpus = 2)?;
    rig.router.ready()?;
    everything_works(&rig)?;
    rig.router.machine.qmp()?.command("inject-nmi", serde_json::json!({}))?;
    rig.router.machine.wait("weir: fatal on cpu", PATIENCE)?;
    rig.router.machine.wait("rebooting in 5 s", PATIENCE)?;
    let text = rig.router.machine.console.text();
    ensure!(crate::symbolize::has_backtrace(&text), "no backtrace:\n{text}");
    ensure!(text.to_lowercase().contains("rip"), "no registers:\n{text}");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !rig.router.machine.console.ended() {
        ensure!(Instant::now() < deadline, "it says it reboots, and does not:\n{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn without_nic(cx: &Context) -> Result<()> {
    FrameRig::start(cx.image, Config::two_ports(), 0, |_| ())?.check(&cx.name, |rig| {
        rig.router.machine.wait("there is no network device", cx.image.patience())?;
        crate::table::read(&mut rig.router).map(|_| ())
    })
}

fn three_networks(cx: &Context) -> Result<()> {
    FrameRig::start(cx.image, Config::three_ports(), 3, |_| ())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        for (from, to) in [(2, 0), (2, 1), (0, 2), (1, 2)] {
            let target = *rig.hosts[to].identity();
            rig.hosts[from].ping(target.v4.into(), 1, PATIENCE)?;
            rig.hosts[from].ping(target.v6.into(), 2, PATIENCE)?;
        }
        Ok(())
    })
}

/// Frames wait at the NIC before the router has a driver for it.
fn boots_into_traffic(cx: &Context) -> Result<()> {
    FrameRig::start(cx.image, Config::two_ports(), 2, |_| ())?.check(&cx.name, |rig| {
        let packet = udp_v4(&rig.hosts[0], &rig.hosts[1], b"early");
        let own = *rig.hosts[0].identity();
        let bytes =
            crate::frame::ethernet(own.gateway_mac, own.mac, crate::frame::ETHERTYPE_IPV4, &packet.bytes());
        let ready = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| rig.router.ready());
            while !waiting.is_finished() {
                // Fails while the queue is full: nobody takes frames yet.
                let _ = rig.hosts[0].offer(&bytes);
                std::thread::sleep(Duration::from_micros(200));
            }
            waiting.join()
        });
        ready.ok().context("waiting for the router")??;
        everything_works(rig)
    })
}

fn link_flap(cx: &Context) -> Result<()> {
    FrameRig::start(cx.image, Config::two_ports(), 2, |_| ())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        for round in 1..=2 {
            let position = rig.router.machine.console.position();
            rig.router.machine.qmp()?.set_link("nic1", Link::Down)?;
            if cx.image == Image::Weir {
                rig.router
                    .machine
                    .console
                    .wait_after(position, "lan: link down", PATIENCE)
                    .context("link log")?;
            }
            seen(&mut rig.router)?;
            let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
            a.ping(a.identity().gateway_v4.into(), round, PATIENCE)
                .context("the other interface, link down")?;
            ensure!(
                a.ping(b.identity().v4.into(), round, SILENCE).is_err(),
                "a packet crossed a pulled cable"
            );
            let position = rig.router.machine.console.position();
            rig.router.machine.qmp()?.set_link("nic1", Link::Up)?;
            if cx.image == Image::Weir {
                rig.router
                    .machine
                    .console
                    .wait_after(position, "lan: link up", PATIENCE)
                    .context("link log")?;
            }
            seen(&mut rig.router)?;
            everything_works(rig).context("after the link came back")?;
        }
        // Too quickly for anybody to see it down.
        let position = rig.router.machine.console.position();
        let qmp = rig.router.machine.qmp()?;
        qmp.set_link("nic1", Link::Down)?;
        qmp.set_link("nic1", Link::Up)?;
        for said in ["lan: link down", "lan: link up"].iter().filter(|_| cx.image == Image::Weir) {
            rig.router.machine.console.wait_after(position, said, PATIENCE)?;
        }
        seen(&mut rig.router)?;
        everything_works(rig).context("after the link was away for a moment")
    })
}

/// Waits until what was said of a link is in force: a table is shown after that. Linux says nothing.
pub(super) fn seen(router: &mut Router) -> Result<()> {
    match router.image {
        Image::Weir => crate::table::read(router).map(drop),
        Image::Linux => {
            std::thread::sleep(SILENCE);
            Ok(())
        }
    }
}

fn console_table(cx: &Context) -> Result<()> {
    FrameRig::start(cx.image, Config::two_ports(), 2, |_| ())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let FrameRig { router, hosts } = rig;
        let (a, b) = (&hosts[0], &hosts[1]);
        for _ in 0..100 {
            a.send_v4(&udp_v4(a, b, b"counted"))?;
        }
        for number in 1..=100 {
            b.expect(&format!("packet {number} of 100"), PATIENCE, |frame| {
                frame.v4().filter(|packet| packet.protocol == UDP).map(drop)
            })?;
        }
        // Of all frames since the beginning, those among them.
        super::numbers::agreed(hosts, |counted| {
            let table = crate::table::read(router)?;
            ensure!(table.memory.is_some(), "no memory figure:\n{}", table.text);
            for (name, [(sent, _), (received, _)]) in ["wan", "lan"].into_iter().zip(counted) {
                let shown = (table.received(name), table.sent(name));
                ensure!(
                    shown == (*sent, *received),
                    "the host at {name} sent {sent} and received {received}, the table:\n{}",
                    table.text
                );
            }
            Ok(())
        })
        .map(drop)
    })
}

fn ready_line(cx: &Context) -> Result<()> {
    FrameRig::start(cx.image, Config::two_ports(), 2, |_| ())?.check(&cx.name, |rig| {
        let line = rig.router.ready()?;
        let took = line.text.split("ready in ").nth(1);
        let took = took.and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok());
        let took = took.with_context(|| format!("no time in {line:?}"))?;
        // What it took by its own clock is a part of what passed here.
        let passed = line.at.duration_since(rig.router.machine.started).as_secs_f64() * 1e3;
        ensure!(
            line.text.contains(" ms") && took > 0.0 && took < passed,
            "{line:?}, {passed} ms after the start"
        );
        let text = rig.router.machine.console.text();
        for address in ["192.0.2.1/24", "2001:db8:1::1/64", "10.0.1.1/24", "2001:db8:2::1/64"] {
            ensure!(text.contains(address), "the console does not show {address}:\n{text}");
        }
        Ok(())
    })
}
