//! A Xen I/O ring seen from the front end (xen/include/public/io/ring.h): one shared page in which requests go out and
//! responses come back through the same slots.
//!
//! The backend writes `rsp_prod` and every slot whenever it likes. Each is read once, copied, then checked;
//! what we believe is kept in private indices that the backend cannot reach.

use weir_machine::dma::Region;
use weir_netif::Fault;

/// Bytes of the shared page.
pub const PAGE: usize = 4096;
/// Offsets of the shared indices and of the first slot (`DEFINE_RING_TYPES`).
const REQ_PROD: usize = 0;
const REQ_EVENT: usize = 4;
const RSP_PROD: usize = 8;
const RSP_EVENT: usize = 12;
const SLOTS: usize = 64;

/// `rsp_prod` claims more responses than there are requests outstanding.
pub const RUNAWAY: Fault = Fault { reason: "ring-response-index-runaway" };

/// The front end's half of a ring whose slots have `SLOT` bytes: 12 for transmit, 8 for receive (io/netif.h).
#[derive(Debug)]
pub struct FrontRing<const SLOT: usize> {
    page: Region,
    /// Next request to fill, as a free-running index; ahead of what the backend was told.
    req_prod: u32,
    /// Requests the backend was told of.
    req_pushed: u32,
    /// Next response to take.
    rsp_cons: u32,
}

impl<const SLOT: usize> FrontRing<SLOT> {
    /// Slots of the ring: the largest power of two that fits the page.
    pub const SIZE: u32 = 1 << ((PAGE - SLOTS) / SLOT).ilog2();

    /// An empty ring (`SHARED_RING_INIT`); `None` without memory for its page.
    pub fn new() -> Option<Self> {
        let ring = Self { page: Region::new(PAGE, PAGE)?, req_prod: 0, req_pushed: 0, rsp_cons: 0 };
        ring.page.write_u32(REQ_EVENT, 1);
        ring.page.write_u32(RSP_EVENT, 1);
        Some(ring)
    }

    /// Address of the shared page: what is granted.
    pub fn addr(&self) -> u64 {
        self.page.addr()
    }

    /// Requests that can be filled now.
    pub fn free(&self) -> u32 {
        Self::SIZE - self.outstanding()
    }

    /// Requests filled whose responses were not taken yet.
    pub fn outstanding(&self) -> u32 {
        self.req_prod.wrapping_sub(self.rsp_cons)
    }

    /// Fills the next request; `false` when the ring is full.
    pub fn request(&mut self, slot: &[u8; SLOT]) -> bool {
        if self.free() == 0 {
            return false;
        }
        self.page.copy_in(Self::offset(self.req_prod), slot);
        self.req_prod = self.req_prod.wrapping_add(1);
        true
    }

    /// Shows the filled requests to the backend; `true` if it asked to be notified of them
    /// (`RING_PUSH_REQUESTS_AND_CHECK_NOTIFY`).
    #[must_use = "a backend that asked for a notification waits for it"]
    pub fn push(&mut self) -> bool {
        let old = self.req_pushed;
        // Slots before the index: the backend reads slots once it sees req_prod.
        core::sync::atomic::fence(core::sync::atomic::Ordering::Release);
        self.page.write_u32(REQ_PROD, self.req_prod);
        self.req_pushed = self.req_prod;
        // The index before the event threshold: else both sides could miss each other.
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
        let event = self.page.read_u32(REQ_EVENT);
        self.req_prod.wrapping_sub(event) < self.req_prod.wrapping_sub(old)
    }

    /// Takes the next response's bytes, copied; `None` when there is no more.
    ///
    /// # Errors
    /// [`RUNAWAY`] when the backend claims responses to requests it was never sent.
    pub fn response(&mut self) -> Result<Option<[u8; SLOT]>, Fault> {
        let ready = self.page.read_u32(RSP_PROD).wrapping_sub(self.rsp_cons);
        if ready > self.req_pushed.wrapping_sub(self.rsp_cons) {
            return Err(RUNAWAY);
        }
        if ready == 0 {
            return Ok(None);
        }
        // The index before the slot: the backend filled slots up to rsp_prod.
        core::sync::atomic::fence(core::sync::atomic::Ordering::Acquire);
        let mut slot = [0; SLOT];
        self.page.copy_out(Self::offset(self.rsp_cons), &mut slot);
        self.rsp_cons = self.rsp_cons.wrapping_add(1);
        Ok(Some(slot))
    }

    /// Asks for an event at the next response, then looks once more: `true` if one is there already
    /// (`RING_FINAL_CHECK_FOR_RESPONSES`).
    pub fn arm(&mut self) -> bool {
        self.page.write_u32(RSP_EVENT, self.rsp_cons.wrapping_add(1));
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
        self.page.read_u32(RSP_PROD) != self.rsp_cons
    }

    fn offset(index: u32) -> usize {
        SLOTS + (index & (Self::SIZE - 1)) as usize * SLOT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Ring = FrontRing<12>;

    /// A backend that answers `count` requests with their own bytes.
    fn answer(ring: &Ring, count: u32) {
        ring.page.write_u32(RSP_PROD, ring.page.read_u32(RSP_PROD).wrapping_add(count));
    }

    #[test]
    fn sizes_are_those_of_netif() {
        assert_eq!((FrontRing::<12>::SIZE, FrontRing::<8>::SIZE), (256, 256));
    }

    #[test]
    fn responses_come_back_in_order_across_the_wrap_of_the_index() {
        let mut ring = Ring::new().unwrap();
        (ring.req_prod, ring.req_pushed, ring.rsp_cons) = (u32::MAX - 5, u32::MAX - 5, u32::MAX - 5);
        ring.page.write_u32(RSP_PROD, u32::MAX - 5);
        for round in 0..1000u32 {
            assert!(ring.request(&[round as u8; 12]));
            let _ = ring.push();
            answer(&ring, 1);
            assert_eq!(ring.response().unwrap(), Some([round as u8; 12]));
            assert_eq!(ring.response().unwrap(), None);
        }
    }

    #[test]
    fn a_full_ring_takes_no_more() {
        let mut ring = Ring::new().unwrap();
        for _ in 0..Ring::SIZE {
            assert!(ring.request(&[0; 12]));
        }
        assert!(!ring.request(&[0; 12]));
        assert_eq!((ring.free(), ring.outstanding()), (0, Ring::SIZE));
    }

    #[test]
    fn notifies_only_when_the_backend_asked() {
        let mut ring = Ring::new().unwrap();
        assert!(ring.request(&[0; 12]));
        assert!(ring.push(), "req_event starts at 1");
        assert!(ring.request(&[0; 12]));
        assert!(!ring.push(), "the backend is awake");
        ring.page.write_u32(REQ_EVENT, 3);
        assert!(ring.request(&[0; 12]));
        assert!(ring.push());
    }

    #[test]
    fn an_index_that_runs_away_is_a_fault() {
        let mut ring = Ring::new().unwrap();
        assert!(ring.request(&[0; 12]));
        assert!(ring.request(&[0; 12]));
        answer(&ring, 1);
        assert_eq!(ring.response(), Err(RUNAWAY), "requests were filled but not pushed");
        let _ = ring.push();
        answer(&ring, 2);
        assert_eq!(ring.response(), Err(RUNAWAY));
    }

    #[test]
    fn an_index_that_runs_backwards_is_a_fault() {
        let mut ring = Ring::new().unwrap();
        ring.page.write_u32(RSP_PROD, u32::MAX);
        assert_eq!(ring.response(), Err(RUNAWAY));
    }

    #[test]
    fn arming_sees_a_response_that_came_meanwhile() {
        let mut ring = Ring::new().unwrap();
        assert!(ring.request(&[0; 12]));
        let _ = ring.push();
        assert!(!ring.arm());
        answer(&ring, 1);
        assert!(ring.arm());
    }
}
