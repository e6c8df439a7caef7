//! One entry of the table (`struct grant_entry_v1`), and the order in which its fields change.

use super::super::DomId;
use super::Access;
use core::sync::atomic::{AtomicU16, AtomicU32, Ordering};

const PERMIT_ACCESS: u16 = 1;
const READ_ONLY: u16 = 1 << 2;
/// Mapped for reading, or being copied from. Written by Xen.
pub(crate) const READING: u16 = 1 << 3;
/// Mapped for writing, or being copied to. Written by Xen.
pub(crate) const WRITING: u16 = 1 << 4;

/// A grant, shared with Xen.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Entry {
    flags: AtomicU16,
    domain: AtomicU16,
    frame: AtomicU32,
}

const _: () = assert!(size_of::<Entry>() == 8);

impl Entry {
    /// Makes a free entry valid. Xen reads frame and domain once it sees the flags, which come last (`grant_table.h`,
    /// "Introducing a valid entry into the grant table").
    pub(super) fn publish(&self, to: DomId, frame: u32, access: Access) {
        self.domain.store(to.0, Ordering::Relaxed);
        self.frame.store(frame, Ordering::Relaxed);
        let read_only = if access == Access::ReadOnly { READ_ONLY } else { 0 };
        self.flags.store(PERMIT_ACCESS | read_only, Ordering::Release);
    }

    /// Makes the entry invalid unless it is in use; whether it did. Xen may set a flag of use between our look and our
    /// write, so the write is a compare-and-swap (`grant_table.h`, "Invalidating an unused GTF_permit_access entry").
    pub(super) fn end(&self) -> bool {
        let unused = |flags: u16| (flags & (READING | WRITING) == 0).then_some(0);
        self.flags.fetch_update(Ordering::AcqRel, Ordering::Acquire, unused).is_ok()
    }
}

/// What Xen does with an entry, for the simulated one.
#[cfg(not(feature = "image"))]
impl Entry {
    /// Whether the page may be written, if `by` may map it now.
    pub(crate) fn resolve(&self, by: DomId) -> Option<bool> {
        let flags = self.flags.load(Ordering::Acquire);
        let valid = flags & 3 == PERMIT_ACCESS && self.domain.load(Ordering::Relaxed) == by.0;
        valid.then_some(flags & READ_ONLY == 0)
    }

    /// Marks it in use, atomically with the look whether it is valid.
    pub(crate) fn pin(&self, by: DomId) -> Option<bool> {
        let writable = self.resolve(by)?;
        let marks = if writable { READING | WRITING } else { READING };
        let pin = |flags: u16| (flags & 3 == PERMIT_ACCESS).then_some(flags | marks);
        self.flags.fetch_update(Ordering::AcqRel, Ordering::Acquire, pin).ok()?;
        Some(writable)
    }

    /// Marks it not in use.
    pub(crate) fn unpin(&self) {
        self.flags.fetch_and(!(READING | WRITING), Ordering::AcqRel);
    }
}
