//! The table: a hash from address to entry, timer lists of entries, and places for packets to wait.

use super::{Admission, Discards, Due, Event, Evidence, Override, Solicit, State, Waiting};
use crate::address::{Address, Bits};
use crate::limit::Bucket;
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::vec;
use core::time::Duration;
use weir_netif::{Drop, IfIndex, Packet};

/// RETRANS_TIMER (RFC 4861 §10).
const RETRANSMIT: Duration = Duration::from_secs(1);
/// MAX_MULTICAST_SOLICIT and MAX_UNICAST_SOLICIT.
const MAX_SOLICIT: u8 = 3;
/// DELAY_FIRST_PROBE_TIME.
const DELAY_FIRST_PROBE: Duration = Duration::from_secs(5);
/// REACHABLE_TIME, of which 0.5 to 1.5 are taken (RFC 4861 §6.3.2).
const REACHABLE_NANOS: u64 = 30_000_000_000;
/// How long an entry that nobody uses is kept.
const STALE: Duration = Duration::from_secs(600);
/// New resolutions a second, and at once: what a scan of a network can make the router broadcast (RFC 6583 §6.2).
const RESOLUTIONS: (u32, u32) = (2000, 1000);

/// Slots of the timer wheel, each 2^28 ns (268 ms) wide. Later deadlines stay in their slot for another round.
const WHEEL: usize = 64;
const GRANULE: u32 = 28;
/// The list of entries that are due, beside the wheel's.
const DUE: usize = WHEEL;
/// Entries looked at for one that may be evicted.
const HAND_STEPS: usize = 32;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry<A> {
    address: A,
    interface: IfIndex,
    mac: [u8; 6],
    state: State,
    /// Solicitations sent in this state.
    probes: u8,
    /// List it is on: a slot of the wheel, or `DUE`.
    list: u8,
    /// Its place in `waiting` while `Incomplete`.
    waiting: u32,
    due: Instant,
    previous: u32,
    next: u32,
}

/// A place where packets wait.
#[derive(Debug, Default)]
struct Line {
    /// Entry it belongs to, plus one; 0 if free.
    owner: u32,
    packets: Waiting,
}

/// A place in the hash table.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Upper half of the key's hash.
    tag: u32,
    entry: u32,
}

const VACANT: Slot = Slot { tag: 0, entry: NONE };

/// The neighbours of one family as one CPU knows them.
#[derive(Debug)]
pub struct Table<A> {
    seed: u64,
    /// Linear probing, at most half full, a power of two long.
    slots: Box<[Slot]>,
    entries: Box<[Option<Entry<A>>]>,
    /// Entries not in use.
    free: Box<[u32]>,
    free_len: usize,
    /// Used as a ring: who comes when it is full takes the place of the oldest.
    waiting: Box<[Line]>,
    waiting_hand: usize,
    /// Where the search for an entry to evict goes on.
    evict_hand: usize,
    /// Heads of the timer lists.
    lists: [u32; WHEEL + 1],
    /// Granule up to which the wheel was looked at.
    turned: u64,
    /// Nothing is due before.
    deadline: Instant,
    resolutions: Bucket,
    random: u64,
}

impl<A: Address> Table<A> {
    /// An empty table for `capacity` neighbours, of which a quarter may be unresolved. `seed` is secret: who could
    /// guess it could choose addresses that collide.
    pub fn new(capacity: usize, seed: u64) -> Self {
        let capacity = capacity.clamp(16, 1 << 20);
        let entry_numbers = (0..capacity as u32).rev();
        Self {
            seed,
            slots: vec![VACANT; (capacity * 2).next_power_of_two()].into(),
            entries: vec![None; capacity].into(),
            free: entry_numbers.collect(),
            free_len: capacity,
            waiting: core::iter::repeat_with(Line::default).take(capacity / 4).collect(),
            waiting_hand: 0,
            evict_hand: 0,
            lists: [NONE; WHEEL + 1],
            turned: 0,
            deadline: Instant::FAR_FUTURE,
            resolutions: Bucket::new(RESOLUTIONS.0, RESOLUTIONS.1),
            random: seed | 1,
        }
    }

    /// Neighbours known or asked for.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free_len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Packets that wait.
    pub fn queued(&self) -> usize {
        self.waiting.iter().map(|line| line.packets.len()).sum()
    }

    /// State and station address of a neighbour; the address means nothing while `Incomplete`.
    pub fn get(&self, interface: IfIndex, address: A) -> Option<(State, [u8; 6])> {
        let (_, number) = self.find(interface, address)?;
        self.entry(number).map(|entry| (entry.state, entry.mac))
    }

    /// All neighbours, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (IfIndex, A, State, [u8; 6])> {
        self.entries.iter().flatten().map(|e| (e.interface, e.address, e.state, e.mac))
    }

    /// The station to send a packet for `address` to. `None`: it has to [`wait`](Self::wait).
    #[inline]
    pub fn hop(&mut self, interface: IfIndex, address: A, now: Instant) -> Option<[u8; 6]> {
        let (_, number) = self.find(interface, address)?;
        let entry = self.entry(number)?;
        match entry.state {
            State::Reachable | State::Delay | State::Probe => Some(entry.mac),
            State::Incomplete => None,
            State::Stale => {
                let mac = entry.mac;
                self.enter(number, State::Delay, now + DELAY_FIRST_PROBE);
                Some(mac)
            }
        }
    }

    /// Keeps a packet for an unresolved neighbour until it answers.
    pub fn wait(&mut self, interface: IfIndex, address: A, packet: Packet, now: Instant) -> Admission {
        let mut admission = Admission { solicit: Solicit::No, discards: Discards::new() };
        let known = self.find(interface, address).map(|(_, number)| number);
        let place = match known {
            Some(number) => self.entry(number).map(|entry| entry.waiting),
            None => self.begin(interface, address, now, &mut admission),
        };
        let line = place.and_then(|place| self.waiting.get_mut(place as usize));
        match line {
            Some(line) => {
                if line.packets.is_full() {
                    let oldest = line.packets.pop_at(0);
                    admission.discards.extend(oldest.map(|oldest| (oldest, Drop::NeighborQueueFull)));
                }
                line.packets.extend([packet]);
            }
            None => admission.discards.extend([(packet, Drop::NeighborTableFull)]),
        }
        admission
    }

    /// Takes note of what a neighbour said. Returns the packets that can go to it now, with its station address.
    pub fn learn(&mut self, event: &Event<A>, now: Instant) -> Option<([u8; 6], Waiting)> {
        let Event { interface, address, mac, evidence } = *event;
        let Some((_, number)) = self.find(interface, address) else {
            if let (Evidence::Asked, Some(mac)) = (evidence, mac) {
                self.insert(interface, address, mac, State::Stale, now + STALE);
            }
            return None;
        };
        let reachable = now + self.reachable_time();
        let entry = self.entries.get_mut(number as usize)?.as_mut()?;
        if entry.state == State::Incomplete {
            // RFC 4861 §7.2.5: without a station address there is nothing to note.
            entry.mac = mac?;
            let (mac, place) = (entry.mac, entry.waiting);
            entry.waiting = NONE;
            match evidence {
                Evidence::Answered(_) => self.enter(number, State::Reachable, reachable),
                // It would be stale, and is used at once (RFC 4861 §7.3.3).
                _ => self.enter(number, State::Delay, now + DELAY_FIRST_PROBE),
            }
            let line = self.waiting.get_mut(place as usize)?;
            line.owner = 0;
            return Some((mac, core::mem::take(&mut line.packets)));
        }
        let differs = mac.is_some_and(|mac| mac != entry.mac);
        match evidence {
            Evidence::Answered(Override::No) | Evidence::Announced(Override::No) if differs => {
                if entry.state == State::Reachable {
                    self.enter(number, State::Stale, now + STALE);
                }
            }
            // An answer that nobody asked for lately, with another address: believed, but to be verified.
            Evidence::Answered(_) if differs && entry.state == State::Reachable => {
                entry.mac = mac.unwrap_or(entry.mac);
                self.enter(number, State::Stale, now + STALE);
            }
            Evidence::Answered(_) => {
                entry.mac = mac.unwrap_or(entry.mac);
                self.enter(number, State::Reachable, reachable);
            }
            Evidence::Announced(_) | Evidence::Asked if differs => {
                entry.mac = mac.unwrap_or(entry.mac);
                self.enter(number, State::Stale, now + STALE);
            }
            Evidence::Announced(_) | Evidence::Asked => {}
        }
        None
    }

    /// The next thing that is due at `now`; to be called until there is nothing.
    pub fn due(&mut self, now: Instant) -> Option<Due<A>> {
        self.turn(now);
        // Bounded by the entries that were on the list: each leaves it.
        while let Some(number) = self.lists.get(DUE).copied().filter(|&head| head != NONE) {
            let entry = *self.entry(number)?;
            let Entry { interface, address, mac, state, probes, .. } = entry;
            match state {
                State::Reachable => self.enter(number, State::Stale, now + STALE),
                State::Stale => drop(self.remove(number)),
                State::Incomplete | State::Probe if probes >= MAX_SOLICIT => {
                    let packets = self.remove(number);
                    return Some(Due::Failed { interface, address, packets });
                }
                State::Incomplete | State::Delay | State::Probe => {
                    let asked = if state == State::Delay { 1 } else { probes + 1 };
                    let next = if state == State::Incomplete { State::Incomplete } else { State::Probe };
                    self.enter(number, next, now + RETRANSMIT);
                    if let Some(entry) = self.entry_mut(number) {
                        entry.probes = asked;
                    }
                    let to = (state != State::Incomplete).then_some(mac);
                    return Some(Due::Solicit { interface, address, to });
                }
            }
        }
        self.deadline = self.next_turn(now);
        None
    }

    /// When [`due`](Self::due) should be asked again; for distant deadlines it may be early.
    #[inline]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Forgets the neighbours on links that are `gone`; what waited for one goes to `lost`.
    pub fn forget(&mut self, gone: impl Fn(IfIndex) -> bool, mut lost: impl FnMut(Packet)) {
        for number in 0..self.entries.len() as u32 {
            if self.entry(number).is_some_and(|entry| gone(entry.interface)) {
                self.remove(number).into_iter().for_each(&mut lost);
            }
        }
    }

    /// An entry for a neighbour to ask for, if there is room; its place to wait.
    fn begin(&mut self, interface: IfIndex, address: A, now: Instant, out: &mut Admission) -> Option<u32> {
        if !self.resolutions.take(now) {
            return None;
        }
        let place = self.waiting_hand;
        self.waiting_hand = (place + 1) % self.waiting.len().max(1);
        // Places are given out in a circle, so who has this one waits the longest.
        if let Some(owner) = self.waiting.get(place)?.owner.checked_sub(1) {
            let evicted = self.remove(owner);
            out.discards.extend(evicted.into_iter().map(|packet| (packet, Drop::NeighborTableFull)));
        }
        let number = self.insert(interface, address, [0; 6], State::Incomplete, now + RETRANSMIT)?;
        let entry = self.entry_mut(number)?;
        entry.waiting = place as u32;
        entry.probes = 1;
        self.waiting.get_mut(place)?.owner = number + 1;
        out.solicit = Solicit::Now;
        Some(place as u32)
    }

    /// Adds a neighbour that is not in the table; a stale one gives way if it is full.
    fn insert(
        &mut self,
        interface: IfIndex,
        address: A,
        mac: [u8; 6],
        state: State,
        due: Instant,
    ) -> Option<u32> {
        if self.free_len == 0 {
            self.evict();
        }
        let number = *self.free.get(self.free_len.checked_sub(1)?)?;
        let hash = self.hash(interface, address);
        let mask = self.slots.len() - 1;
        let vacant = (0..self.slots.len())
            .map(|step| (hash as usize).wrapping_add(step) & mask)
            .find(|&at| self.slots.get(at).is_some_and(|slot| slot.entry == NONE))?;
        *self.slots.get_mut(vacant)? = Slot { tag: (hash >> 32) as u32, entry: number };
        *self.entries.get_mut(number as usize)? = Some(Entry {
            address,
            interface,
            mac,
            state,
            probes: 0,
            list: DUE as u8,
            waiting: NONE,
            due,
            previous: NONE,
            next: NONE,
        });
        self.free_len -= 1;
        self.link(number, due);
        Some(number)
    }

    /// Makes room: of some entries looked at, the stale one that was unused the longest goes. Neighbours in use and
    /// those asked for stay, so neither a scan nor a flood of forged requests costs a working neighbour its entry.
    #[cold]
    fn evict(&mut self) {
        let len = self.entries.len();
        let first = self.evict_hand;
        self.evict_hand = (first + HAND_STEPS) % len.max(1);
        let looked_at = (first..first + HAND_STEPS).map(|n| n % len.max(1));
        let stale = looked_at.filter_map(|n| {
            let entry = self.entries.get(n)?.as_ref()?;
            (entry.state == State::Stale).then_some((entry.due, n as u32))
        });
        if let Some((_, oldest)) = stale.min() {
            drop(self.remove(oldest));
        }
    }

    /// Takes an entry out; what waited for it.
    fn remove(&mut self, number: u32) -> Waiting {
        let Some(entry) = self.entry(number).copied() else { return Waiting::new() };
        self.unlink(number);
        if let Some((at, _)) = self.find(entry.interface, entry.address) {
            self.vacate(at);
        }
        if let Some(place) = self.entries.get_mut(number as usize) {
            *place = None;
        }
        if let Some(place) = self.free.get_mut(self.free_len) {
            *place = number;
            self.free_len += 1;
        }
        match self.waiting.get_mut(entry.waiting as usize) {
            Some(line) => {
                line.owner = 0;
                core::mem::take(&mut line.packets)
            }
            None => Waiting::new(),
        }
    }

    /// Empties a slot and moves those behind it up, so that probing needs no tombstones (Knuth, vol. 3, 6.4 R).
    fn vacate(&mut self, at: usize) {
        let mask = self.slots.len() - 1;
        let mut hole = at;
        for step in 1..self.slots.len() {
            let here = (at + step) & mask;
            let Some(&slot) = self.slots.get(here) else { break };
            let Some(entry) = self.entry(slot.entry) else { break };
            let home = self.hash(entry.interface, entry.address) as usize & mask;
            // It may move into the hole unless its home lies between the hole and here.
            if here.wrapping_sub(home) & mask >= here.wrapping_sub(hole) & mask {
                if let Some(place) = self.slots.get_mut(hole) {
                    *place = slot;
                }
                hole = here;
            }
        }
        if let Some(place) = self.slots.get_mut(hole) {
            *place = VACANT;
        }
    }

    #[inline]
    fn find(&self, interface: IfIndex, address: A) -> Option<(usize, u32)> {
        let hash = self.hash(interface, address);
        let (mask, tag) = (self.slots.len() - 1, (hash >> 32) as u32);
        for step in 0..self.slots.len() {
            let at = (hash as usize).wrapping_add(step) & mask;
            let slot = self.slots.get(at)?;
            if slot.entry == NONE {
                return None;
            }
            if slot.tag == tag
                && let Some(entry) = self.entry(slot.entry)
                && entry.address == address
                && entry.interface == interface
            {
                return Some((at, slot.entry));
            }
        }
        None
    }

    #[inline]
    fn hash(&self, interface: IfIndex, address: A) -> u64 {
        address.bits().hash(self.seed ^ u64::from(interface.0) << 40)
    }

    #[inline]
    fn entry(&self, number: u32) -> Option<&Entry<A>> {
        self.entries.get(number as usize)?.as_ref()
    }

    fn entry_mut(&mut self, number: u32) -> Option<&mut Entry<A>> {
        self.entries.get_mut(number as usize)?.as_mut()
    }

    /// Changes an entry's state and deadline.
    fn enter(&mut self, number: u32, state: State, due: Instant) {
        self.unlink(number);
        if let Some(entry) = self.entry_mut(number) {
            entry.state = state;
            entry.probes = 0;
        }
        self.link(number, due);
    }

    fn link(&mut self, number: u32, due: Instant) {
        let granule = due.as_nanos() >> GRANULE;
        self.push(granule as usize % WHEEL, number);
        self.deadline = self.deadline.min(end_of(granule));
        if let Some(entry) = self.entry_mut(number) {
            entry.due = due;
        }
    }

    fn push(&mut self, list: usize, number: u32) {
        let head = self.lists.get(list).copied().unwrap_or(NONE);
        if let Some(entry) = self.entry_mut(number) {
            entry.list = list as u8;
            entry.previous = NONE;
            entry.next = head;
        }
        if let Some(first) = self.entry_mut(head) {
            first.previous = number;
        }
        if let Some(place) = self.lists.get_mut(list) {
            *place = number;
        }
    }

    fn unlink(&mut self, number: u32) {
        let Some(&Entry { list, previous, next, .. }) = self.entry(number) else { return };
        match self.entry_mut(previous) {
            Some(before) => before.next = next,
            None => {
                if let Some(head) = self.lists.get_mut(usize::from(list)) {
                    *head = next;
                }
            }
        }
        if let Some(after) = self.entry_mut(next) {
            after.previous = previous;
        }
    }

    /// Moves what is due at `now` from the wheel to the due list.
    fn turn(&mut self, now: Instant) {
        let granule = now.as_nanos() >> GRANULE;
        // The last one again: it may not have been over.
        let first = self.turned.max(granule.saturating_sub(WHEEL as u64 - 1));
        for list in (first..=granule).map(|granule| granule as usize % WHEEL) {
            let mut at = self.lists.get(list).copied().unwrap_or(NONE);
            while let Some(&Entry { due, next, .. }) = self.entry(at) {
                if due <= now {
                    self.unlink(at);
                    self.push(DUE, at);
                }
                at = next;
            }
        }
        self.turned = granule;
    }

    /// The end of the first granule from `now` on whose slot is in use: by then what is in it is due, or will be in a
    /// later round.
    fn next_turn(&self, now: Instant) -> Instant {
        let first = now.as_nanos() >> GRANULE;
        let in_use =
            |granule: &u64| self.lists.get(*granule as usize % WHEEL).is_some_and(|&head| head != NONE);
        (first..first + WHEEL as u64).find(in_use).map_or(Instant::FAR_FUTURE, end_of)
    }

    /// Uniform between 0.5 and 1.5 of the base (RFC 4861 §6.3.2), so that entries do not all expire together.
    fn reachable_time(&mut self) -> Duration {
        // Marsaglia's xorshift64.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        Duration::from_nanos(REACHABLE_NANOS / 2 + self.random % REACHABLE_NANOS)
    }
}

fn end_of(granule: u64) -> Instant {
    Instant::from_nanos((granule + 1) << GRANULE)
}
