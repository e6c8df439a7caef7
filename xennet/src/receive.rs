//! The receive ring: whole pages of the queue's own, out of which every frame is copied once, before anything of it is
//! looked at.
//!
//! A grant covers a page, and netback fills pages to the end: packet buffers of 2 KiB cannot be lent for that. The copy
//! costs what the backend's own copy into the page costs again; for it the bytes are private when they are parsed, the
//! page goes back to the backend at once, and a vif needs no trust to receive.

use crate::headers::Transport;
use crate::ids::{Mark, SLOTS};
use crate::ring::{FrontRing, PAGE};
use crate::violation::Violation;
use crate::wire::{self, Extra, RxRequest, RxResponse, extra, rx, status};
use alloc::boxed::Box;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::sync::atomic::{Ordering, compiler_fence};
use weir_machine::xen::grant::Page;
use weir_netif::{Batch, Checksum, Drop, Gso, GsoKind, MIN_CAPACITY, More, Packet, Pool};

/// Longest frame: the longest IP packet behind an Ethernet header with two VLAN tags. IPv6 counts its 40-byte header
/// beside the 65535.
const MAX_FRAME: usize = 65535 + 40 + 14 + 8;
/// Buffers the longest frame takes: each but the last is filled.
const MAX_PARTS: usize = MAX_FRAME.div_ceil(MIN_CAPACITY);
/// Bytes of a first slot up to which a frame may take one slot more: it holds little but headers (Linux's netfront).
const SMALL_FIRST: usize = 256;
/// Extra infos a frame may have: one of each type there is.
const MAX_EXTRAS: usize = 5;

/// What was negotiated about received frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Accepts {
    /// Blank checksums.
    pub(crate) checksum: bool,
    /// Super-packets of TCP over IPv4.
    pub(crate) tcp4: bool,
    /// Super-packets of TCP over IPv6.
    pub(crate) tcp6: bool,
}

/// What a page in the ring was requested with.
#[derive(Clone, Copy, Debug, Default)]
struct Lent {
    page: u8,
    id: u16,
}

/// `[C]` Receive half of a queue.
pub(crate) struct Receiver {
    ring: FrontRing<2>,
    /// Pages the backend writes to, always; at most [`SLOTS`].
    pages: Vec<Page>,
    /// By slot of the ring: what is lent in it.
    lent: Box<[Lent; SLOTS]>,
    mark: Mark,
    accepts: Accepts,
    assembly: Assembly,
    drops: Drops,
}

/// Frames that died here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Drops {
    pub(crate) no_buffer: u32,
    pub(crate) offload: u32,
    pub(crate) backend: u32,
}

impl Drops {
    /// Reports and forgets them.
    pub(crate) fn take(&mut self, count: &mut dyn FnMut(Drop, u32)) {
        let Drops { no_buffer, offload, backend } = core::mem::take(self);
        let reasons =
            [(Drop::NoBuffer, no_buffer), (Drop::OffloadMalformed, offload), (Drop::DeviceRefused, backend)];
        for (reason, frames) in reasons.into_iter().filter(|&(_, frames)| frames != 0) {
            count(reason, frames);
        }
    }
}

/// A response with data, checked: where its bytes lie.
#[derive(Clone, Copy, Debug)]
struct Piece {
    page: u8,
    offset: usize,
    len: usize,
    flags: u16,
    /// The backend could not copy the bytes.
    failed: bool,
}

impl Receiver {
    /// Lends all `pages`; of queue `queue`, whose ids bear `mark`.
    pub(crate) fn new(ring: FrontRing<2>, pages: Vec<Page>, mark: Mark, accepts: Accepts) -> Self {
        let lent = Box::new([Lent::default(); SLOTS]);
        let (assembly, drops) = (Assembly::default(), Drops::default());
        let mut receiver = Self { ring, pages, lent, mark, accepts, assembly, drops };
        let pages = receiver.pages.len().min(SLOTS);
        // Below 256.
        (0..pages).for_each(|page| receiver.lend(page as u8));
        // The backend looks at the ring when it connects.
        let _ = receiver.ring.push();
        receiver
    }

    /// What the backend maps the ring by.
    pub(crate) fn reference(&self) -> u32 {
        self.ring.reference()
    }

    /// Takes frames until `into` is full or none is left. Returns whether there are more, and whether the backend is to
    /// be notified.
    pub(crate) fn receive(&mut self, pool: &mut Pool, into: &mut Batch) -> Result<(More, bool), Violation> {
        let _ = self.ring.poll()?;
        while !into.is_full() {
            let Some((index, words)) = self.ring.response() else { break };
            match self.frame(pool, index, words) {
                Ok(Some(packet)) => into.push(packet),
                Ok(None) => {}
                Err(violation) => {
                    self.assembly.discard(pool);
                    return Err(violation);
                }
            }
        }
        let notify = self.ring.push();
        Ok((if self.ring.ready() == 0 { More::No } else { More::Yes }, notify))
    }

    /// Asks for an event at the next frame, then looks once more.
    pub(crate) fn arm(&mut self) -> bool {
        self.ring.arm()
    }

    /// Responses taken since the beginning, as a free-running number.
    pub(crate) fn progress(&self) -> u32 {
        self.ring.consumed()
    }

    /// What died since the last call.
    pub(crate) fn drops(&mut self) -> &mut Drops {
        &mut self.drops
    }

    /// The frame that begins with response `index`; `None` if it was dropped.
    #[inline]
    fn frame(&mut self, pool: &mut Pool, index: u32, words: [u32; 2]) -> Result<Option<Packet>, Violation> {
        let first = self.piece(index, RxResponse::from_words(words))?;
        let gso = if first.flags & rx::EXTRA_INFO != 0 { Some(self.extras()?) } else { None };
        let slots_max = wire::SLOTS_MAX + usize::from(first.len <= SMALL_FIRST);
        self.assembly.begin();
        let (mut piece, mut slots, mut failed) = (first, 1, first.failed);
        loop {
            self.assembly.len += piece.len;
            if self.assembly.len > MAX_FRAME {
                return Err(Violation::RxFrameTooLong);
            }
            failed |= piece.failed;
            if !failed && let Some(page) = self.pages.get(usize::from(piece.page)) {
                self.assembly.copy(pool, page, piece);
            }
            self.lend(piece.page);
            if piece.flags & rx::MORE_DATA == 0 {
                break;
            }
            // A backend publishes a frame's slots together.
            let (index, words) = self.ring.response().ok_or(Violation::RxMoreMissing)?;
            slots += 1;
            if slots > slots_max {
                return Err(Violation::RxTooManySlots);
            }
            piece = self.piece(index, RxResponse::from_words(words))?;
        }
        if gso.is_some_and(|gso| usize::from(gso.size) > self.assembly.len) {
            return Err(Violation::RxGsoBeyondFrame);
        }
        if failed {
            self.drops.backend += 1;
            self.assembly.discard(pool);
            return Ok(None);
        }
        let Some(mut packet) = self.assembly.finish(pool) else {
            self.drops.no_buffer += 1;
            return Ok(None);
        };
        // The copy is complete before the bytes are looked at: no look may be made at the page instead.
        compiler_fence(Ordering::SeqCst);
        if describe(&mut packet, first.flags, gso) {
            return Ok(Some(packet));
        }
        self.drops.offload += 1;
        pool.free(packet);
        Ok(None)
    }

    /// Believes a response with data if it is the answer to the request in its slot, and its bytes lie in the page.
    #[inline]
    fn piece(&self, index: u32, response: RxResponse) -> Result<Piece, Violation> {
        let lent = self.lent_in(index);
        if response.id != lent.id {
            let foreign = self.mark.slot(response.id).is_none();
            return Err(if foreign { Violation::RxIdOutOfRange } else { Violation::RxIdNotOfSlot });
        }
        if response.flags & rx::GSO_PREFIX != 0 {
            return Err(Violation::RxGsoPrefix);
        }
        if response.flags & rx::CHECKSUM_BLANK != 0 && !self.accepts.checksum {
            return Err(Violation::RxChecksumNotNegotiated);
        }
        let (offset, flags) = (usize::from(response.offset), response.flags);
        let len = match response.status {
            0 => return Err(Violation::RxLengthZero),
            status::ERROR | status::DROPPED => {
                return Ok(Piece { page: lent.page, offset: 0, len: 0, flags, failed: true });
            }
            status => usize::try_from(status).map_err(|_| Violation::RxStatusNegative)?,
        };
        if offset >= PAGE {
            return Err(Violation::RxOffsetBeyondPage);
        }
        if len > PAGE - offset {
            return Err(Violation::RxLengthBeyondPage);
        }
        Ok(Piece { page: lent.page, offset, len, flags, failed: false })
    }

    /// Takes the chain of extra infos behind a frame's first slot. Returns how to cut the frame.
    fn extras(&mut self) -> Result<Gso, Violation> {
        for _ in 0..MAX_EXTRAS {
            let (index, words) = self.ring.response().ok_or(Violation::RxExtraMissing)?;
            // Extra info lies over the id; its page was not used.
            self.lend(self.lent_in(index).page);
            let info = Extra::from_words(words);
            let gso = match info.kind {
                extra::GSO => self.gso(&info)?,
                extra::HASH | extra::XDP | extra::MULTICAST_ADD | extra::MULTICAST_DELETE => {
                    return Err(Violation::RxExtraNotNegotiated);
                }
                _ => return Err(Violation::RxExtraUnknown),
            };
            if info.flags & extra::FLAG_MORE == 0 {
                return Ok(gso);
            }
        }
        Err(Violation::RxExtraEndless)
    }

    fn gso(&self, info: &Extra) -> Result<Gso, Violation> {
        let (size, kind) = info.as_gso();
        let (kind, accepted) = match kind {
            wire::GSO_TCP4 => (GsoKind::Tcp4, self.accepts.tcp4),
            wire::GSO_TCP6 => (GsoKind::Tcp6, self.accepts.tcp6),
            _ => return Err(Violation::RxGsoUnknown),
        };
        if !accepted {
            return Err(Violation::RxGsoNotNegotiated);
        }
        if size == 0 {
            return Err(Violation::RxGsoSizeZero);
        }
        Ok(Gso { kind, size, ecn: false })
    }

    /// Lends a page again. There is a slot for each: a page comes out of the ring before it goes in.
    #[inline]
    fn lend(&mut self, page: u8) {
        let Some(reference) = self.pages.get(usize::from(page)).map(Page::reference) else { return };
        let [slot, turn, ..] = self.ring.next().to_le_bytes();
        let id = self.mark.id(slot, turn);
        if self.ring.request(&RxRequest { id, reference }.to_words()).is_some()
            && let Some(lent) = self.lent.get_mut(usize::from(slot))
        {
            *lent = Lent { page, id };
        }
    }

    #[inline]
    fn lent_in(&self, index: u32) -> Lent {
        let [slot, ..] = index.to_le_bytes();
        self.lent.get(usize::from(slot)).copied().unwrap_or_default()
    }
}

/// A frame while it is put together.
#[derive(Default)]
struct Assembly {
    parts: ArrayVec<Packet, MAX_PARTS>,
    /// Bytes of all its slots.
    len: usize,
    /// The pool ran dry in its middle.
    dry: bool,
}

impl Assembly {
    fn begin(&mut self) {
        (self.len, self.dry) = (0, false);
    }

    /// Copies a piece behind what is there. Fills each buffer before the next, so that all headers are in the first,
    /// however the backend cut the frame.
    #[inline]
    fn copy(&mut self, pool: &mut Pool, page: &Page, piece: Piece) {
        let (mut offset, mut left) = (piece.offset, piece.len);
        while left != 0 && !self.dry {
            if self.parts.last().is_none_or(|part| part.tail_room() == 0) {
                match pool.alloc() {
                    // There is room: the frame is no longer than the longest.
                    Some(part) => self.parts.push(part),
                    None => self.dry = true,
                }
            }
            let Some(part) = self.parts.last_mut().filter(|_| !self.dry) else { return };
            let filled = part.data().len();
            let len = left.min(part.tail_room());
            if part.set_filled(filled + len)
                && let Some(room) = part.data_mut().get_mut(filled..)
            {
                page.region().copy_out(offset, room);
            }
            (offset, left) = (offset + len, left - len);
        }
    }

    /// The frame; `None` if there were not enough buffers.
    #[inline]
    fn finish(&mut self, pool: &mut Pool) -> Option<Packet> {
        if self.dry {
            self.discard(pool);
            return None;
        }
        // From the back, so that each buffer is chained once and nothing is walked.
        let mut whole = self.parts.pop()?;
        while let Some(mut before) = self.parts.pop() {
            before.append(whole);
            whole = before;
        }
        Some(whole)
    }

    #[cold]
    fn discard(&mut self, pool: &mut Pool) {
        self.parts.drain(..).for_each(|part| pool.free(part));
    }
}

/// Sets the metadata; `false` if the frame is not what the backend says it is.
#[inline]
fn describe(packet: &mut Packet, flags: u16, gso: Option<Gso>) -> bool {
    if flags & rx::CHECKSUM_BLANK == 0 && gso.is_none() {
        if flags & rx::DATA_VALIDATED != 0 {
            packet.meta_mut().checksum = Checksum::Verified;
        }
        return true;
    }
    let Some(transport) = Transport::find(packet.data()) else { return false };
    if gso.is_some_and(|gso| !transport.fits(gso.kind)) {
        return false;
    }
    if flags & rx::CHECKSUM_BLANK == 0 {
        // A super-packet's checksum is always blank; a backend that does not say so left anything there.
        let Some(sum) = transport.pseudo_header(packet.data()) else { return false };
        let field = transport.start + transport.offset;
        let Some(field) = packet.data_mut().get_mut(field..field + 2) else { return false };
        field.copy_from_slice(&sum.to_be_bytes());
    }
    let ecn = transport.has_cwr(packet.data());
    let meta = packet.meta_mut();
    // Both lie in a buffer of 2 KiB.
    meta.checksum = Checksum::Partial { start: transport.start as u16, offset: transport.offset as u16 };
    meta.gso = gso.map(|gso| Gso { ecn, ..gso });
    true
}
