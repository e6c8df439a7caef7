use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use std::collections::BTreeSet;

use super::keys::{self, SECTIONS};
use super::*;
use ipnet::IpNet;

mod properties;

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

#[test]
fn reads_the_example() {
    let config = Config::parse(EXAMPLE.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.hostname, "edge1");
    let [wan, lan] = &config.interfaces[..] else { panic!("{config:?}") };
    assert_eq!(
        *wan,
        Interface {
            name: "wan".to_owned(),
            matching: Match::Mac([0x52, 0x54, 0, 0, 0, 1]),
            addresses: vec![net("192.0.2.1/24"), net("2001:db8:1::1/64")],
            mtu: Some(1500),
            router_advertisement: false,
            reverse_path_filter: ReversePathFilter::Loose,
            enabled: true,
        }
    );
    assert_eq!((lan.matching, lan.mtu, lan.router_advertisement), (Match::Port(1), None, true));
    assert_eq!(
        config.routes,
        [
            Route {
                to: net("0.0.0.0/0"),
                target: Target::Gateway { via: [192, 0, 2, 254].into(), interface: 0 },
                metric: 0,
            },
            Route {
                to: net("::/0"),
                target: Target::Gateway { via: "fe80::1".parse().unwrap(), interface: 0 },
                metric: 0,
            },
            Route { to: net("10.0.0.0/8"), target: Target::Reject(Reject::Unreachable), metric: 0 },
        ]
    );
}

#[test]
fn fills_in_defaults() {
    let config = Config::parse(b"[interface.a]\nmatch = { port = 7 }").unwrap();
    assert_eq!(
        config,
        Config {
            hostname: "weir".to_owned(),
            steering: Steering::Off,
            interfaces: vec![Interface {
                name: "a".to_owned(),
                matching: Match::Port(7),
                addresses: vec![],
                mtu: None,
                router_advertisement: false,
                reverse_path_filter: ReversePathFilter::Off,
                enabled: true,
            }],
            routes: vec![],
        }
    );
}

#[test]
fn keeps_interfaces_in_the_order_of_the_text() {
    let config = Config::parse(
        b"[interface.z]\nmatch = { port = 0 }\n[interface.\"a.10\"]\nmatch = { port = 1 }\n[interface.m]\nmatch.port = 2",
    )
    .unwrap();
    let names: Vec<_> = config.interfaces.iter().map(|interface| &*interface.name).collect();
    assert_eq!(names, ["z", "a.10", "m"]);
}

#[test]
fn takes_values_at_their_limits() {
    for setting in [
        "mtu = 68",
        "mtu = 9216",
        "mtu = 0x5dc",
        "addresses = []",
        "addresses = [\"192.0.2.0/31\", \"192.0.2.255/32\"]",
        "addresses = [\"2001:db8::/127\", \"2001:db8:1::/128\"]",
        "addresses = [\"192.0.2.1/24\", \"192.0.2.2/24\", \"192.0.2.3/32\"]",
        "addresses = [\"fe80::1/64\"]\nmtu = 1280",
        "enabled = false",
        "reverse-path-filter = \"strict\"",
        "addresses = [\"2001:db8::1/64\"]\nrouter-advertisement = true",
        "[interface.a23456789012345]\nmatch = { mac = \"fE:54:00:00:00:01\" }",
        "[interface.0_a-b]\nmatch = { port = 65535 }",
        "addresses = [\"fe80::1/64\"]\n[interface.lan]\nmatch = { port = 1 }\naddresses = [\"fe80::1/64\"]",
    ] {
        let text = with_setting(setting);
        Config::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{text}{errors}"));
    }
    for route in [
        "to = \"198.51.100.7/32\"\nvia = \"192.0.2.2\"\nmetric = 4294967295",
        "to = \"2001:db8:1::2/128\"\nvia = \"2001:db8:1::3\"\ninterface = \"wan\"",
        "to = \"0.0.0.0/0\"\nreject = \"blackhole\"\n[[route]]\nto = \"0.0.0.0/0\"\nreject = \"prohibit\"\nmetric = 1",
    ] {
        let text = with_route(route);
        Config::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{text}{errors}"));
    }
}

#[test]
fn rejects_bad_values_of_an_interface() {
    let mtu = "expected a number of octets from 68 to 9216";
    let address = "expected an address with its prefix length, such as \"192.0.2.1/24\"";
    let host = "expected the address of a host";
    let ethernet = "expected an Ethernet address such as \"52:54:00:00:00:01\"";
    for (setting, key, message) in [
        ("mtu = 67", "mtu", format!("found the number 67, {mtu}")),
        ("mtu = 9217", "mtu", format!("found the number 9217, {mtu}")),
        ("mtu = -1500", "mtu", format!("found the number -1500, {mtu}")),
        ("mtu = 1500.0", "mtu", format!("found the number 1500.0, {mtu}")),
        ("mtu = \"1500\"", "mtu", format!("found \"1500\", {mtu}")),
        ("mtu = [1500]", "mtu", format!("found an array, {mtu}")),
        ("mtu = 1979-05-27", "mtu", format!("found the date or time 1979-05-27, {mtu}")),
        (
            "mtu = 99999999999999999999999999999999999999999999",
            "mtu",
            format!("found the number 9999999999999999999999999999999999999999..., {mtu}"),
        ),
        ("enabled = 1", "enabled", "found the number 1, expected true or false".to_owned()),
        ("enabled = \"no\"", "enabled", "found \"no\", expected true or false".to_owned()),
        (
            "reverse-path-filter = \"on\"",
            "reverse-path-filter",
            "found \"on\", expected one of \"off\", \"strict\", \"loose\"".to_owned(),
        ),
        (
            "reverse-path-filter = true",
            "reverse-path-filter",
            "found true, expected one of \"off\", \"strict\", \"loose\"".to_owned(),
        ),
        (
            "addresses = \"192.0.2.1/24\"",
            "addresses",
            "found \"192.0.2.1/24\", expected an array of addresses".to_owned(),
        ),
        ("addresses = [1]", "addresses[0]", format!("found the number 1, {address}")),
        ("addresses = [\"\"]", "addresses[0]", format!("found \"\", {address}")),
        ("addresses = [\"192.0.2.300/24\"]", "addresses[0]", format!("found \"192.0.2.300/24\", {address}")),
        (
            "addresses = [\"192.0.2.1\"]",
            "addresses[0]",
            format!("found \"192.0.2.1\" without a prefix length, {address}"),
        ),
        (
            "addresses = [\"192.0.2.1/33\"]",
            "addresses[0]",
            "found the prefix length \"33\", expected 0 to 32".to_owned(),
        ),
        (
            "addresses = [\"192.0.2.1/+24\"]",
            "addresses[0]",
            "found the prefix length \"+24\", expected 0 to 32".to_owned(),
        ),
        (
            "addresses = [\"2001:db8::1/129\"]",
            "addresses[0]",
            "found the prefix length \"129\", expected 0 to 128".to_owned(),
        ),
        (
            "addresses = [\"192.0.2.1/0\"]",
            "addresses[0]",
            "found the prefix length 0, expected 1 to 32".to_owned(),
        ),
        (
            "addresses = [\"192.0.2.0/24\"]",
            "addresses[0]",
            format!("192.0.2.0/24 is the address of the network itself, {host}"),
        ),
        (
            "addresses = [\"192.0.2.3/30\"]",
            "addresses[0]",
            format!("192.0.2.3/30 is the broadcast address of its network, {host}"),
        ),
        (
            "addresses = [\"2001:db8::/64\"]",
            "addresses[0]",
            format!("2001:db8::/64 is the anycast address of all routers of its network, {host}"),
        ),
        (
            "addresses = [\"0.0.0.0/8\"]",
            "addresses[0]",
            format!("0.0.0.0/8 is the unspecified address, {host}"),
        ),
        (
            "addresses = [\"0.0.0.1/8\"]",
            "addresses[0]",
            format!("0.0.0.1/8 is an address of \"this network\" (RFC 1122 3.2.1.3), {host}"),
        ),
        (
            "addresses = [\"127.0.0.1/8\"]",
            "addresses[0]",
            format!("127.0.0.1/8 is a loopback address, {host}"),
        ),
        (
            "addresses = [\"224.0.0.5/24\"]",
            "addresses[0]",
            format!("224.0.0.5/24 is a multicast address, {host}"),
        ),
        (
            "addresses = [\"240.0.0.5/24\"]",
            "addresses[0]",
            format!("240.0.0.5/24 is a reserved address (RFC 1112 4), {host}"),
        ),
        (
            "addresses = [\"255.255.255.255/32\"]",
            "addresses[0]",
            format!("255.255.255.255/32 is the broadcast address, {host}"),
        ),
        ("addresses = [\"::/128\"]", "addresses[0]", format!("::/128 is the unspecified address, {host}")),
        ("addresses = [\"::1/128\"]", "addresses[0]", format!("::1/128 is the loopback address, {host}")),
        (
            "addresses = [\"ff02::1/64\"]",
            "addresses[0]",
            format!("ff02::1/64 is a multicast address, {host}"),
        ),
        (
            "addresses = [\"::ffff:192.0.2.1/120\"]",
            "addresses[0]",
            format!("::ffff:192.0.2.1/120 is an IPv4 address in IPv6 form (RFC 4291 2.5.5.2), {host}"),
        ),
        (
            "addresses = [\"192.0.2.1/24\", \"192.0.2.1/25\"]",
            "addresses[1]",
            "192.0.2.1 is given twice".to_owned(),
        ),
        ("addresses = [\"fe80::1/64\", \"fe80::1/64\"]", "addresses[1]", "fe80::1 is given twice".to_owned()),
        (
            "mtu = 1279\naddresses = [\"fe80::1/64\"]",
            "mtu",
            "found 1279, expected at least 1280 with IPv6 (RFC 8200 5)".to_owned(),
        ),
        (
            "router-advertisement = true\naddresses = [\"fe80::1/64\", \"2001:db8::1/63\", \"192.0.2.1/24\"]",
            "router-advertisement",
            "found true without an IPv6 network to advertise, expected an address with /64 on the interface"
                .to_owned(),
        ),
        (
            "mtu = 1500\n[interface.lan]\nmatch = 3",
            "",
            "found the number 3, expected a table with mac or port".to_owned(),
        ),
        ("[interface.lan]\nmatch = { mac = 5 }", "", format!("found the number 5, {ethernet}")),
        (
            "[interface.lan]\nmatch = { mac = \"52:54:00:00:01\" }",
            "",
            format!("found \"52:54:00:00:01\", {ethernet}"),
        ),
        (
            "[interface.lan]\nmatch = { mac = \"52:54:0:00:00:01\" }",
            "",
            format!("found \"52:54:0:00:00:01\", {ethernet}"),
        ),
        (
            "[interface.lan]\nmatch = { mac = \"52:54:00:00:00:01:02\" }",
            "",
            format!("found \"52:54:00:00:00:01:02\", {ethernet}"),
        ),
        (
            "[interface.lan]\nmatch = { mac = \"01:00:5e:00:00:01\" }",
            "",
            "\"01:00:5e:00:00:01\" is a multicast address, expected a device's own".to_owned(),
        ),
        (
            "[interface.lan]\nmatch = { mac = \"00:00:00:00:00:00\" }",
            "",
            "\"00:00:00:00:00:00\" is no device's address".to_owned(),
        ),
        (
            "[interface.lan]\nmatch = { port = 65536 }",
            "",
            "found the number 65536, expected a place in the order of discovery from 0 to 65535".to_owned(),
        ),
        (
            "[interface.lan]\nmatch = { port = 1, mac = \"52:54:00:00:00:01\" }",
            "",
            "found both mac and port, expected one of them".to_owned(),
        ),
        ("[interface.lan]\nmatch = {}", "", "found an empty table, expected mac or port".to_owned()),
        ("[interface.lan]", "", "missing, expected what picks the interface's device".to_owned()),
    ] {
        let error = only(&with_setting(setting));
        assert_eq!(error.message, message, "{setting}");
        if !key.is_empty() {
            assert_eq!((error.line, error.key), (3, format!("interface.wan.{key}")), "{setting}");
        } else {
            assert!(error.key.starts_with("interface.lan.match"), "{}", error.key);
        }
    }
}

#[test]
fn rejects_bad_interface_names() {
    let expected = "expected a name of 1 to 15 characters a-z, 0-9, '.', '_', '-'";
    for (name, message) in [
        ("WAN", format!("\"WAN\" contains 'W', {expected}")),
        ("\"\"", format!("\"\" has 0 characters, {expected}")),
        ("abcdefghijklmnop", format!("\"abcdefghijklmnop\" has 16 characters, {expected}")),
        ("\"w an\"", format!("\"w an\" contains ' ', {expected}")),
        ("\"wän\"", format!("\"wän\" contains 'ä', {expected}")),
        ("-wan", "\"-wan\" begins with a sign, expected a letter or digit first".to_owned()),
        ("\"..\"", "\"..\" begins with a sign, expected a letter or digit first".to_owned()),
    ] {
        let error = only(&format!("[interface.{name}]\nmatch = {{ port = 0 }}\n"));
        assert_eq!((error.line, error.column, error.message), (1, 12, message));
    }
}

#[test]
fn rejects_bad_hostnames() {
    let long_label = "a".repeat(64);
    let long_name = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(63)].join(".");
    for (value, message) in [
        ("7", "found the number 7, expected a host name of letters, digits and hyphens, such as \"edge1\""),
        ("\"\"", "found \"\", expected a host name of letters, digits and hyphens, such as \"edge1\""),
        ("\"edge_1\"", "\"edge_1\" contains '_', expected only letters, digits, hyphens and dots"),
        ("\"edge\\n1\"", "\"edge\\n1\" contains '\\n', expected only letters, digits, hyphens and dots"),
        ("\"edge1.\"", "\"edge1.\" has an empty part, expected a name on each side of a dot"),
        ("\"-edge\"", "\"-edge\" has a part with a hyphen at its end, expected a letter or digit there"),
        ("\"edge-.a\"", "\"edge-.a\" has a part with a hyphen at its end, expected a letter or digit there"),
        (&format!("\"{long_label}\""), "has a part of 64 characters, expected at most 63"),
        (&format!("\"{long_name}\""), "has 255 characters, expected at most 253"),
    ] {
        let error = only(&format!("hostname = {value}\n{WAN}"));
        assert_eq!((error.line, error.column, &*error.key), (1, 12, "hostname"));
        assert!(error.message.ends_with(message), "{}", error.message);
    }
}

#[test]
fn rejects_bad_routes() {
    let network = "expected a network such as \"198.51.100.0/24\"";
    let router = "expected the next router's address, such as \"192.0.2.254\"";
    let via = "via = \"192.0.2.2\"";
    for (route, line, key, message) in [
        (format!("to = 3\n{via}"), 5, "to", format!("found the number 3, {network}")),
        (format!("to = \"default\"\n{via}"), 5, "to", format!("found \"default\", {network}")),
        (
            format!("to = \"10.1.2.3/8\"\n{via}"),
            5,
            "to",
            "10.1.2.3/8 has bits set behind its prefix, expected the network's address".to_owned(),
        ),
        (
            format!("to = \"10.0.0.0\"\n{via}"),
            5,
            "to",
            format!("found \"10.0.0.0\" without a prefix length, {network}"),
        ),
        (
            format!("to = \"224.0.0.0/4\"\n{via}"),
            5,
            "to",
            "224.0.0.0/4 is multicast, expected a unicast network to forward to".to_owned(),
        ),
        (
            format!("to = \"127.0.0.0/8\"\n{via}"),
            5,
            "to",
            "127.0.0.0/8 is loopback, expected a unicast network to forward to".to_owned(),
        ),
        (
            "to = \"fe80::/64\"\nreject = \"blackhole\"".to_owned(),
            5,
            "to",
            "fe80::/64 is link-local, expected a unicast network to forward to".to_owned(),
        ),
        (
            format!("to = \"192.0.2.0/24\"\n{via}"),
            5,
            "to",
            "192.0.2.0/24 is the network of interface wan: the route would never be used".to_owned(),
        ),
        (via.to_owned(), 4, "to", "missing, expected the destination network".to_owned()),
        ("to = \"::/0\"".to_owned(), 4, "", "found neither, expected via or reject".to_owned()),
        (
            format!("to = \"0.0.0.0/0\"\nreject = \"blackhole\"\n{via}"),
            4,
            "",
            "found both via and reject, expected via or reject".to_owned(),
        ),
        (
            "to = \"0.0.0.0/0\"\nreject = \"drop\"".to_owned(),
            6,
            "reject",
            "found \"drop\", expected one of \"blackhole\", \"unreachable\", \"prohibit\"".to_owned(),
        ),
        (
            "to = \"0.0.0.0/0\"\nreject = \"blackhole\"\ninterface = \"wan\"".to_owned(),
            7,
            "interface",
            "found an interface beside reject, expected it only beside via".to_owned(),
        ),
        (
            format!("to = \"0.0.0.0/0\"\n{via}\nmetric = -1"),
            7,
            "metric",
            "found the number -1, expected a number from 0 to 4294967295".to_owned(),
        ),
        ("to = \"0.0.0.0/0\"\nvia = \"router\"".to_owned(), 6, "via", format!("found \"router\", {router}")),
        (
            "to = \"0.0.0.0/0\"\nvia = \"224.0.0.1\"".to_owned(),
            6,
            "via",
            format!("224.0.0.1 is a multicast address, {router}"),
        ),
        (
            "to = \"0.0.0.0/0\"\nvia = \"192.0.2.255\"".to_owned(),
            6,
            "via",
            "192.0.2.255/24 is the broadcast address of its network, expected a router's address".to_owned(),
        ),
        (
            "to = \"0.0.0.0/0\"\nvia = \"192.0.2.1\"".to_owned(),
            6,
            "via",
            "192.0.2.1 is this router's own address, on interface wan".to_owned(),
        ),
        (
            "to = \"0.0.0.0/0\"\nvia = \"192.0.3.1\"".to_owned(),
            6,
            "via",
            "192.0.3.1 is on no interface's network, expected a neighbour's address".to_owned(),
        ),
        (
            "to = \"0.0.0.0/0\"\nvia = \"2001:db8:1::2\"".to_owned(),
            6,
            "via",
            "2001:db8:1::2 cannot be the next router to 0.0.0.0/0, expected an IPv4 address".to_owned(),
        ),
        (
            "to = \"::/0\"\nvia = \"fe80::1\"".to_owned(),
            6,
            "via",
            "fe80::1 is link-local, expected the interface to reach it by".to_owned(),
        ),
        (
            "to = \"::/0\"\nvia = \"fe80::1\"\ninterface = \"lan\"".to_owned(),
            7,
            "interface",
            "found \"lan\", expected the name of an interface".to_owned(),
        ),
    ] {
        let key = format!("route[0]{}{key}", if key.is_empty() { "" } else { "." });
        assert_only(&with_route(&route), line, &key, &message);
    }
}

#[test]
fn reports_both_ends_of_a_conflict() {
    let two = |first: &str, second: &str| format!("[interface.a]\n{first}\n[interface.b]\n{second}\n");
    let mac = "match = { mac = \"52:54:00:00:00:01\" }";
    let with = |port: usize, address: &str| format!("match.port = {port}\naddresses = [\"{address}\"]");
    for (text, line, key, message, other) in [
        (
            two(mac, mac),
            4,
            "interface.b.match",
            "mac 52:54:00:00:00:01 is the device of interface a already",
            2,
        ),
        (
            two("match.port = 3", "match = { port = 3 }"),
            4,
            "interface.b.match",
            "port 3 is the device of interface a already",
            2,
        ),
        (
            two(&with(0, "10.0.0.1/24"), &with(1, "10.0.0.1/24")),
            6,
            "interface.b.addresses[0]",
            "10.0.0.1 is the address of interface a already",
            3,
        ),
        (
            two(&with(0, "10.0.0.1/24"), &with(1, "10.0.0.2/24")),
            6,
            "interface.b.addresses[0]",
            "10.0.0.0/24 is the network of interface a already, expected one interface a network",
            3,
        ),
        (
            two(&with(0, "10.0.9.1/24"), &with(1, "10.0.0.1/8")),
            6,
            "interface.b.addresses[0]",
            "10.0.0.0/8 overlaps 10.0.9.0/24 of interface a, expected networks apart",
            3,
        ),
        (
            two(&with(0, "2001:db8::1/48"), &with(1, "2001:db8:0:9::1/64")),
            6,
            "interface.b.addresses[0]",
            "2001:db8:0:9::/64 overlaps 2001:db8::/48 of interface a, expected networks apart",
            3,
        ),
        (
            with_route(
                "to = \"0.0.0.0/0\"\nvia = \"192.0.2.2\"\n[[route]]\nto = \"0.0.0.0/0\"\nreject = \"blackhole\"",
            ),
            8,
            "route[1].to",
            "there is a route to 0.0.0.0/0 with metric 0 already",
            5,
        ),
        (
            format!(
                "{WAN}[interface.b]\nmatch.port = 1\naddresses = [\"fe80::9/64\"]\n[[route]]\nto = \"::/0\"\nvia = \"fe80::9\"\ninterface = \"b\""
            ),
            9,
            "route[0].via",
            "fe80::9 is this router's own address, on interface b",
            6,
        ),
    ] {
        assert_only(&text, line, key, message);
        assert_eq!(only(&text).note.map(|note| note.line), Some(other), "{text}");
    }
}

#[test]
fn compares_a_routes_interface_with_its_gateway() {
    let lan = "[interface.lan]\nmatch.port = 1\naddresses = [\"10.0.0.1/24\"]\n";
    let text = format!("{WAN}{lan}[[route]]\nto = \"0.0.0.0/0\"\nvia = \"10.0.0.9\"\ninterface = \"wan\"\n");
    assert_only(
        &text,
        10,
        "route[0].interface",
        "found \"wan\", but 10.0.0.9 is on the network of interface lan",
    );
    assert_eq!(only(&text).help.as_deref(), Some("write interface = \"lan\", or leave it out"));
}

#[test]
fn suggests_what_was_meant() {
    for (text, help) in [
        (format!("hostnam = \"a\"\n{WAN}"), "did you mean hostname?"),
        (with_setting("adresses = [\"192.0.2.1/24\"]"), "did you mean addresses?"),
        (with_setting("router_advertisement = true"), "did you mean router-advertisement?"),
        (with_setting("MTU = 1500"), "did you mean mtu?"),
        (with_setting("rp-filter = \"strict\""), "did you mean reverse-path-filter?"),
        (
            with_setting("hostname = \"a\""),
            "hostname belongs at the top of the file, before the first [section]",
        ),
        (with_setting("mac = \"52:54:00:00:00:01\""), "mac belongs in an interface's match = { ... }"),
        (with_setting("via = \"192.0.2.2\""), "via belongs in a [[route]] section"),
        (format!("mtu = 1500\n{WAN}"), "mtu belongs in an [interface.NAME] section"),
        ("[interfaces.wan]\nmatch = { port = 0 }".to_owned(), "did you mean interface?"),
        (
            with_setting("[interface.wan.10]\nmatch = { port = 1 }"),
            "a name with a dot is written in quotes: [interface.\"wan.10\"]",
        ),
        ("[interface.WAN]\nmatch.port = 0".to_owned(), "names are in lower case: wan"),
        ("[interface.wan]\nmatch = { prot = 0 }".to_owned(), "did you mean port?"),
        (
            "[interface.wan]\nmatch = { mac = \"52-54-00-00-00-01\" }".to_owned(),
            "with colons: \"52:54:00:00:00:01\"",
        ),
        (with_setting("reverse-path-filter = \"strcit\""), "did you mean \"strict\"?"),
        (with_setting("mtu = \"1500\""), "write 1500, without quotes"),
        (with_setting("enabled = \"yes\""), "write true, without quotes"),
        (with_setting("addresses = \"192.0.2.1/24\""), "put it in brackets: addresses = [\"192.0.2.1/24\"]"),
        (
            with_setting("addresses = [\"192.0.2.0/24\"]"),
            "the first address of this network is \"192.0.2.1/24\"",
        ),
        (
            with_setting("addresses = [\"2001:db8::/64\"]"),
            "the first address of this network is \"2001:db8::1/64\"",
        ),
        (
            with_setting("addresses = [\"192.0.2.1/255.255.255.0\"]"),
            "this mask is the prefix length 24: \"192.0.2.1/24\"",
        ),
        (
            with_route("to = \"10.1.2.3/8\"\nvia = \"192.0.2.2\""),
            "write \"10.0.0.0/8\", or \"10.1.2.3/32\" for this host alone",
        ),
        (with_route("to = \"0.0.0.0/0\"\ngateway = \"192.0.2.2\""), "did you mean via?"),
        (
            with_route("to = \"0.0.0.0/0\"\nvia = [\"192.0.2.2\"]"),
            "leave the brackets out: this key takes one value",
        ),
        (with_route("to = \"0.0.0.0/0\"\nvia = \"192.0.2.2/24\""), "without prefix length: \"192.0.2.2\""),
        (
            with_route("to = \"::/0\"\nvia = \"fe80::1%wan\""),
            "write via = \"fe80::1\" and name the interface with interface = \"...\"",
        ),
        (with_route("to = \"::/0\"\nvia = \"fe80::1\"\ninterface = \"wna\""), "did you mean \"wan\"?"),
        (with_route("to = \"::/0\"\nvia = \"fe80::1\"\ninterface = \"lan0\""), "there are wan"),
        (format!("{WAN}[route]\nto = \"0.0.0.0/0\""), "write [[route]], in double brackets"),
        ("[[interface]]\nname = \"wan\"".to_owned(), "write [interface.NAME], in single brackets"),
        ("[interface]\nmtu = 1500".to_owned(), "an interface has a name: [interface.NAME]"),
        ("interface.wan = 3".to_owned(), "write [interface.wan]"),
        (format!("hostname = edge1\n{WAN}"), "texts are written in quotes: \"edge1\""),
        (with_setting("addresses = [192.0.2.1/24]"), "texts are written in quotes: \"192.0.2.1/24\""),
        (
            "[interface.wan]\nmatch = { mac = 52:54:00:00:00:01 }".to_owned(),
            "texts are written in quotes: \"52:54:00:00:00:01\"",
        ),
    ] {
        assert_eq!(only(&text).help.as_deref(), Some(help), "{text}");
    }
}

#[test]
fn lists_known_keys_when_none_is_near() {
    let error = only(&with_setting("colour = \"blue\""));
    assert_eq!((error.line, error.column, &*error.key), (3, 1, "interface.wan.colour"));
    assert_eq!(
        error.message,
        "unknown key, expected one of match, addresses, mtu, router-advertisement, reverse-path-filter, enabled"
    );
    assert_eq!(error.help, None);
    assert_eq!(keys::nearest("abc", ["xyz"].into_iter()), None);
}

#[test]
fn reports_syntax_errors_with_their_place() {
    for (text, line, column, message) in [
        ("hostname = \"a\nx = 1\n", 1, 14, "not valid TOML: invalid basic string, expected `\"`"),
        ("\n\n[interface.wan\n", 3, 15, "not valid TOML: unclosed table, expected `]`"),
        ("mtu 5\n", 1, 5, "not valid TOML: key with no value, expected `=`"),
        ("[interface.wan]\nmtu = 1\nmtu = 2\n", 3, 1, "not valid TOML: duplicate key"),
        ("[interface.wan]\n[interface.wan]\n", 2, 12, "not valid TOML: duplicate key"),
    ] {
        let error = only(text);
        assert_eq!((error.line, error.column, &*error.key, &*error.message), (line, column, "", message));
    }
    let several = errors("a = 1\na = 2\nb = \"open\nc\n");
    assert_eq!(several.iter().map(|error| error.line).collect::<Vec<_>>(), [2, 3, 4], "{several}");
}

#[test]
fn reports_texts_that_say_nothing() {
    for text in ["", " \n\t\n", "# only a comment\n"] {
        assert_only(text, 1, "", "the configuration is empty");
    }
    assert_only("hostname = \"a\"", 1, "", "no interface is configured");
    assert_only("[interface]", 1, "interface", "found no interface, expected a section for each");
}

#[test]
fn reports_the_first_byte_that_is_not_utf8() {
    let errors = Config::parse(b"hostname = \"\xc3\xa9dge\"\n  # \xff\n").unwrap_err();
    let error = errors.iter().next().unwrap();
    assert_eq!((error.line, error.column, &*error.message), (2, 5, "not UTF-8: found the byte 0xff"));
}

#[test]
fn refuses_more_than_its_limits() {
    let long = format!("{WAN}#{}", " ".repeat(MAX_BYTES - WAN.len() - 1));
    assert!(Config::parse(long.as_bytes()).is_ok());
    assert_only(&format!("{long} "), 1, "", "the configuration is too long, expected at most 4194304 bytes");

    let interfaces = |count| -> String {
        (0..count).map(|i| format!("[interface.if{i}]\nmatch = {{ port = {i} }}\n")).collect()
    };
    assert_eq!(Config::parse(interfaces(64).as_bytes()).unwrap().interfaces.len(), 64);
    assert_only(&interfaces(65), 129, "interface.if64", "found 65 interfaces, expected at most 64");

    let addresses = |count| {
        let list: Vec<String> = (1..=count).map(|i| format!("\"192.0.2.{i}/24\"")).collect();
        with_setting(&format!("addresses = [{}]", list.join(",\n")))
    };
    assert!(Config::parse(addresses(32).as_bytes()).is_ok());
    assert_only(&addresses(33), 35, "interface.wan.addresses", "found 33 addresses, expected at most 32");

    // Written as tersely as TOML allows: in sections of their own so many would be too long a text.
    let routes = |count: usize| {
        let route = |i: usize| {
            format!("{{to='{}.{}.{}.0/24',reject='prohibit'}}", 1 + i / 65536, i / 256 % 256, i % 256)
        };
        let list: Vec<String> = (0..count).map(route).collect();
        format!("route=[{}]\n{WAN}", list.join(","))
    };
    assert_eq!(Config::parse(routes(100_000).as_bytes()).unwrap().routes.len(), 100_000);
    assert_only(&routes(100_001), 1, "route", "found 100001 routes, expected at most 100000");
}

#[test]
fn reports_the_first_errors_and_counts_the_rest() {
    let mut text = with_setting("");
    for _ in 0..25 {
        text.push_str("[[route]]\nto = 1\n");
    }
    text.insert_str(0, "hostname = 3\n");
    let errors = errors(&text);
    // Each route lacks a target and has a bad destination; the first error of all is found before them.
    assert_eq!((errors.iter().count(), errors.omitted()), (MAX_ERRORS, 51 - MAX_ERRORS));
    let lines: Vec<usize> = errors.iter().map(|error| error.line).collect();
    assert_eq!(lines, [vec![1], (5..24).collect::<Vec<_>>()].concat());
    assert!(errors.to_string().ends_with("51 errors, the first 20 are shown\n"), "{errors}");
}

#[test]
fn does_not_report_what_follows_from_another_error() {
    // The gateway is fine once the address is.
    let text = "[interface.wan]\nmatch.port = 0\naddresses = [\"192.0.2.1/33\"]\n\
                router-advertisement = true\n[[route]]\nto = \"0.0.0.0/0\"\nvia = \"192.0.2.254\"\n";
    assert_only(text, 3, "interface.wan.addresses[0]", "found the prefix length \"33\", expected 0 to 32");
    let text = text.replace("addresses = [\"192.0.2.1/33\"]", "adresses = [\"192.0.2.1/24\"]");
    assert_eq!(only(&text).key, "interface.wan.adresses");
}

#[test]
fn shows_the_source_with_a_caret() {
    let text = "hostname = \"edge1\"\n\n[interface.wan]\nmatch = { port = 0 }\nmtu = 12\t# tëst\r\n";
    let errors = errors(text);
    assert_eq!(
        errors.in_file("weir.toml").to_string(),
        "weir.toml:5:7: error: interface.wan.mtu: found the number 12, expected a number of octets from 68 to 9216\n\
         \x20 |\n\
         5 | mtu = 12 # tëst\n\
         \x20 |       ^^\n\
         1 error\n"
    );
    assert!(
        errors.to_string().starts_with("line 5, column 7: error: interface.wan.mtu: found the number 12")
    );
}

#[test]
fn shows_a_conflict_with_both_lines() {
    let text = "[interface.a]\nmatch.port = 1\n[interface.b]\n\n\n\n\n\n\n\nmatch.port = 1\n";
    assert_eq!(
        errors(text).to_string(),
        "line 11, column 1: error: interface.b.match: port 1 is the device of interface a already\n\
         \x20  |\n\
         11 | match.port = 1\n\
         \x20  | ^^^^^\n\
         \x202 | match.port = 1\n\
         \x20  | ----- first used here\n\
         1 error\n"
    );
}

#[test]
fn cuts_long_lines_around_the_caret() {
    let good: Vec<String> = (11..=29).map(|host| format!("\"192.0.2.{host}/24\"")).collect();
    let (before, after) = (good[..9].join(", "), good[9..].join(", "));
    let error = only(&with_setting(&format!("addresses = [{before}, \"ä\", {after}]")));
    assert_eq!((error.line, error.column), (3, 14 + 9 * 17));
    let shown = error.to_string();
    let excerpt: Vec<&str> = shown.lines().skip(2).take(2).collect();
    let [source, caret] = excerpt[..] else { panic!("{shown}") };
    assert!(source.starts_with("3 | ...") && source.ends_with("..."), "{shown}");
    assert!(source.chars().count() <= 4 + 3 + 60 + 60 + 3, "{shown}");
    let (at, marked) = (caret.find('^').unwrap(), caret.matches('^').count());
    assert_eq!(source.chars().skip(at).take(marked).collect::<String>(), "\"ä\"", "{shown}");

    let endless = with_route(&format!("to = \"{}\"\nvia = \"192.0.2.2\"", "é".repeat(10_000)));
    let shown = only(&endless).to_string();
    assert!(shown.lines().all(|line| line.chars().count() < 160), "{shown}");
}

#[test]
fn never_prints_control_characters_of_the_text() {
    for text in [
        "hostname = \"a\u{1b}[2Jb\"\n".to_owned(),
        "hostname = \"a\\u001b[2Jb\"\n".to_owned(),
        format!("\"\\u001b[2J\" = 1\n{WAN}"),
        with_setting("addresses = [\"\\u001b[2J\"]"),
        "[interface.\"\\u001b[2J\"]".to_owned(),
        with_setting("# \u{9b}2J\u{7f}\nmtu = 1 # \u{9b}2J"),
    ] {
        let shown = errors(&text).to_string();
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    }
}

#[test]
fn manual_describes_exactly_the_keys_there_are() {
    let described: BTreeSet<&str> = MANUAL
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(key, _)| key))
        .collect();
    let known: BTreeSet<&str> = SECTIONS
        .iter()
        .flat_map(|(keys, _)| keys.iter().map(|key| key.name))
        .filter(|&key| key != "route")
        .collect();
    assert_eq!(described, known);
    for header in ["[interface.NAME]", "[[route]]"] {
        assert!(MANUAL.contains(header), "{header}");
    }
}

#[test]
fn manuals_examples_are_valid() {
    let examples: Vec<&str> =
        MANUAL.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        Config::parse(example.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
    }
}
