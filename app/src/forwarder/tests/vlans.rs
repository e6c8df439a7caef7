//! Interfaces on VLANs of one device, while others on it come and go.

use super::*;

/// One device, and interfaces on VLANs of it: 10 and 20, and the ones that `others` says.
fn trunk(steering: &str, others: &[u16]) -> Config {
    let mut text = format!("steering = \"{steering}\"\n[interface.trunk]\nmatch.port = 0\n");
    let vlans = [(10, A.into()), (20, B.into())];
    let others = others.iter().map(|&id| (id, format!("\"10.0.{}.1/24\"", id % 200)));
    for (id, addresses) in vlans.into_iter().chain(others) {
        text += &format!("[interface.v{id}]\nparent = \"trunk\"\nvlan = {id}\naddresses = [{addresses}]\n");
    }
    Config::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn tagged(id: u16, frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0], &id.to_be_bytes(), &frame[12..]].concat()
}

/// A frame's VLAN, and the frame without its tag. The device's own interface has no addresses but speaks IPv6.
fn bare(frame: &[u8]) -> (u16, Vec<u8>) {
    match frame[12..14] {
        [0x81, 0] => (u16::from_be_bytes([frame[14], frame[15]]), [&frame[..12], &frame[16..]].concat()),
        _ => (0, frame.into()),
    }
}

/// Flows from VLAN 10 to VLAN 20 of one device with one queue, on two CPUs. Every fourth packet is on a VLAN that comes and
/// goes, or for a host on one.
fn storm(steering: &str) -> Totals {
    let storm = Storm::new();
    let other = |number: u64| match number % 16 {
        3 => Some(tagged(10, &ipv4(0, [10, 0, 0, 9], [10, 0, 30, 9], (number as u16, 7), number))),
        7 => Some(tagged(30, &ipv4(0, [10, 0, 30, 9], [10, 0, 0, 9], (number as u16, 7), number))),
        11 => Some(tagged(99, &ipv4(0, [10, 0, 0, 9], [10, 0, 1, 9], (number as u16, 7), number))),
        _ => None,
    };
    let take = storm.taker();
    let wire = source_wire(0, 1, storm.maker(other, |frame| tagged(10, &frame)), move |_, frame| {
        let (id, frame) = bare(frame);
        if take(&frame) {
            assert_eq!(id, 20);
        }
    });
    let mut rig = Rig::new(2, std::vec![wire]);
    let configs = [&[][..], &[30], &[30, 40], &[40, 50]].map(|others| trunk(steering, others));
    storm.blow(&mut rig, &configs, changes() / 2);
    rig.finish(&[0])
}

#[test]
fn vlans_that_come_and_go_cost_others_no_packet() {
    for steering in ["off", "flows"] {
        let totals = storm(steering);
        assert_lost_by_changes(&totals, &[Drop::EthernetUnknownVlan]);
        assert!(totals.dropped(Drop::EthernetUnknownVlan) > 0);
    }
}

#[test]
fn a_vlan_keeps_its_index_and_its_count_for_as_long_as_it_is_there() {
    let wire = sink(0, 1, |_, _| ());
    let mut rig = Rig::new(1, std::vec![wire]);
    rig.replace(&trunk("off", &[30]));
    let all = |rig: &Rig| rig.interfaces.counters().map(Arc::as_ptr).collect::<Vec<_>>();
    let before = all(&rig);
    assert_eq!(before.len(), 4);
    let change = rig.replace(&trunk("off", &[40]));
    assert_eq!((change.attach.len(), change.detach.len(), change.keep.len()), (1, 1, 3));
    let after = all(&rig);
    assert_eq!(before[..3], after[..3]);
    assert_ne!(before[3], after[3]);
    rig.finish(&[0]);
}

/// As with a vif that is plugged in, taken away and plugged in again.
#[test]
fn vlans_come_and_go_with_their_device() {
    let wire = sink(0, 1, |_, _| ());
    let mut rig = Rig::new(1, std::vec![]);
    rig.interfaces = Interfaces::new(rig.shared, 1, std::vec![]).hot_plug();
    let states = |rig: &Rig| {
        rig.interfaces
            .status()
            .iter()
            .map(|status| format!("{} {}", status.name, status.state))
            .collect::<Vec<_>>()
    };
    rig.replace(&trunk("off", &[]));
    assert_eq!(states(&rig), ["trunk absent", "v10 absent", "v20 absent"]);
    for _ in 0..2 {
        let plugged = wire.clone();
        rig.control.control(|cx| {
            let bay = Bay::new(cx, Box::new(move |_| Ok(attach(&plugged)))).unwrap();
            rig.interfaces.plug(cx, IfIndex(0), bay);
        });
        assert_eq!(states(&rig), ["trunk up", "v10 up", "v20 up"]);
        rig.control.control(|cx| rig.interfaces.unplug(cx, IfIndex(0)));
        assert_eq!(states(&rig), ["trunk absent", "v10 absent", "v20 absent"]);
        wait_for(|| {
            rig.control.control(|cx| rig.interfaces.run(cx, crate::interfaces::Look::None));
            rig.interfaces.is_settled().then_some(())
        });
    }
    let mut disabled = trunk("off", &[]);
    disabled.interfaces[0].enabled = false;
    disabled.interfaces[1].enabled = false;
    let plugged = wire.clone();
    rig.control.control(|cx| {
        let bay = Bay::new(cx, Box::new(move |_| Ok(attach(&plugged)))).unwrap();
        rig.interfaces.plug(cx, IfIndex(0), bay);
        rig.interfaces.replace(cx, disabled).unwrap();
    });
    assert_eq!(
        states(&rig),
        ["trunk disabled", "v10 disabled", "v20 down"],
        "a VLAN is down with its device"
    );
    rig.stop.store(true, Ordering::Relaxed);
    rig.threads.drain(..).for_each(|thread| assert!(thread.join().is_ok()));
}
