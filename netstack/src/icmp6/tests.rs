use super::*;
use crate::frames::{
    self, ETHERNET, assert_nothing_leaked, bytes, chain, owe_checksum, pool, transport_sum_is_right,
};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

const ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7);
const SELF: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const L4: usize = ETHERNET + IPV6_HEADER;

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 3 + 1) as u8).collect()
}

fn frame(next: u8, data: &[u8]) -> Vec<u8> {
    [frames::ethernet(0x86dd), frames::ipv6(next, data)].concat()
}

fn echo(data: &[u8]) -> Vec<u8> {
    frames::icmp6(128, 0, &[&[0x12, 0x34, 0, 7], data].concat())
}

fn set_source(frame: &mut [u8], source: &str) {
    frame[ETHERNET + 8..ETHERNET + 24].copy_from_slice(&source.parse::<Ipv6Addr>().unwrap().octets());
}

fn set_destination(frame: &mut [u8], destination: &str) {
    frame[ETHERNET + 24..ETHERNET + 40].copy_from_slice(&destination.parse::<Ipv6Addr>().unwrap().octets());
}

/// A fragment header.
fn fragment(next: u8, field: u16) -> Vec<u8> {
    [&[next, 0][..], &field.to_be_bytes(), &[0, 0, 0, 9]].concat()
}

#[test]
fn reads_messages_by_kind() {
    let mut pool = pool(4);
    let quoted = L4 + 8;
    for (message, expected) in [
        (echo(b"data"), Message::EchoRequest { id: 0x1234, sequence: 7 }),
        (frames::icmp6(129, 0, &[0, 1, 0, 2]), Message::EchoReply { id: 1, sequence: 2 }),
        (frames::icmp6(2, 0, &[0, 0, 5, 0]), Message::Error { kind: 2, code: 0, word: 1280, quoted }),
        (frames::icmp6(135, 0, &[0; 20]), Message::Other { kind: 135, code: 0, offset: L4, len: 24 }),
        (frames::icmp6(128, 1, &[0; 4]), Message::Other { kind: 128, code: 1, offset: L4, len: 8 }),
    ] {
        let packet = chain(&mut pool, &frame(58, &message), &[L4, 3]);
        assert_eq!(parse(&packet, ETHERNET), Ok(expected));
        pool.free(packet);
    }
    assert_nothing_leaked(&mut pool);
}

#[test]
fn reads_behind_extension_headers_and_in_atomic_fragments() {
    let mut pool = pool(4);
    let hop_by_hop = [vec![58, 0, 1, 4, 0, 0, 0, 0], echo(b"data")].concat();
    let atomic = [fragment(58, 0), echo(b"data")].concat();
    for (next, data) in [(0, hop_by_hop), (44, atomic)] {
        let packet = chain(&mut pool, &frame(next, &data), &[]);
        assert_eq!(parse(&packet, ETHERNET), Ok(Message::EchoRequest { id: 0x1234, sequence: 7 }));
        pool.free(packet);
    }
}

#[test]
fn refuses_damaged_short_and_fragmented_messages() {
    let mut pool = pool(4);
    let good = frame(58, &echo(b"data"));
    let mut damaged = good.clone();
    damaged[ETHERNET + 9] ^= 1;
    for bytes in [
        damaged,
        frame(58, &frames::icmp6(128, 0, &[1, 2, 3])),
        frame(44, &[fragment(58, 1), echo(b"data")].concat()),
        frame(44, &[fragment(58, 8), echo(b"data")].concat()),
        frame(17, &echo(b"data")),
        good[..60].to_vec(),
        good[..30].to_vec(),
    ] {
        let packet = chain(&mut pool, &bytes, &[]);
        assert_eq!(parse(&packet, ETHERNET), Err(Malformed));
        pool.free(packet);
    }
}

#[test]
fn an_echo_reply_is_the_request_turned_round() {
    let mut pool = pool(4);
    let mut packet = chain(&mut pool, &frame(58, &echo(b"ping")), &[]);
    assert_eq!(echo_reply(&mut packet, ETHERNET, SELF), Ok(()));
    let all = bytes(&packet);
    let (ip, message) = (&all[ETHERNET..], &all[L4..]);
    // The traffic class is kept, the flow label is not.
    assert_eq!(ip[..8], [0x61, 0x20, 0, 0, 0, 12, 58, 64]);
    assert_eq!(ip[8..24], SELF.octets());
    assert_eq!(ip[24..40], frame(0, &[])[ETHERNET + 8..ETHERNET + 24]);
    assert!(transport_sum_is_right(ip, 58, message));
    assert_eq!((message[0], &message[4..]), (129, &b"\x12\x34\x00\x07ping"[..]));
    pool.free(packet);
}

#[test]
fn a_group_is_answered_from_the_given_address_and_never_to_a_group() {
    let mut pool = pool(4);
    let mut request = frame(58, &echo(b"ping"));
    set_destination(&mut request, "ff02::1");
    request[L4 + 2..L4 + 4].fill(0);
    let sum = frames::pseudo(&request[ETHERNET..], 58, request.len() - L4);
    let sum = !frames::naive_sum(&[&sum, &request[L4..]].concat());
    request[L4 + 2..L4 + 4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = chain(&mut pool, &request, &[]);
    assert!(parse(&packet, ETHERNET).is_ok());
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    assert_eq!(echo_reply(&mut packet, ETHERNET, group), Err(Malformed), "a group sends nothing");
    assert_eq!(bytes(&packet), request);
    assert_eq!(echo_reply(&mut packet, ETHERNET, ROUTER), Ok(()));
    assert_eq!(parse(&packet, ETHERNET), Ok(Message::EchoReply { id: 0x1234, sequence: 7 }));
    pool.free(packet);
    for source in ["::", "::1", "ff02::1"] {
        let mut request = frame(58, &echo(b"ping"));
        set_source(&mut request, source);
        let mut packet = chain(&mut pool, &request, &[]);
        assert_eq!(echo_reply(&mut packet, ETHERNET, ROUTER), Err(Malformed));
        assert_eq!(bytes(&packet), request);
        pool.free(packet);
    }
}

#[test]
fn a_reply_goes_without_the_requests_extension_headers() {
    let mut pool = pool(4);
    let data = [vec![43, 0, 1, 4, 0, 0, 0, 0], vec![58, 2, 4, 0], vec![0; 20], echo(b"ping")].concat();
    let mut packet = chain(&mut pool, &frame(0, &data), &[L4 + 8 + 24 + 4, 3]);
    assert_eq!(echo_reply(&mut packet, ETHERNET, SELF), Ok(()));
    let all = bytes(&packet);
    assert_eq!(all[..ETHERNET], frames::ethernet(0x86dd));
    assert_eq!(all.len(), L4 + 12);
    assert_eq!(all[ETHERNET + 4..ETHERNET + 8], [0, 12, 58, 64]);
    assert!(transport_sum_is_right(&all[ETHERNET..], 58, &all[L4..]));
    pool.free(packet);
    assert_nothing_leaked(&mut pool);
}

#[test]
fn an_owed_checksum_stays_owed_in_the_reply() {
    let mut pool = pool(4);
    for extensions in [0, 16] {
        let mut data = vec![0; extensions];
        if extensions > 0 {
            data[..2].copy_from_slice(&[58, 1]);
        }
        data.extend(echo(b"ping!"));
        let next = if extensions > 0 { 60 } else { 58 };
        let mut packet = chain(&mut pool, &frame(next, &data), &[]);
        owe_checksum(&mut packet, ETHERNET, L4 + extensions, 58, 2);
        echo_reply(&mut packet, ETHERNET, ROUTER).unwrap();
        checksum::finish(&mut packet).unwrap();
        let all = bytes(&packet);
        assert!(transport_sum_is_right(&all[ETHERNET..], 58, &all[L4..]));
        pool.free(packet);
    }
    assert_nothing_leaked(&mut pool);
}

fn build(pool: &mut Pool, original: &Packet, error_: Error) -> Option<Vec<u8>> {
    let mut packet = error(pool, original, ETHERNET, Cast::Host, error_, ROUTER)?;
    assert!(!packet.is_chain());
    let all = bytes(&packet);
    assert!(packet.push(128).is_some(), "headroom");
    pool.free(packet);
    Some(all)
}

#[test]
fn an_error_quotes_as_much_as_fits_the_minimum_mtu() {
    for len in [0, 4, 1191, 1192, 1193, 9000] {
        let mut pool = pool(16);
        let original = frame(17, &payload(len));
        let packet = chain(&mut pool, &[&original[..], &[0xee; 9]].concat(), &[60, 1, 3]);
        let all = build(&mut pool, &packet, Error::HopLimitExceeded).unwrap();
        assert_eq!(all.len(), (len + 40 + 48).min(1280));
        assert_eq!(all[..4], [0x60, 0, 0, 0]);
        assert_eq!(usize::from(u16::from_be_bytes([all[4], all[5]])), all.len() - 40);
        assert_eq!(all[6..8], [58, 64]);
        assert_eq!(all[8..24], ROUTER.octets());
        assert_eq!(all[24..40], original[ETHERNET + 8..ETHERNET + 24]);
        assert!(transport_sum_is_right(&all, 58, &all[40..]));
        assert_eq!(all[40..42], [3, 0]);
        assert_eq!(all[48..], original[ETHERNET..ETHERNET + all.len() - 48]);
        pool.free(packet);
        assert_nothing_leaked(&mut pool);
    }
}

#[test]
fn errors_have_their_types_and_codes() {
    let mut pool = pool(4);
    let packet = chain(&mut pool, &frame(17, &frames::udp(b"data")), &[]);
    let problem = |problem| Error::ParameterProblem { problem, pointer: 0x1_0002 };
    for (error, head) in [
        (Error::NoRoute, [1, 0, 0, 0, 0, 0]),
        (Error::AdministrativelyProhibited, [1, 1, 0, 0, 0, 0]),
        (Error::BeyondScope, [1, 2, 0, 0, 0, 0]),
        (Error::AddressUnreachable, [1, 3, 0, 0, 0, 0]),
        (Error::PortUnreachable, [1, 4, 0, 0, 0, 0]),
        (Error::SourcePolicy, [1, 5, 0, 0, 0, 0]),
        (Error::RejectRoute, [1, 6, 0, 0, 0, 0]),
        (Error::PacketTooBig { mtu: 0x1_2345 }, [2, 0, 0, 1, 0x23, 0x45]),
        (Error::HopLimitExceeded, [3, 0, 0, 0, 0, 0]),
        (Error::ReassemblyTimeExceeded, [3, 1, 0, 0, 0, 0]),
        (problem(Problem::Header), [4, 0, 0, 1, 0, 2]),
        (problem(Problem::NextHeader), [4, 1, 0, 1, 0, 2]),
        (problem(Problem::Option), [4, 2, 0, 1, 0, 2]),
    ] {
        let all = build(&mut pool, &packet, error).unwrap();
        assert_eq!([all[40], all[41], all[44], all[45], all[46], all[47]], head, "{error:?}");
    }
    pool.free(packet);
}

#[test]
fn no_error_is_sent_about_what_must_not_be_answered() {
    let data = frames::udp(b"data");
    let good = frame(17, &data);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed
    };
    let icmp = |kind| frame(58, &frames::icmp6(kind, 0, &[0; 4]));
    let behind = |kind| {
        frame(
            0,
            &[vec![60, 0, 1, 4, 0, 0, 0, 0, 58, 0, 1, 4, 0, 0, 0, 0], frames::icmp6(kind, 0, &[0; 4])]
                .concat(),
        )
    };
    let cases: Vec<(&str, Vec<u8>, bool)> = vec![
        ("udp", good.clone(), true),
        ("echo request", icmp(128), true),
        ("neighbour solicitation", icmp(135), true),
        ("redirect", icmp(137), false),
        ("unreachable", icmp(1), false),
        ("too big", icmp(2), false),
        ("unassigned error", icmp(127), false),
        ("echo behind extension headers", behind(128), true),
        ("error behind extension headers", behind(3), false),
        ("redirect behind extension headers", behind(137), false),
        ("icmp without a type", frame(58, &[]), false),
        (
            "first fragment of an error",
            frame(44, &[fragment(58, 1), frames::icmp6(1, 0, &[0; 4])].concat()),
            false,
        ),
        (
            "first fragment of an echo",
            frame(44, &[fragment(58, 1), frames::icmp6(128, 0, &[0; 4])].concat()),
            true,
        ),
        ("later fragment", frame(44, &[fragment(58, 9), vec![1; 16]].concat()), true),
        ("broken extension header", frame(0, &[17, 255, 0, 0, 0, 0, 0, 0]), true),
        ("from nowhere", with(&|f| set_source(f, "::")), false),
        ("from loopback", with(&|f| set_source(f, "::1")), false),
        ("from a group", with(&|f| set_source(f, "ff02::5")), false),
        ("not IPv6", with(&|f| f[ETHERNET] = 0x45), false),
        ("cut short", good[..L4 - 1].to_vec(), false),
    ];
    for (what, bytes, expected) in cases {
        let mut pool = pool(4);
        let packet = chain(&mut pool, &bytes, &[]);
        let error = Error::HopLimitExceeded;
        assert_eq!(permitted(&packet, ETHERNET, Cast::Host, error), expected, "{what}");
        assert_eq!(build(&mut pool, &packet, error).is_some(), expected, "{what}");
        pool.free(packet);
        assert_nothing_leaked(&mut pool);
    }
}

#[test]
fn of_all_errors_two_may_answer_groups() {
    let mut pool = pool(4);
    let mut to_group = frame(17, &frames::udp(b"data"));
    set_destination(&mut to_group, "ff05::2");
    let to_group = chain(&mut pool, &to_group, &[]);
    let to_host = chain(&mut pool, &frame(17, &frames::udp(b"data")), &[]);
    let problem = |problem| Error::ParameterProblem { problem, pointer: 40 };
    for (error, expected) in [
        (Error::PacketTooBig { mtu: 1280 }, true),
        (problem(Problem::Option), true),
        (problem(Problem::Header), false),
        (problem(Problem::NextHeader), false),
        (Error::HopLimitExceeded, false),
        (Error::NoRoute, false),
    ] {
        assert_eq!(permitted(&to_group, ETHERNET, Cast::Host, error), expected, "{error:?}");
        assert_eq!(permitted(&to_host, ETHERNET, Cast::Group, error), expected, "{error:?}");
        assert!(permitted(&to_host, ETHERNET, Cast::Host, error), "{error:?}");
    }
    pool.free(to_group);
    pool.free(to_host);
}

#[test]
fn an_error_is_never_answered_with_an_error() {
    let mut pool = pool(4);
    let packet = chain(&mut pool, &frame(17, &frames::udp(b"data")), &[]);
    let too_big = Error::PacketTooBig { mtu: 1280 };
    let mut first = error(&mut pool, &packet, ETHERNET, Cast::Host, too_big, ROUTER).unwrap();
    first.push(ETHERNET).unwrap().fill(0);
    assert!(matches!(parse(&first, ETHERNET), Ok(Message::Error { kind: 2, word: 1280, .. })));
    assert!(error(&mut pool, &first, ETHERNET, Cast::Host, too_big, ROUTER).is_none());
    pool.free(first);
    pool.free(packet);
    assert_nothing_leaked(&mut pool);
}

#[test]
fn an_owed_checksum_is_complete_in_the_quotation() {
    let mut pool = pool(16);
    for len in [10, 3000] {
        let mut packet = chain(&mut pool, &frame(6, &frames::tcp(1, 2, &[], &payload(len))), &[100]);
        owe_checksum(&mut packet, ETHERNET, L4, 6, 16);
        let all = build(&mut pool, &packet, Error::PacketTooBig { mtu: 1280 }).unwrap();
        checksum::finish(&mut packet).unwrap();
        let finished = bytes(&packet);
        assert_eq!(all[48..], finished[ETHERNET..][..all.len() - 48]);
        pool.free(packet);
    }
    assert_nothing_leaked(&mut pool);
}

proptest! {
    #[test]
    fn a_reply_is_right_over_any_chain_and_damage_stays(
        data in prop::collection::vec(any::<u8>(), 0..3000),
        cuts in prop::collection::vec(1usize..300, 0..6),
        extensions in 0usize..4,
        source: u64,
        damage: u8,
    ) {
        let mut pool = pool(32);
        let mut request_data = Vec::new();
        for nth in 0..extensions {
            let next = if nth + 1 == extensions { 58 } else { 60 };
            request_data.extend([next, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        let l4 = L4 + request_data.len();
        request_data.extend(echo(&data));
        let mut request = frame(if extensions == 0 { 58 } else { 60 }, &request_data);
        request[l4 + 5] ^= damage;
        let cuts: Vec<usize> = core::iter::once(l4 + 4).chain(cuts).collect();
        let mut packet = chain(&mut pool, &request, &cuts);
        let source = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(source));
        prop_assert_eq!(echo_reply(&mut packet, ETHERNET, source), Ok(()));
        let all = bytes(&packet);
        prop_assert_eq!(transport_sum_is_right(&all[ETHERNET..], 58, &all[L4..]), damage == 0);
        prop_assert_eq!(&all[L4 + 4..], &request[l4 + 4..]);
        pool.free(packet);
        assert_nothing_leaked(&mut pool);
    }

    #[test]
    fn no_bytes_do_harm(
        next in prop_oneof![Just(58u8), Just(0), Just(43), Just(44), Just(51), Just(60), any::<u8>()],
        data in prop::collection::vec(prop_oneof![Just(0u8), Just(58), Just(128), 0u8..70, any::<u8>()], 0..1500),
        cut in 0usize..200,
        l3 in prop_oneof![4 => Just(ETHERNET), 1 => 0usize..100, 1 => Just(usize::MAX)],
        start: u16,
        offset in 0u16..40,
    ) {
        let mut pool = pool(8);
        let mut packet = chain(&mut pool, &frame(next, &data), &[cut]);
        packet.meta_mut().checksum = Checksum::Partial { start: start % 150, offset };
        let _ = parse(&packet, l3);
        if let Some(error) = error(&mut pool, &packet, l3, Cast::Host, Error::NoRoute, ROUTER) {
            let all = bytes(&error);
            prop_assert!(all.len() <= 1280);
            prop_assert!(transport_sum_is_right(&all, 58, &all[40..]));
            pool.free(error);
        }
        let before = bytes(&packet);
        if echo_reply(&mut packet, l3, ROUTER).is_err() {
            prop_assert_eq!(bytes(&packet), before);
        }
        pool.free(packet);
        assert_nothing_leaked(&mut pool);
    }
}
