//! Classic BPF (McCanne & Jacobson, 1993) for captures.
//!
//! [`expression`] compiles what people write, pcap-filter(7), to [`Instruction`]s; a [`Program`] is made of instructions that
//! were checked; the interpreter runs it, and [`compile`] makes x86-64 machine code of it, which `machine::code` runs.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod compile;
mod decode;
pub mod expression;
mod instruction;
mod interpret;
pub mod opcode;
mod packet;
mod pattern;
mod program;

pub use compile::{Compiled, compile};
pub use instruction::Instruction;
pub use packet::{Chain, Packet, PacketType};
pub use pattern::Pattern;
pub use program::{Cause, Filter, Program, Rejected};
