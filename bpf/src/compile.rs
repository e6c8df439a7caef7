//! Programs as x86-64 machine code. One instruction at a time, from the last to the first: all jumps lead forward, so what they
//! lead to has its place already, and each gets its shortest form at once.
//!
//! The code is a leaf: no stack frame (memory words lie in the red zone), no calls, nothing saved. It reads the packet's head,
//! checks of its length what earlier checks do not imply, and where the head ends too early it leaves the packet to the
//! interpreter.

mod encode;
mod flow;

use crate::decode::{Alu, Known, Op};
use crate::{Packet, Program};
use alloc::boxed::Box;
use alloc::vec;
use core::mem::offset_of;
use encode::{Address, Code, Condition, Reg};
use flow::Facts;

/// A program and its machine code. Only [`compile`] makes one, of a checked program: what the code may do is known.
#[derive(Clone, Debug)]
pub struct Compiled {
    program: Program,
    code: Box<[u8]>,
}

/// Where code goes with what it cannot answer itself, as its last act. A program's answer depends on the packet alone, so it can
/// begin anew.
extern "sysv64" fn interpret(program: &Program, packet: &Packet<'_>) -> u32 {
    program.run(packet)
}

impl Compiled {
    /// The machine code: a function of `extern "sysv64" fn(head: *const u8, len: u64, packet: &Packet, program: &Program) -> u32`,
    /// at any address. `len` is at most [`Compiled::MAX_HEAD`], and the program is [`program`](Self::program).
    pub fn code(&self) -> &[u8] {
        &self.code
    }

    /// The longest head that code is told of.
    pub const MAX_HEAD: u64 = 0x7fff_ffff;

    /// The program, without its code.
    #[inline(always)]
    pub fn program(&self) -> &Program {
        &self.program
    }
}

// System V's first arguments stay where they are; A is where the answer goes, X where shifts take their count.
const A: Reg = Reg::Ax;
const X: Reg = Reg::Cx;
const PACKET: Reg = Reg::Dx;
const LEN: Reg = Reg::Si;
const HEAD: Reg = Reg::Di;
/// Where a packet says whether it has a chain: a null pointer, if it has none.
const CHAIN: u8 = offset_of!(Packet<'static>, chain) as u8;

/// Makes machine code of `program`, some 10 bytes an instruction.
pub fn compile(program: Program) -> Compiled {
    let facts = flow::facts(&program.ops);
    let mut lowering = Lowering {
        code: Code::default(),
        places: vec![0; program.ops.len()].into_boxed_slice(),
        short: 0,
        elsewhere: 0,
        zero: 0,
    };
    lowering.ends();
    for (index, (&op, facts)) in program.ops.iter().zip(&facts.each).enumerate().rev() {
        if let Some(facts) = facts {
            lowering.instruction(index, op, facts);
        }
        // A jump to a jump goes on to where that leads.
        lowering.places[index] = match op {
            Op::Ja(skip) => lowering.place(index, skip),
            _ => lowering.code.len(),
        };
    }
    if facts.reads_x {
        lowering.code.zero(X);
    }
    if facts.reads_a {
        lowering.code.zero(A);
    }
    lowering.code.bytes(&[0x49, 0x89, 0xca]); // mov r10, rcx: the program, of which X takes the place
    let code = lowering.code.finish();
    Compiled { program, code }
}

/// Places are counted in bytes from the end of the code, since it grows at its front.
struct Lowering {
    code: Code,
    /// Where each instruction begins, once it is there.
    places: Box<[usize]>,
    short: usize,
    elsewhere: usize,
    zero: usize,
}

impl Lowering {
    /// The ends that several instructions share. Written backwards, as everything is.
    fn ends(&mut self) {
        // A load ends past the head, or counts from another header: only the interpreter knows.
        let interpret: extern "sysv64" fn(&Program, &Packet<'_>) -> u32 = interpret;
        self.code.bytes(&[0xff, 0xe0]); // jmp rax
        self.code.bytes(&(interpret as usize as u64).to_le_bytes());
        self.code.bytes(&[0x48, 0xb8]); // mov rax, interpret
        self.code.bytes(&[0x48, 0x89, 0xd6]); // mov rsi, rdx
        self.code.bytes(&[0x4c, 0x89, 0xd7]); // mov rdi, r10
        self.elsewhere = self.code.len();
        self.code.bytes(&[0xc3]); // ret
        self.code.zero(A);
        self.zero = self.code.len();
        // A load at a constant offset ends past the head: of a packet without more pieces that is the answer 0.
        self.code.jump_if(Condition::NotEqual, self.elsewhere);
        self.code.bytes(&[0x48, 0x83, 0x7a, CHAIN, 0]); // cmp qword [rdx + CHAIN], 0
        self.short = self.code.len();
    }

    fn place(&self, index: usize, skip: u32) -> usize {
        self.places.get(index + 1 + skip as usize).copied().unwrap_or(self.zero)
    }

    fn instruction(&mut self, index: usize, op: Op, facts: &Facts) {
        match op {
            Op::Word(k) => self.load(k, 4, facts, Self::word),
            Op::Half(k) => self.load(k, 2, facts, Self::half),
            Op::Byte(k) => self.load(k, 1, facts, |lowering, from| lowering.code.load_byte(A, from)),
            Op::XMsh(k) => self.load(k, 1, facts, |lowering, from| {
                lowering.code.bytes(&[0xc1, 0xe1, 2]); // shl ecx, 2
                lowering.code.bytes(&[0x83, 0xe1, 0xf]); // and ecx, 15
                lowering.code.load_byte(X, from);
            }),
            Op::WordAtX(k) => self.load_at_x(k, 4, facts, Self::word),
            Op::HalfAtX(k) => self.load_at_x(k, 2, facts, Self::half),
            Op::ByteAtX(k) => self.load_at_x(k, 1, facts, |lowering, from| lowering.code.load_byte(A, from)),
            Op::Known(known) => self.known(known),
            Op::Imm(k) => self.code.set(A, k),
            Op::XImm(k) => self.code.set(X, k),
            Op::Mem(word) => self.code.load(A, memory(word)),
            Op::XMem(word) => self.code.load(X, memory(word)),
            Op::Store(word) => self.code.store(A, memory(word)),
            Op::StoreX(word) => self.code.store(X, memory(word)),
            Op::XLen => self.code.load(X, field(offset_of!(Packet<'static>, wire_len))),
            Op::Alu(alu, k) => self.arithmetic(alu, k),
            Op::AluX(alu) => self.arithmetic_x(alu),
            Op::Neg => self.code.bytes(&[0xf7, 0xd8]), // neg eax
            Op::Tax => self.code.copy(X, A),
            Op::Txa => self.code.copy(A, X),
            Op::Ret(k) => {
                self.code.bytes(&[0xc3]);
                self.code.set(A, k);
            }
            Op::RetA => self.code.bytes(&[0xc3]),
            Op::Ja(skip) => {
                let place = self.place(index, skip);
                self.code.jump(place);
            }
            Op::Jeq(jt, jf, k) => self.compare(index, jt, jf, Condition::Equal, k),
            Op::Jgt(jt, jf, k) => self.compare(index, jt, jf, Condition::Above, k),
            Op::Jge(jt, jf, k) => self.compare(index, jt, jf, Condition::AboveOrEqual, k),
            Op::Jset(jt, jf, k) => {
                if self.branch(index, jt, jf, Condition::NotEqual) {
                    self.code.test(k);
                }
            }
            Op::JeqX(jt, jf) => self.compare_x(index, jt, jf, Condition::Equal),
            Op::JgtX(jt, jf) => self.compare_x(index, jt, jf, Condition::Above),
            Op::JgeX(jt, jf) => self.compare_x(index, jt, jf, Condition::AboveOrEqual),
            Op::JsetX(jt, jf) => {
                if self.branch(index, jt, jf, Condition::NotEqual) {
                    self.code.bytes(&[0x85, 0xc8]); // test eax, ecx
                }
            }
        }
    }

    fn word(&mut self, from: Address) {
        self.code.bytes(&[0x0f, 0xc8]); // bswap eax
        self.code.load(A, from);
    }

    fn half(&mut self, from: Address) {
        self.code.bytes(&[0x66, 0xc1, 0xc0, 8]); // rol ax, 8
        self.code.load_half(A, from);
    }

    fn load(&mut self, k: u32, size: u32, facts: &Facts, load: impl FnOnce(&mut Self, Address)) {
        let Some(end) = flow::end(k, size) else { return self.code.jump(self.elsewhere) };
        load(self, Address { base: HEAD, index: None, offset: k as i32 });
        if facts.len < end {
            self.code.jump_if(Condition::Below, self.short);
            self.code.compare(LEN, end);
        }
    }

    fn load_at_x(&mut self, k: u32, size: u32, facts: &Facts, load: impl FnOnce(&mut Self, Address)) {
        match flow::end(k, size) {
            // In 64 bits: a sum that would wrap in 32 is past every head.
            Some(end) => {
                load(self, Address { base: HEAD, index: Some(X), offset: k as i32 });
                if facts.len_after_x < end {
                    self.past_head(Reg::R8);
                    self.code.lea(Reg::R8, Address { base: X, index: None, offset: end as i32 });
                }
            }
            None => {
                load(self, Address { base: HEAD, index: Some(Reg::R8), offset: 0 });
                self.past_head(Reg::R9);
                self.code.lea(Reg::R9, Address { base: Reg::R8, index: None, offset: size as i32 });
                self.code.lea_32(Reg::R8, Address { base: X, index: None, offset: k as i32 });
            }
        }
    }

    /// Leaves where `end` is past the head.
    fn past_head(&mut self, end: Reg) {
        self.code.jump_if(Condition::Above, self.elsewhere);
        self.code.compare_64(end, LEN);
    }

    fn known(&mut self, known: Known) {
        let half = match known {
            Known::Length => return self.code.load(A, field(offset_of!(Packet<'static>, wire_len))),
            Known::Interface => return self.code.load(A, field(offset_of!(Packet<'static>, interface))),
            Known::Hash => return self.code.load(A, field(offset_of!(Packet<'static>, hash))),
            Known::Kind => return self.code.load_byte(A, field(offset_of!(Packet<'static>, kind))),
            Known::Protocol => offset_of!(Packet<'static>, protocol),
            Known::Cpu => offset_of!(Packet<'static>, cpu),
            Known::VlanTag => offset_of!(Packet<'static>, vlan_tag),
            Known::VlanTpid | Known::VlanPresent => offset_of!(Packet<'static>, vlan_tpid),
        };
        if known == Known::VlanPresent {
            self.code.bytes(&[0xff, 0xc0]); // inc eax
            self.code.bytes(&[0x19, 0xc0]); // sbb eax, eax
            self.code.compare(A, 1);
        }
        self.code.load_half(A, field(half));
    }

    fn arithmetic(&mut self, alu: Alu, k: u32) {
        match alu {
            Alu::Add => self.code.immediate(0, A, k),
            Alu::Or => self.code.immediate(1, A, k),
            Alu::And => self.code.immediate(4, A, k),
            Alu::Sub => self.code.immediate(5, A, k),
            Alu::Xor => self.code.immediate(6, A, k),
            Alu::Mul => self.code.multiply(k),
            Alu::Lsh => self.code.bytes(&[0xc1, 0xe0, k as u8]), // shl eax, k
            Alu::Rsh => self.code.bytes(&[0xc1, 0xe8, k as u8]), // shr eax, k
            Alu::Div if k.is_power_of_two() => self.arithmetic(Alu::Rsh, k.trailing_zeros()),
            Alu::Mod if k.is_power_of_two() => self.arithmetic(Alu::And, k - 1),
            Alu::Div | Alu::Mod => {
                self.divide(alu, &[0x41, 0xf7, 0xf1]); // div r9d
                self.code.set(Reg::R9, k);
            }
        }
    }

    fn arithmetic_x(&mut self, alu: Alu) {
        match alu {
            Alu::Add => self.code.bytes(&[0x01, 0xc8]),       // add eax, ecx
            Alu::Or => self.code.bytes(&[0x09, 0xc8]),        // or eax, ecx
            Alu::And => self.code.bytes(&[0x21, 0xc8]),       // and eax, ecx
            Alu::Sub => self.code.bytes(&[0x29, 0xc8]),       // sub eax, ecx
            Alu::Xor => self.code.bytes(&[0x31, 0xc8]),       // xor eax, ecx
            Alu::Mul => self.code.bytes(&[0x0f, 0xaf, 0xc1]), // imul eax, ecx
            Alu::Lsh | Alu::Rsh => {
                // The CPU takes the count modulo 32: nothing is left of A where X is more than 31.
                self.code.bytes(&[0x44, 0x21, 0xc0]); // and eax, r8d
                self.code.bytes(&[0x45, 0x19, 0xc0]); // sbb r8d, r8d
                self.code.compare(X, 32);
                self.code.bytes(&[0xd3, if alu == Alu::Lsh { 0xe0 } else { 0xe8 }]); // shl|shr eax, cl
            }
            Alu::Div | Alu::Mod => {
                self.divide(alu, &[0xf7, 0xf1]); // div ecx
                self.code.jump_if(Condition::Equal, self.zero);
                self.code.bytes(&[0x85, 0xc9]); // test ecx, ecx
            }
        }
    }

    /// A by what the instruction `by` divides by; keeps what `div` changes beside A.
    fn divide(&mut self, alu: Alu, by: &[u8]) {
        self.code.bytes(&[0x4c, 0x89, 0xc2]); // mov rdx, r8
        if alu == Alu::Mod {
            self.code.copy(A, PACKET);
        }
        self.code.bytes(by);
        self.code.zero(PACKET);
        self.code.bytes(&[0x49, 0x89, 0xd0]); // mov r8, rdx
    }

    fn compare(&mut self, index: usize, jt: u8, jf: u8, condition: Condition, k: u32) {
        if self.branch(index, jt, jf, condition) {
            self.code.compare(A, k);
        }
    }

    fn compare_x(&mut self, index: usize, jt: u8, jf: u8, condition: Condition) {
        if self.branch(index, jt, jf, condition) {
            self.code.bytes(&[0x39, 0xc8]); // cmp eax, ecx
        }
    }

    /// Goes to one of two instructions. False where the condition does not matter.
    fn branch(&mut self, index: usize, jt: u8, jf: u8, condition: Condition) -> bool {
        let (holds, fails) = (self.place(index, jt.into()), self.place(index, jf.into()));
        let next = self.code.len();
        if holds == fails {
            if holds != next {
                self.code.jump(holds);
            }
            return false;
        }
        if holds == next {
            self.code.jump_if(condition.not(), fails);
            return true;
        }
        if fails != next {
            self.code.jump(fails);
        }
        self.code.jump_if(condition, holds);
        true
    }
}

/// A word of memory, in the red zone: System V leaves 128 bytes below the stack pointer to leaves.
fn memory(word: u8) -> Address {
    Address { base: Reg::Sp, index: None, offset: i32::from(word) * 4 - 64 }
}

fn field(offset: usize) -> Address {
    Address { base: PACKET, index: None, offset: offset as i32 }
}
