//! The other CPUs: woken one after the other by INIT and start-up interrupts, through a trampoline in the first
//! MiB, into the same address space. On uhyve they run already, and wait in the entry code to be called.

use crate::stacks::{self, Stack};
use crate::{acpi, apic, clock, cpu, frames, hermit, interrupt, paging, timer, xen};
use core::ops::Range;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use spin::Once;
use weir_sync::cpu::claim;
use weir_sync::{Cpu, CpuId, MAX_CPUS};

/// `[A]` The block of the one CPU that is being started. The entry code takes it with `xchg`: no other CPU can.
pub(crate) static MAILBOX: AtomicPtr<cpu::Block> = AtomicPtr::new(core::ptr::null_mut());
/// `[A]` The number of the CPU, among those that wait in the entry code, that is to take the block; 0: none. Written
/// (Release) after the mailbox.
pub(crate) static CALLED: AtomicU32 = AtomicU32::new(0);
/// `[I]` Page of the trampoline; 0: there is none, and no other CPU can be started.
static TRAMPOLINE: AtomicU64 = AtomicU64::new(0);
/// `[I]` What the other CPUs run; set before the first is started.
static WORK: Once<fn(Cpu) -> !> = Once::new();

/// How long to wait for a CPU before the start-up interrupt is sent again, and how often.
const PATIENCE_NS: u64 = 10_000_000;
const ATTEMPTS: usize = 100;

unsafe extern "C" {
    // The trampoline's code in `boot.s`.
    static weir_trampoline: u8;
    static weir_trampoline_end: u8;
}

/// Finds a page for the trampoline: RAM below 640 KiB, behind the first 32 KiB (the BIOS's), clear of `loader`.
pub(crate) fn find_trampoline(ram: &[Range<u64>], loader: &[Range<u64>]) {
    let is_ram = |page: u64| ram.iter().any(|area| area.start <= page && page + paging::PAGE <= area.end);
    let is_clear =
        |page: u64| loader.iter().all(|area| page + paging::PAGE <= area.start || area.end <= page);
    let page = (0x8000..0xa_0000).step_by(paging::PAGE as usize).find(|&page| is_ram(page) && is_clear(page));
    TRAMPOLINE.store(page.unwrap_or(0), Ordering::Relaxed);
}

/// CPUs that the firmware names, this one included; at most [`MAX_CPUS`].
pub(crate) fn named() -> usize {
    (others().count() + 1).min(MAX_CPUS)
}

/// APIC ids of the other CPUs, in firmware order.
fn others() -> impl Iterator<Item = u32> {
    let boot = cpu::block(CpuId::BOOT).apic.load(Ordering::Relaxed);
    acpi::get().cpus.iter().copied().filter(move |&apic| apic != boot)
}

/// Starts the other CPUs; each runs `work`. Boot CPU, once. Returns how many CPUs run, this one included: they
/// are numbered from 0 without gaps, whoever does not answer is logged and left out.
pub fn start_others(work: fn(Cpu) -> !) -> usize {
    let mut running = 1;
    if WORK.get().is_some() || others().next().is_none() {
        return running;
    }
    let way = if hermit::present() { Some(Way::Call) } else { trampoline().map(Way::StartUp) };
    let Some(way) = way else {
        crate::error!("smp: no page below 640 KiB is free: the other CPUs stay off");
        return running;
    };
    WORK.call_once(|| work);

    for apic in others() {
        let Some(number) = CpuId::new(running) else {
            crate::warn!("smp: more CPUs than {MAX_CPUS}: the rest stays off");
            break;
        };
        let block = cpu::block(number);
        if block.stacks.load(Ordering::Relaxed) == 0 {
            let Some(base) = new_stacks() else {
                crate::error!("smp: no memory for the stacks of {number}");
                break;
            };
            block.prepare(number, base);
        }
        match start_one(apic, block, way) {
            Ok(()) => running += 1,
            Err(Failed::Silent) => crate::error!("smp: the CPU with APIC {apic} does not answer"),
            Err(Failed::Stuck) => {
                crate::error!("smp: the CPU with APIC {apic} does not come up: it and the rest stay off");
                break;
            }
        }
    }
    running
}

/// How a CPU is started.
#[derive(Clone, Copy)]
enum Way {
    /// By INIT and start-up interrupts, at this page.
    StartUp(u64),
    /// By its number: it runs, and waits.
    Call,
}

/// Puts the trampoline in its place; `None` if there is none.
fn trampoline() -> Option<u64> {
    let page = Some(TRAMPOLINE.load(Ordering::Relaxed)).filter(|&page| page != 0)?;
    let code = &raw const weir_trampoline;
    let len = &raw const weir_trampoline_end as usize - code as usize;
    assert!(len as u64 <= paging::PAGE, "the trampoline outgrew its page");
    // SAFETY: `find_trampoline` found a page of RAM that is mapped writable and that nobody else uses.
    unsafe { core::ptr::copy_nonoverlapping(code, page as *mut u8, len) };
    Some(page)
}

/// Why a CPU could not be started.
enum Failed {
    /// It never came: its block is as good as new.
    Silent,
    /// It took its block and was not heard of again.
    Stuck,
}

fn new_stacks() -> Option<u64> {
    let base = frames::allocate((stacks::BLOCK / frames::FRAME) as usize, 1)?;
    for stack in Stack::ALL {
        paging::guard(stacks::guard(base, stack).start);
    }
    let run = stacks::range(base, Stack::Run);
    // SAFETY: it is in a block that was just allocated, and no CPU is on it yet.
    unsafe { core::ptr::write_bytes(run.start as *mut u8, 0, (run.end - run.start) as usize) };
    Some(base)
}

fn start_one(apic: u32, block: &'static cpu::Block, way: Way) -> Result<(), Failed> {
    MAILBOX.store(core::ptr::from_ref(block).cast_mut(), Ordering::Release);
    match way {
        Way::StartUp(_) => apic::send_init(apic),
        Way::Call => CALLED.store(apic, Ordering::Release),
    }
    for _ in 0..ATTEMPTS {
        if let Way::StartUp(page) = way {
            apic::send_startup(apic, page);
        }
        let start = clock::now();
        while clock::now() - start < PATIENCE_NS {
            if block.running.load(Ordering::Acquire) {
                return Ok(());
            }
            core::hint::spin_loop();
        }
    }
    // Back to its reset state: it must not come to life later, with the next CPU's block.
    CALLED.store(0, Ordering::Release);
    apic::send_init(apic);
    let left = MAILBOX.swap(core::ptr::null_mut(), Ordering::AcqRel);
    Err(if left.is_null() { Failed::Stuck } else { Failed::Silent })
}

/// First Rust function of another CPU: on its run stack, with the entry code's descriptor tables.
pub(crate) extern "C" fn enter(block: &'static cpu::Block) -> ! {
    cpu::load(block);
    interrupt::load();
    cpu::features();
    apic::init_cpu();
    timer::init_cpu();
    xen::init_cpu(block.number());
    let work = WORK.get().copied();
    let cpu = claim(block.number());
    block.running.store(true, Ordering::Release);
    match (work, cpu) {
        (Some(work), Some(cpu)) => work(cpu),
        _ => panic!("{} was started without work", block.number()),
    }
}
