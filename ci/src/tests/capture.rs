//! Captures of a running router, read by the programs that people read them with.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::management::{SECTION, TOKEN, call, get, start};
use super::{Context, Needs, Test};
use crate::command;
use crate::rig::{LinuxRig, identity};

const NETWORK: Needs = Needs {
    root: true,
    programs: &["ip", "curl", "ping", "tcpdump", "tshark", "capinfos"],
    weir: true,
    alone: false,
};
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("capture-pcapng", NETWORK, |cx| pcapng(cx, 1)),
        Test::new("capture-pcapng-2-cpus", NETWORK, |cx| pcapng(cx, 2)),
        Test::new("capture-refusals", NETWORK, refusals),
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
    said.success("the capture").map(drop)
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
             'http://{gateway}/api/v1/capture?interface={near}&limit=5' | tcpdump -n -r - 2>&1"
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
        let told = read("tshark", &["-n", "-r", path, "-T", "fields", "-e", "frame.comment"])?;
        ensure!(told.lines().eq(["dropped: ttl-expired"; 3]), "{told}");
        let last = get(rig, "/api/v1/drops?last=3")?;
        let words =
            last.as_array().into_iter().flatten().map(|own| (own["what"].as_str(), own["packet"].as_str()));
        let packet = format!("{} > {far} ICMP type 8 code 0", identity(0)?.v4);
        ensure!(words.eq([(Some("ttl-expired"), Some(&*packet)); 3]), "{last}");

        // A reader that leaves ends it: more than there are places, one after the other.
        for _ in 0..6 {
            let script = format!(
                "curl --silent --no-buffer --max-time 0.7 --header 'Authorization: Bearer {TOKEN}' \
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
