//! Fragments of packets for the router itself, and what it sends in fragments.

use super::*;
use crate::Snapshot;
use crate::ethernet;
use crate::frames;
use crate::reassembly::{DATAGRAMS, PER_SOURCE, TIMEOUT};
use crate::sim::*;
use crate::stack::Settings;
use core::time::Duration;
use std::string::ToString;
use std::vec;
use std::vec::Vec;
use weir_netif::{BATCH, BUFFER, Checksum, Drop, IfIndex};

const A: &str = "10.0.1.10";
const ROUTER: &str = "10.0.1.1";
const A6: &str = "2001:db8:1::10";
const ROUTER6: &str = "2001:db8:1::1";

/// `data` behind the IPv4 header of `like`, in frames with `each` bytes of it.
fn cut4(like: V4<'_>, id: u16, data: &[u8], each: usize) -> Vec<Vec<u8>> {
    let piece = |(nth, bytes): (usize, &[u8])| {
        let start = nth * each;
        let more = if start + bytes.len() < data.len() { 0x2000 } else { 0 };
        let mut frame = V4 { flags: (start / 8) as u16 | more, ..like }.frame(0, bytes);
        frame[18..20].copy_from_slice(&id.to_be_bytes());
        frames::seal_ipv4(&mut frame[14..34]);
        frame
    };
    data.chunks(each).enumerate().map(piece).collect()
}

/// As [`cut4`], of the protocol `next` of `like`.
fn cut6(like: V6<'_>, id: u16, data: &[u8], each: usize) -> Vec<Vec<u8>> {
    let piece = |(nth, bytes): (usize, &[u8])| {
        let start = (nth * each) as u16;
        let more = u16::from(usize::from(start) + bytes.len() < data.len());
        let [high, low] = (start | more).to_be_bytes();
        let [a, b] = id.to_be_bytes();
        let header = [like.next, 0, high, low, 0, 0, a, b];
        V6 { next: 44, ..like }.frame(0, &[&header, bytes].concat())
    };
    data.chunks(each).enumerate().map(piece).collect()
}

fn body(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 13 + n / 256) as u8).collect()
}

fn request4(len: usize) -> Vec<u8> {
    frames::icmp(8, 0, &[&[0x12, 0x34, 0, 1], &body(len)[..]].concat())
}

fn request6(from: &str, to: &str, len: usize) -> Vec<u8> {
    v6(from, to).icmp(&[&[128, 0, 0, 0, 1, 2, 0, 1], &body(len)[..]].concat())[40..].to_vec()
}

fn echo6() -> V6<'static> {
    V6 { next: 58, ..v6(A6, ROUTER6) }
}

fn echo4() -> V4<'static> {
    V4 { protocol: 1, ..v4(A, ROUTER) }
}

/// The data of fragments that leave in order, or of what was not cut; and how large the largest frame was.
fn joined(sent: &[Sent]) -> (Vec<u8>, usize) {
    let mut all = Vec::new();
    for (nth, Sent { bytes, .. }) in sent.iter().enumerate() {
        assert_sound(bytes);
        let last = nth + 1 == sent.len();
        let (at, more, data) = match ethernet::kind(bytes) {
            Some(ethernet::IPV4) => {
                let field = u16::from_be_bytes([bytes[20], bytes[21]]);
                (usize::from(field & 0x1fff) * 8, field & 0x2000 != 0, &bytes[34..])
            }
            _ if bytes[20] == 44 => {
                let field = u16::from_be_bytes([bytes[56], bytes[57]]);
                assert_eq!((bytes[54], &bytes[58..62]), (58, &sent[0].bytes[58..62]));
                (usize::from(field & !7), field & 1 != 0, &bytes[62..])
            }
            _ => (0, false, &bytes[54..]),
        };
        assert_eq!((at, more), (all.len(), !last));
        all.extend(data);
    }
    (all, sent.iter().map(|sent| sent.bytes.len()).max().unwrap_or(0))
}

/// Frames arrive as a device hands them over: a batch at most at once.
fn arrive(rig: &mut Rig, frames: &[Vec<u8>]) {
    frames.chunks(BATCH).for_each(|frames| rig.receive(0, frames));
}

#[test]
fn long_echo_requests_are_answered_in_fragments() {
    for (len, backwards) in [(1473, false), (20_000, false), (20_000, true), (65_507, false)] {
        let mut rig = rig();
        let mut frames = cut4(echo4(), 7, &request4(len), 1480);
        if backwards {
            frames.reverse();
        }
        arrive(&mut rig, &frames);
        let (reply, largest) = joined(&rig.sent());
        assert!(largest <= 1514, "{largest}");
        let expected = frames::icmp(0, 0, &request4(len)[4..]);
        assert!(reply == expected, "the reply to {len} bytes");
        rig.assert_drops(0, &[]);
    }
    for (len, each) in [(1433, 1448), (20_000, 1448), (65_527, 1448), (65_527, 1232)] {
        let mut rig = rig();
        arrive(&mut rig, &cut6(echo6(), 7, &request6(A6, ROUTER6, len), each));
        let sent = rig.sent();
        let (reply, largest) = joined(&sent);
        // The router does not look for the path's MTU.
        assert!(largest <= if sent.len() > 1 { 1294 } else { 1514 }, "{largest}");
        assert_eq!((reply[0], &reply[4..8]), (129, &[1, 2, 0, 1][..]));
        assert!(reply[8..] == body(len), "the reply to {len} bytes");
        let ip = &sent[0].bytes[14..];
        assert!(frames::transport_sum_is_right(ip, 58, &reply));
        rig.assert_drops(0, &[]);
    }
}

#[test]
fn what_leaves_is_cut_for_a_small_mtu() {
    let mut plan = plan(&[&[LAN, LAN6], &[WAN, WAN6]]);
    plan.interfaces[0].mtu = 1300;
    let mut rig = acquainted(Rig::new(&plan));
    arrive(&mut rig, &cut4(echo4(), 1, &request4(1400), 1000));
    let (reply, largest) = joined(&rig.sent());
    assert_eq!((reply.len(), largest <= 1314), (1408, true));
    // One that comes whole, too long to be answered so.
    arrive(&mut rig, &[V6 { next: 58, ..echo6() }.frame(0, &request6(A6, ROUTER6, 1400))]);
    let sent = rig.sent();
    assert_eq!((joined(&sent).0.len(), sent.len()), (1408, 2));
    rig.assert_drops(0, &[]);
}

#[test]
fn identifications_do_not_repeat_and_do_not_count_up() {
    let mut rig = rig();
    let mut ids: Vec<u32> = Vec::new();
    for id in 0..40 {
        arrive(&mut rig, &cut6(echo6(), id, &request6(A6, ROUTER6, 2000), 1448));
        let bytes = &rig.sent()[0].bytes;
        ids.push(u32::from_be_bytes([bytes[58], bytes[59], bytes[60], bytes[61]]));
    }
    assert!(ids.windows(2).all(|pair| pair[0].abs_diff(pair[1]) > 8), "{ids:x?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 40);
}

#[test]
fn datagrams_of_many_neighbours_do_not_mix() {
    let mut rig = rig();
    let requests = [request4(3000), request4(2900)];
    let mut frames: Vec<_> =
        requests.iter().zip(1..).flat_map(|(r, id)| cut4(echo4(), id, r, 1480)).collect();
    frames.extend(cut6(echo6(), 1, &request6(A6, ROUTER6, 3000), 1448));
    frames.sort_by_key(|frame| frame[21]);
    arrive(&mut rig, &frames);
    let lengths = rig.sent();
    let total: usize = lengths.iter().map(|sent| sent.bytes.len()).sum();
    assert_eq!(lengths.len(), 8);
    assert_eq!(total, 3008 + 3 * 34 + 2908 + 2 * 34 + 3008 + 3 * 62);
    rig.assert_drops(0, &[]);
}

#[test]
fn a_sender_hears_that_the_rest_did_not_come() {
    let mut rig = rig();
    arrive(&mut rig, &cut4(echo4(), 1, &request4(4000), 1480)[..2]);
    arrive(&mut rig, &cut6(echo6(), 1, &request6(A6, ROUTER6, 4000), 1448)[..2]);
    rig.run(TIMEOUT - Duration::from_millis(100));
    assert!(rig.sent().iter().all(|sent| sent.bytes[12..14] == [8, 6] || sent.bytes[54] >= 133), "too early");
    rig.introduce4(0, A, host_mac(0));
    rig.introduce6(0, A6, host_mac(0));
    rig.run(Duration::from_millis(200));
    let sent: Vec<_> = rig.sent().into_iter().filter(|sent| sent.bytes.len() > 200).collect();
    let [v4, v6] = &sent[..] else { panic!("{sent:x?}") };
    assert_sound(&v4.bytes);
    assert_eq!(v4.bytes[34..36], [11, 1]);
    assert_eq!(v4.bytes[42..46], [0x45, 0x10, 0x05, 0xdc], "the first, as it came");
    assert_sound(&v6.bytes);
    assert_eq!((&v6.bytes[54..56], v6.bytes[62] >> 4), (&[3, 1][..], 6));
    rig.assert_drops(0, &[(Drop::FragmentTimeout, 4)]);
}

#[test]
fn nobody_hears_of_a_datagram_without_a_beginning() {
    let mut rig = rig();
    arrive(&mut rig, &cut4(echo4(), 1, &request4(4000), 1480)[1..]);
    arrive(&mut rig, &cut6(echo6(), 1, &request6(A6, ROUTER6, 4000), 1448)[1..]);
    rig.sent();
    rig.run(TIMEOUT + Duration::from_secs(1));
    assert!(rig.sent().iter().all(|sent| sent.bytes.len() < 100));
    rig.assert_drops(0, &[(Drop::FragmentTimeout, 4)]);
}

#[test]
fn broken_ipv6_fragments_are_answered_as_rfc_8200_has_it() {
    let mut rig = rig();
    let fragment = |next: u8, field: u16, bytes: &[u8]| {
        let [high, low] = field.to_be_bytes();
        V6 { next: 44, ..v6(A6, ROUTER6) }.frame(0, &[&[next, 0, high, low, 0, 0, 0, 9], bytes].concat())
    };
    for (frame, code, pointer) in [
        (fragment(58, 1, &[128; 12]), 0, 4),
        (fragment(58, 65_528, &[128; 8]), 0, 42),
        (fragment(6, 1, &[0; 16]), 3, 0),
        // Destination options that go on elsewhere.
        (fragment(60, 1, &[58, 4, 1, 4, 0, 0, 0, 0]), 3, 0),
    ] {
        rig.receive(0, &[frame]);
        let error = rig.one(0);
        assert_sound(&error);
        assert_eq!((&error[54..56], &error[58..62]), (&[4, code][..], &[0, 0, 0, pointer][..]));
    }
    rig.receive(0, &[fragment(58, 8, &[]), fragment(58, 16, &[])]);
    assert!(rig.sent().is_empty());
    rig.assert_drops(0, &[(Drop::FragmentMalformed, 6)]);
}

#[test]
fn broken_ipv4_fragments_are_dropped() {
    let mut rig = rig();
    for (flags, len) in [(0x2000, 12), (0x2000, 0), (8189, 32), (0x1fff, 8)] {
        rig.receive(0, &[V4 { flags, ..echo4() }.frame(0, &body(len))]);
    }
    assert!(rig.sent().is_empty());
    rig.assert_drops(0, &[(Drop::FragmentMalformed, 4)]);
}

#[test]
fn neighbour_discovery_never_comes_in_fragments() {
    let mut rig = rig();
    let target = rig.snapshot.interface(IfIndex(0)).unwrap().link_local[0];
    let whole = solicitation(host_mac(9), a6("2001:db8:1::99"), target, Some(host_mac(9)));
    let group = std::string::ToString::to_string(&crate::address::solicited_node(target));
    let like = V6 { next: 58, hops: 255, ..v6("2001:db8:1::99", &group) };
    let mut fragments = cut6(like, 1, &whole[54..], 24);
    fragments.iter_mut().for_each(|frame| frame[..6].copy_from_slice(&whole[..6]));
    arrive(&mut rig, &fragments);
    assert!(rig.sent().is_empty());
    rig.assert_drops(0, &[(Drop::NdMalformed, 1)]);
}

#[test]
fn groups_are_asked_in_fragments_too_where_they_answer() {
    let mut rig = rig();
    let like = V6 { next: 58, ..v6(A6, "ff02::1") };
    let mut fragments = cut6(like, 1, &request6(A6, "ff02::1", 2000), 1448);
    fragments.iter_mut().for_each(|frame| frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]));
    arrive(&mut rig, &fragments);
    let sent = rig.sent();
    assert_eq!(joined(&sent).0.len(), 2008);
    assert_eq!(sent[0].bytes[22..38], a6(ROUTER6).octets());
    let mut fragments = cut4(V4 { protocol: 1, ..v4(A, "10.0.1.255") }, 1, &request4(2000), 1480);
    fragments.iter_mut().for_each(|frame| frame[..6].fill(0xff));
    arrive(&mut rig, &fragments);
    assert!(rig.sent().is_empty());
    rig.assert_drops(0, &[(Drop::LocalFragment, 2)]);
}

#[test]
fn a_fragment_that_its_device_did_not_finish_is_dropped() {
    let mut rig = rig();
    let frame = &cut4(echo4(), 1, &request4(2000), 1480)[0];
    let mut packet = rig.pool.alloc_from(frame).unwrap();
    packet.meta_mut().checksum = Checksum::Partial { start: 34, offset: 2 };
    rig.input(0, vec![packet]);
    rig.assert_drops(0, &[(Drop::LocalFragment, 1)]);
}

#[test]
fn a_device_that_vouches_for_fragments_is_not_believed_about_the_whole() {
    let mut rig = rig();
    let mut request = request4(2000);
    request[100] ^= 1;
    let packets = cut4(echo4(), 1, &request, 1480).into_iter().map(|frame| {
        let mut packet = rig.pool.alloc_from(&frame).unwrap();
        packet.meta_mut().checksum = Checksum::Verified;
        packet
    });
    let packets = packets.collect();
    rig.input(0, packets);
    assert!(rig.sent().is_empty());
    rig.assert_drops(0, &[(Drop::IcmpMalformed, 1)]);
}

/// First fragments of ever new sources: what they hold stays within its limit, what is forwarded goes on, and a neighbour
/// whose fragments come at a stretch is answered still.
#[test]
fn a_flood_of_beginnings_holds_no_more_than_its_share() {
    let limit = 32 * BUFFER;
    let settings = Settings { reassembly: limit, ..Settings::default() };
    let mut rig = acquainted(Rig::with(&plan(&[&[LAN, LAN6], &[WAN, WAN6]]), settings));
    let before = rig.pool.arena().slots();
    let free = |rig: &mut Rig| {
        let all: Vec<_> = core::iter::from_fn(|| rig.pool.alloc()).collect();
        let count = all.len();
        all.into_iter().for_each(|packet| rig.pool.free(packet));
        count
    };
    let mut forwarded = 0;
    for round in 0..200u32 {
        let mut frames = Vec::new();
        for n in 0..30 {
            let from = std::format!("10.0.{}.{}", 1 + round % 200, 20 + n);
            let like = V4 { from: &from, flags: 0x2000, ..echo4() };
            frames.push(like.frame(0, &body(1480)));
            let from = std::format!("2001:db8:1::{round:x}:{n:x}");
            frames.extend(
                cut6(V6 { from: &from, ..echo6() }, 1, &request6(&from, ROUTER6, 3000), 1448).drain(..1),
            );
        }
        frames.push(v4(A, "192.0.2.20").frame(0, &frames::udp(b"on its way")));
        rig.receive(0, &frames);
        forwarded += rig.sent().iter().filter(|sent| sent.out == 1).count();
        let held = before - free(&mut rig);
        assert!(held * BUFFER <= limit, "{held} buffers");
        assert!(rig.stack.queued() <= DATAGRAMS);
        rig.now += Duration::from_millis(1);
    }
    assert_eq!(forwarded, 200);
    arrive(&mut rig, &cut4(echo4(), 99, &request4(20_000), 1480));
    assert_eq!(joined(&rig.sent()).0.len(), 20_008);
    let drops: Vec<_> = rig.totals(0).drops().filter(|(reason, _)| *reason == Drop::FragmentLimit).collect();
    assert!(drops[0].1 > 11_000, "{drops:?}");
    // Reverse path filtering is not what stopped them.
    assert!(rig.totals(0).drops().all(|(reason, _)| reason != Drop::ReversePath));
}

#[test]
fn one_source_cannot_push_out_another() {
    let mut rig = rig();
    let pair = cut4(echo4(), 1, &request4(2000), 1480);
    rig.receive(0, &pair[..1]);
    for id in 0..500 {
        let like = V4 { from: "10.0.1.66", ..echo4() };
        rig.receive(0, &cut4(like, id, &request4(2000), 1480)[..1]);
    }
    assert_eq!(rig.stack.queued(), PER_SOURCE + 1);
    rig.receive(0, &pair[1..]);
    assert_eq!(joined(&rig.sent()).0.len(), 2008);
    rig.assert_drops(0, &[(Drop::FragmentLimit, 500 - PER_SOURCE as u64)]);
}

#[test]
fn a_datagram_waits_through_a_new_configuration() {
    let mut rig = rig();
    let frames = cut4(echo4(), 1, &request4(2000), 1480);
    rig.receive(0, &frames[..1]);
    rig.turn(|stack, turn| stack.reconfigured(turn));
    rig.sent();
    rig.introduce4(0, A, host_mac(0));
    rig.receive(0, &frames[1..]);
    assert_eq!(joined(&rig.sent()).0.len(), 2008);
}

#[test]
fn a_datagram_between_a_links_own_addresses_goes_with_the_link() {
    let mut plan = plan(&[&[LAN, LAN6], &[WAN, WAN6]]);
    let mut rig = acquainted(Rig::new(&plan));
    let own = rig.snapshot.interface(IfIndex(0)).unwrap().link_local[0].to_string();
    let like = V6 { next: 58, ..v6("fe80::10", &own) };
    let of_the_link = cut6(like, 1, &request6("fe80::10", &own, 2000), 1448);
    let of_all = cut4(echo4(), 1, &request4(2000), 1480);
    rig.receive(0, &[of_the_link[0].clone(), of_all[0].clone()]);
    assert_eq!(rig.stack.queued(), 2);
    down(&mut plan, 0);
    *rig.snapshot = Snapshot::build(&plan).unwrap();
    rig.turn(|stack, turn| stack.reconfigured(turn));
    assert_eq!(rig.stack.queued(), 1, "addresses that are the router's on any link are left");
    rig.assert_drops(0, &[(Drop::InterfaceDown, 1)]);
}
