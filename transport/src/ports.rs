//! Which ports have sockets, for whoever receives packets to ask before handing one over.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// By which interfaces a socket may be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// By those with `management = true`.
    Management,
    /// By all.
    Any,
}

/// A protocol with ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6: replies to echo requests, which have an identifier in the place of a port.
    Echo,
}

/// The ports of one CPU that have a socket. `[A]` Written by its tasks, read by its softints, which interrupt them: a
/// port's bit is no more than a hint, so nothing has to be ordered with it.
#[derive(Debug)]
pub struct Ports {
    /// By protocol and access, a bit a port.
    sets: [Box<[AtomicU64]>; 4],
    /// The identifier of the one echo socket; [`NO_ECHO`] if there is none.
    echo: AtomicU32,
}

const NO_ECHO: u32 = 1 << 16;

const WORDS: usize = 65536 / 64;

impl Default for Ports {
    fn default() -> Self {
        let sets = core::array::from_fn(|_| (0..WORDS).map(|_| AtomicU64::new(0)).collect());
        Self { sets, echo: AtomicU32::new(NO_ECHO) }
    }
}

fn set(protocol: Protocol, access: Access) -> usize {
    match (protocol, access) {
        (Protocol::Tcp, Access::Management) => 0,
        (Protocol::Tcp, Access::Any) => 1,
        (Protocol::Udp, Access::Management) => 2,
        (Protocol::Udp, Access::Any) => 3,
        (Protocol::Echo, _) => usize::MAX,
    }
}

impl Ports {
    /// Whether a packet to `port` finds a socket, having come by an interface that offers management or by one that does
    /// not.
    pub fn open(&self, protocol: Protocol, port: u16, came: Access) -> bool {
        if protocol == Protocol::Echo {
            return self.echo.load(Ordering::Relaxed) == port.into();
        }
        let has = |access| {
            let set = self.sets.get(set(protocol, access));
            let word = set.and_then(|set| set.get(usize::from(port) / 64));
            word.is_some_and(|word| word.load(Ordering::Relaxed) >> (port % 64) & 1 == 1)
        };
        has(Access::Any) || came == Access::Management && has(Access::Management)
    }

    /// Has replies with this identifier come, and no others.
    pub(crate) fn set_echo(&self, id: Option<u16>) {
        self.echo.store(id.map_or(NO_ECHO, u32::from), Ordering::Relaxed);
    }

    pub(crate) fn insert(&self, protocol: Protocol, port: u16, access: Access) {
        self.change(protocol, port, access, |word, bit| word | bit);
    }

    pub(crate) fn remove(&self, protocol: Protocol, port: u16, access: Access) {
        self.change(protocol, port, access, |word, bit| word & !bit);
    }

    /// One CPU's tasks write, one at a time: no exchange is needed.
    fn change(&self, protocol: Protocol, port: u16, access: Access, with: fn(u64, u64) -> u64) {
        let set = self.sets.get(set(protocol, access));
        if let Some(word) = set.and_then(|set| set.get(usize::from(port) / 64)) {
            word.store(with(word.load(Ordering::Relaxed), 1 << (port % 64)), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn management_ports_are_open_to_management_alone() {
        let ports = Ports::default();
        ports.insert(Protocol::Tcp, 443, Access::Management);
        ports.insert(Protocol::Udp, 68, Access::Any);
        assert!(ports.open(Protocol::Tcp, 443, Access::Management));
        assert!(!ports.open(Protocol::Tcp, 443, Access::Any));
        assert!(!ports.open(Protocol::Udp, 443, Access::Management));
        assert!(
            ports.open(Protocol::Udp, 68, Access::Any) && ports.open(Protocol::Udp, 68, Access::Management)
        );
        ports.insert(Protocol::Tcp, 442, Access::Management);
        ports.remove(Protocol::Tcp, 443, Access::Management);
        assert!(!ports.open(Protocol::Tcp, 443, Access::Management));
        assert!(ports.open(Protocol::Tcp, 442, Access::Management));
        ports.insert(Protocol::Tcp, 65535, Access::Any);
        assert!(ports.open(Protocol::Tcp, 65535, Access::Any) && !ports.open(Protocol::Tcp, 0, Access::Any));
    }
}
