//! Segments that no honest host sends, in every state of a connection: whatever comes, nothing panics.

use super::flood::segment;
use super::link::{LINK, Link, MTU, Out, address};
use crate::wire::{Flow, Ip, Segment};
use crate::{Access, Arrival, Settings, Sum};
use alloc::vec::Vec;
use core::future::Future;
use core::net::SocketAddr;
use core::task::{Context, Poll, Waker};
use embedded_io_async::{Read, Write};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Act {
    /// A segment with numbers near those expected.
    Near {
        seq: i32,
        ack: i32,
        flags: u8,
        len: usize,
        window: u16,
    },
    /// Any numbers.
    Far {
        seq: u32,
        ack: u32,
        flags: u8,
        len: usize,
    },
    Options(Vec<u8>),
    Read(usize),
    Write(usize),
    Close,
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let flags =
        prop_oneof![Just(16_u8), Just(24), Just(17), Just(2), Just(18), Just(4), Just(20), any::<u8>()];
    let near = prop_oneof![-3..4_i32, -40_000..40_000_i32, Just(65_535), Just(-65_535), any::<i32>()];
    let len = prop_oneof![Just(0_usize), Just(1), 0..2000_usize, 0..50_000_usize];
    prop_oneof![
        6 => (near.clone(), near, flags.clone(), len.clone(), any::<u16>())
            .prop_map(|(seq, ack, flags, len, window)| Act::Near { seq, ack, flags, len, window }),
        1 => (any::<u32>(), any::<u32>(), flags, len).prop_map(|(seq, ack, flags, len)| Act::Far { seq, ack, flags, len }),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Act::Options),
        1 => (0..40_000_usize).prop_map(Act::Read),
        1 => (0..40_000_usize).prop_map(Act::Write),
        1 => Just(Act::Close),
        1 => (0..5000_u64).prop_map(Act::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn nothing_panics(receive in 4096..70_000_usize, scale in prop::option::of(0..16_u8), acts in prop::collection::vec(act(), 1..60)) {
        let link = Link::new(Settings { receive, ..Settings::default() }, 1);
        let end = &link.ends[1];
        let listener = end.listen(443, Access::Any).unwrap();
        let flow = Flow {
            local: SocketAddr::new(address(1, false), 443),
            remote: SocketAddr::new(address(0, false), 5555),
        };
        let mut out = Out { packets: Vec::new(), most: 8 };
        let mut syn = segment(&flow, u32::MAX - 100, 0, 2, &[]);
        if let Some(scale) = scale {
            syn.extend([3, 3, scale, 0]);
            syn[3] += 4;
            syn[32] = 0x60;
        }
        let give = |packet: &[u8], out: &mut Out| {
            let arrival = Arrival { packet, interface: LINK, mtu: MTU, sum: Sum::Trusted };
            end.input(&arrival, out);
            end.poll(out);
            let last = out.packets.iter().filter_map(|packet| {
                let segment = Segment::parse(Ip::parse(packet)?.upper)?;
                Some((segment.seq.wrapping_add(segment.len()), segment.ack))
            }).next_back();
            out.packets.clear();
            last
        };
        let (mut snd, mut rcv) = give(&syn, &mut out).unwrap();
        give(&segment(&flow, rcv, snd, 16, &[]), &mut out);
        let mut cx = Context::from_waker(Waker::noop());
        let mut stream = match core::pin::pin!(listener.accept()).poll(&mut cx) {
            Poll::Ready(stream) => stream,
            Poll::Pending => panic!("no connection"),
        };
        let mut bytes = alloc::vec![0; 50_000];
        for act in acts {
            let packet = match act {
                Act::Near { seq, ack, flags, len, window } => {
                    let mut packet = segment(&flow, rcv.wrapping_add_signed(seq), snd.wrapping_add_signed(ack), flags, &bytes[..len]);
                    packet[34..36].copy_from_slice(&window.to_be_bytes());
                    packet
                }
                Act::Far { seq, ack, flags, len } => segment(&flow, seq, ack, flags, &bytes[..len]),
                Act::Options(options) => {
                    let mut packet = segment(&flow, rcv, snd, 16, &options);
                    packet[32] = (((20 + options.len() / 4 * 4) / 4) << 4) as u8;
                    packet
                }
                Act::Read(len) => {
                    let _ = core::pin::pin!(stream.read(&mut bytes[..len])).poll(&mut cx);
                    continue;
                }
                Act::Write(len) => {
                    let _ = core::pin::pin!(stream.write(&bytes[..len])).poll(&mut cx);
                    continue;
                }
                Act::Close => {
                    let _ = core::pin::pin!(stream.close()).poll(&mut cx);
                    continue;
                }
                Act::Pass(ms) => {
                    link.clock.set(link.clock.get() + ms * 1_000_000);
                    end.poll(&mut out);
                    continue;
                }
            };
            if let Some((next, ack)) = give(&packet, &mut out) {
                (snd, rcv) = (next, ack);
            }
        }
        drop((stream, listener));
        for _ in 0..100 {
            link.clock.set(link.clock.get() + 1_000_000_000);
            end.poll(&mut out);
            out.packets.clear();
        }
        prop_assert_eq!(end.load(), (0, 0), "nothing is left of it");
    }
}
