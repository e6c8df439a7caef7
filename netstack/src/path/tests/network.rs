//! Hosts that talk through the router over links that lose, double and reorder frames.

use super::*;
use crate::ethernet;
use crate::frames;
use crate::sim::*;
use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::vec;
use std::vec::Vec;

/// A host: answers ARP, discovery and echo, and pings until it has been answered.
struct Host {
    link: u8,
    address: IpAddr,
    mac: [u8; 6],
    router: IpAddr,
    router_mac: Option<[u8; 6]>,
    /// Whom it pings, and the sequence numbers that were answered.
    peer: IpAddr,
    answered: BTreeSet<u16>,
    replies: usize,
}

const PINGS: u16 = 30;

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

impl Host {
    fn new(n: u8, link: u8, address: &str, router: &str, peer: &str) -> Self {
        Self {
            link,
            address: address.parse().unwrap(),
            mac: host_mac(n),
            router: router.parse().unwrap(),
            router_mac: None,
            peer: peer.parse().unwrap(),
            answered: BTreeSet::new(),
            replies: 0,
        }
    }

    /// Frames it sends of its own accord: it asks for the router until it knows it, then pings.
    fn speak(&self) -> Vec<Vec<u8>> {
        let Some(mac) = self.router_mac else {
            return match (self.address, self.router) {
                (IpAddr::V4(own), IpAddr::V4(router)) => vec![arp_request(self.mac, own, router)],
                (IpAddr::V6(own), IpAddr::V6(router)) => {
                    vec![solicitation(self.mac, own, router, Some(self.mac))]
                }
                _ => unreachable!(),
            };
        };
        let open = (0..PINGS).filter(|n| !self.answered.contains(n)).take(3);
        open.map(|n| self.echo(mac, self.peer, true, n)).collect()
    }

    fn echo(&self, mac: [u8; 6], to: IpAddr, request: bool, sequence: u16) -> Vec<u8> {
        let rest = [&[0, 7][..], &sequence.to_be_bytes(), &[0x5a; 40]].concat();
        let (from, to_text) =
            (std::string::ToString::to_string(&self.address), std::string::ToString::to_string(&to));
        match to {
            IpAddr::V4(_) => {
                let message = frames::icmp(if request { 8 } else { 0 }, 0, &rest);
                let packet = V4 { protocol: 1, ..v4(&from, &to_text) }.packet(&message);
                frame(mac, self.mac, ethernet::IPV4, &packet)
            }
            IpAddr::V6(_) => {
                let message = [&[if request { 128 } else { 129 }, 0, 0, 0][..], &rest].concat();
                frame(mac, self.mac, ethernet::IPV6, &v6(&from, &to_text).icmp(&message))
            }
        }
    }

    /// What it answers to a frame.
    fn hear(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let group = bytes[0] & 1 != 0;
        if bytes[..6] != self.mac && !group {
            return None;
        }
        assert_sound(bytes);
        let ip = &bytes[14..];
        match (ethernet::kind(bytes), self.address) {
            (Some(ethernet::ARP), IpAddr::V4(own)) => {
                let sender = core::net::Ipv4Addr::new(ip[14], ip[15], ip[16], ip[17]);
                let sender_mac = *ip[8..].first_chunk().unwrap();
                if IpAddr::V4(sender) == self.router {
                    self.router_mac = Some(sender_mac);
                }
                (ip[7] == 1 && ip[24..28] == own.octets())
                    .then(|| arp_reply(sender_mac, self.mac, own, sender))
            }
            (Some(ethernet::IPV4), IpAddr::V4(own)) if ip[16..20] == own.octets() => {
                let from = core::net::Ipv4Addr::from(*ip[12..].first_chunk::<4>().unwrap());
                self.echoed(ip[20] == 8, ip[20] == 0, from.into(), ip[20 + 6..].first_chunk().copied())
            }
            (Some(ethernet::IPV6), IpAddr::V6(own)) => {
                let from = core::net::Ipv6Addr::from(*ip[8..].first_chunk::<16>().unwrap());
                match ip[40] {
                    135 if ip[48..64] == own.octets() => {
                        let mac = *bytes[6..].first_chunk().unwrap();
                        Some(advertisement(mac, self.mac, own, from, 0x60, Some(self.mac)))
                    }
                    136 if ip[48..64] == self.router_octets() => {
                        self.router_mac = Some(*bytes[6..].first_chunk().unwrap());
                        None
                    }
                    kind @ (128 | 129) if ip[24..40] == own.octets() => {
                        self.echoed(kind == 128, kind == 129, from.into(), ip[46..].first_chunk().copied())
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn router_octets(&self) -> [u8; 16] {
        if let IpAddr::V6(router) = self.router { router.octets() } else { unreachable!() }
    }

    fn echoed(
        &mut self,
        request: bool,
        reply: bool,
        from: IpAddr,
        sequence: Option<[u8; 2]>,
    ) -> Option<Vec<u8>> {
        let sequence = u16::from_be_bytes(sequence?);
        if reply {
            self.answered.insert(sequence);
            self.replies += 1;
        }
        let mac = self.router_mac.filter(|_| request)?;
        Some(self.echo(mac, from, false, sequence))
    }
}

#[test]
fn hosts_reach_each_other_over_links_that_lose_double_and_reorder() {
    let mut random = Random(seed());
    let mut rig = Rig::new(&plan(&[&[LAN, LAN6], &[WAN, WAN6]]));
    let mut hosts = [
        Host::new(10, 0, "10.0.1.10", "10.0.1.1", "192.0.2.20"),
        Host::new(11, 0, "10.0.1.11", "10.0.1.1", "10.0.1.1"),
        Host::new(20, 1, "192.0.2.20", "192.0.2.1", "10.0.1.11"),
        Host::new(12, 0, "2001:db8:1::10", "2001:db8:1::1", "2001:db8:2::20"),
        Host::new(22, 1, "2001:db8:2::20", "2001:db8:2::1", "2001:db8:1::10"),
        Host::new(23, 1, "2001:db8:2::30", "2001:db8:2::1", "2001:db8:1::1"),
    ];
    // Frames in flight by time of arrival: to the router (link) or from it.
    let mut flight: BTreeMap<(u64, u64), (u8, bool, Vec<u8>)> = BTreeMap::new();
    let mut number = 0;
    let step = Duration::from_millis(20);
    let end = rig.now + Duration::from_secs(60);
    while rig.now < end && hosts.iter().any(|host| host.answered.len() < PINGS.into()) {
        let mut launched: Vec<(u8, bool, Vec<u8>)> = Vec::new();
        for host in &hosts {
            launched.extend(host.speak().into_iter().map(|frame| (host.link, true, frame)));
        }
        let now = rig.now.as_nanos();
        while let Some(entry) = flight.first_entry().filter(|entry| entry.key().0 <= now) {
            let (link, to_router, frame) = entry.remove();
            if to_router {
                rig.receive(link.into(), &[frame]);
                continue;
            }
            for host in hosts.iter_mut().filter(|host| host.link == link) {
                launched.extend(host.hear(&frame).map(|answer| (link, true, answer)));
            }
        }
        rig.run(step);
        launched.extend(rig.sent().into_iter().map(|sent| (sent.out as u8, false, sent.bytes)));
        for frame in launched {
            let copies = if random.percent(20) { 0 } else { 1 + u64::from(random.percent(10)) };
            for _ in 0..copies {
                number += 1;
                flight.insert((now + random.next() % 60_000_000, number), frame.clone());
            }
        }
    }
    for host in &hosts {
        assert_eq!(host.answered.len(), PINGS.into(), "{} to {}", host.address, host.peer);
    }
    assert!(hosts.iter().map(|host| host.replies).sum::<usize>() > 6 * usize::from(PINGS), "some came twice");
}
