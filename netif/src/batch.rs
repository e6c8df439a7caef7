//! Up to 64 packets that go through a stage together.

use crate::packet::Packet;
use arrayvec::ArrayVec;

/// Packets in a full batch.
pub const BATCH: usize = 64;

/// A batch of packets. `try_push` hands a packet back when it is full.
pub type Batch = ArrayVec<Packet, BATCH>;
