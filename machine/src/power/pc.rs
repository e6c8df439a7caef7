//! ACPI sleep state S5 and the PC's ways to reset.

use crate::acpi::{self, Power, Register};
use crate::mmio::Window;
use crate::{clock, port};
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

/// Switches the machine off. Where that is not possible the CPU halts for good.
pub fn off() -> ! {
    interrupts::disable();
    let power = &acpi::get().power;
    if let Some((a, b)) = power.s5 {
        if let Some(register) = power.sleep_control {
            write_u8(register, a << REDUCED_SLP_TYP_SHIFT | REDUCED_SLP_EN);
        } else {
            acpi_mode(power);
            sleep(power.pm1a_control, a);
            sleep(power.pm1b_control, b);
        }
        clock::spin_ns(PATIENCE_NS);
    }
    crate::console::write_panic(format_args!("power: this machine cannot be switched off; halted\n"));
    halt()
}

/// Resets the machine: by the ACPI reset register, the chipset, the keyboard controller, a triple fault, in
/// this order until one works.
pub fn reboot() -> ! {
    interrupts::disable();
    if let Some((register, value)) = acpi::get().power.reset {
        write_u8(register, value);
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

/// Ends QEMU with status `2 · code + 1` if it has `isa-debug-exit` at port 0xF4; else [`off`].
pub fn exit(code: u8) -> ! {
    port::write(DEBUG_EXIT, code);
    off()
}

/// Hands the power registers over from firmware to ACPI, if it has them still.
fn acpi_mode(power: &Power) {
    let (Some(register), Some((command, value))) = (power.pm1a_control, power.enable) else { return };
    if read_u16(register) & SCI_EN != 0 {
        return;
    }
    port::write(command, value);
    for _ in 0..ENABLE_STEPS {
        if read_u16(register) & SCI_EN != 0 {
            return;
        }
        clock::spin_ns(ENABLE_STEP_NS);
    }
}

fn sleep(register: Option<Register>, kind: u8) {
    let Some(register) = register else { return };
    let value = read_u16(register) & !SLP_TYP | u16::from(kind) << SLP_TYP_SHIFT | SLP_EN;
    match register {
        Register::Port(number) => port::write(number, value),
        Register::Memory(address) => Window::map(address, 2).into_iter().for_each(|w| w.write_u16(0, value)),
    }
}

fn read_u16(register: Register) -> u16 {
    match register {
        Register::Port(number) => port::read(number),
        Register::Memory(address) => Window::map(address, 2).map_or(0, |window| window.read_u16(0)),
    }
}

fn write_u8(register: Register, value: u8) {
    match register {
        Register::Port(number) => port::write(number, value),
        Register::Memory(address) => Window::map(address, 1).into_iter().for_each(|w| w.write_u8(0, value)),
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
