//! Fragments of packets to the router itself: what it puts together, what it will not, and what it says of it.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};

use super::errors::{expect_error_v4, expect_error_v6};
use super::forwarding::everything_works;
use super::linux_hosts::{NETWORK, ping, settle};
use super::{Context, Needs, Test};
use crate::frame::{self, Frame, ICMP, ICMPV6, IPV6_FRAGMENT, Icmp, Ipv4, Ipv6, More};
use crate::host::Host;
use crate::rig::{FrameRig, LinuxPlan, LinuxRig, PATIENCE, SILENCE, identity};
use crate::router::{Config, Image};

pub(super) fn tests() -> Vec<Test> {
    let plain = Needs::default();
    let weir = Needs { weir: true, ..plain };
    vec![
        // The first mostly waits.
        Test::new("tells-of-half-a-datagram-after-a-minute", weir, halves).waits(),
        Test::new("puts-fragments-together-in-any-order", plain, any_order),
        Test::new("drops-fragments-that-overlap", plain, overlaps),
        Test::new("answers-broken-fragments", weir, broken),
        Test::new("holds-little-of-a-flood-of-fragments", weir, flood),
        Test::new("linux-ping-the-router-in-fragments", NETWORK, |cx| linux(cx, LinuxPlan::new())),
        Test::new("linux-ping-the-router-in-fragments-multi-queue", NETWORK, |cx| {
            linux(cx, LinuxPlan { queues: 2, cpus: 2, ..LinuxPlan::new() })
        }),
    ]
}

fn start(cx: &Context) -> Result<FrameRig> {
    FrameRig::start(cx.image, Config::two_ports(), 2, |_| ())
}

/// An echo request of the host's to its gateway, in parts.
struct Echo<'a> {
    host: &'a Host,
    to: IpAddr,
    id: u16,
    body: Vec<u8>,
    message: Vec<u8>,
}

impl Echo<'_> {
    fn new(host: &Host, six: bool, id: u16, len: usize) -> Echo<'_> {
        let own = host.identity();
        let body: Vec<u8> = (0..len).map(|n| (n * 31 + n / 256) as u8).collect();
        let rest = 0x5151_0000 | u32::from(id);
        let (to, message): (IpAddr, _) = match six {
            false => (own.gateway_v4.into(), Icmp::new(8, 0, rest, &body).bytes_v4()),
            true => (own.gateway_v6.into(), Icmp::new(128, 0, rest, &body).bytes_v6(own.v6, own.gateway_v6)),
        };
        Echo { host, to, id, body, message }
    }

    /// Sends the bytes of a range, which may be any.
    fn send(&self, start: usize, end: usize) -> Result<()> {
        let end = end.min(self.message.len());
        self.send_part(start, &self.message[start..end], end < self.message.len())
    }

    fn send_part(&self, offset: usize, bytes: &[u8], more: bool) -> Result<()> {
        let own = self.host.identity();
        match self.to {
            IpAddr::V4(to) => {
                let mut packet = Ipv4::new(own.v4, to, ICMP, bytes.to_vec());
                (packet.id, packet.offset, packet.more_fragments) = (self.id, offset, more);
                self.host.send_v4(&packet)
            }
            IpAddr::V6(to) => {
                let more = if more { More::Yes } else { More::No };
                let bytes = frame::ipv6_fragment(ICMPV6, offset, more, self.id.into(), bytes);
                self.host.send_v6(&Ipv6::new(own.v6, to, IPV6_FRAGMENT, bytes))
            }
        }
    }

    /// The reply, put together from its fragments, must carry the body.
    fn expect_reply(&self) -> Result<()> {
        let mut parts: Vec<(usize, bool, Vec<u8>)> = Vec::new();
        let whole = |parts: &[(usize, bool, Vec<u8>)]| {
            let total: usize = parts.iter().map(|(_, _, bytes)| bytes.len()).sum();
            parts.iter().any(|(at, more, bytes)| !more && at + bytes.len() == total)
        };
        while !whole(&parts) {
            let what = format!("part {} of the echo reply from {}", parts.len() + 1, self.to);
            parts.push(self.host.expect(&what, PATIENCE, |frame| self.part(frame))?);
        }
        parts.sort();
        let joined: Vec<u8> = parts.into_iter().flat_map(|(_, _, bytes)| bytes).collect();
        let kind = if self.to.is_ipv4() { 0 } else { 129 };
        ensure!(joined.first() == Some(&kind), "ICMP type {:?}", joined.first());
        ensure!(joined[4..8] == self.message[4..8], "another identifier or sequence number");
        ensure!(joined[8..] == self.body, "the reply carries something else");
        Ok(())
    }

    /// A part of an echo reply: where it belongs, whether more follow, its bytes.
    fn part(&self, frame: &Frame) -> Option<(usize, bool, Vec<u8>)> {
        if frame.ip_source() != Some(self.to) {
            return None;
        }
        if let Some(packet) = frame.v4().filter(|packet| packet.protocol == ICMP) {
            return Some((packet.offset, packet.more_fragments, packet.payload.clone()));
        }
        let packet = frame.v6()?;
        match packet.next_header {
            ICMPV6 => (packet.payload[0] == 129).then(|| (0, false, packet.payload.clone())),
            IPV6_FRAGMENT => {
                let (header, bytes) = packet.payload.split_at_checked(8)?;
                let field = u16::from_be_bytes([header[2], header[3]]);
                Some((usize::from(field & !7), field & 1 != 0, bytes.to_vec()))
            }
            _ => None,
        }
    }

    fn expect_nothing(&self) -> Result<()> {
        self.host.expect_none("an answer", SILENCE * 2, |frame| self.part(frame).is_some())
    }
}

fn any_order(cx: &Context) -> Result<()> {
    start(cx)?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let host = &rig.hosts[0];
        for six in [false, true] {
            let ranges = |len: usize, each: usize| {
                (0..len + 8).step_by(each).map(|start| (start, start + each)).collect::<Vec<_>>()
            };
            let echo = Echo::new(host, six, 1, 3000);
            for (start, end) in ranges(3000, 800).into_iter().rev() {
                echo.send(start, end)?;
            }
            echo.expect_reply().context("from the last to the first")?;
            // In between, each comes twice, and another datagram's come as well.
            let (echo, other) = (Echo::new(host, six, 2, 9000), Echo::new(host, six, 3, 4000));
            for (start, end) in ranges(9000, 1400) {
                echo.send(start, end)?;
                if end < 9000 {
                    echo.send(start, end)?;
                }
                if start == 0 {
                    other.send(1200, 4008)?;
                }
            }
            echo.expect_reply().context("each twice")?;
            other.send(0, 1200)?;
            other.expect_reply().context("another at the same time")?;
            let echo = Echo::new(host, six, 4, 65_507);
            for (start, end) in ranges(65_507, 1440) {
                echo.send(start, end)?;
            }
            echo.expect_reply().context("as much as there can be")?;
        }
        everything_works(rig)
    })
}

fn overlaps(cx: &Context) -> Result<()> {
    start(cx)?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let host = &rig.hosts[0];
        for six in [false, true] {
            // The second part overlaps the first by eight bytes, or lies within it, or has other bytes in its place.
            let cases = [(10, (792, 1600), false), (11, (400, 800), false), (12, (0, 800), true)];
            for (id, second, spoilt) in cases {
                // Linux takes what lies within another for a repetition, and does not compare.
                if cx.image == Image::Linux && id > 10 {
                    continue;
                }
                let echo = Echo::new(host, six, id, 2400);
                echo.send(0, 800)?;
                match spoilt {
                    false => echo.send(second.0, second.1)?,
                    true => echo.send_part(0, &[0x80; 800], true)?,
                }
                echo.send(1600, 2408)?;
                echo.send(800, 1600)?;
                echo.expect_nothing().with_context(|| format!("{second:?} overlaps (0, 800)"))?;
            }
            let echo = Echo::new(host, six, 20, 2400);
            echo.send(800, 2408)?;
            echo.send(0, 800)?;
            echo.expect_reply().context("what does not overlap")?;
            // RFC 5722 has the rest of an overlapped packet dropped too.
            let echo = Echo::new(host, six, 10, 2400);
            echo.send(1600, 2408)?;
            echo.expect_nothing()?;
        }
        everything_works(rig)
    })
}

fn broken(cx: &Context) -> Result<()> {
    start(cx)?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let host = &rig.hosts[0];
        let own = *host.identity();
        // RFC 8200 §4.5.
        let fragment = |next: u8, offset: usize, more: More, bytes: &[u8]| {
            let bytes = frame::ipv6_fragment(next, offset, more, 5, bytes);
            Ipv6::new(own.v6, own.gateway_v6, IPV6_FRAGMENT, bytes)
        };
        for (packet, code, pointer) in [
            (fragment(ICMPV6, 0, More::Yes, &[128; 13]), 0, 4),
            (fragment(ICMPV6, 65_528, More::No, &[128; 8]), 0, 42),
            (fragment(frame::TCP, 0, More::Yes, &[1; 16]), 3, 0),
            (fragment(60, 0, More::Yes, &[6, 9, 1, 4, 0, 0, 0, 0]), 3, 0),
        ] {
            host.send_v6(&packet)?;
            let icmp = expect_error_v6(host, &packet, 4, code, PATIENCE)?;
            ensure!(icmp.rest == pointer, "the problem is at {pointer}, not at {}", icmp.rest);
        }
        // The ping of death, and parts that are none.
        let echo = Echo::new(host, false, 30, 100);
        echo.send_part(0, &[8; 1400], true)?;
        echo.send_part(65_528, &[0; 1000], false)?;
        echo.send_part(65_528, &[0; 8], true)?;
        echo.send_part(1400, &[0; 13], true)?;
        echo.send_part(1400, &[], false)?;
        echo.expect_nothing()?;
        crate::table::until(&mut rig.router, "8 malformed fragments", |table| {
            table.drops("fragment-malformed") == 8
        })?;
        everything_works(rig)
    })
}

/// A minute after the first of a datagram its sender hears that the rest is missing; not so if the first is missing too.
fn halves(cx: &Context) -> Result<()> {
    start(cx)?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let own = *a.identity();
        let (first, second) = (Echo::new(a, false, 40, 2000), Echo::new(a, true, 40, 2000));
        let began = SystemTime::now();
        first.send(0, 800)?;
        second.send(0, 800)?;
        for six in [false, true] {
            Echo::new(b, six, 41, 2000).send(800, 2008)?;
        }
        let mut v4 = Ipv4::new(own.v4, own.gateway_v4, ICMP, first.message[..800].to_vec());
        (v4.id, v4.more_fragments) = (40, true);
        expect_error_v4(a, &v4, 11, 1, Duration::from_secs(75))?;
        let bytes = frame::ipv6_fragment(ICMPV6, 0, More::Yes, 40, &second.message[..800]);
        let v6 = Ipv6::new(own.v6, own.gateway_v6, IPV6_FRAGMENT, bytes);
        expect_error_v6(a, &v6, 3, 1, PATIENCE)?;
        let is_error = |frame: &Frame| frame.icmp().is_some_and(|icmp| matches!(icmp.kind, 3 | 11));
        let first = a.came(is_error).context("no error is kept")?.duration_since(began)?;
        ensure!(first > Duration::from_secs(57), "an error after {first:?}");
        crate::table::until(&mut rig.router, "4 datagrams were given up", |table| {
            table.drops("fragment-timeout") == 4
        })?;
        let errors = b.take_all(|frame| frame.icmp().filter(|icmp| matches!(icmp.kind, 3 | 11)));
        ensure!(errors.is_empty(), "about a datagram without its first fragment: {errors:?}");
        everything_works(rig)
    })
}

/// First fragments of ever new senders: buffers are held for few, and everybody else is served.
fn flood(cx: &Context) -> Result<()> {
    start(cx)?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let buffers = |rig: &mut FrameRig| -> Result<u64> {
            let table = crate::table::read(&mut rig.router)?;
            table.memory.map(|memory| memory.buffers).with_context(|| format!("no buffers in {}", table.text))
        };
        let before = buffers(rig)?;
        let own = *rig.hosts[0].identity();
        for n in 0..6000u32 {
            let [_, _, high, low] = n.to_be_bytes();
            let a = &rig.hosts[0];
            let mut v4 = Ipv4::new([198, 18, high, low].into(), own.gateway_v4, ICMP, vec![8; 1400]);
            (v4.id, v4.more_fragments) = (n as u16, true);
            a.send_v4(&v4)?;
            let mut from = own.v6.octets();
            from[12..].copy_from_slice(&n.to_be_bytes());
            from[11] = 7;
            let bytes = frame::ipv6_fragment(ICMPV6, 0, More::Yes, n, &[128; 1400]);
            a.send_v6(&Ipv6::new(from.into(), own.gateway_v6, IPV6_FRAGMENT, bytes))?;
            if n % 1000 == 500 {
                everything_works(rig)?;
            }
        }
        let after = buffers(rig)?;
        // 256 KiB in buffers of 2 KiB, and what is on its way.
        ensure!(after <= before + 128 + 32, "{after} buffers are used, {before} before");
        let table = crate::table::read(&mut rig.router)?;
        ensure!(table.drops("fragment-limit") > 5000, "{}", table.text);
        let echo = Echo::new(&rig.hosts[0], false, 50, 20_000);
        for start in (0..20_008).step_by(1400) {
            echo.send(start, start + 1400)?;
        }
        echo.expect_reply()?;
        everything_works(rig)
    })
}

/// Linux asks, Linux puts the answers together.
fn linux(cx: &Context, plan: LinuxPlan) -> Result<()> {
    LinuxRig::start(cx.image, &plan)?.check(&cx.name, |rig| {
        settle(rig)?;
        for port in [0, 1] {
            let own = identity(port)?;
            for size in [1472, 1473, 20_000, 65_507] {
                ping(rig.host(port), &own.gateway_v4.to_string(), size, "dont")?;
            }
            for size in [1452, 1453, 20_000, 60_000, 65_507] {
                ping(rig.host(port), &own.gateway_v6.to_string(), size, "dont")?;
            }
        }
        Ok(())
    })
}
