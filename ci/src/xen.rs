//! Xen in a machine of its own, without hardware virtualisation: dom0 from this machine's packages, the router as its
//! PVH guest, the hosts as network namespaces of dom0.

mod account;
mod agent;
mod bench;
mod dom0;
mod domu;
mod flood;
mod guest;
mod initrd;
mod smoke;
mod spread;
mod traffic;
mod upsets;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::arguments::Arguments;
use crate::router::Image;
use dom0::Dom0;
use guest::{Guest, Hosts, Plan};
pub(crate) use initrd::{hypervisor, kernel, tools};

/// `lab xen`: boots Xen, if wanted with a guest, and runs one script in dom0.
pub(crate) fn shell(mut arguments: Arguments) -> Result<bool> {
    let image = arguments.option("--guest")?.map(|text| Image::parse(&text)).transpose()?;
    let cpus = arguments.number("--cpus", 1)?;
    let memory = arguments.option("--memory")?;
    let limit = Duration::from_secs(60 * arguments.number("--minutes", 10u64)?);
    let script = arguments.word().context("lab xen [--guest weir|linux] SCRIPT")?;
    arguments.end("xen")?;
    let began = Instant::now();
    let mut dom0 = Dom0::start(image.as_slice(), limit)?;
    eprintln!("dom0 after {:.1} s", began.elapsed().as_secs_f64());
    if let Some(image) = image {
        let hosts = Hosts::make(&mut dom0, "r")?;
        let mut plan = Plan::new(image, "router");
        plan.cpus = cpus;
        if let Some(memory) = memory {
            plan.memory_mib = memory.parse().context("--memory needs a number")?;
        }
        let guest = Guest::create(&mut dom0, &plan, &hosts)?;
        match guest.ready(&mut dom0) {
            Ok((seconds, line)) => eprintln!("the guest after {seconds:.1} s: {line}"),
            Err(error) => eprintln!("the guest: {error:#}"),
        }
    }
    let output = dom0.run(&script, limit)?;
    print!("{}", output.stdout);
    eprint!("{}", output.stderr);
    eprintln!("exit code {}; logs: {}", output.code, dom0.report("xen")?);
    Ok(output.code == 0)
}

/// `lab smoke-xen`.
pub(crate) fn smoke(mut arguments: Arguments) -> Result<bool> {
    let image = arguments.option("--guest")?.map_or(Ok(Image::Weir), |text| Image::parse(&text))?;
    let memory = arguments.option("--memory")?.map(|text| text.parse().context("--memory needs a number"));
    let options = smoke::Options {
        image,
        memory_mib: memory.transpose()?,
        cycles: arguments.number("--cycles", 20)?,
        only: arguments.option("--only")?.unwrap_or_default(),
        all: arguments.flag("--all"),
    };
    let list = arguments.flag("--list");
    arguments.end("smoke-xen")?;
    if list {
        smoke::list(image).iter().for_each(|name| println!("{name}"));
        return Ok(true);
    }
    smoke::run(options)
}

/// `lab bench-xen`.
pub(crate) fn bench(mut arguments: Arguments) -> Result<bool> {
    let images = match arguments.option("--only")? {
        Some(text) => vec![Image::parse(&text)?],
        None => vec![Image::Weir, Image::Linux],
    };
    let memory = arguments.option("--memory")?.map(|text| text.parse().context("--memory needs a number"));
    let options = bench::Options {
        images,
        rounds: arguments.number("--rounds", 3)?,
        seconds: arguments.number("--seconds", 5.0)?,
        cpus: arguments.number("--cpus", 1)?,
        memory_mib: memory.transpose()?,
    };
    arguments.end("bench-xen")?;
    bench::run(&options)
}

/// `lab xen-agent`: dom0's end of the lab's commands.
pub(crate) fn agent(mut arguments: Arguments) -> Result<bool> {
    let device = arguments.word().context("lab xen-agent DEVICE")?;
    arguments.end("xen-agent")?;
    agent::serve(Path::new(&device))?;
    Ok(true)
}

/// `lab xen-source`: one end of a flood.
pub(crate) fn source(mut arguments: Arguments) -> Result<bool> {
    let (window, seconds) = (arguments.number("--window", 256)?, arguments.number("--seconds", 5.0)?);
    let usage = "lab xen-source ADDRESS:PORT CREDIT_SOCKET";
    let address = arguments.word().context(usage)?.parse().context(usage)?;
    let credit = arguments.word().context(usage)?;
    arguments.end("xen-source")?;
    println!("{}", flood::source(address, Path::new(&credit), window, seconds)?.line());
    Ok(true)
}

/// `lab xen-sink`: the other end.
pub(crate) fn sink(mut arguments: Arguments) -> Result<bool> {
    let usage = "lab xen-sink ADDRESS:PORT CREDIT_SOCKET";
    let address = arguments.word().context(usage)?.parse().context(usage)?;
    let credit = arguments.word().context(usage)?;
    arguments.end("xen-sink")?;
    flood::sink(address, Path::new(&credit))?;
    Ok(true)
}
