use super::*;
use crate::net::{Filter, MIN_QUEUE_SIZE};
use crate::simulated::{Manners, State};
use crate::violation::Violation;
use std::string::ToString;
use weir_machine::interrupt::FIRST_DEVICE;
use weir_netif::toeplitz::SYMMETRIC_KEY;
use weir_netif::{Link, Offloads};

/// What attaching a device comes to that was changed by `lie`.
fn attach(features: F, lie: impl FnOnce(&mut State)) -> Result<Bench, Error> {
    let sim = Simulated::new(features, 1, 256);
    lie(&mut sim.state());
    Bench::with(sim, &Options::default())
}

fn refusal(features: F, lie: impl FnOnce(&mut State)) -> Error {
    attach(features, lie).err().expect("attached")
}

#[test]
fn attaches_in_the_order_of_the_specification() {
    let bench = Bench::new(everything());
    assert_eq!(bench.sim.state().statuses, [0, 1, 3, 11, 15]);
    let info = bench.device.info();
    assert_eq!(info.name, "virtio-net simulated");
    assert_eq!((info.mac, info.mtu, info.queues), ([0x52, 0x54, 0, 0x12, 0x34, 0x56], 1500, 1));
    assert_eq!(info.offloads, Offloads::all() - Offloads::RX_RSS);
    bench.stop_and_count();
}

#[test]
fn receives_all_groups_but_not_all_stations() {
    let bench = Bench::new(everything());
    assert_eq!(bench.sim.state().commands, [(0, 1, [1].into()), (0, 0, [0].into())]);
    let sim = Simulated::new(everything(), 1, 256);
    let bench = Bench::with(sim, &Options { filter: Filter::Everything, ..Options::default() }).unwrap();
    assert_eq!(bench.sim.state().commands[1], (0, 0, [1].into()));
}

#[test]
fn receive_queues_share_the_buffers_they_may_hold() {
    for (buffers, entries) in
        [(usize::MAX, 256), (256, 256), (255, 128), (128, 128), (3, MIN_QUEUE_SIZE), (0, MIN_QUEUE_SIZE)]
    {
        let sim = Simulated::new(everything(), 1, 256);
        let bench = Bench::with(sim, &Options { receive_buffers: buffers, ..Options::default() }).unwrap();
        let sizes: Vec<u16> = (0..2)
            .map(|queue| bench.sim.state().queues[queue].memory.map_or(0, |memory| memory.size))
            .collect();
        assert_eq!(sizes, [entries, 256], "{buffers}");
    }
}

#[test]
fn a_refused_filter_is_no_obstacle() {
    let bench = attach(everything(), |state| state.manners = Manners::Refuse).unwrap();
    assert_eq!(bench.sim.state().commands[1], (0, 0, [1].into()), "everything, when groups are refused");
    bench.stop_and_count();
}

#[test]
fn attaches_to_the_least_device() {
    let bench = attach(F::VERSION_1, |state| {
        state.config.clear();
        state.vectors = None;
        state.announced = Some(2);
    })
    .unwrap();
    let info = bench.device.info();
    assert_eq!((info.mac[0], info.mtu, info.offloads), (2, 1500, Offloads::empty()));
    assert!(bench.sim.state().commands.is_empty());
    bench.stop_and_count();
}

#[test]
fn accepts_only_what_it_uses() {
    let bench = attach(F::from_bits_retain(virtio_spec::le128::from_ne(u64::MAX.into())), |_| ()).unwrap();
    let unused =
        F::INDIRECT_DESC | F::IN_ORDER | F::RING_PACKED | F::NOTIFICATION_DATA | F::HOST_UFO | F::GUEST_UFO;
    let accepted = crate::net::features::from_bits(bench.sim.state().accepted);
    assert!(!accepted.intersects(unused | F::MQ | F::RSS | F::HASH_REPORT | F::CTRL_VLAN));
    bench.stop_and_count();
}

#[test]
fn needs_a_modern_device() {
    assert_eq!(refusal(everything() - F::VERSION_1, |_| ()), Error::NotVersion1);
}

#[test]
fn gives_up_when_its_features_are_refused() {
    let error = refusal(everything(), |state| state.refuses_features = true);
    assert!(matches!(error, Error::FeaturesRefused(_)), "{error}");
}

#[test]
fn gives_up_on_a_device_that_does_not_reset() {
    let error = refusal(everything(), |state| {
        state.status = 4;
        state.never_resets = true;
    });
    assert_eq!(error, Error::ResetTimeout);
}

#[test]
fn gives_up_on_a_configuration_that_never_rests() {
    let error = refusal(everything(), |state| state.generation_runs = true);
    assert_eq!(error, Error::Violation(Violation::ConfigNeverStable));
}

#[test]
fn gives_up_on_a_configuration_cut_short() {
    assert_eq!(
        refusal(everything(), |state| state.config.truncate(5)),
        Error::Malformed("virtio-net configuration")
    );
}

#[test]
fn gives_up_on_impossible_queues() {
    for queue in 0..3 {
        for (offered, error) in [
            (0, Error::QueueMissing(queue)),
            (100, Error::QueueSize(queue, 100)),
            (1, Error::QueueSize(queue, 1)),
            (u16::MAX, Error::QueueSize(queue, u16::MAX)),
        ] {
            let lie = |state: &mut State| state.queues[usize::from(queue)].offered = offered;
            assert_eq!(refusal(everything(), lie), error);
        }
    }
    assert_eq!(refusal(everything(), |state| state.queues[0].offered = 32), Error::QueueSize(0, 32));
    assert_eq!(refusal(everything(), |state| state.announced = Some(1)), Error::QueueMissing(1));
    assert_eq!(refusal(everything(), |state| state.announced = Some(2)), Error::QueueMissing(2));
}

#[test]
fn uses_a_part_of_a_huge_queue() {
    let bench = attach(everything(), |state| state.queues[0].offered = 32768).unwrap();
    assert_eq!(bench.sim.state().queues[0].memory.unwrap().size, 1024);
}

#[test]
fn gives_up_on_an_absurd_mtu() {
    for mtu in [0_u16, 67] {
        let lie = |state: &mut State| state.config[10..12].copy_from_slice(&mtu.to_le_bytes());
        assert_eq!(refusal(everything() | F::MTU, lie), Error::Mtu(mtu));
    }
    let bench = attach(everything() | F::MTU, |state| state.config[10..12].fill(0xff)).unwrap();
    assert_eq!(bench.device.info().mtu, u16::MAX);
}

#[test]
fn clamps_the_mtu_to_one_buffer_without_merging() {
    let features = (everything() - F::MRG_RXBUF) | F::MTU;
    let bench =
        attach(features, |state| state.config[10..12].copy_from_slice(&9000_u16.to_le_bytes())).unwrap();
    assert_eq!(bench.device.info().mtu, 1570);
    let accepted = crate::net::features::from_bits(bench.sim.state().accepted);
    assert!(!accepted.contains(F::MTU), "accepting it would promise to receive such frames (§5.1.4.2)");
}

#[test]
fn gives_up_on_absurd_queue_pairs() {
    for pairs in [0, 0x8001, 0xffff_u16] {
        let lie = |state: &mut State| state.config[8..10].copy_from_slice(&pairs.to_le_bytes());
        assert_eq!(refusal(everything() | F::MQ, lie), Error::QueuePairs(pairs));
    }
    let sim = Simulated::new(everything() | F::MQ, 2, 256);
    sim.state().config[8..10].copy_from_slice(&0x8000_u16.to_le_bytes());
    let error = Bench::with(sim, &Options { queue_pairs: 2, ..Options::default() }).err().unwrap();
    assert!(matches!(error, Error::QueueMissing(_) | Error::QueuePairs(_)), "{error}");
}

#[test]
fn gives_up_on_a_group_address_of_its_own() {
    assert!(matches!(refusal(everything(), |state| state.config[0] = 0x33), Error::Mac(_)));
    assert!(matches!(refusal(everything(), |state| state.config[..6].fill(0)), Error::Mac(_)));
}

#[test]
fn gives_up_on_a_control_queue_that_does_not_answer() {
    let error = refusal(everything(), |state| state.manners = Manners::Ignore);
    assert_eq!(error, Error::Violation(Violation::ControlTimeout));
}

#[test]
fn gives_up_on_a_control_queue_that_answers_nonsense() {
    let error = refusal(everything(), |state| state.manners = Manners::Garble);
    assert_eq!(error, Error::Violation(Violation::ControlAnswerUnknown));
}

#[test]
fn gives_up_when_vectors_are_refused() {
    assert_eq!(refusal(everything(), |state| state.refuses_vectors = true), Error::VectorRefused);
}

#[test]
fn is_reset_when_it_could_not_be_attached() {
    let sim = Simulated::new(everything(), 1, 256);
    sim.state().manners = Manners::Garble;
    assert!(Bench::with(sim.clone(), &Options::default()).is_err());
    assert!(sim.is_quenched());
}

#[test]
fn other_devices_are_left_alone() {
    let sim = Simulated::new(everything(), 1, 256);
    let mut cpu = cpu::claim_any().unwrap();
    let error = cpu.control(|cx| probe(cx, sim.transport(), 2, &Options::default())).err().unwrap();
    assert_eq!(error, Error::NotNetwork(2));
    assert!(sim.state().statuses.is_empty());
}

#[test]
fn follows_the_carrier() {
    let mut bench = Bench::new(everything());
    let Bench { cpu, device, sim, .. } = &mut bench;
    let mut link = || cpu.control(|cx| device.link(cx));
    assert_eq!(link(), Link::Up);
    sim.state().config[6] = 0;
    assert_eq!(link(), Link::Down);
    sim.state().config[6] = 3;
    assert_eq!(link(), Link::Up);
    sim.state().config.clear();
    assert_eq!(link(), Link::Down);
}

#[test]
fn a_carrier_that_came_back_between_two_looks_is_down_once() {
    let mut bench = Bench::new(everything());
    let Bench { cpu, device, sim, .. } = &mut bench;
    let mut link = || cpu.control(|cx| device.link(cx));
    let change = |up: u8| {
        let mut state = sim.state();
        state.generation += 1;
        state.config[6] = up;
    };
    change(1);
    assert_eq!([link(), link()], [Link::Up; 2], "nobody knows what was before the first look");
    [0, 1].into_iter().for_each(change);
    assert_eq!([link(), link(), link()], [Link::Down, Link::Up, Link::Up]);
    [0, 1, 0, 1, 0].into_iter().for_each(change);
    assert_eq!([link(), link()], [Link::Down; 2]);
    [1, 0, 1].into_iter().for_each(change);
    assert_eq!([link(), link()], [Link::Up; 2], "that it was away is known");
    // Without a status it has none.
    let mut bench = Bench::new(everything() - F::STATUS);
    let Bench { cpu, device, sim, .. } = &mut bench;
    for generation in 0..3 {
        sim.state().generation = generation;
        assert_eq!(cpu.control(|cx| device.link(cx)), Link::Up);
    }
}

#[test]
fn pairs_go_to_their_cpus() {
    let sim = Simulated::new(everything() | F::MQ, 4, 256);
    let mut cpu = cpu::claim_any().unwrap();
    let options = Options { queue_pairs: 3, ..Options::default() };
    let mut device = cpu.control(|cx| probe(cx, sim.transport(), 1, &options)).unwrap();
    let pairs = cpu.control(|cx| device.queues(cx));
    assert_eq!(pairs.iter().map(|pair| pair.cpu.index()).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(pairs.iter().all(|pair| pair.source >= FIRST_DEVICE));
    assert!(cpu.control(|cx| device.queues(cx)).is_empty());
    let state = sim.state();
    assert_eq!(state.commands[0], (4, 0, [3, 0].into()), "VQ_PAIRS_SET");
    let vectors: Vec<_> = state.routes.iter().map(|route| (route.0, route.1.cpu.index())).collect();
    assert_eq!(vectors, [(0, 0), (1, 1), (2, 2), (3, 0)]);
    assert_eq!(state.config_vector, Some(3));
    assert!(state.queues[6].memory.is_none() && state.queues[8].memory.is_some());
}

#[test]
fn uses_as_many_pairs_as_there_are_vectors_and_shares_the_last() {
    let sim = Simulated::new(everything() | F::MQ, 4, 256);
    sim.state().vectors = Some(2);
    let bench = Bench::with(sim, &Options { queue_pairs: 4, ..Options::default() }).unwrap();
    assert_eq!(bench.device.info().queues, 2);
    assert_eq!(bench.sim.state().config_vector, Some(0));
    bench.stop_and_count();
}

#[test]
fn a_wired_interrupt_serves_one_pair() {
    let sim = Simulated::new(everything() | F::MQ, 4, 256);
    sim.state().vectors = None;
    let mut bench = Bench::with(sim, &Options { queue_pairs: 4, ..Options::default() }).unwrap();
    assert_eq!(bench.device.info().queues, 1);
    assert_eq!(bench.arm(), Ok(More::No));
    assert_eq!(bench.sim.state().acknowledgements, 1);
    bench.stop_and_count();
}

#[test]
fn spreads_flows_by_a_symmetric_hash_where_offered() {
    let sim = Simulated::new(everything() | F::MQ | F::RSS, 2, 256);
    let bench = Bench::with(sim, &Options { queue_pairs: 2, ..Options::default() }).unwrap();
    assert!(bench.device.info().offloads.contains(Offloads::RX_RSS));
    let commands = bench.sim.state().commands.clone();
    assert_eq!((commands[0].0, commands[0].1), (4, 1), "RSS_CONFIG");
    assert!(commands[0].2.ends_with(&SYMMETRIC_KEY));
    bench.stop_and_count();
}

#[test]
fn falls_back_to_automatic_steering() {
    let sim = Simulated::new(everything() | F::MQ | F::RSS, 2, 256);
    sim.state().config[17] = 20;
    let bench = Bench::with(sim, &Options { queue_pairs: 2, ..Options::default() }).unwrap();
    assert!(!bench.device.info().offloads.contains(Offloads::RX_RSS));
    assert_eq!(bench.sim.state().commands[0], (4, 0, [2, 0].into()));
}

#[test]
fn gives_up_when_several_queues_are_refused() {
    let sim = Simulated::new(everything() | F::MQ, 2, 256);
    sim.state().manners = Manners::Refuse;
    let error = Bench::with(sim, &Options { queue_pairs: 2, ..Options::default() }).err().unwrap();
    assert_eq!(error, Error::SteeringRefused);
    assert!(error.to_string().contains("one queue pair"));
}
