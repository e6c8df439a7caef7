//! The global allocator: talc, fed with chunks of frames as it runs dry.
//!
//! Memory taken from the frames stays with the heap. Boot and tasks allocate; softints never do.

use crate::frames::{self, FRAME};
use crate::lock::Spin;
use core::alloc::Layout;
use core::ptr::NonNull;
use talc::TalcLock;
use talc::base::Talc;
use talc::base::binning::Binning;
use talc::source::Source;
use weir_sync::rank::Heap;

/// Frames asked for at a time, if there are so many.
const CHUNK: usize = 256;

#[global_allocator]
static HEAP: TalcLock<Spin<Heap>, Frames> = TalcLock::new(Frames { end: None });

/// Where the heap's memory comes from.
#[derive(Debug)]
struct Frames {
    /// End of the chunk claimed last: a new chunk that begins there extends it.
    end: Option<NonNull<u8>>,
}

// SAFETY: `acquire` touches the frame allocator only, which does not use the heap. `end` points into memory the
// heap owns for good.
unsafe impl Source for Frames {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        // Room for the heap's own bookkeeping, and for the alignment of the block inside the chunk.
        let needed =
            layout.size().checked_add(layout.align()).and_then(|sum| sum.checked_add(2 * FRAME as usize));
        let least = needed.ok_or(())?.div_ceil(FRAME as usize);
        let (base, count) = [least.max(CHUNK), least]
            .into_iter()
            .find_map(|count| Some((frames::allocate(count, 1)? as *mut u8, count)))
            .ok_or(())?;
        let size = count * FRAME as usize;
        let new_end = base.wrapping_add(size);
        let end = match talc.source.end {
            Some(end) if end.as_ptr() == base => {
                // SAFETY: `end` is the end of the heap claimed last, and the frames behind it were just taken.
                unsafe { talc.extend(end, new_end) }
            }
            _ => {
                // SAFETY: these frames were just taken, so nobody else touches them.
                unsafe { talc.claim(base, size) }.ok_or(())?
            }
        };
        talc.source.end = Some(end);
        Ok(())
    }
}

// SAFETY: the pointer is used under the heap's lock only, on whichever CPU holds it.
unsafe impl Send for Frames {}
