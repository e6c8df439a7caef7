//! Fragments for the router itself that arrive on several CPUs meet on one.

use super::*;
use crate::memory_port::echo_fragments;
use std::collections::VecDeque;

/// Echo requests of many hosts in two fragments each, which arrive by different queues.
fn storm(steering: &str, queues: usize) -> u64 {
    let count = 4000;
    let (made, answered) = (AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
    let waiting = Mutex::new(VecDeque::new());
    let (replies, seen) = (answered.clone(), answered.clone());
    let a = source_wire(
        0,
        queues,
        move |queue| {
            let mut waiting = waiting.lock().unwrap();
            if queue + 1 == queues
                && let Some(frame) = waiting.pop_front()
            {
                return Some(frame);
            }
            let number = made.load(Ordering::Relaxed);
            let answered = answered.load(Ordering::Relaxed);
            // One after the other at first: each CPU has to learn of the neighbours.
            let window = if answered < 80 { 1 } else { 12 };
            if queue > 0 || number == count || number - answered >= window {
                return None;
            }
            made.store(number + 1, Ordering::Relaxed);
            let [first, second] =
                echo_fragments(0, [10, 0, 0, 2 + (number % 40) as u8], [10, 0, 0, 1], number);
            let (now, later) = if number.is_multiple_of(3) { (second, first) } else { (first, second) };
            waiting.push_back(later);
            Some(now)
        },
        move |_, frame| {
            if frame.get(23) == Some(&1) && frame.get(34) == Some(&0) && frame.len() == 58 {
                replies.fetch_add(1, Ordering::Relaxed);
            }
        },
    );
    let mut rig = Rig::new(2, std::vec![a, sink(1, 2, |_, _| ())]);
    rig.replace(&config(steering, &[(0, A), (1, B)], &[]));
    rig.wait_for(|| {
        for cpu in [0, 1].into_iter().take(queues) {
            raise(CpuId::new(cpu).unwrap(), crate::memory_port::source(0));
        }
        seen.load(Ordering::Relaxed) == count
    });
    let handed_over = rig.shared.counters.iter().map(|counters| counters.handed_over.get()).sum();
    let totals = rig.finish(&[0, 1]);
    let lost: Vec<_> = totals.drops().filter(|(reason, _)| *reason != Drop::Consumed).collect();
    assert!(lost.is_empty(), "{lost:?}");
    handed_over
}

#[test]
fn fragments_meet_on_the_cpu_of_their_flow() {
    // Whichever CPU that is, one of the two fragments, or both, arrive at the other in most cases.
    assert!(storm("off", 2) > 2000);
    assert!(storm("flows", 2) > 2000);
    assert!(storm("off", 1) > 1000);
    assert!(storm("flows", 1) > 1000);
}
