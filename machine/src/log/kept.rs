//! The last lines of the log, for whoever looks later. Written where lines are printed, read in tasks.

use super::Level;
use super::ring::Line;
use crate::mask;
use alloc::string::String;
use alloc::vec::Vec;
use spin::Mutex;
use weir_sync::CpuId;

/// Lines that are kept.
const LINES: usize = 128;

struct Last {
    /// Lines there were.
    count: u64,
    /// Line `n` is at `n` modulo [`LINES`].
    lines: [(usize, Line); LINES],
}

/// All zeroes, so that it costs no image space. Held for the copy of a line, softints masked; a CPU that panics only tries.
static LAST: Mutex<Last> = Mutex::new(Last { count: 0, lines: [(0, Line::new()); LINES] });

/// A line of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Lines are numbered from 0 on.
    pub number: u64,
    /// Nanoseconds since entry.
    pub at_ns: u64,
    /// The CPU that logged it.
    pub cpu: CpuId,
    /// How much it matters.
    pub level: Level,
    /// What it says.
    pub text: String,
}

/// Keeps a line, unless somebody is at it just now: printing is never held up.
pub(super) fn keep(cpu: CpuId, line: &Line) {
    let _masked = mask::mask();
    for _ in 0..1000 {
        if let Some(mut last) = LAST.try_lock() {
            let place = (last.count % LINES as u64) as usize;
            last.lines[place] = (cpu.index(), *line);
            last.count += 1;
            return;
        }
        core::hint::spin_loop();
    }
}

/// The lines that are kept from number `from` on, the oldest first. Task level.
pub fn kept(from: u64) -> Vec<Kept> {
    let mut all = Vec::with_capacity(LINES);
    let mut number = from;
    loop {
        let found = {
            let _masked = mask::mask();
            let last = LAST.lock();
            number = number.max(last.count.saturating_sub(LINES as u64));
            if number >= last.count {
                return all;
            }
            last.lines[(number % LINES as u64) as usize]
        };
        let (cpu, line) = found;
        if let Some(cpu) = CpuId::new(cpu) {
            let mut text = String::from(line.text());
            if line.is_cut() {
                text.push('…');
            }
            all.push(Kept { number, at_ns: line.time(), cpu, level: Level::from_number(line.level()), text });
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_in_order_with_their_numbers() {
        let mut line = Line::default();
        for number in 0..LINES as u64 + 5 {
            line.fill(number, Level::Warn as u8, format_args!("kept {number}"));
            keep(CpuId::BOOT, &line);
        }
        let all = kept(0);
        // Other tests log too.
        assert_eq!(all.len(), LINES);
        assert!(all.windows(2).all(|pair| pair[0].number + 1 == pair[1].number));
        let last = all.iter().rev().find(|line| line.text.starts_with("kept ")).unwrap();
        assert_eq!((last.level, last.cpu), (Level::Warn, CpuId::BOOT));
        assert!(kept(all[LINES - 1].number).len() <= 2 && kept(u64::MAX).is_empty());
    }
}
