//! Linux's 64-bit boot protocol: the page of `boot_params` (Linux, `Documentation/arch/x86/boot.rst` and `zero-page.rst`).

use crate::start_info::{self, Bad, Kind, Memory, StartInfo, u32_at, u64_at};
use core::ops::Range;

/// Offsets in `boot_params`.
const LEN: u64 = 4096;
const RSDP: usize = 0x070;
const RAMDISK_HIGH: usize = 0x0c0;
const RAMDISK_SIZE_HIGH: usize = 0x0c4;
const COMMAND_LINE_HIGH: usize = 0x0c8;
const MAP_ENTRIES: usize = 0x1e8;
const MAGIC: usize = 0x202;
const RAMDISK: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21c;
const COMMAND_LINE: usize = 0x228;
const MAP: usize = 0x2d0;

const HDRS: u32 = u32::from_le_bytes(*b"HdrS");
/// Bytes of `boot_e820_entry`, and how many there are at most.
const AREA: usize = 20;
const MAX_AREAS: usize = 128;
/// `E820_TYPE_RAM`.
const RAM: u32 = 1;

/// Reads the page at physical address `at`.
pub fn parse(at: u64, memory: Memory) -> Result<StartInfo, Bad> {
    let page = memory(at, LEN).ok_or(Bad::Unreadable)?;
    if u32_at(page, MAGIC) != HDRS {
        return Err(Bad::Magic);
    }
    let entries = usize::from(page[MAP_ENTRIES]).min(MAX_AREAS);
    let ram = start_info::ram(page[MAP..MAP + entries * AREA].chunks_exact(AREA).map(area));
    if ram.as_slice().is_empty() {
        return Err(Bad::NoMemoryMap);
    }
    let wide = |low, high| u64::from(u32_at(page, low)) | u64::from(u32_at(page, high)) << 32;
    let mut start = StartInfo::new(ram);
    start.loader.push(at..at + LEN);
    start.set_command_line(wide(COMMAND_LINE, COMMAND_LINE_HIGH), memory);
    let ramdisk = wide(RAMDISK, RAMDISK_HIGH);
    if ramdisk != 0 {
        start.add_module(ramdisk, wide(RAMDISK_SIZE, RAMDISK_SIZE_HIGH), memory);
    }
    start.set_rsdp(u64_at(page, RSDP));
    Ok(start)
}

fn area(entry: &[u8]) -> (Range<u64>, Kind) {
    let from = u64_at(entry, 0);
    let kind = if u32_at(entry, 16) == RAM { Kind::Ram } else { Kind::Other };
    (from..from.saturating_add(u64_at(entry, 8)), kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: usize = 0x7000;

    /// Memory with a page of boot_params that Firecracker could have made.
    fn memory() -> Vec<u8> {
        let mut all = vec![0; 0x4_0000];
        let mut put = |offset: usize, bytes: &[u8]| {
            all[PAGE + offset..PAGE + offset + bytes.len()].copy_from_slice(bytes);
        };
        put(MAGIC, b"HdrS");
        put(MAP_ENTRIES, &[3]);
        for (i, (from, len, kind)) in
            [(0u64, 0x9_fc00u64, 1u32), (0xe_0000, 0x2_0000, 2), (0x10_0000, 0x7f0_0000, 1)]
                .iter()
                .enumerate()
        {
            put(MAP + i * AREA, &from.to_le_bytes());
            put(MAP + i * AREA + 8, &len.to_le_bytes());
            put(MAP + i * AREA + 16, &kind.to_le_bytes());
        }
        put(COMMAND_LINE, &0x2_0000u32.to_le_bytes());
        put(RAMDISK, &0x3_0000u32.to_le_bytes());
        put(RAMDISK_SIZE, &0x123u32.to_le_bytes());
        put(RSDP, &0xe_0000u64.to_le_bytes());
        all[0x2_0000..0x2_000a].copy_from_slice(b"log=debug\0");
        all
    }

    fn parsed(all: &[u8]) -> Result<StartInfo, Bad> {
        parse(PAGE as u64, &|at, len| all.get(at as usize..at.checked_add(len)? as usize))
    }

    #[test]
    fn finds_all_that_a_loader_leaves() {
        let start = parsed(&memory()).unwrap();
        assert_eq!(start.ram.as_slice(), [0..0x9_fc00, 0x10_0000..0x800_0000]);
        assert_eq!(start.command_line, Some(0x2_0000..0x2_0009));
        assert_eq!(start.modules.as_slice(), [Some(0x3_0000..0x3_0123)]);
        assert_eq!(start.rsdp, Some(0xe_0000));
        let loader = [0x7000..0x8000, 0x2_0000..0x2_0009, 0x3_0000..0x3_0123, 0xe_0000..0xe_0024];
        assert_eq!(start.loader.as_slice(), loader);
    }

    #[test]
    fn a_ramdisk_above_memory_is_a_module_that_cannot_be_read() {
        let mut all = memory();
        all[PAGE + RAMDISK_HIGH] = 1;
        assert_eq!(parsed(&all).unwrap().modules.as_slice(), [None]);
        all[PAGE + RAMDISK_HIGH] = 0;
        all[PAGE + RAMDISK..][..4].fill(0);
        assert!(parsed(&all).unwrap().modules.as_slice().is_empty());
    }

    #[test]
    fn says_what_is_wrong() {
        let good = memory();
        assert_eq!(parsed(&good[..PAGE + 100]).unwrap_err(), Bad::Unreadable);
        let mut bad = good.clone();
        bad[PAGE + MAGIC] = 0;
        assert_eq!(parsed(&bad).unwrap_err(), Bad::Magic);
        let mut bad = good;
        bad[PAGE + MAP_ENTRIES] = 0;
        assert_eq!(parsed(&bad).unwrap_err(), Bad::NoMemoryMap);
    }

    proptest! {
        /// Any page at all: no panic, no endless loop.
        #[test]
        fn any_page_is_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 4096)) {
            let mut all = memory();
            all[PAGE..PAGE + 4096].copy_from_slice(&bytes);
            all[PAGE + MAGIC..][..4].copy_from_slice(b"HdrS");
            let _ = parsed(&all);
        }
    }
}
