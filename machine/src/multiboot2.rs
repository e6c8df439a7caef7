//! What a Multiboot2 loader such as GRUB hands over (Multiboot2 Specification 2.0 §3.6): a chain of tags in one block.
//! [`boot`](crate::boot) reads it once; the header by which the loader knows the image is in `multiboot2.s`.

use crate::start_info::{Bad, Kind, Memory, StartInfo, ram, u32_at, u64_at};

/// Total size and a reserved word in front of the tags (§3.6.1).
const HEADER: u64 = 8;
/// Type and size at the start of each tag.
const TAG: usize = 8;
/// A block longer than that is no loader's.
const MAX_LEN: u64 = 1 << 20;

/// Tag types (§3.6).
const END: u32 = 0;
const COMMAND_LINE: u32 = 1;
const MODULE: u32 = 3;
const MEMORY_MAP: u32 = 6;
const ACPI_OLD: u32 = 14;
const ACPI_NEW: u32 = 15;

/// The entry fields that are read: base, length, type (§3.6.8).
const ENTRY: usize = 20;
/// The type of an entry that is free to use.
const AVAILABLE: u32 = 1;

/// Reads the block of tags at physical address `at`.
pub fn parse<'a>(at: u64, memory: Memory<'a>) -> Result<StartInfo, Bad> {
    let len = u64::from(u32_at(memory(at, HEADER).ok_or(Bad::Unreadable)?, 0));
    if !(HEADER..=MAX_LEN).contains(&len) {
        return Err(Bad::Unreadable);
    }
    let block = memory(at, len).ok_or(Bad::Unreadable)?;
    let tags = || Tags { block, at: HEADER as usize };
    let find = |kind: u32| tags().find(|tag| tag.kind == kind);

    let (_, map) = find(MEMORY_MAP).and_then(|tag| tag.body.split_at_checked(8)).ok_or(Bad::NoMemoryMap)?;
    let size = find(MEMORY_MAP).map_or(0, |tag| u32_at(tag.body, 0) as usize);
    if size < ENTRY {
        return Err(Bad::NoMemoryMap);
    }
    let entry = |entry: &[u8]| {
        let start = u64_at(entry, 0);
        let kind = if u32_at(entry, 16) == AVAILABLE { Kind::Ram } else { Kind::Other };
        (start..start.saturating_add(u64_at(entry, 8)), kind)
    };
    let mut info = StartInfo::new(ram(map.chunks_exact(size).map(entry)));
    if info.ram.as_slice().is_empty() {
        return Err(Bad::NoMemoryMap);
    }
    info.loader.push(at..at + len);

    // Both texts and tables stay where they are, in the block.
    let place = |tag: &Tag| at + tag.at as u64 + TAG as u64;
    if let Some(line) = find(COMMAND_LINE) {
        info.set_command_line(place(&line), memory);
    }
    if let Some(acpi) = find(ACPI_NEW).or_else(|| find(ACPI_OLD)) {
        info.set_rsdp(place(&acpi));
    }
    for module in tags().filter(|tag| tag.kind == MODULE) {
        let (start, end) = (u32_at(module.body, 0), u32_at(module.body, 4));
        match end.checked_sub(start) {
            Some(len) => info.add_module(start.into(), len.into(), memory),
            None => info.modules.push(None),
        }
    }
    Ok(info)
}

/// One tag, without its type and size.
struct Tag<'a> {
    kind: u32,
    /// Where the tag starts in the block.
    at: usize,
    body: &'a [u8],
}

/// Goes through the tags, up to the end tag or the first that does not fit.
struct Tags<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Tags<'a> {
    type Item = Tag<'a>;

    fn next(&mut self) -> Option<Tag<'a>> {
        let at = self.at;
        let rest = self.block.get(at..)?;
        let (kind, size) = (u32_at(rest, 0), u32_at(rest, 4) as usize);
        if kind == END {
            return None;
        }
        let body = rest.get(TAG..size)?;
        // §3.6.2: each tag starts at a multiple of 8. The size is within the block, so this does not overflow.
        self.at = at + size.next_multiple_of(8);
        Some(Tag { kind, at, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Where the block lies in the tests' memory.
    const AT: u64 = 0x100;

    fn tag(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes =
            [&kind.to_le_bytes()[..], &(TAG as u32 + body.len() as u32).to_le_bytes(), body].concat();
        bytes.resize(bytes.len().next_multiple_of(8), 0xcc);
        bytes
    }

    fn map(size: u32, entries: &[(u64, u64, u32)]) -> Vec<u8> {
        let mut body = [size.to_le_bytes(), [0; 4]].concat();
        for (start, len, kind) in entries {
            let entry = [&start.to_le_bytes()[..], &len.to_le_bytes(), &kind.to_le_bytes()].concat();
            body.extend(entry);
            body.resize(body.len() + size as usize - ENTRY, 0);
        }
        tag(MEMORY_MAP, &body)
    }

    fn module(start: u32, end: u32) -> Vec<u8> {
        tag(MODULE, &[&start.to_le_bytes()[..], &end.to_le_bytes(), b"weir.toml\0"].concat())
    }

    /// 16 KiB with a block of these tags.
    fn memory(tags: &[Vec<u8>]) -> Vec<u8> {
        let tags = [tags.concat(), tag(END, &[])].concat();
        let mut memory = vec![0; 0x4000];
        let block = [&(HEADER as u32 + tags.len() as u32).to_le_bytes()[..], &[0; 4], &tags].concat();
        memory[AT as usize..][..block.len()].copy_from_slice(&block);
        memory
    }

    fn parse_in(memory: &[u8]) -> Result<StartInfo, Bad> {
        parse(AT, &|at, len| memory.get(at as usize..at.checked_add(len)? as usize))
    }

    const MAP: [(u64, u64, u32); 4] =
        [(0, 0xa_0000, 1), (0x10_0000, 0x7f0_0000, 1), (0x70_0000, 0x1_0000, 4), (0x80_0000, 0x1_0000, 3)];

    #[test]
    fn finds_all_that_grub_leaves() {
        let bytes = memory(&[
            tag(COMMAND_LINE, b"log=debug\0"),
            tag(2, b"GRUB 2.06-13\0"),
            module(0x3000, 0x3064),
            map(24, &MAP),
            tag(ACPI_OLD, &[1; 20]),
            tag(ACPI_NEW, &[2; 36]),
        ]);
        let info = parse_in(&bytes).unwrap();
        assert_eq!(
            info.ram.as_slice(),
            [0..0xa_0000, 0x10_0000..0x70_0000, 0x71_0000..0x80_0000, 0x81_0000..0x800_0000]
        );
        let line = info.command_line.unwrap();
        assert_eq!(&bytes[line.start as usize..line.end as usize], b"log=debug");
        assert_eq!(info.modules.as_slice(), [Some(0x3000..0x3064)]);
        assert_eq!(bytes[info.rsdp.unwrap() as usize..][..36], [2; 36], "the newer table");
        let len = u64::from(u32_at(&bytes, AT as usize));
        assert!(info.loader.as_slice().contains(&(AT..AT + len)));
        assert!(info.loader.as_slice().contains(&(0x3000..0x3064)));
    }

    #[test]
    fn goes_without_command_line_module_and_tables() {
        let info = parse_in(&memory(&[map(24, &MAP), tag(COMMAND_LINE, b"\0")])).unwrap();
        assert_eq!((info.command_line, info.rsdp, info.modules.as_slice()), (None, None, &[][..]));
        let info = parse_in(&memory(&[map(40, &MAP), tag(ACPI_OLD, &[1; 20])])).unwrap();
        assert_eq!(info.ram.as_slice().len(), 4, "entries may be longer than they were");
        assert!(info.rsdp.is_some());
    }

    #[test]
    fn keeps_every_module_in_its_place() {
        let info = parse_in(&memory(&[
            map(24, &MAP),
            module(0x3010, 0x3000),
            module(0x3000, 0x3000),
            module(0x3fff, 0x4001),
        ]));
        assert_eq!(info.unwrap().modules.as_slice(), [None, Some(0x3000..0x3000), None]);
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(parse_in(&memory(&[])).unwrap_err(), Bad::NoMemoryMap);
        assert_eq!(parse_in(&memory(&[map(24, &[(0, 1 << 20, 2)])])).unwrap_err(), Bad::NoMemoryMap);
        for size in [0u32, 19] {
            let short = tag(MEMORY_MAP, &[&size.to_le_bytes()[..], &[0; 60]].concat());
            assert_eq!(parse_in(&memory(&[short])).unwrap_err(), Bad::NoMemoryMap);
        }
        let mut bytes = memory(&[map(24, &MAP)]);
        for len in [0, 7, 0x4000, u32::MAX] {
            bytes[AT as usize..][..4].copy_from_slice(&len.to_le_bytes());
            assert_eq!(parse_in(&bytes).unwrap_err(), Bad::Unreadable, "{len}");
        }
    }

    #[test]
    fn ends_at_a_tag_that_does_not_fit() {
        for size in [0u32, 7, 0x4000, u32::MAX] {
            let bad = [MODULE.to_le_bytes(), size.to_le_bytes()].concat();
            let info = parse_in(&memory(&[map(24, &MAP), bad, module(0x3000, 0x3001)])).unwrap();
            assert!(info.modules.as_slice().is_empty(), "{size}");
        }
    }

    proptest! {
        /// Any bytes at all: no panic, no endless loop.
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600), len in 0u32..700) {
            let mut memory = memory(&[map(24, &MAP)]);
            let from = AT as usize + 8 + 24 * MAP.len() + 16;
            memory[AT as usize..][..4].copy_from_slice(&len.to_le_bytes());
            memory[from..from + bytes.len()].copy_from_slice(&bytes);
            let _ = parse_in(&memory);
            memory[AT as usize + 8..][..bytes.len()].copy_from_slice(&bytes);
            let _ = parse_in(&memory);
        }
    }
}
