//! A TOML text by its lexical structure, so that a value is changed where it stands and everything else, comments and
//! order included, stays as the operator wrote it.

use crate::nesting;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;
use toml::de::{DeTable, DeValue};
use toml_parser::Source;
use toml_parser::parser::{Event, EventKind};

/// A text and where its sections are.
#[derive(Debug)]
pub(super) struct Document<'t> {
    text: &'t str,
    /// The first is what stands before the first header.
    sections: Vec<Section>,
}

/// A header and the values below it.
#[derive(Debug, Default)]
struct Section {
    path: Vec<String>,
    /// `[[path]]`
    element: bool,
    /// From `[` to behind `]`.
    header: Range<usize>,
    entries: Vec<Entry>,
}

/// `key = value`
#[derive(Debug)]
struct Entry {
    /// The key as it is written, with its dots.
    path: Vec<String>,
    /// From the key's begin to the value's end.
    whole: Range<usize>,
    value: Range<usize>,
}

/// What is to be changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// The section with this path; the empty path is the top of the text.
    Table(Vec<String>),
    /// Of the sections `[[path]]` the one in which `key` is `value`.
    Element {
        /// What they are called.
        path: Vec<String>,
        /// The key that tells them apart.
        key: String,
        /// Its value, a text.
        value: String,
    },
}

impl Target {
    /// As an operator calls it.
    pub(super) fn name(&self) -> String {
        match self {
            Target::Table(path) if path.is_empty() => "the configuration".into(),
            Target::Table(path) => path.join(" "),
            Target::Element { path, value, .. } => format!("{} {value}", path.join(" ")),
        }
    }
}

impl<'t> Document<'t> {
    /// Reads a text.
    ///
    /// # Errors
    /// What makes it no TOML.
    pub(super) fn read(text: &'t str) -> Result<Self, String> {
        readable(text).map_err(|(at, message)| {
            let line = 1 + text.get(..at).unwrap_or(text).matches('\n').count();
            format!("the candidate is not valid TOML, line {line}: {message}; `load` replaces it")
        })?;
        let source = Source::new(text);
        let tokens = source.lex().into_vec();
        let mut events: Vec<Event> = Vec::new();
        toml_parser::parser::parse_document(&tokens, &mut events, &mut ());
        Ok(Self { text, sections: sections(source, &events) })
    }

    /// The names of the sections `[path.X]`, or the values of `key` in the sections `[[path]]`.
    pub(super) fn names(&self, path: &[String], key: Option<&str>) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for section in &self.sections {
            let found = match (section.path.strip_prefix(path), key) {
                (Some([name, ..]), None) => Some(name.clone()),
                (Some([]), Some(key)) => section.text_of(self.text, key),
                _ => None,
            };
            names.extend(found.filter(|found| !names.contains(found)));
        }
        names
    }

    /// The keys that a target has.
    pub(super) fn keys(&self, target: &Target) -> Vec<String> {
        let Ok(Some(found)) = self.find(target) else { return Vec::new() };
        let entries =
            found.iter().filter_map(|&at| self.sections.get(at)).flat_map(|section| &section.entries);
        entries.filter_map(|entry| entry.path.first().cloned()).collect()
    }

    /// The text with `key = value` in `target`, which is made if it is not there. `value` is TOML.
    ///
    /// # Errors
    /// Why that cannot be done.
    pub(super) fn set(&self, target: &Target, key: &str, value: &str) -> Result<String, String> {
        let found = self.find(target)?;
        let path = self.path(target, key);
        let within = |entry: &(usize, &Entry)| self.is_below(entry, target, &found, &path);
        let old: Vec<(usize, &Entry)> = self.entries().filter(within).collect();
        let text = match (old.as_slice(), found.as_deref()) {
            ([(_, entry)], _) if self.full(&old[0]) == path => splice(self.text, entry.value.clone(), value),
            // `match.port = 0`, in the place of which `match = …` comes.
            ([(_, first), others @ ..], _) => {
                let mut text = self.text.to_string();
                for (_, entry) in others.iter().rev() {
                    text = splice(&text, self.line(entry), "");
                }
                splice(&text, first.whole.clone(), &format!("{} = {value}", quoted_key(key)))
            }
            ([], Some([section, ..])) => self.insert(*section, key, value),
            ([], _) => self.append(target, key, value)?,
        };
        checked(text)
    }

    /// The text without `key` of `target`, or without `target`.
    ///
    /// # Errors
    /// That it is not there, or why it cannot be taken out.
    pub(super) fn delete(&self, target: &Target, key: Option<&str>) -> Result<String, String> {
        let found = self.find(target)?;
        let mut gone: Vec<Range<usize>> = Vec::new();
        if let (None, Some(sections)) = (key, &found) {
            gone.extend(
                sections.iter().filter_map(|&at| self.sections.get(at)).map(|section| self.whole(section)),
            );
        }
        if key.is_some() || matches!(target, Target::Table(_)) {
            let path = key.map_or_else(|| self.path_of(target), |key| self.path(target, key));
            let within = |entry: &(usize, &Entry)| self.is_below(entry, target, &found, &path);
            gone.extend(self.entries().filter(within).map(|(_, entry)| self.line(entry)));
        }
        if gone.is_empty() {
            return Err(match key {
                Some(key) => format!("there is no `{key}` in {}", target.name()),
                None => format!("there is no {}", target.name()),
            });
        }
        gone.sort_by_key(|range| range.start);
        let mut text = String::new();
        let mut kept = 0;
        for range in gone {
            text.push_str(self.text.get(kept..range.start).unwrap_or_default());
            kept = kept.max(range.end);
        }
        text.push_str(self.text.get(kept..).unwrap_or_default());
        checked(text)
    }

    /// The sections of a target, its own first; `None` if it is not there.
    fn find(&self, target: &Target) -> Result<Option<Vec<usize>>, String> {
        let (path, key, value) = match target {
            Target::Table(path) => {
                let is_own =
                    |at: &usize| self.sections.get(*at).is_some_and(|own| own.path == *path && !own.element);
                let is_below = |at: &usize| {
                    let below = |own: &Section| own.path.len() > path.len() && own.path.starts_with(path);
                    self.sections.get(*at).is_some_and(below)
                };
                let mut found: Vec<usize> = (0..self.sections.len()).filter(is_own).collect();
                if !path.is_empty() {
                    let all = 0..self.sections.len();
                    let below: Vec<usize> = all.filter(is_below).collect();
                    match found.is_empty() {
                        true if !below.is_empty() => {
                            return Err(format!(
                                "{} has no header of its own in the text; `load` replaces it",
                                target.name()
                            ));
                        }
                        _ => found.extend(below),
                    }
                }
                return Ok((!found.is_empty()).then_some(found));
            }
            Target::Element { path, key, value } => (path, key, value),
        };
        let is_it = |section: &Section| {
            section.element
                && section.path == *path
                && section.text_of(self.text, key).as_ref() == Some(value)
        };
        let all: Vec<usize> =
            (0..self.sections.len()).filter(|&at| self.sections.get(at).is_some_and(is_it)).collect();
        match all.as_slice() {
            [] => Ok(None),
            [only] => {
                let mut found = Vec::from([*only]);
                let following = self.sections.iter().enumerate().skip(only + 1);
                let below =
                    |section: &Section| section.path.len() > path.len() && section.path.starts_with(path);
                found.extend(following.take_while(|(_, section)| below(section)).map(|(at, _)| at));
                Ok(Some(found))
            }
            several => {
                Err(format!("there are {} of {}; `load` replaces the text", several.len(), target.name()))
            }
        }
    }

    fn path_of(&self, target: &Target) -> Vec<String> {
        match target {
            Target::Table(path) | Target::Element { path, .. } => path.clone(),
        }
    }

    fn path(&self, target: &Target, key: &str) -> Vec<String> {
        let mut path = self.path_of(target);
        path.push(key.into());
        path
    }

    /// All values, with the number of their section.
    fn entries(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.sections
            .iter()
            .enumerate()
            .flat_map(|(at, section)| section.entries.iter().map(move |entry| (at, entry)))
    }

    fn full(&self, entry: &(usize, &Entry)) -> Vec<String> {
        let section = self.sections.get(entry.0).map(|section| section.path.as_slice()).unwrap_or_default();
        section.iter().chain(&entry.1.path).cloned().collect()
    }

    /// Whether a value is `path`, or below it, in `target`.
    fn is_below(
        &self,
        entry: &(usize, &Entry),
        target: &Target,
        found: &Option<Vec<usize>>,
        path: &[String],
    ) -> bool {
        let element = self.sections.get(entry.0).is_some_and(|section| section.element);
        let ours = match target {
            Target::Table(_) => !element,
            Target::Element { .. } => found.as_ref().is_some_and(|found| found.contains(&entry.0)),
        };
        ours && self.full(entry).starts_with(path)
    }

    /// The line of a value, with what stands behind it and its end.
    fn line(&self, entry: &Entry) -> Range<usize> {
        let before = self.text.get(..entry.whole.start).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        start..line_end(self.text, entry.whole.end)
    }

    /// A section with its header and the blank lines behind it.
    fn whole(&self, section: &Section) -> Range<usize> {
        let end = line_end(self.text, section.end());
        let after = self.text.get(end..).unwrap_or_default();
        let blank: usize =
            after.split_inclusive('\n').take_while(|line| line.trim().is_empty()).map(str::len).sum();
        section.header.start..end + blank
    }

    fn insert(&self, section: usize, key: &str, value: &str) -> String {
        let line = format!("{} = {value}\n", quoted_key(key));
        let Some(section) = self.sections.get(section) else { return self.text.to_string() };
        let at = match (section.path.is_empty(), section.entries.is_empty()) {
            // At the top, behind the comment that the text begins with.
            (true, true) => top(self.text),
            _ => line_end(self.text, section.end()),
        };
        splice(self.text, at..at, &begun(self.text, at, line))
    }

    fn append(&self, target: &Target, key: &str, value: &str) -> Result<String, String> {
        let key = quoted_key(key);
        let path = self.path_of(target);
        let header = path.iter().map(|key| quoted_key(key)).collect::<Vec<_>>().join(".");
        if let Some(inline) = self.inline(target) {
            return Err(format!(
                "`{inline}` is written in one line, which is not changed here; `load` replaces the text"
            ));
        }
        let section = match target {
            Target::Table(_) => format!("[{header}]\n{key} = {value}\n"),
            Target::Element { key: by, value: is, .. } => {
                format!("[[{header}]]\n{} = {}\n{key} = {value}\n", quoted_key(by), quoted(is))
            }
        };
        // Behind the last one of its kind, else at the end.
        let alike = |section: &&Section| section.path.first() == path.first();
        let at = match self.sections.iter().rfind(alike) {
            Some(last) => line_end(self.text, last.end()),
            None => self.text.len(),
        };
        let blank = if at == 0 { "" } else { "\n" };
        Ok(splice(self.text, at..at, &begun(self.text, at, format!("{blank}{section}"))))
    }

    /// The value that a target lies within, if it is one in braces.
    fn inline(&self, target: &Target) -> Option<String> {
        let path = self.path_of(target);
        let around = |entry: &(usize, &Entry)| !path.is_empty() && path.starts_with(&self.full(entry));
        self.entries().find(around).map(|entry| self.full(&entry).join("."))
    }
}

impl Section {
    fn end(&self) -> usize {
        self.entries.last().map_or(self.header.end, |entry| entry.whole.end)
    }

    /// The value of a key, if that is a text.
    fn text_of(&self, text: &str, key: &str) -> Option<String> {
        let entry = self.entries.iter().find(|entry| entry.path == [key])?;
        let value = DeValue::parse(text.get(entry.value.clone())?).ok()?;
        value.get_ref().as_str().map(String::from)
    }
}

fn sections(source: Source<'_>, events: &[Event]) -> Vec<Section> {
    let mut sections = Vec::from([Section::default()]);
    let mut keys: Vec<String> = Vec::new();
    // Where the key began, where the value.
    let (mut key, mut value) = (None, None);
    let mut depth = 0usize;
    for event in events {
        let span = event.span().start()..event.span().end();
        let in_value = value.is_some();
        match event.kind() {
            EventKind::StdTableOpen | EventKind::ArrayTableOpen => {
                let element = event.kind() == EventKind::ArrayTableOpen;
                sections.push(Section { element, header: span, ..Section::default() });
                keys.clear();
            }
            EventKind::StdTableClose | EventKind::ArrayTableClose => {
                if let Some(section) = sections.last_mut() {
                    section.path = core::mem::take(&mut keys);
                    section.header.end = span.end;
                }
                key = None;
            }
            EventKind::SimpleKey if !in_value => {
                key = key.or(Some(span.start));
                let mut name = Cow::Borrowed("");
                if let Some(raw) = source.get(event) {
                    raw.decode_key(&mut name, &mut ());
                }
                keys.push(name.into_owned());
            }
            EventKind::KeyValSep if !in_value => value = Some(0),
            EventKind::Scalar | EventKind::ArrayOpen | EventKind::InlineTableOpen => {
                if depth == 0 {
                    value = Some(span.start);
                }
                depth += usize::from(event.kind() != EventKind::Scalar);
            }
            EventKind::ArrayClose | EventKind::InlineTableClose => depth = depth.saturating_sub(1),
            _ => continue,
        }
        let closes =
            matches!(event.kind(), EventKind::Scalar | EventKind::ArrayClose | EventKind::InlineTableClose);
        if let (Some(from), Some(value_from), true, 0) = (key, value, closes, depth) {
            let end = event.span().end();
            let entry = Entry { path: core::mem::take(&mut keys), whole: from..end, value: value_from..end };
            if let Some(section) = sections.last_mut() {
                section.entries.push(entry);
            }
            (key, value) = (None, None);
        }
    }
    sections
}

/// Behind the end of the line that `at` is in.
fn line_end(text: &str, at: usize) -> usize {
    let after = text.get(at..).unwrap_or_default();
    after.find('\n').map_or(text.len(), |end| at + end + 1)
}

/// Behind the comment that a text begins with, if a blank line ends it.
fn top(text: &str) -> usize {
    let comment: usize =
        text.split_inclusive('\n').take_while(|line| line.starts_with('#')).map(str::len).sum();
    let after = text.get(comment..).unwrap_or_default();
    let blank = after.split_inclusive('\n').next().filter(|line| comment > 0 && line.trim().is_empty());
    blank.map_or(0, |line| comment + line.len())
}

/// Lines to be put at `at`: the line before them ends first.
fn begun(text: &str, at: usize, lines: String) -> String {
    let before = text.get(..at).unwrap_or_default();
    if before.is_empty() || before.ends_with('\n') { lines } else { format!("\n{lines}") }
}

fn splice(text: &str, range: Range<usize>, by: &str) -> String {
    let (before, after) =
        (text.get(..range.start).unwrap_or_default(), text.get(range.end..).unwrap_or_default());
    [before, by, after].concat()
}

/// What was edited is TOML still, or it is not done.
fn checked(text: String) -> Result<String, String> {
    match readable(&text) {
        Ok(()) => Ok(text),
        Err((_, message)) => Err(format!("that would not be valid TOML: {message}; nothing is changed")),
    }
}

/// Whether a text is TOML, and not too deep; else where it is not, and why.
fn readable(text: &str) -> Result<(), (usize, String)> {
    nesting::check(text).map_err(|(at, message)| (at.start, message))?;
    let at = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
    DeTable::parse(text).map(drop).map_err(|error| (at(&error), error.message().to_string()))
}

/// A key as TOML.
pub(super) fn quoted_key(key: &str) -> String {
    let bare =
        !key.is_empty() && key.chars().all(|c| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-'));
    if bare { key.into() } else { quoted(key) }
}

/// A text as TOML.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}
