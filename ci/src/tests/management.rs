//! The management plane of a running router, as an operator's machine sees it: curl in a Linux host.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Context, Needs, Test};
use crate::command;
use crate::netns::LinuxHost;
use crate::rig::{LinuxPlan, LinuxRig, identity};

pub(super) const NETWORK: Needs =
    Needs { root: true, programs: &["ip", "curl", "promtool"], weir: true, alone: false };

/// A token, and the section with its hash: echo TOKEN | weir-check --hash-token
pub(super) const TOKEN: &str = "correct-horse-battery";
pub(super) const SECTION: &str = r#"
[[management.token]]
name = "ann"
hash = "$argon2id$v=19$m=1024,t=3,p=1$c2FsdHNhbHRzYWx0c2FsdA$Pv9Y76c+Jnos+z8GF2SC3HvHZN6DvIST0yHKRNKE8YE"
"#;
pub(super) const LIMIT: Duration = Duration::from_secs(30);

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("management-api", NETWORK, |cx| api(cx, 1)),
        Test::new("management-api-2-cpus", NETWORK, |cx| api(cx, 2)),
        Test::new("management-commit-confirm", NETWORK, confirm),
        Test::new("management-tokens", NETWORK, tokens),
        Test::new("management-log-beside-typing", NETWORK, log_beside_typing),
        Test::new(
            "management-stacks-have-room",
            Needs { programs: &["ip", "curl", "ping"], ..NETWORK },
            stacks,
        ),
    ]
}

/// The first interface alone offers management.
pub(super) fn start(cx: &Context, cpus: usize, section: &'static str) -> Result<LinuxRig> {
    let rig = LinuxRig::power_on(cx.image, &LinuxPlan { cpus, ..LinuxPlan::new() }, |setup| {
        let text = setup.config.toml().replacen("addresses", "management = true\naddresses", 1);
        setup.module = Some(format!("{text}{section}").into_bytes());
    })?;
    rig.router.ready()?;
    Ok(rig)
}

/// Status and body of a request from `host`; a `body` is sent if there is one.
pub(super) fn call(
    rig: &LinuxRig,
    host: usize,
    token: &str,
    path: &str,
    more: &[&str],
    body: &str,
) -> Result<(u16, String)> {
    request(rig.host(host), &identity(host)?.gateway_v4.to_string(), token, path, more, body)
}

/// The same from a host to a router's address.
pub(super) fn request(
    host: &LinuxHost,
    router: &str,
    token: &str,
    path: &str,
    more: &[&str],
    body: &str,
) -> Result<(u16, String)> {
    let url = format!("http://{router}{path}");
    let header = format!("Authorization: Bearer {token}");
    let mut words = vec!["--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}"];
    words.extend(["--header", &header]);
    words.extend(more);
    if !body.is_empty() {
        words.extend(["--data-binary", "@-"]);
    }
    words.push(&url);
    let said = command::run(&mut host.command("curl", &words), body.as_bytes(), LIMIT)?;
    let said = said.success(&format!("curl {path}"))?;
    let (body, status) = said.trim_end().rsplit_once('\n').context("no status")?;
    Ok((status.trim().parse()?, body.to_owned()))
}

pub(super) fn post(rig: &LinuxRig, path: &str) -> Result<(u16, String)> {
    call(rig, 0, TOKEN, path, &["--request", "POST"], "")
}

pub(super) fn get(rig: &LinuxRig, path: &str) -> Result<Value> {
    let (status, body) = call(rig, 0, TOKEN, path, &[], "")?;
    ensure!(status == 200, "{path}: {status}: {body}");
    serde_json::from_str(&body).with_context(|| format!("{path}: {body}"))
}

fn api(cx: &Context, cpus: usize) -> Result<()> {
    start(cx, cpus, SECTION)?.check(&cx.name, |rig| {
        let status = get(rig, "/api/v1/status")?;
        ensure!(status["hostname"] == "edge1" && status["cpus"] == cpus, "{status}");
        let interfaces = get(rig, "/api/v1/interfaces")?;
        ensure!(interfaces[0]["name"] == "wan" && interfaces[0]["state"] == "up", "{interfaces}");
        ensure!(interfaces[0]["rx_packets"].as_u64() > Some(3), "{interfaces}");
        let neighbors = get(rig, "/api/v1/neighbors")?;
        let own = identity(0)?.v4.to_string();
        let known = neighbors.as_array().into_iter().flatten().find(|neighbor| neighbor["address"] == *own);
        ensure!(known.is_some_and(|own| own["mac"].is_string() && own["interface"] == "wan"), "{neighbors}");
        let routes = get(rig, "/api/v1/routes")?;
        ensure!(routes["routes"][0]["action"] == "local", "{routes}");
        let cpus_found = get(rig, "/api/v1/cpus")?;
        ensure!(cpus_found["cpus"].as_array().map(Vec::len) == Some(cpus), "{cpus_found}");
        let log = get(rig, "/api/v1/log")?;
        let said =
            |line: &Value| line["text"].as_str().is_some_and(|text| text.starts_with("configuration: "));
        ensure!(log.as_array().is_some_and(|lines| lines.iter().any(said)), "{log}");
        let (_, config) = call(rig, 0, TOKEN, "/api/v1/config", &[], "")?;
        ensure!(config.contains("[[management.token]]"), "{config}");
        let document = get(rig, "/api/v1/openapi.json")?;
        ensure!(document["openapi"] == "3.1.0", "{document}");
        let (status, metrics) = call(rig, 0, TOKEN, "/metrics", &[], "")?;
        ensure!(status == 200 && metrics.contains("weir_interface_up{interface=\"wan\"} 1"), "{metrics}");
        let mut promtool = Command::new("promtool");
        let checked =
            command::run(promtool.args(["check", "metrics"]), format!("{metrics}\n").as_bytes(), LIMIT)?;
        let said = [&*checked.stdout, &*checked.stderr].concat();
        ensure!(checked.status.success() && said.is_empty(), "promtool: {said}");
        // Many connections, over all CPUs; and nothing where management is not offered.
        for _ in 0..20 {
            get(rig, "/api/v1/status")?;
        }
        let refused = call(rig, 1, TOKEN, "/api/v1/status", &["--connect-timeout", "5"], "");
        ensure!(refused.is_err(), "management answers on an interface that does not offer it");
        Ok(())
    })
}

fn confirm(cx: &Context) -> Result<()> {
    start(cx, 2, SECTION)?.check(&cx.name, |rig| {
        let (_, before) = call(rig, 0, TOKEN, "/api/v1/config", &[], "")?;
        let with_route = format!("{before}\n[[route]]\nto = \"198.51.100.0/24\"\nreject = \"prohibit\"\n");
        let put = |rig: &LinuxRig| call(rig, 0, TOKEN, "/api/v1/config", &["--request", "PUT"], &with_route);
        let (status, plan) = put(rig)?;
        ensure!(status == 200 && plan.contains("\"routes_added\":1"), "{status}: {plan}");
        let routes = |rig: &LinuxRig| get(rig, "/api/v1/routes")?["total"].as_u64().context("no total");
        let few = routes(rig)?;
        let (status, said) = post(rig, "/api/v1/config/commit?confirm=3")?;
        ensure!(status == 200 && said.contains("\"confirm_within_ms\":3000"), "{status}: {said}");
        rig.router.machine.wait("was not confirmed in time: reverted", LIMIT)?;
        ensure!(routes(rig)? == few, "the route is still there");
        let (_, after) = call(rig, 0, TOKEN, "/api/v1/config", &[], "")?;
        ensure!(after == before, "{after}");
        let (status, refused) = post(rig, "/api/v1/config/confirm")?;
        ensure!(status == 409 && refused.contains("\"cure\""), "{status}: {refused}");
        put(rig)?;
        post(rig, "/api/v1/config/commit?confirm=60")?;
        ensure!(routes(rig)? == few + 1, "the route is not there while it is on trial");
        let (status, _) = post(rig, "/api/v1/config/confirm")?;
        ensure!(status == 200 && routes(rig)? == few + 1, "it is not confirmed");
        let history = get(rig, "/api/v1/config/history")?;
        ensure!(history[0]["by"] == "ann" && history[0]["state"] == "running", "{history}");
        Ok(())
    })
}

fn tokens(cx: &Context) -> Result<()> {
    start(cx, 1, "")?.check(&cx.name, |rig| {
        let (status, said) = call(rig, 0, TOKEN, "/api/v1/status", &[], "")?;
        ensure!(status == 403 && said.contains("type token on the router's console"), "{status}: {said}");
        let position = rig.router.machine.console.position();
        rig.router.machine.type_keys(b"token\n")?;
        let line = rig.router.machine.console.wait_after(position, "may use the API", LIMIT)?.text;
        let token = line.split(' ').next().unwrap_or_default().to_owned();
        let (status, said) = call(rig, 0, &token, "/api/v1/status", &[], "")?;
        ensure!(status == 200, "{status}: {said}");
        let (status, said) = call(rig, 0, "not-the-token-at-all", "/api/v1/status", &[], "")?;
        ensure!(status == 401, "{status}: {said}");
        Ok(())
    })
}

/// A line of the log comes while somebody types: it has a row of its own, and what was typed is shown again and counts.
fn log_beside_typing(cx: &Context) -> Result<()> {
    start(cx, 1, SECTION)?.check(&cx.name, |rig| {
        let (_, text) = call(rig, 0, TOKEN, "/api/v1/config", &[], "")?;
        let console = rig.router.machine.console.clone();
        for round in 0..5 {
            let position = console.position();
            rig.router.machine.type_keys(b"show sta")?;
            console.wait_row("edge1> show sta", LIMIT)?;
            let with = format!("{text}# {round}\n");
            let (status, said) = call(rig, 0, TOKEN, "/api/v1/config", &["--request", "PUT"], &with)?;
            ensure!(status == 200, "{status}: {said}");
            post(rig, "/api/v1/config/commit")?;
            console.wait_after(position, "configuration: version", LIMIT)?;
            console.wait_row("edge1> show sta", LIMIT).context("after the line of the log")?;
            rig.router.machine.type_keys(b"tus | match hostname\n")?;
            console.wait_after(position, "hostname  ", LIMIT)?;
            let lines: Vec<String> = console.since(position).into_iter().map(|line| line.text).collect();
            let all = lines.join("\n");
            let logged = lines.iter().find(|line| line.contains("configuration: version"));
            ensure!(logged.is_some_and(|line| line.trim_start().starts_with('[')), "a line is cut:\n{all}");
            let typed = |line: &String| line.contains("edge1> show status | match hostname");
            ensure!(lines.iter().any(typed), "what was typed is not shown again:\n{all}");
        }
        Ok(())
    })
}

/// Bytes of a stack's 128 KiB that are never written to: not fewer, and not so many that nothing was looked at.
const STACK_LEFT: std::ops::Range<u64> = 32 << 10..120 << 10;

/// Tasks do what takes most of a stack while packets interrupt them: much of it is never written to.
fn stacks(cx: &Context) -> Result<()> {
    start(cx, 2, SECTION)?.check(&cx.name, |rig| {
        let (near, far) = (identity(0)?, identity(1)?);
        let far_v4 = far.v4.to_string();
        let received =
            |rig: &LinuxRig| get(rig, "/api/v1/interfaces")?[1]["rx_packets"].as_u64().context("none");
        let before = received(rig)?;
        let flood = rig.host(0).start("ping", &["-q", "-f", "-l", "20", &far_v4])?;
        let (_, text) = call(rig, 0, TOKEN, "/api/v1/config", &[], "")?;
        for round in 0..4 {
            let mut with = text.clone();
            for n in 0..200 {
                let (v4, v6) = (near.v4, near.v6);
                with += &format!("\n[[route]]\nto = \"10.2{round}.{n}.0/24\"\nvia = \"{v4}\"\n");
                with += &format!("\n[[route]]\nto = \"2001:db8:ffff::{round}:{n}/128\"\nvia = \"{v6}\"\n");
            }
            let (status, said) = put(rig, &with)?;
            ensure!(status == 200, "{status}: {said}");
            for candidate in ["", "&candidate=true"] {
                for _ in 0..10 {
                    let packet = format!("wan+from+{}+to+{}+protocol+udp+port+53", near.v4, far.v4);
                    get(rig, &format!("/api/v1/explain?packet={packet}{candidate}"))?;
                }
            }
            let (status, said) = post(rig, "/api/v1/config/commit")?;
            ensure!(status == 200, "{status}: {said}");
            for path in ["cpus", "drops?last=100", "log", "routes", "config/history", "openapi.json"] {
                get(rig, &format!("/api/v1/{path}"))?;
            }
            let filter = "icmp%20and%20not%20host%20192.0.2.77";
            for path in ["/metrics".to_owned(), format!("/api/v1/capture?limit=20&filter={filter}")] {
                let (status, said) = call(rig, 0, TOKEN, &path, &["--output", "/dev/null"], "")?;
                ensure!(status == 200, "{path}: {status}: {said}");
            }
            let console = rig.router.machine.console.clone();
            let position = console.position();
            let explain = format!("explain wan from {} to {far_v4}\n", near.v4);
            for line in ["show interfaces | json\n", "show routes\n", &explain] {
                rig.router.machine.type_keys(line.as_bytes())?;
            }
            console.wait_after(position, "forwarded", LIMIT)?;
        }
        too_deep(rig)?;
        flood.interrupt(LIMIT).context("the packets that interrupt")?;
        let packets = received(rig)? - before;
        ensure!(packets > 1000, "{packets} packets were to interrupt");
        let cpus = get(rig, "/api/v1/cpus")?;
        let left = cpus["cpus"].as_array().context("no CPUs")?.iter();
        let left: Vec<u64> = left.filter_map(|cpu| cpu["stack_free_bytes"].as_u64()).collect();
        ensure!(left.len() == 2 && left.iter().all(|left| STACK_LEFT.contains(left)), "left: {left:?} bytes");
        Ok(())
    })
}

fn put(rig: &LinuxRig, text: &str) -> Result<(u16, String)> {
    call(rig, 0, TOKEN, "/api/v1/config", &["--request", "PUT"], text)
}

/// Texts as deep as each language goes, and deeper.
fn too_deep(rig: &LinuxRig) -> Result<()> {
    let times = |open: &str, close: &str, depth: usize| open.repeat(depth) + &close.repeat(depth);
    let dotted = format!("a{}={{", ".a".repeat(78));
    for (text, answer) in [
        (format!("deep = {}\n", times("[", "]", 16)), "deep"),
        (format!("deep = {}\n", times("{a=", "}", 15)), "not valid TOML"),
        (format!("deep = {}\n", times("[", "]", 17)), "more than 16"),
        (format!("deep = {}\n", times("[", "]", 2000)), "more than 16"),
        (format!("deep = {{{}}}\n", times(&dotted, "}", 75)), "more than 16"),
        (format!("a{} = 1\n", ".a".repeat(70)), "more than 16"),
    ] {
        let (status, said) = put(rig, &text)?;
        let begin: String = text.chars().take(20).collect();
        ensure!(status == 422 && said.contains(answer), "{begin} …: {status}: {said}");
    }
    let around = |what: &str, depth: usize| "(".repeat(depth) + what + &")".repeat(depth);
    let operators = |depth: usize| times("1|1&1<<1+1*(", ")", depth).replacen("()", "(1)", 1);
    for (filter, answer) in [
        (format!("{} and not tcp", around("icmp or udp", 16)), 200),
        (format!("{} and not tcp", around("icmp or udp", 17)), 400),
        (format!("ip[{}:2] > 0", around("2", 15)), 200),
        (format!("ip[{}:2] > 0", around("2", 200)), 400),
        (format!("ip[0] > {}", operators(2)), 200),
        (format!("ip[0] > {}", operators(16)), 400),
    ] {
        let coded: String = filter.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/api/v1/capture?limit=1&filter={coded}");
        let (status, said) = call(rig, 0, TOKEN, &path, &["--output", "/dev/null"], "")?;
        ensure!(status == answer, "{filter}: {status}: {said}");
    }
    Ok(())
}
