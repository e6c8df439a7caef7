//! A backend that lies, one lie a test. Every lie ends in its name; nothing panics, nothing is lost.

mod chaos;

use super::*;
use crate::headers::Family;
use crate::headers::tests::frame as tcp_or_udp;
use crate::violation::Violation;
use crate::wire::{Extra, GSO_TCP4, GSO_TCP6, RxResponse, extra, rx, status};
use crate::xenbus::State;
use std::string::ToString;
use std::sync::atomic::{AtomicBool, Ordering};
use weir_machine::xen::DomId;
use weir_machine::xen::store::Store;
use weir_netif::BATCH;

/// Tells the lie to a vif with traffic under way; the next step must name it, every later step repeat it, and after the
/// end everything be back.
fn lie(expected: Violation, tell: impl Fn(&mut Bench)) {
    for bench in [Bench::zero_copy(), Bench::new()] {
        lie_to(bench, expected, &tell);
    }
}

fn lie_to(mut bench: Bench, expected: Violation, tell: impl FnOnce(&mut Bench)) {
    let mut batch = Batch::new();
    for n in 0..8 {
        batch.push(bench.pool.alloc_from(&[n; 1400]).unwrap());
    }
    bench.transmit(&mut batch).unwrap();
    assert!(bench.backend().deliver(0, &[1; 60], 0, None));
    bench.backend().publish_rx(0);
    let mut batch = bench.receive().unwrap();
    assert_eq!(batch.len(), 1);
    bench.pool.free_all(&mut batch);

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
    assert_eq!(bench.service(), Err(fault), "closes it");
    assert_eq!(bench.sim.front_key("state").as_deref(), Some("6"));
    bench.stop_and_count();
}

/// Has the backend answer the next receive request.
fn answer(bench: &mut Bench, with: impl FnOnce(u16) -> RxResponse) {
    let mut backend = bench.sim.state();
    let request = backend.take_rx(0).unwrap();
    backend.put_rx(0, with(request.id).to_words());
}

/// The same with `len` bytes.
fn answer_len(bench: &mut Bench, flags: u16, len: i16) {
    answer(bench, |id| RxResponse { id, offset: 0, flags, status: len });
}

fn publish(bench: &mut Bench) {
    bench.backend().publish_rx(0);
}

/// Has the backend put extra info over the next receive request.
fn put_extra(bench: &mut Bench, info: Extra) {
    let mut backend = bench.sim.state();
    backend.take_rx(0).unwrap();
    backend.put_rx(0, info.to_words());
}

/// A frame of one slot with these extra infos.
fn frame_with(bench: &mut Bench, extras: &[Extra]) {
    answer_len(bench, rx::EXTRA_INFO | rx::CHECKSUM_BLANK, 100);
    extras.iter().for_each(|&info| put_extra(bench, info));
    publish(bench);
}

fn answer_tx(bench: &mut Bench, id: u16, answer: i16) {
    let mut backend = bench.sim.state();
    backend.put_tx(0, id, answer);
    backend.publish_tx(0);
}

fn next_tx(bench: &mut Bench) -> u16 {
    bench.backend().collect(0).unwrap().requests[0].id
}

#[test]
fn ring_response_index_runs_away() {
    for transmit in [false, true] {
        lie(Violation::ResponseIndexRunaway, |bench| bench.backend().claim(0, transmit, 300));
    }
    lie(Violation::ResponseIndexRunaway, |bench| bench.backend().claim(0, true, 9));
    lie(Violation::ResponseIndexRunaway, |bench| bench.backend().claim(0, false, 0x8000_0000));
}

#[test]
fn ring_response_index_goes_backwards() {
    lie(Violation::ResponseIndexBackwards, |bench| bench.backend().claim(0, false, u32::MAX));
}

#[test]
fn ring_response_index_moves_without_responses() {
    // The slots hold the requests: an id that is right, and a reference where offset and status belong.
    let mut bench = Bench::new();
    bench.backend().claim(0, false, 1);
    assert!(bench.receive().is_err());
    bench.stop_and_count();
}

#[test]
fn tx_id_out_of_range() {
    for flip in [0x1000, 0x2000, 0x4000, 0x8000, 0xf000] {
        lie(Violation::TxIdOutOfRange, |bench| {
            let id = next_tx(bench);
            answer_tx(bench, id ^ flip, status::OKAY);
        });
    }
}

#[test]
fn tx_id_replayed() {
    // At once, and after its slot was used again.
    for between in [0, 1, 300] {
        lie(Violation::TxIdNotOutstanding, |bench| {
            let id = next_tx(bench);
            answer_tx(bench, id, status::OKAY);
            assert_eq!(bench.reap(), Ok(More::Yes));
            for _ in 0..between {
                let mut batch = bench.one(&[1; 100]);
                bench.transmit(&mut batch).unwrap();
                let other = next_tx(bench);
                answer_tx(bench, other, status::OKAY);
                let _ = bench.reap().unwrap();
            }
            answer_tx(bench, id, status::OKAY);
        });
    }
}

#[test]
fn tx_id_never_used() {
    lie(Violation::TxIdNotOutstanding, |bench| {
        let id = next_tx(bench);
        answer_tx(bench, id & 0xff00 | 200, status::OKAY);
    });
}

#[test]
fn ids_of_another_queue() {
    let options = Options { queue_pairs: 2, ..PATIENCE };
    let bench = || Bench::with(Simulated::new(), Trust::Arena, &options).unwrap();
    lie_to(bench(), Violation::TxIdOutOfRange, |bench| {
        let mut batch = bench.one(&[1; 100]);
        bench.transmit_on(1, &mut batch).unwrap();
        let id = bench.backend().collect(1).unwrap().requests[0].id;
        answer_tx(bench, id, status::OKAY);
    });
    lie_to(bench(), Violation::RxIdOutOfRange, |bench| {
        let other = bench.backend().take_rx(1).unwrap();
        answer(bench, |_| RxResponse { id: other.id, offset: 0, flags: 0, status: 60 });
        publish(bench);
    });
}

#[test]
fn tx_status_unknown() {
    for wrong in [2, 100, i16::MAX, -3, i16::MIN] {
        lie(Violation::TxStatusUnknown, |bench| {
            let id = next_tx(bench);
            answer_tx(bench, id, wrong);
        });
    }
}

#[test]
fn tx_null_responses_without_extra_info() {
    lie(Violation::TxNullUnasked, |bench| answer_tx(bench, 0, status::NULL));
}

#[test]
fn rx_id_replayed_or_of_another_slot() {
    lie(Violation::RxIdNotOfSlot, |bench| {
        let first = bench.backend().take_rx(0).unwrap();
        for _ in 0..2 {
            let response = RxResponse { id: first.id, offset: 0, flags: 0, status: 60 };
            bench.backend().put_rx(0, response.to_words());
        }
        publish(bench);
    });
    // Of the same slot, a turn of the ring ago.
    lie(Violation::RxIdNotOfSlot, |bench| {
        answer(bench, |id| RxResponse { id: id ^ 0x100, offset: 0, flags: 0, status: 60 });
        publish(bench);
    });
}

#[test]
fn rx_id_out_of_range() {
    lie(Violation::RxIdOutOfRange, |bench| {
        answer(bench, |id| RxResponse { id: id ^ 0x8000, offset: 0, flags: 0, status: 60 });
        publish(bench);
    });
}

#[test]
fn rx_status_negative() {
    for wrong in [-3, -1000, i16::MIN] {
        lie(Violation::RxStatusNegative, |bench| {
            answer_len(bench, 0, wrong);
            publish(bench);
        });
    }
}

#[test]
fn rx_length_zero() {
    lie(Violation::RxLengthZero, |bench| {
        answer_len(bench, 0, 0);
        publish(bench);
    });
    lie(Violation::RxLengthZero, |bench| {
        answer_len(bench, rx::MORE_DATA, 4096);
        answer_len(bench, 0, 0);
        publish(bench);
    });
}

#[test]
fn rx_length_beyond_the_page() {
    for (offset, len) in [(0, 4097), (1, 4096), (4095, 2), (2048, 2049), (0, i16::MAX)] {
        lie(Violation::RxLengthBeyondPage, |bench| {
            answer(bench, |id| RxResponse { id, offset, flags: 0, status: len });
            publish(bench);
        });
    }
}

#[test]
fn rx_offset_past_the_page() {
    for offset in [4096, 5000, u16::MAX] {
        lie(Violation::RxOffsetBeyondPage, |bench| {
            answer(bench, |id| RxResponse { id, offset, flags: 0, status: 1 });
            publish(bench);
        });
    }
}

#[test]
fn rx_more_data_with_nothing_following() {
    lie(Violation::RxMoreMissing, |bench| {
        answer_len(bench, rx::MORE_DATA, 4096);
        publish(bench);
    });
}

#[test]
fn rx_slots_beyond_the_maximum() {
    for (first, slots) in [(257, 19), (100, 20)] {
        lie(Violation::RxTooManySlots, |bench| {
            answer_len(bench, rx::MORE_DATA, first);
            (2..slots).for_each(|_| answer_len(bench, rx::MORE_DATA, 10));
            answer_len(bench, 0, 10);
            publish(bench);
        });
    }
    // One less is a frame.
    let mut bench = Bench::new();
    for (first, slots) in [(257, 18), (100, 19)] {
        answer_len(&mut bench, rx::MORE_DATA, first);
        (2..slots).for_each(|_| answer_len(&mut bench, rx::MORE_DATA, 10));
        answer_len(&mut bench, 0, 10);
        publish(&mut bench);
        let mut batch = bench.receive().unwrap();
        assert_eq!(batch[0].len(), first as usize + (slots - 1) * 10);
        bench.pool.free_all(&mut batch);
    }
    bench.stop_and_count();
}

#[test]
fn a_frame_longer_than_any() {
    lie(Violation::RxFrameTooLong, |bench| {
        (0..17).for_each(|_| answer_len(bench, rx::MORE_DATA, 4096));
        answer_len(bench, 0, 4096);
        publish(bench);
    });
}

#[test]
fn extra_info_that_does_not_come() {
    lie(Violation::RxExtraMissing, |bench| frame_with(bench, &[]));
    let more = Extra { flags: extra::FLAG_MORE, ..Extra::gso(GSO_TCP4, 1400) };
    lie(Violation::RxExtraMissing, |bench| frame_with(bench, &[more]));
}

#[test]
fn extra_infos_without_end() {
    let more = Extra { flags: extra::FLAG_MORE, ..Extra::gso(GSO_TCP4, 50) };
    lie(Violation::RxExtraEndless, |bench| frame_with(bench, &[more; 5]));
    lie(Violation::RxExtraEndless, |bench| frame_with(bench, &[more; 200]));
}

#[test]
fn extra_info_of_an_unknown_type() {
    for kind in [0, 6, 7, 0x80, 0xff] {
        let info = Extra { kind, flags: 0, rest: [0; 6] };
        lie(Violation::RxExtraUnknown, |bench| frame_with(bench, &[info]));
    }
}

#[test]
fn extra_info_nobody_asked_for() {
    for kind in [extra::MULTICAST_ADD, extra::MULTICAST_DELETE, extra::HASH, extra::XDP] {
        let info = Extra { kind, flags: 0, rest: [0; 6] };
        lie(Violation::RxExtraNotNegotiated, |bench| frame_with(bench, &[info]));
    }
}

#[test]
fn segments_of_size_zero() {
    lie(Violation::RxGsoSizeZero, |bench| frame_with(bench, &[Extra::gso(GSO_TCP4, 0)]));
}

#[test]
fn segments_longer_than_the_frame() {
    for size in [101, 1400, u16::MAX] {
        lie(Violation::RxGsoBeyondFrame, |bench| frame_with(bench, &[Extra::gso(GSO_TCP6, size)]));
    }
}

#[test]
fn segmentation_of_an_unknown_kind() {
    for kind in [0, 3, 0x80, 0xff] {
        lie(Violation::RxGsoUnknown, |bench| frame_with(bench, &[Extra::gso(kind, 50)]));
    }
}

#[test]
fn offloads_nobody_asked_for() {
    let bench =
        |offloads| Bench::with(Simulated::new(), Trust::Arena, &Options { offloads, ..PATIENCE }).unwrap();
    let without_tcp = weir_netif::Offloads::RX_CHECKSUM;
    lie_to(bench(without_tcp), Violation::RxGsoNotNegotiated, |bench| {
        frame_with(bench, &[Extra::gso(GSO_TCP4, 50)]);
    });
    lie_to(bench(weir_netif::Offloads::empty()), Violation::RxChecksumNotNegotiated, |bench| {
        answer_len(bench, rx::CHECKSUM_BLANK, 60);
        publish(bench);
    });
    lie(Violation::RxGsoPrefix, |bench| {
        answer_len(bench, rx::GSO_PREFIX | rx::MORE_DATA, 60);
        answer_len(bench, 0, 60);
        publish(bench);
    });
}

#[test]
fn states_out_of_order() {
    for (state, violation) in [
        (Some("5"), Violation::BackendClosed),
        (Some("6"), Violation::BackendClosed),
        (None, Violation::BackendClosed),
        (Some("nonsense"), Violation::BackendClosed),
        (Some("99"), Violation::BackendClosed),
        (Some("3"), Violation::BackendState),
        (Some("8"), Violation::BackendState),
    ] {
        lie(violation, |bench| match state {
            Some(state) => bench.sim.offer("state", state),
            None => bench.sim.peer.remove(&bench.sim.back),
        });
    }
}

#[test]
fn a_store_that_says_nothing_of_the_backend() {
    let mut bench = Bench::new();
    bench.sim.peer.deny(&bench.sim.back);
    assert_eq!(bench.service(), Err(Violation::StoreSilent.into()));
    assert!(bench.receive().is_err());
    assert_eq!(free_buffers(&mut bench.pool), SLOTS);
}

#[test]
fn frames_before_the_lie_are_kept() {
    let mut bench = Bench::new();
    assert!(
        bench.backend().deliver(0, &[1; 100], 0, None) && bench.backend().deliver(0, &[2; 5000], 0, None)
    );
    answer_len(&mut bench, 0, -77);
    publish(&mut bench);
    let mut batch = Batch::new();
    let Bench { cpu, queues, pool, .. } = &mut bench;
    let result = cpu.softint(|cx| queues[0].receive(cx, pool, &mut batch));
    assert_eq!(result, Err(Violation::RxStatusNegative.into()));
    assert_eq!(batch.iter().map(Packet::len).collect::<Vec<_>>(), [100, 5000]);
    bench.pool.free_all(&mut batch);
    bench.stop_and_count();
}

#[test]
fn a_violation_in_mid_frame_gives_the_buffers_back() {
    for (extra_slots, trust) in (1..16).flat_map(|slots| [(slots, Trust::Arena), (slots, Trust::Pages)]) {
        let mut bench = Bench::with(Simulated::new(), trust, &PATIENCE).unwrap();
        answer_len(&mut bench, rx::MORE_DATA, 4096);
        (1..extra_slots).for_each(|_| answer_len(&mut bench, rx::MORE_DATA, 4096));
        answer(&mut bench, |id| RxResponse { id, offset: 9, flags: 0, status: 4096 });
        publish(&mut bench);
        assert_eq!(bench.receive().err(), Some(Violation::RxLengthBeyondPage.into()));
        if trust == Trust::Arena {
            assert_eq!(free_buffers(&mut bench.pool), SLOTS);
        }
        bench.stop_and_count();
    }
}

#[test]
fn a_violation_on_one_queue_takes_all_of_the_vif_down_and_no_other() {
    let options = Options { queue_pairs: 2, ..PATIENCE };
    let mut bad = Bench::with(Simulated::new(), Trust::Arena, &options).unwrap();
    let mut good = Bench::new();
    bad.backend().claim(1, false, 999);
    let fault = Err(Violation::ResponseIndexRunaway.into());
    assert_eq!(bad.receive_on(1).map(drop), fault);
    assert_eq!(bad.receive_on(0).map(drop), fault);
    let mut batch = good.one(&[1; 100]);
    assert_eq!(good.sent(&mut batch).bytes, [1; 100]);
    assert_eq!(good.service(), Ok(()));
    bad.stop_and_count();
    good.stop_and_count();
}

#[test]
fn scribbling_over_what_the_driver_wrote_matters_to_nobody_else() {
    for with in [0, 0x5a5a_5a5a, u32::MAX] {
        let mut bench = Bench::new();
        let mut batch = Batch::new();
        (0..8).for_each(|n| batch.push(bench.pool.alloc_from(&[n; 1400]).unwrap()));
        bench.transmit(&mut batch).unwrap();
        {
            let mut backend = bench.sim.state();
            let sent: Vec<_> = core::iter::from_fn(|| backend.collect(0)).collect();
            let ring = backend.queues[0].tx;
            // Request index and event, and all slots.
            backend.set_word(&ring, 0, with);
            (16..1024).for_each(|word| backend.set_word(&ring, word * 4, with));
            sent.iter().for_each(|packet| backend.finish(0, packet, status::OKAY));
            backend.publish_tx(0);
        }
        assert_eq!(bench.reap(), Ok(More::No));
        // The index is written anew, and the requests whole.
        let mut batch = bench.one(&[0x77; 5000]);
        assert_eq!(bench.sent(&mut batch).bytes, [0x77; 5000]);
        bench.stop_and_count();
    }
}

/// An event storm: queues take eight events that mean nothing, then one a tick (Xen advisory 332).
#[test]
fn events_for_nothing_cost_one_a_tick() {
    let mut bench = Bench::new();
    let events = bench.backend().queues[0].rx_events.clone();
    let mut served = 0;
    for _ in 0..1000 {
        assert!(events.fire());
        if events.is_pending() {
            // Nobody hears of it.
            continue;
        }
        served += 1;
        assert!(bench.receive().unwrap().is_empty());
        assert_eq!(bench.arm(), Ok(More::No));
    }
    assert!(served <= 9, "{served}");
    // The tick brings it back, once.
    assert_eq!(bench.reap(), Ok(More::No));
    assert!(events.is_masked() && !events.is_pending(), "the event that waited was let through");
    assert!(bench.receive().unwrap().is_empty());
    assert_eq!(bench.arm(), Ok(More::No));
    assert!(events.is_masked(), "one for nothing again");
    // A frame that comes meanwhile waits for the tick at most, and ends it.
    assert!(bench.backend().deliver(0, &[1; 60], 0, None));
    publish(&mut bench);
    assert!(events.is_pending());
    assert_eq!(bench.reap(), Ok(More::No));
    let mut batch = bench.receive().unwrap();
    assert_eq!(batch.len(), 1);
    bench.pool.free_all(&mut batch);
    assert_eq!(bench.arm(), Ok(More::No));
    assert!(!events.is_masked());
    bench.stop_and_count();
}

/// A byte that stands nowhere else.
const CANARY: u8 = 0xc7;

fn shows_canary(seen: &[u8]) -> bool {
    seen.windows(8).any(|bytes| bytes == [CANARY; 8])
}

/// Fills every buffer of the arena, headroom and tail too, with what no backend may see.
fn plant_canary(pool: &mut Pool) {
    let mut packets: Vec<Packet> = core::iter::from_fn(|| pool.alloc()).collect();
    for packet in &mut packets {
        while packet.push(1).is_some() {}
        assert!(packet.set_filled(BUFFER));
        packet.data_mut().fill(CANARY);
    }
    packets.into_iter().for_each(|packet| pool.free(packet));
}

/// Sends packets of all shapes in both directions through a vif that copies, among buffers full of canaries.
fn exercise(bench: &mut Bench) {
    for round in 0..40usize {
        let len = [14, 60, 1514, 4096, 4097, 30_000, 65_535][round % 7];
        let mut batch = bench.one(&std::vec![round as u8; len]);
        let sent = bench.sent(&mut batch);
        assert_eq!(sent.bytes, std::vec![round as u8; len]);
        assert!(bench.backend().deliver(0, &std::vec![0x11; len], 0, None));
        bench.backend().publish_rx(0);
        let mut batch = bench.receive().unwrap();
        bench.pool.free_all(&mut batch);
        plant_canary(&mut bench.pool);
    }
}

/// XSA-391: a backend must not be handed more memory than the packet's own.
#[test]
fn xsa_391_an_untrusted_backend_sees_no_byte_beside_its_packets() {
    let sim = Simulated::new();
    sim.peer.write(&std::format!("{}/trusted", sim.front), "0");
    let mut bench = Bench::with(sim, Trust::Copies, &PATIENCE).unwrap();
    plant_canary(&mut bench.pool);
    exercise(&mut bench);
    assert!(!shows_canary(&bench.backend().everything_it_sees()));
    bench.stop_and_count();
}

/// XSA-403, CVE-2022-33740: pages are zeroed before they are lent.
#[test]
fn xsa_403_cve_2022_33740_pages_are_zeroed_before_they_are_lent() {
    // Memory that was full of secrets a moment ago is what the pages will be made of.
    let secrets: Vec<Region> = (0..600).filter_map(|_| Region::new(4096, 4096)).collect();
    secrets.iter().for_each(|region| region.copy_in(0, &[CANARY; 4096]));
    drop(secrets);
    let mut bench = Bench::copying();
    assert!(!shows_canary(&bench.backend().everything_it_sees()));
    // The rings' pages hold nothing but indices and requests.
    plant_canary(&mut bench.pool);
    exercise(&mut bench);
    assert!(!shows_canary(&bench.backend().everything_it_sees()));
    bench.stop_and_count();
}

/// XSA-403, CVE-2022-33741: data that shares a page with a packet is not lent with it.
#[test]
fn xsa_403_cve_2022_33741_neighbours_in_a_page_are_not_lent() {
    let mut bench = Bench::copying();
    plant_canary(&mut bench.pool);
    // Two buffers share a page: one with a secret, one that is sent.
    let packets: Vec<Packet> = core::iter::from_fn(|| bench.pool.alloc()).collect();
    for mut packet in packets {
        assert!(packet.extend(&[0x22; 100]));
        let mut batch = Batch::new();
        batch.push(packet);
        bench.sent(&mut batch);
    }
    let seen = bench.backend().everything_it_sees();
    assert!(!shows_canary(&seen));
    assert!(seen.windows(100).any(|bytes| bytes == [0x22; 100]), "it does see what is sent to it");
    bench.stop_and_count();
}

/// What one backend sends or is sent never shows in what another one can reach, even if both copy.
#[test]
fn packets_of_one_backend_show_in_no_page_of_another() {
    let (store, peer) = Store::simulated();
    let table = weir_machine::xen::grant::Table::simulated(8);
    let arena = arena(SLOTS);
    let xen = Xen { store, grants: table, arena, lent: None };
    let one = Simulated::of(store, peer.clone(), table, 0, DomId(2));
    let other = Simulated::of(store, peer, table, 1, DomId(3));
    let mut one = Bench::attach(one, xen, Pool::new(arena), &PATIENCE).unwrap();
    let mut other = Bench::attach(other, xen, Pool::new(arena), &PATIENCE).unwrap();
    for _ in 0..300 {
        assert!(one.backend().deliver(0, &[CANARY; 1400], 0, None));
        publish(&mut one);
        // Forwarded to its own backend, never to the other.
        let mut batch = one.receive().unwrap();
        one.sent(&mut batch);
        assert!(other.backend().deliver(0, &[1; 64], 0, None));
        publish(&mut other);
        let mut batch = other.receive().unwrap();
        other.sent(&mut batch);
    }
    assert!(shows_canary(&one.backend().everything_it_sees()));
    assert!(!shows_canary(&other.backend().everything_it_sees()));
    drop(one.pool);
    drop(other.pool);
}

/// A backend that changes a response between two looks at it: there is no second look.
#[test]
fn a_response_that_changes_under_our_eyes_is_one_of_both() {
    let mut bench = Bench::copying();
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let (ring, me, table) = {
        let backend = bench.sim.state();
        (backend.queues[0].rx, backend.me, backend.table)
    };
    let halt = stop.clone();
    let mad = std::thread::spawn(move || {
        let lens = [100_i16, 4000].map(i16::to_ne_bytes);
        for turn in 0_usize.. {
            if halt.load(Ordering::Relaxed) {
                break;
            }
            for slot in 0..256 {
                assert!(table.peer_write(ring.reference(), me, 64 + slot * 8 + 6, &lens[(turn + slot) % 2]));
            }
        }
    });
    let mut seen = [0; 2];
    for round in 0.. {
        for _ in 0..BATCH {
            answer_len(&mut bench, 0, 100);
        }
        publish(&mut bench);
        let mut batch = bench.receive().unwrap();
        assert_eq!(batch.len(), BATCH);
        for packet in &batch {
            assert!(packet.len() == 100 || packet.len() == 4000, "{}", packet.len());
            seen[usize::from(packet.len() == 4000)] += 1;
        }
        bench.pool.free_all(&mut batch);
        if round > 200 && seen[0] > 0 && seen[1] > 0 {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    mad.join().unwrap();
    bench.stop_and_count();
}

#[test]
fn bytes_that_change_after_the_copy_change_nothing() {
    let mut bench = Bench::new();
    let frame = tcp_or_udp(Family::V4, true, 0, &[7; 1000]);
    let reference = {
        let mut backend = bench.sim.state();
        let request = backend.take_rx(0).unwrap();
        assert!(backend.table.peer_write(request.reference, backend.me, 0, &frame));
        let flags = rx::CHECKSUM_BLANK;
        let response = RxResponse { id: request.id, offset: 0, flags, status: frame.len() as i16 };
        backend.put_rx(0, response.to_words());
        backend.publish_rx(0);
        request.reference
    };
    let mut batch = bench.receive().unwrap();
    let me = bench.backend().me;
    assert!(bench.sim.table.peer_write(reference, me, 0, &[0xff; 4096]));
    assert_eq!(bytes(&batch[0]), frame);
    bench.pool.free_all(&mut batch);
    bench.stop_and_count();
}

#[test]
fn every_violation_says_what_happened() {
    for violation in Violation::ALL {
        let error = Error::from(*violation).to_string();
        assert!(error.ends_with(violation.name()), "{error}");
    }
    assert_eq!(State::Connected.to_string(), "Connected (4)");
}
