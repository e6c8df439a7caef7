//! Levelled lines: `[    0.012345] cpu0 info  text`. Callable in any context, softints included.
//!
//! At boot a line goes straight to the console. Once [`defer`] was called it goes to a bounded ring of this
//! CPU, without blocking or allocating, and a task prints it by [`flush`]. A full ring loses lines and counts
//! them.

mod kept;
mod ring;

pub use kept::{Kept, kept};

use crate::{clock, console, mask};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use ring::{Line, Ring};
use spin::Mutex;
use weir_sync::{CpuId, MAX_CPUS};

/// How much a line matters; a lower one matters more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// Something does not work.
    Error,
    /// Something works less well than it should.
    Warn,
    /// What an operator wants to see.
    Info,
    /// What a developer wants to see.
    Debug,
}

impl Level {
    const ALL: [Level; 4] = [Level::Error, Level::Warn, Level::Info, Level::Debug];

    /// What a line shows.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }

    /// The level of that name.
    pub fn named(name: &str) -> Option<Level> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }

    fn from_number(number: u8) -> Level {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Level::Debug)
    }
}

/// `[A]` The least important level shown. Written by [`set_level`], read by everyone, no order needed.
static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);
/// `[A]` Lines go to the rings. Written by [`defer`].
static DEFERRED: AtomicBool = AtomicBool::new(false);
/// `[C]` by CPU for writing (a softint may interrupt a task's line); read under [`PRINTER`].
static RINGS: [Ring; MAX_CPUS] = [const { Ring::new() }; MAX_CPUS];
/// `[A]` Some ring may hold lines, or have lost some. Set (Release) by whoever wrote to one, taken (Acquire) by the printer
/// before it looks: one load for a CPU that goes to sleep, however many rings there are.
static WAITING: AtomicBool = AtomicBool::new(false);
/// `[A]` Lines were printed where somebody was typing. Set by the printer, taken by who shows what was typed again.
static CUT: AtomicBool = AtomicBool::new(false);
/// The one who prints deferred lines. Only ever tried, never waited for.
static PRINTER: Mutex<()> = Mutex::new(());

/// Takes `log=error|warn|info|debug` from the kernel's command line; the last one counts. `false` if one names
/// no level.
pub fn init(command_line: &str) -> bool {
    let mut named = command_line.split_ascii_whitespace().filter_map(|word| word.strip_prefix("log="));
    named.all(|name| Level::named(name).map(set_level).is_some())
}

/// Shows lines of `level` and more important ones from now on.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Whether a line of `level` is shown.
#[inline]
pub fn enabled(level: Level) -> bool {
    level as u8 <= LEVEL.load(Ordering::Relaxed)
}

/// From now on a line goes to the ring of its CPU. The dispatcher calls this before its first turn, and
/// [`flush`] at task level from then on.
pub fn defer() {
    DEFERRED.store(true, Ordering::Relaxed);
}

/// Logs a line; the macros call this after looking at [`enabled`].
pub fn line(level: Level, text: fmt::Arguments) {
    let cpu = current();
    let deferred = DEFERRED.load(Ordering::Relaxed);
    if deferred {
        // A task that is preempted between taking a slot and filling it would hold up the printer.
        let _masked = mask::mask();
        push(cpu, clock::now(), level, text);
    } else {
        let ns = clock::now();
        console::write_fmt(format_args!("{}{text}\n", Head { ns, cpu, level }));
        let mut line = Line::default();
        line.fill(ns, level as u8, text);
        kept::keep(cpu, &line);
    }
}

fn push(cpu: CpuId, ns: u64, level: Level, text: fmt::Arguments) {
    RINGS[cpu.index()].push(ns, level as u8, text);
    WAITING.store(true, Ordering::Release);
}

/// Whether deferred lines, or news of lost ones, wait to be printed.
#[inline]
pub fn pending() -> bool {
    WAITING.load(Ordering::Relaxed)
}

/// Prints the deferred lines of all CPUs, oldest first. Boot and tasks; a second caller returns at once and
/// leaves the work to the first.
pub fn flush() {
    while pending() {
        let Some(_printer) = PRINTER.try_lock() else { return };
        // What is written from here on sets it again.
        WAITING.swap(false, Ordering::Acquire);
        drain(&RINGS, &mut |text| {
            // A line of the log begins in a row of its own.
            if console::is_within_row() {
                console::write_str("\n");
                CUT.store(true, Ordering::Relaxed);
            }
            console::write_fmt(text);
        });
    }
}

/// Whether lines were printed where somebody was typing, since the last call.
pub fn take_cut() -> bool {
    CUT.swap(false, Ordering::Relaxed)
}

/// Prints the deferred lines without waiting for anyone: for a CPU that panics. Callable in any context.
pub fn flush_panic() {
    // Whoever holds the right to print may be the interrupted code below: lines may then come out twice.
    let _printer = PRINTER.try_lock();
    drain(&RINGS, &mut |text| console::write_panic(text));
}

/// Prints what CPUs have in their `rings`.
fn drain(rings: &[Ring], print: &mut dyn FnMut(fmt::Arguments)) {
    for (number, ring) in rings.iter().enumerate() {
        let lost = ring.take_lost();
        if let Some(cpu) = CpuId::new(number).filter(|_| lost > 0) {
            let head = Head { ns: clock::now(), cpu, level: Level::Warn };
            print(format_args!("{head}log: {lost} lines lost here\n"));
        }
    }
    // Bounded: what is logged meanwhile waits for the next round.
    for _ in 0..MAX_CPUS * ring::LINES {
        let oldest = rings.iter().enumerate().filter_map(|(cpu, ring)| Some((ring.front_time()?, cpu))).min();
        let Some((_, number)) = oldest else { return };
        let (Some(ring), Some(cpu)) = (rings.get(number), CpuId::new(number)) else { return };
        let mut line = Line::default();
        if !ring.pop(&mut line) {
            return;
        }
        kept::keep(cpu, &line);
        let level = Level::from_number(line.level());
        let head = Head { ns: line.time(), cpu, level };
        let mark = if line.is_cut() { "…" } else { "" };
        print(format_args!("{head}{}{mark}\n", line.text()));
    }
}

#[cfg(feature = "image")]
fn current() -> CpuId {
    crate::cpu::current()
}

/// A thread of a program is no CPU: all share one ring.
#[cfg(not(feature = "image"))]
fn current() -> CpuId {
    CpuId::BOOT
}

/// What stands before a line's text.
struct Head {
    ns: u64,
    cpu: CpuId,
    level: Level,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.ns / 1_000;
        write!(f, "[{:5}.{:06}] {} ", us / 1_000_000, us % 1_000_000, self.cpu)?;
        f.write_str(self.level.name())?;
        (self.level.name().len()..6).try_for_each(|_| f.write_char(' '))
    }
}

/// Logs something that does not work.
#[macro_export]
macro_rules! error {
    ($($arg:tt)*) => { $crate::__log!($crate::log::Level::Error, $($arg)*) };
}

/// Logs something that works less well than it should.
#[macro_export]
macro_rules! warn {
    ($($arg:tt)*) => { $crate::__log!($crate::log::Level::Warn, $($arg)*) };
}

/// Logs something an operator wants to see.
#[macro_export]
macro_rules! info {
    ($($arg:tt)*) => { $crate::__log!($crate::log::Level::Info, $($arg)*) };
}

/// Logs something a developer wants to see.
#[macro_export]
macro_rules! debug {
    ($($arg:tt)*) => { $crate::__log!($crate::log::Level::Debug, $($arg)*) };
}

/// The level is looked at before the arguments are evaluated.
#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:expr, $($arg:tt)*) => {
        if $crate::log::enabled($level) {
            $crate::log::line($level, ::core::format_args!($($arg)*));
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_line_up() {
        let head = |ns, cpu, level| Head { ns, cpu: CpuId::new(cpu).unwrap(), level }.to_string();
        assert_eq!(head(12_345_678, 0, Level::Info), "[    0.012345] cpu0 info  ");
        assert_eq!(head(3_600_000_000_999, 12, Level::Error), "[ 3600.000000] cpu12 error ");
    }

    #[test]
    fn the_last_level_on_the_command_line_counts() {
        assert!(init("console=ttyS0 log=debug quiet log=warn"));
        assert!(enabled(Level::Warn) && !enabled(Level::Info));
        assert!(!init("log=loud"));
        assert!(init(""));
        set_level(Level::Info);
    }

    #[test]
    fn prints_the_lines_of_all_cpus_oldest_first_and_what_was_lost() {
        // Not those that other tests write to.
        let rings: Vec<Ring> = (0..8).map(|_| Ring::new()).collect();
        for (ns, cpu, text) in
            [(3_000, 5, "third"), (1_000, 7, "first"), (2_000, 7, "second"), (4_000, 5, "last")]
        {
            rings[cpu].push(ns, Level::Info as u8, format_args!("{text}"));
        }
        (0..ring::LINES + 3).for_each(|_| rings[6].push(5_000, Level::Debug as u8, format_args!("more")));
        let mut printed = Vec::new();
        drain(&rings, &mut |text| printed.push(text.to_string()));
        assert!(rings.iter().all(|ring| ring.front_time().is_none()));
        assert!(printed[0].ends_with("] cpu6 warn  log: 3 lines lost here\n"), "{}", printed[0]);
        let expected = [(1, 7, "first"), (2, 7, "second"), (3, 5, "third"), (4, 5, "last")];
        for (line, (us, cpu, text)) in printed[1..].iter().zip(expected) {
            assert_eq!(line, &format!("[    0.00000{us}] cpu{cpu} info  {text}\n"));
        }
        assert_eq!(printed.len(), 1 + 4 + ring::LINES);
    }

    #[test]
    fn more_important_lines_come_through() {
        assert!(Level::Error < Level::Debug);
        assert_eq!(Level::named("debug"), Some(Level::Debug));
        assert_eq!(Level::named("Debug"), None);
    }
}
