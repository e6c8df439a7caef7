//! The stack as an ordinary program that is asked for samples; `make bench` and `make bench-peers` ask it. The programs in
//! `peers` answer the same requests with DPDK.
//!
//! It says "ready" once it is set up, then reads a request a line and answers each with a line of nanoseconds.
#![allow(missing_docs)]

mod forward;
mod lookup;
mod ring;
mod table;
mod tap;

use rustix::thread::{CpuSet, sched_setaffinity};
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

const USE: &str = "\
host forward CORES 4|6 ROUTES   answers \"forward FLOWS BATCH CPUS SAMPLES [BYTES|imix [MODE]]\", nanoseconds a packet; MODE is a capture
                                beside: the heads of all that leaves, or whole, or a filter that lets
                                nothing pass: nothing, web, host
host fib CORES 4|6 ROUTES       answers \"first\", \"lookup BATCH SAMPLES\", \"update SAMPLES\", \"beside SAMPLES\" (changes, and
                                look-ups by the last core) and \"memory\" (bytes)
host ring CORES                 answers \"single SAMPLES\" and \"pair SAMPLES\", nanoseconds an element
host export FOLDER 4|6 ROUTES   writes the files `routes` and `addresses` for the programs in peers
CORES are the numbers of the cores to run on: \"0,1\". `make bench` and `make bench-peers` ask all that and print tables.";

/// Stays on core `number` from now on.
pub(crate) fn pin(number: usize) {
    let mut set = CpuSet::new();
    set.set(number);
    sched_setaffinity(None, &set).unwrap_or_else(|error| panic!("core {number}: {error}"));
}

/// Where threads begin at once: they spin, since one that sleeps wakes late.
pub(crate) struct Together(AtomicUsize);

impl Together {
    pub(crate) fn new(threads: usize) -> Together {
        Together(AtomicUsize::new(threads))
    }

    /// To be called by each thread once.
    pub(crate) fn wait(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
        while self.0.load(Ordering::Acquire) != 0 {
            std::hint::spin_loop();
        }
    }
}

/// Answers requests until there are no more.
fn serve(mut answer: impl FnMut(&[&str]) -> Option<Vec<f64>>) {
    println!("ready");
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(samples) = answer(&words) else { panic!("not a request: {line}") };
        let text: Vec<String> = samples.iter().map(|sample| format!("{sample:.3}")).collect();
        println!("{}", text.join(" "));
        // A pipe is not flushed by line.
        let _ = std::io::stdout().flush();
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let count = |text: &str| text.parse::<usize>().unwrap_or_else(|_| panic!("not a number: {text}"));
    let cores = |text: &str| -> Vec<usize> { text.split(',').map(count).collect() };
    match words.as_slice() {
        ["forward", on, family @ ("4" | "6"), routes] => {
            let mut rig = forward::Rig::new(cores(on), *family == "6", count(routes));
            serve(|request| rig.answer(request));
        }
        ["fib", on, "4", routes] => {
            pin(cores(on)[0]);
            let routes = table::ipv4(count(routes), table::SEED);
            let addresses = table::forwarded4(&routes);
            let mut rig = lookup::Rig::new(routes, addresses, *cores(on).last().expect("a core"));
            serve(|request| rig.answer(request));
        }
        ["fib", on, "6", routes] => {
            pin(cores(on)[0]);
            let routes = table::ipv6(count(routes), table::SEED);
            let addresses = table::forwarded6(&routes);
            let mut rig = lookup::Rig::new(routes, addresses, *cores(on).last().expect("a core"));
            serve(|request| rig.answer(request));
        }
        ["ring", on] => serve(|request| ring::answer(&cores(on), request)),
        ["export", folder, "4", routes] => {
            let routes = table::ipv4(count(routes), table::SEED);
            table::export(Path::new(folder), &routes, &table::forwarded4(&routes));
        }
        ["export", folder, "6", routes] => {
            let routes = table::ipv6(count(routes), table::SEED);
            table::export(Path::new(folder), &routes, &table::forwarded6(&routes));
        }
        _ => println!("{USE}"),
    }
}
