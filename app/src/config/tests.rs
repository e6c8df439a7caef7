//! Texts and what becomes of them; what the tests share.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use std::collections::BTreeSet;

use super::keys::{self, SECTIONS};
use super::*;
use ipnet::IpNet;

mod learning;
mod manual;
mod properties;
mod reading;
mod reports;
mod routes;
mod rules;
mod tokens;
mod values;
mod vlans;

const EXAMPLE: &str = include_str!("../../../images/weir.toml");
const MANUAL: &str = include_str!("../../../docs/configuration.md");

/// Three lines to which tests of routes add theirs.
const WAN: &str = "[interface.wan]
match = { port = 0 }
addresses = [\"192.0.2.1/24\", \"2001:db8:1::1/64\"]
";

fn errors(text: &str) -> Errors {
    Config::parse(text.as_bytes()).expect_err(text)
}

/// The one error of a text.
fn only(text: &str) -> Error {
    let errors = errors(text);
    assert_eq!(errors.iter().count(), 1, "{text}\n{errors}");
    errors.iter().next().cloned().expect("counted")
}

#[track_caller]
fn assert_only(text: &str, line: usize, key: &str, message: &str) {
    let error = only(text);
    assert_eq!((error.line, &*error.key, &*error.message), (line, key, message), "{text}");
}

/// `setting` as the third line, in the section of interface wan.
fn with_setting(setting: &str) -> String {
    format!("[interface.wan]\nmatch = {{ port = 0 }}\n{setting}\n")
}

/// `route` as the lines from the fifth on, in the section of a route.
fn with_route(route: &str) -> String {
    format!("{WAN}[[route]]\n{route}\n")
}

fn net(text: &str) -> IpNet {
    text.parse().expect(text)
}
