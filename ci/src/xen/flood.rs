//! A flood of datagrams that adjusts itself to the router: at most a window of packets is under way, and the sink
//! returns credit for what arrived. So batches form as they would under load, and a generator that shares the CPU with
//! what it measures does not starve it. Both ends run in dom0, each in its host's namespace; credit is a datagram on a
//! unix socket, which needs no network.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Different ports, as a router sees them.
const FLOWS: u16 = 64;
const FIRST_PORT: u16 = 5000;
/// The sink returns credit for so many packets at once, and whenever nothing more comes.
const CREDIT: u64 = 32;
/// Without credit for so long, what is under way counts as lost.
const PATIENCE: Duration = Duration::from_millis(500);
const LULL: Duration = Duration::from_millis(20);

/// What the source counted between its two marks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    pub(crate) seconds: f64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// Whole Ethernet frames without their checksum: 64 and 78 bytes on a wire.
pub(crate) fn frame_bytes(to: IpAddr) -> usize {
    if to.is_ipv4() { 60 } else { 74 }
}

/// Receives on `address` and tells the source at `credit` how many packets have come in all.
pub(crate) fn sink(address: SocketAddr, credit: &Path) -> Result<()> {
    let socket = UdpSocket::bind(address).with_context(|| format!("listening on {address}"))?;
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4 << 20).context("socket buffer")?;
    socket.set_read_timeout(Some(LULL))?;
    let back = UnixDatagram::unbound()?;
    println!("sink on {address}");
    let (mut count, mut told, mut bytes) = (0u64, 0u64, [0; 2048]);
    loop {
        let more = socket.recv(&mut bytes).is_ok();
        count += u64::from(more);
        if count != told && (!more || count - told >= CREDIT) {
            // The source may not listen any more.
            let _ = back.send_to(&count.to_le_bytes(), credit);
            told = count;
        }
    }
}

/// Sends to `to` for `seconds`, after a quarter of that for caches to fill, with `window` packets under way.
pub(crate) fn source(to: SocketAddr, credit: &Path, window: u64, seconds: f64) -> Result<Count> {
    let _ = std::fs::remove_file(credit);
    let back = UnixDatagram::bind(credit).with_context(|| format!("listening on {}", credit.display()))?;
    let own = if to.is_ipv4() { "0.0.0.0" } else { "::" };
    let mut flows = Vec::new();
    for n in 0..FLOWS {
        let socket = UdpSocket::bind((own, FIRST_PORT + n)).context("binding a port")?;
        socket.connect(to)?;
        flows.push(socket);
    }
    // Ethernet, IP and UDP headers, then zeros.
    let headers = if to.is_ipv4() { 14 + 20 + 8 } else { 14 + 40 + 8 };
    let payload = vec![0; frame_bytes(to.ip()) - headers];
    let (mut sent, mut received, mut lost) = (0u64, 0u64, 0u64);
    let mut flow = flows.iter().cycle();
    let began = Instant::now();
    let mut first: Option<(Instant, u64, u64)> = None;
    loop {
        let now = Instant::now();
        match first {
            None if (now - began).as_secs_f64() >= seconds / 4.0 => first = Some((now, sent, received)),
            Some((at, sent_before, received_before)) if (now - at).as_secs_f64() >= seconds => {
                let (sent, received) = (sent - sent_before, received - received_before);
                return Ok(Count { seconds: (now - at).as_secs_f64(), sent, received });
            }
            _ => {}
        }
        let has_room = sent.saturating_sub(received + lost) + CREDIT <= window;
        if has_room {
            for socket in flow.by_ref().take(CREDIT as usize) {
                // A full queue of the vif is the router's doing: the packet counts as sent.
                let _ = socket.send(&payload);
                sent += 1;
            }
        }
        back.set_nonblocking(has_room)?;
        back.set_read_timeout(Some(PATIENCE))?;
        let mut number = [0; 8];
        match back.recv(&mut number) {
            Ok(_) => received = u64::from_le_bytes(number),
            Err(_) if has_room => {}
            Err(_) => lost = sent - received,
        }
    }
}

impl Count {
    /// Share of what was sent that did not arrive. What was under way at a mark belongs to neither side.
    pub(crate) fn lost(&self) -> f64 {
        if self.sent > 0 { (1.0 - self.received as f64 / self.sent as f64).max(0.0) } else { 0.0 }
    }

    /// The line by which the source tells it.
    pub(crate) fn line(&self) -> String {
        format!("{} {} {}", self.seconds, self.sent, self.received)
    }

    pub(crate) fn parse(line: &str) -> Option<Count> {
        let mut words = line.split_whitespace();
        Some(Count {
            seconds: words.next()?.parse().ok()?,
            sent: words.next()?.parse().ok()?,
            received: words.next()?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_sees_what_the_sink_gets() {
        let credit = std::env::temp_dir().join(crate::cleanup::name("credit"));
        let address = SocketAddr::from(([127, 0, 0, 1], 45_119));
        let path = credit.clone();
        std::thread::spawn(move || sink(address, &path));
        std::thread::sleep(Duration::from_millis(50));
        let count = source(address, &credit, 128, 0.3).unwrap();
        let _ = std::fs::remove_file(&credit);
        assert!(count.received > 100 && count.received <= count.sent + 128, "{count:?}");
        assert_eq!(Count::parse(&count.line()).unwrap().sent, count.sent);
    }
}
