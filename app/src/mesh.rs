//! What CPUs send each other: packets and neighbour news, in one ring for each pair of CPUs and direction.
//!
//! `[C]` Each end belongs to one CPU's forwarder, which sends in batches and raises the receiver once a turn.

use alloc::boxed::Box;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use weir_machine::dispatch;
use weir_machine::interrupt::MESSAGE;
use weir_machine::trace;
use weir_netif::{BATCH, IfIndex, Packet};
use weir_netstack::stack::Event;
use weir_sync::CpuId;
use weir_sync::ring::{self, Consumer, Producer};

/// Packets all rings into one CPU may hold together.
const INTO_ONE_CPU: usize = 4096;
/// Bounds of a single ring: some batches, and not more than a CPU works off in a millisecond.
const RING: core::ops::RangeInclusive<usize> = 128..=1024;
/// Neighbour news that may wait between two CPUs. What is lost is asked for again.
const NEWS: usize = 256;

/// A packet on its way to another CPU.
pub struct Parcel {
    /// The packet; of its metadata, `received` is set.
    pub packet: Packet,
    /// What the other CPU is to do with it.
    pub errand: Errand,
}

/// What to do with a packet from another CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Errand {
    /// Its flow belongs to the receiver: take it through the stack, as received on this interface.
    Receive(IfIndex),
    /// The sender has received it, and what it is a part of belongs to the receiver: go on with it in the stack.
    Resume,
    /// It is ready to go out by this interface, whose queue the receiver owns.
    Transmit(IfIndex),
}

/// Up to a batch of parcels.
pub type Parcels = ArrayVec<Parcel, BATCH>;

/// One CPU's ends of all rings. `[C]`
pub struct Exchange {
    to: Box<[Option<Outgoing>]>,
    from: Box<[Option<Incoming>]>,
    /// CPUs that were sent something since they were last raised, a bit each.
    owed: u64,
}

struct Outgoing {
    cpu: CpuId,
    parcels: Producer<Parcel>,
    news: Producer<Event>,
}

struct Incoming {
    parcels: Consumer<Parcel>,
    news: Consumer<Event>,
}

/// Rings between each two of `cpus` CPUs: the ends of each CPU, in CPU order.
pub fn mesh(cpus: usize) -> Vec<Exchange> {
    let size = (INTO_ONE_CPU / cpus.max(1)).clamp(*RING.start(), *RING.end());
    let mut to: Vec<Vec<Option<Outgoing>>> = (0..cpus).map(|_| Vec::with_capacity(cpus)).collect();
    let mut from: Vec<Vec<Option<Incoming>>> = (0..cpus).map(|_| Vec::with_capacity(cpus)).collect();
    for (sender, to) in to.iter_mut().enumerate() {
        for (receiver, from) in from.iter_mut().enumerate() {
            let (mut outgoing, mut incoming) = (None, None);
            if let Some(cpu) = CpuId::new(receiver).filter(|_| receiver != sender) {
                let (parcels, parcels_end) = ring::new(size);
                let (news, news_end) = ring::new(NEWS);
                outgoing = Some(Outgoing { cpu, parcels, news });
                incoming = Some(Incoming { parcels: parcels_end, news: news_end });
            }
            to.push(outgoing);
            from.push(incoming);
        }
    }
    let ends = to.into_iter().zip(from);
    ends.map(|(to, from)| Exchange { to: to.into(), from: from.into(), owed: 0 }).collect()
}

impl Exchange {
    /// CPUs, this one included.
    pub fn cpus(&self) -> usize {
        self.to.len()
    }

    /// Sends what fits, from the front; the rest stays. Returns how many went.
    pub fn send(&mut self, to: CpuId, parcels: &mut Parcels) -> usize {
        let Some(Some(outgoing)) = self.to.get_mut(to.index()) else { return 0 };
        // Even with the ring full: who filled it may not have raised the receiver yet.
        self.owed |= 1 << to.index();
        let offered = parcels.len();
        let went = outgoing.parcels.push_many(parcels);
        trace::note(weir_sync::Event::HandOver, || [to.index() as u64, offered as u64, went as u64]);
        went
    }

    /// Tells all other CPUs.
    pub fn tell(&mut self, event: Event) {
        for outgoing in self.to.iter_mut().flatten() {
            if outgoing.news.push(event).is_ok() {
                self.owed |= 1 << outgoing.cpu.index();
            }
        }
    }

    /// Raises everybody who was sent something: at the end of each turn.
    pub fn raise(&mut self) {
        let mut owed = core::mem::take(&mut self.owed);
        while owed != 0 {
            if let Some(cpu) = CpuId::new(owed.trailing_zeros() as usize) {
                dispatch::raise(cpu, MESSAGE);
            }
            owed &= owed - 1;
        }
    }

    /// The oldest news from CPU number `from`.
    pub fn news(&mut self, from: usize) -> Option<Event> {
        self.from.get_mut(from)?.as_mut()?.news.pop()
    }

    /// Takes parcels from CPU number `from`, as many as there is room for.
    pub fn take(&mut self, from: usize, into: &mut Parcels) {
        if let Some(Some(incoming)) = self.from.get_mut(from) {
            incoming.parcels.pop_many(into);
        }
    }
}
