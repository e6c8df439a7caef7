//! Cycles of a look-up and of a change in large routing tables: `cargo bench -p weir-netstack --bench fib`.
//!
//! `--routes FILE --addresses FILE` writes the IPv4 table and what is looked up in it as `dpdk-test-fib` reads them, and
//! `--routes6 FILE --addresses6 FILE` the IPv6 ones. `--mean4` and `--mean6` print what that program does, the mean of
//! one pass in batches of 64, and the median of nine passes.
#![allow(missing_docs)]

mod table;

use std::fmt::Write;
use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant as Clock;
use table::Random;
use weir_netstack::address::{Address, Prefix};
use weir_netstack::fib::{Fib, LANES, Placed, Writer};
use weir_sync::{Published, cpu};

const IPV4: usize = 1_000_000;
const IPV6: usize = 200_000;
/// Addresses that are looked up, in a round.
const ADDRESSES: usize = 1 << 20;
/// Addresses of a sample. The quickest sample counts for [`quickest`]: others were disturbed, none can be too quick.
const SAMPLE: usize = 8192;
const ROUNDS: usize = 12;
const SEED: u64 = 20_261_121;

/// Time-stamp counter's rate: the processor's nominal one.
fn gigahertz() -> f64 {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("cpu MHz")).and_then(|line| line.split(':').nth(1));
    line.and_then(|mhz| mhz.trim().parse::<f64>().ok()).unwrap_or(1000.0) / 1000.0
}

/// Nanoseconds an address, quickest sample and median of all.
fn timed<A: Copy>(addresses: &[A], mut work: impl FnMut(&[A])) -> (f64, f64) {
    let mut samples = Vec::new();
    for _ in 0..ROUNDS {
        for addresses in addresses.chunks_exact(SAMPLE) {
            let start = Clock::now();
            work(addresses);
            samples.push(start.elapsed().as_nanos() as f64 / SAMPLE as f64);
        }
    }
    samples.sort_by(f64::total_cmp);
    (samples[0], samples[samples.len() / 2])
}

/// Prints cycles an address in a pass over all, of the first pass and the median of nine.
fn mean<A: Address>(fib: &Fib<A, u32>, addresses: &[A]) {
    let mut hops = [0; LANES];
    let mut pass = || {
        let start = Clock::now();
        for addresses in addresses.chunks(LANES) {
            fib.lookup_batch(addresses, &mut hops);
            black_box(&hops);
        }
        start.elapsed().as_nanos() as f64 / addresses.len() as f64 * gigahertz()
    };
    let mut passes: Vec<f64> = (0..9).map(|_| pass()).collect();
    let first = passes[0];
    passes.sort_by(f64::total_cmp);
    println!("{first:.1} {:.1}", passes[4]);
}

fn lookups<A: Address>(name: &str, fib: &Fib<A, u32>, addresses: &[A]) {
    let mut hops = [0; LANES];
    let batched = timed(addresses, |addresses| {
        for addresses in addresses.chunks(LANES) {
            fib.lookup_batch(black_box(addresses), &mut hops);
            black_box(&hops);
        }
    });
    let one = timed(addresses, |addresses| {
        for address in addresses {
            black_box(fib.lookup(black_box(*address)));
        }
    });
    let ghz = gigahertz();
    println!(
        "{name:<36} {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
        batched.0 * ghz,
        batched.1 * ghz,
        one.0 * ghz,
        one.1 * ghz
    );
}

/// Removes and puts back routes, and changes their hops, as often as it takes a second; alone, then while another thread
/// looks addresses up.
fn changes<A: Address>(name: &str, routes: &[(Prefix<A>, u32)], addresses: &[A]) {
    let mut cpu = cpu::claim_any().unwrap();
    let mut writer = Writer::new(routes.to_vec());
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    println!(
        "{name}: {:.1} MiB with room to change, {:.1} MiB beside it to change it",
        mib(writer.fib().memory()),
        mib(writer.memory())
    );
    let published = Published::new(Box::new(writer.fib().clone()));
    let (stop, looked_up) = (AtomicBool::new(false), AtomicU64::new(0));
    for readers in [0, 1] {
        stop.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            for _ in 0..readers {
                scope.spawn(|| {
                    let mut cpu = cpu::claim_any().unwrap();
                    let mut hops = [0; LANES];
                    let mut batches = addresses.chunks(LANES).cycle();
                    while !stop.load(Ordering::Relaxed) {
                        for addresses in batches.by_ref().take(64) {
                            cpu.softint(|cx| published.read(cx).lookup_batch(addresses, &mut hops));
                            black_box(&hops);
                        }
                        looked_up.fetch_add(64 * LANES as u64, Ordering::Relaxed);
                    }
                });
            }
            let (mut samples, mut random, mut outgrown) = (Vec::new(), Random(SEED), 0);
            let begun = Clock::now();
            while begun.elapsed().as_secs() < 2 {
                let chosen: Vec<_> =
                    (0..64).map(|_| routes[random.below(routes.len() as u64) as usize]).collect();
                let start = Clock::now();
                for &(prefix, _) in &chosen {
                    let placed = cpu.control(|cx| writer.remove(cx, prefix));
                    outgrown += u32::from(placed == Some(Placed::Outgrown));
                }
                let removed = start.elapsed();
                for &(prefix, hop) in &chosen {
                    let placed = cpu.control(|cx| writer.insert(cx, prefix, hop));
                    outgrown += u32::from(placed == Placed::Outgrown);
                }
                let inserted = start.elapsed() - removed;
                for &(prefix, hop) in &chosen {
                    let placed = cpu.control(|cx| writer.insert(cx, prefix, (hop + 1) % table::HOPS));
                    outgrown += u32::from(placed == Placed::Outgrown);
                }
                let replaced = start.elapsed() - removed - inserted;
                samples.push([removed, inserted, replaced]);
                if outgrown > 0 {
                    cpu.control(|cx| drop(published.publish(cx, Box::new(writer.fib().clone()))));
                    println!("  the table was laid out anew");
                    outgrown = 0;
                }
            }
            let seconds = begun.elapsed().as_secs_f64();
            stop.store(true, Ordering::Relaxed);
            let ghz = gigahertz();
            let median = |which: usize| {
                let mut all: Vec<_> =
                    samples.iter().map(|s| s[which].as_nanos() as f64 / 64.0 * ghz).collect();
                all.sort_by(f64::total_cmp);
                (all.iter().sum::<f64>() / all.len() as f64, all[all.len() / 2])
            };
            let rate = samples.len() as f64 * 192.0 / seconds;
            println!("  {readers} readers, {rate:.0} changes a second; cycles a change, mean and median:");
            for (which, name) in ["remove", "insert", "replace"].into_iter().enumerate() {
                let (mean, median) = median(which);
                println!("    {name:<10} {mean:>9.0} {median:>9.0}");
            }
            if readers > 0 {
                println!(
                    "    meanwhile {:.1} M look-ups a second",
                    looked_up.load(Ordering::Relaxed) as f64 / seconds / 1e6
                );
            }
        });
    }
}

/// Writes what the option `name` asks for to the file that follows it; whether it was asked for.
fn written(name: &str, text: impl FnOnce() -> String) -> bool {
    let file = std::env::args().skip_while(|argument| argument != name).nth(1);
    file.inspect(|file| std::fs::write(file, text()).unwrap()).is_some()
}

fn main() {
    let (routes4, routes6) = (table::ipv4(IPV4, SEED), table::ipv6(IPV6, SEED));
    let mut random = Random(SEED + 1);
    let anywhere4: Vec<Ipv4Addr> = (0..ADDRESSES).map(|_| table::unicast4(&mut random)).collect();
    let (routed4, routed6) =
        (table::routed4(&routes4, ADDRESSES, SEED + 2), table::routed6(&routes6, ADDRESSES, SEED + 2));

    fn list<A: Address>(routes: &[(Prefix<A>, u32)]) -> String {
        let mut text = String::new();
        routes.iter().for_each(|(prefix, hop)| writeln!(text, "{prefix} {}", hop + 1).unwrap());
        text
    }
    fn lines<A: Address>(addresses: &[A]) -> String {
        let mut text = String::new();
        addresses.iter().for_each(|address| writeln!(text, "{address}").unwrap());
        text
    }
    if [
        written("--routes", || list(&routes4)),
        written("--addresses", || lines(&anywhere4)),
        written("--routes6", || list(&routes6)),
        written("--addresses6", || lines(&routed6)),
    ]
    .contains(&true)
    {
        return;
    }

    if std::env::args().any(|argument| argument == "--mean4") {
        return mean(&Fib::new(routes4), &anywhere4);
    }
    if std::env::args().any(|argument| argument == "--mean6") {
        return mean(&Fib::new(routes6), &routed6);
    }

    let start = Clock::now();
    let fib4 = Fib::new(routes4.clone());
    let built4 = start.elapsed();
    let start = Clock::now();
    let fib6 = Fib::new(routes6.clone());
    let built6 = start.elapsed();
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    println!("IPv4, {IPV4} routes: {:.2} MiB, built in {built4:.0?}", mib(fib4.memory()));
    println!("IPv6, {IPV6} routes: {:.2} MiB, built in {built6:.0?}", mib(fib6.memory()));
    println!();
    println!("{:<36} {:>19} {:>19}", "", "batches of 64", "one by one");
    println!("{:<36} {:>9} {:>9} {:>9} {:>9}", "cycles a look-up", "best", "median", "best", "median");
    lookups("IPv4, 1 M routes, any address", &fib4, &anywhere4);
    lookups("IPv4, 1 M routes, routed addresses", &fib4, &routed4);
    lookups("IPv6, 200 k routes, routed addresses", &fib6, &routed6);
    let small4 = Fib::<Ipv4Addr, u32>::new(table::ipv4(10, SEED));
    lookups("IPv4, 10 routes, any address", &small4, &anywhere4);
    let small6 = Fib::<Ipv6Addr, u32>::new(table::ipv6(10, SEED));
    lookups("IPv6, 10 routes, routed addresses", &small6, &routed6);
    println!();
    changes("IPv4, 1 M routes", &routes4, &routed4);
    changes("IPv6, 200 k routes", &routes6, &routed6);
}
