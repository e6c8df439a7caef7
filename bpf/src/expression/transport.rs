//! Ports.

use super::Wrong;
use super::lower::{Lower, Place, Qualified};
use super::syntax::{Direction, Identity, What};
use super::table::Id;
use super::value::{Compare, Size};
use super::words::{IP, IP6, Protocol, SCTP, TCP, UDP, service};

/// Ports from and to, and the one protocol that they are of, if it is one.
#[derive(Clone, Copy)]
struct Ports {
    first: u32,
    last: u32,
    is_range: bool,
    protocol: Option<u8>,
}

impl Lower {
    /// A port or a range of them.
    pub(super) fn port(&mut self, qualified: &Qualified<'_>) -> Result<Id, Wrong> {
        let Qualified { qualifiers, identity, name, span, value } = *qualified;
        let protocol = match qualifiers.protocol {
            None => None,
            Some(Protocol::Ip(number @ (TCP | UDP | SCTP))) => Some(number),
            _ => {
                return Err(Wrong::new(span.clone(), &["only tcp, udp and sctp have ports"])
                    .help("join others by and: ip and port 80"));
            }
        };
        let is_range = qualifiers.kind == Some(What::PortRange);
        let ports = match (identity, name) {
            (Identity::Number(number), _) => Ports { first: *number, last: *number, is_range, protocol },
            (_, Some(name)) if is_range => {
                let Some((first, last)) =
                    name.split_once('-').and_then(|(first, last)| Some((port(first)?, port(last)?)))
                else {
                    return Err(Wrong::new(value.clone(), &["\"", name, "\" is no range of ports"])
                        .help("write it as 6000-6008"));
                };
                Ports { first: first.min(last), last: first.max(last), is_range, protocol }
            }
            (_, Some(name)) => {
                let Some((number, only)) = service(name) else {
                    return Err(Wrong::new(
                        value.clone(),
                        &["\"", name, "\" is the name of no port known here"],
                    )
                    .help("write its number"));
                };
                if let (Some(wanted @ (TCP | UDP)), Some(only)) = (protocol, only)
                    && wanted != only
                {
                    let name_of = if only == TCP { "tcp" } else { "udp" };
                    return Err(Wrong::new(value.clone(), &["\"", name, "\" is a port of ", name_of]));
                }
                let number = number.into();
                Ports { first: number, last: number, is_range, protocol: protocol.or(only) }
            }
            _ => return Err(Wrong::new(value.clone(), &["this is no port"])),
        };
        if ports.last > 0xffff {
            return Err(Wrong::new(value.clone(), &["the numbers of ports end with 65535"]));
        }
        let network = self.headers.network;
        let ip6 = self.carries(IP6, span)?;
        let in_ip6 = self.each_protocol(ports, |lower, protocol| {
            let carried = lower.equal(Size::Byte, network.plus(6), protocol.into());
            let right = lower.ends(network.plus(40), ports, qualifiers.direction);
            lower.conditions.both(carried, right)
        });
        let in_ip6 = self.conditions.both(ip6, in_ip6);
        let ip4 = self.carries(IP, span)?;
        let in_ip4 = self.each_protocol(ports, |lower, protocol| {
            let carried = lower.equal(Size::Byte, network.plus(9), protocol.into());
            let whole = lower.first_fragment();
            let carried = lower.conditions.both(carried, whole);
            let behind = lower.behind_ip4();
            let right = lower.ends(behind, ports, qualifiers.direction);
            lower.conditions.both(carried, right)
        });
        let in_ip4 = self.conditions.both(ip4, in_ip4);
        Ok(self.conditions.either(in_ip6, in_ip4))
    }

    fn each_protocol(&mut self, ports: Ports, mut holds: impl FnMut(&mut Self, u8) -> Id) -> Id {
        if let Some(protocol) = ports.protocol {
            return holds(self, protocol);
        }
        let mut any = holds(self, SCTP);
        for protocol in [TCP, UDP] {
            let one = holds(self, protocol);
            any = self.conditions.either(any, one);
        }
        any
    }

    /// Whether the ports at the beginning of a header are these.
    fn ends(&mut self, header: Place, ports: Ports, direction: Option<Direction>) -> Id {
        self.either_end(direction, |lower, end| {
            let at = header.plus(if end == Direction::Source { 0 } else { 2 });
            if !ports.is_range {
                return lower.equal(Size::Half, at, ports.first);
            }
            let port = lower.load(Size::Half, at);
            let from = lower.compare(port, Compare::GreaterOrEqual, ports.first);
            let beyond = lower.compare(port, Compare::Greater, ports.last);
            let to = lower.conditions.not(beyond);
            lower.conditions.both(from, to)
        })
    }
}

fn port(text: &str) -> Option<u32> {
    match service(text) {
        Some((port, _)) => Some(port.into()),
        None => text.parse().ok(),
    }
}
