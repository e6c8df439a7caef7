use super::*;

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
const A6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const B6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2);

#[test]
fn checksum_matches_the_example_of_rfc_1071() {
    // RFC 1071 §3: the sum of these bytes is ddf2; the checksum its complement.
    assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    assert_eq!(checksum(&[&[0x00, 0x01], &[0xf2, 0x03, 0xf4, 0xf5], &[0xf6, 0xf7]]), !0xddf2);
}

#[test]
fn known_ipv4_header_has_its_published_checksum() {
    let bytes =
        [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
    assert_eq!(checksum(&[&bytes]), 0);
}

#[test]
fn ipv4_reads_back_as_built() {
    let mut packet = Ipv4::new(A, B, UDP, udp((A.into(), 9), (B.into(), 7), b"odd"));
    packet.tos = 0x2e;
    packet.dont_fragment = true;
    packet.options = vec![7, 4, 4, 0];
    let bytes = ethernet(Mac([2; 6]), Mac([4; 6]), ETHERTYPE_IPV4, &packet.bytes());
    let frame = Frame::parse(&bytes).unwrap();
    assert_eq!(frame.v4(), Some(&packet));
    assert_eq!(upper_checksum(A.into(), B.into(), UDP, &packet.payload), 0);
    assert_eq!((frame.destination, frame.source), (Mac([2; 6]), Mac([4; 6])));
}

#[test]
fn spoiled_bytes_are_seen() {
    let mut bytes = Ipv4::new(A, B, UDP, vec![0; 8]).bytes();
    bytes[8] = 1;
    assert!(!Ipv4::parse(&bytes).unwrap().checksum_valid);
    let icmp = Icmp::new(128, 0, 7, b"abc").bytes_v6(A6, B6);
    let mut frame =
        ethernet(Mac([2; 6]), Mac([4; 6]), ETHERTYPE_IPV6, &Ipv6::new(A6, B6, ICMPV6, icmp).bytes());
    assert!(Frame::parse(&frame).unwrap().icmp().unwrap().checksum_valid);
    *frame.last_mut().unwrap() ^= 1;
    assert!(!Frame::parse(&frame).unwrap().icmp().unwrap().checksum_valid);
}

#[test]
fn multicast_addresses_follow_the_rfcs() {
    let group = solicited_node(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12ab, 0x34cd));
    assert_eq!(group.to_string(), "ff02::1:ffab:34cd");
    assert_eq!(Mac::of_group_v6(group).to_string(), "33:33:ff:ab:34:cd");
    assert_eq!(Mac([0x52, 0x54, 0, 0, 0, 1]).link_local().to_string(), "fe80::5054:ff:fe00:1");
}
