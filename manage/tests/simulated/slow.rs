//! A peer that reads slowly, in the simulated router's time.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use picoserve::io::embedded_io_async::{Error, ErrorKind, ErrorType, Read, Write};
use weir_manage::http::{self, Servers, Stream};
use weir_manage::router::Router as _;

use super::Simulated;

/// Milliseconds that pass at once.
const STEP_MS: u64 = 50;

pub(crate) struct Slow {
    router: Arc<Simulated>,
    asked: RefCell<Vec<u8>>,
    /// Bytes that it takes each second.
    rate: u64,
    heard: RefCell<Vec<u8>>,
    last_ms: Cell<u64>,
    gone: Cell<bool>,
    aborted: Cell<bool>,
}

impl Slow {
    pub(crate) fn new(router: &Arc<Simulated>, asked: &str, rate: u64) -> Self {
        Self {
            router: router.clone(),
            asked: RefCell::new(asked.into()),
            rate,
            heard: RefCell::default(),
            last_ms: Cell::new(router.now_ms()),
            gone: Cell::new(false),
            aborted: Cell::new(false),
        }
    }

    /// All that it got, as text.
    pub(crate) fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.borrow()).into_owned()
    }

    /// Whether it was not heard to its end.
    pub(crate) fn was_aborted(&self) -> bool {
        self.aborted.get()
    }

    /// Is served until it is over, or as long as `goes_on` says. Whether it is over.
    pub(crate) fn is_served(&self, servers: &Servers, mut goes_on: impl FnMut(&Self) -> bool) -> bool {
        let mut served = pin!(http::serve(&*self.router, self, [192, 0, 2, 9].into(), servers));
        while goes_on(self) {
            if served.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                return true;
            }
            self.router.pass(STEP_MS);
        }
        false
    }

    /// It goes away.
    pub(crate) fn leave(&self) {
        self.gone.set(true);
    }
}

pub(crate) struct Half<'s>(&'s Slow);

#[derive(Debug)]
pub(crate) struct Never;

impl std::fmt::Display for Never {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("this does not happen")
    }
}

impl std::error::Error for Never {}

impl Error for Never {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

impl ErrorType for Half<'_> {
    type Error = Never;
}

impl Read for Half<'_> {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Never> {
        std::future::poll_fn(|_| {
            let mut asked = self.0.asked.borrow_mut();
            let len = asked.len().min(into.len());
            for (to, from) in into.iter_mut().zip(asked.drain(..len)) {
                *to = from;
            }
            if len == 0 && !self.0.gone.get() { Poll::Pending } else { Poll::Ready(Ok(len)) }
        })
        .await
    }
}

impl Write for Half<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Never> {
        std::future::poll_fn(|_| {
            let now_ms = self.0.router.now_ms();
            let room = (now_ms - self.0.last_ms.get()) * self.0.rate / 1000;
            if room == 0 {
                return Poll::Pending;
            }
            self.0.last_ms.set(now_ms);
            let len = bytes.len().min(room as usize);
            self.0.heard.borrow_mut().extend(&bytes[..len]);
            Poll::Ready(Ok(len))
        })
        .await
    }

    async fn flush(&mut self) -> Result<(), Never> {
        Ok(())
    }
}

impl<'a> Stream for &'a Slow {
    type Error = Never;
    type Reader<'s>
        = Half<'a>
    where
        Self: 's;
    type Writer<'s>
        = Half<'a>
    where
        Self: 's;

    fn split(&mut self) -> (Half<'a>, Half<'a>) {
        (Half(self), Half(self))
    }

    fn abort(self) {
        self.aborted.set(true);
    }
}
