//! Errors of a configuration: where, which key, what was found, what was expected, how to cure it. The other
//! modules add [`Finding`]s to a [`Report`]; positions and excerpts are worked out once, at its end.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::ops::Range;

use super::MAX_ERRORS;

/// Everything wrong with a configuration text, in order of position; never empty.
///
/// `Display` is the text for an operator's console: each error with its line of source and a caret, then a
/// count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    list: Vec<Error>,
    omitted: usize,
}

/// One error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The offending bytes of the text; empty if it is the text as a whole or its end.
    pub span: Range<usize>,
    /// Path of the key, such as `interface.wan.mtu` or `route[0].via` (from 0); empty for errors of syntax.
    pub key: String,
    /// What was found and what was expected, in one line.
    pub message: String,
    /// How to cure it, if there is an obvious way.
    pub help: Option<String>,
    /// The other end of a conflict.
    pub note: Option<Note>,
    excerpt: Option<Excerpt>,
}

/// Another place that an error refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What stands there, such as `first used here`.
    pub message: &'static str,
    excerpt: Excerpt,
}

/// [`Errors`] whose positions read `file:line:column`, which terminals and editors make clickable.
pub struct InFile<'a> {
    errors: &'a Errors,
    file: &'a str,
}

impl Errors {
    /// The errors in order of position, at most [`MAX_ERRORS`].
    pub fn iter(&self) -> core::slice::Iter<'_, Error> {
        self.list.iter()
    }

    /// How many further errors there are.
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// The same text with `file:line:column` as positions.
    pub fn in_file<'a>(&'a self, file: &'a str) -> InFile<'a> {
        InFile { errors: self, file }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, file: Option<&str>) -> fmt::Result {
        for error in &self.list {
            error.write(f, file)?;
        }
        match (self.list.len(), self.omitted) {
            (1, 0) => writeln!(f, "1 error"),
            (shown, 0) => writeln!(f, "{shown} errors"),
            (shown, omitted) => writeln!(f, "{} errors, the first {shown} are shown", shown + omitted),
        }
    }
}

impl<'a> IntoIterator for &'a Errors {
    type Item = &'a Error;
    type IntoIter = core::slice::Iter<'a, Error>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl core::error::Error for Errors {}
impl core::error::Error for Error {}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, None)
    }
}

impl fmt::Display for InFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.errors.write(f, Some(self.file))
    }
}

impl fmt::Display for Error {
    /// Several lines, each ended.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, None)
    }
}

impl Error {
    fn write(&self, f: &mut fmt::Formatter<'_>, file: Option<&str>) -> fmt::Result {
        match file {
            Some(file) => write!(f, "{file}:{}:{}: error: ", self.line, self.column)?,
            None => write!(f, "line {}, column {}: error: ", self.line, self.column)?,
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        writeln!(f, "{}", self.message)?;

        let last_line = self.note.as_ref().map_or(self.line, |note| note.line.max(self.line));
        let gutter = last_line.to_string().len();
        if let Some(excerpt) = &self.excerpt {
            writeln!(f, "{:gutter$} |", "")?;
            excerpt.write(f, self.line, gutter, '^', "")?;
        }
        if let Some(note) = &self.note {
            note.excerpt.write(f, note.line, gutter, '-', note.message)?;
        }
        if let Some(help) = &self.help {
            writeln!(f, "{:gutter$} = help: {help}", "")?;
        }
        Ok(())
    }
}

/// The part of one line of source around a span, safe to print.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Excerpt {
    text: String,
    indent: usize,
    width: usize,
}

impl Excerpt {
    /// Characters shown before and after the start of the span: a line may be megabytes long.
    const AROUND: usize = 60;

    fn new(line: &str, span: Range<usize>) -> Excerpt {
        let (head, tail) = line.split_at(span.start);
        let head_start = head.char_indices().rev().nth(Self::AROUND - 1).map_or(0, |(at, _)| at);
        let tail_end = tail.char_indices().nth(Self::AROUND).map_or(tail.len(), |(at, _)| at);
        let (shown_head, shown_tail) = (&head[head_start..], &tail[..tail_end]);

        let mut text = String::new();
        text.push_str(if head_start > 0 { "..." } else { "" });
        text.extend(shown_head.chars().map(printable));
        let indent = text.chars().count();
        text.extend(shown_tail.chars().map(printable));
        text.push_str(if tail_end < tail.len() { "..." } else { "" });
        let width = shown_tail[..span.len().min(tail_end)].chars().count().max(1);
        Excerpt { text, indent, width }
    }

    fn write(
        &self,
        f: &mut fmt::Formatter<'_>,
        line: usize,
        gutter: usize,
        mark: char,
        label: &str,
    ) -> fmt::Result {
        writeln!(f, "{line:gutter$} | {}", self.text)?;
        write!(f, "{:gutter$} | {:indent$}", "", "", indent = self.indent)?;
        (0..self.width).try_for_each(|_| f.write_char(mark))?;
        writeln!(f, "{}{label}", if label.is_empty() { "" } else { " " })
    }
}

/// Control characters would move a console's cursor, and tabs the caret.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// An error as its discoverer knows it.
pub(super) struct Finding {
    span: Option<Range<usize>>,
    key: String,
    message: String,
    help: Option<String>,
    related: Option<(Range<usize>, &'static str)>,
}

impl Finding {
    /// An error of the text's part `span`, under the path `key`.
    pub(super) fn at(span: Range<usize>, key: impl ToString, message: impl Into<String>) -> Finding {
        Finding { span: Some(span), key: key.to_string(), message: message.into(), help: None, related: None }
    }

    /// An error of the text as a whole.
    pub(super) fn whole(message: impl Into<String>) -> Finding {
        Finding { span: None, key: String::new(), message: message.into(), help: None, related: None }
    }

    /// Says how to cure it.
    pub(super) fn help(mut self, help: impl Into<String>) -> Finding {
        self.help = Some(help.into());
        self
    }

    /// Shows the other end of a conflict.
    pub(super) fn related(mut self, span: Range<usize>, message: &'static str) -> Finding {
        self.related = Some((span, message));
        self
    }

    fn start(&self) -> usize {
        self.span.as_ref().map_or(0, |span| span.start)
    }

    fn place(self, text: &str) -> Error {
        let (line, column, excerpt) = match &self.span {
            Some(span) => {
                let (line, column, excerpt) = locate(text, span);
                (line, column, Some(excerpt))
            }
            None => (1, 1, None),
        };
        let note = self.related.map(|(span, message)| {
            let (line, column, excerpt) = locate(text, &span);
            Note { line, column, message, excerpt }
        });
        let (key, message, help) = (self.key, self.message, self.help);
        Error { line, column, span: self.span.unwrap_or(0..0), key, message, help, note, excerpt }
    }
}

/// Line and column (from 1) of a span, and the excerpt that shows its first line.
fn locate(text: &str, span: &Range<usize>) -> (usize, usize, Excerpt) {
    let start = text.floor_char_boundary(span.start);
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    let line = text[line_start..line_end].trim_end_matches('\r');
    // A newline may itself be what is wrong: the caret then stands behind the line's last character.
    let start = (start - line_start).min(line.len());
    let end = line.floor_char_boundary(span.end.saturating_sub(line_start)).max(start);
    let number = 1 + text[..line_start].bytes().filter(|&byte| byte == b'\n').count();
    (number, 1 + line[..start].chars().count(), Excerpt::new(line, start..end))
}

/// The findings so far: the first [`MAX_ERRORS`] by position and the number of the others.
pub(super) struct Report {
    findings: Vec<Finding>,
    omitted: usize,
}

impl Report {
    pub(super) fn new() -> Report {
        Report { findings: Vec::new(), omitted: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    pub(super) fn add(&mut self, finding: Finding) {
        let place = self.findings.partition_point(|other| other.start() <= finding.start());
        self.findings.insert(place, finding);
        if self.findings.len() > MAX_ERRORS {
            self.findings.truncate(MAX_ERRORS);
            self.omitted += 1;
        }
    }

    /// Places the findings in their text and leaves the report empty.
    pub(super) fn take(&mut self, text: &str) -> Errors {
        let findings = core::mem::take(&mut self.findings);
        let list = findings.into_iter().map(|finding| finding.place(text)).collect();
        Errors { list, omitted: core::mem::take(&mut self.omitted) }
    }
}

/// The path of a key within the file.
pub(super) enum Path<'a> {
    /// The file.
    Root,
    /// A key of a table.
    Key(&'a Path<'a>, &'a str),
    /// An element of an array, from 0.
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    /// The path of `key` within this table.
    pub(super) fn key<'a>(&'a self, key: &'a str) -> Path<'a> {
        Path::Key(self, key)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Key(Path::Root, key) => write_key(f, key),
            Path::Key(table, key) => {
                write!(f, "{table}.")?;
                write_key(f, key)
            }
            Path::Index(array, index) => write!(f, "{array}[{index}]"),
        }
    }
}

fn write_key(f: &mut fmt::Formatter<'_>, key: &str) -> fmt::Result {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.len() <= 40 && key.chars().all(bare) {
        f.write_str(key)
    } else {
        f.write_str(&quoted(key))
    }
}

/// A text of the file in quotes, without what a console would obey and not longer than a line can bear.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 40;
    let shown: String = text.chars().take(LONGEST).collect();
    format!("{shown:?}{}", if shown.len() < text.len() { "..." } else { "" })
}
