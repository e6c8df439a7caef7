//! Lines that were entered.

use super::line::LONGEST;
use alloc::collections::VecDeque;
use alloc::string::String;

/// Most lines kept.
pub(super) const LINES: usize = 64;

/// The last lines, and where in them the operator is.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The oldest first.
    lines: VecDeque<String>,
    /// How many lines back from the one being typed.
    back: usize,
    /// The line being typed, while an older one is shown.
    typed: String,
}

impl History {
    /// Keeps a line, unless it is empty or the last one again.
    pub(super) fn push(&mut self, line: &str) {
        self.back = 0;
        if line.trim().is_empty()
            || line.len() > LONGEST
            || self.lines.back().is_some_and(|last| last == line)
        {
            return;
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.into());
    }

    /// The line before the one shown, which is `shown`.
    pub(super) fn older(&mut self, shown: &str) -> Option<&str> {
        let at = self.lines.len().checked_sub(self.back + 1)?;
        if self.back == 0 {
            self.typed = shown.into();
        }
        self.back += 1;
        self.lines.get(at).map(String::as_str)
    }

    /// The line after the one shown; at last the one being typed.
    pub(super) fn newer(&mut self) -> Option<&str> {
        self.back = self.back.checked_sub(1)?;
        match self.back {
            0 => Some(&self.typed),
            back => self.lines.get(self.lines.len() - back).map(String::as_str),
        }
    }

    /// The `nth` newest line, from 0, that has `wanted` in it.
    pub(super) fn find(&self, wanted: &str, nth: usize) -> Option<&str> {
        self.lines.iter().rev().filter(|line| line.contains(wanted)).nth(nth).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn up_and_down_walk_and_return_to_what_was_typed() {
        let mut history = History::default();
        ["one", "two", "two", " "].iter().for_each(|line| history.push(line));
        assert_eq!(history.older("typ"), Some("two"));
        assert_eq!(history.older("two"), Some("one"));
        assert_eq!(history.older("one"), None);
        assert_eq!(history.newer(), Some("two"));
        assert_eq!(history.newer(), Some("typ"));
        assert_eq!(history.newer(), None);
        assert_eq!((history.find("o", 1), history.find("o", 2)), (Some("one"), None));
    }

    #[test]
    fn the_oldest_give_way() {
        let mut history = History::default();
        (0..100).for_each(|n| history.push(&format!("line {n}")));
        assert_eq!((history.find("line", LINES - 1), history.find("line", LINES)), (Some("line 36"), None));
    }
}
