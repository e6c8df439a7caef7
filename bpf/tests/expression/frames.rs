//! Frames of every kind that filters tell apart, the same every time.

// The unit tests have no prelude of std.
use std::{vec, vec::Vec};

/// Ethernet, tags, labels or a session; addresses, IP with and without options and fragments; what that carries; cut ones.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let mut random = Random(0x5eed);
    let mut frames = others();
    for _ in 0..4000 {
        let frame = frame(&mut random);
        frames.push(frame);
    }
    frames
}

/// splitmix64
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

const STATIONS: [[u8; 6]; 6] = [
    [0x52, 0x54, 0, 0x12, 0x34, 0x56],
    [2, 0, 0, 0, 0, 1],
    [2, 0, 0, 0, 0, 2],
    [0xff; 6],
    [1, 0, 0x5e, 0, 0, 0xfb],
    [0x33, 0x33, 0, 0, 0, 1],
];
const ADDRESSES4: [[u8; 4]; 12] = [
    [192, 0, 2, 1],
    [192, 0, 2, 1],
    [192, 0, 2, 1],
    [192, 0, 2, 77],
    [10, 0, 0, 1],
    [10, 0, 0, 1],
    [10, 1, 2, 3],
    [10, 3, 0, 9],
    [198, 51, 100, 9],
    [224, 0, 0, 251],
    [255; 4],
    [0; 4],
];
const ADDRESSES6: [[u16; 8]; 9] = [
    [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1],
    [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1],
    [0x2001, 0xdb8, 0, 0, 0, 0, 0, 2],
    [0x2001, 0xdb8, 0, 0, 0x8000, 0, 0, 7],
    [0x2001, 0xdb8, 0x8000, 1, 0, 0, 0, 2],
    [0xfe80, 0, 0, 0, 0, 0, 0, 1],
    [0xff02, 0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 0, 0, 0, 1],
    [0x20ff, 1, 0, 0, 0, 0, 0, 1],
];
const PORTS: [u16; 29] = [
    80, 80, 80, 443, 443, 22, 22, 53, 53, 53, 8080, 123, 67, 68, 68, 179, 500, 514, 2049, 2905, 2905, 4500,
    5353, 6000, 6005, 0, 65535, 1024, 40000,
];
/// 802.3, or a type that nothing here looks into.
fn others() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut add = |kind: [u8; 2], body: &[u8]| {
        for to in STATIONS {
            let mut frame = [to, STATIONS[1]].concat();
            frame.extend(kind);
            frame.extend(body);
            frame.resize(frame.len().max(60), 0);
            frames.push(frame);
        }
    };
    add([0, 38], &[0x42, 0x42, 3, 0, 0, 0, 0, 0, 0x80]);
    add([0, 40], &[0xe0, 0xe0, 3, 0xff, 0xff]);
    add([0, 40], &[0xff, 0xff, 0, 40]);
    add([0, 40], &[0xf0, 0xf0, 3]);
    add([0, 40], &[0xfe, 0xfe, 3, 0x83, 27]);
    add([0, 40], &[0xaa, 0xaa, 3, 8, 0, 7, 0x80, 0x9b]);
    add([0, 40], &[0xaa, 0xaa, 3, 0, 0, 0, 0x81, 0x37]);
    add([0, 40], &[0xaa, 0xaa, 3, 0, 0, 0, 0x80, 0xf3]);
    add([0x81, 0], &[0, 5, 0, 38, 0x42, 0x42, 3]);
    add([0x81, 0], &[0, 5, 0x88, 0xcc, 2, 7]);
    add([0x05, 0xdc], &[0x42, 0x42, 3]);
    add([0x05, 0xdd], &[0x42, 0x42, 3]);
    for kind in [
        0x0600u16, 0x809b, 0x80f3, 0x8137, 0x6001, 0x6002, 0x6003, 0x6004, 0x6007, 0x88cc, 0x9000, 0x8863,
        0x8864, 0x8847, 0x8848, 0x8100, 0x88a8, 0x9100, 0x0800, 0x86dd, 0x0806, 0x8035, 0xffff,
    ] {
        add(kind.to_be_bytes(), &[0x11, 0, 0, 3, 0, 4, 0, 0x21, 0x45, 0]);
        add(kind.to_be_bytes(), &[0; 46]);
    }
    frames
}

fn frame(random: &mut Random) -> Vec<u8> {
    let mut frame = random.pick(&STATIONS).to_vec();
    frame.extend(random.pick(&STATIONS));
    let tags: &[(u16, u16)] = random.pick(&[
        &[][..],
        &[],
        &[],
        &[],
        &[],
        &[],
        &[],
        &[],
        &[(0x8100, 5)],
        &[(0x8100, 4095)],
        &[(0x8100, 0xe005)],
        &[(0x8100, 100)],
        &[(0x8100, 0)],
        &[(0x88a8, 100), (0x8100, 5)],
        &[(0x8100, 100), (0x8100, 4095)],
        &[(0x9100, 5)],
    ]);
    for (kind, tag) in tags {
        frame.extend(kind.to_be_bytes());
        frame.extend(tag.to_be_bytes());
    }
    let (kind, packet) = match random.below(14) {
        0 => (0x0806u16, arp(random)),
        1 => (0x8035, arp(random)),
        2..7 => (0x86dd, ip6(random)),
        _ => (0x0800, ip4(random)),
    };
    match random.below(10) {
        0 => {
            frame.extend([0x88, 0x47]);
            let labels = random.pick(&[&[100u32][..], &[200], &[100, 200], &[7, 100, 200]]);
            for (at, label) in labels.iter().enumerate() {
                let last = u32::from(at + 1 == labels.len());
                frame.extend((label << 12 | last << 8 | 64).to_be_bytes());
            }
        }
        1 => {
            frame.extend([0x88, random.pick(&[0x64, 0x64, 0x64, 0x63]), 0x11, 0]);
            frame.extend(random.pick(&[3u16, 3, 4]).to_be_bytes());
            frame.extend((packet.len() as u16 + 2).to_be_bytes());
            frame.extend(match kind {
                0x0800 => [0, 0x21],
                0x86dd => [0, 0x57],
                _ => [0xc0, 0x21],
            });
        }
        _ => frame.extend(kind.to_be_bytes()),
    }
    frame.extend(packet);
    frame
}

fn arp(random: &mut Random) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, random.pick(&[1, 2, 3, 4])];
    packet.extend(random.pick(&STATIONS));
    packet.extend(random.pick(&ADDRESSES4));
    packet.extend(random.pick(&STATIONS));
    packet.extend(random.pick(&ADDRESSES4));
    packet
}

fn ip4(random: &mut Random) -> Vec<u8> {
    let (protocol, payload) = payload(random, 4);
    let words = random.pick(&[5u8, 5, 5, 5, 6, 8, 15, 4]);
    let options = usize::from(words.max(5) - 5) * 4;
    let fragment = random.pick(&[0u16, 0, 0, 0x4000, 0x4000, 0x2000, 0x2010, 0x0010, 0x1fff, 0x8000]);
    let mut packet = vec![0x40 | words, random.pick(&[0, 0, 0xb8, 0x10])];
    packet.extend((20 + options as u16 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([random.pick(&[1, 4, 32, 64, 64, 255]), protocol, 0, 0]);
    let from = random.pick(&ADDRESSES4);
    packet.extend(from);
    packet.extend(if random.below(8) == 0 { from } else { random.pick(&ADDRESSES4) });
    packet.resize(20 + options, 1);
    packet.extend(payload);
    packet.resize(packet.len() + random.pick(&[0, 0, 6]), 0);
    packet
}

fn ip6(random: &mut Random) -> Vec<u8> {
    let (mut protocol, mut payload) = payload(random, 6);
    match random.below(8) {
        // A fragment header, hop-by-hop options.
        0 => {
            payload.splice(0..0, [protocol, 0, 0, random.pick(&[0, 1, 8]), 0, 0, 0, 1]);
            protocol = 44;
        }
        1 => {
            payload.splice(0..0, [protocol, 0, 5, 2, 0, 0, 1, 0]);
            protocol = 0;
        }
        _ => {}
    }
    let mut packet = vec![0x60, random.pick(&[0, 0, 0x0b]), 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([protocol, random.pick(&[1, 64, 64, 255])]);
    for _ in 0..2 {
        packet.extend(random.pick(&ADDRESSES6).iter().flat_map(|word| word.to_be_bytes()));
    }
    packet.extend(payload);
    packet
}

/// What IP carries, and its number.
fn payload(random: &mut Random, version: u8) -> (u8, Vec<u8>) {
    let ports = |random: &mut Random| {
        let from = random.pick(&PORTS);
        let to = match random.below(6) {
            0 => from,
            1 => 135 - from.min(68),
            _ => random.pick(&PORTS),
        };
        [from.to_be_bytes(), to.to_be_bytes()].concat()
    };
    let data = random.pick(&[
        &b""[..],
        b"GET / HTTP/1.1\r\n",
        b"HTTP/1.1 200 OK\r\n",
        &[7; 60],
        &[0; 9],
        &[0x80; 700],
    ]);
    match random.below(16) {
        0..6 => {
            let mut segment = ports(random);
            segment.extend([0, 0, 0, random.pick(&[1, 2]), 0, 0, 0, 1]);
            let words = random.pick(&[5u8, 5, 8]);
            segment.extend([words << 4, random.pick(&[0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14, 0xc2, 0])]);
            segment.extend(random.pick(&[500u16, 1000, 65535]).to_be_bytes());
            segment.resize(usize::from(words) * 4, 1);
            segment.extend(data);
            (6, segment)
        }
        6..10 => {
            let mut datagram = ports(random);
            datagram.extend((8 + data.len() as u16).to_be_bytes());
            datagram.extend([0, 0]);
            datagram.extend(data);
            datagram.extend([0x12, 0x34, random.pick(&[0x81, 0x01]), 0]);
            (17, datagram)
        }
        10 => {
            let mut packet = ports(random);
            packet.extend([0, 0, 0, 1, 0, 0, 0, 0, random.pick(&[0, 1, 3]), 0, 0, 20]);
            packet.resize(28, 0);
            (132, packet)
        }
        11..14 => {
            let kind = match version {
                4 => random.pick(&[0, 3, 3, 5, 8, 8, 11]),
                _ => random.pick(&[1, 2, 3, 128, 129, 133, 134, 135, 136, 137]),
            };
            let mut message = vec![kind, random.pick(&[0, 1, 4]), 0, 0, 0, 1, 0, 1];
            message.extend(data);
            (if version == 4 { 1 } else { 58 }, message)
        }
        14 => (random.pick(&[2, 9, 47, 50, 51, 89, 103, 112]), vec![0x16, 0, 0, 1, 2, 3, 4, 5, 0, 6, 0, 0]),
        _ => (random.pick(&[59, 1, 58, 4, 255]), data.to_vec()),
    }
}
