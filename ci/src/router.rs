//! The router under test: its configuration, written once and rendered for Weir and for the Linux peer, and
//! starting either image with it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cleanup::{self, Made};
use crate::console::Line;
use crate::linux;
use crate::qemu::{Clock, Machine, Nic, Platform, Spec, Start, Wire};

/// Which image routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    Weir,
    /// Debian's cloud kernel with busybox: the benchmark peer, and the proof that a test can pass.
    Linux,
}

impl Image {
    pub(crate) fn parse(text: &str) -> Result<Image> {
        match text {
            "weir" => Ok(Image::Weir),
            "linux" => Ok(Image::Linux),
            other => bail!("--router is weir or linux, not {other}"),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Image::Weir => "weir",
            Image::Linux => "linux",
        }
    }

    /// How long it may take from power-on to forwarding, emulated on a busy machine.
    pub(crate) fn patience(self) -> Duration {
        match self {
            Image::Weir => Duration::from_secs(45),
            Image::Linux => Duration::from_secs(45),
        }
    }

    /// What its console says once it forwards.
    pub(crate) fn ready_text(self) -> &'static str {
        match self {
            Image::Weir => "weir: ready",
            Image::Linux => linux::READY,
        }
    }
}

/// One interface of the router.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    pub(crate) name: &'static str,
    /// Discovery order.
    pub(crate) port: usize,
    pub(crate) addresses: Vec<String>,
    pub(crate) mtu: Option<usize>,
    pub(crate) router_advertisement: bool,
}

/// What the router is told.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) interfaces: Vec<Interface>,
    /// Destination prefix and next hop.
    pub(crate) routes: Vec<(String, String)>,
}

impl Config {
    /// Two interfaces, two networks in both families, no default route.
    pub(crate) fn two_ports() -> Config {
        let interface = |name, port, v4: &str, v6: &str| Interface {
            name,
            port,
            addresses: vec![v4.to_owned(), v6.to_owned()],
            mtu: None,
            router_advertisement: false,
        };
        Config {
            interfaces: vec![
                interface("wan", 0, "192.0.2.1/24", "2001:db8:1::1/64"),
                interface("lan", 1, "10.0.1.1/24", "2001:db8:2::1/64"),
            ],
            routes: Vec::new(),
        }
    }

    /// The same and a third network.
    pub(crate) fn three_ports() -> Config {
        let mut config = Config::two_ports();
        config.interfaces.push(Interface {
            name: "dmz",
            port: 2,
            addresses: vec!["203.0.113.1/24".to_owned(), "2001:db8:3::1/64".to_owned()],
            mtu: None,
            router_advertisement: false,
        });
        config
    }

    pub(crate) fn with_mtu(mut self, port: usize, mtu: usize) -> Config {
        for interface in self.interfaces.iter_mut().filter(|interface| interface.port == port) {
            interface.mtu = Some(mtu);
        }
        self
    }

    pub(crate) fn with_route(mut self, to: &str, via: &str) -> Config {
        self.routes.push((to.to_owned(), via.to_owned()));
        self
    }

    /// `weir.toml`.
    pub(crate) fn toml(&self) -> String {
        let mut text = String::from("hostname = \"edge1\"\n");
        for interface in &self.interfaces {
            let quoted: Vec<String> = interface.addresses.iter().map(|a| format!("\"{a}\"")).collect();
            let _ =
                write!(text, "\n[interface.{}]\nmatch = {{ port = {} }}\n", interface.name, interface.port);
            let _ = writeln!(text, "addresses = [{}]", quoted.join(", "));
            if let Some(mtu) = interface.mtu {
                let _ = writeln!(text, "mtu = {mtu}");
            }
            if interface.router_advertisement {
                text.push_str("router-advertisement = true\n");
            }
        }
        for (to, via) in &self.routes {
            let _ = write!(text, "\n[[route]]\nto = \"{to}\"\nvia = \"{via}\"\n");
        }
        text
    }

    /// The same for the Linux peer's `/etc/router`.
    pub(crate) fn shell(&self) -> String {
        let mut text = String::new();
        for interface in &self.interfaces {
            let device = format!("eth{}", interface.port);
            if let Some(mtu) = interface.mtu {
                let _ = writeln!(text, "ip link set {device} mtu {mtu}");
            }
            let _ = writeln!(text, "ip link set {device} up");
            for address in &interface.addresses {
                let _ = writeln!(text, "ip addr add {address} dev {device}");
            }
        }
        for (to, via) in &self.routes {
            let family = if to.contains(':') { "-6" } else { "-4" };
            let _ = writeln!(text, "ip {family} route add {to} via {via}");
        }
        text
    }
}

/// Folder of the workspace, wherever the lab is started from inside it.
pub(crate) fn workspace() -> Result<PathBuf> {
    let mut folder = std::env::current_dir().context("no current directory")?;
    loop {
        if folder.join("Cargo.lock").is_file() {
            return Ok(folder);
        }
        if !folder.pop() {
            return Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?.to_owned());
        }
    }
}

/// The router image to test: `$WEIR_IMAGE`, else `images/out/weir.elf`.
pub(crate) fn weir_elf() -> Result<PathBuf> {
    match std::env::var_os("WEIR_IMAGE") {
        Some(path) => Ok(PathBuf::from(path)),
        None => Ok(workspace()?.join("images/out/weir.elf")),
    }
}

/// The image for tests: beside the router's.
pub(crate) fn test_image() -> Result<PathBuf> {
    Ok(weir_elf()?.with_file_name("tests.elf"))
}

/// The machine of everything that does not name its own: q35, or what `$LAB_MACHINE` says.
fn default_platform() -> Platform {
    match std::env::var("LAB_MACHINE").as_deref() {
        Ok("microvm") => Platform::Microvm,
        _ => Platform::Q35,
    }
}

/// The same image with its symbols: `weir.debug` beside it.
pub(crate) fn weir_debug() -> Result<PathBuf> {
    Ok(weir_elf()?.with_file_name("weir.debug"))
}

/// How the router's machine is made.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) image: Image,
    /// Another image in the place of the router's own.
    pub(crate) kernel: Option<PathBuf>,
    /// A disk with its own kernel, module and command line, in the place of those here.
    pub(crate) disk: Option<Start>,
    pub(crate) platform: Platform,
    pub(crate) cpus: usize,
    /// CPU model.
    pub(crate) cpu: &'static str,
    pub(crate) memory_mib: usize,
    /// What the boot module holds; `None`: no module. The Linux peer gets `config` always.
    pub(crate) module: Option<Vec<u8>>,
    pub(crate) config: Config,
    pub(crate) wires: Vec<Wire>,
    /// Further properties of every NIC.
    pub(crate) nic_properties: Vec<String>,
    /// Each NIC's bus: this name and the port's number.
    pub(crate) bus: Option<&'static str>,
    /// QEMU options in front of the NICs, and behind them.
    pub(crate) early: Vec<String>,
    pub(crate) extra: Vec<String>,
    pub(crate) command_line: String,
    pub(crate) clock: Clock,
    pub(crate) namespace: Option<String>,
    pub(crate) paused: bool,
    pub(crate) limit: Duration,
}

/// The interface that [`Setup::offer_page`] adds.
const MANAGEMENT: &str = r#"
[interface.management]
match = { mac = "52:54:00:00:00:ff" }
addresses = ["10.0.2.15/24"]
management = true
"#;

/// Address of the router's NIC at `port`.
pub(crate) fn router_mac(port: usize) -> String {
    format!("52:54:00:00:00:{:02x}", port + 1)
}

impl Setup {
    pub(crate) fn new(image: Image, config: Config, wires: Vec<Wire>) -> Setup {
        Setup {
            image,
            kernel: None,
            disk: None,
            platform: default_platform(),
            cpus: 1,
            cpu: "max",
            memory_mib: 128,
            module: Some(config.toml().into_bytes()),
            config,
            wires,
            nic_properties: Vec::new(),
            bus: None,
            early: Vec::new(),
            extra: Vec::new(),
            command_line: String::new(),
            clock: Clock::Real,
            namespace: None,
            paused: false,
            limit: Duration::from_secs(600),
        }
    }

    /// Offers the page at a port of this machine, and nowhere else: by one more interface, on a network of QEMU's own (the
    /// addresses are its defaults). `at` is where QEMU listens.
    pub(crate) fn offer_page(&mut self, at: SocketAddr) {
        if let Some(module) = &mut self.module {
            module.extend_from_slice(MANAGEMENT.as_bytes());
        }
        let device = match self.platform {
            Platform::Microvm => "virtio-net-device",
            Platform::Q35 | Platform::Pc => "virtio-net-pci",
        };
        self.extra.extend([
            "-netdev".to_owned(),
            format!("user,id=management,ipv6=off,restrict=on,hostfwd=tcp:{at}-10.0.2.15:80"),
            "-device".to_owned(),
            format!("{device},netdev=management,mac=52:54:00:00:00:ff"),
        ]);
    }

    /// Starts the machine; it may not be ready yet.
    pub(crate) fn start(&self) -> Result<Router> {
        let (directory, made) = cleanup::directory()?;
        let module = directory.join("module");
        let mut spec;
        match self.image {
            Image::Weir => {
                spec = Spec::new(&self.kernel.clone().map_or_else(weir_elf, Ok)?);
                spec.command_line = self.command_line.clone();
                if let Some(bytes) = &self.module {
                    std::fs::write(&module, bytes)
                        .with_context(|| format!("writing {}", module.display()))?;
                    spec.initrd = Some(module);
                }
            }
            Image::Linux => {
                spec = Spec::new(&linux::kernel()?);
                spec.command_line = linux::command_line();
                std::fs::write(&module, linux::initramfs(&self.config)?)?;
                spec.initrd = Some(module);
            }
        }
        if let Some(disk) = &self.disk {
            (spec.initrd, spec.command_line) = (None, String::new());
            spec.start = disk.clone();
        }
        spec.platform = self.platform;
        spec.cpus = self.cpus;
        spec.cpu = self.cpu;
        spec.early = self.early.clone();
        spec.memory_mib = self.memory_mib;
        let nic = |(port, wire): (usize, &Wire)| Nic {
            wire: wire.clone(),
            mac: router_mac(port),
            properties: self
                .bus
                .map(|bus| format!("bus={bus}{port}"))
                .into_iter()
                .chain(self.nic_properties.clone())
                .collect(),
        };
        spec.nics = self.wires.iter().enumerate().map(nic).collect();
        spec.extra = self.extra.clone();
        spec.clock = self.clock;
        spec.namespace = self.namespace.clone();
        spec.paused = self.paused;
        spec.limit = self.limit;
        Ok(Router { machine: Machine::start(&spec)?, image: self.image, _files: made })
    }
}

/// A router that was started.
pub(crate) struct Router {
    pub(crate) machine: Machine,
    pub(crate) image: Image,
    _files: Made,
}

impl Router {
    /// Waits until the router says it forwards.
    pub(crate) fn ready(&self) -> Result<Line> {
        self.machine.wait(self.image.ready_text(), self.image.patience())
    }

    /// Has it give out a token, by its console.
    pub(crate) fn token(&mut self) -> Result<String> {
        let position = self.machine.console.position();
        self.machine.type_keys(b"token\n")?;
        let line =
            self.machine.console.wait_after(position, "may use the API", Duration::from_secs(20))?.text;
        line.split_whitespace().next().context("no token").map(str::to_owned)
    }

    /// Types a configuration on the console and waits for what is said to it.
    pub(crate) fn paste(&mut self, text: &str, answer: &str) -> Result<()> {
        let position = self.machine.console.position();
        self.machine.type_keys(b"config\n")?;
        self.machine.console.wait_after(position, "paste the configuration", Duration::from_secs(30))?;
        self.machine.type_keys(text.as_bytes())?;
        self.machine.type_keys(b"\n.\n")?;
        self.machine.console.wait_after(position, answer, Duration::from_secs(30)).map(|_| ())
    }

    /// Replaces the configuration by the console.
    pub(crate) fn replace(&mut self, text: &str) -> Result<()> {
        self.paste(text, "the configuration is replaced")
    }
}
