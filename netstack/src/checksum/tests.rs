use super::*;
use crate::datagram;
use crate::frames::{self, assert_nothing_leaked, bytes, chain, naive_sum, owe_checksum, pool, pseudo};
use proptest::prelude::*;
use std::vec::Vec;
use weir_netif::{Gso, GsoKind};

#[test]
fn sums_as_the_example_of_rfc_1071() {
    let mut sum = Sum::new();
    sum.add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
    assert_eq!(sum.fold(), 0xddf2);
    assert_eq!(internet(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
}

#[test]
fn updates_as_the_example_of_rfc_1624() {
    // RFC 1624 §4: the case where the equation of RFC 1141 goes wrong.
    assert_eq!(update16(0xdd2f, 0x5555, 0x3285), 0x0000);
}

#[test]
fn checksum_of_a_known_ipv4_header() {
    let mut header =
        [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
    assert_eq!(internet(&header), 0xb861);
    header[10..12].copy_from_slice(&[0xb8, 0x61]);
    assert_eq!(internet(&header), 0);
}

#[test]
fn nothing_sums_to_zero_and_all_ones_stay() {
    assert_eq!(internet(&[]), 0xffff);
    assert_eq!(internet(&[0xff; 64]), 0);
    assert_eq!(internet(&[0xff; 65_536]), 0);
    assert_eq!(internet(&[0xff]), 0x00ff);
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_all_ones() {
    let mut pool = pool(2);
    // Data chosen so that the sum of everything is all ones.
    let mut data = [0u8; 2];
    let ip = frames::ipv4(UDP, &[], 0, &frames::udp(&data));
    let mut all = pseudo(&ip, UDP, 10);
    all.extend(&ip[20..]);
    data = (!naive_sum(&all)).to_be_bytes();
    for (protocol, offset, expected) in [(UDP, 6, 0xffff), (TCP, 16, 0)] {
        let transport = if protocol == UDP {
            frames::udp(&data)
        } else {
            let mut segment = frames::tcp(0, 0, &[], &[0, 0]);
            let ip = frames::ipv4(TCP, &[], 0, &segment);
            let mut all = pseudo(&ip, TCP, segment.len());
            all.extend(&segment);
            segment[20..].copy_from_slice(&(!naive_sum(&all)).to_be_bytes());
            segment
        };
        let ip = frames::ipv4(protocol, &[], 0, &transport);
        let mut packet = chain(&mut pool, &ip, &[]);
        owe_checksum(&mut packet, 0, 20, protocol, offset);
        finish_at(&mut packet, 0).unwrap();
        let at = 20 + offset;
        assert_eq!(u16::from_be_bytes([packet.data()[at], packet.data()[at + 1]]), expected);
        pool.free(packet);
    }
    assert_nothing_leaked(&mut pool);
}

#[test]
fn without_a_debt_finish_changes_nothing() {
    let mut pool = pool(1);
    let mut packet = chain(&mut pool, &[7; 60], &[]);
    for checksum in [Checksum::Unknown, Checksum::Verified] {
        packet.meta_mut().checksum = checksum;
        assert_eq!(finish(&mut packet), Ok(()));
        assert_eq!((packet.meta().checksum, bytes(&packet)), (checksum, [7; 60].to_vec()));
    }
    pool.free(packet);
}

#[test]
fn a_debt_outside_transport_or_first_segment_is_malformed() {
    let mut pool = pool(2);
    let v4 = frames::ipv4(UDP, &[1; 8], 0, &frames::udp(&[7; 100]));
    let v6 = frames::ipv6(UDP, &frames::udp(&[7; 100]));
    for (packet, ip_header) in [(v4, 28u16), (v6, 40)] {
        let frame = [frames::ethernet(0), packet].concat();
        let l4 = 14 + ip_header;
        for (start, offset, sound) in [
            (l4, 6, true),
            (l4 + 8, 0, true),
            (l4, 14, true),
            (l4, 15, false),
            (l4 - 1, 6, false),
            (14, ip_header + 6, false),
            (0, l4 + 6, false),
            (0, 7, false),
            (l4 + 16, 0, false),
            (60_000, 60_000, false),
        ] {
            let mut packet = chain(&mut pool, &frame, &[usize::from(l4) + 16]);
            packet.meta_mut().checksum = Checksum::Partial { start, offset };
            let before = *packet.meta();
            assert_eq!(is_owed_soundly(&packet, 14), sound, "{start} {offset}");
            assert_eq!(finish(&mut packet).is_ok(), sound, "{start} {offset}");
            if !sound {
                assert_eq!((bytes(&packet), *packet.meta()), (frame.clone(), before));
            }
            pool.free(packet);
        }
        let mut packet = chain(&mut pool, &frame, &[]);
        packet.data_mut()[14] = 0x55;
        packet.meta_mut().checksum = Checksum::Partial { start: l4, offset: 6 };
        assert_eq!(finish(&mut packet), Err(Malformed), "no IP version");
        packet.meta_mut().checksum = Checksum::Unknown;
        assert!(is_owed_soundly(&packet, 14), "nothing owed");
        pool.free(packet);
    }
    assert_nothing_leaked(&mut pool);
}

#[test]
fn a_super_packet_has_no_checksum_to_finish() {
    let mut pool = pool(1);
    let mut packet = chain(&mut pool, &[7; 60], &[]);
    packet.meta_mut().checksum = Checksum::Partial { start: 0, offset: 16 };
    packet.meta_mut().gso = Some(Gso { kind: GsoKind::Tcp4, size: 10, ecn: false });
    assert_eq!(finish(&mut packet), Err(Malformed));
    pool.free(packet);
}

#[test]
fn udp_may_go_without_a_checksum_over_ipv4_alone() {
    let mut pool = pool(2);
    let datagram = frames::udp(b"data");
    let packet = chain(&mut pool, &datagram, &[]);
    let (a4, a6) = (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
    assert!(transport4_ok(&packet, 0, datagram.len(), a4, a4, UDP));
    assert!(!transport6_ok(&packet, 0, datagram.len(), a6, a6, UDP));
    assert!(!transport4_ok(&packet, 0, datagram.len(), a4, a4, TCP));
    assert!(!transport4_ok(&packet, 0, 7, a4, a4, UDP), "shorter than its header");
    pool.free(packet);
}

#[test]
fn what_the_device_vouches_for_is_believed() {
    let mut pool = pool(1);
    let mut packet = chain(&mut pool, &[1; 40], &[]);
    let address = Ipv4Addr::LOCALHOST;
    assert!(!transport4_ok(&packet, 0, 40, address, address, TCP));
    packet.meta_mut().checksum = Checksum::Verified;
    assert!(transport4_ok(&packet, 0, 40, address, address, TCP));
    packet.meta_mut().checksum = Checksum::Partial { start: 0, offset: 16 };
    assert!(transport4_ok(&packet, 0, 40, address, address, TCP));
    packet.meta_mut().checksum = Checksum::Partial { start: 8, offset: 16 };
    assert!(!transport4_ok(&packet, 0, 40, address, address, TCP), "owed for another header");
    pool.free(packet);
}

fn split(bytes: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let (mut rest, mut pieces) = (bytes, Vec::new());
    for cut in cuts {
        let (now, later) = rest.split_at((*cut).min(rest.len()));
        pieces.push(now.to_vec());
        rest = later;
    }
    pieces.push(rest.to_vec());
    pieces
}

proptest! {
    #[test]
    fn the_sum_of_twenty_bytes_is_their_sum(bytes: [u8; 20], heavy: bool) {
        let bytes = if heavy { bytes.map(|byte| byte | 0xfe) } else { bytes };
        let (words, _) = bytes.as_chunks::<8>();
        let last = u32::from_ne_bytes(*bytes.last_chunk().unwrap());
        let sum = sum20(u64::from_ne_bytes(words[0]), u64::from_ne_bytes(words[1]), last);
        prop_assert_eq!(sum.to_ne_bytes(), (!internet(&bytes)).to_be_bytes());
    }
}

proptest! {
    #[test]
    fn sums_as_the_text_of_the_rfc(bytes: Vec<u8>) {
        let mut sum = Sum::new();
        sum.add(&bytes);
        prop_assert_eq!(sum.fold(), naive_sum(&bytes));
        prop_assert_eq!(internet(&bytes), !naive_sum(&bytes));
    }

    #[test]
    fn pieces_of_any_length_sum_as_the_whole(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
        cuts in prop::collection::vec(0usize..200, 0..20),
        fields: [u16; 3],
    ) {
        let mut sum = Sum::new();
        for (nth, piece) in split(&bytes, &cuts).iter().enumerate() {
            sum.add(piece);
            if let Some(&field) = fields.get(nth) {
                sum.add_u16(field);
            }
        }
        let mut all: Vec<u8> = fields[..fields.len().min(cuts.len() + 1)].iter().flat_map(|f| f.to_be_bytes()).collect();
        all.extend(&bytes);
        prop_assert_eq!(sum.fold(), naive_sum(&all));
    }

    #[test]
    fn incremental_update_equals_the_full_sum(
        mut bytes in prop::collection::vec(any::<u8>(), 4..100),
        at in 0usize..48,
        new16: u16,
        new32: u32,
    ) {
        let at = (at % (bytes.len() / 2 - 1)) * 2;
        // A checksum of 0xffff cannot come of bytes that are not all zero, and the update does not make one.
        bytes[at | 1] |= 1;
        let before = internet(&bytes);
        let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let mut changed = bytes.clone();
        changed[at..at + 2].copy_from_slice(&new16.to_be_bytes());
        if changed.iter().any(|&byte| byte != 0) {
            prop_assert_eq!(update16(before, old, new16), internet(&changed));
        }
        let old = u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut changed = bytes.clone();
        changed[at..at + 4].copy_from_slice(&new32.to_be_bytes());
        if changed.iter().any(|&byte| byte != 0) {
            prop_assert_eq!(update32(before, old, new32), internet(&changed));
        }
    }

    #[test]
    fn pseudo_headers_sum_as_their_bytes(source: [u8; 16], destination: [u8; 16], protocol: u8, len: u16) {
        let mut header = [0u8; 40];
        header[0] = 0x60;
        header[8..24].copy_from_slice(&source);
        header[24..].copy_from_slice(&destination);
        let sum = pseudo6(source.into(), destination.into(), protocol, len.into());
        prop_assert_eq!(sum.fold(), naive_sum(&pseudo(&header, protocol, len.into())));
        header[0] = 0x40;
        let address = |from: usize| Ipv4Addr::new(header[from], header[from + 1], header[from + 2], header[from + 3]);
        let sum = pseudo4(address(12), address(16), protocol, len.into());
        prop_assert_eq!(sum.fold(), naive_sum(&pseudo(&header, protocol, len.into())));
    }

    #[test]
    fn a_finished_checksum_is_right_over_any_chain(
        data in prop::collection::vec(any::<u8>(), 0..5000),
        cuts in prop::collection::vec(1usize..300, 0..10),
        l3 in 0usize..20,
        udp: bool,
        v6: bool,
    ) {
        let mut pool = pool(64);
        let (protocol, offset) = if udp { (UDP, 6) } else { (TCP, 16) };
        let transport = if udp { frames::udp(&data) } else { frames::tcp(1, 2, &[], &data) };
        let ip = if v6 { frames::ipv6(protocol, &transport) } else { frames::ipv4(protocol, &[], 0, &transport) };
        let l4 = l3 + ip.len() - transport.len();
        let mut frame = std::vec![0xee; l3];
        frame.extend(&ip);
        let lengths: Vec<usize> = core::iter::once(l4 + 20).chain(cuts).collect();
        let mut packet = chain(&mut pool, &frame, &lengths);
        owe_checksum(&mut packet, l3, l4, protocol, offset);
        prop_assert_eq!(finish_at(&mut packet, l3), Ok(()));
        prop_assert_eq!(packet.meta().checksum, Checksum::Verified);
        let frame = bytes(&packet);
        prop_assert!(frames::transport_sum_is_right(&frame[l3..], protocol, &frame[l4..]));
        packet.meta_mut().checksum = Checksum::Unknown;
        let ok = |packet: &Packet| {
            let len = transport.len();
            if v6 {
                let ip = datagram::Ipv6::parse(packet, l3).unwrap();
                transport6_ok(packet, l4, len, ip.source(), ip.destination(), protocol)
            } else {
                let ip = datagram::Ipv4::parse(packet, l3).unwrap();
                transport4_ok(packet, l4, len, ip.source(), ip.destination(), protocol)
            }
        };
        prop_assert!(ok(&packet));
        packet.data_mut()[l4] ^= 0x40;
        prop_assert!(!ok(&packet));
        pool.free(packet);
        assert_nothing_leaked(&mut pool);
    }

    #[test]
    fn packet_sum_is_the_sum_of_the_bytes_or_none(
        data in prop::collection::vec(any::<u8>(), 1..600),
        cuts in prop::collection::vec(0usize..50, 0..8),
        offset in 0usize..700,
        len in 0usize..700,
    ) {
        let mut pool = pool(16);
        let packet = chain(&mut pool, &data, &cuts);
        let expected = data.get(offset..).and_then(|rest| rest.get(..len)).map(naive_sum);
        let sum = packet_sum(&packet, offset, len).map(Sum::fold);
        if len > 0 || offset <= data.len() {
            prop_assert_eq!(sum, expected);
        }
        pool.free(packet);
        assert_nothing_leaked(&mut pool);
    }
}
