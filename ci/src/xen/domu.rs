//! The Linux router as a guest of Xen: Debian's cloud kernel in PVH mode and a busybox initramfs with the network front
//! end. It is the benchmark's peer and proves the lab's own steps.

use anyhow::Result;

use crate::linux;
use crate::router::Config;

/// What its console says once it forwards.
pub(crate) const READY: &str = "linux-domu: ready";

/// Its settings are those of a router appliance; a vif that comes later is set up when it is there. Xen's toolstack
/// ends it by the kernel calling /sbin/poweroff.
const INIT_TAIL: &str = "
echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
echo 0 > /proc/sys/net/ipv6/conf/default/accept_ra
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
echo 0 > /proc/sys/net/ipv4/icmp_ratelimit
echo 0 > /proc/sys/net/ipv6/icmp/ratelimit
ready=no
while :; do
  for port in PORTS; do
    case $(ip link show dev $port 2>/dev/null) in
      '') ;;
      *[,\\<]UP[,\\>]*) ;;
      *) . /etc/router.$port; echo \"linux-domu: $port up\" ;;
    esac
  done
  if [ $ready = no ] && ip addr show dev eth1 2>/dev/null | grep -q inet6; then
    ready=yes
    echo 'linux-domu: ready'
  fi
  sleep 0.2
done
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
