//! What keys and sections say about each other, and about names nobody knows.

use super::*;

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
        (with_route("to = \"0.0.0.0/0\"\nvia = { address = \"192.0.2.2\" }"), "put it in brackets"),
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
        "unknown key, expected one of match, parent, vlan, addresses, mtu, router-advertisement, reverse-path-filter, management, enabled"
    );
    assert_eq!(error.help, None);
    assert_eq!(keys::nearest("abc", ["xyz"].into_iter()), None);
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
