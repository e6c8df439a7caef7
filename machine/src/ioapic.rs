//! Wired interrupts: the IOAPICs' pins, found by global system interrupt (Intel 82093AA data sheet).
//!
//! Every pin is masked until it is routed. Boot and tasks only.

use crate::acpi::{self, Info, IoApic, Override, Polarity, Trigger};
use crate::interrupt::Interrupt;
use crate::lock::Lock;
use crate::mmio::Window;
use alloc::vec::Vec;
#[cfg(feature = "image")]
use core::sync::atomic::Ordering;
use weir_sync::CpuId;
use weir_sync::rank;

/// Register select and window, offsets from the base.
const SELECT: usize = 0x00;
const WINDOW: usize = 0x10;
const LEN: usize = 0x20;
/// Registers.
const VERSION: u32 = 0x01;
const REDIRECTION: u32 = 0x10;
/// Redirection entry, low half: fixed delivery, physical destination.
const ACTIVE_LOW: u32 = 1 << 13;
const MASKED: u32 = 1 << 16;

/// Why a line cannot be routed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unroutable {
    /// No IOAPIC has this global system interrupt.
    NoSuchLine(u32),
    /// The CPU's APIC id does not fit the 8 bits of a physical destination.
    FarCpu(u32),
}

impl core::fmt::Display for Unroutable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoSuchLine(gsi) => write!(f, "no IOAPIC has interrupt {gsi}"),
            Self::FarCpu(id) => write!(f, "APIC id {id} is beyond 255"),
        }
    }
}

struct Controller {
    registers: Window,
    gsi_base: u32,
    pins: u32,
}

impl Controller {
    fn read(&self, register: u32) -> u32 {
        self.registers.write_u32(SELECT, register);
        self.registers.read_u32(WINDOW)
    }

    fn write(&self, register: u32, value: u32) {
        self.registers.write_u32(SELECT, register);
        self.registers.write_u32(WINDOW, value);
    }
}

/// `[L]` The controllers; filled by [`init`].
static CONTROLLERS: Lock<rank::IoApic, Vec<Controller>> = Lock::new(Vec::new());

/// Maps the IOAPICs and masks all their pins. Boot CPU, once.
pub fn init(acpi: &Info) {
    let mut controllers = CONTROLLERS.lock();
    for &IoApic { id, base, gsi_base } in &acpi.ioapics {
        let Some(registers) = Window::map(base, LEN) else {
            crate::warn!("ioapic: {id} at {base:#x} cannot be mapped");
            continue;
        };
        let mut controller = Controller { registers, gsi_base, pins: 0 };
        let version = controller.read(VERSION);
        if version == u32::MAX {
            crate::debug!("ioapic: nothing at {base:#x}");
            continue;
        }
        controller.pins = (version >> 16 & 0xFF) + 1;
        (0..controller.pins).for_each(|pin| controller.write(REDIRECTION + 2 * pin, MASKED));
        crate::debug!(
            "ioapic: {id} at {base:#x}, interrupts {gsi_base} to {}",
            gsi_base + controller.pins - 1
        );
        controllers.push(controller);
    }
}

/// Leads global system interrupt `gsi` to `interrupt` and unmasks it.
///
/// The pin is programmed edge-triggered whatever `trigger` says: the stub acknowledges at once and the device
/// is served later, in a softint, so a level-triggered line would interrupt again and again until then. The
/// handler must therefore serve a `Level` device until its line is down (its interrupt status reads as
/// nothing), and must look once right after routing: an edge before that went unseen.
pub fn route(gsi: u32, interrupt: Interrupt, trigger: Trigger, polarity: Polarity) -> Result<(), Unroutable> {
    let destination = destination(interrupt)?;
    let polarity_bit = if polarity == Polarity::Low { ACTIVE_LOW } else { 0 };
    with_pin(gsi, |controller, pin| {
        // Masked first: the halves are written one after the other.
        controller.write(REDIRECTION + 2 * pin, MASKED);
        controller.write(REDIRECTION + 2 * pin + 1, u32::from(destination) << 24);
        controller.write(REDIRECTION + 2 * pin, u32::from(interrupt.vector()) | polarity_bit);
    })?;
    crate::debug!(
        "ioapic: interrupt {gsi} ({trigger:?}, {polarity:?}) to {} bit {}",
        interrupt.cpu,
        interrupt.bit
    );
    Ok(())
}

/// [`route`] for an ISA interrupt, wired as the tables say.
pub fn route_isa(irq: u8, interrupt: Interrupt) -> Result<(), Unroutable> {
    let line = isa_line(irq, &acpi::get().overrides);
    route(line.gsi, interrupt, line.trigger, line.polarity)
}

/// Where and how an ISA interrupt arrives.
fn isa_line(irq: u8, overrides: &[Override]) -> Override {
    let identity = Override { irq, gsi: u32::from(irq), trigger: Trigger::Edge, polarity: Polarity::High };
    overrides.iter().copied().find(|line| line.irq == irq).unwrap_or(identity)
}

/// Holds a routed line back. Edges that come meanwhile are lost: look at the device after [`unmask`].
pub fn mask(gsi: u32) -> Result<(), Unroutable> {
    with_pin(gsi, |controller, pin| {
        let low = controller.read(REDIRECTION + 2 * pin);
        controller.write(REDIRECTION + 2 * pin, low | MASKED);
    })
}

/// Lets a routed line through again.
pub fn unmask(gsi: u32) -> Result<(), Unroutable> {
    with_pin(gsi, |controller, pin| {
        let low = controller.read(REDIRECTION + 2 * pin);
        controller.write(REDIRECTION + 2 * pin, low & !MASKED);
    })
}

fn with_pin(gsi: u32, act: impl FnOnce(&Controller, u32)) -> Result<(), Unroutable> {
    let controllers = CONTROLLERS.lock();
    let found = controllers.iter().find_map(|controller| {
        let pin = gsi.checked_sub(controller.gsi_base)?;
        (pin < controller.pins).then_some((controller, pin))
    });
    let (controller, pin) = found.ok_or(Unroutable::NoSuchLine(gsi))?;
    act(controller, pin);
    Ok(())
}

/// The 8-bit physical destination of an interrupt's CPU. 255 is the broadcast.
pub(crate) fn destination(interrupt: Interrupt) -> Result<u8, Unroutable> {
    let id = apic_id(interrupt.cpu);
    u8::try_from(id).ok().filter(|&id| id != u8::MAX).ok_or(Unroutable::FarCpu(id))
}

#[cfg(feature = "image")]
fn apic_id(cpu: CpuId) -> u32 {
    crate::cpu::block(cpu).apic.load(Ordering::Acquire)
}

/// Threads have no APIC; their numbers do for tests.
#[cfg(not(feature = "image"))]
fn apic_id(cpu: CpuId) -> u32 {
    cpu.index() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn isa_lines_follow_the_overrides() {
        let timer = Override { irq: 0, gsi: 2, trigger: Trigger::Edge, polarity: Polarity::High };
        let sci = Override { irq: 9, gsi: 9, trigger: Trigger::Level, polarity: Polarity::Low };
        let overrides = [timer, sci];
        assert_eq!(isa_line(0, &overrides), timer);
        assert_eq!(isa_line(9, &overrides), sci);
        let plain = Override { irq: 4, gsi: 4, trigger: Trigger::Edge, polarity: Polarity::High };
        assert_eq!(isa_line(4, &overrides), plain);
    }

    #[test]
    fn a_line_nobody_has_is_refused() {
        assert_eq!(mask(7), Err(Unroutable::NoSuchLine(7)));
    }
}
