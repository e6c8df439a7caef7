//! The task that keeps the time of day, by the servers of the configuration or those that were learnt.

use super::{News, Tale, names};
use crate::config::Host;
use crate::manage::{Plane, View};
use alloc::format;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use weir_clients::NEVER;
use weir_clients::dns::Failure;
use weir_clients::ntp::{self, Adjust, PORT, Server, WAIT_MS};
use weir_clients::syslog::Time;
use weir_machine::clock::{self, wall};
use weir_machine::{random, warn};
use weir_transport::Transport;

/// A name that has no address is looked up again after so long.
const AGAIN_MS: u64 = 15_000;
/// The clock is moved in steps of so long.
const SECOND_MS: u64 = 1000;

struct Peer {
    host: Host,
    /// Its address, once that is known.
    address: Option<IpAddr>,
    server: Server,
    again_ms: u64,
    /// Why it cannot be asked, as was said last.
    said: Option<Failure>,
}

pub(super) async fn run(transport: Transport, plane: &'static Plane) {
    let (mut peers, mut goal): (Vec<Peer>, Option<i64>) = (Vec::new(), None);
    loop {
        let view = plane.view();
        follow(&mut peers, &view);
        for peer in &mut peers {
            peer.ask(&transport, &view).await;
        }
        let now_ms = super::run::now_ms();
        let samples: Vec<_> = peers.iter().map(|peer| peer.server.sample(now_ms)).collect();
        let best = ntp::select(&samples).and_then(|at| Some((peers.get(at)?, (*samples.get(at)?)?)));
        if let Some((peer, sample)) = best {
            match ntp::adjust(wall::offset(), sample.offset_ns) {
                Adjust::Slew(to) => goal = Some(to),
                Adjust::Step(to) => {
                    let first = wall::offset().is_none();
                    wall::set_offset(to);
                    goal = None;
                    let what = if first { "is" } else { "was set to" };
                    let time = Time(wall::unix_us(clock::now()).unwrap_or_default());
                    let tale = Tale {
                        kind: "clock",
                        subject: format!("{}", peer.host),
                        text: format!("the time {what} {time}"),
                    };
                    plane.learn(News { learnt: None, tales: [tale].into() });
                }
            }
        }
        goal = goal.filter(|&to| !slewed(to));
        let due = peers.iter().map(Peer::due_ms).min().unwrap_or(NEVER);
        let due = if goal.is_some() { due.min(now_ms + SECOND_MS) } else { due };
        plane.shared().learners.ntp.wait_until(due.saturating_mul(1_000_000)).await;
    }
}

/// Moves the clock for a second's worth towards an offset; whether it is there.
fn slewed(to: i64) -> bool {
    let Some(offset) = wall::offset() else { return true };
    let most = ntp::SLEW_NS_A_SECOND as i64;
    let step = (to - offset).clamp(-most, most);
    wall::set_offset(offset + step);
    offset + step == to
}

/// The servers that are to be asked now.
fn follow(peers: &mut Vec<Peer>, view: &View) {
    let hosts: Vec<Host> = match &*view.config.ntp {
        [] => {
            view.learnt.interfaces.iter().flat_map(|on| on.ntp.iter().copied().map(Host::Address)).collect()
        }
        servers => servers.into(),
    };
    peers.retain(|peer| hosts.contains(&peer.host));
    let now_ms = super::run::now_ms();
    for host in hosts {
        if peers.iter().all(|peer| peer.host != host) {
            let server = Server::new(random::seed, now_ms);
            peers.push(Peer { host, address: None, server, again_ms: 0, said: None });
        }
    }
}

impl Peer {
    fn due_ms(&self) -> u64 {
        self.server.deadline_ms().max(self.again_ms)
    }

    /// Asks if it is time to, and waits for the answer.
    async fn ask(&mut self, transport: &Transport, view: &View) {
        let now_ms = super::run::now_ms();
        if self.due_ms() > now_ms {
            return;
        }
        if self.server.is_silent() {
            self.address = None;
        }
        let address = match (&self.host, self.address) {
            (Host::Address(address), _) => *address,
            (_, Some(address)) => address,
            // None is known yet: no reason to complain.
            (Host::Name(_), None) if names::servers(view).is_empty() => {
                self.again_ms = now_ms + SECOND_MS;
                return;
            }
            (Host::Name(name), None) => {
                match names::resolve(transport, &names::servers(view), name)
                    .await
                    .map(|all| all.into_iter().next())
                {
                    Ok(Some(address)) => address,
                    Ok(None) => return self.wait(now_ms),
                    Err(why) => {
                        if self.said.replace(why) != Some(why) {
                            warn!("ntp: {name}: {why}");
                        }
                        return self.wait(now_ms);
                    }
                }
            }
        };
        let to = SocketAddr::new(address, PORT);
        // There may be no route yet.
        let Ok(mut socket) = transport.connect_udp(to) else { return self.wait(now_ms) };
        self.address = Some(address);
        socket.set_read_timeout(Some(Duration::from_millis(WAIT_MS)));
        let Some(request) = self.server.poll(clock::now()) else { return };
        if socket.send_to(&request, to).await.is_err() {
            return;
        }
        let mut buffer = [0; ntp::LEN + 64];
        while let Ok((len, _)) = socket.recv_from(&mut buffer).await {
            if let Some(reply) = self.server.input(buffer.get(..len).unwrap_or_default(), clock::now()) {
                if reply == ntp::Reply::Deny {
                    warn!("ntp: {} does not want to be asked", self.host);
                }
                self.said = None;
                return;
            }
        }
    }

    fn wait(&mut self, now_ms: u64) {
        self.again_ms = now_ms + AGAIN_MS;
    }
}
