//! Values of one key that are refused.

use super::*;

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
        (
            "to = \"::/0\"".to_owned(),
            4,
            "",
            "found none of these, expected via, interface or reject".to_owned(),
        ),
        (
            format!("to = \"0.0.0.0/0\"\nreject = \"blackhole\"\n{via}"),
            4,
            "",
            "found both via and reject, expected one of them".to_owned(),
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
            "found an interface beside reject, expected one of them".to_owned(),
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
            "192.0.3.1 is on no interface's network, and the way to it leads through itself".to_owned(),
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
