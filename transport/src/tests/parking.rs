//! Connections that wait at a listener until there is something to accept them for.

use super::flood::{segment, stranger};
use super::link::{LINK, Link, MTU, Out, Task, address};
use crate::wire::{Flow, Ip, Segment};
use crate::{Access, Arrival, Error, MIN_BUFFER, Settings, Sum, TcpListener, Transport};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::future::Future;
use core::net::SocketAddr;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
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

/// Peers that finish their handshakes and say what they are told to, and nothing else.
struct Crowd {
    link: Link,
    out: Out,
}

impl Crowd {
    fn new(connections: usize) -> Self {
        let memory = connections * 3 * MIN_BUFFER;
        let link = Link::new(Settings { connections, memory, ..many() }, 4);
        Self { link, out: Out { packets: Vec::new(), most: usize::MAX } }
    }

    fn end(&self) -> &Transport {
        &self.link.ends[1]
    }

    fn segment(&mut self, flow: &Flow, (seq, ack): (u32, u32), flags: u8, payload: &[u8]) {
        let packet = segment(flow, seq, ack, flags, payload);
        let arrival = Arrival { packet: &packet, interface: LINK, mtu: MTU, sum: Sum::Trusted };
        self.link.ends[1].input(&arrival, &mut self.out);
    }

    /// A handshake, whose last segment holds `payload`, a millisecond after the last one. The number that is acknowledged.
    fn come(&mut self, flow: &Flow, payload: &[u8]) -> u32 {
        self.link.clock.set(self.link.clock.get() + 1_000_000);
        self.segment(flow, (7, 0), 2, &[]);
        let answer = self.out.packets.pop().unwrap();
        let ack = Segment::parse(Ip::parse(&answer).unwrap().upper).unwrap().seq.wrapping_add(1);
        self.segment(flow, (8, ack), 16, payload);
        ack
    }

    /// Whom the resets since the last look went to.
    fn resets(&mut self) -> Vec<SocketAddr> {
        self.link.ends[1].poll(&mut self.out);
        let reset = |packet: Vec<u8>| {
            let ip = Ip::parse(&packet).unwrap();
            let segment = Segment::parse(ip.upper).unwrap();
            segment.is_rst().then_some(SocketAddr::new(ip.destination, segment.to))
        };
        core::mem::take(&mut self.out.packets).into_iter().filter_map(reset).collect()
    }
}

/// The `n`th connection of host number `host`.
fn of_host(host: u32, n: u16) -> Flow {
    let mut flow = stranger(host);
    flow.remote.set_port(2000 + n);
    flow
}

#[test]
fn with_no_room_left_the_one_that_waits_for_longest_goes() {
    for said in [&[][..], b"G", b"GET / HT"] {
        let mut crowd = Crowd::new(PEERS);
        let _listener = crowd.end().listen_for(443, Access::Any, is_line).unwrap();
        for n in 0..3 * PEERS as u32 {
            crowd.come(&stranger(n), said);
            let expected = n.checked_sub(PEERS as u32).map(|first| stranger(first).remote);
            assert_eq!(crowd.resets(), expected.into_iter().collect::<Vec<_>>(), "as number {n} came");
        }
        let counters = crowd.end().counters();
        assert_eq!((counters.no_room, counters.over_share, counters.accepted), (0, 0, 3 * PEERS as u64));
        assert_eq!(counters.evicted_parked, 2 * PEERS as u64);
        assert_eq!(crowd.end().load().1, PEERS);
        let bytes = crowd.end().0.borrow().buffers();
        assert!(bytes <= PEERS * 3 * MIN_BUFFER, "{bytes}");
    }
}

/// What a task does with its answer; the peers take none of it, nor of its end.
fn serve_once(crowd: &Crowd, listener: &TcpListener) {
    let mut cx = Context::from_waker(Waker::noop());
    crowd.end().poll(&mut Out { packets: Vec::new(), most: usize::MAX });
    let Poll::Ready(mut stream) = pin!(listener.accept()).poll(&mut cx) else { panic!("nothing to accept") };
    assert!(pin!(stream.read(&mut [0; 9])).poll(&mut cx).is_ready());
    assert!(pin!(stream.write(b"answer")).poll(&mut cx).is_ready());
}

#[test]
fn what_peers_do_not_let_end_makes_room_too() {
    const MOST: u32 = 40;
    let mut crowd = Crowd::new(MOST as usize);
    let listener = crowd.end().listen_for(443, Access::Any, is_line).unwrap();
    for n in 0..MOST {
        crowd.come(&stranger(n), b"x\n");
        serve_once(&crowd, &listener);
    }
    assert_eq!((crowd.resets(), crowd.end().load().1), (Vec::new(), MOST as usize));
    // Whoever comes is not let go for the next one: those that end have waited for longer.
    for n in 0..MOST {
        crowd.come(&stranger(MOST + n), &[]);
        assert_eq!(crowd.resets(), [stranger(n).remote]);
    }
    let counters = crowd.end().counters();
    assert_eq!((counters.evicted_closing, counters.evicted_parked, counters.no_room), (MOST.into(), 0, 0));
}

#[test]
fn a_request_that_has_just_come_whole_is_kept() {
    const MOST: u32 = 8;
    let mut crowd = Crowd::new(MOST as usize);
    let listener = crowd.end().listen_for(443, Access::Any, is_line).unwrap();
    let acks: Vec<u32> = (0..MOST).map(|n| crowd.come(&stranger(n), b"ha")).collect();
    assert_eq!(crowd.resets(), []);
    // Before the transport's next turn.
    crowd.segment(&stranger(0), (10, acks[0]), 24, b"lf\n");
    crowd.come(&stranger(MOST), &[]);
    assert_eq!(crowd.resets(), [stranger(1).remote]);
    serve_once(&crowd, &listener);
}

#[test]
fn one_peer_has_a_quarter_while_others_want_it() {
    for six in [false, true] {
        let host = |host: u32, n: u16| match six {
            false => of_host(host, n),
            true => {
                // Another address of the same link each time.
                let at = |host: u16, n| SocketAddr::from(([0x2001, 0xdb8, 1, host, 0, 0, 0, n], 2000));
                Flow { local: SocketAddr::new(address(1, true), 443), remote: at(host as u16, n) }
            }
        };
        let mut crowd = Crowd::new(16);
        let _listener = crowd.end().listen_for(443, Access::Any, is_line).unwrap();
        // Nobody else wants them.
        for n in 0..16 {
            crowd.come(&host(0, n), b"G");
        }
        assert_eq!(crowd.resets(), []);
        // A few that come later are not pushed out by it.
        for n in 0..12 {
            crowd.come(&host(1 + u32::from(n) / 4, n), b"G");
            assert_eq!(crowd.resets(), [host(0, n).remote]);
        }
        for n in 0..20 {
            crowd.come(&host(0, 16 + n), b"G");
            assert_eq!(crowd.resets(), [host(0, 12 + n).remote]);
        }
        // All have their quarters: a fifth has the oldest one's place.
        crowd.come(&host(9, 0), b"G");
        assert_eq!(crowd.resets(), [host(1, 0).remote]);
        let counters = crowd.end().counters();
        assert_eq!((counters.no_room, counters.over_share, counters.evicted_parked), (0, 0, 33));
    }
}

#[test]
fn requests_of_one_peer_give_way_to_others() {
    let mut crowd = Crowd::new(16);
    let listener = crowd.end().listen_for(443, Access::Any, is_line).unwrap();
    for n in 0..16 {
        crowd.come(&of_host(0, n), b"x\n");
    }
    assert_eq!(crowd.resets(), []);
    // It is refused more, others are not, down to its share.
    crowd.come(&of_host(0, 16), b"x\n");
    assert_eq!(crowd.resets(), []);
    let counters = crowd.end().counters();
    assert_eq!((counters.no_room, counters.over_share), (1, 1));
    for n in 0..12 {
        crowd.come(&stranger(1000 + u32::from(n)), b"x\n");
        assert_eq!(crowd.resets(), [of_host(0, 15 - n).remote]);
    }
    crowd.come(&stranger(2000), b"x\n");
    assert_eq!(crowd.resets(), []);
    let counters = crowd.end().counters();
    assert_eq!((counters.evicted_queued, counters.no_room, counters.over_share), (12, 2, 1));
    // Those that are left are all there.
    for _ in 0..16 {
        serve_once(&crowd, &listener);
    }
    let mut cx = Context::from_waker(Waker::noop());
    assert!(pin!(listener.accept()).poll(&mut cx).is_pending());
}

#[test]
fn with_all_that_one_peer_has_in_use_another_gives_way() {
    let mut crowd = Crowd::new(8);
    let listener = crowd.end().listen_for(443, Access::Any, is_line).unwrap();
    let mut served = Vec::new();
    for n in 0..3 {
        crowd.come(&of_host(0, n), b"x\n");
        crowd.end().poll(&mut Out { packets: Vec::new(), most: usize::MAX });
        match pin!(listener.accept()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(stream) => served.push(stream),
            Poll::Pending => panic!("nothing to accept"),
        }
    }
    for n in 1..6 {
        crowd.come(&stranger(n), b"G");
    }
    crowd.come(&stranger(6), b"G");
    assert_eq!(crowd.resets(), [stranger(1).remote]);
}
