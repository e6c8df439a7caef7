//! Interfaces on VLANs.

use super::*;

const TRUNK: &str = "[interface.wan]\nmatch.port = 0\n";

/// `settings` as the lines from the fourth on, in the section of interface lan.
fn with_lan(settings: &str) -> String {
    format!("{TRUNK}[interface.lan]\n{settings}\n")
}

#[test]
fn an_interface_is_on_a_vlan_of_another() {
    let text = "[interface.lan]\nparent = \"wan\"\nvlan = 20\naddresses = [\"10.0.0.1/24\", \"2001:db8::1/64\"]\nmtu = 1400\n\
                router-advertisement = true\nreverse-path-filter = \"strict\"\nenabled = false\n\
                [interface.wan]\nmatch.port = 0\n[interface.\"wan.4094\"]\nvlan = 4094\nparent = \"wan\"\n\
                [[route]]\nto = \"0.0.0.0/0\"\nvia = \"10.0.0.2\"\ninterface = \"lan\"\n";
    let config = Config::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
    let attachments: Vec<Attachment> =
        config.interfaces.iter().map(|interface| interface.attachment).collect();
    let vlan = |id| Attachment::Vlan { parent: 1, id };
    assert_eq!(attachments, [vlan(20), Attachment::Device(Match::Port(0)), vlan(4094)]);
    let lan = &config.interfaces[0];
    assert_eq!((lan.mtu, lan.router_advertisement, lan.enabled), (Some(1400), true, false));
    assert_eq!(config.interfaces[1].addresses, [], "a trunk needs none");
}

#[test]
fn the_same_number_is_another_vlan_on_another_parent() {
    let text = "[interface.a]\nmatch.port = 0\n[interface.b]\nmatch.port = 1\n\
                [interface.c]\nparent = \"a\"\nvlan = 7\n[interface.d]\nparent = \"b\"\nvlan = 7\n";
    assert_eq!(Config::parse(text.as_bytes()).unwrap().interfaces.len(), 4);
}

#[test]
fn what_is_wrong_is_said_with_its_cure() {
    let number = "expected the number of a VLAN, from 1 to 4094";
    for (settings, line, key, message, help) in [
        (
            "match.port = 1\nparent = \"wan\"\nvlan = 20",
            5,
            "parent",
            "found both match and parent, expected one of them",
            Some("match is a device of its own, parent an interface that has one"),
        ),
        (
            "vlan = 20",
            4,
            "vlan",
            "found a VLAN without parent, expected the interface that it is on as well",
            Some("add parent = \"NAME\", and no match"),
        ),
        (
            "match.port = 1\nvlan = 20",
            5,
            "vlan",
            "found a VLAN without parent, expected the interface that it is on as well",
            Some("add parent = \"NAME\", and no match"),
        ),
        (
            "parent = \"wan\"",
            3,
            "vlan",
            "missing beside parent, expected the number of a VLAN, from 1 to 4094",
            Some("add vlan = 10"),
        ),
        ("parent = \"wan\"\nvlan = 0", 5, "vlan", &format!("found the number 0, {number}"), None),
        ("parent = \"wan\"\nvlan = 4095", 5, "vlan", &format!("found the number 4095, {number}"), None),
        (
            "parent = \"wan\"\nvlan = \"20\"",
            5,
            "vlan",
            &format!("found \"20\", {number}"),
            Some("write 20, without quotes"),
        ),
        ("parent = 7\nvlan = 20", 4, "parent", "found the number 7, expected an interface's name", None),
        (
            "parent = \"wam\"\nvlan = 20",
            4,
            "parent",
            "found \"wam\", expected the name of an interface with match",
            Some("did you mean \"wan\"?"),
        ),
        (
            "parent = \"eth0\"\nvlan = 20",
            4,
            "parent",
            "found \"eth0\", expected the name of an interface with match",
            Some("there are wan"),
        ),
        (
            "parent = \"lan\"\nvlan = 20",
            4,
            "parent",
            "interface lan is on a VLAN itself, expected one with match",
            Some("tags are not stacked: name the interface with the device"),
        ),
        (
            "",
            3,
            "match",
            "missing, expected what picks the interface's device",
            Some(
                "add match = { mac = \"52:54:00:00:00:01\" } or match = { port = 0 }; on a VLAN, parent and vlan",
            ),
        ),
    ] {
        let text = with_lan(settings);
        assert_only(&text, line, &format!("interface.lan.{key}"), message);
        assert_eq!(only(&text).help.as_deref(), help, "{text}");
    }
    assert_only(
        "[interface.lan]\nparent = \"lan\"\nvlan = 3\n",
        2,
        "interface.lan.parent",
        "interface lan is on a VLAN itself, expected one with match",
    );
    let misspelt = only(&with_lan("parent = \"wan\"\nvlan-id = 20"));
    assert_eq!(
        (&*misspelt.key, misspelt.help.as_deref()),
        ("interface.lan.vlan-id", Some("did you mean vlan?"))
    );
}

#[test]
fn a_vlan_is_one_interface() {
    let text = with_lan("parent = \"wan\"\nvlan = 20\n[interface.dmz]\nparent = \"wan\"\nvlan = 20");
    assert_only(&text, 8, "interface.dmz.vlan", "VLAN 20 of wan is interface lan already");
    assert_eq!(only(&text).note.map(|note| note.line), Some(5));
    let text = with_lan("parent = \"wan\"\nvlan = 20\n[interface.dmz]\nparent = \"lan\"\nvlan = 30");
    assert_only(
        &text,
        7,
        "interface.dmz.parent",
        "interface lan is on a VLAN itself, expected one with match",
    );
}

#[test]
fn a_vlans_mtu_fits_its_parents() {
    let with = |most: u16, settings: &str| {
        format!(
            "[interface.wan]\nmatch.port = 0\nmtu = {most}\n[interface.lan]\nparent = \"wan\"\nvlan = 20\n{settings}\n"
        )
    };
    let good = with(1500, "mtu = 1500");
    assert!(Config::parse(good.as_bytes()).is_ok());
    let text = with(1400, "mtu = 1500");
    assert_only(
        &text,
        7,
        "interface.lan.mtu",
        "found 1500, expected at most 1400, the MTU of its parent wan",
    );
    assert_eq!(only(&text).note.map(|note| note.line), Some(3));
    let ipv6 = "addresses = [\"2001:db8::1/64\"]";
    let expected = "expected at least 1280 with IPv6 (RFC 8200 5)";
    let found = format!("found the parent's MTU of 1000, {expected}");
    assert_only(&with(1000, ipv6), 7, "interface.lan.addresses[0]", &found);
    let text = with(1400, &format!("mtu = 1000\n{ipv6}"));
    assert_only(&text, 7, "interface.lan.mtu", &format!("found 1000, {expected}"));
}

#[test]
fn there_are_no_more_than_the_limits_say() {
    let mut text = String::new();
    (0..MAX_DEVICES).for_each(|n| text += &format!("[interface.p{n}]\nmatch.port = {n}\n"));
    let vlan = |n: usize| format!("[interface.v{n}]\nparent = \"p0\"\nvlan = {}\n", n + 1);
    (MAX_DEVICES..MAX_INTERFACES).for_each(|n| text += &vlan(n));
    assert_eq!(Config::parse(text.as_bytes()).unwrap().interfaces.len(), MAX_INTERFACES);
    let more = text.clone() + &vlan(MAX_INTERFACES);
    let line = text.lines().count() + 1;
    assert_only(&more, line, "interface.v256", "found 257 interfaces, expected at most 256");
    let device =
        text.replace("[interface.v64]\nparent = \"p0\"\nvlan = 65\n", "[interface.v64]\nmatch.port = 64\n\n");
    let line = 2 * MAX_DEVICES + 2;
    assert_only(
        &device,
        line,
        "interface.v64.match",
        "found more than 64 interfaces with a device of their own",
    );
}
