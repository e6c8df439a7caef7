use super::*;
use crate::disk::fat::read_file;
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions, format_volume};
use proptest::prelude::*;
use std::io::{Cursor, Write as _};
use std::vec;

const LIMIT: usize = 1 << 20;

/// A disk in memory that counts what is read.
struct Memory {
    bytes: Vec<u8>,
    block_size: u32,
    reads: usize,
}

impl Memory {
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, block_size: 512, reads: 0 }
    }
}

impl Bytes for Memory {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn block_size(&self) -> u32 {
        self.block_size
    }

    fn read(&mut self, at: u64, to: &mut [u8]) -> Result<(), String> {
        self.reads += 1;
        assert!(self.reads < 2_000_000, "it does not end");
        let from = usize::try_from(at).ok().and_then(|at| self.bytes.get(at..at.checked_add(to.len())?));
        from.map(|from| to.copy_from_slice(from)).ok_or_else(|| "lies behind its end".into())
    }
}

/// A volume with files.
fn volume(kind: FatType, len: usize, cluster: u32, files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let options = FormatVolumeOptions::new().fat_type(kind).bytes_per_cluster(cluster);
    format_volume(Cursor::new(&mut bytes), options).unwrap();
    let system = FileSystem::new(Cursor::new(&mut bytes), FsOptions::new()).unwrap();
    for (name, content) in files {
        let mut file = system.root_dir().create_file(name).unwrap();
        file.write_all(content).unwrap();
    }
    drop(system);
    bytes
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| b'a' + (at / 3 % 26) as u8).collect()
}

const SHAPES: [(FatType, usize, u32); 4] = [
    (FatType::Fat12, 512 << 10, 512),
    (FatType::Fat12, 4 << 20, 4096),
    (FatType::Fat16, 4 << 20, 512),
    (FatType::Fat32, 40 << 20, 512),
];

fn whole(bytes: Vec<u8>) -> Result<Vec<u8>, Missing> {
    let mut disk = Memory::new(bytes);
    let place = 0..disk.len();
    read_file(&mut disk, place, FILE, LIMIT)
}

#[test]
fn reads_every_kind_of_fat() {
    for (kind, len, cluster) in SHAPES {
        for size in [0, 1, 511, 512, 513, 100_000] {
            let content = text(size);
            let bytes = volume(kind, len, cluster, &[("a long name before it.text", b"x"), (FILE, &content)]);
            assert!(whole(bytes) == Ok(content), "{kind:?}, clusters of {cluster}, {size} bytes");
        }
    }
}

#[test]
fn finds_the_file_among_many_and_in_any_case() {
    for (kind, len, cluster) in SHAPES {
        let names: Vec<String> =
            (0..120).map(|number| format!("number {number} of many files.toml")).collect();
        let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"no"[..])).collect();
        // FAT12's root directory has 512 entries, and such a name takes four.
        files.push(("Weir.TOML", b"yes"));
        assert_eq!(whole(volume(kind, len, cluster, &files)).unwrap(), b"yes", "{kind:?}");
        files.pop();
        assert_eq!(whole(volume(kind, len, cluster, &files)), Err(Missing::NoFile));
    }
}

#[test]
fn reads_a_file_in_pieces_all_over_the_volume() {
    let mut bytes = vec![0; 4 << 20];
    format_volume(Cursor::new(&mut bytes), FormatVolumeOptions::new().bytes_per_cluster(512)).unwrap();
    let system = FileSystem::new(Cursor::new(&mut bytes), FsOptions::new()).unwrap();
    let root = system.root_dir();
    let (mut ours, mut other) = (root.create_file(FILE).unwrap(), root.create_file("other").unwrap());
    let content = text(50_000);
    for piece in content.chunks(700) {
        ours.write_all(piece).unwrap();
        other.write_all(&[0; 700]).unwrap();
    }
    drop((ours, other));
    drop(root);
    drop(system);
    assert_eq!(whole(bytes).unwrap(), content);
}

/// Says of a volume with one change what is wrong with it.
fn wrong(kind: FatType, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let (_, len, cluster) = SHAPES.into_iter().find(|shape| shape.0 == kind).unwrap();
    let mut bytes = volume(kind, len, cluster, &[(FILE, &text(3000))]);
    change(&mut bytes);
    match whole(bytes) {
        Err(Missing::Broken(why)) => why,
        other => panic!("{:?}", other.map(|content| content.len())),
    }
}

#[test]
fn says_what_is_broken() {
    let why = wrong(FatType::Fat16, |bytes| bytes[19..21].copy_from_slice(&u16::MAX.to_le_bytes()));
    assert_eq!(why, "its FAT file system is broken: it is larger than its partition; fsck.fat may mend it");
    let why = wrong(FatType::Fat16, |bytes| bytes[22] = 1);
    assert!(why.contains("its table is shorter than its clusters need"), "{why}");
    let why = wrong(FatType::Fat16, |bytes| bytes[14..16].copy_from_slice(&8190_u16.to_le_bytes()));
    assert!(why.contains("it has no room for data"), "{why}");
    let why = wrong(FatType::Fat32, |bytes| bytes[44..48].copy_from_slice(&1_u32.to_le_bytes()));
    assert!(why.contains("a chain leads to cluster 1;"), "{why}");
    // The file's second cluster is followed by none: FAT16's table begins behind one sector, the file at
    // cluster 2.
    let why = wrong(FatType::Fat16, |bytes| {
        let table = usize::from(u16_at(bytes, 14)) * 512;
        bytes[table + 6..table + 8].copy_from_slice(&u16::MAX.to_le_bytes());
    });
    assert!(why.contains("weir.toml ends before its length"), "{why}");
    let why = wrong(FatType::Fat16, |bytes| {
        let table = usize::from(u16_at(bytes, 14)) * 512;
        bytes[table + 6..table + 8].fill(0);
    });
    assert!(why.contains("a chain leads to cluster 0;"), "{why}");
}

#[test]
fn says_of_a_file_that_it_is_too_large_or_a_folder() {
    let bytes = volume(FatType::Fat16, 4 << 20, 512, &[(FILE, &text(LIMIT + 1))]);
    let large = Missing::Broken("weir.toml takes 1048577 bytes, and there is room for 1048576".into());
    assert_eq!(whole(bytes).unwrap_err(), large);
    let mut bytes = volume(FatType::Fat16, 4 << 20, 512, &[]);
    let system = FileSystem::new(Cursor::new(&mut bytes), FsOptions::new()).unwrap();
    system.root_dir().create_dir(FILE).unwrap();
    drop(system);
    assert_eq!(whole(bytes).unwrap_err(), Missing::Broken("weir.toml is a folder, not a file".into()));
}

/// A disk with an MBR and these volumes, the first partition at 1 MiB.
fn partitioned(volumes: &[Vec<u8>]) -> Vec<u8> {
    let mut disk = vec![0; 1 << 20];
    for (number, volume) in volumes.iter().enumerate() {
        let (start, len) = (disk.len() as u32 / 512, volume.len() as u32 / 512);
        let entry = 446 + 16 * number;
        disk[entry + 4] = 0x0e;
        disk[entry + 8..entry + 12].copy_from_slice(&start.to_le_bytes());
        disk[entry + 12..entry + 16].copy_from_slice(&len.to_le_bytes());
        disk.extend(volume);
    }
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

fn looked(bytes: Vec<u8>) -> Search {
    let mut search = Search::default();
    search.look("pci 0000:00:01.0", &mut Memory::new(bytes), LIMIT);
    search
}

fn found(bytes: Vec<u8>) -> (String, Result<Vec<u8>, String>) {
    let found = looked(bytes).found.unwrap();
    (found.place, found.content)
}

#[test]
fn looks_at_the_whole_disk_then_at_each_partition() {
    let with = volume(FatType::Fat16, 4 << 20, 512, &[(FILE, b"here")]);
    let without = volume(FatType::Fat12, 512 << 10, 512, &[("other", b"")]);
    assert_eq!(found(with.clone()), ("disk pci 0000:00:01.0".into(), Ok(b"here".into())));
    let other = vec![0xcc; 1 << 20];
    let disk = partitioned(&[other.clone(), without.clone(), with]);
    assert_eq!(found(disk), ("disk pci 0000:00:01.0, partition 3".into(), Ok(b"here".into())));
    let disk = partitioned(&[without.clone(), other.clone(), without]);
    let passed = "disk pci 0000:00:01.0: no weir.toml on its FAT partitions (1, 3)\n";
    assert_eq!(looked(disk), Search { found: None, passed: passed.into() });
    for nothing in [partitioned(&[other]), vec![0; 4096], vec![0; 10], Vec::new()] {
        let passed = "disk pci 0000:00:01.0: no FAT file system\n";
        assert_eq!(looked(nothing), Search { found: None, passed: passed.into() });
    }
}

#[test]
fn what_is_broken_counts_if_there_is_nothing_better() {
    let mut bad = volume(FatType::Fat16, 4 << 20, 512, &[(FILE, b"lost")]);
    bad[22] = 1;
    let good = volume(FatType::Fat16, 4 << 20, 512, &[(FILE, b"here")]);
    assert_eq!(found(partitioned(&[bad.clone(), good])).1, Ok(b"here".into()));
    let (place, content) = found(partitioned(&[bad]));
    assert_eq!(place, "disk pci 0000:00:01.0, partition 1");
    assert!(content.unwrap_err().contains("its table is shorter"));
}

#[test]
fn a_broken_disk_does_not_hide_a_later_one() {
    let mut bad = volume(FatType::Fat16, 4 << 20, 512, &[(FILE, b"lost")]);
    bad[22] = 1;
    let good = volume(FatType::Fat16, 4 << 20, 512, &[(FILE, b"here")]);
    let mut search = Search::default();
    let mut look = |name: &str, bytes: &[u8]| {
        search.look(name, &mut Memory::new(bytes.to_vec()), LIMIT);
        (search.is_over(), search.found.as_ref().unwrap().place.clone(), search.passed.clone())
    };
    assert_eq!(look("a", &bad), (false, "disk a".into(), String::new()));
    let (is_over, place, passed) = look("b", &bad);
    assert_eq!((is_over, place.as_str()), (false, "disk a"), "the first broken one counts");
    assert!(passed.starts_with("disk b: its FAT file system is broken"), "{passed}");
    let (is_over, place, passed) = look("c", &good);
    assert_eq!((is_over, place.as_str()), (true, "disk c"));
    assert!(passed.contains("\ndisk a: its FAT file system is broken"), "{passed}");
}

#[test]
fn a_missing_gpt_is_an_error() {
    let mut disk = partitioned(&[vec![0; 4096]]);
    disk[450] = 0xee;
    let (place, content) = found(disk);
    let why = content.unwrap_err();
    assert_eq!(place, "disk pci 0000:00:01.0");
    assert!(why.contains("there is no GPT where its MBR promises one"), "{why}");
}

/// A disk with a GPT, its header in block 1, its entries in block 2.
fn gpt(block: usize, entries: &[(u64, u64)]) -> Vec<u8> {
    let mut disk = vec![0; 64 * block];
    disk[450] = 0xee;
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[block..block + 8].copy_from_slice(b"EFI PART");
    disk[block + 72] = 2;
    disk[block + 80] = entries.len() as u8;
    disk[block + 84] = 128;
    for (number, (first, last)) in entries.iter().enumerate() {
        let at = 2 * block + 128 * number;
        disk[at] = 1;
        disk[at + 32..at + 40].copy_from_slice(&first.to_le_bytes());
        disk[at + 40..at + 48].copy_from_slice(&last.to_le_bytes());
    }
    disk
}

#[test]
fn takes_partitions_that_lie_on_the_disk() {
    for block in [512, 4096] {
        let mut disk = Memory::new(gpt(block, &[(10, 19), (5, 4), (10, u64::MAX), (60, 64), (63, 63)]));
        let size = block as u64;
        let found = table::partitions(&mut disk, block as u32).unwrap();
        assert_eq!(found, [(1, 10 * size..20 * size), (5, 63 * size..64 * size)]);
    }
}

proptest! {
    /// Whatever stands in the first sectors: an end, and no panic.
    #[test]
    fn any_boot_sector_is_read_or_refused(
        kind in 0..3usize, fields in proptest::collection::vec((0usize..64, any::<u8>()), 1..8),
    ) {
        let shape = [SHAPES[0], SHAPES[2], (FatType::Fat32, 34 << 20, 512)][kind];
        let mut bytes = volume(shape.0, shape.1, shape.2, &[(FILE, &text(2000))]);
        for (at, byte) in fields {
            bytes[at] = byte;
        }
        let _ = looked(bytes);
    }

    /// Tables and directories full of nonsense.
    #[test]
    fn any_table_and_directory_is_read_or_refused(
        kind in 0..3usize, seed in any::<u64>(), share in 1u64..64, from in 512usize..8192, len in 1usize..400_000,
    ) {
        let shape = [SHAPES[0], SHAPES[2], (FatType::Fat32, 34 << 20, 512)][kind];
        let mut bytes = volume(shape.0, shape.1, shape.2, &[("first", &text(600)), (FILE, &text(9000))]);
        let mut state = seed | 1;
        let end = (from + len).min(bytes.len());
        for byte in &mut bytes[from..end] {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if (state >> 33).is_multiple_of(share) {
                *byte = (state >> 40) as u8;
            }
        }
        let _ = looked(bytes);
    }

    /// Any sectors at all behind a sound table.
    #[test]
    fn any_partition_table_is_read_or_refused(
        sectors in proptest::collection::vec(any::<u8>(), 1536..4096), protective: bool,
    ) {
        let mut bytes = sectors;
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        if protective {
            bytes[450] = 0xee;
            bytes[512..520].copy_from_slice(b"EFI PART");
            bytes[584..592].copy_from_slice(&2u64.to_le_bytes());
            bytes[596..600].copy_from_slice(&128u32.to_le_bytes());
        }
        let _ = looked(bytes);
    }
}
