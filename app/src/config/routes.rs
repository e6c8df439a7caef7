//! Static routes: from the TOML tree to drafts that still know where they stand. What they say about interfaces and each
//! other is checked in [`super::gateways`].

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::Range;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeArray, DeValue};

use super::errors::{Finding, Path, Report, quoted};
use super::keys;
use super::read::{Section, add};
use super::types::Reject;
use super::value::{self, Problem};
use super::{MAX_NEXT_HOPS, MAX_ROUTES};

/// A `[[route]]`.
pub(super) struct RouteDraft {
    /// Its place in the file.
    pub(super) index: usize,
    pub(super) to: Destinations,
    pub(super) target: Option<TargetDraft>,
    pub(super) metric: u32,
}

/// Where a route leads to, all of the same; small, for there may be a million.
#[derive(Default)]
pub(super) struct Destinations {
    pub(super) nets: Vec<IpNet>,
    /// Where each stands in the file: first byte and length.
    places: Vec<(u32, u8)>,
    /// Whether they are the elements of an array.
    is_array: bool,
    /// Whether all could be read.
    pub(super) complete: bool,
}

pub(super) enum TargetDraft {
    Forward(Vec<HopDraft>),
    Reject(Reject),
}

/// A next hop.
pub(super) struct HopDraft {
    /// Its place in the array, if it is in one.
    pub(super) index: Option<usize>,
    pub(super) span: Range<usize>,
    pub(super) via: Option<Spanned<IpAddr>>,
    pub(super) interface: Option<Spanned<String>>,
    pub(super) weight: u8,
}

impl Destinations {
    /// Where destination `index` stands.
    pub(super) fn span(&self, index: usize) -> Range<usize> {
        let (start, len) = self.places.get(index).copied().unwrap_or_default();
        start as usize..start as usize + usize::from(len)
    }

    /// An error of destination `index` of the route at `path`.
    pub(super) fn finding(&self, path: &Path, index: usize, message: String) -> Finding {
        let path = path.key("to");
        match self.is_array {
            true => Finding::at(self.span(index), Path::Index(&path, index), message),
            false => Finding::at(self.span(index), path, message),
        }
    }
}

impl HopDraft {
    /// Calls `f` with the path of this next hop's key: `address` or `interface` as they are called where it stands.
    pub(super) fn at<T>(&self, route: &Path, key: &str, f: impl FnOnce(&Path) -> T) -> T {
        match self.index {
            Some(index) => f(&Path::Index(&route.key("via"), index).key(key)),
            None if key == "address" => f(&route.key("via")),
            None => f(&route.key(key)),
        }
    }
}

pub(super) fn read(root: &Section, report: &mut Report) -> Vec<RouteDraft> {
    let path = root.path.key("route");
    let Some(value) = root.table.get("route") else {
        return Vec::new();
    };
    let DeValue::Array(array) = value.get_ref() else {
        let problem = Problem::expected(value.get_ref(), "a section for each route");
        add(report, value.span(), &path, problem.help("write [[route]], in double brackets"));
        return Vec::new();
    };
    let (mut drafts, mut count) = (Vec::with_capacity(array.len().min(MAX_ROUTES)), 0);
    for (index, value) in array.iter().enumerate() {
        let path = Path::Index(&path, index);
        let draft = read_route(&path, index, value, report);
        count += draft.as_ref().map_or(1, |draft| draft.to.nets.len().max(1));
        if count > MAX_ROUTES {
            let message = format!("found more than {MAX_ROUTES} destinations, the most that a router has");
            report.add(Finding::at(value.span(), &path, message).help("join networks that are side by side"));
            break;
        }
        drafts.extend(draft);
    }
    drafts
}

fn read_route(
    path: &Path,
    index: usize,
    value: &Spanned<DeValue>,
    report: &mut Report,
) -> Option<RouteDraft> {
    let DeValue::Table(table) = value.get_ref() else {
        let problem = Problem::expected(value.get_ref(), "a route's section");
        add(report, value.span(), path, problem.help("write [[route]] and the route's keys below it"));
        return None;
    };
    let section = Section { path, span: value.span(), table };
    section.report_unknown(keys::ROUTE, report);
    let to = read_destinations(&section, report);
    let target = read_target(&section, report);
    let metric = section.read("metric", report, value::metric).map_or(0, Spanned::into_inner);
    Some(RouteDraft { index, to, target, metric })
}

/// One network, an array of them, or a text of several with white space between.
fn read_destinations(route: &Section, report: &mut Report) -> Destinations {
    let path = route.path.key("to");
    let mut to = Destinations { complete: true, ..Destinations::default() };
    let Some(value) = route.table.get("to") else {
        if !route.intends("to", keys::ROUTE) {
            let message = "missing, expected the destination network";
            let finding = Finding::at(route.span.clone(), &path, message);
            report.add(finding.help("the default route is to = \"0.0.0.0/0\""));
        }
        to.complete = false;
        return to;
    };
    match value.get_ref() {
        DeValue::Array(array) => {
            to.is_array = true;
            for (index, value) in array.iter().enumerate() {
                to.add(value.get_ref(), value.span(), &Path::Index(&path, index), report);
            }
        }
        DeValue::String(text) if text.trim().contains(char::is_whitespace) => {
            // Behind one quotation mark, or before three. A text with escapes stands as it is nowhere in the file.
            let span = value.span();
            let quotes = if span.len() == text.len() + 2 { 1 } else { 3 };
            let start = span.end.checked_sub(quotes + text.len());
            let start = start.filter(|_| matches!(text, Cow::Borrowed(_)));
            to.add_words(text, (span, start), &path, report);
        }
        single => to.add(single, value.span(), &path, report),
    }
    if to.nets.is_empty() && to.complete {
        report.add(Finding::at(value.span(), &path, "found no network, expected one or more"));
        to.complete = false;
    }
    to
}

impl Destinations {
    fn add(&mut self, value: &DeValue, span: Range<usize>, path: &Path, report: &mut Report) {
        match value::destination(value) {
            Ok(net) => {
                self.nets.push(net);
                let len = span.len().min(u8::MAX.into()) as u8;
                self.places.push((u32::try_from(span.start).unwrap_or(u32::MAX), len));
            }
            Err(problem) => {
                add(report, span, path, problem);
                self.complete = false;
            }
        }
    }

    /// The words of a text; what follows a `#` on its line is none of them. The value is at `span`, and the text begins at
    /// `start` if it stands there as it is.
    fn add_words(
        &mut self,
        text: &str,
        (span, start): (Range<usize>, Option<usize>),
        path: &Path,
        report: &mut Report,
    ) {
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let words = line.split('#').next().unwrap_or_default();
            for word in words.split_whitespace() {
                let offset = at + (word.as_ptr() as usize - line.as_ptr() as usize);
                let place = start.map_or(span.clone(), |start| start + offset..start + offset + word.len());
                self.add(&DeValue::String(Cow::Borrowed(word)), place, path, report);
            }
            at += line.len();
        }
    }
}

fn read_target(route: &Section, report: &mut Report) -> Option<TargetDraft> {
    const EXPECTED: &str = "expected via, interface or reject";
    let intends = |key| route.intends(key, keys::ROUTE);
    let reject = route.read("reject", report, value::reject);
    let interface = read_interface(route, report);
    let (forwards, rejects) = (intends("via") || intends("interface"), intends("reject"));
    match (intends("via"), rejects) {
        (true, true) => {
            let message = "found both via and reject, expected one of them";
            report.add(Finding::at(route.span.clone(), route.path, message));
            None
        }
        (false, true) => {
            if let Some(interface) = interface {
                let message = "found an interface beside reject, expected one of them";
                report.add(Finding::at(interface.span(), route.path.key("interface"), message));
            }
            reject.map(|reject| TargetDraft::Reject(reject.into_inner()))
        }
        _ if !forwards => {
            let message = format!("found none of these, {EXPECTED}");
            let help =
                "write via = \"192.0.2.254\" to forward, or reject = \"unreachable\" to turn packets away";
            report.add(Finding::at(route.span.clone(), route.path, message).help(help));
            None
        }
        _ => match route.table.get("via").map(|value| (value.get_ref(), value.span())) {
            Some((DeValue::Array(array), span)) => {
                if let Some(interface) = interface {
                    let message =
                        "found an interface beside several next hops, expected it in each that needs one";
                    let finding = Finding::at(interface.span(), route.path.key("interface"), message);
                    report.add(
                        finding.help("write via = [{ address = \"fe80::1\", interface = \"NAME\" }, ...]"),
                    );
                    return None;
                }
                read_hops(route, array, span, report).map(TargetDraft::Forward)
            }
            Some((DeValue::Table(_), span)) => {
                let message = "found a table, expected an address, or several next hops in an array";
                report.add(Finding::at(span, route.path.key("via"), message).help("put it in brackets"));
                None
            }
            Some((_, span)) => {
                let via = Some(route.read("via", report, value::gateway)?);
                Some(TargetDraft::Forward(vec![HopDraft { index: None, span, via, interface, weight: 1 }]))
            }
            // A misspelt via has been reported.
            None if intends("via") => None,
            None => {
                let span = interface.as_ref()?.span();
                Some(TargetDraft::Forward(vec![HopDraft {
                    index: None,
                    span,
                    via: None,
                    interface,
                    weight: 1,
                }]))
            }
        },
    }
}

fn read_interface(section: &Section, report: &mut Report) -> Option<Spanned<String>> {
    section.read("interface", report, |value| value::string(value, "an interface's name").map(str::to_string))
}

/// Next hops, unless something is wrong with one.
fn read_hops(
    route: &Section,
    array: &DeArray,
    span: Range<usize>,
    report: &mut Report,
) -> Option<Vec<HopDraft>> {
    let path = route.path.key("via");
    if array.is_empty() {
        let message = "found no next hop, expected one or more";
        report.add(
            Finding::at(span, &path, message).help("to turn packets away write reject = \"unreachable\""),
        );
        return None;
    }
    if let Some(value) = array.get(MAX_NEXT_HOPS) {
        let message = format!("found {} next hops, expected at most {MAX_NEXT_HOPS}", array.len());
        report.add(Finding::at(value.span(), &path, message));
        return None;
    }
    let hops: Vec<Option<HopDraft>> = array
        .iter()
        .enumerate()
        .map(|(index, value)| read_hop(&Path::Index(&path, index), index, value, report))
        .collect();
    hops.into_iter().collect()
}

fn read_hop(path: &Path, index: usize, value: &Spanned<DeValue>, report: &mut Report) -> Option<HopDraft> {
    const EXPECTED: &str = "a next hop such as \"192.0.2.254\" or { address = \"192.0.2.254\", weight = 2 }";
    let draft =
        |via, interface, weight| HopDraft { index: Some(index), span: value.span(), via, interface, weight };
    let table = match value.get_ref() {
        DeValue::Table(table) => table,
        DeValue::String(_) => {
            return match value::gateway(value.get_ref()) {
                Ok(via) => Some(draft(Some(Spanned::new(value.span(), via)), None, 1)),
                Err(problem) => {
                    add(report, value.span(), path, problem);
                    None
                }
            };
        }
        other => {
            add(report, value.span(), path, Problem::expected(other, EXPECTED));
            return None;
        }
    };
    let section = Section { path, span: value.span(), table };
    section.report_unknown(keys::NEXT_HOP, report);
    let (via, interface) =
        (section.read("address", report, value::gateway), read_interface(&section, report));
    let weight = section.read("weight", report, value::weight);
    let intends = |key| section.intends(key, keys::NEXT_HOP);
    if !intends("address") && !intends("interface") {
        let message = "found neither, expected address or interface";
        let help = "write { address = \"192.0.2.254\" }, or { interface = \"NAME\" } for hosts on its link";
        report.add(Finding::at(value.span(), path, message).help(help));
    }
    // What could not be read has been reported, and is not taken for absent.
    let whole = via.is_some() == table.contains_key("address")
        && interface.is_some() == table.contains_key("interface")
        && (via.is_some() || interface.is_some())
        && weight.is_some() == table.contains_key("weight");
    whole.then(|| draft(via, interface, weight.map_or(1, Spanned::into_inner)))
}

/// A next hop as the file has it.
impl core::fmt::Display for HopDraft {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match (&self.via, &self.interface) {
            (Some(via), None) => write!(f, "{}", via.get_ref()),
            (Some(via), Some(interface)) => write!(f, "{} on {}", via.get_ref(), quoted(interface.get_ref())),
            (None, Some(interface)) => write!(f, "interface {}", quoted(interface.get_ref())),
            (None, None) => f.write_str("a next hop"),
        }
    }
}
