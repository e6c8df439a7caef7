//! The packet arena, lent once and as a whole to one backend domain that is trusted with it.

use super::super::DomId;
use super::{Access, Grant, Table};
use crate::frames::FRAME;
use alloc::vec::Vec;

/// A stretch of memory lent page by page, for as long as it lives: no hypercall and no change of the table per packet.
///
/// It holds what every interface receives, so it belongs to one trusted domain; packets for others are copied (Xen
/// advisories 391 and 403).
#[derive(Debug)]
pub struct Lent {
    to: DomId,
    start: u64,
    /// `[I]` By page from `start`; as many as the table afforded.
    references: Vec<u32>,
    /// Ends them.
    _grants: Vec<Grant>,
}

impl Lent {
    /// Lends the whole pages of `len` bytes from `start`, a page's address, as far as a quarter of the table's entries
    /// stays free. The caller keeps the memory from other use for as long as the peer might map it.
    ///
    /// # Panics
    /// If `start` is not a page's address.
    pub fn new(table: &'static Table, to: DomId, start: u64, len: u64) -> Lent {
        let affordable = (table.entries() - table.in_use()).saturating_sub(table.entries().div_ceil(4));
        let pages = (len / FRAME).min(affordable as u64);
        let addresses = (0..pages).map(|page| start + page * FRAME);
        let grants: Vec<Grant> =
            addresses.map_while(|addr| table.grant(to, addr, Access::ReadWrite).ok()).collect();
        let references = grants.iter().map(Grant::reference).collect();
        Lent { to, start, references, _grants: grants }
    }

    /// The domain it is lent to.
    #[inline]
    pub fn to(&self) -> DomId {
        self.to
    }

    /// Pages lent, from the first on without a gap.
    #[inline]
    pub fn pages(&self) -> usize {
        self.references.len()
    }

    /// The reference of the page that `addr` lies in; `None` if it is not lent. Any context.
    #[inline]
    pub fn reference_of(&self, addr: u64) -> Option<u32> {
        let page = addr.checked_sub(self.start)? / FRAME;
        self.references.get(usize::try_from(page).ok()?).copied()
    }
}
