//! The router, stamping the packets it forwards: the lab reads from a UDP packet's payload how long it took. With
//! `busy` on the command line a task computes a second at a time without yielding.
//!
//! The payload's first 24 bytes hold two readings of the TSC and a flag: when the CPU took the interrupt that announced
//! the packet, whatever it was doing then (0: none of its own did, an earlier packet's softint found it); when the packet
//! went to the transmit queue; and 1 if the task was computing. Under an emulator that counts instructions the readings
//! are instructions.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use weir_app::start;
use weir_machine::boot::Boot;
use weir_machine::interrupt::{FIRST_DEVICE, FIRST_VECTOR, SOURCES};
use weir_machine::{clock, dispatch, println, task};
use weir_netif::{Batch, Fault, Packet, Pool, Queue};
use weir_sync::cpu::claim;
use weir_sync::{CpuId, More, Softint};

/// Payload of a UDP packet in IPv4 without options in an Ethernet frame.
const PAYLOAD: usize = 14 + 20 + 8;

/// Vectors of devices.
const DEVICES: usize = (SOURCES - FIRST_DEVICE) as usize;

/// When the CPU took the first device interrupt since a queue was last looked at; 0: none came since.
static ARRIVED: AtomicU64 = AtomicU64::new(0);
/// The router's interrupt stubs, by device vector.
static STUBS: [AtomicU64; DEVICES] = [const { AtomicU64::new(0) }; DEVICES];
/// Whether the task is computing.
static COMPUTING: AtomicBool = AtomicBool::new(false);

// A stub in front of each device's: notes the time, and leaves to the router's with the stack as the CPU made it.
global_asm!(
    ".balign 16",
    "delay_stubs:",
    ".set delay_number, 0",
    ".rept {devices}",
    ".balign 16",
    "push qword ptr [rip + {stubs} + 8 * delay_number]",
    "jmp delay_note",
    ".set delay_number, delay_number + 1",
    ".endr",
    "delay_note:",
    "push rax",
    "push rdx",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "cmp qword ptr [rip + {arrived}], 0",
    "jne 1f",
    "mov qword ptr [rip + {arrived}], rax",
    "1: pop rdx",
    "pop rax",
    "ret",
    devices = const DEVICES,
    stubs = sym STUBS,
    arrived = sym ARRIVED,
);

unsafe extern "C" {
    /// [`DEVICES`] entries of 16 bytes.
    static delay_stubs: u8;
}

pub(crate) fn main(boot: &'static Boot) -> ! {
    note_arrivals();
    let Some(mut cpu) = claim(CpuId::BOOT) else { panic!("the boot CPU has a dispatcher already") };
    let (router, tasks) = cpu.control(|cx| start::start(cx, boot, |queue| Box::new(Stamped(queue)), |_| ()));
    let is_busy = boot.command_line.split_whitespace().any(|word| word == "busy");
    dispatch::run(cpu, Box::new(router), |_| {
        tasks();
        assert!(!is_busy || task::spawn("busy", busy()).is_ok());
    })
}

/// Leads device interrupts past `delay_note`. Interrupts are off.
fn note_arrivals() {
    let mut register = [0_u16; 5];
    // SAFETY: writes the ten bytes of the table's limit and address (Intel SDM vol. 2, SIDT).
    unsafe { asm!("sidt [{}]", in(reg) register.as_mut_ptr(), options(nostack, preserves_flags)) };
    let address = register[1..].iter().rev().fold(0, |address, &word| address << 16 | usize::from(word));
    let gates = core::ptr::with_exposed_provenance_mut::<[u64; 2]>(address);
    let first = usize::from(FIRST_VECTOR + FIRST_DEVICE);
    for (number, stub) in STUBS.iter().enumerate() {
        // SAFETY: the table that the machine layer loaded has 256 gates and is never freed.
        let gate = unsafe { gates.add(first + number) };
        // SAFETY: as above; nobody else touches it.
        let [low, high] = unsafe { gate.read() };
        // Intel SDM vol. 3A, figure 7-8: the handler's address in three parts.
        stub.store(low & 0xffff | low >> 32 & 0xffff_0000 | high << 32, Ordering::Relaxed);
        let ours = &raw const delay_stubs as u64 + 16 * number as u64;
        let low = low & 0x0000_ffff_ffff_0000 | ours & 0xffff | (ours & 0xffff_0000) << 32;
        // SAFETY: as above; the new handler ends in the old one and leaves every register as it was.
        unsafe { gate.write([low, ours >> 32]) };
    }
}

/// Computes, uses the heap now and then, yields once a second.
async fn busy() {
    println!("delay: busy");
    loop {
        let end = clock::now() + clock::SECOND;
        let mut sum = 0_u64;
        let mut blocks: Vec<Vec<u64>> = Vec::new();
        COMPUTING.store(true, Ordering::Relaxed);
        for round in 0_u64.. {
            sum = core::hint::black_box((0..8).fold(sum, |sum, n| sum.wrapping_mul(31).wrapping_add(n)));
            if round % 64 == 0 {
                blocks.push(alloc::vec![sum; 1 + round as usize % 100]);
                blocks.truncate(blocks.len() % 16);
                if clock::now() >= end {
                    break;
                }
            }
        }
        COMPUTING.store(false, Ordering::Relaxed);
        task::sleep(Duration::from_millis(1)).await;
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
        // After the look, so that no interrupt of this packet is taken for the next one's. Should the next one's come in
        // between, that packet counts as announced by none.
        let arrived = ARRIVED.swap(0, Ordering::Relaxed);
        for packet in into.iter_mut().filter(|packet| is_udp(packet)) {
            stamp(packet, 0, arrived);
            stamp(packet, 2, COMPUTING.load(Ordering::Relaxed).into());
        }
        Ok(more)
    }

    fn transmit(&mut self, cx: &Softint, pool: &mut Pool, batch: &mut Batch) -> Result<(), Fault> {
        for packet in batch.iter_mut().filter(|packet| is_udp(packet)) {
            stamp(packet, 1, clock::tsc());
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
