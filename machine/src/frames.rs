//! Physical memory by 4 KiB frame: one bit a frame, contiguous runs, first fit from the lowest free one.
//!
//! Called at boot and from tasks, by the heap, by DMA regions and by the page tables. Never from softints.

use core::ops::Range;

/// Bytes in a frame.
pub const FRAME: u64 = 4096;

/// Free frames of one stretch of physical memory that starts at frame 0. A set bit is a free frame.
#[derive(Debug)]
pub struct Bitmap<'a> {
    words: &'a mut [u64],
    /// No frame below this word is free.
    lowest: usize,
    free: usize,
}

impl<'a> Bitmap<'a> {
    /// Words needed for `frames` frames.
    pub const fn words_for(frames: usize) -> usize {
        frames.div_ceil(64)
    }

    /// Starts with no frame free, whatever `words` holds.
    pub fn new(words: &'a mut [u64]) -> Self {
        words.fill(0);
        Self { lowest: words.len(), words, free: 0 }
    }

    /// Frames that are free.
    pub fn free_frames(&self) -> usize {
        self.free
    }

    /// Gives `frames` to the allocator; neighbours coalesce by themselves. Frames beyond the map are ignored.
    ///
    /// # Panics
    /// If one of them is free already.
    pub fn release(&mut self, frames: Range<usize>) {
        let end = frames.end.min(self.words.len() * 64);
        for (word, mask) in masks(frames.start..end) {
            assert!(self.words[word] & mask == 0, "frame freed twice in frames {frames:?}");
            self.words[word] |= mask;
            self.free += mask.count_ones() as usize;
            self.lowest = self.lowest.min(word);
        }
    }

    /// Takes `frames` out, whether they are free or not.
    pub fn reserve(&mut self, frames: Range<usize>) {
        let end = frames.end.min(self.words.len() * 64);
        for (word, mask) in masks(frames.start..end) {
            self.free -= (self.words[word] & mask).count_ones() as usize;
            self.words[word] &= !mask;
        }
    }

    /// Takes `count` contiguous frames whose first number is a multiple of `align`; the first one's number.
    pub fn take(&mut self, count: usize, align: usize) -> Option<usize> {
        if count == 0 || count > self.free || !align.is_power_of_two() {
            return None;
        }
        while self.words.get(self.lowest) == Some(&0) {
            self.lowest += 1;
        }
        let end = self.words.len() * 64;
        let mut start = (self.lowest * 64).next_multiple_of(align);
        while start.checked_add(count)? <= end {
            match self.last_used(start..start + count) {
                None => {
                    self.reserve(start..start + count);
                    return Some(start);
                }
                Some(used) => start = self.next_free(used + 1)?.next_multiple_of(align),
            }
        }
        None
    }

    /// The highest frame of `frames` that is not free.
    fn last_used(&self, frames: Range<usize>) -> Option<usize> {
        masks(frames)
            .filter_map(|(word, mask)| {
                let used = !self.words[word] & mask;
                (used != 0).then(|| word * 64 + 63 - used.leading_zeros() as usize)
            })
            .last()
    }

    /// The first free frame from `frame` on.
    fn next_free(&self, frame: usize) -> Option<usize> {
        masks(frame..self.words.len() * 64).find_map(|(word, mask)| {
            let free = self.words[word] & mask;
            (free != 0).then(|| word * 64 + free.trailing_zeros() as usize)
        })
    }
}

/// The words that hold `frames`, each with the mask of the bits that belong to it.
fn masks(frames: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let Range { start, end } = frames;
    let words = if start < end { start / 64..end.div_ceil(64) } else { 0..0 };
    words.map(move |word| {
        let low = start.saturating_sub(word * 64);
        let high = (end - word * 64).min(64);
        (word, (u64::MAX >> (64 - (high - low))) << low)
    })
}

/// The whole frames inside `bytes`.
pub fn inside(bytes: &Range<u64>) -> Range<usize> {
    bytes.start.div_ceil(FRAME) as usize..(bytes.end / FRAME) as usize
}

/// All frames that `bytes` touches.
pub fn touched(bytes: &Range<u64>) -> Range<usize> {
    (bytes.start / FRAME) as usize..bytes.end.div_ceil(FRAME) as usize
}

#[cfg(feature = "image")]
pub(crate) use image::start;
#[cfg(feature = "image")]
pub use image::{allocate, free, free_bytes, total_bytes};

/// Bytes free now. 0 on the host, whose memory is its own affair.
#[cfg(not(feature = "image"))]
pub fn free_bytes() -> u64 {
    0
}

/// Bytes the allocator was given at boot. 0 on the host.
#[cfg(not(feature = "image"))]
pub fn total_bytes() -> u64 {
    0
}

#[cfg(feature = "image")]
mod image {
    use super::{Bitmap, FRAME, inside, touched};
    use crate::lock::Lock;
    use core::ops::Range;
    use core::sync::atomic::{AtomicU64, Ordering};
    use weir_sync::rank::Frames;

    static FRAMES: Lock<Frames, Option<Bitmap<'static>>> = Lock::new(None);
    /// `[A]` Copies of the allocator's figures, for reports that must not take its lock. Relaxed.
    static FREE: AtomicU64 = AtomicU64::new(0);
    static TOTAL: AtomicU64 = AtomicU64::new(0);

    /// Takes `frames` contiguous frames, aligned to `align` frames (a power of two); their physical address.
    /// The content is whatever the last owner left.
    pub fn allocate(frames: usize, align: usize) -> Option<u64> {
        let mut guard = FRAMES.lock();
        let map = guard.as_mut()?;
        let first = map.take(frames, align)?;
        FREE.store(map.free_frames() as u64 * FRAME, Ordering::Relaxed);
        Some(first as u64 * FRAME)
    }

    /// Gives back `frames` frames from physical address `at`.
    ///
    /// # Panics
    /// If one of them is free already.
    pub fn free(at: u64, frames: usize) {
        let mut guard = FRAMES.lock();
        let Some(map) = guard.as_mut() else { return };
        let first = (at / FRAME) as usize;
        map.release(first..first + frames);
        FREE.store(map.free_frames() as u64 * FRAME, Ordering::Relaxed);
    }

    /// Bytes free now.
    pub fn free_bytes() -> u64 {
        FREE.load(Ordering::Relaxed)
    }

    /// Bytes the allocator was given at boot.
    pub fn total_bytes() -> u64 {
        TOTAL.load(Ordering::Relaxed)
    }

    /// Hands the allocator all of `ram` but `reserved` and the first MiB, which stays with the firmware and
    /// the trampoline of the other CPUs. The map itself goes into the lowest gap that holds it.
    ///
    /// # Panics
    /// If there is no room for the map.
    pub(crate) fn start(ram: &[Range<u64>], reserved: &[Range<u64>]) {
        const FIRST_MIB: u64 = 1 << 20;
        let end = ram.iter().map(|area| area.end).max().unwrap_or(0);
        let words = Bitmap::words_for((end / FRAME) as usize);
        let bytes = (words as u64 * 8).next_multiple_of(FRAME);
        let place = gap(ram, reserved, bytes, FIRST_MIB).expect("no room in RAM for the frame map");
        // SAFETY: `gap` found these bytes inside RAM, below 4 GiB (mapped since entry), clear of the image and
        // of everything the loader left; nothing else is handed out before the map exists.
        let words = unsafe { core::slice::from_raw_parts_mut(place as *mut u64, words) };
        let mut map = Bitmap::new(words);
        for area in ram {
            map.release(inside(&(area.start.max(FIRST_MIB)..area.end)));
        }
        for area in reserved {
            map.reserve(touched(area));
        }
        map.reserve(touched(&(place..place + bytes)));
        FREE.store(map.free_frames() as u64 * FRAME, Ordering::Relaxed);
        TOTAL.store(map.free_frames() as u64 * FRAME, Ordering::Relaxed);
        *FRAMES.lock() = Some(map);
    }

    /// The lowest frame-aligned gap of `bytes` in `ram` from `from` to 4 GiB, clear of `reserved`.
    fn gap(ram: &[Range<u64>], reserved: &[Range<u64>], bytes: u64, from: u64) -> Option<u64> {
        let after_reserved = reserved.iter().map(|area| area.end);
        let starts = ram.iter().map(|area| area.start).chain(after_reserved).chain([from]);
        starts
            .filter(|&start| start >= from)
            .map(|start| start.next_multiple_of(FRAME))
            .filter(|&start| {
                let end = start + bytes;
                end <= 1 << 32
                    && ram.iter().any(|area| area.start <= start && end <= area.end)
                    && reserved.iter().all(|area| end <= area.start || area.end <= start)
            })
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hands_out_the_lowest_run_and_coalesces_what_comes_back() {
        let mut words = [0; 4];
        let mut map = Bitmap::new(&mut words);
        map.release(10..200);
        let first = map.take(100, 1).unwrap();
        let second = map.take(90, 1).unwrap();
        assert_eq!((first, second, map.free_frames()), (10, 110, 0));
        assert_eq!(map.take(1, 1), None);
        map.release(second..second + 90);
        map.release(first..first + 100);
        assert_eq!(map.take(190, 1), Some(10));
    }

    #[test]
    fn aligns_and_skips_holes() {
        let mut words = [0; 8];
        let mut map = Bitmap::new(&mut words);
        map.release(1..63);
        map.release(65..512);
        assert_eq!(map.take(64, 64), Some(128));
        assert_eq!(map.take(63, 1), Some(65));
        assert_eq!(map.take(62, 1), Some(1));
        assert_eq!(map.take(321, 1), None);
        assert_eq!(map.take(320, 1), Some(192));
        assert_eq!(map.free_frames(), 0);
    }

    #[test]
    fn reserves_what_is_and_what_is_not_free() {
        let mut words = [0; 2];
        let mut map = Bitmap::new(&mut words);
        map.release(0..64);
        map.reserve(32..128);
        assert_eq!(map.free_frames(), 32);
        assert_eq!(map.take(33, 1), None);
    }

    #[test]
    #[should_panic = "freed twice"]
    fn a_double_free_is_caught() {
        let mut words = [0; 1];
        let mut map = Bitmap::new(&mut words);
        map.release(0..8);
        map.release(7..9);
    }

    #[test]
    fn rounds_ranges_inward_and_outward() {
        assert_eq!(inside(&(1..3 * 4096 + 1)), 1..3);
        assert_eq!(touched(&(1..3 * 4096 + 1)), 0..4);
    }

    proptest! {
        /// Runs never overlap, are aligned, stay inside what was released, and all come back.
        #[test]
        fn runs_never_overlap(requests in proptest::collection::vec((1usize..40, 0u32..5, any::<bool>()), 1..80)) {
            let mut words = [0; 16];
            let mut map = Bitmap::new(&mut words);
            map.release(3..900);
            let mut held: Vec<Range<usize>> = Vec::new();
            for (count, align, give_back) in requests {
                if give_back && !held.is_empty() {
                    let run = held.swap_remove(count % held.len());
                    map.release(run);
                } else if let Some(first) = map.take(count, 1 << align) {
                    prop_assert_eq!(first % (1 << align), 0);
                    prop_assert!(first >= 3 && first + count <= 900);
                    prop_assert!(held.iter().all(|run| first + count <= run.start || run.end <= first));
                    held.push(first..first + count);
                } else {
                    // Refused: then a linear scan finds no such run either.
                    let is_free = |frame: usize| held.iter().all(|run| !run.contains(&frame));
                    let fits = |first: usize| (first..first + count).all(is_free);
                    prop_assert!(!(3..=900 - count).filter(|first| first % (1 << align) == 0).any(fits));
                }
                prop_assert_eq!(map.free_frames(), 897 - held.iter().map(Range::len).sum::<usize>());
            }
        }
    }
}
