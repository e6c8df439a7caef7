//! Arrays on the heap.

use alloc::boxed::Box;
use core::iter::repeat_with;

/// An array whose elements are made where they stay. `Box::new` may make all of them on the stack first, which has little room: a
/// CPU's softints run on top of its tasks.
pub(crate) fn array<T, const N: usize>(make: impl FnMut() -> T) -> Box<[T; N]> {
    let all: Box<[T]> = repeat_with(make).take(N).collect();
    all.try_into().unwrap_or_else(|_| unreachable!("{N} were made"))
}
