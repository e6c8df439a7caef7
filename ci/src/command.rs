//! Programs the lab runs: captured output, a hard time limit, and an error that names the package that is missing.

use std::io::{Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::cleanup::{Made, Thing};

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// The standard output of a program that succeeded, or an error that quotes what it said.
    pub(crate) fn success(self, what: &str) -> Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        let said = [self.stdout.trim(), self.stderr.trim()].join("\n");
        bail!("{what} failed ({}): {}", self.status, last_lines(&said, 12))
    }
}

/// The last `count` lines of `text`.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim().lines().collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}

/// Debian package that has a program.
pub(crate) fn package_of(program: &str) -> &'static str {
    match program {
        "qemu-system-x86_64" => "qemu-system-x86",
        "ip" | "ss" | "bridge" => "iproute2",
        "ping" => "iputils-ping",
        "tcpdump" => "tcpdump",
        "tshark" | "capinfos" => "tshark",
        "iperf3" => "iperf3",
        "traceroute" => "traceroute",
        "ethtool" => "ethtool",
        "busybox" => "busybox-static",
        "modprobe" => "kmod",
        "addr2line" | "objcopy" => "binutils",
        "grub-mkimage" => "grub-common",
        "qemu-img" => "qemu-utils",
        "mcopy" => "mtools",
        "mkfs.fat" => "dosfstools",
        "virt-xml-validate" => "libvirt-clients",
        "xmllint" => "libxml2-utils",
        "dash" => "dash",
        "dnsmasq" => "dnsmasq-base",
        "chronyd" => "chrony",
        "rsyslogd" => "rsyslog",
        "chromium" => "chromium",
        "chromedriver" => "chromium-driver",
        "curl" => "curl",
        "promtool" | "prometheus" => "prometheus",
        "openssl" => "openssl",
        "setpriv" => "util-linux",
        _ => "coreutils",
    }
}

/// Turns "not found" into the line that installs the program.
pub(crate) fn explain(program: &str, error: std::io::Error) -> anyhow::Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        return anyhow!("{program} is not installed: apt-get install -y {}", package_of(program));
    }
    anyhow!("cannot run {program}: {error}")
}

/// Runs `command` with `input` on its standard input; ends it when `limit` is over.
pub(crate) fn run(command: &mut Command, input: &[u8], limit: Duration) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| explain(&program, e))?;
    let made = Made::register(Thing::Process(child.id()));
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        thread::spawn(move || stdin.write_all(&input));
    }
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().with_context(|| format!("waiting for {program}"))? {
            break Some(status);
        }
        if Instant::now() > deadline {
            break None;
        }
        thread::sleep(Duration::from_millis(3));
    };
    let Some(status) = status else {
        drop(made);
        let _ = child.wait();
        bail!("{program} took longer than {} s", limit.as_secs());
    };
    made.release();
    let text =
        |handle: Option<thread::JoinHandle<String>>| handle.and_then(|h| h.join().ok()).unwrap_or_default();
    Ok(Output { status, stdout: text(stdout), stderr: text(stderr) })
}

/// Runs `program` with `arguments`; its output if it succeeded.
pub(crate) fn capture(program: &str, arguments: &[&str], limit: Duration) -> Result<String> {
    run(Command::new(program).args(arguments), &[], limit)?
        .success(&format!("{program} {}", arguments.join(" ")))
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Whether `name` is an executable on the search path (system folders included: a user's path may lack them).
pub(crate) fn installed(name: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"])
        .any(|folder| std::path::Path::new(folder).join(name).is_file())
}

/// Whether this process may make namespaces and TAP devices.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
