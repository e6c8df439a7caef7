//! Connections that wait at a listener until there is something to accept them for.

use super::flood::{segment, stranger};
use super::link::{LINK, Link, MTU, Out, Task, address};
use crate::wire::{Ip, Segment};
use crate::{Access, Arrival, Error, MIN_BUFFER, Settings, Sum, TcpListener};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::net::SocketAddr;
use core::time::Duration;
use embedded_io_async::{Read, Write};

const PEERS: usize = 1000;
const IDLE: Duration = Duration::from_secs(60);

fn is_line(bytes: &[u8]) -> bool {
    bytes.contains(&b'\n')
}

fn many() -> Settings {
    Settings { connections: PEERS, memory: PEERS * 3 * MIN_BUFFER, half_open: 16, ..Settings::default() }
}

/// Answers `count` lines, of whichever connection.
async fn answer(listener: Rc<TcpListener>, count: usize) {
    for _ in 0..count {
        let mut stream = listener.accept().await;
        let mut line = [0; 64];
        let mut len = 0;
        while !is_line(&line[..len]) {
            match stream.read(&mut line[len..]).await {
                Ok(more @ 1..) => len += more,
                _ => panic!("accepted for half a line"),
            }
        }
        stream.write_all(&line[..len]).await.unwrap();
        listener.park(stream, IDLE);
    }
}

#[test]
fn a_thousand_are_served_by_one_task_and_their_buffers_are_bounded() {
    let mut link = Link::new(many(), 1);
    let listener = Rc::new(link.ends[1].listen_for(443, Access::Any, is_line).unwrap());
    let answered = Rc::new(Cell::new(0));
    let mut tasks: Vec<Task> = Vec::new();
    tasks.push(Box::pin(answer(listener.clone(), 2 * PEERS)));
    for number in 0..PEERS {
        let (end, answered) = (link.ends[0].clone(), answered.clone());
        tasks.push(Box::pin(async move {
            let to = SocketAddr::new(address(1, number % 2 == 0), 443);
            let mut stream = end.connect(to, Some(Duration::from_secs(20))).await.unwrap();
            for _ in 0..2 {
                // Half of it keeps nobody waiting.
                stream.write_all(b"hal").await.unwrap();
                stream.write_all(b"f\n").await.unwrap();
                let mut back = [0; 5];
                stream.read_exact(&mut back).await.unwrap();
                assert_eq!(&back, b"half\n");
            }
            answered.set(answered.get() + 1);
            core::mem::forget(stream);
        }));
    }
    link.run(tasks, 60);
    assert_eq!(answered.get(), PEERS);
    assert_eq!(link.ends[1].load(), (0, PEERS));
    let bytes = link.ends[1].0.borrow().buffers();
    assert!((PEERS * 2 * MIN_BUFFER..=many().memory).contains(&bytes), "{bytes}");
}

#[test]
fn who_says_nothing_is_let_go() {
    let mut link = Link::new(many(), 2);
    let listener = link.ends[1].listen_for(443, Access::Any, is_line).unwrap();
    let end = link.ends[0].clone();
    let ask = Box::pin(async move {
        let mut stream = end.connect(SocketAddr::new(address(1, false), 443), None).await.unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await, Ok(0), "it is closed in time");
        let mut half = end.connect(SocketAddr::new(address(1, false), 443), None).await.unwrap();
        half.write_all(b"half a line").await.unwrap();
        assert_eq!(half.read(&mut [0; 8]).await, Err(Error::Reset));
    }) as Task;
    link.run(Vec::from([ask]), 100);
    link.idle(1000);
    assert_eq!(link.ends[1].load().1, 0);
    drop(listener);
}

#[test]
fn what_was_said_before_the_end_is_accepted() {
    let mut link = Link::new(many(), 3);
    let listener = link.ends[1].listen_for(443, Access::Any, is_line).unwrap();
    let end = link.ends[0].clone();
    let serve = Box::pin(async move {
        let mut stream = listener.accept().await;
        let mut buffer = [0; 16];
        assert_eq!(stream.read(&mut buffer).await, Ok(4));
        assert_eq!(stream.read(&mut buffer).await, Ok(0));
    }) as Task;
    let ask = Box::pin(async move {
        let mut stream = end.connect(SocketAddr::new(address(1, false), 443), None).await.unwrap();
        stream.write_all(b"half").await.unwrap();
        let _ = stream.close().await;
    }) as Task;
    link.run(Vec::from([serve, ask]), 20);
}

#[test]
fn with_no_room_left_the_longest_silent_one_goes() {
    let mut link = Link::new(many(), 4);
    let listener = link.ends[1].listen_for(443, Access::Any, is_line).unwrap();
    let mut out = Out { packets: Vec::new(), most: usize::MAX };
    let mut resets = Vec::new();
    for n in 0..PEERS as u32 + 5 {
        link.idle(1);
        for flags in [2, 16] {
            let (seq, ack) = match out.packets.pop() {
                Some(answer) if flags == 16 => {
                    (8, Segment::parse(Ip::parse(&answer).unwrap().upper).unwrap().seq.wrapping_add(1))
                }
                _ => (7, 0),
            };
            let packet = segment(&stranger(n), seq, ack, flags, &[]);
            let arrival = Arrival { packet: &packet, interface: LINK, mtu: MTU, sum: Sum::Trusted };
            link.ends[1].input(&arrival, &mut out);
            let is_reset =
                |packet: &Vec<u8>| Segment::parse(Ip::parse(packet).unwrap().upper).unwrap().is_rst();
            resets.extend(out.packets.extract_if(.., |packet| is_reset(packet)).map(|packet| {
                let ip = Ip::parse(&packet).unwrap();
                (n, ip.destination)
            }));
        }
        out.packets.clear();
    }
    assert_eq!(link.ends[1].load().1, PEERS);
    let expected: Vec<_> = (0..5).map(|n| (PEERS as u32 + n, stranger(n).remote.ip())).collect();
    assert_eq!(resets, expected);
    assert_eq!(link.ends[1].counters().no_room, 0);
    drop(listener);
}
