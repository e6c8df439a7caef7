//! The same numbers everywhere: what hosts count on their wires is what the API, the metrics and the console say.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::forwarding::{udp_v4, udp_v6};
use super::management::{LIMIT, NETWORK, SECTION, TOKEN, request};
use super::sockets::Mixed;
use super::{Context, Needs, Test};
use crate::command;
use crate::frame::{self, Ipv4};
use crate::host::{Host, Sockets};
use crate::rig::{PATIENCE, identity};
use crate::router::Config;

pub(super) fn tests() -> Vec<Test> {
    let needs = Needs { programs: &["ip", "curl", "promtool", "prometheus"], ..NETWORK };
    vec![
        Test::new("management-same-numbers", needs, |cx| same_numbers(cx, 1)),
        Test::new("management-same-numbers-2-cpus", needs, |cx| same_numbers(cx, 2)),
    ]
}

/// Frames and bytes of an interface: received, sent.
pub(crate) type Counted = [(u64, u64); 2];

/// Reasons and how many packets are made to die of each.
pub(crate) const LOSSES: [(&str, u64); 4] =
    [("ttl-expired", 7), ("no-route", 5), ("ipv4-checksum", 11), ("ethernet-unknown-type", 13)];

/// A Linux host manages the router at its first port; between the other two flow frames that nobody else counts.
fn same_numbers(cx: &Context, cpus: usize) -> Result<()> {
    let sockets = [Sockets::new()?, Sockets::new()?];
    let wires: Vec<_> = sockets.iter().map(|sockets| sockets.wire.clone()).collect();
    let mut hosts = Vec::new();
    for (port, sockets) in (1..).zip(sockets) {
        hosts.push(Host::start(sockets, identity(port)?)?);
    }
    let rig = Mixed::with(
        cx,
        |network| Ok(network.wires().into_iter().chain(wires).collect()),
        |setup| {
            setup.cpus = cpus;
            setup.config = Config::three_ports();
            let text = setup.config.toml().replacen("addresses", "management = true\naddresses", 1);
            setup.module = Some(format!("{text}{SECTION}").into_bytes());
        },
    )?;
    hosts.iter().try_for_each(Host::connect)?;
    rig.check(&cx.name, |rig| {
        rig.router.ready()?;
        rig.network.hosts[0].offloads("off")?;
        let before = apart(at_rest(rig)?);
        traffic(&hosts[0], &hosts[1])?;
        let drops: BTreeMap<String, u64> =
            LOSSES.iter().map(|&(reason, packets)| (reason.to_owned(), packets)).collect();

        for (number, name) in [(0, "lan"), (1, "dmz")] {
            agreed(&hosts, |counted| {
                let expected = counted[number];
                let all = ask(rig, "/api/v1/interfaces")?;
                ensure!(of_interface(&all, name)? == expected, "{name}: hosts {expected:?}, the API {all}");
                Ok(())
            })?;
            agreed(&hosts, |counted| {
                let expected = counted[number];
                let all = on_console(rig, "show interfaces | json")?;
                ensure!(
                    of_interface(&all, name)? == expected,
                    "{name}: hosts {expected:?}, the console {all}"
                );
                Ok(())
            })?;
            agreed(&hosts, |counted| {
                let shown = shown(rig, &format!("show interfaces {name}"))?;
                for (word, count) in [("rx", counted[number][0]), ("tx", counted[number][1])] {
                    let found = shown.iter().any(|line| {
                        let words: Vec<&str> = line.split_whitespace().collect();
                        let counts = [count.0.to_string(), count.1.to_string()];
                        words.windows(2).any(|pair| pair == counts)
                            || words.iter().any(|own| *own == counts[0])
                                && words.iter().any(|own| *own == counts[1])
                    });
                    ensure!(
                        found || rows_say(&shown, word, count),
                        "{name} {word} {count:?}: {}",
                        shown.join("\n")
                    );
                }
                Ok(())
            })?;
        }
        let all = ask(rig, "/api/v1/drops")?;
        ensure!(of_drops(&all, "lan") == drops, "hosts {drops:?}, the API {all}");
        let all = on_console(rig, "show drops | json")?;
        ensure!(of_drops(&all, "lan") == drops, "hosts {drops:?}, the console {all}");
        let shown = shown(rig, "show drops")?;
        for (reason, packets) in &drops {
            let row = |line: &String| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words.contains(&"lan") && words.contains(&&**reason) && words.contains(&&*packets.to_string())
            };
            ensure!(shown.iter().any(row), "{reason} {packets}: {}", shown.join("\n"));
        }
        // Each question is a connection of its own.
        let accepted = |rig: &mut Mixed| {
            let rows = ask(rig, "/api/v1/cpus")?["sockets"].take();
            let of_cpu = |row: &Value| row["accepted"].as_u64();
            let all: Option<Vec<u64>> = rows.as_array().context("no sockets")?.iter().map(of_cpu).collect();
            all.filter(|all| all.len() == cpus).with_context(|| format!("sockets: {rows}"))
        };
        let (one, next) = (accepted(rig)?, accepted(rig)?);
        ensure!(
            next.iter().sum::<u64>() == 1 + one.iter().sum::<u64>(),
            "accepted {one:?}, and then {next:?}"
        );
        // The managing host's own kernel counts the same frames on its wire, as soon as all of them have arrived.
        same_as_the_kernel(rig, before)?;
        by_prometheus(rig, &hosts, &drops)
    })
}

fn ask(rig: &Mixed, path: &str) -> Result<Value> {
    let router = identity(0)?.gateway_v4.to_string();
    let (status, body) = request(&rig.network.hosts[0], &router, TOKEN, path, &[], "")?;
    ensure!(status == 200, "{path}: {status}: {body}");
    serde_json::from_str(&body).with_context(|| format!("{path}: {body}"))
}

/// What is forwarded arrives; what is to be lost dies for its reason.
pub(crate) fn traffic(a: &Host, b: &Host) -> Result<()> {
    // Neighbours first, so that nothing waits for them.
    a.ping(b.identity().v4.into(), 1, PATIENCE)?;
    a.ping(b.identity().v6.into(), 2, PATIENCE)?;
    for number in 0..40_u16 {
        let body = vec![0x55; 10 + 37 * usize::from(number)];
        let mut packet = udp_v4(a, b, &body[..body.len().min(1400)]);
        packet.id = 0x1000 + number;
        a.send_v4(&packet)?;
        b.send_v6(&udp_v6(b, a, &body[..body.len().min(1300)]))?;
    }
    let plain = udp_v4(a, b, b"to be lost");
    for _ in 0..LOSSES[0].1 {
        a.send_v4(&Ipv4 { ttl: 1, ..plain.clone() })?;
    }
    for _ in 0..LOSSES[1].1 {
        a.send_v4(&Ipv4 { destination: [198, 51, 100, 9].into(), ..plain.clone() })?;
    }
    let own = a.identity();
    for _ in 0..LOSSES[2].1 {
        let mut bytes = plain.bytes();
        bytes[10] ^= 0x55;
        a.send(&frame::ethernet(own.gateway_mac, own.mac, frame::ETHERTYPE_IPV4, &bytes))?;
    }
    for _ in 0..LOSSES[3].1 {
        a.send(&frame::ethernet(own.gateway_mac, own.mac, 0x88b5, &[0; 64]))?;
    }
    // Behind all the others.
    a.ping(b.identity().v4.into(), 3, PATIENCE)?;
    b.ping(a.identity().v4.into(), 4, PATIENCE).map(drop)
}

/// Waits until the router `says` what the hosts have counted, and returns that. It tells of its addresses and asks for neighbours
/// of its own accord, seconds later too: each time, the hosts are asked first.
pub(crate) fn agreed(hosts: &[Host], mut says: impl FnMut(&[Counted]) -> Result<()>) -> Result<Vec<Counted>> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let counted: Vec<Counted> = hosts.iter().map(Host::counted).collect();
        match says(&counted) {
            Ok(()) => return Ok(counted),
            Err(other) if Instant::now() > deadline => return Err(other),
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// The counters of an interface in the model's JSON.
fn of_interface(all: &Value, name: &str) -> Result<Counted> {
    let rows = all.as_array().context("no list")?;
    let row = rows.iter().find(|row| row["name"] == name).with_context(|| format!("{name} is missing"))?;
    let number = |field: &str| row[field].as_u64().with_context(|| format!("{field} of {row}"));
    Ok([(number("rx_packets")?, number("rx_bytes")?), (number("tx_packets")?, number("tx_bytes")?)])
}

fn of_drops(all: &Value, interface: &str) -> BTreeMap<String, u64> {
    let rows = all.as_array().into_iter().flatten().filter(|row| row["interface"] == interface);
    let row = |row: &Value| Some((row["reason"].as_str()?.to_owned(), row["packets"].as_u64()?));
    rows.filter_map(row).collect()
}

/// The lines that a command prints.
fn shown(rig: &mut Mixed, line: &str) -> Result<Vec<String>> {
    let console = rig.router.machine.console.clone();
    let position = console.position();
    rig.router.machine.type_keys(format!("{line}\n").as_bytes())?;
    // The answer to this comes behind all of it.
    rig.router.machine.type_keys(b"show status | match uptime\n")?;
    console.wait_after(position, "uptime_ms ", LIMIT)?;
    Ok(console.since(position).into_iter().map(|line| line.text).collect())
}

fn on_console(rig: &mut Mixed, line: &str) -> Result<Value> {
    let said = shown(rig, line)?;
    let ends = ["[", "]"].map(|end| said.iter().position(|line| line == end));
    let [Some(first), Some(last)] = ends else { anyhow::bail!("{line}: no list in {}", said.join("\n")) };
    let text = said.get(first..=last).unwrap_or_default().join("\n");
    serde_json::from_str(&text).with_context(|| format!("{line}: {text}"))
}

/// Whether lines say the counts under names such as `rx_packets` or `rx packets`.
fn rows_say(shown: &[String], direction: &str, (packets, bytes): (u64, u64)) -> bool {
    let says = |what: &str, count: u64| {
        shown.iter().any(|line| {
            line.contains(direction)
                && line.contains(what)
                && line.split(|c: char| !c.is_ascii_digit()).any(|word| word == count.to_string())
        })
    };
    says("packets", packets) && says("bytes", bytes)
}

/// What the NIC at the other end of `wan` counted, and `wan` itself. The console asks without sending anything.
fn both_ends(rig: &mut Mixed) -> Result<(Counted, Counted)> {
    let mut counts = Vec::new();
    for name in ["tx_packets", "tx_bytes", "rx_packets", "rx_bytes"] {
        let path = format!("/sys/class/net/eth0/statistics/{name}");
        counts.push(rig.network.hosts[0].check("cat", &[&path], LIMIT)?.trim().parse::<u64>()?);
    }
    let router = of_interface(&on_console(rig, "show interfaces | json")?, "wan")?;
    Ok(([(counts[0], counts[1]), (counts[2], counts[3])], router))
}

/// Both ends while nothing is under way: two looks see the same.
fn at_rest(rig: &mut Mixed) -> Result<(Counted, Counted)> {
    let deadline = Instant::now() + LIMIT;
    let mut before = both_ends(rig)?;
    loop {
        let now = both_ends(rig)?;
        if now == before {
            return Ok(now);
        }
        ensure!(Instant::now() < deadline, "wan does not come to rest: {before:?}, then {now:?}");
        before = now;
    }
}

/// How far two ends are apart: what was sent before the router listened is one's alone.
fn apart((kernel, router): (Counted, Counted)) -> [u64; 4] {
    [
        kernel[0].0.wrapping_sub(router[0].0),
        kernel[0].1.wrapping_sub(router[0].1),
        kernel[1].0.wrapping_sub(router[1].0),
        kernel[1].1.wrapping_sub(router[1].1),
    ]
}

/// Whether both ends of `wan` have counted the same since they were `before` apart, as soon as nothing is under way.
fn same_as_the_kernel(rig: &mut Mixed, before: [u64; 4]) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let ends = both_ends(rig)?;
        if apart(ends) == before {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "wan, Linux and the router: {ends:?}, {before:?} apart before");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// A Prometheus in the managing host scrapes the router; what it then knows is asked of its own API.
fn by_prometheus(rig: &Mixed, hosts: &[Host], drops: &BTreeMap<String, u64>) -> Result<()> {
    let own = &rig.network.hosts[0];
    let router = identity(0)?.gateway_v4.to_string();
    let (status, page) = request(own, &router, TOKEN, "/metrics", &[], "")?;
    ensure!(status == 200, "{status}: {page}");
    let mut promtool = std::process::Command::new("promtool");
    let checked = command::run(promtool.args(["check", "metrics"]), format!("{page}\n").as_bytes(), LIMIT)?;
    let said = [&*checked.stdout, &*checked.stderr].concat();
    ensure!(checked.status.success() && said.is_empty(), "promtool: {said}");

    let (folder, _made) = crate::cleanup::directory()?;
    let (config, data) = (folder.join("prometheus.yml"), folder.join("data"));
    let scrape = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: weir\n    authorization: {{ credentials: {TOKEN} }}\n\
         \x20   static_configs: [{{ targets: [\"{router}:80\"] }}]\n"
    );
    std::fs::write(&config, scrape)?;
    let words = [
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", data.display()),
        "--web.listen-address=127.0.0.1:9090".to_owned(),
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let running = own.start("prometheus", &words)?;
    let query = |query: &str| -> Result<Vec<Value>> {
        let query = format!("query={query}");
        let words = ["--silent", "--get", "--data-urlencode", &query, "http://127.0.0.1:9090/api/v1/query"];
        let answer: Value = serde_json::from_str(&own.check("curl", &words, LIMIT)?)?;
        Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default())
    };
    // To begin with, on a busy machine.
    let deadline = Instant::now() + 3 * LIMIT;
    while query("weir_interface_up").map_or(0, |rows| rows.len()) < 3 {
        ensure!(Instant::now() < deadline, "Prometheus has nothing: {}", running.errors.text());
        std::thread::sleep(Duration::from_millis(500));
    }
    let value = |query_of: String| -> Result<u64> {
        let rows = query(&query_of)?;
        let [row] = &*rows else { anyhow::bail!("{query_of}: {rows:?}") };
        let text = row["value"][1].as_str().context("no value")?;
        text.parse().with_context(|| format!("{query_of}: {text}"))
    };
    // A scrape that takes a second has failed, and the next is as good.
    agreed(hosts, |counted| {
        for (name, [received, sent]) in ["lan", "dmz"].into_iter().zip(counted) {
            for (metric, expected) in [
                ("receive_packets", received.0),
                ("receive_bytes", received.1),
                ("transmit_packets", sent.0),
                ("transmit_bytes", sent.1),
            ] {
                let found = value(format!("weir_interface_{metric}_total{{interface=\"{name}\"}}"))?;
                ensure!(found == expected, "{name} {metric}: hosts {expected}, Prometheus {found}");
            }
        }
        for (reason, &expected) in drops {
            let labels = format!("{{interface=\"lan\",reason=\"{reason}\"}}");
            let found = value(format!("weir_dropped_packets_total{labels}"))?;
            ensure!(found == expected, "{reason}: hosts {expected}, Prometheus {found}");
        }
        let lost: u64 = drops.values().sum();
        let found = value("weir_interface_dropped_packets_total{interface=\"lan\"}".to_owned())?;
        ensure!(found == lost, "lan: {lost} lost, Prometheus {found}");
        let up = value("up{job=\"weir\"}".to_owned())?;
        ensure!(up == 1, "the last scrape failed");
        Ok(())
    })
    .map(drop)
}
