//! QEMU's debugger socket (GDB's remote serial protocol): runs a guest from one instruction address to another, so that
//! what is counted in between is the same every time.

use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// How long a guest may take to reach a breakpoint on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
/// Where RIP lies in the answer to `g`: behind sixteen registers of eight bytes, in hexadecimal.
const RIP: usize = 16 * 16;

/// A connection. The guest stands still from the moment of connecting, and between the calls.
pub(crate) struct Gdb {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Gdb {
    pub(crate) fn connect(path: &Path) -> Result<Gdb> {
        let stream = UnixStream::connect(path).context("QEMU's debugger socket")?;
        stream.set_read_timeout(Some(LIMIT))?;
        let reader = BufReader::new(stream.try_clone()?);
        let mut gdb = Gdb { stream, reader };
        // Why it stopped: because we are here.
        gdb.ask("?")?;
        Ok(gdb)
    }

    /// Runs until the instruction at `address` is next.
    pub(crate) fn run_to(&mut self, address: u64) -> Result<()> {
        self.set(&format!("Z0,{address:x},1"))?;
        let why = self.ask("c").with_context(|| format!("the guest does not get to {address:#x}"))?;
        ensure!(why.starts_with("T05"), "the guest stopped for another reason: {why}");
        self.set(&format!("z0,{address:x},1"))
    }

    /// Lets the guest run until `wait` returns, then stops it.
    pub(crate) fn run_while<T>(&mut self, wait: impl FnOnce() -> T) -> Result<T> {
        self.send("c")?;
        let value = wait();
        // Control-C.
        self.stream.write_all(&[3]).context("stopping the guest")?;
        self.receive()?;
        Ok(value)
    }

    /// Address of the next instruction.
    pub(crate) fn instruction(&mut self) -> Result<u64> {
        let registers = self.ask("g")?;
        let hex = registers.get(RIP..RIP + 16).context("QEMU tells no registers")?;
        Ok(u64::from_str_radix(hex, 16)?.swap_bytes())
    }

    /// The byte at `address`.
    pub(crate) fn byte(&mut self, address: u64) -> Result<u8> {
        let hex = self.ask(&format!("m{address:x},1"))?;
        u8::from_str_radix(&hex, 16).with_context(|| format!("reading guest memory at {address:#x}: {hex}"))
    }

    fn set(&mut self, command: &str) -> Result<()> {
        let answer = self.ask(command)?;
        ensure!(answer == "OK", "QEMU's debugger answers {answer:?} to {command}");
        Ok(())
    }

    fn ask(&mut self, command: &str) -> Result<String> {
        self.send(command)?;
        let stops = ["?", "c"].contains(&command);
        loop {
            let answer = self.receive()?;
            // That the guest stopped is also told when it stops because we came.
            if stops || !answer.starts_with('T') {
                return Ok(answer);
            }
        }
    }

    /// `$command#checksum`.
    fn send(&mut self, command: &str) -> Result<()> {
        let sum = command.bytes().fold(0_u8, u8::wrapping_add);
        write!(self.stream, "${command}#{sum:02x}").with_context(|| format!("telling the debugger {command}"))
    }

    /// One answer, acknowledged. What precedes it are acknowledgements of ours.
    fn receive(&mut self) -> Result<String> {
        let mut byte = || -> Result<u8> {
            let mut one = [0];
            self.reader.read_exact(&mut one).context("QEMU's debugger does not answer")?;
            Ok(one[0])
        };
        loop {
            match byte()? {
                b'$' => break,
                b'+' => {}
                other => bail!("QEMU's debugger says {:?}", char::from(other)),
            }
        }
        let mut text = String::new();
        loop {
            match byte()? {
                b'#' => break,
                other => text.push(char::from(other)),
            }
        }
        let _sum = (byte()?, byte()?);
        self.stream.write_all(b"+").context("acknowledging")?;
        Ok(text)
    }
}
