use super::*;
use crate::frames::{
    self, ETHERNET, assert_nothing_leaked, bytes, chain, naive_sum, owe_checksum, pool, super_packet,
    transport_sum_is_right,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;
use weir_netif::{Gso, GsoKind};

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 5 + n / 253) as u8).collect()
}

fn frame(options: &[u8], flags_offset: u16, data: &[u8]) -> Vec<u8> {
    [frames::ethernet(0x0800), frames::ipv4(17, options, flags_offset, data)].concat()
}

fn collect(packet: Packet, mtu: usize, pool: &mut Pool) -> Result<Vec<Packet>, Drop> {
    let mut fragments = Vec::new();
    let count = fragment4(packet, ETHERNET, mtu, pool, |_, fragment| fragments.push(fragment))?;
    assert_eq!(count, fragments.len());
    Ok(fragments)
}

/// Options without those that only the first fragment carries, padded.
fn naive_copied(options: &[u8]) -> Vec<u8> {
    let (mut at, mut copied) = (0, Vec::new());
    while at < options.len() && options[at] != 0 {
        let len = if options[at] == 1 { 1 } else { options[at + 1].into() };
        if options[at] >= 0x80 {
            copied.extend(&options[at..at + len]);
        }
        at += len;
    }
    copied.resize(copied.len().next_multiple_of(4), 0);
    copied
}

/// Checks each fragment and puts the data together: offset of the first byte, data, and whether more is to come.
fn reassemble(original: &[u8], fragments: &[Packet], mtu: usize) -> (usize, Vec<u8>, bool) {
    let original = &original[ETHERNET..];
    let options = &original[20..usize::from(original[0] & 15) * 4];
    let first_offset = usize::from(u16::from_be_bytes([original[6], original[7]]) & OFFSET) * 8;
    let mut pieces = BTreeMap::new();
    let mut last = None;
    for fragment in fragments {
        let all = bytes(fragment);
        assert_eq!(all[..ETHERNET], frames::ethernet(0x0800));
        let ip = &all[ETHERNET..];
        assert!(ip.len() <= mtu);
        let header = usize::from(ip[0] & 15) * 4;
        assert_eq!(naive_sum(&ip[..header]), 0xffff, "header checksum");
        assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), ip.len());
        for same in [1..2, 4..6, 8..10, 12..20] {
            assert_eq!(ip[same.clone()], original[same]);
        }
        assert_eq!(ip[6] & 0xc0, original[6] & 0xc0, "reserved bit and DF");
        let field = u16::from_be_bytes([ip[6], ip[7]]);
        let offset = usize::from(field & OFFSET) * 8;
        if offset == first_offset {
            assert_eq!(ip[20..header], *options);
        } else {
            assert_eq!(ip[20..header], naive_copied(options));
        }
        let data = ip[header..].to_vec();
        if field & MORE_FRAGMENTS != 0 {
            assert_eq!(data.len() % 8, 0);
            assert!(!data.is_empty());
        }
        assert_eq!(fragment.meta().checksum, Checksum::Unknown);
        last = last.max(Some((offset, field & MORE_FRAGMENTS != 0)));
        assert!(pieces.insert(offset, data).is_none());
    }
    let mut whole = Vec::new();
    for (offset, data) in pieces {
        assert_eq!(offset, first_offset + whole.len(), "neither gap nor overlap");
        whole.extend(data);
    }
    (first_offset, whole, last.unwrap().1)
}

fn free_all(pool: &mut Pool, fragments: Vec<Packet>) {
    fragments.into_iter().for_each(|fragment| pool.free(fragment));
}

#[test]
fn fragments_as_the_examples_of_rfc_791() {
    // RFC 791 appendix A, examples 2 and 3: 452 bytes of data over an MTU of 280.
    let mut pool = pool(8);
    let original = frame(&[], 0, &payload(452));
    let packet = chain(&mut pool, &original, &[]);
    let fragments = collect(packet, 280, &mut pool).unwrap();
    let heads: Vec<(u16, u16)> = fragments
        .iter()
        .map(|fragment| {
            let ip = &fragment.data()[ETHERNET..];
            (u16::from_be_bytes([ip[2], ip[3]]), u16::from_be_bytes([ip[6], ip[7]]))
        })
        .collect();
    assert_eq!(heads, [(276, MORE_FRAGMENTS), (216, 32)]);
    free_all(&mut pool, fragments);
    assert_nothing_leaked(&mut pool);
}

#[test]
fn what_fits_goes_out_as_it_is() {
    let mut pool = pool(4);
    let original = frame(&[], 0, &payload(480));
    let mut packet = chain(&mut pool, &original, &[]);
    owe_checksum(&mut packet, ETHERNET, ETHERNET + 20, 17, 6);
    let (before, meta) = (bytes(&packet), *packet.meta());
    let fragments = collect(packet, 500, &mut pool).unwrap();
    assert_eq!((fragments.len(), bytes(&fragments[0]), *fragments[0].meta()), (1, before, meta));
    free_all(&mut pool, fragments);
    assert_nothing_leaked(&mut pool);
}

#[test]
fn an_owed_checksum_is_completed_over_the_whole_datagram() {
    let mut pool = pool(16);
    let original = frame(&[], 0, &frames::udp(&payload(3001)));
    let mut packet = chain(&mut pool, &original, &[60, 333]);
    owe_checksum(&mut packet, ETHERNET, ETHERNET + 20, 17, 6);
    let fragments = collect(packet, 576, &mut pool).unwrap();
    let (_, datagram, _) = reassemble(&original, &fragments, 576);
    assert!(transport_sum_is_right(&original[ETHERNET..], 17, &datagram));
    free_all(&mut pool, fragments);
    assert_nothing_leaked(&mut pool);
}

#[test]
fn later_fragments_carry_only_the_options_marked_for_copying() {
    // Record route (first only), NOP, stream id (copied), security (copied, 3 bytes), end.
    let options = [7, 7, 4, 0, 0, 0, 0, 1, 0x88, 4, 0xab, 0xcd, 0x82, 3, 9, 0];
    let mut pool = pool(16);
    let original = frame(&options, 0, &payload(1000));
    let packet = chain(&mut pool, &original, &[]);
    let fragments = collect(packet, 300, &mut pool).unwrap();
    let later = bytes(&fragments[1]);
    assert_eq!(later[ETHERNET], 0x47);
    assert_eq!(later[ETHERNET + 20..ETHERNET + 28], [0x88, 4, 0xab, 0xcd, 0x82, 3, 9, 0]);
    assert_eq!(reassemble(&original, &fragments, 300).1, payload(1000));
    free_all(&mut pool, fragments);
    assert_nothing_leaked(&mut pool);
}

#[test]
fn what_cannot_be_fragmented_is_refused() {
    let whole = payload(600);
    let cases: [(&str, Vec<u8>, usize); 9] = [
        ("option of length 0", frame(&[0x88, 0, 0, 0], 0, &whole), 300),
        ("option of length 1", frame(&[0x88, 1, 0, 0], 0, &whole), 300),
        ("option past the header", frame(&[1, 1, 0x88, 3], 0, &whole), 300),
        ("option without a length", frame(&[1, 1, 1, 0x88], 0, &whole), 300),
        ("no room for eight bytes", frame(&[], 0, &whole), 27),
        ("no room behind options", frame(&[0x88, 4, 0, 0], 0, &whole), 31),
        ("no room for a header", frame(&[], 0, &whole), 0),
        ("a middle fragment of odd length", frame(&[], MORE_FRAGMENTS, &payload(601)), 300),
        ("an end past 65535", frame(&[], 8150, &whole), 300),
    ];
    for (what, bytes, mtu) in cases {
        let mut pool = pool(16);
        let packet = chain(&mut pool, &bytes, &[]);
        let result = fragment4(packet, ETHERNET, mtu, &mut pool, |_, _| panic!("{what}"));
        assert_eq!(result, Err(Drop::FragmentFailed), "{what}");
        assert_nothing_leaked(&mut pool);
    }
}

#[test]
fn super_packets_and_impossible_debts_are_malformed() {
    let mut pool = pool(16);
    let mut packet = chain(&mut pool, &frame(&[], 0, &payload(600)), &[]);
    super_packet(&mut packet, Gso { kind: GsoKind::Tcp4, size: 100, ecn: false }, ETHERNET, ETHERNET + 20);
    let result = fragment4(packet, ETHERNET, 300, &mut pool, |_, _| panic!());
    assert_eq!(result, Err(Drop::OffloadMalformed));
    let mut packet = chain(&mut pool, &frame(&[], 0, &payload(600)), &[]);
    packet.meta_mut().checksum = Checksum::Partial { start: 5000, offset: 6 };
    let result = fragment4(packet, ETHERNET, 300, &mut pool, |_, _| panic!());
    assert_eq!(result, Err(Drop::OffloadMalformed));
    assert_nothing_leaked(&mut pool);
}

#[test]
fn a_dry_pool_loses_the_whole_packet_and_no_buffer() {
    for spare in 0..4 {
        let mut pool = pool(1 + spare);
        let packet = chain(&mut pool, &frame(&[], 0, &payload(1000)), &[]);
        let result = fragment4(packet, ETHERNET, 300, &mut pool, |_, _| panic!());
        assert_eq!(result, Err(Drop::NoBuffer));
        assert_nothing_leaked(&mut pool);
    }
}

fn options() -> impl Strategy<Value = Vec<u8>> {
    let option = prop_oneof![
        Just(vec![1]),
        (2u8..8, any::<u8>(), any::<bool>()).prop_map(|(len, fill, copied)| {
            let mut option = vec![fill; len.into()];
            option[..2].copy_from_slice(&[if copied { 0x88 } else { 7 }, len]);
            option
        }),
    ];
    prop::collection::vec(option, 0..6).prop_map(|options| {
        let mut all = options.concat();
        all.truncate(40);
        // Whatever was cut in two goes.
        let mut at = 0;
        while at < all.len() {
            let len = if all[at] == 1 { 1 } else { all.get(at + 1).copied().unwrap_or(99).into() };
            if at + len > all.len() {
                all.truncate(at);
            }
            at += len;
        }
        all.resize(all.len().next_multiple_of(4), 0);
        all
    })
}

proptest! {
    #[test]
    fn fragments_reassemble_to_the_datagram(
        options in options(),
        len in 0usize..6000,
        mtu in 68usize..2000,
        cuts in prop::collection::vec(1usize..700, 0..6),
        dont: bool,
    ) {
        let mut pool = pool(256);
        let original = frame(&options, if dont { 0x4000 } else { 0 }, &payload(len));
        let cuts: Vec<usize> = core::iter::once(ETHERNET + 60).chain(cuts).collect();
        let packet = chain(&mut pool, &original, &cuts);
        let fragments = collect(packet, mtu, &mut pool).unwrap();
        prop_assert_eq!(reassemble(&original, &fragments, mtu), (0, payload(len), false));
        free_all(&mut pool, fragments);
        assert_nothing_leaked(&mut pool);
    }

    #[test]
    fn fragments_of_fragments_reassemble_too(
        options in options(),
        len in 1usize..6000,
        mtus in prop::collection::vec(68usize..1500, 1..4),
        offset in 0u16..4000,
        more: bool,
    ) {
        let mut pool = pool(512);
        let data = payload(if more { len.next_multiple_of(8) } else { len });
        let flags = if more { MORE_FRAGMENTS } else { 0 };
        let original = frame(&options, flags | offset, &data);
        let mut fragments = vec![chain(&mut pool, &original, &[ETHERNET + 60])];
        let mut smallest = usize::MAX;
        for mtu in mtus {
            smallest = smallest.min(mtu);
            fragments = fragments
                .into_iter()
                .flat_map(|fragment| collect(fragment, mtu, &mut pool).unwrap())
                .collect();
        }
        prop_assert_eq!(
            reassemble(&original, &fragments, smallest),
            (usize::from(offset) * 8, data, more)
        );
        free_all(&mut pool, fragments);
        assert_nothing_leaked(&mut pool);
    }

    #[test]
    fn no_bytes_do_harm(
        damage in prop::collection::vec((0usize..90, any::<u8>()), 0..6),
        options in options(),
        len in 0usize..3000,
        mtu in 0usize..1600,
        l3 in prop_oneof![4 => Just(ETHERNET), 1 => 0usize..100, 1 => Just(usize::MAX)],
        checksum in prop_oneof![
            Just(Checksum::Unknown),
            (any::<u16>(), any::<u16>()).prop_map(|(start, offset)| Checksum::Partial { start, offset }),
            Just(Checksum::Partial { start: 34, offset: 6 }),
        ],
        slots in 3usize..80,
    ) {
        let mut pool = pool(slots);
        let mut bytes = frame(&options, 0, &payload(len));
        for (at, value) in damage {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        let mut packet = pool.alloc_from(&bytes).unwrap();
        packet.meta_mut().checksum = checksum;
        let mut count = 0;
        let result = fragment4(packet, l3, mtu, &mut pool, |pool, fragment| {
            count += 1;
            pool.free(fragment);
        });
        prop_assert_eq!(result.unwrap_or(0), count);
        assert_nothing_leaked(&mut pool);
    }
}

/// The fragments of an IPv6 packet with `headers` before its data, and the packet.
fn fragments6(next: u8, payload: &[u8], mtu: usize) -> Result<Vec<Vec<u8>>, Drop> {
    let mut pool = pool(64);
    let packet = chain(&mut pool, &[frames::ethernet(0x86dd), frames::ipv6(next, payload)].concat(), &[]);
    let mut all = Vec::new();
    let cut = fragment6(packet, ETHERNET, mtu, 0x0102_0304, &mut pool, |pool, piece| {
        all.push(bytes(&piece));
        pool.free(piece);
    });
    assert_nothing_leaked(&mut pool);
    assert_eq!(cut.unwrap_or(0), all.len());
    cut.map(|_| all)
}

proptest! {
    #[test]
    fn ipv6_fragments_make_the_packet_again(
        len in 0usize..9000,
        mtu in 1280usize..1600,
        options in prop::option::of(0u8..4),
    ) {
        let data: Vec<u8> = (0..len).map(|n| n as u8).collect();
        let before: Vec<u8> = match options {
            Some(units) => core::iter::once(17).chain([units, 1]).chain(vec![0; usize::from(units) * 8 + 5]).collect(),
            None => Vec::new(),
        };
        let next = if options.is_some() { 0 } else { 17 };
        let whole = [&before[..], &data].concat();
        let pieces = fragments6(next, &whole, mtu).unwrap();
        prop_assert!(pieces.iter().all(|piece| piece.len() <= ETHERNET + mtu));
        if whole.len() + 40 <= mtu {
            prop_assert_eq!(&pieces, &[[frames::ethernet(0x86dd), frames::ipv6(next, &whole)].concat()]);
            return Ok(());
        }
        let at = ETHERNET + 40 + before.len();
        let mut again: Vec<u8> = Vec::new();
        for (nth, piece) in pieces.iter().enumerate() {
            let more = u8::from(nth + 1 < pieces.len());
            let [high, low] = (again.len() as u16).to_be_bytes();
            prop_assert_eq!(&piece[at..at + 8], &[17, 0, high, low | more, 1, 2, 3, 4]);
            let named_at = if before.is_empty() { ETHERNET + 6 } else { ETHERNET + 40 };
            prop_assert_eq!(piece[named_at], 44);
            prop_assert_eq!(usize::from(u16::from_be_bytes([piece[18], piece[19]])), piece.len() - 54);
            again.extend(&piece[at + 8..]);
        }
        prop_assert_eq!(again, data);
    }
}

#[test]
fn what_cannot_be_cut_for_ipv6_is_refused() {
    let routing = [&[17, 0, 2, 0, 0, 0, 0, 0][..], &[0; 2000]].concat();
    assert_eq!(fragments6(43, &routing, 1280), Err(Drop::FragmentFailed));
    let fragment = [&[17, 0, 0, 1, 0, 0, 0, 0][..], &[0; 2000]].concat();
    assert_eq!(fragments6(44, &fragment, 1280), Err(Drop::FragmentFailed), "only the source cuts, and once");
    assert_eq!(fragments6(17, &[0; 2000], 55), Err(Drop::FragmentFailed));
    assert_eq!(fragments6(17, &[0; 20_000], 56), Err(Drop::FragmentFailed), "too many");
}

#[test]
fn identifications_are_a_permutation() {
    let mut ids = Identification::new(77);
    let mut seen: Vec<u32> = (0..100_000).map(|_| ids.take()).collect();
    assert_ne!(seen[..8], core::iter::repeat_with(|| ids.take()).take(8).collect::<Vec<_>>()[..]);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 100_000);
    let firsts: Vec<u32> = (0..50).map(|seed| Identification::new(seed).take()).collect();
    assert!(firsts.windows(2).all(|pair| pair[0] != pair[1]), "another seed, another order");
}
