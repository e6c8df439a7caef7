//! `lab bench-host`: the stack alone, between ports in memory, and where its instructions are.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::compare::{MILLION, cell};
use super::host::{Load, gigahertz};
use super::program::{Cores, Program, built, install, success};
use super::report::{Report, Table};
use super::samples::{Figure, in_turn, in_turn_of};
use super::{Options, Size, callgrind, cores, keep, short};

/// The functions of netstack/benches/host that are measured.
pub(super) const MEASURED: &[&str] = &["*full_batches*", "*small_batches*"];
const SIZES: [Size; 6] = [
    Size { six: false, routes: 10 },
    Size { six: false, routes: 10_000 },
    Size { six: false, routes: 1_000_000 },
    Size { six: true, routes: 10 },
    Size { six: true, routes: 10_000 },
    Size { six: true, routes: 200_000 },
];
const FLOWS: [usize; 4] = [1, 64, 10_000, MILLION];
const BATCHES: [usize; 3] = [64, 16, 1];
/// Captures beside forwarding.
const CAPTURES: [&str; 6] = ["", "all", "whole", "nothing", "web", "host"];
const FRAMES: [&str; 5] = ["64", "128", "512", "1518", "imix"];
/// Source files that are listed, each of at least an instruction a packet.
const FILES: usize = 16;

/// A case of forwarding.
#[derive(Clone, Copy)]
struct Case {
    flows: usize,
    frame: &'static str,
    batch: usize,
    cpus: usize,
}

/// What is measured with a table.
fn cases(size: Size, all: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for cpus in [1, 2] {
        for frame in FRAMES {
            for batch in BATCHES {
                for flows in FLOWS {
                    cases.push(Case { flows, frame, batch, cpus });
                }
            }
        }
    }
    let is_middle = size.routes == 10_000;
    // One thing differs at a time.
    cases.retain(|case| {
        all || match (case.frame, case.batch, case.cpus) {
            ("64", 64, 1) => !is_middle || case.flows == 10_000,
            ("64", _, 1) => !is_middle && [64, MILLION].contains(&case.flows),
            (_, 64, 1) => size.routes == 10 && case.flows == 64,
            ("64", 64, 2) => !is_middle && [64, MILLION].contains(&case.flows),
            _ => false,
        }
    });
    cases
}

pub(super) fn bench(options: &Options) -> Result<()> {
    install()?;
    let cores = cores(options);
    let host = built("weir-netstack", "host")?;
    let cpus = built("weir-app", "cpus")?;
    let gigahertz = gigahertz()?;
    let (load, mut report) = (Load::begin(), Report::default());
    let start = |kind: &str, size: Size| {
        let mut command = Command::new(&host);
        command.args([kind, &cores.list(), size.family(), &size.routes.to_string()]);
        Program::start(&mut command)?.ready()
    };
    for size in SIZES {
        let mut program = start("forward", size)?;
        report_forwarding(&mut report, &mut program, size, options, gigahertz)?;
    }
    report_captures(&mut report, &mut start("forward", SIZES[0])?, options, gigahertz)?;
    report_tables(&mut report, start, options.turns, gigahertz)?;
    report_instructions(&mut report, &host, cores)?;
    let text = success(&mut Command::new(&cpus), Duration::from_secs(300))?;
    report.output(
        "Packets that change CPUs (app/benches/cpus): medians, which other work on the cores disturbs",
        &text,
    );
    let introduction = format!(
        "`make bench` ({} turns a case). Frames are in memory; the generator's time is not counted. Cycles are the \
         time-stamp counter's: the quickest sample, the median in brackets. {}",
        options.turns,
        load.description(gigahertz)
    );
    keep(&report, "host", &introduction, options.record)
}

fn report_forwarding(
    report: &mut Report,
    program: &mut Program,
    size: Size,
    options: &Options,
    gigahertz: f64,
) -> Result<()> {
    let title = format!("Forwarding, {}", size.name());
    let head = ["flows", "frame", "batch", "CPUs", "Mpps", "cycles a packet and CPU"];
    let mut table = Table::new(&title, &head);
    for Case { flows, frame, batch, cpus } in cases(size, options.all) {
        let request = format!("forward {flows} {batch} {cpus} # {frame}");
        let figure = in_turn(&mut [(&mut *program, &request)], options.turns)?[0];
        let cycles = figure.times(gigahertz * cpus as f64);
        let rate = format!("{:.1}", 1e3 / figure.best);
        let [flows, batch, cpus] = [short(flows), batch.to_string(), cpus.to_string()];
        table.row(&[&flows, frame, &batch, &cpus, &rate, &cell(cycles)]);
        let case = format!("{}, {flows} flows, frames of {frame}, batch {batch}, {cpus} CPUs", size.name());
        report.measure(["forward", &case, "Weir", "cycles"], cycles);
    }
    report.table(&table);
    Ok(())
}

/// Captures of the interface that packets leave by: in turn without, with one of everything, and with one whose filter lets
/// nothing pass.
fn report_captures(
    report: &mut Report,
    program: &mut Program,
    options: &Options,
    gigahertz: f64,
) -> Result<()> {
    let head = ["frame", "capture", "cycles a packet", "more"];
    let mut table = Table::new(
        "Captures of one of two interfaces, 96 bytes a packet or whole ones, 10 routes, 64 flows",
        &head,
    );
    for frame in ["64", "512", "1518"] {
        let mut without = f64::NAN;
        for mode in CAPTURES {
            let request = format!("forward 64 64 1 # {frame} {mode}");
            let cycles =
                in_turn(&mut [(&mut *program, request.trim_end())], options.turns)?[0].times(gigahertz);
            if mode.is_empty() {
                without = cycles.best;
            }
            let name = if mode.is_empty() { "none" } else { mode };
            let more = format!("{:.0} %", (cycles.best / without - 1.0) * 100.0);
            table.row(&[frame, name, &cell(cycles), &more]);
            report.measure(["capture", &format!("{name}, frames of {frame}"), "Weir", "cycles"], cycles);
        }
    }
    report.table(&table);
    Ok(())
}

fn report_tables(
    report: &mut Report,
    start: impl Fn(&str, Size) -> Result<Program>,
    turns: usize,
    gigahertz: f64,
) -> Result<()> {
    let head = ["table", "KiB", "look-up, batches of 64", "one by one", "remove", "insert"];
    let mut table = Table::new("The table alone, cycles a look-up or change", &head);
    for size in SIZES {
        let mut program = start("fib", size)?;
        let kib = program.ask("memory")?.first().copied().unwrap_or(f64::NAN) / 1024.0;
        let mut figures = vec![
            ("look-up, batches of 64", in_turn(&mut [(&mut program, "lookup 64 #")], turns)?[0]),
            ("look-up, one by one", in_turn(&mut [(&mut program, "lookup 1 #")], turns)?[0]),
        ];
        // Too few routes to change 64 of them.
        if size.routes >= 10_000 {
            for [removed, inserted] in in_turn_of::<2>(&mut [(&mut program, "update #")], turns)? {
                figures.extend([("remove", Figure::of(removed)?), ("insert", Figure::of(inserted)?)]);
            }
        }
        let mut cells = vec![size.name(), format!("{kib:.0}")];
        for (work, figure) in &figures {
            let cycles = figure.times(gigahertz);
            report.measure([work, &size.name(), "Weir", "cycles"], cycles);
            cells.push(cell(cycles));
        }
        cells.resize(head.len(), "–".to_owned());
        table.row(&cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
    report.table(&table);
    Ok(())
}

/// Where the instructions stand tells the stages apart: a stage is a file.
fn report_instructions(report: &mut Report, host: &std::path::Path, cores: Cores) -> Result<()> {
    let core = cores.0.to_string();
    let mut counts = Vec::new();
    for (name, family, batch) in [("IPv4, 64", "4", 64), ("IPv4, 1", "4", 1), ("IPv6, 64", "6", 64)] {
        let arguments = ["forward", &core, family, "10"];
        let count = callgrind::count(host, &arguments, MEASURED, &format!("forward 64 {batch} 1 #"))?;
        report.measure(
            ["instructions", name, "Weir", "instructions"],
            Figure { best: count.all, median: count.all },
        );
        counts.push((name, count));
    }
    for mode in CAPTURES {
        let request = format!("forward 64 64 1 # 64 {mode}");
        let count = callgrind::count(host, &["forward", &core, "4", "10"], MEASURED, request.trim_end())?;
        let name = format!("IPv4, 64, capture of {}", if mode.is_empty() { "none" } else { mode });
        report.measure(
            ["instructions", &name, "Weir", "instructions"],
            Figure { best: count.all, median: count.all },
        );
    }
    let mut head = vec!["written in"];
    head.extend(counts.iter().map(|(name, _)| *name));
    let title =
        "Instructions a packet by source file, 10 routes, 64 flows, batches of 64 and 1, by callgrind";
    let mut table = Table::new(title, &head);
    let files = counts.first().map(|(_, count)| count.files.clone()).unwrap_or_default();
    let of = |count: &callgrind::Count, file: &str| {
        count.files.iter().find(|(name, _)| name == file).map_or(0.0, |(_, instructions)| *instructions)
    };
    let mut line = |name: &str, numbers: Vec<f64>| {
        let numbers: Vec<String> = numbers.iter().map(|number| format!("{number:.0}")).collect();
        let cells: Vec<&str> = std::iter::once(name).chain(numbers.iter().map(String::as_str)).collect();
        table.row(&cells);
    };
    line("all", counts.iter().map(|(_, count)| count.all).collect());
    for (file, _) in files.iter().take(FILES).filter(|(_, instructions)| *instructions >= 1.0) {
        line(file, counts.iter().map(|(_, count)| of(count, file)).collect());
    }
    report.table(&table);
    Ok(())
}
