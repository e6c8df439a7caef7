//! A virtual machine under QEMU's TCG: what it is made of, its console, its monitor, its end.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::cleanup::{self, Made, Thing};
use crate::command::explain;
use crate::console::Console;
use crate::qmp::Qmp;

/// QEMU machine type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Platform {
    /// PCI Express, ACPI, devices on the PCI bus.
    Q35,
    /// The older PC chipset, PCI without Express.
    Pc,
    /// No PCI: virtio devices in MMIO windows.
    Microvm,
}

impl Platform {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Platform::Q35 => "q35",
            Platform::Pc => "pc",
            Platform::Microvm => "microvm",
        }
    }
}

/// What starts a machine from its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Firmware {
    /// SeaBIOS, which QEMU brings along.
    Bios,
    /// OVMF, from Debian's package.
    Uefi,
}

impl Firmware {
    /// Its files: code and variables.
    pub(crate) fn files(self) -> &'static [&'static str] {
        match self {
            Firmware::Bios => &[],
            Firmware::Uefi => &["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"],
        }
    }
}

/// What a machine starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// An image, directly.
    Kernel(PathBuf),
    /// The boot loader on its only disk, a raw image behind this device. What is written to it QEMU forgets.
    Disk { path: PathBuf, firmware: Firmware, device: &'static str },
}

impl Start {
    fn file(&self) -> &Path {
        let (Start::Kernel(path) | Start::Disk { path, .. }) = self;
        path
    }
}

/// Where a NIC's frames go.
#[derive(Clone, Debug)]
pub(crate) enum Wire {
    /// A pair of unix datagram sockets, one frame a datagram: QEMU reads `guest` and writes to `host`.
    Dgram { guest: PathBuf, host: PathBuf },
    /// A unix stream socket that QEMU connects to, each frame behind its length: many frames a system call.
    Stream { host: PathBuf },
    /// A TAP device that exists already.
    Tap { device: String, queues: usize },
}

/// One NIC.
#[derive(Clone, Debug)]
pub(crate) struct Nic {
    pub(crate) wire: Wire,
    /// `52:54:00:00:00:01` form.
    pub(crate) mac: String,
    /// Further device properties, `name=value`.
    pub(crate) properties: Vec<String>,
}

/// How a machine's clock runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    Real,
    /// One nanosecond an instruction, instructions are counted (`Machine::instructions`), and waiting takes no time:
    /// the guest's TSC is its instruction count. For boots; hours pass while the guest idles.
    Instructions,
    /// The same count, but waiting takes its time.
    InstructionsAndWaits,
}

/// Everything that makes a machine.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) platform: Platform,
    /// TCG, with its options.
    pub(crate) accelerator: &'static str,
    pub(crate) cpus: usize,
    /// CPU model.
    pub(crate) cpu: &'static str,
    pub(crate) memory_mib: usize,
    pub(crate) start: Start,
    pub(crate) initrd: Option<PathBuf>,
    pub(crate) command_line: String,
    pub(crate) nics: Vec<Nic>,
    /// Options in front of the NICs, and behind them.
    pub(crate) early: Vec<String>,
    pub(crate) extra: Vec<String>,
    pub(crate) clock: Clock,
    /// Network namespace in which QEMU opens its TAP devices.
    pub(crate) namespace: Option<String>,
    /// Wait for `Machine::resume` before the first instruction.
    pub(crate) paused: bool,
    /// QEMU is ended after this time, whatever it does.
    pub(crate) limit: Duration,
}

impl Spec {
    pub(crate) fn new(kernel: &Path) -> Spec {
        Spec {
            platform: Platform::Q35,
            accelerator: "tcg",
            cpus: 1,
            cpu: "max",
            memory_mib: 128,
            start: Start::Kernel(kernel.to_owned()),
            initrd: None,
            command_line: String::new(),
            nics: Vec::new(),
            early: Vec::new(),
            extra: Vec::new(),
            clock: Clock::Real,
            namespace: None,
            paused: false,
            limit: Duration::from_secs(600),
        }
    }

    fn arguments(&self, directory: &Path) -> Vec<String> {
        let mut list: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| list.extend(words.iter().map(|&word| word.to_owned()));
        let machine = match self.platform {
            Platform::Q35 | Platform::Pc => self.platform.name(),
            // virtio-mmio transports default to the legacy register layout.
            Platform::Microvm => "microvm,rtc=on",
        };
        add(&["-accel", self.accelerator, "-cpu", self.cpu, "-machine", machine]);
        if self.platform == Platform::Microvm {
            add(&["-global", "virtio-mmio.force-legacy=false"]);
        }
        add(&["-m", &self.memory_mib.to_string(), "-smp", &self.cpus.to_string()]);
        add(&["-display", "none", "-nodefaults", "-no-reboot", "-no-user-config"]);
        match &self.start {
            Start::Kernel(path) => add(&["-kernel", &path.to_string_lossy()]),
            Start::Disk { path, firmware, device } => {
                for (unit, file) in firmware.files().iter().enumerate() {
                    let drive = format!("if=pflash,unit={unit},format=raw,readonly=on,file={file}");
                    // Variables are written, into a copy that QEMU forgets.
                    let drive = if unit == 0 { drive } else { drive.replace("readonly=on", "snapshot=on") };
                    add(&["-drive", &drive]);
                }
                let drive = format!("if=none,id=disk,format=raw,snapshot=on,file={}", path.display());
                add(&["-drive", &drive, "-device", &format!("{device},drive=disk,bootindex=0")]);
            }
        }
        if let Some(initrd) = &self.initrd {
            add(&["-initrd", &initrd.to_string_lossy()]);
        }
        if !self.command_line.is_empty() {
            add(&["-append", &self.command_line]);
        }
        add(&["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        add(&["-qmp", &format!("unix:{},server=on,wait=off", directory.join("qmp").display())]);
        list.extend(self.early.iter().cloned());
        let mut add = |words: &[&str]| list.extend(words.iter().map(|&word| word.to_owned()));
        for (i, nic) in self.nics.iter().enumerate() {
            let (netdev, queues) = match &nic.wire {
                Wire::Dgram { guest, host } => {
                    let local = format!("local.type=unix,local.path={}", guest.display());
                    let remote = format!("remote.type=unix,remote.path={}", host.display());
                    (format!("dgram,id=net{i},{local},{remote}"), 1)
                }
                Wire::Stream { host } => {
                    (format!("stream,id=net{i},server=off,addr.type=unix,addr.path={}", host.display()), 1)
                }
                Wire::Tap { device, queues } => {
                    let queues_option = if *queues > 1 { format!(",queues={queues}") } else { String::new() };
                    let scripts = "script=no,downscript=no,vnet_hdr=on";
                    (format!("tap,id=net{i},ifname={device},{scripts}{queues_option}"), *queues)
                }
            };
            let mut device = match self.platform {
                Platform::Q35 | Platform::Pc => "virtio-net-pci".to_owned(),
                Platform::Microvm => "virtio-net-device".to_owned(),
            };
            device.push_str(&format!(",id=nic{i},netdev=net{i},mac={}", nic.mac));
            if queues > 1 {
                device.push_str(",mq=on");
                if self.platform != Platform::Microvm {
                    device.push_str(&format!(",vectors={}", 2 * queues + 2));
                }
            }
            for property in &nic.properties {
                device.push_str(&format!(",{property}"));
            }
            add(&["-netdev", &netdev, "-device", &device]);
        }
        let sleep = match self.clock {
            Clock::Real => None,
            Clock::Instructions => Some("off"),
            Clock::InstructionsAndWaits => Some("on"),
        };
        if let Some(sleep) = sleep {
            let log = directory.join("record").display().to_string();
            add(&["-icount", &format!("shift=0,sleep={sleep},rr=record,rrfile={log}")]);
        }
        if self.paused {
            add(&["-S"]);
        }
        list.extend(self.extra.iter().cloned());
        list
    }
}

/// QEMU's threads.
#[derive(Clone, Debug)]
pub(crate) struct Threads {
    process: u32,
    guest: Vec<u64>,
}

/// CPU time used so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuTime {
    /// By the main loop, which plays the devices.
    pub(crate) devices: Duration,
    /// By the vCPUs together.
    pub(crate) guest: Duration,
}

impl Threads {
    pub(crate) fn cpu_time(&self) -> Result<CpuTime> {
        let of = |thread: u64| -> Result<Duration> {
            // Nanoseconds on a CPU come first (the kernel's Documentation/scheduler/sched-stats.rst).
            let path = format!("/proc/{}/task/{thread}/schedstat", self.process);
            let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
            let ns = text.split_whitespace().next().and_then(|word| word.parse().ok());
            ns.map(Duration::from_nanos).with_context(|| format!("{path}: {text:?}"))
        };
        let guest = self.guest.iter().map(|&thread| of(thread)).sum::<Result<Duration>>()?;
        Ok(CpuTime { devices: of(self.process.into())?, guest })
    }
}

/// A running machine. Dropping it ends QEMU.
pub(crate) struct Machine {
    child: Child,
    input: Option<ChildStdin>,
    made: Option<Made>,
    /// Sockets of this machine; removed with it.
    _directory: Made,
    pub(crate) console: Console,
    pub(crate) errors: Console,
    pub(crate) started: Instant,
    qmp: Option<Qmp>,
    qmp_path: PathBuf,
}

impl Machine {
    /// Starts QEMU. It runs in its own process group, so Ctrl-C reaches the lab only.
    pub(crate) fn start(spec: &Spec) -> Result<Machine> {
        let (directory, made_directory) = cleanup::directory()?;
        let file = spec.start.file();
        if !file.is_file() {
            let target = if matches!(spec.start, Start::Kernel(_)) { "image" } else { "disk" };
            bail!("there is no image {}: make {target}", file.display());
        }
        let mut words: Vec<String> = Vec::new();
        if let Some(namespace) = &spec.namespace {
            words.extend(["ip", "netns", "exec", namespace].map(str::to_owned));
        }
        // The kernel ends QEMU should the lab be killed outright.
        words.extend(["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"].map(str::to_owned));
        if !crate::command::installed("qemu-system-x86_64") {
            bail!("qemu-system-x86_64 is not installed: apt-get install -y qemu-system-x86");
        }
        words.extend(spec.arguments(&directory));
        if std::env::var_os("LAB_VERBOSE").is_some() {
            eprintln!("lab: {}", words.join(" "));
        }
        let (program, arguments) = words.split_first().context("empty command")?;
        let started = Instant::now();
        let mut child = Command::new(program)
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| explain(program, e))?;
        let made = Made::register_until(Thing::Process(child.id()), spec.limit);
        let (console, errors) = (Console::default(), Console::default());
        console.follow(child.stdout.take().context("no console pipe")?);
        errors.follow(child.stderr.take().context("no error pipe")?);
        let input = child.stdin.take();
        Ok(Machine {
            child,
            input,
            made: Some(made),
            _directory: made_directory,
            console,
            errors,
            started,
            qmp: None,
            qmp_path: directory.join("qmp"),
        })
    }

    /// The monitor, connected on first use.
    pub(crate) fn qmp(&mut self) -> Result<&mut Qmp> {
        if self.qmp.is_none() {
            let connected = Qmp::connect(&self.qmp_path, Duration::from_secs(10));
            self.qmp = Some(connected.map_err(|e| match self.errors.text().trim() {
                "" => e,
                said => e.context(format!("QEMU says: {said}")),
            })?);
        }
        self.qmp.as_mut().context("no monitor")
    }

    /// Lets a paused machine run.
    pub(crate) fn resume(&mut self) -> Result<()> {
        self.started = Instant::now();
        self.qmp()?.command("cont", json!({})).map(|_| ())
    }

    /// Types on the console.
    pub(crate) fn type_keys(&mut self, keys: &[u8]) -> Result<()> {
        let input = self.input.as_mut().context("the console's input is closed")?;
        input.write_all(keys).and_then(|()| input.flush()).context("the machine's console takes no input")
    }

    /// The threads whose CPU time [`Threads::cpu_time`] tells.
    pub(crate) fn threads(&mut self) -> Result<Threads> {
        let answer = self.qmp()?.command("query-cpus-fast", json!({}))?;
        let list = answer.as_array().context("QEMU names no CPUs")?;
        let guest = list.iter().filter_map(|cpu| cpu.get("thread-id")?.as_u64()).collect();
        Ok(Threads { process: self.child.id(), guest })
    }

    /// Guest instructions executed so far (`Clock::Instructions` only). Waiting in `hlt` executes none.
    pub(crate) fn instructions(&mut self) -> Result<u64> {
        let answer = self.qmp()?.command("query-replay", json!({}))?;
        answer.get("icount").and_then(serde_json::Value::as_u64).context("QEMU counts no instructions here")
    }

    /// Waits for `needle` on the console; QEMU's own complaint is the error when it ended.
    pub(crate) fn wait(&self, needle: &str, limit: Duration) -> Result<crate::console::Line> {
        self.console.wait(needle, limit).map_err(|e| match self.errors.text().trim() {
            "" => e,
            said => e.context(format!("QEMU says: {said}")),
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Kill while the child is still ours to name, then reap it.
        drop(self.made.take());
        let _ = self.child.wait();
    }
}
