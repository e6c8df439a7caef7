//! What the router tells about itself: the trace of each CPU, in words and in a fatal report, the locks' counters, and
//! how busy a CPU is that sleeps.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use weir_sync::Event;
use weir_sync::trace::Record;

use super::forwarding::everything_works;
use super::{Context, Needs, Test};
use crate::rig::{FrameRig, PATIENCE};
use crate::router::{Config, Router};
use crate::table;
use crate::trace::Trace;

/// Events in a fatal report: of the CPU that reports, and of each other one.
const LAST_WORDS: usize = 16;
const LAST_WORDS_OF_OTHERS: usize = 4;
/// Softint bit of the first device.
const FIRST_DEVICE: u64 = 8;

pub(super) fn tests() -> Vec<Test> {
    let weir = Needs { weir: true, ..Needs::default() };
    vec![
        Test::new("trace-follows-packets-over-cpus", weir, follows),
        Test::new("trace-in-a-fatal-report", weir, in_a_report),
        Test::new("locks-are-counted", weir, locks),
        Test::new("a-sleeping-cpu-is-not-busy", weir, sleeps),
    ]
}

/// Types a line on the console and waits for what ends the answer; the answer.
fn ask(router: &mut Router, line: &str, end: &str) -> Result<String> {
    let position = router.machine.console.position();
    router.machine.type_keys(format!("{line}\n").as_bytes())?;
    router.machine.console.wait_after(position, end, PATIENCE * 5).with_context(|| line.to_owned())?;
    let said = router.machine.console.since(position);
    Ok(said.iter().map(|line| line.text.clone() + "\n").collect())
}

/// Two CPUs that share the flows of devices with one queue.
fn two_cpus(cx: &Context) -> Result<FrameRig> {
    let text = format!("steering = \"flows\"\n{}", Config::two_ports().toml());
    FrameRig::start(cx.image, Config::two_ports(), 2, |setup| {
        setup.cpus = 2;
        setup.module = Some(text.into_bytes());
    })
}

fn is(record: &Record, event: Event) -> bool {
    record.event == event as u32
}

fn follows(cx: &Context) -> Result<()> {
    two_cpus(cx)?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        let before = ask(&mut rig.router, "trace", "end of trace")?;
        ensure!(Trace::read(&before).records.is_empty(), "it is on before anybody asked for it:\n{before}");
        ask(&mut rig.router, "trace on", "trace is on")?;
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        for sequence in 0..4 {
            a.ping(b.identity().v4.into(), sequence, PATIENCE)?;
        }
        // The first answer takes management a few turns, which the second tells of.
        let text = [(); 2].map(|()| ask(&mut rig.router, "trace", "end of trace"));
        let text = text.into_iter().collect::<Result<String>>()?;
        ask(&mut rig.router, "trace off", "trace is off")?;
        let trace = Trace::read(&text);
        let timeline = trace.timeline();
        let number = |event: Event| trace.records.iter().filter(|record| is(record, event)).count();
        for event in [
            Event::Softint,
            Event::SoftintEnd,
            Event::Task,
            Event::TaskEnd,
            Event::Sleep,
            Event::Wake,
            Event::Raise,
            Event::HandOver,
        ] {
            ensure!(number(event) > 0, "no {}:\n{timeline}", event.name());
        }
        ensure!(trace.spoilt == 0 && timeline.contains("us   since last"), "{text}\n{timeline}");
        // The way of a packet: from a device to the other CPU that its flow belongs to, and back to the device.
        let mut steps = trace.records.iter();
        let mut next = |what: &str, test: &dyn Fn(&Record) -> bool| {
            steps.find(|&record| test(record)).with_context(|| format!("no {what}:\n{timeline}"))
        };
        let device = next("softint of a device", &|record| {
            is(record, Event::Softint) && record.words[0] >= FIRST_DEVICE
        })?;
        let sent = next("hand-over", &|record| is(record, Event::HandOver) && record.cpu == device.cpu)?;
        ensure!(sent.words[0] != u64::from(device.cpu) && sent.words[2] > 0, "{timeline}");
        next("softint of the other CPU", &|record| {
            is(record, Event::Softint) && u64::from(record.cpu) == sent.words[0]
        })?;
        // Off means off.
        a.ping(b.identity().v4.into(), 99, PATIENCE)?;
        let later = [(); 2].map(|()| ask(&mut rig.router, "trace", "end of trace"));
        let [one, two] = later.map(|text| text.map(|text| Trace::read(&text).records.last().copied()));
        ensure!(one? == two?, "events were noted after it was switched off");
        Ok(())
    })
}

/// An NMI stands for any fatal error, as in the test of the report itself.
fn in_a_report(cx: &Context) -> Result<()> {
    let mut rig = two_cpus(cx)?;
    rig.router.ready()?;
    ask(&mut rig.router, "trace on", "trace is on")?;
    everything_works(&rig)?;
    rig.router.machine.qmp()?.command("inject-nmi", serde_json::json!({}))?;
    rig.router.machine.wait("rebooting in", PATIENCE)?;
    let text = rig.router.machine.console.text();
    let trace = Trace::read(&text);
    let fatal = text.lines().find_map(|line| line.split_once("fatal on cpu")).context("no report")?.1;
    let reporter: u32 = fatal.split(' ').next().and_then(|word| word.parse().ok()).context("no CPU")?;
    let count = |own: bool| trace.records.iter().filter(|r| (r.cpu == reporter) == own).count();
    ensure!(
        (count(true), count(false)) == (LAST_WORDS, LAST_WORDS_OF_OTHERS),
        "the report carries {} and {} events:\n{text}",
        count(true),
        count(false)
    );
    ensure!(trace.records.iter().any(|record| is(record, Event::Softint)), "{}", trace.timeline());
    Ok(())
}

fn locks(cx: &Context) -> Result<()> {
    FrameRig::start(cx.image, Config::two_ports(), 2, |setup| setup.cpus = 2)?.check(&cx.name, |rig| {
        rig.router.ready()?;
        let acquired = |text: &str, name: &str| -> Result<u64> {
            let row = text.lines().find(|line| line.starts_with(name));
            let count = row.and_then(|row| row.split_whitespace().nth(1)?.parse().ok());
            count.with_context(|| format!("no {name}:\n{text}"))
        };
        let before = ask(&mut rig.router, "locks", "Frames")?;
        table::read(&mut rig.router)?;
        let after = ask(&mut rig.router, "locks", "Frames")?;
        for name in ["PageTables", "Heap", "Frames", "Tasks"] {
            ensure!(acquired(&before, name)? > 0, "{name} was never taken:\n{before}");
        }
        // A table is made of strings.
        ensure!(acquired(&after, "Heap")? > acquired(&before, "Heap")?, "{before}\n{after}");
        Ok(())
    })
}

/// A CPU without work sleeps, and the table says so before it wakes.
fn sleeps(cx: &Context) -> Result<()> {
    FrameRig::start(cx.image, Config::two_ports(), 2, |setup| setup.cpus = 2)?.check(&cx.name, |rig| {
        rig.router.ready()?;
        let busy = |text: &str| -> Result<f64> {
            let row = text.lines().find(|line| line.starts_with("cpu1 ")).context("no row of cpu1")?;
            let share = row.split_whitespace().last().and_then(|word| word.strip_suffix('%'));
            Ok(share.context("no share")?.parse()?)
        };
        // Nothing wakes it meanwhile; to boot takes a CPU's whole time.
        let sleep = Duration::from_secs(3) + rig.router.machine.started.elapsed() * 4;
        std::thread::sleep(sleep);
        let table = table::read(&mut rig.router)?;
        let share = busy(&table.text)?;
        ensure!(share < 30.0, "a CPU that slept for {sleep:.1?} was {share} % busy:\n{}", table.text);
        Ok(())
    })
}
