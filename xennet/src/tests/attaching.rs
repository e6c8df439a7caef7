use super::*;
use crate::attach::{Vif, describe};
use crate::simulated::FEATURES;
use crate::violation::Violation;
use crate::xenbus::State;
use std::string::ToString;
use std::vec;
use weir_machine::interrupt::STORE;
use weir_machine::xen::event::Remote;
use weir_machine::xen::store::StoreError;
use weir_netif::{Link, Offloads};

fn refusal(tell: impl FnOnce(&Simulated)) -> Error {
    let sim = Simulated::new();
    tell(&sim);
    let granted = sim.table.in_use();
    let (table, store, peer) = (sim.table, sim.store, sim.peer.clone());
    let error = Bench::with(sim, Trust::Copies, &PATIENCE).err().expect("attached");
    assert_eq!((table.in_use(), table.limbo(), store.watches()), (granted, 0, 0), "{error}");
    assert_eq!(peer.transactions(), 0);
    error
}

#[test]
fn attaches_as_linux_does() {
    let bench = Bench::new();
    let info = bench.device.info();
    assert_eq!(info.name, "xennet vif 0");
    assert_eq!((info.mac, info.mtu, info.queues), ([0, 0x16, 0x3e, 0, 0, 1], 1500, 1));
    assert_eq!(info.offloads, Offloads::all() - Offloads::TX_ECN - Offloads::RX_RSS - Offloads::TX_TAGGED);
    assert_eq!(bench.device.config_source(), STORE);
    let key = |key| bench.sim.front_key(key);
    for (node, value) in [
        ("request-rx-copy", "1"),
        ("feature-rx-notify", "1"),
        ("feature-sg", "1"),
        ("feature-gso-tcpv4", "1"),
        ("feature-gso-tcpv6", "1"),
        ("feature-no-csum-offload", "0"),
        ("feature-ipv6-csum-offload", "1"),
        ("state", "4"),
    ] {
        assert_eq!(key(node).as_deref(), Some(value), "{node}");
    }
    assert!(key("multi-queue-num-queues").is_none() && key("event-channel").is_none());
    assert!(key("request-multicast-control").is_none(), "a router needs all groups");
    assert_eq!(bench.backend().rx_available(0), 256);
    bench.stop_and_count();
}

#[test]
fn each_queue_has_its_directory() {
    let options = Options { queue_pairs: 8, ..PATIENCE };
    let bench = Bench::with(Simulated::new(), Trust::Arena, &options).unwrap();
    assert_eq!(bench.device.info().queues, 4, "the backend's maximum");
    let key = |key: &str| bench.sim.front_key(key);
    assert_eq!(key("multi-queue-num-queues").as_deref(), Some("4"));
    assert!(key("tx-ring-ref").is_none() && key("event-channel-tx").is_none());
    for queue in 0..4 {
        for name in ["tx-ring-ref", "rx-ring-ref", "event-channel-tx", "event-channel-rx"] {
            assert!(key(&std::format!("queue-{queue}/{name}")).is_some(), "{queue}/{name}");
        }
        let target = bench.backend().queues[queue].rx_events.target().unwrap();
        assert_eq!(target.cpu.index(), queue);
        assert_eq!(bench.backend().queues[queue].tx_events.target(), Some(target));
    }
    bench.stop_and_count();
}

#[test]
fn nodes_of_a_former_life_do_not_mislead_the_backend() {
    let options = Options { queue_pairs: 2, ..PATIENCE };
    let mut first = Bench::with(Simulated::new(), Trust::Copies, &options).unwrap();
    first.stop();
    let sim = first.sim.clone();
    sim.withdraw("feature-split-event-channels");
    first.count();
    let second = Bench::with(sim, Trust::Copies, &PATIENCE).unwrap();
    let key = |key: &str| second.sim.front_key(key);
    assert!(key("queue-0/tx-ring-ref").is_none() && key("multi-queue-num-queues").is_none());
    assert!(key("event-channel").is_some() && key("event-channel-tx").is_none());
    second.stop_and_count();
}

#[test]
fn a_connection_left_over_from_a_former_life_is_closed_first() {
    let first = Bench::copying();
    let sim = first.sim.clone();
    // As after kexec: nobody said good-bye.
    let Bench { cpu, device, queues, .. } = first;
    drop((cpu, queues));
    core::mem::forget(device);
    sim.state().seen.clear();
    let second = Bench::with(sim, Trust::Copies, &PATIENCE).unwrap();
    let seen = second.backend().seen.clone();
    assert_eq!(seen, [State::Closing, State::Closed, State::Initialising, State::Connected]);
    drop(second.queues);
}

#[test]
fn attaches_to_the_least_backend() {
    let sim = Simulated::new();
    for (key, _) in FEATURES.iter().filter(|(key, _)| *key != "feature-rx-copy") {
        sim.withdraw(key);
    }
    sim.offer("feature-no-csum-offload", "1");
    let bench = Bench::with(sim, Trust::Arena, &Options { queue_pairs: 4, ..PATIENCE }).unwrap();
    let info = bench.device.info();
    assert_eq!((info.mtu, info.queues), (1500, 1));
    assert_eq!(info.offloads, Offloads::RX_CHECKSUM | Offloads::RX_TCP);
    bench.stop_and_count();
}

#[test]
fn takes_only_the_offloads_that_are_wanted() {
    let options = Options { offloads: Offloads::empty(), ..PATIENCE };
    let bench = Bench::with(Simulated::new(), Trust::Arena, &options).unwrap();
    assert_eq!(bench.device.info().offloads, Offloads::empty());
    for (node, value) in
        [("feature-gso-tcpv4", "0"), ("feature-no-csum-offload", "1"), ("feature-ipv6-csum-offload", "0")]
    {
        assert_eq!(bench.sim.front_key(node).as_deref(), Some(value), "{node}");
    }
    bench.stop_and_count();
}

#[test]
fn the_mtu_is_the_toolstacks() {
    for (front, back, sg, mtu) in [
        (Some("9000"), None, "1", 9000),
        (None, Some("4000"), "1", 4000),
        (Some("9000"), None, "0", 1500),
        (Some("100000"), None, "1", 65517),
    ] {
        let sim = Simulated::new();
        front.into_iter().for_each(|mtu| sim.peer.write(&std::format!("{}/mtu", sim.front), mtu));
        back.into_iter().for_each(|mtu| sim.offer("mtu", mtu));
        sim.offer("feature-sg", sg);
        let bench = Bench::with(sim, Trust::Copies, &PATIENCE).unwrap();
        assert_eq!(bench.device.info().mtu, mtu);
        bench.stop_and_count();
    }
    let error = refusal(|sim| sim.peer.write(&std::format!("{}/mtu", sim.front), "67"));
    assert_eq!(error, Error::Value("device/vif/0/mtu".into(), "67".into()));
}

#[test]
fn says_what_is_missing() {
    let error = refusal(|sim| sim.withdraw("feature-rx-copy"));
    assert_eq!(error, Error::NoCopy);
    let error = refusal(|sim| sim.peer.remove(&std::format!("{}/mac", sim.front)));
    assert_eq!(error, Error::Missing("device/vif/0/mac".into()));
    let error = refusal(|sim| sim.peer.write(&std::format!("{}/mac", sim.front), "01:00:5e:00:00:01"));
    assert_eq!(error, Error::Value("device/vif/0/mac".into(), "01:00:5e:00:00:01".into()));
    let error = refusal(|sim| sim.peer.write(&std::format!("{}/backend-id", sim.front), "70000"));
    assert_eq!(error, Error::Value("device/vif/0/backend-id".into(), "70000".into()));
    let error = refusal(|sim| sim.peer.remove(&std::format!("{}/backend", sim.front)));
    assert_eq!(error, Error::Missing("device/vif/0/backend".into()));
    let error = refusal(|sim| sim.offer("feature-sg", "yes"));
    assert!(
        matches!(&error, Error::Store(path, StoreError::Malformed) if path.ends_with("feature-sg")),
        "{error}"
    );
    let error = refusal(|sim| sim.peer.deny(&sim.back));
    assert!(matches!(error, Error::Store(_, StoreError::Denied)), "{error}");
}

#[test]
fn says_where_a_backend_stays_that_never_answers() {
    let error = refusal(|sim| {
        sim.offer("state", "1");
        sim.state().ignores = vec![State::Initialising];
        sim.peer.write(&std::format!("{}/state", sim.front), "1");
        sim.offer("state", "1");
    });
    assert_eq!(error, Error::Backend(State::InitWait, State::Initialising));
    assert!(error.to_string().contains("stays in state Initialising (1)"), "{error}");
    let error = refusal(|sim| sim.state().ignores = vec![State::Connected]);
    assert_eq!(error, Error::Backend(State::Connected, State::InitWait));
    assert!(error.to_string().contains("hotplug-status"), "{error}");
    let error = refusal(|sim| sim.state().instead = [(State::Connected as u8, State::Closed)].into());
    assert_eq!(error, Error::Backend(State::Connected, State::Closed));
    let error = refusal(|sim| {
        sim.peer.remove(&sim.back);
    });
    assert_eq!(error, Error::Backend(State::InitWait, State::Unknown));
}

#[test]
fn gives_up_without_grants() {
    let sim = Simulated::new();
    let table = sim.table;
    let page = Region::new(4096, 4096).unwrap();
    let hoard: Vec<_> = core::iter::from_fn(|| {
        table.grant(weir_machine::xen::DomId(0), page.addr(), weir_machine::xen::grant::Access::ReadOnly).ok()
    })
    .collect();
    assert_eq!(Bench::with(sim.clone(), Trust::Copies, &PATIENCE).err(), Some(Error::NoMemory));
    assert_eq!(table.in_use(), hoard.len());
    // A few are enough.
    let kept = hoard.len() - 100;
    let hoard: Vec<_> = hoard.into_iter().take(kept).collect();
    let mut bench = Bench::with(sim, Trust::Copies, &PATIENCE).unwrap();
    assert!(bench.backend().rx_available(0) < 100);
    for n in 0..300u16 {
        assert!(bench.backend().deliver(0, &[n as u8; 5000], 0, None));
        bench.backend().publish_rx(0);
        let mut batch = bench.receive().unwrap();
        assert_eq!(bytes(&batch[0]), [n as u8; 5000]);
        let sent = bench.sent(&mut batch);
        assert_eq!(sent.bytes, [n as u8; 5000]);
    }
    bench.stop_and_count();
    drop(hoard);
}

#[test]
fn lists_vifs_by_number() {
    let sim = Simulated::new();
    let mut cpu = cpu::claim_any().unwrap();
    for handle in [10, 2] {
        let _ = Simulated::of(sim.store, sim.peer.clone(), sim.table, handle, weir_machine::xen::DomId(0));
    }
    let handles: Vec<u32> =
        cpu.control(|cx| Vif::list(cx, sim.store)).unwrap().iter().map(|vif| vif.handle).collect();
    assert_eq!(handles, [0, 2, 10]);
    sim.peer.remove(&std::format!("{}/device", sim.peer.home()));
    assert_eq!(cpu.control(|cx| Vif::list(cx, sim.store)), Ok(vec![]));
}

#[test]
fn describes_a_vif_without_touching_it() {
    let sim = Simulated::new();
    let xen = Xen { store: sim.store, grants: sim.table, arena: arena(1), lent: None };
    let mut cpu = cpu::claim_any().unwrap();
    sim.state().seen.clear();
    let info = cpu.control(|cx| describe(cx, &xen, 0, &PATIENCE)).unwrap();
    assert_eq!((info.mac, info.mtu, info.queues), ([0, 0x16, 0x3e, 0, 0, 1], 1500, 1));
    assert_eq!((sim.state().seen.len(), sim.table.in_use(), sim.store.watches()), (0, 0, 0));
}

#[test]
fn link_follows_backend_and_carrier() {
    let mut bench = Bench::new();
    let link = |bench: &mut Bench| {
        let device = &mut bench.device;
        bench.cpu.control(|cx| device.link(cx))
    };
    assert_eq!(link(&mut bench), Link::Up);
    bench.sim.offer("carrier", "0");
    assert_eq!(link(&mut bench), Link::Down);
    bench.sim.offer("carrier", "1");
    assert_eq!(link(&mut bench), Link::Up);
    assert_eq!(bench.service(), Ok(()));
    bench.sim.offer("state", "5");
    assert_eq!(link(&mut bench), Link::Down);
    assert_eq!(bench.service(), Err(Violation::BackendClosed.into()));
    assert_eq!(link(&mut bench), Link::Down);
    bench.stop_and_count();
}

/// What the toolstack does to the MTU while the vif is attached.
#[test]
fn the_mtu_follows_the_toolstack_and_a_wrong_one_does_not_count() {
    let mut bench = Bench::new();
    let front = bench.sim.front.clone();
    for (mtu, now) in [("1300", 1300), ("9000", 9000), ("20", 9000), ("many", 9000), ("1500", 1500)] {
        bench.sim.peer.write(&std::format!("{front}/mtu"), mtu);
        assert_eq!(bench.service(), Ok(()));
        assert_eq!(bench.device.info().mtu, now, "{mtu}");
    }
    bench.stop_and_count();
}

/// A driver that is bound to the vif again takes the rings over as they are (Linux's netback since 5.6).
#[test]
fn another_driver_of_the_backend_takes_the_rings_over() {
    let options = Options { queue_pairs: 2, ..PATIENCE };
    let mut bench = Bench::with(Simulated::new(), Trust::Pages, &options).unwrap();
    let link = |bench: &mut Bench| {
        let device = &mut bench.device;
        bench.cpu.control(|cx| device.link(cx))
    };
    for round in 0..10u8 {
        for queue in 0..2 {
            assert!(bench.backend().deliver(queue, &[round; 600], 0, None));
            bench.backend().publish_rx(queue);
            let mut batch = bench.receive_on(queue).unwrap();
            assert_eq!(bytes(&batch[0]), [round; 600]);
            bench.pool.free_all(&mut batch);
        }
        let mut batch = bench.one(&[round; 60]);
        bench.sim.unbind();
        assert_eq!(bench.service(), Ok(()));
        assert_eq!(link(&mut bench), Link::Down);
        // Sent meanwhile: it is there for the next driver.
        bench.transmit(&mut batch).unwrap();
        bench.sim.bind();
        assert_eq!(bench.service(), Ok(()));
        assert_eq!(link(&mut bench), Link::Up);
        assert_eq!(bench.backend().spread.flags, 0xf, "it was told of the hash again");
        let mut backend = bench.sim.state();
        let sent = backend.collect(0).expect("nothing was sent");
        assert_eq!(sent.bytes, [round; 60]);
        backend.finish(0, &sent, 0);
        backend.publish_tx(0);
        drop(backend);
        assert_eq!(bench.reap(), Ok(More::No));
    }
    bench.stop_and_count();
}

#[test]
fn a_backend_that_closes_is_waited_for_if_it_is_to_stay() {
    for (online, state) in [(Some("1"), "1"), (Some("0"), "6"), (None, "6")] {
        let mut bench = Bench::new();
        if let Some(online) = online {
            bench.sim.offer("online", online);
        }
        bench.sim.offer("state", "5");
        assert_eq!(bench.service(), Err(Violation::BackendClosed.into()));
        assert_eq!(bench.sim.front_key("state").as_deref(), Some(state), "{online:?}");
        bench.stop_and_count();
    }
}

#[test]
fn comes_back_after_its_backend_did() {
    let mut bench = Bench::zero_copy();
    bench.sim.offer("state", "5");
    assert_eq!(bench.service(), Err(Violation::BackendClosed.into()));
    assert_eq!(bench.sim.front_key("state").as_deref(), Some("6"));
    let (sim, xen) = (bench.sim.clone(), bench.xen);
    bench.receive().unwrap_err();
    let pool = core::mem::replace(&mut bench.pool, Pool::new(arena(1)));
    bench.queues.clear();
    drop(bench);
    let mut bench = Bench::attach(sim, xen, pool, &PATIENCE).unwrap();
    assert!(bench.backend().deliver(0, &[1; 60], 0, None));
    bench.backend().publish_rx(0);
    let mut batch = bench.receive().unwrap();
    assert_eq!(batch.len(), 1);
    bench.pool.free_all(&mut batch);
    bench.stop_and_count();
}

#[test]
fn pages_a_backend_does_not_let_go_of_stay_in_limbo() {
    let mut bench = Bench::copying();
    bench.backend().keeps = true;
    bench.stop();
    let table = bench.sim.table;
    bench.queues.clear();
    assert_eq!(table.limbo(), 2, "both rings");
    bench.backend().let_go();
    assert_eq!(table.retry(), 0);
    bench.count();
}

#[test]
fn a_backend_that_never_closes_is_left_alone_after_a_while() {
    let mut bench = Bench::copying();
    let events: Vec<Remote> = bench.backend().queues.iter().map(|queue| queue.rx_events.clone()).collect();
    bench.backend().ignores = vec![State::Closing, State::Closed];
    let before = std::time::Instant::now();
    bench.stop();
    assert!(before.elapsed() < std::time::Duration::from_secs(20));
    assert!(bench.receive().is_err());
    assert_eq!(free_buffers(&mut bench.pool), SLOTS);
    bench.queues.clear();
    assert!(events.iter().all(|events| events.is_closed() && !events.fire()));
    assert_eq!(bench.sim.table.limbo(), 2);
}

#[test]
fn a_thousand_attachments_leave_nothing() {
    let sim = Simulated::new();
    let arena = page_arena(SLOTS);
    let lent = lend(&sim, arena);
    let xen = Xen { store: sim.store, grants: sim.table, arena, lent: Some(lent) };
    let rounds = if cfg!(debug_assertions) { 1000 } else { 3000 };
    for round in 0..rounds {
        let mut bench = Bench::attach(sim.clone(), xen, Pool::new(arena), &PATIENCE).unwrap();
        let mut batch = bench.one(&[round as u8; 1400]);
        bench.transmit(&mut batch).unwrap();
        assert!(bench.backend().deliver(0, &[1; 60], 0, None));
        bench.backend().publish_rx(0);
        bench.stop_and_count();
    }
}
