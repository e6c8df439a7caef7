//! The API under load: a thousand requests in flight at a router that forwards on every CPU, against the same router idle,
//! and the same traffic without requests. Or what a request takes, to the instruction.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::command;
use crate::flows;
use crate::rig::{LinuxPlan, LinuxRig, identity};
use crate::router::Image;

const TOKEN: &str = "correct-horse-battery";
const SECTION: &str = "\n[[management.token]]\nname = \"ann\"\n\
    hash = \"$argon2id$v=19$m=1024,t=3,p=1$c2FsdHNhbHRzYWx0c2FsdA$Pv9Y76c+Jnos+z8GF2SC3HvHZN6DvIST0yHKRNKE8YE\"\n";
const PATH: &str = "/api/v1/interfaces";
const FLOWS: u16 = 16;
/// An instruction takes a nanosecond, and waiting its time: what the router counts as nanoseconds are instructions.
const ICOUNT: [&str; 2] = ["-icount", "shift=0,sleep=on"];
/// Requests whose instructions are counted without others in flight.
const ALONE: usize = 300;

/// What `lab api-load` said: answered, failed, then microseconds of p50, p90, p99 and the slowest.
#[derive(Clone, Debug)]
struct Said {
    numbers: Vec<u64>,
    seconds: f64,
    failure: String,
}

impl Said {
    fn row(&self, name: &str) -> String {
        let ms = |at: usize| self.numbers.get(at).map_or(0.0, |&us| us as f64 / 1000.0);
        let answered = self.numbers.first().copied().unwrap_or(0);
        format!(
            "{name:<34} {answered:>9} {:>7} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.0}  {}",
            self.numbers.get(1).copied().unwrap_or(0),
            ms(2),
            ms(3),
            ms(4),
            ms(5),
            answered as f64 / self.seconds,
            self.failure
        )
    }
}

/// A router with a token, between two hosts.
fn power_on(cpus: usize, extra: &[&str]) -> Result<LinuxRig> {
    let plan = LinuxPlan { queues: cpus, cpus, ..LinuxPlan::new() };
    LinuxRig::power_on(Image::Weir, &plan, |setup| {
        setup.limit = Duration::from_secs(3600);
        setup.extra.extend(extra.iter().map(|&word| word.to_owned()));
        let text = setup.config.toml().replacen("addresses", "management = true\naddresses", 1);
        setup.module = Some(format!("{text}{SECTION}").into_bytes());
    })
}

/// The router is ready, and knows its neighbours and the token, whose first hash is slow.
fn warm(rig: &mut LinuxRig) -> Result<()> {
    rig.router.ready()?;
    for address in [identity(1)?.v4.to_string(), identity(1)?.v6.to_string()] {
        rig.host(0).check("ping", &["-c", "2", "-i", "0.2", &address], Duration::from_secs(10))?;
    }
    ask(rig, 1, 5)?;
    Ok(())
}

/// Counts instructions a request: one at a time, and `requests` by `in_flight` connections at once.
pub(crate) fn count(in_flight: usize, requests: usize) -> Result<()> {
    power_on(1, &ICOUNT)?.check("bench-api", |rig| {
        warm(rig)?;
        println!("instructions a request, 1 CPU, GET {PATH}");
        for (connections, requests) in [(1, ALONE), (in_flight, requests)] {
            let (before, awake) = (account(rig)?, awake(rig)?);
            let said = ask(rig, connections, requests)?;
            let (awake, after) = (self::awake(rig)? - awake, account(rig)?);
            ensure!(said.numbers.get(1) == Some(&0), "requests failed: {}", said.failure);
            let parts: Vec<String> = shares(&before, &after, requests)
                .filter(|(_, share)| *share >= 0.5)
                .map(|(name, share)| format!("{name} {share:.0}"))
                .collect();
            let (flying, all) = (format!("{connections} in flight"), awake as f64 / requests as f64);
            println!("{flying:<20} {all:.0} in all; {}", parts.join(", "));
        }
        Ok(())
    })
}

/// Measures with `cpus` CPUs. `requests` are asked by `in_flight` connections at once.
pub(crate) fn bench(cpus: usize, in_flight: usize, requests: usize, packets: u64) -> Result<()> {
    let rig = power_on(cpus, &[])?;
    rig.check("bench-api", |rig| {
        warm(rig)?;
        println!("\n{cpus} CPUs, {in_flight} in flight, GET {PATH}");
        println!(
            "{:<34} {:>9} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "", "answered", "failed", "p50 ms", "p90 ms", "p99 ms", "most ms", "a second"
        );
        let one = ask(rig, 1, 300)?;
        println!("{}", one.row("idle router, one at a time"));
        let before = account(rig)?;
        let idle = ask(rig, in_flight, requests)?;
        println!("{}", idle.row("idle router"));
        where_it_goes(&before, &account(rig)?, requests);
        let quiet = forwarded(rig, packets, &AtomicBool::new(true))?;
        println!("{:<34} {quiet:>9.0} packets a second, none lost", "forwarding alone");
        let stop = AtomicBool::new(false);
        let memory = memory(rig)?;
        let before = account(rig)?;
        let (busy, rate) = std::thread::scope(|scope| {
            let traffic = scope.spawn(|| forwarded(rig, packets, &stop));
            let busy = ask(rig, in_flight, requests);
            stop.store(true, Ordering::Relaxed);
            let rate = traffic.join().map_err(|_| anyhow::anyhow!("the traffic's thread panicked"))?;
            Ok::<_, anyhow::Error>((busy?, rate?))
        })?;
        println!("{}", busy.row("while it forwards"));
        where_it_goes(&before, &account(rig)?, requests);
        println!("{:<34} {rate:>9.0} packets a second, none lost", "forwarding meanwhile");
        let after = self::memory(rig)?;
        println!("memory {} KiB before, {} KiB after", memory >> 10, after >> 10);
        let p99 = |said: &Said| said.numbers.get(4).copied().unwrap_or(0).max(1) as f64;
        println!("p99 while it forwards: {:.1} times the idle router's", p99(&busy) / p99(&idle));
        for said in [one, idle, busy] {
            ensure!(said.numbers.get(1) == Some(&0), "requests failed: {}", said.failure);
        }
        Ok(())
    })
}

/// Datagrams a second through the router, round after round until `stop`; none may be lost.
fn forwarded(rig: &LinuxRig, packets: u64, stop: &AtomicBool) -> Result<f64> {
    let (began, mut total) = (std::time::Instant::now(), 0);
    loop {
        let tallies = flows::exchange(rig.host(0), rig.host(1), identity(1)?.v4.into(), FLOWS, packets)?;
        for tally in &tallies {
            ensure!(tally.received == packets && tally.late == 0, "lost or late: {tally:?} of {packets}");
        }
        total += packets * u64::from(FLOWS);
        if stop.load(Ordering::Relaxed) {
            return Ok(total as f64 / began.elapsed().as_secs_f64());
        }
    }
}

fn ask(rig: &LinuxRig, connections: usize, requests: usize) -> Result<Said> {
    let own = std::env::current_exe().context("own path")?.display().to_string();
    let to = format!("{}:80", identity(0)?.gateway_v4);
    let (connections, requests) = (connections.to_string(), requests.to_string());
    let words = [
        "api-load",
        &to,
        "--token",
        TOKEN,
        "--path",
        PATH,
        "--connections",
        &connections,
        "--requests",
        &requests,
    ];
    let line = rig.host(0).check(&own, &words, Duration::from_secs(400))?;
    let words: Vec<&str> = line.trim().splitn(8, ' ').collect();
    let numbers = words.iter().take(6).filter_map(|word| word.parse().ok()).collect();
    let seconds = words.get(6).and_then(|word| word.parse().ok()).context("no time")?;
    Ok(Said { numbers, seconds, failure: words.get(7).copied().unwrap_or_default().to_owned() })
}

fn get(rig: &LinuxRig, path: &str) -> Result<Value> {
    let url = format!("http://{}{path}", identity(0)?.gateway_v4);
    let header = format!("Authorization: Bearer {TOKEN}");
    let words = ["--silent", "--max-time", "60", "--header", &header, &url];
    let limit = Duration::from_secs(70);
    let said = command::run(&mut rig.host(0).command("curl", &words), &[], limit)?.success("curl")?;
    serde_json::from_str(&said).with_context(|| format!("{path}: {said}"))
}

fn memory(rig: &LinuxRig) -> Result<u64> {
    let status = get(rig, "/api/v1/status")?;
    let number = |field: &str| status[field].as_u64().with_context(|| format!("{field} of {status}"));
    Ok(number("memory_bytes")? - number("memory_free_bytes")?)
}

/// The guest's own time of its tasks in nanoseconds, by name.
fn account(rig: &LinuxRig) -> Result<BTreeMap<String, u64>> {
    let mut sums = BTreeMap::new();
    for task in get(rig, "/api/v1/cpus")?["tasks"].as_array().into_iter().flatten() {
        let name = task["name"].as_str().unwrap_or_default().to_owned();
        *sums.entry(name).or_default() += task["total_ns"].as_u64().unwrap_or(0);
    }
    Ok(sums)
}

/// Nanoseconds that the guest's CPUs were awake: tasks, packets, and what it takes to go from one to the other.
fn awake(rig: &LinuxRig) -> Result<u64> {
    let all = get(rig, "/api/v1/cpus")?;
    Ok(all["cpus"].as_array().into_iter().flatten().filter_map(|cpu| cpu["busy_us"].as_u64()).sum::<u64>()
        * 1000)
}

/// What each task took for a request, in nanoseconds.
fn shares<'a>(
    before: &'a BTreeMap<String, u64>,
    after: &'a BTreeMap<String, u64>,
    requests: usize,
) -> impl Iterator<Item = (&'a str, f64)> {
    after.iter().map(move |(name, ns)| {
        let spent = ns.saturating_sub(before.get(name).copied().unwrap_or(0));
        (name.as_str(), spent as f64 / requests as f64)
    })
}

fn where_it_goes(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>, requests: usize) {
    let part = |(name, ns): (&str, f64)| format!("{name} {:.0} us", ns / 1000.0);
    let parts: Vec<String> = shares(before, after, requests).map(part).collect();
    println!("{:<34} of guest time a request: {}", "", parts.join(", "));
}
