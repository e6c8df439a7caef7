//! Message-signalled interrupts: each entry of a function's table raises one softint source of one CPU
//! (PCI Local Bus Specification 3.0, 6.8.2; message format: Intel SDM vol. 3A, 11.11).
//!
//! Masking is one register write and allowed in any context; the rest is for boot and tasks.

use crate::interrupt::Interrupt;
use crate::ioapic::{self, Unroutable};
use crate::mmio::Window;
use crate::pci::{Bar, Function};
use core::fmt;
use pci_types::CommandRegister;

/// Capability id.
const MSIX: u8 = 0x11;
/// Registers of the capability.
const CONTROL: u16 = 2;
const TABLE: u16 = 4;
/// Bits of the control register.
const ENABLE: u16 = 1 << 15;
const MASK_ALL: u16 = 1 << 14;
const SIZE: u16 = 0x7FF;
/// Which BAR the table is in.
const BAR: u32 = 7;

/// Bytes and registers of a table entry.
const ENTRY: usize = 16;
const ADDRESS: usize = 0;
const ADDRESS_HIGH: usize = 4;
const DATA: usize = 8;
const VECTOR_CONTROL: usize = 12;
const MASKED: u32 = 1;

/// Messages to local APICs go here.
const MESSAGE_ADDRESS: u32 = 0xFEE0_0000;

/// Why an entry cannot be routed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The table has no such entry.
    NoSuchEntry(u16),
    /// A message cannot name that CPU.
    Unroutable(Unroutable),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchEntry(entry) => write!(f, "no MSI-X entry {entry}"),
            Self::Unroutable(why) => why.fmt(f),
        }
    }
}

/// The table of one function.
#[derive(Debug)]
pub struct Msix {
    function: Function,
    capability: u16,
    table: Window,
    vectors: u16,
}

impl Msix {
    /// Maps the table and masks all entries; MSI-X itself stays off until [`enable`](Self::enable).
    pub(crate) fn find(function: &Function) -> Option<Self> {
        let place = Place::find(function)?;
        let table = Window::map(place.address, usize::from(place.vectors) * ENTRY)?;
        function.update_command(|command| command | CommandRegister::MEMORY_ENABLE);
        let mut msix =
            Self { function: *function, capability: place.capability, table, vectors: place.vectors };
        (0..msix.vectors).for_each(|entry| msix.set(entry, VECTOR_CONTROL, MASKED));
        Some(msix)
    }

    /// Entries in the table.
    pub fn vectors(&self) -> u16 {
        self.vectors
    }

    /// Has `entry` raise `interrupt`, and unmasks it.
    pub fn route(&mut self, entry: u16, interrupt: Interrupt) -> Result<(), Error> {
        let (address, data) = message(interrupt).map_err(Error::Unroutable)?;
        self.mask(entry)?;
        self.set(entry, ADDRESS, address);
        self.set(entry, ADDRESS_HIGH, 0);
        self.set(entry, DATA, data);
        self.unmask(entry)
    }

    /// Holds `entry` back. A message that comes meanwhile is sent on unmasking.
    #[inline]
    pub fn mask(&mut self, entry: u16) -> Result<(), Error> {
        self.check(entry)?;
        self.set(entry, VECTOR_CONTROL, MASKED);
        Ok(())
    }

    /// Lets `entry` through.
    #[inline]
    pub fn unmask(&mut self, entry: u16) -> Result<(), Error> {
        self.check(entry)?;
        self.set(entry, VECTOR_CONTROL, 0);
        Ok(())
    }

    /// Turns MSI-X on and the function's wired interrupt off.
    pub fn enable(&mut self) {
        self.function.update_command(|command| command | CommandRegister::INTERRUPT_DISABLE);
        self.update_control(|control| control & !MASK_ALL | ENABLE);
    }

    /// Turns MSI-X off and the wired interrupt on again.
    pub fn disable(&mut self) {
        self.update_control(|control| control & !ENABLE);
        self.function.update_command(|command| command - CommandRegister::INTERRUPT_DISABLE);
    }

    fn update_control(&self, change: impl FnOnce(u16) -> u16) {
        let control = self.function.read_u16(self.capability + CONTROL);
        self.function.write_u16(self.capability + CONTROL, change(control));
    }

    fn check(&self, entry: u16) -> Result<(), Error> {
        if entry < self.vectors { Ok(()) } else { Err(Error::NoSuchEntry(entry)) }
    }

    fn set(&mut self, entry: u16, register: usize, value: u32) {
        self.table.write_u32(usize::from(entry) * ENTRY + register, value);
    }
}

/// Where a function says its table is.
#[derive(PartialEq, Eq, Debug)]
struct Place {
    capability: u16,
    address: u64,
    vectors: u16,
}

impl Place {
    /// `None` if the function has no MSI-X, or its table would not lie inside a memory BAR that has an address.
    fn find(function: &Function) -> Option<Self> {
        let (_, capability) = function.capabilities().find(|(id, _)| *id == MSIX)?;
        let vectors = (function.read_u16(capability + CONTROL) & SIZE) + 1;
        let table = function.read_u32(capability + TABLE);
        let Some(Bar::Memory { addr, len, .. }) = function.bar((table & BAR) as usize) else { return None };
        let (offset, size) = (u64::from(table & !BAR), u64::from(vectors) * ENTRY as u64);
        if offset.checked_add(size)? > len {
            return None;
        }
        Some(Self { capability, address: addr.checked_add(offset)?, vectors })
    }
}

/// Address and data of the message that raises `interrupt`: fixed delivery, edge, physical destination.
fn message(interrupt: Interrupt) -> Result<(u32, u32), Unroutable> {
    let destination = ioapic::destination(interrupt)?;
    Ok((MESSAGE_ADDRESS | u32::from(destination) << 12, u32::from(interrupt.vector())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::simulated::{Device, only};
    use weir_sync::CpuId;

    /// A function with an MSI-X capability at 0x40 behind a memory BAR 1 of 4 KiB.
    fn function(vectors: u16, table: u32) -> Function {
        let mut device = Device::new(0x1AF4, 0x1041).bar(1, 0xFEBC_0000, 0xFFFF_F000).bar(2, 0xC001, 0xFFE1);
        device.config[0x06] = 0x10;
        device.config[0x34] = 0x40;
        device.config[0x40] = MSIX;
        device.config[0x42..0x44].copy_from_slice(&(vectors - 1).to_le_bytes());
        device.config[0x44..0x48].copy_from_slice(&table.to_le_bytes());
        only(device)
    }

    #[test]
    fn finds_the_table() {
        let place = Place::find(&function(3, 0x800 | 1));
        assert_eq!(place, Some(Place { capability: 0x40, address: 0xFEBC_0800, vectors: 3 }));
    }

    #[test]
    fn a_table_that_reaches_over_its_bar_is_refused() {
        assert!(Place::find(&function(256, 1)).is_some());
        assert_eq!(Place::find(&function(257, 1)), None);
        assert_eq!(Place::find(&function(2, 0xFF0 | 1)), None);
        assert_eq!(Place::find(&function(1, 0xFFFF_FFF8 | 1)), None);
    }

    #[test]
    fn a_table_in_no_memory_bar_is_refused() {
        for bar in [0, 2, 5, 6, 7] {
            assert_eq!(Place::find(&function(1, bar)), None, "BAR {bar}");
        }
    }

    #[test]
    fn messages_name_cpu_and_vector() {
        let interrupt = Interrupt { cpu: CpuId::new(5).unwrap(), bit: 9 };
        assert_eq!(message(interrupt), Ok((0xFEE0_5000, 0x49)));
    }
}
