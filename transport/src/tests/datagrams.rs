//! UDP.

use super::link::{LINK, Link, Out, Task, Woken, address};
use crate::{Access, Arrival, BindError, Envelope, Error, Settings, Sum, UdpSocket, packet};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::future::Future;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

#[test]
fn a_question_is_answered_to_where_it_came_from() {
    for six in [false, true] {
        let mut link = Link::new(Settings::default(), 1);
        let mut server = link.ends[1].bind(53, Access::Any).unwrap();
        let mut client = link.ends[0].connect_udp(SocketAddr::new(address(1, six), 53)).unwrap();
        let serve = Box::pin(async move {
            let mut buffer = [0; 100];
            let (len, from) = server.recv_from(&mut buffer).await.unwrap();
            assert_eq!((from.local, from.interface), (address(1, six), LINK));
            server.reply(&buffer[..len], &from).await.unwrap();
        }) as Task;
        let ask = Box::pin(async move {
            client.send_to(b"who", SocketAddr::new(address(1, six), 53)).await.unwrap();
            let mut buffer = [0; 2];
            let (len, from) = client.recv_from(&mut buffer).await.unwrap();
            assert_eq!((len, &buffer), (2, b"wh"), "what there is room for");
            assert_eq!(from.remote, SocketAddr::new(address(1, six), 53));
        }) as Task;
        link.run(Vec::from([serve, ask]), 5);
    }
}

#[test]
fn a_connected_socket_hears_nobody_else() {
    let mut link = Link::new(Settings::default(), 2);
    let mut client = link.ends[0].connect_udp(SocketAddr::new(address(1, false), 53)).unwrap();
    let mut stranger = link.ends[1].bind(54, Access::Any).unwrap();
    let port = client.port();
    client.set_read_timeout(Some(Duration::from_millis(100)));
    link.run(
        Vec::from([Box::pin(async move {
            stranger.send_to(b"psst", SocketAddr::new(address(0, false), port)).await.unwrap();
            assert_eq!(client.recv_from(&mut [0; 10]).await, Err(Error::TimedOut));
        }) as Task]),
        5,
    );
    assert_eq!(link.ends[0].counters().unmatched, 1);
}

#[test]
fn a_client_without_address_broadcasts() {
    let mut link = Link::new(Settings::default(), 3);
    let mut client = link.ends[0].bind(68, Access::Any).unwrap();
    let mut server = link.ends[1].bind(67, Access::Any).unwrap();
    link.run(
        Vec::from([Box::pin(async move {
            let everybody = SocketAddr::new(Ipv4Addr::BROADCAST.into(), 67);
            let nobody = IpAddr::from(Ipv4Addr::UNSPECIFIED);
            client.send_from(b"discover", nobody, everybody, LINK).await.unwrap();
            let mut buffer = [0; 10];
            let (len, from) = server.recv_from(&mut buffer).await.unwrap();
            assert_eq!((&buffer[..len], from.local), (&b"discover"[..], Ipv4Addr::BROADCAST.into()));
            assert_eq!(from.remote, SocketAddr::new(nobody, 68));
        }) as Task]),
        5,
    );
}

#[test]
fn a_full_queue_loses_and_counts() {
    let mut link = Link::new(Settings::default(), 4);
    let mut server = link.ends[1].bind(514, Access::Any).unwrap();
    let mut client = link.ends[0].bind(1000, Access::Any).unwrap();
    link.run(
        Vec::from([Box::pin(async move {
            for _ in 0..100 {
                client.send_to(&[7; 1000], SocketAddr::new(address(1, false), 514)).await.unwrap();
            }
        }) as Task]),
        5,
    );
    link.idle(100);
    let lost = link.ends[1].counters().datagrams_lost;
    assert!(lost >= 80, "{lost}");
    link.run(
        Vec::from([Box::pin(async move {
            let mut buffer = vec![0; UdpSocket::MAX];
            for _ in 0..100 - lost {
                assert_eq!(server.recv_from(&mut buffer).await.unwrap().0, 1000);
            }
        }) as Task]),
        5,
    );
}

#[test]
fn what_cannot_be_is_said() {
    let mut link = Link::new(Settings::default(), 5);
    let end = link.ends[0].clone();
    let mut socket = end.bind(1000, Access::Management).unwrap();
    assert_eq!(end.bind(1000, Access::Any).map(|_| ()), Err(BindError::InUse(1000)));
    link.run(
        Vec::from([Box::pin(async move {
            let to = SocketAddr::new(address(1, true), 1);
            assert_eq!(socket.send_to(&[0; UdpSocket::MAX + 1], to).await, Err(Error::TooLong));
            assert_eq!(socket.send_to(&[0; UdpSocket::MAX], to).await, Ok(()));
        }) as Task]),
        5,
    );
    assert!(end.bind(1000, Access::Any).is_ok(), "dropped with its task");
}

#[test]
fn who_reads_hears_of_an_error() {
    let link = Link::new(Settings::default(), 6);
    let end = &link.ends[0];
    let to = SocketAddr::new(address(1, false), 53);
    let mut client = end.connect_udp(to).unwrap();
    let woken = Woken::new();
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(pin!(client.send_to(b"who", to)).poll(&mut cx).is_ready());
    let mut out = Out { packets: Vec::new(), most: 1 };
    end.poll(&mut out);
    let mut buffer = [0; 8];
    let mut read = pin!(client.recv_from(&mut buffer));
    assert!(read.as_mut().poll(&mut cx).is_pending());
    woken.take();
    // Port unreachable.
    let message = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &out.packets[0]].concat();
    let (source, destination) = (address(1, false), address(0, false));
    let error = Envelope { source, destination, protocol: 1, hops: 64, whole: false, id: 1 };
    let packet = packet(&error, &message).unwrap();
    end.input(&Arrival { packet: &packet, interface: LINK, mtu: 1500, sum: Sum::Verify }, &mut out);
    assert!(woken.take());
    assert_eq!(read.as_mut().poll(&mut cx), Poll::Ready(Err(Error::Refused)));
}
