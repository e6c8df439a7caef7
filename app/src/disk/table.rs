//! Where a disk's partitions are: GPT (UEFI 2.10 §5.3), else MBR (§5.2).

use super::{Bytes, u32_at, u64_at};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// Entries that are looked at.
const MAX_PARTITIONS: u32 = 128;
/// Of an MBR: its four entries, their length, their types that hold no file system.
const ENTRIES: usize = 446;
const ENTRY: usize = 16;
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// The type that covers a disk with a GPT.
const PROTECTIVE: u8 = 0xee;

/// Numbers and places of the partitions, in bytes. Empty if there is no table.
///
/// # Errors
/// The disk cannot be read, or its table is broken: what, for people.
pub(super) fn partitions(disk: &mut dyn Bytes, block_size: u32) -> Result<Vec<(u32, Range<u64>)>, String> {
    let mut sector = [0; 512];
    if disk.len() < 512 {
        return Ok(Vec::new());
    }
    disk.read(0, &mut sector)?;
    if sector[510..] != [0x55, 0xaa] {
        return Ok(Vec::new());
    }
    let entries = || (1..).zip(sector[ENTRIES..510].chunks_exact(ENTRY));
    if entries().any(|(_, entry)| entry[4] == PROTECTIVE) {
        return gpt(disk, block_size);
    }
    let place = |(number, entry): (u32, &[u8])| {
        let (start, len) = (u64::from(u32_at(entry, 8)), u64::from(u32_at(entry, 12)));
        let used = entry[4] != 0 && !EXTENDED.contains(&entry[4]) && len != 0;
        let size = u64::from(block_size);
        used.then(|| (number, start * size..(start + len) * size))
    };
    Ok(entries().filter_map(place).filter(|(_, place)| place.end <= disk.len()).collect())
}

fn gpt(disk: &mut dyn Bytes, block_size: u32) -> Result<Vec<(u32, Range<u64>)>, String> {
    let size = u64::from(block_size);
    let mut header = [0; 92];
    disk.read(size, &mut header)?;
    let (table, count, len) = (u64_at(&header, 72), u32_at(&header, 80), u32_at(&header, 84));
    if &header[..8] != b"EFI PART" || !(128..=4096).contains(&len) {
        return Err("its partition table is broken: there is no GPT where its MBR promises one".into());
    }
    let mut found = Vec::new();
    let mut entry = [0; 48];
    for number in 0..count.min(MAX_PARTITIONS) {
        let at = table.checked_mul(size).and_then(|at| at.checked_add(u64::from(number) * u64::from(len)));
        disk.read(at.unwrap_or(u64::MAX), &mut entry)?;
        let (first, last) = (u64_at(&entry, 32), u64_at(&entry, 40));
        let end = last.checked_add(1).and_then(|end| end.checked_mul(size)).filter(|&end| end <= disk.len());
        // A type of zeros is an entry not in use.
        if let Some(end) = end
            && entry[..16] != [0; 16]
            && first <= last
        {
            found.push((number + 1, first * size..end));
        }
    }
    Ok(found)
}
