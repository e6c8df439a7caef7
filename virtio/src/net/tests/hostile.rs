//! A device that lies, one lie a test. Every lie ends in its name; nothing panics, no buffer is lost.

use super::*;
use crate::violation::Violation;

const NEEDS_CSUM: u8 = 1;
const TCP4: u8 = 1;

/// Tells the lie to a device with traffic under way; the next step must name it, every later step repeat it, and
/// after the reset every buffer be back.
fn lie(features: F, expected: Violation, tell: impl FnOnce(&mut Bench)) {
    let mut bench = Bench::new(features);
    let mut batch = Batch::new();
    for n in 0..8 {
        batch.push(bench.pool.alloc_from(&[n; 1400]).unwrap());
    }
    bench.transmit(&mut batch).unwrap();
    bench.sim.state().deliver(0, PLAIN, &[1; 60]);
    bench.sim.state().publish(0);
    assert_eq!(bench.receive().unwrap().drain(..).map(|packet| bench.pool.free(packet)).count(), 1);

    tell(&mut bench);

    let fault = Fault::from(expected);
    let first = bench.receive().err().or_else(|| bench.reap().err()).or_else(|| bench.service().err());
    assert_eq!(first, Some(fault));
    assert_eq!(bench.receive().err(), Some(fault));
    let mut batch = bench.one(&[0; 60]);
    assert_eq!(bench.transmit(&mut batch), Err(fault));
    bench.pool.free_all(&mut batch);
    assert_eq!(bench.reap(), Err(fault));
    assert_eq!(bench.arm(), Err(fault));
    bench.disarm();
    let quenched = bench.sim.state().isolated;
    if !quenched {
        let lent = SLOTS - free_buffers(&mut bench.pool);
        assert!(lent >= 256, "{lent} buffers are out of circulation until the reset");
    }
    assert_eq!(bench.service(), Err(fault), "resets it");
    assert!(bench.sim.is_quenched());
    bench.stop_and_count();
}

/// Has the device use the next receive buffer for `bytes`, and return it as `len` long.
fn answer(bench: &mut Bench, bytes: &[u8], len: u32) {
    let mut state = bench.sim.state();
    let chain = state.take(0).unwrap();
    state.write(&chain, bytes);
    state.put(0, chain.head.into(), len);
    state.publish(0);
}

/// The same with a header and a frame of 60 bytes in one buffer.
fn answer_with(bench: &mut Bench, mut header: [u8; HEADER]) {
    header[10] = 1;
    answer(bench, &header, HEADER as u32 + 60);
}

fn header(flags: u8, gso_type: u8, gso_size: u16, csum_start: u16, csum_offset: u16) -> [u8; HEADER] {
    let [a, b] = gso_size.to_le_bytes();
    let [c, d] = csum_start.to_le_bytes();
    let [e, f] = csum_offset.to_le_bytes();
    [flags, gso_type, 0, 0, a, b, c, d, e, f, 1, 0]
}

/// Returns `id` on a queue without having been lent it.
fn use_id(bench: &mut Bench, queue: usize, id: u32, len: u32) {
    let mut state = bench.sim.state();
    state.put(queue, id, len);
    state.publish(queue);
}

#[test]
fn used_id_out_of_range() {
    for id in [256, 257, 0x1_0000, u32::MAX] {
        for queue in [0, 1] {
            lie(everything(), Violation::UsedIdOutOfRange, |bench| use_id(bench, queue, id, 72));
        }
    }
}

#[test]
fn used_id_never_lent() {
    lie(everything(), Violation::UsedIdNotLent, |bench| use_id(bench, 1, 200, 0));
}

#[test]
fn used_id_replayed_in_one_burst() {
    lie(everything(), Violation::UsedIdNotLent, |bench| {
        let mut state = bench.sim.state();
        let chain = state.take(0).unwrap();
        state.write(&chain, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        state.put(0, chain.head.into(), 72);
        state.put(0, chain.head.into(), 72);
        state.publish(0);
    });
}

#[test]
fn used_id_replayed_later() {
    lie(everything(), Violation::UsedIdNotLent, |bench| {
        let chain = bench.sim.state().take(1).unwrap();
        use_id(bench, 1, chain.head.into(), 0);
        assert_eq!(bench.reap(), Ok(More::Yes));
        use_id(bench, 1, chain.head.into(), 0);
    });
}

#[test]
fn used_id_of_the_other_queue() {
    // All of the receive ring is lent, so its heads are no secret; on the transmit ring only eight are.
    lie(everything(), Violation::UsedIdNotLent, |bench| {
        let mut state = bench.sim.state();
        let chain = core::iter::from_fn(|| state.take(0)).find(|chain| chain.head >= 8).unwrap();
        state.put(1, chain.head.into(), 0);
        state.publish(1);
    });
}

#[test]
fn used_id_in_the_middle_of_a_chain() {
    lie(everything(), Violation::UsedIdNotLent, |bench| {
        let mut batch = bench.one(&[7; 9000]);
        bench.transmit(&mut batch).unwrap();
        let mut state = bench.sim.state();
        let chain = core::iter::from_fn(|| state.take(1)).find(|chain| chain.segments.len() > 1).unwrap();
        // Free descriptors are handed out in descending or ascending order; the neighbour is in the chain either way.
        state.put(1, u32::from(chain.head) + 1, 0);
        state.publish(1);
    });
}

#[test]
fn used_length_beyond_the_buffer() {
    for len in [2048, 1921, u32::MAX] {
        lie(everything(), Violation::UsedLengthBeyondBuffer, |bench| answer(bench, &PLAIN, len));
    }
}

#[test]
fn used_length_zero() {
    lie(everything(), Violation::RxLengthZero, |bench| answer(bench, &PLAIN, 0));
}

#[test]
fn used_length_shorter_than_the_header() {
    for len in [1, 11] {
        lie(everything(), Violation::RxShorterThanHeader, |bench| answer(bench, &PLAIN, len));
    }
}

#[test]
fn used_index_runs_away() {
    for queue in [0, 1] {
        lie(everything(), Violation::UsedIndexRunaway, |bench| {
            let mut state = bench.sim.state();
            let index = state.used(queue).wrapping_add(257);
            state.publish_index(queue, index);
        });
    }
}

#[test]
fn used_index_goes_backwards() {
    lie(everything(), Violation::UsedIndexBackwards, |bench| {
        let mut state = bench.sim.state();
        let index = state.used(0).wrapping_sub(1);
        state.publish_index(0, index);
    });
}

#[test]
fn used_index_moves_without_entries() {
    // The entries are what was in memory: all zero, which names descriptor 0.
    lie(everything(), Violation::UsedIdNotLent, |bench| {
        let mut state = bench.sim.state();
        let index = state.used(1).wrapping_add(2);
        state.publish_index(1, index);
    });
}

#[test]
fn num_buffers_zero() {
    lie(everything(), Violation::RxNumBuffersZero, |bench| answer(bench, &PLAIN, 72));
}

#[test]
fn num_buffers_beyond_what_came() {
    lie(everything(), Violation::RxNumBuffersBeyondUsed, |bench| {
        let mut header = PLAIN;
        header[10] = 3;
        answer(bench, &header, 1600);
        answer(bench, &[0; 64], 1600);
    });
}

#[test]
fn num_buffers_absurd() {
    for count in [43, 256, u16::MAX] {
        lie(everything(), Violation::RxNumBuffersAbsurd, |bench| {
            let mut header = PLAIN;
            header[10..].copy_from_slice(&count.to_le_bytes());
            answer(bench, &header, 1600);
        });
    }
}

#[test]
fn a_later_buffer_is_empty_or_too_long() {
    for (len, violation) in [(0, Violation::RxLengthZero), (3000, Violation::UsedLengthBeyondBuffer)] {
        lie(everything(), violation, |bench| {
            let mut header = PLAIN;
            header[10] = 2;
            let mut state = bench.sim.state();
            let (first, second) = (state.take(0).unwrap(), state.take(0).unwrap());
            state.write(&first, &header);
            state.put(0, first.head.into(), 1600);
            state.put(0, second.head.into(), len);
            state.publish(0);
        });
    }
}

#[test]
fn a_frame_longer_than_any() {
    lie(everything(), Violation::RxFrameTooLong, |bench| {
        let mut state = bench.sim.state();
        let chains: Vec<_> = (0..42).map(|_| state.take(0).unwrap()).collect();
        let mut header = PLAIN;
        header[10] = 42;
        state.write(&chains[0], &header);
        for chain in &chains {
            state.put(0, chain.head.into(), chain.segments[0].1);
        }
        state.publish(0);
    });
}

#[test]
fn checksum_starts_beyond_the_frame() {
    for start in [60, 1500, u16::MAX] {
        let header = header(NEEDS_CSUM, 0, 0, start, 0);
        lie(everything(), Violation::RxChecksumStartBeyondFrame, |bench| answer_with(bench, header));
    }
}

#[test]
fn checksum_field_beyond_the_frame() {
    for (start, offset) in [(34, 26), (34, 25), (59, 0), (0, 59), (0, u16::MAX)] {
        let header = header(NEEDS_CSUM, 0, 0, start, offset);
        lie(everything(), Violation::RxChecksumOffsetBeyondFrame, |bench| answer_with(bench, header));
    }
}

#[test]
fn checksum_offload_nobody_asked_for() {
    let features = everything() - F::GUEST_CSUM;
    for flags in [1, 2, 3] {
        let header = header(flags, 0, 0, 34, 16);
        lie(features, Violation::RxChecksumNotNegotiated, |bench| answer_with(bench, header));
    }
}

#[test]
fn segments_of_size_zero() {
    let header = header(NEEDS_CSUM, TCP4, 0, 34, 16);
    lie(everything(), Violation::RxGsoSizeZero, |bench| answer_with(bench, header));
}

#[test]
fn segmentation_of_an_unknown_kind() {
    for kind in [2, 6, 0x7f, 0x80, 0xff] {
        let header = header(NEEDS_CSUM, kind, 1400, 34, 16);
        lie(everything(), Violation::RxGsoUnknown, |bench| answer_with(bench, header));
    }
}

#[test]
fn segmentation_nobody_asked_for() {
    let without = everything() - F::GUEST_TSO4 - F::GUEST_ECN;
    for (features, kind) in [(without, TCP4), (without, 4 | 0x80), (everything(), 3), (everything(), 5)] {
        let header = header(NEEDS_CSUM, kind, 1400, 34, 16);
        lie(features, Violation::RxGsoNotNegotiated, |bench| answer_with(bench, header));
    }
}

#[test]
fn segmentation_without_a_checksum() {
    let header = header(0, TCP4, 1400, 34, 16);
    lie(everything(), Violation::RxGsoWithoutChecksum, |bench| answer_with(bench, header));
}

#[test]
fn asks_for_a_reset_in_mid_flight() {
    lie(everything(), Violation::NeedsReset, |bench| bench.sim.state().status |= 0x40);
}

#[test]
fn was_reset_in_mid_flight() {
    lie(everything(), Violation::ResetItself, |bench| bench.sim.state().status = 0);
}

#[test]
fn was_unplugged_in_mid_flight() {
    lie(everything(), Violation::Vanished, |bench| bench.sim.state().status = 0xff);
}

#[test]
fn frames_before_the_lie_are_kept() {
    let mut bench = Bench::new(everything());
    {
        let mut state = bench.sim.state();
        assert!(state.deliver(0, PLAIN, &[1; 100]) && state.deliver(0, PLAIN, &[2; 3000]));
        state.put(0, 999, 72);
        state.publish(0);
    }
    let mut batch = Batch::new();
    let Bench { cpu, queues, pool, .. } = &mut bench;
    let result = cpu.softint(|cx| queues[0].receive(cx, pool, &mut batch));
    assert_eq!(result, Err(Violation::UsedIdOutOfRange.into()));
    assert_eq!(batch.iter().map(Packet::len).collect::<Vec<_>>(), [100, 3000]);
    bench.pool.free_all(&mut batch);
    bench.stop_and_count();
}

#[test]
fn scribbling_over_what_the_driver_wrote_matters_to_nobody_else() {
    for with in [0, 0x5a, 0xff] {
        let mut bench = Bench::new(everything());
        let mut batch = Batch::new();
        for n in 0..8 {
            batch.push(bench.pool.alloc_from(&[n; 1400]).unwrap());
        }
        bench.transmit(&mut batch).unwrap();
        let sent: Vec<_> = core::iter::from_fn(|| bench.sim.state().take(1)).collect();
        bench.sim.state().scribble(1, with);
        for chain in sent {
            bench.sim.state().put(1, chain.head.into(), 0xdead);
        }
        bench.sim.state().publish(1);
        assert_eq!(bench.reap(), Ok(More::No));
        // The next descriptors are written whole.
        let mut batch = bench.one(&[0x77; 5000]);
        bench.transmit(&mut batch).unwrap();
        // The device spoiled its own view of the index; a new one finds the ring intact.
        let (_, header, frame) = bench.sim.state().collect(1).unwrap();
        assert_eq!((header, frame), (PLAIN, [0x77; 5000].into()));
        bench.stop_and_count();
    }
}

#[test]
fn buffers_stay_out_of_circulation_when_the_reset_is_not_confirmed() {
    let mut bench = Bench::new(everything());
    let mut batch = bench.one(&[1; 1400]);
    bench.transmit(&mut batch).unwrap();
    bench.sim.state().never_resets = true;
    use_id(&mut bench, 0, 500, 0);
    bench.receive().unwrap_err();
    assert!(bench.service().is_err());
    assert!(bench.sim.state().isolated);
    let lent = 256 + 1;
    assert!(bench.receive().is_err());
    assert_eq!(free_buffers(&mut bench.pool), SLOTS - lent);
    bench.queues.clear();
    drop(bench.device);
    assert_eq!(free_buffers(&mut bench.pool), SLOTS - lent);
    assert_eq!(bench.pool.arena().strays(), 0);
}

#[test]
fn a_violation_on_one_queue_takes_all_of_the_device_down() {
    let sim = Simulated::new(everything() | F::MQ, 2, 256);
    let mut bench = Bench::with(sim, &Options { queue_pairs: 2, ..Options::default() }).unwrap();
    use_id(&mut bench, 2, 300, 72);
    assert_eq!(bench.receive_on(1).err(), Some(Violation::UsedIdOutOfRange.into()));
    assert_eq!(bench.receive_on(0).err(), Some(Violation::UsedIdOutOfRange.into()));
    bench.stop_and_count();
}

#[test]
fn one_device_down_leaves_the_other_up() {
    let (mut bad, mut good) = (Bench::new(everything()), Bench::new(everything()));
    use_id(&mut bad, 0, 300, 72);
    bad.receive().unwrap_err();
    good.sim.state().deliver(0, PLAIN, &[9; 64]);
    good.sim.state().publish(0);
    let mut batch = good.receive().unwrap();
    assert_eq!(batch.len(), 1);
    good.pool.free_all(&mut batch);
    good.service().unwrap();
    bad.stop_and_count();
    good.stop_and_count();
}

mod chaos {
    use super::*;
    use proptest::prelude::*;

    /// One thing a mad device does.
    #[derive(Clone, Debug)]
    enum Move {
        Deliver { len: usize, header: [u8; HEADER] },
        Use { queue: usize, id: u32, len: u32 },
        Index { queue: usize, index: u16 },
        Scribble { queue: usize, with: u8 },
        Status(u8),
        Receive,
        Transmit(usize),
        Reap,
        Arm,
        Service,
    }

    fn moves() -> impl Strategy<Value = Move> {
        let header = prop_oneof![8 => Just(PLAIN), 1 => any::<[u8; HEADER]>()];
        let id = prop_oneof![0u32..256, any::<u32>()];
        prop_oneof![
            8 => (0usize..70_000, header).prop_map(|(len, header)| Move::Deliver { len, header }),
            1 => (0usize..3, id, 0u32..3000).prop_map(|(queue, id, len)| Move::Use { queue, id, len }),
            1 => (0usize..3, 0u16..600).prop_map(|(queue, index)| Move::Index { queue, index }),
            1 => (0usize..2, any::<u8>()).prop_map(|(queue, with)| Move::Scribble { queue, with }),
            1 => any::<u8>().prop_map(Move::Status),
            8 => Just(Move::Receive),
            4 => (0usize..20_000).prop_map(Move::Transmit),
            2 => Just(Move::Reap),
            2 => Just(Move::Arm),
            1 => Just(Move::Service),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Whatever a device does: no panic, and after the stop every buffer is back.
        #[test]
        fn no_madness_costs_a_buffer(script in prop::collection::vec(moves(), 1..60)) {
            let mut bench = Bench::new(everything());
            let mut spoiled = false;
            for step in script {
                let attached = bench.sim.state().queues[0].memory.is_some();
                match step {
                    Move::Deliver { len, header } if attached && !spoiled => {
                        let mut state = bench.sim.state();
                        state.deliver(0, header, &std::vec![0x5a; len]);
                        state.publish(0);
                    }
                    Move::Use { queue, id, len } if attached => use_id(&mut bench, queue, id, len),
                    Move::Index { queue, index } if attached => bench.sim.state().publish_index(queue, index),
                    Move::Scribble { queue, with } if attached => {
                        spoiled |= queue == 0;
                        bench.sim.state().scribble(queue, with);
                    }
                    Move::Status(status) => bench.sim.state().status = status,
                    Move::Transmit(len) => {
                        if let Some(packet) = bench.pool.alloc_from(&std::vec![0xa5; len]) {
                            let mut batch = Batch::new();
                            batch.push(packet);
                            let _ = bench.transmit(&mut batch);
                            bench.pool.free_all(&mut batch);
                        }
                    }
                    Move::Receive => {
                        if let Ok(mut batch) = bench.receive() {
                            bench.pool.free_all(&mut batch);
                        }
                    }
                    Move::Reap => drop(bench.reap()),
                    Move::Arm => drop(bench.arm()),
                    Move::Service => drop(bench.service()),
                    _ => {}
                }
            }
            bench.stop();
            let _ = bench.reap();
            let pool = &mut bench.pool;
            let strays = pool.arena().strays();
            prop_assert_eq!(free_buffers(pool), SLOTS, "{} strays", strays);
        }
    }
}
