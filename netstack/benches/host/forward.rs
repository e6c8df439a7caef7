//! Forwarding between ports in memory, as `peers/forward.c`: from a received batch to the batch for the other port.

use crate::table::{self, HOPS, SEED};
use crate::tap::{self, Tap};
use crate::{Together, pin};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant as Clock;
use weir_netif::{Arena, BATCH, BUFFER, Batch, IfIndex, Packet, Pool};
use weir_netstack::capture::Taps;
use weir_netstack::neighbor::{self, Evidence};
use weir_netstack::snapshot::{InterfacePlan, RoutePlan, RouteTarget};
use weir_netstack::stack::{Event, Settings, Turn};
use weir_netstack::{Carrier, Egress, Instant, Plan, Snapshot, Stack};
use weir_sync::Cpu;
use weir_sync::cpu;

/// Packets of a sample; all are in memory at once.
const PACKETS: usize = 8192;
const IN: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const OUT: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
/// Bytes of an Ethernet header and of the frame check sequence that the size of a frame counts and memory does not have.
const ETHERNET: usize = 14;
const FCS: usize = 4;
/// Frames of the simple mix of sizes, of twelve.
const IMIX: [usize; 12] = [64, 594, 64, 64, 594, 64, 64, 594, 64, 1518, 594, 64];

pub(crate) struct Rig {
    snapshot: Snapshot,
    taps: Arc<Taps>,
    destinations: Vec<IpAddr>,
    workers: Vec<Worker>,
    cores: Vec<usize>,
    sizes: Vec<usize>,
}

/// What a CPU has to itself.
struct Worker {
    cpu: Cpu,
    stack: Stack,
    pool: Pool,
    catch: Catch,
    packets: Vec<Packet>,
    batches: Vec<Batch>,
    next: usize,
}

/// Keeps what is sent, full batches as they are.
struct Catch {
    batches: Vec<Batch>,
    few: Vec<Packet>,
}

impl Egress for Catch {
    #[inline]
    fn flush(&mut self, _: IfIndex, batch: &mut Batch, _: &mut Pool) -> Carrier {
        if batch.len() > BATCH / 2 {
            self.batches.push(std::mem::take(batch));
        } else {
            self.few.extend(batch.drain(..));
        }
        Carrier::ThisCpu
    }
}

impl Catch {
    /// All that was sent, in order as far as it came in full batches.
    fn take(&mut self, into: &mut Vec<Packet>) {
        into.extend(self.batches.drain(..).flatten());
        into.append(&mut self.few);
    }
}

fn gateway(six: bool, hop: u32) -> IpAddr {
    match six {
        false => Ipv4Addr::from_bits(0xc000_0202 + hop).into(),
        true => Ipv6Addr::from_bits(0x2001_0db8_0000_0002 << 64 | u128::from(2 + hop)).into(),
    }
}

fn plan(six: bool, routes: impl Iterator<Item = ((IpAddr, u8), u32)>) -> Plan {
    let mut inside = InterfacePlan::new("in", IN);
    let mut outside = InterfacePlan::new("out", OUT);
    let address = |text: &str| text.parse().expect("an address");
    inside.addresses = vec![(address("10.0.0.1"), 24), (address("2001:db8:0:1::1"), 64)];
    outside.addresses = vec![(address("192.0.2.1"), 24), (address("2001:db8:0:2::1"), 64)];
    let routes = routes.map(|(to, hop)| RoutePlan {
        to,
        target: RouteTarget::Via { gateway: gateway(six, hop), interface: IfIndex(1) },
        metric: 0,
    });
    Plan { interfaces: vec![inside, outside], routes: routes.collect(), ..Plan::default() }
}

/// The headers of a frame of `size` bytes, frame check sequence included.
fn headers(destination: IpAddr, size: usize) -> ([u8; 54], usize) {
    let mut bytes = [0; 54];
    bytes[..6].copy_from_slice(&IN);
    bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    let below = size - FCS - ETHERNET;
    match destination {
        IpAddr::V4(to) => {
            let len = (below as u16).to_be_bytes();
            bytes[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
            bytes[16..18].copy_from_slice(&len);
            bytes[18..30].copy_from_slice(&[0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2]);
            bytes[30..34].copy_from_slice(&to.octets());
            let sum: u32 = bytes[14..34].chunks(2).map(|b| u32::from(b[0]) << 8 | u32::from(b[1])).sum();
            let sum = (sum >> 16) + (sum & 0xffff);
            let sum = !((sum >> 16) + (sum & 0xffff)) as u16;
            bytes[24..26].copy_from_slice(&sum.to_be_bytes());
            (bytes, 34)
        }
        IpAddr::V6(to) => {
            let len = ((below - 40) as u16).to_be_bytes();
            bytes[12..18].copy_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0]);
            bytes[18..20].copy_from_slice(&len);
            bytes[20..22].copy_from_slice(&[59, 64]);
            bytes[22..38].copy_from_slice(&(0x2001_0db8_0000_0001_u128 << 64 | 2).to_be_bytes());
            bytes[38..54].copy_from_slice(&to.octets());
            (bytes, 54)
        }
    }
}

impl Rig {
    pub(crate) fn new(cores: Vec<usize>, six: bool, routes: usize) -> Rig {
        pin(cores[0]);
        let (plan, destinations): (Plan, Vec<IpAddr>) = if six {
            let routes = table::ipv6(routes, SEED);
            let destinations = table::forwarded6(&routes).into_iter().map(IpAddr::from);
            let routes = routes.iter().map(|(to, hop)| ((to.first().into(), to.len()), *hop));
            (plan(six, routes), destinations.collect())
        } else {
            let routes = table::ipv4(routes, SEED);
            let destinations = table::forwarded4(&routes).into_iter().map(IpAddr::from);
            let routes = routes.iter().map(|(to, hop)| ((to.first().into(), to.len()), *hop));
            (plan(six, routes), destinations.collect())
        };
        cpu::set_count(cores.len() + 1);
        let taps = Arc::new(Taps::new(tap::ticks, 0));
        let snapshot = Snapshot::build(&Plan { taps: taps.clone(), ..plan }).expect("a sound plan");
        let mut workers: Vec<Worker> = cores.iter().map(|_| Worker::new(&snapshot, six)).collect();
        let apart = destinations.len() / workers.len();
        workers.iter_mut().enumerate().for_each(|(n, worker)| worker.next = n * apart);
        let mut rig = Rig { snapshot, taps, destinations, workers, cores, sizes: Vec::new() };
        rig.resize(&[64]);
        rig
    }

    pub(crate) fn answer(&mut self, request: &[&str]) -> Option<Vec<f64>> {
        let ["forward", numbers @ ..] = request else { return None };
        let mode = numbers.get(5).copied();
        let sizes = match numbers.get(4) {
            None => vec![64],
            Some(&"imix") => IMIX.to_vec(),
            Some(size) => vec![size.parse().ok().filter(|size| (64..=1518).contains(size))?],
        };
        let number = |n: usize| numbers.get(n)?.parse::<usize>().ok();
        let (flows, batch, cpus, samples) = (number(0)?, number(1)?, number(2)?, number(3)?);
        let sound = (1..=self.destinations.len()).contains(&flows)
            && (1..=BATCH).contains(&batch)
            && PACKETS.is_multiple_of(batch)
            && (1..=self.workers.len()).contains(&cpus);
        if !sound {
            return None;
        }
        self.resize(&sizes);
        let mut owner = cpu::claim_any().expect("a free CPU");
        let mut tap = match mode {
            None => None,
            Some(mode) => Some(Tap::attach(&mut owner, &self.taps, mode)?),
        };
        self.workers.iter_mut().for_each(|worker| worker.stack.listen(&self.snapshot));
        let times = (0..samples).map(|_| {
            let time = self.sample(flows, batch, cpus);
            if let Some(taken) = tap.as_mut().map(Tap::drain) {
                let expected = if mode.is_some_and(tap::takes_all) { PACKETS * cpus } else { 0 };
                assert_eq!(taken, expected, "captured");
            }
            time
        });
        let times = times.collect();
        if let Some(tap) = tap {
            tap.detach(&mut owner);
        }
        self.workers.iter_mut().for_each(|worker| worker.stack.listen(&self.snapshot));
        Some(times)
    }

    /// Frames of other sizes, in turn.
    fn resize(&mut self, sizes: &[usize]) {
        if self.sizes == sizes {
            return;
        }
        self.sizes = sizes.to_vec();
        for worker in &mut self.workers {
            for (packet, size) in worker.packets.iter_mut().zip(sizes.iter().cycle()) {
                assert!(packet.set_filled(size - FCS), "a buffer holds every frame");
            }
        }
    }

    /// Nanoseconds a packet of `cpus` together.
    fn sample(&mut self, flows: usize, batch: usize, cpus: usize) -> f64 {
        let (snapshot, destinations) = (&self.snapshot, &self.destinations[..flows]);
        let begin = Together::new(cpus);
        let (first, others) = self.workers.split_at_mut(1);
        let mut times = Vec::new();
        std::thread::scope(|scope| {
            let mut running = Vec::new();
            for (worker, &core) in others.iter_mut().zip(&self.cores[1..]).take(cpus - 1) {
                let begin = &begin;
                running.push(scope.spawn(move || {
                    pin(core);
                    worker.sample(snapshot, destinations, batch, begin)
                }));
            }
            times.push(first[0].sample(snapshot, destinations, batch, &begin));
            times.extend(running.into_iter().map(|thread| thread.join().expect("it ended well")));
        });
        let begun = times.iter().map(|(begun, _)| *begun).min();
        let ended = times.iter().map(|(_, ended)| *ended).max();
        let took = begun.zip(ended).map(|(begun, ended)| ended - begun).expect("a CPU");
        took.as_nanos() as f64 / (PACKETS * cpus) as f64
    }
}

impl Worker {
    /// Knows all gateways.
    fn new(snapshot: &Snapshot, six: bool) -> Worker {
        let mut pool = Pool::new(Arena::new(vec![0; (PACKETS + 256) * BUFFER].leak()));
        let packets = (0..PACKETS).map(|_| pool.alloc_from(&[0; 1518]).expect("room for all")).collect();
        let mut worker = Worker {
            cpu: cpu::claim_any().expect("a free CPU"),
            stack: Stack::new(Settings::default()),
            pool,
            catch: Catch { batches: Vec::with_capacity(PACKETS), few: Vec::with_capacity(PACKETS) },
            packets,
            batches: Vec::with_capacity(PACKETS),
            next: 0,
        };
        let Worker { cpu, stack, pool, catch, .. } = &mut worker;
        cpu.softint(|cx| {
            let mut turn = Turn { cx, snapshot, now: Instant::from_secs(1), pool, egress: catch };
            for hop in 0..HOPS {
                let (interface, evidence) = (IfIndex(1), Evidence::Asked);
                let mac = Some([2, 0, 0, 0, 1, hop as u8]);
                let event = match gateway(six, hop) {
                    IpAddr::V4(address) => {
                        Event::Neighbor4(neighbor::Event { interface, address, mac, evidence })
                    }
                    IpAddr::V6(address) => {
                        Event::Neighbor6(neighbor::Event { interface, address, mac, evidence })
                    }
                };
                stack.apply(&mut turn, event);
            }
        });
        worker
    }

    /// When it began and ended.
    fn sample(
        &mut self,
        snapshot: &Snapshot,
        destinations: &[IpAddr],
        batch: usize,
        begin: &Together,
    ) -> (Clock, Clock) {
        for packet in &mut self.packets {
            self.next = if self.next + 1 < destinations.len() { self.next + 1 } else { 0 };
            let (bytes, len) = headers(destinations[self.next], packet.len() + FCS);
            packet.data_mut()[..len].copy_from_slice(&bytes[..len]);
        }
        if batch == BATCH {
            let mut packets = self.packets.drain(..);
            self.batches
                .extend((0..PACKETS / BATCH).map(|_| packets.by_ref().take(BATCH).collect::<Batch>()));
        } else {
            self.packets.reverse();
        }
        begin.wait();
        let start = Clock::now();
        if batch == BATCH {
            self.full_batches(snapshot);
        } else {
            self.small_batches(snapshot, batch);
        }
        let end = Clock::now();
        self.batches.clear();
        self.catch.take(&mut self.packets);
        assert_eq!(self.packets.len(), PACKETS, "every packet was forwarded");
        let ttl = if self.packets[0].data()[12] == 8 { 22 } else { 21 };
        assert!(self.packets.iter().all(|packet| packet.data()[ttl] == 63), "by one hop");
        (start, end)
    }

    /// What is measured. Not inlined: instructions are counted while it runs.
    #[inline(never)]
    fn full_batches(&mut self, snapshot: &Snapshot) {
        let Worker { cpu, stack, pool, catch, batches, .. } = self;
        for batch in batches {
            cpu.softint(|cx| {
                let mut turn = Turn { cx, snapshot, now: Instant::from_secs(1), pool, egress: catch };
                stack.input(&mut turn, IfIndex(0), batch);
            });
        }
    }

    /// As [`full_batches`](Self::full_batches); batches are made meanwhile, as so many would not stay in the cache.
    #[inline(never)]
    fn small_batches(&mut self, snapshot: &Snapshot, size: usize) {
        let Worker { cpu, stack, pool, catch, packets, .. } = self;
        let mut batch = Batch::new();
        while !packets.is_empty() {
            batch.extend(std::iter::from_fn(|| packets.pop()).take(size));
            cpu.softint(|cx| {
                let mut turn = Turn { cx, snapshot, now: Instant::from_secs(1), pool, egress: catch };
                stack.input(&mut turn, IfIndex(0), &mut batch);
            });
        }
    }
}
