//! The operator's line: text out to every sink, bytes in from any. For boot and tasks; softints use
//! [`log`](crate::log), whose lines a task prints. The panic path writes by [`write_panic`], without a lock.

#[cfg(feature = "image")]
mod pc;
#[cfg(any(feature = "image", test))]
mod serial;

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
#[cfg(feature = "image")]
pub use pc::{enable_interrupt, init};
use spin::{Mutex, MutexGuard, Once};

/// A device that shows text, and may have a keyboard behind it.
#[derive(Debug)]
pub struct Sink {
    /// What the log calls it.
    pub name: &'static str,
    /// Writes all of it, or gives up after a bounded time. One caller at a time.
    pub write: fn(&[u8]),
    /// The same from a panic: takes no lock that anything else takes, and may cut into other output.
    pub write_panic: fn(&[u8]),
    /// The next byte of input, if one waits. One caller at a time.
    pub read: fn() -> Option<u8>,
    /// `[A]` Bytes lost because nobody took them in time. Written by whoever writes, read by anyone; no order needed.
    pub lost: AtomicU64,
}

impl Sink {
    /// A sink that has lost nothing.
    pub const fn new(
        name: &'static str,
        write: fn(&[u8]),
        write_panic: fn(&[u8]),
        read: fn() -> Option<u8>,
    ) -> Self {
        Self { name, write, write_panic, read, lost: AtomicU64::new(0) }
    }
}

/// Sinks there may be at once.
const MAX_SINKS: usize = 4;

/// Attempts to get the console before a writer goes ahead without it: a garbled line beats a lost one.
const PATIENCE: u32 = 10_000_000;

/// `[I]` slot by slot, filled at boot in order. On the host the standard output is always there.
static SINKS: [Once<&'static Sink>; MAX_SINKS] = [const { Once::new() }; MAX_SINKS];

/// Keeps lines whole. Held for the time a sink takes to show one line.
static WRITER: Mutex<()> = Mutex::new(());
/// `[A]` What was written last ended within a row. Written under [`WRITER`], read by the log's printer; no order needed.
static OPEN: AtomicBool = AtomicBool::new(false);
/// Gives each byte of input to one reader.
static READER: Mutex<()> = Mutex::new(());

/// Adds a sink for the life of the image. `false` if there is no room.
pub fn add(sink: &'static Sink) -> bool {
    SINKS.iter().any(|slot| core::ptr::eq(*slot.call_once(|| sink), sink))
}

fn sinks() -> impl Iterator<Item = &'static Sink> {
    #[cfg(not(feature = "image"))]
    let host = core::iter::once(&crate::host::console::STANDARD);
    #[cfg(feature = "image")]
    let host = core::iter::empty();
    SINKS.iter().filter_map(|slot| slot.get().copied()).chain(host)
}

/// Writes to every sink. Waits for another writer, but not for ever.
pub fn write_str(text: &str) {
    let _whole = patiently();
    write(text.as_bytes());
}

fn write(bytes: &[u8]) {
    sinks().for_each(|sink| (sink.write)(bytes));
    if let Some(last) = bytes.last() {
        OPEN.store(*last != b'\n', Ordering::Relaxed);
    }
}

/// Whether the cursor stands within a row: a prompt, a line that is typed.
pub fn is_within_row() -> bool {
    OPEN.load(Ordering::Relaxed)
}

/// Formats to every sink, as one piece.
pub fn write_fmt(text: fmt::Arguments) {
    let _whole = patiently();
    let mut pieces = Pieces { bytes: [0; PIECE], len: 0 };
    let _ = fmt::write(&mut pieces, text);
    pieces.flush();
}

/// Formats to every sink without a lock, for a CPU that will not return. Callable in any context.
pub fn write_panic(text: fmt::Arguments) {
    let _ = fmt::write(&mut Panicking, text);
}

/// Each sink's name, and the bytes that it lost because nobody took them in time.
pub fn lost() -> impl Iterator<Item = (&'static str, u64)> {
    sinks().map(|sink| (sink.name, sink.lost.load(Ordering::Relaxed)))
}

/// The next byte of input from any sink; `None` if none waits. A task reads in turn with others.
pub fn read_byte() -> Option<u8> {
    let _turn = READER.try_lock()?;
    sinks().find_map(|sink| (sink.read)())
}

fn patiently() -> Option<MutexGuard<'static, ()>> {
    (0..PATIENCE).find_map(|_| {
        let guard = WRITER.try_lock();
        if guard.is_none() {
            core::hint::spin_loop();
        }
        guard
    })
}

/// Most of a line: a sink that must tell somebody of each write is not to do it for every number.
const PIECE: usize = 256;

/// Gathers what formatting hands out in crumbs.
struct Pieces {
    bytes: [u8; PIECE],
    len: usize,
}

impl Pieces {
    fn flush(&mut self) {
        write(self.bytes.get(..self.len).unwrap_or(&[]));
        self.len = 0;
    }
}

impl fmt::Write for Pieces {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            if self.len == PIECE {
                self.flush();
            }
            let count = rest.len().min(PIECE - self.len);
            let (now, later) = rest.split_at(count);
            self.bytes[self.len..self.len + count].copy_from_slice(now);
            self.len += count;
            rest = later;
        }
        Ok(())
    }
}

struct Panicking;

impl fmt::Write for Panicking {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        sinks().for_each(|sink| (sink.write_panic)(text.as_bytes()));
        Ok(())
    }
}

/// Formats to the console. Boot and tasks.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::console::write_fmt(::core::format_args!($($arg)*)) };
}

/// Formats a line to the console. Boot and tasks.
#[macro_export]
macro_rules! println {
    () => { $crate::console::write_str("\n") };
    ($($arg:tt)*) => { $crate::console::write_fmt(::core::format_args!("{}\n", ::core::format_args!($($arg)*))) };
}
