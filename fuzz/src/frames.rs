//! Frames, time and changes of configuration into a router: it never panics, every packet has exactly one end, every
//! buffer comes back, and what it sends is sound.

use crate::input::Input;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use weir_netif::{Arena, BUFFER, Batch, Checksum, Gso, GsoKind, IfIndex, Offloads, Packet, Pool};
use weir_netstack::neighbor::{self, Evidence};
use weir_netstack::segment;
use weir_netstack::snapshot::{
    Advertise, Advertisement, InterfacePlan, ReversePath, RoutePlan, RouteTarget, Snapshot, State, VlanPlan,
};
use weir_netstack::stack::{Duty, Event, Settings, Stack, Turn};
use weir_netstack::{Carrier, Egress, Instant, Plan, checksum, ethernet};
use weir_sync::cpu;

const INTERFACES: u8 = 3;
/// Index of the first one on a VLAN.
const VLANS: u8 = 4;
const ETHERNET: usize = 14;

const ADDRESSES4: [Ipv4Addr; 20] = [
    Ipv4Addr::new(10, 0, 0, 2),
    Ipv4Addr::new(10, 0, 0, 1),
    Ipv4Addr::new(10, 0, 0, 3),
    Ipv4Addr::new(10, 0, 0, 255),
    Ipv4Addr::new(10, 0, 1, 1),
    Ipv4Addr::new(10, 0, 1, 2),
    Ipv4Addr::new(10, 0, 2, 1),
    Ipv4Addr::new(10, 0, 2, 2),
    Ipv4Addr::new(203, 0, 113, 5),
    Ipv4Addr::new(198, 51, 100, 9),
    Ipv4Addr::new(198, 18, 0, 1),
    Ipv4Addr::new(169, 254, 1, 1),
    Ipv4Addr::new(224, 0, 0, 1),
    Ipv4Addr::BROADCAST,
    Ipv4Addr::UNSPECIFIED,
    Ipv4Addr::LOCALHOST,
    Ipv4Addr::new(172, 16, 0, 2),
    Ipv4Addr::new(172, 16, 1, 2),
    Ipv4Addr::new(172, 16, 2, 2),
    Ipv4Addr::new(172, 16, 0, 1),
];

const ADDRESSES6: [Ipv6Addr; 20] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 3),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 2),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 2),
    Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 9),
    Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 9),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe00, 0),
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2),
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1),
    Ipv6Addr::UNSPECIFIED,
    Ipv6Addr::LOCALHOST,
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2),
    Ipv6Addr::new(0x2001, 0xdb8, 1, 1, 0, 0, 0, 2),
    Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, 2),
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1),
];

thread_local! {
    static ARENA: &'static Arena = Arena::new(vec![0; 513 * BUFFER].leak());
    static PLAN: Plan = plan();
}

/// One run.
pub fn run(data: &[u8]) {
    PLAN.with(|plan| Rig::new(plan, data).run());
}

/// Three interfaces: small, with all offloads; ordinary, strict, with router advertisements; large, with none. VLAN 10 of
/// each, numbered from [`VLANS`] on.
fn plan() -> Plan {
    let interface = |n: u8| InterfacePlan {
        mtu: [1280, 1500, 9000][usize::from(n)],
        offloads: [Offloads::all(), Offloads::TX_CHECKSUM, Offloads::empty()][usize::from(n)],
        addresses: vec![
            (IpAddr::V4(Ipv4Addr::new(10, 0, n, 1)), 24),
            (IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, n.into(), 0, 0, 0, 1)), 64),
        ],
        reverse_path: [ReversePath::Off, ReversePath::Strict, ReversePath::Loose][usize::from(n)],
        advertise: if n == 1 { Advertise::On(Advertisement::default()) } else { Advertise::Off },
        ..InterfacePlan::new(format!("eth{n}"), mac(n))
    };
    let v4 = |a, b, c, d, len| (IpAddr::V4(Ipv4Addr::new(a, b, c, d)), len);
    let route = |to, target| RoutePlan { to, target, metric: 0 };
    let via4 = RouteTarget::Via { gateway: IpAddr::V4(Ipv4Addr::new(10, 0, 1, 2)), interface: IfIndex(1) };
    let via6 = RouteTarget::Via { gateway: IpAddr::V6(ADDRESSES6[9]), interface: IfIndex(2) };
    let vlan = |n: u8| {
        let parent = interface(n);
        InterfacePlan {
            index: Some(IfIndex(u16::from(VLANS + n))),
            vlan: Some(VlanPlan { parent: IfIndex(n.into()), id: 10 }),
            addresses: vec![
                (IpAddr::V4(Ipv4Addr::new(172, 16, n, 1)), 24),
                (IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, n.into(), 0, 0, 0, 1)), 64),
            ],
            name: format!("vlan{n}"),
            counters: Default::default(),
            ..parent
        }
    };
    Plan {
        interfaces: (0..INTERFACES).map(interface).chain((0..INTERFACES).map(vlan)).collect(),
        routes: vec![
            route(v4(203, 0, 113, 0, 24), via4),
            route(v4(198, 51, 100, 0, 24), RouteTarget::Prohibit),
            route(v4(198, 18, 0, 0, 15), RouteTarget::Blackhole),
            route((IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0)), 48), via6),
            route((IpAddr::V6(Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0)), 20), RouteTarget::Unreachable),
        ],
        ..Plan::default()
    }
}

const fn mac(n: u8) -> [u8; 6] {
    [0x52, 0x54, 0, 0, 0, n]
}

/// A router with what surrounds it.
struct Rig<'a> {
    input: Input<'a>,
    stack: Stack,
    snapshots: [Snapshot; 2],
    active: usize,
    pool: Pool,
    now: Instant,
    wire: Wire,
    /// Packets begun and ended before this run: counters outlive it.
    before: (u64, u64),
    told: Vec<Event>,
}

impl<'a> Rig<'a> {
    fn new(plan: &Plan, data: &'a [u8]) -> Self {
        let mut other = plan.clone();
        other.interfaces[2].state = State::Down;
        other.routes.retain(|route| !matches!(route.target, RouteTarget::Via { .. }));
        let snapshots = [plan, &other].map(|plan| Snapshot::build(plan).unwrap());
        let mut input = Input(data);
        let duty = input.pick(&[Duty::Speaker, Duty::Worker]);
        let (seed, reassembly) = (input.word().into(), 16 * BUFFER);
        let settings = Settings { interfaces: 8, neighbors: 16, seed, duty, reassembly };
        let wire = Wire { room: usize::MAX, interfaces: snapshots[0].interfaces().cloned().collect() };
        let mut rig = Self {
            input,
            stack: Stack::new(settings),
            snapshots,
            active: 0,
            pool: Pool::new(ARENA.with(|arena| *arena)),
            now: Instant::from_secs(1000),
            wire,
            before: (0, 0),
            told: Vec::new(),
        };
        rig.before = rig.counted();
        if !rig.input.one_in(8) {
            (0..INTERFACES).chain(VLANS..VLANS + INTERFACES).for_each(|n| rig.introduce(n));
        }
        rig
    }

    /// Makes neighbours known on interface `n`, so that packets to them go out at once.
    fn introduce(&mut self, n: u8) {
        let (interface, mac, evidence) = (IfIndex(n.into()), Some([2, 0, 0, 0, n, 2]), Evidence::Asked);
        let (v4, v6) = match n.checked_sub(VLANS) {
            None => (Ipv4Addr::new(10, 0, n, 2), Ipv6Addr::new(0x2001, 0xdb8, 0, n.into(), 0, 0, 0, 2)),
            Some(n) => (Ipv4Addr::new(172, 16, n, 2), Ipv6Addr::new(0x2001, 0xdb8, 1, n.into(), 0, 0, 0, 2)),
        };
        let v6 = [v6, ADDRESSES6[9]];
        let v4 = Event::Neighbor4(neighbor::Event { interface, address: v4, mac, evidence });
        let v6 = v6.map(|address| Event::Neighbor6(neighbor::Event { interface, address, mac, evidence }));
        for event in [v4, v6[0], v6[1]] {
            self.turn(|stack, turn| stack.apply(turn, event));
        }
    }

    fn run(mut self) {
        let mut steps = 0;
        while !self.input.is_empty() && steps < 64 {
            match self.input.byte() % 16 {
                0..10 => self.receive(),
                10..13 => self.wait(),
                13 => {
                    self.active ^= 1;
                    self.turn(|stack, turn| stack.reconfigured(turn));
                }
                14 => self.hear(),
                _ => self.wire.room = [0, 1, 5, usize::MAX][self.input.below(4)],
            }
            steps += 1;
        }
        let (begun, ended) = self.counted();
        let (begun, ended) = (begun - self.before.0, ended - self.before.1);
        assert_eq!(begun, ended + self.stack.queued() as u64, "packets that began and packets that ended");
        drop(self.stack);
        let all: Vec<Packet> = std::iter::from_fn(|| self.pool.alloc()).collect();
        assert_eq!(all.len(), self.pool.arena().slots(), "a buffer was lost");
        all.into_iter().for_each(|packet| self.pool.free(packet));
    }

    /// Packets begun and ended, as the counters say.
    fn counted(&self) -> (u64, u64) {
        let (mut begun, mut ended) = (self.stack.originated(), 0);
        for index in (0..u16::from(VLANS + INTERFACES)).filter(|&index| index != 3).chain([u16::MAX]) {
            let totals = self.snapshots[0].counters(IfIndex(index)).totals();
            begun += totals.rx_packets;
            ended += totals.tx_packets + totals.drops().map(|(_, count)| count).sum::<u64>();
        }
        (begun, ended)
    }

    fn turn<R>(&mut self, work: impl FnOnce(&mut Stack, &mut Turn<'_>) -> R) -> R {
        let mut cpu = loop {
            // Tests are threads and each needs a CPU; there may be more of them than CPUs.
            match cpu::claim_any() {
                Some(cpu) => break cpu,
                None => std::thread::yield_now(),
            }
        };
        let Self { stack, snapshots, active, pool, now, wire, .. } = self;
        let snapshot = &snapshots[*active];
        cpu.softint(|cx| work(stack, &mut Turn { cx, snapshot, now: *now, pool, egress: wire }))
    }

    /// A batch arrives.
    fn receive(&mut self) {
        let interface = self.input.pick(&[0, 1, 2, 0, 1, 2, 3, 200]);
        let mut batch = Batch::new();
        for _ in 0..=self.input.below(4) {
            if self.input.is_empty() {
                break;
            }
            if let Some(packet) = packet(&mut self.input, &mut self.pool, interface as u8) {
                assert!(batch.try_push(packet).is_ok());
            }
        }
        self.turn(|stack, turn| stack.input(turn, IfIndex(interface), &mut batch));
        assert!(batch.is_empty());
        let told: Vec<Event> = self.stack.events().collect();
        self.told.extend(told);
    }

    /// Time goes by; the router is woken when it asked for, so often that a clock that stands would show.
    fn wait(&mut self) {
        let end = self.now + Duration::from_nanos(u64::from(self.input.word()) << (self.input.byte() % 28));
        for _ in 0..10_000 {
            if self.stack.deadline() > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(self.stack.deadline());
            let wanted = self.turn(|stack, turn| stack.tick(turn));
            assert!(wanted > self.now, "what was due is due still");
        }
        self.now = end;
    }

    /// Another CPU tells what it was told itself.
    fn hear(&mut self) {
        let index = self.input.byte();
        if let Some(event) = self.told.get(usize::from(index) % self.told.len().max(1)).copied() {
            self.turn(|stack, turn| stack.apply(turn, event));
        }
    }
}

/// Where frames go: looked at and freed.
struct Wire {
    room: usize,
    interfaces: Vec<weir_netstack::snapshot::Interface>,
}

impl Egress for Wire {
    fn flush(&mut self, interface: IfIndex, batch: &mut Batch, pool: &mut Pool) -> Carrier {
        let take = self.room.min(batch.len());
        for packet in batch.drain(..take) {
            self.check(interface, &packet);
            pool.free(packet);
        }
        Carrier::ThisCpu
    }
}

impl Wire {
    fn check(&self, interface: IfIndex, packet: &Packet) {
        let out = self.interfaces.iter().find(|out| out.index == interface).expect("one there is");
        let mut frame: Vec<u8> = packet.segments().flatten().copied().collect();
        let mut l3 = ETHERNET;
        if out.link.vlan != 0 {
            let tag: Vec<u8> = frame.splice(12..16, []).collect();
            assert_eq!(tag, [0x81, 0, 0, 10], "the frame's tag");
            l3 += 4;
        }
        assert!(packet.data().len() >= l3.min(frame.len()) && frame.len() > ETHERNET);
        assert_eq!(frame[6..12], out.mac, "the frame's sender");
        assert_ne!(frame[..6], out.mac, "the frame's receiver");
        match packet.meta().gso {
            Some(gso) => {
                let needed = if gso.kind == GsoKind::Tcp4 { Offloads::TX_TCP4 } else { Offloads::TX_TCP6 };
                assert!(out.offloads.contains(needed));
                let largest = segment::largest(packet, l3);
                assert!(largest.is_some_and(|len| len <= out.mtu.into()), "cut, it is too long for its link");
            }
            None => assert!(frame.len() - ETHERNET <= out.mtu.into(), "too long for its link"),
        }
        if let Checksum::Partial { start, offset } = packet.meta().checksum {
            assert!(out.offloads.contains(Offloads::TX_CHECKSUM));
            let field = usize::from(start) + usize::from(offset);
            assert!(field + 2 <= packet.data().len(), "a checksum owed outside the packet");
        }
        let ip = &frame[ETHERNET..];
        match frame[12..14] {
            [0x08, 0x00] => {
                let header = usize::from(ip[0] & 15) * 4;
                assert_eq!(naive_sum(&ip[..header]), 0xffff, "IPv4 header checksum");
                assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), ip.len(), "IPv4 total length");
                assert_ne!(ip[8], 0, "TTL");
            }
            [0x86, 0xdd] => {
                assert_eq!(usize::from(u16::from_be_bytes([ip[4], ip[5]])) + 40, ip.len(), "IPv6 length");
                assert_ne!(ip[7], 0, "hop limit");
            }
            [0x08, 0x06] => assert_eq!(ip.len(), 28),
            _ => panic!("an EtherType the router does not speak"),
        }
    }
}

/// RFC 1071 as its text has it.
fn naive_sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0u32, |sum, pair| {
        let sum = sum + (u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
        (sum & 0xffff) + (sum >> 16)
    }) as u16
}

/// A frame for interface `n`, with metadata as a device might set it, or a broken one.
fn packet(input: &mut Input<'_>, pool: &mut Pool, n: u8) -> Option<Packet> {
    let to = [mac(n), mac(n), mac(n), [0xff; 6], [0x33, 0x33, 0, 0, 0, 1], [2, 0, 0, 0, 0, 7]];
    let mut frame = input.pick(&to).to_vec();
    frame.extend([2, 0, 0, 0, 0, input.byte() % 8]);
    match input.byte() % 8 {
        0..3 => ipv4(input, &mut frame),
        3..6 => ipv6(input, &mut frame),
        6 => arp(input, &mut frame),
        _ => frame.extend(input.bytes(100)),
    }
    input.damage(&mut frame);
    if !input.one_in(8) {
        repair(&mut frame);
    }
    // Ethernet pads short frames.
    if input.one_in(4) && frame.len() < 60 {
        frame.resize(60, 0);
    }
    let cut = if input.one_in(4) { input.below(200) } else { usize::MAX };
    let (head, tail) = frame.split_at(cut.min(frame.len()));
    let mut packet = pool.alloc_from(head)?;
    if !tail.is_empty() {
        let Some(more) = pool.alloc_from(tail) else {
            pool.free(packet);
            return None;
        };
        packet.append(more);
    }
    let l4 = if frame.get(14).is_some_and(|first| first >> 4 == 6) { 54 } else { 34 };
    let choice = input.byte();
    let meta = packet.meta_mut();
    meta.checksum = match choice % 8 {
        0..3 => Checksum::Unknown,
        3 => Checksum::Verified,
        4 => Checksum::Partial { start: input.word(), offset: input.word() },
        5 => Checksum::Partial { start: l4, offset: 6 },
        _ => Checksum::Partial { start: l4, offset: 16 },
    };
    if choice % 8 >= 6 && choice & 0x80 != 0 {
        let kind = if l4 == 54 { GsoKind::Tcp6 } else { GsoKind::Tcp4 };
        let size = if choice & 0x40 != 0 { input.word() } else { 500 + u16::from(input.byte()) * 5 };
        meta.gso = Some(Gso { kind, size, ecn: choice & 0x20 != 0 });
    }
    if choice == 0xff {
        meta.vlan = input.word();
    }
    // Behind a tag, at times behind two.
    if choice & 0x18 == 0x18 && choice % 8 != 4 {
        for _ in 0..1 + usize::from(choice >= 0xf8) {
            ethernet::tag(&mut packet, [10, 10, 0x600a, 11][usize::from(choice >> 5 & 3)]);
        }
    }
    Some(packet)
}

fn arp(input: &mut Input<'_>, frame: &mut Vec<u8>) {
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1 + input.byte() % 2, 2, 0, 0, 0, 0, input.byte() % 8]);
    frame.extend(input.pick(&ADDRESSES4).octets());
    frame.extend([0; 6]);
    frame.extend(input.pick(&ADDRESSES4).octets());
}

fn ipv4(input: &mut Input<'_>, frame: &mut Vec<u8>) {
    let protocol = input.pick(&[1, 1, 6, 6, 17, 17, 2, 99]);
    let options = input.bytes(input.0.first().map_or(0, |byte| usize::from(byte % 4) * 4)).to_vec();
    let options = &options[..options.len() / 4 * 4];
    let flags = input.pick(&[[0, 0], [0x40, 0], [0x20, 0], [0, 5], [0x20, 99]]);
    let ttl = input.pick(&[64, 64, 255, 2, 1, 0]);
    let (from, to) = (input.pick(&ADDRESSES4), input.pick(&ADDRESSES4));
    let upper = upper(input, protocol);
    frame.extend([8, 0, 0x45 + (options.len() / 4) as u8, 0]);
    frame.extend(((20 + options.len() + upper.len()) as u16).to_be_bytes());
    frame.extend([0, 9, flags[0], flags[1], ttl, protocol, 0, 0]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    frame.extend(options);
    frame.extend(upper);
}

fn ipv6(input: &mut Input<'_>, frame: &mut Vec<u8>) {
    let protocol = input.pick(&[58, 58, 58, 6, 6, 17, 59, 99]);
    let hops = input.pick(&[64, 255, 255, 2, 1, 0]);
    let (from, to) = (input.pick(&ADDRESSES6), input.pick(&ADDRESSES6));
    let mut next = protocol;
    let mut extensions = Vec::new();
    for _ in 0..[0, 0, 0, 1, 2, 9][input.below(6)] {
        let [a, b, c, d] = [input.byte(), input.byte(), input.byte(), input.byte()];
        extensions.splice(0..0, [next, 0, a, b, c % 8, 0, d, 0]);
        next = input.pick(&[0, 43, 44, 60]);
    }
    let upper = upper(input, protocol);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend(((extensions.len() + upper.len()) as u16).to_be_bytes());
    frame.extend([next, hops]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    frame.extend(extensions);
    frame.extend(upper);
}

fn upper(input: &mut Input<'_>, protocol: u8) -> Vec<u8> {
    let mut bytes = vec![0, 9, 0, 9, 0, 1, 0, 2];
    match protocol {
        1 => bytes[..2].copy_from_slice(&[input.pick(&[8, 8, 0, 3, 5, 13]), 0]),
        58 => bytes[..2].copy_from_slice(&[input.pick(&[128, 129, 133, 134, 135, 135, 136, 136, 1, 2]), 0]),
        6 => bytes.extend([0, 0, 0, 0, 0x50, 0x99, 1, 0, 0, 0, 0, 0]),
        _ => {}
    }
    if protocol == 58 && (133..=136).contains(&bytes[0]) {
        if bytes[0] == 134 {
            bytes.extend([0; 8]);
        }
        if bytes[0] > 134 {
            bytes[4] = input.byte();
            bytes.extend(input.pick(&ADDRESSES6).octets());
        }
        if !input.one_in(4) {
            bytes.extend([1 + input.byte() % 2, 1, 2, 0, 0, 0, 0, input.byte() % 8]);
        }
        return bytes;
    }
    let len = if input.one_in(4) { input.below(12_000) } else { input.below(64) };
    bytes.extend((0..len).map(|n| n as u8));
    bytes
}

/// Makes the checksums of IPv4 header, ICMP and ICMPv6 right, so that they keep nothing from being reached.
fn repair(frame: &mut [u8]) {
    let Some((head, ip)) = frame.split_at_mut_checked(ETHERNET) else { return };
    match (&head[12..], ip.first()) {
        ([0x08, 0x00], Some(&first)) => {
            let header = usize::from(first & 15) * 4;
            if header < 20 || ip.len() < header + 4 {
                return;
            }
            ip[10..12].fill(0);
            let sum = checksum::internet(&ip[..header]);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            let end = usize::from(u16::from_be_bytes([ip[2], ip[3]])).min(ip.len());
            if ip[9] == 1 && end >= header + 4 {
                ip[header + 2..header + 4].fill(0);
                let sum = checksum::internet(&ip[header..end]);
                ip[header + 2..header + 4].copy_from_slice(&sum.to_be_bytes());
            }
        }
        ([0x86, 0xdd], Some(_)) if ip.len() >= 44 && ip[6] == 58 => {
            let end = (40 + usize::from(u16::from_be_bytes([ip[4], ip[5]]))).min(ip.len());
            let address = |from: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&ip[from..from + 16]).unwrap());
            let mut sum = checksum::pseudo6(address(8), address(24), 58, (end - 40) as u32);
            ip[42..44].fill(0);
            sum.add(&ip[40..end]);
            ip[42..44].copy_from_slice(&sum.checksum().to_be_bytes());
        }
        _ => {}
    }
}
