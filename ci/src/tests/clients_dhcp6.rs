//! The router as a client of DHCPv6: dnsmasq says what is to be had, and gives it.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::clients::{ADDRESSES, PATIENCE, config, dnsmasq, passes, says, start};
use super::{Context, Test};
use crate::rig::LinuxRig;

/// Half of the shortest time that dnsmasq gives an address for, on a busy machine.
const HALF: Duration = Duration::from_secs(110);
const LIMIT: Duration = Duration::from_secs(5);
const NAMES: &str = "ntp.servers = [\"ntp.test\"]";

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("clients-dhcpv6-addresses", ADDRESSES, stateful).waits(),
        Test::new("clients-dhcpv6-name-servers", ADDRESSES, stateless).waits(),
    ]
}

/// dnsmasq that advertises itself as router, answers for names, and has `range`.
fn server(rig: &LinuxRig, range: &str) -> Result<crate::netns::Daemon> {
    rig.host(0).shell("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding", LIMIT)?;
    let range = format!("--dhcp-range={range}");
    let dns = "--dhcp-option=option6:dns-server,[2001:db8:1::2]";
    let names = ["--address=/ntp.test/192.0.2.2", "--local=/test/", "--ra-param=eth0,10,60"];
    // The next one on this link is the same server, and knows whom it gave an address to.
    let same = ["--dhcp-duid=1,01:02:03", "--dhcp-authoritative"];
    dnsmasq(rig, &[&["--enable-ra", &range, dns][..], &names, &same].concat())
}

/// An address of a pool: used, renewed by a server that phases it out, given back.
fn stateful(cx: &Context) -> Result<()> {
    let own = "2001:db8:1::50";
    start(cx, 4, "[\"auto\"]", NAMES)?.check(&cx.name, |rig| {
        rig.host(0).shell(&format!("ip -6 route add 2001:db8:2::/64 via {own}"), LIMIT)?;
        let server = server(rig, &format!("{own},{own},64,120"))?;
        server.errors.wait("DHCPSOLICIT(eth0)", PATIENCE)?;
        says(rig, &format!("wan: dhcpv6: {own}"))?;
        server.errors.wait(&format!("query[A] ntp.test from {own}"), PATIENCE)?;
        passes(rig, "2001:db8:1::2")?;
        let said = rig.host(0).check("ping", &["-n", "-c", "1", "-W", "5", own], Duration::from_secs(10))?;
        ensure!(said.contains("1 received"), "{said}");
        drop(server);
        let server = self::server(rig, &format!("{own},{own},64,deprecated"))?;
        server.errors.wait("DHCPRENEW(eth0)", HALF)?;
        // There is no other: it goes on being used.
        says(rig, &format!("wan: dhcpv6: {own} (deprecated)"))?;
        passes(rig, "2001:db8:1::2")?;
        rig.router.machine.type_keys(b"show interfaces wan | json\n")?;
        says(rig, "\"deprecated\": true")?;
        let text = config("[\"2001:db8:1::1/64\"]", "");
        rig.router.machine.type_keys(format!("config\n{text}\n.\n").as_bytes())?;
        says(rig, &format!("wan: dhcpv6: {own} is given back"))?;
        server.errors.wait("DHCPRELEASE(eth0)", PATIENCE)?;
        Ok(())
    })
}

/// Name servers alone, beside an address of an advertised prefix.
fn stateless(cx: &Context) -> Result<()> {
    start(cx, 1, "[\"auto\"]", NAMES)?.check(&cx.name, |rig| {
        let server = server(rig, "2001:db8:1::,ra-stateless,64,7200")?;
        says(rig, "wan: auto: 2001:db8:1:0:5054:ff:fe00:1/64, router fe80::")?;
        server.errors.wait("DHCPINFORMATION-REQUEST(eth0)", PATIENCE)?;
        says(rig, "wan: dhcpv6: name servers: 2001:db8:1::2")?;
        server.errors.wait("query[A] ntp.test from 2001:db8:1:0:5054:ff:fe00:1", PATIENCE)?;
        Ok(())
    })
}
