//! The task that sends the log to syslog servers. Its queue are the lines that the log keeps; what is overwritten before it was
//! sent is counted and said.

use super::names;
use crate::config::{Host, Syslog};
use crate::manage::{Plane, View};
use alloc::format;
use alloc::vec::Vec;
use core::net::SocketAddr;
use weir_clients::NEVER;
use weir_clients::syslog::{Severity, message};
use weir_machine::clock::wall;
use weir_machine::log::{self, Kept, Level};
use weir_transport::{Transport, UdpSocket};

/// How often new lines are looked for.
const LOOK_MS: u64 = 500;
/// A server that cannot be reached is tried again after so long.
const AGAIN_MS: u64 = 10_000;

struct Sink {
    wish: Syslog,
    socket: Option<(UdpSocket, SocketAddr)>,
    again_ms: u64,
    /// The next line's number.
    next: u64,
}

pub(super) async fn run(transport: Transport, plane: &'static Plane) {
    let mut sinks: Vec<Sink> = Vec::new();
    loop {
        let view = plane.view();
        sinks.retain(|sink| view.config.syslog.contains(&sink.wish));
        for wish in &view.config.syslog {
            if sinks.iter().all(|sink| sink.wish != *wish) {
                sinks.push(Sink { wish: wish.clone(), socket: None, again_ms: 0, next: 0 });
            }
        }
        for sink in &mut sinks {
            sink.send(&transport, &view).await;
        }
        let now_ms = super::run::now_ms();
        let due = if sinks.is_empty() { NEVER } else { now_ms + LOOK_MS };
        plane.shared().learners.syslog.wait_until(due.saturating_mul(1_000_000)).await;
    }
}

impl Sink {
    async fn send(&mut self, transport: &Transport, view: &View) {
        let now_ms = super::run::now_ms();
        if now_ms < self.again_ms {
            return;
        }
        let lines = log::kept(self.next);
        if lines.is_empty() {
            return;
        }
        if self.socket.is_none() {
            self.socket = connect(transport, view, &self.wish).await;
        }
        for line in &lines {
            let lost = line.number.saturating_sub(self.next);
            let note = format!("{lost} lines of the log were lost before they could be sent");
            let note = (lost > 0)
                .then(|| message(Severity::Warning, wall::unix_us(line.at_ns), &view.config.hostname, &note));
            let text = datagram(line, &view.config.hostname);
            let Some((socket, to)) = &mut self.socket else { break };
            for datagram in note.iter().chain([&text]) {
                if socket.send_to(datagram.as_bytes(), *to).await.is_err() {
                    self.socket = None;
                    break;
                }
            }
            if self.socket.is_none() {
                break;
            }
            self.next = line.number + 1;
        }
        if self.socket.is_none() {
            self.again_ms = now_ms + AGAIN_MS;
        }
    }
}

async fn connect(transport: &Transport, view: &View, wish: &Syslog) -> Option<(UdpSocket, SocketAddr)> {
    let addresses = match &wish.host {
        Host::Address(address) => [*address].into(),
        Host::Name(name) => names::resolve(transport, &names::servers(view), name).await.ok()?,
    };
    addresses.into_iter().find_map(|address| {
        let to = SocketAddr::new(address, wish.port);
        Some((transport.connect_udp(to).ok()?, to))
    })
}

fn datagram(line: &Kept, hostname: &str) -> alloc::string::String {
    let severity = match line.level {
        Level::Error => Severity::Error,
        Level::Warn => Severity::Warning,
        Level::Info => Severity::Informational,
        Level::Debug => Severity::Debug,
    };
    message(severity, wall::unix_us(line.at_ns), hostname, &line.text)
}
