//! Softints preempt tasks: without harm, by an image that checks what preempted tasks hold, and without delay, by a
//! router that stamps what it forwards. Both count guest instructions, so that a busy host changes nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::forwarding::udp_v4;
use super::{Context, Needs, Test};
use crate::qemu::{Machine, Spec};
use crate::rig::{FrameRig, PATIENCE};
use crate::router::{Config, test_image};

/// Preemptions of a test run, unless `$LAB_PREEMPTIONS` says otherwise.
const PREEMPTIONS: u64 = 20_000;
/// Packets whose delay is looked at: the 99.9th percentile is the third from the top.
const PACKETS: usize = 3000;
/// Packets sent to get as many: one that comes while the router is still at work for the one before, or the task rests, does
/// not count. How many do is up to the host's scheduler.
const MOST_SENT: usize = PACKETS * 4;
/// A nanosecond an instruction; time does not wait for the host's.
const INSTRUCTIONS: [&str; 2] = ["-icount", "shift=0,sleep=off"];
/// The same, but a guest that sleeps does so at the host's pace: without the task it must not race from timer to timer,
/// whose work would delay packets more often than it does.
const AT_REST: [&str; 2] = ["-icount", "shift=0,sleep=on"];

pub(super) fn tests() -> Vec<Test> {
    let weir = Needs { weir: true, ..Needs::default() };
    let mut all = Vec::new();
    for cpus in [1, 2, 4] {
        all.push(Test::new(format!("preempted-tasks-keep-their-state-smp{cpus}"), weir, move |_| {
            stress(cpus, &INSTRUCTIONS, Registers::Wide)
        }));
    }
    all.push(Test::new("preempted-tasks-keep-their-state-at-once", weir, |_| {
        stress(4, &[], Registers::Wide)
    }));
    all.push(Test::new("preempted-tasks-keep-their-state-without-xsave", weir, |_| {
        stress(1, &["-cpu", "qemu64", INSTRUCTIONS[0], INSTRUCTIONS[1]], Registers::Narrow)
    }));
    for cpus in [1, 4] {
        all.push(Test::new(format!("compiled-filters-run-smp{cpus}"), weir, move |_| filters(cpus)));
    }
    for place in ["code", "frame"] {
        all.push(Test::new(format!("compiled-filters-cannot-be-written-{place}"), weir, move |_| {
            touch(place)
        }));
    }
    all.push(Test::new("a-busy-task-does-not-delay-packets", weir, busy));
    all
}

/// Vector registers of the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Registers {
    Wide,
    Narrow,
}

fn stress(cpus: usize, options: &[&str], registers: Registers) -> Result<()> {
    let asked = std::env::var("LAB_PREEMPTIONS").ok().and_then(|count| count.parse().ok());
    // Under the host's clock timers come at its pace: far fewer, but on CPUs that run at the same time.
    let (goal, period) = match options {
        [] => (asked.unwrap_or(PREEMPTIONS) / 20, 40_000),
        _ => (asked.unwrap_or(PREEMPTIONS), 10_000),
    };
    let mut spec = Spec::new(&test_image()?);
    spec.cpus = cpus;
    spec.command_line = format!("test=stress preemptions={goal} period={period} panic=halt");
    spec.extra = options.iter().map(|&option| option.to_owned()).collect();
    spec.limit = Duration::from_secs(900);
    let machine = Machine::start(&spec)?;
    let patience = Duration::from_secs(60) + Duration::from_millis(goal);
    let outcome = machine.wait("stress: ok", patience);
    let text = machine.console.text();
    outcome.with_context(|| format!("the console:\n{text}"))?;
    let wide = text.contains("256-bit");
    ensure!(wide == (registers == Registers::Wide), "other registers than asked for:\n{text}");
    ensure!(text.contains(&format!("stress: {cpus} CPUs")), "not all CPUs came:\n{text}");
    Ok(())
}

/// An image that makes, runs and drops compiled packet filters.
fn code(cpus: usize, command_line: &str) -> Result<Machine> {
    let mut spec = Spec::new(&test_image()?);
    spec.cpus = cpus;
    spec.command_line = format!("test=code {command_line} panic=halt");
    spec.limit = Duration::from_secs(300);
    let machine = Machine::start(&spec)?;
    let outcome = machine.wait("code: ok", Duration::from_secs(240));
    outcome.with_context(|| format!("the console:\n{}", machine.console.text()))?;
    Ok(machine)
}

fn filters(cpus: usize) -> Result<()> {
    let machine = code(cpus, "")?;
    let text = machine.console.text();
    let runs = text.split_once("runs by CPU [").and_then(|(_, rest)| rest.split(']').next());
    let on = runs.context("no runs")?.split(',').count();
    ensure!(on == cpus, "filters ran on {on} of {cpus} CPUs:\n{text}");
    Ok(())
}

fn touch(place: &str) -> Result<()> {
    let machine = code(1, &format!("touch={place}"))?;
    let outcome = machine.wait("page fault", PATIENCE);
    let text = machine.console.text();
    outcome.with_context(|| format!("the console:\n{text}"))?;
    ensure!(!text.contains("code: wrote"), "the write went through:\n{text}");
    Ok(())
}

fn busy(cx: &Context) -> Result<()> {
    let quiet = delays(cx, "")?;
    let busy = delays(cx, "busy")?;
    let percentile = |sorted: &[u64]| sorted[sorted.len() - 1 - sorted.len() / 1000];
    let (alone, beside) = (percentile(&quiet), percentile(&busy));
    let median = |sorted: &[u64]| sorted[sorted.len() / 2];
    let figures = format!(
        "instructions from arrival to transmission, median and 99.9th percentile: {} and {alone} alone, {} and {beside} \
         beside a busy task",
        median(&quiet),
        median(&busy)
    );
    if std::env::var_os("LAB_VERBOSE").is_some() {
        eprintln!("lab: {figures}");
    }
    ensure!(beside * 2 <= alone * 3, "more than one and a half times as long: {figures}");
    Ok(())
}

/// Guest instructions each packet took through a router with one CPU, in rising order: from the interrupt that announced
/// it to the transmit queue. The image notes that moment in front of the router's interrupt stub, whether the CPU slept,
/// ran the task or masked softints.
fn delays(cx: &Context, command_line: &str) -> Result<Vec<u64>> {
    let rig = FrameRig::start(cx.image, Config::two_ports(), 2, |setup| {
        setup.kernel = test_image().ok();
        setup.command_line = format!("test=delay {command_line}");
        setup.extra.extend(AT_REST.map(str::to_owned));
    })?;
    let mut delays = Vec::new();
    let is_busy = !command_line.is_empty();
    let name = format!("{}-{command_line}", cx.name);
    rig.check(&name, |rig| {
        rig.router.ready()?;
        if is_busy {
            rig.router.machine.wait("delay: busy", PATIENCE)?;
        }
        let (a, b) = (&rig.hosts[0], &rig.hosts[1]);
        a.ping(b.identity().v4.into(), 1, PATIENCE)?;
        for number in 0..MOST_SENT {
            let mut packet = udp_v4(a, b, &[0; 24]);
            packet.id = number as u16;
            a.send_v4(&packet)?;
            let payload = b.expect("the packet with its stamps", PATIENCE, |frame| {
                frame.v4().filter(|p| p.id == packet.id).map(|p| p.payload.clone())
            })?;
            let stamp = |place: usize| -> Result<u64> {
                let at = 8 + place * 8;
                Ok(u64::from_le_bytes(payload.get(at..at + 8).context("no stamps")?.try_into()?))
            };
            let (arrived, sent, computing) = (stamp(0)?, stamp(1)?, stamp(2)? != 0);
            if arrived != 0 && computing == is_busy {
                delays.push(sent.checked_sub(arrived).context("sent before it arrived")?);
            }
            if delays.len() == PACKETS {
                return Ok(());
            }
            // The next one finds the router at rest, or at work for the task alone.
            std::thread::sleep(Duration::from_micros(200));
        }
        bail!(
            "of {MOST_SENT} packets only {} came with an interrupt of their own and found the task {}",
            delays.len(),
            if is_busy { "computing" } else { "absent" }
        )
    })?;
    delays.sort_unstable();
    Ok(delays)
}
