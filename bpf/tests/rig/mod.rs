//! What the tests of programs share: instructions by short names, and runs by interpreter and machine code alike.
#![allow(dead_code, reason = "each test program uses some of it")]

use weir_bpf::opcode::*;
use weir_bpf::{Chain, Filter, Instruction, Packet, Program, compile};
use weir_machine::code::Code;

pub(crate) const fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

pub(crate) const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code: BPF_JMP | code, jt, jf, k }
}

macro_rules! shorthands {
    ($($name:ident = $code:expr;)*) => {
        $(pub(crate) const fn $name(k: u32) -> Instruction { plain($code, k) })*
    };
}

shorthands! {
    ld = BPF_LD | BPF_W | BPF_ABS;
    ldh = BPF_LD | BPF_H | BPF_ABS;
    ldb = BPF_LD | BPF_B | BPF_ABS;
    ld_x = BPF_LD | BPF_W | BPF_IND;
    ldh_x = BPF_LD | BPF_H | BPF_IND;
    ldb_x = BPF_LD | BPF_B | BPF_IND;
    imm = BPF_LD | BPF_IMM;
    mem = BPF_LD | BPF_MEM;
    ximm = BPF_LDX | BPF_IMM;
    xmem = BPF_LDX | BPF_MEM;
    xmsh = BPF_LDX | BPF_B | BPF_MSH;
    st = BPF_ST;
    stx = BPF_STX;
    add = BPF_ALU | BPF_ADD;
    sub = BPF_ALU | BPF_SUB;
    mul = BPF_ALU | BPF_MUL;
    div = BPF_ALU | BPF_DIV;
    rem = BPF_ALU | BPF_MOD;
    or = BPF_ALU | BPF_OR;
    and = BPF_ALU | BPF_AND;
    xor = BPF_ALU | BPF_XOR;
    lsh = BPF_ALU | BPF_LSH;
    rsh = BPF_ALU | BPF_RSH;
    ret = BPF_RET;
    ja = BPF_JMP | BPF_JA;
}

pub(crate) const LEN: Instruction = plain(BPF_LD | BPF_W | BPF_LEN, 0);
pub(crate) const XLEN: Instruction = plain(BPF_LDX | BPF_W | BPF_LEN, 0);
pub(crate) const ADDX: Instruction = plain(BPF_ALU | BPF_ADD | BPF_X, 0);
pub(crate) const SUBX: Instruction = plain(BPF_ALU | BPF_SUB | BPF_X, 0);
pub(crate) const MULX: Instruction = plain(BPF_ALU | BPF_MUL | BPF_X, 0);
pub(crate) const DIVX: Instruction = plain(BPF_ALU | BPF_DIV | BPF_X, 0);
pub(crate) const REMX: Instruction = plain(BPF_ALU | BPF_MOD | BPF_X, 0);
pub(crate) const ORX: Instruction = plain(BPF_ALU | BPF_OR | BPF_X, 0);
pub(crate) const ANDX: Instruction = plain(BPF_ALU | BPF_AND | BPF_X, 0);
pub(crate) const XORX: Instruction = plain(BPF_ALU | BPF_XOR | BPF_X, 0);
pub(crate) const LSHX: Instruction = plain(BPF_ALU | BPF_LSH | BPF_X, 0);
pub(crate) const RSHX: Instruction = plain(BPF_ALU | BPF_RSH | BPF_X, 0);
pub(crate) const NEG: Instruction = plain(BPF_ALU | BPF_NEG, 0);
pub(crate) const TAX: Instruction = plain(BPF_MISC | BPF_TAX, 0);
pub(crate) const TXA: Instruction = plain(BPF_MISC | BPF_TXA, 0);
pub(crate) const RETA: Instruction = plain(BPF_RET | BPF_A, 0);

pub(crate) const fn jeq(k: u32, jt: u8, jf: u8) -> Instruction {
    jump(BPF_JEQ, k, jt, jf)
}

pub(crate) const fn jgt(k: u32, jt: u8, jf: u8) -> Instruction {
    jump(BPF_JGT, k, jt, jf)
}

pub(crate) const fn jge(k: u32, jt: u8, jf: u8) -> Instruction {
    jump(BPF_JGE, k, jt, jf)
}

pub(crate) const fn jset(k: u32, jt: u8, jf: u8) -> Instruction {
    jump(BPF_JSET, k, jt, jf)
}

pub(crate) const fn jeqx(jt: u8, jf: u8) -> Instruction {
    jump(BPF_JEQ | BPF_X, 0, jt, jf)
}

pub(crate) const fn jgtx(jt: u8, jf: u8) -> Instruction {
    jump(BPF_JGT | BPF_X, 0, jt, jf)
}

pub(crate) const fn jgex(jt: u8, jf: u8) -> Instruction {
    jump(BPF_JGE | BPF_X, 0, jt, jf)
}

pub(crate) const fn jsetx(jt: u8, jf: u8) -> Instruction {
    jump(BPF_JSET | BPF_X, 0, jt, jf)
}

/// Bytes in pieces, or so a program sees them.
struct Pieces<'a>(&'a [u8]);

impl Chain for Pieces<'_> {
    fn copy_out(&self, offset: usize, into: &mut [u8]) -> usize {
        let from = self.0.get(offset..).unwrap_or(&[]);
        let len = from.len().min(into.len());
        into[..len].copy_from_slice(&from[..len]);
        len
    }
}

/// A program both ways.
pub(crate) struct Both {
    program: Program,
    code: Code,
}

impl Both {
    pub(crate) fn new(program: Program) -> Self {
        let code = Code::load(compile(program.clone())).expect("no memory for code");
        Self { program, code }
    }

    /// The answer about `packet`, which lies in one piece.
    ///
    /// # Panics
    /// If interpreter and machine code differ.
    pub(crate) fn run(&self, packet: &Packet<'_>) -> u32 {
        let answer = self.program.run(packet);
        assert_eq!(self.code.run(packet), answer, "machine code and interpreter on {:02x?}", packet.head);
        answer
    }

    /// The same, with the packet in one piece and in two, divided at `at`, or wherever that can be.
    ///
    /// # Panics
    /// If any two answers differ.
    pub(crate) fn run_split(&self, packet: &Packet<'_>, at: Option<usize>) -> u32 {
        let answer = self.run(packet);
        let chain = Pieces(packet.head);
        let cuts = at.map_or(0..packet.head.len() + 1, |at| at..at + 1);
        for cut in cuts.map(|cut| cut.min(packet.head.len())) {
            let cut_up = Packet { head: &packet.head[..cut], chain: Some(&chain), ..*packet };
            assert_eq!(self.program.run(&cut_up), answer, "interpreter, cut at {cut}");
            assert_eq!(self.code.run(&cut_up), answer, "machine code, cut at {cut}");
        }
        answer
    }
}
