//! The console's `ping` and `traceroute`: a task of the boot CPU, where answers to echo requests come. It says lines, which
//! management shows.

use crate::clients::{resolve, servers};
use crate::manage::{Plane, plane};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use core::fmt::Write as _;
use core::future::{Future, poll_fn};
use core::net::IpAddr;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Poll;
use core::time::Duration;
use crossbeam_queue::ArrayQueue;
use weir_machine::task::{self, Signal};
use weir_machine::{error, mask, random};
use weir_manage::probe::Probe;
use weir_netif::IfIndex;
use weir_netstack::Snapshot;
use weir_sync::CpuId;
use weir_transport::{EchoSocket, Envelope, Heard, Transport};

/// How long the last answer is waited for: longer than neighbours are asked for before they are given up.
const PATIENCE_NS: u64 = 4_000_000_000;
/// Requests to each hop.
const EACH: u16 = 3;
/// Requests whose answers are still known as such.
const UNDER_WAY: usize = 64;
/// Lines that may wait to be shown.
const LINES: usize = 32;

/// Between the console and the task.
pub(crate) struct Probing {
    /// `[A]` Pushed by management, popped by the task.
    wish: ArrayQueue<Probe>,
    /// `[A]` Pushed by the task, popped by management; `None`: that was all.
    said: ArrayQueue<Option<String>>,
    /// `[A]` Set by management, seen by the task.
    stop: AtomicBool,
    /// `[A]` Wakes the task.
    news: Signal,
}

impl Probing {
    pub(crate) fn new() -> Self {
        let (wish, said) = (ArrayQueue::new(1), ArrayQueue::new(LINES));
        Self { wish, said, stop: AtomicBool::new(false), news: Signal::new() }
    }

    /// Has the task begin. Management's.
    pub(crate) fn begin(&self, probe: Probe) {
        self.stop.store(false, Ordering::Release);
        self.wish.force_push(probe);
        self.news.set();
    }

    /// Has the task end. Management's.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.news.set();
    }

    /// What the task says: a line, or that it is done. Management's.
    pub(crate) fn said(&self) -> Option<Option<String>> {
        self.said.pop()
    }
}

/// Spawns the task, where answers come.
pub fn services(transport: &Transport) {
    let Some(plane) = plane() else { return };
    if mask::masked(|cx| cx.cpu()) == CpuId::BOOT
        && let Err(full) = task::spawn("ping", run(transport.clone(), plane))
    {
        error!("ping: {full}");
    }
}

async fn run(transport: Transport, plane: &'static Plane) {
    let probing = plane.probing();
    loop {
        let Some(probe) = probing.wish.pop() else {
            probing.news.wait().await;
            continue;
        };
        let operator = Operator { plane, probing };
        if let Err(why) = work(&operator, &transport, &probe).await {
            operator.say(why).await;
        }
        operator.tell(None).await;
    }
}

/// Who wants to know.
struct Operator {
    plane: &'static Plane,
    probing: &'static Probing,
}

impl Operator {
    async fn say(&self, line: String) {
        self.tell(Some(line)).await;
    }

    async fn tell(&self, mut line: Option<String>) {
        while let Err(full) = self.probing.said.push(line) {
            line = full;
            task::sleep(Duration::from_millis(5)).await;
        }
        self.plane.shared().news.set();
    }

    /// `None`: the operator has enough.
    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            let mut news = pin!(self.probing.news.wait());
            let done = poll_fn(|cx| {
                if let Poll::Ready(done) = work.as_mut().poll(cx) {
                    return Poll::Ready(Some(done));
                }
                news.as_mut().poll(cx).map(|()| None)
            })
            .await;
            if done.is_some() || self.probing.stop.load(Ordering::Acquire) {
                return done;
            }
        }
    }

    /// What came until then; `None`: nothing. An error: the operator has enough.
    async fn hear(&self, socket: &EchoSocket, until_ns: u64) -> Result<Option<Heard>, Stopped> {
        let mut sleep = pin!(task::sleep_until(until_ns));
        let heard = poll_fn(move |cx| match socket.poll_heard(cx) {
            Poll::Ready(heard) => Poll::Ready(Some(heard)),
            Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
        });
        self.unless_stopped(heard).await.ok_or(Stopped)
    }
}

struct Stopped;

/// Where requests go, and how.
struct Way {
    socket: EchoSocket,
    envelope: Envelope,
    link: IfIndex,
    size: usize,
}

impl Way {
    fn send(&self, sequence: u16, hops: u8) -> u64 {
        self.socket.send(Envelope { hops, ..self.envelope }, self.link, sequence, self.size)
    }
}

async fn work(operator: &Operator, transport: &Transport, probe: &Probe) -> Result<(), String> {
    let host = &probe.host;
    let to = match host.parse() {
        Ok(address) => address,
        Err(_) => {
            let servers = servers(&operator.plane.view());
            if servers.is_empty() {
                return Err(format!(
                    "{host}: no name server is known; give an address, or name one: set dns servers 192.0.2.53"
                ));
            }
            let found = operator.unless_stopped(resolve(transport, &servers, host)).await;
            let Some(found) = found else { return Ok(()) };
            let found = found.map_err(|why| format!("{host}: {why}"))?;
            let of_kind = found.iter().find(|address| address.is_ipv6() == probe.six);
            *of_kind.ok_or_else(|| {
                let (has, lacks) = if probe.six { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
                format!("{host} has no {lacks} address; its {has} address is {}", found[0])
            })?
        }
    };
    let socket = transport.echo(random::seed() as u16).ok_or("another one is under way")?;
    let shared = operator.plane.shared();
    let (link, source) = mask::masked(|cx| choose(&shared.running.read(cx).snapshot, to, probe))?;
    let path = socket.path(to, link).ok_or_else(|| {
        format!("there is no route to {to}, or no address to send from; `show routes {to}` says more")
    })?;
    let (source, link, mtu) = (source.unwrap_or(path.source), path.interface, path.mtu);
    let envelope = Envelope {
        source,
        destination: to,
        protocol: 0,
        hops: probe.hops,
        whole: probe.whole || probe.each_hop,
        id: 0,
    };
    let longest = usize::from(mtu) - if to.is_ipv4() { 28 } else { 48 };
    if probe.whole && probe.size > longest {
        return Err(format!(
            "{} bytes of data do not go out whole: the interface takes {longest}; leave `df` out, or try `size {longest}`",
            probe.size
        ));
    }
    let way = Way { socket, envelope, link, size: probe.size };
    if probe.each_hop {
        operator.say(format!("to {to} from {source}, at most {} hops", probe.hops)).await;
        trace(operator, &way).await;
    } else {
        operator.say(format!("to {to} from {source}, {} bytes of data", probe.size)).await;
        ping(operator, &way, probe).await;
    }
    Ok(())
}

/// The interface to leave by and the address to come from, where the operator or the destination settles that.
fn choose(
    snapshot: &Snapshot,
    to: IpAddr,
    probe: &Probe,
) -> Result<(Option<IfIndex>, Option<IpAddr>), String> {
    let owner = |address: IpAddr| {
        snapshot.interfaces().find(|own| match address {
            IpAddr::V4(address) => own.owns4(address),
            IpAddr::V6(address) => own.owns6(address),
        })
    };
    if let Some(own) = owner(to) {
        return Err(format!("{to} is an address of this router, on {}", own.name));
    }
    if let Some(source) = probe.source {
        if source.is_ipv4() != to.is_ipv4() {
            return Err(format!("{source} and {to} are of different families"));
        }
        if owner(source).is_none() {
            return Err(format!(
                "{source} is no address of this router; `show interfaces` lists those that are"
            ));
        }
    }
    let on_link = match to {
        IpAddr::V4(to) => to.is_broadcast() || to.is_multicast(),
        IpAddr::V6(to) => to.is_unicast_link_local() || to.is_multicast(),
    };
    let Some(name) = &probe.interface else {
        return match on_link {
            true => Err(format!("{to} can be on any link: say which, as in `{to} interface lan`")),
            false => Ok((None, probe.source)),
        };
    };
    let Some(own) = snapshot.interfaces().find(|own| own.name == *name) else {
        return Err(format!("there is no interface `{name}` in service; `show interfaces` lists them"));
    };
    if on_link || probe.source.is_some() {
        return Ok((Some(own.index), probe.source));
    }
    let source = match to {
        IpAddr::V4(to) => own.source4(to).map(IpAddr::from),
        IpAddr::V6(to) => own.source6(to).map(IpAddr::from),
    };
    match source {
        Some(source) => Ok((Some(own.index), Some(source))),
        None => Err(format!("{name} has no address of that family")),
    }
}

/// A time in milliseconds, to a microsecond.
struct Ms(u64);

impl core::fmt::Display for Ms {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let us = self.0 / 1000;
        write!(f, "{}.{:03}", us / 1000, us % 1000)
    }
}

async fn ping(operator: &Operator, way: &Way, probe: &Probe) {
    let mut under_way: VecDeque<(u16, u64)> = VecDeque::with_capacity(UNDER_WAY);
    let (mut sent, mut received, mut failed) = (0u32, 0u32, 0u32);
    let (mut least, mut most, mut sum) = (u64::MAX, 0, 0);
    'all: for sequence in 1..=probe.count {
        if under_way.len() == UNDER_WAY {
            under_way.pop_front();
        }
        let now = way.send(sequence, probe.hops);
        sent += 1;
        under_way.push_back((sequence, now));
        let last = sequence == probe.count;
        let until = now + if last { PATIENCE_NS } else { probe.interval_ms * 1_000_000 };
        while !(last && under_way.is_empty()) {
            let heard = match operator.hear(&way.socket, until).await {
                Ok(Some(heard)) => heard,
                Ok(None) => break,
                Err(Stopped) => break 'all,
            };
            let Heard { from, sequence, hops, len, .. } = heard;
            let place = under_way.iter().position(|(own, _)| *own == sequence);
            let at = place.and_then(|place| under_way.remove(place)).map(|(_, at)| at);
            let line = match (heard.is_reply(), at) {
                (true, Some(at)) => {
                    let took = heard.at_ns.saturating_sub(at);
                    (received, sum) = (received + 1, sum + took);
                    (least, most) = (least.min(took), most.max(took));
                    format!("{len} bytes from {from}: icmp_seq={sequence} ttl={hops} time={} ms", Ms(took))
                }
                (true, None) => format!("{len} bytes from {from}: icmp_seq={sequence}, once more or late"),
                (false, _) => {
                    failed += 1;
                    format!("from {from}: icmp_seq={sequence} {}", reason(&heard))
                }
            };
            operator.say(line).await;
        }
    }
    let lost = (sent - received) * 100 / sent.max(1);
    let mut line = format!("{sent} sent, {received} received, {lost}% lost");
    if failed > 0 {
        let _ = write!(line, ", {failed} refused");
    }
    if received > 0 {
        let mean = sum / u64::from(received);
        let _ = write!(line, "; min/avg/max {}/{}/{} ms", Ms(least), Ms(mean), Ms(most));
    }
    operator.say(line).await;
}

async fn trace(operator: &Operator, way: &Way) {
    let mut sequence = 0;
    for hops in 1..=way.envelope.hops {
        let mut line = format!("{hops:2}");
        let (mut shown, mut arrived, mut enough) = (None, false, false);
        for _ in 0..EACH {
            sequence += 1;
            let at = way.send(sequence, hops);
            let heard = loop {
                match operator.hear(&way.socket, at + PATIENCE_NS).await {
                    // What is late is of a request before.
                    Ok(Some(heard)) if heard.sequence != sequence => {}
                    Ok(heard) => break heard,
                    Err(Stopped) => {
                        enough = true;
                        break None;
                    }
                }
            };
            if enough {
                break;
            }
            let Some(heard) = heard else {
                line.push_str("  *");
                continue;
            };
            if shown != Some(heard.from) {
                shown = Some(heard.from);
                let _ = write!(line, "  {}", heard.from);
            }
            let _ = write!(line, "  {} ms", Ms(heard.at_ns.saturating_sub(at)));
            let passed_on = heard.message.0 == if heard.from.is_ipv4() { 11 } else { 3 };
            arrived |= !passed_on;
            if !passed_on && !heard.is_reply() {
                let _ = write!(line, " ({})", reason(&heard));
            }
        }
        operator.say(line).await;
        if arrived || enough {
            return;
        }
    }
}

/// What an ICMP error says (RFC 792, RFC 1812 §5.2.7, RFC 4443).
fn reason(heard: &Heard) -> String {
    let (kind, code, word) = heard.message;
    let most = match (heard.from.is_ipv4(), kind, code) {
        (true, 3, 4) => Some(word & 0xffff),
        (false, 2, _) => Some(word),
        _ => None,
    };
    if let Some(most) = most {
        return format!("too big: {most} bytes pass there");
    }
    let words = match (heard.from.is_ipv4(), kind, code) {
        (true, 3, 0) => "network unreachable",
        (true, 3, 1) => "host unreachable",
        (true, 3, 2) => "protocol unreachable",
        (true, 3, 3) | (false, 1, 4) => "port unreachable",
        (true, 3, 9 | 10 | 13) | (false, 1, 1) => "prohibited",
        (false, 1, 0) => "no route",
        (false, 1, 3) => "address unreachable",
        (true, 3, _) | (false, 1, _) => "unreachable",
        (true, 11, 0) => "TTL exceeded",
        (false, 3, 0) => "hop limit exceeded",
        (true, 11, _) | (false, 3, _) => "fragments are missing",
        _ => "parameter problem",
    };
    words.into()
}
