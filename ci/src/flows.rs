//! Many UDP flows at once with numbered datagrams: the lab starts both ends as its own children inside the hosts, so
//! that a router's CPUs all have work and a change of order within a flow shows.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::netns::LinuxHost;

/// Port of the receiver.
const PORT: u16 = 9000;
/// First port of the sender; the flows' are this far apart, so that their hashes differ in more than a bit.
const FIRST_PORT: u16 = 20_000;
const APART: u16 = 977;
/// Datagrams of a flow that may be under way: all flows together less than a NIC's receive queue holds. QEMU's software
/// RSS stops reading a TAP queue when the ring that a frame is for is full, and goes on only when another ring, that of
/// the TAP queue's own number, is refilled.
const WINDOW: u64 = 8;
/// Every so many datagrams the receiver reports.
const REPORT_EVERY: u64 = 4;
/// Without a report for so long, one is asked for; after each silence for twice as long, so that a router that nobody lets
/// run finds no more than its rings hold.
const PATIENCE: Duration = Duration::from_millis(300);
const MOST_PATIENCE: Duration = Duration::from_secs(20);
/// The number of a datagram that only asks for a report.
const ASK: u64 = u64::MAX;

/// What became of a flow's datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) received: u64,
    /// Came after one that was sent later.
    pub(crate) late: u64,
    /// One more than the highest number.
    next: u64,
}

impl Tally {
    fn note(&mut self, number: u64) {
        self.received += 1;
        if number < self.next {
            self.late += 1;
        } else {
            self.next = number + 1;
        }
    }

    fn bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        for (place, value) in bytes.chunks_exact_mut(8).zip([self.received, self.late, self.next]) {
            place.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Tally> {
        let mut words =
            bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
        Some(Tally { received: words.next()?, late: words.next()?, next: words.next()? })
    }
}

/// Receives on `address` until the process is ended, a tally for every sender.
pub(crate) fn receive(address: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(address).with_context(|| format!("listening on {address}"))?;
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4 << 20).context("socket buffer")?;
    println!("receiving on {address}");
    let mut tallies = std::collections::HashMap::<SocketAddr, Tally>::new();
    let mut bytes = [0; 64];
    loop {
        let (len, from) = socket.recv_from(&mut bytes).context("receiving")?;
        let Some(number) = bytes[..len].first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else {
            continue;
        };
        let tally = tallies.entry(from).or_default();
        if number != ASK {
            tally.note(number);
        }
        if number == ASK || number % REPORT_EVERY == 0 {
            // A report that is lost is followed by another.
            let _ = socket.send_to(&tally.bytes(), from);
        }
    }
}

/// Sends `count` datagrams in each of `flows` flows as fast as they arrive; the receiver's tally of each.
pub(crate) fn send(to: SocketAddr, flows: u16, count: u64) -> Result<Vec<Tally>> {
    struct Flow {
        socket: UdpSocket,
        sent: u64,
        /// Below this nothing is under way any more.
        settled: u64,
        heard: Instant,
        /// When a report was asked for, if it was.
        asked: Option<Instant>,
        patience: Duration,
        tally: Tally,
    }
    impl Flow {
        fn ask(&mut self) -> Result<()> {
            self.asked = Some(Instant::now());
            // One that finds no room in the socket is asked again.
            match self.socket.send(&ASK.to_le_bytes()) {
                Err(wrong) if wrong.kind() != ErrorKind::WouldBlock => {
                    Err(wrong).context("asking for a report")
                }
                _ => Ok(()),
            }
        }
    }
    let own = if to.is_ipv4() { "0.0.0.0" } else { "::" };
    let mut all = Vec::new();
    for n in 0..flows {
        let port = FIRST_PORT + n * APART;
        let socket = UdpSocket::bind((own, port)).with_context(|| format!("binding port {port}"))?;
        socket.connect(to)?;
        socket.set_nonblocking(true)?;
        let (tally, heard) = (Tally::default(), Instant::now());
        all.push(Flow { socket, sent: 0, settled: 0, heard, asked: None, patience: PATIENCE, tally });
    }
    let mut bytes = [0; 64];
    while all.iter().any(|flow| flow.settled < count) {
        let mut idle = true;
        for flow in &mut all {
            while let Ok(len) = flow.socket.recv(&mut bytes) {
                flow.tally = Tally::from_bytes(&bytes[..len]).unwrap_or(flow.tally);
                flow.settled = flow.settled.max(flow.tally.next);
                flow.heard = Instant::now();
                flow.patience = PATIENCE;
            }
            while flow.sent < count && flow.sent - flow.settled < WINDOW {
                if flow.socket.send(&flow.sent.to_le_bytes()).is_err() {
                    break;
                }
                flow.sent += 1;
                idle = false;
            }
            if flow.sent == flow.settled {
                flow.asked = None;
            }
            match flow.asked {
                // The answer left all behind that was under way, and silence followed: the rest is lost.
                Some(asked) if flow.heard > asked && flow.heard.elapsed() > PATIENCE => {
                    (flow.settled, flow.heard) = (flow.sent, Instant::now());
                }
                Some(asked) if flow.heard <= asked && asked.elapsed() > flow.patience => {
                    flow.patience = MOST_PATIENCE.min(flow.patience * 2);
                    flow.ask()?;
                }
                None if flow.sent > flow.settled && flow.heard.elapsed() > PATIENCE => flow.ask()?,
                _ => {}
            }
        }
        if idle {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    for flow in &mut all {
        flow.socket.set_nonblocking(false)?;
        flow.socket.set_read_timeout(Some(PATIENCE))?;
        // The last report may be older than the last datagram, and some wait in the socket.
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            ensure!(Instant::now() < deadline, "no report of a flow; the last was {:?}", flow.tally);
            flow.socket.send(&ASK.to_le_bytes())?;
            let Ok(len) = flow.socket.recv(&mut bytes) else { continue };
            let before = flow.tally;
            flow.tally = Tally::from_bytes(&bytes[..len]).unwrap_or(before);
            if flow.tally == before {
                break;
            }
        }
    }
    Ok(all.into_iter().map(|flow| flow.tally).collect())
}

/// Sends `flows` flows of `count` datagrams from one host to `address` of another, through the router.
pub(crate) fn exchange(
    sender: &LinuxHost,
    receiver: &LinuxHost,
    address: IpAddr,
    flows: u16,
    count: u64,
) -> Result<Vec<Tally>> {
    let own = std::env::current_exe().context("own path")?.display().to_string();
    let socket = SocketAddr::new(address, PORT).to_string();
    let daemon = receiver.start(&own, &["receive-flows", &socket])?;
    daemon.output.wait("receiving on", Duration::from_secs(30))?;
    let (flows, count) = (flows.to_string(), count.to_string());
    let list = ["send-flows", &socket, "--flows", &flows, "--count", &count];
    let text = sender.check(&own, &list, Duration::from_secs(600))?;
    let tally = |line: &str| -> Result<Tally> {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers.as_slice() {
            &[received, late, next] => Ok(Tally { received, late, next }),
            _ => bail!("not a tally: {line}"),
        }
    };
    text.lines().map(tally).collect()
}

/// `exchange`'s form of tallies.
pub(crate) fn print(tallies: &[Tally]) {
    tallies.iter().for_each(|tally| println!("{} {} {}", tally.received, tally.late, tally.next));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_that_was_overtaken_is_late_and_a_lost_one_is_not() {
        let mut tally = Tally::default();
        [0, 1, 4, 3, 5].into_iter().for_each(|number| tally.note(number));
        assert_eq!(tally, Tally { received: 5, late: 1, next: 6 });
        assert_eq!(Tally::from_bytes(&tally.bytes()), Some(tally));
    }
}
