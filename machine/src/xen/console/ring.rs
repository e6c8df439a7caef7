//! The console's page (`struct xencons_interface`): a ring of bytes each way. Indices run freely; ours are kept here and only
//! told to the other side, its are checked. Callers take turns at each direction; a panic may break into the output.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

const INPUT: usize = 0;
const INPUT_LEN: u32 = 1024;
const OUTPUT: usize = 1024;
pub(super) const OUTPUT_LEN: u32 = 2048;
const IN_CONS: usize = 3072;
const IN_PROD: usize = 3076;
const OUT_CONS: usize = 3080;
const OUT_PROD: usize = 3084;

/// Our end.
#[derive(Debug)]
pub(super) struct Ring {
    page: NonNull<u8>,
    /// `[A]` As told to the other side. Written by whoever's turn it is.
    out_prod: AtomicU32,
    in_cons: AtomicU32,
}

// SAFETY: the page is shared memory, accessed by single volatile or atomic accesses only.
unsafe impl Send for Ring {}
// SAFETY: as above; what two callers at once would do to each other is a garbled line.
unsafe impl Sync for Ring {}

impl Ring {
    /// Goes on where the page says its last user stopped.
    ///
    /// # Safety
    /// `page` is 4096 bytes, aligned to 4, that stay mapped and are not memory of Rust's otherwise.
    pub(super) unsafe fn new(page: NonNull<u8>) -> Ring {
        let ring = Ring { page, out_prod: AtomicU32::new(0), in_cons: AtomicU32::new(0) };
        ring.out_prod.store(ring.index(OUT_PROD).load(Ordering::Acquire), Ordering::Relaxed);
        ring.in_cons.store(ring.index(IN_CONS).load(Ordering::Acquire), Ordering::Relaxed);
        ring
    }

    /// Moves as much of `text` as fits; how many bytes. 0 as well where the other side's index is impossible.
    pub(super) fn write(&self, text: &[u8]) -> usize {
        let prod = self.out_prod.load(Ordering::Relaxed);
        let used = prod.wrapping_sub(self.index(OUT_CONS).load(Ordering::Acquire));
        let room = OUTPUT_LEN.saturating_sub(used) as usize;
        let count = room.min(text.len());
        let mut at = prod;
        for &byte in text.iter().take(count) {
            // SAFETY: inside the page, as the remainder is less than the ring's length.
            let place = unsafe { self.page.add(OUTPUT + (at % OUTPUT_LEN) as usize) };
            // SAFETY: as above; a byte is always aligned.
            unsafe { place.write_volatile(byte) };
            at = at.wrapping_add(1);
        }
        self.out_prod.store(at, Ordering::Relaxed);
        // The bytes before the index: the other side reads them once it sees it.
        self.index(OUT_PROD).store(at, Ordering::Release);
        count
    }

    /// The next byte of input. Where the other side's index is impossible, what it stands for is skipped.
    pub(super) fn read(&self) -> Option<u8> {
        let cons = self.in_cons.load(Ordering::Relaxed);
        let prod = self.index(IN_PROD).load(Ordering::Acquire);
        let waiting = prod.wrapping_sub(cons);
        let (byte, next) = match waiting {
            0 => return None,
            1..=INPUT_LEN => {
                // SAFETY: inside the page, as the remainder is less than the ring's length.
                let place = unsafe { self.page.add(INPUT + (cons % INPUT_LEN) as usize) };
                // SAFETY: as above; a byte is always aligned.
                (Some(unsafe { place.read_volatile() }), cons.wrapping_add(1))
            }
            _ => (None, prod),
        };
        self.in_cons.store(next, Ordering::Relaxed);
        // The byte before the index: the other side may write its place once it sees it.
        self.index(IN_CONS).store(next, Ordering::Release);
        byte
    }

    /// Whether the last byte of input was read just now: then the other side may wait for room.
    pub(super) fn is_drained(&self) -> bool {
        self.in_cons.load(Ordering::Relaxed) == self.index(IN_PROD).load(Ordering::Acquire)
    }

    /// Whether the other side has taken all output.
    pub(super) fn is_flushed(&self) -> bool {
        self.out_prod.load(Ordering::Relaxed) == self.index(OUT_CONS).load(Ordering::Acquire)
    }

    fn index(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: offsets are those of the four indices, inside the page.
        let at = unsafe { self.page.add(offset) };
        // SAFETY: aligned to 4 as the page is, mapped for good; both sides access the indices as whole words.
        unsafe { AtomicU32::from_ptr(at.as_ptr().cast()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dma::Region;

    /// A page and the backend's view of it.
    struct Backend(Region);

    impl Backend {
        fn new() -> Backend {
            Backend(Region::new(4096, 4096).unwrap())
        }

        fn ring(&self) -> Ring {
            let page = NonNull::new(self.0.addr() as *mut u8).unwrap();
            // SAFETY: the region is a page and outlives the ring in these tests.
            unsafe { Ring::new(page) }
        }

        fn take(&self) -> Vec<u8> {
            let (mut cons, prod) = (self.0.read_u32(OUT_CONS), self.0.read_u32(OUT_PROD));
            let mut text = Vec::new();
            while cons != prod {
                text.push(self.0.read_u8(OUTPUT + (cons % OUTPUT_LEN) as usize));
                cons = cons.wrapping_add(1);
            }
            self.0.write_u32(OUT_CONS, cons);
            text
        }

        fn type_in(&self, text: &[u8]) {
            let prod = self.0.read_u32(IN_PROD);
            for (place, &byte) in text.iter().enumerate() {
                self.0.write_u8(INPUT + (prod as usize + place) % INPUT_LEN as usize, byte);
            }
            self.0.write_u32(IN_PROD, prod.wrapping_add(text.len() as u32));
        }
    }

    #[test]
    fn carries_text_both_ways_around_the_end_of_the_rings_and_of_the_indices() {
        let backend = Backend::new();
        for offset in [OUT_CONS, OUT_PROD, IN_CONS, IN_PROD] {
            backend.0.write_u32(offset, u32::MAX - 5);
        }
        let ring = backend.ring();
        for turn in 0..5_u8 {
            let text: Vec<u8> = (0..700_u32).map(|n| turn.wrapping_add(n as u8)).collect();
            assert_eq!(ring.write(&text), text.len());
            assert_eq!(backend.take(), text);
            backend.type_in(&text);
            assert_eq!(std::iter::from_fn(|| ring.read()).collect::<Vec<u8>>(), text);
            assert!(ring.is_drained());
        }
    }

    #[test]
    fn a_full_ring_takes_no_more_than_fits() {
        let backend = Backend::new();
        let ring = backend.ring();
        assert_eq!(ring.write(&[b'a'; 3000]), 2048);
        assert!(ring.write(b"b") == 0 && !ring.is_flushed());
        assert_eq!(backend.take(), [b'a'; 2048]);
        assert!(ring.is_flushed());
        assert_eq!(ring.write(b"b"), 1);
    }

    #[test]
    fn impossible_indices_are_no_room_and_no_input() {
        let backend = Backend::new();
        let ring = backend.ring();
        backend.0.write_u32(OUT_CONS, 1);
        assert_eq!(ring.write(b"text"), 0);
        backend.0.write_u32(IN_PROD, 1025);
        assert_eq!(ring.read(), None);
        backend.type_in(b"x");
        assert_eq!((ring.read(), ring.read()), (Some(b'x'), None));
    }

    #[test]
    fn what_the_backend_makes_of_our_indices_is_not_believed() {
        let backend = Backend::new();
        let ring = backend.ring();
        assert_eq!(ring.write(b"one"), 3);
        backend.0.write_u32(OUT_PROD, 77);
        backend.0.write_u32(IN_CONS, 77);
        backend.type_in(b"y");
        assert_eq!((ring.write(b"two"), ring.read()), (3, Some(b'y')));
        assert_eq!(backend.take(), b"onetwo");
        assert_eq!(backend.0.read_u32(IN_CONS), 1);
    }
}
