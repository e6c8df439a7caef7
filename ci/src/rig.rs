//! A router and the hosts around it, in the two forms the lab knows: hosts that speak in frames, and real Linux hosts.
//! The usual two networks; what went over the wires and the console are written out when a check fails.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::frame;
use crate::host::{Host, Identity, Sockets};
use crate::netns::{LinuxHost, Network, Plan};
use crate::qemu::Wire;
use crate::router::{Config, Image, Router, Setup, router_mac};

/// Where the reports of failures go.
pub(crate) fn report_folder() -> Result<PathBuf> {
    let folder = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target),
        None => crate::router::workspace()?.join("target"),
    }
    .join("lab");
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// Address of the host at a port: 52:54:00:00:01:01, ...
pub(crate) fn host_mac(port: usize) -> String {
    format!("52:54:00:00:01:{:02x}", port + 1)
}

/// IPv4 addresses of the networks at ports 0 and 1, without the last octet; 203.0.113 and so on beyond.
fn network_v4(port: usize) -> &'static str {
    ["192.0.2", "10.0.1", "203.0.113"].get(port).copied().unwrap_or("198.51.100")
}

/// The host at a port of `Config::two_ports`: address .2 and ::2, the router .1 and ::1.
pub(crate) fn identity(port: usize) -> Result<Identity> {
    Ok(Identity {
        mac: frame::mac(&host_mac(port))?,
        v4: format!("{}.2", network_v4(port)).parse()?,
        v6: format!("2001:db8:{}::2", port + 1).parse()?,
        gateway_v4: format!("{}.1", network_v4(port)).parse()?,
        gateway_v6: format!("2001:db8:{}::1", port + 1).parse()?,
        gateway_mac: frame::mac(&router_mac(port))?,
    })
}

/// A router with a frame-level host at every port.
pub(crate) struct FrameRig {
    pub(crate) router: Router,
    pub(crate) hosts: Vec<Host>,
}

impl FrameRig {
    /// Makes `ports` wires, lets `prepare` finish the set-up, starts the machine.
    pub(crate) fn start(
        image: Image,
        config: Config,
        ports: usize,
        prepare: impl FnOnce(&mut Setup),
    ) -> Result<FrameRig> {
        FrameRig::start_on(image, config, ports, Sockets::new, prepare)
    }

    /// The same on wires that take many frames at once.
    pub(crate) fn start_streams(
        image: Image,
        config: Config,
        ports: usize,
        prepare: impl FnOnce(&mut Setup),
    ) -> Result<FrameRig> {
        FrameRig::start_on(image, config, ports, Sockets::stream, prepare)
    }

    fn start_on(
        image: Image,
        config: Config,
        ports: usize,
        wire: fn() -> Result<Sockets>,
        prepare: impl FnOnce(&mut Setup),
    ) -> Result<FrameRig> {
        let mut hosts = Vec::new();
        let mut wires: Vec<Wire> = Vec::new();
        for port in 0..ports {
            let sockets = wire()?;
            wires.push(sockets.wire.clone());
            hosts.push(Host::start(sockets, identity(port)?)?);
        }
        let mut setup = Setup::new(image, config, wires);
        prepare(&mut setup);
        let router = setup.start()?;
        for host in &hosts {
            host.connect().map_err(|e| match router.machine.errors.text().trim() {
                "" => e,
                said => e.context(format!("QEMU says: {said}")),
            })?;
        }
        Ok(FrameRig { router, hosts })
    }

    /// Runs `check`; afterwards the router must not have panicked. On failure, captures and console are written.
    pub(crate) fn check(mut self, name: &str, check: impl FnOnce(&mut FrameRig) -> Result<()>) -> Result<()> {
        let outcome = check(&mut self).and_then(|()| no_panic(&self.router));
        let Err(error) = outcome else { return Ok(()) };
        let written = self.write_report(name)?;
        Err(error.context(written))
    }

    /// Writes captures and console; says where they are.
    pub(crate) fn write_report(&self, name: &str) -> Result<String> {
        let folder = report_folder()?;
        for (port, host) in self.hosts.iter().enumerate() {
            host.write_capture(&folder.join(format!("{name}-port{port}.pcap")))?;
        }
        write_console(&folder, name, &self.router)?;
        Ok(format!("captures and console: {}/{name}-*", folder.display()))
    }
}

/// A router with a Linux host at every port. Needs root.
pub(crate) struct LinuxRig {
    pub(crate) router: Router,
    pub(crate) network: Network,
}

/// What differs between Linux rigs.
#[derive(Clone, Debug)]
pub(crate) struct LinuxPlan {
    pub(crate) config: Config,
    /// MTU of each host's NIC.
    pub(crate) mtu: [usize; 2],
    pub(crate) queues: usize,
    /// Each NIC's queues, if they differ.
    pub(crate) queues_at: Option<[usize; 2]>,
    pub(crate) cpus: usize,
}

impl LinuxPlan {
    pub(crate) fn new() -> LinuxPlan {
        LinuxPlan { config: Config::two_ports(), mtu: [1500; 2], queues: 1, queues_at: None, cpus: 1 }
    }

    /// Both networks and the router with this MTU.
    pub(crate) fn with_mtu(mut self, mtu: usize) -> LinuxPlan {
        self.config = self.config.with_mtu(0, mtu).with_mtu(1, mtu);
        self.mtu = [mtu; 2];
        self
    }
}

impl LinuxRig {
    /// Builds the namespaces, starts the router, waits until it is ready.
    pub(crate) fn start(image: Image, plan: &LinuxPlan) -> Result<LinuxRig> {
        let rig = LinuxRig::power_on(image, plan, |_| ())?;
        rig.router.ready()?;
        Ok(rig)
    }

    /// The same without the wait.
    pub(crate) fn power_on(
        image: Image,
        plan: &LinuxPlan,
        prepare: impl FnOnce(&mut Setup),
    ) -> Result<LinuxRig> {
        let host_plan = |port: usize| -> Result<Plan> {
            let own = identity(port)?;
            Ok(Plan {
                mac: host_mac(port),
                addresses: vec![format!("{}/24", own.v4), format!("{}/64", own.v6)],
                gateways: vec![own.gateway_v4.to_string(), own.gateway_v6.to_string()],
                mtu: plan.mtu[port],
                queues: plan.queues_at.map_or(plan.queues, |queues| queues[port]),
            })
        };
        let network = Network::new(&[host_plan(0)?, host_plan(1)?])?;
        let mut setup = Setup::new(image, plan.config.clone(), network.wires());
        setup.namespace = Some(network.namespace.clone());
        setup.paused = true;
        setup.cpus = plan.cpus;
        if let Some(mtu) = plan.config.interfaces.iter().filter_map(|i| i.mtu).max().filter(|&mtu| mtu > 1500)
        {
            setup.nic_properties.push(format!("host_mtu={mtu}"));
        }
        prepare(&mut setup);
        let mut router = setup.start()?;
        // QEMU opens its TAPs before it opens its monitor.
        router.machine.qmp()?;
        network.arrive()?;
        router.machine.resume()?;
        Ok(LinuxRig { router, network })
    }

    pub(crate) fn host(&self, port: usize) -> &LinuxHost {
        &self.network.hosts[port]
    }

    /// As `FrameRig::check`.
    pub(crate) fn check(mut self, name: &str, check: impl FnOnce(&mut LinuxRig) -> Result<()>) -> Result<()> {
        let outcome = check(&mut self).and_then(|()| no_panic(&self.router));
        let Err(error) = outcome else { return Ok(()) };
        let folder = report_folder()?;
        write_console(&folder, name, &self.router)?;
        Err(error.context(format!("console: {}/{name}-console.txt", folder.display())))
    }
}

pub(crate) fn no_panic(router: &Router) -> Result<()> {
    let text = router.machine.console.text();
    let fatal = |line: &&str| line.contains("weir: fatal") || line.contains("Kernel panic");
    let panicked = text.lines().find(fatal);
    ensure!(panicked.is_none(), "the router panicked: {}", panicked.unwrap_or_default());
    ensure!(!router.machine.console.ended(), "the router's machine ended");
    Ok(())
}

pub(crate) fn write_console(folder: &Path, name: &str, router: &Router) -> Result<()> {
    let path = folder.join(format!("{name}-console.txt"));
    let text = format!("{}\n{}", router.machine.console.text(), router.machine.errors.text());
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

/// How long a frame may take through an emulated router on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long the lab listens for a frame that must not come.
pub(crate) const SILENCE: Duration = Duration::from_millis(150);
