//! Traffic between two hosts of a guest, both in dom0: pings, iperf3, and the kernel's packet generator.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::dom0::Dom0;
use super::guest::{Hosts, vif_mac};

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

/// A family for the packet generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// What a flood saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flood {
    /// Packets that the generator's device took, a second.
    pub(crate) sent: f64,
    /// Packets that came out of the router, a second.
    pub(crate) received: f64,
}

impl Flood {
    pub(crate) fn lost(&self) -> f64 {
        if self.sent > 0.0 { (1.0 - self.received / self.sent).max(0.0) } else { 0.0 }
    }
}

/// Shortest frames without their checksum. The generator's own header makes IPv6's longer.
pub(crate) fn frame_bytes(family: Family) -> usize {
    match family {
        Family::V4 => 60,
        Family::V6 => 78,
    }
}

/// The kernel's packet generator on the vif of port 0, UDP of 64 flows to the host at port 1, for `seconds` after a
/// quarter of that for caches to fill; `pace` packets a second or, with `None`, as fast as the vif takes them. What
/// arrives is counted by the other vif and thrown away at a socket that nobody reads.
pub(crate) fn flood(
    dom0: &mut Dom0,
    hosts: &Hosts,
    guest: u32,
    family: Family,
    pace: Option<u64>,
    seconds: u64,
) -> Result<Flood> {
    let (a, b) = (hosts.identity(0)?, hosts.identity(1)?);
    let (near, far) = (hosts.name(0), hosts.name(1));
    let addresses = match family {
        Family::V4 => format!("dst {}\nsrc_min {}\nsrc_max {}", b.v4, a.v4, a.v4),
        Family::V6 => format!("dst6 {}\nsrc6 {}", b.v6, a.v6),
    };
    let pace = pace.map_or_else(|| "delay 0".to_owned(), |rate| format!("ratep {rate}"));
    let sink = match family {
        Family::V4 => format!("{}:9", b.v4),
        Family::V6 => format!("[{}]:9", b.v6),
    };
    let script = format!(
        "out=/sys/class/net/vif{guest}.0/statistics; in=/sys/class/net/vif{guest}.1/statistics
ip netns exec {far} lab swallow {sink} >/dev/null 2>&1 & sink=$!
cat > /tmp/flood.conf <<'END'
count 0
clone_skb 0
burst 1
pkt_size {size}
{pace}
{addresses}
dst_mac {mac}
udp_src_min 5000
udp_src_max 5063
flag UDPSRC_RND
udp_dst_min 9
udp_dst_max 9
END
cat > /tmp/flood.sh <<'END'
p=/proc/net/pktgen
echo rem_device_all > $p/kpktgend_0
echo add_device vif{guest}.0 > $p/kpktgend_0 || exit 1
while read -r line; do echo \"$line\" > $p/vif{guest}.0 || {{ echo \"pktgen refuses $line\" >&2; exit 1; }}; done < /tmp/flood.conf
echo start > $p/pgctrl &
pg=$!
END
cat > /tmp/count.sh <<'END'
cat $1/$2
END
ip netns exec {near} sh -c '. /tmp/flood.sh; sleep {warm}
echo \"t0 $(cut -d\" \" -f1 /proc/uptime) $(cat '$out'/tx_packets)\"; sleep {seconds}
echo \"t1 $(cut -d\" \" -f1 /proc/uptime) $(cat '$out'/tx_packets)\"; sleep 0.3; kill -INT $pg; echo stop > /proc/net/pktgen/pgctrl; wait $pg' &
main=$!
ip netns exec {far} sh -c 'sleep {warm}
echo \"r0 $(cut -d\" \" -f1 /proc/uptime) $(cat '$in'/rx_packets)\"; sleep {seconds}
echo \"r1 $(cut -d\" \" -f1 /proc/uptime) $(cat '$in'/rx_packets)\"'
wait $main; kill $sink; exit 0",
        size = frame_bytes(family),
        mac = vif_mac(0),
        warm = (seconds as f64 / 4.0).max(0.5),
    );
    let output = dom0.run(&script, Duration::from_secs(seconds * 2 + 30))?;
    let mark = |name: &str| -> Option<(f64, f64)> {
        let mut words = output.stdout.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    let rate = |from: &str, to: &str| -> Result<f64> {
        let ends = mark(from).zip(mark(to)).with_context(|| format!("the generator: {}", output.said()))?;
        let ((t0, n0), (t1, n1)) = ends;
        ensure!(t1 > t0, "no time passed");
        Ok((n1 - n0) / (t1 - t0))
    };
    Ok(Flood { sent: rate("t0", "t1")?, received: rate("r0", "r1")? })
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
