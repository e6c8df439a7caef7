//! One row of a terminal: how what it shows becomes something else, with printable characters, carriage return and
//! backspace alone. So the line is edited alike on every terminal, and a log of it is text.

use alloc::string::String;
use core::fmt::Write;

/// What a row shows, and where the cursor is in it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Row {
    text: String,
    column: usize,
}

impl Row {
    /// Prompt and as much of a line as fits into `columns`, around the cursor; `<` and `>` say that there is more.
    pub(super) fn new(prompt: &str, line: &str, cursor: usize, columns: usize) -> Self {
        // The last column stays free: a character in it wraps on some terminals and not on others.
        let room = columns.saturating_sub(prompt.len() + 1).max(8);
        let start = match line.len() < room {
            true => 0,
            false => (cursor / (room / 2)).saturating_sub(1) * (room / 2),
        };
        let end = line.len().min(start + room);
        let mut text = String::from(prompt);
        text.push_str(line.get(start..end).unwrap_or_default());
        if start > 0 {
            text.replace_range(prompt.len()..prompt.len() + 1, "<");
        }
        if end < line.len() {
            text.pop();
            text.push('>');
        }
        Self { text, column: prompt.len() + cursor - start }
    }

    /// What the terminal needs to be sent to show `next` in the place of this.
    pub(super) fn become_row(&mut self, next: Row, out: &mut String) {
        let same = self.text.bytes().zip(next.text.bytes()).take_while(|(a, b)| a == b).count();
        let mut at = self.column;
        if self.text != next.text {
            let to = same.min(at);
            go(&next.text, &mut at, to, out);
            out.push_str(next.text.get(at..).unwrap_or_default());
            let beyond = self.text.len().saturating_sub(next.text.len());
            let _ = write!(out, "{:beyond$}", "");
            at = next.text.len() + beyond;
        }
        go(&next.text, &mut at, next.column, out);
        *self = next;
    }
}

/// Moves the cursor within a row that shows `text`.
fn go(text: &str, at: &mut usize, to: usize, out: &mut String) {
    if to < *at && to < *at - to {
        out.push('\r');
        *at = 0;
    }
    for _ in to..*at {
        out.push('\x08');
    }
    out.push_str(text.get(*at..to).unwrap_or_default());
    *at = to;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// A terminal's row, as little of one as is needed.
    #[derive(Default)]
    struct Terminal {
        cells: Vec<char>,
        column: usize,
    }

    impl Terminal {
        fn send(&mut self, text: &str) {
            for c in text.chars() {
                match c {
                    '\r' => self.column = 0,
                    '\x08' => self.column -= 1,
                    ' '..='~' => {
                        if self.column == self.cells.len() {
                            self.cells.push(c);
                        }
                        self.cells[self.column] = c;
                        self.column += 1;
                    }
                    _ => panic!("{c:?} is for no such terminal"),
                }
            }
        }

        fn text(&self) -> String {
            let text: String = self.cells.iter().collect();
            text.trim_end().into()
        }
    }

    proptest! {
        #[test]
        fn a_terminal_shows_what_the_row_is(
            lines in prop::collection::vec(("[ab ]{0,120}", 0usize..200), 1..20),
            columns in 20usize..100,
        ) {
            let (mut terminal, mut row) = (Terminal::default(), Row::default());
            for (line, cursor) in lines {
                let cursor = cursor % (line.len() + 1);
                let next = Row::new("edge1> ", &line, cursor, columns);
                prop_assert!(next.text.len() < columns);
                let mut out = String::new();
                row.become_row(next.clone(), &mut out);
                terminal.send(&out);
                prop_assert_eq!(terminal.text(), next.text.trim_end());
                prop_assert_eq!(terminal.column, next.column);
                // The character under the cursor is the line's.
                if let Some(c) = line[cursor..].chars().next()
                    && cursor + 1 < line.len()
                {
                    let shown = next.text[next.column..].chars().next();
                    prop_assert!(shown == Some(c) || shown == Some('>') || shown == Some('<'), "{shown:?} {c:?}");
                }
            }
        }
    }

    #[test]
    fn a_character_at_the_end_costs_itself() {
        let mut row = Row::new("> ", "sho", 3, 80);
        let mut out = String::new();
        row.become_row(Row::new("> ", "show", 4, 80), &mut out);
        assert_eq!(out, "w");
        out.clear();
        row.become_row(Row::new("> ", "sho", 3, 80), &mut out);
        assert_eq!(out, "\x08 \x08");
    }
}
