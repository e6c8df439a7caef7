//! A program and packets: what the check lets pass ends with an answer, the same by interpreter and machine code, in one piece
//! or cut in two, and the same again.

// For the image that runs this on the bare machine as well.
extern crate alloc;

use crate::input::Input;
use alloc::string::ToString;
use alloc::vec::Vec;
use weir_bpf::opcode::*;
use weir_bpf::{Chain, Filter, Instruction, Packet, PacketType, Program, compile};
use weir_machine::code::Code;

/// Every code that there is, jumps and returns last.
const CODES: [u16; 56] = [
    BPF_LD | BPF_W | BPF_ABS,
    BPF_LD | BPF_H | BPF_ABS,
    BPF_LD | BPF_B | BPF_ABS,
    BPF_LD | BPF_W | BPF_IND,
    BPF_LD | BPF_H | BPF_IND,
    BPF_LD | BPF_B | BPF_IND,
    BPF_LD | BPF_W | BPF_LEN,
    BPF_LD | BPF_IMM,
    BPF_LD | BPF_MEM,
    BPF_LDX | BPF_IMM,
    BPF_LDX | BPF_MEM,
    BPF_LDX | BPF_W | BPF_LEN,
    BPF_LDX | BPF_B | BPF_MSH,
    BPF_ST,
    BPF_STX,
    BPF_ALU | BPF_ADD | BPF_K,
    BPF_ALU | BPF_ADD | BPF_X,
    BPF_ALU | BPF_SUB | BPF_K,
    BPF_ALU | BPF_SUB | BPF_X,
    BPF_ALU | BPF_MUL | BPF_K,
    BPF_ALU | BPF_MUL | BPF_X,
    BPF_ALU | BPF_DIV | BPF_K,
    BPF_ALU | BPF_DIV | BPF_X,
    BPF_ALU | BPF_MOD | BPF_K,
    BPF_ALU | BPF_MOD | BPF_X,
    BPF_ALU | BPF_OR | BPF_K,
    BPF_ALU | BPF_OR | BPF_X,
    BPF_ALU | BPF_AND | BPF_K,
    BPF_ALU | BPF_AND | BPF_X,
    BPF_ALU | BPF_XOR | BPF_K,
    BPF_ALU | BPF_XOR | BPF_X,
    BPF_ALU | BPF_LSH | BPF_K,
    BPF_ALU | BPF_LSH | BPF_X,
    BPF_ALU | BPF_RSH | BPF_K,
    BPF_ALU | BPF_RSH | BPF_X,
    BPF_ALU | BPF_NEG,
    BPF_MISC | BPF_TAX,
    BPF_MISC | BPF_TXA,
    BPF_LD | BPF_W | BPF_ABS,
    BPF_LD | BPF_H | BPF_ABS,
    BPF_LD | BPF_B | BPF_ABS,
    BPF_LD | BPF_H | BPF_IND,
    BPF_LD | BPF_B | BPF_IND,
    BPF_LDX | BPF_B | BPF_MSH,
    BPF_JMP | BPF_JA,
    BPF_JMP | BPF_JEQ | BPF_K,
    BPF_JMP | BPF_JEQ | BPF_X,
    BPF_JMP | BPF_JGT | BPF_K,
    BPF_JMP | BPF_JGT | BPF_X,
    BPF_JMP | BPF_JGE | BPF_K,
    BPF_JMP | BPF_JGE | BPF_X,
    BPF_JMP | BPF_JSET | BPF_K,
    BPF_JMP | BPF_JSET | BPF_X,
    BPF_RET | BPF_K,
    BPF_RET | BPF_A,
    BPF_JMP | BPF_JSET | BPF_K,
];

/// Constants at the borders of something.
const CONSTANTS: [u32; 24] = [
    0,
    1,
    2,
    31,
    32,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x7fff_fffc,
    0x7fff_ffff,
    0x8000_0000,
    SKF_LL_OFF - 1,
    SKF_LL_OFF,
    SKF_LL_OFF + 8,
    SKF_NET_OFF,
    SKF_NET_OFF + 4,
    0xffff_ff7f,
    0xffff_ff80,
    0xffff_fff0,
    0xffff_fffe,
    u32::MAX,
];

/// The packet's bytes, wherever they are cut.
struct Whole<'a>(&'a [u8]);

impl Chain for Whole<'_> {
    fn copy_out(&self, offset: usize, into: &mut [u8]) -> usize {
        let from = self.0.get(offset..).unwrap_or(&[]);
        let len = from.len().min(into.len());
        into[..len].copy_from_slice(&from[..len]);
        len
    }
}

/// One run. Tells how many instructions ran, if any did.
pub fn run(data: &[u8]) -> Option<usize> {
    let mut input = Input(data);
    let instructions = program(&mut input);
    let program = match Program::new(&instructions) {
        Ok(program) => program,
        Err(rejected) => {
            assert!(rejected.index <= instructions.len());
            assert!(rejected.to_string().contains("instruction"), "{rejected}");
            return None;
        }
    };
    let code = Code::load(compile(program.clone())).expect("no memory for code");
    for _ in 0..4 {
        let len = if input.one_in(8) { input.below(2048) } else { input.below(80) };
        let mut bytes = input.bytes(len).to_vec();
        // What the input lacks, numbers fill.
        bytes.extend((bytes.len()..len).map(|at| (at * 37) as u8));
        let kinds = [PacketType::Host, PacketType::Multicast, PacketType::Outgoing];
        let packet = Packet {
            wire_len: (len + input.below(3) * 1000) as u32,
            network: input.pick(&[14, 14, 0, 18, 200, u32::MAX]),
            interface: input.byte().into(),
            hash: u32::from(input.word()) << 16,
            vlan_tag: input.word(),
            vlan_tpid: input.pick(&[0, 0x8100, 0x88a8]),
            cpu: input.byte().into(),
            kind: input.pick(&kinds),
            ..Packet::new(&bytes)
        };
        let answer = program.run(&packet);
        assert_eq!(code.run(&packet), answer, "machine code of {instructions:x?}");
        assert_eq!(code.run(&packet), answer, "again");
        let excluded = program.pattern().excludes(&bytes);
        assert!(!excluded || answer == 0, "{:x?} of {instructions:x?}", program.pattern());
        let whole = Whole(&bytes);
        let cut = input.below(len + 1);
        let cut_up = Packet { head: &bytes[..cut], chain: Some(&whole), ..packet };
        assert_eq!(program.run(&cut_up), answer, "cut at {cut}: {instructions:x?}");
        assert_eq!(code.run(&cut_up), answer, "machine code, cut at {cut}: {instructions:x?}");
        // A head that is all there is.
        let head = Packet { head: &bytes[..cut], ..packet };
        assert_eq!(code.run(&head), program.run(&head), "machine code, {cut} bytes: {instructions:x?}");
    }
    Some(instructions.len())
}

/// Mostly one that is right.
fn program(input: &mut Input<'_>) -> Vec<Instruction> {
    let choice = input.byte();
    if choice == 0xff {
        // Eight bytes an instruction, as they come.
        let mut all = Vec::new();
        while !input.is_empty() && all.len() < 64 {
            let code = u16::from_be_bytes([input.byte() & 1, input.byte()]);
            let (jt, jf) = (input.byte(), input.byte());
            all.push(Instruction { code, jt, jf, k: long(input) });
        }
        return all;
    }
    let len = 1 + if choice & 0x70 == 0 { input.below(600) } else { usize::from(choice & 0x7f) % 48 };
    let mut all: Vec<Instruction> = Vec::new();
    // Words that all ways write.
    let stores = input.below(5) as u32;
    all.extend((0..stores).map(|k| Instruction { code: BPF_ST, jt: 0, jf: 0, k }));
    for left in (0..len).rev() {
        let mut code = input.pick(&CODES);
        // Seldom: a return here leaves little to run.
        if code & 7 == BPF_RET && !input.one_in(4) {
            code = BPF_ALU | BPF_ADD | BPF_X;
        }
        let skip = |input: &mut Input<'_>| if left < 2 { 0 } else { input.below(left.min(256)) as u8 };
        let (mut jt, mut jf) = (0, 0);
        if code & 7 == BPF_JMP && left == 0 {
            code = BPF_MISC | BPF_TXA;
        }
        let k = match code & 7 {
            BPF_JMP if code == BPF_JMP | BPF_JA => u32::from(skip(input)),
            BPF_JMP => {
                (jt, jf) = (skip(input), skip(input));
                constant(input)
            }
            BPF_ST | BPF_STX => input.below(16) as u32,
            BPF_LD | BPF_LDX if code & 0xe0 == BPF_MEM => input.below(stores.max(1) as usize) as u32,
            BPF_LD if code & 0xe0 == BPF_ABS && input.one_in(6) => {
                SKF_AD_OFF + 4 * input.pick(&[0, 1, 2, 7, 8, 9, 10, 11, 12, 15])
            }
            BPF_LD | BPF_LDX if code & 0xe0 != BPF_IMM && !input.one_in(12) => input.below(72) as u32,
            BPF_ALU if matches!(code & 0xf0, BPF_LSH | BPF_RSH) => input.below(32) as u32,
            BPF_ALU if matches!(code & 0xf0, BPF_DIV | BPF_MOD) => constant(input).max(1),
            _ => constant(input),
        };
        all.push(Instruction { code, jt, jf, k });
    }
    all.push(Instruction { code: BPF_RET | BPF_A, jt: 0, jf: 0, k: 0 });
    all
}

fn constant(input: &mut Input<'_>) -> u32 {
    match input.byte() {
        0..=127 => input.pick(&CONSTANTS),
        128..=223 => input.byte().into(),
        _ => long(input),
    }
}

fn long(input: &mut Input<'_>) -> u32 {
    u32::from(input.word()) << 16 | u32::from(input.word())
}
