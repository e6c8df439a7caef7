use crate::tests::{LINK, Out, address, end};
use crate::{Arrival, EchoSocket, Envelope, Heard, Sum, Transport, packet};
use core::task::{Context, Poll, Waker};
use proptest::prelude::*;
use std::vec::Vec;

const ID: u16 = 0x1234;

fn heard(socket: &EchoSocket) -> Option<Heard> {
    match socket.poll_heard(&Context::from_waker(Waker::noop())) {
        Poll::Ready(heard) => Some(heard),
        Poll::Pending => None,
    }
}

/// What comes in from the other end.
fn say(transport: &Transport, six: bool, message: &[u8]) {
    let (source, destination) = (address(1, six), address(0, six));
    let protocol = if six { 58 } else { 1 };
    let packet =
        packet(&Envelope { source, destination, protocol, hops: 61, whole: false, id: 7 }, message).unwrap();
    let arrival = Arrival { packet: &packet, interface: LINK, mtu: 1500, sum: Sum::Verify };
    transport.input(&arrival, &mut Out::default());
}

/// The request that went out.
fn sent(transport: &Transport) -> Vec<u8> {
    let mut out = Out { most: 1, ..Out::default() };
    transport.poll(&mut out);
    out.packets.pop().unwrap()
}

fn request(six: bool, size: usize) -> (Transport, EchoSocket, Vec<u8>) {
    let transport = end();
    let socket = transport.echo(ID).unwrap();
    let (source, destination) = (address(0, six), address(1, six));
    socket.send(Envelope { source, destination, protocol: 0, hops: 3, whole: true, id: 0 }, LINK, 9, size);
    let packet = sent(&transport);
    (transport, socket, packet)
}

#[test]
fn a_reply_is_heard_and_so_is_an_error_about_the_request() {
    for six in [false, true] {
        let (transport, socket, packet) = request(six, 5);
        let (head, hops) = if six { (40, packet[7]) } else { (20, packet[8]) };
        assert_eq!((packet.len(), hops), (head + 8 + 5, 3));
        let mut reply = packet[head..].to_vec();
        (reply[0], reply[2], reply[3]) = (if six { 129 } else { 0 }, 0, 0);
        say(&transport, six, &reply);
        let told = heard(&socket).unwrap();
        assert!(told.is_reply());
        assert_eq!((told.from, told.sequence, told.hops, told.len), (address(1, six), 9, 61, 13));
        let (kind, code) = if six { (2, 0) } else { (3, 4) };
        let error = [&[kind, code, 0, 0, 0, 0, 5, 0][..], &packet].concat();
        say(&transport, six, &error);
        let told = heard(&socket).unwrap();
        assert!(!told.is_reply());
        assert_eq!((told.sequence, told.message), (9, (kind, code, 1280)));
        assert_eq!(heard(&socket), None);
    }
}

#[test]
fn answers_to_others_are_not_heard() {
    let (transport, socket, packet) = request(false, 5);
    say(&transport, false, &[0, 0, 0, 0, 0x12, 0x35, 0, 9]);
    say(&transport, false, &[8, 0, 0, 0, 0x12, 0x34, 0, 9]);
    let mut other = packet;
    other[20 + 5] ^= 1;
    say(&transport, false, &[&[11, 0, 0, 0, 0, 0, 0, 0][..], &other].concat());
    assert_eq!(heard(&socket), None);
}

#[test]
fn there_is_one_socket_a_cpu_and_what_it_does_not_read_is_bounded() {
    let (transport, socket, _) = request(false, 0);
    assert!(transport.echo(5).is_none());
    for sequence in 0..200u8 {
        say(&transport, false, &[0, 0, 0, 0, 0x12, 0x34, 0, sequence]);
    }
    assert_eq!(heard(&socket).map(|told| told.sequence), Some(200 - 64), "the oldest are lost");
    drop(socket);
    assert!(transport.echo(5).is_some());
}

proptest! {
    #[test]
    fn takes_any_message(six: bool, kind in prop::sample::select(std::vec![0u8, 1, 2, 3, 4, 11, 12, 129]), rest: Vec<u8>) {
        let (transport, socket, _) = request(six, 0);
        say(&transport, six, &[&[kind, 0, 0, 0][..], &rest].concat());
        heard(&socket);
    }
}
