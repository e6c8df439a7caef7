use super::*;
use crate::random::random;
use alloc::vec::Vec;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
/// 2026-11-21 18:00:00 UTC.
const THEN: u64 = 1_795_284_000;

/// A server's answer to `request` that says `unix` seconds on receipt and transmission.
fn answer(request: &[u8], unix: u64) -> Vec<u8> {
    let mut bytes = [0; LEN];
    bytes[..4].copy_from_slice(&[4 << 3 | 4, 2, 6, 0xec]);
    bytes[24..32].copy_from_slice(&request[40..48]);
    let stamp = ((unix + EPOCH) as u32).to_be_bytes();
    bytes[32..36].copy_from_slice(&stamp);
    bytes[40..44].copy_from_slice(&stamp);
    bytes[39] = 1;
    bytes[47] = 1;
    bytes.to_vec()
}

fn sample(offset: i64, error_ns: u64) -> Option<Sample> {
    Some(Sample { offset_ns: offset, error_ns })
}

#[test]
fn the_time_is_that_in_the_middle_of_the_exchange() {
    let mut server = Server::new(random, 0);
    let request = server.poll(10 * SECOND).unwrap();
    let reply = server.input(&answer(&request, THEN), 10 * SECOND + 40_000_000);
    let wanted = Sample { offset_ns: ((THEN - 10) * SECOND) as i64 - 20_000_000, error_ns: 20_000_000 };
    assert_eq!(reply, Some(Reply::Sample(wanted)));
    let aged = Sample { error_ns: 20_096_000, ..wanted };
    assert_eq!(server.sample(11_000), Some(aged), "it was taken 960 ms before");
    assert_eq!(server.input(&answer(&request, THEN), 11 * SECOND), None, "a duplicate");
}

#[test]
fn an_answer_with_another_number_or_mode_is_nobodys() {
    let mut server = Server::new(random, 0);
    let request = server.poll(0).unwrap();
    let good = answer(&request, THEN);
    for (at, value) in [(0, 4 << 3 | 3), (0, 4 << 3 | 5), (0, 1 << 3 | 4), (24, !good[24]), (31, !good[31])] {
        let mut wrong = good.clone();
        wrong[at] = value;
        assert_eq!(server.input(&wrong, 1000), None, "{at}");
    }
    assert_eq!(server.input(&good[..47], 1000), None);
    assert!(matches!(server.input(&good, 1000), Some(Reply::Sample(_))));
}

#[test]
fn the_era_after_2036_is_known() {
    assert_eq!(unix_ns((EPOCH + 1) << 32), 1_000_000_000);
    assert_eq!(unix_ns(0), (((1_u64 << 32) - EPOCH) * SECOND) as i64);
    let request = request(7);
    let later = answer(&request, 3_000_000_000);
    let Some(Reply::Sample(read)) = parse(&later, 7, 0, 0) else { panic!() };
    assert_eq!(read.offset_ns, 3_000_000_000 * SECOND as i64);
}

#[test]
fn who_does_not_know_or_does_not_want_is_asked_less_or_not() {
    let ask = |server: &mut Server, now: u64, change: fn(&mut [u8])| {
        let request = server.poll(now * SECOND).unwrap();
        let mut bytes = answer(&request, THEN);
        change(&mut bytes);
        server.input(&bytes, now * SECOND)
    };
    let mut server = Server::new(random, 0);
    assert_eq!(ask(&mut server, 0, |bytes| bytes[0] |= 0xc0), Some(Reply::Unsynchronized));
    assert_eq!(
        ask(&mut server, 100, |bytes| {
            bytes[1] = 0;
            bytes[12..16].copy_from_slice(b"RATE");
        }),
        Some(Reply::Rate)
    );
    assert!(server.deadline_ms() >= 1_000_000);
    assert_eq!(
        ask(&mut server, 3000, |bytes| {
            bytes[1] = 0;
            bytes[12..16].copy_from_slice(b"DENY");
        }),
        Some(Reply::Deny)
    );
    assert_eq!(server.deadline_ms(), NEVER);
    assert_eq!(server.sample(3_000_000), None);
}

#[test]
fn a_server_is_asked_quickly_at_first_and_seldom_later() {
    let mut server = Server::new(random, 0);
    let (mut now, mut gaps) = (0, Vec::new());
    for _ in 0..12 {
        let request = server.poll(now * 1_000_000).unwrap();
        server.input(&answer(&request, THEN + now / 1000), now * 1_000_000);
        gaps.push((server.deadline_ms() - now) / 1000);
        now = server.deadline_ms();
    }
    assert!(gaps[..3].iter().all(|&gap| gap <= 2) && (55..=140).contains(&gaps[4]), "{gaps:?}");
    assert!(gaps[11] >= 900 && gaps[11] <= 1100, "{gaps:?}");
    let mut silent = Server::new(random, 0);
    let mut now = 0;
    for _ in 0..12 {
        assert!(silent.poll(now * 1_000_000).is_some());
        now = silent.deadline_ms();
    }
    assert!(silent.is_silent() && silent.sample(now).is_none());
}

#[test]
fn most_servers_are_believed_and_the_most_exact_of_them() {
    assert_eq!(select(&[]), None);
    assert_eq!(select(&[None, sample(5, 1)]), Some(1));
    assert_eq!(select(&[sample(1000, 10), sample(5, 20), sample(9, 3), None]), Some(2));
    assert_eq!(select(&[sample(1000, 10), sample(5, 20)]), None, "one says this, one that");
    assert_eq!(select(&[sample(0, 100), sample(150, 60), sample(90, 5)]), Some(2));
}

#[test]
fn a_clock_is_set_first_and_moved_later() {
    assert_eq!(adjust(None, 5), Adjust::Step(5));
    assert_eq!(adjust(Some(0), 100_000_000), Adjust::Slew(100_000_000));
    assert_eq!(adjust(Some(0), -200_000_000), Adjust::Step(-200_000_000));
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..100), sent in any::<u32>(), took in any::<u32>()) {
        let (sent, took) = (u64::from(sent), u64::from(took));
        let _ = parse(&bytes, 0, sent, sent + took);
        let mut message = answer(&request(0), THEN);
        message.iter_mut().zip(&bytes).skip(1).for_each(|(byte, other)| *byte ^= other & 0x11);
        if let Some(Reply::Sample(read)) = parse(&message, 0, sent, sent + took) {
            prop_assert!(read.error_ns <= took + WORST_NS);
        }
    }

    #[test]
    fn what_is_selected_agrees_with_more_than_half(offsets in proptest::collection::vec((-1000_i64..1000, 0_u64..300), 0..8)) {
        let samples: Vec<_> = offsets.iter().map(|&(offset, error)| sample(offset, error)).collect();
        if let Some(at) = select(&samples) {
            let chosen = samples[at].unwrap();
            let near = samples.iter().flatten().filter(|other| {
                other.offset_ns.abs_diff(chosen.offset_ns) <= other.error_ns + chosen.error_ns
            });
            prop_assert!(near.count() * 2 > samples.len());
        }
    }
}
