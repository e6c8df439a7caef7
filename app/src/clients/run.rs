//! The task of the clients that configure interfaces. Boot CPU: there broadcasts and groups come, and the clients' ports.

use super::claims::Claims;
use super::dhcp::Dhcp;
use super::dhcp6::Dhcp6;
use super::slaac::Slaac;
use super::{Learnt, News, OnInterface, Tale, Wish, learns, syslog, time};
use crate::manage::{Plane, plane};
use alloc::vec;
use alloc::vec::Vec;
use core::future::{Future, pending, poll_fn};
use core::pin::pin;
use core::task::Poll;
use weir_machine::{clock, error, mask, task};
use weir_manage::model::AddressOrigin;
use weir_netstack::snapshot::{Claim, State};
use weir_sync::CpuId;
use weir_transport::{Received, Transport, UdpSocket};

/// Room for the longest answer that fits a frame.
const LONGEST: usize = 1536;

/// Spawns the clients, where they run.
pub fn services(transport: &Transport) {
    if mask::masked(|cx| cx.cpu()) != CpuId::BOOT {
        return;
    }
    let Some(plane) = plane() else { return };
    let tasks = [
        task::spawn("clients", run(transport.clone(), plane)),
        task::spawn("ntp", time::run(transport.clone(), plane)),
        task::spawn("syslog", syslog::run(transport.clone(), plane)),
    ];
    for full in tasks.into_iter().filter_map(Result::err) {
        error!("clients: {full}");
    }
}

/// Milliseconds since entry.
pub(super) fn now_ms() -> u64 {
    clock::now() / 1_000_000
}

/// Adds what one client knows of an interface to what others know of it.
pub(super) fn join(all: &mut Vec<OnInterface>, on: OnInterface) {
    let Some(known) = all.iter_mut().find(|known| known.name == on.name) else { return all.push(on) };
    known.addresses.extend(on.addresses);
    known.routes.extend(on.routes);
    known.dns.extend(on.dns);
    known.ntp.extend(on.ntp);
    known.mtu = match (known.mtu, on.mtu) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

/// What a wait ended with.
enum Heard {
    /// Something changed, or is due.
    Time,
    /// A datagram for the clients of DHCP.
    Dhcp(usize, Received),
    /// One for those of DHCPv6.
    Dhcp6(usize, Received),
}

/// The clients, and what they told last.
#[derive(Default)]
struct Clients {
    dhcp: Dhcp,
    dhcp6: Dhcp6,
    slaac: Slaac,
    claims: Claims,
    known: Learnt,
    tales: Vec<Tale>,
}

async fn run(transport: Transport, plane: &'static Plane) {
    let mut clients = Clients::default();
    let (mut buffer, mut buffer6) = (vec![0; LONGEST], vec![0; LONGEST]);
    loop {
        let hostname = plane.view().config.hostname.clone();
        let wishes = wishes(plane);
        let Clients { dhcp, dhcp6, slaac, claims, tales, .. } = &mut clients;
        dhcp.follow(&wishes, &hostname, &transport, now_ms(), tales).await;
        slaac.follow(&wishes, now_ms());
        while let Some(contested) = plane.shared().next_contest() {
            claims.contest(&contested, tales);
        }
        while let Some(told) = plane.shared().next_advertisement() {
            slaac.input(&told, now_ms(), tales);
        }
        dhcp6.follow(&wishes, |name| slaac.wanted(name), &transport, now_ms(), tales).await;
        dhcp.poll(now_ms(), tales).await;
        dhcp6.poll(now_ms(), tales).await;
        slaac.poll(&transport, now_ms(), tales);
        clients.tell(plane, &transport).await;
        let due_ms = clients.dhcp.deadline_ms().min(clients.slaac.deadline_ms());
        let due_ms = due_ms.min(clients.claims.deadline_ms()).min(clients.dhcp6.deadline_ms());
        let Clients { dhcp, dhcp6, tales, .. } = &mut clients;
        let sockets = (datagram(&mut dhcp.socket, &mut buffer), datagram(&mut dhcp6.socket, &mut buffer6));
        match wait(plane, sockets, due_ms).await {
            Heard::Time => {}
            Heard::Dhcp(len, from) => {
                dhcp.input(buffer.get(..len).unwrap_or_default(), from.interface, now_ms(), tales);
            }
            Heard::Dhcp6(len, from) => {
                dhcp6.input(buffer6.get(..len).unwrap_or_default(), from.interface, now_ms(), tales);
            }
        }
    }
}

impl Clients {
    /// Tells management what is new.
    async fn tell(&mut self, plane: &'static Plane, transport: &Transport) {
        let mut learnt = Learnt::default();
        self.dhcp.learnt(&mut learnt.interfaces);
        self.slaac.learnt(&mut learnt.interfaces);
        self.dhcp6.learnt(&mut learnt.interfaces);
        self.claims.follow(plane, &learnt);
        while self.claims.poll(transport) {
            task::yield_now().await;
        }
        for (name, address) in self.claims.judge(&mut learnt) {
            match address.origin {
                AddressOrigin::Dhcp => self.dhcp.decline(&name, now_ms()).await,
                AddressOrigin::Dhcpv6 => self.dhcp6.decline(&name, address.net.addr(), now_ms()),
                AddressOrigin::Auto => {}
            }
        }
        if learnt != self.known || !self.tales.is_empty() {
            self.known.clone_from(&learnt);
            plane.learn(News { learnt: Some(learnt), tales: core::mem::take(&mut self.tales) });
        }
    }
}

async fn wait(
    plane: &'static Plane,
    (dhcp, dhcp6): (impl Future<Output = (usize, Received)>, impl Future<Output = (usize, Received)>),
    due_ms: u64,
) -> Heard {
    let mut time = pin!(plane.shared().learners.addresses.wait_until(due_ms.saturating_mul(1_000_000)));
    let (mut dhcp, mut dhcp6) = (pin!(dhcp), pin!(dhcp6));
    poll_fn(|cx| {
        if let Poll::Ready((len, from)) = dhcp6.as_mut().poll(cx) {
            return Poll::Ready(Heard::Dhcp6(len, from));
        }
        if let Poll::Ready((len, from)) = dhcp.as_mut().poll(cx) {
            return Poll::Ready(Heard::Dhcp(len, from));
        }
        time.as_mut().poll(cx).map(|_| Heard::Time)
    })
    .await
}

/// The next datagram; none comes without a socket.
async fn datagram(socket: &mut Option<UdpSocket>, into: &mut [u8]) -> (usize, Received) {
    if let Some(socket) = socket {
        loop {
            if let Ok(datagram) = socket.recv_from(into).await {
                return datagram;
            }
        }
    }
    pending().await
}

/// The interfaces in service that learn.
fn wishes(plane: &'static Plane) -> Vec<Wish> {
    let view = plane.view();
    let wanted: Vec<_> = view.config.interfaces.iter().filter(|interface| learns(interface)).collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    mask::masked(|cx| {
        let snapshot = &plane.shared().running.read(cx).snapshot;
        let wish = |interface: &weir_netstack::snapshot::Interface| {
            let wanted = wanted.iter().find(|wanted| wanted.name == interface.name)?;
            Some(Wish {
                name: interface.name.clone(),
                learn: wanted.learn,
                index: interface.index,
                mac: interface.mac,
                link_local: interface.link_local.first().copied(),
                sure: interface
                    .link_local
                    .first()
                    .is_some_and(|&own| interface.claim(own.into()) == Claim::Ours),
                up: interface.state == State::Up,
            })
        };
        snapshot.interfaces().filter_map(wish).collect()
    })
}
