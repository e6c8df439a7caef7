use super::*;
use crate::host::dispatch;
use weir_sync::CpuId;

const PEER: DomId = DomId(3);

fn target(cpu: usize, bit: u8) -> Interrupt {
    Interrupt { cpu: CpuId::new(cpu).unwrap(), bit }
}

fn taken(interrupt: Interrupt) -> bool {
    dispatch::pending(interrupt.cpu).take() & 1 << interrupt.bit != 0
}

#[test]
fn a_storm_is_one_softint_an_unmasking() {
    let interrupt = target(50, 9);
    let channel = Channel::allocate(PEER, interrupt).unwrap();
    let remote = Remote::connect(channel.port(), PEER).unwrap();
    assert!(remote.fire() && !taken(interrupt), "masked to begin with");
    channel.unmask();
    assert!(taken(interrupt) && remote.is_masked(), "what came while it was masked");
    (0..1000).for_each(|_| assert!(remote.fire()));
    assert!(!taken(interrupt));
    channel.unmask();
    assert!(taken(interrupt) && !remote.is_pending());
    channel.unmask();
    assert!(!taken(interrupt));
}

#[test]
fn only_the_named_domain_connects_and_only_while_the_channel_lives() {
    let channel = Channel::allocate(PEER, target(51, 10)).unwrap();
    let port = channel.port();
    assert!(Remote::connect(port, DomId(4)).is_none());
    let remote = Remote::connect(port, PEER).unwrap();
    channel.notify();
    channel.notify();
    assert_eq!(remote.notifications(), 2);
    drop(channel);
    assert!(!remote.fire() && remote.is_closed());
    assert!(Remote::connect(port, PEER).is_none());
}

#[test]
fn a_prepared_port_is_bound_once() {
    let (port, remote) = Remote::prepare();
    let channel = Channel::bind(port, target(52, 11)).unwrap();
    assert_eq!(Channel::bind(port, target(52, 12)).unwrap_err(), Error::Port);
    assert_eq!(remote.target(), Some(target(52, 11)));
    drop(channel);
    assert_eq!(Channel::bind(port, target(52, 12)).unwrap_err(), Error::Port);
}

#[test]
fn waits_for_an_event_since_the_clearing_and_no_longer_than_told() {
    let channel = Channel::allocate(PEER, target(53, 13)).unwrap();
    let remote = Remote::connect(channel.port(), PEER).unwrap();
    remote.fire();
    let never = crate::clock::now() + 3_600 * crate::clock::SECOND;
    channel.wait(never);
    channel.clear();
    let soon = crate::clock::now() + 5_000_000;
    channel.wait(soon);
    assert!(crate::clock::now() >= soon);
    std::thread::scope(|scope| {
        scope.spawn(|| remote.fire());
        channel.wait(never);
    });
}
