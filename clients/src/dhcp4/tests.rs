use super::*;
use crate::random::random;
use proptest::prelude::*;
use std::vec;

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);

fn settings() -> Settings {
    Settings { mac: [2, 0, 0, 0, 0, 7], iaid: 1, hostname: "edge1".into() }
}

fn client() -> Client {
    Client::new(settings(), random, 0)
}

/// A server's answer to `asked`.
fn answer(asked: &Send, kind: u8, options: &[u8]) -> Vec<u8> {
    let mut bytes = asked.payload[..236].to_vec();
    bytes[0] = 2;
    bytes[16..20].copy_from_slice(&ADDRESS.octets());
    bytes.extend([99, 130, 83, 99, 53, 1, kind, 54, 4, 192, 0, 2, 1]);
    bytes.extend_from_slice(options);
    bytes.push(255);
    bytes
}

const TERMS: [u8; 18] = [1, 4, 255, 255, 255, 0, 51, 4, 0, 0, 0x0e, 0x10, 3, 4, 192, 0, 2, 1];

fn kind_of(send: &Send) -> u8 {
    send.payload[242]
}

fn sent(client: &mut Client, now_ms: u64) -> Send {
    client.poll(now_ms).0.expect("a message")
}

fn bound() -> Client {
    let mut client = client();
    let discover = sent(&mut client, 0);
    assert_eq!(
        (kind_of(&discover), discover.from, discover.to),
        (1, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST)
    );
    assert_eq!(discover.payload[10], 0x80, "the answer is to go to all");
    assert_eq!(client.input(&answer(&discover, 2, &TERMS), 10), None);
    let request = sent(&mut client, 10);
    assert_eq!(kind_of(&request), 3);
    assert_eq!(request.payload[4..8], discover.payload[4..8], "one transaction");
    assert_eq!(client.input(&answer(&request, 5, &TERMS), 20), Some(Event::Gained));
    client
}

#[test]
fn a_lease_is_gained_and_says_what_it_is() {
    let client = bound();
    let lease = client.lease().unwrap();
    assert_eq!((lease.grant.address, lease.grant.prefix_len, lease.server), (ADDRESS, 24, SERVER));
    assert_eq!(lease.grant.routes, [(Ipv4Addr::UNSPECIFIED, 0, SERVER)]);
    assert_eq!((lease.grant.t1_s, lease.grant.t2_s, lease.until_ms), (1800, 3150, 3_600_020));
    assert_eq!(client.deadline_ms(), 1_800_020);
}

#[test]
fn it_is_renewed_at_the_server_then_at_any_then_lost() {
    let mut client = bound();
    assert_eq!(client.poll(1_800_019), (None, None));
    let renew = sent(&mut client, 1_800_020);
    assert_eq!((kind_of(&renew), renew.from, renew.to), (3, ADDRESS, SERVER));
    assert_eq!(client.input(&answer(&renew, 5, &TERMS), 1_800_030), Some(Event::Renewed));
    let mut now = client.deadline_ms();
    let (mut to_server, mut to_all) = (0, 0);
    loop {
        match client.poll(now) {
            (Some(send), None) if send.to == SERVER => to_server += 1,
            (Some(send), None) => {
                assert_eq!((send.to, send.from), (Ipv4Addr::BROADCAST, ADDRESS));
                to_all += 1;
            }
            (None, Some(event)) => {
                assert_eq!(event, Event::Lost("it ran out"));
                break;
            }
            other => panic!("{other:?}"),
        }
        now = client.deadline_ms();
    }
    assert_eq!(now, 1_800_030 + 3_600_000);
    assert!((2..8).contains(&to_server) && (2..12).contains(&to_all), "{to_server} {to_all}");
    assert_eq!(kind_of(&sent(&mut client, now)), 1, "and begins anew");
}

#[test]
fn questions_are_repeated_ever_more_seldom() {
    let mut client = client();
    let mut gaps = Vec::new();
    let mut now = 0;
    for _ in 0..8 {
        assert_eq!(kind_of(&sent(&mut client, now)), 1);
        gaps.push(client.deadline_ms() - now);
        now = client.deadline_ms();
    }
    for (gap, wanted) in gaps.iter().zip([4, 8, 16, 32, 64, 64, 64, 64]) {
        assert!((wanted * 750..=wanted * 1250).contains(gap), "{gaps:?}");
    }
}

#[test]
fn an_offer_that_is_never_confirmed_is_given_up() {
    let mut client = client();
    let discover = sent(&mut client, 0);
    client.input(&answer(&discover, 2, &TERMS), 0);
    let mut next = || {
        let at = client.deadline_ms();
        kind_of(&sent(&mut client, at))
    };
    let kinds: Vec<u8> = (0..5).map(|_| next()).collect();
    assert_eq!(kinds, [3, 3, 3, 3, 1]);
}

#[test]
fn a_nak_ends_it_and_a_nak_of_another_server_does_not() {
    let mut client = bound();
    let renew = sent(&mut client, 1_800_020);
    let nak = answer(&renew, 6, &[]);
    assert_eq!(client.input(&nak, 1_800_030), Some(Event::Lost("the server took it back")));
    assert_eq!(client.lease(), None);

    let mut client = self::client();
    let discover = sent(&mut client, 0);
    client.input(&answer(&discover, 2, &TERMS), 0);
    let request = sent(&mut client, 0);
    let mut other = answer(&request, 6, &[]);
    other[248] = 9;
    client.input(&other, 1);
    assert_eq!(client.input(&answer(&request, 5, &TERMS), 2), Some(Event::Gained));
}

#[test]
fn answers_to_others_late_ones_and_duplicates_change_nothing() {
    let mut client = client();
    let discover = sent(&mut client, 0);
    let offer = answer(&discover, 2, &TERMS);
    let mut wrong = offer.clone();
    wrong[5] ^= 1;
    let mut not_mine = offer.clone();
    not_mine[30] ^= 1;
    for bytes in [wrong, not_mine, answer(&discover, 5, &TERMS)] {
        assert_eq!(client.input(&bytes, 1), None);
        assert_eq!(client.state, State::Selecting);
    }
    client.input(&offer, 1);
    client.input(&offer, 1);
    let request = sent(&mut client, 1);
    let mut elsewhere = answer(&request, 5, &TERMS);
    elsewhere[19] = 51;
    assert_eq!(client.input(&elsewhere, 2), None, "another address than was asked for");
    let ack = answer(&request, 5, &TERMS);
    assert_eq!(client.input(&ack, 2), Some(Event::Gained));
    let before = client.deadline_ms();
    assert_eq!(client.input(&ack, 900), None);
    assert_eq!(client.deadline_ms(), before, "a duplicate does not lengthen it");
}

#[test]
fn released_and_declined_addresses_are_told() {
    let mut client = bound();
    let release = client.release().unwrap();
    assert_eq!((kind_of(&release), release.from, release.to), (7, ADDRESS, SERVER));
    assert_eq!(client.release(), None);
    for random in [|| 0, random, || 1 << 33, || u64::MAX] {
        let mut client = bound();
        client.random = random;
        let decline = client.decline(100).unwrap();
        assert_eq!((kind_of(&decline), decline.to), (4, Ipv4Addr::BROADCAST));
        assert_eq!(decline.payload[10], 0, "no answer comes");
        assert!((10_100..12_700).contains(&client.deadline_ms()), "ten seconds at least");
    }
}

#[test]
fn a_link_that_is_back_asks_whether_the_lease_holds() {
    let mut client = bound();
    client.link_is_back(5000);
    let send = sent(&mut client, 5000);
    assert_eq!((kind_of(&send), send.from, send.to), (3, ADDRESS, Ipv4Addr::BROADCAST));
    assert_eq!(client.input(&answer(&send, 5, &TERMS), 5010), Some(Event::Renewed));
}

/// Messages of a client whose server answers each at once, in ten minutes.
fn messages(terms: &[u8], mut each_ms: impl FnMut(&mut Client, u64)) -> usize {
    let mut client = client();
    let mut sent = 0;
    for now in 0..600_000 {
        each_ms(&mut client, now);
        if let Some(send) = client.poll(now).0 {
            sent += 1;
            let kind = if kind_of(&send) == 1 { 2 } else { 5 };
            client.input(&answer(&send, kind, terms), now);
        }
    }
    sent
}

#[test]
fn renewal_times_that_cannot_be_count_as_absent() {
    let times = |lease: u32, t1: u32, t2: u32| {
        let mut terms = TERMS[..6].to_vec();
        for (code, seconds) in [(51, lease), (58, t1), (59, t2)] {
            terms.extend([code, 4]);
            terms.extend(seconds.to_be_bytes());
        }
        let discover = sent(&mut client(), 0);
        let grant = Reply::parse(&answer(&discover, 2, &terms)).and_then(|reply| reply.grant);
        (grant.map(|grant| (grant.t1_s, grant.t2_s)), terms)
    };
    for (lease, t1, t2, wanted) in [
        (3600, 0, 0, Some((1800, 3150))),
        (3600, 1, 2, Some((1800, 3150))),
        (3600, 59, 60, Some((1800, 3150))),
        (3600, 60, 61, Some((60, 61))),
        (3600, 700, 300, Some((300, 300))),
        (120, 8, 20, Some((8, 20))),
        (120, 6, 7, Some((60, 105))),
        (10, 1, 2, Some((5, 8))),
        (9, 0, 0, None),
        (1, 0, 0, None),
    ] {
        let (found, terms) = times(lease, t1, t2);
        assert_eq!(found, wanted, "{lease} {t1} {t2}");
        let most = 2 + 600 / found.map_or(4, |(t1, _)| t1) as usize;
        assert!(messages(&terms, |_, _| ()) <= most, "{lease} {t1} {t2}");
    }
}

#[test]
fn a_link_that_comes_and_goes_is_no_storm() {
    let sent = messages(&TERMS, |client, now| {
        if now % 7 == 0 {
            client.link_is_back(now);
        }
    });
    assert!((600..=620).contains(&sent), "{sent}");
}

#[test]
fn classless_routes_count_instead_of_the_router() {
    let mut options = TERMS.to_vec();
    // 10/8 by .3, 192.0.2.128/25 on the link, and the default by .4; the second half in an option of its own.
    options.extend([121, 9, 8, 10, 192, 0, 2, 3, 25, 192, 0]);
    options.extend([121, 11, 2, 128, 0, 0, 0, 0, 0, 192, 0, 2, 4]);
    options.extend([26, 2, 5, 220, 6, 8, 192, 0, 2, 7, 127, 0, 0, 1, 42, 4, 192, 0, 2, 8]);
    let mut client = client();
    let discover = sent(&mut client, 0);
    let reply = Reply::parse(&answer(&discover, 2, &options)).unwrap();
    let grant = reply.grant.unwrap();
    let v4 = |a, b, c, d| Ipv4Addr::new(a, b, c, d);
    assert_eq!(
        grant.routes,
        [
            (v4(10, 0, 0, 0), 8, v4(192, 0, 2, 3)),
            (v4(192, 0, 2, 128), 25, Ipv4Addr::UNSPECIFIED),
            (Ipv4Addr::UNSPECIFIED, 0, v4(192, 0, 2, 4)),
        ]
    );
    assert_eq!(
        (grant.mtu, grant.dns, grant.ntp),
        (Some(1500), vec![v4(192, 0, 2, 7)], vec![v4(192, 0, 2, 8)])
    );
}

#[test]
fn options_may_lie_in_the_names_fields() {
    let mut client = client();
    let discover = sent(&mut client, 0);
    let mut bytes = answer(&discover, 2, &[52, 1, 3]);
    bytes[108..115].copy_from_slice(&[51, 4, 0, 0, 1, 0, 255]);
    bytes[44..51].copy_from_slice(&[1, 4, 255, 255, 255, 0, 255]);
    let grant = Reply::parse(&bytes).unwrap().grant.unwrap();
    assert_eq!((grant.lease_s, grant.prefix_len), (256, 24));
}

#[test]
fn what_no_host_can_use_is_no_grant() {
    let mut client = client();
    let discover = sent(&mut client, 0);
    let lease = [51, 4, 0, 0, 1, 0];
    for mask in [[255, 255, 0, 255], [0, 0, 0, 0], [255, 255, 255, 0]] {
        let options = [&[1, 4][..], &mask, &lease].concat();
        let mut bytes = answer(&discover, 2, &options);
        if mask[3] == 0 && mask[0] == 255 {
            bytes[19] = 255;
        }
        assert_eq!(Reply::parse(&bytes), None, "{mask:?}");
    }
    assert_eq!(Reply::parse(&answer(&discover, 2, &[1, 4, 255, 255, 255, 0])), None, "no lease time");
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..700), at in 0..4_000_000_u64) {
        let mut client = bound();
        let _ = client.poll(at);
        let mut message = sent(&mut self::client(), 0).payload;
        message.splice(240.., bytes.iter().copied());
        message[0] = 2;
        message[4..8].copy_from_slice(&client.xid.to_be_bytes());
        for bytes in [&bytes[..], &message] {
            let _ = client.input(bytes, at);
        }
        // Whatever came: it can be driven on, and its deadlines move.
        let mut now = at;
        for _ in 0..50 {
            let due = client.deadline_ms();
            prop_assert!(due >= now || client.poll(now) != (None, None));
            now = now.max(due);
            let _ = client.poll(now);
        }
    }

    #[test]
    fn some_answer_gets_through(lost in proptest::collection::vec(any::<bool>(), 200)) {
        let mut client = client();
        let mut lost = lost.into_iter();
        let mut now = 0;
        while client.lease().is_none() {
            let (send, _) = client.poll(now);
            if let Some(send) = send
                && lost.next() != Some(true)
            {
                let kind = if kind_of(&send) == 1 { 2 } else { 5 };
                let reply = answer(&send, kind, &TERMS);
                if lost.next() != Some(true) {
                    client.input(&reply, now);
                    client.input(&reply, now);
                }
            }
            now = client.deadline_ms().max(now);
            prop_assert!(now < 200 * 64_000 * 2);
        }
    }
}
