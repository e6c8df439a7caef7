//! Buffer memory: slots that devices read and write, all of one size, and a line of bookkeeping for each, apart.
//!
//! The only module of this crate with unsafe code. A [`Buffer`] is the unique handle to one slot: whoever
//! holds it may read and write the slot, so no two references to the same bytes can exist.

use crate::offload::Meta;
use crate::pool::{MAGAZINE, Magazine};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};
use crossbeam_queue::ArrayQueue;
use weir_sync::MAX_CPUS;

/// Bytes of a slot, unless they are to be pages; slots are aligned to their size.
pub const BUFFER: usize = 2048;
/// Bytes of a slot that is a page: what a Xen backend fills.
pub const PAGE_BUFFER: usize = 4096;
/// Bytes kept free in front of a fresh packet, at least.
pub const HEADROOM: usize = 128;
/// Bytes a fresh buffer of either size can hold behind its headroom, at least.
pub const MIN_CAPACITY: usize = BUFFER - HEADROOM - (COLORS - 1) * LINE;

const LINE: usize = 64;
/// Fresh packets start on one of this many cache lines. All at the same offset of a 2 KiB slot would share two sets
/// of a 32 KiB L1 cache, and a batch of 64 headers would evict itself.
const COLORS: usize = 6;

/// Bookkeeping of one slot: one cache line.
#[repr(C, align(64))]
struct Header {
    /// First byte in use.
    first: NonNull<u8>,
    /// `[I]` Where the buffer goes home to.
    arena: &'static Arena,
    /// The next segment of a chain.
    next: Option<Buffer>,
    /// Where that is in the slot, and how many bytes are in use.
    start: u16,
    len: u16,
    /// `[I]` `start` of a fresh packet.
    fresh: u16,
    /// `[I]` Bytes of the slot.
    size: u16,
    meta: Meta,
}

const _: () = assert!(size_of::<Header>() == LINE);

/// Unique handle to a slot. Dropping it hands the slot back to the arena the slow way, through `strays`.
pub(crate) struct Buffer(NonNull<Header>);

// SAFETY: a `Buffer` is the only handle to its header and slot, both plain memory that outlives it ('static).
unsafe impl Send for Buffer {}

impl Buffer {
    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: points into the arena's leaked header table, and `&self` borrows the unique handle.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    fn header_mut(&mut self) -> &mut Header {
        // SAFETY: as in `header`; `&mut self` makes the borrow exclusive.
        unsafe { self.0.as_mut() }
    }

    /// The bytes in use.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        let header = self.header();
        // SAFETY: within the slot (`set_range`), initialised since `Arena::new` got a `[u8]`, reachable through this handle alone.
        unsafe { core::slice::from_raw_parts(header.first.as_ptr(), header.len.into()) }
    }

    /// The bytes in use, to write.
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let header = self.header_mut();
        // SAFETY: as in `bytes`; `&mut self` makes it exclusive.
        unsafe { core::slice::from_raw_parts_mut(header.first.as_ptr(), header.len.into()) }
    }

    /// The `N` bytes from the first one in use on, in use or not; `None` if the slot ends before them.
    #[inline]
    pub(crate) fn window<const N: usize>(&self) -> Option<&[u8; N]> {
        let header = self.header();
        if usize::from(header.start) + N > usize::from(header.size) {
            return None;
        }
        // SAFETY: within the slot, as was looked at; all of a slot is initialised since `Arena::new` got a `[u8]`, and nobody writes
        // to it but through this handle, which is borrowed.
        Some(unsafe { header.first.cast().as_ref() })
    }

    #[inline]
    pub(crate) fn start(&self) -> usize {
        self.header().start.into()
    }

    #[inline]
    pub(crate) fn end(&self) -> usize {
        self.start() + usize::from(self.header().len)
    }

    /// Bytes of the slot.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.header().size.into()
    }

    /// Moves the bounds of the bytes in use. `false`, and nothing moved, unless start ≤ end ≤ [`size`](Self::size).
    #[inline]
    pub(crate) fn set_range(&mut self, start: usize, end: usize) -> bool {
        let header = self.header_mut();
        if start > end || end > usize::from(header.size) {
            return false;
        }
        // SAFETY: `first` is `start` bytes behind the slot's first byte.
        let slot = unsafe { header.first.sub(header.start.into()) };
        // SAFETY: start ≤ end ≤ size, so it stays within the slot.
        header.first = unsafe { slot.add(start) };
        // Both are at most `size`: no bits are lost.
        header.start = start as u16;
        header.len = (end - start) as u16;
        true
    }

    #[inline]
    pub(crate) fn meta(&self) -> &Meta {
        &self.header().meta
    }

    #[inline]
    pub(crate) fn meta_mut(&mut self) -> &mut Meta {
        &mut self.header_mut().meta
    }

    #[inline]
    pub(crate) fn next(&self) -> Option<&Buffer> {
        self.header().next.as_ref()
    }

    #[inline]
    pub(crate) fn next_mut(&mut self) -> &mut Option<Buffer> {
        &mut self.header_mut().next
    }

    /// Empty, unchained, with the slot's own headroom and blank metadata.
    #[inline]
    pub(crate) fn reset(&mut self) {
        let fresh = self.header().fresh.into();
        // Within the slot, as it was in the beginning.
        self.set_range(fresh, fresh);
        self.header_mut().meta = Meta::default();
    }

    #[inline]
    pub(crate) fn arena(&self) -> &'static Arena {
        self.header().arena
    }

    /// Never to be used again, with all that is chained to it.
    pub(crate) fn lose(mut self) {
        if let Some(next) = self.header_mut().next.take() {
            next.lose();
        }
        self.arena().lost.fetch_add(1, Ordering::Relaxed);
        core::mem::forget(self);
    }

    /// Asks the cache for the bookkeeping line.
    #[inline]
    pub(crate) fn prefetch_header(&self) {
        prefetch(self.0.as_ptr().cast());
    }

    /// Asks the cache for the line of byte `at` of those in use. Reads the bookkeeping line.
    #[inline]
    pub(crate) fn prefetch_bytes(&self, at: usize) {
        prefetch(self.header().first.as_ptr().wrapping_add(at));
    }
}

#[inline]
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; it faults on no address.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.header_mut().next = None;
        let arena = self.arena();
        // As large as the arena, so there is room for every slot.
        let _ = arena.strays.push(Buffer(self.0)).map_err(core::mem::forget);
    }
}

/// A set of slots in device-visible memory. Lives for ever.
pub struct Arena {
    /// `[I]`
    slots: usize,
    /// `[I]` Bytes of a slot.
    size: usize,
    /// `[I]` Address range of the slots.
    memory: core::ops::Range<usize>,
    /// `[A]` Full magazines on their way between CPUs.
    pub(crate) full: ArrayQueue<Magazine>,
    /// `[A]` Empty ones.
    pub(crate) empty: ArrayQueue<Magazine>,
    /// `[A]` Buffers that were dropped instead of freed to a pool.
    pub(crate) strays: ArrayQueue<Buffer>,
    /// `[A]` Slots that [`Claim`]s stand for. A plain count: Relaxed.
    claimed: AtomicUsize,
    /// `[A]` Slots that are never used again. A plain count: Relaxed.
    lost: AtomicUsize,
}

impl Arena {
    /// Cuts `memory` into slots of [`BUFFER`] bytes. Bytes before the first boundary of a slot and after the last whole
    /// one are unused. `memory` must be device-visible at its own address (identity-mapped).
    pub fn new(memory: &'static mut [u8]) -> &'static Arena {
        Self::cut(memory, BUFFER)
    }

    /// As [`new`](Self::new), into slots of [`PAGE_BUFFER`] bytes.
    pub fn of_pages(memory: &'static mut [u8]) -> &'static Arena {
        Self::cut(memory, PAGE_BUFFER)
    }

    fn cut(memory: &'static mut [u8], size: usize) -> &'static Arena {
        let skip = memory.as_ptr().align_offset(size).min(memory.len());
        let memory = &mut memory[skip..];
        let slots = memory.len() / size;
        let magazines = slots.div_ceil(MAGAZINE);
        // Enough empty ones that a CPU which holds two full ones always finds one: two for each CPU's pool, one in
        // each CPU's hand, and one.
        let empties = 3 * MAX_CPUS + 1;
        let base = memory.as_mut_ptr();
        let start = base as usize;
        let arena: &'static Arena = Box::leak(Box::new(Arena {
            slots,
            size,
            memory: start..start + slots * size,
            full: ArrayQueue::new(magazines + empties),
            empty: ArrayQueue::new(magazines + empties),
            strays: ArrayQueue::new(slots.max(1)),
            claimed: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
        }));
        let headers = (0..slots).filter_map(|n| {
            let fresh = (HEADROOM + n % COLORS * LINE) as u16;
            // SAFETY: n < slots and `fresh` < `size`, so the offset is within `memory`.
            let first = NonNull::new(unsafe { base.add(n * size + usize::from(fresh)) })?;
            let (size, meta) = (size as u16, Meta::default());
            Some(Header { first, arena, next: None, start: fresh, len: 0, fresh, size, meta })
        });
        let headers: &'static mut [Header] = Box::leak(headers.collect());
        let mut buffers = headers.iter_mut().map(|header| Buffer(NonNull::from(header)));
        for _ in 0..magazines {
            let mut magazine = Vec::with_capacity(MAGAZINE);
            magazine.extend(buffers.by_ref().take(MAGAZINE));
            let _ = arena.full.push(magazine);
        }
        for _ in 0..empties {
            let _ = arena.empty.push(Vec::with_capacity(MAGAZINE));
        }
        arena
    }

    /// Slots in all.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Bytes of a slot.
    pub fn slot_size(&self) -> usize {
        self.size
    }

    /// Lays claim to `slots` slots that a device is to keep, for as long as the claim lives. `None` if devices would keep
    /// more than half of all: packets on their way need the rest.
    pub fn claim(&'static self, slots: usize) -> Option<Claim> {
        let grown = |claimed: usize| claimed.checked_add(slots).filter(|&all| all <= self.slots / 2);
        self.claimed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).ok()?;
        Some(Claim { arena: self, slots })
    }

    /// Slots that are never used again, because a device may still write to them.
    pub fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }

    /// Addresses of the slots: what a driver may lend to a device.
    pub fn memory(&self) -> core::ops::Range<usize> {
        self.memory.clone()
    }

    /// Free buffers that no pool holds, of a moment ago.
    pub fn idle(&self) -> usize {
        (self.full.len() * MAGAZINE + self.strays.len()).min(self.slots)
    }

    /// Packets that were dropped without being freed to a pool: a defect in the code, though harmless.
    pub fn strays(&self) -> usize {
        self.strays.len()
    }
}

impl core::fmt::Debug for Arena {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Arena")
            .field("slots", &self.slots)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

/// A claim to slots of an arena, by [`Arena::claim`]. It counts; it does not take them.
#[derive(Debug)]
pub struct Claim {
    arena: &'static Arena,
    slots: usize,
}

impl Claim {
    /// How many.
    #[inline]
    pub fn slots(&self) -> usize {
        self.slots
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.arena.claimed.fetch_sub(self.slots, Ordering::Relaxed);
    }
}
