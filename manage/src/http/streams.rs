//! Answers without an end: captured packets and events.

use crate::api::{self, Admitted};
use crate::capture;
use crate::model::{Field, json};
use crate::router::Router;
use alloc::format;
use alloc::vec::Vec;
use picoserve::io;
use picoserve::response::custom::CustomBody;
use picoserve::response::sse::{EventSource, EventWriter};

/// How often a stream looks for events, and how long it is silent at most.
const LOOK_MS: u64 = 500;
const SILENT_MS: u64 = 15_000;

/// Whether its bearer's token still is one.
fn holds<R: Router>(router: &R, admitted: &Admitted) -> bool {
    let now_ms = router.now_ms();
    router.access(|access| access.holds(&admitted.bearer, now_ms))
}

/// How often a capture looks for packets while there are none.
const CAPTURE_LOOK_MS: u64 = 5;

/// Packets as they pass, until the connection or the capture ends, or its bearer's token is not what it was.
pub(super) struct Captured<'r, R: Router> {
    pub(super) router: &'r R,
    pub(super) admitted: Admitted,
    pub(super) source: R::Capture,
    pub(super) wish: capture::Wish,
}

impl<R: Router> Captured<'_, R> {
    /// In chunks (RFC 9112 §7.1): their end tells a whole capture from a cut one.
    pub(super) const HEADERS: [(&'static str, &'static str); 2] =
        [("Content-Type", api::content::PCAPNG), ("Transfer-Encoding", "chunked")];
}

impl<R: Router> CustomBody for Captured<'_, R> {
    async fn write_response_body<W: io::Write>(self, mut writer: W) -> Result<(), W::Error> {
        let Self { router, admitted, source, wish } = self;
        let mut piece = Vec::new();
        let mut stream = capture::Stream::begin(source, wish, &mut piece);
        let mut goes_on = true;
        while goes_on {
            if !holds(router, &admitted) {
                stream.end();
            }
            goes_on = stream.next(&mut piece);
            if piece.is_empty() {
                router.sleep_ms(CAPTURE_LOOK_MS).await;
                continue;
            }
            write!(writer, "{:x}\r\n", piece.len()).await?;
            piece.extend(b"\r\n");
            writer.write_all(&piece).await?;
            writer.flush().await?;
            piece.clear();
            // Others have their turn, however many packets there are.
            router.sleep_ms(0).await;
        }
        drop(stream);
        writer.write_all(b"0\r\n\r\n").await
    }
}

/// Events as they happen, until the connection ends or its bearer's token is not what it was.
pub(super) struct Events<'r, R> {
    pub(super) router: &'r R,
    pub(super) admitted: Admitted,
    pub(super) from: u64,
}

impl<R: Router> EventSource for Events<'_, R> {
    async fn write_events<W: io::Write>(mut self, mut writer: EventWriter<'_, W>) -> Result<(), W::Error> {
        let mut spoken_ms = self.router.now_ms();
        writer.write_keepalive().await?;
        while holds(self.router, &self.admitted) {
            let events = self.router.events(self.from);
            for event in &events {
                self.from = self.from.max(event.number + 1);
                let data = json(&event.value());
                let data = core::str::from_utf8(&data).unwrap_or_default();
                // With the field `id`, which picoserve does not know: who comes back says where it was.
                writer.write_event(&format!("{}\nid:{}", event.kind, event.number), data).await?;
            }
            let now_ms = self.router.now_ms();
            if !events.is_empty() {
                writer.flush().await?;
                spoken_ms = now_ms;
            } else if now_ms.saturating_sub(spoken_ms) >= SILENT_MS {
                writer.write_keepalive().await?;
                spoken_ms = now_ms;
            }
            self.router.sleep_ms(LOOK_MS).await;
        }
        Ok(())
    }
}
