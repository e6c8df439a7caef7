//! The time of day: what [`now`](super::now) is ahead of 1970, once somebody knows.

use core::sync::atomic::{AtomicI64, Ordering};

/// `[A]` Nanoseconds from entry back to 1970; 0: not known. Written by one task, read by all; it orders nothing.
static OFFSET: AtomicI64 = AtomicI64::new(0);

/// Says what added to [`now`](super::now) is nanoseconds since 1970, UTC.
pub fn set_offset(ns: i64) {
    OFFSET.store(ns, Ordering::Relaxed);
}

/// What was said last.
pub fn offset() -> Option<i64> {
    Some(OFFSET.load(Ordering::Relaxed)).filter(|&ns| ns != 0)
}

/// Microseconds since 1970, UTC, when [`now`](super::now) was `at_ns`; `None` if nobody knows.
pub fn unix_us(at_ns: u64) -> Option<u64> {
    u64::try_from(offset()?.checked_add_unsigned(at_ns)?).ok().map(|ns| ns / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_is_known_once_it_was_said() {
        assert_eq!((offset(), unix_us(5)), (None, None));
        set_offset(1_795_284_000_000_000_000);
        assert_eq!(unix_us(2_000_000), Some(1_795_284_000_002_000));
        set_offset(-7);
        assert_eq!((unix_us(5), unix_us(2007)), (None, Some(2)));
    }
}
