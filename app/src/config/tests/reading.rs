//! What a good text means.

use super::*;

#[test]
fn reads_the_example() {
    let config = Config::parse(EXAMPLE.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.hostname, "edge1");
    let [wan, lan] = &config.interfaces[..] else { panic!("{config:?}") };
    assert_eq!(
        *wan,
        Interface {
            name: "wan".to_owned(),
            attachment: Attachment::Device(Match::Mac([0x52, 0x54, 0, 0, 0, 1])),
            addresses: vec![net("192.0.2.1/24"), net("2001:db8:1::1/64")],
            mtu: Some(1500),
            learn: Learn::default(),
            router_advertisement: false,
            reverse_path_filter: ReversePathFilter::Loose,
            management: false,
            enabled: true,
        }
    );
    let port = Attachment::Device(Match::Port(1));
    assert_eq!((lan.attachment, lan.mtu, lan.router_advertisement), (port, None, true));
    let by =
        |via: &str| Target::Forward(vec![NextHop { via: via.parse().ok(), interface: Some(0), weight: 1 }]);
    assert_eq!(
        config.routes,
        [
            Route { to: vec![net("0.0.0.0/0")], target: by("192.0.2.254"), metric: 0 },
            Route { to: vec![net("::/0")], target: by("fe80::1"), metric: 0 },
            Route { to: vec![net("10.0.0.0/8")], target: Target::Reject(Reject::Unreachable), metric: 0 },
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
                attachment: Attachment::Device(Match::Port(7)),
                addresses: vec![],
                mtu: None,
                learn: Learn::default(),
                router_advertisement: false,
                reverse_path_filter: ReversePathFilter::Off,
                management: false,
                enabled: true,
            }],
            routes: vec![],
            ..Config::default()
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
