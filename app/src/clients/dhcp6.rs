//! DHCPv6: a client for each interface that has `"auto"` among its addresses, all by one socket. What it asks for is what
//! routers on the link say.

use super::{Address, OnInterface, Tale, Wish};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use ipnet::{IpNet, Ipv6Net};
use weir_clients::NEVER;
use weir_clients::dhcp6::{CLIENT_PORT, Client, Event, Leased, SERVER_PORT, SERVERS, Wanted};
use weir_machine::{error, random};
use weir_manage::model::AddressOrigin;
use weir_netif::IfIndex;
use weir_transport::{Access, Transport, UdpSocket};

/// All of them.
#[derive(Default)]
pub(super) struct Dhcp6 {
    clients: Vec<One>,
    /// Those that give their addresses back, until servers know.
    leaving: Vec<One>,
    pub(super) socket: Option<UdpSocket>,
}

struct One {
    name: String,
    index: IfIndex,
    /// It can send: the link is up, and its link-local address is the interface's alone.
    ready: bool,
    link_local: Ipv6Addr,
    client: Client,
}

impl Dhcp6 {
    /// Follows the interfaces that want addresses, and what their routers say. Who wants none any more gives its own back.
    pub(super) async fn follow(
        &mut self,
        wishes: &[Wish],
        wanted: impl Fn(&str) -> Wanted,
        transport: &Transport,
        now_ms: u64,
        tales: &mut Vec<Tale>,
    ) {
        let mut at = 0;
        while let Some(one) = self.clients.get_mut(at) {
            let same =
                |wish: &&Wish| wish.learn.auto && wish.name == one.name && wish.mac == one.client.mac();
            if let Some(wish) = wishes.iter().find(same) {
                let ready = wish.up && wish.sure;
                (one.index, one.link_local) = (wish.index, wish.link_local.unwrap_or(one.link_local));
                if ready && !core::mem::replace(&mut one.ready, ready) {
                    one.client.link_is_back(now_ms);
                }
                one.ready = ready;
                at += 1;
                continue;
            }
            let mut one = self.clients.swap_remove(at);
            for own in one.client.addresses() {
                tales.push(Tale::of_interface(&one.name, format!("dhcpv6: {} is given back", own.address)));
            }
            one.client.release(now_ms);
            // Whether its link is up nobody says any more.
            self.leaving.push(One { ready: true, ..one });
        }
        for wish in wishes.iter().filter(|wish| wish.learn.auto) {
            if self.clients.iter().all(|one| one.name != wish.name)
                && let Some(link_local) = wish.link_local.filter(|_| wish.sure)
            {
                let client = Client::new(wish.mac, u32::from(wish.index.0) + 1, random::seed);
                let (name, index) = (wish.name.clone(), wish.index);
                // It may be given the same again.
                self.leaving.retain(|one| one.name != name);
                self.clients.push(One { name, index, ready: wish.up, link_local, client });
            }
        }
        for one in &mut self.clients {
            one.client.want(wanted(&one.name), now_ms);
        }
        if self.clients.is_empty() && self.leaving.is_empty() {
            self.socket = None;
        } else if self.socket.is_none() {
            match transport.bind(CLIENT_PORT, Access::Any) {
                Ok(socket) => self.socket = Some(socket),
                Err(wrong) => error!("dhcpv6: {wrong}"),
            }
        }
    }

    /// Sends what is due.
    pub(super) async fn poll(&mut self, now_ms: u64, tales: &mut Vec<Tale>) {
        let Self { clients, leaving, socket } = self;
        for one in clients.iter_mut().chain(leaving.iter_mut()) {
            while one.due_ms() <= now_ms {
                let (message, event) = one.client.poll(now_ms);
                one.tell(event, tales);
                if let (Some(message), Some(socket)) = (message, socket.as_mut()) {
                    let (from, to) = (one.link_local.into(), SocketAddr::from((SERVERS, SERVER_PORT)));
                    // What is lost is sent again.
                    let _ = socket.send_from(&message, from, to, one.index).await;
                }
            }
        }
        leaving.retain(|one| one.due_ms() != NEVER);
    }

    /// Takes what came in by `interface`.
    pub(super) fn input(&mut self, bytes: &[u8], interface: IfIndex, now_ms: u64, tales: &mut Vec<Tale>) {
        let all = self.clients.iter_mut().chain(&mut self.leaving);
        for one in all.filter(|one| one.index == interface) {
            let event = one.client.input(bytes, now_ms);
            one.tell(event, tales);
        }
    }

    /// Somebody else has an address.
    pub(super) fn decline(&mut self, name: &str, address: IpAddr, now_ms: u64) {
        let one = self.clients.iter_mut().find(|one| one.name == name);
        if let (Some(one), IpAddr::V6(address)) = (one, address) {
            one.client.decline(address, now_ms);
        }
    }

    /// When something is due.
    pub(super) fn deadline_ms(&self) -> u64 {
        self.clients.iter().chain(&self.leaving).map(One::due_ms).min().unwrap_or(NEVER)
    }

    /// What is known.
    pub(super) fn learnt(&self, into: &mut Vec<OnInterface>) {
        for one in &self.clients {
            let mut on = OnInterface::new(&one.name);
            for own in one.client.addresses() {
                on.addresses.push(Address {
                    // What else is on the link, routers say.
                    net: IpNet::V6(Ipv6Net::from(own.address)),
                    origin: AddressOrigin::Dhcpv6,
                    until_ms: Some(own.valid_until_ms).filter(|&until| until != NEVER),
                    tentative: true,
                    deprecated: own.deprecated,
                });
            }
            on.dns.extend(one.client.dns().iter().copied().map(IpAddr::V6));
            if on != OnInterface::new(&one.name) {
                super::run::join(into, on);
            }
        }
    }
}

impl One {
    /// Addresses age and end all the same where nothing can be sent.
    fn due_ms(&self) -> u64 {
        if self.ready { self.client.deadline_ms() } else { self.client.runs_out_ms() }
    }

    fn tell(&self, event: Option<Event>, tales: &mut Vec<Tale>) {
        let text = match event {
            Some(Event::Gained | Event::Deprecated) => {
                let deprecated = |own: &Leased| if own.deprecated { " (deprecated)" } else { "" };
                let all = self.client.addresses().iter();
                let all: Vec<String> = all.map(|own| format!("{}{}", own.address, deprecated(own))).collect();
                format!("dhcpv6: {}", all.join(", "))
            }
            Some(Event::Informed) => {
                let all: Vec<String> = self.client.dns().iter().map(|address| format!("{address}")).collect();
                format!(
                    "dhcpv6: name servers: {}",
                    if all.is_empty() { "none".into() } else { all.join(", ") }
                )
            }
            Some(Event::Lost(why)) => format!("dhcpv6: the address is lost: {why}"),
            Some(Event::Renewed) | None => return,
        };
        tales.push(Tale::of_interface(&self.name, text));
    }
}
