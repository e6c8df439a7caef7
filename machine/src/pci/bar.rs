//! Base address registers: decoding and sizing (PCI Local Bus Specification 3.0, 6.2.5.1).

use super::{BRIDGE, Function};
use pci_types::CommandRegister;

/// Offset of the first register.
const FIRST: u16 = 0x10;
/// Registers of a device and of a bridge.
const DEVICE_BARS: usize = 6;
const BRIDGE_BARS: usize = 2;
const DEVICE: u8 = 0;

const IO: u32 = 1;
const TYPE: u32 = 0b110;
const TYPE_64: u32 = 0b100;
const PREFETCHABLE: u32 = 0b1000;
const MEMORY_FLAGS: u32 = 0xF;
const IO_FLAGS: u32 = 0x3;

/// A range that a function answers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bar {
    /// Memory.
    Memory {
        /// Physical address.
        addr: u64,
        /// Bytes, a power of two.
        len: u64,
        /// Whether reads have no side effects.
        prefetchable: bool,
    },
    /// Ports.
    Io {
        /// First port.
        port: u16,
        /// Ports, a power of two.
        len: u32,
    },
}

impl Bar {
    /// Whether it has an address: none is at 0.
    pub(super) fn is_assigned(&self) -> bool {
        match *self {
            Bar::Memory { addr, .. } => addr != 0,
            Bar::Io { port, .. } => port != 0,
        }
    }
}

/// The ranges of a function by register.
pub(super) type Bars = [Option<Bar>; DEVICE_BARS];

/// Decodes and sizes all registers. The function answers to none of them meanwhile: each change of that makes a
/// hypervisor rebuild its map of memory, which takes it up to a millisecond, so this is done once a function.
pub(super) fn size(function: &Function) -> Bars {
    let mut bars = [None; DEVICE_BARS];
    let command = function.read_u16(super::COMMAND);
    let decoding = (CommandRegister::MEMORY_ENABLE | CommandRegister::IO_ENABLE).bits();
    if command & decoding != 0 {
        function.write_u16(super::COMMAND, command & !decoding);
    }
    let count = count(function);
    let mut index = 0;
    while index < count {
        let low = function.read_u32(register(index));
        let width = width(low, index, count);
        if let Some(bar) = bars.get_mut(index) {
            *bar = size_one(function, index, low, width == 2);
        }
        index += width;
    }
    if command & decoding != 0 {
        function.write_u16(super::COMMAND, command);
    }
    bars
}

fn size_one(function: &Function, index: usize, low: u32, wide: bool) -> Option<Bar> {
    if low & (IO | TYPE) == TYPE_64 && !wide {
        return None;
    }
    let mask_low = probe(function, index, low);
    if low & IO != 0 {
        // Devices may leave the upper 16 bits unimplemented.
        let mask = mask_low & !IO_FLAGS & 0xFFFF;
        let port = u16::try_from(low & !IO_FLAGS).ok()?;
        return (mask != 0).then(|| Bar::Io { port, len: 1 << mask.trailing_zeros() });
    }
    let mask_low = mask_low & !MEMORY_FLAGS;
    let high = if wide { function.read_u32(register(index + 1)) } else { 0 };
    let mask_high = if wide { probe(function, index + 1, high) } else { u32::MAX };
    if mask_low == 0 && !(wide && mask_high != 0) {
        return None;
    }
    let mask = u64::from(mask_high) << 32 | u64::from(mask_low);
    let addr = u64::from(high) << 32 | u64::from(low & !MEMORY_FLAGS);
    Some(Bar::Memory { addr, len: 1 << mask.trailing_zeros(), prefetchable: low & PREFETCHABLE != 0 })
}

/// The bits that a register implements; it reads `value` again afterwards.
fn probe(function: &Function, index: usize, value: u32) -> u32 {
    function.write_u32(register(index), u32::MAX);
    let mask = function.read_u32(register(index));
    function.write_u32(register(index), value);
    mask
}

pub(super) fn count(function: &Function) -> usize {
    match function.header() {
        DEVICE => DEVICE_BARS,
        BRIDGE => BRIDGE_BARS,
        _ => 0,
    }
}

/// Registers that the one at `index`, reading `low`, takes up.
pub(super) fn width(low: u32, index: usize, count: usize) -> usize {
    if low & (IO | TYPE) == TYPE_64 && index + 1 < count { 2 } else { 1 }
}

pub(super) fn register(index: usize) -> u16 {
    FIRST + 4 * index as u16
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{Device, only as function};
    use super::*;

    fn memory(addr: u64, len: u64, prefetchable: bool) -> Option<Bar> {
        Some(Bar::Memory { addr, len, prefetchable })
    }

    #[test]
    fn sizes_each_kind_and_leaves_the_registers_as_they_were() {
        let device = Device::new(0x1AF4, 0x1041)
            .bar(0, 0xC001, 0xFFFF_FFE0 | 1)
            .bar(1, 0xFEBC_0000, 0xFFFF_F000)
            .bar(4, 0xF000_000C, 0xFFFF_C00C)
            .bar(5, 0x0000_0008, 0xFFFF_FFFF);
        let function = function(device);
        function.enable();
        let before: Vec<_> = (0..16).map(|n| function.read_u32(n * 4)).collect();
        assert_eq!(function.bar(0), Some(Bar::Io { port: 0xC000, len: 32 }));
        assert_eq!(function.bar(1), memory(0xFEBC_0000, 0x1000, false));
        assert_eq!(function.bar(2), None);
        assert_eq!(function.bar(4), memory(0x8_F000_0000, 0x4000, true));
        assert_eq!(function.bar(5), None, "the upper half of register 4");
        assert_eq!(function.bar(6), None);
        let after: Vec<_> = (0..16).map(|n| function.read_u32(n * 4)).collect();
        assert_eq!(before, after);
    }

    #[test]
    fn sizes_a_register_of_more_than_4_gib() {
        let device = Device::new(1, 1).bar(0, 0x0000_000C, 0x0000_000C).bar(1, 0x40, 0xFFFF_FFFC);
        assert_eq!(function(device).bar(0), memory(0x40_0000_0000, 0x4_0000_0000, true));
    }

    /// The simulation refuses a change of address while the function decodes.
    #[test]
    fn is_off_the_bus_while_it_is_sized() {
        let device = Device::new(1, 1).bar(0, 0xFEBC_0000, 0xFFFF_F000);
        let function = function(device);
        function.enable();
        function.bar(0);
        assert_eq!(function.read_u16(4), 7);
    }

    #[test]
    fn an_io_register_may_have_16_bits() {
        let device = Device::new(1, 1).bar(2, 0x1001, 0x0000_FF01);
        assert_eq!(function(device).bar(2), Some(Bar::Io { port: 0x1000, len: 256 }));
    }

    #[test]
    fn a_64_bit_register_in_the_last_place_is_none() {
        let device = Device::new(1, 1).bar(5, 0xF000_0004, 0xFFFF_0004);
        assert_eq!(function(device).bar(5), None);
    }
}
