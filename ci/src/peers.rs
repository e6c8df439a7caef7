//! `lab bench-host` and `lab bench-peers`: the stack as an ordinary program, alone and against DPDK and Linux doing the
//! same work.

mod callgrind;
mod compare;
mod host;
mod linux;
mod parity;
mod program;
mod report;
mod samples;
mod stack;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cleanup::{Made, Thing};
use program::Cores;
use report::Report;

/// What to do.
pub(crate) struct Options {
    /// Times that each program is asked for samples of a case.
    pub(crate) turns: usize,
    /// The first takes all work that one core does.
    pub(crate) cores: (usize, usize),
    /// Replace the figures in docs/performance.
    pub(crate) record: bool,
    /// Every combination.
    pub(crate) all: bool,
}

/// The stack alone.
pub(crate) fn bench_host(options: &Options) -> Result<bool> {
    stack::bench(options).map(|()| true)
}

/// The stack beside others.
pub(crate) fn bench_peers(options: &Options) -> Result<bool> {
    compare::bench(options).map(|()| true)
}

/// Routes of a table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Size {
    six: bool,
    routes: usize,
}

impl Size {
    fn family(self) -> &'static str {
        if self.six { "6" } else { "4" }
    }

    fn name(self) -> String {
        format!("IPv{}, {} routes", self.family(), short(self.routes))
    }
}

/// A number in words: 2^20 is a million flows.
fn short(number: usize) -> String {
    match number {
        1_000_000.. => format!("{} M", number / 1_000_000),
        1000.. => format!("{} k", number / 1000),
        _ => number.to_string(),
    }
}

/// A folder for what is built and exported, removed in the end.
fn workshop() -> Result<(PathBuf, Made)> {
    let folder = std::env::temp_dir().join(format!("weir-peers-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let made = Made::register(Thing::Directory(folder.clone()));
    Ok((folder, made))
}

/// Ends a command: `docs/performance` gets what was measured, or target/lab does.
fn keep(report: &Report, name: &str, introduction: &str, record: bool) -> Result<()> {
    let (folder, docs) = (Path::new("target/lab"), Path::new("docs/performance"));
    let folder = if record { docs } else { folder };
    std::fs::create_dir_all(folder)?;
    let file = folder.join(format!("{name}.tsv"));
    std::fs::write(&file, report.tsv())?;
    println!("{introduction}\n\nFor programs: {}", file.display());
    if record {
        report::replace(&docs.join("README.md"), name, &report.markdown(introduction))?;
        println!("docs/performance/README.md has these tables now.");
    }
    Ok(())
}

/// As the cores' option names them.
fn cores(options: &Options) -> Cores {
    Cores(options.cores.0, options.cores.1)
}
