//! Whether the router's addresses are its alone: those that it learnt are asked for before they are used, IPv6 ones of the
//! configuration while they are used already. What is found out holds while link and address stay.

use super::{Address, Learnt, Tale, Verdict, run::now_ms};
use crate::config::Config;
use crate::manage::Plane;
use crate::observe::mac as station;
use crate::shared::Contested;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use ipnet::IpNet;
use weir_clients::NEVER;
use weir_clients::dad::{DELAY_MS, Probe, Step};
use weir_machine::{mask, random};
use weir_manage::model::AddressOrigin;
use weir_netif::IfIndex;
use weir_netstack::snapshot::{Claim, Interface, LinkId, State};
use weir_transport::Transport;

/// Questions sent before the way out has its turn: half of what may wait there.
const AT_ONCE: usize = 8;

/// A link that is up, and the addresses there.
struct Link {
    name: String,
    index: IfIndex,
    id: LinkId,
    mac: [u8; 6],
    /// Those in the snapshot.
    addresses: Vec<IpAddr>,
    /// Of these, those to be asked for.
    optimistic: Vec<IpAddr>,
}

impl Link {
    fn of(interface: &Interface) -> Self {
        let optimistic = interface.claims.iter().filter(|(_, claim)| *claim == Claim::Optimistic);
        Self {
            name: interface.name.clone(),
            index: interface.index,
            id: interface.link,
            mac: interface.mac,
            addresses: interface.addresses().collect(),
            optimistic: optimistic.map(|(address, _)| *address).collect(),
        }
    }
}

struct One {
    link: LinkId,
    index: IfIndex,
    mac: [u8; 6],
    address: IpAddr,
    probe: Probe,
    /// Who has it.
    holder: Option<[u8; 6]>,
}

/// All addresses that were or are asked for.
#[derive(Default)]
pub(super) struct Claims {
    links: Vec<Link>,
    all: Vec<One>,
    /// The configuration that duplicates were found with.
    config: Option<Arc<Config>>,
}

impl Claims {
    /// Follows the links that are up, their addresses, and those that were `learnt`.
    pub(super) fn follow(&mut self, plane: &'static Plane, learnt: &Learnt) {
        self.links = mask::masked(|cx| {
            let interfaces = plane.shared().running.read(cx).snapshot.interfaces();
            interfaces.filter(|interface| interface.state == State::Up).map(Link::of).collect()
        });
        // Another configuration is another chance.
        let config = plane.view().config.clone();
        if self.config.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &config)) {
            self.config = Some(config);
            self.all.retain(|one| one.holder.is_none());
        }
        let Self { links, all, .. } = self;
        let heard = |link: &Link| learnt.on(&link.name).map_or(&[][..], |on| &on.addresses);
        all.retain(|one| {
            let link = links.iter().find(|link| (link.id, link.mac) == (one.link, one.mac));
            link.is_some_and(|link| {
                link.addresses.contains(&one.address)
                    || heard(link).iter().any(|heard| heard.net.addr() == one.address)
            })
        });
        let begin_ms = now_ms() + random::seed() % DELAY_MS;
        for link in links.iter() {
            let wanted =
                heard(link).iter().map(|heard| heard.net.addr()).chain(link.optimistic.iter().copied());
            for address in wanted {
                if all.iter().all(|one| (one.link, one.address) != (link.id, address)) {
                    let probe = Probe::new(address, link.mac, random::seed, begin_ms);
                    let Link { id, index, mac, .. } = *link;
                    all.push(One { link: id, index, mac, address, probe, holder: None });
                }
            }
        }
    }

    /// Asks where that is due, as many as the way out takes. Whether there are more.
    pub(super) fn poll(&mut self, transport: &Transport) -> bool {
        let (now_ms, mut sent) = (now_ms(), 0);
        for one in self.all.iter_mut().filter(|one| one.holder.is_none()) {
            loop {
                match one.probe.poll(now_ms) {
                    Step::Send(message) => {
                        transport.send_packet(message, one.index);
                        sent += 1;
                        if sent == AT_ONCE {
                            return true;
                        }
                    }
                    Step::Passed => {}
                    Step::Wait => break,
                }
            }
        }
        false
    }

    /// When something is due.
    pub(super) fn deadline_ms(&self) -> u64 {
        let open = self.all.iter().filter(|one| one.holder.is_none());
        open.map(|one| one.probe.deadline_ms()).min().unwrap_or(NEVER)
    }

    /// Somebody else has, or wants, an address.
    pub(super) fn contest(&mut self, contested: &Contested, tales: &mut Vec<Tale>) {
        let &Contested { interface, address, by } = contested;
        let Some(link) = self.links.iter().find(|link| link.index == interface) else { return };
        let known = self.all.iter_mut().find(|one| (one.index, one.address) == (interface, address));
        let (by_text, name) = (station(by), &link.name);
        let text = match known {
            Some(one) if one.holder.is_some() => return,
            Some(one) if !one.probe.has_passed() => {
                one.holder = Some(by);
                let local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
                let off = if local { "; without it IPv6 is off here" } else { "" };
                format!("{address} is not used: {by_text} has it too{off}; give one of them another address")
            }
            _ => {
                format!("{address} is used by {by_text} too, and defended: give one of them another address")
            }
        };
        tales.push(Tale::of_interface(name, text));
    }

    /// Marks what was learnt and is still asked for, and takes out what others have: those addresses come back.
    pub(super) fn judge(&self, learnt: &mut Learnt) -> Vec<(String, Address)> {
        let mut taken = Vec::new();
        for on in &mut learnt.interfaces {
            let link = self.links.iter().find(|link| link.name == on.name);
            let mut networks = Vec::new();
            on.addresses.retain_mut(|address| {
                let same = |one: &&One| {
                    link.is_some_and(|link| link.id == one.link) && one.address == address.net.addr()
                };
                let known = self.all.iter().find(same);
                address.tentative = known.is_none_or(|one| !one.probe.has_passed());
                let duplicate = known.is_some_and(|one| one.holder.is_some());
                if duplicate {
                    taken.push((on.name.clone(), *address));
                    // Others of its network are on the link all the same.
                    if address.origin == AddressOrigin::Auto && address.net.prefix_len() < 128 {
                        networks.push(address.net.trunc());
                    }
                }
                !duplicate
            });
            let route =
                |to: IpNet| super::LearntRoute { to, via: None, metric: 0, origin: AddressOrigin::Auto };
            on.routes.extend(networks.into_iter().map(route));
            // What a server says of the link holds with its address.
            let in_force = on.addresses.iter().any(|own| own.origin == AddressOrigin::Dhcp && !own.tentative);
            on.routes.retain(|route| route.origin != AddressOrigin::Dhcp || in_force);
        }
        learnt.verdicts.extend(self.all.iter().filter_map(|one| {
            let decided = one.holder.is_some() || one.probe.has_passed();
            let One { link, mac, address, holder, .. } = *one;
            decided.then_some(Verdict { link, mac, address, holder })
        }));
        taken
    }
}
