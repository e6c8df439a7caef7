//! What a receive ring is filled with: pages of the queue's own, or buffers of the arena.

use crate::ids::SLOTS;
use crate::ring::PAGE;
use alloc::boxed::Box;
use alloc::vec::Vec;
use weir_machine::xen::grant::{Lent, Page};
use weir_netif::{Arena, Claim, Packet};

/// Buffers a ring is given, if the arena has as many to spare; else the next fewer.
const CLAIMS: [usize; 3] = [SLOTS, SLOTS / 2, LEAST];
/// The fewest. All queues of a vif together have more only up to what one may, or a quarter of the arena: others come.
const LEAST: usize = SLOTS / 4;

/// `[C]` Of the queue.
pub(crate) enum Stock {
    /// Pages the backend writes to, always; at most [`SLOTS`]. Frames are copied out of them.
    Pages(Vec<Page>),
    /// Buffers that the backend writes to and that become packets.
    Buffers(Buffers),
}

/// Buffers of an arena that is lent to the backend.
pub(crate) struct Buffers {
    lent: &'static Lent,
    claim: Claim,
    /// By slot of the ring: those that the backend may write to now.
    requested: Box<[Option<Packet>; SLOTS]>,
}

impl Buffers {
    /// Of a vif with so many queues. `None` unless each buffer of `arena` is a page, all are lent, and it has some to spare.
    pub(crate) fn new(lent: &'static Lent, arena: &'static Arena, queues: u16) -> Option<Self> {
        let memory = arena.memory();
        let is_lent = |addr: usize| lent.reference_of(addr as u64).is_some();
        // What is lent has no gap.
        let all = is_lent(memory.start) && is_lent(memory.end - 1);
        if arena.slot_size() < PAGE || !all {
            return None;
        }
        let most = SLOTS.max(arena.slots() / 4);
        let is_modest = |slots: &&usize| **slots == LEAST || **slots * usize::from(queues) <= most;
        let claim = CLAIMS.iter().filter(is_modest).find_map(|&slots| arena.claim(slots))?;
        Some(Self { lent, claim, requested: Box::new([const { None }; SLOTS]) })
    }

    /// Buffers the ring is to have.
    pub(crate) fn wanted(&self) -> u32 {
        // At most 256.
        self.claim.slots() as u32
    }

    /// What the backend maps a buffer by; `None` if it is not of this arena.
    #[inline]
    pub(crate) fn reference(&self, packet: &Packet) -> Option<u32> {
        let (addr, _) = packet.room();
        self.lent.reference_of(addr)
    }

    /// Keeps a buffer for as long as the request in `slot` is outstanding.
    #[inline]
    pub(crate) fn keep(&mut self, slot: u8, packet: Packet) {
        if let Some(place) = self.requested.get_mut(usize::from(slot)) {
            *place = Some(packet);
        }
    }

    /// The buffer whose request was answered.
    #[inline]
    pub(crate) fn take(&mut self, slot: u8) -> Option<Packet> {
        self.requested.get_mut(usize::from(slot))?.take()
    }

    /// All of them. Only once the connection is closed.
    pub(crate) fn reclaim(&mut self) -> impl Iterator<Item = Packet> {
        self.requested.iter_mut().filter_map(Option::take)
    }
}

impl Drop for Buffers {
    /// The backend may still write to what was not reclaimed: lost rather than used again.
    fn drop(&mut self) {
        self.requested.iter_mut().filter_map(Option::take).for_each(Packet::lose);
    }
}
