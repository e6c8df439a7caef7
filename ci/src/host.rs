//! A host of the lab that speaks in frames: it sits at the far end of a NIC's datagram socket, answers ARP, neighbour
//! solicitations and pings for its addresses, keeps every frame, and lets a test wait for the one it expects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};

use crate::cleanup::{self, Made};
use crate::frame::{self, Arp, Frame, ICMP, ICMPV6, Icmp, Ipv4, Ipv6, Mac, Network, UDP};
use crate::line::{Burst, Line, Reader};
use crate::pcap;
use crate::qemu::Wire;

/// The two ends of a NIC's wire.
pub(crate) struct Sockets {
    /// Where QEMU reads datagrams.
    guest: PathBuf,
    pub(crate) wire: Wire,
    pub(crate) line: Arc<Line>,
    _directory: Made,
}

impl Sockets {
    pub(crate) fn new() -> Result<Sockets> {
        let (directory, made) = cleanup::directory()?;
        let (guest, host) = (directory.join("q"), directory.join("h"));
        let line = Arc::new(Line::datagrams(&host)?);
        let wire = Wire::Dgram { guest: guest.clone(), host };
        Ok(Sockets { guest, wire, line, _directory: made })
    }

    /// A wire that takes many frames at once.
    pub(crate) fn stream() -> Result<Sockets> {
        let (directory, made) = cleanup::directory()?;
        let (guest, host) = (directory.join("q"), directory.join("h"));
        let line = Arc::new(Line::stream(&host)?);
        Ok(Sockets { guest, wire: Wire::Stream { host }, line, _directory: made })
    }

    /// Connects to QEMU's end, which exists once QEMU runs.
    pub(crate) fn connect(&self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while let Err(error) = self.line.connect(&self.guest) {
            if Instant::now() > deadline {
                return Err(error).context("QEMU did not open the NIC's socket");
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// A frame that went over the wire.
#[derive(Clone)]
pub(crate) struct Seen {
    when: SystemTime,
    pub(crate) bytes: Arc<[u8]>,
    from_router: bool,
    taken: bool,
}

/// Frames kept for reports; a flood must not fill memory.
const KEPT: usize = 20_000;

#[derive(Default)]
struct Log {
    seen: Vec<Seen>,
    /// Frames that were kept before these.
    forgotten: usize,
}

/// Addresses of a host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) mac: Mac,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
    /// The router's addresses on this wire.
    pub(crate) gateway_v4: Ipv4Addr,
    pub(crate) gateway_v6: Ipv6Addr,
    pub(crate) gateway_mac: Mac,
}

struct Shared {
    identity: Identity,
    line: Arc<Line>,
    log: Mutex<Log>,
    news: Condvar,
    /// Whether it answers ARP, solicitations and pings.
    answering: AtomicBool,
    keeping: AtomicBool,
    stop: AtomicBool,
    received: AtomicUsize,
}

/// The host. Dropping it closes its wire.
pub(crate) struct Host {
    shared: Arc<Shared>,
    sockets: Sockets,
}

impl Host {
    /// Takes over the wire and starts to listen.
    pub(crate) fn start(sockets: Sockets, identity: Identity) -> Result<Host> {
        let shared = Arc::new(Shared {
            identity,
            line: sockets.line.clone(),
            log: Mutex::default(),
            news: Condvar::new(),
            answering: AtomicBool::new(true),
            keeping: AtomicBool::new(true),
            stop: AtomicBool::new(false),
            received: AtomicUsize::new(0),
        });
        let listener = shared.clone();
        thread::spawn(move || listener.listen());
        Ok(Host { shared, sockets })
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// Waits for QEMU to open its end. Frames sent before it are lost.
    pub(crate) fn connect(&self) -> Result<()> {
        self.sockets.connect(Duration::from_secs(10))
    }

    /// Whether the host answers ARP, solicitations and pings.
    pub(crate) fn answer(&self, answering: Switch) {
        self.shared.answering.store(answering == Switch::On, Ordering::Relaxed);
    }

    /// Stops or resumes keeping frames (a flood would fill the log).
    pub(crate) fn keep(&self, keeping: Switch) {
        self.shared.keeping.store(keeping == Switch::On, Ordering::Relaxed);
    }

    /// Frames that ever arrived here.
    pub(crate) fn received(&self) -> usize {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// Sends a frame as it is. Waits while the router does not take frames, five seconds at most.
    pub(crate) fn send(&self, bytes: &[u8]) -> Result<()> {
        self.shared.transmit(bytes)
    }

    /// Sends a frame unless the router's NIC has no room for it now.
    pub(crate) fn offer(&self, bytes: &[u8]) -> std::io::Result<()> {
        self.shared.line.offer(bytes)
    }

    /// Sends frames as they are, unrecorded, by as few system calls as the wire takes. Waits as [`send`](Self::send).
    pub(crate) fn send_burst(&self, frames: &Burst) -> Result<()> {
        self.shared.line.send_burst(frames).context("the router's NIC takes no frames")
    }

    /// Sends an IPv4 packet to the router.
    pub(crate) fn send_v4(&self, packet: &Ipv4) -> Result<()> {
        let own = &self.shared.identity;
        self.send(&frame::ethernet(own.gateway_mac, own.mac, frame::ETHERTYPE_IPV4, &packet.bytes()))
    }

    /// Sends an IPv6 packet to the router.
    pub(crate) fn send_v6(&self, packet: &Ipv6) -> Result<()> {
        let own = &self.shared.identity;
        self.send(&frame::ethernet(own.gateway_mac, own.mac, frame::ETHERTYPE_IPV6, &packet.bytes()))
    }

    /// First frame from the router, not taken before, that `matches` accepts. The error lists what came instead.
    pub(crate) fn expect<T>(
        &self,
        what: &str,
        limit: Duration,
        mut matches: impl FnMut(&Frame) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        let mut log = self.shared.log();
        // Of all frames that ever were kept, those looked at.
        let mut from: usize = 0;
        loop {
            let known = from.saturating_sub(log.forgotten);
            for seen in log.seen.iter_mut().skip(known).filter(|seen| seen.from_router && !seen.taken) {
                if let Some(value) = Frame::parse(&seen.bytes).ok().and_then(|frame| matches(&frame)) {
                    seen.taken = true;
                    return Ok(value);
                }
            }
            from = log.forgotten + log.seen.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let came: Vec<String> = log
                    .seen
                    .iter()
                    .filter(|seen| seen.from_router && !seen.taken)
                    .map(|seen| format!("  {}", frame::summary(&seen.bytes)))
                    .collect();
                let tail = came.get(came.len().saturating_sub(8)..).unwrap_or_default();
                bail!(
                    "{} s without {what}; {} other frames came{}{}",
                    limit.as_secs_f32(),
                    came.len(),
                    if tail.is_empty() { "" } else { ", last:\n" },
                    tail.join("\n")
                );
            }
            log = self.shared.news.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Fails if a frame that `matches` accepts arrives within `limit`.
    pub(crate) fn expect_none(
        &self,
        what: &str,
        limit: Duration,
        mut matches: impl FnMut(&Frame) -> bool,
    ) -> Result<()> {
        match self.expect(what, limit, |frame| matches(frame).then(|| format!("{:?}", frame.network))) {
            Ok(frame) => bail!("{what} must not come, but did: {frame}"),
            Err(_) => Ok(()),
        }
    }

    /// All frames from the router not taken so far that `matches` accepts; takes them.
    pub(crate) fn take_all<T>(&self, mut matches: impl FnMut(&Frame) -> Option<T>) -> Vec<T> {
        let mut log = self.shared.log();
        let mut found = Vec::new();
        for seen in log.seen.iter_mut().filter(|seen| seen.from_router && !seen.taken) {
            if let Some(value) = Frame::parse(&seen.bytes).ok().and_then(|frame| matches(&frame)) {
                seen.taken = true;
                found.push(value);
            }
        }
        found
    }

    /// When the first of all frames from the router came that `matches` accepts.
    pub(crate) fn came(&self, mut matches: impl FnMut(&Frame) -> bool) -> Option<SystemTime> {
        let log = self.shared.log();
        let mut all = log.seen.iter().filter(|seen| seen.from_router);
        all.find(|seen| Frame::parse(&seen.bytes).is_ok_and(|frame| matches(&frame))).map(|seen| seen.when)
    }

    /// Forgets what came so far for `expect` (the capture keeps it).
    pub(crate) fn forget(&self) {
        self.shared.log().seen.iter_mut().for_each(|seen| seen.taken = true);
    }

    /// Sends one echo request to or through the router; the time to its reply.
    pub(crate) fn ping(&self, to: IpAddr, sequence: u16, limit: Duration) -> Result<Duration> {
        let sent = Instant::now();
        self.send_echo(to, sequence, b"weir-lab ping payload of some length")?;
        self.expect(&format!("echo reply from {to}"), limit, |frame| {
            let icmp = frame.icmp()?;
            let kind = if to.is_ipv4() { 0 } else { 129 };
            let same = icmp.kind == kind && icmp.rest & 0xffff == u32::from(sequence) && icmp.checksum_valid;
            (same && frame.ip_source() == Some(to)).then_some(())
        })?;
        Ok(sent.elapsed())
    }

    /// Sends one echo request.
    pub(crate) fn send_echo(&self, to: IpAddr, sequence: u16, body: &[u8]) -> Result<()> {
        let own = &self.shared.identity;
        let rest = 0x7766_0000 | u32::from(sequence);
        match to {
            IpAddr::V4(to) => {
                self.send_v4(&Ipv4::new(own.v4, to, ICMP, Icmp::new(8, 0, rest, body).bytes_v4()))
            }
            IpAddr::V6(to) => {
                let icmp = Icmp::new(128, 0, rest, body).bytes_v6(own.v6, to);
                self.send_v6(&Ipv6::new(own.v6, to, ICMPV6, icmp))
            }
        }
    }

    /// Asks by ARP; the answer's MAC.
    pub(crate) fn arp(&self, target: Ipv4Addr, limit: Duration) -> Result<Mac> {
        let own = &self.shared.identity;
        let request =
            Arp { operation: 1, sender_mac: own.mac, sender: own.v4, target_mac: Mac::default(), target };
        self.send(&frame::ethernet(Mac::BROADCAST, own.mac, frame::ETHERTYPE_ARP, &request.bytes()))?;
        self.expect(&format!("ARP reply for {target}"), limit, |frame| {
            let arp = frame.arp()?;
            let ours = arp.operation == 2 && arp.sender == target && arp.target == own.v4;
            (ours && frame.destination == own.mac && arp.target_mac == own.mac).then_some(arp.sender_mac)
        })
    }

    /// Asks by neighbour solicitation; the answer's MAC.
    pub(crate) fn solicit(&self, target: Ipv6Addr, limit: Duration) -> Result<Mac> {
        let own = &self.shared.identity;
        let group = frame::solicited_node(target);
        let body = frame::neighbour_option(1, own.mac, target);
        let icmp = Icmp::new(135, 0, 0, &body).bytes_v6(own.v6, group);
        let mut packet = Ipv6::new(own.v6, group, ICMPV6, icmp);
        packet.hop_limit = 255;
        self.send(&frame::ethernet(
            Mac::of_group_v6(group),
            own.mac,
            frame::ETHERTYPE_IPV6,
            &packet.bytes(),
        ))?;
        self.expect(&format!("neighbour advertisement of {target}"), limit, |frame| {
            let icmp = frame.icmp().filter(|icmp| icmp.kind == 136 && icmp.checksum_valid)?;
            let right = frame.v6()?.hop_limit == 255
                && icmp.body.len() >= 16
                && frame::v6_at(&icmp.body, 0) == target;
            // Target link-layer address option (RFC 4861 §4.6.1).
            let option = icmp.body.get(16..24).filter(|option| option[..2] == [2, 1])?;
            let mac: [u8; 6] = option[2..].try_into().ok()?;
            right.then_some(Mac(mac))
        })
    }

    /// Frames and their bytes that this host sent and received, as long as it kept all of them.
    pub(crate) fn counted(&self) -> [(u64, u64); 2] {
        let log = self.shared.log();
        [false, true].map(|from_router| {
            let own = log.seen.iter().filter(|seen| seen.from_router == from_router);
            own.fold((0, 0), |(frames, bytes), seen| (frames + 1, bytes + seen.bytes.len() as u64))
        })
    }

    /// Writes everything that crossed this wire to `path`.
    pub(crate) fn write_capture(&self, path: &std::path::Path) -> std::io::Result<()> {
        let log = self.shared.log();
        pcap::write(path, log.seen.iter().map(|seen| (seen.when, &*seen.bytes)))
    }
}

/// Whether an Ethernet frame carries UDP right behind its IPv4 or IPv6 header.
fn is_udp(frame: &[u8]) -> bool {
    let at = |place: usize| frame.get(place).copied();
    match frame.get(12..14) {
        Some([0x08, 0x00]) => at(23) == Some(UDP),
        Some([0x86, 0xdd]) => at(20) == Some(UDP),
        _ => false,
    }
}

/// Whether something is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    On,
    Off,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, bytes: &[u8], from_router: bool) {
        if !self.keeping.load(Ordering::Relaxed) {
            return;
        }
        let mut log = self.log();
        if log.seen.len() >= KEPT {
            log.seen.drain(..KEPT / 2);
            log.forgotten += KEPT / 2;
        }
        let when = SystemTime::now();
        log.seen.push(Seen { when, bytes: bytes.into(), from_router, taken: false });
        drop(log);
        self.news.notify_all();
    }

    fn transmit(&self, bytes: &[u8]) -> Result<()> {
        self.note(bytes, false);
        self.line.send(bytes).context("the router's NIC takes no frames")
    }

    fn listen(&self) {
        let mut reader = Reader::new(&self.line);
        while !self.stop.load(Ordering::Relaxed) {
            reader.receive(|bytes| self.arrived(bytes));
        }
    }

    fn arrived(&self, bytes: &[u8]) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.note(bytes, true);
        // In a flood of datagrams there is nothing to answer, and no time.
        if !is_udp(bytes)
            && self.answering.load(Ordering::Relaxed)
            && let Some(reply) = self.reply(bytes)
        {
            // The answer is one frame; a router that takes none is the test's own finding.
            let _ = self.transmit(&reply);
        }
    }

    /// What a host owes for a frame: ARP reply (RFC 826), advertisement (RFC 4861 §7.2.4), echo reply.
    fn reply(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let own = &self.identity;
        let frame = Frame::parse(bytes).ok()?;
        match &frame.network {
            Network::Arp(arp) if arp.operation == 1 && arp.target == own.v4 => {
                let reply = Arp {
                    operation: 2,
                    sender_mac: own.mac,
                    sender: own.v4,
                    target_mac: arp.sender_mac,
                    target: arp.sender,
                };
                Some(frame::ethernet(arp.sender_mac, own.mac, frame::ETHERTYPE_ARP, &reply.bytes()))
            }
            Network::V4(packet) if packet.destination == own.v4 && frame.destination == own.mac => {
                let icmp = frame.icmp().filter(|icmp| icmp.kind == 8 && !packet.more_fragments)?;
                let reply = Icmp { kind: 0, ..icmp }.bytes_v4();
                let packet = Ipv4::new(own.v4, packet.source, ICMP, reply);
                Some(frame::ethernet(own.gateway_mac, own.mac, frame::ETHERTYPE_IPV4, &packet.bytes()))
            }
            Network::V6(packet) => {
                let icmp = frame.icmp()?;
                let local = own.mac.link_local();
                if icmp.kind == 135 && icmp.body.len() >= 16 && !packet.source.is_unspecified() {
                    let target = frame::v6_at(&icmp.body, 0);
                    if target != own.v6 && target != local {
                        return None;
                    }
                    let body = frame::neighbour_option(2, own.mac, target);
                    // Solicited and override flags.
                    let reply = Icmp::new(136, 0, 0x6000_0000, &body).bytes_v6(target, packet.source);
                    let mut answer = Ipv6::new(target, packet.source, ICMPV6, reply);
                    answer.hop_limit = 255;
                    return Some(frame::ethernet(
                        frame.source,
                        own.mac,
                        frame::ETHERTYPE_IPV6,
                        &answer.bytes(),
                    ));
                }
                if icmp.kind == 128 && packet.destination == own.v6 {
                    let reply = Icmp { kind: 129, ..icmp }.bytes_v6(own.v6, packet.source);
                    let answer = Ipv6::new(own.v6, packet.source, ICMPV6, reply);
                    return Some(frame::ethernet(
                        own.gateway_mac,
                        own.mac,
                        frame::ETHERTYPE_IPV6,
                        &answer.bytes(),
                    ));
                }
                None
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::identity;

    #[test]
    fn a_frame_is_found_that_comes_as_older_ones_are_forgotten() {
        let host = Host::start(Sockets::new().unwrap(), identity(0).unwrap()).unwrap();
        let frame = |kind| frame::ethernet(Mac::BROADCAST, Mac([2; 6]), kind, &[0; 46]);
        let (other, wanted) = (frame(0x88b5), frame(0x88b6));
        (0..KEPT).for_each(|_| host.shared.note(&other, true));
        let looked = AtomicUsize::new(0);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                host.expect("the frame", Duration::from_secs(20), |frame| {
                    looked.fetch_add(1, Ordering::Relaxed);
                    (frame.network == Network::Other(0x88b6)).then_some(())
                })
            });
            while looked.load(Ordering::Relaxed) < KEPT {
                thread::yield_now();
            }
            host.shared.note(&wanted, true);
            waiting.join().unwrap().unwrap();
        });
    }
}
