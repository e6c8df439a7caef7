//! Connections that wait at their listener until there is something to accept them for: without a task, and the first to go
//! when there is no room for another.

use super::slots::Slot;
use super::{Id, Inner, Sink};
use alloc::vec::Vec;
use core::time::Duration;
use smoltcp::socket::tcp::State;

impl Inner {
    /// Has a connection wait at the listener of `port` until there is something to accept it for, for `limit` at most.
    pub(crate) fn park(&mut self, id: Id, port: u16, limit: Duration) {
        if self.connection(id).is_none() {
            return;
        }
        let now_ns = self.router.now_ns();
        let until_ns = now_ns.saturating_add(limit.as_nanos().try_into().unwrap_or(u64::MAX));
        if let Some(slot) = self.slots.of(id) {
            (slot.parked, slot.until_ns) = (Some(port), until_ns);
            self.slots.due_by(id.slot, until_ns);
        }
        self.unpark(id.slot, now_ns);
        self.want();
    }

    /// Gives a parked connection to its listener if there is something to do; ends it if nothing can come, or did in time.
    pub(super) fn unpark(&mut self, number: usize, now_ns: u64) {
        let Some(id) = self.slots.id(number) else { return };
        let Some(slot) = self.slots.of(id) else { return };
        let (Some(port), Some(connection)) = (slot.parked, slot.connection.as_mut()) else { return };
        let state = connection.state();
        let socket = connection.socket();
        let waits = socket.recv_queue();
        let mut ready = waits > 0 && (state == State::CloseWait || waits >= socket.recv_capacity());
        let listener = self.listeners.iter_mut().find(|listener| listener.port == port);
        if let Some(filter) = listener.as_ref().and_then(|listener| listener.filter) {
            let bytes = &mut self.scratch.input;
            let len = socket.peek_slice(bytes).unwrap_or(0);
            ready |= len > 0 && bytes.get(..len).is_some_and(filter);
        }
        match listener {
            Some(listener) if ready => {
                (slot.parked, slot.until_ns) = (None, u64::MAX);
                listener.push(id);
            }
            Some(_) if state == State::Established && now_ns < slot.until_ns => {}
            _ => {
                slot.parked = None;
                self.leave(id);
            }
        }
    }

    /// Connections parked at the listener of `port`, which is no more.
    pub(crate) fn parked_at(&mut self, port: u16) -> Vec<Id> {
        let mut all = Vec::new();
        for (number, slot) in self.slots.iter_mut() {
            if slot.parked.take_if(|own| *own == port).is_some() {
                all.push(number);
            }
        }
        all.into_iter().filter_map(|number| self.slots.id(number)).collect()
    }

    /// Makes room for a connection: if there is none, the parked one that has been silent for longest ends. Whether there is.
    pub(super) fn room(&mut self, sink: &mut dyn Sink) -> bool {
        if self.slots.has_room() {
            return true;
        }
        let silent = |slot: &mut Slot| {
            let connection = slot.connection.as_mut().filter(|_| slot.parked.is_some())?;
            (connection.socket().recv_queue() == 0).then_some(slot.until_ns)
        };
        let rows = self.slots.iter_mut();
        let longest = rows.filter_map(|(number, slot)| Some((silent(slot)?, number))).min();
        if let Some((_, number)) = longest
            && let Some(slot) = self.slots.get_mut(number)
        {
            (slot.owned, slot.parked) = (false, None);
            if let Some(connection) = slot.connection.as_mut() {
                connection.abort();
            }
            let now_ns = self.router.now_ns();
            self.attend(number, now_ns, sink);
        }
        self.slots.has_room()
    }
}
