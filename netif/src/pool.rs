//! One CPU's free buffers, in magazines that move whole between CPUs (Bonwick & Adams, USENIX 2001).

use crate::arena::{Arena, Buffer};
use crate::batch::Batch;
use crate::packet::Packet;
use alloc::vec::Vec;

/// Buffers in a full magazine.
pub(crate) const MAGAZINE: usize = 64;

/// Up to [`MAGAZINE`] free buffers; made with that capacity, so that it never grows.
pub(crate) type Magazine = Vec<Buffer>;

/// One CPU's share of an arena. `[C]` Neither allocates from the heap nor waits.
pub struct Pool {
    arena: &'static Arena,
    loaded: Magazine,
    /// The magazine before it: always full or empty, so that alternating alloc and free at a boundary stay local.
    previous: Magazine,
}

impl Pool {
    /// An empty share of `arena`; it fills on demand. Takes its magazines from the heap: not on the packet path.
    pub fn new(arena: &'static Arena) -> Self {
        Self { arena, loaded: Vec::with_capacity(MAGAZINE), previous: Vec::with_capacity(MAGAZINE) }
    }

    /// The arena it draws from.
    pub fn arena(&self) -> &'static Arena {
        self.arena
    }

    /// Free buffers it holds right now.
    pub fn idle(&self) -> usize {
        self.loaded.len() + self.previous.len()
    }

    /// An empty packet with at least [`HEADROOM`](crate::HEADROOM) in front; `None` when the arena ran dry.
    #[inline]
    pub fn alloc(&mut self) -> Option<Packet> {
        if self.loaded.is_empty() {
            self.reload()?;
        }
        let mut buffer = self.loaded.pop()?;
        buffer.reset();
        Some(Packet::from_buffer(buffer))
    }

    /// A packet that holds `bytes`, in as many segments as it takes.
    pub fn alloc_from(&mut self, bytes: &[u8]) -> Option<Packet> {
        let mut packet = self.alloc()?;
        let mut rest = bytes;
        loop {
            let room = packet.tail_room().min(rest.len());
            let (head, tail) = rest.split_at(room);
            if !packet.extend(head) {
                self.free(packet);
                return None;
            }
            rest = tail;
            if rest.is_empty() {
                return Some(packet);
            }
            match self.alloc() {
                Some(segment) => packet.append(segment),
                None => {
                    self.free(packet);
                    return None;
                }
            }
        }
    }

    /// Takes a packet back, with its whole chain.
    #[inline]
    pub fn free(&mut self, packet: Packet) {
        let mut buffer = packet.into_buffer();
        loop {
            let next = buffer.next_mut().take();
            self.put(buffer);
            match next {
                Some(segment) => buffer = segment,
                None => return,
            }
        }
    }

    /// Takes a batch of packets back.
    pub fn free_all(&mut self, batch: &mut Batch) {
        for packet in batch.drain(..) {
            self.free(packet);
        }
    }

    #[inline]
    fn put(&mut self, buffer: Buffer) {
        if !core::ptr::eq(buffer.arena(), self.arena) {
            return send_home(buffer);
        }
        if self.loaded.len() == MAGAZINE {
            self.unload();
        }
        if self.loaded.len() < MAGAZINE {
            self.loaded.push(buffer);
        } else {
            send_home(buffer);
        }
    }

    /// Makes `loaded` non-empty.
    #[cold]
    #[inline(never)]
    fn reload(&mut self) -> Option<()> {
        core::mem::swap(&mut self.loaded, &mut self.previous);
        if !self.loaded.is_empty() {
            return Some(());
        }
        if let Some(full) = self.arena.full.pop() {
            let empty = core::mem::replace(&mut self.loaded, full);
            let _ = self.arena.empty.push(empty);
        }
        while self.loaded.len() < MAGAZINE {
            match self.arena.strays.pop() {
                Some(buffer) => self.loaded.push(buffer),
                None => break,
            }
        }
        (!self.loaded.is_empty()).then_some(())
    }

    /// Makes room in `loaded`.
    #[cold]
    #[inline(never)]
    fn unload(&mut self) {
        core::mem::swap(&mut self.loaded, &mut self.previous);
        if self.loaded.len() < MAGAZINE {
            return;
        }
        if let Some(empty) = self.arena.empty.pop() {
            let full = core::mem::replace(&mut self.loaded, empty);
            let _ = self.arena.full.push(full);
        }
    }
}

/// A buffer of another arena, or one too many: dropping it does it.
#[cold]
#[inline(never)]
fn send_home(buffer: Buffer) {
    drop(buffer);
}

impl Drop for Pool {
    /// Gives its buffers back through full magazines where it can, one by one where it cannot.
    fn drop(&mut self) {
        for magazine in [core::mem::take(&mut self.loaded), core::mem::take(&mut self.previous)] {
            if magazine.len() == MAGAZINE {
                let _ = self.arena.full.push(magazine);
            }
        }
    }
}

impl core::fmt::Debug for Pool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pool").field("idle", &self.idle()).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::arena::{BUFFER, HEADROOM, MIN_CAPACITY, PAGE_BUFFER};
    use std::vec;

    /// An arena of `slots` slots in ordinary memory.
    pub(crate) fn arena(slots: usize) -> &'static Arena {
        Arena::new(vec![0; (slots + 1) * BUFFER - 1].leak())
    }

    /// The same of slots that are pages.
    pub(crate) fn page_arena(slots: usize) -> &'static Arena {
        Arena::of_pages(vec![0; (slots + 1) * PAGE_BUFFER - 1].leak())
    }

    #[test]
    fn devices_keep_half_of_an_arena_at_most() {
        let arena = arena(100);
        let first = arena.claim(30).unwrap();
        let second = arena.claim(20).unwrap();
        assert_eq!((first.slots(), second.slots()), (30, 20));
        assert!(arena.claim(1).is_none());
        drop(first);
        assert!(arena.claim(31).is_none() && arena.claim(usize::MAX).is_none());
        assert!(arena.claim(30).is_some());
    }

    #[test]
    fn every_slot_is_handed_out_once() {
        for arena in [arena(1000), page_arena(1000)] {
            every_slot_of(arena);
        }
    }

    fn every_slot_of(arena: &'static Arena) {
        let mut pool = Pool::new(arena);
        let mut packets: Vec<Packet> = core::iter::from_fn(|| pool.alloc()).collect();
        assert_eq!(packets.len(), arena.slots());
        let mut addresses: Vec<usize> =
            packets.iter().map(|packet| packet.data().as_ptr() as usize / arena.slot_size()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), arena.slots());
        assert!(packets.iter_mut().all(|packet| packet.push(HEADROOM).is_some()));
        packets.into_iter().for_each(|packet| pool.free(packet));
        assert_eq!(core::iter::from_fn(|| pool.alloc()).collect::<Vec<_>>().len(), arena.slots());
    }

    #[test]
    fn buffers_move_between_cpus_and_none_is_lost() {
        let arena = arena(640);
        let (send, receive) = std::sync::mpsc::channel::<Packet>();
        let consumer = std::thread::spawn(move || {
            let mut pool = Pool::new(arena);
            receive.into_iter().for_each(|packet| pool.free(packet));
        });
        let mut pool = Pool::new(arena);
        let mut sent = 0;
        while sent < 100_000 {
            if let Some(packet) = pool.alloc() {
                send.send(packet).unwrap();
                sent += 1;
            }
        }
        drop(send);
        consumer.join().unwrap();
        let mut all = Vec::new();
        all.extend(core::iter::from_fn(|| pool.alloc()));
        assert_eq!(all.len(), arena.slots());
    }

    #[test]
    fn a_dropped_packet_comes_back() {
        let arena = arena(1);
        let mut pool = Pool::new(arena);
        drop(pool.alloc().unwrap());
        assert_eq!(arena.strays(), 1);
        assert!(pool.alloc().is_some());
    }

    #[test]
    fn long_packets_are_chains() {
        for (arena, segments) in [(arena(16), 6), (page_arena(16), 3)] {
            let mut pool = Pool::new(arena);
            let bytes: Vec<u8> = (0..9000u32).map(|n| n as u8).collect();
            let packet = pool.alloc_from(&bytes).unwrap();
            assert_eq!((packet.len(), packet.segments().count()), (9000, segments));
            assert!(packet.segments().all(|segment| segment.len() <= arena.slot_size()));
            assert_eq!(packet.segments().flatten().copied().collect::<Vec<_>>(), bytes);
            assert!(packet.segments().next().unwrap().len() >= MIN_CAPACITY);
        }
    }

    #[test]
    fn running_dry_in_mid_chain_loses_nothing() {
        let arena = arena(3);
        let mut pool = Pool::new(arena);
        assert!(pool.alloc_from(&[0; 9000]).is_none());
        assert_eq!(core::iter::from_fn(|| pool.alloc()).collect::<Vec<_>>().len(), arena.slots());
    }
}
