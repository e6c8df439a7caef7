//! The boot info of Hermit's loader ABI (`hermit_entry::boot_info::RawBootInfo`, entry version 4) and the
//! device tree behind it, as uhyve fills them.

use crate::start_info::{self, Areas, Bad, Kind, MAX_COMMAND_LINE, Memory, StartInfo, u32_at, u64_at};
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};

/// Bytes of `RawBootInfo`, and what is read of it by offset: whatever lies there, nothing is believed to be a
/// Rust enum.
const LEN: u64 = 128;
const DEVICE_TREE: usize = 24;
const IMAGE_START: usize = 32;
const PLATFORM: usize = 80;
/// `PlatformInfo`'s number for uhyve.
const UHYVE: u32 = 1;

/// uhyve's are 16 KiB at most.
const MAX_DEVICE_TREE: u64 = 1 << 20;

/// Whether the boot info at `at` is uhyve's.
pub(crate) fn is_uhyve(at: u64, memory: Memory) -> bool {
    at.is_multiple_of(8) && memory(at, LEN).is_some_and(|info| u32_at(info, PLATFORM) == UHYVE)
}

/// Reads the boot info at physical address `at`.
pub(crate) fn parse(at: u64, memory: Memory) -> Result<StartInfo, Bad> {
    if !is_uhyve(at, memory) {
        return Err(Bad::NotUhyve);
    }
    let info = memory(at, LEN).ok_or(Bad::Unreadable)?;
    let (tree_at, image_start) = (u64_at(info, DEVICE_TREE), u64_at(info, IMAGE_START));
    // The header's second word is the tree's length (Devicetree Specification 0.4, §5.2).
    let header = memory(tree_at, 8).ok_or(Bad::Unreadable)?;
    let len = u64::from(u32_at(header, 4).swap_bytes());
    let bytes = memory(tree_at, len.min(MAX_DEVICE_TREE)).ok_or(Bad::Unreadable)?;
    let tree = Fdt::new(bytes).map_err(|_| Bad::DeviceTree)?;

    let ram = ram(tree.root());
    if ram.as_slice().is_empty() {
        return Err(Bad::NoMemoryMap);
    }
    let mut start = StartInfo::new(ram);
    // Before the image: boot info and device tree, and the page tables and GDT on which the other CPUs wait.
    start.loader.push(0..image_start);
    start.loader.push(at..at + LEN);
    start.loader.push(tree_at..tree_at + len);
    if let Some(chosen) = tree.find_node("/chosen") {
        let number = |name| chosen.property(name)?.value_as::<u64>().ok();
        // A whole Hermit image, which uhyve offers as files besides; it is mapped read-only.
        if let (Some(from), Some(to)) = (number("linux,initrd-start"), number("linux,initrd-end")) {
            start.loader.push(from..to);
        }
        let text = chosen.property("bootargs").and_then(|text| text.value_as::<&str>().ok());
        start.command_line = text.filter(|text| !text.is_empty()).map(|text| {
            let offset = text.as_ptr() as u64 - bytes.as_ptr() as u64;
            tree_at + offset..tree_at + offset + text.len().min(MAX_COMMAND_LINE) as u64
        });
    }
    let cpus = tree.find_node("/cpus").map(|cpus| cpus.children().filter(is_cpu).count());
    start.cpus = Some(cpus.unwrap_or(0).max(1) as u32);
    let khz = tree.find_node("/hermit,tsc").and_then(|tsc| tsc.property("khz")?.value_as::<u32>().ok());
    start.tsc_khz = khz.filter(|&khz| khz != 0);
    Ok(start)
}

fn is_cpu(node: &FdtNode) -> bool {
    node.name_without_address() == "cpu"
}

fn ram(root: FdtNode) -> Areas {
    let memory = root.children().filter(|node| node.name_without_address() == "memory");
    let mut areas = Areas::new();
    for area in memory.filter_map(|node| node.reg().ok().flatten()).flatten() {
        if let (Ok(from), Ok(len)) = (area.address::<u64>(), area.size::<u64>()) {
            areas.push(from..from.saturating_add(len));
        }
    }
    start_info::ram(areas.as_slice().iter().map(|area| (area.clone(), Kind::Ram)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hermit_entry::boot_info::{BootInfo, HardwareInfo, LoadInfo, PlatformInfo, RawBootInfo};
    use proptest::prelude::*;
    use std::num::{NonZeroU32, NonZeroU64};
    use vm_fdt::FdtWriter;

    const INFO: u64 = 0x5000;
    const TREE: u64 = 0x1000;
    const IMAGE: u64 = 0x10_0000;
    const SIZE: u64 = 0x1000_0000;

    /// A device tree as uhyve 0.10 writes it.
    fn tree(memory: &[(u64, u64)], bootargs: &str, cpus: u32) -> Vec<u8> {
        let mut writer = FdtWriter::new().unwrap();
        let root = writer.begin_node("").unwrap();
        writer.property_string("compatible", "hermit,uhyve").unwrap();
        writer.property_u32("#address-cells", 2).unwrap();
        writer.property_u32("#size-cells", 2).unwrap();
        for (from, len) in memory {
            let node = writer.begin_node(&format!("memory@{from:x}")).unwrap();
            writer.property_string("device_type", "memory").unwrap();
            writer.property_array_u64("reg", &[*from, *len]).unwrap();
            writer.end_node(node).unwrap();
        }
        let all = writer.begin_node("cpus").unwrap();
        writer.property_u32("#address-cells", 1).unwrap();
        writer.property_u32("#size-cells", 0).unwrap();
        for id in 0..cpus {
            let cpu = writer.begin_node(&format!("cpu@{id}")).unwrap();
            writer.property_string("device_type", "cpu").unwrap();
            writer.end_node(cpu).unwrap();
        }
        writer.end_node(all).unwrap();
        let tsc = writer.begin_node("hermit,tsc").unwrap();
        writer.property_u32("khz", 2_596_000).unwrap();
        writer.end_node(tsc).unwrap();
        let chosen = writer.begin_node("chosen").unwrap();
        writer.property_string("bootargs", bootargs).unwrap();
        writer.property_u64("linux,initrd-start", 0x40_0000).unwrap();
        writer.property_u64("linux,initrd-end", 0x40_1234).unwrap();
        writer.end_node(chosen).unwrap();
        writer.end_node(root).unwrap();
        writer.finish().unwrap()
    }

    /// The boot info that uhyve's own crate makes, as it lies in memory.
    fn info(platform_info: PlatformInfo) -> Vec<u8> {
        let raw = RawBootInfo::from(BootInfo {
            hardware_info: HardwareInfo {
                phys_addr_range: 0..SIZE,
                serial_port_base: None,
                device_tree: NonZeroU64::new(TREE),
            },
            load_info: LoadInfo { kernel_image_addr_range: IMAGE..2 * IMAGE, tls_info: None },
            platform_info,
        });
        assert_eq!(size_of_val(&raw) as u64, LEN);
        let start = (&raw const raw).cast::<u8>();
        // SAFETY: `at` is below the value's size. Padding is read as volatile bytes, whatever it holds.
        (0..LEN as usize).map(|at| unsafe { start.wrapping_add(at).read_volatile() }).collect()
    }

    fn uhyve() -> Vec<u8> {
        info(PlatformInfo::Uhyve {
            has_pci: true,
            num_cpus: NonZeroU64::MIN,
            cpu_freq: NonZeroU32::new(1),
            boot_time: time::OffsetDateTime::UNIX_EPOCH,
        })
    }

    fn parsed(info: &[u8], tree: &[u8]) -> Result<StartInfo, Bad> {
        let mut all = vec![0; 0x1_0000];
        all[TREE as usize..][..tree.len()].copy_from_slice(tree);
        all[INFO as usize..][..info.len()].copy_from_slice(info);
        parse(INFO, &|at, len| all.get(at as usize..at.checked_add(len)? as usize))
    }

    #[test]
    fn finds_all_that_uhyve_leaves() {
        let tree = tree(&[(0, SIZE)], "log=debug -- weir.hostname=r1", 4);
        let start = parsed(&uhyve(), &tree).unwrap();
        assert_eq!(start.ram.as_slice(), std::slice::from_ref(&(0..SIZE)));
        assert_eq!((start.cpus, start.tsc_khz, start.rsdp), (Some(4), Some(2_596_000), None));
        let text = start.command_line.unwrap();
        let text = &tree[(text.start - TREE) as usize..(text.end - TREE) as usize];
        assert_eq!(text, b"log=debug -- weir.hostname=r1");
        let loader = start.loader.as_slice();
        for needed in [0..IMAGE, INFO..INFO + LEN, TREE..TREE + tree.len() as u64, 0x40_0000..0x40_1234] {
            assert!(loader.contains(&needed), "{needed:x?} in {loader:x?}");
        }
    }

    #[test]
    fn cuts_a_long_command_line() {
        for (len, cut) in
            [(MAX_COMMAND_LINE - 1, false), (MAX_COMMAND_LINE, true), (MAX_COMMAND_LINE + 9, true)]
        {
            let start = parsed(&uhyve(), &tree(&[(0, SIZE)], &"x".repeat(len), 1)).unwrap();
            let line = start.command_line.clone().unwrap();
            let kept = len.min(MAX_COMMAND_LINE) as u64;
            assert_eq!((line.end - line.start, start.command_line_is_cut()), (kept, cut));
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let good = tree(&[(0, SIZE)], "", 1);
        assert_eq!(parsed(&uhyve(), &good).unwrap().command_line, None);
        assert_eq!(parsed(&info(PlatformInfo::Fdt), &good).unwrap_err(), Bad::NotUhyve);
        assert_eq!(parsed(&[0; 128], &good).unwrap_err(), Bad::NotUhyve);
        assert_eq!(parsed(&uhyve(), &tree(&[], "", 1)).unwrap_err(), Bad::NoMemoryMap);
        assert_eq!(parsed(&uhyve(), &good[4..]).unwrap_err(), Bad::DeviceTree);
        let mut lost = uhyve();
        lost[DEVICE_TREE + 5] = 1;
        assert_eq!(parsed(&lost, &good).unwrap_err(), Bad::Unreadable);
    }

    proptest! {
        /// Any tree at all: no panic, no endless loop.
        #[test]
        fn any_tree_is_parsed_or_refused(
            at in 0usize..600,
            bytes in proptest::collection::vec(any::<u8>(), 1..24),
        ) {
            let mut tree = tree(&[(0, SIZE)], "a b c", 2);
            let at = at % tree.len();
            let end = (at + bytes.len()).min(tree.len());
            tree[at..end].copy_from_slice(&bytes[..end - at]);
            let _ = parsed(&uhyve(), &tree);
        }
    }
}
