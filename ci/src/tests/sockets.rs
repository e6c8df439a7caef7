//! The router's own sockets against Linux's TCP and UDP, by an image with the echo protocol (RFC 862).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{Context, Needs, Test, management};
use crate::frame;
use crate::host::{Host, Sockets, Switch};
use crate::netns::{LinuxHost, Network, Plan};
use crate::relay::{Relay, Weather};
use crate::rig::{LinuxPlan, LinuxRig, host_mac, identity, no_panic, report_folder, write_console};
use crate::router::{Config, Router, Setup, test_image};

const NETWORK: Needs = Needs { root: true, programs: &["ip", "ethtool"], weir: true, alone: false };

const ALONE: Needs = Needs { alone: true, ..NETWORK };

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("sockets-tcp-with-linux", NETWORK, |cx| tcp(cx, 1, 1)),
        Test::new("sockets-tcp-2-cpus", NETWORK, |cx| tcp(cx, 2, 1)),
        Test::new("sockets-tcp-4-cpus-2-queues", NETWORK, |cx| tcp(cx, 4, 2)),
        Test::new("sockets-udp-with-linux", NETWORK, udp),
        Test::new("sockets-closed-ports", NETWORK, closed),
        Test::new("sockets-call-linux", NETWORK, call),
        Test::new("sockets-tcp-loss-1-percent", NETWORK, |cx| loss(cx, 10, 1_000_000)).waits(),
        Test::new("sockets-tcp-loss-5-percent", NETWORK, |cx| loss(cx, 50, 300_000)).waits(),
        Test::new("sockets-syn-flood", ALONE, flood),
        Test::new("sockets-half-requests", REQUESTS, half_requests),
    ]
}

const REQUESTS: Needs = Needs { root: true, programs: &["ip", "bash", "curl"], weir: true, alone: false };

/// The router with echo on its ports; its first interface alone offers management.
fn prepare(setup: &mut Setup) {
    setup.kernel = test_image().ok();
    setup.command_line = "test=echo".to_owned();
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
                let limit = Duration::from_secs(120);
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
            running.output.wait("listening", Duration::from_secs(30))?;
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

/// A Linux host at the router's first port, and something else at the second.
pub(super) struct Mixed {
    pub(super) router: Router,
    pub(super) network: Network,
}

impl Mixed {
    /// `wires` makes the router's wires from the network, whose only host is the router's first neighbour.
    fn start(
        cx: &Context,
        cpus: usize,
        wires: impl FnOnce(&Network) -> Result<Vec<crate::qemu::Wire>>,
    ) -> Result<Mixed> {
        Mixed::with(cx, wires, |setup| {
            setup.cpus = cpus;
            prepare(setup);
            let text = setup.config.toml().replace("addresses", "management = true\naddresses");
            setup.module = Some(text.into_bytes());
        })
    }

    /// The same with a set-up of one's own.
    pub(super) fn with(
        cx: &Context,
        wires: impl FnOnce(&Network) -> Result<Vec<crate::qemu::Wire>>,
        prepare: impl FnOnce(&mut Setup),
    ) -> Result<Mixed> {
        let own = identity(0)?;
        let network = Network::new(&[Plan {
            mac: host_mac(0),
            addresses: vec![format!("{}/24", own.v4), format!("{}/64", own.v6)],
            gateways: vec![own.gateway_v4.to_string(), own.gateway_v6.to_string()],
            mtu: 1500,
            queues: 1,
        }])?;
        let mut setup = Setup::new(cx.image, Config::two_ports(), wires(&network)?);
        setup.namespace = Some(network.namespace.clone());
        setup.paused = true;
        setup.limit = Duration::from_secs(400);
        prepare(&mut setup);
        let mut router = setup.start()?;
        router.machine.qmp()?;
        network.arrive()?;
        router.machine.resume()?;
        Ok(Mixed { router, network })
    }

    fn ready(&self, cpus: usize) -> Result<()> {
        self.router.ready()?;
        let all = format!("echo: CPUs that listen: {cpus}");
        self.router.machine.console.wait(&all, Duration::from_secs(20)).map(drop)
    }

    pub(super) fn check(mut self, name: &str, check: impl FnOnce(&mut Mixed) -> Result<()>) -> Result<()> {
        let outcome = check(&mut self).and_then(|()| no_panic(&self.router));
        let Err(error) = outcome else { return Ok(()) };
        let folder = report_folder()?;
        write_console(&folder, name, &self.router)?;
        Err(error.context(format!("console: {}/{name}-console.txt", folder.display())))
    }
}

/// Both ways at once over a wire that loses and reorders.
fn loss(cx: &Context, lost: u64, size: usize) -> Result<()> {
    let mut relay = None;
    let far = Sockets::new()?;
    let rig = Mixed::start(cx, 1, |network| {
        let weather = Weather { lost, overtaken: 20 };
        let started = Relay::start(&network.namespace, "tap0", weather)?;
        let wires = vec![started.wire(), far.wire.clone()];
        relay = Some(started);
        Ok(wires)
    })?;
    let relay = relay.context("a relay")?;
    relay.connect()?;
    rig.check(&cx.name, |rig| {
        rig.ready(1)?;
        for to in targets(7)? {
            let size = size.to_string();
            echo(&rig.network.hosts[0], &[&to, "--size", &size], Duration::from_secs(170))
                .with_context(|| format!("{size} bytes to {to} and back, {lost} of 1000 frames lost"))?;
        }
        let count = relay.lost.load(std::sync::atomic::Ordering::Relaxed);
        ensure!(count > 0, "no frame was lost: the test proves nothing");
        Ok(())
    })
}

/// Handshakes of a flood.
const FLOOD: u32 = 100_000;
/// Of them, between two pings through the router.
const PING_EACH: u32 = 500;

/// SYNs from addresses that never answer; meanwhile, between every few of them, pings are forwarded, none of which is lost,
/// and clients connect. Memory and buffers stay as they were, while it lasts too.
fn flood(cx: &Context) -> Result<()> {
    let flooder = Sockets::new()?;
    let wire = flooder.wire.clone();
    let own = identity(1)?;
    let flooder = Host::start(flooder, own)?;
    let rig = Mixed::start(cx, 2, |network| {
        let mut wires = network.wires();
        wires.push(wire);
        Ok(wires)
    })?;
    flooder.connect()?;
    rig.check(&cx.name, |rig| {
        rig.ready(2)?;
        let [to, _] = targets(7)?;
        echo(&rig.network.hosts[0], &[&to, "--size", "20000"], Duration::from_secs(20))?;
        flooder.ping(identity(0)?.v4.into(), 1, Duration::from_secs(5))?;
        let before = crate::table::read(&mut rig.router)?;
        let was = before.memory.context("memory")?;
        let router = identity(0)?.gateway_v4;
        let mut answered = 0;
        for number in 0..FLOOD {
            flooder.keep(Switch::Off);
            flooder.send(&syn(&flooder, router, number))?;
            if number % PING_EACH == PING_EACH - 1 {
                flooder.keep(Switch::On);
                let sequence = 2 + (number / PING_EACH) as u16;
                flooder
                    .ping(identity(0)?.v4.into(), sequence, Duration::from_secs(20))
                    .with_context(|| format!("a forwarded ping amid {number} handshakes"))?;
                answered += 1;
            }
            if number % 20_000 == 10_000 {
                let host = &rig.network.hosts[0];
                echo(host, &[&to, "--size", "20000"], Duration::from_secs(60))
                    .with_context(|| format!("a client amid {number} handshakes"))?;
                let now = crate::table::read(&mut rig.router)?.memory.context("memory")?;
                ensure!(now.kib <= was.kib + 256, "{} KiB, {} before: after {number}", now.kib, was.kib);
                // What waits for sockets is an eighth of all buffers at most; pools and rings breathe.
                ensure!(
                    now.buffers <= was.buffers + 2048 + 256,
                    "{} buffers, {} before: after {number}",
                    now.buffers,
                    was.buffers
                );
            }
        }
        ensure!(answered == FLOOD / PING_EACH, "{answered} pings");
        // The last of them are answered, and packets for neighbours that do not answer are given up after some seconds.
        let deadline = Instant::now() + Duration::from_secs(60);
        let (after, is) = loop {
            let after = crate::table::read(&mut rig.router)?;
            let is = after.memory.context("memory")?;
            let rests = is.kib <= was.kib + 256 && is.buffers <= was.buffers + 512;
            if rests || Instant::now() > deadline {
                break (after, is);
            }
            std::thread::sleep(Duration::from_millis(500));
        };
        ensure!(is.kib <= was.kib + 256, "memory {} KiB before the flood, {} KiB after", was.kib, is.kib);
        // What a CPU's pool keeps at hand varies; a buffer lost of each handshake would be a hundred thousand.
        ensure!(is.buffers <= was.buffers + 512, "{} buffers before, {} after", was.buffers, is.buffers);
        let handshakes = after.received("lan") - before.received("lan");
        ensure!(handshakes >= u64::from(FLOOD), "the flood did not arrive: {handshakes}");
        // Every ping went out by the one and came back by the other.
        let sent = after.sent("wan") - before.sent("wan");
        ensure!(sent >= u64::from(answered), "{sent} packets went out by wan");
        Ok(())
    })
}

/// More than a CPU has connections, whatever its memory.
const HALVES: usize = 1400;

/// A host holds every connection with the first byte of a request; it, and whoever has another address, is answered.
fn half_requests(cx: &Context) -> Result<()> {
    management::start(cx, 1, management::SECTION)?.check(&cx.name, |rig| {
        let own = identity(0)?;
        let hold = format!(
            "ulimit -n {}; for ((n = 0; n < {HALVES}; n++)); do exec {{held}}<>/dev/tcp/{}/80; printf G >&$held; done; echo all; sleep 60",
            HALVES + 100,
            own.gateway_v4,
        );
        let holds = rig.host(0).start("bash", &["-c", &hold])?;
        // Before the first of them has taken its half minute.
        holds.output.wait("all", Duration::from_secs(20))?;
        for router in [format!("[{}]", own.gateway_v6), own.gateway_v4.to_string()] {
            let token = management::TOKEN;
            let (status, body) =
                management::request(rig.host(0), &router, token, "/api/v1/status", &[], "")
                    .with_context(|| format!("a request to {router} beside {HALVES} half ones"))?;
            ensure!(status == 200, "{router}: {status}: {body}");
        }
        drop(holds);
        Ok(())
    })
}

/// A SYN to the echo port from one of many addresses of the second network's far side.
fn syn(host: &Host, router: std::net::Ipv4Addr, number: u32) -> Vec<u8> {
    let own = host.identity();
    let source = std::net::Ipv4Addr::from_bits(u32::from_be_bytes([10, 0, 1, 3]) + number % 250);
    let mut tcp = Vec::from(((1024 + number / 250) as u16).to_be_bytes());
    tcp.extend([0, 7]);
    tcp.extend(number.to_be_bytes());
    tcp.extend([0, 0, 0, 0, 0x60, 2, 0x20, 0, 0, 0, 0, 0, 2, 4, 5, 0xb4]);
    let length = (tcp.len() as u16).to_be_bytes();
    let sum = frame::checksum(&[&source.octets(), &router.octets(), &[0, frame::TCP], &length, &tcp]);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let packet = frame::Ipv4::new(source, router, frame::TCP, tcp);
    frame::ethernet(own.gateway_mac, own.mac, frame::ETHERTYPE_IPV4, &packet.bytes())
}
