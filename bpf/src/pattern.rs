//! What every packet that a program wants has in its first bytes: quicker to look at than the program is to run.

use crate::Program;
use crate::decode::{Alu, Op};
use alloc::vec;

/// Bits that packets have, at two places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pattern {
    first: Word,
    second: Word,
}

/// Bits of eight bytes in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Word {
    at: usize,
    mask: u64,
    value: u64,
}

/// Patterns lie within so many bytes: the shortest frames that mean anything have them.
const REACH: usize = 42;

impl Word {
    const ANY: Word = Word { at: 0, mask: 0, value: 0 };

    #[inline(always)]
    fn excludes(&self, head: &[u8; REACH]) -> bool {
        // It is; so the compiler knows.
        let at = self.at.min(REACH - 8);
        let bytes = head.get(at..).and_then(<[u8]>::first_chunk);
        bytes.is_some_and(|bytes| u64::from_le_bytes(*bytes) & self.mask != self.value)
    }
}

impl Pattern {
    /// What every packet has.
    pub const ANY: Pattern = Pattern { first: Word::ANY, second: Word::ANY };

    /// Whether a packet that begins with `head`, its first bytes in one piece, is not wanted for sure.
    #[inline(always)]
    pub fn excludes(&self, head: &[u8]) -> bool {
        head.first_chunk().is_some_and(|head| self.first.excludes(head) || self.second.excludes(head))
    }

    /// Whether no untagged packet of that Ethernet type is wanted for sure.
    pub fn excludes_type(&self, ethertype: u16) -> bool {
        let [high, low] = ethertype.to_be_bytes();
        [&self.first, &self.second].iter().any(|word| {
            let known = [(12_usize, high), (13, low)];
            known.iter().any(|&(at, byte)| {
                let Some(shift) = at.checked_sub(word.at).filter(|&at| at < 8).map(|at| 8 * at) else {
                    return false;
                };
                (u64::from(byte) ^ word.value >> shift) & word.mask >> shift & 0xff != 0
            })
        })
    }
}

impl Program {
    /// What all packets that it wants have in common: what the program asks for before there are two ways to an answer other
    /// than 0, in those bytes that it asks most of.
    pub fn pattern(&self) -> Pattern {
        let mut known = [(0_u8, 0_u8); REACH];
        self.asked(&mut |at, mask, value| {
            if let Some(known) = known.get_mut(at) {
                // What was asked first holds.
                let new = mask & !known.0;
                *known = (known.0 | new, known.1 | value & new);
            }
        });
        let mut most = || {
            let word = |at: usize| {
                let bytes = known.iter().skip(at).take(8).rev();
                bytes.fold(Word { at, ..Word::ANY }, |word, &(mask, value)| Word {
                    mask: word.mask << 8 | u64::from(mask),
                    value: word.value << 8 | u64::from(value),
                    ..word
                })
            };
            // Of equals the last one counts.
            let most =
                (0..=REACH - 8).map(word).max_by_key(|word| word.mask.count_ones()).unwrap_or(Word::ANY);
            known.iter_mut().skip(most.at).take(8).for_each(|known| *known = (0, 0));
            most
        };
        Pattern { first: most(), second: most() }
    }

    /// Tells `note` of bytes: their place, bits that are asked for, and what these are.
    fn asked(&self, note: &mut dyn FnMut(usize, u8, u8)) {
        let ops = &self.ops;
        // Whether any way from there leads to an answer other than 0.
        let mut wanted = vec![false; ops.len()];
        for (index, op) in ops.iter().enumerate().rev() {
            wanted[index] = match *op {
                Op::Ret(answer) => answer != 0,
                Op::RetA => true,
                op => op.skips().unwrap_or([0, 0]).iter().any(|&skip| wanted[index + 1 + skip as usize]),
            };
        }
        // What A is: so many bytes of the packet from a place on, with these bits of them.
        let (mut index, mut a) = (0, None::<(usize, usize, u32)>);
        while let Some(&op) = ops.get(index) {
            let load = |at: u32, size: usize| Some((at as usize, size, u32::MAX >> (32 - 8 * size)));
            match op {
                Op::Word(at) => a = load(at, 4),
                Op::Half(at) => a = load(at, 2),
                Op::Byte(at) => a = load(at, 1),
                Op::Alu(Alu::And, bits) => a = a.map(|(at, size, mask)| (at, size, mask & bits)),
                Op::Store(_) | Op::StoreX(_) | Op::Tax => {}
                Op::XImm(_) | Op::XMem(_) | Op::XLen | Op::XMsh(_) => {}
                // Nor do conditions change it.
                op if op.skips().is_some() => {}
                _ => a = None,
            }
            if let (Some(skips), false) = (op.skips(), matches!(op, Op::Ja(_))) {
                let [holds, fails] = skips.map(|skip| wanted[index + 1 + skip as usize]);
                if holds == fails && skips[0] != skips[1] {
                    return;
                }
                let asked = match op {
                    Op::Jeq(_, _, k) if holds && !fails => Some((u32::MAX, k)),
                    Op::Jset(_, _, k) if fails && !holds => Some((k, 0)),
                    Op::Jset(_, _, k) if holds && !fails && k.is_power_of_two() => Some((k, k)),
                    _ => None,
                };
                if let (Some((at, size, mask)), Some((bits, value))) = (a, asked) {
                    for byte in 0..size {
                        let of = |word: u32| (word >> (8 * (size - 1 - byte))) as u8;
                        note(at.saturating_add(byte), of(mask & bits), of(mask & value));
                    }
                }
                let skip = if holds { skips[0] } else { skips[1] };
                index += 1 + skip as usize;
                continue;
            }
            if op.returns() {
                return;
            }
            index += 1 + op.skips().map_or(0, |skips| skips[0] as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::{self, Options};

    fn pattern(text: &str) -> Pattern {
        let instructions = expression::compile(text, Options::default()).unwrap();
        Program::new(&instructions).unwrap().pattern()
    }

    fn frame(kind: u16, protocol: u8, flags: u8) -> [u8; 60] {
        let mut frame = [0; 60];
        frame[12..14].copy_from_slice(&kind.to_be_bytes());
        (frame[20], frame[23]) = (flags, protocol);
        frame
    }

    #[test]
    fn excludes_by_what_is_asked_of_every_packet() {
        let (udp, tcp, arp) = (frame(0x800, 17, 0), frame(0x800, 6, 0), frame(0x806, 0, 0));
        for (text, excluded) in [
            ("arp", [true, true, false]),
            ("ip and tcp", [true, false, true]),
            ("tcp port 80 and ip", [true, false, true]),
            ("ip[6] & 0x40 = 0x40", [true, true, true]),
            ("ip[6] & 0x40 = 0", [false, false, true]),
            ("arp or ip6", [false, false, false]),
            ("not arp", [false, false, false]),
            ("", [false, false, false]),
        ] {
            let pattern = pattern(text);
            let got = [udp, tcp, arp].map(|frame| pattern.excludes(&frame));
            assert_eq!(got, excluded, "{text}: {pattern:x?}");
        }
        assert!(!pattern("ip[6] & 0x40 = 0x40").excludes(&frame(0x800, 6, 0x40)));
        assert!(!pattern("arp").excludes(&udp[..13]), "too short to tell");
        for (text, excluded) in
            [("arp", [true, false, true]), ("tcp and ip", [false, true, true]), ("", [false; 3])]
        {
            assert_eq!(
                [0x800, 0x806, 0x86dd].map(|kind| pattern(text).excludes_type(kind)),
                excluded,
                "{text}"
            );
        }
    }
}
