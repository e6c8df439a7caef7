//! `lab smoke`: the same file on every target, one table.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::arguments::Arguments;
use crate::cleanup;
use crate::command;
use crate::qemu::{Firmware, Platform, Start};
use crate::rig::FrameRig;
use crate::router::{Config, Image, weir_elf};
use crate::{disk, uhyve, xen};

/// How one boot went.
struct Boot {
    /// The VMM, and what it says of itself.
    vmm: String,
    /// From power-on, or the guest's creation, to the ready line.
    seconds: f64,
    /// That line.
    line: String,
}

type Target = (&'static str, fn() -> Result<Boot>);

const TARGETS: &[Target] = &[
    ("q35", || kernel(Platform::Q35)),
    ("pc", || kernel(Platform::Pc)),
    ("microvm", || kernel(Platform::Microvm)),
    ("disk-bios", || from_disk(Platform::Pc, Firmware::Bios)),
    ("disk-uefi", || from_disk(Platform::Q35, Firmware::Uefi)),
    ("uhyve", on_uhyve),
    ("xen", on_xen),
];

/// Emulated, with firmware and boot loader, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// Ends the machines in which Xen and uhyve run.
const LIMIT: Duration = Duration::from_secs(600);

/// Boots each target, a row each. Whether all got ready.
pub(crate) fn run(mut arguments: Arguments) -> Result<bool> {
    let only = arguments.option("--only")?.unwrap_or_default();
    arguments.end("smoke")?;
    let wanted: Vec<&Target> = TARGETS.iter().filter(|(name, _)| name.contains(&only)).collect();
    if wanted.is_empty() {
        let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        anyhow::bail!("no target has \"{only}\" in its name; there are {}", names.join(", "));
    }
    let bytes = std::fs::metadata(weir_elf()?).context("no image: make image")?.len();
    println!("{}, {bytes} bytes\n", weir_elf()?.display());
    println!("{:<5} {:<10} {:>9} {:>11}  VMM", "", "target", "ready", "of that own");
    let mut failed = 0;
    for (name, boot) in wanted {
        let outcome = boot();
        cleanup::wait_if_stopping();
        match outcome {
            Ok(Boot { vmm, seconds, line }) => {
                println!("ok    {name:<10} {seconds:>7.2} s {:>11}  {vmm}", own_time(&line));
            }
            Err(error) => {
                failed += 1;
                println!("FAIL  {name:<10} {}", format!("{error:#}").replace('\n', "\n      "));
            }
        }
    }
    Ok(failed == 0)
}

/// What the router says it took itself: `weir: ready in 49.24 ms (...`.
fn own_time(line: &str) -> String {
    let text = line.split_once("ready in ").and_then(|(_, rest)| rest.split_once(" (")).map(|(time, _)| time);
    text.unwrap_or("?").to_owned()
}

fn kernel(platform: Platform) -> Result<Boot> {
    on_qemu(platform, None)
}

fn from_disk(platform: Platform, firmware: Firmware) -> Result<Boot> {
    let (folder, _made) = cleanup::directory()?;
    let path = folder.join("weir.raw");
    let elf = std::fs::read(weir_elf()?).context("no image: make image")?;
    std::fs::write(&path, disk::image(&elf, Config::two_ports().toml().as_bytes())?)?;
    on_qemu(platform, Some(Start::Disk { path, firmware, device: "virtio-blk-pci" }))
}

/// Boots between two hosts that speak in frames, and pings from one to the other.
fn on_qemu(platform: Platform, disk: Option<Start>) -> Result<Boot> {
    let rig = FrameRig::start(Image::Weir, Config::two_ports(), 2, |setup| {
        setup.platform = platform;
        setup.disk = disk;
    })?;
    let version = command::capture("qemu-system-x86_64", &["--version"], Duration::from_secs(10))?;
    let version = version.split_whitespace().nth(3).unwrap_or("?").to_owned();
    let mut boot = None;
    rig.check("smoke", |rig| {
        let line = rig.router.machine.wait("weir: ready", PATIENCE)?;
        let seconds = line.at.duration_since(rig.router.machine.started).as_secs_f64();
        let far = *rig.hosts[1].identity();
        rig.hosts[0].ping(far.v4.into(), 1, Duration::from_secs(5))?;
        rig.hosts[0].ping(far.v6.into(), 2, Duration::from_secs(5))?;
        boot = Some(Boot { vmm: format!("QEMU {version}, {}", platform.name()), seconds, line: line.text });
        Ok(())
    })?;
    boot.context("no outcome")
}

fn on_uhyve() -> Result<Boot> {
    let mut uhyve = uhyve::Uhyve::start(LIMIT)?;
    let ready = uhyve.boot("-m 64MiB -c 1")?;
    let vmm = format!("uhyve, {}", uhyve.place());
    Ok(Boot { vmm, seconds: ready.after.as_secs_f64(), line: ready.line })
}

fn on_xen() -> Result<Boot> {
    let (version, seconds, line) = xen::boot(LIMIT)?;
    Ok(Boot { vmm: format!("Xen {version}, under QEMU"), seconds, line })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_routers_own_time() {
        assert_eq!(own_time("weir: ready in 49.24 ms (127843352 ticks), edge1, 2 CPUs"), "49.24 ms");
        assert_eq!(own_time("weir: ready"), "?");
    }
}
