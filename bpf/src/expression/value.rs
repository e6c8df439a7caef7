//! Numbers that a filter computes of a packet, and tests of them.

use super::table::{Id, Key, Table};

/// No packet is longer.
pub(super) const MAX_OFFSET: u32 = 0xffff;

/// How many bytes a load takes, in the order of the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Size {
    Word,
    Half,
    Byte,
}

/// An operation; numbers are the codes' bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
    Add = 0x00,
    Sub = 0x10,
    Mul = 0x20,
    Div = 0x30,
    Or = 0x40,
    And = 0x50,
    Lsh = 0x60,
    Rsh = 0x70,
    Mod = 0x90,
    Xor = 0xa0,
}

/// A number of 32 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Value {
    Constant(u32),
    /// Bytes of the packet on the link.
    Length,
    /// Bytes at a place, or what lies beside the packet (`SKF_AD_OFF` and above).
    Load(Size, u32),
    /// The same at a place that is computed, and so many bytes on.
    LoadAt(Size, Id, u32),
    /// Length of the IPv4 header at a place.
    HeaderLength(u32),
    Negative(Id),
    Compute(Op, Id, Id),
}

impl Key for Value {
    fn key(&self) -> [u32; 4] {
        match *self {
            Value::Constant(k) => [0, k, 0, 0],
            Value::Length => [1, 0, 0, 0],
            Value::Load(size, at) => [2, size as u32, at, 0],
            Value::LoadAt(size, base, at) => [3, size as u32, base, at],
            Value::HeaderLength(at) => [4, at, 0, 0],
            Value::Negative(of) => [5, of, 0, 0],
            Value::Compute(op, a, b) => [6, op as u32, a, b],
        }
    }
}

/// A comparison; numbers are the codes' bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Compare {
    Equal = 0x10,
    Greater = 0x20,
    GreaterOrEqual = 0x30,
    /// Any of these bits.
    Set = 0x40,
}

impl Compare {
    pub(super) fn holds(self, a: u32, b: u32) -> bool {
        match self {
            Compare::Equal => a == b,
            Compare::Greater => a > b,
            Compare::GreaterOrEqual => a >= b,
            Compare::Set => a & b != 0,
        }
    }
}

/// What a test compares with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum With {
    Constant(u32),
    Value(Id),
}

/// A comparison of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Test {
    pub(super) value: Id,
    pub(super) compare: Compare,
    pub(super) with: With,
}

impl Key for Test {
    fn key(&self) -> [u32; 4] {
        let (kind, with) = match self.with {
            With::Constant(k) => (0, k),
            With::Value(id) => (1, id),
        };
        [self.value, self.compare as u32, kind, with]
    }
}

/// All values of a filter, each once.
pub(super) struct Values(Table<Value>);

/// Division by a constant 0.
#[derive(Debug)]
pub(super) struct DivisionByZero;

impl Values {
    pub(super) fn new() -> Self {
        Self(Table::new())
    }

    pub(super) fn get(&self, id: Id) -> Value {
        self.0.get(id)
    }

    pub(super) fn as_constant(&self, id: Id) -> Option<u32> {
        match self.get(id) {
            Value::Constant(k) => Some(k),
            _ => None,
        }
    }

    pub(super) fn constant(&mut self, k: u32) -> Id {
        self.0.add(Value::Constant(k))
    }

    pub(super) fn length(&mut self) -> Id {
        self.0.add(Value::Length)
    }

    pub(super) fn header_length(&mut self, at: u32) -> Id {
        self.0.add(Value::HeaderLength(at))
    }

    pub(super) fn load(&mut self, size: Size, at: u32) -> Id {
        self.0.add(Value::Load(size, at))
    }

    /// Bytes at `base + at`. What is taken away from a base stays there: interpreters differ on sums beyond 32 bits.
    pub(super) fn load_at(&mut self, size: Size, base: Id, at: u32) -> Id {
        if let Some(k) = self.as_constant(base) {
            return self.load(size, k.wrapping_add(at));
        }
        if let Value::Compute(Op::Add, inner, more) = self.get(base)
            && let Some(k) = self.as_constant(more)
            && k <= MAX_OFFSET
        {
            return self.0.add(Value::LoadAt(size, inner, k + at));
        }
        self.0.add(Value::LoadAt(size, base, at))
    }

    pub(super) fn negative(&mut self, of: Id) -> Id {
        match self.get(of) {
            Value::Constant(k) => self.constant(k.wrapping_neg()),
            _ => self.0.add(Value::Negative(of)),
        }
    }

    /// `a op b`, with what is constant computed. Constants come second where the order does not matter.
    pub(super) fn compute(&mut self, op: Op, a: Id, b: Id) -> Result<Id, DivisionByZero> {
        let (left, right) = (self.get(a), self.get(b));
        let k = match (left, right) {
            (Value::Constant(left), Value::Constant(right)) => {
                return Ok(self.constant(arithmetic(op, left, right)?));
            }
            (Value::Constant(_), _) if matches!(op, Op::Add | Op::Mul | Op::Or | Op::And | Op::Xor) => {
                return self.compute(op, b, a);
            }
            (_, Value::Constant(k)) => k,
            _ => return Ok(self.0.add(Value::Compute(op, a, b))),
        };
        Ok(match (op, k) {
            (Op::Div | Op::Mod, 0) => return Err(DivisionByZero),
            (Op::Add | Op::Sub | Op::Or | Op::Xor | Op::Lsh | Op::Rsh, 0) | (Op::Mul | Op::Div, 1) => a,
            (Op::And, u32::MAX) => a,
            (Op::Mul | Op::And, 0) => self.constant(0),
            (Op::Lsh | Op::Rsh, 32..) => self.constant(0),
            (Op::Sub, k) => {
                let opposite = self.constant(k.wrapping_neg());
                self.compute(Op::Add, a, opposite)?
            }
            _ => match left {
                Value::Compute(Op::Add, a, inner)
                    if op == Op::Add
                        && let Some(more) = self.as_constant(inner) =>
                {
                    let sum = self.constant(k.wrapping_add(more));
                    self.compute(Op::Add, a, sum)?
                }
                _ => self.0.add(Value::Compute(op, a, b)),
            },
        })
    }

    /// `value compare with`, as the test of what it comes down to; whether it is to be inverted.
    pub(super) fn test(&mut self, value: Id, compare: Compare, with: Id) -> (Test, Inverted) {
        let (left, right) = (self.get(value), self.get(with));
        let Value::Constant(k) = right else {
            let Value::Constant(k) = left else {
                return (Test { value, compare, with: With::Value(with) }, Inverted::No);
            };
            // The constant goes to the right.
            let (compare, inverted) = match compare {
                Compare::Greater => (Compare::GreaterOrEqual, Inverted::Yes),
                Compare::GreaterOrEqual => (Compare::Greater, Inverted::Yes),
                other => (other, Inverted::No),
            };
            return (Test { value: with, compare, with: With::Constant(k) }, inverted);
        };
        match (left, compare) {
            (Value::Compute(Op::Add, a, b), Compare::Equal) if let Some(more) = self.as_constant(b) => {
                let less = self.constant(k.wrapping_sub(more));
                self.test(a, compare, less)
            }
            (Value::Compute(Op::And, a, b), Compare::Equal)
                if k == 0
                    && let Some(mask) = self.as_constant(b) =>
            {
                (Test { value: a, compare: Compare::Set, with: With::Constant(mask) }, Inverted::Yes)
            }
            _ => (Test { value, compare, with: With::Constant(k) }, Inverted::No),
        }
    }
}

/// Whether the opposite is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Inverted {
    Yes,
    No,
}

fn arithmetic(op: Op, a: u32, b: u32) -> Result<u32, DivisionByZero> {
    Ok(match op {
        Op::Add => a.wrapping_add(b),
        Op::Sub => a.wrapping_sub(b),
        Op::Mul => a.wrapping_mul(b),
        Op::Div => a.checked_div(b).ok_or(DivisionByZero)?,
        Op::Mod => a.checked_rem(b).ok_or(DivisionByZero)?,
        Op::Or => a | b,
        Op::And => a & b,
        Op::Xor => a ^ b,
        Op::Lsh => a.checked_shl(b).unwrap_or(0),
        Op::Rsh => a.checked_shr(b).unwrap_or(0),
    })
}
