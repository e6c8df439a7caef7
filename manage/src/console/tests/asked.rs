//! What the console asks for and shows when the answer comes: `explain`, `ping`, `traceroute`.

use super::*;

#[test]
fn packet_to_explain_is_read_whole() {
    let mut seat = Seat::new();
    seat.type_("explain lan from 10.0.1.2 to 192.0.2.2 protocol udp port 53 length 1400 ttl 2 source-port 7 vlan 0\r");
    for part in
        ["protocol: 17", " port: 53", "source_port: 7", "vlan: Some(0)", "len: 1400", "ttl: 2", "route  none"]
    {
        assert!(seat.sent.contains(part), "{part}: {}", seat.sent);
    }
    assert!(seat.sent.contains("text: None"), "the configuration in force: {}", seat.sent);
    for line in
        ["configure", "set interface lan mtu 1400", "explain lan from 10.0.1.2 to 192.0.2.2 candidate"]
    {
        seat.type_(line).type_("\r");
    }
    assert!(seat.sent.contains("mtu = 1400"), "the candidate: {}", seat.sent);
    for (line, wrong) in [
        ("explain lan from 10.0.1.2 to 2001:db8::1", "one address is IPv4 and the other IPv6"),
        ("explain lan from 10.0.1.2", "there is more to say"),
        ("explain lan from here to 10.0.1.2", "expected SOURCE"),
        ("explain lan from 10.0.1.2 to 192.0.2.2 protocol ospf", "expected PROTOCOL"),
        ("explain lan frame 0011", "expected HEX"),
    ] {
        let mut seat = Seat::new();
        seat.type_(line).type_("\r");
        assert!(seat.sent.contains(wrong), "{line}: {}", seat.sent);
    }
}

#[test]
fn ping_holds_the_console_until_it_ends_or_is_ended() {
    let mut seat = Seat::new();
    seat.type_("ping 192.0.2.2 size 1400 count 3 df\r");
    let asked = seat.router.did.pop().unwrap();
    for part in ["each_hop: false", "\"192.0.2.2\"", "count: 3", "size: 1400", "whole: true", "hops: 64"] {
        assert!(asked.contains(part), "{asked}");
    }
    seat.console.told("1408 bytes from 192.0.2.2");
    seat.print();
    seat.screen();
    seat.type_("x");
    assert_eq!(seat.screen().trim(), "", "keys are not taken");
    assert!(!seat.console.is_quiet());
    seat.type_("\x03");
    assert_eq!(seat.router.did.pop().as_deref(), Some("stop"));
    seat.console.told("1 sent");
    seat.console.probe_ended();
    seat.print();
    assert!(seat.screen().ends_with("1 sent\nedge1>"), "{}", seat.sent);
    seat.type_("traceroute host-7.example hops 3 ipv6\r");
    let asked = seat.router.did.pop().unwrap();
    assert!(
        asked.contains("each_hop: true") && asked.contains("six: true") && asked.contains("hops: 3"),
        "{asked}"
    );
    // Nobody does it: it can be left all the same.
    seat.type_("\x03\x03");
    assert!(seat.said("show status").contains("edge1"), "{}", seat.sent);
    for (line, wrong) in [
        ("ping", "there is more to say after `ping`: `HOST`"),
        ("ping a/b", "expected HOST"),
        ("ping 192.0.2.2 count 0", "expected TIMES"),
        ("traceroute 192.0.2.2 df", "unknown word `df`"),
    ] {
        assert!(seat.said(line).contains(wrong), "{line}: {}", seat.sent);
    }
}
