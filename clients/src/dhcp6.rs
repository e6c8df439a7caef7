//! A DHCPv6 client for one interface (RFC 9915): addresses (IA_NA), or name servers alone, as routers advertise.
//!
//! [`Client::poll`] gives what is to be sent to [`SERVERS`], [`Client::input`] takes what came, [`Client::deadline_ms`] says
//! when to poll again.

mod message;
#[cfg(test)]
mod tests;

pub use message::{Association, Given, Kind, Reply};

use crate::pace::Pace;
use crate::{NEVER, Random, after, jitter, least_t1_s};
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use message::{MOST, NO_BINDING, Request, SUCCESS};

/// Ports of clients and of servers.
pub const CLIENT_PORT: u16 = 546;
/// As above.
pub const SERVER_PORT: u16 = 547;
/// All relay agents and servers of the link (RFC 9915 §7.1).
pub const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// RFC 9915 §7.6: the first message waits up to so long, on every way in.
const DELAY_MS: u64 = 1000;
/// SOL_MAX_RT and INF_MAX_RT, and what servers may make of them (RFC 9915 §21.24).
const MAX_RT_S: u32 = 3600;
const MAX_RT_RANGE_S: core::ops::RangeInclusive<u32> = 60..=86_400;
/// REQ_MAX_RC, CNF_MAX_RD.
const REQUESTS: u32 = 10;
const CONFIRM_MS: u64 = 10_000;
/// After a DECLINE, or where a server has no address any more.
const AGAIN_MS: u64 = 10_000;
/// REL_TIMEOUT and DEC_TIMEOUT, REL_MAX_RC and DEC_MAX_RC.
const PARTING_MS: u64 = 1000;
const PARTINGS: u32 = 4;
/// IRT_DEFAULT and IRT_MINIMUM (RFC 9915 §21.23): when other things are asked for again.
const REFRESH_S: u32 = 86_400;
const REFRESH_LEAST_S: u32 = 600;

/// What the link's routers say is to be had (RFC 4861 §4.2, flags M and O).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// Nothing.
    Nothing,
    /// Name servers.
    Other,
    /// Addresses, and name servers.
    Addresses,
}

/// What was learnt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// There are addresses, or others than before.
    Gained,
    /// They go on.
    Renewed,
    /// One is not to be preferred any more.
    Deprecated,
    /// They ended; why.
    Lost(&'static str),
    /// Name servers are known, or other ones.
    Informed,
}

/// Addresses in force.
struct Lease {
    /// At least one.
    addresses: Vec<Leased>,
    /// Who granted them.
    server: Vec<u8>,
    renew_ms: u64,
    rebind_ms: u64,
}

/// An address in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leased {
    /// The address.
    pub address: Ipv6Addr,
    /// When it ends.
    pub valid_until_ms: u64,
    /// When it is deprecated.
    pub preferred_until_ms: u64,
    /// It is: no connection begins from it while there is another one (RFC 4862 §5.5.4).
    pub deprecated: bool,
}

impl Leased {
    fn new(given: &Given, now_ms: u64) -> Self {
        let preferred_until_ms = after(now_ms, given.preferred_s);
        Self {
            address: given.address,
            valid_until_ms: after(now_ms, given.valid_s),
            preferred_until_ms,
            deprecated: preferred_until_ms <= now_ms,
        }
    }

    /// When time alone changes it.
    fn changes_ms(&self) -> u64 {
        if self.deprecated { self.valid_until_ms } else { self.preferred_until_ms }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing is asked.
    Idle,
    /// A message of this kind is out, or about to be.
    Asking(Kind),
    /// There are addresses.
    Bound,
    /// Other things are known.
    Informed,
}

/// A RELEASE or DECLINE that its server has not answered yet. It goes on beside whatever else is asked.
struct Parting {
    kind: Kind,
    xid: u32,
    server: Vec<u8>,
    addresses: Vec<Ipv6Addr>,
    began_ms: u64,
    wait_ms: u64,
    tries: u32,
    due_ms: u64,
}

/// The client of one interface.
pub struct Client {
    mac: [u8; 6],
    iaid: u32,
    random: Random,
    wanted: Wanted,
    state: State,
    xid: u32,
    /// When this exchange began.
    began_ms: u64,
    /// The wait for an answer before this one.
    wait_ms: u64,
    tries: u32,
    due_ms: u64,
    pace: Pace,
    /// The best offer so far: who made it, how it is preferred, what it is.
    offer: Option<(Vec<u8>, u8, Association)>,
    lease: Option<Lease>,
    partings: Vec<Parting>,
    dns: Vec<Ipv6Addr>,
    solicit_max_s: u32,
    inform_max_s: u32,
}

impl Client {
    /// Asks nothing until that is [wanted](Self::want).
    pub fn new(mac: [u8; 6], iaid: u32, random: Random) -> Self {
        Self {
            mac,
            iaid,
            random,
            wanted: Wanted::Nothing,
            state: State::Idle,
            xid: 0,
            began_ms: 0,
            wait_ms: 0,
            tries: 0,
            due_ms: NEVER,
            pace: Pace::default(),
            offer: None,
            lease: None,
            partings: Vec::new(),
            dns: Vec::new(),
            solicit_max_s: MAX_RT_S,
            inform_max_s: MAX_RT_S,
        }
    }

    /// The station address, which tells the router from other clients.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Addresses in force.
    pub fn addresses(&self) -> &[Leased] {
        self.lease.as_ref().map_or(&[], |lease| &lease.addresses)
    }

    /// Name servers, the best first (RFC 3646).
    pub fn dns(&self) -> &[Ipv6Addr] {
        &self.dns
    }

    /// When to [`poll`](Self::poll) at the latest.
    pub fn deadline_ms(&self) -> u64 {
        let partings = self.partings.iter().map(|parting| parting.due_ms);
        partings.fold(self.due_ms.min(self.runs_out_ms()), u64::min)
    }

    /// When the next address is deprecated or ends, whether or not anything can be sent.
    pub fn runs_out_ms(&self) -> u64 {
        self.addresses().iter().map(Leased::changes_ms).min().unwrap_or(NEVER)
    }

    /// Routers say what is to be had. Addresses in force stay until they end.
    pub fn want(&mut self, wanted: Wanted, now_ms: u64) {
        if core::mem::replace(&mut self.wanted, wanted) == wanted || self.lease.is_some() {
            return;
        }
        self.begin(now_ms + (self.random)() % DELAY_MS);
        if self.state == State::Idle {
            self.dns.clear();
        }
    }

    /// The link was away: whether the addresses still belong there is to be asked (RFC 9915 §18.2.12).
    pub fn link_is_back(&mut self, now_ms: u64) {
        let at_ms = now_ms + (self.random)() % DELAY_MS;
        match self.lease {
            Some(_) => self.ask(Kind::Confirm, at_ms),
            None => self.begin(at_ms),
        }
    }

    /// What is to be done now: a message, and what is learnt from time passing. To be called until it has neither.
    pub fn poll(&mut self, now_ms: u64) -> (Option<Vec<u8>>, Option<Event>) {
        if let Some(event) = self.run_out(now_ms) {
            return (None, Some(event));
        }
        if let Some(message) = self.tell(now_ms) {
            return (Some(message), None);
        }
        if now_ms < self.due_ms {
            return (None, None);
        }
        if let Err(later_ms) = self.pace.take(now_ms) {
            self.due_ms = later_ms;
            return (None, None);
        }
        let rebind_ms = self.lease.as_ref().map_or(NEVER, |lease| lease.rebind_ms);
        match self.state {
            State::Idle => {
                self.due_ms = NEVER;
                return (None, None);
            }
            State::Informed => self.ask(Kind::Information, now_ms),
            State::Bound => self.ask(Kind::Renew, now_ms),
            State::Asking(Kind::Solicit) if self.offer.is_some() => self.ask(Kind::Request, now_ms),
            State::Asking(Kind::Request) if self.tries >= REQUESTS => self.begin(now_ms),
            State::Asking(Kind::Confirm) if now_ms >= self.began_ms + CONFIRM_MS => {
                // Nobody says no (RFC 9915 §18.2.3).
                self.rest();
                return (None, None);
            }
            State::Asking(Kind::Renew) if now_ms >= rebind_ms => self.ask(Kind::Rebind, now_ms),
            State::Asking(_) => {}
        }
        let State::Asking(kind) = self.state else { return (None, None) };
        let message = self.message(kind, now_ms);
        self.wait(kind, now_ms);
        if kind == Kind::Renew {
            self.due_ms = self.due_ms.min(rebind_ms.max(now_ms + 1));
        }
        (Some(message), None)
    }

    /// What time alone does to the addresses, one thing after the other.
    fn run_out(&mut self, now_ms: u64) -> Option<Event> {
        let addresses = &mut self.lease.as_mut()?.addresses;
        if addresses.iter().any(|own| own.valid_until_ms <= now_ms) {
            addresses.retain(|own| own.valid_until_ms > now_ms);
            if addresses.is_empty() {
                self.lease = None;
                self.begin(now_ms);
            }
            return Some(Event::Lost("it ran out"));
        }
        let fresh = |own: &&mut Leased| !own.deprecated && own.preferred_until_ms <= now_ms;
        let aged = addresses.iter_mut().filter(fresh).map(|own| own.deprecated = true).count();
        (aged > 0).then_some(Event::Deprecated)
    }

    /// Takes a message that came to [`CLIENT_PORT`].
    pub fn input(&mut self, bytes: &[u8], now_ms: u64) -> Option<Event> {
        let reply = Reply::parse(bytes)?;
        if reply.client != self.duid() {
            return None;
        }
        if reply.kind == Kind::Reply {
            // Whatever its status is (RFC 9915 §18.2.10.2, §18.2.10.3).
            self.partings.retain(|parting| parting.tries == 0 || parting.xid != reply.xid);
        }
        let State::Asking(asked) = self.state else { return None };
        if reply.xid != self.xid || self.tries == 0 {
            return None;
        }
        // Also of answers that are no use (RFC 9915 §18.2.9).
        for (told, own) in
            [(reply.solicit_max_s, &mut self.solicit_max_s), (reply.inform_max_s, &mut self.inform_max_s)]
        {
            *own = told.filter(|told| MAX_RT_RANGE_S.contains(told)).unwrap_or(*own);
        }
        let association = reply.associations.iter().find(|one| one.iaid == self.iaid);
        match (asked, reply.kind) {
            (Kind::Solicit, Kind::Advertise) => {
                let offered = association.filter(|one| one.is_usable() && reply.status == SUCCESS)?;
                if self.offer.as_ref().is_none_or(|&(_, best, _)| reply.preference > best) {
                    self.offer = Some((reply.server, reply.preference, offered.clone()));
                }
                // Later ones, and the best there can be, are not waited for (RFC 9915 §18.2.1).
                if self.tries > 1 || reply.preference == u8::MAX {
                    self.due_ms = now_ms;
                }
                None
            }
            (Kind::Solicit, Kind::Reply)
                if reply.rapid && association.is_some_and(Association::is_usable) =>
            {
                self.bind(asked, &reply, now_ms)
            }
            (Kind::Request | Kind::Renew | Kind::Rebind, Kind::Reply) => self.bind(asked, &reply, now_ms),
            (Kind::Confirm, Kind::Reply) if reply.status == SUCCESS => {
                self.rest();
                None
            }
            (Kind::Confirm, Kind::Reply) => self.lose("it belongs to another link", now_ms),
            (Kind::Information, Kind::Reply) => {
                let seconds = reply.refresh_s.unwrap_or(REFRESH_S).max(REFRESH_LEAST_S);
                (self.state, self.due_ms) = (State::Informed, after(now_ms, seconds));
                self.inform(reply.dns)
            }
            _ => None,
        }
    }

    /// Gives the addresses back: they are taken out of the configuration. Nothing else is asked from now on; it is done when
    /// nothing is due any more.
    pub fn release(&mut self, now_ms: u64) {
        if let Some(lease) = self.lease.take() {
            let addresses = lease.addresses.into_iter().map(|own| own.address).collect();
            self.part(Kind::Release, lease.server, addresses, now_ms);
        }
        self.wanted = Wanted::Nothing;
        self.begin(now_ms);
    }

    /// Somebody else has an address: the server is told (RFC 9915 §18.2.8), the others are kept. Without any it is asked for
    /// another one after a while.
    pub fn decline(&mut self, address: Ipv6Addr, now_ms: u64) {
        let Some(lease) = &mut self.lease else { return };
        let Some(at) = lease.addresses.iter().position(|own| own.address == address) else { return };
        lease.addresses.remove(at);
        let (server, is_last) = (lease.server.clone(), lease.addresses.is_empty());
        self.part(Kind::Decline, server, Vec::from([address]), now_ms);
        if is_last {
            self.lease = None;
            return self.begin(now_ms + AGAIN_MS + (self.random)() % DELAY_MS);
        }
        match self.state {
            // What is under way may name it.
            State::Asking(kind) => {
                if let Some((_, _, offered)) = &mut self.offer {
                    offered.given.retain(|given| given.address != address);
                }
                self.ask(kind, now_ms);
            }
            _ => self.rest(),
        }
    }

    fn part(&mut self, kind: Kind, server: Vec<u8>, addresses: Vec<Ipv6Addr>, now_ms: u64) {
        let xid = self.new_xid();
        let (began_ms, due_ms) = (now_ms, now_ms);
        self.partings.push(Parting { kind, xid, server, addresses, began_ms, wait_ms: 0, tries: 0, due_ms });
    }

    /// The next RELEASE or DECLINE that is due. Who never answers is left alone (RFC 9915 §18.2.7, §18.2.8).
    fn tell(&mut self, now_ms: u64) -> Option<Vec<u8>> {
        self.partings.retain(|parting| parting.due_ms > now_ms || parting.tries < PARTINGS);
        let (client, iaid) = (self.duid(), self.iaid);
        let parting = self.partings.iter_mut().find(|parting| parting.due_ms <= now_ms)?;
        if let Err(later_ms) = self.pace.take(now_ms) {
            parting.due_ms = later_ms;
            return None;
        }
        parting.wait_ms = match parting.tries {
            0 => jitter(self.random, PARTING_MS, 10),
            _ => jitter(self.random, 2 * parting.wait_ms, 20),
        };
        parting.tries += 1;
        parting.due_ms = now_ms + parting.wait_ms;
        let &mut Parting { kind, xid, ref server, ref addresses, began_ms, .. } = parting;
        let elapsed = elapsed(began_ms, now_ms);
        Some(Request { kind, xid, client: &client, server: Some(server), iaid, addresses, elapsed }.bytes())
    }

    /// A reply that should have addresses in it (RFC 9915 §18.2.10).
    fn bind(&mut self, asked: Kind, reply: &Reply, now_ms: u64) -> Option<Event> {
        let own = reply.associations.iter().find(|one| one.iaid == self.iaid);
        if own.is_some_and(|one| one.status == NO_BINDING) && self.lease.is_some() {
            if asked == Kind::Request {
                return self.lose("the server does not know it", now_ms + AGAIN_MS);
            }
            // It forgot us, and is asked for the same again.
            self.offer = self.lease.as_ref().map(|lease| {
                let given = |own: &Leased| Given { address: own.address, preferred_s: 0, valid_s: 0 };
                let given = lease.addresses.iter().map(given).collect();
                let offered = Association { iaid: self.iaid, t1_s: 0, t2_s: 0, status: SUCCESS, given };
                (reply.server.clone(), 0, offered)
            });
            self.ask(Kind::Request, now_ms);
            return None;
        }
        let Some(own) = own.filter(|_| reply.status == SUCCESS) else {
            return match self.lease {
                // Others may know better; until then it is asked again.
                Some(_) => None,
                None => self.lose("", now_ms + AGAIN_MS),
            };
        };
        // Of those that it does not name nothing is known anew: they stay until they end (RFC 9915 §18.2.10.1).
        let named = |address| own.given.iter().find(|given| given.address == address);
        let before = self.addresses().to_vec();
        let mut addresses = before.clone();
        addresses.retain(|known| named(known.address).is_none_or(|given| given.valid_s > 0));
        if !own.is_usable() {
            if addresses.is_empty() {
                return self.lose("the server took it back", now_ms + AGAIN_MS);
            }
            let is_less = addresses.len() < before.len();
            if let Some(lease) = &mut self.lease {
                lease.addresses = addresses;
            }
            return is_less.then_some(Event::Gained);
        }
        let live = || own.given.iter().filter(|given| given.valid_s > 0);
        for given in live() {
            let leased = Leased::new(given, now_ms);
            if let Some(known) = addresses.iter_mut().find(|known| known.address == given.address) {
                *known = leased;
                continue;
            }
            if addresses.len() >= MOST
                && let Some(oldest) = addresses.iter().position(|known| named(known.address).is_none())
            {
                addresses.remove(oldest);
            }
            addresses.push(leased);
        }
        // RFC 9915 §21.4: half and four fifths of the shortest preferred lifetime, where the server leaves it to us.
        let least = least_t1_s(live().map(|given| given.valid_s).min().unwrap_or_default());
        let shortest = live().map(|given| given.preferred_s).min().unwrap_or_default().max(2 * least);
        let part = |told: u32, tenths: u64| match told {
            told if told >= least => after(now_ms, told),
            _ if shortest == u32::MAX => NEVER,
            _ => now_ms + u64::from(shortest) * tenths * 100,
        };
        let renew_ms = part(own.t1_s, 5);
        let rebind_ms = part(own.t2_s, 8).max(renew_ms);
        let shown = |own: &Leased| (own.address, own.deprecated);
        let same = before.iter().map(shown).eq(addresses.iter().map(shown));
        self.lease = Some(Lease { addresses, server: reply.server.clone(), renew_ms, rebind_ms });
        self.rest();
        let informed = self.inform(reply.dns.clone());
        if same { informed.or(Some(Event::Renewed)) } else { Some(Event::Gained) }
    }

    fn inform(&mut self, dns: Vec<Ipv6Addr>) -> Option<Event> {
        let news = self.dns != dns;
        self.dns = dns;
        news.then_some(Event::Informed)
    }

    fn lose(&mut self, why: &'static str, again_ms: u64) -> Option<Event> {
        let had = self.lease.take();
        self.begin(again_ms);
        had.map(|_| Event::Lost(why))
    }

    /// Bound, until the addresses are to be renewed.
    fn rest(&mut self) {
        self.state = State::Bound;
        self.due_ms = self.lease.as_ref().map_or(NEVER, |lease| lease.renew_ms);
    }

    /// Begins to ask for what is wanted.
    fn begin(&mut self, at_ms: u64) {
        match self.wanted {
            Wanted::Addresses => self.ask(Kind::Solicit, at_ms),
            Wanted::Other => self.ask(Kind::Information, at_ms),
            Wanted::Nothing => (self.state, self.due_ms) = (State::Idle, NEVER),
        }
    }

    /// Another exchange, from `at_ms` on.
    fn ask(&mut self, kind: Kind, at_ms: u64) {
        if kind == Kind::Solicit {
            self.offer = None;
        }
        self.state = State::Asking(kind);
        self.xid = self.new_xid();
        (self.began_ms, self.due_ms, self.tries) = (at_ms, at_ms, 0);
    }

    fn new_xid(&self) -> u32 {
        (self.random)() as u32 & 0xff_ffff
    }

    /// When the same is asked again (RFC 9915 §15, §7.6).
    fn wait(&mut self, kind: Kind, now_ms: u64) {
        let (first_ms, most_ms) = match kind {
            Kind::Solicit => (1000, u64::from(self.solicit_max_s) * 1000),
            Kind::Information => (1000, u64::from(self.inform_max_s) * 1000),
            Kind::Request => (1000, 30_000),
            Kind::Confirm => (1000, 4000),
            _ => (10_000, 600_000),
        };
        self.wait_ms = match self.tries {
            // Advertisements have a second at least (RFC 9915 §18.2.1).
            0 if kind == Kind::Solicit => first_ms + (self.random)() % (first_ms / 10),
            0 => jitter(self.random, first_ms, 10),
            _ if 2 * self.wait_ms > most_ms => jitter(self.random, most_ms, 10),
            _ => jitter(self.random, 2 * self.wait_ms, 20),
        };
        self.tries += 1;
        self.due_ms = now_ms + self.wait_ms;
    }

    /// The DUID of the link layer (RFC 9915 §11.4): it stays the same whatever the router forgets.
    fn duid(&self) -> [u8; 10] {
        let [a, b, c, d, e, f] = self.mac;
        [0, 3, 0, 1, a, b, c, d, e, f]
    }

    fn message(&self, kind: Kind, now_ms: u64) -> Vec<u8> {
        let leased = self.addresses().iter().map(|own| own.address);
        let (server, addresses): (Option<&[u8]>, Vec<Ipv6Addr>) = match (kind, &self.offer) {
            (Kind::Solicit | Kind::Information, _) => (None, Vec::new()),
            (Kind::Request, Some((server, _, offered))) => {
                (Some(server), offered.given.iter().map(|given| given.address).collect())
            }
            (Kind::Confirm | Kind::Rebind, _) => (None, leased.collect()),
            _ => (self.lease.as_ref().map(|lease| &*lease.server), leased.collect()),
        };
        Request {
            kind,
            xid: self.xid,
            client: &self.duid(),
            server,
            iaid: self.iaid,
            addresses: &addresses,
            elapsed: elapsed(self.began_ms, now_ms),
        }
        .bytes()
    }
}

/// Hundredths of a second, as many as there can be (RFC 9915 §21.9).
fn elapsed(began_ms: u64, now_ms: u64) -> u16 {
    (now_ms.saturating_sub(began_ms) / 10).min(u16::MAX.into()) as u16
}
