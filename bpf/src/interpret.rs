//! The interpreter: what every program means, and what runs where there is no machine code.

use crate::decode::{Alu, Known, Op};
use crate::{Filter, Packet, Pattern, Program};

impl Filter for Program {
    fn run(&self, packet: &Packet<'_>) -> u32 {
        Program::run(self, packet)
    }

    fn pattern(&self) -> Pattern {
        Program::pattern(self)
    }
}

impl Program {
    /// How many of the packet's bytes to capture; 0: the packet is not wanted. A load of bytes that the packet does not
    /// have, and a division by X where X is 0, end the program with 0. Shifts by X over 31 leave 0.
    pub fn run(&self, packet: &Packet<'_>) -> u32 {
        // Only a load can fail, or a division.
        steps(&self.ops, packet).unwrap_or(0)
    }
}

fn steps(ops: &[Op], packet: &Packet<'_>) -> Option<u32> {
    let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; 16]);
    let mut ops = ops.iter();
    loop {
        // Jumps lead forward to an instruction: checked when the program was made.
        let skips = match *ops.next()? {
            Op::Word(k) => {
                a = u32::from_be_bytes(packet.load(k)?);
                continue;
            }
            Op::Half(k) => {
                a = u16::from_be_bytes(packet.load(k)?).into();
                continue;
            }
            Op::Byte(k) => {
                a = u8::from_be_bytes(packet.load(k)?).into();
                continue;
            }
            Op::WordAtX(k) => {
                a = u32::from_be_bytes(packet.load(x.wrapping_add(k))?);
                continue;
            }
            Op::HalfAtX(k) => {
                a = u16::from_be_bytes(packet.load(x.wrapping_add(k))?).into();
                continue;
            }
            Op::ByteAtX(k) => {
                a = u8::from_be_bytes(packet.load(x.wrapping_add(k))?).into();
                continue;
            }
            Op::Known(known) => {
                a = packet.known(known);
                continue;
            }
            Op::Imm(k) => {
                a = k;
                continue;
            }
            Op::Mem(word) => {
                a = memory[usize::from(word % 16)];
                continue;
            }
            Op::XImm(k) => {
                x = k;
                continue;
            }
            Op::XMem(word) => {
                x = memory[usize::from(word % 16)];
                continue;
            }
            Op::XLen => {
                x = packet.wire_len;
                continue;
            }
            Op::XMsh(k) => {
                x = 4 * u32::from(u8::from_be_bytes(packet.load(k)?) & 0xf);
                continue;
            }
            Op::Store(word) => {
                memory[usize::from(word % 16)] = a;
                continue;
            }
            Op::StoreX(word) => {
                memory[usize::from(word % 16)] = x;
                continue;
            }
            Op::Alu(alu, k) => {
                a = arithmetic(alu, a, k)?;
                continue;
            }
            Op::AluX(alu) => {
                a = arithmetic(alu, a, x)?;
                continue;
            }
            Op::Neg => {
                a = a.wrapping_neg();
                continue;
            }
            Op::Tax => {
                x = a;
                continue;
            }
            Op::Txa => {
                a = x;
                continue;
            }
            Op::Ret(k) => return Some(k),
            Op::RetA => return Some(a),
            Op::Ja(skip) => skip,
            Op::Jeq(jt, jf, k) => choose(a == k, jt, jf),
            Op::Jgt(jt, jf, k) => choose(a > k, jt, jf),
            Op::Jge(jt, jf, k) => choose(a >= k, jt, jf),
            Op::Jset(jt, jf, k) => choose(a & k != 0, jt, jf),
            Op::JeqX(jt, jf) => choose(a == x, jt, jf),
            Op::JgtX(jt, jf) => choose(a > x, jt, jf),
            Op::JgeX(jt, jf) => choose(a >= x, jt, jf),
            Op::JsetX(jt, jf) => choose(a & x != 0, jt, jf),
        };
        ops = ops.as_slice().get(skips as usize..)?.iter();
    }
}

#[inline]
fn choose(condition: bool, jt: u8, jf: u8) -> u32 {
    u32::from(if condition { jt } else { jf })
}

fn arithmetic(alu: Alu, a: u32, operand: u32) -> Option<u32> {
    Some(match alu {
        Alu::Add => a.wrapping_add(operand),
        Alu::Sub => a.wrapping_sub(operand),
        Alu::Mul => a.wrapping_mul(operand),
        Alu::Div => a.checked_div(operand)?,
        Alu::Mod => a.checked_rem(operand)?,
        Alu::Or => a | operand,
        Alu::And => a & operand,
        Alu::Xor => a ^ operand,
        Alu::Lsh => a.checked_shl(operand).unwrap_or(0),
        Alu::Rsh => a.checked_shr(operand).unwrap_or(0),
    })
}

impl Packet<'_> {
    fn known(&self, known: Known) -> u32 {
        match known {
            Known::Length => self.wire_len,
            Known::Protocol => self.protocol.into(),
            Known::Kind => self.kind as u32,
            Known::Interface => self.interface,
            Known::Hash => self.hash,
            Known::Cpu => self.cpu.into(),
            Known::VlanTag => self.vlan_tag.into(),
            Known::VlanPresent => u32::from(self.vlan_tpid != 0),
            Known::VlanTpid => self.vlan_tpid.into(),
        }
    }
}
