//! The split virtqueue (virtio 1.2 §2.7), driver's side, over any kind of buffer.
//!
//! What was lent, what is free and where both indices stand is kept in private memory. The device can scribble over the
//! descriptors, the available ring and the used ring: the worst it achieves is a [`Violation`].

mod rings;
#[cfg(test)]
mod tests;

use crate::violation::Violation;
use alloc::boxed::Box;
use core::sync::atomic::{Ordering, fence};
pub(crate) use rings::Rings;
use virtio_spec::virtq::{AvailF, DescF, UsedF};

/// Flags in native order: the image runs on little-endian machines only.
const NEXT: u16 = DescF::NEXT.bits().to_ne();
const WRITE: u16 = DescF::WRITE.bits().to_ne();
const NO_INTERRUPT: u16 = AvailF::NO_INTERRUPT.bits().to_ne();
const NO_NOTIFY: u16 = UsedF::NO_NOTIFY.bits().to_ne();

/// An event index this far ahead is reached once in 65536 buffers.
const FAR: u16 = 0x8000;

/// What the device may do with a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Read,
    Write,
}

/// One piece of a buffer: address, bytes (never 0), access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) access: Access,
}

/// An entry of the used ring, as read. Nothing about it is checked yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Used {
    id: u32,
    pub(crate) len: u32,
}

/// Private bookkeeping of one descriptor.
#[derive(Debug)]
struct Slot<T> {
    /// What the caller lent, while this descriptor is the head of a lent chain.
    token: Option<T>,
    /// The next free descriptor, or the next of the chain.
    next: u16,
    /// Of a chain's head: its last descriptor, and how many there are. Of any other: itself, and 1.
    last: u16,
    count: u16,
}

/// A split virtqueue. `[C]` One owner.
#[derive(Debug)]
pub(crate) struct SplitQueue<T> {
    rings: Rings,
    slots: Box<[Slot<T>]>,
    /// Head and length of the list of free descriptors, linked through `Slot::next`.
    free_head: u16,
    free: u16,
    /// Available index up to which entries are written, and up to which the device was told.
    avail: u16,
    published: u16,
    /// Used index as last read, and up to which entries are redeemed: consumed ≤ seen ≤ published.
    seen: u16,
    consumed: u16,
    events: Events,
}

/// How each side says when it wants to hear from the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Events {
    /// By one bit each (§2.7.7, §2.7.10).
    Flags,
    /// By the index it waits for: `VIRTIO_F_EVENT_IDX`.
    Index,
}

impl<T> SplitQueue<T> {
    /// An empty queue of `size` descriptors, a power of two up to 32768; `None` for other sizes or without memory.
    /// Starts disarmed.
    pub(crate) fn new(size: u16, events: Events) -> Option<Self> {
        let rings = Rings::new(size)?;
        let slots = (0..size).map(|last| Slot { token: None, next: last + 1, last, count: 1 }).collect();
        let queue = Self {
            rings,
            slots,
            free_head: 0,
            free: size,
            avail: 0,
            published: 0,
            seen: 0,
            consumed: 0,
            events,
        };
        queue.disarm();
        Some(queue)
    }

    /// Where the device finds the three areas.
    pub(crate) fn rings(&self) -> &Rings {
        &self.rings
    }

    /// Free descriptors.
    #[inline]
    pub(crate) fn free(&self) -> u16 {
        self.free
    }

    /// Descriptors in all.
    #[inline]
    pub(crate) fn size(&self) -> u16 {
        self.rings.size()
    }

    /// Buffers lent.
    #[inline]
    pub(crate) fn lent(&self) -> u16 {
        self.avail.wrapping_sub(self.consumed)
    }

    /// Used entries that wait to be redeemed, as of the last [`poll`](Self::poll).
    #[inline]
    pub(crate) fn ready(&self) -> u16 {
        self.seen.wrapping_sub(self.consumed)
    }

    /// Lends a buffer of one segment; the device hears of it at the next [`publish`](Self::publish). Gives `token` back if
    /// no descriptor is free.
    #[inline]
    pub(crate) fn lend_one(&mut self, segment: Segment, token: T) -> Result<(), T> {
        let head = self.free_head;
        let Some(slot) = self.slots.get_mut(usize::from(head)).filter(|_| self.free != 0) else {
            return Err(token);
        };
        let access = if segment.access == Access::Write { WRITE } else { 0 };
        self.rings.write_descriptor(head, segment.addr, segment.len, access, 0);
        slot.token = Some(token);
        self.free_head = slot.next;
        self.free -= 1;
        self.rings.write_avail(self.avail, head);
        self.avail = self.avail.wrapping_add(1);
        Ok(())
    }

    /// Lends a buffer (§2.7.13.1, §2.7.13.2); the device hears of it at the next [`publish`](Self::publish). Segments
    /// it reads must precede those it writes. Gives `token` back if there is no segment or fewer free descriptors
    /// than segments.
    pub(crate) fn lend(&mut self, segments: impl IntoIterator<Item = Segment>, token: T) -> Result<(), T> {
        let mut segments = segments.into_iter();
        let Some(mut segment) = segments.next() else { return Err(token) };
        let head = self.free_head;
        let (mut at, mut count) = (head, 1);
        let after = loop {
            if count > self.free {
                return Err(token);
            }
            let Some(next) = self.slots.get(usize::from(at)).map(|slot| slot.next) else { return Err(token) };
            let access = if segment.access == Access::Write { WRITE } else { 0 };
            let following = segments.next();
            match following {
                Some(_) => self.rings.write_descriptor(at, segment.addr, segment.len, access | NEXT, next),
                None => self.rings.write_descriptor(at, segment.addr, segment.len, access, 0),
            }
            match following {
                Some(following) => segment = following,
                None => break next,
            }
            at = next;
            count += 1;
        };
        let Some(slot) = self.slots.get_mut(usize::from(head)) else { return Err(token) };
        slot.token = Some(token);
        slot.last = at;
        slot.count = count;
        self.free_head = after;
        self.free -= count;
        self.rings.write_avail(self.avail, head);
        self.avail = self.avail.wrapping_add(1);
        Ok(())
    }

    /// Tells the device about everything lent since the last time. Returns whether it must be notified.
    ///
    /// Once a batch; with its fence it stays a function that can be found in the image.
    #[inline(never)]
    pub(crate) fn publish(&mut self) -> bool {
        let old = self.published;
        if self.avail == old {
            return false;
        }
        // §2.7.13.3.1: barrier between the ring write and the idx write. The release store is it.
        self.rings.store_avail_idx(self.avail);
        self.published = self.avail;
        // §2.7.13.4.1: barrier between the idx write and the read of flags or avail_event.
        fence(Ordering::SeqCst);
        match self.events {
            Events::Flags => self.rings.read_used_flags() & NO_NOTIFY == 0,
            Events::Index => needs_event(self.rings.read_avail_event(), self.published, old),
        }
    }

    /// Reads the used index. Returns how many entries wait to be redeemed.
    #[inline]
    pub(crate) fn poll(&mut self) -> Result<u16, Violation> {
        // §2.7.14: entries are read after the index that covers them. The acquire load sees to it.
        let idx = self.rings.load_used_idx();
        let advanced = idx.wrapping_sub(self.seen);
        if advanced > self.published.wrapping_sub(self.seen) {
            return Err(runaway(advanced));
        }
        self.seen = idx;
        Ok(self.ready())
    }

    /// Reads the oldest entry that waits, once.
    #[inline]
    pub(crate) fn entry(&self) -> Option<Used> {
        if self.ready() == 0 {
            return None;
        }
        let (id, len) = self.rings.read_used(self.consumed);
        Some(Used { id, len })
    }

    /// What the `nth` entry that waits seems to give back, to prefetch; anything from [`ready`](Self::ready) on.
    #[inline]
    pub(crate) fn peek(&self, nth: u16) -> Option<&T> {
        let (id, _) = self.rings.read_used(self.consumed.wrapping_add(nth));
        self.slots.get(id as usize)?.token.as_ref()
    }

    /// Takes back what the oldest entry that waits returns; `used` is that entry.
    #[inline]
    pub(crate) fn redeem(&mut self, used: Used) -> Result<T, Violation> {
        let head = used.id as usize;
        let slot = self.slots.get_mut(head).ok_or(Violation::UsedIdOutOfRange)?;
        let token = slot.token.take().ok_or(Violation::UsedIdNotLent)?;
        if slot.count == 1 {
            slot.next = self.free_head;
            self.free += 1;
        } else {
            self.free_chain(head);
        }
        self.free_head = head as u16;
        self.consumed = self.consumed.wrapping_add(1);
        Ok(token)
    }

    /// Puts what the chain of `head` took in front of the free list, but for the list's head.
    #[cold]
    fn free_chain(&mut self, head: usize) {
        let Some(slot) = self.slots.get_mut(head) else { return };
        let last = usize::from(core::mem::replace(&mut slot.last, head as u16));
        self.free += core::mem::replace(&mut slot.count, 1);
        if let Some(last) = self.slots.get_mut(last) {
            last.next = self.free_head;
        }
    }

    /// Asks for no interrupts.
    #[inline]
    pub(crate) fn disarm(&self) {
        match self.events {
            Events::Flags => self.rings.write_avail_flags(NO_INTERRUPT),
            // §2.7.7.1: with event indices the flags stay 0.
            Events::Index => self.rings.write_used_event(self.consumed.wrapping_add(FAR)),
        }
    }

    /// Asks for an interrupt at the next used buffer, then reads the used index: what it returns waits already.
    pub(crate) fn arm(&mut self) -> Result<u16, Violation> {
        match self.events {
            Events::Flags => self.rings.write_avail_flags(0),
            Events::Index => self.rings.write_used_event(self.consumed),
        }
        // The device writes its index, then reads our wish; we write our wish, then read its index. Without a
        // full barrier on each side both can miss the other (§2.7.7.1, §2.7.14).
        fence(Ordering::SeqCst);
        self.poll()
    }

    /// Takes back everything lent. Only once the device is sure to touch none of it.
    pub(crate) fn reclaim(&mut self) -> impl Iterator<Item = T> {
        self.slots.iter_mut().filter_map(|slot| slot.token.take())
    }
}

#[cold]
fn runaway(advanced: u16) -> Violation {
    if advanced > u16::MAX / 2 { Violation::UsedIndexBackwards } else { Violation::UsedIndexRunaway }
}

/// Whether moving an index from `old` to `new` passes `event` (§2.7.10.1, `vring_need_event`).
#[inline]
fn needs_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
impl<T> SplitQueue<T> {
    /// An empty queue that has come around to `idx`.
    fn forge_indices(&mut self, idx: u16) {
        (self.avail, self.published, self.seen, self.consumed) = (idx, idx, idx, idx);
        self.rings.forge_used_idx(idx);
    }
}
