use super::*;
use crate::random::random;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

/// When it sent what, and when the address was free.
fn run(address: &str, begin_ms: u64) -> (Vec<(u64, Vec<u8>)>, Vec<u64>) {
    let mut probe = Probe::new(address.parse().unwrap(), MAC, random, begin_ms);
    let (mut sent, mut passed) = (Vec::new(), Vec::new());
    while probe.deadline_ms() != NEVER {
        let now = probe.deadline_ms();
        assert_eq!(probe.poll(now - 1), Step::Wait);
        match probe.poll(now) {
            Step::Send(message) => sent.push((now, message)),
            Step::Passed => passed.push(now),
            Step::Wait => panic!("it is due"),
        }
        assert_eq!(probe.has_passed(), !passed.is_empty());
    }
    (sent, passed)
}

#[test]
fn an_ipv6_address_is_asked_for_once_and_free_a_second_later() {
    for begin in 0..50 {
        let (sent, passed) = run("2001:db8::12:3456", 10_000 + begin);
        let [(at, packet)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(*at, 10_000 + begin);
        assert_eq!(passed, [(at + 1000).next_multiple_of(250)], "many pass together");
        assert_eq!((packet[6], packet[7], packet.len()), (58, 255, 64));
        assert_eq!(packet[8..24], [0; 16], "from nobody");
        assert_eq!(packet[24..40], "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(
            (packet[40], &packet[48..64]),
            (135, &"2001:db8::12:3456".parse::<Ipv6Addr>().unwrap().octets()[..])
        );
    }
}

#[test]
fn an_ipv4_address_is_asked_for_three_times_then_announced_again() {
    for _ in 0..50 {
        let (sent, passed) = run("192.0.2.7", 10_000);
        let times: Vec<u64> = sent.iter().map(|(at, _)| *at).collect();
        let [a, b, c, again] = times[..] else { panic!("{times:?}") };
        assert!(a == 10_000 && (1000..2000).contains(&(b - a)) && (1000..2000).contains(&(c - b)));
        let free = (c + 2000).next_multiple_of(250);
        assert_eq!((passed, again), ([free].into(), free + 2000));
        for (n, (_, message)) in sent.iter().enumerate() {
            assert_eq!((message.len(), &message[..8]), (28, &[0, 1, 8, 0, 6, 4, 0, 1][..]));
            assert_eq!((&message[8..14], &message[24..]), (&MAC[..], &[192, 0, 2, 7][..]));
            assert_eq!(message[14..18], if n < 3 { [0; 4] } else { [192, 0, 2, 7] });
        }
    }
}
