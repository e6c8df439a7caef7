//! A configuration as words of the kernel's command line: `weir.interface.lan.mtu=1400`. Each word becomes a
//! line of TOML, which is read and checked like any other text; errors come back by word.

use super::errors::quoted;
use super::{Config, Error};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use weir_machine::start_info::MAX_COMMAND_LINE;

const PREFIX: &str = "weir.";
/// What errors call the source.
pub const NAME: &str = "command line";
/// How a router with one interface is written, for who wrote none of it.
pub const EXAMPLE: &str = "weir.interface.lan.match.port=0 weir.interface.lan.addresses=10.0.0.1/24";

const NUMBERS: [&str; 5] = ["mtu", "port", "metric", "vlan", "weight"];
const SWITCHES: [&str; 3] = ["router-advertisement", "management", "enabled"];
const LISTS: [&str; 2] = ["addresses", "servers"];

/// The words of a kernel command line that are a configuration's.
pub fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_ascii_whitespace().filter(|word| word.starts_with(PREFIX))
}

impl Config {
    /// Reads and checks the configuration on a kernel command line; `None` if no word of it begins with
    /// `weir.`. `is_cut`: it had [`MAX_COMMAND_LINE`] bytes or more, and what is behind them did not arrive.
    ///
    /// # Errors
    /// All that is wrong with the words, as text for the console.
    pub fn from_command_line(line: &str, is_cut: bool) -> Option<Result<Config, String>> {
        words(line).next()?;
        if is_cut {
            let why =
                format!("{NAME}: error: longer than {} bytes: what follows is lost\n", MAX_COMMAND_LINE - 1);
            return Some(Err(why + "1 error\n"));
        }
        Some(Draft::new(line).read())
    }
}

/// A text and the words that its lines come from.
#[derive(Default)]
struct Draft<'a> {
    toml: String,
    /// The word of each line; `None` for the brackets around the routes.
    lines: Vec<Option<&'a str>>,
    /// What is wrong before it is TOML.
    wrong: Vec<(&'a str, String)>,
}

impl<'a> Draft<'a> {
    fn new(line: &'a str) -> Self {
        let mut draft = Draft::default();
        let mut keys = BTreeSet::new();
        let mut routes = Vec::new();
        for word in words(line) {
            let setting = word.strip_prefix(PREFIX).unwrap_or_default();
            let Some((key, value)) = setting.split_once('=') else {
                draft.wrong.push((word, "found no value, expected weir.KEY=VALUE".into()));
                continue;
            };
            let line = match key {
                "route" => {
                    match route(value) {
                        Ok(line) => routes.push((word, line)),
                        Err(wrong) => draft.wrong.push((word, wrong)),
                    }
                    continue;
                }
                _ if !keys.insert(key) => Err("given twice, expected once".to_string()),
                _ => setting_line(key, value),
            };
            match line {
                Ok(line) => draft.push(Some(word), &line),
                Err(wrong) => draft.wrong.push((word, wrong)),
            }
        }
        if !routes.is_empty() {
            draft.push(None, "route = [");
            routes.iter().for_each(|(word, line)| draft.push(Some(*word), line));
            draft.push(None, "]");
        }
        draft
    }

    fn push(&mut self, word: Option<&'a str>, line: &str) {
        self.toml.push_str(line);
        self.toml.push('\n');
        self.lines.push(word);
    }

    fn read(self) -> Result<Config, String> {
        let mut report = Report::default();
        if !self.wrong.is_empty() {
            self.wrong.iter().for_each(|(word, wrong)| report.add(Some(word), wrong, None));
            return Err(report.end(0));
        }
        Config::parse(self.toml.as_bytes()).map_err(|errors| {
            errors.iter().for_each(|error| self.report(error, &mut report));
            report.end(errors.omitted())
        })
    }

    fn report(&self, error: &Error, report: &mut Report) {
        // An error of the text as a whole is no word's.
        let whole = error.key.is_empty() && error.span.is_empty();
        let word = |line: usize| self.lines.get(line.saturating_sub(1)).copied().flatten().filter(|_| !whole);
        let mut message = match error.key.as_str() {
            "" => error.message.clone(),
            key => format!("{key}: {}", error.message),
        };
        if let Some((note, other)) = error.note.as_ref().and_then(|note| Some((note, word(note.line)?))) {
            let _ = write!(message, "; {}: {}", note.message, shown(other));
        }
        report.add(word(error.line), &message, help(error).as_deref());
    }
}

/// How to cure it, in words of a command line. What only helps to write TOML is left out.
fn help(error: &Error) -> Option<String> {
    let help = error.help.as_deref()?;
    if error.key.ends_with(".match") {
        return Some(format!("add weir.{0}.port=0 or weir.{0}.mac=52:54:00:00:00:01", error.key));
    }
    if error.key.is_empty() {
        return Some(format!("the least is {EXAMPLE}"));
    }
    let is_toml = help.contains(['=', '[', '{']) || help.contains("quotes") || help.contains("section");
    (!is_toml).then(|| help.to_string())
}

/// Errors as they are shown.
#[derive(Default)]
struct Report {
    text: String,
    count: usize,
}

impl Report {
    fn add(&mut self, word: Option<&str>, message: &str, help: Option<&str>) {
        // Writing to a String cannot fail.
        let _ = match word {
            Some(word) => writeln!(self.text, "{NAME}: {}: error: {message}", shown(word)),
            None => writeln!(self.text, "{NAME}: error: {message}"),
        };
        if let Some(help) = help {
            let _ = writeln!(self.text, "  = help: {help}");
        }
        self.count += 1;
    }

    fn end(mut self, omitted: usize) -> String {
        let _ = match (self.count, omitted) {
            (1, 0) => writeln!(self.text, "1 error"),
            (count, 0) => writeln!(self.text, "{count} errors"),
            (count, omitted) => {
                writeln!(self.text, "{} errors, the first {count} are shown", count + omitted)
            }
        };
        self.text
    }
}

/// A word as a console may show it.
pub fn shown(word: &str) -> String {
    const LONGEST: usize = 70;
    let start: String = word
        .chars()
        .take(LONGEST)
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if word.chars().nth(LONGEST).is_some() { start + "..." } else { start }
}

/// The line of TOML for a setting that is no route.
fn setting_line(key: &str, value: &str) -> Result<String, String> {
    let Some(rest) = key.strip_prefix("interface.") else {
        return match key {
            "dns.servers" | "ntp.servers" => Ok(format!("{key} = {}", typed("servers", value))),
            "interface" => Err("found no name, expected weir.interface.NAME.KEY=VALUE".into()),
            _ => Ok(format!("{} = {}", text(key), typed(key, value))),
        };
    };
    let Some((name, last)) = rest.rsplit_once('.') else {
        let found = quoted(rest);
        return Err(format!("found {found} and no key, expected weir.interface.NAME.KEY=VALUE"));
    };
    // A name may have dots in it; keys have none but these two.
    match name.strip_suffix(".match").or(if name == "match" { Some("") } else { None }) {
        Some(name) if last == "mac" || last == "port" => {
            Ok(format!("interface.{}.match.{last} = {}", text(name), typed(last, value)))
        }
        _ if last == "match" => Err(format!(
            "found no key below match, expected weir.interface.{name}.match.port=0 or .match.mac=..."
        )),
        _ => Ok(format!("interface.{}.{} = {}", text(name), text(last), typed(last, value))),
    }
}

/// The line of TOML for a route: its destination, then `key=value`, all apart by commas.
fn route(value: &str) -> Result<String, String> {
    const EXPECTED: &str =
        "expected weir.route=DESTINATION,KEY=VALUE such as weir.route=0.0.0.0/0,via=10.0.0.254";
    let mut parts = value.split(',');
    let mut line = format!("{{ to = {}", text(parts.next().unwrap_or_default()));
    let mut keys = BTreeSet::new();
    keys.insert("to");
    for part in parts {
        let Some((key, value)) = part.split_once('=') else {
            return Err(format!("found {}, {EXPECTED}", quoted(part)));
        };
        if !keys.insert(key) {
            return Err(format!("{} is given twice, {EXPECTED}", quoted(key)));
        }
        let _ = write!(line, ", {} = {}", text(key), typed(key, value));
    }
    Ok(line + " },")
}

/// A value of `key` in TOML. What is not of the key's type stays a text, which the checks then name as found.
fn typed(key: &str, value: &str) -> String {
    let is_number = || value == "0" || value.bytes().all(|b| b.is_ascii_digit()) && !value.starts_with('0');
    match key {
        key if LISTS.contains(&key) => {
            let items: Vec<String> = value.split(',').map(text).collect();
            format!("[{}]", items.join(", "))
        }
        key if NUMBERS.contains(&key) && !value.is_empty() && value.len() < 20 && is_number() => value.into(),
        key if SWITCHES.contains(&key) && matches!(value, "true" | "false") => value.into(),
        _ => text(value),
    }
}

/// A basic string of TOML: whatever the text is, it stays on its line.
fn text(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;
