//! One CPU's packet work: device queues and other CPUs in, the stack, device queues and other CPUs out.
//!
//! Softint context, to completion. Every CPU has one; what they share is published and immutable, what they send each
//! other goes through rings of their own.

use crate::mesh::{Errand, Exchange, Parcel, Parcels};
use crate::port::{Port, RETRY};
use crate::shared::{Contested, INBOX, Running, Shared};
use crate::transport::SocketPort;
use alloc::boxed::Box;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::time::Duration;
use weir_machine::dispatch;
use weir_machine::interrupt::{CONSOLE, MESSAGE, TIMER};
use weir_netif::{BATCH, Batch, Drop, IfIndex, More, Packet, Pool};
use weir_netstack::snapshot::State;
use weir_netstack::stack::Turn;
use weir_netstack::{Carrier, Delivery, Egress, Instant, Local, Stack, flow};
use weir_sync::{CpuId, Softint};

/// Sent packets are taken back at the latest after this long, when nothing else is sent.
const REAP: Duration = Duration::from_millis(20);

/// The packet work of one CPU. `[C]`
pub struct Forwarder {
    shared: &'static Shared,
    stack: Stack,
    pool: Pool,
    /// Made with room for [`INBOX`]: it never grows.
    ports: Vec<Port>,
    exchange: Exchange,
    /// The way to this CPU's sockets, where there are any.
    sockets: Option<SocketPort>,
    /// Empty between turns, as all that follow.
    batch: Batch,
    parcels: Parcels,
    /// By CPU: packets to be sent there.
    staged: Box<[Parcels]>,
    /// Of the configuration that `ports` and `stack` know.
    generation: u64,
    /// Queue pairs taken from the inbox so far.
    taken: u64,
    reap_at: Instant,
    /// Buffers ran out: receive rings may lack some.
    starved: bool,
}

impl Forwarder {
    /// Without ports: they come with the configuration.
    pub fn new(shared: &'static Shared, stack: Stack, exchange: Exchange) -> Self {
        Self {
            shared,
            stack,
            pool: Pool::new(shared.arena),
            ports: Vec::with_capacity(INBOX),
            staged: core::iter::repeat_with(Parcels::new).take(exchange.cpus()).collect(),
            exchange,
            sockets: None,
            batch: Batch::new(),
            parcels: Parcels::new(),
            generation: 0,
            taken: 0,
            reap_at: Instant::ZERO,
            starved: false,
        }
    }

    /// With sockets for what is addressed to the router.
    #[must_use]
    pub fn with_sockets(self, sockets: SocketPort) -> Self {
        Self { sockets: Some(sockets), ..self }
    }

    /// Serves one softint source. Ask for [`deadline`](Self::deadline) afterwards.
    pub fn softint(&mut self, cx: &Softint, source: u8, now: Instant) -> More {
        let more = match source {
            TIMER => {
                self.tick(cx, now);
                More::No
            }
            MESSAGE => self.messages(cx, now),
            CONSOLE => {
                self.shared.console_typed();
                More::No
            }
            source => self.receive(cx, source, now),
        };
        for event in self.stack.events() {
            self.exchange.tell(event);
        }
        self.exchange.raise();
        if let Some(sockets) = &mut self.sockets {
            sockets.wake();
        }
        self.starved = self.pool.idle() == 0 && self.shared.arena.idle() == 0;
        let counters = self.shared.counters.of(cx.cpu());
        counters.turns.add(1);
        counters.pool_idle.set(self.pool.idle() as u64);
        more
    }

    /// When a [`TIMER`] is due next.
    pub fn deadline(&self, now: Instant) -> Instant {
        let mut due = self.stack.deadline();
        if self.ports.iter().any(|port| port.is_backed_up() && port.fault.is_none()) {
            due = due.min(now + RETRY);
        }
        let waits = self.starved || self.ports.iter().any(|port| port.in_flight);
        if waits { due.min(self.reap_at.max(now)) } else { due }
    }

    /// The configuration in force, known to ports and stack.
    #[inline]
    fn enter<'c>(&mut self, cx: &'c Softint, now: Instant) -> &'c Running {
        let running = self.shared.running.read(cx);
        if running.generation != self.generation {
            self.follow(cx, running, now);
        }
        running
    }

    /// Goes over to another configuration: takes new ports over, gives old ones back, and takes back what devices that
    /// were stopped had been lent.
    #[cold]
    fn follow(&mut self, cx: &Softint, running: &Running, now: Instant) {
        self.generation = running.generation;
        // What management has sent since, this configuration does not name: it would go straight back.
        while self.taken < running.sent_to(cx.cpu()) && self.ports.len() < self.ports.capacity() {
            let Some(port) = self.shared.inbox.of(cx.cpu()).pop() else { break };
            self.taken += 1;
            self.ports.push(port);
            self.reap_at = now + REAP;
        }
        let mut number = 0;
        while let Some(port) = self.ports.get_mut(number) {
            let place = running.place(port.interface);
            if place.is_some_and(|place| place.attachment == port.attachment) {
                self.recover(cx, running, number);
                number += 1;
                continue;
            }
            let mut port = self.ports.swap_remove(number);
            port.abandon(cx, &running.snapshot, &mut self.pool, Drop::InterfaceDown);
            // There is room for all ports there can be.
            let _ = self.shared.returned.push(port);
        }
        self.with_turn(cx, running, now, |stack, turn, _| stack.reconfigured(turn));
    }

    /// Calls the queue of a port whose interface is down: if its device broke on whatever CPU, nobody else does any more,
    /// and a queue gives its buffers back when it is called after management has stopped its device.
    fn recover(&mut self, cx: &Softint, running: &Running, number: usize) {
        let Some(port) = self.ports.get_mut(number) else { return };
        let interface = running.snapshot.interface(port.interface);
        if interface.is_none_or(|interface| interface.state == State::Down)
            && let Err(fault) = port.queue.reap(cx, &mut self.pool)
        {
            port.fail(self.shared, fault);
        }
    }

    /// Serves the device that raised `source`: one batch of each of its queues.
    fn receive(&mut self, cx: &Softint, source: u8, now: Instant) -> More {
        let running = self.enter(cx, now);
        let mut more = More::No;
        if !self.ports.iter().any(|port| port.source == source) {
            // No queue's: a device announces a change of its configuration.
            self.shared.device_changed();
        }
        for number in 0..self.ports.len() {
            if self.ports.get(number).is_some_and(|port| port.source == source && port.fault.is_none())
                && self.serve(cx, running, number, now) == More::Yes
            {
                more = More::Yes;
            }
        }
        self.retry(cx, running);
        more
    }

    /// Takes one batch from a port through the stack. Polls while there is more, re-arms the interrupt when dry.
    fn serve(&mut self, cx: &Softint, running: &Running, number: usize, now: Instant) -> More {
        let Some(port) = self.ports.get_mut(number) else { return More::No };
        if let Some(found) = port.armed.take() {
            port.interrupts += u64::from(found == More::No);
            port.queue.disarm(cx);
        }
        let left = match port.queue.receive(cx, &mut self.pool, &mut self.batch) {
            Ok(left) => left,
            Err(fault) => {
                port.fail(self.shared, fault);
                self.pool.free_all(&mut self.batch);
                return More::No;
            }
        };
        let interface = port.interface;
        if running.steers(interface) {
            self.steer(cx, running, interface);
        }
        self.with_turn(cx, running, now, |stack, turn, batch| stack.input(turn, interface, batch));
        if left == More::Yes {
            return More::Yes;
        }
        let Some(port) = self.ports.get_mut(number) else { return More::No };
        // A queue that was woken for nothing too often hears no more until then.
        port.in_flight = true;
        match port.queue.arm(cx) {
            Ok(left) => {
                port.armed = Some(left);
                left
            }
            Err(fault) => {
                port.fail(self.shared, fault);
                More::No
            }
        }
    }

    /// Sends packets of the batch whose flows belong to other CPUs there. Its own, and what is not IP, stay.
    fn steer(&mut self, cx: &Softint, running: &Running, interface: IfIndex) {
        self.batch.iter().for_each(Packet::prefetch_data);
        let mut own = Batch::new();
        for mut packet in self.batch.drain(..) {
            packet.meta_mut().received = interface;
            let cpu =
                flow::hash(&mut packet).and_then(|hash| running.cpu_of(hash)).filter(|&cpu| cpu != cx.cpu());
            match cpu.and_then(|cpu| self.staged.get_mut(cpu.index())) {
                // Neither is fuller than the batch was.
                Some(staged) => staged.push(Parcel { packet, errand: Errand::Receive(interface) }),
                None => own.push(packet),
            }
        }
        self.batch = own;
        self.send_staged(cx, running);
    }

    /// Sends each CPU what is staged for it; what finds no room ends here.
    fn send_staged(&mut self, cx: &Softint, running: &Running) {
        let mut sent = 0;
        for (number, staged) in self.staged.iter_mut().enumerate().filter(|(_, staged)| !staged.is_empty()) {
            sent += CpuId::new(number).map_or(0, |cpu| self.exchange.send(cpu, staged));
            for Parcel { packet, errand } in staged.drain(..) {
                let mut owner = packet.meta().received;
                if let Errand::Receive(interface) = errand {
                    owner = running.snapshot.owner(interface, &packet).unwrap_or(interface);
                    running.snapshot.counters(owner).received(cx.cpu(), 1, packet.len() as u64);
                }
                running.snapshot.counters(owner).dropped(cx.cpu(), Drop::HandoffFull);
                running.snapshot.taps().lost(cx, &packet, Drop::HandoffFull);
                self.pool.free(packet);
            }
        }
        self.shared.counters.of(cx.cpu()).handed_over.add(sent as u64);
    }

    /// Fills the list of a task that asked for this CPU's neighbours, as far as it has room. Neither allocates nor frees.
    fn tell_neighbors(&mut self, cx: &Softint) {
        let census = self.shared.census.of(cx.cpu());
        if census.question.is_empty() || census.answer.is_full() {
            return;
        }
        let Some(mut list) = census.question.pop() else { return };
        let room = list.capacity() - list.len();
        let v4 = self.stack.neighbors4().iter().map(|(at, own, state, mac)| (at, own.into(), state, mac));
        let v6 = self.stack.neighbors6().iter().map(|(at, own, state, mac)| (at, own.into(), state, mac));
        list.extend(v4.chain(v6).take(room));
        // There was room, and nobody else fills it.
        let _ = census.answer.push(list);
    }

    /// Takes what other CPUs sent: a batch from each.
    fn messages(&mut self, cx: &Softint, now: Instant) -> More {
        self.tell_neighbors(cx);
        let running = self.enter(cx, now);
        self.stack.listen(&running.snapshot);
        let mut more = self.speak(cx, running, now);
        for from in 0..self.exchange.cpus() {
            for _ in 0..BATCH {
                let Some(event) = self.exchange.news(from) else { break };
                let running = self.enter(cx, now);
                self.with_turn(cx, running, now, |stack, turn, _| stack.apply(turn, event));
            }
            self.exchange.take(from, &mut self.parcels);
            if self.parcels.is_empty() {
                continue;
            }
            if self.parcels.is_full() {
                more = More::Yes;
            }
            // Read after the parcels were taken: whatever configuration made them, this one is as new.
            let running = self.enter(cx, now);
            self.deliver(cx, running, now);
        }
        let running = self.enter(cx, now);
        self.retry(cx, running);
        more
    }

    /// Sends what sockets have to say, and takes back what they are done with.
    fn speak(&mut self, cx: &Softint, running: &Running, now: Instant) -> More {
        let mut own = ArrayVec::new();
        let Some(sockets) = &mut self.sockets else { return More::No };
        let more = sockets.collect(&mut self.pool, &mut own);
        sockets.refill(&mut self.pool);
        if !own.is_empty() {
            self.with_turn(cx, running, now, |stack, turn, _| {
                own.into_iter().for_each(|(packet, link)| stack.send(turn, packet, link));
                stack.flush(turn);
            });
        }
        more
    }

    /// Runs parcels' errands, in their order and as many of a kind together as follow each other.
    fn deliver(&mut self, cx: &Softint, running: &Running, now: Instant) {
        self.parcels.iter().for_each(|parcel| parcel.packet.prefetch_meta());
        let mut current = None;
        for Parcel { packet, errand } in core::mem::take(&mut self.parcels) {
            if current != Some(errand) {
                self.run_errand(cx, running, now, current);
                current = Some(errand);
            }
            self.batch.push(packet);
        }
        self.run_errand(cx, running, now, current);
    }

    fn run_errand(&mut self, cx: &Softint, running: &Running, now: Instant, errand: Option<Errand>) {
        self.with_turn(cx, running, now, |stack, turn, batch| match errand {
            Some(Errand::Receive(interface)) => stack.input(turn, interface, batch),
            Some(Errand::Resume) => stack.resume(turn, batch),
            Some(Errand::Transmit(interface)) => stack.transmit(turn, interface, batch),
            None => {}
        });
    }

    /// Runs the stack's timers and takes sent packets back.
    fn tick(&mut self, cx: &Softint, now: Instant) {
        let running = self.enter(cx, now);
        self.with_turn(cx, running, now, |stack, turn, _| {
            stack.tick(turn);
        });
        self.retry(cx, running);
        if now >= self.reap_at {
            self.reap(cx, running, now);
        }
    }

    /// Tries the backlogs again; those of broken devices end.
    fn retry(&mut self, cx: &Softint, running: &Running) {
        for port in self.ports.iter_mut().filter(|port| port.is_backed_up()) {
            if port.fault.is_none()
                && let Err(fault) = port.drain(cx, &running.snapshot, &mut self.pool)
            {
                port.fail(self.shared, fault);
            }
            if port.fault.is_some() {
                port.abandon(cx, &running.snapshot, &mut self.pool, Drop::DeviceFault);
            }
        }
    }

    fn reap(&mut self, cx: &Softint, running: &Running, now: Instant) {
        let starved = self.starved;
        let due = |port: &&mut Port| (port.in_flight || starved) && port.fault.is_none();
        for port in self.ports.iter_mut().filter(due) {
            match port.queue.reap(cx, &mut self.pool) {
                Ok(left) => port.in_flight = left == More::Yes,
                Err(fault) => port.fail(self.shared, fault),
            }
            // Whoever asked for an interrupt looks once more when that is long visible to the device. QEMU before 8.2
            // leaves out the barriers of a guest with one vCPU that it emulates: wish and packet can miss each other.
            if port.armed.is_some() && port.fault.is_none() {
                match port.queue.arm(cx) {
                    Ok(More::Yes) => dispatch::raise(cx.cpu(), port.source),
                    Ok(More::No) => {}
                    Err(fault) => port.fail(self.shared, fault),
                }
            }
            port.count(cx, &running.snapshot);
        }
        self.reap_at = now + REAP;
    }

    /// Lends the stack what it works with, and the batch.
    fn with_turn<R>(
        &mut self,
        cx: &Softint,
        running: &Running,
        now: Instant,
        work: impl FnOnce(&mut Stack, &mut Turn<'_>, &mut Batch) -> R,
    ) -> R {
        let Self { shared, stack, pool, ports, exchange, sockets, batch, staged, .. } = self;
        let mut out = Out { cx, shared, running, ports, exchange, sockets, staged, brought: 0 };
        let mut turn = Turn { cx, snapshot: &running.snapshot, now, pool, egress: &mut out };
        let result = work(stack, &mut turn, batch);
        if out.brought > 0 {
            self.send_staged(cx, running);
        }
        result
    }
}

/// The way out of the stack: this CPU's transmit queues, or the ring to the CPU that owns one.
struct Out<'a> {
    cx: &'a Softint,
    shared: &'a Shared,
    running: &'a Running,
    ports: &'a mut [Port],
    exchange: &'a mut Exchange,
    sockets: &'a mut Option<SocketPort>,
    /// By CPU: packets that go on there, and how many in all.
    staged: &'a mut [Parcels],
    brought: usize,
}

impl Out<'_> {
    /// This CPU's queue pair of the device that `interface` is on, if it has one.
    fn port(&self, interface: IfIndex) -> Option<usize> {
        let port = self.running.place(interface)?.port;
        self.ports.iter().position(|candidate| candidate.interface == port)
    }

    /// Sends frames to the CPU that transmits them; what finds no room stays.
    fn hand_over(&mut self, interface: IfIndex, batch: &mut Batch) -> Carrier {
        let owner = self.running.owner(interface, self.cx.cpu()).filter(|&owner| owner != self.cx.cpu());
        let Some(owner) = owner else { return Carrier::Nobody(Drop::InterfaceDown) };
        let errand = Errand::Transmit(interface);
        let mut parcels: Parcels = batch.drain(..).map(|packet| Parcel { packet, errand }).collect();
        let sent = self.exchange.send(owner, &mut parcels);
        self.shared.counters.of(self.cx.cpu()).handed_over.add(sent as u64);
        batch.extend(parcels.into_iter().map(|parcel| parcel.packet));
        Carrier::AnotherCpu
    }
}

impl Egress for Out<'_> {
    fn flush(&mut self, interface: IfIndex, batch: &mut Batch, pool: &mut Pool) -> Carrier {
        let Some(port) = self.port(interface).and_then(|number| self.ports.get_mut(number)) else {
            return self.hand_over(interface, batch);
        };
        if port.fault.is_some() {
            return Carrier::Nobody(Drop::DeviceFault);
        }
        if let Err(fault) = port.transmit(self.cx, &self.running.snapshot, pool, batch) {
            port.fail(self.shared, fault);
        }
        Carrier::ThisCpu
    }

    fn transmits(&self, interface: IfIndex) -> bool {
        let port = self.port(interface).and_then(|number| self.ports.get(number));
        port.is_some_and(|port| port.fault.is_none())
    }

    fn deliver(&mut self, packet: Packet, local: &Local<'_>) -> Delivery {
        match self.sockets {
            Some(sockets) => sockets.deliver(packet, local),
            None => Delivery::NoSocket(packet),
        }
    }

    fn advertised(&mut self, interface: IfIndex, router: core::net::Ipv6Addr, message: &[u8]) {
        self.shared.advertised(interface, router, message);
    }

    fn contested(&mut self, interface: IfIndex, address: core::net::IpAddr, by: [u8; 6]) {
        self.shared.contested(Contested { interface, address, by });
    }

    fn bring_home(&mut self, packet: Packet, hash: u32) -> Option<Packet> {
        let home = self.running.cpu_of(hash).filter(|&cpu| cpu != self.cx.cpu());
        let Some(staged) = home.and_then(|cpu| self.staged.get_mut(cpu.index())) else { return Some(packet) };
        match staged.try_push(Parcel { packet, errand: Errand::Resume }) {
            Ok(()) => {
                self.brought += 1;
                None
            }
            // Never: it holds a batch.
            Err(full) => Some(full.element().packet),
        }
    }
}

#[cfg(test)]
mod tests;
