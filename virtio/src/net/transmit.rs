//! The transmit queue: the header goes into the packet's headroom, so that most frames take one descriptor
//! (virtio 1.2 §5.1.6.2).

use super::header::{self, Header};
use crate::queue::{Access, Segment, SplitQueue};
use crate::transport::Notify;
use crate::violation::Violation;
use alloc::boxed::Box;
use arrayvec::ArrayVec;
use virtio_spec::net::F;
use weir_netif::{Batch, More, Packet, Pool};

/// Segments of the longest packet that is sent: 64 KiB in buffers as they come, and some to spare.
const MAX_SEGMENTS: usize = 64;

/// Packets that are taken back are asked for so many before.
const AHEAD: u16 = 4;

/// `[C]` Transmit half of a queue pair. Runs without interrupts: what is sent is taken back at the next
/// transmission or by `reap`.
pub(super) struct Transmitter {
    pub(super) queue: SplitQueue<Packet>,
    pub(super) notify: Box<dyn Notify>,
    pub(super) features: F,
    /// Notifications sent.
    pub(super) notifications: u64,
}

/// Why a packet stays.
enum Stays {
    /// There is no room now.
    Full,
    /// Its metadata asks for what the device does not do, or it has too many segments.
    Never,
}

impl Transmitter {
    /// Lends packets from the front of `batch` while there is room, and notifies once. Packets that can never be
    /// sent stay in `batch`, as do those behind a full ring.
    pub(super) fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) -> Result<(), Violation> {
        let _ = self.reap(pool)?;
        let mut left = Batch::new();
        let mut full = false;
        for packet in batch.drain(..) {
            if full {
                left.push(packet);
            } else if let Err((packet, why)) = self.lend(pool, packet) {
                full = matches!(why, Stays::Full);
                left.push(packet);
            }
        }
        if !left.is_empty() {
            *batch = left;
        }
        if self.queue.publish() {
            self.notifications += 1;
            self.notify.notify();
        }
        Ok(())
    }

    /// Frees what the device has sent.
    pub(super) fn reap(&mut self, pool: &mut Pool) -> Result<More, Violation> {
        let ready = self.queue.poll()?;
        for nth in 0..ready {
            // A hint: the entry counts as it is read below.
            if let Some(ahead) = self.queue.peek(nth.wrapping_add(AHEAD)) {
                ahead.prefetch_meta();
            }
            let Some(used) = self.queue.entry() else { break };
            // The length says nothing: the device wrote to none of it (§2.7.8.2).
            pool.free(self.queue.redeem(used)?);
        }
        Ok(if self.queue.lent() == 0 { More::No } else { More::Yes })
    }

    #[inline]
    fn lend(&mut self, pool: &mut Pool, mut packet: Packet) -> Result<(), (Packet, Stays)> {
        let Some(header) = Header::transmitted(self.features, &packet) else {
            return Err((packet, Stays::Never));
        };
        let needed = if packet.is_chain() { packet.segments().count() + 1 } else { 2 };
        if needed > MAX_SEGMENTS.min(usize::from(self.queue.size())) {
            return Err((packet, Stays::Never));
        }
        // One more than most need, for a header that does not fit the headroom.
        if needed > usize::from(self.queue.free()) {
            return Err((packet, Stays::Full));
        }
        match packet.push(header::LEN) {
            Some(room) => room.copy_from_slice(&header.to_bytes()),
            None => match front(pool, &header) {
                Some(mut front) => {
                    front.append(packet);
                    packet = front;
                }
                None => return Err((packet, Stays::Full)),
            },
        }
        let lent = if packet.is_chain() { self.lend_chain(packet) } else { self.lend_single(packet) };
        lent.map_err(|mut packet| {
            let _ = packet.pull(header::LEN);
            (packet, Stays::Full)
        })
    }

    #[inline]
    fn lend_single(&mut self, packet: Packet) -> Result<(), Packet> {
        let segment = segment(packet.data());
        self.queue.lend_one(segment, packet)
    }

    fn lend_chain(&mut self, packet: Packet) -> Result<(), Packet> {
        // A device may take a descriptor of no bytes for a fault of ours (QEMU does).
        let filled = packet.segments().filter(|bytes| !bytes.is_empty());
        let segments: ArrayVec<Segment, MAX_SEGMENTS> = filled.map(segment).take(MAX_SEGMENTS).collect();
        self.queue.lend(segments, packet)
    }
}

/// A buffer that holds the header alone, to go in front of a packet without headroom.
#[cold]
fn front(pool: &mut Pool, header: &Header) -> Option<Packet> {
    let mut front = pool.alloc()?;
    if let Some(room) = front.push(header::LEN) {
        room.copy_from_slice(&header.to_bytes());
    }
    Some(front)
}

#[inline]
fn segment(bytes: &[u8]) -> Segment {
    // A segment is at most a buffer long.
    Segment { addr: bytes.as_ptr() as u64, len: bytes.len() as u32, access: Access::Read }
}
