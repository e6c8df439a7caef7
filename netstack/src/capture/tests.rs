use super::*;
use crate::frames;
use crate::sim::{Rig, a4, host_mac, plan, router_mac, v4};
use crate::snapshot::{InterfacePlan, Plan, VlanPlan};
use std::sync::atomic::AtomicU64;
use std::vec;
use weir_netif::{Gso, GsoKind};
use weir_sync::cpu::claim_any;

const ALL: u8 = 7;

/// Each look at it is later.
static TICKS: AtomicU64 = AtomicU64::new(1);

fn ticks() -> u64 {
    TICKS.fetch_add(1, Ordering::Relaxed)
}

fn tapped(mut plan: Plan) -> Rig {
    plan.taps = Arc::new(Taps::new(ticks, 8));
    Rig::new(&plan)
}

fn two() -> Rig {
    tapped(plan(&[&["10.0.1.1/24"], &["192.0.2.1/24"]]))
}

fn wish(interfaces: &[IfIndex]) -> Wish<'_> {
    Wish { interfaces, directions: ALL, snaplen: 2000, filter: None, ring: 1 << 16 }
}

struct Attachment {
    capture: Arc<Capture>,
    rings: Vec<Consumer>,
    attached: Attached,
}

fn attach(rig: &mut Rig, wish: Wish<'_>) -> Attachment {
    let (capture, rings) = Capture::new(wish).unwrap();
    let mut cpu = claim_any().unwrap();
    let attached = cpu.control(|cx| rig.snapshot.taps().attach(cx, &capture)).unwrap();
    rig.turn(|stack, turn| stack.listen(turn.snapshot));
    Attachment { capture, rings, attached }
}

/// A record that owns its bytes.
type Taken = (u16, Direction, Option<Drop>, u32, Vec<u8>);

impl Attachment {
    fn take(&mut self) -> Vec<Taken> {
        let mut all = Vec::new();
        for ring in &mut self.rings {
            while ring.front(|bytes| {
                let r = Record::parse(bytes).unwrap();
                all.push((r.interface, r.direction, r.reason, r.len, r.bytes.to_vec()));
            }) == Some(())
            {
                ring.advance();
            }
        }
        all
    }

    fn counts(&self, number: usize) -> (u64, u64, u64, u64) {
        let Counts { received, matched, captured, dropped } = self.capture.counts(number);
        (received, matched, captured, dropped)
    }
}

#[test]
fn a_forwarded_frame_is_seen_as_it_came_and_as_it_leaves() {
    let mut rig = two();
    rig.introduce4(1, "192.0.2.20", host_mac(1));
    let mut capture = attach(&mut rig, wish(&[IfIndex(0), IfIndex(1)]));
    let came = v4("10.0.1.10", "192.0.2.20").frame(0, &[7; 30]);
    rig.receive(0, std::slice::from_ref(&came));
    let left = rig.one(1);
    let len = came.len() as u32;
    assert_eq!(
        capture.take(),
        [(0, Direction::In, None, len, came), (1, Direction::Out, None, len, left.clone())]
    );
    assert_eq!((left[22], &left[..6]), (63, &host_mac(1)[..]));
    assert_eq!((capture.counts(0), capture.counts(1)), ((1, 1, 1, 0), (1, 1, 1, 0)));
}

#[test]
fn a_lost_frame_is_seen_with_its_reason_and_remembered_without_a_capture() {
    let mut rig = two();
    let dead = crate::sim::V4 { ttl: 1, ..v4("10.0.1.10", "192.0.2.20") }.frame(0, &[7; 100]);
    rig.receive(0, std::slice::from_ref(&dead));
    let mut capture =
        attach(&mut rig, Wish { directions: Direction::Drop.bit(), snaplen: 40, ..wish(&[IfIndex(0)]) });
    rig.receive(0, std::slice::from_ref(&dead));
    let expected = (0, Direction::Drop, Some(Drop::TtlExpired), dead.len() as u32, dead[..40].to_vec());
    assert_eq!(capture.take(), [expected]);
    let remembered = rig.snapshot.taps().recorder.newest(9);
    assert_eq!(remembered.len(), 2);
    for entry in remembered {
        assert_eq!(entry.what, What::Dropped(Drop::TtlExpired));
        assert_eq!((entry.interface, entry.len, entry.head()), (IfIndex(0), dead.len() as u32, &dead[..96]));
    }
}

#[test]
fn what_is_not_asked_for_is_not_taken() {
    let mut rig = two();
    rig.introduce4(1, "192.0.2.20", host_mac(1));
    let mut other = attach(&mut rig, wish(&[IfIndex(1)]));
    let mut only_in = attach(&mut rig, Wish { directions: Direction::In.bit(), ..wish(&[IfIndex(0)]) });
    rig.receive(0, &[v4("10.0.1.10", "192.0.2.20").frame(0, &[])]);
    assert_eq!(other.take().iter().map(|taken| taken.1).collect::<Vec<_>>(), [Direction::Out]);
    assert_eq!(only_in.take().iter().map(|taken| taken.1).collect::<Vec<_>>(), [Direction::In]);
    rig.sent();
}

/// Keeps twenty bytes of frames with an odd last byte.
#[derive(Debug)]
struct Odd;

impl Filter for Odd {
    fn run(&self, packet: &weir_bpf::Packet<'_>) -> u32 {
        assert_eq!(packet.head.len() as u32, packet.wire_len);
        if packet.head.last().is_some_and(|byte| byte % 2 == 1) { 20 } else { 0 }
    }
}

#[test]
fn a_filter_says_which_and_how_much() {
    let mut rig = two();
    let mut capture = attach(&mut rig, Wish { filter: Some(Box::new(Odd)), ..wish(&[IfIndex(0)]) });
    let frames: Vec<_> = (0..10).map(|n| v4("10.0.1.10", "10.0.1.1").frame(0, &[n; 10])).collect();
    rig.receive(0, &frames);
    let taken = capture.take();
    let came: Vec<_> = taken.iter().filter(|taken| taken.1 == Direction::In).collect();
    assert_eq!(came.len(), 5);
    assert!(came.iter().all(|taken| taken.4.len() == 20 && taken.3 == 44));
    let (received, matched, captured, dropped) = capture.counts(0);
    assert_eq!((matched, captured + dropped, dropped), (captured, taken.len() as u64, 0));
    assert!(received >= 10);
    rig.sent();
}

#[test]
fn tags_are_where_they_were_on_the_wire() {
    let mut parent = InterfacePlan::new("lan", router_mac(0));
    parent.addresses = vec![("10.0.1.1".parse().unwrap(), 24)];
    let mut tagged = InterfacePlan::new("lan7", router_mac(0));
    tagged.addresses = vec![("10.0.7.1".parse().unwrap(), 24)];
    tagged.vlan = Some(VlanPlan { parent: IfIndex(0), id: 7 });
    let mut rig = tapped(Plan { interfaces: vec![parent, tagged], ..Plan::default() });
    let mut capture = attach(&mut rig, wish(&[IfIndex(1)]));
    let plain = crate::sim::arp_request(host_mac(0), a4("10.0.7.9"), a4("10.0.7.1"));
    let with_tag = |tag: [u8; 2]| [&plain[..12], &[0x81, 0], &tag, &plain[12..]].concat();
    // Once in the bytes, once taken out by the device, once of another VLAN.
    let mut beside = rig.pool.alloc_from(&plain).unwrap();
    beside.meta_mut().vlan = 0x6007;
    let inside = rig.pool.alloc_from(&with_tag([0, 7])).unwrap();
    let other = rig.pool.alloc_from(&with_tag([0, 8])).unwrap();
    rig.input(0, vec![inside, beside, other]);
    let sent = rig.sent();
    let taken = capture.take();
    let bytes: Vec<_> = taken.iter().map(|taken| (taken.0, taken.1, taken.4.clone())).collect();
    let reply = sent[0].bytes.clone();
    assert_eq!(ethernet::kind(&reply), Some(ethernet::VLAN));
    assert_eq!(
        bytes,
        [
            (0, Direction::In, with_tag([0, 7])),
            (0, Direction::In, with_tag([0x60, 7])),
            (0, Direction::Out, reply.clone()),
            (0, Direction::Out, reply),
        ]
    );
}

#[test]
fn a_super_packet_is_one_record_that_says_so() {
    let mut rig = two();
    let mut capture = attach(&mut rig, Wish { snaplen: 9999, ..wish(&[IfIndex(0)]) });
    let mut ip = v4("10.0.1.10", "192.0.2.20");
    ip.protocol = 6;
    let frame = ip.frame(0, &frames::tcp(1, 0x10, &[], &[5; 4000]));
    let mut packet = frames::chain(&mut rig.pool, &frame, &[1000, 1000]);
    frames::super_packet(&mut packet, Gso { kind: GsoKind::Tcp4, size: 1400, ecn: false }, 14, 34);
    let bytes = frames::bytes(&packet);
    rig.input(0, vec![packet]);
    let ring = capture.rings.iter_mut().find_map(|ring| {
        ring.front(|record| {
            let record = Record::parse(record).unwrap();
            assert_eq!((record.gso, record.owed, record.verified), (1400, true, false));
            assert_eq!((record.len as usize, record.bytes), (bytes.len(), &bytes[..]));
        })
    });
    assert_eq!(ring, Some(()));
    rig.sent();
}

/// A capture of `interfaces` by an expression, and which of their packets it takes.
fn by(rig: &mut Rig, text: &str, interfaces: &[IfIndex]) -> Attachment {
    let instructions = weir_bpf::expression::compile(text, Default::default()).unwrap();
    let program = weir_bpf::Program::new(&instructions).unwrap();
    attach(rig, Wish { filter: Some(Box::new(program)), snaplen: 9999, ..wish(interfaces) })
}

/// How many packets of `packets`, received on the first port, each of `filters` takes.
fn taken_by(
    rig: &mut Rig,
    filters: &[(&str, usize)],
    interface: IfIndex,
    packets: impl Fn(&mut Rig) -> Vec<Packet>,
) {
    for &(text, expected) in filters {
        let mut capture = by(rig, text, &[interface]);
        let packets = packets(rig);
        let count = packets.len();
        rig.input(0, packets);
        rig.sent();
        let came = capture.take().iter().filter(|taken| taken.1 == Direction::In).count();
        assert_eq!((came, count), (expected, count), "{text}");
        let mut cpu = claim_any().unwrap();
        cpu.control(|cx| rig.snapshot.taps().detach(cx, capture.attached));
    }
}

#[test]
fn filters_see_a_tag_wherever_the_device_left_it_and_all_behind_it() {
    let mut parent = InterfacePlan::new("lan", router_mac(0));
    parent.addresses = vec![("10.0.1.1".parse().unwrap(), 24)];
    let mut tagged = InterfacePlan::new("lan20", router_mac(0));
    tagged.addresses = vec![("2001:db8:20::1".parse().unwrap(), 64)];
    tagged.vlan = Some(VlanPlan { parent: IfIndex(0), id: 20 });
    let mut rig = tapped(Plan { interfaces: vec![parent, tagged], ..Plan::default() });
    let frames = |rig: &mut Rig| {
        // IPv6, UDP, with a 9 behind what lies in one piece of a frame that is made whole for a filter.
        let mut plain = [&[0x33; 6][..], &host_mac(0), &[0x86, 0xdd], &[0; 300]].concat();
        (plain[14], plain[20], plain[260]) = (0x60, 17, 9);
        let mut beside = rig.pool.alloc_from(&plain).unwrap();
        beside.meta_mut().vlan = 0x6014;
        let inside = [&plain[..12], &[0x81, 0, 0, 20], &plain[12..]].concat();
        vec![beside, rig.pool.alloc_from(&inside).unwrap()]
    };
    let filters = [
        ("vlan", 2),
        ("vlan 20", 2),
        ("vlan 20 and ip6", 2),
        ("vlan 20 and udp", 2),
        ("vlan 20 and ip", 0),
        ("vlan 21", 0),
        ("ip6", 0),
        ("not vlan", 0),
        ("ether[264] = 9", 2),
        ("ether[264] = 8", 0),
        ("vlan and ip6[246] = 9", 2),
        ("len = 318", 2),
        ("greater 319", 0),
    ];
    taken_by(&mut rig, &filters, IfIndex(1), frames);
}

#[test]
fn filters_see_all_segments_of_a_super_packet() {
    let mut rig = two();
    let packets = |rig: &mut Rig| {
        let mut ip = v4("10.0.1.10", "192.0.2.20");
        ip.protocol = 6;
        let mut frame = ip.frame(0, &frames::tcp(1, 0x10, &[], &[5; 4000]));
        frame[3000] = 77;
        let mut packet = frames::chain(&mut rig.pool, &frame, &[1000, 1000]);
        frames::super_packet(&mut packet, Gso { kind: GsoKind::Tcp4, size: 1400, ecn: false }, 14, 34);
        vec![packet]
    };
    let filters = [
        ("tcp", 1),
        ("ether[3000] = 77", 1),
        ("ether[3000] = 78", 0),
        // Over the border of two segments.
        ("ether[2998:4] = 0x05054d05", 1),
        ("tcp and ether[3000] = 77 and greater 4000", 1),
        ("ether[4100] = 5", 0),
        ("less 4000", 0),
    ];
    taken_by(&mut rig, &filters, IfIndex(0), packets);
}

#[test]
fn filters_know_the_interface_and_the_direction() {
    let mut rig = two();
    rig.introduce4(1, "192.0.2.20", host_mac(1));
    rig.introduce4(0, "10.0.1.10", host_mac(0));
    let through = v4("10.0.1.10", "192.0.2.20").frame(0, &[7; 30]);
    let dead = crate::sim::V4 { ttl: 1, ..v4("10.0.1.10", "192.0.2.20") }.frame(0, &[7; 30]);
    let (i, o, d) = ((0, Direction::In), (1, Direction::Out), (0, Direction::Drop));
    // What came, what goes, and what is lost; the dead one is answered by the way it came.
    let answer = (0, Direction::Out);
    for (text, expected) in [
        ("inbound", vec![i, i, d]),
        ("outbound", vec![o, answer]),
        ("ifindex 0", vec![i, i, d, answer]),
        ("ifindex 1", vec![o]),
        ("ifindex 1 and inbound", vec![]),
        ("ifindex 0 and outbound and icmp", vec![answer]),
    ] {
        let mut capture = by(&mut rig, text, &[IfIndex(0), IfIndex(1)]);
        rig.receive(0, &[through.clone(), dead.clone()]);
        rig.sent();
        let mut taken: Vec<_> = capture.take().iter().map(|taken| (taken.0, taken.1)).collect();
        let mut expected = expected;
        let order = |own: &(u16, Direction)| (own.0, own.1 as u8);
        taken.sort_by_key(order);
        expected.sort_by_key(order);
        assert_eq!(taken, expected, "{text}");
        let mut cpu = claim_any().unwrap();
        cpu.control(|cx| rig.snapshot.taps().detach(cx, capture.attached));
    }
}

#[test]
fn what_is_made_for_a_filter_is_what_is_kept() {
    let mut rig = two();
    let bytes: Vec<u8> = (0..=255).cycle().take(400).collect();
    let mut stripped = rig.pool.alloc_from(&bytes).unwrap();
    stripped.meta_mut().vlan = 0x123;
    let tagged = [&bytes[..12], &[0x81, 0, 1, 0x23], &bytes[12..]].concat();
    let bare = rig.pool.alloc_from(&bytes).unwrap();
    let headed = [&[0; 12][..], &[8, 0], &bytes].concat();
    let short = {
        let mut short = rig.pool.alloc_from(&bytes[..7]).unwrap();
        short.meta_mut().vlan = 1;
        short
    };
    let with_tag = [&bytes[..7], &[0x81, 0, 0, 1]].concat();
    for (packet, framing, whole) in [
        (&stripped, Framing::Whole, tagged),
        (&bare, Framing::Bare, headed),
        (&bare, Framing::Whole, bytes.clone()),
        (&short, Framing::Whole, with_tag),
    ] {
        let frame = Frame::new(packet, framing);
        assert_eq!(frame.len(), whole.len());
        for offset in 0..whole.len() + 2 {
            for len in [1, 2, 4, 15, 500] {
                let mut into = vec![0xee; len];
                let count = frame.copy_out(offset, &mut into);
                let expected = whole.get(offset..).unwrap_or(&[]);
                let expected = &expected[..expected.len().min(len)];
                assert_eq!((count, &into[..count]), (expected.len(), expected), "{framing:?} from {offset}");
            }
        }
    }
    [stripped, bare, short].into_iter().for_each(|packet| rig.pool.free(packet));
}

#[test]
fn as_many_bytes_are_kept_as_the_frame_has_and_the_snap_length_says() {
    let mut rig = two();
    let frames: Vec<Vec<u8>> = [0, 10, 21, 22, 23, 52, 53, 54, 55, 90, 200]
        .map(|payload| v4("10.0.1.10", "192.0.2.20").frame(0, &(0..payload).collect::<Vec<u8>>()))
        .into();
    for snaplen in 1..=140 {
        let directions = Direction::In.bit();
        // Little room: near its end records are written where they fit.
        let mut capture =
            attach(&mut rig, Wish { directions, snaplen, ring: 1 << 11, ..wish(&[IfIndex(0)]) });
        for round in 0..3 {
            rig.receive(0, &frames);
            let (taken, lost) = (capture.take(), capture.counts(0).3);
            assert_eq!((taken.len(), lost), (frames.len(), 0), "snaplen {snaplen}, round {round}");
            for (record, frame) in taken.iter().zip(&frames) {
                let kept = frame.len().min(snaplen as usize);
                assert_eq!((record.3 as usize, &record.4[..]), (frame.len(), &frame[..kept]));
            }
        }
        let mut cpu = claim_any().unwrap();
        cpu.control(|cx| rig.snapshot.taps().detach(cx, capture.attached));
    }
}

#[test]
fn a_packet_that_has_no_header_yet_is_shown_with_one() {
    let mut rig = two();
    let mut capture = attach(&mut rig, Wish { directions: Direction::Drop.bit(), ..wish(&[IfIndex(0)]) });
    let bytes = v4("10.0.1.1", "192.0.2.20").packet(&[1, 2, 3]);
    let mut broken = bytes.clone();
    broken[10] ^= 1;
    let packet = rig.pool.alloc_from(&broken).unwrap();
    rig.turn(|stack, turn| stack.send(turn, packet, IfIndex(0)));
    let expected = [&[0; 12][..], &[8, 0], &broken].concat();
    let taken = capture.take();
    assert_eq!((taken[0].2, &taken[0].4), (Some(Drop::Ipv4Checksum), &expected));
}

#[test]
fn every_one_of_a_million_packets_is_with_the_reader_or_in_a_counter() {
    let batches = if cfg!(debug_assertions) { 4_000 } else { 15_625 };
    let mut rig = two().with_room(48);
    rig.introduce4(1, "192.0.2.20", host_mac(1));
    let mut capture =
        attach(&mut rig, Wish { snaplen: 96, ring: 1 << 17, ..wish(&[IfIndex(0), IfIndex(1)]) });
    let before = [0, 1].map(|index| rig.totals(index));
    let (mut read, mut state) = ([[0_u64; 3]; 2], 0x5eed_u32);
    for round in 0..batches {
        let frames: Vec<_> = (0..64_u8)
            .map(|n| {
                let mut ip = v4("10.0.1.10", if n % 8 == 7 { "198.51.100.1" } else { "192.0.2.20" });
                ip.ttl = if n % 16 == 3 { 1 } else { 64 };
                ip.frame(0, &[n; 26])
            })
            .collect();
        rig.receive(0, &frames);
        rig.sent();
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // A reader that sleeps for up to a few thousand packets.
        if state >> 26 == 0 || round + 1 == batches {
            for (number, direction, ..) in capture.take() {
                read[usize::from(number)][direction as usize] += 1;
            }
        }
    }
    let after = [0, 1].map(|index| rig.totals(index));
    let mut lost = 0;
    for (number, read) in read.iter().enumerate() {
        let Counts { received, matched, captured, dropped } = capture.capture.counts(number);
        let (was, is) = (&before[number], &after[number]);
        let dead = |totals: &weir_netif::Totals| {
            let of = |(reason, count)| if reason == Drop::Consumed { 0 } else { count };
            totals.drops().map(of).sum::<u64>()
        };
        let rate_limited = is.dropped(Drop::IcmpRateLimited) - was.dropped(Drop::IcmpRateLimited);
        // What the limiter forbids never was a packet; what the device refused was seen on its way out before.
        let refused = after[0].dropped(Drop::TxRingFull) - before[0].dropped(Drop::TxRingFull);
        let seen = is.rx_packets - was.rx_packets + is.tx_packets - was.tx_packets + dead(is)
            - dead(was)
            - rate_limited
            + if number == 1 { refused } else { 0 };
        assert_eq!(received, seen, "interface {number}: what passed the taps");
        assert_eq!((matched, captured + dropped), (received, matched));
        assert_eq!(captured, read.iter().sum::<u64>(), "interface {number}: what was taken was read");
        lost += dropped;
    }
    assert!(read[0][0] > 0 && read[0][2] > 0 && read[1][1] > 0);
    assert!(lost > 0, "the reader was too slow at times");
}

#[test]
fn places_are_few_and_come_back() {
    let mut rig = two();
    let mut all: Vec<_> = (0..CAPTURES).map(|_| attach(&mut rig, wish(&[IfIndex(0)]))).collect();
    let (another, _) = Capture::new(wish(&[IfIndex(0)])).unwrap();
    let mut cpu = claim_any().unwrap();
    assert!(cpu.control(|cx| rig.snapshot.taps().attach(cx, &another)).is_none());
    let Attachment { capture, attached, .. } = all.swap_remove(2);
    cpu.control(|cx| rig.snapshot.taps().detach(cx, attached));
    assert_eq!(Arc::strong_count(&capture), 1, "nobody else has it any more");
    let attached = cpu.control(|cx| rig.snapshot.taps().attach(cx, &another)).unwrap();
    cpu.control(|cx| rig.snapshot.taps().detach(cx, attached));
    for Attachment { attached, .. } in all {
        cpu.control(|cx| rig.snapshot.taps().detach(cx, attached));
    }
    assert_eq!(rig.snapshot.taps().attached(), 0);
    assert!(rig.stack.lanes.is_tapped());
    rig.receive(0, &[v4("10.0.1.10", "10.0.1.1").frame(0, &[])]);
    assert!(!rig.stack.lanes.is_tapped(), "the first batch after it finds that nobody listens");
}

#[test]
fn a_plan_says_who_watches_and_no_memory_is_an_answer() {
    assert!(Capture::new(Wish { ring: usize::MAX / 2, ..wish(&[IfIndex(0)]) }).is_none());
    assert!(Record::parse(&[0; 23]).is_none());
    assert!(Record::parse(&[0xff; 24]).is_none(), "no such direction");
}
