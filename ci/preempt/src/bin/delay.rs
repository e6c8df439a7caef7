//! The router, stamping the packets it forwards: the lab reads from a UDP packet's payload how long it took. With
//! `busy` on the command line a task computes a second at a time without yielding.
//!
//! The payload's first 24 bytes hold three readings of the TSC: the last moment the task was seen running before the
//! packet came (0 while there is none), the start of the softint that took it, and when it went to the transmit queue.
//! Under an emulator that counts instructions these are instructions.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use weir_app::router::Router;
use weir_app::start;
use weir_machine::boot::Boot;
use weir_machine::dispatch::{self, Softints};
use weir_machine::{clock, println, task};
use weir_netif::{Batch, Fault, Packet, Pool, Queue};
use weir_sync::cpu::claim;
use weir_sync::{CpuId, More, Softint};

weir_machine::entry!(main);

/// Payload of a UDP packet in IPv4 without options in an Ethernet frame.
const PAYLOAD: usize = 14 + 20 + 8;

/// When the busy task was last seen running.
static SEEN: AtomicU64 = AtomicU64::new(0);
/// When the current softint began.
static BEGAN: AtomicU64 = AtomicU64::new(0);

fn main(boot: &'static Boot) -> ! {
    let Some(mut cpu) = claim(CpuId::BOOT) else { panic!("the boot CPU has a dispatcher already") };
    let (router, management) = cpu.control(|cx| start::start(cx, boot, |queue| Box::new(Stamped(queue))));
    let is_busy = boot.command_line.split_whitespace().any(|word| word == "busy");
    dispatch::run(cpu, Box::new(Timed(router)), |_| {
        let mut spawned = task::spawn("management", management.run()).is_ok();
        if is_busy {
            spawned &= task::spawn("busy", busy()).is_ok();
        }
        assert!(spawned);
    })
}

/// Computes, uses the heap now and then, yields once a second.
async fn busy() {
    println!("delay: busy");
    loop {
        let end = clock::now() + clock::SECOND;
        let mut sum = 0_u64;
        let mut blocks: Vec<Vec<u64>> = Vec::new();
        for round in 0_u64.. {
            SEEN.store(clock::tsc(), Ordering::Relaxed);
            sum = core::hint::black_box((0..8).fold(sum, |sum, n| sum.wrapping_mul(31).wrapping_add(n)));
            if round % 64 == 0 {
                blocks.push(alloc::vec![sum; 1 + round as usize % 100]);
                blocks.truncate(blocks.len() % 16);
                if clock::now() >= end {
                    break;
                }
            }
        }
        SEEN.store(0, Ordering::Relaxed);
        task::sleep(Duration::from_millis(1)).await;
    }
}

/// Notes when each softint begins.
struct Timed(Router);

impl Softints for Timed {
    fn softint(&mut self, cx: &Softint, bit: u8) -> More {
        BEGAN.store(clock::tsc(), Ordering::Relaxed);
        self.0.softint(cx, bit)
    }
}

/// A queue pair that stamps what passes.
struct Stamped(Box<dyn Queue>);

fn stamp(packet: &mut Packet, place: usize, value: u64) {
    let at = PAYLOAD + place * 8;
    if let Some(bytes) = packet.data_mut().get_mut(at..at + 8) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
}

fn is_udp(packet: &Packet) -> bool {
    matches!(packet.data(), [_, _, _, _, _, _, _, _, _, _, _, _, 8, 0, 0x45, rest @ ..] if rest.get(8) == Some(&17))
}

impl Queue for Stamped {
    fn receive(&mut self, cx: &Softint, pool: &mut Pool, into: &mut Batch) -> Result<More, Fault> {
        let more = self.0.receive(cx, pool, into)?;
        for packet in into.iter_mut().filter(|packet| is_udp(packet)) {
            stamp(packet, 0, SEEN.load(Ordering::Relaxed));
            stamp(packet, 1, BEGAN.load(Ordering::Relaxed));
        }
        Ok(more)
    }

    fn transmit(&mut self, cx: &Softint, pool: &mut Pool, batch: &mut Batch) -> Result<(), Fault> {
        for packet in batch.iter_mut().filter(|packet| is_udp(packet)) {
            stamp(packet, 2, clock::tsc());
        }
        self.0.transmit(cx, pool, batch)
    }

    fn reap(&mut self, cx: &Softint, pool: &mut Pool) -> Result<More, Fault> {
        self.0.reap(cx, pool)
    }

    fn notifications(&self) -> u64 {
        self.0.notifications()
    }

    fn disarm(&mut self, cx: &Softint) {
        self.0.disarm(cx);
    }

    fn arm(&mut self, cx: &Softint) -> Result<More, Fault> {
        self.0.arm(cx)
    }
}
