//! What a second CPU brings, and what it costs to hand it a packet: `cargo bench -p weir-app --bench cpus`.
//!
//! CPUs are threads and devices are memory; everything between them is the router's own. Wants two idle cores.

mod devices;

use devices::{Ends, Kind, SOURCE};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant as Clock};
use weir_app::attach::Bay;
use weir_app::config::Config;
use weir_app::forwarder::Forwarder;
use weir_app::interfaces::Interfaces;
use weir_app::mesh::mesh;
use weir_app::shared::Shared;
use weir_machine::interrupt::MESSAGE;
use weir_netif::{Arena, BATCH, BUFFER, Totals};
use weir_netstack::stack::{Duty, Settings};
use weir_netstack::{Instant, Stack};
use weir_sync::cpu::{claim, claim_any};
use weir_sync::{CpuId, Softint};

const FOR: Duration = Duration::from_millis(500);
const ROUNDS: usize = 5;

fn cpu(number: usize) -> CpuId {
    CpuId::new(number).expect("a small number")
}

fn main() {
    let gigahertz = gigahertz();
    println!("packets of 60 bytes; a cycle is one of {gigahertz:.2} GHz\n");
    scaling();
    steering();
    handing_over(gigahertz);
}

fn scaling() {
    println!("a queue for each CPU");
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let (one, two) = (forward(1, 1, "off"), forward(2, 2, "off"));
            println!("  1 CPU {one:.2} Mpps, 2 CPUs {two:.2} Mpps: {:.2} times", two / one);
            two / one
        })
        .collect();
    println!("  median {:.2} times\n", median(&mut ratios));
}

fn steering() {
    println!("one queue, two CPUs");
    let pairs: Vec<(f64, f64)> =
        (0..ROUNDS).map(|_| (forward(2, 1, "off"), forward(2, 1, "flows"))).collect();
    let (mut off, mut flows): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
    println!(
        "  median: steering off {:.2} Mpps, steering by flows {:.2} Mpps\n",
        median(&mut off),
        median(&mut flows)
    );
}

/// Each figure's rounds alternate, so that what disturbs one disturbs the other.
fn handing_over(gigahertz: f64) {
    println!("handing a packet to the CPU that transmits it, cycles a packet over both CPUs");
    println!("  {:<6} {:>10} {:>10} {:>10}", "batch", "stays", "handed", "costs");
    for batch in [1, 8, BATCH] {
        let (mut stays, mut handed) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            stays.push(path(2, batch) * gigahertz);
            handed.push(path(1, batch) * gigahertz);
        }
        let (stays, handed) = (median(&mut stays), median(&mut handed));
        let costs = handed - stays;
        println!("  {batch:<6} {stays:>10.0} {handed:>10.0} {costs:>10.0}");
    }
}

/// Million packets a second of `cpus` CPUs together, between a device with `queues` queues and itself.
fn forward(cpus: usize, queues: usize, steering: &str) -> f64 {
    let ends = Ends::new(BATCH);
    let rig = Rig::new(cpus, steering, vec![(Kind::Loop, queues)], &ends);
    let sent = || rig.totals(0).tx_packets;
    rig.run(
        cpus,
        |forwarder, cx, now| {
            let _ = forwarder.softint(cx, SOURCE, now);
            let _ = forwarder.softint(cx, MESSAGE, now);
            None
        },
        || {
            std::thread::sleep(FOR / 10);
            let (first, began) = (sent(), Clock::now());
            std::thread::sleep(FOR);
            (sent() - first) as f64 / began.elapsed().as_secs_f64() / 1e6
        },
    )
    .0
}

/// Nanoseconds of work a packet that CPU 1 receives, in both CPUs, when the device that it goes out by has `queues` queues:
/// with two CPU 1 sends it, with one CPU 0 does. Turns that find nothing to do are not counted.
fn path(queues: usize, batch: usize) -> f64 {
    let ends = Ends::new(batch);
    let rig = Rig::new(2, "off", vec![(Kind::Source, 2), (Kind::Sink, queues)], &ends);
    let sent = || ends.sent.load(Ordering::Relaxed);
    let (packets, busy) = rig.run(
        2,
        |forwarder, cx, now| {
            let source = if cx.cpu() == CpuId::BOOT { MESSAGE } else { SOURCE };
            // Several turns in one reading of the clock; a turn without work ends the run of them.
            let (before, began) = (work_done(&ends, cx), Clock::now());
            for _ in 0..16 {
                let at = work_done(&ends, cx);
                let _ = forwarder.softint(cx, source, now);
                if work_done(&ends, cx) == at {
                    break;
                }
            }
            let worked = work_done(&ends, cx) != before && ends.counting.load(Ordering::Relaxed);
            worked.then(|| began.elapsed())
        },
        || {
            std::thread::sleep(FOR / 10);
            let first = sent();
            ends.counting.store(true, Ordering::SeqCst);
            std::thread::sleep(FOR);
            ends.counting.store(false, Ordering::SeqCst);
            sent() - first
        },
    );
    assert!(packets > 0, "nothing was forwarded");
    let lost: u64 = (0..2).map(|port| rig.totals(port).drops().map(|(_, count)| count).sum::<u64>()).sum();
    // The neighbour's introduction is consumed.
    assert!(lost <= 4, "{lost} packets were lost");
    busy.as_nanos() as f64 / packets as f64
}

/// What tells that a CPU had something to do: CPU 1 receives, CPU 0 sends.
fn work_done(ends: &Ends, cx: &Softint) -> u64 {
    match cx.cpu() == CpuId::BOOT {
        true => ends.sent_by_boot.load(Ordering::Relaxed),
        false => ends.made.load(Ordering::Relaxed),
    }
}

struct Rig {
    shared: &'static Shared,
    interfaces: Interfaces,
}

impl Rig {
    /// Interfaces with the networks 10.0.*n*.0/24, on devices of these kinds and numbers of queues.
    fn new(cpus: usize, steering: &str, devices: Vec<(Kind, usize)>, ends: &Ends) -> Rig {
        let arena = Arena::new(vec![0; 8192 * BUFFER].leak());
        let shared: &'static Shared = Box::leak(Box::new(Shared::new(arena, cpus)));
        let mut text = format!("steering = \"{steering}\"\n");
        for port in 0..devices.len() {
            text +=
                &format!("[interface.port{port}]\nmatch.port = {port}\naddresses = [\"10.0.{port}.1/24\"]\n");
        }
        let config = Config::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
        let mut control = claim_any().expect("a free CPU");
        let interfaces = control.control(|cx| {
            let bays = devices.into_iter().enumerate().map(|(port, (kind, queues))| {
                let ends = ends.clone();
                Bay::new(cx, Box::new(move |_| Ok(devices::attach(port, kind, queues, &ends))))
                    .expect("memory")
            });
            let mut interfaces = Interfaces::new(shared, cpus, bays.collect());
            interfaces.replace(cx, config).unwrap_or_else(|wrong| panic!("{wrong}"));
            interfaces
        });
        Rig { shared, interfaces }
    }

    fn totals(&self, port: usize) -> Totals {
        self.interfaces.attached()[port].counters.totals()
    }

    /// Runs `turn` on each CPU while `measure` runs; its result, and the time all turns together said they took.
    fn run<R>(
        &self,
        cpus: usize,
        turn: impl Fn(&mut Forwarder, &Softint, Instant) -> Option<Duration> + Sync,
        measure: impl FnOnce() -> R,
    ) -> (R, Duration) {
        let (start, ready) = (Barrier::new(cpus + 1), Barrier::new(cpus));
        let (stop, busy) = (AtomicBool::new(false), AtomicU64::new(0));
        let claimed: Vec<_> = (0..cpus).map(|number| claim(cpu(number)).expect("nobody else runs")).collect();
        let result = std::thread::scope(|scope| {
            for (mut cpu, exchange) in claimed.into_iter().zip(mesh(cpus)) {
                let (start, ready, stop, busy) = (&start, &ready, &stop, &busy);
                let (turn, shared) = (&turn, self.shared);
                scope.spawn(move || {
                    let stack = Stack::new(Settings { duty: Duty::Worker, ..Settings::default() });
                    let mut forwarder = Forwarder::new(shared, stack, exchange);
                    let now = Instant::from_secs(1);
                    // Takes its ports over.
                    let _ = cpu.softint(|cx| forwarder.softint(cx, MESSAGE, now));
                    start.wait();
                    if cpu.id() == CpuId::BOOT {
                        // It meets the neighbours, and tells the others.
                        let _ = cpu.softint(|cx| forwarder.softint(cx, SOURCE, now));
                    }
                    ready.wait();
                    let _ = cpu.softint(|cx| forwarder.softint(cx, MESSAGE, now));
                    while !stop.load(Ordering::Relaxed) {
                        if let Some(took) = cpu.softint(|cx| turn(&mut forwarder, cx, now)) {
                            busy.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
                        }
                    }
                });
            }
            start.wait();
            let result = measure();
            stop.store(true, Ordering::Relaxed);
            result
        });
        (result, Duration::from_nanos(busy.load(Ordering::Relaxed)))
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The time-stamp counter's rate: Linux derives BogoMIPS from it, twice it.
fn gigahertz() -> f64 {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("bogomips")).and_then(|line| line.split(':').nth(1));
    line.and_then(|mips| mips.trim().parse::<f64>().ok()).expect("BogoMIPS in /proc/cpuinfo") / 2000.0
}
