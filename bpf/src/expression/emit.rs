//! A graph of tests as instructions.

use super::MAX_INSTRUCTIONS;
use super::graph::{ACCEPT, Graph, REJECT};
use super::table::Id;
use super::value::{Compare, Op, Size, Test, Value, Values, With};
use crate::Instruction;
use alloc::vec;
use alloc::vec::Vec;

/// What a program has too many of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Excess {
    Instructions,
    Scratch,
}

const LD: u16 = 0x00;
const LDX: u16 = 0x01;
const ST: u16 = 0x02;
const ALU: u16 = 0x04;
const JMP: u16 = 0x05;
const RET: u16 = 0x06;
const TAX: u16 = 0x07;
const TXA: u16 = 0x87;
const IMM: u16 = 0x00;
const ABS: u16 = 0x20;
const IND: u16 = 0x40;
const MEM: u16 = 0x60;
const LEN: u16 = 0x80;
const MSH_BYTE: u16 = 0xb0;
const NEG: u16 = 0x80;
/// The operand is X.
const X: u16 = 0x08;
/// Cells of scratch memory.
const CELLS: u32 = 16;

pub(super) fn program(values: &Values, graph: &Graph, snap_length: u32) -> Result<Vec<Instruction>, Excess> {
    let order = order(graph);
    let mut code = Code { values, list: Vec::new(), a: None, x: None };
    // What the registers hold where all ways to a place agree; nothing where none was walked yet.
    let mut known: Vec<Option<(Option<Id>, Option<Id>)>> = vec![None; graph.len()];
    let mut steps: Vec<Step> = Vec::with_capacity(order.len());
    for &place in &order {
        let Some((test, yes, no)) = graph.at(place) else { continue };
        (code.a, code.x) = known[place as usize].unwrap_or_default();
        let start = code.list.len();
        let jump = code.test(test)?;
        steps.push(Step { place, start, end: code.list.len(), jump, targets: [yes, no] });
        if code.list.len() + steps.len() > MAX_INSTRUCTIONS {
            return Err(Excess::Instructions);
        }
        for next in [yes, no] {
            let known = &mut known[next as usize];
            *known = Some(match *known {
                None => (code.a, code.x),
                Some((a, x)) => (a.filter(|_| a == code.a), x.filter(|_| x == code.x)),
            });
        }
    }
    lay_out(graph, &code.list, &steps, snap_length)
}

/// Places in an order in which all edges lead forward, where a test holds as near as can be.
fn order(graph: &Graph) -> Vec<Id> {
    let mut seen = vec![false; graph.len()];
    let mut order = Vec::new();
    let mut stack = vec![(graph.root, false)];
    while let Some((place, left)) = stack.pop() {
        if left {
            order.push(place);
            continue;
        }
        let Some((_, yes, no)) = graph.at(place) else { continue };
        if core::mem::replace(&mut seen[place as usize], true) {
            continue;
        }
        stack.extend([(place, true), (yes, false), (no, false)]);
    }
    order.reverse();
    order
}

/// A place's instructions in the list, and its jump.
struct Step {
    place: Id,
    start: usize,
    end: usize,
    jump: Instruction,
    targets: [Id; 2],
}

/// How far a conditional jump reaches.
const REACH: usize = 255;

/// Puts the program together from its end on: where a jump leads is known then. One that does not reach takes a `ja` behind it,
/// or that of a later one to the same place.
fn lay_out(
    graph: &Graph,
    list: &[Instruction],
    steps: &[Step],
    snap_length: u32,
) -> Result<Vec<Instruction>, Excess> {
    let mut backwards: Vec<Instruction> = Vec::new();
    // Where places begin, and the last jumps to them, counted from the end.
    let mut starts = vec![0usize; graph.len()];
    let mut hops: Vec<Option<usize>> = vec![None; graph.len()];
    for (end, k, other) in [(REJECT, 0, ACCEPT), (ACCEPT, snap_length, REJECT)] {
        if graph.root != other {
            starts[end as usize] = backwards.len();
            backwards.push(Instruction { code: RET, jt: 0, jf: 0, k });
        }
    }
    for step in steps.iter().rev() {
        let mut to = step.targets.map(|target| starts[target as usize]);
        for (to, target) in to.iter_mut().zip(step.targets) {
            // The other target's hop may come between.
            let reached = |to: usize| backwards.len() - to <= REACH;
            if reached(*to) {
                continue;
            }
            *to = match hops[target as usize] {
                Some(hop) if reached(hop) => hop,
                _ => {
                    let k = (backwards.len() - *to - 1) as u32;
                    backwards.push(Instruction { code: JMP, jt: 0, jf: 0, k });
                    backwards.len() - 1
                }
            };
            hops[target as usize] = Some(*to);
        }
        let [jt, jf] = to.map(|to| (backwards.len() - to - 1) as u8);
        backwards.push(Instruction { jt, jf, ..step.jump });
        backwards.extend(list[step.start..step.end].iter().rev());
        starts[step.place as usize] = backwards.len() - 1;
    }
    backwards.reverse();
    if backwards.len() > MAX_INSTRUCTIONS { Err(Excess::Instructions) } else { Ok(backwards) }
}

/// Instructions, and what the registers hold behind them.
struct Code<'a> {
    values: &'a Values,
    list: Vec<Instruction>,
    a: Option<Id>,
    x: Option<Id>,
}

impl Code<'_> {
    #[inline(never)]
    fn push(&mut self, code: u16, k: u32) {
        self.list.push(Instruction { code, jt: 0, jf: 0, k });
    }

    /// Fills the registers for a test; its jump.
    fn test(&mut self, test: Test) -> Result<Instruction, Excess> {
        let code = JMP | test.compare as u16;
        let (code, k) = match test.with {
            With::Constant(k) => {
                self.fill_a(test.value, 0)?;
                (code, k)
            }
            With::Value(with) => {
                let turns = matches!(test.compare, Compare::Equal | Compare::Set);
                self.operands(test.value, with, turns, 0)?;
                (code | X, 0)
            }
        };
        Ok(Instruction { code, jt: 0, jf: 0, k })
    }

    /// Brings `a` to A and `b` to X, or the other way round if that may be.
    fn operands(&mut self, a: Id, b: Id, turns: bool, cell: u32) -> Result<(), Excess> {
        if self.keeps_x(a, b) {
            self.fill_x(b, cell)?;
            self.fill_a(a, cell)
        } else if turns && self.keeps_x(b, a) {
            self.fill_x(a, cell)?;
            self.fill_a(b, cell)
        } else {
            if cell == CELLS {
                return Err(Excess::Scratch);
            }
            self.fill_a(b, cell)?;
            self.push(ST, cell);
            self.fill_a(a, cell + 1)?;
            self.push(LDX | MEM, cell);
            self.x = Some(b);
            Ok(())
        }
    }

    /// Whether bringing a value to A leaves `x` in X.
    fn keeps_x(&self, value: Id, x: Id) -> bool {
        match self.values.get(value) {
            Value::Constant(_) | Value::Length | Value::Load(..) => true,
            Value::LoadAt(_, base, _) => base == x,
            Value::HeaderLength(_) => value == x,
            Value::Negative(of) => self.keeps_x(of, x),
            Value::Compute(_, a, b) => {
                (b == x || matches!(self.values.get(b), Value::Constant(_))) && self.keeps_x(a, x)
            }
        }
    }

    /// Brings a value to A; cells below `cell` are in use.
    fn fill_a(&mut self, value: Id, cell: u32) -> Result<(), Excess> {
        if self.a == Some(value) {
            return Ok(());
        }
        match self.values.get(value) {
            Value::Constant(k) => self.push(LD | IMM, k),
            Value::Length => self.push(LD | LEN, 0),
            Value::Load(size, at) => self.push(LD | ABS | bits(size), at),
            Value::LoadAt(size, base, at) => {
                self.fill_x(base, cell)?;
                self.push(LD | IND | bits(size), at);
            }
            Value::HeaderLength(_) => {
                self.fill_x(value, cell)?;
                self.push(TXA, 0);
            }
            Value::Negative(of) => {
                self.fill_a(of, cell)?;
                self.push(ALU | NEG, 0);
            }
            Value::Compute(op, a, b) => {
                if let Value::Constant(k) = self.values.get(b) {
                    self.fill_a(a, cell)?;
                    self.push(ALU | op as u16, k);
                } else {
                    let turns = matches!(op, Op::Add | Op::Mul | Op::Or | Op::And | Op::Xor);
                    self.operands(a, b, turns, cell)?;
                    self.push(ALU | op as u16 | X, 0);
                }
            }
        }
        self.a = Some(value);
        if self.list.len() > MAX_INSTRUCTIONS { Err(Excess::Instructions) } else { Ok(()) }
    }

    /// Brings a value to X.
    fn fill_x(&mut self, value: Id, cell: u32) -> Result<(), Excess> {
        if self.x == Some(value) {
            return Ok(());
        }
        match self.values.get(value) {
            Value::Constant(k) => self.push(LDX | IMM, k),
            Value::Length => self.push(LDX | LEN, 0),
            Value::HeaderLength(at) => self.push(LDX | MSH_BYTE, at),
            _ => {
                self.fill_a(value, cell)?;
                self.push(TAX, 0);
            }
        }
        self.x = Some(value);
        Ok(())
    }
}

fn bits(size: Size) -> u16 {
    match size {
        Size::Word => 0x00,
        Size::Half => 0x08,
        Size::Byte => 0x10,
    }
}
