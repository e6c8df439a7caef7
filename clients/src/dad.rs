//! Whether somebody else on the link has an address: duplicate address detection (RFC 4862 §5.4) and ARP probes (RFC 5227 §2.1).
//!
//! Who hears of another holder is told so by whoever receives; a [`Probe`] asks, and knows when nobody will answer any more.

#[cfg(test)]
mod tests;

use crate::{NEVER, Random};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The first question waits up to so long, the same for all addresses that are new together: MAX_RTR_SOLICITATION_DELAY (RFC 4862
/// §5.4.2) and PROBE_WAIT (RFC 5227 §1.1).
pub const DELAY_MS: u64 = 1000;
/// Addresses pass at multiples of this, many together.
const TOGETHER_MS: u64 = 250;
/// RFC 4862 §5.1: DupAddrDetectTransmits, RetransTimer.
const SOLICITATIONS: u8 = 1;
const RETRANS_MS: u64 = 1000;
/// RFC 5227 §1.1: PROBE_NUM, PROBE_MIN and PROBE_MAX, ANNOUNCE_WAIT and ANNOUNCE_INTERVAL, which are the same.
const PROBES: u8 = 3;
const PROBE_MIN_MS: u64 = 1000;
const PROBE_SPAN_MS: u64 = 1000;
const ANNOUNCE_MS: u64 = 2000;

/// What is to be done now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// To send this to the link: an IPv6 packet, or an ARP message to all.
    Send(Vec<u8>),
    /// To use the address: nobody answered.
    Passed,
    /// To wait.
    Wait,
}

/// The questions after one address.
#[derive(Clone, Debug)]
pub struct Probe {
    address: IpAddr,
    mac: [u8; 6],
    random: Random,
    sent: u8,
    due_ms: u64,
    passed: bool,
}

impl Probe {
    /// Asks at `begin_ms` for `address`, which the station `mac` would have.
    pub fn new(address: IpAddr, mac: [u8; 6], random: Random, begin_ms: u64) -> Self {
        Self { address, mac, random, sent: 0, due_ms: begin_ms, passed: false }
    }

    /// Whether nobody answered in time.
    pub fn has_passed(&self) -> bool {
        self.passed
    }

    /// When to [`poll`](Self::poll).
    pub fn deadline_ms(&self) -> u64 {
        self.due_ms
    }

    /// What is to be done now; to be called until it is to wait. [`Step::Passed`] comes once.
    pub fn poll(&mut self, now_ms: u64) -> Step {
        if now_ms < self.due_ms {
            return Step::Wait;
        }
        if self.passed {
            // Announced when it came into use, and once more (RFC 5227 §2.3).
            self.due_ms = NEVER;
            return Step::Send(self.message());
        }
        let most = if self.address.is_ipv4() { PROBES } else { SOLICITATIONS };
        if self.sent == most {
            self.passed = true;
            self.due_ms = if self.address.is_ipv4() { now_ms + ANNOUNCE_MS } else { NEVER };
            return Step::Passed;
        }
        let message = self.message();
        self.sent += 1;
        self.due_ms = match self.address {
            IpAddr::V6(_) => (now_ms + RETRANS_MS).next_multiple_of(TOGETHER_MS),
            IpAddr::V4(_) if self.sent == most => (now_ms + ANNOUNCE_MS).next_multiple_of(TOGETHER_MS),
            IpAddr::V4(_) => now_ms + PROBE_MIN_MS + (self.random)() % PROBE_SPAN_MS,
        };
        Step::Send(message)
    }

    fn message(&self) -> Vec<u8> {
        match self.address {
            IpAddr::V4(address) => {
                // Of a probe the sender is unspecified, of an announcement it is the target (RFC 5227 §2.1.1, §2.3).
                let sender = if self.passed { address } else { Ipv4Addr::UNSPECIFIED };
                let mut message = Vec::from([0, 1, 8, 0, 6, 4, 0, 1]);
                message.extend(self.mac);
                message.extend(sender.octets());
                message.extend([0; 6]);
                message.extend(address.octets());
                message
            }
            IpAddr::V6(address) => {
                const GROUP: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
                let group = Ipv6Addr::from_bits(GROUP | address.to_bits() & 0xff_ffff);
                let mut message = Vec::from([135, 0, 0, 0, 0, 0, 0, 0]);
                message.extend(address.octets());
                crate::slaac::packet(Ipv6Addr::UNSPECIFIED, group, message)
            }
        }
    }
}
