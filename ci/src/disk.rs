//! The disk image: GPT with GRUB for BIOS and for UEFI, the router, and a FAT partition with its
//! configuration. No root, no loop devices, and the same bytes from the same input.

use std::fs::{self, File};
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions, format_volume};
use gpt::partition_types::{BASIC, BIOS, EFI, Type};
use uuid::Uuid;

use crate::cleanup;
use crate::command;

const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;
/// Bytes of the whole disk.
const DISK: u64 = 42 * MIB;
/// The disk's identity, and its partitions': made up once, so that images are reproducible.
const IDENTITY: u128 = 0x6e5d_84a3_35b1_4d0c_9c14_7765_6972_0000;

/// A partition. [`PARTITIONS`] are in the order of the table.
struct Partition {
    name: &'static str,
    kind: Type,
    start: u64,
    len: u64,
    fat: Option<Fat>,
}

/// What is formatted into it.
struct Fat {
    kind: FatType,
    label: [u8; 11],
    serial: u32,
}

const CORE: usize = 0;
const SYSTEM: usize = 1;
const CONFIG: usize = 2;

const PARTITIONS: [Partition; 3] = [
    // Behind the table, which ends at sector 34.
    Partition { name: "GRUB", kind: BIOS, start: 64 * SECTOR, len: MIB - 64 * SECTOR, fat: None },
    // UEFI 2.10 §13.3.1.1: a system partition on a fixed disk is FAT32, which takes 65525 clusters.
    Partition {
        name: "EFI system",
        kind: EFI,
        start: MIB,
        len: 36 * MIB,
        fat: Some(Fat { kind: FatType::Fat32, label: *b"WEIR-BOOT  ", serial: 0x7765_6972 }),
    },
    // Its type has every desktop system show it as a drive.
    Partition {
        name: "weir",
        kind: BASIC,
        start: 37 * MIB,
        len: 4 * MIB,
        fat: Some(Fat { kind: FatType::Fat16, label: *b"WEIR       ", serial: 0x7765_6973 }),
    },
];

/// Where GRUB's BIOS code looks at its own first sector (GRUB, include/grub/i386/pc/boot.h): the core image's
/// place, and a jump that is there for floppies.
const KERNEL_SECTOR: usize = 0x5c;
const DRIVE_CHECK: usize = 0x66;
/// Of the core image's first sector, the last block list entry: the place of the rest.
const CORE_REST: usize = SECTOR as usize - 12;
/// Boot code in sector 0; then come disk signature and partition table.
const BOOT_CODE: usize = 440;

/// GRUB's menu, from the repository's root.
pub(crate) const MENU: &str = "images/disk/grub.cfg";

const MODULES: &[&str] = &["part_gpt", "fat", "normal", "test", "regexp", "serial", "multiboot2", "boot"];

/// Builds `weir.raw` and `weir.qcow2` in a folder from an image and a configuration.
pub(crate) fn make(elf: &Path, config: &Path, folder: &Path) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let bytes = image(&read(elf)?, &read(config)?)?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let (raw, qcow2) = (folder.join("weir.raw"), folder.join("weir.qcow2"));
    write_sparse(&raw, &bytes)?;
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-f", "raw", "-O", "qcow2", "-c"]).args([&raw, &qcow2]);
    command::run(&mut convert, &[], Duration::from_secs(60))?.success("qemu-img")?;
    for path in [raw, qcow2] {
        println!("{}: {} bytes on disk", path.display(), on_disk(&path)?);
    }
    Ok(())
}

/// Replaces the configuration in a raw image, as an operator does who mounts the partition.
pub(crate) fn configure(raw: &Path, config: &[u8]) -> Result<()> {
    let partition = &PARTITIONS[CONFIG];
    let mut disk =
        File::options().read(true).write(true).open(raw).with_context(|| raw.display().to_string())?;
    let mut volume = vec![0; partition.len as usize];
    disk.seek(SeekFrom::Start(partition.start))?;
    disk.read_exact(&mut volume)?;
    write_file(&mut volume, "weir.toml", config)?;
    disk.seek(SeekFrom::Start(partition.start))?;
    disk.write_all(&volume).context("writing the partition")
}

/// The whole disk's bytes.
pub(crate) fn image(elf: &[u8], config: &[u8]) -> Result<Vec<u8>> {
    let menu = crate::router::workspace()?.join(MENU);
    let menu = fs::read(&menu).with_context(|| format!("reading {}", menu.display()))?;
    image_with(elf, config, &menu)
}

/// The same with GRUB's menu from elsewhere.
pub(crate) fn image_with(elf: &[u8], config: &[u8], menu: &[u8]) -> Result<Vec<u8>> {
    let (bios, core) = grub_bios()?;
    let mut disk = partitioned()?;
    let at = |partition: usize| PARTITIONS[partition].start as usize;

    let rest = PARTITIONS[CORE].start / SECTOR;
    disk[..BOOT_CODE].copy_from_slice(&bios[..BOOT_CODE]);
    disk[KERNEL_SECTOR..][..8].copy_from_slice(&rest.to_le_bytes());
    disk[DRIVE_CHECK..][..2].copy_from_slice(&[0x90; 2]);
    ensure!(core.len() as u64 <= PARTITIONS[CORE].len, "GRUB's core image takes {} bytes", core.len());
    disk[at(CORE)..][..core.len()].copy_from_slice(&core);
    disk[at(CORE) + CORE_REST..][..8].copy_from_slice(&(rest + 1).to_le_bytes());

    let files: [&[(&str, &[u8])]; 2] = [
        &[
            ("weir/weir.elf", elf),
            ("weir/grub.cfg", menu),
            ("EFI/BOOT/BOOTX64.EFI", &grub("x86_64-efi", "/weir", &[])?),
        ],
        &[("weir.toml", config)],
    ];
    for (partition, files) in [SYSTEM, CONFIG].into_iter().zip(files) {
        let range = at(partition)..at(partition) + PARTITIONS[partition].len as usize;
        format(&mut disk[range.clone()], &PARTITIONS[partition])?;
        for (name, bytes) in files {
            write_file(&mut disk[range.clone()], name, bytes)?;
        }
    }
    Ok(disk)
}

/// An empty disk with its partition table.
fn partitioned() -> Result<Vec<u8>> {
    let mut disk = Cursor::new(vec![0; DISK as usize]);
    let sectors = u32::try_from(DISK / SECTOR - 1)?;
    gpt::mbr::ProtectiveMBR::with_lb_size(sectors).overwrite_lba0(&mut disk)?;
    let identity = |number: usize| Uuid::from_u128(IDENTITY + number as u128);
    let mut table = gpt::GptConfig::new().writable(true).create_from_device(disk, Some(identity(0)))?;
    let partitions = PARTITIONS.iter().enumerate().map(|(number, partition)| {
        let entry = gpt::partition::Partition {
            part_type_guid: partition.kind.clone(),
            part_guid: identity(number + 1),
            first_lba: partition.start / SECTOR,
            last_lba: (partition.start + partition.len) / SECTOR - 1,
            flags: 0,
            name: partition.name.to_owned(),
        };
        (number as u32 + 1, entry)
    });
    table.update_partitions(partitions.collect())?;
    Ok(table.write()?.into_inner())
}

/// GRUB's first sector for BIOS, and its core image, which finds the rest on the second partition.
fn grub_bios() -> Result<(Vec<u8>, Vec<u8>)> {
    let boot = PathBuf::from("/usr/lib/grub/i386-pc/boot.img");
    let boot = fs::read(&boot).with_context(|| format!("reading {}", boot.display()))?;
    ensure!(boot.len() as u64 == SECTOR, "GRUB's boot.img has {} bytes", boot.len());
    Ok((boot, grub("i386-pc", "(,gpt2)/weir", &["biosdisk"])?))
}

/// A GRUB image for a platform that goes on with `grub.cfg` in the folder `prefix`.
fn grub(platform: &str, prefix: &str, modules: &[&str]) -> Result<Vec<u8>> {
    let (folder, _made) = cleanup::directory()?;
    let out = folder.join("grub");
    let mut make = Command::new("grub-mkimage");
    make.args(["--format", platform, "--prefix", prefix, "--output"]).arg(&out).args(MODULES).args(modules);
    command::run(&mut make, &[], Duration::from_secs(60))?.success("grub-mkimage")?;
    fs::read(&out).with_context(|| format!("reading {}", out.display()))
}

fn format(volume: &mut [u8], partition: &Partition) -> Result<()> {
    let Some(fat) = &partition.fat else { bail!("{} has no file system", partition.name) };
    let options = FormatVolumeOptions::new()
        .fat_type(fat.kind)
        .bytes_per_cluster(SECTOR as u32)
        .volume_id(fat.serial)
        .volume_label(fat.label);
    format_volume(Cursor::new(volume), options).with_context(|| format!("formatting {}", partition.name))
}

/// Writes a file, and the folders on its way.
fn write_file(volume: &mut [u8], name: &str, bytes: &[u8]) -> Result<()> {
    let system = FileSystem::new(Cursor::new(volume), FsOptions::new().time_provider(&Unchanging))?;
    let root = system.root_dir();
    for (end, _) in name.match_indices('/') {
        root.create_dir(&name[..end])?;
    }
    let mut file = root.create_file(name)?;
    file.truncate()?;
    file.write_all(bytes).with_context(|| format!("writing {name}, {} bytes", bytes.len()))?;
    file.flush()?;
    Ok(())
}

/// The clock that file times are from: always the first moment FAT knows.
#[derive(Debug)]
struct Unchanging;

impl fatfs::TimeProvider for Unchanging {
    fn get_current_date(&self) -> fatfs::Date {
        fatfs::Date { year: 1980, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> fatfs::DateTime {
        let time = fatfs::Time { hour: 0, min: 0, sec: 0, millis: 0 };
        fatfs::DateTime { date: self.get_current_date(), time }
    }
}

/// Writes a file without its zeros.
fn write_sparse(path: &Path, bytes: &[u8]) -> Result<()> {
    const BLOCK: usize = 4096;
    let mut file = File::create(path).with_context(|| format!("writing {}", path.display()))?;
    file.set_len(bytes.len() as u64)?;
    for (number, block) in
        bytes.chunks(BLOCK).enumerate().filter(|(_, block)| block.iter().any(|&byte| byte != 0))
    {
        file.seek(SeekFrom::Start((number * BLOCK) as u64))?;
        file.write_all(block)?;
    }
    Ok(())
}

fn on_disk(path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata(path)?.blocks() * 512)
}
