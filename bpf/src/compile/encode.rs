//! The few x86-64 instructions that programs become (Intel SDM vol. 2), written from the last to the first.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// A general register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Reg {
    Ax = 0,
    Cx = 1,
    Dx = 2,
    Sp = 4,
    Si = 6,
    Di = 7,
    R8 = 8,
    R9 = 9,
}

impl Reg {
    const fn low(self) -> u8 {
        self as u8 & 7
    }

    const fn high(self) -> u8 {
        self as u8 >> 3
    }
}

/// base + index + offset
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Address {
    pub(super) base: Reg,
    pub(super) index: Option<Reg>,
    pub(super) offset: i32,
}

/// Conditions after an unsigned comparison, by their number in Jcc's code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Condition {
    Below = 2,
    AboveOrEqual = 3,
    Equal = 4,
    NotEqual = 5,
    BelowOrEqual = 6,
    Above = 7,
}

impl Condition {
    pub(super) const fn not(self) -> Self {
        match self {
            Condition::Below => Condition::AboveOrEqual,
            Condition::AboveOrEqual => Condition::Below,
            Condition::Equal => Condition::NotEqual,
            Condition::NotEqual => Condition::Equal,
            Condition::BelowOrEqual => Condition::Above,
            Condition::Above => Condition::BelowOrEqual,
        }
    }
}

/// Code that grows at its front.
#[derive(Debug, Default)]
pub(super) struct Code {
    /// Last byte first.
    reversed: Vec<u8>,
}

impl Code {
    /// Bytes so far: where its front is, counted from its end.
    pub(super) fn len(&self) -> usize {
        self.reversed.len()
    }

    pub(super) fn finish(self) -> Box<[u8]> {
        let mut bytes = self.reversed;
        bytes.reverse();
        bytes.into_boxed_slice()
    }

    /// Puts one instruction, or part of one, in front.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.reversed.extend(bytes.iter().rev());
    }

    /// xor reg, reg
    pub(super) fn zero(&mut self, reg: Reg) {
        self.registers(0x31, reg, reg);
    }

    /// mov reg, k
    pub(super) fn set(&mut self, reg: Reg, k: u32) {
        if k == 0 {
            return self.zero(reg);
        }
        self.bytes(&k.to_le_bytes());
        self.bytes(&[0xb8 + reg.low()]);
        self.rex(false, 0, 0, reg.high());
    }

    /// mov to, from
    pub(super) fn copy(&mut self, to: Reg, from: Reg) {
        self.registers(0x89, from, to);
    }

    /// cmp reg, k
    pub(super) fn compare(&mut self, reg: Reg, k: u32) {
        if k == 0 {
            // test reg, reg: the same flags, in a byte less.
            return self.registers(0x85, reg, reg);
        }
        self.immediate(7, reg, k);
    }

    /// cmp left, right, of 64 bits
    pub(super) fn compare_64(&mut self, left: Reg, right: Reg) {
        self.bytes(&[0x39, 0xc0 | right.low() << 3 | left.low()]);
        self.rex(true, right.high(), 0, left.high());
    }

    /// The operation of that number in the first group (add 0, or 1, and 4, sub 5, xor 6, cmp 7) on `reg` and `k`.
    pub(super) fn immediate(&mut self, operation: u8, reg: Reg, k: u32) {
        if let Ok(short) = i8::try_from(k as i32) {
            self.bytes(&[0x83, 0xc0 | operation << 3 | reg.low(), short as u8]);
        } else {
            self.bytes(&k.to_le_bytes());
            match reg {
                Reg::Ax => self.bytes(&[operation << 3 | 5]),
                _ => self.bytes(&[0x81, 0xc0 | operation << 3 | reg.low()]),
            }
        }
        self.rex(false, 0, 0, reg.high());
    }

    /// test eax, k
    pub(super) fn test(&mut self, k: u32) {
        match u8::try_from(k) {
            Ok(byte) => self.bytes(&[0xa8, byte]),
            Err(_) => {
                self.bytes(&k.to_le_bytes());
                self.bytes(&[0xa9]);
            }
        }
    }

    /// imul eax, eax, k
    pub(super) fn multiply(&mut self, k: u32) {
        if let Ok(short) = i8::try_from(k as i32) {
            return self.bytes(&[0x6b, 0xc0, short as u8]);
        }
        self.bytes(&k.to_le_bytes());
        self.bytes(&[0x69, 0xc0]);
    }

    /// mov reg, \[from\]
    pub(super) fn load(&mut self, reg: Reg, from: Address) {
        self.memory(false, &[0x8b], reg, from);
    }

    /// movzx reg, word \[from\]
    pub(super) fn load_half(&mut self, reg: Reg, from: Address) {
        self.memory(false, &[0x0f, 0xb7], reg, from);
    }

    /// movzx reg, byte \[from\]
    pub(super) fn load_byte(&mut self, reg: Reg, from: Address) {
        self.memory(false, &[0x0f, 0xb6], reg, from);
    }

    /// mov \[to\], reg
    pub(super) fn store(&mut self, reg: Reg, to: Address) {
        self.memory(false, &[0x89], reg, to);
    }

    /// lea reg, \[address\], of 64 bits
    pub(super) fn lea(&mut self, reg: Reg, address: Address) {
        self.memory(true, &[0x8d], reg, address);
    }

    /// lea reg, \[address\], of 32 bits: the sum modulo 2^32
    pub(super) fn lea_32(&mut self, reg: Reg, address: Address) {
        self.memory(false, &[0x8d], reg, address);
    }

    /// jmp to a place
    pub(super) fn jump(&mut self, place: usize) {
        let distance = self.len() - place;
        match i8::try_from(distance) {
            Ok(short) => self.bytes(&[0xeb, short as u8]),
            Err(_) => {
                self.bytes(&(distance as u32).to_le_bytes());
                self.bytes(&[0xe9]);
            }
        }
    }

    /// jcc to a place
    pub(super) fn jump_if(&mut self, condition: Condition, place: usize) {
        let distance = self.len() - place;
        match i8::try_from(distance) {
            Ok(short) => self.bytes(&[0x70 | condition as u8, short as u8]),
            Err(_) => {
                self.bytes(&(distance as u32).to_le_bytes());
                self.bytes(&[0x0f, 0x80 | condition as u8]);
            }
        }
    }

    /// An instruction on two registers of 32 bits, the second in ModRM's r/m.
    fn registers(&mut self, code: u8, reg: Reg, rm: Reg) {
        self.bytes(&[code, 0xc0 | reg.low() << 3 | rm.low()]);
        self.rex(false, reg.high(), 0, rm.high());
    }

    /// An instruction on a register and memory. Bases 4 and 12 take an index byte, 5 and 13 an offset: the latter are not used.
    fn memory(&mut self, wide: bool, code: &[u8], reg: Reg, address: Address) {
        let Address { base, index, offset } = address;
        let mode = match i8::try_from(offset) {
            Ok(0) => 0,
            Ok(short) => {
                self.bytes(&[short as u8]);
                0x40
            }
            Err(_) => {
                self.bytes(&offset.to_le_bytes());
                0x80
            }
        };
        let rm = match index {
            None if base.low() != 4 => base.low(),
            // In the index's place 4 stands for none.
            _ => {
                self.bytes(&[index.map_or(4, Reg::low) << 3 | base.low()]);
                4
            }
        };
        self.bytes(&[mode | reg.low() << 3 | rm]);
        self.bytes(code);
        self.rex(wide, reg.high(), index.map_or(0, Reg::high), base.high());
    }

    /// The prefix that widens an operation and names r8 to r15, if need be.
    fn rex(&mut self, wide: bool, reg: u8, index: u8, base: u8) {
        let bits = u8::from(wide) << 3 | reg << 2 | index << 1 | base;
        if bits != 0 {
            self.bytes(&[0x40 | bits]);
        }
    }
}

#[cfg(test)]
mod tests;
