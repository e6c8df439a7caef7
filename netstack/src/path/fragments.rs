//! Fragments of packets for the router itself, until their datagram is whole.

use super::*;
use crate::flow;
use crate::reassembly::{Fragment, Whole};

impl Stack {
    /// Goes on with packets that another CPU's stack has received and sent home: they have no other interface than
    /// [`Meta::received`](weir_netif::Meta::received), and have been counted. Leaves `batch` empty.
    pub fn resume(&mut self, turn: &mut Turn<'_>, batch: &mut Batch) {
        for packet in batch.drain(..) {
            match up(turn, packet.meta().received) {
                Some(_) => {
                    let hop = batch::hop(turn.snapshot, &packet);
                    self.receive(turn, packet, hop);
                }
                None => discard(turn, packet, Drop::InterfaceDown),
            }
        }
        self.lanes.flush(turn);
    }

    /// Puts an IPv4 fragment to the others of its datagram, and delivers that if it is whole.
    #[cold]
    pub(super) fn gather4(
        &mut self,
        turn: &mut Turn<'_>,
        interface: &Interface,
        packet: Packet,
        fragment: &Fragment,
    ) {
        let Some(packet) = self.gather(turn, packet, fragment) else { return };
        match ipv4::Header::parse(below(&packet).0, usize::MAX) {
            Ok(header) => self.local4(turn, interface, packet, &header, Cast::Unicast),
            Err(reason) => discard(turn, packet, reason),
        }
    }

    /// As [`gather4`](Self::gather4).
    #[cold]
    pub(super) fn gather6(
        &mut self,
        turn: &mut Turn<'_>,
        interface: &Interface,
        packet: Packet,
        fragment: &Fragment,
        cast: Cast,
    ) {
        let Some(packet) = self.gather(turn, packet, fragment) else { return };
        match ipv6::Header::parse(below(&packet).0, usize::MAX) {
            Ok(header) => self.local6(turn, interface, packet, &header, (cast, local::Came::InFragments)),
            Err(reason) => discard(turn, packet, reason),
        }
    }

    /// The whole datagram, if this fragment was the last that it lacked and all belong to this CPU.
    fn gather(&mut self, turn: &mut Turn<'_>, mut packet: Packet, fragment: &Fragment) -> Option<Packet> {
        // Over addresses alone, so that fragments meet whichever CPUs received them.
        if let Some(hash) = flow::hash(&mut packet) {
            packet = turn.egress.bring_home(packet, hash)?;
        }
        let cost = packet.segments().count() * turn.pool.arena().slot_size();
        let now = turn.now;
        let timers = (now, &mut self.timers);
        let end = |packet, reason| discard(turn, packet, reason);
        let Whole { packet, merged, sound } = self.reassembly.insert(packet, cost, fragment, timers, end)?;
        let counters = turn.snapshot.counters(packet.meta().received);
        counters.dropped_many(turn.cx.cpu(), Drop::Consumed, merged);
        match sound {
            Ok(()) => {
                // Its ports are known now, and with them its flow.
                let mut packet = packet;
                packet.meta_mut().hash = 0;
                Some(packet)
            }
            Err(reason) => {
                discard(turn, packet, reason);
                None
            }
        }
    }

    /// Gives up a datagram whose fragments did not all come in time. Its sender is told if the first one did.
    #[cold]
    pub(super) fn lapsed(&mut self, turn: &mut Turn<'_>, number: u32) {
        let reason = Drop::FragmentTimeout;
        let Some(first) = self.reassembly.expire(number, |packet, reason| discard(turn, packet, reason))
        else {
            return;
        };
        let Some(interface) = up(turn, first.meta().received) else { return discard(turn, first, reason) };
        if ethernet::kind(first.data()) == Some(ethernet::IPV4) {
            let error = icmp::Error::ReassemblyTimeExceeded;
            self.refuse4(turn, interface, first, Cast::Unicast, (reason, error));
        } else {
            let error = icmp6::Error::ReassemblyTimeExceeded;
            self.refuse6(turn, interface, first, Cast::Unicast, (reason, error));
        }
    }
}
