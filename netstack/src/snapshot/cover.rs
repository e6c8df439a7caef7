//! Which routes lead to next hops that are no neighbours. At task level.

use crate::address::{Address, Bits, Prefix};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;
use weir_sync::sort::sort_by_key;

/// How many next hops may be reached through each other, one after the other.
pub const MAX_DEPTH: usize = 8;

/// Why no route will ever lead to a next hop, whatever interfaces are up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// None covers it.
    Unreached,
    /// The routes that do have it as their own next hop, or lead to one that is reached through it.
    Loop,
    /// More than [`MAX_DEPTH`] next hops lie between it and a neighbour.
    Depth,
}

/// All routes there can be, as next hops see them.
#[derive(Debug)]
pub struct Cover<A> {
    /// In order. `None`: leads to a neighbour or nowhere; else a next hop that other routes lead to.
    routes: Vec<(Prefix<A>, Option<A>)>,
}

/// How far a next hop has been looked at.
#[derive(Clone, Copy)]
enum Seen {
    /// It is on the way to itself.
    Open,
    /// So many next hops from a neighbour.
    Far(usize),
}

/// Further from a neighbour than [`MAX_DEPTH`].
struct TooFar;

impl<A: Address> Cover<A> {
    /// From connected networks and all routes, whether their interfaces are up or not. A route with several next hops is
    /// here several times.
    pub fn new(mut routes: Vec<(Prefix<A>, Option<A>)>) -> Self {
        sort_by_key(&mut routes, |(prefix, next)| (key(prefix), *next));
        routes.dedup();
        Self { routes }
    }

    /// What is wrong with next hops. One that is reached through a wrong one is not wrong itself.
    pub fn flaws(&self) -> BTreeMap<A, Flaw> {
        let (mut seen, mut flaws) = (BTreeMap::new(), BTreeMap::new());
        let mut way = Vec::with_capacity(MAX_DEPTH);
        for next in self.routes.iter().filter_map(|(_, next)| *next) {
            if self.visit(next, &mut way, &mut seen, &mut flaws).is_err() {
                flaws.insert(next, Flaw::Depth);
            }
            for open in way.drain(..) {
                seen.remove(&open);
            }
        }
        flaws
    }

    /// How far `next` is from a neighbour. `way` is what it is looked at for.
    fn visit(
        &self,
        next: A,
        way: &mut Vec<A>,
        seen: &mut BTreeMap<A, Seen>,
        flaws: &mut BTreeMap<A, Flaw>,
    ) -> Result<usize, TooFar> {
        match seen.get(&next) {
            Some(Seen::Far(depth)) => return Ok(*depth),
            Some(Seen::Open) => {
                let within = way.iter().skip_while(|one| **one != next);
                flaws.extend(within.map(|one| (*one, Flaw::Loop)));
                return Ok(0);
            }
            None if way.len() == MAX_DEPTH => return Err(TooFar),
            None => {}
        }
        seen.insert(next, Seen::Open);
        way.push(next);
        let mut depth = 0;
        match covering(&self.routes, |(prefix, _)| prefix, next, A::Bits::WIDTH) {
            None => _ = flaws.insert(next, Flaw::Unreached),
            Some(range) => {
                for (_, behind) in self.routes.get(range).unwrap_or_default() {
                    if let Some(behind) = *behind {
                        depth = depth.max(self.visit(behind, way, seen, flaws)?);
                    }
                }
            }
        }
        way.pop();
        depth += 1;
        if depth > MAX_DEPTH {
            flaws.insert(next, Flaw::Depth);
        }
        seen.insert(next, Seen::Far(depth));
        Ok(depth)
    }
}

/// What routes are in order of: a prefix comes before those within it.
pub(super) fn key<A: Address>(prefix: &Prefix<A>) -> (A, u8) {
    (prefix.first(), prefix.len())
}

/// Of sorted `routes` those with the longest prefix of at most `len` bits that contains `address`.
pub(super) fn covering<A: Address, T>(
    routes: &[T],
    prefix: impl Fn(&T) -> &Prefix<A>,
    address: A,
    mut len: u8,
) -> Option<Range<usize>> {
    loop {
        let wanted = Prefix::new(address, len)?;
        let after = routes.partition_point(|route| key(prefix(route)) <= key(&wanted));
        let found = prefix(routes.get(after.checked_sub(1)?)?);
        if found.contains(address) {
            let first = routes.partition_point(|route| key(prefix(route)) < key(found));
            return Some(first..after);
        }
        // What contains the address begins before `found`, and so contains that too.
        len = found.first().bits().common(address.bits());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;
    use proptest::prelude::*;

    fn net(text: &str) -> Prefix<Ipv4Addr> {
        let (address, len) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), len.parse().unwrap()).unwrap()
    }

    fn a(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check(routes: &[(&str, &str)], expected: &[(&str, Flaw)]) {
        let next = |text: &str| (!text.is_empty()).then(|| a(text));
        let cover = Cover::new(routes.iter().map(|(to, via)| (net(to), next(via))).collect());
        let expected: BTreeMap<_, _> = expected.iter().map(|(next, flaw)| (a(next), *flaw)).collect();
        assert_eq!(cover.flaws(), expected, "{routes:?}");
    }

    #[test]
    fn a_next_hop_is_reached_through_other_routes() {
        check(&[("10.0.0.0/8", ""), ("0.0.0.0/0", "10.1.2.3")], &[]);
        check(&[("10.0.0.0/8", ""), ("20.0.0.0/8", "10.1.2.3"), ("0.0.0.0/0", "20.1.2.3")], &[]);
        check(&[("10.0.0.0/8", ""), ("20.0.0.0/8", "30.1.2.3")], &[("30.1.2.3", Flaw::Unreached)]);
    }

    #[test]
    fn loops_are_of_any_length() {
        check(&[("0.0.0.0/0", "10.1.2.3")], &[("10.1.2.3", Flaw::Loop)]);
        check(
            &[
                ("10.0.0.0/8", "20.0.0.1"),
                ("20.0.0.0/8", "30.0.0.1"),
                ("30.0.0.0/8", "10.0.0.1"),
                ("40.0.0.0/8", "10.0.0.2"),
            ],
            &[("10.0.0.1", Flaw::Loop), ("20.0.0.1", Flaw::Loop), ("30.0.0.1", Flaw::Loop)],
        );
        // A way out by another next hop, or another metric, does not mend it.
        check(&[("10.0.0.0/8", ""), ("10.0.0.0/8", "10.0.0.1")], &[("10.0.0.1", Flaw::Loop)]);
    }

    #[test]
    fn chains_are_bounded() {
        let chain = |links: u8| {
            let via = |n: u8| (n > 0).then(|| Ipv4Addr::new(10, n - 1, 0, 1));
            Cover::new((0..=links).map(|n| (net(&std::format!("10.{n}.0.0/16")), via(n))).collect()).flaws()
        };
        assert!(chain(MAX_DEPTH as u8).is_empty());
        let flaws = chain(MAX_DEPTH as u8 + 2);
        let far = [8, 9].map(|n| (Ipv4Addr::new(10, n, 0, 1), Flaw::Depth));
        assert_eq!(flaws, BTreeMap::from(far));
        assert_eq!(chain(200).len(), 192);
    }

    proptest! {
        #[test]
        fn covering_routes_are_those_of_a_linear_scan(
            routes in prop::collection::vec((0u32..64, 24u8..=32), 0..40),
            asked in 0u32..64,
            most in 24u8..=32,
        ) {
            let mut routes: Vec<_> =
                routes.into_iter().map(|(bits, len)| Prefix::new(Ipv4Addr::from_bits(bits), len).unwrap()).collect();
            routes.sort_by_key(key);
            let asked = Ipv4Addr::from_bits(asked);
            let longest = routes.iter().filter(|p| p.len() <= most && p.contains(asked)).max_by_key(|p| p.len());
            let expected: Vec<_> = routes.iter().filter(|p| Some(*p) == longest).collect();
            let found = covering(&routes, |prefix| prefix, asked, most).unwrap_or_default();
            prop_assert_eq!(routes[found].iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn nothing_covers_in_an_empty_table() {
        assert_eq!(covering(&[], |prefix: &Prefix<Ipv4Addr>| prefix, a("1.2.3.4"), 32), None);
    }
}
