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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What Xen does with the words (Xen `common/event_fifo.c`), on one CPU.
    struct Xen {
        control: Control,
        queues: Queues,
        words: Vec<AtomicU32>,
        tail: [u32; QUEUES],
        upcalls: usize,
    }

    impl Xen {
        fn new(ports: usize) -> Xen {
            let words = (0..ports).map(|_| AtomicU32::new(MASKED)).collect();
            Xen { control: Control::new(), queues: Queues::new(), words, tail: [0; QUEUES], upcalls: 0 }
        }

        fn word(&self, port: u32) -> u32 {
            self.words[port as usize].load(Ordering::SeqCst)
        }

        fn fire(&mut self, port: u32, queue: usize) {
            let before = self.words[port as usize].fetch_or(PENDING, Ordering::SeqCst);
            if before & (MASKED | LINKED) == 0 {
                self.link(port, queue);
            }
        }

        fn link(&mut self, port: u32, queue: usize) {
            self.words[port as usize].fetch_or(LINKED, Ordering::SeqCst);
            let tail = self.tail[queue];
            // Behind the last one, if that is still queued; else the queue begins anew.
            if tail != 0 && tail != port && self.word(tail) & LINKED != 0 {
                self.words[tail as usize].fetch_or(port, Ordering::SeqCst);
            } else {
                self.control.head[queue].store(port, Ordering::SeqCst);
                self.control.ready.fetch_or(1 << queue, Ordering::SeqCst);
                self.upcalls += 1;
            }
            self.tail[queue] = port;
        }

        fn unmask(&mut self, port: u32, queue: usize) {
            if unmask(&self.words[port as usize]) == Unmasking::ByXen {
                self.words[port as usize].fetch_and(!MASKED, Ordering::SeqCst);
                if self.word(port) & (PENDING | LINKED) == PENDING {
                    self.link(port, queue);
                }
            }
        }

        fn scan(&self) -> (Vec<u32>, More) {
            let mut ports = Vec::new();
            let word = |port: u32| if port == 0 { None } else { self.words.get(port as usize) };
            let more = scan(&self.control, &self.queues, word, |port| ports.push(port));
            (ports, more)
        }
    }

    #[test]
    fn delivers_a_queue_in_order_and_leaves_its_ports_masked() {
        let mut xen = Xen::new(64);
        for port in [9, 3, 27] {
            xen.unmask(port, 7);
            xen.fire(port, 7);
        }
        assert_eq!(xen.scan(), (vec![9, 3, 27], More::No));
        assert!([9, 3, 27].into_iter().all(|port| xen.word(port) == MASKED));
        assert_eq!(xen.scan(), (vec![], More::No));
    }

    #[test]
    fn a_storm_is_one_delivery_an_unmasking() {
        let mut xen = Xen::new(64);
        xen.unmask(5, 7);
        for turn in 0..10 {
            (0..1000).for_each(|_| xen.fire(5, 7));
            assert_eq!(xen.scan().0, [5], "turn {turn}");
            (0..1000).for_each(|_| xen.fire(5, 7));
            assert_eq!(xen.scan().0, []);
            xen.unmask(5, 7);
        }
        assert_eq!(xen.scan().0, [5], "what came while it was masked");
        assert!(xen.upcalls <= 11);
    }

    #[test]
    fn urgent_queues_come_first_even_if_they_fill_later() {
        let mut xen = Xen::new(64);
        for (port, queue) in [(9, 7), (3, 7), (27, 0)] {
            xen.unmask(port, queue);
            xen.fire(port, queue);
        }
        assert_eq!(xen.scan().0, [27, 9, 3]);
    }

    #[test]
    fn a_port_masked_while_it_is_queued_is_kept_for_its_unmasking() {
        let mut xen = Xen::new(64);
        xen.unmask(5, 7);
        xen.fire(5, 7);
        mask(&xen.words[5]);
        assert_eq!(xen.scan(), (vec![], More::No));
        assert_eq!(xen.word(5), PENDING | MASKED);
        xen.unmask(5, 7);
        assert_eq!(xen.scan().0, [5]);
        xen.fire(5, 7);
        clear(&xen.words[5]);
        xen.unmask(5, 7);
        assert_eq!(xen.scan().0, []);
    }

    #[test]
    fn a_full_house_takes_several_scans_and_loses_nobody() {
        let mut xen = Xen::new(1000);
        for port in 1..1000 {
            xen.unmask(port, 7);
            xen.fire(port, 7);
        }
        let mut seen = BTreeSet::new();
        let mut scans = 0;
        loop {
            let (ports, more) = xen.scan();
            seen.extend(ports);
            scans += 1;
            if more == More::No {
                break;
            }
        }
        assert_eq!((seen.len(), scans), (999, 4));
    }

    #[test]
    fn a_link_to_nowhere_ends_its_queue_only() {
        let mut xen = Xen::new(64);
        for port in [9, 3] {
            xen.unmask(port, 7);
            xen.fire(port, 7);
        }
        xen.words[9].store(PENDING | LINKED | 60_000, Ordering::SeqCst);
        xen.words[3].store(MASKED, Ordering::SeqCst);
        assert_eq!(xen.scan(), (vec![9], More::No));
        xen.unmask(3, 7);
        xen.fire(3, 7);
        assert_eq!(xen.scan().0, [3]);
    }

    #[test]
    fn unmasking_while_xen_links_takes_the_busy_mark_along() {
        let word = AtomicU32::new(MASKED | BUSY | LINKED | 7);
        assert_eq!(unmask(&word), Unmasking::Done);
        assert_eq!(word.load(Ordering::SeqCst), LINKED | 7);
    }

    #[test]
    fn random_firing_loses_no_event() {
        let mut xen = Xen::new(200);
        let mut state = 0x9E37_79B9_u64;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        // What is owed to each port: it fired since it was last delivered.
        let mut owed = [false; 200];
        for _ in 0..100_000 {
            let port = 1 + random(199) as u32;
            let queue = port as usize % 3;
            match random(5) {
                0 | 1 => {
                    owed[port as usize] = true;
                    xen.fire(port, queue);
                }
                2 | 3 => xen.unmask(port, queue),
                _ => {
                    for port in xen.scan().0 {
                        assert!(core::mem::take(&mut owed[port as usize]), "{port} came from nowhere");
                    }
                }
            }
        }
        (1..200).for_each(|port| xen.unmask(port, port as usize % 3));
        for port in xen.scan().0 {
            owed[port as usize] = false;
        }
        assert!(!owed.contains(&true));
    }
}
