//! A router that is none: what the plane is tried with, on TCP of this machine, and by the fuzz targets in a time of their own.

#![allow(dead_code, reason = "every program that includes this uses another part of it")]

pub(crate) mod schema;
mod script;
pub(crate) mod slow;
pub(crate) mod tcp;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use script::Script;
use weir_manage::access::{Access, Token};
use weir_manage::capture::Wish;
use weir_manage::configurations::{Configurations, Effect, Engine, View};
use weir_manage::explain::Question;
use weir_manage::model::*;
use weir_manage::problem::{Refused, refuse};
use weir_manage::router::{Command, Done, Router};
use weir_manage::token::Hash;

/// The token whose hash its configuration has.
pub(crate) const TOKEN: &str = "correct-horse-battery";
/// What is in force at first.
pub(crate) const BOOT: &str = "hostname = \"edge1\"\n[interface.wan]\n[interface.lan]\n";

/// Interfaces are those that the text names; a line with `bad` in it is an error.
#[derive(Default)]
struct Sim {
    text: String,
}

fn interfaces(text: &str) -> BTreeSet<String> {
    let names = text.lines().filter_map(|line| line.strip_prefix("[interface.")?.strip_suffix(']'));
    names.map(str::to_owned).collect()
}

impl Engine for Sim {
    fn check(&mut self, text: &str) -> Result<Effect, Vec<ConfigError>> {
        let bad = text.lines().zip(1..).filter(|(line, _)| line.contains("bad"));
        let errors: Vec<_> = bad
            .map(|(_, line)| ConfigError {
                line,
                column: 1,
                key: "bad".into(),
                message: "unknown key".into(),
                help: None,
            })
            .collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        let (old, new) = (interfaces(&self.text), interfaces(text));
        let change = |change, interface: &String| Change { change, interface: interface.clone() };
        let come = new.difference(&old).map(|name| change(ChangeKind::Attach, name));
        let gone = old.difference(&new).map(|name| change(ChangeKind::Detach, name));
        Ok(Effect { interfaces: come.chain(gone).collect(), ..Effect::default() })
    }

    fn apply(&mut self, text: &str) -> Result<Effect, Vec<ConfigError>> {
        let effect = self.check(text)?;
        self.text = text.into();
        Ok(effect)
    }
}

struct Inner {
    sim: Sim,
    configurations: Configurations,
    access: Access,
    events: Vec<Event>,
}

/// See the module.
pub(crate) struct Simulated {
    /// Since when time passes; `None`: only as told.
    began: Option<Instant>,
    passed_ms: AtomicU64,
    inner: Mutex<Inner>,
}

impl Simulated {
    /// With [`BOOT`] in force, and [`TOKEN`] if there is to be one.
    pub(crate) fn new(tokens: &[&str]) -> Self {
        Self::from(Some(Instant::now())).with(tokens)
    }

    /// The same without tokens, and its time stands still: see [`pass`](Self::pass).
    pub(crate) fn stopped() -> Self {
        Self::from(None)
    }

    /// The same with these tokens.
    pub(crate) fn with(self, tokens: &[&str]) -> Self {
        let hash = |token: &&str| Token { name: "ann".into(), hash: Hash::of(token, [1; 16]).unwrap() };
        self.configure(&tokens.iter().map(hash).collect::<Vec<_>>());
        self
    }

    /// Lets time go by.
    pub(crate) fn pass(&self, ms: u64) {
        self.passed_ms.fetch_add(ms, Ordering::Relaxed);
    }

    fn from(began: Option<Instant>) -> Self {
        let (sim, access) = (Sim { text: BOOT.into() }, Access::new([5; 2]));
        let configurations = Configurations::new(BOOT, "boot module", 0);
        let inner = Mutex::new(Inner { sim, configurations, access, events: Vec::new() });
        Self { began, passed_ms: AtomicU64::new(0), inner }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token on the console's say-so.
    pub(crate) fn grant(&self) -> String {
        let now_ms = self.now_ms();
        self.inner().access.grant(b"not random", now_ms)
    }

    /// It is taken back.
    pub(crate) fn withdraw(&self) {
        self.inner().access.withdraw();
    }

    /// Other tokens.
    pub(crate) fn configure(&self, tokens: &[Token]) {
        self.inner().access.configure(tokens);
    }

    /// What the owner of the configurations does now and then.
    pub(crate) fn tick(&self) {
        let now_ms = self.now_ms();
        let Inner { sim, configurations, events, .. } = &mut *self.inner();
        if configurations.tick(now_ms, sim).is_some() {
            note(events, now_ms, "reverted");
        }
    }
}

fn note(events: &mut Vec<Event>, at_ms: u64, text: &str) {
    let number = events.len() as u64 + 1;
    let (kind, subject) = ("configuration".into(), "ann".into());
    events.push(Event { number, at_ms, kind, subject, text: text.into() });
}

impl Router for Simulated {
    fn now_ms(&self) -> u64 {
        let running = self.began.map_or(0, |began| began.elapsed().as_millis() as u64);
        running + self.passed_ms.load(Ordering::Relaxed)
    }

    async fn sleep_ms(&self, ms: u64) {
        let until = self.now_ms() + ms;
        std::future::poll_fn(|_| if self.now_ms() < until { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    fn status(&self) -> Status {
        Status {
            hostname: "edge1".into(),
            version: "0.1.0".into(),
            uptime_ms: self.now_ms(),
            consoles: vec![ConsolePort { name: "COM1".into(), lost_bytes: 1234 }],
            ..Status::default()
        }
    }

    fn interfaces(&self) -> Vec<Interface> {
        let row = |name| Interface { name, state: InterfaceState::Up, rx_packets: 7, ..Interface::default() };
        interfaces(&self.inner().sim.text).into_iter().map(row).collect()
    }

    fn routes(&self, offset: usize, limit: usize) -> Routes {
        let route = |number: usize| Route { to: format!("10.{number}.0.0/16"), ..Route::default() };
        let routes = (offset..200).take(limit).map(route).collect();
        Routes { total: 200, offset: offset as u64, routes }
    }

    async fn explain(&self, question: Question) -> Result<Explanation, Refused> {
        let (verdict, end) = (PacketEnd::Forwarded, format!("{question:?}"));
        let step = ExplainedStep { step: "route".into(), found: "none".into(), ..ExplainedStep::default() };
        Ok(Explanation { verdict, end, reason: None, steps: vec![step] })
    }

    async fn neighbors(&self) -> Vec<Neighbor> {
        let mac = Some("52:54:00:00:00:fe".into());
        let (interface, address) = ("wan".into(), "192.0.2.254".into());
        vec![Neighbor { interface, address, mac, state: NeighborState::Reachable }]
    }

    fn drops(&self) -> Vec<InterfaceLoss> {
        vec![InterfaceLoss { interface: Some("wan".into()), reason: "ttl-expired".into(), packets: 3 }]
    }

    fn recorded(&self, most: usize) -> Vec<Recorded> {
        let (what, packet) = ("no-route".into(), "10.0.0.9 > 192.0.2.1 protocol 1".into());
        let entry = Recorded { at_us: 7, what, packet, bytes: 60, ..Recorded::default() };
        vec![entry; most.min(3)]
    }

    type Capture = Script;

    fn capture(&self, wish: &Wish) -> Result<Script, Refused> {
        if wish.filter == "port" {
            return Err(refuse(400, "The filter cannot be", "column 5: nothing follows", "name a port").at(5));
        }
        Ok(Script::new(wish.interface.as_deref().unwrap_or("wan"), wish.directions))
    }

    fn cpus(&self) -> Cpus {
        let cpu = Cpu { name: "cpu0".into(), busy_permille: 125, ..Cpu::default() };
        let task = |name: &str, tasks, total_ns| Task {
            name: name.into(),
            cpu: "cpu0".into(),
            tasks,
            total_ns,
            ..Task::default()
        };
        let tasks = vec![task("api", 16, 3_000_000), task("management", 1, 1_500_000)];
        let lock = Lock { name: "Heap".into(), acquired: 3, ..Lock::default() };
        let queue = Queue { interface: "wan".into(), cpu: "cpu0".into(), rx_packets: 5, ..Queue::default() };
        let sockets = Sockets { cpu: "cpu0".into(), connections: 2, accepted: 7, ..Sockets::default() };
        Cpus { cpus: vec![cpu], queues: vec![queue], sockets: vec![sockets], tasks, locks: vec![lock] }
    }

    fn log(&self, from: u64) -> Vec<LogLine> {
        let text = "wan: link \"up\"\\".into();
        (from..3)
            .map(|number| LogLine {
                number,
                cpu: "cpu0".into(),
                text: String::clone(&text),
                ..LogLine::default()
            })
            .collect()
    }

    fn events(&self, from: u64) -> Vec<Event> {
        self.inner().events.iter().filter(|event| event.number >= from).cloned().collect()
    }

    fn configurations(&self) -> View {
        self.inner().configurations.view()
    }

    async fn command(&self, command: Command) -> Result<Done, Refused> {
        let now_ms = self.now_ms();
        let Inner { sim, configurations, events, .. } = &mut *self.inner();
        Ok(match command {
            Command::Put { text, if_match } => {
                Done::Planned(configurations.put(&text, if_match.as_deref(), sim)?)
            }
            Command::Discard => {
                configurations.discard().then_some(Done::Discarded).ok_or_else(no_candidate)?
            }
            Command::Commit { by, confirm_ms, if_match } => {
                let done = configurations.commit(&by, confirm_ms, if_match.as_deref(), now_ms, sim)?;
                note(events, now_ms, "committed");
                Done::Committed(done)
            }
            Command::Confirm => Done::Version(configurations.confirm()?),
            Command::Revert => Done::Version(configurations.revert(now_ms, sim)?),
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

fn no_candidate() -> Refused {
    weir_manage::problem::refuse(404, "There is no candidate", "nothing was put", "PUT /api/v1/config first")
}

/// A port of this machine that nobody else has.
pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Serves `router` at a port of its own, for as long as the program runs.
pub(crate) fn serve(router: Arc<Simulated>) -> SocketAddr {
    let (listener, address) = listen();
    let owner = router.clone();
    std::thread::spawn(move || {
        loop {
            owner.tick();
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    tcp::serve(listener, router);
    address
}
