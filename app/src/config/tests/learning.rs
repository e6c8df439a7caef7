//! What is learnt from others, and whom the router asks.

use super::*;

#[test]
fn words_among_addresses_say_what_is_learnt() {
    let text = with_setting("addresses = [\"dhcp\", \"10.0.0.1/24\", \"auto\"]");
    let config = Config::parse(text.as_bytes()).unwrap();
    let wan = &config.interfaces[0];
    assert_eq!(
        (wan.learn, &wan.addresses[..]),
        (Learn { dhcp: true, auto: true }, &[net("10.0.0.1/24")][..])
    );
    let text = "weir.interface.lan.match.port=0 weir.interface.lan.addresses=dhcp";
    let config = Config::from_command_line(text, false).unwrap().unwrap();
    assert_eq!(config.interfaces[0].learn, Learn { dhcp: true, auto: false });
}

#[test]
fn wrong_words_are_named_with_the_right_one() {
    let error = only(&with_setting("addresses = [\"dhcp4\"]"));
    assert_eq!(
        error.message,
        "found \"dhcp4\", expected an address with its prefix length, \"dhcp\" or \"auto\""
    );
    assert_eq!(error.help.as_deref(), Some("did you mean \"dhcp\"?"));
    assert_only(
        &with_setting("addresses = [\"auto\", \"auto\"]"),
        3,
        "interface.wan.addresses[1]",
        "this is given twice",
    );
    assert_only(
        &with_setting("addresses = [\"auto\"]\nmtu = 1000"),
        4,
        "interface.wan.mtu",
        "found 1000, expected at least 1280 with \"auto\" in addresses (RFC 8200 5)",
    );
    assert_only(
        &with_setting("addresses = [\"auto\", \"2001:db8::1/64\"]\nrouter-advertisement = true"),
        4,
        "interface.wan.router-advertisement",
        "found true beside \"auto\" in addresses: a router does not advertise what it learns on the same link",
    );
}

#[test]
fn a_learnt_network_may_have_the_next_router() {
    let route = "[[route]]\nto = \"10.0.0.0/8\"\nvia = \"203.0.113.1\"";
    let learns = with_setting(&format!("addresses = [\"dhcp\"]\n{route}"));
    assert!(Config::parse(learns.as_bytes()).is_ok());
    assert!(only(&with_setting(route)).message.contains("is on no interface's network"));
}

#[test]
fn servers_have_names_or_addresses() {
    let text = with_setting(
        "[dns]\nservers = [\"192.0.2.53\", \"2001:db8::53\"]\n[ntp]\nservers = [\"NTP.example.net\", \"192.0.2.1\"]\n\
         [[syslog]]\nserver = \"192.0.2.14\"\n[[syslog]]\nserver = \"log.example.net\"\nport = 5514",
    );
    let config = Config::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
    let address = |text: &str| Host::Address(text.parse().unwrap());
    assert_eq!(config.dns.len(), 2);
    assert_eq!(config.ntp, [Host::Name("ntp.example.net".into()), address("192.0.2.1")]);
    assert_eq!(
        config.syslog,
        [
            Syslog { host: address("192.0.2.14"), port: 514 },
            Syslog { host: Host::Name("log.example.net".into()), port: 5514 }
        ]
    );
}

#[test]
fn wrong_servers_are_named() {
    for (setting, line, key, message) in [
        ("[dns]", 3, "dns", "servers is missing"),
        ("[dns]\nservers = []", 4, "dns.servers", "found 0 servers, expected 1 to 8"),
        (
            "[dns]\nservers = [\"ns.example.net\"]",
            4,
            "dns.servers[0]",
            "found \"ns.example.net\", expected a server's address, such as \"192.0.2.53\"",
        ),
        ("[ntp]\nservers = [\"a\", \"a\"]", 4, "ntp.servers[1]", "this server is given twice"),
        (
            "[ntp]\nservers = [\"300.1.1.1\"]",
            4,
            "ntp.servers[0]",
            "found \"300.1.1.1\", expected a server's address, such as \"192.0.2.53\"",
        ),
        (
            "[[syslog]]\nserver = \"a\"\nport = 0",
            5,
            "syslog[0].port",
            "found the number 0, expected a UDP port from 1 to 65535",
        ),
        ("[[syslog]]", 3, "syslog[0]", "server is missing"),
        ("[syslog]\nserver = \"a\"", 3, "syslog", "found a table, expected a section for each server"),
    ] {
        assert_only(&with_setting(setting), line, key, message);
    }
}
