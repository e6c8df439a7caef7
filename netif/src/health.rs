//! Whether a device still works: one byte that all its queues look at and the first violation writes. And how drivers
//! name violations.

use crate::device::Fault;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU8, Ordering};

/// Ways a device can break its protocol, made by [`violations!`](crate::violations).
pub trait Breach: Copy + Into<Fault> + 'static {
    /// All of them, in order of their number. The first is that the router stopped the device.
    const ALL: &'static [Self];

    /// Its place in [`ALL`](Self::ALL).
    fn number(self) -> u8;
}

/// Makes an enum of named violations, each with a stable name that operators see. The first must be the router's own
/// doing: that it stopped the device.
#[macro_export]
macro_rules! violations {
    (
        $(#[$about:meta])*
        pub enum $Violation:ident { $($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+ }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum $Violation { $($(#[doc = $doc])+ $variant,)+ }

        impl $Violation {
            /// All of them, in order of their number.
            pub const ALL: &'static [$Violation] = &[$($Violation::$variant,)+];

            /// The stable name operators see.
            pub const fn name(self) -> &'static str {
                match self { $($Violation::$variant => $name,)+ }
            }
        }

        // Beside its number, a device's state has two flags.
        const _: () = assert!($Violation::ALL.len() < 64);

        impl $crate::Breach for $Violation {
            const ALL: &'static [$Violation] = $Violation::ALL;

            fn number(self) -> u8 {
                self as u8
            }
        }

        impl From<$Violation> for $crate::Fault {
            fn from(violation: $Violation) -> Self {
                $crate::Fault { reason: violation.name() }
            }
        }

        impl core::fmt::Display for $Violation {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

/// Set once the device can touch no packet that it was lent to read.
const QUENCHED: u8 = 0x80;
/// Set as well if it may go on to write to what it was lent for that.
const OPEN: u8 = 0x40;
/// The device works. Any other value, without [`QUENCHED`] and [`OPEN`], is the violation's number and one.
const LIVE: u8 = 0;

/// `[A]` Written by whoever finds the first violation (any CPU, softint or task) and by the task that ends the device;
/// read by every queue. Acquire/release: who sees `QUENCHED` sees it ended.
#[derive(Debug)]
pub struct Health<V> {
    state: AtomicU8,
    violations: PhantomData<fn() -> V>,
}

/// What became of a device that no longer works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Down {
    /// Why.
    pub fault: Fault,
    /// Whether the packets it was lent to read may be used again.
    pub quenched: bool,
    /// Whether those it was lent to write may be, too.
    pub closed: bool,
}

impl<V> Default for Health<V> {
    fn default() -> Self {
        Self { state: AtomicU8::new(LIVE), violations: PhantomData }
    }
}

impl<V: Breach> Health<V> {
    /// `Ok` while the device works.
    #[inline]
    pub fn check(&self) -> Result<(), Down> {
        match self.state.load(Ordering::Acquire) {
            LIVE => Ok(()),
            state => Err(down::<V>(state)),
        }
    }

    /// Takes the device down; the first violation counts. Returns the one that did.
    #[cold]
    pub fn fail(&self, violation: V) -> Fault {
        let state = violation.number() + 1;
        match self.state.compare_exchange(LIVE, state, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => violation.into(),
            Err(earlier) => down::<V>(earlier).fault,
        }
    }

    /// Says that the device is sure to touch no memory any more. It must be down already.
    pub fn quench(&self) {
        self.state.fetch_or(QUENCHED, Ordering::AcqRel);
    }

    /// Says that nobody waits for that any more, and that the device may go on to write to what it was lent for that. It
    /// must be down already.
    pub fn quench_open(&self) {
        self.state.fetch_or(QUENCHED | OPEN, Ordering::AcqRel);
    }

    /// Whether either was said.
    pub fn is_quenched(&self) -> bool {
        self.state.load(Ordering::Acquire) & QUENCHED != 0
    }
}

#[cold]
fn down<V: Breach>(state: u8) -> Down {
    let number = usize::from(state & !(QUENCHED | OPEN)).wrapping_sub(1);
    let stopped = Fault { reason: "stopped" };
    Down {
        fault: V::ALL.get(number).map_or(stopped, |&violation| violation.into()),
        quenched: state & QUENCHED != 0,
        closed: state & (QUENCHED | OPEN) == QUENCHED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::violations! {
        /// For tests.
        pub enum Violation {
            /// Not the device's doing.
            Stopped = "stopped",
            /// It is.
            Lied = "lied",
        }
    }

    #[test]
    fn the_first_violation_counts() {
        let health = Health::default();
        assert_eq!(health.check(), Ok(()));
        for violation in [Violation::Lied, Violation::Stopped] {
            assert_eq!(health.fail(violation).reason, "lied");
        }
        assert!(!health.is_quenched());
        let fault = Fault { reason: "lied" };
        assert_eq!(health.check(), Err(Down { fault, quenched: false, closed: false }));
        health.quench();
        assert!(health.is_quenched());
        assert_eq!(health.check(), Err(Down { fault, quenched: true, closed: true }));
        health.quench_open();
        assert_eq!(health.check(), Err(Down { fault, quenched: true, closed: false }));
    }
}
