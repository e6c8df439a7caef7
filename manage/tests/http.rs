//! The API over TCP, with curl and promtool as clients.

mod simulated;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use simulated::schema::matches_schema;
use simulated::slow::Slow;
use simulated::{BOOT, Simulated, TOKEN, serve};
use weir_manage::http::Servers;
use weir_manage::routes::{Answer, Method, ROUTES};

/// What curl got.
struct Got {
    status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    body: String,
}

impl Got {
    fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }

    /// A refusal, with all that it has to say.
    fn refused(&self, status: u16, title: &str) -> Json {
        let problem = self.json();
        assert_eq!(
            (self.status, self.header("content-type")),
            (status, "application/problem+json"),
            "{problem}"
        );
        assert_eq!((&problem["title"], &problem["status"]), (&title.into(), &status.into()));
        assert!(
            ["detail", "cure"].iter().all(|field| problem[field].as_str().is_some_and(|text| text.len() > 5))
        );
        problem
    }
}

fn curl(arguments: &[&str], stdin: &str) -> Got {
    let mut child = Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--max-time", "20"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl is not installed: lab doctor --install");
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "curl {arguments:?}: {:?}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    // After "100 Continue" the real head follows.
    let text = text.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap();
    let header =
        |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Got { status, headers: lines.filter_map(header).collect(), body: body.to_owned() }
}

struct Client(SocketAddr);

impl Client {
    fn start(tokens: &[&str]) -> (Arc<Simulated>, Client) {
        let router = Arc::new(Simulated::new(tokens));
        (router.clone(), Client(serve(router)))
    }

    /// The same with a router for which time passes as it is told, however slow this machine is.
    fn of_stopped(tokens: &[&str]) -> (Arc<Simulated>, Client) {
        let router = Arc::new(Simulated::stopped().with(tokens));
        (router.clone(), Client(serve(router)))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.0)
    }

    fn call(&self, method: &str, path: &str, more: &[&str], body: &str) -> Got {
        let (url, token) = (self.url(path), format!("Authorization: Bearer {TOKEN}"));
        let mut arguments = vec!["--request", method, "--header", &token];
        arguments.extend(more);
        if !body.is_empty() {
            arguments.extend(["--data-binary", "@-"]);
        }
        arguments.push(&url);
        curl(&arguments, body)
    }

    fn get(&self, path: &str) -> Got {
        self.call("GET", path, &[], "")
    }
}

#[test]
fn every_route_of_the_document_answers_as_it_says() {
    let (_, client) = Client::start(&[TOKEN]);
    let document = client.get("/api/v1/openapi.json").json();
    let paths = document["paths"].as_object().unwrap();
    let mut served = 0;
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            let route = ROUTES
                .iter()
                .find(|route| route.path == path && route.method.name().eq_ignore_ascii_case(method))
                .unwrap();
            served += 1;
            let needed = if route.query.iter().any(|query| query.needed) { "?version=1" } else { "" };
            let body = if route.method == Method::Put { BOOT } else { "" };
            if matches!(route.answer, Answer::Stream(_)) {
                // It has no end: another test reads it.
                assert!(operation["responses"]["200"]["content"]["text/event-stream"].is_object());
                continue;
            }
            if matches!(route.answer, Answer::Capture) {
                assert!(operation["responses"]["200"]["content"]["application/x-pcapng"].is_object());
                continue;
            }
            let got = client.call(route.method.name(), &format!("{path}{needed}"), &[], body);
            let answer = &operation["responses"][got.status.to_string()];
            assert!(answer.is_object(), "{method} {path}: {} is not in the document", got.status);
            let content_type = got.header("content-type").split(';').next().unwrap();
            if got.status != 204 {
                let content = &answer["content"][content_type];
                assert!(content.is_object(), "{method} {path}: {content_type} is not in the document");
                if got.status == 200 && content_type == "application/json" {
                    matches_schema(&document, &content["schema"], &got.json());
                }
                if content_type == "application/problem+json" {
                    matches_schema(&document, &content["schema"], &got.json());
                }
            }
        }
    }
    assert_eq!(served, ROUTES.len());
}

/// The types of a stream's blocks, each whole, and what is left behind the last.
fn blocks(mut bytes: &[u8]) -> (Vec<u32>, usize) {
    let word = |bytes: &[u8]| bytes.first_chunk().map(|four| u32::from_le_bytes(*four));
    let mut types = Vec::new();
    while let (Some(kind), Some(len)) = (word(bytes), bytes.get(4..).and_then(word)) {
        let Some((block, rest)) = bytes.split_at_checked(len as usize) else { break };
        assert_eq!(word(&block[block.len() - 4..]), Some(len), "both lengths are the same");
        types.push(kind);
        bytes = rest;
    }
    (types, bytes.len())
}

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;

fn curl_bytes(url: &str, more: &[&str]) -> Vec<u8> {
    let token = format!("Authorization: Bearer {TOKEN}");
    let output =
        Command::new("curl").args(["--silent", "--header", &token]).args(more).arg(url).output().unwrap();
    output.stdout
}

#[test]
fn a_capture_with_a_limit_ends_with_what_was_counted() {
    let (_, client) = Client::start(&[TOKEN]);
    let of = |path: &str| blocks(&curl_bytes(&client.url(path), &["--max-time", "10"]));
    assert_eq!(
        of("/api/v1/capture?interface=lan&limit=2"),
        (vec![SECTION, INTERFACE, PACKET, PACKET, STATISTICS], 0)
    );
    assert_eq!(
        of("/api/v1/capture?direction=drop&limit=1&filter=ip%20and+port%2053&snaplen=96&buffer=64"),
        (vec![SECTION, INTERFACE, PACKET, STATISTICS], 0)
    );
}

#[test]
fn a_capture_without_a_limit_goes_on_until_its_reader_leaves() {
    let (_, client) = Client::start(&[TOKEN]);
    let (types, _) = blocks(&curl_bytes(&client.url("/api/v1/capture"), &["--max-time", "7"]));
    // After five silent seconds both sides know that the other is there.
    assert_eq!(types, [SECTION, INTERFACE, PACKET, PACKET, PACKET, STATISTICS]);
}

#[test]
fn a_capture_that_cannot_be_says_why() {
    let (_, client) = Client::start(&[TOKEN]);
    for (query, status, words) in [
        ("filter=port", 400, "\"column\":5"),
        ("direction=up", 400, "give in, out, drop"),
        ("filter=%zz", 400, "as %XX"),
        ("filter=%ff", 400, "as %XX"),
        ("interface=a&interface=b", 400, "one text"),
        ("snaplen=0", 400, "from 1"),
        ("buffer=1", 400, "from 64"),
        ("limit=none", 400, "from 1"),
        ("colour=red", 400, "takes interface, filter"),
    ] {
        let got = client.get(&format!("/api/v1/capture?{query}"));
        assert_eq!(got.status, status, "{query}: {}", got.body);
        assert!(got.body.contains(words), "{query}: {}", got.body);
    }
}

#[test]
fn the_flight_recorder_tells_as_many_as_are_wanted() {
    let (_, client) = Client::start(&[TOKEN]);
    assert_eq!(client.get("/api/v1/drops?last=2").json().as_array().unwrap().len(), 2);
    assert_eq!(client.get("/api/v1/drops").json()[0]["reason"], "ttl-expired");
    assert_eq!(client.get("/api/v1/drops?last=0").status, 400);
}

#[test]
fn a_configuration_is_read_put_committed_and_confirmed() {
    let (_, client) = Client::start(&[TOKEN]);
    let got = client.get("/api/v1/config");
    let etag = got.header("etag").to_owned();
    assert_eq!((got.status, got.body.as_str(), got.header("content-type")), (200, BOOT, "application/toml"));
    let same = client.call("GET", "/api/v1/config", &["--header", &format!("If-None-Match: {etag}")], "");
    assert_eq!((same.status, same.body.as_str(), same.header("etag")), (304, "", etag.as_str()));

    let new = BOOT.replace("lan", "dmz");
    let if_match = format!("If-Match: {etag}");
    let plan = client.call("PUT", "/api/v1/config", &["--header", &if_match], &new);
    assert_eq!(plan.status, 200, "{}", plan.body);
    let changes = &plan.json()["interfaces"];
    assert_eq!(changes[0], serde_json::json!({ "change": "attach", "interface": "dmz" }));
    assert_eq!(changes[1], serde_json::json!({ "change": "detach", "interface": "lan" }));
    assert!(plan.json()["diff"].as_str().unwrap().contains("-[interface.lan]\n+[interface.dmz]\n"));
    assert_eq!(client.get("/api/v1/config").body, BOOT);
    assert_eq!(client.get("/api/v1/config/candidate").body, new);

    let committed = client.call("POST", "/api/v1/config/commit?confirm=60", &[], "").json();
    assert_eq!((&committed["version"], &committed["confirm_within_ms"]), (&2.into(), &60_000.into()));
    assert_eq!(client.get("/api/v1/config").body, new);
    client.call("PUT", "/api/v1/config", &[], BOOT);
    let problem =
        client.call("POST", "/api/v1/config/commit", &[], "").refused(409, "A commit waits to be confirmed");
    assert!(problem["detail"].as_str().unwrap().starts_with("version 2 by ann waits to be confirmed, for "));
    assert_eq!(client.call("POST", "/api/v1/config/confirm", &[], "").json()["state"], "running");
    let put = |if_match: &str| {
        let header = format!("If-Match: {if_match}");
        client.call("PUT", "/api/v1/config", &["--header", &header], &new)
    };
    let problem = put(&etag).refused(412, "The configuration is another one by now");
    let now = client.get("/api/v1/config").header("etag").to_owned();
    let said =
        format!("If-Match says {0}, and {1} is in force", etag.trim_matches('"'), now.trim_matches('"'));
    assert_eq!(problem["detail"], said);
    for list in [format!("{etag}, {now}"), format!("{now},W/{etag}"), "*".into()] {
        assert_eq!(put(&list).status, 200, "{list}");
    }
    for list in [format!("W/{now}"), format!("{etag}, W/{now}")] {
        put(&list).refused(412, "The configuration is another one by now");
    }
    put(now.trim_matches('"')).refused(400, "If-Match cannot be read");
    let history = client.get("/api/v1/config/history").json();
    assert_eq!((&history[0]["by"], &history[1]["by"]), (&"ann".into(), &"boot module".into()));
}

#[test]
fn what_nobody_confirms_is_reverted_by_itself() {
    let (router, client) = Client::of_stopped(&[TOKEN]);
    client.call("PUT", "/api/v1/config", &[], "[interface.other]\n");
    client.call("POST", "/api/v1/config/commit?confirm=1", &[], "");
    router.pass(999);
    assert_eq!(client.get("/api/v1/config").body, "[interface.other]\n");
    router.pass(1);
    let deadline = Instant::now() + Duration::from_secs(10);
    while client.get("/api/v1/config").body != BOOT {
        assert!(Instant::now() < deadline, "it is not reverted");
    }
    let history = client.get("/api/v1/config/history").json();
    assert_eq!(
        (&history[1]["state"], &history[0]["by"]),
        (&"reverted".into(), &"revert to version 1".into())
    );
    client.call("POST", "/api/v1/config/confirm", &[], "").refused(409, "Nothing waits to be confirmed");
    client.call("POST", "/api/v1/config/rollback?version=2", &[], "");
    client.call("POST", "/api/v1/config/commit?confirm=60", &[], "");
    assert_eq!(client.call("POST", "/api/v1/config/revert", &[], "").json()["state"], "running");
    assert_eq!(client.get("/api/v1/config").body, BOOT);
}

#[test]
fn what_cannot_be_is_refused_with_cause_and_cure() {
    let (_, client) = Client::start(&[TOKEN]);
    let errors =
        client.call("PUT", "/api/v1/config", &[], "a\nbad\n").refused(422, "The configuration has errors");
    assert_eq!((&errors["errors"][0]["line"], &errors["detail"]), (&2.into(), &"bad: unknown key".into()));
    client.get("/api/v1/nothing").refused(404, "There is no such path");
    let got = client.call("DELETE", "/api/v1/config", &[], "");
    got.refused(405, "There is no such method here");
    assert_eq!(got.header("allow"), "GET, HEAD, PUT");
    client.get("/api/v1/status?verbose=1").refused(400, "The query is not known");
    client.get("/api/v1/routes?limit=0").refused(400, "The query cannot be");
    client.get("/api/v1/routes?limit=2&limit=3").refused(400, "The query cannot be");
    client.call("POST", "/api/v1/config/rollback", &[], "").refused(400, "The query is not whole");
    client.call("POST", "/api/v1/config/commit", &[], "").refused(409, "There is no candidate");
    client.call("DELETE", "/api/v1/config/candidate", &[], "").refused(404, "There is no candidate");
    client.call("POST", "/api/v1/config/confirm", &[], "body").refused(413, "The body is too long");
    client.call("PUT", "/api/v1/config", &[], &"x".repeat(100_001)).refused(413, "The body is too long");
    let chunked = client.call("PUT", "/api/v1/config", &["--header", "Transfer-Encoding: chunked"], "a\n");
    chunked.refused(411, "The body's length is missing");
    client.call("PUT", "/api/v1/config", &[], "").refused(411, "The body's length is missing");
    client.get("/api/v1/config/candidate").refused(404, "There is no candidate");
    assert_eq!(client.get("/api/v1/config").body, BOOT);
}

#[test]
fn a_configuration_as_long_as_may_be_is_taken() {
    let (_, client) = Client::start(&[TOKEN]);
    let long = format!("{BOOT}# {}\n", "x".repeat(99_000));
    assert_eq!(client.call("PUT", "/api/v1/config", &[], &long).status, 200);
    assert_eq!(client.get("/api/v1/config/candidate").body, long);
}

#[test]
fn one_connection_serves_many_requests() {
    let (_, client) = Client::start(&[TOKEN]);
    let (one, two) = (client.url("/api/v1/status"), client.url("/api/v1/cpus"));
    let output = Command::new("curl")
        .args([
            "--silent",
            "--write-out",
            "%{num_connects}\n",
            "--output",
            "/dev/null",
            "--output",
            "/dev/null",
        ])
        .args(["--header", &format!("Authorization: Bearer {TOKEN}"), &one, &two])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n0\n");
}

#[test]
fn text_for_people_is_the_same_model() {
    let (_, client) = Client::start(&[TOKEN]);
    let text = client.call("GET", "/api/v1/neighbors", &["--header", "Accept: text/plain"], "");
    let expected = "\
interface  address      mac                state
wan        192.0.2.254  52:54:00:00:00:fe  reachable
";
    assert_eq!((text.body.as_str(), text.header("content-type")), (expected, "text/plain; charset=utf-8"));
    let routes = client.get("/api/v1/routes?offset=198&limit=5").json();
    assert_eq!((&routes["total"], routes["routes"].as_array().unwrap().len()), (&200.into(), 2));
}

#[test]
fn without_a_good_token_nothing_is_told() {
    let (router, client) = Client::start(&[]);
    let none = |path: &str| curl(&[&client.url(path)], "");
    let with = |token: &str| {
        curl(&["--header", &format!("Authorization: Bearer {token}"), &client.url("/api/v1/status")], "")
    };
    none("/api/v1/status").refused(403, "Nobody may use the API yet");
    none("/metrics").refused(403, "Nobody may use the API yet");
    with(TOKEN).refused(403, "Nobody may use the API yet");
    let granted = router.grant();
    assert_eq!((with(&granted).status, with("console-0").status), (200, 401));

    let (_, client) = Client::of_stopped(&[TOKEN]);
    let with = |token: &str| {
        curl(&["--header", &format!("Authorization: Bearer {token}"), &client.url("/api/v1/status")], "")
    };
    let missing = curl(&[&client.url("/api/v1/status")], "");
    missing.refused(401, "A token is needed");
    assert_eq!(missing.header("www-authenticate"), "Bearer");
    assert_eq!(with(TOKEN).status, 200);
    for _ in 0..5 {
        with("not-the-token-at-all").refused(401, "The token is not known");
    }
    let limited = with("not-the-token-at-all");
    limited.refused(429, "Too many wrong tokens");
    assert!((1..=10).contains(&limited.header("retry-after").parse::<u64>().unwrap()));
    assert_eq!(with(TOKEN).status, 200, "who was let in before is not held up");
}

#[test]
fn events_come_as_they_happen_and_end_with_the_token() {
    let (router, client) = Client::start(&[TOKEN]);
    let mut stream = TcpStream::connect(client.0).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n").unwrap();
    let mut text = String::new();
    let mut until = |needle: &str| {
        while !text.contains(needle) {
            let mut piece = [0; 256];
            match stream.read(&mut piece).unwrap() {
                0 => panic!("it ended before {needle:?}: {text}"),
                count => text.push_str(std::str::from_utf8(&piece[..count]).unwrap()),
            }
        }
        text.clone()
    };
    let head = until("\r\n\r\n").to_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: text/event-stream"), "{head}");
    client.call("PUT", "/api/v1/config", &[], "[interface.a]\n");
    client.call("POST", "/api/v1/config/commit", &[], "");
    let event = until("\n\n");
    assert!(until("event:configuration\nid:1\ndata:{\"number\":1,").contains("event"), "{event}");
    router.configure(&[]);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
}

#[test]
fn streams_end_with_the_consoles_token_and_no_others_do() {
    let (router, client) = Client::start(&[TOKEN]);
    assert_eq!(client.get("/api/v1/status").status, 200);
    let asks =
        |path: &str, token: &str| format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n");
    let servers = Servers::new(1, || 0);
    // Whether a stream goes on when this happened a second after its begin.
    let goes_on = |path: &str, token: &str, happens: &dyn Fn()| {
        let peer = Slow::new(&router, &asks(path, token), 1 << 20);
        let mut turns = 0;
        let over = peer.is_served(&servers, |_| {
            turns += 1;
            if turns == 20 {
                happens();
            }
            turns < 60
        });
        assert!(peer.heard().starts_with("HTTP/1.1 200 "), "{}", peer.heard());
        !over
    };
    for path in ["/api/v1/events", "/api/v1/capture"] {
        assert!(goes_on(path, &router.grant(), &|| {}));
        assert!(!goes_on(path, &router.grant(), &|| router.pass(15 * 60 * 1000)), "{path}: it ran out");
        assert!(!goes_on(path, &router.grant(), &|| drop(router.grant())), "{path}: it was replaced");
        assert!(!goes_on(path, &router.grant(), &|| router.withdraw()), "{path}: it was taken back");
        let configured = |happens: &dyn Fn()| goes_on(path, TOKEN, happens);
        assert!(configured(&|| drop(router.grant())) && configured(&|| router.withdraw()), "{path}");
        assert!(configured(&|| router.pass(15 * 60 * 1000)), "{path}");
    }
}

#[test]
fn nonsense_ends_the_connection_and_nothing_else() {
    let (_, client) = Client::start(&[TOKEN]);
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(10_000));
    let huge = format!(
        "PUT /api/v1/config HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 9999999999\r\n\r\n"
    );
    for nonsense in
        ["\r\n\r\n", "GET\r\n\r\n", "\0\0\0\0", "GET / HTTP/1.1\r\nno colon\r\n\r\n", &long, &huge]
    {
        let mut stream = TcpStream::connect(client.0).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(nonsense.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(client.get("/api/v1/status").status, 200);
}

/// All that comes back on a connection on which this is said, until the router ends it.
fn answers_to(client: &Client, said: &[u8]) -> String {
    let mut stream = TcpStream::connect(client.0).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(said).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{error}: {}", said.escape_ascii()));
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn headers_that_leave_open_what_is_meant_are_refused_and_nothing_after_them_is_done() {
    let (_, client) = Client::start(&[TOKEN]);
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    let within =
        format!("PUT /api/v1/config HTTP/1.1\r\n{token}Content-Length: {}\r\n\r\n{BOOT}", BOOT.len());
    let len = within.len();
    let both = format!("Content-Length: {len}\r\nTransfer-Encoding: chunked\r\n");
    for (headers, status, detail) in [
        (
            format!("{token}Content-Length: 0\r\nContent-Length: {len}\r\n"),
            400,
            "Content-Length comes more than",
        ),
        (
            format!("{token}content-length: 0\r\nCONTENT-LENGTH: 0\r\n"),
            400,
            "Content-Length comes more than once",
        ),
        (format!("{token}Content-Length: {len}, {len}\r\n"), 400, "Content-Length says"),
        (format!("{token}Content-Length: 99999999999999999999999\r\n"), 400, "Content-Length says"),
        (format!("{token}Content-Length: 18446744073709551615\r\n"), 413, "18446744073709551615 bytes"),
        (format!("{token}Content-Length: 18446744073709551616\r\n"), 400, "Content-Length says"),
        (format!("{token}Content-Length: +0\r\n"), 400, "Content-Length says"),
        (format!("{token}Content-Length:\r\n"), 400, "Content-Length says"),
        (format!("{token}{both}"), 400, "Transfer-Encoding comes with Content-Length"),
        (
            format!("{token}Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"),
            400,
            "Transfer-Encoding comes with",
        ),
        (format!("{token}Transfer-Encoding: chunked\r\n"), 411, "without Content-Length"),
        ("Transfer-Encoding: chunked\r\n".into(), 401, "Authorization: Bearer"),
        (format!("{token}{token}"), 400, "Authorization comes more than once"),
        (format!("{token}Authorization: Bearer none\r\n"), 400, "Authorization comes more than once"),
    ] {
        let said = format!("PUT /api/v1/config HTTP/1.1\r\n{headers}\r\n{within}");
        let answers = answers_to(&client, said.as_bytes());
        let (first, rest) = answers.split_once("}").unwrap_or_else(|| panic!("{headers}: {answers}"));
        assert!(
            first.starts_with(&format!("HTTP/1.1 {status} ")) && first.contains(detail),
            "{headers}: {answers}"
        );
        assert!(first.to_lowercase().contains("connection: close"), "{headers}: {answers}");
        assert_eq!(rest, "", "{headers}");
    }
    client.get("/api/v1/config/candidate").refused(404, "There is no candidate");
    let mut said = format!("GET /api/v1/status HTTP/1.1\r\n{token}If-Match: ").into_bytes();
    said.extend(b"\"\xff\"\r\n\r\n");
    let answer = answers_to(&client, &said);
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("If-Match is not UTF-8"), "{answer}");
}

#[test]
fn nobody_without_a_token_has_a_server_wait() {
    let (_, client) = Client::start(&[TOKEN]);
    for (said, status) in [
        ("PUT /api/v1/config HTTP/1.1\r\nContent-Length: 9\r\n\r\n", "401"),
        ("PUT /api/v1/config HTTP/1.1\r\nContent-Length: 9\r\n\r\nhost", "401"),
        ("PUT /api/v1/config HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "401"),
        ("GET / HTTP/1.1\r\nContent-Length: 9\r\n\r\n", "200"),
        ("GET /api/v1/nothing HTTP/1.1\r\nContent-Length: 99999\r\n\r\n", "404"),
        // The rest of a further request does not come.
        ("GET /api/v1/nothing HTTP/1.1\r\n\r\nG", "404"),
    ] {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(client.0).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(said.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{error}: {said}"));
        assert!(begun.elapsed() < Duration::from_secs(5), "{said}");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{said}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{said}: {answer}");
    }
}

#[test]
fn requests_that_come_together_are_answered_in_turn() {
    let (_, client) = Client::start(&[TOKEN]);
    let mut stream = TcpStream::connect(client.0).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let head = format!("/api/v1/config HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n");
    let put = format!("PUT {head}Content-Length: {}\r\n\r\n{BOOT}", BOOT.len());
    let (first, rest) = format!("{put}GET {head}\r\nGET {head}Connection: close\r\n\r\n")
        .split_at_checked(put.len() + 20)
        .map(|(first, rest)| (first.to_owned(), rest.to_owned()))
        .unwrap();
    stream.write_all(first.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    stream.write_all(rest.as_bytes()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 3, "{answers}");
}

#[test]
fn a_long_answer_takes_as_long_as_it_moves() {
    let (router, client) = Client::start(&[TOKEN]);
    let long = format!("{BOOT}# {}\n", "x".repeat(99_000));
    assert_eq!(client.call("PUT", "/api/v1/config", &[], &long).status, 200);
    let head = format!("/api/v1/config/candidate HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n");
    let of_rate = |rate| {
        let peer = Slow::new(&router, &format!("GET {head}Connection: close\r\n\r\n"), rate);
        assert!(peer.is_served(&Servers::new(1, || 0), |_| true));
        peer
    };
    let moves = of_rate(2000);
    assert!(!moves.was_aborted() && moves.heard().ends_with(&long), "{} bytes", moves.heard().len());
    assert!(of_rate(500).was_aborted(), "it would keep a server for minutes");
}

#[test]
fn long_answers_whose_readers_are_slow_take_a_mebibyte_at_most() {
    let (router, client) = Client::start(&[TOKEN]);
    let long = format!("{BOOT}# {}\n", "x".repeat(99_000));
    assert_eq!(client.call("PUT", "/api/v1/config", &[], &long).status, 200);
    let servers = Servers::new(1, || 0);
    let ask = |path: &str, rate| {
        let head = format!("/api/v1/{path} HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n");
        Slow::new(&router, &format!("GET {head}Connection: close\r\n\r\n"), rate)
    };
    let quick = |path: &str| {
        let peer = ask(path, 1 << 30);
        assert!(peer.is_served(&servers, |_| true));
        peer.heard()
    };
    /// Calls `then` while `peers` are being answered.
    fn beside(peers: &[Slow], servers: &Servers, then: &dyn Fn()) {
        let Some((first, rest)) = peers.split_first() else { return then() };
        let mut turns = 0;
        first.is_served(servers, |_| {
            turns += 1;
            if turns == 3 {
                beside(rest, servers, then);
            }
            turns < 3
        });
    }
    let peers: Vec<Slow> = (0..10).map(|_| ask("config/candidate", 0)).collect();
    beside(&peers, &servers, &|| {
        let refused = quick("config/candidate");
        assert!(
            refused.starts_with("HTTP/1.1 503 ") && refused.contains("Too many long answers"),
            "{refused}"
        );
        assert!(quick("status").starts_with("HTTP/1.1 200 "), "short ones have room");
    });
    assert!(quick("config/candidate").ends_with(&long), "all others are over");
}

#[test]
fn a_capture_ends_with_its_reader_also_while_there_is_nothing_to_tell() {
    let (router, client) = Client::start(&[TOKEN]);
    assert_eq!(client.get("/api/v1/status").status, 200);
    let asked = format!("GET /api/v1/capture HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    let servers = Servers::new(1, || 0);
    for _ in 0..2 {
        let peer = Slow::new(&router, &asked, 1 << 20);
        let mut turns = 0;
        let over = peer.is_served(&servers, |peer| {
            turns += 1;
            if turns == 20 {
                peer.leave();
            }
            turns < 30
        });
        assert!(peer.heard().starts_with("HTTP/1.1 200 "), "the one before is over: {}", peer.heard());
        assert!(over, "half a second after its reader left");
    }
}

#[test]
fn head_is_answered_as_get_without_the_body() {
    let (_, client) = Client::start(&[TOKEN]);
    let ask = |method: &str, path: &str, more: &str| {
        let headers = format!("Authorization: Bearer {TOKEN}\r\n{more}");
        // The request after it shows that nothing was left over.
        let after = format!("HEAD /api/v1/config HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
        let answers =
            answers_to(&client, format!("{method} {path} HTTP/1.1\r\n{headers}\r\n{after}").as_bytes());
        let (head, rest) = answers.split_once("\r\n\r\n").unwrap();
        (head.replace("Connection: keep-alive\r\n", ""), rest.to_owned())
    };
    for (path, more) in [
        ("/", ""),
        ("/api/v1/interfaces", ""),
        ("/api/v1/config", ""),
        ("/api/v1/config", "If-None-Match: *\r\n"),
        ("/api/v1/nothing", ""),
        ("/api/v1/config/commit", ""),
        ("/metrics", "Accept: text/plain\r\n"),
    ] {
        let (head, after) = ask("HEAD", path, more);
        assert!(after.starts_with("HTTP/1.1 ") && after.ends_with("\r\n\r\n"), "{path}: {after}");
        // One tells of now, one of the method.
        let differs = matches!(path, "/metrics" | "/api/v1/config/commit");
        let same = |line: &&str| !differs || !line.starts_with("Content-Length");
        let (get, _) = ask("GET", path, more);
        let get = get.replace("GET", "HEAD");
        assert!(head.lines().filter(same).eq(get.lines().filter(same)), "{path}:\n{head}\n{get}");
    }
    for (path, kind) in [("/api/v1/events", "text/event-stream"), ("/api/v1/capture", "application/x-pcapng")]
    {
        let (head, after) = ask("HEAD", path, "");
        assert!(
            head.starts_with("HTTP/1.1 200") && head.contains(&format!("Content-Type: {kind}")),
            "{head}"
        );
        assert!(!head.contains("Content-Length") && after.starts_with("HTTP/1.1 200"), "{head}\n{after}");
    }
}

#[test]
fn several_lines_of_a_header_are_one_list() {
    let (_, client) = Client::start(&[TOKEN]);
    let etag = client.get("/api/v1/config").header("etag").to_owned();
    let put = |tags: &[&str]| {
        let lines: Vec<String> = tags.iter().map(|tag| format!("If-Match: {tag}")).collect();
        let arguments: Vec<&str> = lines.iter().flat_map(|line| ["--header", line]).collect();
        client.call("PUT", "/api/v1/config", &arguments, BOOT)
    };
    assert_eq!(put(&["\"0\"", &etag]).status, 200, "the second line counts too");
    assert_eq!(put(&[&etag, "\"0\""]).status, 200);
    put(&["\"0\"", "\"1\""]).refused(412, "The configuration is another one by now");
    put(&[&etag, "*"]).refused(400, "If-Match cannot be read");
    let known = ["--header", "If-None-Match: \"0\"", "--header", &format!("If-None-Match: {etag}")];
    assert_eq!(client.call("GET", "/api/v1/config", &known, "").status, 304);
    let accept = ["--header", "Accept: text/plain", "--header", "Accept: application/openmetrics-text"];
    let metrics = client.call("GET", "/metrics", &accept, "");
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
}

#[test]
fn who_asks_the_same_before_anything_arrives_gets_the_same_answer() {
    let router = Arc::new(Simulated::new(&[TOKEN]));
    let (listener, address) = simulated::listen();
    let arrived = Arc::new(AtomicU64::new(0));
    let counted = arrived.clone();
    simulated::tcp::serve_counted(listener, router.clone(), move || counted.load(Ordering::Relaxed));
    let mut stream = BufReader::new(TcpStream::connect(address).unwrap());
    let mut ask = |head: &str| {
        router.pass(1000);
        write!(stream.get_mut(), "{head}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n").unwrap();
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).unwrap();
            let line = line.to_lowercase();
            length =
                line.strip_prefix("content-length: ").map_or(length, |text| text.trim().parse().unwrap());
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    };
    let status = "GET /api/v1/status HTTP/1.1";
    let first = ask(status);
    assert!(first.contains("uptime_ms"), "{first}");
    assert_eq!(ask(status), first);
    let text = ask(&format!("{status}\r\nAccept: text/plain"));
    assert!(!text.starts_with('{'), "in the form that was asked for: {text}");
    let second = ask(status);
    assert_ne!(second, first, "another answer was the last one");
    assert_eq!(ask(status), second);
    ask("GET /api/v1/routes?limit=1 HTTP/1.1");
    let third = ask(status);
    assert_ne!(third, second, "what has a query is not kept, and what was is gone");
    ask("POST /api/v1/config/revert HTTP/1.1");
    let fourth = ask(status);
    assert_ne!(fourth, third, "a command came between");
    assert_eq!(ask(status), fourth);
    arrived.fetch_add(1, Ordering::Relaxed);
    assert_ne!(ask(status), fourth, "who asks now may not have been there");
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let (_, client) = Client::start(&[TOKEN]);
    let open =
        ["--header", "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"];
    let open = client.call("GET", "/metrics", &open, "");
    assert_eq!(open.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.body.ends_with("\n# EOF\n") && open.body.contains("# TYPE weir_build info\n"));
    let samples = |text: &str| {
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.contains("uptime"));
        samples.map(str::to_owned).collect::<Vec<_>>()
    };
    let got = client.get("/metrics");
    assert_eq!(got.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(samples(&got.body), samples(&open.body));
    for line in [
        "weir_interface_receive_packets_total{interface=\"wan\"} 7",
        "weir_dropped_packets_total{interface=\"wan\",reason=\"ttl-expired\"} 3",
        "weir_cpu_busy_ratio{cpu=\"cpu0\"} 0.125",
        "weir_tasks{task=\"api\",cpu=\"cpu0\"} 16",
        "weir_task_poll_seconds_sum{task=\"api\",cpu=\"cpu0\"} 0.003000000",
        "weir_task_poll_seconds_sum{task=\"management\",cpu=\"cpu0\"} 0.001500000",
        "weir_console_lost_bytes_total{console=\"COM1\"} 1234",
        "weir_lock_acquired_total{lock=\"Heap\"} 3",
        "weir_routes 200",
        "weir_neighbors{interface=\"wan\",state=\"reachable\"} 1",
    ] {
        assert!(got.body.lines().any(|own| own == line), "{line} is not in\n{}", got.body);
    }
    // The dashboard asks for nothing that there is not.
    let dashboard = include_str!("../../docs/grafana.json");
    for name in dashboard.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        let there = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        assert!(!name.starts_with("weir_") || got.body.lines().any(there), "{name} is no metric");
    }
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is not installed: lab doctor --install");
    child.stdin.take().unwrap().write_all(got.body.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}\n{}", got.body);
}

#[test]
fn page_comes_compressed_or_with_the_reason_why_not() {
    let (_, client) = Client::start(&[TOKEN]);
    // As it is kept: without comments, blank lines and indentation.
    let source = include_str!("../web/index.html").lines().map(str::trim_start);
    let source: String = source.filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect();
    for accepted in ["gzip", "br;q=1.0, *;q=0.1"] {
        let header = format!("Accept-Encoding: {accepted}");
        let got = curl(&["--compressed", "--header", &header, &client.url("/")], "");
        assert_eq!((got.status, &*got.body), (200, &*source));
        assert_eq!((got.header("content-encoding"), got.header("vary")), ("gzip", "Accept-Encoding"));
    }
    let refused = curl(&["--header", "Accept-Encoding: gzip;q=0, identity", &client.url("/app.js")], "");
    refused.refused(406, "The page comes compressed");
    assert_eq!(refused.header("vary"), "Accept-Encoding");
}

#[test]
fn packet_to_explain_is_understood_or_refused_with_the_reason() {
    let (_, client) = Client::start(&[TOKEN]);
    let told =
        client.get("/api/v1/explain?packet=lan+from+10.0.1.2+to+192.0.2.2+protocol+udp+port+53+ttl+3").json();
    let asked = told["end"].as_str().unwrap();
    for part in ["\"lan\"", "10.0.1.2", "192.0.2.2", "protocol: 17", "port: 53", "ttl: 3"] {
        assert!(asked.contains(part), "{asked}");
    }
    let frame = "ff".repeat(14);
    let told = client.get(&format!("/api/v1/explain?packet=wan+frame+{frame}")).json();
    assert!(told["end"].as_str().unwrap().contains("Frame([255"), "{told}");
    assert!(asked.ends_with("text: None }"), "{asked}");
    let path = "/api/v1/explain?packet=lan+from+10.0.1.2+to+192.0.2.2";
    client.get(&format!("{path}&candidate=true")).refused(404, "There is no candidate");
    client.get(&format!("{path}&candidate=maybe")).refused(400, "The query cannot be");
    client.call("PUT", "/api/v1/config", &[], "hostname = \"edge9\"\n");
    for question in [format!("{path}&candidate=true"), format!("{path}+candidate")] {
        let told = client.get(&question).json();
        assert!(told["end"].as_str().unwrap().contains("edge9"), "{told}");
    }
    for (wrong, column) in [
        ("", 1),
        ("lan", 4),
        ("lan+from+10.0.1.2+to+2001:db8::1", 22),
        ("lan+from+x+to+y", 10),
        ("l%C3%A4n+from+10.0.1.2+to+y", 22),
        ("lan+frame+abc", 11),
        ("lan+from+10.0.1.2+to+10.0.1.3+port+70000+ttl+3", 36),
        ("lan+from+10.0.1.2+to+10.0.1.3+%7C+count", 31),
    ] {
        let refused = client.get(&format!("/api/v1/explain?packet={wrong}"));
        let problem = refused.refused(400, "The packet cannot be understood");
        assert_eq!(problem["column"], column, "{problem}");
    }
}
