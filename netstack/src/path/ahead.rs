//! Looks a batch's destinations up together before its packets go their way one by one: in a large table a look-up is a
//! few waits for memory, and these pass at the same time.

use arrayvec::ArrayVec;
use core::net::{Ipv4Addr, Ipv6Addr};
use weir_netif::{BATCH, Batch};

use crate::snapshot::Snapshot;

/// Brings into the cache what the packets of `batch` will look up, if the tables are too large to be there anyhow.
#[inline]
pub(super) fn look(snapshot: &Snapshot, batch: &Batch) {
    if batch.len() > 1 && (snapshot.fib4().is_large() || snapshot.fib6().is_large()) {
        look_up(snapshot, batch);
    }
}

fn look_up(snapshot: &Snapshot, batch: &Batch) {
    let mut to4 = ArrayVec::<Ipv4Addr, BATCH>::new();
    let mut to6 = ArrayVec::<Ipv6Addr, BATCH>::new();
    batch.iter().for_each(|packet| packet.prefetch_data());
    for packet in batch.iter() {
        let frame = packet.data();
        let (kind, header) = match frame.get(12..14) {
            Some([0x81, 0]) => (frame.get(16..18), frame.get(18..)),
            kind => (kind, frame.get(14..)),
        };
        let from = |at: usize| header.and_then(|header| header.get(at..));
        match kind {
            Some([8, 0]) => {
                let octets = from(16).and_then(|rest| rest.first_chunk::<4>());
                to4.extend(octets.map(|octets| Ipv4Addr::from(*octets)));
            }
            Some([0x86, 0xdd]) => {
                let octets = from(24).and_then(|rest| rest.first_chunk::<16>());
                to6.extend(octets.map(|octets| Ipv6Addr::from(*octets)));
            }
            _ => {}
        }
    }
    let mut hops = [0; BATCH];
    if snapshot.fib4().is_large() {
        snapshot.fib4().lookup_batch(&to4, &mut hops);
    }
    if snapshot.fib6().is_large() {
        snapshot.fib6().lookup_batch(&to6, &mut hops);
    }
}
