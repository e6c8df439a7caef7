use super::*;
use crate::frames;
use crate::ipv6ext::upper_layer;
use crate::sim::{V4, V6, v4, v6};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;
use weir_netif::Pool;

const A: &str = "10.0.1.10";
const ROUTER: &str = "10.0.1.1";
const A6: &str = "2001:db8:1::10";
const ROUTER6: &str = "2001:db8:1::1";

/// A reassembly and what came of it.
struct Bench {
    pool: Pool,
    reassembly: Reassembly,
    timers: Timers,
    now: Instant,
    ended: Vec<Drop>,
    merged: u64,
}

impl Bench {
    fn new(limit: usize) -> Self {
        Self {
            pool: frames::pool(200),
            reassembly: Reassembly::new(limit),
            timers: Timers::new(DATAGRAMS),
            now: Instant::from_secs(1000),
            ended: Vec::new(),
            merged: 0,
        }
    }

    /// A fragment's frame arrives. Returns the datagram's frame, if it is whole.
    fn insert(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let packet = self.pool.alloc_from(frame).unwrap();
        let fragment = parse(&packet).unwrap();
        let cost = packet.segments().count() * BUFFER;
        let Self { pool, reassembly, timers, now, ended, .. } = self;
        let end = |packet, reason| {
            ended.push(reason);
            pool.free(packet);
        };
        let whole = reassembly.insert(packet, cost, &fragment, (*now, timers), end);
        assert!(self.reassembly.held <= self.reassembly.limit, "{} bytes", self.reassembly.held);
        let Whole { packet, merged, sound } = whole?;
        let bytes = frames::bytes(&packet);
        self.pool.free(packet);
        self.merged += merged;
        sound.map_err(|reason| self.ended.push(reason)).ok()?;
        Some(bytes)
    }

    /// What fragments came to an end for, and how often, since the last call.
    fn ends(&mut self) -> Vec<(Drop, usize)> {
        let ended = core::mem::take(&mut self.ended);
        let count = |reason| (reason, ended.iter().filter(|&&ended| ended == reason).count());
        Drop::ALL.iter().copied().map(count).filter(|(_, count)| *count > 0).collect()
    }

    fn finish(mut self) {
        let Self { pool, reassembly, timers, .. } = &mut self;
        reassembly.forget(timers, |_| true, |packet| pool.free(packet));
        assert_eq!((reassembly.held, reassembly.packets, timers.len()), (0, 0, 0));
        frames::assert_nothing_leaked(pool);
    }
}

fn parse(packet: &Packet) -> Result<Fragment, Flaw> {
    if packet.data()[12] == 8 {
        return Fragment::parse4(packet).map_err(|_| Flaw::Empty);
    }
    let upper = upper_layer(packet, HEADER).unwrap();
    Fragment::parse6(packet, &upper.fragment.unwrap(), &upper)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Family {
    V4,
    V6,
}

use Family::{V4 as Four, V6 as Six};

/// The fragment of `data` from `start` to `end`.
fn piece(family: Family, id: u8, data: &[u8], (start, end): (usize, usize)) -> Vec<u8> {
    part(family, id, start, &data[start..end], end < data.len())
}

fn part(family: Family, id: u8, start: usize, bytes: &[u8], more: bool) -> Vec<u8> {
    match family {
        Four => {
            let flags = (start / 8) as u16 | if more { 0x2000 } else { 0 };
            let mut frame = V4 { flags, ..v4(A, ROUTER) }.frame(0, bytes);
            frame[19] = id;
            frames::seal_ipv4(&mut frame[14..34]);
            frame
        }
        Six => {
            let [high, low] = (start as u16 | u16::from(more)).to_be_bytes();
            let bytes = [&[17, 0, high, low, 0, 0, 0, id], bytes].concat();
            V6 { next: 44, ..v6(A6, ROUTER6) }.frame(0, &bytes)
        }
    }
}

/// What the datagram would be had it come whole.
fn original(family: Family, id: u8, data: &[u8]) -> Vec<u8> {
    match family {
        Four => part(Four, id, 0, data, false),
        Six => v6(A6, ROUTER6).frame(0, data),
    }
}

fn data(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 251) as u8).collect()
}

/// Ranges of whole units that cover `len` bytes.
fn cuts(len: usize, sizes: &[usize]) -> Vec<(usize, usize)> {
    let (mut at, mut all) = (0, Vec::new());
    for size in sizes.iter().chain(core::iter::repeat(&8)) {
        let end = (at + size * 8).min(len);
        all.push((at, end));
        if end == len {
            return all;
        }
        at = end;
    }
    unreachable!()
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Four), Just(Six)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_in_any_order_makes_the_original(
        family in family(),
        len in 9usize..4000,
        sizes in prop::collection::vec(1usize..200, 0..40),
        seed: u64,
    ) {
        let data = data(len);
        let mut pieces = cuts(len, &sizes);
        prop_assume!(pieces.len() > 1 && pieces.len() <= FRAGMENTS);
        shuffle(&mut pieces, seed);
        let mut bench = Bench::new(BYTES);
        for (nth, &range) in pieces.iter().enumerate() {
            let whole = bench.insert(&piece(family, 1, &data, range));
            if nth + 1 < pieces.len() {
                prop_assert_eq!(whole, None);
            } else {
                prop_assert_eq!(whole, Some(original(family, 1, &data)));
            }
        }
        prop_assert_eq!(bench.merged as usize, pieces.len() - 1);
        prop_assert_eq!((bench.reassembly.held, bench.timers.len()), (0, 0));
        prop_assert!(bench.ends().is_empty());
        bench.finish();
    }

    /// Pieces that repeat and overlap others, of the very same bytes: the original, or nothing.
    #[test]
    fn repeats_and_overlaps_make_the_original_or_nothing(
        family in family(),
        units in 2usize..40,
        odd in 0usize..8,
        extra in prop::collection::vec((0usize..40, 1usize..12), 0..6),
        repeats in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        sizes in prop::collection::vec(1usize..9, 1..20),
        seed: u64,
    ) {
        let data = data(units * 8 - odd);
        let mut pieces = cuts(data.len(), &sizes);
        prop_assume!(pieces.len() > 1);
        for index in repeats {
            pieces.push(*index.get(&pieces));
        }
        for (start, count) in extra {
            let start = start % units * 8;
            let range = (start, (start + count * 8).min(data.len()));
            // One that is all of it would be no fragment.
            if range != (0, data.len()) && (range.0 > 0 || range.1 >= 8) {
                pieces.push(range);
            }
        }
        shuffle(&mut pieces, seed);
        let mut bench = Bench::new(BYTES);
        for &range in &pieces {
            if let Some(whole) = bench.insert(&piece(family, 1, &data, range)) {
                prop_assert_eq!(whole, original(family, 1, &data));
            }
        }
        bench.finish();
    }

    #[test]
    fn whatever_arrives_stays_within_the_limits(
        arrivals in prop::collection::vec((family(), 0u8..80, 0usize..60, 1usize..40, any::<bool>(), any::<u8>()), 1..200),
        limit in 1usize..40,
    ) {
        let mut bench = Bench::new(limit * BUFFER);
        for (family, id, start, units, more, fill) in arrivals {
            let more = more || start == 0;
            bench.insert(&part(family, id, start * 8, &vec![fill; units * 8], more));
            prop_assert!(bench.reassembly.packets <= limit);
            prop_assert!(bench.timers.len() <= DATAGRAMS);
        }
        bench.finish();
    }
}

/// Fisher and Yates, by a small generator.
fn shuffle<T>(items: &mut [T], mut seed: u64) {
    for last in (1..items.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(last, (seed >> 33) as usize % (last + 1));
    }
}

#[test]
fn an_overlap_takes_the_whole_datagram_and_what_comes_yet() {
    for family in [Four, Six] {
        let data = data(96);
        let mut bench = Bench::new(BYTES);
        assert_eq!(bench.insert(&piece(family, 1, &data, (0, 32))), None);
        assert_eq!(bench.insert(&piece(family, 1, &data, (24, 64))), None);
        assert_eq!(bench.ends(), [(Drop::FragmentOverlap, 2)], "both go");
        assert_eq!(bench.reassembly.held, 0);
        for range in [(0, 32), (32, 64), (64, 96)] {
            assert_eq!(bench.insert(&piece(family, 1, &data, range)), None);
        }
        assert_eq!(bench.ends(), [(Drop::FragmentOverlap, 3)], "and all that follow");
        // Another datagram is not harmed, nor is this one once its time is up.
        assert!(bench.insert(&piece(family, 2, &data, (0, 32))).is_none());
        assert!(bench.insert(&piece(family, 2, &data, (32, 96))).is_some());
        assert_eq!(bench.timers.len(), 1);
        let number = loop {
            bench.now += Duration::from_secs(1);
            if let Some(Timed::Reassembly(number)) = bench.timers.due(bench.now) {
                break number;
            }
        };
        assert_eq!(bench.now, Instant::from_secs(1061), "a minute, and a tick at most");
        assert!(bench.reassembly.expire(number, |_, _| panic!()).is_none(), "nobody is told");
        assert!(bench.insert(&piece(family, 1, &data, (0, 32))).is_none());
        assert!(bench.insert(&piece(family, 1, &data, (32, 96))).is_some());
        bench.finish();
    }
}

#[test]
fn overlaps_are_found_wherever_they_lie() {
    for (kept, next) in [
        ((24, 48), (16, 32)),
        ((24, 48), (40, 56)),
        ((24, 48), (32, 40)),
        ((24, 48), (16, 56)),
        ((24, 48), (24, 40)),
        ((24, 48), (32, 48)),
    ] {
        for (first, second) in [(kept, next), (next, kept)] {
            let mut bench = Bench::new(BYTES);
            let data = data(96);
            bench.insert(&piece(Four, 1, &data, first));
            bench.insert(&piece(Four, 1, &data, second));
            assert_eq!(bench.ends(), [(Drop::FragmentOverlap, 2)], "{first:?} and {second:?}");
            bench.finish();
        }
    }
}

#[test]
fn a_repeated_fragment_is_ignored_unless_its_bytes_differ() {
    for family in [Four, Six] {
        let data = data(300);
        let mut bench = Bench::new(BYTES);
        for range in [(0, 200), (0, 200), (0, 200)] {
            assert_eq!(bench.insert(&piece(family, 1, &data, range)), None);
        }
        assert_eq!(bench.ends(), [(Drop::FragmentDuplicate, 2)]);
        assert!(bench.insert(&piece(family, 1, &data, (200, 300))).is_some());
        bench.insert(&piece(family, 2, &data, (0, 200)));
        let mut other = data.clone();
        other[199] ^= 1;
        bench.insert(&piece(family, 2, &other, (0, 200)));
        assert_eq!(bench.ends(), [(Drop::FragmentOverlap, 2)]);
        bench.finish();
    }
}

#[test]
fn fragments_that_disagree_about_the_end_go() {
    let data = data(96);
    let ends = |first: Vec<u8>, second: Vec<u8>| {
        let mut bench = Bench::new(BYTES);
        bench.insert(&first);
        bench.insert(&second);
        assert_eq!(bench.ends(), [(Drop::FragmentOverlap, 2)]);
        bench.finish();
    };
    let last = || part(Four, 1, 64, &data[64..80], false);
    ends(last(), part(Four, 1, 80, &data[80..96], false));
    ends(last(), part(Four, 1, 80, &data[80..88], true));
    ends(part(Four, 1, 80, &data[80..88], true), last());
    ends(last(), part(Four, 1, 64, &data[64..80], true));
    ends(part(Four, 1, 64, &data[64..80], true), last());
    ends(last(), part(Four, 1, 56, &data[56..64], false));
}

#[test]
fn what_cannot_be_a_fragment_is_refused() {
    let mut pool = frames::pool(4);
    let mut refused = |frame: &[u8], expected| {
        let packet = pool.alloc_from(frame).unwrap();
        let found = parse(&packet);
        pool.free(packet);
        assert_eq!(found.map(|fragment| (fragment.start, fragment.end)), expected);
    };
    let bytes = data(2000);
    // No data, a part of a unit, and 65 535 bytes and one more.
    refused(&part(Four, 1, 0, &[], true), Err(Flaw::Empty));
    refused(&part(Four, 1, 8, &[], false), Err(Flaw::Empty));
    refused(&part(Four, 1, 0, &bytes[..12], true), Err(Flaw::Empty));
    refused(&part(Four, 1, 65_512, &bytes[..4], false), Err(Flaw::Empty));
    refused(&part(Four, 1, 65_512, &bytes[..3], false), Ok((65_512, 65_515)));
    refused(&part(Six, 1, 8, &[], false), Err(Flaw::Empty));
    refused(&part(Six, 1, 8, &bytes[..12], true), Err(Flaw::PartialUnit));
    refused(&part(Six, 1, 65_528, &bytes[..8], false), Err(Flaw::TooLong));
    refused(&part(Six, 1, 65_528, &bytes[..7], false), Ok((65_528, 65_535)));
    // A first one ends behind its upper layer's header.
    let mut tcp = part(Four, 1, 0, &bytes[..16], true);
    tcp[23] = 6;
    frames::seal_ipv4(&mut tcp[14..34]);
    refused(&tcp, Err(Flaw::Empty));
    let mut tcp = part(Six, 1, 0, &bytes[..16], true);
    tcp[54] = 6;
    refused(&tcp, Err(Flaw::HeadersCut));
    // Options for the destination are not that header.
    let options = [17, 0, 1, 4, 0, 0, 0, 0];
    let mut udp = part(Six, 1, 0, &options, true);
    udp[54] = 60;
    refused(&udp, Err(Flaw::HeadersCut));
    let mut udp = part(Six, 1, 0, &[options, [0; 8]].concat(), true);
    udp[54] = 60;
    refused(&udp, Ok((0, 16)));
}

#[test]
fn a_datagram_that_would_be_too_long_with_its_options_goes() {
    let mut bench = Bench::new(BYTES);
    let bytes = data(1480);
    for start in (1480..65_515).step_by(1480) {
        let len = (65_515 - start).min(1480);
        assert_eq!(bench.insert(&part(Four, 1, start, &bytes[..len], start + len < 65_515)), None);
    }
    let mut first = V4 { flags: 0x2000, options: &[1; 4], ..v4(A, ROUTER) }.frame(0, &bytes);
    first[19] = 1;
    frames::seal_ipv4(&mut first[14..38]);
    assert_eq!(bench.insert(&first), None);
    assert_eq!(bench.ends(), [(Drop::FragmentMalformed, 1)]);
    assert_eq!(bench.merged, 44, "the others were a part of it");
    bench.finish();
}

#[test]
fn the_longest_datagrams_are_put_together() {
    for (family, len, each) in [(Four, 65_515, 1480), (Six, 65_535, 1448), (Six, 65_535, 1232)] {
        let data = data(len);
        let mut bench = Bench::new(BYTES);
        let ranges = (0..len).step_by(each).map(|start| (start, (start + each).min(len)));
        let ranges: Vec<_> = ranges.collect();
        let whole = ranges.iter().rev().filter_map(|&range| bench.insert(&piece(family, 1, &data, range)));
        assert_eq!(whole.collect::<Vec<_>>(), [original(family, 1, &data)]);
        bench.finish();
    }
}

#[test]
fn headers_before_the_fragment_header_stay() {
    let data = data(40);
    let with = |start: u16, bytes: &[u8], more: bool| {
        let [high, low] = (start | u16::from(more)).to_be_bytes();
        let headers = [[44, 0, 1, 4, 0, 0, 0, 0], [17, 0, high, low, 0, 0, 0, 9]].concat();
        V6 { next: 60, ..v6(A6, ROUTER6) }.frame(0, &[&headers, bytes].concat())
    };
    let mut bench = Bench::new(BYTES);
    assert_eq!(bench.insert(&with(16, &data[16..], false)), None);
    let whole = bench.insert(&with(0, &data[..16], true)).unwrap();
    let expected = [&[17, 0, 1, 4, 0, 0, 0, 0], &data[..]].concat();
    assert_eq!(whole, V6 { next: 60, ..v6(A6, ROUTER6) }.frame(0, &expected));
    bench.finish();
}

#[test]
fn congestion_is_not_forgotten() {
    for (fields, expected) in
        [([2, 3, 2], Some(3)), ([1, 2, 1], Some(1)), ([0, 0, 0], Some(0)), ([2, 0, 3], None)]
    {
        for family in [Four, Six] {
            let data = data(24);
            let mut bench = Bench::new(BYTES);
            let mut whole = None;
            for (start, ecn) in [0, 8, 16].into_iter().zip(fields) {
                let mut frame = piece(family, 1, &data, (start, start + 8));
                match family {
                    Four => frame[15] = frame[15] & !3 | ecn,
                    Six => frame[15] = frame[15] & !0x30 | ecn << 4,
                }
                if family == Four {
                    frames::seal_ipv4(&mut frame[14..34]);
                }
                whole = bench.insert(&frame);
            }
            let found = whole.map(|frame| frame[15] >> if family == Six { 4 } else { 0 } & 3);
            assert_eq!(found.map(|field| field & 3), expected, "{family:?} {fields:?}");
            bench.finish();
        }
    }
}

/// A first fragment of the `n`th source's datagram `id`.
fn from(n: u8, id: u8) -> Vec<u8> {
    let mut frame = part(Four, id, 0, &data(64), true);
    frame[29] = n;
    frames::seal_ipv4(&mut frame[14..34]);
    frame
}

#[test]
fn a_source_has_sixteen_datagrams_and_the_oldest_goes_first() {
    let mut bench = Bench::new(BYTES);
    bench.insert(&from(200, 0));
    for id in 0..=PER_SOURCE as u8 {
        bench.now += Duration::from_millis(10);
        assert_eq!(bench.insert(&from(7, id)), None);
    }
    assert_eq!(bench.ends(), [(Drop::FragmentLimit, 1)]);
    let rest = |n, id| {
        let mut frame = part(Four, id, 64, &data(8), false);
        frame[29] = n;
        frames::seal_ipv4(&mut frame[14..34]);
        frame
    };
    assert!(bench.insert(&rest(200, 0)).is_some(), "another source's, although older, is not touched");
    assert!(bench.insert(&rest(7, 1)).is_some(), "the second oldest is there");
    assert!(bench.insert(&rest(7, 0)).is_none(), "the oldest is not");
    bench.finish();
}

#[test]
fn the_oldest_goes_when_there_are_too_many() {
    let mut bench = Bench::new(BYTES);
    for n in 0..=DATAGRAMS as u8 {
        bench.now += Duration::from_millis(10);
        bench.insert(&from(n, 0));
    }
    assert_eq!(bench.ends(), [(Drop::FragmentLimit, 1)]);
    assert_eq!((bench.reassembly.packets, bench.timers.len()), (DATAGRAMS, DATAGRAMS));
    bench.finish();
}

#[test]
fn the_oldest_goes_when_buffers_are_short() {
    let mut bench = Bench::new(8 * BUFFER);
    for n in 0..20 {
        bench.now += Duration::from_millis(10);
        bench.insert(&from(n, 0));
    }
    assert_eq!(bench.ends(), [(Drop::FragmentLimit, 12)]);
    // One that is larger than all there is takes nobody with it but itself, in the end.
    for start in 0..9 {
        bench.insert(&part(Six, 1, start * 8, &data(8), true));
    }
    assert_eq!(bench.ends(), [(Drop::FragmentLimit, 8 + 9)]);
    assert_eq!(bench.reassembly.held, 0);
    bench.finish();
}

#[test]
fn a_datagram_that_cannot_fit_takes_no_other_with_it() {
    let mut bench = Bench::new(8 * BUFFER);
    bench.insert(&from(1, 0));
    bench.insert(&part(Six, 1, 0, &data(8), true));
    // Eight buffers and some bytes, beside the one that is there.
    bench.insert(&part(Six, 1, 8, &data(8 * BUFFER), true));
    assert_eq!(bench.ends(), [(Drop::FragmentLimit, 2)]);
    assert_eq!((bench.reassembly.packets, bench.reassembly.held), (1, BUFFER), "the other source's is there");
    bench.finish();
}

#[test]
fn a_datagram_has_sixty_four_fragments() {
    let mut bench = Bench::new(BYTES);
    for n in 0..FRAGMENTS {
        bench.insert(&part(Six, 1, n * 8, &data(8), true));
    }
    assert!(bench.ends().is_empty());
    bench.insert(&part(Six, 1, FRAGMENTS * 8, &data(8), true));
    assert_eq!(bench.ends(), [(Drop::FragmentLimit, FRAGMENTS + 1)]);
    bench.insert(&part(Six, 1, 0, &data(8), true));
    assert_eq!(bench.ends(), [(Drop::FragmentLimit, 1)], "and the rest goes too");
    bench.finish();
}

#[test]
fn without_room_nothing_is_kept() {
    let mut bench = Bench::new(0);
    bench.insert(&from(1, 1));
    assert_eq!(bench.ends(), [(Drop::FragmentLimit, 1)]);
    bench.finish();
}
