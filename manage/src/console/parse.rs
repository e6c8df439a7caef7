//! A line against the grammar: the command that it is, what is wrong with it, or what could come next.

use super::grammar::{Argument, COMMANDS, Command, Filters, Item, Kind, Place, WHOLE};
use super::near::nearest;
use super::setting;
use crate::capture::{DIRECTIONS, directions};
use crate::explain;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

/// A line that was understood.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The command.
    pub command: &'static Command,
    /// What the operator chose, by the argument's name; words that are typed as they are stand for themselves.
    pub arguments: Vec<(&'static str, String)>,
    /// Whether JSON is wanted.
    pub json: bool,
    /// Lines without this are not wanted.
    pub pattern: Option<String>,
}

impl Parsed {
    /// What was chosen for an argument.
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.arguments.iter().find(|(known, _)| *known == name).map(|(_, text)| text.as_str())
    }

    /// Whether this word was typed.
    pub fn says(&self, word: &str) -> bool {
        self.argument(word).is_some()
    }

    /// A number that was chosen for an argument.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.argument(name)?.parse().ok()
    }
}

/// What a parser needs to know of the router.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// [`Place::Configure`] or [`Place::Operate`].
    pub place: Place,
    /// Names of interfaces.
    pub interfaces: &'a [String],
    /// The text being edited.
    pub candidate: &'a str,
}

/// What could come at the cursor.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Choices {
    /// Where the word begins that is being typed.
    pub start: usize,
    /// Words that it could be, and what they say.
    pub words: Vec<(String, String)>,
    /// What else it could be, in words of the help.
    pub hints: Vec<(String, String)>,
    /// Whether the line could end here.
    pub whole: bool,
}

/// A word of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token<'l> {
    /// Where it begins.
    pub start: usize,
    /// Without its quotes.
    pub text: &'l str,
    /// It had some: it is no word of a command.
    pub quoted: bool,
}

impl Token<'_> {
    /// What is behind it filters the answer.
    fn is_bar(&self) -> bool {
        self.text == "|" && !self.quoted
    }
}

/// The words of a line. Blanks in quotes are part of a word; a quote that is not closed goes to the end.
pub fn tokens(line: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(blanks) = line.get(at..).and_then(|rest| rest.find(|c: char| !c.is_ascii_whitespace())) {
        let start = at + blanks;
        let rest = line.get(start..).unwrap_or_default();
        let (skip, end) = match rest.strip_prefix('"') {
            Some(inner) => (1, inner.find('"').map_or(rest.len(), |end| end + 1)),
            None => (0, rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len())),
        };
        tokens.push(Token { start, text: rest.get(skip..end).unwrap_or_default(), quoted: skip > 0 });
        at = start + end + skip;
    }
    tokens
}

/// What a command is read with: where in its syntax it is.
#[derive(Clone, Debug)]
struct Thread {
    command: &'static Command,
    items: Vec<Item>,
    at: usize,
    arguments: Vec<(&'static str, String)>,
}

impl Thread {
    /// This, and what it is if what may be left out is.
    fn branches(self) -> Vec<Thread> {
        let mut open = Vec::from([self]);
        let mut done = Vec::new();
        while let Some(mut thread) = open.pop() {
            match thread.items.get(thread.at).copied() {
                Some(Item::Open(length)) => {
                    let begin = match thread.items.get(thread.at + 1) {
                        Some(Item::Word(word)) => word,
                        Some(Item::Argument(argument)) => argument.name,
                        _ => "",
                    };
                    let was_there = thread.arguments.iter().any(|(name, _)| *name == begin);
                    open.push(Thread { at: thread.at + length + 1, ..thread.clone() });
                    if !was_there {
                        thread.at += 1;
                        open.push(thread);
                    }
                }
                Some(Item::Close(first)) => {
                    thread.at = first;
                    open.push(thread);
                }
                _ => done.push(thread),
            }
        }
        done
    }

    fn item(&self) -> Option<Item> {
        self.items.get(self.at).copied()
    }

    fn past(mut self, chosen: (&'static str, &str)) -> Vec<Thread> {
        self.at += 1;
        self.arguments.push((chosen.0, chosen.1.into()));
        self.branches()
    }
}

fn threads(place: Place) -> Vec<Thread> {
    let here = |command: &&Command| command.place == Place::Anywhere || command.place == place;
    let thread =
        |command: &'static Command| Thread { command, items: command.items(), at: 0, arguments: Vec::new() };
    COMMANDS.iter().filter(here).flat_map(|command| thread(command).branches()).collect()
}

/// Understands a line that is not empty.
///
/// # Errors
/// What is wrong, in one line: which word, what was expected, what is near.
pub fn parse(line: &str, context: Context<'_>) -> Result<Parsed, String> {
    parse_at(line, context).map_err(|(_, wrong)| wrong)
}

/// The same.
///
/// # Errors
/// In front of what is wrong, the byte at which that begins.
pub fn parse_at(line: &str, context: Context<'_>) -> Result<Parsed, (usize, String)> {
    let tokens = tokens(line);
    let mut threads = threads(context.place);
    let mut tokens = tokens.as_slice();
    let mut shadowed = None;
    while let [token, rest @ ..] = tokens {
        if token.is_bar() {
            break;
        }
        if let Some(thread) = setting_of(&threads) {
            let (thread, argument) = (thread.clone(), thread_argument(thread));
            let rest = line.get(token.start..).unwrap_or_default();
            let arguments = Vec::from([(argument.name, rest.to_string())]);
            return Ok(Parsed { command: thread.command, arguments, json: false, pattern: None });
        }
        let next = shadow(&threads, token, context);
        threads = step(threads, token, context).map_err(|wrong| match shadowed {
            Some((name, word)) => {
                (token.start, format!("{wrong}; `{name}` is the interface here, not short for `{word}`"))
            }
            None => (token.start, wrong),
        })?;
        shadowed = next;
        tokens = rest;
    }
    let end = tokens.first().map_or(line.len(), |token| token.start);
    let Some(thread) = threads.iter().find(|thread| thread.item().is_none()) else {
        let expected = list(&threads);
        let wrong = match line.split_ascii_whitespace().next() {
            None | Some("|") => "there is no command".into(),
            Some(_) => format!("there is more to say after `{}`: {expected}", line_before(line, end)),
        };
        return Err((end, wrong));
    };
    let mut parsed =
        Parsed { command: thread.command, arguments: thread.arguments.clone(), json: false, pattern: None };
    filters(tokens, &mut parsed).map_err(|wrong| (end, wrong))?;
    Ok(parsed)
}

fn line_before(line: &str, end: usize) -> &str {
    line.get(..end).unwrap_or_default().trim()
}

/// The command that takes all the rest of the line, if it is to be read now.
fn setting_of(threads: &[Thread]) -> Option<&Thread> {
    threads.iter().find(|thread| {
        matches!(thread.item(), Some(Item::Argument(Argument { kind: Kind::Setting | Kind::Setting0, .. })))
    })
}

fn thread_argument(thread: &Thread) -> &'static Argument {
    match thread.item() {
        Some(Item::Argument(argument)) => argument,
        _ => &super::grammar::ARGUMENTS[0],
    }
}

/// What is left of `threads` after a word.
fn step(threads: Vec<Thread>, token: &Token<'_>, context: Context<'_>) -> Result<Vec<Thread>, String> {
    let word = token.text;
    let known = matching(&threads, token);
    let is_name = is_interface(&threads, word, context);
    let chosen = match (known.as_slice(), known.iter().find(|known| **known == word)) {
        (_, Some(exact)) if is_name => {
            let which = match short(&threads, exact, context) {
                Some(short) => format!("`{short}` is the word, `\"{word}\"` the interface"),
                None => format!("`\"{word}\"` is the interface, and nothing is short for the word alone"),
            };
            return Err(format!("`{word}` can be the word or the interface: {which}"));
        }
        (_, Some(exact)) => Some(*exact),
        ([], _) => None,
        _ if is_name => None,
        ([only], _) => Some(*only),
        (several, _) => {
            return Err(format!("`{word}` can be {}", alternatives(several.iter().copied())));
        }
    };
    if let Some(chosen) = chosen {
        if chosen != word && WHOLE.contains(&chosen) {
            return Err(format!("`{word}` is short for `{chosen}`, which is to be typed in full"));
        }
        let takes = |thread: &Thread| matches!(thread.item(), Some(Item::Word(known)) if known == chosen);
        return Ok(threads.into_iter().filter(takes).flat_map(|thread| thread.past((chosen, ""))).collect());
    }
    let mut wrong = None;
    let mut next = Vec::new();
    for thread in &threads {
        if let Some(Item::Argument(argument)) = thread.item() {
            match argument.check(word) {
                Ok(()) => next.extend(thread.clone().past((argument.name, word))),
                Err(why) => wrong = Some(why),
            }
        }
    }
    if !next.is_empty() {
        return Ok(next);
    }
    Err(wrong.unwrap_or_else(|| unknown(&threads, word, context)))
}

/// Whether an interface may come here, and is called so.
fn is_interface(threads: &[Thread], word: &str, context: Context<'_>) -> bool {
    let may_come = |thread: &Thread| {
        matches!(thread.item(), Some(Item::Argument(Argument { kind: Kind::Interface, .. })))
    };
    context.interfaces.iter().any(|name| name == word) && threads.iter().any(may_come)
}

/// The longest that is short for this word here, and for nothing else.
fn short(threads: &[Thread], word: &'static str, context: Context<'_>) -> Option<&'static str> {
    let mut shorter = (1..word.len()).rev().filter_map(|len| word.get(..len));
    shorter.find(|text| {
        let matching = matching(threads, &Token { start: 0, text, quoted: false });
        matching == [word] && !WHOLE.contains(&word) && !is_interface(threads, text, context)
    })
}

/// An interface's name that would be short for a word, and that word.
fn shadow<'l>(
    threads: &[Thread],
    token: &Token<'l>,
    context: Context<'_>,
) -> Option<(&'l str, &'static str)> {
    let word = matching(threads, token).first().copied()?;
    is_interface(threads, token.text, context).then_some((token.text, word))
}

/// The words that `token` is, or is the begin of.
fn matching(threads: &[Thread], token: &Token<'_>) -> Vec<&'static str> {
    let mut known: Vec<&'static str> = Vec::new();
    for thread in threads {
        if let Some(Item::Word(next)) = thread.item()
            && next.starts_with(token.text)
            && !token.quoted
            && !known.contains(&next)
        {
            known.push(next);
        }
    }
    known
}

fn unknown(threads: &[Thread], word: &str, context: Context<'_>) -> String {
    let next = |thread: &Thread| match thread.item() {
        Some(Item::Word(next)) => Some(next),
        _ => None,
    };
    let elsewhere = COMMANDS.iter().find(|command| {
        command.place != Place::Anywhere
            && command.place != context.place
            && command.syntax.split(' ').next() == Some(word)
    });
    let at_begin = threads.iter().all(|thread| thread.at == 0);
    match (elsewhere, nearest(word, threads.iter().filter_map(next))) {
        (Some(Command { place: Place::Configure, .. }), _) if at_begin => {
            format!("`{word}` changes the candidate: `configure` begins that")
        }
        (Some(_), _) if at_begin => format!("`{word}` is begun already: `exit` leaves it"),
        (_, Some(near)) => format!("unknown word `{word}`; did you mean `{near}`?"),
        _ if threads.iter().all(|thread| thread.item().is_none()) => {
            format!("`{word}` is too much: the command is whole before it")
        }
        _ if at_begin => format!("unknown word `{word}`; `help` lists what there is"),
        _ => format!("unknown word `{word}`; expected {}", list(threads)),
    }
}

/// What could come next, for an error.
fn list(threads: &[Thread]) -> String {
    let mut words: Vec<&str> = Vec::new();
    for thread in threads {
        let word = match thread.item() {
            Some(Item::Word(word)) => word,
            Some(Item::Argument(argument)) => argument.name,
            _ => continue,
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    match words.as_slice() {
        [] => "nothing".into(),
        words => alternatives(words.iter().copied()),
    }
}

fn alternatives<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    }
}

impl Argument {
    fn check(&self, word: &str) -> Result<(), String> {
        let right = match self.kind {
            Kind::Number(least, most) => {
                word.parse().is_ok_and(|number: u64| (least..=most).contains(&number))
            }
            Kind::Prefix => is_prefix(word),
            Kind::Host => {
                let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
                word.parse::<IpAddr>().is_ok()
                    || word.len() < 254 && word.starts_with(named) && word.chars().all(named)
            }
            Kind::Address => word.parse::<IpAddr>().is_ok(),
            Kind::Protocol => explain::protocol(word).is_some(),
            Kind::Frame => explain::frame(word).is_some(),
            Kind::Directions => directions(word).is_ok(),
            Kind::Interface | Kind::Text | Kind::Setting | Kind::Setting0 => true,
        };
        if right {
            Ok(())
        } else {
            Err(format!("`{word}` is not right; expected {}: {}", self.name, self.about))
        }
    }
}

fn is_prefix(word: &str) -> bool {
    let (address, length) =
        word.split_once('/').map_or((word, None), |(address, length)| (address, Some(length)));
    let parsed = (address.parse(), length.map(str::parse));
    matches!(
        parsed,
        (Ok(IpAddr::V4(_) | IpAddr::V6(_)), None)
            | (Ok(IpAddr::V4(_)), Some(Ok(0u8..=32)))
            | (Ok(IpAddr::V6(_)), Some(Ok(0..=128)))
    )
}

const FILTERS: [(&str, &str); 2] =
    [("json", "as JSON, with the same fields"), ("match", "lines alone that have TEXT in them")];

fn filters(tokens: &[Token<'_>], parsed: &mut Parsed) -> Result<(), String> {
    for filter in tokens.split(Token::is_bar).skip(1) {
        let words: Vec<&str> = filter.iter().map(|token| token.text).collect();
        match (words.as_slice(), parsed.command.filters) {
            (_, Filters::None) => return Err(format!("`{}` takes no filter", parsed.command.syntax)),
            (["json"], Filters::Json) => parsed.json = true,
            (["json"], _) => return Err(format!("`{}` has no form in JSON", parsed.command.syntax)),
            (["match", text], _) => parsed.pattern = Some((*text).into()),
            (["match"], _) => return Err("`| match` wants a text: `| match lan`".into()),
            (["match", ..], _) => {
                return Err("`| match` takes one text; one with blanks is written in quotes".into());
            }
            ([], _) => return Err("after `|` there is to be `json` or `match TEXT`".into()),
            ([other, ..], _) => {
                return Err(format!("unknown filter `{other}`; expected `json` or `match TEXT`"));
            }
        }
    }
    Ok(())
}

/// What could come at the end of `line`, which is what is before the cursor.
pub fn choices(line: &str, context: Context<'_>) -> Choices {
    let all = tokens(line);
    let typing = !line.is_empty() && !line.ends_with(|c: char| c.is_ascii_whitespace());
    let (word, before) = match all.split_last() {
        Some((last, before)) if typing => (*last, before),
        _ => (Token { start: line.len(), text: "", quoted: false }, all.as_slice()),
    };
    let mut threads = threads(context.place);
    for (at, token) in before.iter().enumerate() {
        if token.is_bar() {
            return filter_choices(before.get(at..).unwrap_or_default(), word, &threads);
        }
        if setting_of(&threads).is_some() {
            break;
        }
        match step(threads, token, context) {
            Ok(next) => threads = next,
            Err(_) => return Choices { start: word.start, ..Choices::default() },
        }
    }
    if let Some(thread) = setting_of(&threads) {
        let first = before.get(thread.at).map_or(word.start, |token| token.start);
        let values = thread_argument(thread).kind == Kind::Setting;
        return setting::choices(line, first, values, context);
    }
    let mut found = Choices { start: word.start, whole: word.text.is_empty(), ..Choices::default() };
    found.whole &= threads.iter().any(|thread| thread.item().is_none());
    for thread in &threads {
        match thread.item() {
            Some(Item::Word(next)) if next.starts_with(word.text) && !word.quoted => {
                let last = thread.items.len() == thread.at + 1
                    || matches!(thread.items.get(thread.at + 1), Some(Item::Open(_)));
                found.add(next, if last { thread.command.help } else { "" });
            }
            Some(Item::Argument(argument)) => {
                if argument.kind == Kind::Interface {
                    let names = context.interfaces.iter().filter(|name| name.starts_with(word.text));
                    names.for_each(|name| found.add(name, argument.about));
                }
                if argument.kind == Kind::Directions {
                    let ways = DIRECTIONS.iter().filter(|(way, _)| way.starts_with(word.text));
                    ways.for_each(|(way, _)| found.add(way, ""));
                }
                let hint = (argument.name.to_string(), argument.about.to_string());
                if !found.hints.contains(&hint) {
                    found.hints.push(hint);
                }
            }
            None if word.text.is_empty() && thread.command.filters != Filters::None => {
                found.add("|", "filters what it says")
            }
            _ => {}
        }
    }
    found
}

impl Choices {
    /// Adds a word that is not there; of two helps the first that says something counts.
    pub fn add(&mut self, word: &str, help: &str) {
        match self.words.iter_mut().find(|(known, _)| known == word) {
            Some((_, known)) if known.is_empty() => *known = help.into(),
            Some(_) => {}
            None => self.words.push((word.into(), help.into())),
        }
    }
}

fn filter_choices(before: &[Token<'_>], word: Token<'_>, threads: &[Thread]) -> Choices {
    let mut found = Choices { start: word.start, ..Choices::default() };
    let Some(command) = threads.iter().find(|thread| thread.item().is_none()).map(|thread| thread.command)
    else {
        return found;
    };
    let last = before.rsplit(Token::is_bar).next().unwrap_or_default();
    match last {
        [] => {
            let json = command.filters == Filters::Json;
            let here =
                FILTERS.iter().filter(|(name, _)| name.starts_with(word.text) && (*name != "json" || json));
            here.for_each(|(name, help)| found.add(name, help));
        }
        [only] if only.text == "match" => {
            found.hints.push(("TEXT".into(), "what a line has to have in it".into()))
        }
        _ => found.whole = word.text.is_empty(),
    }
    found
}

#[cfg(test)]
mod tests;
