//! A queue pair as the stack sees it: receive and transmit halves, and the device's health before each step.

use super::receive::Receiver;
use super::transmit::Transmitter;
use crate::transport::Acknowledge;
use crate::violation::{Health, Violation};
use alloc::boxed::Box;
use alloc::sync::Arc;
use weir_netif::{Batch, Fault, More, Packet, Pool, Queue};
use weir_sync::Softint;

/// Both halves.
pub(super) struct Halves {
    pub(super) receiver: Receiver,
    pub(super) transmitter: Transmitter,
    /// With a wired interrupt: the way to take it back.
    pub(super) line: Option<Box<dyn Acknowledge>>,
}

/// `[C]` One queue pair.
pub(super) struct Pair {
    /// `None` only while it is dropped.
    halves: Option<Box<Halves>>,
    /// `[A]` Shared with the device and its other pairs.
    health: Arc<Health>,
}

impl Pair {
    pub(super) fn new(halves: Halves, health: Arc<Health>) -> Self {
        Self { halves: Some(Box::new(halves)), health }
    }

    /// Does a step if the device works. If it was reset, frees what it had been lent instead.
    #[inline]
    fn step<R>(
        &mut self,
        pool: &mut Pool,
        step: impl FnOnce(&mut Halves, &mut Pool) -> Result<R, Violation>,
    ) -> Result<R, Fault> {
        let Some(halves) = &mut self.halves else { return Err(Violation::Stopped.into()) };
        if let Err(down) = self.health.check() {
            if down.quenched {
                halves.reclaim().for_each(|packet| pool.free(packet));
            }
            return Err(down.fault);
        }
        step(halves, pool).map_err(|violation| self.health.fail(violation))
    }
}

impl Halves {
    #[cold]
    fn reclaim(&mut self) -> impl Iterator<Item = Packet> {
        self.receiver.reclaim().chain(self.transmitter.queue.reclaim())
    }
}

impl Queue for Pair {
    fn receive(&mut self, _cx: &Softint, pool: &mut Pool, into: &mut Batch) -> Result<More, Fault> {
        self.step(pool, |halves, pool| halves.receiver.receive(pool, into))
    }

    fn transmit(&mut self, _cx: &Softint, pool: &mut Pool, batch: &mut Batch) -> Result<(), Fault> {
        self.step(pool, |halves, pool| halves.transmitter.transmit(pool, batch))
    }

    /// Besides, lends receive buffers if the pool had run dry before.
    fn reap(&mut self, _cx: &Softint, pool: &mut Pool) -> Result<More, Fault> {
        self.step(pool, |halves, pool| {
            let more = halves.transmitter.reap(pool)?;
            halves.receiver.refill(pool);
            halves.receiver.remind();
            Ok(more)
        })
    }

    fn notifications(&self) -> u64 {
        let of = |halves: &Halves| halves.receiver.notifications + halves.transmitter.notifications;
        self.halves.as_deref().map_or(0, of)
    }

    fn disarm(&mut self, _cx: &Softint) {
        if let (Some(halves), Ok(())) = (&self.halves, self.health.check()) {
            halves.receiver.queue.disarm();
        }
    }

    fn arm(&mut self, _cx: &Softint) -> Result<More, Fault> {
        let Some(halves) = &mut self.halves else { return Err(Violation::Stopped.into()) };
        self.health.check().map_err(|down| down.fault)?;
        if let Some(line) = &halves.line {
            // Before the wish for interrupts: what comes after it makes a new edge, what came before is seen below.
            line.acknowledge();
        }
        match halves.receiver.queue.arm() {
            // Without a single buffer lent no interrupt can come: the caller goes on polling until the pool has some.
            Ok(0) if halves.receiver.queue.lent() != 0 => Ok(More::No),
            Ok(_) => Ok(More::Yes),
            Err(violation) => Err(self.health.fail(violation)),
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if !self.health.is_quenched() {
            // The device may still read and write rings and buffers: they are lost rather than used again.
            core::mem::forget(self.halves.take());
        }
    }
}
