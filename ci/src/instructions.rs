//! Guest instructions, counted by QEMU (`-icount shift=0`): what a forwarded packet costs, to the instruction.
//!
//! The guest runs from the `hlt` of its idle loop to the next one, stopped there by the debugger. Frames are sent while
//! it stands: QEMU hands all of them over before the guest's next instruction. So a burst is a burst, the clock of the
//! guest is its instruction count, no timer comes due, and what else the machine does changes nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::bench::Load;
use crate::gdb::Gdb;
use crate::host::Switch;
use crate::line::Burst;
use crate::qemu::Clock;
use crate::rig::{FrameRig, PATIENCE};
use crate::router::{Config, Image};
use crate::symbolize;

/// Packets a wake-up finds.
pub(crate) const BURSTS: [usize; 2] = [1, 64];

/// Packets sent before counting: buffers, caches and tables get into the state they stay in.
const WARM: usize = 512;
/// Packets counted: a multiple of every period that the router's batches and pools have.
const COUNTED: usize = 1024;

/// By then the router has told of its addresses, twice, and no timer of that is armed.
const ANNOUNCED: Duration = Duration::from_secs(4);

/// One figure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    /// Instructions a packet.
    pub(crate) packet: f64,
    /// Least and most of the wake-ups, a packet.
    pub(crate) least: f64,
    pub(crate) most: f64,
    /// Packets an interrupt, and a notification of a device, as the router counts them. Linux does not.
    pub(crate) an_interrupt: f64,
    pub(crate) a_notification: f64,
}

/// A router that stands still in its idle loop.
pub(crate) struct Still {
    rig: FrameRig,
    gdb: Gdb,
    /// Address of the idle loop's `hlt`.
    halt: u64,
}

impl Still {
    /// Boots, warms up, stops.
    pub(crate) fn start(image: Image) -> Result<Still> {
        let debugger = crate::cleanup::directory()?;
        let socket = debugger.0.join("gdb");
        let mut rig = FrameRig::start_streams(image, Config::two_ports(), 2, |setup| {
            setup.clock = Clock::InstructionsAndWaits;
            // What is sent is sent after a fixed time of the guest's clock, not when QEMU's main loop gets to it.
            setup.nic_properties = vec!["tx=timer".to_owned(), "x-txtimer=1".to_owned()];
            let chardev = format!("socket,id=gdb,path={},server=on,wait=off", socket.display());
            setup.extra = ["-chardev", &chardev, "-gdb", "chardev:gdb"].map(str::to_owned).to_vec();
            setup.limit = Duration::from_secs(600);
        })?;
        crate::bench::warm(&rig)?;
        std::thread::sleep(ANNOUNCED);
        rig.router.machine.qmp()?;
        let mut gdb = Gdb::connect(&socket)?;
        // An idle guest stands behind its `hlt`.
        let halt = gdb.instruction()? - 1;
        ensure!(
            gdb.byte(halt)? == 0xf4,
            "{} is not idle: it stands at {:#x}",
            rig.router.image.name(),
            halt + 1
        );
        rig.hosts.iter().for_each(|host| host.keep(Switch::Off));
        Ok(Still { rig, gdb, halt })
    }

    /// Has `burst` forwarded, from wake-up to sleep. Instructions.
    fn forward(&mut self, burst: &Burst) -> Result<u64> {
        let before = self.rig.router.machine.instructions()?;
        self.rig.hosts[0].send_burst(burst)?;
        self.settle()?;
        // The first `hlt` is where it stands; past it, then to the next.
        self.gdb.run_to(self.halt + 1)?;
        self.gdb.run_to(self.halt)?;
        Ok(self.rig.router.machine.instructions()? - before)
    }

    /// QEMU reads sockets while the guest stands, in the order in which they became readable: once it has answered on
    /// its monitor twice, it has seen the frames.
    fn settle(&mut self) -> Result<()> {
        for _ in 0..2 {
            self.rig.router.machine.instructions()?;
        }
        Ok(())
    }

    /// Instructions a packet of `load` in bursts of `size`.
    pub(crate) fn count(&mut self, load: Load, size: usize) -> Result<Count> {
        let frames = load.frames(&self.rig.hosts[0], &self.rig.hosts[1]);
        let bursts: Vec<Burst> = frames.chunks(size).map(|frames| Burst::new(frames.to_vec())).collect();
        let (interrupts, notifications) = self.signals(0)?;
        self.gdb.run_to(self.halt)?;
        let mut endless = bursts.iter().cycle();
        for _ in 0..WARM / size {
            self.forward(endless.next().context("no frames")?)?;
        }
        let received = self.rig.hosts[1].received();
        let mut counts: Vec<u64> = Vec::new();
        for _ in 0..COUNTED / size {
            counts.push(self.forward(endless.next().context("no frames")?)?);
        }
        let (interrupts_now, notifications_now) = self.signals(received + COUNTED)?;
        let sent = (WARM + COUNTED) as f64;
        let arrived = self.rig.hosts[1].received() - received;
        // The router says something of its own now and then.
        ensure!(arrived >= COUNTED, "{arrived} of {COUNTED} packets arrived");
        let a_packet = |instructions: u64| instructions as f64 / size as f64;
        let (least, most) = (counts.iter().min(), counts.iter().max());
        Ok(Count {
            packet: counts.iter().sum::<u64>() as f64 / COUNTED as f64,
            least: least.copied().map(a_packet).unwrap_or_default(),
            most: most.copied().map(a_packet).unwrap_or_default(),
            an_interrupt: sent / (interrupts_now - interrupts) as f64,
            a_notification: sent / (notifications_now - notifications) as f64,
        })
    }

    /// Lets the guest run freely until the far host has received so many packets, which QEMU holds back from a busy one, and its
    /// own counters are up to date. Reads these: interrupts and notifications.
    fn signals(&mut self, received: usize) -> Result<(u64, u64)> {
        let (router, far) = (&mut self.rig.router, &self.rig.hosts[1]);
        self.gdb.run_while(|| {
            let deadline = Instant::now() + PATIENCE;
            while far.received() < received && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
            std::thread::sleep(Duration::from_millis(100));
            match router.image {
                Image::Weir => crate::table::read(router).map(|table| table.signals()),
                Image::Linux => Ok((0, 0)),
            }
        })?
    }
}

impl Still {
    /// Has one burst forwarded and lists where every instruction of it was executed: address and times.
    fn trace(&mut self, burst: &Burst) -> Result<BTreeMap<u64, u64>> {
        let (folder, _made) = crate::cleanup::directory()?;
        let log = folder.join("exec");
        // A translation block an instruction, none linked to the next: each leaves a line.
        for line in ["singlestep on", &format!("logfile {}", log.display()), "log exec,nochain"] {
            self.monitor(line)?;
        }
        let counted = self.forward(burst)?;
        for line in ["log none", "singlestep off"] {
            self.monitor(line)?;
        }
        let text = std::fs::read_to_string(&log).context("QEMU's log")?;
        let mut times = BTreeMap::new();
        for address in text.lines().filter_map(address) {
            *times.entry(address).or_default() += 1;
        }
        let logged: u64 = times.values().sum();
        ensure!(logged.abs_diff(counted) * 100 <= counted, "QEMU logged {logged} of {counted} instructions");
        Ok(times)
    }

    /// A line to QEMU's human monitor.
    fn monitor(&mut self, line: &str) -> Result<()> {
        let arguments = serde_json::json!({ "command-line": line });
        let said = self.rig.router.machine.qmp()?.command("human-monitor-command", arguments)?;
        match said.as_str().map(str::trim) {
            Some("") | None => Ok(()),
            Some(said) => bail!("QEMU says to {line:?}: {said}"),
        }
    }
}

/// `Trace 0: 0x7f3c4c000100 [00000000/00000000001078a3/0040c2b0/ff000000]`: the second number of the brackets.
fn address(line: &str) -> Option<u64> {
    let numbers = line.strip_prefix("Trace ")?.split_once('[')?.1;
    u64::from_str_radix(numbers.split('/').nth(1)?, 16).ok()
}

/// `lab profile`: where the instructions of a packet go, by file and by function.
pub(crate) fn profile(load: Load, size: usize, rows: usize) -> Result<()> {
    let mut still = Still::start(Image::Weir)?;
    let whole = still.count(load, size)?;
    let frames = load.frames(&still.rig.hosts[0], &still.rig.hosts[1]);
    let bursts: Vec<Burst> = frames.chunks(size).map(|frames| Burst::new(frames.to_vec())).collect();
    still.gdb.run_to(still.halt)?;
    let mut times: BTreeMap<u64, u64> = BTreeMap::new();
    let mut packets = 0;
    // Several bursts, so that what happens now and then has its share.
    for burst in bursts.iter().cycle().take(bursts.len().max(4)) {
        for (address, count) in still.trace(burst)? {
            *times.entry(address).or_default() += count;
        }
        packets += burst.len();
    }
    let addresses: Vec<u64> = times.keys().copied().collect();
    let names = symbolize::look_up(&crate::router::weir_debug()?, &addresses)?;
    let (mut files, mut functions) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
    for (address, count) in &times {
        let (function, file) = names.get(address).map_or_else(|| unknown(*address), |places| own(places));
        *files.entry(file.clone()).or_default() += count;
        *functions.entry(format!("{function}  {file}")).or_default() += count;
    }
    let all: u64 = times.values().sum();
    println!(
        "{}, bursts of {size}: {:.1} instructions a packet ({:.1} to {:.1})",
        load.name, whole.packet, whole.least, whole.most
    );
    println!("traced {packets} packets, {:.1} instructions a packet", all as f64 / packets as f64);
    for (what, table) in [("file", files), ("function", functions)] {
        println!("\n{:>12} {:>7}  {what}", "instructions", "share");
        let mut list: Vec<(u64, String)> = table.into_iter().map(|(name, count)| (count, name)).collect();
        list.sort_by(|a, b| b.cmp(a));
        for (count, name) in list.iter().take(rows) {
            let share = *count as f64 * 100.0 / all as f64;
            println!("{:>12.1} {share:>6.1}%  {name}", *count as f64 / packets as f64);
        }
    }
    Ok(())
}

fn unknown(address: u64) -> (String, String) {
    (format!("{address:#x}"), "?".to_owned())
}

/// The innermost of inlined functions that is ours; else the outermost. Its name and its file.
fn own(places: &[String]) -> (String, String) {
    let split = |place: &String| {
        let (function, at) = place.split_once("  ").unwrap_or((place, "?"));
        let file = at.rsplit_once(':').map_or(at, |(file, _)| file);
        (function.to_owned(), file.trim_start_matches("weir/").to_owned())
    };
    let ours = places.iter().find(|place| place.contains("  weir/"));
    ours.or(places.last()).map(split).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_qemus_log() {
        let line = "Trace 0: 0x7f3c4c000100 [00000000/00000000001078a3/0040c2b0/ff000000] ";
        assert_eq!(address(line), Some(0x1078a3));
        assert_eq!(address("Stopped execution of TB chain before 0x7f [0000000000101010] "), None);
    }

    #[test]
    fn an_inlined_function_of_ours_gets_its_instructions() {
        let places = [
            "add  /rustc/x/num.rs:1".to_owned(),
            "sum  weir/netif/src/a.rs:7".to_owned(),
            "f  weir/b.rs:1".to_owned(),
        ];
        assert_eq!(own(&places), ("sum".to_owned(), "netif/src/a.rs".to_owned()));
        assert_eq!(own(&places[..1]), ("add".to_owned(), "/rustc/x/num.rs".to_owned()));
    }
}
