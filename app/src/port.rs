//! One queue pair of a device, with the packets that wait for room in its transmit ring. Softint context.

use crate::shared::{Notice, Shared};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::time::Duration;
use weir_netif::{BATCH, Batch, Drop, Fault, IfIndex, More, Packet, Pool, Queue};
use weir_netstack::Snapshot;
use weir_sync::Softint;

/// Packets that wait in software while a transmit ring is full: four rings of QEMU's size, 3 ms of a 1 Gb/s link in
/// full frames.
const BACKLOG: usize = 1024;
/// Share of all buffers that they may be at most: a link that stands still must not take them from the others.
const SHARE: usize = 8;
/// How soon a backlog is tried again when nothing else is sent.
pub(crate) const RETRY: Duration = Duration::from_micros(100);

/// One queue pair and the interface it serves, with those on VLANs of it. `[C]` of the CPU that owns the pair; on its way there and back
/// management's.
pub struct Port {
    /// The interface that has the device to itself: the port's number.
    pub interface: IfIndex,
    /// Which attachment of a device this is; see [`Place`](crate::shared::Place).
    pub attachment: u32,
    /// The softint source its device raises.
    pub source: u8,
    /// The pair.
    pub queue: Box<dyn Queue>,
    /// It broke its protocol; the device is being taken down.
    pub(crate) fault: Option<Fault>,
    /// Packets may be in flight to the device, or it is new: a first look after it is due.
    pub(crate) in_flight: bool,
    /// It asked for an interrupt and was not served since; whether it then found packets all the same.
    pub(crate) armed: Option<More>,
    /// Interrupts since the counters were told, and notifications that they were told of.
    pub(crate) interrupts: u64,
    notifications: u64,
    /// Packets that found the ring full, oldest first. Made with room for `most`: it never grows.
    backlog: VecDeque<Packet>,
    /// How many may wait.
    most: usize,
}

impl Port {
    /// A healthy port of a router with so many `buffers`.
    pub fn new(
        interface: IfIndex,
        attachment: u32,
        source: u8,
        queue: Box<dyn Queue>,
        buffers: usize,
    ) -> Self {
        let most = BACKLOG.min(buffers / SHARE);
        let backlog = VecDeque::with_capacity(most);
        Self {
            interface,
            attachment,
            source,
            queue,
            fault: None,
            in_flight: true,
            armed: None,
            interrupts: 0,
            notifications: 0,
            backlog,
            most,
        }
    }

    /// Tells the interface's counters what came and went since the last time.
    pub(crate) fn count(&mut self, cx: &Softint, snapshot: &Snapshot) {
        let notifications = self.queue.notifications();
        let counters = snapshot.counters(self.interface);
        let sent = notifications.wrapping_sub(core::mem::replace(&mut self.notifications, notifications));
        counters.signalled(cx.cpu(), core::mem::take(&mut self.interrupts), sent);
        self.queue.take_drops(&mut |reason, count| counters.dropped_many(cx.cpu(), reason, count.into()));
    }

    /// Whether packets wait for room.
    pub(crate) fn is_backed_up(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Sends the backlog, then `batch`; keeps what does not fit the ring. What is left in `batch` has no place.
    pub(crate) fn transmit(
        &mut self,
        cx: &Softint,
        snapshot: &Snapshot,
        pool: &mut Pool,
        batch: &mut Batch,
    ) -> Result<(), Fault> {
        self.drain(cx, snapshot, pool)?;
        if self.backlog.is_empty() {
            self.in_flight = true;
            self.queue.transmit(cx, pool, batch)?;
        }
        let room = self.most - self.backlog.len();
        self.backlog.extend(batch.drain(..batch.len().min(room)));
        Ok(())
    }

    /// Sends as much of the backlog as the ring takes.
    pub(crate) fn drain(&mut self, cx: &Softint, snapshot: &Snapshot, pool: &mut Pool) -> Result<(), Fault> {
        while !self.backlog.is_empty() {
            let mut batch: Batch = self.backlog.drain(..self.backlog.len().min(BATCH)).collect();
            let tried = batch.len();
            let outcome = match self.queue.transmit(cx, pool, &mut batch) {
                Ok(()) if batch.len() == tried => self.queue.reap(cx, pool),
                outcome => outcome.map(|()| More::Yes),
            };
            if outcome == Ok(More::No) {
                // An empty ring refused them: the device can never carry them.
                batch
                    .drain(..)
                    .for_each(|packet| lose(cx, snapshot, self.interface, pool, packet, Drop::TxRingFull));
            }
            let full = !batch.is_empty();
            batch.into_iter().rev().for_each(|packet| self.backlog.push_front(packet));
            let _ = outcome?;
            if full {
                break;
            }
        }
        Ok(())
    }

    /// Gives the backlog up.
    pub(crate) fn abandon(&mut self, cx: &Softint, snapshot: &Snapshot, pool: &mut Pool, reason: Drop) {
        self.backlog.drain(..).for_each(|packet| lose(cx, snapshot, self.interface, pool, packet, reason));
    }

    /// Takes note that the device broke its protocol; the first time, management is told.
    pub(crate) fn fail(&mut self, shared: &Shared, fault: Fault) {
        if self.fault.replace(fault).is_none() {
            shared.notify(Notice::Broken { interface: self.interface, fault });
        }
    }
}

/// Drops a packet that was counted as sent when it joined the backlog.
fn lose(cx: &Softint, snapshot: &Snapshot, port: IfIndex, pool: &mut Pool, packet: Packet, reason: Drop) {
    let owner = snapshot.owner(port, &packet);
    let counters = owner.map_or(snapshot.unconfigured(), |owner| snapshot.counters(owner));
    counters.not_sent(cx.cpu(), 1, packet.len() as u64);
    counters.dropped(cx.cpu(), reason);
    snapshot.taps().lost(cx, &packet, reason);
    pool.free(packet);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::sync::Arc;
    use std::vec;
    use std::vec::Vec;
    use weir_netif::{Arena, BUFFER, IfCounters};
    use weir_netstack::Plan;
    use weir_netstack::snapshot::InterfacePlan;
    use weir_sync::cpu::claim_any;

    /// A link that takes nothing.
    struct Stuck;

    impl Queue for Stuck {
        fn receive(&mut self, _: &Softint, _: &mut Pool, _: &mut Batch) -> Result<More, Fault> {
            Ok(More::No)
        }

        fn transmit(&mut self, _: &Softint, _: &mut Pool, _: &mut Batch) -> Result<(), Fault> {
            Ok(())
        }

        fn reap(&mut self, _: &Softint, _: &mut Pool) -> Result<More, Fault> {
            Ok(More::Yes)
        }

        fn disarm(&mut self, _: &Softint) {}

        fn arm(&mut self, _: &Softint) -> Result<More, Fault> {
            Ok(More::No)
        }
    }

    #[test]
    fn a_link_that_stands_still_keeps_an_eighth_of_all_buffers_at_most() {
        let arena = Arena::new(vec![0; 257 * BUFFER].leak());
        let (mut pool, counters) = (Pool::new(arena), Arc::new(IfCounters::new()));
        let plan =
            InterfacePlan { counters: counters.clone(), ..InterfacePlan::new("wan", [2, 0, 0, 0, 0, 1]) };
        let snapshot = Snapshot::build(&Plan { interfaces: vec![plan], ..Plan::default() }).unwrap();
        let mut port = Port::new(IfIndex(0), 1, 8, Box::new(Stuck), 256);
        claim_any().unwrap().softint(|cx| {
            let mut sent = 0;
            for _ in 0..10 {
                let mut batch: Batch =
                    core::iter::from_fn(|| pool.alloc_from(&[1; 60])).take(BATCH).collect();
                let offered = batch.len();
                port.transmit(cx, &snapshot, &mut pool, &mut batch).unwrap();
                sent += offered - batch.len();
                pool.free_all(&mut batch);
            }
            assert_eq!((sent, port.backlog.len()), (32, 32));
            port.abandon(cx, &snapshot, &mut pool, Drop::InterfaceDown);
        });
        assert_eq!(counters.totals().drops().collect::<Vec<_>>(), [(Drop::InterfaceDown, 32)]);
    }
}
