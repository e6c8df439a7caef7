//! The flight recorder: what was lost last, and what changed last, of each CPU; always on, its cost is the drops'.
//!
//! Written in softint context, read by any CPU at any time, a panic's too.

use alloc::vec::Vec;
use weir_netif::{Drop, IfIndex};
use weir_sync::cpu::count;
use weir_sync::sort::sort_by_key;
use weir_sync::{CpuId, Last, PerCpu, Softint};

/// Bytes of a frame that are kept.
pub const HEAD: usize = 96;
/// Words of an entry: time, what it is, and the frame's first bytes.
const WORDS: usize = 2 + HEAD / 8;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A packet was lost.
    Dropped(Drop),
    /// This CPU went over to another configuration.
    Configured,
    /// The interface takes part from now on.
    Up,
    /// It does no more.
    Down,
}

impl What {
    /// The stable name operators see.
    pub const fn name(self) -> &'static str {
        match self {
            What::Dropped(reason) => reason.name(),
            What::Configured => "configuration",
            What::Up => "interface-up",
            What::Down => "interface-is-down",
        }
    }
}

/// One entry.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// When, in ticks of [`Taps`](crate::capture::Taps)' clock.
    pub ticks: u64,
    /// Which CPU.
    pub cpu: CpuId,
    /// The interface that the packet came in by, or that changed; of a configuration its number of interfaces.
    pub interface: IfIndex,
    /// What.
    pub what: What,
    /// Bytes of the frame.
    pub len: u32,
    head: [u8; HEAD],
    kept: u8,
}

impl Entry {
    /// The frame's first bytes, from its Ethernet header on.
    pub fn head(&self) -> &[u8] {
        self.head.get(..self.kept.into()).unwrap_or(&self.head)
    }
}

/// The last entries of each CPU.
#[derive(Debug)]
pub struct Recorder {
    cpus: PerCpu<Last<WORDS>>,
}

impl Recorder {
    /// Room for so many `entries` a CPU, 128 bytes each.
    pub fn new(entries: usize) -> Self {
        Self { cpus: PerCpu::new(|_| Last::new(entries)) }
    }

    /// Notes a lost packet of `len` bytes.
    pub(crate) fn dropped(
        &self,
        cx: &Softint,
        ticks: u64,
        interface: IfIndex,
        reason: Drop,
        (len, head): (usize, &[u8]),
    ) {
        let mut words = [0; WORDS];
        let kept = head.len().min(HEAD);
        for (word, bytes) in words.iter_mut().skip(2).zip(head.chunks(8)) {
            *word = match bytes.first_chunk() {
                Some(whole) => u64::from_le_bytes(*whole),
                None => bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
            };
        }
        let len = len.min(0xff_ffff) as u64;
        let what = reason as u64 | u64::from(interface.0) << 16 | len << 32 | (kept as u64) << 56;
        (words[0], words[1]) = (ticks, what);
        self.cpus.of(cx.cpu()).note(cx, words);
    }

    /// Notes a change of state.
    pub(crate) fn changed(&self, cx: &Softint, ticks: u64, interface: IfIndex, what: What) {
        let kind = match what {
            What::Dropped(_) => 0,
            What::Configured => 1,
            What::Up => 2,
            What::Down => 3,
        };
        let mut words = [0; WORDS];
        (words[0], words[1]) = (ticks, kind << 8 | u64::from(interface.0) << 16);
        self.cpus.of(cx.cpu()).note(cx, words);
    }

    /// The newest entries of one CPU, the newest first, at most so many. Allocates nothing.
    pub fn of(&self, cpu: CpuId, most: usize) -> impl Iterator<Item = Entry> {
        self.cpus.of(cpu).newest(most).filter_map(move |words| entry(cpu, words))
    }

    /// The newest entries of all CPUs, the newest first, at most so many.
    pub fn newest(&self, most: usize) -> Vec<Entry> {
        let mut all: Vec<Entry> =
            (0..count()).filter_map(CpuId::new).flat_map(|cpu| self.of(cpu, most)).collect();
        sort_by_key(&mut all, |entry| core::cmp::Reverse(entry.ticks));
        all.truncate(most);
        all
    }
}

fn entry(cpu: CpuId, words: [u64; WORDS]) -> Option<Entry> {
    let [ticks, what, bytes @ ..] = words;
    let mut head = [0; HEAD];
    for (to, word) in head.chunks_exact_mut(8).zip(bytes) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    Some(Entry {
        ticks,
        cpu,
        interface: IfIndex((what >> 16) as u16),
        what: match what >> 8 & 0xff {
            0 => What::Dropped(*Drop::ALL.get((what & 0xff) as usize)?),
            1 => What::Configured,
            2 => What::Up,
            _ => What::Down,
        },
        len: (what >> 32 & 0xff_ffff) as u32,
        head,
        kept: (what >> 56) as u8,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_sync::cpu::claim_any;

    #[test]
    fn tells_the_newest_of_all_cpus_as_they_were() {
        let recorder = Recorder::new(4);
        let (mut one, mut two) = (claim_any().unwrap(), claim_any().unwrap());
        let bytes: Vec<u8> = (0..200).collect();
        one.softint(|cx| {
            (0..9).for_each(|n| {
                let frame = (200, &bytes[..]);
                recorder.dropped(cx, n * 2, IfIndex(3), Drop::TtlExpired, frame);
            })
        });
        two.softint(|cx| {
            recorder.dropped(cx, 15, IfIndex(700), Drop::NoRoute, (17, &bytes[..17]));
            recorder.changed(cx, 99, IfIndex(2), What::Up);
        });
        let newest = recorder.newest(4);
        let told: Vec<_> = newest.iter().map(|e| (e.ticks, e.what, e.interface.0, e.len)).collect();
        let (lost, none) = (What::Dropped(Drop::TtlExpired), What::Dropped(Drop::NoRoute));
        assert_eq!(told, [(99, What::Up, 2, 0), (16, lost, 3, 200), (15, none, 700, 17), (14, lost, 3, 200)]);
        assert_eq!((newest[1].head(), newest[2].head()), (&bytes[..HEAD], &bytes[..17]));
        assert_eq!((newest[1].cpu, newest[2].cpu), (one.id(), two.id()));
        assert_eq!(recorder.newest(99).len(), 6, "four of one, two of the other");
    }
}
