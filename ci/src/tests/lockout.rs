//! Operators who lock themselves out, and connections that break while a configuration changes: afterwards one whole
//! configuration is in force, and the router can be reached.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::management::{LIMIT, NETWORK, SECTION, TOKEN, call, get, request, start};
use super::{Context, Needs, Test};
use crate::netns::{Network, Plan};
use crate::random::Random;
use crate::rig::{LinuxRig, host_mac, identity, no_panic, report_folder, write_console};
use crate::router::{Config, Setup};

pub(super) fn tests() -> Vec<Test> {
    let with_iperf = Needs { programs: &["ip", "curl", "ping", "iperf3"], alone: true, ..NETWORK };
    vec![
        Test::new("management-locked-out", with_iperf, locked_out),
        Test::new("management-broken-connections", NETWORK, broken),
    ]
}

/// A commit takes away the address that it came by. The router takes it back, and who is behind it notices nothing.
fn locked_out(cx: &Context) -> Result<()> {
    let plan = |port: usize| -> Result<Plan> {
        let own = identity(port)?;
        Ok(Plan {
            mac: host_mac(port),
            addresses: vec![format!("{}/24", own.v4), format!("{}/64", own.v6)],
            gateways: vec![own.gateway_v4.to_string(), own.gateway_v6.to_string()],
            mtu: 1500,
            queues: 1,
        })
    };
    let network = Network::new(&[plan(0)?, plan(1)?, plan(2)?])?;
    let mut setup = Setup::new(cx.image, Config::three_ports(), network.wires());
    setup.namespace = Some(network.namespace.clone());
    setup.paused = true;
    setup.cpus = 2;
    let before = setup.config.toml().replace(
        "addresses = [\"203.0.113.1/24\", \"2001:db8:3::1/64\"]",
        "addresses = [\"203.0.113.1/24\", \"2001:db8:3::1/64\"]\nmanagement = true",
    );
    let before = format!("{before}{SECTION}");
    setup.module = Some(before.clone().into_bytes());
    let mut router = setup.start()?;
    router.machine.qmp()?;
    network.arrive()?;
    router.machine.resume()?;
    let outcome = (|| {
        router.ready()?;
        let (a, b, operator) = (&network.hosts[0], &network.hosts[1], &network.hosts[2]);
        let own = identity(2)?.gateway_v4.to_string();
        let ask = |path: &str, more: &[&str], body: &str| request(operator, &own, TOKEN, path, more, body);
        let far = identity(1)?.v4.to_string();
        a.check("ping", &["-c", "2", "-i", "0.2", &far], LIMIT)?;
        let (status, text) = ask("/api/v1/config", &[], "")?;
        ensure!(status == 200 && text == before, "{status}: {text}");
        // Connections of hosts behind the router, from before until after.
        let server = b.start("iperf3", &["--server", "--one-off", "--forceflush"])?;
        server.output.wait("listening", LIMIT)?;
        let stream = a.start("iperf3", &["--client", &far, "--time", "14", "--bitrate", "2M", "--json"])?;
        let pings = a.start("ping", &["-q", "-c", "600", "-i", "0.02", &far])?;
        let without = text.replace("addresses = [\"203.0.113.1/24\", \"2001:db8:3::1/64\"]\n", "");
        ensure!(without != text, "there is no address to take away: {text}");
        let (status, said) = ask("/api/v1/config", &["--request", "PUT"], &without)?;
        ensure!(status == 200, "{status}: {said}");
        // Its answer has no way back any more.
        let commit = ["--request", "POST", "--max-time", "2"];
        let out = Instant::now();
        let answered = ask("/api/v1/config/commit?confirm=5", &commit, "");
        router.machine.wait("committed, to be confirmed within 5 s", LIMIT)?;
        let gone = operator.run("ping", &["-c", "1", "-W", "1", &own], LIMIT)?;
        ensure!(!gone.status.success(), "the address still answers; the commit said {answered:?}");
        let again = Instant::now() + LIMIT;
        let after = loop {
            match ask("/api/v1/config", &["--max-time", "1"], "") {
                Ok((200, text)) => break text,
                other => ensure!(Instant::now() < again, "still locked out: {other:?}"),
            }
        };
        ensure!(after == before, "another configuration is in force: {after}");
        let took = out.elapsed();
        ensure!(took > Duration::from_millis(4500), "it came back after {took:?}, and was to wait for 5 s");
        let (_, history) = ask("/api/v1/config/history", &[], "")?;
        let history: serde_json::Value = serde_json::from_str(&history)?;
        ensure!(history[0]["by"] == "revert to version 1" && history[1]["state"] == "reverted", "{history}");
        pings
            .output
            .wait("600 packets transmitted, 600 received", LIMIT)
            .context("pings behind the router")?;
        stream.output.wait("\"end\"", LIMIT).context("a TCP connection behind the router")?;
        let text = stream.output.text();
        ensure!(!text.contains("\"error\""), "{text}");
        Ok(())
    })()
    .and_then(|()| no_panic(&router));
    let Err(error) = outcome else { return Ok(()) };
    let folder = report_folder()?;
    write_console(&folder, &cx.name, &router)?;
    Err(error.context(format!("console: {}/{}-console.txt", folder.display(), cx.name)))
}

/// Connections that are broken.
const ROUNDS: usize = 200;
/// Two destinations behind the second host; each configuration has a route to one of them.
const FAR: [&str; 2] = ["198.51.100.9", "198.51.101.9"];

fn broken(cx: &Context) -> Result<()> {
    start(cx, 2, SECTION)?.check(&cx.name, |rig| {
        for address in FAR {
            rig.host(1).shell(&format!("ip addr add {address}/32 dev lo"), LIMIT)?;
        }
        let (_, plain) = call(rig, 0, TOKEN, "/api/v1/config", &[], "")?;
        let via = identity(1)?.v4;
        let texts = FAR.map(|to| {
            let net = to.trim_end_matches('9');
            format!("{plain}\n[[route]]\nto = \"{net}0/24\"\nvia = \"{via}\"\n")
        });
        let mut tags = Vec::new();
        for text in &texts {
            let (status, said) = call(rig, 0, TOKEN, "/api/v1/config", &["--request", "PUT"], text)?;
            let plan: serde_json::Value = serde_json::from_str(&said)?;
            ensure!(status == 200, "{status}: {said}");
            tags.push(plan["etag"].as_str().context("no tag")?.to_owned());
            let (status, said) = call(rig, 0, TOKEN, "/api/v1/config/commit", &["--request", "POST"], "")?;
            ensure!(status == 200, "{status}: {said}");
        }
        let mut random = Random::new(7);
        let mut seen = [0; 2];
        for round in 0..ROUNDS {
            break_one(rig, &texts, &mut random).with_context(|| format!("round {round}"))?;
            let running = whole(rig, &texts, &tags).with_context(|| format!("after round {round}"))?;
            seen[running] += 1;
        }
        ensure!(seen.iter().all(|&count| count > ROUNDS / 10), "the same one nearly always: {seen:?}");
        let status = get(rig, "/api/v1/status")?;
        ensure!(status["hostname"] == "edge1", "{status}");
        Ok(())
    })
}

/// A sequence of changes on one connection, which breaks anywhere.
fn break_one(rig: &LinuxRig, texts: &[String; 2], random: &mut Random) -> Result<()> {
    let post =
        |path: &str| format!("POST /api/v1/config/{path} HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    let text = &texts[random.below(2)];
    let mut requests = format!(
        "PUT /api/v1/config HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    );
    requests += &post(["commit", "commit?confirm=1", "commit?confirm=1"][random.below(3)]);
    requests += &post(["confirm", "revert", "rollback?version=2", "rollback?version=3"][random.below(4)]);
    requests += &post("commit?confirm=1");
    requests += &post(["confirm", "revert"][random.below(2)]);
    let count = if random.one_in(2) { requests.len() } else { random.below(requests.len()) };
    let file = crate::cleanup::directory()?;
    let path = file.0.join("requests");
    std::fs::write(&path, &requests)?;
    let own = std::env::current_exe()?.display().to_string();
    let to = format!("{}:80", identity(0)?.gateway_v4);
    let wait = random.below(40_000).to_string();
    let mut words = vec!["api-cut", &to];
    let (path, count) = (path.display().to_string(), count.to_string());
    words.extend(["--requests", &path, "--count", &count, "--wait-us", &wait]);
    if random.one_in(2) {
        words.push("--reset");
    }
    rig.host(0).check(&own, &words, LIMIT).map(drop)
}

/// Which of the texts is in force, by what the router says and by what it does; nothing else is.
fn whole(rig: &LinuxRig, texts: &[String; 2], tags: &[String]) -> Result<usize> {
    let router = identity(0)?.gateway_v4;
    let fetch = format!(
        "curl --silent --include --max-time 20 --header 'Authorization: Bearer {TOKEN}' http://{router}/api/v1/config"
    );
    let ping = |to: &str| format!("ping -q -c 1 -W 1 {to} > /dev/null && echo yes || echo no");
    let line = format!("{fetch}; echo; echo ----; {}; {}; echo ----; {fetch}", ping(FAR[0]), ping(FAR[1]));
    let deadline = Instant::now() + LIMIT;
    loop {
        let said = rig.host(0).shell(&line, LIMIT)?;
        let parts: Vec<&str> = said.split("\n----\n").collect();
        let [first, pings, second] = *parts else { anyhow::bail!("{said}") };
        let running = |answer: &str| -> Result<usize> {
            let (head, body) =
                answer.split_once("\r\n\r\n").with_context(|| format!("no answer: {answer:?}"))?;
            let number = texts.iter().position(|text| text.trim_end() == body.trim_end());
            let number = number.with_context(|| format!("a text that nobody made:\n{body}"))?;
            let tag = format!("\"{}\"", tags[number]);
            ensure!(head.contains(&tag), "text {number} with another's tag: {head}");
            Ok(number)
        };
        let (before, after) = (running(first)?, running(second)?);
        let expected = if before == 0 { "yes\nno" } else { "no\nyes" };
        if before == after && pings.trim() == expected {
            return Ok(before);
        }
        // What was not confirmed went back between the looks, or a ping was lost on a busy machine.
        ensure!(Instant::now() < deadline, "text {before} is in force, then {after}; pings: {pings}");
    }
}
