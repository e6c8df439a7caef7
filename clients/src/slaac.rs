//! Addresses that an interface forms by itself of what routers advertise (RFC 4861 §6.3, RFC 4862).
//!
//! Interface identifiers are EUI-64 (RFC 4291 appendix A): a router's address is to be the same wherever its image runs, and
//! nothing of it is hidden by another one.

#[cfg(test)]
mod tests;

use crate::read::Bytes;
use crate::{NEVER, Random, after, jitter};
use alloc::vec::Vec;
use core::net::Ipv6Addr;

const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;
const ICMPV6: u8 = 58;
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

const PREFIX: u8 = 3;
const MTU: u8 = 5;
const RDNSS: u8 = 25;

/// Prefixes, routers and name servers that are remembered, each: more are no network but an attack.
const MOST: usize = 8;
/// RFC 4862 §5.5.3 (e): what nobody has signed shortens a lifetime to no less than two hours.
const TWO_HOURS_MS: u64 = 2 * 3600 * 1000;
/// Waits between solicitations (RFC 7559 §2).
const FIRST_MS: u64 = 4000;
const LONGEST_MS: u64 = 3_600_000;
/// The first waits up to so long (RFC 4861 §6.3.7).
const DELAY_MS: u64 = 1000;

/// A router's advertisement, as far as hosts heed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Advertisement {
    /// Addresses are to be had by DHCPv6.
    pub managed: bool,
    /// Other things are.
    pub other: bool,
    /// High, medium or low: 1, 0, -1 (RFC 4191 §2.1).
    pub preference: i8,
    /// Seconds that it is a default router; 0: it is none.
    pub lifetime_s: u16,
    /// Octets of an IP packet on the link.
    pub mtu: Option<u16>,
    /// Prefixes.
    pub prefixes: Vec<Information>,
    /// Name servers, with the seconds they may be used.
    pub dns: Vec<(Ipv6Addr, u32)>,
}

/// A prefix of an advertisement (RFC 4861 §4.6.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Information {
    /// Its address; bits behind its length are zero.
    pub prefix: Ipv6Addr,
    /// Bits.
    pub len: u8,
    /// What it covers is on the link.
    pub on_link: bool,
    /// Addresses are formed of it.
    pub autonomous: bool,
    /// Seconds.
    pub valid_s: u32,
    /// Seconds.
    pub preferred_s: u32,
}

impl Advertisement {
    /// Reads an ICMPv6 message whose checksum and hop limit are right.
    pub fn parse(message: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(message);
        let [ADVERTISEMENT, 0, _, _, _, flags] = bytes.array()? else { return None };
        let lifetime_s = bytes.u16()?;
        bytes.take(8)?;
        let mut read = Self {
            managed: flags & 0x80 != 0,
            other: flags & 0x40 != 0,
            preference: preference(flags),
            lifetime_s,
            mtu: None,
            prefixes: Vec::new(),
            dns: Vec::new(),
        };
        while let Some(kind) = bytes.u8() {
            let units = usize::from(bytes.u8()?);
            // RFC 4861 §4.6: an option without length makes the message invalid.
            let value = bytes.take((units * 8).checked_sub(2)?)?;
            let _ = read.option(kind, Bytes(value));
        }
        Some(read)
    }

    fn option(&mut self, kind: u8, mut value: Bytes<'_>) -> Option<()> {
        match kind {
            PREFIX => {
                let [len, flags] = value.array()?;
                let (valid_s, preferred_s) = (value.u32()?, value.u32()?);
                value.take(4)?;
                let bits = u128::from_be_bytes(value.array()?);
                let mask = u128::MAX.checked_shl(128 - u32::from(len.min(128))).unwrap_or(0);
                let prefix = Ipv6Addr::from_bits(bits & mask);
                let usable =
                    len <= 128 && preferred_s <= valid_s && is_prefix(prefix) && self.prefixes.len() < MOST;
                if usable {
                    let (on_link, autonomous) = (flags & 0x80 != 0, flags & 0x40 != 0);
                    self.prefixes.push(Information {
                        prefix,
                        len,
                        on_link,
                        autonomous,
                        valid_s,
                        preferred_s,
                    });
                }
            }
            MTU => {
                value.take(2)?;
                let mtu = u16::try_from(value.u32()?).ok();
                self.mtu = mtu.filter(|&mtu| mtu >= 1280);
            }
            RDNSS => {
                value.take(2)?;
                let lifetime_s = value.u32()?;
                while let Some(octets) = value.array::<16>() {
                    let address = Ipv6Addr::from(octets);
                    if self.dns.len() < MOST && !address.is_multicast() && !address.is_unspecified() {
                        self.dns.push((address, lifetime_s));
                    }
                }
            }
            _ => {}
        }
        Some(())
    }
}

/// Whether a host's address can have it, link-local ones excepted.
fn is_prefix(address: Ipv6Addr) -> bool {
    !(address.is_multicast()
        || address.is_unspecified()
        || address.is_loopback()
        || address.is_unicast_link_local())
}

/// RFC 4191 §2.2: the reserved value counts as medium.
fn preference(flags: u8) -> i8 {
    match flags >> 3 & 3 {
        1 => 1,
        3 => -1,
        _ => 0,
    }
}

/// A prefix, and the address that was formed of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    /// Its address.
    pub prefix: Ipv6Addr,
    /// Bits.
    pub len: u8,
    /// The interface's address, if one was formed.
    pub address: Option<Ipv6Addr>,
    /// Until when others covered by it are on the link.
    pub on_link_until_ms: u64,
    /// Until when the address is the interface's.
    pub valid_until_ms: u64,
    /// Until when it is one for new connections.
    pub preferred_until_ms: u64,
    /// That is over (RFC 4862 §5.5.4).
    pub deprecated: bool,
}

/// A router that may be the default one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Router {
    /// Its link-local address.
    pub address: Ipv6Addr,
    /// High, medium or low: 1, 0, -1.
    pub preference: i8,
    /// Until when.
    pub until_ms: u64,
}

/// One interface.
pub struct Client {
    mac: [u8; 6],
    random: Random,
    /// Solicitations sent in vain.
    tries: u32,
    solicit_ms: u64,
    prefixes: Vec<Prefix>,
    routers: Vec<Router>,
    dns: Vec<(Ipv6Addr, u64)>,
    mtu: Option<u16>,
    flags: (bool, bool),
}

impl Client {
    /// Asks soon.
    pub fn new(mac: [u8; 6], random: Random, now_ms: u64) -> Self {
        Self {
            mac,
            random,
            tries: 0,
            solicit_ms: now_ms + random() % DELAY_MS,
            prefixes: Vec::new(),
            routers: Vec::new(),
            dns: Vec::new(),
            mtu: None,
            flags: (false, false),
        }
    }

    /// The station address that it forms addresses of.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The link was away: routers are asked at once.
    pub fn link_is_back(&mut self, now_ms: u64) {
        (self.tries, self.solicit_ms) = (0, now_ms + (self.random)() % DELAY_MS);
    }

    /// Takes the advertisement of the router at `source`. Whether something changed but lifetimes.
    pub fn input(&mut self, message: &[u8], source: Ipv6Addr, now_ms: u64) -> bool {
        if !source.is_unicast_link_local() {
            return false;
        }
        let Some(told) = Advertisement::parse(message) else { return false };
        let before = self.shape();
        // RFC 7559 §2: until there is a default router, questions go on.
        if told.lifetime_s > 0 {
            self.solicit_ms = NEVER;
        }
        self.hear_router(&told, source, now_ms);
        for information in &told.prefixes {
            self.hear_prefix(information, now_ms);
        }
        for &(address, lifetime_s) in &told.dns {
            self.dns.retain(|(known, _)| *known != address);
            if lifetime_s > 0 && self.dns.len() < MOST {
                self.dns.push((address, after(now_ms, lifetime_s)));
            }
        }
        self.mtu = told.mtu.or(self.mtu);
        self.flags = (told.managed, told.other);
        self.shape() != before
    }

    fn hear_router(&mut self, told: &Advertisement, source: Ipv6Addr, now_ms: u64) {
        let until_ms = now_ms + u64::from(told.lifetime_s) * 1000;
        let at = self.routers.iter().position(|router| router.address == source);
        match (at, told.lifetime_s) {
            (Some(at), 0) => _ = self.routers.remove(at),
            (Some(at), _) => {
                if let Some(router) = self.routers.get_mut(at) {
                    *router = Router { address: source, preference: told.preference, until_ms };
                }
            }
            (None, 0) => {}
            (None, _) if self.routers.len() < MOST => {
                self.routers.push(Router { address: source, preference: told.preference, until_ms });
            }
            (None, _) => {}
        }
    }

    /// RFC 4861 §6.3.4 and RFC 4862 §5.5.3.
    fn hear_prefix(&mut self, told: &Information, now_ms: u64) {
        let forms = told.autonomous && told.len == 64;
        if !(forms || told.on_link) {
            return;
        }
        let same = |known: &&mut Prefix| (known.prefix, known.len) == (told.prefix, told.len);
        let until_ms = after(now_ms, told.valid_s);
        let preferred_until_ms = after(now_ms, told.preferred_s);
        let Some(known) = self.prefixes.iter_mut().find(same) else {
            if told.valid_s > 0 && self.prefixes.len() < MOST {
                self.prefixes.push(Prefix {
                    prefix: told.prefix,
                    len: told.len,
                    address: forms.then(|| formed(told.prefix, self.mac)),
                    on_link_until_ms: if told.on_link { until_ms } else { 0 },
                    valid_until_ms: if forms { until_ms } else { 0 },
                    preferred_until_ms,
                    deprecated: forms && preferred_until_ms <= now_ms,
                });
            }
            return;
        };
        if told.on_link {
            known.on_link_until_ms = until_ms;
        }
        if forms {
            // Whatever becomes of the other one.
            known.preferred_until_ms = preferred_until_ms;
            known.deprecated = preferred_until_ms <= now_ms;
            let left = known.valid_until_ms.saturating_sub(now_ms);
            known.valid_until_ms = if until_ms > now_ms + TWO_HOURS_MS || until_ms > known.valid_until_ms {
                until_ms
            } else if left <= TWO_HOURS_MS {
                known.valid_until_ms
            } else {
                now_ms + TWO_HOURS_MS
            };
            if known.address.is_none() && told.valid_s > 0 {
                known.address = Some(formed(told.prefix, self.mac));
                known.valid_until_ms = until_ms;
            }
        }
    }

    /// Forgets what ran out. A solicitation, if one is due: the ICMPv6 message from `source`, as a packet. And whether
    /// something ran out.
    pub fn poll(&mut self, source: Ipv6Addr, now_ms: u64) -> (Option<Vec<u8>>, bool) {
        let before = self.shape();
        self.routers.retain(|router| router.until_ms > now_ms);
        self.dns.retain(|&(_, until_ms)| until_ms > now_ms);
        for prefix in &mut self.prefixes {
            prefix.deprecated = prefix.address.is_some() && prefix.preferred_until_ms <= now_ms;
            if prefix.valid_until_ms <= now_ms {
                prefix.address = None;
            }
        }
        self.prefixes.retain(|prefix| prefix.address.is_some() || prefix.on_link_until_ms > now_ms);
        let changed = self.shape() != before;
        if changed && self.routers.is_empty() && self.solicit_ms == NEVER {
            (self.tries, self.solicit_ms) = (0, now_ms);
        }
        if self.solicit_ms > now_ms {
            return (None, changed);
        }
        let wait = (FIRST_MS << self.tries.min(12)).min(LONGEST_MS);
        self.solicit_ms = now_ms + jitter(self.random, wait, 10);
        self.tries += 1;
        (Some(solicitation(source, self.mac)), changed)
    }

    /// When to [`poll`](Self::poll) at the latest.
    pub fn deadline_ms(&self) -> u64 {
        self.solicit_ms.min(self.runs_out_ms())
    }

    /// When something runs out.
    pub fn runs_out_ms(&self) -> u64 {
        let routers = self.routers.iter().map(|router| router.until_ms);
        let dns = self.dns.iter().map(|&(_, until_ms)| until_ms);
        let prefixes = self.prefixes.iter().flat_map(|prefix| {
            let address = prefix.address.map_or(NEVER, |_| prefix.valid_until_ms);
            let fresh = prefix.address.filter(|_| !prefix.deprecated);
            let preferred = fresh.map_or(NEVER, |_| prefix.preferred_until_ms);
            let on_link = if prefix.on_link_until_ms == 0 { NEVER } else { prefix.on_link_until_ms };
            // Of a prefix that is off the link by now, the address counts.
            let on_link = if on_link < address && prefix.address.is_some() { NEVER } else { on_link };
            [address, preferred, on_link]
        });
        routers.chain(dns).chain(prefixes).min().unwrap_or(NEVER)
    }

    /// Prefixes on the link, and the addresses formed of them.
    pub fn prefixes(&self) -> &[Prefix] {
        &self.prefixes
    }

    /// The default router: of those with the best preference the first that was heard of.
    pub fn router(&self) -> Option<&Router> {
        let best = self.routers.iter().map(|router| router.preference).max()?;
        self.routers.iter().find(|router| router.preference == best)
    }

    /// Name servers.
    pub fn dns(&self) -> impl Iterator<Item = Ipv6Addr> + '_ {
        self.dns.iter().map(|&(address, _)| address)
    }

    /// Octets of an IP packet on the link.
    pub fn mtu(&self) -> Option<u16> {
        self.mtu
    }

    /// Whether DHCPv6 has addresses, and whether other things.
    pub fn dhcp(&self) -> (bool, bool) {
        self.flags
    }

    /// All but lifetimes.
    fn shape(&self) -> impl PartialEq + use<> {
        let prefix = |prefix: &Prefix| (prefix.prefix, prefix.len, prefix.address, prefix.deprecated);
        let prefixes = self.prefixes.iter().map(prefix);
        let router = Client::router(self).map(|router| router.address);
        (prefixes.collect::<Vec<_>>(), router, self.dns().collect::<Vec<_>>(), self.mtu, self.flags)
    }
}

/// The prefix's 64 bits and as many of the station (RFC 4291 appendix A).
fn formed(prefix: Ipv6Addr, mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let id = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Ipv6Addr::from_bits(prefix.to_bits() & !u128::from(u64::MAX) | u128::from(id))
}

/// The packet of a router solicitation (RFC 4861 §4.1).
fn solicitation(source: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    let mut message = Vec::from([SOLICITATION, 0, 0, 0, 0, 0, 0, 0]);
    // From nobody it tells no station (RFC 4861 §4.1).
    if !source.is_unspecified() {
        message.extend([1, 1]);
        message.extend(mac);
    }
    packet(source, ALL_ROUTERS, message)
}

/// An IPv6 packet with an ICMPv6 message whose checksum is not there yet; its hop limit says that it never left the link.
pub(crate) fn packet(source: Ipv6Addr, to: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let len = (message.len() as u16).to_be_bytes();
    let words = |bytes: &[u8]| -> u32 {
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from)).sum()
    };
    let mut sum = words(&source.octets())
        + words(&to.octets())
        + message.len() as u32
        + u32::from(ICMPV6)
        + words(&message);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    if let Some(place) = message.get_mut(2..4) {
        place.copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }
    let mut packet = Vec::from([0x60, 0, 0, 0, len[0], len[1], ICMPV6, 255]);
    packet.extend(source.octets());
    packet.extend(to.octets());
    packet.extend(message);
    packet
}
