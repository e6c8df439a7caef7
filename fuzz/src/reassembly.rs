//! Parts of a few echo requests to the router in any order, repeated, overlapping, spoilt, missing: every answer is that to
//! one of the requests as it was sent, and fragments never hold more buffers than they may.

use crate::input::Input;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use weir_netif::{Arena, BUFFER, Batch, IfIndex, Packet, Pool};
use weir_netstack::neighbor::{self, Evidence};
use weir_netstack::snapshot::InterfacePlan;
use weir_netstack::stack::{Event, Settings, Stack, Turn};
use weir_netstack::{Carrier, Egress, Instant, Plan, Snapshot, ethernet};
use weir_sync::cpu;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0];
const ROUTER4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// Lengths of the messages, of IPv4 and then of IPv6: short enough to be answered whole.
const LENGTHS: [usize; 8] = [24, 100, 805, 1400, 17, 128, 800, 1400];
/// Buffers that fragments may hold.
const LIMIT: usize = 24;

thread_local! {
    static ARENA: &'static Arena = Arena::new(vec![0; 129 * BUFFER].leak());
    static SNAPSHOT: Snapshot = {
        let mut interface = InterfacePlan::new("lan", MAC);
        interface.addresses = vec![(ROUTER4.into(), 16), (ROUTER6.into(), 64)];
        Snapshot::build(&Plan { interfaces: vec![interface], ..Plan::default() }).unwrap()
    };
}

/// Checks what the router sends.
struct Wire;

impl Egress for Wire {
    fn flush(&mut self, _: IfIndex, batch: &mut Batch, pool: &mut Pool) -> Carrier {
        for packet in batch.drain(..) {
            let frame: Vec<u8> = packet.segments().flatten().copied().collect();
            pool.free(packet);
            let (kind, message) = match frame[12..14] {
                [0x08, 0x00] => (0, &frame[34..]),
                [0x86, 0xdd] => (129, &frame[54..]),
                _ => continue,
            };
            if message[0] == kind {
                let number = usize::from(message[7]);
                let request = message_of(number);
                assert_eq!(message[4..], request[4..], "the answer to request {number}");
            }
        }
        Carrier::ThisCpu
    }
}

/// One run.
pub fn run(data: &[u8]) {
    SNAPSHOT.with(|snapshot| with(snapshot, Input(data)));
}

fn with(snapshot: &Snapshot, mut input: Input<'_>) {
    let settings =
        Settings { interfaces: 1, neighbors: 16, reassembly: LIMIT * BUFFER, ..Settings::default() };
    let mut stack = Stack::new(settings);
    let mut pool = Pool::new(ARENA.with(|arena| *arena));
    let mut now = Instant::from_secs(1000);
    let counted = |stack: &Stack| {
        let totals = snapshot.counters(IfIndex(0)).totals();
        let ended = totals.tx_packets + totals.drops().map(|(_, count)| count).sum::<u64>();
        (totals.rx_packets + stack.originated(), ended)
    };
    let before = counted(&stack);
    for number in 0..LENGTHS.len() as u8 {
        let (interface, mac, evidence) = (IfIndex(0), Some([2, 0, 0, 0, 0, number]), Evidence::Asked);
        let event = match source(number.into()) {
            (Some(address), _) => Event::Neighbor4(neighbor::Event { interface, address, mac, evidence }),
            (_, address) => Event::Neighbor6(neighbor::Event { interface, address, mac, evidence }),
        };
        turn(snapshot, &mut pool, now, |turn| stack.apply(turn, event));
    }
    for _ in 0..256 {
        if input.is_empty() {
            break;
        }
        if input.one_in(16) {
            now += Duration::from_millis(u64::from(input.word()) * 4);
            turn(snapshot, &mut pool, now, |turn| while stack.tick(turn) <= now {});
            continue;
        }
        let Some(packet) = pool.alloc_from(&fragment(&mut input)) else { break };
        let mut batch = Batch::new();
        batch.push(packet);
        turn(snapshot, &mut pool, now, |turn| stack.input(turn, IfIndex(0), &mut batch));
        // Besides, three may wait for each of the four neighbours of a family that can be asked for at once.
        assert!(stack.queued() <= LIMIT + 24, "{} packets wait", stack.queued());
    }
    let after = counted(&stack);
    let (begun, ended) = (after.0 - before.0, after.1 - before.1);
    assert_eq!(begun, ended + stack.queued() as u64, "packets that began and packets that ended");
    drop(stack);
    let all: Vec<Packet> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(all.len(), pool.arena().slots(), "a buffer was lost");
    all.into_iter().for_each(|packet| pool.free(packet));
}

fn turn<R>(snapshot: &Snapshot, pool: &mut Pool, now: Instant, work: impl FnOnce(&mut Turn<'_>) -> R) -> R {
    let mut cpu = loop {
        // Tests are threads and each needs a CPU; there may be more of them than CPUs.
        match cpu::claim_any() {
            Some(cpu) => break cpu,
            None => std::thread::yield_now(),
        }
    };
    cpu.softint(|cx| work(&mut Turn { cx, snapshot, now, pool, egress: &mut Wire }))
}

/// Who sends request `number`.
fn source(number: usize) -> (Option<Ipv4Addr>, Ipv6Addr) {
    let low = number as u8 + 2;
    let four = (number < 4).then_some(Ipv4Addr::new(10, 0, 0, low));
    (four, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, low.into()))
}

/// An echo request: its sequence number is its own.
fn message_of(number: usize) -> Vec<u8> {
    let len = LENGTHS[number];
    let mut message = vec![if number < 4 { 8 } else { 128 }, 0, 0, 0, 0, 0, 0, number as u8];
    message.extend((8..len).map(|at| (at * 11 + at / 256 + number) as u8));
    let mut summed = message.clone();
    if number >= 4 {
        // The pseudo-header; the message ends it.
        let (_, from) = source(number);
        let mut pseudo = [from.octets(), ROUTER6.octets()].concat();
        pseudo.extend((len as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, 58]);
        summed.splice(0..0, pseudo);
    }
    let sum = summed.chunks(2).fold(0u32, |sum, pair| {
        let sum = sum + (u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
        (sum & 0xffff) + (sum >> 16)
    });
    message[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    message
}

/// A frame with some part of some request, most often one that can be.
fn fragment(input: &mut Input<'_>) -> Vec<u8> {
    let number = input.below(LENGTHS.len());
    let message = message_of(number);
    let start = input.below(message.len().div_ceil(8)) * 8;
    let len = match input.one_in(8) {
        true => input.below(200),
        false => (1 + input.below(256)) * 8,
    };
    let end = (start + len).min(message.len());
    let mut part = message[start..end].to_vec();
    let choice = input.byte();
    // A byte that is one more than it should be, which no number of others makes good.
    if choice % 16 == 15 && !part.is_empty() {
        part[0] = part[0].wrapping_add(1);
    }
    let more = (end < message.len()) != (choice % 32 == 14);
    let offset = if choice % 64 == 13 { usize::from(input.word() & 0xfff8) } else { start };
    let id = (number as u8).wrapping_add(if choice % 8 == 7 { input.byte() } else { 0 });
    let mut frame = [MAC, [2, 0, 0, 0, 0, number as u8]].concat();
    match source(number) {
        (Some(from), _) => {
            frame.extend([8, 0, 0x45, 0]);
            frame.extend(((20 + part.len()) as u16).to_be_bytes());
            frame.extend([0, id]);
            frame.extend(((offset / 8) as u16 | u16::from(more) << 13).to_be_bytes());
            frame.extend([64, 1, 0, 0]);
            frame.extend([from.octets(), ROUTER4.octets()].concat());
            let sum = weir_netstack::checksum::internet(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        (None, from) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(((8 + part.len()) as u16).to_be_bytes());
            frame.extend([44, 64]);
            frame.extend([from.octets(), ROUTER6.octets()].concat());
            frame.extend([58, 0]);
            frame.extend((offset as u16 | u16::from(more)).to_be_bytes());
            frame.extend([0, 0, 0, id]);
        }
    }
    frame.extend(part);
    if choice == 0xfe {
        input.damage(&mut frame);
    }
    debug_assert!(ethernet::kind(&frame).is_some());
    frame
}
