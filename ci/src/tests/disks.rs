//! The router on a disk: the disk image by BIOS and UEFI, and other people's file systems with a configuration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::forwarding::everything_works;
use super::{Context, Needs, Test};
use crate::cleanup::{self, Made};
use crate::command;
use crate::disk;
use crate::qemu::{Firmware, Platform, Start};
use crate::rig::FrameRig;
use crate::router::{Config, weir_elf};

const PLAIN: Needs =
    Needs { root: false, programs: &["grub-mkimage", "mcopy", "mkfs.fat"], weir: true, alone: false };

/// From power-on through firmware and boot loader, emulated on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

pub(super) fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::new("disk-by-bios", PLAIN, |cx| {
            boots(cx, Firmware::Bios, Platform::Pc, "virtio-blk-pci", READ)
        }),
        Test::new("disk-by-uefi", PLAIN, |cx| {
            boots(cx, Firmware::Uefi, Platform::Q35, "virtio-blk-pci", READ)
        }),
        Test::new("disk-behind-ahci", PLAIN, |cx| {
            boots(cx, Firmware::Bios, Platform::Q35, "ide-hd", "configuration: boot module 1")
        }),
        Test::new("disk-with-nothing-on-it", PLAIN, |cx| {
            let line = "disk pci 0000:00:03.0: no weir.toml in its file system";
            refuses(cx, Fat { bits: 16, block: 512 }, None, line)
        }),
        Test::new("disk-with-broken-fat", PLAIN, |cx| {
            // Sectors of a table.
            let spoil = |volume: &mut [u8]| volume[22..24].copy_from_slice(&[1, 0]);
            let line = "disk pci 0000:00:03.0: its FAT file system is broken: its table is shorter than its clusters need";
            refuses(cx, Fat { bits: 16, block: 512 }, Some(&spoil), line)
        }),
    ];
    for (bits, block) in [(12, 512), (16, 4096), (32, 512)] {
        let name = format!("disk-fat{bits}-by-mtools");
        tests.push(Test::new(name, PLAIN, move |cx| reads(cx, Fat { bits, block })));
    }
    tests
}

/// What the console says that read the partition itself.
const READ: &str = "partition 3";

/// The disk image with this configuration, as the lab makes it.
fn image(config: &[u8]) -> Result<(PathBuf, Made)> {
    let (folder, made) = cleanup::directory()?;
    let elf = std::fs::read(weir_elf()?).context("reading the image: make image")?;
    let path = folder.join("weir.raw");
    std::fs::write(&path, disk::image(&elf, config)?)?;
    Ok((path, made))
}

/// Boots with a configuration that says too little, then with the right one, written into the partition. The console says
/// `source`.
fn boots(
    cx: &Context,
    firmware: Firmware,
    platform: Platform,
    device: &'static str,
    source: &str,
) -> Result<()> {
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
        rig.router.machine.wait(":1:1: error: no interface is configured", PATIENCE).map(drop)
    })?;
    disk::configure(&path, config.toml().as_bytes())?;
    rig(&config)?.check(&cx.name, |rig| {
        let line = rig.router.machine.wait("weir: ready", PATIENCE)?.text;
        ensure!(line.contains("edge1"), "{line}");
        ensure!(rig.router.machine.console.text().contains(source), "the console does not say {source}");
        everything_works(rig)
    })
}

/// A file system as mkfs.fat makes it.
#[derive(Clone, Copy, Debug)]
struct Fat {
    bits: u8,
    /// Its sectors, and the disk's blocks.
    block: u32,
}

impl Fat {
    /// A disk without partitions and with this file, as mkfs.fat and mtools make it. Beside the file lie others.
    fn disk(self, folder: &Path, config: Option<&[u8]>) -> Result<PathBuf> {
        let path = folder.join("config.img");
        let mebibytes = if self.bits == 32 { 40 } else { 24 };
        let file = std::fs::File::create(&path)?;
        file.set_len(mebibytes << 20)?;
        let run = |program: &str, arguments: &[&str]| {
            command::capture(program, arguments, Duration::from_secs(20)).map(drop)
        };
        let name = path.to_string_lossy().into_owned();
        // FAT12 has few clusters: long ones.
        let per_cluster = if self.bits == 12 { "16" } else { "1" };
        let (bits, block) = (self.bits.to_string(), self.block.to_string());
        run("mkfs.fat", &["-F", &bits, "-S", &block, "-s", per_cluster, "-n", "OPERATOR", &name])?;
        let write = |file: &str, bytes: &[u8]| {
            let from = folder.join("file");
            std::fs::write(&from, bytes)?;
            run("mcopy", &["-o", "-i", &name, &from.to_string_lossy(), &format!("::{file}")])
        };
        write("an older configuration.toml", b"")?;
        if let Some(config) = config {
            write("weir.toml", &[7; 30_000])?;
            write("notes.txt", &[b'x'; 5000])?;
            // Over the longer one, as editors do.
            write("weir.toml", config)?;
        }
        Ok(path)
    }

    /// QEMU's options for it.
    fn drive(self, path: &Path) -> Vec<String> {
        let drive = format!("if=none,id=config,format=raw,readonly=on,file={}", path.display());
        let sizes = format!("logical_block_size={0},physical_block_size={0}", self.block);
        ["-drive", &drive, "-device", &format!("virtio-blk-pci,drive=config,addr=3,{sizes}")]
            .map(str::to_owned)
            .into()
    }
}

/// Routes by what is on a disk that others made.
fn reads(cx: &Context, fat: Fat) -> Result<()> {
    let (folder, _made) = cleanup::directory()?;
    let config = Config::two_ports();
    let path = fat.disk(&folder, Some(config.toml().as_bytes()))?;
    FrameRig::start(cx.image, config, 2, |setup| {
        setup.platform = Platform::Q35;
        setup.module = None;
        setup.early = fat.drive(&path);
    })?
    .check(&cx.name, |rig| {
        rig.router.ready()?;
        ensure!(rig.router.machine.console.text().contains("configuration: disk pci 0000:00:03.0"));
        everything_works(rig)
    })
}

type Spoil<'a> = &'a dyn Fn(&mut [u8]);

/// Says `line` of a disk: one that is spoiled, or without a file.
fn refuses(cx: &Context, fat: Fat, spoil: Option<Spoil>, line: &str) -> Result<()> {
    let (folder, _made) = cleanup::directory()?;
    let config = Config::two_ports();
    let toml = config.toml();
    let path = fat.disk(&folder, spoil.is_some().then_some(toml.as_bytes()))?;
    if let Some(spoil) = spoil {
        let mut bytes = std::fs::read(&path)?;
        spoil(&mut bytes);
        std::fs::write(&path, bytes)?;
    }
    FrameRig::start(cx.image, config, 2, |setup| {
        setup.platform = Platform::Q35;
        setup.module = None;
        setup.early = fat.drive(&path);
    })?
    .check(&cx.name, |rig| {
        rig.router.machine.wait(line, rig.router.image.patience())?;
        rig.router.machine.wait("no interface is configured", rig.router.image.patience()).map(drop)
    })
}
