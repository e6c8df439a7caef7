//! One CPU's sockets: finds whose a packet is, answers handshakes, and gives every connection its turn.

mod parking;
mod slots;

use crate::connection::{Connection, MIN_BUFFER, Scratch, sums};
use crate::cookie::{Key, Offer};
use crate::echo::Echo;
use crate::error::Error;
use crate::half_open::{HalfOpen, Table};
use crate::icmp::{Notice, Report};
use crate::listener::{self, Listening};
use crate::ports::{Access, Ports, Protocol};
use crate::time_wait::{self, Ended, Verdict};
use crate::udp::Socket as Udp;
use crate::wire::{self, Flow, ICMP, ICMPV6, Ip, Segment, TCP, UDP, header_len, scoped, write_ip};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::net::{IpAddr, SocketAddr};
use core::task::{Context, Poll, Waker};
pub(crate) use slots::Id;
use slots::Slots;
use smoltcp::socket::tcp::State;
use smoltcp::wire::{IpAddress, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};
use weir_netif::IfIndex;

/// A connection whose task has left it may take this long to end.
const ORPHAN_NS: u64 = 30_000_000_000;
/// Whole packets that wait for the way out.
const PACKETS: usize = 16;
/// With the way out full, it is tried again after this long.
const BLOCKED_NS: u64 = 1_000_000;
/// Resets a second to segments of no connection.
const RESETS_EACH_S: u32 = 100;
/// Ports that connections of this router's own come from (RFC 6335 §6).
const EPHEMERAL: core::ops::RangeInclusive<u16> = 49152..=65535;

/// Sizes of a [`Transport`].
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Handshakes that are remembered; more live in cookies.
    pub half_open: usize,
    /// Connections, those that listeners have not taken yet included.
    pub connections: usize,
    /// Bytes of a connection's receive buffer, [`MIN_BUFFER`](crate::MIN_BUFFER) to [`MAX_RECEIVE`](crate::MAX_RECEIVE).
    pub receive: usize,
    /// Bytes of its send buffer.
    pub send: usize,
    /// Bytes of all buffers together. The more there are, the smaller further ones are made, such that there is room for
    /// as many connections as there may be; at the least for two of [`MIN_BUFFER`](crate::MIN_BUFFER) each.
    pub memory: usize,
    /// Secret and random.
    pub key: [u64; 2],
}

impl Default for Settings {
    /// 128 handshakes, 256 connections of 32 KiB each way, and a key that is no secret.
    fn default() -> Self {
        let (connections, each) = (256, 32 << 10);
        let memory = connections * 2 * each;
        Self { half_open: 128, connections, receive: each, send: each, memory, key: [0x5eed, 0x5eed] }
    }
}

/// Whether a packet's TCP or UDP checksum is known to be right: a device has looked, or it never crossed a wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sum {
    /// To be looked at.
    Verify,
    /// Known to be right, or owed.
    Trusted,
}

/// A packet for the router.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// From its IP header on; no fragment. A TCP super-packet is one packet.
    pub packet: &'a [u8],
    /// Where it came in by.
    pub interface: IfIndex,
    /// That interface's MTU.
    pub mtu: u16,
    /// What is known of the checksum.
    pub sum: Sum,
}

/// The way out.
pub trait Sink {
    /// Bytes that the next packet may have; 0 if there is no room now.
    fn room(&mut self) -> usize;

    /// Sends an IP packet. `link` is where a link-local or group destination is; others are routed.
    fn send(&mut self, packet: &[u8], link: IfIndex);
}

/// How the router reaches a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Path {
    /// The address to send from.
    pub source: IpAddr,
    /// The interface it leaves by, and its MTU.
    pub interface: IfIndex,
    /// In bytes.
    pub mtu: u16,
}

/// What the sockets ask the router.
pub trait Router {
    /// The way to `to`, which if it is link-local or a group is on `link`.
    fn path(&self, to: IpAddr, link: Option<IfIndex>) -> Option<Path>;

    /// Whether packets from `remote` to `local` come to this CPU.
    fn is_home(&self, local: &SocketAddr, remote: &SocketAddr) -> bool;

    /// Nanoseconds since some moment.
    fn now_ns(&self) -> u64;
}

/// What has happened, since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Connections that listeners got.
    pub accepted: u64,
    /// Of these, those whose handshake was no more than a cookie.
    pub by_cookie: u64,
    /// Handshakes that were pushed out by later ones, and live in their cookies.
    pub syn_flood: u64,
    /// Handshakes that were not finished for want of a free connection, of memory, or because their listener's queue was
    /// full. Their peers try again.
    pub no_room: u64,
    /// Of these, those whose peer had its share of the connections, with none free.
    pub over_share: u64,
    /// Connections that made room for others: those that still waited for what their listener accepts them for,
    pub evicted_parked: u64,
    /// those that no task had any more and whose peers had not closed,
    pub evicted_closing: u64,
    /// and those of a peer over its share that no task had accepted yet.
    pub evicted_queued: u64,
    /// SYNs and resets of connections that were not believed.
    pub doubted: u64,
    /// Resets sent to segments of no connection.
    pub resets: u64,
    /// Packets whose checksum was wrong.
    pub checksum: u64,
    /// Packets that were none, or of no socket.
    pub unmatched: u64,
    /// Datagrams that came when their socket's queue was full.
    pub datagrams_lost: u64,
}

/// One CPU's sockets. Clones are the same one.
#[derive(Clone)]
pub struct Transport(pub(crate) Rc<RefCell<Inner>>);

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    key: Key,
    pub(crate) router: Box<dyn Router>,
    pub(crate) ports: Arc<Ports>,
    slots: Slots,
    flows: BTreeMap<Flow, usize>,
    half_open: Table,
    ended: time_wait::Table,
    pub(crate) listeners: Vec<Listening>,
    pub(crate) udp: Vec<Option<Udp>>,
    pub(crate) echo: Option<Echo>,
    /// Whole packets, and their links.
    packets: VecDeque<(Vec<u8>, IfIndex)>,
    scratch: Scratch,
    driver: Option<Waker>,
    arrivals: u64,
    pub(crate) counters: Counters,
    /// Something is to be sent.
    dirty: bool,
    /// The way out was full.
    blocked: bool,
    /// Resets left of this second.
    resets: (u64, u32),
    pub(crate) next_port: u16,
}

impl Transport {
    /// Without sockets. `ports` is what they will be found by.
    pub fn new(settings: Settings, ports: Arc<Ports>, router: impl Router + 'static) -> Self {
        let key = Key(settings.key);
        let now_ns = router.now_ns();
        Self(Rc::new(RefCell::new(Inner {
            settings,
            key,
            router: Box::new(router),
            ports,
            slots: Slots::new(settings.connections),
            flows: BTreeMap::new(),
            half_open: Table::new(settings.half_open),
            ended: time_wait::Table::new(settings.connections),
            listeners: Vec::new(),
            udp: Vec::new(),
            echo: None,
            packets: VecDeque::new(),
            scratch: Scratch::new(),
            driver: None,
            arrivals: 0,
            counters: Counters::default(),
            dirty: false,
            blocked: false,
            resets: (now_ns, RESETS_EACH_S),
            next_port: settings.key[0] as u16,
        })))
    }

    /// Takes a packet; what it asks for in answer goes to `sink`.
    pub fn input(&self, arrival: &Arrival<'_>, sink: &mut dyn Sink) {
        self.0.borrow_mut().input(arrival, sink);
    }

    /// Sends a whole IP packet as it is: a message of ICMPv6's, for which there are no sockets. Of too many that wait the
    /// oldest is lost.
    pub fn send_packet(&self, packet: Vec<u8>, link: IfIndex) {
        let inner = &mut *self.0.borrow_mut();
        if inner.packets.len() >= PACKETS {
            inner.packets.pop_front();
        }
        inner.packets.push_back((packet, link));
        inner.want();
    }

    /// Sends what is due.
    pub fn poll(&self, sink: &mut dyn Sink) {
        self.0.borrow_mut().poll(sink);
    }

    /// When [`poll`](Self::poll) is wanted at the latest, if nothing happens before.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.0.borrow().deadline()
    }

    /// Ready when a task has asked for something to be sent; for the one task that drives this.
    pub fn wanted(&self, cx: &Context<'_>) -> Poll<()> {
        let inner = &mut *self.0.borrow_mut();
        if inner.dirty && !inner.blocked {
            return Poll::Ready(());
        }
        inner.driver = Some(cx.waker().clone());
        Poll::Pending
    }

    /// What has happened so far.
    pub fn counters(&self) -> Counters {
        self.0.borrow().counters
    }

    /// Packets that have come so far, whatever they were: what tasks can read grows by these only.
    pub fn arrivals(&self) -> u64 {
        self.0.borrow().arrivals
    }

    /// Handshakes begun, and connections, right now.
    pub fn load(&self) -> (usize, usize) {
        let inner = self.0.borrow();
        (inner.half_open.len(), inner.slots.connections())
    }
}

impl Inner {
    fn input(&mut self, arrival: &Arrival<'_>, sink: &mut dyn Sink) {
        self.arrivals += 1;
        let Some(ip) = Ip::parse(arrival.packet) else {
            self.counters.unmatched += 1;
            return;
        };
        if matches!(ip.protocol, TCP | UDP) && arrival.sum == Sum::Verify && !wire::sum_is_right(&ip) {
            self.counters.checksum += 1;
            return;
        }
        match ip.protocol {
            TCP => self.tcp(arrival, &ip, sink),
            UDP => self.datagram(arrival, &ip),
            ICMP | ICMPV6 => self.icmp(arrival, &ip),
            _ => self.counters.unmatched += 1,
        }
    }

    fn tcp(&mut self, arrival: &Arrival<'_>, ip: &Ip<'_>, sink: &mut dyn Sink) {
        let link = arrival.interface;
        let segment = Segment::parse(ip.upper).filter(|segment| {
            segment.from != 0 && segment.to != 0 && is_host(ip.source) && is_host(ip.destination)
        });
        let Some(segment) = segment else {
            self.counters.unmatched += 1;
            return;
        };
        let flow = Flow {
            local: scoped(ip.destination, segment.to, link),
            remote: scoped(ip.source, segment.from, link),
        };
        if let Some(&slot) = self.flows.get(&flow) {
            self.segment(slot, ip.upper, &segment, sink);
            return;
        }
        match self.ended.judge(&flow, &segment, self.router.now_ns()) {
            Verdict::Acknowledge(ended) => return self.acknowledge(&ended, sink),
            Verdict::Ignore => return,
            Verdict::NotOurs => {}
        }
        if segment.is_rst() {
            // RFC 5961 §3.2: exactly the number that is waited for.
            if self.half_open.find(&flow).is_some_and(|entry| segment.seq == entry.irs.wrapping_add(1)) {
                self.half_open.remove(&flow);
            }
        } else if !self.listeners.iter().any(|listener| listener.port == segment.to) {
            self.reset(&flow, &segment, link, sink);
        } else if segment.is_syn() && !segment.is_ack() {
            self.syn(arrival, flow, &segment, sink);
        } else if segment.is_ack() && !segment.is_syn() {
            self.last_of_handshake(arrival, ip, flow, &segment, sink);
        } else {
            self.reset(&flow, &segment, link, sink);
        }
    }

    /// Shows a connection a segment of its flow. What it says to that is sent when all have come that wait: [`poll`](Self::poll).
    fn segment(&mut self, number: usize, bytes: &[u8], segment: &Segment<'_>, sink: &mut dyn Sink) {
        let now_ns = self.router.now_ns();
        let Self { slots, scratch, counters, .. } = self;
        let slot = slots.get_mut(number);
        let Some(connection) = slot.and_then(|slot| slot.connection.as_mut()) else { return };
        if connection.doubts(segment) {
            // `smoltcp` answers no SYN in its window, takes some for data, and believes each reset there.
            counters.doubted += 1;
            if let Some(repr) = connection.challenge(segment, now_ns) {
                let (flow, link) = (connection.flow, connection.link());
                self.send_tcp(&flow, &repr, link, sink);
            }
            return;
        }
        connection.segment(bytes, segment, scratch, now_ns, sink);
        slots.set_ready(number);
        self.want();
    }

    /// Bytes of all connections' buffers.
    pub(crate) fn buffers(&self) -> usize {
        self.slots.bytes()
    }

    /// Bytes of each of the next connection's buffers, receive and send.
    fn sizes(&self) -> [usize; 2] {
        let Settings { connections, receive, send, memory, .. } = self.settings;
        let others = connections.saturating_sub(1 + self.flows.len());
        // An eighth of what the others can do without.
        let spare = memory.saturating_sub(self.buffers() + others * 2 * MIN_BUFFER) / 16;
        [receive, send].map(|most| spare.clamp(MIN_BUFFER, most.max(MIN_BUFFER)))
    }

    /// Lets a connection send what it wants to, notes when it is due, and clears away what has ended.
    fn attend(&mut self, number: usize, now_ns: u64, sink: &mut dyn Sink) {
        let Some(slot) = self.slots.get_mut(number) else { return };
        let Some(connection) = slot.connection.as_mut() else { return };
        let had_room = sink.room() >= connection.mtu();
        let more = connection.poll(&mut self.scratch, now_ns, sink);
        self.blocked |= more && sink.room() < connection.mtu();
        self.dirty |= more;
        // When all else is sent: then there is room.
        let question = if more { None } else { connection.question(now_ns) };
        let question = question.map(|repr| (connection.flow, connection.link(), repr));
        if !slot.owned {
            // Nobody reads any more: what comes now is refused, as by a closed socket (RFC 9293 §3.6.1).
            let unread = connection.socket().recv_queue() > 0;
            let expired = slot.until_ns <= now_ns;
            if (unread || expired) && !connection.is_over(now_ns) {
                connection.abort();
                connection.poll(&mut self.scratch, now_ns, sink);
            }
        }
        // The last acknowledgement may still wait for room.
        if more || !connection.is_over(now_ns) {
            match (more, had_room) {
                (true, false) => self.slots.set_starved(number),
                (true, true) => self.slots.set_unfinished(number),
                (false, _) => {
                    let due_ns = connection.due_ns(now_ns).min(slot.until_ns);
                    self.slots.set_due(number, due_ns.max(now_ns + 1));
                }
            }
            if let Some((flow, link, repr)) = question {
                self.send_tcp(&flow, &repr, link, sink);
            }
            return;
        }
        if self.flows.get(&connection.flow) == Some(&number) {
            self.flows.remove(&connection.flow);
            if connection.state() == State::TimeWait {
                self.ended.insert(Ended::new(
                    connection.flow,
                    connection.link(),
                    connection.numbers(),
                    now_ns,
                ));
            }
            if connection.ephemeral {
                self.ports.remove(Protocol::Tcp, connection.flow.local.port(), Access::Any);
            }
        }
        match slot.owned {
            true => self.slots.set_due(number, u64::MAX),
            false => self.slots.remove(number),
        }
    }

    /// Answers a SYN. What it said is in the answer's number, so nothing has to be kept.
    fn syn(&mut self, arrival: &Arrival<'_>, flow: Flow, segment: &Segment<'_>, sink: &mut dyn Sink) {
        let now_ns = self.router.now_ns();
        let again = self.half_open.find(&flow).filter(|entry| entry.irs == segment.seq).copied();
        let entry = match again {
            Some(entry) => entry,
            None => {
                self.half_open.remove(&flow);
                let offer = Offer::parse(segment.options);
                let iss = self.key.cookie(&flow, segment.seq, offer, now_ns);
                let link = (arrival.interface, arrival.mtu);
                let entry = HalfOpen::new(flow, link, (segment.seq, iss), offer, now_ns);
                self.counters.syn_flood += u64::from(self.half_open.insert(entry, now_ns));
                entry
            }
        };
        self.answer(&entry, sink);
    }

    /// Sends the SYN's answer.
    fn answer(&mut self, entry: &HalfOpen, sink: &mut dyn Sink) {
        let header = header_len(entry.flow.local.ip()) + 20;
        let repr = TcpRepr {
            control: TcpControl::Syn,
            seq_number: TcpSeqNumber(entry.iss as i32),
            ack_number: Some(TcpSeqNumber(entry.irs.wrapping_add(1) as i32)),
            window_len: self.sizes()[0].min(usize::from(u16::MAX)) as u16,
            window_scale: entry.offer.scale.map(|_| 0),
            max_seg_size: Some(entry.mtu.saturating_sub(header as u16)),
            sack_permitted: entry.offer.sack,
            ..wire::bare(&entry.flow)
        };
        self.send_tcp(&entry.flow, &repr, entry.link, sink);
    }

    /// The third segment of a handshake, or one behind it.
    fn last_of_handshake(
        &mut self,
        arrival: &Arrival<'_>,
        ip: &Ip<'_>,
        flow: Flow,
        segment: &Segment<'_>,
        sink: &mut dyn Sink,
    ) {
        let now_ns = self.router.now_ns();
        let iss = segment.ack.wrapping_sub(1);
        let (entry, by_cookie) = match self.half_open.find(&flow) {
            Some(entry) if entry.iss == iss => (*entry, false),
            Some(_) => return self.reset(&flow, segment, arrival.interface, sink),
            None => {
                if !self.half_open.believes(now_ns) {
                    return self.reset(&flow, segment, arrival.interface, sink);
                }
                let irs = segment.seq.wrapping_sub(1);
                // A later segment of a good connection may have overtaken the one that shows the cookie: no reset.
                let Some(offer) = self.key.open(&flow, irs, iss, now_ns) else {
                    self.counters.unmatched += 1;
                    return;
                };
                let link = (arrival.interface, arrival.mtu);
                (HalfOpen::new(flow, link, (irs, iss), offer, now_ns), true)
            }
        };
        let Some(listener) = self.listeners.iter().position(|listener| listener.port == segment.to) else {
            return;
        };
        if self.listeners.get(listener).is_none_or(Listening::is_full) {
            self.counters.no_room += 1;
            return;
        }
        let seed = self.key.seed(&flow, now_ns);
        let sizes = self.sizes();
        let connection = match self.room(&flow.remote, sink) {
            true => Connection::accepted(&entry, sizes, seed, &mut self.scratch, now_ns),
            false => None,
        };
        let Some(slot) = connection.and_then(|connection| self.install(connection)) else {
            self.counters.no_room += 1;
            return;
        };
        self.half_open.remove(&flow);
        self.segment(slot.slot, ip.upper, segment, sink);
        let state = self.connection(slot).map(|connection| connection.state());
        if !matches!(state, Some(State::Established | State::CloseWait)) {
            // The segment was no good for it.
            self.leave(slot);
            return;
        }
        self.counters.accepted += 1;
        self.counters.by_cookie += u64::from(by_cookie);
        if let Some(listener) = self.listeners.get_mut(listener) {
            match listener.filter {
                None => listener.push(slot),
                Some(_) => self.park(slot, segment.to, listener::FIRST),
            }
        }
    }

    /// Tells a peer again that all it has sent has come.
    fn acknowledge(&mut self, ended: &Ended, sink: &mut dyn Sink) {
        let repr = TcpRepr {
            seq_number: TcpSeqNumber(ended.nxt as i32),
            ack_number: Some(TcpSeqNumber(ended.rcv as i32)),
            ..wire::bare(&ended.flow)
        };
        self.send_tcp(&ended.flow, &repr, ended.link, sink);
    }

    /// Tells the sender of a segment that there is no such connection (RFC 9293 §3.10.7.1).
    fn reset(&mut self, flow: &Flow, segment: &Segment<'_>, link: IfIndex, sink: &mut dyn Sink) {
        self.counters.unmatched += 1;
        let now_ns = self.router.now_ns();
        if now_ns.saturating_sub(self.resets.0) >= 1_000_000_000 {
            self.resets = (now_ns, RESETS_EACH_S);
        }
        if segment.is_rst() || self.resets.1 == 0 {
            return;
        }
        self.resets.1 -= 1;
        self.counters.resets += 1;
        let repr = TcpRepr {
            control: TcpControl::Rst,
            seq_number: TcpSeqNumber(if segment.is_ack() { segment.ack as i32 } else { 0 }),
            ack_number: (!segment.is_ack())
                .then(|| TcpSeqNumber(segment.seq.wrapping_add(segment.len()) as i32)),
            ..wire::bare(flow)
        };
        self.send_tcp(flow, &repr, link, sink);
    }

    fn send_tcp(&mut self, flow: &Flow, repr: &TcpRepr<'_>, link: IfIndex, sink: &mut dyn Sink) {
        let (local, remote) = (flow.local.ip(), flow.remote.ip());
        let len = repr.buffer_len();
        let output = &mut self.scratch.output;
        let Some(header) = write_ip(output, local, remote, TCP, len) else { return };
        let Some(packet) = output.get_mut(..header + len) else { return };
        if sink.room() < packet.len() {
            // Whoever waits for it asks again.
            return;
        }
        let (source, destination): (IpAddress, IpAddress) = (local.into(), remote.into());
        let mut tcp = TcpPacket::new_unchecked(packet.get_mut(header..).unwrap_or(&mut []));
        repr.emit(&mut tcp, &source, &destination, &sums());
        tcp.fill_checksum(&source, &destination);
        sink.send(packet, link);
    }

    fn icmp(&mut self, arrival: &Arrival<'_>, ip: &Ip<'_>) {
        let now_ns = self.router.now_ns();
        if self.echo.as_mut().is_some_and(|echo| echo.input(arrival, ip, now_ns)) {
            return;
        }
        let Some(notice) = Notice::parse(ip, arrival.interface) else {
            self.counters.unmatched += 1;
            return;
        };
        match notice.protocol {
            Protocol::Tcp => {
                let Some(&number) = self.flows.get(&notice.flow) else { return };
                let slot = self.slots.get_mut(number);
                let Some(connection) = slot.and_then(|slot| slot.connection.as_mut()) else { return };
                // Whoever does not see the traffic cannot know the number (RFC 5927 §4.1).
                if !notice.seq.is_some_and(|seq| connection.is_under_way(seq)) {
                    return;
                }
                match notice.report {
                    Report::TooBig(mtu) => connection.clamp(mtu, now_ns),
                    Report::Failed(error) => connection.icmp(error),
                }
                self.slots.set_ready(number);
                self.want();
            }
            // Errors about echo requests are no notices.
            Protocol::Echo => {}
            Protocol::Udp => {
                if let Report::Failed(error) = notice.report {
                    self.udp.iter_mut().flatten().for_each(|socket| socket.icmp(&notice.flow, error));
                }
            }
        }
    }

    fn datagram(&mut self, arrival: &Arrival<'_>, ip: &Ip<'_>) {
        let taken = self.udp.iter_mut().flatten().find_map(|socket| socket.input(ip, arrival.interface));
        match taken {
            Some(true) => {}
            Some(false) => self.counters.datagrams_lost += 1,
            None => self.counters.unmatched += 1,
        }
    }

    fn poll(&mut self, sink: &mut dyn Sink) {
        let now_ns = self.router.now_ns();
        (self.dirty, self.blocked) = (false, false);
        self.slots.begin_turn();
        while let Some(entry) = self.half_open.due(now_ns) {
            self.answer(&entry, sink);
        }
        while let Some(number) = self.slots.take_due(now_ns) {
            self.attend(number, now_ns, sink);
            self.unpark(number, now_ns);
        }
        for socket in self.udp.iter_mut().flatten() {
            self.blocked |= !socket.output(&mut self.scratch.output, now_ns, sink);
        }
        while let Some((packet, link)) = self.packets.pop_front() {
            if sink.room() < packet.len() {
                self.packets.push_front((packet, link));
                self.blocked = true;
                break;
            }
            sink.send(&packet, link);
        }
        for place in self.udp.iter_mut().filter(|place| place.as_ref().is_some_and(Udp::is_over)) {
            *place = None;
        }
        self.dirty |= self.blocked;
    }

    fn deadline(&self) -> Option<u64> {
        let datagrams = self.udp.iter().flatten().filter_map(|socket| socket.by_ns);
        let due = datagrams.chain(self.slots.first_due()).chain(self.half_open.deadline()).min();
        let due = due.filter(|&due| due != u64::MAX);
        if !self.blocked {
            return due;
        }
        let again = self.router.now_ns() + BLOCKED_NS;
        Some(due.map_or(again, |due| due.max(again)))
    }

    /// Has the driver look.
    pub(crate) fn want(&mut self) {
        self.dirty = true;
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    fn install(&mut self, connection: Connection) -> Option<Id> {
        let flow = connection.flow;
        let id = self.slots.insert(connection)?;
        self.flows.insert(flow, id.slot);
        Some(id)
    }

    /// The connection, while a stream holds it.
    pub(crate) fn connection(&mut self, id: Id) -> Option<&mut Connection> {
        self.slots.of(id)?.connection.as_deref_mut()
    }

    /// Has the driver attend to a connection.
    pub(crate) fn touch(&mut self, id: Id) {
        if self.slots.of(id).is_some() {
            self.slots.set_ready(id.slot);
            self.want();
        }
    }

    /// The task of a connection goes: it ends by itself, if it does so in time.
    pub(crate) fn leave(&mut self, id: Id) {
        let now_ns = self.router.now_ns();
        let Some(connection) = self.connection(id) else { return };
        if connection.socket().recv_queue() > 0 {
            connection.abort();
        } else {
            connection.socket().close();
        }
        (connection.read_by_ns, connection.write_by_ns) = (None, None);
        if let Some(slot) = self.slots.of(id) {
            (slot.owned, slot.until_ns) = (false, now_ns + ORPHAN_NS);
        }
        self.touch(id);
    }

    /// Begins a connection of the router's own.
    pub(crate) fn connect(&mut self, remote: SocketAddr) -> Result<Id, Error> {
        let path = self.router.path(remote.ip(), wire::scope(&remote)).ok_or(Error::NoRoute)?;
        let port = self.ephemeral(path.source, &remote, path.interface).ok_or(Error::NoRoom)?;
        let remote = scoped(remote.ip(), remote.port(), path.interface);
        let flow = Flow { local: scoped(path.source, port, path.interface), remote };
        if !self.slots.has_room() {
            return Err(Error::NoRoom);
        }
        let now_ns = self.router.now_ns();
        let seed = self.key.seed(&flow, now_ns);
        let link = (path.interface, path.mtu);
        let connection =
            Connection::connecting(flow, link, self.sizes(), seed, now_ns).ok_or(Error::NoRoom)?;
        let id = self.install(connection).ok_or(Error::NoRoom)?;
        self.ports.insert(Protocol::Tcp, port, Access::Any);
        self.want();
        Ok(id)
    }

    /// A port that no other socket of this CPU has, such that answers from `remote` come here.
    pub(crate) fn ephemeral(&mut self, source: IpAddr, remote: &SocketAddr, link: IfIndex) -> Option<u16> {
        let span = EPHEMERAL.end() - EPHEMERAL.start();
        for _ in 0..=span {
            self.next_port = self.next_port.wrapping_add(1);
            let port = EPHEMERAL.start() + self.next_port % (span + 1);
            let local = scoped(source, port, link);
            let taken = self.ports.open(Protocol::Tcp, port, Access::Management)
                || self.ports.open(Protocol::Udp, port, Access::Management);
            if !taken && self.router.is_home(&local, remote) {
                return Some(port);
            }
        }
        None
    }
}

/// Whether an address is one host's.
fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_unspecified() || address.is_multicast() || address.is_broadcast())
        }
        IpAddr::V6(address) => !(address.is_unspecified() || address.is_multicast()),
    }
}
