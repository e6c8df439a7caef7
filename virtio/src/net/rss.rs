//! Receive-side scaling (virtio 1.2 §5.1.6.5.7): the same queue for both directions of a flow.

use super::config::RssLimits;
use alloc::vec::Vec;
use virtio_spec::net::HashType;
use weir_netif::toeplitz::SYMMETRIC_KEY;

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

    const LIMITS: RssLimits = RssLimits { key: 40, table: 128, hash_types: 0x1ff };

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
}
