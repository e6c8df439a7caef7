//! The grant table, version 1: which of our pages another domain may map (Xen `public/grant_table.h`).
//!
//! Granting and ending run at boot and in tasks, under one short lock; the packet path only looks references up in
//! [`Lent`]. A page that its peer still maps is never reused: it waits in limbo until the peer lets go.

mod entry;
#[cfg(feature = "image")]
mod image;
mod lent;
#[cfg(test)]
mod tests;

use super::DomId;
use crate::dma::Region;
use crate::frames::FRAME;
use crate::lock::Lock;
use alloc::vec::Vec;
use core::fmt;
use core::mem::ManuallyDrop;
pub(crate) use entry::Entry;
pub use lent::Lent;
use weir_sync::rank::Grants;

#[cfg(not(feature = "image"))]
pub use crate::host::xen_grant::table;
#[cfg(feature = "image")]
pub use image::table;

/// Entries of one frame of the table.
pub const ENTRIES: usize = FRAME as usize / size_of::<Entry>();
/// References that belong to the tools of the domain's builder (`GNTTAB_NR_RESERVED_ENTRIES`): console, store.
pub const RESERVED: usize = 8;

/// What the peer may do with a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Map it and read it.
    ReadOnly,
    /// Map it, read it and write it.
    ReadWrite,
}

/// No entry of the table is free, or no memory for a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exhausted;

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no grant entry or page is free")
    }
}

impl core::error::Error for Exhausted {}

/// The domain's grant table. Entries are shared with the hypervisor, which alone sets and clears the flags that say a
/// page is mapped.
pub struct Table {
    /// `[I]` By reference. Flags `[A]`: written by us and by Xen; Release publishes an entry, AcqRel ends it.
    entries: &'static [Entry],
    /// Which of them are taken, and what waits.
    state: Lock<Grants, State>,
    #[cfg(not(feature = "image"))]
    pub(crate) peers: crate::host::xen_grant::Peers,
}

struct State {
    /// References of free entries.
    free: Vec<u32>,
    /// Ended here, but still mapped by the peer.
    limbo: Vec<Limbo>,
}

/// A reference whose peer has not let go, with the page if that is ours to free.
struct Limbo {
    reference: u32,
    page: Option<Region>,
}

impl Table {
    /// A table of the entries beyond the reserved ones. `entries` is memory that Xen serves.
    pub(crate) fn new(entries: &'static [Entry]) -> Table {
        // The lowest reference is handed out first.
        let free = (RESERVED as u32..entries.len() as u32).rev().collect();
        Table {
            entries,
            state: Lock::new(State { free, limbo: Vec::new() }),
            #[cfg(not(feature = "image"))]
            peers: crate::host::xen_grant::Peers::default(),
        }
    }

    /// Lets `to` map the page at `addr`, a machine-page-aligned address below 16 TiB, until the [`Grant`] is dropped.
    /// What the page holds is the peer's to see from now on.
    ///
    /// # Panics
    /// If `addr` is not aligned, or out of the reach of version 1, whose frame numbers have 32 bits.
    pub fn grant(&'static self, to: DomId, addr: u64, access: Access) -> Result<Grant, Exhausted> {
        let reference = self.take().ok_or(Exhausted)?;
        self.publish(reference, to, addr, access);
        Ok(Grant { table: self, reference })
    }

    /// Tries again to end what its peer still mapped when it was dropped; returns how many are in limbo still. Pages
    /// that came free go back to the frame allocator.
    pub fn retry(&self) -> usize {
        let mut released = Vec::new();
        let mut state = self.state.lock();
        let mut index = 0;
        while let Some(waiting) = state.limbo.get(index) {
            if self.entries[waiting.reference as usize].end() {
                let done = state.limbo.swap_remove(index);
                state.free.push(done.reference);
                released.extend(done.page);
            } else {
                index += 1;
            }
        }
        let left = state.limbo.len();
        drop(state);
        drop(released);
        left
    }

    /// Entries the table has for use, the reserved ones not counted.
    pub fn entries(&self) -> usize {
        self.entries.len() - RESERVED
    }

    /// Entries taken, those in limbo included.
    pub fn in_use(&self) -> usize {
        self.entries() - self.state.lock().free.len()
    }

    /// Entries that were ended here and are still mapped by their peer.
    pub fn limbo(&self) -> usize {
        self.state.lock().limbo.len()
    }

    /// Takes a free reference; looks into limbo before it gives up.
    fn take(&self) -> Option<u32> {
        let free = self.state.lock().free.pop();
        free.or_else(|| {
            self.retry();
            self.state.lock().free.pop()
        })
    }

    fn publish(&self, reference: u32, to: DomId, addr: u64, access: Access) {
        assert!(addr.is_multiple_of(FRAME), "granted address {addr:#x} is not a page's");
        #[cfg(not(feature = "image"))]
        self.peers.place(reference, addr);
        #[cfg(feature = "image")]
        assert!(addr < FRAME << u32::BITS, "{addr:#x} is beyond grants of version 1");
        self.entries[reference as usize].publish(to, (addr / FRAME) as u32, access);
    }

    /// Ends the access that `reference` gives; `page` is freed once the peer has let go of it.
    fn end(&self, reference: u32, page: Option<Region>) {
        let ended = self.entries[reference as usize].end();
        let mut state = self.state.lock();
        if ended {
            state.free.push(reference);
            drop(state);
            drop(page);
        } else {
            state.limbo.push(Limbo { reference, page });
        }
    }

    #[cfg(not(feature = "image"))]
    pub(crate) fn entry(&self, reference: u32) -> Option<&Entry> {
        self.entries.get(reference as usize)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (entries, in_use, limbo) = (self.entries(), self.in_use(), self.limbo());
        write!(f, "Table {{ entries: {entries}, in_use: {in_use}, limbo: {limbo} }}")
    }
}

/// A page lent to a peer. Dropped at task level it ends; the page itself belongs to somebody else, who must keep it
/// from other use for as long as the peer might map it.
#[derive(Debug)]
pub struct Grant {
    table: &'static Table,
    reference: u32,
}

impl Grant {
    /// What the peer maps it by.
    #[inline]
    pub fn reference(&self) -> u32 {
        self.reference
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.table.end(self.reference, None);
    }
}

/// A page of its own, lent to a peer: zeroed before the peer can see it, and not freed before the peer has let go.
/// Dropped at task level.
#[derive(Debug)]
pub struct Page {
    region: ManuallyDrop<Region>,
    table: &'static Table,
    reference: u32,
}

impl Page {
    /// A zeroed page that `to` may map.
    pub fn new(table: &'static Table, to: DomId, access: Access) -> Result<Page, Exhausted> {
        let region = Region::new(FRAME as usize, FRAME as usize).ok_or(Exhausted)?;
        let reference = table.take().ok_or(Exhausted)?;
        table.publish(reference, to, region.addr(), access);
        Ok(Page { region: ManuallyDrop::new(region), table, reference })
    }

    /// The page. All that is in it, the peer may read and, with [`Access::ReadWrite`], change at any time.
    #[inline]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// What the peer maps it by.
    #[inline]
    pub fn reference(&self) -> u32 {
        self.reference
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: taken once, here, and the page is not used after its drop.
        let region = unsafe { ManuallyDrop::take(&mut self.region) };
        self.table.end(self.reference, Some(region));
    }
}
