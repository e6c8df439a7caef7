//! Hosts, nets and protocols over IP.

use super::Wrong;
use super::lower::{Lower, Qualified};
use super::syntax::{Direction, Identity, Qualifiers, What};
use super::table::Id;
use super::value::Size;
use super::words::{ARP, IP, IP6, Protocol, RARP, over_ethernet, over_ip, service};
use core::ops::Range;

impl Lower {
    /// A host or a net.
    pub(super) fn address(&mut self, qualified: &Qualified<'_>) -> Result<Id, Wrong> {
        let Qualified { qualifiers, identity, name, span, value } = *qualified;
        let is_net = qualifiers.kind == Some(What::Net);
        let is_ether = qualifiers.protocol == Some(Protocol::Link);
        let (address, mask) = match *identity {
            Identity::Mac(mac) if is_ether && !is_net => {
                return self.station(mac, qualifiers.direction, span);
            }
            Identity::Mac(_) => {
                return Err(Wrong::new(value.clone(), &["this is the address of a station"])
                    .help("write ether host, ether src or ether dst before it"));
            }
            Identity::Name(_) => return Err(unknown(name.unwrap_or_default(), is_net, value)),
            _ if is_ether => {
                return Err(Wrong::new(value.clone(), &["this is no address of a station"])
                    .help("they look like 52:54:00:12:34:56 (an IP address takes host without ether)"));
            }
            Identity::Address6(address) => {
                return self.either_ip6(qualifiers, u128::from(address), u128::MAX, span);
            }
            Identity::Net6(address, length) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                return self.either_ip6(qualifiers, u128::from(address), mask, span);
            }
            Identity::Net4 { address, mask } => (address, mask),
            // Fewer than four numbers are the first ones of a net, whatever the word before them.
            Identity::Address4(address, bits) => (address << (32 - bits), u32::MAX << (32 - bits)),
            Identity::Number(number) => short_net(number, is_net),
        };
        self.either_ip4(qualifiers, address, mask, span)
    }

    fn either_ip4(
        &mut self,
        qualifiers: Qualifiers,
        address: u32,
        mask: u32,
        span: &Range<usize>,
    ) -> Result<Id, Wrong> {
        let wanted: &[u16] = match qualifiers.protocol {
            None => &[IP, ARP, RARP],
            Some(Protocol::Type(IP)) => &[IP],
            Some(Protocol::Type(ARP)) => &[ARP],
            Some(Protocol::Type(RARP)) => &[RARP],
            _ => return Err(misqualified("only ip, arp and rarp have IPv4", span)),
        };
        // Nothing tells ARP behind a label.
        let wanted = if self.headers.labels > 0 && wanted.len() > 1 { &wanted[..1] } else { wanted };
        let mut all = None;
        for &protocol in wanted {
            let (source, destination) = if protocol == IP { (12, 16) } else { (14, 24) };
            let carried = self.carries(protocol, span)?;
            let network = self.headers.network;
            let found = self.either_end(qualifiers.direction, |lower, end| {
                let at = network.plus(if end == Direction::Source { source } else { destination });
                let right = lower.equal_masked(Size::Word, at, mask, address);
                lower.conditions.both(carried, right)
            });
            all = Some(match all {
                None => found,
                Some(earlier) => self.conditions.either(earlier, found),
            });
        }
        Ok(all.unwrap_or_default())
    }

    fn either_ip6(
        &mut self,
        qualifiers: Qualifiers,
        address: u128,
        mask: u128,
        span: &Range<usize>,
    ) -> Result<Id, Wrong> {
        if !matches!(qualifiers.protocol, None | Some(Protocol::Type(IP6))) {
            return Err(misqualified("only ip6 has IPv6", span));
        }
        let carried = self.carries(IP6, span)?;
        let network = self.headers.network;
        Ok(self.either_end(qualifiers.direction, |lower, end| {
            let mut at = network.plus(if end == Direction::Source { 8 } else { 24 });
            let mut all = carried;
            for shift in [96, 64, 32, 0] {
                let (mask, word) = ((mask >> shift) as u32, (address >> shift) as u32);
                if mask != 0 {
                    let right = lower.equal_masked(Size::Word, at, mask, word);
                    all = lower.conditions.both(all, right);
                }
                at = at.plus(4);
            }
            all
        }))
    }

    /// `proto` with a number or a name.
    pub(super) fn proto(&mut self, qualified: &Qualified<'_>) -> Result<Id, Wrong> {
        let Qualified { qualifiers, identity, name, span, value } = *qualified;
        let on_link = qualifiers.protocol == Some(Protocol::Link);
        let number = match (identity, name) {
            (Identity::Number(number), _) => Some(*number),
            (_, Some(name)) if on_link => over_ethernet(name),
            (_, Some(name)) => over_ip(name),
            _ => None,
        };
        let Some(number) = number else {
            let what = match name {
                Some(name) => ["\"", name, "\" is the name of no protocol known here"],
                None => ["", "an address", " is no protocol"],
            };
            return Err(Wrong::new(value.clone(), &what).help("write its number"));
        };
        let most = if on_link { 0xffff } else { 0xff };
        if number > most {
            let most = if on_link { "65535" } else { "255" };
            return Err(Wrong::new(value.clone(), &["the numbers of these protocols end with ", most]));
        }
        match qualifiers.protocol {
            None => self.carried_by_ip(number, span),
            Some(Protocol::Link) => self.carries(number as u16, span),
            Some(Protocol::Type(IP)) => self.carried_by_ip4(number, span),
            Some(Protocol::Type(IP6)) => self.carried_by_ip6(number, span),
            _ => Err(Wrong::new(span.clone(), &["only ip, ip6 and ether tell what they carry"])
                .help("write proto, ip proto, ip6 proto or ether proto")),
        }
    }
}

/// A number as an address: a net's first ones (`net 10`), or all of a host's.
fn short_net(number: u32, is_net: bool) -> (u32, u32) {
    let zeros = number.leading_zeros() / 8 * 8;
    if is_net && number != 0 { (number << zeros, u32::MAX << zeros) } else { (number, u32::MAX) }
}

fn misqualified(who: &str, span: &Range<usize>) -> Wrong {
    Wrong::new(span.clone(), &[who, " addresses"]).help("join others by and: tcp and host 192.0.2.1")
}

fn unknown(name: &str, is_net: bool, span: &Range<usize>) -> Wrong {
    let what = if is_net {
        "\" is no net: names are not looked up"
    } else {
        "\" is no address: names are not looked up"
    };
    let wrong = Wrong::new(span.clone(), &["\"", name, what]);
    if service(name).is_some() {
        return wrong.help("write port before the name of a service");
    }
    wrong.help(if is_net { "write it as 192.0.2.0/24 or 2001:db8::/32" } else { "write the address itself" })
}
