//! What is certain when an instruction begins, whichever way led to it: checks that it need not repeat.

use crate::decode::Op;
use alloc::boxed::Box;
use alloc::vec;

/// What is certain of one instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Facts {
    /// The head has at least so many bytes.
    pub(super) len: u32,
    /// It has at least so many from X on.
    pub(super) len_after_x: u32,
    a_is_set: bool,
    x_is_set: bool,
}

/// What is certain of a program.
#[derive(Debug)]
pub(super) struct All {
    /// Of each instruction; `None`: no way leads to it.
    pub(super) each: Box<[Option<Facts>]>,
    /// A may be read before it is set, and so must be 0.
    pub(super) reads_a: bool,
    /// The same of X.
    pub(super) reads_x: bool,
}

/// Where a load ends, if that can be a head's length.
pub(super) fn end(k: u32, size: u32) -> Option<u32> {
    k.checked_add(size).filter(|&end| end <= i32::MAX as u32)
}

pub(super) fn facts(ops: &[Op]) -> All {
    let mut each = vec![None; ops.len()].into_boxed_slice();
    let (mut reads_a, mut reads_x) = (false, false);
    if let Some(first) = each.first_mut() {
        *first = Some(Facts { len: 0, len_after_x: 0, a_is_set: false, x_is_set: false });
    }
    for (index, &op) in ops.iter().enumerate() {
        let Some(mut facts) = each[index] else { continue };
        reads_a |= reads(op).0 && !facts.a_is_set;
        reads_x |= reads(op).1 && !facts.x_is_set;
        facts.after(op);
        let skips = if op.returns() { None } else { Some(op.skips().unwrap_or([0, 0])) };
        for skip in skips.into_iter().flatten() {
            let Some(target) = each.get_mut(index + 1 + skip as usize) else { continue };
            *target = Some(target.map_or(facts, |there| there.both(facts)));
        }
    }
    All { each, reads_a, reads_x }
}

/// Whether an instruction reads A, and X.
fn reads(op: Op) -> (bool, bool) {
    match op {
        Op::WordAtX(_) | Op::HalfAtX(_) | Op::ByteAtX(_) | Op::StoreX(_) | Op::Txa => (false, true),
        Op::Store(_) | Op::Alu(..) | Op::Neg | Op::RetA | Op::Tax => (true, false),
        Op::Jeq(..) | Op::Jgt(..) | Op::Jge(..) | Op::Jset(..) => (true, false),
        Op::AluX(_) | Op::JeqX(..) | Op::JgtX(..) | Op::JgeX(..) | Op::JsetX(..) => (true, true),
        Op::Word(_) | Op::Half(_) | Op::Byte(_) | Op::Known(_) | Op::Imm(_) | Op::Mem(_) => (false, false),
        Op::XImm(_) | Op::XMem(_) | Op::XLen | Op::XMsh(_) | Op::Ja(_) | Op::Ret(_) => (false, false),
    }
}

impl Facts {
    /// What is left where two ways meet.
    fn both(self, other: Facts) -> Facts {
        Facts {
            len: self.len.min(other.len),
            len_after_x: self.len_after_x.min(other.len_after_x),
            a_is_set: self.a_is_set & other.a_is_set,
            x_is_set: self.x_is_set & other.x_is_set,
        }
    }

    /// A load that went well had its bytes.
    fn after(&mut self, op: Op) {
        let (at, at_x) = match op {
            Op::Word(k) => (end(k, 4), None),
            Op::Half(k) => (end(k, 2), None),
            Op::Byte(k) | Op::XMsh(k) => (end(k, 1), None),
            Op::WordAtX(k) => (None, end(k, 4)),
            Op::HalfAtX(k) => (None, end(k, 2)),
            Op::ByteAtX(k) => (None, end(k, 1)),
            _ => (None, None),
        };
        self.len_after_x = self.len_after_x.max(at_x.unwrap_or(0));
        // X is at least 0.
        self.len = self.len.max(at.unwrap_or(0)).max(self.len_after_x);
        match op {
            Op::XImm(_) | Op::XMem(_) | Op::XLen | Op::XMsh(_) | Op::Tax => {
                self.x_is_set = true;
                self.len_after_x = 0;
            }
            Op::Word(_) | Op::Half(_) | Op::Byte(_) | Op::WordAtX(_) | Op::HalfAtX(_) | Op::ByteAtX(_) => {
                self.a_is_set = true;
            }
            Op::Known(_) | Op::Imm(_) | Op::Mem(_) | Op::Alu(..) | Op::AluX(_) | Op::Neg | Op::Txa => {
                self.a_is_set = true;
            }
            _ => {}
        }
    }
}
