//! A million preemptions of tasks that use registers, the heap, locks, snapshots and the timer, on every CPU. Whatever
//! is not as it was stops the machine with a panic; at the end comes a line `stress: ok`.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use spin::Mutex;
use weir_machine::boot::Boot;
use weir_machine::dispatch::{self, More, Softints};
use weir_machine::interrupt::{MESSAGE, TIMER};
use weir_machine::{clock, mask, println, smp, task, timer};
use weir_sync::cpu::claim;
use weir_sync::{Cpu, CpuId, Published, Softint};

/// Preemptions to reach, `preemptions=N` on the command line.
static GOAL: AtomicU64 = AtomicU64::new(1_000_000);
/// Longest time between two timer interrupts of a CPU, `period=N` nanoseconds.
static PERIOD: AtomicU64 = AtomicU64::new(40_000);
/// Whether the CPU has 256-bit registers and they are on.
static WIDE: AtomicBool = AtomicBool::new(false);
/// Rounds of each kind of task, for the last line.
static ROUNDS: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];
const VECTORS: usize = 0;
const HEAP: usize = 1;
const LOCKS: usize = 2;
const SNAPSHOTS: usize = 3;
const SLEEPS: usize = 4;

/// What the softints of each CPU and its tasks both write, the tasks with softints masked: two words that are equal
/// whenever nobody is at it.
static PAIRS: [[AtomicU64; 2]; 64] = [const { [const { AtomicU64::new(0) }; 2] }; 64];
/// The same between the tasks of all CPUs.
static SHARED: Mutex<[u64; 2]> = Mutex::new([0; 2]);

pub(crate) fn main(boot: &'static Boot) -> ! {
    for (name, value) in [("preemptions=", &GOAL), ("period=", &PERIOD)] {
        let named =
            boot.command_line.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse().ok());
        value.store(named.unwrap_or(value.load(Ordering::Relaxed)), Ordering::Relaxed);
    }
    WIDE.store(has_wide_registers(), Ordering::Relaxed);
    let cpus = smp::start_others(run);
    println!("stress: {cpus} CPUs, {} registers", if wide() { "256-bit" } else { "128-bit" });
    match claim(CpuId::BOOT) {
        Some(cpu) => run(cpu),
        None => panic!("the boot CPU has a dispatcher already"),
    }
}

fn run(cpu: Cpu) -> ! {
    let seed = clock::tsc() ^ (cpu.id().index() as u64 + 1);
    dispatch::run(cpu, Box::new(Disturb(Random(seed))), move |cx| {
        let cpu = cx.cpu();
        let random = |n: u64| Random(seed.wrapping_mul(n | 1) | 1);
        let spawned = [
            task::spawn("vectors", vectors(random(3))),
            task::spawn("vectors", vectors(random(5))),
            task::spawn("heap", heap(random(7))),
            task::spawn("locks", locks(cpu, random(11))),
            task::spawn("snapshots", snapshots()),
            task::spawn("sleeps", sleeps(random(13))),
        ];
        assert!(spawned.iter().all(Result::is_ok));
        if cpu == CpuId::BOOT {
            assert!(task::spawn("judge", judge()).is_ok());
        }
        dispatch::raise(cpu, MESSAGE);
    })
}

/// Says when it is enough.
async fn judge() {
    loop {
        task::sleep(Duration::from_millis(5)).await;
        let cpus = (0..64).filter_map(CpuId::new);
        let each: Vec<u64> = cpus.map(dispatch::preemptions).filter(|&count| count > 0).collect();
        let rounds = || ROUNDS.iter().map(|count| count.load(Ordering::Relaxed));
        if each.iter().sum::<u64>() >= GOAL.load(Ordering::Relaxed) && rounds().all(|count| count > 0) {
            let [vectors, heap, locks, snapshots, sleeps] =
                [VECTORS, HEAP, LOCKS, SNAPSHOTS, SLEEPS].map(|kind| ROUNDS[kind].load(Ordering::Relaxed));
            println!(
                "stress: ok, preemptions by CPU {each:?}; rounds: vectors {vectors}, heap {heap}, locks {locks}, \
                 snapshots {snapshots}, sleeps {sleeps}; {} ms",
                clock::now() / 1_000_000
            );
            return;
        }
    }
}

/// Xorshift (Marsaglia, "Xorshift RNGs", 2003).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Softints that come at any moment and leave no register as it was.
struct Disturb(Random);

impl Softints for Disturb {
    fn softint(&mut self, cx: &Softint, bit: u8) -> More {
        clobber();
        let [a, b] = &PAIRS[cx.cpu().index()];
        let value = a.load(Ordering::Relaxed);
        assert_eq!(value, b.load(Ordering::Relaxed), "a softint ran inside a masked section");
        a.store(value.wrapping_add(1), Ordering::Relaxed);
        b.store(value.wrapping_add(1), Ordering::Relaxed);
        let random = self.0.next();
        match bit {
            TIMER | MESSAGE => timer::arm(clock::now() + random % PERIOD.load(Ordering::Relaxed)),
            other => panic!("source {other} came up"),
        }
        // Now and then another CPU, so that interrupts between CPUs disturb as well.
        let other = CpuId::new(random as usize >> 20 & 3)
            .filter(|other| random >> 40 & 7 == 0 && *other != cx.cpu() && dispatch::preemptions(*other) > 0);
        if let Some(other) = other {
            dispatch::raise(other, MESSAGE);
        }
        More::No
    }
}

fn wide() -> bool {
    WIDE.load(Ordering::Relaxed)
}

fn has_wide_registers() -> bool {
    // AVX and OSXSAVE: the CPU has it and XCR0 can be read (Intel SDM vol. 1 §14.3).
    const BOTH: u32 = 1 << 28 | 1 << 27;
    core::arch::x86_64::__cpuid(1).ecx & BOTH == BOTH
}

/// 16 registers of 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(32))]
struct Vectors([[u64; 4]; 16]);

/// What is left of the registers after a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
struct Kept {
    /// rax, rdx, rdi, r8–r15.
    general: [u64; 11],
    /// The 128 bytes below the stack pointer.
    red_zone: [u64; 16],
    carry: u64,
}

macro_rules! each_vector {
    ($line:ident) => {
        concat!(
            each_vector!(@ $line, "0"), each_vector!(@ $line, "1"), each_vector!(@ $line, "2"),
            each_vector!(@ $line, "3"), each_vector!(@ $line, "4"), each_vector!(@ $line, "5"),
            each_vector!(@ $line, "6"), each_vector!(@ $line, "7"), each_vector!(@ $line, "8"),
            each_vector!(@ $line, "9"), each_vector!(@ $line, "10"), each_vector!(@ $line, "11"),
            each_vector!(@ $line, "12"), each_vector!(@ $line, "13"), each_vector!(@ $line, "14"),
            each_vector!(@ $line, "15"),
        )
    };
    (@ load, $n:literal) => { concat!("movups xmm", $n, ", [rsi + 32*", $n, "]\n") };
    (@ store, $n:literal) => { concat!("movups [rsi + 32*", $n, "], xmm", $n, "\n") };
    (@ load_wide, $n:literal) => { concat!("vmovups ymm", $n, ", [rsi + 32*", $n, "]\n") };
    (@ store_wide, $n:literal) => { concat!("vmovups [rsi + 32*", $n, "], ymm", $n, "\n") };
}

macro_rules! move_vectors {
    ($line:ident, $at:expr) => {
        // SAFETY: `$at` points to 512 bytes that are valid for this; every register written is declared.
        unsafe {
            asm!(
                each_vector!($line), in("rsi") $at,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            );
        }
    };
}

/// Fills all vector registers with rubbish.
fn clobber() {
    static RUBBISH: Vectors = Vectors([[0xdead_beef_dead_beef; 4]; 16]);
    let at = &raw const RUBBISH;
    if wide() {
        move_vectors!(load_wide, at);
    } else {
        move_vectors!(load, at);
    }
}

/// Fills registers, flags and red zone with `pattern`, lets `rounds` pass without touching them, and looks again.
macro_rules! keep {
    ($load:ident, $store:ident, $vectors:expr, $kept:expr, $pattern:expr, $rounds:expr) => {
        // SAFETY: both pointers are to values of the caller that nobody else uses; every register written is declared,
        // rbx is given back; below the stack pointer the compiler keeps nothing across an `asm!` that may push.
        unsafe {
            asm!(
                "push rbx",
                "mov rbx, rdx",
                each_vector!($load),
                "mov [rsp - 8], rax", "mov [rsp - 16], rax", "mov [rsp - 24], rax",
                "mov [rsp - 32], rax", "mov [rsp - 40], rax", "mov [rsp - 48], rax", "mov [rsp - 56], rax",
                "mov [rsp - 64], rax", "mov [rsp - 72], rax", "mov [rsp - 80], rax", "mov [rsp - 88], rax",
                "mov [rsp - 96], rax", "mov [rsp - 104], rax", "mov [rsp - 112], rax", "mov [rsp - 120], rax",
                "mov [rsp - 128], rax",
                "mov rdx, rax", "mov rdi, rax", "mov r8, rax", "mov r9, rax", "mov r10, rax", "mov r11, rax",
                "mov r12, rax", "mov r13, rax", "mov r14, rax", "mov r15, rax",
                "stc",
                "2: lea rcx, [rcx - 1]",
                "jrcxz 3f",
                "jmp 2b",
                "3:",
                "mov [rbx], rax", "mov [rbx + 8], rdx", "mov [rbx + 16], rdi", "mov [rbx + 24], r8",
                "mov [rbx + 32], r9", "mov [rbx + 40], r10", "mov [rbx + 48], r11", "mov [rbx + 56], r12",
                "mov [rbx + 64], r13", "mov [rbx + 72], r14", "mov [rbx + 80], r15",
                "sbb rax, rax", "mov [rbx + 216], rax",
                "mov ecx, 16",
                "4: mov rax, [rsp + rcx*8 - 136]",
                "mov [rbx + rcx*8 + 80], rax",
                "dec ecx",
                "jnz 4b",
                each_vector!($store),
                "pop rbx",
                in("rsi") $vectors, inout("rdx") $kept => _, inout("rax") $pattern => _,
                inout("rcx") $rounds => _,
                out("rdi") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
                out("r12") _, out("r13") _, out("r14") _, out("r15") _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            );
        }
    };
}

/// Known values in all registers, for some microseconds at a time.
async fn vectors(mut random: Random) {
    loop {
        for _ in 0..64 {
            let mut before = Vectors([[0; 4]; 16]);
            before.0.as_flattened_mut().iter_mut().for_each(|word| *word = random.next());
            let mut after = before;
            let mut kept = Kept::default();
            let (pattern, rounds) = (random.next(), 1 + random.next() % 2000);
            let (vectors, at) = (&raw mut after, &raw mut kept);
            if wide() {
                keep!(load_wide, store_wide, vectors, at, pattern, rounds);
            } else {
                keep!(load, store, vectors, at, pattern, rounds);
            }
            assert_eq!(after, before, "vector registers");
            let expected = Kept { general: [pattern; 11], red_zone: [pattern; 16], carry: u64::MAX };
            assert_eq!(kept, expected, "registers, red zone or flags");
        }
        ROUNDS[VECTORS].fetch_add(1, Ordering::Relaxed);
        task::yield_now().await;
    }
}

/// Blocks of all sizes that keep what was written to them.
async fn heap(mut random: Random) {
    let mut blocks: Vec<Vec<u64>> = Vec::new();
    loop {
        for _ in 0..64 {
            let value = random.next();
            blocks.push(alloc::vec![value; 1 + value as usize % 300]);
            let taken = blocks.swap_remove(random.next() as usize % blocks.len());
            assert!(taken.iter().all(|word| *word == taken[0]), "a block of the heap was overwritten");
            if blocks.len() < 40 {
                blocks.push(taken);
            }
        }
        ROUNDS[HEAP].fetch_add(1, Ordering::Relaxed);
        task::yield_now().await;
    }
}

/// Pairs of words that must be equal whenever nobody is at them: this CPU's, which its softints write too, and one of
/// all CPUs' tasks.
async fn locks(cpu: CpuId, mut random: Random) {
    // No pause instruction: QEMU's translator gives up its turn at each.
    let pause = |n: u64| (0..n).for_each(|n| _ = core::hint::black_box(n));
    loop {
        for _ in 0..64 {
            let masked = mask::mask();
            let [a, b] = &PAIRS[cpu.index()];
            let value = a.load(Ordering::Relaxed);
            a.store(value.wrapping_add(2), Ordering::Relaxed);
            pause(random.next() % 64);
            assert_eq!(b.load(Ordering::Relaxed), value, "a softint ran inside a masked section");
            b.store(value.wrapping_add(2), Ordering::Relaxed);
            drop(masked);
            let _masked = mask::mask();
            let mut shared = SHARED.lock();
            assert_eq!(shared[0], shared[1], "two CPUs hold one lock");
            shared[0] += 1;
            pause(random.next() % 64);
            shared[1] += 1;
        }
        ROUNDS[LOCKS].fetch_add(1, Ordering::Relaxed);
        task::yield_now().await;
    }
}

/// Publishes and reads under the mask: what is read stays whole and allocated.
async fn snapshots() {
    let published = Published::new(Box::new([0_u64; 64]));
    for n in 1.. {
        mask::masked(|cx| {
            let value = published.read(cx);
            assert!(value.iter().all(|word| *word == n - 1), "a snapshot was freed while it was read");
        });
        drop(task::control(|cx| published.publish(cx, Box::new([n; 64]))));
        ROUNDS[SNAPSHOTS].fetch_add(1, Ordering::Relaxed);
        task::yield_now().await;
    }
}

async fn sleeps(mut random: Random) {
    loop {
        let until = clock::now() + random.next() % 300_000;
        task::sleep_until(until).await;
        assert!(clock::now() >= until, "woken early");
        ROUNDS[SLEEPS].fetch_add(1, Ordering::Relaxed);
    }
}
