//! Machine code made at run time: compiled packet filters, on pages that are never writable and executable at once.
//!
//! Tasks load and drop code; any context runs it.

use weir_bpf::{Compiled, Filter, Packet, Pattern};

/// A compiled program that can run. Dropping it frees its pages: who shares it between CPUs, in a snapshot say, drops it after
/// a grace period.
#[derive(Debug)]
pub struct Code {
    compiled: Compiled,
    pages: Pages,
}

impl Code {
    /// Puts the code of `compiled` on executable pages of its own. Without memory for them it comes back: its program can
    /// still be interpreted. Task level.
    pub fn load(compiled: Compiled) -> Result<Code, Compiled> {
        match Pages::new(compiled.code()) {
            Some(pages) => Ok(Code { compiled, pages }),
            None => Err(compiled),
        }
    }

    /// Where it begins, for reports and tests.
    pub fn start(&self) -> *const u8 {
        self.pages.start()
    }
}

impl Filter for Code {
    // Nothing is left to do when the code returns: this becomes a jump.
    #[inline]
    fn run(&self, packet: &Packet<'_>) -> u32 {
        let len = (packet.head.len() as u64).min(Compiled::MAX_HEAD);
        let packet_at = core::ptr::from_ref(packet).cast();
        let program = core::ptr::from_ref(self.compiled.program()).cast();
        let entry = self.pages.entry();
        // SAFETY: the pages hold what `weir_bpf::compile` made, which is called this way: nobody else makes a `Compiled`, and
        // `load` copied all of it. It reads `len` bytes of the head at most, fields of the packet, and what its interpreter reads.
        unsafe { entry(packet.head.as_ptr(), len, packet_at, program) }
    }

    fn pattern(&self) -> Pattern {
        self.compiled.program().pattern()
    }
}

/// What [`Compiled::code`] is. The last arguments are a packet and a program.
type Entry =
    unsafe extern "sysv64" fn(head: *const u8, len: u64, packet: *const (), program: *const ()) -> u32;

#[cfg(not(feature = "image"))]
use crate::host::code::Pages;
#[cfg(feature = "image")]
use image::Pages;

/// What pages hold behind the code: `int3`, so that nothing runs on.
pub(crate) const FILL: u8 = 0xcc;

impl Pages {
    #[inline(always)]
    fn entry(&self) -> Entry {
        // SAFETY: `Pages::new` found code there, made to be called as an `Entry`; whether it may be is the caller's duty.
        unsafe { core::mem::transmute::<*const u8, Entry>(self.start()) }
    }
}

#[cfg(feature = "image")]
mod image {
    use super::FILL;
    use crate::frames::{self, FRAME};
    use crate::paging;
    use core::ptr;

    /// Frames that hold code. They are mapped once: executable and read-only, away from the identity map, which lacks them
    /// meanwhile.
    #[derive(Debug)]
    pub(super) struct Pages {
        start: *const u8,
        frames: usize,
        /// Their physical address.
        at: u64,
    }

    // SAFETY: nobody writes to the pages while they are mapped.
    unsafe impl Send for Pages {}
    // SAFETY: as above.
    unsafe impl Sync for Pages {}

    impl Pages {
        pub(super) fn new(code: &[u8]) -> Option<Pages> {
            let frames = code.len().div_ceil(FRAME as usize).max(1);
            let at = frames::allocate(frames, 1)?;
            let bytes = at as *mut u8;
            // SAFETY: the frames were just taken, and are mapped writable at their physical address.
            unsafe { ptr::write_bytes(bytes, FILL, frames * FRAME as usize) };
            // SAFETY: as above; they have room for the code, which is not in them.
            unsafe { ptr::copy_nonoverlapping(code.as_ptr(), bytes, code.len()) };
            match paging::make_executable(at..at + frames as u64 * FRAME) {
                Some(start) => Some(Pages { start: start as *const u8, frames, at }),
                None => {
                    frames::free(at, frames);
                    None
                }
            }
        }

        #[inline(always)]
        pub(super) fn start(&self) -> *const u8 {
            self.start
        }
    }

    impl Drop for Pages {
        fn drop(&mut self) {
            paging::make_writable(self.at..self.at + self.frames as u64 * FRAME);
            frames::free(self.at, self.frames);
        }
    }
}
