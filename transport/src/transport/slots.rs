//! The connections of a CPU by number, and which of them is to be attended to first. Nothing that packets do here takes longer the
//! more connections there are, but by a logarithm; to make room for another looks through them.

use crate::connection::Connection;
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::net::SocketAddr;

/// One peer may have one of this many parts of the slots while others want one.
const PARTS: usize = 4;

/// A connection by slot and generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Id {
    pub(super) slot: usize,
    generation: u32,
}

impl Id {
    /// No connection's.
    pub(crate) const NOBODY: Self = Self { slot: usize::MAX, generation: 0 };
}

/// Whose a connection is where slots are shared out: an IPv4 address, or the /64 that an IPv6 host takes its addresses from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(super) struct Peer(u128);

impl From<&SocketAddr> for Peer {
    fn from(remote: &SocketAddr) -> Self {
        match remote {
            SocketAddr::V4(remote) => Self(remote.ip().to_ipv6_mapped().to_bits()),
            SocketAddr::V6(remote) => Self(remote.ip().to_bits() >> 64 << 64 | u128::from(remote.scope_id())),
        }
    }
}

/// Room for one connection.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) connection: Option<Box<Connection>>,
    peer: Peer,
    /// Another one for each connection.
    generation: u32,
    /// When it is to be attended to at the latest; `u64::MAX`: not of itself.
    due_ns: u64,
    /// Under which time it stands in [`Slots::due`], not later than it is due; `u64::MAX`: nowhere.
    noted_ns: u64,
    /// It is to be attended to now, and stands in [`Slots::ready`], or for the next turn in one of the two lists below that.
    ready: bool,
    /// When a connection that is parked, or that nobody has any more, is cut off; `u64::MAX`: it is in use, or there is none.
    pub(super) until_ns: u64,
    /// A stream has it, or a listener.
    pub(super) owned: bool,
    /// The listener that it is parked at: a port.
    pub(super) parked: Option<u16>,
}

/// All of them.
pub(super) struct Slots {
    slots: Vec<Slot>,
    /// Those without a connection.
    free: Vec<usize>,
    /// Those that something has happened to, in that order.
    ready: VecDeque<usize>,
    /// Those that found no room at all: the first of the next turn, whatever happens to others until then.
    starved: Vec<usize>,
    /// Those that had more to say: behind these.
    unfinished: Vec<usize>,
    /// Those that are due some time, the earliest first. Who is put off stays where it stands until that time comes: an
    /// acknowledgement that comes in time puts off what would be sent without it, and most do.
    due: BTreeSet<(u64, usize)>,
    /// How many each peer has, by peer.
    peers: Vec<(Peer, usize)>,
    /// Of all connections' buffers.
    bytes: usize,
    most: usize,
}

impl Slots {
    /// Room for `most` connections.
    pub(super) const fn new(most: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            starved: Vec::new(),
            unfinished: Vec::new(),
            due: BTreeSet::new(),
            peers: Vec::new(),
            bytes: 0,
            most,
        }
    }

    pub(super) fn connections(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Bytes of all connections' buffers.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn has_room(&self) -> bool {
        self.connections() < self.most
    }

    /// Whose a connection is.
    pub(super) fn peer(&self, id: Id) -> Option<Peer> {
        self.slots.get(id.slot).filter(|slot| slot.generation == id.generation).map(|slot| slot.peer)
    }

    /// Whether a peer has its share.
    pub(super) fn has_share(&self, peer: Peer) -> bool {
        self.place(peer).ok().and_then(|at| self.peers.get(at)).is_some_and(|&(_, has)| has >= self.share())
    }

    fn place(&self, peer: Peer) -> Result<usize, usize> {
        self.peers.binary_search_by_key(&peer, |&(peer, _)| peer)
    }

    fn share(&self) -> usize {
        (self.most / PARTS).max(1)
    }

    /// The peer that has the most, if that is more than its share.
    pub(super) fn greediest(&self) -> Option<Peer> {
        let &(peer, has) = self.peers.iter().max_by_key(|(_, has)| has)?;
        (has > self.share()).then_some(peer)
    }

    /// Of the connections that wait to be cut off, all or a peer's, the one that is first.
    pub(super) fn first_to_go(&self, of: Option<Peer>) -> Option<usize> {
        let all = self.slots.iter().enumerate();
        let wait = all.filter(|(_, slot)| slot.until_ns != u64::MAX && of.is_none_or(|of| slot.peer == of));
        wait.min_by_key(|(_, slot)| slot.until_ns).map(|(number, _)| number)
    }

    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Slot> {
        self.slots.get_mut(number)
    }

    /// The slot of a connection, as long as that has it.
    pub(super) fn of(&mut self, id: Id) -> Option<&mut Slot> {
        let has_it = |slot: &&mut Slot| slot.generation == id.generation && slot.connection.is_some();
        self.slots.get_mut(id.slot).filter(has_it)
    }

    pub(super) fn id(&self, number: usize) -> Option<Id> {
        let slot = self.slots.get(number)?;
        Some(Id { slot: number, generation: slot.generation })
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Slot)> {
        self.slots.iter_mut().enumerate()
    }

    /// Takes a connection in, to be attended to at once. `None`: there is no room.
    pub(super) fn insert(&mut self, connection: Connection) -> Option<Id> {
        if !self.has_room() {
            return None;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                due_ns: u64::MAX,
                noted_ns: u64::MAX,
                until_ns: u64::MAX,
                ..Slot::default()
            });
            self.slots.len() - 1
        });
        let slot = self.slots.get_mut(number)?;
        self.bytes += connection.buffers();
        let peer = Peer::from(&connection.flow.remote);
        slot.peer = peer;
        slot.connection = Some(Box::new(connection));
        slot.generation = slot.generation.wrapping_add(1);
        (slot.until_ns, slot.owned, slot.parked) = (u64::MAX, true, None);
        match self.place(peer) {
            Ok(at) => self.peers.get_mut(at).into_iter().for_each(|(_, has)| *has += 1),
            Err(at) => self.peers.insert(at, (peer, 1)),
        }
        self.set_ready(number);
        self.id(number)
    }

    /// Lets go of a connection.
    pub(super) fn remove(&mut self, number: usize) {
        let Some(slot) = self.slots.get_mut(number) else { return };
        let Some(old) = slot.connection.take() else { return };
        if slot.noted_ns != u64::MAX {
            self.due.remove(&(slot.noted_ns, number));
        }
        if slot.ready {
            self.ready.retain(|&other| other != number);
            self.starved.retain(|&other| other != number);
            self.unfinished.retain(|&other| other != number);
        }
        (slot.due_ns, slot.noted_ns, slot.until_ns, slot.ready) = (u64::MAX, u64::MAX, u64::MAX, false);
        self.bytes -= old.buffers();
        self.free.push(number);
        let peer = slot.peer;
        let Ok(at) = self.place(peer) else { return };
        match self.peers.get_mut(at) {
            Some((_, has)) if *has > 1 => *has -= 1,
            _ => drop(self.peers.remove(at)),
        }
    }

    /// Has a slot attended to as soon as those that were there before.
    pub(super) fn set_ready(&mut self, number: usize) {
        let Some(slot) = self.slots.get_mut(number) else { return };
        if !core::mem::replace(&mut slot.ready, true) {
            self.ready.push_back(number);
        }
    }

    /// Has a slot attended to next turn, before all others: there was no room for it in this one.
    pub(super) fn set_starved(&mut self, number: usize) {
        let Some(slot) = self.slots.get_mut(number) else { return };
        if !core::mem::replace(&mut slot.ready, true) {
            self.starved.push(number);
        }
    }

    /// The same, behind those.
    pub(super) fn set_unfinished(&mut self, number: usize) {
        let Some(slot) = self.slots.get_mut(number) else { return };
        if !core::mem::replace(&mut slot.ready, true) {
            self.unfinished.push(number);
        }
    }

    /// Another turn begins.
    pub(super) fn begin_turn(&mut self) {
        for list in [&mut self.unfinished, &mut self.starved] {
            while let Some(number) = list.pop() {
                self.ready.push_front(number);
            }
        }
    }

    /// Says when a slot is to be attended to, if nothing happens before.
    pub(super) fn set_due(&mut self, number: usize, due_ns: u64) {
        let Some(slot) = self.slots.get_mut(number) else { return };
        slot.due_ns = due_ns;
        if slot.noted_ns <= due_ns {
            return;
        }
        let before = core::mem::replace(&mut slot.noted_ns, due_ns);
        if before != u64::MAX {
            self.due.remove(&(before, number));
        }
        self.due.insert((due_ns, number));
    }

    /// The same, if it is not sooner anyway.
    pub(super) fn due_by(&mut self, number: usize, due_ns: u64) {
        if self.slots.get(number).is_some_and(|slot| due_ns < slot.due_ns) {
            self.set_due(number, due_ns);
        }
    }

    /// A time that is not later than the first is due.
    pub(super) fn first_due(&self) -> Option<u64> {
        match self.ready.is_empty() && self.starved.is_empty() && self.unfinished.is_empty() {
            true => self.due.first().map(|&(noted_ns, _)| noted_ns),
            false => Some(0),
        }
    }

    /// A slot that is to be attended to this turn, and no longer is.
    pub(super) fn take_due(&mut self, now_ns: u64) -> Option<usize> {
        if let Some(number) = self.ready.pop_front() {
            self.slots.get_mut(number)?.ready = false;
            return Some(number);
        }
        while let Some((noted_ns, number)) = self.due.first().copied().filter(|&(noted, _)| noted <= now_ns) {
            self.due.remove(&(noted_ns, number));
            let slot = self.slots.get_mut(number)?;
            slot.noted_ns = u64::MAX;
            let due_ns = core::mem::replace(&mut slot.due_ns, u64::MAX);
            if due_ns <= now_ns {
                return Some(number);
            }
            // It was put off.
            self.set_due(number, due_ns);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Flow;
    use core::net::SocketAddr;
    use proptest::prelude::*;
    use weir_netif::IfIndex;

    const MOST: usize = 9;

    /// Connections are told apart by their port.
    fn connection(port: u16, host: u8, sizes: [usize; 2]) -> Connection {
        let at = |host, port| SocketAddr::from(([192, 0, 2, host], port));
        let flow = Flow { local: at(1, port), remote: at(host, 80) };
        Connection::connecting(flow, (IfIndex(0), 1500), sizes, 7, 0).unwrap()
    }

    fn peer(host: u8) -> Peer {
        Peer::from(&SocketAddr::from(([192, 0, 2, host], 0)))
    }

    #[test]
    fn an_ipv6_host_is_its_link() {
        let peer = |text: &str| Peer::from(&text.parse::<SocketAddr>().unwrap());
        assert_eq!(peer("[2001:db8:0:1::2]:5"), peer("[2001:db8:0:1:ffff:ffff:ffff:ffff]:6"));
        let others = [
            "[2001:db8:0:2::2]:5",
            "[fe80::1%1]:5",
            "[fe80::1%2]:5",
            "192.0.2.1:5",
            "192.0.2.2:5",
            "[::1]:5",
        ];
        let all: BTreeSet<Peer> = others.into_iter().map(peer).collect();
        assert_eq!(all.len(), others.len());
    }

    /// A connection that is there, as a list that is looked through knows it.
    struct Like {
        id: Id,
        port: u16,
        host: u8,
        bytes: usize,
        due_ns: u64,
        until_ns: u64,
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert([usize; 2], u8),
        SetReady(usize),
        SetStarved(usize),
        SetUnfinished(usize),
        BeginTurn,
        Until(usize, u64),
        Remove(usize),
        SetDue(usize, u64),
        DueBy(usize, u64),
        TakeDue(u64),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        // Few times, so that several are due at once.
        let time = || prop_oneof![4 => 0..20_u64, 1 => Just(u64::MAX)];
        let op = prop_oneof![
            ([4096..9000_usize, 4096..9000_usize], 0..4_u8).prop_map(|(sizes, host)| Op::Insert(sizes, host)),
            (0..MOST).prop_map(Op::SetReady),
            (0..MOST).prop_map(Op::SetStarved),
            (0..MOST).prop_map(Op::SetUnfinished),
            Just(Op::BeginTurn),
            (0..MOST, time()).prop_map(|(nth, until)| Op::Until(nth, until)),
            (0..MOST).prop_map(Op::Remove),
            (0..MOST, time()).prop_map(|(nth, due)| Op::SetDue(nth, due)),
            (0..MOST, time()).prop_map(|(nth, due)| Op::DueBy(nth, due)),
            (0..25_u64).prop_map(Op::TakeDue),
        ];
        prop::collection::vec(op, 0..120)
    }

    proptest! {
        #[test]
        fn they_do_what_a_list_does_that_is_looked_through(ops in ops()) {
            let (mut slots, mut like, mut gone) = (Slots::new(MOST), Vec::<Like>::new(), Vec::new());
            let (mut ready, mut starved, mut unfinished) = (VecDeque::<usize>::new(), Vec::new(), Vec::new());
            for (port, op) in (1..).zip(ops) {
                match op {
                    Op::Insert(sizes, host) => {
                        let new = connection(port, host, sizes);
                        let bytes = new.buffers();
                        let id = slots.insert(new);
                        prop_assert_eq!(id.is_some(), like.len() < MOST);
                        let Some(id) = id else { continue };
                        prop_assert!(like.iter().all(|one| one.id.slot != id.slot), "it is taken");
                        let slot = slots.of(id).unwrap();
                        prop_assert_eq!((slot.owned, slot.parked, slot.until_ns), (true, None, u64::MAX));
                        (slot.owned, slot.parked, slot.until_ns) = (false, Some(port), 1);
                        like.push(Like { id, port, host, bytes, due_ns: u64::MAX, until_ns: 1 });
                        ready.push_back(id.slot);
                    }
                    Op::Until(nth, until_ns) if nth < like.len() => {
                        slots.of(like[nth].id).unwrap().until_ns = until_ns;
                        like[nth].until_ns = until_ns;
                    }
                    Op::Remove(nth) if nth < like.len() => {
                        let one = like.swap_remove(nth);
                        slots.remove(one.id.slot);
                        // Nothing is removed twice.
                        slots.remove(one.id.slot);
                        gone.push(one.id);
                        ready.retain(|&number| number != one.id.slot);
                        starved.retain(|&number| number != one.id.slot);
                        unfinished.retain(|&number| number != one.id.slot);
                    }
                    Op::SetReady(nth) if nth < like.len() => {
                        let number = like[nth].id.slot;
                        slots.set_ready(number);
                        if !ready.iter().chain(&starved).chain(&unfinished).any(|&other| other == number) {
                            ready.push_back(number);
                        }
                    }
                    Op::SetStarved(nth) if nth < like.len() => {
                        let number = like[nth].id.slot;
                        slots.set_starved(number);
                        if !ready.iter().chain(&starved).chain(&unfinished).any(|&other| other == number) {
                            starved.push(number);
                        }
                    }
                    Op::SetUnfinished(nth) if nth < like.len() => {
                        let number = like[nth].id.slot;
                        slots.set_unfinished(number);
                        if !ready.iter().chain(&starved).chain(&unfinished).any(|&other| other == number) {
                            unfinished.push(number);
                        }
                    }
                    Op::BeginTurn => {
                        slots.begin_turn();
                        ready = starved.drain(..).chain(unfinished.drain(..)).chain(ready).collect();
                    }
                    Op::SetDue(nth, due_ns) if nth < like.len() => {
                        slots.set_due(like[nth].id.slot, due_ns);
                        like[nth].due_ns = due_ns;
                    }
                    Op::DueBy(nth, due_ns) if nth < like.len() => {
                        slots.due_by(like[nth].id.slot, due_ns);
                        like[nth].due_ns = like[nth].due_ns.min(due_ns);
                    }
                    Op::TakeDue(now_ns) => {
                        let taken = slots.take_due(now_ns);
                        if let Some(number) = ready.pop_front() {
                            prop_assert_eq!(taken, Some(number));
                        } else {
                            let mut due = like.iter_mut().filter(|one| one.due_ns <= now_ns).peekable();
                            prop_assert_eq!(taken.is_some(), due.peek().is_some());
                            let one = due.find(|one| taken == Some(one.id.slot));
                            prop_assert_eq!(one.is_some(), taken.is_some(), "it is none that is due");
                            one.into_iter().for_each(|one| one.due_ns = u64::MAX);
                        }
                    }
                    // There is none there.
                    Op::Remove(_) => slots.remove(usize::MAX),
                    Op::Until(..) => {}
                    Op::SetReady(_) => slots.set_ready(usize::MAX),
                    Op::SetStarved(_) => slots.set_starved(usize::MAX),
                    Op::SetUnfinished(_) => slots.set_unfinished(usize::MAX),
                    Op::SetDue(_, due_ns) => slots.set_due(usize::MAX, due_ns),
                    Op::DueBy(_, due_ns) => slots.due_by(usize::MAX, due_ns),
                }
                prop_assert_eq!((slots.connections(), slots.has_room()), (like.len(), like.len() < MOST));
                prop_assert_eq!(slots.bytes(), like.iter().map(|one| one.bytes).sum::<usize>());
                let first_due = like.iter().map(|one| one.due_ns).filter(|&due_ns| due_ns != u64::MAX).min();
                let is_ready = !(ready.is_empty() && starved.is_empty() && unfinished.is_empty());
                let first_due = if is_ready { Some(0) } else { first_due };
                prop_assert!(first_due.is_none_or(|due| slots.first_due().is_some_and(|told| told <= due)));
                let noted: BTreeSet<_> = slots.slots.iter().map(|slot| slot.noted_ns).zip(0..).collect();
                prop_assert!(slots.due.iter().eq(noted.iter().filter(|(noted_ns, _)| *noted_ns != u64::MAX)));
                prop_assert!(like.is_empty() <= slots.due.is_empty(), "times of connections that are no more");
                for one in &like {
                    let found = slots.of(one.id).and_then(|slot| slot.connection.as_deref());
                    prop_assert_eq!(found.map(|found| found.flow.local.port()), Some(one.port));
                    prop_assert_eq!(slots.id(one.id.slot), Some(one.id));
                }
                let has = |host: u8| like.iter().filter(|one| one.host == host).count();
                let most = (0..4).map(has).max().unwrap();
                prop_assert!(slots.greediest().is_none_or(|found| (0..4).any(|host| peer(host) == found && has(host) == most)));
                prop_assert_eq!(slots.greediest().is_some(), most > slots.share());
                for of in [None, Some(0), Some(1)] {
                    let wait = like.iter().filter(|one| one.until_ns != u64::MAX && of.is_none_or(|of| one.host == of));
                    let first = wait.min_by_key(|one| (one.until_ns, one.id.slot)).map(|one| one.id.slot);
                    prop_assert_eq!(slots.first_to_go(of.map(peer)), first);
                }
                for host in 0..4 {
                    prop_assert_eq!(slots.has_share(peer(host)), has(host) >= slots.share());
                }
                let there = slots.iter_mut().filter(|(_, slot)| slot.connection.is_some()).count();
                prop_assert_eq!(there, like.len());
                prop_assert!(gone.iter().all(|&id| slots.of(id).is_none()), "an old number is nobody's");
                prop_assert!(slots.of(Id::NOBODY).is_none());
            }
        }
    }
}
