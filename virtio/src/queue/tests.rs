use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::vec::Vec;

fn segment(addr: u64) -> Segment {
    Segment { addr, len: 1, access: Access::Read }
}

#[test]
fn sizes_are_powers_of_two() {
    for size in [0, 3, 100, 65535, 33000] {
        assert!(SplitQueue::<()>::new(size, Events::Index).is_none(), "{size}");
    }
    for size in [1, 2, 64, 32768] {
        assert_eq!(SplitQueue::<()>::new(size, Events::Flags).unwrap().free(), size);
    }
}

#[test]
fn areas_are_aligned_and_apart() {
    for shift in 0..16 {
        let size = 1_u16 << shift;
        let queue = SplitQueue::<()>::new(size, Events::Index).unwrap();
        let (rings, entries) = (queue.rings(), u64::from(size));
        assert!(rings.descriptors().is_multiple_of(16) && rings.available().is_multiple_of(2));
        assert!(rings.used().is_multiple_of(4) && (rings.used() + 4).is_multiple_of(8));
        assert!(rings.available() >= rings.descriptors() + 16 * entries);
        assert!(rings.used() >= rings.available() + 6 + 2 * entries);
    }
}

#[test]
fn a_full_ring_gives_the_token_back() {
    let mut queue = SplitQueue::new(4, Events::Index).unwrap();
    assert_eq!(queue.lend((0..3).map(segment), "chain"), Ok(()));
    assert_eq!(queue.lend((0..2).map(segment), "too long"), Err("too long"));
    assert_eq!(queue.lend([], "nothing"), Err("nothing"));
    assert_eq!(queue.lend([segment(0)], "last"), Ok(()));
    assert_eq!(queue.lend([segment(0)], "no more"), Err("no more"));
    assert_eq!((queue.free(), queue.lent()), (0, 2));
    let mut back: Vec<_> = queue.reclaim().collect();
    back.sort_unstable();
    assert_eq!(back, ["chain", "last"]);
}

/// The device's side, through the queue's own accessors: returns `ids` and the index behind them.
fn give<T>(queue: &SplitQueue<T>, used: &mut u16, ids: &[u32]) {
    for &id in ids {
        queue.rings.forge_used(*used, id, 0);
        *used = used.wrapping_add(1);
    }
    queue.rings.forge_used_idx(*used);
}

#[test]
fn returns_what_was_lent_and_nothing_else() {
    let mut queue = SplitQueue::new(8, Events::Index).unwrap();
    let mut used = 0;
    // Descriptors 0, 1 and 2 are a chain, 3 is alone.
    queue.lend((0..3).map(segment), "chain").unwrap();
    queue.lend([segment(0)], "single").unwrap();
    queue.publish();
    give(&queue, &mut used, &[3, 1]);
    assert_eq!(queue.poll(), Ok(2));
    let first = queue.entry().unwrap();
    assert_eq!(queue.peek(0), Some(&"single"));
    assert_eq!(queue.redeem(first), Ok("single"));
    assert_eq!(queue.redeem(first), Err(Violation::UsedIdNotLent), "replayed");
    let second = queue.entry().unwrap();
    assert_eq!(queue.redeem(second), Err(Violation::UsedIdNotLent), "the middle of a chain");
    assert_eq!(queue.redeem(Used { id: 8, len: 0 }), Err(Violation::UsedIdOutOfRange));
    assert_eq!(queue.redeem(Used { id: u32::MAX, len: 0 }), Err(Violation::UsedIdOutOfRange));
    assert_eq!(queue.redeem(Used { id: 0, len: 0 }), Ok("chain"));
    assert_eq!((queue.free(), queue.lent()), (8, 0));
}

#[test]
fn the_used_index_stays_between_what_was_seen_and_what_was_published() {
    let mut queue = SplitQueue::new(8, Events::Flags).unwrap();
    for _ in 0..4 {
        queue.lend([segment(0)], ()).unwrap();
    }
    queue.rings.forge_used_idx(1);
    assert_eq!(queue.poll(), Err(Violation::UsedIndexRunaway), "nothing is published yet");
    queue.publish();
    assert_eq!(queue.poll(), Ok(1));
    queue.rings.forge_used_idx(5);
    assert_eq!(queue.poll(), Err(Violation::UsedIndexRunaway));
    queue.rings.forge_used_idx(3);
    assert_eq!(queue.poll(), Ok(3));
    queue.rings.forge_used_idx(2);
    assert_eq!(queue.poll(), Err(Violation::UsedIndexBackwards), "though 2 are not redeemed yet");
}

#[test]
fn bursts_write_neighbouring_descriptors() {
    let mut queue = SplitQueue::new(256, Events::Index).unwrap();
    let mut used = 0;
    for _ in 0..100 {
        let heads: Vec<u16> = (0..32)
            .map(|_| {
                let head = queue.free_head;
                queue.lend([segment(0)], ()).unwrap();
                head
            })
            .collect();
        assert!(heads.is_sorted() || heads.is_sorted_by(|a, b| a > b));
        assert_eq!(heads[0].abs_diff(heads[31]), 31);
        queue.publish();
        give(&queue, &mut used, &heads.iter().map(|&head| head.into()).collect::<Vec<_>>());
        queue.poll().unwrap();
        while let Some(entry) = queue.entry() {
            queue.redeem(entry).unwrap();
        }
    }
}

proptest! {
    /// `vring_need_event` is: some step from `old` to `new` was the step past `event`.
    #[test]
    fn an_event_is_due_when_its_index_is_passed(event: u16, old: u16, steps in 0u16..300) {
        let new = old.wrapping_add(steps);
        let passed = (0..steps).any(|step| old.wrapping_add(step) == event);
        prop_assert_eq!(needs_event(event, new, old), passed);
    }

    /// Against a model: any order of lending and returning, across the wrap of both indices.
    #[test]
    fn behaves_as_a_bag_of_chains(
        start: u16,
        steps in prop::collection::vec((1u16..6, 0usize..8, any::<bool>()), 1..200),
    ) {
        let mut queue = SplitQueue::new(16, Events::Index).unwrap();
        queue.forge_indices(start);
        let mut used = start;
        let mut lent: VecDeque<(u32, u16, u64)> = VecDeque::new();
        for (number, (len, back, keep)) in steps.into_iter().enumerate() {
            let (token, head) = (number as u64, u32::from(queue.free_head));
            let fits = queue.free() >= len;
            prop_assert_eq!(queue.lend((0..u64::from(len)).map(segment), token).is_ok(), fits);
            if fits {
                lent.push_back((head, len, token));
            }
            if keep {
                continue;
            }
            queue.publish();
            let expected: Vec<_> = (0..back).map_while(|n| lent.remove(n % lent.len().max(1))).collect();
            let ids: Vec<u32> = expected.iter().map(|chain| chain.0).collect();
            give(&queue, &mut used, &ids);
            prop_assert_eq!(queue.poll(), Ok(ids.len() as u16));
            for (_, _, token) in expected {
                let entry = queue.entry().unwrap();
                prop_assert_eq!(queue.redeem(entry), Ok(token));
            }
            prop_assert_eq!(queue.ready(), 0);
            let outstanding: u16 = lent.iter().map(|chain| chain.1).sum();
            prop_assert_eq!((queue.free(), queue.lent()), (16 - outstanding, lent.len() as u16));
        }
    }
}
