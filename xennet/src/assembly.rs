//! A received frame while it is put together out of pieces, and what its headers say about it in the end.

use crate::headers::Transport;
use crate::wire::rx;
use arrayvec::ArrayVec;
use weir_netif::{Checksum, Gso, MIN_CAPACITY, Packet, Pool};

/// Longest frame: the longest IP packet behind an Ethernet header with two VLAN tags. IPv6 counts its 40-byte header
/// beside the 65535.
pub(crate) const MAX_FRAME: usize = 65535 + 40 + 14 + 8;
/// Buffers the longest frame takes: each but the last is filled.
const MAX_PARTS: usize = MAX_FRAME.div_ceil(MIN_CAPACITY);

/// A frame while it is put together.
#[derive(Default)]
pub(crate) struct Assembly {
    parts: ArrayVec<Packet, MAX_PARTS>,
    /// Bytes of all its slots.
    pub(crate) len: usize,
    /// The pool ran dry in its middle.
    dry: bool,
}

impl Assembly {
    pub(crate) fn begin(&mut self) {
        (self.len, self.dry) = (0, false);
    }

    /// Has a fresh buffer ready to copy into; `false` if there is none.
    #[inline]
    pub(crate) fn reserve(&mut self, pool: &mut Pool) -> bool {
        let part = pool.alloc();
        let has = part.is_some();
        self.parts.extend(part);
        has
    }

    /// Adds a buffer behind what is there.
    #[inline]
    pub(crate) fn add(&mut self, pool: &mut Pool, part: Packet) {
        // There is room: a frame has fewer slots than the longest has parts.
        if let Err(full) = self.parts.try_push(part) {
            pool.free(full.element());
        }
    }

    /// Copies a piece of `len` bytes behind what is there; `read` copies from the offset in it that it is told. Fills
    /// each buffer before the next, so that all headers are in the first, however the backend cut the frame.
    #[inline]
    pub(crate) fn copy(&mut self, pool: &mut Pool, len: usize, read: impl Fn(usize, &mut [u8])) {
        let (mut offset, mut left) = (0, len);
        while left != 0 && !self.dry {
            if self.parts.last().is_none_or(|part| part.tail_room() == 0) {
                // There is room: the frame is no longer than the longest.
                self.dry = !self.reserve(pool);
            }
            let Some(part) = self.parts.last_mut().filter(|_| !self.dry) else { return };
            let filled = part.data().len();
            let len = left.min(part.tail_room());
            if part.set_filled(filled + len)
                && let Some(room) = part.data_mut().get_mut(filled..)
            {
                read(offset, room);
            }
            (offset, left) = (offset + len, left - len);
        }
    }

    /// The frame; `None` if there were not enough buffers.
    #[inline]
    pub(crate) fn finish(&mut self, pool: &mut Pool) -> Option<Packet> {
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
    pub(crate) fn discard(&mut self, pool: &mut Pool) {
        self.parts.drain(..).for_each(|part| pool.free(part));
    }
}

/// Sets the metadata; `false` if the frame is not what the backend says it is.
#[inline]
pub(crate) fn describe(packet: &mut Packet, flags: u16, gso: Option<Gso>) -> bool {
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
    // Both lie in a buffer of 4 KiB at most.
    meta.checksum = Checksum::Partial { start: transport.start as u16, offset: transport.offset as u16 };
    meta.gso = gso.map(|gso| Gso { ecn, ..gso });
    true
}
