//! The ring between two CPUs, 32 elements at a time, as `peers/ring.c`.

use crate::{Together, pin};
use arrayvec::ArrayVec;
use std::time::Instant as Clock;
use weir_sync::ring::{self, Consumer, Producer};

const BULK: usize = 32;
const SIZE: usize = 1024;
const SINGLE: u64 = 1 << 16;
const PAIR: u64 = 1 << 20;

type Words = ArrayVec<u64, BULK>;

pub(crate) fn answer(cores: &[usize], request: &[&str]) -> Option<Vec<f64>> {
    let (mut producer, mut consumer) = ring::new::<u64>(SIZE);
    let samples = |text: &str| Some(0..text.parse::<usize>().ok()?);
    pin(cores[0]);
    match request {
        ["single", text] => Some(samples(text)?.map(|_| single(&mut producer, &mut consumer)).collect()),
        ["pair", text] if cores.len() > 1 => {
            Some(samples(text)?.map(|_| pair(&mut producer, &mut consumer, cores[1])).collect())
        }
        _ => None,
    }
}

fn single(producer: &mut Producer<u64>, consumer: &mut Consumer<u64>) -> f64 {
    let mut words = Words::new();
    let start = Clock::now();
    for first in (0..SINGLE).step_by(BULK) {
        words.extend(first..first + BULK as u64);
        assert_eq!(producer.push_many(&mut words), BULK);
        assert_eq!(consumer.pop_many(&mut words), BULK);
        check(&words, first);
        words.clear();
    }
    start.elapsed().as_nanos() as f64 / SINGLE as f64
}

fn pair(producer: &mut Producer<u64>, consumer: &mut Consumer<u64>, other: usize) -> f64 {
    let start = Together::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(other);
            start.wait();
            let mut words = Words::new();
            for first in (0..PAIR).step_by(BULK) {
                words.extend(first..first + BULK as u64);
                while producer.room(BULK) < BULK {
                    core::hint::spin_loop();
                }
                producer.push_many(&mut words);
            }
        });
        start.wait();
        let (mut words, begun) = (Words::new(), Clock::now());
        for first in (0..PAIR).step_by(BULK) {
            while consumer.waiting(BULK) < BULK {
                core::hint::spin_loop();
            }
            consumer.pop_many(&mut words);
            check(&words, first);
            words.clear();
        }
        begun.elapsed().as_nanos() as f64 / PAIR as f64
    })
}

fn check(words: &[u64], first: u64) {
    for (word, expected) in words.iter().zip(first..) {
        assert_eq!(*word, expected, "an element is out of order");
    }
}
