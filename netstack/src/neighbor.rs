//! Who on the link has which address: the states of RFC 4861 §7.3 for both ARP and neighbour discovery.
//!
//! `[C]` One table a family and CPU, of fixed size, in softint context. It never sends: it says what is owed. What
//! one CPU learns is an [`Event`], to be applied to the tables of the others.

mod adjacency;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use adjacency::{Lines, NextHop};
pub use table::Table;

use arrayvec::ArrayVec;
use weir_netif::{Drop, IfIndex, Packet};

/// Packets that wait for one neighbour (RFC 4861 §7.2.2 asks for at least one).
pub const QUEUE: usize = 3;
/// Packets that waited for a neighbour, oldest first.
pub type Waiting = ArrayVec<Packet, QUEUE>;
/// Packets that a new one pushed out, with the reason.
pub type Discards = ArrayVec<(Packet, Drop), { QUEUE + 1 }>;

/// RFC 4861 §7.3.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Asked, not answered yet.
    Incomplete,
    /// Answered lately.
    Reachable,
    /// Known, but not used since it was last known to be true.
    Stale,
    /// Used since; upper layers had their chance to confirm it.
    Delay,
    /// Being asked again.
    Probe,
}

/// Something a neighbour said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event<A> {
    /// On which link.
    pub interface: IfIndex,
    /// Whose address.
    pub address: A,
    /// Its station address, if it was told.
    pub mac: Option<[u8; 6]>,
    /// How good the word is.
    pub evidence: Evidence,
}

/// How good a neighbour's word is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evidence {
    /// It asked us something: it is there, but whether it hears us is unknown (RFC 4861 §7.2.3). Makes an entry.
    Asked,
    /// It answered us (RFC 4861 §7.2.5, Solicited flag).
    Answered(Override),
    /// It said so to everybody.
    Announced(Override),
    /// It said nothing: another CPU of this router has just asked for it. Who needs it too waits for that answer
    /// before asking as well.
    Sought,
}

impl<A> Event<A> {
    /// Says to other CPUs that this one has asked all for `address`.
    pub(crate) fn sought(interface: IfIndex, address: A) -> Self {
        Self { interface, address, mac: None, evidence: Evidence::Sought }
    }

    /// What to tell other CPUs of it. An answer from a neighbour that is not `known` here may be one to another CPU, to
    /// be believed by who has asked.
    pub(crate) fn told(self, known: bool) -> Self {
        match self.evidence {
            Evidence::Answered(replace) if !known => Self { evidence: Evidence::Announced(replace), ..self },
            _ => self,
        }
    }

    /// What to make of it when another CPU told it. An answer that CPU was waiting for makes an entry for a neighbour
    /// that is not `known` here: the news that it was asked for may come later.
    pub(crate) fn heard(self, known: bool) -> Self {
        match self.evidence {
            Evidence::Answered(_) if !known => Self { evidence: Evidence::Asked, ..self },
            _ => self,
        }
    }
}

/// Whether a different station address replaces the known one (RFC 4861 §7.2.5, Override flag).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Override {
    /// It does.
    Yes,
    /// It only casts doubt on it.
    No,
}

/// What became of a packet that had to wait.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Whether a first solicitation is due.
    pub solicit: Solicit,
    /// Packets that went for it, perhaps itself.
    pub discards: Discards,
}

/// Whether to send a solicitation now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Solicit {
    /// Yes, to all.
    Now,
    /// No: it was sent, or the packet was not admitted.
    No,
}

/// What a timer asks for.
#[derive(Debug)]
pub(crate) enum Due<A> {
    /// A solicitation for `address`, to all or to one station.
    Solicit {
        /// By this interface.
        interface: IfIndex,
        /// Who is asked for.
        address: A,
        /// The station to probe; `None` asks all.
        to: Option<[u8; 6]>,
    },
    /// Nobody answered: the packets that waited are undeliverable.
    Failed {
        /// What waited.
        packets: Waiting,
    },
}
