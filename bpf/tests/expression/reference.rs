//! A reference for what programs mean, word for word as the BSD packet filter's paper has it.

use weir_bpf::Instruction;

/// What the program returns for a frame; nothing if it is no program.
pub fn run(program: &[Instruction], frame: &[u8]) -> Option<u32> {
    let (mut a, mut x, mut cells) = (0u32, 0u32, [0u32; 16]);
    let bytes = |at: u32, len: usize| {
        let bytes = frame.get(at as usize..at as usize + len)?;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    };
    let mut at = 0;
    loop {
        let Instruction { code, jt, jf, k } = *program.get(at)?;
        at += 1;
        let size = match code & 0x18 {
            0x00 => 4,
            0x08 => 2,
            _ => 1,
        };
        let operand = if code & 8 == 0 { k } else { x };
        match (code & 7, code) {
            (0, _) => {
                let loaded = match code & 0xe0 {
                    0x00 => Some(k),
                    0x20 => bytes(k, size),
                    0x40 => x.checked_add(k).and_then(|at| bytes(at, size)),
                    0x60 => Some(cells[k as usize]),
                    _ => Some(frame.len() as u32),
                };
                let Some(loaded) = loaded else { return Some(0) };
                a = loaded;
            }
            (1, _) => {
                let loaded = match code & 0xe0 {
                    0x00 => Some(k),
                    0x60 => Some(cells[k as usize]),
                    0xa0 => bytes(k, 1).map(|byte| (byte & 15) * 4),
                    _ => Some(frame.len() as u32),
                };
                let Some(loaded) = loaded else { return Some(0) };
                x = loaded;
            }
            (2, _) => cells[k as usize] = a,
            (3, _) => cells[k as usize] = x,
            (4, _) => {
                a = match code & 0xf0 {
                    0x00 => a.wrapping_add(operand),
                    0x10 => a.wrapping_sub(operand),
                    0x20 => a.wrapping_mul(operand),
                    0x30 if operand == 0 => return Some(0),
                    0x30 => a / operand,
                    0x40 => a | operand,
                    0x50 => a & operand,
                    0x60 => a.checked_shl(operand).unwrap_or(0),
                    0x70 => a.checked_shr(operand).unwrap_or(0),
                    0x80 => a.wrapping_neg(),
                    0x90 if operand == 0 => return Some(0),
                    0x90 => a % operand,
                    _ => a ^ operand,
                }
            }
            (5, 5) => at += k as usize,
            (5, _) => {
                let holds = match code & 0xf0 {
                    0x10 => a == operand,
                    0x20 => a > operand,
                    0x30 => a >= operand,
                    _ => a & operand != 0,
                };
                at += usize::from(if holds { jt } else { jf });
            }
            (6, _) => return Some(k),
            (_, 7) => x = a,
            _ => a = x,
        }
    }
}
