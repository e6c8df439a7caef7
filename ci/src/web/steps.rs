//! What a person does with the page, and what the page must show then.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::browser::{View, key, plain};
use super::picture::shrink;
use super::program::Program;
use super::{Behind, Page, explain};

/// A step of a run with `B` behind the page.
pub(crate) type Step<B = Program> = (&'static str, fn(&mut Page<B>) -> Result<String>);

pub(crate) const STEPS: &[Step] = &[
    ("files", files),
    ("token", token),
    ("token-in-address", token_in_address),
    ("keyboard", keyboard),
    ("editor", editor),
    ("validation", validation),
    ("commit-confirm", commit_confirm),
    ("revert", revert),
    ("not-confirmed", not_confirmed),
    ("somebody-else", somebody_else),
    ("history", history),
    ("events", events),
    ("overview", overview),
    ("interfaces", interfaces),
    ("routes", routes),
    ("drops", drops),
    ("capture", capture),
    ("explain", explain::by_keys),
    ("explain-errors", explain::errors_at_fields),
    ("explain-candidate", explain::candidate),
    ("explain-outdated", explain::outdated),
    ("explain-drops", explain::from_drops),
    ("log", log),
    ("contrast", contrast),
    ("widths", widths),
    ("pictures", pictures),
    ("unreachable", unreachable),
    ("quiet", quiet),
];

const PAGES: &[&str] =
    &["overview", "interfaces", "routes", "drops", "capture", "explain", "log", "configuration"];
pub(crate) const DESK: View = View { width: 1180, height: 760, scheme: "light" };
pub(crate) const PHONE: View = View { width: 390, height: 844, scheme: "dark" };
/// Pictures in the repository are few and small.
const PICTURE_BYTES: usize = 100 << 10;

/// Opens a part of the page, as a click on its tab does.
pub(crate) fn go<B: Behind>(page: &Page<B>, id: &str) -> Result<()> {
    page.browser.script(&format!("location.hash = {}", json!(id)))?;
    page.browser.wait(&format!("!document.querySelector('#page-{id}').hidden"))
}

/// Waits until a part shows all these texts.
pub(crate) fn shows<B: Behind>(page: &Page<B>, id: &str, texts: &[String]) -> Result<()> {
    for text in texts {
        page.browser
            .wait(&format!("document.querySelector('#page-{id}').innerText.includes({})", json!(text)))?;
    }
    Ok(())
}

/// The texts of a field of all records of a list.
fn fields(list: &Value, field: &str) -> Vec<String> {
    let rows = list.as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().map(|row| &row[field]).filter(|value| !value.is_null()).map(plain).collect()
}

pub(crate) fn files<B: Behind>(page: &mut Page<B>) -> Result<String> {
    let index = page.server.file("/", &[])?;
    ensure!(index.status == 200, "/ answers {}", index.status);
    let policy = index.header("Content-Security-Policy").context("no Content-Security-Policy")?;
    ensure!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
    let etag = index.header("ETag").context("/ has no ETag")?;
    let again = page.server.file("/", &[("If-None-Match", etag)])?;
    ensure!(again.status == 304, "/ that did not change answers {}", again.status);
    let plain = page.server.file("/", &[("Accept-Encoding", "identity")])?;
    ensure!(plain.status == 406, "/ for a client that reads no gzip answers {}", plain.status);
    let other = page.server.file("/no-such-file.js", &[])?;
    ensure!(other.status == 404, "a file that is not there answers {}", other.status);
    let length = index.header("Content-Length").context("no Content-Length")?;
    Ok(format!("{length} bytes of markup, compressed; {policy}"))
}

pub(crate) fn token<B: Behind>(page: &mut Page<B>) -> Result<String> {
    let browser = &page.browser;
    browser.view(DESK)?;
    browser.open(&page.server.page())?;
    browser.wait("document.querySelector('#token').open")?;
    for (text, outcome) in [
        ("wrong", "document.querySelector('#token-why').innerText.includes('The token is not known')"),
        (&page.server.token, "document.querySelector('#link').dataset.state == 'up'"),
    ] {
        browser.click("#token-field")?;
        browser.insert(text)?;
        browser.press(&[key::ENTER])?;
        browser.wait(outcome)?;
    }
    ensure!(
        browser.script("return localStorage.length + document.cookie.length")? == json!(0),
        "the token is kept"
    );
    // What the browser itself says of the two answers with 401.
    let refused = browser.errors()?;
    ensure!(refused.iter().all(|error| error.contains("401")), "{refused:?}");
    Ok("asked for, refused when wrong, kept for the tab alone".into())
}

fn token_in_address(page: &mut Page) -> Result<String> {
    let browser = &page.browser;
    browser.script("sessionStorage.clear()")?;
    browser.open("about:blank")?;
    browser.open(&format!("{}#token={}", page.server.page(), &page.server.token))?;
    browser.wait("document.querySelector('#link').dataset.state == 'up'")?;
    let address = plain(&browser.script("return location.href")?);
    ensure!(!address.contains(&page.server.token), "the address bar shows {address}");
    Ok(format!("taken, {address} is left"))
}

fn overview(page: &mut Page) -> Result<String> {
    let status = page.server.get("/status")?;
    let names = fields(&page.server.get("/interfaces")?, "name");
    go(page, "overview")?;
    shows(page, "overview", &names)?;
    let cpus = page.server.get("/cpus")?;
    shows(page, "overview", &fields(&cpus["cpus"], "name"))?;
    let own: u64 =
        cpus["sockets"].as_array().into_iter().flatten().filter_map(|one| one["connections"].as_u64()).sum();
    shows(
        page,
        "overview",
        &[format!("The router itself: {own} connection"), "Since boot 7 found no room.".into()],
    )?;
    let host = plain(&status["hostname"]);
    page.browser.wait(&format!(
        "document.title.includes({0}) && document.querySelector('#hostname').innerText == {0}",
        json!(host)
    ))?;
    // Two samples make a rate: a line in the plot, and its reading.
    page.browser.wait(
        "[...document.querySelectorAll('.plot .line')].some(line => line.getAttribute('d').includes('L'))",
    )?;
    let axis = page
        .browser
        .script("return [...document.querySelectorAll('.plot')[0].querySelectorAll('.tick')].length")?;
    ensure!(axis.as_u64() >= Some(6), "{axis} marks on the axes");
    // It is the one that the counters give to anybody.
    let deadline = Instant::now() + FLOWS;
    let reading = loop {
        let own = own_rate(page)?;
        let reading = page.browser.script("return document.querySelector('.legend').innerText")?;
        let reading = plain(&reading).replace('\n', " ");
        let shown = bits(&reading).with_context(|| format!("no rate to read: {reading}"))?;
        if alike(shown, own) {
            break reading;
        }
        ensure!(Instant::now() < deadline, "{shown:.0} bit/s shown, {own:.0} bit/s by the counters");
    };
    page.browser.script(
        "[...document.querySelectorAll('.segments button')].find(b => b.innerText == 'packets/s').click()",
    )?;
    page.browser.wait("document.querySelector('.legend').innerText.includes('packets/s')")?;
    page.browser.script(
        "[...document.querySelectorAll('.segments button')].find(b => b.innerText == 'bit/s').click()",
    )?;
    Ok(format!("{host}, {} interfaces, {reading}", names.len()))
}

/// How long a page's rate is compared with another's, that was not looked at at the same time.
pub(crate) const FLOWS: Duration = Duration::from_secs(40);

/// Whether two rates are of the same flow.
pub(crate) fn alike(one: f64, other: f64) -> bool {
    (0.6..1.6).contains(&(one / other))
}

/// What the first interface receives, by two looks at its counters and the router's clock.
fn own_rate(page: &Page) -> Result<f64> {
    let look = || -> Result<(f64, f64)> {
        let ms = page.server.get("/status")?["uptime_ms"].as_f64().context("no uptime")?;
        let bytes = page.server.get("/interfaces")?[0]["rx_bytes"].as_f64().context("no counter")?;
        Ok((ms, bytes))
    };
    let before = look()?;
    thread::sleep(Duration::from_secs(1));
    let after = look()?;
    Ok((after.1 - before.1) * 8.0 * 1000.0 / (after.0 - before.0))
}

/// The first rate of a text such as "received 1.2 Mbit/s", in bit/s.
fn bits(text: &str) -> Option<f64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (number, unit) = words.iter().zip(words.get(1..)?).find(|(_, unit)| unit.ends_with("bit/s"))?;
    let factor = match unit.chars().next()? {
        'k' => 1e3,
        'M' => 1e6,
        'G' => 1e9,
        _ => 1.0,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

fn interfaces(page: &mut Page) -> Result<String> {
    go(page, "interfaces")?;
    let list = page.server.get("/interfaces")?;
    shows(page, "interfaces", &fields(&list, "name"))?;
    shows(page, "interfaces", &fields(&list, "state"))?;
    page.browser.click("#page-interfaces button.row")?;
    shows(page, "interfaces", &[plain(&list[0]["mac"]), plain(&list[0]["device"])])?;
    // What each CPU's pair carried: a term each, and the first has more of the simulated traffic.
    let pair = |cpu: &str| {
        format!(
            "Number([...document.querySelectorAll('#page-interfaces .details > div')].find(one => \
             one.querySelector('dt').innerText == 'Pair of {cpu}')?.querySelector('dd').innerText\
             .split(' frames received, ')[0].replaceAll('\\u202f', ''))"
        )
    };
    page.browser.wait(&format!("{} > {} && {1} > 1000", pair("cpu0"), pair("cpu1")))?;
    Ok(format!("{}, details on demand", fields(&list, "name").join(", ")))
}

fn routes(page: &mut Page) -> Result<String> {
    go(page, "routes")?;
    let routes = page.server.get("/routes?offset=0&limit=50")?;
    shows(page, "routes", &fields(&routes["routes"], "to"))?;
    let neighbors = fields(&page.server.get("/neighbors")?, "address");
    shows(page, "routes", &neighbors)?;
    page.browser.press(&["/"])?;
    let wanted = plain(&routes["routes"][0]["to"]);
    page.browser.insert(&wanted)?;
    page.browser.wait("document.querySelector('#page-routes').innerText.includes(' found.')")?;
    let rows = "document.querySelectorAll('#page-routes table')[0].tBodies[0].rows";
    page.browser.wait(&format!(
        "{rows}.length > 0 && [...{rows}].every(row => row.innerText.includes({}))",
        json!(wanted)
    ))?;
    page.browser.script("const field = document.querySelector('#routes-search'); field.value = ''; field.dispatchEvent(new Event('input')); field.blur()")?;
    let total = routes["total"].as_u64().unwrap_or_default();
    if total > 50 {
        page.browser.wait("!document.querySelectorAll('#page-routes .buttons button')[1].disabled && !document.querySelectorAll('#page-routes .buttons button')[1].hidden")?;
        page.browser.click("#page-routes .buttons button:last-child")?;
        let next = page.server.get("/routes?offset=50&limit=50")?;
        shows(page, "routes", &fields(&next["routes"], "to"))?;
    }
    Ok(format!("{total} routes by pages and by search, {} neighbours", neighbors.len()))
}

fn drops(page: &mut Page) -> Result<String> {
    go(page, "drops")?;
    let reasons = fields(&page.server.get("/drops")?, "reason");
    ensure!(!reasons.is_empty(), "the simulated router loses nothing: this shows nothing");
    shows(page, "drops", &reasons)?;
    page.browser.wait(
        "[...document.querySelectorAll('#page-drops .meaning')].every(cell => cell.innerText.length > 20)",
    )?;
    Ok(reasons.join(", "))
}

/// The simulated router has nothing to capture, and says so.
fn capture(page: &mut Page) -> Result<String> {
    go(page, "capture")?;
    page.browser.click("#page-capture button[type=submit]")?;
    page.browser
        .wait("document.querySelector('#capture-wrong').innerText.includes('this router is simulated')")?;
    // The browser's own word on the answer.
    let errors = page.browser.errors()?;
    ensure!(errors.iter().all(|error| error.contains("503")), "{errors:?}");
    // How it would tell a packet's time, before and after the router knows the time of day.
    let times =
        "return import('/format.js').then(format => [1.5e6, 1795284000000002].map(format.moment).join())";
    let times = plain(&page.browser.script(times)?);
    ensure!(times == "1.500000 s after boot,2026-11-21 18:00:00.000002 UTC", "{times}");
    Ok(plain(&page.browser.script("return document.querySelector('#capture-wrong').innerText")?)
        .replace('\n', " "))
}

fn log(page: &mut Page) -> Result<String> {
    go(page, "log")?;
    let lines = page.server.get("/log")?;
    let last = fields(&lines, "text").pop().context("the simulated router's log is empty")?;
    shows(page, "log", &[last])?;
    page.browser.script("[...document.querySelectorAll('#page-log .segments button')].find(b => b.innerText == 'warn').click()")?;
    let levels = "[...document.querySelectorAll('#page-log .log li')].map(line => line.dataset.level)";
    page.browser.wait(&format!("{levels}.every(level => level == 'warn' || level == 'error')"))?;
    page.browser.script("[...document.querySelectorAll('#page-log .segments button')].find(b => b.innerText == 'debug').click()")?;
    let end = "(list => list.scrollTop + list.clientHeight >= list.scrollHeight - 4)(document.querySelector('.log'))";
    page.browser.wait(end)?;
    Ok(format!("{} lines, by level, at its end", fields(&lines, "text").len()))
}

fn keyboard(page: &mut Page) -> Result<String> {
    let browser = &page.browser;
    for (number, id) in PAGES.iter().enumerate() {
        browser.press(&[&(number + 1).to_string()])?;
        browser.wait(&format!("location.hash == '#{id}' && !document.querySelector('#page-{id}').hidden"))?;
    }
    browser.press(&["?"])?;
    browser.wait("document.querySelector('#help').open")?;
    browser.press(&[key::ESCAPE])?;
    browser.wait("!document.querySelector('#help').open")?;
    // From the top: the skip link first, then a ring around whatever has the focus.
    browser.open(&page.server.page())?;
    browser.wait("document.querySelector('#link').dataset.state == 'up'")?;
    browser.press(&[key::TAB])?;
    ensure!(
        browser.script("return document.activeElement.className")? == json!("skip"),
        "Tab begins elsewhere"
    );
    browser.press(&[key::ENTER])?;
    browser.wait("document.activeElement.id == 'main'")?;
    let mut seen = Vec::new();
    for _ in 0..4 {
        browser.press(&[key::TAB])?;
        let ring = browser.script("return getComputedStyle(document.activeElement).outlineStyle")?;
        ensure!(ring == json!("solid"), "no ring around what has the focus: {ring}");
        seen.push(plain(&browser.script("return document.activeElement.innerText")?));
    }
    Ok(format!("1 to 8, ?, Escape, skip link, then {}", seen.join(", ")))
}

/// Replaces the editor's text as a person would who selects all and pastes.
pub(crate) fn paste<B: Behind>(page: &Page<B>, text: &str) -> Result<()> {
    page.browser.click("#page-configuration textarea")?;
    page.browser.press(&[key::CONTROL, "a"])?;
    page.browser.insert(text)
}

pub(crate) fn opened<B: Behind>(page: &Page<B>) -> Result<()> {
    go(page, "configuration")?;
    page.browser.wait("document.querySelector('#page-configuration textarea').value.length > 0")
}

pub(crate) fn validate<B: Behind>(page: &Page<B>) -> Result<()> {
    page.browser.click("#page-configuration textarea")?;
    page.browser.press(&[key::CONTROL, key::ENTER])
}

fn editor(page: &mut Page) -> Result<String> {
    let (text, _) = page.server.configuration()?;
    opened(page)?;
    let browser = &page.browser;
    let value = "document.querySelector('#page-configuration textarea').value";
    browser.wait(&format!("{value} == {}", json!(text)))?;
    let lines = text.split('\n').count();
    browser.wait(&format!("document.querySelectorAll('.gutter li').length == {lines}"))?;
    // What is painted is what is written.
    browser.wait(&format!(
        "document.querySelector('.painting:not(.marks)').innerText.trim() == {value}.trim()"
    ))?;
    paste(page, "hostname = \"a\"\n")?;
    browser.press(&[key::TAB])?;
    browser.insert("x")?;
    browser.wait(&format!("{value} == 'hostname = \"a\"\\n  x'"))?;
    browser.press(&[key::ESCAPE])?;
    browser.press(&[key::TAB])?;
    browser.wait("document.activeElement.tagName != 'TEXTAREA'")?;
    browser
        .wait("document.querySelector('#page-configuration').innerText.includes('edited, not in force')")?;
    paste(page, &text)?;
    browser.wait("document.querySelector('#page-configuration').innerText.includes('as in force')")?;
    Ok(format!("{lines} lines; Tab indents, Escape and Tab leave"))
}

fn validation(page: &mut Page) -> Result<String> {
    let (text, _) = page.server.configuration()?;
    opened(page)?;
    let line =
        1 + text.lines().position(|line| line.starts_with("mtu")).context("no mtu in the configuration")?;
    let wrong: String = text
        .lines()
        .map(|line| if line.starts_with("mtu") { "mtu = 20\n".to_owned() } else { format!("{line}\n") })
        .collect();
    paste(page, &wrong)?;
    validate(page)?;
    shows(page, "configuration", &[format!("line {line}, column 7"), "Nothing was changed".into()])?;
    let browser = &page.browser;
    browser.wait(&format!("document.querySelectorAll('.gutter li')[{}].className == 'wrong'", line - 1))?;
    browser.wait("document.querySelector('.marks mark').innerText == '20'")?;
    let said = plain(&browser.script("return document.querySelector('.errors li').innerText")?);
    browser.click(".errors .place")?;
    let before = wrong.lines().take(line - 1).map(|line| line.chars().count() + 1).sum::<usize>() + 6;
    browser.wait(&format!(
        "document.activeElement.tagName == 'TEXTAREA' && document.activeElement.selectionStart == {before}"
    ))?;
    ensure!(page.server.configuration()?.0 == text, "the configuration in force changed");
    picture(page, "configuration-error")?;
    Ok(said.replace('\n', " "))
}

/// The configuration with one route more.
fn changed(text: &str, to: &str) -> String {
    format!("{text}\n[[route]]\nto = \"{to}\"\nreject = \"blackhole\"\n")
}

/// Edits, validates, commits on trial for the default of a minute.
pub(crate) fn commit<B: Behind>(page: &Page<B>, text: &str) -> Result<()> {
    opened(page)?;
    paste(page, text)?;
    validate(page)?;
    shows(page, "configuration", &["Valid".into(), "1 route comes".into()])?;
    page.browser.wait("document.querySelectorAll('.diff tr.new').length >= 4")?;
    page.browser.click("#page-configuration .commit button")?;
    page.browser.wait("!document.querySelector('#trial').hidden")
}

fn seconds_left<B: Behind>(page: &Page<B>) -> Result<u64> {
    let text = plain(&page.browser.script("return document.querySelector('#trial-left').innerText")?);
    let (minutes, seconds) = text.split_once(':').context("no countdown")?;
    Ok(minutes.parse::<u64>()? * 60 + seconds.parse::<u64>()?)
}

pub(crate) fn commit_confirm<B: Behind>(page: &mut Page<B>) -> Result<String> {
    let (before, _) = page.server.configuration()?;
    let after = changed(&before, "203.0.113.0/24");
    // The plan and its difference, looked at before anything is done.
    opened(page)?;
    paste(page, &after)?;
    validate(page)?;
    page.browser.wait("document.querySelector('.diff-box')")?;
    page.browser.script(
        "[...document.querySelectorAll('.diff-box button')].find(b => b.innerText == 'Side by side').click()",
    )?;
    page.browser.wait("document.querySelector('.diff.sides td.new')")?;
    picture(page, "configuration")?;
    commit(page, &after)?;
    ensure!(page.server.configuration()?.0 == after, "the router does not have it");
    let first = seconds_left(page)?;
    ensure!((50..=60).contains(&first), "{first} s left of 60");
    // The countdown goes on, on every page, and after the page is loaded anew.
    for id in PAGES {
        go(page, id)?;
        page.browser.wait("document.querySelector('#trial').checkVisibility()")?;
    }
    picture(page, "trial")?;
    page.browser.reload()?;
    page.browser.wait(&format!(
        "(([minutes, seconds]) => minutes * 60 + Number(seconds))(document.querySelector('#trial-left').innerText.split(':')) < {first}"
    ))?;
    let later = seconds_left(page)?;
    page.browser.click("#trial-confirm")?;
    page.browser.wait("document.querySelector('#trial').hidden")?;
    let refused = page.server.ask("POST", "/config/revert", &[], "")?;
    ensure!(refused.status == 409 && page.server.configuration()?.0 == after, "it is not confirmed");
    Ok(format!("{first} s, {later} s, confirmed; on every page, and after a reload"))
}

fn revert(page: &mut Page) -> Result<String> {
    let (before, _) = page.server.configuration()?;
    commit(page, &changed(&before, "203.0.114.0/24"))?;
    page.browser.click("#trial-revert")?;
    page.browser.wait("document.querySelector('#trial').hidden")?;
    page.browser.wait(&format!(
        "document.querySelector('#page-configuration textarea').value == {}",
        json!(before)
    ))?;
    ensure!(page.server.configuration()?.0 == before, "the router still has the new one");
    Ok("the text before is back, in the editor too".into())
}

fn not_confirmed(page: &mut Page) -> Result<String> {
    let (before, _) = page.server.configuration()?;
    opened(page)?;
    page.server.commit(&changed(&before, "203.0.115.0/24"), Some(4))?;
    page.browser.wait("!document.querySelector('#trial').hidden")?;
    page.browser.wait("document.querySelector('#trial').hidden")?;
    page.browser.wait(&format!(
        "document.querySelector('#page-configuration textarea').value == {}",
        json!(before)
    ))?;
    ensure!(page.server.configuration()?.0 == before, "the router still has the new one");
    Ok("somebody else's trial is shown, and its end".into())
}

fn somebody_else(page: &mut Page) -> Result<String> {
    let (before, _) = page.server.configuration()?;
    opened(page)?;
    let mine = changed(&before, "203.0.116.0/24");
    paste(page, &mine)?;
    page.browser
        .wait("document.querySelector('#page-configuration').innerText.includes('edited, not in force')")?;
    // The page hears of it, or is refused when it validates, whichever is first, and says so. It may say more right after.
    page.browser.script(
        "const result = document.querySelector('#page-configuration .result'); window.told = null;\
         new MutationObserver(() => { if (result.innerText.includes('another')) window.told ??= result.innerText })\
             .observe(result, { childList: true, subtree: true })",
    )?;
    page.server.commit(&changed(&before, "203.0.117.0/24"), None)?;
    validate(page)?;
    page.browser.wait("window.told != null")?;
    let said = plain(&page.browser.script("return window.told")?);
    // Either way the text stays, and validating compares it with the new one.
    page.browser.script("[...document.querySelectorAll('.result button')].find(b => b.innerText == 'Compare mine with it')?.click()")?;
    validate(page)?;
    shows(page, "configuration", &["Valid".into(), "1 route comes".into(), "1 route goes".into()])?;
    page.browser
        .wait(&format!("document.querySelector('#page-configuration textarea').value == {}", json!(mine)))?;
    let expected = page.browser.errors()?;
    ensure!(expected.iter().all(|error| error.contains("412") || error.contains("422")), "{expected:?}");
    Ok(said.lines().next().unwrap_or_default().to_owned())
}

fn history(page: &mut Page) -> Result<String> {
    let versions = page.server.get("/config/history")?;
    opened(page)?;
    let names: Vec<String> =
        fields(&versions, "version").iter().map(|number| format!("Version {number}")).collect();
    shows(page, "configuration", &names)?;
    page.browser.script("document.querySelector('.versions summary').click()")?;
    page.browser.wait("document.querySelector('.versions .diff')")?;
    let buttons = "[...document.querySelectorAll('.version button')].filter(button => !button.hidden)";
    page.browser.script(&format!("{buttons}.at(-1).click()"))?;
    let (running, _) = page.server.configuration()?;
    page.browser.wait(&format!(
        "document.querySelector('#page-configuration textarea').value != {}",
        json!(running)
    ))?;
    paste(page, &running)?;
    Ok(format!("{}, with their differences and texts", names.join(", ")))
}

fn events(page: &mut Page) -> Result<String> {
    go(page, "overview")?;
    let (before, _) = page.server.configuration()?;
    page.server.commit(&changed(&before, "203.0.118.0/24"), None)?;
    page.browser.wait("document.querySelectorAll('.events li').length > 0")?;
    let said = page.browser.script("return document.querySelector('.events li').innerText")?;
    Ok(plain(&said).replace('\n', " "))
}

/// The texts in view with less contrast than WCAG 2.1 §1.4.3 asks for (4.5, and 3 for large ones), as an array.
const CONTRAST: &str = "
const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, part, i) => {
  const v = c[i] / 255;
  return sum + part * (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
}, 0);
const ground = (element) => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
  return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
};
const bad = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
  if (element.closest('.marks, textarea, option, :disabled, .skip, .stack thead')) continue;
  const style = getComputedStyle(element);
  const under = ground(element);
  const svg = element.closest('svg');
  const ink = over(parse(svg ? style.fill : style.color), under);
  const [a, b] = [light(ink), light(under)].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
  if (ratio < (large ? 3 : 4.5)) bad.push(`${ratio.toFixed(2)} ${walker.currentNode.data.trim().slice(0, 40)}`);
}
return bad;";

pub(crate) fn contrast<B: Behind>(page: &mut Page<B>) -> Result<String> {
    for scheme in ["light", "dark"] {
        page.browser.view(View { scheme, ..DESK })?;
        for id in PAGES {
            go(page, id)?;
            // Colours of controls change over some frames.
            thread::sleep(Duration::from_millis(150));
            page.browser.wait("document.getAnimations().every(one => one.playState != 'running')")?;
            let bad = page.browser.script(CONTRAST)?;
            ensure!(bad.as_array().is_some_and(Vec::is_empty), "{id}, {scheme}: {bad}");
        }
    }
    Ok("every text of every page, light and dark: 4.5 and more".into())
}

/// What is wider than its place, as an array: cut off, over its neighbour, or to be scrolled sideways. The editor, differences
/// and dumps are texts whose lines stay as they are.
const CUT: &str = "
const room = document.documentElement.clientWidth;
const shown = document.querySelectorAll('header, header *, nav, nav *, .banners *, article:not([hidden]), article:not([hidden]) *');
return [...shown].filter((element) => {
  if (!element.checkVisibility() || element.closest('.editor, .scroll, .hex, .skip, thead, svg, input, textarea')) return false;
  const { left, right, width } = element.getBoundingClientRect();
  return width && (left < -0.5 || right > room + 0.5) || element.clientWidth && element.scrollWidth > element.clientWidth + 1;
}).map((element) => `${element.tagName}.${element.className} ${element.scrollWidth} of ${element.clientWidth}: ${element.innerText?.slice(0, 60)}`);";

/// How long a page may take to lay itself out anew.
const SETTLES: Duration = Duration::from_secs(5);

/// A phone, a tablet, a window, a screen.
const WIDTHS: [u32; 4] = [360, 768, DESK.width, 1600];

pub(crate) fn widths<B: Behind>(page: &mut Page<B>) -> Result<String> {
    for width in WIDTHS {
        for scheme in ["light", "dark"] {
            page.browser.view(View { width, height: PHONE.height, scheme })?;
            for id in PAGES {
                go(page, id)?;
                page.browser.wait(&format!("document.documentElement.scrollWidth <= {width}"))?;
                // Plots follow the window's width.
                thread::sleep(Duration::from_millis(50));
                let deadline = Instant::now() + SETTLES;
                loop {
                    let cut = page.browser.script(CUT)?;
                    if cut.as_array().is_some_and(Vec::is_empty) {
                        break;
                    }
                    ensure!(Instant::now() < deadline, "{id}, {width} pixels, {scheme}: {cut:#}");
                }
                // Every tab is in reach of a thumb.
                let small = page.browser.script(
                    "const least = innerWidth < 600 ? 40 : 36; return [...document.querySelectorAll('.tabs a')].filter(tab => tab.getBoundingClientRect().height < least).length",
                )?;
                ensure!(small == json!(0), "{small} tabs are too small");
            }
        }
    }
    Ok(format!("{WIDTHS:?} pixels: nothing is cut, overlaps or scrolls sideways"))
}

/// Keeps a picture of what the window shows, if this run is the one to take it.
pub(crate) fn picture<B: Behind>(page: &Page<B>, name: &str) -> Result<()> {
    if !B::PICTURES.contains(&name) {
        return Ok(());
    }
    // Without what was said a moment ago.
    page.browser.script("document.querySelector('#said').replaceChildren()")?;
    let png = shrink(&page.browser.screenshot()?)?;
    let path = page.pictures.join(format!("{name}.png"));
    ensure!(png.len() < PICTURE_BYTES, "{} has {} bytes", path.display(), png.len());
    std::fs::write(&path, png).with_context(|| format!("writing {}", path.display()))
}

fn pictures(page: &mut Page) -> Result<String> {
    page.browser.view(DESK)?;
    for id in ["overview", "interfaces", "routes", "log"] {
        go(page, id)?;
        // One of the interfaces opened.
        page.browser.script("const row = document.querySelector('#page-interfaces button.row'); if (row.ariaExpanded == 'false') row.click()")?;
        thread::sleep(Duration::from_millis(200));
        picture(page, id)?;
    }
    page.browser.view(View { scheme: "dark", ..DESK })?;
    go(page, "overview")?;
    thread::sleep(Duration::from_millis(200));
    picture(page, "overview-dark")?;
    page.browser.view(PHONE)?;
    thread::sleep(Duration::from_millis(200));
    picture(page, "overview-phone")?;
    page.browser.view(DESK)?;
    Ok(page.pictures.display().to_string())
}

fn unreachable(page: &mut Page) -> Result<String> {
    ensure!(page.browser.errors()?.is_empty(), "errors on the console");
    go(page, "overview")?;
    page.behind.end();
    page.browser.wait("!document.querySelector('#lost').hidden")?;
    page.browser.wait("document.querySelector('#lost-text').innerText.includes('Trying again in')")?;
    let said = plain(&page.browser.script("return document.querySelector('#lost-text').innerText")?);
    page.behind.begin(&page.server)?;
    page.browser.click("#lost-retry")?;
    page.browser.wait(
        "document.querySelector('#lost').hidden && document.querySelector('#link').dataset.state == 'up'",
    )?;
    // The browser itself reports each connection that could not be made.
    let errors = page.browser.errors()?;
    ensure!(errors.iter().all(|error| error.contains("net::ERR_")), "{errors:?}");
    Ok(said)
}

pub(crate) fn quiet<B: Behind>(page: &mut Page<B>) -> Result<String> {
    let errors = page.browser.errors()?;
    ensure!(errors.is_empty(), "errors on the console: {errors:?}");
    let origin = page.server.page();
    let requests = page.browser.requests()?;
    let strange: Vec<&String> =
        requests.iter().filter(|url| !url.starts_with(&origin) && *url != "about:blank").collect();
    ensure!(strange.is_empty(), "requests elsewhere: {strange:?}");
    Ok(format!("{} requests, all to the router; no error on the console", requests.len()))
}
