//! Each form against the bytes that GNU as makes of the text beside it.

use super::*;
use std::vec::Vec;

fn encoded(write: impl FnOnce(&mut Code)) -> Vec<u8> {
    let mut code = Code::default();
    write(&mut code);
    code.finish().into_vec()
}

fn at(base: Reg, index: Option<Reg>, offset: i32) -> Address {
    Address { base, index, offset }
}

macro_rules! forms {
    ($($text:literal: $write:expr => $bytes:expr;)*) => {
        $(assert_eq!(encoded($write), $bytes, $text);)*
    };
}

#[test]
fn constants_copies_and_comparisons() {
    forms! {
        "xor eax, eax": |code| code.zero(Reg::Ax) => [0x31, 0xc0];
        "xor edx, edx": |code| code.zero(Reg::Dx) => [0x31, 0xd2];
        "mov ecx, 0x12345678": |code| code.set(Reg::Cx, 0x1234_5678) => [0xb9, 0x78, 0x56, 0x34, 0x12];
        "mov r9d, 7": |code| code.set(Reg::R9, 7) => [0x41, 0xb9, 7, 0, 0, 0];
        "xor ecx, ecx": |code| code.set(Reg::Cx, 0) => [0x31, 0xc9];
        "mov eax, ecx": |code| code.copy(Reg::Ax, Reg::Cx) => [0x89, 0xc8];
        "mov ecx, eax": |code| code.copy(Reg::Cx, Reg::Ax) => [0x89, 0xc1];
        "mov eax, edx": |code| code.copy(Reg::Ax, Reg::Dx) => [0x89, 0xd0];
        "test eax, eax": |code| code.compare(Reg::Ax, 0) => [0x85, 0xc0];
        "cmp eax, 0x7f": |code| code.compare(Reg::Ax, 0x7f) => [0x83, 0xf8, 0x7f];
        "cmp eax, -1": |code| code.compare(Reg::Ax, u32::MAX) => [0x83, 0xf8, 0xff];
        "cmp eax, 0x80": |code| code.compare(Reg::Ax, 0x80) => [0x3d, 0x80, 0, 0, 0];
        "cmp ecx, 32": |code| code.compare(Reg::Cx, 32) => [0x83, 0xf9, 32];
        "cmp esi, 14": |code| code.compare(Reg::Si, 14) => [0x83, 0xfe, 14];
        "cmp esi, 0x100": |code| code.compare(Reg::Si, 0x100) => [0x81, 0xfe, 0, 1, 0, 0];
        "cmp r8, rsi": |code| code.compare_64(Reg::R8, Reg::Si) => [0x49, 0x39, 0xf0];
        "cmp r9, rsi": |code| code.compare_64(Reg::R9, Reg::Si) => [0x49, 0x39, 0xf1];
        "test al, 0x80": |code| code.test(0x80) => [0xa8, 0x80];
        "test eax, 0x1fff": |code| code.test(0x1fff) => [0xa9, 0xff, 0x1f, 0, 0];
    }
}

#[test]
fn arithmetic() {
    forms! {
        "add eax, 2": |code| code.immediate(0, Reg::Ax, 2) => [0x83, 0xc0, 2];
        "add eax, 0x1000": |code| code.immediate(0, Reg::Ax, 0x1000) => [0x05, 0, 0x10, 0, 0];
        "or eax, 0x80": |code| code.immediate(1, Reg::Ax, 0x80) => [0x0d, 0x80, 0, 0, 0];
        "and eax, 15": |code| code.immediate(4, Reg::Ax, 15) => [0x83, 0xe0, 15];
        "and eax, 0xffff": |code| code.immediate(4, Reg::Ax, 0xffff) => [0x25, 0xff, 0xff, 0, 0];
        "sub eax, -128": |code| code.immediate(5, Reg::Ax, 0xffff_ff80) => [0x83, 0xe8, 0x80];
        "xor eax, 0x12345678": |code| code.immediate(6, Reg::Ax, 0x1234_5678) => [0x35, 0x78, 0x56, 0x34, 0x12];
        "imul eax, eax, 4": |code| code.multiply(4) => [0x6b, 0xc0, 4];
        "imul eax, eax, 0x10001": |code| code.multiply(0x1_0001) => [0x69, 0xc0, 1, 0, 1, 0];
    }
}

#[test]
fn memory() {
    use Reg::*;
    forms! {
        "mov eax, [rdi]": |code| code.load(Ax, at(Di, None, 0)) => [0x8b, 0x07];
        "mov eax, [rdi + 26]": |code| code.load(Ax, at(Di, None, 26)) => [0x8b, 0x47, 26];
        "mov eax, [rdi + 0x80]": |code| code.load(Ax, at(Di, None, 0x80)) => [0x8b, 0x87, 0x80, 0, 0, 0];
        "movzx eax, word ptr [rdi + 12]": |code| code.load_half(Ax, at(Di, None, 12)) => [0x0f, 0xb7, 0x47, 12];
        "movzx ecx, byte ptr [rdi + 14]": |code| code.load_byte(Cx, at(Di, None, 14)) => [0x0f, 0xb6, 0x4f, 14];
        "mov eax, [rdi + rcx + 14]": |code| code.load(Ax, at(Di, Some(Cx), 14)) => [0x8b, 0x44, 0x0f, 14];
        "mov eax, [rdi + rcx]": |code| code.load(Ax, at(Di, Some(Cx), 0)) => [0x8b, 0x04, 0x0f];
        "movzx eax, word ptr [rdi + r8]":
            |code| code.load_half(Ax, at(Di, Some(R8), 0)) => [0x42, 0x0f, 0xb7, 0x04, 0x07];
        "mov eax, [rdx + 32]": |code| code.load(Ax, at(Dx, None, 32)) => [0x8b, 0x42, 32];
        "mov eax, [rsp - 64]": |code| code.load(Ax, at(Sp, None, -64)) => [0x8b, 0x44, 0x24, 0xc0];
        "mov [rsp - 4], ecx": |code| code.store(Cx, at(Sp, None, -4)) => [0x89, 0x4c, 0x24, 0xfc];
        "lea r8, [rcx + 16]": |code| code.lea(R8, at(Cx, None, 16)) => [0x4c, 0x8d, 0x41, 16];
        "lea r9, [r8 + 4]": |code| code.lea(R9, at(R8, None, 4)) => [0x4d, 0x8d, 0x48, 4];
        "lea r8d, [rcx - 1]": |code| code.lea_32(R8, at(Cx, None, -1)) => [0x44, 0x8d, 0x41, 0xff];
    }
}

#[test]
fn jumps_take_two_bytes_as_far_as_they_reach() {
    let behind = |len: usize, write: fn(&mut Code)| {
        encoded(|code| {
            code.bytes(&[0x90; 200][..len]);
            write(code);
        })
    };
    assert_eq!(behind(127, |code| code.jump(0))[..2], [0xeb, 127]);
    assert_eq!(behind(128, |code| code.jump(0))[..5], [0xe9, 128, 0, 0, 0]);
    assert_eq!(behind(127, |code| code.jump_if(Condition::Above, 0))[..2], [0x77, 127]);
    assert_eq!(behind(128, |code| code.jump_if(Condition::Below, 0))[..6], [0x0f, 0x82, 128, 0, 0, 0]);
    // To what is in the middle of the code.
    assert_eq!(behind(10, |code| code.jump_if(Condition::Equal, 4))[..2], [0x74, 6]);
    assert_eq!(behind(10, |code| code.jump(10))[..2], [0xeb, 0]);
}

#[test]
fn each_condition_has_its_opposite_next_to_it() {
    for condition in [
        Condition::Below,
        Condition::AboveOrEqual,
        Condition::Equal,
        Condition::NotEqual,
        Condition::BelowOrEqual,
        Condition::Above,
    ] {
        assert_eq!(condition as u8 ^ 1, condition.not() as u8);
    }
}
