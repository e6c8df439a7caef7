//! A grant table without a hypervisor: ordinary memory, in which tests play the peers that map pages.

use crate::frames::FRAME;
use crate::xen::DomId;
use crate::xen::grant::{ENTRIES, Entry, Table};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A program has no hypervisor.
pub fn table() -> Option<&'static Table> {
    None
}

/// What the entries do not say about each reference.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// The page's address: the host's do not fit into an entry.
    places: Mutex<HashMap<u32, u64>>,
    /// How often it is mapped.
    maps: Mutex<HashMap<u32, u32>>,
}

impl Peers {
    /// The entry of `reference` is about to lend the page at `addr`.
    pub(crate) fn place(&self, reference: u32, addr: u64) {
        locked(&self.places).insert(reference, addr);
    }
}

/// What tests do as another domain.
impl Table {
    /// A table of `frames` frames of 512 entries each, for one test.
    pub fn simulated(frames: usize) -> &'static Table {
        let entries: Vec<Entry> = (0..frames.max(1) * ENTRIES).map(|_| Entry::default()).collect();
        Box::leak(Box::new(Table::new(entries.leak())))
    }

    /// The page that `reference` lends to `by` and whether it may be written, as a hypervisor would find it now.
    pub fn resolve(&self, reference: u32, by: DomId) -> Option<(u64, bool)> {
        let writable = self.entry(reference)?.resolve(by)?;
        Some((*locked(&self.peers.places).get(&reference)?, writable))
    }

    /// The same, and `by` has it mapped from now on. Counts: as many [`unmap`](Self::unmap)s let go of it.
    pub fn map(&self, reference: u32, by: DomId) -> Option<(u64, bool)> {
        let mut maps = locked(&self.peers.maps);
        let writable = self.entry(reference)?.pin(by)?;
        *maps.entry(reference).or_default() += 1;
        Some((*locked(&self.peers.places).get(&reference)?, writable))
    }

    /// Lets go of it once.
    ///
    /// # Panics
    /// If it is not mapped.
    pub fn unmap(&self, reference: u32) {
        let mut maps = locked(&self.peers.maps);
        let count = maps.get_mut(&reference).expect("unmapped what is not mapped");
        *count -= 1;
        if *count == 0 {
            maps.remove(&reference);
            self.entry(reference).expect("mapped").unpin();
        }
    }

    /// Copies bytes out of a page that is lent to `by`, as a backend does. False if the grant does not allow it.
    ///
    /// # Panics
    /// If the bytes do not lie in one page.
    #[must_use]
    pub fn peer_read(&self, reference: u32, by: DomId, offset: usize, into: &mut [u8]) -> bool {
        let Some((addr, _)) = self.map(reference, by) else { return false };
        let from = within_page(addr, offset, into.len()) as *const u8;
        // SAFETY: the entry is pinned, and whoever granted the page keeps it for as long as it is; the bytes lie in it.
        unsafe { core::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
        self.unmap(reference);
        true
    }

    /// Copies bytes into a page that is lent to `by`, as a backend does. False if the grant does not allow it.
    ///
    /// # Panics
    /// If the bytes do not lie in one page.
    #[must_use]
    pub fn peer_write(&self, reference: u32, by: DomId, offset: usize, bytes: &[u8]) -> bool {
        let Some((addr, writable)) = self.map(reference, by) else { return false };
        if writable {
            let to = within_page(addr, offset, bytes.len()) as *mut u8;
            // SAFETY: the entry is pinned, and whoever granted the page keeps it for as long as it is; the bytes lie
            // in it, and `bytes` is a test's own.
            unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        }
        self.unmap(reference);
        writable
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn within_page(addr: u64, offset: usize, len: usize) -> usize {
    let page = FRAME as usize;
    assert!(offset <= page && len <= page - offset, "{len} bytes at {offset} do not lie in one page");
    addr as usize + offset
}
