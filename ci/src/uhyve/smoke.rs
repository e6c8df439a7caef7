//! `lab smoke-uhyve`: the router on uhyve, step by step.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{QUICK, Uhyve};
use crate::arguments::Arguments;

/// Ends what a run has made.
const LIMIT: Duration = Duration::from_secs(900);

type Step = (&'static str, fn(&mut Uhyve) -> Result<String>);

const STEPS: &[Step] = &[
    ("boot", |uhyve| boot(uhyve, "-m 64MiB -c 1")),
    ("ping-ipv4", |uhyve| ping(uhyve, "192.168.1.1", "192.168.2.2")),
    ("ping-ipv6", |uhyve| ping(uhyve, "fd00:1::1", "fd00:2::2")),
    ("largest-packets", largest),
    ("tcp-ipv4", |uhyve| tcp(uhyve, "192.168.2.2")),
    ("tcp-ipv6", |uhyve| tcp(uhyve, "fd00:2::2")),
    ("cut-frames", cut),
    ("boot-2-cpus", |uhyve| boot(uhyve, "-m 64MiB -c 2")),
    ("ping-ipv4-2-cpus", |uhyve| ping(uhyve, "192.168.1.1", "192.168.2.2")),
    ("ping-ipv6-2-cpus", |uhyve| ping(uhyve, "fd00:1::1", "fd00:2::2")),
    ("no-configuration", no_configuration),
    ("no-nic", no_nic),
    ("ends", ends),
];

/// Runs the steps, a line each. Whether none failed.
pub(crate) fn run(mut arguments: Arguments) -> Result<bool> {
    let only = arguments.option("--only")?.unwrap_or_default();
    let list = arguments.flag("--list");
    arguments.end("smoke-uhyve")?;
    // Whatever is left out, a router must run.
    let wanted: Vec<&Step> =
        STEPS.iter().filter(|(name, _)| *name == "boot" || name.contains(&only)).collect();
    if list {
        STEPS.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(true);
    }
    let began = Instant::now();
    let mut uhyve = Uhyve::start(LIMIT)?;
    show("ok", "place", began, uhyve.place());
    let mut failed = 0;
    for (name, step) in wanted {
        let began = Instant::now();
        let outcome = step(&mut uhyve);
        crate::cleanup::wait_if_stopping();
        match outcome {
            Ok(said) => show("ok", name, began, &said),
            Err(error) => {
                failed += 1;
                show("FAIL", name, began, &format!("{error:#}").replace('\n', "\n        "));
                let report = report(&mut uhyve, name);
                println!("        logs: {}", report.unwrap_or_else(|e| format!("{e:#}")));
                if name.starts_with("boot") {
                    break;
                }
            }
        }
    }
    println!("{failed} failed, in {:.0} s", began.elapsed().as_secs_f32());
    Ok(failed == 0)
}

fn show(mark: &str, name: &str, began: Instant, said: &str) {
    println!("{mark:<5} {name:<26} {:>5.1} s  {said}", began.elapsed().as_secs_f32());
}

fn report(uhyve: &mut Uhyve, step: &str) -> Result<String> {
    let path = crate::rig::report_folder()?.join(format!("smoke-uhyve-{step}.txt"));
    let text = format!("{}\n{}", uhyve.console()?, uhyve.place.log());
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path.display().to_string())
}

fn boot(uhyve: &mut Uhyve, options: &str) -> Result<String> {
    let ready = uhyve.boot(options)?;
    Ok(format!("{:.2} s to: {}", ready.after.as_secs_f32(), ready.line))
}

/// From host A to the router, and through it to host B.
fn ping(uhyve: &mut Uhyve, router: &str, far: &str) -> Result<String> {
    for target in [router, far] {
        let script = format!("ip netns exec $A ping -c 5 -i 0.2 -W 5 {target}");
        let said = uhyve.check(&script)?;
        ensure!(said.contains(" 0% packet loss"), "{said}");
    }
    Ok("no loss to the router and through it".to_owned())
}

/// Packets of the most that the link may carry go through whole.
fn largest(uhyve: &mut Uhyve) -> Result<String> {
    for (target, size) in [("192.168.2.2", super::MTU - 28), ("fd00:2::2", super::MTU - 48)] {
        let said = uhyve
            .check(&format!("ip netns exec $A ping -c 3 -i 0.2 -W 5 -M do -s {size} {target}"))
            .with_context(|| format!("packets of {} bytes", super::MTU))?;
        ensure!(said.contains(" 0% packet loss"), "{said}");
    }
    Ok(format!("packets of {} bytes go through", super::MTU))
}

fn tcp(uhyve: &mut Uhyve, far: &str) -> Result<String> {
    let script = format!(
        "ip netns exec $B iperf3 -s -1 > \"$DIR/server\" 2>&1 &
sleep 1; ip netns exec $A iperf3 -c {far} -t 4 -f k --connect-timeout 5000"
    );
    let said = uhyve.place.check(&script, QUICK)?;
    let line = said.lines().find(|line| line.contains("receiver")).context("iperf3 names no receiver")?;
    let rate = line.split_whitespace().rev().nth(2).context("iperf3 names no rate")?;
    ensure!(rate.parse::<f64>().context("a rate")? > 0.0, "nothing came through: {line}");
    Ok(format!("{rate} kbit/s through the router"))
}

/// Frames longer than uhyve hands over are dropped by name, never passed on, and the console says what helps.
fn cut(uhyve: &mut Uhyve) -> Result<String> {
    let set = |mtu: usize| {
        format!(
            "for d in $TAP va vb br0; do ip -n $M link set $d mtu {mtu}; done
for n in $A $B; do ip -n $n link set eth0 mtu {mtu}; done
"
        )
    };
    let mut script = set(1500);
    for (target, size) in [("192.168.2.2", 1472), ("fd00:2::2", 1452)] {
        script.push_str(&format!(
            "ip netns exec $A ping -c 2 -i 0.2 -W 1 -M do -s {size} {target} && exit 9\n"
        ));
    }
    script.push_str(&set(super::MTU));
    script.push_str(
        "for i in 1 2 3 4 5 6 7 8 9 10; do grep -a 'uhyve 0.10 cuts frames' \"$DIR/out\" && exit 0; sleep 0.5; done; exit 8",
    );
    let said = uhyve.check(&script)?;
    let told = said.lines().last().unwrap_or_default();
    ensure!(told.contains("1486 or less"), "{told}");
    let words = told.split_once("warn").map_or(told, |(_, words)| words.trim());
    Ok(format!("\"{words}\""))
}

fn no_configuration(uhyve: &mut Uhyve) -> Result<String> {
    wrong(uhyve, "--net \"tap:$TAP\"", "--file-mapping weir.toml:/weir.toml")
}

fn no_nic(uhyve: &mut Uhyve) -> Result<String> {
    wrong(uhyve, "--file-mapping \"$DIR/weir.toml:/weir.toml\"", "there is no network device")
}

/// A router that cannot do its work says so, with `words` that help.
fn wrong(uhyve: &mut Uhyve, options: &str, words: &str) -> Result<String> {
    uhyve.end()?;
    let said = uhyve.check(&format!(
        "cd \"$DIR\"; uhyve_run -m 64MiB {options} weir.elf
until grep -aq 'no interface is configured' out || [ -e status ]; do sleep 0.05; done; cat out"
    ))?;
    let line = said.lines().find(|line| line.contains(words)).with_context(|| said.clone())?;
    Ok(format!("\"{line}\""))
}

/// Every end of the machine is uhyve's exit status (`weir_machine::hermit::status`).
fn ends(uhyve: &mut Uhyve) -> Result<String> {
    let ends = [("off", 0), ("panic", 70), ("reboot", 75)];
    for (end, expected) in ends {
        let (status, said) = uhyve.run_to_end(&format!("-m 64MiB tests.elf -- test=ends end={end}"))?;
        ensure!(status == expected, "end={end}: uhyve ended with {status}, not {expected}:\n{said}");
        ensure!(end != "panic" || said.contains("fatal on cpu0"), "no last words:\n{said}");
    }
    Ok(ends.map(|(end, status)| format!("{end} {status}")).join(", "))
}
