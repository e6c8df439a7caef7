//! Longest-prefix match, after Poptrie (Asai and Ohara, SIGCOMM 2015): a trie of six bits a step whose nodes are two
//! bitmaps, with a table over the leading bits in front of it.
//!
//! Read from softint context: plain loads, no lock, no write. A [`Writer`] at task level changes it under its readers.

mod bulk;
mod slab;
#[cfg(test)]
mod tests;
mod writer;

pub use writer::{Placed, Writer};

use crate::address::{Address, Bits, Prefix};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use spin::Once;
use weir_sync::wide::{self, Work};

/// Addresses of a batch look-up that are under way together.
pub const LANES: usize = 64;
/// Bits a node decides.
const STEP: u8 = 6;
/// Values of these bits.
const VALUES: usize = 1 << STEP;
/// Marks the number of a node, as against the number of a hop.
const NODE: u32 = 1 << 31;
/// The number of the hop that is none.
const NO_HOP: u32 = 0;

/// A map from prefixes to `R`, asked for the longest that contains an address.
///
/// While a [`Writer`] changes it, a look-up finds what was or what is, if it is done within one softint turn.
#[derive(Debug)]
pub struct Fib<A: Address, R> {
    /// `[A]` For each value of the leading bits the number of a node, with [`NODE`], or of a hop. Stored by the writer
    /// (Release) once what it leads to is in place; pairs with the load (Acquire) that begins a look-up.
    direct: Box<[AtomicU32]>,
    /// `[I]` How many leading bits that are.
    direct_bits: u8,
    /// `[A]` Written (Relaxed) only where no reader can find it: before it is stored in `direct`, and again when those
    /// who had found it have left.
    nodes: Box<[Node]>,
    /// `[A]` Numbers of hops; as `nodes`.
    leaves: Leaves,
    /// `[I]` Instead of nodes and leaves, if those are few and stay as they are: for each value of six bits what `direct`
    /// has for the first ones. More memory and less work.
    blocks: Box<[[u32; VALUES]]>,
    /// `[A]` Set once; the first, [`NO_HOP`], never.
    hops: Box<[Once<R>]>,
    family: core::marker::PhantomData<A>,
}

/// Where the values of six bits lead: to consecutive nodes, and to consecutive leaves that each serve a run of values.
#[derive(Debug, Default)]
struct Node {
    /// A bit for each value that leads to a node.
    vector: AtomicU64,
    /// A bit for each value that leads to another leaf than the one before.
    leaves: AtomicU64,
    /// Number of the first leaf, and above it of the first node.
    bases: AtomicU64,
}

/// As wide as the numbers of hops need.
#[derive(Debug)]
enum Leaves {
    Narrow(Box<[AtomicU16]>),
    Wide(Box<[AtomicU32]>),
}

impl Leaves {
    #[inline(always)]
    fn get(&self, place: u32) -> Option<u32> {
        match self {
            Self::Narrow(leaves) => Some(leaves.get(place as usize)?.load(Ordering::Relaxed).into()),
            Self::Wide(leaves) => Some(leaves.get(place as usize)?.load(Ordering::Relaxed)),
        }
    }

    /// Whether there is such a place.
    fn set(&self, place: u32, hop: u32) -> bool {
        match self {
            Self::Narrow(leaves) => {
                leaves.get(place as usize).map(|leaf| leaf.store(hop as u16, Ordering::Relaxed)).is_some()
            }
            Self::Wide(leaves) => {
                leaves.get(place as usize).map(|leaf| leaf.store(hop, Ordering::Relaxed)).is_some()
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Narrow(leaves) => leaves.len(),
            Self::Wide(leaves) => leaves.len(),
        }
    }

    fn memory(&self) -> usize {
        match self {
            Self::Narrow(leaves) => size_of_val(&**leaves),
            Self::Wide(leaves) => size_of_val(&**leaves),
        }
    }
}

/// A node's content.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Fields {
    vector: u64,
    leaves: u64,
    first_leaf: u32,
    first_node: u32,
}

/// The bits 0 to `value`.
#[inline(always)]
fn upto(value: usize) -> u64 {
    u64::MAX >> (VALUES - 1 - value)
}

impl Node {
    #[inline(always)]
    fn fields(&self) -> Fields {
        let bases = self.bases.load(Ordering::Relaxed);
        Fields {
            vector: self.vector.load(Ordering::Relaxed),
            leaves: self.leaves.load(Ordering::Relaxed),
            first_leaf: bases as u32,
            first_node: (bases >> 32) as u32,
        }
    }

    fn store(&self, fields: &Fields) {
        let bases = u64::from(fields.first_node) << 32 | u64::from(fields.first_leaf);
        self.vector.store(fields.vector, Ordering::Relaxed);
        self.leaves.store(fields.leaves, Ordering::Relaxed);
        self.bases.store(bases, Ordering::Relaxed);
    }
}

impl Fields {
    /// Whether `value` leads to a node, and the number of that node or leaf. Without a branch on which it is.
    #[inline(always)]
    fn follow(&self, value: usize) -> (bool, u32) {
        let inner = self.vector >> value & 1 != 0;
        let (bits, base) =
            if inner { (self.vector, self.first_node) } else { (self.leaves, self.first_leaf) };
        (inner, base.wrapping_add((bits & upto(value)).count_ones()).wrapping_sub(1))
    }
}

impl<A: Address, R> Fib<A, R> {
    /// A table of `routes` that stays as it is and takes no more memory than it needs. Of several routes with the same
    /// prefix the first counts.
    pub fn new(routes: Vec<(Prefix<A>, R)>) -> Self
    where
        R: Ord,
    {
        Self::with_hops(Vec::new(), routes)
    }

    /// The same; `hops`, each of them another, have the numbers from 1 on, whether a prefix leads to them or not.
    pub fn with_hops(hops: Vec<R>, routes: Vec<(Prefix<A>, R)>) -> Self
    where
        R: Ord,
    {
        bulk::fixed(hops, routes)
    }

    /// The route of the longest prefix that contains `address`.
    #[inline]
    pub fn lookup(&self, address: A) -> Option<&R> {
        self.hop(self.lookup_number(address))
    }

    /// The number of the [`hop`](Self::hop) that [`lookup`](Self::lookup) finds; 0 if there is no route. Different hops have
    /// different numbers, and a table never gives a number to another hop.
    #[inline]
    pub fn lookup_number(&self, address: A) -> u32 {
        self.number(address.bits()).unwrap_or(NO_HOP)
    }

    /// What a number stands for; `None` if there was no route.
    #[inline]
    pub fn hop(&self, number: u32) -> Option<&R> {
        self.hops.get(number as usize)?.get()
    }

    /// Looks up each of `addresses` and notes the [`hop`](Self::hop)'s number at its place in `hops`. Several at a time,
    /// so that one's wait for memory is another's work.
    #[inline(always)]
    pub fn lookup_batch(&self, addresses: &[A], hops: &mut [u32]) {
        if !self.blocks.is_empty() {
            // All of it is in the nearest cache: nothing to wait for.
            for (address, hop) in addresses.iter().zip(hops) {
                let bits = address.bits();
                let entry =
                    self.direct.get(self.slot(bits)).map_or(NO_HOP, |entry| entry.load(Ordering::Acquire));
                *hop = self.descend(bits, entry).unwrap_or(NO_HOP);
            }
            return;
        }
        for (addresses, hops) in addresses.chunks(LANES).zip(hops.chunks_mut(LANES)) {
            wide::run(Lanes(self, addresses, hops));
        }
    }

    /// Whether it is too large to stay in a CPU's nearest caches.
    #[inline]
    pub fn is_large(&self) -> bool {
        self.direct_bits > bulk::SMALL
    }

    /// Asks the cache for where a look-up of `address` begins.
    #[inline(always)]
    pub fn prefetch(&self, address: A) {
        self.direct.get(self.slot(address.bits())).into_iter().for_each(wide::prefetch);
    }

    /// Bytes it takes, all told.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + size_of_val(&*self.direct)
            + size_of_val(&*self.nodes)
            + self.leaves.memory()
            + size_of_val(&*self.blocks)
            + size_of_val(&*self.hops)
    }

    #[inline(always)]
    fn slot(&self, bits: A::Bits) -> usize {
        (bits.high() >> (32 - self.direct_bits)) as usize
    }

    #[inline]
    fn number(&self, bits: A::Bits) -> Option<u32> {
        let entry = self.direct.get(self.slot(bits))?.load(Ordering::Acquire);
        match entry & NODE {
            0 => Some(entry),
            _ if self.blocks.is_empty() => wide::run(Walk(self, bits, entry)),
            _ => self.descend(bits, entry),
        }
    }

    /// The hop's number below an entry, block by block.
    #[inline(always)]
    fn descend(&self, bits: A::Bits, mut entry: u32) -> Option<u32> {
        let mut rest = bits.skip(self.direct_bits);
        // The blocks come to an end before the bits do.
        while entry & NODE != 0 {
            entry = *self.blocks.get((entry & !NODE) as usize)?.get(rest.six(0))?;
            rest = rest.skip(STEP);
        }
        Some(entry)
    }

    #[inline(always)]
    fn walk(&self, bits: A::Bits, mut entry: u32) -> Option<u32> {
        let mut depth = self.direct_bits;
        while entry & NODE != 0 && depth < A::Bits::WIDTH {
            let fields = self.nodes.get((entry & !NODE) as usize)?.fields();
            match fields.follow(bits.six(depth)) {
                (true, node) => entry = node | NODE,
                (false, leaf) => return self.leaves.get(leaf),
            }
            depth += STEP;
        }
        Some(entry)
    }

    /// Step by step for all addresses at once. Which of them go on is not predictable, so it is not branched on.
    #[inline(always)]
    fn lanes(&self, addresses: &[A], hops: &mut [u32]) {
        // Lanes that are at a node, and their number; those that are at a leaf.
        let (mut at_node, mut nodes) = ([0u8; LANES], 0);
        let (mut at_leaf, mut leaves) = ([0u8; LANES], 0);
        for (lane, (address, hop)) in (0u8..).zip(addresses.iter().zip(hops.iter_mut())) {
            let entry = self.direct.get(self.slot(address.bits()));
            *hop = entry.map_or(NO_HOP, |entry| entry.load(Ordering::Acquire));
            if let Some(place) = at_node.get_mut(nodes) {
                *place = lane;
            }
            nodes += usize::from(*hop & NODE != 0);
        }
        let mut depth = self.direct_bits;
        while nodes > 0 && depth < A::Bits::WIDTH {
            // All waits for memory begin before the first is over.
            for lane in at_node.iter().take(nodes) {
                let hop = hops.get(usize::from(*lane)).copied().unwrap_or(NO_HOP);
                self.nodes.get((hop & !NODE) as usize).into_iter().for_each(wide::prefetch);
            }
            let mut inner_nodes = 0;
            for n in 0..nodes {
                let Some(&lane) = at_node.get(n) else { break };
                let Some(hop) = hops.get_mut(usize::from(lane)) else { break };
                let Some(address) = addresses.get(usize::from(lane)) else { break };
                let Some(node) = self.nodes.get((*hop & !NODE) as usize) else { break };
                let (inner, next) = node.fields().follow(address.bits().six(depth));
                *hop = next | u32::from(inner) << 31;
                if let Some(place) = at_node.get_mut(inner_nodes) {
                    *place = lane;
                }
                if let Some(place) = at_leaf.get_mut(leaves) {
                    *place = lane;
                }
                inner_nodes += usize::from(inner);
                leaves += usize::from(!inner);
            }
            nodes = inner_nodes;
            depth += STEP;
        }
        for lane in at_leaf.iter().take(leaves) {
            let Some(hop) = hops.get_mut(usize::from(*lane)) else { break };
            *hop = self.leaves.get(*hop).unwrap_or(NO_HOP);
        }
    }
}

/// A look-up from a node on.
struct Walk<'a, A: Address, R>(&'a Fib<A, R>, A::Bits, u32);

impl<A: Address, R> Work for Walk<'_, A, R> {
    type Result = Option<u32>;
    #[inline(always)]
    fn run(self) -> Option<u32> {
        self.0.walk(self.1, self.2)
    }
}

/// A batch of look-ups.
struct Lanes<'a, A: Address, R>(&'a Fib<A, R>, &'a [A], &'a mut [u32]);

impl<A: Address, R> Work for Lanes<'_, A, R> {
    type Result = ();
    #[inline(always)]
    fn run(self) {
        self.0.lanes(self.1, self.2);
    }
}
