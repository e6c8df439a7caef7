//! All lock ranks, in the order in which locks are taken, and how contended each is.
//!
//! A rank is a type; `A: Before<B>` says that a lock of rank B may be taken while one of rank A is held. The compiler
//! checks it for [`Lock`](crate::Lock), whose users hold a token; the machine layer's own locks, which must work below all
//! tokens, check it as they are taken.

use core::sync::atomic::{AtomicU64, Ordering};

/// A place in the order of locks.
pub trait Rank: sealed::Sealed {
    /// What counters are read by.
    const NAME: &'static str;
    /// 0 comes first.
    const NUMBER: usize;
}

/// Locks of rank `Later` may be taken while one of this rank is held.
#[diagnostic::on_unimplemented(
    message = "a lock of rank `{Later}` may not be taken while one of rank `{Self}` is held",
    note = "ranks stand in order in sync/src/rank.rs"
)]
pub trait Before<Later: Rank> {}

mod sealed {
    pub trait Sealed {}
}

/// No lock is held: before every rank.
#[derive(Debug)]
pub struct Nothing;

macro_rules! ranks {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        #[repr(usize)]
        enum Number { $($name),+ }

        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub struct $name;

            impl sealed::Sealed for $name {}
            impl Rank for $name {
                const NAME: &'static str = stringify!($name);
                const NUMBER: usize = Number::$name as usize;
            }
        )+

        static CONTENTION: [Contention; [$($name::NUMBER),+].len()] = [$(Contention::new($name::NAME)),+];

        ranks!(@before Nothing $($name)+);
    };
    (@before $first:ident $($later:ident)*) => {
        $(impl Before<$later> for $first {})*
        ranks!(@before $($later)*);
    };
    (@before) => {};
}

ranks! {
    /// Tokens of the API, and who failed to show one.
    Access,
    /// I/O interrupt controllers: select and window registers belong together.
    IoApic,
    /// What a PCI function's address registers were found to need, while they hold the probe's ones.
    PciBars,
    /// PCI configuration space: the port pair, or the list of mapped buses.
    PciAccess,
    /// The connection to Xen's store.
    XenStore,
    /// The tables of Xen's event channels, as they grow.
    EventChannels,
    /// The free entries of Xen's grant table.
    Grants,
    /// The list of tasks' accounts.
    Tasks,
    /// The page tables.
    PageTables,
    /// The heap.
    Heap,
    /// The map of free frames, which feeds page tables and heap. Last: it needs nothing.
    Frames,
}

/// What happened at the locks of one rank. `[A]` Counts by any task, relaxed: nothing is ordered by them.
#[derive(Debug)]
pub struct Contention {
    name: &'static str,
    acquired: AtomicU64,
    contended: AtomicU64,
    spins: AtomicU64,
}

impl Contention {
    /// Nothing happened yet.
    pub const fn new(name: &'static str) -> Self {
        Self { name, acquired: AtomicU64::new(0), contended: AtomicU64::new(0), spins: AtomicU64::new(0) }
    }

    /// The rank's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How often a lock was taken.
    pub fn acquired(&self) -> u64 {
        self.acquired.load(Ordering::Relaxed)
    }

    /// How often somebody else held it then.
    pub fn contended(&self) -> u64 {
        self.contended.load(Ordering::Relaxed)
    }

    /// How many turns of the waiting loop that cost.
    pub fn spins(&self) -> u64 {
        self.spins.load(Ordering::Relaxed)
    }

    /// A lock of the rank was taken.
    #[inline]
    pub fn count_acquired(&self) {
        self.acquired.fetch_add(1, Ordering::Relaxed);
    }

    /// Somebody else held it.
    #[inline]
    pub fn count_contended(&self) {
        self.contended.fetch_add(1, Ordering::Relaxed);
    }

    /// Waiting took that many turns.
    #[inline]
    pub fn count_spins(&self, spins: u64) {
        self.spins.fetch_add(spins, Ordering::Relaxed);
    }
}

/// The counters of one rank.
#[inline]
pub fn of<R: Rank>() -> &'static Contention {
    &CONTENTION[R::NUMBER]
}

/// The counters of all ranks, in order.
pub fn contention() -> &'static [Contention] {
    &CONTENTION
}

/// The counters of the rank of that name.
pub fn contention_of(name: &str) -> Option<&'static Contention> {
    CONTENTION.iter().find(|contention| contention.name == name)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name_and_number() {
        for (number, contention) in contention().iter().enumerate() {
            assert!(core::ptr::eq(contention_of(contention.name()).unwrap(), contention));
            assert_eq!(number == Frames::NUMBER, contention.name() == "Frames");
        }
        assert!(contention_of("frames").is_none());
    }
}
