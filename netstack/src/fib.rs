//! Longest-prefix match: the address space cut into intervals, each with the route of its longest prefix.
//!
//! Built once by the control side, then only read, from softint context. A look-up is one load from an index
//! over the leading bits and a binary search among the intervals that share them.

use crate::address::{Address, Bits, Prefix};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

/// Bits of the index at most.
const INDEX_BITS: u8 = 16;
/// Route number of an interval without a route.
const NONE: u32 = u32::MAX;

/// A map from prefixes to `R`, asked for the longest that contains an address.
#[derive(Clone, Debug)]
pub struct Fib<A: Address, R> {
    /// `[I]` Lowest address of each interval, ascending; the first is zero.
    starts: Box<[A::Bits]>,
    /// `[I]` Number of each interval's route.
    owners: Box<[u32]>,
    /// `[I]` For each value of the leading bits the interval that its lowest address is in, then the last.
    index: Box<[u32]>,
    /// `[I]` How many leading bits that are.
    index_bits: u8,
    /// `[I]`
    routes: Box<[(Prefix<A>, R)]>,
}

impl<A: Address, R> Fib<A, R> {
    /// A table of `routes`. Of several with the same prefix the first counts.
    pub fn new(mut routes: Vec<(Prefix<A>, R)>) -> Self {
        // Stable: equal prefixes stay in order. A prefix comes before those within it.
        routes.sort_by_key(|(prefix, _)| (prefix.first(), prefix.len()));
        routes.dedup_by_key(|(prefix, _)| *prefix);
        let (starts, owners) = intervals(&routes);
        let index_bits = (starts.len().ilog2() as u8 + 2).min(INDEX_BITS);
        let index = index(&starts, index_bits);
        Self { starts: starts.into(), owners: owners.into(), index, index_bits, routes: routes.into() }
    }

    /// The route of the longest prefix that contains `address`.
    #[inline]
    pub fn lookup(&self, address: A) -> Option<&R> {
        let bits = address.bits();
        let block = bits.top(self.index_bits);
        let mut base = *self.index.get(block)? as usize;
        // The interval that begins the next block may begin exactly there: it counts as a candidate, never wins.
        let mut candidates = *self.index.get(block + 1)? as usize - base + 1;
        while candidates > 1 {
            let half = candidates / 2;
            let middle = base + half;
            if self.starts.get(middle).is_some_and(|start| *start <= bits) {
                base = middle;
            }
            candidates -= half;
        }
        let owner = *self.owners.get(base)?;
        self.routes.get(owner as usize).map(|(_, route)| route)
    }

    /// All prefixes with their routes, ordered by address, then length.
    pub fn iter(&self) -> impl Iterator<Item = &(Prefix<A>, R)> {
        self.routes.iter()
    }

    /// Routes in the table.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

/// Starts and owners of the intervals that sorted `routes` cut the address space into.
fn intervals<A: Address, R>(routes: &[(Prefix<A>, R)]) -> (Vec<A::Bits>, Vec<u32>) {
    let mut starts = vec![A::Bits::ZERO];
    let mut owners = vec![NONE];
    let mut emit = |start: A::Bits, owner: u32| {
        if starts.last() == Some(&start) {
            owners.pop();
            starts.pop();
        }
        if owners.last() != Some(&owner) {
            starts.push(start);
            owners.push(owner);
        }
    };
    // Prefixes that contain the current address, the longest last.
    let mut open: Vec<(A::Bits, u32)> = Vec::new();
    let close = |open: &mut Vec<(A::Bits, u32)>, emit: &mut dyn FnMut(A::Bits, u32)| {
        if let Some(after) = open.pop().and_then(|(last, _)| last.next()) {
            emit(after, open.last().map_or(NONE, |&(_, owner)| owner));
        }
    };
    for (number, (prefix, _)) in (0..NONE).zip(routes) {
        while open.last().is_some_and(|&(last, _)| last < prefix.first().bits()) {
            close(&mut open, &mut emit);
        }
        emit(prefix.first().bits(), number);
        open.push((prefix.last().bits(), number));
    }
    while !open.is_empty() {
        close(&mut open, &mut emit);
    }
    (starts, owners)
}

fn index<B: Bits>(starts: &[B], bits: u8) -> Box<[u32]> {
    let blocks = 1usize << bits;
    let last = starts.len() as u32 - 1;
    let mut index = Vec::with_capacity(blocks + 1);
    let mut interval = 0;
    for block in 0..blocks {
        // Forward to the last interval that begins at or below the block's lowest address.
        while let Some(next) = starts.get(interval as usize + 1)
            && (next.top(bits) < block || next.top(bits) == block && next.and(B::mask(bits)) == *next)
        {
            interval += 1;
        }
        index.push(interval);
    }
    index.push(last);
    index.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use proptest::prelude::*;

    fn scan<A: Address, R>(routes: &[(Prefix<A>, R)], address: A) -> Option<&R> {
        let matching = routes.iter().filter(|(prefix, _)| prefix.contains(address));
        // Of equally long ones the first.
        matching.rev().max_by_key(|(prefix, _)| prefix.len()).map(|(_, route)| route)
    }

    fn net(text: &str) -> Prefix<Ipv4Addr> {
        let (address, len) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), len.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_longest_prefix_wins() {
        let fib = Fib::new(vec![
            (net("0.0.0.0/0"), 'd'),
            (net("10.0.0.0/8"), 'a'),
            (net("10.1.0.0/16"), 'b'),
            (net("10.1.2.3/32"), 'c'),
            (net("255.255.255.255/32"), 'e'),
            (net("10.0.0.0/8"), 'x'),
        ]);
        for (address, route) in [
            ([9, 255, 255, 255], 'd'),
            ([10, 0, 0, 0], 'a'),
            ([10, 1, 2, 2], 'b'),
            ([10, 1, 2, 3], 'c'),
            ([10, 1, 2, 4], 'b'),
            ([10, 2, 0, 0], 'a'),
            ([11, 0, 0, 0], 'd'),
            ([255, 255, 255, 254], 'd'),
            ([255, 255, 255, 255], 'e'),
        ] {
            assert_eq!(fib.lookup(Ipv4Addr::from(address)), Some(&route), "{address:?}");
        }
        assert_eq!(fib.len(), 5);
    }

    #[test]
    fn an_empty_table_has_no_route() {
        let fib = Fib::<Ipv6Addr, ()>::new(vec![]);
        assert_eq!(fib.lookup(Ipv6Addr::LOCALHOST), None);
        assert!(fib.is_empty());
    }

    /// Few leading bits, so that prefixes nest and touch.
    fn clustered4() -> impl Strategy<Value = u32> {
        (0u32..4, 0u32..4, any::<u16>(), 0u32..4)
            .prop_map(|(a, b, c, d)| a << 30 | b << 22 | u32::from(c) << 4 | d)
    }

    fn clustered6() -> impl Strategy<Value = u128> {
        (0u128..3, any::<u32>(), 0u128..3).prop_map(|(a, b, c)| a << 125 | u128::from(b) << 48 | c)
    }

    proptest! {
        #[test]
        fn ipv4_look_up_is_a_linear_scan(
            routes in prop::collection::vec((clustered4(), 0u8..=32), 0..200),
            asked in prop::collection::vec(clustered4(), 100),
        ) {
            let routes: Vec<_> = routes.into_iter().enumerate()
                .filter_map(|(n, (bits, len))| Some((Prefix::new(Ipv4Addr::from_bits(bits), len)?, n)))
                .collect();
            let fib = Fib::new(routes.clone());
            let edges = routes.iter().flat_map(|(p, _)| [p.first().to_bits(), p.last().to_bits(),
                p.first().to_bits().wrapping_sub(1), p.last().to_bits().wrapping_add(1)]);
            for bits in asked.into_iter().chain(edges) {
                let address = Ipv4Addr::from_bits(bits);
                prop_assert_eq!(fib.lookup(address), scan(&routes, address));
            }
        }

        #[test]
        fn ipv6_look_up_is_a_linear_scan(
            routes in prop::collection::vec((clustered6(), 0u8..=128), 0..100),
            asked in prop::collection::vec(clustered6(), 100),
        ) {
            let routes: Vec<_> = routes.into_iter().enumerate()
                .filter_map(|(n, (bits, len))| Some((Prefix::new(Ipv6Addr::from_bits(bits), len)?, n)))
                .collect();
            let fib = Fib::new(routes.clone());
            let edges = routes.iter().flat_map(|(p, _)| [p.first().to_bits(), p.last().to_bits(),
                p.first().to_bits().wrapping_sub(1), p.last().to_bits().wrapping_add(1)]);
            for bits in asked.into_iter().chain(edges) {
                let address = Ipv6Addr::from_bits(bits);
                prop_assert_eq!(fib.lookup(address), scan(&routes, address));
            }
        }
    }
}
