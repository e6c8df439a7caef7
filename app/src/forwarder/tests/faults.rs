//! A device that breaks its protocol while packets are lent to it.

use super::*;
use std::vec::Vec;
use weir_netif::{Device, DeviceInfo, Fault, Link, Offloads, Packet, Queue, QueuePair};

/// Buffers that each queue keeps lent.
const LENT: usize = 256;
const FAULT: Fault = Fault { reason: "test" };

/// As a driver keeps it: what the device did, and whether it is stopped for sure.
#[derive(Default)]
struct Health {
    broken: AtomicBool,
    stopped: AtomicBool,
}

struct LendingQueue {
    health: Arc<Health>,
    lent: Vec<Packet>,
}

impl LendingQueue {
    fn check(&mut self, pool: &mut Pool) -> Result<(), Fault> {
        if !self.health.broken.load(Ordering::SeqCst) && !self.health.stopped.load(Ordering::SeqCst) {
            self.lent.extend((self.lent.len()..LENT).map_while(|_| pool.alloc()));
            return Ok(());
        }
        if self.health.stopped.load(Ordering::SeqCst) {
            self.lent.drain(..).for_each(|packet| pool.free(packet));
        }
        Err(FAULT)
    }
}

impl Queue for LendingQueue {
    fn receive(&mut self, _: &Softint, pool: &mut Pool, _: &mut Batch) -> Result<More, Fault> {
        self.check(pool).map(|()| More::No)
    }

    fn transmit(&mut self, _: &Softint, pool: &mut Pool, batch: &mut Batch) -> Result<(), Fault> {
        self.check(pool)?;
        pool.free_all(batch);
        Ok(())
    }

    fn reap(&mut self, _: &Softint, pool: &mut Pool) -> Result<More, Fault> {
        self.check(pool).map(|()| More::No)
    }

    fn disarm(&mut self, _: &Softint) {}

    fn arm(&mut self, _: &Softint) -> Result<More, Fault> {
        Ok(More::No)
    }
}

struct Lending {
    info: DeviceInfo,
    health: Arc<Health>,
}

impl Device for Lending {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn queues(&mut self, _: &Control) -> Vec<QueuePair> {
        let queue = || Box::new(LendingQueue { health: self.health.clone(), lent: Vec::with_capacity(LENT) });
        let pair = |n| QueuePair { cpu: CpuId::new(n).unwrap(), source: SOURCE, queue: queue() };
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

    fn stop(&mut self, _: &Control) {
        self.health.stopped.store(true, Ordering::SeqCst);
    }
}

const SOURCE: u8 = 9;

/// One CPU meets the fault; the other one's queue is idle. Both give back what was lent as soon as the device is stopped,
/// with the interface still in the configuration.
#[test]
fn what_a_broken_device_was_lent_comes_back_when_it_is_stopped() {
    let mut rig = Rig::new(2, Vec::new());
    let health = Arc::new(Health::default());
    let probe = {
        let health = health.clone();
        move |_: &Control| -> Result<Box<dyn Device>, String> {
            let info = DeviceInfo {
                name: "lending".into(),
                mac: [2, 0, 0, 0, 0, 1],
                mtu: 1500,
                queues: 2,
                offloads: Offloads::empty(),
            };
            Ok(Box::new(Lending { info, health: health.clone() }))
        }
    };
    let bay = rig.control.control(|cx| Bay::new(cx, Box::new(probe)).unwrap());
    rig.interfaces = Interfaces::new(rig.shared, 2, std::vec![bay]);
    rig.replace(&config("off", &[(0, A)], &[]));
    // Free buffers are counted in magazines.
    let used = |rig: &Rig| rig.shared.arena.slots().saturating_sub(rig.shared.buffers_free());
    rig.wait_for(|| used(&rig) > 2 * LENT - BATCH);
    health.broken.store(true, Ordering::SeqCst);
    raise(CpuId::BOOT, SOURCE);
    let Rig { interfaces, control, .. } = &mut rig;
    wait_for(|| {
        control.control(|cx| interfaces.run(cx, crate::interfaces::Look::None));
        health.stopped.load(Ordering::SeqCst).then_some(())
    });
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while used(&rig) > BATCH {
        assert!(std::time::Instant::now() < deadline, "{} buffers are lent to a stopped device", used(&rig));
        std::thread::yield_now();
    }
    assert_eq!(rig.interfaces.attached().len(), 1, "it is still in the configuration");
    rig.stop.store(true, Ordering::Relaxed);
    for thread in rig.threads.drain(..) {
        thread.join().unwrap();
    }
}
