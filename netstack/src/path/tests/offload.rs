//! Owed checksums and super-packets: left to the device that can, done here otherwise, never corrupted.

use super::*;
use crate::frames;
use crate::sim::*;
use std::vec;
use std::vec::Vec;
use weir_netif::{Checksum, Drop, Gso, GsoKind, Offloads, Packet};

const TX_ALL: Offloads = Offloads::TX_CHECKSUM.union(Offloads::TX_TCP4).union(Offloads::TX_TCP6);

/// A router whose second device has `offloads` and MTU `mtu`.
fn with(offloads: Offloads, mtu: u16) -> Rig {
    let mut plan = plan(&[&[LAN, LAN6], &[WAN, WAN6]]);
    plan.interfaces[1].offloads = offloads;
    plan.interfaces[1].mtu = mtu;
    acquainted(Rig::new(&plan))
}

#[derive(Clone, Copy, Debug)]
enum Family {
    V4 { flags: u16 },
    V6,
}

impl Family {
    fn l4(self) -> usize {
        if let Family::V4 { .. } = self { 34 } else { 54 }
    }

    fn kind(self) -> GsoKind {
        if let Family::V4 { .. } = self { GsoKind::Tcp4 } else { GsoKind::Tcp6 }
    }

    fn frame(self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        match self {
            Family::V4 { flags } => V4 { flags, protocol, ..v4("10.0.1.10", "192.0.2.20") }.frame(0, payload),
            Family::V6 => V6 { next: protocol, ..v6("2001:db8:1::10", "2001:db8:2::20") }.frame(0, payload),
        }
    }
}

const BOTH: [Family; 2] = [Family::V4 { flags: 0x4000 }, Family::V6];

/// A chained TCP super-packet with `len` bytes of data, to be cut in pieces of `size`.
fn super_packet(rig: &mut Rig, family: Family, len: usize, size: u16) -> Packet {
    let data: Vec<u8> = (0..len).map(|n| ((n * 31) >> 3) as u8).collect();
    let frame = family.frame(6, &frames::tcp(1000, 0x18, &[], &data));
    let mut packet = frames::chain(&mut rig.pool, &frame, &[100, 1400, 7]);
    let gso = Gso { kind: family.kind(), size, ecn: false };
    frames::super_packet(&mut packet, gso, 14, family.l4());
    packet
}

/// Data of whole TCP frames in order; their checksums must be right.
fn reassembled(sent: &[Sent], l4: usize) -> Vec<u8> {
    let mut data = Vec::new();
    for sent in sent {
        assert_sound(&sent.bytes);
        assert!(frames::transport_sum_is_right(&sent.bytes[14..], 6, &sent.bytes[l4..]), "TCP checksum");
        data.extend(&sent.bytes[l4 + 20..]);
    }
    data
}

fn is_data(data: &[u8], len: usize) -> bool {
    data.len() == len && data.iter().enumerate().all(|(n, &byte)| byte == ((n * 31) >> 3) as u8)
}

#[test]
fn an_owed_checksum_is_left_to_the_device_that_takes_it() {
    for family in BOTH {
        let mut rig = with(Offloads::TX_CHECKSUM, 1500);
        let frame = family.frame(17, &frames::udp(b"payload"));
        let mut packet = rig.pool.alloc_from(&frame).unwrap();
        frames::owe_checksum(&mut packet, 14, family.l4(), 17, 6);
        let (owed, before) = (packet.meta().checksum, frames::bytes(&packet));
        rig.input(0, vec![packet]);
        let sent = rig.sent();
        assert_eq!(sent[0].meta.checksum, owed);
        assert_eq!(sent[0].bytes[family.l4()..], before[family.l4()..], "only the IP header was touched");
        assert_sound(&sent[0].bytes);
    }
}

#[test]
fn an_owed_checksum_is_finished_for_a_device_that_does_not() {
    for family in BOTH {
        let mut rig = with(Offloads::empty(), 1500);
        let frame = family.frame(17, &frames::udp(b"payload"));
        let mut packet = frames::chain(&mut rig.pool, &frame, &[64, 3]);
        frames::owe_checksum(&mut packet, 14, family.l4(), 17, 6);
        rig.input(0, vec![packet]);
        let sent = rig.one(1);
        assert_sound(&sent);
        assert!(frames::transport_sum_is_right(&sent[14..], 17, &sent[family.l4()..]));
    }
}

#[test]
fn an_owed_checksum_that_lies_outside_the_packet_is_dropped() {
    for offloads in [Offloads::empty(), Offloads::TX_CHECKSUM] {
        for (start, offset) in [(34, 600), (2000, 6), (65535, 65535), (60, 0)] {
            let mut rig = with(offloads, 1500);
            let frame = Family::V4 { flags: 0 }.frame(17, &frames::udp(b"payload"));
            let mut packet = rig.pool.alloc_from(&frame).unwrap();
            packet.meta_mut().checksum = Checksum::Partial { start, offset };
            rig.input(0, vec![packet]);
            assert!(rig.sent().is_empty(), "{start}+{offset}");
            rig.assert_drops(0, &[(Drop::OffloadMalformed, 1)]);
        }
    }
}

#[test]
fn a_super_packet_is_left_to_the_device_that_takes_it() {
    for family in BOTH {
        let mut rig = with(TX_ALL, 1500);
        let packet = super_packet(&mut rig, family, 20_000, 1440);
        let (meta, before) = (*packet.meta(), frames::bytes(&packet));
        rig.input(0, vec![packet]);
        let sent = rig.sent();
        assert_eq!(sent.len(), 1);
        assert_eq!((sent[0].meta.gso, sent[0].meta.checksum), (meta.gso, meta.checksum));
        assert_eq!(sent[0].bytes[family.l4()..], before[family.l4()..]);
        assert_sound(&sent[0].bytes);
    }
}

#[test]
fn a_super_packet_is_cut_for_a_device_that_does_not() {
    for family in BOTH {
        for offloads in [Offloads::empty(), Offloads::TX_CHECKSUM] {
            let mut rig = with(offloads, 1500);
            let packet = super_packet(&mut rig, family, 20_000, 1440);
            rig.input(0, vec![packet]);
            let mut sent = rig.sent();
            assert_eq!(sent.len(), 14);
            for sent in &mut sent {
                assert_eq!(sent.meta.gso, None);
                assert!(sent.bytes.len() <= 1514);
                if let Checksum::Partial { start, offset } = sent.meta.checksum {
                    assert_eq!((usize::from(start), offset), (family.l4(), 16));
                    assert!(offloads.contains(Offloads::TX_CHECKSUM));
                    // What the device does.
                    let sum = !frames::naive_sum(&sent.bytes[family.l4()..]);
                    sent.bytes[family.l4() + 16..family.l4() + 18].copy_from_slice(&sum.to_be_bytes());
                }
            }
            assert!(is_data(&reassembled(&sent, family.l4()), 20_000));
        }
    }
}

#[test]
fn a_super_packet_with_ecn_is_cut_unless_the_device_knows_ecn() {
    for (offloads, frames) in [(TX_ALL, 3), (TX_ALL | Offloads::TX_ECN, 1)] {
        let mut rig = with(offloads, 1500);
        let mut packet = super_packet(&mut rig, Family::V4 { flags: 0 }, 3000, 1400);
        packet.meta_mut().gso = packet.meta().gso.map(|gso| Gso { ecn: true, ..gso });
        rig.input(0, vec![packet]);
        assert_eq!(rig.sent().len(), frames);
    }
}

#[test]
fn the_segments_count_against_the_mtu_and_not_the_whole() {
    for family in BOTH {
        let header = family.l4() + 20 - 14;
        let mut rig = with(TX_ALL, 1400);
        let fits = super_packet(&mut rig, family, 20_000, 1400 - header as u16);
        let exceeds = super_packet(&mut rig, family, 20_000, 1401 - header as u16);
        rig.input(0, vec![fits, exceeds]);
        let sent = rig.sent();
        assert_eq!(sent.iter().filter(|s| s.out == 1).count(), 1);
        let error = &sent.iter().find(|s| s.out == 0).unwrap().bytes;
        let mtu = if header == 40 { &error[34..42] } else { &error[54..62] };
        assert_eq!(
            (&mtu[..2], &mtu[4..]),
            (if header == 40 { &[3, 4][..] } else { &[2, 0] }, &[0, 0, 5, 120][..])
        );
        rig.assert_drops(0, &[(Drop::TooBig, 1)]);
    }
}

#[test]
fn a_super_packet_without_df_is_cut_and_then_fragmented() {
    let mut plan = plan(&[&[LAN], &[WAN]]);
    plan.interfaces[1].offloads = TX_ALL;
    plan.interfaces[1].mtu = 1000;
    let mut rig = Rig::new(&plan);
    rig.introduce4(1, "192.0.2.20", host_mac(1));
    let packet = super_packet(&mut rig, Family::V4 { flags: 0 }, 5000, 1400);
    rig.input(0, vec![packet]);
    let sent = rig.sent();
    assert_eq!(sent.len(), 7, "four segments, three of them in two fragments");
    let mut packets: Vec<Vec<u8>> = Vec::new();
    for sent in &sent {
        assert_sound(&sent.bytes);
        assert!(sent.bytes.len() <= 1014);
        match u16::from_be_bytes([sent.bytes[20], sent.bytes[21]]) & 0x1fff {
            0 => packets.push(sent.bytes.clone()),
            _ => packets.last_mut().unwrap().extend(&sent.bytes[34..]),
        }
    }
    let mut data = Vec::new();
    for packet in &packets {
        assert!(frames::transport_sum_is_right(&packet[14..], 6, &packet[34..]));
        data.extend(&packet[54..]);
    }
    assert!(is_data(&data, 5000));
}

#[test]
fn super_packets_that_lie_are_dropped() {
    let lies: [fn(&mut Packet); 4] = [
        |packet| packet.meta_mut().gso.as_mut().unwrap().size = 0,
        |packet| packet.meta_mut().gso.as_mut().unwrap().kind = GsoKind::Tcp6,
        |packet| packet.meta_mut().checksum = Checksum::Unknown,
        |packet| packet.meta_mut().checksum = Checksum::Partial { start: 40, offset: 16 },
    ];
    for offloads in [Offloads::empty(), TX_ALL] {
        for lie in lies {
            let mut rig = with(offloads, 1500);
            let mut packet = super_packet(&mut rig, Family::V4 { flags: 0 }, 3000, 1400);
            lie(&mut packet);
            rig.input(0, vec![packet]);
            assert!(rig.sent().is_empty());
            rig.assert_drops(0, &[(Drop::OffloadMalformed, 1)]);
        }
    }
}

#[test]
fn a_super_packet_waits_for_its_neighbor_whole() {
    let mut plan = plan(&[&[LAN, LAN6], &[WAN, WAN6]]);
    plan.interfaces[1].offloads = Offloads::empty();
    let mut rig = Rig::new(&plan);
    let packet = super_packet(&mut rig, Family::V4 { flags: 0x4000 }, 20_000, 1440);
    rig.input(0, vec![packet]);
    rig.sent();
    assert_eq!(rig.stack.queued(), 1);
    rig.receive(1, &[arp_reply(router_mac(1), host_mac(1), a4("192.0.2.20"), a4("192.0.2.1"))]);
    let sent = rig.sent();
    assert!(is_data(&reassembled(&sent, 34), 20_000));
}

#[test]
fn without_buffers_to_cut_it_a_super_packet_is_dropped_whole() {
    let mut rig = with(Offloads::empty(), 1500);
    let packet = super_packet(&mut rig, Family::V4 { flags: 0x4000 }, 20_000, 1440);
    let hoard: Vec<_> = core::iter::from_fn(|| rig.pool.alloc()).collect();
    rig.input(0, vec![packet]);
    assert!(rig.sent().is_empty());
    rig.assert_drops(0, &[(Drop::NoBuffer, 1)]);
    hoard.into_iter().for_each(|packet| rig.pool.free(packet));
}
