//! A text's fingerprint: what tells it from all others. The same text has the same on every router, after every boot.

use alloc::format;
use alloc::string::String;
use blake2::digest::consts::U8;
use blake2::{Blake2b, Digest};

/// 64 bits of BLAKE2b (RFC 7693), as 16 hexadecimal digits.
pub fn fingerprint(bytes: &[u8]) -> String {
    Blake2b::<U8>::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_from_the_text_alone() {
        assert_eq!(fingerprint(b"a"), fingerprint(b"a"));
        assert_ne!(fingerprint(b"a"), fingerprint(b"b"));
        assert_eq!(fingerprint(b"").len(), 16);
    }
}
