//! Memory that a device reads and writes: zeroed, physically contiguous, bus address equal to pointer address.
//!
//! Whatever the other side writes can change under our eyes, so every access is one volatile load or store, or one
//! atomic one ([`Words`]).

mod words;

pub use words::{Shared, Word, Words};

use core::ptr::NonNull;

/// A block of DMA memory, freed on drop. Offsets are bytes from its start.
///
/// An access out of range or out of alignment is a broken invariant of the driver and panics; lengths that come
/// from the device are checked by the driver before they get here.
#[derive(Debug)]
pub struct Region {
    start: NonNull<u8>,
    len: usize,
    align: usize,
}

// SAFETY: the memory belongs to the region alone, and all access goes through it.
unsafe impl Send for Region {}

macro_rules! access {
    ($type:ty, $read:ident, $write:ident) => {
        #[doc = concat!("Reads the `", stringify!($type), "` at `offset`, once.")]
        #[inline]
        pub fn $read(&self, offset: usize) -> $type {
            let at = self.at::<$type>(offset);
            // SAFETY: `at` checked that the value lies inside the region and is aligned.
            unsafe { at.read_volatile() }
        }

        #[doc = concat!("Writes the `", stringify!($type), "` at `offset`, once.")]
        #[inline]
        pub fn $write(&self, offset: usize, value: $type) {
            let at = self.at::<$type>(offset);
            // SAFETY: `at` checked that the value lies inside the region and is aligned.
            unsafe { at.write_volatile(value) }
        }
    };
}

impl Region {
    /// `len` zeroed bytes at a multiple of `align`, a power of two; `None` if `len` is 0, `align` is not a power
    /// of two, or memory does not suffice. Takes whole pages.
    pub fn new(len: usize, align: usize) -> Option<Region> {
        let region = Self::stale(len, align)?;
        // SAFETY: the region owns these bytes alone and is not shared yet.
        unsafe { region.start.write_bytes(0, len) };
        Some(region)
    }

    /// Like [`new`](Self::new), but the bytes are whatever the memory held: for what is written before it is read. Spares
    /// the time, and leaves memory untouched that is never used.
    pub fn stale(len: usize, align: usize) -> Option<Region> {
        if len == 0 || !align.is_power_of_two() {
            return None;
        }
        let start = memory::take(len, align)?;
        Some(Region { start, len, align })
    }

    /// The address to give to the device, which is also the pointer's.
    #[inline]
    pub fn addr(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// Bytes.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a region is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    access!(u8, read_u8, write_u8);
    access!(u16, read_u16, write_u16);
    access!(u32, read_u32, write_u32);
    access!(u64, read_u64, write_u64);

    /// Copies `to.len()` bytes out from `offset`.
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) {
        let from = self.bytes(offset, to.len());
        // SAFETY: `bytes` checked the source range; `to` cannot overlap it, as nobody holds references into a
        // region.
        unsafe { core::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) }
    }

    /// Copies `from` in at `offset`.
    pub fn copy_in(&self, offset: usize, from: &[u8]) {
        let to = self.bytes(offset, from.len());
        // SAFETY: `bytes` checked the target range; `from` cannot overlap it, as nobody holds references into a
        // region.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) }
    }

    /// Gives the memory up as a slice for good: for buffers whose ownership moves packet by packet.
    pub fn leak(self) -> &'static mut [u8] {
        let (start, len) = (self.start, self.len);
        core::mem::forget(self);
        // SAFETY: the region owned these initialised bytes alone, and is not dropped.
        unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), len) }
    }

    #[inline]
    fn at<T>(&self, offset: usize) -> *mut T {
        let at = self.bytes(offset, size_of::<T>()).cast::<T>();
        assert!(at.is_aligned(), "DMA access at {offset:#x} is not aligned");
        at
    }

    #[inline]
    fn bytes(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(
            offset <= self.len && len <= self.len - offset,
            "DMA access of {len} bytes at {offset:#x} in a region of {:#x}",
            self.len
        );
        self.start.as_ptr().wrapping_add(offset)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        memory::give_back(self.start, self.len, self.align);
    }
}

#[cfg(feature = "image")]
mod memory {
    use crate::frames::{self, FRAME};
    use core::ptr::NonNull;

    pub(super) fn take(len: usize, align: usize) -> Option<NonNull<u8>> {
        let count = len.div_ceil(FRAME as usize);
        let at = frames::allocate(count, align.div_ceil(FRAME as usize))?;
        NonNull::new(at as *mut u8)
    }

    pub(super) fn give_back(start: NonNull<u8>, len: usize, _align: usize) {
        frames::free(start.as_ptr() as u64, len.div_ceil(FRAME as usize));
    }
}

#[cfg(not(feature = "image"))]
mod memory {
    use core::ptr::NonNull;
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    const PAGE: usize = 4096;

    pub(super) fn take(len: usize, align: usize) -> Option<NonNull<u8>> {
        let layout = layout(len, align)?;
        // SAFETY: the layout is not empty: `len` is at least 1. Zeroed, for fresh host memory is not initialised.
        NonNull::new(unsafe { alloc_zeroed(layout) })
    }

    pub(super) fn give_back(start: NonNull<u8>, len: usize, align: usize) {
        let Some(layout) = layout(len, align) else { return };
        // SAFETY: `take` allocated `start` with the same layout.
        unsafe { dealloc(start.as_ptr(), layout) };
    }

    /// Whole pages, as on the machine.
    fn layout(len: usize, align: usize) -> Option<Layout> {
        Layout::from_size_align(len.checked_next_multiple_of(PAGE)?, align.max(PAGE)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_zeroed_aligned_and_at_its_own_address() {
        let region = Region::new(5000, 1 << 14).unwrap();
        assert_eq!((region.addr() % (1 << 14), region.len()), (0, 5000));
        assert!((0..5000).all(|offset| region.read_u8(offset) == 0));
        region.write_u32(4996, 0xdead_beef);
        let address = region.addr() as *const u32;
        // SAFETY: the region owns these bytes; the address is its own plus an aligned offset inside it.
        assert_eq!(unsafe { address.wrapping_add(1249).read() }, 0xdead_beef);
    }

    #[test]
    fn reads_back_what_was_written_at_every_width() {
        let region = Region::new(64, 64).unwrap();
        region.write_u64(0, 0x0102_0304_0506_0708);
        assert_eq!((region.read_u8(0), region.read_u16(0), region.read_u32(4)), (8, 0x0708, 0x0102_0304));
        region.write_u16(62, 0xabcd);
        assert_eq!((region.read_u16(62), region.read_u8(63)), (0xabcd, 0xab));
        region.copy_in(10, b"weir");
        let mut out = [0; 4];
        region.copy_out(10, &mut out);
        assert_eq!(&out, b"weir");
    }

    #[test]
    #[should_panic = "DMA access of 4 bytes at 0x3d in a region of 0x40"]
    fn an_access_over_the_end_panics() {
        Region::new(64, 64).unwrap().read_u32(61);
    }

    #[test]
    #[should_panic = "DMA access of 8 bytes at 0xffffffffffffffff"]
    fn an_offset_that_wraps_panics() {
        Region::new(64, 64).unwrap().write_u64(usize::MAX, 0);
    }

    #[test]
    #[should_panic = "not aligned"]
    fn an_access_out_of_alignment_panics() {
        Region::new(64, 64).unwrap().read_u16(1);
    }

    #[test]
    #[should_panic = "DMA access of 65 bytes"]
    fn a_copy_over_the_end_panics() {
        Region::new(64, 64).unwrap().copy_in(0, &[0; 65]);
    }

    #[test]
    fn refuses_nonsense() {
        assert!(Region::new(0, 8).is_none());
        assert!(Region::new(8, 3).is_none());
        assert!(Region::new(8, 0).is_none());
        assert!(Region::new(usize::MAX, 8).is_none());
    }

    #[test]
    fn a_leaked_region_stays() {
        let region = Region::new(4096, 4096).unwrap();
        let address = region.addr();
        let slice = region.leak();
        slice[4095] = 7;
        assert_eq!((slice.as_ptr() as u64, slice.len()), (address, 4096));
    }
}
