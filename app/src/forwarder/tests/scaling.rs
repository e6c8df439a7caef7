//! How two CPUs forward against one: `cargo test --release -p weir-app --lib scaling -- --ignored --nocapture`.

use super::*;
use std::sync::Barrier;
use std::time::Instant as Clock;
use std::vec::Vec;
use weir_netif::{Device, DeviceInfo, Fault, Link, Offloads, Packet, Queue, QueuePair};

const SOURCE: u8 = 8;
const FOR: Duration = Duration::from_secs(1);

/// Receives what it sent, with its hop count as before.
struct Loop {
    packets: Vec<Packet>,
    filled: bool,
}

impl Queue for Loop {
    fn receive(&mut self, _: &Softint, pool: &mut Pool, into: &mut Batch) -> Result<More, Fault> {
        if !core::mem::replace(&mut self.filled, true) {
            // The next hop asks for the router, so that it is known; its station address is the router's own, so that
            // what is sent to it can be received.
            let host = [0x52, 0x54, 0, 0, 0, 1];
            let next = [2, 0, 0, 0, 0, 9];
            let mut request = [&[0xff; 6][..], &next, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &host].concat();
            request.extend([10, 0, 0, 3, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
            into.extend(pool.alloc_from(&request));
            for n in 0..8 * BATCH as u16 {
                let mut frame = ipv4(0, [10, 0, 0, 9], [10, 0, 0, 3], (1000 + n * 31, 9), 0);
                frame.resize(60, 0);
                self.packets.extend(pool.alloc_from(&frame));
            }
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
            bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        }
        Ok(More::Yes)
    }

    fn transmit(&mut self, _: &Softint, pool: &mut Pool, batch: &mut Batch) -> Result<(), Fault> {
        for packet in batch.drain(..) {
            match packet.data().get(12) == Some(&8) && packet.data().get(13) == Some(&0) {
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

struct Memory(DeviceInfo);

impl Device for Memory {
    fn info(&self) -> &DeviceInfo {
        &self.0
    }

    fn queues(&mut self, _: &Control) -> Vec<QueuePair> {
        let queue = || Box::new(Loop { packets: Vec::with_capacity(1024), filled: false });
        let pair = |n| QueuePair { cpu: CpuId::new(n).unwrap(), source: SOURCE, queue: queue() };
        (0..usize::from(self.0.queues)).map(pair).collect()
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

/// Packets a second of `cpus` CPUs together, by a device with `queues` queues.
fn rate(cpus: usize, queues: usize, steering: &str) -> f64 {
    let _alone = CPUS.lock().unwrap_or_else(PoisonError::into_inner);
    let arena = Arena::new(std::vec![0; 4096 * BUFFER].leak());
    let shared: &'static Shared = Box::leak(Box::new(Shared::new(arena, cpus)));
    let claimed: Vec<Cpu> = (0..cpus).map(|number| wait_for(|| claim(CpuId::new(number).unwrap()))).collect();
    let mut control = wait_for(claim_any);
    let probe = move |_: &Control| -> Result<Box<dyn Device>, String> {
        let (name, mac) = ("memory".into(), [0x52, 0x54, 0, 0, 0, 1]);
        let offloads = Offloads::empty();
        Ok(Box::new(Memory(DeviceInfo { name, mac, mtu: 1500, queues: queues as u16, offloads })))
    };
    let mut interfaces = control.control(|cx| {
        let bay = Bay::new(cx, Box::new(probe)).unwrap();
        Interfaces::new(shared, cpus, std::vec![bay])
    });
    control.control(|cx| interfaces.replace(cx, config(steering, &[(0, A)], &[]))).unwrap();
    let (start, stop) = (Barrier::new(cpus + 1), AtomicBool::new(false));
    let before = |interfaces: &Interfaces| interfaces.attached()[0].counters.totals().tx_packets;
    std::thread::scope(|scope| {
        for (mut cpu, exchange) in claimed.into_iter().zip(mesh(cpus)) {
            let (start, stop) = (&start, &stop);
            scope.spawn(move || {
                let stack = Stack::new(Settings { duty: Duty::Worker, ..Settings::default() });
                let mut forwarder = Forwarder::new(shared, stack, exchange);
                let now = Instant::from_secs(1);
                start.wait();
                while !stop.load(Ordering::Relaxed) {
                    let _ = cpu.softint(|cx| forwarder.softint(cx, SOURCE, now));
                    let _ = cpu.softint(|cx| forwarder.softint(cx, MESSAGE, now));
                }
            });
        }
        start.wait();
        std::thread::sleep(FOR / 10);
        let (first, began) = (before(&interfaces), Clock::now());
        std::thread::sleep(FOR);
        let rate = (before(&interfaces) - first) as f64 / began.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        rate
    })
}

#[test]
#[ignore = "a measurement, of a machine with two idle cores"]
fn scaling() {
    let pairs: Vec<(f64, f64)> = (0..5).map(|_| (rate(1, 1, "off"), rate(2, 2, "off"))).collect();
    for (one, two) in &pairs {
        std::println!("1 CPU {:.2} Mpps, 2 CPUs {:.2} Mpps: {:.2} times", one / 1e6, two / 1e6, two / one);
    }
    let best = pairs.iter().map(|(one, two)| two / one).fold(0.0, f64::max);
    assert!(best >= 1.9, "at best {best:.2} times");
}

#[test]
#[ignore = "a measurement, of a machine with two idle cores"]
fn scaling_by_steering() {
    for _ in 0..5 {
        let (off, flows) = (rate(2, 1, "off"), rate(2, 1, "flows"));
        std::println!("one queue, two CPUs: off {:.2} Mpps, flows {:.2} Mpps", off / 1e6, flows / 1e6);
        assert!(off > 0.0 && flows > 0.0);
    }
}
