//! The front end against a simulated backend.

mod attaching;
mod hostile;
mod steering;
mod traffic;
mod zero_copy;

use crate::attach::{Options, Xen, probe};
use crate::error::Error;
use crate::simulated::{Backend, Simulated};
use alloc::boxed::Box;
use std::vec::Vec;
use weir_machine::dma::Region;
use weir_machine::xen::grant::Lent;
use weir_netif::{Arena, BUFFER, Batch, Device, Fault, More, PAGE_BUFFER, Packet, Pool, Queue};
use weir_sync::cpu::{self, Cpu};

/// Buffers of a test's arena.
const SLOTS: usize = 512;
/// Soon over, and still more than any answer takes.
const PATIENCE: Options =
    Options { queue_pairs: 1, offloads: weir_netif::Offloads::all(), patience_ns: 300_000_000 };

/// Whether a test's backend is trusted with the arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trust {
    /// It receives into the arena's buffers, too, which are pages.
    Pages,
    Arena,
    Copies,
}

fn arena(slots: usize) -> &'static Arena {
    Arena::new(Region::new(slots * BUFFER, 4096).unwrap().leak())
}

fn page_arena(slots: usize) -> &'static Arena {
    Arena::of_pages(Region::new(slots * PAGE_BUFFER, 4096).unwrap().leak())
}

/// Lends an arena to the domain of a backend.
fn lend(sim: &Simulated, arena: &Arena) -> &'static Lent {
    let memory = arena.memory();
    let lent = Lent::new(sim.table, sim.state().me, memory.start as u64, memory.len() as u64);
    assert_eq!(lent.pages() * 4096, arena.slots() * arena.slot_size());
    Box::leak(Box::new(lent))
}

/// Buffers that can be had.
fn free_buffers(pool: &mut Pool) -> usize {
    let packets: Vec<Packet> = core::iter::from_fn(|| pool.alloc()).collect();
    let count = packets.len();
    packets.into_iter().for_each(|packet| pool.free(packet));
    count
}

/// An attached vif and the CPU that owns all its queues.
struct Bench {
    cpu: Cpu,
    pool: Pool,
    sim: Simulated,
    xen: Xen,
    device: Box<dyn Device>,
    queues: Vec<Box<dyn Queue>>,
    /// Grants in use before it was attached.
    granted: usize,
}

impl Bench {
    fn new() -> Self {
        Self::with(Simulated::new(), Trust::Arena, &PATIENCE).unwrap()
    }

    fn copying() -> Self {
        Self::with(Simulated::new(), Trust::Copies, &PATIENCE).unwrap()
    }

    fn zero_copy() -> Self {
        Self::with(Simulated::new(), Trust::Pages, &PATIENCE).unwrap()
    }

    /// One of each trust.
    fn all() -> [Self; 3] {
        [Self::zero_copy(), Self::new(), Self::copying()]
    }

    fn with(sim: Simulated, trust: Trust, options: &Options) -> Result<Self, Error> {
        let arena = if trust == Trust::Pages { page_arena(SLOTS) } else { arena(SLOTS) };
        let lent = (trust != Trust::Copies).then(|| lend(&sim, arena));
        let xen = Xen { store: sim.store, grants: sim.table, arena, lent };
        let pool = Pool::new(arena);
        Self::attach(sim, xen, pool, options)
    }

    fn attach(sim: Simulated, xen: Xen, pool: Pool, options: &Options) -> Result<Self, Error> {
        let mut cpu = cpu::claim_any().unwrap();
        let granted = sim.table.in_use();
        let handle = sim.front.rsplit('/').next().unwrap().parse().unwrap();
        let mut device = cpu.control(|cx| probe(cx, &xen, handle, options))?;
        let pairs = cpu.control(|cx| device.queues(cx));
        let queues = pairs.into_iter().map(|pair| pair.queue).collect();
        let mut bench = Self { cpu, pool, sim, xen, device, queues, granted };
        for queue in 0..bench.queues.len() {
            assert!(bench.receive_on(queue).unwrap().is_empty());
            assert_eq!(bench.arm_on(queue), Ok(More::No));
        }
        Ok(bench)
    }

    /// The backend.
    fn backend(&self) -> std::sync::MutexGuard<'_, Backend> {
        self.sim.state()
    }

    fn receive_on(&mut self, queue: usize) -> Result<Batch, Fault> {
        let mut batch = Batch::new();
        let (queue, pool) = (&mut self.queues[queue], &mut self.pool);
        self.cpu.softint(|cx| queue.receive(cx, pool, &mut batch)).map(|_| batch)
    }

    fn receive(&mut self) -> Result<Batch, Fault> {
        self.receive_on(0)
    }

    fn transmit_on(&mut self, queue: usize, batch: &mut Batch) -> Result<(), Fault> {
        let (queue, pool) = (&mut self.queues[queue], &mut self.pool);
        self.cpu.softint(|cx| queue.transmit(cx, pool, batch))
    }

    fn transmit(&mut self, batch: &mut Batch) -> Result<(), Fault> {
        self.transmit_on(0, batch)
    }

    fn reap(&mut self) -> Result<More, Fault> {
        let (queue, pool) = (&mut self.queues[0], &mut self.pool);
        self.cpu.softint(|cx| queue.reap(cx, pool))
    }

    fn arm_on(&mut self, queue: usize) -> Result<More, Fault> {
        let queue = &mut self.queues[queue];
        self.cpu.softint(|cx| queue.arm(cx))
    }

    fn arm(&mut self) -> Result<More, Fault> {
        self.arm_on(0)
    }

    fn service(&mut self) -> Result<(), Fault> {
        let device = &mut self.device;
        self.cpu.control(|cx| device.service(cx))
    }

    fn stop(&mut self) {
        let device = &mut self.device;
        self.cpu.control(|cx| device.stop(cx));
    }

    /// What died in the driver.
    fn drops(&mut self) -> Vec<(weir_netif::Drop, u32)> {
        let mut drops = Vec::new();
        self.queues[0].take_drops(&mut |reason, count| drops.push((reason, count)));
        drops
    }

    /// A batch of one packet.
    fn one(&mut self, bytes: &[u8]) -> Batch {
        let mut batch = Batch::new();
        batch.push(self.pool.alloc_from(bytes).unwrap());
        batch
    }

    /// A packet on its way there and what arrives of it, answered.
    fn sent(&mut self, batch: &mut Batch) -> crate::simulated::Sent {
        self.transmit(batch).unwrap();
        let mut backend = self.sim.state();
        let sent = backend.collect(0).expect("nothing was sent");
        backend.finish(0, &sent, 0);
        backend.publish_tx(0);
        sent
    }

    /// Stops the vif; everything must come back.
    fn stop_and_count(mut self) {
        self.stop();
        for queue in 0..self.queues.len() {
            self.receive_on(queue).unwrap_err();
        }
        assert_eq!(free_buffers(&mut self.pool), SLOTS, "buffers are missing");
        self.count();
    }

    /// Drops the queues; nothing may be left.
    fn count(mut self) {
        self.queues.clear();
        drop(self.device);
        assert_eq!(self.pool.arena().strays(), 0);
        assert_eq!(self.pool.arena().lost(), 0, "buffers are lost");
        assert_eq!(self.sim.table.limbo(), 0, "the backend kept pages");
        assert_eq!(self.sim.table.in_use(), self.granted, "grants are left");
        assert_eq!((self.sim.store.watches(), self.sim.peer.watches()), (0, 0), "watches are left");
        assert_eq!(self.sim.peer.transactions(), 0, "transactions are left");
    }
}

/// All of a packet's bytes.
fn bytes(packet: &Packet) -> Vec<u8> {
    packet.segments().flatten().copied().collect()
}
