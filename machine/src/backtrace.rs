//! Return addresses on a stack: by the chain of frame pointers where the image was built with them, from there
//! on by looking at every word that a call could have pushed.

use core::ops::Range;

/// Most addresses a trace has.
const MAX_FRAMES: usize = 48;
/// How often in a row an address is shown: a recursion must not hide what led to it.
const REPEATS: usize = 3;
/// Longest call instruction.
pub(crate) const LONGEST_CALL: usize = 7;

/// How an address was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sure {
    /// Through frame pointers.
    Yes,
    /// It stands on the stack and follows a call: it may be left over from an earlier one.
    Perhaps,
}

/// Where to start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// Stack pointer.
    pub(crate) rsp: u64,
    /// Frame pointer, or whatever the register holds.
    pub(crate) rbp: u64,
}

/// Hands `found` the return addresses on `stack`, innermost first. `word` reads the stack, at multiples of 8
/// inside it only; `is_return` says whether an address is one behind a call instruction of the image.
pub(crate) fn walk(
    start: Start,
    stack: &Range<u64>,
    word: &dyn Fn(u64) -> u64,
    is_return: &dyn Fn(u64) -> bool,
    found: &mut dyn FnMut(u64, Sure),
) {
    let mut left = MAX_FRAMES;
    let mut last = [0; REPEATS];
    let mut show = |address: u64, sure: Sure| {
        if left > 0 && last != [address; REPEATS] {
            found(address, sure);
            left -= 1;
            last.rotate_left(1);
            last[REPEATS - 1] = address;
        }
        left > 0
    };
    let whole =
        |frame: u64| frame.is_multiple_of(8) && stack.start <= frame && frame.saturating_add(16) <= stack.end;

    let mut frame = start.rbp;
    let mut from = start.rsp.max(stack.start).next_multiple_of(8);
    while frame >= from && whole(frame) {
        let back = word(frame + 8);
        if !is_return(back) {
            break;
        }
        if !show(back, Sure::Yes) {
            return;
        }
        from = frame + 16;
        frame = word(frame);
    }
    // A chain that is complete has come to the top of the stack: nothing is left to look at.
    for at in (from..stack.end & !7).step_by(8) {
        let candidate = word(at);
        if is_return(candidate) && !show(candidate, Sure::Perhaps) {
            return;
        }
    }
}

/// Whether `before` ends with a call instruction: E8 rel32, or FF /2 in one of its lengths (Intel SDM vol. 2A,
/// CALL).
pub(crate) fn ends_with_call(before: &[u8; LONGEST_CALL]) -> bool {
    let from_end = |back: usize| before.get(LONGEST_CALL - back).copied().unwrap_or(0);
    let indirect = |len: usize| {
        let (opcode, operand) = (from_end(len), from_end(len - 1));
        let (mode, base) = (operand >> 6, operand & 7);
        let has_sib = mode != 3 && base == 4;
        let displacement = match mode {
            1 => 1,
            2 => 4,
            0 if base == 5 || has_sib && len == 7 => 4,
            _ => 0,
        };
        opcode == 0xff && operand >> 3 & 7 == 2 && len == 2 + usize::from(has_sib) + displacement
    };
    from_end(5) == 0xe8 || (2..=LONGEST_CALL).any(indirect)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0x8000;

    fn trace(words: &[u64], start: Start) -> Vec<(u64, Sure)> {
        let stack = BASE..BASE + words.len() as u64 * 8;
        let word = |at: u64| words[((at - BASE) / 8) as usize];
        let mut all = Vec::new();
        walk(start, &stack, &word, &|address| (0x1000..0x2000).contains(&address), &mut |at, sure| {
            all.push((at, sure))
        });
        all
    }

    #[test]
    fn follows_frame_pointers_to_their_end_and_ignores_what_lies_between() {
        let words = [0x1fff, BASE + 32, 0x1111, 0x1ffe, BASE + 56, 0x1222, 0x1ffd, 0, 0x1333];
        let found = trace(&words, Start { rsp: BASE, rbp: BASE + 8 });
        assert_eq!(found, [0x1111, 0x1222, 0x1333].map(|at| (at, Sure::Yes)));
    }

    #[test]
    fn a_recursion_does_not_hide_what_led_to_it() {
        let mut words = [0x1111; 500];
        words[499] = 0x1222;
        let found = trace(&words, Start { rsp: BASE, rbp: 0 });
        assert_eq!(found, [0x1111, 0x1111, 0x1111, 0x1222].map(|at| (at, Sure::Perhaps)));

        // The same through frame pointers.
        let mut words: Vec<u64> =
            (0..500).map(|i| if i % 2 == 0 { BASE + (i + 2) * 8 } else { 0x1111 }).collect();
        words[499] = 0x1222;
        let found = trace(&words, Start { rsp: BASE, rbp: BASE });
        assert_eq!(found, [0x1111, 0x1111, 0x1111, 0x1222].map(|at| (at, Sure::Yes)));
    }

    #[test]
    fn looks_at_every_word_where_the_chain_breaks() {
        let words = [0x1fff, BASE + 32, 0x1111, 0x1ffe, 0x77, 0x1222, 5, 0x1333];
        let found = trace(&words, Start { rsp: BASE, rbp: BASE + 8 });
        let expected = [(0x1111, Sure::Yes), (0x1222, Sure::Yes), (0x1333, Sure::Perhaps)];
        assert_eq!(found, expected);
        let found = trace(&words, Start { rsp: BASE + 8, rbp: 0x1234 });
        let expected: Vec<_> = [0x1111, 0x1ffe, 0x1222, 0x1333].map(|at| (at, Sure::Perhaps)).into();
        assert_eq!(found, expected);
    }

    #[test]
    fn stays_on_the_stack_whatever_the_registers_hold() {
        let words = [0x1111; 4];
        for wild in
            [0, 1, 7, BASE - 8, BASE + 24, BASE + 25, BASE + 32, u64::MAX, u64::MAX - 7, u64::MAX - 15]
        {
            for rsp in [0, BASE - 4096, BASE + 3, BASE + 32] {
                assert!(trace(&words, Start { rsp, rbp: wild }).len() <= 4);
            }
        }
    }

    #[test]
    fn a_loop_of_frame_pointers_ends() {
        let words = [BASE + 16, 0x1111, BASE, 0x1222];
        let found = trace(&words, Start { rsp: BASE, rbp: BASE });
        assert_eq!(found, [(0x1111, Sure::Yes), (0x1222, Sure::Yes)]);
        let different: Vec<u64> = (0x1100..0x1200).collect();
        assert_eq!(trace(&different, Start { rsp: BASE, rbp: 0 }).len(), MAX_FRAMES);
    }

    #[test]
    fn knows_calls_of_every_length() {
        let calls: [&[u8]; 8] = [
            &[0xe8, 1, 2, 3, 4],
            &[0xff, 0xd0],
            &[0x41, 0xff, 0xd3],
            &[0xff, 0x50, 0x18],
            &[0xff, 0x15, 1, 2, 3, 4],
            &[0xff, 0x54, 0x24, 8],
            &[0xff, 0x90, 1, 2, 3, 4],
            &[0xff, 0x94, 0x24, 1, 2, 3, 4],
        ];
        for call in calls {
            let mut before = [0x90; LONGEST_CALL];
            before[LONGEST_CALL - call.len()..].copy_from_slice(call);
            assert!(ends_with_call(&before), "{call:02x?}");
        }
        for other in [[0x90; LONGEST_CALL], [0xff; LONGEST_CALL], [0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xe0]]
        {
            assert!(!ends_with_call(&other), "{other:02x?}");
        }
    }
}
