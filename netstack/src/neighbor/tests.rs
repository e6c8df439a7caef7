//! The table against a model of it.

use super::*;
use crate::frames;
use crate::sim::plan;
use crate::snapshot::{Interface, Snapshot};
use crate::time::Instant;
use crate::timers::{Timed, Timers};
use core::net::Ipv4Addr;
use core::time::Duration;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

const LINK: IfIndex = IfIndex(3);

/// A table with timers of its own.
struct Known {
    table: Table<Ipv4Addr>,
    timers: Timers,
    links: Vec<Interface>,
}

impl Known {
    fn new(capacity: usize, seed: u64) -> Known {
        let table = Table::new(capacity, seed, Timed::Neighbor4);
        let plan = plan(&[&[], &[], &[], &[], &[], &[]]);
        let links = Snapshot::build(&plan).unwrap().interfaces().cloned().collect();
        Known { timers: Timers::new(table.capacity()), table, links }
    }

    fn learn(&mut self, event: &Event<Ipv4Addr>, now: Instant) -> Option<([u8; 6], Waiting)> {
        self.table.learn(event, now, &mut self.timers)
    }

    /// As packets do whose route has the hop 7: what is ready made, otherwise by the table. Both say the same.
    fn hop(&mut self, interface: IfIndex, address: Ipv4Addr, now: Instant) -> Option<[u8; 6]> {
        let next = NextHop::Host(7 + u32::from(interface.0));
        let ready = self.table.adjacency(7 + u32::from(interface.0), address).map(|line| line.stations);
        let found = self.table.hop(&self.links[interface.index()], address, next, now, &mut self.timers);
        if let Some(ready) = ready {
            assert_eq!(found.as_ref(), ready.first_chunk(), "{address}");
        }
        found
    }

    fn wait(&mut self, interface: IfIndex, address: Ipv4Addr, packet: Packet, now: Instant) -> Admission {
        self.table.wait(interface, address, packet, now, &mut self.timers)
    }

    /// The next thing that timers ask for.
    fn due(&mut self, now: Instant) -> Option<Due<Ipv4Addr>> {
        while let Some(timed) = self.timers.due(now) {
            let Timed::Neighbor4(number) = timed else { panic!("{timed:?}") };
            if let Some(due) = self.table.expire(number, now, &mut self.timers) {
                return Some(due);
            }
        }
        None
    }

    /// Each neighbour has one timer.
    fn assert_sound(&self) {
        assert_eq!(self.timers.len(), self.table.len());
    }
}

fn host(n: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + u32::from(n))
}

fn said(n: u16, mac: u8, evidence: Evidence) -> Event<Ipv4Addr> {
    Event { interface: LINK, address: host(n), mac: Some([2, 0, 0, 0, 0, mac]), evidence }
}

#[test]
fn the_same_address_on_two_links_is_two_neighbors() {
    let mut table = Known::new(16, 1);
    let now = Instant::from_secs(1);
    table.learn(&said(1, 1, Evidence::Asked), now);
    let other = Event { interface: IfIndex(4), ..said(1, 2, Evidence::Asked) };
    table.learn(&other, now);
    assert_eq!(table.hop(LINK, host(1), now), Some([2, 0, 0, 0, 0, 1]));
    assert_eq!(table.hop(IfIndex(4), host(1), now), Some([2, 0, 0, 0, 0, 2]));
    assert_eq!(table.hop(IfIndex(5), host(1), now), None);
}

#[test]
fn reachability_lasts_between_a_half_and_one_and_a_half_of_thirty_seconds() {
    for seed in 0..50 {
        let mut table = Known::new(16, seed);
        let now = Instant::from_secs(100);
        table.learn(&said(1, 1, Evidence::Asked), now);
        table.learn(&said(1, 1, Evidence::Answered(Override::Yes)), now);
        assert!(table.due(now + Duration::from_millis(14_900)).is_none());
        assert_eq!(table.table.get(LINK, host(1)).unwrap().0, State::Reachable);
        assert!(table.due(now + Duration::from_millis(45_100)).is_none());
        assert_eq!(table.table.get(LINK, host(1)).unwrap().0, State::Stale);
    }
}

#[test]
fn the_deadline_is_never_late() {
    let mut pool = frames::pool(8);
    let mut table = Known::new(16, 7);
    let mut now = Instant::from_millis(123_456);
    assert_eq!(table.timers.deadline(), Instant::FAR_FUTURE);
    table.wait(LINK, host(1), pool.alloc().unwrap(), now);
    let mut asked = 1;
    let packets = loop {
        let deadline = table.timers.deadline();
        assert!(
            deadline > now && deadline <= now + Duration::from_millis(1600),
            "{deadline:?} after {now:?}"
        );
        now = deadline;
        match table.due(now) {
            Some(Due::Solicit { address, to, .. }) => {
                assert_eq!((address, to), (host(1), None));
                asked += 1;
                assert!(table.due(now).is_none());
            }
            Some(Due::Failed { packets }) => break packets,
            None => {}
        }
    };
    assert_eq!((asked, packets.len()), (3, 1));
    packets.into_iter().for_each(|packet| pool.free(packet));
    assert!(table.due(now).is_none());
    assert_eq!(table.timers.deadline(), Instant::FAR_FUTURE);
    frames::assert_nothing_leaked(&mut pool);
}

#[derive(Clone, Debug)]
enum Step {
    Learn(u16, u8, Evidence),
    Hop(u16),
    Wait(u16),
    Sleep(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let evidence = prop_oneof![
        3 => Just(Evidence::Asked),
        1 => Just(Evidence::Answered(Override::Yes)),
        1 => Just(Evidence::Announced(Override::No)),
    ];
    prop_oneof![
        4 => (0u16..60, any::<u8>(), evidence).prop_map(|(n, mac, evidence)| Step::Learn(n, mac, evidence)),
        2 => (0u16..60).prop_map(Step::Hop),
        2 => (0u16..60).prop_map(Step::Wait),
        1 => (0u64..20_000).prop_map(Step::Sleep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever is in the table is found, whoever is not is not, however entries come and go; no packet is lost.
    #[test]
    fn the_table_is_a_map(steps in prop::collection::vec(step(), 1..300)) {
        let mut pool = frames::pool(64);
        let mut table = Known::new(32, 42);
        let mut now = Instant::from_secs(5);
        for step in steps {
            match step {
                Step::Learn(n, mac, evidence) => {
                    let released = table.learn(&said(n, mac, evidence), now);
                    released.into_iter().flat_map(|(_, waiting)| waiting).for_each(|packet| pool.free(packet));
                }
                Step::Hop(n) => {
                    let expected = table.table.get(LINK, host(n)).filter(|(state, _)| *state != State::Incomplete);
                    prop_assert_eq!(table.hop(LINK, host(n), now), expected.map(|(_, mac)| mac));
                }
                Step::Wait(n) if table.hop(LINK, host(n), now).is_none() => {
                    let admission = table.wait(LINK, host(n), pool.alloc().unwrap(), now);
                    admission.discards.into_iter().for_each(|(packet, _)| pool.free(packet));
                }
                Step::Wait(_) => {}
                Step::Sleep(ms) => {
                    now += Duration::from_millis(ms);
                    while let Some(due) = table.due(now) {
                        if let Due::Failed { packets } = due {
                            packets.into_iter().for_each(|packet| pool.free(packet));
                        }
                    }
                }
            }
            let listed: BTreeMap<_, _> = table.table.iter().map(|(_, address, state, _)| (address, state)).collect();
            prop_assert_eq!(listed.len(), table.table.len());
            for n in 0..60 {
                prop_assert_eq!(table.table.get(LINK, host(n)).map(|(state, _)| state), listed.get(&host(n)).copied());
            }
            table.assert_sound();
            let waiting = listed.values().filter(|state| **state == State::Incomplete).count();
            prop_assert!(waiting <= 8 && table.table.queued() >= waiting && table.table.queued() <= waiting * QUEUE);
        }
        let mut left = Vec::new();
        table.table.forget(&mut table.timers, |_| true, |packet| left.push(packet));
        left.into_iter().for_each(|packet| pool.free(packet));
        prop_assert!(table.table.is_empty());
        table.assert_sound();
        frames::assert_nothing_leaked(&mut pool);
    }
}

/// A neighbour that was just heard, and what it takes to send to it.
fn heard(known: &mut Known, address: Ipv4Addr, next: &[NextHop]) {
    let event = Event { interface: LINK, address, mac: Some([2; 6]), evidence: Evidence::Asked };
    known.learn(&event, Instant::ZERO);
    for &next in next {
        let out = &known.links[LINK.index()];
        assert!(known.table.hop(out, address, next, Instant::ZERO, &mut known.timers).is_some());
    }
}

#[test]
fn a_router_that_is_sent_to_itself_has_a_line_for_both() {
    // Of different places, and of one that both numbers share.
    for (router, hosts) in [(5, 6), (5, 5 + 256)] {
        let mut known = Known::new(16, 1);
        heard(&mut known, host(1), &[NextHop::Router(router), NextHop::Host(hosts)]);
        assert!(known.table.adjacency(hosts, host(1)).is_some(), "{hosts}");
        assert_eq!(known.table.adjacency(router, host(9)).is_some(), hosts == 6, "{router}");
        heard(&mut known, host(2), &[NextHop::Host(hosts)]);
        // What it says of itself ends both, and nobody else's.
        let moved = Event {
            interface: LINK,
            address: host(1),
            mac: Some([4; 6]),
            evidence: Evidence::Announced(Override::Yes),
        };
        known.learn(&moved, Instant::ZERO);
        assert!(known.table.adjacency(router, host(9)).is_none());
        assert!(known.table.adjacency(hosts, host(1)).is_none());
        assert!(known.table.adjacency(hosts, host(2)).is_some());
    }
}

#[test]
fn which_hosts_share_a_line_is_a_secret() {
    // More hosts than lines: which ones are left.
    let left = |seed: u64| {
        let mut known = Known::new(4096, seed);
        let hosts = (0..2000).map(|n| Ipv4Addr::from_bits(0x0a00_0000 + n)).collect::<Vec<_>>();
        hosts.iter().for_each(|address| heard(&mut known, *address, &[NextHop::Host(7)]));
        hosts.into_iter().filter(|host| known.table.adjacency(7, *host).is_some()).collect::<Vec<_>>()
    };
    let (one, other) = (left(1), left(0x9999_1234_5678_9abc));
    assert!(one.len() > 500 && other.len() > 500);
    assert_ne!(one, other);
}
