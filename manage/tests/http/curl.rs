//! curl as a client of the simulated router.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::Value as Json;

use crate::simulated::{Simulated, TOKEN, serve};

/// What curl got.
pub(crate) struct Got {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Got {
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }

    /// A refusal, with all that it has to say.
    pub(crate) fn refused(&self, status: u16, title: &str) -> Json {
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

pub(crate) fn curl(arguments: &[&str], stdin: &str) -> Got {
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

pub(crate) struct Client(pub(crate) SocketAddr);

impl Client {
    pub(crate) fn start(tokens: &[&str]) -> (Arc<Simulated>, Client) {
        let router = Arc::new(Simulated::new(tokens));
        (router.clone(), Client(serve(router)))
    }

    /// The same with a router for which time passes as it is told, however slow this machine is.
    pub(crate) fn of_stopped(tokens: &[&str]) -> (Arc<Simulated>, Client) {
        let router = Arc::new(Simulated::stopped().with(tokens));
        (router.clone(), Client(serve(router)))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.0)
    }

    pub(crate) fn call(&self, method: &str, path: &str, more: &[&str], body: &str) -> Got {
        let (url, token) = (self.url(path), format!("Authorization: Bearer {TOKEN}"));
        let mut arguments = vec!["--request", method, "--header", &token];
        arguments.extend(more);
        if !body.is_empty() {
            arguments.extend(["--data-binary", "@-"]);
        }
        arguments.push(&url);
        curl(&arguments, body)
    }

    pub(crate) fn get(&self, path: &str) -> Got {
        self.call("GET", path, &[], "")
    }
}
