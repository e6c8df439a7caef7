//! The last words of the image: cause, CPU, context, backtrace, the last events; then halt or reboot.
//!
//! Works in any context: no heap, no lock that is waited for. One CPU reports, the others are stopped.

use crate::backtrace::{self, LONGEST_CALL, Start, Sure};
use crate::stacks::{self, Stack};
use crate::{apic, boot, clock, console, cpu, frames, hermit, log, mask, power, trace, xen};
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use spin::Once;
use weir_sync::{CpuId, MAX_CPUS};
use x86_64::instructions::{hlt, interrupts};

const NOBODY: u32 = u32::MAX;
const HALT: u64 = u64::MAX;
const DEFAULT_SECONDS: u64 = 5;

/// `[A]` The CPU that reports.
static REPORTER: AtomicU32 = AtomicU32::new(NOBODY);
/// `[I]` Seconds from the report to the reboot, or [`HALT`]; set at boot.
static REBOOT_AFTER: AtomicU64 = AtomicU64::new(DEFAULT_SECONDS);

/// Says more, a line at a time: in any context, without heap or a lock that is waited for.
pub type LastWords = fn(&mut dyn FnMut(fmt::Arguments<'_>));

/// `[I]` What the application adds; set at boot.
static MORE: Once<LastWords> = Once::new();

/// Has every report end with what `more` says.
pub fn add(more: LastWords) {
    MORE.call_once(|| more);
}

/// Takes `panic=halt|reboot|<seconds>` from the command line; the last one counts. `false` if one is none of
/// these.
pub(crate) fn init(command_line: &str) -> bool {
    let mut named = command_line.split_ascii_whitespace().filter_map(|word| word.strip_prefix("panic="));
    named.all(|policy| {
        let seconds = match policy {
            "halt" => Some(HALT),
            "reboot" => Some(0),
            number => number.parse().ok().filter(|&seconds: &u64| seconds < u64::from(u32::MAX)),
        };
        seconds.inspect(|&seconds| REBOOT_AFTER.store(seconds, Ordering::Relaxed)).is_some()
    })
}

/// Whether some CPU reports: then an NMI means [`stop`].
pub(crate) fn is_on() -> bool {
    REPORTER.load(Ordering::Acquire) != NOBODY
}

/// Ends this CPU's work for good.
pub(crate) fn stop() -> ! {
    interrupts::disable();
    loop {
        hlt();
    }
}

/// Reports `cause` and ends the run. `at` is the instruction it happened at; the trace goes on from `start`.
pub(crate) fn report(cause: &dyn fmt::Display, at: u64, start: Start) -> ! {
    interrupts::disable();
    // For good: what becomes pending now waits for ever.
    mask::enter();
    let me = cpu::current();
    let number = me.index() as u32;
    match REPORTER.compare_exchange(NOBODY, number, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {}
        Err(reporter) if reporter == number => {
            console::write_panic(format_args!("\n{me}: again, while reporting: {cause}\n"));
            end();
        }
        Err(_) => stop(),
    }
    stop_others(me);
    log::flush_panic();

    let context = cpu::this().context();
    console::write_panic(format_args!("\nweir: fatal on {me} in {} context: {cause}\n", context.name()));
    let mut frame = 0;
    let mut line = |address: u64, sure: Sure| {
        let mark = if sure == Sure::Yes { "" } else { " ?" };
        console::write_panic(format_args!("  #{frame} {address:#018x}{mark}\n"));
        frame += 1;
    };
    line(at, Sure::Yes);
    if let Some(stack) = stack(me, start.rsp) {
        backtrace::walk(start, &stack, &stack_word, &is_return, &mut line);
    }
    let (free, total) = (frames::free_bytes() >> 10, frames::total_bytes() >> 10);
    console::write_panic(format_args!("  memory: {free} KiB free of {total} KiB\n"));
    trace::last_words(me, &mut |line| console::write_panic(format_args!("  {line}\n")));
    if let Some(more) = MORE.get() {
        more(&mut |line| console::write_panic(format_args!("  {line}\n")));
    }
    end();
}

/// Stops the CPUs that run. One that was never started is left alone: in the firmware's care, an NMI would have it
/// run from real mode's vector table.
fn stop_others(me: CpuId) {
    let all = (0..MAX_CPUS).filter_map(CpuId::new).map(cpu::block);
    for other in all.filter(|block| block.number() != me && block.running.load(Ordering::Acquire)) {
        apic::send_nmi(other.apic.load(Ordering::Acquire));
    }
}

/// Halts or reboots, as the command line says.
fn end() -> ! {
    // Whatever the command line says: uhyve's caller is told, and nobody else could look at a halted machine.
    hermit::end(hermit::status::FATAL);
    let seconds = REBOOT_AFTER.load(Ordering::Relaxed);
    if seconds == HALT {
        console::write_panic(format_args!("weir: halted\n"));
        // A domain that only halted would look alive.
        xen::end(xen::End::Crash);
        stop();
    }
    console::write_panic(format_args!("weir: rebooting in {seconds} s\n"));
    for _ in 0..seconds {
        clock::spin_ns(clock::SECOND);
    }
    power::reboot()
}

/// The usable bytes of the stack that holds `rsp`, or ran over into its guard page.
fn stack(cpu: CpuId, rsp: u64) -> Option<Range<u64>> {
    let base = cpu::block(cpu).stacks.load(Ordering::Relaxed);
    let stack: Stack = stacks::holding(base, rsp).or_else(|| stacks::overflowed(base, rsp))?;
    Some(stacks::range(base, stack))
}

fn stack_word(at: u64) -> u64 {
    // SAFETY: `backtrace::walk` stays inside the range it was given: a mapped stack of this CPU.
    unsafe { (at as *const u64).read_volatile() }
}

fn is_return(address: u64) -> bool {
    let text = boot::text();
    if address < text.start + LONGEST_CALL as u64 || address >= text.end {
        return false;
    }
    let before = (address - LONGEST_CALL as u64) as *const [u8; LONGEST_CALL];
    // SAFETY: the bytes before `address` lie in the image's code, which is mapped and never changes.
    backtrace::ends_with_call(unsafe { &*before })
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    let (rip, rsp, rbp): (u64, u64, u64);
    // SAFETY: copies three registers.
    unsafe {
        core::arch::asm!(
            "lea {}, [rip]",
            "mov {}, rsp",
            "mov {}, rbp",
            out(reg) rip,
            out(reg) rsp,
            out(reg) rbp,
            options(nomem, nostack, preserves_flags),
        );
    }
    report(&Cause(info), rip, Start { rsp, rbp })
}

/// A panic in words: the message, then where.
struct Cause<'a>(&'a core::panic::PanicInfo<'a>);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panic: {}", self.0.message())?;
        match self.0.location() {
            Some(place) => write!(f, " at {}:{}", place.file(), place.line()),
            None => Ok(()),
        }
    }
}
