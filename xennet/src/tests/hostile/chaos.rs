//! A backend out of its mind: any moves in any order.

use super::*;
use proptest::prelude::*;
use std::vec;

/// One thing a mad backend, or an unlucky router, does.
#[derive(Clone, Debug)]
enum Move {
    Deliver { len: usize, piece: usize, flags: u16, gso: Option<(u8, u16)> },
    PutRx { take: bool, words: [u32; 2], like: bool },
    PutTx { like: bool, id: u16, status: i16 },
    Answer,
    Claim { transmit: bool, responses: u32 },
    Scribble { transmit: bool, word: usize, with: u32 },
    State(u8),
    Fire,
    Receive,
    Transmit { len: usize, gso: bool },
    Reap,
    Arm,
    Service,
}

fn moves() -> impl Strategy<Value = Move> {
    let flags = prop_oneof![6 => Just(0), 1 => 0u16..32];
    let gso = prop_oneof![4 => Just(None), 1 => (0u8..4, any::<u16>()).prop_map(Some)];
    let deliver = (14usize..66_000, 200usize..4097, flags, gso)
        .prop_map(|(len, piece, flags, gso)| Move::Deliver { len, piece, flags, gso });
    prop_oneof![
        8 => deliver,
        1 => (any::<bool>(), any::<[u32; 2]>(), any::<bool>())
            .prop_map(|(take, words, like)| Move::PutRx { take, words, like }),
        1 => (any::<bool>(), any::<u16>(), -3i16..3).prop_map(|(like, id, status)| Move::PutTx { like, id, status }),
        4 => Just(Move::Answer),
        1 => (any::<bool>(), prop_oneof![0u32..4, any::<u32>()])
            .prop_map(|(transmit, responses)| Move::Claim { transmit, responses }),
        1 => (any::<bool>(), 0usize..1024, any::<u32>())
            .prop_map(|(transmit, word, with)| Move::Scribble { transmit, word, with }),
        1 => (0u8..10).prop_map(Move::State),
        2 => Just(Move::Fire),
        8 => Just(Move::Receive),
        4 => (1usize..70_000, any::<bool>()).prop_map(|(len, gso)| Move::Transmit { len, gso }),
        2 => Just(Move::Reap),
        2 => Just(Move::Arm),
        1 => Just(Move::Service),
    ]
}

fn run(bench: &mut Bench, step: Move) {
    let connected = !bench.backend().queues.is_empty();
    match step {
        Move::Deliver { len, piece, flags, gso } if connected && !bench.backend().spoiled_rx => {
            let gso = gso.map(|(kind, size)| Extra::gso(kind, size));
            let mut backend = bench.sim.state();
            backend.deliver_in(0, &std::vec![0x5a; len], piece, 0, flags, gso);
            backend.publish_rx(0);
        }
        Move::PutRx { take, words, like } if connected => {
            let mut backend = bench.sim.state();
            let id = if take && !backend.spoiled_rx { backend.take_rx(0) } else { None };
            backend.spoiled_rx |= id.is_none();
            let words = match id {
                Some(request) if like => [words[0] & !0xffff | u32::from(request.id), words[1]],
                _ => words,
            };
            backend.put_rx(0, words);
            backend.publish_rx(0);
        }
        Move::PutTx { like, id, status } if connected => {
            let mut backend = bench.sim.state();
            let id = if like { id & 0x000f } else { id };
            backend.put_tx(0, id, status);
            backend.publish_tx(0);
            backend.spoiled_tx = true;
        }
        Move::Answer if connected && !bench.backend().spoiled_tx => {
            let mut backend = bench.sim.state();
            while let Some(sent) = backend.collect(0) {
                backend.finish(0, &sent, status::OKAY);
            }
            backend.publish_tx(0);
        }
        Move::Claim { transmit, responses } if connected => bench.backend().claim(0, transmit, responses),
        Move::Scribble { transmit, word, with } if connected => {
            let mut backend = bench.sim.state();
            let ring = if transmit { backend.queues[0].tx } else { backend.queues[0].rx };
            backend.set_word(&ring, word * 4, with);
            *(if transmit { &mut backend.spoiled_tx } else { &mut backend.spoiled_rx }) = true;
        }
        Move::State(state) => bench.sim.offer("state", &state.to_string()),
        Move::Fire if connected => drop(bench.backend().queues[0].rx_events.fire()),
        Move::Transmit { len, gso } => {
            let frame = tcp_or_udp(Family::V4, true, 0, &std::vec![0xa5; len.min(60_000)]);
            if let Some(mut packet) = bench.pool.alloc_from(&frame) {
                packet.meta_mut().checksum = weir_netif::Checksum::Partial { start: 34, offset: 16 };
                let kind = weir_netif::GsoKind::Tcp4;
                packet.meta_mut().gso = gso.then_some(weir_netif::Gso { kind, size: 1400, ecn: false });
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever a backend does: no panic, and after the stop everything is back.
    #[test]
    fn no_madness_costs_a_buffer_or_a_page(
        script in prop::collection::vec(moves(), 1..60),
        trust in prop::sample::select(std::vec![Trust::Pages, Trust::Arena, Trust::Copies]),
    ) {
        let mut bench = Bench::with(Simulated::new(), trust, &PATIENCE).unwrap();
        for step in script {
            run(&mut bench, step);
        }
        bench.stop();
        let _ = bench.reap();
        prop_assert_eq!(free_buffers(&mut bench.pool), SLOTS, "{} strays", bench.pool.arena().strays());
        bench.queues.clear();
        bench.backend().let_go();
        prop_assert_eq!(bench.sim.table.retry(), 0);
        prop_assert_eq!(bench.sim.table.in_use(), bench.granted);
    }
}
