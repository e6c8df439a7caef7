//! Network devices in memory, for tests that run several CPUs as threads: what they receive is made up on the spot, what
//! they send is checked on the spot.

use std::boxed::Box;
use std::collections::HashMap;
use std::string::String;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::vec::Vec;
use weir_machine::dispatch;
use weir_netif::{Batch, Device, DeviceInfo, Fault, Link, More, Offloads, Pool, Queue, QueuePair};
use weir_sync::{Control, CpuId, Softint};

/// Softint source of a link's queues: 8 and up, as devices have.
pub(crate) fn source(port: usize) -> u8 {
    8 + port as u8
}

pub(crate) fn router_mac(port: usize) -> [u8; 6] {
    [0x52, 0x54, 0, 0, 0, port as u8 + 1]
}

/// Makes the next frame for a queue.
type Make = dyn Fn(usize) -> Option<Vec<u8>> + Send + Sync;
/// Looks at a frame that a queue sent.
type Check = dyn Fn(usize, &[u8]) + Send + Sync;

/// What is at the other end of a device: it outlives the device. `[A]` and locks: only tests use it.
pub(crate) struct Wire {
    pub(crate) port: usize,
    pub(crate) queues: usize,
    /// Devices attached to it right now.
    pub(crate) devices: AtomicUsize,
    /// Makes the next frame for a queue: `None` for now. Called with the queue's number.
    pub(crate) make: Box<Make>,
    /// Frames for queue 0, before all others.
    pub(crate) answers: Mutex<Vec<Vec<u8>>>,
    /// Takes a frame that was sent, from a queue.
    pub(crate) check: Box<Check>,
    /// Frames sent.
    pub(crate) sent: AtomicU64,
}

impl Wire {
    /// Answers ARP requests as the host everybody asks for, on whatever VLAN.
    fn took(&self, queue: usize, frame: &[u8]) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        (self.check)(queue, frame);
        let (tag, frame) = match frame.get(12..14) {
            Some([0x81, 0]) => (&frame[12..16], &[&frame[..12], &frame[16..]].concat()[..]),
            _ => (&[][..], frame),
        };
        let is_request = frame.get(12..14) == Some(&[8, 6]) && frame.get(20..22) == Some(&[0, 1]);
        if is_request && frame[28..32] != frame[38..42] {
            let host = [2, 0, 0, 0, 0, self.port as u8];
            let mut reply =
                [&frame[6..12], &host[..], tag, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &host[..]].concat();
            reply.extend([&frame[38..42], &frame[22..28], &frame[28..32]].concat());
            self.answers.lock().unwrap().push(reply);
            dispatch::raise(CpuId::BOOT, source(self.port));
        }
    }
}

struct MemoryQueue {
    link: Arc<Wire>,
    number: usize,
    stopped: Arc<AtomicUsize>,
}

impl Queue for MemoryQueue {
    fn receive(&mut self, _: &Softint, pool: &mut Pool, into: &mut Batch) -> Result<More, Fault> {
        assert_eq!(self.stopped.load(Ordering::SeqCst), 0, "a queue was used after its device was stopped");
        if self.number == 0 {
            for frame in self.link.answers.lock().unwrap().drain(..) {
                into.extend(pool.alloc_from(&frame));
            }
        }
        // Half a batch at a time, so that both full and other batches occur.
        for _ in 0..40 {
            if into.is_full() {
                break;
            }
            match (self.link.make)(self.number) {
                Some(frame) => into.extend(pool.alloc_from(&frame)),
                None => return Ok(More::No),
            }
        }
        Ok(More::Yes)
    }

    fn transmit(&mut self, _: &Softint, pool: &mut Pool, batch: &mut Batch) -> Result<(), Fault> {
        assert_eq!(self.stopped.load(Ordering::SeqCst), 0, "a queue was used after its device was stopped");
        for packet in batch.drain(..) {
            match packet.is_chain() {
                false => self.link.took(self.number, packet.data()),
                true => self.link.took(self.number, &packet.segments().collect::<Vec<_>>().concat()),
            }
            pool.free(packet);
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

struct MemoryDevice {
    link: Arc<Wire>,
    info: DeviceInfo,
    stopped: Arc<AtomicUsize>,
}

/// Attaches a device to a link.
pub(crate) fn attach(link: &Arc<Wire>) -> Box<dyn Device> {
    link.devices.fetch_add(1, Ordering::SeqCst);
    let info = DeviceInfo {
        name: String::from("memory"),
        mac: router_mac(link.port),
        mtu: 1500,
        queues: link.queues as u16,
        offloads: Offloads::empty(),
    };
    Box::new(MemoryDevice { link: link.clone(), info, stopped: Arc::default() })
}

impl Device for MemoryDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn queues(&mut self, _: &Control) -> Vec<QueuePair> {
        let pair = |number| QueuePair {
            cpu: CpuId::new(number).unwrap(),
            source: source(self.link.port),
            queue: Box::new(MemoryQueue { link: self.link.clone(), number, stopped: self.stopped.clone() }),
        };
        (0..self.link.queues).map(pair).collect()
    }

    fn config_source(&self) -> u8 {
        source(self.link.port)
    }

    fn link(&mut self, _: &Control) -> Link {
        Link::Up
    }

    fn service(&mut self, _: &Control) -> Result<(), Fault> {
        Ok(())
    }

    fn stop(&mut self, _: &Control) {
        self.stopped.store(1, Ordering::SeqCst);
    }
}

impl Drop for MemoryDevice {
    fn drop(&mut self) {
        self.link.devices.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An IPv4 frame to the router by `port`, with a transport header of `protocol` whose checksum is not looked at, and a
/// number.
pub(crate) fn ipv4(port: usize, from: [u8; 4], to: [u8; 4], ports: (u16, u16), number: u64) -> Vec<u8> {
    let payload =
        [&ports.0.to_be_bytes()[..], &ports.1.to_be_bytes(), &[0, 16, 0, 0], &number.to_be_bytes()].concat();
    packet(port, from, to, 17, &payload)
}

/// An echo request.
pub(crate) fn echo(port: usize, from: [u8; 4], to: [u8; 4], number: u64) -> Vec<u8> {
    let mut message = [&[8, 0, 0, 0, 0, 1, 0, 1][..], &number.to_be_bytes()].concat();
    let sum = !sum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    packet(port, from, to, 1, &message)
}

/// An echo request in two fragments; its number is its identification too.
pub(crate) fn echo_fragments(port: usize, from: [u8; 4], to: [u8; 4], number: u64) -> [Vec<u8>; 2] {
    let mut message = [&[8, 0, 0, 0, 0, 1, 0, 1][..], &number.to_be_bytes(), &[7; 8]].concat();
    let sum = !sum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    [(0x2000, &message[..16]), (2, &message[16..])]
        .map(|(flags, bytes)| fragment(port, from, to, 1, (number as u16, flags), bytes))
}

fn packet(port: usize, from: [u8; 4], to: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    fragment(port, from, to, protocol, (1, 0), payload)
}

fn fragment(
    port: usize,
    from: [u8; 4],
    to: [u8; 4],
    protocol: u8,
    (id, flags): (u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let [id, flags] = [id, flags].map(u16::to_be_bytes);
    let lengths = [0x45, 0, 0, 20 + payload.len() as u8];
    let mut header = [&lengths[..], &id, &flags, &[64, protocol, 0, 0], &from, &to].concat();
    let sum = !sum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&router_mac(port)[..], &[2, 0, 0, 0, 0, port as u8], &[8, 0], &header, payload].concat()
}

fn sum(bytes: &[u8]) -> u16 {
    let sum = bytes.chunks(2).fold(0u32, |sum, word| sum + u32::from(u16::from_be_bytes([word[0], word[1]])));
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// What arrived of numbered flows, by source and destination port. Numbers must rise.
#[derive(Default)]
pub(crate) struct Arrivals(Mutex<HashMap<(u16, u16), (u64, u64)>>);

impl Arrivals {
    /// Takes a frame made by [`ipv4`], whatever became of its Ethernet header and TTL.
    pub(crate) fn take(&self, frame: &[u8]) {
        let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let number = u64::from_be_bytes(frame[42..50].try_into().unwrap());
        let mut flows = self.0.lock().unwrap();
        let (count, next) = flows.entry((word(34), word(36))).or_default();
        assert!(
            number >= *next,
            "packet {number} of flow {:?} came after {}",
            (word(34), word(36)),
            *next - 1
        );
        *next = number + 1;
        *count += 1;
    }

    /// Packets that arrived, over all flows.
    pub(crate) fn count(&self) -> u64 {
        self.0.lock().unwrap().values().map(|(count, _)| count).sum()
    }
}
