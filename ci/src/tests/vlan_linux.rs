//! A real Linux peer with tags of its own: two hosts in one guest, each on a VLAN of its only NIC, through a router with one
//! NIC. Both NICs are TAP devices of one bridge, so that super-packets cross the router with their tags on.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::linux_hosts::verify_checksums;
use super::vlans::two_vlans;
use super::{Context, Needs, Test};
use crate::cleanup;
use crate::command;
use crate::linux;
use crate::netns::{self, Daemon};
use crate::qemu::{Machine, Nic, Spec, Wire};
use crate::rig::{host_mac, identity, no_panic, report_folder, write_console};
use crate::router::{Config, Router, Setup, router_mac};
use crate::table;

const NEEDS: Needs =
    Needs { root: true, programs: &["ip", "tcpdump", "tshark", "ethtool"], weir: true, alone: false };

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new("vlan-linux-guest", NEEDS, linux_guest)]
}

/// What the guest does until it is told what to run: two network namespaces, a VLAN in each.
fn script() -> Result<String> {
    let mut text = String::from(
        "export PATH=/bin\n/bin/busybox --install -s /bin\nip link set eth0 up\n\
         dd if=/dev/urandom of=/file bs=1M count=8 2>/dev/null\n\
         mkfifo /hold\nsleep 100000 > /hold &\n",
    );
    for (port, id) in [(0, 10), (1, 20)] {
        let own = identity(port)?;
        let (v4, v6, gateway4, gateway6) = (own.v4, own.v6, own.gateway_v4, own.gateway_v6);
        text += &format!(
            "ip link add link eth0 name vlan{id} type vlan id {id}\n\
             unshare -n sleep 100000 &\nH{port}=$!\n\
             while [ \"$(readlink /proc/$H{port}/ns/net)\" = \"$(readlink /proc/self/ns/net)\" ]; do sleep 0.1; done\n\
             ip link set vlan{id} netns $H{port}\n\
             host{port}() {{ nsenter -n -t $H{port} \"$@\"; }}\n\
             host{port} sh -c 'for f in /proc/sys/net/ipv6/conf/*; do echo 0 > $f/accept_dad; done'\n\
             host{port} ip link set lo up\nhost{port} ip link set vlan{id} up\n\
             host{port} ip addr add {v4}/24 dev vlan{id}\nhost{port} ip addr add {v6}/64 dev vlan{id}\n\
             host{port} ip route add default via {gateway4}\nhost{port} ip -6 route add default via {gateway6}\n\
             (while :; do host{port} nc -l -p 5000 < /file; done) &\n",
        );
    }
    text += "echo 'linux-hosts: ready'\n\
             while read -r line; do eval \"$line\"; echo \"linux-hosts: status $?\"; done\n\
             while :; do sleep 1000; done\n";
    Ok(text)
}

/// The router, the guest, and the bridge between them.
struct Lab {
    router: Router,
    guest: Machine,
    namespace: String,
    _made: [cleanup::Made; 2],
}

impl Lab {
    fn start(cx: &Context) -> Result<Lab> {
        let (namespace, made) = netns::make_namespace("vlan")?;
        netns::ip(
            &namespace,
            "link add br0 type bridge\ntuntap add dev tap0 mode tap vnet_hdr\ntuntap add dev tap1 mode tap vnet_hdr\n\
             link set tap0 master br0 up\nlink set tap1 master br0 up\nlink set br0 up\n",
        )
        .context("the bridge and its TAP devices")?;
        let tap = |port: usize| Wire::Tap { device: format!("tap{port}"), queues: 1 };
        let mut setup = Setup::new(cx.image, Config::two_ports(), vec![tap(0)]);
        setup.module = Some(two_vlans()?.into_bytes());
        setup.namespace = Some(namespace.clone());
        let router = setup.start()?;

        let (directory, files) = cleanup::directory()?;
        let initrd = directory.join("initrd");
        let archive = linux::base_archive(&["virtio_pci", "virtio_net", "8021q"], &script()?)?;
        std::fs::write(&initrd, archive.finish()).with_context(|| format!("writing {}", initrd.display()))?;
        let mut spec = Spec::new(&linux::kernel()?);
        spec.command_line = linux::command_line();
        spec.initrd = Some(initrd);
        spec.memory_mib = 256;
        spec.nics = vec![Nic { wire: tap(1), mac: host_mac(0), properties: Vec::new() }];
        spec.namespace = Some(namespace.clone());
        spec.limit = Duration::from_secs(900);
        let guest = Machine::start(&spec)?;
        Ok(Lab { router, guest, namespace, _made: [made, files] })
    }

    /// Runs a line of shell in the guest, which must succeed; what it said.
    fn run(&mut self, line: &str, limit: Duration) -> Result<String> {
        let position = self.guest.console.position();
        self.guest.type_keys(format!("{line}\n").as_bytes())?;
        let end = self.guest.console.wait_after(position, "linux-hosts: status ", limit)?;
        let said: String =
            self.guest.console.since(position).iter().map(|line| format!("{}\n", line.text)).collect();
        ensure!(end.text.contains("status 0"), "{line}\n{said}");
        Ok(said)
    }

    /// A program beside the bridge.
    fn beside(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]).args(arguments);
        command
    }

    /// Records what passes a TAP device.
    fn record(&self, device: &str, path: &str) -> Result<Daemon> {
        let list = ["-i", device, "-s", "0", "-U", "-Z", "root", "-w", path];
        let capture = Daemon::start("tcpdump", self.beside("tcpdump", &list))?;
        capture.errors.wait("listening on", Duration::from_secs(30))?;
        Ok(capture)
    }

    /// Eight megabytes from each host to the other, in both families.
    fn transfers(&mut self) -> Result<()> {
        for (client, server) in [(0, 1), (1, 0)] {
            let own = identity(server)?;
            for address in [own.v4.to_string(), own.v6.to_string()] {
                // With a standard input that ends, it would not wait for the file.
                // The one before may not have ended: then nobody listens yet.
                let line = format!(
                    "until host{server} netstat -ltn | grep -q ':5000 '; do sleep 0.1; done; \
                     host{client} timeout 120 nc {address} 5000 < /hold > /got; cmp /got /file"
                );
                self.run(&line, Duration::from_secs(180))
                    .with_context(|| format!("8 MiB from {address} to host {client}"))?;
            }
        }
        Ok(())
    }
}

fn linux_guest(cx: &Context) -> Result<()> {
    let mut lab = Lab::start(cx)?;
    let outcome = check(cx, &mut lab).and_then(|()| no_panic(&lab.router));
    let Err(error) = outcome else { return Ok(()) };
    let folder = report_folder()?;
    write_console(&folder, &cx.name, &lab.router)?;
    std::fs::write(folder.join(format!("{}-guest.txt", cx.name)), lab.guest.console.text())?;
    Err(error.context(format!("consoles and captures: {}/{}-*", folder.display(), cx.name)))
}

fn check(cx: &Context, lab: &mut Lab) -> Result<()> {
    lab.router.ready()?;
    lab.guest.wait("linux-hosts: ready", Duration::from_secs(240))?;
    for (client, server) in [(0, 1), (1, 0)] {
        let far = identity(server)?;
        for (program, to) in [("ping", far.v4.to_string()), ("ping6", far.v6.to_string())] {
            for size in [56, 1400, 4000] {
                let line = format!("host{client} {program} -c 2 -W 5 -s {size} {to}");
                lab.run(&line, Duration::from_secs(60))?;
            }
        }
    }
    let folder = report_folder()?;
    let path = |device: &str| folder.join(format!("{}-{device}.pcap", cx.name)).display().to_string();

    // Super-packets reach the router with their tags, and leave it with them.
    let capture = lab.record("tap0", &path("tap0"))?;
    lab.transfers()?;
    capture.interrupt(Duration::from_secs(30))?;
    for (side, mac) in [("to the router", host_mac(0)), ("from the router", router_mac(0))] {
        for family in ["ip", "ipv6"] {
            let filter = format!("eth.src == {mac} && vlan && {family} && tcp && frame.len > 3000");
            let count = tshark(&path("tap0"), &filter)?.lines().count();
            ensure!(count > 20, "{count} tagged super-packets of {family} {side}");
        }
    }

    // The host's kernel cuts and completes what the router owes: all of it must come out right.
    let list = ["-K", "tap1", "tx", "off", "tso", "off", "gso", "off", "sg", "off"];
    command::run(&mut lab.beside("ethtool", &list), &[], Duration::from_secs(5))?;
    let capture = lab.record("tap1", &path("tap1"))?;
    lab.transfers()?;
    capture.interrupt(Duration::from_secs(30))?;
    verify_checksums(&path("tap1"), &format!("eth.src == {} && vlan", router_mac(0)))?;

    let counts = table::read(&mut lab.router)?;
    for reason in ["offload-malformed", "offload-unsupported", "tx-ring-full", "ipv4-checksum", "too-big"] {
        ensure!(counts.drops(reason) == 0, "{reason}:\n{}", counts.text);
    }
    for device in ["tap0", "tap1"] {
        std::fs::remove_file(path(device))?;
    }
    Ok(())
}

fn tshark(path: &str, filter: &str) -> Result<String> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-r", path, "-Y", filter]);
    command::run(&mut command, &[], Duration::from_secs(120))?.success("tshark")
}
