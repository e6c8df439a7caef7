//! QEMU's firmware configuration device (QEMU, `docs/specs/fw_cfg`): named files from QEMU's command line.
//! Read at boot, on the boot CPU.
//!
//! Its ports are touched only where ACPI names the device. Elsewhere they may be another device's, Xen has none for a
//! PVH guest, and uhyve ends a VM that touches a port it does not know.

use alloc::vec::Vec;
use core::fmt;

/// Ports it has at least: selector and data.
pub(crate) const PORTS: u8 = 2;

const SIGNATURE: u16 = 0x00;
const FILE_DIRECTORY: u16 = 0x19;
/// Files that keys exist for: 0x20 to 0x3FFF.
const MAX_FILES: u32 = 0x3FE0;
const ENTRY: usize = 64;
/// Where in a directory's entry the name begins, which a zero byte ends.
const NAME: usize = 8;

/// Why a file could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// Nothing answers with the device's signature.
    NoDevice,
    /// The directory names this many files, more than there can be.
    Directory(u32),
    /// The file's length, and the longest that was wanted.
    TooLong(u32, usize),
    /// There is no memory for a file of this length.
    NoMemory(u32),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice => f.write_str("ACPI names the device, but nothing answers at its ports"),
            Self::Directory(count) => {
                write!(f, "its directory names {count} files, at most {MAX_FILES} are possible")
            }
            Self::TooLong(len, limit) => write!(f, "the file has {len} bytes, expected at most {limit}"),
            Self::NoMemory(len) => write!(f, "no memory for the file's {len} bytes: give the machine more"),
        }
    }
}

/// The device's two registers.
pub trait Registers {
    /// Chooses what is read next, from its first byte on.
    fn select(&mut self, key: u16);
    /// The next bytes; zeros behind the end.
    fn read(&mut self, into: &mut [u8]);
}

/// Whether this machine has the device.
pub fn is_present() -> bool {
    crate::acpi::get().fw_cfg.is_some()
}

/// The content of the file `name`, at most `limit` bytes; `None` if there is none of that name, or no such device.
///
/// # Errors
/// The device or the file is not as it should be.
pub fn read_file(name: &str, limit: usize) -> Result<Option<Vec<u8>>, Problem> {
    #[cfg(feature = "image")]
    return match crate::acpi::get().fw_cfg {
        Some(first) => read_from(&mut image::Ports(first), name, limit),
        None => Ok(None),
    };
    #[cfg(not(feature = "image"))]
    {
        let _ = (name, limit);
        Ok(None)
    }
}

/// [`read_file`] on these registers.
///
/// # Errors
/// As [`read_file`].
pub fn read_from(device: &mut impl Registers, name: &str, limit: usize) -> Result<Option<Vec<u8>>, Problem> {
    let mut signature = [0; 4];
    device.select(SIGNATURE);
    device.read(&mut signature);
    if signature != *b"QEMU" {
        return Err(Problem::NoDevice);
    }
    let Some((key, len)) = find(device, name)? else { return Ok(None) };
    if len as usize > limit {
        return Err(Problem::TooLong(len, limit));
    }
    let mut content = Vec::new();
    content.try_reserve_exact(len as usize).map_err(|_| Problem::NoMemory(len))?;
    content.resize(len as usize, 0);
    device.select(key);
    device.read(&mut content);
    Ok(Some(content))
}

/// Key and length of a file.
fn find(device: &mut impl Registers, name: &str) -> Result<Option<(u16, u32)>, Problem> {
    let mut count = [0; 4];
    device.select(FILE_DIRECTORY);
    device.read(&mut count);
    let count = u32::from_be_bytes(count);
    if count > MAX_FILES {
        return Err(Problem::Directory(count));
    }
    for _ in 0..count {
        let mut entry = [0; ENTRY];
        device.read(&mut entry);
        let [l0, l1, l2, l3, k0, k1, ..] = entry;
        let named = entry.get(NAME..).unwrap_or(&[]).split(|&byte| byte == 0).next().unwrap_or(&[]);
        if named == name.as_bytes() {
            return Ok(Some((u16::from_be_bytes([k0, k1]), u32::from_be_bytes([l0, l1, l2, l3]))));
        }
    }
    Ok(None)
}

#[cfg(feature = "image")]
mod image {
    use crate::port;

    /// The first of the device's ports.
    pub(super) struct Ports(pub(super) u16);

    impl super::Registers for Ports {
        fn select(&mut self, key: u16) {
            port::write(self.0, key);
        }

        fn read(&mut self, into: &mut [u8]) {
            port::read_bytes(self.0 + 1, into);
        }
    }
}

#[cfg(test)]
mod tests;
