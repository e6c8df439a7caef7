//! Cycles the forwarding path spends on a packet, from received batch to egress batch: `cargo bench -p weir-netstack`.
//!
//! No generator is measured: the next hop's station address is the router's own on the other side, so what is sent can
//! be received again as it is.
#![allow(missing_docs)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant as Clock;
use weir_netif::{Arena, BATCH, BUFFER, Batch, IfIndex, Packet, Pool};
use weir_netstack::neighbor::{self, Evidence};
use weir_netstack::snapshot::{InterfacePlan, RoutePlan, RouteTarget};
use weir_netstack::stack::{Event, Settings, Turn};
use weir_netstack::{Egress, Instant, Plan, Snapshot, Stack};
use weir_sync::cpu;

const IN: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const OUT: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
const GATEWAYS: u32 = 16;
/// Samples of a case, of which the quickest counts: others were disturbed, none can be too quick.
const SAMPLES: usize = 500;
/// Packets of a sample, about.
const SAMPLE: usize = 8192;
/// Hops before TTLs are wound up again.
const HOPS: usize = 200;

/// Catches what is sent.
struct Catch(Vec<Packet>);

impl Egress for Catch {
    fn flush(&mut self, _: IfIndex, batch: &mut Batch, _: &mut Pool) {
        self.0.extend(batch.drain(..));
    }
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

struct Case {
    name: &'static str,
    family: Family,
    routes: u32,
    packets: usize,
}

fn gateway(family: Family, n: u32) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(0xc000_0202 + n % GATEWAYS).into(),
        Family::V6 => {
            Ipv6Addr::from_bits((0x2001_0db8u128 << 96) + (2 << 64) + 2 + u128::from(n % GATEWAYS)).into()
        }
    }
}

/// Destination network `n`, spread over the address space without clashes: an odd factor permutes.
fn network(family: Family, n: u32) -> (IpAddr, u8) {
    match family {
        Family::V4 => {
            let spread = n.wrapping_mul(0x9e37_79b1) >> 8 & 0xff_ffff;
            let first = 11 + (spread >> 16) % 100;
            (Ipv4Addr::from_bits(first << 24 | (spread & 0xffff) << 8).into(), 24)
        }
        Family::V6 => {
            let spread = u128::from(n.wrapping_mul(0x9e37_79b1));
            (Ipv6Addr::from_bits(0x2a00 << 112 | spread << 80).into(), 48)
        }
    }
}

fn plan(case: &Case) -> Plan {
    let mut inside = InterfacePlan::new("in", IN);
    inside.addresses = vec![("10.0.0.1".parse().unwrap(), 24), ("2001:db8:1::1".parse().unwrap(), 64)];
    let mut outside = InterfacePlan::new("out", OUT);
    outside.addresses = vec![("192.0.2.1".parse().unwrap(), 24), ("2001:db8:0:2::1".parse().unwrap(), 64)];
    let routes = (0..case.routes).map(|n| RoutePlan {
        to: network(case.family, n),
        target: RouteTarget::Via { gateway: gateway(case.family, n), interface: IfIndex(1) },
        metric: n,
    });
    Plan { interfaces: vec![inside, outside], routes: routes.collect(), ..Plan::default() }
}

fn frame(case: &Case, n: u32) -> Vec<u8> {
    let mut frame = [&IN[..], &[2, 0, 0, 0, 0, 9]].concat();
    match network(case.family, n % case.routes).0 {
        IpAddr::V4(net) => {
            frame.extend([8, 0]);
            let mut header = vec![0x45, 0, 0, 46, 0, 1, 0, 0, 255, 17, 0, 0, 10, 0, 0, 2];
            header.extend((net.to_bits() | (n % 250 + 1)).to_be_bytes());
            let sum: u32 = header.chunks(2).map(|b| u32::from(b[0]) << 8 | u32::from(b[1])).sum();
            let sum = (sum >> 16) + (sum & 0xffff);
            let sum = !((sum >> 16) + (sum & 0xffff)) as u16;
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend(header);
            frame.extend([0; 26]);
        }
        IpAddr::V6(net) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 6, 59, 255]);
            frame.extend((0x2001_0db8_0001_0000u128 << 64 | 2).to_be_bytes());
            frame.extend((net.to_bits() | (u128::from(n) + 1)).to_be_bytes());
            frame.extend([0; 6]);
        }
    }
    frame
}

/// Nanoseconds a packet in batches of `size`.
fn measure(case: &Case, size: usize) -> f64 {
    let mut cpu = cpu::claim_any().unwrap();
    let arena = Arena::new(vec![0; (case.packets + 256) * BUFFER].leak());
    let mut pool = Pool::new(arena);
    let snapshot = Snapshot::build(&plan(case)).unwrap();
    let mut stack = Stack::new(Settings::default());
    let mut catch = Catch(Vec::with_capacity(case.packets + BATCH));
    let mut waiting: Vec<Packet> = Vec::with_capacity(case.packets + BATCH);
    let frames: Vec<Vec<u8>> = (0..case.packets as u32).map(|n| frame(case, n)).collect();
    waiting.extend(frames.iter().map(|frame| pool.alloc_from(frame).unwrap()));
    let mut batch = Batch::new();

    cpu.softint(|cx| {
        let mut turn =
            Turn { cx, snapshot: &snapshot, now: Instant::from_secs(1), pool: &mut pool, egress: &mut catch };
        for n in 0..GATEWAYS {
            let (interface, mac, evidence) = (IfIndex(1), Some(IN), Evidence::Asked);
            let event = match gateway(case.family, n) {
                IpAddr::V4(address) => {
                    Event::Neighbor4(neighbor::Event { interface, address, mac, evidence })
                }
                IpAddr::V6(address) => {
                    Event::Neighbor6(neighbor::Event { interface, address, mac, evidence })
                }
            };
            stack.apply(&mut turn, event);
        }
    });
    let rounds = (SAMPLE / case.packets).clamp(1, HOPS);
    let mut best = f64::INFINITY;
    for _ in 0..SAMPLES {
        for (packet, frame) in waiting.iter_mut().zip(&frames) {
            packet.data_mut().copy_from_slice(frame);
        }
        let start = Clock::now();
        for _ in 0..rounds {
            for first in (0..case.packets).step_by(size) {
                cpu.softint(|cx| {
                    let now = Instant::from_secs(1);
                    // From the end: nothing moves.
                    batch.extend(waiting.drain(waiting.len() - size.min(case.packets - first)..));
                    let mut turn = Turn { cx, snapshot: &snapshot, now, pool: &mut pool, egress: &mut catch };
                    stack.input(&mut turn, IfIndex(0), &mut batch);
                });
            }
            assert_eq!(catch.0.len(), case.packets, "every packet was forwarded");
            core::mem::swap(&mut waiting, &mut catch.0);
        }
        best = best.min(start.elapsed().as_nanos() as f64 / (rounds * case.packets) as f64);
    }
    waiting.into_iter().for_each(|packet| pool.free(packet));
    best
}

/// The processor's nominal rate; its time-stamp counter runs at that.
fn gigahertz() -> f64 {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("cpu MHz")).and_then(|line| line.split(':').nth(1));
    line.and_then(|mhz| mhz.trim().parse::<f64>().ok()).unwrap_or(1000.0) / 1000.0
}

fn main() {
    let cases = [
        Case { name: "IPv4, 16 routes, warm", family: Family::V4, routes: 16, packets: 64 },
        Case { name: "IPv6, 16 routes, warm", family: Family::V6, routes: 16, packets: 64 },
        Case {
            name: "IPv4, 100 k routes, 8 k flows, cold",
            family: Family::V4,
            routes: 100_000,
            packets: 8192,
        },
        Case {
            name: "IPv6, 100 k routes, 8 k flows, cold",
            family: Family::V6,
            routes: 100_000,
            packets: 8192,
        },
    ];
    let gigahertz = gigahertz();
    println!("{:<40} {:>5} {:>9} {:>9}", "64-byte packets", "batch", "ns", "cycles");
    for case in &cases {
        for size in [64, 16, 1] {
            let best = measure(case, size);
            println!("{:<40} {size:>5} {best:>9.1} {:>9.0}", case.name, best * gigahertz);
        }
    }
}
