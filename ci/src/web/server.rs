//! The server of the page and of the API, with a simulated router: an example program of the management plane's crate.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::browser::{Answer, free_address, request};
use crate::cleanup::{Made, Thing};
use crate::command::{self, explain};

/// Building it, if `cargo test` has not.
const BUILDS: Duration = Duration::from_secs(600);
/// Until it listens.
const STARTS: Duration = Duration::from_secs(20);

/// It, and how to speak to it beside the page.
pub(crate) struct Server {
    at: SocketAddr,
    program: PathBuf,
    running: Option<(Child, Made)>,
}

impl Server {
    /// The token that it takes.
    pub(crate) const TOKEN: &'static str = "correct-horse-battery";

    pub(crate) fn start() -> Result<Server> {
        let workspace = crate::router::workspace()?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build
            .args(["build", "--quiet", "--package", "weir-manage", "--example", "page"])
            .current_dir(&workspace);
        command::run(&mut build, &[], BUILDS)?.success("building the example `page`")?;
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
        let program = target.join("debug/examples/page");
        let mut server = Server { at: free_address()?, program, running: None };
        server.begin()?;
        Ok(server)
    }

    /// Starts it again after [`end`](Self::end), where it was.
    pub(crate) fn begin(&mut self) -> Result<()> {
        // With the lab, it ends too.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(&self.program)
            .arg(self.at.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| explain("setpriv", error))?;
        let made = Made::register(Thing::Process(child.id()));
        self.running = Some((child, made));
        let deadline = Instant::now() + STARTS;
        while let Err(error) = self.ask("GET", "/status", &[], "") {
            ensure!(Instant::now() < deadline, "the server does not answer: {error:#}");
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Ends it without a word, as a router that lost its power.
    pub(crate) fn end(&mut self) {
        if let Some((mut child, made)) = self.running.take() {
            drop(made);
            let _ = child.wait();
        }
    }

    /// The page's address.
    pub(crate) fn page(&self) -> String {
        format!("http://{}/", self.at)
    }

    /// A file of the page.
    pub(crate) fn file(&self, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        request(self.at, "GET", path, headers, "")
    }

    /// Asks the API, as somebody else with the token.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer> {
        let bearer = format!("Bearer {}", Self::TOKEN);
        let mut all = vec![("Authorization", &*bearer)];
        all.extend(headers);
        request(self.at, method, &format!("/api/v1{path}"), &all, body)
    }

    /// A value of the model.
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        let answer = self.ask("GET", path, &[], "")?;
        ensure!(answer.status == 200, "GET {path}: {} {}", answer.status, answer.body);
        serde_json::from_str(&answer.body).with_context(|| format!("GET {path}: {}", answer.body))
    }

    /// The configuration in force, and its ETag.
    pub(crate) fn configuration(&self) -> Result<(String, String)> {
        let answer = self.ask("GET", "/config", &[], "")?;
        let etag = answer.header("ETag").context("no ETag")?.to_owned();
        Ok((answer.body, etag))
    }

    /// Puts another configuration in force, as somebody else would; with `confirm` on trial for so many seconds.
    pub(crate) fn commit(&self, text: &str, confirm: Option<u64>) -> Result<()> {
        let (_, etag) = self.configuration()?;
        let kind = ("Content-Type", "application/toml");
        let put = self.ask("PUT", "/config", &[("If-Match", &etag), kind], text)?;
        ensure!(put.status == 200, "PUT: {} {}", put.status, put.body);
        let query = confirm.map(|seconds| format!("?confirm={seconds}")).unwrap_or_default();
        let done = self.ask("POST", &format!("/config/commit{query}"), &[], "")?;
        ensure!(done.status == 200, "commit: {} {}", done.status, done.body);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
