//! Longest-prefix match, after Poptrie (Asai and Ohara, SIGCOMM 2015): a trie of six bits a step whose nodes are a bitmap and
//! a run of what it tells apart, side by side in memory, with a table over the leading bits in front of it.
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
use core::sync::atomic::{AtomicU32, Ordering};
use spin::Once;
use weir_sync::wide::{self, Work};

/// Addresses of a batch look-up that are under way together.
pub const LANES: usize = 64;
/// Addresses that go on alone, if no more are left of a batch.
const FEW: u32 = 8;
/// Bits a node decides.
const STEP: u8 = 6;
/// Values of these bits.
const VALUES: usize = 1 << STEP;
/// Words of a node's map.
const MAP: usize = 2;
/// The most words a node has.
const LONGEST: usize = MAP + VALUES;
/// Marks an entry that leads to a node, by the number of its first word; the others are numbers of hops.
const NODE: u32 = 1 << 31;
/// The number of the hop that is none.
const NO_HOP: u32 = 0;

/// A map from prefixes to `R`, asked for the longest that contains an address.
///
/// While a [`Writer`] changes it, a look-up finds what was or what is, if it is done within one softint turn.
#[derive(Debug)]
pub struct Fib<A: Address, R> {
    /// `[A]` An entry for each value of the leading bits, those aside that all of them [share](Bits::SHARED). Stored by the
    /// writer (Release) once what it leads to is in place; pairs with the load (Acquire) of a look-up.
    direct: Box<[AtomicU32]>,
    /// `[I]` How many leading bits are decided by that.
    direct_bits: u8,
    /// `[A]` The entry for all other addresses, of whose bits none is decided; as `direct`.
    outside: AtomicU32,
    /// `[A]` Nodes, and room enough behind the last to read a whole one. A node is a map, its lower half first, with a bit for
    /// each value that has another entry than the one before, and then these entries. Entries change as `direct`; maps
    /// (Relaxed) only where no reader can find them.
    words: Box<[AtomicU32]>,
    /// `[I]` Words in front of what numbers call the first: there a cache line begins. None in front of flat nodes.
    first: usize,
    /// `[I]`
    form: Form,
    /// `[A]` Set once; the first, [`NO_HOP`], never.
    hops: Box<[Once<R>]>,
    family: core::marker::PhantomData<A>,
}

/// What a node looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// As [`Fib::words`] says.
    Map,
    /// An entry for each value and no map: more memory and less work.
    Flat,
}

#[inline(always)]
fn slot<B: Bits>(bits: B, direct_bits: u8) -> usize {
    let (first, shared) = B::SHARED;
    (bits.high().wrapping_sub(first) >> (32 - shared - direct_bits)) as usize
}

/// How many of the bits 0 to `value` are set.
#[inline(always)]
fn upto(map: u64, value: usize) -> u32 {
    (map << (VALUES - 1 - value)).count_ones()
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
        let bits = address.bits();
        match self.direct(bits) {
            Some(entry) if entry & NODE == 0 => entry,
            Some(entry) if self.form == Form::Flat => self.walk(bits, self.decided(), entry, Form::Flat),
            Some(entry) => wide::run(Walk(self, bits, self.decided(), entry)),
            None => self.beyond(bits),
        }
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
        if self.form == Form::Flat {
            return self.flat(addresses, hops);
        }
        for (addresses, hops) in addresses.chunks(LANES).zip(hops.chunks_mut(LANES)) {
            wide::run(Lanes(self, addresses, hops));
        }
    }

    /// Whether it is too large to stay in a CPU's nearest caches.
    #[inline]
    pub fn is_large(&self) -> bool {
        self.direct.len() > bulk::SMALL
    }

    /// Asks the cache for where a look-up of `address` begins.
    #[inline(always)]
    pub fn prefetch(&self, address: A) {
        self.direct.get(self.slot(address.bits())).into_iter().for_each(wide::prefetch);
    }

    /// Bytes it takes, all told.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.direct) + size_of_val(&*self.words) + size_of_val(&*self.hops)
    }

    /// Bits that are decided where `direct` is asked.
    #[inline(always)]
    fn decided(&self) -> u8 {
        A::Bits::SHARED.1 + self.direct_bits
    }

    /// Where `bits` are in `direct`: behind its end if they are not those it is for.
    #[inline(always)]
    fn slot(&self, bits: A::Bits) -> usize {
        slot(bits, self.direct_bits)
    }

    #[inline(always)]
    fn direct(&self, bits: A::Bits) -> Option<u32> {
        Some(self.direct.get(self.slot(bits))?.load(Ordering::Acquire))
    }

    /// The hop's number for addresses that `direct` is not for.
    #[cold]
    fn beyond(&self, bits: A::Bits) -> u32 {
        self.walk(bits, 0, self.outside.load(Ordering::Acquire), self.form)
    }

    /// The hop's number below an entry at `depth` bits.
    #[inline(always)]
    fn walk(&self, bits: A::Bits, depth: u8, entry: u32, form: Form) -> u32 {
        walk(self.nodes(), bits.skip(depth), entry, form)
    }

    /// From the first node on: what their numbers count.
    #[inline(always)]
    fn nodes(&self) -> &[AtomicU32] {
        self.words.get(self.first..).unwrap_or_default()
    }

    /// One after the other: all of it is in the nearest cache, so there is nothing to wait for.
    #[inline(never)]
    fn flat(&self, addresses: &[A], hops: &mut [u32]) {
        // Behind an acquire load all memory may be another, as far as the compiler knows: what stays is read before.
        let (nodes, direct, bits, decided) = (self.nodes(), &*self.direct, self.direct_bits, self.decided());
        for (address, hop) in addresses.iter().zip(hops) {
            *hop = match direct.get(slot(address.bits(), bits)) {
                Some(entry) => {
                    walk(nodes, address.bits().skip(decided), entry.load(Ordering::Acquire), Form::Flat)
                }
                None => self.beyond(address.bits()),
            };
        }
    }

    /// Step by step for all addresses at once. Which of them go on is not predictable, so it is not branched on.
    #[inline(always)]
    fn lanes(&self, addresses: &[A], hops: &mut [u32]) {
        let (nodes, direct, bits) = (self.nodes(), &*self.direct, self.direct_bits);
        // All waits for memory begin before the first is over.
        for address in addresses {
            wide::prefetch_at(direct, slot(address.bits(), bits));
        }
        let mut left = 0;
        for (address, hop) in addresses.iter().zip(hops.iter_mut()) {
            let entry = match direct.get(slot(address.bits(), bits)) {
                Some(entry) => entry.load(Ordering::Acquire),
                None => self.beyond(address.bits()),
            };
            *hop = entry;
            left += prefetch_node(nodes, entry);
        }
        let mut depth = self.decided();
        while left > FEW {
            left = 0;
            for (address, hop) in addresses.iter().zip(hops.iter_mut()) {
                let entry = *hop;
                let next = step(nodes, entry, address.bits().six(depth), Form::Map);
                let entry = if entry & NODE == 0 { entry } else { next };
                *hop = entry;
                left += prefetch_node(nodes, entry);
            }
            depth += STEP;
        }
        if left > 0 {
            for (address, hop) in addresses.iter().zip(hops.iter_mut()) {
                *hop = self.walk(address.bits(), depth, *hop, Form::Map);
            }
        }
    }
}

/// The hop's number below an entry, by the bits that are left.
#[inline(always)]
fn walk<B: Bits>(nodes: &[AtomicU32], mut rest: B, mut entry: u32, form: Form) -> u32 {
    // The nodes come to an end before the bits do.
    while entry & NODE != 0 {
        entry = step(nodes, entry, rest.six(0), form);
        rest = rest.skip(STEP);
    }
    entry
}

/// A node's entry for `value`. Without a branch on what is found.
#[inline(always)]
fn step(nodes: &[AtomicU32], node: u32, value: usize, form: Form) -> u32 {
    let entry = match form {
        Form::Flat => nodes.get((node & !NODE) as usize + value),
        Form::Map => {
            self::node(nodes, node).and_then(|node| node.get(MAP - 1 + upto(map(node), value) as usize))
        }
    };
    entry.map_or(NO_HOP, |entry| entry.load(Ordering::Acquire))
}

/// A node, and what else there is behind it.
#[inline(always)]
fn node(nodes: &[AtomicU32], node: u32) -> Option<&[AtomicU32; LONGEST]> {
    let place = (node & !NODE) as usize;
    nodes.get(place..place + LONGEST)?.first_chunk()
}

/// Asks the cache for a node, and for something that is there already if the entry leads to none; whether it does, as a
/// number.
#[inline(always)]
fn prefetch_node(nodes: &[AtomicU32], entry: u32) -> u32 {
    wide::prefetch_at(nodes, (entry & !NODE) as usize);
    entry >> 31
}

/// A node's map.
#[inline(always)]
fn map(node: &[AtomicU32; LONGEST]) -> u64 {
    let [low, high, ..] = node;
    u64::from(high.load(Ordering::Relaxed)) << 32 | u64::from(low.load(Ordering::Relaxed))
}

/// A look-up from an entry on.
struct Walk<'a, A: Address, R>(&'a Fib<A, R>, A::Bits, u8, u32);

impl<A: Address, R> Work for Walk<'_, A, R> {
    type Result = u32;
    #[inline(always)]
    fn run(self) -> u32 {
        self.0.walk(self.1, self.2, self.3, Form::Map)
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
