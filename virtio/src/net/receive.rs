//! The receive queue: single buffers, merged into chains where a frame is longer (virtio 1.2 §5.1.6.3, §5.1.6.4).

use super::header::{self, Header};
use crate::queue::{Access, Segment, SplitQueue, Used};
use crate::transport::Notify;
use crate::violation::Violation;
use alloc::boxed::Box;
use arrayvec::ArrayVec;
use virtio_spec::net::F;
use weir_netif::{Batch, MIN_CAPACITY, More, Packet, Pool};

/// Longest frame: the longest IP packet behind an Ethernet header with two VLAN tags. IPv6 counts its 40-byte header
/// beside the 65535.
const MAX_FRAME: usize = 65535 + 40 + 14 + 8;
/// Buffers the longest frame takes when the device fills each, which it does but for the last.
const MAX_BUFFERS: usize = (MAX_FRAME + header::LEN).div_ceil(MIN_CAPACITY);
/// Free descriptors below which refilling waits.
const REFILL: u16 = 16;

/// `[C]` Receive half of a queue pair.
pub(super) struct Receiver {
    pub(super) queue: SplitQueue<Packet>,
    pub(super) notify: Box<dyn Notify>,
    pub(super) features: F,
    /// The buffers of a frame behind its first, while it is put together; after a violation, whatever was not handed
    /// over yet.
    parts: ArrayVec<Packet, MAX_BUFFERS>,
    /// Whether [`remind`](Self::remind) is due.
    remind: bool,
    /// Notifications sent.
    pub(super) notifications: u64,
}

impl Receiver {
    pub(super) fn new(queue: SplitQueue<Packet>, notify: Box<dyn Notify>, features: F) -> Self {
        Self { queue, notify, features, parts: ArrayVec::new(), remind: true, notifications: 0 }
    }

    /// Takes frames until `into` is full or none is left, then refills.
    pub(super) fn receive(&mut self, pool: &mut Pool, into: &mut Batch) -> Result<More, Violation> {
        let ready = self.queue.poll()?;
        // A frame takes at least one buffer.
        let most = ready.min(into.remaining_capacity() as u16);
        // What is read here is a hint: each entry counts as it is read when its buffer is taken back.
        for nth in 0..most {
            self.queue.peek(nth).inspect(|packet| packet.prefetch_meta());
        }
        for nth in 0..most {
            self.queue.peek(nth).inspect(|packet| packet.prefetch_data());
        }
        while !into.is_full()
            && let Some(used) = self.queue.entry()
        {
            let packet = self.frame(used)?;
            into.push(packet);
        }
        self.refill(pool);
        Ok(if self.queue.ready() == 0 { More::No } else { More::Yes })
    }

    /// Lends as many buffers as the ring takes and `pool` has, but not just a few.
    pub(super) fn refill(&mut self, pool: &mut Pool) {
        if self.queue.free() < REFILL {
            return;
        }
        while self.queue.free() != 0 {
            let Some(packet) = pool.alloc() else { break };
            let (addr, len) = packet.room();
            if let Err(packet) = self.queue.lend_one(Segment { addr, len, access: Access::Write }, packet) {
                pool.free(packet);
                break;
            }
        }
        if self.queue.publish() {
            self.notifications += 1;
            self.notify.notify();
        }
    }

    /// Once, when all queues have had the time to lend buffers: notifies the device again. A frame that came by one
    /// queue of QEMU's and is for another, by software RSS, is kept back while that one has no buffers, and with it all
    /// that follow it, until the first one is notified; which it was when it lent its own.
    pub(super) fn remind(&mut self) {
        if core::mem::take(&mut self.remind) && self.queue.lent() != 0 {
            self.notifications += 1;
            self.notify.notify();
        }
    }

    /// All packets it holds. Only once the device is quenched.
    pub(super) fn reclaim(&mut self) -> impl Iterator<Item = Packet> {
        self.parts.drain(..).chain(self.queue.reclaim())
    }

    /// The frame that begins with `used`, the oldest entry.
    #[inline]
    fn frame(&mut self, used: Used) -> Result<Packet, Violation> {
        let mut packet = self.queue.redeem(used)?;
        match self.open(&mut packet, used) {
            Ok(1) => Ok(packet),
            Ok(buffers) => self.merge(packet, buffers),
            Err(violation) => {
                self.parts.push(packet);
                Err(violation)
            }
        }
    }

    /// Takes the header off a frame's first buffer. Returns how many buffers there are.
    #[inline]
    fn open(&self, packet: &mut Packet, used: Used) -> Result<u16, Violation> {
        fill(packet, used)?;
        let Some(bytes) = packet.data().first_chunk::<{ header::LEN }>() else {
            return Err(if used.len == 0 { Violation::RxLengthZero } else { Violation::RxShorterThanHeader });
        };
        // Copied whole, then looked at: the device could still write to the buffer.
        let header = Header::from_bytes(*bytes);
        let _ = packet.pull(header::LEN);
        let (checksum, gso) = header.received(self.features, packet.data().len())?;
        let meta = packet.meta_mut();
        meta.checksum = checksum;
        meta.gso = gso;
        // §5.1.6.4.1: without merging a frame is in one buffer, and devices from before 1.0 leave the field as it was.
        if !self.features.contains(F::MRG_RXBUF) {
            return Ok(1);
        }
        match header.num_buffers {
            0 => Err(Violation::RxNumBuffersZero),
            buffers if usize::from(buffers) > MAX_BUFFERS => Err(Violation::RxNumBuffersAbsurd),
            buffers => Ok(buffers),
        }
    }

    /// Chains the other buffers of a frame behind its first. The device returns all of a frame's buffers at once
    /// (§5.1.6.4.1), so they are here.
    fn merge(&mut self, first: Packet, buffers: u16) -> Result<Packet, Violation> {
        let mut len = first.data().len();
        self.parts.push(first);
        for _ in 1..buffers {
            let used = self.queue.entry().ok_or(Violation::RxNumBuffersBeyondUsed)?;
            let mut part = self.queue.redeem(used)?;
            let filled = fill(&mut part, used);
            len += part.data().len();
            self.parts.push(part);
            filled?;
            if used.len == 0 {
                return Err(Violation::RxLengthZero);
            }
        }
        if len > MAX_FRAME {
            return Err(Violation::RxFrameTooLong);
        }
        // From the back, so that each buffer is chained once and nothing is walked.
        let mut whole = self.parts.pop().ok_or(Violation::RxNumBuffersZero)?;
        while let Some(mut before) = self.parts.pop() {
            before.append(whole);
            whole = before;
        }
        Ok(whole)
    }
}

/// Believes the length the device says it wrote, if it was lent as much.
#[inline]
fn fill(packet: &mut Packet, used: Used) -> Result<(), Violation> {
    if packet.set_filled(used.len as usize) { Ok(()) } else { Err(Violation::UsedLengthBeyondBuffer) }
}
