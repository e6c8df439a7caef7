//! What the router learns from others, and how that becomes part of what runs.
//!
//! A task of the boot CPU ([`services`]) speaks with servers and tells management what it learnt, as a whole; management
//! publishes it with the configuration in force, in one snapshot. The configuration's text knows nothing of it.

mod dhcp;
mod run;

pub use run::services;

use crate::config::{Config, Interface, Learn};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use ipnet::IpNet;
use weir_manage::model::{AddressOrigin, LearntAddress};

/// The metric of learnt routes, to which the place of their interface in the configuration is added: those of the configuration
/// come first unless they say otherwise.
pub const METRIC: u32 = 1024;

/// All that was learnt.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Learnt {
    /// By interface; those without anything are not here.
    pub interfaces: Vec<OnInterface>,
}

/// What was learnt on an interface.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct OnInterface {
    /// Its configured name.
    pub name: String,
    /// Addresses that are its now.
    pub addresses: Vec<Address>,
    /// Routes by it.
    pub routes: Vec<LearntRoute>,
    /// Octets of an IP packet on the link, of whoever said so.
    pub mtu: Option<u16>,
    /// Name servers, the best first.
    pub dns: Vec<IpAddr>,
    /// Time servers, the best first.
    pub ntp: Vec<IpAddr>,
}

/// A learnt address.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Address {
    /// With its network.
    pub net: IpNet,
    /// Who said so.
    pub origin: AddressOrigin,
    /// Milliseconds since entry, when it ends; `None`: never.
    pub until_ms: Option<u64>,
}

/// A learnt route.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LearntRoute {
    /// Destination.
    pub to: IpNet,
    /// The next router; `None`: on the link.
    pub via: Option<IpAddr>,
    /// Added to [`METRIC`].
    pub metric: u32,
    /// Who said so.
    pub origin: AddressOrigin,
}

/// What the clients tell management.
pub struct News {
    /// All that is known now.
    pub learnt: Learnt,
    /// What happened: the interface, and what it was.
    pub events: Vec<(String, String)>,
}

impl Learnt {
    /// What was learnt on the interface of that name.
    pub fn on(&self, name: &str) -> Option<&OnInterface> {
        self.interfaces.iter().find(|on| on.name == name)
    }

    /// Of this, what can be used beside `config`: what its interfaces want to learn and contradicts none of its addresses. Also
    /// what cannot, in words.
    pub fn beside(&self, config: &Config) -> (Learnt, Vec<String>) {
        let (mut usable, mut refused) = (Learnt::default(), Vec::new());
        let mut taken: Vec<(&str, IpNet)> = Vec::new();
        for interface in &config.interfaces {
            taken.extend(interface.addresses.iter().map(|net| (&*interface.name, *net)));
        }
        for interface in config.interfaces.iter().filter(|interface| interface.enabled) {
            let Some(on) = self.on(&interface.name) else { continue };
            let mut on = on.clone();
            on.addresses.retain(|address| {
                if !wanted(interface.learn, address.origin) {
                    return false;
                }
                let contradicts = |(name, net): &&(&str, IpNet)| {
                    net.addr() == address.net.addr()
                        || *name != interface.name
                            && (net.contains(&address.net) || address.net.contains(net))
                };
                if let Some((name, net)) = taken.iter().find(contradicts) {
                    refused
                        .push(format!("{}: {} is not used: {name} has {net}", interface.name, address.net));
                    return false;
                }
                taken.push((&interface.name, address.net));
                true
            });
            // A router of a network that is not used leads nowhere.
            let near = |via: &IpAddr| {
                matches!(via, IpAddr::V6(via) if via.is_unicast_link_local())
                    || on.addresses.iter().any(|address| address.net.addr().is_ipv4() == via.is_ipv4())
            };
            on.routes
                .retain(|route| wanted(interface.learn, route.origin) && route.via.as_ref().is_none_or(near));
            usable.interfaces.push(on);
        }
        (usable, refused)
    }

    /// Whether packets are treated the same: all but how long it lasts.
    pub fn is_as_good_as(&self, other: &Learnt) -> bool {
        let parts = |learnt: &Learnt| -> Vec<_> {
            let nets = |on: &OnInterface| on.addresses.iter().map(|address| address.net).collect::<Vec<_>>();
            learnt
                .interfaces
                .iter()
                .map(|on| (on.name.clone(), nets(on), on.routes.clone(), on.mtu))
                .collect()
        };
        parts(self) == parts(other)
    }
}

impl OnInterface {
    /// Without anything yet.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The addresses as the model has them.
    pub fn model(&self) -> Vec<LearntAddress> {
        let row = |address: &Address| LearntAddress {
            address: format!("{}", address.net),
            origin: address.origin,
            until_ms: address.until_ms,
        };
        self.addresses.iter().map(row).collect()
    }
}

/// Whether an interface with these words among its addresses takes what is from `origin`.
fn wanted(learn: Learn, origin: AddressOrigin) -> bool {
    match origin {
        AddressOrigin::Dhcp => learn.dhcp,
        AddressOrigin::Auto | AddressOrigin::Dhcpv6 => learn.auto,
    }
}

/// An interface that learns, as it is now.
#[derive(Clone, Debug)]
struct Wish {
    name: String,
    learn: Learn,
    index: weir_netif::IfIndex,
    mac: [u8; 6],
    up: bool,
}

/// Whether an interface of the configuration learns.
fn learns(interface: &Interface) -> bool {
    interface.enabled && interface.learn.any()
}
