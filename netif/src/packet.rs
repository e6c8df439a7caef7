//! The packet: an owned chain of buffers, headers in the first.

use crate::arena::Buffer;
use crate::offload::Meta;
use crate::pool::Pool;

/// An owned packet. Its first segment holds all headers; more segments follow for jumbo frames and super-packets.
///
/// Free it to a [`Pool`]; dropping it is safe but slow and counted as a stray.
pub struct Packet(Buffer);

impl Packet {
    #[inline]
    pub(crate) fn from_buffer(buffer: Buffer) -> Self {
        Self(buffer)
    }

    #[inline]
    pub(crate) fn into_buffer(self) -> Buffer {
        self.0
    }

    /// What travels beside the bytes.
    #[inline]
    pub fn meta(&self) -> &Meta {
        self.0.meta()
    }

    /// What travels beside the bytes, to change.
    #[inline]
    pub fn meta_mut(&mut self) -> &mut Meta {
        self.0.meta_mut()
    }

    /// The bytes of the first segment.
    #[inline]
    pub fn data(&self) -> &[u8] {
        self.0.bytes()
    }

    /// The bytes of the first segment, to write.
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }

    /// `N` bytes of memory from the first byte on, for a copy of a length that is known: what lies behind the first segment's
    /// end is of whatever was in the buffer before. `None` if the buffer ends before them.
    #[inline]
    pub fn window<const N: usize>(&self) -> Option<&[u8; N]> {
        self.0.window()
    }

    /// Bytes in all segments.
    #[inline]
    pub fn len(&self) -> usize {
        if self.0.next().is_none() { self.data().len() } else { self.segments().map(<[u8]>::len).sum() }
    }

    /// Whether there is no byte at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is more than one segment.
    #[inline]
    pub fn is_chain(&self) -> bool {
        self.0.next().is_some()
    }

    /// The segments in order, the first included. Their addresses are what a device is told.
    #[inline]
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        core::iter::successors(Some(&self.0), |buffer| buffer.next()).map(Buffer::bytes)
    }

    /// Prepends `n` bytes of unspecified content and returns them; `None` without that much headroom.
    #[inline]
    pub fn push(&mut self, n: usize) -> Option<&mut [u8]> {
        let start = self.0.start().checked_sub(n)?;
        let end = self.0.end();
        self.0.set_range(start, end);
        self.0.bytes_mut().get_mut(..n)
    }

    /// Removes `n` bytes from the front; `false`, and nothing removed, if the first segment is shorter.
    #[inline]
    #[must_use]
    pub fn pull(&mut self, n: usize) -> bool {
        let (start, end) = (self.0.start(), self.0.end());
        start.checked_add(n).is_some_and(|start| self.0.set_range(start, end))
    }

    /// Bytes that fit behind the last segment's last byte.
    pub fn tail_room(&self) -> usize {
        let last = core::iter::successors(Some(&self.0), |buffer| buffer.next()).last().unwrap_or(&self.0);
        last.size() - last.end()
    }

    /// Appends `bytes` to the last segment; `false`, and nothing appended, without that much
    /// [`tail_room`](Self::tail_room).
    #[must_use]
    pub fn extend(&mut self, bytes: &[u8]) -> bool {
        let last = self.last_mut();
        let (start, end) = (last.start(), last.end());
        if !last.set_range(start, end + bytes.len()) {
            return false;
        }
        if let Some(room) = last.bytes_mut().get_mut(end - start..) {
            room.copy_from_slice(bytes);
        }
        true
    }

    /// Chains `more` behind the last segment. Its metadata counts no more.
    pub fn append(&mut self, more: Packet) {
        *self.last_mut().next_mut() = Some(more.into_buffer());
    }

    /// Cuts the packet to `len` bytes; segments that become empty go to `pool`. No effect if it is shorter.
    pub fn truncate(&mut self, pool: &mut Pool, len: usize) {
        let mut left = len;
        let mut buffer = &mut self.0;
        loop {
            let (start, end) = (buffer.start(), buffer.end());
            if left <= end - start {
                buffer.set_range(start, start + left);
                if let Some(rest) = buffer.next_mut().take() {
                    pool.free(Packet(rest));
                }
                return;
            }
            left -= end - start;
            match buffer.next_mut() {
                Some(next) => buffer = next,
                None => return,
            }
        }
    }

    /// Copies bytes from `offset` on into `into`, over segment borders. Returns how many there were.
    pub fn copy_out(&self, offset: usize, into: &mut [u8]) -> usize {
        let (mut skip, mut copied) = (offset, 0);
        for segment in self.segments() {
            let from = segment.get(skip..).unwrap_or(&[]);
            skip = skip.saturating_sub(segment.len());
            let n = from.len().min(into.len() - copied);
            into[copied..copied + n].copy_from_slice(&from[..n]);
            copied += n;
        }
        copied
    }

    /// Where a device may write a fresh packet: address and length of the room behind the first byte.
    pub fn room(&self) -> (u64, u32) {
        let start = self.0.bytes().as_ptr() as u64;
        (start, (self.0.size() - self.0.start()) as u32)
    }

    /// Says that a device wrote `len` bytes from the first byte on; `false` if that is more than [`room`](Self::room).
    #[must_use]
    pub fn set_filled(&mut self, len: usize) -> bool {
        let start = self.0.start();
        start.checked_add(len).is_some_and(|end| self.0.set_range(start, end))
    }

    /// Says that a device wrote `len` bytes from byte `offset` of the buffer on, whatever headroom there was; `false` if
    /// they are not within it.
    #[inline]
    #[must_use]
    pub fn set_filled_at(&mut self, offset: usize, len: usize) -> bool {
        offset.checked_add(len).is_some_and(|end| self.0.set_range(offset, end))
    }

    /// Gives its buffers up for ever: a device may still write to them. Counted by [`Arena::lost`](crate::Arena::lost).
    pub fn lose(self) {
        self.0.lose();
    }

    /// Asks the cache for the packet's bookkeeping.
    #[inline]
    pub fn prefetch_meta(&self) {
        self.0.prefetch_header();
    }

    /// Asks the cache for the packet's first bytes; its bookkeeping should have arrived.
    #[inline]
    pub fn prefetch_data(&self) {
        self.0.prefetch_bytes(0);
    }

    /// Asks the cache for the line of byte `at`; a hint, whatever `at` is.
    #[inline]
    pub fn prefetch_at(&self, at: usize) {
        self.0.prefetch_bytes(at);
    }

    fn last_mut(&mut self) -> &mut Buffer {
        let mut buffer = &mut self.0;
        while buffer.next().is_some() {
            // The borrow checker cannot see that this is the same `Some` as above.
            match buffer.next_mut() {
                Some(next) => buffer = next,
                None => unreachable!(),
            }
        }
        buffer
    }
}

impl core::fmt::Debug for Packet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Packet({} bytes, {:?})", self.len(), self.meta())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::tests::{arena, page_arena};
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn headers_are_pushed_and_pulled() {
        let mut pool = Pool::new(arena(2));
        let mut packet = pool.alloc_from(b"payload").unwrap();
        packet.push(4).unwrap().copy_from_slice(b"head");
        assert_eq!(packet.data(), b"headpayload");
        assert!(packet.pull(4));
        assert_eq!(packet.data(), b"payload");
        assert!(!packet.pull(8), "more than there is");
        assert!(packet.push(4096).is_none());
        assert_eq!(packet.data(), b"payload");
        pool.free(packet);
    }

    #[test]
    fn a_window_begins_with_the_packet_and_ends_in_the_buffer() {
        let mut pool = Pool::new(arena(1));
        let mut packet = pool.alloc_from(b"payload").unwrap();
        assert_eq!(packet.window::<64>().unwrap()[..7], *b"payload");
        assert!(packet.pull(3));
        assert_eq!(packet.window::<4>().unwrap(), b"load");
        let left = packet.room().1 as usize;
        assert!(packet.set_filled(left) && packet.pull(left - 4));
        assert!(packet.window::<4>().is_some() && packet.window::<5>().is_none(), "the buffer ends there");
        pool.free(packet);
    }

    #[test]
    fn a_device_cannot_claim_more_than_the_room() {
        let mut pool = Pool::new(arena(1));
        let mut packet = pool.alloc().unwrap();
        let (_, room) = packet.room();
        assert!(!packet.set_filled(room as usize + 1));
        assert!(packet.set_filled(room as usize));
        assert_eq!(packet.len(), room as usize);
        pool.free(packet);
    }

    #[test]
    fn a_device_writes_anywhere_in_the_buffer_and_nowhere_else() {
        for arena in [arena(1), page_arena(1)] {
            let mut pool = Pool::new(arena);
            let mut packet = pool.alloc().unwrap();
            let slot = packet.room().0 as usize / arena.slot_size() * arena.slot_size();
            assert!(packet.set_filled_at(0, arena.slot_size()));
            assert_eq!((packet.data().as_ptr() as usize, packet.len()), (slot, arena.slot_size()));
            assert!(packet.push(1).is_none() && packet.tail_room() == 0, "no headroom is left");
            for (offset, len) in [(1, arena.slot_size()), (arena.slot_size() + 1, 0), (usize::MAX, 2)] {
                assert!(!packet.set_filled_at(offset, len));
            }
            assert!(packet.set_filled_at(arena.slot_size() - 1, 1));
            pool.free(packet);
            assert!(pool.alloc().unwrap().push(128).is_some(), "a fresh packet has its headroom again");
        }
    }

    #[test]
    fn a_lost_packet_does_not_come_back() {
        let arena = arena(3);
        let mut pool = Pool::new(arena);
        let packet = pool.alloc_from(&[0; 3000]).unwrap();
        packet.lose();
        assert_eq!((arena.lost(), arena.strays()), (2, 0));
        let _left = pool.alloc().unwrap();
        assert!(pool.alloc().is_none());
    }

    proptest! {
        /// A packet behaves as the vector of its bytes, however it is segmented.
        #[test]
        fn behaves_like_a_vector(len in 0usize..7000, cut in 0usize..7000, offset in 0usize..7000, take in 0usize..3000, pages: bool) {
            let mut pool = Pool::new(if pages { page_arena(8) } else { arena(8) });
            let mut model: Vec<u8> = (0..len).map(|n| (n * 7) as u8).collect();
            let mut packet = pool.alloc_from(&model).unwrap();
            packet.truncate(&mut pool, cut);
            model.truncate(cut);
            prop_assert_eq!(packet.len(), model.len());
            let mut copy = vec![0; take];
            let copied = packet.copy_out(offset, &mut copy);
            let expected = model.get(offset..).unwrap_or(&[]);
            let expected = &expected[..expected.len().min(take)];
            prop_assert_eq!(&copy[..copied], expected);
            pool.free(packet);
        }
    }
}
