//! A connection as picoserve sees it, and a clock.

use super::Stream;
use crate::router::Router;
use alloc::vec::Vec;
use core::cell::Cell;
use picoserve::io::embedded_io_async::{ErrorType, Write};
use picoserve::io::{self, Socket};
use picoserve::mem::{BorrowedBuffer, BorrowedCursor};
use picoserve::time::Duration;
use picoserve::{Timeouts, Timer};

/// Bytes that are written at once.
const PIECE: usize = 1400;

/// Tells picoserve's traits for tasks from those for runtimes that it knows.
pub(super) struct Tasks;

pub(super) struct Clock<'r, R> {
    pub(super) router: &'r R,
    /// There was no further request.
    pub(super) idle: &'r Cell<bool>,
}

impl<R: Router> Timer<Tasks> for Clock<'_, R> {
    async fn delay(&self, duration: Duration) {
        match duration.as_millis() {
            0 => self.idle.set(true),
            ms => self.router.sleep_ms(ms).await,
        }
    }
}

pub(super) struct Connection<'l, S> {
    pub(super) stream: S,
    pub(super) left: &'l mut Option<S>,
    /// See [`Service::lost`](super::Service::lost).
    pub(super) lost: &'l Cell<bool>,
}

impl<S: Stream> Socket<Tasks> for Connection<'_, S> {
    type Error = S::Error;
    type ReadHalf<'a>
        = S::Reader<'a>
    where
        Self: 'a;
    type WriteHalf<'a>
        = Buffered<S::Writer<'a>>
    where
        Self: 'a;

    fn split(&mut self) -> (Self::ReadHalf<'_>, Self::WriteHalf<'_>) {
        let (reader, inner) = self.stream.split();
        (reader, Buffered { inner, waiting: Vec::new() })
    }

    async fn abort<T: Timer<Tasks>>(self, _: &Timeouts, _: &T) -> Result<(), picoserve::Error<S::Error>> {
        // What was no request is the rest of one that was refused: the reason is still to arrive.
        if !self.lost.get() {
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

/// Collects what picoserve writes in words into pieces of a segment's length.
pub(super) struct Buffered<W> {
    inner: W,
    waiting: Vec<u8>,
}

impl<W: Write> ErrorType for Buffered<W> {
    type Error = W::Error;
}

impl<W: Write> Write for Buffered<W> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, W::Error> {
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

impl<W: Write> io::Write for Buffered<W> {
    async fn write_with<F: FnOnce(BorrowedCursor<'_>) -> T, T>(&mut self, fill: F) -> Result<T, W::Error> {
        let mut bytes = [0; 256];
        let mut buffer = BorrowedBuffer::new(&mut bytes);
        let result = fill(buffer.unfilled());
        self.write_all(buffer.filled()).await?;
        Ok(result)
    }
}
