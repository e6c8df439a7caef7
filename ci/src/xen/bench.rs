//! `lab bench-xen`: Weir and a Linux router as guests of the same Xen, in turn and in one run. Both are up all the time;
//! the one that is not measured is paused.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::dom0::Dom0;
use super::flood::frame_bytes;
use super::guest::{Guest, Hosts, Plan, TOOLSTACK};
use super::traffic::{self, Bulk};
use crate::bench::median;
use crate::router::Image;

/// What to measure.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) images: Vec<Image>,
    pub(crate) rounds: usize,
    /// Of each measurement.
    pub(crate) seconds: f64,
    pub(crate) cpus: usize,
    /// Guest memory in MiB; each image's default if `None`.
    pub(crate) memory_mib: Option<usize>,
}

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// Shortest datagrams, packets a second.
    Flood(Family),
    /// Bulk transfer with all offloads, Mbit/s.
    Tcp(Family),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

const LOADS: [Load; 4] =
    [Load::Flood(Family::V4), Load::Flood(Family::V6), Load::Tcp(Family::V4), Load::Tcp(Family::V6)];

/// One measurement of one guest.
#[derive(Clone, Copy, Debug)]
struct Sample {
    rate: f64,
    lost: f64,
    /// CPU seconds that the domains spent for a thousand packets, or for a Mbit: the guest's and dom0's.
    guest: f64,
    dom0: f64,
}

/// Measures and prints the table.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let minutes = 10 + options.rounds as u64 * (1 + options.seconds as u64 / 4);
    let mut dom0 = Dom0::start(&options.images, Duration::from_secs(60 * minutes))?;
    let mut guests = Vec::new();
    println!(
        "Xen under TCG, {} vCPU, median of {} rounds of {} s",
        options.cpus, options.rounds, options.seconds
    );
    for image in &options.images {
        let hosts = Hosts::make(&mut dom0, image.name())?;
        let mut plan = Plan::new(*image, image.name());
        plan.cpus = options.cpus;
        plan.memory_mib = options.memory_mib.unwrap_or(plan.memory_mib);
        let guest = Guest::create(&mut dom0, &plan, &hosts)?;
        let (seconds, _) = guest.ready(&mut dom0)?;
        println!("{}: {} MiB, ready {seconds:.1} s after its start", image.name(), plan.memory_mib);
        for port in 0..2 {
            guest.connected(&mut dom0, port, TOOLSTACK)?;
        }
        for to in addresses(&guest)? {
            traffic::ping(&mut dom0, &guest.hosts, 0, to)?;
        }
        dom0.check(&format!("xl pause {}", guest.id), TOOLSTACK)?;
        guests.push(guest);
    }
    let heads: String = options.images.iter().map(|image| format!("{:>10}", image.name())).collect();
    println!("\n{:<44}{heads}  ratio", "");
    for load in LOADS {
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); guests.len()];
        for round in 0..options.rounds {
            for (column, guest) in guests.iter().enumerate() {
                let sample = measure(&mut dom0, guest, load, options.seconds)
                    .with_context(|| format!("{load:?} through {}, round {round}", guest.plan.name));
                match sample {
                    Ok(sample) => samples[column].push(sample),
                    Err(error) => {
                        println!("logs: {}", dom0.report("bench-xen")?);
                        return Err(error);
                    }
                }
            }
        }
        rows(load, &samples);
    }
    Ok(true)
}

fn addresses(guest: &Guest) -> Result<[IpAddr; 2]> {
    let far = guest.hosts.identity(1)?;
    Ok([far.v4.into(), far.v6.into()])
}

fn measure(dom0: &mut Dom0, guest: &Guest, load: Load, seconds: f64) -> Result<Sample> {
    dom0.check(&format!("xl unpause {}; sleep 0.5", guest.id), TOOLSTACK)?;
    let [v4, v6] = addresses(guest)?;
    let (Load::Flood(family) | Load::Tcp(family)) = load;
    let to = if family == Family::V4 { v4 } else { v6 };
    let before = spent(dom0, guest)?;
    let (rate, lost, amount) = match load {
        Load::Flood(_) => {
            let count = traffic::flood(dom0, &guest.hosts, to, seconds)?;
            let rate = count.received as f64 / count.seconds;
            // The CPU time is of the whole run, the first quarter too.
            (rate, count.lost(), rate * seconds * 1.25 / 1e3)
        }
        Load::Tcp(_) => {
            let whole = seconds.ceil().max(1.0);
            let done = traffic::transfer(dom0, &guest.hosts, (0, 1), to, Bulk::Tcp, whole as u64)?;
            (done.mbit, 0.0, done.mbit * whole)
        }
    };
    let after = spent(dom0, guest)?;
    dom0.check(&format!("xl pause {}", guest.id), TOOLSTACK)?;
    ensure!(amount > 0.0, "nothing was forwarded");
    Ok(Sample { rate, lost, guest: (after.0 - before.0) / amount, dom0: (after.1 - before.1) / amount })
}

/// CPU seconds that the guest and dom0 have had.
pub(crate) fn spent(dom0: &mut Dom0, guest: &Guest) -> Result<(f64, f64)> {
    let text = dom0.check("xl list", TOOLSTACK)?;
    let of = |id: u32| {
        let mut rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|words| words.get(1).and_then(|word| word.parse().ok()) == Some(id))?;
        row.last()?.parse::<f64>().ok()
    };
    of(guest.id).zip(of(0)).with_context(|| format!("no times in {text}"))
}

fn rows(load: Load, samples: &[Vec<Sample>]) {
    let (what, unit, share) = match load {
        Load::Flood(Family::V4) => ("UDP, IPv4", "packets/s", "ms CPU a packet"),
        Load::Flood(Family::V6) => ("UDP, IPv6", "packets/s", "ms CPU a packet"),
        Load::Tcp(Family::V4) => ("TCP, IPv4", "Mbit/s", "ms CPU a Mbit"),
        Load::Tcp(Family::V6) => ("TCP, IPv6", "Mbit/s", "ms CPU a Mbit"),
    };
    let what = match load {
        Load::Flood(family) => {
            let to: IpAddr = match family {
                Family::V4 => std::net::Ipv4Addr::LOCALHOST.into(),
                Family::V6 => std::net::Ipv6Addr::LOCALHOST.into(),
            };
            format!("{what}, {}-byte frames", frame_bytes(to) + 4)
        }
        Load::Tcp(_) => format!("{what}, offloads on"),
    };
    let medians = |scale: f64, of: fn(&Sample) -> f64| -> Vec<f64> {
        samples.iter().map(|list| scale * median(&mut list.iter().map(of).collect::<Vec<_>>())).collect()
    };
    // Seconds for a thousand packets are milliseconds a packet; seconds a Mbit are given in milliseconds.
    let scale = if matches!(load, Load::Flood(_)) { 1.0 } else { 1e3 };
    row(&format!("{what}, {unit}"), &medians(1.0, |sample| sample.rate), 0);
    row(&format!("  guest, {share}"), &medians(scale, |sample| sample.guest), 3);
    row(&format!("  dom0, {share}"), &medians(scale, |sample| sample.dom0), 3);
    if matches!(load, Load::Flood(_)) {
        row("  lost, %", &medians(100.0, |sample| sample.lost), 1);
    }
}

fn row(what: &str, values: &[f64], digits: usize) {
    let columns: String = values.iter().map(|value| format!("{value:>10.digits$}")).collect();
    let ratio = match values {
        [own, peer] if *peer > 0.0 => format!("{:>6.2}x", own / peer),
        _ => String::new(),
    };
    println!("{what:<44}{columns} {ratio}");
}
