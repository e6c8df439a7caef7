//! Configuration space: by memory window (PCI Express Base Specification, 7.2.2) or by ports
//! (PCI Local Bus Specification 3.0, 3.2.2.3.2).

use super::Space;
use crate::acpi::{Ecam, Info};
use crate::hermit;
use crate::lock::Lock;
use crate::mmio::Window;
use crate::port;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use pci_types::PciAddress;
use weir_sync::rank::PciAccess;

const CONFIG_ADDRESS: u16 = 0xCF8;
const CONFIG_DATA: u16 = 0xCFC;
const ENABLE: u32 = 1 << 31;

/// Bytes of a window that one bus and one function take.
const BUS: u64 = 1 << 20;
const FUNCTION: usize = 4096;
/// Bytes that ports reach of a function.
const PORT_REACH: u16 = 256;

/// Finds the way: a window in which some function answers, else ports on which one does.
pub(super) fn find(acpi: &Info) -> Option<Box<dyn Space>> {
    let window = acpi.ecam.iter().find(|window| window.segment == 0);
    let memory = window.map(|&window| Memory { window, mapped: Lock::default() });
    if let Some(memory) = memory.filter(|memory| answers(memory)) {
        return Some(Box::new(memory));
    }
    let ports = Ports { pair: Lock::default() };
    // uhyve has the ports, but not the register to be read back.
    if (hermit::present() || holds_address()) && answers(&ports) { Some(Box::new(ports)) } else { None }
}

fn holds_address() -> bool {
    let before: u32 = port::read(CONFIG_ADDRESS);
    port::write(CONFIG_ADDRESS, ENABLE);
    let holds = port::read::<u32>(CONFIG_ADDRESS) == ENABLE;
    port::write(CONFIG_ADDRESS, before);
    holds
}

fn answers(space: &dyn Space) -> bool {
    (0..32).any(|device| space.read(PciAddress::new(0, space.root(), device, 0), super::ID, 4) != u32::MAX)
}

/// By memory window.
struct Memory {
    window: Ecam,
    /// `[L]` The buses that were asked for: 1 MiB each, few are ever used.
    mapped: Lock<PciAccess, Vec<(u8, Window)>>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory window at {:#x}", self.window.base)
    }
}

impl Memory {
    /// Acts on the window of the address's bus.
    fn at<R>(&self, address: PciAddress, offset: u16, act: impl FnOnce(&Window, usize) -> R) -> Option<R> {
        let bus = address.bus();
        let number = usize::from(address.device() << 3 | address.function());
        if !(self.window.first_bus..=self.window.last_bus).contains(&bus) || usize::from(offset) >= FUNCTION {
            return None;
        }
        let mut mapped = self.mapped.lock();
        if !mapped.iter().any(|(number, _)| *number == bus) {
            let window = Window::map(self.window.base + u64::from(bus) * BUS, BUS as usize)?;
            mapped.push((bus, window));
        }
        let (_, window) = mapped.iter().find(|(number, _)| *number == bus)?;
        Some(act(window, number * FUNCTION + usize::from(offset)))
    }
}

impl Space for Memory {
    fn root(&self) -> u8 {
        self.window.first_bus
    }

    fn read(&self, address: PciAddress, offset: u16, size: u8) -> u32 {
        let value = self.at(address, offset, |window, at| match size {
            1 => u32::from(window.read_u8(at)),
            2 => u32::from(window.read_u16(at)),
            _ => window.read_u32(at),
        });
        value.unwrap_or(u32::MAX)
    }

    fn write(&self, address: PciAddress, offset: u16, size: u8, value: u32) {
        self.at(address, offset, |window, at| match size {
            1 => window.write_u8(at, value as u8),
            2 => window.write_u16(at, value as u16),
            _ => window.write_u32(at, value),
        });
    }
}

/// By ports.
struct Ports {
    /// `[L]` The address and the data register belong together.
    pair: Lock<PciAccess, ()>,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ports")
    }
}

impl Space for Ports {
    fn root(&self) -> u8 {
        0
    }

    fn read(&self, address: PciAddress, offset: u16, size: u8) -> u32 {
        let _pair = self.pair.lock();
        if select(address, offset).is_none() {
            return u32::MAX;
        }
        // The whole register: uhyve has only the first of the four ports.
        let register = port::read::<u32>(CONFIG_DATA) >> (8 * (offset & 3));
        match size {
            1 => register & 0xFF,
            2 => register & 0xFFFF,
            _ => register,
        }
    }

    fn write(&self, address: PciAddress, offset: u16, size: u8, value: u32) {
        let _pair = self.pair.lock();
        let Some(data) = select(address, offset) else { return };
        match size {
            1 => port::write(data, value as u8),
            2 => port::write(data, value as u16),
            _ => port::write(data, value),
        }
    }
}

/// Writes the address register; returns the data port for the offset.
fn select(address: PciAddress, offset: u16) -> Option<u16> {
    if offset >= PORT_REACH {
        return None;
    }
    let function = u32::from(address.bus()) << 16
        | u32::from(address.device()) << 11
        | u32::from(address.function()) << 8
        | u32::from(offset & !3);
    port::write(CONFIG_ADDRESS, ENABLE | function);
    Some(CONFIG_DATA + (offset & 3))
}
