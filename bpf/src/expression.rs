//! Filter expressions, pcap-filter(7), compiled for Ethernet links.
//!
//! Text becomes tokens ([`lexer`]), those a tree ([`parser`], [`syntax`]), that tests of values in the order they were written
//! ([`lower`] and its parts), those a graph of tests without what earlier ones decide ([`graph`]), and that a program ([`emit`]).
//! What a program accepts is what tcpdump's does; docs/filters.md says what is not supported.

mod emit;
mod ethernet;
mod graph;
mod lexer;
mod lower;
mod network;
mod parser;
mod syntax;
mod table;
mod transport;
mod value;
mod words;

use crate::Instruction;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

/// Bytes of an expression.
pub const MAX_TEXT: usize = 8192;
/// Instructions of a program: as many as Linux and BSD take.
pub const MAX_INSTRUCTIONS: usize = 4096;
/// Parentheses and accessors within each other, and operators in a row.
pub const MAX_DEPTH: usize = 32;

/// What a program is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Bytes kept of a packet that matches: what the program returns.
    pub snap_length: u32,
    /// Where the outermost VLAN tag is.
    pub tags: Tags,
}

/// Where frames have their outermost VLAN tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tags {
    /// Behind the stations' addresses, as on the wire.
    Frame,
    /// In what is known beside the frame (Linux: `SKF_AD_VLAN_TAG`), or behind the addresses if it is not known there.
    Metadata,
}

impl Default for Options {
    fn default() -> Self {
        Self { snap_length: 262_144, tags: Tags::Frame }
    }
}

/// Why a text is no filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// The bytes that are wrong; empty behind the last one if something is missing there.
    pub span: Range<usize>,
    /// The column of the first of them in characters, from 1.
    pub column: usize,
    /// What was found, and what was expected.
    pub message: String,
    /// What helps; empty if the message says it.
    pub help: &'static str,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.message)?;
        if self.help.is_empty() { Ok(()) } else { write!(f, "; {}", self.help) }
    }
}

impl core::error::Error for Error {}

/// The program of a filter. An empty text accepts everything.
pub fn compile(text: &str, options: Options) -> Result<Vec<Instruction>, Error> {
    program(text, options, graph::ROUNDS).map_err(|Wrong(mut error)| {
        let before = text.get(..error.span.start).unwrap_or(text);
        error.column = before.chars().count() + 1;
        *error
    })
}

/// Shortened at most so many times.
fn program(text: &str, options: Options, rounds: usize) -> Result<Vec<Instruction>, Wrong> {
    if text.len() > MAX_TEXT {
        let span = text.floor_char_boundary(MAX_TEXT)..text.len();
        return Err(Wrong::new(span, &["the filter is longer than 8192 bytes"])
            .help("name a net or a range of ports instead of each one"));
    }
    let tokens = lexer::tokens(text)?;
    let mut code = lower::Lower::new(options);
    let root = match parser::parse(text, &tokens)? {
        Some(tree) => code.expression(text, &tree)?,
        None => code.conditions.constant(true),
    };
    let whole = 0..text.len();
    let graph = graph::Graph::build(&code.conditions, root, rounds);
    emit::program(&code.values, &graph, options.snap_length).map_err(|too| match too {
        emit::Excess::Instructions => Wrong::new(whole, &["the filter needs more than 4096 instructions"])
            .help("name a net or a range of ports instead of each one"),
        emit::Excess::Scratch => {
            Wrong::new(whole, &["the arithmetic needs more than 16 intermediate results"])
                .help("use fewer parentheses")
        }
    })
}

/// An error before its column is known: a pointer, as most functions here return one or nothing.
#[derive(Debug)]
struct Wrong(Box<Error>);

impl Wrong {
    #[inline(never)]
    fn new(span: Range<usize>, message: &[&str]) -> Self {
        Self(Box::new(Error { span, column: 0, message: message.concat(), help: "" }))
    }

    #[inline(never)]
    fn help(mut self, help: &'static str) -> Self {
        self.0.help = help;
        self
    }
}

#[cfg(test)]
mod tests;
