//! What becomes of a packet, for people: the frame is made, [`weir_netstack::explain`] follows it, and what that found gets
//! the lines of the configuration that it comes from. A task's work.

use crate::attach;
use crate::clients::{Learnt, METRIC};
use crate::config::{Config, Reject, Target};
use crate::manage::{Known, View};
use crate::observe::mac;
use crate::shared::{Shared, home};
use crate::transport::is_open;
use crate::vlans::MAX_INDICES;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::net::IpAddr;
use ipnet::IpNet;
use toml::de::{DeTable, DeValue};
use weir_machine::{clock, frames, mask};
use weir_manage::explain::{PROTOCOLS, Packet, Question, shown};
use weir_manage::model::{ExplainedStep, Explanation, PacketEnd};
use weir_manage::problem::{Refused, refuse};
use weir_netif::{Drop, IfIndex, Pool};
use weir_netstack::ethernet::{self, Cast};
use weir_netstack::explain::{self, End, Explained, Step};
use weir_netstack::neighbor::State;
use weir_netstack::snapshot::{Interface, ReversePath, Route, Snapshot};
use weir_netstack::{Instant, Local, Upper};
use weir_transport::{Envelope, packet};

/// A station that is nobody's: locally administered.
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Texts beyond this are not searched for lines.
const SEARCHED: usize = 1 << 20;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Answers a question about the configuration in force or another one, with what is known of the neighbours.
///
/// # Errors
/// There is no such interface, no buffer for the packet, or the other configuration has errors.
pub(crate) fn explain(
    shared: &Shared,
    view: &View,
    neighbors: &[Known],
    question: &Question,
) -> Result<Explanation, Refused> {
    let (config, learnt, snapshot, cpus) = match &question.text {
        None => {
            let (snapshot, cpus) = mask::masked(|cx| {
                let running = shared.running.read(cx);
                (running.snapshot.apart(), running.cpus)
            });
            (view.config.clone(), view.learnt.clone(), snapshot, cpus)
        }
        Some(text) => {
            let config = Config::read(text.as_bytes(), "candidate", frames::free_bytes()).map_err(wrong)?;
            let (learnt, _) = view.learnt.beside(&config);
            let preview = |learnt: &Learnt| attach::preview(&config, learnt, &view.equipment);
            let (snapshot, learnt, _) = learnt.fit(preview).map_err(wrong)?;
            let snapshot = snapshot.apart();
            let cpus = mask::masked(|cx| shared.running.read(cx).cpus);
            (Arc::new(config), Arc::new(learnt), snapshot, cpus)
        }
    };
    let interface = snapshot.interfaces().find(|interface| interface.name == question.interface);
    let interface = interface.ok_or_else(|| no_interface(question))?;
    let listens = |flow: u32, local: &Local<'_>| {
        let ports = home(flow, cpus).and_then(|cpu| shared.ports.of(cpu).get());
        ports.is_some_and(|ports| is_open(ports, local))
    };
    let (port, frame) = (interface.link.port, frame(question, interface).ok_or_else(no_buffer)?);
    let asked = explain::Question { port, frame: &frame, neighbors, listens: &listens };
    let now = Instant::from_nanos(clock::now());
    let mut stack = explain::stack(MAX_INDICES, neighbors, now);
    let mut pool = Pool::new(shared.arena);
    let told = mask::masked(|cx| explain::explain(cx, &mut stack, &snapshot, &mut pool, now, &asked));
    explain::empty(stack, &mut pool);
    let told = told.ok_or_else(no_buffer)?;
    Ok(Words { config: &config, learnt: &learnt, snapshot: &snapshot }.explanation(&told))
}

fn wrong(lines: String) -> Refused {
    let first = lines.lines().next().unwrap_or_default();
    refuse(422, "The candidate has errors", first, "`check` says all that is wrong with it")
}

fn no_interface(question: &Question) -> Refused {
    refuse(
        404,
        "There is no such interface in service",
        format!("there is no interface {:?} in service", question.interface),
        "`show interfaces` lists them",
    )
    // A question begins with the name.
    .at(1)
}

fn no_buffer() -> Refused {
    refuse(503, "There is no buffer for the packet", "all are in use", "try again in a second")
}

/// The frame that is asked about.
fn frame(question: &Question, interface: &Interface) -> Option<Vec<u8>> {
    let (source, destination, protocol, port, source_port, vlan, len, hops) = match &question.packet {
        Packet::Frame(bytes) => return Some(bytes.clone()),
        &Packet::Ip { source, destination, protocol, port, source_port, vlan, len, ttl } => {
            (source, destination, protocol, port, source_port, vlan, len, ttl)
        }
    };
    let (head, kind) = if source.is_ipv4() { (20, ethernet::IPV4) } else { (40, ethernet::IPV6) };
    let least = match protocol {
        TCP => 20,
        UDP | 1 | 58 => 8,
        _ => 0,
    };
    let mut upper = vec![0; usize::from(len).saturating_sub(head).max(least)];
    if matches!(protocol, TCP | UDP) {
        upper[..2].copy_from_slice(&source_port.to_be_bytes());
        upper[2..4].copy_from_slice(&port.to_be_bytes());
    }
    match protocol {
        // SYN, without options.
        TCP => (upper[12], upper[13]) = (5 << 4, 2),
        UDP => {
            let len = upper.len() as u16;
            upper[4..6].copy_from_slice(&len.to_be_bytes());
        }
        1 => upper[0] = 8,
        58 => upper[0] = 128,
        _ => {}
    }
    let envelope = Envelope { source, destination, protocol, hops, whole: false, id: 0 };
    let mut frame = Vec::from(ethernet::header(station(interface, destination), SENDER, kind));
    let vlan = vlan.unwrap_or(interface.link.vlan);
    if vlan != 0 {
        let kind = [frame.pop(), frame.pop()].map(Option::unwrap_or_default);
        let [high, low] = vlan.to_be_bytes();
        frame.extend_from_slice(&[0x81, 0, high, low, kind[1], kind[0]]);
    }
    frame.extend_from_slice(&packet(&envelope, &upper)?);
    Some(frame)
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

/// Puts what was found into words.
struct Words<'c> {
    config: &'c Config,
    learnt: &'c Learnt,
    snapshot: &'c Snapshot,
}

/// A place in the configuration's text.
enum Place<'p> {
    Interface(&'p str, &'p str),
    Route(usize),
}

impl Words<'_> {
    fn name(&self, index: IfIndex) -> &str {
        self.snapshot.interface(index).map_or("no interface", |interface| &interface.name)
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
                    let origin = destination.and_then(|to| self.origin(to, route));
                    let (mut found, mut place) = (String::new(), None);
                    if let Some((prefix, of)) = origin {
                        let learnt = if of.is_none() { " (learnt)" } else { "" };
                        found = format!("{prefix}{learnt}: ");
                        place = of;
                    }
                    found.push_str(&self.route(route));
                    if *several > 1 {
                        let _ = write!(found, ", one of {several} by its flow");
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
        if let End::Dropped(Drop::ReversePath, _) = told.end {
            let found = "its way back is not this interface, or there is none".into();
            let line = root.and_then(|root| line(text, root, &Place::Interface(came, "reverse-path-filter")));
            let (line, text) = line.unzip();
            steps.push(ExplainedStep { step: "source".into(), found, line, text });
        }
        let (verdict, reason, end) = self.end(told);
        Explanation { verdict, reason, end, steps }
    }

    fn end(&self, told: &Explained) -> (PacketEnd, Option<String>, String) {
        let sent = told.sent.first();
        let station = sent.and_then(|sent| sent.bytes.first_chunk().copied()).map_or(String::new(), mac);
        let by = sent.map_or("", |sent| self.name(sent.interface));
        // A question to a group, for the station.
        let asks = sent.and_then(|sent| sent.bytes.first()).is_some_and(|first| first & 1 == 1);
        let answer = match told.sent.len() {
            0 => "nothing is sent".to_string(),
            _ if asks => format!("the answer waits for its next hop, which is asked for on {by}"),
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
                    Upper::Tcp | Upper::TcpError => "TCP socket of port",
                    Upper::Udp | Upper::UdpError => "UDP socket of port",
                    Upper::Echo | Upper::EchoError => "ping with identifier",
                };
                (PacketEnd::Delivered, None, format!("the {what} {port} gets it"))
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
            Route::Tentative => "to be an address of this router, unless another host has it".into(),
            Route::Blackhole => "dropped without a word".into(),
            Route::Unreachable => "turned away: unreachable".into(),
            Route::Prohibit => "turned away: prohibited".into(),
            // A group has no groups.
            Route::Multipath { .. } => "several".into(),
        }
    }

    /// What a route to `to` is from: of all that could have made it the longest prefix. A place of the configuration, unless
    /// it was learnt.
    fn origin(&self, to: IpAddr, route: &Route<IpAddr>) -> Option<(IpNet, Option<Place<'_>>)> {
        if let Route::Connected { interface } | Route::Local { interface } | Route::Broadcast { interface } =
            route
        {
            let name = self.name(*interface);
            let of = |net: &IpNet| match route {
                Route::Connected { .. } => net.trunc(),
                _ => IpNet::from(to),
            };
            let own = self.config.interfaces.iter().find(|own| own.name == name)?;
            if let Some(net) = own.addresses.iter().find(|net| net.contains(&to)) {
                return Some((of(net), Some(Place::Interface(&own.name, "addresses"))));
            }
            let heard = self.learnt.on(name).into_iter().flat_map(|on| &on.addresses).map(|own| &own.net);
            if let Some(net) = heard.into_iter().find(|net| net.contains(&to)) {
                return Some((of(net), Some(Place::Interface(&own.name, "addresses"))));
            }
        }
        let agrees = |target: &Target| {
            matches!(
                (target, route),
                (Target::Reject(Reject::Blackhole), Route::Blackhole)
                    | (Target::Reject(Reject::Unreachable), Route::Unreachable)
                    | (Target::Reject(Reject::Prohibit), Route::Prohibit)
                    | (Target::Forward(_), Route::Gateway { .. } | Route::Connected { .. })
            )
        };
        let mut best: Option<(IpNet, u32, Option<Place<'_>>)> = None;
        let mut consider = |prefix: &IpNet, metric: u32, place| {
            // Of the same prefix the lowest metric counts.
            let rank = |prefix: &IpNet, metric| (prefix.prefix_len(), u32::MAX - metric);
            let better = best.as_ref().is_none_or(|(own, known, _)| rank(prefix, metric) > rank(own, *known));
            if prefix.contains(&to) && better {
                best = Some((*prefix, metric, place));
            }
        };
        for (number, own) in self.config.routes.iter().enumerate().filter(|(_, own)| agrees(&own.target)) {
            own.to.iter().for_each(|prefix| consider(prefix, own.metric, Some(Place::Route(number))));
        }
        if matches!(route, Route::Gateway { .. } | Route::Connected { .. }) {
            let heard = self.learnt.interfaces.iter().flat_map(|on| &on.routes);
            heard.for_each(|own| consider(&own.to, METRIC + own.metric, None));
        }
        best.map(|(prefix, _, place)| (prefix, place))
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
    let number = 1 + before.bytes().filter(|&byte| byte == b'\n').count();
    let line = text.lines().nth(number - 1)?;
    Some((number as u64, shown(line)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::Equipment;
    use crate::observe::State;
    use core::net::Ipv4Addr;
    use weir_netif::{DeviceInfo, Link, Offloads};
    use weir_netstack::explain::Sent;
    use weir_netstack::neighbor::State as Certainty;

    const TEXT: &str = r#"
[interface.wan]
match = { port = 0 }
addresses = ["192.0.2.1/24"]
reverse-path-filter = "strict"   # nobody pretends

[interface.lan]
match = { port = 1 }
addresses = ["10.0.1.1/24", "2001:db8:2:ff00::1/64"]

[[route]]
to = "10.8.0.0/16"
via = "192.0.2.20"

[[route]]
to = ["10.8.0.0/16", "10.8.1.0/24"]
reject = "blackhole"
metric = 5
"#;

    /// As it would be with two devices that carry frames.
    fn snapshot(config: &Config) -> Snapshot {
        let device =
            |mac| DeviceInfo { name: "fake".into(), mac, mtu: 1500, queues: 1, offloads: Offloads::empty() };
        let devices =
            [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]].map(|mac| Some((device(mac), State::Link(Link::Up))));
        let with = Equipment { devices: devices.into(), vlans: Vec::new() };
        attach::preview(config, &Learnt::default(), &with).unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    fn told(steps: Vec<Step>, end: End, sent: Vec<Sent>) -> Explanation {
        let config = Config::parse(TEXT.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
        let (learnt, snapshot) = (Learnt::default(), snapshot(&config));
        let words = Words { config: &config, learnt: &learnt, snapshot: &snapshot };
        words.explanation(&Explained { steps, end, sent })
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
            Step::NextHop(IfIndex(0), via, Some((Certainty::Reachable, [2; 6]))),
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
    fn frames_have_the_ports_and_the_tag_that_were_asked_for() {
        let config = Config::parse(TEXT.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
        let snapshot = snapshot(&config);
        let lan = snapshot.interfaces().find(|own| own.name == "lan").expect("it is in the text");
        let made = |vlan| {
            let packet = Packet::Ip {
                source: [10, 0, 1, 2].into(),
                destination: [192, 0, 2, 2].into(),
                protocol: UDP,
                port: 53,
                source_port: 4711,
                vlan,
                len: 0,
                ttl: 3,
            };
            let question = Question { interface: "lan".into(), packet, text: None };
            frame(&question, lan).expect("a short packet")
        };
        let (plain, tagged) = (made(None), made(Some(30)));
        assert_eq!((&plain[..12], &plain[12..14]), (&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1][..], &[8, 0][..]));
        assert_eq!(plain[34..38], [18, 103, 0, 53], "ports");
        assert_eq!(tagged, [&plain[..12], &[0x81, 0, 0, 30], &plain[12..]].concat());
        assert_eq!(made(Some(0)), plain);
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
        assert_eq!(told.steps[1].text.as_deref(), Some("addresses = [\"10.0.1.1/24\", \"2001:db8:2…"));
    }
}
