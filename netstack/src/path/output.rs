//! What the router says of its own accord, and how it finds its way out.

use super::*;
use crate::fragment::{fragment4, fragment6};
use weir_netif::Pool;

/// What every link passes on, and all that is known of those behind the next (RFC 8200 §5): the router does not look for
/// the path's MTU.
const MIN_MTU6: usize = 1280;

impl Stack {
    /// Sends packets whose neighbour has answered.
    pub(super) fn release(
        &mut self,
        turn: &mut Turn<'_>,
        index: IfIndex,
        mac: [u8; 6],
        waiting: neighbor::Waiting,
    ) {
        for mut packet in waiting {
            match up(turn, index) {
                Some(out) => {
                    ethernet::readdress(&mut packet, mac, out.mac);
                    self.lanes.send(turn, out, packet);
                }
                None => discard(turn, packet, Drop::InterfaceDown),
            }
        }
    }

    pub(super) fn solicit4(
        &mut self,
        turn: &mut Turn<'_>,
        index: IfIndex,
        target: Ipv4Addr,
        to: Option<[u8; 6]>,
    ) {
        if let Some(interface) = up(turn, index) {
            self.arp_frame(turn, interface, arp::request(interface, target, to));
        }
    }

    pub(super) fn solicit6(
        &mut self,
        turn: &mut Turn<'_>,
        index: IfIndex,
        target: Ipv6Addr,
        to: Option<[u8; 6]>,
    ) {
        if let Some(interface) = up(turn, index) {
            let packet = nd::solicitation(turn.pool, interface, target, to);
            self.originate(turn, interface, packet);
        }
    }

    pub(super) fn arp_frame(&mut self, turn: &mut Turn<'_>, interface: &Interface, frame: [u8; arp::FRAME]) {
        let packet = turn.pool.alloc_from(&frame);
        self.originate(turn, interface, packet);
    }

    /// Sends a whole frame of the router's own. Without a buffer it is counted as lost.
    pub(super) fn originate(&mut self, turn: &mut Turn<'_>, interface: &Interface, packet: Option<Packet>) {
        self.originated += 1;
        match packet {
            Some(mut packet) => {
                packet.meta_mut().received = interface.index;
                self.lanes.send(turn, interface, packet);
            }
            None => interface.counters.dropped(turn.cx.cpu(), Drop::NoBuffer),
        }
    }

    /// Drops an IPv4 packet and tells its sender why, as far as that is allowed.
    #[cold]
    pub(super) fn refuse4(
        &mut self,
        turn: &mut Turn<'_>,
        interface: &Interface,
        packet: Packet,
        cast: Cast,
        (reason, error): (Drop, icmp::Error),
    ) {
        let cast = match cast {
            Cast::Unicast => icmp::Cast::Host,
            Cast::Group => icmp::Cast::Group,
        };
        let header = ipv4::Header::parse(below(&packet).0, usize::MAX);
        if let Ok(header) = header
            && icmp::permitted(&packet, HEADER, cast)
            && let Some(source) = source4(turn, interface, header.source)
        {
            self.originated += 1;
            if !self.errors.take(turn.now, header.source.into()) {
                interface.counters.dropped(turn.cx.cpu(), Drop::IcmpRateLimited);
            } else if let Some(packet) = icmp::error(turn.pool, &packet, HEADER, cast, error, source) {
                self.output4_framed(turn, packet, header.source);
            } else {
                interface.counters.dropped(turn.cx.cpu(), Drop::NoBuffer);
            }
        }
        discard(turn, packet, reason);
    }

    /// Drops an IPv6 packet and tells its sender why, as far as that is allowed.
    #[cold]
    pub(super) fn refuse6(
        &mut self,
        turn: &mut Turn<'_>,
        interface: &Interface,
        packet: Packet,
        cast: Cast,
        (reason, error): (Drop, icmp6::Error),
    ) {
        let cast = match cast {
            Cast::Unicast => icmp::Cast::Host,
            Cast::Group => icmp::Cast::Group,
        };
        let header = ipv6::Header::parse(below(&packet).0, usize::MAX);
        if let Ok(header) = header
            && icmp6::permitted(&packet, HEADER, cast, error)
            && let Some(source) = source6(turn, interface, header.source)
        {
            self.originated += 1;
            if !self.errors.take(turn.now, header.source.into()) {
                interface.counters.dropped(turn.cx.cpu(), Drop::IcmpRateLimited);
            } else if let Some(packet) = icmp6::error(turn.pool, &packet, HEADER, cast, error, source) {
                self.output6_framed(turn, packet, header.source, interface);
            } else {
                interface.counters.dropped(turn.cx.cpu(), Drop::NoBuffer);
            }
        }
        discard(turn, packet, reason);
    }

    /// Gives up a packet whose neighbour did not answer (RFC 1812 §5.2.7.1, RFC 4861 §7.2.2).
    #[cold]
    pub(super) fn undeliverable4(&mut self, turn: &mut Turn<'_>, packet: Packet) {
        let reason = Drop::NeighborUnreachable;
        let header = ipv4::Header::parse(below(&packet).0, usize::MAX);
        match turn.snapshot.interface(packet.meta().received) {
            Some(interface) if header.is_ok_and(|header| !turn.snapshot.owns4(header.source)) => {
                self.refuse4(turn, interface, packet, Cast::Unicast, (reason, icmp::Error::HostUnreachable));
            }
            Some(interface) => self.tell_socket4(turn, interface, packet, reason),
            _ => discard(turn, packet, reason),
        }
    }

    /// As [`undeliverable4`](Self::undeliverable4).
    #[cold]
    pub(super) fn undeliverable6(&mut self, turn: &mut Turn<'_>, packet: Packet) {
        let reason = Drop::NeighborUnreachable;
        let header = ipv6::Header::parse(below(&packet).0, usize::MAX);
        match turn.snapshot.interface(packet.meta().received) {
            Some(interface)
                if header.is_ok_and(|header| {
                    !turn.snapshot.owns6(header.source) && !interface.owns6(header.source)
                }) =>
            {
                self.refuse6(
                    turn,
                    interface,
                    packet,
                    Cast::Unicast,
                    (reason, icmp6::Error::AddressUnreachable),
                );
            }
            Some(interface) => self.tell_socket6(turn, interface, packet, reason),
            _ => discard(turn, packet, reason),
        }
    }

    /// Puts an Ethernet header before an IPv4 packet of the router's own and sends it.
    pub(super) fn output4_framed(&mut self, turn: &mut Turn<'_>, mut packet: Packet, destination: Ipv4Addr) {
        match packet.push(HEADER) {
            Some(header) => header.copy_from_slice(&ethernet::header([0; 6], [0; 6], ethernet::IPV4)),
            None => return discard_bare(turn, packet, Drop::NoBuffer),
        }
        self.output4(turn, packet, destination);
    }

    /// As [`output4_framed`](Self::output4_framed).
    pub(super) fn output6_framed(
        &mut self,
        turn: &mut Turn<'_>,
        mut packet: Packet,
        destination: Ipv6Addr,
        link: &Interface,
    ) {
        match packet.push(HEADER) {
            Some(header) => header.copy_from_slice(&ethernet::header([0; 6], [0; 6], ethernet::IPV6)),
            None => return discard_bare(turn, packet, Drop::NoBuffer),
        }
        self.output6(turn, packet, destination, link);
    }

    /// Routes an IPv4 frame of the router's own.
    pub(super) fn output4(&mut self, turn: &mut Turn<'_>, mut packet: Packet, destination: Ipv4Addr) {
        let snapshot = turn.snapshot;
        let hop = match snapshot.route4(destination, || hashed(&mut packet)) {
            Some(&Route::Gateway { interface, via }) => snapshot.interface(interface).zip(Some(via)),
            Some(&Route::Connected { interface }) => snapshot.interface(interface).zip(Some(destination)),
            _ => None,
        };
        match hop {
            Some((out, next)) if is_too_big(&packet, out) => {
                let cut = |pool: &mut Pool, packet, each: &mut dyn FnMut(&mut Pool, Packet)| {
                    fragment4(packet, HEADER, out.mtu.into(), pool, each)
                };
                self.in_pieces(turn, packet, cut, |stack, turn, piece| {
                    stack.hop4(turn, piece, out, next, NextHop::Unnumbered)
                });
            }
            Some((out, next)) => self.hop4(turn, packet, out, next, NextHop::Unnumbered),
            None => discard(turn, packet, Drop::NoRoute),
        }
    }

    /// Routes an IPv6 frame of the router's own; a link-local destination is on `link`.
    pub(super) fn output6(
        &mut self,
        turn: &mut Turn<'_>,
        mut packet: Packet,
        destination: Ipv6Addr,
        link: &Interface,
    ) {
        let snapshot = turn.snapshot;
        let hop = match snapshot.route6(destination, || hashed(&mut packet)) {
            _ if destination.is_unicast_link_local() => Some((link, destination)),
            Some(&Route::Gateway { interface, via }) => snapshot.interface(interface).zip(Some(via)),
            Some(&Route::Connected { interface }) => snapshot.interface(interface).zip(Some(destination)),
            _ => None,
        };
        match hop {
            Some((out, next)) if is_too_big(&packet, out) => {
                let id = self.fragments.take();
                let cut = |pool: &mut Pool, packet, each: &mut dyn FnMut(&mut Pool, Packet)| {
                    fragment6(packet, HEADER, MIN_MTU6, id, pool, each)
                };
                self.in_pieces(turn, packet, cut, |stack, turn, piece| {
                    stack.hop6(turn, piece, out, next, NextHop::Unnumbered)
                });
            }
            Some((out, next)) => self.hop6(turn, packet, out, next, NextHop::Unnumbered),
            None => discard(turn, packet, Drop::NoRoute),
        }
    }

    /// Sends a packet of the router's own as fragments, one by one: so a neighbour that has to be asked for holds no more
    /// of them than of others.
    fn in_pieces(
        &mut self,
        turn: &mut Turn<'_>,
        packet: Packet,
        cut: impl FnOnce(&mut Pool, Packet, &mut dyn FnMut(&mut Pool, Packet)) -> Result<usize, Drop>,
        send: impl Fn(&mut Self, &mut Turn<'_>, Packet),
    ) {
        let received = packet.meta().received;
        let Turn { cx, snapshot, now, pool, egress } = turn;
        let done = cut(pool, packet, &mut |pool, piece| {
            send(self, &mut Turn { cx, snapshot, now: *now, pool, egress: *egress }, piece);
        });
        match done {
            Ok(pieces) => self.originated += (pieces as u64).saturating_sub(1),
            Err(reason) => {
                snapshot.counters(received).dropped(cx.cpu(), reason);
                snapshot.taps().vanished(cx, received, reason);
            }
        }
    }
}

/// Whether a frame of the router's own is too long for `out`.
fn is_too_big(packet: &Packet, out: &Interface) -> bool {
    packet.len() > HEADER + usize::from(out.mtu)
}

/// The source of an ICMP error to `to`: an address of the interface the packet came in by, so that a traceroute shows
/// the near side; that is the interface of RFC 1812 §4.3.2.4 unless routing is asymmetric. Without one, any of ours.
fn source4(turn: &Turn<'_>, interface: &Interface, to: Ipv4Addr) -> Option<Ipv4Addr> {
    let any = || turn.snapshot.interfaces().filter(|other| other.state == State::Up);
    interface.source4(to).or_else(|| any().find_map(|other| other.source4(to)))
}

/// As [`source4`]; a link-local destination is answered from a link-local address.
pub(super) fn source6(turn: &Turn<'_>, interface: &Interface, to: Ipv6Addr) -> Option<Ipv6Addr> {
    let local = || interface.link_local.first().copied();
    if to.is_unicast_link_local() {
        return local();
    }
    let any = || turn.snapshot.interfaces().filter(|other| other.state == State::Up);
    let global = interface.source6(to).or_else(|| any().find_map(|other| other.source6(to)));
    global.or_else(local)
}
