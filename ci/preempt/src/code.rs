//! Compiled packet filters on the bare machine: one after the other is published to all CPUs, which run it while the next is made
//! on pages that an earlier one left; and random programs give what the interpreter gives. The end is a line `code: ok`.
//! `touch=code` and `touch=frame` then write where the code is, and where its frame was before it became code.

use crate::bpf;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use spin::Once;
use weir_bpf::opcode::{BPF_A, BPF_ABS, BPF_ALU, BPF_K, BPF_LD, BPF_RET, BPF_W, BPF_XOR};
use weir_bpf::{Filter, Instruction, Packet, Program, compile};
use weir_machine::boot::Boot;
use weir_machine::code::Code;
use weir_machine::dispatch::{self, More, Softints};
use weir_machine::interrupt::{MESSAGE, TIMER};
use weir_machine::{clock, frames, println, smp, task, timer};
use weir_sync::cpu::claim;
use weir_sync::{Cpu, CpuId, Published, Softint};

/// Programs published, and random ones.
const PUBLISHED: u32 = 2000;
const RANDOM: usize = 2000;
/// Between two looks of a CPU.
const PERIOD_NS: u64 = 20_000;
/// How far above its physical address a frame with code is mapped.
const ABOVE: usize = 0xffff_8000_0000_0000;

/// The filter in force: what it answers about a packet of zeros.
struct Current {
    code: Code,
    answer: u32,
}

static CURRENT: Once<Published<Current>> = Once::new();
/// Runs of published filters, by CPU.
static RUNS: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];
static WISH: Once<Option<&'static str>> = Once::new();

pub(crate) fn main(boot: &'static Boot) -> ! {
    WISH.call_once(|| boot.command_line.split_whitespace().find_map(|word| word.strip_prefix("touch=")));
    CURRENT.call_once(|| Published::new(Box::new(current(0))));
    let cpus = smp::start_others(run);
    println!("code: {cpus} CPUs");
    match claim(CpuId::BOOT) {
        Some(cpu) => run(cpu),
        None => panic!("the boot CPU has a dispatcher already"),
    }
}

fn run(cpu: Cpu) -> ! {
    dispatch::run(cpu, Box::new(Look), |cx| {
        if cx.cpu() == CpuId::BOOT {
            assert!(task::spawn("filters", filters()).is_ok());
        }
        dispatch::raise(cx.cpu(), MESSAGE);
    })
}

/// A filter that reads the packet and answers with a number of its own.
fn current(answer: u32) -> Current {
    let one = |code, k| Instruction { code, jt: 0, jf: 0, k };
    // More or less of the same, so that the answer lies elsewhere each time.
    let mut program = Vec::new();
    program.extend((0..answer % 500).map(|_| one(BPF_LD | BPF_W | BPF_ABS, 4)));
    program.push(one(BPF_LD | BPF_W | BPF_ABS, 8));
    program.push(one(BPF_ALU | BPF_XOR | BPF_K, answer));
    program.push(one(BPF_RET | BPF_A, 0));
    let program = Program::new(&program).expect("a right program");
    Current { code: Code::load(compile(program)).expect("frames for code"), answer }
}

/// Each CPU runs whatever is in force, again and again.
struct Look;

impl Softints for Look {
    fn softint(&mut self, cx: &Softint, bit: u8) -> More {
        assert!(matches!(bit, TIMER | MESSAGE), "source {bit} came up");
        let Some(current) = CURRENT.get() else { return More::No };
        let current = current.read(cx);
        for _ in 0..16 {
            assert_eq!(current.code.run(&Packet::new(&[0; 60])), current.answer, "on {}", cx.cpu());
        }
        RUNS[cx.cpu().index()].fetch_add(1, Ordering::Relaxed);
        timer::arm(clock::now() + PERIOD_NS);
        More::No
    }
}

async fn filters() {
    let current_place = CURRENT.get().expect("there is one");
    let free = frames::free_bytes();
    for answer in 1..=PUBLISHED {
        let next = Box::new(current(answer));
        // Dropped, and its pages with it, when no CPU runs it any more.
        drop(task::control(|cx| current_place.publish(cx, next)));
        task::yield_now().await;
    }
    let (mut state, mut ran) = (1_u64, 0);
    for _ in 0..RANDOM {
        let bytes: [u8; 600] = core::array::from_fn(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        });
        ran += usize::from(bpf::run(&bytes).is_some());
        task::yield_now().await;
    }
    assert!(ran > RANDOM / 2, "{ran} of {RANDOM} programs were right");
    let runs: Vec<u64> =
        RUNS.iter().map(|runs| runs.load(Ordering::Relaxed)).filter(|&runs| runs > 0).collect();
    // Tables and the heap take some; pages that were not given back would be 16 MiB.
    let kept = free.saturating_sub(frames::free_bytes());
    assert!(kept < 4 << 20, "{kept} bytes were not given back");
    println!("code: ok, {ran} random programs, runs by CPU {runs:?}");
    let last = current(7);
    let at = last.code.start() as usize;
    match WISH.get().copied().flatten() {
        Some("code") => write(at),
        Some("frame") => write(at - ABOVE),
        _ => {}
    }
}

/// Writes where nobody may.
fn write(at: usize) {
    println!("code: writes at {at:#x}");
    // SAFETY: none: the test is that this ends the machine.
    unsafe { (at as *mut u8).write_volatile(0xc3) };
    println!("code: wrote");
}
