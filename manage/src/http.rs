//! The API over any stream of bytes, by `picoserve`: it speaks HTTP/1.1, `api.rs` answers.

mod connection;
mod servers;
mod streams;

pub use servers::Servers;

use crate::api::{self, Body, Request, Response};
use crate::problem::{Refused, refuse};
use crate::router::Router;
use crate::routes::{Method, Operation};
use crate::web;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use connection::{Clock, Connection, Stage};
use core::cell::Cell;
use core::net::IpAddr;
use picoserve::io;
use picoserve::io::embedded_io_async::{Read, Write};
use picoserve::request::{Headers, Path};
use picoserve::response::custom::CustomResponse;
use picoserve::response::sse::EventStream;
use picoserve::response::{Content, IntoResponse, ResponseWriter, StatusCode};
use picoserve::routing::PathRouterService;
use picoserve::time::Duration;
use picoserve::{KeepAlive, ResponseSent, Timeouts};
use streams::{Captured, Events};

/// Bytes of a request's line and headers.
pub const HEAD: usize = 4096;
/// Bytes of a body that is not wanted, and is read nevertheless where a good token comes with it.
const DRAINED: usize = 1 << 20;
/// A large configuration takes a while on a slow link.
const TIMEOUTS: Timeouts = Timeouts {
    start_read_request: Duration::from_secs(10),
    // Who has nothing to say right now waits without a server: see `serve`.
    persistent_start_read_request: Duration::from_secs(0),
    read_request: Duration::from_secs(60),
    // Of a stretch of an answer, not of all: see `connection`.
    write: Duration::from_secs(20),
};

/// A connection of the network.
pub trait Stream {
    /// What can go wrong with it.
    type Error: io::Error + 'static;
    /// Where bytes come from.
    type Reader<'s>: Read<Error = Self::Error>
    where
        Self: 's;
    /// Where they go.
    type Writer<'s>: Write<Error = Self::Error>
    where
        Self: 's;

    /// Both at once.
    fn split(&mut self) -> (Self::Reader<'_>, Self::Writer<'_>);

    /// Ends it at once: what is on its way may be lost.
    fn abort(self);
}

/// Whether the bytes that have come hold the head of a request. What comes before it (RFC 9112 §2.2) and what is none is
/// looked at by a server: it says so.
pub fn has_head(bytes: &[u8]) -> bool {
    let ends = |rest: &[u8]| rest.starts_with(b"\n") || rest.starts_with(b"\r\n");
    // From behind, where it mostly is.
    let mut lines = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    bytes.len() >= HEAD || lines.any(|(at, _)| bytes.get(at + 1..).is_some_and(ends))
}

/// Serves one connection, from `peer`, while it has requests. Returned if it may have more later: who serves it is free
/// for others until something comes ([`has_head`]).
pub async fn serve<R: Router, S: Stream>(
    router: &R,
    stream: S,
    peer: IpAddr,
    servers: &Servers,
) -> Option<S> {
    let stage = Cell::new(Stage::New);
    let service = picoserve::Router::from_service(Service {
        router,
        peer,
        servers,
        stage: &stage,
        head_only: Cell::new(false),
    });
    let config = picoserve::Config { timeouts: TIMEOUTS, connection: KeepAlive::KeepAlive };
    let (mut head, idle, mut left) = (servers.head(), Cell::new(false), None);
    let server =
        picoserve::Server::custom(&service, Clock { router, stage: &stage, idle: &idle }, &config, &mut head);
    // However it ends, it has ended: who asked knows.
    let _ = server.serve(Connection { stream, stage: &stage, left: &mut left }).await;
    servers.keep_head(head);
    left.filter(|_| idle.get())
}

struct Service<'r, R> {
    router: &'r R,
    peer: IpAddr,
    servers: &'r Servers,
    stage: &'r Cell<Stage>,
    /// The request in hand is answered without a body, but as one with.
    head_only: Cell<bool>,
}

/// Headers that matter here.
static HEADERS: [&str; 7] = [
    "Authorization",
    "Accept",
    "Accept-Encoding",
    "If-Match",
    "If-None-Match",
    "Transfer-Encoding",
    "Content-Length",
];

/// What one of [`HEADERS`] says.
type Said<'h> = Option<Cow<'h, str>>;

/// What [`HEADERS`] say, in one pass. Several lines are one list (RFC 9110 §5.3).
///
/// # Errors
/// A line is not text, or comes again where no list can be, or leaves open where the body ends.
fn known<'h>(headers: Headers<'h>, found: &mut [Said<'h>; HEADERS.len()]) -> Result<(), Refused> {
    for (name, value) in headers.iter() {
        let Some((place, &own)) = found.iter_mut().zip(&HEADERS).find(|(_, own)| name == **own) else {
            continue;
        };
        let value =
            value.as_str().map_err(|_| bad_header(format!("{own} is not UTF-8"), "send it as text"))?;
        *place = Some(match place.take() {
            None => value.into(),
            Some(_) if matches!(own, "Authorization" | "Content-Length") => {
                return Err(bad_header(format!("{own} comes more than once"), "send it once"));
            }
            Some(before) => format!("{before}, {value}").into(),
        });
    }
    let is_length =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<usize>().is_ok();
    match found {
        [.., Some(_), Some(_)] => {
            Err(bad_header("Transfer-Encoding comes with Content-Length".into(), "send Content-Length alone"))
        }
        [.., Some(length)] if !is_length(length) => {
            let length: String = length.chars().take(40).collect();
            Err(bad_header(format!("Content-Length says {length:?}"), "send the number of the body's bytes"))
        }
        _ => Ok(()),
    }
}

fn bad_header(detail: String, cure: &str) -> Refused {
    refuse(400, "A header cannot be", detail, cure)
}

impl<R: Router> PathRouterService for Service<'_, R> {
    async fn call_path_router_service<B: Read, W: ResponseWriter<Error = B::Error>>(
        &self,
        (): &(),
        (): (),
        path: Path<'_>,
        mut request: picoserve::request::Request<'_, B>,
        writer: W,
    ) -> Result<ResponseSent, W::Error> {
        if self.stage.get() == Stage::Over {
            let connection = request.body_connection.finalize().await?;
            let unseen = picoserve::response::Response::empty(StatusCode::BAD_REQUEST);
            return writer.write_response(connection, unseen).await;
        }
        self.stage.set(Stage::Asked);
        self.head_only.set(request.parts.method() == "HEAD");
        let expected = request.body_connection.content_length();
        let mut found = [const { None }; HEADERS.len()];
        if let Err(refused) = known(request.parts.headers(), &mut found) {
            self.stage.set(Stage::Last);
            return self.send(request.body_connection.finalize().await?, writer, refused).await;
        }
        let [authorization, accept, accept_encoding, if_match, if_none_match, transfer_encoding, length] =
            found.each_ref().map(Option::as_deref);
        let asked = Request {
            method: request.parts.method(),
            path: path.encoded(),
            query: request.parts.query().map_or("", |query| query.0),
            authorization,
            accept,
            accept_encoding,
            if_match,
            if_none_match,
            peer: self.peer,
        };
        let admitted = match web::answer(&asked) {
            Some(file) => Err(file),
            None => api::admit(self.router, &asked).await,
        };
        // Nobody waits for a body that nobody reads, but for one that comes with a token (RFC 9112 §9.6).
        if transfer_encoding.is_some() || expected > 0 && admitted.is_err() {
            self.stage.set(Stage::Last);
        }
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(response) => {
                return self.send(request.body_connection.finalize().await?, writer, response).await;
            }
        };
        let longest = api::longest_body(self.router, admitted.route);
        let problem = match (transfer_encoding, length) {
            (Some(_), _) => {
                Some(api::no_length("it comes with Transfer-Encoding and without Content-Length"))
            }
            // No text is not an empty one.
            (None, None) if admitted.route.method == Method::Put => {
                Some(api::no_length("the request has neither a body nor Content-Length"))
            }
            _ => (expected > longest).then(|| api::too_long(expected, longest)),
        };
        // Who writes all of it before reading anything hears why; what nobody would send is not waited for.
        if problem.is_some() && expected > DRAINED {
            self.stage.set(Stage::Last);
        }
        let mut body = Vec::new();
        let problem = problem.or_else(|| {
            let no_room = body.try_reserve_exact(expected).is_err();
            no_room.then(|| api::too_long(expected, self.router.longest_text().min(expected / 2)))
        });
        if problem.is_none() && expected > 0 {
            let mut reader = request.body_connection.body().reader();
            let mut piece = [0; 512];
            while body.len() < expected {
                match reader.read(&mut piece).await? {
                    0 => break,
                    count => body.extend_from_slice(piece.get(..count).unwrap_or_default()),
                }
            }
        }
        let response = match (problem, api::stream_from(&admitted)) {
            (Some(problem), _) => Response::from(problem),
            (None, _) if asked.wants_head() && api::stream_type(&admitted).is_some() => {
                let content_type = api::stream_type(&admitted).unwrap_or_default();
                Response { status: 200, content_type, headers: Vec::new(), body: Body::EMPTY }
            }
            (None, Some(from)) => match self.servers.open() {
                Some(_open) => {
                    let events = Events { router: self.router, admitted, from };
                    let connection = request.body_connection.finalize().await?;
                    // What is large and rare is boxed: picoserve moves all of its future for each request.
                    return Box::pin(EventStream(events).write_to(connection, writer)).await;
                }
                None => Response::from(too_many_streams()),
            },
            (None, None) if admitted.route.operation == Operation::Capture => match self.servers.open() {
                Some(_open) => {
                    let connection = request.body_connection.finalize().await?;
                    return match api::capture(self.router, &admitted) {
                        Ok((source, wish)) => {
                            let capture = Captured { router: self.router, admitted, source, wish };
                            // It ends with the connection, also while there is nothing to send.
                            let response = CustomResponse::build(StatusCode::OK)
                                .with_headers(Captured::<R>::HEADERS)
                                .with_body(capture);
                            let sent = Box::pin(response.write_to(connection, writer)).await?;
                            self.stage.set(Stage::Over);
                            Ok(sent)
                        }
                        Err(refused) => self.send(connection, writer, refused).await,
                    };
                }
                None => Response::from(too_many_streams()),
            },
            // Half a configuration is none: nothing is done with it, and nobody hears of it.
            (None, None) if body.len() < expected => Response::from(cut_short(body.len(), expected)),
            (None, None) => match self.servers.recall(&asked, &admitted) {
                Some(response) => response,
                None => {
                    let moment = self.servers.moment();
                    let response = api::answer(self.router, &asked, &admitted, body).await;
                    self.servers.keep(moment, &asked, &admitted, &response);
                    response
                }
            },
        };
        let waiting = self.servers.send(response.body.len());
        // What changed something says so.
        let response = match admitted.route.method {
            Method::Get if waiting.is_none() => Response::from(too_many_long()),
            _ => response,
        };
        self.send(request.body_connection.finalize().await?, writer, response).await
    }
}

impl<R: Router> Service<'_, R> {
    async fn send<B: Read, W: ResponseWriter<Error = B::Error>>(
        &self,
        connection: picoserve::response::Connection<'_, B>,
        writer: W,
        response: impl Into<Response>,
    ) -> Result<ResponseSent, W::Error> {
        let mut response = response.into();
        let stage = match self.stage.get() {
            Stage::Last => {
                response.headers.push(("Connection", "close".into()));
                Stage::Over
            }
            _ => Stage::Answered,
        };
        let head_only = self.head_only.get();
        let endless = head_only && response.status == 200 && response.body.is_empty();
        if endless {
            response.headers.push(("Content-Type", response.content_type.into()));
        }
        let (status, typed) = (StatusCode::new(response.status), Typed { response, head_only });
        let headers = &typed.response.headers[..];
        // RFC 9110 §8.6: without Content-Length, as there is no body to measure.
        let sent = if endless || matches!(typed.response.status, 204 | 304) {
            let response = picoserve::response::Response::empty(status).with_headers(headers);
            writer.write_response(connection, response).await?
        } else {
            let response = picoserve::response::Response::new(status, &typed).with_headers(headers);
            writer.write_response(connection, response).await?
        };
        self.stage.set(stage);
        Ok(sent)
    }
}

fn cut_short(found: usize, expected: usize) -> Refused {
    refuse(
        400,
        "The body is cut short",
        format!("{found} bytes of {expected} came"),
        "send the whole text again",
    )
}

fn too_many_long() -> Refused {
    refuse(
        503,
        "Too many long answers wait",
        "their readers are slow, and each takes memory until it is read",
        "try again later, or ask for less at once: routes with limit=1000",
    )
}

fn too_many_streams() -> Refused {
    refuse(
        503,
        "There are too many streams",
        "each keeps a server busy, and others are to be answered too",
        "end a capture or close a page that is not looked at, or try again later",
    )
}

/// A body with its type.
struct Typed {
    response: Response,
    head_only: bool,
}

impl Content for &Typed {
    fn content_type(&self) -> &'static str {
        self.response.content_type
    }

    fn content_length(&self) -> usize {
        self.response.body.len()
    }

    async fn write_content<W: io::Write>(self, mut writer: W) -> Result<(), W::Error> {
        match self.head_only {
            true => Ok(()),
            false => writer.write_all(&self.response.body).await,
        }
    }
}
