//! What changed between two texts, as a unified diff.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use similar::{Algorithm, DiffOp, capture_diff_slices, group_diff_ops};

/// Lines around a change.
const CONTEXT: usize = 3;
/// Lines between the first and the last change that are compared one by one. Comparing takes at worst the square of it.
const MOST: usize = 4000;
/// Longest diff, in bytes: what is longer is told in one line.
const LONGEST: usize = 64 << 10;

/// From `old` to `new`, with both called so; empty if they are alike. What is too long to compare or to show is told as
/// the lines that it replaces.
pub fn unified(old: &str, new: &str, old_name: &str, new_name: &str) -> String {
    if old == new {
        return String::new();
    }
    let (old, new): (Vec<&str>, Vec<&str>) =
        (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let alike = |pair: &(&&str, &&str)| pair.0 == pair.1;
    let before = old.iter().zip(&new).take_while(alike).count();
    let shorter = old.len().min(new.len()) - before;
    let after = old.iter().rev().zip(new.iter().rev()).take(shorter).take_while(alike).count();
    let first = before.saturating_sub(CONTEXT);
    let middle = |lines: &[&str]| first..lines.len() - after.saturating_sub(CONTEXT);
    let (old_range, new_range) = (middle(&old), middle(&new));
    let counted = |text: String| format!("--- {old_name}\n+++ {new_name}\n{text}");
    let brief = || {
        let (gone, come) = (old.len() - before - after, new.len() - before - after);
        counted(format!("@@ -{},{gone} +{},{come} @@ too long to show\n", before + 1, before + 1))
    };
    if old_range.len().max(new_range.len()) > MOST {
        return brief();
    }
    let (old_part, new_part) =
        (old.get(old_range).unwrap_or_default(), new.get(new_range).unwrap_or_default());
    let ops = capture_diff_slices(Algorithm::Myers, old_part, new_part);
    let mut text = String::new();
    for hunk in group_diff_ops(ops, CONTEXT) {
        write_hunk(&mut text, &hunk, old_part, new_part, first);
        if text.len() > LONGEST {
            return brief();
        }
    }
    counted(text)
}

fn write_hunk(text: &mut String, hunk: &[DiffOp], old: &[&str], new: &[&str], first: usize) {
    let (Some(begin), Some(end)) = (hunk.first(), hunk.last()) else { return };
    let range = |begin: usize, end: usize| match end - begin {
        // A range without lines names the line before it.
        0 => format!("{},0", first + begin),
        1 => format!("{}", first + begin + 1),
        count => format!("{},{count}", first + begin + 1),
    };
    let old_range = range(begin.old_range().start, end.old_range().end);
    let new_range = range(begin.new_range().start, end.new_range().end);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "@@ -{old_range} +{new_range} @@");
    let mut lines = |mark: char, lines: Option<&[&str]>| {
        for line in lines.unwrap_or_default() {
            text.push(mark);
            text.push_str(line);
            if !line.ends_with('\n') {
                text.push_str("\n\\ No newline at end of file\n");
            }
        }
    };
    for op in hunk {
        match op {
            DiffOp::Equal { .. } => lines(' ', old.get(op.old_range())),
            _ => {
                lines('-', old.get(op.old_range()));
                lines('+', new.get(op.new_range()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn numbered(changed: &[(usize, &str)], count: usize) -> String {
        let line = |number: usize| {
            let other = changed.iter().find(|(at, _)| *at == number);
            other.map_or_else(|| format!("line {number}\n"), |(_, text)| text.to_string())
        };
        (1..=count).map(line).collect()
    }

    #[test]
    fn shows_what_changed_with_three_lines_around() {
        assert_eq!(unified("a\n", "a\n", "old", "new"), "");
        let expected = "\
--- running
+++ candidate
@@ -7,7 +7,8 @@
 line 7
 line 8
 line 9
-line 10
+ten
+and more
 line 11
 line 12
 line 13
";
        let (old, new) = (numbered(&[], 20), numbered(&[(10, "ten\nand more\n")], 20));
        assert_eq!(unified(&old, &new, "running", "candidate"), expected);
    }

    #[test]
    fn what_was_empty_or_becomes_so_has_a_range_without_lines() {
        assert_eq!(unified("", "a\nb\n", "o", "n"), "--- o\n+++ n\n@@ -0,0 +1,2 @@\n+a\n+b\n");
        assert_eq!(unified("a\n", "", "o", "n"), "--- o\n+++ n\n@@ -1 +0,0 @@\n-a\n");
        let expected = "--- o\n+++ n\n@@ -1 +1 @@\n-a\n+a\n\\ No newline at end of file\n";
        assert_eq!(unified("a\n", "a", "o", "n"), expected);
    }

    #[test]
    fn a_small_change_of_a_long_text_is_shown_and_a_long_one_is_told() {
        let old = numbered(&[], 100_000);
        let new = numbered(&[(50_000, "")], 100_000);
        let diff = unified(&old, &new, "o", "n");
        assert!(diff.contains("@@ -49997,7 +49997,6 @@") && diff.len() < 200, "{diff}");
        let other: String = (0..100_000).map(|number| format!("other {number}\n")).collect();
        let diff = unified(&old, &other, "o", "n");
        assert_eq!(diff, "--- o\n+++ n\n@@ -1,100000 +1,100000 @@ too long to show\n");
    }
}
