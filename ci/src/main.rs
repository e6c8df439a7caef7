//! `lab`: boots the router, plays the hosts around it, and checks what they see.

#![forbid(unsafe_code)]

mod arguments;
mod cleanup;
mod command;
mod console;
mod cpio;
mod frame;
mod host;
mod http;
mod linux;
mod mutate;
mod netns;
mod pcap;
mod qemu;
mod qmp;
mod random;
mod rig;
mod router;
mod table;
mod tests;

use std::process::ExitCode;

use anyhow::{Context, Result};

use arguments::Arguments;
use router::Image;

/// One subcommand.
struct Subcommand {
    name: &'static str,
    summary: &'static str,
    help: &'static str,
    run: fn(Arguments) -> Result<bool>,
}

const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand {
        name: "boot-tests",
        summary: "boot the image many times and check what it does",
        help: "lab boot-tests [--filter TEXT] [--list] [--router weir|linux] [--jobs N]

Runs every test whose name contains TEXT, a line each, two machines at a time (--jobs), and ends with
\"N passed, N failed\" and, if some could not run, \", N skipped\". Tests with real Linux hosts need root.
--router linux runs the same tests against a Linux router: they must pass there too. Captures and consoles of
failed tests are in target/lab.",
        run: boot_tests,
    },
    Subcommand {
        name: "mutate",
        summary: "send a storm of broken frames and see that the router stands",
        help: "lab mutate [--frames N] [--seed S] [--cpus N] [--router weir|linux]

Sends N mutated frames (1000000) into the router at the pace it takes them. Afterwards every ping must be answered
within a second, the memory figure on its console must be what it was, and its counters must have seen the frames.",
        run: mutate_frames,
    },
    Subcommand {
        name: "serve-http",
        summary: "serve a pseudo-random file (used inside the hosts)",
        help: "lab serve-http ADDRESS:PORT [--size BYTES] [--seed S]",
        run: serve_http,
    },
    Subcommand {
        name: "fetch",
        summary: "fetch such a file and print bytes, SHA-256 and seconds",
        help: "lab fetch ADDRESS:PORT",
        run: fetch,
    },
];

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if words.is_empty() || ["help", "--help", "-h"].contains(&words[0].as_str()) {
        let wanted = words.get(1).and_then(|name| SUBCOMMANDS.iter().find(|s| s.name == name));
        match wanted {
            Some(subcommand) => println!("{}", subcommand.help),
            None => overview(),
        }
        return ExitCode::SUCCESS;
    }
    let name = words.remove(0);
    let Some(subcommand) = SUBCOMMANDS.iter().find(|subcommand| subcommand.name == name) else {
        eprintln!("lab: there is no {name}; lab help lists what there is");
        return ExitCode::from(2);
    };
    let mut arguments = Arguments::new(words);
    if arguments.flag("--help") || arguments.flag("-h") {
        println!("{}", subcommand.help);
        return ExitCode::SUCCESS;
    }
    cleanup::install();
    let outcome = (subcommand.run)(arguments);
    cleanup::remove_all();
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lab {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn overview() {
    println!("lab: boots the router, plays the hosts around it, checks what they see\n");
    for subcommand in SUBCOMMANDS {
        println!("  lab {:<12} {}", subcommand.name, subcommand.summary);
    }
    println!(
        "\nlab help NAME tells more. The image is images/out/weir.elf, or $WEIR_IMAGE. LAB_VERBOSE=1 shows"
    );
    println!("every QEMU command line.");
}

fn image(arguments: &mut Arguments) -> Result<Image> {
    arguments.option("--router")?.map_or(Ok(Image::Weir), |text| Image::parse(&text))
}

fn boot_tests(mut arguments: Arguments) -> Result<bool> {
    let image = image(&mut arguments)?;
    let filter = arguments.option("--filter")?.unwrap_or_default();
    let jobs = arguments.number("--jobs", 2)?;
    let list = arguments.flag("--list");
    arguments.end("boot-tests")?;
    if list {
        tests::list().iter().for_each(|name| println!("{name}"));
        return Ok(true);
    }
    tests::run(image, &filter, jobs)
}

fn mutate_frames(mut arguments: Arguments) -> Result<bool> {
    let image = image(&mut arguments)?;
    let (frames, seed) = (arguments.number("--frames", 1_000_000)?, arguments.number("--seed", 1u64)?);
    let cpus = arguments.number("--cpus", 2)?;
    arguments.end("mutate")?;
    let rig = rig::FrameRig::start(image, router::Config::two_ports(), 2, |setup| {
        setup.cpus = cpus;
        setup.limit = std::time::Duration::from_secs(1800);
    })?;
    println!("{frames} mutated frames, seed {seed} ...");
    rig.check("mutate", |rig| {
        let report = mutate::storm(rig, frames, seed)?;
        println!(
            "ok: {} frames in {:.1} s, {} counted by the router's NICs; slowest ping afterwards {:.1} ms; memory unchanged",
            report.frames,
            report.seconds,
            report.counted,
            report.ping.as_secs_f64() * 1e3
        );
        Ok(())
    })?;
    Ok(true)
}

fn serve_http(mut arguments: Arguments) -> Result<bool> {
    let (size, seed) = (arguments.number("--size", 1 << 20)?, arguments.number("--seed", 1u64)?);
    let address = arguments.word().context("lab serve-http ADDRESS:PORT")?.parse().context("ADDRESS:PORT")?;
    arguments.end("serve-http")?;
    http::serve(address, &http::content(size, seed))?;
    Ok(true)
}

fn fetch(mut arguments: Arguments) -> Result<bool> {
    let address = arguments.word().context("lab fetch ADDRESS:PORT")?.parse().context("ADDRESS:PORT")?;
    arguments.end("fetch")?;
    let (body, seconds) = http::fetch(address)?;
    println!("{} {} {seconds:.6}", body.len(), http::digest(&body));
    Ok(true)
}
