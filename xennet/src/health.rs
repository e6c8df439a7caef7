//! Whether a vif still works: one byte that all its queues look at and the first violation writes.

use crate::violation::Violation;
use core::sync::atomic::{AtomicU8, Ordering};
use weir_netif::Fault;

/// Set once the connection was closed: packets are the router's again.
const QUENCHED: u8 = 0x80;
/// Set as well if the backend did not close it: what it was given to write to is not.
const OPEN: u8 = 0x40;
/// The vif works. Any other value, without [`QUENCHED`] and [`OPEN`], is the violation's number and one.
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
    /// Whether the packets it was lent to read may be used again.
    pub(crate) quenched: bool,
    /// Whether those it was lent to write may be, too.
    pub(crate) closed: bool,
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

    /// Says that the backend never closed the connection. The vif must be down already.
    pub(crate) fn quench_open(&self) {
        self.0.fetch_or(QUENCHED | OPEN, Ordering::AcqRel);
    }

    /// Whether the connection is closed, or never will be.
    pub(crate) fn is_quenched(&self) -> bool {
        self.0.load(Ordering::Acquire) & QUENCHED != 0
    }
}

fn down(state: u8) -> Down {
    let number = usize::from(state & !(QUENCHED | OPEN)).wrapping_sub(1);
    let violation = Violation::ALL.get(number).copied().unwrap_or(Violation::Stopped);
    Down {
        fault: violation.into(),
        quenched: state & QUENCHED != 0,
        closed: state & (QUENCHED | OPEN) == QUENCHED,
    }
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
        assert_eq!(health.check(), Err(Down { fault, quenched: true, closed: true }));
        health.quench_open();
        assert_eq!(health.check(), Err(Down { fault, quenched: true, closed: false }));
    }

    #[test]
    fn every_violation_keeps_its_name() {
        for &violation in Violation::ALL {
            let health = Health::default();
            health.fail(violation);
            assert!(violation as u8 + 1 < OPEN);
            assert_eq!(health.check().unwrap_err().fault.reason, violation.name());
        }
    }
}
