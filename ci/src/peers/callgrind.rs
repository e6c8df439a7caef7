//! Instructions a packet, counted by valgrind's callgrind, and where in the source they stand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::program::LIMIT;
use crate::command;

/// Samples that are counted, and packets of each (as in netstack/benches/host and peers).
const SAMPLES: usize = 4;
const PACKETS: usize = 8192;

/// What was counted.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Count {
    /// Instructions a packet.
    pub(super) all: f64,
    /// By source file, the most first. Code that was inlined counts where it was written.
    pub(super) files: Vec<(String, f64)>,
}

/// Runs `program`, asks it for samples by `request`, and counts what it does in `functions` (with `*`) and below.
pub(super) fn count(program: &Path, arguments: &[&str], functions: &[&str], request: &str) -> Result<Count> {
    let file: PathBuf = std::env::temp_dir().join(format!("weir-callgrind-{}", std::process::id()));
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", &format!("--callgrind-out-file={}", file.display())]);
    command.args(functions.iter().map(|function| format!("--toggle-collect={function}")));
    command.arg(program).args(arguments);
    let asked = request.replace('#', &SAMPLES.to_string()) + "\n";
    let output = command::run(&mut command, asked.as_bytes(), LIMIT)?;
    output.success("valgrind")?;
    let text = std::fs::read_to_string(&file).context("callgrind wrote nothing");
    let _ = std::fs::remove_file(&file);
    let count = parse(&text?, SAMPLES * PACKETS);
    ensure!(count.all > 0.0, "callgrind saw none of {}", functions.join(", "));
    Ok(count)
}

/// Reads callgrind's format, version 1: `fl=`, `fi=` and `fe=` say which file the cost lines below are of; the line after
/// `calls=` has the cost of the called function, which has lines of its own.
fn parse(text: &str, packets: usize) -> Count {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut files: BTreeMap<String, u64> = BTreeMap::new();
    let (mut file, mut is_call) = ("", false);
    for line in text.lines() {
        if let Some((key, value)) = line.split_once('=') {
            match key {
                "fl" | "fi" | "fe" | "cfi" | "cfl" => {
                    // "(7) name" once, "(7)" from then on.
                    let (number, name) = value.split_once(' ').unwrap_or((value, ""));
                    if !name.is_empty() {
                        names.insert(number, name);
                    }
                    if !key.starts_with('c') {
                        file = names.get(number).copied().unwrap_or(value);
                    }
                }
                "calls" => is_call = true,
                _ => {}
            }
        } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
            let cost = line.split_whitespace().nth(1).and_then(|cost| cost.parse::<u64>().ok());
            if !std::mem::take(&mut is_call) {
                *files.entry(short(file)).or_default() += cost.unwrap_or(0);
            }
        }
    }
    let all: u64 = files.values().sum();
    let each = |cost: u64| cost as f64 / packets as f64;
    let mut files: Vec<(String, f64)> = files.into_iter().map(|(name, cost)| (name, each(cost))).collect();
    files.sort_by(|a, b| b.1.total_cmp(&a.1));
    Count { all: each(all), files }
}

/// A source file as the project names it: from the crate's folder on.
fn short(file: &str) -> String {
    let crates = [
        "/netstack/src/",
        "/netstack/benches/",
        "/netif/src/",
        "/sync/src/",
        "/library/",
        "/peers/",
        "/dpdk/",
    ];
    for name in crates {
        if let Some(at) = file.rfind(name) {
            return match name {
                // All of Rust's own libraries.
                "/library/" => file[at + name.len()..].split('/').next().unwrap_or(file).to_owned(),
                "/dpdk/" => "dpdk's headers".to_owned(),
                _ => file[at + 1..].to_owned(),
            };
        }
    }
    match file.contains("/registry/") {
        true => file.rsplit('/').find(|part| part.contains('-')).unwrap_or(file).to_owned(),
        false if file == "???" || file.is_empty() => "libraries without line numbers".to_owned(),
        false => file.rsplit('/').next().unwrap_or(file).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_of_the_file_they_were_written_in() {
        let text = "events: Ir\n\
                    fl=(1) /home/x/weir/netstack/src/path.rs\nfn=(1) input\n10 30\n+2 10\n\
                    fi=(2) /rustc/0123/library/core/src/option.rs\n7 20\nfe=(1)\n12 20\n\
                    cfi=(3) ???\ncfn=(2) lookup\ncalls=4 0\n13 1000\n* 20\n\
                    fl=(3)\nfn=(2)\n0 100\n";
        let count = parse(text, 10);
        assert_eq!(count.all, 20.0);
        let expected =
            [("libraries without line numbers", 10.0), ("netstack/src/path.rs", 8.0), ("core", 2.0)];
        assert_eq!(count.files, expected.map(|(name, cost)| (name.to_owned(), cost)));
    }
}
