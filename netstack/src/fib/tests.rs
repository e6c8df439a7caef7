use super::*;
use core::net::{Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::{vec, vec::Vec};
use weir_sync::{Published, cpu};

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
}

#[test]
fn an_empty_table_has_no_route() {
    let fib = Fib::<Ipv6Addr, u8>::new(vec![]);
    assert_eq!(fib.lookup(Ipv6Addr::LOCALHOST), None);
    let writer = Writer::<Ipv4Addr, u8>::new(vec![]);
    assert!(writer.is_empty());
    assert_eq!(writer.fib().lookup(Ipv4Addr::LOCALHOST), None);
}

#[test]
fn a_small_table_takes_little_memory() {
    let routes = (0..1000u32).map(|n| (Prefix::new(Ipv4Addr::from_bits(n << 14), 24).unwrap(), n % 8));
    let fib = Fib::new(routes.collect());
    assert!(fib.memory() < 128 << 10, "{} bytes", fib.memory());
}

/// Few leading bits, so that prefixes nest and touch.
fn clustered4() -> impl Strategy<Value = u32> {
    (0u32..4, 0u32..4, any::<u16>(), 0u32..4)
        .prop_map(|(a, b, c, d)| a << 30 | b << 22 | u32::from(c) << 4 | d)
}

fn clustered6() -> impl Strategy<Value = u128> {
    (0u128..5, any::<u32>(), 0u128..3).prop_map(|(a, b, c)| a << 124 | u128::from(b) << 48 | c)
}

/// Both ends of each prefix and the addresses beside them, and `asked`.
fn interesting<A: Address>(prefixes: impl Iterator<Item = Prefix<A>>, asked: Vec<A::Bits>) -> Vec<A> {
    // One less: the lowest set bit gives way to all those below it.
    let before = |bits: A::Bits| {
        let lowest = (1..=A::Bits::WIDTH).find(|&len| bits.and(A::Bits::mask(len)) == bits)?;
        (bits != A::Bits::ZERO).then(|| bits.and(A::Bits::mask(lowest - 1)).fill(A::Bits::mask(lowest)))
    };
    let edges = prefixes.flat_map(|p| {
        let (first, last) = (p.first().bits(), p.last().bits());
        [Some(first), Some(last), before(first), last.next()]
    });
    edges.flatten().chain(asked).map(A::with_bits).collect()
}

/// All ways to look up agree with a linear scan.
fn agrees<A: Address>(fib: &Fib<A, usize>, routes: &[(Prefix<A>, usize)], asked: &[A]) {
    let mut hops = vec![u32::MAX; asked.len()];
    fib.lookup_batch(asked, &mut hops);
    for (&address, &hop) in asked.iter().zip(&hops) {
        let expected = scan(routes, address);
        assert_eq!(fib.lookup(address), expected, "{address} among {routes:?}");
        assert_eq!(fib.hop(hop), expected, "{address} in a batch, among {routes:?}");
    }
}

fn routes<A: Address>(wishes: Vec<(A::Bits, u8)>) -> Vec<(Prefix<A>, usize)> {
    let prefixes = wishes.into_iter().enumerate();
    prefixes.filter_map(|(n, (bits, len))| Some((Prefix::new(A::with_bits(bits), len)?, n % 7))).collect()
}

/// Insertions, replacements and removals one by one: at any time as a linear scan, and the same as a new table.
fn follows_changes<A: Address>(
    start: Vec<(A::Bits, u8)>,
    changes: Vec<(A::Bits, u8, usize)>,
    asked: &[A::Bits],
    (direct_bits, spare): (u8, usize),
) {
    let mut cpu = cpu::claim_any().unwrap();
    let start = routes::<A>(start);
    let mut model = BTreeMap::new();
    start.iter().for_each(|&(prefix, hop)| _ = model.entry(prefix).or_insert(hop));
    let mut writer = Writer::with(start, direct_bits, spare);
    for (n, &(bits, len, hop)) in changes.iter().enumerate() {
        // Every third removes one that is there.
        let known = (n % 3 == 2).then(|| model.keys().nth(hop % model.len().max(1)).copied()).flatten();
        let prefix = known.or_else(|| Prefix::new(A::with_bits(bits), len)).unwrap();
        if n % 3 == 2 || hop % 5 == 0 {
            let removed = cpu.control(|cx| writer.remove(cx, prefix));
            assert_eq!(removed.is_some(), model.remove(&prefix).is_some());
        } else {
            _ = cpu.control(|cx| writer.insert(cx, prefix, hop));
            model.insert(prefix, hop);
        }
        assert_eq!(writer.get(prefix), model.get(&prefix));
        assert_eq!(writer.len(), model.len());
        let routes: Vec<_> = model.iter().map(|(&prefix, &hop)| (prefix, hop)).collect();
        // Everything at the end, else what the change is about.
        if n + 1 == changes.len() {
            agrees(writer.fib(), &routes, &interesting(model.keys().copied(), asked.to_vec()));
        } else {
            agrees(writer.fib(), &routes, &interesting([prefix].into_iter(), vec![]));
        }
    }
    let listed: BTreeMap<_, _> = writer.iter().map(|(prefix, hop)| (prefix, *hop)).collect();
    assert_eq!(listed, model);
}

/// Bits of the table in front, and room to change.
fn sizes() -> impl Strategy<Value = (u8, usize)> {
    (prop_oneof![Just(8), Just(12), Just(14), Just(18)], prop_oneof![Just(1024), Just(80)])
}

proptest! {
    #[test]
    fn ipv4_look_up_is_a_linear_scan(
        wishes in prop::collection::vec((clustered4(), 0u8..=32), 0..200),
        asked in prop::collection::vec(clustered4(), 100),
        (bits, _) in sizes(),
    ) {
        let routes = routes::<Ipv4Addr>(wishes);
        let asked = interesting(routes.iter().map(|(prefix, _)| *prefix), asked);
        agrees(&Fib::new(routes.clone()), &routes, &asked);
        agrees(Writer::with(routes.clone(), bits, 0).fib(), &routes, &asked);
    }

    #[test]
    fn ipv6_look_up_is_a_linear_scan(
        wishes in prop::collection::vec((clustered6(), 0u8..=128), 0..100),
        asked in prop::collection::vec(clustered6(), 100),
        (bits, _) in sizes(),
    ) {
        let routes = routes::<Ipv6Addr>(wishes);
        let asked = interesting(routes.iter().map(|(prefix, _)| *prefix), asked);
        agrees(&Fib::new(routes.clone()), &routes, &asked);
        agrees(Writer::with(routes.clone(), bits, 0).fib(), &routes, &asked);
    }

    #[test]
    fn ipv4_changes_are_as_if_the_table_were_new(
        start in prop::collection::vec((clustered4(), 0u8..=32), 0..50),
        changes in prop::collection::vec((clustered4(), 0u8..=32, 0usize..50), 1..150),
        asked in prop::collection::vec(clustered4(), 50),
        sizes in sizes(),
    ) {
        follows_changes::<Ipv4Addr>(start, changes, &asked, sizes);
    }

    #[test]
    fn ipv6_changes_are_as_if_the_table_were_new(
        start in prop::collection::vec((clustered6(), 0u8..=128), 0..50),
        changes in prop::collection::vec((clustered6(), 0u8..=128, 0usize..50), 1..100),
        asked in prop::collection::vec(clustered6(), 50),
        sizes in sizes(),
    ) {
        follows_changes::<Ipv6Addr>(start, changes, &asked, sizes);
    }
}

#[test]
fn a_table_that_is_outgrown_is_another_one_with_all_routes() {
    let mut cpu = cpu::claim_any().unwrap();
    let mut writer = Writer::<Ipv4Addr, u32>::new(vec![]);
    let (mut outgrown, mut before) = (0, writer.fib().clone());
    for n in 0..20_000u32 {
        let prefix = Prefix::new(Ipv4Addr::from_bits(n.wrapping_mul(0x9e37_79b1)), 28).unwrap();
        match cpu.control(|cx| writer.insert(cx, prefix, n)) {
            Placed::Outgrown => outgrown += 1,
            Placed::InPlace => assert!(std::sync::Arc::ptr_eq(&before, writer.fib())),
        }
        before = writer.fib().clone();
    }
    assert!((2..30).contains(&outgrown), "{outgrown} times");
    assert_eq!(writer.fib().direct_bits, 18);
    for n in 0..20_000u32 {
        assert_eq!(writer.fib().lookup(Ipv4Addr::from_bits(n.wrapping_mul(0x9e37_79b1))), Some(&n));
    }
}

/// 24 random bits.
fn draw(random: &mut u32) -> u32 {
    *random = random.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
    *random >> 8
}

/// In each six bits few values, so that routes meet and nest.
fn crowded(random: &mut u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(draw(random) & 0b1101_0000_1101_0010_0101)
}

/// Within one value of the leading bits: a route for each /18, whose hop all routes within it have.
fn crowd(spare: usize) -> Writer<Ipv4Addr, u32> {
    let start = (0..64).map(|n| (Prefix::new(Ipv4Addr::from_bits(n << 14), 18).unwrap(), n)).collect();
    Writer::with(start, 12, spare)
}

fn hop_of(address: Ipv4Addr) -> u32 {
    address.to_bits() >> 14
}

/// Adds or removes a route within one of the crowd's.
fn change(writer: &mut Writer<Ipv4Addr, u32>, cx: &weir_sync::Control, random: &mut u32) -> Placed {
    let address = crowded(random);
    let within = Prefix::new(address, 19 + (draw(random) >> 16) as u8 % 14).unwrap();
    match draw(random) >> 20 & 1 {
        0 => writer.insert(cx, within, hop_of(address)),
        _ => writer.remove(cx, within).unwrap_or(Placed::InPlace),
    }
}

/// Nothing that a turn has found is used for anything else until it ends, however much changes.
#[test]
fn a_slow_reader_finds_what_was() {
    let (mut reader, mut control) = (cpu::claim_any().unwrap(), cpu::claim_any().unwrap());
    let (mut writer, mut random) = (crowd(1 << 16), 3u32);
    for _ in 0..200 {
        reader.softint(|_| {
            let fib = writer.fib().clone();
            // Half-way: a few steps at most.
            let begin = |n: u8| {
                let bits = crowded(&mut random).bits();
                let (mut entry, mut depth) = (fib.direct(bits).unwrap(), fib.decided());
                while entry & NODE != 0 && depth < fib.decided() + n % 4 * STEP {
                    entry = step(fib.nodes(), entry, bits.six(depth), Form::Map);
                    depth += STEP;
                }
                (bits, depth, entry)
            };
            let begun: Vec<_> = (0..=u8::MAX).map(begin).collect();
            for _ in 0..60 {
                let placed = control.control(|cx| change(&mut writer, cx, &mut random));
                assert_eq!(placed, Placed::InPlace);
            }
            for (bits, depth, entry) in begun {
                let number = fib.walk(bits, depth, entry, Form::Map);
                let address = Ipv4Addr::with_bits(bits);
                assert_eq!(fib.hop(number), Some(&hop_of(address)), "{address}");
            }
        });
    }
    assert!(writer.retired() > 2000, "{} nodes let go", writer.retired());
}

/// A reader sees for each address one of the routes it had since the turn began, and never one of other addresses. There is
/// little room: places go from one part of the table to another all the time.
#[test]
fn readers_see_what_was_or_what_is() {
    const CHANGES: u32 = 60_000;
    let mut writer = crowd(4096);
    let published = Published::new(std::boxed::Box::new(writer.fib().clone()));
    let (stop, looked_up) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for seed in 1..3u32 {
            let (stop, published, looked_up) = (&stop, &published, &looked_up);
            scope.spawn(move || {
                let (mut cpu, mut random) = (cpu::claim_any().unwrap(), seed);
                while !stop.load(Ordering::Relaxed) {
                    let addresses: Vec<_> = (0..256).map(|_| crowded(&mut random)).collect();
                    let mut hops = vec![0; addresses.len()];
                    cpu.softint(|cx| {
                        let fib = published.read(cx);
                        fib.lookup_batch(&addresses, &mut hops);
                        for (address, number) in addresses.iter().zip(&hops) {
                            assert_eq!(fib.hop(*number), Some(&hop_of(*address)), "{address}");
                            assert_eq!(fib.lookup(*address), Some(&hop_of(*address)), "{address} alone");
                        }
                    });
                    looked_up.fetch_add(addresses.len(), Ordering::Relaxed);
                    std::thread::yield_now();
                }
            });
        }
        let mut cpu = cpu::claim_any().unwrap();
        let (mut random, mut outgrown) = (7u32, 0);
        for n in 0..CHANGES {
            if cpu.control(|cx| change(&mut writer, cx, &mut random)) == Placed::Outgrown {
                outgrown += 1;
                cpu.control(|cx| drop(published.publish(cx, std::boxed::Box::new(writer.fib().clone()))));
            }
            if n % 1000 == 0 {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(outgrown < 20, "{outgrown} times");
    });
    assert!(looked_up.load(Ordering::Relaxed) > 1000, "the readers got no turn");
}
