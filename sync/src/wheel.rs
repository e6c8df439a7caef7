//! A CPU's timers: a hierarchy of wheels, 64 slots each, over the whole range of 64-bit ticks.
//!
//! Setting and cancelling touch a handful of links; a timer moves down at most [`LEVELS`] − 1 times before it fires.
//! Everything is allocated by [`Wheel::new`]. `[C]`: no other CPU sees it, so nothing here is atomic.

use crate::cpu::More;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Bits of a tick that one level decides.
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
/// Wheels: 64 bits of 6 each.
pub const LEVELS: usize = 64_usize.div_ceil(BITS as usize);
/// No timer.
const END: u32 = u32::MAX;

/// Timers that carry a `T` each.
#[derive(Debug)]
pub struct Wheel<T> {
    /// What is set fires when this has passed its tick. Only moves on.
    now: u64,
    levels: [Level; LEVELS],
    /// The slot of a level above 0 whose time has come, until its timers have all moved down: before any other.
    opened: Option<(u8, u8)>,
    entries: Box<[Entry<T>]>,
    /// First of the free entries, linked by `next`.
    free: u32,
    len: usize,
}

/// A timer at tick *t* is on the level of the highest bit in which *t* and `now` differ, in the slot that *t* has there.
/// So the slots of a level that are in use lie behind `now`'s, and a lower level's come before a higher one's.
#[derive(Debug)]
struct Level {
    /// Bit *n*: slot *n* is not empty.
    used: u64,
    /// First timer of each slot.
    slots: [u32; SLOTS],
}

#[derive(Debug)]
struct Entry<T> {
    at: u64,
    next: u32,
    /// The one before in the slot; the first's is [`END`].
    previous: u32,
    /// Counts the entry's uses: tells a cancelled or fired timer's handle from its successor's.
    generation: u32,
    /// The level and slot it is in.
    place: (u8, u8),
    /// None: free.
    value: Option<T>,
}

/// A timer that was set. It may have fired since.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Timer {
    entry: u32,
    generation: u32,
}

impl<T> Wheel<T> {
    /// Room for `capacity` timers (less than 2³²), none set, at tick `now`.
    pub fn new(capacity: usize, now: u64) -> Self {
        let capacity = capacity.min(END as usize) as u32;
        let entries: Vec<_> = (0..capacity)
            .map(|n| Entry {
                at: 0,
                next: if n + 1 < capacity { n + 1 } else { END },
                previous: END,
                generation: 0,
                place: (0, 0),
                value: None,
            })
            .collect();
        Self {
            now,
            levels: [const { Level { used: 0, slots: [END; SLOTS] } }; LEVELS],
            opened: None,
            entries: entries.into(),
            free: if capacity == 0 { END } else { 0 },
            len: 0,
        }
    }

    /// How many timers are set.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets a timer for tick `at`; one in the past fires at the next [`advance`](Self::advance). The value comes back if
    /// all timers are in use.
    pub fn insert(&mut self, at: u64, value: T) -> Result<Timer, T> {
        let index = self.free;
        let Some(entry) = self.entries.get_mut(index as usize) else { return Err(value) };
        self.free = entry.next;
        entry.at = at.max(self.now);
        entry.value = Some(value);
        let timer = Timer { entry: index, generation: entry.generation };
        self.len += 1;
        self.link(index);
        Ok(timer)
    }

    /// Takes a timer back before it fires. `None` if it has fired or was cancelled.
    pub fn cancel(&mut self, timer: Timer) -> Option<T> {
        let entry = self.entries.get(timer.entry as usize)?;
        if entry.generation != timer.generation || entry.value.is_none() {
            return None;
        }
        self.unlink(timer.entry);
        self.release(timer.entry)
    }

    /// Nothing fires before this tick; `None` with no timer set. Exact for timers less than 64 ticks ahead, else the tick
    /// at which some must be looked at.
    pub fn next(&self) -> Option<u64> {
        self.first().map(|(_, _, at)| at)
    }

    /// Goes on to tick `now`, hands the values of timers that are due to `fire`, in the order of their ticks. Touches at
    /// most `limit` timers; [`More::Yes`] says that the rest waits for another call.
    pub fn advance(&mut self, now: u64, limit: usize, mut fire: impl FnMut(T)) -> More {
        for _ in 0..limit {
            let Some((level, slot, at)) = self.first().filter(|(_, _, at)| *at <= now) else {
                self.now = self.now.max(now);
                return More::No;
            };
            self.now = at;
            self.opened = (level > 0).then_some((level as u8, slot as u8));
            let index = self.levels[level].slots[slot];
            self.unlink(index);
            if self.entries[index as usize].at > at {
                self.link(index);
            } else if let Some(value) = self.release(index) {
                fire(value);
            }
        }
        match self.next() {
            Some(at) if at <= now => More::Yes,
            _ => {
                self.now = self.now.max(now);
                More::No
            }
        }
    }

    /// The slot to look at first, and from which tick on.
    fn first(&self) -> Option<(usize, usize, u64)> {
        if let Some((level, slot)) = self.opened {
            return Some((level.into(), slot.into(), self.now));
        }
        let (number, level) = self.levels.iter().enumerate().find(|(_, level)| level.used != 0)?;
        let slot = level.used.trailing_zeros();
        let shift = BITS * number as u32;
        // The bits above this level's are `now`'s, those below are zero.
        let above = self.now.checked_shr(shift + BITS).map_or(0, |high| high << (shift + BITS));
        // A slot of level 0 may be the current one: its timers are due.
        Some((number, slot as usize, (above | u64::from(slot) << shift).max(self.now)))
    }

    fn link(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        let level = (63 - ((entry.at ^ self.now) | 1).leading_zeros()) / BITS;
        let slot = (entry.at >> (level * BITS)) as usize % SLOTS;
        let Level { used, slots } = &mut self.levels[level as usize];
        let first = core::mem::replace(&mut slots[slot], index);
        *used |= 1 << slot;
        (entry.next, entry.previous, entry.place) = (first, END, (level as u8, slot as u8));
        if let Some(first) = self.entries.get_mut(first as usize) {
            first.previous = index;
        }
    }

    fn unlink(&mut self, index: u32) {
        let Entry { next, previous, place: (level, slot), .. } = self.entries[index as usize];
        if let Some(next) = self.entries.get_mut(next as usize) {
            next.previous = previous;
        }
        match self.entries.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => {
                let Level { used, slots } = &mut self.levels[usize::from(level)];
                slots[usize::from(slot)] = next;
                if next == END {
                    *used &= !(1 << slot);
                    self.opened = self.opened.filter(|opened| *opened != (level, slot));
                }
            }
        }
    }

    /// Frees an unlinked entry.
    fn release(&mut self, index: u32) -> Option<T> {
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = core::mem::replace(&mut self.free, index);
        self.len -= 1;
        entry.value.take()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    fn fired(wheel: &mut Wheel<u64>, now: u64) -> Vec<u64> {
        let mut fired = Vec::new();
        while wheel.advance(now, 1, |value| fired.push(value)) == More::Yes {}
        fired
    }

    #[test]
    fn fires_at_its_tick_and_not_before() {
        for at in [1, 63, 64, 65, 4095, 4096, 1 << 36, u64::MAX - 1, u64::MAX] {
            let mut wheel = Wheel::new(1, 0);
            wheel.insert(at, at).unwrap();
            assert_eq!(fired(&mut wheel, at - 1), [], "{at}");
            assert_eq!(fired(&mut wheel, at), [at]);
            assert_eq!((wheel.next(), wheel.len()), (None, 0));
        }
    }

    #[test]
    fn a_timer_in_the_past_fires_at_once() {
        let mut wheel = Wheel::new(1, 1000);
        wheel.insert(3, 3).unwrap();
        assert_eq!(wheel.next(), Some(1000));
        assert_eq!(fired(&mut wheel, 1000), [3]);
    }

    #[test]
    fn a_handle_dies_with_its_timer() {
        let mut wheel = Wheel::new(1, 0);
        let first = wheel.insert(5, 1).unwrap();
        assert_eq!(wheel.insert(6, 2), Err(2));
        assert_eq!(wheel.cancel(first), Some(1));
        let second = wheel.insert(7, 3).unwrap();
        assert_eq!(wheel.cancel(first), None);
        assert_eq!(fired(&mut wheel, 10), [3]);
        assert_eq!(wheel.cancel(second), None);
        assert!(Wheel::new(0, 0).insert(1, 1).is_err());
    }

    #[test]
    fn work_is_bounded_by_the_limit() {
        let mut wheel = Wheel::new(1000, 0);
        assert!((0..1000).all(|n| wheel.insert(5000, n).is_ok()));
        let mut calls = 0;
        let mut count = 0;
        while wheel.advance(6000, 10, |_| count += 1) == More::Yes {
            calls += 1;
            assert!(count <= calls * 10);
        }
        assert_eq!(count, 1000);
        // Each timer moves from level 2 to 1, to 0, and fires.
        assert!(calls <= 300, "{calls} calls of ten");
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u64),
        Cancel(usize),
        Advance(u64),
    }

    /// Distances on every level, near its borders most of all.
    fn ticks() -> impl Strategy<Value = u64> {
        (0..40_u32, 0..130_u64, any::<bool>())
            .prop_map(|(shift, n, less)| (n << shift).saturating_sub(less.into()))
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => ticks().prop_map(Op::Insert),
            2 => (0..64_usize).prop_map(Op::Cancel),
            3 => ticks().prop_map(Op::Advance),
        ]
    }

    proptest! {
        #[test]
        fn does_what_a_sorted_map_does(
            start in prop_oneof![Just(0), any::<u64>(), Just(u64::MAX - 5000)],
            limit in 1..5_usize,
            ops in prop::collection::vec(op(), 0..120),
        ) {
            let mut wheel = Wheel::new(48, start);
            let (mut now, mut like, mut handles) = (start, BTreeMap::new(), Vec::new());
            for (n, op) in ops.into_iter().enumerate() {
                match op {
                    Op::Insert(ticks) => {
                        let at = now.saturating_add(ticks);
                        match wheel.insert(at, (at, n)) {
                            Ok(timer) => {
                                like.insert((at, n), timer);
                                handles.push(((at, n), timer));
                            }
                            Err(_) => prop_assert_eq!(like.len(), 48),
                        }
                    }
                    Op::Cancel(which) => {
                        if let Some(&(key, timer)) = handles.get(which) {
                            prop_assert_eq!(wheel.cancel(timer), like.remove(&key).map(|_| key));
                        }
                    }
                    Op::Advance(ticks) => {
                        now = now.saturating_add(ticks);
                        let mut got = Vec::new();
                        while wheel.advance(now, limit, |key| got.push(key)) == More::Yes {}
                        prop_assert!(got.is_sorted_by_key(|(at, _)| *at));
                        got.sort();
                        let due: Vec<_> = like.keys().copied().filter(|(at, _)| *at <= now).collect();
                        prop_assert_eq!(&got, &due);
                        like.retain(|(at, _), _| *at > now);
                    }
                }
                prop_assert_eq!(wheel.len(), like.len());
                let first = like.keys().next().map(|(at, _)| *at);
                prop_assert_eq!(wheel.next().is_some(), first.is_some());
                prop_assert!(wheel.next() <= first);
                if let Some(first) = first && first < now.saturating_add(64) && (first ^ now) < 64 {
                    prop_assert_eq!(wheel.next(), Some(first), "exact when near");
                }
            }
        }
    }
}
