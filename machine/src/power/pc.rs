//! ACPI sleep state S5 and the PC's ways to reset.

use crate::acpi::{Info, Power, Register};
use crate::hermit;
use crate::mmio::Window;
use crate::xen::{self, End};
use crate::{clock, port};
use spin::Mutex;
use x86_64::VirtAddr;
use x86_64::instructions::{hlt, interrupts, tables};
use x86_64::structures::DescriptorTablePointer;

/// PM1 control register, ACPI 6.5, table 4.13.
const SCI_EN: u16 = 1;
const SLP_TYP_SHIFT: u32 = 10;
const SLP_TYP: u16 = 7 << SLP_TYP_SHIFT;
const SLP_EN: u16 = 1 << 13;
/// Sleep control register, ACPI 6.5, table 4.20.
const REDUCED_SLP_TYP_SHIFT: u32 = 2;
const REDUCED_SLP_EN: u8 = 1 << 5;

/// Reset control of PCI chipsets: type first, then the edge that does it.
const RESET_CONTROL: u16 = 0xCF9;
const HARD: u8 = 0x02;
const HARD_NOW: u8 = 0x06;
/// The keyboard controller's command port; bit 0 of its output port is the reset line.
const KEYBOARD_COMMAND: u16 = 0x64;
const INPUT_FULL: u8 = 1 << 1;
const PULSE_RESET: u8 = 0xFE;
/// `isa-debug-exit,iobase=0xf4`.
const DEBUG_EXIT: u16 = 0xF4;

/// How long a way out is given before the next is tried.
const PATIENCE_NS: u64 = 50_000_000;
/// ACPI mode takes some firmware a while.
const ENABLE_STEPS: u32 = 300;
const ENABLE_STEP_NS: u64 = 1_000_000;

/// A register that can be reached without asking anyone for anything.
enum Reach {
    Port(u16),
    Memory(Window),
}

impl Reach {
    fn new(register: Register, len: usize) -> Option<Self> {
        match register {
            Register::Port(number) => Some(Reach::Port(number)),
            Register::Memory(address) => Window::map(address, len).map(Reach::Memory),
        }
    }

    fn read_u16(&self) -> u16 {
        match self {
            Reach::Port(number) => port::read(*number),
            Reach::Memory(window) => window.read_u16(0),
        }
    }

    fn write_u16(&self, value: u16) {
        match self {
            Reach::Port(number) => port::write(*number, value),
            Reach::Memory(window) => window.write_u16(0, value),
        }
    }

    fn write_u8(&self, value: u8) {
        match self {
            Reach::Port(number) => port::write(*number, value),
            Reach::Memory(window) => window.write_u8(0, value),
        }
    }
}

/// The registers of [`Power`], mapped.
struct Registers {
    /// Each with its `SLP_TYP` of S5.
    pm1: [Option<(Reach, u8)>; 2],
    enable: Option<(u16, u8)>,
    sleep: Option<(Reach, u8)>,
    reset: Option<(Reach, u8)>,
}

/// `[L]` Only ever tried: a CPU that panics may have interrupted the one that holds it.
static REGISTERS: Mutex<Option<Registers>> = Mutex::new(None);

/// Maps the power registers, so that a panic needs no page tables for them. Boot CPU, once.
pub fn init(acpi: &Info) {
    let Power { s5, pm1a_control, pm1b_control, enable, sleep_control, reset, .. } = acpi.power;
    let pm1 = |register: Option<Register>, kind: Option<u8>| Some((Reach::new(register?, 2)?, kind?));
    *REGISTERS.lock() = Some(Registers {
        pm1: [pm1(pm1a_control, s5.map(|s5| s5.0)), pm1(pm1b_control, s5.map(|s5| s5.1))],
        enable,
        sleep: sleep_control.zip(s5).and_then(|(register, (a, _))| Some((Reach::new(register, 1)?, a))),
        reset: reset.and_then(|(register, value)| Some((Reach::new(register, 1)?, value))),
    });
}

/// Switches the machine off; a domain of Xen and a machine of uhyve end. Where that is not possible the CPU halts for good.
pub fn off() -> ! {
    interrupts::disable();
    xen::end(End::PowerOff);
    hermit::end(hermit::status::OFF);
    if let Some(registers) = REGISTERS.try_lock().as_deref().and_then(Option::as_ref) {
        if let Some((control, kind)) = &registers.sleep {
            control.write_u8(kind << REDUCED_SLP_TYP_SHIFT | REDUCED_SLP_EN);
        } else {
            acpi_mode(registers);
            for (control, kind) in registers.pm1.iter().flatten() {
                control.write_u16(control.read_u16() & !SLP_TYP | u16::from(*kind) << SLP_TYP_SHIFT | SLP_EN);
            }
        }
        clock::spin_ns(PATIENCE_NS);
    }
    crate::console::write_panic(format_args!("power: this machine cannot be switched off; halted\n"));
    halt()
}

/// Resets the machine: by Xen, the ACPI reset register, the chipset, the keyboard controller, a triple fault, in
/// this order until one works. uhyve cannot: there the machine ends with a status of its own.
pub fn reboot() -> ! {
    interrupts::disable();
    xen::end(End::Reboot);
    hermit::end(hermit::status::REBOOT);
    if let Some(registers) = REGISTERS.try_lock().as_deref().and_then(Option::as_ref)
        && let Some((register, value)) = &registers.reset
    {
        register.write_u8(*value);
        clock::spin_ns(PATIENCE_NS);
    }
    port::write(RESET_CONTROL, HARD);
    port::write(RESET_CONTROL, HARD_NOW);
    clock::spin_ns(PATIENCE_NS);
    if keyboard_ready() {
        port::write(KEYBOARD_COMMAND, PULSE_RESET);
        clock::spin_ns(PATIENCE_NS);
    }
    triple_fault()
}

/// Ends uhyve with status `code`, QEMU with `2 · code + 1` if it has `isa-debug-exit` at port 0xF4; else [`off`].
pub fn exit(code: u8) -> ! {
    hermit::end(code.into());
    port::write(DEBUG_EXIT, code);
    off()
}

/// Hands the power registers over from firmware to ACPI, if it has them still.
fn acpi_mode(registers: &Registers) {
    let (Some((control, _)), Some((command, value))) = (&registers.pm1[0], registers.enable) else { return };
    if control.read_u16() & SCI_EN != 0 {
        return;
    }
    port::write(command, value);
    for _ in 0..ENABLE_STEPS {
        if control.read_u16() & SCI_EN != 0 {
            return;
        }
        clock::spin_ns(ENABLE_STEP_NS);
    }
}

/// Whether a keyboard controller is there and takes a command.
fn keyboard_ready() -> bool {
    const STEPS: u32 = 100;
    const STEP_NS: u64 = 100_000;
    (0..STEPS).any(|_| {
        let status: u8 = port::read(KEYBOARD_COMMAND);
        clock::spin_ns(STEP_NS);
        status & INPUT_FULL == 0
    })
}

/// An exception without a handler for it, its double fault or its triple: the CPU shuts down, which resets a PC.
fn triple_fault() -> ! {
    let empty = DescriptorTablePointer { limit: 0, base: VirtAddr::zero() };
    // SAFETY: interrupts are off, and the next instruction is meant to fault beyond repair.
    unsafe { tables::lidt(&empty) };
    interrupts::int3();
    halt()
}

fn halt() -> ! {
    interrupts::disable();
    loop {
        hlt();
    }
}
