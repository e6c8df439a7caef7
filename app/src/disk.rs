//! The configuration on a disk: `weir.toml` in the root directory of a FAT file system, which is the whole
//! disk or one of its partitions. Reading only; whatever a disk says is checked. Boot CPU, task level.
//!
//! The readers are our own: of the crates for FAT none that is kept reads FAT12, long names and GPT without
//! std.

mod fat;
mod table;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use fat::Missing;
use weir_machine::{mmio_devices, pci};
use weir_sync::Control;
use weir_virtio::Error;
use weir_virtio::blk::{self, BLOCK, Disk};

/// The file.
pub const FILE: &str = "weir.toml";

/// A file that was found.
#[derive(PartialEq, Eq, Debug)]
pub struct Found {
    /// Disk and partition, for people.
    pub place: String,
    /// Its content, or why it cannot be had.
    pub content: Result<Vec<u8>, String>,
}

/// What disks have.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Search {
    /// The first good file, or the first broken one if there is no good one.
    pub found: Option<Found>,
    /// A line for each other disk that was looked at, why its file is not taken.
    pub passed: String,
}

/// Looks for the file on every virtio disk, PCI before MMIO, at most `limit` bytes of it.
pub fn search(cx: &Control, limit: usize) -> Search {
    let mut search = Search::default();
    let on_pci = pci::functions().into_iter().filter(blk::matches);
    let on_pci = on_pci.map(|function| (format!("pci {}", function.address), Disk::open_pci(cx, &function)));
    let windows = mmio_devices::virtio().into_iter();
    let on_mmio = windows.map(|slot| (format!("mmio {:#x}", slot.base), Disk::open_mmio(cx, &slot)));
    for (place, disk) in on_pci.chain(on_mmio) {
        match disk {
            Ok(disk) => search.look(&place, &mut Cached::new(disk), limit),
            Err(Error::EmptySlot | Error::NotBlock(_)) => {}
            Err(wrong) => search.pass(&place, &wrong.to_string()),
        }
        if search.is_over() {
            break;
        }
    }
    search
}

/// Whether there is a virtio disk at all.
pub fn is_present() -> bool {
    pci::functions().iter().any(blk::matches) || mmio_devices::virtio().iter().any(blk::matches_mmio)
}

impl Search {
    fn pass(&mut self, disk: &str, why: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.passed, "disk {disk}: {why}");
    }

    fn look(&mut self, name: &str, disk: &mut dyn Bytes, limit: usize) {
        match look(disk, limit) {
            Ok((partition, content)) => {
                let place = match partition {
                    None => format!("disk {name}"),
                    Some(number) => format!("disk {name}, partition {number}"),
                };
                self.take(Found { place, content });
            }
            Err(why) => self.pass(name, &why),
        }
    }

    /// Whether no other disk can have anything better.
    fn is_over(&self) -> bool {
        self.found.as_ref().is_some_and(|found| found.content.is_ok())
    }

    /// A broken file gives way to a good one, and is named among the others then; so is the second broken
    /// one.
    fn take(&mut self, found: Found) {
        let passed = match &self.found {
            Some(_) if found.content.is_err() => Some(found),
            _ => self.found.replace(found),
        };
        if let Some(Found { place, content: Err(why) }) = passed {
            // Writing to a String cannot fail.
            let _ = writeln!(self.passed, "{place}: {why}");
        }
    }
}

/// The partition that a file is on, `None` for the whole disk, and its content, or why it cannot be had.
type Looked = (Option<u32>, Result<Vec<u8>, String>);

/// The file, or why there is none. What is broken counts as found if nothing better is.
fn look(disk: &mut dyn Bytes, limit: usize) -> Result<Looked, String> {
    let whole = 0..disk.len();
    match fat::read_file(disk, whole, FILE, limit) {
        Ok(content) => return Ok((None, Ok(content))),
        Err(Missing::Broken(why)) => return Ok((None, Err(why))),
        Err(Missing::NoFile) => return Err(format!("no {FILE} in its file system")),
        Err(Missing::NotFat) => {}
    }
    let block_size = disk.block_size();
    let partitions = match table::partitions(disk, block_size) {
        Ok(partitions) => partitions,
        Err(why) => return Ok((None, Err(why))),
    };
    let mut broken = None;
    let mut without = Vec::new();
    for (number, place) in partitions {
        match fat::read_file(disk, place, FILE, limit) {
            Ok(content) => return Ok((Some(number), Ok(content))),
            Err(Missing::Broken(why)) => broken = broken.or(Some((Some(number), Err(why)))),
            Err(Missing::NoFile) => without.push(number.to_string()),
            Err(Missing::NotFat) => {}
        }
    }
    match broken {
        Some(broken) => Ok(broken),
        None if without.is_empty() => Err("no FAT file system".into()),
        None => Err(format!("no {FILE} on its FAT partitions ({})", without.join(", "))),
    }
}

/// What can be read at any place.
trait Bytes {
    /// How many there are.
    fn len(&self) -> u64;

    /// Bytes of a block, in which a partition table counts.
    fn block_size(&self) -> u32;

    /// Fills `to` from `at` on. Behind the end is an error, whose text is for people.
    fn read(&mut self, at: u64, to: &mut [u8]) -> Result<(), String>;
}

/// A disk and its last block.
struct Cached {
    disk: Disk,
    block: Box<[u8; BLOCK]>,
    number: Option<u64>,
}

impl Cached {
    fn new(disk: Disk) -> Self {
        Self { disk, block: Box::new([0; BLOCK]), number: None }
    }
}

impl Bytes for Cached {
    fn len(&self) -> u64 {
        self.disk.len()
    }

    fn block_size(&self) -> u32 {
        self.disk.block_size()
    }

    fn read(&mut self, mut at: u64, mut to: &mut [u8]) -> Result<(), String> {
        while !to.is_empty() {
            let (number, offset) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
            if self.number != Some(number) {
                self.number = None;
                self.disk.read(number, &mut self.block).map_err(|wrong| wrong.to_string())?;
                self.number = Some(number);
            }
            let from = self.block.get(offset..).unwrap_or(&[]);
            let len = from.len().min(to.len());
            let (now, later) = to.split_at_mut(len);
            now.copy_from_slice(&from[..len]);
            (to, at) = (later, at.saturating_add(len as u64));
        }
        Ok(())
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|field| field.try_into().ok()).map_or(0, u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|field| field.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|field| field.try_into().ok()).map_or(0, u64::from_le_bytes)
}
