//! The packet path takes nothing from the heap: forwarding, resolving, refusing, cutting, putting together, ticking.

use std::net::Ipv4Addr;
use weir_netif::{Arena, BUFFER, Batch, Checksum, Drop, Gso, GsoKind, IfIndex, Packet, Pool};
use weir_netstack::snapshot::{Advertise, Advertisement, InterfacePlan};
use weir_netstack::stack::{Settings, Turn};
use weir_netstack::{Carrier, Egress, Instant, Plan, Snapshot, Stack};
use weir_sync::cpu;

const LAN: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0];
const WAN: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const HOST: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Counts frames and frees them.
#[derive(Default)]
struct Sink {
    frames: usize,
}

impl Egress for Sink {
    fn flush(&mut self, _: IfIndex, batch: &mut Batch, pool: &mut Pool) -> Carrier {
        self.frames += batch.len();
        pool.free_all(batch);
        Carrier::ThisCpu
    }
}

fn ipv4(to: Ipv4Addr, ttl: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let total = (20 + payload.len()) as u16;
    let mut header = vec![0x45, 0];
    header.extend(total.to_be_bytes());
    header.extend([0, 1, 0, 0, ttl, protocol, 0, 0, 10, 0, 1, 10]);
    header.extend(to.octets());
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !((sum >> 16) + (sum & 0xffff)) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&LAN[..], &HOST, &[8, 0], &header, payload].concat()
}

fn fragment(id: u8, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = ipv4(Ipv4Addr::new(10, 0, 1, 1), 64, 1, payload);
    frame[19] = id;
    frame[20..22].copy_from_slice(&flags.to_be_bytes());
    frame[24..26].fill(0);
    let sum: u32 = frame[14..34].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    frame[24..26].copy_from_slice(&(!((sum >> 16) + (sum & 0xffff)) as u16).to_be_bytes());
    frame
}

fn arp(to: [u8; 6], operation: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    [&to[..], &HOST, &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation], &HOST, &sender, &[0; 6], &target].concat()
}

#[test]
fn the_packet_path_does_not_allocate() {
    let mut inside = InterfacePlan::new("lan", LAN);
    inside.addresses = vec![("10.0.1.1".parse().unwrap(), 24), ("2001:db8:1::1".parse().unwrap(), 64)];
    inside.advertise = Advertise::On(Advertisement::default());
    let mut outside = InterfacePlan::new("wan", WAN);
    outside.addresses = vec![("192.0.2.1".parse().unwrap(), 24)];
    let plan = Plan { interfaces: vec![inside, outside], ..Plan::default() };
    let snapshot = Snapshot::build(&plan).unwrap();
    let arena = Arena::new(vec![0; 2049 * BUFFER].leak());
    let mut pool = Pool::new(arena);
    let mut stack = Stack::new(Settings { neighbors: 64, ..Settings::default() });
    let mut cpu = cpu::claim_any().unwrap();
    let mut sink = Sink::default();

    let far = Ipv4Addr::new(192, 0, 2, 20);
    let tcp =
        [&[0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0, 9, 0, 0, 0, 0][..], &[7; 20_000]].concat();
    let frames: Vec<(u16, Vec<u8>)> = vec![
        (0, arp([0xff; 6], 1, [10, 0, 1, 10], [10, 0, 1, 1])),
        (0, ipv4(far, 64, 17, &[0; 26])),
        (1, arp(WAN, 2, [192, 0, 2, 20], [192, 0, 2, 1])),
        (0, ipv4(far, 64, 17, &[0; 26])),
        (0, ipv4(far, 64, 17, &[0; 4000])),
        (0, ipv4(far, 1, 17, &[0; 26])),
        (0, ipv4(Ipv4Addr::new(198, 51, 100, 1), 64, 17, &[0; 26])),
        (0, ipv4(Ipv4Addr::new(10, 0, 1, 1), 64, 17, &[0; 26])),
        (0, ipv4(far, 64, 6, &tcp)),
        // A long echo request in two parts, and one whose end never comes.
        (0, fragment(1, 0x2000, &[&[8, 0, 0xf7, 0xff], &[0; 1476][..]].concat())),
        (0, fragment(1, 185, &[0; 1400])),
        (0, fragment(2, 0x2000, &[0; 1480])),
    ];
    let scan: Vec<Vec<u8>> = (30..230).map(|n| ipv4(Ipv4Addr::new(192, 0, 2, n), 64, 17, &[])).collect();
    let mut now = Instant::from_secs(1);
    let info = allocation_counter::measure(|| {
        for round in 0..2000 {
            cpu.softint(|cx| {
                let mut turn = Turn { cx, snapshot: &snapshot, now, pool: &mut pool, egress: &mut sink };
                for (index, frame) in &frames {
                    let mut packet: Packet = turn.pool.alloc_from(frame).unwrap();
                    if frame.len() > 10_000 {
                        packet.meta_mut().checksum = Checksum::Partial { start: 34, offset: 16 };
                        packet.meta_mut().gso = Some(Gso { kind: GsoKind::Tcp4, size: 1400, ecn: false });
                    }
                    let mut batch = Batch::new();
                    batch.push(packet);
                    stack.input(&mut turn, IfIndex(*index), &mut batch);
                }
                // A scan, so that neighbours are asked for and given up.
                let mut batch = Batch::new();
                batch.push(turn.pool.alloc_from(&scan[round % scan.len()]).unwrap());
                stack.input(&mut turn, IfIndex(0), &mut batch);
                stack.tick(&mut turn);
            });
            now += std::time::Duration::from_millis(50);
        }
    });
    assert!(sink.frames > 2000 * 20, "{}", sink.frames);
    assert_eq!(info.count_total, 0);
    let totals = snapshot.counters(IfIndex(0)).totals();
    let drops = |wanted| totals.drops().find(|(reason, _)| *reason == wanted).map_or(0, |(_, count)| count);
    assert_eq!(drops(Drop::IcmpMalformed), 0);
    assert!(drops(Drop::FragmentDuplicate) > 1000 && drops(Drop::FragmentTimeout) > 0);
}
