//! What is addressed to the router itself: echo, neighbour discovery, fragments of them, and polite refusals of the rest.

use crate::address::{Kind, kind6};
use crate::checksum::{ICMP, ICMPV6, TCP, UDP};
use crate::egress::Upper as SocketKind;
use crate::ethernet::{self, Cast};
use crate::icmp;
use crate::icmp6::{self, Problem};
use crate::ipv4;
use crate::ipv6;
use crate::ipv6ext::{
    AUTHENTICATION, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, NO_NEXT_HEADER, ROUTING, Upper,
    is_cut_first_fragment, upper_layer,
};
use crate::nd;
use crate::reassembly::{Flaw, Fragment};
use weir_netif::{Drop, Packet};

/// IGMP's protocol number: spoken to groups, never refused.
const IGMP: u8 = 2;
/// Options every node knows (RFC 8200 §4.2, RFC 2711): padding, and the router alert.
const KNOWN_OPTIONS: [u8; 3] = [0, 1, 5];

/// What to do with an IPv4 packet to the router.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict4 {
    /// Answer the echo request.
    Echo,
    /// Put it together with the rest of its datagram.
    Reassemble(Fragment),
    /// Sockets may want it.
    Deliver(Socket),
    /// Forget it.
    Drop(Drop),
    /// Forget it and tell its sender.
    Refuse(Drop, icmp::Error),
}

/// Where a socket's packet has what a socket is found by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Socket {
    /// What it is.
    pub kind: SocketKind,
    /// Bytes from the start of the packet buffer to its TCP or UDP header; of an error, to the packet quoted in it. Of an echo
    /// reply nothing.
    pub offset: usize,
    /// Bytes from there to the end.
    pub len: usize,
    /// The port of this side; the identifier of an echo request.
    pub port: u16,
}

impl Socket {
    fn of(packet: &Packet, protocol: u8, offset: usize, end: usize) -> Option<Self> {
        let kind = if protocol == TCP { SocketKind::Tcp } else { SocketKind::Udp };
        let &[_, _, high, low] = packet.data().get(offset..)?.first_chunk()?;
        let len = end.checked_sub(offset)?;
        Some(Self { kind, offset, len, port: u16::from_be_bytes([high, low]) })
    }

    /// The reply to an echo request with this identifier.
    fn echo(port: u16) -> Self {
        Self { kind: SocketKind::Echo, offset: 0, len: 0, port }
    }

    /// What the quotation at `offset` of an ICMP error is about. The router sends without options and extension headers.
    fn quoted(packet: &Packet, offset: usize) -> Option<Self> {
        let mut quoted = [0; 64];
        let len = packet.copy_out(offset, &mut quoted);
        let quoted = quoted.get(..len)?;
        let (protocol, upper) = match quoted.first()? >> 4 {
            4 => (*quoted.get(9)?, quoted.get(usize::from(quoted.first()? & 15) * 4..)?),
            _ => (*quoted.get(6)?, quoted.get(40..)?),
        };
        let kind = match protocol {
            TCP => SocketKind::TcpError,
            UDP => SocketKind::UdpError,
            ICMP | ICMPV6 if matches!(upper.first()?, 8 | 128) => SocketKind::EchoError,
            _ => return None,
        };
        let &[high, low, _, _] =
            if kind == SocketKind::EchoError { upper.get(4..)? } else { upper }.first_chunk()?;
        Some(Self { kind, offset, len, port: u16::from_be_bytes([high, low]) })
    }
}

/// Judges the IPv4 packet of a frame.
pub fn input4(packet: &Packet, header: &ipv4::Header, cast: Cast) -> Verdict4 {
    if header.is_fragment() {
        // Nothing that is sent to a group is answered, and what a device still owes would be owed by the whole.
        if cast == Cast::Group || !packet.meta().is_plain() {
            return Verdict4::Drop(Drop::LocalFragment);
        }
        return Fragment::parse4(packet).map_or_else(Verdict4::Drop, Verdict4::Reassemble);
    }
    match header.protocol {
        ICMP => match icmp::parse(packet, ethernet::HEADER) {
            Err(_) => Verdict4::Drop(Drop::IcmpMalformed),
            // An echo request to a broadcast or group may be ignored (RFC 1122 §3.2.2.6): it makes an amplifier.
            Ok(icmp::Message::EchoRequest { .. }) if cast == Cast::Unicast => Verdict4::Echo,
            Ok(icmp::Message::EchoReply { id, .. }) if cast == Cast::Unicast => {
                Verdict4::Deliver(Socket::echo(id))
            }
            Ok(icmp::Message::Error { quoted, .. }) if cast == Cast::Unicast => {
                let socket = Socket::quoted(packet, quoted);
                socket.map_or(Verdict4::Drop(Drop::IcmpUnhandled), Verdict4::Deliver)
            }
            Ok(_) => Verdict4::Drop(Drop::IcmpUnhandled),
        },
        // Segments to groups are nobody's (RFC 9293 §3.9.2.3).
        TCP if cast == Cast::Group => Verdict4::Drop(Drop::LocalProtocol),
        UDP | TCP => {
            let offset = ethernet::HEADER + usize::from(header.header_len);
            let socket = Socket::of(packet, header.protocol, offset, packet.len());
            socket.map_or(Verdict4::Drop(Drop::LocalProtocol), Verdict4::Deliver)
        }
        IGMP => Verdict4::Drop(Drop::LocalProtocol),
        _ => Verdict4::Refuse(Drop::LocalProtocol, icmp::Error::ProtocolUnreachable),
    }
}

/// What to do with an IPv6 packet to the router.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict6 {
    /// Answer the echo request.
    Echo,
    /// Put it together with the rest of its packet.
    Reassemble(Fragment),
    /// Sockets may want it.
    Deliver(Socket),
    /// Neighbour discovery says this.
    Discovery(nd::Message),
    /// Forget it.
    Drop(Drop),
    /// Forget it and tell its sender.
    Refuse(Drop, icmp6::Error),
}

/// How a packet came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Came {
    /// As it is.
    Whole,
    /// In fragments.
    InFragments,
}

/// Judges the IPv6 packet of a frame.
pub fn input6(packet: &Packet, header: &ipv6::Header, came: Came) -> Verdict6 {
    let Ok(upper) = upper_layer(packet, ethernet::HEADER) else {
        if is_cut_first_fragment(packet, ethernet::HEADER) {
            return flawed(Flaw::HeadersCut, 0);
        }
        return Verdict6::Drop(Drop::Ipv6Extension);
    };
    let named_at = match extensions(packet, header, &upper) {
        Ok(named_at) => named_at,
        Err(verdict) => return verdict,
    };
    if let Some(routing) = upper.routing.filter(|routing| routing.segments_left > 0) {
        // RFC 8200 §4.4: no routing type is known here, 0 on purpose (RFC 5095).
        return problem(Problem::Header, routing.header + 2);
    }
    // One that is the whole packet is none (RFC 6946).
    let fragmented = upper.fragment.is_some() || came == Came::InFragments;
    if let Some(fragment) = upper.fragment.filter(|fragment| fragment.offset != 0 || fragment.more) {
        if !packet.meta().is_plain() {
            return Verdict6::Drop(Drop::LocalFragment);
        }
        return match Fragment::parse6(packet, &fragment, &upper) {
            Ok(fragment) => Verdict6::Reassemble(fragment),
            Err(flaw) => flawed(flaw, fragment.header),
        };
    }
    match upper.protocol {
        ICMPV6 => icmp6(packet, header, fragmented),
        TCP if kind6(header.destination) == Kind::Multicast => Verdict6::Drop(Drop::LocalProtocol),
        UDP | TCP => {
            let socket = Socket::of(packet, upper.protocol, upper.offset, packet.len());
            socket.map_or(Verdict6::Drop(Drop::LocalProtocol), Verdict6::Deliver)
        }
        NO_NEXT_HEADER => Verdict6::Drop(Drop::LocalProtocol),
        _ => match problem(Problem::NextHeader, named_at) {
            Verdict6::Refuse(_, error) => Verdict6::Refuse(Drop::LocalProtocol, error),
            other => other,
        },
    }
}

fn icmp6(packet: &Packet, header: &ipv6::Header, fragmented: bool) -> Verdict6 {
    match icmp6::parse(packet, ethernet::HEADER) {
        Err(_) => Verdict6::Drop(Drop::IcmpMalformed),
        Ok(icmp6::Message::EchoRequest { .. }) => Verdict6::Echo,
        Ok(icmp6::Message::EchoReply { id, .. }) if kind6(header.destination) != Kind::Multicast => {
            Verdict6::Deliver(Socket::echo(id))
        }
        Ok(icmp6::Message::Other { kind, offset, len, .. }) if nd::is_discovery(kind) => {
            // RFC 6980 §5: never in fragments.
            let bytes = packet.data().get(offset..offset + len).filter(|_| !fragmented).unwrap_or(&[]);
            match nd::Message::parse(bytes, header) {
                Ok(message) => Verdict6::Discovery(message),
                Err(reason) => Verdict6::Drop(reason),
            }
        }
        Ok(icmp6::Message::Error { quoted, .. }) if kind6(header.destination) != Kind::Multicast => {
            let socket = Socket::quoted(packet, quoted);
            socket.map_or(Verdict6::Drop(Drop::IcmpUnhandled), Verdict6::Deliver)
        }
        Ok(_) => Verdict6::Drop(Drop::IcmpUnhandled),
    }
}

/// What a fragment's sender hears of what is wrong with it (RFC 8200 §4.5); its fragment header stands at `header`.
fn flawed(flaw: Flaw, header: usize) -> Verdict6 {
    let told = match flaw {
        Flaw::Empty => Verdict6::Drop(Drop::FragmentMalformed),
        // The payload length is what is wrong.
        Flaw::PartialUnit => problem(Problem::Header, ethernet::HEADER + 4),
        Flaw::TooLong => problem(Problem::Header, header + 2),
        Flaw::HeadersCut => problem(Problem::FirstFragment, ethernet::HEADER),
    };
    match told {
        Verdict6::Refuse(_, error) => Verdict6::Refuse(Drop::FragmentMalformed, error),
        silent => silent,
    }
}

/// Looks at the options of the extension headers. Returns where the upper layer's protocol is named, or what an
/// unknown option asks for (RFC 8200 §4.2).
fn extensions(packet: &Packet, header: &ipv6::Header, upper: &Upper) -> Result<usize, Verdict6> {
    let broken = Verdict6::Drop(Drop::Ipv6Extension);
    let (mut next, mut named_at) = (header.next_header, ethernet::HEADER + 6);
    let mut at = ethernet::HEADER + ipv6::HEADER;
    // Each header is at least eight bytes, and `upper_layer` has bounded their number.
    while at < upper.offset {
        let rest = packet.data().get(at..upper.offset).ok_or(broken)?;
        let &[following, units, ..] = rest else { return Err(broken) };
        let len = match next {
            FRAGMENT => 8,
            AUTHENTICATION => (usize::from(units) + 2) * 4,
            HOP_BY_HOP | DESTINATION_OPTIONS | ROUTING => (usize::from(units) + 1) * 8,
            _ => return Err(broken),
        };
        if matches!(next, HOP_BY_HOP | DESTINATION_OPTIONS) {
            let group = kind6(header.destination) == Kind::Multicast;
            options(rest.get(2..len).ok_or(broken)?, at + 2, group)?;
        }
        (next, named_at, at) = (following, at, at + len);
    }
    Ok(named_at)
}

fn options(mut options: &[u8], mut at: usize, group: bool) -> Result<(), Verdict6> {
    let broken = Verdict6::Drop(Drop::Ipv6Extension);
    while let [kind, rest @ ..] = options {
        let len = match (kind, rest.first()) {
            (0, _) => 1,
            (_, Some(len)) => usize::from(*len) + 2,
            (_, None) => return Err(broken),
        };
        options = options.get(len..).ok_or(broken)?;
        if !KNOWN_OPTIONS.contains(kind) {
            match kind >> 6 {
                0 => {}
                1 => return Err(broken),
                3 if group => return Err(broken),
                _ => return Err(problem(Problem::Option, at)),
            }
        }
        at += len;
    }
    Ok(())
}

/// The refusal that points at the byte `at` of the frame.
fn problem(problem: Problem, at: usize) -> Verdict6 {
    let pointer = at.saturating_sub(ethernet::HEADER) as u32;
    Verdict6::Refuse(Drop::Ipv6Extension, icmp6::Error::ParameterProblem { problem, pointer })
}
