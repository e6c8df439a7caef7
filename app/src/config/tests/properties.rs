//! Properties: no text makes the parser panic, and a written configuration reads back as it was.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write as _;
use std::collections::BTreeSet;

use ipnet::IpNet;
use proptest::prelude::*;

use super::{EXAMPLE, net};
use crate::config::*;

/// Whatever the text, an answer, and errors that can be shown.
fn parse_anything(text: &[u8]) {
    if let Err(errors) = Config::parse(text) {
        assert!(errors.iter().count() > 0);
        for error in &errors {
            assert!(error.line > 0 && error.column > 0 && !error.message.is_empty());
            assert!(error.span.start <= error.span.end && error.span.end <= text.len(), "{error:?}");
        }
        let shown = errors.in_file("x").to_string();
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    }
}

fn edit() -> impl Strategy<Value = (prop::sample::Index, usize, Vec<u8>)> {
    let insertion = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..4),
        prop::sample::select(vec![
            &b"\""[..],
            b"[",
            b"]",
            b"{",
            b"}",
            b"=",
            b".",
            b",",
            b"\n",
            b"#",
            b"[[route]]\n",
            b"[interface.wan]\n",
            b"'''",
            b"\\",
            b"/",
            b":",
            b"0",
            b"-1",
            b"\"\"\"",
            b"\xc3\xa4",
            b"\r",
            b"match",
            b"via = ",
            b"9999999999999999999",
            b"inf",
        ])
        .prop_map(<[u8]>::to_vec),
    ];
    (any::<prop::sample::Index>(), 0..12usize, insertion)
}

/// Names and settings of a configuration; places in it give devices and networks.
fn config() -> impl Strategy<Value = Config> {
    use ReversePathFilter::{Loose, Off, Strict};
    let interface = (
        "[a-z0-9][a-z0-9._-]{0,9}",
        any::<bool>(),
        prop::option::weighted(0.3, (any::<prop::sample::Index>(), 1..4095u16)),
        prop::collection::vec(2..250u8, 0..3),
        prop::option::of(1280..9217u16),
        (any::<bool>(), any::<bool>()),
        prop::sample::select(vec![Off, Strict, Loose]),
    );
    let hops = prop::collection::vec((any::<prop::sample::Index>(), 2..250u8, 1..=255u8), 0..4);
    let nets = prop::collection::vec((any::<u32>(), 8..33u8), 1..4);
    let route = (nets, hops, any::<u32>());
    let parts = (
        "[A-Za-z0-9]{1,9}(-[a-z]{1,5})?",
        prop::collection::vec(interface, 1..9),
        prop::collection::vec(route, 0..20),
    );
    parts.prop_map(|(hostname, interfaces, routes)| {
        let interfaces: Vec<Interface> = interfaces
            .into_iter()
            .enumerate()
            .map(|(index, (name, by_mac, vlan, hosts, mtu, (advertise, enabled), reverse_path_filter))| {
                let place = index as u8;
                let hosts: BTreeSet<u8> = hosts.into_iter().collect();
                let mut addresses: Vec<IpNet> =
                    hosts.iter().map(|host| net(&format!("10.0.{place}.{host}/24"))).collect();
                addresses.extend(hosts.iter().map(|host| net(&format!("2001:db8:{place}::{host}/64"))));
                Interface {
                    name: format!("{name}.{place}"),
                    attachment: match vlan.filter(|_| index > 0) {
                        Some((parent, id)) => Attachment::Vlan { parent: parent.index(index), id },
                        None if by_mac => Attachment::Device(Match::Mac([2, 0, 0, 0, 0, place])),
                        None => Attachment::Device(Match::Port(index as u16)),
                    },
                    learn: Learn::default(),
                    router_advertisement: advertise && !addresses.is_empty(),
                    addresses,
                    mtu,
                    reverse_path_filter,
                    management: advertise != enabled,
                    enabled,
                }
            })
            .collect();
        let interfaces = on_devices(interfaces);
        let mut seen = BTreeSet::new();
        let routes = routes
            .into_iter()
            .filter_map(|(nets, hops, metric)| {
                let net = |(bits, length): (u32, u8)| {
                    IpNet::new_assert((bits | 0x4000_0000 & 0x5fff_ffff).to_be_bytes().into(), length).trunc()
                };
                let unicast = |to: &IpNet| {
                    to.addr() < core::net::IpAddr::from([224, 0, 0, 0]) && !to.addr().is_loopback()
                };
                let nets = nets.into_iter().map(net).filter(unicast);
                let to: Vec<IpNet> = nets.filter(|to| seen.insert((*to, metric))).collect();
                let mut known = BTreeSet::new();
                let hops = hops.into_iter().filter_map(|(index, host, weight)| {
                    let index = index.index(interfaces.len());
                    let own = super::net(&format!("10.0.{index}.{host}/24"));
                    let addresses = &interfaces[index].addresses;
                    let via = (!addresses.is_empty() && !addresses.contains(&own)).then(|| own.addr());
                    known.insert((index, via)).then_some(NextHop { via, interface: Some(index), weight })
                });
                let mut hops: Vec<NextHop> = hops.collect();
                if let [only] = &mut hops[..] {
                    only.weight = 1;
                }
                let target = match hops.is_empty() {
                    true => Target::Reject(Reject::Prohibit),
                    false => Target::Forward(hops),
                };
                (!to.is_empty()).then_some(Route { to, target, metric })
            })
            .collect();
        Config { hostname, steering: Steering::Off, interfaces, routes, ..Config::default() }
    })
}

/// Has no interface on a VLAN above another one's, on the same as another, or with a larger MTU than its parent.
fn on_devices(mut interfaces: Vec<Interface>) -> Vec<Interface> {
    let mut seen = BTreeSet::new();
    for index in 0..interfaces.len() {
        let Attachment::Vlan { parent, id } = interfaces[index].attachment else { continue };
        let is_device = matches!(interfaces[parent].attachment, Attachment::Device(_));
        if !is_device || !seen.insert((parent, id)) {
            interfaces[index].attachment = Attachment::Device(Match::Port(index as u16));
        } else if let (Some(mtu), Some(most)) = (interfaces[index].mtu, interfaces[parent].mtu) {
            interfaces[index].mtu = Some(mtu.min(most));
        }
    }
    interfaces
}

fn emit(config: &Config) -> String {
    let mut text = format!("hostname = \"{}\"\n", config.hostname);
    for interface in &config.interfaces {
        let _ = writeln!(text, "[interface.\"{}\"]", interface.name);
        let _ = match interface.attachment {
            Attachment::Device(mac @ Match::Mac(_)) => {
                writeln!(text, "match = {{ mac = \"{}\" }}", mac.to_string().split_at(4).1)
            }
            Attachment::Device(Match::Port(port)) => writeln!(text, "match = {{ port = {port} }}"),
            Attachment::Vlan { parent, id } => {
                writeln!(text, "parent = \"{}\"\nvlan = {id}", config.interfaces[parent].name)
            }
        };
        let addresses: Vec<String> =
            interface.addresses.iter().map(|address| format!("\"{address}\"")).collect();
        let _ = writeln!(text, "addresses = [{}]", addresses.join(", "));
        if let Some(mtu) = interface.mtu {
            let _ = writeln!(text, "mtu = {mtu}");
        }
        let _ = writeln!(text, "router-advertisement = {}", interface.router_advertisement);
        let filter = format!("{:?}", interface.reverse_path_filter).to_lowercase();
        let _ = writeln!(text, "management = {}", interface.management);
        let _ = writeln!(text, "reverse-path-filter = \"{filter}\"\nenabled = {}", interface.enabled);
    }
    for route in &config.routes {
        let nets: Vec<String> = route.to.iter().map(IpNet::to_string).collect();
        let to = match nets.len() {
            2 => format!("[\"{}\"]", nets.join("\", \"")),
            _ => format!("\"\"\"\n{} # some\n\"\"\"", nets.join(" ")),
        };
        let _ = writeln!(text, "[[route]]\nto = {to}\nmetric = {}", route.metric);
        let name = |hop: &NextHop| &config.interfaces[hop.interface.unwrap()].name;
        let _ = match &route.target {
            Target::Forward(hops) if hops.len() == 1 => {
                let via = hops[0].via.map(|via| format!("via = \"{via}\"\n")).unwrap_or_default();
                writeln!(text, "{via}interface = \"{}\"", name(&hops[0]))
            }
            Target::Forward(hops) => {
                let hops = hops.iter().map(|hop| {
                    let via = hop.via.map(|via| format!("address = \"{via}\", ")).unwrap_or_default();
                    format!("{{ {via}interface = \"{}\", weight = {} }}", name(hop), hop.weight)
                });
                writeln!(text, "via = [{}]", hops.collect::<Vec<_>>().join(", "))
            }
            Target::Reject(reject) => writeln!(text, "reject = \"{}\"", format!("{reject:?}").to_lowercase()),
        };
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        parse_anything(&bytes);
    }

    #[test]
    fn survives_any_text_like_toml(text in "[\\[\\]{}a-c=.,\"'#\\\\ \n0-9:_+-]{0,200}") {
        parse_anything(text.as_bytes());
    }

    #[test]
    fn survives_any_edit_of_a_good_text(edits in prop::collection::vec(edit(), 1..6)) {
        let mut text = EXAMPLE.as_bytes().to_vec();
        for (place, removed, inserted) in edits {
            let start = place.index(text.len() + 1);
            let end = (start + removed).min(text.len());
            text.splice(start..end, inserted);
        }
        parse_anything(&text);
    }

    #[test]
    fn reads_back_what_a_configuration_says(config in config()) {
        let text = emit(&config);
        match Config::parse(text.as_bytes()) {
            Ok(read) => prop_assert_eq!(read, config),
            Err(errors) => prop_assert!(false, "{}\n{}", text, errors),
        }
    }
}
