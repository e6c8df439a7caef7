use super::*;
use crate::frames::{
    self, ETHERNET, assert_nothing_leaked, bytes, chain, naive_sum, owe_checksum, pool,
    transport_sum_is_right,
};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 3 + 1) as u8).collect()
}

fn frame(protocol: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
    [frames::ethernet(0x0800), frames::ipv4(protocol, options, 0, data)].concat()
}

fn echo(data: &[u8]) -> Vec<u8> {
    frames::icmp(8, 0, &[&[0x12, 0x34, 0, 7], data].concat())
}

fn set_source(frame: &mut [u8], source: [u8; 4]) {
    frame[ETHERNET + 12..ETHERNET + 16].copy_from_slice(&source);
    frames::seal_ipv4(&mut frame[ETHERNET..ETHERNET + 20]);
}

fn set_destination(frame: &mut [u8], destination: [u8; 4]) {
    frame[ETHERNET + 16..ETHERNET + 20].copy_from_slice(&destination);
    frames::seal_ipv4(&mut frame[ETHERNET..ETHERNET + 20]);
}

#[test]
fn reads_messages_by_kind() {
    let mut pool = pool(4);
    let quoted = ETHERNET + 28;
    for (message, expected) in [
        (echo(b"data"), Message::EchoRequest { id: 0x1234, sequence: 7 }),
        (frames::icmp(0, 0, &[0, 1, 0, 2]), Message::EchoReply { id: 1, sequence: 2 }),
        (frames::icmp(3, 4, &[0, 0, 5, 0xdc]), Message::Error { kind: 3, code: 4, word: 1500, quoted }),
        (frames::icmp(5, 1, &[1, 2, 3, 4]), Message::Error { kind: 5, code: 1, word: 0x0102_0304, quoted }),
        (frames::icmp(13, 0, &[0; 16]), Message::Other { kind: 13, code: 0 }),
        (frames::icmp(8, 1, &[0; 4]), Message::Other { kind: 8, code: 1 }),
    ] {
        let packet = chain(&mut pool, &frame(1, &[], &message), &[ETHERNET + 20, 3]);
        assert_eq!(parse(&packet, ETHERNET), Ok(expected));
        pool.free(packet);
    }
    assert_nothing_leaked(&mut pool);
}

#[test]
fn refuses_damaged_short_and_fragmented_messages() {
    let mut pool = pool(4);
    let good = frame(1, &[], &echo(b"data"));
    let mut damaged = good.clone();
    damaged[ETHERNET + 30] ^= 1;
    let short = frame(1, &[], &frames::icmp(8, 0, &[1, 2, 3]));
    let fragment = [frames::ethernet(0x0800), frames::ipv4(1, &[], 0x2000, &echo(b"data"))].concat();
    let other = frame(17, &[], &echo(b"data"));
    for bytes in [damaged, short, fragment, other, good[..40].to_vec(), good[..20].to_vec()] {
        let packet = chain(&mut pool, &bytes, &[]);
        assert_eq!(parse(&packet, ETHERNET), Err(Malformed));
        pool.free(packet);
    }
}

#[test]
fn an_echo_reply_is_the_request_turned_round() {
    let mut pool = pool(4);
    let mut packet = chain(&mut pool, &frame(1, &[], &echo(b"ping")), &[]);
    assert_eq!(echo_reply(&mut packet, ETHERNET, Ipv4Addr::new(198, 51, 100, 2)), Ok(()));
    let all = bytes(&packet);
    let ip = &all[ETHERNET..];
    assert_eq!((ip[8], &ip[12..20]), (64, &[198, 51, 100, 2, 192, 0, 2, 1][..]));
    assert_eq!(naive_sum(&ip[..20]), 0xffff);
    assert_eq!(ip[20..], frames::icmp(0, 0, b"\x12\x34\x00\x07ping"));
    assert_eq!(parse(&packet, ETHERNET), Ok(Message::EchoReply { id: 0x1234, sequence: 7 }));
    pool.free(packet);
}

#[test]
fn a_group_is_answered_from_the_given_address_and_never_to_a_group() {
    let mut pool = pool(4);
    let mut bytes_ = frame(1, &[], &echo(b"ping"));
    set_destination(&mut bytes_, [224, 0, 0, 1]);
    let mut packet = chain(&mut pool, &bytes_, &[]);
    let group = Ipv4Addr::new(224, 0, 0, 1);
    assert_eq!(echo_reply(&mut packet, ETHERNET, group), Err(Malformed), "a group sends nothing");
    assert_eq!(bytes(&packet), bytes_);
    assert_eq!(echo_reply(&mut packet, ETHERNET, ROUTER), Ok(()));
    assert_eq!(naive_sum(&bytes(&packet)[ETHERNET..ETHERNET + 20]), 0xffff);
    assert_eq!(packet.data()[ETHERNET + 12..ETHERNET + 16], ROUTER.octets());
    pool.free(packet);
    for source in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 9], [255, 255, 255, 255], [240, 0, 0, 1]] {
        let mut bytes_ = frame(1, &[], &echo(b"ping"));
        set_source(&mut bytes_, source);
        let mut packet = chain(&mut pool, &bytes_, &[]);
        assert_eq!(echo_reply(&mut packet, ETHERNET, ROUTER), Err(Malformed));
        assert_eq!(bytes(&packet), bytes_);
        pool.free(packet);
    }
}

#[test]
fn a_reply_may_be_fragmented_though_the_request_may_not() {
    let mut pool = pool(4);
    let request = [frames::ethernet(0x0800), frames::ipv4(1, &[], 0x4000, &echo(b"ping"))].concat();
    let mut packet = chain(&mut pool, &request, &[]);
    assert_eq!(echo_reply(&mut packet, ETHERNET, ROUTER), Ok(()));
    let ip = &bytes(&packet)[ETHERNET..ETHERNET + 20];
    assert_eq!((&ip[4..6], &ip[6..8], naive_sum(ip)), (&[0xff, 0xfe][..], &[0, 0][..], 0xffff));
    pool.free(packet);
}

#[test]
fn an_owed_checksum_stays_owed_in_the_reply() {
    let mut pool = pool(4);
    let mut packet = chain(&mut pool, &frame(1, &[], &echo(b"ping!")), &[]);
    let l4 = ETHERNET + 20;
    packet.data_mut()[l4 + 2..l4 + 4].fill(0);
    packet.meta_mut().checksum = Checksum::Partial { start: l4 as u16, offset: 2 };
    echo_reply(&mut packet, ETHERNET, ROUTER).unwrap();
    checksum::finish(&mut packet).unwrap();
    assert_eq!(bytes(&packet)[l4..], frames::icmp(0, 0, b"\x12\x34\x00\x07ping!"));
    pool.free(packet);
}

/// The parts of an error: IPv4 header, ICMP header, quotation.
fn build(pool: &mut Pool, original: &Packet, error_: Error) -> Option<Vec<u8>> {
    let packet = error(pool, original, ETHERNET, Cast::Host, error_, ROUTER)?;
    assert!(!packet.is_chain());
    let all = bytes(&packet);
    let mut packet = packet;
    assert!(packet.push(128).is_some(), "headroom");
    pool.free(packet);
    Some(all)
}

#[test]
fn an_error_quotes_all_of_a_short_packet() {
    let mut pool = pool(4);
    let original = frame(17, &[], &frames::udp(b"data"));
    // Behind the datagram: Ethernet's padding.
    let packet = chain(&mut pool, &[&original[..], &[0xee; 14]].concat(), &[50]);
    let all = build(&mut pool, &packet, Error::TimeExceeded).unwrap();
    assert_eq!(all[..2], [0x45, 0xc0]);
    assert_eq!(usize::from(u16::from_be_bytes([all[2], all[3]])), all.len());
    assert_eq!(all[6..8], [0, 0], "may be fragmented");
    assert_eq!(all[8..10], [64, 1]);
    assert_eq!(naive_sum(&all[..20]), 0xffff);
    assert_eq!(all[12..16], ROUTER.octets());
    assert_eq!(all[16..20], [192, 0, 2, 1]);
    assert_eq!(naive_sum(&all[20..]), 0xffff);
    assert_eq!((all[20], all[21], &all[24..28]), (11, 0, &[0, 0, 0, 0][..]));
    assert_eq!(all[28..], original[ETHERNET..]);
    pool.free(packet);
    assert_nothing_leaked(&mut pool);
}

#[test]
fn an_error_is_576_bytes_at_most() {
    for len in [527, 528, 529, 9000] {
        let mut pool = pool(16);
        let original = frame(17, &[], &payload(len));
        let packet = chain(&mut pool, &original, &[40, 1, 3, 100]);
        let all = build(&mut pool, &packet, Error::HostUnreachable).unwrap();
        assert_eq!(all.len(), (len + 20 + 28).min(576));
        assert_eq!(naive_sum(&all[20..]), 0xffff);
        assert_eq!(all[28..], original[ETHERNET..ETHERNET + all.len() - 28]);
        pool.free(packet);
        assert_nothing_leaked(&mut pool);
    }
}

#[test]
fn errors_have_their_types_and_codes() {
    let mut pool = pool(4);
    let packet = chain(&mut pool, &frame(17, &[], &frames::udp(b"data")), &[]);
    for (error, head) in [
        (Error::NetworkUnreachable, [3, 0, 0, 0, 0, 0]),
        (Error::HostUnreachable, [3, 1, 0, 0, 0, 0]),
        (Error::ProtocolUnreachable, [3, 2, 0, 0, 0, 0]),
        (Error::PortUnreachable, [3, 3, 0, 0, 0, 0]),
        (Error::FragmentationNeeded { mtu: 1280 }, [3, 4, 0, 0, 5, 0]),
        (Error::AdministrativelyProhibited, [3, 13, 0, 0, 0, 0]),
        (Error::TimeExceeded, [11, 0, 0, 0, 0, 0]),
        (Error::ReassemblyTimeExceeded, [11, 1, 0, 0, 0, 0]),
        (Error::ParameterProblem { pointer: 20 }, [12, 0, 20, 0, 0, 0]),
    ] {
        let all = build(&mut pool, &packet, error).unwrap();
        assert_eq!([all[20], all[21], all[24], all[25], all[26], all[27]], head, "{error:?}");
    }
    pool.free(packet);
}

#[test]
fn no_error_is_sent_about_what_must_not_be_answered() {
    let data = frames::udp(b"data");
    let good = frame(17, &[], &data);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed
    };
    let icmp = |kind| frame(1, &[], &frames::icmp(kind, 0, &[0; 4]));
    let fragment = |field| [frames::ethernet(0x0800), frames::ipv4(17, &[], field, &data)].concat();
    let cases: Vec<(&str, Vec<u8>, bool)> = vec![
        ("udp", good.clone(), true),
        ("first fragment", fragment(0x2000), true),
        ("later fragment", fragment(0x2001), false),
        ("last fragment", fragment(0x0001), false),
        ("echo request", icmp(8), true),
        ("echo reply", icmp(0), true),
        ("timestamp", icmp(13), true),
        ("unreachable", icmp(3), false),
        ("source quench", icmp(4), false),
        ("redirect", icmp(5), false),
        ("time exceeded", icmp(11), false),
        ("parameter problem", icmp(12), false),
        ("unassigned icmp", icmp(99), false),
        ("icmp without a type", frame(1, &[], &[]), false),
        ("from nowhere", with(&|f| set_source(f, [0, 0, 0, 0])), false),
        ("from this network", with(&|f| set_source(f, [0, 1, 2, 3])), false),
        ("from loopback", with(&|f| set_source(f, [127, 0, 0, 1])), false),
        ("from a group", with(&|f| set_source(f, [224, 0, 0, 5])), false),
        ("from broadcast", with(&|f| set_source(f, [255, 255, 255, 255])), false),
        ("from class E", with(&|f| set_source(f, [250, 0, 0, 1])), false),
        ("to a group", with(&|f| set_destination(f, [239, 0, 0, 5])), false),
        ("to broadcast", with(&|f| set_destination(f, [255, 255, 255, 255])), false),
        ("not IPv4", with(&|f| f[ETHERNET] = 0x65), false),
        ("cut short", good[..ETHERNET + 19].to_vec(), false),
    ];
    for (what, bytes, expected) in cases {
        let mut pool = pool(4);
        let packet = chain(&mut pool, &bytes, &[]);
        assert_eq!(permitted(&packet, ETHERNET, Cast::Host), expected, "{what}");
        assert_eq!(build(&mut pool, &packet, Error::TimeExceeded).is_some(), expected, "{what}");
        assert!(!permitted(&packet, ETHERNET, Cast::Group), "{what}");
        pool.free(packet);
        assert_nothing_leaked(&mut pool);
    }
}

#[test]
fn an_error_is_never_answered_with_an_error() {
    let mut pool = pool(4);
    let packet = chain(&mut pool, &frame(17, &[], &frames::udp(b"data")), &[]);
    let mut first = error(&mut pool, &packet, ETHERNET, Cast::Host, Error::TimeExceeded, ROUTER).unwrap();
    first.push(ETHERNET).unwrap().fill(0);
    assert!(matches!(parse(&first, ETHERNET), Ok(Message::Error { kind: 11, .. })));
    assert!(error(&mut pool, &first, ETHERNET, Cast::Host, Error::TimeExceeded, ROUTER).is_none());
    pool.free(first);
    pool.free(packet);
    assert_nothing_leaked(&mut pool);
}

#[test]
fn an_owed_checksum_is_complete_in_the_quotation() {
    let mut pool = pool(16);
    for len in [10, 3000] {
        let mut packet = chain(&mut pool, &frame(17, &[], &frames::udp(&payload(len))), &[100]);
        owe_checksum(&mut packet, ETHERNET, ETHERNET + 20, 17, 6);
        let owed = bytes(&packet);
        let all = build(&mut pool, &packet, Error::PortUnreachable).unwrap();
        assert_eq!(bytes(&packet), owed, "the original is left as it is");
        checksum::finish(&mut packet).unwrap();
        let finished = bytes(&packet);
        assert!(transport_sum_is_right(&finished[ETHERNET..], 17, &finished[ETHERNET + 20..]));
        assert_eq!(all[28..], finished[ETHERNET..][..all.len() - 28]);
        assert_eq!(naive_sum(&all[20..]), 0xffff);
        pool.free(packet);
    }
    assert_nothing_leaked(&mut pool);
}

#[test]
fn a_debt_outside_the_quoted_transport_changes_nothing() {
    let mut pool = pool(8);
    for start in [0, 20, ETHERNET as u16 + 547, 700, u16::MAX] {
        let original = frame(17, &[], &payload(900));
        let mut packet = chain(&mut pool, &original, &[]);
        packet.meta_mut().checksum = Checksum::Partial { start, offset: 0 };
        let all = build(&mut pool, &packet, Error::TimeExceeded).unwrap();
        assert_eq!(all[28..], original[ETHERNET..ETHERNET + 548]);
        pool.free(packet);
    }
}

#[test]
fn without_a_buffer_there_is_no_error() {
    let mut pool = pool(1);
    let packet = chain(&mut pool, &frame(17, &[], &frames::udp(b"data")), &[]);
    assert!(build(&mut pool, &packet, Error::TimeExceeded).is_none());
    pool.free(packet);
    assert_nothing_leaked(&mut pool);
}

proptest! {
    #[test]
    fn a_reply_is_right_over_any_chain_and_damage_stays(
        data in prop::collection::vec(any::<u8>(), 0..3000),
        cuts in prop::collection::vec(1usize..300, 0..6),
        option_words in 0usize..=10,
        damage: u8,
    ) {
        let mut pool = pool(32);
        let l4 = ETHERNET + 20 + option_words * 4;
        let mut request = frame(1, &vec![1; option_words * 4], &echo(&data));
        request[l4 + 5] ^= damage;
        let cuts: Vec<usize> = core::iter::once(l4 + 4).chain(cuts).collect();
        let mut packet = chain(&mut pool, &request, &cuts);
        prop_assert_eq!(parse(&packet, ETHERNET).is_ok(), damage == 0);
        prop_assert_eq!(echo_reply(&mut packet, ETHERNET, ROUTER), Ok(()));
        let all = bytes(&packet);
        prop_assert_eq!(naive_sum(&all[ETHERNET..l4]), 0xffff);
        prop_assert_eq!(naive_sum(&all[l4..]) == 0xffff, damage == 0);
        prop_assert_eq!(&all[l4 + 4..], &request[l4 + 4..]);
        pool.free(packet);
        assert_nothing_leaked(&mut pool);
    }

    #[test]
    fn no_bytes_do_harm(
        protocol in prop_oneof![Just(1u8), Just(17), any::<u8>()],
        data in prop::collection::vec(any::<u8>(), 0..1200),
        damage in prop::collection::vec((0usize..60, any::<u8>()), 0..6),
        cut in 0usize..100,
        l3 in prop_oneof![4 => Just(ETHERNET), 1 => 0usize..100, 1 => Just(usize::MAX)],
        start: u16,
        offset in 0u16..40,
    ) {
        let mut pool = pool(8);
        let mut bytes = frame(protocol, &[], &data);
        for (at, value) in damage {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        let mut packet = chain(&mut pool, &bytes, &[cut]);
        packet.meta_mut().checksum = Checksum::Partial { start: start % 100, offset };
        let _ = parse(&packet, l3);
        if let Some(error) = error(&mut pool, &packet, l3, Cast::Host, Error::TimeExceeded, ROUTER) {
            prop_assert!(error.len() <= 576);
            prop_assert_eq!(naive_sum(&frames::bytes(&error)[20..]), 0xffff);
            pool.free(error);
        }
        let before = frames::bytes(&packet);
        if echo_reply(&mut packet, l3, ROUTER).is_err() {
            prop_assert_eq!(frames::bytes(&packet), before);
        }
        pool.free(packet);
        assert_nothing_leaked(&mut pool);
    }
}
