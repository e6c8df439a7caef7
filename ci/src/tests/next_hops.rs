//! Routes with several next hops, and next routers that other routes lead to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::operation::seen;
use super::{Context, Needs, Test};
use crate::frame::{self, Ipv4, Ipv6, UDP};
use crate::qmp::Link;
use crate::rig::{FrameRig, PATIENCE};
use crate::router::Config;

const WEIR: Needs = Needs { root: false, programs: &[], weir: true, alone: false };

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new("route-by-two-gateways", WEIR, two_gateways)]
}

/// To the hosts of the second and the third network, three to one; and to a router that is behind both.
const ROUTES: &str = "
[[route]]
to = \"198.18.0.0/16\"
via = [{ address = \"203.0.113.2\" }, { address = \"10.0.1.2\", weight = 3 }]

[[route]]
to = \"2001:db8:f000::/40\"
via = [{ address = \"2001:db8:3::2\" }, { address = \"2001:db8:2::2\", weight = 3 }]

[[route]]
to = \"198.51.100.0/24\"
via = \"198.18.0.1\"

[[route]]
to = \"2001:db8:e000::/40\"
via = \"2001:db8:f000::1\"
";

/// Flows of each family and destination.
const FLOWS: u16 = 150;
const DESTINATIONS: [(&str, &str); 2] =
    [("198.18.3.9", "2001:db8:f000::9"), ("198.51.100.9", "2001:db8:e000::9")];

/// Where each flow went: by port 1 or 2.
type Ways = BTreeMap<u16, usize>;

fn two_gateways(cx: &Context) -> Result<()> {
    let config = Config::three_ports();
    let text = config.toml() + ROUTES;
    let rig = FrameRig::start(cx.image, config, 3, |setup| setup.module = Some(text.into_bytes()))?;
    rig.check(&cx.name, |rig| {
        rig.router.ready()?;
        acquaint(rig)?;
        let before = ways(rig)?;
        // Directly, and by the router behind both.
        for (first, to) in (0..).step_by(usize::from(FLOWS) * 2).zip(["both", "the router behind"]) {
            let flows = before.range(first as u16..).take(usize::from(FLOWS) * 2);
            let by_lan = flows.filter(|(_, port)| **port == 1).count() * 50 / usize::from(FLOWS);
            ensure!(
                (63..87).contains(&by_lan),
                "{by_lan} % of the flows to {to} take the way with three quarters"
            );
        }
        ensure!(ways(rig)? == before, "flows changed their way though nothing else did");

        link(rig, Link::Down, "dmz: link down")?;
        let alone = ways(rig)?;
        ensure!(alone.values().all(|port| *port == 1), "a flow takes a way whose link is down");
        link(rig, Link::Up, "dmz: link up")?;
        acquaint(rig)?;
        ensure!(ways(rig)? == before, "flows did not return to where they had been");
        Ok(())
    })
}

/// Pulls or plugs the cable of the third network.
fn link(rig: &mut FrameRig, link: Link, said: &str) -> Result<()> {
    let position = rig.router.machine.console.position();
    rig.router.machine.qmp()?.set_link("nic2", link)?;
    rig.router.machine.console.wait_after(position, said, PATIENCE)?;
    seen(&mut rig.router)
}

/// Has the router know its next hops: packets that wait for one would crowd each other out.
fn acquaint(rig: &FrameRig) -> Result<()> {
    for host in &rig.hosts {
        let own = host.identity();
        host.ping(own.gateway_v4.into(), 1, PATIENCE)?;
        host.ping(own.gateway_v6.into(), 2, PATIENCE)?;
    }
    Ok(())
}

/// Sends one packet of each flow from the first network and finds out where it leaves.
fn ways(rig: &FrameRig) -> Result<Ways> {
    let from = rig.hosts.first().context("no host")?;
    let own = from.identity();
    rig.hosts.iter().for_each(|host| host.forget());
    let mut found = Ways::new();
    let mut sent = 0;
    for (to_v4, to_v6) in DESTINATIONS {
        for n in 0..FLOWS {
            let ports = |source, destination| frame::udp((source, 20_000 + n), (destination, 7), b"a flow");
            let to = to_v4.parse()?;
            let mut packet = Ipv4::new(own.v4, to, UDP, ports(own.v4.into(), to.into()));
            packet.id = sent;
            from.send_v4(&packet)?;
            let to = to_v6.parse()?;
            let mut packet = Ipv6::new(own.v6, to, UDP, ports(own.v6.into(), to.into()));
            packet.flow_label = u32::from(sent + 1);
            from.send_v6(&packet)?;
            sent += 2;
            if n % 10 == 9 {
                collect(rig, sent, &mut found)?;
            }
        }
    }
    Ok(found)
}

/// Waits until all flows up to `sent` have arrived.
fn collect(rig: &FrameRig, sent: u16, found: &mut Ways) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while found.len() < usize::from(sent) {
        for (port, host) in rig.hosts.iter().enumerate().skip(1) {
            let mark = |frame: &frame::Frame| {
                let v4 = frame.v4().filter(|packet| packet.protocol == UDP).map(|packet| packet.id);
                v4.or_else(|| u16::try_from(frame.v6().filter(|p| p.next_header == UDP)?.flow_label).ok())
            };
            found.extend(host.take_all(mark).into_iter().map(|mark| (mark, port)));
        }
        ensure!(Instant::now() < deadline, "{} of {sent} packets came through", found.len());
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
