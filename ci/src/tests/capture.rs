//! Captures of a running router, read by the programs that people read them with.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::management::{SECTION, TOKEN, call, get, start};
use super::reach::{PATIENCE, ask};
use super::{Context, Needs, Test};
use crate::command;
use crate::rig::{LinuxPlan, LinuxRig, identity};

const NETWORK: Needs = Needs {
    root: true,
    programs: &["ip", "curl", "ping", "tcpdump", "tshark", "capinfos"],
    weir: true,
    alone: false,
};
const TRUNK: Needs =
    Needs { root: true, programs: &["ip", "curl", "tshark", "python3"], weir: true, alone: false };
const TIMES: Needs =
    Needs { root: true, programs: &["ip", "curl", "ping", "tshark", "chronyd"], weir: true, alone: false };
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("capture-pcapng", NETWORK, |cx| pcapng(cx, 1)),
        Test::new("capture-pcapng-2-cpus", NETWORK, |cx| pcapng(cx, 2)),
        Test::new("capture-refusals", NETWORK, refusals),
        Test::new("capture-trunk", TRUNK, trunk),
        Test::new("capture-times", TIMES, times),
        Test::new("console-capture", NETWORK, on_console),
    ]
}

/// A file that goes when the test does.
struct File(std::path::PathBuf);

impl File {
    fn new(name: &str) -> File {
        File(std::env::temp_dir().join(format!("{name}-{}.pcapng", std::process::id())))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Captures to `file` while `work` runs on the first host; ends when the capture does.
fn capture(rig: &LinuxRig, file: &File, query: &str, work: &str) -> Result<()> {
    let (gateway, path) = (identity(0)?.gateway_v4, file.0.display());
    let script = format!(
        "rm -f {path}; \
         curl --silent --no-buffer --max-time 40 --header 'Authorization: Bearer {TOKEN}' \
         'http://{gateway}/api/v1/capture?{query}' > {path} & \
         until [ -s {path} ]; do sleep 0.1; done; {work}; wait $!"
    );
    let said = command::run(&mut rig.host(0).command("sh", &["-c", &script]), b"", LIMIT)?;
    said.success(&format!("the capture of {query}")).map(drop)
}

/// What a program prints of a file; a warning is an error.
fn read(program: &str, arguments: &[&str]) -> Result<String> {
    let said = command::run(Command::new(program).args(arguments), b"", LIMIT)?;
    // What they say to root, and of every file.
    let usual = |line: &&str| !line.starts_with("Running as user") && !line.starts_with("reading from file");
    let wrong: Vec<&str> = said.stderr.lines().filter(usual).collect();
    ensure!(wrong.is_empty(), "{program}: {wrong:?}");
    said.success(program)
}

fn pcapng(cx: &Context, cpus: usize) -> Result<()> {
    start(cx, cpus, SECTION)?.check(&cx.name, |rig| {
        let far = identity(1)?.v4;
        let file = File::new(&cx.name);
        let path = file.0.to_str().context("a path")?;
        let names = get(rig, "/api/v1/interfaces")?;
        let [near, beyond] = [0, 1].map(|number| names[number]["name"].as_str().unwrap_or("?").to_owned());

        // Every CPU that has part in it knows both neighbours: of a burst to one that is asked for three packets wait.
        let mut warm = rig.host(0).command("ping", &["-q", "-c", "8", "-i", "0.3", &far.to_string()]);
        command::run(&mut warm, b"", LIMIT)?.success("ping")?;
        // Each request and each reply comes in and goes out: four records.
        let query =
            "filter=icmp%20and%20icmp%5B0%5D%20%26%20247%20%3D%200&snaplen=96&direction=in,out&limit=80";
        capture(rig, &file, query, &format!("ping -q -c 20 -i 0.2 {far} > /dev/null"))?;
        let fields = ["frame.interface_name", "frame.packet_flags_direction", "icmp.type", "frame.number"];
        let mut words = vec!["-n", "-r", path, "-T", "fields"];
        fields.iter().for_each(|field| words.extend(["-e", field]));
        let told = read("tshark", &words)?;
        let count = |line: [&str; 3]| told.lines().filter(|own| own.starts_with(&line.join("\t"))).count();
        for line in [[&*near, "1", "8"], [&beyond, "2", "8"], [&beyond, "1", "0"], [&near, "2", "0"]] {
            let line = [line[0], &format!("0x0000000{}", line[1]), line[2]];
            ensure!(count(line) == 20, "20 of {line:?}:\n{told}");
        }
        let comments = || read("tshark", &["-n", "-r", path, "-T", "fields", "-e", "frame.comment"]);
        let told = comments()?;
        let cpu = |line: &str| line.strip_prefix("cpu")?.parse().ok();
        ensure!(told.lines().all(|line| cpu(line).is_some_and(|cpu: usize| cpu < cpus)), "{told}");
        // Nobody told it the time of day.
        ensure!(seconds(path)?.iter().all(|at| (0.0..1e6).contains(at)), "seconds since the router began");
        let shown = read("tcpdump", &["-n", "-r", path])?;
        ensure!(shown.lines().filter(|line| line.contains("ICMP echo re")).count() == 80, "{shown}");
        let summary = read("capinfos", &[path])?;
        for words in
            ["Number of packets:   80", "Weir ", "Time precision", "nanosecond", "Filter string = icmp"]
        {
            ensure!(summary.contains(words), "no {words:?} in {summary}");
        }
        let ordered = read("capinfos", &["-o", path])?;
        ensure!(ordered.contains("Strict time order:   True"), "{ordered}");

        // A pipe, as people have it.
        let gateway = identity(0)?.gateway_v4;
        let script = format!(
            "curl --silent --no-buffer --header 'Authorization: Bearer {TOKEN}' \
             'http://{gateway}/api/v1/capture?interface={near}&filter=tcp%20port%2080&limit=5' | tcpdump -n -r - 2>&1"
        );
        let piped = command::run(&mut rig.host(0).command("sh", &["-c", &script]), b"", LIMIT)?;
        let piped = piped.success("curl | tcpdump")?;
        ensure!(piped.lines().filter(|line| line.contains(".80")).count() == 5, "{piped}");

        // Lost packets, with the reason; and what the recorder has of them without a capture.
        capture(
            rig,
            &file,
            "direction=drop&filter=icmp&limit=3",
            &format!("ping -q -c 3 -i 0.3 -t 1 {far} > /dev/null; true"),
        )?;
        let told = comments()?;
        let lost = |line: &str| cpu(line.strip_prefix("dropped: ttl-expired, ")?);
        let all = told.lines().all(|line| lost(line).is_some_and(|cpu| cpu < cpus));
        ensure!(all && told.lines().count() == 3, "{told}");
        let last = get(rig, "/api/v1/drops?last=3")?;
        let words =
            last.as_array().into_iter().flatten().map(|own| (own["what"].as_str(), own["packet"].as_str()));
        let packet = format!("{} > {far} ICMP type 8 code 0", identity(0)?.v4);
        ensure!(words.eq([(Some("ttl-expired"), Some(&*packet)); 3]), "{last}");

        // A reader that leaves ends it: more than there are places, one after the other.
        for _ in 0..6 {
            let script = format!(
                "curl --silent --no-buffer --max-time 40 --header 'Authorization: Bearer {TOKEN}' \
                 'http://{gateway}/api/v1/capture?buffer=64' | head -c 1000 | wc -c"
            );
            let said = command::run(&mut rig.host(0).command("sh", &["-c", &script]), b"", LIMIT)?;
            let said = said.success("curl | head")?;
            ensure!(said.trim() == "1000", "{said}");
        }
        Ok(())
    })
}

fn refusals(cx: &Context) -> Result<()> {
    start(cx, 1, SECTION)?.check(&cx.name, |rig| {
        for (query, status, words) in [
            ("filter=port%20port", 400, "column 6"),
            ("interface=nowhere", 404, "the interfaces are "),
            ("buffer=65536", 503, "KiB are free"),
            ("direction=sideways", 400, "give in, out, drop"),
        ] {
            let (found, body) = call(rig, 0, TOKEN, &format!("/api/v1/capture?{query}"), &[], "")?;
            ensure!(found == status && body.contains(words), "{query}: {found}: {body}");
            ensure!(body.contains("\"cure\""), "{query}: {body}");
        }
        let (status, _) = call(rig, 0, "not-the-token", "/api/v1/capture", &[], "")?;
        ensure!(status == 401, "{status}");
        Ok(())
    })
}

/// A VLAN of the first port, as [`SECTION`] with a network more.
const VLAN: &str = r#"
[interface.office]
parent = "wan"
vlan = 20
addresses = ["2001:db8:20::1/64", "10.0.20.1/24"]

[[management.token]]
name = "ann"
hash = "$argon2id$v=19$m=1024,t=3,p=1$c2FsdHNhbHRzYWx0c2FsdA$Pv9Y76c+Jnos+z8GF2SC3HvHZN6DvIST0yHKRNKE8YE"
"#;

/// Sends what a trunk carries: echo requests over IPv6 and IPv4 in VLAN 20, 21 and in none, each with its number of VLAN as the
/// identifier, five times. To a station, of a host by its number.
const SEND: &str = r#"
import socket, struct, sys, time
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("eth0", 0))
router, own = bytes.fromhex(sys.argv[1].replace(":", "")), bytes.fromhex("020000000009")
host = int(sys.argv[2])
def total(data):
    value = sum(struct.unpack(f"!{len(data) // 2}H", data))
    value = (value >> 16) + (value & 0xffff)
    return ~(value + (value >> 16)) & 0xffff
for turn in range(5):
    for vlan in (20, 21, 0):
        tag = struct.pack("!HH", 0x8100, vlan) if vlan else b""
        echo = struct.pack("!BBHHH", 128, 0, 0, vlan, turn)
        ends = b"".join(socket.inet_pton(socket.AF_INET6, a) for a in (f"2001:db8:20::{host:x}", "2001:db8:20::1"))
        echo = echo[:2] + struct.pack("!H", total(ends + struct.pack("!II", 8, 58) + echo)) + echo[4:]
        wire.send(router + own + tag + struct.pack("!HIHBB", 0x86dd, 0x60000000, 8, 58, 64) + ends + echo)
        echo = struct.pack("!BBHHH", 8, 0, 0, vlan, turn)
        echo = echo[:2] + struct.pack("!H", total(echo)) + echo[4:]
        head = struct.pack("!BBHIBBH", 0x45, 0, 28, 0, 64, 1, 0) + bytes((10, 0, 20, host, 10, 0, 20, 1))
        head = head[:10] + struct.pack("!H", total(head)) + head[12:]
        wire.send(router + own + tag + struct.pack("!H", 0x0800) + head + echo)
    time.sleep(0.02)
"#;

/// Filters on a port with VLANs: by tag, by what is behind it, by interface and direction.
fn trunk(cx: &Context) -> Result<()> {
    start(cx, 2, VLAN)?.check(&cx.name, |rig| {
        let file = File::new(&cx.name);
        let path = file.0.to_str().context("a path")?;
        let router = identity(0)?.gateway_mac;
        // Query, filter, packets, and what each is: its VLAN and kinds of ICMP.
        let rows = [
            ("interface=wan&filter=vlan%2020%20and%20ip6%20and%20inbound", 5, "20\t\t128"),
            ("interface=wan&filter=vlan%2020%20and%20icmp%20and%20inbound", 5, "20\t8\t"),
            ("interface=office&filter=vlan%20and%20ip%20and%20inbound", 5, "20\t8\t"),
            // On no interface: it came in by the port.
            ("interface=wan&filter=vlan%2021%20and%20ip6%20and%20inbound&direction=in", 5, "21\t\t128"),
            ("interface=wan&filter=icmp%20and%20not%20vlan%20and%20ifindex%200&direction=in", 5, "\t8\t"),
            ("interface=office&filter=outbound%20and%20vlan%2020%20and%20arp", 1, "20\t\t"),
        ];
        for ((query, packets, like), host) in rows.into_iter().zip(2..) {
            let query = format!("{query}&limit={packets}");
            // Each is a host that the router has to ask for: of one that does not answer it asks three times and waits.
            let sends = format!("python3 -c '{SEND}' {router} {host}");
            capture(rig, &file, &query, &sends)?;
            let words = ["vlan.id", "icmp.type", "icmpv6.type"].map(|field| ["-e", field]);
            let base = ["-n", "-r", path, "-T", "fields"];
            let told =
                read("tshark", &base.into_iter().chain(words.into_iter().flatten()).collect::<Vec<_>>())?;
            ensure!(told.lines().count() == packets, "{query}:\n{told}");
            ensure!(told.lines().all(|line| line == like), "{query}, not {like:?}:\n{told}");
        }
        Ok(())
    })
}

/// When the packets of a file passed.
fn seconds(path: &str) -> Result<Vec<f64>> {
    let told = read("tshark", &["-n", "-r", path, "-T", "fields", "-e", "frame.time_epoch"])?;
    let times: Vec<f64> = told.lines().map(str::parse).collect::<Result<_, _>>()?;
    ensure!(!times.is_empty(), "no packet in {path}");
    Ok(times)
}

/// Packets have the time of day once the router knows it.
fn times(cx: &Context) -> Result<()> {
    let (folder, _made) = crate::cleanup::directory()?;
    let conf = folder.join("chrony.conf").display().to_string();
    let pid = folder.join("pid").display().to_string();
    std::fs::write(
        &conf,
        format!("local stratum 5\nallow all\ncmdport 0\nbindcmdaddress /\npidfile {pid}\nuser root\n"),
    )?;
    let plan = LinuxPlan::new();
    let rig = LinuxRig::power_on(cx.image, &plan, |setup| {
        let text = setup.config.toml().replacen("addresses", "management = true\naddresses", 1);
        let host = identity(0).map_or_else(|_| String::new(), |own| own.v4.to_string());
        setup.module = Some(format!("ntp.servers = [\"{host}\"]\n{text}{SECTION}").into_bytes());
    })?;
    rig.router.ready()?;
    rig.check(&cx.name, |rig| {
        let file = File::new(&cx.name);
        let path = file.0.to_str().context("a path")?;
        let ping = format!("ping -q -c 2 -i 0.2 {} > /dev/null", identity(0)?.gateway_v4);
        // A router whose first requests nobody answers asks again a minute later.
        let _clock = rig.host(0).start("chronyd", &["-d", "-x", "-f", &conf])?;
        rig.router.machine.console.wait("the time is ", Duration::from_secs(100))?;
        capture(rig, &file, "filter=icmp&limit=2", &ping)?;
        for at in seconds(path)? {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
            ensure!((at - now.as_secs_f64()).abs() < 60.0, "{at} at {now:?}");
        }
        Ok(())
    })
}

/// Types Ctrl-C. Lines with packets since `position`, and what was counted: received, matched, captured, dropped, shown.
fn ended(rig: &mut LinuxRig, position: usize) -> Result<(Vec<String>, [u64; 5])> {
    rig.router.machine.type_keys(b"\x03")?;
    counted(rig, position)
}

fn counted(rig: &LinuxRig, position: usize) -> Result<(Vec<String>, [u64; 5])> {
    let console = &rig.router.machine.console;
    let end = console.wait_after(position, " packets received, ", PATIENCE)?.text;
    let mut numbers =
        end.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty()).map(str::parse);
    let mut next = || Ok::<u64, anyhow::Error>(numbers.next().context("five numbers")??);
    let counts = [next()?, next()?, next()?, next()?, next()?];
    let lines = console.since(position).into_iter().map(|line| line.text);
    let lines = lines.take_while(|line| *line != end).filter(|line| line.contains(" bytes")).collect();
    Ok((lines, counts))
}

/// The same by the console: a line a packet, and what was counted is what was shown, waits and was lost.
fn on_console(cx: &Context) -> Result<()> {
    start(cx, 2, SECTION)?.check(&cx.name, |rig| {
        let (near, far) = (identity(0)?.v4, identity(1)?.v4);
        let ping = |rig: &LinuxRig, options: &str| {
            rig.host(0).shell(&format!("ping -q {options} {far}; true"), LIMIT)
        };
        // Both neighbours are known to every CPU.
        ping(rig, "-c 8 -i 0.3")?;

        let position = rig.router.machine.console.position();
        ask(rig, "capture filter \"icmp[0] & 247 = 0\" direction in,out", "listening on 2 ")?;
        ping(rig, "-c 5 -i 0.2")?;
        // Each request and each reply comes in and goes out.
        let (lines, [received, matched, captured, dropped, shown]) = ended(rig, position)?;
        ensure!([matched, captured, dropped, shown] == [20, 20, 0, 20] && received >= 20, "{lines:#?}");
        for (way, what) in [
            ("wan in", format!("{near} > {far} ICMP type 8 code 0, 98 bytes")),
            ("lan out", format!("{near} > {far} ICMP type 8 code 0, 98 bytes")),
            ("lan in", format!("{far} > {near} ICMP type 0 code 0, 98 bytes")),
            ("wan out", format!("{far} > {near} ICMP type 0 code 0, 98 bytes")),
        ] {
            let here = format!(" {way} {what}");
            ensure!(lines.iter().filter(|line| line.ends_with(&here)).count() == 5, "{here}: {lines:#?}");
        }
        ensure!(lines.is_sorted(), "in the order of time: {lines:#?}");

        // An end of its own, and the reason of a loss.
        let position = rig.router.machine.console.position();
        ask(rig, "capture wan direction drop limit 2 filter icmp", "listening on wan; ")?;
        ping(rig, "-c 3 -i 0.3 -t 1")?;
        let (lines, counts) = counted(rig, position)?;
        ensure!(counts[4] == 2 && lines.len() == 2, "{counts:?} {lines:#?}");
        let lost = format!(" wan drop {near} > {far} ICMP type 8 code 0, 98 bytes, dropped: ttl-expired");
        ensure!(lines.iter().all(|line| line.ends_with(&lost)), "{lines:#?}");

        // A wrong filter is shown with the place, and holds nothing up.
        let said = ask(rig, "capture filter \"port port\"", "column 6: ")?;
        ensure!(said.contains("\nport port\n     ^\ncolumn 6: "), "{said}");
        let said = ask(rig, "capture nowhere", "there is no interface `nowhere`")?;
        ensure!(!said.contains("listening"), "{said}");
        ask(rig, "show status", "uptime")?;

        // More than the console can show: the newest are lost and counted; packets, other tasks and Ctrl-C go on.
        let position = rig.router.machine.console.position();
        ask(rig, "capture", "listening on 2 ")?;
        // Many at a time: however late each reply is, the next requests are on their way.
        let flood = ping(rig, "-f -l 50 -c 5000")?;
        let few = flood.contains(", 0% packet loss") || flood.contains(", 0.");
        ensure!(flood.contains("5000 packets transmitted") && few, "{flood}");
        let replies =
            flood.split_once(" received").and_then(|(head, _)| head.rsplit(' ').next()?.parse().ok());
        let replies: u64 = replies.with_context(|| format!("no count of replies: {flood}"))?;
        let status = get(rig, "/api/v1/status")?;
        ensure!(status["cpus"] == 2, "{status}");
        // What waits is shown before packets that come later: the first of these that is not lost, then all.
        let deadline = Instant::now() + PATIENCE;
        for size in [100, 200] {
            let last = format!("ICMP type 8 code 0, {} bytes", size + 42);
            let console = rig.router.machine.console.clone();
            while console.wait_after(position, &last, Duration::from_millis(500)).is_err() {
                ensure!(Instant::now() < deadline, "what waits is not shown in {} s", PATIENCE.as_secs());
                ping(rig, &format!("-c 1 -s {size}"))?;
            }
        }
        let (lines, [received, matched, captured, dropped, shown]) = ended(rig, position)?;
        let counts = format!("{received} {matched} {captured} {dropped} {shown}, {} lines", lines.len());
        // Each request and each reply comes in and goes out.
        let passed = 2 * (5000 + replies);
        ensure!(received >= passed && received == matched && matched == captured + dropped, "{counts}");
        // A port whose reader is held up loses bytes.
        ensure!(dropped > 0 && shown == captured && (1..=shown).contains(&(lines.len() as u64)), "{counts}");
        ask(rig, "show status", "uptime").map(drop)
    })
}
