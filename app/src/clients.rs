//! What the router learns from others, and how that becomes part of what runs.
//!
//! A task of the boot CPU ([`services`]) speaks with servers and tells management what it learnt, as a whole; management
//! publishes it with the configuration in force, in one snapshot. The configuration's text knows nothing of it.

mod claims;
mod dhcp;
mod dhcp6;
mod names;
mod run;
mod slaac;
mod syslog;
mod time;

pub use names::resolve;
pub(crate) use names::servers;
pub use run::services;

use crate::config::{Config, Interface, Learn};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;
use core::net::{IpAddr, Ipv6Addr};
use ipnet::IpNet;
use weir_manage::model::{AddressOrigin, LearntAddress};
use weir_netstack::snapshot::{Claim, LinkId};

/// The metric of learnt routes, to which the place of their interface in the configuration is added: those of the configuration
/// come first unless they say otherwise.
pub const METRIC: u32 = 1024;

/// All that was learnt.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Learnt {
    /// By interface; those without anything are not here.
    pub interfaces: Vec<OnInterface>,
    /// What is known of addresses, those of the configuration too; the others are being asked for.
    pub verdicts: Vec<Verdict>,
}

/// What was found out about an address.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Verdict {
    /// On this link.
    pub link: LinkId,
    /// For this station.
    pub mac: [u8; 6],
    /// The address.
    pub address: IpAddr,
    /// Who else has it; `None`: nobody.
    pub holder: Option<[u8; 6]>,
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
    /// Others are still asked whether they have it: it is not used yet.
    pub tentative: bool,
    /// No connection begins from it while there is another one (RFC 4862 §5.5.4).
    pub deprecated: bool,
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
    /// All that is known now; `None`: what was known.
    pub learnt: Option<Learnt>,
    /// What happened.
    pub tales: Vec<Tale>,
}

/// Something that happened.
pub struct Tale {
    /// As an event's.
    pub kind: &'static str,
    /// The interface, or the server.
    pub subject: String,
    /// What.
    pub text: String,
}

impl Tale {
    fn of_interface(name: &str, text: String) -> Self {
        Self { kind: "interface", subject: name.into(), text }
    }
}

impl Learnt {
    /// What was learnt on the interface of that name.
    pub fn on(&self, name: &str) -> Option<&OnInterface> {
        self.interfaces.iter().find(|on| on.name == name)
    }

    /// How sure the addresses are that an interface of that name has; all that are not [`Claim::Ours`].
    pub fn claims(
        &self,
        name: &str,
        link: LinkId,
        mac: [u8; 6],
        addresses: impl Iterator<Item = IpAddr>,
    ) -> Vec<(IpAddr, Claim)> {
        let heard = self.on(name).map_or(&[][..], |on| &on.addresses);
        let claim = |address: IpAddr| {
            if heard.iter().any(|heard| heard.net.addr() == address && heard.tentative) {
                return Claim::Tentative;
            }
            let same = |known: &&Verdict| (known.link, known.mac, known.address) == (link, mac, address);
            match self.verdicts.iter().find(same) {
                Some(Verdict { holder: Some(_), .. }) => Claim::Duplicate,
                None if address.is_ipv6() => Claim::Optimistic,
                _ => Claim::Ours,
            }
        };
        let all = addresses.map(|address| (address, claim(address)));
        all.filter(|(_, claim)| *claim != Claim::Ours).collect()
    }

    /// Who else has an address.
    pub fn holder(&self, link: LinkId, address: IpAddr) -> Option<[u8; 6]> {
        let found = self.verdicts.iter().find(|known| (known.link, known.address) == (link, address));
        found.and_then(|known| known.holder)
    }

    /// Of this, what can be used beside `config`: what its interfaces want to learn and contradicts none of its addresses. Also
    /// what cannot, in words.
    pub fn beside(&self, config: &Config) -> (Learnt, Vec<String>) {
        let mut usable = Learnt { verdicts: self.verdicts.clone(), ..Self::default() };
        let mut refused = Vec::new();
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
        // By now all addresses are known. No router has one of ours, or is on the link of another interface.
        for OnInterface { name, routes, .. } in &mut usable.interfaces {
            routes.retain(|route| {
                let Some(via) = route.via else { return true };
                let contradicts = |(owner, net): &&(&str, IpNet)| {
                    let scoped = matches!(via, IpAddr::V6(via) if via.is_unicast_link_local());
                    let own = owner == name;
                    own && is_own(net, via) || !own && !scoped && net.contains(&via)
                };
                let Some((owner, net)) = taken.iter().find(contradicts) else { return true };
                refused.push(format!(
                    "{name}: the route to {} by {via} is not used: {owner} has {net}; correct the router that the \
                     server gives, or give {owner} another address",
                    route.to
                ));
                false
            });
        }
        (usable, refused)
    }

    /// What `build` makes of this, or of as much of it as it takes, with that and with what it does not take, in words: where
    /// something learnt contradicts all the same, its interface goes without the routes, or the addresses too.
    ///
    /// # Errors
    /// It does not even make anything of nothing learnt.
    pub fn fit<T, E: Display>(
        self,
        build: impl Fn(&Learnt) -> Result<T, E>,
    ) -> Result<(T, Learnt, Vec<String>), E> {
        if let Ok(built) = build(&self) {
            return Ok((built, self, Vec::new()));
        }
        let mut fit = Learnt { verdicts: self.verdicts, interfaces: Vec::new() };
        build(&fit)?;
        const CURE: &str = "correct the server, or what it contradicts";
        let mut refused = Vec::new();
        for mut on in self.interfaces {
            let name = on.name.clone();
            fit.interfaces.push(on.clone());
            let Err(why) = build(&fit) else { continue };
            fit.interfaces.pop();
            refused.push(format!("{name}: learnt routes are not used: {why}; {CURE}"));
            on.routes.clear();
            fit.interfaces.push(on.clone());
            let Err(why) = build(&fit) else { continue };
            fit.interfaces.pop();
            refused.push(format!("{name}: learnt addresses are not used: {why}; {CURE}"));
            on.addresses.clear();
            fit.interfaces.push(on);
        }
        Ok((build(&fit)?, fit, refused))
    }

    /// Whether packets are routed the same: all but how long it lasts, and which addresses are surely ours.
    pub fn is_as_good_as(&self, other: &Learnt) -> bool {
        let parts = |learnt: &Learnt| -> Vec<_> {
            let net = |address: &Address| (address.net, address.tentative, address.deprecated);
            let nets = |on: &OnInterface| on.addresses.iter().map(net).collect::<Vec<_>>();
            learnt
                .interfaces
                .iter()
                .map(|on| (on.name.clone(), nets(on), on.routes.clone(), on.mtu))
                .collect()
        };
        let taken = |learnt: &Learnt| -> Vec<Verdict> {
            learnt.verdicts.iter().filter(|known| known.holder.is_some()).copied().collect()
        };
        parts(self) == parts(other) && taken(self) == taken(other)
    }
}

impl OnInterface {
    /// Without anything yet.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The deprecated ones of its addresses.
    pub fn deprecated(&self) -> Vec<IpAddr> {
        let deprecated = self.addresses.iter().filter(|address| address.deprecated);
        deprecated.map(|address| address.net.addr()).collect()
    }

    /// The addresses as the model has them.
    pub fn model(&self) -> Vec<LearntAddress> {
        let row = |address: &Address| LearntAddress {
            address: format!("{}", address.net),
            origin: address.origin,
            until_ms: address.until_ms,
            deprecated: address.deprecated,
        };
        self.addresses.iter().map(row).collect()
    }
}

/// Whether `address` is that of `net`, or means all of its network (RFC 919): no other host has it.
fn is_own(net: &IpNet, address: IpAddr) -> bool {
    let edge = net.addr().is_ipv4() && net.prefix_len() < 31;
    net.addr() == address || edge && [net.network(), net.broadcast()].contains(&address)
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
    link_local: Option<Ipv6Addr>,
    /// Nobody else has that.
    sure: bool,
    up: bool,
}

/// Whether an interface of the configuration learns.
fn learns(interface: &Interface) -> bool {
    interface.enabled && interface.learn.any()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learnt(name: &str, net: &str) -> Learnt {
        let origin = AddressOrigin::Dhcp;
        let address = Address {
            net: net.parse().unwrap(),
            origin,
            until_ms: Some(9),
            tentative: false,
            deprecated: false,
        };
        let via = "192.0.2.1".parse().ok();
        let route = LearntRoute { to: "0.0.0.0/0".parse().unwrap(), via, metric: 0, origin };
        let on =
            OnInterface { addresses: [address].into(), routes: [route].into(), ..OnInterface::new(name) };
        Learnt { interfaces: [on].into(), ..Learnt::default() }
    }

    fn config(wan: &str) -> Config {
        let text = format!(
            "[interface.wan]\nmatch.port = 0\naddresses = [{wan}]\n\
             [interface.lan]\nmatch.port = 1\naddresses = [\"10.0.0.1/8\"]\n"
        );
        Config::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_learnt_is_used_where_it_is_wanted() {
        let heard = learnt("wan", "192.0.2.7/24");
        assert_eq!(heard.beside(&config("\"dhcp\"")), (heard.clone(), Vec::new()));
        for other in ["", "\"auto\""] {
            let (usable, refused) = heard.beside(&config(other));
            assert!(
                refused.is_empty()
                    && usable.is_as_good_as(&Learnt {
                        interfaces: [OnInterface::new("wan")].into(),
                        ..Learnt::default()
                    })
            );
        }
        assert_eq!(learnt("dmz", "192.0.2.7/24").beside(&config("\"dhcp\"")).0, Learnt::default());
    }

    #[test]
    fn the_configurations_networks_come_first() {
        let (usable, refused) = learnt("wan", "10.7.0.2/24").beside(&config("\"dhcp\""));
        assert_eq!(refused, ["wan: 10.7.0.2/24 is not used: lan has 10.0.0.1/8"]);
        assert!(usable.interfaces[0].addresses.is_empty() && usable.interfaces[0].routes.is_empty());
        let (_, refused) = learnt("wan", "192.0.2.7/24").beside(&config("\"dhcp\", \"192.0.2.7/24\""));
        assert_eq!(refused, ["wan: 192.0.2.7/24 is not used: wan has 192.0.2.7/24"]);
        let beside = learnt("wan", "192.0.2.7/24").beside(&config("\"dhcp\", \"192.0.2.8/24\"")).1;
        assert!(beside.is_empty(), "of the same interface they may share a network");
    }

    #[test]
    fn a_router_with_an_address_of_ours_leads_nowhere() {
        let by = |router: &str, wan: &str| {
            let mut heard = learnt("wan", "192.0.2.7/24");
            heard.interfaces[0].routes[0].via = router.parse().ok();
            let (usable, refused) = heard.beside(&config(wan));
            assert_eq!(usable.interfaces[0].addresses, heard.interfaces[0].addresses);
            assert_eq!(usable.interfaces[0].routes.is_empty(), !refused.is_empty());
            refused
        };
        for router in ["10.0.0.1", "10.255.255.255", "10.7.0.1"] {
            let told = format!(
                "wan: the route to 0.0.0.0/0 by {router} is not used: lan has 10.0.0.1/8; correct the router that the \
                 server gives, or give lan another address"
            );
            assert_eq!(by(router, "\"dhcp\""), [told]);
        }
        for router in ["192.0.2.7", "192.0.2.0", "192.0.2.255", "192.0.2.9"] {
            assert_eq!(by(router, "\"dhcp\", \"192.0.2.9/24\"").len(), 1, "{router}");
        }
        for router in ["192.0.2.1", "203.0.113.1", "fe80::1"] {
            assert!(by(router, "\"dhcp\"").is_empty(), "{router}");
        }
        // Each link has link-local addresses of its own.
        let mut heard = learnt("wan", "192.0.2.7/24");
        heard.interfaces[0].routes[0].via = "fe80::1".parse().ok();
        for (wan, lan) in [("", ", \"fe80::1/64\""), (", \"fe80::1/64\"", "")] {
            let text = format!(
                "[interface.wan]\nmatch.port = 0\naddresses = [\"dhcp\"{wan}]\n\
                 [interface.lan]\nmatch.port = 1\naddresses = [\"10.0.0.1/8\"{lan}]\n"
            );
            let refused = heard.beside(&Config::parse(text.as_bytes()).unwrap()).1;
            assert_eq!(refused.is_empty(), wan.is_empty(), "{text}");
        }
    }

    #[test]
    fn what_contradicts_all_the_same_costs_its_interface_alone() {
        let interfaces: Vec<_> = ["wan", "dmz", "lan"]
            .map(|name| learnt(name, "192.0.2.7/24").interfaces.remove(0))
            .map(|on| OnInterface { dns: ["192.0.2.53".parse().unwrap()].into(), ..on })
            .into();
        let all = Learnt { interfaces, ..Learnt::default() };
        let (_, same, refused) = all.clone().fit(|_| Ok::<_, String>(())).unwrap();
        assert!(same == all && refused.is_empty());
        let (shape, fit, refused) = all
            .clone()
            .fit(|learnt| {
                let bad = |on: &OnInterface| match &*on.name {
                    "wan" => !on.routes.is_empty(),
                    "dmz" => !on.addresses.is_empty(),
                    _ => false,
                };
                if learnt.interfaces.iter().any(bad) {
                    return Err("a contradiction");
                }
                let shape = |on: &OnInterface| (on.addresses.len(), on.routes.len(), on.dns.len());
                Ok(learnt.interfaces.iter().map(shape).collect::<Vec<_>>())
            })
            .unwrap();
        assert_eq!((shape, fit.interfaces.len()), ([(1, 0, 1), (0, 0, 1), (1, 1, 1)].into(), 3));
        assert_eq!(
            refused,
            [
                "wan: learnt routes are not used",
                "dmz: learnt routes are not used",
                "dmz: learnt addresses are not used",
            ]
            .map(|what| format!("{what}: a contradiction; correct the server, or what it contradicts"))
        );
        assert_eq!(all.fit(|_| Err::<(), _>("the configuration's own")), Err("the configuration's own"));
    }

    #[test]
    fn an_address_is_as_sure_as_others_let_it_be() {
        let (link, mac) = (LinkId { port: weir_netif::IfIndex(0), vlan: 0 }, [2, 0, 0, 0, 0, 1]);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let own = ["192.0.2.7", "192.0.2.9", "2001:db8::1", "fe80::1"].map(address);
        let mut heard = learnt("wan", "192.0.2.7/24");
        let claims = |heard: &Learnt| heard.claims("wan", link, mac, own.into_iter());
        let optimistic = [(own[2], Claim::Optimistic), (own[3], Claim::Optimistic)];
        assert_eq!(claims(&heard), optimistic);
        heard.interfaces[0].addresses[0].tentative = true;
        assert_eq!(claims(&heard), [&[(own[0], Claim::Tentative)], &optimistic[..]].concat());
        let verdict = |address, holder| Verdict { link, mac, address, holder };
        let asked = Learnt { verdicts: [verdict(own[2], None)].into(), ..learnt("wan", "192.0.2.7/24") };
        assert!(asked.is_as_good_as(&learnt("wan", "192.0.2.7/24")), "no route changes");
        assert_eq!(claims(&asked), [(own[3], Claim::Optimistic)]);
        let holder = Some([2, 0, 0, 0, 0, 9]);
        let taken =
            Learnt { verdicts: [verdict(own[3], holder), verdict(own[2], None)].into(), ..asked.clone() };
        assert!(!taken.is_as_good_as(&asked));
        assert_eq!(
            (claims(&taken), taken.holder(link, own[3])),
            ([(own[3], Claim::Duplicate)].into(), holder)
        );
        // Of another station nothing is known.
        assert_eq!(taken.claims("wan", link, [2; 6], own.into_iter()).len(), 2);
    }

    #[test]
    fn how_long_it_lasts_makes_no_difference_to_packets() {
        let (one, mut other) = (learnt("wan", "192.0.2.7/24"), learnt("wan", "192.0.2.7/24"));
        other.interfaces[0].addresses[0].until_ms = None;
        assert!(one.is_as_good_as(&other) && one != other);
        assert!(!one.is_as_good_as(&learnt("wan", "192.0.2.9/24")));
        other.interfaces[0].addresses[0].deprecated = true;
        assert!(!one.is_as_good_as(&other), "connections begin elsewhere");
    }
}
