//! The receive ring. Of the backend that the arena is lent to, frames come in buffers of the arena and are packets as
//! they lie; it can change them while they are parsed, as a virtio device can, so that what is checked is read once.
//!
//! Frames of any other are copied out of pages of the queue's own, once, before anything of them is looked at: they are
//! private when they are parsed, and such a vif needs no trust to receive.

use crate::assembly::{Assembly, MAX_FRAME, describe};
use crate::ids::{Mark, SLOTS};
use crate::ring::{FrontRing, PAGE};
use crate::stock::Stock;
use crate::violation::Violation;
use crate::wire::{self, Extra, RxRequest, RxResponse, extra, hash, rx, status};
use alloc::boxed::Box;
use core::sync::atomic::{Ordering, compiler_fence};
use weir_machine::xen::grant::Page;
use weir_netif::{Batch, Drop, Gso, GsoKind, MIN_CAPACITY, More, Packet, Pool};

/// Bytes of a first slot up to which a frame may take one slot more: it holds little but headers (Linux's netfront).
const SMALL_FIRST: usize = 256;
/// Bytes up to which a frame in a buffer is copied into a fresh one, whose headroom and cache line are its own; the
/// buffer goes back to the backend at once.
const SMALL: usize = 256;
/// Requests that may be missing before the ring is filled up.
const REFILL: u32 = 16;
/// Requests below which a backend may wait for more with a long frame: its slots, and extra info.
const FEW: u32 = 24;
/// Requests below which a frame only keeps its buffers if the pool has others: a ring that ran empty could not even drop.
const RESERVE: u32 = 2 * FEW;
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
    /// The hash by which the backend chose the queue.
    pub(crate) hash: bool,
}

/// What was requested in a slot of the ring.
#[derive(Clone, Copy, Debug, Default)]
struct Request {
    /// Of the pages, or the slot itself with buffers.
    number: u8,
    id: u16,
}

/// `[C]` Receive half of a queue.
pub(crate) struct Receiver {
    ring: FrontRing<2>,
    stock: Stock,
    /// By slot of the ring.
    requests: Box<[Request; SLOTS]>,
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
    /// That of its [`Request`].
    number: u8,
    offset: usize,
    len: usize,
    flags: u16,
    /// The backend could not copy the bytes.
    failed: bool,
}

impl Receiver {
    /// Of queue `queue`, whose ids bear `mark`. Pages are lent at once, buffers by [`refill`](Self::refill).
    pub(crate) fn new(ring: FrontRing<2>, stock: Stock, mark: Mark, accepts: Accepts) -> Self {
        let requests = Box::new([Request::default(); SLOTS]);
        let (assembly, drops) = (Assembly::default(), Drops::default());
        let mut receiver = Self { ring, stock, requests, mark, accepts, assembly, drops };
        let pages = if let Stock::Pages(pages) = &receiver.stock { pages.len().min(SLOTS) } else { 0 };
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
        let notify = self.refill(pool);
        Ok((if self.ring.ready() == 0 { More::No } else { More::Yes }, notify))
    }

    /// Requests frames into as many buffers as the ring is to have and `pool` has, but not into just a few. Whether the
    /// backend is to be notified.
    pub(crate) fn refill(&mut self, pool: &mut Pool) -> bool {
        if let Stock::Buffers(buffers) = &self.stock {
            let missing = buffers.wanted().saturating_sub(self.ring.outstanding());
            if missing >= REFILL {
                for _ in 0..missing {
                    let Some(packet) = pool.alloc() else { break };
                    self.request(pool, packet);
                }
            }
        }
        self.ring.push()
    }

    /// Asks for an event at the next frame, then looks once more. `true` if it is to be looked at again: with too few
    /// requests there may never be an event, until the pool has buffers again.
    pub(crate) fn arm(&mut self) -> bool {
        self.ring.arm() || matches!(self.stock, Stock::Buffers(_)) && self.ring.outstanding() < FEW
    }

    /// All packets it holds. Only once the connection is closed.
    pub(crate) fn reclaim(&mut self) -> impl Iterator<Item = Packet> {
        let buffers =
            if let Stock::Buffers(buffers) = &mut self.stock { Some(buffers.reclaim()) } else { None };
        buffers.into_iter().flatten()
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
        let gso = if first.flags & rx::EXTRA_INFO != 0 { self.extras(pool)? } else { None };
        let slots_max = wire::SLOTS_MAX + usize::from(first.len <= SMALL_FIRST);
        self.assembly.begin();
        let way = self.way(pool, first);
        let (mut piece, mut slots, mut failed) = (first, 1, first.failed);
        loop {
            self.assembly.len += piece.len;
            if self.assembly.len > MAX_FRAME {
                return Err(Violation::RxFrameTooLong);
            }
            failed |= piece.failed;
            self.take(pool, piece, if failed { Way::Drop } else { way });
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
        let request = self.requested(index);
        if response.id != request.id {
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
                return Ok(Piece { number: request.number, offset: 0, len: 0, flags, failed: true });
            }
            status => usize::try_from(status).map_err(|_| Violation::RxStatusNegative)?,
        };
        if offset >= PAGE {
            return Err(Violation::RxOffsetBeyondPage);
        }
        if len > PAGE - offset {
            return Err(Violation::RxLengthBeyondPage);
        }
        Ok(Piece { number: request.number, offset, len, flags, failed: false })
    }

    /// Takes the chain of extra infos behind a frame's first slot. Returns how to cut the frame, if it is to be cut.
    fn extras(&mut self, pool: &mut Pool) -> Result<Option<Gso>, Violation> {
        let mut gso = None;
        for _ in 0..MAX_EXTRAS {
            let (index, words) = self.ring.response().ok_or(Violation::RxExtraMissing)?;
            // Extra info lies over the id; its page was not used.
            self.unused(pool, self.requested(index).number);
            let info = Extra::from_words(words);
            match info.kind {
                extra::GSO => gso = Some(self.gso(&info)?),
                extra::HASH if self.accepts.hash => check_hash(&info)?,
                extra::HASH | extra::XDP | extra::MULTICAST_ADD | extra::MULTICAST_DELETE => {
                    return Err(Violation::RxExtraNotNegotiated);
                }
                _ => return Err(Violation::RxExtraUnknown),
            }
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

    /// What is done with the pieces of the frame that begins with `first`.
    #[inline]
    fn way(&mut self, pool: &mut Pool, first: Piece) -> Way {
        if let Stock::Pages(_) = self.stock {
            return Way::Copy;
        }
        let is_whole = first.flags & rx::MORE_DATA == 0;
        if self.ring.outstanding() < RESERVE && !has_spare(pool) {
            return Way::Drop;
        }
        // A frame's headers lie in its first segment, however the backend cut it.
        let is_cut_short = !is_whole && first.len < MIN_CAPACITY;
        if is_cut_short || is_whole && first.len <= SMALL && self.assembly.reserve(pool) {
            Way::Copy
        } else {
            Way::Keep
        }
    }

    /// Makes a piece a part of the frame, and what it lies in available to the backend again if it can be.
    #[inline]
    fn take(&mut self, pool: &mut Pool, piece: Piece, way: Way) {
        let Piece { number, offset, len, .. } = piece;
        let buffers = match &mut self.stock {
            Stock::Pages(pages) => {
                if way == Way::Copy
                    && let Some(page) = pages.get(usize::from(number))
                {
                    self.assembly.copy(pool, len, |from, room| page.region().copy_out(offset + from, room));
                }
                return self.lend(number);
            }
            Stock::Buffers(buffers) => buffers,
        };
        let Some(mut packet) = buffers.take(number) else { return };
        match way {
            // The bytes are within the page, and so within the buffer.
            Way::Keep if packet.set_filled_at(offset, len) => return self.assembly.add(pool, packet),
            Way::Copy if packet.set_filled_at(offset, len) => self.assembly.copy(pool, len, |from, room| {
                if let Some(bytes) = packet.data().get(from..from + room.len()) {
                    room.copy_from_slice(bytes);
                }
            }),
            _ => {}
        }
        self.request(pool, packet);
    }

    /// What was requested under `number` is not needed.
    fn unused(&mut self, pool: &mut Pool, number: u8) {
        match &mut self.stock {
            Stock::Pages(_) => self.lend(number),
            // Not requested again before the frame's first buffer, whose slot may be the next, is out of the ring.
            Stock::Buffers(buffers) => {
                if let Some(packet) = buffers.take(number) {
                    pool.free(packet);
                }
            }
        }
    }

    /// Lends a page again. There is a slot for each: a page comes out of the ring before it goes in.
    #[inline]
    fn lend(&mut self, page: u8) {
        let Stock::Pages(pages) = &self.stock else { return };
        let Some(reference) = pages.get(usize::from(page)).map(Page::reference) else { return };
        if let Some(request) = self.fill(reference) {
            request.number = page;
        }
    }

    /// Requests a frame into a buffer. There is a slot for each: one comes out of the ring before another goes in.
    #[inline]
    fn request(&mut self, pool: &mut Pool, packet: Packet) {
        let reference =
            if let Stock::Buffers(buffers) = &self.stock { buffers.reference(&packet) } else { None };
        let slot = reference.and_then(|reference| {
            let [slot, ..] = self.ring.next().to_le_bytes();
            self.fill(reference)?.number = slot;
            Some(slot)
        });
        match (&mut self.stock, slot) {
            (Stock::Buffers(buffers), Some(slot)) => buffers.keep(slot, packet),
            _ => pool.free(packet),
        }
    }

    /// Fills the next request; `None` if the ring is full.
    #[inline]
    fn fill(&mut self, reference: u32) -> Option<&mut Request> {
        let [slot, turn, ..] = self.ring.next().to_le_bytes();
        let id = self.mark.id(slot, turn);
        self.ring.request(&RxRequest { id, reference }.to_words())?;
        let request = self.requests.get_mut(usize::from(slot))?;
        request.id = id;
        Some(request)
    }

    #[inline]
    fn requested(&self, index: u32) -> Request {
        let [slot, ..] = index.to_le_bytes();
        self.requests.get(usize::from(slot)).copied().unwrap_or_default()
    }
}

/// What is done with a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// The buffer it lies in becomes a part of the frame.
    Keep,
    /// Its bytes are copied.
    Copy,
    /// Nothing: the frame is lost already, or there is no buffer to take its place.
    Drop,
}

/// The hash's value is not taken: which CPU owns a flow's state is no backend's to say.
fn check_hash(info: &Extra) -> Result<(), Violation> {
    let [kind, algorithm, ..] = info.rest;
    let known = u32::from(algorithm) == hash::TOEPLITZ && kind < hash::KINDS;
    if known { Ok(()) } else { Err(Violation::RxHashUnknown) }
}

fn has_spare(pool: &mut Pool) -> bool {
    let spare = pool.alloc();
    let has = spare.is_some();
    spare.into_iter().for_each(|spare| pool.free(spare));
    has
}
