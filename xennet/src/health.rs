//! Whether a vif still works: one byte that all its queues look at and the first violation writes.

use crate::violation::Violation;
use core::sync::atomic::{AtomicU8, Ordering};
use weir_netif::Fault;

/// Set once the connection was closed: packets are the router's again.
const QUENCHED: u8 = 0x80;
/// The vif works. Any other value, without [`QUENCHED`], is the violation's number and one.
const LIVE: u8 = 0;

/// `[A]` Written by whoever finds the first violation (any CPU, softint or task) and by the task that closes the
/// connection; read by every queue. Acquire/release: who sees `QUENCHED` sees it closed.
#[derive(Debug, Default)]
pub(crate) struct Health(AtomicU8);

/// What became of a vif that no longer works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Down {
    /// Why.
    pub(crate) fault: Fault,
    /// Whether the packets it was lent may be used again.
    pub(crate) quenched: bool,
}

impl Health {
    /// `Ok` while the vif works.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Down> {
        match self.0.load(Ordering::Acquire) {
            LIVE => Ok(()),
            state => Err(down(state)),
        }
    }

    /// Takes the vif down; the first violation counts. Returns the one that did.
    #[cold]
    pub(crate) fn fail(&self, violation: Violation) -> Fault {
        let state = violation as u8 + 1;
        match self.0.compare_exchange(LIVE, state, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => violation.into(),
            Err(earlier) => down(earlier).fault,
        }
    }

    /// Says that the connection is closed. The vif must be down already.
    pub(crate) fn quench(&self) {
        self.0.fetch_or(QUENCHED, Ordering::AcqRel);
    }

    /// Whether the connection is closed.
    pub(crate) fn is_quenched(&self) -> bool {
        self.0.load(Ordering::Acquire) & QUENCHED != 0
    }
}

fn down(state: u8) -> Down {
    let number = usize::from(state & !QUENCHED).wrapping_sub(1);
    let violation = Violation::ALL.get(number).copied().unwrap_or(Violation::Stopped);
    Down { fault: violation.into(), quenched: state & QUENCHED != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_violation_counts() {
        let health = Health::default();
        assert_eq!(health.check(), Ok(()));
        for violation in [Violation::RxGsoSizeZero, Violation::Stopped] {
            assert_eq!(health.fail(violation).reason, "rx-gso-size-zero");
        }
        assert!(!health.is_quenched());
        health.quench();
        assert!(health.is_quenched());
        let fault = Fault { reason: "rx-gso-size-zero" };
        assert_eq!(health.check(), Err(Down { fault, quenched: true }));
    }

    #[test]
    fn every_violation_keeps_its_name() {
        for &violation in Violation::ALL {
            let health = Health::default();
            health.fail(violation);
            assert_eq!(health.check().unwrap_err().fault.reason, violation.name());
        }
    }
}
