//! The OEM strings (type 11) of the machine's SMBIOS tables (DMTF DSP0134 3.7): texts that a VMM's command line gives to
//! its guest. Read at boot.
//!
//! Every length is bounded before a byte is used. What does not hold ends the walk: tables of real machines have flaws,
//! and a router needs nothing of them to run.

use crate::acpi::Memory;
use alloc::vec::Vec;
use core::fmt;

/// Where firmware leaves an entry point, on a 16-byte boundary (§5.2.1).
const AREA: u64 = 0xF_0000;
const AREA_LEN: usize = 0x1_0000;
/// Bytes of an entry point of 64 bits, and of one of 32.
const ENTRY_64: usize = 0x18;
const ENTRY_32: usize = 0x1F;
/// Longest table that is read.
const MAX_TABLE: usize = 8 << 20;
/// Most strings that are kept.
const MAX_STRINGS: usize = 256;

const OEM_STRINGS: u8 = 11;
const END_OF_TABLE: u8 = 127;

/// What ended the walk too early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The table, at this address, is not readable memory.
    Unreadable(u64),
    /// The structure at this offset reaches beyond the table, or is shorter than its header.
    Cut(usize),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(address) => write!(f, "the table at {address:#x} is outside memory"),
            Self::Cut(offset) => {
                write!(f, "the structure at offset {offset:#x} is cut off, the rest is not read")
            }
        }
    }
}

/// The OEM strings in their order, without their final zeros, and what kept us from reading all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Strings<'a> {
    /// The strings; their encoding is their author's affair.
    pub list: Vec<&'a [u8]>,
    /// Why there may be more.
    pub problem: Option<Problem>,
}

/// The machine's OEM strings.
#[cfg(feature = "image")]
pub fn oem_strings() -> Strings<'static> {
    if may_exist() { read(&crate::acpi::Physical) } else { Strings::default() }
}

/// Whether this machine has tables.
#[cfg(feature = "image")]
pub fn is_present() -> bool {
    may_exist() && entry_point(&crate::acpi::Physical).is_some()
}

/// Firmware may have left tables: not under Xen, whose PVH guests get none, and not where there are no ACPI tables either.
#[cfg(feature = "image")]
fn may_exist() -> bool {
    !crate::xen::present() && crate::acpi::get().present
}

/// The host's tables are its own affair.
#[cfg(not(feature = "image"))]
pub fn oem_strings() -> Strings<'static> {
    Strings::default()
}

/// The host's tables are its own affair.
#[cfg(not(feature = "image"))]
pub fn is_present() -> bool {
    false
}

/// The OEM strings of the tables whose entry point a scan of `memory` finds; the 64-bit one counts first.
pub fn read<'a, M: Memory<'a>>(memory: &M) -> Strings<'a> {
    let Some((address, len)) = entry_point(memory) else { return Strings::default() };
    match memory.bytes(address, len.min(MAX_TABLE)) {
        Some(table) => walk(table),
        None => Strings { list: Vec::new(), problem: Some(Problem::Unreadable(address)) },
    }
}

/// Address and length of the table.
fn entry_point<'a, M: Memory<'a>>(memory: &M) -> Option<(u64, usize)> {
    let area = memory.bytes(AREA, AREA_LEN)?;
    let places = || (0..area.len()).step_by(16).filter_map(|at| area.get(at..));
    places().find_map(entry_64).or_else(|| places().find_map(entry_32))
}

/// §5.2.2.
fn entry_64(bytes: &[u8]) -> Option<(u64, usize)> {
    let entry = checked(bytes.strip_prefix(b"_SM3_").and(Some(bytes))?, 6, ENTRY_64)?;
    let (len, address) = (field::<4>(entry, 0x0C)?, field::<8>(entry, 0x10)?);
    Some((u64::from_le_bytes(address), u32::from_le_bytes(len) as usize))
}

/// §5.2.1: an outer part, and one of its own checksum that names the table.
fn entry_32(bytes: &[u8]) -> Option<(u64, usize)> {
    const INNER: usize = 0x10;
    let entry = checked(bytes.strip_prefix(b"_SM_").and(Some(bytes))?, 5, ENTRY_32)?;
    let inner =
        entry.get(INNER..ENTRY_32).filter(|inner| inner.starts_with(b"_DMI_") && sums_to_zero(inner))?;
    let (len, address) = (field::<2>(inner, 0x06)?, field::<4>(inner, 0x08)?);
    Some((u32::from_le_bytes(address).into(), u16::from_le_bytes(len).into()))
}

/// The entry point, as long as its byte at `len_at` says, if that is at least `least` and all sums to zero.
fn checked(bytes: &[u8], len_at: usize, least: usize) -> Option<&[u8]> {
    let len = usize::from(*bytes.get(len_at)?);
    // SMBIOS 2.1 had a misprint: 0x1E for what is 0x1F bytes long (§5.2.1, note on "Entry Point Length").
    let len = if least == ENTRY_32 && len == ENTRY_32 - 1 { ENTRY_32 } else { len };
    bytes.get(..len).filter(|entry| len >= least && sums_to_zero(entry))
}

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte)) == 0
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// §6.1: each structure has type, length of its formatted part and handle, then strings, then one more zero.
fn walk(table: &[u8]) -> Strings<'_> {
    const HEADER: u8 = 4;
    let mut found = Strings::default();
    let mut rest = table;
    while let [kind, len, ..] = *rest {
        let cut = Some(Problem::Cut(table.len() - rest.len()));
        if kind == END_OF_TABLE {
            break;
        }
        let Some(mut strings) = rest.get(len.into()..).filter(|_| len >= HEADER) else {
            found.problem = cut;
            break;
        };
        // Without any string there are two zeros all the same (§6.1.3).
        if let [0, 0, ..] = strings {
            rest = strings.get(2..).unwrap_or(&[]);
            continue;
        }
        loop {
            let Some(end) = strings.iter().position(|&byte| byte == 0) else {
                found.problem = cut;
                return found;
            };
            let (string, after) = strings.split_at(end);
            strings = after.get(1..).unwrap_or(&[]);
            if string.is_empty() {
                break;
            }
            if kind == OEM_STRINGS && found.list.len() < MAX_STRINGS {
                found.list.push(string);
            }
        }
        rest = strings;
    }
    found
}

#[cfg(test)]
mod tests;
