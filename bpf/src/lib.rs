//! Classic BPF (McCanne & Jacobson, 1993) for captures.
//!
//! [`expression`] compiles what people write, pcap-filter(7), to [`Instruction`]s.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod expression;
mod instruction;

pub use instruction::Instruction;
