//! What the simulated router says of a packet's way: by the lines of its configuration, in the real router's words.

use std::net::IpAddr;

use weir_manage::explain::{Packet, Question, shown};
use weir_manage::model::{ExplainedStep, Explanation, PacketEnd};
use weir_manage::problem::{Refused, refuse};

/// A line of the text, with its number.
type Line<'t> = (u64, &'t str);

/// The lines of a section, its head the first.
fn section<'t>(text: &'t str, head: &str) -> Vec<Line<'t>> {
    let lines = (1..).zip(text.lines().map(|line| line.split(" #").next().unwrap_or_default().trim()));
    let mut own: Vec<Line<'t>> = lines.skip_while(|(_, line)| *line != head).collect();
    let end = own.iter().skip(1).position(|(_, line)| line.starts_with('['));
    own.truncate(end.map_or(own.len(), |end| end + 1));
    own
}

/// The line with a key, and what is in its quotes.
fn setting<'t>(lines: &[Line<'t>], key: &str) -> Option<(Line<'t>, Vec<&'t str>)> {
    let line = lines.iter().find(|(_, line)| line.split(" =").next() == Some(key))?;
    Some((*line, line.1.split('"').skip(1).step_by(2).collect()))
}

/// The length of a prefix that an address is in.
fn within(address: IpAddr, prefix: &str) -> Option<u32> {
    let (net, length) = prefix.split_once('/')?;
    let length: u32 = length.parse().ok()?;
    let bits = |address| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => address.into(),
    };
    let net: IpAddr = net.parse().ok()?;
    let same = (bits(net) ^ bits(address)).leading_zeros() >= length;
    (same && net.is_ipv4() == address.is_ipv4()).then_some(length)
}

/// Answers a question about `text`. A whole frame is always for somebody else.
pub(crate) fn explain(question: &Question, text: &str) -> Result<Explanation, Refused> {
    let name = &question.interface;
    let own = section(text, &format!("[interface.{name}]"));
    let Some(&head) = own.first() else {
        let found = format!("there is no interface {name:?} in service");
        let title = "There is no such interface in service";
        return Err(refuse(404, title, found, "`show interfaces` lists them").at(1));
    };
    let mut steps = Vec::new();
    let mut step = |step: &str, found: String, line: Option<Line<'_>>| {
        let (line, text) = line.map(|(number, text)| (number, shown(text))).unzip();
        steps.push(ExplainedStep { step: step.into(), found, line, text });
    };
    let ended = |verdict, reason: &str, end: String, steps| {
        let reason = (!reason.is_empty()).then(|| reason.to_owned());
        Ok(Explanation { verdict, reason, end, steps })
    };
    let dropped = |reason: &str, steps| {
        let end = format!("{name} counts it as {reason}; nothing is sent");
        ended(PacketEnd::Dropped, reason, end, steps)
    };
    step("interface", name.clone(), Some(head));
    let (source, to, protocol, ttl) = match &question.packet {
        Packet::Frame(_) => return dropped("ethernet-not-for-us", steps),
        Packet::Ip { source, destination, protocol, ttl, .. } => (source, *destination, protocol, *ttl),
    };
    step("ethernet", "for the router's station".into(), None);
    step("packet", format!("{source} to {to}, {protocol}, 28 bytes, TTL {ttl}"), None);
    let check = setting(&own, "reverse-path-filter");
    step("source", "an ordinary one, not ours; there is a way back".into(), check.map(|(line, _)| line));
    let mut best: Option<(u32, String, Line<'_>, Result<String, String>)> = None;
    let mut consider = |prefix: &str, line, via: Result<String, String>| {
        if let Some(length) =
            within(to, prefix).filter(|length| best.as_ref().is_none_or(|(own, ..)| length > own))
        {
            best = Some((length, prefix.to_owned(), line, via));
        }
    };
    for other in text.lines().filter_map(|line| line.strip_prefix("[interface.")?.strip_suffix(']')) {
        if let Some((line, addresses)) = setting(&section(text, &format!("[interface.{other}]")), "addresses")
        {
            addresses.iter().for_each(|prefix| consider(prefix, line, Ok(format!("on the link of {other}"))));
        }
    }
    let mut rest = text;
    let mut before = 0;
    while let Some(at) = rest.find("[[route]]") {
        before += rest.get(..at).unwrap_or_default().matches('\n').count() as u64;
        rest = rest.get(at..).unwrap_or_default();
        let route: Vec<Line<'_>> =
            section(rest, "[[route]]").into_iter().map(|(number, line)| (number + before, line)).collect();
        let value =
            |key| setting(&route, key).and_then(|(_, values)| values.first().map(ToString::to_string));
        let via = value("reject").map_or_else(|| Ok(format!("by {}", value("via").unwrap_or_default())), Err);
        if let Some((line, prefixes)) = setting(&route, "to") {
            prefixes.iter().for_each(|prefix| consider(prefix, line, via.clone()));
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    let Some((_, prefix, line, via)) = best else {
        step("route", "none".into(), None);
        return dropped("no-route", steps);
    };
    match via {
        Err(reject) => {
            step("route", format!("{prefix}: turned away: {reject}"), Some(line));
            dropped(&format!("route-{reject}"), steps)
        }
        Ok(_) if ttl < 2 => {
            step("route", prefix, Some(line));
            dropped("ttl-expired", steps)
        }
        Ok(via) => {
            step("route", format!("{prefix}: {via}"), Some(line));
            step("mtu", "28 bytes; the link takes 1500".into(), None);
            ended(PacketEnd::Forwarded, "", format!("it goes {via} to 52:54:00:aa:00:01"), steps)
        }
    }
}
