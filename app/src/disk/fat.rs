//! Reads one file from the root directory of a FAT12, FAT16 or FAT32 volume (Microsoft, FAT Specification 1.03). Every field is
//! checked: a volume can be wrong in any way, but neither go on for ever nor lead behind its end.

use super::{Bytes, u16_at, u32_at};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

const SECTORS: Range<u32> = 512..4097;
const ENTRY: usize = 32;
/// Entries that a directory has at most (§6.3: it takes up to 2 MiB).
const MAX_ENTRIES: u32 = 65536;
/// Attributes of an entry, and what marks a piece of a long name (§6.1, §7.1).
const LONG_NAME: u8 = 0x0f;
const VOLUME: u8 = 0x08;
const FOLDER: u8 = 0x10;
/// First bytes of entries: free, and nothing behind it.
const FREE: u8 = 0xe5;
const LAST: u8 = 0;
/// Characters in one piece of a long name.
const PIECE: usize = 13;

/// Why there is no file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Missing {
    /// The volume is none of FAT's.
    NotFat,
    /// It has no such file.
    NoFile,
    /// The volume or the file is wrong, or cannot be read: what.
    Broken(String),
}

fn broken(what: &str) -> Missing {
    Missing::Broken(format!("its FAT file system is broken: {what}; fsck.fat may mend it"))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Fat12,
    Fat16,
    Fat32,
}

/// Where the root directory is.
enum Root {
    /// FAT12 and FAT16: at this place, so many entries.
    Fixed(u64, u32),
    /// FAT32: from this cluster on.
    Chain(u32),
}

/// Reads the file `name`, at most `limit` bytes long, of the volume in `place` of a disk.
pub(super) fn read_file(
    disk: &mut dyn Bytes,
    place: Range<u64>,
    name: &str,
    limit: usize,
) -> Result<Vec<u8>, Missing> {
    Volume::open(disk, place)?.read_file(name, limit)
}

/// A volume whose layout is sound.
struct Volume<'a> {
    disk: &'a mut dyn Bytes,
    kind: Kind,
    /// The first allocation table.
    table: u64,
    root: Root,
    /// Cluster 2.
    data: u64,
    /// Bytes of a cluster.
    cluster: u32,
    /// How many there are.
    clusters: u32,
}

impl<'a> Volume<'a> {
    /// Checks the boot sector (§3.1 to §3.5).
    fn open(disk: &'a mut dyn Bytes, place: Range<u64>) -> Result<Self, Missing> {
        let mut boot = [0; 512];
        if place.end.saturating_sub(place.start) < 512 {
            return Err(Missing::NotFat);
        }
        disk.read(place.start, &mut boot).map_err(Missing::Broken)?;
        let sector = u32::from(u16_at(&boot, 11));
        let per_cluster = u32::from(boot[13]);
        let (reserved, tables) = (u32::from(u16_at(&boot, 14)), u32::from(boot[16]));
        let entries = u32::from(u16_at(&boot, 17));
        let either = |short: usize, long: usize| match u32::from(u16_at(&boot, short)) {
            0 => u32_at(&boot, long),
            value => value,
        };
        let (sectors, table_sectors) = (either(19, 32), either(22, 36));
        // A partition table, NTFS and exFAT have the signature, too, but not all of this.
        let jump = matches!(boot[0], 0xeb | 0xe9);
        let sized = SECTORS.contains(&sector) && sector.is_power_of_two() && per_cluster.is_power_of_two();
        if !jump || u16_at(&boot, 510) != 0xaa55 || !sized || reserved == 0 || tables == 0 {
            return Err(Missing::NotFat);
        }

        let bytes = |sectors: u32| u64::from(sectors) * u64::from(sector);
        let table = bytes(reserved);
        let root = table + bytes(table_sectors) * u64::from(tables);
        let data = root + bytes((entries * ENTRY as u32).div_ceil(sector));
        let end = bytes(sectors);
        if end > place.end - place.start {
            return Err(broken("it is larger than its partition"));
        }
        if data >= end {
            return Err(broken("it has no room for data"));
        }
        let cluster = sector * per_cluster;
        // Fits: sectors are counted in 32 bits, and a cluster is at least one.
        let clusters = ((end - data) / u64::from(cluster)) as u32;
        // §3.5 has the count of clusters decide alone, but FAT32 is made with fewer, and Linux reads it like this.
        let (kind, bits) = match (u16_at(&boot, 22), clusters) {
            (0, 0..=0x0fff_fff4) => (Kind::Fat32, 32),
            (1.., 0..4085) => (Kind::Fat12, 12),
            (1.., 4085..65525) => (Kind::Fat16, 16),
            _ => return Err(broken("it has too many clusters")),
        };
        if (u64::from(clusters) + 2) * bits > bytes(table_sectors) * 8 {
            return Err(broken("its table is shorter than its clusters need"));
        }
        let root = match kind {
            Kind::Fat32 => Root::Chain(u32_at(&boot, 44)),
            _ => Root::Fixed(place.start + root, entries),
        };
        let (table, data) = (place.start + table, place.start + data);
        Ok(Self { disk, kind, table, root, data, cluster, clusters })
    }

    fn read_file(&mut self, name: &str, limit: usize) -> Result<Vec<u8>, Missing> {
        let (first, len) = self.find(name)?;
        if len as usize > limit {
            return Err(Missing::Broken(format!("{name} takes {len} bytes, and there is room for {limit}")));
        }
        let mut content = Vec::new();
        let no_memory = |_| Missing::Broken(format!("no memory for its {len} bytes: give the machine more"));
        content.try_reserve_exact(len as usize).map_err(no_memory)?;
        content.resize(len as usize, 0);
        let mut at = first;
        let mut pieces = content.chunks_mut(self.cluster as usize).peekable();
        while let Some(piece) = pieces.next() {
            let place = self.place(at)?;
            self.disk.read(place, piece).map_err(Missing::Broken)?;
            if pieces.peek().is_some() {
                at = self.next(at)?.ok_or_else(|| broken(&format!("{name} ends before its length")))?;
            }
        }
        Ok(content)
    }

    /// First cluster and length of a file of the root directory.
    fn find(&mut self, name: &str) -> Result<(u32, u32), Missing> {
        let mut long = LongName::default();
        match self.root {
            Root::Fixed(start, entries) => {
                for number in 0..entries {
                    let found = self.entry(start + u64::from(number) * ENTRY as u64, &mut long, name);
                    if let Some(found) = found.transpose() {
                        return found;
                    }
                }
            }
            Root::Chain(first) => {
                let (mut at, per_cluster) = (first, self.cluster / ENTRY as u32);
                for _ in 0..MAX_ENTRIES.div_ceil(per_cluster) {
                    let start = self.place(at)?;
                    for number in 0..per_cluster {
                        let found = self.entry(start + u64::from(number) * ENTRY as u64, &mut long, name);
                        if let Some(found) = found.transpose() {
                            return found;
                        }
                    }
                    match self.next(at)? {
                        Some(next) => at = next,
                        None => break,
                    }
                }
            }
        }
        Err(Missing::NoFile)
    }

    /// Looks at one entry. `Some` if it is the file's.
    fn entry(&mut self, at: u64, long: &mut LongName, name: &str) -> Result<Option<(u32, u32)>, Missing> {
        let mut entry = [0; ENTRY];
        self.disk.read(at, &mut entry).map_err(Missing::Broken)?;
        let attributes = entry[11];
        match entry[0] {
            LAST => return Err(Missing::NoFile),
            FREE => long.forget(),
            _ if attributes & 0x3f == LONG_NAME => long.take(&entry),
            _ => {
                let its = long.finish(&entry).unwrap_or_else(|| short_name(&entry));
                if attributes & VOLUME == 0 && its.eq_ignore_ascii_case(name) {
                    if attributes & FOLDER != 0 {
                        return Err(Missing::Broken(format!("{name} is a folder, not a file")));
                    }
                    let high = if self.kind == Kind::Fat32 { u32::from(u16_at(&entry, 20)) } else { 0 };
                    return Ok(Some((high << 16 | u32::from(u16_at(&entry, 26)), u32_at(&entry, 28))));
                }
            }
        }
        Ok(None)
    }

    /// Where a cluster's bytes are.
    fn place(&self, cluster: u32) -> Result<u64, Missing> {
        match cluster.checked_sub(2) {
            Some(number) if number < self.clusters => {
                Ok(self.data + u64::from(number) * u64::from(self.cluster))
            }
            _ => Err(broken(&format!("a chain leads to cluster {cluster}"))),
        }
    }

    /// The cluster after one that exists; `None` at the end of its chain (§4).
    fn next(&mut self, cluster: u32) -> Result<Option<u32>, Missing> {
        let mut bytes = [0; 4];
        let number = u64::from(cluster);
        let (offset, len) = match self.kind {
            Kind::Fat12 => (number + number / 2, 2),
            Kind::Fat16 => (number * 2, 2),
            Kind::Fat32 => (number * 4, 4),
        };
        self.disk.read(self.table + offset, &mut bytes[..len]).map_err(Missing::Broken)?;
        let entry = u32_at(&bytes, 0);
        let (next, end) = match self.kind {
            Kind::Fat12 if cluster.is_multiple_of(2) => (entry & 0xfff, 0xff8),
            Kind::Fat12 => (entry >> 4, 0xff8),
            Kind::Fat16 => (entry, 0xfff8),
            Kind::Fat32 => (entry & 0x0fff_ffff, 0x0fff_fff8),
        };
        Ok((next < end).then_some(next))
    }
}

/// A long name, of which the entries before a file's bring pieces, the last one first (§7).
#[derive(Default)]
struct LongName {
    units: Vec<u16>,
    checksum: u8,
    /// The number of the piece that comes next; 0 when it is complete.
    expected: u8,
}

impl LongName {
    fn forget(&mut self) {
        *self = Self::default();
    }

    fn take(&mut self, entry: &[u8; ENTRY]) {
        const LAST_PIECE: u8 = 0x40;
        let number = entry[0] & 0x3f;
        if entry[0] & LAST_PIECE != 0 {
            self.forget();
            (self.expected, self.checksum) = (number, entry[13]);
        } else if number != self.expected || entry[13] != self.checksum {
            return self.forget();
        }
        // §7: names have up to 255 characters, in 20 pieces.
        if number == 0 || number > 20 {
            return self.forget();
        }
        let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain((28..32).step_by(2));
        let mut piece = [0; PIECE];
        for (unit, place) in piece.iter_mut().zip(places) {
            *unit = u16_at(entry, place);
        }
        self.units.splice(0..0, piece);
        self.expected = number - 1;
    }

    /// The name of the file that `entry` describes, if all of its pieces were there. Forgets it.
    fn finish(&mut self, entry: &[u8; ENTRY]) -> Option<String> {
        let name = core::mem::take(self);
        let sum = entry[..11].iter().fold(0u8, |sum, &byte| sum.rotate_right(1).wrapping_add(byte));
        if name.expected != 0 || name.units.is_empty() || name.checksum != sum {
            return None;
        }
        let end = name.units.iter().position(|&unit| unit == 0).unwrap_or(name.units.len());
        Some(String::from_utf16_lossy(&name.units[..end]))
    }
}

/// `NAME.EXT` of an entry without a long name.
fn short_name(entry: &[u8; ENTRY]) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes.trim_ascii_end()).to_string();
    let (name, extension) = (part(&entry[..8]), part(&entry[8..11]));
    if extension.is_empty() { name } else { format!("{name}.{extension}") }
}
