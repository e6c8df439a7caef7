//! What a PVH loader hands over (Xen's public `arch-x86/hvm/start_info.h`): memory map, command line, module,
//! RSDP address. Read once at boot, before page tables and allocators exist; every length is checked.

use core::ops::Range;
use pvh::start_info::{MemmapType, START_MAGIC_VALUE};

/// Areas of RAM and of other memory that are kept; the rest of a longer map is ignored.
pub const MAX_AREAS: usize = 64;
/// Longest command line, in bytes.
pub const MAX_COMMAND_LINE: usize = 4096;

const HEADER: u64 = 56;
const MODULE: u64 = 32;
const AREA: u64 = 24;
/// An RSDP of revision 2 (ACPI 6.5 §5.2.5.3).
const RSDP: u64 = 36;

/// Why the start info is unusable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bad {
    /// The magic number is not there.
    Magic,
    /// It has no memory map: version 0, or an empty one.
    NoMemoryMap,
    /// An address in it points to nothing readable.
    Unreadable,
}

/// Byte ranges of physical memory, at most [`MAX_AREAS`].
#[derive(Clone, Debug)]
pub struct Areas {
    list: [Range<u64>; MAX_AREAS],
    len: usize,
}

impl Areas {
    /// An empty list.
    pub const fn new() -> Self {
        Self { list: [const { 0..0 }; MAX_AREAS], len: 0 }
    }

    /// The ranges, in the order in which they were added.
    pub fn as_slice(&self) -> &[Range<u64>] {
        &self.list[..self.len]
    }

    /// Adds a range unless it is empty or the list is full; `false` if it was full.
    pub fn push(&mut self, area: Range<u64>) -> bool {
        if area.is_empty() {
            return true;
        }
        let Some(slot) = self.list.get_mut(self.len) else { return false };
        *slot = area;
        self.len += 1;
        true
    }
}

impl Default for Areas {
    fn default() -> Self {
        Self::new()
    }
}

/// The start info, as physical byte ranges.
#[derive(Clone, Debug)]
pub struct StartInfo {
    /// RAM, sorted, without overlaps.
    pub ram: Areas,
    /// All that the loader left in memory and that is still needed or may still be read.
    pub loader: Areas,
    /// The command line, without its terminating zero.
    pub command_line: Option<Range<u64>>,
    /// The first module, if there is one and it is not empty.
    pub module: Option<Range<u64>>,
    /// Physical address of the RSDP.
    pub rsdp: Option<u64>,
}

/// Gives the bytes at a physical address, or `None` if there is nothing to read.
pub type Memory<'a> = &'a dyn Fn(u64, u64) -> Option<&'a [u8]>;

/// Reads the start info at physical address `at`.
pub fn parse<'a>(at: u64, memory: Memory<'a>) -> Result<StartInfo, Bad> {
    let read = |at: u64, len: u64| memory(at, len).ok_or(Bad::Unreadable);
    let header = read(at, HEADER)?;
    if u32_at(header, 0) != START_MAGIC_VALUE {
        return Err(Bad::Magic);
    }
    let (version, modules) = (u32_at(header, 4), u32_at(header, 12));
    let (module_list, command_line, rsdp) = (u64_at(header, 16), u64_at(header, 24), u64_at(header, 32));
    let (map, entries) = (u64_at(header, 40), u64::from(u32_at(header, 48)));
    if version < 1 || entries == 0 || map == 0 {
        return Err(Bad::NoMemoryMap);
    }

    let mut loader = Areas::new();
    loader.push(at..at + HEADER);
    let entries = entries.min(1024);
    loader.push(map..map.saturating_add(entries * AREA));
    let ram = ram(read(map, entries * AREA)?);
    if ram.as_slice().is_empty() {
        return Err(Bad::NoMemoryMap);
    }

    let command_line = match command_line {
        0 => None,
        start => {
            let len = (0..MAX_COMMAND_LINE as u64).take_while(|&i| {
                let byte = start.checked_add(i).and_then(|at| memory(at, 1));
                byte.is_some_and(|byte| byte != [0])
            });
            Some(start..start + len.count() as u64).filter(|range| !range.is_empty())
        }
    };
    loader.push(command_line.clone().unwrap_or(0..0));

    let module = if modules > 0 && module_list != 0 {
        loader.push(module_list..module_list.saturating_add(MODULE));
        let entry = read(module_list, MODULE)?;
        let (start, len) = (u64_at(entry, 0), u64_at(entry, 8));
        let end = start.checked_add(len).ok_or(Bad::Unreadable)?;
        Some(start..end).filter(|range| range.start != 0 && !range.is_empty())
    } else {
        None
    };
    loader.push(module.clone().unwrap_or(0..0));

    let rsdp = Some(rsdp).filter(|&at| at != 0);
    loader.push(rsdp.map_or(0..0, |at| at..at.saturating_add(RSDP)));
    Ok(StartInfo { ram, loader, command_line, module, rsdp })
}

/// The RAM areas of a memory map, sorted and joined, minus every area of another type that overlaps them.
fn ram(map: &[u8]) -> Areas {
    let area = |entry: &[u8]| {
        let start = u64_at(entry, 0);
        start..start.saturating_add(u64_at(entry, 8))
    };
    let is_ram = |entry: &&[u8]| MemmapType::from(u32_at(entry, 16)) == MemmapType::Ram;
    let entries = || map.chunks_exact(AREA as usize);

    let mut sorted = Areas::new();
    for entry in entries().filter(is_ram) {
        sorted.push(area(entry));
    }
    let len = sorted.len;
    sorted.list[..len].sort_unstable_by_key(|area| area.start);

    let mut joined = Areas::new();
    for mut next in sorted.as_slice().iter().cloned() {
        if let Some(last) = joined.list[..joined.len].last_mut().filter(|last| next.start <= last.end) {
            last.end = last.end.max(next.end);
            continue;
        }
        next.end = next.end.max(next.start);
        joined.push(next);
    }

    for hole in entries().filter(|entry| !is_ram(entry)).map(area).filter(|hole| !hole.is_empty()) {
        let mut kept = Areas::new();
        for area in joined.as_slice() {
            kept.push(area.start..area.end.min(hole.start));
            kept.push(area.start.max(hole.end)..area.end);
        }
        joined = kept;
    }
    joined
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|field| field.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|field| field.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RAM: u32 = 1;
    const RESERVED: u32 = 2;

    /// Physical memory from address 0 on.
    struct Memory(Vec<u8>);

    impl Memory {
        /// A start info at 0x100, its map at 0x200, `command_line` at 0x1000, a module list at 0x2000.
        fn new(map: &[(u64, u64, u32)], command_line: &[u8], module: Option<(u64, u64)>) -> Memory {
            let mut memory = Memory(vec![0; 0x4000]);
            let header = [
                (0, u64::from(START_MAGIC_VALUE) | 1 << 32),
                (8, u64::from(module.is_some()) << 32),
                (16, 0x2000),
                (24, 0x1000),
                (32, 0xf_5000),
                (40, 0x200),
                (48, map.len() as u64),
            ];
            for (offset, value) in header {
                memory.put(0x100 + offset, &value.to_le_bytes());
            }
            for (i, (start, len, kind)) in map.iter().enumerate() {
                let entry = 0x200 + i * AREA as usize;
                memory.put(entry, &start.to_le_bytes());
                memory.put(entry + 8, &len.to_le_bytes());
                memory.put(entry + 16, &kind.to_le_bytes());
            }
            memory.put(0x1000, command_line);
            let (start, len) = module.unwrap_or((0, 0));
            memory.put(0x2000, &start.to_le_bytes());
            memory.put(0x2008, &len.to_le_bytes());
            memory
        }

        fn put(&mut self, at: usize, bytes: &[u8]) {
            self.0[at..at + bytes.len()].copy_from_slice(bytes);
        }

        fn parse(&self) -> Result<StartInfo, Bad> {
            parse(0x100, &|at, len| self.0.get(at as usize..at.checked_add(len)? as usize))
        }
    }

    const MAP: [(u64, u64, u32); 3] =
        [(0, 0x9_fc00, RAM), (0xf_0000, 0x1_0000, RESERVED), (0x10_0000, 0x7ee_0000, RAM)];

    #[test]
    fn finds_all_that_a_loader_leaves() {
        let info = Memory::new(&MAP, b"log=debug\0rest", Some((0x700_0000, 100))).parse().unwrap();
        assert_eq!(info.ram.as_slice(), [0..0x9_fc00, 0x10_0000..0x7fe_0000]);
        assert_eq!(info.command_line, Some(0x1000..0x1009));
        assert_eq!(info.module, Some(0x700_0000..0x700_0064));
        assert_eq!(info.rsdp, Some(0xf_5000));
        let expected = [
            0x100..0x138,
            0x200..0x248,
            0x1000..0x1009,
            0x2000..0x2020,
            0x700_0000..0x700_0064,
            0xf_5000..0xf_5024,
        ];
        assert_eq!(info.loader.as_slice(), expected);
    }

    #[test]
    fn goes_without_module_and_command_line() {
        let info = Memory::new(&MAP, b"\0", None).parse().unwrap();
        assert_eq!((info.command_line, info.module), (None, None));
        assert_eq!(Memory::new(&MAP, b"\0", Some((0x1000, 0))).parse().unwrap().module, None);
    }

    #[test]
    fn cuts_a_command_line_that_does_not_end() {
        let mut memory = Memory::new(&MAP, &[b'a'; 0x3000], None);
        assert_eq!(memory.parse().unwrap().command_line, Some(0x1000..0x2000));
        memory.0.truncate(0x1004);
        assert_eq!(memory.parse().unwrap().command_line, Some(0x1000..0x1004));
    }

    #[test]
    fn sorts_joins_and_cuts_ram() {
        let map = [
            (0x50_0000, 0x10_0000, RAM),
            (0x10_0000, 0x30_0000, RAM),
            (0x40_0000, 0x18_0000, RAM),
            (0x20_0000, 0x1000, RESERVED),
            (0x5f_f000, 0x10_0000, RESERVED),
            (0x80_0000, 0, RAM),
            (u64::MAX - 1, 100, RAM),
        ];
        let info = Memory::new(&map, b"\0", None).parse().unwrap();
        let expected = [0x10_0000..0x20_0000, 0x20_1000..0x5f_f000, u64::MAX - 1..u64::MAX];
        assert_eq!(info.ram.as_slice(), expected);
    }

    #[test]
    fn says_what_is_wrong() {
        let memory = Memory::new(&MAP, b"\0", None);
        let mut bad = Memory(memory.0.clone());
        bad.0[0x100] = 0;
        assert_eq!(bad.parse().unwrap_err(), Bad::Magic);
        let mut old = Memory(memory.0.clone());
        old.0[0x104] = 0;
        assert_eq!(old.parse().unwrap_err(), Bad::NoMemoryMap);
        assert_eq!(Memory::new(&[], b"\0", None).parse().unwrap_err(), Bad::NoMemoryMap);
        assert_eq!(
            Memory::new(&[(0, 1 << 20, RESERVED)], b"\0", None).parse().unwrap_err(),
            Bad::NoMemoryMap
        );
        let cut = Memory(memory.0[..0x210].to_vec());
        assert_eq!(cut.parse().unwrap_err(), Bad::Unreadable);
        let module = Memory::new(&MAP, b"\0", Some((u64::MAX, 2)));
        assert_eq!(module.parse().unwrap_err(), Bad::Unreadable);
    }

    proptest! {
        /// Whatever a loader writes, parsing ends, and RAM comes out sorted, apart, and clear of reserved areas.
        #[test]
        fn any_memory_map_gives_sound_ram(
            map in proptest::collection::vec((0u64..1 << 20, 0u64..1 << 18, 1u32..4), 1..40),
        ) {
            if let Ok(info) = Memory::new(&map, b"\0", None).parse() {
                let ram = info.ram.as_slice();
                prop_assert!(ram.windows(2).all(|pair| pair[0].end <= pair[1].start));
                for address in (0..1 << 20).step_by(997) {
                    let inside = |kind: fn(u32) -> bool| map.iter().any(|&(start, len, of)| {
                        kind(of) && (start..start + len).contains(&address)
                    });
                    let expected = inside(|kind| kind == RAM) && !inside(|kind| kind != RAM);
                    prop_assert_eq!(ram.iter().any(|area| area.contains(&address)), expected, "at {:#x}", address);
                }
            }
        }

        /// Any bytes at all: no panic, no endless loop.
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut memory = Memory::new(&MAP, b"\0", Some((1, 1)));
            memory.put(0x104, &bytes);
            let _ = memory.parse();
        }
    }
}
