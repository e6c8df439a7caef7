//! What each instruction does: a table of programs, packets and answers, run by interpreter and machine code, in one piece and
//! cut at each byte. The behaviours are those that Linux's lib/test_bpf.c and libpcap's bpf_filter.c agree on.

mod rig;

use rig::*;
use weir_bpf::opcode::*;
use weir_bpf::{Instruction, Packet, PacketType, Program};

struct Case {
    name: &'static str,
    program: &'static [Instruction],
    packet: &'static [u8],
    expected: u32,
}

macro_rules! table {
    ($name:ident over $packet:expr; $($case:literal: $program:expr => $expected:expr;)*) => {
        #[test]
        fn $name() {
            $(check(&Case { name: $case, program: const { &$program }, packet: $packet, expected: $expected });)*
        }
    };
}

fn check(case: &Case) {
    let both = Both::new(Program::new(case.program).unwrap_or_else(|why| panic!("{}: {why}", case.name)));
    let answer = both.run_split(&Packet::new(case.packet), None);
    assert_eq!(answer, case.expected, "{}: {answer:#x}, not {:#x}", case.name, case.expected);
}

/// Sixteen bytes that differ, high bits among them.
const BYTES: &[u8] =
    &[0x80, 0x91, 0xa2, 0xb3, 0x04, 0x15, 0x26, 0x37, 0x48, 0x59, 0x6a, 0x7b, 0xff, 0xfe, 0x8d, 0x4f];
const MAX: u32 = u32::MAX;

table! { loads_from_the_packet over BYTES;
    "first word": [ld(0), RETA] => 0x8091_a2b3;
    "word at an odd place": [ld(5), RETA] => 0x1526_3748;
    "last word": [ld(12), RETA] => 0xfffe_8d4f;
    "word that ends a byte past": [ld(13), RETA] => 0;
    "word that ends three past": [ld(15), RETA] => 0;
    "word just past": [ld(16), RETA] => 0;
    "first half": [ldh(0), RETA] => 0x8091;
    "half is not sign-extended": [ldh(12), RETA] => 0xfffe;
    "half clears what A had": [imm(MAX), ldh(4), RETA] => 0x0415;
    "last half": [ldh(14), RETA] => 0x8d4f;
    "half that ends a byte past": [ldh(15), RETA] => 0;
    "first byte": [ldb(0), RETA] => 0x80;
    "byte is not sign-extended": [ldb(12), RETA] => 0xff;
    "byte clears what A had": [imm(MAX), ldb(4), RETA] => 4;
    "last byte": [ldb(15), RETA] => 0x4f;
    "byte just past": [ldb(16), RETA] => 0;
    "a load that fails ends the program": [ld(100), ret(7)] => 0;
    "a load that is not reached does not": [ja(1), ld(100), ret(7)] => 7;
    "the largest offset": [ldb(0x7fff_ffff), ret(7)] => 0;
    "the largest offset, a word": [ld(0x7fff_ffff), ret(7)] => 0;
    "a word that would end at 2^31": [ld(0x7fff_fffc), ret(7)] => 0;
    "an offset that is negative and of no header": [ldb(0x8000_0000), ret(7)] => 0;
    "just below the link-layer header's": [ldb(SKF_LL_OFF - 1), ret(7)] => 0;
    "checks of a later load do not hold for an earlier": [ldb(3), ldh(8), ld(12), RETA] => 0xfffe_8d4f;
    "short loads after long ones": [ld(12), ldb(2), RETA] => 0xa2;
    "long loads after short ones": [ldb(12), ld(12), RETA] => 0xfffe_8d4f;
    "a check on one way does not hold on the other":
        [ldb(0), jeq(0x80, 1, 0), ldb(15), ldb(16), ret(7)] => 0;
    "a way around a load that would fail": [ldb(0), jeq(0x80, 1, 0), ld(64), ldb(1), RETA] => 0x91;
}

table! { loads_from_x_on over BYTES;
    "word from X": [ximm(4), ld_x(0), RETA] => 0x0415_2637;
    "word from X and k": [ximm(4), ld_x(8), RETA] => 0xfffe_8d4f;
    "word that ends past": [ximm(4), ld_x(9), RETA] => 0;
    "half": [ximm(11), ldh_x(1), RETA] => 0xfffe;
    "half that ends past": [ximm(14), ldh_x(1), RETA] => 0;
    "byte": [ximm(14), ldb_x(0), RETA] => 0x8d;
    "byte past": [ximm(16), ldb_x(0), RETA] => 0;
    "X begins as 0": [ldb_x(4), RETA] => 4;
    "k can be negative: the sum is modulo 2^32": [ximm(5), ldb_x(MAX), RETA] => 4;
    "the sum wraps upwards": [ximm(MAX), ldb_x(6), RETA] => 0x15;
    "wraps, a word": [ximm(0xffff_fffe), ld_x(2), RETA] => 0x8091_a2b3;
    "below the packet": [ximm(0), ldb_x(MAX), ret(7)] => 0;
    "X of 2^31": [ximm(0x8000_0000), ldb_x(0), ret(7)] => 0;
    "both of 2^31": [ximm(0x8000_0000), ldb_x(0x8000_0000), RETA] => 0x80;
    "the largest X": [ximm(MAX), ldb_x(0), ret(7)] => 0;
    "the largest k that is positive": [ximm(0), ld_x(0x7fff_ffff), ret(7)] => 0;
    "a word whose end would be 2^32": [ximm(0xffff_fffc), ld_x(0), ret(7)] => 0;
    "a second load from the same X": [ximm(2), ldh_x(2), ldh_x(4), ldh_x(2), RETA] => 0x0415;
    "a check of X does not hold for another X": [ximm(0), ld_x(12), ximm(1), ld_x(12), ret(7)] => 0;
    "nor for an X that was copied": [ximm(0), ld_x(12), imm(1), TAX, ld_x(12), ret(7)] => 0;
    "nor for the length": [ximm(0), ldb_x(12), XLEN, ldb_x(0), ret(7)] => 0;
    "nor for one from memory": [imm(9), st(3), ximm(0), ldb_x(9), xmem(3), ldb_x(9), ret(7)] => 0;
    "a check of X on one way only":
        [ximm(4), ldb(0), jeq(0x80, 1, 0), ld_x(8), ld_x(8), ximm(9), ld_x(8), ret(7)] => 0;
    "what X had makes the packet that long": [ximm(8), ld_x(4), ldb(7), RETA] => 0x37;
    "A is not lost where X is set": [imm(7), ximm(3), RETA] => 7;
}

table! { header_lengths over BYTES;
    "four times the low half of a byte": [xmsh(15), TXA, RETA] => 60;
    "of a byte with a high half": [xmsh(3), TXA, RETA] => 12;
    "0": [xmsh(0), TXA, RETA] => 0;
    "leaves A alone": [imm(9), xmsh(3), RETA] => 9;
    "past the packet": [xmsh(16), ret(7)] => 0;
    "then a load from there": [xmsh(2), ldb_x(0), RETA] => 0x48;
    "negative, of no header": [xmsh(0x8000_0000), ret(7)] => 0;
    "from the link-layer header": [xmsh(SKF_LL_OFF + 3), TXA, RETA] => 12;
    "from the network header": [xmsh(SKF_NET_OFF + 1), TXA, RETA] => 60;
}

table! { offsets_from_headers over BYTES;
    "link-layer header": [ld(SKF_LL_OFF), RETA] => 0x8091_a2b3;
    "its last half": [ldh(SKF_LL_OFF + 14), RETA] => 0x8d4f;
    "past it": [ldh(SKF_LL_OFF + 15), ret(7)] => 0;
    "network header": [ldh(SKF_NET_OFF), RETA] => 0x8d4f;
    "a byte of it": [ldb(SKF_NET_OFF + 1), RETA] => 0x4f;
    "past that": [ldb(SKF_NET_OFF + 2), ret(7)] => 0;
    "far past": [ld(SKF_NET_OFF + 0xe_ffff), ret(7)] => 0;
    "from X": [ximm(SKF_LL_OFF), ldb_x(4), RETA] => 4;
    "from X, network": [ximm(1), ldb_x(SKF_NET_OFF), RETA] => 0x4f;
    "by X there is nothing beside the bytes": [ximm(SKF_AD_OFF), ld_x(SKF_AD_PROTOCOL), ret(7)] => 0;
}

table! { constants_and_memory over BYTES;
    "return a constant": [ret(0xdead_beef)] => 0xdead_beef;
    "return 0": [ret(0)] => 0;
    "return all ones": [ret(MAX)] => MAX;
    "A begins as 0": [RETA] => 0;
    "X begins as 0": [imm(5), TXA, RETA] => 0;
    "A as a constant": [imm(0x1234_5678), RETA] => 0x1234_5678;
    "X as a constant": [ximm(0x8765_4321), TXA, RETA] => 0x8765_4321;
    "to X and back": [imm(77), TAX, imm(0), TXA, RETA] => 77;
    "length": [LEN, RETA] => 16;
    "length in X": [XLEN, TXA, RETA] => 16;
    "first word": [imm(5), st(0), imm(0), mem(0), RETA] => 5;
    "last word": [imm(MAX), st(15), imm(0), mem(15), RETA] => MAX;
    "X to memory": [ximm(9), stx(7), mem(7), RETA] => 9;
    "memory to X": [imm(11), st(7), xmem(7), TXA, RETA] => 11;
    "X not written yet": [stx(2), mem(2), RETA] => 0;
    "A not written yet": [st(2), imm(4), mem(2), RETA] => 0;
    "words are apart": [imm(1), st(0), imm(2), st(1), imm(3), st(2), mem(1), RETA] => 2;
    "the last store counts": [imm(1), st(5), imm(2), st(5), mem(5), RETA] => 2;
    "all sixteen": [
        imm(1), st(0), st(1), st(2), st(3), st(4), st(5), st(6), st(7), st(8), st(9), st(10), st(11), st(12),
        st(13), st(14), imm(100), st(15), mem(0), xmem(15), ADDX, RETA
    ] => 101;
    "a word written on both ways": [ldb(0), jeq(0x80, 0, 2), st(3), ja(1), stx(3), mem(3), RETA] => 0x80;
    "memory survives loads": [imm(6), st(1), ximm(1), ldb_x(1), ldh(3), mem(1), RETA] => 6;
    "memory survives division": [imm(6), st(1), ximm(3), DIVX, REMX, div(3), mem(1), RETA] => 6;
}

table! { arithmetic_with_a_constant over BYTES;
    "add": [imm(40), add(2), RETA] => 42;
    "add wraps": [imm(MAX), add(2), RETA] => 1;
    "add a large one": [imm(1), add(0x7fff_ffff), RETA] => 0x8000_0000;
    "add what a byte holds signed": [imm(1000), add(127), RETA] => 1127;
    "add what it does not": [imm(1000), add(128), RETA] => 1128;
    "add -128": [imm(1000), add(0xffff_ff80), RETA] => 872;
    "add -129": [imm(1000), add(0xffff_ff7f), RETA] => 871;
    "add 0": [imm(9), add(0), RETA] => 9;
    "sub": [imm(40), sub(2), RETA] => 38;
    "sub wraps": [imm(0), sub(1), RETA] => MAX;
    "mul": [imm(7), mul(6), RETA] => 42;
    "mul keeps the low 32 bits": [imm(0x0001_0001), mul(0x0001_0001), RETA] => 0x0002_0001;
    "mul by a large one": [imm(3), mul(0x5555_5555), RETA] => MAX;
    "mul by -1": [imm(5), mul(MAX), RETA] => 0xffff_fffb;
    "mul by 0": [imm(5), mul(0), RETA] => 0;
    "div": [imm(100), div(7), RETA] => 14;
    "div is unsigned": [imm(MAX), div(2), RETA] => 0x7fff_ffff;
    "div of a large one by a large one": [imm(MAX), div(0xffff_fffe), RETA] => 1;
    "div by the largest": [imm(MAX), div(MAX), RETA] => 1;
    "div by 1": [imm(MAX), div(1), RETA] => MAX;
    "div by 2^31": [imm(0x9000_0000), div(0x8000_0000), RETA] => 1;
    "div keeps X": [ximm(5), imm(9), div(3), TXA, RETA] => 5;
    "mod": [imm(100), rem(7), RETA] => 2;
    "mod is unsigned": [imm(MAX), rem(10), RETA] => 5;
    "mod by 1": [imm(77), rem(1), RETA] => 0;
    "mod by 2^k": [imm(0x1234_5678), rem(0x1000), RETA] => 0x678;
    "mod keeps X": [ximm(5), imm(9), rem(7), TXA, RETA] => 5;
    "packet is still known after div": [imm(9), div(7), LEN, RETA] => 16;
    "packet is still known after mod": [imm(9), rem(7), XLEN, TXA, RETA] => 16;
    "or": [imm(0x0f0f_0000), or(0x00ff_00ff), RETA] => 0x0fff_00ff;
    "and": [imm(0x0f0f_ffff), and(0x00ff_00ff), RETA] => 0x000f_00ff;
    "and with a byte that is sign-extended": [imm(MAX), and(0xffff_fff0), RETA] => 0xffff_fff0;
    "and with 0x80": [imm(MAX), and(0x80), RETA] => 0x80;
    "xor": [imm(0xff00_ff00), xor(0x0ff0_0ff0), RETA] => 0xf0f0_f0f0;
    "xor with all ones": [imm(0x1234_5678), xor(MAX), RETA] => 0xedcb_a987;
    "shift left": [imm(1), lsh(31), RETA] => 0x8000_0000;
    "shift left drops what leaves": [imm(0xc000_0001), lsh(1), RETA] => 0x8000_0002;
    "shift left by 0": [imm(5), lsh(0), RETA] => 5;
    "shift right": [imm(0x8000_0000), rsh(31), RETA] => 1;
    "shift right brings zeros": [imm(0x8000_0000), rsh(4), RETA] => 0x0800_0000;
    "shift right by 0": [imm(MAX), rsh(0), RETA] => MAX;
    "neg": [imm(1), NEG, RETA] => MAX;
    "neg of 0": [imm(0), NEG, RETA] => 0;
    "neg of 2^31": [imm(0x8000_0000), NEG, RETA] => 0x8000_0000;
    "neg twice": [imm(123), NEG, NEG, RETA] => 123;
}

table! { arithmetic_with_x over BYTES;
    "add": [imm(40), ximm(2), ADDX, RETA] => 42;
    "add wraps": [imm(MAX), ximm(MAX), ADDX, RETA] => 0xffff_fffe;
    "sub": [imm(40), ximm(41), SUBX, RETA] => MAX;
    "mul": [imm(0x1_0000), ximm(0x1_0001), MULX, RETA] => 0x1_0000;
    "div": [imm(100), ximm(7), DIVX, RETA] => 14;
    "div is unsigned": [imm(MAX), ximm(0x8000_0000), DIVX, RETA] => 1;
    "div by 0 ends with 0": [imm(100), ximm(0), DIVX, ret(7)] => 0;
    "div by an X never written": [imm(100), DIVX, ret(7)] => 0;
    "div that is not reached": [ximm(0), ja(1), DIVX, ret(7)] => 7;
    "div keeps X": [imm(100), ximm(7), DIVX, TXA, RETA] => 7;
    "mod": [imm(100), ximm(7), REMX, RETA] => 2;
    "mod by 0 ends with 0": [imm(100), ximm(0), REMX, ret(7)] => 0;
    "mod by 1": [imm(100), ximm(1), REMX, RETA] => 0;
    "mod keeps X": [imm(100), ximm(7), REMX, TXA, RETA] => 7;
    "packet is still known after div": [imm(9), ximm(2), DIVX, LEN, RETA] => 16;
    "or": [imm(0xf0), ximm(0x0f), ORX, RETA] => 0xff;
    "and": [imm(0xfc), ximm(0x3f), ANDX, RETA] => 0x3c;
    "xor": [imm(0xfc), ximm(0x3f), XORX, RETA] => 0xc3;
    "shift left": [imm(3), ximm(4), LSHX, RETA] => 0x30;
    "shift left by 31": [imm(3), ximm(31), LSHX, RETA] => 0x8000_0000;
    "shift left by 32 leaves nothing": [imm(MAX), ximm(32), LSHX, RETA] => 0;
    "shift left by 33": [imm(MAX), ximm(33), LSHX, RETA] => 0;
    "shift left by 256": [imm(MAX), ximm(256), LSHX, RETA] => 0;
    "shift left by all ones": [imm(MAX), ximm(MAX), LSHX, RETA] => 0;
    "shift left by 0": [imm(MAX), ximm(0), LSHX, RETA] => MAX;
    "shift right": [imm(0x8000_0000), ximm(31), RSHX, RETA] => 1;
    "shift right by 32": [imm(MAX), ximm(32), RSHX, RETA] => 0;
    "shift right by 0": [imm(MAX), ximm(0), RSHX, RETA] => MAX;
    "shifts keep X": [imm(1), ximm(40), LSHX, RSHX, TXA, RETA] => 40;
    "xor, as an extension": [imm(0xfc), ximm(0x3f), ld(SKF_AD_OFF + SKF_AD_ALU_XOR_X), RETA] => 0xc3;
    "A and X the same": [imm(9), TAX, MULX, RETA] => 81;
}

table! { conditions over BYTES;
    "equal": [imm(5), jeq(5, 0, 1), ret(1), ret(2)] => 1;
    "not equal": [imm(5), jeq(6, 0, 1), ret(1), ret(2)] => 2;
    "equal to 0": [imm(0), jeq(0, 0, 1), ret(1), ret(2)] => 1;
    "not equal to 0": [imm(1), jeq(0, 0, 1), ret(1), ret(2)] => 2;
    "equal to all ones": [imm(MAX), jeq(MAX, 0, 1), ret(1), ret(2)] => 1;
    "equal in the low byte only": [imm(0x105), jeq(5, 0, 1), ret(1), ret(2)] => 2;
    "equal, a large one": [ld(0), jeq(0x8091_a2b3, 0, 1), ret(1), ret(2)] => 1;
    "greater": [imm(6), jgt(5, 0, 1), ret(1), ret(2)] => 1;
    "not greater": [imm(5), jgt(5, 0, 1), ret(1), ret(2)] => 2;
    "greater is unsigned": [imm(0x8000_0000), jgt(0x7fff_ffff, 0, 1), ret(1), ret(2)] => 1;
    "greater than all ones": [imm(MAX), jgt(MAX, 0, 1), ret(1), ret(2)] => 2;
    "all ones greater than 1": [imm(MAX), jgt(1, 0, 1), ret(1), ret(2)] => 1;
    "greater than 0": [imm(1), jgt(0, 0, 1), ret(1), ret(2)] => 1;
    "0 not greater than 0": [imm(0), jgt(0, 0, 1), ret(1), ret(2)] => 2;
    "greater or equal": [imm(5), jge(5, 0, 1), ret(1), ret(2)] => 1;
    "less": [imm(4), jge(5, 0, 1), ret(1), ret(2)] => 2;
    "1 is less than all ones": [imm(1), jge(MAX, 0, 1), ret(1), ret(2)] => 2;
    "anything is at least 0": [imm(0), jge(0, 0, 1), ret(1), ret(2)] => 1;
    "bits": [imm(0x6), jset(0x4, 0, 1), ret(1), ret(2)] => 1;
    "no bit": [imm(0x6), jset(0x9, 0, 1), ret(1), ret(2)] => 2;
    "the highest bit": [imm(0x8000_0000), jset(0x8000_0000, 0, 1), ret(1), ret(2)] => 1;
    "bit 7": [imm(0x80), jset(0x80, 0, 1), ret(1), ret(2)] => 1;
    "bit 8": [imm(0xff), jset(0x100, 0, 1), ret(1), ret(2)] => 2;
    "no bit asked for": [imm(MAX), jset(0, 0, 1), ret(1), ret(2)] => 2;
    "any bit": [imm(1), jset(MAX, 0, 1), ret(1), ret(2)] => 1;
    "equal to X": [imm(5), ximm(5), jeqx(0, 1), ret(1), ret(2)] => 1;
    "not equal to X": [imm(5), ximm(0x105), jeqx(0, 1), ret(1), ret(2)] => 2;
    "greater than X": [imm(0x8000_0000), ximm(1), jgtx(0, 1), ret(1), ret(2)] => 1;
    "not greater than X": [imm(1), ximm(1), jgtx(0, 1), ret(1), ret(2)] => 2;
    "at least X": [imm(1), ximm(1), jgex(0, 1), ret(1), ret(2)] => 1;
    "less than X": [imm(0), ximm(MAX), jgex(0, 1), ret(1), ret(2)] => 2;
    "bits of X": [imm(0xf0), ximm(0x1f), jsetx(0, 1), ret(1), ret(2)] => 1;
    "no bits of X": [imm(0xf0), ximm(0x0f), jsetx(0, 1), ret(1), ret(2)] => 2;
    "X not written is 0": [imm(0), jeqx(0, 1), ret(1), ret(2)] => 1;
    "A and X not written are equal": [jeqx(0, 1), ret(1), ret(2)] => 1;
    "A not written is 0": [jeq(0, 0, 1), ret(1), ret(2)] => 1;
}

table! { jumps over BYTES;
    "jump over one": [ja(1), ret(1), ret(2)] => 2;
    "jump to the next": [ja(0), ret(1)] => 1;
    "a jump to a jump": [ja(1), ret(1), ja(1), ret(2), ret(3)] => 3;
    "a condition that leads to a jump": [imm(1), jeq(1, 1, 0), ret(1), ja(1), ret(2), ret(3)] => 3;
    "both ways the same": [imm(1), jeq(1, 1, 1), ret(1), ret(2)] => 2;
    "both ways to the next": [imm(1), jgt(1, 0, 0), ret(1)] => 1;
    "both ways skip": [imm(1), jeq(1, 2, 1), ret(1), ret(2), ret(3)] => 3;
    "the other of both": [imm(0), jeq(1, 2, 1), ret(1), ret(2), ret(3)] => 2;
    "no way leads there": [ret(1), ldb(200), DIVX, RETA] => 1;
    "memory that no way reads": [ret(1), mem(3), RETA] => 1;
    "a chain of conditions": [
        ldb(0), jeq(1, 6, 0), jeq(2, 5, 0), jeq(0x81, 4, 0), jeq(0x80, 0, 3), ldb(1), jeq(0x91, 0, 1), ret(9), ret(1)
    ] => 9;
    "to the next by a way that is taken": [imm(7), jeq(7, 0, 2), add(1), ja(0), RETA] => 8;
}

/// A TCP segment from 10.0.0.1 port 80 to 192.0.2.9 port 4660, behind 4 bytes of options.
const TCP: &[u8] = &[
    2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x46, 0, 0, 44, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 192,
    0, 2, 9, 1, 1, 1, 0, 0, 80, 0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 1, 0, 0, 0, 0, 0,
];

/// What `tcpdump -d` prints for `tcp port 80 and host 10.0.0.1`.
const WEB: [Instruction; 18] = [
    ldh(12),
    jeq(0x86dd, 15, 0),
    jeq(0x800, 0, 14),
    ldb(23),
    jeq(6, 0, 12),
    ldh(20),
    jset(0x1fff, 10, 0),
    xmsh(14),
    ldh_x(14),
    jeq(80, 2, 0),
    ldh_x(16),
    jeq(80, 0, 5),
    ld(26),
    jeq(0x0a00_0001, 2, 0),
    ld(30),
    jeq(0x0a00_0001, 0, 1),
    ret(262_144),
    ret(0),
];

table! { whole_filters over TCP;
    "tcp port 80 and host 10.0.0.1": WEB => 262_144;
    "ip": [ldh(12), jeq(0x800, 0, 1), ret(262_144), ret(0)] => 262_144;
    "arp": [ldh(12), jeq(0x806, 0, 1), ret(262_144), ret(0)] => 0;
    "tcp with SYN": [
        ldh(12), jeq(0x800, 0, 8), ldb(23), jeq(6, 0, 6), ldh(20), jset(0x1fff, 4, 0), xmsh(14), ldb_x(27),
        jset(2, 0, 1), ret(96), ret(0)
    ] => 96;
    "greater 58": [LEN, jge(58, 0, 1), ret(1), ret(0)] => 1;
    "greater 59": [LEN, jge(59, 0, 1), ret(1), ret(0)] => 0;
    "the header's length times 4": [ldb(14), and(0xf), mul(4), RETA] => 24;
    "the same by shifting": [ldb(14), and(0xf), lsh(2), TAX, ldh_x(16), RETA] => 0x1234;
}

#[test]
fn what_is_known_beside_the_bytes() {
    let packet = Packet {
        wire_len: 1514,
        interface: 0x1_0002,
        hash: 0x8765_4321,
        protocol: 0x86dd,
        vlan_tag: 0xa07b,
        vlan_tpid: 0x88a8,
        cpu: 300,
        kind: PacketType::Outgoing,
        ..Packet::new(BYTES)
    };
    let untagged = Packet { vlan_tpid: 0, vlan_tag: 0, ..packet };
    let answers = [
        (SKF_AD_PROTOCOL, 0x86dd, 0x86dd),
        (SKF_AD_PKTTYPE, 4, 4),
        (SKF_AD_IFINDEX, 0x1_0002, 0x1_0002),
        (SKF_AD_HATYPE, 1, 1),
        (SKF_AD_RXHASH, 0x8765_4321, 0x8765_4321),
        (SKF_AD_CPU, 300, 300),
        (SKF_AD_VLAN_TAG, 0xa07b, 0),
        (SKF_AD_VLAN_TAG_PRESENT, 1, 0),
        (SKF_AD_VLAN_TPID, 0x88a8, 0),
    ];
    for (extension, tagged, bare) in answers {
        // Whatever the size of the load says.
        for load in [ld, ldh, ldb] {
            let program = [imm(MAX), load(SKF_AD_OFF + extension), RETA];
            let both = Both::new(Program::new(&program).unwrap());
            assert_eq!(both.run_split(&packet, None), tagged, "extension {extension}");
            assert_eq!(both.run_split(&untagged, None), bare, "extension {extension}, untagged");
        }
    }
    for load in [&[LEN, RETA][..], &[XLEN, TXA, RETA][..]] {
        assert_eq!(Both::new(Program::new(load).unwrap()).run(&packet), 1514);
    }
}

#[test]
fn each_packet_type_has_linux_s_number() {
    let both = Both::new(Program::new(&[ld(SKF_AD_OFF + SKF_AD_PKTTYPE), RETA]).unwrap());
    let all = [
        PacketType::Host,
        PacketType::Broadcast,
        PacketType::Multicast,
        PacketType::OtherHost,
        PacketType::Outgoing,
    ];
    for (number, kind) in (0..).zip(all) {
        assert_eq!(both.run(&Packet { kind, ..Packet::new(BYTES) }), number);
    }
}

#[test]
fn the_filter_for_web_traffic_sees_every_byte_it_asks_about() {
    let both = Both::new(Program::new(&WEB).unwrap());
    for (at, value) in [(12, 0x86), (13, 6), (20, 0x1f), (21, 1), (23, 17), (26, 11), (38, 1), (39, 81)] {
        let mut frame = TCP.to_vec();
        frame[at] = value;
        assert_eq!(both.run_split(&Packet::new(&frame), None), 0, "byte {at}");
    }
    for len in 0..TCP.len() {
        let expected = if len >= 40 { 262_144 } else { 0 };
        assert_eq!(both.run_split(&Packet::new(&TCP[..len]), None), expected, "{len} bytes");
    }
}

#[test]
fn the_longest_program_runs_to_its_end() {
    let mut program = vec![imm(0)];
    program.extend([add(1); 4094]);
    program.push(RETA);
    assert_eq!(Both::new(Program::new(&program).unwrap()).run(&Packet::new(BYTES)), 4094);
}

#[test]
fn jumps_of_every_length_arrive() {
    // Each `add` is three bytes: jumps on both sides of what one byte tells.
    for skip in 0..=255_u8 {
        let mut program = vec![imm(1), jeq(1, skip, 0)];
        program.extend([add(1000); 255]);
        program.extend([RETA]);
        let both = Both::new(Program::new(&program).unwrap());
        assert_eq!(both.run(&Packet::new(BYTES)), 1 + 1000 * (255 - u32::from(skip)), "skips {skip}");
    }
    for skip in [0, 1, 40, 41, 42, 43, 126, 127, 128, 129, 1000, 4000] {
        let mut program = vec![ja(skip)];
        program.extend([add(1); 4000]);
        program.push(RETA);
        let both = Both::new(Program::new(&program).unwrap());
        assert_eq!(both.run(&Packet::new(BYTES)), 4000 - skip, "skips {skip}");
    }
}
