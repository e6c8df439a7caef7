//! The transmit ring. A packet whose bytes lie in memory lent to the backend goes as it is, a request for each of its
//! segments; every other is copied into pages of the queue's own.
//!
//! Those pages were zeroed before they were lent and hold nothing but what this queue sent to this backend.

use crate::headers::{Family, Sum, Transport};
use crate::ids::{Mark, SLOTS};
use crate::ring::{FrontRing, PAGE};
use crate::violation::Violation;
use crate::wire::{self, Extra, SLOTS_MAX, TX_SIZE_MAX, TxRequest, TxResponse, status, tx};
use alloc::boxed::Box;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use weir_machine::xen::grant::{Lent, Page};
use weir_netif::{Batch, Checksum, Drop, Gso, GsoKind, Meta, More, Packet, Pool};

/// Bytes the first request must have: netback drops a packet whose Ethernet header is not in it.
const MIN_FIRST: usize = 14;
/// Where a page's bounds are.
const IN_PAGE: u64 = PAGE as u64 - 1;

/// What the backend does with transmitted packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Offers {
    /// Packets in more than one request.
    pub(crate) chains: bool,
    /// Blank checksums of TCP and UDP over IPv4.
    pub(crate) checksum4: bool,
    /// The same over IPv6.
    pub(crate) checksum6: bool,
    /// Super-packets of TCP over IPv4.
    pub(crate) tcp4: bool,
    /// Super-packets of TCP over IPv6.
    pub(crate) tcp6: bool,
}

/// What a slot of the table of ids stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Free,
    /// A piece of the packet in this place.
    Packet(u8),
    /// A copy in this page.
    Copy(u8),
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    state: State,
    /// How often it was used: a part of its id.
    uses: u8,
    /// Whether it is its packet's first.
    is_first: bool,
}

/// A packet on its way, and how many of its requests are unanswered.
#[derive(Default)]
struct Place {
    packet: Option<Packet>,
    left: u8,
}

/// `[C]` Transmit half of a queue. Asks for events only while its ring is nearly full: what is sent is taken back at the
/// next transmission or by `reap`.
pub(crate) struct Transmitter {
    ring: FrontRing<3>,
    /// What is lent to this backend as a whole, if it is trusted.
    lent: Option<&'static Lent>,
    /// For copies; at most [`SLOTS`], only ever read by the backend.
    pages: Vec<Page>,
    free_pages: ArrayVec<u8, SLOTS>,
    slots: Box<[Slot; SLOTS]>,
    free_slots: ArrayVec<u8, SLOTS>,
    places: Box<[Place; SLOTS]>,
    free_places: ArrayVec<u8, SLOTS>,
    /// Extra infos in the ring.
    extras: u32,
    mark: Mark,
    offers: Offers,
    drops: u32,
}

/// Why a packet stays.
enum Stays {
    /// There is no room now.
    Full,
    /// It has too many bytes, or its metadata asks for what the backend does not do.
    Never,
}

/// How a packet is sent.
struct Plan {
    flags: u16,
    gso: Option<Extra>,
    len: usize,
}

/// A request without its flags, and what its id stands for.
#[derive(Clone, Copy)]
struct Part {
    reference: u32,
    offset: u16,
    len: u16,
}

impl Transmitter {
    /// Sends through `ring`, with ids that bear `mark`.
    pub(crate) fn new(
        ring: FrontRing<3>,
        lent: Option<&'static Lent>,
        pages: Vec<Page>,
        mark: Mark,
        offers: Offers,
    ) -> Self {
        let all = |count: usize| (0..count.min(SLOTS)).rev().map(|number| number as u8).collect();
        let slots = Box::new([Slot { state: State::Free, uses: 0, is_first: false }; SLOTS]);
        let places = Box::new(core::array::from_fn(|_| Place::default()));
        let (free_pages, free_slots, free_places) = (all(pages.len()), all(SLOTS), all(SLOTS));
        // No event, until one is wanted.
        ring.wait_for(u32::MAX / 2);
        Self {
            ring,
            lent,
            pages,
            free_pages,
            slots,
            free_slots,
            places,
            free_places,
            extras: 0,
            mark,
            offers,
            drops: 0,
        }
    }

    /// What the backend maps the ring by.
    pub(crate) fn reference(&self) -> u32 {
        self.ring.reference()
    }

    /// Sends packets from the front of `batch` while there is room; `true` if the backend is to be notified. Packets that
    /// can never be sent stay in `batch`, as do those behind a full ring.
    pub(crate) fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) -> Result<bool, Violation> {
        let _ = self.reap(pool)?;
        let mut left = Batch::new();
        let mut full = false;
        for packet in batch.drain(..) {
            if full {
                left.push(packet);
            } else if let Err((packet, why)) = self.send(pool, packet) {
                full = matches!(why, Stays::Full);
                left.push(packet);
            }
        }
        if !left.is_empty() {
            *batch = left;
        }
        let notify = self.ring.push();
        if self.is_crowded() {
            // A queue that waits for room is to go on when half of the ring has come back.
            self.ring.wait_for(self.ring.outstanding() / 2);
        }
        Ok(notify)
    }

    /// Whether it asked for an event.
    pub(crate) fn is_crowded(&self) -> bool {
        self.ring.free() < FrontRing::<3>::SIZE / 2
    }

    /// Frees what the backend has sent.
    pub(crate) fn reap(&mut self, pool: &mut Pool) -> Result<More, Violation> {
        let _ = self.ring.poll()?;
        while let Some((_, words)) = self.ring.response() {
            self.answered(pool, TxResponse::from_words(words))?;
        }
        Ok(if self.ring.outstanding() == 0 { More::No } else { More::Yes })
    }

    /// Responses taken since the beginning, as a free-running number.
    pub(crate) fn progress(&self) -> u32 {
        self.ring.consumed()
    }

    /// Reports and forgets what the backend did not send.
    pub(crate) fn take_drops(&mut self, count: &mut dyn FnMut(Drop, u32)) {
        let drops = core::mem::take(&mut self.drops);
        if drops != 0 {
            count(Drop::DeviceRefused, drops);
        }
    }

    /// All packets it holds. Only once the connection is closed.
    pub(crate) fn reclaim(&mut self) -> impl Iterator<Item = Packet> {
        self.places.iter_mut().filter_map(|place| place.packet.take())
    }

    fn send(&mut self, pool: &mut Pool, mut packet: Packet) -> Result<(), (Packet, Stays)> {
        let Some(plan) = self.plan(&mut packet) else { return Err((packet, Stays::Never)) };
        // A packet that is copied takes a page at a time, and has at most 64 KiB.
        let parts = self.parts(&packet);
        let requests = parts.as_ref().map_or(plan.len.div_ceil(PAGE), ArrayVec::len);
        if requests > 1 && !self.offers.chains {
            return Err((packet, Stays::Never));
        }
        let extras = usize::from(plan.gso.is_some());
        if requests + extras > self.ring.free() as usize {
            return Err((packet, Stays::Full));
        }
        match parts {
            Some(parts) => self.lend(&plan, &parts, packet),
            None if requests > self.free_pages.len() => return Err((packet, Stays::Full)),
            None => {
                self.copy(&plan, &packet);
                pool.free(packet);
            }
        }
        Ok(())
    }

    /// How to send `packet`; finishes its checksum if the backend would not. `None` if it cannot be sent at all.
    fn plan(&self, packet: &mut Packet) -> Option<Plan> {
        let len = packet.len();
        if !(MIN_FIRST..=TX_SIZE_MAX).contains(&len) {
            return None;
        }
        let Meta { checksum, gso, .. } = *packet.meta();
        let Checksum::Partial { start, offset } = checksum else {
            let flags = if checksum == Checksum::Verified { tx::DATA_VALIDATED } else { 0 };
            return gso.is_none().then_some(Plan { flags, gso: None, len });
        };
        let (start, offset) = (usize::from(start), usize::from(offset));
        // The backend does not learn where the checksum is: it looks for it as we do. What it would not find, or finds
        // behind a tag that Linux's does not look behind, it would drop.
        let found = Transport::find(packet.data())
            .filter(|found| (found.start, found.offset, found.tagged) == (start, offset, false));
        let flags = tx::CHECKSUM_BLANK | tx::DATA_VALIDATED;
        match (found, gso) {
            (Some(found), Some(gso)) => {
                let gso = self.offers_gso(gso).filter(|_| found.fits(gso.kind))?;
                Some(Plan { flags, gso: Some(gso), len })
            }
            (Some(found), None) if self.offers_checksum(found.family) => Some(Plan { flags, gso: None, len }),
            (_, None) => finish(packet, start, offset).then_some(Plan { flags: 0, gso: None, len }),
            (None, Some(_)) => None,
        }
    }

    fn offers_checksum(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.offers.checksum4,
            Family::V6 => self.offers.checksum6,
        }
    }

    fn offers_gso(&self, gso: Gso) -> Option<Extra> {
        let (offered, kind) = match gso.kind {
            GsoKind::Tcp4 => (self.offers.tcp4, wire::GSO_TCP4),
            GsoKind::Tcp6 => (self.offers.tcp6, wire::GSO_TCP6),
        };
        // There is no way to tell the backend of CWR.
        (offered && gso.size != 0 && !gso.ecn).then(|| Extra::gso(kind, gso.size))
    }

    /// The requests for a packet's segments as they lie; `None` if a segment is not lent, or there are too many.
    #[inline]
    fn parts(&self, packet: &Packet) -> Option<ArrayVec<Part, SLOTS_MAX>> {
        let lent = self.lent?;
        let mut parts = ArrayVec::new();
        for bytes in packet.segments().filter(|bytes| !bytes.is_empty()) {
            let addr = bytes.as_ptr() as u64;
            let offset = addr & IN_PAGE;
            // A buffer lies in one page.
            if offset as usize + bytes.len() > PAGE || parts.is_empty() && bytes.len() < MIN_FIRST {
                return None;
            }
            let part =
                Part { reference: lent.reference_of(addr)?, offset: offset as u16, len: bytes.len() as u16 };
            parts.try_push(part).ok()?;
        }
        Some(parts)
    }

    /// Sends a packet from where it lies. There is room.
    #[inline]
    fn lend(&mut self, plan: &Plan, parts: &[Part], packet: Packet) {
        let Some(number) = self.free_places.pop() else { return };
        for (nth, part) in parts.iter().enumerate() {
            self.request(plan, nth, nth + 1 == parts.len(), *part, State::Packet(number));
        }
        if let Some(place) = self.places.get_mut(usize::from(number)) {
            // At most 18.
            *place = Place { packet: Some(packet), left: parts.len() as u8 };
        }
    }

    /// Sends a copy. There is room, and there are pages.
    fn copy(&mut self, plan: &Plan, packet: &Packet) {
        let mut sent = 0;
        while sent < plan.len {
            let Some(number) = self.free_pages.pop() else { return };
            let Some(page) = self.pages.get(usize::from(number)) else { return };
            let len = fill(page, packet, sent);
            // At most a page.
            let part = Part { reference: page.reference(), offset: 0, len: len as u16 };
            self.request(plan, sent / PAGE, sent + len >= plan.len, part, State::Copy(number));
            sent += PAGE;
        }
    }

    /// Fills the `nth` request of a packet, and the extra info behind the first.
    #[inline]
    fn request(&mut self, plan: &Plan, nth: usize, is_last: bool, part: Part, state: State) {
        let Some(number) = self.free_slots.pop() else { return };
        let Some(slot) = self.slots.get_mut(usize::from(number)) else { return };
        *slot = Slot { state, uses: slot.uses.wrapping_add(1), is_first: nth == 0 };
        let id = self.mark.id(number, slot.uses);
        let Part { reference, offset, len } = part;
        let (mut flags, mut size) = (if is_last { 0 } else { tx::MORE_DATA }, len);
        if nth == 0 {
            flags |= plan.flags | if plan.gso.is_some() { tx::EXTRA_INFO } else { 0 };
            // At most 65535.
            size = plan.len as u16;
        }
        let _ = self.ring.request(&TxRequest { reference, offset, flags, id, size }.to_words());
        if let Some(extra) = plan.gso.filter(|_| nth == 0) {
            let [first, second] = extra.to_words();
            let _ = self.ring.request(&[first, second, 0]);
            self.extras += 1;
        }
    }

    /// Takes back what a response stands for.
    #[inline]
    fn answered(&mut self, pool: &mut Pool, response: TxResponse) -> Result<(), Violation> {
        match response.status {
            status::NULL => {
                self.extras = self.extras.checked_sub(1).ok_or(Violation::TxNullUnasked)?;
                return Ok(());
            }
            status::OKAY | status::ERROR | status::DROPPED => {}
            _ => return Err(Violation::TxStatusUnknown),
        }
        let number = self.mark.slot(response.id).ok_or(Violation::TxIdOutOfRange)?;
        let slot = self.slots.get_mut(usize::from(number)).ok_or(Violation::TxIdOutOfRange)?;
        if slot.state == State::Free || self.mark.id(number, slot.uses) != response.id {
            return Err(Violation::TxIdNotOutstanding);
        }
        let state = core::mem::replace(&mut slot.state, State::Free);
        self.drops += u32::from(slot.is_first && response.status != status::OKAY);
        let _ = self.free_slots.try_push(number);
        match state {
            State::Free => {}
            State::Copy(page) => drop(self.free_pages.try_push(page)),
            State::Packet(number) => {
                let Some(place) = self.places.get_mut(usize::from(number)) else { return Ok(()) };
                place.left -= 1;
                if place.left == 0 {
                    if let Some(packet) = place.packet.take() {
                        pool.free(packet);
                    }
                    let _ = self.free_places.try_push(number);
                }
            }
        }
        Ok(())
    }
}

/// Copies a packet's bytes from `from` on into a page, as many as it takes. Returns how many.
fn fill(page: &Page, packet: &Packet, from: usize) -> usize {
    let (mut skip, mut filled) = (from, 0);
    for bytes in packet.segments() {
        let rest = bytes.get(skip..).unwrap_or(&[]);
        skip = skip.saturating_sub(bytes.len());
        let taken = rest.get(..PAGE - filled).unwrap_or(rest);
        page.region().copy_in(filled, taken);
        filled += taken.len();
    }
    filled
}

/// Sums a packet from `start` to its end and stores the checksum `offset` behind; `false` if that is not in its first
/// segment. UDP alone has its checksum at byte 6, and sends a computed zero as all ones (RFC 768).
fn finish(packet: &mut Packet, start: usize, offset: usize) -> bool {
    let mut sum = Sum::default();
    let mut skip = start;
    for bytes in packet.segments() {
        sum.add(bytes.get(skip..).unwrap_or(&[]));
        skip = skip.saturating_sub(bytes.len());
    }
    let at = start + offset;
    let Some(field) = packet.data_mut().get_mut(at..at + 2) else { return false };
    let checksum = match !sum.folded() {
        0 if offset == 6 => 0xffff,
        checksum => checksum,
    };
    field.copy_from_slice(&checksum.to_be_bytes());
    packet.meta_mut().checksum = Checksum::Unknown;
    true
}
