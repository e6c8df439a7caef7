//! Real Linux hosts through the router: their own stacks, with checksum and segmentation offloads, decide whether what
//! arrives is right.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::hardware::NO_OFFLOADS;
use super::{Context, Needs, Test};
use crate::http;
use crate::netns::{Daemon, LinuxHost};
use crate::rig::{LinuxPlan, LinuxRig, identity};

pub(super) const NETWORK: Needs =
    Needs { root: true, programs: &["ip", "ping", "ethtool", "traceroute"], weir: false, alone: false };
const TRANSFER: Needs =
    Needs { root: true, programs: &["ip", "iperf3", "ethtool"], weir: false, alone: true };
const CAPTURE: Needs =
    Needs { root: true, programs: &["ip", "tcpdump", "tshark", "ethtool"], weir: false, alone: false };

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("linux-ping-sizes", NETWORK, |cx| ping_sizes(cx, LinuxPlan::new(), "dont")),
        Test::new("linux-ping-jumbo", NETWORK, |cx| ping_sizes(cx, LinuxPlan::new().with_mtu(9000), "do")),
        Test::new("linux-traceroute", NETWORK, trace),
        Test::new("linux-path-mtu-discovery", NETWORK, path_mtu),
        Test::new("linux-captures-have-good-checksums", CAPTURE, captures),
        Test::new("linux-http-both-ways", NETWORK, http_both_ways),
        Test::new("linux-http-jumbo", NETWORK, |cx| {
            LinuxRig::start(cx.image, &LinuxPlan::new().with_mtu(9000))?
                .check(&cx.name, |rig| transfers(rig, 8))
        }),
        Test::new("linux-multi-queue", NETWORK, multi_queue),
        Test::new("linux-iperf3-offloads-on", TRANSFER, |cx| iperf3(cx, "on")),
        Test::new("linux-iperf3-offloads-off", TRANSFER, |cx| iperf3(cx, "off")),
    ]
}

/// The other host's addresses as seen from `port`.
fn targets(port: usize) -> Result<[String; 2]> {
    let far = identity(1 - port)?;
    Ok([far.v4.to_string(), far.v6.to_string()])
}

pub(super) fn ping(host: &LinuxHost, to: &str, size: usize, fragment: &str) -> Result<()> {
    let size = size.to_string();
    let list = ["-n", "-c", "3", "-i", "0.1", "-W", "2", "-M", fragment, "-s", &size, to];
    let output = host.run("ping", &list, Duration::from_secs(10))?;
    // The first packets may wait for neighbour resolution and duplicate detection.
    let lost_all = output.stdout.contains("100% packet loss") || !output.status.success();
    ensure!(!lost_all, "ping -s {size} {to}:\n{}{}", output.stdout, output.stderr);
    Ok(())
}

pub(super) fn settle(rig: &LinuxRig) -> Result<()> {
    for port in [0, 1] {
        for to in targets(port)? {
            ping(rig.host(port), &to, 56, "dont").or_else(|_| ping(rig.host(port), &to, 56, "dont"))?;
        }
    }
    Ok(())
}

fn ping_sizes(cx: &Context, plan: LinuxPlan, fragment: &str) -> Result<()> {
    LinuxRig::start(cx.image, &plan)?.check(&cx.name, |rig| {
        settle(rig)?;
        for port in [0, 1] {
            for to in targets(port)? {
                for size in [64, 1400, 8000] {
                    ping(rig.host(port), &to, size, fragment)?;
                }
            }
        }
        Ok(())
    })
}

fn trace(cx: &Context) -> Result<()> {
    LinuxRig::start(cx.image, &LinuxPlan::new())?.check(&cx.name, |rig| {
        settle(rig)?;
        for port in [0, 1] {
            let own = identity(port)?;
            let [v4, v6] = targets(port)?;
            for (to, hop) in [(v4, own.gateway_v4.to_string()), (v6, own.gateway_v6.to_string())] {
                for method in ["-U", "-I"] {
                    let list = ["-n", "-q", "2", "-w", "2", "-m", "5", method, &to];
                    let text = rig.host(port).check("traceroute", &list, Duration::from_secs(20))?;
                    let hops: Vec<&str> =
                        text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
                    ensure!(
                        hops == [hop.as_str(), to.as_str()],
                        "hops {hops:?}, want {hop} and {to}:\n{text}"
                    );
                }
            }
        }
        Ok(())
    })
}

/// The far network has an MTU of 1280, the far host believes in 1500: only ICMP from the router tells the sender.
fn path_mtu(cx: &Context) -> Result<()> {
    let mut plan = LinuxPlan::new();
    plan.config = plan.config.with_mtu(1, 1280);
    LinuxRig::start(cx.image, &plan)?.check(&cx.name, |rig| {
        settle(rig)?;
        let (a, [v4, v6]) = (rig.host(0), targets(0)?);
        for to in [&v4, &v6] {
            let list = ["-n", "-c", "2", "-i", "0.2", "-W", "1", "-M", "do", "-s", "1400", to];
            let output = a.run("ping", &list, Duration::from_secs(10))?;
            let said = output.stdout + &output.stderr;
            ensure!(said.contains("1280"), "no word of the MTU from ping -M do -s 1400 {to}:\n{said}");
            let route = a.check("ip", &["route", "get", to], Duration::from_secs(5))?;
            ensure!(route.contains("mtu 1280"), "the host has not learnt the path MTU to {to}: {route}");
            ping(a, to, 1280 - 48, "do")?;
        }
        for offloads in ["on", "off"] {
            rig.host(0).offloads(offloads)?;
            rig.host(1).offloads(offloads)?;
            // Data flows towards the small MTU: the server is on the near side. Each family learns anew.
            rig.host(0).check("ip", &["route", "flush", "cache"], Duration::from_secs(5))?;
            rig.host(0).check("ip", &["-6", "route", "flush", "cache"], Duration::from_secs(5))?;
            let own = identity(0)?;
            for address in [own.v4.into(), own.v6.into()] {
                http::transfer(rig.host(0), rig.host(1), address, 1 << 20).with_context(|| {
                    format!("TCP from {address} through the small MTU, offloads {offloads}")
                })?;
            }
        }
        Ok(())
    })
}

fn transfers(rig: &LinuxRig, mib: usize) -> Result<()> {
    for (server, client) in [(0, 1), (1, 0)] {
        let own = identity(server)?;
        for address in [own.v4.into(), own.v6.into()] {
            http::transfer(rig.host(server), rig.host(client), address, mib << 20)
                .with_context(|| format!("{mib} MiB from {address}"))?;
        }
    }
    Ok(())
}

fn http_both_ways(cx: &Context) -> Result<()> {
    LinuxRig::start(cx.image, &LinuxPlan::new())?.check(&cx.name, |rig| {
        settle(rig)?;
        transfers(rig, 16)?;
        // One side with offloads, one without, each way round.
        for (with, without) in [(0, 1), (1, 0)] {
            rig.host(with).offloads("on")?;
            rig.host(without).offloads("off")?;
            transfers(rig, 4)?;
        }
        Ok(())
    })
}

fn multi_queue(cx: &Context) -> Result<()> {
    let plan = LinuxPlan { queues: 2, cpus: 2, ..LinuxPlan::new() };
    LinuxRig::start(cx.image, &plan)?.check(&cx.name, |rig| {
        settle(rig)?;
        transfers(rig, 4)?;
        for port in [0, 1] {
            for to in targets(port)? {
                for size in [64, 1400, 8000] {
                    ping(rig.host(port), &to, size, "dont")?;
                }
            }
        }
        Ok(())
    })
}

/// Hosts and NICs without offloads send complete checksums: every one in both captures must hold.
fn captures(cx: &Context) -> Result<()> {
    let rig = LinuxRig::power_on(cx.image, &LinuxPlan::new(), |setup| {
        setup.nic_properties.extend(NO_OFFLOADS.map(str::to_owned));
    })?;
    rig.check(&cx.name, |rig| {
        rig.router.ready()?;
        settle(rig)?;
        let folder = crate::rig::report_folder()?;
        let mut running = Vec::new();
        for port in [0, 1] {
            rig.host(port).offloads("off")?;
            let path = folder.join(format!("{}-host{port}.pcap", cx.name)).display().to_string();
            let list = ["-i", "eth0", "-s", "0", "-U", "-Z", "root", "-w", &path];
            let capture = rig.host(port).start("tcpdump", &list)?;
            capture.errors.wait("listening on", Duration::from_secs(30))?;
            running.push((capture, path));
        }
        transfers(rig, 1)?;
        for port in [0, 1] {
            for to in targets(port)? {
                ping(rig.host(port), &to, 56, "dont")?;
                ping(rig.host(port), &to, 4000, "dont")?;
            }
            trace_once(rig, port)?;
        }
        for (port, (capture, path)) in running.into_iter().enumerate() {
            end(rig, port, capture, &path)?;
            verify_capture(&path)?;
            std::fs::remove_file(&path)?;
        }
        Ok(())
    })
}

/// Ends a capture of a host once it has written all that passed until now: a ping with a pattern passes behind that.
pub(super) fn end(rig: &LinuxRig, port: usize, capture: Daemon, path: &str) -> Result<()> {
    const PATTERN: &[u8; 16] = b"behind the rest.";
    let pattern: String = PATTERN.iter().map(|byte| format!("{byte:02x}")).collect();
    let router = identity(port)?.gateway_v4.to_string();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let list = ["-n", "-c", "1", "-W", "1", "-p", &pattern, &router];
        rig.host(port).run("ping", &list, Duration::from_secs(30))?;
        let written = std::fs::read(path).with_context(|| format!("reading {path}"))?;
        if written.windows(PATTERN.len()).any(|bytes| bytes == PATTERN) {
            return capture.interrupt(Duration::from_secs(30));
        }
        ensure!(Instant::now() < deadline, "{path} does not go on: {}", capture.errors.text());
    }
}

/// UDP with ICMP errors in answer, for the capture.
fn trace_once(rig: &LinuxRig, port: usize) -> Result<()> {
    if crate::command::installed("traceroute") {
        for to in targets(port)? {
            rig.host(port).check(
                "traceroute",
                &["-n", "-q", "1", "-w", "2", "-m", "3", &to],
                Duration::from_secs(10),
            )?;
        }
    }
    Ok(())
}

fn verify_capture(path: &str) -> Result<()> {
    verify_checksums(path, "frame")
}

/// Every checksum in the part of a capture that `which` selects must be right, and there must be many. Linux's
/// `skb_checksum_help` writes a TCP checksum of zero as all ones, which is the same number (RFC 1624) and nobody's error.
pub(super) fn verify_checksums(path: &str, which: &str) -> Result<()> {
    let options = ["ip", "tcp", "udp"].map(|name| format!("{name}.check_checksum:TRUE"));
    let tshark = |filter: &str| -> Result<String> {
        let mut list = vec!["-n", "-r", path];
        options.iter().for_each(|option| list.extend(["-o", option.as_str()]));
        // Fragments are judged by their headers; reassembly would hide them.
        let filter = format!("({which}) && ({filter})");
        list.extend(["-Y", &filter]);
        let output = crate::command::run(
            std::process::Command::new("tshark").args(&list),
            &[],
            Duration::from_secs(120),
        )?;
        output.success("tshark")
    };
    let bad = ["ip", "tcp", "udp", "icmp", "icmpv6"]
        .map(|name| format!("{name}.checksum.status == 0"))
        .join(" || ");
    let bad = tshark(&format!("({bad}) && !tcp.checksum.ffff"))?;
    ensure!(bad.is_empty(), "bad checksums in {path}:\n{}", crate::command::last_lines(&bad, 10));
    let good = tshark("tcp.checksum.status == 1 && (ip.checksum.status == 1 || ipv6)")?.lines().count();
    ensure!(good > 500, "only {good} good TCP segments in {path}: the capture proves nothing");
    Ok(())
}

/// Bytes of a TCP run: however long a machine stands still meanwhile, the rest of the time is the router's.
const BULK: &str = "8M";

/// iperf3's report of one run. Its UDP streams begin with one datagram each way, and it waits for ever should a host
/// lose one: such a run is repeated once.
fn iperf3_report(rig: &LinuxRig, to: &str, options: &[&str]) -> Result<Value> {
    let once = || -> Result<Value> {
        let server = rig.host(1).start("iperf3", &["-s", "-1", "--forceflush"])?;
        server.output.wait("listening", Duration::from_secs(30))?;
        let length = if options.contains(&"-u") { ["-t", "1"] } else { ["-n", BULK] };
        let list = [&["-c", to, "-J"], &length[..], options].concat();
        let output = rig.host(0).run("iperf3", &list, Duration::from_secs(20)).with_context(|| {
            format!("iperf3 {}; the server said: {}", list.join(" "), server.output.text())
        })?;
        serde_json::from_str(&output.stdout).context("iperf3's report")
    };
    match once() {
        Err(_) if options.contains(&"-u") => once(),
        outcome => outcome,
    }
}

/// One iperf3 run; received bits a second, and the share of datagrams lost.
fn iperf3_run(rig: &LinuxRig, to: &str, options: &[&str]) -> Result<(f64, f64)> {
    let report = iperf3_report(rig, to, options)?;
    if let Some(error) = report.get("error") {
        bail!("iperf3 {}: {error}", options.join(" "));
    }
    let end = &report["end"];
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    match options.contains(&"-u") {
        true => Ok((number(&end["sum"]["bits_per_second"]), number(&end["sum"]["lost_percent"]))),
        false => Ok((number(&end["sum_received"]["bits_per_second"]), 0.0)),
    }
}

fn iperf3(cx: &Context, offloads: &str) -> Result<()> {
    LinuxRig::start(cx.image, &LinuxPlan::new())?.check(&cx.name, |rig| {
        settle(rig)?;
        rig.host(0).offloads(offloads)?;
        rig.host(1).offloads(offloads)?;
        for to in targets(0)? {
            for direction in [&[][..], &["-R"]] {
                let (rate, _) = iperf3_run(rig, &to, direction)?;
                ensure!(rate > 5e6, "TCP to {to} {direction:?}: {:.2} Mbit/s", rate / 1e6);
                let (rate, lost) = iperf3_run(rig, &to, &[&["-u", "-b", "5M"], direction].concat())?;
                ensure!(rate > 4e6, "UDP at 5 Mbit/s to {to} {direction:?}: {:.2} Mbit/s sent", rate / 1e6);
                ensure!(lost < 5.0, "UDP at 5 Mbit/s to {to} {direction:?}: {lost:.1} % lost");
            }
        }
        Ok(())
    })
}
