//! Between a CPU's packet work and its sockets, which are tasks': packets one way, what sockets send and buffers that are
//! free again the other, in rings of fixed size. Forwarding never waits for a socket.
//!
//! [`SocketPort`] is the packet work's end, in softint context; [`run`] is the task at the other.

use crate::shared::{Running, Shared};
use alloc::sync::Arc;
use alloc::vec;
use arrayvec::ArrayVec;
use core::future::{Future, poll_fn};
use core::net::{IpAddr, SocketAddr};
use core::pin::pin;
use core::task::Poll;
use weir_machine::interrupt::MESSAGE;
use weir_machine::task::{self, Signal};
use weir_machine::{clock, dispatch, mask, random};
use weir_netif::{Arena, BATCH, Checksum, IfIndex, MIN_CAPACITY, Packet, Pool};
use weir_netstack::ethernet::HEADER;
use weir_netstack::snapshot::{Route, Snapshot, State};
use weir_netstack::{Delivery, Local, Upper, flow};
use weir_sync::ring::{self, Consumer, Producer};
use weir_sync::{CpuId, More};
use weir_transport::{Access, Arrival, Path, Ports, Protocol, Router, Settings, Sink, Sum, Transport};

/// Packets that may wait for a CPU's sockets: an acknowledgement and a request of a thousand peers at once.
const ARRIVALS: usize = 2048;
/// Empty buffers that sockets have at hand.
const BLANKS: usize = 64;
/// Share of memory that the buffers of all connections may take.
const SHARE: u64 = 8;
/// Bytes of it for each connection there may be, at least: the smallest buffers, and what belongs to them.
const EACH: u64 = 12 << 10;
/// Most connections of a CPU, and least.
const CONNECTIONS: core::ops::RangeInclusive<u64> = 8..=1280;
/// Room for the longest super-packet's linear copy.
const LONGEST: usize = (64 << 10) + 128;

/// A packet for sockets.
struct Arrived {
    packet: Packet,
    interface: IfIndex,
    mtu: u16,
}

/// What comes back from sockets.
enum Departure {
    /// Sent by a socket: an IP packet, and the link that its destination is on if it has no route.
    Sent(Packet, IfIndex),
    /// Done with.
    Done(Packet),
}

/// The packet work's end. `[C]` Neither allocates nor waits.
pub struct SocketPort {
    arrivals: Producer<Arrived>,
    blanks: Producer<Packet>,
    departures: Consumer<Departure>,
    /// `[A]` Written by the CPU's tasks.
    ports: Arc<Ports>,
    news: Arc<Signal>,
    /// Buffers of packets that sockets have, and how many they may.
    lent: usize,
    limit: usize,
    /// The task is to be woken at the end of the turn.
    owed: bool,
}

/// The task's end.
pub struct Line {
    cpu: CpuId,
    arrivals: Consumer<Arrived>,
    blanks: Consumer<Packet>,
    departures: Producer<Departure>,
    ports: Arc<Ports>,
    news: Arc<Signal>,
}

/// Both ends for `cpu`, of `cpus`. What waits for sockets holds an eighth of all buffers at most, however small the machine.
pub fn line(cpu: CpuId, cpus: usize, arena: &Arena) -> (SocketPort, Line) {
    let limit = (arena.slots() / 8 / cpus.max(1)).min(ARRIVALS);
    let (arrivals, arrived) = ring::new(ARRIVALS.min(limit));
    let (blanks, blank) = ring::new(BLANKS.min(limit));
    // Room for all that the other two can hold: nothing is ever stuck.
    let (departures, departed) = ring::new(arrivals.capacity() + blanks.capacity());
    let (ports, news) = (Arc::<Ports>::default(), Arc::<Signal>::default());
    let port = SocketPort {
        arrivals,
        blanks,
        departures: departed,
        ports: ports.clone(),
        news: news.clone(),
        lent: 0,
        limit,
        owed: false,
    };
    (port, Line { cpu, arrivals: arrived, blanks: blank, departures, ports, news })
}

/// Whether a socket takes such packets.
pub(crate) fn is_open(ports: &Ports, local: &Local<'_>) -> bool {
    let protocol = match local.kind {
        Upper::Tcp | Upper::TcpError => Protocol::Tcp,
        Upper::Udp | Upper::UdpError => Protocol::Udp,
        Upper::Echo | Upper::EchoError => Protocol::Echo,
    };
    let came = if local.interface.management { Access::Management } else { Access::Any };
    ports.open(protocol, local.port, came)
}

impl SocketPort {
    /// Takes a packet for the sockets of this CPU.
    pub fn deliver(&mut self, packet: Packet, local: &Local<'_>) -> Delivery {
        if !is_open(&self.ports, local) {
            return Delivery::NoSocket(packet);
        }
        let buffers = packet.segments().count();
        if self.lent + buffers > self.limit {
            return Delivery::Full(packet);
        }
        let arrived = Arrived { packet, interface: local.interface.index, mtu: local.interface.mtu };
        match self.arrivals.push(arrived) {
            Ok(()) => {
                self.lent += buffers;
                self.owed = true;
                Delivery::Taken
            }
            Err(arrived) => Delivery::Full(arrived.packet),
        }
    }

    /// Takes back what sockets are done with, and up to a batch of what they send.
    pub fn collect(&mut self, pool: &mut Pool, into: &mut ArrayVec<(Packet, IfIndex), BATCH>) -> More {
        while !into.is_full() {
            match self.departures.pop() {
                Some(Departure::Sent(packet, link)) => into.push((packet, link)),
                Some(Departure::Done(packet)) => {
                    self.lent -= packet.segments().count();
                    pool.free(packet);
                }
                None => return More::No,
            }
        }
        More::Yes
    }

    /// Gives sockets buffers for what they send next.
    pub fn refill(&mut self, pool: &mut Pool) {
        let size = self.blanks.capacity();
        let room = self.blanks.room(size);
        for _ in 0..room {
            let Some(packet) = pool.alloc() else { break };
            if let Err(packet) = self.blanks.push(packet) {
                pool.free(packet);
            }
        }
        // They had none, and may wait for some.
        self.owed |= room == size;
    }

    /// Wakes the task if there is news for it: at the end of each turn.
    pub fn wake(&mut self) {
        if core::mem::take(&mut self.owed) {
            self.news.set();
        }
    }
}

/// The task of a CPU's sockets. `services` spawns what uses them.
pub async fn run(mut line: Line, shared: &'static Shared, memory: u64, services: fn(&Transport)) {
    let cpus = mask::masked(|cx| shared.running.read(cx).cpus) as u64;
    let share = memory / SHARE / cpus.max(1);
    let settings = Settings {
        connections: (share / EACH).clamp(*CONNECTIONS.start(), *CONNECTIONS.end()) as usize,
        memory: share as usize,
        key: [random::seed(), random::seed()],
        ..Settings::default()
    };
    shared.ports.of(line.cpu).call_once(|| line.ports.clone());
    let transport = Transport::new(settings, line.ports.clone(), Host { shared, cpu: line.cpu });
    services(&transport);
    shared.listens();
    // Of a chain; its buffers hold it in parts.
    let mut linear = vec![0; LONGEST];
    // The first buffers to send from.
    dispatch::raise(line.cpu, MESSAGE);
    loop {
        line.turn(&transport, &mut linear);
        shared.sockets.of(line.cpu).tell(&transport);
        if line.arrivals.waiting(1) > 0 {
            task::yield_now().await;
        } else {
            line.news(&transport).await;
        }
    }
}

impl Line {
    /// Takes a batch of packets, and sends what is due.
    fn turn(&mut self, transport: &Transport, linear: &mut [u8]) {
        let Self { arrivals, blanks, departures, .. } = self;
        let mut out = Out { blanks, departures, used: 0 };
        for _ in 0..BATCH {
            let Some(Arrived { packet, interface, mtu }) = arrivals.pop() else { break };
            let bytes = if packet.is_chain() {
                let len = packet.copy_out(HEADER, linear);
                linear.get(..len)
            } else {
                packet.data().get(HEADER..)
            };
            let sum = match packet.meta().checksum {
                Checksum::Unknown => Sum::Verify,
                Checksum::Verified | Checksum::Partial { .. } => Sum::Trusted,
            };
            if let Some(packet) = bytes {
                transport.input(&Arrival { packet, interface, mtu, sum }, &mut out);
            }
            out.depart(Departure::Done(packet));
        }
        transport.poll(&mut out);
        if out.used > 0 {
            dispatch::raise(self.cpu, MESSAGE);
        }
    }

    /// Waits for packets, for a task that wants to send, or for a deadline.
    async fn news(&self, transport: &Transport) {
        let mut signal = pin!(self.news.wait());
        let mut deadline = pin!(transport.deadline_ns().map(task::sleep_until));
        poll_fn(|cx| {
            let due = deadline.as_mut().as_pin_mut().is_some_and(|sleep| sleep.poll(cx).is_ready());
            if due || signal.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            transport.wanted(cx)
        })
        .await;
    }
}

/// The way out of a CPU's sockets.
struct Out<'a> {
    blanks: &'a mut Consumer<Packet>,
    departures: &'a mut Producer<Departure>,
    used: usize,
}

impl Out<'_> {
    fn depart(&mut self, departure: Departure) {
        self.used += 1;
        // Never full: there is room for all that the other rings hold. A packet that is dropped goes home the long way.
        let _ = self.departures.push(departure);
    }
}

impl Sink for Out<'_> {
    fn room(&mut self) -> usize {
        // As many buffers as the longest packet takes.
        self.blanks.waiting(8) * MIN_CAPACITY
    }

    fn send(&mut self, packet: &[u8], link: IfIndex) {
        let mut whole: Option<Packet> = None;
        let mut rest = packet;
        while !rest.is_empty() {
            let Some(mut buffer) = self.blanks.pop() else { return };
            let (head, tail) = rest.split_at(rest.len().min(MIN_CAPACITY));
            let _ = buffer.extend(head);
            match &mut whole {
                Some(whole) => whole.append(buffer),
                None => whole = Some(buffer),
            }
            rest = tail;
        }
        if let Some(mut packet) = whole {
            packet.meta_mut().checksum = Checksum::Verified;
            self.depart(Departure::Sent(packet, link));
        }
    }
}

/// What sockets know of the router.
struct Host {
    shared: &'static Shared,
    cpu: CpuId,
}

impl Router for Host {
    fn path(&self, to: IpAddr, link: Option<IfIndex>) -> Option<Path> {
        mask::masked(|cx| path(&self.shared.running.read(cx).snapshot, to, link))
    }

    fn is_home(&self, local: &SocketAddr, remote: &SocketAddr) -> bool {
        let home = |running: &Running| running.cpu_of(flow::between(local, remote));
        mask::masked(|cx| home(self.shared.running.read(cx)) == Some(self.cpu))
    }

    fn now_ns(&self) -> u64 {
        clock::now()
    }
}

/// The interface that leads to `to`, with its address nearest to the next hop.
fn path(snapshot: &Snapshot, to: IpAddr, link: Option<IfIndex>) -> Option<Path> {
    let on_link = match to {
        IpAddr::V4(to) => to.is_broadcast() || to.is_multicast(),
        IpAddr::V6(to) => to.is_unicast_link_local() || to.is_multicast(),
    };
    let (index, next) = match to {
        _ if on_link => (link?, to),
        IpAddr::V4(to) => match snapshot.route4(to, || 0)? {
            Route::Gateway { interface, via } => (*interface, IpAddr::V4(*via)),
            Route::Connected { interface } => (*interface, IpAddr::V4(to)),
            _ => return None,
        },
        IpAddr::V6(to) => match snapshot.route6(to, || 0)? {
            Route::Gateway { interface, via } => (*interface, IpAddr::V6(*via)),
            Route::Connected { interface } => (*interface, IpAddr::V6(to)),
            _ => return None,
        },
    };
    let interface = snapshot.interface(index).filter(|interface| interface.state == State::Up)?;
    let source = match next {
        IpAddr::V4(next) => IpAddr::V4(interface.source4(next)?),
        IpAddr::V6(_) if on_link => IpAddr::V6(*interface.link_local.first()?),
        IpAddr::V6(next) => IpAddr::V6(interface.source6(next)?),
    };
    Some(Path { source, interface: index, mtu: interface.mtu })
}
