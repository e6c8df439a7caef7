//! Frames for tests: built and checked by code that shares nothing with what it tests.

use std::vec;
use std::vec::Vec;
use weir_netif::{Arena, BUFFER, Checksum, Gso, Packet, Pool};

/// Bytes of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;

/// A pool over a fresh arena of `slots` buffers.
pub(crate) fn pool(slots: usize) -> Pool {
    Pool::new(Arena::new(vec![0; (slots + 1) * BUFFER - 1].leak()))
}

/// Fails unless every buffer of the pool's arena is free, and was freed rather than dropped.
pub(crate) fn assert_nothing_leaked(pool: &mut Pool) {
    assert_eq!(pool.arena().strays(), 0, "dropped instead of freed");
    let all: Vec<Packet> = core::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(all.len(), pool.arena().slots());
    all.into_iter().for_each(|packet| pool.free(packet));
}

/// A packet of `bytes` whose segments have the lengths `cuts`, and the rest as it comes.
pub(crate) fn chain(pool: &mut Pool, bytes: &[u8], cuts: &[usize]) -> Packet {
    let (mut rest, mut packet) = (bytes, None::<Packet>);
    for cut in cuts.iter().copied().chain(core::iter::repeat(1500)) {
        let (now, later) = rest.split_at(cut.min(rest.len()));
        let segment = pool.alloc_from(now).unwrap();
        match &mut packet {
            None => packet = Some(segment),
            Some(packet) => packet.append(segment),
        }
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    packet.unwrap()
}

/// All bytes of a packet.
pub(crate) fn bytes(packet: &Packet) -> Vec<u8> {
    packet.segments().flatten().copied().collect()
}

/// RFC 1071 as its text has it: 16-bit words, an odd byte padded, carries added at once.
pub(crate) fn naive_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The pseudo-header of the IP packet `ip`, for `len` bytes of `protocol`.
pub(crate) fn pseudo(ip: &[u8], protocol: u8, len: usize) -> Vec<u8> {
    let addresses = if ip[0] >> 4 == 4 { &ip[12..20] } else { &ip[8..40] };
    let mut pseudo = addresses.to_vec();
    if ip[0] >> 4 == 4 {
        pseudo.extend([0, protocol]);
        pseudo.extend((len as u16).to_be_bytes());
    } else {
        pseudo.extend((len as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, protocol]);
    }
    pseudo
}

/// Whether pseudo-header and transport sum up to all ones.
pub(crate) fn transport_sum_is_right(ip: &[u8], protocol: u8, transport: &[u8]) -> bool {
    let mut all = if protocol == 1 { Vec::new() } else { pseudo(ip, protocol, transport.len()) };
    all.extend(transport);
    naive_sum(&all) == 0xffff
}

/// Sets the IPv4 header checksum.
pub(crate) fn seal_ipv4(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = !naive_sum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// An Ethernet header.
pub(crate) fn ethernet(ethertype: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// An IPv4 packet from 192.0.2.1 to 198.51.100.2 with TTL 33, TOS 0x10 and identification 0xfffe.
pub(crate) fn ipv4(protocol: u8, options: &[u8], flags_offset: u16, data: &[u8]) -> Vec<u8> {
    assert_eq!(options.len() % 4, 0);
    let header = 20 + options.len();
    let mut packet = vec![0x40 | (header / 4) as u8, 0x10];
    packet.extend(((header + data.len()) as u16).to_be_bytes());
    packet.extend([0xff, 0xfe]);
    packet.extend(flags_offset.to_be_bytes());
    packet.extend([33, protocol, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2]);
    packet.extend(options);
    seal_ipv4(&mut packet);
    packet.extend(data);
    packet
}

/// An IPv6 packet from 2001:db8::1 to 2001:db8::2 with hop limit 33. `data` is all behind the fixed header.
pub(crate) fn ipv6(next: u8, data: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x61, 0x23, 0x45, 0x67];
    packet.extend((data.len() as u16).to_be_bytes());
    packet.extend([next, 33]);
    packet.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    packet.extend(data);
    packet
}

/// A TCP header and data without a checksum.
pub(crate) fn tcp(sequence: u32, flags: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
    assert_eq!(options.len() % 4, 0);
    let mut segment = vec![0x12, 0x34, 0, 80];
    segment.extend(sequence.to_be_bytes());
    segment.extend([0, 0, 0, 9, ((20 + options.len()) * 4) as u8, flags, 1, 0, 0, 0, 0, 0]);
    segment.extend(options);
    segment.extend(data);
    segment
}

/// A UDP header and data without a checksum.
pub(crate) fn udp(data: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x12, 0x34, 0, 53];
    datagram.extend(((8 + data.len()) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    datagram
}

/// An ICMP message with its checksum.
pub(crate) fn icmp(kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest);
    let sum = !naive_sum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// An ICMPv6 message with its checksum, for the addresses of [`ipv6`].
pub(crate) fn icmp6(kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest);
    let mut all = pseudo(&ipv6(58, &[]), 58, message.len());
    all.extend(&message);
    let sum = !naive_sum(&all);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// Writes the pseudo-header's sum where the checksum goes and owes the rest, as a guest's stack does.
pub(crate) fn owe_checksum(packet: &mut Packet, l3: usize, l4: usize, protocol: u8, offset: usize) {
    let whole = bytes(packet);
    let sum = naive_sum(&pseudo(&whole[l3..], protocol, whole.len() - l4));
    packet.data_mut()[l4 + offset..l4 + offset + 2].copy_from_slice(&sum.to_be_bytes());
    packet.meta_mut().checksum = Checksum::Partial { start: l4 as u16, offset: offset as u16 };
}

/// Makes a packet a super-packet.
pub(crate) fn super_packet(packet: &mut Packet, gso: Gso, l3: usize, l4: usize) {
    owe_checksum(packet, l3, l4, 6, 16);
    packet.meta_mut().gso = Some(gso);
}
