//! The one address space: an identity map in four levels, built once at boot, in which nothing is both
//! writable and executable, page 0 is absent and an absent page lies under every stack.
//!
//! RAM and image are mapped at boot; device memory and firmware tables when somebody asks for them.

use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

/// Bytes in the smallest page.
pub const PAGE: u64 = 4096;
/// Where frames that hold code are mapped: so far above their physical addresses, where no identity map reaches.
const CODE: u64 = 0xffff_8000_0000_0000;
/// Bytes under one entry of each level, from level 1 (page table) to level 4.
const SPAN: [u64; 5] = [0, PAGE, PAGE << 9, PAGE << 18, PAGE << 27];
/// End of the addresses four levels reach without sign extension.
pub const END: u64 = 1 << 47;

// Intel SDM vol. 3A §4.5, tables 4-15 to 4-20.
const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const WRITE_THROUGH: u64 = 1 << 3;
const UNCACHED: u64 = 1 << 4;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// An entry of a page that was taken out for good. The CPU heeds nothing in an entry that is not present.
const TAKEN_OUT: u64 = WRITABLE;
/// What an entry says about a page, without the address and the bits the CPU sets.
const RIGHTS: u64 = PRESENT | WRITABLE | WRITE_THROUGH | UNCACHED | NO_EXECUTE;

/// What a page may be used for. There is no writable and executable one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Code.
    Execute,
    /// Constants, the loader's data, firmware tables.
    Read,
    /// Data, heap, stacks, DMA memory.
    Write,
    /// Device registers: writable, uncached (PAT entry 3).
    Device,
}

impl Access {
    const fn bits(self) -> u64 {
        PRESENT
            | match self {
                Access::Execute => 0,
                Access::Read => NO_EXECUTE,
                Access::Write => WRITABLE | NO_EXECUTE,
                Access::Device => WRITABLE | NO_EXECUTE | WRITE_THROUGH | UNCACHED,
            }
    }
}

/// A page table of any level.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Table {
    /// `[A]` Written under the map's lock, read by the page walkers of all CPUs.
    entries: [AtomicU64; 512],
}

impl Table {
    /// Maps nothing.
    pub const fn new() -> Self {
        Self { entries: [const { AtomicU64::new(0) }; 512] }
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a range could not be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// No memory for another table.
    NoMemory,
    /// Not within what four levels reach, or the range is empty.
    OutOfRange,
    /// Part of it is mapped for something else.
    Taken,
}

/// Gives memory for a table, zeroed, at an address equal to its physical address.
pub type NewTable<'a> = &'a mut dyn FnMut() -> Option<NonNull<Table>>;

/// An identity map under construction or in use.
#[derive(Debug)]
pub struct Map {
    root: &'static Table,
    no_execute: bool,
}

impl Map {
    /// A map that begins at `root`. Without `no_execute` (CPUID 8000_0001h EDX.20) the CPU takes that bit as
    /// reserved, so it is left out everywhere.
    pub const fn new(root: &'static Table, no_execute: bool) -> Self {
        Self { root, no_execute }
    }

    /// Maps all pages that `range` touches, except page 0, replacing what was there; 2 MiB pages where they
    /// fit.
    pub fn map(&mut self, range: Range<u64>, access: Access, tables: NewTable) -> Result<(), Refused> {
        let end =
            range.end.checked_next_multiple_of(PAGE).filter(|&end| end <= END).ok_or(Refused::OutOfRange)?;
        let mut at = (range.start / PAGE * PAGE).max(PAGE);
        if range.is_empty() {
            return Err(Refused::OutOfRange);
        }
        while at < end {
            let level = if at.is_multiple_of(SPAN[2]) && end - at >= SPAN[2] { 2 } else { 1 };
            let large = if level == 2 { LARGE } else { 0 };
            self.entry(at, level, tables)?.store(at | self.allowed(access.bits()) | large, Ordering::Release);
            at += SPAN[level];
        }
        Ok(())
    }

    /// Takes all pages that `range` touches out of the map; [`add`](Self::add) does not bring them back. The
    /// caller flushes.
    pub fn unmap(&mut self, range: Range<u64>, tables: NewTable) -> Result<(), Refused> {
        let mut at = range.start / PAGE * PAGE;
        while at < range.end {
            if self.find(at).is_some() {
                self.entry(at, 1, tables)?.store(TAKEN_OUT, Ordering::Release);
            }
            at += PAGE;
        }
        Ok(())
    }

    /// Maps the frames of `range` executable, [`CODE`] above their addresses, and takes them out at these; returns where they
    /// are now, or nothing, with nothing changed, if memory does not suffice for tables. The caller flushes.
    ///
    /// A frame's code is always at the same address: what a CPU may remember of an earlier time is either right or about
    /// code that nobody runs any more.
    pub fn make_executable(&mut self, range: Range<u64>, tables: NewTable) -> Option<u64> {
        let pages = || range.clone().step_by(PAGE as usize);
        // All tables first, so that nothing fails half-way.
        for page in pages() {
            self.entry(CODE + page, 1, tables).ok()?;
            self.entry(page, 1, tables).ok()?;
        }
        for page in pages() {
            self.entry(page, 1, tables).ok()?.store(TAKEN_OUT, Ordering::Release);
            let executable = self.allowed(Access::Execute.bits());
            self.entry(CODE + page, 1, tables).ok()?.store(page | executable, Ordering::Release);
        }
        Some(CODE + range.start)
    }

    /// Undoes [`make_executable`](Self::make_executable): the frames are data again. The caller flushes.
    pub fn make_writable(&mut self, range: Range<u64>, tables: NewTable) -> Result<(), Refused> {
        self.unmap(CODE + range.start..CODE + range.end, tables)?;
        self.map(range, Access::Write, tables)
    }

    /// How the page of `address` is mapped: its access and its size in bytes.
    pub fn find(&self, address: u64) -> Option<(Access, u64)> {
        let (entry, level) = self.leaf(address);
        if entry & PRESENT == 0 {
            return None;
        }
        let all = [Access::Execute, Access::Read, Access::Write, Access::Device];
        let access = all.into_iter().find(|access| self.allowed(access.bits()) == entry & RIGHTS)?;
        Some((access, SPAN[level]))
    }

    /// The entry that decides about `address`, and the level of its table.
    fn leaf(&self, address: u64) -> (u64, usize) {
        let (mut table, mut level) = (self.root, 4);
        loop {
            let entry = table.entries[index(address, level)].load(Ordering::Acquire);
            if level == 1 || entry & PRESENT == 0 || entry & LARGE != 0 {
                return (entry, level);
            }
            (table, level) = (table_at(entry), level - 1);
        }
    }

    /// Maps the pages that `range` touches and that are absent; those present must have the same `access`,
    /// and none may have been taken out.
    pub fn add(&mut self, range: Range<u64>, access: Access, tables: NewTable) -> Result<(), Refused> {
        if range.end > END {
            return Err(Refused::OutOfRange);
        }
        let pages = || (range.start / PAGE * PAGE..range.end).step_by(PAGE as usize);
        let is_taken_out = |page| self.leaf(page).0 == TAKEN_OUT;
        if pages().any(|page| is_taken_out(page) || self.find(page).is_some_and(|(found, _)| found != access))
        {
            return Err(Refused::Taken);
        }
        if pages().all(|page| self.find(page).is_none()) {
            return self.map(range, access, tables);
        }
        for page in pages() {
            if self.find(page).is_none() {
                self.map(page..page + PAGE, access, tables)?;
            }
        }
        Ok(())
    }

    /// The entry of `address` in a table of `level`; makes the tables above it, splits a 2 MiB page on the
    /// way.
    fn entry(&mut self, address: u64, level: usize, tables: NewTable) -> Result<&'static AtomicU64, Refused> {
        let mut table = self.root;
        for above in (level + 1..=4).rev() {
            let entry = &table.entries[index(address, above)];
            let found = entry.load(Ordering::Acquire);
            if found & PRESENT == 0 || found & LARGE != 0 {
                let new = tables().ok_or(Refused::NoMemory)?.as_ptr() as u64;
                if found & LARGE != 0 {
                    let (rights, base) = (found & RIGHTS, found & ADDRESS);
                    for (small, at) in table_at(new).entries.iter().zip((base..).step_by(PAGE as usize)) {
                        small.store(at | rights, Ordering::Relaxed);
                    }
                }
                // Rights are the leaf's alone; the tables above allow everything.
                entry.store(new | PRESENT | WRITABLE, Ordering::Release);
            }
            table = table_at(entry.load(Ordering::Acquire));
        }
        Ok(&table.entries[index(address, level)])
    }

    fn allowed(&self, bits: u64) -> u64 {
        if self.no_execute { bits } else { bits & !NO_EXECUTE }
    }
}

const fn index(address: u64, level: usize) -> usize {
    (address / SPAN[level]) as usize % 512
}

/// The table an entry points to.
fn table_at(entry: u64) -> &'static Table {
    // SAFETY: entries without the LARGE bit above level 1 are only written by `Map::entry`, with the address
    // of a table that `NewTable` gave for good, at an address equal to its physical one.
    unsafe { &*((entry & ADDRESS) as *const Table) }
}

#[cfg(feature = "image")]
pub use image::firmware;
#[cfg(feature = "image")]
pub(crate) use image::{
    ROOT, Segments, catch_up, device, guard, load, make_executable, make_writable, shared, start,
};

#[cfg(feature = "image")]
mod image {
    use super::{Access, END, Map, PAGE, Table};
    use crate::frames;
    use crate::lock::Lock;
    use core::ops::Range;
    use core::ptr::NonNull;
    use core::sync::atomic::{AtomicU64, Ordering};
    use weir_sync::rank::PageTables;
    use x86_64::instructions::tlb;
    use x86_64::registers::control::{Cr3, Cr3Flags};
    use x86_64::structures::paging::PhysFrame;
    use x86_64::{PhysAddr, VirtAddr};

    /// The top table, below 4 GiB with the image: what CR3 holds on every CPU.
    pub(crate) static ROOT: Table = Table::new();
    static MAP: Lock<PageTables, Option<Map>> = Lock::new(None);
    /// `[A]` How often rights to present pages were taken away. Release, after the entries; pairs with `catch_up`'s Acquire.
    static TAKEN: AtomicU64 = AtomicU64::new(0);

    /// The image's parts, as the linker script laid them out on page borders.
    #[derive(Debug)]
    pub(crate) struct Segments {
        /// Code.
        pub(crate) text: Range<u64>,
        /// Constants.
        pub(crate) rodata: Range<u64>,
        /// Data, zeroed data, the boot CPU's stacks.
        pub(crate) data: Range<u64>,
    }

    /// Fills the map: RAM, then what the loader left in it, then the image.
    ///
    /// # Panics
    /// If memory does not suffice for the tables.
    pub(crate) fn start(no_execute: bool, ram: &[Range<u64>], loader: &[Range<u64>], segments: &Segments) {
        let mut map = Map::new(&ROOT, no_execute);
        let whole = ram.iter().map(|area| area.start.next_multiple_of(PAGE)..area.end / PAGE * PAGE);
        let writable = whole.filter(|area| !area.is_empty()).map(|area| (area, Access::Write));
        let loader = loader.iter().cloned().map(|area| (area, Access::Read));
        let image = [
            (segments.text.clone(), Access::Execute),
            (segments.rodata.clone(), Access::Read),
            (segments.data.clone(), Access::Write),
        ];
        for (area, access) in writable.chain(loader).chain(image) {
            map.map(area.clone(), access, &mut new_table)
                .unwrap_or_else(|why| panic!("cannot map {area:#x?}: {why:?}"));
        }
        *MAP.lock() = Some(map);
    }

    /// Leaves the entry code's map for this one.
    pub(crate) fn load() {
        let root = PhysFrame::containing_address(PhysAddr::new(&raw const ROOT as u64));
        // SAFETY: `start` mapped the image, all RAM and what the loader left, at the addresses in use.
        unsafe { Cr3::write(root, Cr3Flags::empty()) };
    }

    /// Takes the page at `page` out of the map: whoever runs off the stack above it faults there. Boot CPU,
    /// before another CPU uses that memory.
    pub(crate) fn guard(page: u64) {
        if let Some(map) = MAP.lock().as_mut() {
            map.unmap(page..page + PAGE, &mut new_table).expect("no memory for a guard page");
        }
        tlb::flush(VirtAddr::new(page));
    }

    /// Frames that were written are code from now on: the address to run it at. `None` if tables ran out.
    ///
    /// No CPU needs to flush before it runs the code, since none remembers what was absent; what others remember of the frames
    /// as data they forget at their next turn.
    pub(crate) fn make_executable(frames: Range<u64>) -> Option<u64> {
        let at = MAP.lock().as_mut()?.make_executable(frames, &mut new_table)?;
        take_away();
        Some(at)
    }

    /// Frames that no CPU runs any more are data from now on.
    pub(crate) fn make_writable(frames: Range<u64>) {
        if let Some(map) = MAP.lock().as_mut() {
            map.make_writable(frames, &mut new_table).expect("the tables are there");
        }
        take_away();
    }

    /// Makes all CPUs forget what they remember of the map: this one at once, the others before their next turn.
    fn take_away() {
        TAKEN.fetch_add(1, Ordering::Release);
        tlb::flush_all();
    }

    /// Forgets what is no longer true of the map. `seen`: what this CPU has caught up with, its own.
    #[inline]
    pub(crate) fn catch_up(seen: &AtomicU64) {
        let taken = TAKEN.load(Ordering::Acquire);
        if seen.load(Ordering::Relaxed) != taken {
            seen.store(taken, Ordering::Relaxed);
            tlb::flush_all();
        }
    }

    /// Maps device registers, uncached. `false` if any page of them is mapped as something else (RAM, say),
    /// is out of reach, or tables ran out.
    pub(crate) fn device(range: Range<u64>) -> bool {
        add(range, Access::Device).is_some()
    }

    /// Maps memory that is no RAM of ours and that another domain reads and writes too, cached. `false` as
    /// for [`device`].
    pub(crate) fn shared(range: Range<u64>) -> bool {
        add(range, Access::Write).is_some()
    }

    /// Read-only view of `len` bytes at physical address `at`: firmware tables, wherever the firmware put
    /// them. Maps them (cached) if nobody has. `None` if the range is out of reach, touches page 0, memory
    /// that is written (RAM of ours, device memory) or a guard page, or tables ran out.
    pub fn firmware(at: u64, len: usize) -> Option<&'static [u8]> {
        let range = at..at.checked_add(len as u64).filter(|&end| end <= END)?;
        if at < PAGE || len == 0 || len > isize::MAX as usize {
            return None;
        }
        for page in (at / PAGE * PAGE..range.end).step_by(PAGE as usize) {
            let found = MAP.lock().as_ref()?.find(page);
            match found {
                // The allocator's memory, say, changes under whoever reads it.
                Some((Access::Write | Access::Device, _)) => return None,
                Some(_) => {}
                None => add(page..page + PAGE, Access::Read)?,
            }
        }
        // SAFETY: every page of the range was found mapped, or has just been; mappings other than guard pages
        // are never taken away. The firmware's tables do not change after boot.
        Some(unsafe { core::slice::from_raw_parts(at as *const u8, len) })
    }

    /// Nothing present is changed, and CPUs do not cache what is absent (Intel SDM vol. 3A §4.10.2.3): no
    /// flush.
    fn add(range: Range<u64>, access: Access) -> Option<()> {
        MAP.lock().as_mut()?.add(range, access, &mut new_table).ok()
    }

    fn new_table() -> Option<NonNull<Table>> {
        let table = NonNull::new(frames::allocate(1, 1)? as *mut Table)?;
        // SAFETY: the frame was just taken, is page-aligned and mapped: by these tables or the ones at entry.
        unsafe { table.write(Table::new()) };
        Some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn on_heap() -> Option<NonNull<Table>> {
        Some(NonNull::from(Box::leak(Box::new(Table::new()))))
    }

    fn map() -> Map {
        Map::new(Box::leak(Box::new(Table::new())), true)
    }

    #[test]
    fn maps_large_pages_inside_and_small_ones_at_the_edges() {
        let mut map = map();
        map.map(MIB..7 * MIB + 1, Access::Write, &mut on_heap).unwrap();
        assert_eq!(map.find(MIB - 1), None);
        assert_eq!(map.find(MIB), Some((Access::Write, PAGE)));
        assert_eq!(map.find(2 * MIB), Some((Access::Write, 2 * MIB)));
        assert_eq!(map.find(6 * MIB), Some((Access::Write, PAGE)));
        assert_eq!(map.find(7 * MIB), Some((Access::Write, PAGE)));
        assert_eq!(map.find(7 * MIB + PAGE), None);
    }

    #[test]
    fn page_0_is_never_mapped() {
        let mut map = map();
        map.map(0..4 * MIB, Access::Write, &mut on_heap).unwrap();
        assert_eq!(map.find(0), None);
        assert_eq!(map.find(PAGE - 1), None);
        assert_eq!(map.find(PAGE), Some((Access::Write, PAGE)));
    }

    #[test]
    fn an_image_inside_a_large_page_gets_its_own_rights_and_leaves_the_neighbours() {
        let mut map = map();
        map.map(0..8 * MIB, Access::Write, &mut on_heap).unwrap();
        let (text, rodata) = (2 * MIB + 3 * PAGE..2 * MIB + 5 * PAGE, 2 * MIB + 5 * PAGE..2 * MIB + 6 * PAGE);
        map.map(text.clone(), Access::Execute, &mut on_heap).unwrap();
        map.map(rodata.clone(), Access::Read, &mut on_heap).unwrap();
        let expected = |page: u64| match page {
            0 => None,
            _ if text.contains(&page) => Some(Access::Execute),
            _ if rodata.contains(&page) => Some(Access::Read),
            _ => Some(Access::Write),
        };
        for page in (0..8 * MIB).step_by(PAGE as usize) {
            assert_eq!(map.find(page).map(|found| found.0), expected(page), "at {page:#x}");
        }
    }

    #[test]
    fn no_leaf_is_writable_and_executable() {
        for access in [Access::Execute, Access::Read, Access::Write, Access::Device] {
            assert!(access.bits() & WRITABLE == 0 || access.bits() & NO_EXECUTE != 0, "{access:?}");
        }
    }

    #[test]
    fn a_guard_page_is_one_hole() {
        let mut map = map();
        map.map(2 * MIB..6 * MIB, Access::Write, &mut on_heap).unwrap();
        let guard = 4 * MIB + 7 * PAGE;
        map.unmap(guard..guard + PAGE, &mut on_heap).unwrap();
        assert_eq!(map.find(guard), None);
        assert_eq!(map.find(guard - 1), Some((Access::Write, PAGE)));
        assert_eq!(map.find(guard + PAGE), Some((Access::Write, PAGE)));
        assert_eq!(map.find(2 * MIB), Some((Access::Write, 2 * MIB)));
        for access in [Access::Read, Access::Write] {
            assert_eq!(map.add(guard..guard + 1, access, &mut on_heap), Err(Refused::Taken));
        }
        assert_eq!(map.find(guard), None);
    }

    #[test]
    fn code_is_executable_at_one_address_and_gone_from_the_other() {
        let mut map = map();
        map.map(2 * MIB..6 * MIB, Access::Write, &mut on_heap).unwrap();
        let frames = 4 * MIB + 7 * PAGE..4 * MIB + 9 * PAGE;
        for _ in 0..2 {
            assert_eq!(map.make_executable(frames.clone(), &mut on_heap), Some(CODE + frames.start));
            for page in [frames.start, frames.end - 1] {
                assert_eq!(map.find(page), None);
                assert_eq!(map.find(CODE + page), Some((Access::Execute, PAGE)));
                assert_eq!(map.leaf(CODE + page).0 & ADDRESS, page / PAGE * PAGE);
            }
            assert_eq!(map.find(frames.end), Some((Access::Write, PAGE)));
            assert_eq!(map.find(CODE + frames.end), None);
            map.make_writable(frames.clone(), &mut on_heap).unwrap();
            assert_eq!(map.find(CODE + frames.start), None);
            assert_eq!(map.find(frames.start), Some((Access::Write, PAGE)));
        }
    }

    #[test]
    fn code_that_finds_no_tables_changes_nothing() {
        for enough in 0..4 {
            let mut map = map();
            map.map(2 * MIB..4 * MIB, Access::Write, &mut on_heap).unwrap();
            let mut left = enough;
            let mut few = || {
                left -= 1;
                if left < 0 { None } else { on_heap() }
            };
            let frames = 3 * MIB..3 * MIB + PAGE;
            // Three tables lead to the code, one splits the large page.
            assert_eq!(map.make_executable(frames.clone(), &mut few), None, "{enough} tables");
            assert_eq!(map.find(frames.start).map(|found| found.0), Some(Access::Write));
            assert_eq!(map.find(CODE + frames.start), None);
        }
    }

    #[test]
    fn device_memory_is_uncached_and_reported_as_such() {
        let mut map = map();
        map.map(0xfee0_0000..0xfee0_1000, Access::Device, &mut on_heap).unwrap();
        assert_eq!(map.find(0xfee0_0fff), Some((Access::Device, PAGE)));
        let entry = map.entry(0xfee0_0000, 1, &mut on_heap).unwrap().load(Ordering::Relaxed);
        assert_eq!(entry, 0xfee0_0000 | NO_EXECUTE | UNCACHED | WRITE_THROUGH | WRITABLE | PRESENT);
    }

    #[test]
    fn adds_what_is_absent_and_refuses_what_is_something_else() {
        let mut map = map();
        map.map(4 * MIB..5 * MIB, Access::Write, &mut on_heap).unwrap();
        map.add(6 * MIB..6 * MIB + 1, Access::Device, &mut on_heap).unwrap();
        map.add(6 * MIB + 8..8 * MIB, Access::Device, &mut on_heap).unwrap();
        assert_eq!(map.find(8 * MIB - 1), Some((Access::Device, PAGE)));
        assert_eq!(map.find(8 * MIB), None);
        assert_eq!(map.add(5 * MIB - 1..6 * MIB, Access::Device, &mut on_heap), Err(Refused::Taken));
        assert_eq!(map.find(5 * MIB), None);
        assert_eq!(map.add(u64::MAX - 1..u64::MAX, Access::Device, &mut on_heap), Err(Refused::OutOfRange));
    }

    #[test]
    fn works_without_the_no_execute_bit() {
        let mut map = Map::new(Box::leak(Box::new(Table::new())), false);
        map.map(2 * MIB..4 * MIB, Access::Write, &mut on_heap).unwrap();
        assert_eq!(map.find(2 * MIB), Some((Access::Write, 2 * MIB)));
    }

    #[test]
    fn says_when_tables_run_out_or_the_range_is_out_of_reach() {
        let mut left = 2;
        let mut few = || {
            left -= 1;
            if left < 0 { None } else { on_heap() }
        };
        assert_eq!(map().map(PAGE..2 * PAGE, Access::Read, &mut few), Err(Refused::NoMemory));
        assert_eq!(map().map(END..END + PAGE, Access::Read, &mut on_heap), Err(Refused::OutOfRange));
        assert_eq!(map().map(u64::MAX - 1..u64::MAX, Access::Read, &mut on_heap), Err(Refused::OutOfRange));
    }

    #[test]
    fn maps_beyond_4_gib() {
        let mut map = map();
        map.map(4096 * MIB..5120 * MIB, Access::Write, &mut on_heap).unwrap();
        assert_eq!(map.find(5120 * MIB - 1), Some((Access::Write, 2 * MIB)));
        assert_eq!(map.find(5120 * MIB), None);
    }
}
