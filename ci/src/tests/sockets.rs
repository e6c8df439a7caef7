//! The router's own sockets against Linux's TCP and UDP, by an image with the echo protocol (RFC 862).

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Context, Needs, Test};
use crate::netns::LinuxHost;
use crate::rig::{LinuxPlan, LinuxRig, identity};
use crate::router::{Setup, weir_elf};

const NETWORK: Needs = Needs { root: true, programs: &["ip", "ethtool"], weir: true, alone: false };

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("sockets-tcp-with-linux", NETWORK, |cx| tcp(cx, 1, 1)),
        Test::new("sockets-tcp-2-cpus", NETWORK, |cx| tcp(cx, 2, 1)),
        Test::new("sockets-tcp-4-cpus-2-queues", NETWORK, |cx| tcp(cx, 4, 2)),
        Test::new("sockets-udp-with-linux", NETWORK, udp),
        Test::new("sockets-closed-ports", NETWORK, closed),
        Test::new("sockets-call-linux", NETWORK, call),
    ]
}

/// The router with echo on its ports; its first interface alone offers management, unless `all` do.
fn prepare(setup: &mut Setup) {
    setup.kernel = weir_elf().ok().map(|path| path.with_file_name("echo.elf"));
    let text = setup.config.toml().replacen("addresses", "management = true\naddresses", 1);
    setup.module = Some(text.into_bytes());
}

fn start(cx: &Context, plan: &LinuxPlan) -> Result<LinuxRig> {
    let rig = LinuxRig::power_on(cx.image, plan, prepare)?;
    rig.router.ready()?;
    let all = format!("echo: CPUs that listen: {}", plan.cpus);
    rig.router.machine.console.wait(&all, Duration::from_secs(20))?;
    Ok(rig)
}

/// The router's addresses as its first host sees them, with `port`.
fn targets(port: u16) -> Result<[String; 2]> {
    let own = identity(0)?;
    Ok([format!("{}:{port}", own.gateway_v4), format!("[{}]:{port}", own.gateway_v6)])
}

/// Runs `lab echo` inside a host.
fn echo(host: &LinuxHost, arguments: &[&str], limit: Duration) -> Result<String> {
    let own = std::env::current_exe().context("own path")?.display().to_string();
    host.check(&own, &[&["echo"], arguments].concat(), limit)
}

fn tcp(cx: &Context, cpus: usize, queues: usize) -> Result<()> {
    start(cx, &LinuxPlan { cpus, queues, ..LinuxPlan::new() })?.check(&cx.name, |rig| {
        for offloads in ["on", "off"] {
            rig.host(0).offloads(offloads)?;
            for to in targets(7)? {
                let limit = Duration::from_secs(60);
                echo(rig.host(0), &[&to, "--size", "4000000"], limit)
                    .with_context(|| format!("one connection to {to}, offloads {offloads}"))?;
                echo(rig.host(0), &[&to, "--size", "100000", "--connections", "40"], limit)
                    .with_context(|| format!("40 connections to {to}, offloads {offloads}"))?;
            }
        }
        // An address of another interface, by way of this one.
        let far = format!("{}:7", identity(1)?.gateway_v4);
        echo(rig.host(0), &[&far, "--size", "10000"], Duration::from_secs(20))?;
        Ok(())
    })
}

fn udp(cx: &Context) -> Result<()> {
    start(cx, &LinuxPlan { cpus: 2, ..LinuxPlan::new() })?.check(&cx.name, |rig| {
        for to in targets(7)? {
            echo(rig.host(0), &[&to, "--udp", "5"], Duration::from_secs(60))?;
        }
        Ok(())
    })
}

/// What no socket is for is refused at once; and so is everything where management is not offered.
fn closed(cx: &Context) -> Result<()> {
    start(cx, &LinuxPlan::new())?.check(&cx.name, |rig| {
        let own = identity(1)?;
        let elsewhere = [format!("{}:7", own.gateway_v4), format!("[{}]:7", own.gateway_v6)];
        for (host, to) in [(0, targets(8)?), (1, elsewhere)] {
            for to in to {
                for udp in ["0", "1"] {
                    let refused = echo(rig.host(host), &[&to, "--udp", udp], Duration::from_secs(20));
                    let said = format!("{:#}", refused.err().context(format!("{to} is open"))?);
                    ensure!(said.contains("refused"), "{to}: {said}");
                }
            }
        }
        Ok(())
    })
}

/// The router connects: to a listener, and to ports where nobody is.
fn call(cx: &Context) -> Result<()> {
    start(cx, &LinuxPlan { cpus: 4, ..LinuxPlan::new() })?.check(&cx.name, |rig| {
        let own = identity(0)?;
        let here = [format!("{}:9", own.v4), format!("[{}]:9", own.v6)];
        let program = std::env::current_exe().context("own path")?.display().to_string();
        for (there, here) in targets(9)?.into_iter().zip(here) {
            let list = ["echo", &here, "--wait", "--size", "300000"];
            let running = rig.host(0).start(&program, &list)?;
            running.output.wait("listening", Duration::from_secs(5))?;
            echo(rig.host(0), &[&there, "--size", "0"], Duration::from_secs(20))?;
            running.output.wait("exchanged 300000 bytes", Duration::from_secs(30))?;
            drop(running);
            let refused = format!("echo: {here}: connection refused");
            echo(rig.host(0), &[&there, "--size", "0"], Duration::from_secs(20))?;
            rig.router.machine.console.wait(&refused, Duration::from_secs(20))?;
            let refused = format!("echo: udp {here}: connection refused");
            rig.router.machine.console.wait(&refused, Duration::from_secs(20))?;
        }
        Ok(())
    })
}
