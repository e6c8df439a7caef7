//! `lab run`: boots the router between two hosts, shows that it works, and leaves its console and its page to the operator.

use std::io::{IsTerminal, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::termios::{OptionalActions, tcgetattr, tcgetwinsize, tcsetattr};

use crate::cleanup::{Made, Thing};
use crate::command::is_root;
use crate::forward;
use crate::frame::{self, UDP};
use crate::host::Identity;
use crate::http;
use crate::netns::ip;
use crate::rig::{FrameRig, LinuxPlan, LinuxRig, identity};
use crate::router::{Config, Image, Router, Setup};
use crate::web::{free_address, request};

/// How to run.
pub(crate) struct Options {
    pub(crate) image: Image,
    pub(crate) cpus: usize,
    pub(crate) memory_mib: usize,
    /// Boot module; without it `images/weir.toml`.
    pub(crate) config: Option<PathBuf>,
    /// Frames instead of Linux hosts, root or not.
    pub(crate) frames: bool,
    /// Leave the router running with its console if there is a terminal.
    pub(crate) console: bool,
}

/// Where QEMU listens for the page in the namespace of the TAP devices.
const IN_NAMESPACE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 80);

/// Ctrl-] as telnet has it.
const LEAVE: u8 = 0x1d;

struct Marks {
    failed: usize,
}

impl Marks {
    fn mark(&mut self, what: &str, outcome: Result<String>) {
        match outcome {
            Ok(figures) => println!("ok    {what:<26} {figures}"),
            Err(error) => {
                self.failed += 1;
                println!("FAIL  {what:<26} {error:#}");
            }
        }
    }
}

/// Runs it; whether everything worked.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let file = match &options.config {
        Some(path) => path.clone(),
        None => crate::router::workspace()?.join("images/weir.toml"),
    };
    let module = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
    // Somebody's own configuration is taken as it is.
    let page = match options.config {
        None => Some(free_address()?),
        Some(_) => None,
    };
    let linux = is_root() && !options.frames;
    let prepare = |setup: &mut Setup| {
        setup.cpus = options.cpus;
        setup.memory_mib = options.memory_mib;
        setup.module = Some(module.clone());
        // A day: an operator may keep the console open.
        setup.limit = Duration::from_secs(86_400);
        if let Some(at) = page {
            setup.offer_page(if linux { IN_NAMESPACE } else { at });
        }
    };
    let (a, b) = (identity(0)?, identity(1)?);
    println!("{} CPUs, {} MiB, {}\n", options.cpus, options.memory_mib, file.display());
    let near = |own: &Identity| (own.v4.to_string(), own.v6.to_string());
    let gate = |own: &Identity| (own.gateway_v4.to_string(), own.gateway_v6.to_string());
    let (left, wan, lan, right) = (near(&a), gate(&a), gate(&b), near(&b));
    println!(
        "  host a {:>14}  --  {:<14} wan  router  lan {:>14}  --  {:<14} host b",
        left.0, wan.0, lan.0, right.0
    );
    println!("         {:>14}  --  {:<14}                  {:>14}  --  {}\n", left.1, wan.1, lan.1, right.1);
    let mut marks = Marks { failed: 0 };
    if linux {
        let mut rig = LinuxRig::power_on(options.image, &LinuxPlan::new(), prepare)?;
        try_linux(&rig, &mut marks);
        if let Some(at) = page {
            let namespace = rig.network.namespace.clone();
            let lead = |router: &mut Router| {
                ip(&namespace, "link set lo up\n")?;
                forward::into_namespace(TcpListener::bind(at)?, namespace.clone(), IN_NAMESPACE);
                show_page(router, at)
            };
            marks.mark("page", lead(&mut rig.router));
        }
        let hosts = [&rig.network.hosts[0].namespace, &rig.network.hosts[1].namespace];
        let hint = format!("the hosts: ip netns exec {} bash, ip netns exec {} bash", hosts[0], hosts[1]);
        leave_running(&mut rig.router, &hint, options, marks.failed)?;
    } else {
        if !is_root() {
            println!("not root, so no namespaces: the hosts are the lab's own and speak in frames\n");
        }
        let mut rig = FrameRig::start(options.image, Config::two_ports(), 2, prepare)?;
        try_frames(&rig, &mut marks);
        if let Some(at) = page {
            marks.mark("page", show_page(&mut rig.router, at));
        }
        leave_running(&mut rig.router, "the hosts go on answering ARP and pings", options, marks.failed)?;
    }
    Ok(marks.failed == 0)
}

fn boot_time(router: &Router) -> Result<String> {
    let line = router.ready()?;
    let took = line.at.duration_since(router.machine.started).as_secs_f64() * 1e3;
    Ok(format!("{took:.0} ms after power-on, firmware included   \"{}\"", line.text.trim()))
}

fn try_linux(rig: &LinuxRig, marks: &mut Marks) {
    marks.mark("boot", boot_time(&rig.router));
    let far = match identity(1) {
        Ok(far) => far,
        Err(error) => return marks.mark("addresses", Err(error)),
    };
    for to in [far.v4.to_string(), far.v6.to_string()] {
        marks.mark(&format!("ping {to}"), ping(rig, &to));
    }
    for (family, server, address) in
        [("IPv4", 0, true), ("IPv6", 0, false), ("IPv4", 1, true), ("IPv6", 1, false)]
    {
        let way = if server == 0 { "a to b" } else { "b to a" };
        let outcome = identity(server).and_then(|own| {
            let address = if address { own.v4.into() } else { own.v6.into() };
            let done = http::transfer(rig.host(server), rig.host(1 - server), address, 16 << 20)?;
            let rate = done.bytes as f64 * 8.0 / done.seconds / 1e6;
            let size = done.bytes as f64 / f64::from(1 << 20);
            Ok(format!(
                "{size:.0} MiB in {:.2} s, {rate:.0} Mbit/s, SHA-256 {}... as sent",
                done.seconds,
                &done.digest[..12]
            ))
        });
        marks.mark(&format!("file by HTTP, {family}, {way}"), outcome);
    }
}

/// Has the router give out a token, and sees whether page and API answer at `at`.
fn show_page(router: &mut Router, at: SocketAddr) -> Result<String> {
    let token = router.token()?;
    let page = request(at, "GET", "/", &[], "")?;
    ensure!(page.status == 200, "it answers {}", page.status);
    let bearer = format!("Bearer {token}");
    let api = request(at, "GET", "/api/v1/status", &[("Authorization", &bearer)], "")?;
    ensure!(api.status == 200, "the API answers {}: {}", api.status, api.body);
    Ok(format!("http://{at}/ with the token {token}, for 15 minutes"))
}

fn ping(rig: &LinuxRig, to: &str) -> Result<String> {
    let list = ["-n", "-c", "5", "-i", "0.2", "-W", "2", to];
    // The first round finds the neighbours.
    let _ =
        rig.host(0).run("ping", &["-n", "-c", "2", "-i", "0.3", "-W", "2", to], Duration::from_secs(10))?;
    let text = rig.host(0).check("ping", &list, Duration::from_secs(15))?;
    let received = text.lines().find(|line| line.contains("received")).unwrap_or_default();
    let times =
        text.lines().find_map(|line| line.split_once(" = ")).map(|(_, times)| times).unwrap_or_default();
    ensure!(received.contains(" 5 received"), "{received}");
    let mut figures = times.split('/');
    let mut next = || figures.next().unwrap_or("?").to_owned();
    Ok(format!("5 of 5, round trip {} ms least, {} ms mean, {} ms most", next(), next(), next()))
}

fn try_frames(rig: &FrameRig, marks: &mut Marks) {
    marks.mark("boot", boot_time(&rig.router));
    let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
    let far = *b.identity();
    for to in [far.v4.into(), far.v6.into()] {
        let mut times = Vec::new();
        let outcome = (0..6u16).try_for_each(|sequence| {
            let limit = if sequence == 0 { 4 } else { 1 };
            a.ping(to, sequence, Duration::from_secs(limit)).map(|took| times.push(took.as_secs_f64() * 1e3))
        });
        let steady = times.get(1..).unwrap_or_default();
        let mean = steady.iter().sum::<f64>() / steady.len().max(1) as f64;
        let least = steady.iter().copied().fold(f64::INFINITY, f64::min);
        let figures = format!("{} of 5, round trip {least:.3} ms least, {mean:.3} ms mean", steady.len());
        marks.mark(&format!("ping {to}"), outcome.map(|()| figures));
    }
    for family in ["IPv4", "IPv6"] {
        marks.mark(&format!("file in UDP, {family}"), file_in_datagrams(rig, family));
    }
}

/// A file cut into datagrams, each with its number in front, put together at the far side.
fn file_in_datagrams(rig: &FrameRig, family: &str) -> Result<String> {
    const PIECE: usize = 1400;
    let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
    let (own, far) = (*a.identity(), *b.identity());
    let body = http::content(4 << 20, 7);
    b.forget();
    let began = Instant::now();
    for (number, piece) in body.chunks(PIECE).enumerate() {
        let payload = [&(number as u32).to_be_bytes()[..], piece].concat();
        if family == "IPv4" {
            let (from, to) = (own.v4, far.v4);
            let datagram = frame::udp((from.into(), 9), (to.into(), 9), &payload);
            a.send_v4(&frame::Ipv4::new(from, to, UDP, datagram))?;
        } else {
            let (from, to) = (own.v6, far.v6);
            let datagram = frame::udp((from.into(), 9), (to.into(), 9), &payload);
            a.send_v6(&frame::Ipv6::new(from, to, UDP, datagram))?;
        }
    }
    let count = body.len().div_ceil(PIECE);
    let mut pieces = std::collections::BTreeMap::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while pieces.len() < count && Instant::now() < deadline {
        let arrived = b.take_all(|frame| {
            let message = match &frame.network {
                frame::Network::V4(p) if p.protocol == UDP => &p.payload,
                frame::Network::V6(p) if p.next_header == UDP => &p.payload,
                _ => return None,
            };
            let number = message.get(8..12)?;
            Some((frame::be32(number, 0), message.get(12..)?.to_vec()))
        });
        pieces.extend(arrived);
        std::thread::sleep(Duration::from_millis(2));
    }
    let seconds = began.elapsed().as_secs_f64();
    ensure!(pieces.len() == count, "{} of {count} datagrams arrived", pieces.len());
    let joined: Vec<u8> = pieces.into_values().flatten().collect();
    let (sent, got) = (http::digest(&body), http::digest(&joined));
    ensure!(sent == got, "sent {sent}, received {got}");
    let rate = body.len() as f64 * 8.0 / seconds / 1e6;
    Ok(format!("4 MiB in {seconds:.2} s, {rate:.0} Mbit/s, SHA-256 {}... as sent", &got[..12]))
}

/// With a terminal: the console until the operator leaves or the router ends.
fn leave_running(router: &mut Router, hint: &str, options: &Options, failed: usize) -> Result<()> {
    if failed > 0 {
        println!("\nthe router's console:\n{}", router.machine.console.text().trim_end());
    }
    if !options.console || !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Ok(());
    }
    println!(
        "\nThe router runs on. This is its console: Enter shows interfaces and counters, ? and help say more, Ctrl-] leaves and ends it."
    );
    println!("{hint}\n");
    let stdin = rustix::stdio::stdin();
    let modes = tcgetattr(stdin).context("terminal")?;
    let _restore = Made::register(Thing::Terminal(modes.clone()));
    let mut raw = modes;
    raw.make_raw();
    // Output keeps its line ends: the lab writes there, too.
    raw.output_modes |= rustix::termios::OutputModes::OPOST | rustix::termios::OutputModes::ONLCR;
    tcsetattr(stdin, OptionalActions::Now, &raw).context("terminal")?;
    router.machine.console.attach();
    // The lab has typed, and the router then asked for the terminal's size.
    if let Ok(size) = tcgetwinsize(stdin) {
        router.machine.type_keys(format!("\x1b[{};{}R", size.ws_row, size.ws_col).as_bytes())?;
    }
    let mut input = std::io::stdin().lock();
    let mut byte = [0];
    while !router.machine.console.ended() && input.read(&mut byte)? == 1 && byte[0] != LEAVE {
        router.machine.type_keys(&byte)?;
    }
    println!();
    Ok(())
}
