//! What is addressed to the router itself.

use super::*;
use crate::ethernet;
use crate::frames;
use crate::sim::*;
use std::vec;
use std::vec::Vec;
use weir_netif::Drop;

/// An echo request from the host of interface 0 to `to`.
fn ping4(to: &str) -> Vec<u8> {
    let message = frames::icmp(8, 0, &[0x12, 0x34, 0, 1, 1, 2, 3]);
    V4 { protocol: 1, ..v4("10.0.1.10", to) }.frame(0, &message)
}

fn ping6(from: &str, to: &str) -> Vec<u8> {
    frame(
        router_mac(0),
        host_mac(0),
        ethernet::IPV6,
        &v6(from, to).icmp(&[128, 0, 0, 0, 1, 2, 0, 1, 9, 9, 9]),
    )
}

#[test]
fn answers_echo_requests_to_any_of_its_addresses() {
    let mut rig = rig();
    for to in ["10.0.1.1", "192.0.2.1"] {
        rig.receive(0, &[ping4(to)]);
        let reply = rig.one(0);
        assert_sound(&reply);
        assert_eq!(reply[..12], [host_mac(0), router_mac(0)].concat());
        assert_eq!((&reply[26..30], &reply[30..34]), (&a4(to).octets()[..], &a4("10.0.1.10").octets()[..]));
        assert_eq!(reply[34..36], [0, 0]);
        assert_eq!(reply[38..], [0x12, 0x34, 0, 1, 1, 2, 3]);
    }
    for to in ["2001:db8:1::1", "2001:db8:2::1", "2001:db8:1::"] {
        rig.receive(0, &[ping6("2001:db8:1::10", to)]);
        let reply = rig.one(0);
        assert_sound(&reply);
        assert_eq!(
            (&reply[22..38], &reply[38..54]),
            (&a6(to).octets()[..], &a6("2001:db8:1::10").octets()[..])
        );
        assert_eq!(reply[54..56], [129, 0]);
        assert_eq!(reply[58..], [1, 2, 0, 1, 9, 9, 9]);
    }
}

#[test]
fn answers_at_its_link_local_address_on_that_link() {
    let mut rig = rig();
    rig.introduce6(0, "fe80::10", host_mac(0));
    let own = rig.snapshot.interface(weir_netif::IfIndex(0)).unwrap().link_local[0];
    rig.receive(0, &[ping6("fe80::10", &std::string::ToString::to_string(&own))]);
    let reply = rig.one(0);
    assert_sound(&reply);
    assert_eq!(reply[22..38], own.octets());
}

#[test]
fn answers_echo_requests_to_all_nodes_with_its_own_address() {
    let mut rig = rig();
    let packet = v6("2001:db8:1::10", "ff02::1").icmp(&[128, 0, 0, 0, 1, 2, 0, 1]);
    rig.receive(0, &[frame([0x33, 0x33, 0, 0, 0, 1], host_mac(0), ethernet::IPV6, &packet)]);
    let reply = rig.one(0);
    assert_sound(&reply);
    assert_eq!(reply[22..38], a6("2001:db8:1::1").octets());
}

#[test]
fn ignores_echo_requests_to_ipv4_groups_and_broadcasts() {
    let mut rig = rig();
    for to in ["224.0.0.1", "255.255.255.255", "10.0.1.255"] {
        let mut frame = ping4(to);
        frame[..6].fill(0xff);
        rig.receive(0, &[frame]);
    }
    assert!(rig.sent().is_empty());
    rig.assert_drops(0, &[(Drop::IcmpUnhandled, 3)]);
}

#[test]
fn damaged_echo_requests_are_dropped() {
    let mut rig = rig();
    let (mut four, mut six) = (ping4("10.0.1.1"), ping6("2001:db8:1::10", "2001:db8:1::1"));
    *four.last_mut().unwrap() ^= 1;
    *six.last_mut().unwrap() ^= 1;
    let short = V4 { protocol: 1, ..v4("10.0.1.10", "10.0.1.1") }.frame(0, &[8, 0, 0xf7]);
    rig.receive(0, &[four, six, short]);
    assert!(rig.sent().is_empty());
    rig.assert_drops(0, &[(Drop::IcmpMalformed, 3)]);
}

#[test]
fn a_reply_longer_than_the_link_goes_in_fragments() {
    let mut plan = plan(&[&[LAN, LAN6], &[WAN, WAN6]]);
    plan.interfaces[0].mtu = 1280;
    let mut rig = acquainted(Rig::new(&plan));
    let message = frames::icmp(8, 0, &[7; 1404]);
    rig.receive(0, &[V4 { protocol: 1, ..v4("10.0.1.10", "10.0.1.1") }.frame(0, &message)]);
    let sent = rig.sent();
    assert_eq!(sent.len(), 2);
    sent.iter().for_each(|s| assert_sound(&s.bytes));
}

#[test]
fn udp_and_tcp_to_nobody_are_refused() {
    let mut rig = rig();
    rig.receive(0, &[v4("10.0.1.10", "192.0.2.1").frame(0, &frames::udp(b"x"))]);
    let error = rig.one(0);
    assert_sound(&error);
    assert_eq!(error[34..36], [3, 3]);
    rig.receive(0, &[v6("2001:db8:1::10", "2001:db8:1::1").frame(0, &frames::udp(b"x"))]);
    let error = rig.one(0);
    assert_sound(&error);
    assert_eq!(error[54..56], [1, 4]);
    let tcp = frames::tcp(1, 2, &[], &[]);
    // One whose sum is wrong is not answered.
    rig.receive(0, &[V4 { protocol: 6, ..v4("10.0.1.10", "10.0.1.1") }.frame(0, &tcp)]);
    assert!(rig.sent().is_empty());
    let meta = weir_netif::Meta { checksum: weir_netif::Checksum::Verified, ..Default::default() };
    let (four, six) =
        (V4 { protocol: 6, ..v4("10.0.1.10", "10.0.1.1") }, v6("2001:db8:1::10", "2001:db8:1::1"));
    let frames = [(four.frame(0, &tcp), 34), (V6 { next: 6, ..six }.frame(0, &tcp), 54)];
    for (frame, l4) in frames {
        let mut packet = rig.pool.alloc_from(&frame).unwrap();
        *packet.meta_mut() = meta;
        rig.input(0, vec![packet]);
        let reset = rig.one(0);
        assert_sound(&reset);
        assert!(frames::transport_sum_is_right(&reset[14..], 6, &reset[l4..]));
        // To a SYN of number 1: RST and ACK of number 2, from the port it was sent to.
        assert_eq!(reset[l4..l4 + 14], [0, 80, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 2, 0x50, 0x14]);
    }
    rig.assert_drops(0, &[(Drop::LocalProtocol, 5)]);
}

#[test]
fn unknown_protocols_are_refused() {
    let mut rig = rig();
    rig.receive(0, &[V4 { protocol: 132, ..v4("10.0.1.10", "10.0.1.1") }.frame(0, &[0; 20])]);
    let error = rig.one(0);
    assert_sound(&error);
    assert_eq!(error[34..36], [3, 2]);
    rig.receive(0, &[V6 { next: 132, ..v6("2001:db8:1::10", "2001:db8:1::1") }.frame(0, &[0; 20])]);
    let error = rig.one(0);
    assert_sound(&error);
    assert_eq!((&error[54..56], &error[58..62]), (&[4, 1][..], &[0, 0, 0, 6][..]));
    // Behind destination options, the pointer is at their first byte.
    let data = [vec![132, 0, 1, 4, 0, 0, 0, 0], vec![0; 20]].concat();
    rig.receive(0, &[V6 { next: 60, ..v6("2001:db8:1::10", "2001:db8:1::1") }.frame(0, &data)]);
    assert_eq!(rig.one(0)[58..62], [0, 0, 0, 40]);
    rig.assert_drops(0, &[(Drop::LocalProtocol, 3)]);
}

#[test]
fn datagrams_to_all_are_never_refused() {
    let mut rig = rig();
    let udp = frames::udp(b"x");
    for to in ["255.255.255.255", "10.0.1.255", "224.0.0.1"] {
        rig.receive(0, &[frame([0xff; 6], host_mac(0), ethernet::IPV4, &v4("10.0.1.10", to).packet(&udp))]);
    }
    let packet = v6("2001:db8:1::10", "ff02::1").packet(&udp);
    rig.receive(0, &[frame([0x33, 0x33, 0, 0, 0, 1], host_mac(0), ethernet::IPV6, &packet)]);
    assert!(rig.sent().is_empty());
    rig.assert_drops(0, &[(Drop::LocalProtocol, 4)]);
}

#[test]
fn a_whole_packet_in_one_fragment_is_no_fragment() {
    let mut rig = rig();
    let mut data = vec![58, 0, 0, 0, 0, 0, 0, 1];
    let echo = v6("2001:db8:1::10", "2001:db8:1::1").icmp(&[128, 0, 0, 0, 1, 2, 0, 1]);
    data.extend(&echo[40..]);
    rig.receive(0, &[V6 { next: 44, ..v6("2001:db8:1::10", "2001:db8:1::1") }.frame(0, &data)]);
    let reply = rig.one(0);
    assert_sound(&reply);
    assert_eq!(reply[54..56], [129, 0]);
}

#[test]
fn source_routing_is_refused() {
    let mut rig = rig();
    let routing = |left: u8| {
        let mut data = vec![58, 2, 0, left, 0, 0, 0, 0];
        data.extend(a6("2001:db8:2::20").octets());
        let echo = v6("2001:db8:1::10", "2001:db8:1::1").icmp(&[128, 0, 0, 0, 1, 2, 0, 1]);
        data.extend(&echo[40..]);
        V6 { next: 43, ..v6("2001:db8:1::10", "2001:db8:1::1") }.frame(0, &data)
    };
    rig.receive(0, &[routing(1)]);
    let error = rig.one(0);
    assert_sound(&error);
    assert_eq!((&error[54..56], &error[58..62]), (&[4, 0][..], &[0, 0, 0, 42][..]));
    rig.assert_drops(0, &[(Drop::Ipv6Extension, 1)]);
    rig.receive(0, &[routing(0)]);
    assert_eq!(rig.one(0)[54..56], [129, 0], "one that has been followed to its end is nothing special");
}

#[test]
fn unknown_options_do_what_their_first_bits_say() {
    let with = |option: u8, to: &str| {
        let echo = v6("2001:db8:1::10", to).icmp(&[128, 0, 0, 0, 1, 2, 0, 1]);
        let data = [&[58, 0, 1, 0, option, 2, 0, 0][..], &echo[40..]].concat();
        let packet = V6 { next: 60, ..v6("2001:db8:1::10", to) }.packet(&data);
        let mac = if to.starts_with("ff") { [0x33, 0x33, 0, 0, 0, 1] } else { router_mac(0) };
        frame(mac, host_mac(0), ethernet::IPV6, &packet)
    };
    let (own, all) = ("2001:db8:1::1", "ff02::1");
    for (option, to, answer) in [
        (0x1e, own, Some(129)),
        (0x5e, own, None),
        (0x9e, own, Some(4)),
        (0x9e, all, Some(4)),
        (0xde, own, Some(4)),
        (0xde, all, None),
    ] {
        let mut rig = rig();
        rig.receive(0, &[with(option, to)]);
        let sent = rig.sent();
        assert_eq!(sent.first().map(|s| s.bytes[54]), answer, "{option:x} to {to}");
        if answer == Some(4) {
            assert_sound(&sent[0].bytes);
            assert_eq!((sent[0].bytes[55], &sent[0].bytes[58..62]), (2, &[0, 0, 0, 44][..]));
        }
    }
}

#[test]
fn broken_extension_headers_are_dropped() {
    let mut rig = rig();
    rig.receive(0, &[V6 { next: 60, ..v6("2001:db8:1::10", "2001:db8:1::1") }.frame(0, &[58, 9, 0, 0])]);
    rig.assert_drops(0, &[(Drop::Ipv6Extension, 1)]);
}

#[test]
fn a_checksum_that_is_owed_is_no_error() {
    let mut rig = rig();
    let mut packet = rig.pool.alloc_from(&ping6("2001:db8:1::10", "2001:db8:1::1")).unwrap();
    frames::owe_checksum(&mut packet, 14, 54, 58, 2);
    rig.input(0, vec![packet]);
    let reply = rig.one(0);
    assert_sound(&reply);
}

#[test]
fn replies_to_echo_requests_and_errors_about_them_are_for_sockets() {
    use crate::egress::Upper;
    use crate::ethernet::{Cast, HEADER};
    use crate::local::{Verdict4, Verdict6, input4, input6};
    let mut rig = rig();
    let request4 = &ping4("192.0.2.20")[HEADER..];
    let reply4 = frames::icmp(0, 0, &[0x12, 0x34, 0, 1, 1, 2, 3]);
    let error4 = frames::icmp(11, 0, &[&[0; 4][..], request4].concat());
    for (dropped, message, kind) in [(1, reply4, Upper::Echo), (2, error4, Upper::EchoError)] {
        let frame = V4 { protocol: 1, ..v4("192.0.2.20", "10.0.1.1") }.frame(0, &message);
        let packet = rig.pool.alloc_from(&frame).unwrap();
        let header = crate::ipv4::Header::parse(&frame[HEADER..], usize::MAX).unwrap();
        let Verdict4::Deliver(socket) = input4(&packet, &header, Cast::Unicast) else { panic!("{kind:?}") };
        assert_eq!((socket.kind, socket.port), (kind, 0x1234));
        assert!(
            !matches!(input4(&packet, &header, Cast::Group), Verdict4::Deliver(_)),
            "{kind:?} to a group"
        );
        rig.pool.free(packet);
        rig.receive(0, &[frame]);
        // Nobody has asked.
        rig.assert_drops(0, &[(Drop::IcmpUnhandled, dropped)]);
    }
    let request6 = &ping6("2001:db8:1::1", "2001:db8:2::20")[HEADER..];
    let error6 = [&[3, 0, 0, 0, 0, 0, 0, 0][..], request6].concat();
    let reply6 = Vec::from([129, 0, 0, 0, 1, 2, 0, 1, 9]);
    for (message, kind) in [(reply6, Upper::Echo), (error6, Upper::EchoError)] {
        let packet = v6("2001:db8:2::20", "2001:db8:1::1").icmp(&message);
        let frame = frame(router_mac(0), host_mac(0), ethernet::IPV6, &packet);
        let packet = rig.pool.alloc_from(&frame).unwrap();
        let header = crate::ipv6::Header::parse(&frame[HEADER..], usize::MAX).unwrap();
        let came = crate::local::Came::Whole;
        let Verdict6::Deliver(socket) = input6(&packet, &header, came) else { panic!("{kind:?}") };
        assert_eq!((socket.kind, socket.port), (kind, 0x0102));
        rig.pool.free(packet);
    }
}
