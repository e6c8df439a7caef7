//! Typed keys and what the screen shows, in front of a router that keeps real configurations.

mod asked;
mod listing;

use super::*;
use crate::configurations::{Configurations, Effect, Engine};
use crate::explain::Question;
use crate::model::{
    Committed, ConfigError, ConfigVersion, Cpu, Cpus, ExplainedStep, Explanation, InterfaceLoss,
    InterfaceState, Lock, LogLine, Loss, Neighbor, Plan, Problem, Queue, Recorded, Route, Routes, Sockets,
    Status, Task,
};
use proptest::prelude::*;
use std::vec;

const TEXT: &str = "hostname = \"edge1\"\n\n[interface.lan] # us\nmtu = 1500\n";

/// Takes all TOML whose `mtu` is not 1.
struct Strict;

impl Engine for Strict {
    fn check(&mut self, text: &str) -> Result<Effect, Vec<ConfigError>> {
        let error = |line, key: &str, message: &str| ConfigError {
            line,
            column: 7,
            key: key.into(),
            message: message.into(),
            help: Some("write more".into()),
        };
        if let Some(at) = text.lines().position(|line| line == "mtu = 1") {
            return Err(vec![error(
                at as u64 + 1,
                "interface.lan.mtu",
                "found the number 1, expected 68 to 9216",
            )]);
        }
        toml::de::DeTable::parse(text).map_err(|wrong| vec![error(1, "", wrong.message())])?;
        let change = crate::model::ChangeKind::Modify;
        let interfaces = vec![crate::model::Change { change, interface: "lan".into() }];
        Ok(Effect { interfaces, routes_added: 1, routes_removed: 0 })
    }

    fn apply(&mut self, text: &str) -> Result<Effect, Vec<ConfigError>> {
        self.check(text)
    }
}

struct Simulated {
    configurations: Configurations,
    packets: u64,
    now_ms: u64,
    did: Vec<String>,
}

impl Default for Simulated {
    fn default() -> Self {
        Self {
            configurations: Configurations::new(TEXT, "boot module 1", 0),
            packets: 0,
            now_ms: 0,
            did: Vec::new(),
        }
    }
}

impl Router for Simulated {
    fn status(&self) -> Status {
        Status {
            hostname: "edge1".into(),
            version: "0.1.0".into(),
            platform: "QEMU".into(),
            uptime_ms: 3_723_000,
            cpus: 2,
            memory_bytes: 128 << 20,
            memory_free_bytes: 96 << 20,
            configuration: Some("boot module 1".into()),
            ..Status::default()
        }
    }

    fn interfaces(&self) -> Vec<Interface> {
        let interface = |name: &str, state| Interface {
            name: name.into(),
            state,
            addresses: vec!["10.0.1.1/24".into(), "2001:db8::1/64".into()],
            rx_packets: self.packets,
            rx_bytes: self.packets * 1000,
            drops: vec![Loss { reason: "no-route".into(), packets: 3 }],
            ..Interface::default()
        };
        vec![interface("wan", InterfaceState::Up), interface("lan", InterfaceState::Down)]
    }

    fn cpus(&self) -> Cpus {
        Cpus {
            cpus: vec![Cpu { name: "cpu0".into(), received: 11, ..Cpu::default() }],
            tasks: vec![Task {
                name: "management".into(),
                cpu: "cpu0".into(),
                tasks: 1,
                polls: 12,
                ..Task::default()
            }],
            queues: vec![Queue { interface: "wan".into(), cpu: "cpu0".into(), ..Queue::default() }],
            sockets: vec![Sockets { cpu: "cpu0".into(), accepted: 16, ..Sockets::default() }],
            locks: vec![Lock { name: "Heap".into(), acquired: 13, contended: 14, spins: 15 }],
        }
    }

    fn routes(&self, wanted: Option<&str>, _: usize) -> Routes {
        let route = Route { to: wanted.unwrap_or("0.0.0.0/0").into(), ..Route::default() };
        Routes { total: 1, offset: 0, routes: vec![route] }
    }

    fn ask_neighbors(&mut self) {
        self.did.push("neighbors".into());
    }

    fn recorded(&mut self, most: usize) -> Vec<Recorded> {
        let entry = |at_us| Recorded { at_us, what: "ttl-expired".into(), ..Recorded::default() };
        (0..most.min(4) as u64).map(entry).collect()
    }

    fn ask_explanation(&mut self, question: Question) {
        self.did.push(std::format!("{question:?}"));
    }

    fn probe(&mut self, probe: crate::probe::Probe) {
        self.did.push(std::format!("{probe:?}"));
    }

    fn stop_probe(&mut self) {
        self.did.push("stop".into());
    }

    fn capture(&mut self, wish: crate::capture::Wish) {
        self.did.push(std::format!("{wish:?}"));
    }

    fn drops(&self) -> Vec<InterfaceLoss> {
        vec![InterfaceLoss { interface: Some("wan".into()), reason: "no-route".into(), packets: 3 }]
    }

    fn log(&self, most: usize) -> Vec<LogLine> {
        let line = |number| LogLine { number, text: "lan: link down".into(), ..LogLine::default() };
        (0..most.min(3) as u64).map(line).collect()
    }

    fn token(&mut self) -> String {
        "console-0123".into()
    }

    fn withdraw_token(&mut self) -> bool {
        true
    }

    fn pages(&self) -> Vec<String> {
        vec!["http://10.0.1.1/".into()]
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
        self.configurations.deadline_ms().map(|at| at - self.now_ms)
    }

    fn check(&mut self, text: &str) -> Result<Plan, Problem> {
        self.configurations.put(text, None, &mut Strict).map_err(|refused| *refused.0)
    }

    fn commit(&mut self, text: &str, base: &str, confirm_ms: Option<u64>) -> Result<Committed, Problem> {
        let base = [crate::fingerprint::fingerprint(base.as_bytes())];
        let committed =
            self.configurations.replace(text, "console", confirm_ms, Some(&base), self.now_ms, &mut Strict);
        committed.map_err(|refused| *refused.0)
    }

    fn confirm(&mut self) -> Result<u64, Problem> {
        self.configurations.confirm().map_err(|refused| *refused.0)
    }

    fn revert(&mut self) -> Result<u64, Problem> {
        self.configurations.revert(self.now_ms, &mut Strict).map_err(|refused| *refused.0)
    }

    fn replace(&mut self, text: &[u8]) -> Result<(), String> {
        let text = core::str::from_utf8(text).map_err(|_| "not UTF-8\n".to_string())?;
        let outcome = self.configurations.replace(text, "console", None, None, self.now_ms, &mut Strict);
        outcome.map(drop).map_err(|refused| refused.to_string())
    }

    fn replace_by_module(&mut self, number: u64) -> Result<(), String> {
        Err(format!("there is no module {number}\n"))
    }

    fn modules(&self) -> String {
        "the configuration is from: boot module 1\n".into()
    }

    fn longest(&self) -> usize {
        4096
    }

    fn trace(&mut self, tracing: Tracing) -> Result<(), String> {
        self.did.push(format!("{tracing:?}"));
        Ok(())
    }

    fn print_events(&mut self) {
        self.did.push("events".into());
    }

    fn end(&mut self, end: End) {
        self.did.push(format!("{end:?}"));
    }
}

type Rows = Vec<Vec<char>>;

/// A terminal: as much of VT100 as the console uses.
#[derive(Default)]
struct Screen {
    rows: Rows,
    at: (usize, usize),
    saved: (usize, usize),
    sequence: Option<String>,
    /// It was asked how large it is.
    asked: bool,
    first: Option<(Rows, (usize, usize))>,
}

impl Screen {
    fn send(&mut self, text: &str) {
        for c in text.chars() {
            self.take(c);
        }
    }

    fn take(&mut self, c: char) {
        if let Some(mut sequence) = self.sequence.take() {
            sequence.push(c);
            let whole = match sequence.as_bytes() {
                [b'['] => false,
                [b'[', ..] => c.is_ascii_alphabetic(),
                _ => true,
            };
            if whole {
                self.obey(&sequence)
            } else {
                self.sequence = Some(sequence)
            }
            return;
        }
        match c {
            '\x1b' => self.sequence = Some(String::new()),
            '\r' => self.at.1 = 0,
            '\n' => self.at = (self.at.0 + 1, 0),
            '\x08' => self.at.1 -= 1,
            '\x07' => {}
            c => {
                assert!(!c.is_control(), "{c:?}");
                while self.rows.len() <= self.at.0 {
                    self.rows.push(Vec::new());
                }
                let row = &mut self.rows[self.at.0];
                row.resize(row.len().max(self.at.1 + 1), ' ');
                row[self.at.1] = c;
                self.at.1 += 1;
            }
        }
    }

    fn obey(&mut self, sequence: &str) {
        let numbers = sequence.trim_matches(|c: char| !c.is_ascii_digit());
        match sequence {
            "7" => self.saved = self.at,
            "8" => self.at = self.saved,
            "[6n" => self.asked = true,
            "[2J" => self.rows.clear(),
            "[H" => self.at = (0, 0),
            "[K" => {
                if let Some(row) = self.rows.get_mut(self.at.0) {
                    row.truncate(self.at.1);
                }
            }
            "[?1049h" => self.first = Some((core::mem::take(&mut self.rows), self.at)),
            "[?1049l" => (self.rows, self.at) = self.first.take().unwrap(),
            "[?25l" | "[?25h" | "[?2004h" => {}
            other => {
                assert!(other.ends_with('H'), "{other:?}");
                let (row, column) = numbers.split_once(';').unwrap();
                self.at = (row.parse::<usize>().unwrap() - 1, column.parse::<usize>().unwrap() - 1);
            }
        }
    }

    fn text(&self) -> String {
        let row = |row: &Vec<char>| row.iter().collect::<String>().trim_end().to_string();
        let rows: Vec<String> = self.rows.iter().map(row).collect();
        rows.join("\n").trim_end().into()
    }
}

#[derive(Default)]
struct Seat {
    console: Console,
    router: Simulated,
    screen: Screen,
    now_ms: u64,
    /// The terminal says how large it is.
    answers: bool,
    /// All that was ever sent.
    sent: String,
}

impl Seat {
    fn new() -> Self {
        Self { answers: true, ..Self::default() }
    }

    fn type_(&mut self, keys: &str) -> &mut Self {
        for &byte in keys.as_bytes() {
            self.console.typed(byte, self.now_ms, &mut self.router);
            if self.router.did.last().is_some_and(|did| did == "neighbors") {
                self.router.did.pop();
                let address = "192.0.2.254".into();
                let neighbor = Neighbor { interface: "wan".into(), address, ..Neighbor::default() };
                self.console.heard_neighbors(vec![neighbor]);
            }
            if let Some(asked) = self.router.did.pop_if(|did| did.starts_with("Question")) {
                let step =
                    ExplainedStep { step: "route".into(), found: "none".into(), ..ExplainedStep::default() };
                let (end, steps) = (asked, vec![step]);
                self.console.heard_explanation(Ok(Explanation { end, steps, ..Explanation::default() }));
            }
            self.print();
        }
        self
    }

    fn print(&mut self) {
        while let Some(text) = self.console.take_output(100) {
            assert!(text.len() <= 100);
            self.screen.send(&text);
            self.sent.push_str(&text);
        }
        if core::mem::take(&mut self.screen.asked) && self.answers {
            for &byte in b"\x1b[24;80R" {
                self.console.typed(byte, self.now_ms, &mut self.router);
            }
            self.print();
        }
    }

    fn pass(&mut self, ms: u64) -> &mut Self {
        self.now_ms += ms;
        self.router.now_ms = self.now_ms;
        self.console.tick(self.now_ms, &mut self.router);
        self.print();
        self
    }

    /// What the screen shows of what was said since the last look.
    fn screen(&mut self) -> String {
        let text = self.screen.text();
        let last = self.screen.rows.get(self.screen.at.0).cloned();
        self.screen.rows = last.into_iter().collect();
        self.screen.at.0 = 0;
        text
    }

    fn said(&mut self, line: &str) -> String {
        self.screen();
        self.type_(line).type_("\r");
        let text = self.screen();
        let body = text.split_once('\n').map_or("", |(_, body)| body);
        body.rsplit_once('\n').map_or(String::new(), |(body, _)| body.to_string())
    }
}

#[test]
fn an_unattended_console_is_silent() {
    let mut seat = Seat::new();
    (0..1000).for_each(|_| seat.pass(1000).print());
    assert!(seat.sent.is_empty() && seat.console.is_quiet());
}

#[test]
fn without_a_terminal_there_is_no_prompt_and_one_question() {
    let mut seat = Seat::default();
    seat.type_("help\n").type_("trace on\n");
    assert!(seat.sent.starts_with(&format!("{ASK_SIZE}edge1> help\n")), "{:?}", seat.sent);
    assert!(seat.sent.ends_with("edge1> trace on\ntrace is on\n"));
    assert_eq!(seat.sent.matches('\x1b').count(), ASK_SIZE.matches('\x1b').count());
    assert!(!seat.console.is_quiet());
    seat.pass(IDLE_MS);
    assert!(seat.console.is_quiet());
}

#[test]
fn what_is_begun_and_left_does_not_hold_the_log_up() {
    let mut seat = Seat::default();
    seat.type_("show sta").pass(IDLE_MS);
    assert!(seat.console.is_quiet() && seat.sent.ends_with("show sta\n"));
    seat.type_("locks\n");
    assert!(seat.sent.contains("edge1> locks\nname  acquired"));
    seat.type_("show queues\nshow sockets\n");
    assert!(seat.sent.contains("edge1> show queues\ninterface  cpu   rx_packets"), "{}", seat.sent);
    assert!(seat.sent.contains("edge1> show sockets\ncpu              cpu0\nconnections"), "{}", seat.sent);
}

#[test]
fn a_terminal_gets_a_prompt() {
    let mut seat = Seat::new();
    seat.type_("trace off\r");
    assert_eq!(seat.screen(), "edge1> trace off\ntrace is off\nedge1>");
    assert_eq!(seat.router.did, ["Off"]);
}

#[test]
fn an_empty_line_prints_the_table() {
    let mut seat = Seat::default();
    seat.type_("\n");
    assert!(seat.screen().contains("interface       state      rx packets"), "{}", seat.sent);
    seat.type_("configure\n\n");
    assert!(!seat.screen().contains("rx packets"));
}

#[test]
fn the_cursor_moves_and_the_line_follows() {
    let mut seat = Seat::new();
    seat.type_("how status\x01s\x05x\x7f");
    assert_eq!(seat.screen.text(), "edge1> show status");
    seat.type_("\x1b[D\x1b[D\x1b[D\x17");
    assert_eq!(seat.screen.text(), "edge1> show tus");
    assert_eq!(seat.screen.at.1, "edge1> show ".len());
    seat.type_("\x19\x15\x0b");
    assert_eq!((seat.screen.text().as_str(), seat.screen.at.1), ("edge1>", 7));
}

#[test]
fn earlier_lines_come_back() {
    let mut seat = Seat::new();
    seat.type_("trace on\rtrace off\r");
    seat.screen();
    seat.type_("sh\x1b[A\x1b[A");
    assert_eq!(seat.screen.text(), "edge1> trace on");
    seat.type_("\x1b[B\x1b[B");
    assert_eq!(seat.screen.text(), "edge1> sh");
    seat.type_("\x12on");
    assert_eq!(seat.screen.text(), "(search `on`) trace on");
    seat.type_("\r");
    assert_eq!(seat.screen(), "edge1> trace on\ntrace is on\nedge1>");
    assert_eq!(seat.router.did, ["On", "Off", "On"]);
    seat.type_("\x12off\x07");
    assert_eq!(seat.screen.text(), "edge1>");
    seat.type_("sh\x12off\x07");
    assert_eq!(seat.screen.text(), "edge1> sh");
    seat.type_("\x12off\x03");
    assert_eq!(seat.screen(), "(search `off`) trace off^C\nedge1>", "the line goes with the search");
}

#[test]
fn tab_completes_and_lists() {
    let mut seat = Seat::new();
    seat.type_("sh\tint\tl\t");
    assert_eq!(seat.screen(), "edge1> show interfaces lan");
    seat.type_("\x15conf\t\t");
    assert_eq!(seat.screen(), "edge1> confi\nconfigure  confirm  config\nedge1> confi");
    seat.type_("\x15show c\t");
    assert_eq!(seat.screen(), "edge1> show c\ncpus  configuration\nedge1> show c");
    seat.type_("\x15tra\t");
    assert_eq!(seat.screen(), "edge1> trace");
    seat.type_("\t");
    assert_eq!(seat.screen(), "edge1> trace\ntraceroute  trace\nedge1> trace");
    seat.type_(" \t\t");
    assert_eq!(seat.screen(), "edge1> trace o\non  off\nedge1> trace o");
}

#[test]
fn a_question_mark_tells_what_can_come_next() {
    let mut seat = Seat::new();
    seat.type_("commit ?");
    assert_eq!(seat.screen(), "edge1> commit\n  nothing can come here\nedge1> commit");
    seat.type_("\x15show interfaces ?");
    let expected = "\
edge1> show interfaces
  wan      an interface's name
  lan      an interface's name
  |        filters what it says
  NAME     an interface's name
  <Enter>
edge1> show interfaces";
    assert_eq!(seat.screen(), expected);
}

#[test]
fn a_configuration_is_edited_compared_committed_and_confirmed() {
    let mut seat = Seat::new();
    assert!(seat.said("configure").contains("nothing is in force before `commit`"));
    assert_eq!(seat.said("set interface lan mtu 1400"), "");
    seat.type_("x");
    assert_eq!(seat.screen.text(), "edge1* configure> x");
    seat.type_("\x15");
    assert!(seat.said("compare").ends_with(" [interface.lan] # us\n-mtu = 1500\n+mtu = 1400"));
    assert_eq!(seat.said("check"), "the candidate is right; modify lan, 1 route added");
    let committed = "version 2 is in force; modify lan, 1 route added\nit is taken back in 60 s unless you type `confirm`";
    assert_eq!(seat.said("commit confirm 60"), committed);
    assert_eq!(seat.router.unconfirmed_ms(), Some(60_000));
    assert_eq!(seat.said("confirm"), "version 2 is confirmed");
    assert!(seat.said("confirm").starts_with("the configuration in force was confirmed"));
    assert_eq!(seat.said("show candidate | match mtu"), "mtu = 1400");
    assert_eq!(seat.said("exit"), "");
    assert!(seat.router.configuration().contains("[interface.lan] # us\nmtu = 1400\n"));
    assert_eq!(seat.said("rollback"), "version 3 is in force; modify lan, 1 route added");
    assert_eq!(seat.router.configuration(), TEXT);
}

#[test]
fn what_is_unconfirmed_is_taken_back() {
    let mut seat = Seat::new();
    seat.said("configure");
    seat.said("set hostname edge2");
    seat.said("commit confirm 60");
    assert_eq!(seat.said("rollback"), "taken back; version 3 is in force");
    assert_eq!(seat.router.configuration(), TEXT);
}

#[test]
fn a_wrong_candidate_is_refused_with_line_and_cure() {
    let mut seat = Seat::new();
    seat.said("configure");
    seat.said("set interface lan mtu 1");
    let expected = "\
candidate:4:7: error: interface.lan.mtu: found the number 1, expected 68 to 9216
  help: write more
the configuration is as it was";
    assert_eq!(seat.said("commit"), expected);
    assert_eq!(seat.said("check"), expected);
    assert_eq!(seat.said("exit"), "the candidate is kept; `configure` goes on with it");
    assert!(seat.said("configure").contains("the candidate is a copy"));
    assert_eq!(seat.said("discard"), "the candidate is the configuration in force again");
    assert_eq!(seat.said("commit"), "the candidate changes nothing");
}

#[test]
fn a_candidate_of_another_configuration_is_not_committed() {
    let mut seat = Seat::new();
    seat.said("configure");
    seat.said("set hostname mine");
    seat.router.replace(b"hostname = \"theirs\"\n").unwrap();
    assert!(seat.said("commit").contains("the configuration is as it was"));
    assert!(seat.router.configuration().contains("theirs"));
    seat.said("exit");
    assert!(seat.said("configure").contains("another configuration came into force"));
}

#[test]
fn texts_are_pasted() {
    let mut seat = Seat::default();
    seat.type_("config\nhostname = \"a.b\"\n.\n");
    assert!(seat.sent.ends_with("edge1> config\npaste the configuration, then a line with a single dot or Ctrl-D; Ctrl-C gives up\nthe configuration is replaced\n"), "{}", seat.sent);
    assert_eq!(seat.router.configuration(), "hostname = \"a.b\"\n");
    seat.type_("config\nmtu = 1\n.\n");
    assert!(seat.sent.ends_with("the configuration is as it was\n"));
    seat.type_("config\nmtu\x03");
    assert!(seat.sent.ends_with("given up; the configuration is as it was\n"));
    seat.type_("configure\nload\r\n# é\r\nmtu = 2\r\n.\r\n");
    assert!(seat.sent.ends_with("the candidate is replaced: 2 lines; `check` reads them\n"));
    seat.type_("show candidate\n");
    assert!(seat.sent.ends_with("# é\nmtu = 2\n"));
}

#[test]
fn a_pasted_command_line_is_text_and_no_keys() {
    let mut seat = Seat::new();
    seat.type_("x\x15\x1b[200~trace\ton\n\x1b[201~?");
    assert_eq!(seat.router.did, ["On"]);
    assert!(seat.screen().contains("reboot "));
}

#[test]
fn characters_that_cannot_be_taken_are_refused_once_a_line() {
    let mut seat = Seat::new();
    seat.type_("sé€h");
    let expected = "\
edge1> s
a line takes ASCII alone; other characters are for texts that are pasted: `load`
edge1> sh";
    assert_eq!(seat.screen(), expected);
}

#[test]
fn a_listing_ends_by_ctrl_c() {
    let mut seat = Seat::new();
    seat.type_("x\x15");
    "help\r".bytes().for_each(|byte| seat.console.typed(byte, 0, &mut seat.router));
    assert!(seat.console.take_output(100).unwrap().len() <= 100);
    seat.console.typed(3, 0, &mut seat.router);
    let rest = seat.console.take_output(1000).unwrap();
    assert_eq!(rest, "^C\nedge1> ");
}

#[test]
fn the_idle_screen_comes_and_any_key_leaves_it() {
    let mut seat = Seat::new();
    seat.type_("trace on\r").pass(IDLE_MS);
    seat.router.packets = 5000;
    seat.pass(2000);
    let screen = seat.screen.text();
    let expected = "\x20 edge1   Weir 0.1.0 on QEMU   up 1:02:03

  interface       state                in            out    lost/s
  wan             up          20.0 Mbit/s        0 bit/s         0
    10.0.1.1/24  2001:db8::1/64
";
    assert!(screen.starts_with(expected), "{screen}");
    assert!(screen.contains("  lan             DOWN"), "{screen}");
    assert!(screen.contains("page at http://10.0.1.1/"), "{screen}");
    assert!(!screen.contains("NOT CONFIRMED"));
    seat.type_("t");
    assert_eq!(seat.screen.text().lines().last(), Some("edge1> t"));
}

#[test]
fn the_idle_screen_counts_down_and_draws_what_changed() {
    let mut seat = Seat::new();
    seat.said("configure");
    seat.said("set hostname edge2");
    seat.said("commit confirm 120");
    seat.said("exit");
    seat.pass(IDLE_MS);
    assert!(seat.screen.text().contains("NOT CONFIRMED: it is taken back in 60 s"), "{}", seat.screen.text());
    let before = seat.sent.len();
    seat.pass(2000).pass(2000);
    assert!(seat.screen.text().contains("taken back in 56 s"));
    assert!(seat.sent.len() - before < 500, "{:?}", &seat.sent[before..]);
}

#[test]
fn a_terminal_that_is_gone_gets_no_idle_screen() {
    let mut seat = Seat::new();
    seat.type_("trace on\r").pass(IDLE_MS);
    seat.answers = false;
    (0..20).for_each(|_| seat.pass(2000).print());
    assert!(seat.sent.ends_with("\x1b[?25h\x1b[?1049l\r\x1b[K"));
    let sent = seat.sent.len();
    (0..1000).for_each(|_| seat.pass(2000).print());
    assert_eq!(seat.sent.len(), sent);
    assert!(seat.console.is_quiet());
}

/// A command's syntax with words for its arguments.
fn chosen(syntax: &str) -> String {
    let words = [
        ("NAME", "lan"),
        ("SOURCE", "10.0.1.2"),
        ("DESTINATION", "192.0.2.2"),
        ("PROTOCOL", "udp"),
        ("PORT", "53"),
        ("LENGTH", "100"),
        ("TTL", "9"),
        ("HEX", "ffffffffffff0200000000010800"),
        ("PREFIX", "::/0"),
        ("FILTER", "\"tcp port 80\""),
        ("DIRECTION", "in,drop"),
        ("PACKETS", "3"),
        ("BYTES", "64"),
        ("COUNT", "2"),
        ("SECONDS", "60"),
        ("VERSION", "1"),
        ("NUMBER", "1"),
        ("SETTING", "hostname a"),
        ("PLACE", "hostname"),
    ];
    words.iter().fold(syntax.to_string(), |line, (name, word)| line.replace(name, word))
}

#[test]
fn text_and_json_of_every_view_carry_the_same_fields() {
    fn keys(json: &serde_json::Value, found: &mut Vec<String>) {
        match json {
            serde_json::Value::Array(list) => list.iter().for_each(|item| keys(item, found)),
            serde_json::Value::Object(map) => map.iter().for_each(|(key, item)| {
                found.push(key.clone());
                keys(item, found);
            }),
            _ => {}
        }
    }
    let mut views = 0;
    for command in grammar::COMMANDS.iter().filter(|command| command.filters == grammar::Filters::Json) {
        if command.place == Place::Configure {
            continue;
        }
        let line = chosen(command.syntax.split(" [").next().unwrap());
        let mut seat = Seat::default();
        let text = seat.type_(&format!("{line}\n")).screen();
        let json = seat.type_(&format!("{line} | json\n")).screen();
        let json: serde_json::Value = serde_json::from_str(json.split_once('\n').unwrap().1).unwrap();
        let mut found = Vec::new();
        keys(&json, &mut found);
        assert!(!found.is_empty(), "{line}");
        for key in found {
            assert!(text.split_whitespace().any(|word| word == key), "{line}: {key} is not in\n{text}");
        }
        views += 1;
    }
    assert!(views > 9);
}

#[test]
fn every_command_does_something() {
    for command in grammar::COMMANDS {
        let mut seat = Seat::default();
        if command.place == Place::Configure {
            seat.type_("configure\nset interface lan mtu 1400\n");
        }
        let line = command.syntax.replace(['[', ']'], "");
        let line = chosen(&line);
        let before = seat.sent.len() + line.len() + 10;
        seat.type_(&format!("{line}\n"));
        let quiet =
            [grammar::Action::Set, grammar::Action::Delete, grammar::Action::Exit, grammar::Action::Events];
        assert!(seat.sent.len() > before || quiet.contains(&command.action), "{line}: {:?}", &seat.sent);
        assert!(!seat.sent.contains("unknown"), "{line}: {}", seat.sent);
    }
}

proptest! {
    #[test]
    fn any_bytes_at_all(bytes in prop::collection::vec(any::<u8>(), 0..400), answers in any::<bool>()) {
        let mut seat = Seat { answers, ..Seat::default() };
        for chunk in bytes.chunks(7) {
            chunk.iter().for_each(|&byte| seat.console.typed(byte, seat.now_ms, &mut seat.router));
            seat.print();
            seat.pass(3000);
        }
    }

    #[test]
    fn what_is_typed_is_what_the_screen_shows(
        keys in prop::collection::vec(prop::sample::select(vec!["a", " ", "\x01", "\x05", "\x02", "\x7f", "\x17", "\x0b", "\x19", "\x1b[3~", "\x1bb"]), 0..60)
    ) {
        let mut seat = Seat::new();
        seat.type_("x\x7f");
        for key in keys {
            seat.type_(key);
            let line = format!("edge1> {}", seat.console.line.text());
            prop_assert_eq!(seat.screen.text(), line.trim_end());
            prop_assert_eq!(seat.screen.at.1, 7 + seat.console.line.cursor());
        }
    }
}

#[test]
fn the_page_in_docs_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/console.md");
    let found = std::fs::read_to_string(path).unwrap_or_default();
    let command = "cargo run --package weir-manage --example console > docs/console.md";
    assert!(found == reference::page(), "docs/console.md is not what the grammar says: {command}");
}
