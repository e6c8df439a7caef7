//! What commands do.

use super::grammar::{Action, COMMANDS, Filters, Place, View};
use super::parse::{self, Parsed};
use super::paste::Paste;
use super::row::Row;
use super::{Candidate, Console, End, Mode, PASTE, Purpose, Router, Tracing, names, nearest, setting};
use crate::access::GRANT_MS;
use crate::diff::unified;
use crate::explain::Question;
use crate::model::{Committed, Explanation, Field, Neighbor, Plan, Problem};
use crate::probe::Probe;
use crate::problem::Refused;
use crate::table::Table;
use crate::text::Text;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

/// Lines of the log that are shown unless more are asked for.
const LOG: usize = 100;
/// Most routes that are shown at once.
const ROUTES: usize = 1000;

impl Console {
    pub(super) fn execute(&mut self, line: &str, now_ms: u64, router: &mut dyn Router) {
        if line.trim().is_empty() {
            if self.place == Place::Operate {
                let table = table(router);
                self.out.push_str(&table);
            }
            return;
        }
        let interfaces = names(&router.interfaces());
        let parsed = parse::parse(line, self.context(&interfaces));
        match parsed {
            Ok(parsed) => self.run(&parsed, now_ms, router),
            Err(wrong) => self.say(&wrong),
        }
    }

    fn run(&mut self, parsed: &Parsed, now_ms: u64, router: &mut dyn Router) {
        match parsed.command.action {
            Action::Table => self.filtered(&table(router), parsed),
            Action::Show(view) => self.show(view, parsed, router),
            Action::Configure => {
                self.candidate_of(router);
                self.place = Place::Configure;
                self.say("the candidate is a copy: nothing is in force before `commit`; `exit` leaves it");
                self.warn_if_outdated(router);
            }
            Action::Set | Action::Delete => self.change(parsed, router),
            Action::Load | Action::Replace => {
                let load = parsed.command.action == Action::Load;
                self.out.push_str(PASTE);
                let purpose = if load { Purpose::Load } else { Purpose::Replace };
                self.mode = Mode::Paste(Paste::new(router.longest(), self.decoder.returned()), purpose);
            }
            Action::Compare => {
                let running = router.configuration();
                let candidate = self.candidate_of(router);
                match unified(&running, &candidate.text, "running", "candidate") {
                    diff if diff.is_empty() => self.say("the candidate changes nothing"),
                    diff => self.filtered(&diff, parsed),
                }
            }
            Action::Check => {
                let text = self.candidate_of(router).text.clone();
                match router.check(&text) {
                    Ok(plan) if parsed.json => self.shown(&plan, parsed),
                    Ok(plan) => self.say(&format!("the candidate is right; {}", effect(&plan))),
                    Err(problem) => self.problem(&problem, "candidate"),
                }
            }
            Action::Discard => {
                self.candidate = None;
                self.candidate_of(router);
                self.say("the candidate is the configuration in force again");
            }
            Action::Commit => self.commit(parsed, router),
            Action::Confirm => match router.confirm() {
                Ok(version) => self.say(&format!("version {version} is confirmed")),
                Err(problem) => self.problem(&problem, "configuration"),
            },
            Action::Rollback => self.rollback(parsed.number("VERSION"), router),
            Action::Exit => {
                self.place = Place::Operate;
                let changed =
                    self.candidate.as_ref().is_some_and(|candidate| candidate.text != candidate.base);
                match changed {
                    true => self.say("the candidate is kept; `configure` goes on with it"),
                    false => self.candidate = None,
                }
            }
            Action::Modules => self.filtered(&router.modules(), parsed),
            Action::Module => {
                let outcome = router.replace_by_module(parsed.number("NUMBER").unwrap_or_default());
                self.replaced(outcome);
            }
            Action::Token => {
                let token = router.token();
                self.say(&format!("{token} may use the API for {} minutes", GRANT_MS / 60_000));
                let pages = router.pages();
                if !pages.is_empty() {
                    self.say(&format!("the page is at {}", pages.join("  ")));
                }
            }
            Action::Withdraw => {
                let there = router.withdraw_token();
                self.say(if there { "the token holds no more" } else { "no token was given out" });
            }
            Action::TraceOn => self.traced(router.trace(Tracing::On), "trace is on"),
            Action::TraceOff => self.traced(router.trace(Tracing::Off), "trace is off"),
            Action::Events => router.print_events(),
            Action::Dashboard => self.enter_dashboard(now_ms, router),
            Action::Reboot => {
                self.say("the router begins anew");
                router.end(End::Reboot);
            }
            Action::PowerOff => {
                self.say("the router ends");
                router.end(End::PowerOff);
            }
            Action::Explain => {
                let text = parsed.says("candidate").then(|| match &self.candidate {
                    Some(candidate) => candidate.text.clone(),
                    None => router.configuration(),
                });
                match Question::of(parsed, text) {
                    Ok(question) => {
                        router.ask_explanation(question);
                        self.asked = Some(parsed.clone());
                    }
                    Err(wrong) => self.say(&wrong),
                }
            }
            Action::Ping | Action::Traceroute => {
                router.probe(Probe::of(parsed, parsed.command.action == Action::Traceroute));
                self.mode = Mode::Probe { stopped: false };
            }
            Action::Capture => self.begin_capture(parsed, router),
            Action::Help => self.filtered(&help(), parsed),
        }
    }

    fn show(&mut self, view: View, parsed: &Parsed, router: &mut dyn Router) {
        match view {
            View::Status => self.shown(&router.status(), parsed),
            View::Interfaces => {
                let mut interfaces = router.interfaces();
                if let Some(wanted) = parsed.argument("NAME") {
                    let names = names(&interfaces);
                    interfaces.retain(|interface| interface.name == wanted);
                    if interfaces.is_empty() {
                        self.no_interface(wanted, &names);
                        return;
                    }
                }
                self.shown(&interfaces, parsed);
            }
            View::Routes => self.shown(&router.routes(parsed.argument("PREFIX"), ROUTES), parsed),
            View::Neighbors => {
                router.ask_neighbors();
                self.asked = Some(parsed.clone());
            }
            View::Drops => match parsed.number("COUNT").map(usize::try_from) {
                None => self.shown(&router.drops(), parsed),
                Some(most) => self.shown(&router.recorded(most.unwrap_or(usize::MAX)), parsed),
            },
            View::Cpus => self.shown(&router.cpus().cpus, parsed),
            View::Queues => self.shown(&router.cpus().queues, parsed),
            View::Sockets => self.shown(&router.cpus().sockets, parsed),
            View::Tasks => self.shown(&router.cpus().tasks, parsed),
            View::Locks => self.shown(&router.cpus().locks, parsed),
            View::Log => {
                let most = parsed.number("COUNT").map_or(LOG, |count| usize::try_from(count).unwrap_or(LOG));
                self.shown(&router.log(most), parsed);
            }
            View::Configuration => self.filtered(&router.configuration(), parsed),
            View::History => self.shown(&router.history(), parsed),
            View::Candidate => {
                let text = self.candidate_of(router).text.clone();
                self.filtered(&text, parsed);
            }
        }
    }

    pub(super) fn no_interface(&mut self, wanted: &str, names: &[String]) {
        let near = nearest(wanted, names.iter().map(String::as_str));
        let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        self.say(&format!("there is no interface `{wanted}`{near}"));
    }

    /// Shows what [`Router::ask_neighbors`] asked for.
    pub fn heard_neighbors(&mut self, neighbors: Vec<Neighbor>) {
        self.heard(|console, parsed| console.shown(&neighbors, parsed));
    }

    /// Shows a line of what [`Router::probe`] finds.
    pub fn told(&mut self, line: &str) {
        self.say(line);
    }

    /// That was all of it.
    pub fn probe_ended(&mut self) {
        if let Mode::Probe { .. } = self.mode {
            self.mode = Mode::Line;
            self.refresh();
        }
    }

    /// Shows what [`Router::ask_explanation`] asked for.
    pub fn heard_explanation(&mut self, explanation: Result<Explanation, Refused>) {
        self.heard(|console, parsed| match &explanation {
            Ok(explanation) => console.shown(explanation, parsed),
            Err(refused) => console.out.push_str(&refused.to_string()),
        });
    }

    fn heard(&mut self, show: impl FnOnce(&mut Self, &Parsed)) {
        let Some(parsed) = self.asked.take() else { return };
        // The prompt is there already: it comes again below.
        if self.row != Row::default() {
            self.end_row();
        }
        show(self, &parsed);
        self.refresh();
    }

    /// The candidate; one is begun if there is none.
    pub(super) fn candidate_of(&mut self, router: &dyn Router) -> &mut Candidate {
        self.candidate.get_or_insert_with(|| {
            let base = router.configuration();
            Candidate { text: base.clone(), base }
        })
    }

    fn warn_if_outdated(&mut self, router: &dyn Router) {
        if self.candidate.as_ref().is_some_and(|candidate| candidate.base != router.configuration()) {
            self.say("another configuration came into force since the candidate was begun: `compare`, or `discard`");
        }
    }

    fn change(&mut self, parsed: &Parsed, router: &dyn Router) {
        let candidate = self.candidate_of(router);
        let outcome = match parsed.command.action {
            Action::Set => setting::set(&candidate.text, parsed.argument("SETTING").unwrap_or_default()),
            _ => setting::delete(&candidate.text, parsed.argument("PLACE").unwrap_or_default()),
        };
        match outcome {
            Ok(text) => candidate.text = text,
            Err(wrong) => self.say(&wrong),
        }
    }

    fn commit(&mut self, parsed: &Parsed, router: &mut dyn Router) {
        let confirm_ms = parsed.number("SECONDS").map(|seconds| seconds * 1000);
        let candidate = self.candidate_of(router);
        let (text, base) = (candidate.text.clone(), candidate.base.clone());
        if text == base {
            self.say("the candidate changes nothing");
            return;
        }
        match router.commit(&text, &base, confirm_ms) {
            Ok(committed) => {
                self.candidate = Some(Candidate { base: text.clone(), text });
                self.committed(&committed);
            }
            Err(problem) => self.problem(&problem, "candidate"),
        }
    }

    fn committed(&mut self, committed: &Committed) {
        let Committed { version, confirm_within_ms, plan } = committed;
        self.say(&format!("version {version} is in force; {}", effect(plan)));
        if let Some(limit) = confirm_within_ms {
            let seconds = limit / 1000;
            self.say(&format!("it is taken back in {seconds} s unless you type `confirm`"));
        }
    }

    fn rollback(&mut self, version: Option<u64>, router: &mut dyn Router) {
        if version.is_none() && router.unconfirmed_ms().is_some() {
            match router.revert() {
                Ok(version) => self.say(&format!("taken back; version {version} is in force")),
                Err(problem) => self.problem(&problem, "configuration"),
            }
            return;
        }
        let Some(version) = version.or_else(|| router.history().get(1).map(|entry| entry.version)) else {
            self.say("there is no earlier configuration");
            return;
        };
        let Some(text) = router.version(version) else {
            self.say(&format!(
                "the text of version {version} is not kept; `show history` lists those that are"
            ));
            return;
        };
        match router.commit(&text, &router.configuration(), None) {
            Ok(committed) => {
                self.candidate = None;
                self.committed(&committed);
            }
            Err(problem) => self.problem(&problem, &format!("version {version}")),
        }
    }

    pub(super) fn replaced(&mut self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.say("the configuration is replaced"),
            Err(wrong) => {
                self.out.push_str(&wrong);
                self.say("the configuration is as it was");
            }
        }
    }

    fn traced(&mut self, outcome: Result<(), String>, done: &str) {
        let said = outcome.err();
        self.say(said.as_deref().unwrap_or(done));
    }

    /// What is wrong with `name`, an error a line, each with what helps.
    fn problem(&mut self, problem: &Problem, name: &str) {
        for error in &problem.errors {
            let mut place = String::from(name);
            if error.line > 0 {
                let _ = write!(place, ":{}:{}", error.line, error.column);
            }
            let key = if error.key.is_empty() { String::new() } else { format!("{}: ", error.key) };
            self.say(&format!("{place}: error: {key}{}", error.message));
            if let Some(help) = &error.help {
                self.say(&format!("  help: {help}"));
            }
        }
        if problem.errors.is_empty() {
            self.say(&problem.detail);
        }
        self.say("the configuration is as it was");
    }

    fn shown<F: Field>(&mut self, thing: &F, parsed: &Parsed) {
        let value = thing.value();
        let text = match parsed.json {
            true => format!("{}\n", serde_json::to_string_pretty(&value).unwrap_or_default()),
            false => Text(&value).to_string(),
        };
        self.filtered(&text, parsed);
    }

    fn filtered(&mut self, text: &str, parsed: &Parsed) {
        let wanted =
            |line: &&str| parsed.pattern.as_ref().is_none_or(|pattern| line.contains(pattern.as_str()));
        for line in text.lines().filter(wanted) {
            self.out.push_str(line);
            self.out.push('\n');
        }
    }

    pub(super) fn say(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }
}

/// The page of interfaces, CPUs and tasks.
pub fn table(router: &dyn Router) -> String {
    let cpus = router.cpus();
    let (interfaces, status) = (router.interfaces(), router.status());
    Table { interfaces: &interfaces, cpus: &cpus.cpus, tasks: &cpus.tasks, status: &status }.to_string()
}

/// What a configuration does beside its text.
fn effect(plan: &Plan) -> String {
    let mut parts: Vec<String> =
        plan.interfaces.iter().map(|change| format!("{} {}", change.change, change.interface)).collect();
    for (count, what) in [(plan.routes_added, "added"), (plan.routes_removed, "removed")] {
        if count > 0 {
            parts.push(format!("{count} route{} {what}", if count == 1 { "" } else { "s" }));
        }
    }
    match parts.is_empty() {
        true => "interfaces and routes stay as they are".into(),
        false => parts.join(", "),
    }
}

/// The list of commands.
fn help() -> String {
    let width = COMMANDS.iter().map(|command| command.syntax.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (place, head) in [
        (
            Place::Anywhere,
            "Tab completes, ? says what can come next, up and Ctrl-R bring back earlier lines\n",
        ),
        (Place::Operate, ""),
        (Place::Configure, "after configure:\n"),
    ] {
        text.push_str(head);
        for command in COMMANDS.iter().filter(|command| command.place == place) {
            let _ = writeln!(text, "  {:<width$}  {}", command.syntax, command.help);
        }
    }
    let json = COMMANDS.iter().any(|command| command.filters == Filters::Json);
    if json {
        text.push_str("  … | json, … | match TEXT  show as JSON, and lines that have TEXT in them alone\n");
    }
    text
}
