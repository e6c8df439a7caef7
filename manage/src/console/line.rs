//! The line being typed: text and a cursor. ASCII, so that a byte is a character is a column.

use alloc::string::String;

/// Most characters of a line.
pub(super) const LONGEST: usize = 1024;

/// A line and where its cursor is.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    text: String,
    /// Characters before it; at most the text's.
    cursor: usize,
    /// What was cut last.
    cut: String,
}

impl Line {
    /// What was typed.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Characters before the cursor.
    pub(super) fn cursor(&self) -> usize {
        self.cursor
    }

    /// What is before the cursor.
    pub(super) fn before(&self) -> &str {
        self.text.get(..self.cursor).unwrap_or_default()
    }

    /// Replaces all of it; the cursor is at the end. Other characters than printable ASCII are left out.
    pub(super) fn set(&mut self, text: &str) {
        self.text.clear();
        self.text.extend(text.chars().filter(|&c| is_plain(c)).take(LONGEST));
        self.cursor = self.text.len();
    }

    /// Empties it and hands out what it was.
    pub(super) fn take(&mut self) -> String {
        self.cursor = 0;
        core::mem::take(&mut self.text)
    }

    /// Inserts a printable ASCII character at the cursor; `false`: there is no room for it.
    pub(super) fn insert(&mut self, c: char) -> bool {
        let fits = self.text.len() < LONGEST && is_plain(c);
        if fits {
            self.text.insert(self.cursor, c);
            self.cursor += 1;
        }
        fits
    }

    /// Inserts as much of `text` as there is room for.
    pub(super) fn insert_str(&mut self, text: &str) -> bool {
        text.chars().all(|c| self.insert(c))
    }

    /// Moves the cursor.
    pub(super) fn left(&mut self) {
        self.cursor = self.cursor.saturating_sub(1);
    }

    /// Moves the cursor.
    pub(super) fn right(&mut self) {
        self.cursor = self.text.len().min(self.cursor + 1);
    }

    /// Moves the cursor.
    pub(super) fn home(&mut self) {
        self.cursor = 0;
    }

    /// Moves the cursor.
    pub(super) fn end(&mut self) {
        self.cursor = self.text.len();
    }

    /// Moves the cursor to the begin of the word that it is in or after.
    pub(super) fn word_left(&mut self) {
        self.cursor = self.word_start();
    }

    /// Moves the cursor behind the end of the word that it is in or before.
    pub(super) fn word_right(&mut self) {
        self.cursor = self.word_end();
    }

    /// Deletes the character before the cursor.
    pub(super) fn backspace(&mut self) {
        if self.cursor > 0 {
            self.cursor -= 1;
            self.text.remove(self.cursor);
        }
    }

    /// Deletes the character under the cursor.
    pub(super) fn delete(&mut self) {
        if self.cursor < self.text.len() {
            self.text.remove(self.cursor);
        }
    }

    /// Cuts from the cursor on.
    pub(super) fn cut_to_end(&mut self) {
        self.cut = self.text.split_off(self.cursor);
    }

    /// Cuts up to the cursor.
    pub(super) fn cut_to_begin(&mut self) {
        self.cut_range(0, self.cursor);
    }

    /// Cuts the word before the cursor.
    pub(super) fn cut_word(&mut self) {
        self.cut_range(self.word_start(), self.cursor);
    }

    /// Cuts the word after the cursor.
    pub(super) fn cut_next_word(&mut self) {
        self.cut_range(self.cursor, self.word_end());
    }

    /// Inserts what was cut last.
    pub(super) fn paste(&mut self) {
        let cut = core::mem::take(&mut self.cut);
        self.insert_str(&cut);
        self.cut = cut;
    }

    fn cut_range(&mut self, start: usize, end: usize) {
        self.cut = self.text.drain(start..end).collect();
        self.cursor = start;
    }

    fn word_start(&self) -> usize {
        let word = self.before().trim_end_matches(' ');
        word.rfind(' ').map_or(0, |at| at + 1)
    }

    fn word_end(&self) -> usize {
        let after = self.text.get(self.cursor..).unwrap_or_default();
        let word = after.trim_start_matches(' ');
        let blanks = after.len() - word.len();
        self.cursor + blanks + word.find(' ').unwrap_or(word.len())
    }
}

fn is_plain(c: char) -> bool {
    matches!(c, ' '..='~')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// A line as what is before and what is after the cursor, the latter from its end.
    #[derive(Default)]
    struct Simple {
        before: Vec<char>,
        after: Vec<char>,
        cut: Vec<char>,
    }

    impl Simple {
        fn step(&mut self, step: u8, c: char) {
            let blank = |c: Option<&char>| c == Some(&' ');
            let some = |c: Option<&char>| c.is_some_and(|&c| c != ' ');
            match step % 14 {
                0 | 1 => {
                    if self.before.len() + self.after.len() < LONGEST {
                        self.before.push(c);
                    }
                }
                2 => self.after.extend(self.before.pop()),
                3 => self.before.extend(self.after.pop()),
                4 => self.after.extend(self.before.drain(..).rev()),
                5 => self.before.extend(self.after.drain(..).rev()),
                6 => drop(self.before.pop()),
                7 => drop(self.after.pop()),
                8 => self.cut = self.after.drain(..).rev().collect(),
                9 => self.cut = self.before.drain(..).collect(),
                10 => {
                    self.cut.clear();
                    while blank(self.before.last()) {
                        self.cut.extend(self.before.pop());
                    }
                    while some(self.before.last()) {
                        self.cut.extend(self.before.pop());
                    }
                    self.cut.reverse();
                }
                11 => {
                    for c in self.cut.clone() {
                        self.step(0, c);
                    }
                }
                12 => {
                    while blank(self.before.last()) {
                        self.step(2, c);
                    }
                    while some(self.before.last()) {
                        self.step(2, c);
                    }
                }
                _ => {
                    while blank(self.after.last()) {
                        self.step(3, c);
                    }
                    while some(self.after.last()) {
                        self.step(3, c);
                    }
                }
            }
        }
    }

    fn step(line: &mut Line, step: u8, c: char) {
        match step % 14 {
            0 | 1 => drop(line.insert(c)),
            2 => line.left(),
            3 => line.right(),
            4 => line.home(),
            5 => line.end(),
            6 => line.backspace(),
            7 => line.delete(),
            8 => line.cut_to_end(),
            9 => line.cut_to_begin(),
            10 => line.cut_word(),
            11 => line.paste(),
            12 => line.word_left(),
            _ => line.word_right(),
        }
    }

    proptest! {
        #[test]
        fn a_line_is_what_is_before_and_what_is_after_its_cursor(
            steps in prop::collection::vec((0u8..14, prop::sample::select(std::vec![' ', 'a', 'b', 'c'])), 0..400)
        ) {
            let (mut line, mut simple) = (Line::default(), Simple::default());
            for (what, c) in steps {
                step(&mut line, what, c);
                simple.step(what, c);
                let text: String = simple.before.iter().chain(simple.after.iter().rev()).collect();
                prop_assert_eq!(line.text(), text);
                prop_assert_eq!(line.cursor(), simple.before.len());
            }
        }
    }

    #[test]
    fn a_line_is_bounded_and_takes_ascii_alone() {
        let mut line = Line::default();
        assert!((0..LONGEST).all(|_| line.insert('x')));
        assert!(!line.insert('x'));
        line.set("ä\x1bok");
        assert!(!line.insert('é'));
        assert_eq!(line.text(), "ok");
    }
}
