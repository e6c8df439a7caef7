//! Linux as the router: three network namespaces and two pairs of veth devices, frames by `peers/flood.c`. Needs root.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::program::{Cores, LIMIT, Program, success};
use super::samples::{Figure, in_turn};
use crate::cleanup::Made;
use crate::command;
use crate::netns::{ip, make_namespace};

const INSIDE: &str = "52:54:00:00:00:01";
/// Gateways of the exported routes: hops 1 to 64.
const HOPS: u32 = 64;

/// A Linux router and its flood.
pub(super) struct Linux {
    flood: Program,
    sink: String,
    _made: [Made; 3],
}

impl Linux {
    /// With the routes of an exported folder; `flood` is the built program.
    pub(super) fn start(flood: &Path, folder: &Path, six: bool, cores: Cores) -> Result<Linux> {
        let (source, made_source) = make_namespace("source")?;
        let (router, made_router) = make_namespace("router")?;
        let (sink, made_sink) = make_namespace("sink")?;
        let run = |line: &str| success(Command::new("ip").args(line.split(' ')), LIMIT);
        run(&format!("link add port netns {source} type veth peer name in netns {router}"))?;
        run(&format!("link add out netns {router} type veth peer name port netns {sink}"))?;
        let mut lines = format!(
            "link set in address {INSIDE}\nlink set out address 52:54:00:00:00:02\n\
             address add 10.0.0.1/24 dev in\naddress add 192.0.2.1/24 dev out\n\
             address add 2001:db8:0:1::1/64 dev in nodad\naddress add 2001:db8:0:2::1/64 dev out nodad\n\
             link set in up\nlink set out up\n"
        );
        for hop in 1..=HOPS {
            let gateway = gateway(six, hop);
            lines += &format!("neighbor add {gateway} lladdr 02:00:00:00:01:{hop:02x} dev out\n");
        }
        for namespace in [&source, &sink] {
            ip(namespace, "link set port up\n")?;
        }
        let settings = [
            "net.ipv4.conf.all.rp_filter=0",
            "net.ipv4.conf.in.rp_filter=0",
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
        ];
        success(Command::new("ip").args(["netns", "exec", &router, "sysctl", "-qw"]).args(settings), LIMIT)?;
        ip(&router, &lines)?;
        let routes = std::fs::read_to_string(folder.join("routes"))?;
        let mut batch = String::new();
        for line in routes.lines() {
            let (to, hop) = line.split_once(' ').context("a route")?;
            batch += &format!("route add {to} via {} dev out\n", gateway(six, hop.parse()?));
        }
        let mut command = Command::new("ip");
        command.args(["-n", &router, "-batch", "-"]);
        command::run(&mut command, batch.as_bytes(), LIMIT)?.success("ip route add")?;

        let mut command = Command::new("ip");
        command.args(["netns", "exec", &source, "taskset", "-c", &cores.0.to_string()]);
        command.arg(flood).args(["port", INSIDE, if six { "6" } else { "4" }]).arg(folder.join("addresses"));
        let flood = Program::start(&mut command)?.ready()?;
        Ok(Linux { flood, sink, _made: [made_source, made_router, made_sink] })
    }

    /// Nanoseconds a frame: sent and forwarded, and sent only. All on one core.
    pub(super) fn forward(&mut self, flows: usize, turns: usize) -> Result<[Figure; 2]> {
        let before = self.arrived()?;
        let forward = in_turn(&mut [(&mut self.flood, &format!("forward {flows} 64 1 #"))], turns)?;
        let arrived = self.arrived()? - before;
        // Four samples of a turn count, a fifth was forwarded too.
        let sent = turns as u64 * 5 * 8192;
        ensure!(arrived * 1000 >= sent * 999, "Linux forwarded {arrived} of {sent} frames");
        let send = in_turn(&mut [(&mut self.flood, &format!("send {flows} 64 1 #"))], turns)?;
        Ok([forward[0], send[0]])
    }

    /// What the kernel counted behind the router.
    fn arrived(&self) -> Result<u64> {
        let file = "/sys/class/net/port/statistics/rx_packets";
        let said = success(Command::new("ip").args(["netns", "exec", &self.sink, "cat", file]), LIMIT)?;
        said.trim().parse().with_context(|| said)
    }
}

fn gateway(six: bool, hop: u32) -> String {
    match six {
        false => format!("192.0.2.{}", 1 + hop),
        true => format!("2001:db8:0:2::{:x}", 1 + hop),
    }
}
