//! From the TOML tree to a [`Draft`]: typed values that still know where they stand. Here are the rules
//! that one section can break alone; rules between sections are [`super::check`]'s.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::Range;
use weir_sync::sort::sort_by_key;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::{Finding, Path, Report, quoted};
use super::keys::{self, Key};
use super::routes::{self, RouteDraft};
use super::services;
use super::tokens;
use super::types::{Host, Learn, Match, ReversePathFilter, Steering, Syslog, Token};
use super::value::{self, Parsed, Problem};
use super::{MAX_ADDRESSES, MAX_INTERFACES};

/// A configuration as far as it could be read. What is missing in it has been reported.
pub(super) struct Draft {
    pub(super) hostname: Option<String>,
    pub(super) steering: Steering,
    pub(super) interfaces: Vec<InterfaceDraft>,
    pub(super) dns: Vec<IpAddr>,
    pub(super) ntp: Vec<Host>,
    pub(super) syslog: Vec<Syslog>,
    pub(super) tokens: Vec<Token>,
    pub(super) routes: Vec<RouteDraft>,
}

pub(super) struct InterfaceDraft {
    pub(super) name: String,
    pub(super) attachment: AttachmentDraft,
    pub(super) addresses: Vec<AddressDraft>,
    pub(super) learn: Learn,
    /// Whether all addresses could be read.
    pub(super) addresses_complete: bool,
    pub(super) mtu: Option<Spanned<u16>>,
    pub(super) router_advertisement: Option<Spanned<bool>>,
    pub(super) reverse_path_filter: ReversePathFilter,
    pub(super) management: bool,
    pub(super) enabled: bool,
}

/// A device, or a parent and a VLAN.
#[derive(Default)]
pub(super) struct AttachmentDraft {
    pub(super) matching: Option<Spanned<Match>>,
    pub(super) parent: Option<Spanned<String>>,
    pub(super) vlan: Option<Spanned<u16>>,
}

pub(super) struct AddressDraft {
    /// Place among the interface's addresses in the file.
    pub(super) index: usize,
    pub(super) net: IpNet,
    pub(super) span: Range<usize>,
}

pub(super) fn read(root: &DeTable, report: &mut Report) -> Draft {
    let root = Section { path: &Path::Root, span: 0..0, table: root };
    root.report_unknown(keys::ROOT, report);
    Draft {
        hostname: root.read("hostname", report, value::hostname).map(Spanned::into_inner),
        steering: root.read("steering", report, value::steering).map(Spanned::into_inner).unwrap_or_default(),
        interfaces: read_interfaces(&root, report),
        dns: services::dns(&root, report),
        ntp: services::ntp(&root, report),
        syslog: services::syslog(&root, report),
        tokens: tokens::read(&root, report),
        routes: routes::read(&root, report),
    }
}

fn read_interfaces(root: &Section, report: &mut Report) -> Vec<InterfaceDraft> {
    let path = root.path.key("interface");
    let Some(value) = root.table.get("interface") else {
        if !root.intends("interface", keys::ROOT) {
            let help = "add a section [interface.NAME] with match = { port = 0 }";
            report.add(Finding::whole("no interface is configured").help(help));
        }
        return Vec::new();
    };
    let DeValue::Table(table) = value.get_ref() else {
        let problem = Problem::expected(value.get_ref(), "a section for each interface");
        add(report, value.span(), &path, problem.help("write [interface.NAME], in single brackets"));
        return Vec::new();
    };
    if table.is_empty() {
        let message = "found no interface, expected a section for each";
        report.add(Finding::at(value.span(), &path, message).help("write [interface.NAME]"));
    }
    let mut entries: Vec<_> = table.iter().collect();
    sort_by_key(&mut entries, |(name, _)| name.span().start);
    if let Some((name, _)) = entries.get(MAX_INTERFACES) {
        let message = format!("found {} interfaces, expected at most {MAX_INTERFACES}", entries.len());
        report.add(Finding::at(name.span(), path.key(name.get_ref()), message));
    }
    let entries = entries.into_iter().take(MAX_INTERFACES);
    entries.filter_map(|(name, value)| read_interface(&path, name, value, report)).collect()
}

fn read_interface(
    interfaces: &Path,
    name: &Spanned<impl AsRef<str>>,
    value: &Spanned<DeValue>,
    report: &mut Report,
) -> Option<InterfaceDraft> {
    let key = name.get_ref().as_ref();
    let path = interfaces.key(key);
    let DeValue::Table(table) = value.get_ref() else {
        let problem = Problem::expected(value.get_ref(), "an interface's section");
        let help = match keys::INTERFACE.iter().any(|known| known.name == key) {
            true => "an interface has a name: [interface.NAME]".to_string(),
            false => format!("write [{path}]"),
        };
        add(report, name.span(), &path, problem.help(help));
        return None;
    };
    if let Err(problem) = value::interface_name(key) {
        add(report, name.span(), &path, problem);
    }
    let section = Section { path: &path, span: value.span(), table };
    section.report_unknown(keys::INTERFACE, report);
    let mut learn = Learn::default();
    let (addresses, addresses_complete) = read_addresses(&section, &mut learn, report);
    Some(InterfaceDraft {
        name: key.to_string(),
        attachment: read_attachment(&section, report),
        addresses,
        learn,
        addresses_complete,
        mtu: section.read("mtu", report, value::mtu),
        router_advertisement: section.read("router-advertisement", report, value::boolean),
        reverse_path_filter: section
            .read("reverse-path-filter", report, value::reverse_path_filter)
            .map_or_else(ReversePathFilter::default, Spanned::into_inner),
        management: section.read("management", report, value::boolean).is_some_and(Spanned::into_inner),
        enabled: section.read("enabled", report, value::boolean).is_none_or(Spanned::into_inner),
    })
}

/// Device or parent and VLAN, as far as they could be read.
fn read_attachment(interface: &Section, report: &mut Report) -> AttachmentDraft {
    let intends = |key| interface.intends(key, keys::INTERFACE);
    let parent = interface
        .read("parent", report, |value| value::string(value, "an interface's name").map(str::to_string));
    let vlan = interface.read("vlan", report, value::vlan);
    let at = |key: &str, message: &str| {
        let span = interface.table.get(key).map_or(interface.span.clone(), Spanned::span);
        Finding::at(span, interface.path.key(key), message)
    };
    match (intends("match"), intends("parent"), intends("vlan")) {
        (true, true, _) => report.add(
            at("parent", "found both match and parent, expected one of them")
                .help("match is a device of its own, parent an interface that has one"),
        ),
        (_, false, true) => report.add(
            at("vlan", "found a VLAN without parent, expected the interface that it is on as well")
                .help("add parent = \"NAME\", and no match"),
        ),
        (_, true, false) => report.add(
            at("vlan", "missing beside parent, expected the number of a VLAN, from 1 to 4094")
                .help("add vlan = 10"),
        ),
        (_, true, true) => {}
        (_, false, false) => {
            return AttachmentDraft { matching: read_match(interface, report), ..AttachmentDraft::default() };
        }
    }
    AttachmentDraft { matching: None, parent, vlan }
}

fn read_match(interface: &Section, report: &mut Report) -> Option<Spanned<Match>> {
    const FORMS: &str = "match = { mac = \"52:54:00:00:00:01\" } or match = { port = 0 }";
    let path = interface.path.key("match");
    let Some(value) = interface.table.get("match") else {
        if !interface.intends("match", keys::INTERFACE) {
            let message = "missing, expected what picks the interface's device";
            let help = format!("add {FORMS}; on a VLAN, parent and vlan");
            report.add(Finding::at(interface.span.clone(), &path, message).help(help));
        }
        return None;
    };
    let DeValue::Table(table) = value.get_ref() else {
        let problem = Problem::expected(value.get_ref(), "a table with mac or port");
        add(report, value.span(), &path, problem.help(format!("write {FORMS}")));
        return None;
    };
    let section = Section { path: &path, span: value.span(), table };
    section.report_unknown(keys::MATCH, report);
    let mac = section.read("mac", report, value::mac);
    let port = section.read("port", report, value::port);
    match (table.get("mac"), table.get("port")) {
        (Some(_), Some(_)) => {
            report.add(Finding::at(value.span(), &path, "found both mac and port, expected one of them"));
            None
        }
        (None, None) => {
            // An unknown key has been reported and is most likely what should have been mac or port.
            if table.is_empty() {
                let message = "found an empty table, expected mac or port";
                report.add(Finding::at(value.span(), &path, message).help(format!("write {FORMS}")));
            }
            None
        }
        _ => {
            let matching = mac.map(|mac| Match::Mac(mac.into_inner()));
            matching
                .or(port.map(|port| Match::Port(port.into_inner())))
                .map(|matching| Spanned::new(value.span(), matching))
        }
    }
}

/// The addresses that could be read, and whether these are all.
fn read_addresses(interface: &Section, learn: &mut Learn, report: &mut Report) -> (Vec<AddressDraft>, bool) {
    let path = interface.path.key("addresses");
    let Some(value) = interface.table.get("addresses") else {
        return (Vec::new(), !interface.intends("addresses", keys::INTERFACE));
    };
    let DeValue::Array(array) = value.get_ref() else {
        let problem = Problem::expected(value.get_ref(), "an array of addresses");
        let problem = match value.get_ref() {
            DeValue::String(text) => {
                problem.help(format!("put it in brackets: addresses = [{}]", quoted(text)))
            }
            _ => problem,
        };
        add(report, value.span(), &path, problem);
        return (Vec::new(), false);
    };
    if let Some(value) = array.get(MAX_ADDRESSES) {
        let message = format!("found {} addresses, expected at most {MAX_ADDRESSES}", array.len());
        report.add(Finding::at(value.span(), &path, message));
    }
    let mut complete = array.len() <= MAX_ADDRESSES;
    let mut addresses = Vec::new();
    for (index, value) in array.iter().enumerate().take(MAX_ADDRESSES) {
        let word = match value.get_ref().as_str() {
            Some("dhcp") => Some(&mut learn.dhcp),
            Some("auto") => Some(&mut learn.auto),
            _ => None,
        };
        if let Some(word) = word {
            if core::mem::replace(word, true) {
                report.add(Finding::at(value.span(), Path::Index(&path, index), "this is given twice"));
            }
            continue;
        }
        match value::interface_address(value.get_ref()) {
            Ok(net) => addresses.push(AddressDraft { index, net, span: value.span() }),
            Err(problem) => {
                add(report, value.span(), &Path::Index(&path, index), problem);
                complete = false;
            }
        }
    }
    (addresses, complete)
}

/// One table of the file.
pub(super) struct Section<'a, 'i> {
    pub(super) path: &'a Path<'a>,
    pub(super) span: Range<usize>,
    pub(super) table: &'a DeTable<'i>,
}

impl Section<'_, '_> {
    /// The value of `key`; `None` if it is absent, or wrong and reported.
    pub(super) fn read<T>(
        &self,
        key: &str,
        report: &mut Report,
        parse: impl FnOnce(&DeValue) -> Parsed<T>,
    ) -> Option<Spanned<T>> {
        let value = self.table.get(key)?;
        match parse(value.get_ref()) {
            Ok(parsed) => Some(Spanned::new(value.span(), parsed)),
            Err(problem) => {
                add(report, value.span(), &self.path.key(key), problem);
                None
            }
        }
    }

    /// Whether `key` is there, if misspelt: then it is reported as unknown and not missing as well.
    pub(super) fn intends(&self, key: &str, known: &[Key]) -> bool {
        self.table.contains_key(key)
            || self.table.keys().any(|found| {
                !known.iter().any(|key| key.name == found.get_ref())
                    && keys::meant(found.get_ref(), known) == Some(key)
            })
    }

    pub(super) fn report_unknown(&self, known: &[Key], report: &mut Report) {
        for (key, value) in self.table {
            let name: &str = key.get_ref();
            if known.iter().any(|key| key.name == name) {
                continue;
            }
            let names: Vec<&str> = known.iter().map(|key| key.name).collect();
            let finding = Finding::at(
                key.span(),
                self.path.key(name),
                format!("unknown key, expected one of {}", names.join(", ")),
            );
            report.add(match self.unknown_help(name, value.get_ref(), known) {
                Some(help) => finding.help(help),
                None => finding,
            });
        }
    }

    fn unknown_help(&self, name: &str, value: &DeValue, known: &[Key]) -> Option<String> {
        if let (Path::Key(Path::Key(Path::Root, "interface"), interface), DeValue::Table(_)) =
            (self.path, value)
        {
            return Some(format!(
                "a name with a dot is written in quotes: [interface.\"{interface}.{name}\"]"
            ));
        }
        if let Some(place) = keys::home(name) {
            return Some(format!("{name} belongs {place}"));
        }
        keys::meant(name, known).map(value::did_you_mean)
    }
}

pub(super) fn add(report: &mut Report, span: Range<usize>, path: &Path, problem: Problem) {
    let finding = Finding::at(span, path, problem.message);
    report.add(match problem.help {
        Some(help) => finding.help(help),
        None => finding,
    });
}
