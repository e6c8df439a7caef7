//! The API as a state machine: any sequence of requests, against the few rules that configurations follow.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

use serde_json::Value as Json;
use weir_manage::api::{self, Request, Response};
use weir_manage::fingerprint::fingerprint;
use weir_manage::router::Router as _;
use weir_manage::routes::{Answer, Operation, ROUTES, Route};

use crate::input::Input;
use crate::simulated::schema::matches_schema;
use crate::simulated::{BOOT, Simulated};

/// Requests of one run.
const MOST: usize = 100;
/// Texts that are put; the simulated router takes all but those with a line that has "bad" in it.
const TEXTS: [&str; 5] = [
    BOOT,
    "[interface.wan]\n",
    "hostname = \"edge2\"\n[interface.wan]\n[interface.dmz]\n",
    "",
    "[interface.wan]\nbad = 1\n",
];

/// One run.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let router = Simulated::stopped();
    let token = format!("Bearer {}", router.grant());
    let mut run = Run { router, token, model: Model::new() };
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        run.step(&mut input);
        run.agrees();
    }
}

/// What configurations are to do, in a few lines.
struct Model {
    /// By version, from 1 on.
    texts: Vec<String>,
    /// Text, and the tag of the one that it replaces.
    candidate: Option<(String, String)>,
    /// The version that comes back, and when.
    pending: Option<(usize, u64)>,
}

impl Model {
    fn new() -> Self {
        Self { texts: vec![BOOT.into()], candidate: None, pending: None }
    }

    fn running(&self) -> &str {
        self.texts.last().map_or("", |text| text)
    }

    fn put(&mut self, text: &str, if_match: Option<&str>) -> u16 {
        let running = fingerprint(self.running().as_bytes());
        if if_match.is_some_and(|tag| tag != running) {
            return 412;
        }
        if text.contains("bad") {
            return 422;
        }
        self.candidate = Some((text.into(), running));
        200
    }

    fn commit(&mut self, if_match: Option<&str>, deadline_ms: Option<u64>) -> u16 {
        let Some((text, replaces)) = self.candidate.clone().filter(|_| self.pending.is_none()) else {
            return 409;
        };
        if if_match.is_some_and(|tag| tag != fingerprint(text.as_bytes())) {
            return 412;
        }
        if replaces != fingerprint(self.running().as_bytes()) {
            return 409;
        }
        self.pending = deadline_ms.map(|deadline_ms| (self.texts.len(), deadline_ms));
        self.texts.push(text);
        self.candidate = None;
        200
    }

    fn confirm(&mut self) -> u16 {
        if self.pending.take().is_some() { 200 } else { 409 }
    }

    fn revert(&mut self) -> u16 {
        let Some((version, _)) = self.pending.take() else { return 409 };
        self.texts.push(self.texts[version - 1].clone());
        200
    }

    fn rollback(&mut self, version: u64) -> u16 {
        let oldest = self.texts.len().saturating_sub(weir_manage::configurations::HISTORY);
        let text = usize::try_from(version).ok().and_then(|version| version.checked_sub(1));
        match text.filter(|&at| at >= oldest).and_then(|at| self.texts.get(at)).cloned() {
            Some(text) => self.put(&text, None),
            None => 404,
        }
    }
}

struct Run {
    router: Simulated,
    token: String,
    model: Model,
}

impl Run {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 10 {
            0 => self.pass(input.pick(&[1, 999, 1000, 4000, 60_000, 3_600_000])),
            1 | 2 => {
                let (text, if_match) = (input.pick(&TEXTS), self.tag(input));
                let got = self.ask("PUT", "/api/v1/config", "", if_match.as_deref(), text.as_bytes());
                assert_eq!(got.status, self.model.put(text, if_match.as_deref()), "{}", said(&got));
            }
            3 | 4 => {
                let (seconds, if_match) = (input.pick(&[0, 1, 5, 60, 3600, 3601]), self.tag(input));
                let confirm = !input.one_in(3);
                let query = if confirm { format!("confirm={seconds}") } else { String::new() };
                let got = self.ask("POST", "/api/v1/config/commit", &query, if_match.as_deref(), &[]);
                let deadline = confirm.then(|| self.router.now_ms() + seconds * 1000);
                let expected = match confirm && !(1..=3600).contains(&seconds) {
                    true => 400,
                    false => self.model.commit(if_match.as_deref(), deadline),
                };
                assert_eq!(got.status, expected, "{}", said(&got));
            }
            5 => {
                let got = self.ask("POST", "/api/v1/config/confirm", "", None, &[]);
                assert_eq!(got.status, self.model.confirm(), "{}", said(&got));
            }
            6 => {
                let got = self.ask("POST", "/api/v1/config/revert", "", None, &[]);
                assert_eq!(got.status, self.model.revert(), "{}", said(&got));
            }
            7 => {
                let version = u64::from(input.byte() % 8);
                let got =
                    self.ask("POST", "/api/v1/config/rollback", &format!("version={version}"), None, &[]);
                let expected = if version == 0 { 400 } else { self.model.rollback(version) };
                assert_eq!(got.status, expected, "{}", said(&got));
            }
            8 => {
                let got = self.ask("DELETE", "/api/v1/config/candidate", "", None, &[]);
                let expected = if self.model.candidate.take().is_some() { 204 } else { 404 };
                assert_eq!(got.status, expected, "{}", said(&got));
            }
            _ => self.anything(input),
        }
    }

    /// A request that reads, or is refused: whatever its words.
    fn anything(&mut self, input: &mut Input<'_>) {
        let reads = |route: &&Route| route.method.name() == "GET" && route.operation != Operation::Events;
        let route = ROUTES.iter().filter(reads).nth(input.below(ROUTES.len()));
        let word = |input: &mut Input<'_>| {
            let len = input.byte() as usize % 24;
            String::from_utf8_lossy(input.bytes(len)).into_owned()
        };
        let path = route.map_or_else(|| word(input), |route| route.path.into());
        let method = if input.one_in(4) { word(input) } else { "GET".into() };
        let authorization = match input.byte() % 4 {
            0 => word(input),
            1 => format!("bearer {}", word(input)),
            _ => self.token.clone(),
        };
        let (query, accept, tag) = (word(input), word(input), word(input));
        let request = Request {
            method: &method,
            path: &path,
            query: &query,
            authorization: Some(&authorization),
            accept: Some(&accept),
            accept_encoding: Some(&tag),
            if_match: Some(&tag),
            if_none_match: Some(&tag),
            peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, input.byte())),
        };
        if ["PUT", "POST", "DELETE"].contains(&&*method) {
            return;
        }
        let got = self.answer(&request, Vec::new());
        if authorization.split_once(' ').is_none_or(|(_, token)| !self.token.ends_with(token.trim())) {
            assert!(matches!(got.status, 401 | 404 | 429), "{}", said(&got));
        }
        match route.filter(|_| got.status == 200).map(|route| route.answer) {
            Some(Answer::Model(_)) if got.content_type == api::content::JSON => {
                let path = path.replace('/', "~1");
                let schema = format!("/paths/{path}/get/responses/200/content/application~1json/schema");
                let schema = document().pointer(&schema).expect("the document knows it");
                matches_schema(document(), schema, &serde_json::from_slice(&got.body).expect("JSON"));
            }
            _ => {}
        }
    }

    /// Time goes by; its owner looks at the configurations each second, as often as matters.
    fn pass(&mut self, ms: u64) {
        self.router.pass(ms);
        self.router.tick();
        // It may have run out.
        assert_eq!(self.token, format!("Bearer {}", self.router.grant()));
        if self.model.pending.is_some_and(|(_, deadline)| self.router.now_ms() >= deadline) {
            self.model.revert();
        }
    }

    /// A tag that a request may name: the right one or another.
    fn tag(&self, input: &mut Input<'_>) -> Option<String> {
        match input.byte() % 6 {
            0 => Some(fingerprint(self.model.running().as_bytes())),
            1 => Some(fingerprint(self.model.candidate.as_ref().map_or(b"x", |(text, _)| text.as_bytes()))),
            2 => Some(fingerprint(input.pick(&TEXTS).as_bytes())),
            _ => None,
        }
    }

    fn ask(&self, method: &str, path: &str, query: &str, if_match: Option<&str>, body: &[u8]) -> Response {
        // Of a list one tag counts, and a weak one never does.
        let if_match =
            if_match.map(|tag| format!("\"0\" ,W/\"{}\", \"{tag}\"", fingerprint(BOOT.as_bytes())));
        let request = Request {
            method,
            path,
            query,
            authorization: Some(&self.token),
            accept: None,
            accept_encoding: None,
            if_match: if_match.as_deref(),
            if_none_match: None,
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        self.answer(&request, body.into())
    }

    fn answer(&self, request: &Request<'_>, body: Vec<u8>) -> Response {
        ready(async {
            let admitted = match api::admit(&self.router, request).await {
                Ok(admitted) => admitted,
                Err(refused) => return refused,
            };
            api::answer(&self.router, request, &admitted, body).await
        })
    }

    /// What is told is what the model has: whole texts, with their tags.
    fn agrees(&self) {
        let got = self.ask("GET", "/api/v1/config", "", None, &[]);
        is_text(&got, self.model.running());
        let got = self.ask("GET", "/api/v1/config/candidate", "", None, &[]);
        match &self.model.candidate {
            Some((text, _)) => is_text(&got, text),
            None => assert_eq!(got.status, 404, "{}", said(&got)),
        }
        let view = self.router.configurations();
        assert_eq!(view.version, self.model.texts.len() as u64);
        assert_eq!(
            view.pending.map(|pending| pending.deadline_ms),
            self.model.pending.map(|(_, deadline_ms)| deadline_ms)
        );
        for entry in self.router.configurations().history() {
            let text = self.model.texts.get(entry.version as usize - 1).expect("a version that there was");
            assert_eq!(entry.etag, fingerprint(text.as_bytes()));
        }
    }
}

fn is_text(got: &Response, text: &str) {
    let tag = format!("\"{}\"", fingerprint(text.as_bytes()));
    assert_eq!((got.status, &*got.body), (200, text.as_bytes()));
    assert!(got.headers.iter().any(|(name, value)| *name == "ETag" && *value == tag), "{:?}", got.headers);
}

fn said(got: &Response) -> String {
    String::from_utf8_lossy(&got.body).into_owned()
}

fn document() -> &'static Json {
    static DOCUMENT: OnceLock<Json> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        serde_json::from_str(&weir_manage::openapi::document()).expect("the document is JSON")
    })
}

/// The simulated router waits for nothing but time.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits"),
    }
}
