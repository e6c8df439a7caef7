//! A DHCP client for one interface (RFC 2131).
//!
//! [`Client::poll`] gives what is to be sent, [`Client::input`] takes what came, [`Client::deadline_ms`] says when to poll again.

mod message;
#[cfg(test)]
mod tests;

pub use message::{Grant, Kind, Reply};

use crate::pace::Pace;
use crate::{NEVER, Random, after, jitter};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use message::Message;

/// Ports of clients and of servers.
pub const CLIENT_PORT: u16 = 68;
/// As above.
pub const SERVER_PORT: u16 = 67;

/// The first wait for an answer, and the longest (RFC 2131 §4.1).
const FIRST_MS: u64 = 4000;
const LONGEST_MS: u64 = 64_000;
/// Requests for an offer that nobody confirms, until another one is looked for.
const REQUESTS: u32 = 4;
/// The least after a NAK or a DECLINE (RFC 2131 §3.1 (5)), so that a wrong server is no storm.
const AGAIN_MS: u64 = 10_000;
/// The shortest wait when renewing (RFC 2131 §4.4.5).
const RENEW_MS: u64 = 60_000;

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The interface's station address.
    pub mac: [u8; 6],
    /// What tells its interfaces apart for servers (RFC 4361 IAID).
    pub iaid: u32,
    /// The router's name.
    pub hostname: String,
}

/// A message to be sent from [`CLIENT_PORT`] to [`SERVER_PORT`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Send {
    /// The UDP payload.
    pub payload: Vec<u8>,
    /// The source; unspecified without a lease.
    pub from: Ipv4Addr,
    /// The server, or all.
    pub to: Ipv4Addr,
}

/// What was learnt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// There is a lease.
    Gained,
    /// It goes on, under other terms.
    Changed,
    /// It goes on.
    Renewed,
    /// It ended; why.
    Lost(&'static str),
}

/// A lease in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// Its terms.
    pub grant: Grant,
    /// Who granted it.
    pub server: Ipv4Addr,
    /// When it ends.
    pub until_ms: u64,
    /// When it is renewed, and when by any server.
    renew_ms: u64,
    rebind_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Waits, and has nothing.
    Init,
    Selecting,
    /// An offer was taken.
    Requesting {
        address: Ipv4Addr,
        server: Ipv4Addr,
    },
    Bound,
    Renewing,
    Rebinding,
}

/// The client of one interface.
pub struct Client {
    settings: Settings,
    client_id: Vec<u8>,
    random: Random,
    state: State,
    lease: Option<Lease>,
    xid: u32,
    /// When this attempt began, for servers to see who waits long.
    began_ms: u64,
    tries: u32,
    due_ms: u64,
    pace: Pace,
}

impl Client {
    /// Begins at once.
    pub fn new(settings: Settings, random: Random, now_ms: u64) -> Self {
        // RFC 4361 §6.1: 255, the IAID, a DUID; that one of the link layer (RFC 8415 §11.4).
        let mut client_id = Vec::from([255]);
        client_id.extend(settings.iaid.to_be_bytes());
        client_id.extend([0, 3, 0, 1]);
        client_id.extend(settings.mac);
        Self {
            settings,
            client_id,
            random,
            state: State::Init,
            lease: None,
            xid: 0,
            began_ms: now_ms,
            tries: 0,
            due_ms: now_ms,
            pace: Pace::default(),
        }
    }

    /// Who asks.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The router has another name by now: servers hear of it with the next message.
    pub fn rename(&mut self, hostname: &str) {
        self.settings.hostname = hostname.into();
    }

    /// What is in force.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// When to [`poll`](Self::poll) at the latest.
    pub fn deadline_ms(&self) -> u64 {
        self.due_ms.min(self.lease.as_ref().map_or(NEVER, |lease| lease.until_ms))
    }

    /// The link was away: whether the lease still holds there is to be asked at once.
    pub fn link_is_back(&mut self, now_ms: u64) {
        match self.lease {
            Some(_) => self.enter(State::Rebinding, now_ms),
            None => self.enter(State::Init, now_ms),
        }
    }

    /// What is to be done now: a message, and what is learnt from time passing. To be called until it has neither.
    pub fn poll(&mut self, now_ms: u64) -> (Option<Send>, Option<Event>) {
        if self.lease.as_ref().is_some_and(|lease| lease.until_ms <= now_ms) {
            self.lease = None;
            self.enter(State::Init, now_ms);
            return (None, Some(Event::Lost("it ran out")));
        }
        if now_ms < self.due_ms {
            return (None, None);
        }
        if let Err(later_ms) = self.pace.take(now_ms) {
            self.due_ms = later_ms;
            return (None, None);
        }
        match (self.state, &self.lease) {
            (State::Init, _) => self.enter(State::Selecting, now_ms),
            (State::Requesting { .. }, _) if self.tries >= REQUESTS => self.enter(State::Selecting, now_ms),
            (State::Bound, Some(_)) => self.enter(State::Renewing, now_ms),
            (State::Renewing, Some(lease)) if now_ms >= lease.rebind_ms => {
                self.enter(State::Rebinding, now_ms);
            }
            _ => {}
        }
        (Some(self.ask(now_ms)), None)
    }

    /// Takes a message that came to [`CLIENT_PORT`].
    pub fn input(&mut self, bytes: &[u8], now_ms: u64) -> Option<Event> {
        let reply = Reply::parse(bytes)?;
        if reply.xid != self.xid || reply.mac != self.settings.mac {
            return None;
        }
        match (self.state, reply.kind) {
            (State::Selecting, Kind::Offer) => {
                let (grant, server) = (reply.grant?, reply.server?);
                self.state = State::Requesting { address: grant.address, server };
                self.tries = 0;
                self.due_ms = now_ms;
                None
            }
            (State::Requesting { address, server }, Kind::Ack) => {
                let grant = reply.grant.filter(|grant| grant.address == address)?;
                if reply.server.is_some_and(|other| other != server) {
                    return None;
                }
                Some(self.bind(grant, server, now_ms))
            }
            (State::Renewing | State::Rebinding, Kind::Ack) => {
                let lease = self.lease.as_ref()?;
                let server = reply.server.unwrap_or(lease.server);
                let grant = reply.grant.filter(|grant| grant.address == lease.grant.address)?;
                Some(self.bind(grant, server, now_ms))
            }
            (State::Requesting { server, .. }, Kind::Nak)
                if reply.server.is_none_or(|other| other == server) =>
            {
                self.pause(now_ms);
                None
            }
            (State::Renewing | State::Rebinding, Kind::Nak) => {
                self.lease = None;
                self.enter(State::Init, now_ms);
                Some(Event::Lost("the server took it back"))
            }
            _ => None,
        }
    }

    /// Gives the address back: it is taken out of the configuration.
    pub fn release(&mut self) -> Option<Send> {
        let lease = self.lease.take()?;
        self.xid = (self.random)() as u32;
        let payload = self.message(Kind::Release, lease.grant.address, None, Some(lease.server), 0);
        Some(Send { payload, from: lease.grant.address, to: lease.server })
    }

    /// Somebody else has the address: the server is told, and asked for another one after a while.
    pub fn decline(&mut self, now_ms: u64) -> Option<Send> {
        let lease = self.lease.take()?;
        self.xid = (self.random)() as u32;
        let address = lease.grant.address;
        let payload =
            self.message(Kind::Decline, Ipv4Addr::UNSPECIFIED, Some(address), Some(lease.server), 0);
        self.pause(now_ms);
        Some(Send { payload, from: Ipv4Addr::UNSPECIFIED, to: Ipv4Addr::BROADCAST })
    }

    fn bind(&mut self, grant: Grant, server: Ipv4Addr, now_ms: u64) -> Event {
        let lease = Lease {
            until_ms: after(now_ms, grant.lease_s),
            renew_ms: if grant.lease_s == u32::MAX { NEVER } else { after(now_ms, grant.t1_s) },
            rebind_ms: after(now_ms, grant.t2_s),
            grant,
            server,
        };
        self.state = State::Bound;
        self.due_ms = lease.renew_ms;
        let event = match &self.lease {
            None => Event::Gained,
            Some(old) if old.grant == lease.grant => Event::Renewed,
            Some(_) => Event::Changed,
        };
        self.lease = Some(lease);
        event
    }

    /// Begins again, after a while.
    fn pause(&mut self, now_ms: u64) {
        self.enter(State::Init, now_ms + AGAIN_MS + (self.random)() % (AGAIN_MS / 4));
    }

    /// From `at_ms` on; another transaction.
    fn enter(&mut self, state: State, at_ms: u64) {
        self.state = state;
        self.xid = (self.random)() as u32;
        self.began_ms = at_ms;
        self.tries = 0;
        self.due_ms = at_ms;
    }

    /// The message that the state is for; the next one follows if no answer comes.
    fn ask(&mut self, now_ms: u64) -> Send {
        let all = Ipv4Addr::BROADCAST;
        let none = Ipv4Addr::UNSPECIFIED;
        let (own, kind, requested, server, to) = match (self.state, &self.lease) {
            (State::Requesting { address, server }, _) => {
                (none, Kind::Request, Some(address), Some(server), all)
            }
            (State::Renewing, Some(lease)) => (lease.grant.address, Kind::Request, None, None, lease.server),
            (State::Rebinding, Some(lease)) => (lease.grant.address, Kind::Request, None, None, all),
            _ => (none, Kind::Discover, None, None, all),
        };
        let wait = match (self.state, &self.lease) {
            // RFC 2131 §4.4.5: half of what is left of the time, and no less than a minute.
            (State::Renewing, Some(lease)) => ((lease.rebind_ms.saturating_sub(now_ms)) / 2).max(RENEW_MS),
            (State::Rebinding, Some(lease)) if self.tries > 3 => {
                (lease.until_ms.saturating_sub(now_ms) / 2).max(RENEW_MS)
            }
            _ => jitter(self.random, (FIRST_MS << self.tries.min(8)).min(LONGEST_MS), 4),
        };
        self.tries += 1;
        self.due_ms = now_ms + wait;
        if let (State::Renewing, Some(lease)) = (self.state, &self.lease) {
            self.due_ms = self.due_ms.min(lease.rebind_ms.max(now_ms + 1));
        }
        let secs = (now_ms.saturating_sub(self.began_ms) / 1000).min(u16::MAX.into()) as u16;
        Send { payload: self.message(kind, own, requested, server, secs), from: own, to }
    }

    fn message(
        &self,
        kind: Kind,
        own: Ipv4Addr,
        requested: Option<Ipv4Addr>,
        server: Option<Ipv4Addr>,
        secs: u16,
    ) -> Vec<u8> {
        let message = Message {
            kind,
            xid: self.xid,
            secs,
            // RFC 2131, table 5: without flags where no answer comes.
            broadcast: own.is_unspecified() && kind != Kind::Decline,
            own,
            mac: self.settings.mac,
            requested,
            server,
            client_id: &self.client_id,
            hostname: &self.settings.hostname,
        };
        message.bytes()
    }
}
