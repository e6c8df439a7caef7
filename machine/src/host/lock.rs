//! Ranks of the locks that a thread of the host holds, a bit each.

use std::cell::Cell;

thread_local! {
    static HELD: Cell<u32> = const { Cell::new(0) };
}

pub(crate) fn held() -> u32 {
    HELD.get()
}

pub(crate) fn set_held(ranks: u32) {
    HELD.set(ranks);
}
