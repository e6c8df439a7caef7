//! Cycles an element spends in a ring: `cargo bench -p weir-sync`.
//!
//! On one core: push a batch, pop a batch. On two: one thread pushes, the other pops, each as fast as it can; the
//! figure is elapsed time an element. The smallest of many runs, since other programs share the machine.
#![allow(missing_docs)]

use arrayvec::ArrayVec;
use std::hint::black_box;
use weir_sync::ring;

const CAPACITY: usize = 1024;
const RUNS: usize = 30;
const ELEMENTS: usize = 1 << 20;

/// A packet handle's size.
type Element = u64;

fn tsc() -> u64 {
    // SAFETY: every x86-64 CPU has it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

fn same_core<const BULK: usize>() -> u64 {
    let (mut producer, mut consumer) = ring::new::<Element>(CAPACITY);
    let (mut from, mut into) = (ArrayVec::<Element, BULK>::new(), ArrayVec::<Element, BULK>::new());
    let start = tsc();
    for _ in 0..ELEMENTS / BULK {
        while from.len() < BULK {
            from.push(1);
        }
        producer.push_many(black_box(&mut from));
        into.clear();
        consumer.pop_many(black_box(&mut into));
    }
    tsc() - start
}

fn two_threads<const BULK: usize>() -> u64 {
    let (mut producer, mut consumer) = ring::new::<Element>(CAPACITY);
    let start = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut from = ArrayVec::<Element, BULK>::new();
            start.wait();
            let mut sent = 0;
            while sent < ELEMENTS {
                while from.len() < BULK {
                    from.push(1);
                }
                while !from.is_empty() {
                    let went = producer.push_many(black_box(&mut from));
                    sent += went;
                    if went == 0 {
                        core::hint::spin_loop();
                    }
                }
            }
        });
        start.wait();
        let begun = tsc();
        let (mut got, mut into) = (0, ArrayVec::<Element, BULK>::new());
        while got < ELEMENTS {
            into.clear();
            let came = consumer.pop_many(black_box(&mut into));
            got += came;
            if came == 0 {
                core::hint::spin_loop();
            }
        }
        tsc() - begun
    })
}

fn best(run: fn() -> u64) -> f64 {
    (0..RUNS).map(|_| run()).min().unwrap_or(0) as f64 / ELEMENTS as f64
}

fn main() {
    println!("cycles an element   one core   two cores");
    for (bulk, one, two) in [
        (1, same_core::<1> as fn() -> u64, two_threads::<1> as fn() -> u64),
        (8, same_core::<8>, two_threads::<8>),
        (32, same_core::<32>, two_threads::<32>),
        (64, same_core::<64>, two_threads::<64>),
    ] {
        println!("bulk {bulk:<12} {:>10.1} {:>11.1}", best(one), best(two));
    }
}
