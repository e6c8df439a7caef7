use super::*;
use crate::sim::{Rig, V4, V6, host_mac, plan, router_mac};
use crate::snapshot::{NextHop as Hop, Plan, RoutePlan, RouteTarget, VlanPlan, Weighted};
use proptest::prelude::*;
use std::string::{String, ToString};
use std::vec;

/// Two links and a VLAN on the first, hosts on all, and a route of each kind.
fn network(mtu: u16, checks: [ReversePath; 2]) -> Plan {
    let mut plan = plan(&[
        &["10.0.1.1/24", "2001:db8:1::1/64"],
        &["192.0.2.1/24", "2001:db8:2::1/64"],
        &["10.0.3.1/24", "2001:db8:3::1/64"],
    ]);
    plan.interfaces[2].vlan = Some(VlanPlan { parent: IfIndex(0), id: 7 });
    plan.interfaces[2].mac = plan.interfaces[0].mac;
    plan.interfaces[1].mtu = mtu;
    for (interface, check) in plan.interfaces.iter_mut().zip(checks) {
        interface.reverse_path = check;
    }
    let near = |gateway: &str| Hop::Via { gateway: gateway.parse().unwrap(), interface: IfIndex(1) };
    let pair = |first: &str, second: &str| {
        let weighted = |hop| Weighted { hop, weight: 1 };
        RouteTarget::Multipath([weighted(near(first)), weighted(near(second))].into())
    };
    let via = |gateway: &str| RouteTarget::Via { gateway: gateway.parse().unwrap(), interface: IfIndex(1) };
    for (to, len, target) in [
        ("10.8.0.0", 16, via("192.0.2.20")),
        ("10.9.0.0", 16, via("192.0.2.99")),
        ("10.10.0.0", 16, pair("192.0.2.20", "192.0.2.21")),
        ("10.11.0.0", 16, RouteTarget::Blackhole),
        ("10.12.0.0", 16, RouteTarget::Unreachable),
        ("10.13.0.0", 16, RouteTarget::Prohibit),
        ("2001:db8:8::", 48, via("2001:db8:2::20")),
        ("2001:db8:9::", 48, via("2001:db8:2::99")),
        ("2001:db8:a::", 48, pair("2001:db8:2::20", "2001:db8:2::21")),
        ("2001:db8:b::", 48, RouteTarget::Blackhole),
        ("2001:db8:c::", 48, RouteTarget::Unreachable),
        ("2001:db8:d::", 48, RouteTarget::Prohibit),
    ] {
        plan.routes.push(RoutePlan { to: (to.parse().unwrap(), len), target, metric: 0 });
    }
    plan
}

fn rig(plan: &Plan) -> Rig {
    let mut rig = Rig::new(plan);
    for (n, v4, v6) in [
        (0, "10.0.1.10", "2001:db8:1::10"),
        (1, "192.0.2.20", "2001:db8:2::20"),
        (1, "192.0.2.21", "2001:db8:2::21"),
    ] {
        rig.introduce4(n, v4, host_mac(n as u8));
        rig.introduce6(n, v6, host_mac(n as u8));
    }
    rig
}

const ADDRESSES4: [&str; 16] = [
    "10.0.1.10",
    "10.0.1.1",
    "10.0.1.77",
    "10.0.1.255",
    "192.0.2.20",
    "192.0.2.1",
    "192.0.2.55",
    "10.0.3.3",
    "10.8.1.1",
    "10.9.1.1",
    "10.10.3.4",
    "10.11.0.1",
    "10.12.0.1",
    "10.13.0.1",
    "127.0.0.1",
    "203.0.113.9",
];
const ODD4: [&str; 4] = ["255.255.255.255", "224.0.0.1", "224.9.9.9", "0.0.0.0"];
const ADDRESSES6: [&str; 16] = [
    "2001:db8:1::10",
    "2001:db8:1::1",
    "2001:db8:1::77",
    "2001:db8:2::20",
    "2001:db8:2::1",
    "2001:db8:2::55",
    "2001:db8:3::3",
    "2001:db8:8::1",
    "2001:db8:9::1",
    "2001:db8:a::3",
    "2001:db8:b::1",
    "2001:db8:c::1",
    "2001:db8:d::1",
    "2001:db8:f::1",
    "fe80::10",
    "ff02::1",
];

/// A frame, perhaps a wrong one.
fn frames() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let address = (0..20usize, 0..20usize);
    let ip = (any::<bool>(), address, prop::sample::select(vec![0u8, 1, 2, 64]), 0..1700usize);
    let more = (
        prop::sample::select(vec![1u8, 6, 17, 58, 99]),
        prop::sample::select(vec![0u16, 0, 0x4000, 0x2000]),
        prop::sample::select(vec![0u8, 0, 0, 0, 0, 1, 2, 3]),
        any::<u16>(),
    );
    (0..2u16, ip, more, prop::option::weighted(0.2, prop::sample::select(vec![0u16, 7, 8]))).prop_map(
        |(port, (four, (from, to), ttl, len), (protocol, flags, broken, ports), vlan)| {
            let mut payload = vec![0u8; len];
            if let Some(head) = payload.first_chunk_mut::<4>() {
                [head[0], head[1]] = ports.to_be_bytes();
                head[3] = 80;
            }
            let name = |at: usize, usual: [&'static str; 16], odd: &[&'static str]| -> String {
                usual.get(at).or(odd.get(at.wrapping_sub(16))).unwrap_or(&usual[0]).to_string()
            };
            let mut frame = if four {
                let (from, to) = (name(from, ADDRESSES4, &ODD4), name(to, ADDRESSES4, &ODD4));
                V4 { from: &from, to: &to, ttl, protocol, flags, options: &[] }.frame(port as u8, &payload)
            } else {
                let (from, to) = (name(from, ADDRESSES6, &[]), name(to, ADDRESSES6, &[]));
                V6 { from: &from, to: &to, hops: ttl, next: protocol }.frame(port as u8, &payload)
            };
            match broken {
                1 => frame[..6].copy_from_slice(&[0xff; 6]),
                2 => frame[..6].copy_from_slice(&host_mac(9)),
                3 => frame[24] ^= 0x40,
                _ => {}
            }
            if let Some(vlan) = vlan {
                let [high, low] = vlan.to_be_bytes();
                frame.splice(12..12, [0x81, 0, high, low]);
            }
            (port, frame)
        },
    )
}

fn known(rig: &Rig) -> Vec<Known> {
    let v4 = rig.stack.neighbors4().iter().map(|(at, own, state, mac)| (at, own.into(), state, mac));
    let v6 = rig.stack.neighbors6().iter().map(|(at, own, state, mac)| (at, own.into(), state, mac));
    v4.chain(v6).collect()
}

fn ask(rig: &mut Rig, port: u16, frame: &[u8]) -> Explained {
    let neighbors = known(rig);
    let question = Question { port: IfIndex(port), frame, neighbors: &neighbors, listens: &|_, _| false };
    put(rig, &question)
}

fn put(rig: &mut Rig, question: &Question<'_>) -> Explained {
    let asked = rig.turn(|_, turn| {
        let mut own = stack(64, question.neighbors, turn.now);
        let told = explain(turn.cx, &mut own, &turn.snapshot.apart(), turn.pool, turn.now, question);
        empty(own, turn.pool);
        told
    });
    asked.unwrap()
}

fn lost(rig: &Rig) -> Vec<(u16, Drop, u64)> {
    let all = (0..3).chain([u16::MAX]);
    all.flat_map(|at| {
        rig.totals(at).drops().map(move |(reason, count)| (at, reason, count)).collect::<Vec<_>>()
    })
    .filter(|(_, reason, _)| *reason != Drop::Consumed)
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn says_what_the_router_then_does(
        (port, frame) in frames(),
        mtu in prop::sample::select(vec![1500u16, 1280, 576]),
        checks in prop::array::uniform2(prop::sample::select(vec![
            ReversePath::Off,
            ReversePath::Strict,
            ReversePath::Loose,
        ])),
    ) {
        // An IPv6 address wants a link that takes its packets.
        let mut plan = network(mtu.max(1280), checks);
        if mtu < 1280 {
            plan.interfaces[1].addresses.retain(|(address, _)| address.is_ipv4());
            plan.routes.retain(|route| route.to.0.is_ipv4());
            plan.interfaces[1].mtu = mtu;
        }
        let mut rig = Rig::new(&plan);
        rig.introduce4(0, "10.0.1.10", host_mac(0));
        rig.introduce4(1, "192.0.2.20", host_mac(1));
        rig.introduce4(1, "192.0.2.21", host_mac(1));
        rig.introduce6(0, "2001:db8:1::10", host_mac(0));
        if mtu >= 1280 {
            rig.introduce6(1, "2001:db8:2::20", host_mac(1));
            rig.introduce6(1, "2001:db8:2::21", host_mac(1));
        }
        let (before, queued, gathered) = (lost(&rig), rig.stack.queued(), rig.stack.reassembly.packets());
        let told = ask(&mut rig, port, &frame);
        prop_assert_eq!(&lost(&rig), &before, "asking is counted");
        rig.receive(port, &[frame]);
        let sent: Vec<_> =
            rig.sent().into_iter().map(|sent| Sent { interface: IfIndex(sent.out), bytes: sent.bytes }).collect();
        prop_assert_eq!(&told.sent, &sent);
        let newly: Vec<_> = lost(&rig).into_iter().filter(|row| !before.contains(row)).collect();
        match told.end {
            End::Dropped(reason, at) => {
                let its = newly.iter().filter(|&&(index, own, _)| (index, own) == (at.0, reason)).count();
                // Beside it only an error that nobody can be told.
                let others = newly.iter().filter(|(_, own, _)| *own != Drop::NoRoute && *own != reason);
                prop_assert!(its == 1 && others.count() == 0, "{:?}, and {:?}", told.end, newly);
            }
            end => prop_assert!(newly.is_empty(), "{:?}, and {:?}", end, newly),
        }
        let waits = matches!(told.end, End::Waits);
        prop_assert_eq!(waits && rig.stack.queued() == queued, false);
        prop_assert_eq!(told.end == End::Gathers, rig.stack.reassembly.packets() > gathered);
        prop_assert_eq!(told.end == End::Forwarded && sent.is_empty(), false);
    }
}

#[test]
fn tells_every_step() {
    let mut rig = rig(&network(1500, [ReversePath::Strict, ReversePath::Off]));
    let frame = V4 { from: "10.0.1.10", to: "10.8.0.1", ttl: 64, protocol: 17, flags: 0, options: &[] };
    let told = ask(&mut rig, 0, &frame.frame(0, &[0; 8]));
    let (gateway, out): (IpAddr, _) = ("192.0.2.20".parse().unwrap(), IfIndex(1));
    assert_eq!(
        told.steps,
        [
            Step::Interface(IfIndex(0), 0),
            Step::Ethernet(Cast::Unicast),
            Step::Ip {
                source: "10.0.1.10".parse().unwrap(),
                destination: "10.8.0.1".parse().unwrap(),
                protocol: 17,
                len: 28,
                ttl: 64
            },
            Step::Source(ReversePath::Strict),
            Step::Route(Route::Gateway { interface: out, via: gateway }, 1),
            Step::NextHop(out, gateway, Some((State::Stale, host_mac(1)))),
            Step::Mtu(28, 1500),
        ]
    );
    assert_eq!((told.end, told.sent.len()), (End::Forwarded, 1));
    assert_eq!(told.sent[0].bytes[..12], [host_mac(1), router_mac(1)].concat());
    // A spoofed source ends it before the table is asked.
    let spoofed = V4 { from: "192.0.2.20", ..frame };
    let told = ask(&mut rig, 0, &spoofed.frame(0, &[0; 8]));
    assert_eq!((told.end, told.steps.len()), (End::Dropped(Drop::ReversePath, IfIndex(0)), 3));
    // Of several next hops the one that its flow takes.
    let far = V4 { to: "10.10.0.1", ..frame };
    let told = ask(&mut rig, 0, &far.frame(0, &[0; 8]));
    assert!(matches!(told.steps[4], Step::Route(Route::Gateway { .. }, 2)), "{told:?}");
    // A neighbour that nobody knows is asked for, and the packet waits.
    let unknown = V4 { to: "10.9.0.1", ..frame };
    let told = ask(&mut rig, 0, &unknown.frame(0, &[0; 8]));
    assert_eq!((told.end, told.sent.len()), (End::Waits, 1));
    assert_eq!(ethernet::kind(&told.sent[0].bytes), Some(ethernet::ARP));
}

#[test]
fn tells_of_sockets_and_vlans() {
    let mut rig = rig(&network(1500, [ReversePath::Off; 2]));
    let to_us = V6 { from: "2001:db8:1::10", to: "2001:db8:1::1", hops: 64, next: 6 };
    let mut segment = [0; 20];
    segment[3] = 80;
    let frame = to_us.frame(0, &segment);
    let neighbors = known(&rig);
    let listens = |_: u32, local: &Local<'_>| local.port == 80;
    let question = Question { port: IfIndex(0), frame: &frame, neighbors: &neighbors, listens: &listens };
    let told = put(&mut rig, &question);
    assert_eq!(told.end, End::Delivered(Upper::Tcp, 80));
    assert!(matches!(told.steps[4], Step::Route(Route::Local { interface: IfIndex(0) }, 1)), "{told:?}");
    let mut tagged = V6 { to: "2001:db8:2::20", from: "2001:db8:3::3", ..to_us }.frame(0, &segment);
    tagged.splice(12..12, [0x81, 0, 0, 7]);
    let told = ask(&mut rig, 0, &tagged);
    assert_eq!((told.end, &told.steps[0]), (End::Forwarded, &Step::Interface(IfIndex(2), 7)));
    tagged[15] = 9;
    let told = ask(&mut rig, 0, &tagged);
    assert_eq!((told.end, told.steps.len()), (End::Dropped(Drop::EthernetUnknownVlan, IfIndex(0)), 0));
}

#[test]
fn neighbours_are_taught_and_forgotten_outside_of_the_masked_section() {
    let mut rig = rig(&network(1500, [ReversePath::Off; 2]));
    let frame = V4 { from: "10.0.1.10", to: "10.9.0.1", ttl: 64, protocol: 17, flags: 0, options: &[] };
    let frame = frame.frame(0, &[0; 8]);
    let neighbor = |n: u32| {
        let address = IpAddr::from((0x0a00_0200 + n).to_be_bytes());
        (IfIndex((n % 2) as u16), address, State::Reachable, host_mac(7))
    };
    let all: Vec<Known> = (0..4096).map(neighbor).collect();
    let question = Question { port: IfIndex(0), frame: &frame, neighbors: &all, listens: &|_, _| false };
    rig.turn(|_, turn| {
        let idle = turn.pool.idle();
        let mut own = stack(64, &all, turn.now);
        assert_eq!(own.neighbors4().iter().count(), 4096);
        let snapshot = turn.snapshot.apart();
        let told = explain(turn.cx, &mut own, &snapshot, turn.pool, turn.now, &question).unwrap();
        // As before, with the one that is asked for.
        assert_eq!((told.end, own.neighbors4().iter().count()), (End::Waits, 4097));
        assert_eq!((own.queued(), turn.pool.idle()), (1, idle - 1));
        empty(own, turn.pool);
        assert_eq!(turn.pool.idle(), idle, "and the packet is back");
    });
}
