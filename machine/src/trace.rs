//! The last events of every CPU. Off at first, and without rings until it is first switched on.
//!
//! Softints and tasks note, the interrupt stubs never; a task reads, or a CPU that panics. Off, a note is a load of a line
//! that nobody writes and a branch.

use crate::{clock, dispatch};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Once;
use weir_sync::sort::sort_by_key;
use weir_sync::trace::{Hex, Record, What};
use weir_sync::{CpuId, Event, MAX_CPUS, Trace};

/// Events kept of each CPU: 32 KiB.
pub const RECORDS: usize = 512;

/// Events in a fatal report, of the CPU that reports …
const LAST_WORDS: usize = 16;
/// … and of each other one.
const LAST_WORDS_OF_OTHERS: usize = 4;

/// `[A]` Written by a task, read by every CPU; no order needed.
static ON: AtomicBool = AtomicBool::new(false);
/// `[I]` by CPU, once they are there.
static RINGS: [Once<Box<Trace>>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];

/// Whether events are noted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Switch {
    /// All of them.
    On,
    /// None; what was noted stays.
    Off,
}

/// There is no memory for the rings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no memory for the trace")
    }
}

/// Starts or stops noting events. Task level: the first start makes a ring for each CPU there is.
///
/// # Errors
/// If there is no memory for all of them; then nothing is noted.
pub fn switch(to: Switch) -> Result<(), NoMemory> {
    if to == Switch::On {
        for ring in RINGS.iter().take(weir_sync::cpu::count()) {
            ring.try_call_once(|| Trace::new(RECORDS).map(Box::new).ok_or(NoMemory))?;
        }
    }
    ON.store(to == Switch::On, Ordering::Relaxed);
    Ok(())
}

/// Notes an event of this CPU. Softint and task context. Off, `words` is not evaluated.
#[inline(always)]
pub fn note(event: Event, words: impl FnOnce() -> [u64; 3]) {
    if ON.load(Ordering::Relaxed) {
        record(event, words());
    }
}

#[cold]
#[inline(never)]
fn record(event: Event, words: [u64; 3]) {
    if let Some(ring) = dispatch::here().and_then(ring) {
        ring.record(event, clock::tsc(), words);
    }
}

fn ring(cpu: CpuId) -> Option<&'static Trace> {
    RINGS.get(cpu.index())?.get().map(Box::as_ref)
}

fn rings() -> impl Iterator<Item = (CpuId, &'static Trace)> {
    (0..MAX_CPUS).filter_map(|number| CpuId::new(number).and_then(|cpu| Some((cpu, ring(cpu)?))))
}

/// What was noted on all CPUs, in the order of time. Task level.
pub fn records() -> Vec<Record> {
    let mut records: Vec<Record> = rings().flat_map(|(cpu, ring)| ring.records(cpu.index() as u32)).collect();
    sort_by_key(&mut records, |record| record.time);
    records
}

/// Events that could not be noted, for an interrupted writer had their place.
pub fn lost() -> u64 {
    rings().map(|(_, ring)| ring.lost()).sum()
}

/// The newest events of each CPU for a fatal report on `me`, whose own come last. Allocates and waits for nothing.
#[cfg_attr(not(any(feature = "image", test)), expect(dead_code, reason = "only the image reports"))]
pub(crate) fn last_words(me: CpuId, print: &mut dyn FnMut(Line)) {
    let (others, mine) = (rings().filter(|(cpu, _)| *cpu != me), rings().filter(|(cpu, _)| *cpu == me));
    let others = others.map(|ring| (ring, LAST_WORDS_OF_OTHERS));
    for ((cpu, ring), count) in others.chain(mine.map(|ring| (ring, LAST_WORDS))) {
        ring.last(cpu.index() as u32, count).for_each(|record| print(Line(&record)));
    }
}

/// A record on the console: raw for `lab trace`, then in words, with the seconds since entry.
/// `trace: c80100…  12.345678 cpu0 Softint: source 3 begins`
#[derive(Debug)]
pub struct Line<'a>(pub &'a Record);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line(record) = self;
        let ago = clock::tsc().saturating_sub(record.time);
        let ticks = u128::from(clock::since_entry().saturating_sub(ago));
        let us = ticks * 1_000_000 / u128::from(clock::tsc_hz().max(1));
        let (seconds, us) = (us / 1_000_000, us % 1_000_000);
        write!(f, "trace: {} {seconds:>5}.{us:06} cpu{} {}", Hex(record), record.cpu, What(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::{More, Softints, raise, run};
    use crate::task;
    use std::string::ToString;
    use std::sync::mpsc::channel;
    use std::time::Duration;
    use weir_sync::Softint;
    use weir_sync::cpu::claim_any;

    struct Quiet;

    impl Softints for Quiet {
        fn softint(&mut self, _: &Softint, _: u8) -> More {
            More::No
        }
    }

    /// One test, for the switch is everybody's.
    #[test]
    fn a_cpu_notes_what_it_does_while_it_is_switched_on() {
        note(Event::Broken, || panic!("evaluated"));
        let cpu = claim_any().unwrap();
        let id = cpu.id();
        let (report, result) = channel();
        std::thread::spawn(move || {
            run(cpu, Box::new(Quiet), move |_| {
                let task = async move {
                    switch(Switch::On).unwrap();
                    raise(id, 9);
                    task::yield_now().await;
                    task::sleep(Duration::from_millis(2)).await;
                    switch(Switch::Off).unwrap();
                    raise(id, 10);
                    report.send(()).unwrap();
                };
                task::spawn("traced", task).unwrap();
            })
        });
        result.recv_timeout(Duration::from_secs(10)).unwrap();
        let number = id.index() as u32;
        let mine: Vec<Record> = records().into_iter().filter(|record| record.cpu == number).collect();
        let find = |event: Event, word: u64| {
            let found = mine.iter().position(|r| r.event == event as u32 && r.words[0] == word);
            found.unwrap_or_else(|| panic!("no {event:?} {word} in {mine:?}"))
        };
        let order = [
            find(Event::Raise, 9),
            find(Event::Softint, 9),
            find(Event::SoftintEnd, 9),
            find(Event::Sleep, 0),
            find(Event::Softint, u64::from(crate::interrupt::TIMER)),
        ];
        assert!(order.is_sorted(), "{order:?} {mine:?}");
        assert!(mine.iter().all(|record| record.words[0] != 10 || record.event != Event::Raise as u32));
        let mut lines = Vec::new();
        last_words(id, &mut |line| lines.push(line.to_string()));
        let own: Vec<&String> = lines.iter().filter(|line| line.contains(&std::format!(" {id} "))).collect();
        assert_eq!(own.len(), mine.len().min(LAST_WORDS));
        let hex = own[own.len() - 1].split(' ').nth(1).unwrap();
        assert_eq!(Record::from_hex(hex).as_ref(), mine.last());
    }
}
