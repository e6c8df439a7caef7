//! The management task of the boot CPU: devices' health, carrier changes, the console. Packet work preempts it.

use crate::config::{self, Config};
use crate::console::{Command, HELP, Line};
use crate::guest::{self, Guest, News};
use crate::interfaces::{self, Interfaces, Look};
use crate::modules::{self, Modules};
use crate::observe::{self, Ready};
use crate::shared::Shared;
use alloc::string::{String, ToString};
use alloc::vec::{self, Vec};
use core::time::Duration;
use weir_machine::xen::control::Request;
use weir_machine::{clock, console, frames, info, power, print, println, task, trace};
use weir_manage::model::Interface;
use weir_manage::table::{Locks, Table};
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

/// What runs below the packet work. `[C]` boot CPU
pub struct Management {
    shared: &'static Shared,
    interfaces: Interfaces,
    modules: Modules,
    /// What the router runs on.
    platform: String,
    /// Where the configuration in force is from; `None`: none is.
    place: Option<String>,
    /// On Xen: the rest of the world.
    guest: Option<Guest>,
    /// The machine is to end like this, by then.
    end: Option<(Request, Instant)>,
    line: Line,
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
        place: Option<String>,
        guest: Option<Guest>,
        now: Instant,
    ) -> Self {
        Self {
            shared,
            interfaces,
            modules,
            platform,
            place,
            guest,
            end: None,
            line: Line::default(),
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
            if self.print_events() {
                task::yield_now().await;
                continue;
            }
            self.shared.news.wait_until(self.table_at.min(self.look_at).as_nanos()).await;
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
                self.typed(cx, byte);
            }
        }
        if now >= self.table_at {
            self.table_at = now + TABLE_EVERY;
            let packets = self.interfaces.packets();
            if core::mem::replace(&mut self.seen, packets) != packets && self.line.is_idle() {
                self.print_table();
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
                    let config = guest
                        .configuration(cx, frames::free_bytes())
                        .unwrap_or_else(|| Err("it is gone".into()));
                    let outcome = config.and_then(|config| self.interfaces.replace(cx, config));
                    guest.tell_outcome(cx, outcome.as_ref().map(drop));
                    match outcome {
                        Ok(change) => {
                            interfaces::log(&change);
                            self.place = Some(guest::place());
                        }
                        Err(wrong) => print!("{wrong}the configuration is as it was\n"),
                    }
                }
                News::Configured => guest.tell(cx, "not used: there is a boot module, which comes first"),
                News::End(wish) => {
                    info!("the toolstack asks for an end: {wish:?}");
                    // Backends are told, and devices stopped, by having no interface left.
                    let none = Config {
                        interfaces: Vec::new(),
                        routes: Vec::new(),
                        ..self.interfaces.config().clone()
                    };
                    let _ = self.interfaces.replace(cx, none);
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

    /// A byte from the console.
    fn typed(&mut self, cx: &Control, byte: u8) {
        let longest = config::longest(frames::free_bytes());
        match self.line.typed(byte, longest, |echo| print!("{echo}")) {
            None => {}
            Some(Command::Table) => self.print_table(),
            Some(Command::Trace(switch)) => match trace::switch(switch) {
                Ok(()) => println!("trace is {}", if switch == trace::Switch::On { "on" } else { "off" }),
                Err(wrong) => println!("{wrong}"),
            },
            Some(Command::Events) => self.collect_events(),
            Some(Command::Locks) => print!("{}", Locks(&observe::locks())),
            Some(Command::Help) => print!("{HELP}"),
            Some(Command::Replace(text)) => {
                let config = Config::read(&text, "console", frames::free_bytes());
                self.replace(cx, config, "console".into());
            }
            Some(Command::Modules) => {
                let place = self.place.as_deref().unwrap_or("nowhere: none is in force");
                print!("the configuration is from: {place}\n{}", self.modules);
            }
            Some(Command::Module(number)) => {
                let config = self.modules.config(number, frames::free_bytes());
                self.replace(cx, config, modules::place(number));
            }
        }
    }

    /// Replaces the configuration by one from `place`, or says what is wrong with it.
    fn replace(&mut self, cx: &Control, config: Result<Config, String>, place: String) {
        match config.and_then(|config| self.interfaces.replace(cx, config)) {
            Err(wrong) => print!("{wrong}the configuration is as it was\n"),
            Ok(change) => {
                interfaces::log(&change);
                self.place = Some(place);
                print!("the configuration is replaced\n");
            }
        }
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
        self.events = records.into_iter();
        if self.events.len() == 0 {
            println!("end of trace");
        }
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

    fn print_table(&self) {
        let interfaces: Vec<Interface> =
            self.interfaces.status().iter().map(observe::InterfaceStatus::model).collect();
        let (hostname, cpus) = (&self.interfaces.config().hostname, self.interfaces.cpus());
        let holdings = self.guest.as_ref().map(Guest::holdings);
        let status =
            observe::status(self.shared, &self.platform, hostname, self.place.as_deref(), cpus, holdings);
        let cpus = observe::cpus(self.shared, cpus, self.interfaces.counters());
        print!(
            "{}",
            Table { interfaces: &interfaces, cpus: &cpus, tasks: &observe::tasks(), status: &status }
        );
    }
}
