//! A connection as picoserve sees it, and a clock.

use super::{Stream, TIMEOUTS};
use crate::router::Router;
use alloc::vec::Vec;
use core::cell::Cell;
use picoserve::io::embedded_io_async::{ErrorType, Read, Write};
use picoserve::io::{self, Socket};
use picoserve::mem::{BorrowedBuffer, BorrowedCursor};
use picoserve::time::Duration;
use picoserve::{Timeouts, Timer};

/// Bytes that small writes are collected to: a segment's.
const PIECE: usize = 1400;
/// Bytes that are written within one timeout: a long answer takes as long as it moves, a slow reader's end is in sight.
const STRETCH: usize = 16 << 10;

/// The rest of a request that came with the one before. Behind a longer pause it is none.
const REST_MS: u64 = 100;

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Nothing was asked yet.
    New,
    /// A request is being answered.
    Asked,
    /// It is answered, and another may come.
    Answered,
    /// The request in hand is the last, as its end is not known or not waited for: nothing more is read.
    Last,
    /// Nothing more is written either. What picoserve has read and takes for a request is none (RFC 9112 §6.3).
    Over,
}

/// Tells picoserve's traits for tasks from those for runtimes that it knows.
pub(super) struct Tasks;

pub(super) struct Clock<'r, R> {
    pub(super) router: &'r R,
    pub(super) stage: &'r Cell<Stage>,
    /// There was no further request.
    pub(super) idle: &'r Cell<bool>,
}

impl<R: Router> Timer<Tasks> for Clock<'_, R> {
    async fn delay(&self, duration: Duration) {
        let ms = duration.as_millis();
        if duration == TIMEOUTS.read_request && self.stage.get() == Stage::Answered {
            self.router.sleep_ms(REST_MS).await;
            if self.stage.get() == Stage::Answered {
                self.stage.set(Stage::Over);
                return;
            }
        }
        match ms {
            0 => self.idle.set(true),
            ms => self.router.sleep_ms(ms).await,
        }
    }
}

pub(super) struct Connection<'l, S> {
    pub(super) stream: S,
    pub(super) stage: &'l Cell<Stage>,
    pub(super) left: &'l mut Option<S>,
}

impl<S: Stream> Socket<Tasks> for Connection<'_, S> {
    type Error = S::Error;
    type ReadHalf<'a>
        = Reader<'a, S::Reader<'a>>
    where
        Self: 'a;
    type WriteHalf<'a>
        = Buffered<'a, S::Writer<'a>>
    where
        Self: 'a;

    fn split(&mut self) -> (Self::ReadHalf<'_>, Self::WriteHalf<'_>) {
        let (reader, writer) = self.stream.split();
        let stage = self.stage;
        (Reader { inner: reader, stage }, Buffered { inner: writer, stage, waiting: Vec::new() })
    }

    async fn abort<T: Timer<Tasks>>(self, _: &Timeouts, _: &T) -> Result<(), picoserve::Error<S::Error>> {
        // The last answer is still to arrive.
        if self.stage.get() != Stage::Over {
            self.stream.abort();
        }
        Ok(())
    }

    /// Dropping a stream closes it; what was flushed still arrives.
    async fn shutdown<T: Timer<Tasks>>(self, _: &Timeouts, _: &T) -> Result<(), picoserve::Error<S::Error>> {
        *self.left = Some(self.stream);
        Ok(())
    }
}

/// What comes, until nothing more is read.
pub(super) struct Reader<'s, R> {
    inner: R,
    stage: &'s Cell<Stage>,
}

impl<R: Read> ErrorType for Reader<'_, R> {
    type Error = R::Error;
}

impl<R: Read> Read for Reader<'_, R> {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, R::Error> {
        match self.stage.get() {
            Stage::Last | Stage::Over => Ok(0),
            _ => self.inner.read(into).await,
        }
    }
}

/// Collects what picoserve writes in words into pieces of a segment's length.
pub(super) struct Buffered<'s, W> {
    inner: W,
    stage: &'s Cell<Stage>,
    waiting: Vec<u8>,
}

impl<W: Write> ErrorType for Buffered<'_, W> {
    type Error = W::Error;
}

impl<W: Write> Write for Buffered<'_, W> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, W::Error> {
        if self.stage.get() == Stage::Over {
            return Ok(bytes.len());
        }
        let bytes = bytes.get(..STRETCH).unwrap_or(bytes);
        if !self.waiting.is_empty() && self.waiting.len() + bytes.len() > PIECE {
            self.inner.write_all(&self.waiting).await?;
            self.waiting.clear();
        }
        match bytes.len() < PIECE {
            true => self.waiting.extend_from_slice(bytes),
            false => self.inner.write_all(bytes).await?,
        }
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), W::Error> {
        self.inner.write_all(&self.waiting).await?;
        self.waiting.clear();
        self.inner.flush().await
    }
}

impl<W: Write> io::Write for Buffered<'_, W> {
    async fn write_with<F: FnOnce(BorrowedCursor<'_>) -> T, T>(&mut self, fill: F) -> Result<T, W::Error> {
        let mut bytes = [0; 256];
        let mut buffer = BorrowedBuffer::new(&mut bytes);
        let result = fill(buffer.unfilled());
        self.write_all(buffer.filled()).await?;
        Ok(result)
    }
}
