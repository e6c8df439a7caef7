//! The console's `explain`: what it says of a packet is what the router then does with that packet.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::forwarding::everything_works;
use super::{Context, Needs, Test};
use crate::frame::{self, Ipv4, UDP};
use crate::rig::{FrameRig, PATIENCE, SILENCE, host_mac};
use crate::router::Config;

pub(super) fn tests() -> Vec<Test> {
    let weir = Needs { weir: true, ..Needs::default() };
    vec![
        Test::new("explains-what-it-then-does", weir, |cx| explains(cx, 1)),
        Test::new("explains-what-it-then-does-2-cpus", weir, |cx| explains(cx, 2)),
    ]
}

/// What the console says to a line, up to the last of its own.
pub(crate) fn ask(rig: &mut FrameRig, line: &str) -> Result<String> {
    let console = rig.router.machine.console.clone();
    let position = console.position();
    rig.router.machine.type_keys(format!("{line}\n").as_bytes())?;
    console.wait_after(position, "verdict ", PATIENCE)?;
    // The answer to this comes behind all of that.
    rig.router.machine.type_keys(b"show status | match uptime\n")?;
    console.wait_after(position, "uptime_ms ", PATIENCE)?;
    Ok(console.since(position).iter().map(|line| format!("{}\n", line.text)).collect())
}

fn explains(cx: &Context, cpus: usize) -> Result<()> {
    let config = Config::two_ports();
    FrameRig::start(cx.image, config, 2, |setup| {
        setup.cpus = cpus;
        let text = String::from_utf8(setup.module.take().unwrap_or_default()).unwrap_or_default();
        let text = text.replacen("addresses", "reverse-path-filter = \"strict\"\naddresses", 1);
        let routes = "[[route]]\nto = \"203.0.113.0/24\"\nreject = \"blackhole\"\n";
        setup.module = Some(format!("{text}\n{routes}").into_bytes());
    })?
    .check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (near, far) = (*rig.hosts[0].identity(), *rig.hosts[1].identity());
        let spoofed = "10.0.1.77".parse()?;
        let lost = "203.0.113.9".parse()?;
        let cases = [
            (near.v4, far.v4, "forwarded", format!("it goes by lan to {}", host_mac(1))),
            (spoofed, far.v4, "dropped", "reverse-path-filter = \"strict\"".to_owned()),
            (near.v4, lost, "dropped", "route-blackhole".to_owned()),
            (near.v4, near.gateway_v4, "dropped", format!("an answer goes by wan to {}", host_mac(0))),
        ];
        for (from, to, verdict, end) in cases {
            let said = ask(rig, &format!("explain wan from {from} to {to} protocol udp port 4711"))?;
            ensure!(said.contains(&format!("verdict  {verdict}")) && said.contains(&end), "{said}");
            ensure!(said.contains("[interface.wan]"), "no line of the configuration:\n{said}");
            rig.hosts[1].forget();
            let datagram = frame::udp((from.into(), 50_000), (to.into(), 4711), b"explained");
            rig.hosts[0].send_v4(&Ipv4::new(from, to, UDP, datagram))?;
            let came = |frame: &frame::Frame| {
                matches!(&frame.network, frame::Network::V4(p) if p.protocol == UDP).then_some(())
            };
            let arrived = match verdict {
                "forwarded" => {
                    let deadline = std::time::Instant::now() + PATIENCE;
                    let mut count = 0;
                    while count == 0 && std::time::Instant::now() < deadline {
                        count = rig.hosts[1].take_all(came).len();
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    count
                }
                _ => {
                    std::thread::sleep(SILENCE);
                    rig.hosts[1].take_all(came).len()
                }
            };
            ensure!((arrived == 1) == (verdict == "forwarded"), "{arrived} arrived, and it said:\n{said}");
        }
        let said = ask(rig, "explain wan from 2001:db8:1::2 to 2001:db8:2::99 protocol tcp port 80")?;
        ensure!(said.contains("verdict  waits"), "{said}");
        // What is dropped passes with the candidate, whose line it says.
        rig.router.machine.type_keys(b"configure\nset interface wan reverse-path-filter off\n")?;
        let line = format!("explain wan from {spoofed} to {} protocol udp", far.v4);
        let said = ask(rig, &line)?;
        ensure!(said.contains("verdict  dropped"), "{said}");
        let said = ask(rig, &format!("{line} candidate"))?;
        ensure!(
            said.contains("verdict  forwarded") && said.contains("reverse-path-filter = \"off\""),
            "{said}"
        );
        rig.router.machine.type_keys(b"discard\nexit\n")?;
        Ok(())
    })
}
