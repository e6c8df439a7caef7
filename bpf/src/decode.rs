//! One instruction, decoded: what interpreter and compiler work on.

use crate::Instruction;
use crate::opcode::*;
use crate::program::Cause;

/// A decoded instruction. Targets are counts of instructions to skip, as they were written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    /// A = P\[k\], of that many bytes.
    Word(u32),
    Half(u32),
    Byte(u32),
    /// A = P\[X + k\].
    WordAtX(u32),
    HalfAtX(u32),
    ByteAtX(u32),
    /// A = what is known beside the bytes.
    Known(Known),
    /// A = k
    Imm(u32),
    /// A = M\[k\]
    Mem(u8),
    /// X = k
    XImm(u32),
    /// X = M\[k\]
    XMem(u8),
    /// X = the packet's length
    XLen,
    /// X = 4 * (P\[k\] & 0xf): the length of an IPv4 header
    XMsh(u32),
    /// M\[k\] = A
    Store(u8),
    /// M\[k\] = X
    StoreX(u8),
    /// A = A op k
    Alu(Alu, u32),
    /// A = A op X
    AluX(Alu),
    Neg,
    Ja(u32),
    Jeq(u8, u8, u32),
    Jgt(u8, u8, u32),
    Jge(u8, u8, u32),
    Jset(u8, u8, u32),
    /// The same with X.
    JeqX(u8, u8),
    JgtX(u8, u8),
    JgeX(u8, u8),
    JsetX(u8, u8),
    Ret(u32),
    RetA,
    Tax,
    Txa,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Alu {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Or,
    And,
    Xor,
    Lsh,
    Rsh,
}

/// What is known beside a packet's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Known {
    Length,
    Protocol,
    Kind,
    Interface,
    Hash,
    Cpu,
    VlanTag,
    VlanPresent,
    VlanTpid,
}

/// ARPHRD_ETHER: every interface is one.
const ETHER: u32 = 1;

impl Op {
    /// What `instruction` does. Jumps are not looked at: they depend on where it stands.
    pub(crate) fn decode(instruction: Instruction) -> Result<Op, Cause> {
        let Instruction { code, jt, jf, k } = instruction;
        let word = || if k < BPF_MEMWORDS { Ok(k as u8) } else { Err(Cause::NoSuchWord) };
        let is_load = matches!(code & 0x07, BPF_LD) && code & 0xe0 == BPF_ABS;
        if is_load && k >= SKF_AD_OFF && matches!(code & 0x18, BPF_W | BPF_H | BPF_B) && code <= 0xff {
            return known(k - SKF_AD_OFF);
        }
        // The names are the header's, so that this table can be held against it.
        const LD_W_ABS: u16 = BPF_LD | BPF_W | BPF_ABS;
        const LD_H_ABS: u16 = BPF_LD | BPF_H | BPF_ABS;
        const LD_B_ABS: u16 = BPF_LD | BPF_B | BPF_ABS;
        const LD_W_IND: u16 = BPF_LD | BPF_W | BPF_IND;
        const LD_H_IND: u16 = BPF_LD | BPF_H | BPF_IND;
        const LD_B_IND: u16 = BPF_LD | BPF_B | BPF_IND;
        const LD_LEN: u16 = BPF_LD | BPF_W | BPF_LEN;
        const LD_IMM: u16 = BPF_LD | BPF_IMM;
        const LD_MEM: u16 = BPF_LD | BPF_MEM;
        const LDX_IMM: u16 = BPF_LDX | BPF_IMM;
        const LDX_MEM: u16 = BPF_LDX | BPF_MEM;
        const LDX_LEN: u16 = BPF_LDX | BPF_W | BPF_LEN;
        const LDX_MSH: u16 = BPF_LDX | BPF_B | BPF_MSH;
        const JA: u16 = BPF_JMP | BPF_JA;
        const JEQ_K: u16 = BPF_JMP | BPF_JEQ | BPF_K;
        const JGT_K: u16 = BPF_JMP | BPF_JGT | BPF_K;
        const JGE_K: u16 = BPF_JMP | BPF_JGE | BPF_K;
        const JSET_K: u16 = BPF_JMP | BPF_JSET | BPF_K;
        const JEQ_X: u16 = BPF_JMP | BPF_JEQ | BPF_X;
        const JGT_X: u16 = BPF_JMP | BPF_JGT | BPF_X;
        const JGE_X: u16 = BPF_JMP | BPF_JGE | BPF_X;
        const JSET_X: u16 = BPF_JMP | BPF_JSET | BPF_X;
        const NEG: u16 = BPF_ALU | BPF_NEG;
        const RET_K: u16 = BPF_RET | BPF_K;
        const RET_A: u16 = BPF_RET | BPF_A;
        const TAX: u16 = BPF_MISC | BPF_TAX;
        const TXA: u16 = BPF_MISC | BPF_TXA;
        Ok(match code {
            LD_W_ABS => Op::Word(k),
            LD_H_ABS => Op::Half(k),
            LD_B_ABS => Op::Byte(k),
            LD_W_IND => Op::WordAtX(k),
            LD_H_IND => Op::HalfAtX(k),
            LD_B_IND => Op::ByteAtX(k),
            LD_LEN => Op::Known(Known::Length),
            LD_IMM => Op::Imm(k),
            LD_MEM => Op::Mem(word()?),
            LDX_IMM => Op::XImm(k),
            LDX_MEM => Op::XMem(word()?),
            LDX_LEN => Op::XLen,
            LDX_MSH => Op::XMsh(k),
            BPF_ST => Op::Store(word()?),
            BPF_STX => Op::StoreX(word()?),
            JA => Op::Ja(k),
            JEQ_K => Op::Jeq(jt, jf, k),
            JGT_K => Op::Jgt(jt, jf, k),
            JGE_K => Op::Jge(jt, jf, k),
            JSET_K => Op::Jset(jt, jf, k),
            JEQ_X => Op::JeqX(jt, jf),
            JGT_X => Op::JgtX(jt, jf),
            JGE_X => Op::JgeX(jt, jf),
            JSET_X => Op::JsetX(jt, jf),
            NEG => Op::Neg,
            RET_K => Op::Ret(k),
            RET_A => Op::RetA,
            TAX => Op::Tax,
            TXA => Op::Txa,
            _ if code & 0x07 == BPF_ALU => return arithmetic(code, k),
            _ => return Err(Cause::UnknownCode),
        })
    }

    /// How many instructions it may skip: two counts for a condition, twice the same for a plain jump, none for others.
    pub(crate) fn skips(self) -> Option<[u32; 2]> {
        match self {
            Op::Ja(skip) => Some([skip, skip]),
            Op::Jeq(jt, jf, _) | Op::Jgt(jt, jf, _) | Op::Jge(jt, jf, _) | Op::Jset(jt, jf, _) => {
                Some([jt.into(), jf.into()])
            }
            Op::JeqX(jt, jf) | Op::JgtX(jt, jf) | Op::JgeX(jt, jf) | Op::JsetX(jt, jf) => {
                Some([jt.into(), jf.into()])
            }
            _ => None,
        }
    }

    /// Whether it ends the program.
    pub(crate) fn returns(self) -> bool {
        matches!(self, Op::Ret(_) | Op::RetA)
    }
}

fn arithmetic(code: u16, k: u32) -> Result<Op, Cause> {
    let alu = match code & !(0x07 | BPF_X) {
        BPF_ADD => Alu::Add,
        BPF_SUB => Alu::Sub,
        BPF_MUL => Alu::Mul,
        BPF_DIV => Alu::Div,
        BPF_MOD => Alu::Mod,
        BPF_OR => Alu::Or,
        BPF_AND => Alu::And,
        BPF_XOR => Alu::Xor,
        BPF_LSH => Alu::Lsh,
        BPF_RSH => Alu::Rsh,
        _ => return Err(Cause::UnknownCode),
    };
    match alu {
        _ if code & BPF_X != 0 => Ok(Op::AluX(alu)),
        Alu::Div | Alu::Mod if k == 0 => Err(Cause::ZeroDivisor),
        Alu::Lsh | Alu::Rsh if k > 31 => Err(Cause::WideShift),
        _ => Ok(Op::Alu(alu, k)),
    }
}

/// Not offered: netlink attributes, marks, receive queues, the dissector's payload offset and random numbers.
fn known(extension: u32) -> Result<Op, Cause> {
    Ok(Op::Known(match extension {
        SKF_AD_PROTOCOL => Known::Protocol,
        SKF_AD_PKTTYPE => Known::Kind,
        SKF_AD_IFINDEX => Known::Interface,
        SKF_AD_RXHASH => Known::Hash,
        SKF_AD_CPU => Known::Cpu,
        SKF_AD_VLAN_TAG => Known::VlanTag,
        SKF_AD_VLAN_TAG_PRESENT => Known::VlanPresent,
        SKF_AD_VLAN_TPID => Known::VlanTpid,
        SKF_AD_HATYPE => return Ok(Op::Imm(ETHER)),
        SKF_AD_ALU_XOR_X => return Ok(Op::AluX(Alu::Xor)),
        _ => return Err(Cause::UnknownExtension),
    }))
}
