//! The link, its clock, and tasks on both ends. Whoever is not woken is not asked, as on the router: tasks, and the driver of
//! each end (`app/src/transport.rs`).

use crate::{Arrival, Path, Ports, Router, Settings, Sink, Sum, Transport};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::future::Future;
use core::net::{IpAddr, SocketAddr};
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Waker};
use std::task::Wake;
use weir_netif::IfIndex;

pub(super) const MTU: u16 = 1500;
pub(crate) const LINK: IfIndex = IfIndex(3);
/// A millisecond.
const DELAY_NS: u64 = 1_000_000;

pub(super) struct Fixed {
    pub(super) address: [IpAddr; 2],
    pub(super) clock: Rc<Cell<u64>>,
}

impl Router for Fixed {
    fn path(&self, to: IpAddr, _: Option<IfIndex>) -> Option<Path> {
        let source = self.address.into_iter().find(|own| own.is_ipv4() == to.is_ipv4())?;
        Some(Path { source, interface: LINK, mtu: MTU })
    }

    fn is_home(&self, local: &SocketAddr, _: &SocketAddr) -> bool {
        // As with four CPUs.
        local.port() % 4 == 1
    }

    fn now_ns(&self) -> u64 {
        self.clock.get()
    }
}

/// Takes what is sent, within the room there is.
#[derive(Default)]
pub(crate) struct Out {
    pub(crate) packets: Vec<Vec<u8>>,
    pub(crate) most: usize,
}

impl Sink for Out {
    fn room(&mut self) -> usize {
        if self.packets.len() < self.most { 1 << 16 } else { 0 }
    }

    fn send(&mut self, packet: &[u8], link: IfIndex) {
        assert_eq!(link, LINK);
        let ip = crate::wire::Ip::parse(packet).expect("a whole packet");
        let is_icmp = matches!(ip.protocol, crate::wire::ICMP | crate::wire::ICMPV6);
        assert!(is_icmp || crate::wire::sum_is_right(&ip), "a right checksum");
        self.packets.push(packet.to_vec());
    }
}

pub(super) struct Link {
    pub(super) ends: [Transport; 2],
    pub(super) clock: Rc<Cell<u64>>,
    /// In thousandths.
    pub(super) loss: u64,
    pub(super) reordered: u64,
    pub(super) doubled: u64,
    /// Of a side's turns, those in which nothing can be sent.
    pub(super) full: u64,
    /// Longer ones are answered by ICMP, as by a router on the way.
    pub(super) narrow: Option<u16>,
    under_way: BTreeMap<(u64, u64), (usize, Vec<u8>)>,
    drivers: [Driver; 2],
    number: u64,
    random: u64,
    pub(super) carried: usize,
}

pub(crate) fn address(end: usize, six: bool) -> IpAddr {
    match (end, six) {
        (0, false) => "192.0.2.1".parse().unwrap(),
        (_, false) => "192.0.2.2".parse().unwrap(),
        (0, true) => "2001:db8::1".parse().unwrap(),
        (_, true) => "2001:db8::2".parse().unwrap(),
    }
}

pub(super) type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Whether somebody was woken.
pub(super) struct Woken(AtomicBool);

impl Woken {
    /// Those who have not run yet are to run.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    /// Whether, since this was asked last.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What an end's driver waits for.
struct Driver {
    woken: Arc<Woken>,
    deadline_ns: u64,
}

fn started(end: usize, clock: &Rc<Cell<u64>>, settings: Settings) -> Transport {
    let router = Fixed { address: [address(end, false), address(end, true)], clock: clock.clone() };
    Transport::new(settings, Arc::<Ports>::default(), router)
}

impl Link {
    pub(super) fn new(settings: Settings, seed: u64) -> Self {
        let clock = Rc::new(Cell::new(1_000_000_000));
        let end = |end| started(end, &clock, Settings { key: [seed, end as u64], ..settings });
        Self {
            ends: [end(0), end(1)],
            clock,
            loss: 0,
            reordered: 0,
            doubled: 0,
            full: 0,
            narrow: None,
            under_way: BTreeMap::new(),
            drivers: core::array::from_fn(|_| Driver { woken: Woken::new(), deadline_ns: u64::MAX }),
            number: 0,
            random: seed | 1,
            carried: 0,
        }
    }

    /// An end is started again, and knows nothing of before.
    pub(super) fn restart(&mut self, end: usize) {
        let settings = self.ends[end].0.borrow().settings;
        self.ends[end] = started(end, &self.clock, settings);
        self.drivers[end] = Driver { woken: Woken::new(), deadline_ns: u64::MAX };
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }

    fn launch(&mut self, from: usize, packet: Vec<u8>) {
        if let Some(mtu) = self.narrow
            && packet.len() > usize::from(mtu)
        {
            let error = too_big(&packet, mtu);
            return self.put(from, error, DELAY_NS);
        }
        if self.random() % 1000 < self.loss {
            return;
        }
        let mut delay = DELAY_NS;
        if self.random() % 1000 < self.reordered {
            delay += self.random() % (3 * DELAY_NS);
        }
        if self.random() % 1000 < self.doubled {
            self.put(1 - from, packet.clone(), delay + 1000);
        }
        self.put(1 - from, packet, delay);
    }

    fn put(&mut self, to: usize, packet: Vec<u8>, delay: u64) {
        self.number += 1;
        self.under_way.insert((self.clock.get() + delay, self.number), (to, packet));
    }

    /// Runs everything until all `tasks` have ended, for `limit_s` seconds of the link's time at the most.
    pub(super) fn run(&mut self, tasks: Vec<Task>, limit_s: u64) {
        let end = self.clock.get() + limit_s * 1_000_000_000;
        let mut tasks: Vec<_> = tasks.into_iter().map(|task| (task, Woken::new())).collect();
        while !tasks.is_empty() {
            assert!(self.clock.get() < end, "{} tasks are not done after {limit_s} s", tasks.len());
            let mut ran = false;
            tasks.retain_mut(|(task, woken)| {
                if !woken.take() {
                    return true;
                }
                ran = true;
                let waker = Waker::from(woken.clone());
                task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
            });
            if !self.turns() && !ran {
                self.advance(end);
            }
        }
    }

    /// Lets the link be for some time.
    pub(super) fn idle(&mut self, ms: u64) {
        let end = self.clock.get() + ms * 1_000_000;
        while self.clock.get() < end {
            if !self.turns() {
                self.advance(end);
            }
        }
    }

    /// Drivers that were woken, or whose deadline has passed, take their turns; whether there were any.
    fn turns(&mut self) -> bool {
        let now = self.clock.get();
        let runs = self.drivers.each_ref().map(|driver| driver.woken.take() || driver.deadline_ns <= now);
        for end in (0..2).filter(|&end| runs[end]) {
            self.turn(end);
        }
        runs.contains(&true)
    }

    /// Time goes on to what comes next, not beyond `end`.
    fn advance(&mut self, end: u64) {
        let now = self.clock.get();
        let packet = self.under_way.first_key_value().map_or(u64::MAX, |(&(at, _), _)| at);
        let deadline = self.drivers.iter().map(|driver| driver.deadline_ns.max(now + 1000)).min();
        let next = packet.min(deadline.unwrap_or(u64::MAX)).min(end).max(now);
        self.clock.set(next);
        let mut out = Out { packets: Vec::new(), most: 16 };
        while let Some(first) = self.under_way.first_entry().filter(|first| first.key().0 <= next) {
            let (to, packet) = first.remove();
            self.carried += 1;
            let arrival = Arrival { packet: &packet, interface: LINK, mtu: MTU, sum: Sum::Verify };
            self.ends[to].input(&arrival, &mut out);
            // A turn takes packets first, and then sends.
            self.drivers[to].woken.wake_by_ref();
            for packet in core::mem::take(&mut out.packets) {
                self.launch(to, packet);
            }
        }
    }

    /// A driver sends, and waits again.
    fn turn(&mut self, end: usize) {
        let is_full = self.full != 0 && self.random() % 1000 < self.full;
        let mut out = Out { packets: Vec::new(), most: if is_full { 0 } else { 16 } };
        self.ends[end].poll(&mut out);
        for packet in out.packets {
            self.launch(end, packet);
        }
        let driver = &mut self.drivers[end];
        driver.deadline_ns = self.ends[end].deadline_ns().unwrap_or(u64::MAX);
        let waker = Waker::from(driver.woken.clone());
        if self.ends[end].wanted(&Context::from_waker(&waker)).is_ready() {
            waker.wake();
        }
    }
}

/// ICMP's answer of some router on the way.
fn too_big(packet: &[u8], mtu: u16) -> Vec<u8> {
    let ip = crate::wire::Ip::parse(packet).unwrap();
    let six = ip.source.is_ipv6();
    let mut message = Vec::new();
    if six {
        message.extend([2, 0, 0, 0]);
        message.extend(u32::from(mtu).to_be_bytes());
    } else {
        message.extend([3, 4, 0, 0, 0, 0]);
        message.extend(mtu.to_be_bytes());
    }
    message.extend(&packet[..packet.len().min(80)]);
    let mut bytes = alloc::vec![0; 40 + message.len()];
    let protocol = if six { crate::wire::ICMPV6 } else { crate::wire::ICMP };
    let header =
        crate::wire::write_ip(&mut bytes, address(1, six), ip.source, protocol, message.len()).unwrap();
    bytes.truncate(header);
    bytes.extend(message);
    bytes
}
