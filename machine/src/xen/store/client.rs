//! The state of the connection: bytes on their way, requests and who waits for them, watch events. No waiting here.

use super::ring::{RING, Ring};
use super::wire::{self, Message, Parser, kind};
use super::{Event, StoreError};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

/// Events kept for whoever asks next; one more, and all of them become [`Event::Overflow`].
pub(crate) const EVENTS: usize = 256;
/// Requests without a reply, given up ones included; a store that answers none of them gets no more.
const PENDING: usize = 128;

/// One request on its way.
#[derive(Debug)]
enum Pending {
    /// Somebody waits for a reply of this kind.
    Waiting(u32),
    /// He gave up.
    Abandoned,
    /// Here it is, for him to fetch.
    Answered(Result<Vec<u8>, StoreError>),
}

#[derive(Debug)]
pub(super) struct Client {
    ring: Ring,
    outgoing: VecDeque<u8>,
    incoming: Parser,
    pending: BTreeMap<u32, Pending>,
    last_request: u32,
    watches: BTreeSet<u64>,
    last_token: u64,
    events: VecDeque<Event>,
    /// Why nothing can be said or heard any more.
    broken: Option<&'static str>,
}

impl Client {
    pub(super) fn new(ring: Ring) -> Client {
        Client {
            ring,
            outgoing: VecDeque::new(),
            incoming: Parser::default(),
            pending: BTreeMap::new(),
            last_request: 0,
            watches: BTreeSet::new(),
            last_token: 0,
            events: VecDeque::new(),
            broken: None,
        }
    }

    /// Queues a request; its number. `parts` is the payload.
    pub(super) fn send(&mut self, kind: u32, transaction: u32, parts: &[&[u8]]) -> Result<u32, StoreError> {
        let len = parts.iter().map(|part| part.len()).sum();
        if len > wire::PAYLOAD_MAX {
            return Err(StoreError::TooBig);
        }
        if let Some(reason) = self.broken {
            return Err(StoreError::Broken(reason));
        }
        if self.pending.len() >= PENDING {
            return Err(StoreError::Timeout);
        }
        self.last_request = self.last_request.wrapping_add(1);
        while self.pending.contains_key(&self.last_request) {
            self.last_request = self.last_request.wrapping_add(1);
        }
        self.outgoing.extend(wire::header(kind, self.last_request, transaction, len));
        parts.iter().for_each(|part| self.outgoing.extend(*part));
        self.pending.insert(self.last_request, Pending::Waiting(kind));
        Ok(self.last_request)
    }

    /// Moves bytes both ways, as many as one look at the ring gives; whether the other side is to be told.
    pub(super) fn pump(&mut self) -> bool {
        if self.broken.is_some() {
            return false;
        }
        self.exchange().unwrap_or_else(|reason| {
            self.broken = Some(reason);
            self.outgoing = VecDeque::new();
            false
        })
    }

    fn exchange(&mut self) -> Result<bool, &'static str> {
        let sent = self.ring.send(&mut self.outgoing)?;
        let mut space = [0; RING as usize];
        let mut bytes = self.ring.receive(&mut space)?;
        let moved = sent + bytes.len() > 0;
        while let Some(message) = self.incoming.feed(&mut bytes)? {
            self.accept(message)?;
        }
        Ok(moved)
    }

    fn accept(&mut self, message: Message) -> Result<(), &'static str> {
        if message.kind == kind::WATCH_EVENT {
            return self.happened(&message.payload);
        }
        let pending = self.pending.get_mut(&message.request).ok_or("reply-to-nobody")?;
        match *pending {
            Pending::Waiting(asked) if asked == message.kind => {
                *pending = Pending::Answered(Ok(message.payload))
            }
            Pending::Waiting(_) if message.kind == kind::ERROR => {
                *pending = Pending::Answered(Err(wire::error(&message.payload)));
            }
            Pending::Waiting(_) => return Err("reply-of-another-kind"),
            Pending::Answered(_) => return Err("second-reply"),
            Pending::Abandoned => drop(self.pending.remove(&message.request)),
        }
        Ok(())
    }

    /// A watch event: path, NUL, token, NUL.
    fn happened(&mut self, payload: &[u8]) -> Result<(), &'static str> {
        let parsed = wire::split_text(payload).and_then(|(path, rest)| {
            let (token, _) = wire::split_text(rest)?;
            Some((core::str::from_utf8(path).ok()?, core::str::from_utf8(token).ok()?))
        });
        let (path, token) = parsed.ok_or("malformed-watch-event")?;
        // Late ones of watches that are gone are normal.
        let Some(token) = token.parse().ok().filter(|token| self.watches.contains(token)) else {
            return Ok(());
        };
        let event = Event::Changed { token, path: String::from(path) };
        if self.events.contains(&event) || self.events.contains(&Event::Overflow) {
            return Ok(());
        }
        if self.events.len() >= EVENTS {
            self.events.clear();
            self.events.push_back(Event::Overflow);
        } else {
            self.events.push_back(event);
        }
        Ok(())
    }

    /// The reply to a request, or why there will be none; `None` if it may still come.
    pub(super) fn reply(&mut self, request: u32) -> Option<Result<Vec<u8>, StoreError>> {
        if let Some(Pending::Answered(_)) = self.pending.get(&request) {
            let Some(Pending::Answered(reply)) = self.pending.remove(&request) else { return None };
            return Some(reply);
        }
        self.broken.map(|reason| Err(StoreError::Broken(reason)))
    }

    /// Nobody waits for it any more.
    pub(super) fn abandon(&mut self, request: u32) {
        if let Some(pending) = self.pending.get_mut(&request) {
            *pending = Pending::Abandoned;
        }
    }

    /// A token for a new watch, whose events are kept from now on.
    pub(super) fn open_watch(&mut self) -> u64 {
        self.last_token += 1;
        self.watches.insert(self.last_token);
        self.last_token
    }

    /// Forgets it and its events.
    pub(super) fn close_watch(&mut self, token: u64) {
        self.watches.remove(&token);
        self.events.retain(|event| !matches!(event, Event::Changed { token: of, .. } if *of == token));
    }

    pub(super) fn watches(&self) -> usize {
        self.watches.len()
    }

    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Takes the events of one watch; whether there were any, or too many came for anybody to tell.
    pub(super) fn take_events_of(&mut self, token: u64) -> bool {
        let before = self.events.len();
        self.events.retain(|event| !matches!(event, Event::Changed { token: of, .. } if *of == token));
        before != self.events.len() || self.events.contains(&Event::Overflow)
    }

    pub(super) fn broken(&self) -> Option<&'static str> {
        self.broken
    }
}
