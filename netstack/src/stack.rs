//! One CPU's private state of the stack, and the turn in which it may be used.

use crate::egress::{Egress, Lanes};
use crate::fragment::Identification;
use crate::limit::{Limiter, Rate};
use crate::nd::Advertiser;
use crate::neighbor;
use crate::path::{Announced, Found};
use crate::reassembly::{self, Reassembly};
use crate::snapshot::{LinkId, Snapshot};
use crate::time::Instant;
use crate::timers::{Timed, Timers};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::net::{Ipv4Addr, Ipv6Addr};
use weir_netif::{IfIndex, Pool};
use weir_sync::Softint;

/// ICMP errors a second, to all and to one network.
const ERRORS: Rate = Rate { per_s: 1000, burst: 200 };
const ERRORS_EACH: Rate = Rate { per_s: 50, burst: 20 };
/// Events kept for other CPUs.
const EVENTS: usize = 256;

/// Sizes and role of a [`Stack`].
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Interfaces there can be: a higher index is not served.
    pub interfaces: usize,
    /// Neighbours of each family it can know.
    pub neighbors: usize,
    /// Secret and random; keeps neighbours from choosing addresses that collide in tables.
    pub seed: u64,
    /// What it does beside forwarding.
    pub duty: Duty,
    /// Bytes of buffers that fragments for the router itself may hold.
    pub reassembly: usize,
}

impl Default for Settings {
    /// 64 interfaces, 4096 neighbours, [`Duty::Speaker`], a seed that is no secret, and [`reassembly::BYTES`].
    fn default() -> Self {
        let (duty, reassembly) = (Duty::Speaker, reassembly::BYTES);
        Self { interfaces: 64, neighbors: 4096, seed: 0x5eed, duty, reassembly }
    }
}

/// Which of the router's CPUs this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Duty {
    /// The one that speaks for the router unasked: router advertisements.
    Speaker,
    /// Any other: passes solicitations on as [`Event`]s.
    Worker,
}

/// What other CPUs should know; [`Stack::apply`] takes it there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// An IPv4 neighbour said something.
    Neighbor4(neighbor::Event<Ipv4Addr>),
    /// An IPv6 neighbour said something.
    Neighbor6(neighbor::Event<Ipv6Addr>),
    /// A host asked for router advertisements on this interface.
    RouterSolicited(IfIndex),
}

/// What a turn of the stack works with.
pub struct Turn<'a> {
    /// Proof of the context, and the CPU.
    pub cx: &'a Softint,
    /// The configuration.
    pub snapshot: &'a Snapshot,
    /// The time.
    pub now: Instant,
    /// This CPU's buffers.
    pub pool: &'a mut Pool,
    /// Where frames go.
    pub egress: &'a mut dyn Egress,
}

/// One CPU's state. `[C]` all of it.
#[derive(Debug)]
pub struct Stack {
    pub(crate) lanes: Lanes,
    pub(crate) timers: Timers,
    pub(crate) neighbors4: neighbor::Table<Ipv4Addr>,
    pub(crate) neighbors6: neighbor::Table<Ipv6Addr>,
    pub(crate) errors: Limiter,
    /// When an address of ours may be defended again.
    pub(crate) next_defence: Instant,
    pub(crate) advertiser: Advertiser,
    pub(crate) announced: Announced,
    pub(crate) duty: Duty,
    events: VecDeque<Event>,
    /// Packets the router made itself.
    pub(crate) originated: u64,
    /// The link of each interface in the snapshot before, by index.
    pub(crate) links: Box<[Option<LinkId>]>,
    /// Whether each took part, by index; told to the flight recorder by [`Duty::Speaker`].
    pub(crate) up: Box<[bool]>,
    /// Packets and bytes of the batch at hand that interfaces on VLANs have counted.
    pub(crate) tagged: (u64, u64),
    /// Of the batch at hand, outside of it nothing.
    pub(crate) found: Option<Box<Found>>,
    pub(crate) reassembly: Reassembly,
    pub(crate) fragments: Identification,
}

impl Stack {
    /// An idle stack. Allocates all it will ever need.
    pub fn new(settings: Settings) -> Self {
        let Settings { interfaces, neighbors, seed, duty, reassembly } = settings;
        let neighbors4 = neighbor::Table::new(neighbors, seed, Timed::Neighbor4);
        let neighbors6 = neighbor::Table::new(neighbors, seed.rotate_left(17), Timed::Neighbor6);
        // One each, and the first look.
        let each = neighbors4.capacity() + neighbors6.capacity() + interfaces + reassembly::DATAGRAMS;
        let mut timers = Timers::new(each + 1);
        if duty == Duty::Speaker {
            timers.set(Timed::Advertisers, Instant::ZERO, Instant::ZERO);
        }
        Self {
            lanes: Lanes::new(interfaces),
            timers,
            neighbors4,
            neighbors6,
            errors: Limiter::new(ERRORS, ERRORS_EACH, seed.rotate_left(31)),
            next_defence: Instant::ZERO,
            advertiser: Advertiser::new(interfaces, seed.rotate_left(47)),
            announced: Announced::new(if duty == Duty::Speaker { interfaces } else { 0 }),
            duty,
            events: VecDeque::with_capacity(EVENTS),
            originated: 0,
            links: core::iter::repeat_n(None, interfaces).collect(),
            up: core::iter::repeat_n(false, if duty == Duty::Speaker { interfaces } else { 0 }).collect(),
            tagged: (0, 0),
            found: Some(Found::new()),
            reassembly: Reassembly::new(reassembly),
            fragments: Identification::new(seed.rotate_left(7)),
        }
    }

    /// Neighbours of the IPv4 family.
    pub fn neighbors4(&self) -> &neighbor::Table<Ipv4Addr> {
        &self.neighbors4
    }

    /// Neighbours of the IPv6 family.
    pub fn neighbors6(&self) -> &neighbor::Table<Ipv6Addr> {
        &self.neighbors6
    }

    /// Packets that wait: for a neighbour to answer, or for the other fragments of their datagram.
    pub fn queued(&self) -> usize {
        self.neighbors4.queued() + self.neighbors6.queued() + self.reassembly.packets()
    }

    /// Packets that came into being here: made by the router, or cut from others. Received and originated packets end as
    /// sent, dropped or queued.
    pub fn originated(&self) -> u64 {
        self.originated + self.lanes.split()
    }

    /// When [`tick`](Self::tick) is wanted next. Any input can bring it forward.
    #[inline]
    pub fn deadline(&self) -> Instant {
        self.timers.deadline()
    }

    /// What other CPUs should know since the last call, oldest first; the oldest are lost if nobody asks.
    pub fn events(&mut self) -> impl Iterator<Item = Event> {
        self.events.drain(..)
    }

    /// Notes an event for other CPUs.
    pub(crate) fn tell(&mut self, event: Event) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}
