//! What connections carry and how long: events, nonsense, several requests, slow readers, those who leave.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use weir_manage::http::Servers;

use crate::curl::Client;
use crate::simulated::slow::Slow;
use crate::simulated::{self, BOOT, Simulated, TOKEN};

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
