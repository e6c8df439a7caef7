//! A bounded ring of text lines. Any number of writers, in any context, interrupting one another; one reader.
//!
//! A slot's sequence number says whose turn it is (after Vyukov's bounded queue): `n` free for ticket `n`,
//! `n + 1` filled, `n + LINES` free for the next round. A writer that finds no free slot drops its line and
//! counts it. A writer that is interrupted between taking a ticket and filling holds up the reader, never
//! another writer.

use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

/// Lines a ring holds.
pub(super) const LINES: usize = 32;
/// Bytes of text a line holds.
const TEXT: usize = 212;

/// One line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    time: u64,
    len: u16,
    cut: bool,
    level: u8,
    text: [u8; TEXT],
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

impl Line {
    /// Makes it this line.
    pub(super) fn fill(&mut self, time: u64, level: u8, text: fmt::Arguments) {
        (self.time, self.level, self.len, self.cut) = (time, level, 0, false);
        // An error means that the line is cut, which it says itself.
        let _ = self.write_fmt(text);
    }

    /// Empty.
    pub(super) const fn new() -> Self {
        Self { time: 0, len: 0, cut: false, level: 0, text: [0; TEXT] }
    }

    /// Nanoseconds since entry.
    pub(super) fn time(&self) -> u64 {
        self.time
    }

    /// The level's number.
    pub(super) fn level(&self) -> u8 {
        self.level
    }

    /// Whether text was cut off.
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    /// The text, up to a character that was cut in two.
    pub(super) fn text(&self) -> &str {
        let bytes = self.text.get(..usize::from(self.len)).unwrap_or(&[]);
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                bytes.get(..error.valid_up_to()).and_then(|b| core::str::from_utf8(b).ok()).unwrap_or("")
            }
        }
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let len = usize::from(self.len);
        let Some(room) = self.text.get_mut(len..) else { return Err(fmt::Error) };
        let fits = room.len().min(text.len());
        for (to, from) in room.iter_mut().zip(text.bytes()) {
            // A line is one line.
            *to = if from == b'\n' { b' ' } else { from };
        }
        self.len += fits as u16;
        self.cut |= fits < text.len();
        if self.cut { Err(fmt::Error) } else { Ok(()) }
    }
}

#[repr(align(64))]
struct Slot {
    /// `[A]` Whose turn it is. Release by who finishes with `line`, Acquire by who takes it over.
    sequence: AtomicU64,
    /// Owned by the writer that took the ticket, then by the reader.
    line: UnsafeCell<Line>,
}

/// See the module.
#[repr(align(64))]
pub(super) struct Ring {
    /// `[A]` Next ticket to write. Writers advance it; AcqRel is not needed, the slots order the data.
    tail: AtomicU64,
    /// `[A]` Lines dropped since the reader last asked. Relaxed: a count.
    lost: AtomicU64,
    /// `[A]` Next ticket to read. The reader's.
    head: AtomicU64,
    slots: [Slot; LINES],
}

// SAFETY: a slot's line is touched only by the one who holds its turn, as `sequence` hands it over.
unsafe impl Sync for Ring {}

impl Ring {
    /// An empty ring.
    ///
    /// All zeroes, so that it costs no image space: sequences are stored less the slot's index.
    pub(super) const fn new() -> Self {
        const EMPTY: Line = Line::new();
        Self {
            tail: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            head: AtomicU64::new(0),
            slots: [const { Slot { sequence: AtomicU64::new(0), line: UnsafeCell::new(EMPTY) } }; LINES],
        }
    }

    fn slot(&self, ticket: u64) -> (&Slot, u64) {
        let index = ticket % LINES as u64;
        (&self.slots[index as usize], ticket - index)
    }

    /// Adds a line, or counts it as lost if the ring is full.
    pub(super) fn push(&self, time: u64, level: u8, text: fmt::Arguments) {
        let mut ticket = self.tail.load(Ordering::Relaxed);
        loop {
            let (slot, turn) = self.slot(ticket);
            let sequence = slot.sequence.load(Ordering::Acquire);
            if sequence < turn {
                self.lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
            if sequence > turn {
                // Another writer was quicker.
                ticket = self.tail.load(Ordering::Relaxed);
                continue;
            }
            match self.tail.compare_exchange_weak(ticket, ticket + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => ticket = now,
            }
        }
        let (slot, turn) = self.slot(ticket);
        // SAFETY: the exchange gave this writer alone the ticket of a free slot; nobody else touches the line
        // until the sequence moves on.
        let line = unsafe { &mut *slot.line.get() };
        line.fill(time, level, text);
        slot.sequence.store(turn + 1, Ordering::Release);
    }

    /// Moves the oldest line out. One reader at a time; `false` if there is none, or its writer is not done.
    pub(super) fn pop(&self, to: &mut Line) -> bool {
        let ticket = self.head.load(Ordering::Relaxed);
        let (slot, turn) = self.slot(ticket);
        if slot.sequence.load(Ordering::Acquire) != turn + 1 {
            return false;
        }
        // SAFETY: the sequence says the slot is filled, and only the reader takes filled slots. A panicking CPU
        // may read beside it: lines are plain bytes, so the worst is garbled text.
        *to = unsafe { *slot.line.get() };
        self.head.store(ticket + 1, Ordering::Relaxed);
        slot.sequence.store(turn + LINES as u64, Ordering::Release);
        true
    }

    /// When the oldest line was logged; `None` if there is none. The reader's.
    pub(super) fn front_time(&self) -> Option<u64> {
        let (slot, turn) = self.slot(self.head.load(Ordering::Relaxed));
        if slot.sequence.load(Ordering::Acquire) != turn + 1 {
            return None;
        }
        // SAFETY: as in `pop`.
        Some(unsafe { (*slot.line.get()).time })
    }

    /// How many lines were lost since the last call.
    pub(super) fn take_lost(&self) -> u64 {
        if self.lost.load(Ordering::Relaxed) == 0 { 0 } else { self.lost.swap(0, Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    fn pop(ring: &Ring) -> Option<String> {
        let mut line = Line::default();
        ring.pop(&mut line).then(|| line.text().to_string())
    }

    #[test]
    fn gives_lines_back_in_order() {
        let ring = Ring::new();
        for round in 0..100_u64 {
            assert_eq!(ring.front_time(), None);
            for n in 0..7 {
                ring.push(round, 2, format_args!("{round}/{n}"));
            }
            assert_eq!(ring.front_time(), Some(round));
            for n in 0..7 {
                assert_eq!(pop(&ring).unwrap(), format!("{round}/{n}"));
            }
            assert_eq!(pop(&ring), None);
        }
    }

    #[test]
    fn counts_what_a_full_ring_loses_and_keeps_the_oldest() {
        let ring = Ring::new();
        (0..LINES + 5).for_each(|n| ring.push(0, 0, format_args!("{n}")));
        assert_eq!(ring.take_lost(), 5);
        assert_eq!(ring.take_lost(), 0);
        for n in 0..LINES {
            assert_eq!(pop(&ring).unwrap(), n.to_string());
        }
        assert_eq!(pop(&ring), None);
    }

    #[test]
    fn cuts_long_lines_between_characters() {
        let ring = Ring::new();
        let text = "é".repeat(TEXT);
        ring.push(0, 0, format_args!("x{text}"));
        let mut line = Line::default();
        assert!(ring.pop(&mut line));
        assert!(line.is_cut());
        assert_eq!(line.text(), format!("x{}", "é".repeat((TEXT - 1) / 2)));
    }

    #[test]
    fn a_line_stays_one_line() {
        let ring = Ring::new();
        ring.push(0, 0, format_args!("a\nb"));
        assert_eq!(pop(&ring).unwrap(), "a b");
    }

    /// Writes a line while another is being formatted, as a softint does that interrupts a task's line.
    struct Interrupted<'a>(&'a Ring);

    impl fmt::Display for Interrupted<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.push(0, 0, format_args!("inner"));
            assert_eq!(pop(self.0), None, "the reader waits for the line in front");
            f.write_str("outer")
        }
    }

    #[test]
    fn a_writer_may_interrupt_another() {
        let ring = Ring::new();
        ring.push(0, 0, format_args!("{}", Interrupted(&ring)));
        assert_eq!(pop(&ring).unwrap(), "outer");
        assert_eq!(pop(&ring).unwrap(), "inner");
    }

    #[test]
    fn threads_lose_nothing_unnoticed_and_keep_their_own_order() {
        const WRITERS: usize = 4;
        const EACH: usize = 5_000;
        let ring = Ring::new();
        let done = AtomicBool::new(false);
        let (seen, lost) = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut seen, mut lost) = (vec![Vec::new(); WRITERS], 0);
                loop {
                    let last = done.load(Ordering::Acquire);
                    while let Some(text) = pop(&ring) {
                        let (writer, n) = text.split_once(':').unwrap();
                        seen[writer.parse::<usize>().unwrap()].push(n.parse::<usize>().unwrap());
                    }
                    lost += ring.take_lost() as usize;
                    if last {
                        return (seen, lost);
                    }
                }
            });
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let ring = &ring;
                    scope.spawn(move || (0..EACH).for_each(|n| ring.push(0, 0, format_args!("{writer}:{n}"))))
                })
                .collect();
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            done.store(true, Ordering::Release);
            reader.join().unwrap()
        });
        assert_eq!(seen.iter().map(Vec::len).sum::<usize>() + lost, WRITERS * EACH);
        for lines in seen {
            assert!(lines.is_sorted(), "a writer's lines changed order");
        }
    }
}
