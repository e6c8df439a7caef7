//! From the RSDP to checked tables: every length is bounded and every checksum summed before a byte is used
//! (ACPI 6.5, 5.2.5 to 5.2.8).

/// Longest table taken: real ones stay far below, a wild length must not walk over all of memory.
const MAX_TABLE: usize = 4 << 20;
/// Signature, length, revision, checksum and the OEM's fields.
pub(super) const HEADER: usize = 36;
/// Tables a root may list.
const MAX_ENTRIES: usize = 256;
const RSDP_V1: usize = 20;
const RSDP_V2: usize = 36;

/// Physical memory as the parser sees it.
pub trait Memory<'a> {
    /// `len` bytes at `address`; `None` if they cannot be read.
    fn bytes(&self, address: u64, len: usize) -> Option<&'a [u8]>;
}

/// The machine's own memory.
#[cfg(feature = "image")]
pub(crate) struct Physical;

#[cfg(feature = "image")]
impl Memory<'static> for Physical {
    fn bytes(&self, address: u64, len: usize) -> Option<&'static [u8]> {
        crate::paging::firmware(address, len)
    }
}

/// Why a table was passed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The address is not readable memory.
    Unreadable(u64),
    /// The root pointer at this address lacks its signature.
    NotRoot(u64),
    /// The table at this address states an impossible length.
    Length(u64),
    /// The bytes at this address do not sum to zero.
    Checksum(u64),
}

impl core::fmt::Display for Problem {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unreadable(address) => write!(f, "table at {address:#x} is outside memory"),
            Self::NotRoot(address) => write!(f, "no RSDP at {address:#x}"),
            Self::Length(address) => write!(f, "table at {address:#x} has an impossible length"),
            Self::Checksum(address) => write!(f, "table at {address:#x} has a bad checksum"),
        }
    }
}

/// The RSDT or XSDT.
pub(super) struct Root<'a> {
    body: &'a [u8],
    entry_size: usize,
}

impl<'a> Root<'a> {
    /// Addresses of the tables.
    pub(super) fn entries(&self) -> impl Iterator<Item = u64> + 'a {
        self.body
            .chunks_exact(self.entry_size)
            .take(MAX_ENTRIES)
            .map(|entry| entry.iter().rev().fold(0, |address, &byte| address << 8 | u64::from(byte)))
    }
}

/// A table whose length and checksum hold.
pub(super) struct Table<'a> {
    pub(super) signature: [u8; 4],
    /// The whole table, header included.
    pub(super) bytes: &'a [u8],
}

impl<'a> Table<'a> {
    /// What follows the header.
    pub(super) fn body(&self) -> &'a [u8] {
        self.bytes.get(HEADER..).unwrap_or(&[])
    }
}

/// Looks for the RSDP on the 16-byte boundaries of 0xE0000 to 0xFFFFF (ACPI 6.5, 5.2.5.1).
pub(super) fn scan<'a, M: Memory<'a>>(memory: &M) -> Option<u64> {
    const BIOS: u64 = 0xE_0000;
    let area = memory.bytes(BIOS, 0x2_0000)?;
    let at = (0..area.len()).step_by(16).find(|&at| area.get(at..).is_some_and(is_rsdp))?;
    Some(BIOS + at as u64)
}

/// Finds the XSDT, or the RSDT where there is none or it is broken.
pub(super) fn root<'a, M: Memory<'a>>(memory: &M, rsdp: u64) -> Result<Root<'a>, Problem> {
    let first = memory.bytes(rsdp, RSDP_V1).ok_or(Problem::Unreadable(rsdp))?;
    if !first.starts_with(b"RSD PTR ") {
        return Err(Problem::NotRoot(rsdp));
    }
    if !is_rsdp(first) {
        return Err(Problem::Checksum(rsdp));
    }
    let revision = first.get(15).copied().unwrap_or(0);
    if revision >= 2
        && let Some(whole) = memory.bytes(rsdp, RSDP_V2)
        && sums_to_zero(whole)
        && let Some(xsdt) = u64_at(whole, 24).filter(|&address| address != 0)
        && let Ok(table) = table(memory, xsdt)
        && &table.signature == b"XSDT"
    {
        return Ok(Root { body: table.body(), entry_size: 8 });
    }
    let rsdt = u64::from(u32_at(first, 16).unwrap_or(0));
    let table = table(memory, rsdt)?;
    if &table.signature != b"RSDT" {
        return Err(Problem::NotRoot(rsdt));
    }
    Ok(Root { body: table.body(), entry_size: 4 })
}

/// Reads the table at `address`.
pub(super) fn table<'a, M: Memory<'a>>(memory: &M, address: u64) -> Result<Table<'a>, Problem> {
    let header = memory.bytes(address, HEADER).ok_or(Problem::Unreadable(address))?;
    let (Some(signature), Some(len)) = (header.first_chunk::<4>(), u32_at(header, 4)) else {
        return Err(Problem::Unreadable(address));
    };
    let len = len as usize;
    if !(HEADER..=MAX_TABLE).contains(&len) {
        return Err(Problem::Length(address));
    }
    let bytes = memory.bytes(address, len).ok_or(Problem::Length(address))?;
    if !sums_to_zero(bytes) {
        return Err(Problem::Checksum(address));
    }
    Ok(Table { signature: *signature, bytes })
}

fn is_rsdp(bytes: &[u8]) -> bool {
    bytes.starts_with(b"RSD PTR ") && bytes.get(..RSDP_V1).is_some_and(sums_to_zero)
}

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte)) == 0
}

/// Little-endian field of a table; `None` past its end.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|&field| u16::from_le_bytes(field))
}

/// Little-endian field of a table; `None` past its end.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|&field| u32::from_le_bytes(field))
}

/// Little-endian field of a table; `None` past its end.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|&field| u64::from_le_bytes(field))
}

/// A table with a right length and checksum, for tests.
#[cfg(test)]
pub(super) fn build(signature: &[u8; 4], body: &[u8]) -> alloc::vec::Vec<u8> {
    let mut table = alloc::vec::Vec::from(*signature);
    table.extend(((HEADER + body.len()) as u32).to_le_bytes());
    table.resize(HEADER, 0);
    table.extend(body);
    fix_checksum(&mut table);
    table
}

/// Makes a table's bytes sum to zero, for tests.
#[cfg(test)]
pub(super) fn fix_checksum(table: &mut [u8]) {
    table[9] = 0;
    table[9] = table.iter().fold(0_u8, |sum, &byte| sum.wrapping_sub(byte));
}
