//! tcpdump's programs for the filters that the tests of `bpf` compare with, recorded beside them.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command;

const LIMIT: Duration = Duration::from_secs(10);

/// What to do with tcpdump's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Record,
    Check,
}

/// Records the programs, or compares them with the record; whether nothing differs.
pub(crate) fn run(purpose: Purpose) -> Result<bool> {
    let folder = crate::router::workspace()?.join("bpf/tests/expression");
    let (filters, record) = (folder.join("filters.txt"), folder.join("tcpdump.txt"));
    let list = std::fs::read_to_string(&filters).with_context(|| format!("reading {}", filters.display()))?;
    let mut text = head()?;
    let mut count = 0;
    for filter in list.lines().filter(|line| !line.starts_with('#')) {
        let optimized = program(filter, &["-y", "EN10MB"])?;
        let plain = program(filter, &["-y", "EN10MB", "-O"])?;
        // Where the kernel takes VLAN tags out of frames. libpcap's optimizer loses track of where they were.
        let live = program(filter, &["-i", "lo", "-O"])?;
        text.extend([filter, "\n ", &optimized, "\n ", &plain, "\n "]);
        text.extend([if live == plain { "=" } else { &live }, "\n"]);
        count += 1;
    }
    if purpose == Purpose::Record {
        std::fs::write(&record, text).with_context(|| format!("writing {}", record.display()))?;
        println!("{count} filters recorded in {}", record.display());
        return Ok(true);
    }
    let recorded =
        std::fs::read_to_string(&record).with_context(|| format!("reading {}", record.display()))?;
    let differ = text.lines().zip(recorded.lines()).find(|(now, then)| now != then);
    match differ {
        None if text.len() == recorded.len() => {
            println!("{count} filters: tcpdump's programs are as recorded")
        }
        None => println!("FAIL    {} lacks filters; lab filters --record", record.display()),
        Some((now, then)) => {
            println!("FAIL    tcpdump now: {now}\n        recorded:    {then}\nlab filters --record")
        }
    }
    Ok(text == recorded)
}

/// Where the programs come from.
fn head() -> Result<String> {
    let version = command::run(Command::new("tcpdump").arg("--version"), &[], LIMIT)?;
    let said = [version.stdout, version.stderr].concat();
    let lines = said.lines().filter(|line| line.contains("version")).map(|line| format!("# {line}\n"));
    let made = "# Filters, and what tcpdump -ddd makes of each: with its optimizer, without (-O), and without on an interface\n\
                # of Linux (= if that is the same): lab filters --record.\n";
    Ok(lines.fold(made.to_owned(), |all, line| all + &line))
}

/// A filter's program for Ethernet in one line: four numbers an instruction, without their count.
fn program(filter: &str, options: &[&str]) -> Result<String> {
    let mut tcpdump = Command::new("tcpdump");
    tcpdump.arg("-ddd").args(options).args(["--", filter]);
    let printed = command::run(&mut tcpdump, &[], LIMIT)?.success(&format!("tcpdump -ddd {filter:?}"))?;
    let (_, instructions) = printed.split_once('\n').context("tcpdump printed no program")?;
    Ok(instructions.split_whitespace().collect::<Vec<_>>().join(" "))
}
