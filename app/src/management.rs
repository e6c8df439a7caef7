//! The management task of the boot CPU: devices' health, carrier changes, the console. Packet work preempts it.

mod engine;
mod operator;

use crate::config::Config;
use crate::guest::{self, Guest, News};
use crate::interfaces::{Interfaces, Look};
use crate::modules::Modules;
use crate::observe::Ready;
use crate::shared::Shared;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::{self, Vec};
use core::time::Duration;
use engine::Applier;
use operator::Operator;
use weir_machine::xen::control::Request;
use weir_machine::{clock, console, error, frames, info, power, print, println, task, trace, warn};
use weir_manage::configurations::{Configurations, Reverted};
use weir_manage::console::{Console, table};
use weir_netstack::Instant;
use weir_sync::Control;
use weir_sync::trace::Record;

/// How often devices and console are looked at that announce nothing. A look reads registers: an exit from the VM each.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the table is printed while packets flow.
const TABLE_EVERY: Duration = Duration::from_secs(10);

/// How long CPUs have to let go of their queues when the machine is to end.
const ENDING: Duration = Duration::from_secs(2);
/// Events printed before other tasks have their turn.
const EVENTS_AT_ONCE: usize = 8;
/// Bytes printed before other tasks have their turn.
const BYTES_AT_ONCE: usize = 512;

/// The configuration at boot.
#[derive(Debug, Default)]
pub struct BootText {
    /// Where it is from; `None`: there is none.
    pub place: Option<String>,
    /// It, if it is in force.
    pub text: String,
}

/// What runs below the packet work. `[C]` boot CPU
pub struct Management {
    shared: &'static Shared,
    interfaces: Interfaces,
    modules: Modules,
    /// What the router runs on.
    platform: String,
    /// Where the configuration in force is from; `None`: none is.
    place: Option<String>,
    configurations: Configurations,
    /// On Xen: the rest of the world.
    guest: Option<Guest>,
    /// The machine is to end like this, by then.
    end: Option<(Request, Instant)>,
    console: Console,
    look_at: Instant,
    table_at: Instant,
    /// Packets received at the last automatic table.
    seen: u64,
    /// Events still to be printed.
    events: vec::IntoIter<Record>,
}

impl Management {
    /// Takes over the interfaces of a router that forwards.
    pub fn new(
        shared: &'static Shared,
        interfaces: Interfaces,
        modules: Modules,
        platform: String,
        boot: BootText,
        guest: Option<Guest>,
        now: Instant,
    ) -> Self {
        let BootText { place, text } = boot;
        let by = place.as_deref().unwrap_or("nobody");
        let configurations = Configurations::new(text, by, milliseconds(now));
        Self {
            shared,
            interfaces,
            modules,
            platform,
            place,
            configurations,
            guest,
            end: None,
            console: Console::default(),
            look_at: now + LOOK_EVERY,
            table_at: now + TABLE_EVERY,
            seen: 0,
            events: Vec::new().into_iter(),
        }
    }

    /// The task: does all that is due whenever there is news, or nothing happened for long enough.
    pub async fn run(mut self) {
        loop {
            task::control(|cx| self.turn(cx, Instant::from_nanos(clock::now())));
            if self.print_events() || self.print_some() {
                task::yield_now().await;
                continue;
            }
            self.shared.news.wait_until(self.due().as_nanos()).await;
        }
    }

    fn turn(&mut self, cx: &Control, now: Instant) {
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
        // Beside the interrupt, every look reads it: not every console has one.
        if self.shared.take_console_typed() || look {
            while let Some(byte) = console::read_byte() {
                self.at_console(cx, now, |console, router| console.typed(byte, milliseconds(now), router));
            }
        }
        self.revert_if_due(cx, now);
        if self.console.wake_at().is_some_and(|at| milliseconds(now) >= at) {
            self.at_console(cx, now, |console, router| console.tick(milliseconds(now), router));
        }
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
        let Some(guest) = &mut self.guest else { return };
        for news in guest.news(cx) {
            match news {
                News::Plugged(port, bay) => self.interfaces.plug(cx, port, bay),
                News::Unplugged(port) => self.interfaces.unplug(cx, port),
                News::Configured if self.modules.is_empty() => {
                    let free = frames::free_bytes();
                    let read = guest.configuration(cx, free).unwrap_or_else(|| Err("it is gone".into()));
                    let place = guest::place();
                    let mut engine = Applier::new(&mut self.interfaces, cx, guest::CONFIG);
                    let outcome = read.and_then(|_| {
                        let text = String::from_utf8_lossy(guest.text());
                        let replaced =
                            self.configurations.replace(&*text, &place, milliseconds(now), &mut engine);
                        replaced.map(drop).map_err(|refused| match engine.said.is_empty() {
                            true => refused.0.detail + "\n",
                            false => engine.said,
                        })
                    });
                    guest.tell_outcome(cx, outcome.as_ref().map(|()| ()));
                    match outcome {
                        Ok(()) => self.place = Some(place),
                        Err(wrong) => print!("{wrong}the configuration is as it was\n"),
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

    /// The line that says the router forwards on `cpus` CPUs.
    pub fn ready_line(&self, cpus: usize, memory: u64) -> String {
        Ready {
            hostname: &self.interfaces.config().hostname,
            since_entry_ns: clock::now(),
            since_entry_ticks: clock::since_entry(),
            cpus,
            memory,
            interfaces: &self.interfaces.status(),
        }
        .to_string()
    }

    /// Gives the console the router to work on.
    fn at_console(&mut self, cx: &Control, now: Instant, work: impl FnOnce(&mut Console, &mut Operator<'_>)) {
        let mut console = core::mem::take(&mut self.console);
        work(&mut console, &mut Operator { management: self, cx, now });
        self.console = console;
    }

    /// Takes a configuration back that was not confirmed in time.
    fn revert_if_due(&mut self, cx: &Control, now: Instant) {
        let mut engine = Applier::new(&mut self.interfaces, cx, "the configuration before");
        match self.configurations.tick(milliseconds(now), &mut engine) {
            None => {}
            Some(Reverted::Done(version)) => {
                warn!("nobody confirmed the configuration: version {version} takes it back");
                self.place = Some(reverted(version));
            }
            Some(Reverted::Again(_)) => {
                error!("not confirmed and not taken back: {}", engine.said.trim_end())
            }
        }
    }

    /// When something is to be done though nothing happens.
    fn due(&self) -> Instant {
        let others = [self.console.wake_at(), self.configurations.deadline_ms()];
        let others = others.into_iter().flatten().map(|ms| Instant::from_nanos(ms.saturating_mul(1_000_000)));
        others.fold(self.table_at.min(self.look_at), Instant::min)
    }

    /// Prints some of what the console has to say. Whether there was any.
    fn print_some(&mut self) -> bool {
        let some = self.console.take_output(BYTES_AT_ONCE);
        if let Some(text) = &some {
            print!("{text}");
        }
        some.is_some()
    }

    /// Prints some events: the console is slow, and other tasks wait. Whether there were any.
    fn print_events(&mut self) -> bool {
        let any = self.events.len() > 0;
        for record in self.events.by_ref().take(EVENTS_AT_ONCE) {
            println!("{}", trace::Line(&record));
        }
        if any && self.events.len() == 0 {
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

/// Where a configuration is from that came back.
fn reverted(version: u64) -> String {
    format!("version {version}, which took one back")
}

fn milliseconds(at: Instant) -> u64 {
    at.as_nanos() / 1_000_000
}
