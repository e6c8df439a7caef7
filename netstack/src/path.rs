//! A packet's way through the router: the only place that knows the order of the stages.
//!
//! Stages return verdicts; what follows from them is done here. Runs in softint context, to completion.

mod announce;
mod batch;
mod fragments;
mod output;
mod sockets;
#[cfg(test)]
mod tests;
mod vlan;

pub(crate) use announce::Announced;
pub(crate) use batch::Found;

use crate::arp;
use crate::capture::{Direction, Framing};
use crate::ethernet::{self, Cast, HEADER, Payload};
use crate::flow;
use crate::icmp;
use crate::icmp6;
use crate::ipv4;
use crate::ipv6;
use crate::local;
use crate::nd;
use crate::neighbor::{self, Admission, Due, NextHop, Solicit};
use crate::reassembly;
use crate::recorder::What;
use crate::segment;
use crate::snapshot::{Claim, Interface, ReversePath, Route, Snapshot, State};
use crate::stack::{Duty, Event, Stack, Turn};
use crate::time::Instant;
use crate::timers::Timed;
use core::net::{Ipv4Addr, Ipv6Addr};
use output::source6;
use weir_netif::{Batch, Drop, IfIndex, Packet};

impl Stack {
    /// Transmits frames that another CPU's stack made ready for `interface`, and leaves `batch` empty.
    // Never inlined: `lab` looks for the path's beginnings by name.
    #[inline(never)]
    pub fn transmit(&mut self, turn: &mut Turn<'_>, interface: IfIndex, batch: &mut Batch) {
        self.lanes.carry(turn, interface, batch);
    }

    /// Looks whether anything captures. To be called on every CPU when something begins to; what ends is noticed.
    pub fn listen(&mut self, snapshot: &Snapshot) {
        self.lanes.listen(snapshot.taps().is_tapped());
    }

    /// Shows captures what a device received.
    #[cold]
    #[inline(never)]
    fn tap(&mut self, turn: &Turn<'_>, received: IfIndex, batch: &Batch) {
        let taps = turn.snapshot.taps();
        self.lanes.listen(taps.pass(turn.cx, turn.snapshot, Direction::In, (received, None), batch));
    }

    /// Does what is due by time: solicitations, advertisements, giving up. Returns when it wants to be called again.
    pub fn tick(&mut self, turn: &mut Turn<'_>) -> Instant {
        while let Some(timed) = self.timers.due(turn.now) {
            match timed {
                Timed::Neighbor4(number) => self.expired4(turn, number),
                Timed::Neighbor6(number) => self.expired6(turn, number),
                Timed::Advertisement(index) => {
                    let due = self.advertiser.due(index, turn.now, &mut self.timers);
                    if let Some((interface, variables)) = up(turn, index).zip(due) {
                        let packet = nd::router_advertisement(turn.pool, interface, &variables);
                        self.originate(turn, interface, packet);
                    }
                }
                Timed::Advertisers => self.advertiser.follow(turn.snapshot, turn.now, &mut self.timers),
                Timed::Reassembly(number) => self.lapsed(turn, number),
            }
        }
        self.lanes.flush(turn);
        self.deadline()
    }

    /// Takes note of what another CPU's stack has found out.
    pub fn apply(&mut self, turn: &mut Turn<'_>, event: Event) {
        match event {
            Event::Neighbor4(event) => {
                let known = self.neighbors4.get(event.interface, event.address).is_some();
                self.note4(turn, &event.heard(known));
            }
            Event::Neighbor6(event) => {
                let known = self.neighbors6.get(event.interface, event.address).is_some();
                self.note6(turn, &event.heard(known));
            }
            Event::RouterSolicited(interface) => {
                self.advertiser.solicited(interface, turn.now, &mut self.timers)
            }
        }
        self.lanes.flush(turn);
    }

    /// To be called when [`Turn::snapshot`] is another one than before, before any other call with it. Forgets what the old
    /// one numbered, and neighbours and fragments of links that are gone, even if another link has the index of one by now.
    /// On the CPU that speaks for the router it tells the links addresses that are new to them.
    pub fn reconfigured(&mut self, turn: &mut Turn<'_>) {
        let snapshot = turn.snapshot;
        let links = core::mem::take(&mut self.links);
        let is_other = |interface: &Interface| {
            let before = links.get(interface.index.index()).copied().flatten();
            before.is_some_and(|before| before != interface.link)
        };
        let gone = |index| {
            let now = snapshot.interface(index);
            now.is_none_or(|interface| interface.state == State::Down || is_other(interface))
        };
        self.neighbors4.forget(&mut self.timers, gone, |packet| discard(turn, packet, Drop::InterfaceDown));
        self.neighbors6.forget(&mut self.timers, gone, |packet| discard(turn, packet, Drop::InterfaceDown));
        // Addresses of a link's scope are others' on another link.
        let of_link = |key: &reassembly::Key| key.link.is_some_and(gone);
        self.reassembly
            .forget(&mut self.timers, of_link, |packet| discard(turn, packet, Drop::InterfaceDown));
        self.neighbors4.renumber();
        self.neighbors6.renumber();
        if self.duty == Duty::Speaker {
            self.advertiser.forget(&mut self.timers, |index| snapshot.interface(index).is_some_and(is_other));
            self.advertiser.follow(snapshot, turn.now, &mut self.timers);
            self.announce(turn);
        }
        self.links = links;
        self.note_changes(turn);
        for (index, link) in (0..).map(IfIndex).zip(&mut self.links) {
            *link = snapshot.interface(index).map(|interface| interface.link);
        }
        self.lanes.flush(turn);
    }

    /// Tells the flight recorder what the new snapshot changes; one CPU tells of interfaces.
    #[cold]
    fn note_changes(&mut self, turn: &Turn<'_>) {
        let taps = turn.snapshot.taps();
        taps.changed(turn.cx, IfIndex::default(), What::Configured);
        if self.duty != Duty::Speaker {
            return;
        }
        for (index, was) in (0..).map(IfIndex).zip(&mut self.up) {
            let is = up(turn, index).is_some();
            if core::mem::replace(was, is) != is {
                taps.changed(turn.cx, index, if is { What::Up } else { What::Down });
            }
        }
    }

    /// The long way of a packet: whatever can be said of one is said here. If it is an IP packet, `hop` is the number of
    /// what the table says of its destination.
    #[cold]
    fn receive(&mut self, turn: &mut Turn<'_>, packet: Packet, hop: u32) {
        let Some(interface) = turn.snapshot.interface(packet.meta().received) else {
            return discard(turn, packet, Drop::InterfaceUnconfigured);
        };
        match ethernet::input(&packet, interface.mac) {
            Ok((Payload::Ipv4, cast)) => self.ipv4(turn, interface, packet, cast, hop),
            Ok((Payload::Ipv6, cast)) => self.ipv6(turn, interface, packet, cast, hop),
            Ok((Payload::Arp, _)) => self.arp(turn, interface, packet),
            Ok((Payload::Tagged, _)) => discard(turn, packet, Drop::EthernetStackedVlan),
            Err(reason) => discard(turn, packet, reason),
        }
    }

    fn ipv4(&mut self, turn: &mut Turn<'_>, interface: &Interface, mut packet: Packet, cast: Cast, hop: u32) {
        let (bytes, available) = below(&packet);
        let header = match ipv4::Header::parse(bytes, available) {
            Ok(header) => header,
            Err(reason) => return discard(turn, packet, reason),
        };
        // Ethernet pads short frames.
        if available > usize::from(header.total_len) {
            packet.truncate(turn.pool, HEADER + usize::from(header.total_len));
        }
        let hop = turn.snapshot.settle4(hop, || hashed(&mut packet));
        match ipv4::route(&header, cast, interface, turn.snapshot, hop) {
            ipv4::Verdict::Forward { out, next, hop } => {
                self.route4(turn, interface, packet, &header, (out, next, hop))
            }
            ipv4::Verdict::Deliver(cast) => self.local4(turn, interface, packet, &header, cast),
            ipv4::Verdict::Drop(reason) => discard(turn, packet, reason),
            ipv4::Verdict::Refuse(reason, error) => {
                self.refuse4(turn, interface, packet, cast, (reason, error));
            }
        }
    }

    fn route4(
        &mut self,
        turn: &mut Turn<'_>,
        interface: &Interface,
        mut packet: Packet,
        header: &ipv4::Header,
        (out, next, hop): (&Interface, Ipv4Addr, NextHop),
    ) {
        if header.total_len > out.mtu
            && let Some(refusal) = too_big4(&packet, header, out)
        {
            return match refusal {
                (reason, Some(error)) => {
                    self.refuse4(turn, interface, packet, Cast::Unicast, (reason, error))
                }
                (reason, None) => discard(turn, packet, reason),
            };
        }
        if let Some(header) = packet.data_mut().get_mut(HEADER..).and_then(|bytes| bytes.first_chunk_mut()) {
            ipv4::decrement_ttl(header);
        }
        self.hop4(turn, packet, out, next, hop);
    }

    /// Sends an IPv4 frame to a neighbour, or has it wait for its address.
    fn hop4(
        &mut self,
        turn: &mut Turn<'_>,
        mut packet: Packet,
        out: &Interface,
        next: Ipv4Addr,
        hop: NextHop,
    ) {
        match self.neighbors4.hop(out, next, hop, turn.now, &mut self.timers) {
            Some(mac) => {
                ethernet::readdress(&mut packet, mac, out.mac);
                self.lanes.send(turn, out, packet);
            }
            None => {
                let admission = self.neighbors4.wait(out.index, next, packet, turn.now, &mut self.timers);
                if admitted(turn, admission) == Solicit::Now {
                    self.tell(Event::Neighbor4(neighbor::Event::sought(out.index, next)));
                    self.solicit4(turn, out.index, next, None);
                }
            }
        }
    }

    fn ipv6(&mut self, turn: &mut Turn<'_>, interface: &Interface, mut packet: Packet, cast: Cast, hop: u32) {
        let (bytes, available) = below(&packet);
        let header = match ipv6::Header::parse(bytes, available) {
            Ok(header) => header,
            Err(reason) => return discard(turn, packet, reason),
        };
        if available > header.total_len() {
            packet.truncate(turn.pool, HEADER + header.total_len());
        }
        let hop = turn.snapshot.settle6(hop, || hashed(&mut packet));
        match ipv6::route(&header, cast, interface, turn.snapshot, hop) {
            ipv6::Verdict::Forward { out, next, hop } => {
                self.route6(turn, interface, packet, &header, (out, next, hop))
            }
            ipv6::Verdict::Deliver(cast) => {
                self.local6(turn, interface, packet, &header, (cast, local::Came::Whole));
            }
            ipv6::Verdict::Drop(reason) => {
                if reason == Drop::MartianSource {
                    self.rival(turn, interface, &packet, &header);
                }
                discard(turn, packet, reason);
            }
            ipv6::Verdict::Refuse(reason, error) => {
                self.refuse6(turn, interface, packet, cast, (reason, error));
            }
        }
    }

    /// Looks whether a packet from an address of ours is the advertisement of somebody who has it too.
    #[cold]
    fn rival(&mut self, turn: &mut Turn<'_>, interface: &Interface, packet: &Packet, header: &ipv6::Header) {
        if let Ok(icmp6::Message::Other { offset, len, .. }) = icmp6::parse(packet, HEADER)
            && let Some(bytes) = packet.data().get(offset..offset + len)
            && let Ok(message @ nd::Message::NeighborAdvertisement { .. }) = nd::Message::parse(bytes, header)
            && let from = ethernet::source(packet.data()).unwrap_or_default()
            && let nd::Verdict::Contested(address, by) = nd::input(&message, header, from, interface)
        {
            self.contested(turn, interface, address, by);
        }
    }

    /// Tells that `by` has an address of ours.
    fn contested(&mut self, turn: &mut Turn<'_>, interface: &Interface, address: Ipv6Addr, by: [u8; 6]) {
        if interface.claim(address.into()) != Claim::Ours || self.defends(turn.now) {
            turn.egress.contested(interface.index, address.into(), by);
        }
    }

    fn route6(
        &mut self,
        turn: &mut Turn<'_>,
        interface: &Interface,
        mut packet: Packet,
        header: &ipv6::Header,
        (out, next, hop): (&Interface, Ipv6Addr, NextHop),
    ) {
        if header.total_len() > usize::from(out.mtu)
            && let Some(refusal) = too_big6(&packet, out)
        {
            return match refusal {
                (reason, Some(error)) => {
                    self.refuse6(turn, interface, packet, Cast::Unicast, (reason, error))
                }
                (reason, None) => discard(turn, packet, reason),
            };
        }
        if let Some(header) = packet.data_mut().get_mut(HEADER..).and_then(|bytes| bytes.first_chunk_mut()) {
            ipv6::decrement_hop_limit(header);
        }
        self.hop6(turn, packet, out, next, hop);
    }

    /// Sends an IPv6 frame to a neighbour, or has it wait for its address.
    fn hop6(
        &mut self,
        turn: &mut Turn<'_>,
        mut packet: Packet,
        out: &Interface,
        next: Ipv6Addr,
        hop: NextHop,
    ) {
        match self.neighbors6.hop(out, next, hop, turn.now, &mut self.timers) {
            Some(mac) => {
                ethernet::readdress(&mut packet, mac, out.mac);
                self.lanes.send(turn, out, packet);
            }
            None => {
                let admission = self.neighbors6.wait(out.index, next, packet, turn.now, &mut self.timers);
                if admitted(turn, admission) == Solicit::Now {
                    self.tell(Event::Neighbor6(neighbor::Event::sought(out.index, next)));
                    self.solicit6(turn, out.index, next, None);
                }
            }
        }
    }

    #[cold]
    fn local4(
        &mut self,
        turn: &mut Turn<'_>,
        interface: &Interface,
        mut packet: Packet,
        header: &ipv4::Header,
        cast: Cast,
    ) {
        match local::input4(&packet, header, cast) {
            local::Verdict4::Echo => match icmp::echo_reply(&mut packet, HEADER, header.destination) {
                Ok(()) => self.output4(turn, packet, header.source),
                Err(_) => discard(turn, packet, Drop::IcmpMalformed),
            },
            local::Verdict4::Reassemble(fragment) => self.gather4(turn, interface, packet, &fragment),
            local::Verdict4::Deliver(socket) => {
                self.hand_over4(turn, interface, packet, header, (cast, socket));
            }
            local::Verdict4::Drop(reason) => discard(turn, packet, reason),
            local::Verdict4::Refuse(reason, error) => {
                self.refuse4(turn, interface, packet, cast, (reason, error));
            }
        }
    }

    #[cold]
    fn local6(
        &mut self,
        turn: &mut Turn<'_>,
        interface: &Interface,
        mut packet: Packet,
        header: &ipv6::Header,
        (cast, came): (Cast, local::Came),
    ) {
        match local::input6(&packet, header, came) {
            local::Verdict6::Echo => {
                let source = match cast {
                    Cast::Unicast => Some(header.destination),
                    Cast::Group => source6(turn, interface, header.source),
                };
                match source.map(|source| icmp6::echo_reply(&mut packet, HEADER, source)) {
                    Some(Ok(())) => self.output6(turn, packet, header.source, interface),
                    _ => discard(turn, packet, Drop::IcmpMalformed),
                }
            }
            local::Verdict6::Reassemble(fragment) => self.gather6(turn, interface, packet, &fragment, cast),
            local::Verdict6::Deliver(socket) => {
                self.hand_over6(turn, interface, packet, header, (cast, socket));
            }
            local::Verdict6::Discovery(message) => self.discovery(turn, interface, packet, header, &message),
            local::Verdict6::Drop(reason) => discard(turn, packet, reason),
            local::Verdict6::Refuse(reason, error) => {
                self.refuse6(turn, interface, packet, cast, (reason, error));
            }
        }
    }

    #[cold]
    fn arp(&mut self, turn: &mut Turn<'_>, interface: &Interface, packet: Packet) {
        let station = ethernet::source(packet.data()).unwrap_or_default();
        let verdict = match arp::Message::parse(below(&packet).0) {
            Ok(message) => arp::input(&message, interface, turn.snapshot),
            Err(reason) => arp::Verdict::Drop(reason),
        };
        let end = match verdict {
            arp::Verdict::Drop(reason) => reason,
            arp::Verdict::Overheard(_) => Drop::ArpNotForUs,
            _ => Drop::Consumed,
        };
        discard(turn, packet, end);
        match verdict {
            arp::Verdict::Reply(reply, event) => {
                self.arp_frame(turn, interface, reply.frame(reply.target_mac));
                if let Some(event) = event {
                    self.learn4(turn, event);
                }
            }
            arp::Verdict::Learn(event) => self.learn4(turn, event),
            arp::Verdict::Overheard(event) => {
                if self.neighbors4.get(event.interface, event.address).is_some() {
                    self.learn4(turn, event);
                }
            }
            arp::Verdict::Conflict(announcement) => {
                if self.defends(turn.now) {
                    turn.egress.contested(interface.index, announcement.sender.into(), station);
                    self.arp_frame(turn, interface, announcement.frame(ethernet::BROADCAST));
                }
            }
            arp::Verdict::Contested(address) => {
                turn.egress.contested(interface.index, address.into(), station);
            }
            arp::Verdict::Drop(_) => {}
        }
    }

    #[cold]
    fn discovery(
        &mut self,
        turn: &mut Turn<'_>,
        interface: &Interface,
        packet: Packet,
        header: &ipv6::Header,
        message: &nd::Message,
    ) {
        let from = ethernet::source(packet.data()).unwrap_or_default();
        let verdict = nd::input(message, header, from, interface);
        let end = if let nd::Verdict::Drop(reason) = verdict { reason } else { Drop::Consumed };
        if verdict == nd::Verdict::Advertised
            && let Ok(icmp6::Message::Other { offset, len, .. }) = icmp6::parse(&packet, HEADER)
            && let Some(bytes) = packet.data().get(offset..offset + len)
        {
            turn.egress.advertised(interface.index, header.source, bytes);
        }
        discard(turn, packet, end);
        match verdict {
            nd::Verdict::Reply(reply, event) => {
                if let Some(event) = event {
                    self.learn6(turn, event);
                }
                let packet = nd::advertisement(turn.pool, interface, &reply);
                self.originate(turn, interface, packet);
            }
            nd::Verdict::Learn(event) => self.learn6(turn, event),
            nd::Verdict::Solicited(event) => {
                if let Some(event) = event {
                    self.learn6(turn, event);
                }
                match self.duty {
                    Duty::Speaker => self.advertiser.solicited(interface.index, turn.now, &mut self.timers),
                    Duty::Worker => self.tell(Event::RouterSolicited(interface.index)),
                }
            }
            nd::Verdict::Contested(address, by) => self.contested(turn, interface, address, by),
            nd::Verdict::Advertised | nd::Verdict::Drop(_) => {}
        }
    }

    /// Whether an address of ours may be defended now: once every ten seconds (RFC 5227 §2.4).
    fn defends(&mut self, now: Instant) -> bool {
        let may = now >= self.next_defence;
        if may {
            self.next_defence = now + arp::DEFEND_INTERVAL;
        }
        may
    }

    fn learn4(&mut self, turn: &mut Turn<'_>, event: neighbor::Event<Ipv4Addr>) {
        let known = self.neighbors4.get(event.interface, event.address).is_some();
        self.tell(Event::Neighbor4(event.told(known)));
        self.note4(turn, &event);
    }

    fn learn6(&mut self, turn: &mut Turn<'_>, event: neighbor::Event<Ipv6Addr>) {
        let known = self.neighbors6.get(event.interface, event.address).is_some();
        self.tell(Event::Neighbor6(event.told(known)));
        self.note6(turn, &event);
    }

    fn expired4(&mut self, turn: &mut Turn<'_>, number: u32) {
        match self.neighbors4.expire(number, turn.now, &mut self.timers) {
            Some(Due::Solicit { interface, address, to }) => self.solicit4(turn, interface, address, to),
            Some(Due::Failed { packets }) => {
                packets.into_iter().for_each(|packet| self.undeliverable4(turn, packet));
            }
            None => {}
        }
    }

    fn note4(&mut self, turn: &mut Turn<'_>, event: &neighbor::Event<Ipv4Addr>) {
        if let Some((mac, waiting)) = self.neighbors4.learn(event, turn.now, &mut self.timers) {
            self.release(turn, event.interface, mac, waiting);
        }
    }

    fn expired6(&mut self, turn: &mut Turn<'_>, number: u32) {
        match self.neighbors6.expire(number, turn.now, &mut self.timers) {
            Some(Due::Solicit { interface, address, to }) => self.solicit6(turn, interface, address, to),
            Some(Due::Failed { packets }) => {
                packets.into_iter().for_each(|packet| self.undeliverable6(turn, packet));
            }
            None => {}
        }
    }

    fn note6(&mut self, turn: &mut Turn<'_>, event: &neighbor::Event<Ipv6Addr>) {
        if let Some((mac, waiting)) = self.neighbors6.learn(event, turn.now, &mut self.timers) {
            self.release(turn, event.interface, mac, waiting);
        }
    }
}

/// Ends a packet's way: counted where it came in, its buffers back in the pool.
#[inline]
fn discard(turn: &mut Turn<'_>, packet: Packet, reason: Drop) {
    end(turn, packet, Framing::Whole, reason);
}

/// As [`discard`], of a packet that has no Ethernet header yet.
#[cold]
fn discard_bare(turn: &mut Turn<'_>, packet: Packet, reason: Drop) {
    end(turn, packet, Framing::Bare, reason);
}

#[inline]
fn end(turn: &mut Turn<'_>, packet: Packet, framing: Framing, reason: Drop) {
    turn.snapshot.counters(packet.meta().received).dropped(turn.cx.cpu(), reason);
    if reason != Drop::Consumed {
        turn.snapshot.taps().dropped(turn.cx, &packet, framing, reason);
    }
    turn.pool.free(packet);
}

/// Counts what a waiting packet pushed out; whether to solicit.
fn admitted(turn: &mut Turn<'_>, admission: Admission) -> Solicit {
    for (packet, reason) in admission.discards {
        discard(turn, packet, reason);
    }
    admission.solicit
}

/// What follows the Ethernet header in the first segment, and how many bytes follow in all.
#[inline]
fn below(packet: &Packet) -> (&[u8], usize) {
    (packet.data().get(HEADER..).unwrap_or(&[]), packet.len().saturating_sub(HEADER))
}

/// The flow hash; packets without one are all of one flow.
fn hashed(packet: &mut Packet) -> u32 {
    flow::hash(packet).unwrap_or_default()
}

/// The interface at `index`, if it takes part.
fn up<'a>(turn: &Turn<'a>, index: IfIndex) -> Option<&'a Interface> {
    turn.snapshot.interface(index).filter(|interface| interface.state == State::Up)
}

/// Why an IPv4 packet longer than the egress's MTU cannot pass, with the error if one is due. `None`: it can, in parts.
#[cold]
fn too_big4(packet: &Packet, header: &ipv4::Header, out: &Interface) -> Option<(Drop, Option<icmp::Error>)> {
    if packet.meta().gso.is_some() {
        match segment::largest(packet, HEADER) {
            None => return Some((Drop::OffloadMalformed, None)),
            Some(largest) if largest <= out.mtu.into() => return None,
            Some(_) => {}
        }
    }
    let error = icmp::Error::FragmentationNeeded { mtu: out.mtu };
    header.dont_fragment().then_some((Drop::TooBig, Some(error)))
}

/// As [`too_big4`]: only the source fragments IPv6 packets (RFC 8200 §5).
#[cold]
fn too_big6(packet: &Packet, out: &Interface) -> Option<(Drop, Option<icmp6::Error>)> {
    if packet.meta().gso.is_some() {
        match segment::largest(packet, HEADER) {
            None => return Some((Drop::OffloadMalformed, None)),
            Some(largest) if largest <= out.mtu.into() => return None,
            Some(_) => {}
        }
    }
    Some((Drop::TooBig, Some(icmp6::Error::PacketTooBig { mtu: out.mtu.into() })))
}
