//! The ledger of what is not safe on several CPUs at once: the `NOT_MP_SAFE` comments of the source, counted.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command;

/// Entries there may be. It only ever goes down.
const ALLOWED: usize = 0;

/// What an entry begins with, behind the sign of a comment.
const MARK: &str = "NOT_MP_SAFE:";

/// `file:line: what is not safe` of each entry in the files that git tracks.
pub(crate) fn read(workspace: &Path) -> Result<Vec<String>> {
    let folder = workspace.display().to_string();
    let arguments = ["-C", &folder, "ls-files", "-z", "--", "*.rs", "*.s"];
    let files = command::capture("git", &arguments, Duration::from_secs(30)).context("listing the source")?;
    let mut found = Vec::new();
    for file in files.split('\0').filter(|file| !file.is_empty()) {
        let path = workspace.join(file);
        // Deleted, and not yet committed so.
        if !path.is_file() {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        found.extend(entries(file, &text));
    }
    Ok(found)
}

fn entries(file: &str, text: &str) -> Vec<String> {
    let sign = if file.ends_with(".s") { "#" } else { "//" };
    let entry = |line: &str| {
        let (_, comment) = line.split_once(sign)?;
        comment
            .trim_start_matches(['/', '!', '#'])
            .trim_start()
            .strip_prefix(MARK)
            .map(str::trim)
            .map(str::to_owned)
    };
    let lines = text.lines().enumerate();
    lines.filter_map(|(at, line)| Some(format!("{file}:{}: {}", at + 1, entry(line)?))).collect()
}

/// One line with the count, then one an entry.
pub(crate) fn text(entries: &[String]) -> String {
    let plural = if entries.len() == 1 { "entry" } else { "entries" };
    let mut text = format!("{MARK} {} {plural}\n", entries.len());
    entries.iter().for_each(|entry| text.extend(["  ", entry, "\n"]));
    text
}

/// A sentence if there are more than allowed.
pub(crate) fn violation(entries: usize) -> Option<String> {
    let most = format!("{entries} {MARK} comments: ci/src/ledger.rs allows {ALLOWED}");
    (entries > ALLOWED).then_some(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_comments_and_nothing_else() {
        let rust = format!(
            "let a = 1; // {MARK} one writer\nlet b = \"{MARK}\";\n    /// {MARK} two\n// no {MARK}\n"
        );
        assert_eq!(entries("a/b.rs", &rust), ["a/b.rs:1: one writer", "a/b.rs:3: two"]);
        assert_eq!(entries("v.s", &format!("  ret # {MARK} three\n")), ["v.s:1: three"]);
    }

    #[test]
    fn counts_and_lists() {
        assert_eq!(text(&[]), format!("{MARK} 0 entries\n"));
        assert_eq!(text(&["v.s:1: three".into()]), format!("{MARK} 1 entry\n  v.s:1: three\n"));
        assert_eq!(violation(ALLOWED), None);
        assert!(violation(ALLOWED + 1).is_some_and(|sentence| sentence.contains("allows")));
    }
}
