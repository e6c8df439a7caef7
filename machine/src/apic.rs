//! The local APIC of each CPU, by MSR (x2APIC) where the CPU has that, else by its memory page (xAPIC):
//! set-up, interrupts between CPUs. Acknowledging is the interrupt stubs' work.

use crate::interrupt::{SPURIOUS_VECTOR, WAKE_VECTOR};
use crate::{cpu, paging, port};
use core::sync::atomic::{AtomicU64, Ordering};
use x86_64::instructions::interrupts::without_interrupts;
use x86_64::registers::model_specific::Msr;

// Registers by their xAPIC offset (Intel SDM vol. 3A, table 12-1); the x2APIC MSR is 0x800 + offset / 16.
const ID: u32 = 0x20;
const TASK_PRIORITY: u32 = 0x80;
const EOI: u32 = 0xb0;
const SPURIOUS: u32 = 0xf0;
const COMMAND: u32 = 0x300;
const COMMAND_HIGH: u32 = 0x310;
const LVT_LINT0: u32 = 0x350;
const LVT_LINT1: u32 = 0x360;
const LVT_ERROR: u32 = 0x370;

const ENABLE: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const DELIVER_NMI: u32 = 4 << 8;
const DELIVER_INIT: u32 = 5 << 8;
const DELIVER_STARTUP: u32 = 6 << 8;
const SEND_PENDING: u32 = 1 << 12;
const ASSERT: u32 = 1 << 14;

const BASE_MSR: u32 = 0x1b;
const BASE_ENABLE: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// [`PAGE`] when the CPUs are in x2APIC mode.
const BY_MSR: u64 = 0;
/// [`PAGE`] before [`init`].
const NOT_YET: u64 = u64::MAX;

/// `[I]` Where the registers are mapped, set once by the boot CPU before the others run.
static PAGE: AtomicU64 = AtomicU64::new(NOT_YET);

/// Chooses the mode and turns the boot CPU's APIC on; masks the 8259 pair, whose lines the IOAPIC has too.
///
/// # Panics
/// If the APIC's page cannot be mapped.
pub(crate) fn init(has_8259: bool) {
    if has_8259 {
        mask_8259();
    }
    let has_x2apic = raw_cpuid::CpuId::new().get_feature_info().is_some_and(|features| features.has_x2apic());
    let page = if has_x2apic {
        BY_MSR
    } else {
        let page = base() & BASE_ADDRESS;
        assert!(paging::device(page..page + paging::PAGE), "cannot map the local APIC at {page:#x}");
        page
    };
    PAGE.store(page, Ordering::Release);
    init_cpu();
}

/// Turns this CPU's APIC on in the mode that [`init`] chose. Interrupts off.
pub(crate) fn init_cpu() {
    let page = PAGE.load(Ordering::Acquire);
    let mode = if page == BY_MSR { BASE_ENABLE | BASE_X2APIC } else { BASE_ENABLE };
    let mut msr = Msr::new(BASE_MSR);
    // SAFETY: x2APIC mode is chosen only where CPUID announces it; from xAPIC or off it may be entered, in two
    // steps from off (Intel SDM vol. 3A §12.12.5).
    unsafe { msr.write(base() | BASE_ENABLE) };
    // SAFETY: as above.
    unsafe { msr.write(base() | mode) };
    let block = cpu::this();
    block.eoi.store(if page == BY_MSR { 0 } else { page + u64::from(EOI) }, Ordering::Relaxed);
    write(TASK_PRIORITY, 0);
    write(LVT_LINT0, MASKED);
    write(LVT_LINT1, DELIVER_NMI);
    write(LVT_ERROR, MASKED);
    write(SPURIOUS, ENABLE | u32::from(SPURIOUS_VECTOR));
    block.apic.store(id(), Ordering::Release);
}

/// How the registers are reached, for the log.
pub fn mode() -> &'static str {
    match PAGE.load(Ordering::Relaxed) {
        BY_MSR => "x2APIC",
        NOT_YET => "off",
        _ => "xAPIC",
    }
}

/// This CPU's APIC id.
pub(crate) fn id() -> u32 {
    let register = read(ID);
    if PAGE.load(Ordering::Relaxed) == BY_MSR { register } else { register >> 24 }
}

/// Reads a register of this CPU's APIC by its xAPIC offset. After [`init`].
#[inline]
pub(crate) fn read(register: u32) -> u32 {
    match PAGE.load(Ordering::Relaxed) {
        BY_MSR => {
            let msr = Msr::new(0x800 + register / 16);
            // SAFETY: in x2APIC mode these MSRs exist; callers name registers of the manual's table.
            unsafe { msr.read() as u32 }
        }
        page => {
            let at = (page + u64::from(register)) as *const u32;
            // SAFETY: `init` mapped the page uncached; `register` is an offset in it, a multiple of 16.
            unsafe { at.read_volatile() }
        }
    }
}

/// Writes a register of this CPU's APIC by its xAPIC offset. After [`init`].
#[inline]
pub(crate) fn write(register: u32, value: u32) {
    match PAGE.load(Ordering::Relaxed) {
        BY_MSR => {
            let mut msr = Msr::new(0x800 + register / 16);
            // SAFETY: in x2APIC mode these MSRs exist; callers name registers of the manual's table.
            unsafe { msr.write(value.into()) };
        }
        page => {
            let at = (page + u64::from(register)) as *mut u32;
            // SAFETY: `init` mapped the page uncached; `register` is an offset in it, a multiple of 16.
            unsafe { at.write_volatile(value) };
        }
    }
}

/// Wakes the CPU with APIC `to` from `hlt`.
#[inline]
pub(crate) fn wake(to: u32) {
    command(to, u32::from(WAKE_VECTOR) | ASSERT);
}

/// Puts the CPU with APIC `to` into its state after reset: waiting for [`send_startup`].
pub(crate) fn send_init(to: u32) {
    command(to, DELIVER_INIT | ASSERT);
}

/// Lets the CPU with APIC `to` begin in real mode at the start of `page`, below 1 MiB.
pub(crate) fn send_startup(to: u32, page: u64) {
    command(to, DELIVER_STARTUP | ASSERT | (page / paging::PAGE) as u32 & 0xff);
}

/// Interrupts the CPU with APIC `to` whatever it is doing.
pub(crate) fn send_nmi(to: u32) {
    command(to, DELIVER_NMI | ASSERT);
}

fn command(to: u32, what: u32) {
    match PAGE.load(Ordering::Relaxed) {
        BY_MSR => {
            // A WRMSR to the x2APIC is not ordered behind earlier stores (Intel SDM vol. 3A §12.12.3).
            // SAFETY: orders memory accesses, nothing else.
            unsafe { core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags)) };
            let mut msr = Msr::new(0x800 + COMMAND / 16);
            // SAFETY: in x2APIC mode this is the one 64-bit register: destination and command.
            unsafe { msr.write(u64::from(to) << 32 | u64::from(what)) };
        }
        // Two registers: nothing else may send from this CPU in between.
        _ => without_interrupts(|| {
            settle();
            write(COMMAND_HIGH, to << 24);
            write(COMMAND, what);
            settle();
        }),
    }
}

/// Waits until the last command has left, but not for ever.
fn settle() {
    const PATIENCE: u32 = 100_000;
    for _ in 0..PATIENCE {
        if read(COMMAND) & SEND_PENDING == 0 {
            return;
        }
        core::hint::spin_loop();
    }
}

fn base() -> u64 {
    let msr = Msr::new(BASE_MSR);
    // SAFETY: every CPU with a local APIC has the MSR, and x86-64 hypervisors give all guests one.
    unsafe { msr.read() }
}

/// Moves the 8259 pair's vectors out of the exceptions' way, so that a spurious one counts as a stray, and masks
/// all lines (Intel 8259A data sheet: ICW1–ICW4, OCW1).
fn mask_8259() {
    const FIRST: (u16, u16) = (0x20, 0x21);
    const SECOND: (u16, u16) = (0xa0, 0xa1);
    for ((command, data), vector, wiring) in [(FIRST, 0x20_u8, 4_u8), (SECOND, 0x28, 2)] {
        port::write(command, 0x11_u8);
        port::write(data, vector);
        port::write(data, wiring);
        port::write(data, 0x01_u8);
        port::write(data, 0xff_u8);
    }
}
