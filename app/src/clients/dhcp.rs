//! DHCP for IPv4: a client for each interface that has `"dhcp"` among its addresses, all by one socket.

use super::{Address, LearntRoute, OnInterface, Tale, Wish};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use ipnet::{IpNet, Ipv4Net};
use weir_clients::NEVER;
use weir_clients::dhcp4::{CLIENT_PORT, Client, Event, Lease, SERVER_PORT, Send, Settings};
use weir_machine::{error, random};
use weir_manage::model::AddressOrigin;
use weir_netif::IfIndex;
use weir_transport::{Access, Transport, UdpSocket};

/// All of them.
#[derive(Default)]
pub(super) struct Dhcp {
    clients: Vec<One>,
    pub(super) socket: Option<UdpSocket>,
}

struct One {
    name: String,
    index: IfIndex,
    up: bool,
    client: Client,
}

impl Dhcp {
    /// Follows the interfaces that want addresses, and the router's name. Who wants none any more gives its own back.
    pub(super) async fn follow(
        &mut self,
        wishes: &[Wish],
        hostname: &str,
        transport: &Transport,
        now_ms: u64,
        tales: &mut Vec<Tale>,
    ) {
        let wanted = |one: &One| {
            let mac = one.client.settings().mac;
            wishes.iter().find(|wish| wish.learn.dhcp && wish.name == one.name && wish.mac == mac)
        };
        let mut gone = Vec::new();
        let mut at = 0;
        while let Some(one) = self.clients.get_mut(at) {
            let Some(wish) = wanted(one) else {
                gone.push(self.clients.swap_remove(at));
                continue;
            };
            one.index = wish.index;
            if one.client.settings().hostname != hostname {
                one.client.rename(hostname);
            }
            if wish.up && !one.up {
                one.client.link_is_back(now_ms);
            }
            one.up = wish.up;
            at += 1;
        }
        for mut one in gone {
            if let Some(lease) = one.client.lease() {
                tales.push(Tale::of_interface(
                    &one.name,
                    format!("dhcp: {} is given back", lease.grant.address),
                ));
            }
            if let Some(send) = one.client.release() {
                // To the server alone (RFC 2131 §4.4.4), unless the way there went with the address.
                let server = SocketAddr::from((send.to, SERVER_PORT));
                let to = if transport.leads_to(server.ip()) { send.to } else { Ipv4Addr::BROADCAST };
                self.send(Send { to, ..send }, one.index).await;
            }
        }
        for wish in wishes.iter().filter(|wish| wish.learn.dhcp) {
            if self.clients.iter().all(|one| one.name != wish.name) {
                let settings =
                    Settings { mac: wish.mac, iaid: u32::from(wish.index.0) + 1, hostname: hostname.into() };
                let client = Client::new(settings, random::seed, now_ms);
                self.clients.push(One { name: wish.name.clone(), index: wish.index, up: wish.up, client });
            }
        }
        if self.clients.is_empty() {
            self.socket = None;
        } else if self.socket.is_none() {
            match transport.bind(CLIENT_PORT, Access::Any) {
                Ok(socket) => self.socket = Some(socket),
                Err(wrong) => error!("dhcp: {wrong}"),
            }
        }
    }

    /// Sends what is due.
    pub(super) async fn poll(&mut self, now_ms: u64, tales: &mut Vec<Tale>) {
        for at in 0..self.clients.len() {
            while let Some(one) = self.clients.get_mut(at) {
                // A lease runs out all the same.
                let due = if one.up { one.client.deadline_ms() } else { one.until_ms() };
                if due > now_ms {
                    break;
                }
                let (send, event) = one.client.poll(now_ms);
                one.tell(event, tales);
                let index = one.index;
                match send {
                    Some(send) => self.send(send, index).await,
                    None if self.clients.get(at).is_none_or(|one| one.client.deadline_ms() > now_ms) => break,
                    None => {}
                }
            }
        }
    }

    /// Takes what came in by `interface`.
    pub(super) fn input(&mut self, bytes: &[u8], interface: IfIndex, now_ms: u64, tales: &mut Vec<Tale>) {
        if let Some(one) = self.clients.iter_mut().find(|one| one.index == interface) {
            let event = one.client.input(bytes, now_ms);
            one.tell(event, tales);
        }
    }

    /// When something is due.
    pub(super) fn deadline_ms(&self) -> u64 {
        let due = |one: &One| if one.up { one.client.deadline_ms() } else { one.until_ms() };
        self.clients.iter().map(due).min().unwrap_or(NEVER)
    }

    /// What is known.
    pub(super) fn learnt(&self, into: &mut Vec<OnInterface>) {
        for one in &self.clients {
            let Some(lease) = one.client.lease() else { continue };
            let Ok(net) = Ipv4Net::new(lease.grant.address, lease.grant.prefix_len) else { continue };
            let mut on = OnInterface::new(&one.name);
            let origin = AddressOrigin::Dhcp;
            on.addresses.push(Address {
                net: net.into(),
                origin,
                until_ms: Some(lease.until_ms).filter(|&until| until != NEVER),
                tentative: true,
                deprecated: false,
            });
            on.mtu = lease.grant.mtu;
            on.dns.extend(lease.grant.dns.iter().copied().map(IpAddr::V4));
            on.ntp.extend(lease.grant.ntp.iter().copied().map(IpAddr::V4));
            for &(to, len, via) in &lease.grant.routes {
                let Ok(to) = Ipv4Net::new(to, len).map(|to| IpNet::from(to.trunc())) else { continue };
                // A router of our own address leads nowhere.
                if via == lease.grant.address {
                    continue;
                }
                let via = Some(IpAddr::V4(via)).filter(|via| !via.is_unspecified());
                on.routes.push(LearntRoute { to, via, metric: 0, origin });
            }
            super::run::join(into, on);
        }
    }

    /// Somebody else has an interface's address.
    pub(super) async fn decline(&mut self, name: &str, now_ms: u64) {
        let Some(one) = self.clients.iter_mut().find(|one| one.name == name) else { return };
        let index = one.index;
        if let Some(send) = one.client.decline(now_ms) {
            self.send(send, index).await;
        }
    }

    async fn send(&mut self, send: Send, index: IfIndex) {
        let Some(socket) = &mut self.socket else { return };
        let to = SocketAddr::from((send.to, SERVER_PORT));
        // What is lost is sent again.
        let _ = socket.send_from(&send.payload, send.from.into(), to, index).await;
    }
}

impl One {
    fn until_ms(&self) -> u64 {
        self.client.lease().map_or(NEVER, |lease| lease.until_ms)
    }

    fn tell(&self, event: Option<Event>, tales: &mut Vec<Tale>) {
        let terms = |lease: &Lease| {
            let grant = &lease.grant;
            let mut text = format!("{}/{} from {}", grant.address, grant.prefix_len, lease.server);
            if grant.lease_s != u32::MAX {
                text += &format!(", for {} s", grant.lease_s);
            }
            text
        };
        let lease = self.client.lease().map(terms).unwrap_or_default();
        let text = match event {
            Some(Event::Gained) => format!("dhcp: {lease}"),
            Some(Event::Changed) => format!("dhcp: changed: {lease}"),
            Some(Event::Lost(why)) => format!("dhcp: the address is lost: {why}"),
            Some(Event::Renewed) | None => return,
        };
        tales.push(Tale::of_interface(&self.name, text));
    }
}
