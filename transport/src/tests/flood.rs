//! Handshakes that nobody finishes.

use super::link::{LINK, Link, MTU, Out, Task, address};
use crate::wire::{Flow, Ip, Segment, TCP, write_ip};
use crate::{Access, Arrival, Settings, Sum};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use embedded_io_async::{Read, Write};

/// A TCP segment without options, its checksum not made.
pub(super) fn segment(flow: &Flow, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = alloc::vec![0; 60 + payload.len()];
    let len = 20 + payload.len();
    let header = write_ip(&mut packet, flow.remote.ip(), flow.local.ip(), TCP, len).unwrap();
    packet.truncate(header + len);
    let tcp = &mut packet[header..];
    tcp[..2].copy_from_slice(&flow.remote.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&flow.local.port().to_be_bytes());
    tcp[4..8].copy_from_slice(&seq.to_be_bytes());
    tcp[8..12].copy_from_slice(&ack.to_be_bytes());
    (tcp[12], tcp[13], tcp[14]) = (0x50, flags, 0x40);
    tcp[20..].copy_from_slice(payload);
    packet
}

pub(super) fn stranger(n: u32) -> Flow {
    let address = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n));
    let local = SocketAddr::new(super::link::address(1, false), 443);
    Flow { local, remote: SocketAddr::new(address, 1024 + (n % 60_000) as u16) }
}

#[test]
fn a_hundred_thousand_are_answered_and_not_kept() {
    let mut link = Link::new(Settings::default(), 1);
    let listener = link.ends[1].listen(443, Access::Any).unwrap();
    let mut out = Out { packets: Vec::new(), most: usize::MAX };
    let mut early = None;
    for n in 0..100_000 {
        let packet = segment(&stranger(n), 7, 0, 2, &[]);
        let arrival = Arrival { packet: &packet, interface: LINK, mtu: MTU, sum: Sum::Trusted };
        link.ends[1].input(&arrival, &mut out);
        let answer = out.packets.pop().expect("an answer");
        if n == 100 {
            early = Some(Segment::parse(Ip::parse(&answer).unwrap().upper).unwrap().seq);
        }
    }
    assert_eq!(link.ends[1].load(), (Settings::default().half_open, 0));
    assert_eq!(link.ends[1].counters().syn_flood, 100_000 - Settings::default().half_open as u64);
    // One that was pushed out long ago finishes its handshake by the cookie alone, and data come with it.
    let packet = segment(&stranger(100), 8, early.unwrap().wrapping_add(1), 24, b"GET /");
    let arrival = Arrival { packet: &packet, interface: LINK, mtu: MTU, sum: Sum::Trusted };
    link.ends[1].input(&arrival, &mut out);
    assert_eq!(link.ends[1].counters().by_cookie, 1);
    // And so does whoever comes by the ordinary way.
    let end = link.ends[0].clone();
    let serve = Box::pin(async move {
        let mut stream = listener.accept().await;
        let mut buffer = [0; 10];
        assert_eq!(stream.read(&mut buffer).await, Ok(5));
        assert_eq!(&buffer[..5], b"GET /");
        let mut stream = listener.accept().await;
        stream.write_all(b"welcome").await.unwrap();
        stream.close().await.unwrap();
    }) as Task;
    let ask = Box::pin(async move {
        let to = SocketAddr::new(address(1, false), 443);
        let mut stream = end.connect(to, Some(Duration::from_secs(3))).await.unwrap();
        let mut buffer = [0; 10];
        assert_eq!(stream.read(&mut buffer).await, Ok(7));
    }) as Task;
    link.run(Vec::from([serve, ask]), 10);
}

#[test]
fn a_guessed_cookie_is_refused() {
    let mut link = Link::new(Settings { half_open: 1, ..Settings::default() }, 2);
    let _listener = link.ends[1].listen(443, Access::Any).unwrap();
    let mut out = Out { packets: Vec::new(), most: usize::MAX };
    let mut send = |link: &mut Link, packet: &[u8]| {
        let arrival = Arrival { packet, interface: LINK, mtu: MTU, sum: Sum::Trusted };
        link.ends[1].input(&arrival, &mut out);
        out.packets.pop()
    };
    // Without a flood cookies are not even looked at.
    let refused = send(&mut link, &segment(&stranger(1), 8, 99, 16, &[])).unwrap();
    let reset = Segment::parse(Ip::parse(&refused).unwrap().upper).unwrap();
    assert!(reset.is_rst() && reset.seq == 99);
    for n in 0..3 {
        send(&mut link, &segment(&stranger(n), 7, 0, 2, &[]));
    }
    for guess in 0..1000_u32 {
        send(&mut link, &segment(&stranger(50), 8, guess.wrapping_mul(0x9e37_79b9), 16, &[]));
    }
    assert_eq!((link.ends[1].load(), link.ends[1].counters().accepted), ((1, 0), 0));
    assert_eq!(link.ends[1].counters().resets, 1, "in a flood, guesses are not answered");
}

#[test]
fn an_answer_that_is_lost_is_sent_again_and_given_up() {
    let mut link = Link::new(Settings::default(), 3);
    let _listener = link.ends[1].listen(443, Access::Any).unwrap();
    link.loss = 1000;
    let packet = segment(&stranger(1), 7, 0, 2, &[]);
    let mut out = Out { packets: Vec::new(), most: usize::MAX };
    let arrival = Arrival { packet: &packet, interface: LINK, mtu: MTU, sum: Sum::Trusted };
    link.ends[1].input(&arrival, &mut out);
    let mut answers = 1;
    for _ in 0..60 {
        link.clock.set(link.clock.get() + 1_000_000_000);
        link.ends[1].poll(&mut out);
        answers = answers.max(out.packets.len());
    }
    assert_eq!(answers, 5);
    assert!(out.packets.iter().all(|answer| *answer == out.packets[0]), "always the same");
    assert_eq!(link.ends[1].load(), (0, 0));
}

#[test]
fn a_reset_ends_a_handshake() {
    let link = Link::new(Settings::default(), 4);
    let _listener = link.ends[1].listen(443, Access::Any).unwrap();
    let mut out = Out { packets: Vec::new(), most: usize::MAX };
    for (seq, flags, left) in [(7, 2, 1), (9, 4, 1), (8, 4, 0)] {
        let packet = segment(&stranger(1), seq, 0, flags, &[]);
        let arrival = Arrival { packet: &packet, interface: LINK, mtu: MTU, sum: Sum::Trusted };
        link.ends[1].input(&arrival, &mut out);
        assert_eq!(link.ends[1].load().0, left);
    }
}

#[test]
fn more_connections_than_there_is_room_for_wait_and_take_no_memory() {
    let settings = Settings { connections: 10, ..Settings::default() };
    let link = Link::new(settings, 5);
    let _listener = link.ends[1].listen(443, Access::Any).unwrap();
    let mut out = Out { packets: Vec::new(), most: usize::MAX };
    for n in 0..50 {
        for flags in [2, 16] {
            let ack = match out.packets.pop() {
                Some(answer) if flags == 16 => {
                    Segment::parse(Ip::parse(&answer).unwrap().upper).unwrap().seq + 1
                }
                _ => 0,
            };
            let packet = segment(&stranger(n), if flags == 2 { 7 } else { 8 }, ack, flags, &[]);
            let arrival = Arrival { packet: &packet, interface: LINK, mtu: MTU, sum: Sum::Trusted };
            link.ends[1].input(&arrival, &mut out);
        }
    }
    assert_eq!(link.ends[1].load(), (40, 10));
    assert_eq!(link.ends[1].counters().no_room, 40);
}
