//! The router on a disk: the disk image by BIOS and UEFI, and other people's file systems with a configuration.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::forwarding::everything_works;
use super::{Context, Needs, Test};
use crate::cleanup::{self, Made};
use crate::disk;
use crate::qemu::{Firmware, Platform, Start};
use crate::rig::FrameRig;
use crate::router::{Config, weir_elf};

const PLAIN: Needs =
    Needs { root: false, programs: &["grub-mkimage", "mcopy", "mkfs.fat"], weir: true, alone: false };

/// From power-on through firmware and boot loader, emulated on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("disk-by-bios", PLAIN, |cx| boots(cx, Firmware::Bios, Platform::Pc, "virtio-blk-pci")),
        Test::new("disk-by-uefi", PLAIN, |cx| boots(cx, Firmware::Uefi, Platform::Q35, "virtio-blk-pci")),
    ]
}

/// The disk image with this configuration, as the lab makes it.
fn image(config: &[u8]) -> Result<(PathBuf, Made)> {
    let (folder, made) = cleanup::directory()?;
    let elf = std::fs::read(weir_elf()?).context("reading the image: make image")?;
    let path = folder.join("weir.raw");
    std::fs::write(&path, disk::image(&elf, config)?)?;
    Ok((path, made))
}

/// Boots with a configuration that says too little, then with the right one, written into the partition.
fn boots(cx: &Context, firmware: Firmware, platform: Platform, device: &'static str) -> Result<()> {
    let (path, _made) = image(b"hostname = \"first\"\n")?;
    let start = Start::Disk { path: path.clone(), firmware, device };
    let rig = |config: &Config| {
        FrameRig::start(cx.image, config.clone(), 2, |setup| {
            setup.platform = platform;
            setup.disk = Some(start.clone());
        })
    };
    let config = Config::two_ports();
    rig(&config)?.check(&cx.name, |rig| {
        rig.router.machine.wait("weir.toml:1:1: error: no interface is configured", PATIENCE).map(drop)
    })?;
    disk::configure(&path, config.toml().as_bytes())?;
    rig(&config)?.check(&cx.name, |rig| {
        let line = rig.router.machine.wait("weir: ready", PATIENCE)?.text;
        ensure!(line.contains("edge1"), "{line}");
        everything_works(rig)
    })
}
