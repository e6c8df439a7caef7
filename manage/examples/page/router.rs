//! The simulated router: interfaces of its configuration, with traffic that comes and goes.

use std::f64::consts::TAU;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use weir_manage::access::{Access, Token};
use weir_manage::configurations::{Configurations, View};
use weir_manage::explain::Question;
use weir_manage::model::*;
use weir_manage::problem::{Refused, refuse};
use weir_manage::router::{Command, Done, Router};
use weir_manage::token::Hash;

use super::engine::{Sim, sections};
use super::way;

/// The token whose hash its configuration has.
pub(crate) const TOKEN: &str = "correct-horse-battery";

/// It was entered this long before the program began: two hours and a bit.
const BEFORE_MS: u64 = 7_530_000;

/// Mean bits and packets a second, received and sent, of the interfaces in their order; from the fourth on nothing.
const TRAFFIC: [[f64; 4]; 3] =
    [[412e6, 43e3, 91e6, 19e3], [88e6, 18.5e3, 405e6, 42.5e3], [3.1e6, 520.0, 7.4e6, 880.0]];

/// Packets lost a second: interface, reason.
const LOSSES: [(usize, &str, f64); 6] = [
    (0, "multicast-not-joined", 1.4),
    (0, "reverse-path", 6.5),
    (0, "no-route", 0.0),
    (1, "ttl-expired", 0.02),
    (1, "too-big", 0.0),
    (2, "neighbor-unreachable", 0.3),
];

/// The last packets lost: how many milliseconds before the program began, where, why, how long they were, and what is kept of them.
const RECORDED: [(u64, &str, &str, u64, &str); 4] = [
    (
        7_012,
        "lan",
        "ttl-expired",
        52,
        "525400000002020000000001080045000026000000000111650f0a000102c00002071388000700120000746f206265206c6f7374",
    ),
    (
        9_377,
        "wan",
        "reverse-path",
        1514,
        "52540000000102000000000186dd600abcde05b4063320010db800a1000200c300045e6f70812001\
         0db800020000d00d0000feed1234c35101bb12345678000000005010ffff000000000000000000000000000000000000",
    ),
    (
        12_851,
        "guest",
        "no-route",
        46,
        "525400000002020000000007080045000020000000004011b6a60a00021ec63364091388003500\
         0c00006c6f7374",
    ),
    (14_220, "lan", "interface-up", 0, ""),
];

struct Inner {
    sim: Sim,
    configurations: Configurations,
    access: Access,
    events: Vec<Event>,
    log: Vec<LogLine>,
}

/// See the module.
pub(crate) struct Simulated {
    began: Instant,
    inner: Mutex<Inner>,
}

impl Simulated {
    pub(crate) fn new() -> Self {
        let guest = "\n[interface.guest]\nparent = \"lan\"\nvlan = 20\naddresses = [\"10.0.2.1/24\"]\n\
                     \n[interface.dmz]\nmatch = { port = 2 }\naddresses = [\"10.0.3.1/24\"]\n";
        let boot = format!("{}{guest}", include_str!("../../../images/weir.toml"));
        let mut access = Access::new([5; 2]);
        let hash = Hash::of(TOKEN, [1; 16]).expect("a token long enough");
        access.configure(&[Token { name: "ann".into(), hash }]);
        let configurations = Configurations::new(boot.as_str(), "boot module", 49);
        let inner =
            Inner { sim: Sim { text: boot }, configurations, access, events: Vec::new(), log: boot_log() };
        Self { began: Instant::now(), inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the owner of the configurations does now and then.
    pub(crate) fn tick(&self) {
        let now_ms = self.now_ms();
        let Inner { sim, configurations, events, log, .. } = &mut *self.inner();
        if configurations.tick(now_ms, sim).is_some() {
            note(events, log, now_ms, "not confirmed in time: the configuration before is in force again");
        }
    }

    /// Sum since boot of what comes and goes around `mean` a second.
    fn sum(&self, mean: f64, number: usize) -> u64 {
        let seconds = self.now_ms() as f64 / 1000.0;
        let wave = |period: f64, part: f64| part * period / TAU * (1.0 - (seconds * TAU / period).cos());
        let other = number as f64;
        (mean * (seconds + wave(67.0 + 9.0 * other, 0.35) + wave(11.0 + other, 0.12))) as u64
    }

    /// Two pairs of each device; flows are few, so one has more of them.
    fn queues(&self) -> Vec<Queue> {
        let ports = self.interfaces().into_iter().filter(|face| face.queues > 0 && face.vlan.is_none());
        let pairs = ports.flat_map(|face| {
            [5, 3].into_iter().enumerate().map(move |(number, eighths)| Queue {
                interface: face.name.clone(),
                cpu: format!("cpu{number}"),
                rx_packets: face.rx_packets * eighths / 8,
                rx_bytes: face.rx_bytes * eighths / 8,
                tx_packets: face.tx_packets * eighths / 8,
                tx_bytes: face.tx_bytes * eighths / 8,
                interrupts: face.interrupts / 2,
                notifications: face.notifications / 2,
            })
        });
        pairs.collect()
    }
}

fn note(events: &mut Vec<Event>, log: &mut Vec<LogLine>, at_ms: u64, text: &str) {
    let number = events.len() as u64 + 1;
    let (kind, subject) = ("configuration".into(), "ann".into());
    events.push(Event { number, at_ms, kind, subject, text: text.into() });
    write(log, at_ms * 1000, LogLevel::Info, &format!("management: {text}"));
}

fn write(log: &mut Vec<LogLine>, at_us: u64, level: LogLevel, text: &str) {
    let number = log.len() as u64;
    let cpu = format!("cpu{}", number % 2);
    log.push(LogLine { number, at_us, cpu, level, time: None, text: text.into() });
}

fn boot_log() -> Vec<LogLine> {
    use LogLevel::{Debug, Error, Info, Warn};
    let mut log = Vec::new();
    for (at_us, level, text) in [
        (1_204, Info, "weir 0.1.0 on QEMU q35, 2 CPUs, 128 MiB"),
        (8_950, Debug, "ACPI: 14 tables, MADT with 2 CPUs"),
        (20_771, Info, "configuration: boot module"),
        (30_118, Info, "virtio-net at 00:02.0: 52:54:00:00:00:01, MTU 1500, 2 queue pairs"),
        (31_442, Info, "virtio-net at 00:03.0: 52:54:00:00:00:02, MTU 1500, 2 queue pairs"),
        (33_906, Warn, "dmz: there is no device at port 2; it is absent until there is"),
        (49_240, Info, "weir: ready in 49.24 ms, edge1, 2 CPUs, 128 MiB"),
        (613_204_118, Warn, "lan: link down"),
        (613_911_502, Info, "lan: link up"),
        (4_100_532_907, Error, "wan: the neighbour 192.0.2.254 does not answer"),
        (4_131_660_241, Info, "wan: the neighbour 192.0.2.254 answers"),
    ] {
        write(&mut log, at_us, level, text);
    }
    log
}

fn route(to: String, action: RouteAction, origin: RouteOrigin, next_hops: Vec<NextHop>) -> Route {
    Route { to, action, origin, metric: 0, next_hops }
}

fn hop(via: Option<&str>, interface: Option<&str>) -> NextHop {
    NextHop { via: via.map(str::to_owned), interface: interface.map(str::to_owned), weight: 1 }
}

/// Texts in quotes.
fn quoted(value: &str) -> Vec<String> {
    value.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

impl Router for Simulated {
    fn now_ms(&self) -> u64 {
        BEFORE_MS + self.began.elapsed().as_millis() as u64
    }

    async fn sleep_ms(&self, ms: u64) {
        let until = Instant::now() + Duration::from_millis(ms);
        std::future::poll_fn(|_| if Instant::now() < until { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    fn status(&self) -> Status {
        Status {
            hostname: "edge1".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            platform: "QEMU q35".into(),
            uptime_ms: self.now_ms(),
            cpus: 2,
            memory_bytes: 128 << 20,
            memory_free_bytes: 88 << 20,
            buffers: 16_319,
            buffers_free: 15_100 + self.now_ms() / 700 % 90,
            configuration: Some("boot module".into()),
            ..Status::default()
        }
    }

    fn interfaces(&self) -> Vec<Interface> {
        let text = self.inner().sim.text.clone();
        let all = sections(&text).into_iter();
        let named =
            all.filter_map(|(head, settings)| Some((head.strip_prefix("interface.")?.to_owned(), settings)));
        named
            .enumerate()
            .map(|(number, (name, settings))| {
                let value = |key| settings.iter().find(|(known, _)| *known == key).map(|(_, value)| *value);
                let traffic = TRAFFIC.get(number).copied().unwrap_or_default();
                let there = number < TRAFFIC.len();
                let port = number.min(1);
                let losses = LOSSES.iter().filter(|(of, ..)| *of == number);
                let drops: Vec<Loss> = losses
                    .map(|&(_, reason, rate)| Loss { reason: reason.into(), packets: 12 + self.sum(rate, 1) })
                    .collect();
                Interface {
                    state: if there { InterfaceState::Up } else { InterfaceState::Absent },
                    addresses: value("addresses").map(quoted).unwrap_or_default(),
                    mac: there.then(|| format!("52:54:00:00:00:0{}", port + 1)),
                    mtu: there.then(|| value("mtu").and_then(|mtu| mtu.parse().ok()).unwrap_or(1500)),
                    device: there.then(|| format!("virtio-net at 00:0{}.0", port + 2)),
                    parent: value("parent").and_then(|parent| quoted(parent).pop()),
                    vlan: value("vlan").and_then(|vlan| vlan.parse().ok()),
                    queues: if there { 2 } else { 0 },
                    rx_bytes: self.sum(traffic[0] / 8.0, number),
                    rx_packets: self.sum(traffic[1], number),
                    tx_bytes: self.sum(traffic[2] / 8.0, number + 1),
                    tx_packets: self.sum(traffic[3], number + 1),
                    dropped: drops.iter().map(|loss| loss.packets).sum(),
                    consumed: self.sum(traffic[1] / 1e4, number),
                    interrupts: self.sum(traffic[1] / 40.0, number),
                    notifications: self.sum(traffic[1] / 60.0, number),
                    drops,
                    name,
                    ..Interface::default()
                }
            })
            .collect()
    }

    fn routes(&self, offset: usize, limit: usize) -> Routes {
        let mut all = Vec::new();
        let text = self.inner().sim.text.clone();
        for (head, settings) in sections(&text) {
            let value = |key| {
                settings.iter().find(|(known, _)| *known == key).map(|(_, value)| value.trim_matches('"'))
            };
            if let (Some(name), Some(addresses)) = (head.strip_prefix("interface."), value("addresses")) {
                for address in quoted(addresses) {
                    all.push(route(
                        address,
                        RouteAction::Forward,
                        RouteOrigin::Connected,
                        vec![hop(None, Some(name))],
                    ));
                }
            } else if let Some(to) = value("to") {
                let action = match value("reject") {
                    None => RouteAction::Forward,
                    Some("blackhole") => RouteAction::Blackhole,
                    Some(_) => RouteAction::Unreachable,
                };
                let hops = value("via").map(|via| hop(Some(via), value("interface").or(Some("wan"))));
                all.push(route(to.to_owned(), action, RouteOrigin::Static, hops.into_iter().collect()));
            }
        }
        // As if one route of the text had many destinations.
        all.extend((0..240).map(|number| {
            let via = format!("10.0.1.{}", 2 + number % 9);
            let mut hops = vec![hop(Some(&via), Some("lan"))];
            if number % 7 == 0 {
                hops.push(NextHop { weight: 3, ..hop(Some("10.0.1.99"), Some("lan")) });
            }
            route(format!("198.18.{number}.0/24"), RouteAction::Forward, RouteOrigin::Static, hops)
        }));
        let total = all.len() as u64;
        Routes { total, offset: offset as u64, routes: all.into_iter().skip(offset).take(limit).collect() }
    }

    async fn explain(&self, question: Question) -> Result<Explanation, Refused> {
        way::explain(&question, question.text.as_ref().unwrap_or(&self.inner().sim.text))
    }

    async fn neighbors(&self) -> Vec<Neighbor> {
        let row = |interface: &str, address: &str, mac: Option<&str>, state| Neighbor {
            interface: interface.into(),
            address: address.into(),
            mac: mac.map(str::to_owned),
            state,
        };
        vec![
            row("wan", "192.0.2.254", Some("52:54:00:aa:00:01"), NeighborState::Reachable),
            row("wan", "fe80::1", Some("52:54:00:aa:00:01"), NeighborState::Stale),
            row("lan", "10.0.1.2", Some("52:54:00:bb:00:02"), NeighborState::Reachable),
            row("lan", "10.0.1.77", None, NeighborState::Incomplete),
            row("guest", "10.0.2.30", Some("52:54:00:cc:00:30"), NeighborState::Delay),
        ]
    }

    fn drops(&self) -> Vec<InterfaceLoss> {
        let faces = self.interfaces().into_iter();
        faces
            .flat_map(|face| {
                let of = face.name;
                face.drops.into_iter().map(move |Loss { reason, packets }| InterfaceLoss {
                    interface: Some(of.clone()),
                    reason,
                    packets,
                })
            })
            .collect()
    }

    fn recorded(&self, most: usize) -> Vec<Recorded> {
        let entry = |&(ago, interface, what, bytes, head): &(u64, &str, &str, u64, &str)| Recorded {
            at_us: 1000 * (BEFORE_MS - ago),
            cpu: "cpu1".into(),
            interface: Some(interface.into()),
            what: what.into(),
            bytes,
            head: head.into(),
            ..Recorded::default()
        };
        RECORDED.iter().take(most).map(entry).collect()
    }

    type Capture = std::convert::Infallible;

    fn capture(&self, _: &weir_manage::capture::Wish) -> Result<Self::Capture, Refused> {
        Err(refuse(503, "Nothing is captured", "this router is simulated", "ask a real one"))
    }

    fn cpus(&self) -> Cpus {
        let cpu = |number: usize, load: f64| {
            let busy_us = self.sum(load * 1e6, number);
            Cpu {
                name: format!("cpu{number}"),
                received: self.sum(TRAFFIC[number][1], number),
                sent: self.sum(TRAFFIC[number][1] - 20.0, number),
                turns: self.sum(TRAFFIC[number][1] / 18.0, number),
                busy_permille: busy_us / self.now_ms(),
                busy_ticks: busy_us * 2600,
                busy_us,
                buffers_idle: 512,
                ..Cpu::default()
            }
        };
        let task =
            Task { name: "management".into(), cpu: "cpu0".into(), tasks: 1, polls: 812, ..Task::default() };
        let sockets = |number: usize| Sockets {
            cpu: format!("cpu{number}"),
            connections: 2 - number as u64,
            accepted: self.sum(0.4, number),
            no_room: 7 * number as u64,
            ..Sockets::default()
        };
        Cpus {
            cpus: vec![cpu(0, 0.38), cpu(1, 0.17)],
            queues: self.queues(),
            sockets: vec![sockets(0), sockets(1)],
            tasks: vec![task],
            ..Cpus::default()
        }
    }

    fn log(&self, from: u64) -> Vec<LogLine> {
        self.inner().log.iter().filter(|line| line.number >= from).cloned().collect()
    }

    fn events(&self, from: u64) -> Vec<Event> {
        self.inner().events.iter().filter(|event| event.number >= from).cloned().collect()
    }

    fn configurations(&self) -> View {
        self.inner().configurations.view()
    }

    async fn command(&self, command: Command) -> Result<Done, Refused> {
        let now_ms = self.now_ms();
        let Inner { sim, configurations, events, log, .. } = &mut *self.inner();
        Ok(match command {
            Command::Put { text, if_match } => {
                Done::Planned(configurations.put(&text, if_match.as_deref(), sim)?)
            }
            Command::Discard if configurations.discard() => Done::Discarded,
            Command::Discard => {
                return Err(refuse(404, "There is no candidate", "nothing was put", "put one"));
            }
            Command::Commit { by, confirm_ms, if_match } => {
                let done = configurations.commit(&by, confirm_ms, if_match.as_deref(), now_ms, sim)?;
                note(events, log, now_ms, &format!("version {} is in force", done.version));
                Done::Committed(done)
            }
            Command::Confirm => {
                let version = configurations.confirm()?;
                note(events, log, now_ms, &format!("version {version} is confirmed"));
                Done::Version(version)
            }
            Command::Revert => {
                let version = configurations.revert(now_ms, sim)?;
                note(events, log, now_ms, "taken back: the configuration before is in force again");
                Done::Version(version)
            }
            Command::Rollback { version } => Done::Planned(configurations.rollback(version, sim)?),
        })
    }

    fn longest_text(&self) -> usize {
        100_000
    }

    fn access<T>(&self, work: impl FnOnce(&mut Access) -> T) -> T {
        work(&mut self.inner().access)
    }
}
