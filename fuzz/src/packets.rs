//! Packet operations in any order on any bytes and metadata: nothing panics, no buffer is lost, and what comes out is
//! as sound as what went in.

use crate::input::Input;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use weir_netif::{Arena, BUFFER, Checksum, Gso, GsoKind, Packet, Pool};
use weir_netstack::checksum::{self, internet, pseudo6};
use weir_netstack::fragment::fragment4;
use weir_netstack::icmp6::Problem;
use weir_netstack::ipv6ext::upper_layer;
use weir_netstack::limit::{Limiter, Rate};
use weir_netstack::segment::{Checksums, largest, segment};
use weir_netstack::{Instant, icmp, icmp6};

const ROUTER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

thread_local! {
    static ARENA: &'static Arena = Arena::new(vec![0; 97 * BUFFER].leak());
}

/// One run.
pub fn run(data: &[u8]) {
    let mut pool = Pool::new(ARENA.with(|arena| *arena));
    let mut input = Input(data);
    let mut limiter = Limiter::new(Rate { per_s: 100, burst: 5 }, Rate { per_s: 10, burst: 2 }, 1);
    let mut now = 0;
    for _ in 0..8 {
        if input.is_empty() {
            break;
        }
        let l3 = if input.one_in(8) { input.word().into() } else { 14 };
        if let Some(packet) = packet(&mut input, &mut pool) {
            operate(&mut input, &mut pool, packet, l3);
        }
        now += u64::from(input.word()) << 10;
        let octets = input.bytes(4);
        let destination =
            Ipv4Addr::from_bits(octets.iter().fold(0, |bits, &octet| bits << 8 | u32::from(octet)));
        let _ = limiter.take(Instant::from_nanos(now), IpAddr::V4(destination));
    }
    let all: Vec<Packet> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(all.len(), pool.arena().slots(), "a buffer was lost");
    assert_eq!(pool.arena().strays(), 0, "a packet was dropped instead of freed");
    all.into_iter().for_each(|packet| pool.free(packet));
}

fn packet(input: &mut Input<'_>, pool: &mut Pool) -> Option<Packet> {
    let mut bytes = if input.one_in(8) {
        input.bytes(200).to_vec()
    } else {
        let protocol = input.pick(&[6, 6, 6, 17, 1, 58, 2]);
        frame(input, protocol)
    };
    input.damage(&mut bytes);
    if !input.one_in(4) {
        repair(&mut bytes);
    }
    let cut = if input.one_in(2) { input.below(300) } else { usize::MAX };
    let (head, tail) = bytes.split_at(cut.min(bytes.len()));
    let mut packet = pool.alloc_from(head)?;
    if !tail.is_empty() {
        let Some(more) = pool.alloc_from(tail) else {
            pool.free(packet);
            return None;
        };
        packet.append(more);
    }
    let l4 = if bytes.get(14).is_some_and(|first| first >> 4 == 6) { 54 } else { 34 };
    let ecn = input.one_in(2);
    let meta = packet.meta_mut();
    meta.checksum = match input.byte() % 6 {
        0 => Checksum::Unknown,
        1 => Checksum::Verified,
        2 => Checksum::Partial { start: input.word(), offset: input.word() },
        3 => Checksum::Partial { start: l4, offset: input.byte().into() },
        _ => Checksum::Partial { start: l4, offset: 16 },
    };
    if input.one_in(2) {
        let kind = if l4 == 54 { GsoKind::Tcp6 } else { GsoKind::Tcp4 };
        let size = if input.one_in(2) { input.word() } else { 500 + u16::from(input.byte()) };
        meta.gso = Some(Gso { kind, size, ecn });
    }
    Some(packet)
}

/// A frame with an IP packet, sound but for its transport checksum.
fn frame(input: &mut Input<'_>, protocol: u8) -> Vec<u8> {
    let mut extra = vec![0; input.below(5) * 8];
    let data: Vec<u8> = (0..input.below(9000)).map(|n| n as u8).collect();
    let mut transport = vec![8, 0, 0, 0, 0, 1, 0, 2];
    if protocol == 6 {
        transport.extend([0, 0, 0, 0, 0x50, 0x99, 1, 0, 0, 0, 0, 0]);
    }
    transport.extend(data);
    let mut frame = vec![2; 12];
    if input.one_in(2) && protocol != 58 {
        extra.fill(1);
        frame.extend([8, 0, 0x45 + (extra.len() / 4) as u8, 0]);
        frame.extend(((20 + extra.len() + transport.len()) as u16).to_be_bytes());
        frame.extend([0, 7, 0, 0, 9, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 1, 1]);
        frame.extend(extra);
    } else {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(((extra.len() + transport.len()) as u16).to_be_bytes());
        let next = if extra.is_empty() { protocol } else { 60 };
        frame.extend([next, 9]);
        frame.extend(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1).octets());
        frame.extend(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1).octets());
        let units = (extra.len() / 8).saturating_sub(1) as u8;
        if let [named, length, ..] = &mut extra[..] {
            (*named, *length) = (protocol, units);
        }
        frame.extend(extra);
    }
    frame.extend(transport);
    frame
}

/// Makes the IPv4 header checksum and that of an ICMP message right, so that they keep nothing from being reached.
fn repair(frame: &mut [u8]) {
    let Some(&first) = frame.get(14) else { return };
    let header = usize::from(first & 15) * 4;
    let Some(ip) = frame.get_mut(14..14 + header).filter(|ip| ip.len() >= 20) else { return };
    ip[10..12].fill(0);
    let sum = internet(ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let icmp = ip[9] == 1;
    if let Some(message) = frame.get_mut(14 + header..).filter(|message| icmp && message.len() >= 4) {
        message[2..4].fill(0);
        let sum = internet(message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
}

fn operate(input: &mut Input<'_>, pool: &mut Pool, mut packet: Packet, l3: usize) {
    for _ in 0..input.byte() % 4 {
        match input.byte() % 8 {
            0 => {
                let len = packet.len();
                let before = bytes(&packet);
                let partial = packet.meta().checksum;
                match checksum::finish(&mut packet) {
                    Ok(()) => assert!(!matches!(packet.meta().checksum, Checksum::Partial { .. })),
                    Err(_) => assert_eq!((bytes(&packet), packet.meta().checksum), (before, partial)),
                }
                assert_eq!(packet.len(), len);
            }
            1 => drop((icmp::parse(&packet, l3), icmp6::parse(&packet, l3))),
            2 => {
                if let Ok(upper) = upper_layer(&packet, l3) {
                    assert!(upper.offset >= l3 + 40 && upper.offset <= packet.data().len());
                }
            }
            3 => {
                let before = bytes(&packet);
                if icmp::echo_reply(&mut packet, l3, ROUTER4).is_err() {
                    assert_eq!(bytes(&packet), before);
                }
            }
            4 => {
                let before = bytes(&packet);
                if icmp6::echo_reply(&mut packet, l3, ROUTER6).is_err() {
                    assert_eq!(bytes(&packet), before);
                }
            }
            5 => error4(input, pool, &packet, l3),
            6 => error6(input, pool, &packet, l3),
            _ => packet.truncate(pool, input.word().into()),
        }
    }
    match input.byte() % 3 {
        0 => cut(input, pool, packet, l3),
        1 => fragment(input, pool, packet, l3),
        _ => pool.free(packet),
    }
}

fn error4(input: &mut Input<'_>, pool: &mut Pool, packet: &Packet, l3: usize) {
    let kinds = [
        icmp::Error::TimeExceeded,
        icmp::Error::FragmentationNeeded { mtu: 1400 },
        icmp::Error::ParameterProblem { pointer: 20 },
    ];
    let cast = input.pick(&[icmp::Cast::Host, icmp::Cast::Host, icmp::Cast::Group]);
    let error = icmp::error(pool, packet, l3, cast, input.pick(&kinds), ROUTER4);
    assert!(error.is_none() || icmp::permitted(packet, l3, cast));
    if let Some(error) = error {
        let all = bytes(&error);
        assert!((28..=576).contains(&all.len()));
        assert_eq!((internet(&all[..20]), internet(&all[20..])), (0, 0));
        assert!(!icmp::permitted(&error, 0, icmp::Cast::Host), "an error about an error");
        pool.free(error);
    }
}

fn error6(input: &mut Input<'_>, pool: &mut Pool, packet: &Packet, l3: usize) {
    let kinds = [
        icmp6::Error::HopLimitExceeded,
        icmp6::Error::PacketTooBig { mtu: 1400 },
        icmp6::Error::ParameterProblem { problem: Problem::Option, pointer: 48 },
    ];
    let kind = input.pick(&kinds);
    let cast = input.pick(&[icmp::Cast::Host, icmp::Cast::Host, icmp::Cast::Group]);
    let error = icmp6::error(pool, packet, l3, cast, kind, ROUTER6);
    assert!(error.is_none() || icmp6::permitted(packet, l3, cast, kind));
    if let Some(error) = error {
        let all = bytes(&error);
        assert!((48..=1280).contains(&all.len()));
        let address = |from: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&all[from..from + 16]).unwrap());
        let mut sum = pseudo6(address(8), address(24), 58, (all.len() - 40) as u32);
        sum.add(&all[40..]);
        assert_eq!(sum.checksum(), 0);
        assert!(!icmp6::permitted(&error, 0, icmp::Cast::Host, kind), "an error about an error");
        pool.free(error);
    }
}

fn cut(input: &mut Input<'_>, pool: &mut Pool, packet: Packet, l3: usize) {
    let expected = largest(&packet, l3);
    let checksums = input.pick(&[Checksums::Finish, Checksums::Leave]);
    let mut frames = Vec::new();
    let result = segment(packet, l3, checksums, pool, |_, frame| frames.push(frame));
    assert_eq!(result.unwrap_or(0), frames.len());
    for frame in frames {
        assert!(frame.len() - l3 <= expected.unwrap());
        assert!(frame.meta().gso.is_none());
        assert_eq!(frame.meta().checksum == Checksum::Verified, checksums == Checksums::Finish);
        pool.free(frame);
    }
}

fn fragment(input: &mut Input<'_>, pool: &mut Pool, packet: Packet, l3: usize) {
    let mtu = input.below(2000);
    let len = packet.len();
    let mut fragments = Vec::new();
    let result = fragment4(packet, l3, mtu, pool, |_, fragment| fragments.push(fragment));
    assert_eq!(result.unwrap_or(0), fragments.len());
    for fragment in fragments {
        assert!(result == Ok(1) && fragment.len() == len || fragment.len() - l3 <= mtu);
        if result != Ok(1) {
            let ip = &fragment.data()[l3..];
            assert_eq!(internet(&ip[..usize::from(ip[0] & 15) * 4]), 0);
        }
        pool.free(fragment);
    }
}

fn bytes(packet: &Packet) -> Vec<u8> {
    packet.segments().flatten().copied().collect()
}
