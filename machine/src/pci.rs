//! PCI functions: finding them, reading their configuration space, BARs and capabilities. Boot and tasks.
//!
//! Configuration space is reached through a memory window (ECAM) where firmware names one, else through ports
//! 0xCF8 and 0xCFC.

#[cfg(feature = "image")]
mod access;
mod assign;
mod bar;
#[cfg(test)]
pub(crate) mod simulated;

use crate::acpi::Info;
#[cfg(not(feature = "image"))]
use crate::host::pci as access;
use crate::lock::Lock;
use alloc::boxed::Box;
use alloc::vec::Vec;
pub use bar::Bar;
use core::fmt;
pub use pci_types::PciAddress;
use pci_types::{CommandRegister, StatusRegister};
use spin::Once;
use weir_sync::rank::PciBars;
use weir_sync::sort::sort_by_key;

pub use crate::msix::Msix;

/// Standard configuration header, PCI Local Bus Specification 3.0, 6.1.
const ID: u16 = 0x00;
const COMMAND: u16 = 0x04;
const STATUS: u16 = 0x06;
const CLASS: u16 = 0x08;
const HEADER_TYPE: u16 = 0x0E;
const SUBSYSTEM_ID: u16 = 0x2E;
const SECONDARY_BUS: u16 = 0x19;
const CAPABILITIES: u16 = 0x34;
const INTERRUPT_LINE: u16 = 0x3C;
const INTERRUPT_PIN: u16 = 0x3D;

/// Bytes before the first capability may lie.
const HEADER_LEN: u8 = 0x40;
/// Capabilities that fit between the header and byte 256.
const MAX_CAPABILITIES: usize = 48;
const MULTI_FUNCTION: u8 = 0x80;
/// Header type of a PCI-to-PCI bridge.
const BRIDGE: u8 = 1;
/// What a configuration read of nothing gives.
const ABSENT: u16 = 0xFFFF;

/// A way to configuration space. Only segment 0 is used: no hypervisor Weir runs under has another.
pub(crate) trait Space: fmt::Debug + Send + Sync {
    /// The bus that no bridge leads to.
    fn root(&self) -> u8;
    /// Reads `size` (1, 2 or 4) bytes at `offset`, a multiple of `size`; all ones where nothing answers.
    fn read(&self, address: PciAddress, offset: u16, size: u8) -> u32;
    /// Writes `size` (1, 2 or 4) bytes at `offset`, a multiple of `size`.
    fn write(&self, address: PciAddress, offset: u16, size: u8, value: u32);
}

/// `[I]` Set once by [`init`]: nothing is plugged in later.
static FUNCTIONS: Once<Vec<Function>> = Once::new();

/// Finds the functions on all reachable buses and gives BARs without an address one. Boot CPU, once, after ACPI
/// was read.
pub fn init(acpi: &Info) {
    let Some(space) = access::find(acpi) else {
        crate::info!("pci: none");
        return;
    };
    let space: &'static dyn Space = Box::leak(space);
    let found = FUNCTIONS.call_once(|| scan(space));
    assign::assign(acpi, found);
    for function in found {
        let Function { address, vendor, device, class, .. } = function;
        crate::debug!("pci: {address} {vendor:04x}:{device:04x} class {class:06x}");
        if function.header() == BRIDGE && function.secondary_bus().is_none() {
            crate::warn!("pci: firmware set no bus behind bridge {address}: its devices are out of reach");
        }
    }
    crate::info!("pci: {} functions by {space:?}", found.len());
}

/// All functions, in address order. Empty before `init`, without PCI, and on the host.
pub fn functions() -> Vec<Function> {
    FUNCTIONS.get().cloned().unwrap_or_default()
}

/// Walks the buses from 0, behind bridges as they come.
fn scan(space: &'static dyn Space) -> Vec<Function> {
    let mut found = Vec::new();
    let mut seen = [false; 256];
    let mut buses = alloc::vec![space.root()];
    while let Some(bus) = buses.pop() {
        if core::mem::replace(&mut seen[usize::from(bus)], true) {
            continue;
        }
        for function in on_bus(space, bus) {
            buses.extend(function.secondary_bus().filter(|&secondary| secondary > bus));
            found.push(function);
        }
    }
    sort_by_key(&mut found, |function| function.address);
    found
}

/// The functions on one bus.
fn on_bus(space: &'static dyn Space, bus: u8) -> impl Iterator<Item = Function> {
    let function = move |device, number| Function::probe(space, PciAddress::new(0, bus, device, number));
    (0..32).flat_map(move |device| {
        let first = function(device, 0);
        let others = if first.as_ref().is_some_and(Function::has_siblings) { 1..8 } else { 0..0 };
        first.into_iter().chain(others.filter_map(move |number| function(device, number)))
    })
}

/// One function of a device.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Where it is.
    pub address: PciAddress,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Base class, sub-class and programming interface, most significant first.
    pub class: u32,
    space: &'static dyn Space,
    /// Its capabilities as (id, offset).
    capabilities: &'static [(u8, u16)],
    /// `[L]` What [`bar::size`] found.
    sized: &'static Lock<PciBars, Option<bar::Bars>>,
}

/// A wired interrupt as firmware noted it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wired {
    /// Interrupt pin: 1 is INTA#.
    pub pin: u8,
    /// Interrupt line. Below 16 it is an ISA interrupt that the pin is wired to also where an IOAPIC has
    /// others for it.
    pub line: u8,
}

impl Function {
    fn probe(space: &'static dyn Space, address: PciAddress) -> Option<Self> {
        let vendor = space.read(address, ID, 2) as u16;
        if vendor == ABSENT || vendor == 0 {
            return None;
        }
        let device = space.read(address, ID + 2, 2) as u16;
        let class = space.read(address, CLASS, 4) >> 8;
        let sized = Box::leak(Box::default());
        let mut function = Self { address, vendor, device, class, space, capabilities: &[], sized };
        // Once and for all: uhyve takes the list away with its device's first reset.
        function.capabilities = function.read_capabilities().leak();
        Some(function)
    }

    fn has_siblings(&self) -> bool {
        self.read_u8(HEADER_TYPE) & MULTI_FUNCTION != 0
    }

    /// Header type without the multi-function bit: 0 device, 1 bridge.
    fn header(&self) -> u8 {
        self.read_u8(HEADER_TYPE) & !MULTI_FUNCTION
    }

    /// The bus behind it, if it is a bridge and firmware numbered that bus.
    pub fn secondary_bus(&self) -> Option<u8> {
        (self.header() == BRIDGE).then(|| self.read_u8(SECONDARY_BUS)).filter(|&bus| bus != 0)
    }

    /// Reads configuration space.
    pub fn read_u8(&self, offset: u16) -> u8 {
        self.space.read(self.address, offset, 1) as u8
    }

    /// Reads configuration space; `offset` is even.
    pub fn read_u16(&self, offset: u16) -> u16 {
        self.space.read(self.address, offset, 2) as u16
    }

    /// Reads configuration space; `offset` is a multiple of 4.
    pub fn read_u32(&self, offset: u16) -> u32 {
        self.space.read(self.address, offset, 4)
    }

    /// Writes configuration space.
    pub fn write_u8(&self, offset: u16, value: u8) {
        self.space.write(self.address, offset, 1, u32::from(value));
    }

    /// Writes configuration space; `offset` is even.
    pub fn write_u16(&self, offset: u16, value: u16) {
        self.space.write(self.address, offset, 2, u32::from(value));
    }

    /// Writes configuration space; `offset` is a multiple of 4.
    pub fn write_u32(&self, offset: u16, value: u32) {
        self.space.write(self.address, offset, 4, value);
    }

    /// Subsystem device id.
    pub fn subsystem(&self) -> u16 {
        self.read_u16(SUBSYSTEM_ID)
    }

    /// Base address register `index` (0–5); `None` if it is not there, has no address, or is the upper half of
    /// the one before. The first call sizes all of them, for which the function leaves the bus for a moment: make
    /// it before the device is in use.
    pub fn bar(&self, index: usize) -> Option<Bar> {
        self.bars().get(index).copied().flatten().filter(Bar::is_assigned)
    }

    /// What its base address registers are, those without an address too.
    fn bars(&self) -> bar::Bars {
        *self.sized.lock().get_or_insert_with(|| bar::size(self))
    }

    /// Has the next look at the registers read them again.
    fn forget_bars(&self) {
        *self.sized.lock() = None;
    }

    /// Capabilities as (id, offset), in list order, as they were when the function was found.
    pub fn capabilities(&self) -> impl Iterator<Item = (u8, u16)> + use<> {
        self.capabilities.iter().copied()
    }

    /// Walks the list. Ends at a pointer into the header, and after as many as fit.
    fn read_capabilities(&self) -> Vec<(u8, u16)> {
        let listed = StatusRegister::new(self.read_u16(STATUS)).has_capability_list();
        let mut next = if listed { self.read_u8(CAPABILITIES) } else { 0 };
        core::iter::from_fn(move || {
            let offset = next & !3;
            if offset < HEADER_LEN {
                return None;
            }
            let [id, after] = self.read_u16(offset.into()).to_le_bytes();
            next = after;
            Some((id, u16::from(offset)))
        })
        .take(MAX_CAPABILITIES)
        .collect()
    }

    /// Lets the function answer memory and I/O accesses and read and write memory itself.
    pub fn enable(&self) {
        let on =
            CommandRegister::MEMORY_ENABLE | CommandRegister::IO_ENABLE | CommandRegister::BUS_MASTER_ENABLE;
        self.update_command(|command| command | on);
    }

    /// Takes the right to access memory back: DMA ends here.
    pub fn stop_dma(&self) {
        self.update_command(|command| command - CommandRegister::BUS_MASTER_ENABLE);
    }

    /// Its wired interrupt, if it has one.
    pub fn wired_interrupt(&self) -> Option<Wired> {
        let (pin, line) = (self.read_u8(INTERRUPT_PIN), self.read_u8(INTERRUPT_LINE));
        (1..=4)
            .contains(&pin)
            .then_some(Wired { pin, line })
            .filter(|wired| wired.line != 0 && wired.line != 0xFF)
    }

    /// Its message-signalled interrupts; `None` if it has none or their table cannot be mapped.
    pub fn msix(&self) -> Option<Msix> {
        Msix::find(self)
    }

    pub(crate) fn update_command(&self, change: impl FnOnce(CommandRegister) -> CommandRegister) {
        let command = CommandRegister::from_bits_retain(self.read_u16(COMMAND));
        self.write_u16(COMMAND, change(command).bits());
    }
}

#[cfg(test)]
mod tests {
    use super::simulated::{Device, bus};
    use super::*;

    #[test]
    fn finds_functions_of_multi_function_devices_and_behind_bridges() {
        let mut first = Device::new(0x8086, 0x29C0);
        first.config[usize::from(HEADER_TYPE)] = MULTI_FUNCTION;
        let bridge = Device::bridge(0, 3, 3);
        let space = bus([
            (PciAddress::new(0, 0, 0, 0), first),
            (PciAddress::new(0, 0, 0, 5), Device::new(0x8086, 1)),
            (PciAddress::new(0, 0, 1, 3), Device::new(0xDEAD, 2)),
            (PciAddress::new(0, 0, 2, 0), bridge),
            (PciAddress::new(0, 3, 31, 0), Device::new(0x1AF4, 0x1041)),
        ]);
        let found: Vec<_> = scan(space).iter().map(|f| (f.address.to_string(), f.device)).collect();
        let expected = [("00:00.0", 0x29C0), ("00:00.5", 1), ("00:02.0", 0x000C), ("03:1f.0", 0x1041)];
        assert_eq!(found, expected.map(|(address, device)| (format!("0000:{address}"), device)));
    }

    #[test]
    fn a_bridge_that_leads_back_is_not_followed() {
        let space = bus([
            (PciAddress::new(0, 0, 1, 0), Device::bridge(0, 2, 2)),
            (PciAddress::new(0, 2, 0, 0), Device::bridge(2, 2, 2)),
            (PciAddress::new(0, 2, 1, 0), Device::bridge(2, 0, 9)),
        ]);
        assert_eq!(scan(space).len(), 3);
    }

    fn with_list(pointers: &[(u8, u8, u8)]) -> Function {
        let mut device = Device::new(0x1AF4, 0x1041);
        device.config[usize::from(STATUS)] = 0x10;
        device.config[usize::from(CAPABILITIES)] = pointers[0].0;
        for &(at, id, next) in pointers {
            device.config[usize::from(at)] = id;
            device.config[usize::from(at) + 1] = next;
        }
        scan(bus([(PciAddress::new(0, 0, 0, 0), device)]))[0]
    }

    #[test]
    fn walks_capabilities_in_list_order() {
        let function = with_list(&[(0x98, 0x11, 0x84), (0x84, 0x09, 0x40), (0x40, 0x01, 0)]);
        let list: Vec<_> = function.capabilities().collect();
        assert_eq!(list, [(0x11, 0x98), (0x09, 0x84), (0x01, 0x40)]);
    }

    #[test]
    fn a_capability_loop_ends() {
        let function = with_list(&[(0x40, 0x09, 0x50), (0x50, 0x09, 0x40)]);
        assert_eq!(function.capabilities().count(), MAX_CAPABILITIES);
        let itself = with_list(&[(0xFC, 0x05, 0xFC)]);
        assert_eq!(itself.capabilities().count(), MAX_CAPABILITIES);
    }

    #[test]
    fn a_pointer_into_the_header_ends_the_list() {
        let function = with_list(&[(0x40, 0x09, 0x10)]);
        assert_eq!(function.capabilities().count(), 1);
    }

    #[test]
    fn no_list_is_walked_unless_the_status_register_announces_one() {
        let mut device = Device::new(0x1AF4, 0x1041);
        device.config[usize::from(CAPABILITIES)] = 0x40;
        device.config[0x40] = 9;
        let function = scan(bus([(PciAddress::new(0, 0, 0, 0), device)]))[0];
        assert_eq!(function.capabilities().count(), 0);
    }

    #[test]
    fn enabling_keeps_the_other_command_bits() {
        let mut device = Device::new(0x1AF4, 0x1041);
        device.config[5] = 0x04;
        let function = scan(bus([(PciAddress::new(0, 0, 0, 0), device)]))[0];
        function.enable();
        assert_eq!(function.read_u16(COMMAND), 0x0407);
        function.stop_dma();
        assert_eq!(function.read_u16(COMMAND), 0x0403);
    }

    #[test]
    fn the_host_has_no_functions() {
        assert!(functions().is_empty());
    }
}
