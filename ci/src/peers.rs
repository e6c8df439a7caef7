//! `lab bench-peers`: the forwarding path and its table against DPDK doing the same work, in turn on one core.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::{self, is_root};

/// What it is compared with.
const PACKAGES: &str = "gcc pkg-config libdpdk-dev dpdk-dev";
/// A program's set-up with a million routes, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
/// DPDK without huge pages, devices and files outside its own.
const EAL: [&str; 5] = ["--no-huge", "--no-pci", "--no-telemetry", "--log-level=3", "-m1024"];

/// The core both run on, one after the other.
fn pinned(program: &str, core: usize) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string(), program]);
    command
}

fn numbers(text: &str) -> Result<(f64, f64)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(second))) => Ok((first, second)),
        _ => bail!("not two numbers: {text}"),
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

fn success(command: &mut Command, limit: Duration) -> Result<String> {
    let what = format!("{command:?}");
    command::run(command, &[], limit)?.success(&what)
}

/// A benchmark of ours, built; its program.
fn built(name: &str) -> Result<PathBuf> {
    let mut command = Command::new("cargo");
    command.args(["bench", "--package", "weir-netstack", "--bench", name, "--no-run"]);
    let output = command::run(&mut command, &[], Duration::from_secs(1800))?;
    let said = output.stderr.clone();
    output.success("cargo bench --no-run")?;
    // "  Executable benches/peer.rs (target/release/deps/peer-0123456789abcdef)"
    let mut path =
        said.lines().filter_map(|line| line.trim().strip_prefix("Executable")?.split(['(', ')']).nth(1));
    path.next_back().map(PathBuf::from).with_context(|| format!("cargo named no program: {said}"))
}

fn install() -> Result<()> {
    let there = command::capture("pkg-config", &["--exists", "libdpdk"], Duration::from_secs(5)).is_ok()
        && command::installed("dpdk-test-fib");
    if there {
        return Ok(());
    }
    let line = format!("apt-get update && apt-get install -y --no-install-recommends {PACKAGES}");
    if !is_root() {
        bail!("DPDK is not installed: sudo sh -c '{line}'");
    }
    println!("{line}");
    success(Command::new("sh").args(["-c", &line]), Duration::from_secs(900)).map(|_| ())
}

/// The same program with DPDK.
fn compiled(folder: &Path) -> Result<String> {
    let program = folder.join("forward").display().to_string();
    let line = format!(
        "gcc -O3 -march=native -Wall $(pkg-config --cflags libdpdk) peers/forward.c -o {program} \
         $(pkg-config --libs libdpdk)"
    );
    success(Command::new("sh").args(["-c", &line]), LIMIT)?;
    Ok(program)
}

/// What `dpdk-test-fib` found, cycles a look-up.
fn dpdk_fib(core: usize, family: &[&str], folder: &Path, files: [&str; 2]) -> Result<f64> {
    let [routes, addresses] = files.map(|file| folder.join(file).display().to_string());
    let mut command = pinned("dpdk-test-fib", core);
    command.args(["--no-huge", "--no-pci", "--no-telemetry", "-m3000", "-l", &core.to_string(), "--"]);
    command.args(family).args(["-f", &routes, "-t", &addresses]);
    let said = success(&mut command, LIMIT)?;
    let found = said.lines().find_map(|line| line.strip_prefix("AVG FIB lookup")?.trim().parse().ok());
    found
        .with_context(|| format!("dpdk-test-fib said nothing of look-ups: {}", command::last_lines(&said, 5)))
}

/// Prints the comparison, in as many `rounds`.
pub(crate) fn bench(rounds: usize, core: usize) -> Result<bool> {
    install()?;
    let folder = std::env::temp_dir().join(format!("weir-peers-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let done = compare(rounds.max(1), core, &folder);
    std::fs::remove_dir_all(&folder)?;
    done.map(|()| true)
}

fn compare(rounds: usize, core: usize, folder: &Path) -> Result<()> {
    let (peer, fib) = (built("peer")?.display().to_string(), built("fib")?.display().to_string());
    let forward = compiled(folder)?;
    success(Command::new(&peer).arg("--export").arg(folder), LIMIT)?;
    let mut write = Command::new(&fib);
    for file in ["routes", "addresses", "routes6", "addresses6"] {
        write.arg(format!("--{file}")).arg(folder.join(file));
    }
    success(&mut write, LIMIT)?;

    println!(
        "IPv4 forwarding, 64-byte frames, batches of 64, nanoseconds a packet: medians of {rounds} rounds"
    );
    println!("{:>8} {:>8} {:>10} {:>10} {:>8}", "routes", "flows", "Weir", "DPDK", "ratio");
    for (routes, flows) in [("10", "1"), ("10", "1M"), ("1M", "1"), ("1M", "1M")] {
        let files = [format!("routes-{routes}"), format!("addresses-{routes}-{flows}")];
        let files = files.map(|file| folder.join(file));
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(numbers(&success(pinned(&peer, core).args(&files), LIMIT)?)?.0);
            let mut command = pinned(&forward, core);
            command.args(EAL).args(["-l", &core.to_string(), "--"]).args(&files);
            theirs.push(numbers(&success(&mut command, LIMIT)?)?.0);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        println!("{routes:>8} {flows:>8} {ours:>10.1} {theirs:>10.1} {:>8.2}", theirs / ours);
    }

    println!();
    println!(
        "look-ups alone, batches of 64, cycles a look-up over 2^20 addresses: medians of {rounds} rounds"
    );
    println!("{:>24} {:>10} {:>10} {:>10} {:>8}", "table", "first pass", "later", "DPDK", "ratio");
    for (name, mode, family, files) in [
        ("IPv4, 1 M, any address", "--mean4", &["-b", "dir"][..], ["routes", "addresses"]),
        ("IPv6, 200 k, routed", "--mean6", &["-6", "-b", "trie", "-g", "1000000"], ["routes6", "addresses6"]),
    ] {
        let (mut first, mut later, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let ours = numbers(&success(pinned(&fib, core).arg(mode), LIMIT)?)?;
            first.push(ours.0);
            later.push(ours.1);
            theirs.push(dpdk_fib(core, family, folder, files)?);
        }
        let (first, later, theirs) = (median(first), median(later), median(theirs));
        println!("{name:>24} {first:>10.1} {later:>10.1} {theirs:>10.1} {:>8.2}", theirs / first);
    }
    println!("A ratio above 1: Weir takes less. dpdk-test-fib makes one pass, so the first counts.");
    Ok(())
}
