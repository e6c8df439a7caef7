//! Frames that the backend writes into the arena: they are packets where they lie.

use super::traffic::{arrive, frame};
use super::*;
use crate::headers::Family;
use crate::headers::tests::frame as tcp_or_udp;
use crate::stock::Buffers;
use crate::wire::{Extra, GSO_TCP4, RxResponse, SLOTS_MAX, rx, status};
use crate::xenbus::State;
use weir_machine::xen::DomId;
use weir_netif::{Checksum, Drop as Reason, Gso, GsoKind, MIN_CAPACITY};

/// Requests that the ring of a test's first queue has.
const RING: u32 = 256;

/// The page that the next frame is written to.
fn next_page(bench: &Bench) -> u64 {
    let mut backend = bench.sim.state();
    let before = backend.queues[0].rx;
    let request = backend.take_rx(0).unwrap();
    backend.queues[0].rx = before;
    bench.sim.table.resolve(request.reference, DomId(0)).unwrap().0
}

fn places(packet: &Packet) -> Vec<(u64, usize)> {
    packet.segments().map(|bytes| (bytes.as_ptr() as u64, bytes.len())).collect()
}

#[test]
fn a_frame_is_a_packet_where_the_backend_wrote_it() {
    let mut bench = Bench::zero_copy();
    for len in [257, 1514, 4096] {
        let page = next_page(&bench);
        let mut batch = arrive(&mut bench, &frame(1, len), rx::DATA_VALIDATED, None);
        assert_eq!(places(&batch[0]), [(page, len)]);
        assert_eq!((bytes(&batch[0]), batch[0].meta().checksum), (frame(1, len), Checksum::Verified));
        bench.pool.free_all(&mut batch);
    }
    // From somewhere else than the page's first byte.
    let page = next_page(&bench);
    assert!(bench.backend().deliver_in(0, &frame(2, 1000), 4096, 96, 0, None));
    bench.backend().publish_rx(0);
    let mut batch = bench.receive().unwrap();
    assert_eq!((places(&batch[0]), bytes(&batch[0])), ([(page + 96, 1000)].into(), frame(2, 1000)));
    bench.pool.free_all(&mut batch);
    bench.stop_and_count();
}

#[test]
fn a_small_frame_is_copied_and_its_page_goes_back_at_once() {
    let mut bench = Bench::zero_copy();
    let page = next_page(&bench);
    let free = free_buffers(&mut bench.pool);
    let mut batch = arrive(&mut bench, &frame(1, 256), 0, None);
    assert_eq!(bytes(&batch[0]), frame(1, 256));
    assert_ne!(batch[0].data().as_ptr() as u64 / 4096, page / 4096);
    assert!(batch[0].push(weir_netif::HEADROOM).is_some(), "it has headroom");
    assert_eq!(bench.backend().rx_available(0), RING);
    bench.pool.free_all(&mut batch);
    assert_eq!(free_buffers(&mut bench.pool), free);
    bench.stop_and_count();
}

#[test]
fn a_received_super_packet_leaves_as_it_lies() {
    for len in [5000, 60_000, 65_535 - 54] {
        let mut bench = Bench::zero_copy();
        let frame = tcp_or_udp(Family::V4, true, 0, &frame(7, len));
        let flags = rx::CHECKSUM_BLANK | rx::DATA_VALIDATED;
        let mut batch = arrive(&mut bench, &frame, flags, Some(Extra::gso(GSO_TCP4, 1448)));
        let meta = *batch[0].meta();
        assert_eq!(meta.gso, Some(Gso { kind: GsoKind::Tcp4, size: 1448, ecn: false }));
        assert_eq!(bytes(&batch[0]), frame);
        let lie = places(&batch[0]);
        assert_eq!(lie.len(), frame.len().div_ceil(4096));
        let sent = bench.sent(&mut batch);
        assert_eq!((sent.bytes == frame, sent.extras.len()), (true, 1));
        assert!(sent.requests.len() <= SLOTS_MAX);
        let leaves: Vec<u64> = sent
            .requests
            .iter()
            .map(|request| {
                let (page, _) = bench.sim.table.resolve(request.reference, DomId(0)).unwrap();
                page + u64::from(request.offset)
            })
            .collect();
        assert_eq!(leaves, lie.iter().map(|&(addr, _)| addr).collect::<Vec<_>>(), "not a page was copied");
        bench.stop_and_count();
    }
}

#[test]
fn the_ring_is_kept_full_of_buffers_under_traffic() {
    let mut bench = Bench::zero_copy();
    for round in 0..2000u32 {
        let len = [60, 1514, 9014, 40_000][round as usize % 4];
        let mut batch = arrive(&mut bench, &frame(round.into(), len), 0, None);
        assert_eq!(bytes(&batch[0]), frame(round.into(), len));
        bench.pool.free_all(&mut batch);
        assert!(bench.backend().rx_available(0) > RING - 16);
    }
    assert!(bench.drops().is_empty());
    bench.stop_and_count();
}

#[test]
fn a_short_first_slot_is_pulled_up() {
    let mut bench = Bench::zero_copy();
    let whole = frame(4, 3000);
    for first in [14, 60, 191, MIN_CAPACITY - 1] {
        let pieces = [&whole[..first], &whole[first..]];
        for (nth, piece) in pieces.into_iter().enumerate() {
            let mut backend = bench.sim.state();
            let request = backend.take_rx(0).unwrap();
            assert!(backend.table.peer_write(request.reference, backend.me, 0, piece));
            let flags = if nth == 0 { rx::MORE_DATA } else { 0 };
            let response = RxResponse { id: request.id, offset: 0, flags, status: piece.len() as i16 };
            backend.put_rx(0, response.to_words());
        }
        bench.backend().publish_rx(0);
        let mut batch = bench.receive().unwrap();
        assert_eq!(bytes(&batch[0]), whole);
        assert!(batch[0].data().len() >= MIN_CAPACITY, "headers lie in the first segment");
        bench.pool.free_all(&mut batch);
    }
    bench.stop_and_count();
}

#[test]
fn what_the_backend_could_not_copy_is_dropped_and_the_buffers_stay() {
    let mut bench = Bench::zero_copy();
    for statuses in [[status::ERROR, 4096], [4096, status::DROPPED]] {
        for (nth, status) in statuses.into_iter().enumerate() {
            let mut backend = bench.sim.state();
            let request = backend.take_rx(0).unwrap();
            let flags = if nth == 0 { rx::MORE_DATA } else { 0 };
            backend.put_rx(0, RxResponse { id: request.id, offset: 0, flags, status }.to_words());
        }
        bench.backend().publish_rx(0);
        assert!(bench.receive().unwrap().is_empty());
        assert_eq!(bench.drops(), [(Reason::DeviceRefused, 1)]);
    }
    bench.stop_and_count();
}

#[test]
fn a_dry_pool_leaves_the_ring_what_it_takes_to_drop_by_name() {
    let mut bench = Bench::zero_copy();
    let hoard: Vec<Packet> = core::iter::from_fn(|| bench.pool.alloc()).collect();
    // Even small ones arrive, in the ring's own buffers, until few are left.
    let mut arrived = Batch::new();
    let mut kept: Vec<Packet> = Vec::new();
    for round in 0..3 * u64::from(RING) {
        arrived.extend(arrive(&mut bench, &frame(round, 60 + round as usize * 5), 0, None));
        kept.extend(arrived.drain(..));
    }
    let left = bench.backend().rx_available(0);
    assert!((24..=48).contains(&left), "{left}");
    assert_eq!(kept.len() as u32, RING - left);
    for (round, packet) in (0..).zip(&kept) {
        assert_eq!(bytes(packet), frame(round, 60 + round as usize * 5));
    }
    assert_eq!(bench.drops(), [(Reason::NoBuffer, 3 * RING - kept.len() as u32)]);
    assert_eq!(bench.arm(), Ok(More::No), "there is nothing to poll for");
    // The longest frame is dropped as well, and none of its buffers with it.
    assert!(arrive(&mut bench, &frame(1, 65535), 0, None).is_empty());
    assert_eq!((bench.drops(), bench.backend().rx_available(0)), ([(Reason::NoBuffer, 1)].to_vec(), left));
    // Whatever comes free goes to the ring first.
    let mut hoard = hoard.into_iter();
    hoard.by_ref().take(20).for_each(|packet| bench.pool.free(packet));
    let _ = bench.reap().unwrap();
    assert_eq!(bench.backend().rx_available(0), left + 20);
    hoard.for_each(|packet| bench.pool.free(packet));
    let _ = bench.reap().unwrap();
    assert_eq!(bench.backend().rx_available(0), RING);
    let mut batch = arrive(&mut bench, &frame(1, 9000), 0, None);
    assert_eq!(bytes(&batch[0]), frame(1, 9000));
    bench.pool.free_all(&mut batch);
    kept.into_iter().for_each(|packet| bench.pool.free(packet));
    bench.stop_and_count();
}

#[test]
fn rings_leave_half_of_the_arena() {
    let options = Options { queue_pairs: 4, ..PATIENCE };
    let mut bench = Bench::with(Simulated::new(), Trust::Pages, &options).unwrap();
    assert_eq!(free_buffers(&mut bench.pool), SLOTS / 2, "the queues have the rest");
    let (lent, arena) = (bench.xen.lent.unwrap(), bench.xen.arena);
    assert!(Buffers::new(lent, arena, 1).is_none(), "the next vif receives copies");
    for queue in 0..bench.queues.len() {
        assert_eq!(bench.backend().rx_available(queue), RING / 4);
        assert!(bench.backend().deliver(queue, &frame(1, 9000), 0, None));
        bench.backend().publish_rx(queue);
        let mut batch = bench.receive_on(queue).unwrap();
        assert_eq!(bytes(&batch[0]), frame(1, 9000));
        bench.pool.free_all(&mut batch);
    }
    bench.stop_and_count();
    assert_eq!(arena.claim(SLOTS / 2).map(|claim| claim.slots()), Some(SLOTS / 2), "the claim is over");
}

#[test]
fn an_untrusted_vif_receives_copies_beside_pages() {
    let sim = Simulated::new();
    sim.peer.write(&std::format!("{}/trusted", sim.front), "0");
    let mut bench = Bench::with(sim, Trust::Pages, &PATIENCE).unwrap();
    let memory = bench.pool.arena().memory();
    assert_eq!(free_buffers(&mut bench.pool), SLOTS);
    assert!(!memory.contains(&(next_page(&bench) as usize)));
    let mut batch = arrive(&mut bench, &frame(1, 9000), 0, None);
    assert_eq!(bytes(&batch[0]), frame(1, 9000));
    bench.pool.free_all(&mut batch);
    bench.stop_and_count();
}

#[test]
fn an_arena_that_is_not_all_lent_receives_copies() {
    let sim = Simulated::new();
    let arena = page_arena(SLOTS);
    let memory = arena.memory();
    let most = Lent::new(sim.table, DomId(0), memory.start as u64, memory.len() as u64 - 4096);
    let lent = Some(&*Box::leak(Box::new(most)));
    let xen = Xen { store: sim.store, grants: sim.table, arena, lent };
    let mut bench = Bench::attach(sim, xen, Pool::new(arena), &PATIENCE).unwrap();
    assert_eq!(free_buffers(&mut bench.pool), SLOTS);
    let mut batch = arrive(&mut bench, &frame(1, 9000), 0, None);
    assert_eq!(bytes(&batch[0]), frame(1, 9000));
    bench.pool.free_all(&mut batch);
    bench.stop_and_count();
}

#[test]
fn buffers_in_the_ring_come_back_only_once_it_is_closed() {
    let mut bench = Bench::zero_copy();
    // The backend breaks the rules: down, and not closed yet.
    bench.backend().claim(0, false, 300);
    bench.receive().unwrap_err();
    assert_eq!(free_buffers(&mut bench.pool), SLOTS - RING as usize);
    bench.service().unwrap_err();
    bench.receive().unwrap_err();
    assert_eq!(free_buffers(&mut bench.pool), SLOTS);
    bench.stop_and_count();
}

#[test]
fn buffers_of_a_backend_that_never_closes_are_lost() {
    let mut bench = Bench::zero_copy();
    bench.backend().ignores = std::vec![State::Closing, State::Closed];
    bench.stop();
    bench.receive().unwrap_err();
    assert_eq!(free_buffers(&mut bench.pool), SLOTS - RING as usize);
    bench.queues.clear();
    let arena = bench.pool.arena();
    assert_eq!((arena.lost(), arena.strays()), (RING as usize, 0));
    assert_eq!(free_buffers(&mut bench.pool), SLOTS - RING as usize);
}

#[test]
fn queues_that_nobody_asks_after_the_end_give_their_buffers_back() {
    let mut bench = Bench::zero_copy();
    bench.stop();
    bench.queues.clear();
    assert_eq!(free_buffers(&mut bench.pool), SLOTS);
    assert_eq!(bench.pool.arena().lost(), 0);
}
