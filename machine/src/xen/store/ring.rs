//! The page shared with xenstored: a ring of bytes each way (`struct xenstore_domain_interface`).

use alloc::collections::VecDeque;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

/// `XENSTORE_RING_SIZE`.
pub(crate) const RING: u32 = 1024;
const REQUESTS: usize = 0;
const REPLIES: usize = RING as usize;
const REQ_CONS: usize = 2 * RING as usize;
const REQ_PROD: usize = REQ_CONS + 4;
const RSP_CONS: usize = REQ_CONS + 8;
const RSP_PROD: usize = REQ_CONS + 12;
const FEATURES: usize = REQ_CONS + 16;
const ERROR: usize = REQ_CONS + 24;
/// `XENSTORE_SERVER_FEATURE_ERROR`: the field means something.
const FEATURE_ERROR: u32 = 2;

/// Our end of it. Indices run freely; ours are kept here and only told to the other side, its are checked.
#[derive(Debug)]
pub(crate) struct Ring {
    page: NonNull<u8>,
    req_prod: u32,
    rsp_cons: u32,
}

// SAFETY: the page is shared memory that any CPU may access; the ring's owner decides who does.
unsafe impl Send for Ring {}

impl Ring {
    /// Starts where the page says the last user of it stopped. What lies in it unread was not for us.
    ///
    /// # Safety
    /// `page` is 4096 bytes, aligned to 4, that stay mapped and are not memory of Rust's otherwise.
    pub(crate) unsafe fn new(page: NonNull<u8>) -> Ring {
        let mut ring = Ring { page, req_prod: 0, rsp_cons: 0 };
        ring.req_prod = ring.word(REQ_PROD).load(Ordering::Relaxed);
        ring.rsp_cons = ring.word(RSP_PROD).load(Ordering::Acquire);
        ring.word(RSP_CONS).store(ring.rsp_cons, Ordering::Release);
        ring
    }

    /// Moves as much from the front of `from` as fits; how many bytes. The error names what is wrong with the ring.
    pub(crate) fn send(&mut self, from: &mut VecDeque<u8>) -> Result<usize, &'static str> {
        let waiting = self.req_prod.wrapping_sub(self.word(REQ_CONS).load(Ordering::Acquire));
        let room = RING.checked_sub(waiting).ok_or("request-index-runs-away")? as usize;
        let count = room.min(from.len());
        for (offset, byte) in from.drain(..count).enumerate() {
            let at = self.byte(REQUESTS, self.req_prod.wrapping_add(offset as u32));
            // SAFETY: `byte` stays inside the page.
            unsafe { at.write_volatile(byte) };
        }
        self.req_prod = self.req_prod.wrapping_add(count as u32);
        // Bytes before the index: xenstored reads them once it sees it.
        self.word(REQ_PROD).store(self.req_prod, Ordering::Release);
        Ok(count)
    }

    /// Moves what has arrived into `into`; how many bytes.
    pub(crate) fn receive<'a>(
        &mut self,
        into: &'a mut [u8; RING as usize],
    ) -> Result<&'a [u8], &'static str> {
        if self.word(FEATURES).load(Ordering::Relaxed) & FEATURE_ERROR != 0
            && self.word(ERROR).load(Ordering::Relaxed) != 0
        {
            return Err("reported-by-the-store");
        }
        let count = self.word(RSP_PROD).load(Ordering::Acquire).wrapping_sub(self.rsp_cons);
        let bytes = into.get_mut(..count as usize).ok_or("reply-index-runs-away")?;
        for (offset, byte) in bytes.iter_mut().enumerate() {
            let at = self.byte(REPLIES, self.rsp_cons.wrapping_add(offset as u32));
            // SAFETY: `byte` stays inside the page.
            *byte = unsafe { at.read_volatile() };
        }
        self.rsp_cons = self.rsp_cons.wrapping_add(count);
        // Reads before the index: xenstored overwrites once it sees it.
        self.word(RSP_CONS).store(self.rsp_cons, Ordering::Release);
        Ok(bytes)
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        let at = self.page.as_ptr().wrapping_add(offset).cast();
        // SAFETY: the offsets above are aligned and inside the page, which lives on.
        unsafe { AtomicU32::from_ptr(at) }
    }

    fn byte(&self, ring: usize, index: u32) -> *mut u8 {
        self.page.as_ptr().wrapping_add(ring + (index % RING) as usize)
    }
}
