//! The operator's console: bytes that are typed become edited lines, lines become commands, and what they say is queued.
//!
//! Pure: the caller brings bytes, time and the router, and prints what is queued. Before a key was pressed nothing is ever
//! queued; only a terminal that says where its cursor is gets a prompt of its own accord, and the idle screen.

mod dashboard;
mod document;
pub mod grammar;
mod history;
mod key;
mod keys;
mod line;
mod listing;
mod near;
pub mod parse;
mod paste;
pub mod reference;
mod router;
mod row;
mod run;
mod setting;
#[cfg(test)]
mod tests;

pub use listing::Listing;
pub use near::nearest;
pub use router::{End, Router, Tracing};
pub use run::table;

use crate::model::Interface;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use dashboard::Dashboard;
use grammar::Place;
use history::History;
use key::{Decoder, Key};
use line::Line;
use parse::{Choices, Context, Parsed};
use paste::{Ended, Paste};
use row::Row;

/// Without a key for so long, the operator is taken to have left.
const IDLE_MS: u64 = 60_000;
/// Columns of a terminal that does not say how many it has.
const COLUMNS: u16 = 80;
/// Has a terminal say where its lower right corner is, which is its size; the cursor stays.
const ASK_SIZE: &str = "\x1b7\x1b[999;999H\x1b[6n\x1b8";
/// Has a terminal mark what is pasted.
const MARK_PASTES: &str = "\x1b[?2004h";
const CLEAR: &str = "\x1b[H\x1b[2J";
/// Output from which on Ctrl-C is meant for it, not for the line.
const LISTING: usize = 512;

/// Said before a configuration is pasted.
const PASTE: &str = "paste the configuration, then a line with a single dot or Ctrl-D; Ctrl-C gives up\n";

/// The console of one router.
#[derive(Debug)]
pub struct Console {
    decoder: Decoder,
    mode: Mode,
    place: Place,
    line: Line,
    history: History,
    /// What the line's row shows.
    row: Row,
    /// What is to be printed.
    out: String,
    candidate: Option<Candidate>,
    terminal: Terminal,
    /// The terminal is pasting: tabs and question marks are text.
    pasting: bool,
    /// The line had a character that cannot be taken, and that was said.
    refused: bool,
    /// When the last key was pressed; `None`: never, or the operator has left.
    typed_at: Option<u64>,
    /// The name in the prompt.
    hostname: String,
    /// The command that waits for its answer.
    asked: Option<Parsed>,
}

#[derive(Debug)]
enum Mode {
    Line,
    /// Ctrl-R: what is looked for, and how many matches before the one shown.
    Search(String, usize),
    Paste(Paste, Purpose),
    Dashboard(Dashboard),
    /// Echo requests are sent; whether that is to end.
    Probe {
        stopped: bool,
    },
    /// Packets are captured; whether that is to end.
    Capture {
        stopped: bool,
    },
}

/// What a pasted text is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    Replace,
    Load,
}

/// A text being edited, and the one that it was made from.
#[derive(Debug)]
struct Candidate {
    text: String,
    base: String,
}

/// What is known of the terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Terminal {
    /// Nothing, and it was not asked.
    Unknown,
    /// It was asked.
    Asked,
    /// It answered.
    Known { rows: u16, columns: u16 },
}

impl Default for Console {
    fn default() -> Self {
        Self {
            decoder: Decoder::default(),
            mode: Mode::Line,
            place: Place::Operate,
            line: Line::default(),
            history: History::default(),
            row: Row::default(),
            out: String::new(),
            candidate: None,
            terminal: Terminal::Unknown,
            pasting: false,
            refused: false,
            typed_at: None,
            hostname: String::new(),
            asked: None,
        }
    }
}

impl Console {
    /// Whether nobody is at the console: unasked output disturbs nobody.
    pub fn is_quiet(&self) -> bool {
        self.typed_at.is_none()
            && self.line.text().is_empty()
            && !matches!(self.mode, Mode::Paste(..) | Mode::Probe { .. } | Mode::Capture { .. })
    }

    /// When [`tick`](Self::tick) has something to do, in milliseconds.
    pub fn wake_at(&self) -> Option<u64> {
        match &self.mode {
            Mode::Dashboard(dashboard) => Some(dashboard.due()),
            _ => self.typed_at.map(|at| at + IDLE_MS),
        }
    }

    /// Up to `most` bytes to be printed, of whole lines if there are any.
    pub fn take_output(&mut self, most: usize) -> Option<String> {
        let head = self.out.get(..self.out.floor_char_boundary(most)).filter(|head| !head.is_empty())?;
        let end = if head.len() == self.out.len() {
            head.len()
        } else {
            head.rfind('\n').map_or(head.len(), |at| at + 1)
        };
        let rest = self.out.split_off(end);
        Some(core::mem::replace(&mut self.out, rest))
    }

    /// Takes a byte that was typed, at `now_ms`.
    pub fn typed(&mut self, byte: u8, now_ms: u64, router: &mut dyn Router) {
        self.typed_at = Some(now_ms);
        if let Mode::Paste(paste, purpose) = &mut self.mode {
            let purpose = *purpose;
            if let Some(ended) = paste.typed(byte) {
                self.mode = Mode::Line;
                self.pasted(ended, purpose, router);
                self.refresh();
            }
            return;
        }
        if let Some(key) = self.decoder.decode(byte) {
            self.pressed(key, now_ms, router);
        }
    }

    /// Does what is due at `now_ms`: the idle screen.
    pub fn tick(&mut self, now_ms: u64, router: &mut dyn Router) {
        if let Mode::Dashboard(dashboard) = &mut self.mode {
            if dashboard.is_forsaken(now_ms) {
                // Nobody looks at it: the log goes on as if nobody ever had.
                self.leave_dashboard();
                self.terminal = Terminal::Unknown;
                self.typed_at = None;
            } else if now_ms >= dashboard.due() {
                dashboard.draw(now_ms, router, &mut self.out);
            }
            return;
        }
        if self.typed_at.is_none_or(|at| now_ms < at + IDLE_MS) {
            return;
        }
        let resting =
            self.line.text().is_empty() && matches!(self.mode, Mode::Line) && self.place == Place::Operate;
        match self.terminal {
            Terminal::Known { .. } if resting => self.enter_dashboard(now_ms, router),
            Terminal::Known { .. } => self.typed_at = Some(now_ms),
            _ => {
                // What was begun and left is no line: the log goes on in one of its own.
                if !self.line.text().is_empty() {
                    self.end_row();
                    self.line.set("");
                }
                self.terminal = Terminal::Unknown;
                self.typed_at = None;
            }
        }
    }

    fn pressed(&mut self, key: Key, now_ms: u64, router: &mut dyn Router) {
        if let Key::Position { row, column } = key {
            self.heard_of_terminal(row, column, now_ms);
            return;
        }
        if let Mode::Probe { stopped } | Mode::Capture { stopped } = &mut self.mode {
            if key == Key::Control('C') {
                // Whoever does not hear of it the first time is not waited for.
                let forsaken = core::mem::replace(stopped, true);
                self.out.push_str("^C\n");
                if let Mode::Probe { .. } = self.mode {
                    router.stop_probe();
                }
                if forsaken {
                    self.mode = Mode::Line;
                    self.refresh();
                }
            }
            return;
        }
        if let Mode::Dashboard(_) = self.mode {
            self.leave_dashboard();
            self.refresh();
            if matches!(key, Key::Enter) {
                return;
            }
        }
        if self.hostname.is_empty() || self.line.text().is_empty() {
            self.hostname = router.status().hostname;
        }
        if self.terminal == Terminal::Unknown {
            self.out.push_str(ASK_SIZE);
            self.terminal = Terminal::Asked;
        }
        if matches!(self.mode, Mode::Search(..)) && self.search_key(key) {
            self.refresh();
            return;
        }
        match key {
            Key::Enter => self.enter(now_ms, router),
            Key::Tab if !self.pasting => self.complete(router),
            Key::Char('?') if !self.pasting && !in_quotes(self.line.before()) => self.help(router),
            Key::Control('L') => {
                if matches!(self.terminal, Terminal::Known { .. }) {
                    self.out.push_str(CLEAR);
                }
                self.row = Row::default();
            }
            Key::Control('C') => {
                if self.out.len() > LISTING {
                    self.out.clear();
                }
                self.out.push_str("^C");
                self.end_row();
                self.line.set("");
            }
            Key::Control('D') if self.line.text().is_empty() => {
                if self.place == Place::Configure {
                    self.line.set("exit");
                    self.enter(now_ms, router);
                }
            }
            Key::Control('R') => self.mode = Mode::Search(String::new(), 0),
            Key::Foreign => self.refuse(),
            Key::PasteBegin => self.pasting = true,
            Key::PasteEnd => self.pasting = false,
            key => self.edit(key),
        }
        self.refresh();
    }

    fn edit(&mut self, key: Key) {
        let line = &mut self.line;
        let text = match key {
            Key::Up | Key::Control('P') => self.history.older(line.text()).map(String::from),
            Key::Down | Key::Control('N') => self.history.newer().map(String::from),
            _ => None,
        };
        if let Some(text) = text {
            line.set(&text);
            return;
        }
        let fits = match key {
            Key::Char(c) => line.insert(c),
            Key::Tab => line.insert(' '),
            _ => true,
        };
        match key {
            Key::Left | Key::Control('B') => line.left(),
            Key::Right | Key::Control('F') => line.right(),
            Key::Home | Key::Control('A') => line.home(),
            Key::End | Key::Control('E') => line.end(),
            Key::WordLeft | Key::Alt('b') => line.word_left(),
            Key::WordRight | Key::Alt('f') => line.word_right(),
            Key::Backspace => line.backspace(),
            Key::Delete | Key::Control('D') => line.delete(),
            Key::Control('K') => line.cut_to_end(),
            Key::Control('U') => line.cut_to_begin(),
            Key::Control('W') => line.cut_word(),
            Key::Alt('d') => line.cut_next_word(),
            Key::Control('Y') => line.paste(),
            _ => {}
        }
        if !fits {
            self.out.push('\x07');
        }
    }

    /// A key while older lines are searched. Whether that was all: other keys end the search and count as such.
    fn search_key(&mut self, key: Key) -> bool {
        let Mode::Search(wanted, nth) = &mut self.mode else { return false };
        match key {
            Key::Control('R') => {
                if self.history.find(wanted, *nth + 1).is_some() {
                    *nth += 1;
                }
                return true;
            }
            Key::Char(c) if wanted.len() < 64 => {
                wanted.push(c);
                *nth = 0;
                return true;
            }
            Key::Backspace => {
                wanted.pop();
                *nth = 0;
                return true;
            }
            Key::Control('G') => {
                self.mode = Mode::Line;
                return true;
            }
            // Gives the line up, too.
            Key::Control('C') => {
                self.mode = Mode::Line;
                return false;
            }
            _ => {}
        }
        let found = self.history.find(wanted, *nth).filter(|_| !wanted.is_empty()).map(String::from);
        if let Some(found) = found {
            self.line.set(&found);
        }
        self.mode = Mode::Line;
        false
    }

    fn enter(&mut self, now_ms: u64, router: &mut dyn Router) {
        self.line.end();
        self.refresh();
        self.end_row();
        self.refused = false;
        let line = self.line.take();
        self.history.push(&line);
        self.execute(&line, now_ms, router);
    }

    /// The row is done: what follows begins in the next.
    fn end_row(&mut self) {
        self.row = Row::default();
        self.out.push('\n');
    }

    /// Something else was printed where the row was: it is shown again, below that.
    pub fn was_cut(&mut self) {
        if core::mem::take(&mut self.row) != Row::default() {
            self.refresh();
        }
    }

    /// Has the row show the line. On a terminal that is none for sure nothing is shown before something is typed.
    fn refresh(&mut self) {
        let known = matches!(self.terminal, Terminal::Known { .. });
        let next = match &self.mode {
            Mode::Search(wanted, nth) => {
                let found =
                    self.history.find(wanted, *nth).filter(|_| !wanted.is_empty()).unwrap_or_default();
                Row::new(&format!("(search `{wanted}`) "), found, found.len(), self.columns())
            }
            Mode::Line if known || !self.line.text().is_empty() || self.row != Row::default() => {
                Row::new(&self.prompt(), self.line.text(), self.line.cursor(), self.columns())
            }
            _ => return,
        };
        self.row.become_row(next, &mut self.out);
    }

    fn prompt(&self) -> String {
        let name: String = self.hostname.chars().take(24).collect();
        match (self.place, &self.candidate) {
            (Place::Configure, Some(candidate)) if candidate.text != candidate.base => {
                format!("{name}* configure> ")
            }
            (Place::Configure, _) => format!("{name} configure> "),
            _ => format!("{name}> "),
        }
    }

    fn columns(&self) -> usize {
        match self.terminal {
            Terminal::Known { columns, .. } => columns.max(40).into(),
            _ => COLUMNS.into(),
        }
    }

    fn heard_of_terminal(&mut self, rows: u16, columns: u16, now_ms: u64) {
        if let Mode::Dashboard(dashboard) = &mut self.mode {
            dashboard.heard(rows, columns, now_ms);
        }
        if !matches!(self.terminal, Terminal::Known { .. }) {
            self.out.push_str(MARK_PASTES);
        }
        self.terminal = Terminal::Known { rows, columns };
        self.refresh();
    }

    fn refuse(&mut self) {
        self.out.push('\x07');
        if !core::mem::replace(&mut self.refused, true) {
            self.end_row();
            self.out.push_str(
                "a line takes ASCII alone; other characters are for texts that are pasted: `load`\n",
            );
        }
    }

    fn enter_dashboard(&mut self, now_ms: u64, router: &mut dyn Router) {
        let Terminal::Known { rows, columns } = self.terminal else {
            self.out
                .push_str("this terminal does not say how large it is, so there is no idle screen on it\n");
            return;
        };
        let mut dashboard = Dashboard::new(rows, columns, now_ms, &mut self.out);
        dashboard.draw(now_ms, router, &mut self.out);
        self.mode = Mode::Dashboard(dashboard);
        self.row = Row::default();
    }

    fn leave_dashboard(&mut self) {
        Dashboard::leave(&mut self.out);
        self.mode = Mode::Line;
    }

    fn choices(&self, router: &dyn Router) -> Choices {
        let interfaces = names(&router.interfaces());
        parse::choices(self.line.before(), self.context(&interfaces))
    }

    fn context<'a>(&'a self, interfaces: &'a [String]) -> Context<'a> {
        let candidate = self.candidate.as_ref().map_or("", |candidate| candidate.text.as_str());
        Context { place: self.place, interfaces, candidate }
    }

    fn complete(&mut self, router: &dyn Router) {
        let choices = self.choices(router);
        let typed = self.line.before().get(choices.start..).unwrap_or_default().to_string();
        let common = common(&choices);
        match (choices.words.as_slice(), common.strip_prefix(typed.as_str())) {
            ([_], Some(rest)) => {
                let rest = format!("{rest} ");
                self.line.insert_str(&rest);
            }
            ([_, _, ..], Some(rest)) if !rest.is_empty() => {
                let rest = rest.to_string();
                self.line.insert_str(&rest);
            }
            ([], _) if choices.hints.is_empty() => self.out.push('\x07'),
            _ => {
                self.end_row();
                let mut column = 0;
                let hints = choices.hints.iter().map(|(name, _)| name);
                for word in choices.words.iter().map(|(word, _)| word).chain(hints) {
                    if column > 0 && column + word.len() + 2 >= self.columns() {
                        self.out.push('\n');
                        column = 0;
                    }
                    let gap = if column > 0 { "  " } else { "" };
                    self.out.push_str(gap);
                    self.out.push_str(word);
                    column += gap.len() + word.len();
                }
                self.out.push('\n');
            }
        }
    }

    fn help(&mut self, router: &dyn Router) {
        let choices = self.choices(router);
        self.end_row();
        let end = choices.whole.then(|| ("<Enter>".to_string(), String::new()));
        let lines: Vec<&(String, String)> = choices.words.iter().chain(&choices.hints).chain(&end).collect();
        let width = lines.iter().map(|(word, _)| word.len()).max().unwrap_or(0);
        for (word, help) in &lines {
            let line = format!("  {word:<width$}  {help}");
            self.out.push_str(line.trim_end());
            self.out.push('\n');
        }
        if lines.is_empty() {
            self.out.push_str("  nothing can come here\n");
        }
    }

    fn pasted(&mut self, ended: Ended, purpose: Purpose, router: &mut dyn Router) {
        let thing = if purpose == Purpose::Load { "candidate" } else { "configuration" };
        match ended {
            Ended::GivenUp => self.out.push_str(&format!("given up; the {thing} is as it was\n")),
            Ended::TooLong(longest) => self.out.push_str(&format!(
                "too long, at most {longest} bytes can be read; the {thing} is as it was\n"
            )),
            Ended::Whole(text) if purpose == Purpose::Replace => self.replaced(router.replace(&text)),
            Ended::Whole(text) => match String::from_utf8(text) {
                Ok(text) => {
                    let lines = text.lines().count();
                    self.candidate_of(router).text = text;
                    self.out
                        .push_str(&format!("the candidate is replaced: {lines} lines; `check` reads them\n"));
                }
                Err(error) => {
                    let at = error.utf8_error().valid_up_to();
                    let line = 1 + error.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count();
                    self.out.push_str(&format!("not UTF-8 in line {line}; the candidate is as it was\n"));
                }
            },
        }
    }
}

fn names(interfaces: &[Interface]) -> Vec<String> {
    interfaces.iter().map(|interface| interface.name.clone()).collect()
}

fn in_quotes(line: &str) -> bool {
    line.matches('"').count() % 2 == 1
}

/// What all the words begin with.
fn common(choices: &Choices) -> String {
    let Some(((first, _), others)) = choices.words.split_first() else { return String::new() };
    let mut length = first.len();
    for (word, _) in others {
        let alike = first.bytes().zip(word.bytes()).take_while(|(a, b)| a == b).count();
        length = length.min(alike);
    }
    first.get(..first.floor_char_boundary(length)).unwrap_or_default().into()
}
