//! uhyve, which boots images by Hermit's loader ABI and serves them by hypercalls: the console, files, the way out.
//!
//! Elsewhere, and on the host, nothing of it is there and every question has an empty answer.

#[cfg(any(feature = "image", test))]
pub(crate) mod boot_info;
#[cfg(feature = "image")]
mod hypercall;

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

/// How the machine ended, as uhyve's exit status. uhyve's own failures are 1, 2 and 101; it also ends with 0 when the
/// machine dies of a triple fault.
pub mod status {
    /// Switched off.
    pub const OFF: i32 = 0;
    /// Ended by a fatal error (`EX_SOFTWARE` of `sysexits.h`).
    pub const FATAL: i32 = 70;
    /// Wants to be started again, which uhyve cannot do (`EX_TEMPFAIL`).
    pub const REBOOT: i32 = 75;
}

/// `[I]` Set at boot.
static PRESENT: AtomicBool = AtomicBool::new(false);

/// Whether uhyve runs this machine: never, on the host.
pub fn present() -> bool {
    PRESENT.load(Ordering::Relaxed)
}

/// Why a file cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileError {
    /// The name has a zero byte.
    Name,
    /// It is longer than the caller takes.
    Longer(usize),
    /// uhyve's answer, by Hermit's error number.
    Errno(i32),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("its name has a zero byte"),
            Self::Longer(limit) => write!(f, "it is longer than {limit} bytes"),
            Self::Errno(errno) => write!(f, "uhyve refuses it with error {errno}"),
        }
    }
}

/// Reads a file that uhyve offers (`--file-mapping HOST:PATH`, or a Hermit image's own). `None` if it offers none of
/// this name, or there is no uhyve. Boot and tasks; the other CPUs go on meanwhile.
///
/// # Errors
/// If it is longer than `limit`, or uhyve cannot read it.
pub fn read_file(path: &str, limit: usize) -> Result<Option<Vec<u8>>, FileError> {
    if !present() {
        return Ok(None);
    }
    if path.contains('\0') {
        return Err(FileError::Name);
    }
    #[cfg(feature = "image")]
    return hypercall::read_file(path, limit);
    #[cfg(not(feature = "image"))]
    Err(FileError::Longer(limit))
}

#[cfg(feature = "image")]
pub(crate) use image::{end, start};

#[cfg(feature = "image")]
mod image {
    use super::{PRESENT, hypercall, present};
    use crate::console::{self, Sink};
    use core::sync::atomic::Ordering;

    // Makes the image one of Hermit's: its loaders look for this note.
    hermit_entry::define_entry_version!();

    static CONSOLE: Sink = Sink::new("uhyve", hypercall::write, hypercall::write, || None);

    /// uhyve runs this machine: hypercalls work, and its output is the console. Boot CPU, first of all.
    pub(crate) fn start() {
        PRESENT.store(true, Ordering::Relaxed);
        console::add(&CONSOLE);
    }

    /// Ends the machine with a [`status`](super::status). Returns only without uhyve. Callable in any context.
    pub(crate) fn end(status: i32) {
        if present() {
            hypercall::exit(status);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_uhyve_there_are_no_files() {
        assert_eq!(read_file("/weir.toml", 100), Ok(None));
    }
}
