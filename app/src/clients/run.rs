//! The task of the clients that configure interfaces. Boot CPU: there broadcasts and groups come, and the clients' ports.

use super::dhcp::Dhcp;
use super::{Learnt, News, OnInterface, Wish, learns};
use crate::manage::{Plane, plane};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::future::{Future, pending, poll_fn};
use core::pin::pin;
use core::task::Poll;
use weir_machine::{clock, error, mask, task};
use weir_netstack::snapshot::State;
use weir_sync::CpuId;
use weir_transport::{Received, Transport, UdpSocket};

/// Room for the longest answer that fits a frame.
const LONGEST: usize = 1536;

/// Spawns the clients, where they run.
pub fn services(transport: &Transport) {
    if mask::masked(|cx| cx.cpu()) != CpuId::BOOT {
        return;
    }
    if let Err(full) = task::spawn("clients", run(transport.clone())) {
        error!("clients: {full}");
    }
}

/// Milliseconds since entry.
pub(super) fn now_ms() -> u64 {
    clock::now() / 1_000_000
}

/// What is known of the interface of that name, to add to.
pub(super) fn entry<'a>(all: &'a mut Vec<OnInterface>, name: &str) -> &'a mut OnInterface {
    let at = all.iter().position(|on| on.name == name).unwrap_or(all.len());
    if at == all.len() {
        all.push(OnInterface::new(name));
    }
    &mut all[at]
}

/// What a wait ended with.
enum Heard {
    /// Something changed, or is due.
    Time,
    /// A datagram for the clients of DHCP.
    Dhcp(usize, Received),
}

async fn run(transport: Transport) {
    let Some(plane) = plane() else { return };
    let (mut dhcp, mut known) = (Dhcp::default(), Learnt::default());
    let mut buffer = vec![0; LONGEST];
    loop {
        let mut events: Vec<(String, String)> = Vec::new();
        let view = plane.view();
        let wishes = wishes(plane);
        dhcp.follow(&wishes, &view.config.hostname, &transport, now_ms(), &mut events).await;
        dhcp.poll(now_ms(), &mut events).await;
        tell(plane, &mut known, &dhcp, events);
        let deadline_ms = dhcp.deadline_ms();
        match wait(plane, &mut dhcp.socket, &mut buffer, deadline_ms).await {
            Heard::Time => {}
            Heard::Dhcp(len, from) => {
                let mut events = Vec::new();
                let bytes = buffer.get(..len).unwrap_or_default();
                dhcp.input(bytes, from.interface, now_ms(), &mut events);
                tell(plane, &mut known, &dhcp, events);
            }
        }
    }
}

/// Tells management what is new.
fn tell(plane: &'static Plane, known: &mut Learnt, dhcp: &Dhcp, events: Vec<(String, String)>) {
    let mut learnt = Learnt::default();
    dhcp.learnt(&mut learnt.interfaces);
    if learnt != *known || !events.is_empty() {
        known.clone_from(&learnt);
        plane.learn(News { learnt, events });
    }
}

async fn wait(
    plane: &'static Plane,
    dhcp: &mut Option<UdpSocket>,
    buffer: &mut [u8],
    deadline_ms: u64,
) -> Heard {
    let mut time = pin!(plane.changed.wait_until(deadline_ms.saturating_mul(1_000_000)));
    let mut dhcp = pin!(datagram(dhcp, buffer));
    poll_fn(|cx| {
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
                up: interface.state == State::Up,
            })
        };
        snapshot.interfaces().filter_map(wish).collect()
    })
}
