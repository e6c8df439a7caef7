//! Changes of a table while it is read: a new node beside the old one, then one store to the entry that leads to it.
//!
//! At task level. It remembers whose each entry is, and of each route the one around it: no other copy of the routes
//! is needed, and a change looks at nothing but what it covers.

use super::bulk::{
    Built, Kept, Numbers, Owners, ROOT, UNUSED, Values, covered, direct_bits, halves, is_beyond, runs, slots,
    sorted,
};
use super::slab::{Run, Slab};
use super::{Fib, Form, MAP, NO_HOP, NODE, STEP, VALUES, map, upto};
use crate::address::{Address, Bits, Prefix};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use weir_sync::Control;
use weir_sync::sort::sort_by_key;

/// Words and hops that a new table has room for: this many, and a quarter of what there are.
const SPARE: usize = 4096;

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
    /// Whose all else is, if that is no node.
    outside_owner: u32,
    /// Whose each entry of a node is, where that is no node.
    owners: Vec<u32>,
    routes: Vec<Kept<A::Bits>>,
    /// Unused places in `routes`.
    unused: Vec<u32>,
    numbers: Numbers<R>,
    words: Slab,
}

/// A change of the routes as the trie sees it: within `prefix`, what was `from`'s becomes `to`'s.
struct Change<'a, B> {
    cx: &'a Control,
    bits: B,
    len: u8,
    from: u32,
    to: u32,
}

/// Where an entry is.
#[derive(Clone, Copy)]
enum Place {
    Direct(usize),
    Outside,
    Word(usize),
}

/// No room for another node.
struct Full;

impl<A: Address, R: Ord + Clone> Writer<A, R> {
    /// A table of `routes` with room to change. Of several routes with the same prefix the first counts.
    pub fn new(routes: Vec<(Prefix<A>, R)>) -> Self {
        let direct_bits = direct_bits::<A>(routes.len());
        Self::with(routes, direct_bits, SPARE)
    }

    pub(super) fn with(routes: Vec<(Prefix<A>, R)>, direct_bits: u8, spare: usize) -> Self {
        let (kept, numbers) = sorted(Vec::new(), routes);
        let mut built = Built::new(kept, direct_bits, Owners::Routes, Form::Map);
        let mut hops: Vec<(&R, &u32)> = numbers.0.iter().collect();
        sort_by_key(&mut hops, |(_, number)| **number);
        let hops = hops.into_iter().map(|(hop, _)| hop.clone()).collect();
        let room = |used: usize| used + used / 4 + spare;
        let fib = built.fib(hops, room);
        let mut owners = built.owners;
        let (used, capacity) = (owners.len(), room(owners.len()));
        owners.reserve_exact(capacity - used);
        owners.resize(capacity, ROOT);
        Self {
            direct_owners: built.direct,
            outside_owner: built.outside,
            owners,
            routes: built.routes,
            unused: Vec::new(),
            numbers,
            words: Slab::new(used, capacity),
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
        let owners = self.direct_owners.capacity() + self.owners.capacity();
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

    /// Nodes that were let go since the table was laid out.
    #[cfg(test)]
    pub(super) fn retired(&self) -> u64 {
        self.words.retired
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
        sort_by_key(&mut hops, |(_, number)| **number);
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
        let (mut value, mut depth) = match self.fib.direct.get(slot) {
            Some(_) => (self.value(Place::Direct(slot)), self.fib.decided()),
            None => (self.value(Place::Outside), 0),
        };
        while value & NODE != 0 && depth < A::Bits::WIDTH {
            value = self.value(Place::Word(self.follow(value, bits.six(depth))));
            depth += STEP;
        }
        value
    }

    /// The node, with [`NODE`], that an entry leads to, or whose it is.
    fn value(&self, place: Place) -> u32 {
        let entry = self.place(place).map_or(NO_HOP, |entry| entry.load(Ordering::Relaxed));
        let owner = match place {
            _ if entry & NODE != 0 => return entry,
            Place::Direct(slot) => self.direct_owners.get(slot),
            Place::Outside => Some(&self.outside_owner),
            Place::Word(word) => self.owners.get(word),
        };
        owner.copied().unwrap_or(ROOT)
    }

    fn place(&self, place: Place) -> Option<&AtomicU32> {
        match place {
            Place::Direct(slot) => self.fib.direct.get(slot),
            Place::Outside => Some(&self.fib.outside),
            Place::Word(word) => self.word(word),
        }
    }

    fn word(&self, word: usize) -> Option<&AtomicU32> {
        self.fib.nodes().get(word)
    }

    /// Makes an entry lead to `value`. Readers see it: by now all that it leads to is in place.
    fn put(&mut self, place: Place, value: u32) {
        let entry = if value & NODE == 0 { self.hop(value) } else { value };
        if let Some(place) = self.place(place) {
            place.store(entry, Ordering::Release);
        }
        let owner = match place {
            Place::Direct(slot) => self.direct_owners.get_mut(slot),
            Place::Outside => Some(&mut self.outside_owner),
            Place::Word(word) => self.owners.get_mut(word),
        };
        owner.into_iter().for_each(|owner| *owner = value);
    }

    fn map(&self, node: u32) -> u64 {
        super::node(self.fib.nodes(), node).map_or(0, map)
    }

    /// The word that is a node's entry for `value`.
    fn follow(&self, node: u32, value: usize) -> usize {
        (node & !NODE) as usize + MAP - 1 + upto(self.map(node), value) as usize
    }

    /// All values of a node.
    fn values(&self, node: u32) -> Values {
        let (map, mut word) = (self.map(node), (node & !NODE) as usize + MAP - 1);
        let mut last = ROOT;
        core::array::from_fn(|value| {
            if map >> value & 1 != 0 {
                word += 1;
                last = self.value(Place::Word(word));
            }
            last
        })
    }

    fn change(&mut self, change: &Change<'_, A::Bits>) -> Result<(), Full> {
        for slot in slots(change.bits, change.len, self.fib.direct_bits) {
            self.replace(Place::Direct(slot), self.fib.decided(), change)?;
        }
        if is_beyond(change.bits, change.len) {
            self.replace(Place::Outside, 0, change)?;
        }
        Ok(())
    }

    fn replace(&mut self, place: Place, depth: u8, change: &Change<'_, A::Bits>) -> Result<(), Full> {
        let old = self.value(place);
        let new = self.part(old, depth, change)?;
        // Even if it is the same route: that may have another hop now.
        if new != old || new & NODE == 0 {
            self.put(place, new);
        }
        self.words.stored(change.cx);
        Ok(())
    }

    /// What the part of the address space that `old` led to, and that begins at `depth` bits, leads to after `change`.
    fn part(&mut self, old: u32, depth: u8, change: &Change<'_, A::Bits>) -> Result<u32, Full> {
        let is_node = old & NODE != 0;
        if !is_node && change.len <= depth {
            return Ok(self.leaf(old, change));
        }
        let mut values = [old; VALUES];
        if is_node {
            if change.len > depth + STEP {
                let word = self.follow(old, change.bits.six(depth));
                let below = self.value(Place::Word(word));
                if below & NODE != 0 {
                    let new = self.part(below, depth + STEP, change)?;
                    if new & NODE != 0 {
                        // All that changes is below one of its values.
                        if new != below {
                            self.put(Place::Word(word), new);
                        }
                        return Ok(old);
                    }
                    values = self.values(old);
                    values.get_mut(change.bits.six(depth)).into_iter().for_each(|value| *value = new);
                    return self.store(change.cx, old, &values);
                }
            }
            values = self.values(old);
        }
        // A run of values has one owner, and is asked for it once.
        let mut last = None;
        for n in covered(change.bits, change.len, depth) {
            let Some(&value) = values.get(n) else { break };
            let new = match last {
                Some((before, after)) if before == value => after,
                _ => self.part(value, depth + STEP, change)?,
            };
            last = Some((value, new));
            values.get_mut(n).into_iter().for_each(|value| *value = new);
        }
        self.store(change.cx, old, &values)
    }

    /// A node with these values, or their one owner, in the place of `old`: that node itself if only owners change.
    fn store(&mut self, cx: &Control, old: u32, values: &Values) -> Result<u32, Full> {
        let (starts, runs) = runs(values);
        let was = if old & NODE == 0 { 0 } else { self.map(old) };
        let first = (old & !NODE) as usize + MAP;
        if was == starts {
            for (word, value) in (first..).zip(runs) {
                self.put(Place::Word(word), value);
            }
            return Ok(old);
        }
        let len = |map: u64| (MAP as u32 + map.count_ones()) as u8;
        let new = match runs.as_slice() {
            [owner] => *owner,
            _ => {
                let place = self.words.take(cx, len(starts).into()).ok_or(Full)?;
                for (word, half) in (place as usize..).zip(halves(starts)) {
                    self.word(word).ok_or(Full)?.store(half, Ordering::Relaxed);
                }
                for (word, value) in (place as usize + MAP..).zip(runs) {
                    self.put(Place::Word(word), value);
                }
                place | NODE
            }
        };
        if was != 0 {
            self.words.retire(Run { base: old & !NODE, len: len(was) });
        }
        Ok(new)
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
        self.route(owner).map_or(NO_HOP, |route| route.hop)
    }
}
