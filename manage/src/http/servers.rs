//! What those who serve a CPU's connections share.

use super::HEAD;
use crate::api::{Admitted, Request, Response};
use crate::routes::{Answer, Method, Operation};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec;
use core::cell::{Cell, RefCell};

/// Bytes of an answer that is kept.
const KEPT: usize = 64 << 10;
/// Bytes of an answer that counts as long, as one of each server's would be too much.
const LONG: usize = 64 << 10;
/// Bytes of long answers that may wait for their readers, if they are several.
const WAITING: usize = 1 << 20;

/// What those who serve a CPU's connections share.
pub struct Servers {
    /// Streams that may still be opened.
    streams: Cell<usize>,
    /// See [`Servers::new`].
    arrivals: Box<dyn Fn() -> u64>,
    /// Requests that changed something, as far as they are answered: one connection may ask before and after.
    changes: Cell<u64>,
    last: RefCell<Option<Last>>,
    /// Bytes of long answers that are being sent.
    waiting: Cell<usize>,
    /// Where the last request's head was: few wait for one half-way.
    head: Cell<Option<Box<[u8]>>>,
}

/// The last answer that tells of a moment.
struct Last {
    moment: u64,
    operation: Operation,
    accept: Option<String>,
    response: Response,
}

impl core::fmt::Debug for Servers {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Servers").field("streams", &self.streams).finish_non_exhaustive()
    }
}

impl Servers {
    /// With so many streams of events and of captured packets at once: each keeps a server to itself. `arrivals` counts what
    /// came by the network: as long as it says the same, all requests that there are were there before, and whoever asks what
    /// was just answered gets that answer.
    pub fn new(streams: usize, arrivals: impl Fn() -> u64 + 'static) -> Self {
        Self {
            streams: Cell::new(streams),
            arrivals: Box::new(arrivals),
            changes: Cell::new(0),
            last: RefCell::new(None),
            waiting: Cell::new(0),
            head: Cell::new(None),
        }
    }

    /// Where the head of a request can be read to.
    pub(super) fn head(&self) -> Box<[u8]> {
        self.head.take().unwrap_or_else(|| vec![0; HEAD].into())
    }

    /// The same for the next one. What is in it is not read.
    pub(super) fn keep_head(&self, head: Box<[u8]>) {
        self.head.set(Some(head));
    }

    /// Opens a stream, if there are not too many.
    pub(super) fn open(&self) -> Option<OpenStream<'_>> {
        let free = self.streams.get().checked_sub(1)?;
        self.streams.set(free);
        Some(OpenStream(self))
    }

    /// Counts an answer of so many bytes while it is sent, if there is room for it beside the others.
    pub(super) fn send(&self, bytes: usize) -> Option<Waiting<'_>> {
        let (bytes, waiting) = (if bytes > LONG { bytes } else { 0 }, self.waiting.get());
        if bytes > 0 && waiting > 0 && waiting.saturating_add(bytes) > WAITING {
            return None;
        }
        self.waiting.set(waiting + bytes);
        Some(Waiting(self, bytes))
    }

    /// What `asked` was answered a moment ago, if that is still an answer.
    pub(super) fn recall(&self, asked: &Request<'_>, admitted: &Admitted) -> Option<Response> {
        let last = self.last.borrow();
        let last = last.as_ref().filter(|last| {
            last.moment == self.moment()
                && last.operation == admitted.route.operation
                && last.accept.as_deref() == asked.accept
                && asked.query.is_empty()
        })?;
        Some(last.response.clone())
    }

    /// Stays the same as long as nobody can expect another answer.
    pub(super) fn moment(&self) -> u64 {
        (self.arrivals)() + self.changes.get()
    }

    /// Keeps an answer that was begun at `moment`.
    pub(super) fn keep(&self, moment: u64, asked: &Request<'_>, admitted: &Admitted, response: &Response) {
        let route = admitted.route;
        if route.method != Method::Get {
            self.changes.set(self.changes.get() + 1);
            return;
        }
        let tells = matches!(route.answer, Answer::Model(_) | Answer::Either(..) | Answer::Metrics);
        let is_kept =
            tells && asked.query.is_empty() && response.status == 200 && response.body.len() <= KEPT;
        self.last.replace(is_kept.then(|| Last {
            moment,
            operation: route.operation,
            accept: asked.accept.map(ToString::to_string),
            response: response.clone(),
        }));
    }
}

/// Gives its place back.
pub(super) struct OpenStream<'s>(&'s Servers);

impl Drop for OpenStream<'_> {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() + 1);
    }
}

/// Bytes on their way.
pub(super) struct Waiting<'s>(&'s Servers, usize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - self.1);
    }
}
