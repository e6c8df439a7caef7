//! One CPU's packet work: device queues in, the stack, device queues out. Softint context.

use crate::shared::{Notice, Shared};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;
use weir_netif::{BATCH, Batch, Drop, Fault, IfIndex, More, Packet, Pool, Queue};
use weir_netstack::stack::Turn;
use weir_netstack::{Egress, Instant, Stack};
use weir_sync::Softint;

/// Sent packets are taken back at the latest after this long, when nothing else is sent.
const REAP: Duration = Duration::from_millis(20);
/// Packets that wait in software while a transmit ring is full: four rings of QEMU's size, 3 ms of a 1 Gb/s link in
/// full frames.
const BACKLOG: usize = 1024;
/// How soon a backlog is tried again when nothing else is sent.
const RETRY: Duration = Duration::from_micros(100);

/// One queue pair and the interface it serves.
pub struct Port {
    /// The interface, an index into the snapshot's table.
    pub interface: IfIndex,
    /// The softint source its device raises.
    pub source: u8,
    /// The pair.
    pub queue: Box<dyn Queue>,
    /// It broke its protocol; the device is being taken down.
    fault: Option<Fault>,
    /// Packets may be in flight to the device.
    in_flight: bool,
    /// Packets that found the ring full, oldest first. Made with room for [`BACKLOG`]: it never grows.
    backlog: VecDeque<Packet>,
}

impl Port {
    /// A healthy port.
    pub fn new(interface: IfIndex, source: u8, queue: Box<dyn Queue>) -> Self {
        let backlog = VecDeque::with_capacity(BACKLOG);
        Self { interface, source, queue, fault: None, in_flight: false, backlog }
    }

    /// Sends the backlog, then `batch`; keeps what does not fit the ring. What is left in `batch` has no place.
    fn transmit(&mut self, cx: &Softint, pool: &mut Pool, batch: &mut Batch) -> Result<(), Fault> {
        self.drain(cx, pool)?;
        if self.backlog.is_empty() {
            self.in_flight = true;
            self.queue.transmit(cx, pool, batch)?;
        }
        let room = BACKLOG - self.backlog.len();
        self.backlog.extend(batch.drain(..batch.len().min(room)));
        Ok(())
    }

    /// Sends as much of the backlog as the ring takes.
    fn drain(&mut self, cx: &Softint, pool: &mut Pool) -> Result<(), Fault> {
        while !self.backlog.is_empty() {
            let mut batch: Batch = self.backlog.drain(..self.backlog.len().min(BATCH)).collect();
            let tried = batch.len();
            self.queue.transmit(cx, pool, &mut batch)?;
            if batch.is_empty() {
                continue;
            }
            if batch.len() == tried && self.queue.reap(cx, pool)? == More::No {
                // An empty ring refused them: the device can never carry them.
                pool.free_all(&mut batch);
                continue;
            }
            batch.into_iter().rev().for_each(|packet| self.backlog.push_front(packet));
            break;
        }
        Ok(())
    }

    fn fail(&mut self, shared: &Shared, fault: Fault) {
        if self.fault.replace(fault).is_none() {
            shared.notify(Notice::Broken { interface: self.interface, fault });
        }
    }
}

/// The packet work of one CPU. `[C]`
pub struct Forwarder {
    shared: &'static Shared,
    stack: Stack,
    pool: Pool,
    ports: Vec<Port>,
    /// Empty between turns.
    batch: Batch,
    reap_at: Instant,
}

impl Forwarder {
    /// Takes over the queue pairs of its CPU.
    pub fn new(shared: &'static Shared, stack: Stack, pool: Pool, ports: Vec<Port>) -> Self {
        Self { shared, stack, pool, ports, batch: Batch::new(), reap_at: Instant::ZERO }
    }

    /// What all CPUs see.
    pub fn shared(&self) -> &'static Shared {
        self.shared
    }

    /// Serves the device that raised `source`: one batch of each of its queues.
    pub fn receive(&mut self, cx: &Softint, source: u8, now: Instant) -> More {
        let mut more = More::No;
        if !self.ports.iter().any(|port| port.source == source) {
            // No queue's: a device announces a change of its configuration.
            self.shared.device_changed();
        }
        for number in 0..self.ports.len() {
            if self.ports.get(number).is_some_and(|port| port.source == source && port.fault.is_none())
                && self.serve(cx, number, now) == More::Yes
            {
                more = More::Yes;
            }
        }
        self.retry(cx);
        self.shared.pool_idle.of(cx.cpu()).set(self.pool.idle() as u64);
        more
    }

    /// Tries the backlogs again; those of broken devices end.
    fn retry(&mut self, cx: &Softint) {
        for port in self.ports.iter_mut().filter(|port| !port.backlog.is_empty()) {
            if port.fault.is_none()
                && let Err(fault) = port.drain(cx, &mut self.pool)
            {
                port.fail(self.shared, fault);
            }
            if port.fault.is_some() {
                let counters = self.shared.snapshot.read(cx).counters(port.interface);
                for packet in port.backlog.drain(..) {
                    counters.dropped(cx.cpu(), Drop::DeviceFault);
                    self.pool.free(packet);
                }
            }
        }
    }

    /// Takes one batch from a port through the stack. Polls while there is more, re-arms the interrupt when dry.
    fn serve(&mut self, cx: &Softint, number: usize, now: Instant) -> More {
        let Some(port) = self.ports.get_mut(number) else { return More::No };
        port.queue.disarm(cx);
        let left = match port.queue.receive(cx, &mut self.pool, &mut self.batch) {
            Ok(left) => left,
            Err(fault) => {
                port.fail(self.shared, fault);
                self.pool.free_all(&mut self.batch);
                return More::No;
            }
        };
        let interface = port.interface;
        let mut out = Out { cx, shared: self.shared, ports: &mut self.ports };
        let snapshot = self.shared.snapshot.read(cx);
        let mut turn = Turn { cx, snapshot, now, pool: &mut self.pool, egress: &mut out };
        self.stack.input(&mut turn, interface, &mut self.batch);
        if left == More::Yes {
            return More::Yes;
        }
        let Some(port) = self.ports.get_mut(number) else { return More::No };
        match port.queue.arm(cx) {
            Ok(left) => left,
            Err(fault) => {
                port.fail(self.shared, fault);
                More::No
            }
        }
    }

    /// Runs the stack's timers and takes sent packets back.
    pub fn tick(&mut self, cx: &Softint, now: Instant) {
        let mut out = Out { cx, shared: self.shared, ports: &mut self.ports };
        let snapshot = self.shared.snapshot.read(cx);
        let mut turn = Turn { cx, snapshot, now, pool: &mut self.pool, egress: &mut out };
        self.stack.tick(&mut turn);
        self.retry(cx);
        if now >= self.reap_at {
            self.reap(cx, now);
        }
        self.shared.pool_idle.of(cx.cpu()).set(self.pool.idle() as u64);
    }

    /// When [`tick`](Self::tick) is due next.
    pub fn deadline(&self, now: Instant) -> Instant {
        let mut stack = self.stack.deadline();
        if self.ports.iter().any(|port| !port.backlog.is_empty() && port.fault.is_none()) {
            stack = stack.min(now + RETRY);
        }
        if self.ports.iter().any(|port| port.in_flight) { stack.min(self.reap_at) } else { stack }
    }

    fn reap(&mut self, cx: &Softint, now: Instant) {
        for port in self.ports.iter_mut().filter(|port| port.in_flight && port.fault.is_none()) {
            match port.queue.reap(cx, &mut self.pool) {
                Ok(left) => port.in_flight = left == More::Yes,
                Err(fault) => port.fail(self.shared, fault),
            }
        }
        self.reap_at = now + REAP;
    }
}

/// The way out of the stack: this CPU's transmit queues. What is left in a batch is counted and freed there.
struct Out<'a> {
    cx: &'a Softint,
    shared: &'a Shared,
    ports: &'a mut [Port],
}

impl Egress for Out<'_> {
    fn flush(&mut self, interface: IfIndex, batch: &mut Batch, pool: &mut Pool) {
        let Some(port) = self.ports.iter_mut().find(|port| port.interface == interface) else { return };
        if port.fault.is_some() {
            return;
        }
        if let Err(fault) = port.transmit(self.cx, pool, batch) {
            port.fail(self.shared, fault);
        }
    }
}
