use super::*;
use crate::random::random;
use proptest::prelude::*;
use std::vec;

const SERVERS: [IpAddr; 2] =
    [IpAddr::V4(core::net::Ipv4Addr::LOCALHOST), IpAddr::V6(core::net::Ipv6Addr::LOCALHOST)];

fn lookup(kind: Kind) -> Lookup<'static> {
    Lookup::new("ntp.Example.net", kind, &SERVERS, random).unwrap()
}

/// An answer to `query` with so many records, which follow.
fn reply(query: &[u8], count: u8, records: &[u8]) -> Vec<u8> {
    let mut bytes = query.to_vec();
    bytes[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, count]);
    bytes.extend_from_slice(records);
    bytes
}

/// The question's name, A, 60 s, 192.0.2.9.
const ADDRESS: [u8; 16] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 9];

#[test]
fn addresses_are_found_behind_an_alias_and_without() {
    let mut asked = lookup(Kind::A);
    let (server, query) = asked.ask().unwrap();
    assert_eq!((server, &query[12..]), (SERVERS[0], &b"\x03ntp\x07example\x03net\0\0\x01\0\x01"[..]));
    let wanted = Answer::Addresses(vec!["192.0.2.9".parse().unwrap()], 60);
    assert_eq!(asked.input(&reply(&query, 1, &ADDRESS)), Some(wanted.clone()));
    // pool.example.net, whose records come first; the name in it points into the question.
    let alias = [0xc0, 12, 0, 5, 0, 1, 0, 0, 1, 0, 0, 7, 4, b'p', b'o', b'o', b'l', 0xc0, 16];
    let mut records = vec![4, b'P', b'o', b'o', b'l', 0xc0, 16];
    records.extend(&ADDRESS[2..]);
    records.extend(alias);
    assert_eq!(asked.input(&reply(&query, 2, &records)), Some(wanted));
}

#[test]
fn other_kinds_and_other_names_are_no_addresses() {
    let mut asked = lookup(Kind::Aaaa);
    let (_, query) = asked.ask().unwrap();
    assert_eq!(asked.input(&reply(&query, 1, &ADDRESS)), Some(Answer::Failed(Failure::NoAddress)));
    let mut long = vec![0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 9, 0, 16];
    long.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let found = Answer::Addresses(vec!["2001:db8::1".parse().unwrap()], 9);
    assert_eq!(asked.input(&reply(&query, 1, &long)), Some(found));
    long[1] = 16;
    assert_eq!(
        asked.input(&reply(&query, 1, &long)),
        Some(Answer::Failed(Failure::NoAddress)),
        "of example.net"
    );
}

#[test]
fn what_is_not_the_answer_is_not_heeded() {
    let mut asked = lookup(Kind::A);
    let (_, query) = asked.ask().unwrap();
    let good = reply(&query, 1, &ADDRESS);
    for at in [0, 1, 2, 5, 14, 26, 30] {
        let mut wrong = good.clone();
        wrong[at] ^= 0x81;
        assert_eq!(asked.input(&wrong), None, "byte {at}");
    }
    assert_eq!(asked.input(&query), None, "the question itself");
}

#[test]
fn servers_are_asked_in_turn_and_then_no_more() {
    let mut asked = lookup(Kind::A);
    let servers: Vec<IpAddr> = core::iter::from_fn(|| asked.ask()).map(|(server, _)| server).collect();
    assert_eq!(servers, [SERVERS; 3].concat());
    let (_, query) = lookup(Kind::A).ask().unwrap();
    let mut none = reply(&query, 0, &[]);
    none[3] = 0x83;
    let id = u16::from_be_bytes([none[0], none[1]]);
    let name = encoded("ntp.example.net").unwrap();
    assert_eq!(answer(&none, id, &name, Kind::A), Some(Answer::Failed(Failure::NoSuchName)));
    none[3] = 0x82;
    assert_eq!(answer(&none, id, &name, Kind::A), Some(Answer::Elsewhere));
}

#[test]
fn names_have_labels_of_1_to_63_and_255_in_all() {
    assert!(encoded("a.b.").is_some() && encoded("").is_none() && encoded("a..b").is_none());
    assert!(encoded(&"a".repeat(64)).is_none());
    assert!(encoded(&["a"; 127].join(".")).is_some() && encoded(&["a"; 128].join(".")).is_none());
}

#[test]
fn pointers_lead_back_or_nowhere() {
    assert_eq!(name_at(&[0xc0, 0], 0), None);
    assert_eq!(name_at(&[1, b'a', 0xc0, 2], 2), None);
    assert_eq!(name_at(&[1, b'a', 0xc0, 0], 0), None, "a circle");
    assert_eq!(name_at(&[1, b'A', 0, 0xc0, 0], 3), Some((vec![1, b'a', 0], 5)));
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200), count in any::<u8>()) {
        let mut asked = lookup(Kind::A);
        let (_, query) = asked.ask().unwrap();
        let _ = asked.input(&bytes);
        if let Some(Answer::Addresses(found, _)) = asked.input(&reply(&query, count, &bytes)) {
            prop_assert!((1..=MOST).contains(&found.len()));
        }
    }
}
