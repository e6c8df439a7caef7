//! The FIFO ABI: a word a port, in pages that grow, linked by Xen into queues of each CPU, one a priority.
//!
//! A word: pending, masked, linked, busy, and 17 bits of the next port in its queue.

use super::Unmasking;
use core::sync::atomic::{AtomicU32, Ordering};
use weir_sync::More;
use xen_sys::{
    EVTCHN_FIFO_BUSY, EVTCHN_FIFO_LINK_MASK, EVTCHN_FIFO_LINKED, EVTCHN_FIFO_MASKED, EVTCHN_FIFO_MAX_QUEUES,
    EVTCHN_FIFO_PENDING,
};

pub(super) const PENDING: u32 = 1 << EVTCHN_FIFO_PENDING;
pub(super) const MASKED: u32 = 1 << EVTCHN_FIFO_MASKED;
pub(super) const LINKED: u32 = 1 << EVTCHN_FIFO_LINKED;
pub(super) const BUSY: u32 = 1 << EVTCHN_FIFO_BUSY;
pub(super) const LINK: u32 = EVTCHN_FIFO_LINK_MASK;
const QUEUES: usize = EVTCHN_FIFO_MAX_QUEUES as usize;
/// Ports taken from the queues in one scan; the rest waits for the next.
const BUDGET: usize = 256;

/// What Xen writes for one CPU (`evtchn_fifo_control_block`); must not cross a page.
#[derive(Debug)]
#[repr(C, align(128))]
pub(super) struct Control {
    /// `[A]` Queues that were empty and are no more. Xen sets bits, we take them.
    pub(super) ready: AtomicU32,
    reserved: u32,
    /// `[A]` First port of each queue that was empty, by Xen.
    pub(super) head: [AtomicU32; QUEUES],
}

/// How far one CPU has come.
#[derive(Debug)]
pub(super) struct Queues {
    /// `[C]` Queues with something in them.
    ready: AtomicU32,
    /// `[C]` Next port of each; 0: look at the control block.
    next: [AtomicU32; QUEUES],
}

impl Control {
    pub(super) const fn new() -> Self {
        Self { ready: AtomicU32::new(0), reserved: 0, head: [const { AtomicU32::new(0) }; QUEUES] }
    }
}

impl Queues {
    pub(super) const fn new() -> Self {
        Self { ready: AtomicU32::new(0), next: [const { AtomicU32::new(0) }; QUEUES] }
    }
}

/// Takes what is queued for this CPU, most urgent queue first; each port that is pending and not masked is masked and given
/// to `deliver`. [`More::Yes`]: the budget ended it.
pub(super) fn scan<'a>(
    control: &Control,
    queues: &Queues,
    word: impl Fn(u32) -> Option<&'a AtomicU32>,
    mut deliver: impl FnMut(u32),
) -> More {
    let mut ready = queues.ready.load(Ordering::Relaxed);
    for _ in 0..BUDGET {
        ready |= control.ready.swap(0, Ordering::AcqRel);
        if ready == 0 {
            break;
        }
        let queue = ready.trailing_zeros() as usize % QUEUES;
        let port = match queues.next[queue].load(Ordering::Relaxed) {
            0 => control.head[queue].load(Ordering::Acquire),
            next => next,
        };
        let next = match word(port) {
            Some(word) => {
                let next = unlink(word);
                if take(word) {
                    deliver(port);
                }
                next
            }
            // A port nobody has: its queue begins anew when Xen fills it again.
            None => 0,
        };
        queues.next[queue].store(next, Ordering::Relaxed);
        if next == 0 {
            ready &= !(1 << queue);
        }
    }
    queues.ready.store(ready, Ordering::Relaxed);
    if ready == 0 { More::No } else { More::Yes }
}

/// Takes the word out of its queue; the next port there, 0 if it was the last. From here on Xen may queue it again.
fn unlink(word: &AtomicU32) -> u32 {
    word.fetch_and(!(LINKED | LINK), Ordering::AcqRel) & LINK
}

/// Masks a port that is pending and forgets that it was. `false`: it was masked, or nothing had come.
fn take(word: &AtomicU32) -> bool {
    let due = |word: u32| (word & PENDING != 0 && word & MASKED == 0).then_some((word | MASKED) & !PENDING);
    word.fetch_update(Ordering::AcqRel, Ordering::Acquire, due).is_ok()
}

/// Unmasks, unless an event waits: then Xen must do it, and queue it.
pub(super) fn unmask(word: &AtomicU32) -> Unmasking {
    // Xen makes a word busy while it links it; it is to find that the mask went away under it.
    let open = |word: u32| (word & PENDING == 0).then_some(word & !(MASKED | BUSY));
    match word.fetch_update(Ordering::AcqRel, Ordering::Acquire, open) {
        Ok(_) => Unmasking::Done,
        Err(_) => Unmasking::ByXen,
    }
}

pub(super) fn mask(word: &AtomicU32) {
    word.fetch_or(MASKED, Ordering::AcqRel);
}

pub(super) fn clear(word: &AtomicU32) {
    word.fetch_and(!PENDING, Ordering::AcqRel);
}
