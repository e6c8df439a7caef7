//! The router as a client of Linux hosts: dnsmasq gives it addresses and names, chrony the time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::linux_hosts::ping;
use super::{Context, Needs, Test};
use crate::cleanup;
use crate::command;
use crate::netns::Daemon;
use crate::rig::{LinuxPlan, LinuxRig, identity};

pub(super) const ADDRESSES: Needs =
    Needs { root: true, programs: &["ip", "ping", "dnsmasq"], weir: true, alone: false };

const TIME: Needs = Needs { root: true, programs: &["ip", "dnsmasq", "chronyd"], weir: true, alone: false };
const SYSLOG: Needs = Needs { root: true, programs: &["ip", "rsyslogd"], weir: true, alone: false };

/// How long a lease may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("clients-dhcp", ADDRESSES, |cx| dhcp(cx, 1)).waits(),
        Test::new("clients-dhcp-4-cpus", ADDRESSES, |cx| dhcp(cx, 4)).waits(),
        Test::new("clients-router-advertisements", ADDRESSES, auto).waits(),
        Test::new("clients-names-and-time", TIME, time).waits(),
        Test::new("clients-syslog", SYSLOG, syslog).waits(),
    ]
}

/// A router whose first interface says `addresses`, and what else `more` has.
pub(super) fn start(cx: &Context, cpus: usize, addresses: &str, more: &str) -> Result<LinuxRig> {
    let plan = LinuxPlan { cpus, ..LinuxPlan::new() };
    let text = config(addresses, more);
    let rig = LinuxRig::power_on(cx.image, &plan, |setup| setup.module = Some(text.clone().into_bytes()))?;
    rig.router.ready()?;
    Ok(rig)
}

pub(super) fn config(addresses: &str, more: &str) -> String {
    format!(
        "hostname = \"edge1\"\n{more}\n[interface.wan]\nmatch = {{ port = 0 }}\naddresses = {addresses}\n\n\
         [interface.lan]\nmatch = {{ port = 1 }}\naddresses = [\"10.0.1.1/24\", \"2001:db8:2::1/64\"]\n"
    )
}

/// dnsmasq in the first host, with `list` for what it serves.
pub(super) fn dnsmasq(rig: &LinuxRig, list: &[&str]) -> Result<Daemon> {
    let base = [
        "--no-daemon",
        "--no-ping",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--interface=eth0",
        "--bind-interfaces",
        "--log-dhcp",
        "--log-queries",
        "--leasefile-ro",
        "--user=root",
        "--group=root",
    ];
    let daemon = rig.host(0).start("dnsmasq", &[&base[..], list].concat())?;
    daemon.errors.wait("started", Duration::from_secs(10))?;
    Ok(daemon)
}

/// Waits for a line on the router's console.
pub(super) fn says(rig: &LinuxRig, text: &str) -> Result<()> {
    rig.router.machine.console.wait(text, PATIENCE).map(drop)
}

/// The second host reaches the first, by way of the router.
pub(super) fn passes(rig: &LinuxRig, to: &str) -> Result<()> {
    ping(rig.host(1), to, 56, "dont").or_else(|_| ping(rig.host(1), to, 56, "dont"))
}

/// The same once the router's address has come into use: for some seconds it asks whether others have it.
fn comes_to_pass(rig: &LinuxRig, to: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match passes(rig, to) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(500)),
            outcome => return outcome,
        }
    }
}

/// An address of a pool, a default route, renewal, another address after the server forgot, and none when the key goes.
fn dhcp(cx: &Context, cpus: usize) -> Result<()> {
    let own = identity(0)?;
    start(cx, cpus, "[\"dhcp\"]", "")?.check(&cx.name, |rig| {
        // A host behind the first, which only the default route leads to.
        rig.host(0).shell("ip addr add 198.51.100.9/32 dev lo", Duration::from_secs(5))?;
        // It asks for stations from an address of the link.
        rig.host(0).shell("echo 2 > /proc/sys/net/ipv4/conf/all/arp_announce", Duration::from_secs(5))?;
        rig.host(0).shell("ip route add 10.0.1.0/24 via 192.0.2.77", Duration::from_secs(5))?;
        let list = [
            "--port=0",
            "--dhcp-range=192.0.2.77,192.0.2.77,255.255.255.0,120",
            "--dhcp-option=option:T1,8",
            "--dhcp-option=option:T2,20",
            "--dhcp-option=option:router,192.0.2.2",
            "--dhcp-option=option:mtu,1400",
        ];
        let server = dnsmasq(rig, &list)?;
        says(rig, "wan: dhcp: 192.0.2.77/24 from 192.0.2.2, for 120 s")?;
        comes_to_pass(rig, &own.v4.to_string())?;
        passes(rig, "198.51.100.9")?;
        // Asked again at its address, and answered there, whichever CPU that comes to.
        server.errors.wait("DHCPACK(eth0) 192.0.2.77", PATIENCE)?;
        let position = server.errors.position();
        server.errors.wait_after(position, "DHCPREQUEST(eth0) 192.0.2.77", PATIENCE)?;
        server.errors.wait_after(position, "DHCPACK(eth0) 192.0.2.77", PATIENCE)?;
        drop(server);
        // Another server that knows nothing of it says no; what it offers is taken, and the old address is gone at once.
        let list = [
            "--port=0",
            "--dhcp-authoritative",
            "--dhcp-range=192.0.2.88,192.0.2.88,255.255.255.0,120",
            "--dhcp-option=option:router",
            "--dhcp-option=121,0.0.0.0/0,192.0.2.2",
        ];
        let server = dnsmasq(rig, &list)?;
        says(rig, "wan: dhcp: the address is lost: the server took it back")?;
        says(rig, "wan: dhcp: 192.0.2.88/24 from 192.0.2.2")?;
        rig.host(0).shell("ip route replace 10.0.1.0/24 via 192.0.2.88", Duration::from_secs(5))?;
        comes_to_pass(rig, "198.51.100.9")?;
        // An unrelated commit leaves it as it is.
        let show = |rig: &mut LinuxRig, wanted: &str| -> Result<()> {
            let position = rig.router.machine.console.position();
            rig.router.machine.type_keys(b"show routes\n")?;
            rig.router.machine.console.wait_after(position, wanted, PATIENCE).map(drop)
        };
        show(rig, "192.0.2.88/32")?;
        let commit = |rig: &mut LinuxRig, text: &str| -> Result<()> {
            rig.router.machine.type_keys(format!("config\n{text}\n.\n").as_bytes())?;
            says(rig, "configuration replaced")
        };
        commit(rig, &config("[\"dhcp\"]", "steering = \"flows\""))?;
        passes(rig, "198.51.100.9")?;
        // Without the key the address goes, and the server hears of it.
        commit(rig, &config("[\"192.0.2.1/24\"]", ""))?;
        says(rig, "wan: dhcp: 192.0.2.88 is given back")?;
        server.errors.wait("DHCPRELEASE(eth0) 192.0.2.88", PATIENCE)?;
        ensure!(passes(rig, "198.51.100.9").is_err(), "a route is still there");
        rig.host(0).shell("ip route replace 10.0.1.0/24 via 192.0.2.1", Duration::from_secs(5))?;
        passes(rig, &own.v4.to_string()).context("by the configured address")
    })
}

/// An address of an advertised prefix, a default route by the router's link-local address, and neither when it is no router any
/// more.
fn auto(cx: &Context) -> Result<()> {
    start(cx, 2, "[\"auto\"]", "")?.check(&cx.name, |rig| {
        let own = "2001:db8:1:0:5054:ff:fe00:1";
        let limit = Duration::from_secs(5);
        rig.host(0).shell("ip addr add 2001:db8:99::9/128 dev lo", limit)?;
        rig.host(0).shell(&format!("ip -6 route add 2001:db8:2::/64 via {own}"), limit)?;
        rig.host(0).shell("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding", limit)?;
        let server = dnsmasq(
            rig,
            &[
                "--port=0",
                "--enable-ra",
                "--dhcp-range=2001:db8:1::,ra-only,64,7200",
                "--ra-param=eth0,10,30",
            ],
        )?;
        says(rig, &format!("wan: auto: {own}/64, router fe80::"))?;
        comes_to_pass(rig, "2001:db8:1::2")?;
        passes(rig, "2001:db8:99::9")?;
        let said = rig.host(0).check("ping", &["-n", "-c", "1", "-W", "5", own], Duration::from_secs(10))?;
        ensure!(said.contains("1 received"), "{said}");
        // It says good-bye with a lifetime of 0... or its last advertisement runs out after 30 s.
        drop(server);
        says(rig, &format!("wan: auto: {own}/64, no router"))?;
        ensure!(passes(rig, "2001:db8:99::9").is_err(), "the default route is still there");
        passes(rig, "2001:db8:1::2").context("the prefix is still on the link")
    })
}

/// A server's name becomes an address, and the server's time the router's.
fn time(cx: &Context) -> Result<()> {
    let more = "dns.servers = [\"192.0.2.2\"]\nntp.servers = [\"nowhere.test\", \"ntp.test\"]";
    let (folder, _made) = cleanup::directory()?;
    let file = folder.join("chrony.conf").display().to_string();
    let pid = folder.join("pid").display().to_string();
    std::fs::write(
        &file,
        format!("local stratum 5\nallow all\ncmdport 0\nbindcmdaddress /\npidfile {pid}\nuser root\n"),
    )?;
    start(cx, 4, "[\"192.0.2.1/24\"]", more)?.check(&cx.name, |rig| {
        let _clock = rig.host(0).start("chronyd", &["-d", "-x", "-f", &file])?;
        let list = ["--no-daemon", "--address=/ntp.test/192.0.2.2", "--local=/test/", "--cache-size=0"];
        let server = dnsmasq(rig, &list)?;
        server.errors.wait("query[A] ntp.test from 192.0.2.1", PATIENCE)?;
        let line = rig.router.machine.console.wait("ntp.test: the time is ", PATIENCE)?;
        let said = line.text.rsplit(' ').next().unwrap_or_default().to_owned();
        let said = command::capture("date", &["-d", &said, "+%s"], Duration::from_secs(5))?;
        let said: i64 = said.trim().parse().with_context(|| format!("{}: no time", line.text))?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() as i64;
        ensure!((now - said).abs() < 15, "{} at {now}", line.text);
        // If it was asked before the server was there, that was said first.
        says(rig, "ntp: nowhere.test: there is no such name")
    })
}

/// Lines of the log arrive, and a Linux syslog server reads their parts.
fn syslog(cx: &Context) -> Result<()> {
    let more = "[[syslog]]\nserver = \"192.0.2.2\"\n";
    let (folder, _made) = cleanup::directory()?;
    let file = folder.join("rsyslog.conf").display().to_string();
    std::fs::write(
        &file,
        "module(load=\"imudp\")\ninput(type=\"imudp\" port=\"514\")\n\
         template(name=\"parts\" type=\"string\" string=\"version %protocol-version% severity %syslogseverity-text% \
         host %hostname% program %app-name%: %msg%\\n\")\n*.* action(type=\"omfile\" file=\"/dev/stdout\" template=\"parts\")\n",
    )?;
    start(cx, 2, "[\"192.0.2.1/24\"]", more)?.check(&cx.name, |rig| {
        // Nobody listens at first: what was logged meanwhile is sent later.
        std::thread::sleep(Duration::from_secs(2));
        let server = rig.host(0).start("rsyslogd", &["-n", "-i", "NONE", "-f", &file])?;
        let text = config("[\"192.0.2.1/24\"]", &format!("steering = \"flows\"\n{more}"));
        rig.router.machine.type_keys(format!("config\n{text}\n.\n").as_bytes())?;
        server
            .output
            .wait("version 1 severity info host edge1 program weir: configuration replaced", PATIENCE)?;
        Ok(())
    })
}
