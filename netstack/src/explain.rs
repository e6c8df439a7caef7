//! What becomes of a packet, step by step: what the stages say of it, and what a stack of its own then does with it.
//!
//! Nothing is decided here. The stages are asked in `path.rs`'s order, for their reasons; the end is what [`Stack::input`]
//! did with the very frame. Counters, tables and limits are of its own, so the router does not notice. For tasks; within a
//! masked section is only what does not grow with the tables.

use crate::egress::{Carrier, Delivery, Egress, Local, Upper};
use crate::ethernet::{self, Cast, HEADER, Payload};
use crate::flow;
use crate::ipv4;
use crate::ipv6;
use crate::neighbor::{Event, Evidence, State};
use crate::snapshot::{ReversePath, Route, Snapshot};
use crate::stack::{Duty, Settings, Stack, Turn};
use crate::time::Instant;
use alloc::vec::Vec;
use core::net::IpAddr;
use weir_netif::{Batch, Drop, IfIndex, Packet, Pool};
use weir_sync::Softint;

/// A neighbour that the router knows: on which link, its address, state and station address.
pub type Known = (IfIndex, IpAddr, State, [u8; 6]);

/// What is asked.
#[derive(Clone, Copy)]
pub struct Question<'q> {
    /// Where the frame comes in: the interface with the device.
    pub port: IfIndex,
    /// The whole frame, with its tag if it has one.
    pub frame: &'q [u8],
    /// The neighbours.
    pub neighbors: &'q [Known],
    /// Whether the router has a socket for a packet of this flow.
    pub listens: &'q dyn Fn(u32, &Local<'_>) -> bool,
}

/// The way of a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explained {
    /// What was found on the way.
    pub steps: Vec<Step>,
    /// How it ended.
    pub end: End,
    /// Frames that were sent, in their order: itself, its fragments, an answer, a question for a neighbour.
    pub sent: Vec<Sent>,
}

/// Something that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// The frame is for this interface, by its tag's VLAN; 0: it has none.
    Interface(IfIndex, u16),
    /// The frame is for this station, or for a group.
    Ethernet(Cast),
    /// An IP header that is right.
    Ip {
        /// Where it comes from.
        source: IpAddr,
        /// Where it goes.
        destination: IpAddr,
        /// What is in it.
        protocol: u8,
        /// Bytes of header and payload.
        len: usize,
        /// Hops left.
        ttl: u8,
    },
    /// Nothing speaks against its source; it was checked like this.
    Source(ReversePath),
    /// The table has this for its destination. Of several next hops, so many, the one that its flow takes.
    Route(Route<IpAddr>, usize),
    /// The table has nothing for its destination.
    NoRoute,
    /// It goes on by this interface to this neighbour, which is known so well.
    NextHop(IfIndex, IpAddr, Option<(State, [u8; 6])>),
    /// Bytes that the packet has and that the link takes.
    Mtu(usize, u16),
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Sent on.
    Forwarded,
    /// The router answered it itself, or took note of it.
    Answered,
    /// A socket of the router has it.
    Delivered(Upper, u16),
    /// It, or what answers it, waits for a neighbour that is asked for.
    Waits,
    /// It waits for the other fragments of its datagram.
    Gathers,
    /// Dropped, and counted so at this interface.
    Dropped(Drop, IfIndex),
}

/// A frame that was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// By this interface.
    pub interface: IfIndex,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// Catches what goes out.
struct Recorder<'q> {
    sent: Vec<Sent>,
    delivered: Option<(Upper, u16)>,
    listens: &'q dyn Fn(u32, &Local<'_>) -> bool,
}

impl Egress for Recorder<'_> {
    fn flush(&mut self, interface: IfIndex, batch: &mut Batch, pool: &mut Pool) -> Carrier {
        for packet in batch.drain(..) {
            let bytes = packet.segments().flatten().copied().collect();
            self.sent.push(Sent { interface, bytes });
            pool.free(packet);
        }
        Carrier::ThisCpu
    }

    fn deliver(&mut self, mut packet: Packet, local: &Local<'_>) -> Delivery {
        if !(self.listens)(flow::hash(&mut packet).unwrap_or_default(), local) {
            return Delivery::NoSocket(packet);
        }
        self.delivered = Some((local.kind, local.port));
        Delivery::Full(packet)
    }
}

/// A stack to explain with, for as many interfaces as there can be, that knows the neighbours. Outside of masked sections.
pub fn stack(interfaces: usize, neighbors: &[Known], now: Instant) -> Stack {
    let mut stack = Stack::new(Settings {
        interfaces,
        // The one that is asked for needs room, too; half of the table is for such.
        neighbors: 2 * neighbors.len() + 32,
        duty: Duty::Worker,
        ..Settings::default()
    });
    let Stack { neighbors4, neighbors6, timers, .. } = &mut stack;
    for &(interface, address, _, mac) in neighbors.iter().filter(|known| known.2 != State::Incomplete) {
        let (mac, evidence) = (Some(mac), Evidence::Asked);
        // Nothing waits in a table that is new.
        match address {
            IpAddr::V4(address) => {
                drop(neighbors4.learn(&Event { interface, address, mac, evidence }, now, timers));
            }
            IpAddr::V6(address) => {
                drop(neighbors6.learn(&Event { interface, address, mac, evidence }, now, timers));
            }
        }
    }
    stack
}

/// Follows a frame through `snapshot`, whose counters are to be its own ([`Snapshot::apart`]), with a [`stack`] of its own,
/// which is to be [emptied](empty). `None`: there is no buffer for it.
#[cold]
#[inline(never)]
pub fn explain(
    cx: &Softint,
    stack: &mut Stack,
    snapshot: &Snapshot,
    pool: &mut Pool,
    now: Instant,
    question: &Question<'_>,
) -> Option<Explained> {
    let Question { port, frame, neighbors, listens } = *question;
    let mut looked_at = pool.alloc_from(frame)?;
    let mut steps = Vec::new();
    follow(snapshot, port, &mut looked_at, neighbors, &mut steps);
    pool.free(looked_at);
    let mut recorder = Recorder { sent: Vec::new(), delivered: None, listens };
    let mut batch = Batch::new();
    batch.push(pool.alloc_from(frame)?);
    stack.input(&mut Turn { cx, snapshot, now, pool, egress: &mut recorder }, port, &mut batch);
    let end = end(snapshot, stack, &recorder, &steps);
    Some(Explained { steps, end, sent: recorder.sent })
}

/// Takes back what waits in a [`stack`]. Outside of masked sections.
pub fn empty(mut stack: Stack, pool: &mut Pool) {
    let gone = |_| true;
    let Stack { neighbors4, neighbors6, reassembly, timers, .. } = &mut stack;
    neighbors4.forget(timers, gone, |packet| pool.free(packet));
    neighbors6.forget(timers, gone, |packet| pool.free(packet));
    reassembly.forget(timers, |_| true, |packet| pool.free(packet));
}

fn end(snapshot: &Snapshot, stack: &Stack, recorder: &Recorder<'_>, steps: &[Step]) -> End {
    if let Some((kind, port)) = recorder.delivered {
        return End::Delivered(kind, port);
    }
    let mut lost: Option<(Drop, IfIndex)> = None;
    let own = snapshot.interfaces().map(|interface| (&*interface.counters, interface.index));
    for (counters, index) in own.chain([(snapshot.unconfigured(), IfIndex(u16::MAX))]) {
        for (reason, _) in counters.totals().drops() {
            // An error that has no way back to the sender is lost beside the packet that it is about.
            let beside = matches!(lost, Some((known, _)) if known != Drop::NoRoute);
            if !matches!(reason, Drop::Consumed | Drop::IcmpRateLimited) && !beside {
                lost = Some((reason, index));
            }
        }
    }
    if let Some((reason, at)) = lost {
        return End::Dropped(reason, at);
    }
    let goes_on = steps.iter().any(|step| matches!(step, Step::NextHop(..)));
    match (stack.reassembly.packets(), stack.queued()) {
        (1.., _) => End::Gathers,
        (0, 1..) => End::Waits,
        _ if goes_on => End::Forwarded,
        _ => End::Answered,
    }
}

/// Asks the stages, in their order, until one ends the packet's way.
fn follow(
    snapshot: &Snapshot,
    port: IfIndex,
    packet: &mut Packet,
    neighbors: &[Known],
    steps: &mut Vec<Step>,
) -> Option<()> {
    packet.meta_mut().received = port;
    let interface = snapshot.interface(snapshot.owner(port, packet)?)?;
    steps.push(Step::Interface(interface.index, ethernet::vlan(packet)));
    ethernet::untag(packet);
    let (payload, cast) = ethernet::input(packet, interface.mac).ok()?;
    steps.push(Step::Ethernet(cast));
    let known = |out: IfIndex, next: IpAddr| {
        let same = |known: &&Known| (known.0, known.1) == (out, next);
        neighbors.iter().find(same).map(|known| (known.2, known.3))
    };
    let hash = flow::hash(packet).unwrap_or_default();
    let (bytes, available) = (packet.data().get(HEADER..)?, packet.len().checked_sub(HEADER)?);
    let (out, next, len) = match payload {
        Payload::Ipv4 => {
            let header = ipv4::Header::parse(bytes, available).ok()?;
            let len = usize::from(header.total_len);
            let (source, destination) = (header.source.into(), header.destination.into());
            let (protocol, ttl) = (header.protocol, header.ttl);
            steps.push(Step::Ip { source, destination, protocol, len, ttl });
            let hop = snapshot.fib4().lookup_number(header.destination);
            let taken = snapshot.settle4(hop, || hash);
            let several = match snapshot.fib4().hop(hop) {
                Some(&Route::Multipath { group }) => snapshot.members4(group).count(),
                _ => 1,
            };
            let verdict = ipv4::route(&header, cast, interface, snapshot, taken);
            if !matches!(verdict, ipv4::Verdict::Drop(reason) if of_addresses(reason)) {
                steps.push(Step::Source(interface.reverse_path));
                steps.push(found(snapshot.fib4().hop(taken), several));
            }
            let ipv4::Verdict::Forward { out, next, .. } = verdict else { return None };
            (out, IpAddr::V4(next), len)
        }
        Payload::Ipv6 => {
            let header = ipv6::Header::parse(bytes, available).ok()?;
            let len = header.total_len();
            let (source, destination) = (header.source.into(), header.destination.into());
            let (protocol, ttl) = (header.next_header, header.hop_limit);
            steps.push(Step::Ip { source, destination, protocol, len, ttl });
            let hop = snapshot.fib6().lookup_number(header.destination);
            let taken = snapshot.settle6(hop, || hash);
            let several = match snapshot.fib6().hop(hop) {
                Some(&Route::Multipath { group }) => snapshot.members6(group).count(),
                _ => 1,
            };
            let verdict = ipv6::route(&header, cast, interface, snapshot, taken);
            if !matches!(verdict, ipv6::Verdict::Drop(reason) if of_addresses(reason)) {
                steps.push(Step::Source(interface.reverse_path));
                steps.push(found(snapshot.fib6().hop(taken), several));
            }
            let ipv6::Verdict::Forward { out, next, .. } = verdict else { return None };
            (out, IpAddr::V6(next), len)
        }
        Payload::Arp | Payload::Tagged => return None,
    };
    steps.push(Step::NextHop(out.index, next, known(out.index, next)));
    steps.push(Step::Mtu(len, out.mtu));
    Some(())
}

/// Whether addresses alone were against it, before any look at the table.
fn of_addresses(reason: Drop) -> bool {
    matches!(
        reason,
        Drop::MartianSource
            | Drop::MartianDestination
            | Drop::MulticastNotJoined
            | Drop::ReversePath
            | Drop::LinkLocalScope
    )
}

fn found<A: Copy + Into<IpAddr>>(route: Option<&Route<A>>, several: usize) -> Step {
    let route = match route {
        None => return Step::NoRoute,
        Some(&Route::Gateway { interface, via }) => Route::Gateway { interface, via: via.into() },
        Some(&Route::Connected { interface }) => Route::Connected { interface },
        Some(&Route::Multipath { group }) => Route::Multipath { group },
        Some(&Route::Local { interface }) => Route::Local { interface },
        Some(&Route::Broadcast { interface }) => Route::Broadcast { interface },
        Some(Route::Tentative) => Route::Tentative,
        Some(Route::Blackhole) => Route::Blackhole,
        Some(Route::Unreachable) => Route::Unreachable,
        Some(Route::Prohibit) => Route::Prohibit,
    };
    Step::Route(route, several)
}

#[cfg(test)]
mod tests;
