//! Addresses by router advertisements: a client for each interface that has `"auto"` among its addresses.

use super::{Address, LearntRoute, OnInterface, Tale, Wish};
use crate::shared::Advertised;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};
use ipnet::{IpNet, Ipv6Net};
use weir_clients::NEVER;
use weir_clients::dhcp6::Wanted;
use weir_clients::slaac::Client;
use weir_machine::random;
use weir_manage::model::AddressOrigin;
use weir_netif::IfIndex;
use weir_transport::Transport;

/// All of them.
#[derive(Default)]
pub(super) struct Slaac {
    clients: Vec<One>,
}

struct One {
    name: String,
    index: IfIndex,
    up: bool,
    link_local: Option<Ipv6Addr>,
    sure: bool,
    client: Client,
    /// What was told of it last.
    told: String,
}

impl Slaac {
    /// Follows the interfaces that want addresses.
    pub(super) fn follow(&mut self, wishes: &[Wish], now_ms: u64) {
        let wanted = |one: &One| {
            wishes
                .iter()
                .find(|wish| wish.learn.auto && wish.name == one.name && wish.mac == one.client.mac())
        };
        self.clients.retain(|one| wanted(one).is_some());
        for wish in wishes.iter().filter(|wish| wish.learn.auto) {
            let known = self.clients.iter_mut().find(|one| one.name == wish.name);
            match known {
                Some(one) => {
                    if wish.up && !one.up {
                        one.client.link_is_back(now_ms);
                    }
                    (one.index, one.up) = (wish.index, wish.up);
                    (one.link_local, one.sure) = (wish.link_local, wish.sure);
                }
                None => self.clients.push(One {
                    name: wish.name.clone(),
                    index: wish.index,
                    up: wish.up,
                    link_local: wish.link_local,
                    sure: wish.sure,
                    client: Client::new(wish.mac, random::seed, now_ms),
                    told: String::new(),
                }),
            }
        }
    }

    /// Asks for routers where that is due, and forgets what ran out.
    pub(super) fn poll(&mut self, transport: &Transport, now_ms: u64, tales: &mut Vec<Tale>) {
        for one in &mut self.clients {
            let due = if one.up { one.client.deadline_ms() } else { one.client.runs_out_ms() };
            if due > now_ms {
                continue;
            }
            let Some(own) = one.link_local else { continue };
            // RFC 4429 §3.3: nobody is to remember an address that may be another's.
            let source = if one.sure { own } else { Ipv6Addr::UNSPECIFIED };
            let (packet, _) = one.client.poll(source, now_ms);
            if let Some(packet) = packet.filter(|_| one.up) {
                transport.send_packet(packet, one.index);
            }
            one.tell(tales);
        }
    }

    /// What is to be had by DHCPv6 on an interface, as its routers say.
    pub(super) fn wanted(&self, name: &str) -> Wanted {
        match self.clients.iter().find(|one| one.name == name).map(|one| one.client.dhcp()) {
            Some((true, _)) => Wanted::Addresses,
            Some((false, true)) => Wanted::Other,
            _ => Wanted::Nothing,
        }
    }

    /// Takes an advertisement.
    pub(super) fn input(&mut self, told: &Advertised, now_ms: u64, tales: &mut Vec<Tale>) {
        if let Some(one) = self.clients.iter_mut().find(|one| one.index == told.interface) {
            one.client.input(told.message(), told.source, now_ms);
            one.tell(tales);
        }
    }

    /// When something is due.
    pub(super) fn deadline_ms(&self) -> u64 {
        let due = |one: &One| match one.link_local {
            Some(_) if one.up => one.client.deadline_ms(),
            Some(_) => one.client.runs_out_ms(),
            None => NEVER,
        };
        self.clients.iter().map(due).min().unwrap_or(NEVER)
    }

    /// What is known.
    pub(super) fn learnt(&self, into: &mut Vec<OnInterface>) {
        for one in &self.clients {
            let origin = AddressOrigin::Auto;
            let (client, mut on) = (&one.client, OnInterface::new(&one.name));
            for prefix in client.prefixes() {
                let until_ms = Some(prefix.valid_until_ms).filter(|&until| until != NEVER);
                let on_link = prefix.on_link_until_ms > 0;
                if let Some(address) = prefix.address {
                    // Off the link, the address stands alone.
                    let len = if on_link { prefix.len } else { 128 };
                    if let Ok(net) = Ipv6Net::new(address, len) {
                        let (net, deprecated) = (net.into(), prefix.deprecated);
                        on.addresses.push(Address { net, origin, until_ms, tentative: true, deprecated });
                    }
                } else if let Ok(to) = Ipv6Net::new(prefix.prefix, prefix.len) {
                    on.routes.push(LearntRoute { to: to.into(), via: None, metric: 0, origin });
                }
            }
            if let Some(router) = client.router() {
                let via = Some(IpAddr::V6(router.address));
                let to = IpNet::V6(Ipv6Net::default());
                // Between interfaces the better preference counts (RFC 4191 §3.1), then the order of the configuration.
                let metric = (256 * i32::from(1 - router.preference)) as u32;
                on.routes.push(LearntRoute { to, via, metric, origin });
            }
            on.dns.extend(client.dns().map(IpAddr::V6));
            on.mtu = client.mtu();
            if on != OnInterface::new(&one.name) {
                super::run::join(into, on);
            }
        }
    }
}

impl One {
    /// Says what it has by now, if that is something else than before.
    fn tell(&mut self, tales: &mut Vec<Tale>) {
        let mut text = String::new();
        for prefix in self.client.prefixes() {
            if let Some(address) = prefix.address {
                let deprecated = if prefix.deprecated { " (deprecated)" } else { "" };
                text += &format!("{address}/{}{deprecated}, ", prefix.len);
            }
        }
        match self.client.router() {
            Some(router) => text += &format!("router {}", router.address),
            None => text += "no router",
        }
        if text != self.told
            && !(self.told.is_empty() && self.client.router().is_none() && self.client.prefixes().is_empty())
        {
            tales.push(Tale::of_interface(&self.name, format!("auto: {text}")));
            self.told = text;
        }
    }
}
