//! Any bytes on a connection to the API: whole answers, the same however the bytes are cut, and nothing without a token.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use picoserve::io::embedded_io_async::{ErrorType, Read, Write};
use serde_json::Value as Json;
use weir_manage::http::{self, Servers, Stream};
use weir_manage::router::Router as _;

use crate::input::Input;
use crate::simulated::{BOOT, Simulated};

/// In the input this byte stands for the header with the token: a fuzzer does not guess it.
const ADMITTED: u8 = 1;
/// Longest the router's time passes while nothing happens: half a second a turn.
const TURNS: usize = 400;

/// One run.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let how = input.byte();
    let (silent, piece) = (how & 1 != 0, usize::from(how >> 1) + 1);
    let deaf_after = if input.one_in(8) { usize::from(input.word()) } else { usize::MAX };
    let whole = Exchange { router: Simulated::stopped(), silent, piece: usize::MAX, deaf_after };
    let cut = Exchange { router: Simulated::stopped(), silent, piece, deaf_after };
    let token = format!("Authorization: Bearer {}\r\n", whole.router.grant());
    assert_eq!(token, format!("Authorization: Bearer {}\r\n", cut.router.grant()));
    let mut said = Vec::new();
    for &byte in input.0 {
        match byte {
            ADMITTED => said.extend_from_slice(token.as_bytes()),
            byte => said.push(byte),
        }
    }
    let answer = whole.run(&said);
    assert_eq!(lossy(&answer), lossy(&cut.run(&said)), "in pieces of {piece} bytes");
    let has_head = said.windows(4).any(|word| word == b"HEAD");
    let statuses = if deaf_after == usize::MAX { statuses(&answer, has_head) } else { Vec::new() };
    let view = whole.router.configurations();
    assert_eq!(view.running.text, cut.router.configurations().running.text);
    if !input.0.contains(&ADMITTED) {
        assert!((view.version, &*view.running.text) == (1, BOOT) && view.candidate.is_none());
        // Files of the page are everybody's.
        let page = |kind: &str| {
            ["text/html", "text/css", "text/javascript", "image/"].iter().any(|own| kind.starts_with(own))
        };
        for (status, kind) in &statuses {
            let harmless = matches!(status, 304 | 400 | 401 | 404 | 429) || *status == 200 && page(kind);
            assert!(harmless, "told without a token: {status} {kind}");
        }
    }
}

fn lossy(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Statuses and types of the answers, all of which are whole.
fn statuses(mut rest: &[u8], has_head: bool) -> Vec<(u16, String)> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let end = rest.windows(4).position(|end| end == b"\r\n\r\n").expect("an answer's head has an end");
        let head = std::str::from_utf8(&rest[..end]).expect("a head in ASCII");
        rest = &rest[end + 4..];
        let mut lines = head.split("\r\n");
        let first = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).expect(head);
        let status: u16 = first.split(' ').next().and_then(|code| code.parse().ok()).expect(head);
        let headers: Vec<_> = lines.map(|line| line.split_once(": ").expect(head)).collect();
        let header = |name: &str| {
            let own =
                |(known, value): &(&str, &str)| known.eq_ignore_ascii_case(name).then(|| value.to_string());
            let mut values = headers.iter().filter_map(own);
            let value = values.next();
            assert!(values.next().is_none(), "{name} twice: {head}");
            value
        };
        let content_type = header("content-type").unwrap_or_default();
        found.push((status, content_type.clone()));
        // These end with the connection.
        if matches!(&*content_type, "text/event-stream" | "application/x-pcapng")
            || header("transfer-encoding").is_some()
        {
            break;
        }
        // Interim answers have a head alone (RFC 9110 §15.2).
        if status < 200 {
            continue;
        }
        let len = header("content-length").map(|value| value.parse().expect(head));
        // RFC 9110 §8.6: who has no body does not say how long it is.
        assert_eq!(len.is_none(), matches!(status, 204 | 304), "{head}");
        // The answer to HEAD, maybe: no body begins so.
        if has_head && (rest.is_empty() || rest.starts_with(b"HTTP/1.1 ")) {
            continue;
        }
        let (body, further) = rest.split_at_checked(len.unwrap_or(0)).expect("as long as the head says");
        rest = further;
        if content_type.ends_with("json") {
            let body: Json = serde_json::from_slice(body).expect("JSON");
            if content_type == "application/problem+json" {
                assert_eq!(body["status"], status, "{body}");
                let told = |field: &str| body[field].as_str().is_some_and(|text| !text.is_empty());
                assert!(told("title") && told("detail") && told("cure"), "{body}");
            }
        }
    }
    found
}

struct Exchange {
    router: Simulated,
    /// The peer says no more instead of ending.
    silent: bool,
    /// Bytes that come at once.
    piece: usize,
    /// Bytes that the peer takes.
    deaf_after: usize,
}

impl Exchange {
    fn run(&self, said: &[u8]) -> Vec<u8> {
        // All has arrived that ever will.
        let (heard, servers) = (RefCell::new(Vec::new()), Servers::new(1, || 0));
        let wire = Wire { exchange: self, said, heard: &heard };
        {
            let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let mut served = pin!(http::serve(&self.router, wire, peer, &servers));
            for _ in 0..TURNS {
                let mut cx = Context::from_waker(Waker::noop());
                if let Poll::Ready(left) = served.as_mut().poll(&mut cx) {
                    assert!(left.is_none_or(|left| left.said.is_empty()), "it has more to say");
                    break;
                }
                self.router.pass(500);
                self.router.tick();
            }
        }
        heard.into_inner()
    }
}

/// A connection in memory.
struct Wire<'a> {
    exchange: &'a Exchange,
    said: &'a [u8],
    heard: &'a RefCell<Vec<u8>>,
}

struct Mouth<'s, 'a> {
    exchange: &'s Exchange,
    said: &'s mut &'a [u8],
}

struct Ear<'s> {
    exchange: &'s Exchange,
    heard: &'s RefCell<Vec<u8>>,
}

/// The peer is gone.
#[derive(Debug)]
pub struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the peer is gone")
    }
}

impl std::error::Error for Gone {}

impl picoserve::io::embedded_io_async::Error for Gone {
    fn kind(&self) -> picoserve::io::embedded_io_async::ErrorKind {
        picoserve::io::embedded_io_async::ErrorKind::ConnectionReset
    }
}

impl ErrorType for Mouth<'_, '_> {
    type Error = Gone;
}

impl ErrorType for Ear<'_> {
    type Error = Gone;
}

impl Read for Mouth<'_, '_> {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Gone> {
        let len = self.exchange.piece.min(into.len()).min(self.said.len());
        if len == 0 && self.exchange.silent && !into.is_empty() {
            std::future::poll_fn(|_| Poll::<()>::Pending).await;
        }
        let (now, later) = self.said.split_at(len);
        into[..len].copy_from_slice(now);
        *self.said = later;
        Ok(len)
    }
}

impl Write for Ear<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Gone> {
        let mut heard = self.heard.borrow_mut();
        let len = bytes.len().min(self.exchange.deaf_after.saturating_sub(heard.len()));
        if len == 0 && !bytes.is_empty() {
            return Err(Gone);
        }
        heard.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        Ok(())
    }
}

impl<'a> Stream for Wire<'a> {
    type Error = Gone;
    type Reader<'s>
        = Mouth<'s, 'a>
    where
        Self: 's;
    type Writer<'s>
        = Ear<'s>
    where
        Self: 's;

    fn split(&mut self) -> (Mouth<'_, 'a>, Ear<'_>) {
        let Wire { exchange, said, heard } = self;
        (Mouth { exchange, said }, Ear { exchange, heard })
    }

    fn abort(self) {}
}
