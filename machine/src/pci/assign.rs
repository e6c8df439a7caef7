//! Addresses for the BARs that firmware left without one: QEMU's microvm runs none that gives them.

use super::bar::{count, register, width};
use super::{BRIDGE, Bar, COMMAND, Function};
use crate::acpi::Info;
use alloc::vec::Vec;
use pci_types::CommandRegister;
use weir_sync::sort::sort_by;

/// Where memory BARs go when no table names the bridge's windows: above the RAM of every PC that QEMU makes,
/// below the IOAPIC and the addresses the chipset keeps.
const DEFAULT_WINDOW: (u32, u32) = (0xE000_0000, 0xFDFF_FFFF);
/// Chipset, IOAPIC, HPET, local APIC and firmware lie from here up.
const PLATFORM: u64 = 0xFEC0_0000;
/// Windows of bridges begin on this border; nothing here is ever handed out below it.
const LOWEST: u64 = 1 << 20;
/// A BAR is given whole pages, so that no two devices share one.
const PAGE: u64 = 4096;

/// Gives memory BARs without an address one. Only on the root bus: what lies behind a bridge must lie in the
/// bridge's window, which is firmware's to make. I/O BARs stay as they are; no driver here uses one.
///
/// Firmware lets a function decode memory once it has given it addresses: such functions are left alone.
pub(super) fn assign(acpi: &Info, functions: &[Function]) {
    let lacking = |function: &&Function| {
        let decodes = function.read_u16(COMMAND) & CommandRegister::MEMORY_ENABLE.bits() != 0;
        function.address.bus() == function.space.root()
            && !decodes
            && function.bars().iter().flatten().any(is_lacking)
    };
    if !functions.iter().any(|function| lacking(&function)) {
        return;
    }
    let mut pool = Pool::new(acpi);
    functions.iter().for_each(|function| pool.withhold(function));
    for function in functions.iter().filter(lacking) {
        pool.assign(function);
    }
}

fn is_lacking(bar: &Bar) -> bool {
    matches!(bar, Bar::Memory { addr: 0, .. })
}

/// Addresses below 4 GiB that the host bridge passes on and nothing has yet.
#[derive(Debug)]
struct Pool {
    /// Free ranges, first and past-the-end address.
    free: Vec<(u64, u64)>,
}

impl Pool {
    /// The windows the tables name, or the default one, less the configuration windows and the platform's own.
    fn new(acpi: &Info) -> Self {
        let named = acpi.pci_windows.iter().copied();
        let default = acpi.pci_windows.is_empty().then_some(DEFAULT_WINDOW);
        let mut free: Vec<_> = named
            .chain(default)
            .map(|(first, last)| (u64::from(first).max(LOWEST), u64::from(last) + 1))
            .collect();
        // From the top down: QEMU counts the addresses right above RAM as a window too, where more RAM may come.
        sort_by(&mut free, |a, b| b.cmp(a));
        let mut pool = Self { free };
        pool.remove(PLATFORM, 1 << 32);
        for window in &acpi.ecam {
            pool.remove(window.base, window.base + (u64::from(window.last_bus) + 1) * (1 << 20));
        }
        for device in &acpi.virtio_mmio {
            pool.remove(device.base, device.base + device.len);
        }
        pool
    }

    /// Takes what `function` has already out of the pool: its BARs, and all a bridge passes on.
    fn withhold(&mut self, function: &Function) {
        for bar in function.bars().iter().flatten().filter(|bar| !is_lacking(bar)) {
            if let Bar::Memory { addr, len, .. } = *bar {
                self.remove(addr, addr.saturating_add(len));
            }
        }
        if function.header() == BRIDGE {
            // Memory base and limit, prefetchable base and limit: the top 12 bits of 32.
            for at in [0x20, 0x24] {
                let range = function.read_u32(at);
                let (base, limit) = (u64::from(range & 0xFFF0) << 16, u64::from(range | 0xF_FFFF));
                if base <= limit {
                    self.remove(base, limit + 1);
                }
            }
        }
    }

    /// Gives each BAR of `function` that lacks an address one.
    fn assign(&mut self, function: &Function) {
        for (index, bar) in function.bars().iter().enumerate() {
            let Some(Bar::Memory { addr: 0, len, .. }) = *bar else { continue };
            let Some(addr) = self.take(len) else {
                crate::warn!("pci: no room for {len:#x} bytes of {} BAR {index}", function.address);
                continue;
            };
            function.write_u32(register(index), addr as u32);
            if width(function.read_u32(register(index)), index, count(function)) == 2 {
                function.write_u32(register(index + 1), (addr >> 32) as u32);
            }
            crate::debug!("pci: {} BAR {index} put at {addr:#x}", function.address);
        }
        function.forget_bars();
    }

    /// The lowest fitting address in the first window that has room.
    fn take(&mut self, len: u64) -> Option<u64> {
        let len = len.max(PAGE);
        let fits = |&(first, end): &(u64, u64)| {
            let addr = first.checked_next_multiple_of(len)?;
            (addr.checked_add(len)? <= end).then_some(addr)
        };
        let addr = self.free.iter().find_map(fits)?;
        self.remove(addr, addr + len);
        Some(addr)
    }

    fn remove(&mut self, first: u64, end: u64) {
        self.free = self
            .free
            .iter()
            .flat_map(|&(low, high)| [(low, high.min(first)), (low.max(end), high)])
            .filter(|(low, high)| low < high)
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{Device, only as function};
    use super::*;
    use crate::acpi::Ecam;

    fn memory(addr: u64, len: u64, prefetchable: bool) -> Option<Bar> {
        Some(Bar::Memory { addr, len, prefetchable })
    }

    #[test]
    fn gives_addresses_to_registers_without_one() {
        let device = Device::new(0x1AF4, 0x1041)
            .bar(0, 0x0000_0001, 0xFFFF_FFE1)
            .bar(1, 0, 0xFFFF_F000)
            .bar(4, 0x0000_000C, 0xFFFF_C00C)
            .bar(5, 0, 0xFFFF_FFFF);
        let function = function(device);
        let acpi = Info { pci_windows: alloc::vec![(0xC000_0000, 0xDFFF_FFFF)], ..Info::default() };
        assign(&acpi, &[function]);
        assert_eq!(function.bar(0), None);
        assert_eq!(function.bar(1), memory(0xC000_0000, 0x1000, false));
        assert_eq!(function.bar(4), memory(0xC000_4000, 0x4000, true));
    }

    #[test]
    fn leaves_a_function_alone_that_decodes_already() {
        let function = function(Device::new(1, 1).bar(0, 0, 0xFFFF_F000));
        function.enable();
        assign(&Info::default(), &[function]);
        assert_eq!(function.bar(0), None);
    }

    #[test]
    fn hands_out_nothing_that_is_taken() {
        let taken = function(Device::new(1, 1).bar(0, 0xC000_0000, 0xF000_0000));
        let ecam = alloc::vec![Ecam { base: 0xD000_0000, segment: 0, first_bus: 0, last_bus: 15 }];
        let pci_windows = alloc::vec![(0x1000_0000, 0x1000_0FFF), (0xC000_0000, 0xD10F_FFFF)];
        let mut pool = Pool::new(&Info { ecam, pci_windows, ..Info::default() });
        pool.withhold(&taken);
        assert_eq!(pool.take(1 << 20), Some(0xD100_0000));
        assert_eq!(pool.take(4096), Some(0x1000_0000));
        assert_eq!(pool.take(1), None);
    }

    #[test]
    fn keeps_clear_of_what_a_bridge_passes_on() {
        let mut bridge = Device::bridge(0, 1, 1);
        bridge.config[0x20..0x24].copy_from_slice(&[0x00, 0xE0, 0xF0, 0xEF]);
        let mut pool = Pool::new(&Info::default());
        pool.withhold(&function(bridge));
        assert_eq!(pool.take(4096), Some(0xF000_0000));
    }
}
