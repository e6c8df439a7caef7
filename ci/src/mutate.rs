//! A storm of broken frames: valid ones of every protocol the router speaks, mutated, at full pace. Afterwards the
//! router must answer at once and hold no more memory; its counters prove that the frames reached it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::frame::{
    self, Arp, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMP, ICMPV6, IPV6_FRAGMENT, IPV6_HOP_BY_HOP,
    Icmp, Ipv4, Ipv6, Mac, More, TCP, UDP,
};
use crate::host::{Host, Switch};
use crate::random::Random;
use crate::rig::FrameRig;
use crate::router::Image;
use crate::table::{self, Memory};

/// What a storm did.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) frames: usize,
    /// Frames the router's NICs counted.
    pub(crate) counted: u64,
    pub(crate) seconds: f64,
    /// The slowest of the pings right afterwards.
    pub(crate) ping: Duration,
    /// The router's memory figure afterwards.
    pub(crate) memory: Option<Memory>,
}

/// Valid frames from `from`, to, through and past the router.
fn seeds(from: &Host, to: &Host) -> Vec<Vec<u8>> {
    let (own, far) = (*from.identity(), *to.identity());
    let mut all = Vec::new();
    let v4_frame = |packet: &Ipv4| frame::ethernet(own.gateway_mac, own.mac, ETHERTYPE_IPV4, &packet.bytes());
    let v6_frame = |packet: &Ipv6| frame::ethernet(own.gateway_mac, own.mac, ETHERTYPE_IPV6, &packet.bytes());
    for (operation, target) in [(1, own.gateway_v4), (2, own.gateway_v4), (1, own.v4), (1, far.v4)] {
        let arp = Arp { operation, sender_mac: own.mac, sender: own.v4, target_mac: own.gateway_mac, target };
        for mac in [Mac::BROADCAST, own.gateway_mac] {
            all.push(frame::ethernet(mac, own.mac, ETHERTYPE_ARP, &arp.bytes()));
        }
    }
    let group: Ipv4Addr = [224, 0, 0, 1].into();
    let broadcast = Ipv4Addr::BROADCAST;
    for destination in [
        own.gateway_v4,
        far.gateway_v4,
        far.v4,
        [10, 0, 1, 200].into(),
        [8, 8, 8, 8].into(),
        group,
        broadcast,
    ] {
        let mut packets = vec![
            Ipv4::new(own.v4, destination, ICMP, Icmp::new(8, 0, 0x10001, &[0x61; 56]).bytes_v4()),
            Ipv4::new(
                own.v4,
                destination,
                UDP,
                frame::udp((own.v4.into(), 4000), (destination.into(), 53), &[1; 90]),
            ),
            Ipv4::new(
                own.v4,
                destination,
                TCP,
                frame::tcp((own.v4.into(), 4000), (destination.into(), 80), 2, &[]),
            ),
        ];
        let quoted = Ipv4::new(destination, own.v4, UDP, vec![0; 8]).bytes();
        packets.push(Ipv4::new(own.v4, destination, ICMP, Icmp::new(3, 4, 1280, &quoted).bytes_v4()));
        for i in 0..2 {
            let mut piece = packets[i].clone();
            (piece.more_fragments, piece.offset) = (true, 64 * i);
            packets.push(piece);
            let mut optioned = packets[i].clone();
            // Record route, timestamp, loose source route, router alert.
            optioned.options =
                [&[7, 7, 4, 0, 0, 0, 0, 1][..], &[68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 1]][i].to_vec();
            packets.push(optioned);
        }
        all.extend(packets.iter().map(v4_frame));
    }
    let nodes: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let routers: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    let solicited = frame::solicited_node(own.gateway_v6);
    let outside = Ipv6Addr::new(0x2a00, 0, 0, 0, 0, 0, 0, 1);
    for destination in [own.gateway_v6, far.gateway_v6, far.v6, outside, nodes, routers, solicited] {
        let (s, d) = (own.v6, destination);
        let udp = frame::udp((s.into(), 4000), (d.into(), 53), &[1; 90]);
        let mut packets = vec![
            Ipv6::new(s, d, ICMPV6, Icmp::new(128, 0, 0x10001, &[0x61; 56]).bytes_v6(s, d)),
            Ipv6::new(s, d, UDP, udp.clone()),
            Ipv6::new(s, d, TCP, frame::tcp((s.into(), 4000), (d.into(), 80), 2, &[])),
            Ipv6::new(s, d, IPV6_FRAGMENT, frame::ipv6_fragment(UDP, 0, More::Yes, 9, &udp[..64])),
            Ipv6::new(s, d, IPV6_FRAGMENT, frame::ipv6_fragment(UDP, 64, More::No, 9, &udp[64..])),
        ];
        // Chains: hop-by-hop, destination options, routing, fragment (RFC 8200 §4.1).
        let chain = [
            &[60, 0, 1, 4, 0, 0, 0, 0][..],
            &[43, 0, 5, 2, 0, 0, 1, 0],
            &[44, 0, 4, 0, 0, 0, 0, 0],
            &[UDP, 0, 0, 0, 0, 0, 0, 5],
            &udp,
        ]
        .concat();
        packets.push(Ipv6::new(s, d, IPV6_HOP_BY_HOP, chain));
        let long = [[60, 0, 1, 4, 0, 0, 0, 0].repeat(40), vec![UDP, 0, 1, 4, 0, 0, 0, 0], udp].concat();
        packets.push(Ipv6::new(s, d, 60, long));
        for (kind, body) in [
            (133, vec![1, 1, 2, 0, 0, 0, 0, 1]),
            (134, [&[0; 8][..], &[3, 4, 64, 0xc0], &[0; 28]].concat()),
            (135, frame::neighbour_option(1, own.mac, own.gateway_v6)),
            (136, frame::neighbour_option(2, own.mac, own.v6)),
            (137, [own.v6.octets(), far.v6.octets()].concat()),
            (2, Ipv6::new(d, s, UDP, vec![0; 8]).bytes()),
        ] {
            let mut packet = Ipv6::new(s, d, ICMPV6, Icmp::new(kind, 0, 1280, &body).bytes_v6(s, d));
            packet.hop_limit = 255;
            packets.push(packet);
        }
        all.extend(packets.iter().map(v6_frame));
        if destination.is_multicast() {
            let mac = Mac::of_group_v6(destination);
            all.extend(packets.iter().map(|p| frame::ethernet(mac, own.mac, ETHERTYPE_IPV6, &p.bytes())));
        }
    }
    let mut tagged = own.gateway_mac.0.to_vec();
    tagged.extend(own.mac.0);
    tagged.extend([0x81, 0, 0, 5, 8, 0]);
    tagged.extend(Ipv4::new(own.v4, far.v4, UDP, vec![0; 40]).bytes());
    all.push(tagged);
    all
}

/// Numbers that parsers trip over.
const EDGES: [u8; 10] = [0, 1, 4, 5, 0x0f, 0x44, 0x4f, 0x7f, 0x80, 0xff];

/// Spoils a frame in one to four ways.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        let length = bytes.len();
        // Mostly headers: the first 80 bytes, behind the Ethernet addresses.
        let header = 12 + random.below(length.min(92).saturating_sub(12));
        match random.below(14) {
            0 | 1 => bytes[header.min(length - 1)] ^= 1 << random.below(8),
            2 | 3 => bytes[header.min(length - 1)] = *random.pick(&EDGES),
            4 => bytes[header.min(length - 1)] = random.byte(),
            5 => bytes.truncate(14 + random.below(length - 13)),
            6 => bytes.extend((0..random.below(64)).map(|i| i as u8)),
            // Version and header length; total length; fragment word; next header and payload length.
            7 => set(bytes, 14, 0x40 | (random.byte() & 15)),
            8 => (0..2).for_each(|i| set(bytes, 16 + i, *random.pick(&EDGES))),
            9 => (0..2).for_each(|i| set(bytes, 20 + i, random.byte())),
            10 => (0..2).for_each(|i| set(bytes, 18 + i, *random.pick(&EDGES))),
            11 => set(bytes, 20, *random.pick(&[0, 6, 17, 43, 44, 50, 51, 58, 59, 60, 135, 255])),
            12 => {
                // A run of noise.
                for i in 0..random.below(24) {
                    set(bytes, header + i, random.byte());
                }
            }
            _ => {
                // A header repeated, so that everything behind it is misplaced.
                let end = (header + random.below(48)).min(length);
                let piece = bytes.get(header..end).unwrap_or_default().to_vec();
                bytes.splice(header.min(length)..header.min(length), piece);
            }
        }
    }
    bytes.truncate(1514);
    // Mostly the IPv4 checksum is made right again, or nothing behind it would ever be read.
    if bytes.len() >= 34 && bytes[12..14] == [8, 0] && !random.one_in(4) {
        let end = (14 + usize::from(bytes[14] & 15) * 4).clamp(34, bytes.len());
        bytes[24..26].fill(0);
        let sum = frame::checksum(&[&bytes[14..end]]);
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    }
}

fn set(bytes: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = value;
    }
}

/// The `number`-th frame of the storm.
fn next(seeds: &[Vec<u8>], gateway: Mac, random: &mut Random) -> Vec<u8> {
    if random.one_in(50) {
        // Noise behind a good destination.
        let mut bytes = gateway.0.to_vec();
        bytes.extend((0..8 + random.below(1400)).map(|_| random.byte()));
        return bytes;
    }
    let mut bytes = random.pick(seeds).clone();
    mutate(&mut bytes, random);
    bytes
}

/// Whether a NIC whose filter is on takes the frame: its own address or the broadcast.
fn surely_taken(bytes: &[u8], own: Mac) -> bool {
    bytes.starts_with(&own.0) || bytes.starts_with(&Mac::BROADCAST.0)
}

/// Sends `frames` mutated frames into both ports of a ready or booting router and judges it.
pub(crate) fn storm(rig: &mut FrameRig, frames: usize, seed: u64) -> Result<Report> {
    rig.router.ready()?;
    refresh(rig)?;
    let before = table::read(&mut rig.router)?;
    rig.hosts.iter().for_each(|host| host.keep(Switch::Off));
    let began = Instant::now();
    let mut sure = 0;
    {
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        let sides = [(a, seeds(a, b)), (b, seeds(b, a))];
        let mut random = Random::new(seed);
        for number in 0..frames {
            // Mostly from one side, so that the other's answers are not always in the way.
            let (host, seeds) = &sides[usize::from(random.one_in(4))];
            let gateway = host.identity().gateway_mac;
            let bytes = next(seeds, gateway, &mut random);
            sure += u64::from(surely_taken(&bytes, gateway));
            // The socket takes a frame only when QEMU has room: this paces the storm.
            host.send(&bytes).with_context(|| format!("frame {number} of seed {seed}: {bytes:02x?}"))?;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    rig.hosts.iter().for_each(|host| host.keep(Switch::On));
    let mut after = table::read(&mut rig.router).context("the console after the storm")?;
    for _ in 0..20 {
        if after.received_in_all() - before.received_in_all() >= sure {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        after = table::read(&mut rig.router)?;
    }
    let counted = after.received_in_all() - before.received_in_all();
    ensure!(
        counted >= sure,
        "{sure} frames were surely sent to the router's NICs, {counted} counted:\n{}",
        after.text
    );
    let ping = refresh(rig).context("right after the storm")?;
    // Packets that wait for a neighbour are given up within seconds, fragments that wait for others within a minute.
    let deadline = Instant::now() + Duration::from_secs(70);
    let mut after = table::read(&mut rig.router)?;
    while leaked(before.memory, after.memory) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(500));
        after = table::read(&mut rig.router)?;
    }
    ensure!(!leaked(before.memory, after.memory), "before: {:?}, after: {:?}", before.memory, after.memory);
    Ok(Report { frames, counted, seconds, ping, memory: after.memory })
}

/// Whether more memory is in use. A few sent buffers lie in a transmit ring until the next are sent.
fn leaked(before: Option<Memory>, after: Option<Memory>) -> bool {
    const IN_RINGS: u64 = 32;
    before
        .zip(after)
        .is_some_and(|(before, after)| after.kib > before.kib || after.buffers > before.buffers + IN_RINGS)
}

/// Tells the router the hosts' addresses again (a mutated ARP may have claimed them), then pings at and through it:
/// the slowest reply, which must come within a second.
fn refresh(rig: &FrameRig) -> Result<Duration> {
    let second = Duration::from_secs(1);
    for host in &rig.hosts {
        let own = host.identity();
        host.arp(own.gateway_v4, second * 2)?;
        host.solicit(own.gateway_v6, second * 2).or_else(|_| host.solicit(own.gateway_v6, second * 2))?;
    }
    let mut slowest = Duration::ZERO;
    for (from, to) in [(0, 1), (1, 0)] {
        let (near, far) = (*rig.hosts[from].identity(), *rig.hosts[to].identity());
        for target in [near.gateway_v4.into(), near.gateway_v6.into(), far.v4.into(), far.v6.into()] {
            let mut took = rig.hosts[from].ping(target, 9, second);
            if rig.router.image == Image::Linux && took.is_err() {
                // A mutated redirect may have led its route astray; the first packet mends it.
                took = rig.hosts[from].ping(target, 10, second);
            }
            slowest = slowest.max(took?);
        }
    }
    Ok(slowest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutation_keeps_an_ethernet_header_and_repeats_with_its_seed() {
        let seed = frame::ethernet(Mac::BROADCAST, Mac([2; 6]), ETHERTYPE_IPV4, &[0x45; 60]);
        let run = |seed_number| {
            let mut random = Random::new(seed_number);
            (0..5000).map(|_| next(std::slice::from_ref(&seed), Mac([4; 6]), &mut random)).collect::<Vec<_>>()
        };
        let frames = run(7);
        assert!(frames.iter().all(|bytes| (14..=1514).contains(&bytes.len())));
        assert_eq!(frames, run(7));
        assert_ne!(frames, run(8));
    }
}
