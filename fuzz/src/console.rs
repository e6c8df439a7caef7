//! Any bytes at the console: it answers, stays within its bounds, and what it offers it understands.

use weir_manage::capture::{Source, Wish};
use weir_manage::configurations::{Configurations, Effect, Engine};
use weir_manage::console::grammar::Place;
use weir_manage::console::parse::{Context, choices, parse};
use weir_manage::console::{Console, End, Listing, Router, Tracing};
use weir_manage::fingerprint::fingerprint;
use weir_manage::model::{
    Committed, ConfigError, ConfigVersion, Cpus, Interface, InterfaceLoss, LogLine, Plan, Problem, Recorded,
    Routes, Status,
};
use weir_manage::pcapng::{Counts, Packet};
use weir_manage::probe::Probe;
use weir_manage::problem::refuse;

/// One run: a byte above 0xf7 lets time pass.
pub fn run(data: &[u8]) {
    let (mut console, mut operated) = (Console::default(), Operated::default());
    let mut now_ms = 0;
    for &byte in data {
        match byte {
            0xf8.. => now_ms += u64::from(byte - 0xf7) * 10_000,
            byte => console.typed(byte, now_ms, &mut operated),
        }
        operated.goes_on(&mut console);
        console.tick(now_ms, &mut operated);
        let wait = console.wake_at();
        assert!(wait.is_none_or(|at| at > now_ms || byte < 0xf8), "{wait:?} at {now_ms}");
        while let Some(text) = console.take_output(256) {
            assert!(!text.is_empty() && text.len() <= 256);
        }
    }
    // Whatever was typed, the next command is obeyed.
    for _ in 0..8 {
        operated.goes_on(&mut console);
        while console.take_output(4096).is_some() {}
    }
    b"\x03show status\r".iter().for_each(|&byte| console.typed(byte, now_ms, &mut operated));
    let mut said = String::new();
    said.extend(std::iter::from_fn(|| console.take_output(4096)));
    assert!(said.contains("hostname"), "{said:?}");
    let line = String::from_utf8_lossy(data);
    let interfaces = ["wan".to_string(), "lan".to_string()];
    for place in [Place::Operate, Place::Configure] {
        let context = Context { place, interfaces: &interfaces, candidate: TEXT };
        let _ = parse(&line, context);
        let found = choices(&line, context);
        assert!(found.start <= line.len());
        let typed = line.get(found.start..).unwrap_or_default();
        // What is offered goes on from what was typed.
        assert!(found.words.iter().all(|(word, _)| word.starts_with(typed.trim_matches('"'))), "{line:?}");
    }
}

const TEXT: &str =
    "hostname = \"edge1\" # us\n\n[interface.wan]\nmatch = { port = 0 }\n\n[[route]]\nto = \"::/0\"\n";

struct Operated {
    configurations: Configurations,
    busy: Busy,
}

/// What holds the console. It ends by itself, so that what comes after it is tried too.
enum Busy {
    No,
    /// So many lines are to come.
    Probe(u8),
    Wanted(Wish),
    Capture(Listing<Frames>),
}

impl Default for Operated {
    fn default() -> Self {
        Self { configurations: Configurations::new(TEXT, "boot", 0), busy: Busy::No }
    }
}

impl Operated {
    fn goes_on(&mut self, console: &mut Console) {
        self.busy = match std::mem::replace(&mut self.busy, Busy::No) {
            Busy::No => Busy::No,
            Busy::Probe(0) => {
                console.probe_ended();
                Busy::No
            }
            Busy::Probe(lines) => {
                console.told("an answer");
                Busy::Probe(lines - 1)
            }
            Busy::Wanted(wish) if wish.filter.len() % 2 == 1 => {
                let refused = refuse(400, "", "no", "another").at(wish.filter.len());
                console.capture_refused(&wish, &refused);
                Busy::No
            }
            Busy::Wanted(wish) => {
                let frames = Frames { names: ["wan".into()], left: 3 };
                Busy::Capture(Listing::begin(frames, wish.limit, console))
            }
            Busy::Capture(mut listing) => match listing.next(console) {
                true => Busy::Capture(listing),
                false => Busy::No,
            },
        };
    }
}

/// A capture of a few frames, and then its end.
struct Frames {
    names: [String; 1],
    left: u8,
}

impl Source for Frames {
    fn interfaces(&self) -> &[String] {
        &self.names
    }

    fn read(&mut self, each: &mut dyn FnMut(&Packet<'_>) -> bool) {
        if self.left > 0 {
            self.left -= 1;
            each(&Packet::received(0, &[2; 60]));
        }
    }

    fn stop(&mut self) {}

    fn counts(&self, _: usize) -> Counts {
        Counts::default()
    }

    fn now_ns(&self) -> u64 {
        0
    }

    fn is_over(&self) -> bool {
        self.left == 0
    }
}

/// Takes every text.
struct Lenient;

impl Engine for Lenient {
    fn check(&mut self, _: &str) -> Result<Effect, Vec<ConfigError>> {
        Ok(Effect::default())
    }

    fn apply(&mut self, _: &str) -> Result<Effect, Vec<ConfigError>> {
        Ok(Effect::default())
    }
}

impl Router for Operated {
    fn status(&self) -> Status {
        Status { hostname: "edge1".into(), ..Status::default() }
    }

    fn interfaces(&self) -> Vec<Interface> {
        vec![Interface { name: "wan".into(), ..Interface::default() }]
    }

    fn cpus(&self) -> Cpus {
        Cpus::default()
    }

    fn routes(&self, _: Option<&str>, _: usize) -> Routes {
        Routes::default()
    }

    fn ask_neighbors(&mut self) {}

    fn ask_explanation(&mut self, _: weir_manage::explain::Question) {}

    fn probe(&mut self, _: Probe) {
        self.busy = Busy::Probe(2);
    }

    fn stop_probe(&mut self) {
        if let Busy::Probe(lines) = &mut self.busy {
            *lines = 0;
        }
    }

    fn capture(&mut self, wish: Wish) {
        self.busy = Busy::Wanted(wish);
    }

    fn drops(&self) -> Vec<InterfaceLoss> {
        Vec::new()
    }

    fn recorded(&mut self, _: usize) -> Vec<Recorded> {
        Vec::new()
    }

    fn log(&self, _: usize) -> Vec<LogLine> {
        Vec::new()
    }

    fn token(&mut self) -> String {
        "console-0123".into()
    }

    fn withdraw_token(&mut self) -> bool {
        true
    }

    fn pages(&self) -> Vec<String> {
        vec!["http://192.0.2.1/".into()]
    }

    fn configuration(&self) -> String {
        self.configurations.view().running.text.to_string()
    }

    fn history(&self) -> Vec<ConfigVersion> {
        self.configurations.view().history()
    }

    fn version(&self, version: u64) -> Option<String> {
        self.configurations.view().text_of(version).map(|text| text.text.to_string())
    }

    fn unconfirmed_ms(&self) -> Option<u64> {
        self.configurations.deadline_ms()
    }

    fn check(&mut self, text: &str) -> Result<Plan, Problem> {
        self.configurations.put(text, None, &mut Lenient).map_err(|refused| *refused.0)
    }

    fn commit(&mut self, text: &str, base: &str, confirm_ms: Option<u64>) -> Result<Committed, Problem> {
        let base = [fingerprint(base.as_bytes())];
        self.configurations
            .replace(text, "console", confirm_ms, Some(&base), 0, &mut Lenient)
            .map_err(|refused| *refused.0)
    }

    fn confirm(&mut self) -> Result<u64, Problem> {
        self.configurations.confirm().map_err(|refused| *refused.0)
    }

    fn revert(&mut self) -> Result<u64, Problem> {
        self.configurations.revert(0, &mut Lenient).map_err(|refused| *refused.0)
    }

    fn replace(&mut self, text: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(text).into_owned();
        self.configurations
            .replace(text, "console", None, None, 0, &mut Lenient)
            .map(drop)
            .map_err(|wrong| wrong.to_string())
    }

    fn replace_by_module(&mut self, _: u64) -> Result<(), String> {
        Err("there is none\n".into())
    }

    fn modules(&self) -> String {
        "none\n".into()
    }

    fn longest(&self) -> usize {
        256
    }

    fn trace(&mut self, _: Tracing) -> Result<(), String> {
        Ok(())
    }

    fn print_events(&mut self) {}

    fn end(&mut self, _: End) {}
}
