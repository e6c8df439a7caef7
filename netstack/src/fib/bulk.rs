//! A whole table at once, from sorted routes: what a configuration brings.

use super::{Fib, Fields, Leaves, NO_HOP, NODE, Node, STEP, VALUES};
use crate::address::{Address, Bits, Prefix};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicU16, AtomicU32};
use spin::Once;

/// Routes from which on the table over the leading bits is worth a MiB.
const MANY: usize = 4096;

/// Leading bits that the table in front of a small one has.
pub(super) const SMALL: u8 = 12;

/// Nodes up to which a table that stays as it is has blocks instead: 128 KiB at most.
const BLOCKS: usize = 512;

/// Hops, with the one that is none, that sixteen bits can number.
const NARROW: usize = 1 << 16;

/// A route as the writer keeps it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept<B> {
    pub(super) bits: B,
    /// Bits of its prefix; [`UNUSED`] if the place is free.
    pub(super) len: u8,
    pub(super) hop: u32,
    /// The longest route whose prefix contains this one's.
    pub(super) parent: u32,
}

/// No prefix has this length.
pub(super) const UNUSED: u8 = u8::MAX;
/// The route that is none: contains all others.
pub(super) const ROOT: u32 = 0;

/// Where a part of the address space leads: to a route throughout, or to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    Leaf(u32),
    Node(Fields),
}

/// Everything of a table, with the routes instead of hops where a leaf is.
#[derive(Debug)]
pub(super) struct Built<B> {
    pub(super) direct_bits: u8,
    /// Number of the node, with [`NODE`], or of the route.
    pub(super) direct: Vec<u32>,
    pub(super) nodes: Vec<Fields>,
    pub(super) leaves: Vec<u32>,
    /// By number; the first is [`ROOT`].
    pub(super) routes: Vec<Kept<B>>,
}

/// Leading bits that a table of so many routes has in front.
pub(super) fn direct_bits(routes: usize) -> u8 {
    if routes < MANY { SMALL } else { 18 }
}

/// The runs of equal `routes` among the values that do not lead to a node (`vector`): a bit where each begins, and
/// whose they are.
pub(super) fn runs(routes: &[u32; VALUES], vector: u64) -> (u64, ArrayVec<u32, VALUES>) {
    let (mut starts, mut owners) = (0, ArrayVec::<u32, VALUES>::new());
    for (value, &route) in routes.iter().enumerate() {
        if vector >> value & 1 == 0 && owners.last() != Some(&route) {
            starts |= 1 << value;
            owners.extend([route]);
        }
    }
    (starts, owners)
}

/// The values at `depth` bits that a prefix of `bits` and `len` covers, if it is longer than `depth`.
pub(super) fn covered<B: Bits>(bits: B, len: u8, depth: u8) -> core::ops::RangeInclusive<usize> {
    let first = bits.six(depth);
    first..=first + (1 << (depth + STEP).saturating_sub(len).min(STEP)) - 1
}

impl<B: Bits> Built<B> {
    /// From what [`sorted`] made.
    pub(super) fn new(mut routes: Vec<Kept<B>>, direct_bits: u8) -> Self {
        adopt(&mut routes);
        let direct = vec![ROOT; 1 << direct_bits];
        let mut built = Self { direct_bits, direct, nodes: Vec::new(), leaves: Vec::new(), routes };
        let sorted: Vec<u32> = (1..built.routes.len() as u32).collect();
        let slot = |bits: B| (bits.high() >> (32 - direct_bits)) as usize;
        let mut rest = sorted.as_slice();
        while let [number, others @ ..] = rest {
            let Some(&Kept { bits, len, .. }) = built.routes.get(*number as usize) else { break };
            if len <= direct_bits {
                let first = slot(bits);
                let covered = built.direct.get_mut(first..first + (1 << (direct_bits - len)));
                covered.into_iter().flatten().for_each(|entry| *entry = *number);
                rest = others;
                continue;
            }
            let here =
                rest.iter().take_while(|n| built.route(**n).is_some_and(|r| slot(r.bits) == slot(bits)));
            let (inside, behind) = rest.split_at(here.count());
            rest = behind;
            let inherited = built.direct.get(slot(bits)).copied().unwrap_or(ROOT);
            let entry = match built.part(inside, direct_bits, inherited) {
                Entry::Leaf(route) => route,
                Entry::Node(fields) => {
                    built.nodes.push(fields);
                    (built.nodes.len() as u32 - 1) | NODE
                }
            };
            if let Some(place) = built.direct.get_mut(slot(bits)) {
                *place = entry;
            }
        }
        built
    }

    fn route(&self, number: u32) -> Option<&Kept<B>> {
        self.routes.get(number as usize)
    }

    /// The part of the address space that has its first `depth` bits from any of `inside`, the routes within it.
    fn part(&mut self, mut inside: &[u32], depth: u8, inherited: u32) -> Entry {
        let (mut owners, mut vector) = ([inherited; VALUES], 0u64);
        let mut children = Vec::new();
        while let [number, others @ ..] = inside {
            let Some(&Kept { bits, len, .. }) = self.route(*number) else { break };
            if len <= depth + STEP {
                let places = owners.get_mut(covered(bits, len, depth));
                places.into_iter().flatten().for_each(|owner| *owner = *number);
                inside = others;
                continue;
            }
            let value = bits.six(depth);
            let same = |n: &&u32| self.route(**n).is_some_and(|route| route.bits.six(depth) == value);
            let (below, behind) = inside.split_at(inside.iter().take_while(same).count());
            inside = behind;
            match self.part(below, depth + STEP, owners.get(value).copied().unwrap_or(ROOT)) {
                Entry::Leaf(route) => owners.get_mut(value).into_iter().for_each(|owner| *owner = route),
                Entry::Node(fields) => {
                    vector |= 1 << value;
                    children.push(fields);
                }
            }
        }
        let (leaves, runs) = runs(&owners, vector);
        if let (0, [route]) = (vector, runs.as_slice()) {
            return Entry::Leaf(*route);
        }
        let fields = Fields {
            vector,
            leaves,
            first_leaf: self.leaves.len() as u32,
            first_node: self.nodes.len() as u32,
        };
        self.leaves.extend(runs);
        self.nodes.extend(children);
        Entry::Node(fields)
    }

    /// The table for look-ups, with room for as many more nodes, leaves and hops as `spare` says of how many there are.
    pub(super) fn fib<A: Address<Bits = B>, R>(
        &self,
        hops: Vec<R>,
        spare: impl Fn(usize) -> usize,
    ) -> Fib<A, R> {
        let hop = |route: u32| self.route(route).map_or(NO_HOP, |route| route.hop);
        let direct = self.direct.iter().map(|&entry| if entry & NODE == 0 { hop(entry) } else { entry });
        let leaves = self.leaves.iter().map(|&route| hop(route));
        let nodes = self.nodes.iter().map(|fields| {
            let node = Node::default();
            node.store(fields);
            node
        });
        let room = |used: usize| used + spare(used);
        let places = room(self.leaves.len());
        // With the one that is none.
        let numbered = hops.len() + 1;
        Fib {
            direct: direct.map(AtomicU32::new).collect(),
            direct_bits: self.direct_bits,
            nodes: filled(nodes, room(self.nodes.len()), Node::default),
            leaves: match room(numbered) {
                0..=NARROW => {
                    let leaves = leaves.map(|hop| AtomicU16::new(hop as u16));
                    Leaves::Narrow(filled(leaves, places, AtomicU16::default))
                }
                _ => Leaves::Wide(filled(leaves.map(AtomicU32::new), places, AtomicU32::default)),
            },
            blocks: Box::default(),
            hops: filled(
                core::iter::once(Once::new()).chain(hops.into_iter().map(Once::initialized)),
                room(numbered),
                Once::new,
            ),
            family: core::marker::PhantomData,
        }
    }
}

fn filled<T>(items: impl Iterator<Item = T>, len: usize, empty: impl FnMut() -> T) -> Box<[T]> {
    let mut all = Vec::with_capacity(len);
    all.extend(items);
    all.resize_with(len.max(all.len()), empty);
    all.into()
}

/// Gives each of the sorted `routes`, behind [`ROOT`], its parent.
fn adopt<B: Bits>(routes: &mut [Kept<B>]) {
    // The routes that contain the one before, the longest last.
    let mut open: Vec<(u32, B, u8)> = Vec::new();
    for (number, route) in (0..).zip(routes).skip(1) {
        while open.pop_if(|(_, bits, len)| route.bits.and(B::mask(*len)) != *bits).is_some() {}
        route.parent = open.last().map_or(ROOT, |&(number, ..)| number);
        open.push((number, route.bits, route.len));
    }
}

/// Numbers hops: equal ones get the same number.
#[derive(Debug)]
pub(super) struct Numbers<R>(pub(super) BTreeMap<R, u32>);

impl<R: Ord> Numbers<R> {
    pub(super) fn number(&mut self, hop: R) -> u32 {
        let next = self.0.len() as u32 + 1;
        *self.0.entry(hop).or_insert(next)
    }
}

/// Sorts `routes` behind [`ROOT`], drops all but the first with the same prefix, and numbers `hops` first and then theirs.
pub(super) fn sorted<A: Address, R: Ord>(
    hops: Vec<R>,
    mut routes: Vec<(Prefix<A>, R)>,
) -> (Vec<Kept<A::Bits>>, Numbers<R>) {
    // Stable: equal prefixes stay in order. A prefix comes before those within it.
    routes.sort_by_key(|(prefix, _)| (prefix.first(), prefix.len()));
    routes.dedup_by_key(|(prefix, _)| *prefix);
    let mut numbers = Numbers(BTreeMap::new());
    for hop in hops {
        numbers.number(hop);
    }
    let kept = routes.into_iter().map(|(prefix, hop)| Kept {
        bits: prefix.first().bits(),
        len: prefix.len(),
        hop: numbers.number(hop),
        parent: ROOT,
    });
    let root = Kept { bits: A::Bits::ZERO, len: 0, hop: NO_HOP, parent: ROOT };
    let mut all = Vec::with_capacity(kept.len() + 1);
    all.extend(core::iter::once(root).chain(kept));
    (all, numbers)
}

/// A table that nobody will change.
pub(super) fn fixed<A: Address, R: Ord>(hops: Vec<R>, routes: Vec<(Prefix<A>, R)>) -> Fib<A, R> {
    let (kept, numbers) = sorted(hops, routes);
    let mut hops: Vec<(R, u32)> = numbers.0.into_iter().collect();
    hops.sort_by_key(|(_, number)| *number);
    let direct_bits = direct_bits(kept.len());
    let fib = Built::new(kept, direct_bits).fib(hops.into_iter().map(|(hop, _)| hop).collect(), |_| 0);
    if fib.nodes.len() <= BLOCKS { unfolded(fib) } else { fib }
}

/// The same table with a block in the place of each node.
fn unfolded<A: Address, R>(fib: Fib<A, R>) -> Fib<A, R> {
    let block = |node: &Node| {
        let fields = node.fields();
        core::array::from_fn(|value| match fields.follow(value) {
            (true, node) => node | NODE,
            (false, leaf) => fib.leaves.get(leaf).unwrap_or(NO_HOP),
        })
    };
    let blocks = fib.nodes.iter().map(block).collect();
    Fib { blocks, nodes: Box::default(), leaves: Leaves::Narrow(Box::default()), ..fib }
}
