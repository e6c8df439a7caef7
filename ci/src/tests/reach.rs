//! The console's `ping` and `traceroute`, against Linux hosts.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::linux_hosts::ping;
use super::{Context, Needs, Test};
use crate::rig::{LinuxPlan, LinuxRig, identity};

const NETWORK: Needs =
    Needs { root: true, programs: &["ip", "ping", "unshare", "nsenter"], weir: true, alone: false };

/// How long one command may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);
const SHELL: Duration = Duration::from_secs(10);

/// Hosts behind the first one.
const ROUTES: &str = "\n[[route]]\nto = \"198.51.100.0/24\"\nvia = \"192.0.2.2\"\n\
                      [[route]]\nto = \"2001:db8:99::/64\"\nvia = \"2001:db8:1::2\"\n";

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("console-ping", NETWORK, |cx| pings(cx, 1)),
        Test::new("console-ping-4-cpus", NETWORK, |cx| pings(cx, 4)),
        Test::new("console-traceroute", NETWORK, traceroute),
    ]
}

fn start(cx: &Context, cpus: usize) -> Result<LinuxRig> {
    let plan = LinuxPlan { cpus, ..LinuxPlan::new() };
    let rig = LinuxRig::power_on(cx.image, &plan, |setup| {
        let text = String::from_utf8(setup.module.take().unwrap_or_default()).unwrap_or_default();
        setup.module = Some((text + ROUTES).into_bytes());
    })?;
    rig.router.ready()?;
    Ok(rig)
}

/// Types a line, waits for `wanted`, and returns all that was said until then.
pub(super) fn ask(rig: &mut LinuxRig, line: &str, wanted: &str) -> Result<String> {
    let console = rig.router.machine.console.clone();
    let position = console.position();
    rig.router.machine.type_keys(format!("{line}\n").as_bytes())?;
    console.wait_after(position, wanted, PATIENCE).with_context(|| format!("after `{line}`"))?;
    Ok(console.since(position).iter().map(|line| format!("{}\n", line.text)).collect())
}

fn pings(cx: &Context, cpus: usize) -> Result<()> {
    start(cx, cpus)?.check(&cx.name, |rig| {
        let (a, b) = (identity(0)?, identity(1)?);
        for to in [a.v4.to_string(), b.v4.to_string(), a.v6.to_string(), b.v6.to_string()] {
            let said = ask(rig, &format!("ping {to} count 3 interval 200"), "3 sent, ")?;
            ensure!(said.contains("3 sent, 3 received, 0% lost; min/avg/max "), "{said}");
            ensure!(said.matches(&format!("64 bytes from {to}: icmp_seq=")).count() == 3, "{said}");
            // In fragments, both ways.
            let said = ask(rig, &format!("ping {to} size 4000 count 2 interval 200"), "2 sent, ")?;
            ensure!(said.contains("2 sent, 2 received") && said.contains("4008 bytes from"), "{said}");
            let said = ask(rig, &format!("ping {to} df size 4000"), "take")?;
            ensure!(said.contains("the interface takes 14"), "{said}");
        }
        // The first host's link-local address.
        let near = "fe80::5054:ff:fe00:101";
        let said = ask(rig, &format!("ping {near} interface wan count 2 interval 100"), "2 sent, ")?;
        ensure!(said.contains("2 sent, 2 received"), "{said}");
        ask(rig, &format!("ping {near}"), "say which, as in")?;
        ask(rig, &format!("ping {} source 10.0.1.77", a.v4), "10.0.1.77 is no address of this router")?;
        ask(rig, "ping 10.0.1.1", "10.0.1.1 is an address of this router, on lan")?;
        ask(rig, "ping nobody.example", "no name server is known")?;
        ask(rig, "ping 203.0.113.7", "there is no route to 203.0.113.7")?;
        let said = ask(rig, &format!("ping {} source 10.0.1.1 count 1", a.v4), "1 sent, ")?;
        ensure!(said.contains("from 10.0.1.1,") && said.contains("1 received"), "{said}");
        // Nobody has these addresses: the router itself says so.
        for (nobody, own, word) in [
            ("192.0.2.99", "192.0.2.1", "host unreachable"),
            ("2001:db8:1::99", "2001:db8:1::1", "address unreachable"),
        ] {
            let said = ask(rig, &format!("ping {nobody} count 1"), "1 sent, ")?;
            ensure!(said.contains(&format!("from {own}: icmp_seq=1 {word}")), "{said}");
            ensure!(said.contains("1 sent, 0 received, 100% lost, 1 refused"), "{said}");
        }
        // A host that keeps silent.
        rig.host(1).shell("echo 1 > /proc/sys/net/ipv4/icmp_echo_ignore_all", SHELL)?;
        let said = ask(rig, &format!("ping {} count 2 interval 100", b.v4), "2 sent, ")?;
        ensure!(said.contains("2 sent, 0 received, 100% lost"), "{said}");
        rig.host(1).shell("echo 0 > /proc/sys/net/ipv4/icmp_echo_ignore_all", SHELL)?;
        // A host that turns away.
        rig.host(0)
            .shell("ip route add prohibit 198.51.100.0/24; echo 1 > /proc/sys/net/ipv4/ip_forward", SHELL)?;
        let said = ask(rig, "ping 198.51.100.9 count 1", "1 sent, ")?;
        ensure!(said.contains("from 192.0.2.2: icmp_seq=1 prohibited"), "{said}");
        // One without end holds the console alone, and Ctrl-C ends it.
        ask(rig, &format!("ping {} count 60000 interval 100", b.v4), "icmp_seq=3 ")?;
        ping(rig.host(0), &b.v4.to_string(), 56, "dont")?;
        let position = rig.router.machine.console.position();
        rig.router.machine.type_keys(b"ignored\n\x03")?;
        let end = rig.router.machine.console.wait_after(position, " sent, ", PATIENCE)?.text;
        ensure!(end.contains(" received, "), "{end}");
        ask(rig, "show status", "uptime").map(drop)
    })
}

/// A network behind the first host, whose link there takes 1280 bytes.
fn traceroute(cx: &Context) -> Result<()> {
    start(cx, 2)?.check(&cx.name, |rig| {
        let far = rig.host(0).start("unshare", &["-n", "sh", "-c", "echo pid $$; exec sleep 300"])?;
        let pid = far.output.wait("pid ", SHELL)?.text;
        let pid = pid.trim_start_matches("pid ").trim();
        rig.host(0).shell(
            &format!(
                "ip link add v0 mtu 1280 type veth peer name v1 netns {pid} mtu 1280
                 ip addr add 198.51.100.1/24 dev v0; ip addr add 2001:db8:99::1/64 dev v0 nodad; ip link set v0 up
                 echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
                 nsenter -t {pid} -n sh -c 'echo 0 > /proc/sys/net/ipv6/conf/v1/accept_dad
                 ip addr add 198.51.100.9/24 dev v1; ip addr add 2001:db8:99::9/64 dev v1 nodad; ip link set v1 up
                 ip link set lo up; ip route add default via 198.51.100.1; ip route add default via 2001:db8:99::1'"
            ),
            SHELL,
        )?;
        let hop = identity(0)?;
        for (to, first, late) in [
            ("198.51.100.9", hop.v4.to_string(), "TTL exceeded"),
            ("2001:db8:99::9", hop.v6.to_string(), "hop limit exceeded"),
        ] {
            let said = ask(rig, &format!("ping {to} count 2 interval 200"), "2 sent, ")?;
            ensure!(said.contains("2 sent, 2 received") && said.contains("ttl=63"), "{said}");
            let said = ask(rig, &format!("traceroute {to}"), &format!(" 2  {to}  "))?;
            ensure!(said.contains(&format!(" 1  {first}  ")), "{said}");
            let second = said.lines().find(|line| line.contains(&format!(" 2  {to}  "))).unwrap_or_default();
            ensure!(second.matches(" ms").count() == 3, "{said}");
            let said = ask(rig, &format!("ping {to} count 1 ttl 1"), "1 sent, ")?;
            ensure!(said.contains(&format!("from {first}: icmp_seq=1 {late}")), "{said}");
            let said = ask(rig, &format!("ping {to} count 1 df size 1400"), "1 sent, ")?;
            ensure!(said.contains(&format!("from {first}: icmp_seq=1 too big: 1280 bytes pass there")), "{said}");
            // What may be cut is cut, by whoever has to.
            let said = ask(rig, &format!("ping {to} count 1 size 3000"), "1 sent, ")?;
            ensure!(said.contains("1 sent, 1 received"), "{said}");
        }
        let said = ask(rig, "traceroute 192.0.2.99 hops 1", "host unreachable")?;
        ensure!(said.contains(" 1  192.0.2.1  "), "{said}");
        ask(rig, "show status", "uptime").map(drop)
    })
}
