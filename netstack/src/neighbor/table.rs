//! The table: a hash from address to entry, a timer for each entry, and places for packets to wait.

use super::adjacency::{Adjacencies, Adjacency, NextHop, Places};
use super::{Admission, Discards, Due, Event, Evidence, Override, Solicit, State, Waiting};
use crate::address::{Address, Bits};
use crate::limit::Bucket;
use crate::snapshot::Interface;
use crate::time::Instant;
use crate::timers::{Timed, Timers};
use alloc::boxed::Box;
use alloc::vec;
use core::time::Duration;
use weir_netif::{Drop, IfIndex, Packet};
use weir_sync::wheel::Timer;

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
    /// Its place in `waiting` while `Incomplete`.
    waiting: u32,
    /// Where frames to it find their addresses, while that is so.
    adjacencies: Places,
    /// When its state ends.
    due: Instant,
    /// Set for then: each entry has one.
    timer: Option<Timer>,
}

impl<A> Entry<A> {
    /// Another CPU has asked for it, and nothing waits for it here.
    fn is_sought_elsewhere(&self) -> bool {
        self.state == State::Incomplete && self.waiting == NONE
    }
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
    adjacencies: Adjacencies<A>,
    /// Used as a ring: who comes when it is full takes the place of the oldest.
    waiting: Box<[Line]>,
    waiting_hand: usize,
    /// Where the search for an entry to evict goes on.
    evict_hand: usize,
    /// Names an entry of this table to the timers.
    timed: fn(u32) -> Timed,
    resolutions: Bucket,
    random: u64,
}

impl<A: Address> Table<A> {
    /// An empty table for `capacity` neighbours, of which a quarter may be unresolved. `seed` is secret: who could
    /// guess it could choose addresses that collide. `timed` names an entry to the timers.
    pub(crate) fn new(capacity: usize, seed: u64, timed: fn(u32) -> Timed) -> Self {
        let capacity = capacity.clamp(16, 1 << 20);
        let entry_numbers = (0..capacity as u32).rev();
        Self {
            seed,
            slots: vec![VACANT; (capacity * 2).next_power_of_two()].into(),
            entries: vec![None; capacity].into(),
            free: entry_numbers.collect(),
            free_len: capacity,
            adjacencies: Adjacencies::new(seed),
            waiting: core::iter::repeat_with(Line::default).take(capacity / 4).collect(),
            waiting_hand: 0,
            evict_hand: 0,
            timed,
            resolutions: Bucket::new(RESOLUTIONS.0, RESOLUTIONS.1),
            random: seed | 1,
        }
    }

    /// Neighbours it has room for: as many timers may be set.
    pub(crate) fn capacity(&self) -> usize {
        self.entries.len()
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

    /// What a frame gets that takes the routing table's next hop `hop` to `destination`. `None`: ask
    /// [`hop`](Self::hop).
    #[inline]
    pub(crate) fn adjacency(&self, hop: u32, destination: A) -> Option<&Adjacency<A>> {
        self.adjacencies.get(hop, destination)
    }

    /// Forgets all adjacencies: the routing table numbers its hops anew.
    pub(crate) fn renumber(&mut self) {
        self.adjacencies.clear();
    }

    /// The station to send a packet for `address` on `out` to, found as `next`. `None`: it has to [`wait`](Self::wait).
    /// The next packet that takes `next` finds an [`adjacency`](Self::adjacency).
    pub(crate) fn hop(
        &mut self,
        out: &Interface,
        address: A,
        next: NextHop,
        now: Instant,
        timers: &mut Timers,
    ) -> Option<[u8; 6]> {
        let (_, number) = self.find(out.index, address)?;
        match self.entry(number)?.state {
            State::Reachable | State::Delay | State::Probe => {}
            State::Incomplete => return None,
            State::Stale => self.enter(number, State::Delay, DELAY_FIRST_PROBE, now, timers),
        }
        let entry = self.entries.get_mut(number as usize)?.as_mut()?;
        self.adjacencies.put(next, address, (number, &mut entry.adjacencies), entry.mac, out);
        Some(entry.mac)
    }

    /// Keeps a packet for an unresolved neighbour until it answers.
    pub(crate) fn wait(
        &mut self,
        interface: IfIndex,
        address: A,
        packet: Packet,
        now: Instant,
        timers: &mut Timers,
    ) -> Admission {
        let mut admission = Admission { solicit: Solicit::No, discards: Discards::new() };
        let known = self.find(interface, address).map(|(_, number)| number);
        let place = match known {
            Some(number) if self.entry(number).is_some_and(Entry::is_sought_elsewhere) => {
                self.give_place(number, &mut admission, timers)
            }
            Some(number) => self.entry(number).map(|entry| entry.waiting),
            None => self.begin(interface, address, now, timers, &mut admission),
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
    pub(crate) fn learn(
        &mut self,
        event: &Event<A>,
        now: Instant,
        timers: &mut Timers,
    ) -> Option<([u8; 6], Waiting)> {
        let Event { interface, address, mac, evidence } = *event;
        let Some((_, number)) = self.find(interface, address) else {
            match (evidence, mac) {
                (Evidence::Asked, Some(mac)) => {
                    self.insert(interface, address, mac, (State::Stale, STALE), now, timers);
                }
                // What others ask for leaves half of the table to what is used here.
                (Evidence::Sought, _) if self.free_len > self.entries.len() / 2 => {
                    let begun = (State::Incomplete, RETRANSMIT);
                    self.insert(interface, address, [0; 6], begun, now, timers);
                }
                _ => {}
            }
            return None;
        };
        if evidence == Evidence::Sought {
            return None;
        }
        let reachable = self.reachable_time();
        let entry = self.entries.get_mut(number as usize)?.as_mut()?;
        if entry.state == State::Incomplete {
            // RFC 4861 §7.2.5: without a station address there is nothing to note.
            entry.mac = mac?;
            let (mac, place) = (entry.mac, entry.waiting);
            entry.waiting = NONE;
            match evidence {
                Evidence::Answered(_) => self.enter(number, State::Reachable, reachable, now, timers),
                // It would be stale, and is used at once (RFC 4861 §7.3.3).
                _ => self.enter(number, State::Delay, DELAY_FIRST_PROBE, now, timers),
            }
            let line = self.waiting.get_mut(place as usize)?;
            line.owner = 0;
            return Some((mac, core::mem::take(&mut line.packets)));
        }
        let differs = mac.is_some_and(|mac| mac != entry.mac);
        match evidence {
            Evidence::Answered(Override::No) | Evidence::Announced(Override::No) if differs => {
                if entry.state == State::Reachable {
                    self.enter(number, State::Stale, STALE, now, timers);
                }
            }
            // An answer that nobody asked for lately, with another address: believed, but to be verified.
            Evidence::Answered(_) if differs && entry.state == State::Reachable => {
                entry.mac = mac.unwrap_or(entry.mac);
                self.enter(number, State::Stale, STALE, now, timers);
            }
            Evidence::Answered(_) => {
                entry.mac = mac.unwrap_or(entry.mac);
                self.enter(number, State::Reachable, reachable, now, timers);
            }
            Evidence::Announced(_) | Evidence::Asked if differs => {
                entry.mac = mac.unwrap_or(entry.mac);
                self.enter(number, State::Stale, STALE, now, timers);
            }
            Evidence::Announced(_) | Evidence::Asked | Evidence::Sought => {}
        }
        None
    }

    /// What follows from the timer of entry `number`, which has just fired.
    pub(crate) fn expire(&mut self, number: u32, now: Instant, timers: &mut Timers) -> Option<Due<A>> {
        let entry = *self.entry(number)?;
        let Entry { interface, address, mac, state, probes, .. } = entry;
        match state {
            State::Reachable => {
                self.enter(number, State::Stale, STALE, now, timers);
                None
            }
            State::Stale => {
                drop(self.remove(number, timers));
                None
            }
            // Another CPU's question, that nobody here has an interest in.
            State::Incomplete if entry.is_sought_elsewhere() => {
                drop(self.remove(number, timers));
                None
            }
            State::Incomplete | State::Probe if probes >= MAX_SOLICIT => {
                let packets = self.remove(number, timers);
                Some(Due::Failed { packets })
            }
            State::Incomplete | State::Delay | State::Probe => {
                let asked = if state == State::Delay { 1 } else { probes + 1 };
                let next = if state == State::Incomplete { State::Incomplete } else { State::Probe };
                self.enter(number, next, RETRANSMIT, now, timers);
                if let Some(entry) = self.entry_mut(number) {
                    entry.probes = asked;
                }
                let to = (state != State::Incomplete).then_some(mac);
                Some(Due::Solicit { interface, address, to })
            }
        }
    }

    /// Forgets the neighbours on links that are `gone`; what waited for one goes to `lost`.
    pub(crate) fn forget(
        &mut self,
        timers: &mut Timers,
        gone: impl Fn(IfIndex) -> bool,
        mut lost: impl FnMut(Packet),
    ) {
        for number in 0..self.entries.len() as u32 {
            if self.entry(number).is_some_and(|entry| gone(entry.interface)) {
                self.remove(number, timers).into_iter().for_each(&mut lost);
            }
        }
    }

    /// An entry for a neighbour to ask for, if there is room; its place to wait.
    fn begin(
        &mut self,
        interface: IfIndex,
        address: A,
        now: Instant,
        timers: &mut Timers,
        out: &mut Admission,
    ) -> Option<u32> {
        if !self.resolutions.take(now) {
            return None;
        }
        let place = self.vacant_place(out, timers)?;
        let number = self.insert(interface, address, [0; 6], (State::Incomplete, RETRANSMIT), now, timers)?;
        self.entry_mut(number)?.probes = 1;
        out.solicit = Solicit::Now;
        self.seat(number, place)
    }

    /// A place for packets that wait for a neighbour another CPU has asked for.
    fn give_place(&mut self, number: u32, out: &mut Admission, timers: &mut Timers) -> Option<u32> {
        let place = self.vacant_place(out, timers)?;
        self.seat(number, place)
    }

    /// Clears the next place: given out in a circle, so who has this one waits the longest.
    fn vacant_place(&mut self, out: &mut Admission, timers: &mut Timers) -> Option<usize> {
        let place = self.waiting_hand;
        self.waiting_hand = (place + 1) % self.waiting.len().max(1);
        if let Some(owner) = self.waiting.get(place)?.owner.checked_sub(1) {
            let evicted = self.remove(owner, timers);
            out.discards.extend(evicted.into_iter().map(|packet| (packet, Drop::NeighborTableFull)));
        }
        Some(place)
    }

    fn seat(&mut self, number: u32, place: usize) -> Option<u32> {
        self.entry_mut(number)?.waiting = place as u32;
        self.waiting.get_mut(place)?.owner = number + 1;
        Some(place as u32)
    }

    /// Adds a neighbour that is not in the table; a stale one gives way if it is full.
    fn insert(
        &mut self,
        interface: IfIndex,
        address: A,
        mac: [u8; 6],
        (state, lasts): (State, Duration),
        now: Instant,
        timers: &mut Timers,
    ) -> Option<u32> {
        if self.free_len == 0 {
            self.evict(timers);
        }
        let number = *self.free.get(self.free_len.checked_sub(1)?)?;
        let hash = self.hash(interface, address);
        let mask = self.slots.len() - 1;
        let vacant = (0..self.slots.len())
            .map(|step| (hash as usize).wrapping_add(step) & mask)
            .find(|&at| self.slots.get(at).is_some_and(|slot| slot.entry == NONE))?;
        *self.slots.get_mut(vacant)? = Slot { tag: (hash >> 32) as u32, entry: number };
        let due = now + lasts;
        let timer = timers.set((self.timed)(number), due, now);
        *self.entries.get_mut(number as usize)? = Some(Entry {
            address,
            interface,
            mac,
            state,
            probes: 0,
            waiting: NONE,
            adjacencies: Places::default(),
            due,
            timer,
        });
        self.free_len -= 1;
        Some(number)
    }

    /// Makes room: of some entries looked at, the stale one that was unused the longest goes. Neighbours in use and
    /// those asked for stay, so neither a scan nor a flood of forged requests costs a working neighbour its entry.
    #[cold]
    fn evict(&mut self, timers: &mut Timers) {
        let len = self.entries.len();
        let first = self.evict_hand;
        self.evict_hand = (first + HAND_STEPS) % len.max(1);
        let looked_at = (first..first + HAND_STEPS).map(|n| n % len.max(1));
        let stale = looked_at.filter_map(|n| {
            let entry = self.entries.get(n)?.as_ref()?;
            (entry.state == State::Stale).then_some((entry.due, n as u32))
        });
        if let Some((_, oldest)) = stale.min() {
            drop(self.remove(oldest, timers));
        }
    }

    /// Takes an entry out; what waited for it.
    fn remove(&mut self, number: u32, timers: &mut Timers) -> Waiting {
        let Some(entry) = self.entry(number).copied() else { return Waiting::new() };
        timers.cancel(entry.timer);
        self.adjacencies.forget(entry.adjacencies, number);
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

    /// Changes an entry's state, for as long as that `lasts`. Whatever else changes, changes before: what frames find
    /// ready made is forgotten here.
    fn enter(&mut self, number: u32, state: State, lasts: Duration, now: Instant, timers: &mut Timers) {
        let what = (self.timed)(number);
        if let Some(entry) = self.entry_mut(number) {
            let adjacencies = core::mem::take(&mut entry.adjacencies);
            entry.state = state;
            entry.probes = 0;
            entry.due = now + lasts;
            timers.cancel(entry.timer);
            entry.timer = timers.set(what, entry.due, now);
            self.adjacencies.forget(adjacencies, number);
        }
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
