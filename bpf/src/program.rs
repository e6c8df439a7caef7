//! Programs: checked when they are made, so that nothing is left to check of them when they run.

use crate::decode::Op;
use crate::opcode::BPF_MAXINSNS;
use crate::{Instruction, Packet, Pattern};
use alloc::boxed::Box;
use alloc::vec;
use core::fmt;

/// A program that ends on every packet with an answer, and reads nothing but the packet and words it wrote. Immutable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    pub(crate) ops: Box<[Op]>,
}

/// What decides about packets: a [`Program`], or the machine code made of it.
pub trait Filter: Send + Sync + fmt::Debug {
    /// How many of the packet's bytes to capture; 0: the packet is not wanted.
    fn run(&self, packet: &Packet<'_>) -> u32;

    /// What all packets that are wanted have in common.
    fn pattern(&self) -> Pattern {
        Pattern::ANY
    }
}

impl Program {
    /// Checks `instructions` as Linux does: 1 to 4096 of them, all known, jumps forward to one of them, words of memory
    /// written before they are read on every way, no constant divisor of 0 and no constant shift over 31, a return at
    /// the end of every way. What [`Rejected`] says is for whoever wrote them.
    pub fn new(instructions: &[Instruction]) -> Result<Program, Rejected> {
        let reject = |index: usize, cause| {
            let instruction = instructions.get(index).copied();
            Err(Rejected { index, instruction, cause })
        };
        if !(1..=BPF_MAXINSNS).contains(&instructions.len()) {
            return reject(instructions.len(), Cause::Length);
        }
        let mut ops = vec![Op::RetA; instructions.len()].into_boxed_slice();
        for (index, (&instruction, op)) in instructions.iter().zip(&mut ops).enumerate() {
            *op = match Op::decode(instruction) {
                Ok(op) => op,
                Err(cause) => return reject(index, cause),
            };
            let left = instructions.len() - 1 - index;
            if op.skips().is_some_and(|skips| skips.iter().any(|&skip| skip as usize >= left)) {
                return reject(index, Cause::JumpOutside);
            }
            if left == 0 && !op.returns() {
                return reject(index, Cause::NoReturn);
            }
        }
        match unwritten_word(&ops) {
            Some(index) => reject(index, Cause::UnwrittenWord),
            None => Ok(Program { ops }),
        }
    }

    /// How many instructions it has.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.ops.len()
    }
}

/// The first instruction that may read a word of memory before any is written to it.
fn unwritten_word(ops: &[Op]) -> Option<usize> {
    // For each instruction the words that every way to it has written. No way leads to it until one is seen.
    let mut written = vec![u16::MAX; ops.len()];
    written[0] = 0;
    for (index, op) in ops.iter().enumerate() {
        let mut here = written[index];
        match *op {
            Op::Mem(word) | Op::XMem(word) if here & 1 << word == 0 => return Some(index),
            Op::Store(word) | Op::StoreX(word) => here |= 1 << word,
            _ => {}
        }
        let skips = if op.returns() { None } else { Some(op.skips().unwrap_or([0, 0])) };
        for skip in skips.into_iter().flatten() {
            written[index + 1 + skip as usize] &= here;
        }
    }
    None
}

/// Why a program was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rejected {
    /// The instruction, counted from 0; how many there are if their number is the cause.
    pub index: usize,
    /// The instruction itself.
    pub instruction: Option<Instruction>,
    /// What is wrong with it.
    pub cause: Cause,
}

/// What can be wrong with an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// No instruction at all, or more than 4096.
    Length,
    /// A code that nothing stands for.
    UnknownCode,
    /// An extension of Linux's that is not offered here.
    UnknownExtension,
    /// A jump to behind the last instruction.
    JumpOutside,
    /// The last instruction does not return.
    NoReturn,
    /// A word of memory is read that may not have been written.
    UnwrittenWord,
    /// There are 16 words of memory.
    NoSuchWord,
    /// Division, or remainder of it, by the constant 0.
    ZeroDivisor,
    /// A shift by a constant over 31.
    WideShift,
}

impl Cause {
    /// What is wrong, and what would be right.
    const fn text(self) -> &'static str {
        match self {
            Cause::Length => "a program has 1 to 4096: give another filter",
            Cause::UnknownCode => "unknown code: use those of linux/filter.h",
            Cause::UnknownExtension => {
                "unknown extension: use protocol, pkttype, ifindex, hatype, rxhash, cpu, xor_x or one of vlan's"
            }
            Cause::JumpOutside => "jumps to behind the end: jump to an instruction that follows",
            Cause::NoReturn => "the end is reached without an answer: end with a return",
            Cause::UnwrittenWord => {
                "reads a word of memory that may be unwritten: store to it first on every way"
            }
            Cause::NoSuchWord => "no such word of memory: use 0 to 15",
            Cause::ZeroDivisor => "divides by 0: use another divisor",
            Cause::WideShift => "shifts out all 32 bits: shift by 0 to 31",
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.cause.text();
        match self.instruction {
            Some(Instruction { code, k, .. }) => {
                write!(f, "instruction {} (code {code:#04x}, k {k:#x}): {text}", self.index)
            }
            None => write!(f, "{} instructions: {text}", self.index),
        }
    }
}

impl core::error::Error for Rejected {}
