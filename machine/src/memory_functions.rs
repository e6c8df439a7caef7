//! `memcpy` and its kin, which compiled code calls by name and the image has no C library for.
//!
//! Loops are in assembly: the compiler would turn a loop that copies into a call of `memcpy`, into itself.
//! Up to 128 bytes go straight through registers, more through a loop of 64, pages by the string instructions
//! where the CPU says they are quick (ERMS, CPUID 7 EBX.9).

use core::arch::asm;
use core::arch::x86_64::{__m128i, _mm_set1_epi8};
use core::sync::atomic::{AtomicUsize, Ordering};

/// Bytes from which string instructions pay.
const STRING_MIN: usize = 4096;

/// `[A]` Bytes from which to use string instructions. Relaxed: either way is right.
static STRING_FROM: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Bytes of a vector. Each has a name of its own below: arrays of them would go by way of the stack.
const VECTOR: usize = size_of::<__m128i>();
/// Bytes of the loops' blocks.
const BLOCK: usize = 4 * VECTOR;

/// Says that `rep movsb` and `rep stosb` are quick on this machine.
pub(crate) fn use_string_instructions() {
    STRING_FROM.store(STRING_MIN, Ordering::Relaxed);
}

/// Reads a `T` at `from`.
///
/// # Safety
/// `from` must be readable for its size. No alignment needed.
#[inline(always)]
unsafe fn load<T: Copy>(from: *const u8) -> T {
    // SAFETY: the caller's duty.
    unsafe { from.cast::<T>().read_unaligned() }
}

/// Writes `value` at `to`.
///
/// # Safety
/// `to` must be writable for its size. No alignment needed.
#[inline(always)]
unsafe fn store<T: Copy>(to: *mut u8, value: T) {
    // SAFETY: the caller's duty.
    unsafe { to.cast::<T>().write_unaligned(value) }
}

/// Copies `len` bytes as two `T`s that overlap in the middle; both are read before one is written.
///
/// # Safety
/// As [`copy`]; `len` is between one and two `T`s.
#[inline(always)]
unsafe fn copy_ends<T: Copy>(to: *mut u8, from: *const u8, len: usize) {
    let last = len - size_of::<T>();
    // SAFETY: the first `T` lies inside the `len` bytes.
    let head: T = unsafe { load(from) };
    // SAFETY: the last `T` ends with them.
    let tail: T = unsafe { load(from.wrapping_add(last)) };
    // SAFETY: as above, in the target.
    unsafe { store(to, head) };
    // SAFETY: as above, in the target.
    unsafe { store(to.wrapping_add(last), tail) };
}

/// Copies `len` bytes as two pairs of vectors that overlap in the middle; all are read before one is written.
///
/// # Safety
/// As [`copy`]; `len` is between two and four vectors.
#[inline(always)]
unsafe fn copy_pairs(to: *mut u8, from: *const u8, len: usize) {
    let last = len - 2 * VECTOR;
    // SAFETY: the first two vectors lie inside the `len` bytes.
    let head = unsafe { load_pair(from) };
    // SAFETY: the last two end with them.
    let tail = unsafe { load_pair(from.wrapping_add(last)) };
    // SAFETY: as above, in the target.
    unsafe { store_pair(to, head) };
    // SAFETY: as above, in the target.
    unsafe { store_pair(to.wrapping_add(last), tail) };
}

/// Two vectors.
type Pair = (__m128i, __m128i);

/// Reads two vectors, one behind the other.
///
/// # Safety
/// `from` must be readable for both.
#[inline(always)]
unsafe fn load_pair(from: *const u8) -> Pair {
    // SAFETY: the caller's duty.
    let one = unsafe { load(from) };
    // SAFETY: the caller's duty.
    let two = unsafe { load(from.wrapping_add(VECTOR)) };
    (one, two)
}

/// Writes two vectors, one behind the other.
///
/// # Safety
/// `to` must be writable for both.
#[inline(always)]
unsafe fn store_pair(to: *mut u8, (one, two): Pair) {
    // SAFETY: the caller's duty.
    unsafe { store(to, one) };
    // SAFETY: the caller's duty.
    unsafe { store(to.wrapping_add(VECTOR), two) };
}

/// Reads a block.
///
/// # Safety
/// `from` must be readable for its size.
#[inline(always)]
unsafe fn load_block(from: *const u8) -> (Pair, Pair) {
    // SAFETY: the first half of the block.
    let one = unsafe { load_pair(from) };
    // SAFETY: the second.
    let two = unsafe { load_pair(from.wrapping_add(2 * VECTOR)) };
    (one, two)
}

/// Writes a block.
///
/// # Safety
/// `to` must be writable for its size.
#[inline(always)]
unsafe fn store_block(to: *mut u8, (one, two): (Pair, Pair)) {
    // SAFETY: the first half of the block.
    unsafe { store_pair(to, one) };
    // SAFETY: the second.
    unsafe { store_pair(to.wrapping_add(2 * VECTOR), two) };
}

/// Copies `len` bytes as two blocks that overlap in the middle; both are read before one is written.
///
/// # Safety
/// As [`copy`]; `len` is between one and two blocks.
#[inline(always)]
unsafe fn copy_blocks(to: *mut u8, from: *const u8, len: usize) {
    let last = len - BLOCK;
    // SAFETY: the first block lies inside the `len` bytes.
    let head = unsafe { load_block(from) };
    // SAFETY: the last one ends with them.
    let tail = unsafe { load_block(from.wrapping_add(last)) };
    // SAFETY: as above, in the target.
    unsafe { store_block(to, head) };
    // SAFETY: as above, in the target.
    unsafe { store_block(to.wrapping_add(last), tail) };
}

/// Copies `len` bytes; the two may overlap.
///
/// # Safety
/// `from` must be readable and `to` writable for `len` bytes.
#[inline(always)]
unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // Few questions for the sizes that are frequent. Each arm passes the caller's duties on, with a `len` between one and two of
    // what it copies.
    if len < VECTOR {
        match len {
            // SAFETY: see above.
            8.. => unsafe { copy_ends::<u64>(to, from, len) },
            // SAFETY: see above.
            4.. => unsafe { copy_ends::<u32>(to, from, len) },
            // SAFETY: see above.
            2.. => unsafe { copy_ends::<u16>(to, from, len) },
            // SAFETY: see above.
            1 => unsafe { copy_ends::<u8>(to, from, len) },
            0 => {}
        }
    } else if len <= 2 * VECTOR {
        // SAFETY: see above.
        unsafe { copy_ends::<__m128i>(to, from, len) };
    } else if len <= BLOCK {
        // SAFETY: see above.
        unsafe { copy_pairs(to, from, len) };
    } else if len <= 2 * BLOCK {
        // SAFETY: see above.
        unsafe { copy_blocks(to, from, len) };
    } else if (to as usize).wrapping_sub(from as usize) < len {
        // A target inside the source's bytes, behind their start: from the end, or the source is overwritten before it is read.
        // SAFETY: the caller's duties, `len` is over two blocks.
        unsafe { copy_backward(to, from, len) };
    } else {
        // SAFETY: the caller's duties, `len` is over two blocks.
        unsafe { copy_forward(to, from, len) };
    }
}

/// Copies from the start. The target may overlap the source if it lies before it.
///
/// # Safety
/// As [`copy`]; `len` is over 64.
unsafe fn copy_forward(to: *mut u8, from: *const u8, len: usize) {
    if len >= STRING_FROM.load(Ordering::Relaxed) {
        // SAFETY: copies exactly `len` bytes upwards; the direction flag is clear by the ABI.
        unsafe {
            asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
                options(nostack, preserves_flags));
        }
        return;
    }
    // The last 64 bytes are read now: the loop may overwrite them if the two overlap.
    let last = len - BLOCK;
    // SAFETY: inside the `len` bytes.
    let tail = unsafe { load_block(from.wrapping_add(last)) };
    // SAFETY: whole blocks of 64 bytes from the start, as many as begin before the last 64 bytes.
    unsafe {
        asm!(
            "2:",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + 32], {c}",
            "movups [{to} + 48], {d}",
            "add {from}, 64",
            "add {to}, 64",
            "sub {left}, 64",
            "ja 2b",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            left = inout(reg) last => _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack),
        );
    }
    // SAFETY: inside the `len` bytes.
    unsafe { store_block(to.wrapping_add(last), tail) };
}

/// Copies from the end. The target may overlap the source if it lies behind it.
///
/// # Safety
/// As [`copy`]; `len` is over 64.
unsafe fn copy_backward(to: *mut u8, from: *const u8, len: usize) {
    let last = len - BLOCK;
    // SAFETY: the first 64 of the `len` bytes.
    let head = unsafe { load_block(from) };
    // SAFETY: whole blocks of 64 bytes from the end, as many as end behind the first 64 bytes.
    unsafe {
        asm!(
            "2:",
            "movups {a}, [{from} + {left}]",
            "movups {b}, [{from} + {left} + 16]",
            "movups {c}, [{from} + {left} + 32]",
            "movups {d}, [{from} + {left} + 48]",
            "movups [{to} + {left}], {a}",
            "movups [{to} + {left} + 16], {b}",
            "movups [{to} + {left} + 32], {c}",
            "movups [{to} + {left} + 48], {d}",
            "sub {left}, 64",
            "ja 2b",
            from = in(reg) from,
            to = in(reg) to,
            left = inout(reg) last => _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack),
        );
    }
    // SAFETY: the first 64 of the `len` bytes.
    unsafe { store_block(to, head) };
}

/// Fills `len` bytes as two `T`s that overlap in the middle.
///
/// # Safety
/// As [`fill`]; `len` is between one and two `T`s.
#[inline(always)]
unsafe fn fill_ends<T: Copy>(to: *mut u8, value: T, len: usize) {
    // SAFETY: the first `T` lies inside the `len` bytes.
    unsafe { store(to, value) };
    // SAFETY: the last `T` ends with them.
    unsafe { store(to.wrapping_add(len - size_of::<T>()), value) };
}

/// Fills `len` bytes with `byte`.
///
/// # Safety
/// `to` must be writable for `len` bytes.
#[inline(always)]
unsafe fn fill(to: *mut u8, byte: u8, len: usize) {
    // As in `copy`.
    if len < VECTOR {
        let word = u64::from(byte) * 0x0101_0101_0101_0101;
        match len {
            // SAFETY: the caller's duties; `len` is between one and two of the type, here and in the next arms.
            8.. => unsafe { fill_ends(to, word, len) },
            // SAFETY: see the first arm.
            4.. => unsafe { fill_ends(to, word as u32, len) },
            // SAFETY: see the first arm.
            2.. => unsafe { fill_ends(to, word as u16, len) },
            // SAFETY: see the first arm.
            1 => unsafe { fill_ends(to, byte, len) },
            0 => {}
        }
        return;
    }
    // SAFETY: SSE2 is part of every x86-64 CPU.
    let wide = unsafe { _mm_set1_epi8(byte as i8) };
    let pair = (wide, wide);
    if len <= 2 * VECTOR {
        // SAFETY: the caller's duties; between one vector and two.
        unsafe { fill_ends(to, wide, len) };
    } else if len <= BLOCK {
        // SAFETY: the first two vectors of two to four.
        unsafe { store_pair(to, pair) };
        // SAFETY: the last two.
        unsafe { store_pair(to.wrapping_add(len - 2 * VECTOR), pair) };
    } else if len <= 2 * BLOCK {
        // SAFETY: the first block of one to two.
        unsafe { store_block(to, (pair, pair)) };
        // SAFETY: the last one.
        unsafe { store_block(to.wrapping_add(len - BLOCK), (pair, pair)) };
    } else {
        // SAFETY: the caller's duties, `len` is over two blocks.
        unsafe { fill_blocks(to, byte, len) };
    }
}

/// Fills `len` bytes with `byte`.
///
/// # Safety
/// As [`fill`]; `len` is over 64.
unsafe fn fill_blocks(to: *mut u8, byte: u8, len: usize) {
    if len >= STRING_FROM.load(Ordering::Relaxed) {
        // SAFETY: fills exactly `len` bytes upwards; the direction flag is clear by the ABI.
        unsafe {
            asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("al") byte,
                options(nostack, preserves_flags));
        }
        return;
    }
    // SAFETY: SSE2 is part of every x86-64 CPU.
    let wide = unsafe { _mm_set1_epi8(byte as i8) };
    let last = len - BLOCK;
    // SAFETY: whole blocks of 64 bytes from the start, as many as begin before the last 64 bytes.
    unsafe {
        asm!(
            "2:",
            "movups [{to}], {v}",
            "movups [{to} + 16], {v}",
            "movups [{to} + 32], {v}",
            "movups [{to} + 48], {v}",
            "add {to}, 64",
            "sub {left}, 64",
            "ja 2b",
            to = inout(reg) to => _,
            left = inout(reg) last => _,
            v = in(xmm_reg) wide,
            options(nostack),
        );
    }
    // SAFETY: inside the `len` bytes.
    unsafe { store_block(to.wrapping_add(last), ((wide, wide), (wide, wide))) };
}

/// Which of two byte strings is the greater, by the first byte in which they differ: negative, 0, positive.
///
/// # Safety
/// Both must be readable for `len` bytes.
#[inline(always)]
unsafe fn compare(a: *const u8, b: *const u8, len: usize) -> i32 {
    let mut at = 0;
    while len - at >= 8 {
        // SAFETY: eight of the `len` bytes are left.
        let left: u64 = unsafe { load(a.wrapping_add(at)) };
        // SAFETY: eight of the `len` bytes are left.
        let right: u64 = unsafe { load(b.wrapping_add(at)) };
        if left != right {
            // The first byte in memory is the highest of a big-endian number.
            return if left.swap_bytes() < right.swap_bytes() { -1 } else { 1 };
        }
        at += 8;
    }
    while at < len {
        // SAFETY: one of the `len` bytes.
        let left: u8 = unsafe { load(a.wrapping_add(at)) };
        // SAFETY: one of the `len` bytes.
        let right: u8 = unsafe { load(b.wrapping_add(at)) };
        if left != right {
            return i32::from(left) - i32::from(right);
        }
        at += 1;
    }
    0
}

/// Bytes before the first zero.
///
/// # Safety
/// `text` must be readable up to and with its first zero byte.
#[inline(always)]
unsafe fn length(text: *const u8) -> usize {
    let mut len = 0;
    // Volatile: the compiler knows this loop by the name of `strlen` otherwise.
    // SAFETY: no zero byte yet, so this byte is readable.
    while unsafe { text.wrapping_add(len).read_volatile() } != 0 {
        len += 1;
    }
    len
}

/// The names under which compiled code calls them (C17 §7.24; `bcmp` from POSIX).
#[cfg(feature = "image")]
mod symbols {
    use super::{compare, copy, fill, length};

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
        // SAFETY: the caller's duties are `copy`'s.
        unsafe { copy(to, from, len) };
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
        // SAFETY: the caller's duties are `copy`'s.
        unsafe { copy(to, from, len) };
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
        // SAFETY: the caller's duties are `fill`'s.
        unsafe { fill(to, byte as u8, len) };
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
        // SAFETY: the caller's duties are `compare`'s.
        unsafe { compare(a, b, len) }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
        // SAFETY: the caller's duties are `compare`'s.
        unsafe { compare(a, b, len) }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn strlen(text: *const u8) -> usize {
        // SAFETY: the caller's duties are `length`'s.
        unsafe { length(text) }
    }

    /// Named by the unwind tables of the precompiled `core`, which the linker script discards.
    #[unsafe(no_mangle)]
    extern "C" fn rust_eh_personality() {}

    /// Called by the clean-up code of the precompiled `alloc` while a panic unwinds, which none does here.
    #[unsafe(no_mangle)]
    extern "C" fn _Unwind_Resume() -> ! {
        panic!("unwinding in an image that does not unwind");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes() -> impl Iterator<Item = usize> {
        (0..400).chain([511, 512, 513, 1500, 4095, 4096, 4097, 9000])
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    #[test]
    fn copies_every_size_and_nothing_else() {
        for len in sizes() {
            let from = pattern(len);
            let mut to = vec![0xee; len + 32];
            // SAFETY: both are `len` bytes at least from where they are given.
            unsafe { copy(to[16..].as_mut_ptr(), from.as_ptr(), len) };
            assert_eq!(to[16..16 + len], from, "{len} bytes");
            assert!(to[..16].iter().chain(&to[16 + len..]).all(|&byte| byte == 0xee), "{len} bytes");
        }
    }

    #[test]
    fn copies_over_itself_in_both_directions() {
        for len in sizes() {
            for shift in [1, 7, 15, 16, 33, 63, 64, 65, 127, 128, 200] {
                for (from, to) in [(0, shift), (shift, 0)] {
                    let mut bytes = pattern(len + shift);
                    let mut expected = bytes.clone();
                    expected.copy_within(from..from + len, to);
                    let base = bytes.as_mut_ptr();
                    // SAFETY: both ranges lie in the `len + shift` bytes.
                    unsafe { copy(base.wrapping_add(to), base.wrapping_add(from), len) };
                    assert_eq!(bytes, expected, "{len} bytes from {from} to {to}");
                }
            }
        }
    }

    #[test]
    fn fills_every_size_and_nothing_else() {
        for len in sizes() {
            let mut to = vec![0xee; len + 32];
            // SAFETY: `len` bytes lie behind the 16th.
            unsafe { fill(to[16..].as_mut_ptr(), 0x5a, len) };
            assert!(to[16..16 + len].iter().all(|&byte| byte == 0x5a), "{len} bytes");
            assert!(to[..16].iter().chain(&to[16 + len..]).all(|&byte| byte == 0xee), "{len} bytes");
        }
    }

    #[test]
    fn string_instructions_do_the_same() {
        use_string_instructions();
        copies_every_size_and_nothing_else();
        copies_over_itself_in_both_directions();
        fills_every_size_and_nothing_else();
    }

    #[test]
    fn compares_as_slices_do() {
        for len in 0..40 {
            for differs in 0..len {
                for (left, right) in [(0u8, 1u8), (1, 0), (0x7f, 0x80), (0xff, 0)] {
                    let (mut a, mut b) = (pattern(len), pattern(len));
                    (a[differs], b[differs]) = (left, right);
                    // SAFETY: both are `len` bytes.
                    let order = unsafe { compare(a.as_ptr(), b.as_ptr(), len) };
                    assert_eq!(order.cmp(&0), a.cmp(&b), "byte {differs} of {len}");
                }
            }
            let a = pattern(len);
            // SAFETY: both are `len` bytes.
            assert_eq!(unsafe { compare(a.as_ptr(), a.clone().as_ptr(), len) }, 0);
        }
    }

    #[test]
    fn finds_the_end_of_a_string() {
        for (text, len) in [(c"", 0), (c"weir", 4)] {
            // SAFETY: the text ends with a zero byte.
            assert_eq!(unsafe { length(text.as_ptr().cast()) }, len);
        }
    }
}
