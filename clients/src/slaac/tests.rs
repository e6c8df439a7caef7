use super::*;
use crate::random::random;
use proptest::prelude::*;

const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const HOUR: u64 = 3_600_000;

fn client() -> Client {
    Client::new([0x52, 0x54, 0, 0, 0, 1], random, 0)
}

/// An advertisement of a /64 for so many seconds, by a router for so many.
fn told(lifetime_s: u16, flags: u8, valid_s: u32) -> Vec<u8> {
    let mut bytes = Vec::from([134, 0, 0, 0, 64, flags]);
    bytes.extend(lifetime_s.to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend([3, 4, 64, 0xc0]);
    bytes.extend(valid_s.to_be_bytes());
    bytes.extend(valid_s.min(600).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend("2001:db8:7::".parse::<Ipv6Addr>().unwrap().octets());
    bytes.extend([5, 1, 0, 0, 0, 0, 5, 0xb0]);
    bytes.extend([25, 3, 0, 0, 0, 0, 4, 0]);
    bytes.extend("2001:db8::53".parse::<Ipv6Addr>().unwrap().octets());
    bytes
}

#[test]
fn an_address_is_formed_and_a_router_found() {
    let mut client = client();
    assert!(client.input(&told(1800, 0, 7200), ROUTER, 0));
    let [prefix] = client.prefixes() else { panic!() };
    assert_eq!(prefix.address, "2001:db8:7::5054:ff:fe00:1".parse().ok());
    assert_eq!(client.router().unwrap().address, ROUTER);
    assert_eq!((client.mtu(), client.dns().count()), (Some(1456), 1));
    assert!(!client.input(&told(1800, 0, 7200), ROUTER, 1000), "the same again is no news");
    assert_eq!(client.poll(ROUTER, 2000), (None, false), "and nobody is asked any more");
}

#[test]
fn routers_are_asked_for_ever_more_seldom() {
    let mut client = client();
    let mut at = Vec::new();
    for _ in 0..14 {
        let now = client.deadline_ms();
        let (packet, _) = client.poll(ROUTER, now);
        let packet = packet.unwrap();
        assert_eq!((packet.len(), packet[7], packet[40]), (40 + 16, 255, 133));
        let sum: u32 = packet[8..].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        let sum = sum + 16 + 58;
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "its checksum");
        at.push(now);
    }
    assert!(at[0] < 1000 && (3500..4500).contains(&(at[1] - at[0])), "{at:?}");
    assert!(at[13] - at[12] <= LONGEST_MS * 11 / 10, "{at:?}");
}

#[test]
fn unsigned_news_shorten_a_lifetime_to_two_hours_at_most() {
    let mut client = client();
    client.input(&told(1800, 0, 36_000), ROUTER, 0);
    client.input(&told(1800, 0, 1), ROUTER, 0);
    assert_eq!(client.prefixes()[0].valid_until_ms, 2 * HOUR);
    client.input(&told(1800, 0, 1), ROUTER, HOUR);
    assert_eq!(client.prefixes()[0].valid_until_ms, 2 * HOUR, "what is left is less than that");
    client.input(&told(1800, 0, 36_000), ROUTER, HOUR);
    assert_eq!(client.prefixes()[0].valid_until_ms, 11 * HOUR);
}

#[test]
fn an_address_whose_preferred_time_is_over_is_deprecated_until_it_is_preferred_again() {
    let mut client = client();
    let told = told(1800, 0, 7200);
    client.input(&told, ROUTER, 0);
    let is_deprecated = |client: &Client| client.prefixes()[0].deprecated;
    assert_eq!((is_deprecated(&client), client.deadline_ms()), (false, 600_000));
    assert_eq!(client.poll(ROUTER, 599_999), (None, false));
    assert_eq!((client.poll(ROUTER, 600_000), is_deprecated(&client)), ((None, true), true));
    assert!(client.prefixes()[0].address.is_some() && client.deadline_ms() > 600_000);
    assert!(client.input(&told, ROUTER, 700_000), "that is news");
    assert_eq!((is_deprecated(&client), client.deadline_ms()), (false, 1_300_000));
    // At once, also where the address stays for two hours (RFC 4862 §5.5.3 (e)).
    let mut over = told.clone();
    over[20..28].fill(0);
    assert!(client.input(&over, ROUTER, 800_000) && is_deprecated(&client));
    assert_eq!(client.prefixes()[0].valid_until_ms, 7_900_000);
}

#[test]
fn what_runs_out_is_gone_and_routers_are_asked_again() {
    let mut client = client();
    client.input(&told(600, 0, 7200), ROUTER, 0);
    let (packet, changed) = client.poll(ROUTER, 600_000);
    assert!(packet.is_some() && changed && client.router().is_none());
    let (_, changed) = client.poll(ROUTER, 7_200_000);
    assert!(changed && client.prefixes().is_empty());
}

#[test]
fn a_router_that_is_none_any_more_goes_and_the_preferred_one_counts() {
    let other: Ipv6Addr = "fe80::2".parse().unwrap();
    let mut client = client();
    client.input(&told(600, 0, 7200), ROUTER, 0);
    assert!(client.input(&told(600, 0x08, 7200), other, 0), "a higher preference");
    assert_eq!(client.router().unwrap().address, other);
    assert!(client.input(&told(0, 0, 7200), other, 0));
    assert_eq!(client.router().unwrap().address, ROUTER);
    assert!(client.input(&told(600, 0xc0, 7200), ROUTER, 0));
    assert_eq!(client.dhcp(), (true, true));
}

#[test]
fn what_is_no_routers_is_not_heeded() {
    let mut client = client();
    assert!(!client.input(&told(600, 0, 7200), "2001:db8::1".parse().unwrap(), 0));
    let mut without_length = told(600, 0, 7200);
    without_length[17] = 0;
    assert!(!client.input(&without_length, ROUTER, 0));
    let mut link_local = told(600, 0, 7200);
    link_local[32..34].copy_from_slice(&[0xfe, 0x80]);
    client.input(&link_local, ROUTER, 0);
    assert!(client.prefixes().is_empty());
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0..100_000_000_u64) {
        let mut client = client();
        let mut message = told(600, 0, 7200);
        message.extend_from_slice(&bytes);
        client.input(&bytes, ROUTER, at);
        client.input(&message, ROUTER, at);
        let mut now = at;
        for _ in 0..60 {
            let due = client.deadline_ms();
            client.poll(ROUTER, now.max(due));
            if due == NEVER { break; }
            now = now.max(due);
            prop_assert!(client.deadline_ms() > now, "{now} {:?}", client.prefixes());
        }
    }
}
