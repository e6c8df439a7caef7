//! Headless Chromium, driven through chromedriver (W3C WebDriver, and DevTools commands by its `goog/cdp/execute`).

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::cleanup::{Made, Thing};
use crate::command::explain;

/// A command of the browser; the first starts it.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the page needs at most to show what it should.
const SHOWN: Duration = Duration::from_secs(15);

const ARGUMENTS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--lang=en",
];

/// A key by its WebDriver code point (W3C WebDriver, "Keyboard actions").
pub(crate) mod key {
    pub(crate) const TAB: &str = "\u{E004}";
    pub(crate) const ENTER: &str = "\u{E007}";
    pub(crate) const CONTROL: &str = "\u{E009}";
    pub(crate) const ESCAPE: &str = "\u{E00C}";
}

/// What the browser shows the page as.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// `light` or `dark`.
    pub(crate) scheme: &'static str,
}

/// A browser with one window. Dropping it ends it.
pub(crate) struct Browser {
    at: SocketAddr,
    session: String,
    /// Console messages of level error, and addresses of requests, since they were last taken.
    seen: RefCell<Seen>,
    driver: Child,
    made: Option<Made>,
    /// Everything that it keeps is in this folder, which goes with it.
    profile: PathBuf,
    _made_profile: Made,
}

#[derive(Debug, Default)]
struct Seen {
    errors: Vec<String>,
    requests: Vec<String>,
}

impl Browser {
    pub(crate) fn start() -> Result<Browser> {
        let at = free_address()?;
        let profile = std::env::temp_dir().join(format!("weir-lab-web-{}", std::process::id()));
        std::fs::create_dir_all(&profile).with_context(|| format!("making {}", profile.display()))?;
        let directory = Made::register(Thing::Directory(profile.clone()));
        let driver = driver(at, &profile)?;
        let made = Made::register(Thing::Process(driver.id()));
        let mut browser = Browser {
            at,
            session: String::new(),
            seen: RefCell::default(),
            driver,
            made: Some(made),
            profile: profile.clone(),
            _made_profile: directory,
        };
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = browser.call("GET", "/status", None) {
            ensure!(Instant::now() < deadline, "chromedriver does not answer: {error:#}");
            thread::sleep(Duration::from_millis(50));
        }
        let mut arguments: Vec<String> = ARGUMENTS.iter().map(|&word| word.to_owned()).collect();
        arguments.push(format!("--user-data-dir={}", profile.display()));
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "unhandledPromptBehavior": "accept",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let session = browser.call("POST", "/session", Some(&wanted)).context("starting Chromium")?;
        browser.session = session["sessionId"].as_str().context("no session")?.to_owned();
        // What the browser's own first page asked for is not the router's.
        browser.open("about:blank")?;
        browser.take_logs()?;
        browser.seen = RefCell::default();
        Ok(browser)
    }

    /// Opens an address. The page is loaded then, its scripts are not done.
    pub(crate) fn open(&self, address: &str) -> Result<()> {
        self.command("/url", &json!({ "url": address })).map(|_| ())
    }

    /// From now on files that the page hands out go to this folder.
    pub(crate) fn downloads(&self) -> Result<PathBuf> {
        let folder = self.profile.join("downloads");
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let wanted = json!({ "behavior": "allow", "downloadPath": folder });
        self.devtools("Browser.setDownloadBehavior", &wanted)?;
        Ok(folder)
    }

    pub(crate) fn reload(&self) -> Result<()> {
        self.command("/refresh", &json!({})).map(|_| ())
    }

    /// Shows the page at another size, or in the other colours.
    pub(crate) fn view(&self, view: View) -> Result<()> {
        let View { width, height, scheme } = view;
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 }),
        )?;
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features })).map(|_| ())
    }

    /// The value of a script's `return`.
    pub(crate) fn script(&self, script: &str) -> Result<Value> {
        self.command("/execute/sync", &json!({ "script": script, "args": [] }))
            .with_context(|| format!("in the page: {script}"))
    }

    /// Waits until a JavaScript expression is true.
    pub(crate) fn wait(&self, expression: &str) -> Result<()> {
        self.wait_for(expression, SHOWN)
    }

    pub(crate) fn wait_for(&self, expression: &str, limit: Duration) -> Result<()> {
        let script = format!("return Boolean({expression})");
        let deadline = Instant::now() + limit;
        while self.script(&script)? != json!(true) {
            if Instant::now() > deadline {
                let text = self.script("return document.body.innerText")?;
                bail!("in {} s not so: {expression}; the page says:\n{}", limit.as_secs(), plain(&text));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Clicks an element like a hand would: it must be in view, and nothing above it.
    pub(crate) fn click(&self, selector: &str) -> Result<()> {
        let found = self
            .command("/element", &json!({ "using": "css selector", "value": selector }))
            .with_context(|| format!("looking for {selector}"))?;
        let id = found.as_object().and_then(|map| map.values().next()).and_then(Value::as_str);
        let id = id.with_context(|| format!("no element {selector}"))?;
        self.command(&format!("/element/{id}/click"), &json!({}))
            .with_context(|| format!("clicking {selector}"))
            .map(|_| ())
    }

    /// Presses keys, all together: the last one is let go first.
    pub(crate) fn press(&self, keys: &[&str]) -> Result<()> {
        let event = |kind: &str, key: &&str| json!({ "type": kind, "value": key });
        let down = keys.iter().map(|key| event("keyDown", key));
        let steps: Vec<Value> = down.chain(keys.iter().rev().map(|key| event("keyUp", key))).collect();
        let actions = json!([{ "type": "key", "id": "keyboard", "actions": steps }]);
        self.command("/actions", &json!({ "actions": actions })).map(|_| ())
    }

    /// Puts text where the cursor is, in the place of what is selected.
    pub(crate) fn insert(&self, text: &str) -> Result<()> {
        self.devtools("Input.insertText", &json!({ "text": text })).map(|_| ())
    }

    /// What the window shows, as a PNG.
    pub(crate) fn screenshot(&self) -> Result<Vec<u8>> {
        let shot = self.devtools("Page.captureScreenshot", &json!({ "format": "png" }))?;
        let text = shot["data"].as_str().context("no picture")?;
        STANDARD.decode(text).map_err(|error| anyhow!("the picture's base64: {error}"))
    }

    /// Errors on the console since they were last asked for.
    pub(crate) fn errors(&self) -> Result<Vec<String>> {
        self.take_logs()?;
        Ok(std::mem::take(&mut self.seen.borrow_mut().errors))
    }

    /// Addresses that were asked for, since they were last asked for.
    pub(crate) fn requests(&self) -> Result<Vec<String>> {
        self.take_logs()?;
        Ok(std::mem::take(&mut self.seen.borrow_mut().requests))
    }

    fn take_logs(&self) -> Result<()> {
        let mut seen = self.seen.borrow_mut();
        let entries = |kind: &str| -> Result<Vec<Value>> {
            let log = self.command("/se/log", &json!({ "type": kind }))?;
            Ok(log.as_array().cloned().unwrap_or_default())
        };
        for entry in entries("browser")? {
            if entry["level"] == "SEVERE" || entry["level"] == "WARNING" {
                seen.errors.push(plain(&entry["message"]));
            }
        }
        for entry in entries("performance")? {
            let message: Value = serde_json::from_str(&plain(&entry["message"])).unwrap_or_default();
            let message = &message["message"];
            if message["method"] == "Network.requestWillBeSent" {
                seen.requests.push(plain(&message["params"]["request"]["url"]));
            }
        }
        Ok(())
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Result<Value> {
        self.command("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    fn command(&self, path: &str, body: &Value) -> Result<Value> {
        self.call("POST", &format!("/session/{}{path}", self.session), Some(body))
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let kind = [("Content-Type", "application/json")];
        let answer = request(self.at, method, path, &kind, &body)?;
        let value: Value = serde_json::from_str(&answer.body).context("chromedriver's answer")?;
        match value["value"]["error"].as_str() {
            Some(error) => bail!("{error}: {}", plain(&value["value"]["message"])),
            None => Ok(value["value"].clone()),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _ = self.call("DELETE", &format!("/session/{}", self.session), None);
        }
        drop(self.made.take());
        let _ = self.driver.wait();
    }
}

/// A text as it is; anything else as JSON.
pub(crate) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A port of this machine on which nobody listens.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a free port")?;
    listener.local_addr().context("its number")
}

fn driver(at: SocketAddr, home: &PathBuf) -> Result<Child> {
    // Chromium ends with chromedriver, and that with the lab. What they keep in a home goes into the profile.
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "chromedriver", &format!("--port={}", at.port())])
        .env("HOME", home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| explain("chromedriver", error))
}

/// An answer by HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// Asks a server of this machine, over a connection of its own.
pub(crate) fn request(
    at: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Answer> {
    let asking = || format!("{method} http://{at}{path}");
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE).with_context(asking)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nContent-Length: {length}\r\n"
    );
    stream.write_all(format!("{head}{more}\r\n{body}").as_bytes()).with_context(asking)?;
    read(stream).with_context(asking)
}

/// Reads an answer to its end: as long as its head says, or until the server closes.
fn read(mut stream: TcpStream) -> Result<Answer> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let status =
                head.split(' ').nth(1).and_then(|word| word.parse().ok()).context("no HTTP status")?;
            let answer = Answer { status, head, body: String::new() };
            // Neither has content (RFC 9112 §6.3).
            let length = match status {
                204 | 304 => Some(0),
                _ => answer.header("Content-Length").and_then(|text| text.parse().ok()),
            };
            let got = bytes.len() - end - 4;
            if length.is_some_and(|length| got >= length) {
                return Ok(Answer {
                    body: String::from_utf8_lossy(&bytes[end + 4..]).into_owned(),
                    ..answer
                });
            }
        }
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&buffer[..count]);
    }
    bail!("the answer ends before its length: {}", String::from_utf8_lossy(&bytes))
}
