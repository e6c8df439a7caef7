//! virtio-mmio devices: no bus lists them, so the command line or ACPI does.

use crate::acpi::{self, Polarity, Trigger};
use alloc::vec::Vec;
use spin::Once;

/// A device with one window of registers and one interrupt line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MmioDevice {
    /// Physical address of its registers; map them by [`mmio::Window`](crate::mmio::Window).
    pub base: u64,
    /// Bytes.
    pub len: u64,
    /// Global system interrupt; lead it by [`ioapic::route`](crate::ioapic::route).
    pub gsi: u32,
    /// How the line signals.
    pub trigger: Trigger,
    /// Its active level.
    pub polarity: Polarity,
}

/// `[I]` Set once by [`init`].
static NAMED: Once<Vec<MmioDevice>> = Once::new();

/// Takes the `virtio_mmio.device=` words of the command line. Boot CPU, once.
pub fn init(command_line: &str) {
    NAMED.call_once(|| {
        let words = command_line.split_ascii_whitespace();
        let specs = words.filter_map(|word| word.strip_prefix("virtio_mmio.device="));
        specs
            .filter_map(|spec| {
                let device = parse(spec);
                if device.is_none() {
                    crate::warn!("virtio_mmio.device={spec}: not <size>@<address>:<interrupt>");
                }
                device
            })
            .collect()
    });
}

/// All virtio-mmio devices: the command line's, then those of ACPI that it does not name. Whether a device
/// really is there its registers tell.
pub fn virtio() -> Vec<MmioDevice> {
    let mut devices = NAMED.get().cloned().unwrap_or_default();
    for device in &acpi::get().virtio_mmio {
        if devices.iter().all(|known| known.base != device.base) {
            devices.push(*device);
        }
    }
    devices
}

/// `<size>@<address>:<interrupt>[:<id>]`, as Linux's `virtio_mmio.device` takes it: decimal or `0x`
/// hexadecimal, the size with an optional `K` or `M`. The line is taken as edge-triggered, active high.
fn parse(spec: &str) -> Option<MmioDevice> {
    let (size, rest) = spec.split_once('@')?;
    let mut parts = rest.split(':');
    let (base, gsi, id) = (parts.next()?, parts.next()?, parts.next());
    if parts.next().is_some() || id.is_some_and(|id| number(id).is_none()) {
        return None;
    }
    let (size, unit) = match size.strip_suffix(['k', 'K']) {
        Some(size) => (size, 1 << 10),
        None => size.strip_suffix(['m', 'M']).map_or((size, 1), |size| (size, 1 << 20)),
    };
    let len = number(size)?.checked_mul(unit)?;
    let (base, gsi) = (number(base)?, u32::try_from(number(gsi)?).ok()?);
    if len == 0 || base == 0 || base.checked_add(len).is_none() {
        return None;
    }
    Some(MmioDevice { base, len, gsi, trigger: Trigger::Edge, polarity: Polarity::High })
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn takes_what_qemu_and_firecracker_write() {
        let qemu = parse("512@0xfeb00e00:12").unwrap();
        assert_eq!((qemu.base, qemu.len, qemu.gsi), (0xFEB0_0E00, 512, 12));
        let firecracker = parse("4K@0xd0000000:5").unwrap();
        assert_eq!((firecracker.base, firecracker.len, firecracker.gsi), (0xD000_0000, 4096, 5));
        assert_eq!(parse("0x200@4273995776:5:7").unwrap().base, 4_273_995_776);
    }

    #[test]
    fn refuses_everything_else() {
        let bad =
            ["", "@", "512", "512@", "512@0x1000", "512@0x1000:", "512@:5", "0@0x1000:5", "512@0:5", "x@y:z"];
        let more = ["512@0x1000:5:6:7", "512@0x1000:5:x", "512@0x1000:4294967296", "-1@0x1000:5"];
        let huge = ["99999999999999M@0x1000:5", "2@0xffffffffffffffff:5", "18446744073709551616@0x1000:5"];
        for spec in bad.into_iter().chain(more).chain(huge) {
            assert_eq!(parse(spec), None, "{spec}");
        }
    }

    proptest! {
        #[test]
        fn reads_back_what_is_written(len in 1_u64..1 << 40, base in 1_u64..1 << 60, gsi: u32) {
            let device = parse(&format!("{len}@{base:#x}:{gsi}")).unwrap();
            prop_assert_eq!((device.len, device.base, device.gsi), (len, base, gsi));
        }

        #[test]
        fn never_panics(spec in ".{0,40}") {
            let _ = parse(&spec);
        }
    }
}
