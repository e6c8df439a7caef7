//! Telling links which addresses the router has on them, once each: on the CPU that speaks for the router.

use super::*;
use crate::snapshot::LinkId;
use alloc::vec::Vec;
use core::net::IpAddr;

/// Addresses remembered: so many for each of so many interfaces. A router with more announces the rest with every change.
const EACH: usize = 34;
const INTERFACES: usize = 64;

/// An address that a link was told, and at which station.
type Told = (LinkId, [u8; 6], IpAddr);

/// What links were told that is still true. Sorted; made with room for all, it never grows.
#[derive(Debug)]
pub(crate) struct Announced {
    told: Vec<Told>,
    /// Empty between uses.
    next: Vec<Told>,
}

impl Announced {
    /// Nothing was announced yet on any of `interfaces` interfaces.
    pub(crate) fn new(interfaces: usize) -> Self {
        let room = || Vec::with_capacity(interfaces.min(INTERFACES) * EACH);
        Self { told: room(), next: room() }
    }
}

impl Stack {
    /// Announces addresses of links that are up and nobody else's unless it did so before: with that station address, and
    /// the link and the address in all configurations since.
    pub(super) fn announce(&mut self, turn: &mut Turn<'_>) {
        let snapshot = turn.snapshot;
        for interface in snapshot.interfaces().filter(|interface| interface.state == State::Up) {
            let sure = |address: &IpAddr| interface.claim(*address) == Claim::Ours;
            for own in interface.addresses4.iter().filter(|own| sure(&own.address.into())) {
                if self.is_news(interface, own.address.into()) {
                    let announcement = arp::announcement(interface.mac, own.address);
                    self.arp_frame(turn, interface, announcement.frame(ethernet::BROADCAST));
                }
            }
            let global = interface.addresses6.iter().map(|own| own.address);
            let all = interface.link_local.iter().copied().chain(global);
            for address in all.filter(|&address| sure(&address.into())) {
                if self.is_news(interface, address.into()) {
                    let packet = nd::advertisement(turn.pool, interface, &nd::Reply::to_all(address));
                    self.originate(turn, interface, packet);
                }
            }
        }
        let Announced { told, next } = &mut self.announced;
        next.sort_unstable();
        core::mem::swap(told, next);
        next.clear();
    }

    /// Takes note of an address; whether its link was not told of it.
    fn is_news(&mut self, interface: &Interface, address: IpAddr) -> bool {
        let Announced { told, next } = &mut self.announced;
        let what = (interface.link, interface.mac, address);
        if next.len() < next.capacity() {
            next.push(what);
        }
        told.binary_search(&what).is_err()
    }
}
