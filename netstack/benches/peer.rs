//! The forwarding path with a table and addresses from files, for comparison with `peers/forward.c`, which does the same
//! work with DPDK: `make bench-peers`.
//!
//! `peer --export DIR` writes the files; `peer ROUTES ADDRESSES` prints nanoseconds a packet, quickest and median sample.
#![allow(missing_docs)]

mod table;

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Instant as Clock;
use weir_netif::{Arena, BATCH, BUFFER, Batch, IfIndex, Packet, Pool};
use weir_netstack::address::{Kind, kind4};
use weir_netstack::neighbor::{self, Evidence};
use weir_netstack::snapshot::{InterfacePlan, RoutePlan, RouteTarget};
use weir_netstack::stack::{Event, Settings, Turn};
use weir_netstack::{Egress, Instant, Plan, Snapshot, Stack};
use weir_sync::cpu;

const IN: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const OUT: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
/// Packets of a sample; all are in memory at once.
const PACKETS: usize = 8192;
/// Samples of a run: the packets of all of them together have 2^20 destinations.
const SAMPLES: usize = 256;
const SEED: u64 = 20_261_121;

/// Catches what is sent.
struct Catch(Vec<Packet>);

impl Egress for Catch {
    fn flush(&mut self, _: IfIndex, batch: &mut Batch, _: &mut Pool) {
        self.0.extend(batch.drain(..));
    }
}

fn gateway(hop: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xc000_0202 + hop)
}

fn plan(routes: &str) -> Plan {
    let mut inside = InterfacePlan::new("in", IN);
    inside.addresses = vec![("10.0.0.1".parse().unwrap(), 24)];
    let mut outside = InterfacePlan::new("out", OUT);
    outside.addresses = vec![("192.0.2.1".parse().unwrap(), 24)];
    let route = |line: &str| {
        let (prefix, hop) = line.split_once(' ').unwrap();
        let (address, len) = prefix.split_once('/').unwrap();
        let gateway = gateway(hop.parse().unwrap()).into();
        RoutePlan {
            to: (address.parse().unwrap(), len.parse().unwrap()),
            target: RouteTarget::Via { gateway, interface: IfIndex(1) },
            metric: 0,
        }
    };
    let routes = routes.lines().map(route).collect();
    Plan { interfaces: vec![inside, outside], routes, ..Plan::default() }
}

fn frame(destination: Ipv4Addr) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&IN);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    frame[12..34].copy_from_slice(&[8, 0, 0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 0, 0, 0, 0]);
    frame[30..34].copy_from_slice(&destination.octets());
    let sum: u32 = frame[14..34].chunks(2).map(|b| u32::from(b[0]) << 8 | u32::from(b[1])).sum();
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = !((sum >> 16) + (sum & 0xffff)) as u16;
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn measure(routes: &str, addresses: &str) -> (f64, f64) {
    let addresses: Vec<Ipv4Addr> = addresses.lines().map(|line| line.parse().unwrap()).collect();
    let mut cpu = cpu::claim_any().unwrap();
    let mut pool = Pool::new(Arena::new(vec![0; (PACKETS + 256) * BUFFER].leak()));
    let snapshot = Snapshot::build(&plan(routes)).unwrap();
    let mut stack = Stack::new(Settings::default());
    let mut catch = Catch(Vec::with_capacity(PACKETS + BATCH));
    cpu.softint(|cx| {
        let now = Instant::from_secs(1);
        let mut turn = Turn { cx, snapshot: &snapshot, now, pool: &mut pool, egress: &mut catch };
        for hop in 0..=table::HOPS {
            let event = neighbor::Event {
                interface: IfIndex(1),
                address: gateway(hop),
                mac: Some([2, 0, 0, 0, 1, hop as u8]),
                evidence: Evidence::Asked,
            };
            stack.apply(&mut turn, Event::Neighbor4(event));
        }
    });
    let mut waiting: Vec<Packet> = Vec::with_capacity(PACKETS + BATCH);
    waiting.extend((0..PACKETS).map(|_| pool.alloc_from(&frame(Ipv4Addr::LOCALHOST)).unwrap()));
    let (mut batch, mut samples) = (Batch::new(), Vec::new());
    let mut destinations = addresses.iter().cycle();
    for _ in 0..SAMPLES {
        for packet in &mut waiting {
            packet.data_mut().copy_from_slice(&frame(*destinations.next().unwrap()));
        }
        let start = Clock::now();
        while !waiting.is_empty() {
            cpu.softint(|cx| {
                batch.extend(waiting.drain(waiting.len() - BATCH..));
                let now = Instant::from_secs(1);
                let mut turn = Turn { cx, snapshot: &snapshot, now, pool: &mut pool, egress: &mut catch };
                stack.input(&mut turn, IfIndex(0), &mut batch);
            });
        }
        samples.push(start.elapsed().as_nanos() as f64 / PACKETS as f64);
        assert_eq!(catch.0.len(), PACKETS, "every packet was forwarded");
        core::mem::swap(&mut waiting, &mut catch.0);
    }
    waiting.into_iter().for_each(|packet| pool.free(packet));
    samples.sort_by(f64::total_cmp);
    (samples[0], samples[SAMPLES / 2])
}

/// Tables of 10 and 1 M routes, and for each 1 and 2^20 addresses within routes.
fn export(folder: &Path) {
    for (name, count) in [("10", 10), ("1M", 1_000_000)] {
        let routes = table::ipv4(count, SEED);
        let mut text = String::new();
        routes.iter().for_each(|(prefix, hop)| writeln!(text, "{prefix} {}", hop + 1).unwrap());
        std::fs::write(folder.join(format!("routes-{name}")), text).unwrap();
        let forwarded = |address: &Ipv4Addr| {
            kind4(*address) == Kind::Unicast && ![10, 192].contains(&address.octets()[0])
        };
        let addresses: Vec<_> =
            table::routed4(&routes, 3 << 19, SEED + 3).into_iter().filter(forwarded).collect();
        for (flows, count) in [("1", 1), ("1M", 1 << 20)] {
            let mut text = String::new();
            addresses.iter().take(count).for_each(|address| writeln!(text, "{address}").unwrap());
            std::fs::write(folder.join(format!("addresses-{name}-{flows}")), text).unwrap();
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--export", folder] => export(Path::new(folder)),
        [routes, addresses] => {
            let read = |file| std::fs::read_to_string(file).unwrap();
            let (best, median) = measure(&read(routes), &read(addresses));
            println!("{best:.2} {median:.2}");
        }
        _ => println!("use: peer --export DIR | peer ROUTES ADDRESSES"),
    }
}
