//! Traffic between two hosts of a guest, both in dom0: pings, iperf3, and floods.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::dom0::Dom0;
use super::flood::Count;
use super::guest::Hosts;

/// Round trips in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundTrip {
    pub(crate) least: f64,
    pub(crate) mean: f64,
    pub(crate) most: f64,
}

/// Five pings from the host at `from`, all answered. Two more before them find the neighbours.
pub(crate) fn ping(dom0: &mut Dom0, hosts: &Hosts, from: usize, to: IpAddr) -> Result<RoundTrip> {
    let exec = format!("ip netns exec {} ping -n -W 2", hosts.name(from));
    let script = format!("{exec} -c 2 -i 0.3 {to} >/dev/null; {exec} -c 5 -i 0.2 {to}");
    let output = dom0.run(&script, Duration::from_secs(30))?;
    ensure!(output.stdout.contains(" 5 received"), "ping {to} from {}: {}", hosts.name(from), output.said());
    round_trip(&output.stdout).with_context(|| format!("no round trip in {}", output.stdout))
}

/// From ping's last line: `rtt min/avg/max/mdev = 0.1/0.2/0.3/0.0 ms`.
fn round_trip(text: &str) -> Option<RoundTrip> {
    let figures = text.lines().find_map(|line| line.strip_prefix("rtt ")?.split_once(" = "))?.1;
    let mut figures = figures.split('/').map(|figure| figure.parse::<f64>().ok());
    Some(RoundTrip { least: figures.next()??, mean: figures.next()??, most: figures.next()?? })
}

/// What a bulk transfer reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) mbit: f64,
    /// Share of UDP datagrams that did not arrive; TCP: 0.
    pub(crate) lost: f64,
}

/// What iperf3 sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bulk {
    Tcp,
    /// At this rate.
    Udp {
        mbit: u32,
    },
}

/// iperf3 from the host at `from` to `address`, which is one of the host at `to`.
pub(crate) fn transfer(
    dom0: &mut Dom0,
    hosts: &Hosts,
    (from, to): (usize, usize),
    address: IpAddr,
    bulk: Bulk,
    seconds: u64,
) -> Result<Transfer> {
    let (client, server) = (hosts.name(from), hosts.name(to));
    let kind = match bulk {
        Bulk::Tcp => String::new(),
        // Fits an MTU of 1500 with IPv6's and UDP's headers.
        Bulk::Udp { mbit } => format!("-u -l 1400 -b {mbit}M"),
    };
    let script = format!(
        "ip netns exec {server} iperf3 -s -1 >/tmp/iperf.log 2>&1 & s=$!; sleep 0.5; \
         ip netns exec {client} iperf3 -J -c {address} -t {seconds} {kind}; c=$?; kill $s 2>/dev/null; exit $c"
    );
    let output = dom0.run(&script, Duration::from_secs(seconds + 30))?;
    let report: Value = serde_json::from_str(&output.stdout)
        .with_context(|| format!("iperf3 to {address}: {}", output.said()))?;
    if let Some(error) = report.get("error") {
        anyhow::bail!("iperf3 to {address}: {error}");
    }
    let figure = |path: &str| report.pointer(path).and_then(Value::as_f64);
    let (rate, lost) = match bulk {
        Bulk::Tcp => (figure("/end/sum_received/bits_per_second"), Some(0.0)),
        // What arrived: iperf3 3.12 gives the receiver's loss, and the rate of what was sent.
        Bulk::Udp { .. } => {
            let lost = figure("/end/sum/lost_percent").map(|percent| percent / 100.0);
            (figure("/end/sum/bits_per_second").zip(lost).map(|(rate, lost)| rate * (1.0 - lost)), lost)
        }
    };
    let (rate, lost) = rate.zip(lost).with_context(|| format!("no figures in {}", output.stdout))?;
    Ok(Transfer { mbit: rate / 1e6, lost })
}

/// Floods the router from the host at port 0 to `to`, an address of the host at port 1.
pub(crate) fn flood(dom0: &mut Dom0, hosts: &Hosts, to: IpAddr, seconds: f64) -> Result<Count> {
    let (near, far, credit) = (hosts.name(0), hosts.name(1), "/tmp/credit");
    let address = SocketAddr::new(to, 9);
    let script = format!(
        "ip netns exec {far} lab xen-sink {address} {credit} >/dev/null 2>&1 & s=$!; sleep 0.5; \
         ip netns exec {near} lab xen-source {address} {credit} --seconds {seconds}; c=$?; kill $s; exit $c"
    );
    let text = dom0.check(&script, Duration::from_secs_f64(seconds * 1.25 + 30.0))?;
    Count::parse(&text).with_context(|| format!("the generator says {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_round_trip() {
        let text = "5 packets transmitted, 5 received\nrtt min/avg/max/mdev = 0.512/1.250/3.000/0.4 ms\n";
        let figures = round_trip(text).unwrap();
        assert_eq!((figures.least, figures.mean, figures.most), (0.512, 1.25, 3.0));
        assert!(round_trip("5 received").is_none());
    }
}
