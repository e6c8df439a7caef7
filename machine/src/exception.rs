//! Exceptions: named, explained as far as the CPU tells, reported, and the end of the run. An NMI from a CPU that
//! reports stops this one.

use crate::backtrace::Start;
use crate::cpu;
use crate::report;
use crate::stacks;
use core::fmt;
use core::sync::atomic::Ordering;
use weir_sync::{CpuId, MAX_CPUS};
use x86_64::registers::control::{Cr2, Cr3};

const NMI: u64 = 2;
const DOUBLE_FAULT: u64 = 8;
const PAGE_FAULT: u64 = 14;

/// Error code bits of a page fault (Intel SDM vol. 3A §4.7).
const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const RESERVED: u64 = 1 << 3;
const FETCH: u64 = 1 << 4;

/// Mnemonic and name of each exception (Intel SDM vol. 3A, table 7-1).
const NAMES: [(&str, &str); 22] = [
    ("#DE", "divide error"),
    ("#DB", "debug exception"),
    ("NMI", "non-maskable interrupt"),
    ("#BP", "breakpoint"),
    ("#OF", "overflow"),
    ("#BR", "bound range exceeded"),
    ("#UD", "invalid opcode"),
    ("#NM", "device not available"),
    ("#DF", "double fault"),
    ("#9", "coprocessor segment overrun"),
    ("#TS", "invalid TSS"),
    ("#NP", "segment not present"),
    ("#SS", "stack-segment fault"),
    ("#GP", "general protection"),
    ("#PF", "page fault"),
    ("#15", "reserved exception"),
    ("#MF", "x87 floating-point error"),
    ("#AC", "alignment check"),
    ("#MC", "machine check"),
    ("#XM", "SIMD floating-point error"),
    ("#VE", "virtualization exception"),
    ("#CP", "control protection"),
];

/// What the exception stubs push, lowest address first.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Frame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rbp: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rbx: u64,
    rax: u64,
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}
const _: () = assert!(size_of::<Frame>() == 22 * 8, "15 registers, vector, error code, the CPU's five");

/// Every exception ends here, on the IST stack of its vector.
pub(crate) extern "C" fn enter(frame: &Frame) -> ! {
    if frame.vector == NMI && report::is_on() {
        report::stop();
    }
    let fault = (frame.vector == PAGE_FAULT).then(Cr2::read_raw);
    report::report(&Cause { frame, fault }, frame.rip, Start { rsp: frame.rsp, rbp: frame.rbp })
}

/// An exception in words, then its registers.
struct Cause<'a> {
    frame: &'a Frame,
    /// The address of a page fault.
    fault: Option<u64>,
}

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = self.frame;
        match (self.fault, self.overflow()) {
            (_, Some((cpu, stack))) => write!(f, "stack overflow on {cpu} ({} stack)", stack.name())?,
            (Some(address), None) => page_fault(f, frame.error, address)?,
            _ => {
                let (mnemonic, name) =
                    NAMES.get(frame.vector as usize).unwrap_or(&("#??", "reserved exception"));
                write!(f, "{mnemonic} {name}")?;
            }
        }
        writeln!(f)?;
        writeln!(
            f,
            "  vector {} error {:#06x} cs {:#04x} ss {:#04x}",
            frame.vector, frame.error, frame.cs, frame.ss
        )?;
        let (root, _) = Cr3::read_raw();
        let registers = [
            ("rip", frame.rip),
            ("rsp", frame.rsp),
            ("rflags", frame.rflags),
            ("cr2", Cr2::read_raw()),
            ("cr3", root.start_address().as_u64()),
            ("rax", frame.rax),
            ("rbx", frame.rbx),
            ("rcx", frame.rcx),
            ("rdx", frame.rdx),
            ("rsi", frame.rsi),
            ("rdi", frame.rdi),
            ("rbp", frame.rbp),
            ("r8", frame.r8),
            ("r9", frame.r9),
            ("r10", frame.r10),
            ("r11", frame.r11),
            ("r12", frame.r12),
            ("r13", frame.r13),
            ("r14", frame.r14),
            ("r15", frame.r15),
        ];
        for row in registers.chunks(4) {
            for (name, value) in row {
                write!(f, "  {name:6} {value:016x}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Cause<'_> {
    /// Whose guard page was hit, by a page fault or by a double fault while one was pushed.
    fn overflow(&self) -> Option<(CpuId, stacks::Stack)> {
        let address = match self.frame.vector {
            PAGE_FAULT => self.fault?,
            DOUBLE_FAULT => Cr2::read_raw(),
            _ => return None,
        };
        (0..MAX_CPUS).filter_map(CpuId::new).find_map(|cpu| {
            let base = cpu::block(cpu).stacks.load(Ordering::Relaxed);
            let stack = stacks::overflowed(base, address).filter(|_| base != 0)?;
            Some((cpu, stack))
        })
    }
}

fn page_fault(f: &mut fmt::Formatter<'_>, error: u64, address: u64) -> fmt::Result {
    let access = match error {
        _ if error & FETCH != 0 => "execution of",
        _ if error & WRITE != 0 => "write to",
        _ => "read of",
    };
    let why = match error {
        _ if error & RESERVED != 0 => "a page table entry with reserved bits",
        _ if error & PRESENT == 0 && address < crate::paging::PAGE => "a null pointer",
        _ if error & PRESENT == 0 => "not mapped",
        _ if error & FETCH != 0 => "not executable",
        _ if crate::boot::text().contains(&address) => "code is read-only",
        _ => "read-only",
    };
    write!(f, "#PF page fault: {access} {address:#018x}: {why}")
}
