//! What sections say about each other: devices, addresses and networks used twice; routes in [`super::gateways`].
//! Turns a [`Draft`] into a [`Config`]. Disabled interfaces obey the same rules, so that enabling one cannot
//! fail.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::Range;
use weir_sync::sort::sort_by_key;

use ipnet::IpNet;
use toml::Spanned;

use super::errors::{Finding, Path, Report, quoted};
use super::gateways::Gateways;
use super::read::{AddressDraft, Draft, InterfaceDraft};
use super::types::{Attachment, Config, Interface, SourceText};
use super::{MAX_DEVICES, keys, value};

static INTERFACES: Path = Path::Key(&Path::Root, "interface");

/// RFC 8200 §5: "IPv6 requires that every link in the Internet have an MTU of 1280 octets or greater."
const IPV6_MIN_MTU: u16 = 1280;

/// The configuration, unless something in the draft is missing.
pub(super) fn check(draft: Draft, report: &mut Report) -> Option<Config> {
    check_matches(&draft.interfaces, report);
    let parents = check_parents(&draft.interfaces, report);
    for (interface, parent) in draft.interfaces.iter().zip(&parents) {
        check_mtu(interface, parent.and_then(|parent| draft.interfaces.get(parent)), report);
        check_advertisement(interface, report);
    }
    let complete = draft.interfaces.iter().all(|interface| interface.addresses_complete);
    let addresses = check_addresses(&draft.interfaces, report);
    let (links, apart) = check_networks(&draft.interfaces, report);
    let names =
        draft.interfaces.iter().enumerate().map(|(index, interface)| (interface.name.as_str(), index));
    let gateways = Gateways {
        interfaces: &draft.interfaces,
        names: names.collect(),
        addresses: &addresses,
        links: &links,
        certain: complete && apart,
    };
    let routes = gateways.check(draft.routes, report);

    let interfaces = draft.interfaces.into_iter().zip(parents);
    let interfaces: Option<Vec<Interface>> =
        interfaces.map(|(interface, parent)| finish_interface(interface, parent)).collect();
    Some(Config {
        hostname: draft.hostname.unwrap_or_else(|| "weir".to_string()),
        steering: draft.steering,
        dns: draft.dns,
        ntp: draft.ntp,
        syslog: draft.syslog,
        tokens: draft.tokens,
        text: SourceText::default(),
        interfaces: interfaces?,
        routes: routes?,
    })
}

fn finish_interface(draft: InterfaceDraft, parent: Option<usize>) -> Option<Interface> {
    let attachment = match parent {
        Some(parent) => Attachment::Vlan { parent, id: draft.attachment.vlan?.into_inner() },
        None => Attachment::Device(draft.attachment.matching?.into_inner()),
    };
    Some(Interface {
        name: draft.name,
        attachment,
        addresses: draft.addresses.into_iter().map(|address| address.net).collect(),
        learn: draft.learn,
        mtu: draft.mtu.map(Spanned::into_inner),
        router_advertisement: draft.router_advertisement.is_some_and(Spanned::into_inner),
        reverse_path_filter: draft.reverse_path_filter,
        management: draft.management,
        enabled: draft.enabled,
    })
}

fn check_matches(interfaces: &[InterfaceDraft], report: &mut Report) {
    let mut owners = BTreeMap::new();
    for interface in interfaces {
        let Some(matching) = &interface.attachment.matching else { continue };
        match owners.entry(*matching.get_ref()) {
            Entry::Vacant(entry) => drop(entry.insert((&interface.name, matching.span()))),
            Entry::Occupied(entry) => {
                let (name, span) = entry.get();
                let message = format!("{} is the device of interface {name} already", matching.get_ref());
                let path = INTERFACES.key(&interface.name);
                let finding = Finding::at(matching.span(), path.key("match"), message);
                report.add(finding.related(span.clone(), "first used here"));
            }
        }
    }
}

/// The places of the interfaces' parents; `None` for those without.
fn check_parents(interfaces: &[InterfaceDraft], report: &mut Report) -> Vec<Option<usize>> {
    let mut with_device = interfaces.iter().filter(|interface| interface.attachment.parent.is_none());
    if let Some((interface, matching)) = with_device
        .nth(MAX_DEVICES)
        .and_then(|interface| Some((interface, interface.attachment.matching.as_ref()?)))
    {
        let message = format!("found more than {MAX_DEVICES} interfaces with a device of their own");
        let path = INTERFACES.key(&interface.name);
        report.add(
            Finding::at(matching.span(), path.key("match"), message)
                .help("further ones can be on VLANs: parent and vlan"),
        );
    }
    let mut owners: BTreeMap<(usize, u16), (String, Range<usize>)> = BTreeMap::new();
    let mut parent_of = |interface: &InterfaceDraft| {
        let name = interface.attachment.parent.as_ref()?;
        let path = INTERFACES.key(&interface.name);
        let bad = |message| Finding::at(name.span(), path.key("parent"), message);
        let found = name.get_ref().as_str();
        let Some(parent) = interfaces.iter().position(|other| other.name == found) else {
            let message = format!("found {}, expected the name of an interface with match", quoted(found));
            let ports = interfaces.iter().filter(|other| other.attachment.parent.is_none());
            let names = ports.map(|other| other.name.as_str());
            report.add(match keys::nearest(found, names.clone()) {
                Some(name) => bad(message).help(value::did_you_mean(&quoted(name))),
                None => bad(message).help(match names.clone().next() {
                    Some(_) => format!("there are {}", names.collect::<Vec<_>>().join(", ")),
                    None => "there is none yet: add a section [interface.NAME] with match".to_string(),
                }),
            });
            return None;
        };
        if let Some(above) = interfaces.get(parent).and_then(|other| other.attachment.parent.as_ref()) {
            let message = format!("interface {found} is on a VLAN itself, expected one with match");
            report.add(
                bad(message)
                    .related(above.span(), "its parent")
                    .help("tags are not stacked: name the interface with the device"),
            );
            return None;
        }
        let vlan = interface.attachment.vlan.as_ref()?;
        match owners.entry((parent, *vlan.get_ref())) {
            Entry::Vacant(entry) => drop(entry.insert((interface.name.clone(), vlan.span()))),
            Entry::Occupied(entry) => {
                let (owner, span) = entry.get();
                let message = format!("VLAN {} of {found} is interface {owner} already", vlan.get_ref());
                let finding = Finding::at(vlan.span(), path.key("vlan"), message);
                report.add(finding.related(span.clone(), "first used here"));
            }
        }
        Some(parent)
    };
    interfaces.iter().map(&mut parent_of).collect()
}

fn check_mtu(interface: &InterfaceDraft, parent: Option<&InterfaceDraft>, report: &mut Report) {
    let path = INTERFACES.key(&interface.name);
    let limit = parent.and_then(|parent| Some((parent, parent.mtu.as_ref()?)));
    if let (Some(mtu), Some((parent, most))) = (&interface.mtu, limit)
        && mtu.get_ref() > most.get_ref()
    {
        let message = format!(
            "found {}, expected at most {}, the MTU of its parent {}",
            mtu.get_ref(),
            most.get_ref(),
            parent.name
        );
        let finding = Finding::at(mtu.span(), path.key("mtu"), message);
        report.add(finding.related(most.span(), "the parent's MTU").help("raise the parent's MTU too"));
    }
    if let Some(mtu) =
        interface.mtu.as_ref().filter(|mtu| interface.learn.auto && *mtu.get_ref() < IPV6_MIN_MTU)
    {
        let message = format!(
            "found {}, expected at least {IPV6_MIN_MTU} with \"auto\" in addresses (RFC 8200 5)",
            mtu.get_ref()
        );
        report.add(Finding::at(mtu.span(), path.key("mtu"), message));
        return;
    }
    let ipv6 = interface.addresses.iter().find(|address| address.net.addr().is_ipv6());
    let Some((ipv6, mtu)) = ipv6.zip(interface.mtu.as_ref().or(limit.map(|(_, mtu)| mtu))) else { return };
    if *mtu.get_ref() >= IPV6_MIN_MTU {
        return;
    }
    let expected = format!("expected at least {IPV6_MIN_MTU} with IPv6 (RFC 8200 5)");
    report.add(match &interface.mtu {
        Some(mtu) => {
            let message = format!("found {}, {expected}", mtu.get_ref());
            Finding::at(mtu.span(), path.key("mtu"), message)
                .related(ipv6.span.clone(), "the interface's IPv6 address")
        }
        None => {
            let message = format!("found the parent's MTU of {}, {expected}", mtu.get_ref());
            address_finding(interface, ipv6, message).related(mtu.span(), "the parent's MTU")
        }
    });
}

/// RFC 4862 §5.5.3: hosts form addresses only from prefixes that leave room for their 64-bit identifiers.
fn check_advertisement(interface: &InterfaceDraft, report: &mut Report) {
    let Some(advertise) = interface.router_advertisement.as_ref().filter(|advertise| *advertise.get_ref())
    else {
        return;
    };
    if interface.learn.auto {
        let path = INTERFACES.key(&interface.name);
        let message = "found true beside \"auto\" in addresses: a router does not advertise what it learns on the same link";
        let finding = Finding::at(advertise.span(), path.key("router-advertisement"), message);
        report.add(finding.help("leave one of them out"));
    }
    let usable = |address: &AddressDraft| {
        matches!(address.net, IpNet::V6(net) if net.prefix_len() == 64) && !is_link_local(address.net.addr())
    };
    if interface.addresses_complete && !interface.addresses.iter().any(usable) {
        let path = INTERFACES.key(&interface.name);
        let message =
            "found true without an IPv6 network to advertise, expected an address with /64 on the interface";
        report.add(Finding::at(advertise.span(), path.key("router-advertisement"), message));
    }
}

/// An address and, if it is link-local, the link that makes it unique (RFC 4291 §2.5.6): an interface's
/// place.
pub(super) type Scoped = (IpAddr, Option<usize>);

/// Owner and place of each address.
pub(super) type Addresses<'a> = BTreeMap<Scoped, (&'a InterfaceDraft, &'a AddressDraft)>;

pub(super) fn scoped(address: IpAddr, interface: usize) -> Scoped {
    (address, is_link_local(address).then_some(interface))
}

fn check_addresses<'a>(interfaces: &'a [InterfaceDraft], report: &mut Report) -> Addresses<'a> {
    let mut addresses = Addresses::new();
    for (index, interface) in interfaces.iter().enumerate() {
        for address in &interface.addresses {
            let ip = address.net.addr();
            match addresses.entry(scoped(ip, index)) {
                Entry::Vacant(entry) => drop(entry.insert((interface, address))),
                Entry::Occupied(entry) => {
                    let (owner, first) = entry.get();
                    let message = match owner.name == interface.name {
                        true => format!("{ip} is given twice"),
                        false => format!("{ip} is the address of interface {} already", owner.name),
                    };
                    let finding = address_finding(interface, address, message);
                    report.add(finding.related(first.span.clone(), "first used here"));
                }
            }
        }
    }
    addresses
}

/// A connected network and its interface's place; what it contains belongs to the same interface.
pub(super) struct Link {
    pub(super) net: IpNet,
    pub(super) interface: usize,
}

/// The connected networks in order, none within another, and whether those of different interfaces are apart.
fn check_networks(interfaces: &[InterfaceDraft], report: &mut Report) -> (Vec<Link>, bool) {
    let mut networks: Vec<(IpNet, usize, &AddressDraft)> = Vec::new();
    for (index, interface) in interfaces.iter().enumerate() {
        let global = interface.addresses.iter().filter(|address| !is_link_local(address.net.addr()));
        networks.extend(global.map(|address| (address.net.trunc(), index, address)));
    }
    // A network sorts before those it contains. The sort is stable: of the same two, the first in the file
    // leads.
    sort_by_key(&mut networks, |&(net, _, _)| net);

    let mut links: Vec<(Link, &AddressDraft)> = Vec::new();
    let mut apart = true;
    for (net, interface, address) in networks {
        let Some((link, outer)) = links.last().filter(|(link, _)| link.net.contains(&net)) else {
            links.push((Link { net, interface }, address));
            continue;
        };
        if link.interface != interface {
            apart = false;
            // The same address twice has been reported as such.
            if outer.net.addr() != address.net.addr() {
                report_overlap(interfaces, (link.interface, outer), (interface, address), report);
            }
        }
    }
    (links.into_iter().map(|(link, _)| link).collect(), apart)
}

fn report_overlap(
    interfaces: &[InterfaceDraft],
    a: (usize, &AddressDraft),
    b: (usize, &AddressDraft),
    report: &mut Report,
) {
    let (first, later) = if a.1.span.start < b.1.span.start { (a, b) } else { (b, a) };
    let (first_net, net) = (first.1.net.trunc(), later.1.net.trunc());
    let other = &interfaces[first.0].name;
    let message = match first_net == net {
        true => {
            format!("{net} is the network of interface {other} already, expected one interface a network")
        }
        false => format!("{net} overlaps {first_net} of interface {other}, expected networks apart"),
    };
    let finding = address_finding(&interfaces[later.0], later.1, message);
    report.add(finding.related(first.1.span.clone(), "the other network"));
}

fn address_finding(
    interface: &InterfaceDraft,
    address: &AddressDraft,
    message: alloc::string::String,
) -> Finding {
    let path = INTERFACES.key(&interface.name);
    let path = path.key("addresses");
    Finding::at(address.span.clone(), Path::Index(&path, address.index), message)
}

/// fe80::/10 (RFC 4291 §2.5.6). IPv4's 169.254.0.0/16 gets no special treatment: it is configured by hand
/// here.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
