//! `struct virtio_net_config` (virtio 1.2 §5.1.4): each field read at its own width, then checked.

use crate::error::Error;
use crate::transport::{Transport, read_stable};
use virtio_spec::net::{F, S};
use weir_netif::Link;

/// Offsets.
const MAC: usize = 0;
const STATUS: usize = 6;
const MAX_VIRTQUEUE_PAIRS: usize = 8;
const MTU: usize = 10;
const RSS_MAX_KEY_SIZE: usize = 17;
const RSS_MAX_INDIRECTION_TABLE_LENGTH: usize = 18;
const SUPPORTED_HASH_TYPES: usize = 20;

/// Bounds that the specification sets (§5.1.4.1).
const LEAST_MTU: u16 = 68;
const MOST_PAIRS: u16 = 0x8000;

/// What is missing when a field lies beyond the structure.
const SHORT: Error = Error::Malformed("virtio-net configuration");

/// Limits of receive-side scaling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RssLimits {
    /// Bytes of key.
    pub(super) key: u8,
    /// Entries of the indirection table.
    pub(super) table: u16,
    /// `VIRTIO_NET_HASH_TYPE_` bits.
    pub(super) hash_types: u32,
}

/// What the driver needs to know of the configuration. Fields without their feature have no meaning and are not
/// read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Config {
    pub(super) mac: Option<[u8; 6]>,
    /// Queue pairs offered, 1 without multiqueue.
    pub(super) pairs: u16,
    pub(super) mtu: Option<u16>,
    pub(super) rss: Option<RssLimits>,
}

impl Config {
    /// Reads what the features offered give meaning to. The driver may do so before it accepts them (§3.1.1, step 4).
    pub(super) fn read(transport: &mut dyn Transport, offered: F) -> Result<Self, Error> {
        let read = read_stable(transport, |transport| {
            let mut read = Self { mac: None, pairs: 1, mtu: None, rss: None };
            if offered.contains(F::MAC) {
                let mut mac = [0; 6];
                for (at, byte) in mac.iter_mut().enumerate() {
                    *byte = transport.read_config_u8(MAC + at)?;
                }
                read.mac = Some(mac);
            }
            if offered.intersects(F::MQ | F::RSS) {
                read.pairs = transport.read_config_u16(MAX_VIRTQUEUE_PAIRS)?;
            }
            if offered.contains(F::MTU) {
                read.mtu = Some(transport.read_config_u16(MTU)?);
            }
            if offered.contains(F::RSS) {
                read.rss = Some(RssLimits {
                    key: transport.read_config_u8(RSS_MAX_KEY_SIZE)?,
                    table: transport.read_config_u16(RSS_MAX_INDIRECTION_TABLE_LENGTH)?,
                    hash_types: transport.read_config_u32(SUPPORTED_HASH_TYPES)?,
                });
            }
            Some(read)
        })?;
        read.ok_or(SHORT)?.checked()
    }

    fn checked(self) -> Result<Self, Error> {
        if let Some(mac) = self.mac.filter(|mac| mac[0] & 1 != 0 || *mac == [0; 6]) {
            return Err(Error::Mac(mac));
        }
        if let Some(mtu) = self.mtu.filter(|&mtu| mtu < LEAST_MTU) {
            return Err(Error::Mtu(mtu));
        }
        if self.pairs == 0 || self.pairs > MOST_PAIRS {
            return Err(Error::QueuePairs(self.pairs));
        }
        Ok(self)
    }
}

/// Carrier: up if the device does not say (§5.1.4).
pub(super) fn read_link(transport: &mut dyn Transport, features: F) -> Link {
    if !features.contains(F::STATUS) {
        return Link::Up;
    }
    let status = transport.read_config_u16(STATUS).unwrap_or(0);
    if status & S::LINK_UP.bits().to_ne() != 0 { Link::Up } else { Link::Down }
}
