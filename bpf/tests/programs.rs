//! What the check refuses, and what it says of it; any program and packet, by interpreter and machine code.

#![expect(unreachable_pub, reason = "the fuzz targets are crates of their own")]

mod rig;

#[path = "../../fuzz/src/bpf.rs"]
mod bpf;
#[allow(dead_code, reason = "other targets use the rest")]
#[path = "../../fuzz/src/input.rs"]
mod input;

use proptest::prelude::*;
use rig::*;
use weir_bpf::opcode::*;
use weir_bpf::{Cause, Instruction, Packet, Program};

fn refused(program: &[Instruction]) -> (usize, Cause) {
    let rejected = Program::new(program).expect_err("accepted");
    (rejected.index, rejected.cause)
}

#[test]
fn refuses_programs_without_instructions_or_with_too_many() {
    assert_eq!(refused(&[]), (0, Cause::Length));
    assert_eq!(refused(&vec![ret(0); BPF_MAXINSNS + 1]), (4097, Cause::Length));
    assert!(Program::new(&vec![ret(0); BPF_MAXINSNS]).is_ok());
}

#[test]
fn takes_the_codes_of_the_header_and_no_others() {
    let mut taken = 0;
    for code in 0..=u16::MAX {
        let tested = Program::new(&[st(0), plain(code, 0), ret(0)]);
        // Conditions with nothing to skip are right as well; a constant divisor of 0 is not.
        match tested {
            Ok(_) => taken += 1,
            Err(why) => assert!(
                why.cause == Cause::UnknownCode
                    || why.cause == Cause::ZeroDivisor && matches!(code, 0x34 | 0x94),
                "{code:#x}: {why}"
            ),
        }
        assert!(tested.is_err() || code < 0x100, "{code:#x}");
    }
    // 6 loads of packet bytes, 3 of A and 4 of X beside, 2 stores, 8 operations with the constant 0 and 10 with X, the negation,
    // 9 jumps, 2 returns, 2 copies.
    assert_eq!(taken, 6 + 3 + 4 + 2 + 8 + 10 + 1 + 9 + 2 + 2);
}

#[test]
fn refuses_jumps_that_leave_the_program() {
    assert_eq!(refused(&[ja(1), ret(0)]), (0, Cause::JumpOutside));
    assert_eq!(refused(&[ja(u32::MAX), ret(0)]), (0, Cause::JumpOutside));
    assert_eq!(refused(&[ja(0xffff_fffe), ret(0), ret(0)]), (0, Cause::JumpOutside));
    assert_eq!(refused(&[imm(0), jeq(0, 1, 0), ret(0)]), (1, Cause::JumpOutside));
    assert_eq!(refused(&[imm(0), jeq(0, 0, 1), ret(0)]), (1, Cause::JumpOutside));
    assert_eq!(refused(&[imm(0), jgtx(0, 255), ret(0)]), (1, Cause::JumpOutside));
    assert_eq!(refused(&[jset(1, 0, 0)]), (0, Cause::JumpOutside));
    assert!(Program::new(&[ja(0), jeq(0, 0, 0), ret(0)]).is_ok());
}

#[test]
fn refuses_ends_without_an_answer() {
    assert_eq!(refused(&[imm(1)]), (0, Cause::NoReturn));
    assert_eq!(refused(&[ret(0), imm(1)]), (1, Cause::NoReturn));
    assert_eq!(refused(&[ja(0)]), (0, Cause::JumpOutside));
}

#[test]
fn refuses_words_that_a_way_leaves_unwritten() {
    assert_eq!(refused(&[mem(0), RETA]), (0, Cause::UnwrittenWord));
    assert_eq!(refused(&[xmem(15), RETA]), (0, Cause::UnwrittenWord));
    assert_eq!(refused(&[st(0), mem(1), RETA]), (1, Cause::UnwrittenWord));
    // One of two ways.
    assert_eq!(refused(&[jeq(0, 0, 1), st(3), mem(3), RETA]), (2, Cause::UnwrittenWord));
    assert_eq!(refused(&[jeq(0, 1, 0), st(3), mem(3), RETA]), (2, Cause::UnwrittenWord));
    assert_eq!(refused(&[ja(1), st(3), mem(3), RETA]), (2, Cause::UnwrittenWord));
    // Each writes another.
    assert_eq!(refused(&[jeq(0, 0, 2), st(3), ja(1), st(4), xmem(3), RETA]), (4, Cause::UnwrittenWord));
    assert!(Program::new(&[jeq(0, 0, 2), st(3), ja(1), stx(3), xmem(3), RETA]).is_ok());
}

#[test]
fn refuses_words_that_do_not_exist() {
    for instruction in [mem(16), xmem(16), st(16), stx(u32::MAX)] {
        assert_eq!(refused(&[instruction, ret(0)]), (0, Cause::NoSuchWord));
    }
}

#[test]
fn refuses_divisors_of_0_and_wide_shifts() {
    assert_eq!(refused(&[imm(1), div(0), RETA]), (1, Cause::ZeroDivisor));
    assert_eq!(refused(&[imm(1), rem(0), RETA]), (1, Cause::ZeroDivisor));
    assert_eq!(refused(&[imm(1), lsh(32), RETA]), (1, Cause::WideShift));
    assert_eq!(refused(&[imm(1), rsh(u32::MAX), RETA]), (1, Cause::WideShift));
    assert!(Program::new(&[imm(1), lsh(31), rsh(31), DIVX, LSHX, RETA]).is_ok());
}

#[test]
fn refuses_extensions_that_it_does_not_have() {
    let absent = [
        SKF_AD_NLATTR,
        SKF_AD_NLATTR_NEST,
        SKF_AD_MARK,
        SKF_AD_QUEUE,
        SKF_AD_PAY_OFFSET,
        SKF_AD_RANDOM,
        1,
        64,
        0xfff,
    ];
    for extension in absent {
        assert_eq!(refused(&[ldb(SKF_AD_OFF + extension), RETA]), (0, Cause::UnknownExtension));
    }
}

#[test]
fn says_where_what_and_what_to_do() {
    let text = |program: &[Instruction]| Program::new(program).unwrap_err().to_string();
    assert_eq!(text(&[]), "0 instructions: a program has 1 to 4096: give another filter");
    assert_eq!(
        text(&[imm(1), div(0), RETA]),
        "instruction 1 (code 0x34, k 0x0): divides by 0: use another divisor"
    );
    assert_eq!(
        text(&[plain(0x1ff, 7), RETA]),
        "instruction 0 (code 0x1ff, k 0x7): unknown code: use those of linux/filter.h"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn machine_code_and_interpreter_agree(data in proptest::collection::vec(any::<u8>(), 0..1500)) {
        bpf::run(&data);
    }

    #[test]
    fn any_instructions_are_refused_or_end(
        raw in proptest::collection::vec((0_u16..0x100, 0_u8..4, 0_u8..4, any::<u32>()), 1..12),
        frame in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut program: Vec<_> =
            raw.into_iter().map(|(code, jt, jf, k)| Instruction { code, jt, jf, k }).collect();
        program.push(RETA);
        if let Ok(program) = Program::new(&program) {
            Both::new(program).run_split(&Packet::new(&frame), None);
        }
    }
}

/// The generator is worth nothing if what it makes is refused.
#[test]
fn most_programs_of_the_fuzz_target_run() {
    let mut state = 1_u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let ran = (0..400).filter(|_| bpf::run(&std::array::from_fn::<u8, 800, _>(|_| byte())).is_some()).count();
    assert!(ran > 300, "{ran} of 400 ran");
}

#[test]
fn replays_what_fuzzing_found() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/regressions/bpf");
    let mut replayed = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        bpf::run(&std::fs::read(&path).unwrap());
        replayed += 1;
    }
    assert!(replayed > 0, "nothing in {folder}");
}
