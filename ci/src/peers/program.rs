//! Programs that are asked for samples: ours in netstack/benches/host, DPDK's and Linux's in peers.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cleanup::{Made, Thing};
use crate::command::{self, explain, is_root};

/// What DPDK's programs are built of, and what counts instructions.
const PACKAGES: &str = "gcc pkg-config libdpdk-dev dpdk-dev valgrind";
/// A build on a busy machine.
const BUILD: Duration = Duration::from_secs(1800);
/// A short command.
pub(super) const LIMIT: Duration = Duration::from_secs(180);
/// DPDK without huge pages, devices and files outside its own; with AVX-512 where there is any.
pub(super) const EAL: [&str; 7] = [
    "--no-huge",
    "--no-shconf",
    "--no-pci",
    "--no-telemetry",
    "--log-level=3",
    "--force-max-simd-bitwidth=512",
    "-m1700",
];

/// The two cores everything runs on: the first alone where one is enough.
#[derive(Clone, Copy)]
pub(super) struct Cores(pub(super) usize, pub(super) usize);

impl Cores {
    pub(super) fn list(self) -> String {
        format!("{},{}", self.0, self.1)
    }
}

/// A program that waits for requests.
pub(super) struct Program {
    name: String,
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    made: Option<Made>,
}

impl Program {
    /// Starts `command`; it sets itself up meanwhile.
    pub(super) fn start(command: &mut Command) -> Result<Program> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| explain(&name, error))?;
        let made = Some(Made::register(Thing::Process(child.id())));
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("a pipe")?);
        Ok(Program { name, child, requests, answers, made })
    }

    /// Waits until it is set up.
    pub(super) fn ready(mut self) -> Result<Program> {
        let said = self.line()?;
        ensure!(said.trim() == "ready", "{} said: {}", self.name, said.trim());
        Ok(self)
    }

    /// It has ended.
    fn forget(&mut self) {
        if let Some(made) = self.made.take() {
            made.release();
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            let status = self.child.wait()?;
            self.forget();
            bail!("{} ended: {status}", self.name);
        }
        Ok(line)
    }

    /// The samples it answers `request` with.
    pub(super) fn ask(&mut self, request: &str) -> Result<Vec<f64>> {
        let requests = self.requests.as_mut().context("a pipe")?;
        requests.write_all(format!("{request}\n").as_bytes()).with_context(|| self.name.clone())?;
        let line = self.line()?;
        let samples: Result<Vec<f64>, _> = line.split_whitespace().map(str::parse).collect();
        samples.with_context(|| format!("{} answered {request} with {line}", self.name))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The end of its requests ends it.
        self.requests = None;
        let _ = self.child.wait();
        self.forget();
    }
}

/// A command that must succeed; its output.
pub(super) fn success(command: &mut Command, limit: Duration) -> Result<String> {
    let what = format!("{command:?}");
    command::run(command, &[], limit)?.success(&what)
}

/// A benchmark of ours, built; its program.
pub(super) fn built(package: &str, name: &str) -> Result<PathBuf> {
    let mut command = Command::new("cargo");
    command.args(["bench", "--package", package, "--bench", name, "--no-run"]);
    let output = command::run(&mut command, &[], BUILD)?;
    let said = output.stderr.clone();
    output.success("cargo bench --no-run")?;
    // "  Executable benches/host/main.rs (target/release/deps/host-0123456789abcdef)"
    let mut path =
        said.lines().filter_map(|line| line.trim().strip_prefix("Executable")?.split(['(', ')']).nth(1));
    path.next_back().map(PathBuf::from).with_context(|| format!("cargo named no program: {said}"))
}

/// Installs what DPDK's programs are built of.
pub(super) fn install() -> Result<()> {
    let there = command::capture("pkg-config", &["--exists", "libdpdk"], Duration::from_secs(5)).is_ok()
        && command::installed("dpdk-test-fib")
        && command::installed("valgrind");
    if there {
        return Ok(());
    }
    let line = format!("apt-get update && apt-get install -y --no-install-recommends {PACKAGES}");
    if !is_root() {
        bail!("DPDK or valgrind is not installed: sudo sh -c '{line}'");
    }
    println!("{line}");
    success(Command::new("sh").args(["-c", &line]), Duration::from_secs(900)).map(|_| ())
}

/// The compiler's options for all programs in peers.
pub(super) const CFLAGS: &str = "-O3 -march=native -Wall";

/// Builds `peers/NAME.c`, for `arch` if not for this very CPU; the program.
pub(super) fn compiled(folder: &Path, name: &str, arch: Option<&str>) -> Result<PathBuf> {
    let program = folder.join(arch.map_or(name.to_owned(), |arch| format!("{name}-{arch}")));
    let flags = CFLAGS.replace("native", arch.unwrap_or("native"));
    let line = format!(
        "gcc {flags} $(pkg-config --cflags libdpdk) peers/{name}.c -o {} $(pkg-config --libs libdpdk)",
        program.display()
    );
    success(Command::new("sh").args(["-c", &line]), BUILD)?;
    Ok(program)
}
