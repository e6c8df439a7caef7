//! The Linux router as a guest of Xen: Debian's cloud kernel in PVH mode and a busybox initramfs with the network front
//! end. It is the benchmark's peer and proves the lab's own steps.

use anyhow::Result;

use crate::linux;
use crate::router::Config;

/// What its console says once it forwards.
pub(crate) const READY: &str = "linux-domu: ready";

/// Its settings are those of a router appliance. A vif that comes later is set up when a line is typed, so that nothing
/// polls and takes CPU time. Xen's toolstack ends the guest by the kernel calling /sbin/poweroff.
const INIT_TAIL: &str = "
echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
echo 0 > /proc/sys/net/ipv6/conf/default/accept_ra
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
echo 0 > /proc/sys/net/ipv4/icmp_ratelimit
echo 0 > /proc/sys/net/ipv6/icmp/ratelimit
ports() {
  for port in PORTS; do
    [ -e /sys/class/net/$port ] || continue
    case $(ip link show dev $port) in
      *[,\\<]UP[,\\>]*) ;;
      *) . /etc/router.$port; echo \"linux-domu: $port up\" ;;
    esac
  done
}
until [ -e /sys/class/net/eth1 ]; do sleep 0.1; done
ports
echo 'linux-domu: ready'
while read -r line; do ports; done
while :; do sleep 1000; done
";

const POWEROFF: &str = "#!/bin/sh\nexec /bin/busybox poweroff -f\n";

/// Its initramfs, with the configuration of three ports.
pub(crate) fn initramfs() -> Result<Vec<u8>> {
    let config = Config::three_ports();
    let ports: Vec<String> =
        config.interfaces.iter().map(|interface| format!("eth{}", interface.port)).collect();
    let tail = INIT_TAIL.replace("PORTS", &ports.join(" "));
    let mut archive = linux::base_archive(&["xen_netfront"], &tail)?;
    archive.directory("etc");
    archive.directory("sbin");
    archive.file("sbin/poweroff", POWEROFF.as_bytes());
    for (interface, port) in config.interfaces.iter().zip(&ports) {
        let own = Config { interfaces: vec![interface.clone()], routes: Vec::new() };
        archive.file(&format!("etc/router.{port}"), own.shell().as_bytes());
    }
    Ok(archive.finish())
}
