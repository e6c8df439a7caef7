//! The mask count of a thread. It starts at one, as a CPU's does at boot: a thread that runs no dispatcher never comes
//! down to zero.

use std::cell::Cell;

thread_local! {
    static MASKED: Cell<u32> = const { Cell::new(1) };
}

pub(crate) fn count_up() {
    MASKED.set(MASKED.get() + 1);
}

pub(crate) fn count_down() -> bool {
    MASKED.set(MASKED.get() - 1);
    MASKED.get() == 0
}
