//! Routing tables alone: looked up in and changed, as `peers/fib.c`.

use crate::table::{ADDRESSES, Random, SEED};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Instant as Clock;
use weir_netstack::address::{Address, Prefix};
use weir_netstack::fib::{Fib, LANES, Writer};
use weir_sync::cpu;

/// Look-ups of a sample.
const SAMPLE: usize = 8192;
/// Routes that are removed and put back in a sample.
const CHANGES: usize = 64;

type Routes<A> = Vec<(Prefix<A>, u32)>;

pub(crate) struct Rig<A: Address> {
    routes: Routes<A>,
    addresses: Vec<A>,
    next: usize,
    fib: Fib<A, u32>,
    /// Made when changes are asked for.
    writer: Option<Writer<A, u32>>,
    random: Random,
    /// Where another thread looks up.
    other_core: usize,
}

impl<A: Address> Rig<A> {
    /// `addresses` are [`ADDRESSES`].
    pub(crate) fn new(routes: Routes<A>, addresses: Vec<A>, other_core: usize) -> Self {
        let fib = Fib::new(routes.clone());
        Self { routes, addresses, next: 0, fib, writer: None, random: Random(SEED + 1), other_core }
    }

    pub(crate) fn answer(&mut self, request: &[&str]) -> Option<Vec<f64>> {
        match request {
            ["first"] => Some(vec![self.pass(0, ADDRESSES, LANES)]),
            ["memory"] => Some(vec![self.fib.memory() as f64]),
            ["lookup", batch, samples] => {
                let batch = batch.parse().ok().filter(|batch| (1..=LANES).contains(batch))?;
                let sample = |_| {
                    let from = self.next;
                    self.next = (from + SAMPLE) % ADDRESSES;
                    self.pass(from, SAMPLE, batch)
                };
                Some((0..samples.parse::<usize>().ok()?).map(sample).collect())
            }
            ["update", samples] if self.routes.len() >= CHANGES => {
                Some((0..samples.parse::<usize>().ok()?).flat_map(|_| self.update()).collect())
            }
            ["beside", samples] if self.routes.len() >= CHANGES => {
                Some((0..samples.parse::<usize>().ok()?).flat_map(|_| self.beside()).collect())
            }
            _ => None,
        }
    }

    /// As [`update`](Self::update) again and again, while another core looks up in the same table: nanoseconds of a change,
    /// and of a look-up.
    fn beside(&mut self) -> [f64; 2] {
        const TURNS: usize = 1024;
        self.update();
        let fib = Arc::clone(self.writer.as_ref().expect("made by update").fib());
        let (addresses, core) = (self.addresses.clone(), self.other_core);
        let stop = Arc::new(AtomicBool::new(false));
        let together = Arc::new(Barrier::new(2));
        let (stopped, begin) = (Arc::clone(&stop), Arc::clone(&together));
        let reader = std::thread::spawn(move || {
            crate::pin(core);
            let mut cpu = cpu::claim_any().expect("a free CPU");
            let (mut hops, mut found) = ([0; LANES], 0);
            begin.wait();
            let start = Clock::now();
            for addresses in addresses.chunks(LANES).cycle() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                cpu.softint(|_| fib.lookup_batch(black_box(addresses), &mut hops));
                black_box(&hops);
                found += addresses.len();
            }
            start.elapsed().as_nanos() as f64 / found as f64
        });
        together.wait();
        let changes: f64 = (0..TURNS).flat_map(|_| self.update()).sum();
        stop.store(true, Ordering::Relaxed);
        [changes / (2 * TURNS) as f64, reader.join().expect("the reader's figure")]
    }

    fn pass(&self, from: usize, count: usize, batch: usize) -> f64 {
        let mut hops = [0; LANES];
        let start = Clock::now();
        for addresses in self.addresses[from..from + count].chunks(batch) {
            self.fib.lookup_batch(black_box(addresses), &mut hops);
            black_box(&hops);
        }
        start.elapsed().as_nanos() as f64 / count as f64
    }

    /// Nanoseconds that removing and inserting a route took.
    fn update(&mut self) -> [f64; 2] {
        let writer = self.writer.get_or_insert_with(|| Writer::new(self.routes.clone()));
        // No route twice.
        let share = self.routes.len() / CHANGES;
        let chosen: Vec<_> = (0..CHANGES)
            .map(|n| self.routes[n * share + (self.random.next() % share as u64) as usize])
            .collect();
        let mut cpu = cpu::claim_any().expect("a free CPU");
        let start = Clock::now();
        for &(prefix, _) in &chosen {
            let removed = cpu.control(|cx| writer.remove(cx, prefix));
            assert!(removed.is_some(), "no such route");
        }
        let removed = start.elapsed();
        for &(prefix, hop) in &chosen {
            let _ = cpu.control(|cx| writer.insert(cx, prefix, hop));
        }
        let inserted = start.elapsed() - removed;
        [removed, inserted].map(|took| took.as_nanos() as f64 / CHANGES as f64)
    }
}
