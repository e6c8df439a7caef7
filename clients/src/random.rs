//! For tests: bits that are the same each time.

use core::cell::Cell;

std::thread_local! {
    static STATE: Cell<u64> = const { Cell::new(0x5eed) };
}

pub(crate) fn random() -> u64 {
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        x
    })
}
