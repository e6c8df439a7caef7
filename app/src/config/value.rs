//! One function for each kind of value: from what the file holds to a typed value, or what is wrong with it.
//! None of them knows where the value stands; their caller does.

use alloc::format;
use alloc::string::{String, ToString};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use toml::de::DeValue;

use super::errors::quoted;
use super::keys;
use super::types::{Host, Reject, ReversePathFilter, Steering};

/// What is wrong with a value, and its cure if there is an obvious one.
pub(super) struct Problem {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

pub(super) type Parsed<T> = Result<T, Problem>;

impl Problem {
    pub(super) fn new(message: impl Into<String>) -> Problem {
        Problem { message: message.into(), help: None }
    }

    /// "found X, expected Y".
    pub(super) fn expected(found: &DeValue, expected: &str) -> Problem {
        Problem::new(format!("found {}, expected {expected}", describe(found)))
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }
}

fn describe(value: &DeValue) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => format!("the number {}", short(&number.to_string())),
        DeValue::Float(number) => format!("the number {}", short(&number.to_string())),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => format!("the date or time {time}"),
        DeValue::Array(_) => "an array".to_string(),
        DeValue::Table(_) => "a table".to_string(),
    }
}

fn short(number: &str) -> String {
    const LONGEST: usize = 40;
    match number.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &number[..end]),
        None => number.to_string(),
    }
}

pub(super) fn string<'v>(value: &'v DeValue, expected: &str) -> Parsed<&'v str> {
    value.as_str().ok_or_else(|| match value {
        DeValue::Array(array) if array.len() == 1 => {
            Problem::expected(value, expected).help("leave the brackets out: this key takes one value")
        }
        _ => Problem::expected(value, expected),
    })
}

pub(super) fn boolean(value: &DeValue) -> Parsed<bool> {
    value.as_bool().ok_or_else(|| {
        let problem = Problem::expected(value, "true or false");
        match value.as_str().map(str::to_ascii_lowercase).as_deref() {
            Some("true" | "yes" | "on" | "1") => problem.help("write true, without quotes"),
            Some("false" | "no" | "off" | "0") => problem.help("write false, without quotes"),
            _ => problem,
        }
    })
}

fn number(value: &DeValue, min: u32, max: u32, meaning: &str) -> Parsed<u32> {
    let parsed = value.as_integer().and_then(|number| {
        let number = i128::from_str_radix(number.as_str(), number.radix()).ok()?;
        u32::try_from(number).ok().filter(|number| (min..=max).contains(number))
    });
    parsed.ok_or_else(|| {
        let problem = Problem::expected(value, &format!("{meaning} from {min} to {max}"));
        match value.as_str().and_then(|text| text.trim().parse::<u32>().ok()) {
            Some(number) => problem.help(format!("write {number}, without quotes")),
            None => problem,
        }
    })
}

pub(super) fn mtu(value: &DeValue) -> Parsed<u16> {
    // RFC 791 §3.2: "Every internet module must be able to forward a datagram of 68 octets".
    // 9216 is the largest that Ethernet gear commonly agrees on.
    number(value, 68, 9216, "a number of octets").map(|mtu| mtu as u16)
}

pub(super) fn port(value: &DeValue) -> Parsed<u16> {
    number(value, 0, u16::MAX.into(), "a place in the order of discovery").map(|port| port as u16)
}

pub(super) fn udp_port(value: &DeValue) -> Parsed<u16> {
    number(value, 1, u16::MAX.into(), "a UDP port").map(|port| port as u16)
}

/// A server's address.
pub(super) fn server(value: &DeValue) -> Parsed<IpAddr> {
    const EXPECTED: &str = "a server's address, such as \"192.0.2.53\"";
    let text = string(value, EXPECTED)?;
    let Ok(address) = text.parse::<IpAddr>() else { return Err(Problem::expected(value, EXPECTED)) };
    match no_host(address) {
        Some(kind) => Err(Problem::new(format!("{address} is {kind}, expected {EXPECTED}"))),
        None if matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()) => {
            Err(Problem::new(format!("{address} is link-local, expected an address that routes lead to")))
        }
        None => Ok(address),
    }
}

/// A server's address or name.
pub(super) fn host(value: &DeValue) -> Parsed<Host> {
    const EXPECTED: &str = "a server's name or address, such as \"ntp.example.net\" or \"192.0.2.123\"";
    let text = string(value, EXPECTED)?;
    // What has only digits and dots, or a colon, was meant as an address.
    if text.contains(':') || text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return server(value).map(Host::Address);
    }
    hostname(value).map(|name| Host::Name(name.to_ascii_lowercase()))
}

pub(super) fn vlan(value: &DeValue) -> Parsed<u16> {
    // IEEE 802.1Q §9.6: 0 is no VLAN, 4095 is reserved.
    number(value, 1, 4094, "the number of a VLAN,").map(|vlan| vlan as u16)
}

pub(super) fn metric(value: &DeValue) -> Parsed<u32> {
    number(value, 0, u32::MAX, "a number")
}

pub(super) fn weight(value: &DeValue) -> Parsed<u8> {
    number(value, 1, u8::MAX.into(), "a weight").map(|weight| weight as u8)
}

pub(super) fn reverse_path_filter(value: &DeValue) -> Parsed<ReversePathFilter> {
    use ReversePathFilter::{Loose, Off, Strict};
    one_of(value, &[("off", Off), ("strict", Strict), ("loose", Loose)])
}

pub(super) fn steering(value: &DeValue) -> Parsed<Steering> {
    one_of(value, &[("off", Steering::Off), ("flows", Steering::Flows)])
}

pub(super) fn reject(value: &DeValue) -> Parsed<Reject> {
    use Reject::{Blackhole, Prohibit, Unreachable};
    one_of(value, &[("blackhole", Blackhole), ("unreachable", Unreachable), ("prohibit", Prohibit)])
}

fn one_of<T: Copy>(value: &DeValue, choices: &[(&'static str, T)]) -> Parsed<T> {
    let found = value.as_str();
    if let Some(&(_, choice)) = choices.iter().find(|(name, _)| Some(*name) == found) {
        return Ok(choice);
    }
    let names: alloc::vec::Vec<String> = choices.iter().map(|(name, _)| quoted(name)).collect();
    let problem = Problem::expected(value, &format!("one of {}", names.join(", ")));
    Err(match keys::nearest(found.unwrap_or_default(), choices.iter().map(|(name, _)| *name)) {
        Some(name) => problem.help(did_you_mean(&quoted(name))),
        None => problem,
    })
}

pub(super) fn did_you_mean(name: &str) -> String {
    format!("did you mean {name}?")
}

/// RFC 1123 §2.1: labels of letters, digits and hyphens, with letters or digits at both ends.
pub(super) fn hostname(value: &DeValue) -> Parsed<String> {
    const EXPECTED: &str = "a host name of letters, digits and hyphens, such as \"edge1\"";
    let text = string(value, EXPECTED)?;
    let named = |message: &str| Err(Problem::new(format!("{} {message}", quoted(text))));
    if text.is_empty() {
        return Err(Problem::expected(value, EXPECTED));
    }
    if text.len() > 253 {
        return named(&format!("has {} characters, expected at most 253", text.len()));
    }
    if let Some(bad) = text.chars().find(|&c| !(c.is_ascii_alphanumeric() || c == '-' || c == '.')) {
        return named(&format!("contains {bad:?}, expected only letters, digits, hyphens and dots"));
    }
    for label in text.split('.') {
        if label.is_empty() {
            return named("has an empty part, expected a name on each side of a dot");
        }
        if label.len() > 63 {
            return named(&format!("has a part of {} characters, expected at most 63", label.len()));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return named("has a part with a hyphen at its end, expected a letter or digit there");
        }
    }
    Ok(text.to_string())
}

pub(super) fn interface_name(name: &str) -> Parsed<String> {
    const LONGEST: usize = 15;
    let problem = |found: String| {
        Problem::new(format!("{found}, expected a name of 1 to {LONGEST} characters a-z, 0-9, '.', '_', '-'"))
    };
    let length = name.chars().count();
    if !(1..=LONGEST).contains(&length) {
        return Err(problem(format!("{} has {length} characters", quoted(name))));
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ['.', '_', '-'].contains(&c);
    if let Some(bad) = name.chars().find(|&c| !allowed(c)) {
        let problem = problem(format!("{} contains {bad:?}", quoted(name)));
        let lower = name.to_ascii_lowercase();
        return Err(match lower.chars().all(allowed) {
            true => problem.help(format!("names are in lower case: {lower}")),
            false => problem,
        });
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(Problem::new(format!(
            "{} begins with a sign, expected a letter or digit first",
            quoted(name)
        )));
    }
    Ok(name.to_string())
}

pub(super) fn mac(value: &DeValue) -> Parsed<[u8; 6]> {
    const EXPECTED: &str = "an Ethernet address such as \"52:54:00:00:00:01\"";
    let text = string(value, EXPECTED)?;
    let Some(mac) = mac_with(text, ':') else {
        let problem = Problem::expected(value, EXPECTED);
        return Err(match mac_with(text, '-') {
            Some(_) => problem.help(format!("with colons: {}", quoted(&text.replace('-', ":")))),
            None => problem,
        });
    };
    // IEEE 802 §8.2: the lowest bit of the first octet marks a group address.
    if mac[0] & 1 != 0 {
        return Err(Problem::new(format!(
            "{} is a multicast address, expected a device's own",
            quoted(text)
        )));
    }
    if mac == [0; 6] {
        return Err(Problem::new(format!("{} is no device's address", quoted(text))));
    }
    Ok(mac)
}

fn mac_with(text: &str, separator: char) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(separator);
    for octet in &mut mac {
        // Two digits each: from_str_radix alone would take "+1" and "1".
        let part =
            parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *octet = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// Whether a text is an address of any kind, with or without a prefix length.
pub(super) fn is_address(text: &str) -> bool {
    mac_with(text, ':').is_some() || text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok()
}

/// An interface's address with its prefix length.
pub(super) fn interface_address(value: &DeValue) -> Parsed<IpNet> {
    let word = value.as_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    if let Some(meant) = word.and_then(|word| keys::nearest(word, ["dhcp", "auto"].into_iter())) {
        let problem = Problem::expected(value, "an address with its prefix length, \"dhcp\" or \"auto\"");
        return Err(problem.help(did_you_mean(&quoted(meant))));
    }
    let net = address_and_length(value, "an address with its prefix length, such as \"192.0.2.1/24\"")?;
    if net.prefix_len() == 0 {
        return Err(Problem::new(format!(
            "found the prefix length 0, expected 1 to {}",
            net.max_prefix_len()
        )));
    }
    if let Some(kind) = no_host(net.addr()).or_else(|| no_host_within(&net)) {
        let problem = Problem::new(format!("{net} is {kind}, expected the address of a host"));
        return Err(match net.hosts().find(|&host| host != net.network()) {
            Some(host) if no_host(net.addr()).is_none() => {
                let first = IpNet::new_assert(host, net.prefix_len());
                problem.help(format!("the first address of this network is \"{first}\""))
            }
            _ => problem,
        });
    }
    Ok(net)
}

/// A route's destination.
pub(super) fn destination(value: &DeValue) -> Parsed<IpNet> {
    const EXPECTED: &str = "a network such as \"198.51.100.0/24\"";
    if value.as_str() == Some("default") {
        return Err(
            Problem::expected(value, EXPECTED).help("write \"0.0.0.0/0\" for IPv4 or \"::/0\" for IPv6")
        );
    }
    let net = address_and_length(value, EXPECTED)?;
    let masked = net.trunc();
    if net != masked {
        return Err(Problem::new(format!(
            "{net} has bits set behind its prefix, expected the network's address"
        ))
        .help(format!(
            "write \"{masked}\", or \"{}/{}\" for this host alone",
            net.addr(),
            net.max_prefix_len()
        )));
    }
    let kind = match net.addr() {
        address if address.is_multicast() => "multicast",
        address if address.is_loopback() => "loopback",
        IpAddr::V6(address) if address.is_unicast_link_local() => "link-local",
        _ => return Ok(net),
    };
    Err(Problem::new(format!("{net} is {kind}, expected a unicast network to forward to")))
}

/// A route's next router.
pub(super) fn gateway(value: &DeValue) -> Parsed<IpAddr> {
    const EXPECTED: &str = "the next router's address, such as \"192.0.2.254\"";
    let text = string(value, EXPECTED)?;
    let Ok(address) = text.parse::<IpAddr>() else {
        let problem = Problem::expected(value, EXPECTED);
        let bare = text.split(['/', '%']).next().filter(|bare| bare.parse::<IpAddr>().is_ok());
        return Err(match bare {
            Some(bare) if text.contains('%') => problem
                .help(format!("write via = \"{bare}\" and name the interface with interface = \"...\"")),
            Some(bare) => problem.help(format!("without prefix length: \"{bare}\"")),
            None => problem,
        });
    };
    match no_host(address) {
        Some(kind) => Err(Problem::new(format!("{address} is {kind}, expected {EXPECTED}"))),
        None => Ok(address),
    }
}

fn address_and_length(value: &DeValue, expected: &str) -> Parsed<IpNet> {
    let text = string(value, expected)?;
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err(Problem::expected(value, expected));
    };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let Some(length) = length else {
        let help = format!("add the prefix length, \"{address}/{longest}\" if it is this address alone");
        return Err(Problem::new(format!(
            "found {} without a prefix length, expected {expected}",
            quoted(text)
        ))
        .help(help));
    };
    // Digits only: parse() would take "+24".
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let net = length.parse().ok().filter(|_| digits).and_then(|length| IpNet::new(address, length).ok());
    net.ok_or_else(|| {
        let problem =
            Problem::new(format!("found the prefix length {}, expected 0 to {longest}", quoted(length)));
        let mask = length.parse::<Ipv4Addr>().ok().filter(|_| address.is_ipv4());
        match mask.and_then(|mask| ipnet::ipv4_mask_to_prefix(mask).ok()) {
            Some(length) => {
                problem.help(format!("this mask is the prefix length {length}: \"{address}/{length}\""))
            }
            None => problem,
        }
    })
}

/// What an address is that no single host can have, whatever its network.
fn no_host(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => no_host_v4(address),
        IpAddr::V6(address) => no_host_v6(address),
    }
}

fn no_host_v4(address: Ipv4Addr) -> Option<&'static str> {
    Some(match address.octets()[0] {
        _ if address.is_unspecified() => "the unspecified address",
        _ if address.is_broadcast() => "the broadcast address",
        0 => "an address of \"this network\" (RFC 1122 3.2.1.3)",
        127 => "a loopback address",
        224..=239 => "a multicast address",
        240.. => "a reserved address (RFC 1112 4)",
        _ => return None,
    })
}

fn no_host_v6(address: Ipv6Addr) -> Option<&'static str> {
    Some(match address {
        _ if address.is_unspecified() => "the unspecified address",
        _ if address.is_loopback() => "the loopback address",
        _ if address.is_multicast() => "a multicast address",
        _ if address.to_ipv4_mapped().is_some() => "an IPv4 address in IPv6 form (RFC 4291 2.5.5.2)",
        _ => return None,
    })
}

/// What an address is within its network, unless it is a host's. With one host bit or none all addresses are
/// hosts' (RFC 3021 for IPv4, RFC 6164 for IPv6).
pub(super) fn no_host_within(net: &IpNet) -> Option<&'static str> {
    let host_bits = net.max_prefix_len() - net.prefix_len();
    match net {
        _ if host_bits <= 1 => None,
        IpNet::V4(net) if net.addr() == net.network() => Some("the address of the network itself"),
        IpNet::V4(net) if net.addr() == net.broadcast() => Some("the broadcast address of its network"),
        IpNet::V6(net) if net.addr() == net.network() => {
            Some("the anycast address of all routers of its network")
        }
        _ => None,
    }
}
