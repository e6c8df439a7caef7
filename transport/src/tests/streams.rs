//! Connections: data both ways whatever the link does, ends, resets, timeouts, cancellation.

use super::flood::segment;
use super::link::{LINK, Link, MTU, Out, Task, address};
use crate::wire::{Flow, Ip, Segment};
use crate::{Access, Arrival, BindError, Error, Settings, Sum, TcpStream, Transport};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::Future;
use core::net::SocketAddr;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use embedded_io_async::{Read, Write};
use proptest::prelude::*;

fn content(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|n| (n * 31 + n / 251) as u8 ^ seed).collect()
}

/// Gives back what it gets, until the other side closes.
fn echo(end: &Transport, port: u16) -> Task {
    let listener = end.listen(port, Access::Any).unwrap();
    Box::pin(async move {
        let mut stream = listener.accept().await;
        let mut buffer = [0; 4000];
        loop {
            let len = stream.read(&mut buffer).await.unwrap();
            if len == 0 {
                break;
            }
            stream.write_all(&buffer[..len]).await.unwrap();
        }
        stream.close().await.unwrap();
    })
}

fn client(end: &Transport, to: SocketAddr, bytes: Vec<u8>) -> Task {
    let end = end.clone();
    Box::pin(async move {
        let mut stream = end.connect(to, Some(Duration::from_secs(60))).await.unwrap();
        assert_eq!(stream.peer(), to);
        let (mut reader, mut writer) = stream.split();
        let mut got: Vec<u8> = Vec::new();
        let write = async {
            writer.write_all(&bytes).await.unwrap();
        };
        let read = async {
            let mut buffer = [0; 3000];
            while got.len() < bytes.len() {
                let len = reader.read(&mut buffer).await.unwrap();
                assert!(len > 0, "an early end after {} of {}", got.len(), bytes.len());
                got.extend(&buffer[..len]);
            }
        };
        both(write, read).await;
        assert!(got == bytes, "what came back is what was sent");
        stream.close().await.unwrap();
        assert_eq!(stream.read(&mut [0; 10]).await, Ok(0));
    })
}

async fn both(a: impl Future<Output = ()>, b: impl Future<Output = ()>) {
    let (mut a, mut b) = (core::pin::pin!(a), core::pin::pin!(b));
    let (mut a_done, mut b_done) = (false, false);
    core::future::poll_fn(|cx| {
        a_done = a_done || a.as_mut().poll(cx).is_ready();
        b_done = b_done || b.as_mut().poll(cx).is_ready();
        if a_done && b_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn transfer(link: &mut Link, six: bool, len: usize, limit_s: u64) {
    let to = SocketAddr::new(address(1, six), 7);
    let tasks = [echo(&link.ends[1], 7), client(&link.ends[0], to, content(len, 5))];
    link.run(Vec::from(tasks), limit_s);
}

#[test]
fn a_clean_link_carries_a_megabyte_in_no_time() {
    for six in [false, true] {
        let mut link = Link::new(Settings::default(), 1);
        transfer(&mut link, six, 1 << 20, 3);
        link.idle(11_000);
        assert_eq!((link.ends[0].load(), link.ends[1].load()), ((0, 0), (0, 0)), "nothing is left");
    }
}

/// Three have more to say than one turn has room for, and something happens to each all the time.
#[test]
fn who_finds_no_room_is_the_first_of_the_next_turn() {
    let mut link = Link::new(Settings::default(), 3);
    let (own, others) = (Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(Vec::new())));
    let listener = link.ends[1].listen(7, Access::Any).unwrap();
    let accepted = own.clone();
    let mut tasks: Vec<Task> = Vec::from([Box::pin(async move {
        for _ in 0..3 {
            let stream = listener.accept().await;
            accepted.borrow_mut().push(stream);
        }
    }) as Task]);
    for _ in 0..3 {
        let (end, others) = (link.ends[0].clone(), others.clone());
        let connect = async move {
            let stream = end.connect(SocketAddr::new(address(1, false), 7), None).await.unwrap();
            others.borrow_mut().push(stream);
        };
        tasks.push(Box::pin(connect));
    }
    link.run(tasks, 5);
    let mut own = own.borrow_mut();
    let bytes = [0; 4 * MTU as usize];
    let mut order = Vec::new();
    for turn in 0..6 {
        // The first has something new each time, the others were there before.
        for stream in own.iter_mut().take(if turn == 0 { 3 } else { 1 }) {
            let written = core::pin::pin!(stream.write(&bytes)).poll(&mut Context::from_waker(Waker::noop()));
            assert!(turn > 0 || matches!(written, Poll::Ready(Ok(_))));
        }
        link.clock.set(link.clock.get() + 1000);
        let mut out = Out { packets: Vec::new(), most: 1 };
        link.ends[1].poll(&mut out);
        let to = |packet: &Vec<u8>| Segment::parse(Ip::parse(packet).unwrap().upper).unwrap().to;
        order.extend(out.packets.iter().map(to));
    }
    assert_eq!(order.len(), 6, "a packet each turn");
    assert_eq!(order[..3], order[3..], "in turns: {order:?}");
    assert!(order[0] != order[1] && order[1] != order[2] && order[0] != order[2], "{order:?}");
}

#[test]
fn one_percent_and_five_percent_are_survived() {
    for (loss, seed) in [(10, 11), (10, 12), (50, 13), (50, 14)] {
        let mut link = Link::new(Settings::default(), seed);
        (link.loss, link.reordered, link.doubled) = (loss, 100, 10);
        transfer(&mut link, seed % 2 == 0, 256 << 10, 600);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_the_link_does_the_bytes_are_the_same(
        seed: u64, six: bool, len in 0..60_000_usize, loss in 0..80_u64, reordered in 0..300_u64, doubled in 0..50_u64, full in 0..800_u64,
        receive in 4096..70_000_usize, send in 4096..70_000_usize, half_open in 0..2_usize,
    ) {
        let settings = Settings { receive, send, half_open, ..Settings::default() };
        let mut link = Link::new(settings, seed);
        (link.loss, link.reordered, link.doubled, link.full) = (loss, reordered, doubled, full);
        transfer(&mut link, six, len, 900);
    }
}

#[test]
fn what_is_lost_while_there_is_no_room_is_sent_again_soon() {
    for seed in 20..40 {
        let mut link = Link::new(Settings::default(), seed);
        (link.loss, link.full) = (20, 700);
        transfer(&mut link, seed % 2 == 0, 256 << 10, 15);
    }
}

#[test]
fn a_narrow_path_is_learnt_from_icmp() {
    for six in [false, true] {
        let mut link = Link::new(Settings::default(), 3);
        link.narrow = Some(1300);
        transfer(&mut link, six, 100_000, 60);
    }
}

#[test]
fn a_port_without_listener_refuses() {
    let mut link = Link::new(Settings::default(), 4);
    let end = link.ends[0].clone();
    let to = SocketAddr::new(address(1, false), 9);
    link.run(
        Vec::from([Box::pin(async move {
            assert_eq!(end.connect(to, None).await.map(|_| ()), Err(Error::Refused));
        }) as Task]),
        5,
    );
    assert_eq!(link.ends[1].counters().resets, 1);
    link.idle(100);
    assert_eq!(link.ends[0].load(), (0, 0));
}

#[test]
fn silence_is_a_timeout() {
    let mut link = Link::new(Settings::default(), 5);
    link.loss = 1000;
    let end = link.ends[0].clone();
    let to = SocketAddr::new(address(1, true), 9);
    let clock = link.clock.clone();
    link.run(
        Vec::from([Box::pin(async move {
            let began = clock.get();
            let outcome = end.connect(to, Some(Duration::from_secs(3))).await;
            assert_eq!(outcome.map(|_| ()), Err(Error::TimedOut));
            assert!((3_000_000_000..3_100_000_000).contains(&(clock.get() - began)));
        }) as Task]),
        5,
    );
    link.idle(100);
    assert_eq!(link.ends[0].load(), (0, 0));
}

#[test]
fn a_peer_that_goes_silent_is_given_up() {
    let mut link = Link::new(Settings::default(), 6);
    let stream = connected(&mut link);
    link.loss = 1000;
    let mut stream = stream;
    link.run(
        Vec::from([Box::pin(async move {
            stream.write_all(b"anybody?").await.unwrap();
            assert_eq!(stream.read(&mut [0; 8]).await, Err(Error::TimedOut));
            assert_eq!(stream.write(b"hello?").await, Err(Error::TimedOut));
        }) as Task]),
        200,
    );
}

#[test]
fn a_peer_that_has_nothing_to_say_is_asked_and_kept() {
    let mut link = Link::new(Settings::default(), 7);
    let (mut first, mut second) = pair(&mut link);
    link.idle(20_000);
    let before = link.carried;
    link.idle(200_000);
    let carried = link.carried - before;
    assert!((28..=36).contains(&carried), "eight questions from each side, and the answers: {carried}");
    let task = Box::pin(async move {
        first.write_all(b"still there?").await.unwrap();
        let mut heard = [0; 12];
        second.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"still there?");
    });
    link.run(Vec::from([task as Task]), 5);
}

#[test]
fn whoever_asks_more_often_is_asked_all_the_same() {
    let mut link = Link::new(Settings::default(), 8);
    let (first, mut second) = pair(&mut link);
    let (local, remote) = (second.local(), second.peer());
    // To the listening side, from the other one: a question has the number before what is waited for.
    let flow = Flow { local, remote };
    let (nxt, rcv) = second_numbers(&link, &second);
    let mut out = Out { packets: Vec::new(), most: 16 };
    for _ in 0..20 {
        link.idle(10_000);
        for seq in [rcv.wrapping_sub(1), rcv.wrapping_add(1 << 20)] {
            let packet = segment(&flow, seq, nxt, 16, &[]);
            let arrival = Arrival { packet: &packet, interface: LINK, mtu: MTU, sum: Sum::Trusted };
            link.ends[1].input(&arrival, &mut out);
        }
        out.packets.clear();
    }
    let mut first = first;
    let task = Box::pin(async move {
        second.write_all(b"still there").await.unwrap();
        let mut heard = [0; 11];
        first.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"still there");
    });
    link.run(Vec::from([task as Task]), 5);
}

#[test]
fn a_peer_that_was_started_again_connects_by_the_same_port_at_once() {
    for six in [false, true] {
        let mut link = Link::new(Settings::default(), 15);
        let listener = link.ends[1].listen(80, Access::Any).unwrap();
        let accepted = Rc::new(RefCell::new(Vec::new()));
        let to = SocketAddr::new(address(1, six), 80);
        for _ in 0..2 {
            let (end, accepted, listener) = (link.ends[0].clone(), accepted.clone(), &listener);
            let mut accept = core::pin::pin!(listener.accept());
            let connect = Box::pin(async move {
                let mut stream = end.connect(to, None).await.unwrap();
                stream.write_all(b"hello").await.unwrap();
                core::mem::forget(stream);
            }) as Task;
            link.run(Vec::from([connect]), 3);
            link.idle(100);
            let Poll::Ready(stream) = accept.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
                panic!("no connection");
            };
            accepted.borrow_mut().push(stream);
            link.restart(0);
        }
        let mut accepted = accepted.take();
        assert_eq!(accepted[0].peer(), accepted[1].peer(), "the same port");
        let read = Box::pin(async move {
            let mut heard = [0; 8];
            for stream in &mut accepted {
                assert_eq!(stream.read(&mut heard).await, Ok(5));
            }
            assert_eq!(accepted[0].read(&mut heard).await, Err(Error::Reset));
            core::mem::forget(accepted);
        }) as Task;
        link.run(Vec::from([read]), 1);
    }
}

#[test]
fn a_peer_that_refuses_the_last_fin_has_taken_all_that_it_acknowledged() {
    for (unsent, outcome) in [(false, Ok(())), (true, Err(Error::Reset))] {
        let mut link = Link::new(Settings::default(), 17);
        let (mut first, mut second) = pair(&mut link);
        let ends = Box::pin(async move {
            first.close().await.unwrap();
            core::mem::forget(first);
        }) as Task;
        link.run(Vec::from([ends]), 2);
        link.restart(0);
        let closes = Box::pin(async move {
            assert_eq!(second.read(&mut [0; 8]).await, Ok(0));
            if unsent {
                second.write_all(b"for nobody").await.unwrap();
            }
            assert_eq!(second.close().await, outcome);
        }) as Task;
        link.run(Vec::from([closes]), 2);
    }
}

#[test]
fn a_syn_of_a_connection_tells_its_state_twice_a_second_and_changes_nothing() {
    let mut link = Link::new(Settings::default(), 16);
    let (mut first, mut second) = pair(&mut link);
    let flow = Flow { local: second.local(), remote: second.peer() };
    let (nxt, rcv) = second_numbers(&link, &second);
    let mut out = Out { packets: Vec::new(), most: usize::MAX };
    for n in 0..2000 {
        link.idle(1);
        // SYN, SYN and ACK, with data too, inside the window and outside.
        let seq = rcv.wrapping_add(n % 7 * 10_000);
        let (flags, payload) = [(2, &[][..]), (18, b""), (2, b"data"), (18, b"data")][n as usize % 4];
        let packet = segment(&flow, seq, nxt, flags, payload);
        let arrival = Arrival { packet: &packet, interface: LINK, mtu: MTU, sum: Sum::Trusted };
        link.ends[1].input(&arrival, &mut out);
    }
    let answers: Vec<_> = out.packets.iter().map(|packet| Ip::parse(packet).unwrap()).collect();
    assert_eq!(answers.len(), 4);
    for answer in answers {
        let answer = Segment::parse(answer.upper).unwrap();
        assert!(answer.is_ack() && !answer.is_syn() && !answer.is_rst());
        assert_eq!((answer.seq, answer.ack, answer.payload), (nxt, rcv, &[][..]));
    }
    let task = Box::pin(async move {
        first.write_all(b"still there").await.unwrap();
        let mut heard = [0; 11];
        second.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"still there");
    });
    link.run(Vec::from([task as Task]), 5);
}

#[test]
fn a_reset_ends_a_connection_by_the_number_that_is_waited_for_alone() {
    // What the peer says before: nothing, data that is not read yet, its end.
    for (data, closes) in [(&b""[..], false), (b"unread", false), (b"", true), (b"unread", true)] {
        let mut link = Link::new(Settings::default(), 21);
        let (mut first, mut second) = pair(&mut link);
        let flow = Flow { local: second.local(), remote: second.peer() };
        let (nxt, rcv) = second_numbers(&link, &second);
        let next = rcv.wrapping_add(data.len() as u32 + u32::from(closes));
        let says = Box::pin(async move {
            first.write_all(data).await.unwrap();
            if closes {
                first.close().await.unwrap();
            }
            core::mem::forget(first);
        });
        link.run(Vec::from([says as Task]), 2);
        link.idle(10);
        let mut out = Out { packets: Vec::new(), most: usize::MAX };
        let mut reset = |link: &mut Link, seq: u32| {
            let packet = segment(&flow, seq, nxt, 4, b"");
            let arrival = Arrival { packet: &packet, interface: LINK, mtu: MTU, sum: Sum::Trusted };
            link.ends[1].input(&arrival, &mut out);
            link.idle(1);
            out.packets.drain(..).collect::<Vec<_>>()
        };
        for n in 0..2000_u32 {
            // In the window, behind it, before it.
            let seq = next.wrapping_add([1 + n, 70_000 + n, 0_u32.wrapping_sub(1 + n)][n as usize % 3]);
            let answers = reset(&mut link, seq);
            assert_eq!(answers.len(), usize::from(n % 501 == 0), "number {n}");
            for answer in answers {
                let answer = Segment::parse(Ip::parse(&answer).unwrap().upper).unwrap();
                assert!(answer.is_ack() && !answer.is_rst());
            }
        }
        assert_eq!(reset(&mut link, next), Vec::<Vec<u8>>::new());
        let ends = Box::pin(async move {
            assert_eq!(second.write_all(b"anybody?").await, Err(Error::Reset));
        });
        link.run(Vec::from([ends as Task]), 2);
    }
}

#[test]
fn the_answer_to_a_reset_acknowledges_all_that_came() {
    let mut link = Link::new(Settings::default(), 22);
    let (first, mut second) = pair(&mut link);
    core::mem::forget(first);
    let flow = Flow { local: second.local(), remote: second.peer() };
    let (nxt, rcv) = second_numbers(&link, &second);
    let mut out = Out { packets: Vec::new(), most: usize::MAX };
    let mut say = |link: &Link, seq: u32, flags: u8, payload: &[u8]| {
        let packet = segment(&flow, seq, nxt, flags, payload);
        let arrival = Arrival { packet: &packet, interface: LINK, mtu: MTU, sum: Sum::Trusted };
        link.ends[1].input(&arrival, &mut out);
        out.packets.pop()
    };
    assert_eq!(say(&link, rcv, 16, b"unread"), None, "its acknowledgement is held back");
    // Something between was lost.
    let answer = say(&link, rcv.wrapping_add(100), 4, b"").unwrap();
    let answer = Segment::parse(Ip::parse(&answer).unwrap().upper).unwrap();
    assert_eq!((answer.seq, answer.ack), (nxt, rcv.wrapping_add(6)));
    assert_eq!(say(&link, answer.ack, 4, b""), None);
    assert_eq!(link.ends[1].counters().doubted, 1);
    let ends = Box::pin(async move {
        assert_eq!(second.write_all(b"anybody?").await, Err(Error::Reset));
    });
    link.run(Vec::from([ends as Task]), 2);
}

#[test]
fn who_is_called_and_says_something_else_changes_no_number() {
    let link = Link::new(Settings::default(), 23);
    let end = link.ends[0].clone();
    let mut out = Out { packets: Vec::new(), most: usize::MAX };
    {
        let mut connect = core::pin::pin!(end.connect(SocketAddr::new(address(1, false), 80), None));
        assert!(connect.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        end.poll(&mut out);
        let packet = out.packets.pop().unwrap();
        let ip = Ip::parse(&packet).unwrap();
        let syn = Segment::parse(ip.upper).unwrap();
        let flow = Flow {
            local: SocketAddr::new(ip.source, syn.from),
            remote: SocketAddr::new(ip.destination, syn.to),
        };
        // Not of this handshake: an acknowledgement, a reset, data.
        for (flags, payload) in [(16, &b""[..]), (20, b""), (24, b"data")] {
            let packet = segment(&flow, 5000, syn.seq.wrapping_add(77), flags, payload);
            let arrival = Arrival { packet: &packet, interface: LINK, mtu: MTU, sum: Sum::Trusted };
            end.input(&arrival, &mut out);
        }
    }
    out.packets.clear();
    end.poll(&mut out);
    assert_eq!(end.load().1, 0, "given up");
}

/// The next number of end 1's, and the one it waits for.
fn second_numbers(link: &Link, second: &TcpStream) -> (u32, u32) {
    link.ends[1].0.borrow_mut().connection(second.id()).unwrap().numbers()
}

#[test]
fn the_last_acknowledgement_is_of_all_that_came() {
    let mut link = Link::new(Settings::default(), 9);
    let (mut first, mut second) = pair(&mut link);
    let reads = Box::pin(async move {
        first.close().await.unwrap();
        let mut heard = [0; 8];
        assert_eq!(first.read(&mut heard).await, Ok(3));
        assert_eq!(first.read(&mut heard).await, Ok(0));
    }) as Task;
    let writes = Box::pin(async move {
        assert_eq!(second.read(&mut [0; 8]).await, Ok(0));
        // With the end in one segment.
        second.write_all(b"bye").await.unwrap();
        second.close().await.unwrap();
    }) as Task;
    link.run(Vec::from([reads, writes]), 2);
    let before = link.carried;
    link.idle(12_000);
    assert_eq!(link.carried, before, "nothing is sent again");
    assert_eq!((link.ends[0].load(), link.ends[1].load()), ((0, 0), (0, 0)));
}

/// A connection from end 0 to end 1, whose task keeps the other side.
fn connected(link: &mut Link) -> TcpStream {
    let (first, second) = pair(link);
    core::mem::forget(second);
    first
}

fn pair(link: &mut Link) -> (TcpStream, TcpStream) {
    let listener = link.ends[1].listen(80, Access::Any).unwrap();
    let end = link.ends[0].clone();
    let pair = Rc::new(RefCell::new((None, None)));
    let (one, other) = (pair.clone(), pair.clone());
    let connect = Box::pin(async move {
        let stream = end.connect(SocketAddr::new(address(1, false), 80), None).await;
        one.borrow_mut().0 = Some(stream.unwrap());
    }) as Task;
    let accept = Box::pin(async move {
        let stream = listener.accept().await;
        other.borrow_mut().1 = Some(stream);
    }) as Task;
    link.run(Vec::from([connect, accept]), 10);
    let (first, second) = pair.take();
    (first.unwrap(), second.unwrap())
}

#[test]
fn reads_and_writes_end_in_time() {
    let mut link = Link::new(Settings::default(), 7);
    let (mut stream, other) = pair(&mut link);
    let clock = link.clock.clone();
    link.run(
        Vec::from([Box::pin(async move {
            stream.set_read_timeout(Some(Duration::from_millis(250)));
            stream.set_write_timeout(Some(Duration::from_millis(500)));
            let began = clock.get();
            assert_eq!(stream.read(&mut [0; 8]).await, Err(Error::TimedOut));
            assert!((250..260).contains(&((clock.get() - began) / 1_000_000)));
            // Nobody reads on the other side: both buffers fill.
            let big = content(200_000, 0);
            let began = clock.get();
            assert_eq!(stream.write_all(&big).await, Err(Error::TimedOut));
            assert!((500..1500).contains(&((clock.get() - began) / 1_000_000)));
            assert_eq!(other.peer(), stream.local());
            assert_eq!(other.interface(), super::link::LINK);
        }) as Task]),
        10,
    );
}

#[test]
fn a_read_that_was_dropped_loses_nothing() {
    let mut link = Link::new(Settings::default(), 8);
    let (mut stream, mut other) = pair(&mut link);
    let mut buffer = [0; 8];
    let mut cx = Context::from_waker(Waker::noop());
    {
        let mut read = core::pin::pin!(stream.read(&mut buffer));
        assert!(read.as_mut().poll(&mut cx).is_pending());
    }
    link.run(
        Vec::from([Box::pin(async move {
            other.write_all(b"late").await.unwrap();
            assert_eq!(stream.read(&mut buffer).await, Ok(4));
            assert_eq!(&buffer[..4], b"late");
        }) as Task]),
        10,
    );
}

#[test]
fn a_connect_that_was_dropped_leaves_nothing() {
    let mut link = Link::new(Settings::default(), 9);
    let end = link.ends[0].clone();
    let mut cx = Context::from_waker(Waker::noop());
    {
        let mut connect = core::pin::pin!(end.connect(SocketAddr::new(address(1, false), 80), None));
        assert!(connect.as_mut().poll(&mut cx).is_pending());
    }
    link.idle(100);
    assert_eq!(link.ends[0].load(), (0, 0));
}

#[test]
fn an_abort_is_a_reset() {
    let mut link = Link::new(Settings::default(), 10);
    let (stream, mut other) = pair(&mut link);
    stream.abort();
    link.run(
        Vec::from([Box::pin(async move {
            assert_eq!(other.read(&mut [0; 8]).await, Err(Error::Reset));
            assert_eq!(other.write(b"x").await, Err(Error::Reset));
        }) as Task]),
        10,
    );
    link.idle(100);
    assert_eq!((link.ends[0].load(), link.ends[1].load()), ((0, 0), (0, 0)));
}

#[test]
fn a_stream_dropped_with_unread_bytes_resets_and_one_without_closes() {
    for unread in [true, false] {
        let mut link = Link::new(Settings::default(), 11);
        let (stream, mut other) = pair(&mut link);
        if unread {
            core::pin::pin!(other.write_all(b"for nobody"))
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_ready();
            link.idle(50);
        }
        let read = Box::pin(async move {
            let outcome = other.read(&mut [0; 8]).await;
            assert_eq!(outcome, if unread { Err(Error::Reset) } else { Ok(0) });
        }) as Task;
        drop(stream);
        link.run(Vec::from([read]), 10);
        link.idle(100);
        assert_eq!((link.ends[0].load(), link.ends[1].load()), ((0, 0), (0, 0)));
    }
}

#[test]
fn what_was_written_before_a_drop_arrives() {
    let mut link = Link::new(Settings::default(), 12);
    (link.loss, link.reordered) = (50, 100);
    let (mut stream, mut other) = pair(&mut link);
    let bytes = content(20_000, 1);
    let sent = bytes.clone();
    link.run(
        Vec::from([Box::pin(async move {
            stream.write_all(&sent).await.unwrap();
            drop(stream);
            let mut got: Vec<u8> = Vec::new();
            let mut buffer = [0; 999];
            loop {
                match other.read(&mut buffer).await.unwrap() {
                    0 => break,
                    len => got.extend(&buffer[..len]),
                }
            }
            assert!(got == bytes);
        }) as Task]),
        100,
    );
}

#[test]
fn a_port_has_one_listener() {
    let link = Link::new(Settings::default(), 13);
    let end = &link.ends[0];
    let listener = end.listen(80, Access::Management).unwrap();
    assert_eq!(end.listen(80, Access::Any).map(|_| ()), Err(BindError::InUse(80)));
    assert_eq!(end.listen(0, Access::Any).map(|_| ()), Err(BindError::Zero));
    drop(listener);
    assert!(end.listen(80, Access::Any).is_ok());
}

#[test]
fn many_connections_at_once() {
    let settings = Settings { receive: 4096, send: 4096, ..Settings::default() };
    let mut link = Link::new(settings, 14);
    (link.loss, link.reordered) = (10, 50);
    let listener = Rc::new(link.ends[1].listen(7, Access::Any).unwrap());
    let mut tasks = Vec::new();
    for n in 0..200 {
        let listener = listener.clone();
        tasks.push(Box::pin(async move {
            let mut stream = listener.accept().await;
            let mut buffer = [0; 500];
            loop {
                match stream.read(&mut buffer).await.unwrap() {
                    0 => break,
                    len => stream.write_all(&buffer[..len]).await.unwrap(),
                }
            }
        }) as Task);
        tasks.push(client(&link.ends[0], SocketAddr::new(address(1, n % 2 == 0), 7), content(2000, n as u8)));
    }
    link.run(tasks, 200);
    assert_eq!(link.ends[1].counters().accepted, 200);
}
