//! Several CPUs as threads, forwarding between devices in memory, while a third party changes what they are told.

use super::*;
use crate::attach::Bay;
use crate::config::Config;
use crate::interfaces::{Change, Interfaces};
use crate::memory_port::{Arrivals, Wire, attach, echo, ipv4};
use crate::mesh::mesh;
use crate::shared::Place;
use std::boxed::Box;
use std::format;
use std::string::String;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use weir_machine::dispatch::{Softints, raise, round};
use weir_netif::{Arena, BUFFER, Totals};
use weir_netstack::stack::{Duty, Settings};
use weir_sync::cpu::{claim, claim_any};
use weir_sync::{Control, Cpu};

/// CPUs are numbered from 0, so only one of these tests can run at a time.
static CPUS: Mutex<()> = Mutex::new(());

struct Rig {
    shared: &'static Shared,
    interfaces: Interfaces,
    control: Cpu,
    wires: Vec<Arc<Wire>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<(u64, usize)>>,
    /// Statistics of all VLANs there ever were.
    vlans: Vec<Arc<weir_netif::IfCounters>>,
    _alone: MutexGuard<'static, ()>,
}

/// One CPU: the real forwarder, with a clock of its own.
struct Runner(Forwarder);

impl Softints for Runner {
    fn softint(&mut self, cx: &Softint, bit: u8) -> More {
        self.0.softint(cx, bit, now())
    }
}

fn now() -> Instant {
    Instant::from_nanos(weir_machine::clock::now())
}

fn wait_for<T>(mut what: impl FnMut() -> Option<T>) -> T {
    loop {
        match what() {
            Some(value) => return value,
            None => std::thread::yield_now(),
        }
    }
}

impl Rig {
    fn new(cpus: usize, wires: Vec<Arc<Wire>>) -> Rig {
        let alone = CPUS.lock().unwrap_or_else(PoisonError::into_inner);
        let arena = Arena::new(std::vec![0; 16384 * BUFFER].leak());
        let shared: &'static Shared = Box::leak(Box::new(Shared::new(arena, cpus)));
        let stop = Arc::new(AtomicBool::new(false));
        let claimed: Vec<Cpu> =
            (0..cpus).map(|number| wait_for(|| claim(CpuId::new(number).unwrap()))).collect();
        let mut control = wait_for(claim_any);
        let threads = claimed.into_iter().zip(mesh(cpus));
        let threads = threads.map(|(mut cpu, exchange)| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let id = cpu.id();
                let duty = if id == CpuId::BOOT { Duty::Speaker } else { Duty::Worker };
                let interfaces = crate::vlans::MAX_INDICES;
                let stack = Stack::new(Settings { interfaces, neighbors: 64, duty, ..Settings::default() });
                let mut runner = Runner(Forwarder::new(shared, stack, exchange));
                while !stop.load(Ordering::Relaxed) {
                    if runner.0.deadline(now()) <= now() {
                        raise(id, TIMER);
                    }
                    if round(&mut cpu, &mut runner) == More::No {
                        std::thread::yield_now();
                    }
                }
                (runner.0.stack.originated(), runner.0.stack.queued())
            })
        });
        let threads = threads.collect();
        let bays = wires.iter().map(|wire| {
            let wire = wire.clone();
            control.control(|cx| Bay::new(cx, Box::new(move |_| Ok(attach(&wire)))).unwrap())
        });
        let bays = bays.collect();
        let interfaces = Interfaces::new(shared, cpus, bays);
        Rig { shared, interfaces, control, wires, stop, threads, vlans: Vec::new(), _alone: alone }
    }

    /// Waits as long as all CPUs live.
    fn wait_for(&self, mut what: impl FnMut() -> bool) {
        wait_for(|| {
            assert!(!self.threads.iter().any(JoinHandle::is_finished), "a CPU has panicked");
            what().then_some(())
        });
    }

    fn replace(&mut self, config: &Config) -> Change {
        let Rig { interfaces, control, .. } = self;
        // A device that is on its way out is waited for.
        wait_for(|| {
            control.control(|cx| {
                interfaces.run(cx, crate::interfaces::Look::None);
                interfaces.is_settled().then_some(())
            })
        });
        let change = control.control(|cx| interfaces.replace(cx, config.clone())).unwrap();
        let devices: Vec<_> = interfaces.bays().map(|(_, bay)| bay.counters()).collect();
        for own in interfaces.counters() {
            if !devices.iter().chain(&self.vlans).any(|known| Arc::ptr_eq(known, own)) {
                self.vlans.push(own.clone());
            }
        }
        change
    }

    /// Waits until nothing is under way, ends all CPUs, and checks that every packet has come to one end and every
    /// object that was retired is freed. Returns the interfaces' counts together.
    fn finish(mut self, wires: &[usize]) -> Totals {
        let moved =
            |rig: &Rig| rig.totals().iter().map(|totals| totals.rx_packets + totals.tx_packets).sum::<u64>();
        let mut before = 0;
        wait_for(|| {
            std::thread::sleep(Duration::from_millis(50));
            let now = moved(&self);
            (core::mem::replace(&mut before, now) == now).then_some(())
        });
        wait_for(|| {
            self.control.control(|cx| self.interfaces.run(cx, crate::interfaces::Look::None));
            self.interfaces.is_settled().then_some(())
        });
        self.stop.store(true, Ordering::Relaxed);
        let ends: Vec<(u64, usize)> = self.threads.drain(..).map(|thread| thread.join().unwrap()).collect();
        let originated: u64 = ends.iter().map(|end| end.0).sum();
        let queued: usize = ends.iter().map(|end| end.1).sum();
        let all = self.totals();
        let sum = |field: fn(&Totals) -> u64| all.iter().map(field).sum::<u64>();
        let dropped: u64 =
            all.iter().flat_map(|totals| totals.drops().map(|(_, count)| count).collect::<Vec<_>>()).sum();
        assert_eq!(
            sum(|totals| totals.rx_packets) + originated,
            sum(|totals| totals.tx_packets) + dropped + queued as u64,
            "every packet comes to one end"
        );
        let sent: u64 = self.wires.iter().map(|wire| wire.sent.load(Ordering::SeqCst)).sum();
        assert_eq!(sent, sum(|totals| totals.tx_packets), "what was counted as sent was sent");
        assert_eq!(self.shared.arena.idle(), self.shared.arena.slots(), "no buffer leaks");
        for (number, wire) in self.wires.iter().enumerate() {
            let expected = usize::from(wires.contains(&number));
            assert_eq!(wire.devices.load(Ordering::SeqCst), expected, "devices at port {number}");
        }
        // The rig's own and that of the configuration in force: older ones are gone.
        assert_eq!(self.interfaces.unconfigured_holders(), 2, "configurations that are still there");
        let mut together = Totals::default();
        all.iter().for_each(|totals| together.merge(totals));
        together
    }

    fn totals(&self) -> Vec<Totals> {
        let interfaces = self.interfaces.bays().map(|(_, bay)| bay.counters());
        let interfaces: Vec<_> = interfaces.chain(self.vlans.clone()).map(|own| own.totals()).collect();
        interfaces.into_iter().chain([self.interfaces.unconfigured().totals()]).collect()
    }
}

fn config(steering: &str, interfaces: &[(usize, &str)], routes: &[(&str, &str)]) -> Config {
    let mut text = format!("steering = \"{steering}\"\n");
    for (port, addresses) in interfaces {
        text += &format!("[interface.port{port}]\nmatch = {{ port = {port} }}\naddresses = [{addresses}]\n");
    }
    for (to, via) in routes {
        text += &format!("[[route]]\nto = \"{to}\"\nvia = \"{via}\"\n");
    }
    Config::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
}

mod captures;
mod faults;
mod fragments;
mod learning;
mod vlans;

const A: &str = "\"10.0.0.1/24\"";
const B: &str = "\"10.0.1.1/24\"";

/// A wire by which frames only leave.
fn sink(port: usize, queues: usize, check: impl Fn(usize, &[u8]) + Send + Sync + 'static) -> Arc<Wire> {
    source_wire(port, queues, |_| None, check)
}

fn source_wire(
    port: usize,
    queues: usize,
    make: impl Fn(usize) -> Option<Vec<u8>> + Send + Sync + 'static,
    check: impl Fn(usize, &[u8]) + Send + Sync + 'static,
) -> Arc<Wire> {
    Arc::new(Wire {
        port,
        queues,
        devices: Default::default(),
        make: Box::new(make),
        answers: Mutex::default(),
        check: Box::new(check),
        sent: AtomicU64::new(0),
    })
}

fn is_udp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&17)
}

/// Numbered packets of `flows` flows, in turn; never more than `window` more than have arrived.
struct Source {
    flows: u64,
    count: u64,
    window: u64,
    made: AtomicU64,
    arrivals: Arc<Arrivals>,
    arrived: Arc<AtomicU64>,
}

impl Source {
    fn make(&self) -> Option<Vec<u8>> {
        let made = self.made.load(Ordering::Relaxed);
        let arrived = self.arrived.load(Ordering::Relaxed);
        // One after the other at first: each CPU has to learn of the neighbour, and no more than three wait for that.
        let window = if arrived < self.flows { 1 } else { self.window };
        if made == self.count || made - arrived >= window {
            return None;
        }
        self.made.store(made + 1, Ordering::Relaxed);
        let port = 20_000_u16.wrapping_add(977 * (made % self.flows) as u16);
        Some(ipv4(0, [10, 0, 0, 9], [10, 0, 1, 9], (port, 9), made / self.flows))
    }
}

fn ordered(cpus: usize, queues: (usize, usize), steering: &str, count: u64) {
    let arrivals = Arc::new(Arrivals::default());
    let arrived = Arc::new(AtomicU64::new(0));
    let source = Arc::new(Source {
        flows: 64,
        count,
        window: 256,
        made: AtomicU64::new(0),
        arrivals: arrivals.clone(),
        arrived: arrived.clone(),
    });
    let (maker, notes) = (source.clone(), arrived.clone());
    let a = source_wire(0, queues.0, move |queue| if queue == 0 { maker.make() } else { None }, |_, _| ());
    let b = sink(1, queues.1, move |_, frame| {
        if is_udp(frame) {
            arrivals.take(frame);
            notes.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut rig = Rig::new(cpus, std::vec![a, b]);
    rig.replace(&config(steering, &[(0, A), (1, B)], &[]));
    rig.wait_for(|| {
        raise(CpuId::BOOT, crate::memory_port::source(0));
        arrived.load(Ordering::Relaxed) == count
    });
    let handed_over: u64 = rig.shared.counters.iter().map(|counters| counters.handed_over.get()).sum();
    assert_eq!(handed_over > 0, steering == "flows" && queues.0 < cpus, "handed over: {handed_over}");
    let totals = rig.finish(&[0, 1]);
    let lost: Vec<_> = totals.drops().filter(|(reason, _)| *reason != Drop::Consumed).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(source.arrivals.count(), count);
}

#[test]
fn four_cpus_keep_the_order_of_a_million_packets() {
    let count = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
    ordered(4, (1, 1), "flows", count);
}

#[test]
fn each_cpu_sends_by_its_own_queue_where_there_is_one() {
    ordered(3, (1, 3), "flows", 30_000);
    ordered(3, (2, 2), "off", 30_000);
}

/// How often the storms change the configuration: set `STORM=100000` for the long form.
fn changes() -> u64 {
    std::env::var("STORM").ok().and_then(|text| text.parse().ok()).unwrap_or(1000)
}

/// Marsaglia's xorshift64.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Numbered flows through a router whose configuration changes all the time, with other packets in between.
struct Storm {
    source: Arc<Source>,
    running: Arc<AtomicBool>,
}

impl Storm {
    fn new() -> Storm {
        let source = Source {
            flows: 64,
            count: u64::MAX,
            window: 64,
            made: AtomicU64::new(0),
            arrivals: Arc::default(),
            arrived: Arc::default(),
        };
        Storm { source: Arc::new(source), running: Arc::new(AtomicBool::new(true)) }
    }

    /// Makes the next frame for a wire: what `other` makes of its number, where that is anything, else the flows' next,
    /// dressed.
    fn maker<O: Fn(u64) -> Option<Vec<u8>>, D: Fn(Vec<u8>) -> Vec<u8>>(
        &self,
        other: O,
        dress: D,
    ) -> impl Fn(usize) -> Option<Vec<u8>> + use<O, D> {
        let (source, running, made) = (self.source.clone(), self.running.clone(), AtomicU64::new(0));
        move |_| {
            if !running.load(Ordering::Relaxed) {
                return None;
            }
            other(made.fetch_add(1, Ordering::Relaxed)).or_else(|| source.make().map(&dress))
        }
    }

    /// Takes note of a frame if it is one of the flows'; whether it is.
    fn taker(&self) -> impl Fn(&[u8]) -> bool + use<> {
        let (arrivals, arrived) = (self.source.arrivals.clone(), self.source.arrived.clone());
        move |frame| {
            let own = is_udp(frame) && frame.get(30..34) == Some(&[10, 0, 1, 9]);
            if own {
                arrivals.take(frame);
                arrived.fetch_add(1, Ordering::Relaxed);
            }
            own
        }
    }

    /// Changes the configuration often, and ends with the first of `configs`: all of the flows has arrived.
    fn blow(&self, rig: &mut Rig, configs: &[Config], changes: u64) {
        let arrived = || self.source.arrived.load(Ordering::Relaxed);
        let knock = || raise(CpuId::BOOT, crate::memory_port::source(0));
        rig.replace(&configs[0]);
        rig.wait_for(|| {
            knock();
            arrived() > self.source.flows
        });
        let mut state = 0x5eed_u64;
        for _ in 0..changes {
            rig.replace(&configs[random(&mut state) as usize % configs.len()]);
            knock();
        }
        rig.replace(&configs[0]);
        self.running.store(false, Ordering::Relaxed);
        rig.wait_for(|| {
            knock();
            arrived() == self.source.made.load(Ordering::Relaxed)
        });
        assert!(self.source.arrivals.count() >= 64);
    }
}

/// Asserts that packets were lost for nothing but changes that concerned them, or one of these reasons.
fn assert_lost_by_changes(totals: &Totals, more: &[Drop]) {
    let implied = [
        Drop::Consumed,
        Drop::NoRoute,
        Drop::InterfaceDown,
        Drop::InterfaceUnconfigured,
        Drop::NeighborQueueFull,
        Drop::NeighborTableFull,
        Drop::NeighborUnreachable,
        Drop::HandoffFull,
        Drop::IcmpRateLimited,
    ];
    let strange = |reason: &Drop| !implied.contains(reason) && !more.contains(reason);
    let strange: Vec<_> = totals.drops().filter(|(reason, _)| strange(reason)).collect();
    assert!(strange.is_empty(), "{strange:?}");
}

#[test]
fn a_storm_of_changes_loses_no_packet_that_they_do_not_concern() {
    let storm = Storm::new();
    // Some packets are for what comes and goes: an interface's network, or a route.
    let other = |number: u64| match number % 16 {
        3 => Some(ipv4(0, [10, 0, 0, 9], [10, 0, 2, 9], (number as u16, 7), number)),
        11 => Some(ipv4(0, [10, 0, 0, 9], [10, 9, 9, 9], (number as u16, 7), number)),
        _ => None,
    };
    let a = source_wire(0, 1, storm.maker(other, |frame| frame), |_, _| ());
    let take = storm.taker();
    let b = sink(1, 2, move |_, frame| {
        take(frame);
    });
    let c = sink(2, 2, |_, _| ());
    let mut rig = Rig::new(2, std::vec![a, b, c]);
    let mut configs = Vec::new();
    for routes in
        [&[][..], &[("10.9.0.0/16", "10.0.1.9")], &[("10.9.0.0/16", "10.0.0.8"), ("0.0.0.0/0", "10.0.1.9")]]
    {
        configs.push(config("flows", &[(0, A), (1, B)], routes));
        configs.push(config("flows", &[(2, "\"10.0.2.1/24\""), (1, B), (0, A)], routes));
        configs.push(config("flows", &[(1, "\"10.0.1.1/24\", \"10.7.0.1/16\""), (0, A)], routes));
    }
    storm.blow(&mut rig, &configs, changes());
    assert_lost_by_changes(&rig.finish(&[0, 1]), &[]);
}

/// Management may be a configuration ahead of a CPU: it sends queue pairs, then publishes what names them.
#[test]
fn a_queue_pair_waits_for_the_configuration_that_brings_it() {
    let _alone = CPUS.lock().unwrap_or_else(PoisonError::into_inner);
    let arena = Arena::new(std::vec![0; 64 * BUFFER].leak());
    let shared: &'static Shared = Box::leak(Box::new(Shared::new(arena, 1)));
    let mut cpu = wait_for(|| claim(CpuId::BOOT));
    let mut control = wait_for(claim_any);
    let exchange = mesh(1).pop().unwrap();
    let mut runner = Runner(Forwarder::new(shared, Stack::new(Settings::default()), exchange));
    let wire = sink(0, 1, |_, _| ());
    let mut device = attach(&wire);
    let pair = control.control(|cx| device.queues(cx)).pop().unwrap();
    let place = Place { port: IfIndex(0), attachment: 1, queues: 1 };
    let mut publish = |generation, places: &[Option<Place>], sent| {
        let running = Running {
            generation,
            snapshot: weir_netstack::Snapshot::empty(),
            places: places.into(),
            sent: [sent].into(),
            cpus: 1,
            steering: crate::shared::Steering::Off,
        };
        control.control(|cx| drop(shared.running.publish(cx, Box::new(running))));
        raise(CpuId::BOOT, MESSAGE);
        while round(&mut cpu, &mut runner) == More::Yes {}
        (shared.inbox.of(CpuId::BOOT).len(), runner.0.ports.len(), shared.returned.len())
    };
    let port = Port::new(IfIndex(0), 1, pair.source, pair.queue, arena.slots());
    assert!(shared.inbox.of(CpuId::BOOT).push(port).is_ok());
    assert_eq!(publish(1, &[], 0), (1, 0, 0), "(inbox, ports, returned) under a configuration that is older");
    assert_eq!(publish(2, &[Some(place)], 1), (0, 1, 0));
    assert_eq!(publish(3, &[], 1), (0, 0, 1));
}

/// NetBSD's list of what MP-safety of its network stack lacks names it: an address becomes visible piece by piece, and
/// packets to it can loop.
#[test]
fn no_packet_sees_half_an_address() {
    const OWN: [u8; 4] = [10, 0, 7, 1];
    let running = Arc::new(AtomicBool::new(true));
    let asked = Arc::new(AtomicU64::new(0));
    let answered = Arc::new(AtomicU64::new(0));
    let check = |answered: Arc<AtomicU64>| {
        move |_: usize, frame: &[u8]| match frame.get(12..14) {
            Some([8, 0]) => {
                assert_ne!(frame[30..34], OWN, "a packet to the address was forwarded");
                if frame[26..30] == OWN {
                    assert_eq!((frame[23], frame[34]), (1, 0), "an echo reply");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
            // An announcement names it twice.
            Some([8, 6]) => {
                assert!(frame[38..42] != OWN || frame[28..32] == OWN, "the address was asked for")
            }
            _ => {}
        }
    };
    let (counted, goes_on) = (asked.clone(), running.clone());
    let make = move |_: usize| {
        let number = counted.load(Ordering::Relaxed);
        let more = goes_on.load(Ordering::Relaxed);
        more.then(|| {
            counted.fetch_add(1, Ordering::Relaxed);
            echo(0, [10, 0, 0, 9], OWN, number)
        })
    };
    let a = source_wire(0, 2, make, check(answered.clone()));
    let b = sink(1, 2, check(answered.clone()));
    let mut rig = Rig::new(2, std::vec![a, b]);
    let configs = [
        config("off", &[(0, A), (1, B)], &[]),
        config("off", &[(0, A), (1, "\"10.0.1.1/24\", \"10.0.7.1/24\"")], &[]),
    ];
    for round in 0..changes() {
        rig.replace(&configs[round as usize % 2]);
        (0..2).filter_map(CpuId::new).for_each(|cpu| raise(cpu, crate::memory_port::source(0)));
    }
    running.store(false, Ordering::Relaxed);
    let totals = rig.finish(&[0, 1]);
    assert!(asked.load(Ordering::Relaxed) > 0);
    // Of the rest some wait for the sender's neighbour entry, and errors about missing routes are rate-limited.
    let allowed = [
        Drop::Consumed,
        Drop::NoRoute,
        Drop::NeighborQueueFull,
        Drop::NeighborTableFull,
        Drop::IcmpRateLimited,
    ];
    let strange: Vec<_> = totals.drops().filter(|(reason, _)| !allowed.contains(reason)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert!(answered.load(Ordering::Relaxed) > 0 && totals.dropped(Drop::NoRoute) > 0, "both were seen");
}

#[test]
fn what_is_wrong_changes_nothing() {
    let a = sink(0, 1, |_, _| ());
    let mut rig = Rig::new(1, std::vec![a]);
    rig.replace(&config("off", &[(0, A)], &[]));
    let before = rig.interfaces.config().clone();
    let absent = config("off", &[(0, A), (7, B)], &[]);
    let wrong: String = rig.control.control(|cx| rig.interfaces.replace(cx, absent)).unwrap_err();
    assert!(wrong.contains("no device has port 7"), "{wrong}");
    assert_eq!(rig.interfaces.config(), &before);
    rig.finish(&[0]);
}
