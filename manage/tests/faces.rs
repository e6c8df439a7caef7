//! Text and JSON of the same thing carry the same fields, and the page in `docs` is the one that they make.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use weir_manage::model::{self, *};
use weir_manage::text::Text;

fn interface(name: &str) -> Interface {
    Interface {
        name: name.into(),
        state: InterfaceState::Broken,
        fault: Some("used-id-not-outstanding".into()),
        addresses: vec!["192.0.2.1/24".into(), "2001:db8::1/64".into()],
        learnt: vec![LearntAddress {
            address: "2001:db8::1/64".into(),
            origin: AddressOrigin::Auto,
            until_ms: Some(109),
            deprecated: true,
        }],
        dad: vec![Detection {
            address: "fe80::1".into(),
            state: DadState::Duplicate,
            holder: Some("52:54:00:00:00:02".into()),
        }],
        mac: Some("52:54:00:00:00:01".into()),
        mtu: Some(1500),
        device: Some("virtio-net pci 00:02.0".into()),
        parent: Some("trunk".into()),
        vlan: Some(10),
        queues: 2,
        rx_packets: 101,
        rx_bytes: 102,
        tx_packets: 103,
        tx_bytes: 104,
        dropped: 105,
        consumed: 106,
        interrupts: 107,
        notifications: 108,
        drops: vec![Loss { reason: "ttl-expired".into(), packets: 105 }],
    }
}

/// All values in a JSON document, as the text shows them; and all keys.
fn leaves(json: &Json, keys: &mut BTreeSet<String>, values: &mut Vec<String>) {
    match json {
        Json::Null => values.push("-".into()),
        Json::Bool(value) => values.push(if *value { "yes" } else { "no" }.into()),
        Json::Number(number) => values.push(number.to_string()),
        Json::String(text) => values.extend(text.lines().map(str::to_owned)),
        Json::Array(list) => list.iter().for_each(|item| leaves(item, keys, values)),
        Json::Object(map) => map.iter().for_each(|(key, item)| {
            keys.insert(key.clone());
            leaves(item, keys, values);
        }),
    }
}

fn agree<F: Field>(thing: &F) {
    let value = thing.value();
    let text = Text(&value).to_string();
    let json: Json = serde_json::from_slice(&model::json(&value)).unwrap();
    let (mut keys, mut values) = (BTreeSet::new(), Vec::new());
    leaves(&json, &mut keys, &mut values);
    let words: BTreeSet<&str> = text.split([' ', '\n', ',']).collect();
    assert!(!keys.is_empty());
    for key in &keys {
        assert!(words.contains(key.as_str()), "{key} is not in\n{text}");
    }
    for value in &values {
        assert!(text.contains(value.as_str()), "{value:?} is not in\n{text}");
    }
}

#[test]
fn text_and_json_carry_the_same_fields_and_values() {
    let status = Status {
        hostname: "edge1".into(),
        xen: Some(Xen { grants: 7, grants_most: 8, grants_in_limbo: 9, watches: 10 }),
        consoles: vec![ConsolePort { name: "COM1".into(), lost_bytes: 1234 }],
        ..Status::default()
    };
    agree(&status);
    agree(&vec![interface("wan"), interface("lan")]);
    let route = Route {
        to: "0.0.0.0/0".into(),
        action: RouteAction::Forward,
        origin: RouteOrigin::Static,
        metric: 5,
        next_hops: vec![NextHop { via: Some("192.0.2.254".into()), interface: None, weight: 3 }],
    };
    agree(&Routes { total: 9, offset: 4, routes: vec![route.clone(), route] });
    agree(&vec![Neighbor {
        interface: "wan".into(),
        address: "192.0.2.254".into(),
        mac: Some("52:54:00:00:00:fe".into()),
        state: NeighborState::Delay,
    }]);
    let cpu = Cpu { name: "cpu0".into(), received: 11, busy_permille: 17, ..Cpu::default() };
    let task = Task { name: "management".into(), cpu: "cpu0".into(), tasks: 1, polls: 12, ..Task::default() };
    let lock = Lock { name: "Heap".into(), acquired: 13, contended: 14, spins: 15 };
    let queue = Queue {
        interface: "wan".into(),
        cpu: "cpu1".into(),
        rx_packets: 41,
        rx_bytes: 42,
        tx_packets: 43,
        tx_bytes: 44,
        interrupts: 45,
        notifications: 46,
    };
    let sockets = Sockets {
        cpu: "cpu0".into(),
        connections: 51,
        half_open: 52,
        accepted: 53,
        by_cookie: 54,
        syn_flood: 55,
        no_room: 56,
        over_share: 57,
        evicted: 58,
        doubted: 63,
        resets: 59,
        checksum_errors: 60,
        unmatched: 61,
        datagrams_lost: 62,
    };
    agree(&Cpus {
        cpus: vec![cpu.clone(), cpu],
        queues: vec![queue],
        sockets: vec![sockets],
        tasks: vec![task],
        locks: vec![lock],
    });
    agree(&vec![LogLine {
        number: 3,
        at_us: 4,
        cpu: "cpu1".into(),
        level: LogLevel::Warn,
        time: Some("2026-11-21T18:00:00.000042Z".into()),
        text: "wan: link down".into(),
    }]);
    let plan = Plan {
        etag: "0011223344556677".into(),
        replaces: "8899aabbccddeeff".into(),
        interfaces: vec![Change { change: ChangeKind::Attach, interface: "dmz".into() }],
        routes_added: 21,
        routes_removed: 22,
        diff: "@@ -1 +1 @@\n-a\n+b\n".into(),
    };
    agree(&Committed { version: 31, confirm_within_ms: Some(60_000), plan });
    agree(&Problem {
        title: "x".into(),
        status: 409,
        errors: vec![ConfigError::default()],
        ..Problem::default()
    });
}

#[test]
fn every_type_shows_all_of_its_fields_even_when_there_is_no_record() {
    for of in TYPES {
        let text = Text(&Value::Table(of, Vec::new())).to_string();
        let heads: Vec<&str> = text.split_whitespace().collect();
        let names: Vec<&str> = of.fields.iter().map(|field| field.name).collect();
        assert_eq!(heads, names);
        assert!(!of.doc().is_empty() && of.fields.iter().all(|field| !field.doc().is_empty()));
    }
}

#[test]
fn a_table_lines_up_and_one_that_is_too_wide_becomes_blocks() {
    let loss = |reason: &str, packets| Loss { reason: reason.into(), packets };
    let text = Text(&vec![loss("no-route", 5), loss("ttl-expired", 1234)].value()).to_string();
    assert_eq!(text, "reason       packets\nno-route           5\nttl-expired     1234\n");
    let text = Text(&vec![interface("wan")].value()).to_string();
    assert!(text.starts_with("name           wan\nstate          broken\n"), "{text}");
    assert!(text.ends_with("drops\n  reason       packets\n  ttl-expired      105\n"), "{text}");
}

#[test]
fn the_page_in_docs_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/model.md");
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == weir_manage::reference::page(),
        "docs/model.md is not what the types say: cargo run --package weir-manage --example reference > docs/model.md"
    );
}
