//! Routing tables as large as the Internet's, from a seed, with its share of prefix lengths.

use std::collections::HashSet;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use weir_netstack::address::{Address, Kind, Prefix, kind4, kind6};

/// Next hops the routes are spread over.
pub(crate) const HOPS: u32 = 64;
/// Addresses that are looked up.
pub(crate) const ADDRESSES: usize = 1 << 20;
pub(crate) const SEED: u64 = 20_261_121;

/// Routes in 100 000 of each length, as route collectors saw the IPv4 table in 2024; lengths over 24 are a provider's own.
const LENGTHS4: [(u8, u32); 20] = [
    (8, 2),
    (9, 1),
    (10, 4),
    (11, 10),
    (12, 30),
    (13, 60),
    (14, 120),
    (15, 210),
    (16, 1360),
    (17, 840),
    (18, 1400),
    (19, 2500),
    (20, 4500),
    (21, 5400),
    (22, 11_200),
    (23, 10_300),
    (24, 61_563),
    (25, 100),
    (28, 100),
    (32, 300),
];
/// The same of the IPv6 table.
const LENGTHS6: [(u8, u32); 16] = [
    (20, 5),
    (24, 15),
    (28, 80),
    (29, 2600),
    (30, 350),
    (32, 11_500),
    (33, 1900),
    (34, 1500),
    (36, 4000),
    (38, 1300),
    (40, 8500),
    (42, 1400),
    (44, 9000),
    (46, 3000),
    (48, 54_650),
    (64, 200),
];
/// What the registries hand addresses out from.
const BLOCKS6: [(u128, u8); 6] =
    [(0x2001, 16), (0x2400, 12), (0x2600, 12), (0x2800, 12), (0x2a00, 12), (0x2c00, 12)];

/// Sebastiano Vigna's SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
}

fn length(lengths: &[(u8, u32)], random: &mut Random) -> u8 {
    let mut n = random.below(lengths.iter().map(|(_, share)| u64::from(*share)).sum()) as u32;
    for &(len, share) in lengths {
        match n.checked_sub(share) {
            Some(rest) => n = rest,
            None => return len,
        }
    }
    unreachable!("below the sum")
}

/// A unicast address.
fn unicast4(random: &mut Random) -> Ipv4Addr {
    let [a, rest @ ..] = random.next().to_be_bytes();
    Ipv4Addr::new(1 + (u32::from(a) * 223 / 256) as u8, rest[0], rest[1], rest[2])
}

fn distinct<A: Address + std::hash::Hash>(
    count: usize,
    random: &mut Random,
    mut prefix: impl FnMut(&mut Random) -> Prefix<A>,
) -> Vec<(Prefix<A>, u32)> {
    let mut seen = HashSet::new();
    let mut routes = Vec::with_capacity(count);
    while routes.len() < count {
        let prefix = prefix(random);
        if seen.insert(prefix) {
            routes.push((prefix, random.below(HOPS.into()) as u32));
        }
    }
    routes
}

/// Spread evenly over the unicast addresses: a table has fewer neighbours that share memory than the Internet's.
pub(crate) fn ipv4(count: usize, seed: u64) -> Vec<(Prefix<Ipv4Addr>, u32)> {
    distinct(count, &mut Random(seed), |random| {
        Prefix::new(unicast4(random), length(&LENGTHS4, random)).unwrap()
    })
}

/// Within the registries' blocks: an eighth as many holders of a /32 as routes, whose addresses the longer ones are.
pub(crate) fn ipv6(count: usize, seed: u64) -> Vec<(Prefix<Ipv6Addr>, u32)> {
    let mut random = Random(seed);
    let holders: Vec<u32> = (0..count / 8 + 1)
        .map(|_| {
            let (first, len) = BLOCKS6[random.below(BLOCKS6.len() as u64) as usize];
            (first as u32) << 16 | random.next() as u32 & u32::MAX.checked_shr(len.into()).unwrap_or(0)
        })
        .collect();
    distinct(count, &mut random, |random| {
        let holder = u128::from(holders[random.below(holders.len() as u64) as usize]) << 96;
        // The higher bits of what a holder has are used first.
        let own = u128::from(random.next() as u32 & random.next() as u32) << 64;
        Prefix::new(Ipv6Addr::from_bits(holder | own), length(&LENGTHS6, random)).unwrap()
    })
}

/// Addresses within routes, each as likely.
pub(crate) fn routed4(routes: &[(Prefix<Ipv4Addr>, u32)], count: usize, seed: u64) -> Vec<Ipv4Addr> {
    let mut random = Random(seed);
    let mut one = || {
        let (prefix, _) = routes[random.below(routes.len() as u64) as usize];
        let host = (random.next() as u32).checked_shr(prefix.len().into()).unwrap_or(0);
        Ipv4Addr::from_bits(prefix.first().to_bits() | host)
    };
    (0..count).map(|_| one()).collect()
}

/// Addresses within routes, each as likely.
pub(crate) fn routed6(routes: &[(Prefix<Ipv6Addr>, u32)], count: usize, seed: u64) -> Vec<Ipv6Addr> {
    let mut random = Random(seed);
    let mut one = || {
        let (prefix, _) = routes[random.below(routes.len() as u64) as usize];
        let host = u128::from(random.next()) << 64 | u128::from(random.next());
        Ipv6Addr::from_bits(prefix.first().to_bits() | host.checked_shr(prefix.len().into()).unwrap_or(0))
    };
    (0..count).map(|_| one()).collect()
}

/// Destinations of packets that a router with the addresses of [`crate::forward`] forwards.
pub(crate) fn forwarded4(routes: &[(Prefix<Ipv4Addr>, u32)]) -> Vec<Ipv4Addr> {
    let forwarded = |to: &Ipv4Addr| kind4(*to) == Kind::Unicast && ![10, 192].contains(&to.octets()[0]);
    let many = routed4(routes, 2 * ADDRESSES, SEED + 3);
    many.into_iter().filter(forwarded).take(ADDRESSES).collect()
}

/// As [`forwarded4`].
pub(crate) fn forwarded6(routes: &[(Prefix<Ipv6Addr>, u32)]) -> Vec<Ipv6Addr> {
    let forwarded = |to: &Ipv6Addr| kind6(*to) == Kind::Unicast && to.segments()[..2] != [0x2001, 0xdb8];
    let many = routed6(routes, 2 * ADDRESSES, SEED + 3);
    many.into_iter().filter(forwarded).take(ADDRESSES).collect()
}

/// Writes both as `peers/peer.h` and `dpdk-test-fib` read them; hops count from 1.
pub(crate) fn export<A: Address>(folder: &Path, routes: &[(Prefix<A>, u32)], addresses: &[A]) {
    let (mut list, mut lines) = (String::new(), String::new());
    for (prefix, hop) in routes {
        writeln!(list, "{prefix} {}", hop + 1).expect("memory");
    }
    for address in addresses {
        writeln!(lines, "{address}").expect("memory");
    }
    for (name, text) in [("routes", list), ("addresses", lines)] {
        std::fs::write(folder.join(name), text).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
