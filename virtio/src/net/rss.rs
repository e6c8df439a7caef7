//! Receive-side scaling (virtio 1.2 §5.1.6.5.7): the same queue for both directions of a flow.

use super::config::RssLimits;
use alloc::vec::Vec;
use virtio_spec::net::HashType;

/// Toeplitz key whose 16-bit period makes the hash symmetric: swapping source and destination, addresses and
/// ports alike, changes nothing (Woo and Park, "Scalable TCP Session Monitoring with Symmetric RSS", 2012).
pub const SYMMETRIC_KEY: [u8; 40] = {
    let mut key = [0; 40];
    let mut at = 0;
    while at < key.len() {
        key[at] = if at % 2 == 0 { 0x6d } else { 0x5a };
        at += 1;
    }
    key
};

/// Entries of the indirection table, if the device takes as many: a multiple of every number of queues that is a
/// power of two, and nearly even for others.
const TABLE: u16 = 128;

/// The configuration that spreads flows over `pairs` queue pairs; `None` if the device's limits do not allow it.
pub(super) fn config(pairs: u16, limits: RssLimits) -> Option<Vec<u8>> {
    let types = HashType::IPV4 | HashType::TCPV4 | HashType::UDPV4;
    let types = types | HashType::IPV6 | HashType::TCPV6 | HashType::UDPV6;
    let types = types.bits().to_ne() & limits.hash_types;
    // §5.1.4: the table's length is a power of two.
    let entries = 1_u16.checked_shl(limits.table.min(TABLE).checked_ilog2()?)?;
    if usize::from(limits.key) < SYMMETRIC_KEY.len() || entries < pairs || types == 0 || pairs == 0 {
        return None;
    }
    let mut config = Vec::with_capacity(16 + 2 * usize::from(entries) + SYMMETRIC_KEY.len());
    config.extend(types.to_le_bytes());
    config.extend((entries - 1).to_le_bytes());
    // What has no hash goes to the first queue.
    config.extend(0_u16.to_le_bytes());
    for entry in 0..entries {
        config.extend((entry % pairs).to_le_bytes());
    }
    config.extend(pairs.to_le_bytes());
    config.push(SYMMETRIC_KEY.len() as u8);
    config.extend(SYMMETRIC_KEY);
    Some(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: RssLimits = RssLimits { key: 40, table: 128, hash_types: 0x1ff };

    /// Toeplitz, bit by bit.
    fn hash(input: &[u8]) -> u32 {
        let bit = |bytes: &[u8], n: usize| u32::from(bytes[n / 8] >> (7 - n % 8) & 1);
        let window = |at: usize| (0..32).fold(0, |sum, n| sum << 1 | bit(&SYMMETRIC_KEY, at + n));
        (0..8 * input.len()).filter(|&at| bit(input, at) == 1).fold(0, |sum, at| sum ^ window(at))
    }

    #[test]
    fn is_laid_out_as_specified() {
        let config = config(2, LIMITS).unwrap();
        assert_eq!(config.len(), 4 + 2 + 2 + 256 + 2 + 1 + 40);
        assert_eq!(config[..12], [0x3f, 0, 0, 0, 127, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(config[264..268], [2, 0, 40, 0x6d]);
    }

    #[test]
    fn keeps_to_the_devices_limits() {
        assert!(config(2, RssLimits { key: 39, ..LIMITS }).is_none());
        assert!(config(2, RssLimits { table: 0, ..LIMITS }).is_none());
        assert!(config(2, RssLimits { hash_types: 0x1c0, ..LIMITS }).is_none());
        assert!(config(200, LIMITS).is_none());
        let small = config(3, RssLimits { table: 9, ..LIMITS }).unwrap();
        assert_eq!(small[4], 7, "a mask for 8 entries");
    }

    proptest! {
        #[test]
        fn both_directions_hash_alike(source: [u8; 4], destination: [u8; 4], from: [u8; 2], to: [u8; 2]) {
            let there = [source, destination, [from[0], from[1], to[0], to[1]]].concat();
            let back = [destination, source, [to[0], to[1], from[0], from[1]]].concat();
            prop_assert_eq!(hash(&there), hash(&back));
        }
    }
}
