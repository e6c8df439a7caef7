//! The page of a booted router, between two hosts that count what they send: what the page says is compared with that.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::api::Api;
use super::browser::{free_address, plain};
use super::steps::{self, Step, commit_confirm, go, opened, paste, picture, shows, validate};
use super::{Behind, Page, explain, packets};
use crate::frame::{self, Ipv4, UDP};
use crate::host::Host;
use crate::rig::{FrameRig, PATIENCE, no_panic};
use crate::router::{Config, Image};
use crate::tests::numbers::{Counted, LOSSES, agreed, traffic};

pub(crate) const STEPS: &[Step<Machine>] = &[
    ("files", steps::files),
    ("token", steps::token),
    ("rates", rates),
    ("same-numbers", same_numbers),
    ("drops", drops),
    ("last-drops", packets::last_drops),
    ("wrong-filter", packets::wrong_filter),
    ("capture", packets::capture),
    ("explain", explain::as_the_router_does),
    ("capture-limit", packets::limited),
    ("contrast", steps::contrast),
    ("widths", steps::widths),
    ("commit-confirm", commit_confirm),
    ("locked-out", locked_out),
    ("quiet", steps::quiet),
    ("alive", |page| no_panic(&page.behind.0.router).map(|()| "no panic on the console".into())),
];

/// The machine with the router, and the hosts at its ports `wan` and `lan`.
pub(crate) struct Machine(pub(super) FrameRig);

impl Machine {
    pub(crate) fn start() -> Result<(Machine, Api)> {
        let at: SocketAddr = free_address()?;
        let mut rig = FrameRig::start(Image::Weir, Config::two_ports(), 2, |setup| {
            setup.cpus = 2;
            setup.offer_page(at);
        })?;
        rig.router.ready()?;
        let token = rig.router.token()?;
        Ok((Machine(rig), Api { at, token }))
    }
}

impl Behind for Machine {
    const PICTURES: &[&str] = &["capture", "drops", "explain", "last-drops", "locked-out"];
    const NAME: &str = "booted";

    fn report(&self) -> Result<String> {
        self.0.write_report("web")
    }
}

/// Frames and bits that a host sent and received a second, from one look at its counts to another.
fn rate(before: (Instant, Counted), after: (Instant, Counted)) -> [(f64, f64); 2] {
    let seconds = after.0.duration_since(before.0).as_secs_f64();
    [0, 1].map(|way| {
        let (then, now): ((u64, u64), (u64, u64)) = (before.1[way], after.1[way]);
        ((now.0 - then.0) as f64 / seconds, (now.1 - then.1) as f64 * 8.0 / seconds)
    })
}

/// What the legend of an interface's plot says now, `received` and `sent`, in the unit's ones.
fn legend(page: &Page<Machine>, name: &str) -> Result<[f64; 2]> {
    let said = page.browser.script(&format!(
        "return [...document.querySelectorAll('#page-overview section.card')]\
            .find(card => card.ariaLabel == 'Rates of {name}').querySelector('.legend').innerText"
    ))?;
    let said = plain(&said);
    let words: Vec<&str> = said.split_whitespace().collect();
    let value = |way: &str| -> Result<f64> {
        let at = words.iter().position(|word| *word == way).with_context(|| format!("no {way} in {said}"))?;
        let [number, unit] = words.get(at + 1..at + 3).context("cut short")? else { unreachable!() };
        let factor = match unit.chars().next() {
            Some('k') => 1e3,
            Some('M') => 1e6,
            _ => 1.0,
        };
        Ok(number.parse::<f64>().with_context(|| said.clone())? * factor)
    };
    Ok([value("received")?, value("sent")?])
}

/// One host sends for some seconds: rates rise to what it sends, at both interfaces, and fall to nothing afterwards.
fn rates(page: &mut Page<Machine>) -> Result<String> {
    page.browser.view(steps::DESK)?;
    go(page, "overview")?;
    page.browser.script(
        "[...document.querySelectorAll('.segments button')].find(b => b.innerText == 'bit/s').click()",
    )?;
    let [a, b] = &page.behind.0.hosts[..] else { anyhow::bail!("there are two hosts") };
    a.ping(b.identity().v4.into(), 1, PATIENCE)?;
    let stop = AtomicBool::new(false);
    let outcome = thread::scope(|scope| {
        let sender = scope.spawn(|| send(a, b, &stop));
        let outcome = (|| {
            // Two samples of the page, both while it flows; where the machine stood still meanwhile, the next two.
            let deadline = Instant::now() + steps::FLOWS;
            thread::sleep(Duration::from_millis(2500));
            loop {
                let before = (Instant::now(), a.counted());
                thread::sleep(Duration::from_millis(4000));
                let after = (Instant::now(), a.counted());
                let [(_, sent), _] = rate(before, after);
                let shown = [legend(page, "wan")?[0], legend(page, "lan")?[1]];
                let said = format!(
                    "a host sends {sent:.0} bit/s; wan received {:.0}, lan sent {:.0}",
                    shown[0], shown[1]
                );
                if shown.iter().all(|shown| steps::alike(*shown, sent)) {
                    return Ok(said);
                }
                ensure!(Instant::now() < deadline, "{said}, says the page");
            }
        })();
        stop.store(true, Ordering::Relaxed);
        sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        outcome
    })?;
    page.browser.wait(
        "['wan', 'lan'].every(name => [...document.querySelectorAll('#page-overview section.card')]\
            .find(card => card.ariaLabel == `Rates of ${name}`).querySelector('.legend').innerText.match(/\\b0 bit\\/s/g)?.length == 2)",
    )?;
    Ok(format!("{outcome}; then 0"))
}

/// Datagrams in even steps until `stop`.
fn send(a: &Host, b: &Host, stop: &AtomicBool) -> Result<()> {
    let (from, to) = (a.identity().v4, b.identity().v4);
    let datagram = frame::udp((from.into(), 5000), (to.into(), 7), &[0x77; 700]);
    let packet = Ipv4::new(from, to, UDP, datagram);
    while !stop.load(Ordering::Relaxed) {
        a.send_v4(&packet)?;
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// What the interface's details say: of each of their terms the text, without the spaces between digits.
fn details(name: &str) -> String {
    format!(
        "Object.fromEntries([...[...document.querySelectorAll('#page-interfaces tbody')]\
            .find(row => row.querySelector('button.row')?.innerText == '{name}')\
            .querySelectorAll('.details > div')].map(one =>\
            [one.querySelector('dt').innerText, one.querySelector('dd').innerText.replaceAll('\\u202f', '')]))"
    )
}

/// Frames and bytes of every kind, and losses by reason: as the hosts counted them, to the last one.
fn same_numbers(page: &mut Page<Machine>) -> Result<String> {
    let hosts = &page.behind.0.hosts;
    traffic(&hosts[0], &hosts[1])?;
    go(page, "interfaces")?;
    for name in ["wan", "lan"] {
        page.browser.script(&format!(
            "const row = [...document.querySelectorAll('#page-interfaces button.row')].find(b => b.innerText == '{name}');\
             if (row.ariaExpanded == 'false') row.click()"
        ))?;
    }
    let counted = agreed(hosts, |counted| {
        for (name, [sent, received]) in ["wan", "lan"].into_iter().zip(counted) {
            let shown = page.browser.script(&format!("return {}", details(name)))?;
            for (term, (frames, bytes)) in [("Received", sent), ("Sent", received)] {
                let text = format!("{frames} frames, {bytes} bytes");
                ensure!(shown[term] == json!(text), "{name}: {term}: {text}, by the host; the page: {shown}");
            }
        }
        Ok(())
    })?;
    let shown = page.browser.script(&format!("return {}", details("wan")))?;
    for (reason, packets) in LOSSES {
        ensure!(shown[reason] == json!(packets.to_string()), "{reason}: {packets} sent, the page: {shown}");
    }
    Ok(format!("wan {:?}, lan {:?}, {LOSSES:?}", counted[0], counted[1]))
}

/// What was lost, by reason, with what each means.
fn drops(page: &mut Page<Machine>) -> Result<String> {
    go(page, "drops")?;
    let rows = "Object.fromEntries([...document.querySelectorAll('#drops-reasons tbody tr')]\
        .filter(row => row.cells[1].innerText == 'wan')\
        .map(row => [row.cells[0].innerText, Number(row.querySelector('[data-label=Packets]').innerText)]))";
    let expected: BTreeMap<&str, u64> = LOSSES.into_iter().collect();
    page.browser
        .wait(&format!("document.querySelectorAll('#drops-reasons tbody tr').length >= {}", LOSSES.len()))?;
    let shown = page.browser.script(&format!("return {rows}"))?;
    ensure!(shown == json!(expected), "hosts {expected:?}, the page {shown}");
    let meanings = [
        "The packet had passed too many routers.",
        "No route to the destination.",
        "The IPv4 header's checksum was wrong",
        "The frame carried neither IPv4, IPv6 nor ARP.",
    ];
    shows(page, "drops", &meanings.map(String::from))?;
    picture(page, "drops")?;
    Ok(format!("{expected:?}, each with its meaning"))
}

/// How long the commit that locks out is on trial: longer than the page waits for an answer.
const TRIAL: u64 = 13;

/// A commit takes away the address that the page is asked by: the page says what will come, the router takes the
/// configuration back, the page finds it again. Who is behind the router notices nothing.
fn locked_out(page: &mut Page<Machine>) -> Result<String> {
    page.browser.view(steps::DESK)?;
    let (before, _) = page.server.configuration()?;
    let without = before.replace("addresses = [\"10.0.2.15/24\"]\n", "");
    ensure!(without != before, "there is no address to take away: {before}");
    opened(page)?;
    paste(page, &without)?;
    validate(page)?;
    shows(page, "configuration", &["Valid".into(), "management changes".into()])?;
    // Half a minute is the least that the page offers.
    page.browser.script(&format!("document.querySelector('#trial-for').options[0].value = {TRIAL}; document.querySelector('#trial-for').selectedIndex = 0"))?;
    page.browser.click("#page-configuration .commit button")?;
    let router = &page.behind.0.router;
    router.machine.wait(&format!("committed, to be confirmed within {TRIAL} s"), PATIENCE)?;
    let out = Instant::now();
    let limit = Duration::from_secs(TRIAL + 10);
    page.browser.wait_for("!document.querySelector('#lost').hidden", limit)?;
    let [a, b] = &page.behind.0.hosts[..] else { anyhow::bail!("there are two hosts") };
    a.ping(b.identity().v4.into(), 7, PATIENCE).context("the hosts, while the page is locked out")?;
    shows(page, "configuration", &["No answer since the commit".into()])?;
    picture(page, "locked-out")?;
    router.machine.wait("was not confirmed in time: reverted", limit)?;
    let took = out.elapsed();
    ensure!(took > Duration::from_secs(TRIAL - 3), "it came back after {took:?}");
    page.browser.wait_for(
        "document.querySelector('#lost').hidden && document.querySelector('#link').dataset.state == 'up'",
        limit,
    )?;
    shows(page, "configuration", &["The router took it back".into()])?;
    page.browser
        .wait("document.querySelector('.versions .state[data-state=reverted]')?.innerText == 'taken back'")?;
    ensure!(page.server.configuration()?.0 == before, "another configuration is in force");
    let value: Value =
        page.browser.script("return document.querySelector('#page-configuration textarea').value")?;
    ensure!(value == json!(without), "what was edited is lost: {value}");
    paste(page, &before)?;
    // The browser itself reports each connection that could not be made.
    let errors = page.browser.errors()?;
    ensure!(errors.iter().all(|error| error.contains("net::ERR_")), "{errors:?}");
    Ok(format!(
        "out for {:.0} s, then as before; the hosts' ping passed meanwhile",
        out.elapsed().as_secs_f32()
    ))
}
