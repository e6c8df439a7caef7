//! `lab bench-peers`: forwarding, tables and rings in turn with DPDK on the same cores; forwarding by Linux.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::host::{Load, gigahertz};
use super::linux::Linux;
use super::parity::{self, Key, Pair};
use super::program::{CFLAGS, Cores, EAL, LIMIT, Program, built, compiled, install, success};
use super::report::{Report, Table, plot};
use super::samples::{Figure, in_turn, in_turn_of};
use super::{Options, Size, callgrind, cores, keep, short, workshop};
use crate::command::{self, is_root};

pub(super) const MILLION: usize = 1 << 20;
pub(super) const SIZES: [Size; 4] = [
    Size { six: false, routes: 10 },
    Size { six: false, routes: 1_000_000 },
    Size { six: true, routes: 10 },
    Size { six: true, routes: 200_000 },
];
/// Flows, batch, CPUs.
const CASES: [(usize, usize, usize); 10] = [
    (1, 64, 1),
    (64, 64, 1),
    (10_000, 64, 1),
    (MILLION, 64, 1),
    (64, 16, 1),
    (MILLION, 16, 1),
    (64, 1, 1),
    (MILLION, 1, 1),
    (64, 64, 2),
    (MILLION, 64, 2),
];
/// Turns of Linux, whose samples take long.
const LINUX_TURNS: usize = 5;

/// Where everything is.
struct Shop {
    folder: PathBuf,
    host: PathBuf,
    forward: PathBuf,
    fib: PathBuf,
    ring: PathBuf,
    cores: Cores,
    turns: usize,
    gigahertz: f64,
}

pub(super) fn bench(options: &Options) -> Result<()> {
    install()?;
    let (folder, _made) = workshop()?;
    let program = |name| compiled(&folder, name, None);
    let shop = Shop {
        host: built("weir-netstack", "host")?,
        forward: program("forward")?,
        fib: program("fib")?,
        ring: program("ring")?,
        cores: cores(options),
        turns: options.turns,
        gigahertz: gigahertz()?,
        folder: folder.clone(),
    };
    let flood = program("flood")?;
    for size in SIZES {
        let folder = shop.exported(size);
        std::fs::create_dir_all(&folder)?;
        let routes = size.routes.to_string();
        let mut export = Command::new(&shop.host);
        success(export.arg("export").arg(&folder).args([size.family(), &routes]), LIMIT)?;
    }
    let (load, mut report) = (Load::begin(), Report::default());
    let mut measured = parity::Measured { forward: shop.forwarding(&mut report)?, ..Default::default() };
    shop.tables(&mut report, &mut measured)?;
    shop.rings(&mut report, &mut measured)?;
    shop.instructions(&mut report)?;
    if is_root() {
        shop.linux(&flood, &mut report, &measured.forward)?;
    } else {
        println!("Linux's forwarding: needs root (network namespaces)\n");
    }
    report.summary(&parity::table(&measured));
    let version = command::capture("pkg-config", &["--modversion", "libdpdk"], LIMIT)?;
    let introduction = format!(
        "`make bench-peers` ({} turns a case), DPDK {} with `{}`, its programs with `gcc {CFLAGS}`, Weir for any x86-64, \
         its loops over packets for x86-64-v3 too. Cycles are the time-stamp counter's: the quickest sample, the median in \
         brackets. A ratio above 1: Weir takes less. {}",
        options.turns,
        version.trim(),
        EAL.join(" "),
        load.description(shop.gigahertz)
    );
    keep(&report, "peers", &introduction, options.record)?;
    if options.record {
        shop.plots(&measured.forward)?;
    }
    Ok(())
}

/// Quickest and median.
pub(super) fn cell(figure: Figure) -> String {
    match figure.best {
        ..10.0 => format!("{:.1} ({:.1})", figure.best, figure.median),
        ..10_000.0 => format!("{:.0} ({:.0})", figure.best, figure.median),
        _ => format!("{:.1} k ({:.1} k)", figure.best / 1e3, figure.median / 1e3),
    }
}

impl Shop {
    fn exported(&self, size: Size) -> PathBuf {
        self.folder.join(format!("{}-{}", size.family(), size.routes))
    }

    /// Our program and DPDK's with the same table.
    fn pair(&self, kind: &str, dpdk: &Path, cores: &str, size: Size) -> Result<[Program; 2]> {
        let mut ours = Command::new(&self.host);
        ours.args([kind, cores, size.family(), &size.routes.to_string()]);
        // One after the other: what is timed at first should find the core to itself.
        let ours = Program::start(&mut ours)?.ready()?;
        Ok([ours, self.dpdk(dpdk, cores, size, &[])?])
    }

    /// DPDK's program.
    fn dpdk(&self, program: &Path, cores: &str, size: Size, mode: &[&str]) -> Result<Program> {
        let folder = self.exported(size);
        let mut theirs = Command::new(program);
        theirs.args(EAL).args(["-l", cores, "--", size.family()]);
        theirs.arg(folder.join("routes")).arg(folder.join("addresses")).args(mode);
        Program::start(&mut theirs)?.ready()
    }

    fn cycles(&self, pair: &[Figure]) -> Pair {
        Pair { ours: pair[0].times(self.gigahertz), theirs: pair[1].times(self.gigahertz) }
    }

    fn forwarding(&self, report: &mut Report) -> Result<BTreeMap<Key, Pair>> {
        let mut all = BTreeMap::new();
        for size in SIZES {
            let title = format!("Forwarding, {}, 64-byte frames, cycles a packet and CPU", size.name());
            let mut table = Table::new(
                &title,
                &["flows", "batch", "CPUs", "Weir", "DPDK", "ratio", "DPDK, same checks", "ratio to that"],
            );
            let [mut ours, mut theirs] = self.pair("forward", &self.forward, &self.cores.list(), size)?;
            let mut checked = self.dpdk(&self.forward, &self.cores.list(), size, &["checked"])?;
            for (flows, batch, cpus) in CASES {
                let request = format!("forward {flows} {batch} {cpus} #");
                let all_three =
                    &mut [(&mut ours, request.as_str()), (&mut theirs, &request), (&mut checked, &request)];
                let figures = in_turn(all_three, self.turns)?;
                // Both CPUs worked all the time.
                let figures: Vec<Figure> = figures.iter().map(|figure| figure.times(cpus as f64)).collect();
                let (pair, checks) = (self.cycles(&figures), self.cycles(&[figures[0], figures[2]]));
                let numbers = [short(flows), batch.to_string(), cpus.to_string()];
                let case = format!("{}, {} flows, batch {batch}, {cpus} CPUs", size.name(), numbers[0]);
                pair.note(report, "forward", &case);
                report.measure(["forward", &case, "DPDK, same checks", "cycles"], checks.theirs);
                let [flows_cell, batch_cell, cpus_cell] = &numbers;
                table.row(&[
                    flows_cell,
                    batch_cell,
                    cpus_cell,
                    &cell(pair.ours),
                    &cell(pair.theirs),
                    &pair.ratio(),
                    &cell(checks.theirs),
                    &checks.ratio(),
                ]);
                all.insert(Key { size, flows, batch, cpus }, pair);
            }
            report.table(&table);
        }
        Ok(all)
    }

    fn tables(&self, report: &mut Report, measured: &mut parity::Measured) -> Result<()> {
        let core = self.cores.0.to_string();
        let mut table = Table::new(
            "The table alone, cycles a look-up or change",
            &["table", "work", "Weir", "DPDK", "ratio"],
        );
        for size in [SIZES[1], SIZES[3]] {
            let [mut ours, mut theirs] = self.pair("fib", &self.fib, &core, size)?;
            let mut note = |work: &str, pair: Pair| {
                pair.note(report, work, &size.name());
                table.row(&[&size.name(), work, &cell(pair.ours), &cell(pair.theirs), &pair.ratio()]);
            };
            let first = |program: &mut Program| Figure::of(program.ask("first")?);
            let pair = self.cycles(&[first(&mut ours)?, first(&mut theirs)?]);
            note("look-up, first pass, batches of 64", pair);
            for batch in [64, 1] {
                let request = format!("lookup {batch} #");
                let asked = &mut [(&mut ours, request.as_str()), (&mut theirs, request.as_str())];
                let pair = self.cycles(&in_turn(asked, self.turns)?);
                let work = if batch == 1 {
                    "look-up, one by one".to_owned()
                } else {
                    format!("look-up, batches of {batch}")
                };
                note(&work, pair);
                if batch == 64 && !size.six {
                    measured.lookup = Some(pair);
                    measured.lookup_bytes = ours.ask("memory")?.first().copied();
                }
            }
            let asked = &mut [(&mut ours, "update #"), (&mut theirs, "update #")];
            let mut samples = in_turn_of::<2>(asked, self.turns)?.into_iter();
            let [ours_removed, ours_inserted] = samples.next().context("ours")?;
            let [theirs_removed, theirs_inserted] = samples.next().context("theirs")?;
            for (work, a, b) in
                [("remove", ours_removed, theirs_removed), ("insert", ours_inserted, theirs_inserted)]
            {
                let pair = self.cycles(&[Figure::of(a)?, Figure::of(b)?]);
                note(&format!("{work} a route"), pair);
                if !size.six {
                    measured.updates.push(pair);
                }
            }
        }
        report.table(&table);

        let mut table = Table::new(
            "One pass over 2^20 addresses, cycles a look-up, against dpdk-test-fib; both twice",
            &["table", "Weir", "dpdk-test-fib", "ratio"],
        );
        for size in [SIZES[1], SIZES[3]] {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..2 {
                let mut host = Command::new(&self.host);
                host.args(["fib", &core, size.family(), &size.routes.to_string()]);
                ours.extend(Program::start(&mut host)?.ready()?.ask("first")?);
                theirs.push(self.dpdk_test_fib(size)? / self.gigahertz);
            }
            let pair = self.cycles(&[Figure::of(ours)?, Figure::of(theirs)?]);
            pair.note(report, "dpdk-test-fib", &size.name());
            table.row(&[&size.name(), &cell(pair.ours), &cell(pair.theirs), &pair.ratio()]);
        }
        report.table(&table);
        Ok(())
    }

    /// What it found, cycles a look-up.
    fn dpdk_test_fib(&self, size: Size) -> Result<f64> {
        let core = self.cores.0.to_string();
        let mut command = Command::new("dpdk-test-fib");
        command.args(["--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "-m3000", "-l", &core, "--"]);
        command.args(match size.six {
            false => &["-b", "dir"][..],
            true => &["-6", "-b", "trie", "-g", "1000000"],
        });
        let folder = self.exported(size);
        command.arg("-f").arg(folder.join("routes")).arg("-t").arg(folder.join("addresses"));
        let said = success(&mut command, LIMIT)?;
        let found = said.lines().find_map(|line| line.strip_prefix("AVG FIB lookup")?.trim().parse().ok());
        found.with_context(|| {
            format!("dpdk-test-fib said nothing of look-ups: {}", command::last_lines(&said, 5))
        })
    }

    fn rings(&self, report: &mut Report, measured: &mut parity::Measured) -> Result<()> {
        let cores = self.cores.list();
        let ours = Program::start(Command::new(&self.host).args(["ring", &cores]))?;
        let theirs = Program::start(Command::new(&self.ring).args(EAL).args(["-l", &cores]))?;
        let (mut ours, mut theirs) = (ours.ready()?, theirs.ready()?);
        let mut table = Table::new(
            "Ring of one producer and one consumer, 32 at a time, cycles an element",
            &["threads", "Weir", "DPDK", "ratio"],
        );
        for (request, name) in [("single #", "one does both"), ("pair #", "one each, two cores")] {
            let pair = self
                .cycles(&in_turn(&mut [(&mut ours, request), (&mut theirs, request)], self.turns / 4 + 1)?);
            pair.note(report, "ring", name);
            table.row(&[name, &cell(pair.ours), &cell(pair.theirs), &pair.ratio()]);
            measured.handoff.push((name, pair));
        }
        report.table(&table);
        Ok(())
    }

    fn instructions(&self, report: &mut Report) -> Result<()> {
        // Callgrind knows no AVX-512.
        let forward = compiled(&self.folder, "forward", Some("x86-64-v3"))?;
        let mut table = Table::new(
            "Instructions a packet, batches of 64, 64 flows, by callgrind (DPDK compiled for x86-64-v3)",
            &["table", "Weir", "DPDK", "ratio", "DPDK, same checks", "ratio to that"],
        );
        let core = self.cores.0.to_string();
        for size in [SIZES[0], SIZES[2]] {
            let routes = size.routes.to_string();
            let folder = self.exported(size);
            let request = "forward 64 64 1 #";
            let ours = callgrind::count(
                &self.host,
                &["forward", &core, size.family(), &routes],
                super::stack::MEASURED,
                request,
            )?;
            let files = ["routes", "addresses"].map(|file| folder.join(file).display().to_string());
            let mut arguments: Vec<&str> =
                EAL.iter().copied().filter(|word| !word.starts_with("--force-max")).collect();
            arguments.extend(["-l", &core, "--", size.family(), &files[0], &files[1]]);
            let theirs = callgrind::count(&forward, &arguments, &["forward4", "forward6"], request)?;
            arguments.push("checked");
            let checked = callgrind::count(&forward, &arguments, &["checked4", "checked6"], request)?;
            let figure = |all: f64| Figure { best: all, median: all };
            let pair = Pair { ours: figure(ours.all), theirs: figure(theirs.all) };
            let checks = Pair { theirs: figure(checked.all), ..pair };
            pair.note(report, "instructions", &size.name());
            report
                .measure(["instructions", &size.name(), "DPDK, same checks", "instructions"], checks.theirs);
            let [ours, theirs, checked] = [ours.all, theirs.all, checked.all].map(|all| format!("{all:.0}"));
            table.row(&[&size.name(), &ours, &theirs, &pair.ratio(), &checked, &checks.ratio()]);
        }
        report.table(&table);
        Ok(())
    }

    fn linux(&self, flood: &Path, report: &mut Report, forward: &BTreeMap<Key, Pair>) -> Result<()> {
        let mut table = Table::new(
            "Linux between veth devices, one core, cycles a packet (quickest sample); sending by sendmmsg() is taken off",
            &["table", "flows", "with sending", "sending", "forwarding", "packets a CPU second", "Weir"],
        );
        for size in [SIZES[0], SIZES[2]] {
            let mut linux = Linux::start(flood, &self.exported(size), size.six, self.cores)?;
            for flows in [64, MILLION] {
                let [with, send] = linux.forward(flows, LINUX_TURNS)?;
                let [with, send] = [with, send].map(|figure| figure.times(self.gigahertz));
                let alone = with.less(send);
                let case = format!("{}, {} flows, batch 64, 1 CPUs", size.name(), short(flows));
                report.measure(["forward", &case, "Linux", "cycles"], alone);
                let rate = self.gigahertz * 1e9 / alone.best;
                let key = Key { size, flows, batch: 64, cpus: 1 };
                let ours =
                    forward.get(&key).map_or("–".to_owned(), |pair| format!("{:.0}", pair.ours.best));
                let [with, send, alone] = [with, send, alone].map(|figure| format!("{:.0}", figure.best));
                let rate = format!("{:.2} M", rate / 1e6);
                table.row(&[&size.name(), &short(flows), &with, &send, &alone, &rate, &ours]);
            }
        }
        report.table(&table);
        Ok(())
    }

    fn plots(&self, forward: &BTreeMap<Key, Pair>) -> Result<()> {
        let bars = |of: &dyn Fn(&Key) -> bool, name: &dyn Fn(&Key) -> String| -> Vec<(String, f64, f64)> {
            let chosen = forward.iter().filter(|(key, _)| key.cpus == 1 && of(key));
            chosen.map(|(key, pair)| (name(key), pair.ours.best, pair.theirs.best)).collect()
        };
        let by_flows = bars(&|key| key.batch == 64, &|key| {
            format!("{}, {} flow{}", key.size.name(), short(key.flows), if key.flows == 1 { "" } else { "s" })
        });
        let by_batch = bars(&|key| key.flows == 64 && key.size.routes == 10, &|key| {
            format!("{}, batch {}", key.size.name(), key.batch)
        });
        for (file, title, cases) in [
            ("forwarding.svg", "Cycles a packet, batches of 64, one core (lower is better)", by_flows),
            ("batches.svg", "Cycles a packet by batch, 64 flows, one core (lower is better)", by_batch),
        ] {
            std::fs::write(Path::new("docs/performance").join(file), plot(title, &cases))?;
        }
        Ok(())
    }
}
