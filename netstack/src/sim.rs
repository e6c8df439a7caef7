//! A router in a test tube: a virtual clock, interfaces whose frames are caught, and the check that no packet is lost.

use crate::ethernet;
use crate::frames;
use crate::snapshot::{InterfacePlan, Plan, Snapshot, State};
use crate::stack::{Settings, Stack, Turn};
use crate::time::Instant;
use crate::{Carrier, Egress};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::boxed::Box;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;
use weir_netif::{BATCH, Batch, Drop, IfIndex, Meta, Packet, Pool, Totals};
use weir_sync::{Cpu, cpu};

/// A frame the router sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sent {
    /// By this interface.
    pub(crate) out: u16,
    pub(crate) bytes: Vec<u8>,
    pub(crate) meta: Meta,
}

/// Catches frames; takes no more than `room` of each batch.
struct Wire {
    sent: Vec<Sent>,
    room: usize,
    /// What other routers said, and where.
    heard: Vec<(u16, core::net::Ipv6Addr, Vec<u8>)>,
    /// Addresses that others have too.
    contested: Vec<(u16, IpAddr, [u8; 6])>,
}

impl Egress for Wire {
    fn contested(&mut self, interface: IfIndex, address: IpAddr, by: [u8; 6]) {
        self.contested.push((interface.0, address, by));
    }

    fn advertised(&mut self, interface: IfIndex, router: core::net::Ipv6Addr, message: &[u8]) {
        self.heard.push((interface.0, router, message.into()));
    }

    fn flush(&mut self, interface: IfIndex, batch: &mut Batch, pool: &mut Pool) -> Carrier {
        let take = self.room.min(batch.len());
        for packet in batch.drain(..take) {
            let sent = Sent { out: interface.0, bytes: frames::bytes(&packet), meta: *packet.meta() };
            self.sent.push(sent);
            pool.free(packet);
        }
        Carrier::ThisCpu
    }
}

/// A router with what surrounds it.
pub(crate) struct Rig {
    pub(crate) stack: Stack,
    pub(crate) snapshot: Box<Snapshot>,
    pub(crate) pool: Pool,
    pub(crate) now: Instant,
    wire: Wire,
    cpu: Cpu,
}

impl Rig {
    /// What other routers were heard to say since the last call: where, who, and the message.
    pub(crate) fn heard(&mut self) -> Vec<(u16, core::net::Ipv6Addr, Vec<u8>)> {
        core::mem::take(&mut self.wire.heard)
    }
}

impl Rig {
    /// Which addresses others were heard to have since the last call: where, which, who.
    pub(crate) fn contested(&mut self) -> Vec<(u16, IpAddr, [u8; 6])> {
        core::mem::take(&mut self.wire.contested)
    }
}

/// Station address of interface `n`, and of host `n`.
pub(crate) const fn router_mac(n: u8) -> [u8; 6] {
    [0x52, 0x54, 0, 0, 0, n]
}

pub(crate) const fn host_mac(n: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, n]
}

/// A plan with one interface for each list of `address/len`.
pub(crate) fn plan(interfaces: &[&[&str]]) -> Plan {
    let interfaces = interfaces.iter().zip(0u8..).map(|(addresses, n)| InterfacePlan {
        addresses: addresses.iter().map(|text| prefix(text)).collect(),
        ..InterfacePlan::new(std::format!("eth{n}"), router_mac(n))
    });
    Plan { interfaces: interfaces.collect(), ..Plan::default() }
}

pub(crate) fn prefix(text: &str) -> (IpAddr, u8) {
    let (address, len) = text.split_once('/').unwrap();
    (address.parse().unwrap(), len.parse().unwrap())
}

pub(crate) fn a4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

pub(crate) fn a6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// Shows a failing test's seed, so that it can be run again.
pub(crate) fn seed() -> u64 {
    let seed = match std::env::var("SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
    };
    std::println!("SEED={seed}");
    seed
}

impl Rig {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self::with(plan, Settings::default())
    }

    pub(crate) fn with(plan: &Plan, settings: Settings) -> Self {
        Self {
            stack: Stack::new(settings),
            snapshot: Box::new(Snapshot::build(plan).unwrap()),
            pool: frames::pool(2048),
            now: Instant::from_secs(1000),
            wire: Wire { sent: Vec::new(), room: BATCH, heard: Vec::new(), contested: Vec::new() },
            cpu: loop {
                // Tests are threads and each needs a CPU; there may be more of them than CPUs.
                match cpu::claim_any() {
                    Some(cpu) => break cpu,
                    None => std::thread::yield_now(),
                }
            },
        }
    }

    /// Devices take no more than `room` frames at once.
    pub(crate) fn with_room(mut self, room: usize) -> Self {
        self.wire.room = room;
        self
    }

    pub(crate) fn turn<R>(&mut self, f: impl FnOnce(&mut Stack, &mut Turn<'_>) -> R) -> R {
        let Self { stack, snapshot, pool, now, wire, cpu } = self;
        cpu.softint(|cx| f(stack, &mut Turn { cx, snapshot, now: *now, pool, egress: wire }))
    }

    /// A batch arrives at interface `index`.
    pub(crate) fn input(&mut self, index: u16, packets: Vec<Packet>) {
        let mut batch: Batch = packets.into_iter().collect();
        self.turn(|stack, turn| stack.input(turn, IfIndex(index), &mut batch));
        assert!(batch.is_empty());
    }

    pub(crate) fn receive(&mut self, index: u16, frames: &[Vec<u8>]) {
        let packets = frames.iter().map(|frame| self.pool.alloc_from(frame).unwrap()).collect();
        self.input(index, packets);
    }

    pub(crate) fn tick(&mut self) {
        self.turn(|stack, turn| {
            stack.tick(turn);
        });
    }

    /// Time goes by; the router is woken when it asked for.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.stack.deadline() <= end {
            let before = self.now;
            self.now = self.now.max(self.stack.deadline());
            self.tick();
            assert!(self.stack.deadline() > before || self.now > before, "time stands still");
        }
        self.now = end;
    }

    /// What was sent since the last call.
    pub(crate) fn sent(&mut self) -> Vec<Sent> {
        core::mem::take(&mut self.wire.sent)
    }

    /// What was sent since the last call, which must be one frame by interface `out`.
    #[track_caller]
    pub(crate) fn one(&mut self, out: u16) -> Vec<u8> {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:x?}");
        let sent = sent.remove(0);
        assert_eq!(sent.out, out, "{sent:x?}");
        sent.bytes
    }

    pub(crate) fn totals(&self, index: u16) -> Totals {
        self.snapshot.counters(IfIndex(index)).totals()
    }

    /// Asserts that interface `index` dropped packets for just these reasons, consumption aside.
    #[track_caller]
    pub(crate) fn assert_drops(&self, index: u16, expected: &[(Drop, u64)]) {
        let drops: Vec<_> =
            self.totals(index).drops().filter(|(reason, _)| *reason != Drop::Consumed).collect();
        assert_eq!(drops, expected);
    }

    /// Teaches the router a neighbour by having it ask for our address.
    pub(crate) fn introduce4(&mut self, index: u16, host: &str, mac: [u8; 6]) {
        let interface = self.snapshot.interface(IfIndex(index)).unwrap();
        let target = interface.source4(a4(host)).unwrap();
        let frame = arp_request(mac, a4(host), target);
        self.receive(index, &[frame]);
        self.sent();
    }

    /// As `introduce4`.
    pub(crate) fn introduce6(&mut self, index: u16, host: &str, mac: [u8; 6]) {
        let target = self.snapshot.interface(IfIndex(index)).unwrap().link_local[0];
        let frame = solicitation(mac, a6(host), target, Some(mac));
        self.receive(index, &[frame]);
        self.sent();
    }
}

impl core::ops::Drop for Rig {
    /// Every packet has exactly one end, and every buffer is where it belongs.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let all = (0..self.snapshot.interfaces().count() as u16).map(IfIndex).chain([IfIndex(u16::MAX)]);
        let (mut begun, mut ended) = (self.stack.originated(), self.stack.queued() as u64);
        for index in all {
            let totals = self.snapshot.counters(index).totals();
            begun += totals.rx_packets;
            ended += totals.tx_packets + totals.drops().map(|(_, count)| count).sum::<u64>();
        }
        assert_eq!(begun, ended, "packets that began and packets that ended");
        let gone = |_| true;
        let Self { stack, snapshot, pool, .. } = self;
        stack.neighbors4.forget(&mut stack.timers, gone, |packet| pool.free(packet));
        stack.neighbors6.forget(&mut stack.timers, gone, |packet| pool.free(packet));
        stack.reassembly.forget(&mut stack.timers, |_| true, |packet| pool.free(packet));
        assert!(stack.timers.len() <= snapshot.interfaces().count() + 1, "a timer of nobody's is set");
        frames::assert_nothing_leaked(pool);
    }
}

/// An Ethernet frame.
pub(crate) fn frame(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&ethernet::header(to, from, kind)[..], payload].concat()
}

/// Fields of an IPv4 packet that tests vary.
#[derive(Clone, Copy)]
pub(crate) struct V4<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    pub(crate) flags: u16,
    pub(crate) options: &'a [u8],
}

impl V4<'_> {
    /// A frame of host `n` to interface `n`.
    pub(crate) fn frame(&self, n: u8, payload: &[u8]) -> Vec<u8> {
        frame(router_mac(n), host_mac(n), ethernet::IPV4, &self.packet(payload))
    }

    pub(crate) fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut packet = frames::ipv4(self.protocol, self.options, self.flags, payload);
        packet[8] = self.ttl;
        packet[12..16].copy_from_slice(&a4(self.from).octets());
        packet[16..20].copy_from_slice(&a4(self.to).octets());
        frames::seal_ipv4(&mut packet[..20 + self.options.len()]);
        packet
    }
}

/// UDP from `from` to `to` with TTL 64.
pub(crate) const fn v4<'a>(from: &'a str, to: &'a str) -> V4<'a> {
    V4 { from, to, ttl: 64, protocol: 17, flags: 0, options: &[] }
}

/// Fields of an IPv6 packet that tests vary.
#[derive(Clone, Copy)]
pub(crate) struct V6<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) hops: u8,
    pub(crate) next: u8,
}

impl V6<'_> {
    /// A frame of host `n` to interface `n`.
    pub(crate) fn frame(&self, n: u8, payload: &[u8]) -> Vec<u8> {
        frame(router_mac(n), host_mac(n), ethernet::IPV6, &self.packet(payload))
    }

    pub(crate) fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut packet = frames::ipv6(self.next, payload);
        packet[7] = self.hops;
        packet[8..24].copy_from_slice(&a6(self.from).octets());
        packet[24..40].copy_from_slice(&a6(self.to).octets());
        packet
    }

    /// With an ICMPv6 message whose checksum is filled in.
    pub(crate) fn icmp(&self, message: &[u8]) -> Vec<u8> {
        let mut packet = V6 { next: 58, ..*self }.packet(message);
        let sum = {
            let mut all = frames::pseudo(&packet, 58, message.len());
            all.extend(message);
            !frames::naive_sum(&all)
        };
        packet[42..44].copy_from_slice(&sum.to_be_bytes());
        packet
    }
}

/// UDP from `from` to `to` with hop limit 64.
pub(crate) const fn v6<'a>(from: &'a str, to: &'a str) -> V6<'a> {
    V6 { from, to, hops: 64, next: 17 }
}

/// Asserts that a frame's IP header, and ICMP checksum if it has one, are right.
#[track_caller]
pub(crate) fn assert_sound(frame: &[u8]) {
    let ip = &frame[14..];
    match ethernet::kind(frame) {
        Some(ethernet::IPV4) => {
            let header = usize::from(ip[0] & 0xf) * 4;
            assert_eq!(frames::naive_sum(&ip[..header]), 0xffff, "IPv4 header checksum");
            assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), ip.len(), "IPv4 total length");
            if ip[9] == 1 && ip[6] & 0x3f == 0 && ip[7] == 0 {
                assert!(frames::transport_sum_is_right(ip, 1, &ip[header..]), "ICMP checksum");
            }
        }
        Some(ethernet::IPV6) => {
            assert_eq!(usize::from(u16::from_be_bytes([ip[4], ip[5]])), ip.len() - 40, "IPv6 length");
            if ip[6] == 58 {
                assert!(frames::transport_sum_is_right(ip, 58, &ip[40..]), "ICMPv6 checksum");
            }
        }
        _ => {}
    }
}

/// An ARP message in a frame.
pub(crate) fn arp(
    to: [u8; 6],
    from: [u8; 6],
    operation: u8,
    sender: Ipv4Addr,
    target_mac: [u8; 6],
    target: Ipv4Addr,
) -> Vec<u8> {
    let mut message = vec![0, 1, 8, 0, 6, 4, 0, operation];
    message.extend(from);
    message.extend(sender.octets());
    message.extend(target_mac);
    message.extend(target.octets());
    frame(to, from, ethernet::ARP, &message)
}

pub(crate) fn arp_request(from: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    arp([0xff; 6], from, 1, sender, [0; 6], target)
}

pub(crate) fn arp_reply(to: [u8; 6], from: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    arp(to, from, 2, sender, to, target)
}

/// An ICMPv6 message of neighbour discovery in a frame.
pub(crate) fn discovery(
    to: [u8; 6],
    from: [u8; 6],
    source: Ipv6Addr,
    destination: Ipv6Addr,
    message: &[u8],
) -> Vec<u8> {
    let (source, destination): (String, String) = (source.to_string(), destination.to_string());
    let mut packet = V6 { hops: 255, ..v6(&source, &destination) }.icmp(message);
    packet[..4].copy_from_slice(&[0x60, 0, 0, 0]);
    frame(to, from, ethernet::IPV6, &packet)
}

/// A neighbour solicitation, to the solicited-node group.
pub(crate) fn solicitation(
    from: [u8; 6],
    source: Ipv6Addr,
    target: Ipv6Addr,
    mac: Option<[u8; 6]>,
) -> Vec<u8> {
    let group = crate::address::solicited_node(target);
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    if let Some(mac) = mac {
        message.extend([1, 1]);
        message.extend(mac);
    }
    discovery(crate::address::group_mac(group), from, source, group, &message)
}

/// A neighbour advertisement with `flags`.
pub(crate) fn advertisement(
    to: [u8; 6],
    from: [u8; 6],
    target: Ipv6Addr,
    destination: Ipv6Addr,
    flags: u8,
    mac: Option<[u8; 6]>,
) -> Vec<u8> {
    let mut message = vec![136, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.octets());
    if let Some(mac) = mac {
        message.extend([2, 1]);
        message.extend(mac);
    }
    discovery(to, from, target, destination, &message)
}

/// Takes an interface out of the plan's service.
pub(crate) fn down(plan: &mut Plan, index: usize) {
    plan.interfaces[index].state = State::Down;
}
