//! Tables as firmware makes them, and as it should not.

use super::*;
use proptest::prelude::*;

/// The area that is scanned, and a table at its address.
struct Firmware {
    area: Vec<u8>,
    table: (u64, Vec<u8>),
}

impl<'a> Memory<'a> for &'a Firmware {
    fn bytes(&self, address: u64, len: usize) -> Option<&'a [u8]> {
        let (base, bytes) = if address == AREA { (AREA, &self.area) } else { (self.table.0, &self.table.1) };
        let start = usize::try_from(address.checked_sub(base)?).ok()?;
        bytes.get(start..start.checked_add(len)?)
    }
}

const TABLE: u64 = 0xFFE_0000;

fn sum_up(bytes: &mut [u8], checksum: usize) {
    bytes[checksum] = 0;
    bytes[checksum] = bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_sub(byte));
}

fn entry_point_64(len: u32) -> Vec<u8> {
    let mut entry = b"_SM3_\0\x18\x03\0\0\x01\0".to_vec();
    entry.extend(len.to_le_bytes());
    entry.extend(TABLE.to_le_bytes());
    sum_up(&mut entry, 5);
    entry
}

fn entry_point_32(len: u16) -> Vec<u8> {
    let mut inner = b"_DMI_\0".to_vec();
    inner.extend(len.to_le_bytes());
    inner.extend((TABLE as u32).to_le_bytes());
    inner.extend([3, 0, 0x28]);
    sum_up(&mut inner, 5);
    let mut entry = b"_SM_\0\x1f\x02\x08\0\0\0\0\0\0\0\0".to_vec();
    entry.extend(inner);
    sum_up(&mut entry, 4);
    entry
}

/// A structure with a handle and nothing else in its formatted part but the number of strings.
fn structure(kind: u8, strings: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![kind, 5, 0, 0, strings.len() as u8];
    strings.iter().for_each(|string| bytes.extend([string, &b"\0"[..]].concat()));
    bytes.extend(if strings.is_empty() { &b"\0\0"[..] } else { b"\0" });
    bytes
}

fn table(strings: &[&[u8]]) -> Vec<u8> {
    [
        structure(1, &[b"Maker", b"org.weir.decoy"]),
        structure(32, &[]),
        structure(OEM_STRINGS, strings),
        structure(END_OF_TABLE, &[]),
        structure(OEM_STRINGS, &[b"behind the end"]),
    ]
    .concat()
}

/// Firmware with these entry points, each on a boundary.
fn firmware(entries: &[Vec<u8>], table: Vec<u8>) -> Firmware {
    let mut area = vec![0xAA; AREA_LEN];
    for (entry, at) in entries.iter().zip((0x5B0..).step_by(0x40)) {
        area[at..at + entry.len()].copy_from_slice(entry);
    }
    Firmware { area, table: (TABLE, table) }
}

fn strings(firmware: &Firmware) -> Strings<'_> {
    read(&firmware)
}

#[test]
fn reads_the_strings_by_either_entry_point() {
    let text = b"weir.config=[interface.a]\nmatch = { port = 0 }\n";
    let table = table(&[b"first", text]);
    let len = table.len();
    for entry in [entry_point_32(len as u16), entry_point_64(len as u32)] {
        let firmware = firmware(&[entry], table.clone());
        let expected = Strings { list: vec![&b"first"[..], text], problem: None };
        assert_eq!(strings(&firmware), expected);
    }
}

#[test]
fn the_64_bit_entry_point_counts_first() {
    let table = table(&[b"whole"]);
    let entries = [entry_point_32(3), entry_point_64(table.len() as u32)];
    assert_eq!(strings(&firmware(&entries, table)).list, [b"whole"]);
}

#[test]
fn a_misprint_of_the_first_version_is_known() {
    let table = table(&[b"old"]);
    let mut entry = entry_point_32(table.len() as u16);
    entry[5] = 0x1E;
    sum_up(&mut entry, 4);
    assert_eq!(strings(&firmware(&[entry], table)).list, [b"old"]);
}

#[test]
fn an_entry_point_with_a_wrong_byte_is_none() {
    let table = table(&[b"never"]);
    let len = table.len();
    for entry in [entry_point_32(len as u16), entry_point_64(len as u32)] {
        for at in 0..entry.len() {
            let mut entry = entry.clone();
            entry[at] ^= 0x10;
            assert_eq!(strings(&firmware(&[entry], table.clone())), Strings::default(), "byte {at}");
        }
    }
}

#[test]
fn an_entry_point_off_its_boundary_is_none() {
    let table = table(&[b"never"]);
    let mut firmware = firmware(&[entry_point_64(table.len() as u32)], table);
    firmware.area.remove(0);
    firmware.area.push(0);
    assert_eq!(strings(&firmware), Strings::default());
}

#[test]
fn a_table_outside_memory_is_named() {
    let firmware = firmware(&[entry_point_64(10_000)], table(&[]));
    assert_eq!(strings(&firmware).problem, Some(Problem::Unreadable(TABLE)));
}

#[test]
fn a_table_that_ends_early_keeps_whole_strings_only() {
    let whole = table(&[b"one", b"two"]);
    let at = whole.windows(3).position(|window| window == b"two").unwrap();
    for len in at..at + 4 {
        let firmware = firmware(&[entry_point_64(len as u32)], whole[..len].to_vec());
        let found = strings(&firmware);
        let expected: &[&[u8]] = if len == at + 3 + 1 { &[b"one", b"two"] } else { &[b"one"] };
        assert_eq!(found.list, expected, "{len}");
        assert!(matches!(found.problem, Some(Problem::Cut(_))), "{len}: {found:?}");
    }
}

#[test]
fn a_structure_shorter_than_its_header_ends_the_walk() {
    for len in [0, 3, 255] {
        let mut bytes = table(&[b"never"]);
        bytes[1] = len;
        bytes.truncate(200);
        let firmware = firmware(&[entry_point_64(bytes.len() as u32)], bytes);
        assert_eq!(strings(&firmware), Strings { list: vec![], problem: Some(Problem::Cut(0)) }, "{len}");
    }
}

#[test]
fn strings_beyond_the_most_are_not_kept() {
    let many = structure(OEM_STRINGS, &[&b"x"[..]; 200]);
    let twice = [many.clone(), many].concat();
    assert_eq!(strings(&firmware(&[entry_point_64(twice.len() as u32)], twice)).list.len(), MAX_STRINGS);
}

#[test]
fn the_host_is_left_alone() {
    assert_eq!(oem_strings(), Strings::default());
}

proptest! {
    /// Any table: the walk ends, and what it finds has no zeros and lies in the table.
    #[test]
    fn any_table_is_walked_to_an_end(
        table in prop::collection::vec(prop_oneof![Just(0u8), Just(11), 1u8..9, any::<u8>()], 0..400),
    ) {
        let firmware = firmware(&[entry_point_64(table.len() as u32)], table.clone());
        let found = strings(&firmware);
        prop_assert!(found.list.iter().all(|string| !string.is_empty() && !string.contains(&0)));
        prop_assert!(found.list.iter().map(|string| string.len()).sum::<usize>() <= table.len());
    }

    /// Any bytes where entry points are looked for.
    #[test]
    fn any_area_gives_an_answer(
        anchor in prop::sample::select(vec![&b"_SM3_"[..], b"_SM_"]),
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        at in 0usize..4095,
    ) {
        let mut firmware = firmware(&[], table(&[b"x"]));
        let entry = [anchor, &bytes].concat();
        let start = (at * 16).min(AREA_LEN - entry.len());
        firmware.area[start..start + entry.len()].copy_from_slice(&entry);
        let _ = strings(&firmware);
    }
}
