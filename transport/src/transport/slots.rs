//! The connections of a CPU by number, and which of them is to be attended to first. Nothing here takes longer the more
//! connections there are, but by a logarithm.

use crate::connection::Connection;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

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

/// Room for one connection.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) connection: Option<Box<Connection>>,
    /// Another one for each connection.
    generation: u32,
    /// When it is to be attended to; `u64::MAX`: not of itself.
    due_ns: u64,
    /// When a connection that nobody has any more is cut off.
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
    /// Those that are due some time, the earliest first.
    due: BTreeSet<(u64, usize)>,
    /// Of all connections' buffers.
    bytes: usize,
    most: usize,
}

impl Slots {
    /// Room for `most` connections.
    pub(super) const fn new(most: usize) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), due: BTreeSet::new(), bytes: 0, most }
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

    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Slot> {
        self.slots.get_mut(number)
    }

    /// The slot of a connection, as long as that has it.
    pub(super) fn of(&mut self, id: Id) -> Option<&mut Slot> {
        self.slots.get_mut(id.slot).filter(|slot| slot.generation == id.generation)
    }

    pub(super) fn id(&self, number: usize) -> Option<Id> {
        let slot = self.slots.get(number)?;
        Some(Id { slot: number, generation: slot.generation })
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Slot)> {
        self.slots.iter_mut().enumerate()
    }

    /// Takes a connection in, to be attended to at once. `None`: there is no room.
    pub(super) fn insert(&mut self, connection: Connection, now_ns: u64) -> Option<Id> {
        if !self.has_room() {
            return None;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { due_ns: u64::MAX, ..Slot::default() });
            self.slots.len() - 1
        });
        let slot = self.slots.get_mut(number)?;
        self.bytes += connection.buffers();
        slot.connection = Some(Box::new(connection));
        slot.generation = slot.generation.wrapping_add(1);
        (slot.until_ns, slot.owned, slot.parked) = (u64::MAX, true, None);
        self.set_due(number, now_ns);
        self.id(number)
    }

    /// Lets go of a connection.
    pub(super) fn remove(&mut self, number: usize) {
        self.set_due(number, u64::MAX);
        if let Some(old) = self.slots.get_mut(number).and_then(|slot| slot.connection.take()) {
            self.bytes -= old.buffers();
            self.free.push(number);
        }
    }

    /// Says when a slot is to be attended to.
    pub(super) fn set_due(&mut self, number: usize, due_ns: u64) {
        let Some(slot) = self.slots.get_mut(number) else { return };
        let before = core::mem::replace(&mut slot.due_ns, due_ns);
        if before == due_ns {
            return;
        }
        if before != u64::MAX {
            self.due.remove(&(before, number));
        }
        if due_ns != u64::MAX {
            self.due.insert((due_ns, number));
        }
    }

    /// The same, if it is not sooner anyway.
    pub(super) fn due_by(&mut self, number: usize, due_ns: u64) {
        if self.slots.get(number).is_some_and(|slot| due_ns < slot.due_ns) {
            self.set_due(number, due_ns);
        }
    }

    /// When the first is due.
    pub(super) fn first_due(&self) -> Option<u64> {
        self.due.first().map(|&(due_ns, _)| due_ns)
    }

    /// A slot that is due, and no longer is. Whoever waits for longest comes first.
    pub(super) fn take_due(&mut self, now_ns: u64) -> Option<usize> {
        let (due_ns, number) = self.due.first().copied().filter(|&(due_ns, _)| due_ns <= now_ns)?;
        self.due.remove(&(due_ns, number));
        self.slots.get_mut(number)?.due_ns = u64::MAX;
        Some(number)
    }
}
