//! The PVH boot protocol's start info (Xen's public `arch-x86/hvm/start_info.h`). Every length in it is
//! checked.

use crate::start_info::{self, Bad, Kind, MAX_MODULES, Memory, StartInfo, u32_at, u64_at};
use ::pvh::start_info::{MemmapType, START_MAGIC_VALUE};

const HEADER: u64 = 56;
const MODULE: u64 = 32;
const AREA: u64 = 24;

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
    // Version 0 has no map.
    if version < 1 || entries == 0 || map == 0 {
        return Err(Bad::NoMemoryMap);
    }

    let entries = entries.min(1024);
    let ram = start_info::ram(read(map, entries * AREA)?.chunks_exact(AREA as usize).map(area));
    if ram.as_slice().is_empty() {
        return Err(Bad::NoMemoryMap);
    }
    let mut start = StartInfo::new(ram);
    start.loader.push(at..at + HEADER);
    start.loader.push(map..map.saturating_add(entries * AREA));
    start.set_command_line(command_line, memory);
    if modules > 0 && module_list != 0 {
        let count = u64::from(modules).min(MAX_MODULES as u64);
        start.loader.push(module_list..module_list.saturating_add(count * MODULE));
        for entry in read(module_list, count * MODULE)?.chunks_exact(MODULE as usize) {
            start.add_module(u64_at(entry, 0), u64_at(entry, 8), memory);
        }
    }
    start.set_rsdp(rsdp);
    Ok(start)
}

fn area(entry: &[u8]) -> (core::ops::Range<u64>, Kind) {
    let from = u64_at(entry, 0);
    let ram = MemmapType::from(u32_at(entry, 16)) == MemmapType::Ram;
    (from..from.saturating_add(u64_at(entry, 8)), if ram { Kind::Ram } else { Kind::Other })
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
        fn new(map: &[(u64, u64, u32)], command_line: &[u8], modules: &[(u64, u64)]) -> Memory {
            let mut memory = Memory(vec![0; 0x4000]);
            let header = [
                (0, u64::from(START_MAGIC_VALUE) | 1 << 32),
                (8, (modules.len() as u64) << 32),
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
            for (i, (start, len)) in modules.iter().enumerate() {
                memory.put(0x2000 + i * MODULE as usize, &start.to_le_bytes());
                memory.put(0x2008 + i * MODULE as usize, &len.to_le_bytes());
            }
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
        let info = Memory::new(&MAP, b"log=debug\0rest", &[(0x3000, 100)]).parse().unwrap();
        assert_eq!(info.ram.as_slice(), [0..0x9_fc00, 0x10_0000..0x7fe_0000]);
        assert_eq!(info.command_line, Some(0x1000..0x1009));
        assert_eq!(info.modules.as_slice(), [Some(0x3000..0x3064)]);
        assert_eq!(info.rsdp, Some(0xf_5000));
        let expected =
            [0x100..0x138, 0x200..0x248, 0x1000..0x1009, 0x2000..0x2020, 0x3000..0x3064, 0xf_5000..0xf_5024];
        assert_eq!(info.loader.as_slice(), expected);
    }

    #[test]
    fn goes_without_module_and_command_line() {
        let info = Memory::new(&MAP, b"\0", &[]).parse().unwrap();
        assert_eq!((info.command_line, info.modules.as_slice()), (None, &[][..]));
        let empty = Memory::new(&MAP, b"\0", &[(0x1000, 0)]).parse().unwrap();
        assert_eq!(empty.modules.as_slice(), [Some(0x1000..0x1000)]);
    }

    #[test]
    fn keeps_every_module_in_its_place() {
        let list = [(0x3000, 0x10), (u64::MAX, 2), (0x3010, 0), (1 << 40, 1), (0x3ff0, 0x10), (0x3ff1, 0x10)];
        let info = Memory::new(&MAP, b"\0", &list).parse().unwrap();
        let expected = [Some(0x3000..0x3010), None, Some(0x3010..0x3010), None, Some(0x3ff0..0x4000), None];
        assert_eq!(info.modules.as_slice(), expected);
        let loader = info.loader.as_slice();
        assert!(loader.contains(&(0x2000..0x20c0)), "the list stays");
        assert!(loader.contains(&(0x3000..0x3010)) && loader.contains(&(0x3ff0..0x4000)));
        assert_eq!(loader.len(), 6, "{loader:x?}");
    }

    #[test]
    fn keeps_the_first_of_many_modules() {
        let list: Vec<(u64, u64)> = (0..20).map(|n| (0x3000 + n * 0x10, 0x10)).collect();
        let mut memory = Memory::new(&MAP, b"\0", &list);
        let info = memory.parse().unwrap();
        assert_eq!(info.modules.as_slice().len(), MAX_MODULES);
        assert_eq!(info.modules.as_slice()[7], Some(0x3070..0x3080));
        assert!(info.loader.as_slice().contains(&(0x2000..0x2100)));
        // However many they are said to be.
        memory.put(0x10c, &u32::MAX.to_le_bytes());
        assert_eq!(memory.parse().unwrap().modules.as_slice().len(), MAX_MODULES);
        memory.put(0x110, &0x3ff0u64.to_le_bytes());
        assert_eq!(memory.parse().unwrap_err(), Bad::Unreadable);
    }

    #[test]
    fn cuts_a_command_line_that_does_not_end() {
        let mut memory = Memory::new(&MAP, &[b'a'; 0x3000], &[]);
        let start = memory.parse().unwrap();
        assert_eq!((start.command_line_is_cut(), start.command_line), (true, Some(0x1000..0x2000)));
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
        let info = Memory::new(&map, b"\0", &[]).parse().unwrap();
        let expected = [0x10_0000..0x20_0000, 0x20_1000..0x5f_f000, u64::MAX - 1..u64::MAX];
        assert_eq!(info.ram.as_slice(), expected);
    }

    #[test]
    fn says_what_is_wrong() {
        let memory = Memory::new(&MAP, b"\0", &[]);
        let mut bad = Memory(memory.0.clone());
        bad.0[0x100] = 0;
        assert_eq!(bad.parse().unwrap_err(), Bad::Magic);
        let mut old = Memory(memory.0.clone());
        old.0[0x104] = 0;
        assert_eq!(old.parse().unwrap_err(), Bad::NoMemoryMap);
        assert_eq!(Memory::new(&[], b"\0", &[]).parse().unwrap_err(), Bad::NoMemoryMap);
        assert_eq!(Memory::new(&[(0, 1 << 20, RESERVED)], b"\0", &[]).parse().unwrap_err(), Bad::NoMemoryMap);
        let cut = Memory(memory.0[..0x210].to_vec());
        assert_eq!(cut.parse().unwrap_err(), Bad::Unreadable);
    }

    proptest! {
        /// Whatever a loader writes, parsing ends, and RAM comes out sorted, apart, and clear of reserved
        /// areas.
        #[test]
        fn any_memory_map_gives_sound_ram(
            map in proptest::collection::vec((0u64..1 << 20, 0u64..1 << 18, 1u32..4), 1..40),
        ) {
            if let Ok(info) = Memory::new(&map, b"\0", &[]).parse() {
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
            let mut memory = Memory::new(&MAP, b"\0", &[(1, 1)]);
            memory.put(0x104, &bytes);
            let _ = memory.parse();
        }
    }
}
