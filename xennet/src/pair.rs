//! A queue as the stack sees it: receive and transmit halves, their events, and the vif's health before each step.

use crate::receive::Receiver;
use crate::transmit::Transmitter;
use crate::violation::{Health, Violation};
use alloc::boxed::Box;
use alloc::sync::Arc;
use weir_machine::interrupt::Interrupt;
use weir_machine::xen::event::Channel;
use weir_netif::{Batch, Drop as Reason, Fault, More, Pool, Queue};
use weir_sync::Softint;

/// Events in a row without a response that a queue answers at once. From then on it takes one a tick until one comes
/// with a response: a backend that fires for nothing costs its own vif's latency (Xen advisory 332).
const IDLE_EVENTS: u8 = 8;

/// Both halves.
pub(crate) struct Halves {
    pub(crate) receiver: Receiver,
    pub(crate) transmitter: Transmitter,
    pub(crate) events: Events,
}

/// The event channels of a queue, both with the same target. Closed before that is free again.
pub(crate) struct Events {
    pub(crate) receive: Channel,
    /// `None`: the same for both directions.
    pub(crate) transmit: Option<Channel>,
    pub(crate) target: Source,
    /// Notifications of packets and buffers sent.
    pub(crate) notifications: u64,
}

/// An interrupt source, given back on drop.
pub(crate) struct Source(pub(crate) Interrupt);

impl Drop for Source {
    fn drop(&mut self) {
        self.0.free();
    }
}

/// `[C]` One queue.
pub(crate) struct Pair {
    halves: Box<Halves>,
    /// `[A]` Shared with the device and its other queues.
    health: Arc<Health>,
    /// Responses there were when it was armed last.
    seen: (u32, u32),
    /// Times in a row it was armed without a response since the last time.
    idle: u8,
    /// Not unmasked for the reason of [`IDLE_EVENTS`].
    deaf: bool,
}

impl Pair {
    pub(crate) fn new(halves: Halves, health: Arc<Health>) -> Self {
        Self { halves: Box::new(halves), health, seen: (0, 0), idle: 0, deaf: false }
    }

    /// Does a step if the vif works. If its connection was closed, frees what had been lent instead.
    #[inline]
    fn step<R>(
        &mut self,
        pool: &mut Pool,
        step: impl FnOnce(&mut Halves, &mut Pool) -> Result<R, Violation>,
    ) -> Result<R, Fault> {
        let halves = &mut *self.halves;
        if let Err(down) = self.health.check() {
            if down.quenched {
                halves.transmitter.reclaim().for_each(|packet| pool.free(packet));
            }
            if down.closed {
                halves.receiver.reclaim().for_each(|packet| pool.free(packet));
            }
            return Err(down.fault);
        }
        step(halves, pool).map_err(|violation| self.health.fail(violation))
    }
}

impl Halves {
    fn progress(&self) -> (u32, u32) {
        (self.receiver.progress(), self.transmitter.progress())
    }
}

impl Events {
    fn notify_receive(&mut self) {
        self.notifications += 1;
        self.receive.notify();
    }

    fn notify_transmit(&mut self) {
        self.notifications += 1;
        self.transmit.as_ref().unwrap_or(&self.receive).notify();
    }

    fn unmask(&self) {
        self.receive.unmask();
        if let Some(transmit) = &self.transmit {
            transmit.unmask();
        }
    }
}

impl Queue for Pair {
    fn receive(&mut self, _cx: &Softint, pool: &mut Pool, into: &mut Batch) -> Result<More, Fault> {
        self.step(pool, |halves, pool| {
            let (more, notify) = halves.receiver.receive(pool, into)?;
            if notify {
                halves.events.notify_receive();
            }
            if halves.transmitter.is_crowded() {
                let _ = halves.transmitter.reap(pool)?;
            }
            Ok(more)
        })
    }

    fn transmit(&mut self, _cx: &Softint, pool: &mut Pool, batch: &mut Batch) -> Result<(), Fault> {
        self.step(pool, |halves, pool| {
            if halves.transmitter.transmit(pool, batch)? {
                halves.events.notify_transmit();
            }
            Ok(())
        })
    }

    /// Besides, requests frames if the pool had run dry before.
    fn reap(&mut self, _cx: &Softint, pool: &mut Pool) -> Result<More, Fault> {
        let more = self.step(pool, |halves, pool| {
            let more = halves.transmitter.reap(pool)?;
            if halves.receiver.refill(pool) {
                halves.events.notify_receive();
            }
            Ok(more)
        })?;
        if core::mem::take(&mut self.deaf) {
            self.halves.events.unmask();
        }
        Ok(more)
    }

    fn notifications(&self) -> u64 {
        self.halves.events.notifications
    }

    /// Nothing: an event masks its own port.
    fn disarm(&mut self, _cx: &Softint) {}

    fn arm(&mut self, _cx: &Softint) -> Result<More, Fault> {
        self.health.check().map_err(|down| down.fault)?;
        if self.halves.receiver.arm() {
            return Ok(More::Yes);
        }
        let progress = self.halves.progress();
        self.idle = if progress == self.seen { self.idle.saturating_add(1) } else { 0 };
        self.seen = progress;
        if self.idle > IDLE_EVENTS {
            self.deaf = true;
        } else {
            self.halves.events.unmask();
        }
        Ok(More::No)
    }

    fn take_drops(&mut self, count: &mut dyn FnMut(Reason, u32)) {
        self.halves.receiver.drops().take(count);
        self.halves.transmitter.take_drops(count);
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if self.health.check().is_err_and(|down| down.closed) {
            // Nobody asked for them.
            self.halves.receiver.reclaim().for_each(drop);
        }
    }
}
