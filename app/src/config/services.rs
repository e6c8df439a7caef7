//! Whom the router asks and tells: the sections `[dns]`, `[ntp]` and `[[syslog]]`.

use alloc::format;
use alloc::vec::Vec;
use core::net::IpAddr;

use toml::Spanned;
use toml::de::DeValue;

use super::errors::{Finding, Path, Report};
use super::keys::{self, Key};
use super::read::{Section, add};
use super::types::{Host, Syslog};
use super::value::{self, Parsed, Problem};
use super::{MAX_SERVERS, MAX_SYSLOG};

/// The port of syslog over UDP (RFC 5426 §3.3).
const SYSLOG_PORT: u16 = 514;

/// The servers of `[dns]`.
pub(super) fn dns(root: &Section, report: &mut Report) -> Vec<IpAddr> {
    servers(root, "dns", keys::DNS, report, value::server)
}

/// The servers of `[ntp]`.
pub(super) fn ntp(root: &Section, report: &mut Report) -> Vec<Host> {
    servers(root, "ntp", keys::NTP, report, value::host)
}

fn servers<T: PartialEq>(
    root: &Section,
    key: &str,
    known: &[Key],
    report: &mut Report,
    parse: impl Fn(&DeValue) -> Parsed<T>,
) -> Vec<T> {
    let path = root.path.key(key);
    let Some(value) = root.table.get(key) else { return Vec::new() };
    let DeValue::Table(table) = value.get_ref() else {
        let problem = Problem::expected(value.get_ref(), "a section");
        add(report, value.span(), &path, problem.help(format!("write [{key}] and below it servers = [...]")));
        return Vec::new();
    };
    let section = Section { path: &path, span: value.span(), table };
    section.report_unknown(known, report);
    let path = section.path.key("servers");
    let Some(value) = table.get("servers") else {
        if !section.intends("servers", known) {
            let finding = Finding::at(section.span.clone(), section.path, "servers is missing");
            report.add(finding.help("add servers = [\"192.0.2.1\"]"));
        }
        return Vec::new();
    };
    let DeValue::Array(array) = value.get_ref() else {
        add(report, value.span(), &path, Problem::expected(value.get_ref(), "an array of servers"));
        return Vec::new();
    };
    if !(1..=MAX_SERVERS).contains(&array.len()) {
        let message = format!("found {} servers, expected 1 to {MAX_SERVERS}", array.len());
        report.add(Finding::at(value.span(), &path, message));
    }
    let mut all = Vec::new();
    for (index, value) in array.iter().enumerate().take(MAX_SERVERS) {
        match parse(value.get_ref()) {
            Ok(server) if all.contains(&server) => {
                report.add(Finding::at(
                    value.span(),
                    Path::Index(&path, index),
                    "this server is given twice",
                ));
            }
            Ok(server) => all.push(server),
            Err(problem) => add(report, value.span(), &Path::Index(&path, index), problem),
        }
    }
    all
}

/// All `[[syslog]]`.
pub(super) fn syslog(root: &Section, report: &mut Report) -> Vec<Syslog> {
    let path = root.path.key("syslog");
    let Some(value) = root.table.get("syslog") else { return Vec::new() };
    let DeValue::Array(array) = value.get_ref() else {
        let problem = Problem::expected(value.get_ref(), "a section for each server");
        add(report, value.span(), &path, problem.help("write [[syslog]], in double brackets"));
        return Vec::new();
    };
    if let Some(value) = array.get(MAX_SYSLOG) {
        let message = format!("found {} servers, expected at most {MAX_SYSLOG}", array.len());
        report.add(Finding::at(value.span(), &path, message));
    }
    let mut all: Vec<Syslog> = Vec::new();
    for (index, value) in array.iter().enumerate().take(MAX_SYSLOG) {
        let path = Path::Index(&path, index);
        let DeValue::Table(table) = value.get_ref() else {
            add(report, value.span(), &path, Problem::expected(value.get_ref(), "a server's section"));
            continue;
        };
        let section = Section { path: &path, span: value.span(), table };
        section.report_unknown(keys::SYSLOG, report);
        let host = section.read("server", report, value::host);
        let port = section.read("port", report, value::udp_port).map_or(SYSLOG_PORT, Spanned::into_inner);
        if !table.contains_key("server") && !section.intends("server", keys::SYSLOG) {
            let finding = Finding::at(section.span.clone(), section.path, "server is missing");
            report.add(finding.help("add server = \"192.0.2.1\""));
        }
        let Some(host) = host.map(Spanned::into_inner) else { continue };
        let one = Syslog { host, port };
        if all.contains(&one) {
            report.add(Finding::at(section.span.clone(), section.path, "this server is given twice"));
        }
        all.push(one);
    }
    all
}
