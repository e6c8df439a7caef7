//! The table of this domain: asked for its size, placed over frames of ours, entries and all.

use super::super::{DomId, hypercall};
use super::{ENTRIES, Entry, RESERVED, Table};
use crate::frames::{self, FRAME};
use alloc::boxed::Box;
use spin::Once;

/// The domain's grant table, set up by the first caller, at boot or in a task; `None` without Xen or if Xen refuses.
pub fn table() -> Option<&'static Table> {
    static TABLE: Once<Option<&'static Table>> = Once::new();
    *TABLE.call_once(set_up)
}

fn set_up() -> Option<&'static Table> {
    const SPACE_GRANT_TABLE: u32 = 1;
    let count = useful().min(limit()?);
    let start = frames::allocate(count, 1)?;
    let mut placed = 0;
    while placed < count {
        let at = start + placed as u64 * FRAME;
        // SAFETY: the frame was just allocated, and is never given back; nothing but the table's entries uses it. Xen
        // grows the table as far as the index asks.
        if unsafe { hypercall::place(SPACE_GRANT_TABLE, placed as u64, at) }.is_err() {
            break;
        }
        placed += 1;
    }
    frames::free(start + placed as u64 * FRAME, count - placed);
    if placed == 0 {
        return None;
    }
    // SAFETY: these frames are mapped and now hold the table: entries of atomics, which Xen writes too, valid in every
    // bit pattern. Placed for good.
    let entries = unsafe { core::slice::from_raw_parts(start as *const Entry, placed * ENTRIES) };
    Some(Box::leak(Box::new(Table::new(entries))))
}

/// Frames of the table that would let every page of RAM be granted with a quarter of the entries left.
fn useful() -> usize {
    let pages = (frames::total_bytes() / FRAME) as usize;
    (pages + pages / 3 + RESERVED).div_ceil(ENTRIES) + 1
}

/// Frames that Xen lets the table have (`GNTTABOP_query_size`).
fn limit() -> Option<usize> {
    const QUERY_SIZE: u32 = 6;
    #[repr(C)]
    struct Size {
        domain: u16,
        pad: u16,
        frames: u32,
        max_frames: u32,
        status: i16,
        pad_end: u16,
    }
    let mut size = [Size { domain: DomId::SELF.0, pad: 0, frames: 0, max_frames: 0, status: -1, pad_end: 0 }];
    // SAFETY: the structure is `gnttab_query_size`; Xen writes its last three fields only.
    unsafe { hypercall::grant_table_op(QUERY_SIZE, &mut size) }.ok()?;
    let [size] = size;
    // One frame is there from the start, whatever Xen says.
    let max = if size.status == 0 { size.max_frames.max(size.frames) } else { 1 };
    Some(max as usize).filter(|&max| max != 0)
}
