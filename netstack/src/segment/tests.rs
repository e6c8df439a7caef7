use super::*;
use crate::frames::{
    self, ETHERNET, assert_nothing_leaked, bytes, chain, naive_sum, pool, pseudo, super_packet,
    transport_sum_is_right,
};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

const SEQUENCE: u32 = 0xffff_ff00;
const ACK: u8 = 0x10;
const ALL_FLAGS: u8 = FIN | PSH | CWR | ACK;

/// The headers of a super-packet: how to make one, and where its parts are.
#[derive(Clone, Copy, Debug)]
struct Shape {
    kind: GsoKind,
    /// Bytes of IPv4 options or IPv6 extension headers, a multiple of 8.
    extra: usize,
    tcp_options: usize,
}

const PLAIN4: Shape = Shape { kind: GsoKind::Tcp4, extra: 0, tcp_options: 12 };
const PLAIN6: Shape = Shape { kind: GsoKind::Tcp6, extra: 0, tcp_options: 12 };

impl Shape {
    fn l4(self) -> usize {
        ETHERNET + self.extra + if self.kind == GsoKind::Tcp4 { 20 } else { 40 }
    }

    fn headers(self) -> usize {
        self.l4() + 20 + self.tcp_options
    }

    fn frame(self, payload: &[u8]) -> Vec<u8> {
        let tcp = frames::tcp(SEQUENCE, ALL_FLAGS, &vec![1; self.tcp_options], payload);
        match self.kind {
            GsoKind::Tcp4 => {
                [frames::ethernet(0x0800), frames::ipv4(6, &vec![1; self.extra], 0x4000, &tcp)].concat()
            }
            GsoKind::Tcp6 => {
                let mut extension = vec![0; self.extra];
                let mut next = 6;
                if self.extra > 0 {
                    extension[..2].copy_from_slice(&[6, (self.extra / 8 - 1) as u8]);
                    next = 60;
                }
                [frames::ethernet(0x86dd), frames::ipv6(next, &[extension, tcp].concat())].concat()
            }
        }
    }

    fn packet(self, pool: &mut Pool, payload: &[u8], cuts: &[usize], size: u16, ecn: bool) -> Packet {
        let cuts: Vec<usize> = core::iter::once(self.headers()).chain(cuts.iter().copied()).collect();
        let mut packet = chain(pool, &self.frame(payload), &cuts);
        super_packet(&mut packet, Gso { kind: self.kind, size, ecn }, ETHERNET, self.l4());
        packet
    }
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 251) as u8).collect()
}

fn collect(packet: Packet, checksums: Checksums, pool: &mut Pool) -> Result<Vec<Packet>, Drop> {
    let mut frames = Vec::new();
    let count = segment(packet, ETHERNET, checksums, pool, |_, frame| frames.push(frame))?;
    assert_eq!(count, frames.len());
    Ok(frames)
}

/// Checks every frame by itself and against its neighbours, and returns the stream they carry.
fn reassemble(shape: Shape, frames: &[Packet], size: usize, ecn: bool, checksums: Checksums) -> Vec<u8> {
    let (l3, l4, headers) = (ETHERNET, shape.l4(), shape.headers());
    let mut stream = Vec::new();
    for (nth, frame) in frames.iter().enumerate() {
        let last = nth + 1 == frames.len();
        let all = bytes(frame);
        assert_eq!(all[..ETHERNET], shape.frame(&[])[..ETHERNET]);
        let (ip, tcp, data) = (&all[l3..], &all[l4..], &all[headers..]);
        let length = |at: usize| usize::from(u16::from_be_bytes([ip[at], ip[at + 1]]));
        match shape.kind {
            GsoKind::Tcp4 => {
                assert_eq!(length(2), ip.len());
                assert_eq!(length(4), (0xfffe + nth) & 0xffff, "identification counts up");
                assert_eq!(naive_sum(&ip[..20 + shape.extra]), 0xffff, "header checksum");
            }
            GsoKind::Tcp6 => assert_eq!(length(4), ip.len() - 40),
        }
        let sequence = u32::from_be_bytes(tcp[4..8].try_into().unwrap());
        assert_eq!(sequence, SEQUENCE.wrapping_add(stream.len() as u32));
        assert!(data.len() == size || last && data.len() <= size);
        let mut flags = ACK;
        if last {
            flags |= FIN | PSH;
        }
        if nth == 0 || !ecn {
            flags |= CWR;
        }
        assert_eq!(tcp[13], flags);
        assert_eq!(tcp[14..16], [1, 0], "window");
        assert_eq!(tcp[20..20 + shape.tcp_options], vec![1; shape.tcp_options]);
        assert_eq!(frame.meta().gso, None);
        match checksums {
            Checksums::Finish => {
                assert_eq!(frame.meta().checksum, Checksum::Verified);
                assert!(transport_sum_is_right(ip, 6, tcp));
            }
            Checksums::Leave => {
                assert_eq!(frame.meta().checksum, Checksum::Partial { start: l4 as u16, offset: 16 });
                assert_eq!(tcp[16..18], naive_sum(&pseudo(ip, 6, tcp.len())).to_be_bytes());
            }
        }
        stream.extend(data);
    }
    stream
}

fn free_all(pool: &mut Pool, frames: Vec<Packet>) {
    frames.into_iter().for_each(|frame| pool.free(frame));
}

#[test]
fn a_64_kib_super_packet_becomes_full_frames_in_one_buffer_each() {
    for shape in [PLAIN4, PLAIN6] {
        let mut pool = pool(128);
        let data = payload(65_535 - 40 - 32);
        let packet = shape.packet(&mut pool, &data, &[2000, 1, 7], 1448, false);
        assert_eq!(largest(&packet, ETHERNET), Some(shape.headers() - ETHERNET + 1448));
        let frames = collect(packet, Checksums::Finish, &mut pool).unwrap();
        assert_eq!(frames.len(), data.len().div_ceil(1448));
        assert!(frames.iter().all(|frame| !frame.is_chain()));
        assert_eq!(reassemble(shape, &frames, 1448, false, Checksums::Finish), data);
        free_all(&mut pool, frames);
        assert_nothing_leaked(&mut pool);
    }
}

#[test]
fn lengths_past_65535_are_taken_from_the_bytes() {
    for shape in [PLAIN4, PLAIN6] {
        let mut pool = pool(256);
        let data = payload(100_000);
        let mut frame = shape.frame(&data);
        let at = ETHERNET + if shape.kind == GsoKind::Tcp4 { 2 } else { 4 };
        frame[at..at + 2].fill(0);
        let mut packet = chain(&mut pool, &frame, &[shape.headers()]);
        super_packet(&mut packet, Gso { kind: shape.kind, size: 1400, ecn: false }, ETHERNET, shape.l4());
        let frames = collect(packet, Checksums::Finish, &mut pool).unwrap();
        assert_eq!(reassemble(shape, &frames, 1400, false, Checksums::Finish), data);
        free_all(&mut pool, frames);
        assert_nothing_leaked(&mut pool);
    }
}

#[test]
fn metadata_goes_along() {
    let mut pool = pool(8);
    let mut packet = PLAIN4.packet(&mut pool, &payload(250), &[], 100, false);
    packet.meta_mut().vlan = 5;
    packet.meta_mut().hash = 77;
    packet.meta_mut().received.0 = 3;
    let frames = collect(packet, Checksums::Leave, &mut pool).unwrap();
    assert_eq!(frames.len(), 3);
    for frame in &frames {
        assert_eq!((frame.meta().vlan, frame.meta().hash, frame.meta().received.0), (5, 77, 3));
    }
    free_all(&mut pool, frames);
}

#[test]
fn padding_behind_the_datagram_is_no_payload() {
    let mut pool = pool(8);
    let data = payload(150);
    let mut frame = PLAIN4.frame(&data);
    frame.extend([0xaa; 9]);
    let mut packet = chain(&mut pool, &frame, &[]);
    super_packet(&mut packet, Gso { kind: GsoKind::Tcp4, size: 100, ecn: false }, ETHERNET, PLAIN4.l4());
    let frames = collect(packet, Checksums::Finish, &mut pool).unwrap();
    assert_eq!(reassemble(PLAIN4, &frames, 100, false, Checksums::Finish), data);
    free_all(&mut pool, frames);
}

#[test]
fn without_payload_it_is_one_frame() {
    let mut pool = pool(4);
    let packet = PLAIN6.packet(&mut pool, &[], &[], 1000, true);
    let frames = collect(packet, Checksums::Finish, &mut pool).unwrap();
    assert_eq!(frames.len(), 1);
    assert_eq!(reassemble(PLAIN6, &frames, 1000, true, Checksums::Finish), []);
    free_all(&mut pool, frames);
}

#[test]
fn a_dry_pool_loses_the_whole_packet_and_no_buffer() {
    for spare in 0..6 {
        let mut pool = pool(2 + spare);
        let data = payload(1000);
        let packet = PLAIN4.packet(&mut pool, &data, &[1000], 170, false);
        let result =
            segment(packet, ETHERNET, Checksums::Finish, &mut pool, |_, _| panic!("an incomplete set"));
        assert_eq!(result, Err(Drop::NoBuffer));
        assert_nothing_leaked(&mut pool);
    }
}

#[test]
fn more_than_1024_frames_are_refused() {
    let mut pool = pool(1100);
    for (len, expected) in [(1024 * 8, Ok(1024)), (1024 * 8 + 1, Err(Drop::OffloadUnsupported))] {
        let packet = PLAIN4.packet(&mut pool, &payload(len), &[], 8, false);
        let result = segment(packet, ETHERNET, Checksums::Finish, &mut pool, |pool, frame| pool.free(frame));
        assert_eq!(result, expected);
    }
    assert_nothing_leaked(&mut pool);
}

#[test]
fn metadata_that_contradicts_the_bytes_is_malformed() {
    type Spoil = fn(&mut Packet);
    let spoil: [(&str, Spoil); 16] = [
        ("no gso", |p| p.meta_mut().gso = None),
        ("size 0", |p| p.meta_mut().gso = Some(Gso { kind: GsoKind::Tcp4, size: 0, ecn: false })),
        ("other family", |p| p.meta_mut().gso = Some(Gso { kind: GsoKind::Tcp6, size: 99, ecn: false })),
        ("no debt", |p| p.meta_mut().checksum = Checksum::Unknown),
        ("verified", |p| p.meta_mut().checksum = Checksum::Verified),
        ("wrong start", |p| p.meta_mut().checksum = Checksum::Partial { start: 35, offset: 16 }),
        ("wrong field", |p| p.meta_mut().checksum = Checksum::Partial { start: 34, offset: 6 }),
        ("frames past 65535", |p| {
            p.meta_mut().gso = Some(Gso { kind: GsoKind::Tcp4, size: 65_535, ecn: false });
        }),
        ("version", |p| p.data_mut()[14] = 0x65),
        ("header length", |p| p.data_mut()[14] = 0x44),
        ("total length too long", |p| p.data_mut()[16] = 0xff),
        ("total length too short", |p| p.data_mut()[16..18].copy_from_slice(&[0, 51])),
        ("udp", |p| p.data_mut()[23] = 17),
        ("fragment", |p| p.data_mut()[20..22].copy_from_slice(&[0x20, 0])),
        ("tcp header too short", |p| p.data_mut()[46] = 0x40),
        ("tcp header past the segment", |p| p.data_mut()[46] = 0xf0),
    ];
    for (what, spoil) in spoil {
        let mut pool = pool(8);
        let mut packet = PLAIN4.packet(&mut pool, &payload(300), &[], 100, false);
        spoil(&mut packet);
        assert_eq!(largest(&packet, ETHERNET), None, "{what}");
        let result = segment(packet, ETHERNET, Checksums::Finish, &mut pool, |_, _| panic!("{what}"));
        assert_eq!(result, Err(Drop::OffloadMalformed), "{what}");
        assert_nothing_leaked(&mut pool);
    }
}

#[test]
fn fragments_and_endless_headers_are_no_super_packets() {
    let fragment = [6, 0, 0, 1, 0, 0, 0, 9].to_vec();
    let long = |words: u8| [vec![6, words - 1], vec![0; usize::from(words) * 8 - 2]].concat();
    for (next, extension, expected) in
        [(44, fragment, None), (60, long(117), Some(40 + 936 + 20 + 100)), (60, long(119), None)]
    {
        let mut pool = pool(8);
        let l4 = ETHERNET + 40 + extension.len();
        let tcp = frames::tcp(SEQUENCE, ACK, &[], &payload(300));
        let ip = frames::ipv6(next, &[extension, tcp].concat());
        let mut packet = chain(&mut pool, &[frames::ethernet(0x86dd), ip].concat(), &[l4 + 20]);
        super_packet(&mut packet, Gso { kind: GsoKind::Tcp6, size: 100, ecn: false }, ETHERNET, l4);
        assert_eq!(largest(&packet, ETHERNET), expected);
        pool.free(packet);
    }
}

#[test]
fn headers_outside_the_first_segment_are_malformed() {
    for first in 0..PLAIN4.headers() {
        let mut pool = pool(8);
        let mut packet = chain(&mut pool, &PLAIN4.frame(&payload(300)), &[first]);
        packet.meta_mut().gso = Some(Gso { kind: GsoKind::Tcp4, size: 100, ecn: false });
        packet.meta_mut().checksum = Checksum::Partial { start: PLAIN4.l4() as u16, offset: 16 };
        let result = segment(packet, ETHERNET, Checksums::Leave, &mut pool, |_, _| panic!());
        assert_eq!(result, Err(Drop::OffloadMalformed));
        assert_nothing_leaked(&mut pool);
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    (any::<bool>(), 0usize..5, 0usize..=10).prop_map(|(v6, extra, options)| Shape {
        kind: if v6 { GsoKind::Tcp6 } else { GsoKind::Tcp4 },
        extra: extra * 8,
        tcp_options: options * 4,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn frames_reassemble_to_the_stream(
        shape in shape(),
        len in 0usize..9000,
        size in 30u16..4000,
        cuts in prop::collection::vec(1usize..1500, 0..8),
        ecn: bool,
        finish: bool,
    ) {
        let mut pool = pool(512);
        let data = payload(len);
        let checksums = if finish { Checksums::Finish } else { Checksums::Leave };
        let packet = shape.packet(&mut pool, &data, &cuts, size, ecn);
        let largest = largest(&packet, ETHERNET).unwrap();
        let frames = collect(packet, checksums, &mut pool).unwrap();
        prop_assert_eq!(frames.iter().map(|frame| frame.len() - ETHERNET).max(), Some(largest));
        prop_assert_eq!(reassemble(shape, &frames, size.into(), ecn, checksums), data);
        free_all(&mut pool, frames);
        assert_nothing_leaked(&mut pool);
    }

    #[test]
    fn no_bytes_or_metadata_do_harm(
        shape in shape(),
        damage in prop::collection::vec((0usize..120, any::<u8>()), 0..4),
        len in 0usize..3000,
        l3 in 0usize..40,
        start in prop_oneof![Just(0u16), Just(34), Just(54), any::<u16>()],
        offset in prop_oneof![Just(16u16), any::<u16>()],
        size: u16,
        slots in 4usize..80,
    ) {
        let mut pool = pool(slots);
        let mut frame = shape.frame(&payload(len));
        for (at, value) in damage {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        let mut packet = pool.alloc_from(&frame).unwrap();
        packet.meta_mut().gso = Some(Gso { kind: shape.kind, size, ecn: true });
        packet.meta_mut().checksum = Checksum::Partial {
            start: if start == 0 { shape.l4() as u16 } else { start },
            offset,
        };
        let l3 = if l3 < 30 { ETHERNET } else { l3 };
        let mut count = 0;
        let result = segment(packet, l3, Checksums::Finish, &mut pool, |pool, frame| {
            count += 1;
            pool.free(frame);
        });
        prop_assert_eq!(result.unwrap_or(0), count);
        assert_nothing_leaked(&mut pool);
    }
}
