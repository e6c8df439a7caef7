//! Addresses that somebody else on the link has already (RFC 4862 §5.4, RFC 5227).

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::clients::{ADDRESSES, dnsmasq, passes, says, start};
use super::forwarding::{everything_works, expect_v6, udp_v6};
use super::{Context, Needs, Test};
use crate::frame::{self, ICMPV6, Icmp, Ipv6, Mac};
use crate::host::Host;
use crate::rig::{FrameRig, SILENCE};
use crate::router::Config;

/// Detection takes two seconds on an idle machine.
const LIMIT: Duration = Duration::from_secs(40);

pub(super) fn tests() -> Vec<Test> {
    let weir = Needs { weir: true, ..Needs::default() };
    vec![
        Test::new("duplicate-addresses-are-not-used", weir, duplicates),
        Test::new("clients-dhcp-declines-a-taken-address", ADDRESSES, decline).waits(),
    ]
}

/// Says to all nodes that `address` is the host's.
fn claim(host: &Host, address: std::net::Ipv6Addr) -> Result<()> {
    let mac = host.identity().mac;
    let to = "ff02::1".parse()?;
    let body = frame::neighbour_option(2, mac, address);
    let icmp = Icmp::new(136, 0, 0x2000_0000, &body).bytes_v6(address, to);
    let mut packet = Ipv6::new(address, to, ICMPV6, icmp);
    packet.hop_limit = 255;
    host.send(&frame::ethernet(Mac::of_group_v6(to), mac, frame::ETHERTYPE_IPV6, &packet.bytes()))
}

/// A configured address and a link-local one that others have go out of use, and come back with another configuration.
fn duplicates(cx: &Context) -> Result<()> {
    let cpus = 2;
    FrameRig::start(cx.image, Config::two_ports(), 2, |setup| setup.cpus = cpus)?.check(&cx.name, |rig| {
        rig.router.ready()?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let (address, local) = (a.identity().gateway_v6, b.identity().gateway_mac.link_local());
        // It asks, from nobody (RFC 4862 §5.4.2).
        a.expect("the question for the address", LIMIT, |frame| {
            let icmp = frame.icmp().filter(|icmp| icmp.kind == 135 && icmp.checksum_valid)?;
            let packet =
                frame.v6().filter(|packet| packet.source.is_unspecified() && packet.hop_limit == 255)?;
            let right = frame::v6_at(&icmp.body, 0) == address
                && packet.destination == frame::solicited_node(address);
            (right && icmp.body.len() == 16).then_some(())
        })?;
        let begun = Instant::now();
        let line = format!("wan: {address} is not used: {} has it too", a.identity().mac);
        let off =
            format!("lan: {local} is not used: {} has it too; without it IPv6 is off here", b.identity().mac);
        while !(rig.router.machine.console.text().contains(&line)
            && rig.router.machine.console.text().contains(&off))
        {
            ensure!(begun.elapsed() < LIMIT, "nothing was said of {address} and {local}");
            claim(a, address)?;
            claim(b, local)?;
            std::thread::sleep(Duration::from_millis(100));
        }
        std::thread::sleep(SILENCE);
        ensure!(a.solicit(address, SILENCE).is_err(), "{address} is still answered for");
        ensure!(b.solicit(b.identity().gateway_v6, SILENCE).is_err(), "IPv6 is still on at lan");
        a.arp(a.identity().gateway_v4, LIMIT)?;
        b.arp(b.identity().gateway_v4, LIMIT)?;
        let position = rig.router.machine.console.position();
        rig.router.machine.type_keys(b"show interfaces | match duplicate\n")?;
        let shown = rig.router.machine.console.wait_after(position, "fe80::5054:ff:fe00:2", LIMIT)?;
        ensure!(
            shown.text.contains(&b.identity().mac.to_string()),
            "the holder is not shown: {}",
            shown.text
        );
        // Nobody has them any more: another configuration uses them again, and all works.
        let text = format!("steering = \"flows\"\n{}", Config::two_ports().toml());
        rig.router.machine.type_keys(format!("config\n{text}\n.\n").as_bytes())?;
        rig.router.machine.console.wait("configuration replaced", LIMIT)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let begun = Instant::now();
        while a.solicit(address, SILENCE).is_err() || b.solicit(b.identity().gateway_v6, SILENCE).is_err() {
            ensure!(begun.elapsed() < LIMIT, "{address} does not come back");
        }
        let packet = udp_v6(a, b, b"forwarded again");
        a.send_v6(&packet)?;
        expect_v6(b, &packet)?;
        everything_works(rig)
    })
}

/// The server offers what hosts have: it hears so, and offers something else later.
fn decline(cx: &Context) -> Result<()> {
    start(cx, 2, "[\"dhcp\"]", "")?.check(&cx.name, |rig| {
        let limit = Duration::from_secs(5);
        for last in [77, 78] {
            rig.host(0).shell(&format!("ip addr add 192.0.2.{last}/32 dev eth0"), limit)?;
        }
        let server = dnsmasq(rig, &["--port=0", "--dhcp-range=192.0.2.77,192.0.2.78,255.255.255.0,120"])?;
        server.errors.wait("DHCPDECLINE(eth0) 192.0.2.7", LIMIT)?;
        says(rig, "is not used: 52:54:00:00:01:01 has it too")?;
        for last in [77, 78] {
            rig.host(0).shell(&format!("ip addr del 192.0.2.{last}/32 dev eth0"), limit)?;
        }
        let position = server.errors.position();
        server.errors.wait_after(position, "DHCPACK(eth0) 192.0.2.7", LIMIT)?;
        let deadline = Instant::now() + LIMIT;
        loop {
            let said = rig.host(0).check("ip", &["-4", "neigh", "show"], limit)?;
            // Five seconds of questions, then it is in use: it announces itself.
            for last in [77, 78] {
                rig.host(0).shell(&format!("ip route replace 10.0.1.0/24 via 192.0.2.{last}"), limit)?;
                if passes(rig, "192.0.2.2").is_ok() {
                    return Ok(());
                }
            }
            ensure!(Instant::now() < deadline, "no address came into use: {said}");
        }
    })
}
