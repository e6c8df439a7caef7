//! Devices in memory that cost little: a loop, a source and a sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use weir_netif::{
    BATCH, Batch, Device, DeviceInfo, Fault, Link, More, Offloads, Packet, Pool, Queue, QueuePair,
};
use weir_sync::{Control, CpuId, Softint};

/// All devices raise it.
pub(crate) const SOURCE: u8 = 8;
/// Packets under way from a source to the sink.
const WINDOW: u64 = 512;
/// Station address of the hosts.
const HOST: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// What a device does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Each queue receives what it sent, with its hop count as before.
    Loop,
    /// Queue 1 receives packets for the network of port 1.
    Source,
    /// Takes all that is sent.
    Sink,
}

/// What is at the other end of all devices. `[A]`
pub(crate) struct Counts {
    /// Packets that a source makes at once.
    pub(crate) batch: usize,
    pub(crate) made: AtomicU64,
    pub(crate) sent: AtomicU64,
    /// Those of them that CPU 0 sent.
    pub(crate) sent_by_boot: AtomicU64,
    /// Work counts now.
    pub(crate) counting: AtomicBool,
}

/// Shared by the devices of a rig.
#[derive(Clone)]
pub(crate) struct Ends(Arc<Counts>);

impl Ends {
    pub(crate) fn new(batch: usize) -> Ends {
        let [made, sent, sent_by_boot] = [const { AtomicU64::new(0) }; 3];
        Ends(Arc::new(Counts { batch, made, sent, sent_by_boot, counting: AtomicBool::new(false) }))
    }
}

impl std::ops::Deref for Ends {
    type Target = Counts;

    fn deref(&self) -> &Counts {
        &self.0
    }
}

/// A device at `port`.
pub(crate) fn attach(port: usize, kind: Kind, queues: usize, ends: &Ends) -> Box<dyn Device> {
    let (name, mac) = ("memory".into(), router_mac(port));
    let info = DeviceInfo { name, mac, mtu: 1500, queues: queues as u16, offloads: Offloads::empty() };
    Box::new(Memory { info, port, kind, ends: ends.clone() })
}

fn router_mac(port: usize) -> [u8; 6] {
    [0x52, 0x54, 0, 0, 0, port as u8 + 1]
}

/// A host asks for the router at `port`, so that it is known, at station `mac`.
fn request(port: usize, mac: [u8; 6]) -> Vec<u8> {
    let network = [10, 0, port as u8];
    let mut frame = [&[0xff; 6][..], &HOST, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &mac].concat();
    frame.extend([&network[..], &[9, 0, 0, 0, 0, 0, 0], &network, &[1]].concat());
    frame
}

/// UDP from a host at port 0 to the one that asked at `port`.
fn udp(port: usize, source_port: u16) -> Vec<u8> {
    let mut header =
        [&[0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 8, 10, 0, port as u8, 9][..]].concat();
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !((sum >> 16) + (sum & 0xffff)) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let transport = [&source_port.to_be_bytes()[..], &[0, 9, 0, 26, 0, 0], &[0; 18]].concat();
    [&router_mac(0)[..], &HOST, &[8, 0], &header, &transport].concat()
}

fn is_ipv4(packet: &Packet) -> bool {
    packet.data().get(12..14) == Some(&[8, 0])
}

struct Memory {
    info: DeviceInfo,
    port: usize,
    kind: Kind,
    ends: Ends,
}

impl Device for Memory {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn queues(&mut self, _: &Control) -> Vec<QueuePair> {
        let queue = |number| -> Box<dyn Queue> {
            let ends = self.ends.clone();
            match self.kind {
                Kind::Loop => Box::new(Loop { packets: Vec::with_capacity(1024), filled: false }),
                Kind::Source if number == 1 => Box::new(Source { frame: udp(1, 1000), ends }),
                _ => Box::new(Sink { greeting: (number == 0).then(|| request(self.port, HOST)), ends }),
            }
        };
        let pair = |n| QueuePair { cpu: CpuId::new(n).expect("few"), source: SOURCE, queue: queue(n) };
        (0..usize::from(self.info.queues)).map(pair).collect()
    }

    fn config_source(&self) -> u8 {
        SOURCE
    }

    fn link(&mut self, _: &Control) -> Link {
        Link::Up
    }

    fn service(&mut self, _: &Control) -> Result<(), Fault> {
        Ok(())
    }

    fn stop(&mut self, _: &Control) {}
}

struct Loop {
    packets: Vec<Packet>,
    filled: bool,
}

impl Queue for Loop {
    fn receive(&mut self, _: &Softint, pool: &mut Pool, into: &mut Batch) -> Result<More, Fault> {
        if !core::mem::replace(&mut self.filled, true) {
            // The next hop's station address is the router's own, so that what is sent to it can be received.
            into.extend(pool.alloc_from(&request(0, router_mac(0))));
            let flows = (0..8 * BATCH as u16).map(|n| udp(0, 1000 + n * 31));
            self.packets.extend(flows.filter_map(|frame| pool.alloc_from(&frame)));
            return Ok(More::Yes);
        }
        let first = self.packets.len().saturating_sub(BATCH);
        into.extend(self.packets.drain(first..));
        for packet in into.iter_mut() {
            let bytes = packet.data_mut();
            let sum = u16::from_be_bytes([bytes[24], bytes[25]]);
            let up = u16::from(64 - bytes[22]) << 8;
            bytes[22] = 64;
            // RFC 1624, equation 3, for a sum that only the hop count changed.
            let (low, borrow) = sum.overflowing_sub(up);
            bytes[24..26].copy_from_slice(&(low - u16::from(borrow)).to_be_bytes());
            bytes[6..12].copy_from_slice(&HOST);
        }
        Ok(More::Yes)
    }

    fn transmit(&mut self, _: &Softint, pool: &mut Pool, batch: &mut Batch) -> Result<(), Fault> {
        for packet in batch.drain(..) {
            match is_ipv4(&packet) {
                true => self.packets.push(packet),
                false => pool.free(packet),
            }
        }
        Ok(())
    }

    fn reap(&mut self, _: &Softint, _: &mut Pool) -> Result<More, Fault> {
        Ok(More::No)
    }

    fn disarm(&mut self, _: &Softint) {}

    fn arm(&mut self, _: &Softint) -> Result<More, Fault> {
        Ok(More::No)
    }
}

struct Source {
    frame: Vec<u8>,
    ends: Ends,
}

impl Queue for Source {
    fn receive(&mut self, _: &Softint, pool: &mut Pool, into: &mut Batch) -> Result<More, Fault> {
        let made = self.ends.made.load(Ordering::Relaxed);
        let batch = self.ends.batch as u64;
        if made + batch > self.ends.sent.load(Ordering::Relaxed) + WINDOW {
            return Ok(More::No);
        }
        into.extend((0..batch).filter_map(|_| pool.alloc_from(&self.frame)));
        self.ends.made.store(made + into.len() as u64, Ordering::Relaxed);
        Ok(More::Yes)
    }

    fn transmit(&mut self, _: &Softint, pool: &mut Pool, batch: &mut Batch) -> Result<(), Fault> {
        pool.free_all(batch);
        Ok(())
    }

    fn reap(&mut self, _: &Softint, _: &mut Pool) -> Result<More, Fault> {
        Ok(More::No)
    }

    fn disarm(&mut self, _: &Softint) {}

    fn arm(&mut self, _: &Softint) -> Result<More, Fault> {
        Ok(More::No)
    }
}

struct Sink {
    /// Received once.
    greeting: Option<Vec<u8>>,
    ends: Ends,
}

impl Queue for Sink {
    fn receive(&mut self, _: &Softint, pool: &mut Pool, into: &mut Batch) -> Result<More, Fault> {
        into.extend(self.greeting.take().and_then(|frame| pool.alloc_from(&frame)));
        Ok(More::No)
    }

    fn transmit(&mut self, cx: &Softint, pool: &mut Pool, batch: &mut Batch) -> Result<(), Fault> {
        let count = batch.iter().filter(|packet| is_ipv4(packet)).count() as u64;
        pool.free_all(batch);
        // One CPU transmits in each measurement: a load and a store will do.
        let add =
            |counter: &AtomicU64| counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
        add(&self.ends.sent);
        if cx.cpu() == CpuId::BOOT {
            add(&self.ends.sent_by_boot);
        }
        Ok(())
    }

    fn reap(&mut self, _: &Softint, _: &mut Pool) -> Result<More, Fault> {
        Ok(More::No)
    }

    fn disarm(&mut self, _: &Softint) {}

    fn arm(&mut self, _: &Softint) -> Result<More, Fault> {
        Ok(More::No)
    }
}
