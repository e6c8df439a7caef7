//! What a loader hands over, in one form for every boot protocol: RAM, command line, modules, RSDP address.
//! Each protocol's module parses its own structures into it, once at boot, before page tables and allocators
//! exist.

use core::ops::Range;

/// Areas of RAM and of other memory that are kept; the rest of a longer map is ignored.
pub const MAX_AREAS: usize = 64;
/// Modules that are kept; a longer list's others are ignored.
pub const MAX_MODULES: usize = 8;
/// Bytes that are kept of a command line. One that fills them had more, or a zero behind them: it counts as
/// cut.
pub const MAX_COMMAND_LINE: usize = 4096;

/// An RSDP of revision 2 (ACPI 6.5 §5.2.5.3).
const RSDP: u64 = 36;

/// Why what the loader left is unusable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bad {
    /// The magic number is not there.
    Magic,
    /// It has no memory map, or one without RAM.
    NoMemoryMap,
    /// An address in it points to nothing readable.
    Unreadable,
    /// Its device tree is none.
    DeviceTree,
    /// Hermit's boot info by another loader than uhyve.
    NotUhyve,
}

impl core::fmt::Display for Bad {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Magic => "its magic number is not there",
            Self::NoMemoryMap => "it names no RAM",
            Self::Unreadable => "an address in it leads nowhere",
            Self::DeviceTree => "its device tree is broken",
            Self::NotUhyve => "it is not uhyve's: of Hermit's loaders only uhyve starts this image",
        })
    }
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

/// What the loader brought beside the image, in its order, at most [`MAX_MODULES`].
#[derive(Clone, Debug, Default)]
pub struct Modules {
    list: [Option<Range<u64>>; MAX_MODULES],
    len: usize,
}

impl Modules {
    /// The modules' places; `None` for one that lies where there is nothing to read. A module may be empty.
    pub fn as_slice(&self) -> &[Option<Range<u64>>] {
        &self.list[..self.len]
    }

    /// Adds a module unless the list is full.
    pub fn push(&mut self, place: Option<Range<u64>>) {
        if let Some(slot) = self.list.get_mut(self.len) {
            *slot = place;
            self.len += 1;
        }
    }
}

/// What the loader left, as physical byte ranges.
#[derive(Clone, Debug)]
pub struct StartInfo {
    /// RAM, sorted, without overlaps.
    pub ram: Areas,
    /// All that the loader left in memory and that is still needed or may still be read.
    pub loader: Areas,
    /// The command line, without its terminating zero.
    pub command_line: Option<Range<u64>>,
    /// The modules.
    pub modules: Modules,
    /// Physical address of the RSDP.
    pub rsdp: Option<u64>,
    /// Where the protocol says what firmware tables say elsewhere: how many CPUs there are, their APICs
    /// numbered from 0.
    pub cpus: Option<u32>,
    /// The TSC's frequency, if the protocol states it.
    pub tsc_khz: Option<u32>,
}

impl StartInfo {
    /// A machine with this RAM, nothing known of it yet.
    pub fn new(ram: Areas) -> Self {
        let (loader, modules) = (Areas::new(), Modules::default());
        Self { ram, loader, command_line: None, modules, rsdp: None, cpus: None, tsc_khz: None }
    }

    /// Notes a command line that ends with a zero, after [`MAX_COMMAND_LINE`] bytes or where memory does.
    pub fn set_command_line(&mut self, at: u64, memory: Memory) {
        let byte = |i| memory(at.checked_add(i)?, 1)?.first().copied();
        let len = (0..MAX_COMMAND_LINE as u64).take_while(|&i| byte(i).is_some_and(|byte| byte != 0)).count();
        let range = at..at.saturating_add(len as u64);
        self.command_line = Some(range.clone()).filter(|range| at != 0 && !range.is_empty());
        self.loader.push(self.command_line.clone().unwrap_or(0..0));
    }

    /// Whether the command line had no end within [`MAX_COMMAND_LINE`] bytes.
    pub fn command_line_is_cut(&self) -> bool {
        self.command_line.as_ref().is_some_and(|range| range.end - range.start >= MAX_COMMAND_LINE as u64)
    }

    /// Notes the next module.
    pub fn add_module(&mut self, at: u64, len: u64, memory: Memory) {
        let place = memory(at, len).map(|_| at..at + len);
        self.loader.push(place.clone().unwrap_or(0..0));
        self.modules.push(place);
    }

    /// Notes the RSDP, unless the address is zero.
    pub fn set_rsdp(&mut self, at: u64) {
        self.rsdp = Some(at).filter(|&at| at != 0);
        self.loader.push(self.rsdp.map_or(0..0, |at| at..at.saturating_add(RSDP)));
    }
}

/// Gives the bytes at a physical address, or `None` if there is nothing to read.
pub type Memory<'a> = &'a dyn Fn(u64, u64) -> Option<&'a [u8]>;

/// What an entry of a memory map says of its range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// RAM, free but for what the loader put there.
    Ram,
    /// Anything else: never used, even where an entry for RAM overlaps it.
    Other,
}

/// The RAM of a memory map, sorted and joined, minus every other area that overlaps it. Zero-length entries
/// may be there.
pub fn ram(map: impl Iterator<Item = (Range<u64>, Kind)> + Clone) -> Areas {
    let of = |wanted: Kind| {
        let map = map.clone();
        map.filter_map(move |(area, kind)| (kind == wanted && !area.is_empty()).then_some(area))
    };
    let mut sorted = Areas::new();
    for area in of(Kind::Ram) {
        sorted.push(area);
    }
    let len = sorted.len;
    // By insertion: there is no heap yet, and the map has them in order as a rule.
    let list = &mut sorted.list[..len];
    for next in 1..len {
        for at in (1..=next).rev() {
            if list[at - 1].start <= list[at].start {
                break;
            }
            list.swap(at - 1, at);
        }
    }

    let mut joined = Areas::new();
    for next in sorted.as_slice().iter().cloned() {
        match joined.list[..joined.len].last_mut().filter(|last| next.start <= last.end) {
            Some(last) => last.end = last.end.max(next.end),
            None => {
                joined.push(next);
            }
        }
    }

    for hole in of(Kind::Other) {
        let mut kept = Areas::new();
        for area in joined.as_slice() {
            kept.push(area.start..area.end.min(hole.start));
            kept.push(area.start.max(hole.end)..area.end);
        }
        joined = kept;
    }
    joined
}

/// The little-endian 32 bits at `at`; 0 beyond the end.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|field| field.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// The little-endian 64 bits at `at`; 0 beyond the end.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|field| field.try_into().ok()).map_or(0, u64::from_le_bytes)
}
