//! The PC's consoles: COM1, and the debug port 0xE9 that QEMU, Bochs and Xen's QEMU offer.

use super::serial::Serial;
use super::{Sink, add};
use crate::interrupt::Interrupt;
use crate::{ioapic, port, xen};
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Mutex;
use uart_16550::Uart16550;
use uart_16550::backend::PioBackend;

const COM1: u16 = 0x3F8;
/// ISA interrupt of COM1.
const COM1_IRQ: u8 = 4;
/// Reads back its own number where it exists.
const DEBUG_PORT: u16 = 0xE9;

/// What writing to COM1 needs to remember. Reading needs nothing: the port has separate registers for it, and
/// a softint that reads must not wait for a task that writes.
static OUTPUT: Mutex<Option<Serial<'static, PioBackend>>> = Mutex::new(None);
/// `[A]` COM1 is set up. Written at boot, read by a panic.
static PRESENT: AtomicBool = AtomicBool::new(false);

static SERIAL: Sink = Sink::new("COM1", serial_write, serial_write_panic, serial_read);
static DEBUG: Sink = Sink::new("port 0xe9", debug_write, debug_write, || None);

/// Finds COM1 and the debug port. Boot CPU, first of all: needs no memory, no interrupts, no clock. Only for
/// platforms that leave unclaimed ports readable (all but uhyve).
pub fn init() {
    if port::read::<u8>(DEBUG_PORT) == DEBUG_PORT as u8 {
        add(&DEBUG);
    }
    if let Some(serial) = uart().and_then(|uart| Serial::probe(uart, &SERIAL.lost)) {
        *OUTPUT.lock() = Some(serial);
        PRESENT.store(true, Ordering::Release);
        add(&SERIAL);
    }
}

/// Has input, of Xen's console or of COM1, raise `interrupt`; whoever it wakes reads until [`read_byte`](super::read_byte) gives
/// nothing. `false` if there is neither or its line cannot be routed: then only polling is left.
pub fn enable_interrupt(interrupt: Interrupt) -> bool {
    if let Some(enabled) = xen::console::enable_interrupt(interrupt) {
        return enabled;
    }
    let Some(mut serial) = assumed() else { return false };
    if let Err(error) = ioapic::route_isa(COM1_IRQ, interrupt) {
        crate::warn!("console: input is polled: {error}");
        return false;
    }
    serial.interrupt_on_input();
    true
}

fn uart() -> Option<Uart16550<PioBackend>> {
    // SAFETY: a PC has COM1 at this port or nothing, and a probe of nothing does no harm.
    unsafe { Uart16550::new_port(COM1) }.ok()
}

/// The port beside its owner in `OUTPUT`.
fn assumed() -> Option<Serial<'static, PioBackend>> {
    PRESENT.load(Ordering::Acquire).then(uart)?.map(|uart| Serial::assume(uart, &SERIAL.lost))
}

fn serial_write(text: &[u8]) {
    // Held by another only if that one was given up waiting for.
    match OUTPUT.try_lock() {
        Some(mut output) => output.iter_mut().for_each(|serial| serial.write(text)),
        None => serial_write_panic(text),
    }
}

fn serial_write_panic(text: &[u8]) {
    if let Some(mut serial) = assumed() {
        serial.write(text);
    }
}

fn serial_read() -> Option<u8> {
    assumed()?.read()
}

fn debug_write(text: &[u8]) {
    text.iter().for_each(|&byte| port::write(DEBUG_PORT, byte));
}
