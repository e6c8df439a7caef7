//! Frames as the lab's hosts build and read them: plain structures to bytes and back, with every checksum computed
//! here from the RFCs, independently of the router. Reading keeps what a field said; nothing is repaired.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail, ensure};

pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const IPV6_FRAGMENT: u8 = 44;
pub(crate) const IPV6_HOP_BY_HOP: u8 = 0;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl Mac {
    pub(crate) const BROADCAST: Mac = Mac([0xff; 6]);

    /// Where frames to an IPv6 multicast group go (RFC 2464 §7).
    pub(crate) fn of_group_v6(group: Ipv6Addr) -> Mac {
        let [.., a, b, c, d] = group.octets();
        Mac([0x33, 0x33, a, b, c, d])
    }

    /// The link-local address made from this MAC (RFC 4291, appendix A).
    pub(crate) fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let mut octets = [0; 16];
        octets[0] = 0xfe;
        octets[1] = 0x80;
        octets[8..].copy_from_slice(&[a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        Ipv6Addr::from(octets)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The solicited-node group of an address (RFC 4291 §2.7.1).
pub(crate) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The Internet checksum (RFC 1071) of `parts` laid end to end; every part but the last has an even length.
pub(crate) fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    !(sum as u16)
}

/// Checksum of an upper-layer message with its pseudo-header (RFC 768, RFC 9293 §3.1, RFC 8200 §8.1).
fn upper_checksum(source: IpAddr, destination: IpAddr, protocol: u8, message: &[u8]) -> u16 {
    let length = (message.len() as u32).to_be_bytes();
    let next = [0, 0, 0, protocol];
    match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => checksum(&[&s.octets(), &d.octets(), &length, &next, message]),
        (IpAddr::V6(s), IpAddr::V6(d)) => checksum(&[&s.octets(), &d.octets(), &length, &next, message]),
        _ => 0,
    }
}

/// An IPv4 packet. `checksum_valid` and `total_length` are what was read; building ignores them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Ipv4 {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) protocol: u8,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    pub(crate) id: u16,
    pub(crate) dont_fragment: bool,
    pub(crate) more_fragments: bool,
    /// In bytes, a multiple of 8.
    pub(crate) offset: usize,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) checksum_valid: bool,
}

impl Ipv4 {
    pub(crate) fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: Vec<u8>) -> Ipv4 {
        Ipv4 {
            source,
            destination,
            protocol,
            ttl: 64,
            tos: 0,
            id: 0x4242,
            dont_fragment: false,
            more_fragments: false,
            offset: 0,
            options: Vec::new(),
            payload,
            checksum_valid: true,
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let header = 20 + self.options.len().next_multiple_of(4);
        let mut out = vec![0x40 | (header / 4) as u8, self.tos];
        out.extend(((header + self.payload.len()) as u16).to_be_bytes());
        out.extend(self.id.to_be_bytes());
        let flags = u16::from(self.dont_fragment) << 14 | u16::from(self.more_fragments) << 13;
        out.extend((flags | (self.offset / 8) as u16).to_be_bytes());
        out.extend([self.ttl, self.protocol, 0, 0]);
        out.extend(self.source.octets());
        out.extend(self.destination.octets());
        out.extend(&self.options);
        out.resize(header, 0);
        let sum = checksum(&[&out]).to_be_bytes();
        out[10..12].copy_from_slice(&sum);
        out.extend(&self.payload);
        out
    }

    fn parse(bytes: &[u8]) -> Result<Ipv4> {
        ensure!(bytes.len() >= 20, "IPv4 header cut to {} bytes", bytes.len());
        ensure!(bytes[0] >> 4 == 4, "IP version {} in an IPv4 frame", bytes[0] >> 4);
        let header = usize::from(bytes[0] & 15) * 4;
        let total = usize::from(be16(bytes, 2));
        ensure!((20..=total).contains(&header), "IPv4 header length {header} of total {total}");
        let packet =
            bytes.get(..total).with_context(|| format!("IPv4 length {total} in {} bytes", bytes.len()))?;
        let fragment = be16(bytes, 6);
        Ok(Ipv4 {
            source: v4_at(bytes, 12),
            destination: v4_at(bytes, 16),
            protocol: bytes[9],
            ttl: bytes[8],
            tos: bytes[1],
            id: be16(bytes, 4),
            dont_fragment: fragment & 0x4000 != 0,
            more_fragments: fragment & 0x2000 != 0,
            offset: usize::from(fragment & 0x1fff) * 8,
            options: packet[20..header].to_vec(),
            payload: packet[header..].to_vec(),
            checksum_valid: checksum(&[&packet[..header]]) == 0,
        })
    }
}

/// An IPv6 packet. Extension headers are part of `payload`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Ipv6 {
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    pub(crate) next_header: u8,
    pub(crate) hop_limit: u8,
    pub(crate) traffic_class: u8,
    pub(crate) flow_label: u32,
    pub(crate) payload: Vec<u8>,
}

impl Ipv6 {
    pub(crate) fn new(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8, payload: Vec<u8>) -> Ipv6 {
        Ipv6 { source, destination, next_header, hop_limit: 64, traffic_class: 0, flow_label: 0, payload }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label;
        let mut out = first.to_be_bytes().to_vec();
        out.extend((self.payload.len() as u16).to_be_bytes());
        out.extend([self.next_header, self.hop_limit]);
        out.extend(self.source.octets());
        out.extend(self.destination.octets());
        out.extend(&self.payload);
        out
    }

    fn parse(bytes: &[u8]) -> Result<Ipv6> {
        ensure!(bytes.len() >= 40, "IPv6 header cut to {} bytes", bytes.len());
        ensure!(bytes[0] >> 4 == 6, "IP version {} in an IPv6 frame", bytes[0] >> 4);
        let length = usize::from(be16(bytes, 4));
        let payload = bytes.get(40..40 + length);
        let payload = payload.with_context(|| format!("IPv6 length {length} in {} bytes", bytes.len()))?;
        let first = be32(bytes, 0);
        Ok(Ipv6 {
            source: v6_at(bytes, 8),
            destination: v6_at(bytes, 24),
            next_header: bytes[6],
            hop_limit: bytes[7],
            traffic_class: (first >> 20) as u8,
            flow_label: first & 0xf_ffff,
            payload: payload.to_vec(),
        })
    }
}

/// ARP for IPv4 over Ethernet (RFC 826).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arp {
    /// 1 request, 2 reply.
    pub(crate) operation: u16,
    pub(crate) sender_mac: Mac,
    pub(crate) sender: Ipv4Addr,
    pub(crate) target_mac: Mac,
    pub(crate) target: Ipv4Addr,
}

impl Arp {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0, 1, 8, 0, 6, 4];
        out.extend(self.operation.to_be_bytes());
        out.extend(self.sender_mac.0);
        out.extend(self.sender.octets());
        out.extend(self.target_mac.0);
        out.extend(self.target.octets());
        out
    }

    fn parse(bytes: &[u8]) -> Result<Arp> {
        ensure!(bytes.len() >= 28, "ARP cut to {} bytes", bytes.len());
        ensure!(bytes[..6] == [0, 1, 8, 0, 6, 4], "ARP for other than IPv4 over Ethernet");
        Ok(Arp {
            operation: be16(bytes, 6),
            sender_mac: mac_at(bytes, 8),
            sender: v4_at(bytes, 14),
            target_mac: mac_at(bytes, 18),
            target: v4_at(bytes, 24),
        })
    }
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    Arp(Arp),
    V4(Ipv4),
    V6(Ipv6),
    Other(u16),
}

/// A frame that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) destination: Mac,
    pub(crate) source: Mac,
    pub(crate) network: Network,
}

impl Frame {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Frame> {
        ensure!(bytes.len() >= 14, "frame of {} bytes", bytes.len());
        let rest = &bytes[14..];
        let network = match be16(bytes, 12) {
            ETHERTYPE_ARP => Network::Arp(Arp::parse(rest)?),
            ETHERTYPE_IPV4 => Network::V4(Ipv4::parse(rest)?),
            ETHERTYPE_IPV6 => Network::V6(Ipv6::parse(rest)?),
            other => Network::Other(other),
        };
        Ok(Frame { destination: mac_at(bytes, 0), source: mac_at(bytes, 6), network })
    }

    pub(crate) fn v4(&self) -> Option<&Ipv4> {
        if let Network::V4(packet) = &self.network { Some(packet) } else { None }
    }

    pub(crate) fn v6(&self) -> Option<&Ipv6> {
        if let Network::V6(packet) = &self.network { Some(packet) } else { None }
    }

    pub(crate) fn arp(&self) -> Option<&Arp> {
        if let Network::Arp(arp) = &self.network { Some(arp) } else { None }
    }

    /// The ICMP or ICMPv6 message in it, its checksum verified.
    pub(crate) fn icmp(&self) -> Option<Icmp> {
        match &self.network {
            Network::V4(p) if p.protocol == ICMP && p.offset == 0 => {
                Icmp::parse(&p.payload, checksum(&[&p.payload]) == 0)
            }
            Network::V6(p) if p.next_header == ICMPV6 => {
                let sum = upper_checksum(p.source.into(), p.destination.into(), ICMPV6, &p.payload);
                Icmp::parse(&p.payload, sum == 0)
            }
            _ => None,
        }
    }

    /// Source address of the packet in it.
    pub(crate) fn ip_source(&self) -> Option<IpAddr> {
        match &self.network {
            Network::V4(p) => Some(p.source.into()),
            Network::V6(p) => Some(p.source.into()),
            _ => None,
        }
    }
}

/// An Ethernet frame's bytes.
pub(crate) fn ethernet(destination: Mac, source: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(14 + payload.len());
    out.extend(destination.0);
    out.extend(source.0);
    out.extend(ethertype.to_be_bytes());
    out.extend(payload);
    out
}

/// An ICMP or ICMPv6 message; both have this shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Icmp {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    /// The four bytes after the checksum: identifier and sequence, or MTU.
    pub(crate) rest: u32,
    pub(crate) body: Vec<u8>,
    pub(crate) checksum_valid: bool,
}

impl Icmp {
    pub(crate) fn new(kind: u8, code: u8, rest: u32, body: &[u8]) -> Icmp {
        Icmp { kind, code, rest, body: body.to_vec(), checksum_valid: true }
    }

    fn parse(bytes: &[u8], checksum_valid: bool) -> Option<Icmp> {
        let body = bytes.get(8..)?.to_vec();
        Some(Icmp { kind: bytes[0], code: bytes[1], rest: be32(bytes, 4), body, checksum_valid })
    }

    fn raw(&self) -> Vec<u8> {
        let mut out = vec![self.kind, self.code, 0, 0];
        out.extend(self.rest.to_be_bytes());
        out.extend(&self.body);
        out
    }

    pub(crate) fn bytes_v4(&self) -> Vec<u8> {
        let mut out = self.raw();
        let sum = checksum(&[&out]).to_be_bytes();
        out[2..4].copy_from_slice(&sum);
        out
    }

    pub(crate) fn bytes_v6(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let mut out = self.raw();
        let sum = upper_checksum(source.into(), destination.into(), ICMPV6, &out).to_be_bytes();
        out[2..4].copy_from_slice(&sum);
        out
    }
}

/// A UDP datagram with its checksum.
pub(crate) fn udp(from: (IpAddr, u16), to: (IpAddr, u16), payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + payload.len());
    out.extend(from.1.to_be_bytes());
    out.extend(to.1.to_be_bytes());
    out.extend(((8 + payload.len()) as u16).to_be_bytes());
    out.extend([0, 0]);
    out.extend(payload);
    // RFC 768: a computed zero is sent as all ones.
    let sum = match upper_checksum(from.0, to.0, UDP, &out) {
        0 => 0xffff,
        sum => sum,
    };
    out[6..8].copy_from_slice(&sum.to_be_bytes());
    out
}

/// A TCP segment of `flags` (SYN 2, ACK 16, ...) with its checksum.
pub(crate) fn tcp(from: (IpAddr, u16), to: (IpAddr, u16), flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(20 + payload.len());
    out.extend(from.1.to_be_bytes());
    out.extend(to.1.to_be_bytes());
    out.extend(1u32.to_be_bytes());
    out.extend(0u32.to_be_bytes());
    out.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    out.extend(payload);
    let sum = upper_checksum(from.0, to.0, TCP, &out).to_be_bytes();
    out[16..18].copy_from_slice(&sum);
    out
}

/// An IPv6 fragment header (RFC 8200 §4.5) in front of `piece`.
pub(crate) fn ipv6_fragment(next: u8, offset: usize, more: More, id: u32, piece: &[u8]) -> Vec<u8> {
    let mut out = vec![next, 0];
    out.extend(((offset & !7) as u16 | u16::from(more == More::Yes)).to_be_bytes());
    out.extend(id.to_be_bytes());
    out.extend(piece);
    out
}

/// Whether further fragments follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    Yes,
    No,
}

/// A neighbour solicitation (RFC 4861 §4.3) for `target`, as ICMPv6 body after the type word.
pub(crate) fn neighbour_option(kind: u8, mac: Mac, target: Ipv6Addr) -> Vec<u8> {
    let mut body = target.octets().to_vec();
    body.extend([kind, 1]);
    body.extend(mac.0);
    body
}

/// One line about a frame, for reports.
pub(crate) fn summary(bytes: &[u8]) -> String {
    let frame = match Frame::parse(bytes) {
        Ok(frame) => frame,
        Err(error) => return format!("{} bytes: {error:#}", bytes.len()),
    };
    let ends = format!("{} > {}", frame.source, frame.destination);
    match &frame.network {
        Network::Arp(arp) => format!("{ends} ARP op {} {} > {}", arp.operation, arp.sender, arp.target),
        Network::Other(kind) => format!("{ends} ethertype {kind:#06x}, {} bytes", bytes.len()),
        Network::V4(packet) => format!("{ends} {packet:?}"),
        Network::V6(packet) => {
            let icmp = frame.icmp().map(|m| format!(" icmp6 {}/{}", m.kind, m.code)).unwrap_or_default();
            format!("{ends} {packet:?}{icmp}")
        }
    }
}

impl fmt::Debug for Ipv4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IPv4 {} > {} proto {} ttl {}", self.source, self.destination, self.protocol, self.ttl)?;
        write!(f, " tos {} id {:#x} off {}", self.tos, self.id, self.offset)?;
        let flag = |set: bool, text| if set { text } else { "" };
        write!(f, "{}{}", flag(self.dont_fragment, " DF"), flag(self.more_fragments, " MF"))?;
        write!(f, "{}", flag(!self.checksum_valid, " BAD-CHECKSUM"))?;
        if !self.options.is_empty() {
            write!(f, " options {:02x?}", self.options)?;
        }
        write!(f, " len {} [{:02x?}]", self.payload.len(), &self.payload[..self.payload.len().min(8)])
    }
}

impl fmt::Debug for Ipv6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IPv6 {} > {} next {}", self.source, self.destination, self.next_header)?;
        write!(f, " hops {} class {} flow {:#x}", self.hop_limit, self.traffic_class, self.flow_label)?;
        write!(f, " len {} [{:02x?}]", self.payload.len(), &self.payload[..self.payload.len().min(8)])
    }
}

/// Parses `52:54:00:00:00:01`.
pub(crate) fn mac(text: &str) -> Result<Mac> {
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        *octet = u8::from_str_radix(parts.next().unwrap_or_default(), 16)
            .with_context(|| format!("{text} is no Ethernet address"))?;
    }
    if parts.next().is_some() {
        bail!("{text} is no Ethernet address");
    }
    Ok(Mac(octets))
}

pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from(be16(bytes, at)) << 16 | u32::from(be16(bytes, at + 2))
}

fn v4_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::from(be32(bytes, at))
}

pub(crate) fn v6_at(bytes: &[u8], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[at..at + 16]);
    Ipv6Addr::from(octets)
}

fn mac_at(bytes: &[u8], at: usize) -> Mac {
    let mut octets = [0; 6];
    octets.copy_from_slice(&bytes[at..at + 6]);
    Mac(octets)
}

#[cfg(test)]
mod tests;
