//! The memory of a split virtqueue that the device sees, and each access to it (virtio 1.2 §2.7.5, §2.7.6, §2.7.8).

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU16, AtomicU64};
use weir_machine::dma::{Region, Shared, Words};

/// Largest queue size (§2.7).
const MAX_SIZE: u16 = 32768;
const LINE: usize = 64;
/// Sizes of a descriptor and of a used entry.
const DESCRIPTOR: usize = 16;
const USED: usize = 8;
/// Offset of `idx` and of the entries in both rings.
const IDX: usize = 2;
const ENTRIES: usize = 4;

/// Descriptor table, available ring and used ring, in one block.
#[derive(Debug)]
pub(crate) struct Rings {
    memory: Shared,
    size: u16,
    /// Offsets of the two rings; the table is at 0.
    avail: usize,
    used: usize,
    /// Two words a descriptor: address; length, flags and next.
    descriptors: Words<AtomicU64>,
    avail_flags: Words<AtomicU16>,
    avail_idx: Words<AtomicU16>,
    avail_ring: Words<AtomicU16>,
    used_event: Words<AtomicU16>,
    used_flags: Words<AtomicU16>,
    used_idx: Words<AtomicU16>,
    /// A word an entry: id and length.
    used_ring: Words<AtomicU64>,
    avail_event: Words<AtomicU16>,
}

impl Rings {
    /// Zeroed rings; `None` unless `size` is a power of two up to 32768, or without memory.
    pub(super) fn new(size: u16) -> Option<Self> {
        if !size.is_power_of_two() || size > MAX_SIZE {
            return None;
        }
        let entries = usize::from(size);
        let avail = DESCRIPTOR * entries;
        // flags, idx, entries, used_event.
        let avail_end = avail + ENTRIES + 2 * entries + 2;
        // The used ring must be a multiple of 4; its entries, 4 bytes in, are here multiples of their 8 bytes, so that
        // id and length are read together. The index has the cache line before them to itself.
        let used = (avail_end + ENTRIES).next_multiple_of(LINE) - ENTRIES;
        // flags, idx, entries, avail_event.
        let end = used + ENTRIES + USED * entries + 2;
        let memory = Region::new(end, LINE)?.share();
        Some(Self {
            size,
            avail,
            used,
            descriptors: memory.words(0, 2 * entries),
            avail_flags: memory.words(avail, 1),
            avail_idx: memory.words(avail + IDX, 1),
            avail_ring: memory.words(avail + ENTRIES, entries),
            used_event: memory.words(avail + ENTRIES + 2 * entries, 1),
            used_flags: memory.words(used, 1),
            used_idx: memory.words(used + IDX, 1),
            used_ring: memory.words(used + ENTRIES, entries),
            avail_event: memory.words(used + ENTRIES + USED * entries, 1),
            memory,
        })
    }

    /// Descriptors.
    #[inline]
    pub(crate) fn size(&self) -> u16 {
        self.size
    }

    /// Bus address of the descriptor table.
    pub(crate) fn descriptors(&self) -> u64 {
        self.memory.addr()
    }

    /// Bus address of the available ring.
    pub(crate) fn available(&self) -> u64 {
        self.memory.addr() + self.avail as u64
    }

    /// Bus address of the used ring.
    pub(crate) fn used(&self) -> u64 {
        self.memory.addr() + self.used as u64
    }

    /// Writes descriptor `at`, whole. `at` is below the size.
    #[inline]
    pub(super) fn write_descriptor(&self, at: u16, addr: u64, len: u32, flags: u16, next: u16) {
        let first = 2 * usize::from(at);
        self.descriptors.at(first).store(addr, Relaxed);
        let rest = u64::from(len) | u64::from(flags) << 32 | u64::from(next) << 48;
        self.descriptors.at(first + 1).store(rest, Relaxed);
    }

    /// Writes the available entry of index `idx`.
    #[inline]
    pub(super) fn write_avail(&self, idx: u16, head: u16) {
        self.avail_ring.at(idx.into()).store(head, Relaxed);
    }

    /// Publishes the available index: what was written before is visible before.
    #[inline]
    pub(super) fn store_avail_idx(&self, idx: u16) {
        self.avail_idx.at(0).store(idx, Release);
    }

    #[inline]
    pub(super) fn write_avail_flags(&self, flags: u16) {
        self.avail_flags.at(0).store(flags, Relaxed);
    }

    /// Writes the used index after which the driver wants an interrupt.
    #[inline]
    pub(super) fn write_used_event(&self, idx: u16) {
        self.used_event.at(0).store(idx, Relaxed);
    }

    /// Reads the used index: what is read later is not older.
    #[inline]
    pub(super) fn load_used_idx(&self) -> u16 {
        self.used_idx.at(0).load(Acquire)
    }

    /// Reads id and length of the used entry of index `idx`, once.
    #[inline]
    pub(super) fn read_used(&self, idx: u16) -> (u32, u32) {
        let entry = self.used_ring.at(idx.into()).load(Relaxed);
        (entry as u32, (entry >> 32) as u32)
    }

    #[inline]
    pub(super) fn read_used_flags(&self) -> u16 {
        self.used_flags.at(0).load(Relaxed)
    }

    /// Reads the available index after which the device wants a notification.
    #[inline]
    pub(super) fn read_avail_event(&self) -> u16 {
        self.avail_event.at(0).load(Relaxed)
    }
}

/// What only the device writes.
#[cfg(test)]
impl Rings {
    pub(super) fn forge_used(&self, idx: u16, id: u32, len: u32) {
        self.used_ring.at(idx.into()).store(u64::from(id) | u64::from(len) << 32, Relaxed);
    }

    pub(super) fn forge_used_idx(&self, idx: u16) {
        self.used_idx.at(0).store(idx, Relaxed);
    }
}
