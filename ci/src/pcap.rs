//! Captures in the classic pcap format, written when a test fails.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes `frames` (moment, Ethernet bytes) to `path`.
pub(crate) fn write<'a>(
    path: &Path,
    frames: impl IntoIterator<Item = (SystemTime, &'a [u8])>,
) -> std::io::Result<()> {
    // draft-ietf-opsawg-pcap §4: magic for microseconds, version 2.4, zone, accuracy, snap length, LINKTYPE_ETHERNET.
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, 1u32] {
        bytes.extend(word.to_le_bytes());
    }
    for (at, frame) in frames {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let length = frame.len() as u32;
        for word in [since.as_secs() as u32, since.subsec_micros(), length, length] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    std::fs::write(path, bytes)
}
