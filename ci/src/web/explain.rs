//! The page's Explain: what it shows is what the API says, errors stand at their fields, and packets of other pages come along;
//! with a booted router it is what the console says, and what hosts then see.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::booted::Machine;
use super::browser::{key, plain};
use super::steps::{go, opened, paste, picture, shows, validate};
use super::{Behind, Page};
use crate::frame::{self, Ipv4, Network, UDP};
use crate::rig::{PATIENCE, host_mac};
use crate::tests::explain::ask;

/// Puts `value` into the field for a word of the API's language, in the place of what is there.
fn fill<B: Behind>(page: &Page<B>, word: &str, value: &str) -> Result<()> {
    page.browser.click(&format!("#explain-{word}"))?;
    page.browser.press(&[key::CONTROL, "a"])?;
    page.browser.insert(value)
}

/// Takes the last answer out of view: what is seen from now on is another one.
fn forget<B: Behind>(page: &Page<B>) -> Result<()> {
    page.browser.script("document.querySelector('.answer').hidden = true").map(drop)
}

/// Waits for an answer that says this.
fn answered<B: Behind>(page: &Page<B>, words: &str) -> Result<()> {
    let heading = "document.querySelector('.answer:not([hidden]) h2')?.innerText";
    page.browser.wait(&format!("{heading} == {}", json!(words)))
}

/// The steps as the page shows them, a text each.
fn way<B: Behind>(page: &Page<B>) -> Result<Vec<String>> {
    let found = page.browser.script(
        "return [...document.querySelectorAll('.way li')].map(li => [...li.querySelectorAll('b, span:not(.note), a')].map(part => part.innerText).join(' | '))",
    )?;
    serde_json::from_value(found).context("steps")
}

/// The same of an answer of the API.
fn told(answer: &Value) -> Vec<String> {
    let steps = answer["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let step = |step: &Value| {
        let line = match step["line"].as_u64() {
            Some(line) => format!(" | line {line} {}", plain(&step["text"])),
            None => String::new(),
        };
        format!("{} | {}{line}", plain(&step["step"]), plain(&step["found"]))
    };
    steps.iter().map(step).collect()
}

/// The number of the text's line that begins so.
fn line_of(text: &str, begin: &str) -> Result<usize> {
    let at = text.lines().position(|line| line.starts_with(begin));
    Ok(1 + at.with_context(|| format!("no line {begin}"))?)
}

/// The form from the keyboard alone, and the answer step by step.
pub(super) fn by_keys(page: &mut Page) -> Result<String> {
    go(page, "explain")?;
    let browser = &page.browser;
    browser.script("document.querySelector('#explain-interface').focus()")?;
    browser.insert("wan")?;
    // Past the choice of configuration and that of addresses or bytes.
    for value in ["", "", "192.0.2.9", "10.0.1.2", "udp", "53", "4711"] {
        browser.press(&[key::TAB])?;
        if !value.is_empty() {
            browser.insert(value)?;
        }
    }
    browser.press(&[key::ENTER])?;
    answered(page, "Forwarded")?;
    let packet = "wan+from+192.0.2.9+to+10.0.1.2+protocol+udp+port+53+source-port+4711";
    let answer = page.server.get(&format!("/explain?packet={packet}"))?;
    let (shown, expected) = (way(page)?, told(&answer));
    ensure!(shown == expected && shown.len() >= 5, "the API: {expected:#?}, the page: {shown:#?}");
    let end = plain(&page.browser.script("return document.querySelector('.answer').innerText")?);
    ensure!(end.ends_with(&plain(&answer["end"])), "{end}");
    let lines = shown.iter().filter(|step| step.contains("| line ")).count();
    ensure!(lines >= 2, "no lines of the configuration: {shown:?}");
    // What was asked is in the address: a page that is loaded anew asks it again.
    page.browser.reload()?;
    answered(page, "Forwarded")?;
    let kept = page.browser.script("return document.querySelector('#explain-source-port').value")?;
    ensure!(kept == json!("4711"), "{kept}");
    Ok(format!("forwarded in {} steps, {lines} with a line of the configuration", shown.len()))
}

/// What is wrong stands at the field that it is about, which has the cursor.
pub(super) fn errors_at_fields(page: &mut Page) -> Result<String> {
    page.server.ask("DELETE", "/config/candidate", &[], "")?;
    go(page, "explain")?;
    let cases = [
        ("interface", "nowhere", "wan", "There is no such interface in service"),
        ("from", "10.0.1.999", "10.0.1.2", "expected SOURCE"),
        ("from", "10.0.1.2 \u{e4}", "10.0.1.2", "unknown word"),
        ("to", "2001:db8::1", "10.8.0.1", "one address is IPv4 and the other IPv6"),
        ("protocol", "ospfx", "tcp", "expected PROTOCOL"),
        ("port", "http", "80", "expected PORT"),
        ("vlan", "5000", "", "expected VLAN"),
        ("length", "9999999", "", "expected LENGTH"),
        ("ttl", "300", "", "expected TTL"),
    ];
    for (word, wrong, right, said) in cases {
        fill(page, word, wrong)?;
        page.browser.press(&[key::ENTER])?;
        let field = format!("document.querySelector('#explain-{word}')");
        page.browser
            .wait(&format!(
                "{field}.ariaInvalid == 'true' && document.activeElement == {field} && \
                 {field}.parentElement.querySelector('#' + {field}.getAttribute('aria-describedby')).innerText.includes({})",
                json!(said)
            ))
            .with_context(|| format!("{word} {wrong}"))?;
        let others = page.browser.script("return document.querySelectorAll('[aria-invalid=true]').length")?;
        ensure!(others == json!(1), "{others} fields are wrong");
        fill(page, word, right)?;
        page.browser.wait("!document.querySelector('#explain-wrong')")?;
    }
    page.browser.script("document.querySelector('#explain-text').value = 'true'")?;
    page.browser.click("#page-explain button[type=submit]")?;
    page.browser.wait("document.activeElement.id == 'explain-text' && document.querySelector('#explain-wrong').innerText.includes('There is no candidate')")?;
    // The browser's own word on the answers.
    let errors = page.browser.errors()?;
    ensure!(errors.iter().all(|error| error.contains("400") || error.contains("404")), "{errors:?}");
    Ok(format!("{} mistakes, and no candidate", cases.len()))
}

/// A packet meets the candidate that the editor made; a step's line leads back to the editor.
pub(super) fn candidate(page: &mut Page) -> Result<String> {
    let (text, _) = page.server.configuration()?;
    opened(page)?;
    let wanted = "to = \"198.51.100.0/24\"";
    let new = format!("{text}\n[[route]]\n{wanted}\nreject = \"blackhole\"\n");
    paste(page, &new)?;
    validate(page)?;
    page.browser.wait("document.querySelector('.result .ask')")?;
    page.browser.click(".result .ask")?;
    page.browser.wait("document.querySelector('#explain-text').value == 'true'")?;
    for (word, value) in [("interface", "lan"), ("from", "10.0.1.2"), ("to", "198.51.100.9")] {
        fill(page, word, value)?;
    }
    page.browser.press(&[key::ENTER])?;
    answered(page, "Dropped route-blackhole")?;
    shows(page, "explain", &["A route says to drop this without a word.".into()])?;
    let line = line_of(&new, wanted)?;
    let link = format!(
        "[...document.querySelectorAll('.way a')].find(a => a.innerText == {})",
        json!(format!("line {line} {wanted}"))
    );
    page.browser.wait(&link)?;
    page.browser.script(&format!("{link}.click()"))?;
    let start: usize = new.lines().take(line - 1).map(|line| line.chars().count() + 1).sum();
    page.browser.wait(&format!(
        "document.activeElement.tagName == 'TEXTAREA' && document.activeElement.selectionStart == {start}"
    ))?;
    // In force the same packet takes another way.
    go(page, "explain")?;
    page.browser.script("document.querySelector('#explain-text').value = ''")?;
    page.browser.click("#page-explain button[type=submit]")?;
    answered(page, "Forwarded")?;
    opened(page)?;
    paste(page, &text)?;
    page.server.ask("DELETE", "/config/candidate", &[], "")?;
    Ok(format!("dropped by line {line} of the candidate, forwarded by what is in force"))
}

/// A step's line leads to the editor while it is the same line there; else the page says so, and the cursor stays.
pub(super) fn outdated(page: &mut Page) -> Result<String> {
    let (text, _) = page.server.configuration()?;
    go(page, "explain")?;
    for (word, value) in [("interface", "lan"), ("from", "10.0.1.2"), ("to", "192.0.2.9")] {
        fill(page, word, value)?;
    }
    page.browser.press(&[key::ENTER])?;
    answered(page, "Forwarded")?;
    // The long one is cut.
    let last = "[...document.querySelectorAll('.way a')].find(a => a.innerText.endsWith('…'))";
    page.browser.wait(last)?;
    let shown = plain(&page.browser.script(&format!("return {last}.innerText"))?);
    let cursor = "document.querySelector('#page-configuration textarea').selectionStart";
    let follow = |new: &str| -> Result<()> {
        page.server.commit(new, None)?;
        go(page, "explain")?;
        page.browser.script(&format!("document.querySelector('#said').replaceChildren(); {last}.click()"))?;
        let value = "document.querySelector('#page-configuration textarea').value";
        page.browser.wait(&format!("{value} == {}", json!(new)))
    };
    let said = "document.querySelector('#said').innerText.includes('is not shown')";
    let number = shown.strip_prefix("line ").and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
    let line = number.with_context(|| shown.clone())?;
    let start: usize = text.lines().take(line - 1).map(|line| line.chars().count() + 1).sum();
    // Behind it: the same line still.
    follow(&format!("{text}\n# more\n"))?;
    page.browser.wait(&format!("document.activeElement.tagName == 'TEXTAREA' && {cursor} == {start}"))?;
    ensure!(page.browser.script(&format!("return {said}"))? == json!(false), "{shown} is there");
    // In front of it: that number is another line's.
    follow(&format!("# first\n{text}"))?;
    page.browser.wait(said)?;
    let now: usize = "# first\n".len() + start;
    let at = page.browser.script(&format!("return {cursor}"))?;
    ensure!(at != json!(now) && at != json!(start), "the cursor is at {at}, for {shown}");
    page.server.commit(&text, None)?;
    Ok(format!("{shown}: found, and told when it is another"))
}

/// Opens the last packet that was lost for this reason, and asks what became of it: in one go, as a newer one may come at any
/// time and be the last then.
fn ask_of_lost<B: Behind>(page: &Page<B>, reason: &str) -> Result<()> {
    go(page, "drops")?;
    let row = format!(
        "[...document.querySelectorAll('#drops-last tbody')].find(row => row.innerText.includes('{reason}'))"
    );
    page.browser.wait(&row)?;
    let script = format!(
        "const row = {row}; if (row.rows[1].hidden) row.querySelector('button').click(); row.querySelector('.ask').click()"
    );
    page.browser.script(&script).map(drop)
}

/// Packets that were lost: a whole one by its bytes, one that was cut by what it says, one on a VLAN with its tag.
pub(super) fn from_drops(page: &mut Page) -> Result<String> {
    let mut said = Vec::new();
    for (reason, fields) in [
        ("ttl-expired", json!({ "from": "10.0.1.2", "to": "192.0.2.7", "protocol": "17", "ttl": "1" })),
        (
            "reverse-path",
            json!({ "frame": "", "to": "2001:db8:2:0:d00d:0:feed:1234", "port": "443", "length": "1500", "ttl": "51" }),
        ),
        ("no-route", json!({ "interface": "guest", "to": "198.51.100.9", "vlan": "", "port": "53" })),
    ] {
        forget(page)?;
        ask_of_lost(page, reason)?;
        page.browser.wait("!document.querySelector('#page-explain').hidden && document.querySelector('.answer:not([hidden])')")?;
        for (word, value) in fields.as_object().into_iter().flatten() {
            let now =
                page.browser.script(&format!("return document.querySelector('#explain-{word}').value"))?;
            ensure!(now == *value, "{reason}: {word} is {now}, expected {value}");
        }
        let frame = plain(&page.browser.script("return document.querySelector('#explain-frame').value")?);
        let tagged = frame.get(24..32) == Some("81000014");
        ensure!(tagged == (reason == "no-route"), "{reason}: {frame}");
        said.push(plain(&page.browser.script("return document.querySelector('.answer h2').innerText")?));
    }
    // Without its bytes the simulated router knows the way of one.
    page.browser.script("document.querySelector('#page-explain [type=radio]').click()")?;
    page.browser.click("#page-explain button[type=submit]")?;
    answered(page, "Forwarded")?;
    page.browser.script("document.querySelector('#page-drops input[type=checkbox]').click()")?;
    Ok(said.join(", "))
}

/// From a lost packet to what the console says of it; then as it would have to be, and as a host then sees it.
pub(super) fn as_the_router_does(page: &mut Page<Machine>) -> Result<String> {
    ask_of_lost(page, "ttl-expired")?;
    answered(page, "Dropped ttl-expired")?;
    same_as_console(page)?;
    shows(page, "explain", &["TTL 1".into(), "The packet had passed too many routers.".into()])?;
    picture(page, "explain")?;
    page.browser.script("document.querySelector('#page-explain [type=radio]').click()")?;
    fill(page, "ttl", "64")?;
    page.browser.press(&[key::ENTER])?;
    answered(page, "Forwarded")?;
    let steps = same_as_console(page)?;
    shows(page, "explain", &[format!("it goes by lan to {}", host_mac(1))])?;
    let [a, b] = &page.behind.0.hosts[..] else { anyhow::bail!("there are two hosts") };
    let (from, to) = (a.identity().v4, b.identity().v4);
    b.forget();
    a.send_v4(&Ipv4::new(from, to, UDP, frame::udp((from.into(), 5000), (to.into(), 7), b"to be lost")))?;
    let came = |frame: &frame::Frame| {
        matches!(&frame.network, Network::V4(packet) if packet.protocol == UDP && packet.destination == to)
            .then_some(())
    };
    let deadline = Instant::now() + PATIENCE;
    while b.take_all(came).is_empty() {
        ensure!(Instant::now() < deadline, "said to be forwarded, and the host does not get it");
        std::thread::sleep(Duration::from_millis(5));
    }
    from_capture(page)?;
    Ok(format!(
        "dropped as ttl-expired, forwarded with more hops, in {steps} steps: as on the console, and at the host"
    ))
}

/// What the page shows is what the console says to the same question. How many steps that are.
fn same_as_console(page: &mut Page<Machine>) -> Result<usize> {
    let query = "return new URLSearchParams(location.hash.split('?')[1]).get('packet')";
    let line = format!("explain {}", plain(&page.browser.script(query)?));
    let said = ask(&mut page.behind.0, &line)?;
    let shown = way(page)?;
    let end = plain(&page.browser.script("return document.querySelector('.answer h2 + p').innerText")?);
    let parts = shown.iter().flat_map(|step| step.split(" | ").skip(1)).chain([&*end]);
    for part in parts {
        // The number is in a column of its own, and what is known of a neighbour gets older.
        let part =
            part.strip_prefix("line ").and_then(|rest| rest.split_once(' ')).map_or(part, |(_, text)| text);
        let part = part.split(" is reachable").next().unwrap_or(part);
        ensure!(said.contains(part), "the page: {part} of {shown:#?}, the console:\n{said}");
    }
    Ok(shown.len())
}

/// A packet of a capture that came in can be explained, one that went out came from nowhere.
fn from_capture(page: &mut Page<Machine>) -> Result<()> {
    go(page, "capture")?;
    page.browser.script(
        "[...document.querySelectorAll('.packets tbody tr')].find(row => row.cells[2].innerText == 'wan out').click()",
    )?;
    page.browser.wait(
        "document.querySelector('#page-capture .packet') && !document.querySelector('#page-capture .ask')",
    )?;
    page.browser.script(
        "[...document.querySelectorAll('.packets tbody tr')].find(row => row.cells[2].innerText == 'wan in' && row.cells[5].innerText == 'UDP').click()",
    )?;
    page.browser.wait("document.querySelector('#page-capture .ask')")?;
    forget(page)?;
    page.browser.click("#page-capture .ask")?;
    answered(page, "Forwarded")?;
    let ports = page.browser.script(
        "return ['source-port', 'port', 'interface'].map(word => document.querySelector(`#explain-${word}`).value)",
    )?;
    ensure!(ports == json!(["40000", "9", "wan"]), "{ports}");
    let bytes = page.browser.script("return document.querySelector('#explain-frame').checkVisibility()")?;
    ensure!(bytes == json!(true), "it is asked by its addresses");
    Ok(())
}
