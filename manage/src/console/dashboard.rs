//! The idle screen: what the router is called, its addresses and rates, its page, and what waits to be confirmed.
//! Drawn with VT100's sequences on the terminal's second screen, and only while the terminal says that it is there.

use super::{ASK_SIZE, Router};
use crate::model::{Interface, InterfaceState};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

/// How often it is drawn.
const EVERY_MS: u64 = 2000;
/// How often the terminal is asked whether it is there.
const ASK_MS: u64 = 10_000;

/// The idle screen on a terminal.
#[derive(Debug)]
pub(super) struct Dashboard {
    rows: usize,
    columns: usize,
    /// What its rows show.
    shown: Vec<String>,
    due: u64,
    ask_at: u64,
    /// When the terminal was asked and has not answered.
    asked_at: Option<u64>,
    /// When counters were read last, and what they were.
    before: Option<(u64, Vec<Interface>)>,
}

impl Dashboard {
    pub(super) fn new(rows: u16, columns: u16, now_ms: u64, out: &mut String) -> Self {
        // The second screen, without a cursor.
        out.push_str("\x1b[?1049h\x1b[?25l\x1b[2J");
        Self {
            rows: rows.max(1).into(),
            columns: columns.max(1).into(),
            shown: Vec::new(),
            due: now_ms,
            ask_at: now_ms + ASK_MS,
            asked_at: None,
            before: None,
        }
    }

    pub(super) fn leave(out: &mut String) {
        // Back on the first screen, at the begin of the row that the line was in.
        out.push_str("\x1b[?25h\x1b[?1049l\r\x1b[K");
    }

    pub(super) fn due(&self) -> u64 {
        self.due
    }

    /// Whether the terminal did not answer.
    pub(super) fn is_forsaken(&self, now_ms: u64) -> bool {
        self.asked_at.is_some_and(|at| now_ms >= at + ASK_MS)
    }

    pub(super) fn heard(&mut self, rows: u16, columns: u16, _now_ms: u64) {
        let size = (usize::from(rows.max(1)), usize::from(columns.max(1)));
        if size != (self.rows, self.columns) {
            (self.rows, self.columns) = size;
            self.shown.clear();
        }
        self.asked_at = None;
    }

    /// Draws the rows that changed.
    pub(super) fn draw(&mut self, now_ms: u64, router: &dyn Router, out: &mut String) {
        self.due = now_ms + EVERY_MS;
        let interfaces = router.interfaces();
        let before = self.before.take();
        let rates = Rates { before: before.as_ref(), now_ms };
        let mut rows = rows(router, &interfaces, &rates, self.columns);
        rows.truncate(self.rows);
        self.before = Some((now_ms, interfaces));
        if self.shown.is_empty() {
            out.push_str("\x1b[2J");
        }
        for at in 0..rows.len().max(self.shown.len()) {
            let text: String =
                rows.get(at).map(|row| row.chars().take(self.columns).collect()).unwrap_or_default();
            if self.shown.get(at) != Some(&text) {
                let _ = write!(out, "\x1b[{};1H{text}\x1b[K", at + 1);
            }
            if let Some(row) = rows.get_mut(at) {
                *row = text;
            }
        }
        self.shown = rows;
        if now_ms >= self.ask_at {
            self.ask_at = now_ms + ASK_MS;
            self.asked_at.get_or_insert(now_ms);
            out.push_str(ASK_SIZE);
        }
    }
}

/// What passes in a second, from two readings.
struct Rates<'a> {
    before: Option<&'a (u64, Vec<Interface>)>,
    now_ms: u64,
}

impl Rates<'_> {
    /// Of a counter of an interface; `None` without an earlier reading.
    fn of(&self, interface: &Interface, counter: fn(&Interface) -> u64) -> Option<u64> {
        let (at, interfaces) = self.before?;
        let before = interfaces.iter().find(|before| before.name == interface.name)?;
        let grown = counter(interface).checked_sub(counter(before))?;
        let ms = self.now_ms.checked_sub(*at).filter(|&ms| ms > 0)?;
        Some((u128::from(grown) * 1000 / u128::from(ms)).try_into().unwrap_or(u64::MAX))
    }

    fn bits(&self, interface: &Interface, bytes: fn(&Interface) -> u64) -> String {
        self.of(interface, bytes)
            .map_or("-".into(), |rate| format!("{}bit/s", scaled(rate.saturating_mul(8))))
    }
}

/// A number with the unit's prefix: `12.3 M`.
fn scaled(number: u64) -> String {
    for (unit, prefix) in [(1_000_000_000, 'G'), (1_000_000, 'M'), (1000, 'k')] {
        if number >= unit {
            return format!("{}.{} {prefix}", number / unit, number % unit / (unit / 10));
        }
    }
    format!("{number} ")
}

fn rows(router: &dyn Router, interfaces: &[Interface], rates: &Rates<'_>, columns: usize) -> Vec<String> {
    let status = router.status();
    let seconds = status.uptime_ms / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let days = if days > 0 { format!("{days} d ") } else { String::new() };
    let up = format!("up {days}{hours}:{minutes:02}:{:02}", seconds % 60);
    let mut rows = Vec::from([
        format!("  {}   Weir {} on {}   {up}", status.hostname, status.version, status.platform),
        String::new(),
        format!("  {:<15} {:<8} {:>14} {:>14} {:>9}", "interface", "state", "in", "out", "lost/s"),
    ]);
    for interface in interfaces {
        let lost =
            rates.of(interface, |interface| interface.dropped).map_or("-".into(), |rate| rate.to_string());
        let state = match interface.state {
            InterfaceState::Up => "up".to_string(),
            state => state.word().to_ascii_uppercase(),
        };
        rows.push(format!(
            "  {:<15} {state:<8} {:>14} {:>14} {lost:>9}",
            interface.name,
            rates.bits(interface, |interface| interface.rx_bytes),
            rates.bits(interface, |interface| interface.tx_bytes),
        ));
        list(&interface.addresses, "    ", columns, &mut rows);
    }
    if interfaces.is_empty() {
        rows.push("  no interface is configured".into());
    }
    rows.push(String::new());
    let used = |all: u64, free: u64| (all.saturating_sub(free) * 100).checked_div(all).unwrap_or(0);
    rows.push(format!(
        "  CPUs {}, memory {} % of {} MiB used, packet buffers {} % of {}",
        status.cpus,
        used(status.memory_bytes, status.memory_free_bytes),
        status.memory_bytes >> 20,
        used(status.buffers, status.buffers_free),
        status.buffers,
    ));
    let place = status.configuration.as_deref().unwrap_or("nowhere: none is in force");
    rows.push(format!("  configuration from {place}"));
    if let Some(left) = router.unconfirmed_ms() {
        rows.push(format!(
            "  NOT CONFIRMED: it is taken back in {} s unless you type `confirm`",
            left.div_ceil(1000)
        ));
    }
    list(&router.pages(), "  page at ", columns, &mut rows);
    rows.push(String::new());
    rows.push("  any key leads to the command line; `help` lists what there is".into());
    rows
}

/// `words` behind `head`, in as many rows as they need.
fn list(words: &[String], head: &str, columns: usize, rows: &mut Vec<String>) {
    let mut row = String::from(head);
    for word in words {
        if row.len() > head.len() && row.len() + word.len() + 2 > columns {
            let next = " ".repeat(head.len());
            rows.push(core::mem::replace(&mut row, next));
        }
        let gap = if row.len() > head.len() { "  " } else { "" };
        row.push_str(gap);
        row.push_str(word);
    }
    if !words.is_empty() {
        rows.push(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [0, 999, 1000, 12_345, 1_234_567, 9_876_543_210].map(scaled);
        assert_eq!(shown, ["0 ", "999 ", "1.0 k", "12.3 k", "1.2 M", "9.8 G"]);
    }
}
