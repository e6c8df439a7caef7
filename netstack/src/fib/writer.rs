//! Changes of a table while it is read: new nodes beside the old ones, then one store for each part that changed.
//!
//! At task level. It remembers whose each leaf is, and of each route the one around it: no other copy of the routes
//! is needed, and a change looks at nothing but what it covers.

use super::bulk::{Built, Entry, Kept, Numbers, ROOT, UNUSED, covered, direct_bits, runs, sorted};
use super::slab::{Run, Slab};
use super::{Fib, Fields, NODE, STEP, VALUES};
use crate::address::{Address, Bits, Prefix};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use weir_sync::Control;

/// Room left in a new table: this, and a quarter of what there is.
const SPARE: usize = 1024;

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Placed {
    /// Readers of the table see it.
    InPlace,
    /// The table was too small. [`Writer::fib`] is another one now, to be published; readers of the old one see part of
    /// the change at most.
    Outgrown,
}

/// The one who changes a [`Fib`].
#[derive(Debug)]
pub struct Writer<A: Address, R> {
    fib: Arc<Fib<A, R>>,
    /// Whose each value of the leading bits is, where that is no node.
    direct_owners: Vec<u32>,
    /// Whose each leaf is.
    leaf_owners: Vec<u32>,
    routes: Vec<Kept<A::Bits>>,
    /// Unused places in `routes`.
    unused: Vec<u32>,
    numbers: Numbers<R>,
    nodes: Slab,
    leaves: Slab,
    /// Nodes that are about to become neighbours.
    children: Vec<Fields>,
}

/// A change of the routes as the trie sees it: within `prefix`, what was `from`'s becomes `to`'s.
struct Change<'a, B> {
    cx: &'a Control,
    bits: B,
    len: u8,
    from: u32,
    to: u32,
}

/// No room for another node or leaf.
struct Full;

impl<A: Address, R: Ord + Clone> Writer<A, R> {
    /// A table of `routes` with room to change. Of several routes with the same prefix the first counts.
    pub fn new(routes: Vec<(Prefix<A>, R)>) -> Self {
        let direct_bits = direct_bits(routes.len());
        Self::with(routes, direct_bits, SPARE)
    }

    pub(super) fn with(routes: Vec<(Prefix<A>, R)>, direct_bits: u8, spare: usize) -> Self {
        let (kept, numbers) = sorted(Vec::new(), routes);
        let built = Built::new(kept, direct_bits);
        let mut hops: Vec<(&R, &u32)> = numbers.0.iter().collect();
        hops.sort_by_key(|(_, number)| **number);
        let hops = hops.into_iter().map(|(hop, _)| hop.clone()).collect();
        let fib = built.fib(hops, |used| used / 4 + spare);
        let owner = |entry: u32| if entry & NODE == 0 { entry } else { ROOT };
        let mut leaf_owners = built.leaves;
        let (leaves, nodes) = (leaf_owners.len(), built.nodes.len());
        leaf_owners.reserve_exact(fib.leaves.len() - leaves);
        leaf_owners.resize(fib.leaves.len(), ROOT);
        Self {
            direct_owners: built.direct.iter().map(|&entry| owner(entry)).collect(),
            leaf_owners,
            routes: built.routes,
            unused: Vec::new(),
            numbers,
            nodes: Slab::new(nodes, fib.nodes.len()),
            leaves: Slab::new(leaves, fib.leaves.len()),
            children: Vec::new(),
            fib: Arc::new(fib),
        }
    }

    /// The table as it is to be published. It stays the same through changes [in place](Placed::InPlace).
    pub fn fib(&self) -> &Arc<Fib<A, R>> {
        &self.fib
    }

    /// The route with exactly this prefix.
    pub fn get(&self, prefix: Prefix<A>) -> Option<&R> {
        let (_, exact) = self.find(prefix);
        self.fib.hop(self.route(exact?)?.hop)
    }

    /// All routes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Prefix<A>, &R)> {
        let used = self.routes.iter().skip(1).filter(|route| route.len != UNUSED);
        used.filter_map(|r| Some((Prefix::new(A::with_bits(r.bits), r.len)?, self.fib.hop(r.hop)?)))
    }

    /// Routes in the table.
    pub fn len(&self) -> usize {
        self.routes.len() - 1 - self.unused.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes it takes beside the table itself.
    pub fn memory(&self) -> usize {
        let owners = self.direct_owners.capacity() + self.leaf_owners.capacity();
        owners * size_of::<u32>() + self.routes.capacity() * size_of::<Kept<A::Bits>>()
    }

    /// Adds a route, or replaces the one with the same prefix.
    pub fn insert(&mut self, cx: &Control, prefix: Prefix<A>, hop: R) -> Placed {
        let known = self.numbers.0.len();
        let number = self.numbers.number(hop.clone());
        let room = match self.fib.hops.get(number as usize) {
            Some(place) => {
                if self.numbers.0.len() > known {
                    place.call_once(|| hop);
                }
                Ok(())
            }
            None => Err(Full),
        };
        let (parent, exact) = self.find(prefix);
        let kept = Kept { bits: prefix.first().bits(), len: prefix.len(), hop: number, parent };
        let from = exact.unwrap_or(parent);
        let to = exact.or_else(|| self.unused.pop()).unwrap_or(self.routes.len() as u32);
        match self.routes.get_mut(to as usize) {
            Some(place) => *place = kept,
            None => self.routes.push(kept),
        }
        let change = Change { cx, bits: kept.bits, len: kept.len, from, to };
        let changed = room.and_then(|()| self.change(&change));
        self.placed(changed)
    }

    /// Takes a route out; `None` if there was none with this prefix.
    pub fn remove(&mut self, cx: &Control, prefix: Prefix<A>) -> Option<Placed> {
        let (parent, exact) = self.find(prefix);
        let from = exact?;
        let change = Change { cx, bits: prefix.first().bits(), len: prefix.len(), from, to: parent };
        let changed = self.change(&change);
        self.routes.get_mut(from as usize)?.len = UNUSED;
        self.unused.push(from);
        Some(self.placed(changed))
    }

    /// Runs that were let go since the table was laid out.
    #[cfg(test)]
    pub(super) fn retired(&self) -> u64 {
        self.nodes.retired + self.leaves.retired
    }

    fn placed(&mut self, changed: Result<(), Full>) -> Placed {
        match changed {
            Ok(()) => Placed::InPlace,
            Err(Full) => {
                self.renew();
                Placed::Outgrown
            }
        }
    }

    /// Lays the table out anew, with room to change: another one, to be published.
    pub fn renew(&mut self) {
        let mut hops = Vec::from_iter(&self.numbers.0);
        hops.sort_by_key(|(_, number)| **number);
        let used = self.routes.iter().skip(1).filter(|route| route.len != UNUSED);
        let routes = used.filter_map(|route| {
            let prefix = Prefix::new(A::with_bits(route.bits), route.len)?;
            let (hop, _) = hops.get(route.hop.checked_sub(1)? as usize)?;
            Some((prefix, R::clone(hop)))
        });
        let routes = routes.collect();
        *self = Self::new(routes);
    }

    fn route(&self, number: u32) -> Option<&Kept<A::Bits>> {
        self.routes.get(number as usize)
    }

    /// The longest route around `prefix`, and the one with just that prefix.
    fn find(&self, prefix: Prefix<A>) -> (u32, Option<u32>) {
        // Whoever has the prefix's first address is it, or within it, or around it.
        let mut number = self.owner(prefix.first().bits());
        while let Some(route) = self.route(number)
            && number != ROOT
        {
            if route.len == prefix.len() {
                return (route.parent, Some(number));
            }
            if route.len < prefix.len() {
                break;
            }
            number = route.parent;
        }
        (number, None)
    }

    /// Whose `bits` is.
    fn owner(&self, bits: A::Bits) -> u32 {
        let slot = self.fib.slot(bits);
        let (mut entry, mut depth) = (self.entry(slot), self.fib.direct_bits);
        while let Entry::Node(fields) = entry
            && depth < A::Bits::WIDTH
        {
            entry = match fields.follow(bits.six(depth)) {
                (true, node) => Entry::Node(self.node(node)),
                (false, leaf) => Entry::Leaf(self.leaf_owners.get(leaf as usize).copied().unwrap_or(ROOT)),
            };
            depth += STEP;
        }
        if let Entry::Leaf(owner) = entry { owner } else { ROOT }
    }

    fn entry(&self, slot: usize) -> Entry {
        match self.fib.direct.get(slot).map(|entry| entry.load(Ordering::Relaxed)) {
            Some(entry) if entry & NODE != 0 => Entry::Node(self.node(entry & !NODE)),
            _ => Entry::Leaf(self.direct_owners.get(slot).copied().unwrap_or(ROOT)),
        }
    }

    fn node(&self, number: u32) -> Fields {
        node(&self.fib, number)
    }

    fn change(&mut self, change: &Change<'_, A::Bits>) -> Result<(), Full> {
        let bits = self.fib.direct_bits;
        let first = self.fib.slot(change.bits);
        for slot in first..first + (1 << bits.saturating_sub(change.len)) {
            let old = self.entry(slot);
            let new = self.part(old, bits, change)?;
            if matches!((old, new), (Entry::Leaf(a), Entry::Leaf(b)) if a == b && change.from != change.to) {
                continue;
            }
            let entry = match new {
                Entry::Leaf(owner) => self.hop(owner),
                Entry::Node(fields) => {
                    let place = self.nodes.take(change.cx, 1).ok_or(Full)?;
                    self.fib.nodes.get(place as usize).ok_or(Full)?.store(&fields);
                    place | NODE
                }
            };
            let Some(direct) = self.fib.direct.get(slot) else { break };
            let before = direct.load(Ordering::Relaxed);
            // The one store by which readers of this part find what is new, and by now it is in place.
            direct.store(entry, Ordering::Release);
            if let (Entry::Leaf(owner), Some(place)) = (new, self.direct_owners.get_mut(slot)) {
                *place = owner;
            }
            if before & NODE != 0 {
                self.nodes.retire(Run { base: before & !NODE, len: 1 });
            }
            self.nodes.stored(change.cx);
            self.leaves.stored(change.cx);
        }
        Ok(())
    }

    /// What the part of the address space that `old` led to, and that begins at `depth` bits, leads to after `change`.
    fn part(&mut self, old: Entry, depth: u8, change: &Change<'_, A::Bits>) -> Result<Entry, Full> {
        match old {
            Entry::Leaf(owner) if change.len <= depth => Ok(Entry::Leaf(self.leaf(owner, change))),
            Entry::Leaf(owner) => self.values([owner; VALUES], Fields::default(), depth, change),
            Entry::Node(fields) => {
                let value = change.bits.six(depth);
                if change.len >= depth + STEP && fields.vector >> value & 1 != 0 {
                    return self.one(&fields, value, depth, change);
                }
                let entry = self.values(self.owners(&fields), fields, depth, change)?;
                self.retire_leaves(&fields);
                self.retire_children(&fields);
                Ok(entry)
            }
        }
    }

    /// As [`part`](Self::part) where all that changes is below one node of many.
    fn one(
        &mut self,
        fields: &Fields,
        value: usize,
        depth: u8,
        change: &Change<'_, A::Bits>,
    ) -> Result<Entry, Full> {
        let (_, place) = fields.follow(value);
        let below = self.part(Entry::Node(self.node(place)), depth + STEP, change)?;
        let Entry::Node(below) = below else {
            let Entry::Leaf(owner) = below else { return Err(Full) };
            let mut owners = self.owners(fields);
            owners.get_mut(value).into_iter().for_each(|place| *place = owner);
            let mark = self.children.len();
            let others = (fields.first_node..).take(fields.vector.count_ones() as usize);
            self.children.extend(others.filter(|&n| n != place).map(|n| node(&self.fib, n)));
            let entry = self.store(change.cx, &owners, fields.vector & !(1 << value), mark)?;
            self.retire_leaves(fields);
            self.retire_children(fields);
            return Ok(entry);
        };
        let count = fields.vector.count_ones();
        let first_node = self.nodes.take(change.cx, count as usize).ok_or(Full)?;
        for n in 0..count {
            let from = fields.first_node + n;
            let node = if from == place { below } else { self.node(from) };
            self.fib.nodes.get((first_node + n) as usize).ok_or(Full)?.store(&node);
        }
        self.retire_children(fields);
        Ok(Entry::Node(Fields { first_node, ..*fields }))
    }

    /// As [`part`](Self::part), value by value: `old`'s nodes, and `owners` of what leads to none.
    fn values(
        &mut self,
        mut owners: [u32; VALUES],
        old: Fields,
        depth: u8,
        change: &Change<'_, A::Bits>,
    ) -> Result<Entry, Full> {
        let mark = self.children.len();
        let affected = covered(change.bits, change.len, depth);
        let (mut vector, mut child) = (0, old.first_node);
        for (value, owner) in owners.iter_mut().enumerate() {
            let inner = old.vector >> value & 1 != 0;
            let mut entry = Entry::Leaf(*owner);
            if inner {
                entry = Entry::Node(self.node(child));
                child += 1;
            }
            if affected.contains(&value) {
                entry = self.part(entry, depth + STEP, change)?;
            }
            match entry {
                Entry::Leaf(new) => *owner = new,
                Entry::Node(fields) => {
                    vector |= 1 << value;
                    self.children.push(fields);
                }
            }
        }
        self.store(change.cx, &owners, vector, mark)
    }

    /// A node where no reader finds it yet; its own nodes are `children` from `mark` on.
    fn store(
        &mut self,
        cx: &Control,
        owners: &[u32; VALUES],
        vector: u64,
        mark: usize,
    ) -> Result<Entry, Full> {
        let (leaves, runs) = runs(owners, vector);
        if let (0, [owner]) = (vector, runs.as_slice()) {
            return Ok(Entry::Leaf(*owner));
        }
        let first_leaf = if runs.is_empty() { 0 } else { self.leaves.take(cx, runs.len()).ok_or(Full)? };
        for (place, owner) in (first_leaf..).zip(runs) {
            let hop = self.hop(owner);
            self.fib.leaves.set(place, hop).then_some(()).ok_or(Full)?;
            *self.leaf_owners.get_mut(place as usize).ok_or(Full)? = owner;
        }
        let count = self.children.len() - mark;
        let first_node = if count == 0 { 0 } else { self.nodes.take(cx, count).ok_or(Full)? };
        for (place, fields) in (first_node as usize..).zip(self.children.drain(mark..)) {
            self.fib.nodes.get(place).ok_or(Full)?.store(&fields);
        }
        Ok(Entry::Node(Fields { vector, leaves, first_leaf, first_node }))
    }

    /// Whose a leaf within the changed prefix becomes; corrects who is around whom.
    fn leaf(&mut self, owner: u32, change: &Change<'_, A::Bits>) -> u32 {
        if owner == change.from {
            return change.to;
        }
        let mut number = owner;
        while number != ROOT
            && let Some(route) = self.routes.get_mut(number as usize)
        {
            if route.parent == change.from {
                route.parent = change.to;
            }
            if route.parent == change.to {
                break;
            }
            number = route.parent;
        }
        owner
    }

    fn hop(&self, owner: u32) -> u32 {
        self.route(owner).map_or(super::NO_HOP, |route| route.hop)
    }

    /// Whose each value of a node is that leads to no other node.
    fn owners(&self, fields: &Fields) -> [u32; VALUES] {
        let mut next = (fields.first_leaf as usize..).map(|n| self.leaf_owners.get(n).copied());
        let mut owner = ROOT;
        core::array::from_fn(|value| {
            if fields.leaves >> value & 1 != 0 {
                owner = next.next().flatten().unwrap_or(ROOT);
            }
            owner
        })
    }

    fn retire_leaves(&mut self, fields: &Fields) {
        let len = fields.leaves.count_ones() as u8;
        self.leaves.retire(Run { base: fields.first_leaf, len });
    }

    fn retire_children(&mut self, fields: &Fields) {
        let len = fields.vector.count_ones() as u8;
        self.nodes.retire(Run { base: fields.first_node, len });
    }
}

fn node<A: Address, R>(fib: &Fib<A, R>, number: u32) -> Fields {
    fib.nodes.get(number as usize).map(super::Node::fields).unwrap_or_default()
}
