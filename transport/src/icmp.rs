//! ICMP errors about what sockets have sent (RFC 792, RFC 4443).

use crate::error::Error;
use crate::ports::Protocol;
use crate::wire::{Flow, ICMP, Ip, TCP, UDP, scoped};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use weir_netif::IfIndex;

/// An error about a packet of this router's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Notice {
    /// Of the packet quoted: this side first.
    pub(crate) flow: Flow,
    pub(crate) protocol: Protocol,
    /// TCP's sequence number.
    pub(crate) seq: Option<u32>,
    pub(crate) report: Report,
}

/// What it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Report {
    /// Packets may have this many bytes.
    TooBig(u16),
    /// The packet did not arrive.
    Failed(Error),
}

impl Notice {
    /// Reads a message whose checksum was looked at before.
    pub(crate) fn parse(ip: &Ip<'_>, link: IfIndex) -> Option<Self> {
        let &[kind, code, _, _, a, b, c, d, ref quoted @ ..] = ip.upper else { return None };
        let report = if ip.protocol == ICMP {
            match (kind, code) {
                (3, 4) => Report::TooBig(u16::from_be_bytes([c, d])),
                (3, 2 | 3) => Report::Failed(Error::Refused),
                (3 | 11 | 12, _) => Report::Failed(Error::Unreachable),
                _ => return None,
            }
        } else {
            match (kind, code) {
                (2, _) => Report::TooBig(u32::from_be_bytes([a, b, c, d]).try_into().unwrap_or(u16::MAX)),
                (1, 4) | (4, 1) => Report::Failed(Error::Refused),
                (1 | 3 | 4, _) => Report::Failed(Error::Unreachable),
                _ => return None,
            }
        };
        let (source, destination, protocol, upper) = quotation(quoted)?;
        let &[f0, f1, t0, t1, s0, s1, s2, s3, ..] = upper else { return None };
        let (from, to) = (u16::from_be_bytes([f0, f1]), u16::from_be_bytes([t0, t1]));
        let flow = Flow { local: scoped(source, from, link), remote: scoped(destination, to, link) };
        let (protocol, seq) = match protocol {
            TCP => (Protocol::Tcp, Some(u32::from_be_bytes([s0, s1, s2, s3]))),
            UDP => (Protocol::Udp, None),
            _ => return None,
        };
        Some(Self { flow, protocol, seq, report })
    }
}

/// Addresses, protocol and the first bytes of what is quoted. The router sends without options and extension headers.
pub(crate) fn quotation(quoted: &[u8]) -> Option<(IpAddr, IpAddr, u8, &[u8])> {
    match quoted.first()? >> 4 {
        4 => {
            let &[vihl, _, _, _, _, _, frag, frag_low, _, protocol, _, _, a, b, c, d, e, f, g, h, ..] =
                quoted
            else {
                return None;
            };
            (u16::from_be_bytes([frag, frag_low]) & 0x1fff == 0).then_some(())?;
            let upper = quoted.get(usize::from(vihl & 15) * 4..)?;
            Some((Ipv4Addr::new(a, b, c, d).into(), Ipv4Addr::new(e, f, g, h).into(), protocol, upper))
        }
        6 => {
            let address =
                |at: usize| quoted.get(at..)?.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets));
            Some((address(8)?.into(), address(24)?.into(), *quoted.get(6)?, quoted.get(40..)?))
        }
        _ => None,
    }
}
