//! Real Linux hosts around the router: a network namespace each, whose NIC is the TAP device QEMU is attached to, so
//! that the host's own stack, offloads included, is what the router talks to. Needs root.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cleanup::{self, Made, Thing};
use crate::command::{self, Output};
use crate::qemu::Wire;

/// Addresses of a Linux host.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) mac: String,
    /// With prefix length.
    pub(crate) addresses: Vec<String>,
    /// Default routes.
    pub(crate) gateways: Vec<String>,
    pub(crate) mtu: usize,
    pub(crate) queues: usize,
}

/// A namespace with the far end of one NIC in it.
pub(crate) struct LinuxHost {
    pub(crate) namespace: String,
    device: String,
    plan: Plan,
    /// Where QEMU opens the TAP before it moves.
    machine_namespace: String,
    _made: Made,
}

/// The namespace QEMU runs in, and the hosts.
pub(crate) struct Network {
    pub(crate) namespace: String,
    pub(crate) hosts: Vec<LinuxHost>,
    _made: Made,
}

pub(crate) fn make_namespace(label: &str) -> Result<(String, Made)> {
    let name = cleanup::name(label);
    let made = Made::register(Thing::Namespace(name.clone()));
    command::capture("ip", &["netns", "add", &name], Duration::from_secs(10))
        .context("network namespaces need root (and CAP_SYS_ADMIN in a container)")?;
    Ok((name, made))
}

/// Runs several `ip` commands in a namespace at once.
pub(crate) fn ip(namespace: &str, lines: &str) -> Result<String> {
    let mut command = Command::new("ip");
    command.args(["-n", namespace, "-batch", "-"]);
    command::run(&mut command, lines.as_bytes(), Duration::from_secs(10))?
        .success(&format!("ip, for {lines:?}"))
}

impl Network {
    /// Makes the TAP devices where QEMU will open them. `arrive` gives them to the hosts.
    pub(crate) fn new(plans: &[Plan]) -> Result<Network> {
        let (namespace, made) = make_namespace("qemu")?;
        let mut hosts = Vec::new();
        for (i, plan) in plans.iter().enumerate() {
            let (own, made) = make_namespace("host")?;
            let device = format!("tap{i}");
            let queues = if plan.queues > 1 { " multi_queue" } else { "" };
            ip(&namespace, &format!("tuntap add dev {device} mode tap vnet_hdr{queues}\n"))
                .context("TAP devices need the tun module: modprobe tun")?;
            hosts.push(LinuxHost {
                namespace: own,
                device,
                plan: plan.clone(),
                machine_namespace: namespace.clone(),
                _made: made,
            });
        }
        Ok(Network { namespace, hosts, _made: made })
    }

    pub(crate) fn wires(&self) -> Vec<Wire> {
        let wire = |host: &LinuxHost| Wire::Tap { device: host.device.clone(), queues: host.plan.queues };
        self.hosts.iter().map(wire).collect()
    }

    /// Moves every TAP into its host and sets it up. QEMU must have opened it.
    pub(crate) fn arrive(&self) -> Result<()> {
        self.hosts.iter().try_for_each(LinuxHost::arrive)
    }
}

impl LinuxHost {
    fn arrive(&self) -> Result<()> {
        let (device, plan) = (&self.device, &self.plan);
        ip(&self.machine_namespace, &format!("link set {device} netns {} name eth0\n", self.namespace))?;
        // Addresses are usable at once (no duplicate detection); nothing is learnt from advertisements.
        self.shell(
            "for s in all default eth0; do echo 0 > /proc/sys/net/ipv6/conf/$s/accept_dad; \
             echo 0 > /proc/sys/net/ipv6/conf/$s/accept_ra; done",
            Duration::from_secs(5),
        )?;
        let mut lines = format!("link set lo up\nlink set eth0 address {} mtu {} up\n", plan.mac, plan.mtu);
        for address in &plan.addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            lines.push_str(&format!("addr add {address} dev eth0{nodad}\n"));
        }
        for gateway in &plan.gateways {
            lines.push_str(&format!("route add default via {gateway}\n"));
        }
        ip(&self.namespace, &lines).map(|_| ())
    }

    /// A command that will run in this host.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]).args(arguments);
        command
    }

    /// Runs a program in this host.
    pub(crate) fn run(&self, program: &str, arguments: &[&str], limit: Duration) -> Result<Output> {
        if !command::installed(program) {
            anyhow::bail!("{program} is not installed: apt-get install -y {}", command::package_of(program));
        }
        command::run(&mut self.command(program, arguments), &[], limit)
    }

    /// Runs a program that must succeed; its output.
    pub(crate) fn check(&self, program: &str, arguments: &[&str], limit: Duration) -> Result<String> {
        self.run(program, arguments, limit)?.success(&format!("{program} {}", arguments.join(" ")))
    }

    /// Runs a line of shell that must succeed.
    pub(crate) fn shell(&self, line: &str, limit: Duration) -> Result<String> {
        self.check("sh", &["-c", line], limit)
    }

    /// Starts a program that runs on; it ends when the returned value is dropped.
    pub(crate) fn start(&self, program: &str, arguments: &[&str]) -> Result<Daemon> {
        Daemon::start(program, self.command(program, arguments))
    }

    /// Switches the NIC's checksum and segmentation offloads.
    pub(crate) fn offloads(&self, state: &str) -> Result<()> {
        let list =
            ["-K", "eth0", "rx", state, "tx", state, "sg", state, "tso", state, "gso", state, "gro", state];
        // ethtool names features it cannot change and still changes the others.
        self.run("ethtool", &list, Duration::from_secs(5)).map(|_| ())
    }
}

/// A program running in a host.
pub(crate) struct Daemon {
    child: std::process::Child,
    made: Option<Made>,
    pub(crate) output: crate::console::Console,
    pub(crate) errors: crate::console::Console,
}

impl Daemon {
    /// Starts `command`, which runs `program`.
    pub(crate) fn start(program: &str, mut command: Command) -> Result<Daemon> {
        let mut child = command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .map_err(|e| command::explain(program, e))?;
        let made = Made::register(Thing::Process(child.id()));
        let (output, errors) = (crate::console::Console::default(), crate::console::Console::default());
        output.follow(child.stdout.take().context("no output pipe")?);
        errors.follow(child.stderr.take().context("no error pipe")?);
        Ok(Daemon { child, made: Some(made), output, errors })
    }

    /// Asks it to end (SIGINT), as a capture needs to write out what it has, and waits.
    pub(crate) fn interrupt(mut self, limit: Duration) -> Result<()> {
        use rustix::process::{Pid, Signal, kill_process};
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::INT).context("ending a program")?;
        }
        let deadline = std::time::Instant::now() + limit;
        while self.child.try_wait()?.is_none() {
            anyhow::ensure!(std::time::Instant::now() < deadline, "a program does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Some(made) = self.made.take() {
            made.release();
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(made) = self.made.take() {
            drop(made);
            let _ = self.child.wait();
        }
    }
}
