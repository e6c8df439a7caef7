//! A Xen I/O ring seen from the front end (Xen `public/io/ring.h`): one shared page in which requests go out and
//! responses come back through the same slots.
//!
//! The backend writes `rsp_prod` and every slot whenever it likes. Each word is read once, then checked;
//! what we believe is kept in private indices that the backend cannot reach.

use crate::violation::Violation;
use core::sync::atomic::{Ordering, fence};
use weir_machine::xen::grant::Page;

/// Bytes of the shared page.
pub(crate) const PAGE: usize = 4096;
/// Offsets of the shared indices and of the first slot (`DEFINE_RING_TYPES`).
const REQ_PROD: usize = 0;
const REQ_EVENT: usize = 4;
const RSP_PROD: usize = 8;
const RSP_EVENT: usize = 12;
const FIRST: usize = 64;
const WORD: usize = 4;

/// The front end's half of a ring whose slots have `WORDS` words: 3 for transmit, 2 for receive, 4 for control.
/// `[C]` of whoever owns the queue.
#[derive(Debug)]
pub(crate) struct FrontRing<const WORDS: usize> {
    page: Page,
    /// Next request to fill, as a free-running index; ahead of what the backend was told.
    req_prod: u32,
    /// Requests the backend was told of.
    req_pushed: u32,
    /// Next response to take.
    rsp_cons: u32,
    /// Responses the backend told of, at the last [`poll`](Self::poll).
    rsp_seen: u32,
}

impl<const WORDS: usize> FrontRing<WORDS> {
    /// Slots of the ring: the largest power of two that fits the page.
    pub(crate) const SIZE: u32 = 1 << ((PAGE - FIRST) / (WORDS * WORD)).ilog2();

    /// An empty ring (`SHARED_RING_INIT`) in a fresh page that the backend may write.
    pub(crate) fn new(page: Page) -> Self {
        page.region().write_u32(REQ_EVENT, 1);
        page.region().write_u32(RSP_EVENT, 1);
        Self { page, req_prod: 0, req_pushed: 0, rsp_cons: 0, rsp_seen: 0 }
    }

    /// What the backend maps the ring by.
    pub(crate) fn reference(&self) -> u32 {
        self.page.reference()
    }

    /// Requests that can be filled now.
    #[inline]
    pub(crate) fn free(&self) -> u32 {
        Self::SIZE - self.outstanding()
    }

    /// Requests filled whose responses were not taken yet.
    #[inline]
    pub(crate) fn outstanding(&self) -> u32 {
        self.req_prod.wrapping_sub(self.rsp_cons)
    }

    /// Fills the next request and returns its index; `None` when the ring is full.
    #[inline]
    pub(crate) fn request(&mut self, slot: &[u32; WORDS]) -> Option<u32> {
        if self.free() == 0 {
            return None;
        }
        let index = self.req_prod;
        for (nth, &word) in slot.iter().enumerate() {
            self.page.region().write_u32(Self::offset(index) + nth * WORD, word);
        }
        self.req_prod = index.wrapping_add(1);
        Some(index)
    }

    /// Shows the filled requests to the backend, if there are new ones; `true` if it asked to be notified of them
    /// (`RING_PUSH_REQUESTS_AND_CHECK_NOTIFY`).
    // Once a batch, and its fence costs more than the call.
    #[inline(never)]
    #[must_use = "a backend that asked for a notification waits for it"]
    pub(crate) fn push(&mut self) -> bool {
        let old = self.req_pushed;
        if self.req_prod == old {
            return false;
        }
        // Slots before the index: the backend reads slots once it sees req_prod.
        fence(Ordering::Release);
        self.page.region().write_u32(REQ_PROD, self.req_prod);
        self.req_pushed = self.req_prod;
        // The index before the event threshold: else both sides could miss each other.
        fence(Ordering::SeqCst);
        let event = self.page.region().read_u32(REQ_EVENT);
        self.req_prod.wrapping_sub(event) < self.req_prod.wrapping_sub(old)
    }

    /// Looks how many responses there are, those of earlier looks that were not taken yet included.
    ///
    /// # Errors
    /// When the backend claims responses to requests it was never told of, or takes responses back.
    #[inline]
    pub(crate) fn poll(&mut self) -> Result<u32, Violation> {
        let rsp_prod = self.page.region().read_u32(RSP_PROD);
        if rsp_prod == self.rsp_seen {
            return Ok(self.ready());
        }
        // From here on slots up to rsp_prod are read.
        fence(Ordering::Acquire);
        let ready = rsp_prod.wrapping_sub(self.rsp_cons);
        if ready > self.req_pushed.wrapping_sub(self.rsp_cons) {
            let backwards = self.rsp_seen.wrapping_sub(rsp_prod) <= Self::SIZE;
            let breach =
                if backwards { Violation::ResponseIndexBackwards } else { Violation::ResponseIndexRunaway };
            return Err(breach);
        }
        if ready < self.ready() {
            return Err(Violation::ResponseIndexBackwards);
        }
        self.rsp_seen = rsp_prod;
        Ok(ready)
    }

    /// Responses the last [`poll`](Self::poll) saw that were not taken yet.
    #[inline]
    pub(crate) fn ready(&self) -> u32 {
        self.rsp_seen.wrapping_sub(self.rsp_cons)
    }

    /// Takes the next of the [`ready`](Self::ready) responses: its index, which is that of the request whose slot it
    /// lies in, and its words, each read once.
    #[inline]
    pub(crate) fn response(&mut self) -> Option<(u32, [u32; WORDS])> {
        if self.ready() == 0 {
            return None;
        }
        let index = self.rsp_cons;
        let offset = Self::offset(index);
        let words = core::array::from_fn(|nth| self.page.region().read_u32(offset + nth * WORD));
        self.rsp_cons = index.wrapping_add(1);
        Some((index, words))
    }

    /// Index of the next request to fill.
    #[inline]
    pub(crate) fn next(&self) -> u32 {
        self.req_prod
    }

    /// Responses taken since the beginning, as a free-running number.
    #[inline]
    pub(crate) fn consumed(&self) -> u32 {
        self.rsp_cons
    }

    /// Asks for an event at the next response, then looks once more: `true` if one is there already
    /// (`RING_FINAL_CHECK_FOR_RESPONSES`).
    #[inline(never)]
    pub(crate) fn arm(&mut self) -> bool {
        self.wait_for(1);
        fence(Ordering::SeqCst);
        self.page.region().read_u32(RSP_PROD) != self.rsp_cons
    }

    /// Asks for an event when `responses` from now on have come. May be missed if they are there already.
    #[inline]
    pub(crate) fn wait_for(&self, responses: u32) {
        self.page.region().write_u32(RSP_EVENT, self.rsp_cons.wrapping_add(responses));
    }

    #[inline]
    fn offset(index: u32) -> usize {
        FIRST + (index & (Self::SIZE - 1)) as usize * WORDS * WORD
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_machine::xen::DomId;
    use weir_machine::xen::grant::{Access, Table};

    type Ring = FrontRing<3>;

    fn ring() -> Ring {
        Ring::new(Page::new(Table::simulated(1), DomId(0), Access::ReadWrite).unwrap())
    }

    /// A backend that answers `count` requests with their own words.
    fn answer(ring: &Ring, count: u32) {
        let region = ring.page.region();
        region.write_u32(RSP_PROD, region.read_u32(RSP_PROD).wrapping_add(count));
    }

    #[test]
    fn sizes_are_those_of_netif() {
        assert_eq!((FrontRing::<3>::SIZE, FrontRing::<2>::SIZE, FrontRing::<4>::SIZE), (256, 256, 128));
    }

    #[test]
    fn responses_come_back_in_order_across_the_wrap_of_the_index() {
        let mut ring = ring();
        let start = u32::MAX - 5;
        (ring.req_prod, ring.req_pushed, ring.rsp_cons, ring.rsp_seen) = (start, start, start, start);
        ring.page.region().write_u32(RSP_PROD, start);
        for round in 0..1000u32 {
            let index = start.wrapping_add(round);
            assert_eq!(ring.request(&[round; 3]), Some(index));
            let _ = ring.push();
            answer(&ring, 1);
            assert_eq!(ring.poll(), Ok(1));
            assert_eq!(ring.response(), Some((index, [round; 3])));
            assert_eq!(ring.poll(), Ok(0));
            assert_eq!(ring.response(), None);
        }
    }

    #[test]
    fn a_full_ring_takes_no_more() {
        let mut ring = ring();
        for _ in 0..Ring::SIZE {
            assert!(ring.request(&[0; 3]).is_some());
        }
        assert!(ring.request(&[0; 3]).is_none());
        assert_eq!((ring.free(), ring.outstanding()), (0, Ring::SIZE));
    }

    #[test]
    fn notifies_only_when_the_backend_asked() {
        let mut ring = ring();
        assert!(!ring.push(), "nothing is new");
        assert!(ring.request(&[0; 3]).is_some());
        assert!(ring.push(), "req_event starts at 1");
        assert!(ring.request(&[0; 3]).is_some());
        assert!(!ring.push(), "the backend is awake");
        ring.page.region().write_u32(REQ_EVENT, 3);
        assert!(ring.request(&[0; 3]).is_some());
        assert!(ring.push());
    }

    #[test]
    fn an_index_that_runs_away_is_a_violation() {
        let mut ring = ring();
        assert!(ring.request(&[0; 3]).is_some());
        assert!(ring.request(&[0; 3]).is_some());
        answer(&ring, 1);
        assert_eq!(ring.poll(), Err(Violation::ResponseIndexRunaway), "requests were filled but not pushed");
        let _ = ring.push();
        answer(&ring, 2);
        assert_eq!(ring.poll(), Err(Violation::ResponseIndexRunaway));
    }

    #[test]
    fn an_index_that_runs_backwards_is_a_violation() {
        let mut ring = ring();
        for _ in 0..3 {
            assert!(ring.request(&[0; 3]).is_some());
        }
        let _ = ring.push();
        answer(&ring, 2);
        assert_eq!(ring.poll(), Ok(2));
        answer(&ring, u32::MAX);
        assert_eq!(
            ring.poll(),
            Err(Violation::ResponseIndexBackwards),
            "one seen and not taken is taken back"
        );
        assert!(ring.response().is_some() && ring.response().is_some());
        assert_eq!(ring.poll(), Err(Violation::ResponseIndexBackwards), "one taken is taken back");
    }

    #[test]
    fn arming_sees_a_response_that_came_meanwhile() {
        let mut ring = ring();
        assert!(ring.request(&[0; 3]).is_some());
        let _ = ring.push();
        assert!(!ring.arm());
        answer(&ring, 1);
        assert!(ring.arm());
    }
}
