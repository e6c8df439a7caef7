//! `lab smoke-xen`: a router on real Xen, step by step: boot, traffic, vifs that come and go, its end, and again with
//! another number of CPUs and another source of its configuration.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::account;
use super::dom0::Dom0;
use super::guest::{Guest, Hosts, Plan, Source, weir_toml};
use super::traffic::{self, Bulk};
use super::{spread, upsets};
use crate::router::{Config, Image};

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) image: Image,
    /// Guest memory in MiB; the image's default if `None`.
    pub(crate) memory_mib: Option<usize>,
    pub(crate) cycles: usize,
    /// Only steps whose name has this.
    pub(crate) only: String,
    /// Long steps too.
    pub(crate) all: bool,
}

/// One step; what it returns is shown beside its name.
struct Step {
    name: &'static str,
    /// Only Weir has this.
    weir: bool,
    /// It takes a minute or more: only if it is asked for.
    long: bool,
    run: fn(&mut Smoke) -> Result<String>,
}

const fn step(name: &'static str, run: fn(&mut Smoke) -> Result<String>) -> Step {
    Step { name, weir: false, long: false, run }
}

const fn weir(name: &'static str, run: fn(&mut Smoke) -> Result<String>) -> Step {
    Step { name, weir: true, long: false, run }
}

const fn long(name: &'static str, run: fn(&mut Smoke) -> Result<String>) -> Step {
    Step { name, weir: true, long: true, run }
}

/// In the order they run. A step that needs a guest and finds none starts one.
const STEPS: &[Step] = &[
    step("boot-module-1-cpu", |s| s.boot(1, Source::Module)),
    step("ping-ipv4", |s| s.ping(Family::V4)),
    step("ping-ipv6", |s| s.ping(Family::V6)),
    step("tcp-ipv4", |s| s.bulk(Family::V4, Bulk::Tcp)),
    step("tcp-ipv6", |s| s.bulk(Family::V6, Bulk::Tcp)),
    step("udp-ipv4", |s| s.bulk(Family::V4, UDP)),
    step("udp-ipv6", |s| s.bulk(Family::V6, UDP)),
    step("flood-ipv4", |s| s.flood(Family::V4)),
    step("flood-ipv6", |s| s.flood(Family::V6)),
    weir("console-table", Smoke::table),
    step("plug", Smoke::plug),
    step("unplug", Smoke::unplug),
    step("plug-cycles", Smoke::cycles),
    weir("backend-rebinds", |s| s.upset(upsets::rebind)),
    weir("backend-closes", |s| s.upset(upsets::close)),
    weir("mtu-and-carrier", |s| s.with(upsets::retune)),
    long("event-storm", |s| s.with(upsets::storm)),
    long("save-refused", |s| s.with(upsets::save)),
    step("shutdown", Smoke::shutdown),
    weir("buffers-run-out-in-16-mib", Smoke::starve),
    step("boot-store-2-cpus", |s| s.boot(2, Source::Store)),
    step("ping-ipv4-2-cpus", |s| s.ping(Family::V4)),
    step("ping-ipv6-2-cpus", |s| s.ping(Family::V6)),
    step("tcp-ipv4-2-cpus", |s| s.bulk(Family::V4, Bulk::Tcp)),
    step("tcp-ipv6-2-cpus", |s| s.bulk(Family::V6, Bulk::Tcp)),
    weir("spread-by-hash", Smoke::spread),
    weir("reconfigure-by-store", Smoke::reconfigure),
    weir("refuse-by-store", Smoke::refuse),
    weir("vlan-by-store", Smoke::vlan),
    step("plug-2-cpus", Smoke::plug),
    step("unplug-2-cpus", Smoke::unplug),
    step("shutdown-2-cpus", Smoke::shutdown),
    step("reboot-asked-by-toolstack", Smoke::reboot),
];

/// The host on a VLAN: behind those of the ports.
const VLAN_HOST: usize = 3;
const UDP: Bulk = Bulk::Udp { mbit: 10 };

/// How soon a domain must be gone that was asked to end.
const END: Duration = Duration::from_secs(10);
/// How soon a guest must see something in the store.
const NOTICE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// Names of the steps for an image.
pub(crate) fn list(image: Image) -> Vec<&'static str> {
    STEPS.iter().filter(|step| !step.weir || image == Image::Weir).map(|step| step.name).collect()
}

struct Smoke {
    dom0: Dom0,
    hosts: Hosts,
    options: Options,
    guest: Option<Guest>,
}

/// Runs the steps, a line each. Whether none failed.
pub(crate) fn run(options: Options) -> Result<bool> {
    let wanted: Vec<&Step> = STEPS
        .iter()
        .filter(|step| !step.weir || options.image == Image::Weir)
        .filter(|step| step.name.contains(&options.only))
        .filter(|step| !step.long || options.all || !options.only.is_empty())
        .collect();
    ensure!(!wanted.is_empty(), "no step has \"{}\" in its name; --list names them all", options.only);
    let began = Instant::now();
    let limit = Duration::from_secs(1500 + 60 * options.cycles as u64);
    let mut dom0 = Dom0::start(&[options.image], limit)?;
    let hosts = Hosts::make(&mut dom0, "r")?;
    show("ok", "xen-and-dom0", began, "Xen, its store and a Linux dom0 run");
    let mut smoke = Smoke { dom0, hosts, options, guest: None };
    let mut failed = 0;
    for step in wanted {
        let began = Instant::now();
        let outcome = (step.run)(&mut smoke);
        crate::cleanup::wait_if_stopping();
        match outcome {
            Ok(said) => show("ok", step.name, began, &said),
            Err(error) => {
                failed += 1;
                show("FAIL", step.name, began, &format!("{error:#}").replace('\n', "\n        "));
                let report = smoke.dom0.report(&format!("smoke-xen-{}", step.name));
                println!("        logs: {}", report.unwrap_or_else(|e| format!("{e:#}")));
                smoke.recover();
            }
        }
    }
    println!("{failed} failed, in {:.0} s", began.elapsed().as_secs_f32());
    Ok(failed == 0)
}

fn show(mark: &str, name: &str, began: Instant, said: &str) {
    println!("{mark:<5} {name:<26} {:>5.1} s  {said}", began.elapsed().as_secs_f32());
}

impl Smoke {
    fn plan(&self, cpus: usize, source: Source) -> Plan {
        let mut plan = Plan::new(self.options.image, "router");
        plan.cpus = cpus;
        plan.source = source;
        if let Some(memory) = self.options.memory_mib {
            plan.memory_mib = memory;
        }
        plan
    }

    /// A guest that has its configuration from the store.
    fn stored(&mut self) -> Result<()> {
        match &self.guest {
            Some(guest) if guest.plan.source == Source::Store => Ok(()),
            _ => self.boot(2, Source::Store).map(|_| ()),
        }
    }

    /// A guest that forwards; starts one if there is none. Takes it out, so that `dom0` stays free to use.
    fn guest(&mut self) -> Result<Guest> {
        match self.guest.take() {
            Some(guest) => Ok(guest),
            None => {
                let plan = self.plan(1, Source::Module);
                let guest = Guest::create(&mut self.dom0, &plan, &self.hosts)?;
                guest.ready(&mut self.dom0)?;
                Ok(guest)
            }
        }
    }

    /// Lends the guest to `body`, and keeps it whatever comes out.
    fn with<T>(&mut self, body: impl FnOnce(&mut Dom0, &Guest) -> Result<T>) -> Result<T> {
        let guest = self.guest()?;
        let outcome = body(&mut self.dom0, &guest);
        self.guest = Some(guest);
        outcome
    }

    /// After a failure: a guest that still forwards stays, any other goes.
    fn recover(&mut self) {
        let Some(guest) = self.guest.take() else {
            let _ = self.dom0.run("xl destroy router", END * 3);
            return;
        };
        let alive = guest
            .hosts
            .identity(1)
            .and_then(|far| traffic::ping(&mut self.dom0, &guest.hosts, 0, far.v4.into()))
            .is_ok();
        if alive {
            self.guest = Some(guest);
        } else if let Err(error) = guest.destroy(&mut self.dom0) {
            println!("        {error:#}");
        }
    }

    fn boot(&mut self, cpus: usize, source: Source) -> Result<String> {
        if let Some(guest) = self.guest.take() {
            guest.destroy(&mut self.dom0)?;
        }
        let plan = self.plan(cpus, source);
        let guest = Guest::create(&mut self.dom0, &plan, &self.hosts)?;
        let ready = guest.ready(&mut self.dom0);
        self.guest = Some(guest);
        let (seconds, line) = ready?;
        if self.options.image == Image::Weir {
            let said = if cpus == 1 { "1 CPU".to_owned() } else { format!("{cpus} CPUs") };
            ensure!(line.contains(&said), "it does not run on {said}: {line}");
            ensure!(line.contains("edge1"), "it has not read its configuration: {line}");
            if source == Source::Store {
                self.with(|dom0, guest| guest.outcome(dom0, "ok", NOTICE))?;
            }
        }
        for port in 0..2 {
            self.with(|dom0, guest| guest.connected(dom0, port, NOTICE))?;
        }
        let line = line.split(';').next().unwrap_or_default().to_owned();
        Ok(format!("{seconds:.1} s after its start, {} MiB: {line}", plan.memory_mib))
    }

    fn address(&self, port: usize, family: Family) -> Result<std::net::IpAddr> {
        let own = self.hosts.identity(port)?;
        Ok(if family == Family::V4 { own.v4.into() } else { own.v6.into() })
    }

    fn ping(&mut self, family: Family) -> Result<String> {
        let to = self.address(1, family)?;
        let trip = self.with(|dom0, guest| traffic::ping(dom0, &guest.hosts, 0, to))?;
        Ok(format!("round trip {:.1} ms least, {:.1} mean, {:.1} most", trip.least, trip.mean, trip.most))
    }

    fn bulk(&mut self, family: Family, bulk: Bulk) -> Result<String> {
        let mut figures = Vec::new();
        for (from, to) in [(0, 1), (1, 0)] {
            let address = self.address(to, family)?;
            let done =
                self.with(|dom0, guest| traffic::transfer(dom0, &guest.hosts, (from, to), address, bulk, 3))?;
            // A path that works through retransmissions alone reaches some kbit/s.
            ensure!(
                done.mbit > 1.0 && done.lost < 0.5,
                "{:.2} Mbit/s, {:.0} % lost",
                done.mbit,
                done.lost * 100.0
            );
            let way = if from == 0 { "a to b" } else { "b to a" };
            let lost =
                if bulk == Bulk::Tcp { String::new() } else { format!(", {:.1} % lost", done.lost * 100.0) };
            figures.push(format!("{way} {:.1} Mbit/s{lost}", done.mbit));
        }
        Ok(figures.join("; "))
    }

    fn flood(&mut self, family: Family) -> Result<String> {
        let to = self.address(1, family)?;
        let count = self.with(|dom0, guest| traffic::flood(dom0, &guest.hosts, to, 3.0))?;
        ensure!(count.received > 100, "{count:?}");
        let rate = count.received as f64 / count.seconds;
        Ok(format!("{rate:.0} packets a second, {:.1} % lost", count.lost() * 100.0))
    }

    fn table(&mut self) -> Result<String> {
        let table = self.with(account::weir)?;
        let (received, sent) = (table.received("wan"), table.sent("lan"));
        let memory = table.memory.with_context(|| format!("no memory figure:\n{}", table.text))?;
        Ok(format!(
            "wan received {received}, lan sent {sent}, {} KiB, {} buffers",
            memory.kib, memory.buffers
        ))
    }

    /// One more route, at run time; then the first configuration again.
    fn reconfigure(&mut self) -> Result<String> {
        self.stored()?;
        let config = Config::three_ports();
        let far = self.hosts.identity(1)?;
        let more = config.clone().with_route("198.51.100.0/24", &far.v4.to_string());
        self.with(|dom0, guest| {
            let near = guest.hosts.name(1);
            let to = "198.51.100.1".parse().context("address")?;
            dom0.check(&format!("ip -n {near} addr add {to}/32 dev lo"), NOTICE)?;
            guest.store(dom0, "xenstore-rm $D/data/weir/status")?;
            guest.configure(dom0, &weir_toml(&more))?;
            let outcome = guest.outcome(dom0, "ok", NOTICE)?;
            let trip = traffic::ping(dom0, &guest.hosts, 0, to).context("by the new route")?;
            guest.store(dom0, "xenstore-rm $D/data/weir/status")?;
            guest.configure(dom0, &weir_toml(&config))?;
            guest.outcome(dom0, "ok", NOTICE)?;
            ensure!(
                traffic::ping(dom0, &guest.hosts, 0, to).is_err(),
                "the route that was taken out still works"
            );
            dom0.check(&format!("ip -n {near} addr del {to}/32 dev lo"), NOTICE)?;
            Ok(format!("status \"{outcome}\", ping by the new route {:.1} ms", trip.mean))
        })
    }

    /// A broken configuration is refused with its line; what was before stays.
    fn refuse(&mut self) -> Result<String> {
        self.stored()?;
        let to = self.address(1, Family::V4)?;
        self.with(|dom0, guest| {
            guest.configure(dom0, "hostname = \"edge1\"\n[interface.wan]\nmtu = 20\n")?;
            let outcome = guest.outcome(dom0, "error", NOTICE)?;
            ensure!(outcome.contains("interface.wan"), "the outcome names no place: {outcome}");
            traffic::ping(dom0, &guest.hosts, 0, to).context("after the refusal")?;
            guest.store(dom0, "xenstore-rm $D/data/weir/status")?;
            guest.configure(dom0, &weir_toml(&Config::three_ports()))?;
            guest.outcome(dom0, "ok", NOTICE)?;
            Ok(format!("\"{}\"", outcome.lines().next().unwrap_or_default()))
        })
    }

    /// A VLAN comes on the first vif at run time. Its host and that of the second vif reach each other: TCP's super-packets
    /// have to be cut for it, and its checksums completed, as the backend does neither behind a tag.
    fn vlan(&mut self) -> Result<String> {
        self.stored()?;
        let far = self.hosts.identity(1)?;
        let (v4, v6): (std::net::Ipv4Addr, std::net::Ipv6Addr) =
            ("198.18.30.2".parse().context("address")?, "2001:db8:30::2".parse().context("address")?);
        let config = weir_toml(&Config::three_ports());
        let tagged = "\n[interface.tagged]\nparent = \"wan\"\nvlan = 30\n\
                      addresses = [\"198.18.30.1/24\", \"2001:db8:30::1/64\"]\n";
        self.with(|dom0, guest| {
            let (outer, host) = (guest.hosts.name(0), guest.hosts.name(VLAN_HOST));
            let script = format!(
                "ip netns add {host} && ip -n {host} link set lo up && \
                 ip -n {outer} link add link vif{}.0 name vlan30 type vlan id 30 && \
                 ip -n {outer} link set vlan30 netns {host} && ip netns exec {host} sh -c '\
                 for s in all default vlan30; do echo 0 > /proc/sys/net/ipv6/conf/$s/accept_dad; done' && \
                 ip -n {host} link set vlan30 up && ip -n {host} addr add {v4}/24 dev vlan30 && \
                 ip -n {host} addr add {v6}/64 dev vlan30 nodad && \
                 ip -n {host} route add default via 198.18.30.1 && \
                 ip -n {host} route add default via 2001:db8:30::1",
                guest.id
            );
            dom0.check(&script, NOTICE)?;
            guest.store(dom0, "xenstore-rm $D/data/weir/status")?;
            guest.configure(dom0, &(config.clone() + tagged))?;
            guest.outcome(dom0, "ok", NOTICE)?;
            let mut figures = Vec::new();
            for to in [far.v4.into(), far.v6.into()] {
                figures
                    .push(format!("ping {:.1} ms", traffic::ping(dom0, &guest.hosts, VLAN_HOST, to)?.mean));
            }
            let there = (VLAN_HOST, 1);
            let back = (1, VLAN_HOST);
            for (way, address) in
                [(there, far.v4.into()), (there, far.v6.into()), (back, v4.into()), (back, v6.into())]
            {
                let done = traffic::transfer(dom0, &guest.hosts, way, address, Bulk::Tcp, 3)?;
                ensure!(done.mbit > 1.0, "TCP to {address}: {:.2} Mbit/s", done.mbit);
                figures.push(format!("TCP to {address} {:.1} Mbit/s", done.mbit));
            }
            let table = account::weir(dom0, guest)?;
            let (received, sent) = (table.received("tagged"), table.sent("tagged"));
            ensure!(received > 1000 && sent > 1000, "{received} and {sent} packets:\n{}", table.text);
            // A full ring is nobody's fault: TCP goes on until something is.
            for reason in ["offload-malformed", "offload-unsupported", "device-refused"] {
                ensure!(table.drops(reason) == 0, "{reason}:\n{}", table.text);
            }
            guest.store(dom0, "xenstore-rm $D/data/weir/status")?;
            guest.configure(dom0, &config)?;
            guest.outcome(dom0, "ok", NOTICE)?;
            ensure!(
                traffic::ping(dom0, &guest.hosts, VLAN_HOST, far.v4.into()).is_err(),
                "the VLAN that was taken out still works"
            );
            traffic::ping(dom0, &guest.hosts, 0, far.v4.into()).context("the vif without it")?;
            dom0.check(&format!("ip netns del {host}"), NOTICE)?;
            Ok(figures.join("; "))
        })
    }

    /// A third vif comes while the guest runs, and carries traffic to both other networks.
    fn plug(&mut self) -> Result<String> {
        let targets = [Family::V4, Family::V6].map(|family| self.address(0, family));
        self.with(|dom0, guest| {
            let began = Instant::now();
            guest.attach(dom0, 2)?;
            guest.connected(dom0, 2, NOTICE)?;
            let took = began.elapsed().as_secs_f64();
            let mut means = Vec::new();
            for to in targets {
                means.push(format!("{:.1} ms", traffic::ping(dom0, &guest.hosts, 2, to?)?.mean));
            }
            Ok(format!("connected after {took:.1} s; pings c to a {}", means.join(", ")))
        })
    }

    fn unplug(&mut self) -> Result<String> {
        let to = self.address(1, Family::V4)?;
        self.with(|dom0, guest| {
            if guest.node(dom0, "device/vif/2/state")?.is_none() {
                guest.attach(dom0, 2)?;
                guest.connected(dom0, 2, NOTICE)?;
            }
            let began = Instant::now();
            guest.detach(dom0, 2)?;
            let took = began.elapsed().as_secs_f64();
            let trip = traffic::ping(dom0, &guest.hosts, 0, to).context("the other vifs")?;
            Ok(format!("gone after {took:.1} s; ping a to b {:.1} ms", trip.mean))
        })
    }

    fn cycles(&mut self) -> Result<String> {
        let (count, target) = (self.options.cycles, self.address(0, Family::V4)?);
        self.with(|dom0, guest| account::cycles(dom0, guest, count, target))
    }

    /// A backend's coming and going, ten times at most.
    fn upset(&mut self, upset: fn(&mut Dom0, &Guest, usize) -> Result<String>) -> Result<String> {
        let count = self.options.cycles.min(10);
        self.with(|dom0, guest| upset(dom0, guest, count))
    }

    /// Flows reach the CPUs that the hash says.
    fn spread(&mut self) -> Result<String> {
        self.stored()?;
        self.with(spread::check)
    }

    /// In a guest of its own, which goes afterwards.
    fn starve(&mut self) -> Result<String> {
        if let Some(guest) = self.guest.take() {
            guest.destroy(&mut self.dom0)?;
        }
        let plan = Plan { memory_mib: 16, ..self.plan(1, Source::Module) };
        let guest = Guest::create(&mut self.dom0, &plan, &self.hosts)?;
        guest.ready(&mut self.dom0)?;
        let text = upsets::starve(&mut self.dom0, &guest);
        guest.destroy(&mut self.dom0)?;
        text
    }

    fn shutdown(&mut self) -> Result<String> {
        let guest = self.guest()?;
        let took = guest.shutdown(&mut self.dom0, END);
        if took.is_err() {
            self.guest = Some(guest);
        }
        Ok(format!("gone after {:.1} s", took?.as_secs_f64()))
    }

    /// The domain is set to end when it reboots, so that the guest's own part shows.
    fn reboot(&mut self) -> Result<String> {
        let guest = self.guest()?;
        let began = Instant::now();
        self.dom0.check(&format!("xl reboot {}", guest.id), END * 3)?;
        while guest.exists(&mut self.dom0)? {
            if began.elapsed() > END {
                self.guest = Some(guest);
                anyhow::bail!("still there after {} s", END.as_secs());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(format!("asked for its restart after {:.1} s", began.elapsed().as_secs_f64()))
    }
}
