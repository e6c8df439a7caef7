//! Configuration space of made-up devices, for tests.

use super::{Function, Space};
use crate::lock::Lock;
use core::fmt;
use pci_types::PciAddress;
use std::collections::BTreeMap;
use weir_sync::rank::PciAccess;

/// One function's configuration space and which BAR bits it implements.
#[derive(Clone)]
pub(crate) struct Device {
    pub(crate) config: [u8; 256],
    masks: [u32; 6],
}

impl Device {
    pub(crate) fn new(vendor: u16, device: u16) -> Self {
        let mut config = [0; 256];
        config[0..2].copy_from_slice(&vendor.to_le_bytes());
        config[2..4].copy_from_slice(&device.to_le_bytes());
        Self { config, masks: [0; 6] }
    }

    /// A PCI-to-PCI bridge between these buses that passes nothing on.
    pub(super) fn bridge(primary: u8, secondary: u8, subordinate: u8) -> Self {
        let mut bridge = Self::new(0x1B36, 0x000C);
        bridge.config[0x0E] = 1;
        bridge.config[0x18..0x1B].copy_from_slice(&[primary, secondary, subordinate]);
        bridge.config[0x20..0x28].copy_from_slice(&[0xF0, 0xFF, 0, 0, 0xF0, 0xFF, 0, 0]);
        bridge
    }

    /// Base address register `index` reads `value`, and `mask` after all ones were written.
    pub(crate) fn bar(mut self, index: usize, value: u32, mask: u32) -> Self {
        self.config[0x10 + 4 * index..0x14 + 4 * index].copy_from_slice(&value.to_le_bytes());
        self.masks[index] = mask;
        self
    }
}

/// A machine's functions.
struct Bus(Lock<PciAccess, BTreeMap<PciAddress, Device>>);

/// Configuration space with these functions.
pub(super) fn bus<const N: usize>(devices: [(PciAddress, Device); N]) -> &'static dyn Space {
    Box::leak(Box::new(Bus(Lock::new(BTreeMap::from(devices)))))
}

/// `device`, alone on a bus.
pub(crate) fn only(device: Device) -> Function {
    super::scan(bus([(PciAddress::new(0, 0, 1, 0), device)]))[0]
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulation")
    }
}

impl Space for Bus {
    fn root(&self) -> u8 {
        0
    }

    fn read(&self, address: PciAddress, offset: u16, size: u8) -> u32 {
        self.0.lock().get(&address).map_or(u32::MAX, |device| device.read(offset, size))
    }

    fn write(&self, address: PciAddress, offset: u16, size: u8, value: u32) {
        if let Some(device) = self.0.lock().get_mut(&address) {
            device.write(offset, size, value);
        }
    }
}

impl Device {
    fn read(&self, offset: u16, size: u8) -> u32 {
        let bytes = &self.config[usize::from(offset)..][..usize::from(size)];
        bytes.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
    }

    fn write(&mut self, offset: u16, size: u8, mut value: u32) {
        let is_bar = (0x10..0x28).contains(&offset) && self.config[0x0E] & 0x7F == 0;
        if is_bar {
            assert_eq!((offset % 4, size), (0, 4), "a base address register is written whole");
            let index = usize::from(offset - 0x10) / 4;
            let old = self.read(offset, 4);
            // Bits outside the mask are zero for good; those that tell the kind are read-only.
            let writable = self.masks[index] & !self.kind(index);
            value = value & writable | old & self.kind(index);
            assert!(value == old || self.config[4] & 3 == 0, "moved while it decodes");
        }
        let bytes = value.to_le_bytes();
        self.config[usize::from(offset)..][..usize::from(size)].copy_from_slice(&bytes[..usize::from(size)]);
    }

    /// The read-only low bits of BAR `index`: none in the upper half of a 64-bit one.
    fn kind(&self, index: usize) -> u32 {
        let is_wide = |index: usize| self.masks[index] & 7 == 4;
        match self.masks[index] {
            _ if index > 0 && is_wide(index - 1) => 0,
            mask if mask & 1 != 0 => 3,
            _ => 0xF,
        }
    }
}
