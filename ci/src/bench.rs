//! The benchmark against the Linux router VM: the same QEMU, sockets and generator, the two taking turns in one run.
//! Packets a second, time to the first forwarded packet, and guest instructions a packet.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::frame::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6, UDP};
use crate::host::{Host, Switch};
use crate::instructions::{self, Count, Still};
use crate::line::Burst;
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
    /// Properties of every NIC while packets a second are measured.
    pub(crate) nic: Vec<String>,
    /// Only what is exact and quick: guest instructions.
    pub(crate) instructions_only: bool,
    /// What becomes of the router's own instruction counts.
    pub(crate) purpose: Purpose,
}

/// A kind of traffic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    /// Name of its recorded figure.
    pub(crate) key: &'static str,
    family: Family,
    /// Whole Ethernet frame without its checksum.
    bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

pub(crate) const LOADS: [Load; 3] = [
    Load { name: "IPv4, 64-byte frames", key: "packet-ipv4", family: Family::V4, bytes: 60 },
    Load { name: "IPv6, 78-byte frames", key: "packet-ipv6", family: Family::V6, bytes: 74 },
    Load { name: "IPv4, 1514-byte frames", key: "packet-ipv4-full", family: Family::V4, bytes: 1514 },
];

/// Flows of the generator: different ports and hosts, as a router sees them.
const FLOWS: usize = 64;

impl Load {
    /// One frame a flow.
    pub(crate) fn frames(self, from: &Host, to: &Host) -> Vec<Vec<u8>> {
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
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    /// Packets a second at the far side.
    pub(crate) forwarded: f64,
    /// Share of the packets sent that did not arrive.
    pub(crate) lost: f64,
    /// CPU time of QEMU's main loop, which plays the devices, and of its vCPUs, microseconds a packet.
    devices: f64,
    guest: f64,
    /// How much of the time the main loop ran, and the vCPUs did: parts of 1.
    devices_busy: f64,
    guest_busy: f64,
    /// Interrupts and notifications a packet, on both devices together, as the router counts them.
    interrupts: f64,
    notifications: f64,
}

/// Packets that may be under way: more than a receive ring holds, and fewer than make a router drop some.
const WINDOW: u64 = 512;
/// When none comes out for so long, what is under way is lost.
const PATIENCE: Duration = Duration::from_millis(500);

/// Drives the router from port 0 to port 1 as fast as frames come out.
fn drive(rig: &mut FrameRig, load: Load, window: Duration) -> Result<Rate> {
    let burst = Burst::new(load.frames(&rig.hosts[0], &rig.hosts[1]));
    rig.hosts.iter().for_each(|host| host.keep(Switch::Off));
    let threads = rig.router.machine.threads()?;
    let (table, through) = (crate::table::read(&mut rig.router)?, rig.hosts[1].received());
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut rate = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let started = rig.hosts[1].received() as u64;
            // Packets that are on their way, and when one came out last.
            let (mut lost, mut moved) = (0, (0, Instant::now()));
            while !stop.load(Ordering::Relaxed) {
                let out = rig.hosts[1].received() as u64 - started;
                let gone = sent.load(Ordering::Relaxed);
                if out != moved.0 {
                    moved = (out, Instant::now());
                } else if moved.1.elapsed() > PATIENCE {
                    lost = gone.saturating_sub(out);
                }
                lost = lost.min(gone.saturating_sub(out));
                if gone.saturating_sub(out + lost) > WINDOW {
                    thread::sleep(Duration::from_micros(20));
                    continue;
                }
                rig.hosts[0].send_burst(&burst)?;
                sent.fetch_add(burst.len() as u64, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
        // The first part fills caches and translations.
        thread::sleep(window / 4);
        let (began, before, cpu) = (Instant::now(), rig.hosts[1].received(), threads.cpu_time()?);
        let sent_before = sent.load(Ordering::Relaxed);
        thread::sleep(window);
        let seconds = began.elapsed().as_secs_f64();
        let received = (rig.hosts[1].received() - before) as f64;
        let used = threads.cpu_time()?;
        let sent = (sent.load(Ordering::Relaxed) - sent_before) as f64;
        stop.store(true, Ordering::Relaxed);
        sender.join().ok().context("the generator")??;
        ensure!(received > 0.0, "nothing is forwarded");
        let devices = (used.devices - cpu.devices).as_secs_f64();
        let guest = (used.guest - cpu.guest).as_secs_f64();
        anyhow::Ok(Rate {
            forwarded: received / seconds,
            lost: (1.0 - received / sent).max(0.0),
            devices: devices * 1e6 / received,
            guest: guest * 1e6 / received,
            devices_busy: devices / seconds,
            guest_busy: guest / seconds,
            ..Rate::default()
        })
    })?;
    // The queues run dry, and the counters are told.
    thread::sleep(Duration::from_millis(200));
    let (after, before) = (crate::table::read(&mut rig.router)?.signals(), table.signals());
    let packets = (rig.hosts[1].received() - through) as f64;
    rate.interrupts = after.0.saturating_sub(before.0) as f64 / packets;
    rate.notifications = after.1.saturating_sub(before.1) as f64 / packets;
    rig.hosts.iter().for_each(|host| host.keep(Switch::On));
    Ok(rate)
}

/// On wires that carry many frames a system call, so that as much as possible of the time is the router's.
fn start_streams(image: Image, cpus: usize, nic: &[String]) -> Result<FrameRig> {
    FrameRig::start_streams(image, Config::two_ports(), 2, |setup| {
        setup.cpus = cpus;
        setup.nic_properties = nic.to_vec();
        setup.limit = Duration::from_secs(900);
    })
}

fn start(image: Image, cpus: usize, clock: Clock) -> Result<FrameRig> {
    FrameRig::start(image, Config::two_ports(), 2, |setup| {
        setup.cpus = cpus;
        setup.clock = clock;
        setup.limit = Duration::from_secs(900);
    })
}

pub(crate) fn warm(rig: &FrameRig) -> Result<()> {
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
    /// It only tells where the time goes.
    Neither,
}

/// Runs everything and prints the table. Whether no figure is worse than its record.
pub(crate) fn bench(options: &Options) -> Result<bool> {
    let heads: String = options.images.iter().map(|image| format!("{:>12}", image.name())).collect();
    let compare = if options.images.len() == 2 { "   better by" } else { "" };
    let (cpus, rounds) = (options.cpus, options.rounds);
    if !options.instructions_only {
        let cpus = if cpus == 1 { "1 vCPU".to_owned() } else { format!("{cpus} vCPUs") };
        println!("{:<50}{heads}{compare}", format!("TCG, {cpus}, median of {rounds}"));
        first_packet(options)?;
        rates(options)?;
    }
    println!("{:<50}{heads}{compare}", "TCG with -icount, 1 vCPU");
    let figures = instructions(options)?;
    let file = recorded::file()?;
    match options.purpose {
        Purpose::Show => Ok(true),
        Purpose::Record => {
            figures.write(&file)?;
            println!("recorded in {}", file.display());
            Ok(true)
        }
        Purpose::Check => Ok(figures.check(&Figures::read(&file)?)),
    }
}

/// Power-on to the first packet out of the far side, while the near host keeps sending.
fn first_packet(options: &Options) -> Result<()> {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); options.images.len()];
    for _ in 0..options.rounds {
        for (column, image) in options.images.iter().enumerate() {
            let rig = start(*image, options.cpus, Clock::Real)?;
            let took =
                first_packet_once(&rig).with_context(|| format!("first packet through {}", image.name()))?;
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
    let begin = |image: &Image| start_streams(*image, options.cpus, &options.nic);
    let mut rigs: Vec<FrameRig> = options.images.iter().map(begin).collect::<Result<_>>()?;
    rigs.iter().try_for_each(warm)?;
    for load in LOADS {
        let mut rates: Vec<Vec<Rate>> = vec![Vec::new(); rigs.len()];
        for _ in 0..options.rounds {
            for ((rig, image), list) in rigs.iter_mut().zip(&options.images).zip(&mut rates) {
                list.push(
                    drive(rig, load, options.window)
                        .with_context(|| format!("{} through {}", load.name, image.name()))?,
                );
            }
        }
        let medians = |figure: fn(&Rate) -> f64| -> Vec<f64> {
            rates.iter().map(|list| median(&mut list.iter().map(figure).collect::<Vec<f64>>())).collect()
        };
        row(&format!("forwarding, {}", load.name), "kpps", &medians(|r| r.forwarded / 1e3), Better::More);
        row("  vCPU a packet", "us of CPU time", &medians(|r| r.guest), Better::Less);
        row("  QEMU's devices a packet", "us of CPU time", &medians(|r| r.devices), Better::Less);
        row("  what these allow at most", "kpps", &medians(|r| 1e3 / r.devices), Better::Neither);
        row("  vCPU busy", "% of the time", &medians(|r| r.guest_busy * 1e2), Better::Neither);
        row("  QEMU's devices busy", "% of the time", &medians(|r| r.devices_busy * 1e2), Better::Neither);
        // Linux's own counters do not tell them apart.
        let mut counted = medians(|r| r.interrupts).into_iter().zip(&options.images);
        if let Some((interrupts, _)) = counted.find(|(_, image)| **image == Image::Weir) {
            row("  interrupts, 1000 packets", "", &[interrupts * 1e3], Better::Neither);
            row(
                "  notifications, 1000 packets",
                "",
                &[medians(|r| r.notifications)[0] * 1e3],
                Better::Neither,
            );
        }
        let lost = rates.iter().flatten().map(|rate| rate.lost).fold(0.0, f64::max);
        if lost > 0.01 {
            println!("{:<50}up to {:.1} % lost in a round", "", lost * 100.0);
        }
    }
    Ok(())
}

/// Guest instructions, counted by QEMU: the same in every run, whatever else the machine does.
fn instructions(options: &Options) -> Result<Figures> {
    let mut figures = Figures::default();
    let mut boot = Vec::new();
    for image in &options.images {
        let mut rig = start(*image, 1, Clock::Instructions)?;
        let line = rig.router.ready().with_context(|| format!("{} under -icount", image.name()))?;
        // With a nanosecond an instruction the router's own clock counts them, too.
        let ticks = line.text.split_once('(').and_then(|(_, rest)| rest.split_once(" ticks"));
        if let Some(ticks) = ticks.and_then(|(ticks, _)| ticks.parse::<f64>().ok()) {
            figures.0.insert("ready".to_owned(), ticks);
        }
        boot.push(rig.router.machine.instructions()? as f64 / 1e6);
    }
    row("power-on to ready, firmware included", "M guest instructions", &boot, Better::Less);
    if let Some(ticks) = figures.0.get("ready") {
        row("  of these the router's own", "M guest instructions", &[ticks / 1e6], Better::Neither);
    }
    let mut still =
        options.images.iter().map(|image| Still::start(*image)).collect::<Result<Vec<Still>>>()?;
    for load in [LOADS[0], LOADS[1]] {
        for size in instructions::BURSTS {
            let (mut list, mut own) = (Vec::new(), None);
            for (still, image) in still.iter_mut().zip(&options.images) {
                let count = still
                    .count(load, size)
                    .with_context(|| format!("{} in bursts of {size} through {}", load.name, image.name()))?;
                list.push(count.packet);
                if *image == Image::Weir {
                    figures.0.insert(format!("{}-burst-{size}", load.key), count.packet);
                    own = Some(count);
                }
            }
            row(
                &format!("a packet, {}, {size} at once", load.name),
                "guest instructions",
                &list,
                Better::Less,
            );
            if let Some(Count { an_interrupt, a_notification, .. }) = own {
                row("  packets an interrupt", "", &[an_interrupt], Better::Neither);
                row("  packets a notification", "", &[a_notification], Better::Neither);
            }
        }
    }
    Ok(figures)
}

/// `lab flood`: one image, one kind of traffic.
pub(crate) fn flood(image: Image, cpus: usize, seconds: u64, bytes: usize) -> Result<()> {
    ensure!((42..=1514).contains(&bytes), "--bytes is 42 to 1514");
    let rig = start_streams(image, cpus, &[])?;
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
