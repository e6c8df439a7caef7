//! A device that behaves: what goes in comes out.

use super::*;
use weir_netif::{BATCH, Checksum, Gso, GsoKind, HEADROOM};

/// A small generator with a printed seed (xorshift64*, Marsaglia and Vigna).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

/// A frame that tells which it is: a piece of a fixed noise that begins at a place of its own.
fn frame(number: u64, len: usize) -> Vec<u8> {
    const PLACES: usize = 8191;
    static NOISE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let noise = NOISE.get_or_init(|| {
        let mut random = Random(0x5851_f42d_4c95_7f2d);
        (0..PLACES + 70_000).map(|_| random.below(256) as u8).collect()
    });
    noise[number as usize % PLACES..][..len].to_vec()
}

#[test]
fn receives_and_transmits_with_metadata() {
    let mut bench = Bench::new(everything());
    let frame = frame(1, 4000);
    let header = [1, 0x81, 0, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0];
    bench.sim.state().deliver(0, header, &frame);
    bench.sim.state().publish(0);
    let mut batch = bench.receive().unwrap();
    let meta = *batch[0].meta();
    assert_eq!(meta.checksum, Checksum::Partial { start: 34, offset: 16 });
    assert_eq!(meta.gso, Some(Gso { kind: GsoKind::Tcp4, size: 1448, ecn: true }));
    assert_eq!(bytes(&batch[0]), frame);
    assert!(batch[0].is_chain());
    // What was received can be sent as it is: same metadata, header length from the TCP data offset.
    let data_offset = usize::from(frame[34 + 12] >> 4) * 4;
    bench.transmit(&mut batch).unwrap();
    assert!(batch.is_empty());
    let (_, sent, bytes) = bench.sim.state().collect(1).unwrap();
    assert_eq!(sent, [1, 0x81, 34 + data_offset as u8, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0]);
    assert_eq!(bytes, frame);
    bench.stop_and_count();
}

#[test]
fn a_plain_frame_takes_one_descriptor() {
    let mut bench = Bench::new(everything());
    let mut batch = bench.one(&frame(1, 1514));
    bench.transmit(&mut batch).unwrap();
    let chain = bench.sim.state().take(1).unwrap();
    assert_eq!(chain.segments.len(), 1);
    assert_eq!(chain.segments[0].1 as usize, HEADER + 1514);
}

#[test]
fn a_packet_without_headroom_gets_its_header_in_front() {
    let mut bench = Bench::new(everything());
    let mut batch = bench.one(&frame(3, 100));
    while batch[0].push(1).is_some() {}
    let before = bytes(&batch[0]);
    assert!(before.len() >= 100 + HEADROOM);
    bench.transmit(&mut batch).unwrap();
    let (_, header, sent) = bench.sim.state().collect(1).unwrap();
    assert_eq!((header, sent), (PLAIN, before));
    bench.stop_and_count();
}

#[test]
fn empty_segments_are_not_lent() {
    let mut bench = Bench::new(everything());
    let mut batch = bench.one(&frame(4, 100));
    let (empty, tail) = (bench.pool.alloc().unwrap(), bench.pool.alloc_from(b"tail").unwrap());
    batch[0].append(empty);
    batch[0].append(tail);
    let expected = bytes(&batch[0]);
    bench.transmit(&mut batch).unwrap();
    let (chain, _, sent) = bench.sim.state().collect(1).unwrap();
    assert_eq!((chain.segments.len(), sent), (2, expected));
    bench.stop_and_count();
}

#[test]
fn what_the_device_cannot_do_stays_and_the_rest_goes() {
    let mut bench = Bench::new(everything() - F::CSUM);
    let mut batch = Batch::new();
    for n in 0..4 {
        batch.push(bench.pool.alloc_from(&frame(n, 80)).unwrap());
    }
    batch[1].meta_mut().checksum = Checksum::Partial { start: 34, offset: 16 };
    bench.transmit(&mut batch).unwrap();
    assert_eq!(batch.len(), 1);
    assert_eq!(bytes(&batch[0]), frame(1, 80), "unchanged");
    let sent: Vec<_> =
        core::iter::from_fn(|| bench.sim.state().collect(1)).map(|(.., bytes)| bytes).collect();
    assert_eq!(sent, [frame(0, 80), frame(2, 80), frame(3, 80)]);
    bench.pool.free_all(&mut batch);
    bench.stop_and_count();
}

#[test]
fn a_full_ring_keeps_the_rest_in_order() {
    let mut bench = Bench::new(everything());
    let mut sent = 0;
    loop {
        let mut batch = Batch::new();
        for n in sent..sent + 50 {
            batch.push(bench.pool.alloc_from(&frame(n, 80)).unwrap());
        }
        bench.transmit(&mut batch).unwrap();
        sent += 50 - batch.len() as u64;
        if let Some(packet) = batch.first() {
            assert_eq!(bytes(packet), frame(sent, 80));
            bench.pool.free_all(&mut batch);
            break;
        }
    }
    assert!((254..=256).contains(&sent), "{sent}");
    assert_eq!(bench.reap(), Ok(More::Yes));
    bench.stop_and_count();
}

#[test]
fn runts_are_the_wires_doing_and_go_up() {
    let mut bench = Bench::new(everything());
    for len in [0, 1, 13] {
        bench.sim.state().deliver(0, PLAIN, &frame(9, len));
    }
    bench.sim.state().publish(0);
    let mut batch = bench.receive().unwrap();
    assert_eq!(batch.iter().map(Packet::len).collect::<Vec<_>>(), [0, 1, 13]);
    bench.pool.free_all(&mut batch);
    bench.stop_and_count();
}

#[test]
fn num_buffers_means_nothing_without_merging() {
    let mut bench = Bench::new(everything() - F::MRG_RXBUF);
    let chain = bench.sim.state().take(0).unwrap();
    let mut header = PLAIN;
    header[10] = 9;
    bench.sim.state().write(&chain, &header);
    bench.sim.state().put(0, chain.head.into(), 72);
    bench.sim.state().publish(0);
    assert_eq!(bench.receive().unwrap().drain(..).map(|packet| bench.pool.free(packet)).count(), 1);
    bench.stop_and_count();
}

#[test]
fn a_dry_pool_is_made_up_for_by_reap() {
    let mut bench = Bench::new(everything());
    let hoard: Vec<_> = core::iter::from_fn(|| bench.pool.alloc()).collect();
    let mut received = 0;
    while bench.sim.state().deliver(0, PLAIN, &[0; 60]) {}
    bench.sim.state().publish(0);
    let mut kept = Vec::new();
    loop {
        let batch = bench.receive().unwrap();
        if batch.is_empty() {
            break;
        }
        received += batch.len();
        kept.extend(batch);
    }
    assert_eq!(received, 256);
    assert!(bench.sim.state().take(0).is_none(), "starved");
    assert_eq!(bench.arm(), Ok(More::Yes), "no interrupt can come, so polling goes on");
    kept.into_iter().chain(hoard).for_each(|packet| bench.pool.free(packet));
    let before = bench.sim.state().queues[0].notifications;
    assert_eq!(bench.reap(), Ok(More::No));
    assert_eq!(bench.sim.state().queues[0].notifications, before + 1);
    assert!(bench.sim.state().take(0).is_some());
    assert_eq!(bench.arm(), Ok(More::No));
    bench.stop_and_count();
}

#[test]
fn notifies_once_a_burst_and_not_at_all_while_the_device_is_busy() {
    for features in [everything(), everything() - F::EVENT_IDX] {
        let mut bench = Bench::new(features);
        let burst = |bench: &mut Bench| {
            let before = bench.sim.state().queues[1].notifications;
            let mut batch = Batch::new();
            for n in 0..BATCH as u64 {
                batch.push(bench.pool.alloc_from(&frame(n, 60)).unwrap());
            }
            bench.transmit(&mut batch).unwrap();
            bench.sim.state().queues[1].notifications - before
        };
        assert_eq!(burst(&mut bench), 1);
        bench.sim.state().suppress_notifications(1, 1);
        assert_eq!(burst(&mut bench), 0, "the device has not caught up");
        bench.sim.state().suppress_notifications(1, 0);
        while bench.sim.state().take(1).is_some() {}
        assert_eq!(burst(&mut bench), 1);
        bench.stop_and_count();
    }
}

#[test]
fn interrupts_only_while_armed_and_never_for_what_was_sent() {
    for features in [everything(), everything() - F::EVENT_IDX] {
        let mut bench = Bench::new(features);
        let deliver = |bench: &mut Bench| {
            let mut state = bench.sim.state();
            let before = state.queues[0].interrupts;
            state.deliver(0, PLAIN, &[0; 60]);
            state.publish(0);
            state.queues[0].interrupts - before
        };
        assert_eq!(deliver(&mut bench), 0, "not armed yet");
        assert_eq!(bench.arm(), Ok(More::Yes), "looks once more");
        let mut batch = bench.receive().unwrap();
        bench.pool.free_all(&mut batch);
        assert_eq!(bench.arm(), Ok(More::No));
        assert_eq!(deliver(&mut bench), 1);
        bench.disarm();
        let mut batch = bench.receive().unwrap();
        bench.pool.free_all(&mut batch);
        assert_eq!(deliver(&mut bench), 0);
        let mut batch = bench.one(&[0; 60]);
        bench.transmit(&mut batch).unwrap();
        let chain = bench.sim.state().take(1).unwrap();
        bench.sim.state().put(1, chain.head.into(), 0);
        bench.sim.state().publish(1);
        assert_eq!(bench.sim.state().queues[1].interrupts, 0);
        bench.stop_and_count();
    }
}

/// Frames of all sizes through the device and back, in bursts of all sizes, checked byte by byte.
fn traffic(features: F, frames: u64, longest: usize, seed: u64) {
    std::println!("seed {seed:#x}");
    let mut random = Random(seed);
    let mut bench = Bench::new(features);
    let (mut delivered, mut received, mut sent) = (0, 0, 0);
    let mut lens = std::collections::VecDeque::new();
    let mut held: Vec<u16> = Vec::new();
    while sent < frames {
        for _ in 0..random.below(100) {
            let len = if random.below(8) == 0 { random.below(longest) } else { random.below(200) };
            if delivered == frames || !bench.sim.state().deliver(0, PLAIN, &frame(delivered, len)) {
                break;
            }
            lens.push_back(len);
            delivered += 1;
        }
        bench.sim.state().publish(0);
        // What is received goes out again.
        let mut batch = bench.receive().unwrap();
        for packet in &batch {
            assert_eq!(packet.len(), lens[(received - sent) as usize]);
            received += 1;
        }
        while !batch.is_empty() {
            bench.transmit(&mut batch).unwrap();
            for _ in 0..random.below(BATCH) + 1 {
                let Some((chain, header, bytes)) = bench.sim.state().collect(1) else { break };
                assert_eq!(
                    (header, &bytes),
                    (PLAIN, &frame(sent, lens.pop_front().unwrap())),
                    "frame {sent}"
                );
                sent += 1;
                held.push(chain.head);
            }
            // The device returns buffers in any order.
            for _ in 0..random.below(held.len() + 1) {
                let head = held.swap_remove(random.below(held.len()));
                bench.sim.state().put(1, head.into(), 0);
            }
            bench.sim.state().publish(1);
        }
        while let Some((chain, _, bytes)) = bench.sim.state().collect(1) {
            assert_eq!(bytes, frame(sent, lens.pop_front().unwrap()), "frame {sent}");
            sent += 1;
            held.push(chain.head);
        }
    }
    bench.stop_and_count();
}

// A million frames between the two.

#[test]
fn frames_arrive_unchanged_with_event_indices() {
    traffic(everything() - F::MRG_RXBUF, 500_000, 1500, 0x9e37_79b9_7f4a_7c15);
}

#[test]
fn frames_arrive_unchanged_with_flags() {
    traffic(everything() - F::EVENT_IDX, 500_000, 1500, 0xdead_beef_cafe_f00d);
}

#[test]
fn chains_arrive_unchanged() {
    traffic(everything(), 20_000, 65_550, 0x0123_4567_89ab_cdef);
}

#[test]
fn the_rings_wrap_at_every_place() {
    // More buffers than 65536 on every size, so both indices come around at least once.
    for size in [64, 128, 1024] {
        let mut bench = Bench::with(Simulated::new(everything(), 1, size), &Options::default()).unwrap();
        for number in 0..70_000_u64 {
            bench.sim.state().deliver(0, PLAIN, &number.to_le_bytes());
            bench.sim.state().publish(0);
            let mut batch = bench.receive().unwrap();
            assert_eq!(bytes(&batch[0]), number.to_le_bytes());
            bench.pool.free_all(&mut batch);
        }
        assert_eq!(bench.sim.state().used(0), (70_000 % 65_536) as u16);
        bench.stop_and_count();
    }
}

/// A device on another thread: no frame may be forgotten when driver and device both go to sleep.
#[test]
fn no_wakeup_is_lost_between_two_threads() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    for features in [everything(), everything() - F::EVENT_IDX] {
        let mut bench = Bench::new(features);
        let sim = bench.sim.clone();
        let taken = std::sync::Arc::new(AtomicUsize::new(0));
        let progress = taken.clone();
        const FRAMES: usize = 30_000;
        let device = std::thread::spawn(move || {
            for number in 0..FRAMES {
                // One frame at a time: it must be noticed by the interrupt it raises, or by the look after arming.
                while progress.load(Ordering::Acquire) + 1 < number {
                    std::thread::yield_now();
                }
                let mut state = sim.state();
                assert!(state.deliver(0, PLAIN, &[0; 60]));
                state.publish(0);
            }
        });
        let mut seen_interrupts = 0;
        let mut deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while taken.load(Ordering::Acquire) < FRAMES {
            let mut batch = bench.receive().unwrap();
            if !batch.is_empty() {
                taken.fetch_add(batch.len(), Ordering::AcqRel);
                bench.pool.free_all(&mut batch);
                deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
                continue;
            }
            if bench.arm().unwrap() == More::Yes {
                continue;
            }
            loop {
                let interrupts = bench.sim.state().queues[0].interrupts;
                if interrupts != seen_interrupts {
                    seen_interrupts = interrupts;
                    break;
                }
                assert!(std::time::Instant::now() < deadline, "asleep with a frame in the ring");
                std::thread::yield_now();
            }
            bench.disarm();
        }
        device.join().unwrap();
        bench.stop_and_count();
    }
}

#[test]
fn a_queue_that_is_dropped_after_the_stop_gives_its_buffers_back_as_strays() {
    let mut bench = Bench::new(everything());
    bench.stop();
    bench.queues.clear();
    assert_eq!(bench.pool.arena().strays(), 256);
    assert_eq!(free_buffers(&mut bench.pool), SLOTS);
}
