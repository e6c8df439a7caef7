//! To and from the router's own sockets, which are tasks': a packet goes to the CPU that its flow belongs to, and what
//! sockets send goes the way of everything that the router says of its own accord.

use super::*;
use crate::address::group_mac;
use crate::checksum::{transport4_ok, transport6_ok};
use crate::egress::{Delivery, Local, Upper};
use crate::local::Socket;
use crate::tcp;
use core::net::IpAddr;

/// The flow of packets to broadcasts and groups: those of the first CPU.
const GROUP_FLOW: u32 = 0;
/// Ports of the router's own DHCP clients (RFC 2131 §4.1, RFC 8415 §7.2), which are on the first CPU: their servers answer to
/// broadcasts or to addresses, as they like.
const CLIENTS: [u16; 2] = [68, 546];

impl Stack {
    /// Sends a packet of a socket's, which begins with its IP header and has headroom; or an ARP message, to all. Link-local destinations, groups and
    /// broadcasts are on `link`, others are routed. [`flush`](Self::flush) comes at the end.
    pub fn send(&mut self, turn: &mut Turn<'_>, mut packet: Packet, link: IfIndex) {
        self.originated += 1;
        packet.meta_mut().received = link;
        let Some(interface) = up(turn, link) else { return discard_bare(turn, packet, Drop::InterfaceDown) };
        match packet.data().first().map(|first| first >> 4) {
            Some(4) => match ipv4::Header::parse(packet.data(), packet.len()) {
                Ok(header) => {
                    let to = header.destination;
                    let all = to.is_broadcast()
                        || interface
                            .addresses4
                            .iter()
                            .any(|own| own.network.last() == to && own.network.len() < 31);
                    match (all, to.is_multicast()) {
                        (true, _) => {
                            self.frame(turn, interface, packet, (ethernet::BROADCAST, ethernet::IPV4))
                        }
                        (_, true) => {
                            let [_, b, c, d] = to.octets();
                            let mac = [0x01, 0, 0x5e, b & 0x7f, c, d];
                            self.frame(turn, interface, packet, (mac, ethernet::IPV4));
                        }
                        _ => self.output4_framed(turn, packet, to),
                    }
                }
                Err(reason) => discard_bare(turn, packet, reason),
            },
            // The first byte of a hardware type.
            Some(0) => self.frame(turn, interface, packet, (ethernet::BROADCAST, ethernet::ARP)),
            _ => match ipv6::Header::parse(packet.data(), packet.len()) {
                Ok(header) if header.destination.is_multicast() => {
                    let mac = group_mac(header.destination);
                    self.frame(turn, interface, packet, (mac, ethernet::IPV6));
                }
                Ok(header) => self.output6_framed(turn, packet, header.destination, interface),
                Err(reason) => discard_bare(turn, packet, reason),
            },
        }
    }

    /// Sends what has gathered.
    pub fn flush(&mut self, turn: &mut Turn<'_>) {
        self.lanes.flush(turn);
    }

    fn frame(
        &mut self,
        turn: &mut Turn<'_>,
        interface: &Interface,
        mut packet: Packet,
        (to, kind): ([u8; 6], u16),
    ) {
        match packet.push(HEADER) {
            Some(header) => header.copy_from_slice(&ethernet::header(to, interface.mac, kind)),
            None => return discard_bare(turn, packet, Drop::NoBuffer),
        }
        self.lanes.send(turn, interface, packet);
    }

    /// Hands an IPv4 packet to a socket; without one, says so to its sender.
    #[cold]
    pub(super) fn hand_over4(
        &mut self,
        turn: &mut Turn<'_>,
        interface: &Interface,
        packet: Packet,
        header: &ipv4::Header,
        (cast, socket): (Cast, Socket),
    ) {
        let Some(packet) = deliver(turn, interface, packet, cast, &socket) else { return };
        match socket.kind {
            Upper::Tcp => {
                let (source, destination) = (header.source, header.destination);
                let sound = transport4_ok(&packet, socket.offset, socket.len, source, destination, 6);
                let ends = (destination.into(), source.into());
                self.refuse_tcp(turn, interface, packet, &socket, (ends, sound));
            }
            Upper::Udp => {
                let error = icmp::Error::PortUnreachable;
                self.refuse4(turn, interface, packet, cast, (Drop::LocalProtocol, error));
            }
            Upper::TcpError | Upper::UdpError | Upper::Echo | Upper::EchoError => {
                discard(turn, packet, Drop::IcmpUnhandled)
            }
        }
    }

    /// As [`hand_over4`](Self::hand_over4).
    #[cold]
    pub(super) fn hand_over6(
        &mut self,
        turn: &mut Turn<'_>,
        interface: &Interface,
        packet: Packet,
        header: &ipv6::Header,
        (cast, socket): (Cast, Socket),
    ) {
        let Some(packet) = deliver(turn, interface, packet, cast, &socket) else { return };
        match socket.kind {
            Upper::Tcp => {
                let (source, destination) = (header.source, header.destination);
                let sound = transport6_ok(&packet, socket.offset, socket.len, source, destination, 6);
                let ends = (destination.into(), source.into());
                self.refuse_tcp(turn, interface, packet, &socket, (ends, sound));
            }
            Upper::Udp => {
                let error = icmp6::Error::PortUnreachable;
                self.refuse6(turn, interface, packet, cast, (Drop::LocalProtocol, error));
            }
            Upper::TcpError | Upper::UdpError | Upper::Echo | Upper::EchoError => {
                discard(turn, packet, Drop::IcmpUnhandled)
            }
        }
    }

    /// Drops a segment to a closed port and resets its sender, as often as ICMP errors may be sent.
    fn refuse_tcp(
        &mut self,
        turn: &mut Turn<'_>,
        interface: &Interface,
        packet: Packet,
        socket: &Socket,
        (ends, sound): ((IpAddr, IpAddr), bool),
    ) {
        let (local, remote) = ends;
        let segment = (socket.offset, socket.len);
        if sound && let Some(reset) = tcp::reset(turn.pool, &packet, segment, ends) {
            self.originated += 1;
            if !self.errors.take(turn.now, remote) {
                interface.counters.dropped(turn.cx.cpu(), Drop::IcmpRateLimited);
                turn.pool.free(reset);
            } else {
                match (local, remote) {
                    (_, IpAddr::V4(remote)) => self.output4_framed(turn, reset, remote),
                    (_, IpAddr::V6(remote)) => self.output6_framed(turn, reset, remote, interface),
                }
            }
        }
        discard(turn, packet, Drop::LocalProtocol);
    }

    /// Gives up a packet of a socket's whose neighbour did not answer, and tells the socket as a router would.
    #[cold]
    pub(super) fn tell_socket4(
        &mut self,
        turn: &mut Turn<'_>,
        interface: &Interface,
        packet: Packet,
        reason: Drop,
    ) {
        let header = ipv4::Header::parse(below(&packet).0, usize::MAX);
        if let Ok(header) = header
            && let Some(error) = icmp::error(
                turn.pool,
                &packet,
                HEADER,
                icmp::Cast::Host,
                icmp::Error::HostUnreachable,
                header.source,
            )
        {
            self.originated += 1;
            self.told(turn, interface, error, ethernet::IPV4);
        }
        discard(turn, packet, reason);
    }

    /// As [`tell_socket4`](Self::tell_socket4).
    #[cold]
    pub(super) fn tell_socket6(
        &mut self,
        turn: &mut Turn<'_>,
        interface: &Interface,
        packet: Packet,
        reason: Drop,
    ) {
        let header = ipv6::Header::parse(below(&packet).0, usize::MAX);
        let why = icmp6::Error::AddressUnreachable;
        if let Ok(header) = header
            && let Some(error) =
                icmp6::error(turn.pool, &packet, HEADER, icmp::Cast::Host, why, header.source)
        {
            self.originated += 1;
            self.told(turn, interface, error, ethernet::IPV6);
        }
        discard(turn, packet, reason);
    }

    /// Takes an ICMP error of the router to itself as if it had come in.
    fn told(&mut self, turn: &mut Turn<'_>, interface: &Interface, mut error: Packet, kind: u16) {
        match error.push(HEADER) {
            Some(header) => header.copy_from_slice(&ethernet::header(interface.mac, interface.mac, kind)),
            None => return discard_bare(turn, error, Drop::NoBuffer),
        }
        if kind == ethernet::IPV4 {
            match ipv4::Header::parse(below(&error).0, usize::MAX) {
                Ok(header) => self.local4(turn, interface, error, &header, Cast::Unicast),
                Err(reason) => discard(turn, error, reason),
            }
        } else {
            match ipv6::Header::parse(below(&error).0, usize::MAX) {
                Ok(header) => {
                    self.local6(turn, interface, error, &header, (Cast::Unicast, local::Came::Whole));
                }
                Err(reason) => discard(turn, error, reason),
            }
        }
    }
}

/// Brings a packet to the CPU of its flow and to the sockets there. `Some`: there is no socket for it.
fn deliver(
    turn: &mut Turn<'_>,
    interface: &Interface,
    mut packet: Packet,
    cast: Cast,
    socket: &Socket,
) -> Option<Packet> {
    let flow = match (socket.kind, cast) {
        // Who asks is on the first CPU.
        (Upper::Echo | Upper::EchoError, _) => GROUP_FLOW,
        (Upper::TcpError | Upper::UdpError, _) => {
            let mut quoted = [0; 64];
            let len = packet.copy_out(socket.offset, &mut quoted);
            flow::quoted(quoted.get(..len)?).unwrap_or_default()
        }
        (_, Cast::Group) => GROUP_FLOW,
        (Upper::Udp, _) if CLIENTS.contains(&socket.port) => GROUP_FLOW,
        (_, Cast::Unicast) => hashed(&mut packet),
    };
    let packet = turn.egress.bring_home(packet, flow)?;
    let local = Local { interface, kind: socket.kind, port: socket.port };
    match turn.egress.deliver(packet, &local) {
        Delivery::Taken => {
            interface.counters.dropped(turn.cx.cpu(), Drop::Consumed);
            None
        }
        Delivery::Full(packet) => {
            discard(turn, packet, Drop::TransportFull);
            None
        }
        Delivery::NoSocket(packet) => Some(packet),
    }
}
