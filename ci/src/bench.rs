//! The benchmark against the Linux router VM: the same QEMU, sockets and generator, the two taking turns in one run.
//! Packets a second, time to the first forwarded packet, and guest instructions a packet.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::frame::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6, UDP};
use crate::host::{Host, Switch};
use crate::qemu::Clock;
use crate::recorded::{self, Figures, Purpose};
use crate::rig::FrameRig;
use crate::router::{Config, Image};

/// What to measure.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) images: Vec<Image>,
    pub(crate) rounds: usize,
    /// Length of one measurement.
    pub(crate) window: Duration,
    pub(crate) cpus: usize,
    /// Only what is exact and quick: guest instructions.
    pub(crate) instructions_only: bool,
    /// What becomes of the router's own instruction counts.
    pub(crate) purpose: Purpose,
}

/// A kind of traffic.
#[derive(Clone, Copy, Debug)]
struct Load {
    name: &'static str,
    /// Name of its recorded figure.
    key: &'static str,
    family: Family,
    /// Whole Ethernet frame without its checksum.
    bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

const LOADS: [Load; 3] = [
    Load { name: "IPv4, 64-byte frames", key: "packet-ipv4", family: Family::V4, bytes: 60 },
    Load { name: "IPv6, 78-byte frames", key: "packet-ipv6", family: Family::V6, bytes: 74 },
    Load { name: "IPv4, 1514-byte frames", key: "packet-ipv4-full", family: Family::V4, bytes: 1514 },
];

/// Flows of the generator: different ports and hosts, as a router sees them.
const FLOWS: usize = 64;

impl Load {
    /// One frame a flow.
    fn frames(self, from: &Host, to: &Host) -> Vec<Vec<u8>> {
        let (own, far) = (*from.identity(), *to.identity());
        let frame = |flow: usize| {
            let ports = (5000 + flow as u16, 9u16);
            match self.family {
                Family::V4 => {
                    let payload = vec![0; self.bytes - 14 - 28];
                    let (s, d): (IpAddr, IpAddr) = (own.v4.into(), far.v4.into());
                    let datagram = frame::udp((s, ports.0), (d, ports.1), &payload);
                    let packet = Ipv4::new(own.v4, far.v4, UDP, datagram);
                    frame::ethernet(own.gateway_mac, own.mac, ETHERTYPE_IPV4, &packet.bytes())
                }
                Family::V6 => {
                    let payload = vec![0; self.bytes - 14 - 48];
                    let (s, d): (IpAddr, IpAddr) = (own.v6.into(), far.v6.into());
                    let datagram = frame::udp((s, ports.0), (d, ports.1), &payload);
                    let packet = Ipv6::new(own.v6, far.v6, UDP, datagram);
                    frame::ethernet(own.gateway_mac, own.mac, ETHERTYPE_IPV6, &packet.bytes())
                }
            }
        };
        (0..FLOWS).map(frame).collect()
    }
}

/// What one measurement saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Packets a second at the far side.
    pub(crate) forwarded: f64,
    /// Share of the packets sent that did not arrive.
    pub(crate) lost: f64,
}

/// Drives the router from port 0 to port 1 as fast as it takes frames.
fn drive(rig: &FrameRig, load: Load, window: Duration) -> Result<Rate> {
    let frames = load.frames(&rig.hosts[0], &rig.hosts[1]);
    rig.hosts.iter().for_each(|host| host.keep(Switch::Off));
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let outcome = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for bytes in &frames {
                    rig.hosts[0].send(bytes)?;
                }
                sent.fetch_add(FLOWS as u64, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
        // The first part fills caches and translations.
        thread::sleep(window / 4);
        let (began, before) = (Instant::now(), rig.hosts[1].received());
        let sent_before = sent.load(Ordering::Relaxed);
        thread::sleep(window);
        let seconds = began.elapsed().as_secs_f64();
        let received = (rig.hosts[1].received() - before) as f64;
        let sent = (sent.load(Ordering::Relaxed) - sent_before) as f64;
        stop.store(true, Ordering::Relaxed);
        sender.join().ok().context("the generator")??;
        ensure!(received > 0.0, "nothing is forwarded");
        anyhow::Ok(Rate { forwarded: received / seconds, lost: (1.0 - received / sent).max(0.0) })
    });
    // Let the queues run dry before the next measurement.
    thread::sleep(Duration::from_millis(200));
    rig.hosts.iter().for_each(|host| host.keep(Switch::On));
    outcome
}

fn start(image: Image, cpus: usize, clock: Clock) -> Result<FrameRig> {
    FrameRig::start(image, Config::two_ports(), 2, |setup| {
        setup.cpus = cpus;
        setup.clock = clock;
        setup.limit = Duration::from_secs(900);
    })
}

fn warm(rig: &FrameRig) -> Result<()> {
    rig.router.ready()?;
    let far = *rig.hosts[1].identity();
    for to in [far.v4.into(), far.v6.into()] {
        rig.hosts[0].ping(to, 1, Duration::from_secs(5))?;
    }
    Ok(())
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

pub(crate) fn name(image: Image) -> &'static str {
    match image {
        Image::Weir => "weir",
        Image::Linux => "linux",
    }
}

/// Prints a row: a column an image, then how the first compares with the second.
fn row(what: &str, unit: &str, values: &[f64], better: Better) {
    let columns: String = values.iter().map(|value| format!("{value:>12.1}")).collect();
    let ratio = match (values, better) {
        ([own, peer], Better::More) if *peer > 0.0 => format!("{:>9.2}x", own / peer),
        ([own, peer], Better::Less) if *own > 0.0 => format!("{:>9.2}x", peer / own),
        _ => String::new(),
    };
    println!("{what:<50}{columns}{ratio}   {unit}");
}

#[derive(Clone, Copy)]
enum Better {
    More,
    Less,
}

/// Runs everything and prints the table. Whether no figure is worse than its record.
pub(crate) fn bench(options: &Options) -> Result<bool> {
    let heads: String = options.images.iter().map(|image| format!("{:>12}", name(*image))).collect();
    let compare = if options.images.len() == 2 { "   better by" } else { "" };
    println!("{:<50}{heads}{compare}", format!("TCG, {} vCPU, median of {}", options.cpus, options.rounds));
    if !options.instructions_only {
        first_packet(options)?;
        rates(options)?;
    }
    let figures = instructions(options)?;
    let file = recorded::file()?;
    let worse = match options.purpose {
        Purpose::Show => Vec::new(),
        Purpose::Record => {
            figures.write(&file)?;
            println!("recorded in {}", file.display());
            Vec::new()
        }
        Purpose::Check => Figures::read(&file)?.worse(&figures),
    };
    worse.iter().for_each(|line| println!("FAIL  {line}"));
    Ok(worse.is_empty())
}

/// Power-on to the first packet out of the far side, while the near host keeps sending.
fn first_packet(options: &Options) -> Result<()> {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); options.images.len()];
    for _ in 0..options.rounds {
        for (column, image) in options.images.iter().enumerate() {
            let rig = start(*image, options.cpus, Clock::Real)?;
            let took =
                first_packet_once(&rig).with_context(|| format!("first packet through {}", name(*image)))?;
            times[column].push(took.as_secs_f64() * 1e3);
        }
    }
    let medians: Vec<f64> = times.iter_mut().map(|list| median(list)).collect();
    row("power-on to first forwarded packet", "ms", &medians, Better::Less);
    Ok(())
}

fn first_packet_once(rig: &FrameRig) -> Result<Duration> {
    let load = LOADS[0];
    let bytes = load.frames(&rig.hosts[0], &rig.hosts[1]).swap_remove(0);
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        // Nobody takes frames before the driver is up.
        let _ = rig.hosts[0].offer(&bytes);
        let arrived = rig.hosts[1].expect("the first packet", Duration::from_millis(1), |frame| {
            frame.v4().filter(|p| p.protocol == UDP).map(|_| Instant::now())
        });
        if let Ok(at) = arrived {
            return Ok(at - rig.router.machine.started);
        }
    }
    bail!("nothing is forwarded for a minute; the console ends:\n{}", rig.router.machine.console.text())
}

/// Packets a second; both machines are up, one is driven at a time, in turn.
fn rates(options: &Options) -> Result<()> {
    let rigs: Vec<FrameRig> =
        options.images.iter().map(|image| start(*image, options.cpus, Clock::Real)).collect::<Result<_>>()?;
    rigs.iter().try_for_each(warm)?;
    for load in LOADS {
        let mut forwarded: Vec<Vec<f64>> = vec![Vec::new(); rigs.len()];
        let mut lost: f64 = 0.0;
        for _ in 0..options.rounds {
            for (column, rig) in rigs.iter().enumerate() {
                let rate = drive(rig, load, options.window)
                    .with_context(|| format!("{} through {}", load.name, name(options.images[column])))?;
                forwarded[column].push(rate.forwarded / 1e3);
                lost = lost.max(rate.lost);
            }
        }
        let medians: Vec<f64> = forwarded.iter_mut().map(|list| median(list)).collect();
        row(&format!("forwarding, {}", load.name), "kpps", &medians, Better::More);
        if lost > 0.01 {
            println!("{:<50}up to {:.1} % lost in a round", "", lost * 100.0);
        }
    }
    Ok(())
}

/// Guest instructions, counted by QEMU: exact, whatever else the machine does.
fn instructions(options: &Options) -> Result<Figures> {
    let mut figures = Figures::default();
    let mut boot = Vec::new();
    let mut packet: Vec<Vec<f64>> = vec![Vec::new(); PACES.len()];
    for image in &options.images {
        let mut rig = start(*image, 1, Clock::Instructions)?;
        let line = rig.router.ready().with_context(|| format!("{} under -icount", name(*image)))?;
        // With a nanosecond an instruction the router's own clock counts them, too.
        let ticks = line.text.split_once('(').and_then(|(_, rest)| rest.split_once(" ticks"));
        if let Some(ticks) = ticks.and_then(|(ticks, _)| ticks.parse::<f64>().ok()) {
            figures.0.insert("ready".to_owned(), ticks);
            row(
                &format!("entry to ready, {}'s own count", name(*image)),
                "M guest instructions",
                &[ticks / 1e6],
                Better::Less,
            );
        }
        boot.push(rig.router.machine.instructions()? as f64 / 1e6);
        drop(rig);
        let mut rig = start(*image, 1, Clock::InstructionsAndWaits)?;
        warm(&rig)?;
        for (list, (load, pace)) in packet.iter_mut().zip(PACES) {
            let count = instructions_a_packet(&mut rig, load, pace)?;
            if *image == Image::Weir && pace == Pace::Single {
                figures.0.insert(load.key.to_owned(), count);
            }
            list.push(count);
        }
    }
    row("power-on to ready, firmware included", "M guest instructions", &boot, Better::Less);
    for (list, (load, pace)) in packet.iter().zip(PACES) {
        let how = if pace == Pace::Single { ", one at a time" } else { "" };
        row(&format!("a packet, {}{how}", load.name), "guest instructions", list, Better::Less);
    }
    Ok(figures)
}

/// How packets follow each other. One at a time (the next is sent when the last came out) the count is the same in
/// every run; at full pace it depends on how many the router finds at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Single,
    Full,
}

const PACES: [(Load, Pace); 4] =
    [(LOADS[0], Pace::Single), (LOADS[1], Pace::Single), (LOADS[0], Pace::Full), (LOADS[1], Pace::Full)];

/// N and 2 N packets cost I and J instructions: what is the same in both (interrupts of the clock, the idle loop's way
/// in and out) falls out of (J - I) / N.
fn instructions_a_packet(rig: &mut FrameRig, load: Load, pace: Pace) -> Result<f64> {
    let batch = if pace == Pace::Single { 1_000 } else { 20_000 };
    let frames = load.frames(&rig.hosts[0], &rig.hosts[1]);
    rig.hosts.iter().for_each(|host| host.keep(Switch::Off));
    let mut run = |count: usize| -> Result<f64> {
        thread::sleep(Duration::from_millis(300));
        let (before, received) = (rig.router.machine.instructions()?, rig.hosts[1].received());
        for number in 0..count {
            rig.hosts[0].send(&frames[number % frames.len()])?;
            let deadline = Instant::now() + Duration::from_secs(1);
            while pace == Pace::Single
                && rig.hosts[1].received() - received <= number
                && Instant::now() < deadline
            {
                thread::sleep(Duration::from_micros(50));
            }
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while rig.hosts[1].received() - received < count && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        let arrived = rig.hosts[1].received() - received;
        // At full pace a busy machine lets the far host's socket fill, and the router rightly drops.
        let enough = if pace == Pace::Single { 0.995 } else { 0.8 };
        if (arrived as f64) < count as f64 * enough {
            let table =
                crate::table::read(&mut rig.router).map_or_else(|e| format!("{e:#}"), |table| table.text);
            bail!("{arrived} of {count} packets arrived under -icount\n{table}");
        }
        Ok((rig.router.machine.instructions()? - before) as f64)
    };
    run(batch / 10)?;
    let mut counts = Vec::new();
    // Three times: now and then the router prints its table meanwhile.
    for _ in 0..3 {
        let (single, double) = (run(batch)?, run(2 * batch)?);
        counts.push((double - single) / batch as f64);
    }
    rig.hosts.iter().for_each(|host| host.keep(Switch::On));
    Ok(median(&mut counts))
}

/// `lab flood`: one image, one kind of traffic.
pub(crate) fn flood(image: Image, cpus: usize, seconds: u64, bytes: usize) -> Result<()> {
    ensure!((42..=1514).contains(&bytes), "--bytes is 42 to 1514");
    let rig = start(image, cpus, Clock::Real)?;
    rig.check("flood", |rig| {
        warm(rig)?;
        for (name, family) in [("IPv4", Family::V4), ("IPv6", Family::V6)] {
            let load = Load {
                name,
                key: "flood",
                family,
                bytes: bytes.max(if family == Family::V6 { 62 } else { 42 }),
            };
            let rate = drive(rig, load, Duration::from_secs(seconds))?;
            println!(
                "{name}, {} bytes: {:.1} kpps forwarded, {:.2} % lost",
                load.bytes,
                rate.forwarded / 1e3,
                rate.lost * 100.0
            );
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut []), 0.0);
    }
}
