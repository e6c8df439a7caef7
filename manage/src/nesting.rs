//! How deep a TOML text goes. What reads it, and what lets go of what was read, calls itself once a level, on a stack that has
//! little room; and TOML's reader limits brackets and dots each, but not what they come to together.

use alloc::format;
use alloc::string::String;
use core::ops::Range;
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

/// Tables and arrays within each other, by brackets or by dots in a key. A configuration needs five.
const MOST: usize = 16;

/// Whether a text goes 16 levels deep at most; else where it goes deeper, and what to say of that.
pub fn check(text: &str) -> Result<(), (Range<usize>, String)> {
    match too_deep(text) {
        None => Ok(()),
        Some(at) => Err((at, format!("more than {MOST} tables and arrays within each other"))),
    }
}

fn too_deep(text: &str) -> Option<Range<usize>> {
    // The levels that each open bracket stands for: its own, and those of the dots in the key before it.
    let (mut open, mut brackets) = ([0; MOST], 0);
    let (mut levels, mut dots) = (0, 0);
    for token in Source::new(text).lex() {
        match token.kind() {
            TokenKind::Dot => dots += 1,
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => {
                levels += 1 + dots;
                // Each is a level at least: more brackets than places are too many levels.
                if let Some(place) = open.get_mut(brackets) {
                    *place = 1 + dots;
                }
                (brackets, dots) = (brackets + 1, 0);
            }
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                brackets = brackets.saturating_sub(1);
                levels -= open.get_mut(brackets).map_or(0, core::mem::take);
                dots = 0;
            }
            TokenKind::Comma | TokenKind::Newline => dots = 0,
            _ => {}
        }
        if levels + dots > MOST {
            return Some(token.span().start()..token.span().end());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<usize> {
        too_deep(text).map(|at| at.start)
    }

    #[test]
    fn brackets_and_dots_add_up() {
        assert_eq!(refused(&format!("x = {}{}", "[".repeat(16), "]".repeat(16))), None);
        assert_eq!(refused(&format!("x = {}", "[".repeat(17))), Some(4 + 16));
        assert_eq!(refused(&format!("a{} = 1", ".a".repeat(16))), None);
        assert_eq!(refused(&format!("a{} = 1", ".a".repeat(17))), Some(33));
        assert_eq!(refused("a.b.c.d = {a.b.c.d = {a.b.c.d = {a.b.c.d = {}}}}"), None);
        assert_eq!(refused("a.b.c.d = {a.b.c.d = {a.b.c.d = {a.b.c.d = {a.b = 1}}}}"), Some(45));
        assert_eq!(refused(&format!("[a{}]", ".a".repeat(16))), Some(32));
        assert_eq!(refused(&format!("[[a{}]]", ".a".repeat(14))), None);
    }

    #[test]
    fn what_ends_counts_no_more() {
        let many: String =
            (0..100).map(|n| format!("[a.b{n}]\nc.d = [{{e = 1.5}}, {{e = 2.5}}]\n")).collect();
        assert_eq!(refused(&many), None);
        assert_eq!(refused(&"]".repeat(100)), None);
        assert_eq!(refused(&"[]".repeat(100)), None);
        assert_eq!(refused(&format!("x = \"{}\" # {}", "[".repeat(100), ".".repeat(100))), None);
        // A bracket closed too often does not make room.
        assert_eq!(refused(&format!("]]]{}", "{".repeat(17))), Some(19));
    }
}
