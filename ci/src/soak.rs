//! One router with four CPUs for as long as one likes: many flows in both families and directions while its
//! configuration is replaced over and over. No datagram lost or overtaken, nothing leaked, nobody stalled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::flows;
use crate::rig::{LinuxPlan, LinuxRig, identity};
use crate::router::{Config, Image, Router};
use crate::table::{self, Memory, Table};

const CPUS: usize = 4;
const FLOWS: u16 = 16;
/// Between two changes of the configuration.
const CHANGE_EVERY: Duration = Duration::from_millis(500);
/// Packet buffers that may lie in rings at one look and not at another.
const RINGS: u64 = 512;
/// Rounds until caches, rings and neighbour tables have their size; memory is compared with what it was then.
const WARM_UP: u64 = 2;

/// Soaks for `minutes`; each round sends four times `packets` in each of the flows.
pub(crate) fn soak(minutes: u64, packets: u64) -> Result<()> {
    // The TAP's own flow hash chooses the NIC's queue, as a host's would.
    let plan = LinuxPlan { queues: CPUS, cpus: CPUS, ..LinuxPlan::new() };
    let duration = Duration::from_secs(60 * minutes);
    let rig = LinuxRig::power_on(Image::Weir, &plan, |setup| {
        setup.limit = duration + Duration::from_secs(1800);
    })?;
    rig.check("soak", |rig| {
        rig.router.ready()?;
        // Until a neighbour answers, only a few packets wait for it.
        for address in [identity(1)?.v4.to_string(), identity(1)?.v6.to_string()] {
            rig.host(0).check("ping", &["-c", "2", "-i", "0.2", &address], Duration::from_secs(10))?;
        }
        let began = Instant::now();
        let (mut rounds, mut total, mut changes) = (0, 0, 0);
        let mut memory = None;
        while rounds <= WARM_UP || began.elapsed() < duration {
            rounds += 1;
            let round = Instant::now();
            let (sent, changed) = exchange_and_change(rig, packets)?;
            (total, changes) = (total + sent, changes + changed);
            let table = table::read(&mut rig.router)?;
            every_cpu_works(&table)?;
            if rounds == WARM_UP {
                memory = table.memory;
            } else if let (Some(before), Some(now)) = (memory, table.memory) {
                as_before(before, now, &table)?;
            }
            let shares: Vec<String> = table.cpus.iter().map(|cpu| cpu.received.to_string()).collect();
            let Memory { kib, buffers } = table.memory.context("no memory line in the table")?;
            println!(
                "{:>5.1} min: {total} datagrams in order, none lost; {changes} configurations; {:.0} a second; received by CPU {}; \
                 {kib} KiB and {buffers} buffers in use",
                began.elapsed().as_secs_f64() / 60.0,
                sent as f64 / round.elapsed().as_secs_f64(),
                shares.join(" "),
            );
        }
        Ok(())
    })
}

/// All flows, four times, while the configuration changes. Datagrams sent, and changes.
fn exchange_and_change(rig: &mut LinuxRig, packets: u64) -> Result<(u64, u64)> {
    let LinuxRig { router, network } = rig;
    let hosts = &network.hosts;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| replace_until(router, &stop));
        let mut outcome: Result<u64> = Ok(0);
        'all: for (from, to) in [(0, 1), (1, 0)] {
            let Ok(far) = identity(to) else { continue };
            for address in [far.v4.into(), far.v6.into()] {
                let tallies = flows::exchange(&hosts[from], &hosts[to], address, FLOWS, packets);
                outcome = outcome.and_then(|sum| Ok(sum + all_in_order(&tallies?, packets)?));
                if outcome.is_err() {
                    break 'all;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        let changes = changing.join().map_err(|_| anyhow::anyhow!("the changing thread panicked"))?;
        Ok((outcome?, changes?))
    })
}

fn all_in_order(tallies: &[flows::Tally], packets: u64) -> Result<u64> {
    for (flow, tally) in tallies.iter().enumerate() {
        ensure!(tally.late == 0, "order within flow {flow} was not kept: {tally:?}");
        ensure!(tally.received == packets, "flow {flow} lost datagrams: {tally:?} of {packets}");
    }
    ensure!(tallies.len() == usize::from(FLOWS), "{} flows of {FLOWS} reported", tallies.len());
    Ok(packets * u64::from(FLOWS))
}

/// Two networks all the time, and a route and a third address that come and go.
fn replace_until(router: &mut Router, stop: &AtomicBool) -> Result<u64> {
    let plain = Config::two_ports();
    let mut more = Config::two_ports().with_route("198.51.100.0/24", "10.0.1.2");
    if let Some(lan) = more.interfaces.last_mut() {
        lan.addresses.push("203.0.113.1/24".to_owned());
    }
    let texts = [more.toml(), plain.toml()];
    let mut changes = 0;
    // An even number, so that a round ends as it began.
    while changes % 2 == 1 || !stop.load(Ordering::Relaxed) {
        router.replace(&texts[changes as usize % 2]).with_context(|| format!("change {changes}"))?;
        changes += 1;
        std::thread::sleep(CHANGE_EVERY);
    }
    Ok(changes)
}

fn every_cpu_works(table: &Table) -> Result<()> {
    ensure!(table.cpus.len() == CPUS, "{} rows of CPUs:\n{}", table.cpus.len(), table.text);
    let total: u64 = table.cpus.iter().map(|cpu| cpu.received).sum();
    for cpu in &table.cpus {
        ensure!(cpu.received > total / 64, "a CPU has hardly any of the flows:\n{}", table.text);
    }
    Ok(())
}

fn as_before(before: Memory, now: Memory, table: &Table) -> Result<()> {
    ensure!(now.kib <= before.kib + 64, "{} KiB in use, {} before:\n{}", now.kib, before.kib, table.text);
    ensure!(
        now.buffers <= before.buffers + RINGS,
        "{} buffers in use, {} before:\n{}",
        now.buffers,
        before.buffers,
        table.text
    );
    Ok(())
}
