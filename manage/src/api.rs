//! The API: a request becomes an answer. Nothing here knows a socket; `http.rs` brings requests and takes answers away.

use crate::access::{self, Bearer, Entry};
use crate::capture;
use crate::console::grammar::Place;
use crate::console::parse::{Context, parse_at};
use crate::etag;
use crate::explain::Question;
use crate::metrics;
use crate::model::{Field, Value, json};
use crate::openapi;
use crate::problem::{Refused, refuse};
use crate::router::{Command, Done, Router};
use crate::routes::{Answer, Method, Operation, Query, ROUTES, Route};
use crate::text::Text;
use alloc::borrow::Cow;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::Deref;

/// A request without its body.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// As it came.
    pub method: &'r str,
    /// Without the query.
    pub path: &'r str,
    /// What comes after the question mark.
    pub query: &'r str,
    /// The header `Authorization`.
    pub authorization: Option<&'r str>,
    /// The header `Accept`.
    pub accept: Option<&'r str>,
    /// The header `Accept-Encoding`.
    pub accept_encoding: Option<&'r str>,
    /// The header `If-Match`.
    pub if_match: Option<&'r str>,
    /// The header `If-None-Match`.
    pub if_none_match: Option<&'r str>,
    /// Whose it is.
    pub peer: IpAddr,
}

impl Request<'_> {
    /// Whether it is answered by its head alone (RFC 9110 §9.3.2).
    pub fn wants_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// Whether it asks for what a request with this method does.
    pub fn asks(&self, method: Method) -> bool {
        self.method == method.name() || method == Method::Get && self.wants_head()
    }
}

/// What a request is answered with.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The header `Content-Type`.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body.
    pub body: Body,
}

/// Bytes of an answer, which several may send at once.
#[derive(Clone, Debug)]
pub enum Body {
    /// Part of the image.
    Static(&'static [u8]),
    /// Made for a request.
    Made(Rc<Vec<u8>>),
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Body::Static(bytes) => bytes,
            Body::Made(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Body::Made(Rc::new(bytes))
    }
}

impl Body {
    /// No bytes.
    pub const EMPTY: Self = Body::Static(&[]);
}

/// A request that may be answered.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// What it does.
    pub route: &'static Route,
    /// Whose token it has.
    pub bearer: Bearer,
    /// The numbers of its query, in the route's order.
    numbers: Vec<Option<u64>>,
    /// As well its texts.
    texts: Vec<Option<String>>,
}

/// Types of contents.
pub mod content {
    /// JSON.
    pub const JSON: &str = "application/json";
    /// A refusal (RFC 9457).
    pub const PROBLEM: &str = "application/problem+json";
    /// Text for people.
    pub const TEXT: &str = "text/plain; charset=utf-8";
    /// A configuration (RFC 9618 registers no better name; TOML's own).
    pub const TOML: &str = "application/toml";
    /// Prometheus' text format.
    pub const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
    /// Captured packets (draft-ietf-opsawg-pcapng).
    pub const PCAPNG: &str = "application/x-pcapng";
    /// Server-sent events (HTML Standard).
    pub const EVENTS: &str = "text/event-stream";
    /// OpenMetrics 1.0.
    pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
}

impl Response {
    fn new(status: u16, content_type: &'static str, body: impl Into<Body>) -> Self {
        let headers = [("Cache-Control", "no-store".into())].into();
        Self { status, content_type, headers, body: body.into() }
    }

    fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl From<Refused> for Response {
    fn from(refused: Refused) -> Self {
        let response = Response::new(refused.0.status, content::PROBLEM, json(&refused.0.value()));
        match refused.0.status {
            401 => response.with("WWW-Authenticate", "Bearer"),
            _ => response,
        }
    }
}

/// Whether a request may be answered: it is for something that there is, its query can be, and its bearer may enter.
///
/// # Errors
/// The answer that it gets otherwise.
pub async fn admit<R: Router>(router: &R, request: &Request<'_>) -> Result<Admitted, Response> {
    let of_path: Vec<&'static Route> = ROUTES.iter().filter(|route| route.path == request.path).collect();
    if of_path.is_empty() {
        return Err(no_such_path(request.path).into());
    }
    // Before anything is told of what there is.
    let bearer = enter(router, request).await?;
    let Some(route) = of_path.iter().find(|route| request.asks(route.method)) else {
        let names = of_path.iter().map(|route| match route.method {
            Method::Get => "GET, HEAD",
            other => other.name(),
        });
        let allowed = names.collect::<Vec<_>>().join(", ");
        return Err(Response::from(no_such_method(request, &allowed)).with("Allow", allowed));
    };
    let (numbers, texts) = queried(route, request.query)?;
    Ok(Admitted { route, bearer, numbers, texts })
}

async fn enter<R: Router>(router: &R, request: &Request<'_>) -> Result<Bearer, Response> {
    let token = request.authorization.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let check = match router.access(|access| access.enter(token, request.peer, router.now_ms())) {
        Entry::Allowed(bearer) => return Ok(bearer),
        Entry::Refused(refused, None) => return Err(refused.into()),
        Entry::Refused(refused, Some(seconds)) => {
            return Err(Response::from(refused).with("Retry-After", seconds.to_string()));
        }
        Entry::Check(check) => check,
    };
    let mut found = None;
    for number in 0..check.len() {
        match check.run(number) {
            Ok(true) => found = Some(number),
            Ok(false) => {}
            Err(_) => return Err(access::no_memory().into()),
        }
        // Each takes milliseconds.
        router.sleep_ms(0).await;
    }
    router.access(|access| access.checked(&check, found)).map_err(Response::from)
}

type Queried = (Vec<Option<u64>>, Vec<Option<String>>);

fn queried(route: &Route, query: &str) -> Result<Queried, Refused> {
    let known = || route.query.iter().map(|query| query.name).collect::<Vec<_>>().join(", ");
    let mut numbers: Vec<Option<u64>> = route.query.iter().map(|query| query.default).collect();
    let mut texts: Vec<Option<String>> = route.query.iter().map(|_| None).collect();
    let mut given = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let place = route.query.iter().position(|query| query.name == name);
        let Some((place, Query { range: (least, most), text, .. })) =
            place.and_then(|place| Some((place, route.query.get(place)?)))
        else {
            let cure = match route.query {
                [] => format!("{} takes no query", route.path),
                _ => format!("{} takes {}", route.path, known()),
            };
            return Err(refuse(400, "The query is not known", format!("found {name:?}"), cure));
        };
        if *text {
            let decoded = decoded(value).filter(|text| (*least..=*most).contains(&(text.len() as u64)));
            let (Some(decoded), false) = (decoded, given.contains(&place)) else {
                let cure =
                    format!("give one text of at most {most} bytes of UTF-8, others than letters as %XX");
                return Err(refuse(400, "The query cannot be", format!("{name}: found {value:?}"), cure));
            };
            given.push(place);
            if let Some(own) = texts.get_mut(place) {
                *own = Some(decoded);
            }
            continue;
        }
        let number = value.parse().ok().filter(|number| (least..=most).contains(&number));
        let (Some(number), false) = (number, given.contains(&place)) else {
            let found = format!("{name}: found {value:?}");
            let cure = match *most {
                u64::MAX => format!("give one whole number from {least} on"),
                _ => format!("give one whole number from {least} to {most}"),
            };
            return Err(refuse(400, "The query cannot be", found, cure));
        };
        given.push(place);
        if let Some(own) = numbers.get_mut(place) {
            *own = Some(number);
        }
    }
    let missing = route.query.iter().zip(&numbers).find(|(query, number)| query.needed && number.is_none());
    match missing {
        None => Ok((numbers, texts)),
        Some((Query { name, doc, .. }, _)) => {
            let doc = doc.trim_end_matches('.').to_ascii_lowercase();
            Err(refuse(
                400,
                "The query is not whole",
                format!("{name} is missing: {doc}"),
                format!("add ?{name}=N"),
            ))
        }
    }
}

/// What a value in a query stands for (URL Standard, application/x-www-form-urlencoded parsing).
fn decoded(value: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), value.as_bytes());
    while let Some((&byte, later)) = rest.split_first() {
        rest = later;
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (digits, later) = rest.split_first_chunk::<2>()?;
                rest = later;
                let digit = |byte: u8| char::from(byte).to_digit(16);
                (digit(digits[0])? << 4 | digit(digits[1])?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// What a packet's text comes after, as a line of the console.
const EXPLAIN: &str = "explain ";

/// The packet that a request asks about.
fn asked<R: Router>(router: &R, texts: &[Option<String>]) -> Result<Question, Refused> {
    let text = |place: usize| texts.get(place).and_then(Option::as_deref).unwrap_or_default();
    let wrong = |wrong: String| {
        let cure = "give it as the console's `explain` takes it: \
                    ?packet=lan+from+10.0.1.2+to+192.0.2.2+protocol+udp+port+53";
        refuse(400, "The packet cannot be understood", wrong, cure)
    };
    let context = Context { place: Place::Operate, interfaces: &[], candidate: "" };
    let line = format!("{EXPLAIN}{}", text(0));
    let column = |at| line.get(EXPLAIN.len()..at).map_or(1, |before| before.chars().count() + 1);
    let parsed = parse_at(&line, context).map_err(|(at, why)| wrong(why).at(column(at)))?;
    let candidate = match text(1) {
        "" | "false" => parsed.says("candidate"),
        "true" => true,
        other => {
            let found = format!("candidate: found {other:?}");
            return Err(refuse(400, "The query cannot be", found, "give true or false"));
        }
    };
    let met = match candidate {
        true => Some(router.configurations().candidate.ok_or_else(no_candidate)?.text.text.to_string()),
        false => None,
    };
    Question::of(&parsed, met).map_err(|why| {
        // Both addresses are right, but not of a kind.
        let destination = parsed.argument("DESTINATION").and_then(|word| line.rfind(word));
        wrong(why).at(destination.map_or(1, column))
    })
}

/// The capture that a request asks for.
///
/// # Errors
/// The router does not begin it.
pub fn capture<R: Router>(router: &R, admitted: &Admitted) -> Result<(R::Capture, capture::Wish), Response> {
    let [interface, filter, snaplen, direction, limit, buffer] = core::array::from_fn(|place| {
        let number = admitted.numbers.get(place).copied().flatten();
        (number, admitted.texts.get(place).cloned().flatten())
    });
    let whole = capture::Wish::default();
    let wish = capture::Wish {
        interface: interface.1.filter(|name| !name.is_empty()),
        filter: filter.1.unwrap_or_default(),
        snaplen: snaplen.0.map_or(whole.snaplen, |bytes| bytes as u32),
        directions: direction.1.map_or(Ok(whole.directions), |words| capture::directions(&words))?,
        limit: limit.0,
        buffer: buffer.0.map_or(whole.buffer, |kib| (kib as usize) << 10),
    };
    Ok((router.capture(&wish)?, wish))
}

/// The answer to a request, but for [`Operation::Events`] and [`Operation::Capture`], whose answers have no end. `body` is its body.
pub async fn answer<R: Router>(
    router: &R,
    request: &Request<'_>,
    admitted: &Admitted,
    body: Vec<u8>,
) -> Response {
    respond(router, request, admitted, body).await.unwrap_or_else(Response::from)
}

async fn respond<R: Router>(
    router: &R,
    request: &Request<'_>,
    admitted: &Admitted,
    body: Vec<u8>,
) -> Result<Response, Refused> {
    let model = |value: Value<'_>| {
        Ok(match wants_text(request.accept) {
            true => Response::new(200, content::TEXT, Text(&value).to_string().into_bytes()),
            false => Response::new(200, content::JSON, json(&value)),
        })
    };
    let number = |place: usize| admitted.numbers.get(place).copied().flatten();
    let size = |place: usize| number(place).and_then(|number| number.try_into().ok()).unwrap_or(usize::MAX);
    let if_match = || etag::expected(request.if_match);
    let command = match admitted.route.operation {
        Operation::Status => return model(router.status().value()),
        Operation::Interfaces => return model(router.interfaces().value()),
        Operation::Routes => return model(router.routes(size(0), size(1)).value()),
        Operation::Neighbors => return model(router.neighbors().await.value()),
        Operation::Drops => {
            return match number(0) {
                Some(_) => model(router.recorded(size(0)).value()),
                None => model(router.drops().value()),
            };
        }
        Operation::Explain => {
            let question = asked(router, &admitted.texts)?;
            return model(router.explain(question).await?.value());
        }
        // `http.rs` asks for it by `capture`.
        Operation::Capture => return Ok(Response::new(200, content::PCAPNG, Body::EMPTY)),
        Operation::Cpus => return model(router.cpus().value()),
        Operation::Log => return model(router.log(number(0).unwrap_or(0)).value()),
        Operation::Events => return model(router.events(number(0).unwrap_or(0)).value()),
        Operation::History => return model(router.configurations().history().value()),
        Operation::OpenApi => return Ok(Response::new(200, content::JSON, openapi::document().into_bytes())),
        Operation::Metrics => {
            let (format, content_type) =
                match request.accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
                    true => (metrics::Format::Open, content::OPEN_METRICS),
                    false => (metrics::Format::Plain, content::METRICS),
                };
            return Ok(Response::new(200, content_type, metrics::page(router, format).await.into_bytes()));
        }
        Operation::Config => {
            let text = router.configurations().running;
            return Ok(configuration(request, &text.text, &text.etag));
        }
        Operation::Candidate => {
            let candidate = router.configurations().candidate.ok_or_else(no_candidate)?;
            return Ok(configuration(request, &candidate.text.text, &candidate.text.etag));
        }
        Operation::Put => {
            Command::Put { text: String::from_utf8(body).map_err(not_utf8)?, if_match: if_match()? }
        }
        Operation::Discard => Command::Discard,
        Operation::Commit => Command::Commit {
            by: admitted.bearer.name.to_string(),
            confirm_ms: number(0).map(|seconds| seconds * 1000),
            if_match: if_match()?,
        },
        Operation::Confirm => Command::Confirm,
        Operation::Revert => Command::Revert,
        Operation::Rollback => Command::Rollback { version: number(0).unwrap_or(0) },
    };
    match router.command(command).await? {
        Done::Planned(plan) => {
            let etag = format!("\"{}\"", plan.etag);
            model(plan.value()).map(|response| response.with("ETag", etag))
        }
        Done::Committed(committed) => model(committed.value()),
        Done::Discarded => Ok(Response::new(204, content::TEXT, Body::EMPTY)),
        Done::Version(version) => {
            let history = router.configurations().history();
            model(history.iter().find(|entry| entry.version == version).map_or(Value::Null, Field::value))
        }
    }
}

fn configuration(request: &Request<'_>, text: &str, etag: &str) -> Response {
    let response = match request.if_none_match.is_some_and(|value| etag::is_known(value, etag)) {
        true => Response::new(304, content::TOML, Body::EMPTY),
        false => Response::new(200, content::TOML, text.as_bytes().to_vec()),
    };
    response.with("ETag", format!("\"{etag}\""))
}

/// Whether the first type that is accepted is text; JSON is for whoever says nothing.
fn wants_text(accept: Option<&str>) -> bool {
    accept.is_some_and(|accept| accept.trim_start().starts_with("text/plain"))
}

/// Whether the body of such a request matters; bytes that it may have.
pub fn longest_body<R: Router>(router: &R, route: &Route) -> usize {
    match route.method {
        Method::Put => router.longest_text(),
        _ => 0,
    }
}

/// Whether the answer is a stream, and its type.
pub fn stream_type(admitted: &Admitted) -> Option<&'static str> {
    match admitted.route.answer {
        Answer::Stream(_) => Some(content::EVENTS),
        Answer::Capture => Some(content::PCAPNG),
        _ => None,
    }
}

/// Whether the answer is a stream of events, and from which event on.
pub fn stream_from(admitted: &Admitted) -> Option<u64> {
    match admitted.route.answer {
        Answer::Stream(_) => Some(admitted.numbers.first().copied().flatten().unwrap_or(0)),
        _ => None,
    }
}

/// A body is longer than may be.
pub fn too_long(found: usize, longest: usize) -> Refused {
    let detail = format!("the body has {found} bytes, and {longest} can be read");
    let cure = match longest {
        0 => "send no body: this request takes none",
        _ => {
            "make the configuration shorter (many destinations in one route's text), or give the machine more memory"
        }
    };
    refuse(413, "The body is too long", detail, cure)
}

/// How long the body is was not said.
pub fn no_length(detail: &str) -> Refused {
    refuse(
        411,
        "The body's length is missing",
        detail,
        "send the whole text with Content-Length; curl does so with --data-binary @FILE",
    )
}

fn not_utf8(error: alloc::string::FromUtf8Error) -> Refused {
    let at = error.utf8_error().valid_up_to();
    refuse(
        422,
        "The configuration has errors",
        format!("byte {at} is not UTF-8"),
        "save the file as UTF-8 text",
    )
}

fn no_candidate() -> Refused {
    refuse(404, "There is no candidate", "nothing was put since the last commit", "PUT /api/v1/config first")
}

fn no_such_path(path: &str) -> Refused {
    let path: String = path.chars().take(80).collect();
    refuse(404, "There is no such path", format!("found {path:?}"), "GET /api/v1/openapi.json lists all")
}

fn no_such_method(request: &Request<'_>, allowed: &str) -> Refused {
    let method: String = request.method.chars().take(20).collect();
    refuse(
        405,
        "There is no such method here",
        format!("found {method:?}"),
        format!("{} takes {allowed}", request.path),
    )
}
