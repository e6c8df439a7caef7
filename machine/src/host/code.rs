//! Pages for machine code in a program: mapped writable, filled, and then made executable instead. The C library is linked by std.

use crate::code::FILL;
use core::ffi::{c_int, c_void};
use core::ptr::{self, NonNull};

const PAGE: usize = 4096;
// asm-generic/mman-common.h.
const PROT_READ: c_int = 1;
const PROT_WRITE: c_int = 2;
const PROT_EXEC: c_int = 4;
const MAP_PRIVATE: c_int = 2;
const MAP_ANONYMOUS: c_int = 0x20;
const MAP_FAILED: usize = usize::MAX;

unsafe extern "C" {
    fn mmap(
        address: *mut c_void,
        len: usize,
        access: c_int,
        flags: c_int,
        file: c_int,
        offset: i64,
    ) -> *mut c_void;
    fn mprotect(address: *mut c_void, len: usize, access: c_int) -> c_int;
    fn munmap(address: *mut c_void, len: usize) -> c_int;
}

/// Pages that hold code, executable and read-only.
#[derive(Debug)]
pub(crate) struct Pages {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: nobody writes to the pages after `new`.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    pub(crate) fn new(code: &[u8]) -> Option<Pages> {
        let len = code.len().next_multiple_of(PAGE).max(PAGE);
        let (access, flags) = (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
        // SAFETY: new memory, wherever there is room.
        let at = unsafe { mmap(ptr::null_mut(), len, access, flags, -1, 0) };
        let start = NonNull::new(at.cast::<u8>()).filter(|start| start.as_ptr() as usize != MAP_FAILED)?;
        let pages = Pages { start, len };
        // SAFETY: the pages are ours and writable.
        unsafe { ptr::write_bytes(start.as_ptr(), FILL, len) };
        // SAFETY: as above; they have room for the code, which is not in them.
        unsafe { ptr::copy_nonoverlapping(code.as_ptr(), start.as_ptr(), code.len()) };
        // SAFETY: the pages are ours, and nobody writes to them from here on.
        let refused = unsafe { mprotect(at, len, PROT_READ | PROT_EXEC) };
        (refused == 0).then_some(pages)
    }

    #[inline(always)]
    pub(crate) fn start(&self) -> *const u8 {
        self.start.as_ptr()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the pages are ours, and nobody can run them any more.
        unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}
