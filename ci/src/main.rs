//! `lab`: boots the router, plays the hosts around it, and checks what they see.

#![forbid(unsafe_code)]

mod cleanup;
mod command;
mod console;
mod cpio;
mod frame;
mod host;
mod linux;
mod netns;
mod pcap;
mod qemu;
mod qmp;
mod router;

use std::time::Duration;
use router::*;

fn try_it() -> anyhow::Result<()> {
    use host::*;
    let ids = [
        Identity { mac: frame::mac("52:54:00:00:01:01")?, v4: "192.0.2.2".parse()?, v6: "2001:db8:1::2".parse()?, gateway_v4: "192.0.2.1".parse()?, gateway_v6: "2001:db8:1::1".parse()?, gateway_mac: frame::mac("52:54:00:00:00:01")? },
        Identity { mac: frame::mac("52:54:00:00:01:02")?, v4: "10.0.1.2".parse()?, v6: "2001:db8:2::2".parse()?, gateway_v4: "10.0.1.1".parse()?, gateway_v6: "2001:db8:2::1".parse()?, gateway_mac: frame::mac("52:54:00:00:00:02")? },
    ];
    let mut hosts = Vec::new();
    let mut wires = vec![];
    for id in ids { let s = Sockets::new()?; wires.push(s.wire.clone()); hosts.push(Host::start(s, id)?); }
    let router = Setup::new(Image::Linux, Config::two_ports(), wires).start()?;
    for h in &hosts { h.connect()?; }
    let l = router.ready()?;
    println!("ready {:?}", l.at - router.machine.started);
    println!("{:?}", hosts[0].arp("192.0.2.1".parse()?, Duration::from_secs(2))?);
    println!("{:?}", hosts[0].solicit("2001:db8:1::1".parse()?, Duration::from_secs(2))?);
    println!("{:?}", hosts[0].ping("10.0.1.2".parse()?, 1, Duration::from_secs(3))?);
    println!("{:?}", hosts[0].ping("2001:db8:2::2".parse()?, 1, Duration::from_secs(3))?);
    println!("{:?}", hosts[1].ping("2001:db8:1::1".parse()?, 1, Duration::from_secs(3))?);
    drop(router);
    let plan = |i: usize, v4: &str, v6: &str, g4: &str, g6: &str| netns::Plan { mac: format!("52:54:00:00:01:0{}", i+1), addresses: vec![v4.into(), v6.into()], gateways: vec![g4.into(), g6.into()], mtu: 1500, queues: 1 };
    let net = netns::Network::new(&[plan(0, "192.0.2.2/24", "2001:db8:1::2/64", "192.0.2.1", "2001:db8:1::1"), plan(1, "10.0.1.2/24", "2001:db8:2::2/64", "10.0.1.1", "2001:db8:2::1")])?;
    let mut setup = Setup::new(Image::Linux, Config::two_ports(), net.wires());
    setup.namespace = Some(net.namespace.clone());
    setup.paused = true;
    let mut router = setup.start()?;
    router.machine.qmp()?;
    net.arrive()?;
    router.machine.resume()?;
    let l = router.ready()?;
    println!("ready {:?}", l.at - router.machine.started);
    print!("{}", net.hosts[0].check("ping", &["-c", "3", "-i", "0.2", "10.0.1.2"], Duration::from_secs(5))?);
    print!("{}", net.hosts[0].check("ping", &["-c", "3", "-i", "0.2", "2001:db8:2::2"], Duration::from_secs(5))?);
    print!("{}", net.hosts[0].check("ethtool", &["-k", "eth0"], Duration::from_secs(5))?.lines().take(20).collect::<Vec<_>>().join("\n"));
    Ok(())
}

fn main() {
    cleanup::install();
    let r = try_it();
    cleanup::remove_all();
    if let Err(e) = r { eprintln!("{e:#}"); std::process::exit(1) }
}
