//! Routes with several next hops, and which of them a flow takes: weighted rendezvous hashing (Thaler and Ravishankar,
//! IEEE/ACM Transactions on Networking 6(1), 1998; RFC 2991 §4.4), worked out for each bucket when a snapshot is built.
//!
//! A member's draws depend on itself alone. So one that leaves gives up its own buckets and no others, one that comes
//! takes just its share, and the order in which they are listed does not matter.

use super::Route;
use crate::address::{Address, Bits};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use weir_netif::IfIndex;
use weir_sync::sort::sort;

/// Buckets that the flows of a group fall into. Of two members with the same weight each gets half of them, give or take
/// 1.6 % (one standard deviation of the binomial distribution).
pub const BUCKETS: usize = 1 << BUCKET_BITS;
const BUCKET_BITS: u32 = 10;
/// Next hops that one route can have.
pub const MAX_MEMBERS: usize = 64;
/// Different lists of next hops that the routes of one family can have; a group takes two KiB.
pub const MAX_GROUPS: usize = 4096;
/// Groups there can be: what gateways behind groups of links lead to takes some more.
const ROOM: usize = 2 * MAX_GROUPS;

/// A group as the packet path reads it.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Each bucket's hop, by its number in the table.
    buckets: [u16; BUCKETS],
    /// All hops it can be.
    pub(super) hops: Box<[u16]>,
}

impl Group {
    /// The hop for packets with this flow hash.
    #[inline]
    pub(super) fn member(&self, flow: u32) -> u32 {
        // The symmetric hash has 16 bits twice, and devices choose queues by the lowest: the product's highest bits depend
        // on all of them.
        let bucket = flow.wrapping_mul(0x9e37_79b1) >> (u32::BITS - BUCKET_BITS);
        self.buckets.get(bucket as usize).copied().unwrap_or_default().into()
    }
}

/// What a member is told from others by, across snapshots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Identity<A> {
    /// The next router; `None`: hosts on the link itself.
    pub(super) gateway: Option<A>,
    /// The link, where the gateway does not tell it.
    pub(super) interface: Option<IfIndex>,
}

impl<A: Address> Identity<A> {
    fn seed(&self) -> u64 {
        let bits = self.gateway.map_or(A::Bits::ZERO, Address::bits);
        let place = self.interface.map_or(0, |interface| u64::from(interface.0) + 1);
        mix(bits.hash(mix(place << 1 | u64::from(self.gateway.is_some()))))
    }
}

/// A member that is there, and where it leads: to a neighbour, or to a group of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Member<A> {
    pub(super) identity: Identity<A>,
    pub(super) weight: u8,
    pub(super) route: Route<A>,
}

/// Makes the groups of one table. Its hops have the first numbers of that table.
#[derive(Debug)]
pub(super) struct Groups<A> {
    /// By number, less one.
    hops: Vec<Route<A>>,
    numbers: BTreeMap<Route<A>, u16>,
    groups: Vec<Group>,
    /// Whose each group is.
    lists: Vec<Vec<Member<A>>>,
    known: BTreeMap<Vec<Member<A>>, Route<A>>,
}

impl<A: Address> Groups<A> {
    pub(super) fn new() -> Self {
        Self {
            hops: Vec::new(),
            numbers: BTreeMap::new(),
            groups: Vec::new(),
            lists: Vec::new(),
            known: BTreeMap::new(),
        }
    }

    /// Where a route with these members leads; `None` if there are none. The same members make the same group. Where there
    /// is no room for another one the first member gets all flows.
    pub(super) fn route(&mut self, mut members: Vec<Member<A>>) -> Option<Route<A>> {
        sort(&mut members);
        if let Some(route) = self.known.get(&members) {
            return Some(*route);
        }
        let (first, others) = members.split_first()?;
        // Whoever all members lead to needs no group.
        let spread = others.iter().any(|other| other.route != first.route);
        let route = spread.then(|| self.group(&members)).flatten().unwrap_or(first.route);
        self.known.insert(members, route);
        Some(route)
    }

    /// Where packets for `gateway` go if that is reached by `route`.
    pub(super) fn toward(&mut self, route: Route<A>, gateway: A) -> Route<A> {
        let list = match route {
            Route::Connected { interface } => return Route::Gateway { interface, via: gateway },
            Route::Multipath { group } => self.lists.get(group as usize).cloned().unwrap_or_default(),
            _ => return route,
        };
        let mut members = list.clone();
        for member in &mut members {
            member.route = self.toward(member.route, gateway);
        }
        if members == list { route } else { self.route(members).unwrap_or(route) }
    }

    fn group(&mut self, members: &[Member<A>]) -> Option<Route<A>> {
        if self.groups.len() == ROOM {
            return None;
        }
        let mut draws = Vec::with_capacity(members.len());
        let mut hops = Vec::new();
        for member in members {
            let number = match member.route {
                Route::Multipath { group } => {
                    hops.extend(self.groups.get(group as usize).into_iter().flat_map(|group| &*group.hops));
                    Err(group)
                }
                route => {
                    let number = self.number(route)?;
                    hops.push(number);
                    Ok(number)
                }
            };
            draws.push((member.identity.seed(), member.weight, number));
        }
        sort(&mut hops);
        hops.dedup();
        let buckets = core::array::from_fn(|bucket| {
            // Of floats above zero the bits are in order too.
            let nearest =
                draws.iter().min_by_key(|&&(seed, weight, _)| distance(seed, weight, bucket).to_bits());
            match nearest {
                Some((_, _, Ok(number))) => *number,
                // A group behind a member shares out what falls to that member by draws of its own.
                Some(&(_, _, Err(group))) => {
                    let buckets = self.groups.get(group as usize).map(|group| &group.buckets);
                    buckets.and_then(|buckets| buckets.get(bucket)).copied().unwrap_or_default()
                }
                None => 0,
            }
        });
        self.lists.push(members.to_vec());
        self.groups.push(Group { buckets, hops: hops.into() });
        Some(Route::Multipath { group: self.groups.len() as u32 - 1 })
    }

    fn number(&mut self, hop: Route<A>) -> Option<u16> {
        if let Some(number) = self.numbers.get(&hop) {
            return Some(*number);
        }
        let number = u16::try_from(self.hops.len() + 1).ok()?;
        self.hops.push(hop);
        self.numbers.insert(hop, number);
        Some(number)
    }

    /// The hops in the order of their numbers, from 1 on, and the groups.
    pub(super) fn finish(self) -> (Vec<Route<A>>, Vec<Group>) {
        (self.hops, self.groups)
    }
}

/// How far a member is from a bucket; the nearest one gets it. Exponentially distributed with the weight as rate, so it
/// is the nearest with the chance that its weight is of all. One draw, whatever the weight: all groups that there can be
/// take some seconds.
fn distance(seed: u64, weight: u8, bucket: usize) -> f64 {
    #[cfg(test)]
    tests::DRAWS.set(tests::DRAWS.get() + 1);
    let draw = mix(seed.wrapping_add((bucket as u64).wrapping_mul(GOLDEN)));
    // Between 0 and 1, and never either: 52 bits and a half are exact.
    let uniform = ((draw >> 12) as f64 + 0.5) * (1.0 / (1_u64 << 52) as f64);
    -libm::log(uniform) / f64::from(weight)
}

/// Odd, with well spread bits: 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finisher of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
fn mix(bits: u64) -> u64 {
    let bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests;
