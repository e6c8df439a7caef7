//! Connections that wait at their listener until there is something to accept them for: without a task, and the first to go
//! when there is no room for another.

use super::slots::Peer;
use super::{Id, Inner, Sink};
use crate::listener::Listening;
use alloc::vec::Vec;
use core::net::SocketAddr;
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
        let filter = listener.as_ref().filter(|_| waits > 0).and_then(|listener| listener.filter);
        if let Some(filter) = filter {
            let bytes = &mut self.scratch.input;
            let len = socket.peek_slice(bytes).unwrap_or(0);
            ready |= bytes.get(..len).is_some_and(filter);
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

    /// Makes room for a connection with `remote`. Without any, one goes that waits for a request or, left by its task, for its
    /// end: the one that would be cut off first. Who has more than its share gives way before all others, then with requests
    /// that no task has taken, too; who has its share gets no room but its own. Whether there is.
    pub(super) fn room(&mut self, remote: &SocketAddr, sink: &mut dyn Sink) -> bool {
        if self.slots.has_room() {
            return true;
        }
        let own = Peer::from(remote);
        let has_share = self.slots.has_share(own);
        let victim = if has_share {
            self.idle(Some(own))
        } else {
            let greedy = self.slots.greediest();
            let gives_way = greedy.and_then(|greedy| self.idle(Some(greedy)).or_else(|| self.queued(greedy)));
            gives_way.or_else(|| self.idle(None))
        };
        if let Some(number) = victim {
            self.evict(number, sink);
        }
        let has_room = self.slots.has_room();
        self.counters.over_share += u64::from(has_share && !has_room);
        has_room
    }

    /// The first to go of those that wait, all or a peer's.
    fn idle(&mut self, of: Option<Peer>) -> Option<usize> {
        let now_ns = self.router.now_ns();
        loop {
            let number = self.slots.first_to_go(of)?;
            let parked = self.slots.get_mut(number)?.parked;
            // Its request may just have come.
            self.unpark(number, now_ns);
            if self.slots.get_mut(number)?.parked == parked {
                return Some(number);
            }
        }
    }

    /// The last of a peer's requests that wait for a task.
    fn queued(&mut self, of: Peer) -> Option<usize> {
        let Self { listeners, slots, .. } = self;
        let last = |listener: &mut Listening| listener.take_last(|&id| slots.peer(id) == Some(of));
        listeners.iter_mut().find_map(last).map(|id| id.slot)
    }

    fn evict(&mut self, number: usize, sink: &mut dyn Sink) {
        let now_ns = self.router.now_ns();
        let Some(slot) = self.slots.get_mut(number) else { return };
        let Some(connection) = slot.connection.as_mut() else { return };
        // Else its reset is on the way already.
        if connection.state() != State::Closed {
            *match (slot.owned, slot.parked) {
                (true, Some(_)) => &mut self.counters.evicted_parked,
                (true, None) => &mut self.counters.evicted_queued,
                (false, _) => &mut self.counters.evicted_closing,
            } += 1;
            connection.abort();
        }
        (slot.owned, slot.parked, slot.until_ns) = (false, None, now_ns);
        self.attend(number, now_ns, sink);
    }
}
