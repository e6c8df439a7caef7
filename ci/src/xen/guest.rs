//! A router as a guest of Xen: its networks in dom0, its configuration, its start and its end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::dom0::{Dom0, LINUX, LINUX_INITRD, WEIR};
use super::domu;
use crate::command::last_lines;
use crate::host::Identity;
use crate::rig::{host_mac, identity};
use crate::router::{Config, Image};

/// An operation of Xen's toolstack, which is slow under emulation.
pub(crate) const TOOLSTACK: Duration = Duration::from_secs(60);
const QUICK: Duration = Duration::from_secs(10);

/// The hosts around a guest: one network namespace of dom0 a port, named after the guest.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    guest: String,
}

/// Ports of a guest: two from the start, one for later.
const PORTS: usize = 3;

impl Hosts {
    /// Makes the namespaces and writes what the vif script does in each.
    pub(crate) fn make(dom0: &mut Dom0, guest: &str) -> Result<Hosts> {
        let hosts = Hosts { guest: guest.to_owned() };
        for port in 0..PORTS {
            let (name, own) = (hosts.name(port), identity(port)?);
            dom0.check(
                &format!(
                    "ip netns add {name} && ip -n {name} link set lo up && ip netns exec {name} sh -c '\
                     for s in all default; do echo 0 > /proc/sys/net/ipv6/conf/$s/accept_dad; \
                     echo 0 > /proc/sys/net/ipv6/conf/$s/accept_ra; done'"
                ),
                QUICK,
            )?;
            let lines = format!(
                "link set VIF address {} up\naddr add {}/24 dev VIF\naddr add {}/64 dev VIF nodad\n\
                 route add default via {}\nroute add default via {} dev VIF\n",
                host_mac(port),
                own.v4,
                own.v6,
                own.gateway_v4,
                own.gateway_v6
            );
            dom0.write(&format!("/etc/lab/{name}"), &lines)?;
        }
        Ok(hosts)
    }

    pub(crate) fn name(&self, port: usize) -> String {
        format!("{}-{}", self.guest, ["a", "b", "c"].get(port).copied().unwrap_or("x"))
    }

    pub(crate) fn identity(&self, port: usize) -> Result<Identity> {
        identity(port)
    }
}

/// Address of a guest's vif. The bytes are those that Xen has for itself.
pub(crate) fn vif_mac(port: usize) -> String {
    format!("00:16:3e:00:00:{:02x}", port + 1)
}

/// Where a guest's configuration comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The boot module: `ramdisk=`.
    Module,
    /// xenstore's `vm-data/weir/config`, written before the guest runs.
    Store,
}

/// What a guest is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) image: Image,
    pub(crate) name: String,
    pub(crate) cpus: usize,
    pub(crate) memory_mib: usize,
    pub(crate) source: Source,
    /// `weir.toml`; the Linux router always has `Config::three_ports`.
    pub(crate) config: String,
    /// Vifs from the start.
    pub(crate) vifs: usize,
}

impl Plan {
    pub(crate) fn new(image: Image, name: &str) -> Plan {
        Plan {
            image,
            name: name.to_owned(),
            cpus: 1,
            memory_mib: default_memory(image),
            source: Source::Module,
            config: weir_toml(&Config::three_ports()),
            vifs: 2,
        }
    }

    fn vif(&self, hosts: &Hosts, port: usize) -> String {
        format!("mac={},bridge={},script=vif-lab", vif_mac(port), hosts.name(port))
    }

    fn xl_config(&self, hosts: &Hosts) -> String {
        let (kernel, ramdisk) = match (self.image, self.source) {
            (Image::Weir, Source::Module) => (WEIR, Some(format!("/root/{}.toml", self.name))),
            (Image::Weir, Source::Store) => (WEIR, None),
            (Image::Linux, _) => (LINUX, Some(LINUX_INITRD.to_owned())),
        };
        let vifs: Vec<String> = (0..self.vifs).map(|port| format!("'{}'", self.vif(hosts, port))).collect();
        let mut text = format!(
            "name = \"{}\"\ntype = \"pvh\"\nkernel = \"{kernel}\"\nmemory = {}\nvcpus = {}\nvif = [ {} ]\n",
            self.name,
            self.memory_mib,
            self.cpus,
            vifs.join(", ")
        );
        if let Some(path) = ramdisk {
            text.push_str(&format!("ramdisk = \"{path}\"\n"));
        }
        if self.image == Image::Linux {
            text.push_str("extra = \"console=hvc0 quiet loglevel=3 panic=-1 mitigations=off\"\n");
        }
        // A guest that ends stays ended: its restart would hide it.
        text.push_str("on_reboot = \"destroy\"\non_crash = \"destroy\"\n");
        text
    }
}

/// MiB a guest gets if nobody says.
pub(crate) fn default_memory(image: Image) -> usize {
    match image {
        Image::Weir => 64,
        Image::Linux => 128,
    }
}

/// `weir.toml` for vifs: each is picked by its address.
pub(crate) fn weir_toml(config: &Config) -> String {
    let mut text = config.toml();
    for interface in &config.interfaces {
        let by_order = format!("match = {{ port = {} }}", interface.port);
        text = text.replace(&by_order, &format!("match = {{ mac = \"{}\" }}", vif_mac(interface.port)));
    }
    text
}

/// A guest that was created.
pub(crate) struct Guest {
    pub(crate) plan: Plan,
    pub(crate) hosts: Hosts,
    pub(crate) id: u32,
    /// First line of Xen's own console that may be about it.
    position: usize,
    started: Instant,
}

impl Guest {
    /// Creates the domain, gives it its configuration, lets it run. It may not be ready yet.
    pub(crate) fn create(dom0: &mut Dom0, plan: &Plan, hosts: &Hosts) -> Result<Guest> {
        let name = &plan.name;
        dom0.write(&format!("/root/{name}.cfg"), &plan.xl_config(hosts))?;
        dom0.write(&format!("/root/{name}.toml"), &plan.config)?;
        let position = dom0.machine.console.position();
        let script = format!("rm -f {}; xl create -p /root/{name}.cfg >&2 && xl domid {name}", log(name));
        let id = dom0.check(&script, TOOLSTACK)?.trim().parse().context("domain id")?;
        let mut guest =
            Guest { plan: plan.clone(), hosts: hosts.clone(), id, position, started: Instant::now() };
        if plan.image == Image::Weir && plan.source == Source::Store {
            guest.configure(dom0, &plan.config)?;
        }
        guest.started = Instant::now();
        dom0.check(&format!("xl unpause {name}"), TOOLSTACK)?;
        Ok(guest)
    }

    /// Writes `weir.toml` to the store.
    pub(crate) fn configure(&self, dom0: &mut Dom0, text: &str) -> Result<()> {
        let file = format!("/root/{}.store.toml", self.plan.name);
        dom0.write(&file, text)?;
        self.store(dom0, &format!("xenstore-write $D/vm-data/weir/config \"$(cat {file})\"")).map(|_| ())
    }

    /// Waits until the guest has told the outcome of its configuration in the store, and it has `needle`.
    pub(crate) fn outcome(&self, dom0: &mut Dom0, needle: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let text = self.node(dom0, "data/weir/status")?;
            match text {
                Some(text) if text.contains(needle) => return Ok(text),
                other if Instant::now() > deadline => {
                    bail!("data/weir/status is {other:?} after {} s, not \"{needle}\"", limit.as_secs())
                }
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Runs a script with the guest's path of the store in `D`.
    pub(crate) fn store(&self, dom0: &mut Dom0, script: &str) -> Result<String> {
        dom0.check(&format!("D=/local/domain/{}; {script}", self.id), QUICK)
    }

    /// A node below the guest's path, if it is there.
    pub(crate) fn node(&self, dom0: &mut Dom0, path: &str) -> Result<Option<String>> {
        let output = dom0.run(&format!("xenstore-read /local/domain/{}/{path}", self.id), QUICK)?;
        Ok((output.code == 0).then(|| output.stdout.trim_end().to_owned()))
    }

    /// All that the guest has said: on its own console, and on Xen's.
    pub(crate) fn console(&self, dom0: &mut Dom0) -> Result<String> {
        let mut text = dom0.run(&format!("cat {} 2>/dev/null", log(&self.plan.name)), QUICK)?.stdout;
        let mark = format!("(d{}) ", self.id);
        for line in dom0.machine.console.since(self.position) {
            if let Some((_, said)) = line.text.split_once(&mark) {
                text.push_str(said);
                text.push('\n');
            }
        }
        Ok(text.replace('\r', ""))
    }

    /// How many bytes its own console has had.
    pub(crate) fn console_len(&self, dom0: &mut Dom0) -> Result<u64> {
        let text = dom0.check(&format!("wc -c < {}", log(&self.plan.name)), QUICK)?;
        text.trim().parse().with_context(|| format!("wc says {text:?}"))
    }

    /// What came on its own console after so many bytes: all of it takes seconds to read after hours.
    pub(crate) fn console_after(&self, dom0: &mut Dom0, bytes: u64) -> Result<String> {
        let script = format!("tail -c +{} {}", bytes + 1, log(&self.plan.name));
        Ok(dom0.check(&script, QUICK)?.replace('\r', ""))
    }

    /// Waits until the guest's console has `needle`; the line. Quotes the console if it does not come.
    pub(crate) fn wait(&self, dom0: &mut Dom0, needle: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let text = self.console(dom0)?;
            if let Some(line) = text.lines().find(|line| line.contains(needle)) {
                return Ok(line.trim().to_owned());
            }
            let gone = !self.exists(dom0)?;
            if gone || Instant::now() > deadline {
                let why = if gone {
                    "the domain is gone".to_owned()
                } else {
                    format!("{} s passed", limit.as_secs())
                };
                bail!(
                    "{why} without \"{needle}\" on the guest's console, which ends:\n{}",
                    last_lines(&text, 20)
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the guest says that it forwards: seconds since it was let run, and the line.
    pub(crate) fn ready(&self, dom0: &mut Dom0) -> Result<(f64, String)> {
        let (text, limit) = match self.plan.image {
            Image::Weir => ("weir: ready", 30),
            Image::Linux => (domu::READY, 120),
        };
        let line = self.wait(dom0, text, Duration::from_secs(limit))?;
        Ok((self.started.elapsed().as_secs_f64(), line))
    }

    pub(crate) fn exists(&self, dom0: &mut Dom0) -> Result<bool> {
        Ok(dom0.run(&format!("xl list {}", self.id), TOOLSTACK)?.code == 0)
    }

    /// Types on the guest's console.
    pub(crate) fn type_keys(&self, dom0: &mut Dom0, keys: &str) -> Result<()> {
        self.store(dom0, &format!("printf '{keys}' > $(xenstore-read $D/console/tty)")).map(|_| ())
    }

    /// Has the vif of `port` attached while the guest runs.
    pub(crate) fn attach(&self, dom0: &mut Dom0, port: usize) -> Result<()> {
        let words = self.plan.vif(&self.hosts, port).replace(',', " ");
        dom0.check(&format!("xl network-attach {} {words}", self.plan.name), TOOLSTACK)?;
        match self.plan.image {
            Image::Weir => Ok(()),
            Image::Linux => {
                let there = format!("eth{port} up");
                let before = self.console(dom0)?.matches(&there).count();
                let deadline = Instant::now() + TOOLSTACK;
                while self.console(dom0)?.matches(&there).count() == before {
                    ensure!(Instant::now() < deadline, "the guest sees no eth{port}");
                    self.type_keys(dom0, "\\n")?;
                    std::thread::sleep(Duration::from_millis(200));
                }
                Ok(())
            }
        }
    }

    /// Waits until front and back end of the vif agree that they are connected.
    pub(crate) fn connected(&self, dom0: &mut Dom0, port: usize, limit: Duration) -> Result<()> {
        let script = format!(
            "B=/local/domain/0/backend/vif/{}/{port}; F=/local/domain/{}/device/vif/{port}; \
             for i in $(seq {}); do s=\"$(xenstore-read $F/state) $(xenstore-read $B/state)\"; \
             [ \"$s\" = '4 4' ] && exit 0; sleep 0.1; done; echo \"states $s\"; exit 1",
            self.id,
            self.id,
            limit.as_secs() * 10
        );
        let output = dom0.run(&script, limit + QUICK)?;
        ensure!(
            output.code == 0,
            "front and back end do not connect: {} (1 initialising, 2 waits, 3 initialised, 4 connected, 6 closed)",
            output.stdout.trim()
        );
        Ok(())
    }

    /// Takes the vif of `port` away; nothing of it may stay.
    pub(crate) fn detach(&self, dom0: &mut Dom0, port: usize) -> Result<()> {
        dom0.check(&format!("xl network-detach {} {port}", self.plan.name), TOOLSTACK)?;
        let script = format!(
            "for i in $(seq 100); do xenstore-exists /local/domain/0/backend/vif/{}/{port} || exit 0; sleep 0.1; done; \
             exit 1",
            self.id
        );
        ensure!(dom0.run(&script, TOOLSTACK)?.code == 0, "the back end of vif {port} stays");
        Ok(())
    }

    /// Asks the guest to end and waits until its domain is gone; how long it took.
    pub(crate) fn shutdown(&self, dom0: &mut Dom0, limit: Duration) -> Result<Duration> {
        let began = Instant::now();
        dom0.check(&format!("xl shutdown {}", self.id), TOOLSTACK)?;
        while self.exists(dom0)? {
            if began.elapsed() > limit {
                let text = self.console(dom0)?;
                bail!("still there after {} s; its console ends:\n{}", limit.as_secs(), last_lines(&text, 8));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let took = began.elapsed();
        self.vifs_gone(dom0)?;
        Ok(took)
    }

    /// Ends the guest at once.
    pub(crate) fn destroy(&self, dom0: &mut Dom0) -> Result<()> {
        if self.exists(dom0)? {
            dom0.check(&format!("xl destroy {}", self.id), TOOLSTACK)?;
        }
        self.vifs_gone(dom0)
    }

    /// The next guest's vifs have the same addresses.
    fn vifs_gone(&self, dom0: &mut Dom0) -> Result<()> {
        let names: Vec<String> = (0..PORTS).map(|port| self.hosts.name(port)).collect();
        let script = format!(
            "for i in $(seq 100); do n=0; for h in {}; do ip -n $h link | grep -q vif{}\\\\. && n=1; done; \
             [ $n = 0 ] && exit 0; sleep 0.1; done; exit 1",
            names.join(" "),
            self.id
        );
        ensure!(dom0.run(&script, TOOLSTACK)?.code == 0, "back ends of the ended guest stay");
        Ok(())
    }
}

fn log(name: &str) -> String {
    format!("/var/log/xen/console/guest-{name}.log")
}
