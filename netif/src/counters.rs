//! Interface statistics: one block a CPU, one writer each, summed by the reader.

use crate::discard::Drop;
use weir_sync::{Counter, CpuId, PerCpu};

/// One CPU's counts of one interface.
#[derive(Debug)]
struct Block {
    rx_packets: Counter,
    rx_bytes: Counter,
    tx_packets: Counter,
    tx_bytes: Counter,
    interrupts: Counter,
    notifications: Counter,
    drops: [Counter; Drop::COUNT],
}

/// Packets, bytes and drops of one interface. Bytes are frame bytes without FCS; a super-packet counts once.
#[derive(Debug)]
pub struct IfCounters {
    blocks: PerCpu<Block>,
}

/// Sums over all CPUs, of a moment ago.
#[derive(Clone, Debug)]
pub struct Totals {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames handed to the device.
    pub tx_packets: u64,
    /// Bytes handed to the device.
    pub tx_bytes: u64,
    /// How often a device's interrupt ended a wait for packets.
    pub interrupts: u64,
    /// How often a device was notified of buffers.
    pub notifications: u64,
    drops: [u64; Drop::COUNT],
}

impl IfCounters {
    /// All zero, for every CPU.
    pub fn new() -> Self {
        Self {
            blocks: PerCpu::new(|_| Block {
                rx_packets: Counter::default(),
                rx_bytes: Counter::default(),
                tx_packets: Counter::default(),
                tx_bytes: Counter::default(),
                interrupts: Counter::default(),
                notifications: Counter::default(),
                drops: core::array::from_fn(|_| Counter::default()),
            }),
        }
    }

    /// Counts a received batch. `cpu` is the caller's own.
    #[inline]
    pub fn received(&self, cpu: CpuId, packets: u64, bytes: u64) {
        let block = self.blocks.of(cpu);
        block.rx_packets.add(packets);
        block.rx_bytes.add(bytes);
    }

    /// Counts a transmitted batch. `cpu` is the caller's own.
    #[inline]
    pub fn sent(&self, cpu: CpuId, packets: u64, bytes: u64) {
        let block = self.blocks.of(cpu);
        block.tx_packets.add(packets);
        block.tx_bytes.add(bytes);
    }

    /// Takes back what [`sent`](Self::sent) counted: it was accepted and then not transmitted. `cpu` is the caller's own.
    #[cold]
    pub fn not_sent(&self, cpu: CpuId, packets: u64, bytes: u64) {
        self.sent(cpu, packets.wrapping_neg(), bytes.wrapping_neg());
    }

    /// Counts interrupts that came and notifications that were sent. `cpu` is the caller's own.
    pub fn signalled(&self, cpu: CpuId, interrupts: u64, notifications: u64) {
        let block = self.blocks.of(cpu);
        block.interrupts.add(interrupts);
        block.notifications.add(notifications);
    }

    /// Counts one discarded packet. `cpu` is the caller's own.
    #[inline]
    pub fn dropped(&self, cpu: CpuId, reason: Drop) {
        self.dropped_many(cpu, reason, 1);
    }

    /// Counts discarded packets of one reason. `cpu` is the caller's own.
    #[inline]
    pub fn dropped_many(&self, cpu: CpuId, reason: Drop, count: u64) {
        if let Some(counter) = self.blocks.of(cpu).drops.get(reason as usize) {
            counter.add(count);
        }
    }

    /// The sums.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.blocks.iter().for_each(|block| totals.add(block));
        totals
    }

    /// What `cpu` has counted.
    pub fn of(&self, cpu: CpuId) -> Totals {
        let mut totals = Totals::default();
        totals.add(self.blocks.of(cpu));
        totals
    }
}

impl Default for IfCounters {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            rx_packets: 0,
            rx_bytes: 0,
            tx_packets: 0,
            tx_bytes: 0,
            interrupts: 0,
            notifications: 0,
            drops: [0; Drop::COUNT],
        }
    }
}

impl Totals {
    /// Adds another interface's.
    pub fn merge(&mut self, other: &Totals) {
        self.rx_packets = self.rx_packets.wrapping_add(other.rx_packets);
        self.rx_bytes = self.rx_bytes.wrapping_add(other.rx_bytes);
        self.tx_packets = self.tx_packets.wrapping_add(other.tx_packets);
        self.tx_bytes = self.tx_bytes.wrapping_add(other.tx_bytes);
        self.interrupts = self.interrupts.wrapping_add(other.interrupts);
        self.notifications = self.notifications.wrapping_add(other.notifications);
        self.drops.iter_mut().zip(&other.drops).for_each(|(sum, count)| *sum += count);
    }

    fn add(&mut self, block: &Block) {
        self.rx_packets = self.rx_packets.wrapping_add(block.rx_packets.get());
        self.rx_bytes = self.rx_bytes.wrapping_add(block.rx_bytes.get());
        self.tx_packets = self.tx_packets.wrapping_add(block.tx_packets.get());
        self.tx_bytes = self.tx_bytes.wrapping_add(block.tx_bytes.get());
        self.interrupts = self.interrupts.wrapping_add(block.interrupts.get());
        self.notifications = self.notifications.wrapping_add(block.notifications.get());
        for (sum, counter) in self.drops.iter_mut().zip(&block.drops) {
            *sum += counter.get();
        }
    }

    /// Packets discarded for `reason`.
    pub fn dropped(&self, reason: Drop) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or(0)
    }

    /// Reasons that occurred, with their counts.
    pub fn drops(&self) -> impl Iterator<Item = (Drop, u64)> {
        Drop::ALL.iter().map(|&reason| (reason, self.dropped(reason))).filter(|&(_, count)| count != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn sums_cpus_and_lists_only_reasons_that_occurred() {
        let counters = IfCounters::new();
        let (zero, one) = (CpuId::BOOT, CpuId::new(1).unwrap());
        counters.received(zero, 2, 128);
        counters.received(one, 1, 64);
        counters.dropped(one, Drop::TtlExpired);
        counters.signalled(one, 2, 7);
        let totals = counters.totals();
        assert_eq!((totals.rx_packets, totals.rx_bytes), (3, 192));
        assert_eq!((totals.interrupts, totals.notifications), (2, 7));
        assert_eq!(counters.of(one).rx_packets, 1);
        assert_eq!(totals.drops().collect::<Vec<_>>(), [(Drop::TtlExpired, 1)]);
    }
}
