//! uhyve, and the router on it: one-armed, between two hosts on the bridge that its TAP device is a port of. All of it
//! is on this machine if its KVM can run the image, else in a Linux guest whose KVM is an emulated AMD CPU's.

mod install;
mod place;
mod smoke;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use place::Place;
pub(crate) use smoke::run as smoke;

/// A step in the place where uhyve runs.
const QUICK: Duration = Duration::from_secs(30);
/// From uhyve's start to the router's ready line, emulated twice on a busy machine.
const READY: Duration = Duration::from_secs(60);

/// The largest IP packet that uhyve 0.10 hands over whole.
const MTU: usize = 1486;

/// Two subnets on one wire.
const CONFIG: &str = include_str!("../../images/uhyve/weir.toml");

/// What the router said, and when.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    /// From uhyve's start to the line.
    pub(crate) after: Duration,
    /// The ready line.
    pub(crate) line: String,
}

/// A place with uhyve, a bridge, and two hosts on it.
pub(crate) struct Uhyve {
    place: Place,
}

impl Uhyve {
    /// Finds or makes the place; installs uhyve if it is not there. `limit` ends what was made.
    pub(crate) fn start(limit: Duration) -> Result<Uhyve> {
        let mut uhyve = Uhyve { place: Place::find(limit)? };
        uhyve.check(NETWORK)?;
        uhyve.check(&format!("cat > \"$DIR/weir.toml\" <<'END'\n{CONFIG}END\n"))?;
        Ok(uhyve)
    }

    /// In which place uhyve runs, for people.
    pub(crate) fn place(&self) -> &str {
        self.place.describe()
    }

    /// Starts the router with `options` of uhyve's and waits for its ready line. One runs at a time.
    pub(crate) fn boot(&mut self, options: &str) -> Result<Ready> {
        self.end()?;
        self.check(&format!(
            "cd \"$DIR\"; uhyve_run {options} --net \"tap:$TAP\" --file-mapping \"$DIR/weir.toml:/weir.toml\" weir.elf"
        ))?;
        let began = Instant::now();
        let script = "until line=$(grep -a 'weir: ready' \"$DIR/out\"); do
  [ -e \"$DIR/status\" ] && exit 1; sleep 0.02
done
read -r now _ < /proc/uptime; read -r then _ < \"$DIR/began\"; echo \"$then $now $line\"";
        let output = self.place.run(script, READY)?;
        if output.code != 0 {
            bail!(
                "no ready line in {:.0} s; uhyve says:\n{}",
                began.elapsed().as_secs_f32(),
                self.console()?
            );
        }
        let mut words = output.stdout.splitn(3, ' ');
        let mut seconds = || words.next()?.parse::<f64>().ok();
        let (then, now) = (seconds().context("a time")?, seconds().context("a time")?);
        let line = words.next().context("a line")?.trim().to_owned();
        Ok(Ready { after: Duration::from_secs_f64((now - then).max(0.0)), line })
    }

    /// Runs uhyve with `arguments`, an image among them, until it ends: its exit status and all output.
    pub(crate) fn run_to_end(&mut self, arguments: &str) -> Result<(i32, String)> {
        self.end()?;
        let script = format!(
            "cd \"$DIR\"; uhyve_run {arguments}; until [ -e status ]; do sleep 0.05; done; cat status"
        );
        let status = self.place.check(&script, READY)?.trim().parse().context("uhyve's exit status")?;
        Ok((status, self.console()?))
    }

    /// All that uhyve and the router said since the last start.
    pub(crate) fn console(&mut self) -> Result<String> {
        self.check("cat \"$DIR/out\"")
    }

    /// Runs a script that must succeed where uhyve runs. `$A` and `$B` are the hosts' namespaces.
    pub(crate) fn check(&mut self, script: &str) -> Result<String> {
        self.place.check(script, QUICK)
    }

    /// Ends the router that runs, if one does.
    fn end(&mut self) -> Result<()> {
        self.check(
            "[ -e \"$DIR/pid\" ] || exit 0; read -r pid < \"$DIR/pid\"; kill \"$pid\" 2>/dev/null
until [ -e \"$DIR/status\" ]; do sleep 0.02; done; rm -f \"$DIR/pid\"",
        )
        .map(|_| ())
    }
}

/// The bridge with the TAP device in namespace `$M`, the hosts in `$A` and `$B`, each in a subnet of its own.
const NETWORK: &str = "set -e
for n in $M $A $B; do
  ip -n $n link set lo up
  ip netns exec $n sh -c 'for s in all default; do echo 0 > /proc/sys/net/ipv6/conf/$s/accept_dad
    echo 0 > /proc/sys/net/ipv6/conf/$s/accept_ra; done'
done
ip netns exec $M sh -c 'echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6'
ip -n $M tuntap add dev $TAP mode tap vnet_hdr
ip -n $M link set $TAP mtu $MTU
ip -n $M link add br0 type bridge
ip -n $M link set $TAP master br0 up
ip -n $M link set br0 up
host() {
  ip -n $M link add $3 mtu $MTU type veth peer name eth0 netns $1 mtu $MTU
  ip -n $M link set $3 master br0 up
  ip -n $1 link set eth0 up
  ip -n $1 addr add 192.168.$2.2/24 dev eth0
  ip -n $1 addr add fd00:$2::2/64 dev eth0 nodad
  ip -n $1 route add default via 192.168.$2.1
  ip -n $1 route add default via fd00:$2::1
}
host $A 1 va
host $B 2 vb
";
