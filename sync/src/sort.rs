//! Sorting that takes little room in an image: `core`'s sort is made anew for every type and key, five to eight kilobytes
//! each. Here it is made once, for numbers of items; items are then put in their places.
//!
//! It is stable, and takes 6 bytes an item of memory for a while. It compares by an indirect call: not for the packet path.

use alloc::vec::Vec;
use core::cmp::Ordering;

/// Sorts by `compare`. What is equal stays in its order.
///
/// # Panics
/// With more than 2^32 items, or as [`slice::sort_by`] if `compare` is no order.
pub fn sort_by<T>(items: &mut [T], mut compare: impl FnMut(&T, &T) -> Ordering) {
    let order = ordered(items.len(), &mut |a, b| match (items.get(a as usize), items.get(b as usize)) {
        (Some(a), Some(b)) => compare(a, b),
        _ => Ordering::Equal,
    });
    arrange(order, &mut |a, b| items.swap(a, b));
}

/// Sorts by a key that is cheap to get. What is equal stays in its order.
///
/// # Panics
/// As [`sort_by`].
pub fn sort_by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    sort_by(items, |a, b| key(a).cmp(&key(b)));
}

/// Sorts.
///
/// # Panics
/// As [`sort_by`].
pub fn sort<T: Ord>(items: &mut [T]) {
    sort_by(items, T::cmp);
}

/// The numbers of `len` items in their order.
fn ordered(len: usize, compare: &mut dyn FnMut(u32, u32) -> Ordering) -> Vec<u32> {
    assert!(u32::try_from(len).is_ok(), "too many items to be sorted: {len}");
    let mut order: Vec<u32> = (0..len as u32).collect();
    order.sort_by(|&a, &b| compare(a, b));
    order
}

/// Puts every item in its place by exchanging two: `order` says which one comes where.
fn arrange(mut order: Vec<u32>, swap: &mut dyn FnMut(usize, usize)) {
    for start in 0..order.len() {
        let mut at = start;
        // Round a circle of items that take each other's places; who is in place says so.
        while let Some(place) = order.get_mut(at) {
            let from = core::mem::replace(place, at as u32) as usize;
            if from == start || from == at {
                break;
            }
            swap(at, from);
            at = from;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_the_standard_library_does(items: Vec<(u8, u32)>) {
            let (mut own, mut theirs) = (items.clone(), items);
            sort_by_key(&mut own, |item| item.0);
            theirs.sort_by_key(|item| item.0);
            prop_assert_eq!(&own, &theirs);
            sort(&mut own);
            theirs.sort_unstable();
            prop_assert_eq!(own, theirs);
        }
    }

    #[test]
    fn what_cannot_be_copied_is_neither_lost_nor_doubled() {
        let mut items: Vec<_> =
            (0..1000u64).map(|n| alloc::boxed::Box::new(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        sort(&mut items);
        assert!(items.is_sorted() && items.array_windows().all(|[a, b]| a != b));
    }
}
