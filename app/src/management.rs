//! The management task of the boot CPU: devices' health, carrier changes, the console. Packet work preempts it.

mod operator;

use crate::capture::Session;
use crate::config::Config;
use crate::guest::{self, Guest, News};
use crate::interfaces::{Interfaces, Look};
use crate::manage::{EVENTS, Live, Plane, View};
use crate::modules::Modules;
use crate::observe::Ready;
use crate::shared::Shared;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::{self, Vec};
use core::time::Duration;
use operator::Operator;
use weir_machine::xen::control::Request;
use weir_machine::{clock, console, error, frames, info, log, power, print, println, task, trace, warn};
use weir_manage::capture::Wish as Capture;
use weir_manage::configurations::{Configurations, Reverted};
use weir_manage::console::{Console, Listing, table};
use weir_manage::explain::Question;
use weir_manage::fingerprint::fingerprint;
use weir_manage::model::{Committed, Event};
use weir_manage::problem::Refused;
use weir_manage::router::{Command as Wish, Done, Router as _};
use weir_netstack::Instant;
use weir_sync::Control;
use weir_sync::trace::Record;

/// Who commits on the console.
const CONSOLE: &str = "console";
/// How often devices and console are looked at that announce nothing. A look reads registers: an exit from the VM each.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the console's capture is looked at.
const LOOK_AT_CAPTURE_MS: u64 = 50;
/// How often the table is printed while packets flow.
const TABLE_EVERY: Duration = Duration::from_secs(10);

/// How long CPUs have to let go of their queues when the machine is to end.
const ENDING: Duration = Duration::from_secs(2);
/// Events printed before other tasks have their turn.
const EVENTS_AT_ONCE: usize = 8;

/// Bytes printed before other tasks have their turn.
const BYTES_AT_ONCE: usize = 2048;

/// What runs below the packet work. `[C]` boot CPU
pub struct Management {
    shared: &'static Shared,
    interfaces: Interfaces,
    modules: Modules,
    /// What tasks of all CPUs see of us, and how they reach us.
    plane: &'static Plane,
    configurations: Configurations,
    /// What happened; the oldest first.
    events: Vec<Arc<Event>>,
    /// The interfaces' state that was published.
    published: u64,
    /// Something else is to be published.
    changed: bool,
    /// Where the configuration in force is from; `None`: none is.
    place: Option<String>,
    /// On Xen: the rest of the world.
    guest: Option<Guest>,
    /// The machine is to end like this, by then.
    end: Option<(Request, Instant)>,
    console: Console,
    /// The console wants to know the neighbours.
    asks_neighbors: bool,
    /// The console wants to know what becomes of a packet.
    asks_explanation: Option<Question>,
    /// The console wants a capture.
    asks_capture: Option<Capture>,
    /// What it captures.
    capture: Option<Listing<Session>>,
    look_at: Instant,
    table_at: Instant,
    /// Packets received at the last automatic table.
    seen: u64,
    /// Trace events still to be printed.
    records: vec::IntoIter<Record>,
}

impl Management {
    /// Takes over the interfaces of a router that forwards.
    pub fn new(
        shared: &'static Shared,
        interfaces: Interfaces,
        modules: Modules,
        platform: String,
        place: Option<String>,
        guest: Option<Guest>,
        now: Instant,
    ) -> Self {
        let text = interfaces.config().text.0.clone();
        let by = place.as_deref().unwrap_or("nowhere");
        let configurations = Configurations::new(text, by, now.as_nanos() / 1_000_000);
        let view = View {
            config: interfaces.shared_config(),
            learnt: interfaces.shared_learnt(),
            equipment: interfaces.equipment(),
            interfaces: interfaces.status(),
            unconfigured: interfaces.unconfigured().clone(),
            place: place.clone(),
            holdings: guest.as_ref().map(Guest::holdings),
            configurations: configurations.view(),
            events: Vec::new(),
        };
        let published = interfaces.generation();
        let plane = Box::leak(Box::new(Plane::new(shared, platform, interfaces.cpus(), view)));
        plane.open();
        Self {
            shared,
            interfaces,
            modules,
            plane,
            configurations,
            events: Vec::new(),
            published,
            changed: false,
            place,
            guest,
            end: None,
            console: Console::default(),
            asks_neighbors: false,
            asks_explanation: None,
            asks_capture: None,
            capture: None,
            look_at: now + LOOK_EVERY,
            table_at: now + TABLE_EVERY,
            seen: 0,
            records: Vec::new().into_iter(),
        }
    }

    /// The task: does all that is due whenever there is news, or nothing happened for long enough. First it says that the
    /// router is `ready`, if it is, and has so much memory: it forwards already, and by then it can be managed on every CPU.
    pub async fn run(mut self, ready: Option<u64>) {
        while self.shared.listening() < self.interfaces.cpus() {
            self.shared.news.wait().await;
        }
        if let Some(memory) = ready {
            print!("{}", self.ready_line(memory));
        }
        loop {
            task::control(|cx| self.turn(cx, Instant::from_nanos(clock::now())));
            if core::mem::take(&mut self.asks_neighbors) {
                let neighbors = self.plane.neighbors().await;
                self.console.heard_neighbors(neighbors);
            }
            if let Some(question) = self.asks_explanation.take() {
                let explanation = self.plane.explain(question).await;
                self.console.heard_explanation(explanation);
            }
            self.follow_capture();
            if self.print_events() || self.print_some() {
                task::yield_now().await;
                continue;
            }
            self.shared.news.wait_until(self.due().as_nanos()).await;
        }
    }

    /// When something is to be done though nothing happens.
    fn due(&self) -> Instant {
        let looks = self.capture.as_ref().map(|_| clock::now() / 1_000_000 + LOOK_AT_CAPTURE_MS);
        let others = [self.console.wake_at(), self.configurations.deadline_ms(), looks];
        let others = others.into_iter().flatten().map(|ms| Instant::from_nanos(ms.saturating_mul(1_000_000)));
        others.fold(self.table_at.min(self.look_at), Instant::min)
    }

    /// Begins the console's capture, and shows what there is of it. Outside a turn: captures take turns of their own.
    fn follow_capture(&mut self) {
        if let Some(wish) = self.asks_capture.take() {
            match self.plane.capture(&wish) {
                Ok(session) => {
                    self.capture = Some(Listing::begin(session, wish.limit, &mut self.console));
                }
                Err(refused) => self.console.capture_refused(&wish, &refused),
            }
        }
        if let Some(listing) = &mut self.capture
            && !listing.next(&mut self.console)
        {
            self.capture = None;
        }
    }

    fn turn(&mut self, cx: &mut Control, now: Instant) {
        let look = now >= self.look_at;
        if look {
            self.look_at = now + LOOK_EVERY;
        }
        let changed = self.shared.take_device_changed();
        self.interfaces.run(
            cx,
            match (changed, look) {
                (true, _) => Look::All,
                (false, true) => Look::Silent,
                (false, false) => Look::None,
            },
        );
        if changed || look {
            self.hear(cx, look, now);
        }
        self.end_if_due(now);
        self.serve(cx, now);
        while let Some(said) = self.plane.probing().said() {
            match said {
                Some(line) => self.console.told(&line),
                None => self.console.probe_ended(),
            }
        }
        if log::take_cut() {
            self.console.was_cut();
        }
        // Beside the interrupt, every look reads it: not every console has one.
        if self.shared.take_console_typed() || look {
            while let Some(byte) = console::read_byte() {
                self.at_console(cx, now, |console, router| console.typed(byte, milliseconds(now), router));
            }
        }
        if self.console.wake_at().is_some_and(|at| milliseconds(now) >= at) {
            self.at_console(cx, now, |console, router| console.tick(milliseconds(now), router));
        }
        if look && let Some(guest) = &self.guest {
            self.changed |= self.plane.view_with(cx).holdings != Some(guest.holdings());
        }
        self.publish(cx, now);
        if now >= self.table_at {
            self.table_at = now + TABLE_EVERY;
            let packets = self.interfaces.packets();
            if core::mem::replace(&mut self.seen, packets) != packets && self.console.is_quiet() {
                self.at_console(cx, now, |_, router| print!("{}", table(router)));
            }
        }
    }

    /// Follows what happens around a Xen guest.
    fn hear(&mut self, cx: &Control, look: bool, now: Instant) {
        let Some(mut guest) = self.guest.take() else { return };
        for news in guest.news(cx) {
            match news {
                News::Plugged(port, bay) => self.interfaces.plug(cx, port, bay),
                News::Unplugged(port) => self.interfaces.unplug(cx, port),
                News::Configured if self.modules.is_empty() => {
                    let config = guest
                        .configuration(cx, frames::free_bytes())
                        .unwrap_or_else(|| Err("it is gone".into()));
                    let outcome = self.install(cx, config, guest::place(), now);
                    guest.tell_outcome(cx, outcome.as_ref().map(drop));
                    if let Err(wrong) = outcome {
                        print!("{wrong}the configuration is as it was\n");
                    }
                }
                News::Configured => guest.tell(cx, "not used: there is a boot module, which comes first"),
                News::End(wish) => {
                    info!("the toolstack asks for an end: {wish:?}");
                    stop(&mut self.interfaces, cx);
                    self.end = Some((wish, now + ENDING));
                }
            }
        }
        if look {
            let ports: Vec<_> = self.interfaces.broken().collect();
            for port in ports {
                if let Some(bay) = guest.returned(cx, port) {
                    self.interfaces.plug(cx, port, bay);
                }
            }
        }
        self.guest = Some(guest);
    }

    /// Ends the machine if that is wanted and every device has let go, or had the time to.
    fn end_if_due(&mut self, now: Instant) {
        let Some((wish, limit)) = &self.end else { return };
        if self.interfaces.is_settled() || now >= *limit {
            match wish {
                Request::Reboot => power::reboot(),
                _ => power::off(),
            }
        }
    }

    /// The line that says the router forwards, and what.
    fn ready_line(&self, memory: u64) -> String {
        Ready {
            hostname: &self.interfaces.config().hostname,
            since_entry_ns: clock::now(),
            since_entry_ticks: clock::since_entry(),
            cpus: self.interfaces.cpus(),
            memory,
            interfaces: &self.interfaces.status(),
        }
        .to_string()
    }

    /// Gives the console the router to work on.
    fn at_console(
        &mut self,
        cx: &mut Control,
        now: Instant,
        work: impl FnOnce(&mut Console, &mut Operator<'_>),
    ) {
        let mut console = core::mem::take(&mut self.console);
        work(&mut console, &mut Operator { management: self, cx, now });
        self.console = console;
    }

    /// Prints some of what the console has to say. Whether there was any.
    fn print_some(&mut self) -> bool {
        let some = self.console.take_output(BYTES_AT_ONCE);
        if let Some(text) = &some {
            print!("{text}");
        }
        some.is_some()
    }

    /// Puts a configuration from `place` in force at once.
    fn install(
        &mut self,
        cx: &Control,
        config: Result<Config, String>,
        place: String,
        now: Instant,
    ) -> Result<(), String> {
        let config = config?;
        let text = config.text.0.clone();
        let mut live = Live { cx, interfaces: &mut self.interfaces, read: Some(config) };
        let done =
            self.configurations.replace(text, &place, None, None, now.as_nanos() / 1_000_000, &mut live);
        done.map_err(|refused| in_words(&refused))?;
        self.note("configuration", &place, "committed", now);
        self.place = Some(place);
        Ok(())
    }

    /// Does what tasks ask for, and what is due of itself.
    fn serve(&mut self, cx: &mut Control, now: Instant) {
        while let Some(news) = self.plane.next_news() {
            self.changed = true;
            if let Some(learnt) = news.learnt {
                self.interfaces.learn(cx, learnt);
            }
            for tale in news.tales {
                info!("{}: {}", tale.subject, tale.text);
                self.note(tale.kind, &tale.subject, &tale.text, now);
            }
        }
        while let Some(order) = self.plane.next_order() {
            let outcome = self.obey(cx, order.command.clone(), now);
            // Who asked sees the effect of it.
            self.publish(cx, now);
            order.answer(outcome);
        }
        let mut live = Live { cx, interfaces: &mut self.interfaces, read: None };
        match self.configurations.tick(now.as_nanos() / 1_000_000, &mut live) {
            None => {}
            Some(Reverted::Done(version)) => {
                warn!("the configuration was not confirmed in time: reverted, as version {version}");
                self.reverted("not confirmed in time: reverted", now);
            }
            Some(Reverted::Again(errors)) => {
                let wrong = errors.first().map_or("", |error| &error.message);
                error!(
                    "the configuration was not confirmed in time, and reverting failed: {wrong}; trying again"
                );
            }
        }
    }

    fn obey(&mut self, cx: &Control, wish: Wish, now: Instant) -> Result<Done, Refused> {
        let now_ms = now.as_nanos() / 1_000_000;
        let mut live = Live { cx, interfaces: &mut self.interfaces, read: None };
        self.changed = true;
        match wish {
            Wish::Put { text, if_match } => {
                let plan = self.configurations.put(&text, if_match.as_deref(), &mut live)?;
                Ok(Done::Planned(plan))
            }
            Wish::Discard => match self.configurations.discard() {
                true => Ok(Done::Discarded),
                false => Err(weir_manage::problem::nothing_to_discard()),
            },
            Wish::Rollback { version } => {
                Ok(Done::Planned(self.configurations.rollback(version, &mut live)?))
            }
            Wish::Commit { by, confirm_ms, if_match } => {
                let done =
                    self.configurations.commit(&by, confirm_ms, if_match.as_deref(), now_ms, &mut live)?;
                self.committed(&done, by, now);
                Ok(Done::Committed(done))
            }
            Wish::Confirm => {
                let version = self.configurations.confirm()?;
                info!("configuration: version {version} is confirmed");
                self.note("configuration", "", "confirmed", now);
                Ok(Done::Version(version))
            }
            Wish::Revert => {
                let version = self.configurations.revert(now_ms, &mut live)?;
                info!("configuration: taken back, as version {version}");
                self.reverted("taken back", now);
                Ok(Done::Version(version))
            }
        }
    }

    /// Puts the console's own text in force, if `base` is. Whatever others have as the candidate stays that.
    fn commit(
        &mut self,
        cx: &Control,
        (text, base): (&str, &str),
        confirm_ms: Option<u64>,
        now: Instant,
    ) -> Result<Committed, Refused> {
        let mut live = Live { cx, interfaces: &mut self.interfaces, read: None };
        let (if_match, now_ms) = ([fingerprint(base.as_bytes())], now.as_nanos() / 1_000_000);
        let done =
            self.configurations.replace(text, CONSOLE, confirm_ms, Some(&if_match), now_ms, &mut live)?;
        self.committed(&done, CONSOLE.into(), now);
        Ok(done)
    }

    fn committed(&mut self, done: &Committed, by: String, now: Instant) {
        let text = match done.confirm_within_ms {
            None => "committed".to_string(),
            Some(ms) => format!("committed, to be confirmed within {} s", ms / 1000),
        };
        info!("configuration: version {} by {by}: {text}", done.version);
        self.note("configuration", &by, &text, now);
        self.place = Some(by);
    }

    fn reverted(&mut self, text: &str, now: Instant) {
        let by = self.configurations.view().history().first().map(|newest| newest.by.clone());
        self.note("configuration", by.as_deref().unwrap_or_default(), text, now);
        self.place = by.filter(|_| !self.interfaces.config().text.0.is_empty());
    }

    /// Something happened that others may want to hear of.
    fn note(&mut self, kind: &str, subject: &str, text: &str, now: Instant) {
        self.changed = true;
        if self.events.len() >= EVENTS {
            self.events.remove(0);
        }
        let number = self.events.last().map_or(1, |last| last.number + 1);
        let at_ms = now.as_nanos() / 1_000_000;
        let (kind, subject, text) = (kind.into(), subject.into(), text.into());
        self.events.push(Arc::new(Event { number, at_ms, kind, subject, text }));
    }

    /// Shows tasks what has changed, if anything.
    fn publish(&mut self, cx: &mut Control, now: Instant) {
        let generation = self.interfaces.generation();
        if generation != self.published {
            self.published = generation;
            let before = self.plane.view_with(cx);
            for interface in self.interfaces.status() {
                let known = before.interfaces.iter().find(|known| known.name == interface.name);
                if known.is_none_or(|known| known.state != interface.state) {
                    self.note("interface", &interface.name, interface.state.model().word(), now);
                }
            }
            self.changed = true;
        }
        if !core::mem::take(&mut self.changed) {
            return;
        }
        let view = View {
            config: self.interfaces.shared_config(),
            learnt: self.interfaces.shared_learnt(),
            equipment: self.interfaces.equipment(),
            interfaces: self.interfaces.status(),
            unconfigured: self.interfaces.unconfigured().clone(),
            place: self.place.clone(),
            holdings: self.guest.as_ref().map(Guest::holdings),
            configurations: self.configurations.view(),
            events: self.events.clone(),
        };
        self.plane.access_with(cx, |access| access.configure(&view.config.tokens));
        self.plane.publish(cx, view);
    }

    /// Takes what was noted until now, to be printed.
    fn collect_events(&mut self) {
        let records = trace::records();
        println!(
            "trace of {} events, {} lost; {} ticks a second",
            records.len(),
            trace::lost(),
            clock::tsc_hz()
        );
        self.records = records.into_iter();
        if self.records.len() == 0 {
            println!("end of trace");
        }
    }

    /// Prints some events: the console is slow, and other tasks wait. Whether there were any.
    fn print_events(&mut self) -> bool {
        let any = self.records.len() > 0;
        for record in self.records.by_ref().take(EVENTS_AT_ONCE) {
            println!("{}", trace::Line(&record));
        }
        if any && self.records.len() == 0 {
            println!("end of trace");
        }
        any
    }
}

/// Backends are told, and devices stopped, by having no interface left.
fn stop(interfaces: &mut Interfaces, cx: &Control) {
    let none = Config { interfaces: Vec::new(), routes: Vec::new(), ..interfaces.config().clone() };
    let _ = interfaces.replace(cx, none);
}

fn milliseconds(at: Instant) -> u64 {
    at.as_nanos() / 1_000_000
}

/// A refusal as the console says it: what is wrong, line by line.
fn in_words(refused: &Refused) -> String {
    match &*refused.0.errors {
        [] => refused.to_string(),
        errors => errors.iter().map(|error| format!("{}\n", error.message)).collect(),
    }
}
