//! Tables of words in memory that a device reads and writes, such as rings: any index is good, it wraps around.

use super::Region;
use alloc::sync::Arc;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

/// Memory that is only reached through [`Words`]. Freed when nobody has any.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Region>);

// SAFETY: nobody but `Words` reaches the bytes, and it does by atomic operations alone.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// Words that [`Words`] can hold: any bits are a value, and they can be read while somebody else writes.
pub trait Word: sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

impl sealed::Sealed for AtomicU16 {}
impl sealed::Sealed for AtomicU32 {}
impl sealed::Sealed for AtomicU64 {}
impl Word for AtomicU16 {}
impl Word for AtomicU32 {}
impl Word for AtomicU64 {}

/// A power of two of words. What is read can be anything: the device writes there, too.
#[derive(Debug)]
pub struct Words<W> {
    /// Keeps them alive.
    _memory: Shared,
    first: NonNull<W>,
    mask: usize,
}

// SAFETY: `W` is an atomic, which any thread may use, and `_memory` keeps it alive.
unsafe impl<W: Word> Send for Words<W> {}
// SAFETY: as above.
unsafe impl<W: Word> Sync for Words<W> {}

impl Region {
    /// Makes it memory for [`Words`].
    pub fn share(self) -> Shared {
        #[expect(clippy::arc_with_non_send_sync, reason = "`Shared` says why it is both")]
        Shared(Arc::new(self))
    }
}

impl Shared {
    /// The address to give to the device.
    pub fn addr(&self) -> u64 {
        self.0.addr()
    }

    /// `count` words from byte `offset` on.
    ///
    /// # Panics
    /// If `count` is no power of two, or the words are not within the memory, or not aligned.
    pub fn words<W: Word>(&self, offset: usize, count: usize) -> Words<W> {
        assert!(count.is_power_of_two(), "a table of {count} words");
        let len = count.saturating_mul(size_of::<W>());
        let first = self.0.bytes(offset, len).cast::<W>();
        assert!(first.is_aligned(), "words at {offset:#x} are not aligned");
        let Some(first) = NonNull::new(first) else { panic!("no memory") };
        Words { _memory: self.clone(), first, mask: count - 1 }
    }
}

impl<W: Word> Words<W> {
    /// The word of that index, modulo their number.
    #[inline]
    pub fn at(&self, index: usize) -> &W {
        // SAFETY: `words` checked that `mask + 1` words lie inside the memory, which lives as long as `self`.
        let word = unsafe { self.first.add(index & self.mask) };
        // SAFETY: as above; it is aligned, any bits are a value, and others change it by atomic operations or are
        // devices.
        unsafe { word.as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::Ordering::Relaxed;

    #[test]
    fn indices_wrap_around() {
        let memory = Region::new(64, 64).unwrap().share();
        let (words, bytes) = (memory.words::<AtomicU16>(4, 4), memory.words::<AtomicU64>(0, 2));
        for index in 0..4 {
            words.at(index + 4).store(0x1111 * (index as u16 + 1), Relaxed);
        }
        assert_eq!(words.at(usize::MAX).load(Relaxed), 0x4444);
        assert_eq!(bytes.at(0).load(Relaxed), 0x2222_1111_0000_0000);
        assert_eq!(bytes.at(3).load(Relaxed), 0x4444_3333);
        drop(memory);
        assert_eq!(words.at(5).load(Relaxed), 0x2222, "the words keep the memory");
    }

    #[test]
    #[should_panic = "DMA access of 64 bytes at 0x8 in a region of 0x40"]
    fn a_table_over_the_end_panics() {
        Region::new(64, 64).unwrap().share().words::<AtomicU32>(8, 16);
    }

    #[test]
    #[should_panic = "DMA access of 18446744073709551615 bytes"]
    fn a_table_of_absurd_length_panics() {
        Region::new(64, 64).unwrap().share().words::<AtomicU64>(0, 1 << 63);
    }

    #[test]
    #[should_panic = "not aligned"]
    fn a_table_out_of_alignment_panics() {
        Region::new(64, 64).unwrap().share().words::<AtomicU64>(4, 1);
    }

    #[test]
    #[should_panic = "a table of 3 words"]
    fn a_table_of_another_size_panics() {
        Region::new(64, 64).unwrap().share().words::<AtomicU16>(0, 3);
    }
}
