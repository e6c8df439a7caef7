//! Commands into dom0 and their results back, over dom0's second serial port. `serve` is this program inside dom0,
//! `Agent` its other end in the lab. One command at a time; a frame is a line with lengths, then the bytes:
//!   lab:  run LIMIT_MS SCRIPT_BYTES     dom0:  done CODE STDOUT_BYTES STDERR_BYTES
//! CODE is an exit code, or `late` if the command was ended at its limit.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::command::last_lines;

/// What dom0 says before it takes commands.
const GREETING: &str = "lab agent 1";

/// Exit code of a script that was ended.
const LATE: i32 = -1;

/// What dom0 needs beyond a command's own time, on a busy machine.
const GRACE: Duration = Duration::from_secs(20);

/// The lab's end.
pub(crate) struct Agent {
    stream: UnixStream,
}

/// What a command in dom0 left behind.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Both outputs, for an error's text.
    pub(crate) fn said(&self) -> String {
        last_lines(&format!("{}\n{}", self.stdout.trim(), self.stderr.trim()), 12)
    }
}

impl Agent {
    /// Connects to QEMU's socket, which may not be there yet. dom0 need not have booted.
    pub(crate) fn connect(path: &Path, limit: Duration) -> Result<Agent> {
        let deadline = Instant::now() + limit;
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => return Ok(Agent { stream }),
                Err(error) if Instant::now() > deadline => {
                    return Err(error).context("QEMU has no serial port for the agent");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Waits until dom0 takes commands.
    pub(crate) fn greet(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        // The kernel may say something on the port first.
        while !self.line(deadline)?.ends_with(GREETING) {}
        Ok(())
    }

    /// Runs a script in dom0's shell, which must be done in `limit`.
    pub(crate) fn run(&mut self, script: &str, limit: Duration) -> Result<Output> {
        let output = self.run_to_limit(script, limit)?;
        ensure!(output.code != LATE, "not done in {} s: {script}\n{}", limit.as_secs(), output.said());
        Ok(output)
    }

    /// The same; at its limit a script is ended, with `LATE` for its exit code.
    pub(crate) fn run_to_limit(&mut self, script: &str, limit: Duration) -> Result<Output> {
        let header = format!("run {} {}\n", limit.as_millis(), script.len());
        self.stream.write_all(header.as_bytes()).context("dom0 takes no command")?;
        self.stream.write_all(script.as_bytes()).context("dom0 takes no command")?;
        let deadline = Instant::now() + limit + GRACE;
        let answer = self.line(deadline)?;
        let words: Vec<&str> = answer.split_whitespace().collect();
        let ["done", code, stdout, stderr] = words.as_slice() else {
            bail!("dom0 answered {answer:?}");
        };
        let lengths = (stdout.parse().context("length")?, stderr.parse().context("length")?);
        let stdout = self.bytes(lengths.0, deadline)?;
        let stderr = self.bytes(lengths.1, deadline)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = if *code == "late" { LATE } else { code.parse().context("exit code")? };
        Ok(Output { code, stdout: text(&stdout), stderr: text(&stderr) })
    }

    fn line(&mut self, deadline: Instant) -> Result<String> {
        let mut line = Vec::new();
        loop {
            match self.bytes(1, deadline)?.as_slice() {
                [b'\n'] => return Ok(String::from_utf8_lossy(&line).trim().to_owned()),
                bytes => line.extend(bytes),
            }
        }
    }

    fn bytes(&mut self, count: usize, deadline: Instant) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        let mut have = 0;
        while have < count {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "dom0 does not answer");
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(bytes.get_mut(have..).unwrap_or_default()) {
                Ok(0) => bail!("the machine ended"),
                Ok(more) => have += more,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("reading from dom0"),
            }
        }
        Ok(bytes)
    }
}

/// dom0's end: serves commands on `device` until it is closed.
pub(crate) fn serve(device: &Path) -> Result<()> {
    let open = || File::options().read(true).write(true).open(device);
    let mut port = open().with_context(|| format!("opening {}", device.display()))?;
    let mut modes = tcgetattr(&port).context("serial port")?;
    modes.make_raw();
    tcsetattr(&port, OptionalActions::Flush, &modes).context("serial port")?;
    port.write_all(format!("\n{GREETING}\n").as_bytes())?;
    loop {
        let mut header = Vec::new();
        while header.last() != Some(&b'\n') {
            let mut byte = [0];
            port.read_exact(&mut byte).context("reading a command")?;
            header.push(byte[0]);
        }
        let header = String::from_utf8_lossy(&header).into_owned();
        let words: Vec<&str> = header.split_whitespace().collect();
        let ["run", limit, length] = words.as_slice() else { continue };
        let (Ok(limit), Ok(length)) = (limit.parse(), length.parse()) else { continue };
        let mut script = vec![0; length];
        port.read_exact(&mut script).context("reading a script")?;
        let (code, stdout, stderr) = execute(&script, Duration::from_millis(limit))?;
        let mut answer = format!("done {code} {} {}\n", stdout.len(), stderr.len()).into_bytes();
        answer.extend(stdout);
        answer.extend(stderr);
        port.write_all(&answer).context("answering")?;
    }
}

/// Output goes to files, so that what a script leaves in the background holds nothing up.
fn execute(script: &[u8], limit: Duration) -> Result<(String, Vec<u8>, Vec<u8>)> {
    let (path, out, err) = ("/tmp/lab.script", "/tmp/lab.out", "/tmp/lab.err");
    std::fs::write(path, script).context("writing the script")?;
    let mut child = Command::new("/bin/sh")
        .arg(path)
        .stdin(Stdio::null())
        .stdout(File::create(out)?)
        .stderr(File::create(err)?)
        .process_group(0)
        .spawn()
        .context("starting a shell")?;
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    let code = loop {
        if let Some(status) = child.try_wait()? {
            break status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()).to_string();
        }
        if Instant::now() > deadline {
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            let _ = child.wait();
            break "late".to_owned();
        }
        std::thread::sleep(pause);
        // A measurement must not be disturbed by its own supervision.
        pause = (pause * 2).min(Duration::from_millis(100));
    };
    Ok((code, std::fs::read(out)?, std::fs::read(err)?))
}
