//! What a packet costs a filter: interpreter and machine code, and Linux's compiler of the same program in turn with them.
//! `cargo bench -p weir-bpf` prints the table of docs/performance/filters.md, and with `-- --record` replaces it there; it wants
//! one idle core, and gcc for Linux's part.
#![allow(missing_docs)]

use rustix::thread::{CpuSet, sched_setaffinity};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;
use weir_bpf::{Filter, Instruction, Packet, Program, compile};
use weir_machine::code::Code;

/// Turns of everybody, and runs or sends a turn.
const TURNS: usize = 100;
const RUNS: u32 = 20_000;
const SENDS: u32 = 1000;
/// How often Linux's long filters hold the program. More would not stay in its nearest cache.
const COPIES: usize = 17;

const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// `tcpdump -dd 'tcp port 80 and host 10.0.0.1'`, libpcap 1.10.
const WEB: [Instruction; 18] = [
    instruction(0x28, 0, 0, 12),
    instruction(0x15, 15, 0, 0x86dd),
    instruction(0x15, 0, 14, 0x800),
    instruction(0x30, 0, 0, 23),
    instruction(0x15, 0, 12, 6),
    instruction(0x28, 0, 0, 20),
    instruction(0x45, 10, 0, 0x1fff),
    instruction(0xb1, 0, 0, 14),
    instruction(0x48, 0, 0, 14),
    instruction(0x15, 2, 0, 80),
    instruction(0x48, 0, 0, 16),
    instruction(0x15, 0, 5, 80),
    instruction(0x20, 0, 0, 26),
    instruction(0x15, 2, 0, 0x0a00_0001),
    instruction(0x20, 0, 0, 30),
    instruction(0x15, 0, 1, 0x0a00_0001),
    instruction(0x06, 0, 0, 262_144),
    instruction(0x06, 0, 0, 0),
];
const NOTHING: [Instruction; 1] = [instruction(0x06, 0, 0, 0)];

/// A frame of 60 bytes, and whether the filter wants it.
struct Case {
    name: &'static str,
    frame: [u8; 60],
    wanted: bool,
}

fn cases() -> [Case; 6] {
    let frame = |protocol: u8, source: [u8; 4], ports: [u16; 2]| {
        let mut frame = [0; 60];
        frame[12] = 8;
        frame[14] = 0x45;
        frame[23] = protocol;
        frame[26..30].copy_from_slice(&source);
        frame[30..34].copy_from_slice(&[192, 0, 2, 9]);
        frame[34..36].copy_from_slice(&ports[0].to_be_bytes());
        frame[36..38].copy_from_slice(&ports[1].to_be_bytes());
        frame
    };
    let (host, other) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let mut arp = [0; 60];
    arp[12..14].copy_from_slice(&[8, 6]);
    let mut answered = frame(6, other, [4660, 80]);
    answered[30..34].copy_from_slice(&host);
    [
        Case {
            name: "match, by the first address and port",
            frame: frame(6, host, [80, 4660]),
            wanted: true,
        },
        Case { name: "match, by the second ones", frame: answered, wanted: true },
        Case { name: "miss: ARP", frame: arp, wanted: false },
        Case { name: "miss: UDP", frame: frame(17, host, [80, 4660]), wanted: false },
        Case { name: "miss: another port", frame: frame(6, host, [443, 4660]), wanted: false },
        Case { name: "miss: another host", frame: frame(6, other, [4660, 80]), wanted: false },
    ]
}

/// Nanoseconds a run.
fn time(filter: &dyn Filter, packet: &Packet<'_>) -> f64 {
    let start = Instant::now();
    for _ in 0..RUNS {
        black_box(filter.run(black_box(packet)));
    }
    start.elapsed().as_nanos() as f64 / f64::from(RUNS)
}

/// `WEB` `copies` times, each going on to the next whatever it found, and then no.
fn repeated(copies: usize) -> Vec<Instruction> {
    let body = &WEB[..16];
    let mut all = Vec::new();
    for _ in 0..copies {
        all.extend(body.iter().enumerate().map(|(at, &one)| {
            let shorter = |skip: u8| usize::from(skip).min(body.len() - 1 - at) as u8;
            Instruction { jt: shorter(one.jt), jf: shorter(one.jf), ..one }
        }));
    }
    all.extend(NOTHING);
    all
}

/// `peers/bpf.c`, running.
struct Linux {
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    child: Child,
}

impl Linux {
    fn start(core: usize) -> Option<Linux> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bpf-peer");
        let built = Command::new("gcc")
            .args(["-O3", "-march=native", "-Wall", "-o"])
            .arg(&program)
            .arg(folder.join("peers/bpf.c"))
            .status();
        if !built.is_ok_and(|status| status.success()) {
            return None;
        }
        let mut child = Command::new(program)
            .arg(core.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let (requests, answers) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        let mut linux = Linux { requests, answers, child };
        (linux.line() == "ready").then_some(linux)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("peers/bpf.c answers");
        line.trim().to_owned()
    }

    /// Nanoseconds a send.
    fn time(&mut self, program: &[Instruction], frame: &[u8]) -> f64 {
        let digits: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        let words: String =
            program.iter().map(|one| format!(" {} {} {} {}", one.code, one.jt, one.jf, one.k)).collect();
        writeln!(self.requests, "{SENDS} {digits} {}{words}", program.len()).expect("peers/bpf.c reads");
        self.line().parse().expect("nanoseconds")
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The quickest of some samples, which is the least disturbed one.
struct Best(f64);

impl Best {
    fn new() -> Best {
        Best(f64::INFINITY)
    }

    fn see(&mut self, sample: f64) {
        self.0 = self.0.min(sample);
    }
}

/// What it is measured on.
fn machine() -> String {
    let file = |name: &str| std::fs::read_to_string(name).unwrap_or_default();
    let cpu = file("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let load = file("/proc/loadavg");
    format!(
        "A machine of {cores} cores ({}), Linux {}, load {}.",
        model.unwrap_or("unknown"),
        file("/proc/sys/kernel/osrelease").trim(),
        load.split(' ').next().unwrap_or("unknown")
    )
}

/// Replaces the figures in the documentation.
fn record(figures: &str) {
    const MARK: &str = "<!-- filters -->";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance/filters.md");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut parts: Vec<&str> = text.split(MARK).collect();
    assert_eq!(parts.len(), 3, "{}: figures stand between two {MARK}", file.display());
    let figures = format!("\n{figures}\n");
    parts[1] = &figures;
    std::fs::write(&file, parts.join(MARK)).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

fn main() {
    // Before it stays on one core, and so has no other.
    let machine = machine();
    let core = std::thread::available_parallelism().map_or(0, |cores| cores.get() - 1);
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).unwrap_or_else(|error| panic!("core {core}: {error}"));

    let program = Program::new(&WEB).expect("a right program");
    let code = Code::load(compile(program.clone())).expect("pages for code");
    let nothing = Program::new(&NOTHING).expect("a right program");
    let nothing = Code::load(compile(nothing)).expect("pages for code");
    let mut linux = Linux::start(core);
    let (once, many) = (repeated(1), repeated(COPIES));

    let mut lines = vec![
        format!(
            "Nanoseconds a packet of 60 bytes, the quickest of {TURNS} turns; {} bytes of code. {}",
            compile(program.clone()).code().len(),
            machine
        ),
        String::new(),
        "| packet | interpreter | compiled | interpreter / compiled | compiled, without the call | Linux, without the call \
         | compiled / Linux, both without |"
            .to_owned(),
        "|---|---|---|---|---|---|---|".to_owned(),
    ];
    for case in cases() {
        let packet = Packet::new(&case.frame);
        assert_eq!(program.run(&packet) != 0, case.wanted, "{}", case.name);
        let [mut interpreted, mut compiled, mut empty] = [(); 3].map(|()| Best::new());
        let [mut linux_once, mut linux_many] = [(); 2].map(|()| Best::new());
        for _ in 0..TURNS {
            interpreted.see(time(&program, &packet));
            compiled.see(time(&code, &packet));
            empty.see(time(&nothing, &packet));
            if let Some(linux) = &mut linux {
                linux_once.see(linux.time(&once, &case.frame));
                linux_many.see(linux.time(&many, &case.frame));
            }
        }
        let bare = (compiled.0 - empty.0).max(0.0);
        let each = (linux_many.0 - linux_once.0) / (COPIES - 1) as f64;
        let theirs = match linux {
            Some(_) => format!("{each:.1} | {:.2}", bare / each),
            None => "no gcc | –".to_owned(),
        };
        lines.push(format!(
            "| {} | {:.1} | {:.1} | {:.1} | {bare:.1} | {theirs} |",
            case.name,
            interpreted.0,
            compiled.0,
            interpreted.0 / compiled.0
        ));
    }
    println!("{}", lines.join("\n"));
    if std::env::args().any(|argument| argument == "--record") {
        record(&lines.join("\n"));
    }
}
