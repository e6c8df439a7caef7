//! The driver against a simulated device.

mod attaching;
mod hostile;
mod traffic;

use super::{Options, probe};
use crate::error::Error;
use crate::simulated::{HEADER, Simulated};
use alloc::boxed::Box;
use std::vec::Vec;
use virtio_spec::net::F;
use weir_machine::dma::Region;
use weir_netif::{Arena, Batch, Device, Fault, More, Packet, Pool, Queue};
use weir_sync::cpu::{self, Cpu};

/// Everything that is used, on one queue pair.
fn everything() -> F {
    let offloads = F::CSUM | F::GUEST_CSUM | F::HOST_TSO4 | F::HOST_TSO6 | F::HOST_ECN;
    let offloads = offloads | F::GUEST_TSO4 | F::GUEST_TSO6 | F::GUEST_ECN | F::MRG_RXBUF;
    offloads | F::VERSION_1 | F::EVENT_IDX | F::MAC | F::STATUS | F::CTRL_VQ | F::CTRL_RX
}

/// An arena in memory that devices may reach.
fn arena(slots: usize) -> &'static Arena {
    Arena::new(Region::new(slots * weir_netif::BUFFER, weir_netif::BUFFER).unwrap().leak())
}

/// Buffers that can be had.
fn free_buffers(pool: &mut Pool) -> usize {
    let packets: Vec<Packet> = core::iter::from_fn(|| pool.alloc()).collect();
    let count = packets.len();
    packets.into_iter().for_each(|packet| pool.free(packet));
    count
}

/// A device attached to a CPU of its own, with the first receive buffers lent.
struct Bench {
    cpu: Cpu,
    pool: Pool,
    sim: Simulated,
    device: Box<dyn Device>,
    queues: Vec<Box<dyn Queue>>,
}

const SLOTS: usize = 1024;

impl Bench {
    fn new(features: F) -> Self {
        Self::with(Simulated::new(features, 1, 256), &Options::default()).unwrap()
    }

    fn with(sim: Simulated, options: &Options) -> Result<Self, Error> {
        let mut cpu = cpu::claim_any().unwrap();
        let transport = sim.transport();
        let mut device = cpu.control(|cx| probe(cx, transport, 1, options))?;
        let pairs = cpu.control(|cx| device.queues(cx));
        let queues = pairs.into_iter().map(|pair| pair.queue).collect();
        let mut bench = Self { cpu, pool: Pool::new(arena(SLOTS)), sim, device, queues };
        for queue in 0..bench.queues.len() {
            assert!(bench.receive_on(queue).unwrap().is_empty());
        }
        Ok(bench)
    }

    fn receive_on(&mut self, queue: usize) -> Result<Batch, Fault> {
        let mut batch = Batch::new();
        let (queue, pool) = (&mut self.queues[queue], &mut self.pool);
        self.cpu.softint(|cx| queue.receive(cx, pool, &mut batch)).map(|_| batch)
    }

    fn receive(&mut self) -> Result<Batch, Fault> {
        self.receive_on(0)
    }

    fn transmit(&mut self, batch: &mut Batch) -> Result<(), Fault> {
        let (queue, pool) = (&mut self.queues[0], &mut self.pool);
        self.cpu.softint(|cx| queue.transmit(cx, pool, batch))
    }

    fn reap(&mut self) -> Result<More, Fault> {
        let (queue, pool) = (&mut self.queues[0], &mut self.pool);
        self.cpu.softint(|cx| queue.reap(cx, pool))
    }

    fn arm(&mut self) -> Result<More, Fault> {
        let queue = &mut self.queues[0];
        self.cpu.softint(|cx| queue.arm(cx))
    }

    fn disarm(&mut self) {
        let queue = &mut self.queues[0];
        self.cpu.softint(|cx| queue.disarm(cx));
    }

    fn service(&mut self) -> Result<(), Fault> {
        let device = &mut self.device;
        self.cpu.control(|cx| device.service(cx))
    }

    fn stop(&mut self) {
        let device = &mut self.device;
        self.cpu.control(|cx| device.stop(cx));
    }

    /// A batch of one packet.
    fn one(&mut self, bytes: &[u8]) -> Batch {
        let mut batch = Batch::new();
        batch.push(self.pool.alloc_from(bytes).unwrap());
        batch
    }

    /// Stops the device; every buffer must come back.
    fn stop_and_count(mut self) {
        self.stop();
        for queue in 0..self.queues.len() {
            self.receive_on(queue).unwrap_err();
        }
        assert_eq!(free_buffers(&mut self.pool), SLOTS, "buffers are missing");
        drop(self.queues);
        assert_eq!(self.pool.arena().strays(), 0);
    }
}

/// A header without offloads.
const PLAIN: [u8; HEADER] = [0; HEADER];

/// All of a packet's bytes.
fn bytes(packet: &Packet) -> Vec<u8> {
    packet.segments().flatten().copied().collect()
}
