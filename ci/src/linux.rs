//! The Linux router VM: Debian's cloud kernel and a busybox initramfs that loads virtio-net, takes its addresses and
//! forwards. It is the benchmark's peer, and the tests run against it to prove themselves.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::{capture, explain};
use crate::cpio::Archive;
use crate::router::Config;

/// What the console says once the VM forwards.
pub(crate) const READY: &str = "linux-router: ready";

/// Kernel command line: the peer gets the settings a router appliance would have. The TSC's speed is given, because
/// measuring it against the PIT fails for good when the machine is busy and microvm has no other clock.
pub(crate) fn command_line() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mhz = cpuinfo.lines().find(|line| line.starts_with("cpu MHz")).and_then(|line| line.split_once(':'));
    let khz = mhz.and_then(|(_, mhz)| mhz.trim().parse::<f64>().ok()).map(|mhz| (mhz * 1e3) as u64);
    let clock = khz.map(|khz| format!(" tsc_early_khz={khz}")).unwrap_or_default();
    format!("console=ttyS0 quiet loglevel=3 panic=-1 reboot=t mitigations=off{clock}")
}

const INIT_HEAD: &str = "#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
";

const INIT_TAIL: &str = "
for f in /proc/sys/net/ipv6/conf/*; do echo 0 > $f/accept_dad; echo 0 > $f/accept_ra; done
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
echo 0 > /proc/sys/net/ipv4/icmp_ratelimit
echo 0 > /proc/sys/net/ipv6/icmp/ratelimit
. /etc/router
while case $(ip -6 addr) in *tentative*) true;; *) false;; esac; do sleep 0.05; done
echo 'linux-router: ready'
while read -r line; do
  cat /proc/net/dev
  echo 'linux-router: end of table'
done
while :; do sleep 1000; done
";

/// Newest installed cloud kernel.
pub(crate) fn kernel() -> Result<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/boot")
        .context("reading /boot")?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.to_string_lossy().contains("vmlinuz-") && path.to_string_lossy().contains("cloud")
        })
        .collect();
    found.sort();
    match found.pop() {
        Some(path) => Ok(path),
        None => bail!("no /boot/vmlinuz-*-cloud-amd64: apt-get install -y linux-image-cloud-amd64"),
    }
}

/// Initramfs of the VM: what never changes (kept for the next start), then the configuration.
pub(crate) fn initramfs(config: &Config) -> Result<Vec<u8>> {
    static BASE: Mutex<Option<Vec<u8>>> = Mutex::new(None);
    let mut image = {
        let mut kept = BASE.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(base) => base.clone(),
            None => kept.insert(base()?).clone(),
        }
    };
    let mut archive = Archive::default();
    archive.directory("etc");
    archive.file("etc/router", config.shell().as_bytes());
    image.extend(archive.finish());
    Ok(image)
}

fn base() -> Result<Vec<u8>> {
    Ok(base_archive(&["virtio_pci", "virtio_mmio", "virtio_net"], INIT_TAIL)?.finish())
}

/// Busybox, `modules` and what they need, and an init that loads them and goes on with `tail`.
pub(crate) fn base_archive(modules: &[&str], tail: &str) -> Result<Archive> {
    let kernel = kernel()?;
    let release =
        kernel.to_string_lossy().split_once("vmlinuz-").map(|(_, r)| r.to_owned()).unwrap_or_default();
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "sys", "lib"] {
        archive.directory(folder);
    }
    let busybox = std::fs::read("/bin/busybox").map_err(|e| explain("busybox", e))?;
    archive.file("bin/busybox", &busybox);
    for applet in ["sh", "mount", "insmod", "ip", "cat", "sleep", "echo", "grep"] {
        archive.link(&format!("bin/{applet}"), "/bin/busybox");
    }
    let mut init = INIT_HEAD.to_owned();
    let mut seen = Vec::new();
    for module in modules {
        let list = ["-S", &release, "--show-depends", module];
        for line in capture("modprobe", &list, Duration::from_secs(10))?.lines() {
            let Some(path) = line.strip_prefix("insmod ").map(str::trim) else { continue };
            if seen.iter().any(|known| known == path) {
                continue;
            }
            seen.push(path.to_owned());
            let name = path.rsplit('/').next().unwrap_or(path);
            let content = std::fs::read(path).with_context(|| format!("reading {path}"))?;
            archive.file(&format!("lib/{name}"), &content);
            init.push_str(&format!("insmod /lib/{name}\n"));
        }
    }
    init.push_str(tail);
    archive.file("init", init.as_bytes());
    Ok(archive)
}
