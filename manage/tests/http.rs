//! The API over TCP, with curl and promtool as clients.

#[path = "http/connections.rs"]
mod connections;
#[path = "http/curl.rs"]
mod curl;
mod simulated;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use curl::{Client, curl};
use simulated::schema::matches_schema;
use simulated::{BOOT, TOKEN};
use weir_manage::routes::{Answer, Method, ROUTES};

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
