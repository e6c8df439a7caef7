//! The xenstore client: small texts by path, shared with the toolstack and the domains of our devices' other halves.
//!
//! Called at boot and from tasks of any CPU; softints preempt a caller that waits. What comes off the ring is checked
//! like any foreign input; a ring that breaks the protocol is given up under the name of what it broke.

mod client;
#[cfg(feature = "image")]
mod image;
pub(crate) mod ring;
#[cfg(test)]
mod tests;
mod transaction;
pub(crate) mod wire;

use crate::clock::SECOND;
use crate::interrupt::Interrupt;
use crate::lock::Lock;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use client::Client;
use core::fmt;
pub(crate) use ring::Ring;
pub use transaction::Transaction;
use weir_sync::Control;
use weir_sync::rank::XenStore;
use wire::kind;

#[cfg(not(feature = "image"))]
pub use crate::host::xen_store::{Peer, open};
#[cfg(feature = "image")]
pub use image::open;

/// How long a request waits for its reply, in nanoseconds.
pub const LIMIT_NS: u64 = 5 * SECOND;
/// How long a wait sleeps at most before it looks again.
const NAP_NS: u64 = SECOND / 100;

/// Why a request failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// No such node (`ENOENT`).
    NotFound,
    /// Not ours to read or write (`EACCES`, `EPERM`, `EROFS`).
    Denied,
    /// Not a path, or not possible there (`EINVAL`, `EISDIR`, `ENOTEMPTY`).
    Invalid,
    /// The transaction met another one, time and again (`EAGAIN`).
    Again,
    /// It is there already (`EEXIST`).
    Exists,
    /// More than a message holds, 4096 bytes (`E2BIG`).
    TooBig,
    /// The store or our share of it is full (`ENOSPC`, `ENOMEM`, `EBUSY`).
    Quota,
    /// The store does not know the request (`ENOSYS`).
    Unsupported,
    /// Another error of the store.
    Failed,
    /// The value, or the reply, is not in the form asked for.
    Malformed,
    /// No reply within [`LIMIT_NS`], or not what [`Store::wait_for`] waited for within its limit.
    Timeout,
    /// The store broke the protocol, in the way named, at this or an earlier request. It stays so.
    Broken(&'static str),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "not in the store",
            Self::Denied => "permission denied by the store",
            Self::Invalid => "refused by the store as invalid",
            Self::Again => "conflicts with other transactions",
            Self::Exists => "exists in the store",
            Self::TooBig => "too big for the store",
            Self::Quota => "no room in the store",
            Self::Unsupported => "not supported by the store",
            Self::Failed => "the store failed",
            Self::Malformed => "malformed value in the store",
            Self::Timeout => "no answer from the store",
            Self::Broken(reason) => return write!(f, "the store broke its protocol: {reason}"),
        })
    }
}

impl core::error::Error for StoreError {}

/// What a watch saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The node at `path`, or something below it, may have changed. The first one of a watch comes at once.
    Changed {
        /// Of the [`Watch`].
        token: u64,
        /// As it was watched: absolute, or relative to our domain's.
        path: String,
    },
    /// More happened than the queue holds: anything that is watched may have changed.
    Overflow,
}

/// A watch. It lasts until [`Store::unwatch`].
#[derive(PartialEq, Eq, Debug)]
#[must_use = "only `unwatch` ends a watch"]
pub struct Watch {
    token: u64,
    path: String,
}

impl Watch {
    /// By which its events are known.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// What is watched.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// The way to the store's daemon and back, besides the ring.
pub(crate) trait Link: Send + Sync {
    /// Tells the daemon that the ring has changed.
    fn notify(&self);
    /// Before a look at the ring that a [`wait`](Self::wait) follows: forgets earlier arrivals.
    fn attend(&self);
    /// Returns when something has arrived since [`attend`](Self::attend), when [`now`](Self::now) is at least
    /// `until_ns`, or for no reason.
    fn wait(&self, until_ns: u64);
    /// Nanoseconds.
    fn now(&self) -> u64;
    /// What [`announce`](Self::announce) raises, and the first arrival after [`arm`](Self::arm).
    fn target(&self) -> Interrupt;
    /// Raises it.
    fn announce(&self);
    /// Has the next arrival raise it; what came since [`attend`](Self::attend) counts.
    fn arm(&self);
}

/// The connection to the store.
pub struct Store {
    /// Held for one look at the ring, never while waiting.
    client: Lock<XenStore, Client>,
    link: Box<dyn Link>,
}

impl Store {
    pub(crate) fn new(ring: Ring, link: Box<dyn Link>) -> Store {
        Store { client: Lock::new(Client::new(ring)), link }
    }

    /// The value at `path`, which is absolute (`/local/domain/0/…`) or relative to our own domain's.
    pub fn read(&self, cx: &Control, path: &str) -> Result<Vec<u8>, StoreError> {
        self.outside(cx).read(path)
    }

    /// The same as text; [`StoreError::Malformed`] if it is not UTF-8.
    pub fn read_text(&self, cx: &Control, path: &str) -> Result<String, StoreError> {
        self.outside(cx).read_text(path)
    }

    /// The same as a decimal number; `None` if there is no such node.
    pub fn read_number(&self, cx: &Control, path: &str) -> Result<Option<u64>, StoreError> {
        self.outside(cx).read_number(path)
    }

    /// Sets the value at `path`; makes the node, and those above it.
    pub fn write(&self, cx: &Control, path: &str, value: impl AsRef<[u8]>) -> Result<(), StoreError> {
        self.outside(cx).write(path, value)
    }

    /// Removes the node and all below it. No error if there is none.
    pub fn remove(&self, cx: &Control, path: &str) -> Result<(), StoreError> {
        self.outside(cx).remove(path)
    }

    /// The names of the nodes directly below `path`.
    pub fn list(&self, cx: &Control, path: &str) -> Result<Vec<String>, StoreError> {
        self.outside(cx).list(path)
    }

    /// Runs `body` in a transaction, which happens as a whole or, if `body` fails, not at all. Runs it again if
    /// somebody else changed what it touched meanwhile, up to 16 times; then [`StoreError::Again`].
    pub fn transaction<R>(
        &self,
        cx: &Control,
        body: impl FnMut(&Transaction<'_>) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        transaction::run(self, cx, body)
    }

    /// Watches the node at `path` and all below it.
    pub fn watch(&self, cx: &Control, path: &str) -> Result<Watch, StoreError> {
        let path = checked(path)?;
        let token = self.client.lock().open_watch();
        // Before the request: the first event may come before its reply.
        let text = alloc::format!("{token}");
        match self.request(cx, kind::WATCH, 0, &[path.as_bytes(), b"\0", text.as_bytes(), b"\0"]) {
            Ok(_) => Ok(Watch { token, path: path.into() }),
            Err(error) => {
                self.client.lock().close_watch(token);
                Err(error)
            }
        }
    }

    /// Ends a watch. Its events are gone with it, those in the queue too, even if the store does not answer.
    pub fn unwatch(&self, cx: &Control, watch: Watch) -> Result<(), StoreError> {
        self.client.lock().close_watch(watch.token);
        let token = alloc::format!("{}", watch.token);
        let parts: [&[u8]; 4] = [watch.path.as_bytes(), b"\0", token.as_bytes(), b"\0"];
        self.request(cx, kind::UNWATCH, 0, &parts).map(drop)
    }

    /// The oldest event that is left, if any. After `None` the next one raises what [`interrupt`](Self::interrupt)
    /// names.
    pub fn next_event(&self, _cx: &Control) -> Option<Event> {
        self.pump();
        let event = self.client.lock().next_event();
        event.or_else(|| {
            self.link.arm();
            // What arrived before that may have gone unannounced.
            self.pump();
            self.client.lock().next_event()
        })
    }

    /// Looks at the value of `path` (`None`: no such node) whenever it may have changed, until `look` returns something
    /// or `limit_ns` have passed; then [`StoreError::Timeout`]. Leaves the events of other watches in the queue.
    pub fn wait_for<R>(
        &self,
        cx: &Control,
        path: &str,
        limit_ns: u64,
        mut look: impl FnMut(Option<&[u8]>) -> Option<R>,
    ) -> Result<R, StoreError> {
        let deadline = self.link.now().saturating_add(limit_ns);
        let watch = self.watch(cx, path)?;
        let found = loop {
            self.client.lock().take_events_of(watch.token);
            let found = match self.read(cx, path) {
                Ok(value) => look(Some(&value)),
                Err(StoreError::NotFound) => look(None),
                Err(error) => break Err(error),
            };
            if let Some(found) = found {
                break Ok(found);
            }
            let happened = |client: &mut Client| client.take_events_of(watch.token).then_some(());
            if self.wait_until(deadline, happened).is_none() {
                break Err(self.broken().map_or(StoreError::Timeout, StoreError::Broken));
            }
        };
        let ended = self.unwatch(cx, watch);
        found.and_then(|found| ended.map(|()| found))
    }

    /// The softint source that announces events: whoever serves it calls [`next_event`](Self::next_event) in a task
    /// until there is none. It may be raised without one.
    pub fn interrupt(&self) -> Interrupt {
        self.link.target()
    }

    /// Watches that were not ended.
    pub fn watches(&self) -> usize {
        self.client.lock().watches()
    }

    /// How the store broke its protocol, if it did: nothing works any more then.
    pub fn broken(&self) -> Option<&'static str> {
        self.client.lock().broken()
    }

    /// Sends a request and waits for its reply.
    pub(crate) fn request(
        &self,
        _cx: &Control,
        kind: u32,
        transaction: u32,
        parts: &[&[u8]],
    ) -> Result<Vec<u8>, StoreError> {
        let deadline = self.link.now().saturating_add(LIMIT_NS);
        let request = self.client.lock().send(kind, transaction, parts)?;
        let reply = self.wait_until(deadline, |client| client.reply(request));
        reply.unwrap_or_else(|| {
            self.client.lock().abandon(request);
            Err(StoreError::Timeout)
        })
    }

    /// Exchanges with the ring until `done` finds what it looks for; `None` at `deadline`, or if the store broke.
    fn wait_until<R>(&self, deadline: u64, mut done: impl FnMut(&mut Client) -> Option<R>) -> Option<R> {
        let found = loop {
            self.link.attend();
            let moved = self.pump();
            let mut client = self.client.lock();
            let found = done(&mut client);
            if found.is_some() || client.broken().is_some() || self.link.now() >= deadline {
                break found;
            }
            drop(client);
            if !moved {
                // Another waiting task may have taken the arrival: never sleep long.
                self.link.wait(deadline.min(self.link.now().saturating_add(NAP_NS)));
            }
        };
        // Whoever handles events may not have seen what this wait took off the ring.
        if self.client.lock().has_events() {
            self.link.announce()
        } else {
            self.link.arm()
        }
        found
    }

    /// One exchange with the ring; whether anything moved.
    fn pump(&self) -> bool {
        let moved = self.client.lock().pump();
        if moved {
            self.link.notify();
        }
        moved
    }

    fn outside<'a>(&'a self, cx: &'a Control) -> Transaction<'a> {
        Transaction::outside(self, cx)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = self.client.lock();
        write!(f, "Store {{ watches: {}, broken: {:?} }}", client.watches(), client.broken())
    }
}

fn checked(path: &str) -> Result<&str, StoreError> {
    if wire::is_path(path) { Ok(path) } else { Err(StoreError::Invalid) }
}
