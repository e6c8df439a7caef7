//! `lab`: boots the router, plays the hosts around it, and checks what they see.

#![forbid(unsafe_code)]

mod arguments;
mod bench;
mod bench_api;
mod calls;
mod cleanup;
mod command;
mod console;
mod cpio;
mod depth;
mod disassembly;
mod disk;
mod doctor;
mod echo;
mod filters;
mod flows;
mod forward;
mod frame;
mod gdb;
mod graph;
mod host;
mod http;
mod instructions;
mod ledger;
mod line;
mod linux;
mod linux64;
mod locks;
mod mutate;
mod netns;
mod pcap;
mod peers;
mod qemu;
mod qmp;
mod random;
mod recorded;
mod relay;
mod release;
mod rig;
mod router;
mod run;
mod size;
mod smoke;
mod soak;
mod symbolize;
mod table;
mod tests;
mod trace;
mod trunk;
mod uhyve;
mod web;
mod xen;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

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
        name: "run",
        summary: "boot the router between two hosts, show that it works, leave its console to you",
        help: "lab run [--cpus N] [--memory MIB] [--config FILE] [--frames] [--no-console] [--router weir|linux]

Boots the router with images/weir.toml (or FILE, with the same addresses) between two hosts, pings and transfers a
file through it in both families, and prints how long everything took. As root the hosts are Linux network
namespaces; otherwise, or with --frames, the lab's own. With a terminal the router then runs on with its console
attached: Ctrl-] leaves. Exits with 1 if anything failed.",
        run: run_router,
    },
    Subcommand {
        name: "doctor",
        summary: "check that everything the lab needs is installed",
        help: "lab doctor [--install]

Lists the programs the lab uses and what is missing, with the line that installs it. --install runs that line; it
needs root.",
        run: doctor,
    },
    Subcommand {
        name: "disk",
        summary: "make the disk image",
        help: "lab disk [--config FILE] [--folder FOLDER]

Makes weir.raw and weir.qcow2 in FOLDER (images/out): the router with GRUB for BIOS and UEFI, and FILE (images/weir.toml) as
the configuration on its FAT partition. The same input gives the same bytes.",
        run: make_disk,
    },
    Subcommand {
        name: "release",
        summary: "put together what is handed out",
        help: "lab release

Fills images/out/release with weir.elf, weir.qcow2, weir.toml, a bill of materials (CycloneDX) and SHA256SUMS, from what make
disk built. Installs cargo-cyclonedx into target/tools if it is not there.",
        run: |arguments| arguments.end("release").and_then(|()| release::make()).map(|()| true),
    },
    Subcommand {
        name: "reproducible",
        summary: "build this commit twice and compare",
        help: "lab reproducible

Clones this commit into two folders, builds the image in each, and compares image and disk. Exits with 1 if they differ.",
        run: |arguments| arguments.end("reproducible").and_then(|()| release::reproduce()),
    },
    Subcommand {
        name: "size",
        summary: "what takes room in the image, crate by crate",
        help: "lab size

Sums the symbols of images/out/weir.debug by crate. Exits with 1 if the stripped image has more than 2 MiB.",
        run: |arguments| {
            arguments.end("size")?;
            size::run(&router::weir_elf()?, &router::weir_debug()?)
        },
    },
    Subcommand {
        name: "filters",
        summary: "compare tcpdump's programs with those recorded for the tests of filters",
        help: "lab filters [--record]

Has tcpdump compile every filter of bpf/tests/expression/filters.txt and compares with tcpdump.txt beside it, which the tests of
bpf run against. --record writes it. Needs root, to ask for programs for an interface. Exits with 1 if they differ, as they may
with another version of tcpdump.",
        run: |mut arguments| {
            let purpose = if arguments.flag("--record") { filters::Purpose::Record } else { filters::Purpose::Check };
            arguments.end("filters")?;
            filters::run(purpose)
        },
    },
    Subcommand {
        name: "smoke",
        summary: "boot the one image everywhere, one table",
        help: "lab smoke [--only TEXT]

Boots the image on QEMU's q35, pc and microvm, from the disk by BIOS and by UEFI, on Xen and on uhyve, and prints how long each
took to the ready line. --only boots the targets whose name has TEXT. Exits with 1 if one fails.",
        run: smoke::run,
    },
    Subcommand {
        name: "boot-tests",
        summary: "boot the image many times and check what it does",
        help: "lab boot-tests [--filter TEXT] [--list] [--router weir|linux] [--jobs N]

Runs every test whose name contains TEXT, a line each, three machines at a time (--jobs), and ends with
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
        name: "flood",
        summary: "drive the router as fast as it takes frames",
        help: "lab flood [--seconds N] [--bytes N] [--cpus N] [--router weir|linux]

Sends UDP of 64 flows through the router in both families, N seconds each (3), in frames of N bytes (60), and prints
the packets a second that came out.",
        run: flood,
    },
    Subcommand {
        name: "bench-vm",
        summary: "measure the router against the Linux router VM",
        help: "lab bench-vm [--rounds N] [--seconds N] [--cpus N] [--nic NAME=VALUE,...] [--only weir|linux]
             [--instructions [--record | --check]]

Under the same QEMU (TCG), sockets and generator, the two in turn: power-on to first forwarded packet, packets a second
and whose CPU time they took, and, with -icount, guest instructions to the ready line and for a forwarded packet when
the router finds one or 64 at once (--instructions: these only). --record writes the router's counts to
ci/instructions.txt, --check fails if one is over 3 % above its record.",
        run: bench,
    },
    Subcommand {
        name: "profile",
        summary: "show where a packet's instructions go",
        help: "lab profile [--burst N] [--family 4|6] [--rows N]

Under QEMU's -icount, every instruction of the router from wake-up to sleep, N packets found at once (64): instructions a
packet by file and by function, inlined ones by themselves.",
        run: profile,
    },
    Subcommand {
        name: "symbolize",
        summary: "name the functions of a backtrace on a console",
        help: "lab symbolize [images/out/weir.debug] < console.txt

Copies its input and names, after every line of a backtrace, the function, file and line of its address, with
inlined callers. Exits with 1 if there was no backtrace.",
        run: symbolize_console,
    },
    Subcommand {
        name: "trace",
        summary: "make a time line of the trace on a console",
        help: "lab trace [FILE]

Reads a console's text from FILE or standard input, with what the router's command `trace` or a fatal report printed,
and prints the events of all CPUs in the order of time. Exits with 1 if there were none.",
        run: show_trace,
    },
    Subcommand {
        name: "graph",
        summary: "check the arrows between the crates, where unsafe may stand, what is not MP-safe",
        help: "lab graph

Compares the workspace's dependencies with the design's arrows and looks for #![forbid(unsafe_code)] in every crate
but machine, sync and netif. Lists the NOT_MP_SAFE: comments in the source, of which there may be as many as
ci/src/ledger.rs says. Names each offender; exits with 1 if there is one.",
        run: check_graph,
    },
    Subcommand {
        name: "soak",
        summary: "many flows over four CPUs, and configuration changes, for as long as you like",
        help: "lab soak [--minutes N] [--packets N]

A router with four CPUs and four queues a NIC: for N minutes (10), 16 flows in both families and directions, N packets
of each flow a time (20000), while its configuration changes twice a second. No datagram may be lost or overtaken, no memory
leak. Before, a round spread by the device's RSS; after, 100 configurations with an interface that comes and goes while
hosts ping. Needs root.",
        run: soak,
    },
    Subcommand {
        name: "bench-api",
        summary: "the API with a thousand requests in flight while the router forwards",
        help: "lab bench-api [--cpus N] [--connections N] [--requests N] [--packets N] [--icount]

GET /api/v1/interfaces by N connections at once (1000), N requests in all (20000): at an idle router, and at one that forwards 16
flows of N datagrams (20000) over and over as fast as they get through. Latencies, where the router's time goes, packets lost
(none may be), memory. With 1, 2 and 4 CPUs unless --cpus says how many. With --icount QEMU counts instructions in the place of
time, on one CPU, and what a request takes of each of the router's tasks is told, 300 one at a time and all at once. Needs root.",
        run: bench_api,
    },
    Subcommand {
        name: "api-load",
        summary: "ask the API very often at once (used inside the hosts)",
        help: "lab api-load ADDRESS:PORT --token TOKEN [--path PATH] [--connections N] [--requests N]",
        run: api_load,
    },
    Subcommand {
        name: "api-cut",
        summary: "break a connection to the API (used inside the hosts)",
        help: "lab api-cut ADDRESS:PORT --requests FILE [--count BYTES] [--wait-us N] [--reset]",
        run: api_cut,
    },
    Subcommand {
        name: "send-flows",
        summary: "send numbered datagrams in many flows (used inside the hosts)",
        help: "lab send-flows ADDRESS:PORT [--flows N] [--count N]",
        run: send_flows,
    },
    Subcommand {
        name: "receive-flows",
        summary: "receive such datagrams and keep a tally (used inside the hosts)",
        help: "lab receive-flows ADDRESS:PORT",
        run: receive_flows,
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
    Subcommand {
        name: "echo",
        summary: "exchange bytes with an echo server, or wait for one to connect (used inside the hosts)",
        help: "lab echo ADDRESS:PORT [--size BYTES] [--connections N] [--udp COUNT] [--wait]",
        run: echo,
    },
    Subcommand {
        name: "xen",
        summary: "boot Xen with its dom0 and run a script there",
        help: "lab xen [--guest weir|linux] [--cpus N] [--memory MIB] [--minutes N] SCRIPT

Boots Xen and a Linux dom0 under QEMU, with --guest the router between two hosts (network namespaces r-a and r-b of
dom0), runs SCRIPT in dom0's shell and prints what it says. Everything ends after N minutes (10). Logs go to
target/lab/xen.txt. Needs the packages that lab doctor names.",
        run: xen::shell,
    },
    Subcommand {
        name: "smoke-xen",
        summary: "the router as a guest of real Xen, step by step",
        help: "lab smoke-xen [--guest weir|linux] [--memory MIB] [--cycles N] [--only TEXT] [--all] [--list]

Boots Xen and a Linux dom0 under QEMU (no hardware virtualisation needed, no root) and the router as a PVH guest between
two hosts: boots it with 1 and 2 vCPUs, with its configuration as boot module and in the store, pings, transfers and
floods through it in both families, replaces its configuration, plugs vifs in and out (N rounds, 20, before and after
which its holdings must be the same), takes backends away and back (as often, 10 times at most), changes an MTU and a
carrier, lets buffers run out, shuts it down. A line a step; --only runs the steps whose name has TEXT, --all those too
that take a minute each: a storm of events, and a save that must be refused.
--guest linux proves the lab: a Linux router must pass the same steps, but for what only Weir has. Logs of failed steps
are in target/lab.",
        run: xen::smoke,
    },
    Subcommand {
        name: "smoke-uhyve",
        summary: "the router on uhyve, step by step",
        help: "lab smoke-uhyve [--only TEXT] [--list]

Builds uhyve into the user's cache if it is not there, and runs the router on it between two hosts on one bridge, each in
a subnet of its own: with 1 and 2 CPUs, pings and TCP through it in both families, frames that uhyve cuts, no
configuration, too little memory. On this machine's KVM if that can run the image and the lab is root; else in a Linux
guest under QEMU, without KVM or root. A line a step; --only runs the steps whose name has TEXT. Logs of failed steps
are in target/lab.",
        run: uhyve::smoke,
    },
    Subcommand {
        name: "web",
        summary: "the router's web page in Chromium, step by step",
        help: "lab web [--list] [--only simulated|booted]

Serves the page and the API with a simulated router, and drives headless Chromium through every part of the page: text,
keyboard, validation, commit with confirmation, light and dark, a phone's width, a router that goes away. Then boots the router
between two hosts: the page must show the rates and counts that the hosts have, and find the router again that a commit has cut
off. Nothing may be asked of anybody else, nothing may end on the browser's console. A line a step; pictures land in
docs/screenshots, those of failed steps in target/lab.",
        run: web::run,
    },
    Subcommand {
        name: "bench-host",
        summary: "measure the stack alone on this host: packets a second, cycles and instructions a packet",
        help: "lab bench-host [--all] [--turns N] [--cores A,B] [--record]

Forwards frames between ports in memory (netstack/benches/host): tables, flows, batches, frame sizes, one and two CPUs,
one thing changed at a time, or with --all every combination (N turns of five samples a case, 40). Then the tables alone,
instructions a packet by source file (valgrind), and what handing a packet to another CPU costs. Prints tables and writes
target/lab/host.tsv; --record puts both into docs/performance.",
        run: bench_host,
    },
    Subcommand {
        name: "bench-peers",
        summary: "measure the stack against DPDK and Linux on this host",
        help: "lab bench-peers [--turns N] [--cores A,B] [--record]

Builds the programs in peers with Debian's DPDK and asks them and ours for samples in turn, N times a case (60), on the
same cores (0,1): forwarding in both families by table, flows, batch and CPUs, look-ups and changes of tables, rings,
instructions a packet; dpdk-test-fib; as root also Linux between veth devices. Then the design's bars beside what was
measured. Prints tables and writes target/lab/peers.tsv; --record puts both and plots into docs/performance. Installs
DPDK if it is root, otherwise says how.",
        run: bench_peers,
    },
    Subcommand {
        name: "bench-xen",
        summary: "measure the router against a Linux router, both guests of one Xen",
        help: "lab bench-xen [--rounds N] [--seconds N] [--cpus N] [--memory MIB] [--only weir|linux]

Boots Xen under QEMU with both routers as PVH guests between two hosts each, measures them in turn (the other is paused),
N rounds of N seconds (3 of 5) a kind of traffic: packets a second in both families, TCP with offloads, and the CPU time
that guest and dom0 spent on it. Under emulation ratios count, not rates.",
        run: xen::bench,
    },
    Subcommand {
        name: "xen-agent",
        summary: "take commands from the lab (used inside dom0)",
        help: "lab xen-agent DEVICE",
        run: xen::agent,
    },
    Subcommand {
        name: "xen-source",
        summary: "flood a sink with datagrams (used inside dom0)",
        help: "lab xen-source ADDRESS:PORT CREDIT_SOCKET [--seconds N] [--window PACKETS]",
        run: xen::source,
    },
    Subcommand {
        name: "xen-sink",
        summary: "receive such a flood (used inside dom0)",
        help: "lab xen-sink ADDRESS:PORT CREDIT_SOCKET",
        run: xen::sink,
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
    cleanup::wait_if_stopping();
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
        "
lab help NAME tells more. The environment:
  WEIR_IMAGE=FILE      the router image, instead of images/out/weir.elf
  LAB_MACHINE=microvm  machines without PCI wherever a test does not name its own
  LAB_VERBOSE=1        shows every QEMU command line"
    );
}

fn image(arguments: &mut Arguments) -> Result<Image> {
    arguments.option("--router")?.map_or(Ok(Image::Weir), |text| Image::parse(&text))
}

fn run_router(mut arguments: Arguments) -> Result<bool> {
    let options = run::Options {
        image: image(&mut arguments)?,
        cpus: arguments.number("--cpus", 2)?,
        memory_mib: arguments.number("--memory", 128)?,
        config: arguments.option("--config")?.map(Into::into),
        frames: arguments.flag("--frames"),
        console: !arguments.flag("--no-console"),
    };
    arguments.end("run")?;
    run::run(&options)
}

fn doctor(mut arguments: Arguments) -> Result<bool> {
    let install = if arguments.flag("--install") { doctor::Install::Yes } else { doctor::Install::No };
    arguments.end("doctor")?;
    doctor::check(install)
}

fn make_disk(mut arguments: Arguments) -> Result<bool> {
    let images = router::workspace()?.join("images");
    let path =
        |option: Option<String>, default: &str| option.map_or_else(|| images.join(default), Into::into);
    let config = path(arguments.option("--config")?, "weir.toml");
    let folder = path(arguments.option("--folder")?, "out");
    arguments.end("disk")?;
    disk::make(&router::weir_elf()?, &config, &folder)?;
    Ok(true)
}

fn flood(mut arguments: Arguments) -> Result<bool> {
    let image = image(&mut arguments)?;
    let (seconds, bytes) = (arguments.number("--seconds", 3)?, arguments.number("--bytes", 60)?);
    let cpus = arguments.number("--cpus", 1)?;
    arguments.end("flood")?;
    bench::flood(image, cpus, seconds, bytes)?;
    Ok(true)
}

fn bench(mut arguments: Arguments) -> Result<bool> {
    let images = match arguments.option("--only")? {
        Some(text) => vec![Image::parse(&text)?],
        None => vec![Image::Weir, Image::Linux],
    };
    let purpose = match (arguments.flag("--record"), arguments.flag("--check")) {
        (true, _) => recorded::Purpose::Record,
        (false, true) => recorded::Purpose::Check,
        (false, false) => recorded::Purpose::Show,
    };
    let options = bench::Options {
        images,
        purpose,
        rounds: arguments.number("--rounds", 5)?,
        window: std::time::Duration::from_secs_f64(arguments.number("--seconds", 2.0)?),
        cpus: arguments.number("--cpus", 1)?,
        nic: arguments.option("--nic")?.into_iter().collect(),
        instructions_only: arguments.flag("--instructions"),
    };
    arguments.end("bench-vm")?;
    bench::bench(&options)
}

fn profile(mut arguments: Arguments) -> Result<bool> {
    let (burst, rows) = (arguments.number("--burst", 64)?, arguments.number("--rows", 40)?);
    let load = match arguments.number("--family", 4)? {
        6 => bench::LOADS[1],
        _ => bench::LOADS[0],
    };
    arguments.end("profile")?;
    instructions::profile(load, burst, rows)?;
    Ok(true)
}

fn peers_options(arguments: &mut Arguments, turns: usize) -> Result<peers::Options> {
    let cores = arguments.option("--cores")?.unwrap_or_else(|| "0,1".to_owned());
    let numbers = cores.split_once(',').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    Ok(peers::Options {
        turns: arguments.number("--turns", turns)?.max(1),
        cores: numbers.with_context(|| format!("--cores needs two numbers as in 0,1, not {cores}"))?,
        record: arguments.flag("--record"),
        all: false,
    })
}

fn bench_host(mut arguments: Arguments) -> Result<bool> {
    let mut options = peers_options(&mut arguments, 40)?;
    options.all = arguments.flag("--all");
    arguments.end("bench-host")?;
    peers::bench_host(&options)
}

fn bench_peers(mut arguments: Arguments) -> Result<bool> {
    let options = peers_options(&mut arguments, 60)?;
    arguments.end("bench-peers")?;
    peers::bench_peers(&options)
}

fn symbolize_console(mut arguments: Arguments) -> Result<bool> {
    let image = match arguments.word() {
        Some(path) => path.into(),
        None => router::workspace()?.join("images/out/weir.debug"),
    };
    arguments.end("symbolize")?;
    let text = std::io::read_to_string(std::io::stdin()).context("reading the console's text")?;
    print!("{}", symbolize::symbolize(&image, &text)?);
    Ok(symbolize::has_backtrace(&text))
}

fn show_trace(mut arguments: Arguments) -> Result<bool> {
    let file = arguments.word();
    arguments.end("trace")?;
    let bytes = match file {
        Some(path) => std::fs::read(&path).with_context(|| format!("reading {path}"))?,
        None => {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes)
                .context("reading the console's text")?;
            bytes
        }
    };
    let trace = trace::Trace::read(&String::from_utf8_lossy(&bytes));
    print!("{}", trace.timeline());
    Ok(!trace.records.is_empty())
}

fn check_graph(arguments: Arguments) -> Result<bool> {
    arguments.end("graph")?;
    let workspace = router::workspace()?;
    let mut violations = graph::violations(&workspace)?;
    let ledger = ledger::read(&workspace)?;
    print!("{}", ledger::text(&ledger));
    violations.extend(ledger::violation(ledger.len()));
    violations.iter().for_each(|violation| println!("{violation}"));
    if violations.is_empty() {
        println!("ok: the crates' arrows and the places of unsafe are as designed");
    }
    Ok(violations.is_empty())
}

fn boot_tests(mut arguments: Arguments) -> Result<bool> {
    let image = image(&mut arguments)?;
    let filter = arguments.option("--filter")?.unwrap_or_default();
    let jobs = arguments.number("--jobs", 3)?;
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
            "ok: {} frames in {:.1} s, {} counted by the router's NICs; slowest ping afterwards {:.1} ms; {}",
            report.frames,
            report.seconds,
            report.counted,
            report.ping.as_secs_f64() * 1e3,
            report.memory.map_or("no memory figure", |_| "memory as before")
        );
        Ok(())
    })?;
    Ok(true)
}

fn soak(mut arguments: Arguments) -> Result<bool> {
    let (minutes, packets) =
        (arguments.number("--minutes", 10u64)?, arguments.number("--packets", 20_000u64)?);
    arguments.end("soak")?;
    let rate = tests::multicore::device_spreads(Image::Weir, "soak", packets.min(20_000))?;
    println!("spread by the device's hash: in order, {rate:.0} a second");
    soak::soak(minutes, packets)?;
    let rig = rig::FrameRig::start(Image::Weir, router::Config::two_ports(), 3, |setup| {
        setup.cpus = 4;
        setup.limit = std::time::Duration::from_secs(1200);
    })?;
    rig.check("soak", |rig| tests::multicore::replaced_while_pinging(rig, 50))?;
    println!("100 configurations that add and remove an interface, no ping lost");
    Ok(true)
}

fn bench_api(mut arguments: Arguments) -> Result<bool> {
    let cpus = arguments.number("--cpus", 0usize)?;
    let (connections, requests) =
        (arguments.number("--connections", 1000)?, arguments.number("--requests", 20_000)?);
    let packets = arguments.number("--packets", 20_000)?;
    let icount = arguments.flag("--icount");
    arguments.end("bench-api")?;
    if icount {
        ensure!(cpus <= 1, "--icount counts on one CPU: leave --cpus {cpus} out");
        bench_api::count(connections, requests)?;
        return Ok(true);
    }
    for cpus in if cpus == 0 { vec![1, 2, 4] } else { vec![cpus] } {
        bench_api::bench(cpus, connections, requests, packets)?;
    }
    Ok(true)
}

fn api_load(mut arguments: Arguments) -> Result<bool> {
    let token = arguments.option("--token")?.context("--token TOKEN is missing")?;
    let path = arguments.option("--path")?.unwrap_or_else(|| "/api/v1/status".to_owned());
    let (connections, requests) =
        (arguments.number("--connections", 1000)?, arguments.number("--requests", 5000)?);
    let address = arguments.word().context("lab api-load ADDRESS:PORT")?.parse().context("ADDRESS:PORT")?;
    arguments.end("api-load")?;
    calls::load(address, &token, &path, connections, requests)?.print();
    Ok(true)
}

fn api_cut(mut arguments: Arguments) -> Result<bool> {
    let file = arguments.option("--requests")?.context("--requests FILE is missing")?;
    let (count, wait_us) = (arguments.number("--count", usize::MAX)?, arguments.number("--wait-us", 0u64)?);
    let reset = arguments.flag("--reset");
    let address = arguments.word().context("lab api-cut ADDRESS:PORT")?.parse().context("ADDRESS:PORT")?;
    arguments.end("api-cut")?;
    let requests = std::fs::read(&file).with_context(|| format!("reading {file}"))?;
    calls::cut(address, &requests, count, std::time::Duration::from_micros(wait_us), reset)?;
    Ok(true)
}

fn send_flows(mut arguments: Arguments) -> Result<bool> {
    let (flows, count) = (arguments.number("--flows", 16)?, arguments.number("--count", 1000)?);
    let address = arguments.word().context("lab send-flows ADDRESS:PORT")?.parse().context("ADDRESS:PORT")?;
    arguments.end("send-flows")?;
    flows::print(&flows::send(address, flows, count)?);
    Ok(true)
}

fn receive_flows(mut arguments: Arguments) -> Result<bool> {
    let address =
        arguments.word().context("lab receive-flows ADDRESS:PORT")?.parse().context("ADDRESS:PORT")?;
    arguments.end("receive-flows")?;
    flows::receive(address)?;
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

fn echo(mut arguments: Arguments) -> Result<bool> {
    let (size, connections) = (arguments.number("--size", 1 << 20)?, arguments.number("--connections", 1)?);
    let (count, wait) = (arguments.number("--udp", 0usize)?, arguments.flag("--wait"));
    let address = arguments.word().context("lab echo ADDRESS:PORT")?.parse().context("ADDRESS:PORT")?;
    arguments.end("echo")?;
    if wait {
        echo::answer(address, size)?;
    } else if count > 0 {
        echo::datagrams(address, count)?;
    } else {
        println!("{:.3}", echo::exchange(address, size, connections)?);
    }
    Ok(true)
}
