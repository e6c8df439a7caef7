//! One instruction, as every tool writes it.

/// One instruction of classic BPF: `struct sock_filter` of Linux, `struct bpf_insn` of BSD.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Instruction {
    /// Class, size and mode, or operation and source.
    pub code: u16,
    /// Instructions to skip if a jump's condition holds.
    pub jt: u8,
    /// The same if it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}
