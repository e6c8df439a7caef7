//! What becomes of a packet, for people: the frame is made, [`weir_netstack::explain`] follows it, and what that found gets
//! the lines of the configuration that it comes from. A task's work.

use crate::config::{Config, Reject, Target};
use crate::manage::{Known, View};
use crate::observe::mac;
use crate::shared::Shared;
use crate::vlans::MAX_INDICES;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;
use ipnet::IpNet;
use toml::de::{DeTable, DeValue};
use weir_machine::{clock, mask};
use weir_manage::explain::{PROTOCOLS, Packet, Question};
use weir_manage::model::{ExplainedStep, Explanation, PacketEnd};
use weir_manage::problem::{Refused, refuse};
use weir_netif::{IfIndex, Pool};
use weir_netstack::checksum::internet;
use weir_netstack::ethernet::{self, Cast};
use weir_netstack::explain::{self, End, Explained, Step};
use weir_netstack::neighbor::State;
use weir_netstack::snapshot::{Interface, ReversePath, Route};
use weir_netstack::{Instant, Local, Upper};
use weir_transport::{Access, Protocol};

/// A station that is nobody's: locally administered.
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The sender's port.
const FROM_PORT: u16 = 50_000;
/// Characters of a line that are shown.
const LINE: usize = 40;
/// Texts beyond this are not searched for lines.
const SEARCHED: usize = 1 << 20;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// The interfaces' names.
type Names = Vec<(IfIndex, String)>;

/// Answers a question about the configuration in force, with what is known of the neighbours.
///
/// # Errors
/// There is no such interface, or no buffer for the packet.
pub(crate) fn explain(
    shared: &Shared,
    view: &View,
    neighbors: &[Known],
    question: &Question,
) -> Result<Explanation, Refused> {
    let mut stack = explain::stack(MAX_INDICES, neighbors);
    let mut pool = Pool::new(shared.arena);
    let now = Instant::from_nanos(clock::now());
    let followed = mask::masked(|cx| {
        let running = shared.running.read(cx);
        let snapshot = running.snapshot.apart();
        let interface = snapshot.interfaces().find(|interface| interface.name == question.interface);
        let interface = interface.ok_or_else(|| no_interface(question))?;
        let listens = |flow: u32, local: &Local<'_>| {
            let protocol = match local.kind {
                Upper::Tcp | Upper::TcpError => Protocol::Tcp,
                Upper::Udp | Upper::UdpError => Protocol::Udp,
            };
            let came = if local.interface.management { Access::Management } else { Access::Any };
            let ports = running.cpu_of(flow).and_then(|cpu| shared.ports.of(cpu).get());
            ports.is_some_and(|ports| ports.open(protocol, local.port, came))
        };
        let port = interface.link.port;
        let frame = frame(question, interface);
        let asked = explain::Question { port, frame: &frame, neighbors, listens: &listens };
        let told = explain::explain(cx, &mut stack, &snapshot, &mut pool, now, &asked);
        let names: Names = snapshot.interfaces().map(|own| (own.index, own.name.clone())).collect();
        Ok((told.ok_or_else(no_buffer)?, names))
    });
    let (told, names) = followed?;
    Ok(Words { config: &view.config, names: &names }.explanation(&told))
}

fn no_interface(question: &Question) -> Refused {
    refuse(
        404,
        "There is no such interface in service",
        format!("found {:?}", question.interface),
        "name one that is up or down; `show interfaces` lists them",
    )
}

fn no_buffer() -> Refused {
    refuse(503, "There is no buffer for the packet", "all are in use", "try again in a second")
}

/// The frame that is asked about.
fn frame(question: &Question, interface: &Interface) -> Vec<u8> {
    let &Packet::Ip { source, destination, protocol, port, len, ttl } = &question.packet else {
        let Packet::Frame(bytes) = &question.packet else { return Vec::new() };
        return bytes.clone();
    };
    let head = if source.is_ipv4() { 20 } else { 40 };
    let upper = match protocol {
        TCP => 20,
        UDP | 1 | 58 => 8,
        _ => 0,
    };
    let payload = vec![0; usize::from(len).saturating_sub(head).max(upper)];
    let payload = transport(payload, (source, destination), protocol, port);
    let mut packet = vec![0; head];
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total = (head + payload.len()) as u16;
            packet[0] = 0x45;
            packet[2..4].copy_from_slice(&total.to_be_bytes());
            (packet[8], packet[9]) = (ttl, protocol);
            packet[12..16].copy_from_slice(&source.octets());
            packet[16..].copy_from_slice(&destination.octets());
            let sum = internet(&packet).to_be_bytes();
            packet[10..12].copy_from_slice(&sum);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            packet[0] = 0x60;
            packet[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
            (packet[6], packet[7]) = (protocol, ttl);
            packet[8..24].copy_from_slice(&source.octets());
            packet[24..].copy_from_slice(&destination.octets());
        }
        // A question has two of a kind.
        _ => {}
    }
    let kind = if head == 20 { ethernet::IPV4 } else { ethernet::IPV6 };
    let mut frame = ethernet::header(station(interface, destination), SENDER, kind).to_vec();
    if interface.link.vlan != 0 {
        let [high, low] = interface.link.vlan.to_be_bytes();
        frame.splice(12..12, [0x81, 0, high, low]);
    }
    frame.extend(packet);
    frame.extend(payload);
    frame
}

/// Whom a host sends a packet to: the router, or a group's station.
fn station(interface: &Interface, destination: IpAddr) -> [u8; 6] {
    match destination {
        IpAddr::V4(to) if to.is_broadcast() => ethernet::BROADCAST,
        IpAddr::V4(to) if to.is_multicast() => {
            let [_, b, c, d] = to.octets();
            [0x01, 0, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(to) if to.is_multicast() => {
            let [.., a, b, c, d] = to.octets();
            [0x33, 0x33, a, b, c, d]
        }
        _ => interface.mac,
    }
}

/// The payload with the header of its protocol, whose checksum is right.
fn transport(mut payload: Vec<u8>, (from, to): (IpAddr, IpAddr), protocol: u8, port: u16) -> Vec<u8> {
    let len = payload.len() as u32;
    let at = match protocol {
        TCP => {
            // SYN, without options.
            (payload[12], payload[13]) = (5 << 4, 2);
            16
        }
        UDP => {
            payload[4..6].copy_from_slice(&(len as u16).to_be_bytes());
            6
        }
        1 | 58 => {
            payload[0] = if protocol == 1 { 8 } else { 128 };
            2
        }
        _ => return payload,
    };
    if matches!(protocol, TCP | UDP) {
        payload[..2].copy_from_slice(&FROM_PORT.to_be_bytes());
        payload[2..4].copy_from_slice(&port.to_be_bytes());
    }
    let mut summed = Vec::new();
    if protocol != 1 {
        for address in [from, to] {
            match address {
                IpAddr::V4(address) => summed.extend(address.octets()),
                IpAddr::V6(address) => summed.extend(address.octets()),
            }
        }
        summed.extend(len.to_be_bytes());
        summed.extend([0, 0, 0, protocol]);
    }
    summed.extend(&payload);
    let sum = match internet(&summed) {
        0 if protocol == UDP => 0xffff,
        sum => sum,
    };
    payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    payload
}

/// Puts what was found into words.
struct Words<'c> {
    config: &'c Config,
    names: &'c Names,
}

/// A place in the configuration's text.
enum Place<'p> {
    Interface(&'p str, &'p str),
    Route(usize),
}

impl Words<'_> {
    fn name(&self, index: IfIndex) -> &str {
        self.names.iter().find(|(own, _)| *own == index).map_or("no interface", |(_, name)| name)
    }

    fn explanation(&self, told: &Explained) -> Explanation {
        let text = &*self.config.text.0;
        let root = if text.len() <= SEARCHED { DeTable::parse(text).ok() } else { None };
        let root = root.as_ref().map(|root| root.get_ref());
        let mut steps = Vec::new();
        let (mut came, mut destination, mut out) = ("", None, None);
        for step in &told.steps {
            let (name, found, place) = match step {
                Step::Interface(index, vlan) => {
                    came = self.name(*index);
                    let tag = if *vlan == 0 { String::new() } else { format!(", VLAN {vlan}") };
                    ("interface", format!("{came}{tag}"), Some(Place::Interface(came, "")))
                }
                Step::Ethernet(Cast::Unicast) => ("ethernet", "for the router's station".into(), None),
                Step::Ethernet(Cast::Group) => ("ethernet", "for a group of stations".into(), None),
                Step::Ip { source, destination: to, protocol, len, ttl } => {
                    destination = Some(*to);
                    let named = PROTOCOLS.iter().find(|(_, number)| number == protocol);
                    let protocol = named.map_or_else(|| protocol.to_string(), |(name, _)| (*name).into());
                    ("packet", format!("{source} to {to}, {protocol}, {len} bytes, TTL {ttl}"), None)
                }
                Step::Source(check) => {
                    let found = match check {
                        ReversePath::Off => "an ordinary one, not ours; its way back is not checked",
                        ReversePath::Strict => "an ordinary one, not ours; its way back is this interface",
                        ReversePath::Loose => "an ordinary one, not ours; there is a way back",
                    };
                    ("source", found.into(), Some(Place::Interface(came, "reverse-path-filter")))
                }
                Step::NoRoute => ("route", "none".into(), None),
                Step::Route(route, several) => {
                    let (prefix, place) = destination.and_then(|to| self.origin(to, route)).unzip();
                    let mut found = prefix.map(|prefix| format!("{prefix}: ")).unwrap_or_default();
                    found.push_str(&self.route(route));
                    if *several > 1 {
                        found.push_str(&format!(", one of {several} by its flow"));
                    }
                    ("route", found, place)
                }
                Step::NextHop(by, address, known) => {
                    out = Some((*by, *address, *known));
                    let found = match known {
                        Some((state, station)) if *state != State::Incomplete => {
                            format!(
                                "{address} on {} is {}, {}",
                                self.name(*by),
                                mac(*station),
                                certainty(*state)
                            )
                        }
                        _ => format!("{address} on {} is not known: it is asked for", self.name(*by)),
                    };
                    ("next hop", found, None)
                }
                Step::Mtu(len, mtu) => {
                    let by = out.map_or("the link", |(by, ..)| self.name(by));
                    let found = format!("{len} bytes; {by} takes {mtu}");
                    ("mtu", found, out.map(|(by, ..)| Place::Interface(self.name(by), "mtu")))
                }
            };
            let line = place.zip(root).and_then(|(place, root)| line(text, root, &place));
            let (line, text) = line.unzip();
            steps.push(ExplainedStep { step: name.into(), found, line, text });
        }
        let (verdict, reason, end) = self.end(told);
        Explanation { verdict, reason, end, steps }
    }

    fn end(&self, told: &Explained) -> (PacketEnd, Option<String>, String) {
        let sent = told.sent.first();
        let station = sent.and_then(|sent| sent.bytes.first_chunk().copied()).map_or(String::new(), mac);
        let by = sent.map_or("", |sent| self.name(sent.interface));
        let answer = match told.sent.len() {
            0 => "nothing is sent".to_string(),
            1 => format!("an answer goes by {by} to {station}"),
            count => format!("{count} answers go by {by} to {station}"),
        };
        match told.end {
            End::Forwarded => {
                let pieces = match told.sent.len() {
                    1 => String::new(),
                    count => format!(", in {count} fragments"),
                };
                (PacketEnd::Forwarded, None, format!("it goes by {by} to {station}{pieces}"))
            }
            End::Answered => (PacketEnd::Answered, None, answer),
            End::Delivered(kind, port) => {
                let what = match kind {
                    Upper::Tcp => "the TCP socket",
                    Upper::Udp => "the UDP socket",
                    Upper::TcpError => "as an error: the TCP socket",
                    Upper::UdpError => "as an error: the UDP socket",
                };
                (PacketEnd::Delivered, None, format!("{what} of port {port} gets it"))
            }
            End::Waits => {
                let forwarded = told.steps.iter().any(|step| matches!(step, Step::NextHop(..)));
                let what =
                    if forwarded { "it waits for its next hop" } else { "the answer waits for its next hop" };
                (PacketEnd::Waits, None, format!("{what}, which is asked for on {by}"))
            }
            End::Gathers => {
                (PacketEnd::Gathers, None, "it waits for the other fragments of its datagram".to_string())
            }
            End::Dropped(reason, at) => {
                let end = format!("{} counts it as {}; {answer}", self.name(at), reason.name());
                (PacketEnd::Dropped, Some(reason.name().into()), end)
            }
        }
    }

    fn route(&self, route: &Route<IpAddr>) -> String {
        match route {
            Route::Gateway { interface, via } => format!("by {via} on {}", self.name(*interface)),
            Route::Connected { interface } => format!("on the link of {}", self.name(*interface)),
            Route::Local { interface } => format!("an address of {}", self.name(*interface)),
            Route::Broadcast { interface } => format!("all hosts on the link of {}", self.name(*interface)),
            Route::Blackhole => "dropped without a word".into(),
            Route::Unreachable => "turned away: unreachable".into(),
            Route::Prohibit => "turned away: prohibited".into(),
            // A group has no groups.
            Route::Multipath { .. } => "several".into(),
        }
    }

    /// What of the configuration a route to `to` is from: of all that could have made it the longest prefix.
    fn origin(&self, to: IpAddr, route: &Route<IpAddr>) -> Option<(String, Place<'_>)> {
        if let Route::Connected { interface } | Route::Local { interface } | Route::Broadcast { interface } =
            route
        {
            let own = self.config.interfaces.iter().find(|own| own.name == self.name(*interface))?;
            if let Some(net) = own.addresses.iter().find(|net| net.contains(&to)) {
                let prefix = match route {
                    Route::Connected { .. } => net.trunc(),
                    _ => IpNet::from(to),
                };
                return Some((prefix.to_string(), Place::Interface(&own.name, "addresses")));
            }
        }
        let agrees = |target: &Target| match (target, route) {
            (Target::Reject(Reject::Blackhole), Route::Blackhole) => true,
            (Target::Reject(Reject::Unreachable), Route::Unreachable) => true,
            (Target::Reject(Reject::Prohibit), Route::Prohibit) => true,
            (Target::Forward(_), Route::Gateway { .. } | Route::Connected { .. }) => true,
            _ => false,
        };
        let mut best: Option<(IpNet, u32, usize)> = None;
        for (number, own) in self.config.routes.iter().enumerate().filter(|(_, own)| agrees(&own.target)) {
            for prefix in own.to.iter().filter(|prefix| prefix.contains(&to)) {
                let better = best.is_none_or(|(known, metric, _)| {
                    (prefix.prefix_len(), metric) > (known.prefix_len(), own.metric)
                });
                if better {
                    best = Some((*prefix, own.metric, number));
                }
            }
        }
        best.map(|(prefix, _, number)| (prefix.to_string(), Place::Route(number)))
    }
}

fn certainty(state: State) -> &'static str {
    match state {
        State::Incomplete => "incomplete",
        State::Reachable => "reachable",
        State::Stale => "stale",
        State::Delay => "used again",
        State::Probe => "being asked",
    }
}

/// The line that a place stands in, and how it begins.
fn line(text: &str, root: &DeTable<'_>, place: &Place<'_>) -> Option<(u64, String)> {
    let span = match place {
        Place::Interface(name, key) => {
            let DeValue::Table(interfaces) = root.get("interface")?.get_ref() else { return None };
            let section = interfaces.get(*name)?;
            match section.get_ref() {
                _ if key.is_empty() => section.span(),
                DeValue::Table(keys) => keys.get(*key)?.span(),
                _ => return None,
            }
        }
        Place::Route(number) => {
            let DeValue::Array(routes) = root.get("route")?.get_ref() else { return None };
            let route = routes.get(*number)?;
            match route.get_ref() {
                DeValue::Table(keys) => keys.get("to").map_or_else(|| route.span(), |to| to.span()),
                _ => route.span(),
            }
        }
    };
    let before = text.get(..span.start)?;
    let number = 1 + before.matches('\n').count();
    let line = text.lines().nth(number - 1)?;
    // Without the remark at its end, and as much as has room beside what was found.
    let line = line.split(" #").next().unwrap_or_default().trim();
    Some((number as u64, line.chars().take(LINE).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;
    use weir_netstack::explain::Sent;

    const TEXT: &str = r#"
[interface.wan]
match = { port = 0 }
addresses = ["192.0.2.1/24"]
reverse-path-filter = "strict"   # nobody pretends

[interface.lan]
match = { port = 1 }
addresses = ["10.0.1.1/24", "2001:db8:2::1/64"]

[[route]]
to = "10.8.0.0/16"
via = "192.0.2.20"

[[route]]
to = ["10.8.0.0/16", "10.8.1.0/24"]
reject = "blackhole"
metric = 5
"#;

    fn told(steps: Vec<Step>, end: End, sent: Vec<Sent>) -> Explanation {
        let config = Config::parse(TEXT.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
        let names: Names = [(IfIndex(0), "wan".into()), (IfIndex(1), "lan".into())].into();
        Words { config: &config, names: &names }.explanation(&Explained { steps, end, sent })
    }

    fn ip(source: [u8; 4], destination: [u8; 4]) -> Step {
        let (source, destination) = (Ipv4Addr::from(source).into(), Ipv4Addr::from(destination).into());
        Step::Ip { source, destination, protocol: 17, len: 28, ttl: 64 }
    }

    #[test]
    fn names_the_lines_that_decided() {
        let via: IpAddr = Ipv4Addr::new(192, 0, 2, 20).into();
        let steps = vec![
            Step::Interface(IfIndex(0), 0),
            Step::Ethernet(Cast::Unicast),
            ip([192, 0, 2, 7], [10, 8, 1, 1]),
            Step::Source(ReversePath::Strict),
            Step::Route(Route::Gateway { interface: IfIndex(0), via }, 1),
            Step::NextHop(IfIndex(0), via, Some((State::Reachable, [2; 6]))),
            Step::Mtu(28, 1500),
        ];
        let sent = vec![Sent { interface: IfIndex(0), bytes: [2; 60].into() }];
        let told = told(steps, End::Forwarded, sent);
        let lines: Vec<_> = told.steps.iter().map(|step| (step.step.as_str(), step.line)).collect();
        assert_eq!(
            lines,
            [
                ("interface", Some(2)),
                ("ethernet", None),
                ("packet", None),
                ("source", Some(5)),
                ("route", Some(12)),
                ("next hop", None),
                ("mtu", None)
            ]
        );
        assert_eq!(told.steps[3].text.as_deref(), Some("reverse-path-filter = \"strict\""));
        assert_eq!(told.steps[4].found, "10.8.0.0/16: by 192.0.2.20 on wan");
        assert_eq!(told.end, "it goes by wan to 02:02:02:02:02:02");
    }

    #[test]
    fn of_routes_names_the_one_that_the_table_has() {
        let route = |route| {
            let steps = vec![ip([192, 0, 2, 7], [10, 8, 1, 1]), Step::Route(route, 1)];
            let step = told(steps, End::Dropped(weir_netif::Drop::RouteBlackhole, IfIndex(0)), Vec::new());
            (step.steps[1].found.clone(), step.steps[1].line)
        };
        assert_eq!(route(Route::Blackhole), ("10.8.1.0/24: dropped without a word".into(), Some(16)));
        let steps = vec![
            ip([192, 0, 2, 7], [10, 0, 1, 9]),
            Step::Route(Route::Connected { interface: IfIndex(1) }, 1),
        ];
        let told = told(steps, End::Waits, Vec::new());
        assert_eq!((&*told.steps[1].found, told.steps[1].line), ("10.0.1.0/24: on the link of lan", Some(9)));
    }

    #[test]
    fn makes_packets_whose_checksums_are_right() {
        for (from, to, head) in [("10.0.1.2", "192.0.2.2", 20), ("2001:db8::1", "2001:db8::2", 40)] {
            let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
            for protocol in [TCP, UDP, 58] {
                let len = 21 + usize::from(protocol == TCP) * 8;
                let payload = transport(vec![0; len], (from, to), protocol, 53);
                let mut summed = Vec::new();
                for address in [from, to] {
                    match address {
                        IpAddr::V4(address) => summed.extend(address.octets()),
                        IpAddr::V6(address) => summed.extend(address.octets()),
                    }
                }
                summed.extend((len as u32).to_be_bytes());
                summed.extend([0, 0, 0, protocol]);
                summed.extend(&payload);
                assert_eq!(internet(&summed), 0, "{protocol} over {head}");
            }
        }
    }
}
