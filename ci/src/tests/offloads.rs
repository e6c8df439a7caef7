//! Super-packets between real Linux hosts: they cross the router as they are where both sides can take them, and in
//! frames with right checksums where the far side cannot.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::linux_hosts::{end, settle, verify_checksums};
use super::{Context, Needs, Test};
use crate::http;
use crate::rig::{LinuxPlan, LinuxRig, identity};
use crate::table::Table;

const CAPTURE: Needs =
    Needs { root: true, programs: &["ip", "tcpdump", "tshark", "ethtool"], weir: true, alone: false };
/// Bytes of each transfer.
const LENGTH: usize = 8 << 20;
/// Payload of a frame of 1500 bytes, with time stamps.
const SEGMENT: usize = 1448;

/// What the router's NICs cannot send; they receive anything.
const SENDS_FRAMES: [&str; 4] = ["host_tso4=off", "host_tso6=off", "host_ecn=off", "host_ufo=off"];

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("super-packets-cross-whole", CAPTURE, whole),
        Test::new("super-packets-are-cut-for-a-nic-that-cannot", CAPTURE, |cx| cut(cx, &["csum=on"])),
        Test::new("super-packets-are-cut-and-summed-for-a-nic-that-cannot", CAPTURE, |cx| {
            cut(cx, &["csum=off"])
        }),
    ]
}

/// What a transfer looked like from the router's side and on the receiver's NIC.
struct Seen {
    /// Packets received from the sender, and sent to the receiver.
    received: u64,
    sent: u64,
    /// Lengths of the TCP payloads that the receiver's NIC took.
    payloads: Vec<usize>,
}

/// Sends from host `from` to the other, over one family.
fn transfer(rig: &mut LinuxRig, name: &str, from: usize, six: bool, capture_check: bool) -> Result<Seen> {
    let to = 1 - from;
    let own = identity(from)?;
    let address: std::net::IpAddr = if six { own.v6.into() } else { own.v4.into() };
    let path = crate::rig::report_folder()?.join(format!("{name}-host{to}.pcap")).display().to_string();
    // As much of a packet as the check wants: the longer, the fewer a capture holds.
    let snapshot = if capture_check { "1600" } else { "96" };
    let list =
        ["-i", "eth0", "-s", snapshot, "-B", "16384", "--immediate-mode", "-U", "-Z", "root", "-w", &path];
    let capture = rig.host(to).start("tcpdump", &list)?;
    capture.errors.wait("listening on", Duration::from_secs(30))?;
    let before = crate::table::read(&mut rig.router)?;
    http::transfer(rig.host(from), rig.host(to), address, LENGTH)
        .with_context(|| format!("from {address}"))?;
    let after = crate::table::read(&mut rig.router)?;
    end(rig, to, capture, &path)?;
    let ports = ["wan", "lan"];
    let difference = |count: fn(&Table, &str) -> u64, port: usize| {
        count(&after, ports[port]) - count(&before, ports[port])
    };
    let payloads = payloads(&path, &address.to_string())?;
    if capture_check {
        verify_checksums(&path, &format!("{}.src == {address}", if six { "ipv6" } else { "ip" }))?;
    }
    std::fs::remove_file(&path)?;
    Ok(Seen { received: difference(Table::received, from), sent: difference(Table::sent, to), payloads })
}

/// Lengths of the TCP payloads from `address` in a capture.
fn payloads(path: &str, address: &str) -> Result<Vec<usize>> {
    let family = if address.contains(':') { "ipv6" } else { "ip" };
    let filter = format!("{family}.src == {address} && tcp.len > 0");
    let list = ["-n", "-r", path, "-Y", &filter, "-T", "fields", "-e", "tcp.len"];
    let output =
        crate::command::run(std::process::Command::new("tshark").args(list), &[], Duration::from_secs(120))?;
    let text = output.success("tshark")?;
    text.lines().map(|line| line.trim().parse().with_context(|| format!("tshark says {line:?}"))).collect()
}

/// Neither cut nor joined: as many packets leave as have come, most of them longer than any frame.
fn whole(cx: &Context) -> Result<()> {
    LinuxRig::start(cx.image, &LinuxPlan::new())?.check(&cx.name, |rig| {
        settle(rig)?;
        for from in [0, 1] {
            rig.host(from).offloads("on")?;
        }
        for (from, six) in [(0, false), (0, true), (1, false), (1, true)] {
            let seen = transfer(rig, &cx.name, from, six, false)?;
            let Seen { received, sent, payloads } = seen;
            let long: usize = payloads.iter().filter(|&&len| len > SEGMENT).sum();
            let what = format!("from host {from}, IPv{}", if six { 6 } else { 4 });
            // A neighbour may be asked for in between, or an advertisement be due.
            ensure!(received.abs_diff(sent) <= 4, "{what}: {received} packets came, {sent} went on");
            let frames = LENGTH / SEGMENT;
            ensure!(sent < frames as u64 / 4, "{what}: {sent} packets, in frames it would be {frames}");
            ensure!(
                long > LENGTH * 9 / 10,
                "{what}: {long} of {LENGTH} bytes reached the host in packets longer than a frame"
            );
        }
        Ok(())
    })
}

/// NICs that take super-packets and cannot send any: what comes in them goes on in frames.
fn cut(cx: &Context, more: &[&str]) -> Result<()> {
    let rig = LinuxRig::power_on(cx.image, &LinuxPlan::new(), |setup| {
        setup.nic_properties.extend(SENDS_FRAMES.iter().chain(more).map(|&text| text.to_owned()));
    })?;
    let summed = more.contains(&"csum=off");
    rig.check(&cx.name, |rig| {
        rig.router.ready()?;
        settle(rig)?;
        for from in [0, 1] {
            rig.host(from).offloads("on")?;
            // The receiver's own joining of frames would hide how they came.
            rig.host(from).check("ethtool", &["-K", "eth0", "gro", "off"], Duration::from_secs(5))?;
        }
        for (from, six) in [(0, false), (0, true), (1, false), (1, true)] {
            let Seen { received, sent, payloads } = transfer(rig, &cx.name, from, six, summed)?;
            let what = format!("from host {from}, IPv{}", if six { 6 } else { 4 });
            let longest = payloads.iter().max().copied().unwrap_or(0);
            let caught: usize = payloads.iter().sum();
            // On a busy machine a capture has gaps; the counters have none.
            ensure!(caught > LENGTH / 2, "{what}: {caught} of {LENGTH} bytes in the capture");
            ensure!(longest <= SEGMENT, "{what}: a segment of {longest} bytes reached the host");
            let frames = LENGTH / SEGMENT;
            ensure!(sent >= frames as u64, "{what}: {sent} frames for {LENGTH} bytes");
            ensure!(received < sent / 4, "{what}: {received} packets came, {sent} went: nothing was cut");
        }
        Ok(())
    })
}
