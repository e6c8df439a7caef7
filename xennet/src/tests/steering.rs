//! Spreading flows by our hash: what the backend is told, and what becomes of one that refuses or lies.

use super::*;
use crate::simulated::{Answer, Spread};
use crate::violation::Violation;
use crate::wire::{Ctrl, CtrlResponse, Extra, ctrl_status, extra, rx};
use weir_netif::Offloads;
use weir_netif::toeplitz::SYMMETRIC_KEY;

const TWO: Options = Options { queue_pairs: 2, ..PATIENCE };

fn with(answers: fn(Ctrl, CtrlResponse) -> Answer) -> Result<Bench, Error> {
    let sim = Simulated::new();
    sim.state().answers = answers;
    Bench::with(sim, Trust::Pages, &TWO)
}

/// Hash info as netback writes it.
fn hash_info(kind: u8, algorithm: u8) -> Extra {
    Extra { kind: extra::HASH, flags: 0, rest: [kind, algorithm, 1, 2, 3, 4] }
}

/// Delivers a frame with an extra info to both queues, and wants it there.
fn carries_frames(bench: &mut Bench, info: Option<Extra>) {
    for queue in 0..bench.queues.len() {
        assert!(bench.backend().deliver(queue, &[7; 600], 0, info));
        bench.backend().publish_rx(queue);
        let mut batch = bench.receive_on(queue).unwrap();
        assert_eq!((batch.len(), bytes(&batch[0])), (1, [7; 600].to_vec()));
        assert_eq!(batch[0].meta().hash, 0, "which CPU owns a flow is not the backend's to say");
        bench.pool.free_all(&mut batch);
    }
}

#[test]
fn the_backend_is_told_key_table_and_types() {
    let mut bench = Bench::with(Simulated::new(), Trust::Pages, &TWO).unwrap();
    assert!(bench.device.info().offloads.contains(Offloads::RX_RSS));
    let Spread { algorithm, flags, key, table } = bench.backend().spread.clone();
    assert_eq!((algorithm, flags, key.as_slice()), (1, 0xf, SYMMETRIC_KEY.as_slice()));
    assert_eq!(table, (0..128).map(|entry| entry % 2).collect::<Vec<u32>>());
    carries_frames(&mut bench, Some(hash_info(1, 1)));
    carries_frames(&mut bench, None);
    bench.stop_and_count();
}

#[test]
fn one_queue_needs_no_control_ring() {
    let bench = Bench::zero_copy();
    assert!(!bench.device.info().offloads.contains(Offloads::RX_RSS));
    assert_eq!(bench.sim.front_key("ctrl-ring-ref"), None);
    bench.stop_and_count();
}

#[test]
fn a_backend_without_one_spreads_as_it_likes() {
    let sim = Simulated::new();
    sim.withdraw("feature-ctrl-ring");
    let bench = Bench::with(sim, Trust::Pages, &TWO).unwrap();
    assert!(!bench.device.info().offloads.contains(Offloads::RX_RSS));
    assert_eq!(bench.sim.front_key("event-channel-ctrl"), None);
    bench.stop_and_count();
}

#[test]
fn a_small_table_is_filled_and_one_that_has_no_room_for_all_queues_is_not_used() {
    fn sized<const SIZE: u32>(kind: Ctrl, honest: CtrlResponse) -> Answer {
        let data = if kind == Ctrl::GetHashMappingSize { SIZE } else { honest.data };
        Answer::Given(CtrlResponse { data, ..honest })
    }
    for (answers, entries) in [
        (sized::<6> as fn(Ctrl, CtrlResponse) -> Answer, 6),
        (sized::<1>, 0),
        (sized::<0>, 0),
        (sized::<{ u32::MAX }>, 128),
    ] {
        let bench = with(answers).unwrap();
        assert_eq!(bench.backend().spread.table.len(), entries);
        assert!(bench.device.info().offloads.contains(Offloads::RX_RSS));
        bench.stop_and_count();
    }
}

/// Whatever it answers but for breaking the ring, its vif works, and spreads as it likes.
#[test]
fn a_backend_that_refuses_or_lies_keeps_its_vif() {
    fn refuse<const KIND: u16, const STATUS: u32>(kind: Ctrl, honest: CtrlResponse) -> Answer {
        let status = if kind as u16 == KIND { STATUS } else { honest.status };
        Answer::Given(CtrlResponse { status, ..honest })
    }
    type Case = (fn(Ctrl, CtrlResponse) -> Answer, bool);
    let cases: [Case; 12] = [
        (refuse::<7, { ctrl_status::NOT_SUPPORTED }>, true),
        (refuse::<1, { ctrl_status::NOT_SUPPORTED }>, true),
        (refuse::<3, { ctrl_status::INVALID_PARAMETER }>, true),
        (refuse::<4, { ctrl_status::BUFFER_OVERFLOW }>, true),
        (refuse::<5, 4>, true),
        (refuse::<6, { u32::MAX }>, true),
        (refuse::<2, 77>, true),
        // No type that there is.
        (|_, honest| Answer::Given(CtrlResponse { data: 0xffff_fff0, ..honest }), true),
        (|_, honest| Answer::Given(CtrlResponse { id: honest.id ^ 1, ..honest }), false),
        (|_, honest| Answer::Given(CtrlResponse { kind: honest.kind + 1, ..honest }), false),
        (|_, _| Answer::None, false),
        (|kind, honest| if kind == Ctrl::SetHashFlags { Answer::None } else { Answer::Given(honest) }, false),
    ];
    for (number, (answers, is_heard)) in cases.into_iter().enumerate() {
        let mut bench = with(answers).unwrap_or_else(|why| panic!("{number}: {why}"));
        assert!(!bench.device.info().offloads.contains(Offloads::RX_RSS), "{number}");
        if is_heard {
            assert_eq!(bench.backend().spread.algorithm, 0, "{number}: half a configuration stays");
        }
        // It may have come as far as to send hashes.
        carries_frames(&mut bench, Some(hash_info(0, 1)));
        bench.stop_and_count();
    }
}

#[test]
fn a_backend_that_breaks_the_ring_is_not_attached() {
    for (answers, violation) in [
        ((|_, _| Answer::Claimed(2)) as fn(Ctrl, CtrlResponse) -> Answer, Violation::ResponseIndexRunaway),
        (|_, _| Answer::Claimed(u32::MAX), Violation::ResponseIndexBackwards),
    ] {
        let sim = Simulated::new();
        let (table, store) = (sim.table, sim.store);
        sim.state().answers = answers;
        let granted = table.in_use();
        let why = Bench::with(sim, Trust::Copies, &TWO).err().unwrap();
        assert_eq!(why, Error::Violation(violation));
        assert_eq!((table.in_use(), table.limbo(), store.watches()), (granted, 0, 0));
    }
}

#[test]
fn a_hash_that_there_is_not_takes_the_vif_down() {
    for (kind, algorithm) in [(4, 1), (0, 0), (0, 2)] {
        let mut bench = Bench::with(Simulated::new(), Trust::Pages, &TWO).unwrap();
        assert!(bench.backend().deliver(1, &[7; 600], 0, Some(hash_info(kind, algorithm))));
        bench.backend().publish_rx(1);
        assert_eq!(bench.receive_on(1).unwrap_err(), Violation::RxHashUnknown.into());
        assert_eq!(bench.service().unwrap_err(), Violation::RxHashUnknown.into());
        bench.stop_and_count();
    }
}

#[test]
fn a_super_packet_has_its_hash_beside_its_size() {
    use crate::headers::{Family, tests::frame};
    let mut bench = Bench::with(Simulated::new(), Trust::Pages, &TWO).unwrap();
    let packet = frame(Family::V4, true, 0, &[3; 3000]);
    let gso = Extra { flags: extra::FLAG_MORE, ..Extra::gso(crate::wire::GSO_TCP4, 1448) };
    let mut backend = bench.sim.state();
    let first = backend.take_rx(0).unwrap();
    assert!(backend.table.peer_write(first.reference, backend.me, 0, &packet));
    let flags = rx::CHECKSUM_BLANK | rx::DATA_VALIDATED | rx::EXTRA_INFO;
    let status = packet.len() as i16;
    backend.put_rx(0, crate::wire::RxResponse { id: first.id, offset: 0, flags, status }.to_words());
    for info in [gso, hash_info(1, 1)] {
        backend.take_rx(0).unwrap();
        backend.put_rx(0, info.to_words());
    }
    backend.publish_rx(0);
    drop(backend);
    let mut batch = bench.receive().unwrap();
    assert_eq!(batch[0].meta().gso.map(|gso| gso.size), Some(1448));
    assert_eq!(bytes(&batch[0]).len(), packet.len());
    bench.pool.free_all(&mut batch);
    bench.stop_and_count();
}
