//! The router's configuration: TOML text in, a whole and checked [`Config`] out, or every error found.
//! Called with what a source has, at boot and at run time, and by `weir-check` on the host. Pure: no I/O, no clock.
//!
//! The steps are `read` (one section at a time), then `check` (what sections say about each other);
//! `docs/configuration.md` describes every key.

mod check;
pub mod command_line;
mod errors;
mod gateways;
mod keys;
mod read;
mod routes;
mod services;
#[cfg(test)]
mod tests;
mod tokens;
mod types;
mod value;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use core::str;

use toml::de::DeTable;
use toml_parser::Source;
use toml_parser::lexer::TokenKind;
use weir_manage::nesting;

pub use errors::{Error, Errors, InFile, Note};
pub use types::{
    Attachment, Config, Host, Interface, Learn, Match, NextHop, Reject, ReversePathFilter, Route, SourceText,
    Steering, Syslog, Target, Token,
};

use errors::{Finding, Report};

/// Longest configuration text, in bytes.
pub const MAX_BYTES: usize = 64 << 20;
/// Most tokens of the API.
pub const MAX_TOKENS: usize = weir_manage::token::MOST_TOKENS;
/// Most interfaces of one router.
pub const MAX_INTERFACES: usize = 256;
/// Of these, most with a device of their own.
pub const MAX_DEVICES: usize = 64;
/// Most addresses of one interface, both families together.
pub const MAX_ADDRESSES: usize = 32;
/// Most destinations of static routes, both families together.
pub const MAX_ROUTES: usize = 2_000_000;
/// Most next hops of one route.
pub const MAX_NEXT_HOPS: usize = weir_netstack::snapshot::MAX_MEMBERS;
/// Most servers of `[dns]`, and of `[ntp]`.
pub const MAX_SERVERS: usize = 8;
/// Most servers that the log goes to.
pub const MAX_SYSLOG: usize = 4;
/// Most errors one parse reports; the rest is counted.
pub const MAX_ERRORS: usize = 20;
/// Bytes of memory that each byte of a text takes, at the least, while it is read and put in force.
pub const APPETITE: u64 = 20;

/// Bytes of memory that reading `text` and putting it in force take for a moment, at the most.
pub fn appetite(text: &[u8]) -> u64 {
    // What TOML's values take beside the text, its tables, and each of its errors.
    const TOKEN: u64 = 112;
    const TABLE: u64 = 1280;
    const ERROR: u64 = 160;
    let text = str::from_utf8(text).unwrap_or_default();
    let opens = [TokenKind::Dot, TokenKind::LeftSquareBracket, TokenKind::LeftCurlyBracket];
    let (mut tokens, mut tables) = (0, 0);
    for token in Source::new(text).lex() {
        tokens += 1;
        tables += u64::from(opens.contains(&token.kind()));
    }
    let errors = tokens.min(MANY_TOKENS as u64);
    text.len() as u64 * APPETITE + tokens * TOKEN + tables * TABLE + errors * ERROR
}

/// Words and signs from which on a text that is not TOML yields its first error alone: each could be one.
const MANY_TOKENS: usize = 8192;

/// The longest text that may be worth fetching with `free` bytes of memory.
pub fn longest(free: u64) -> usize {
    MAX_BYTES.min((free / APPETITE) as usize)
}

impl Config {
    /// [`parse`](Self::parse) for the console: what is wrong is said under the name that the text goes by. A text that
    /// `free` bytes of memory do not suffice for is not begun.
    ///
    /// # Errors
    /// What is wrong, as text of whole lines.
    pub fn read(text: &[u8], name: &str, free: u64) -> Result<Config, String> {
        let needed = if text.len() > MAX_BYTES { 0 } else { appetite(text) };
        if needed > free {
            let (bytes, needed, free) = (text.len(), needed.div_ceil(1 << 20), free >> 20);
            return Err(format!(
                "{name}: {bytes} bytes take up to {needed} MiB to read and {free} MiB are free: give the machine more memory\n"
            ));
        }
        Self::parse(text).map_err(|errors| errors.in_file(name).to_string())
    }

    /// Reads and checks a configuration: TOML in UTF-8.
    ///
    /// # Errors
    /// All that is wrong with the text in order of position, the first [`MAX_ERRORS`] of it. A text that is not
    /// TOML yields its syntax errors alone, a long one the first of them: the meaning of what cannot be read is guesswork.
    pub fn parse(text: &[u8]) -> Result<Config, Errors> {
        let mut report = Report::new();
        let text = decode(text, &mut report).map_err(|shown| report.take(shown))?;
        let root = syntax(text, &mut report).ok_or_else(|| report.take(text))?;
        let draft = read::read(root.get_ref(), &mut report);
        let config = check::check(draft, &mut report);
        match config {
            Some(config) if report.is_empty() => Ok(Config { text: SourceText(text.into()), ..config }),
            _ => Err(report.take(text)),
        }
    }
}

/// The text as UTF-8 within its size limit; otherwise the part of it that errors can show.
fn decode<'t>(bytes: &'t [u8], report: &mut Report) -> Result<&'t str, &'t str> {
    if bytes.len() > MAX_BYTES {
        report.add(Finding::whole(format!(
            "the configuration is too long, expected at most {MAX_BYTES} bytes"
        )));
        return Err("");
    }
    str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let message = format!("not UTF-8: found the byte 0x{:02x}", bytes[at]);
        report.add(Finding::at(at..at, "", message).help("save the file as UTF-8 text"));
        // Show the line up to the offending byte: what follows it cannot be shown.
        str::from_utf8(&bytes[..at]).unwrap_or_default()
    })
}

fn syntax<'t>(text: &'t str, report: &mut Report) -> Option<toml::Spanned<DeTable<'t>>> {
    if let Err((at, message)) = nesting::check(text) {
        report.add(Finding::at(at, "", message));
        return None;
    }
    let root = match DeTable::parse(text) {
        Ok(root) => root,
        Err(first) => {
            // Again, this time for all errors: the fast path keeps one.
            let all = match Source::new(text).lex().nth(MANY_TOKENS) {
                None => DeTable::parse_recoverable(text).1,
                Some(_) => vec![first],
            };
            all.iter().for_each(|error| report.add(syntax_finding(text, error)));
            return None;
        }
    };
    if root.get_ref().is_empty() {
        let help = "the least is a section [interface.NAME] with match = { port = 0 }";
        report.add(Finding::whole("the configuration is empty").help(help));
        return None;
    }
    Some(root)
}

fn syntax_finding(text: &str, error: &toml::de::Error) -> Finding {
    let span = error.span().unwrap_or(text.len()..text.len());
    let unquoted = error.message().starts_with("string values must be quoted");
    let word = word_around(text, span.start);
    let finding = Finding::at(span, "", format!("not valid TOML: {}", error.message()));
    // To TOML an address without quotes is a strange time or number, which helps nobody.
    match unquoted || value::is_address(word) {
        true => finding.help(format!("texts are written in quotes: {}", errors::quoted(word))),
        false => finding,
    }
}

/// The run of characters around `at` that no delimiter of TOML interrupts, as far as an address is long.
fn word_around(text: &str, at: usize) -> &str {
    const LONGEST: usize = 64;
    let inside = |c: char| !c.is_whitespace() && !['=', ',', '[', ']', '{', '}', '"', '\'', '#'].contains(&c);
    let length = |c: char| c.len_utf8();
    let (before, after) = text.split_at(text.floor_char_boundary(at));
    let back: usize = before.chars().rev().take(LONGEST).take_while(|&c| inside(c)).map(length).sum();
    let on: usize = after.chars().take(LONGEST).take_while(|&c| inside(c)).map(length).sum();
    &text[before.len() - back..before.len() + on]
}
