//! A whole table at once, from sorted routes: what a configuration brings.

use super::{Fib, Form, LONGEST, MAP, NO_HOP, NODE, STEP, VALUES, slot};
use crate::address::{Address, Bits, Prefix};
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::sync::atomic::AtomicU32;
use spin::Once;
use weir_sync::sort::sort_by_key;

/// From how many routes on how many leading bits are worth a table: 16 KiB, a MiB, or 4 MiB. IPv4 has three quarters of its
/// routes within the six bits that follow 18, and IPv6 most of them at the end of whole steps from 24 on.
const SIZES: [(usize, u8); 3] = [(0, 12), (4096, 18), (65_536, 24)];
/// The longest of these for IPv4, whose nodes are more.
const LARGEST4: u8 = 18;

/// Entries that the table in front of a small one has at most.
pub(super) const SMALL: usize = 1 << 12;

/// Nodes up to which a table that stays as it is has flat ones: 128 KiB at most.
const FLAT: usize = 512;

/// Words of a cache line.
const LINE: usize = 64 / size_of::<u32>();

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

/// What entries tell apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owners {
    /// Only hops, in a table that stays as it is.
    Hops,
    /// Routes, in one that changes.
    Routes,
}

/// The values of six bits: of each the number of its node, with [`NODE`], or of its owner.
pub(super) type Values = [u32; VALUES];

/// Everything of a table.
#[derive(Debug)]
pub(super) struct Built<B> {
    owned_by: Owners,
    form: Form,
    direct_bits: u8,
    /// By number; the first is [`ROOT`].
    pub(super) routes: Vec<Kept<B>>,
    /// As [`Fib::direct`], with owners for hops.
    pub(super) direct: Vec<u32>,
    /// As [`Fib::outside`], with an owner for a hop.
    pub(super) outside: u32,
    nodes: usize,
    words: Vec<u32>,
    /// Free words at the end of lines: a few, so that what is looked up together stays together.
    holes: [core::ops::Range<usize>; 4],
    /// The owner of each word that is the number of a hop, if that is a route.
    pub(super) owners: Vec<u32>,
}

/// Leading bits that a table of so many routes has in front.
pub(super) fn direct_bits<A: Address>(routes: usize) -> u8 {
    let largest = if A::Bits::WIDTH == 32 { LARGEST4 } else { u8::MAX };
    let fit = |(least, decided): &&(usize, u8)| *least <= routes && *decided <= largest;
    SIZES.iter().rfind(fit).map_or(0, |(_, decided)| decided - A::Bits::SHARED.1)
}

/// The runs of equal `values`: a bit where each begins, and what they are.
pub(super) fn runs(values: &Values) -> (u64, ArrayVec<u32, VALUES>) {
    let (mut starts, mut entries) = (0, ArrayVec::<u32, VALUES>::new());
    for (n, &value) in values.iter().enumerate() {
        if entries.last() != Some(&value) {
            starts |= 1 << n;
            entries.extend([value]);
        }
    }
    (starts, entries)
}

/// The values at `depth` bits that a prefix of `bits` and `len` covers, if it is longer than `depth`.
pub(super) fn covered<B: Bits>(bits: B, len: u8, depth: u8) -> core::ops::Range<usize> {
    let first = bits.six(depth);
    first..first + (1 << (depth + STEP).saturating_sub(len).min(STEP))
}

/// The places of `Fib::direct` that a prefix covers: none if that is not for it.
pub(super) fn slots<B: Bits>(bits: B, len: u8, direct_bits: u8) -> core::ops::Range<usize> {
    let ((first, shared), slot) = (B::SHARED, slot(bits, direct_bits));
    match len.checked_sub(shared) {
        Some(own) if slot >> direct_bits == 0 => slot..slot + (1 << direct_bits.saturating_sub(own)),
        // All or nothing.
        None if B::mask(len).high() & first == bits.high() => 0..1 << direct_bits,
        _ => 0..0,
    }
}

/// Whether a prefix has addresses that `Fib::direct` is not for.
pub(super) fn is_beyond<B: Bits>(bits: B, len: u8) -> bool {
    let (first, shared) = B::SHARED;
    len < shared || bits.and(B::mask(shared)).high() != first
}

impl<B: Bits> Built<B> {
    /// From what [`sorted`] made.
    pub(super) fn new(mut routes: Vec<Kept<B>>, direct_bits: u8, owned_by: Owners, form: Form) -> Self {
        if owned_by == Owners::Routes {
            adopt(&mut routes);
        }
        let direct = vec![ROOT; 1 << direct_bits];
        let (words, owners) = (Vec::new(), Vec::new());
        let (outside, nodes, holes) = (ROOT, 0, [const { 0..0 }; 4]);
        let mut built =
            Self { owned_by, form, direct_bits, routes, direct, outside, nodes, words, holes, owners };
        let sorted: Vec<u32> = (1..built.routes.len() as u32).collect();
        built.front(&sorted);
        let beyond = |number: &u32| built.route(*number).is_some_and(|r| is_beyond(r.bits, r.len));
        let beyond: Vec<u32> = sorted.into_iter().filter(beyond).collect();
        built.outside = built.part(&beyond, 0, ROOT);
        built
    }

    fn front(&mut self, sorted: &[u32]) {
        let mut rest = sorted;
        while let [number, others @ ..] = rest {
            let Some(&Kept { bits, len, .. }) = self.route(*number) else { break };
            let slots = slots(bits, len, self.direct_bits);
            if len <= B::SHARED.1 + self.direct_bits || slots.is_empty() {
                let owner = self.owner(*number);
                self.direct.get_mut(slots).into_iter().flatten().for_each(|entry| *entry = owner);
                rest = others;
                continue;
            }
            let slot = slots.start;
            let same =
                |n: &&u32| self.route(**n).is_some_and(|r| self::slot(r.bits, self.direct_bits) == slot);
            let (inside, behind) = rest.split_at(rest.iter().take_while(same).count());
            rest = behind;
            let inherited = self.direct.get(slot).copied().unwrap_or(ROOT);
            let entry = self.part(inside, B::SHARED.1 + self.direct_bits, inherited);
            if let Some(place) = self.direct.get_mut(slot) {
                *place = entry;
            }
        }
    }

    fn route(&self, number: u32) -> Option<&Kept<B>> {
        self.routes.get(number as usize)
    }

    fn owner(&self, route: u32) -> u32 {
        match self.owned_by {
            Owners::Routes => route,
            Owners::Hops => self.route(route).map_or(NO_HOP, |route| route.hop),
        }
    }

    /// The entry that `value` is in the table for look-ups.
    fn entry(&self, value: u32) -> u32 {
        match self.owned_by {
            Owners::Routes if value & NODE == 0 => self.route(value).map_or(NO_HOP, |route| route.hop),
            _ => value,
        }
    }

    /// The part of the address space that has its first `depth` bits from any of `inside`, the routes within it: its node or
    /// owner.
    fn part(&mut self, mut inside: &[u32], depth: u8, inherited: u32) -> u32 {
        let mut values = [inherited; VALUES];
        while let [number, others @ ..] = inside {
            let Some(&Kept { bits, len, .. }) = self.route(*number) else { break };
            if len <= depth + STEP {
                let owner = self.owner(*number);
                let places = values.get_mut(covered(bits, len, depth));
                places.into_iter().flatten().for_each(|value| *value = owner);
                inside = others;
                continue;
            }
            let value = bits.six(depth);
            let same = |n: &&u32| self.route(**n).is_some_and(|route| route.bits.six(depth) == value);
            let (below, behind) = inside.split_at(inside.iter().take_while(same).count());
            inside = behind;
            let entry = self.part(below, depth + STEP, values.get(value).copied().unwrap_or(ROOT));
            values.get_mut(value).into_iter().for_each(|value| *value = entry);
        }
        let (starts, runs) = runs(&values);
        match runs.as_slice() {
            // One value alone has a node.
            [owner] => *owner,
            _ => self.node(starts, &runs, &values),
        }
    }

    fn node(&mut self, starts: u64, runs: &[u32], values: &Values) -> u32 {
        self.nodes += 1;
        let place = self.words.len();
        if self.form == Form::Flat {
            self.words.extend_from_slice(values);
            return place as u32 | NODE;
        }
        let (map, len) = (halves(starts), MAP + runs.len());
        let place = self.room(len);
        if self.words.len() < place + len {
            self.words.resize(place + len, 0);
        }
        let entries = runs.iter().map(|value| self.entry(*value));
        let node: ArrayVec<u32, LONGEST> = map.into_iter().chain(entries).collect();
        self.words.get_mut(place..).into_iter().flatten().zip(node).for_each(|(word, new)| *word = new);
        if self.owned_by == Owners::Routes {
            self.owners.resize(self.words.len(), ROOT);
            let owners = self.owners.get_mut(place + MAP..).into_iter().flatten();
            owners.zip(runs).for_each(|(owner, value)| *owner = *value);
        }
        place as u32 | NODE
    }

    /// Where a node of `len` words goes, so that a look-up has one line to wait for, or two at most if it is longer.
    fn room(&mut self, len: usize) -> usize {
        let holes = self.holes.iter_mut();
        if let Some(hole) = holes.filter(|hole| len <= hole.len()).min_by_key(|hole| hole.len()) {
            let place = hole.start;
            hole.start += len;
            return place;
        }
        let end = self.words.len();
        if end % LINE + len.min(LINE) <= LINE {
            return end;
        }
        let place = end.next_multiple_of(LINE);
        if let Some(least) = self.holes.iter_mut().min_by_key(|hole| hole.len())
            && least.len() < place - end
        {
            *least = end..place;
        }
        place
    }

    /// The table for look-ups, with as many places for words and for hops as `room` says of how many there are.
    pub(super) fn fib<A: Address<Bits = B>, R>(
        &mut self,
        hops: Vec<R>,
        room: impl Fn(usize) -> usize,
    ) -> Fib<A, R> {
        let places = room(self.words.len()) + LONGEST;
        let mut words = Vec::<AtomicU32>::with_capacity(LINE + places);
        let first = match self.form {
            Form::Flat => 0,
            Form::Map => words.as_ptr().align_offset(LINE * size_of::<u32>()).min(LINE),
        };
        words.resize_with(first, AtomicU32::default);
        words.extend(core::mem::take(&mut self.words).into_iter().map(AtomicU32::new));
        words.resize_with(LINE + places, AtomicU32::default);
        // With the one that is none.
        let numbered = hops.len() + 1;
        let mut all = Vec::with_capacity(room(numbered));
        all.extend(core::iter::once(Once::new()).chain(hops.into_iter().map(Once::initialized)));
        all.resize_with(room(numbered), Once::new);
        Fib {
            direct: self.direct.iter().map(|&value| AtomicU32::new(self.entry(value))).collect(),
            direct_bits: self.direct_bits,
            outside: AtomicU32::new(self.entry(self.outside)),
            words: words.into(),
            first,
            form: self.form,
            hops: all.into(),
            family: core::marker::PhantomData,
        }
    }
}

/// A map's words.
pub(super) fn halves(map: u64) -> [u32; MAP] {
    [map as u32, (map >> 32) as u32]
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
    sort_by_key(&mut routes, |(prefix, _)| (prefix.first(), prefix.len()));
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
    sort_by_key(&mut hops, |(_, number)| *number);
    let hops = hops.into_iter().map(|(hop, _)| hop).collect();
    let direct_bits = direct_bits::<A>(kept.len());
    let mut built = Built::new(kept, direct_bits, Owners::Hops, Form::Map);
    if built.nodes <= FLAT {
        built = Built::new(built.routes, direct_bits, Owners::Hops, Form::Flat);
    }
    built.fib(hops, |used| used)
}
