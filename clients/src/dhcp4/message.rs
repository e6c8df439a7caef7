//! Messages (RFC 2131 §2) and their options (RFC 2132, RFC 3396, RFC 3442).

use crate::read::{Bytes, u32_of};
use crate::{LEAST_S, least_t1_s};
use alloc::vec::Vec;
use core::net::Ipv4Addr;

/// Where options begin: 99, 130, 83, 99 (RFC 2131 §3).
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// The fixed part, and in it the server's name and the boot file's, which may hold options too.
const FIXED: usize = 236;
const SNAME: core::ops::Range<usize> = 44..108;
const FILE: core::ops::Range<usize> = 108..236;
/// BOOTP's smallest message, which relays still expect (RFC 1542 §2.1).
const LEAST: usize = 300;

const MASK: u8 = 1;
const ROUTER: u8 = 3;
const DNS: u8 = 6;
const HOST_NAME: u8 = 12;
const MTU: u8 = 26;
const NTP: u8 = 42;
const REQUESTED: u8 = 50;
const LEASE: u8 = 51;
const OVERLOAD: u8 = 52;
const KIND: u8 = 53;
const SERVER: u8 = 54;
const PARAMETERS: u8 = 55;
const LONGEST: u8 = 57;
const T1: u8 = 58;
const T2: u8 = 59;
const CLIENT: u8 = 61;
const CLASSLESS: u8 = 121;
const END: u8 = 255;

/// What the client asks servers for.
const WANTED: [u8; 9] = [MASK, CLASSLESS, ROUTER, DNS, MTU, NTP, LEASE, T1, T2];
/// Addresses of one option, and routes, that are looked at.
const MOST: usize = 32;

/// What a message is for (RFC 2132 §9.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Who has addresses?
    Discover = 1,
    /// This one could be yours.
    Offer = 2,
    /// I want it, or want to keep it.
    Request = 3,
    /// Somebody else has it.
    Decline = 4,
    /// It is yours.
    Ack = 5,
    /// It is not.
    Nak = 6,
    /// I am done with it.
    Release = 7,
}

/// A server's answer, checked in itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// [`Kind::Offer`], [`Kind::Ack`] or [`Kind::Nak`].
    pub kind: Kind,
    /// Which request it answers.
    pub xid: u32,
    /// Whose.
    pub mac: [u8; 6],
    /// What it grants; of a NAK nothing.
    pub grant: Option<Grant>,
    /// Who it is.
    pub server: Option<Ipv4Addr>,
}

/// What a server grants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The address.
    pub address: Ipv4Addr,
    /// Its network's length.
    pub prefix_len: u8,
    /// Routes: destination, length of its prefix, next router; an unspecified one: on the link. The default route is among them.
    pub routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    /// Name servers, the best first.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers, the best first.
    pub ntp: Vec<Ipv4Addr>,
    /// Octets of an IP packet on the link.
    pub mtu: Option<u16>,
    /// Seconds until it ends, until it is to be renewed, and until any server may renew it; in order.
    pub lease_s: u32,
    /// As above.
    pub t1_s: u32,
    /// As above.
    pub t2_s: u32,
}

/// All options of a message by code, those that came in parts as one (RFC 3396 §7).
struct Options(Vec<(u8, Vec<u8>)>);

impl Options {
    fn read(message: &[u8]) -> Option<Self> {
        let mut options = Self(Vec::new());
        options.add(message.get(FIXED + COOKIE.len()..)?)?;
        let overload = options.get(OVERLOAD).and_then(|value| value.first()).copied().unwrap_or(0);
        // RFC 3396 §5: the file's come before the name's.
        if overload & 1 != 0 {
            options.add(message.get(FILE)?)?;
        }
        if overload & 2 != 0 {
            options.add(message.get(SNAME)?)?;
        }
        Some(options)
    }

    fn add(&mut self, bytes: &[u8]) -> Option<()> {
        let mut bytes = Bytes(bytes);
        while let Some(code) = bytes.u8() {
            match code {
                0 => {}
                END => break,
                _ => {
                    let len = bytes.u8()?;
                    let value = bytes.take(len.into())?;
                    match self.0.iter_mut().find(|(known, _)| *known == code) {
                        Some((_, known)) => known.extend_from_slice(value),
                        None => self.0.push((code, value.into())),
                    }
                }
            }
        }
        Some(())
    }

    fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| *known == code).map(|(_, value)| &**value)
    }

    fn number(&self, code: u8) -> Option<u32> {
        self.get(code).and_then(u32_of)
    }

    /// Hosts' addresses; others among them are left out.
    fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let chunks = self.get(code).unwrap_or_default().as_chunks().0;
        let hosts = chunks.iter().map(|octets| Ipv4Addr::from(*octets)).filter(|&address| is_host(address));
        hosts.take(MOST).collect()
    }

    fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.number(code).map(Ipv4Addr::from).filter(|&address| is_host(address))
    }

    /// RFC 3442: descriptors of a length, as many octets of the destination as that has, and a router. One bad descriptor makes all bad.
    fn classless(&self) -> Option<Vec<(Ipv4Addr, u8, Ipv4Addr)>> {
        let mut bytes = Bytes(self.get(CLASSLESS)?);
        let mut routes = Vec::new();
        while let Some(len) = bytes.u8() {
            if len > 32 || routes.len() >= MOST {
                return None;
            }
            let mut octets = [0; 4];
            let given = bytes.take(usize::from(len).div_ceil(8))?;
            octets.iter_mut().zip(given).for_each(|(octet, given)| *octet = *given);
            let via = Ipv4Addr::from(bytes.array::<4>()?);
            let to = u32::from_be_bytes(octets) & mask(len);
            let unicast = len == 0 || is_host(Ipv4Addr::from(to)) || to == 0;
            if unicast && (via.is_unspecified() || is_host(via)) {
                routes.push((Ipv4Addr::from(to), len, via));
            }
        }
        Some(routes)
    }
}

fn mask(len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(len.min(32))).unwrap_or(0)
}

/// Whether one host can have it.
pub(crate) fn is_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    !matches!(first, 0 | 127 | 224..)
}

impl Reply {
    /// Reads a server's message. What is not one, is for no Ethernet station or lacks what every answer has is `None`.
    pub fn parse(message: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(message);
        // op, htype, hlen, hops: a reply to an Ethernet station.
        let [2, 1, 6, _] = bytes.array()? else { return None };
        let xid = bytes.u32()?;
        bytes.take(8)?;
        let address = Ipv4Addr::from(bytes.array::<4>()?);
        bytes.take(8)?;
        let mac = bytes.array()?;
        if message.get(FIXED..FIXED + COOKIE.len())? != COOKIE {
            return None;
        }
        let options = Options::read(message)?;
        let kind = match options.get(KIND)? {
            [2] => Kind::Offer,
            [5] => Kind::Ack,
            [6] => Kind::Nak,
            _ => return None,
        };
        let grant = if kind == Kind::Nak { None } else { Some(Grant::read(address, &options)?) };
        Some(Self { kind, xid, mac, grant, server: options.address(SERVER) })
    }
}

impl Grant {
    fn read(address: Ipv4Addr, options: &Options) -> Option<Self> {
        let bits = match options.number(MASK) {
            Some(mask) => mask,
            // Without one, the class of the address says (RFC 791 §3.2).
            None => match address.octets()[0] {
                0..128 => 0xff00_0000,
                128..192 => 0xffff_0000,
                _ => 0xffff_ff00,
            },
        };
        let prefix_len = bits.leading_ones() as u8;
        let rest = u32::from(address) & !bits;
        let edge = prefix_len < 31 && (rest == 0 || rest == !bits);
        if mask(prefix_len) != bits || prefix_len == 0 || !is_host(address) || edge {
            return None;
        }
        // RFC 3442: with these the router option does not count.
        let routes = options.classless().unwrap_or_else(|| {
            let router = options.addresses(ROUTER).into_iter().next();
            router.map(|via| (Ipv4Addr::UNSPECIFIED, 0, via)).into_iter().collect()
        });
        let lease_s = options.number(LEASE).filter(|&lease| lease >= LEAST_S)?;
        let least = least_t1_s(lease_s);
        // RFC 2131 §4.4.5: half of it, and seven eighths, unless the server has times that can be.
        let t2 = (u64::from(lease_s) * 7 / 8) as u32;
        let t2_s = options.number(T2).filter(|&t2| t2 < lease_s && t2 > least).unwrap_or(t2);
        let t1_s = options
            .number(T1)
            .filter(|&t1| t1 < t2_s && t1 >= least)
            .unwrap_or_else(|| (lease_s / 2).min(t2_s));
        let mtu = options.get(MTU).and_then(|value| value.try_into().ok().map(u16::from_be_bytes));
        Some(Self {
            address,
            prefix_len,
            routes,
            dns: options.addresses(DNS),
            ntp: options.addresses(NTP),
            // What every host takes (RFC 791 §3.1); less is a mistake.
            mtu: mtu.filter(|&mtu| mtu >= 576),
            lease_s,
            t1_s,
            t2_s,
        })
    }
}

/// What a client says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: Kind,
    pub(super) xid: u32,
    pub(super) secs: u16,
    /// Whether the answer is to go to all: no address of ours works yet (RFC 2131 §4.1).
    pub(super) broadcast: bool,
    /// Ours already.
    pub(super) own: Ipv4Addr,
    pub(super) mac: [u8; 6],
    pub(super) requested: Option<Ipv4Addr>,
    pub(super) server: Option<Ipv4Addr>,
    pub(super) client_id: &'a [u8],
    pub(super) hostname: &'a str,
}

impl Message<'_> {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LEAST + 300);
        out.extend([1, 1, 6, 0]);
        out.extend(self.xid.to_be_bytes());
        out.extend(self.secs.to_be_bytes());
        out.extend([if self.broadcast { 0x80 } else { 0 }, 0]);
        out.extend(self.own.octets());
        out.resize(28, 0);
        out.extend(self.mac);
        out.resize(FIXED, 0);
        out.extend(COOKIE);
        let mut option = |code: u8, value: &[u8]| {
            let value = value.get(..255).unwrap_or(value);
            out.extend([code, value.len() as u8]);
            out.extend_from_slice(value);
        };
        option(KIND, &[self.kind as u8]);
        option(CLIENT, self.client_id);
        if let Some(address) = self.requested {
            option(REQUESTED, &address.octets());
        }
        if let Some(server) = self.server {
            option(SERVER, &server.octets());
        }
        if matches!(self.kind, Kind::Discover | Kind::Request) {
            option(HOST_NAME, self.hostname.as_bytes());
            option(LONGEST, &1472_u16.to_be_bytes());
            option(PARAMETERS, &WANTED);
        }
        out.push(END);
        out.resize(out.len().max(LEAST), 0);
        out
    }
}
