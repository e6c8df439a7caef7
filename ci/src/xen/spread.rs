//! Whether a backend spreads flows over a guest's queues, and so CPUs, by the hash it was told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::account;
use super::dom0::Dom0;
use super::guest::Guest;

const PINGS: u64 = 30;
/// Packets that belong to no ping: neighbour discovery.
const NOISE: u64 = 24;
const LIMIT: Duration = Duration::from_secs(60);
/// Addresses a host gets beside its own.
const ADDRESSES: std::ops::Range<u16> = 101..109;

/// The queue of a flow: Toeplitz by the symmetric key, bit by bit, then the table of 128 entries.
fn queue(input: &[u8], queues: u32) -> usize {
    let key = [0x6d_u8, 0x5a].repeat(20);
    let bit = |at: usize| u32::from(key[at / 8] >> (7 - at % 8) & 1);
    let mut hash = 0;
    for at in (0..8 * input.len()).filter(|at| input[at / 8] >> (7 - at % 8) & 1 == 1) {
        hash ^= (at..at + 32).fold(0, |window, at| window << 1 | bit(at));
    }
    (hash % 128 % queues) as usize
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Pings from many addresses, those of each queue together; each packet, there and back, must come in by the CPU that the
/// hash says. Then TCP, whose ports count.
pub(crate) fn check(dom0: &mut Dom0, guest: &Guest) -> Result<String> {
    let cpus = guest.plan.cpus;
    ensure!(cpus > 1, "the guest has one CPU");
    let (near, far) = (guest.hosts.identity(0)?, guest.hosts.identity(1)?);
    let name = guest.hosts.name(0);
    let pairs: Vec<(IpAddr, IpAddr)> = ADDRESSES
        .flat_map(|last| {
            let [a, b, c, _] = near.v4.octets();
            let mut v6 = near.v6.segments();
            v6[7] = last;
            [
                (IpAddr::from(Ipv4Addr::new(a, b, c, last as u8)), IpAddr::from(far.v4)),
                (Ipv6Addr::from(v6).into(), far.v6.into()),
            ]
        })
        .collect();
    let device = format!("vif{}.0", guest.id);
    for (own, to) in &pairs {
        let (bits, nodad) = if own.is_ipv4() { (32, "") } else { (128, " nodad") };
        let script = format!(
            "ip -n {name} addr replace {own}/{bits} dev {device}{nodad}; \
             ip netns exec {name} ping -n -q -c 2 -i 0.2 -I {own} {to}"
        );
        dom0.check(&script, LIMIT).context("before it counts")?;
    }
    let received = |dom0: &mut Dom0| -> Result<Vec<u64>> {
        Ok(account::weir(dom0, guest)?.cpus.iter().map(|row| row.received).collect())
    };
    let mut said = Vec::new();
    for wanted in 0..cpus {
        let own: Vec<_> = pairs
            .iter()
            .filter(|(from, to)| queue(&[octets(*from), octets(*to)].concat(), cpus as u32) == wanted)
            .collect();
        let before = received(dom0)?;
        for (from, to) in &own {
            dom0.check(
                &format!("ip netns exec {name} ping -n -q -f -w 30 -c {PINGS} -I {from} {to}"),
                LIMIT,
            )?;
        }
        let after = received(dom0)?;
        let grown: Vec<u64> = after.iter().zip(&before).map(|(new, old)| new - old).collect();
        let packets = 2 * PINGS * own.len() as u64;
        let others: u64 = grown.iter().sum::<u64>() - grown[wanted];
        said.push(format!("{} flows to CPU {wanted}: {grown:?}", own.len()));
        ensure!(!own.is_empty(), "no address hashes to queue {wanted}");
        ensure!(
            grown[wanted] >= packets && others <= NOISE,
            "{packets} packets of queue {wanted} came in by CPU as {grown:?}"
        );
    }
    for wanted in 0..cpus {
        let (from, to) = (octets(near.v4.into()), octets(far.v4.into()));
        let ports = |port: u16| [port.to_be_bytes(), 5201u16.to_be_bytes()].concat();
        let port = (20_000..20_100)
            .find(|&port| queue(&[from.clone(), to.clone(), ports(port)].concat(), cpus as u32) == wanted)
            .context("no port")?;
        let before = received(dom0)?;
        let script = format!(
            "ip netns exec {} iperf3 -s -1 >/tmp/iperf.log 2>&1 & s=$!; sleep 0.5; \
             ip netns exec {name} iperf3 -c {} --cport {port} -t 1; c=$?; kill $s 2>/dev/null; exit $c",
            guest.hosts.name(1),
            far.v4
        );
        dom0.check(&script, LIMIT)?;
        let after = received(dom0)?;
        let grown: Vec<u64> = after.iter().zip(&before).map(|(new, old)| new - old).collect();
        said.push(format!("TCP from port {port}: {grown:?}"));
        // Its control connection has a port that nobody chose.
        let others: u64 = grown.iter().sum::<u64>() - grown[wanted];
        ensure!(
            grown[wanted] > 20 * others.max(1) && others < 100,
            "TCP of queue {wanted} came in by CPU as {grown:?}"
        );
    }
    for (own, _) in &pairs {
        let bits = if own.is_ipv4() { 32 } else { 128 };
        dom0.check(&format!("ip -n {name} addr del {own}/{bits} dev {device}"), LIMIT)?;
    }
    Ok(said.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_have_the_same_queue() {
        let mut seen = [0; 4];
        for port in 0..1000u16 {
            let there = [[192, 0, 2, 1], [10, 0, 1, 2]].concat();
            let back = [[10, 0, 1, 2], [192, 0, 2, 1]].concat();
            let there = queue(&[there, port.to_be_bytes().to_vec(), vec![0, 9]].concat(), 4);
            assert_eq!(there, queue(&[back, vec![0, 9], port.to_be_bytes().to_vec()].concat(), 4));
            seen[there] += 1;
        }
        assert!(seen.iter().all(|&flows| flows > 100), "{seen:?}");
    }
}
