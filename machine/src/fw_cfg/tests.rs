//! The device as QEMU makes it, and as nobody should.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Items by key, read from the place where the last read ended.
struct Device {
    items: BTreeMap<u16, Vec<u8>>,
    key: u16,
    at: usize,
    /// Bytes handed out.
    read: usize,
}

impl Registers for Device {
    fn select(&mut self, key: u16) {
        (self.key, self.at) = (key, 0);
    }

    fn read(&mut self, into: &mut [u8]) {
        for byte in into {
            *byte = self.items.get(&self.key).and_then(|item| item.get(self.at)).copied().unwrap_or(0);
            self.at += 1;
            self.read += 1;
        }
    }
}

fn entry(name: &str, key: u16, len: u32) -> Vec<u8> {
    let mut entry = [&len.to_be_bytes()[..], &key.to_be_bytes(), &[0, 0], name.as_bytes()].concat();
    entry.resize(ENTRY, 0);
    entry
}

/// A device with this directory.
fn device(count: u32, entries: &[Vec<u8>]) -> Device {
    let directory = [&count.to_be_bytes()[..], &entries.concat()].concat();
    let items = [(SIGNATURE, b"QEMU".to_vec()), (FILE_DIRECTORY, directory)];
    Device { items: items.into(), key: 0, at: 0, read: 0 }
}

const NAME: &str = "opt/org.weir/config";

/// One with a configuration among other files.
fn usual() -> Device {
    let entries = [entry("etc/acpi/tables", 0x20, 0x2_0000), entry(NAME, 0x2A, 5), entry("opt/x", 0x2B, 1)];
    let mut device = device(3, &entries);
    device.items.insert(0x2A, b"a = 1".to_vec());
    device
}

#[test]
fn reads_a_file_by_its_name() {
    assert_eq!(read_from(&mut usual(), NAME, 100), Ok(Some(b"a = 1".to_vec())));
    assert_eq!(read_from(&mut usual(), NAME, 5), Ok(Some(b"a = 1".to_vec())));
    for other in ["opt/org.weir/confi", "opt/org.weir/config2", "config", ""] {
        assert_eq!(read_from(&mut usual(), other, 100), Ok(None), "{other}");
    }
}

#[test]
fn an_empty_file_is_a_file() {
    let mut device = device(1, &[entry(NAME, 0x20, 0)]);
    assert_eq!(read_from(&mut device, NAME, 100), Ok(Some(Vec::new())));
}

#[test]
fn without_the_signature_nothing_else_is_read() {
    for signature in [&b"QEMV"[..], b"", b"\xff\xff\xff\xff"] {
        let mut device = usual();
        device.items.insert(SIGNATURE, signature.to_vec());
        assert_eq!(read_from(&mut device, NAME, 100), Err(Problem::NoDevice));
        assert_eq!(device.read, 4);
    }
}

#[test]
fn a_file_that_is_too_long_is_not_read() {
    for len in [6, 1 << 20, u32::MAX] {
        let mut device = device(1, &[entry(NAME, 0x20, len)]);
        assert_eq!(read_from(&mut device, NAME, 5), Err(Problem::TooLong(len, 5)));
        assert!(device.read < 100);
    }
}

#[test]
fn a_directory_that_cannot_be_is_not_walked() {
    for count in [MAX_FILES + 1, u32::MAX] {
        let mut device = device(count, &[entry(NAME, 0x20, 1)]);
        assert_eq!(read_from(&mut device, NAME, 5), Err(Problem::Directory(count)));
        assert_eq!(device.read, 8);
    }
}

#[test]
fn a_directory_shorter_than_it_says_ends() {
    let mut device = device(MAX_FILES, &[entry("etc/x", 0x20, 1)]);
    assert_eq!(read_from(&mut device, NAME, 5), Ok(None));
    assert_eq!(device.read, 8 + MAX_FILES as usize * ENTRY);
}

#[test]
fn a_name_that_nothing_ends_is_as_long_as_its_field() {
    let long = "x".repeat(ENTRY - super::NAME);
    let mut device = device(1, &[entry(&long, 0x20, 0)]);
    assert_eq!(read_from(&mut device, &long, 5), Ok(Some(Vec::new())));
}

#[test]
fn a_machine_without_the_device_has_no_files() {
    assert!(!is_present());
    assert_eq!(read_file(NAME, 100), Ok(None));
}

proptest! {
    /// Whatever is in the directory: an answer, no more bytes than were asked for, never more read than there can be.
    #[test]
    fn any_directory_gives_an_answer(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        count in prop_oneof![0u32..8, any::<u32>()],
        limit in 0usize..1000,
    ) {
        let mut device = device(count, &[bytes]);
        if let Ok(Some(content)) = read_from(&mut device, "", limit) {
            prop_assert!(content.len() <= limit);
        }
        prop_assert!(device.read <= 8 + MAX_FILES as usize * ENTRY + limit);
    }
}
