//! A backend that behaves: what goes in comes out.

use super::*;
use crate::headers::Family;
use crate::headers::tests::frame as tcp_or_udp;
use crate::simulated::Sent;
use crate::wire::{Extra, GSO_TCP4, GSO_TCP6, rx, status, tx};
use weir_machine::xen::DomId;
use weir_netif::{BATCH, Checksum, Drop as Reason, Gso, GsoKind, MIN_CAPACITY};

/// A small generator with a printed seed (xorshift64*, Marsaglia and Vigna).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

/// A frame that tells which it is: a piece of a fixed noise that begins at a place of its own.
pub(super) fn frame(number: u64, len: usize) -> Vec<u8> {
    const PLACES: usize = 8191;
    static NOISE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let noise = NOISE.get_or_init(|| {
        let mut random = Random(0x5851_f42d_4c95_7f2d);
        (0..PLACES + 70_000).map(|_| random.below(256) as u8).collect()
    });
    noise[number as usize % PLACES..][..len].to_vec()
}

/// Has a frame arrive, and takes it.
pub(super) fn arrive(bench: &mut Bench, frame: &[u8], flags: u16, gso: Option<Extra>) -> Batch {
    assert!(bench.backend().deliver(0, frame, flags, gso));
    bench.backend().publish_rx(0);
    bench.receive().unwrap()
}

#[test]
fn frames_of_every_length_arrive_and_leave_unchanged() {
    for bench in Bench::all() {
        let mut bench = bench;
        for len in [14, 60, 64, 1514, 1599, 1600, 1601, 1920, 2048, 4095, 4096, 4097, 9014, 33_000, 65_535] {
            let frame = frame(len as u64, len);
            let mut batch = arrive(&mut bench, &frame, 0, None);
            assert_eq!(bytes(&batch[0]), frame);
            assert!(batch[0].data().len() >= len.min(MIN_CAPACITY), "headers lie in the first segment");
            assert_eq!(batch[0].meta().checksum, Checksum::Unknown);
            let sent = bench.sent(&mut batch);
            assert!(batch.is_empty());
            assert_eq!((sent.bytes.len(), sent.requests[0].size as usize, sent.flags()), (len, len, 0));
            assert_eq!(sent.bytes, frame);
        }
        bench.stop_and_count();
    }
}

#[test]
fn headers_are_in_the_first_segment_however_the_backend_cuts() {
    for bench in Bench::all() {
        let mut bench = bench;
        let frame = frame(3, 5000);
        for piece in [1000, 300, 1599, 1600, 2049] {
            assert!(bench.backend().deliver_in(0, &frame, piece, 96, 0, None));
            bench.backend().publish_rx(0);
            let mut batch = bench.receive().unwrap();
            assert_eq!(bytes(&batch[0]), frame);
            assert!(batch[0].data().len() >= MIN_CAPACITY);
            bench.pool.free_all(&mut batch);
        }
        bench.stop_and_count();
    }
}

#[test]
fn a_packet_of_a_trusted_vif_goes_from_where_it_lies() {
    let mut bench = Bench::new();
    let mut batch = bench.one(&frame(1, 1514));
    let addr = batch[0].data().as_ptr() as u64;
    let sent = bench.sent(&mut batch);
    assert_eq!(sent.requests.len(), 1);
    let (page, _) = bench.sim.table.resolve(sent.requests[0].reference, DomId(0)).unwrap();
    assert_eq!(page + u64::from(sent.requests[0].offset), addr);
    bench.stop_and_count();
}

#[test]
fn a_packet_of_another_domain_or_an_untrusted_vif_goes_as_a_copy() {
    let copied = |bench: &mut Bench| {
        let mut batch = bench.one(&frame(1, 1514));
        let memory = bench.pool.arena().memory();
        let sent = bench.sent(&mut batch);
        assert_eq!(sent.bytes, frame(1, 1514));
        let me = bench.backend().me;
        let (page, writable) = bench.sim.table.resolve(sent.requests[0].reference, me).unwrap();
        assert!(!memory.contains(&(page as usize)) && !writable);
    };
    // Lent to domain 0, which serves another vif.
    let (store, peer) = weir_machine::xen::store::Store::simulated();
    let table = weir_machine::xen::grant::Table::simulated(8);
    let pool = Pool::new(arena(SLOTS));
    let own = Simulated::of(store, peer.clone(), table, 0, DomId(0));
    let lent = lend(&own, pool.arena());
    let other = Simulated::of(store, peer, table, 1, DomId(3));
    let xen = Xen { store, grants: table, arena: pool.arena(), lent: Some(lent) };
    let mut bench = Bench::attach(other, xen, pool, &PATIENCE).unwrap();
    copied(&mut bench);
    bench.stop_and_count();
    // Of domain 0, but not trusted.
    let sim = Simulated::new();
    sim.peer.write(&std::format!("{}/trusted", sim.front), "0");
    let mut bench = Bench::with(sim, Trust::Arena, &PATIENCE).unwrap();
    copied(&mut bench);
    bench.stop_and_count();
}

#[test]
fn memory_that_is_not_lent_is_copied() {
    let sim = Simulated::new();
    let pool = Pool::new(arena(SLOTS));
    let memory = pool.arena().memory();
    let half = Lent::new(sim.table, DomId(0), memory.start as u64, memory.len() as u64 / 2);
    let xen = Xen {
        store: sim.store,
        grants: sim.table,
        arena: pool.arena(),
        lent: Some(Box::leak(Box::new(half))),
    };
    let mut bench = Bench::attach(sim, xen, pool, &PATIENCE).unwrap();
    let mut packets: Vec<Packet> = core::iter::from_fn(|| bench.pool.alloc()).collect();
    packets.iter_mut().for_each(|packet| assert!(packet.extend(&frame(8, 200))));
    for packet in packets {
        let mut batch = Batch::new();
        batch.push(packet);
        assert_eq!(bench.sent(&mut batch).bytes, frame(8, 200));
    }
    bench.stop_and_count();
}

#[test]
fn checksums_arrive_with_their_place() {
    let mut bench = Bench::new();
    for family in [Family::V4, Family::V6] {
        for (is_tcp, offset) in [(true, 16), (false, 6)] {
            for tags in 0..3 {
                let frame = tcp_or_udp(family, is_tcp, tags, b"some payload");
                let start = 14 + 4 * tags as u16 + if family == Family::V4 { 20 } else { 40 };
                let mut batch = arrive(&mut bench, &frame, rx::CHECKSUM_BLANK | rx::DATA_VALIDATED, None);
                assert_eq!(batch[0].meta().checksum, Checksum::Partial { start, offset });
                bench.pool.free_all(&mut batch);
                let mut batch = arrive(&mut bench, &frame, rx::DATA_VALIDATED, None);
                assert_eq!(batch[0].meta().checksum, Checksum::Verified);
                bench.pool.free_all(&mut batch);
            }
        }
    }
    // A blank checksum in what has none: nobody could finish it.
    let mut other = tcp_or_udp(Family::V4, true, 0, b"x");
    other[23] = 132;
    assert!(arrive(&mut bench, &other, rx::CHECKSUM_BLANK, None).is_empty());
    assert_eq!(bench.drops(), [(Reason::OffloadMalformed, 1)]);
    assert_eq!(bench.drops(), []);
    bench.stop_and_count();
}

#[test]
fn super_packets_arrive_and_leave_with_their_size() {
    for bench in Bench::all() {
        let mut bench = bench;
        let kinds = [(Family::V4, GSO_TCP4, GsoKind::Tcp4), (Family::V6, GSO_TCP6, GsoKind::Tcp6)];
        for ((family, wire, kind), len) in kinds.into_iter().flat_map(|kind| [(kind, 5000), (kind, 60_000)]) {
            let frame = tcp_or_udp(family, true, 0, &frame(7, len));
            let gso = Extra::gso(wire, 1448);
            let mut batch = arrive(&mut bench, &frame, rx::CHECKSUM_BLANK | rx::DATA_VALIDATED, Some(gso));
            let meta = *batch[0].meta();
            assert_eq!(meta.gso, Some(Gso { kind, size: 1448, ecn: false }));
            assert!(matches!(meta.checksum, Checksum::Partial { offset: 16, .. }));
            assert_eq!(bytes(&batch[0]), frame);
            let sent = bench.sent(&mut batch);
            assert!(batch.is_empty());
            assert_eq!((sent.flags(), sent.extras), (tx::CHECKSUM_BLANK | tx::DATA_VALIDATED, [gso].into()));
            assert_eq!(sent.bytes, frame);
        }
        assert_eq!(bench.reap(), Ok(More::No), "null responses are counted");
        bench.stop_and_count();
    }
}

#[test]
fn a_super_packet_whose_backend_forgot_the_blank_checksum_is_mended() {
    let mut bench = Bench::new();
    for (family, wire) in [(Family::V4, GSO_TCP4), (Family::V6, GSO_TCP6)] {
        let good = tcp_or_udp(family, true, 0, &frame(7, 5000));
        let start = good.len() - 5000 - 20;
        let mut frame = good.clone();
        frame[start + 16..start + 18].fill(0x77);
        frame[start + 13] |= 0x80;
        let mut batch = arrive(&mut bench, &frame, 0, Some(Extra::gso(wire, 1400)));
        assert!(matches!(batch[0].meta().checksum, Checksum::Partial { offset: 16, .. }));
        assert!(batch[0].meta().gso.unwrap().ecn, "CWR");
        assert_eq!(bytes(&batch[0])[start + 16..start + 18], good[start + 16..start + 18]);
        bench.pool.free_all(&mut batch);
    }
    bench.stop_and_count();
}

#[test]
fn a_super_packet_of_another_kind_than_its_headers_is_dropped() {
    let mut bench = Bench::new();
    let frame = tcp_or_udp(Family::V4, true, 0, &frame(7, 5000));
    assert!(arrive(&mut bench, &frame, rx::CHECKSUM_BLANK, Some(Extra::gso(GSO_TCP6, 1400))).is_empty());
    assert_eq!(bench.drops(), [(Reason::OffloadMalformed, 1)]);
    bench.stop_and_count();
}

/// The checksum over a frame from `start` on, which is zero if it is right (RFC 1071), given the pseudo-header's sum.
fn is_right(sent: &Sent, start: usize, pseudo: u16) -> bool {
    let mut sum = crate::headers::Sum::default();
    sum.add(&pseudo.to_be_bytes());
    sum.add(&sent.bytes[start..]);
    sum.folded() == 0xffff
}

#[test]
fn checksums_leave_blank_where_the_backend_finds_them_and_finished_elsewhere() {
    for (offer, family, tags, blank) in [
        ("1", Family::V4, 0, true),
        ("1", Family::V6, 0, true),
        ("0", Family::V6, 0, false),
        ("1", Family::V4, 1, false),
    ] {
        let sim = Simulated::new();
        sim.offer("feature-ipv6-csum-offload", offer);
        let mut bench = Bench::with(sim, Trust::Arena, &PATIENCE).unwrap();
        for (is_tcp, payload) in [(true, 1), (false, 100), (true, 4001)] {
            let frame = tcp_or_udp(family, is_tcp, tags, &frame(5, payload));
            let found = crate::headers::Transport::find(&frame).unwrap();
            let (start, offset) = (found.start, found.offset);
            let pseudo = found.pseudo_header(&frame).unwrap();
            let mut batch = bench.one(&frame);
            batch[0].meta_mut().checksum = Checksum::Partial { start: start as u16, offset: offset as u16 };
            let sent = bench.sent(&mut batch);
            if blank {
                assert_eq!((sent.flags(), sent.bytes), (tx::CHECKSUM_BLANK | tx::DATA_VALIDATED, frame));
            } else {
                assert_eq!(sent.flags(), 0);
                assert!(is_right(&sent, start, pseudo), "{family:?} {payload}");
            }
        }
        let mut batch = bench.one(&frame(9, 100));
        batch[0].meta_mut().checksum = Checksum::Verified;
        assert_eq!(bench.sent(&mut batch).flags(), tx::DATA_VALIDATED);
        // Not TCP or UDP: the sum is finished wherever it is owed.
        let mut batch = bench.one(&[0x5a; 101]);
        batch[0].meta_mut().checksum = Checksum::Partial { start: 33, offset: 8 };
        let sent = bench.sent(&mut batch);
        assert!(is_right(&sent, 33, 0x5a5a));
        bench.stop_and_count();
    }
}

#[test]
fn what_the_backend_cannot_do_stays_and_the_rest_goes() {
    let sim = Simulated::new();
    sim.offer("feature-gso-tcpv6", "0");
    let mut bench = Bench::with(sim, Trust::Arena, &PATIENCE).unwrap();
    let mut batch = Batch::new();
    for n in 0..6 {
        let payload = frame(n, 4000);
        batch.push(bench.pool.alloc_from(&tcp_or_udp(Family::V6, true, 0, &payload)).unwrap());
        let meta = batch[n as usize].meta_mut();
        meta.checksum = Checksum::Partial { start: 54, offset: 16 };
    }
    batch[1].meta_mut().gso = Some(Gso { kind: GsoKind::Tcp6, size: 1400, ecn: false });
    // Its headers are not what it says.
    batch[4].meta_mut().gso = Some(Gso { kind: GsoKind::Tcp4, size: 1400, ecn: false });
    let too_long = bench.pool.alloc_from(&frame(1, 65_536)).unwrap();
    batch.push(too_long);
    batch.push(bench.pool.alloc_from(&[0; 13]).unwrap());
    bench.transmit(&mut batch).unwrap();
    assert_eq!(batch.iter().map(Packet::len).collect::<Vec<_>>(), [4074, 4074, 65_536, 13]);
    let sent: Vec<Sent> = core::iter::from_fn(|| bench.sim.state().collect(0)).collect();
    assert_eq!(sent.len(), 4);
    bench.pool.free_all(&mut batch);
    bench.stop_and_count();
}

#[test]
fn a_packet_of_many_segments_is_linearised() {
    let mut bench = Bench::new();
    let mut batch = bench.one(&frame(0, 60));
    let mut whole = frame(0, 60);
    for n in 1..30 {
        let piece = frame(n, 100 + n as usize);
        let packet = bench.pool.alloc_from(&piece).unwrap();
        batch[0].append(packet);
        whole.extend(piece);
        let sent = bench.pool.alloc_from(&[]).unwrap();
        batch[0].append(sent);
    }
    let sent = bench.sent(&mut batch);
    assert_eq!((sent.requests.len(), &sent.bytes), (1, &whole));
    // 18 as they lie.
    let mut batch = bench.one(&frame(0, 60));
    for n in 1..18 {
        let packet = bench.pool.alloc_from(&frame(n, 100)).unwrap();
        batch[0].append(packet);
    }
    let sent = bench.sent(&mut batch);
    assert_eq!((sent.requests.len(), sent.bytes.len()), (18, 60 + 1700));
    // A first segment without a whole Ethernet header.
    let mut batch = bench.one(&frame(0, 10));
    let packet = bench.pool.alloc_from(&frame(1, 100)).unwrap();
    batch[0].append(packet);
    assert_eq!(bench.sent(&mut batch).requests.len(), 1);
    bench.stop_and_count();
}

#[test]
fn without_chains_one_request_must_do() {
    let sim = Simulated::new();
    sim.offer("feature-sg", "0");
    let mut bench = Bench::with(sim, Trust::Copies, &PATIENCE).unwrap();
    assert!(!bench.device.info().offloads.contains(weir_netif::Offloads::TX_TCP4));
    let mut batch = bench.one(&frame(0, 4096));
    assert_eq!(bench.sent(&mut batch).requests.len(), 1);
    let mut batch = bench.one(&frame(0, 4097));
    bench.transmit(&mut batch).unwrap();
    assert_eq!(batch.len(), 1);
    bench.pool.free_all(&mut batch);
    bench.stop_and_count();
}

#[test]
fn a_full_ring_keeps_the_rest_in_order() {
    for bench in [Bench::new(), Bench::copying()] {
        let mut bench = bench;
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
        assert_eq!(sent, 256);
        assert_eq!(bench.reap(), Ok(More::Yes));
        // A queue without room wants to hear when half of it has come back.
        let all: Vec<Sent> = core::iter::from_fn(|| bench.sim.state().collect(0)).collect();
        let fired = |bench: &Bench| bench.backend().queues[0].tx_events.is_pending();
        let masked = |bench: &Bench| bench.backend().queues[0].tx_events.is_masked();
        assert!(!masked(&bench));
        for (nth, packet) in all.iter().enumerate() {
            bench.backend().finish(0, packet, status::OKAY);
            bench.backend().publish_tx(0);
            assert_eq!(fired(&bench) || masked(&bench), nth >= 127, "{nth}");
        }
        // The event is served as any: the responses are taken with it.
        assert!(bench.receive().unwrap().is_empty());
        assert_eq!(bench.reap(), Ok(More::No));
        bench.stop_and_count();
    }
}

#[test]
fn a_dry_pool_drops_by_name_and_never_stalls() {
    let mut bench = Bench::new();
    let hoard: Vec<Packet> = core::iter::from_fn(|| bench.pool.alloc()).collect();
    for round in 0..600u32 {
        assert!(arrive(&mut bench, &frame(1, 1 + round as usize % 9000), 0, None).is_empty());
    }
    assert_eq!(bench.drops(), [(Reason::NoBuffer, 600)]);
    assert_eq!(bench.backend().rx_available(0), 256, "every page is back in the ring");
    assert_eq!(bench.arm(), Ok(More::No));
    let mut hoard = hoard.into_iter();
    hoard.by_ref().take(3).for_each(|packet| bench.pool.free(packet));
    // Dry in its middle.
    assert!(arrive(&mut bench, &frame(1, 9000), 0, None).is_empty());
    assert_eq!(bench.drops(), [(Reason::NoBuffer, 1)]);
    let mut batch = arrive(&mut bench, &frame(2, 4000), 0, None);
    assert_eq!(bytes(&batch[0]), frame(2, 4000));
    bench.pool.free_all(&mut batch);
    hoard.for_each(|packet| bench.pool.free(packet));
    bench.stop_and_count();
}

#[test]
fn what_the_backend_refuses_is_counted() {
    let mut bench = Bench::new();
    for (answer, len) in
        [(status::OKAY, 100), (status::ERROR, 5000), (status::DROPPED, 100), (status::DROPPED, 60_000)]
    {
        let mut batch = bench.one(&frame(1, len));
        bench.transmit(&mut batch).unwrap();
        let sent = bench.backend().collect(0).unwrap();
        bench.backend().finish(0, &sent, answer);
        bench.backend().publish_tx(0);
        assert_eq!(bench.reap(), Ok(More::No));
    }
    assert_eq!(bench.drops(), [(Reason::DeviceRefused, 3)]);
    // A frame it could not copy.
    let request = bench.backend().take_rx(0).unwrap();
    let response = crate::wire::RxResponse { id: request.id, offset: 0, flags: 0, status: status::ERROR };
    bench.backend().put_rx(0, response.to_words());
    bench.backend().publish_rx(0);
    assert!(bench.receive().unwrap().is_empty());
    assert_eq!(bench.drops(), [(Reason::DeviceRefused, 1)]);
    bench.stop_and_count();
}

#[test]
fn a_batch_takes_no_more_than_it_holds() {
    let mut bench = Bench::new();
    for n in 0..100 {
        assert!(bench.backend().deliver(0, &frame(n, 60), 0, None));
    }
    bench.backend().publish_rx(0);
    let (mut first, mut second) = (Batch::new(), Batch::new());
    for (batch, more) in [(&mut first, More::Yes), (&mut second, More::No)] {
        let Bench { cpu, queues, pool, .. } = &mut bench;
        assert_eq!(cpu.softint(|cx| queues[0].receive(cx, pool, batch)), Ok(more));
    }
    assert_eq!((first.len(), second.len()), (BATCH, 100 - BATCH));
    bench.pool.free_all(&mut first);
    bench.pool.free_all(&mut second);
    bench.stop_and_count();
}

#[test]
fn every_queue_works_and_its_own_events_come_to_its_cpu() {
    for split in ["1", "0"] {
        let sim = Simulated::new();
        sim.offer("feature-split-event-channels", split);
        let options = Options { queue_pairs: 3, ..PATIENCE };
        let mut bench = Bench::with(sim, Trust::Arena, &options).unwrap();
        for queue in 0..3 {
            assert!(bench.backend().deliver(queue, &frame(queue as u64, 100), 0, None));
            assert!(!bench.backend().queues[queue].rx_events.is_masked());
            bench.backend().publish_rx(queue);
            assert!(bench.backend().queues[queue].rx_events.is_masked(), "fired, and masked itself");
            let mut batch = bench.receive_on(queue).unwrap();
            assert_eq!(bytes(&batch[0]), frame(queue as u64, 100));
            let before = bench.backend().queues[queue].tx_events.notifications();
            bench.transmit_on(queue, &mut batch).unwrap();
            assert_eq!(bench.backend().queues[queue].tx_events.notifications(), before + 1);
            assert_eq!(bench.backend().collect(queue).unwrap().bytes, frame(queue as u64, 100));
            assert_eq!(bench.arm_on(queue), Ok(More::No));
        }
        bench.stop_and_count();
    }
}

#[test]
fn an_event_comes_only_while_armed_and_what_came_before_is_seen() {
    let mut bench = Bench::new();
    let deliver = |bench: &Bench| {
        let mut backend = bench.sim.state();
        assert!(backend.deliver(0, &[0; 60], 0, None));
        backend.publish_rx(0);
    };
    let masked = |bench: &Bench| bench.backend().queues[0].rx_events.is_masked();
    let pending = |bench: &Bench| bench.backend().queues[0].rx_events.is_pending();
    deliver(&bench);
    assert!(masked(&bench));
    deliver(&bench);
    assert!(!pending(&bench), "no event is asked for while polling");
    let mut batch = bench.receive().unwrap();
    assert_eq!(batch.len(), 2);
    bench.pool.free_all(&mut batch);
    deliver(&bench);
    assert_eq!(bench.arm(), Ok(More::Yes), "looks once more");
    assert!(masked(&bench));
    let mut batch = bench.receive().unwrap();
    bench.pool.free_all(&mut batch);
    assert_eq!(bench.arm(), Ok(More::No));
    assert!(!masked(&bench));
    bench.stop_and_count();
}

#[test]
fn notifies_once_a_burst_and_not_at_all_while_the_backend_is_busy() {
    let mut bench = Bench::new();
    let burst = |bench: &mut Bench| {
        let before = bench.backend().queues[0].tx_events.notifications();
        let mut batch = Batch::new();
        for n in 0..BATCH as u64 {
            batch.push(bench.pool.alloc_from(&frame(n, 60)).unwrap());
        }
        bench.transmit(&mut batch).unwrap();
        bench.backend().queues[0].tx_events.notifications() - before
    };
    assert_eq!(burst(&mut bench), 1);
    assert_eq!(burst(&mut bench), 0, "the backend has not caught up");
    while bench.sim.state().collect(0).is_some() {}
    assert_eq!(burst(&mut bench), 1);
    bench.stop_and_count();
}

/// Frames of all sizes through the vif and back, in bursts of all sizes, checked byte by byte.
fn traffic(trust: Trust, frames: u64, longest: usize, seed: u64) {
    std::println!("seed {seed:#x}");
    let mut random = Random(seed);
    let mut bench = Bench::with(Simulated::new(), trust, &PATIENCE).unwrap();
    let (mut delivered, mut received, mut sent) = (0, 0, 0);
    let mut lens = std::collections::VecDeque::new();
    let mut held: Vec<u16> = Vec::new();
    while sent < frames {
        for _ in 0..random.below(60) {
            let len = 14 + if random.below(8) == 0 { random.below(longest) } else { random.below(200) };
            if delivered == frames || !bench.backend().deliver(0, &frame(delivered, len), 0, None) {
                break;
            }
            lens.push_back(len);
            delivered += 1;
        }
        bench.backend().publish_rx(0);
        // What is received goes out again.
        let mut batch = bench.receive().unwrap();
        for packet in &batch {
            assert_eq!(packet.len(), lens[(received - sent) as usize]);
            received += 1;
        }
        loop {
            bench.transmit(&mut batch).unwrap();
            let mut backend = bench.sim.state();
            while let Some(packet) = backend.collect(0) {
                assert_eq!(packet.bytes, frame(sent, lens.pop_front().unwrap()), "frame {sent}");
                sent += 1;
                held.extend(packet.requests.iter().map(|request| request.id));
            }
            // The backend answers in any order.
            let answers = if batch.is_empty() { random.below(held.len() + 1) } else { held.len() };
            for _ in 0..answers {
                let id = held.swap_remove(random.below(held.len()));
                backend.put_tx(0, id, status::OKAY);
            }
            backend.publish_tx(0);
            if batch.is_empty() {
                break;
            }
        }
        assert!(bench.drops().is_empty());
    }
    bench.stop_and_count();
}

#[test]
fn frames_of_a_trusted_vif_stay_as_they_are() {
    traffic(Trust::Pages, 100_000, 1500, 0x7f4a_7c15_9e37_79b9);
    traffic(Trust::Arena, 100_000, 1500, 0x9e37_79b9_7f4a_7c15);
}

#[test]
fn frames_that_are_copied_stay_as_they_are() {
    traffic(Trust::Copies, 100_000, 1500, 0xdead_beef_cafe_f00d);
}

#[test]
fn chains_stay_as_they_are() {
    traffic(Trust::Pages, 5_000, 60_000, 0x89ab_cdef_0123_4567);
    traffic(Trust::Arena, 5_000, 60_000, 0x0123_4567_89ab_cdef);
    traffic(Trust::Copies, 5_000, 60_000, 0xfedc_ba98_7654_3210);
}
