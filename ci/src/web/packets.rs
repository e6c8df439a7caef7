//! Packets on the page of a booted router: the last ones lost, and captures, compared with what a host sent and with what
//! tshark reads in the file that the page offers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Page;
use super::booted::Machine;
use super::browser::{key, plain};
use super::steps::{go, picture, shows};
use crate::command;
use crate::frame::{self, ICMP, Ipv4, Ipv6, More, UDP};
use crate::host::Host;
use crate::rig::PATIENCE;
use crate::tests::numbers::LOSSES;

/// The texts of a table's rows, cell by cell.
fn rows(page: &Page<Machine>, selector: &str) -> Result<Vec<Vec<String>>> {
    let found = page.browser.script(&format!(
        "return [...document.querySelectorAll('{selector}')].map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    ))?;
    serde_json::from_value(found).context("a table")
}

/// The flight recorder holds what was sent to be lost before: so many for each reason, with addresses and ports, and the bytes.
pub(super) fn last_drops(page: &mut Page<Machine>) -> Result<String> {
    go(page, "drops")?;
    page.browser.script(
        "[...document.querySelectorAll('#page-drops .segments button')].find(b => b.innerText == '100').click()",
    )?;
    let total: u64 = LOSSES.iter().map(|(_, packets)| packets).sum();
    page.browser.wait(&format!("document.querySelectorAll('#drops-last tbody button').length >= {total}"))?;
    let shown = rows(page, "#drops-last tbody tr:not(.more)")?;
    let [a, b] = [0, 1].map(|number| *page.behind.0.hosts[number].identity());
    let (here, far) = (a.v4.to_string(), b.v4.to_string());
    let (mac, gateway) = (a.mac.to_string(), a.gateway_mac.to_string());
    for (reason, packets) in LOSSES {
        let own: Vec<&Vec<String>> = shown.iter().filter(|row| row[1] == reason).collect();
        ensure!(own.len() as u64 == packets, "{packets} of {reason}, the page has {own:?}");
        let expected = match reason {
            "ethernet-unknown-type" => ["wan", &mac, &gateway, "Ethernet", "Type 0x88b5"],
            "no-route" => ["wan", &here, "198.51.100.9", "UDP", "5000 → 7 len 10"],
            _ => ["wan", &here, &far, "UDP", "5000 → 7 len 10"],
        }
        .map(String::from);
        ensure!(own.iter().all(|row| row[2..] == expected), "{reason}: {expected:?}, the page: {own:?}");
    }
    // One of them, opened: why it was lost, its headers, its bytes.
    page.browser.script(
        "[...document.querySelectorAll('#drops-last tbody')].find(row => row.innerText.includes('ttl-expired')).querySelector('button').focus()",
    )?;
    page.browser.press(&[key::ENTER])?;
    let open = "document.querySelector('#drops-last .more:not([hidden])')";
    page.browser.wait(&format!("{open}.innerText.includes('The packet had passed too many routers.')"))?;
    page.browser.wait(&format!("{open}.innerText.includes('Time to live\\n1')"))?;
    page.browser.wait("document.querySelector('#page-drops input[type=checkbox]').checked")?;
    page.browser.script(&format!("{open}.querySelector('summary').click()"))?;
    let datagram = frame::udp((a.v4.into(), 5000), (b.v4.into(), 7), b"to be lost");
    let packet = Ipv4 { ttl: 1, ..Ipv4::new(a.v4, b.v4, UDP, datagram) };
    let sent = frame::ethernet(a.gateway_mac, a.mac, frame::ETHERTYPE_IPV4, &packet.bytes());
    let dump = plain(&page.browser.script(&format!("return {open}.querySelector('.hex').innerText"))?);
    ensure!(dumped(&dump)? == sent, "sent {sent:02x?}, the page has\n{dump}");
    picture(page, "last-drops")?;
    page.browser.script("document.querySelector('#page-drops input[type=checkbox]').click()")?;
    Ok(format!("{total} by reason, addresses and ports; one opened, {} bytes as sent", sent.len()))
}

/// The bytes of a dump in hexadecimal.
fn dumped(text: &str) -> Result<Vec<u8>> {
    let digits = text.lines().flat_map(|line| line.get(6..53).unwrap_or_default().split_whitespace());
    digits.map(|two| u8::from_str_radix(two, 16).with_context(|| format!("no byte: {two:?}"))).collect()
}

/// Fills in the form's filter, and starts.
fn start(page: &Page<Machine>, filter: &str) -> Result<()> {
    page.browser.click("#capture-filter")?;
    page.browser.press(&[key::CONTROL, "a"])?;
    page.browser.insert(filter)?;
    page.browser.press(&[key::ENTER])
}

/// A filter that is wrong is refused by the router, and shown at its place.
pub(super) fn wrong_filter(page: &mut Page<Machine>) -> Result<String> {
    go(page, "capture")?;
    start(page, "not tcp port hppt or icmp")?;
    page.browser.wait("document.querySelector('#capture-wrong mark')?.innerText == 'hppt'")?;
    page.browser.wait("document.querySelector('#capture-filter').selectionStart == 13")?;
    let said = plain(&page.browser.script("return document.querySelector('#capture-wrong').innerText")?);
    // The browser's own word on the answer.
    let errors = page.browser.errors()?;
    ensure!(errors.iter().all(|error| error.contains("400")), "{errors:?}");
    Ok(said.replace('\n', "  "))
}

/// Frames of many kinds; two are lost for want of a route.
fn send_kinds(a: &Host, b: &Host) -> Result<()> {
    let (own, far) = (*a.identity(), *b.identity());
    let ends = |from: u16, to: u16| ((own.v4.into(), from), (far.v4.into(), to));
    let (from, to) = ends(40_000, 9);
    let segment = frame::tcp(from, to, 2, b"");
    a.send_v4(&Ipv4 { dont_fragment: true, tos: 0xb8, ..Ipv4::new(own.v4, far.v4, frame::TCP, segment) })?;
    let whole = Ipv4::new(own.v4, far.v4, UDP, frame::udp(from, to, &[7; 64]));
    a.send_v4(&whole)?;
    let (first, rest) = whole.payload.split_at(32);
    a.send_v4(&Ipv4 { more_fragments: true, payload: first.into(), ..whole.clone() })?;
    a.send_v4(&Ipv4 { offset: 32, payload: rest.into(), ..whole.clone() })?;
    a.send_v4(&Ipv4 { ttl: 1, ..whole.clone() })?;
    let nowhere = Ipv4 { destination: [198, 51, 100, 9].into(), ..whole };
    a.send_v4(&nowhere)?;
    a.send_v4(&nowhere)?;
    let (from, to) = ((own.v6.into(), 40_000), (far.v6.into(), 9));
    let datagram = frame::udp(from, to, &[8; 64]);
    a.send_v6(&Ipv6 {
        traffic_class: 0x20,
        flow_label: 0x12345,
        ..Ipv6::new(own.v6, far.v6, UDP, datagram.clone())
    })?;
    let piece = frame::ipv6_fragment(UDP, 0, More::Yes, 77, &datagram[..40]);
    a.send_v6(&Ipv6::new(own.v6, far.v6, 44, piece))?;
    let piece = frame::ipv6_fragment(UDP, 40, More::No, 77, &datagram[40..]);
    a.send_v6(&Ipv6::new(own.v6, far.v6, 44, piece))?;
    // Options for each hop: padding.
    let hops = [&[UDP, 0, 1, 4, 0, 0, 0, 0][..], &datagram].concat();
    a.send_v6(&Ipv6::new(own.v6, far.v6, 0, hops))?;
    a.send_v4(&Ipv4::new(own.v4, far.v4, 47, vec![0, 0, 8, 0, 0x45]))?;
    a.send_v4(&Ipv4::new(own.v4, far.v4, ICMP, frame::Icmp::new(13, 0, 0, &[0; 12]).bytes_v4()))?;
    a.arp(own.gateway_v4, PATIENCE)?;
    a.solicit(own.gateway_v6, PATIENCE)?;
    a.ping(far.v4.into(), 21, PATIENCE)?;
    a.ping(far.v6.into(), 22, PATIENCE).map(drop)
}

/// A capture on the page: every packet in its list as tshark reads it in the file that the page hands out.
pub(super) fn capture(page: &mut Page<Machine>) -> Result<String> {
    go(page, "capture")?;
    page.browser.script("document.querySelector('#capture-interface').value = 'wan'")?;
    start(page, "not port 80")?;
    page.browser.wait("document.querySelector('#page-capture button').innerText == 'Stop'")?;
    let hosts = &page.behind.0.hosts;
    // It begins once the router has answered.
    let deadline = Instant::now() + PATIENCE;
    while count(page)? == 0 {
        ensure!(Instant::now() < deadline, "the capture does not begin");
        hosts[0].ping(hosts[0].identity().gateway_v4.into(), 20, PATIENCE)?;
    }
    send_kinds(&hosts[0], &hosts[1])?;
    let last = format!("Echo reply id 0x7766 seq {}", 22);
    page.browser.wait(&format!(
        "[...document.querySelectorAll('.packets tbody tr')].some(row => row.innerText.includes({}))",
        json!(last)
    ))?;
    page.browser.click("#page-capture button")?;
    page.browser.wait("document.querySelector('#page-capture').innerText.includes('Stopped.')")?;
    let shown = rows(page, ".packets tbody tr")?;
    let file = download(page)?;
    let read = tshark(&file)?;
    std::fs::remove_file(&file)?;
    ensure!(shown.len() == read.len(), "{} packets on the page, tshark has {}", shown.len(), read.len());
    for (row, own) in shown.iter().zip(&read) {
        same(row, own).with_context(|| format!("the page: {row:?}, tshark: {own:?}"))?;
    }
    let lost = |row: &&Vec<String>| row[2] == "wan lost" && row[7].starts_with("no-route: ");
    ensure!(shown.iter().filter(lost).count() == 2, "two packets without a route: {shown:?}");
    by_keys(page, shown.len())?;
    picture(page, "capture")?;
    Ok(format!("{} packets, each as tshark has it; arrow keys go from one to the other", shown.len()))
}

fn count(page: &Page<Machine>) -> Result<u64> {
    let rows = page.browser.script("return document.querySelectorAll('.packets tbody tr').length")?;
    rows.as_u64().context("no count")
}

/// What the page hands out, as a file.
fn download(page: &Page<Machine>) -> Result<PathBuf> {
    let folder = page.browser.downloads()?;
    let hostname = plain(&page.server.get("/status")?["hostname"]);
    let file = folder.join(format!("{hostname}.pcapng"));
    let _ = std::fs::remove_file(&file);
    page.browser.script(
        "[...document.querySelectorAll('#page-capture button')].find(b => b.innerText == 'Download pcapng').click()",
    )?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while !file.is_file() {
        ensure!(Instant::now() < deadline, "nothing is downloaded to {}", file.display());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(file)
}

/// Fields that tshark is asked for.
const FIELDS: [&str; 13] = [
    "frame.number",
    "frame.time_epoch",
    "frame.interface_name",
    "frame.len",
    "eth.src",
    "eth.dst",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "frame.protocols",
    "frame.comment",
    "udp.srcport",
];

fn tshark(file: &Path) -> Result<Vec<Vec<String>>> {
    let mut tshark = Command::new("tshark");
    // Fragments as they are, and of a packet within an error not its addresses.
    tshark.args(["-n", "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-T", "fields"]);
    tshark.args(["-E", "separator=|", "-E", "occurrence=f", "-r"]).arg(file);
    FIELDS.iter().for_each(|field| {
        tshark.args(["-e", field]);
    });
    let said = command::run(&mut tshark, &[], Duration::from_secs(30))?.success("tshark")?;
    Ok(said.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect())
}

/// Whether a row of the page says what tshark does.
fn same(row: &[String], own: &[String]) -> Result<()> {
    let [number, time, place, from, to, protocol, length, info] = row else { anyhow::bail!("eight cells") };
    let first = |places: [usize; 3]| places.into_iter().map(|at| &own[at]).find(|text| !text.is_empty());
    ensure!(number == &own[0] && length == &own[3], "number or length");
    let apart = time.parse::<f64>()? - own[1].parse::<f64>()?;
    ensure!(apart.abs() < 2e-6, "the time is {apart} s apart");
    ensure!(place.split(' ').next() == Some(&own[2]), "the interface");
    ensure!(Some(from) == first([6, 8, 4]) && Some(to) == first([7, 9, 5]), "source or destination");
    let known = match &**protocol {
        "IPv4" => "ip",
        "Ethernet" => "eth",
        other => &other.to_lowercase(),
    };
    ensure!(own[10].split(':').any(|word| word == known), "the protocol");
    let reason = own[11].strip_prefix("dropped: ").and_then(|rest| rest.split(", cpu").next());
    ensure!(reason.is_some() == place.ends_with("lost"), "whether it was lost");
    ensure!(reason.is_none_or(|reason| info.starts_with(&format!("{reason}: "))), "why it was lost");
    ensure!(known != "udp" || info.contains(&format!("{} → ", own[12])), "the port");
    Ok(())
}

/// From the list's first packet with the keyboard alone.
fn by_keys(page: &Page<Machine>, total: usize) -> Result<()> {
    let browser = &page.browser;
    browser.script("document.querySelector('.packets [tabindex=\"0\"]').focus()")?;
    let chosen = |number: usize| {
        format!(
            "document.querySelector('.packets [aria-selected=true]')?.cells[0].innerText == '{number}' && \
             document.activeElement.ariaSelected == 'true' && \
             document.querySelector('section.card[aria-label=Packet] h2').innerText == 'Packet {number}'"
        )
    };
    for (pressed, number) in
        [("\u{E015}", 2), ("\u{E015}", 3), ("\u{E013}", 2), ("\u{E010}", total), ("\u{E011}", 1)]
    {
        browser.press(&[pressed])?;
        browser.wait(&chosen(number))?;
    }
    let lost =
        "[...document.querySelectorAll('.packets .lost')].find(row => row.innerText.includes('no-route'))";
    browser.script(&format!("{lost}.click()"))?;
    shows(
        page,
        "capture",
        &["No route to the destination.".into(), "198.51.100.9".into(), "Time to live".into()],
    )
}

/// A capture that ends by itself, after as many packets as it was to have.
pub(super) fn limited(page: &mut Page<Machine>) -> Result<String> {
    go(page, "capture")?;
    page.browser.script("document.querySelector('#capture-limit').value = 4; document.querySelector('#capture-snaplen').value = 60")?;
    start(page, "icmp and greater 70")?;
    page.browser.wait("document.querySelector('#page-capture button').innerText == 'Stop'")?;
    let hosts = &page.behind.0.hosts;
    let deadline = Instant::now() + Duration::from_secs(30);
    let ended =
        "return document.querySelector('#page-capture').innerText.includes('It is at its end. 4 packets')";
    while page.browser.script(ended)? != Value::Bool(true) {
        ensure!(Instant::now() < deadline, "it does not end");
        hosts[0].ping(hosts[1].identity().v4.into(), 30, PATIENCE)?;
    }
    page.browser.script("document.querySelector('.packets tbody tr').click()")?;
    shows(page, "capture", &["of which 60 are kept".into()])?;
    Ok("4 packets of 60 bytes, then the end".into())
}
