use super::*;
use crate::random::random;
use proptest::prelude::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x50);
const SERVER: &[u8] = &[0, 1, 0, 1, 9, 9];
const DNS: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53];

fn client() -> Client {
    let mut client = Client::new(MAC, 7, random);
    assert_eq!((client.deadline_ms(), client.poll(0)), (NEVER, (None, None)), "nobody told it to ask");
    client.want(Wanted::Addresses, 0);
    client
}

fn option(code: u8, value: &[u8]) -> Vec<u8> {
    [&[0, code, 0, value.len() as u8], value].concat()
}

fn association(given: &[(Ipv6Addr, u32, u32)], t1: u32, t2: u32, more: &[u8]) -> Vec<u8> {
    let mut value = Vec::from([0, 0, 0, 7]);
    value.extend(t1.to_be_bytes());
    value.extend(t2.to_be_bytes());
    for (address, preferred, valid) in given {
        value.extend(option(
            5,
            &[&address.octets()[..], &preferred.to_be_bytes(), &valid.to_be_bytes()].concat(),
        ));
    }
    value.extend(more);
    option(3, &value)
}

fn terms() -> Vec<u8> {
    [association(&[(ADDRESS, 1000, 2000)], 500, 800, &[]), option(23, &DNS)].concat()
}

/// An answer to `asked` with these options.
fn answer(kind: u8, asked: &[u8], options: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::from([kind]);
    bytes.extend(&asked[1..4]);
    bytes.extend(option(1, &[0, 3, 0, 1, 2, 0, 0, 0, 0, 7]));
    bytes.extend(option(2, SERVER));
    bytes.extend(options);
    bytes
}

/// What is sent next, and when.
fn sent(client: &mut Client) -> (u64, Vec<u8>) {
    let at = client.deadline_ms();
    assert_eq!(client.poll(at - 1).0, None);
    match client.poll(at) {
        (Some(message), None) => (at, message),
        other => panic!("{other:?} at {at}"),
    }
}

fn has(message: &[u8], option: &[u8]) -> bool {
    message.windows(option.len()).any(|window| window == option)
}

/// Its addresses, and when they end.
fn ends(client: &Client) -> Vec<(Ipv6Addr, u64)> {
    client.addresses().iter().map(|own| (own.address, own.valid_until_ms)).collect()
}

fn bound() -> (Client, u64) {
    let mut client = client();
    let (_, solicit) = sent(&mut client);
    assert_eq!(solicit[0], 1);
    assert!(has(&solicit, &option(14, &[])) && has(&solicit, &option(1, &[0, 3, 0, 1, 2, 0, 0, 0, 0, 7])));
    assert_eq!(client.input(&answer(2, &solicit, &terms()), 500), None);
    let (at, request) = sent(&mut client);
    assert!(request[0] == 3 && has(&request, &option(2, SERVER)) && has(&request, &ADDRESS.octets()));
    assert_ne!(request[1..4], solicit[1..4], "another exchange");
    assert_eq!(client.input(&answer(7, &request, &terms()), at), Some(Event::Gained));
    (client, at)
}

#[test]
fn an_address_is_gained_and_says_when_it_ends() {
    let (client, at) = bound();
    assert_eq!(ends(&client), [(ADDRESS, at + 2_000_000)]);
    assert_eq!(client.dns(), [Ipv6Addr::from(DNS)]);
    assert_eq!(client.deadline_ms(), at + 500_000);
}

#[test]
fn the_server_that_is_preferred_is_taken() {
    let mut client = client();
    let (at, solicit) = sent(&mut client);
    let other = |preference: u8, duid: &[u8]| {
        let mut bytes = answer(2, &solicit, &[terms(), option(7, &[preference])].concat());
        bytes.splice(18..18 + 4 + SERVER.len(), option(2, duid));
        bytes
    };
    client.input(&other(5, &[1, 1]), at);
    client.input(&other(9, &[2, 2]), at);
    client.input(&other(7, &[3, 3]), at);
    assert!(client.deadline_ms() > at + 900, "others have a second");
    client.input(&other(255, &[4, 4]), at);
    assert_eq!(client.deadline_ms(), at, "none can be better");
    assert!(has(&sent(&mut client).1, &option(2, &[4, 4])));
}

#[test]
fn two_messages_do_where_the_server_likes() {
    let mut client = client();
    let (at, solicit) = sent(&mut client);
    assert_eq!(client.input(&answer(7, &solicit, &terms()), at), None, "without the option it is none");
    let rapid = [terms(), option(14, &[])].concat();
    assert_eq!(client.input(&answer(7, &solicit, &rapid), at), Some(Event::Gained));
}

#[test]
fn it_is_renewed_at_the_server_then_at_any_then_lost() {
    let (mut client, at) = bound();
    let (renewed, renew) = sent(&mut client);
    assert_eq!((renewed, renew[0]), (at + 500_000, 5));
    assert!(has(&renew, &option(2, SERVER)));
    assert_eq!(client.input(&answer(7, &renew, &terms()), renewed), Some(Event::Renewed));
    let (mut kinds, end) = (Vec::new(), renewed + 2_000_000);
    loop {
        let now = client.deadline_ms();
        match client.poll(now) {
            (Some(message), None) => {
                assert_eq!(has(&message, &option(2, SERVER)), message[0] == 5);
                assert_eq!(message[0] == 6, now >= renewed + 800_000);
                kinds.push(message[0]);
            }
            (None, Some(Event::Deprecated)) => assert_eq!(now, renewed + 1_000_000),
            (None, Some(event)) => {
                assert_eq!((event, now), (Event::Lost("it ran out"), end));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(kinds.contains(&5) && kinds.contains(&6) && kinds.len() < 16, "{kinds:?}");
    assert_eq!(sent(&mut client).1[0], 1, "and begins anew");
}

#[test]
fn a_server_that_forgot_is_asked_for_the_same() {
    let (mut client, _) = bound();
    let (at, renew) = sent(&mut client);
    let none = association(&[], 0, 0, &option(13, &[0, 3]));
    assert_eq!(client.input(&answer(7, &renew, &none), at), None);
    let (_, request) = sent(&mut client);
    assert!(request[0] == 3 && has(&request, &ADDRESS.octets()));
    let back = association(&[(ADDRESS, 0, 0)], 0, 0, &[]);
    assert_eq!(client.input(&answer(7, &request, &back), at), Some(Event::Lost("the server took it back")));
}

/// Messages of a client whose server answers each with `options`, an advertisement with [`terms`], in ten minutes.
fn messages(client: &mut Client, from: u64, options: &[u8]) -> usize {
    let mut sent = 0;
    for now in from..from + 600_000 {
        if let Some(message) = client.poll(now).0 {
            sent += 1;
            let answer =
                if message[0] == 1 { answer(2, &message, &terms()) } else { answer(7, &message, options) };
            client.input(&answer, now);
        }
    }
    sent
}

#[test]
fn a_server_that_knows_nobody_is_left_alone_for_a_while() {
    let (mut client, _) = bound();
    let (at, renew) = sent(&mut client);
    let none = association(&[], 0, 0, &option(13, &[0, 3]));
    assert_eq!(client.input(&answer(7, &renew, &none), at), None);
    let (_, request) = sent(&mut client);
    let lost = Some(Event::Lost("the server does not know it"));
    assert_eq!(client.input(&answer(7, &request, &none), at), lost);
    assert_eq!(client.deadline_ms(), at + AGAIN_MS);
    let sent = messages(&mut client, at, &none);
    assert!((60..=120).contains(&sent), "a solicitation and a request each ten seconds: {sent}");
}

#[test]
fn renewal_times_that_cannot_be_count_as_absent() {
    for (preferred, valid, t1, t2, wanted) in [
        (1000, 2000, 1, 2, Some((500, 800))),
        (1000, 2000, 60, 70, Some((60, 70))),
        (0, 2000, 0, 0, Some((60, 96))),
        (0, u32::MAX, 0, 0, Some((60, 96))),
        (1, 40, 1, 0, Some((5, 8))),
        (1, 9, 1, 0, None),
    ] {
        let mut client = client();
        let (at, solicit) = sent(&mut client);
        let own = association(&[(ADDRESS, preferred, valid)], t1, t2, &[]);
        client.input(&answer(7, &solicit, &[own.clone(), option(14, &[])].concat()), at);
        let times =
            client.lease.as_ref().map(|lease| ((lease.renew_ms - at) / 1000, (lease.rebind_ms - at) / 1000));
        assert_eq!(times, wanted, "{preferred} {valid} {t1} {t2}");
        let most = 2 + 600 / wanted.map_or(4, |(t1, _)| t1) as usize;
        let sent = messages(&mut client, at + 1, &own);
        assert!(sent <= most.max(125), "{preferred} {valid} {t1} {t2}: {sent}");
    }
}

#[test]
fn a_link_that_comes_and_goes_is_no_storm() {
    let (mut client, at) = bound();
    let mut sent = 0;
    for now in at..at + 600_000 {
        if client.deadline_ms() <= now {
            sent += usize::from(client.poll(now).0.is_some());
            client.decline(ADDRESS, now);
            client.link_is_back(now);
            (client.due_ms, client.began_ms) = (now, now);
        }
    }
    assert!(sent <= 620, "{sent}");
}

#[test]
fn another_link_takes_the_address_away() {
    let (mut client, at) = bound();
    client.link_is_back(at);
    let (_, confirm) = sent(&mut client);
    assert!(confirm[0] == 4 && has(&confirm, &ADDRESS.octets()) && !has(&confirm, &option(2, SERVER)));
    assert_eq!(client.input(&answer(7, &confirm, &option(13, &[0, 0])), at), None);
    assert_eq!(client.deadline_ms(), at + 500_000);
    client.link_is_back(at);
    let (_, confirm) = sent(&mut client);
    let no = option(13, &[0, 4]);
    assert_eq!(client.input(&answer(7, &confirm, &no), at), Some(Event::Lost("it belongs to another link")));
    // Where nobody answers, it stays.
    let (mut client, at) = bound();
    client.link_is_back(at);
    while client.deadline_ms() < at + 100_000 {
        let now = client.deadline_ms();
        assert_eq!(client.poll(now).1, None);
    }
    assert!(client.lease.is_some() && client.deadline_ms() == at + 500_000);
}

#[test]
fn questions_are_repeated_ever_more_seldom_as_servers_wish() {
    let mut client = client();
    let mut last = sent(&mut client);
    for wanted in [1, 2, 4, 8, 16, 32] {
        let next = sent(&mut client);
        let gap = next.0 - last.0;
        assert!((wanted * 800..=wanted * 1250).contains(&gap), "{gap} for {wanted}");
        last = next;
    }
    // No address, but a limit (RFC 9915 §18.2.9).
    let none = [association(&[], 0, 0, &option(13, &[0, 2])), option(82, &[0, 0, 0, 60])].concat();
    assert_eq!(client.input(&answer(2, &last.1, &none), last.0), None);
    for _ in 0..5 {
        last = sent(&mut client);
        assert!(client.deadline_ms() - last.0 <= 66_000);
    }
}

#[test]
fn addresses_are_given_back_and_taken_ones_declined() {
    let (mut client, at) = bound();
    client.release(at);
    assert_eq!((client.addresses(), client.deadline_ms()), (&[][..], at));
    let (_, release) = sent(&mut client);
    assert!(release[0] == 8 && has(&release, &option(2, SERVER)) && has(&release, &ADDRESS.octets()));
    assert_eq!(client.input(&answer(7, &release, &[]), at + 5), None);
    assert_eq!(client.deadline_ms(), NEVER, "that is all");
    let (mut client, at) = bound();
    client.decline(ADDRESS, at);
    let (_, decline) = sent(&mut client);
    assert!(decline[0] == 9 && has(&decline, &ADDRESS.octets()) && client.lease.is_none());
    assert_eq!(client.input(&answer(7, &decline, &option(13, &[0, 3])), at + 5), None);
    assert!(client.deadline_ms() >= at + 10_000, "a wrong server is no storm");
    assert_eq!(sent(&mut client).1[0], 1);
}

#[test]
fn a_server_that_does_not_answer_is_told_four_times() {
    for kind in [8, 9] {
        let (mut client, at) = bound();
        match kind {
            8 => client.release(at),
            _ => client.decline(ADDRESS, at),
        }
        let (mut last, first) = sent(&mut client);
        assert_eq!((first[0], last), (kind, at));
        for wanted in [1, 2, 4] {
            let (now, again) = sent(&mut client);
            assert!((wanted * 800..=wanted * 1250).contains(&(now - last)), "{} for {wanted}", now - last);
            assert_eq!((again[0], &again[1..4]), (kind, &first[1..4]), "the same once more");
            assert!(has(&again, &option(2, SERVER)) && has(&again, &ADDRESS.octets()));
            assert!(has(&again, &option(8, &(((now - at) / 10) as u16).to_be_bytes())));
            // Neither an offer nor an answer to another question is one.
            let mut other = answer(7, &again, &[]);
            other[3] ^= 1;
            assert_eq!((client.input(&answer(2, &again, &[]), now), client.input(&other, now)), (None, None));
            last = now;
        }
        // Then only another address is asked for.
        let mut kinds = Vec::new();
        while client.deadline_ms() != NEVER && kinds.len() < 3 {
            let due = client.deadline_ms();
            kinds.extend(client.poll(due).0.map(|message| message[0]));
        }
        assert_eq!(kinds, if kind == 8 { Vec::new() } else { Vec::from([1, 1, 1]) });
    }
}

#[test]
fn several_declined_addresses_are_told_each_until_it_is_answered() {
    let other = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x51);
    let both = association(&[(ADDRESS, 1000, 2000), (other, 1000, 3000)], 500, 800, &[]);
    let mut client = client();
    let (at, solicit) = sent(&mut client);
    client.input(&answer(7, &solicit, &[both, option(14, &[])].concat()), at);
    client.decline(ADDRESS, at);
    client.decline(other, at);
    let (one, two) = (sent(&mut client).1, sent(&mut client).1);
    assert!(has(&one, &ADDRESS.octets()) && has(&two, &other.octets()) && one[1..4] != two[1..4]);
    assert_eq!(client.input(&answer(7, &one, &[]), at), None);
    for _ in 0..3 {
        let (_, again) = sent(&mut client);
        assert_eq!(again[..4], two[..4], "one is known, and the other is not");
    }
}

#[test]
fn of_several_addresses_only_the_taken_one_is_declined() {
    let other = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x51);
    let both = association(&[(ADDRESS, 1000, 2000), (other, 1000, 3000)], 500, 800, &[]);
    let bound = || {
        let mut client = client();
        let (at, solicit) = sent(&mut client);
        let rapid = [both.clone(), option(14, &[])].concat();
        assert_eq!(client.input(&answer(7, &solicit, &rapid), at), Some(Event::Gained));
        (client, at)
    };
    let (mut client, at) = bound();
    client.decline(other.to_bits().wrapping_add(1).into(), at);
    assert_eq!(client.deadline_ms(), at + 500_000, "it never had that one");
    client.decline(ADDRESS, at + 1000);
    let (declined, decline) = sent(&mut client);
    assert_eq!(declined, at + 1000);
    assert!(decline[0] == 9 && has(&decline, &ADDRESS.octets()) && !has(&decline, &other.octets()));
    assert!(has(&decline, &option(2, SERVER)));
    assert_eq!(client.input(&answer(7, &decline, &[]), declined), None);
    // The other goes on as if nothing had been: it is renewed when it was to be, and given back at the end.
    assert_eq!(ends(&client), [(other, at + 3_000_000)]);
    let (renewed, renew) = sent(&mut client);
    assert_eq!((renewed, renew[0]), (at + 500_000, 5));
    assert!(has(&renew, &other.octets()) && !has(&renew, &ADDRESS.octets()));
    let kept = association(&[(other, 1000, 3000)], 500, 800, &[]);
    assert_eq!(client.input(&answer(7, &renew, &kept), renewed), Some(Event::Renewed));
    client.release(renewed);
    let (_, release) = sent(&mut client);
    assert!(release[0] == 8 && has(&release, &other.octets()) && !has(&release, &ADDRESS.octets()));

    // While it is being renewed: that begins anew, without it; and a late answer gives nothing back.
    let (mut client, _) = bound();
    let (at, renew) = sent(&mut client);
    client.decline(ADDRESS, at);
    assert_eq!(sent(&mut client).1[0], 9);
    assert_eq!(client.input(&answer(7, &renew, &both), at), None);
    let (_, again) = sent(&mut client);
    assert!(again[0] == 5 && has(&again, &other.octets()) && !has(&again, &ADDRESS.octets()));
    // Or asked for again of a server that forgot.
    let (mut client, _) = bound();
    let (at, renew) = sent(&mut client);
    let none = association(&[], 0, 0, &option(13, &[0, 3]));
    assert_eq!(client.input(&answer(7, &renew, &none), at), None);
    client.decline(ADDRESS, at);
    assert_eq!(sent(&mut client).1[0], 9);
    let (_, request) = sent(&mut client);
    assert!(request[0] == 3 && has(&request, &other.octets()) && !has(&request, &ADDRESS.octets()));
}

#[test]
fn addresses_that_a_reply_does_not_name_stay_until_they_end() {
    let other = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x51);
    let both = association(&[(ADDRESS, 1200, 2000), (other, 1000, 3000)], 500, 800, &[]);
    let bound = || {
        let mut client = client();
        let (at, solicit) = sent(&mut client);
        client.input(&answer(7, &solicit, &[both.clone(), option(14, &[])].concat()), at);
        let (renewed, renew) = sent(&mut client);
        assert_eq!(ends(&client), [(ADDRESS, at + 2_000_000), (other, at + 3_000_000)]);
        (client, at, renewed, renew)
    };
    let (mut client, at, now, renew) = bound();
    let one = association(&[(other, 1000, 3000)], 500, 800, &[]);
    assert_eq!(client.input(&answer(7, &renew, &one), now), Some(Event::Renewed));
    assert_eq!(ends(&client), [(ADDRESS, at + 2_000_000), (other, now + 3_000_000)]);
    let (_, renew) = sent(&mut client);
    assert!(has(&renew, &ADDRESS.octets()) && has(&renew, &other.octets()), "both are asked for");
    assert_eq!(client.runs_out_ms(), at + 1_200_000);
    let mut deprecated = Vec::new();
    while client.deadline_ms() < at + 2_000_000 {
        let due = client.deadline_ms();
        deprecated.extend(client.poll(due).1.map(|event| (event, due)));
    }
    let [early, late] = [at + 1_200_000, now + 1_000_000].map(|due| (Event::Deprecated, due));
    assert_eq!(deprecated, [early, late]);
    assert_eq!(client.poll(at + 2_000_000), (None, Some(Event::Lost("it ran out"))));
    assert_eq!(ends(&client), [(other, now + 3_000_000)]);
    // What it takes back goes at once, alone or beside others.
    for given in [&[(ADDRESS, 0, 0)][..], &[(ADDRESS, 0, 0), (other, 1000, 3000)]] {
        let (mut client, _, now, renew) = bound();
        let less = association(given, 500, 800, &[]);
        assert_eq!(client.input(&answer(7, &renew, &less), now), Some(Event::Gained));
        assert!(matches!(client.addresses(), [left] if left.address == other));
    }
    let (mut client, _, now, renew) = bound();
    let none = association(&[(ADDRESS, 0, 0), (other, 0, 0)], 500, 800, &[]);
    assert_eq!(client.input(&answer(7, &renew, &none), now), Some(Event::Lost("the server took it back")));
}

#[test]
fn an_address_is_deprecated_before_it_ends() {
    let (mut client, at) = bound();
    let state = |client: &Client| client.addresses().iter().map(|own| own.deprecated).collect::<Vec<_>>();
    // Nobody answers, and then it is no longer asked: time goes on all the same.
    assert_eq!((state(&client), client.runs_out_ms()), ([false].into(), at + 1_000_000));
    while client.deadline_ms() < at + 1_000_000 {
        assert_eq!(client.poll(client.deadline_ms()).1, None);
    }
    assert_eq!(client.poll(at + 1_000_000), (None, Some(Event::Deprecated)));
    assert_eq!((state(&client), client.runs_out_ms()), ([true].into(), at + 2_000_000));
    // A server that renews it makes it preferred again, and one that says so deprecates it at once.
    for (preferred_s, event, deprecated) in
        [(1000, Event::Gained, false), (1000, Event::Renewed, false), (0, Event::Gained, true)]
    {
        client.ask(Kind::Rebind, client.deadline_ms());
        let (now, asked) = sent(&mut client);
        let own = association(&[(ADDRESS, preferred_s, 2000)], 500, 800, &[]);
        assert_eq!(client.input(&answer(7, &asked, &own), now), Some(event));
        assert_eq!(state(&client), [deprecated]);
        assert_eq!(ends(&client), [(ADDRESS, now + 2_000_000)]);
    }
    // Past both at once it is lost, and nothing else is said of it.
    let (mut client, at) = bound();
    assert_eq!(client.poll(at + 2_000_000), (None, Some(Event::Lost("it ran out"))));
    assert_eq!((state(&client), client.runs_out_ms()), (Vec::new(), NEVER));
}

#[test]
fn a_server_with_ever_other_addresses_gets_no_more_than_eight_in() {
    let (mut client, _) = bound();
    for n in 0x60..0x80 {
        let (at, renew) = sent(&mut client);
        let address = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, n);
        let own = association(&[(address, 1000, u32::MAX)], 60, 80, &[]);
        assert_eq!(client.input(&answer(7, &renew, &own), at), Some(Event::Gained));
        let addresses = ends(&client);
        assert!(addresses.len() <= 8 && addresses.ends_with(&[(address, NEVER)]), "{addresses:?}");
    }
}

#[test]
fn name_servers_alone_are_asked_for_again_when_they_are_old() {
    let mut client = Client::new(MAC, 7, random);
    client.want(Wanted::Other, 0);
    let (at, asked) = sent(&mut client);
    assert!(asked[0] == 11 && !has(&asked, &[0, 3, 0, 12]));
    let told = [option(23, &DNS), option(32, &[0, 0, 3, 0xe8])].concat();
    assert_eq!(client.input(&answer(7, &asked, &told), at), Some(Event::Informed));
    assert_eq!((client.dns(), client.deadline_ms()), (&[Ipv6Addr::from(DNS)][..], at + 1_000_000));
    assert_eq!(sent(&mut client).1[0], 11);
    client.want(Wanted::Nothing, at);
    assert_eq!((client.dns().len(), client.deadline_ms()), (0, NEVER));
}

#[test]
fn answers_to_others_and_impossible_ones_are_passed_over() {
    let mut client = client();
    let (at, solicit) = sent(&mut client);
    let rapid = [terms(), option(14, &[])].concat();
    let good = answer(7, &solicit, &rapid);
    let mut cases = Vec::new();
    for place in [0, 1, 3, 13, 18 + 3] {
        let mut bad = good.clone();
        bad[place] ^= 0x10;
        cases.push(bad);
    }
    cases.push(good[..good.len() - 1].into());
    for given in
        [(ADDRESS, 2000, 1000), ("fe80::1".parse().unwrap(), 1, 1), ("ff02::1".parse().unwrap(), 1, 1)]
    {
        cases.push(answer(2, &solicit, &association(&[given], 0, 0, &[])));
    }
    cases.push(answer(2, &solicit, &association(&[(ADDRESS, 1, 1)], 9, 5, &[])));
    for bad in cases {
        assert_eq!(client.input(&bad, at), None, "{bad:x?}");
        assert!(client.offer.is_none() && client.lease.is_none());
    }
    assert_eq!(client.input(&good, at), Some(Event::Gained));
}

#[test]
fn without_times_of_the_servers_half_and_four_fifths_count() {
    let mut client = client();
    let (at, solicit) = sent(&mut client);
    let own = [association(&[(ADDRESS, 1000, 2000)], 0, 0, &[]), option(14, &[])].concat();
    client.input(&answer(7, &solicit, &own), at);
    let lease = client.lease.as_ref().unwrap();
    assert_eq!((lease.renew_ms, lease.rebind_ms), (at + 500_000, at + 800_000));
}

proptest! {
    #[test]
    fn no_answer_is_too_strange(bytes: Vec<u8>, kind: bool, steps in 1..20_usize) {
        let mut client = client();
        let mut now = 0;
        for _ in 0..steps {
            now = client.deadline_ms().max(now);
            prop_assume!(now != NEVER);
            let (message, _) = client.poll(now);
            if let Some(message) = message {
                let answer = answer(if kind { 2 } else { 7 }, &message, &bytes);
                client.input(&answer, now);
            }
            prop_assert!(client.deadline_ms() > now || message_is_due(&client, now));
        }
    }
}

/// An exchange that has just begun.
fn message_is_due(client: &Client, now: u64) -> bool {
    client.due_ms <= now && matches!(client.state, State::Asking(_)) && client.tries <= 2
}
