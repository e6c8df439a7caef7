//! Every CPU forwards: flows spread over CPUs by the device or in software, in order; and the configuration replaced
//! while packets pass.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::forwarding::everything_works;
use super::{Context, Needs, Test};
use crate::flows;
use crate::frame::{self, Ipv4, UDP};
use crate::rig::{FrameRig, LinuxPlan, LinuxRig, PATIENCE, SILENCE, identity};
use crate::router::{Config, Image, Interface};
use crate::table;

const CPUS: usize = 4;
const FLOWS: u16 = 16;
const WEIR: Needs = Needs { root: false, programs: &[], weir: true, alone: false };
const NETWORK: Needs = Needs { root: true, programs: &["ip", "ethtool"], weir: true, alone: true };

const LISTING: Needs = Needs { root: false, programs: &["objdump"], weir: true, alone: false };

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("multicore-software-spreads-flows-in-order", WEIR, software_spreads),
        Test::new("multicore-queues-of-one-owner", NETWORK, one_owner),
        Test::new("multicore-neighbours-are-shared", WEIR, neighbours),
        Test::new("config-replaced-while-pinging", WEIR, |cx| {
            FrameRig::start(cx.image, Config::two_ports(), 3, |setup| setup.cpus = CPUS)?
                .check(&cx.name, |rig| replaced_while_pinging(rig, 20))
        }),
        Test::new("config-wrong-on-the-console-changes-nothing", WEIR, wrong_on_the_console),
        Test::new("console-helps", WEIR, helps),
        Test::new("image-forwards-without-locked-instructions", LISTING, |_| without_locks()),
        Test::new("image-takes-little-of-a-stack-at-once", LISTING, |_| shallow()),
    ]
}

/// Four CPUs, a queue pair of each NIC for each, spread by the NIC's hash.
fn plan() -> LinuxPlan {
    LinuxPlan { queues: CPUS, cpus: CPUS, ..LinuxPlan::new() }
}

/// Sends flows of `count` datagrams both ways; packets a second. Part of the soak, not of the boot tests: QEMU 7.2 hashes in
/// software where it cannot load its eBPF program, and may then stop receiving under load.
pub(crate) fn device_spreads(image: Image, name: &str, count: u64) -> Result<f64> {
    let rig = LinuxRig::power_on(image, &plan(), |setup| {
        setup.nic_properties.push("rss=on".to_owned());
        setup.limit = Duration::from_secs(1200);
    })?;
    let mut rate = 0.0;
    rig.check(name, |rig| {
        rig.router.ready()?;
        rate = exchange_both_ways(rig, count)?;
        let table = table::read(&mut rig.router)?;
        ensure!(table.cpus.len() == CPUS, "{} rows of CPUs:\n{}", table.cpus.len(), table.text);
        let total: u64 = table.cpus.iter().map(|cpu| cpu.received).sum();
        for cpu in &table.cpus {
            ensure!(cpu.received > total / 32, "a CPU has hardly any of the flows:\n{}", table.text);
            ensure!(
                cpu.handed_over == 0,
                "every CPU has its own queues, and a packet was handed over:\n{}",
                table.text
            );
        }
        Ok(())
    })?;
    Ok(rate)
}

fn exchange_both_ways(rig: &LinuxRig, count: u64) -> Result<f64> {
    let began = Instant::now();
    let mut received = 0;
    for (from, to) in [(0, 1), (1, 0)] {
        let far = identity(to)?;
        for address in [far.v4.into(), far.v6.into()] {
            let tallies = flows::exchange(rig.host(from), rig.host(to), address, FLOWS, count)?;
            let late: u64 = tallies.iter().map(|tally| tally.late).sum();
            ensure!(late == 0, "order within a flow was not kept: {tallies:?}");
            let got: u64 = tallies.iter().map(|tally| tally.received).sum();
            // The hosts' own queues may overflow.
            let sent = u64::from(FLOWS) * count;
            ensure!(got * 10 >= sent * 9, "{got} of {sent} datagrams arrived: {tallies:?}");
            received += got;
        }
    }
    Ok(received as f64 / began.elapsed().as_secs_f64())
}

/// One queue a NIC and four CPUs: the receiving CPU spreads flows, the owner transmits.
fn software_spreads(cx: &Context) -> Result<()> {
    const COUNT: u16 = 100;
    let text = format!("steering = \"flows\"\n{}", Config::two_ports().toml());
    let rig = FrameRig::start(cx.image, Config::two_ports(), 2, |setup| {
        setup.cpus = CPUS;
        setup.module = Some(text.into_bytes());
    })?;
    rig.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let port = |flow: u16| 20_000 + 977 * flow;
        for number in 0..COUNT {
            for flow in 0..FLOWS {
                let (from, to) = (a.identity().v4, b.identity().v4);
                let segment = frame::udp((from.into(), port(flow)), (to.into(), 9), &number.to_be_bytes());
                a.send_v4(&Ipv4::new(from, to, UDP, segment))?;
            }
        }
        let all = usize::from(COUNT * FLOWS);
        let mut got: Vec<(u16, u16)> = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(10);
        while got.len() < all && Instant::now() < deadline {
            got.extend(b.take_all(|frame| {
                let packet = frame.v4().filter(|packet| packet.protocol == UDP)?;
                Some((frame::be16(&packet.payload, 0), frame::be16(&packet.payload, 8)))
            }));
            std::thread::sleep(Duration::from_millis(5));
        }
        ensure!(got.len() == all, "{} of {all} packets arrived", got.len());
        for flow in 0..FLOWS {
            let numbers: Vec<u16> =
                got.iter().filter(|(from, _)| *from == port(flow)).map(|got| got.1).collect();
            ensure!(numbers == (0..COUNT).collect::<Vec<_>>(), "flow {flow} changed its order: {numbers:?}");
        }
        let table = table::read(&mut rig.router)?;
        ensure!(table.cpus.len() == CPUS, "{} rows of CPUs:\n{}", table.cpus.len(), table.text);
        for cpu in &table.cpus {
            ensure!(cpu.received >= u64::from(COUNT), "a CPU has none of the flows:\n{}", table.text);
            ensure!(cpu.handed_over >= u64::from(COUNT), "a CPU handed nothing over:\n{}", table.text);
        }
        Ok(())
    })
}

/// Four queues on both NICs of which the second's device offers one: what other CPUs have for it goes through its owner.
fn one_owner(cx: &Context) -> Result<()> {
    let mut queues = plan();
    queues.queues_at = Some([CPUS, 1]);
    let rig = LinuxRig::power_on(cx.image, &queues, |_| ())?;
    rig.check(&cx.name, |rig| {
        rig.router.ready()?;
        exchange_both_ways(rig, 200)?;
        let table = table::read(&mut rig.router)?;
        let others: u64 = table.cpus.iter().skip(1).map(|cpu| cpu.handed_over).sum();
        ensure!(others > 0, "nothing was handed over:\n{}", table.text);
        ensure!(
            table.cpus.iter().skip(1).all(|cpu| cpu.received > 0),
            "a CPU received nothing:\n{}",
            table.text
        );
        Ok(())
    })
}

/// Flows on all CPUs to a host that nobody knows yet: it is asked for about once, and every CPU's packets arrive.
fn neighbours(cx: &Context) -> Result<()> {
    let text = format!("steering = \"flows\"\n{}", Config::two_ports().toml());
    let rig = FrameRig::start(cx.image, Config::two_ports(), 2, |setup| {
        setup.cpus = CPUS;
        setup.module = Some(text.into_bytes());
    })?;
    rig.check(&cx.name, |rig| {
        rig.router.ready()?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        a.arp(a.identity().gateway_v4, PATIENCE)?;
        let (from, to) = (a.identity().v4, b.identity().v4);
        // One has it asked for. The others come when it is known: three wait for a neighbour on each CPU, and more push them out.
        for flows in [0..1, 1..FLOWS] {
            for flow in flows.clone() {
                let segment = frame::udp((from.into(), 20_000 + 977 * flow), (to.into(), 9), &[7; 8]);
                a.send_v4(&Ipv4::new(from, to, UDP, segment))?;
            }
            for flow in flows {
                b.expect(&format!("the packet of flow {flow}"), PATIENCE, |frame| {
                    let packet = frame.v4().filter(|packet| packet.protocol == UDP)?;
                    (frame::be16(&packet.payload, 0) == 20_000 + 977 * flow).then_some(())
                })?;
            }
        }
        let asked = b.take_all(|frame| frame.arp().filter(|arp| arp.target == to).map(|_| ())).len();
        ensure!((1..=2).contains(&asked), "the neighbour was asked for {asked} times");
        Ok(())
    })
}

/// Two networks all the time; a third one, with its device, an address and a route, comes and goes.
pub(crate) fn replaced_while_pinging(rig: &mut FrameRig, rounds: usize) -> Result<()> {
    rig.router.ready()?;
    everything_works(rig)?;
    let two = Config::two_ports().toml();
    let mut three = Config::two_ports().with_route("198.51.100.0/24", "203.0.113.2");
    three.interfaces.insert(
        1,
        Interface {
            name: "dmz",
            port: 2,
            addresses: vec!["203.0.113.1/24".to_owned(), "2001:db8:3::1/64".to_owned()],
            mtu: None,
            router_advertisement: false,
        },
    );
    let three = three.toml();
    let FrameRig { router, hosts } = rig;
    let (a, b, c) = (&hosts[0], &hosts[1], &hosts[2]);
    let stop = AtomicBool::new(false);
    let dropped_before = table::read(router)?;
    std::thread::scope(|scope| {
        let pinging = scope.spawn(|| -> Result<u16> {
            let mut sequence = 100;
            while !stop.load(Ordering::Relaxed) {
                for to in [b.identity().v4.into(), b.identity().v6.into(), a.identity().gateway_v4.into()] {
                    sequence += 1;
                    a.send_echo(to, sequence, b"while it changes")?;
                    a.expect("an echo reply, to the only request", PATIENCE, |frame| {
                        let icmp = frame.icmp()?;
                        (matches!(icmp.kind, 0 | 129) && icmp.rest as u16 == sequence).then_some(())
                    })?;
                }
                // The host keeps a limited number of frames.
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(sequence - 100)
        });
        let changing = (0..rounds).try_for_each(|round| -> Result<()> {
            router.replace(&three).with_context(|| format!("round {round}"))?;
            c.ping(c.identity().gateway_v4.into(), round as u16, PATIENCE).context("the new interface")?;
            a.ping(c.identity().v4.into(), round as u16, PATIENCE).context("to the new network")?;
            router.replace(&two).with_context(|| format!("round {round}"))?;
            c.forget();
            ensure!(c.arp(c.identity().gateway_v4, SILENCE).is_err(), "the interface that is gone answered");
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        let pings = pinging.join().map_err(|_| anyhow::anyhow!("the pinging thread panicked"))?;
        changing?;
        let pings = pings?;
        ensure!(usize::from(pings) >= rounds, "only {pings} pings during {rounds} changes");
        Ok(())
    })?;
    let dropped = table::read(router)?;
    for reason in ["interface-down", "no-route", "tx-ring-full", "handoff-full", "neighbor-unreachable"] {
        ensure!(
            dropped.drops(reason) == dropped_before.drops(reason),
            "packets were dropped as {reason}:\n{}",
            dropped.text
        );
    }
    everything_works(rig)
}

fn wrong_on_the_console(cx: &Context) -> Result<()> {
    FrameRig::start(cx.image, Config::two_ports(), 2, |setup| setup.cpus = 2)?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        for (wrong, complaint) in [
            (Config::two_ports().toml().replace("10.0.1.1/24", "10.0.1.1/240"), "10.0.1.1/240"),
            (Config::two_ports().toml().replace("port = 1", "port = 7"), "no device has port 7"),
            (Config::two_ports().toml().replace("[interface.lan]", "[interface.lan"), "not valid TOML"),
        ] {
            let position = rig.router.machine.console.position();
            rig.router.paste(&wrong, "the configuration is as it was")?;
            let said: String = rig
                .router
                .machine
                .console
                .since(position)
                .iter()
                .map(|line| line.text.clone() + "\n")
                .collect();
            ensure!(said.contains(complaint), "no word of {complaint}:\n{said}");
            everything_works(rig)?;
        }
        Ok(())
    })
}

/// The path takes no lock and changes nothing that other CPUs change. Beside what the list in `locks` allows, a turn (not a
/// packet) has the interrupt stub's `lock bts`, the dispatcher's exchange of the pending word, the grace period's fence,
/// and for each CPU that was sent something a `lock or`.
fn without_locks() -> Result<()> {
    let image = crate::router::weir_elf()?.with_extension("debug");
    ensure!(image.is_file(), "there is no {}: make image", image.display());
    let report = crate::locks::check(&image)?;
    ensure!(report.functions > 50, "only {} functions were looked through", report.functions);
    ensure!(!report.allowed.is_empty(), "not even the fences were found");
    Ok(())
}

fn shallow() -> Result<()> {
    let image = crate::router::weir_elf()?.with_extension("debug");
    ensure!(image.is_file(), "there is no {}: make image", image.display());
    let (bytes, name) = crate::depth::check(&image)?;
    ensure!(bytes > 4096, "the most is {bytes} bytes in {name}: none was found");
    Ok(())
}

fn helps(cx: &Context) -> Result<()> {
    FrameRig::start(cx.image, Config::two_ports(), 2, |_| ())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        let answers = [
            (&b"help\r"[..], "replaces the configuration"),
            (b"hlep\n", "unknown word `hlep`; did you mean `help`?"),
            (b"show interfaces ?\x15", "an interface's name"),
            (b"sh\tstat\t| match hostname\n", "hostname"),
        ];
        for (typed, answer) in answers {
            let position = rig.router.machine.console.position();
            rig.router.machine.type_keys(typed)?;
            rig.router.machine.console.wait_after(position, answer, PATIENCE)?;
        }
        table::read(&mut rig.router).map(|_| ())
    })
}
